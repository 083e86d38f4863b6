//! serde's complaints, read back from its messages.
//!
//! serde tells a mistake only as a text, and the text repeats what was sent. What is kept of
//! it here is what the type expected, never what came. The tests of [`super::json`] and
//! [`super::query`] hold serde's wording: should it change, they fail.

use std::borrow::Cow;

/// What a type had to say against a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// No such field; these are.
    UnknownField { allowed: Vec<String> },
    /// A field that must be there.
    MissingField { name: String },
    /// A field that is there twice.
    DuplicateField { name: String },
    /// Not one of the values that an enum has.
    UnknownVariant { expected: String },
    /// Another type.
    WrongType { expected: String },
    /// What the type itself says.
    Other { detail: String },
}

impl Complaint {
    /// Reads one message, without the place that serde_json appends.
    pub(super) fn of(message: &str) -> Self {
        let expected = message
            .rsplit_once(", expected ")
            .map(|(_, expected)| expected);
        let words = || match expected {
            Some(expected) => format!("expected {}", in_json_words(expected)),
            None => "this value is not allowed".to_owned(),
        };
        if message.starts_with("unknown field `") {
            let allowed = expected.map(quoted_names).unwrap_or_default();
            Self::UnknownField { allowed }
        } else if let Some(name) = message.strip_prefix("missing field `") {
            let name = name.trim_end_matches('`').to_owned();
            Self::MissingField { name }
        } else if let Some(name) = message.strip_prefix("duplicate field `") {
            let name = name.trim_end_matches('`').to_owned();
            Self::DuplicateField { name }
        } else if message.starts_with("unknown variant `") {
            Self::UnknownVariant { expected: words() }
        } else if message.starts_with("invalid type: ") {
            Self::WrongType { expected: words() }
        } else if message.starts_with("invalid value: ") || message.starts_with("invalid length ") {
            Self::Other { detail: words() }
        } else {
            Self::Other {
                detail: message.to_owned(),
            }
        }
    }
}

/// The names in "one of `a`, `b`".
fn quoted_names(expected: &str) -> Vec<String> {
    let between = expected.split('`').skip(1).step_by(2);
    between.map(str::to_owned).collect()
}

/// What a type expects, without the names that Rust has for it.
fn in_json_words(expected: &str) -> Cow<'_, str> {
    match expected {
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" | "u64" | "usize" => "a whole number, 0 or above".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a map" => "an object".into(),
        "a sequence" => "an array".into(),
        named if named.starts_with("struct ") => "an object".into(),
        named if named.contains(" enum ") || named.starts_with("enum ") => {
            "one of its variants".into()
        }
        other => other.into(),
    }
}
