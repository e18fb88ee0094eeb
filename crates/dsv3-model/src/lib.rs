//! DeepSeek-V3's graph on Burn, under DeepSeek's own names
