//! What an organization or a workspace is called, checked before it enters a command.
//!
//! Events keep plain text: what was once accepted stays readable when this check changes.

use std::fmt;

/// A display name: trimmed, 1 to [`Name::CHARACTERS_MAX`] Unicode scalar values, none of
/// them a control character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text cannot be a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing is left once the blanks around it are gone.
    #[error("a name holds at least one character that is not a blank")]
    Empty,
    /// More than may be shown.
    #[error("a name has at most {} characters", Name::CHARACTERS_MAX)]
    TooLong,
    /// It would break a line, or show as something else than it is.
    #[error("a name holds no control characters")]
    ControlCharacter,
}

impl Name {
    /// The most Unicode scalar values that a name may have.
    pub const CHARACTERS_MAX: usize = 120;

    /// The name in `text`, without the blanks around it.
    ///
    /// # Errors
    /// When nothing is left, when it is too long, or when it holds a control character.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(InvalidName::Empty);
        }
        if trimmed.chars().count() > Self::CHARACTERS_MAX {
            return Err(InvalidName::TooLong);
        }
        if trimmed.chars().any(is_control) {
            return Err(InvalidName::ControlCharacter);
        }
        Ok(Self(trimmed.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Besides Unicode's own class: separators of lines and paragraphs, and the embeddings,
/// overrides and isolates of text direction, with which a name in an audit log could be
/// made to read as another.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_and_counted_in_characters() {
        assert_eq!(Name::parse("  Acme Corp \n").unwrap().as_str(), "Acme Corp");
        let longest = "é".repeat(Name::CHARACTERS_MAX);
        assert_eq!(Name::parse(&longest).unwrap().as_str(), longest);
        assert_eq!(
            Name::parse(&format!("{longest}é")),
            Err(InvalidName::TooLong)
        );
    }

    #[test]
    fn a_name_is_something_and_hides_nothing() {
        for blank in ["", " ", "\t\n\u{a0}"] {
            assert_eq!(Name::parse(blank), Err(InvalidName::Empty), "{blank:?}");
        }
        for hidden in [
            "a\0b",
            "a\nb",
            "a\u{7f}b",
            "a\u{85}b",
            "a\u{202e}b",
            "a\u{2028}b",
        ] {
            assert_eq!(
                Name::parse(hidden),
                Err(InvalidName::ControlCharacter),
                "{hidden:?}"
            );
        }
    }
}
