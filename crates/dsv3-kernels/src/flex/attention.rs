//! Latent attention: which queries meet which keys, in either form.
//!
//! A task is a sequence, a few heads and a stretch of its cached tokens. No `[T, S]` matrix is ever
//! held (see [`attend`](super::attend)). How the work is cut depends on the sequence alone, so its
//! numbers depend neither on its neighbours nor on the number of threads.

use std::ops::Range;

use super::attend::{Attend, InPlace, State, Table};
use super::blocks::Buffer;
use super::combine::Combine;
use super::decode::UNIT;
use super::dots::{Activated, Dots, padded_rows};
use super::lanes::InstructionSet;
use super::latents::{Apart, Stored, TakeApart, Tiles};
use super::rows::Rows;
use super::team;
use crate::spec::{MlaForm, MlaSpec, SequenceSpan};

/// Heads that share a pass over the cache in the absorbed form.
const HEADS: usize = 16;
/// Cached tokens of one task.
const STRETCH: usize = 2048;

/// One call's operands.
pub(super) struct Call<'a> {
    /// `[T, heads, nope + rope]`
    pub(super) query: &'a [f32],
    pub(super) cache: Stored<'a>,
    pub(super) block_size: usize,
    /// `[heads · (nope + value), latent]`
    pub(super) kv_b: &'a Rows,
    pub(super) spec: MlaSpec,
}

/// One sequence's cached tokens.
struct Cached {
    /// Where each is.
    slots: Vec<usize>,
    form: Form,
}

/// What all heads of a sequence share.
enum Form {
    /// Queries in the latent space, `[heads · n, units]`; every stretch of keys needs them.
    Absorbed(Vec<[f32; UNIT]>),
    /// Latents to be expanded, rotated keys to be put behind.
    Naive(Apart),
}

/// A part of a call: a sequence, heads, cached tokens.
struct Task {
    span: usize,
    heads: Range<usize>,
    keys: Range<usize>,
}

