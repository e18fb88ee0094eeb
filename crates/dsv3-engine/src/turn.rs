//! One turn of the model that may search on its way.

use dsv3_sampling::SamplingParams;
use dsv3_tokenizer::{Mode, Prompt, Special, SpecialTokens, TokenId, Tokenizer};

use crate::error::EngineError;
use crate::event::{Completion, FinishReason};
use crate::request::{Input, Request, StopConditions};

/// One turn of the model: an answer in parts. A part ends where the model has written a search
/// query; once the results are given, the next part goes on behind them in the same channel, so
/// that the model reads them inside its reasoning.
///
/// It runs nothing itself: it makes requests for whoever drives the engine, and looks at what
/// became of them. What was computed for one part is found in the cache by the next.
///
/// ```
/// use std::sync::Arc;
/// use dsv3_engine::{SamplingParams, StopConditions, Turn};
/// use dsv3_tokenizer::{Message, RenderOptions, Tokenizer, render};
///
/// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tokenizer/tokenizer.json");
/// let tokenizer = Tokenizer::from_file(file)?;
/// let prompt = render(&[Message::user("Who won?")], &[], &RenderOptions::to_generate(true))?;
/// let mut turn = Turn::new(&prompt, &tokenizer, SamplingParams::greedy(), StopConditions::default())?;
/// let request = turn.request(); // for Engine::submit or Engine::stream
/// # let completion = dsv3_engine::Completion::default();
/// if let Some(query) = turn.take(completion) {
///     // look for `query`, then:
///     turn.give(&tokenizer, &["Mia won."])?;
///     let request = turn.request();
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Turn {
    special: SpecialTokens,
    params: SamplingParams,
    /// For the whole turn.
    stop: StopConditions,
    /// The prompt, then all that was written and given.
    ids: Vec<TokenId>,
    mode: Mode,
    /// Tokens of reasoning in the parts so far.
    thought: usize,
    /// Pages given so far.
    pages: usize,
    whole: Completion,
}

impl Turn {
    /// A turn that answers `prompt`. The limits of `stop` hold for the turn, not for a part.
    ///
    /// # Errors
    /// [`EngineError::Tokenizer`] if the vocabulary lacks a token of the prompt.
    pub fn new(
        prompt: &Prompt,
        tokenizer: &Tokenizer,
        params: SamplingParams,
        mut stop: StopConditions,
    ) -> Result<Self, EngineError> {
        let special = tokenizer.special().clone();
        // A vocabulary without the token has no searches, and is as good for everything else.
        stop.ids.extend(special.id(Special::SearchEnd));
        Ok(Turn {
            params,
            stop,
            ids: prompt.to_ids(tokenizer)?,
            mode: prompt.mode(),
            thought: 0,
            pages: 0,
            whole: Completion::default(),
            special,
        })
    }

    /// The request for the next part.
    pub fn request(&self) -> Request {
        let mut stop = self.stop.clone();
        stop.max_new_tokens = stop.max_new_tokens.saturating_sub(self.whole.tokens.len());
        stop.max_thinking_tokens = stop
            .max_thinking_tokens
            .map(|most| most.saturating_sub(self.thought));
        Request {
            input: Input::Ids(self.ids.clone()),
            params: self.params.clone(),
            stop,
            parse: Some(self.mode),
        }
    }

    /// Take what became of the last request. `Some` is a query that waits for its results
    /// ([`give`](Self::give)); else the turn is over.
    pub fn take(&mut self, part: Completion) -> Option<String> {
        let asked = part.parsed.as_ref().and_then(|p| p.search_queries.last());
        let ended = part.tokens.last().and_then(|id| self.special.special(*id));
        // Calls of tools before the query change the reason's name, not the pause.
        let paused = ended == Some(Special::SearchEnd)
            && matches!(
                part.finish_reason,
                FinishReason::Stop | FinishReason::ToolCalls
            );
        let query = asked.filter(|_| paused).cloned();

        for id in &part.tokens {
            match self.special.special(*id) {
                Some(Special::ThinkBegin) => self.mode = Mode::Thinking,
                Some(Special::ThinkEnd) => self.mode = Mode::NonThinking,
                _ => {}
            }
        }
        if self.mode == Mode::Thinking {
            self.thought += part.tokens.len();
        }
        self.ids.extend(&part.tokens);
        self.whole.extend(part);
        if query.is_some() && self.whole.tokens.len() >= self.stop.max_new_tokens {
            self.whole.finish_reason = FinishReason::Length;
            return None;
        }
        query
    }

    /// Give the results of the query that [`take`](Self::take) gave out: pages as text, as
    /// [`Prompt::search_results`] has them. Returns the number under which the first can be cited.
    ///
    /// # Errors
    /// [`EngineError::Tokenizer`].
    pub fn give<T: AsRef<str>>(
        &mut self,
        tokenizer: &Tokenizer,
        pages: &[T],
    ) -> Result<usize, EngineError> {
        let first = self.pages + 1;
        let results = Prompt::search_results(first, pages).to_ids(tokenizer)?;
        self.ids.extend(results);
        self.pages += pages.len();
        Ok(first)
    }

    /// All parts together: what was written, without the results between.
    pub fn completion(&self) -> &Completion {
        &self.whole
    }

    /// As [`completion`](Self::completion), for keeps.
    pub fn into_completion(self) -> Completion {
        self.whole
    }
}

impl Completion {
    /// Add a part that came after this one in the same turn.
    fn extend(&mut self, part: Completion) {
        let (whole, new) = (&mut self.usage, part.usage);
        if self.tokens.is_empty() {
            whole.cached_tokens = new.cached_tokens;
        }
        // A later part's prompt holds what was written before it.
        whole.prompt_tokens = new.prompt_tokens.saturating_sub(self.tokens.len());
        whole.completion_tokens += new.completion_tokens;
        whole.prefill_s += new.prefill_s;
        whole.decode_s += new.decode_s;
        self.tokens.extend(part.tokens);
        self.logprobs.extend(part.logprobs);
        self.text.push_str(&part.text);
        self.finish_reason = part.finish_reason;
        match (&mut self.parsed, part.parsed) {
            (Some(whole), Some(later)) => whole.extend(later),
            (whole @ None, later) => *whole = later,
            (Some(_), None) => {}
        }
    }
}
