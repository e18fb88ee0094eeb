//! Stock Burn operations as methods, so that the oracles read like the formulas they state.
//!
//! Backend operations are associated functions over primitives; chained, they hide the
//! mathematics. `Float` and `Ints` wrap one primitive each and add nothing else.

use burn::backend::tensor::{BoolTensor, Device, FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings, try_read_sync};
use burn::tensor::{DType, FloatDType, IntDType, Shape, Slice, TensorData};

use crate::ops::Dsv3Ops;

/// A float tensor of backend `B`.
#[derive(Clone)]
pub(crate) struct Float<B: Backend>(pub(crate) FloatTensor<B>);

/// An integer tensor of backend `B`.
#[derive(Clone)]
pub(crate) struct Ints<B: Backend>(pub(crate) IntTensor<B>);

/// `[0..a, 0..b, range, 0..d]`: a range in dimension `dim`, everything in the others.
fn slices(shape: &Shape, dim: usize, start: usize, end: usize) -> Vec<Slice> {
    (0..shape.num_dims())
        .map(|d| match d == dim {
            true => Slice::new(start as isize, Some(end as isize), 1),
            false => Slice::new(0, Some(shape[d] as isize), 1),
        })
        .collect()
}

impl<B: Dsv3Ops> Float<B> {
    pub(crate) fn matmul(self, rhs: Self) -> Self {
        Float(B::exact_matmul(self.0, rhs.0))
    }
}

impl<B: Backend> Float<B> {
    pub(crate) fn from_vec(values: Vec<f32>, shape: &[usize], device: &Device<B>) -> Self {
        Float(B::float_from_data(
            TensorData::new(values, Shape::from(shape.to_vec())),
            device,
        ))
    }

    pub(crate) fn zeros(shape: &[usize], device: &Device<B>, dtype: FloatDType) -> Self {
        Float(B::float_zeros(Shape::from(shape.to_vec()), device, dtype))
    }

    pub(crate) fn device(&self) -> Device<B> {
        self.0.device()
    }

    pub(crate) fn dim(&self, d: usize) -> usize {
        self.0.shape()[d]
    }

    pub(crate) fn shape(&self) -> Vec<usize> {
        let shape = self.0.shape();
        (0..shape.num_dims()).map(|d| shape[d]).collect()
    }

    pub(crate) fn dtype(&self) -> FloatDType {
        match self.0.dtype() {
            DType::F64 => FloatDType::F64,
            DType::F16 => FloatDType::F16,
            DType::BF16 => FloatDType::BF16,
            _ => FloatDType::F32,
        }
    }

    pub(crate) fn cast(self, dtype: FloatDType) -> Self {
        if self.dtype() == dtype {
            return self;
        }
        Float(B::float_cast(self.0, dtype))
    }

    pub(crate) fn reshape(self, shape: &[usize]) -> Self {
        Float(B::float_reshape(self.0, Shape::from(shape.to_vec())))
    }

    pub(crate) fn swap(self, a: usize, b: usize) -> Self {
        Float(B::float_swap_dims(self.0, a, b))
    }

    pub(crate) fn narrow(self, dim: usize, start: usize, len: usize) -> Self {
        let slices = slices(&self.0.shape(), dim, start, start + len);
        Float(B::float_slice(self.0, &slices))
    }

    pub(crate) fn write(self, dim: usize, start: usize, value: Self) -> Self {
        let slices = slices(&self.0.shape(), dim, start, start + value.dim(dim));
        Float(B::float_slice_assign(self.0, &slices, value.0))
    }

    pub(crate) fn repeat(self, dim: usize, times: usize) -> Self {
        if times == 1 {
            return self;
        }
        Float(B::float_repeat_dim(self.0, dim, times))
    }

    pub(crate) fn cat(parts: Vec<Self>, dim: usize) -> Self {
        Float(B::float_cat(parts.into_iter().map(|p| p.0).collect(), dim))
    }

    pub(crate) fn add(self, rhs: Self) -> Self {
        Float(B::float_add(self.0, rhs.0))
    }

    pub(crate) fn sub(self, rhs: Self) -> Self {
        Float(B::float_sub(self.0, rhs.0))
    }

    pub(crate) fn mul(self, rhs: Self) -> Self {
        Float(B::float_mul(self.0, rhs.0))
    }

    pub(crate) fn div(self, rhs: Self) -> Self {
        Float(B::float_div(self.0, rhs.0))
    }

    pub(crate) fn add_scalar(self, value: f32) -> Self {
        Float(B::float_add_scalar(self.0, f64::from(value).into()))
    }

    pub(crate) fn scale(self, value: f32) -> Self {
        Float(B::float_mul_scalar(self.0, f64::from(value).into()))
    }

    pub(crate) fn scale_down(self, value: f32) -> Self {
        Float(B::float_div_scalar(self.0, f64::from(value).into()))
    }

    pub(crate) fn clamp_min(self, value: f32) -> Self {
        Float(B::float_clamp_min(self.0, f64::from(value).into()))
    }

    /// To the nearest integer, ties to even.
    pub(crate) fn round(self) -> Self {
        Float(B::float_round(self.0))
    }

    pub(crate) fn abs(self) -> Self {
        Float(B::float_abs(self.0))
    }

    pub(crate) fn exp(self) -> Self {
        Float(B::float_exp(self.0))
    }

    pub(crate) fn sqrt(self) -> Self {
        Float(B::float_sqrt(self.0))
    }

