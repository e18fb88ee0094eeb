//! Parameters as types whose every value is possible.
//!
//! A client's number becomes one of these types or an error; after that nothing needs a check. All
//! of them can be made from any of the number types that JSON, a command line or code brings
//! (`f64`, `f32`, `i64`, `u64` as fits), from text, and through serde, by the same test.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::SamplingError;

/// A real number in a range. NaN and the infinities are in no range.
macro_rules! ranged_real {
    (
        $(#[$doc:meta])*
        $type:ident, $name:literal, $allowed:literal, |$x:ident| $ok:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $type(f64);

        impl $type {
            #[doc = concat!("Takes ", $allowed, ".")]
            ///
            /// # Errors
            /// [`SamplingError::OutOfRange`] for any other value, NaN and the infinities included.
            pub fn new($x: f64) -> Result<Self, SamplingError> {
                // Adding zero turns -0.0 into 0.0, so that equal values print alike.
                if $ok { Ok(Self($x + 0.0)) } else {
                    Err(SamplingError::OutOfRange { name: $name, value: $x.to_string(), allowed: $allowed })
                }
            }

            /// The value.
            #[must_use]
            pub fn get(self) -> f64 { self.0 }
        }

        impl TryFrom<f64> for $type {
            type Error = SamplingError;
            fn try_from(value: f64) -> Result<Self, SamplingError> { Self::new(value) }
        }

        impl TryFrom<f32> for $type {
            type Error = SamplingError;
            fn try_from(value: f32) -> Result<Self, SamplingError> { Self::new(f64::from(value)) }
        }

        impl TryFrom<i64> for $type {
            type Error = SamplingError;
            /// Rounding to `f64` cannot move an integer into the range: the ranges lie far inside
            /// the integers that `f64` holds exactly.
            fn try_from(value: i64) -> Result<Self, SamplingError> { Self::new(value as f64) }
        }

        impl FromStr for $type {
            type Err = SamplingError;
            fn from_str(text: &str) -> Result<Self, SamplingError> {
                let value = text.trim().parse::<f64>().map_err(|_| SamplingError::NotANumber {
                    name: $name,
                    text: text.to_owned(),
                    allowed: $allowed,
                })?;
                Self::new(value)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }

        impl From<$type> for f64 {
            fn from(value: $type) -> f64 { value.0 }
        }
    };
}

/// A whole number in a range.
macro_rules! ranged_integer {
    (
        $(#[$doc:meta])*
        $type:ident($repr:ty), $name:literal, $allowed:literal, $range:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "i64")]
        pub struct $type($repr);

        impl $type {
            #[doc = concat!("Takes ", $allowed, ".")]
            ///
            /// # Errors
            /// [`SamplingError::OutOfRange`] for any other value.
            pub fn new(value: i64) -> Result<Self, SamplingError> {
                match <$repr>::try_from(value) {
                    Ok(small) if $range.contains(&small) => Ok(Self(small)),
                    _ => Err(SamplingError::OutOfRange {
                        name: $name,
                        value: value.to_string(),
                        allowed: $allowed,
                    }),
                }
            }

            /// The value.
            #[must_use]
            pub fn get(self) -> usize { self.0 as usize }
        }

        impl TryFrom<i64> for $type {
            type Error = SamplingError;
            fn try_from(value: i64) -> Result<Self, SamplingError> { Self::new(value) }
        }

        impl TryFrom<u64> for $type {
            type Error = SamplingError;
            fn try_from(value: u64) -> Result<Self, SamplingError> {
                let refused = || SamplingError::OutOfRange {
                    name: $name,
                    value: value.to_string(),
                    allowed: $allowed,
                };
                Self::new(i64::try_from(value).map_err(|_| refused())?)
            }
        }

        impl TryFrom<usize> for $type {
            type Error = SamplingError;
            fn try_from(value: usize) -> Result<Self, SamplingError> { Self::try_from(value as u64) }
        }

        impl FromStr for $type {
            type Err = SamplingError;
            fn from_str(text: &str) -> Result<Self, SamplingError> {
                let value = text.trim().parse::<i64>().map_err(|_| SamplingError::NotANumber {
                    name: $name,
                    text: text.to_owned(),
                    allowed: $allowed,
                })?;
                Self::new(value)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }

        impl From<$type> for i64 {
            fn from(value: $type) -> i64 { i64::from(value.0) }
        }
    };
}

ranged_real!(
    /// What the logits are divided by; 0 means greedy: the largest logit wins.
    ///
    /// The range is that of OpenAI's and DeepSeek's APIs. The model's default is 0.6
    /// (`generation_config.json`, `temperature`).
    Temperature, "temperature", "a number from 0 (greedy) to 2", |x| (0.0..=2.0).contains(&x)
);

impl Temperature {
    /// The largest logit wins.
    pub const GREEDY: Self = Self(0.0);
    /// The logits as they are.
    pub const ONE: Self = Self(1.0);
    /// The middle of 0.2 to 0.4, for programs.
    pub const CODING: Self = Self(0.3);
    /// The middle of 0.5 to 0.6, for work on given text.
    pub const ANALYSIS: Self = Self(0.55);
    /// The middle of 0.7 to 0.9, for invention.
    pub const CREATIVE: Self = Self(0.8);
    /// 0.6: `temperature` in DeepSeek-V3.1's `generation_config.json`.
    pub const MODEL_DEFAULT: Self = Self(0.6);

    /// Whether this is 0, that is, no drawing at all.
    #[must_use]
    pub fn is_greedy(self) -> bool {
        self.0 == 0.0
    }
}

ranged_real!(
    /// Nucleus sampling: keep the smallest set of most probable tokens whose probabilities reach
    /// this sum. 1 keeps all.
    ///
    /// The model's default is 0.95 (`generation_config.json`, `top_p`).
    TopP, "top_p", "a number above 0 and at most 1", |x| x > 0.0 && x <= 1.0
);

impl TopP {
    /// Keeps every token.
    pub const ALL: Self = Self(1.0);
    /// 0.95: `top_p` in DeepSeek-V3.1's `generation_config.json`.
    pub const MODEL_DEFAULT: Self = Self(0.95);
}

ranged_real!(
    /// Keep the tokens at least this many times as probable as the most probable one. 0 keeps all.
    MinP, "min_p", "a number from 0 (off) to 1", |x| (0.0..=1.0).contains(&x)
);

ranged_real!(
    /// Locally typical sampling (Meister et al., 2023): keep the smallest set of tokens whose
    /// surprise lies nearest to the distribution's entropy and whose probabilities reach this sum.
    /// 1 keeps all.
    TypicalP, "typical_p", "a number above 0 and at most 1", |x| x > 0.0 && x <= 1.0
);

ranged_real!(
    /// Divides a positive logit and multiplies a negative one, for every token that stands in the
    /// prompt or in the output (Hugging Face `repetition_penalty`). 1 changes nothing.
    ///
    /// The upper end is ours: beyond 10 a seen token is as good as forbidden, for which a logit
    /// bias is the clearer word.
    RepetitionPenalty, "repetition_penalty", "a number above 0 and at most 10 (1 = off)",
    |x| x > 0.0 && x <= 10.0
);

ranged_real!(
    /// Subtracted once from the logit of every token that stands in the output (OpenAI
    /// `presence_penalty`). 0 changes nothing.
    PresencePenalty, "presence_penalty", "a number from -2 to 2 (0 = off)",
    |x| (-2.0..=2.0).contains(&x)
);

ranged_real!(
    /// Subtracted from a token's logit once for each time that it stands in the output (OpenAI
    /// `frequency_penalty`). 0 changes nothing.
    FrequencyPenalty, "frequency_penalty", "a number from -2 to 2 (0 = off)",
    |x| (-2.0..=2.0).contains(&x)
);

ranged_integer!(
    /// Keep this many of the most probable tokens.
    TopK(u32), "top_k", "a whole number of at least 1, or leave it out", 1..=u32::MAX
);

ranged_integer!(
    /// How many of the most probable tokens to report beside the chosen one (OpenAI
    /// `top_logprobs`).
    TopLogprobs(u8), "top_logprobs", "a whole number from 0 to 20", 0..=20
);

impl TopLogprobs {
    /// Reports none.
    pub const NONE: Self = Self(0);
}

/// The number that fixes all of a sequence's draws.
///
/// Every 64-bit pattern is a seed. A negative number, which OpenAI's API allows, is taken by its
/// two's complement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Seed(pub u64);

impl From<u64> for Seed {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl From<i64> for Seed {
    fn from(value: i64) -> Self {
        Self(value.cast_unsigned())
    }
}

impl FromStr for Seed {
    type Err = SamplingError;
    fn from_str(text: &str) -> Result<Self, SamplingError> {
        let trimmed = text.trim();
        let unsigned = trimmed.parse::<u64>().map(Self::from);
        unsigned
            .or_else(|_| trimmed.parse::<i64>().map(Self::from))
            .map_err(|_| SamplingError::NotANumber {
                name: "seed",
                text: text.to_owned(),
                allowed: "a whole number of 64 bits",
            })
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SeedVisitor;
        impl de::Visitor<'_> for SeedVisitor {
            type Value = Seed;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of 64 bits for seed")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Seed, E> {
                Ok(value.into())
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Seed, E> {
                Ok(value.into())
            }
        }
        deserializer.deserialize_any(SeedVisitor)
    }
}
