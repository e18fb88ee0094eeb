//! Values before the first step.

use dsv3_weights::{Component, Layout, ModelArgs, TensorSpec};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Normal values from a seed: the Box-Muller transform of a ChaCha8 stream.
struct Normal(ChaCha8Rng);

impl Normal {
    fn pair(&mut self) -> [f64; 2] {
        let uniform = |bits: u64| (((bits >> 11) as f64) + 0.5) / (1u64 << 53) as f64;
        let (u, v) = (uniform(self.0.next_u64()), uniform(self.0.next_u64()));
        let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * v);
        [radius * angle.cos(), radius * angle.sin()]
    }

    fn values(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        let pairs = std::iter::repeat_with(|| self.pair()).flatten();
        pairs.take(count).map(|x| (x * deviation) as f32).collect()
    }
}

/// The standard deviation of a matrix at the start.
///
/// `1 / √in` keeps a layer's output as large as its input; what adds to the residual stream is
/// smaller by `√(2 · layers)`, so that the stream does not grow with depth (GPT-2's rule). The
/// head begins near zero: the first loss is that of a uniform guess.
fn deviation(spec: &TensorSpec, args: &ModelArgs) -> f64 {
    let input = spec.shape.last().copied().unwrap_or(1).max(1) as f64;
    let depth = (2.0 * args.num_hidden_layers.max(1) as f64).sqrt();
    match spec.component {
        Component::Embedding | Component::MtpEmbedding => 0.3,
        Component::LmHead | Component::MtpLmHead => 0.1 / input.sqrt(),
        _ if spec.name.ends_with("o_proj.weight") || spec.name.ends_with("down_proj.weight") => {
            1.0 / input.sqrt() / depth
        }
        _ => 1.0 / input.sqrt(),
    }
}

/// The name under which a tensor is drawn: the MTP module's copies are the main model's.
fn drawn_name(spec: &TensorSpec) -> &str {
    match spec.component {
        Component::MtpEmbedding => "model.embed_tokens.weight",
        Component::MtpLmHead => "lm_head.weight",
        _ => &spec.name,
    }
}

/// Every tensor of `args` and its first values. Each depends on the seed and on its name alone.
pub fn initial_values(args: &ModelArgs, seed: u64) -> impl Iterator<Item = (TensorSpec, Vec<f32>)> {
    let args = args.clone();
    let specs: Vec<TensorSpec> = Layout::new(&args).tensors().collect();
    specs.into_iter().map(move |spec| {
        let count = spec.shape.iter().product();
        let values = match spec.shape.len() {
            2 => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(crate::data::hash_text(drawn_name(&spec)));
                Normal(rng).values(count, deviation(&spec, &args))
            }
            _ if spec.name.ends_with("e_score_correction_bias") => vec![0.0; count],
            _ => vec![1.0; count],
        };
        (spec, values)
    })
}
