//! The training corpus, example by example, and the held-out part.

use std::collections::HashSet;

use crate::buried;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split};
use crate::generate::generate;
use crate::history;
use crate::mix::Mix;

/// Draws for one example of the training part. One in 16 is held out, so two in a row are already
/// rare; a kind that needs more than this has nothing to train on.
const TRIES: usize = 1_000;

/// One example in so many, of kinds that can have one, is asked after something else.
const HISTORY_ONE_IN: usize = 4;

/// An endless row of training examples: the one at an index follows from the seed and the index.
///
/// ```
/// use dsv3_tasks::{Corpus, Mix, Split};
///
/// # fn main() -> Result<(), dsv3_tasks::TasksError> {
/// let corpus = Corpus::new(7, Mix::default())?;
/// let example = corpus.example(123)?;
/// assert_eq!(example.split, Split::Train);
/// assert_eq!(example, corpus.example(123)?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Corpus {
    seed: u64,
    mix: Mix,
    total: f64,
}

impl Corpus {
    /// A corpus of this seed and these shares.
    ///
    /// # Errors
    /// [`TasksError::Mix`] where a weight is negative or no number, or none is above zero.
    pub fn new(seed: u64, mix: Mix) -> Result<Self, TasksError> {
        for &(kind, mode, weight) in &mix.weights {
            if !weight.is_finite() || weight < 0.0 {
                return Err(TasksError::Mix(format!(
                    "the weight of {} ({}) is {weight}; it must be 0 or more",
                    kind.name(),
                    mode.name()
                )));
            }
        }
        let total: f64 = mix.weights.iter().map(|&(_, _, weight)| weight).sum();
        if total <= 0.0 {
            return Err(TasksError::Mix(
                "no kind has a weight above 0; give one a weight".to_owned(),
            ));
        }
        if !(0.0..=1.0).contains(&mix.long_buried) {
            return Err(TasksError::Mix(format!(
                "long_buried is {}; it is a part, from 0 to 1",
                mix.long_buried
            )));
        }
        Ok(Corpus { seed, mix, total })
    }

    /// The training example at an index.
    ///
    /// # Errors
    /// Those of [`generate`]: faults of the mix or of a generator.
    pub fn example(&self, index: u64) -> Result<Example, TasksError> {
        let mut draw = Draw::new(self.seed, index);
        let (kind, mode) = self.kind(&mut draw);
        // Nothing is drawn where nothing can come of it: a mix without long texts has one corpus.
        let part = self.mix.long_buried;
        let long = kind == Kind::Buried && part > 0.0 && draw.fraction() < part;
        for _ in 0..TRIES {
            let mut example = match long {
                true => buried::long_example(mode, &mut draw)?,
                false => generate(kind, mode, &mut draw)?,
            };
            if example.split == Split::Train {
                if draw.one_in(HISTORY_ONE_IN) {
                    history::put_before(&mut example, &mut draw)?;
                }
                return Ok(example);
            }
        }
        Err(TasksError::Exhausted {
            split: Split::Train.name(),
            kind: kind.name(),
            tries: TRIES,
        })
    }

    /// A kind and mode by their weights.
    fn kind(&self, draw: &mut Draw) -> (Kind, Mode) {
        let mut left = draw.fraction() * self.total;
        let mut last = (Kind::Facts, Mode::Nothink);
        for &(kind, mode, weight) in &self.mix.weights {
            if weight > 0.0 {
                last = (kind, mode);
                if left < weight {
                    break;
                }
                left -= weight;
            }
        }
        last
    }
}