    pub(crate) fn sigmoid(self) -> Self {
        Float(B::sigmoid(self.0))
    }

    /// `x · sigmoid(x)`.
    pub(crate) fn silu(self) -> Self {
        let gate = self.clone().sigmoid();
        self.mul(gate)
    }

    pub(crate) fn sum_dim(self, dim: usize) -> Self {
        Float(B::float_sum_dim(self.0, dim))
    }

    pub(crate) fn mean_dim(self, dim: usize) -> Self {
        Float(B::float_mean_dim(self.0, dim))
    }

    pub(crate) fn max_dim(self, dim: usize) -> Self {
        Float(B::float_max_dim(self.0, dim))
    }

    /// Softmax over the last dimension, shifted by the row's maximum.
    pub(crate) fn softmax(self, dim: usize) -> Self {
        let shift = Float::<B>(B::float_detach(self.clone().max_dim(dim).0));
        let e = self.sub(shift).exp();
        let sum = e.clone().sum_dim(dim);
        e.div(sum)
    }

    pub(crate) fn select(self, dim: usize, indices: Ints<B>) -> Self {
        Float(B::float_select(self.0, dim, indices.0))
    }

    pub(crate) fn gather(self, dim: usize, indices: Ints<B>) -> Self {
        Float(B::float_gather(dim, self.0, indices.0))
    }

    fn bool_dtype(&self) -> burn::tensor::BoolDType {
        get_or_init_device_settings::<B>(&self.device()).bool_dtype
    }

    /// 1.0 where `self > rhs`, else 0.0.
    pub(crate) fn greater(self, rhs: Self) -> Self {
        let (dtype, bools) = (self.dtype(), self.bool_dtype());
        let mask = B::float_greater(self.0, rhs.0, bools);
        Float(B::bool_into_float(mask, dtype))
    }

    /// 1.0 where `self == rhs`, else 0.0.
    pub(crate) fn equal(self, rhs: Self) -> Self {
        let (dtype, bools) = (self.dtype(), self.bool_dtype());
        let mask = B::float_equal(self.0, rhs.0, bools);
        Float(B::bool_into_float(mask, dtype))
    }

    /// 1.0 where `self < value`, else 0.0.
    pub(crate) fn below(self, value: f32) -> Self {
        let dtype = self.dtype();
        let mask = self.below_mask(value);
        Float(B::bool_into_float(mask, dtype))
    }

    fn below_mask(self, value: f32) -> BoolTensor<B> {
        let bools = self.bool_dtype();
        B::float_lower_elem(self.0, f64::from(value).into(), bools)
    }

    /// `value` where `flag < 0.5`, else `self`; `flag` holds 0.0 and 1.0.
    pub(crate) fn fill_where_zero(self, flag: Self, value: f32) -> Self {
        let mask = flag.below_mask(0.5);
        Float(B::float_mask_fill(self.0, mask, f64::from(value).into()))
    }

    pub(crate) fn into_ints(self) -> Ints<B> {
        let dtype = get_or_init_device_settings::<B>(&self.device()).int_dtype;
        Ints(B::float_into_int(self.0, dtype))
    }
}

impl<B: Backend> Ints<B> {
    pub(crate) fn from_vec(values: Vec<i32>, device: &Device<B>) -> Self {
        let len = values.len();
        Ints(B::int_from_data(TensorData::new(values, [len]), device))
    }

    pub(crate) fn shape(&self) -> Shape {
        self.0.shape()
    }

    pub(crate) fn cast(self, dtype: IntDType) -> Self {
        Ints(B::int_cast(self.0, dtype))
    }

    pub(crate) fn reshape(self, shape: &[usize]) -> Self {
        Ints(B::int_reshape(self.0, Shape::from(shape.to_vec())))
    }

    pub(crate) fn narrow(self, dim: usize, start: usize, len: usize) -> Self {
        let slices = slices(&self.0.shape(), dim, start, start + len);
        Ints(B::int_slice(self.0, &slices))
    }

    pub(crate) fn cat(parts: Vec<Self>, dim: usize) -> Self {
        Ints(B::int_cat(parts.into_iter().map(|p| p.0).collect(), dim))
    }

    pub(crate) fn write(self, dim: usize, start: usize, value: Self) -> Self {
        let slices = slices(&self.0.shape(), dim, start, start + value.shape()[dim]);
        Ints(B::int_slice_assign(self.0, &slices, value.0))
    }

    pub(crate) fn select(self, dim: usize, indices: Self) -> Self {
        Ints(B::int_select(self.0, dim, indices.0))
    }

    pub(crate) fn shift_right(self, bits: u32) -> Self {
        if bits == 0 {
            return self;
        }
        Ints(B::bitwise_right_shift_scalar(
            self.0,
            i64::from(bits).into(),
        ))
    }

    /// `self · factor + rhs`.
    pub(crate) fn scale_add(self, factor: i64, rhs: Self) -> Self {
        Ints(B::int_add(B::int_mul_scalar(self.0, factor.into()), rhs.0))
    }

    pub(crate) fn and(self, mask: u32) -> Self {
        Ints(B::bitwise_and_scalar(self.0, i64::from(mask).into()))
    }

    /// The values on the host. Waits for the device.
    pub(crate) fn into_host(self) -> Result<Vec<i64>, String> {
        let data = try_read_sync(B::int_into_data(self.0))
            .ok_or("this device can't be read synchronously")?
            .map_err(|e| e.to_string())?;
        data.try_to_vec_as::<i64>().map_err(|e| e.to_string())
    }
}
