use super::super::dots::padded_rows;
use super::super::lanes::InstructionSet;
use super::*;

/// Values in (-1, 1), from a seed.
fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(seed | 1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

struct Case {
    queries: Vec<f32>,
    visible: Vec<usize>,
    keys: Vec<f32>,
    values: Vec<f32>,
    key: usize,
    value: usize,
}

const SCALE: f32 = 0.7;

impl Case {
    fn new(seed: u64, visible: Vec<usize>, key: usize, value: usize) -> Self {
        let n = visible.iter().copied().max().unwrap_or_default();
        Case {
            queries: random(seed, visible.len() * key),
            visible,
            keys: random(seed + 1, n * key),
            values: random(seed + 2, n * value),
            key,
            value,
        }
    }

    fn tokens(&self) -> usize {
        self.keys.len() / self.key
    }

    /// Over stretches of so many keys, merged.
    fn run(&self, set: InstructionSet, stretch: usize) -> Vec<f32> {
        let units = self.key.div_ceil(UNIT);
        let in_order: Vec<usize> = (0..self.tokens()).collect();
        let mut whole: Option<State> = None;
        for start in (0..self.tokens()).step_by(stretch) {
            let mut state = State::new(self.visible.len(), self.value);
            set.run(Attend {
                queries: &padded_rows(self.queries.chunks_exact(self.key)),
                visible: &self.visible,
                source: InPlace {
                    keys: Table {
                        data: &padded_rows(self.keys.chunks_exact(self.key)),
                        slots: &in_order,
                        stride: units,
                        width: units,
                    },
                    values: Table {
                        data: &self.values,
                        slots: &in_order,
                        stride: self.value,
                        width: self.value,
                    },
                },
                range: start..(start + stretch).min(self.tokens()),
                softmax_scale: SCALE,
                state: &mut state,
            });
            match &mut whole {
                Some(whole) => whole.merge(&state),
                None => whole = Some(state),
            }
        }
        let whole = whole.unwrap();
        let means = (0..self.visible.len()).flat_map(|q| whole.mean(q));
        means.collect()
    }

    /// From the definition, in f64.
    fn want(&self) -> Vec<f64> {
        let mut means = Vec::new();
        for (query, visible) in self.queries.chunks_exact(self.key).zip(&self.visible) {
            let keys = self.keys.chunks_exact(self.key).take(*visible);
            let scores = keys.map(|key| {
                let terms = key.iter().zip(query);
                let dot: f64 = terms.map(|(k, q)| f64::from(*k) * f64::from(*q)).sum();
                (dot * f64::from(SCALE)).exp()
            });
            let scores: Vec<f64> = scores.collect();
            let total: f64 = scores.iter().sum();
            means.extend((0..self.value).map(|v| {
                let values = self.values.iter().skip(v).step_by(self.value);
                let terms = scores.iter().zip(values);
                terms.map(|(s, value)| s * f64::from(*value)).sum::<f64>() / total
            }));
        }
        means
    }
}

/// Breaks with: keys of a tile's end read twice or not at all, a mask off by one, sums that are
/// not brought to a new maximum, stretches merged with the wrong weights.
#[test]
fn means_are_those_of_the_definition() {
    for (visible, key, value) in [
        (vec![1], 8, 5),
        (vec![3, 4, 5], 40, 16),
        (vec![63, 64, 65, 66, 67], 33, 70),
        (vec![300; 7], 96, 64),
        (vec![2, 900], 20, 130),
    ] {
        let case = Case::new(7, visible, key, value);
        let want = case.want();
        for set in InstructionSet::available() {
            for stretch in [50, 128, 100_000] {
                for (got, want) in case.run(set, stretch).iter().zip(&want) {
                    assert!(
                        (f64::from(*got) - want).abs() < 2e-6,
                        "{got} {want} {set:?}"
                    );
                }
            }
        }
    }
}

/// Breaks with: instructions that round otherwise, a query whose neighbours change its sums.
#[test]
fn a_query_has_the_same_bits_alone_and_on_every_set() {
    let case = Case::new(3, vec![150, 90, 149, 150, 20, 7], 70, 37);
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let together = case.run(InstructionSet::Portable, 128);
    for set in InstructionSet::available() {
        assert_eq!(bits(&case.run(set, 128)), bits(&together), "{set:?}");
    }
    for (q, visible) in case.visible.iter().enumerate() {
        let alone = Case {
            queries: case.queries[q * case.key..][..case.key].to_vec(),
            visible: vec![*visible],
            keys: case.keys.clone(),
            values: case.values.clone(),
            ..case
        };
        let got = alone.run(InstructionSet::best(), 128);
        assert_eq!(bits(&got), bits(&together[q * case.value..][..case.value]));
    }
}
