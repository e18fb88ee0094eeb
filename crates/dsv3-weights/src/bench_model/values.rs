//! Random values: each a function of the seed, its tensor's name and its place in the tensor, so
//! that neither the order of the work nor the number of threads shows in a file.

use half::bf16;
use rayon::prelude::*;

use crate::fnv::Fnv;
use crate::fp8;
use crate::layout::{Component, TensorSpec};
use crate::output::Sink;
use crate::{Dtype, Quantization, WeightsError};

/// How many elements are held at once, unless one row of blocks has more.
const CHUNK_ELEMENTS: usize = 1 << 22;

/// How many of them a thread draws at a time.
const PIECE_ELEMENTS: usize = 1 << 14;

/// Standard deviation of the norms' weights around 1.
const NORM_DEVIATION: f32 = 0.1;

/// Standard deviation of correction biases around 0: they choose among experts whose scores are
/// close, and leave the load nearly even.
const BIAS_DEVIATION: f32 = 0.01;

/// Hands all bytes of a weight, and of its scales if it gets any, to `sink`.
pub(super) fn write(
    spec: &TensorSpec,
    quantization: Option<Quantization>,
    seed: u64,
    sink: &mut Sink<'_>,
) -> Result<(), WeightsError> {
    let draw = Draw::new(spec, seed);
    match (spec.dtype_published, quantization, &spec.shape[..]) {
        (Dtype::F8E4M3, Some(quantization), &[rows, cols]) => {
            write_fp8(&draw, quantization, [rows, cols], sink)
        }
        (Dtype::F32, ..) => draw.by_chunks(&spec.shape, 4, sink, f32_bytes),
        _ => draw.by_chunks(&spec.shape, 2, sink, bf16_bytes),
    }
}

fn write_fp8(
    draw: &Draw,
    quantization: Quantization,
    [rows, cols]: [usize; 2],
    sink: &mut Sink<'_>,
) -> Result<(), WeightsError> {
    let block = quantization.weight_block_size;
    let strips = (CHUNK_ELEMENTS / block[0].saturating_mul(cols)).max(1);
    let step = block[0].saturating_mul(strips);
    let mut scales_done = 0;
    for row in (0..rows).step_by(step) {
        let (shape, first) = ([step.min(rows - row), cols], row * cols);
        let values = draw.values(first, shape[0] * cols); // [rows of the chunk, cols]
        let packed = fp8::quantize_block(&values, shape, block, quantization.scale_fmt)?;
        sink(0, first as u64, packed.data)?;
        let (at, scales) = (scales_done, f32_bytes(&packed.scale));
        scales_done += scales.len() as u64;
        sink(1, at, scales)?;
    }
    Ok(())
}

/// The values of one tensor.
struct Draw {
    key: u64,
    mean: f32,
    deviation: f32,
}

impl Draw {
    fn new(spec: &TensorSpec, seed: u64) -> Self {
        let mut name = Fnv::default();
        name.update(drawn_name(spec).as_bytes());
        let (mean, deviation) = distribution(spec);
        Self {
            key: mixed(name.finish() ^ mixed(seed)),
            mean,
            deviation,
        }
    }

    fn values(&self, first: usize, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        let pieces = values.par_chunks_mut(PIECE_ELEMENTS).enumerate();
        pieces.for_each(|(piece, values)| {
            let first = first + piece * PIECE_ELEMENTS;
            for (i, value) in values.iter_mut().enumerate() {
                *value = self.value((first + i) as u64);
            }
        });
        values
    }

    /// The sum of four even draws of 16 bits, which is nearly normal and the same on any machine:
    /// nothing of it is rounded before the last two operations.
    fn value(&self, index: u64) -> f32 {
        // The deviation of one even draw of 0..65536 is 65536 / √12, of four 65536 / √3.
        const DEVIATION: f32 = 37_837.227;
        const MEAN: i32 = 4 * 65_535 / 2;
        let bits = mixed(self.key.wrapping_add(index.wrapping_mul(GOLDEN)));
        let sum: i32 = [0, 16, 32, 48]
            .iter()
            .map(|at| i32::from((bits >> at) as u16))
            .sum();
        (sum - MEAN) as f32 * (self.deviation / DEVIATION) + self.mean
    }