impl Call<'_> {
    /// → `[T, heads · value]`.
    pub(super) fn run(&self, spans: &[SequenceSpan], tokens: usize) -> Vec<f32> {
        let MlaSpec { heads, value, .. } = self.spec;
        let caches: Vec<Cached> = spans.iter().map(|span| self.cached(span)).collect();
        let tasks = self.tasks(spans);
        let states: Vec<State> = team::map(
            tasks.len(),
            || (),
            |(), task| {
                let task = &tasks[task];
                let (span, cached) = (&spans[task.span], &caches[task.span]);
                match &cached.form {
                    Form::Naive(apart) => self.naive(span, apart, task),
                    Form::Absorbed(queries) => self.absorbed(span, &cached.slots, task, queries),
                }
            },
        );
        // Stretches of the same heads stand one behind the other.
        let mut whole: Vec<(&Task, State)> = Vec::with_capacity(states.len());
        for (task, state) in tasks.iter().zip(states) {
            match whole.last_mut() {
                Some((_, first)) if task.keys.start > 0 => first.merge(&state),
                _ => whole.push((task, state)),
            }
        }
        let parts: Vec<Vec<f32>> = team::map(
            whole.len(),
            || (),
            |(), at| {
                let (task, state) = &whole[at];
                let means = state.means(); // [heads · n, value or latent]
                match spans[task.span].form {
                    MlaForm::Naive => means,
                    MlaForm::Absorbed => self.expanded(&task.heads, &means),
                }
            },
        );
        let mut out = vec![0f32; tokens * heads * value];
        for ((task, _), part) in whole.iter().zip(parts) {
            let rows = &spans[task.span].rows;
            for (i, part) in part.chunks_exact(value).enumerate() {
                let (h, row) = (
                    task.heads.start + i / rows.len(),
                    rows.start + i % rows.len(),
                );
                out[(row * heads + h) * value..][..value].copy_from_slice(part);
            }
        }
        out
    }

    fn tasks(&self, spans: &[SequenceSpan]) -> Vec<Task> {
        let heads = self.spec.heads;
        let mut tasks = Vec::new();
        for (at, span) in spans.iter().enumerate() {
            // Keys of the naive form are expanded for a head, so a task has all of them.
            let (group, stretch) = match span.form {
                MlaForm::Naive => (1, span.context.max(1)),
                MlaForm::Absorbed => (HEADS, STRETCH),
            };
            for first in (0..heads).step_by(group) {
                for start in (0..span.context).step_by(stretch) {
                    tasks.push(Task {
                        span: at,
                        heads: first..(first + group).min(heads),
                        keys: start..(start + stretch).min(span.context),
                    });
                }
            }
        }
        tasks
    }

    fn cached(&self, span: &SequenceSpan) -> Cached {
        let slots: Vec<usize> = span.slots(self.block_size).collect();
        let form = match span.form {
            MlaForm::Absorbed => Form::Absorbed(self.absorbed_queries(span)),
            MlaForm::Naive => Form::Naive(InstructionSet::best().run(TakeApart {
                stored: &self.cache,
                slots: &slots,
            })),
        };
        Cached { slots, form }
    }

    /// Query of token row `row`, head `h`, split into its two parts.
    fn query(&self, row: usize, h: usize) -> (&[f32], &[f32]) {
        let MlaSpec {
            heads, nope, rope, ..
        } = self.spec;
        self.query[(row * heads + h) * (nope + rope)..][..nope + rope].split_at(nope)
    }

    /// First of head `h`'s rows of `kv_b`: `nope` for keys, then `value` for values.
    fn head_rows(&self, h: usize) -> usize {
        h * (self.spec.nope + self.spec.value)
    }

    /// `rows[range] · x`, `x [n, latent]` → `[rows of the range, n]`.
    fn multiply(&self, range: Range<usize>, x: &Activated<'_>, n: usize) -> Vec<f32> {
        let mut y = vec![0f32; range.len() * n];
        InstructionSet::best().run(Dots {
            x,
            rows: self.kv_b,
            range,
            y: &mut y,
            buffer: &mut Buffer::default(),
        });
        y
    }

    /// For each row of a span, how many cached tokens it sees, as often as there are heads.
    fn visible(span: &SequenceSpan, heads: usize) -> Vec<usize> {
        (0..heads * span.rows.len())
            .map(|q| span.visible(q % span.rows.len()))
            .collect()
    }

    /// Expand this head's keys and values, then attend: means `[n, value]`.
    fn naive(&self, span: &SequenceSpan, apart: &Apart, task: &Task) -> State {
        let MlaSpec {
            nope,
            rope,
            value,
            softmax_scale,
            ..
        } = self.spec;
        let (h, n) = (task.heads.start, span.context);
        let latents = Activated::new(&apart.latents, n); // [S, latent]
        let first = self.head_rows(h);
        let nopes = self.multiply(first..first + nope, &latents, n); // [nope, S]
        let wide = self.multiply(first + nope..first + nope + value, &latents, n); // [value, S]
        let keys = (0..n).map(|i| {
            let nope = nopes.iter().skip(i).step_by(n);
            let rotated = &apart.keys[i * rope..][..rope];
            nope.chain(rotated).copied().collect::<Vec<f32>>() // [nope + rope]
        });
        let keys = padded_rows(keys);
        let values = super::linear::transpose(wide, value, n); // [S, value]
        let queries = span.rows.clone().map(|row| {
            let (q_nope, q_pe) = self.query(row, h);
            [q_nope, q_pe].concat()
        });
        let units = (nope + rope).div_ceil(UNIT);
        let in_order: Vec<usize> = (0..n).collect();
        let mut state = State::new(span.rows.len(), value);
        InstructionSet::best().run(Attend {
            queries: &padded_rows(queries),
            visible: &Self::visible(span, 1),
            source: InPlace {
                keys: Table {
                    data: &keys,
                    slots: &in_order,
                    stride: units,
                    width: units,
                },
                values: Table {
                    data: &values,
                    slots: &in_order,
                    stride: value,
                    width: value,
                },
            },
            range: task.keys.clone(),
            softmax_scale,
            state: &mut state,
        });
        state
    }

    /// Queries of all heads in the latent space, with their rotated part behind:
    /// `[heads · n, units]`.
    fn absorbed_queries(&self, span: &SequenceSpan) -> Vec<[f32; UNIT]> {
        let MlaSpec {
            heads,
            nope,
            latent,
            ..
        } = self.spec;
        let rows: Vec<Vec<Vec<f32>>> = team::map(
            heads,
            || (),
            |(), h| {
                let units = latent.div_ceil(UNIT);
                let rows = || span.rows.clone().map(|row| self.query(row, h));
                let mut queries = vec![[0f32; UNIT]; rows().len() * units];
                let first = self.head_rows(h);
                InstructionSet::best().run(Combine {
                    rows: self.kv_b,
                    range: first..first + nope,
                    factors: &rows().map(|(q_nope, _)| q_nope).collect::<Vec<_>>(),
                    to: &mut queries,
                });
                let rotated = rows().map(|(_, q_pe)| q_pe).collect::<Vec<_>>();
                let latents = queries.chunks_exact(units.max(1));
                let whole = latents.zip(rotated).map(|(units, q_pe)| {
                    let mut query = units.as_flattened()[..latent].to_vec();
                    query.extend_from_slice(q_pe);
                    query // [latent + rope]
                });
                whole.collect()
            },
        );
        padded_rows(rows.into_iter().flatten())
    }

    /// Attend in the latent space: means `[heads of the task · n, latent]`.
    fn absorbed(
        &self,
        span: &SequenceSpan,
        slots: &[usize],
        task: &Task,
        queries: &[[f32; UNIT]],
    ) -> State {
        let MlaSpec {
            latent,
            softmax_scale,
            ..
        } = self.spec;
        let units = self.cache.units();
        let count = task.heads.len() * span.rows.len();
        let first = task.heads.start * span.rows.len();
        let mut state = State::new(count, latent);
        let (queries, visible) = (
            &queries[first * units..][..count * units],
            &Self::visible(span, task.heads.len()),
        );
        match self.cache.in_place() {
            Some((units_of_all, values)) => {
                InstructionSet::best().run(Attend {
                    queries,
                    visible,
                    source: InPlace {
                        keys: Table {
                            data: units_of_all,
                            slots,
                            stride: units,
                            width: units,
                        },
                        values: Table {
                            data: values,
                            slots,
                            stride: units * UNIT,
                            width: latent,
                        },
                    },
                    range: task.keys.clone(),
                    softmax_scale,
                    state: &mut state,
                });
            }
            None => InstructionSet::best().run(Attend {
                queries,
                visible,
                source: Tiles::new(&self.cache, slots),
                range: task.keys.clone(),
                softmax_scale,
                state: &mut state,
            }),
        }
        state
    }

    /// Means in the latent space `[heads · n, latent]` to values `[heads · n, value]`.
    fn expanded(&self, heads: &Range<usize>, means: &[f32]) -> Vec<f32> {
        let MlaSpec {
            nope,
            value,
            latent,
            ..
        } = self.spec;
        let n = means.len() / latent / heads.len();
        let mut out = Vec::with_capacity(heads.len() * n * value);
        for (h, means) in heads.clone().zip(means.chunks_exact(n * latent)) {
            let first = self.head_rows(h) + nope;
            let values = self.multiply(first..first + value, &Activated::new(means, n), n);
            out.extend(super::linear::transpose(values, value, n)); // [n, value]
        }
        out
    }
}
