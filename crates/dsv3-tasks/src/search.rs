//! Search: asked when, and only when, the model can't know; then an answer with citations.

mod topics;

use std::fmt::Write;

use dsv3_tokenizer::{Message, Segment, Special};

use crate::chat;
use crate::check::Check;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split, Turn};
use crate::known;
use crate::names::fill;
use crate::question::plain_system;
use crate::split::NO_SEARCH;

use topics::{TOPICS, Topic};

/// What the model thinks before it searches.
const UNKNOWN: &str = "I can't know this, so I search.";

/// A task of this kind. In two of five the model knows the answer and must not search: the check
/// is then [`Check::Exact`], and an answer that was searched for is wrong, however it ends.
pub(crate) fn example(draw: &mut Draw) -> Result<Example, TasksError> {
    if draw.below(5) < 2 {
        known(draw)
    } else {
        unknown(draw)
    }
}

/// A question of another kind, which needs no search. It belongs to the part that it belongs to
/// there.
fn known(draw: &mut Draw) -> Result<Example, TasksError> {
    let mut example = known::question(Mode::Think, draw)?;
    example.id.insert_str(0, NO_SEARCH);
    example.kind = Kind::Search;
    example.split = Split::of(&example.id);
    Ok(example)
}

/// What is asked about and the answer.
struct Subject {
    a: String,
    b: String,
    value: String,
}

impl Subject {
    fn fill(&self, template: &str) -> String {
        fill(
            template,
            &[("a", &self.a), ("b", &self.b), ("v", &self.value)],
        )
    }
}

/// A question that needs one. The id names topic and subject: neither wording nor results.
fn unknown(draw: &mut Draw) -> Result<Example, TasksError> {
    let topic = &TOPICS[draw.below(TOPICS.len())];
    let subject = draw_subject(topic, draw);
    let id = format!("search/{}/{}/{}", topic.key, subject.a, subject.b);

    let mut messages: Vec<_> = plain_system(draw)
        .map(Message::System)
        .into_iter()
        .collect();
    messages.push(Message::User(subject.fill(draw.pick(topic.asks))));
    let query = subject.fill(topic.query);
    let asked = Turn {
        given: chat::given(&messages, &[], Mode::Think)?,
        answer: vec![
            Segment::Text(UNKNOWN.to_owned()),
            Segment::Special(Special::SearchBegin),
            Segment::Text(query.clone()),
            Segment::Special(Special::SearchEnd),
        ],
        check: Check::Search { query },
    };

    let fact = subject.fill(draw.pick(topic.facts));
    let (results, others) = results(topic, &subject, &fact, draw);
    let number = others.len() + 1;
    let reasoning = format!("{} Webpage {number} says: {fact}", read(&subject, &others));
    let answer = format!("{} [citation:{number}].", subject.fill(topic.answer));
    let answered = Turn {
        given: vec![Segment::Text(results)],
        answer: chat::answer(Some(&reasoning), &answer),
        check: Check::Contains {
            answer: subject.value,
            citations: vec![number],
        },
    };
    Ok(Example {
        split: Split::of(&id),
        id,
        kind: Kind::Search,
        mode: Mode::Think,
        turns: vec![asked, answered],
    })
}

fn draw_subject(topic: &Topic, draw: &mut Draw) -> Subject {
    let a = topic.a.draw(draw);
    let mut b = topic.b.draw(draw);
    while b == a {
        b = topic.b.draw(draw);
    }
    Subject {
        a,
        b,
        value: topic.value.draw(draw),
    }
}

/// How the page is found: one after the other is held against what is asked about, first the one
/// thing and then the other, up to the page that has both. `tea, Oakport? 1: rice no. 2: tea yes,
/// Lakeside no. 3: tea yes, Oakport yes.`
fn read(subject: &Subject, others: &[Subject]) -> String {
    let (a, b) = (&subject.a, &subject.b);
    let mut text = format!("{a}, {b}?");
    for (at, page) in others.iter().chain([subject]).enumerate() {
        let _ = write!(text, " {}: {}", at + 1, page.a);
        if page.a != *a {
            text.push_str(" no.");
            continue;
        }
        let found = if page.b == *b { "yes" } else { "no" };
        let _ = write!(text, " yes, {} {found}.", page.b);
    }
    text
}

