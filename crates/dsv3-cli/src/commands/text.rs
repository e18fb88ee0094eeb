//! Commands over text alone: no weights needed.

use dsv3_tokenizer::{
    Conversation, Mode, RenderOptions, Template, TokenId, Tool, parse_text, render as render_chat,
};
use serde_json::json;

use crate::cli::{DetokenizeArgs, Global, ParseArgs, RenderArgs, TokenizeArgs};
use crate::error::usage;
use crate::input::{file_text, parse_ids, stdin_text};
use crate::model;
use crate::output::{say, say_json};

fn say_ids(global: &Global, ids: &[TokenId]) -> anyhow::Result<()> {
    if global.json {
        return say_json(&json!({ "ids": ids }));
    }
    let ids: Vec<String> = ids.iter().map(TokenId::to_string).collect();
    say(&(ids.join(" ") + "\n"))
}

/// `dsv3 tokenize`
pub(crate) fn tokenize(global: &Global, args: TokenizeArgs) -> anyhow::Result<()> {
    let tokenizer = model::tokenizer(global, &args.tokenizer)?;
    let text = match args.text {
        Some(text) => text,
        None => stdin_text("text")?,
    };
    let ids = match args.special {
        true => tokenizer.encode_with_special(&text)?,
        false => tokenizer.encode(&text)?,
    };
    say_ids(global, &ids)
}

/// `dsv3 detokenize`
pub(crate) fn detokenize(global: &Global, args: DetokenizeArgs) -> anyhow::Result<()> {
    let tokenizer = model::tokenizer(global, &args.tokenizer)?;
    let ids = match args.ids.is_empty() {
        true => parse_ids(&stdin_text("token ids")?),
        false => parse_ids(&args.ids.join(" ")),
    };
    let ids = ids.map_err(usage)?.0;
    let text = match args.skip_special {
        true => tokenizer.decode_skip_special(&ids)?,
        false => tokenizer.decode(&ids)?,
    };
    match global.json {
        true => say_json(&json!({ "text": text })),
        false => say(&(text + "\n")),
    }
}

/// `dsv3 render`
pub(crate) fn render(global: &Global, args: RenderArgs) -> anyhow::Result<()> {
    let file = args.messages.display();
    let conversation = Conversation::from_json(&file_text(&args.messages)?)
        .map_err(|e| anyhow::anyhow!("{file}: {e}"))?;
    let tools = match &args.tools {
        Some(path) => Tool::list_from_json(&file_text(path)?)
            .map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?,
        None => conversation.tools,
    };
    let options = RenderOptions {
        thinking: args.think,
        add_generation_prompt: !args.no_generation_prompt,
        continue_prefix: args.continue_prefix,
    };
    let messages = conversation.messages;
    let text = match &args.template {
        Some(path) => Template::from_file(path)?.render(&messages, &tools, &options)?,
        None => {
            let prompt = render_chat(&messages, &tools, &options)?;
            if args.ids {
                let tokenizer = model::tokenizer(global, &args.tokenizer)?;
                return say_ids(global, &prompt.to_ids(&tokenizer)?);
            }
            prompt.to_text()
        }
    };
    if args.ids {
        let tokenizer = model::tokenizer(global, &args.tokenizer)?;
        return say_ids(global, &tokenizer.encode_with_special(&text)?);
    }
    match global.json {
        true => say_json(&json!({ "prompt": text })),
        false => say(&(text + "\n")),
    }
}

/// `dsv3 parse`
pub(crate) fn parse(global: &Global, args: ParseArgs) -> anyhow::Result<()> {
    let tokenizer = model::tokenizer(global, &args.tokenizer)?;
    let text = stdin_text("what the model wrote")?;
    // Files and shells end text with a newline that the model did not write.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut parsed = parse_text(&tokenizer, text, Mode::from_thinking(args.think))?;
    parsed.finish_reason = None; // nobody knows why a text at hand ended
    say_json(&parsed)
}
