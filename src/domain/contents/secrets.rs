//! Secrets that somebody has written into a content: known formats, each with a line in the table.
//!
//! A content is promoted, exported and read by many; a credential belongs into an integration,
//! where it is sealed. Never repeats what it has found.
//!
//! To add a format: its line in [`FORMATS`] and an example in the tests.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{Finding, below};

/// At most this many are told of one content.
const FOUND_MAX: usize = 20;

/// How a kind of secret looks: how it begins, and at least how many characters of which kind
/// follow.
struct Format {
    what: &'static str,
    prefix: &'static str,
    follows: fn(u8) -> bool,
    least: usize,
}

const fn format(
    what: &'static str,
    prefix: &'static str,
    follows: fn(u8) -> bool,
    least: usize,
) -> Format {
    Format {
        what,
        prefix,
        follows,
        least,
    }
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn dotted(byte: u8) -> bool {
    word(byte) || byte == b'.'
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

fn path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/'
}

const FORMATS: [Format; 34] = [
    format("a key of Crewlog", "crew_dev_", alphanumeric, 27),
    format("a key of Crewlog", "crew_stg_", alphanumeric, 27),
    format("a key of Crewlog", "crew_prod_", alphanumeric, 27),
    format("a key of Crewlog", "crew_org_", alphanumeric, 27),
    format("an access key of AWS", "AKIA", upper, 16),
    format("an access key of AWS", "ASIA", upper, 16),
    format("a token of GitHub", "ghp_", alphanumeric, 36),
    format("a token of GitHub", "gho_", alphanumeric, 36),
    format("a token of GitHub", "ghu_", alphanumeric, 36),
    format("a token of GitHub", "ghs_", alphanumeric, 36),
    format("a token of GitHub", "ghr_", alphanumeric, 36),
    format("a token of GitHub", "github_pat_", word, 22),
    format("a token of GitLab", "glpat-", word, 20),
    format("a token of Slack", "xoxb-", word, 20),
    format("a token of Slack", "xoxp-", word, 20),
    format("a token of Slack", "xoxa-", word, 20),
    format("a token of Slack", "xoxr-", word, 20),
    format("a token of Slack", "xoxs-", word, 20),
    format("a token of Slack", "xapp-", word, 20),
    format("a webhook of Slack", "hooks.slack.com/services/", path, 30),
    format("a key of Stripe", "sk_live_", alphanumeric, 16),
    format("a key of Stripe", "sk_test_", alphanumeric, 16),
    format("a key of Stripe", "rk_live_", alphanumeric, 16),
    format("a key of Stripe", "rk_test_", alphanumeric, 16),
    format("a webhook secret", "whsec_", base64, 24),
    format("a key of Google", "AIza", word, 35),
    format("a token of Google", "ya29.", word, 20),
    format("a client secret of Google", "GOCSPX-", word, 20),
    format("a key of OpenAI", "sk-proj-", word, 20),
    format("a key of Anthropic", "sk-ant-", word, 20),
    format("a token of npm", "npm_", alphanumeric, 36),
    format("a token of PyPI", "pypi-", word, 50),
    format("a key of SendGrid", "SG.", dotted, 40),
    format("a key of Hugging Face", "hf_", alphanumeric, 30),
];

/// Every place with a secret of a known format: in a text, or in the name of a member.
pub fn find(content: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    search(content, "", &mut found);
    found
}

/// The same of a text that is no JSON, at `pointer` in what was sent.
pub fn find_in_text(pointer: &str, text: &str) -> Option<Finding> {
    let mut found = Vec::new();
    report(text, pointer.to_owned(), &mut found);
    found.pop()
}

/// What kind of secret is in a text, if one is.
pub fn secret_in(text: &str) -> Option<&'static str> {
    if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
        return Some("a private key");
    }
    let of_format = FORMATS.iter().find(|format| format.is_in(text));
    of_format
        .map(|format| format.what)
        .or_else(|| has_jwt(text).then_some("a JSON web token"))
}

