//! Latent attention: which queries meet which keys, in either form.
//!
//! A task is a sequence, a few heads and a stretch of its cached tokens. No `[T, S]` matrix is ever
//! held (see [`attend`](super::attend)). Where a sequence's tokens are cut depends on the sequence
//! alone, and each head is summed by itself however many share a task, so its numbers depend
//! neither on its neighbours nor on the number of threads.

use std::ops::Range;

use super::attend::{Attend, InPlace, State, Table};
use super::combine::Combine;
use super::decode::UNIT;
use super::dots::padded_rows;
use super::lanes::InstructionSet;
use super::latents::{Apart, Stored, TakeApart, Tiles};
use super::product::{Buffer, Inputs, Product};
use super::rows::Rows;
use super::team;
use crate::packed::Activations;
use crate::spec::{MlaForm, MlaSpec, SequenceSpan};

/// Heads that share a pass over the cache in the absorbed form, at most.
const HEADS: usize = 32;
/// And at least: so many queries meet a key while it is in the registers.
const FEWEST_HEADS: usize = 4;
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

impl Cached {
    /// What the naive form expands, `[S, latent]`; nothing of the absorbed one.
    fn latents(&self) -> Inputs<'_> {
        let (latents, tokens): (&[f32], _) = match &self.form {
            Form::Naive(apart) => (&apart.latents, self.slots.len()),
            Form::Absorbed(_) => (&[], 0),
        };
        Inputs::new(InstructionSet::best(), latents, tokens, Activations::Full)
    }
}

