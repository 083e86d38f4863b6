//! What JSON does not forbid and Crewlog does: duplicate names, numbers that RFC 8785 would
//! change, deep nesting.
//!
//! The log keeps RFC 8785 canonical bytes and proves them for ever, so nothing may enter
//! that two readers could understand differently. serde_json checks the grammar; then
//! `Scanner` walks the same text once, with the numbers as they were written. It never
//! repeats contents: a malformed body is told by line and column.

use std::{borrow::Cow, collections::HashSet};

use serde::de::IgnoredAny;

use super::fields::{FieldCode, FieldError, escaped};

/// How deep arrays and objects may lie in each other.
pub const DEPTH_MAX: usize = 32;

/// 2^53 − 1: the largest whole number that every reader keeps (RFC 8785, section 3.2.2.3).
const WHOLE_NUMBER_MAX: f64 = 9_007_199_254_740_991.0;

/// More than these are not looked for.
const FOUND_MAX: usize = 20;

/// Why a text is not one JSON value, and where it stops being one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at line {line}, column {column}")]
pub struct Malformed {
    reason: Cow<'static, str>,
    /// Counted from 1.
    line: usize,
    /// In bytes, counted from 1.
    column: usize,
}

impl Malformed {
    fn at(bytes: &[u8], offset: usize, reason: impl Into<Cow<'static, str>>) -> Self {
        let before = bytes.get(..offset).unwrap_or(bytes);
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        Self {
            reason: reason.into(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: before.len() - line_start + 1,
        }
    }

    /// serde_json's words for broken grammar are fixed and hold nothing of the input; those
    /// for anything else are not used here.
    fn of_grammar(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let reason = text
            .rsplit_once(" at line ")
            .map_or("not JSON", |(reason, _)| reason);
        Self {
            reason: reason.to_owned().into(),
            line: error.line(),
            column: error.column(),
        }
    }
}

/// Checks that `bytes` are one JSON value in UTF-8, and finds what Crewlog refuses in it:
/// at most the first twenty places.
///
/// # Errors
/// When they are not one JSON value, or one that is nested more than [`DEPTH_MAX`] deep.
pub fn check(bytes: &[u8]) -> Result<(&str, Vec<FieldError>), Malformed> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Malformed::at(bytes, error.valid_up_to(), "not UTF-8"))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| Malformed::of_grammar(&error))?;
    Ok((text, refused(text)?))
}

/// What Crewlog refuses in a text that was read as one JSON value already: at most the first
/// twenty places.
///
/// # Errors
/// When it is nested more than [`DEPTH_MAX`] deep, or a string in it is no text.
pub fn refused(text: &str) -> Result<Vec<FieldError>, Malformed> {
    let mut scanner = Scanner {
        text,
        at: 0,
        pointer: String::new(),
        found: Vec::new(),
    };
    scanner.value(0)?;
    Ok(scanner.found)
}

/// Whether a JSON number still has the same value after RFC 8785 wrote it, and that form is
/// one that is accepted in turn.
pub fn keeps_its_value(number: &str) -> bool {
    let Some(value) = number.parse::<f64>().ok().filter(|value| value.is_finite()) else {
        return false;
    };
    let Ok(canonical) = serde_json_canonicalizer::to_string(&value) else {
        return false;
    };
    let whole = canonical
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-');
    let too_large = whole && value.abs() > WHOLE_NUMBER_MAX;
    let negative_zero = value == 0.0 && number.starts_with('-');
    !too_large && !negative_zero && Decimal::of(number) == Decimal::of(&canonical)
}

/// A number as digits without zeros around them, times a power of ten.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: Option<i64>,
}

impl Decimal {
    fn of(number: &str) -> Self {
        let unsigned = number.trim_start_matches('-');
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        let scale = (all.len() - digits.len()) as i64 - fraction.len() as i64;
        let digits = digits.trim_start_matches('0').to_owned();
        let exponent = exponent
            .parse::<i64>()
            .ok()
            .and_then(|given| given.checked_add(scale));
        Self {
            negative: number.starts_with('-'),
            exponent: if digits.is_empty() { Some(0) } else { exponent },
            digits,
        }
    }
}

