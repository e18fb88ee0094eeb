//! Devices by the names that people type.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use burn::tensor::{Device, Tensor};

/// A device named on a command line: `cpu`, `wgpu`, `wgpu:1`, `cuda`, `cuda:0`.
///
/// ```
/// use dsv3_kernels::DeviceSpec;
///
/// let spec: DeviceSpec = "cuda:1".parse()?;
/// assert_eq!(spec, DeviceSpec::Cuda(Some(1)));
/// let device = DeviceSpec::Cpu.open()?;
/// # let _ = device;
/// # Ok::<(), dsv3_kernels::DeviceError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU through wgpu (Vulkan, Metal, DirectX): the given one of its list, or its choice.
    Wgpu(Option<usize>),
    /// An NVIDIA GPU, the given one or the first.
    Cuda(Option<usize>),
}

/// Why a device can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A name that is none.
    #[error("{0:?} is no device; use cpu, wgpu, wgpu:N, cuda or cuda:N")]
    Unknown(String),
    /// A device that this build leaves out.
    #[error("this build has no {feature} support; build with `--features {feature}`")]
    NotBuilt {
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// A device that doesn't answer.
    #[error("{device} can't be opened: {reason}; `dsv3 doctor` lists what this machine has")]
    Unavailable {
        /// What was asked for.
        device: DeviceSpec,
        /// What the driver or its loader said.
        reason: String,
    },
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, index) = match self {
            DeviceSpec::Cpu => ("cpu", None),
            DeviceSpec::Wgpu(index) => ("wgpu", *index),
            DeviceSpec::Cuda(index) => ("cuda", *index),
        };
        match index {
            Some(index) => write!(f, "{name}:{index}"),
            None => f.write_str(name),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, index) {
            ("cpu", None) => Ok(DeviceSpec::Cpu),
            ("wgpu", index) => Ok(DeviceSpec::Wgpu(index)),
            ("cuda", index) => Ok(DeviceSpec::Cuda(index)),
            _ => Err(unknown()),
        }
    }
}

impl DeviceSpec {
    /// Open the device and compute one sum on it, so that a missing driver shows here and not in
    /// the middle of a run.
    ///
    /// # Errors
    /// [`DeviceError::NotBuilt`] or [`DeviceError::Unavailable`].
    pub fn open(self) -> Result<Device, DeviceError> {
        let device = self.device()?;
        self.probe(&device)?;
        Ok(device)
    }

    fn device(self) -> Result<Device, DeviceError> {
        match self {
            DeviceSpec::Cpu => Ok(Device::flex()),
            #[cfg(feature = "wgpu")]
            DeviceSpec::Wgpu(None) => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "wgpu")]
            DeviceSpec::Wgpu(Some(index)) => {
                let adapters = Device::enumerate(burn::tensor::DeviceType::Wgpu).into_vec();
                let count = adapters.len();
                let device = adapters.into_iter().nth(index);
                device.ok_or_else(|| DeviceError::Unavailable {
                    device: self,
                    reason: format!("this machine has {count} wgpu adapters, counted from 0"),
                })
            }
            #[cfg(not(feature = "wgpu"))]
            DeviceSpec::Wgpu(_) => Err(DeviceError::NotBuilt { feature: "wgpu" }),
            #[cfg(feature = "cuda")]
            DeviceSpec::Cuda(index) => Ok(Device::cuda(index.unwrap_or(0))),
            #[cfg(not(feature = "cuda"))]
            DeviceSpec::Cuda(_) => Err(DeviceError::NotBuilt { feature: "cuda" }),
        }
    }

    /// Drivers are loaded at first use, and their absence is a panic there.
    fn probe(self, device: &Device) -> Result<(), DeviceError> {
        let sum = || {
            let ones = Tensor::<1>::ones([3], device);
            ones.sum().try_into_scalar::<f32>()
        };
        let reason = match catch_unwind(AssertUnwindSafe(sum)) {
            Ok(Ok(3.0)) => return Ok(()),
            Ok(Ok(other)) => format!("it says that 1 + 1 + 1 = {other}"),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_else(|| "its driver failed".into()),
        };
        Err(DeviceError::Unavailable {
            device: self,
            reason,
        })
    }
}
