use dsv3_tasks::{Kind, held_out, modes};

use super::jsonl::TOKENIZER;
use crate::data::*;

/// Breaks with: a line that teaches something else than the example that it was made of.
#[test]
fn a_line_is_read_as_the_example() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("line.jsonl");
    let mut plain = 0;
    for kind in Kind::ALL {
        for mode in modes(kind) {
            for example in held_out(kind, *mode, 4, 3).unwrap() {
                let Some(line) = example_messages(&example) else {
                    let other = matches!(kind, Kind::Tools | Kind::Search | Kind::Fim);
                    assert!(other, "{}", example.id);
                    continue;
                };
                std::fs::write(&path, line.to_string()).unwrap();
                let options = ConversationOptions { context: 4096 };
                let read = read_jsonl(&path, &TOKENIZER, &options, OnBadLine::Refuse, &mut |_| {});
                let expected = TrainSequence::from_example(&example, &TOKENIZER).unwrap();
                assert_eq!(
                    read.unwrap().sequences(),
                    [expected],
                    "{}: {line}",
                    example.id
                );
                plain += 1;
            }
        }
    }
    assert!(plain > 60, "{plain}");
}
