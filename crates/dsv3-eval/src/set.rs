//! The held-out tasks of one evaluation.

use dsv3_tasks::{Draw, Example, Kind, Mode, Split, buried_of_length, held_out, modes};

use crate::error::EvalError;

/// Tokens within which the buried fact is asked for: from the trained lengths to beyond.
pub const BURIED_LENGTHS: [usize; 5] = [128, 256, 512, 1024, 2048];

/// The seed's stream for the curve; those of the generators are below. It is one stream for all
/// lengths and modes, because the same draw asks the same there: the curve's points differ by
/// length alone.
const CURVE_STREAM: u64 = 1 << 40;

/// Each length is drawn this part shorter, since the generator counts tokens without a vocabulary
/// (up to 1% too few with the small model's): a length that is the model's context must fit in it.
const MARGIN: usize = 64;

/// Buried examples drawn for each that is wanted, since only the held-out ones count.
const TRIES: usize = 200;

/// What to ask.
#[derive(Debug, Clone, PartialEq)]
pub struct SetOptions {
    /// The same seed gives the same tasks.
    pub seed: u64,
    /// Tasks of each kind and mode. A quarter of it at each length of the buried fact.
    pub count: usize,
    /// Kinds to ask.
    pub kinds: Vec<Kind>,
    /// Modes to ask in, where a kind has them.
    pub modes: Vec<Mode>,
}

impl Default for SetOptions {
    fn default() -> Self {
        SetOptions {
            seed: 1,
            count: 200,
            kinds: Kind::ALL.to_vec(),
            modes: vec![Mode::Think, Mode::Nothink, Mode::Raw],
        }
    }
}

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// What is asked and how it is scored.
    pub example: Example,
    /// Within how many tokens, for a point on the buried fact's curve. `None` for a task that
    /// counts for its kind.
    pub buried_length: Option<usize>,
}

/// Tasks that training never sees, the same ones for the same options.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalSet {
    /// The tasks, kind by kind.
    pub tasks: Vec<Task>,
}

impl EvalSet {
    /// Draw the tasks.
    ///
    /// # Errors
    /// [`EvalError::Tasks`], [`EvalError::Empty`] where no kind has one of the modes.
    pub fn new(options: &SetOptions) -> Result<Self, EvalError> {
        let mut tasks = Vec::new();
        for kind in &options.kinds {
            let asked = modes(*kind).iter().filter(|m| options.modes.contains(m));
            for mode in asked {
                let examples = held_out(*kind, *mode, options.count, options.seed)?;
                tasks.extend(examples.into_iter().map(|example| Task {
                    example,
                    buried_length: None,
                }));
                if *kind == Kind::Buried {
                    tasks.extend(curve(*mode, options)?);
                }
            }
        }
        match tasks.is_empty() {
            true => Err(EvalError::Empty(
                "no kind that is asked for has one of the modes asked for".into(),
            )),
            false => Ok(EvalSet { tasks }),
        }
    }

    /// A fingerprint of all that is asked and expected: scores are comparable where it is the
    /// same (FNV-1a of 64 bits).
    pub fn fingerprint(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for task in &self.tasks {
            for byte in format!("{task:?}").bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        format!("{hash:016x}")
    }
}

/// The buried fact at each length.
fn curve(mode: Mode, options: &SetOptions) -> Result<Vec<Task>, EvalError> {
    let count = options.count.div_ceil(4);
    let mut tasks = Vec::with_capacity(count * BURIED_LENGTHS.len());
    for length in BURIED_LENGTHS {
        let mut draw = Draw::new(options.seed, CURVE_STREAM);
        let mut found = 0;
        for _ in 0..count * TRIES {
            if found == count {
                break;
            }
            let example = buried_of_length(length - length / MARGIN, mode, &mut draw)?;
            if example.split == Split::HeldOut {
                found += 1;
                tasks.push(Task {
                    example,
                    buried_length: Some(length),
                });
            }
        }
    }
    Ok(tasks)
}
