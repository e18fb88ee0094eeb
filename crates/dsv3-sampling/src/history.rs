//! What a sequence holds so far, as far as the next choice depends on it.

use std::collections::HashMap;

/// The tokens of one sequence, counted.
///
/// The two kinds of penalty look at different parts: repetition penalty at prompt and output (as
/// Hugging Face does), presence and frequency penalty at the output only (as OpenAI does). The
/// length gives the number of the next draw.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Token to the number of times it stands in the output; 0 for one of the prompt only.
    in_output: HashMap<u32, u32>,
    prompt_len: usize,
    output_len: usize,
}

impl History {
    /// A sequence that holds its prompt and nothing else.
    #[must_use]
    pub fn new(prompt: &[u32]) -> Self {
        let in_output = prompt.iter().map(|&token| (token, 0)).collect();
        Self {
            in_output,
            prompt_len: prompt.len(),
            output_len: 0,
        }
    }

    /// Appends a token that the model wrote.
    pub fn push(&mut self, token: u32) {
        let count = self.in_output.entry(token).or_insert(0);
        *count = count.saturating_add(1);
        self.output_len += 1;
    }

    /// Tokens of prompt and output together: the position of the token to be chosen next.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prompt_len + self.output_len
    }

    /// Whether there is neither prompt nor output.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of the output.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.output_len
    }

    /// How often a token stands in the output.
    #[must_use]
    pub fn output_count(&self, token: u32) -> u32 {
        self.in_output.get(&token).copied().unwrap_or(0)
    }

    /// Whether a token stands in prompt or output.
    pub(crate) fn contains(&self, token: u32) -> bool {
        self.in_output.contains_key(&token)
    }

    /// Each distinct token of prompt and output with the times it stands in the output, in no
    /// particular order.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.in_output.iter().map(|(&token, &count)| (token, count))
    }
}
