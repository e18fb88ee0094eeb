//! Packed checkpoints in the graph, against the same graph over the same values as floats.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Tensor, TensorData};
use common::{BLOCK, assert_close, devices, values};
use dsv3_kernels::Weight;
use dsv3_model::{
    AttentionForm, Checkpoint, ForwardBatch, LoadOptions, MlaForm, ParameterMut, Transformer,
};
use dsv3_weights::{ConvertFormat, ConvertOptions, convert};

/// The small model that ships: all its matrices have whole units of 32 columns.
fn source() -> Checkpoint {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/dsv3-tiny");
    Checkpoint::open(dir).unwrap()
}

fn packed(dir: &Path, format: ConvertFormat) -> Checkpoint {
    let options = ConvertOptions {
        format,
        ..ConvertOptions::default()
    };
    let out = dir.join("packed");
    convert(
        &source(),
        &out,
        &options,
        &mut |_| ControlFlow::Continue(()),
    )
    .unwrap();
    Checkpoint::open(&out).unwrap()
}

/// Logits of every position, the last one's in a step of its own: both forms of attention.
fn logits(model: &Transformer, prompt: &[u32]) -> Vec<f32> {
    let mut cache = model.new_cache(prompt.len().div_ceil(BLOCK), BLOCK);
    let blocks: Vec<u32> = (0..cache.blocks() as u32).collect();
    let mut all = Vec::new();
    let (last, first) = prompt.split_last().unwrap();
    for (tokens, cached) in [(first, 0), (&[*last][..], first.len())] {
        let mut batch = ForwardBatch::default();
        batch.push(tokens, cached, blocks.clone());
        batch.want_all_logits();
        all.extend(values(model.forward(&batch, &mut cache).unwrap().logits));
    }
    all
}

/// Breaks with: gate rows taken for up rows, an expert's slice that begins in another's, a scale
/// read from the padding, a packed weight loaded as something else.
#[test]
fn a_packed_model_computes_what_its_values_say() {
    let prompt: Vec<u32> = (0..40).map(|i| 5 + i * 37 % 2000).collect();
    for device in devices() {
        let options = |form| LoadOptions {
            attention: AttentionForm::Always(form),
            ..LoadOptions::new(device.device.clone())
        };
        let base = Transformer::load(&source(), &options(MlaForm::Absorbed)).unwrap();
        let base = logits(&base, &prompt);
        for (name, format, off) in [
            ("int8", ConvertFormat::Int8 { group: 64 }, 0.2),
            ("int4", ConvertFormat::Int4 { group: 32 }, 1.0),
        ] {
            let tmp = tempfile::tempdir().unwrap();
            let checkpoint = packed(tmp.path(), format);
            let mut plain = Transformer::load(&checkpoint, &options(MlaForm::Naive)).unwrap();
            let mut unpacked = 0;
            plain.visit_parameters(&mut |tensor, parameter| {
                if let ParameterMut::Matrix(weight) = parameter {
                    let shape = weight.shape();
                    let values = checkpoint.matrix_f32(tensor, shape).unwrap();
                    let data = TensorData::new(values, shape);
                    let data = Tensor::from_data(data, (&device.device, DType::F32));
                    *weight = Weight::plain(data);
                    unpacked += 1;
                }
            });
            assert!(unpacked > 200, "{unpacked}");
            let want = logits(&plain, &prompt);
            for form in [MlaForm::Naive, MlaForm::Absorbed] {
                let model = Transformer::load(&checkpoint, &options(form)).unwrap();
                let got = logits(&model, &prompt);
                let what = format!("{} {name} {form:?}", device.name);
                assert_close(&what, &got, &want, device.tolerance);
            }
            // Of the mean: on a text without meaning some choice of experts is close to another.
            let distances = want.iter().zip(&base).map(|(a, b)| (a - b).abs());
            let distance = distances.sum::<f32>() / want.len() as f32;
            assert!(distance > 0.0 && distance < off, "{name}: {distance}");
        }
    }
}
