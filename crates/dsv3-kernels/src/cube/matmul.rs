//! Products of f32 matrices that stay f32.
//!
//! Burn's product takes the matrix units wherever a device has them, and those of NVIDIA round f32
//! to TF32 on the way in: ten bits of fraction for 23. Logits then lie up to 0.7 from the
//! reference's, which is no f32 any more. So f32 is multiplied without them there.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_cubecl::{CubeBackend, kernel::matmul::init_matmul_output, tensor::CubeTensor};
use cubecl::prelude::Scalar;
use cubecl::tf32;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::{launch::launch_ref, multi_level::Strategy};
use cubek::std::InputBinding;

/// `[…, m, k] · […, k, n]` → `[…, m, n]`.
pub(super) fn matmul(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
    let has_tf32 = |tensor: &CubeTensor| {
        let properties = tensor.client.properties();
        properties.supports_type(tf32::elem_type_native())
    };
    if lhs.dtype != DType::F32 || !has_tf32(&lhs) {
        return CubeBackend::float_matmul(lhs, rhs);
    }
    let out = init_matmul_output(&lhs, &rhs, DType::F32);
    let f32 = f32::elem_type_native();
    let client = out.client.clone();
    let launched = launch_ref(
        &Strategy::SimpleUnit(Default::default()).into(),
        &client,
        InputBinding::new(lhs.binding(), f32),
        InputBinding::new(rhs.binding(), f32),
        out.clone().binding(),
        &mut MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: f32,
            rhs: f32,
            out: f32,
        }),
    );
    // As Burn's own product does: shapes were checked before, and the kernel needs nothing that a
    // device may lack.
    launched.unwrap_or_else(|error| panic!("the product of f32 matrices: {error:?}"));
    out
}
