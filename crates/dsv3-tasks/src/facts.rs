//! A table of facts that are certain and don't change, each with several wordings of its
//! question.
//!
//! An example is named by the fact and the wording: what is held out is a known fact in a wording
//! of its question that training never had. [`Split::of`](crate::Split::of) leaves the first two
//! wordings of each to training.

mod nature;
mod places;
mod talk;
mod words;
mod works;

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::names::{capitalised, fill};
use crate::question::{Question, plain_system};

/// Facts of one form.
#[derive(Debug)]
pub(crate) struct Relation {
    /// Part of the ids.
    pub(crate) name: &'static str,
    /// Questions, with `{s}` for the subject.
    pub(crate) wordings: &'static [&'static str],
    /// The fact as a sentence, with `{s}` and `{a}`.
    pub(crate) recall: &'static str,
    /// Subjects and answers.
    pub(crate) rows: &'static [(&'static str, &'static str)],
}

/// Those with bare answers: all but [`SAID`].
static RELATIONS: [Relation; 21] = [
    places::CAPITALS,
    places::COUNTRIES,
    places::CONTINENTS,
    places::LANGUAGES,
    nature::SYMBOLS,
    nature::ELEMENTS,
    nature::PLANETS,
    nature::YOUNG,
    nature::GROUPS,
    nature::COLOURS,
    nature::MIXTURES,
    words::OPPOSITES,
    words::NEXT_DAYS,
    words::DAYS_BEFORE,
    words::NEXT_MONTHS,
    words::MONTH_LENGTHS,
    words::SIDES,
    words::NUMBERS,
    works::BOOKS,
    works::PAINTINGS,
    works::MUSIC,
];

/// Answered by whole sentences, so of no use where the answer is written in other ways.
static SAID: [Relation; 2] = [talk::TALK, talk::GREETINGS];

/// One fact.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fact {
    /// Its form.
    pub(crate) relation: &'static Relation,
    /// What is asked about.
    pub(crate) subject: &'static str,
    /// The bare answer.
    pub(crate) answer: &'static str,
}

impl Fact {
    /// Any fact with a bare answer, each as likely as the others.
    pub(crate) fn draw(draw: &mut Draw) -> Fact {
        Self::draw_of(&[], draw)
    }

    /// A fact of the relations with these names; of all where there is none.
    pub(crate) fn draw_of(names: &[&str], draw: &mut Draw) -> Fact {
        let wanted = |relation: &&Relation| names.is_empty() || names.contains(&relation.name);
        Self::draw_from(RELATIONS.iter().filter(wanted), draw)
    }

    fn draw_from(
        relations: impl Iterator<Item = &'static Relation> + Clone,
        draw: &mut Draw,
    ) -> Fact {
        let facts = relations.flat_map(|relation| {
            relation.rows.iter().map(move |&(subject, answer)| Fact {
                relation,
                subject,
                answer,
            })
        });
        let mut facts = facts.clone().skip(draw.below(facts.count()));
        facts.next().unwrap_or(Fact {
            relation: &RELATIONS[0],
            subject: "",
            answer: "",
        })
    }

    /// How many wordings its question has.
    pub(crate) fn wordings(&self) -> usize {
        self.relation.wordings.len()
    }

    /// Its question in one of the wordings.
    pub(crate) fn question(&self, wording: usize) -> String {
        let wording = self
            .relation
            .wordings
            .get(wording)
            .copied()
            .unwrap_or_default();
        fill(wording, &[("s", self.subject)])
    }

    /// The fact in a sentence.
    pub(crate) fn sentence(&self) -> String {
        let values = [("s", self.subject), ("a", self.answer)];
        capitalised(&fill(self.relation.recall, &values))
    }
}

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    let fact = if draw.one_in(25) {
        Fact::draw_from(SAID.iter(), draw)
    } else {
        Fact::draw(draw)
    };
    let wording = draw.below(fact.wordings());
    let question = Question {
        id: format!("facts/{}/{}/{wording}", fact.relation.name, fact.subject),
        system: plain_system(draw),
        text: fact.question(wording),
        reasoning: fact.sentence(),
        answer: fact.answer.to_owned(),
    };
    question.into_example(Kind::Facts, mode)
}

/// Every fact, for tests.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = Fact> {
    RELATIONS.iter().chain(&SAID).flat_map(|relation| {
        relation.rows.iter().map(move |&(subject, answer)| Fact {
            relation,
            subject,
            answer,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::example::Split;
    use crate::testing::{asked, sample, thought, wanted};

    /// Breaks with: a subject twice in a table, two relations that ask the same.
    #[test]
    fn one_question_has_one_answer() {
        let mut answers = HashMap::new();
        let mut count = 0;
        for fact in all() {
            count += 1;
            assert!(!fact.subject.contains('/') && !fact.answer.is_empty());
            for wording in 0..fact.wordings() {
                let question = fact.question(wording);
                assert!(!question.contains('{'), "{question}");
                assert!(question.ends_with(['?', '.', '!']), "{question}");
                let old = answers.insert(question.clone(), fact.answer);
                assert_eq!(old, None, "{question} is asked twice");
            }
        }
        assert!((400..450).contains(&count), "{count} facts");
    }

    /// Breaks with: a fact whose wordings are nearly all held out, so that nothing teaches it; a
    /// held-out part too small to score.
    #[test]
    fn every_fact_is_trained_and_hundreds_of_wordings_are_held_out() {
        let mut held = 0;
        for fact in all() {
            let name = fact.relation.name;
            let trained = (0..fact.wordings())
                .filter(|wording| {
                    let id = format!("facts/{name}/{}/{wording}", fact.subject);
                    Split::of(&id) == Split::Train
                })
                .count();
            assert!(trained >= 2, "{name} {}", fact.subject);
            assert!(fact.wordings() >= 5, "{name}");
            held += fact.wordings() - trained;
        }
        assert!(held >= 300, "{held} held out");
    }

    /// Breaks with: a reasoning that recalls another fact than the answer gives.
    #[test]
    fn answers_are_the_facts() {
        for example in sample(Kind::Facts, Mode::Think, 5_000) {
            let turn = &example.turns[0];
            let (reasoning, answer) = thought(turn);
            let text = asked(turn);
            let parts: Vec<&str> = example.id.split('/').collect();
            let fact = all()
                .find(|fact| fact.relation.name == parts[1] && fact.subject == parts[2])
                .unwrap();
            assert_eq!(answer, fact.answer);
            assert_eq!(wanted(turn), answer);
            assert!(text.contains(fact.subject), "{text}");
            let greeting = fact.relation.name == "greeting";
            assert!(greeting || reasoning.contains(&answer), "{reasoning}");
        }
    }
}
