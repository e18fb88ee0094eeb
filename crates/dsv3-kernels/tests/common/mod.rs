//! Random operands and devices for the oracle pairs.
#![allow(dead_code, unreachable_pub)] // each test binary uses its part

use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use dsv3_kernels::{ExpertWeights, GroupCodes, GroupFormat, HalfFormat, Weight};
use dsv3_weights::fp8::f32_to_e4m3;
use half::{bf16, f16};

/// Deterministic values in (−1, 1): a test's numbers follow from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (((self.next() + 1.0) / 2.0 * n as f32) as usize).min(n - 1)
    }

    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    pub fn matrix(&mut self, rows: usize, columns: usize, device: &Device) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(self.vec(rows * columns), [rows, columns]),
            device,
        )
    }

    /// A weight in one of the formats; scaled so that a product over its columns stays near 1.
    pub fn weight(&mut self, format: Format, shape: [usize; 2], device: &Device) -> Weight {
        let size = 1.7 / (shape[1] as f32).sqrt();
        let values = self.vec(shape[0] * shape[1]).into_iter().map(|v| v * size);
        match format {
            Format::Plain => {
                let data = TensorData::new(values.collect::<Vec<_>>(), shape);
                Weight::plain(Tensor::from_data(data, device))
            }
            Format::Bf16 => {
                let bytes: Vec<u8> = values
                    .flat_map(|v| bf16::from_f32(v).to_le_bytes())
                    .collect();
                Weight::half(bytes.into(), HalfFormat::Bf16, shape, device).unwrap()
            }
            Format::F16 => {
                let bytes: Vec<u8> = values
                    .flat_map(|v| f16::from_f32(v).to_le_bytes())
                    .collect();
                Weight::half(bytes.into(), HalfFormat::F16, shape, device).unwrap()
            }
            Format::Fp8(block) => {
                let bytes: Vec<u8> = values.map(|v| f32_to_e4m3(v * 300.0)).collect();
                let blocks = shape[0].div_ceil(block[0]) * shape[1].div_ceil(block[1]);
                let scale = (0..blocks).map(|_| (self.next() + 1.5) / 300.0).collect();
                Weight::fp8_block(bytes.into(), scale, block, shape, device).unwrap()
            }
            Format::Group(codes, columns) => {
                // Codes stand in units of 32; other formats are tested with odd inputs.
                assert!(shape[1].is_multiple_of(32), "{shape:?}");
                let bits = if codes == GroupCodes::Int8 { 8 } else { 4 };
                let (code_bytes, groups) = (shape[1] * bits / 8, shape[1].div_ceil(columns));
                let offset = 64 * self.below(2);
                let row_bytes = (offset + code_bytes + 2 * groups).next_multiple_of(64);
                let mut bytes = Vec::with_capacity(shape[0] * row_bytes);
                for _ in 0..shape[0] {
                    let end = bytes.len() + row_bytes;
                    bytes.resize(end - row_bytes + offset, 0x5a);
                    bytes.extend((0..code_bytes).map(|_| self.below(256) as u8));
                    let scale = size / (1 << (bits - 1)) as f32;
                    let scales = (0..groups).map(|_| f16::from_f32(self.next() * scale));
                    bytes.extend(scales.flat_map(f16::to_le_bytes));
                    bytes.resize(end, 0);
                }
                let format = GroupFormat {
                    codes,
                    columns,
                    row_bytes,
                    offset,
                };
                Weight::group(bytes.into(), format, shape, device).unwrap()
            }
        }
    }

    pub fn experts(
        &mut self,
        format: Format,
        count: usize,
        [hidden, inter]: [usize; 2],
        device: &Device,
    ) -> Vec<ExpertWeights> {
        (0..count)
            .map(|_| ExpertWeights {
                gate: self.weight(format, [inter, hidden], device),
                up: self.weight(format, [inter, hidden], device),
                down: self.weight(format, [hidden, inter], device),
            })
            .collect()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Format {
    Plain,
    Bf16,
    F16,
    Fp8([usize; 2]),
    /// Codes, and columns that share a scale.
    Group(GroupCodes, usize),
}

pub fn devices() -> Vec<(&'static str, Device)> {
    #[allow(unused_mut)]
    let mut devices = vec![("cpu", Device::flex())];
    #[cfg(feature = "wgpu")]
    match dsv3_kernels::DeviceSpec::Wgpu(None).open() {
        Ok(device) => devices.push(("wgpu", device)),
        Err(error) => println!("skipped: no wgpu adapter ({error})"),
    }
    #[cfg(feature = "cuda")]
    match dsv3_kernels::DeviceSpec::Cuda(None).open() {
        Ok(device) => devices.push(("cuda", device)),
        Err(error) => println!("skipped: no cuda device ({error})"),
    }
    devices
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

pub fn ids(tensor: Tensor<2, Int>) -> Vec<i32> {
    tensor.into_data().convert::<i32>().try_to_vec().unwrap()
}

#[track_caller]
pub fn assert_close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{what}: lengths differ");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * b.abs().max(1.0),
            "{what}: element {i} is {a}, the oracle says {b}"
        );
    }
}

/// `Σ output · fixed`: a loss whose gradient is different everywhere.
pub fn loss(output: Tensor<2>) -> Tensor<1> {
    let [rows, columns] = output.dims();
    let fixed = Random(77).matrix(rows, columns, &output.device());
    (output * fixed).sum()
}

pub fn gradient<const D: usize>(leaf: &Tensor<D>, gradients: &Gradients) -> Vec<f32> {
    values(leaf.grad(gradients).unwrap())
}

/// Central differences of `loss` at a few places of `at`.
pub fn assert_differences(
    what: &str,
    at: &[f32],
    gradient: &[f32],
    loss: impl Fn(Vec<f32>) -> f32,
) {
    let h = 1e-2;
    for i in (0..at.len()).step_by((at.len() / 7).max(1)) {
        let shifted = |by: f32| {
            let mut at = at.to_vec();
            at[i] += by;
            loss(at)
        };
        let difference = (shifted(h) - shifted(-h)) / (2.0 * h);
        assert!(
            (gradient[i] - difference).abs() < 5e-3 * difference.abs().max(1.0),
            "{what}: element {i} has gradient {} and difference {difference}",
            gradient[i]
        );
    }
}
