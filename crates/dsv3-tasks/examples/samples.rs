//! Prints examples: `cargo run -p dsv3-tasks --example samples -- arithmetic think 5`.

use dsv3_tasks::{Draw, Kind, Mode, generate};
use dsv3_tokenizer::{Segment, Special};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let mode = match args.next().as_deref() {
        Some("nothink") => Mode::Nothink,
        Some("raw") => Mode::Raw,
        _ => Mode::Think,
    };
    let count = args.next().and_then(|n| n.parse().ok()).unwrap_or(5);
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    let kind = kind.ok_or("name a kind, for example arithmetic")?;
    let mut draw = Draw::new(0, 0);
    for _ in 0..count {
        let example = generate(kind, mode, &mut draw)?;
        println!("# {} ({})", example.id, example.split.name());
        for turn in &example.turns {
            for segment in turn.given.iter().chain(&turn.answer) {
                match segment {
                    Segment::Text(text) => print!("{text}"),
                    Segment::Special(Special::Bos) => {}
                    Segment::Special(Special::Eos) => println!("$"),
                    Segment::Special(special) => print!("{}", special.name()),
                }
            }
        }
        println!();
    }
    Ok(())
}
