//! How many tokens a text has, before there is a tokenizer.

use dsv3_tokenizer::Segment;

/// Words of up to this many letters are one token more often than not in a vocabulary of about
/// 2,500 entries trained on the corpus; longer ones are counted as two.
const LETTERS_A_TOKEN: usize = 10;

/// About how many tokens the text has: words, digits and runs of punctuation, as V3.1's
/// pre-tokenizer cuts them. [`crate::train_tokenizer`]'s tests hold it to the real count.
pub(crate) fn tokens(text: &str) -> usize {
    let mut count = 0;
    let mut letters = 0usize;
    // What came before decides whether a space or a mark begins a token.
    let mut before = ' ';
    for c in text.chars() {
        if c.is_alphabetic() {
            if letters.is_multiple_of(LETTERS_A_TOKEN) {
                count += 1;
            }
            letters += 1;
        } else {
            letters = 0;
            let alone = c.is_ascii_digit()
                || (c == '\n' && before != '\n' && !before.is_ascii_punctuation())
                || (c.is_ascii_punctuation() && !before.is_ascii_punctuation());
            // A number's space has no word to join.
            count += usize::from(alone) + usize::from(c.is_ascii_digit() && before == ' ');
        }
        before = c;
    }
    count
}

/// The same of segments: a control token is one.
pub(crate) fn of_segments(segments: &[Segment]) -> usize {
    segments
        .iter()
        .map(|segment| match segment {
            Segment::Special(_) => 1,
            Segment::Text(text) => tokens(text),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Breaks with: digits counted as groups, or a space counted where it joins its word.
    #[test]
    fn words_digits_and_marks_are_counted_as_the_pre_tokenizer_cuts_them() {
        // The| code| is| |4|8|.
        assert_eq!(tokens("The code is 48."), 7);
        // {"|city|":| "|Oslo|"}
        assert_eq!(tokens(r#"{"city": "Oslo"}"#), 6);
    }
}