impl Format {
    fn is_in(&self, text: &str) -> bool {
        text.match_indices(self.prefix).any(|(at, _)| {
            let bytes = text.as_bytes();
            let rest = &bytes[at + self.prefix.len()..];
            let long = rest
                .iter()
                .take_while(|byte| (self.follows)(**byte))
                .count();
            starts_a_word(bytes, at) && long >= self.least
        })
    }
}

/// A secret is a word of its own: `task_live_…` has no `sk_live_` in it.
fn starts_a_word(bytes: &[u8], at: usize) -> bool {
    at == 0 || !bytes[at - 1].is_ascii_alphanumeric()
}

/// Three parts of base64url, the first of which is a JSON object that names an algorithm: what
/// merely begins like one is none.
fn has_jwt(text: &str) -> bool {
    text.match_indices("eyJ").any(|(at, _)| {
        let token = &text[at..];
        let end = token
            .bytes()
            .position(|byte| !dotted(byte))
            .unwrap_or(token.len());
        let mut parts = token[..end].split('.');
        let (Some(header), Some(claims), Some(signature)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).ok();
        let header = header.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let names_algorithm = header.is_some_and(|header| header.get("alg").is_some());
        let signed = claims.len() >= 8 && signature.len() >= 16;
        starts_a_word(text.as_bytes(), at) && names_algorithm && signed
    })
}

fn search(value: &Value, pointer: &str, found: &mut Vec<Finding>) {
    if found.len() >= FOUND_MAX {
        return;
    }
    match value {
        Value::String(text) => report(text, pointer.to_owned(), found),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                search(item, &format!("{pointer}/{index}"), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                // Its own name would repeat it.
                if secret_in(name).is_some() {
                    report(name, pointer.to_owned(), found);
                } else {
                    search(member, &below(pointer, name), found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn report(text: &str, pointer: String, found: &mut Vec<Finding>) {
    if let Some(what) = secret_in(text) {
        let detail = format!("this looks like {what}; credentials belong into an integration");
        found.push(Finding { pointer, detail });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_format_is_found_and_its_look_alike_is_not() {
        for format in &FORMATS {
            let body = "A1".repeat(format.least.div_ceil(2));
            let secret = format!("key={}{body};", format.prefix);
            assert_eq!(secret_in(&secret), Some(format.what), "{}", format.prefix);
            let short = &body[..format.least - 1];
            assert_eq!(secret_in(&format!("{}{short}", format.prefix)), None);
            assert_eq!(secret_in(&format!("a{}{body}", format.prefix)), None);
        }
    }

    #[test]
    fn keys_and_tokens_of_other_shapes_are_found() {
        let pem = ["-----BEGIN RSA PRIVATE", " KEY-----\nMII"].concat();
        assert_eq!(secret_in(&pem), Some("a private key"));
        assert_eq!(secret_in("-----BEGIN PUBLIC KEY-----"), None);
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let header = part(r#"{"alg":"HS256"}"#);
        let token = format!(
            "Bearer {header}.{}.{}",
            part(r#"{"sub":"1"}"#),
            "s".repeat(43)
        );
        assert_eq!(secret_in(&token), Some("a JSON web token"));
        for none in [header.clone(), format!("{}.a.b", part(r#"{"a":1}"#))] {
            assert_eq!(secret_in(&none), None, "{none}");
        }
    }

    #[test]
    fn it_is_told_where_and_never_what() {
        let secret = format!("sk_live_{}", "a1".repeat(12));
        let content = json!({"a/b": ["fine", {"c": secret}], secret.clone(): 1, "d": 2});
        let found = find(&content);
        let places: Vec<_> = found.iter().map(|found| found.pointer.as_str()).collect();
        assert_eq!(places, ["/a~1b/1/c", ""]);
        assert!(found.iter().all(|found| !found.detail.contains("a1a1")));
        assert!(find(&json!({"text": "skip sk_live_ and AKIA"})).is_empty());
    }
}
