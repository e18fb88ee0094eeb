//! The operations that DeepSeek-V3 needs and Burn lacks, once per backend
