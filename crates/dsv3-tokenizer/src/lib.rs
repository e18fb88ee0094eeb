//! DeepSeek-V3.1's tokenizer, chat format and output parser
