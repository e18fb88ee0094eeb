//! Rotary position embedding over interleaved pairs.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::FloatDType;

use crate::stock::Float;

/// `x [T, heads, n]`, `cos`, `sin` `[T, rope / 2]` → `[T, heads, n]`, the last `rope` rotated.
pub(crate) fn rope<B: Backend>(
    x: FloatTensor<B>,
    cos: FloatTensor<B>,
    sin: FloatTensor<B>,
) -> FloatTensor<B> {
    let x = Float::<B>(x);
    let dtype = x.dtype();
    let cos = Float::<B>(cos);
    let [tokens, heads, n, half] = [x.dim(0), x.dim(1), x.dim(2), cos.dim(1)];
    let dim = 2 * half;
    let head = (n > dim).then(|| x.clone().narrow(2, 0, n - dim)); // [T, heads, n − rope]
    let pairs = x
        .narrow(2, n - dim, dim)
        .cast(FloatDType::F32)
        .reshape(&[tokens, heads, half, 2]); // [T, heads, rope/2, 2]
    let a = pairs.clone().narrow(3, 0, 1); // [T, heads, rope/2, 1]
    let b = pairs.narrow(3, 1, 1); // [T, heads, rope/2, 1]
    let cos = cos.reshape(&[tokens, 1, half, 1]).repeat(1, heads);
    let sin = Float::<B>(sin)
        .reshape(&[tokens, 1, half, 1])
        .repeat(1, heads);
    let first = a.clone().mul(cos.clone()).sub(b.clone().mul(sin.clone()));
    let second = a.mul(sin).add(b.mul(cos));
    let rotated = Float::cat(vec![first, second], 3)
        .reshape(&[tokens, heads, dim])
        .cast(dtype);
    match head {
        Some(head) => Float::cat(vec![head, rotated], 2).0,
        None => rotated.0,
    }
}
