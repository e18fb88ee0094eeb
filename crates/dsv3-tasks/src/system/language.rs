//! Answers in another language: numbers up to twenty, colours, days, yes and no.

use super::style::number_words;
use super::{Plain, fact, sum, yes_or_no};
use crate::draw::Draw;
use crate::facts::Fact;
use crate::question::Question;

/// Name of the language, and its words in the order of [`ENGLISH`].
const LANGUAGES: [(&str, [&str; 39]); 3] = [
    (
        "German",
        [
            "null",
            "eins",
            "zwei",
            "drei",
            "vier",
            "fünf",
            "sechs",
            "sieben",
            "acht",
            "neun",
            "zehn",
            "elf",
            "zwölf",
            "dreizehn",
            "vierzehn",
            "fünfzehn",
            "sechzehn",
            "siebzehn",
            "achtzehn",
            "neunzehn",
            "zwanzig",
            "ja",
            "nein",
            "rot",
            "blau",
            "grün",
            "gelb",
            "schwarz",
            "weiß",
            "braun",
            "rosa",
            "grau",
            "Montag",
            "Dienstag",
            "Mittwoch",
            "Donnerstag",
            "Freitag",
            "Samstag",
            "Sonntag",
        ],
    ),
    (
        "French",
        [
            "zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix",
            "onze", "douze", "treize", "quatorze", "quinze", "seize", "dix-sept", "dix-huit",
            "dix-neuf", "vingt", "oui", "non", "rouge", "bleu", "vert", "jaune", "noir", "blanc",
            "marron", "rose", "gris", "lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi",
            "dimanche",
        ],
    ),
    (
        "Spanish",
        [
            "cero",
            "uno",
            "dos",
            "tres",
            "cuatro",
            "cinco",
            "seis",
            "siete",
            "ocho",
            "nueve",
            "diez",
            "once",
            "doce",
            "trece",
            "catorce",
            "quince",
            "dieciséis",
            "diecisiete",
            "dieciocho",
            "diecinueve",
            "veinte",
            "sí",
            "no",
            "rojo",
            "azul",
            "verde",
            "amarillo",
            "negro",
            "blanco",
            "marrón",
            "rosa",
            "gris",
            "lunes",
            "martes",
            "miércoles",
            "jueves",
            "viernes",
            "sábado",
            "domingo",
        ],
    ),
];

/// The words that have translations. Before them stand the numbers from 0 to 20.
const ENGLISH: [&str; 18] = [
    "yes",
    "no",
    "red",
    "blue",
    "green",
    "yellow",
    "black",
    "white",
    "brown",
    "pink",
    "grey",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MOST: i64 = 20;

const INSTRUCTIONS: [&str; 4] = [
    "Answer in {l}.",
    "Always answer in {l}.",
    "The user speaks {l}. Answer in {l}.",
    "Give your answers in {l}.",
];

/// A question to be answered in one of four languages.
pub(super) fn question(draw: &mut Draw) -> Question {
    let which = draw.below(LANGUAGES.len() + 1);
    let (language, words) = match LANGUAGES.get(which) {
        Some((language, words)) => (*language, Some(words)),
        None => ("English", None),
    };
    let mut instruction = draw.pick(&INSTRUCTIONS).replace("{l}", language);
    let plain = plain(draw);
    let number = plain.answer.parse::<usize>().ok();
    if number.is_some() {
        instruction.push_str(draw.pick(&[" Write numbers as words.", " Give numbers in words."]));
    }
    let answer = match (words, number) {
        (Some(words), Some(number)) => words.get(number).copied().unwrap_or_default().to_owned(),
        (Some(words), None) => translated(&plain.answer, words),
        (None, Some(number)) => number_words(number),
        (None, None) => plain.answer.clone(),
    };
    Question {
        id: format!("system/{language}/{}", plain.key),
        system: Some(instruction),
        text: plain.text,
        reasoning: format!("{} {} in {language}: {answer}", plain.steps, plain.answer),
        answer,
    }
}

/// A question whose answer has translations.
fn plain(draw: &mut Draw) -> Plain {
    match draw.below(4) {
        0..=1 => sum(draw, MOST),
        2 => yes_or_no(draw),
        _ => loop {
            let relations = ["colour", "mixture", "next_day", "day_before"];
            let fact = fact(Fact::draw_of(&relations, draw), draw);
            if ENGLISH.contains(&fact.answer.as_str()) {
                return fact;
            }
        },
    }
}

/// A word of [`ENGLISH`] in the language of the words.
fn translated(english: &str, words: &[&str]) -> String {
    let at = ENGLISH.iter().position(|word| *word == english);
    let word = at.and_then(|at| words.get(at + MOST as usize + 1));
    word.copied().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a word left out of one of the lists, so that all behind it are shifted.
    #[test]
    fn lists_of_words_stand_side_by_side() {
        for (language, words) in &LANGUAGES {
            assert_eq!(words.len(), MOST as usize + 1 + ENGLISH.len(), "{language}");
        }
        let last = LANGUAGES.map(|(_, words)| translated("Sunday", &words));
        assert_eq!(last, ["Sonntag", "dimanche", "domingo"]);
        let twenty = LANGUAGES.map(|(_, words)| words[20]);
        assert_eq!(twenty, ["zwanzig", "vingt", "veinte"]);
        let red = LANGUAGES.map(|(_, words)| translated("red", &words));
        assert_eq!(red, ["rot", "rouge", "rojo"]);
    }
}
