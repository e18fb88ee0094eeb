//! `dsv3 score`

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dsv3_engine::PositionScore;
use dsv3_sampling::TopLogprobs;
use serde_json::json;

use crate::cli::{Global, ScoreArgs};
use crate::output::{Usage, read_stdin, say, say_json};
use crate::{interrupt, model};

/// Score a text.
pub(crate) fn run(global: &Global, args: ScoreArgs) -> anyhow::Result<()> {
    let top = TopLogprobs::new(args.top).map_err(|e| Usage(format!("--top: {e}")))?;
    let (mut engine, _) = model::engine(global, &args.load)?;
    let ids = match (args.input_ids, args.text) {
        (Some(ids), _) => ids,
        (None, text) => {
            let text = match text {
                Some(text) => text,
                None => read_stdin()?,
            };
            let tokenizer = engine.tokenizer().ok_or_else(|| {
                Usage("this checkpoint has no tokenizer.json: give --input-ids".into())
            })?;
            tokenizer.encode_raw_prompt(&text)?
        }
    };
    let mut logits = match &args.logits_out {
        Some(path) => Some(LogitsFile::create(
            path,
            ids.len(),
            engine.model().args().vocab_size,
        )?),
        None => None,
    };
    interrupt::watch()?;
    let (mut sum, mut count, mut failed) = (0f64, 0usize, None);
    engine.score(&ids, top, &mut |score| {
        if let Some(logprob) = score.logprob {
            sum += f64::from(logprob);
            count += 1;
        }
        let written = report(global, score).and_then(|()| match &mut logits {
            Some(file) => file.write(score.logits),
            None => Ok(()),
        });
        if let Err(error) = written {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        interrupt::check()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if interrupt::pressed() {
        bail!("interrupted");
    }
    if let Some(file) = logits {
        file.finish()?;
    }
    let perplexity = (-sum / count.max(1) as f64).exp();
    // On stderr with --json, so that stdout stays one line a position.
    let line = format!("perplexity {perplexity:.4} over {count} tokens\n");
    match global.json {
        true => eprint!("{line}"),
        false => say(&line)?,
    }
    Ok(())
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

/// `logits` F32 `[tokens, vocab]` as safetensors, row by row: under a temporary name until whole.
struct LogitsFile {
    path: PathBuf,
    temporary: PathBuf,
    writer: BufWriter<File>,
}

impl LogitsFile {
    fn create(path: &Path, tokens: usize, vocab: usize) -> anyhow::Result<Self> {
        let temporary = path.with_extension("safetensors.tmp");
        let bytes = tokens * vocab * 4;
        let header = json!({
            "logits": { "dtype": "F32", "shape": [tokens, vocab], "data_offsets": [0, bytes] },
        });
        let mut header = header.to_string();
        while !header.len().is_multiple_of(8) {
            header.push(' '); // the data begins aligned
        }
        let file = File::create(&temporary)
            .with_context(|| format!("{} can't be written", temporary.display()))?;
        let mut writer = BufWriter::new(file);
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(header.as_bytes())?;
        Ok(LogitsFile {
            path: path.to_owned(),
            temporary,
            writer,
        })
    }

    fn write(&mut self, row: &[f32]) -> anyhow::Result<()> {
        for value in row {
            self.writer.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let failed = || format!("{} can't be written", self.path.display());
        self.writer.flush().with_context(failed)?;
        self.writer.get_ref().sync_all().with_context(failed)?;
        std::fs::rename(&self.temporary, &self.path).with_context(failed)
    }
}

impl Drop for LogitsFile {
    fn drop(&mut self) {
        // After a finished run there is nothing under this name any more.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
