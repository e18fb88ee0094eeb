//! A `config.json`: whatever is accepted can be planned for without overflow.
#![no_main]

use dsv3_weights::{Layout, ModelArgs, Plan, PlanOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(args) = ModelArgs::from_json_bytes(bytes) {
        let plan = Plan::new(&args, &PlanOptions::default());
        if let Ok(plan) = plan {
            assert!(plan.total_tensors >= Layout::new(&args).num_tensors());
        }
    }
});
