//! Many sequences over one DeepSeek-V3 model: schedule, run, sample, collect
