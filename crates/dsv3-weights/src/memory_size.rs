//! Memory sizes as people write them: `80GiB`, `24GB`, `80GiB×8`.

use std::fmt;

use crate::WeightsError;

/// One or several devices of equal memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct DeviceMemory {
    /// Bytes of one device.
    pub bytes: u64,
    /// How many such devices.
    pub count: u32,
}

/// The most devices that one entry may name.
pub const MAX_DEVICES: u32 = 4096;

/// Units, longest first where one ends in another. GiB and GB differ by 7 %: both are taken at
/// their word.
const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

/// Reads a size such as `80GiB`, `24 GB`, `1.5TiB` or `8589934592` (bytes), exactly: a fraction
/// that is not a whole number of bytes is refused.
///
/// # Errors
/// [`WeightsError::MemorySize`] with the text and what is wrong with it.
pub fn parse_size(text: &str) -> Result<u64, WeightsError> {
    let fault = |problem| WeightsError::MemorySize {
        text: crate::error::shown(text),
        problem,
    };
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| lower.strip_suffix(name).map(|n| (n, *unit)))
        .unwrap_or((&lower, 1));
    let number = number.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return Err(fault(
            "it does not begin with a number and end with a known unit",
        ));
    }
    let scale = u32::try_from(fraction.len())
        .ok()
        .and_then(|n| 10u128.checked_pow(n));
    let scaled = format!("{whole}{fraction}").parse::<u128>().ok();
    let product = scaled.and_then(|n| n.checked_mul(u128::from(unit)));
    let (Some(scale), Some(product)) = (scale, product) else {
        return Err(fault("the number is too long"));
    };
    if !product.is_multiple_of(scale) {
        return Err(fault("it is not a whole number of bytes"));
    }
    match u64::try_from(product / scale) {
        Ok(0) => Err(fault("it is zero")),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(fault("it is more than 64 bits can count")),
    }
}

impl std::str::FromStr for DeviceMemory {
    type Err = WeightsError;

    /// Reads `80GiB`, `80GiB×8`, `80GiB x8`, `80GiB*8`.
    fn from_str(text: &str) -> Result<Self, WeightsError> {
        let fault = |problem| WeightsError::MemorySize {
            text: crate::error::shown(text),
            problem,
        };
        let Some((size, count)) = text.rsplit_once(['×', 'x', 'X', '*']) else {
            return Ok(Self {
                bytes: parse_size(text)?,
                count: 1,
            });
        };
        let count = count.trim();
        let count = match count.parse::<u32>() {
            Ok(n) if (1..=MAX_DEVICES).contains(&n) && !count.starts_with('+') => n,
            _ => return Err(fault("the count after × must be a number from 1 to 4096")),
        };
        Ok(Self {
            bytes: parse_size(size)?,
            count,
        })
    }
}

impl fmt::Display for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", human_bytes(self.bytes))?;
        if self.count > 1 {
            write!(f, "×{}", self.count)
        } else {
            Ok(())
        }
    }
}

/// A size for people, in binary units with two decimals; exact bytes below 1 KiB.
pub fn human_bytes(bytes: u64) -> String {
    const NAMES: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = None;
    for name in NAMES {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = Some(name);
    }
    unit.map_or_else(|| format!("{bytes} B"), |unit| format!("{value:.2} {unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GB read as GiB would promise 7 % more memory than there is.
    #[test]
    fn binary_and_decimal_units_differ() {
        assert_eq!(parse_size("80GiB").unwrap(), 80 << 30);
        assert_eq!(parse_size("24GB").unwrap(), 24_000_000_000);
        assert_eq!(parse_size(" 1.5 tib ").unwrap(), 3 << 39);
        assert_eq!(parse_size("12345").unwrap(), 12345);
        assert_eq!(parse_size("512 B").unwrap(), 512);
    }

    /// Anything else must be an error with the text in it, not a guess.
    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "GiB",
            "80G",
            "-1GiB",
            "1e3GB",
            "0GiB",
            "0.3B",
            "1.GiB",
            ".5GiB",
            "80GiB8",
            "18446744073709551616",
            "99999999999999999999TiB",
            "1.00000000000000000000000000000000000000000GiB",
            "NaN",
            "inf",
        ] {
            let e = parse_size(bad).unwrap_err();
            assert!(matches!(e, WeightsError::MemorySize { .. }), "{bad}");
        }
        for bad in [
            "80GiBx0",
            "80GiBx",
            "80GiBx-1",
            "80GiBx+1",
            "80GiBx5000",
            "x8",
            "80GiBx1.5",
        ] {
            assert!(bad.parse::<DeviceMemory>().is_err(), "{bad}");
        }
    }

    /// A lost count would plan for one device instead of eight.
    #[test]
    fn counts_are_read_in_every_spelling() {
        let eight = DeviceMemory {
            bytes: 80 << 30,
            count: 8,
        };
        for text in ["80GiB×8", "80GiB x8", "80gib*8", "80 GiB x 8", "80GiBX8"] {
            assert_eq!(text.parse::<DeviceMemory>().unwrap(), eight, "{text}");
        }
        assert_eq!("24GB".parse::<DeviceMemory>().unwrap().count, 1);
        assert_eq!(eight.to_string(), "80.00 GiB×8");
        assert_eq!(human_bytes(1023), "1023 B");
    }
}
