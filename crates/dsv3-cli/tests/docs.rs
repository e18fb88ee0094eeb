//! What docs/cli.md shows of the program, run.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::PathBuf;
use std::process::Command;

/// Those whose output depends on nothing but the repository.
const SHOWN: [&str; 4] = ["tokenize", "detokenize", "inspect", "plan"];

/// A line's words as a shell takes them: single quotes hold spaces.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// The commands of the page's blocks, each with the lines below it.
fn commands(page: &str) -> Vec<(Vec<String>, Vec<&str>)> {
    let mut found: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
    let blocks = page.split("```").skip(1).step_by(2);
    for line in blocks.flat_map(|block| block.lines().skip(1).chain(["$"])) {
        match (line.strip_prefix('$'), found.last_mut()) {
            (Some(command), _) => found.push((words(command.trim()), Vec::new())),
            (None, Some((_, output))) => output.push(line),
            (None, None) => {}
        }
    }
    let is_shown = |words: &[String]| {
        words[0] == "dsv3" && words.get(1).is_some_and(|w| SHOWN.contains(&w.as_str()))
    };
    found.retain(|(words, _)| is_shown(words));
    found
}

/// Breaks with: a page that shows what the program does not print. A line of `…` stands for any
/// number of lines.
#[test]
fn the_page_shows_what_the_program_prints() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/cli.md")).unwrap();
    let commands = commands(&page);
    assert!(commands.len() >= 5, "{commands:?}");
    for (words, shown) in commands {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dsv3"));
        let ran = command.args(&words[1..]).current_dir(&root).output();
        let printed = String::from_utf8(ran.unwrap().stdout).unwrap();
        let mut rest = printed.trim_end().lines();
        let mut skips = false;
        for line in shown {
            if line == "…" {
                skips = true;
                continue;
            }
            let next = if skips {
                rest.find(|l| *l == line)
            } else {
                rest.next()
            };
            assert_eq!(next, Some(line), "{words:?} prints:\n{printed}");
            skips = false;
        }
        assert!(
            skips || rest.next().is_none(),
            "{words:?} prints:\n{printed}"
        );
    }
}
