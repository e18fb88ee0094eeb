//! Names of people, places and things, and templates that they are filled into.
//!
//! Half of the places and all firms are put together from parts: nobody can know them, so a model
//! has to copy them from the question.

use crate::draw::Draw;

const CITIES: [&str; 24] = [
    "Oslo", "Rome", "Paris", "Lima", "Cairo", "Tokyo", "Berlin", "Madrid", "Vienna", "Dublin",
    "Lisbon", "Athens", "Prague", "Warsaw", "Boston", "Chicago", "Denver", "Toronto", "Sydney",
    "Delhi", "Seoul", "Havana", "Nairobi", "Geneva",
];

const TOWN_BEGINNINGS: [&str; 16] = [
    "Mar", "Lake", "Wood", "Stone", "Brook", "Ash", "Elm", "Fern", "Gold", "Hart", "King", "North",
    "Oak", "Raven", "Silver", "West",
];

const TOWN_ENDINGS: [&str; 10] = [
    "low", "side", "ford", "field", "ton", "bury", "dale", "port", "well", "mouth",
];

const FIRST_NAMES: [&str; 32] = [
    "Mia", "Tom", "Ana", "Leo", "Eva", "Max", "Zoe", "Sam", "Ida", "Ben", "Lea", "Jon", "Nina",
    "Omar", "Ruth", "Paul", "Vera", "Hugo", "Emma", "Noah", "Lily", "Carl", "Rosa", "Finn", "Alma",
    "Otto", "Clara", "Ivan", "Sara", "Marco", "Greta", "David",
];

const LAST_NAMES: [&str; 16] = [
    "Lind", "Moran", "Keller", "Rossi", "Novak", "Berg", "Hale", "Costa", "Stone", "Wolf", "Park",
    "Sato", "Weber", "Silva", "Frost", "Young",
];

/// Adjectives of titles, things and fillers.
pub(crate) const ADJECTIVES: [&str; 16] = [
    "blue", "red", "green", "old", "new", "small", "great", "quiet", "golden", "silver", "white",
    "black", "long", "little", "warm", "cold",
];

/// Nouns of titles and fillers.
pub(crate) const THINGS: [&str; 20] = [
    "river", "garden", "house", "road", "bird", "ship", "mountain", "window", "letter", "train",
    "forest", "bridge", "night", "summer", "winter", "star", "dog", "horse", "island", "clock",
];

/// Rooms of a house.
pub(crate) const ROOMS: [&str; 10] = [
    "kitchen", "bedroom", "bathroom", "office", "hall", "garage", "cellar", "garden", "studio",
    "library",
];

/// Days of the week.
pub(crate) const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// Months.
pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A real city.
pub(crate) fn city(draw: &mut Draw) -> String {
    draw.pick(&CITIES).to_owned()
}

/// A town that doesn't exist.
pub(crate) fn town(draw: &mut Draw) -> String {
    format!(
        "{}{}",
        draw.pick(&TOWN_BEGINNINGS),
        draw.pick(&TOWN_ENDINGS)
    )
}

/// A city or a town that doesn't exist.
pub(crate) fn place(draw: &mut Draw) -> String {
    if draw.one_in(2) {
        city(draw)
    } else {
        town(draw)
    }
}

/// A first name.
pub(crate) fn person(draw: &mut Draw) -> String {
    draw.pick(&FIRST_NAMES).to_owned()
}

/// A first and a last name.
pub(crate) fn full_name(draw: &mut Draw) -> String {
    format!("{} {}", draw.pick(&FIRST_NAMES), draw.pick(&LAST_NAMES))
}

/// The title of a song or a book, in capitals.
pub(crate) fn title(draw: &mut Draw) -> String {
    format!(
        "{} {}",
        capitalised(draw.pick(&ADJECTIVES)),
        capitalised(draw.pick(&THINGS))
    )
}

/// A firm that doesn't exist.
pub(crate) fn firm(draw: &mut Draw) -> String {
    let kind = draw.pick(&["Works", "Foods", "Motors", "Media", "Labs", "Air"]);
    format!("{} {kind}", town(draw))
}

/// A word of no language, in small letters: two or three syllables.
pub(crate) fn invented(draw: &mut Draw) -> String {
    const FIRST: [&str; 14] = [
        "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z",
    ];
    const THEN: [&str; 5] = ["a", "e", "i", "o", "u"];
    (0..draw.between(2, 3))
        .map(|_| format!("{}{}", draw.pick(&FIRST), draw.pick(&THEN)))
        .collect()
}

/// Time of day on a 24-hour clock, in steps of five minutes.
pub(crate) fn time(draw: &mut Draw) -> String {
    format!("{}:{:02}", draw.between(0, 23), 5 * draw.between(0, 11))
}

/// An amount with at most one decimal, never written with a trailing zero.
pub(crate) fn amount(draw: &mut Draw) -> String {
    let whole = draw.between(1, 400);
    match draw.between(0, 9) {
        0..=4 => whole.to_string(),
        _ => format!("{whole}.{}", draw.between(1, 9)),
    }
}

/// Some capital letters.
pub(crate) fn letters(draw: &mut Draw, count: usize) -> String {
    (0..count)
        .map(|_| char::from(b'A' + draw.below(26) as u8))
        .collect()
}

/// The text with its first letter large.
pub(crate) fn capitalised(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(rest).collect()
}

/// `template` with each `{key}` replaced by its value. What no key names stays as it is.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let found = after
            .split_once('}')
            .and_then(|(key, after)| Some((values.iter().find(|(name, _)| *name == key)?, after)));
        if let Some(((_, value), after)) = found {
            filled.push_str(value);
            rest = after;
        } else {
            filled.push('{');
            rest = after;
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    // Breaks with: a replaced value that is searched for keys again, or a brace without a key lost.
    #[test]
    fn fill_replaces_what_it_knows_and_keeps_the_rest() {
        let values = [("0", "{1}"), ("1", "b")];
        assert_eq!(fill("{0}, {1} {2} {", &values), "{1}, b {2} {");
        assert_eq!(fill("{\"a\": {1}}", &values), "{\"a\": b}");
    }

    // Breaks with: an amount such as 12.0, which JSON and the request would write differently.
    #[test]
    fn amounts_are_written_as_json_writes_them() {
        let mut draw = Draw::new(1, 0);
        for _ in 0..2000 {
            let text = amount(&mut draw);
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json.to_string(), text);
        }
    }
}
