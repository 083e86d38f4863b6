//! What is wrong where in a body: the entries of a problem's `errors`.
//!
//! A detail never repeats a value that was sent. To check a new kind of rule, add a
//! constructor here, so that the same mistake is told in the same words everywhere.

use std::{borrow::Cow, ops::RangeInclusive};

use serde::Serialize;
use utoipa::ToSchema;

/// The longest pointer that an answer repeats, in bytes.
const POINTER_LENGTH_MAX: usize = 1_024;

/// The longest `reason` that a command takes, in characters.
const REASON_LENGTH_MAX: usize = 500;

/// The kind of a mistake in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldCode {
    /// No such field here.
    UnknownField,
    /// The same name twice in one object.
    DuplicateName,
    /// A number that RFC 8785 would change.
    NotCanonicalNumber,
    /// A field that must be there.
    MissingField,
    /// Another JSON type.
    WrongType,
    /// The right type, but not a value that is allowed.
    InvalidValue,
    /// Longer than its limit.
    TooLong,
    /// A credential where none may be.
    SecretFound,
    /// More than would be allowed.
    LimitExceeded,
    /// The id of what would be left without an owner; the detail is the id.
    LastOwner,
    /// Of a month that takes no more records.
    MonthClosed,
    /// The id of another record.
    UsageConflict,
}

/// One mistake in a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where: an RFC 6901 pointer into the body; the empty string is the whole body.
    #[schema(format = "json-pointer", example = "/name")]
    pointer: String,
    /// What kind of mistake.
    code: FieldCode,
    /// The same for a person to read.
    detail: Cow<'static, str>,
}

impl FieldError {
    /// A mistake of any kind. `pointer` is an RFC 6901 pointer, `/name`.
    pub fn new(
        code: FieldCode,
        pointer: impl Into<String>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            pointer: shortened(pointer.into()),
            code,
            detail: detail.into(),
        }
    }

    /// A field that does not exist; `allowed` are those that do.
    pub fn unknown(pointer: impl Into<String>, allowed: &[String]) -> Self {
        let detail = match allowed {
            [] => "there is no such field, and none is allowed here".to_owned(),
            names => format!("there is no such field; allowed: {}", names.join(", ")),
        };
        Self::new(FieldCode::UnknownField, pointer, detail)
    }

    /// A field that must be there.
    pub fn missing(pointer: impl Into<String>) -> Self {
        Self::new(FieldCode::MissingField, pointer, "this field is required")
    }

    /// The right type, but a value that is not allowed; `detail` says what is.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FieldCode::InvalidValue, pointer, detail)
    }

    /// Longer than `limit` characters.
    pub fn too_long(pointer: impl Into<String>, limit: usize) -> Self {
        let detail = format!("at most {limit} characters");
        Self::new(FieldCode::TooLong, pointer, detail)
    }

    /// More than `limit` items.
    pub fn too_many(pointer: impl Into<String>, limit: usize) -> Self {
        Self::new(
            FieldCode::TooLong,
            pointer,
            format!("at most {limit} items"),
        )
    }

    /// Checks a text's length in characters, both bounds inclusive, and that it has no
    /// control characters.
    pub fn check_text(pointer: &str, text: &str, length: RangeInclusive<usize>) -> Option<Self> {
        let count = text.chars().count();
        if count > *length.end() {
            Some(Self::too_long(pointer, *length.end()))
        } else if count < *length.start() {
            let detail = format!("at least {} characters", length.start());
            Some(Self::invalid(pointer, detail))
        } else if text.chars().any(char::is_control) {
            Some(Self::invalid(pointer, "no control characters"))
        } else {
            None
        }
    }

    /// Checks a command's `reason`: at most 500 characters, of any kind.
    pub fn check_reason(reason: Option<&str>) -> Option<Self> {
        reason.and_then(|text| Self::long_reason("/reason", text))
    }

    /// Checks a reason that must be there, at `pointer`: as [`FieldError::check_reason`], and not
    /// blank.
    pub fn check_why(pointer: &str, reason: &str) -> Option<Self> {
        if reason.trim().is_empty() {
            return Some(Self::invalid(pointer, "say why"));
        }
        Self::long_reason(pointer, reason)
    }

    fn long_reason(pointer: &str, reason: &str) -> Option<Self> {
        let long = reason.chars().count() > REASON_LENGTH_MAX;
        long.then(|| Self::too_long(pointer, REASON_LENGTH_MAX))
    }

    /// Where.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// What kind of mistake.
    pub fn code(&self) -> FieldCode {
        self.code
    }

    /// The same for a person to read.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn pointer_or_body(&self) -> &str {
        match self.pointer.as_str() {
            "" => "the body",
            pointer => pointer,
        }
    }
}

/// Rules of a body that its types cannot tell. [`super::json::Json`] asks it after
/// deserializing; what is returned is answered as `422 invalid_body`.
pub trait Validate {
    /// Everything that is wrong; empty when all is well.
    fn validate(&self) -> Vec<FieldError> {
        Vec::new()
    }
}

/// A JSON document without a shape of its own, as agents' configurations are.
impl Validate for serde_json::Value {}

/// Escapes one member name for a pointer (RFC 6901, section 3).
pub fn escaped(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) {
        Cow::Owned(name.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(name)
    }
}

fn shortened(mut pointer: String) -> String {
    if pointer.len() > POINTER_LENGTH_MAX {
        let cut = (0..=POINTER_LENGTH_MAX)
            .rev()
            .find(|at| pointer.is_char_boundary(*at));
        pointer.truncate(cut.unwrap_or(0));
        pointer.push('…');
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_counted_in_characters() {
        let check = |text: &str| FieldError::check_text("/name", text, 1..=3).map(|e| e.code());
        assert_eq!(check("äöü"), None);
        assert_eq!(check("äöüß"), Some(FieldCode::TooLong));
        assert_eq!(check(""), Some(FieldCode::InvalidValue));
        assert_eq!(check("a\nb"), Some(FieldCode::InvalidValue));
        assert_eq!(FieldError::check_reason(None), None);
        assert_eq!(FieldError::check_reason(Some(&"r".repeat(500))), None);
        assert!(FieldError::check_reason(Some(&"r".repeat(501))).is_some());
    }

    #[test]
    fn pointers_are_escaped_and_bounded() {
        assert_eq!(escaped("a/b~c"), "a~1b~0c");
        let error = FieldError::missing("é".repeat(2_000));
        assert!(error.pointer().len() <= POINTER_LENGTH_MAX + '…'.len_utf8());
    }
}