/// Keys and values of a head, kept from one to the next.
#[derive(Default)]
struct Room {
    /// `[S, units]`
    keys: Vec<[f32; UNIT]>,
    /// `[S, value]`
    values: Vec<f32>,
    buffer: Buffer,
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
        let caches = self.caches(spans);
        let tasks = self.tasks(spans);
        let latents: Vec<_> = caches.iter().map(Cached::latents).collect();
        let latents: Vec<_> = latents.iter().map(|x| x.product(self.kv_b)).collect();
        let states: Vec<State> = team::map(tasks.len(), Room::default, |room, task| {
            let task = &tasks[task];
            let (span, cached) = (&spans[task.span], &caches[task.span]);
            match &cached.form {
                Form::Naive(apart) => self.naive(span, apart, &latents[task.span], task, room),
                Form::Absorbed(queries) => self.absorbed(span, &cached.slots, task, queries),
            }
        });
        // Stretches of the same heads stand one behind the other.
        let mut whole: Vec<(&Task, State)> = Vec::with_capacity(states.len());
        for (task, state) in tasks.iter().zip(states) {
            match whole.last_mut() {
                Some((_, first)) if task.keys.start > 0 => first.merge(&state),
                _ => whole.push((task, state)),
            }
        }
        let mut out = vec![0f32; tokens * heads * value]; // [T, heads · value]
        let mut of_heads: Vec<Vec<_>> = (0..heads).map(|_| Vec::with_capacity(tokens)).collect();
        for (at, y) in out.chunks_exact_mut(value.max(1)).enumerate() {
            of_heads[at % heads].push(Some(y));
        }
        team::for_each_chunk(&mut of_heads, 1, Buffer::default, |buffer, h, y| {
            y.iter_mut()
                .for_each(|y| self.finish(h, spans, &whole, y, buffer));
        });
        out
    }

    /// What head `h` makes of all tokens: `y [T]`, of which each is taken once, `[value]`. Means of
    /// the absorbed form are brought from the latent space to values.
    fn finish(
        &self,
        h: usize,
        spans: &[SequenceSpan],
        whole: &[(&Task, State)],
        y: &mut [Option<&mut [f32]>],
        buffer: &mut Buffer,
    ) {
        let MlaSpec { nope, value, .. } = self.spec;
        let mut latent = Vec::new(); // [n, latent]
        let mut values = Vec::new(); // where they go: each [value]
        for (task, state) in whole.iter().filter(|(task, _)| task.heads.contains(&h)) {
            let span = &spans[task.span];
            let first = (h - task.heads.start) * span.rows.len();
            for (n, row) in span.rows.clone().enumerate() {
                let (mean, Some(y)) = (state.mean(first + n), y[row].take()) else {
                    continue;
                };
                match span.form {
                    MlaForm::Naive => y.iter_mut().zip(mean).for_each(|(y, mean)| *y = mean),
                    MlaForm::Absorbed => {
                        latent.extend(mean);
                        values.push(y);
                    }
                }
            }
        }
        if values.is_empty() {
            return;
        }
        let (set, first) = (InstructionSet::best(), self.head_rows(h) + nope);
        let inputs = Inputs::new(set, &latent, values.len(), Activations::Full);
        let product = inputs.product(self.kv_b);
        product.dots(set, first..first + value, &mut values, buffer);
    }

    fn tasks(&self, spans: &[SequenceSpan]) -> Vec<Task> {
        let heads = self.spec.heads;
        // A pass over the cache serves many heads, where that leaves work for every thread.
        let shared = (heads * spans.len()).div_ceil(2 * rayon::current_num_threads());
        let shared = shared.next_multiple_of(FEWEST_HEADS).min(HEADS);
        let mut tasks = Vec::new();
        for (at, span) in spans.iter().enumerate() {
            // Keys of the naive form are expanded for a head, so a task has all of them.
            let (group, stretch) = match span.form {
                MlaForm::Naive => (1, span.context.max(1)),
                MlaForm::Absorbed => (shared, STRETCH),
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

    fn caches(&self, spans: &[SequenceSpan]) -> Vec<Cached> {
        let absorbed: Vec<&SequenceSpan> = spans
            .iter()
            .filter(|span| span.form == MlaForm::Absorbed)
            .collect();
        let mut queries = self.absorbed_queries(&absorbed).into_iter();
        let cached = spans.iter().map(|span| {
            let slots: Vec<usize> = span.slots(self.block_size).collect();
            let form = match span.form {
                MlaForm::Absorbed => Form::Absorbed(queries.next().unwrap_or_default()),
                MlaForm::Naive => Form::Naive(InstructionSet::best().run(TakeApart {
                    stored: &self.cache,
                    slots: &slots,
                })),
            };
            Cached { slots, form }
        });
        cached.collect()
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

    /// For each row of a span, how many cached tokens it sees, as often as there are heads.
    fn visible(span: &SequenceSpan, heads: usize) -> Vec<usize> {
        (0..heads * span.rows.len())
            .map(|q| span.visible(q % span.rows.len()))
            .collect()
    }

    /// Expand this head's keys and values, then attend: means `[n, value]`.
    fn naive(
        &self,
        span: &SequenceSpan,
        apart: &Apart,
        latents: &Product<'_>, // [S, latent]
        task: &Task,
        room: &mut Room,
    ) -> State {
        let MlaSpec {
            nope,
            rope,
            value,
            softmax_scale,
            ..
        } = self.spec;
        let (h, n) = (task.heads.start, span.context);
        let first = self.head_rows(h);
        let units = (nope + rope).div_ceil(UNIT);
        let in_order: Vec<usize> = (0..n).collect();
        room.keys.clear();
        room.keys.resize(n * units, [0.0; UNIT]); // [S, nope + rope]
        let keys = room.keys.as_flattened_mut().chunks_exact_mut(units * UNIT);
        let keys = keys.zip(apart.keys.chunks_exact(rope));
        let mut nopes: Vec<&mut [f32]> = keys
            .map(|(key, rotated)| {
                let (to, rest) = key.split_at_mut(nope);
                rest[..rope].copy_from_slice(rotated);
                to
            })
            .collect();
        let set = InstructionSet::best();
        latents.dots(set, first..first + nope, &mut nopes, &mut room.buffer);
        room.values.resize(n * value, 0.0); // [S, value]
        let mut values: Vec<&mut [f32]> = room.values.chunks_exact_mut(value).collect();
        let range = first + nope..first + nope + value;
        latents.dots(set, range, &mut values, &mut room.buffer);
        let queries = span.rows.clone().map(|row| {
            let (q_nope, q_pe) = self.query(row, h);
            [q_nope, q_pe].concat()
        });
        let mut state = State::new(span.rows.len(), value);
        set.run(Attend {
            queries: &padded_rows(queries),
            visible: &Self::visible(span, 1),
            source: InPlace {
                keys: Table {
                    data: &room.keys,
                    slots: &in_order,
                    stride: units,
                    width: units,
                },
                values: Table {
                    data: &room.values,
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

    /// Queries of all heads in the latent space, with their rotated part behind, of each span
    /// `[heads · n, units]`. A head's rows of `kv_b` are read once for all spans.
    fn absorbed_queries(&self, spans: &[&SequenceSpan]) -> Vec<Vec<[f32; UNIT]>> {
        let MlaSpec {
            heads,
            nope,
            latent,
            rope,
            ..
        } = self.spec;
        let (units, whole) = (latent.div_ceil(UNIT), (latent + rope).div_ceil(UNIT));
        let rows = || spans.iter().flat_map(|span| span.rows.clone());
        let n = rows().count();
        let of_heads: Vec<Vec<[f32; UNIT]>> = team::map(
            if n == 0 { 0 } else { heads },
            || (),
            |(), h| {
                let mut queries = vec![[0f32; UNIT]; n * units];
                let first = self.head_rows(h);
                InstructionSet::best().run(Combine {
                    rows: self.kv_b,
                    range: first..first + nope,
                    factors: &rows().map(|row| self.query(row, h).0).collect::<Vec<_>>(),
                    to: &mut queries,
                });
                let latents = queries.chunks_exact(units.max(1));
                let queries = latents.zip(rows()).map(|(units, row)| {
                    let mut query = units.as_flattened()[..latent].to_vec();
                    query.extend_from_slice(self.query(row, h).1);
                    query // [latent + rope]
                });
                padded_rows(queries) // [n, units]
            },
        );
        let mut before = 0;
        let of_spans = spans.iter().map(|span| {
            let at = before * whole..(before + span.rows.len()) * whole;
            before += span.rows.len();
            of_heads
                .iter()
                .flat_map(|h| h[at.clone()].iter().copied())
                .collect()
        });
        of_spans.collect()
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
}