    fn by_chunks(
        &self,
        shape: &[usize],
        size: usize, // bytes of an element
        sink: &mut Sink<'_>,
        encode: fn(&[f32]) -> Vec<u8>,
    ) -> Result<(), WeightsError> {
        let total: usize = shape.iter().product();
        for first in (0..total).step_by(CHUNK_ELEMENTS) {
            let values = self.values(first, CHUNK_ELEMENTS.min(total - first));
            sink(0, (first * size) as u64, encode(&values))?;
        }
        Ok(())
    }
}

/// The name under which a tensor is drawn: the MTP modules' copies are the main model's.
fn drawn_name(spec: &TensorSpec) -> &str {
    match spec.component {
        Component::MtpEmbedding => "model.embed_tokens.weight",
        Component::MtpLmHead => "lm_head.weight",
        _ => &spec.name,
    }
}

/// Mean and standard deviation. `1 / √in` makes a product as large as what goes in, so that
/// nothing overflows and nothing dies out however many layers there are.
fn distribution(spec: &TensorSpec) -> (f32, f32) {
    match (spec.component, &spec.shape[..]) {
        (Component::Embedding | Component::MtpEmbedding, _) => (0.0, 1.0),
        (_, [_, input]) => (0.0, 1.0 / (*input as f32).sqrt()),
        (Component::Router | Component::MtpRouter, _) => (0.0, BIAS_DEVIATION),
        _ => (1.0, NORM_DEVIATION),
    }
}

/// 2⁶⁴ divided by the golden ratio: SplitMix64's step.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function: every bit of the result depends on every bit of `x`.
fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn f32_bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn bf16_bytes(x: &[f32]) -> Vec<u8> {
    let mut out = vec![0; 2 * x.len()];
    let pairs = out.as_chunks_mut::<2>().0;
    pairs
        .par_iter_mut()
        .zip(x)
        .with_min_len(PIECE_ELEMENTS)
        .for_each(|(pair, x)| *pair = bf16::from_f32(*x).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(name: &str, seed: u64, shape: &[usize], component: Component) -> Draw {
        let spec = TensorSpec {
            name: name.into(),
            shape: shape.into(),
            component,
            quantizable: false,
            dtype_published: Dtype::BF16,
        };
        Draw::new(&spec, seed)
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let square = |x: &f32| (f64::from(*x) - mean).powi(2);
        (mean, (values.iter().map(square).sum::<f64>() / n).sqrt())
    }

    /// Breaks with: a deviation that is not the one promised, so that activations grow or vanish
    /// with depth; norms around 0, which would silence a layer.
    #[test]
    fn values_have_the_promised_moments() {
        let cases = [
            (&[64, 400][..], Component::Attention, (0.0, 0.05)),
            (&[64, 400], Component::Embedding, (0.0, 1.0)),
            (&[64, 400], Component::Router, (0.0, 0.05)),
            (&[256], Component::Router, (0.0, 0.01)),
            (&[400], Component::Norm, (1.0, 0.1)),
        ];
        for (shape, component, (mean, deviation)) in cases {
            let values = draw("x", 3, shape, component).values(0, 100_000);
            let found = moments(&values);
            assert!(
                (found.0 - mean).abs() < 0.02 * deviation,
                "{component} {found:?}"
            );
            assert!(
                (found.1 / deviation - 1.0).abs() < 0.01,
                "{component} {found:?}"
            );
        }
    }

    /// Breaks with: values that depend on where a chunk begins, or are the same in two tensors,
    /// under two seeds, or at two places.
    #[test]
    fn a_value_follows_from_seed_name_and_place() {
        let of = |name, seed| draw(name, seed, &[64, 400], Component::Attention);
        let all = of("a", 1).values(0, 40_000);
        assert_eq!(of("a", 1).values(17_001, 20_000), all[17_001..37_001]);
        let equal = |other: &[f32]| all.iter().zip(other).filter(|(a, b)| a == b).count();
        // Values have about 17 bits: of 40,000 pairs one or so agrees by chance.
        assert!(equal(&of("b", 1).values(0, 40_000)) < 20);
        assert!(equal(&of("a", 2).values(0, 40_000)) < 20);
        assert!(equal(&of("a", 1).values(1, 40_000)) < 20);
    }
}
