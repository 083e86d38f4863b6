//! Canonical JSON (RFC 8785) of values of ours, as the log keeps it.
//!
//! Payloads and metadata are made of objects with plain names, strings, whole numbers, booleans
//! and nulls, which `serde_json` already writes as RFC 8785 has them, but for the order of
//! members: that is mended in its text. For anything else the library that knows all of RFC 8785
//! is asked. Never guesses: a byte that it does not know sends it there.

use serde::Serialize;

/// RFC 8785 canonical JSON of a value of ours.
///
/// # Errors
/// When the value cannot be JSON: a map whose keys are not strings, a number beyond a double.
pub fn to_canonical<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(value)?;
    let mut sorter = Sorter {
        text: &text,
        at: 0,
        sorted: String::with_capacity(text.len()),
    };
    match sorter.value(DEPTH_MAX) {
        Some(()) if sorter.at == text.len() => Ok(sorter.sorted),
        _ => serde_json_canonicalizer::to_string(value),
    }
}

/// Deeper values are the library's.
const DEPTH_MAX: usize = 32;

/// The most digits of a number that is surely the same as a double: 2^53 has sixteen.
const DIGITS_MAX: usize = 15;

/// Copies what `serde_json` wrote, with the members of each object in order.
struct Sorter<'a> {
    text: &'a str,
    at: usize,
    sorted: String,
}

impl Sorter<'_> {
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Copies text up to `end` (exclusive).
    fn copy_to(&mut self, end: usize) {
        self.sorted.push_str(&self.text[self.at..end]);
        self.at = end;
    }

    /// Copies one value; none where it is not of the plain kind.
    fn value(&mut self, depth: usize) -> Option<()> {
        match self.next()? {
            b'"' => self.string(),
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.array(depth.checked_sub(1)?),
            b't' | b'n' => self.word(4),
            b'f' => self.word(5),
            b'-' | b'0'..=b'9' => self.integer(),
            _ => None,
        }
    }

    fn word(&mut self, length: usize) -> Option<()> {
        self.copy_to(self.at + length);
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        let bytes = &self.text.as_bytes()[self.at + 1..];
        let mut end = 0;
        loop {
            match bytes.get(end)? {
                b'"' => break,
                // Escapes are written alike by both: the shortest, or \u with small digits.
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        self.copy_to(self.at + end + 2);
        Some(())
    }

    fn integer(&mut self) -> Option<()> {
        let number = &self.text.as_bytes()[self.at..];
        let end = number
            .iter()
            .position(|byte| !matches!(byte, b'-' | b'0'..=b'9'))
            .unwrap_or(number.len());
        let is_whole = !matches!(number.get(end), Some(b'.' | b'e' | b'E'));
        let is_zero_of_its_own = number.starts_with(b"-0");
        (is_whole && !is_zero_of_its_own && end <= DIGITS_MAX).then(|| self.copy_to(self.at + end))
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.copy_to(self.at + 1);
        while self.next()? != b']' {
            if self.next()? == b',' {
                self.copy_to(self.at + 1);
            }
            self.value(depth)?;
        }
        self.copy_to(self.at + 1);
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.copy_to(self.at + 1);
        let start = self.sorted.len();
        let mut members = Vec::new();
        while self.next()? != b'}' {
            if self.next()? == b',' {
                self.at += 1;
                self.sorted.push(',');
            }
            let member = self.sorted.len();
            self.string()?;
            let name = member..self.sorted.len();
            // UTF-16 orders other names in another way than bytes do, and so do escapes.
            let is_plain = |byte: u8| byte.is_ascii() && byte != b'\\';
            if !self.sorted[name.clone()].bytes().all(is_plain) {
                return None;
            }
            self.copy_to(self.at + 1);
            self.value(depth)?;
            members.push((name, self.sorted.len()));
        }
        let written = &self.sorted;
        // Without the quotes, so that a name comes before one that it begins.
        let name = |member: &(std::ops::Range<usize>, usize)| {
            &written[member.0.start + 1..member.0.end - 1]
        };
        if !members.is_sorted_by(|left, right| name(left) < name(right)) {
            let mut order: Vec<_> = members.iter().collect();
            order.sort_by_key(|member| name(member));
            if order.windows(2).any(|pair| name(pair[0]) == name(pair[1])) {
                return None;
            }
            let members = order.iter().map(|(name, end)| &written[name.start..*end]);
            let sorted = members.collect::<Vec<_>>().join(",");
            self.sorted.truncate(start);
            self.sorted.push_str(&sorted);
        }
        self.copy_to(self.at + 1);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A value whose members are written in the order that a map happens to have.
    #[derive(Debug, Clone, Serialize)]
    #[serde(untagged)]
    enum Anything {
        Nothing,
        Truth(bool),
        Whole(i64),
        Small(i16),
        Broken(f64),
        Text(String),
        List(Vec<Anything>),
        Object(HashMap<String, Anything>),
    }

    fn anything() -> impl Strategy<Value = Anything> {
        let leaf = prop_oneof![
            Just(Anything::Nothing),
            any::<bool>().prop_map(Anything::Truth),
            any::<i64>().prop_map(Anything::Whole),
            any::<i16>().prop_map(Anything::Small),
            any::<f64>()
                .prop_filter("JSON has no others", |number| number.is_finite())
                .prop_map(Anything::Broken),
            any::<String>().prop_map(Anything::Text),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| {
            let name = prop_oneof!["[a-c_]{0,3}", any::<String>()];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Anything::List),
                prop::collection::hash_map(name, inner, 0..6).prop_map(Anything::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_the_library_says(value in anything()) {
            prop_assert_eq!(
                to_canonical(&value).unwrap(),
                serde_json_canonicalizer::to_string(&value).unwrap()
            );
        }
    }

    #[test]
    fn members_are_sorted_at_every_depth() {
        #[derive(Serialize)]
        struct Outer {
            b: [Inner; 2],
            a: Option<Inner>,
            ab: &'static str,
        }
        #[derive(Serialize)]
        struct Inner {
            z: u64,
            y: (),
        }
        let inner = || Inner { z: 7, y: () };
        let outer = Outer {
            b: [inner(), inner()],
            a: None,
            ab: "\u{e9}\"\n\u{1}",
        };
        let expected = r#"{"a":null,"ab":"é\"\n\u0001","b":[{"y":null,"z":7},{"y":null,"z":7}]}"#;
        assert_eq!(to_canonical(&outer).unwrap(), expected);
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_library() {
        for value in [
            json!(-0.0),
            json!(1e21),
            json!(0.5),
            json!({"\u{10000}": 1, "\u{e000}": 2}),
            json!({"\"": 1, "!": 2}),
        ] {
            let expected = serde_json_canonicalizer::to_string(&value).unwrap();
            assert_eq!(to_canonical(&value).unwrap(), expected);
        }
    }
}
