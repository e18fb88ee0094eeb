//! Which part of the model goes to which device, in order.

use crate::WeightsError;
use crate::layout::{Layout, Unit};

use super::{Concrete, Plan};

/// The most devices of one plan.
const MAX_DEVICES: u64 = 65_536;

/// One device and what is put on it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FitDevice {
    /// Memory of the device.
    pub bytes: u64,
    /// Set aside for the forward pass.
    pub workspace_bytes: u64,
    /// Weights and scales put here.
    pub weight_bytes: u64,
    /// Cache of the layers put here.
    pub cache_bytes: u64,
    /// What remains.
    pub remaining_bytes: u64,
    /// Whether the embedding is here.
    pub embedding: bool,
    /// First layer here and one past the last; MTP modules count on behind the main layers.
    pub layers: Option<(usize, usize)>,
    /// Whether final norm and head are here.
    pub head: bool,
}

/// The model on the devices in their order, whole layers only, each device filled before the next.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fit {
    /// Whether everything has a place.
    pub fits: bool,
    /// Bytes of weights and cache without a place.
    pub missing_bytes: u64,
    /// The first part without a place: `embedding`, `layer 17`, `head`.
    pub first_missing: Option<String>,
    /// Every device, also the empty ones.
    pub devices: Vec<FitDevice>,
}

pub(super) fn fit(
    layout: &Layout,
    format: &Concrete<'_>,
    plan: &Plan,
) -> Result<Fit, WeightsError> {
    let options = &plan.options;
    let count: u64 = options.devices.iter().map(|d| u64::from(d.count)).sum();
    if count > MAX_DEVICES {
        return Err(WeightsError::BadOption {
            option: "devices",
            problem: format!("name {count} devices; at most {MAX_DEVICES} are planned for"),
        });
    }
    let mut devices: Vec<FitDevice> = Vec::new();
    for memory in &options.devices {
        for _ in 0..memory.count {
            let workspace_bytes = plan.activation_bytes.min(memory.bytes);
            devices.push(FitDevice {
                bytes: memory.bytes,
                workspace_bytes,
                weight_bytes: 0,
                cache_bytes: 0,
                remaining_bytes: memory.bytes - workspace_bytes,
                embedding: false,
                layers: None,
                head: false,
            });
        }
    }
    // The cache's own total was checked, so one layer's share cannot overflow.
    let layer_cache = plan.cache.tokens * plan.cache.bytes_per_token_layer;
    let (mut at, mut missing, mut first_missing) = (0, 0u128, None);
    for unit in layout
        .units()
        .filter(|u| options.mtp_weights || !layout.is_mtp(*u))
    {
        let weights = format.unit_bytes(layout, unit);
        let cached = matches!(unit, Unit::Layer(_)) && (options.mtp_cache || !layout.is_mtp(unit));
        let cache = if cached { layer_cache } else { 0 };
        let needed = u128::from(weights) + u128::from(cache);
        // In order: a device that was passed over is not come back to.
        let room = |d: &FitDevice| u128::from(d.remaining_bytes) >= needed;
        let place = if missing > 0 {
            None
        } else {
            (at..devices.len()).find(|i| room(&devices[*i]))
        };
        let Some(place) = place else {
            missing += needed;
            first_missing.get_or_insert_with(|| match unit {
                Unit::Embedding => "embedding".to_owned(),
                Unit::Layer(i) => format!("layer {i}"),
                Unit::Head => "head".to_owned(),
            });
            continue;
        };
        at = place;
        let device = &mut devices[place];
        device.weight_bytes += weights;
        device.cache_bytes += cache;
        device.remaining_bytes -= weights + cache;
        match unit {
            Unit::Embedding => device.embedding = true,
            Unit::Layer(i) => device.layers = Some((device.layers.map_or(i, |l| l.0), i + 1)),
            Unit::Head => device.head = true,
        }
    }
    let missing_bytes = super::fits(missing, "missing bytes")?;
    Ok(Fit {
        fits: first_missing.is_none(),
        missing_bytes,
        first_missing,
        devices,
    })
}
