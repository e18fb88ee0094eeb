//! `dsv3 score`

use std::ops::ControlFlow;
use std::process::ExitCode;

use dsv3_engine::PositionScore;
use dsv3_tokenizer::Prompt;
use serde_json::json;

use crate::cli::{Global, ScoreArgs};
use crate::error::INTERRUPTED;
use crate::input::stdin_text;
use crate::logits_file::LogitsFile;
use crate::model::{self, Opened};
use crate::output::{say, say_json};
use crate::{error::usage, interrupt};

/// Score a text.
pub(crate) fn run(global: &Global, args: ScoreArgs) -> anyhow::Result<ExitCode> {
    let opened = model::open(global)?;
    let ids = ids(&args, &opened)?;
    opened.check_ids(&ids)?;
    // Begun before the model is loaded: a path that can't be written shows at once.
    let mut logits = match &args.logits_out {
        Some(path) => Some(LogitsFile::create(path, ids.len(), opened.vocab_size())?),
        None => None,
    };
    let (mut engine, _) = opened.load(global, &args.load, ids.len())?;

    interrupt::install()?;
    let listening = interrupt::listen();
    let (mut sum, mut count, mut failed) = (0f64, 0usize, None);
    engine.score(&ids, args.top, &mut |score| {
        if let Some(logprob) = score.logprob {
            sum += f64::from(logprob);
            count += 1;
        }
        let written = report(global, score).and_then(|()| match &mut logits {
            Some(file) => file.row(score.logits),
            None => Ok(()),
        });
        match written {
            Ok(()) if !listening.pressed() => ControlFlow::Continue(()),
            Ok(()) => ControlFlow::Break(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if listening.pressed() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if let Some(file) = logits {
        file.finish()?;
    }
    let perplexity = match count {
        0 => "perplexity: none, since one token alone has no probability\n".to_owned(),
        _ => format!(
            "perplexity {:.4} over {count} tokens\n",
            (-sum / count as f64).exp()
        ),
    };
    // On stderr with --json, so that stdout stays one line a position.
    match global.json {
        true => eprint!("{perplexity}"),
        false => say(&perplexity)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn ids(args: &ScoreArgs, opened: &Opened) -> anyhow::Result<Vec<u32>> {
    if let Some(ids) = &args.input_ids {
        return Ok(ids.0.clone());
    }
    let tokenizer = opened.tokenizer()?;
    let text = match &args.text {
        Some(text) => text.clone(),
        None => stdin_text("the text")?,
    };
    if text.is_empty() {
        return Err(usage("the text is empty: give something to score"));
    }
    Ok(match args.special {
        true => tokenizer.encode_raw_prompt(&text)?,
        false => Prompt::raw(&text).to_ids(tokenizer)?,
    })
}

fn report(global: &Global, score: &PositionScore<'_>) -> anyhow::Result<()> {
    if global.json {
        return say_json(&json!({
            "position": score.position,
            "token": score.token,
            "logprob": score.logprob,
            "top": score.top,
        }));
    }
    let logprob = match score.logprob {
        Some(logprob) => format!("{logprob:.6}"),
        None => "-".into(),
    };
    let top = score.top.iter().map(|(id, p)| format!("  {id}:{p:.4}"));
    let top: String = top.collect();
    say(&format!(
        "{}\t{}\t{logprob}{top}\n",
        score.position, score.token
    ))
}
