//! Which texts fit a query best: BM25 (Robertson and Zaragoza, "The Probabilistic Relevance
//! Framework: BM25 and Beyond", 2009).

use std::collections::{HashMap, HashSet};

/// How fast a word that comes again stops counting, and how much length counts against a text:
/// the values that the literature and the common search engines use.
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// An index over texts, which are known by their numbers.
#[derive(Debug, Default)]
pub(super) struct Bm25 {
    /// The texts that hold a word, and how often each does.
    postings: HashMap<String, Vec<(usize, u32)>>,
    /// Words of each text.
    lengths: Vec<f64>,
    mean_length: f64,
}

impl Bm25 {
    /// Index texts in their order.
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut index = Bm25::default();
        for (number, text) in texts.into_iter().enumerate() {
            let mut counts: HashMap<String, u32> = HashMap::new();
            let mut length = 0.0;
            for word in words(text) {
                *counts.entry(word).or_default() += 1;
                length += 1.0;
            }
            for (word, count) in counts {
                index
                    .postings
                    .entry(word)
                    .or_default()
                    .push((number, count));
            }
            index.lengths.push(length);
        }
        let sum: f64 = index.lengths.iter().sum();
        index.mean_length = sum / (index.lengths.len().max(1) as f64);
        index
    }

    /// The numbers of the texts that fit best, at most so many, the best first. Texts without any
    /// of the words are never among them; of equals the earlier comes first.
    pub(super) fn find(&self, query: &str, most: usize) -> Vec<usize> {
        let texts = self.lengths.len() as f64;
        let mut scores: HashMap<usize, f64> = HashMap::new();
        let mut asked = HashSet::new();
        for word in words(query) {
            let Some(found) = self.postings.get(&word).filter(|_| asked.insert(word)) else {
                continue;
            };
            let with = found.len() as f64;
            let rarity = (1.0 + (texts - with + 0.5) / (with + 0.5)).ln();
            for (number, count) in found {
                let length = self.lengths.get(*number).copied().unwrap_or_default();
                let count = f64::from(*count);
                let weight = K1 * (1.0 - B + B * length / self.mean_length.max(1.0));
                *scores.entry(*number).or_default() +=
                    rarity * count * (K1 + 1.0) / (count + weight);
            }
        }
        let mut ranked: Vec<(usize, f64)> = scores.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.truncate(most);
        ranked.into_iter().map(|(number, _)| number).collect()
    }
}

/// The words of a text in small letters. Scripts without spaces between words (Chinese, Japanese)
/// are taken character by character.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .flat_map(|word| {
            let mut parts: Vec<String> = Vec::new();
            let mut joins = false;
            for c in word.chars() {
                let alone = ('\u{2e80}'..='\u{9fff}').contains(&c);
                match parts.last_mut().filter(|_| joins && !alone) {
                    Some(part) => part.extend(c.to_lowercase()),
                    None => parts.push(c.to_lowercase().collect()),
                }
                joins = !alone;
            }
            parts
        })
        .map(stem)
}

/// A word without the commonest English endings, so that "opening" finds "opens". Texts and
/// queries are cut alike, so an ending that was none does little harm.
fn stem(mut word: String) -> String {
    let ending = match word.as_str() {
        w if !w.is_ascii() => 0,
        w if w.ends_with("ing") && w.len() >= 6 => 3,
        w if w.ends_with("ed") && w.len() >= 5 => 2,
        w if ["ses", "xes", "ches", "shes"]
            .iter()
            .any(|e| w.ends_with(e)) =>
        {
            2
        }
        w if w.ends_with('s') && !w.ends_with("ss") && w.len() >= 4 => 1,
        _ => 0,
    };
    word.truncate(word.len() - ending);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: words that are not found in other cases, or beside punctuation.
    #[test]
    fn words_are_cut_and_made_small() {
        let of = |text| words(text).collect::<Vec<_>>();
        assert_eq!(
            of("The CUP's 3:2, \"Élan\"."),
            ["the", "cup", "s", "3", "2", "élan"]
        );
        assert_eq!(of("東京 is Tokyo東"), ["東", "京", "is", "tokyo", "東"]);
        assert!(of(" .,!").is_empty());
        assert_eq!(
            of("opening opens opened buses bus glass king is as élans"),
            [
                "open", "open", "open", "bus", "bus", "glass", "king", "is", "as", "élans"
            ]
        );
    }

    /// Breaks with: rare words that count no more than common ones, long texts that win by length,
    /// a word that counts twice because it was asked twice.
    #[test]
    fn the_best_text_comes_first() {
        let texts = [
            "the price of tea in Oakdale",
            "the price of tea in Marlow is 3 euros",
            "the price of the price of the price of bread",
            "the tea house",
            "nothing of interest",
        ];
        let index = Bm25::new(texts);
        assert_eq!(index.find("tea price Marlow", 2), [1, 0]);
        assert_eq!(index.find("MARLOW", 9), [1]);
        // Each of the two has the word once; the shorter one is about it.
        assert_eq!(index.find("tea tea", 9)[0], 3);
        assert!(index.find("zebra", 9).is_empty());
        assert!(index.find("", 9).is_empty());
        assert!(Bm25::new([]).find("tea", 9).is_empty());
        assert_eq!(index.find("the", 0), [0usize; 0]);
    }

    /// Breaks with: scores other than those that the formula gives.
    #[test]
    fn scores_are_the_formulas() {
        // One word in one of two texts: ln(1 + (2 − 1 + 0.5) / (1 + 0.5)) = ln 2, so it is above
        // what a word in both gives, ln(1 + 0.5 / 2.5) = ln 1.2, even twice.
        let index = Bm25::new(["a a b", "b a c"]);
        assert_eq!(index.find("c", 2), [1]);
        assert_eq!(index.find("a c", 2), [1, 0]);
        assert_eq!(index.find("a", 2), [0, 1]);
    }
}