/// The names in one object. Few are compared with each other, which is faster than hashing them;
/// so many that somebody could mean harm are hashed.
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    const FEW_MAX: usize = 16;

    /// Answers whether it is a new one.
    fn insert(&mut self, name: Cow<'a, str>) -> bool {
        if self.few.contains(&name) || self.many.contains(&name) {
            return false;
        }
        match self.few.len() < Self::FEW_MAX {
            true => self.few.push(name),
            false => drop(self.many.insert(name)),
        }
        true
    }
}

/// Walks a text whose grammar was checked already.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    pointer: String,
    found: Vec<FieldError>,
}

impl<'a> Scanner<'a> {
    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        self.skip(|byte| byte.is_ascii_whitespace());
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => {
                self.number();
                Ok(())
            }
            _ => {
                self.skip(|byte| byte.is_ascii_alphabetic());
                Ok(())
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Malformed> {
        self.enter(depth)?;
        let mut names = Names::default();
        loop {
            self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
            match self.peek() {
                Some(b'"') => self.member(&mut names, depth)?,
                Some(b'}') => break self.at += 1,
                _ => return Err(self.malformed("expected a member")),
            }
        }
        Ok(())
    }

    fn member(&mut self, names: &mut Names<'a>, depth: usize) -> Result<(), Malformed> {
        let name = self.string()?;
        let parent = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&escaped(&name));
        if !names.insert(name) {
            self.report(
                FieldCode::DuplicateName,
                "this name is there twice in one object",
            );
        }
        self.skip(|byte| byte.is_ascii_whitespace() || byte == b':');
        self.value(depth)?;
        self.pointer.truncate(parent);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Malformed> {
        self.enter(depth)?;
        let parent = self.pointer.len();
        for index in 0_usize.. {
            self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
            match self.peek() {
                Some(b']') => break,
                None => return Err(self.malformed("expected an item")),
                Some(_) => {}
            }
            self.pointer.push_str(&format!("/{index}"));
            self.value(depth)?;
            self.pointer.truncate(parent);
        }
        self.at += 1;
        Ok(())
    }

    fn number(&mut self) {
        let number = self
            .skip(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
        if !keeps_its_value(number) {
            self.report(
                FieldCode::NotCanonicalNumber,
                "RFC 8785 would change this number: whole numbers go up to 9007199254740991 either way, others have \
                 the precision of a double; send it as a string",
            );
        }
    }

    /// A string's contents, unescaped; refuses lone surrogates, which are no text.
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let start = self.at;
        self.at += 1;
        loop {
            self.skip(|byte| byte != b'"' && byte != b'\\');
            match self.peek() {
                Some(b'\\') => self.at += 2,
                Some(_) => break self.at += 1,
                None => return Err(self.malformed("expected the end of a string")),
            }
        }
        let quoted = self.text.get(start..self.at).unwrap_or_default();
        if !quoted.contains('\\') {
            return Ok(Cow::Borrowed(quoted.trim_matches('"')));
        }
        match serde_json::from_str(quoted) {
            Ok(name) => Ok(Cow::Owned(name)),
            Err(_) => Err(Malformed::at(
                self.text.as_bytes(),
                start,
                "not a valid string",
            )),
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return Err(self.malformed(format!("nested more than {DEPTH_MAX} deep")));
        }
        self.at += 1;
        Ok(())
    }

    fn report(&mut self, code: FieldCode, detail: &'static str) {
        if self.found.len() < FOUND_MAX {
            self.found
                .push(FieldError::new(code, self.pointer.clone(), detail));
        }
    }

    fn malformed(&self, reason: impl Into<Cow<'static, str>>) -> Malformed {
        Malformed::at(self.text.as_bytes(), self.at, reason)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Moves past the bytes that `belongs` accepts, and returns them.
    fn skip(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&belongs) {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<(FieldCode, String)> {
        let (_, found) = check(text.as_bytes()).expect("JSON");
        found
            .iter()
            .map(|error| (error.code(), error.pointer().to_owned()))
            .collect()
    }

    #[test]
    fn numbers_that_would_change_are_refused() {
        for kept in [
            "0",
            "1",
            "-1",
            "1.0",
            "1e2",
            "1E+2",
            "0.1",
            "0.10",
            "-0.5",
            "1e-7",
            "0.0",
            "0e5",
            "9007199254740991",
            "-9007199254740991",
            "1e21",
            "1.7976931348623157e308",
            "5e-324",
        ] {
            assert!(keeps_its_value(kept), "{kept}");
        }
        for changed in [
            "-0",
            "-0.0",
            "9007199254740992",
            "9007199254740993",
            "-9007199254740992",
            "18446744073709551615",
            "1e400",
            "-1e400",
            "1e-400",
            "0.1000000000000000055511151231",
            "1e16",
            "1e99999999999999999999",
            "3.14159265358979323846",
        ] {
            assert!(!keeps_its_value(changed), "{changed}");
        }
    }

    #[test]
    fn what_is_refused_is_pointed_at() {
        let text = r#"{"a/b":[1,{"c":9007199254740993}],"d":{"e":1,"\u0065":2},"f":-0,"g":"-0\""}"#;
        assert_eq!(
            found(text),
            [
                (FieldCode::NotCanonicalNumber, "/a~1b/1/c".to_owned()),
                (FieldCode::DuplicateName, "/d/e".to_owned()),
                (FieldCode::NotCanonicalNumber, "/f".to_owned()),
            ]
        );
        assert_eq!(found("[[],{},[{}], true, null, \"\\\\\"]"), []);
        assert_eq!(
            found("-0"),
            [(FieldCode::NotCanonicalNumber, String::new())]
        );
        assert_eq!(
            found(&format!("[{}]", ["-0"; 50].join(","))).len(),
            FOUND_MAX
        );
    }

    #[test]
    fn malformed_bodies_are_told_by_line_and_column() {
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        for (bytes, place) in [
            (&b"{\"secret\"\n : hunter2}"[..], "at line 2, column 4"),
            (b"", "at line 1, column 0"),
            (b"{} {}", "trailing characters at line 1, column 4"),
            (b"\n\"\xff\"", "not UTF-8 at line 2, column 2"),
            (
                b"{\"a\":\"\\ud800\"}",
                "not a valid string at line 1, column 6",
            ),
            (b"[1,]", "at line 1, column 4"),
            (
                deep.as_bytes(),
                "nested more than 32 deep at line 1, column 33",
            ),
        ] {
            let told = check(bytes).expect_err("malformed").to_string();
            assert!(told.ends_with(place), "{told}");
            assert!(
                !told.contains("hunter2") && !told.contains("secret"),
                "{told}"
            );
        }
        assert!(check(&deep.as_bytes()[1..deep.len() - 1]).is_ok());
    }

    proptest! {
        #[test]
        fn it_never_panics_and_agrees_with_the_grammar(text in "[\\[\\]{}\",:0-9eE.\\\\u+ tn-]{0,40}") {
            let is_json = serde_json::from_str::<serde_json::Value>(&text);
            if check(text.as_bytes()).is_ok() {
                // An overflowing exponent is grammar to one and an error to the other.
                let overflow = |error: &serde_json::Error| error.to_string().contains("out of range");
                prop_assert!(is_json.is_ok() || is_json.is_err_and(|error| overflow(&error)));
            } else {
                prop_assert!(is_json.is_err());
            }
        }

        #[test]
        fn every_double_is_kept_in_its_canonical_form(value in proptest::num::f64::NORMAL) {
            let text = serde_json_canonicalizer::to_string(&value).expect("a number");
            let whole = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
            prop_assert_eq!(keeps_its_value(&text), !whole || value.abs() <= WHOLE_NUMBER_MAX);
        }
    }
}
