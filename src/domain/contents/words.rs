//! The words of a text, as they are looked for: in any language, whatever their case and accents.
//!
//! Words are those of Unicode (UAX #29), taken apart at apostrophes, dots and `_`, so that a part
//! of a name or an address is found as well. Scripts without spaces are looked for by character.

use unicode_normalization::{UnicodeNormalization, char::canonical_combining_class};
use unicode_segmentation::UnicodeSegmentation;

/// A word, and where it stands in its text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    pub at: usize,
    pub text: &'a str,
}

/// The words of a text, in its order.
pub fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    text.unicode_word_indices()
        .flat_map(|(at, whole)| parts(at, whole))
}

/// What stands between characters that are of no word alone.
fn parts(at: usize, whole: &str) -> impl Iterator<Item = Word<'_>> {
    let parts = whole.split(['.', ':', ',', ';', '_', '\'', '\u{2018}', '\u{2019}']);
    let begin = whole.as_ptr() as usize;
    parts.filter(|part| !part.is_empty()).map(move |text| Word {
        at: at + (text.as_ptr() as usize - begin),
        text,
    })
}

/// A word without case, accents and other ways to write the same letters, into `folded`.
pub fn fold(word: &str, folded: &mut String) {
    folded.clear();
    if word.is_ascii() {
        folded.extend(
            word.bytes()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
        return;
    }
    // By way of the upper case, as `ß` and the two small sigmas meet there only.
    let letters = word.nfkd().filter(|letter| !is_accent(*letter));
    let folds = letters
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase);
    folded.extend(folds.filter(|letter| !is_accent(*letter)));
}

/// Marks around a letter, and the points of Hebrew and Arabic, without which the same is written.
/// Those that make another letter (of Indic scripts, Thai, kana) are none.
fn is_accent(letter: char) -> bool {
    matches!(canonical_combining_class(letter), 1 | 10..=36 | 200..=240)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> Vec<String> {
        let fold_one = |word: Word<'_>| {
            let mut folded = String::new();
            fold(word.text, &mut folded);
            folded
        };
        words(text).map(fold_one).collect()
    }

    #[test]
    fn words_of_all_scripts_are_found_without_case_and_accents() {
        for (text, expected) in [
            ("How do I reset it?", &["how", "do", "i", "reset", "it"][..]),
            ("Zwölf STRASSE Straße", &["zwolf", "strasse", "strasse"]),
            ("L’hôtel d'Été", &["l", "hotel", "d", "ete"]),
            (
                "support@example.com snake_case",
                &["support", "example", "com", "snake", "case"],
            ),
            ("ΣΊΣΥΦΟΣ Σίσυφος", &["σισυφοσ", "σισυφοσ"]),
            ("İstanbul ISTANBUL", &["istanbul", "istanbul"]),
            ("ﬁnance ２４", &["finance", "24"]),
            ("Ёлка елка", &["елка", "елка"]),
            ("مُحَمَّد محمد", &["محمد", "محمد"]),
            ("退款", &["退", "款"]),
            ("… !? — ''", &[]),
        ] {
            assert_eq!(folded(text), expected, "{text}");
        }
        // Marks that make another letter stay.
        assert_ne!(folded("が"), folded("か"));
        assert_ne!(folded("कि"), folded("कु"));
    }

    #[test]
    fn a_word_stands_where_it_says() {
        let text = "Wörter, «l’été» und a.b";
        for word in words(text) {
            assert_eq!(&text[word.at..word.at + word.text.len()], word.text);
        }
        assert_eq!(words(text).count(), 6);
    }
}
