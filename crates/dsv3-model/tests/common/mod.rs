//! Golden sets, devices and comparisons that the tests of this crate share.
#![allow(dead_code, unreachable_pub)] // each test binary uses its part

use std::collections::HashMap;
use std::path::PathBuf;

use burn::tensor::{Device, Int, Tensor};
use dsv3_model::{Checkpoint, ForwardBatch, LatentCache, LoadOptions, Trace, Transformer};
use safetensors::{Dtype, SafeTensors};

/// The folder of golden set `name`.
pub fn set_dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/golden")
        .join(name)
}

/// Every set that ships.
pub const SETS: [&str; 8] = [
    "base",
    "noqlora",
    "nogroup",
    "negbias",
    "realdims",
    "mtp",
    "fp8_ue8m0",
    "fp8_f32odd",
];

/// What the reference implementation computed for one checkpoint.
pub struct Golden {
    pub name: String,
    pub checkpoint: Checkpoint,
    pub json: serde_json::Value,
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Golden {
    pub fn open(name: &str) -> Self {
        let dir = set_dir(name);
        let json = std::fs::read(dir.join("golden.json")).unwrap();
        let bytes = std::fs::read(dir.join("golden.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors.iter().map(|(name, view)| {
            let words = view.data().chunks_exact(4).map(|b| b.try_into().unwrap());
            let values = match view.dtype() {
                Dtype::F32 => words.map(f32::from_le_bytes).collect(),
                Dtype::I32 => words.map(|b| i32::from_le_bytes(b) as f32).collect(),
                other => panic!("{name} is {other:?}"),
            };
            (name.to_owned(), (view.shape().to_vec(), values))
        });
        Golden {
            name: name.to_owned(),
            checkpoint: Checkpoint::open(dir.join("model")).unwrap(),
            json: serde_json::from_slice(&json).unwrap(),
            tensors: tensors.collect(),
        }
    }

    pub fn tensor(&self, name: &str) -> &[f32] {
        &self.tensors[name].1
    }

    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.tensors.get(name).map(|t| t.1.as_slice())
    }

    pub fn ids(&self, key: &str) -> Vec<u32> {
        let ids = self.json[key].as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    }

    pub fn number(&self, key: &str) -> f64 {
        self.json[key].as_f64().unwrap()
    }

    pub fn prompt(&self) -> Vec<u32> {
        self.ids("prompt")
    }

    pub fn model(&self, options: &LoadOptions) -> Transformer {
        Transformer::load(&self.checkpoint, options).unwrap()
    }
}

/// A device to run a suite on, and how far its f32 logits may lie from the reference's.
pub struct TestDevice {
    pub name: &'static str,
    pub device: Device,
    pub tolerance: f32,
}

/// The CPU, and wgpu where the build has it and the machine an adapter.
pub fn devices() -> Vec<TestDevice> {
    #[allow(unused_mut)]
    let mut devices = vec![TestDevice {
        name: "cpu",
        device: Device::flex(),
        tolerance: 1e-4,
    }];
    #[cfg(feature = "wgpu")]
    match dsv3_kernels::DeviceSpec::Wgpu(None).open() {
        Ok(device) => devices.push(TestDevice {
            name: "wgpu",
            device,
            // A shader's exp and division may be a few units in the last place off where the
            // CPU's are not (WGSL specification, "Floating point accuracy").
            tolerance: 2e-4,
        }),
        Err(error) => println!("skipped: no wgpu adapter ({error})"),
    }
    #[cfg(feature = "cuda")]
    match dsv3_kernels::DeviceSpec::Cuda(None).open() {
        Ok(device) => devices.push(TestDevice {
            name: "cuda",
            device,
            // CUDA's fast exp and another order of summation
            tolerance: 2e-4,
        }),
        Err(error) => println!("skipped: no cuda device ({error})"),
    }
    devices
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

pub fn max_distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[track_caller]
pub fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    let distance = max_distance(actual, expected);
    assert!(
        distance <= tolerance,
        "{what}: {distance} apart, {tolerance} allowed"
    );
}

pub fn argmax(logits: &[f32]) -> u32 {
    let best = logits
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, (i, v)| {
            if *v > best.1 { (i, *v) } else { best }
        });
    best.0 as u32
}

pub const BLOCK: usize = 16;

/// A sequence with blocks of its own: `first`, `first + stride`, ...
pub struct Runner<'a> {
    pub model: &'a Transformer,
    pub cache: &'a mut LatentCache,
    pub blocks: Vec<u32>,
    pub cached: usize,
}

impl Runner<'_> {
    /// Logits of every one of `tokens`, `[T, vocab]`.
    pub fn feed(&mut self, tokens: &[u32]) -> Vec<f32> {
        let mut batch = ForwardBatch::default();
        batch.push(tokens, self.cached, self.blocks.clone());
        batch.want_all_logits();
        self.cached += tokens.len();
        values(self.model.forward(&batch, self.cache).unwrap().logits)
    }

    /// `n` greedy tokens after `last` logits.
    pub fn greedy(&mut self, mut last: Vec<f32>, n: usize) -> (Vec<u32>, Vec<f32>) {
        let vocab = self.model.args().vocab_size;
        let (mut ids, mut all) = (Vec::new(), Vec::new());
        for i in 0..n {
            let row = &last[last.len() - vocab..];
            all.extend_from_slice(row);
            ids.push(argmax(row));
            if i + 1 < n {
                last = self.feed(&[ids[i]]);
            }
        }
        (ids, all)
    }
}

/// Records everything a pass shows.
#[derive(Default)]
pub struct Recorder(pub HashMap<String, Vec<f32>>);

impl Trace for Recorder {
    fn attention(&mut self, layer: usize, output: &Tensor<2>) {
        self.0
            .insert(format!("f32.attn_out.{layer}"), values(output.clone()));
    }

    fn feed_forward(&mut self, layer: usize, output: &Tensor<2>) {
        self.0
            .insert(format!("f32.mlp_out.{layer}"), values(output.clone()));
    }

    fn hidden(&mut self, layer: usize, stream: &Tensor<2>) {
        self.0
            .insert(format!("f32.hidden.{layer}"), values(stream.clone()));
    }

    fn router(
        &mut self,
        layer: usize,
        logits: &Tensor<2>,
        ids: &Tensor<2, Int>,
        weights: &Tensor<2>,
    ) {
        let k = ids.dims()[1];
        let ids = ids
            .clone()
            .into_data()
            .convert::<i32>()
            .try_to_vec::<i32>()
            .unwrap();
        let weights = values(weights.clone());
        // the golden files list each token's experts by id
        let (mut sorted_ids, mut sorted_weights) = (Vec::new(), Vec::new());
        for (ids, weights) in ids.chunks(k).zip(weights.chunks(k)) {
            let mut pairs: Vec<_> = ids.iter().zip(weights).collect();
            pairs.sort_by_key(|(id, _)| **id);
            sorted_ids.extend(pairs.iter().map(|(id, _)| **id as f32));
            sorted_weights.extend(pairs.iter().map(|(_, w)| **w));
        }
        self.0
            .insert(format!("f32.router.logits.{layer}"), values(logits.clone()));
        self.0.insert(format!("f32.router.idx.{layer}"), sorted_ids);
        self.0
            .insert(format!("f32.router.weight.{layer}"), sorted_weights);
    }
}
