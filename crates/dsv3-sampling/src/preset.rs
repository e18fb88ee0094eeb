//! Named settings for kinds of work.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{SamplingError, SamplingParams, Temperature, TopP};

/// Settings by what the text is for. Each takes the middle of the temperatures published for that
/// kind of work with DeepSeek-V3.1; top-p stays at the model's 0.95.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Programs and tool calls: temperature 0.3 (published range 0.2 to 0.4).
    Coding,
    /// Reading, summing up, reasoning about given text: temperature 0.55 (published range 0.5 to
    /// 0.6).
    Analysis,
    /// Stories and ideas: temperature 0.8 (published range 0.7 to 0.9).
    Creative,
    /// Conversation: the model's own default, temperature 0.6 (`generation_config.json`).
    Chat,
}

impl Preset {
    /// All presets, in the order in which help texts list them.
    pub const ALL: [Self; 4] = [Self::Coding, Self::Analysis, Self::Creative, Self::Chat];

    /// The name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Coding => "coding",
            Self::Analysis => "analysis",
            Self::Creative => "creative",
            Self::Chat => "chat",
        }
    }

    /// The settings that the name stands for.
    #[must_use]
    pub fn params(self) -> SamplingParams {
        let temperature = match self {
            Self::Coding => Temperature::CODING,
            Self::Analysis => Temperature::ANALYSIS,
            Self::Creative => Temperature::CREATIVE,
            Self::Chat => Temperature::MODEL_DEFAULT,
        };
        SamplingParams {
            temperature,
            top_p: TopP::MODEL_DEFAULT,
            ..SamplingParams::default()
        }
    }
}

impl FromStr for Preset {
    type Err = SamplingError;
    fn from_str(text: &str) -> Result<Self, SamplingError> {
        let wanted = text.trim();
        let found = Self::ALL
            .into_iter()
            .find(|preset| preset.name().eq_ignore_ascii_case(wanted));
        found.ok_or_else(|| SamplingError::UnknownPreset {
            name: text.to_owned(),
        })
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