/// Held-out examples with different ids. Both modes of a kind get the same questions, so that
/// they can be held side by side.
///
/// # Errors
/// [`TasksError::Exhausted`] where the kind has not so many; those of [`generate`].
pub fn held_out(
    kind: Kind,
    mode: Mode,
    count: usize,
    seed: u64,
) -> Result<Vec<Example>, TasksError> {
    let tries = 100_000 + 1_000 * count;
    let mut draw = Draw::new(seed, kind as u64);
    let mut seen = HashSet::new();
    let mut examples = Vec::with_capacity(count);
    for _ in 0..tries {
        if examples.len() == count {
            return Ok(examples);
        }
        let example = generate(kind, mode, &mut draw)?;
        if example.split == Split::HeldOut && seen.insert(example.id.clone()) {
            examples.push(example);
        }
    }
    Err(TasksError::Exhausted {
        split: Split::HeldOut.name(),
        kind: kind.name(),
        tries,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::example::spell;
    use crate::generate::modes;
    use crate::length;
    use crate::split::hash;

    fn every() -> impl Iterator<Item = (Kind, Mode)> {
        let pairs = |kind| modes(kind).iter().map(move |&mode| (kind, mode));
        Kind::ALL.into_iter().flat_map(pairs)
    }

    /// Breaks with: any change of any text or draw. The committed weights were trained on this
    /// corpus, so a change wants a new training run; then put the number here that this test
    /// prints as `left`.
    #[test]
    fn the_first_thousand_examples_are_pinned() {
        let corpus = Corpus::new(0, Mix::default()).unwrap();
        let lines: Vec<String> = (0..1000)
            .map(|index| serde_json::to_string(&corpus.example(index).unwrap()).unwrap())
            .collect();
        assert!(lines.iter().all(|line| !line.contains('\n')));
        assert_eq!(
            hash(&lines.join("\n")),
            17_694_143_161_400_930_909,
            "{}",
            lines[0]
        );
    }

    /// Breaks with: a line without one of the fields, or with the control tokens left out.
    #[test]
    fn an_example_is_one_line_of_json() {
        let example = Corpus::new(0, Mix::default()).unwrap().example(0).unwrap();
        let value = serde_json::to_value(&example).unwrap();
        let fields: Vec<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(fields, ["id", "kind", "mode", "split", "turns"]);
        assert_eq!(value["split"], "train");
        let turn = &value["turns"][0];
        let given = turn["given"].as_str().unwrap();
        assert!(given.starts_with("<｜begin▁of▁sentence｜>"), "{given}");
        let answer = turn["answer"].as_str().unwrap();
        assert_eq!(answer, spell(&example.turns[0].answer));
        assert!(turn["check"]["check"].is_string());
    }

    /// Breaks with: a part that follows from the seed or from anything but the id.
    #[test]
    fn parts_share_no_id_whatever_the_seeds() {
        for (kind, mode) in every() {
            let held = held_out(kind, mode, 60, 3).unwrap();
            let ids: HashSet<&str> = held.iter().map(|example| example.id.as_str()).collect();
            assert_eq!(ids.len(), 60, "{kind:?}: ids twice");
            let only = Mix {
                weights: vec![(kind, mode, 1.0)],
                ..Mix::default()
            };
            let corpus = Corpus::new(9, only).unwrap();
            for index in 0..1500 {
                let example = corpus.example(index).unwrap();
                assert_eq!((example.kind, example.mode), (kind, mode));
                assert_eq!(example.split, Split::Train);
                assert_eq!(Split::of(&example.id), Split::Train);
                assert!(!ids.contains(example.id.as_str()), "{}", example.id);
            }
            for example in &held {
                assert_eq!(Split::of(&example.id), Split::HeldOut, "{}", example.id);
            }
        }
    }

    /// Breaks with: a kind with too few tasks to score 200 of them.
    #[test]
    fn every_kind_has_two_hundred_held_out() {
        for (kind, mode) in every() {
            held_out(kind, mode, 200, 1).unwrap();
        }
    }

    /// Breaks with: a generator that draws something by the mode before its parameters.
    #[test]
    fn both_modes_ask_the_same() {
        for kind in Kind::ALL {
            let of = |mode: &Mode| {
                let held = held_out(kind, *mode, 40, 5).unwrap();
                held.into_iter()
                    .map(|example| example.id)
                    .collect::<Vec<_>>()
            };
            let all: Vec<_> = modes(kind).iter().map(of).collect();
            assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{kind:?}");
        }
    }

    /// Breaks with: reasoning so long that training on short sequences cuts it off.
    #[test]
    fn examples_are_short() {
        for (kind, mode) in every() {
            if matches!(kind, Kind::Buried | Kind::Tools | Kind::Search | Kind::Fim) {
                continue;
            }
            let mut draw = Draw::new(2, 0);
            for _ in 0..4000 {
                let example = generate(kind, mode, &mut draw).unwrap();
                let tokens: usize = example
                    .turns
                    .iter()
                    .map(|turn| {
                        length::of_segments(&turn.given) + length::of_segments(&turn.answer)
                    })
                    .sum();
                assert!(tokens <= 250, "{tokens} tokens: {}", example.id);
            }
        }
    }

    /// Breaks with: weights that nothing can be drawn by, taken without a word.
    #[test]
    fn bad_mixes_are_refused() {
        let mix = |weight| Mix {
            weights: vec![(Kind::Facts, Mode::Think, weight)],
            ..Mix::default()
        };
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refused = Corpus::new(0, mix(weight));
            assert!(matches!(refused, Err(TasksError::Mix(_))), "{weight}");
        }
        for long_buried in [-0.1, 1.1, f64::NAN] {
            let mix = Mix {
                long_buried,
                ..Mix::default()
            };
            let refused = Corpus::new(0, mix);
            assert!(matches!(refused, Err(TasksError::Mix(_))), "{long_buried}");
        }
        let refused = generate(Kind::Fim, Mode::Think, &mut Draw::new(0, 0));
        assert!(matches!(refused, Err(TasksError::NoSuchMode { .. })));
    }

    /// Breaks with: a weight of 0 that is drawn, or shares that don't follow the weights.
    #[test]
    fn kinds_come_by_their_weights() {
        let mix = Mix {
            weights: vec![
                (Kind::Facts, Mode::Think, 3.0),
                (Kind::Units, Mode::Think, 0.0),
                (Kind::Counting, Mode::Nothink, 1.0),
            ],
            ..Mix::default()
        };
        let read: Mix = serde_json::from_str(&serde_json::to_string(&mix).unwrap()).unwrap();
        assert_eq!(read, mix);
        let corpus = Corpus::new(1, mix).unwrap();
        let kinds: Vec<Kind> = (0..4000).map(|i| corpus.example(i).unwrap().kind).collect();
        let facts = kinds.iter().filter(|kind| **kind == Kind::Facts).count();
        assert!((2900..3100).contains(&facts), "{facts}");
        assert!(!kinds.contains(&Kind::Units));
    }

    /// Breaks with: long texts in another part than the mix says, or in other kinds, or a recipe
    /// of before there were any that is written in another way.
    #[test]
    fn long_texts_come_by_their_part() {
        let weights = vec![
            (Kind::Buried, Mode::Nothink, 1.0),
            (Kind::Facts, Mode::Think, 1.0),
        ];
        let long_buried = 0.25;
        let mix = Mix {
            weights,
            long_buried,
        };
        let tokens = |example: &Example| length::of_segments(&example.turns[0].given);
        let corpus = Corpus::new(2, mix).unwrap();
        let examples: Vec<Example> = (0..4000).map(|i| corpus.example(i).unwrap()).collect();
        let long = examples.iter().filter(|e| tokens(e) > 400);
        let (mut buried, mut all) = (0, 0);
        for example in long {
            all += 1;
            buried += usize::from(example.kind == Kind::Buried);
        }
        assert_eq!(all, buried);
        assert!((440..560).contains(&buried), "{buried} of about 2,000");
        let plain = serde_json::to_string(&Mix::default()).unwrap();
        assert!(!plain.contains("long_buried"), "{plain}");
    }

    proptest! {
        /// Breaks with: anything drawn from outside of the seed and the index.
        #[test]
        fn an_example_follows_from_seed_and_index(seed in any::<u64>(), index in any::<u64>()) {
            let corpus = Corpus::new(seed, Mix::default()).unwrap();
            let example = corpus.example(index).unwrap();
            prop_assert_eq!(&example, &corpus.clone().example(index).unwrap());
            prop_assert_eq!(example.split, Split::Train);
            prop_assert!(!example.turns.is_empty());
        }
    }
}
