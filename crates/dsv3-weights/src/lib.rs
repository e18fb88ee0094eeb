//! Checkpoints in the published DeepSeek-V3 layout: mapped reading, number formats, inventory, plan, conversion
