//! The time of day in a few cities.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Cities and their time zones: names of the tz database, which is built in.
const CITIES: [(&str, &str); 25] = [
    ("Athens", "Europe/Athens"),
    ("Berlin", "Europe/Berlin"),
    ("Boston", "America/New_York"),
    ("Cairo", "Africa/Cairo"),
    ("Chicago", "America/Chicago"),
    ("Delhi", "Asia/Kolkata"),
    ("Denver", "America/Denver"),
    ("Dublin", "Europe/Dublin"),
    ("Geneva", "Europe/Zurich"),
    ("Havana", "America/Havana"),
    ("Lima", "America/Lima"),
    ("Lisbon", "Europe/Lisbon"),
    ("London", "Europe/London"),
    ("Madrid", "Europe/Madrid"),
    ("Nairobi", "Africa/Nairobi"),
    ("Oslo", "Europe/Oslo"),
    ("Paris", "Europe/Paris"),
    ("Prague", "Europe/Prague"),
    ("Rome", "Europe/Rome"),
    ("Seoul", "Asia/Seoul"),
    ("Sydney", "Australia/Sydney"),
    ("Tokyo", "Asia/Tokyo"),
    ("Toronto", "America/Toronto"),
    ("Vienna", "Europe/Vienna"),
    ("Warsaw", "Europe/Warsaw"),
];

/// The time in a city now, as `9:05`.
pub(super) fn time_in(city: &str) -> Result<String, String> {
    Ok(shown(&at(Timestamp::now(), city)?))
}

fn at(now: Timestamp, city: &str) -> Result<DateTime, String> {
    let city = city.trim();
    let known = CITIES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(city));
    let (_, zone) = known.ok_or("not found")?;
    let zone = TimeZone::get(zone).map_err(|_| "not found")?;
    Ok(zone.to_datetime(now))
}

fn shown(time: &DateTime) -> String {
    format!("{}:{:02}", time.hour(), time.minute())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a city under another's zone, a summer time forgotten, a zone that the built-in
    /// database lacks.
    #[test]
    fn every_city_has_its_time() {
        let winter: Timestamp = "2026-01-15T12:05:00Z".parse().unwrap();
        let summer: Timestamp = "2026-07-15T12:05:00Z".parse().unwrap();
        for (city, in_winter, in_summer) in [
            ("Oslo", "13:05", "14:05"),
            ("Lima", "7:05", "7:05"),
            ("Delhi", "17:35", "17:35"),
            ("sydney ", "23:05", "22:05"),
            ("Boston", "7:05", "8:05"),
        ] {
            assert_eq!(shown(&at(winter, city).unwrap()), in_winter, "{city}");
            assert_eq!(shown(&at(summer, city).unwrap()), in_summer, "{city}");
        }
        for (city, _) in CITIES {
            assert!(time_in(city).is_ok(), "{city}");
        }
        assert!(time_in("Marlow").is_err());
    }
}
