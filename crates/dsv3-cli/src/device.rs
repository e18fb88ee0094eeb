//! Opening devices without their drivers' noise.

use dsv3_engine::LoadOptions;
use dsv3_kernels::{DeviceError, DeviceSpec};

use crate::error::without_announcing_panics;

/// Open a device for a model to be loaded on. A missing driver is an error, not a panic on the
/// screen.
pub(crate) fn open(spec: DeviceSpec) -> Result<LoadOptions, DeviceError> {
    without_announcing_panics(|| spec.open()).map(LoadOptions::new)
}

/// Every device of this build and machine that can be opened, or why not.
pub(crate) fn survey() -> Vec<(DeviceSpec, Option<String>)> {
    let mut found = vec![(DeviceSpec::Cpu, reason(DeviceSpec::Cpu))];
    let kinds: [fn(Option<usize>) -> DeviceSpec; 2] = [DeviceSpec::Wgpu, DeviceSpec::Cuda];
    for kind in kinds {
        match reason(kind(None)) {
            // The first number that can't be opened is one past the last device.
            None => found.extend(
                (0..MAX_NUMBER)
                    .map(|number| (kind(Some(number)), reason(kind(Some(number)))))
                    .take_while(|(_, reason)| reason.is_none()),
            ),
            Some(reason) => found.push((kind(None), Some(reason))),
        }
    }
    found
}

/// More GPUs than one machine has.
const MAX_NUMBER: usize = 64;

fn reason(spec: DeviceSpec) -> Option<String> {
    open(spec)
        .err()
        .map(|error| crate::error::one_line(&error.to_string()))
}