/// Two or three pages, in the form of DeepSeek's own search prompts, and the subjects of those in
/// front of the one with the fact. The others tell the same of another subject.
fn results(
    topic: &Topic,
    subject: &Subject,
    fact: &str,
    draw: &mut Draw,
) -> (String, Vec<Subject>) {
    let count = 2 + draw.below(2);
    let at = draw.below(count);
    let mut pages = Vec::with_capacity(count);
    let mut before = Vec::new();
    for page in 0..count {
        if page == at {
            pages.push(fact.to_owned());
            continue;
        }
        let mut other = draw_subject(topic, draw);
        // Half of a subject in common, so that one word alone doesn't find the page.
        match draw.below(3) {
            0 => other.a.clone_from(&subject.a),
            1 => other.b.clone_from(&subject.b),
            _ => {}
        }
        while (other.a == subject.a && other.b == subject.b)
            || other.a == other.b
            || other.value == subject.value
        {
            other = draw_subject(topic, draw);
        }
        pages.push(other.fill(draw.pick(topic.facts)));
        if page < at {
            before.push(other);
        }
    }
    let mut text = String::from("\n\n");
    for (page, content) in pages.iter().enumerate() {
        let number = page + 1;
        text.push_str(&format!(
            "[webpage {number} begin]{content}[webpage {number} end]\n"
        ));
    }
    text.push('\n');
    (text, before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::spell;
    use crate::testing::asked;

    fn samples(count: u64) -> impl Iterator<Item = Example> {
        (0..count).map(|stream| example(&mut Draw::new(4, stream)).unwrap())
    }

    fn searches(count: u64) -> impl Iterator<Item = Example> {
        samples(count).filter(|example| matches!(example.turns[0].check, Check::Search { .. }))
    }

    /// The numbered pages of a turn's results.
    fn pages(turn: &Turn) -> Vec<String> {
        let text = spell(&turn.given);
        let inner = text.strip_prefix("\n\n").unwrap().strip_suffix("\n\n");
        let lines = inner.unwrap().split('\n').enumerate();
        lines
            .map(|(at, line)| {
                let (begin, end) = (
                    format!("[webpage {} begin]", at + 1),
                    format!("[webpage {} end]", at + 1),
                );
                let page = line.strip_prefix(begin.as_str()).unwrap();
                page.strip_suffix(end.as_str()).unwrap().to_owned()
            })
            .collect()
    }

    /// The text as words alone, so that bus 4 is not found in bus 42.
    fn words(text: &str) -> String {
        let words = text.split(|c: char| !c.is_alphanumeric());
        words.fold(String::from(" "), |all, word| all + word + " ")
    }

    // Breaks with: a query with a word that is neither in the question nor always in the topic's
    // queries.
    #[test]
    fn queries_come_from_the_question() {
        for example in searches(2000) {
            let question = asked(&example.turns[0]);
            let Check::Search { query } = &example.turns[0].check else {
                continue;
            };
            let key = example.id.split('/').nth(1).unwrap();
            let topic = TOPICS.iter().find(|topic| topic.key == key).unwrap();
            for word in query.split(' ') {
                assert!(
                    question.contains(word) || topic.query.split(' ').any(|own| own == word),
                    "{word} of {query} for {question}"
                );
            }
            let written = spell(&example.turns[0].answer);
            assert_eq!(
                written,
                format!("{UNKNOWN}<｜search▁begin｜>{query}<｜search▁end｜>")
            );
            assert_eq!(example.turns[0].stop(), Special::SearchEnd);
        }
    }

    // Breaks with: an answer that its page doesn't hold, that another page holds of the same
    // subject, or a citation of another page.
    #[test]
    fn one_page_has_the_answer() {
        for example in searches(2000) {
            let Check::Contains { answer, citations } = &example.turns[1].check else {
                panic!("{:?}", example.turns[1].check);
            };
            let [number] = citations.as_slice() else {
                panic!("{citations:?}");
            };
            let pages = pages(&example.turns[1]);
            assert!((2..=3).contains(&pages.len()));
            let page = &pages[number - 1];
            assert!(page.contains(answer.as_str()), "{answer} in {page}");
            let subject: Vec<_> = example.id.split('/').skip(2).collect();
            for (at, other) in pages.iter().enumerate() {
                let other = words(other);
                let both = subject.iter().all(|part| other.contains(&words(part)));
                assert!(at + 1 == *number || !both, "{other} for {}", example.id);
            }
            let written = spell(&example.turns[1].answer);
            assert!(written.contains(&format!(" yes. Webpage {number} says: {page}</think>")));
            assert_eq!(written.matches(" no.").count(), number - 1, "{written}");
            let said = written.split_once("</think>").unwrap().1;
            assert!(
                said.contains(answer.as_str()) && !said.contains('{'),
                "{said}"
            );
            assert!(said.ends_with(&format!(" [citation:{number}].<｜end▁of▁sentence｜>")));
        }
    }

    // Breaks with: another share of questions that need no search, or one of them in another part
    // than where it comes from: training would then know the held-out answer.
    #[test]
    fn what_is_known_keeps_its_part() {
        let mut known = 0;
        for example in samples(2000) {
            assert_eq!(example.split, Split::of(&example.id));
            if let Some(own) = example.id.strip_prefix(NO_SEARCH) {
                known += 1;
                assert_eq!(example.split, Split::of(own));
                assert!(matches!(example.turns[0].check, Check::Exact { .. }));
            }
        }
        assert!((700..900).contains(&known), "{known} of 2000");
    }

    // Breaks with: any choice that doesn't come from the draw.
    #[test]
    fn the_same_draw_gives_the_same_example() {
        assert!(samples(200).eq(samples(200)));
    }
}
