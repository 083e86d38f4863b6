//! Tokens: made, shown once, kept as hashes.
//!
//! A token is a prefix that says what it is, 32 random bytes in base62 and a checksum, so
//! that a mistyped one is told from an unknown one without asking the store.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{domain::environment::Environment, journal::Source};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 32 bytes take 43 digits of base 62.
const BODY_DIGITS: usize = 43;
/// A CRC-32 takes 6 digits of base 62.
const CHECKSUM_DIGITS: usize = 6;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Session,
    Invitation,
    /// A key of a workspace, for one environment.
    ApiKey(Environment),
    /// A key of an organization.
    OrganizationKey,
    /// A key of an operator of the installation.
    OperatorKey,
}

impl TokenKind {
    /// What a token of this kind begins with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Session => "crew_session_",
            Self::Invitation => "crew_invite_",
            Self::ApiKey(Environment::Development) => "crew_dev_",
            Self::ApiKey(Environment::Staging) => "crew_stg_",
            Self::ApiKey(Environment::Production) => "crew_prod_",
            Self::OrganizationKey => "crew_org_",
            Self::OperatorKey => "crew_op_",
        }
    }

    /// Whether a text begins like a token of this kind.
    pub fn begins(self, text: &SecretString) -> bool {
        text.expose_secret().starts_with(self.prefix())
    }

    /// Every kind of API key; an operator's is none, as it is nobody's in an organization.
    pub const API_KEYS: [Self; 4] = [
        Self::ApiKey(Environment::Development),
        Self::ApiKey(Environment::Staging),
        Self::ApiKey(Environment::Production),
        Self::OrganizationKey,
    ];

    /// The kind of API key that a text begins like; none where it is something else.
    pub fn of_api_key(text: &SecretString) -> Option<Self> {
        let mut kinds = Self::API_KEYS.into_iter();
        kinds.find(|kind| kind.begins(text))
    }
}

/// A token in the clear; does not print.
pub struct Token(SecretString);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

impl Token {
    /// A new one.
    pub fn generate(kind: TokenKind, source: &dyn Source) -> Self {
        let mut random = [0; 32];
        source.fill(&mut random);
        let body: String = base62::<32, BODY_DIGITS>(random)
            .map(char::from)
            .iter()
            .collect();
        Self(with_checksum(kind, &body).into())
    }

    /// Reads a token of a kind; none where its form or its checksum is wrong.
    pub fn parse(kind: TokenKind, text: &SecretString) -> Option<Self> {
        let whole = text.expose_secret().as_bytes();
        let checked = kind.prefix().len() + BODY_DIGITS;
        if !whole.starts_with(kind.prefix().as_bytes()) || whole.len() != checked + CHECKSUM_DIGITS
        {
            return None;
        }
        let (checked, sum) = whole.split_at(checked);
        bool::from(checksum(checked).ct_eq(sum)).then(|| Self(text.clone()))
    }

    /// The text, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// How it begins: its kind and four more characters, by which people tell keys apart. It
    /// leaves more than 230 bits to guess.
    pub fn beginning(&self, kind: TokenKind) -> String {
        let shown = kind.prefix().len() + 4;
        self.expose().chars().take(shown).collect()
    }

    /// SHA-256 of the text: what is kept.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.expose().as_bytes()).into()
    }

    /// The hash in standard base64, as events carry it.
    pub fn hash_text(&self) -> String {
        BASE64_STANDARD.encode(self.hash())
    }
}

fn with_checksum(kind: TokenKind, body: &str) -> String {
    let mut text = format!("{}{body}", kind.prefix());
    let sum = checksum(text.as_bytes());
    text.extend(sum.map(char::from));
    text
}

/// The CRC-32 of what comes before it, in base 62.
fn checksum(checked: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    base62(crc32fast::hash(checked).to_be_bytes())
}

/// A big-endian number in base 62, padded with zeros.
fn base62<const BYTES: usize, const DIGITS: usize>(mut number: [u8; BYTES]) -> [u8; DIGITS] {
    let mut text = [b'0'; DIGITS];
    for digit in text.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
    text
}

/// What signs what is sent to a webhook endpoint, as the Standard Webhooks specification has it:
/// `whsec_` and 32 random bytes in base64.
pub fn signing_secret(source: &dyn Source) -> SecretString {
    let mut random = Zeroizing::new([0; 32]);
    source.fill(random.as_mut());
    let body = Zeroizing::new(BASE64_STANDARD.encode(random.as_ref()));
    SecretString::from(format!("whsec_{}", body.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::SystemSource;

    #[test]
    fn a_token_reads_back_and_a_mistyped_one_does_not() {
        let token = Token::generate(TokenKind::Session, &SystemSource);
        let text = token.expose().to_owned();
        let read = |kind, text: &str| Token::parse(kind, &SecretString::from(text));
        assert_eq!(
            read(TokenKind::Session, &text).map(|token| token.hash()),
            Some(token.hash())
        );
        assert!(read(TokenKind::Invitation, &text).is_none());
        let mut mistyped = text.clone();
        let last = if text.ends_with('0') { '1' } else { '0' };
        mistyped.pop();
        mistyped.push(last);
        assert!(read(TokenKind::Session, &mistyped).is_none());
        for rubbish in [
            "",
            "crew_session_",
            "crew_session_é",
            "crew_session_0",
            &text[..20],
        ] {
            assert!(read(TokenKind::Session, rubbish).is_none(), "{rubbish}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    /// As `docs/security.md` tells scanners.
    #[test]
    fn the_checksum_is_as_it_is_told() {
        let told = include_str!("../../docs/security.md");
        for vector in [
            "crew_dev_00000000000000000000000000000000000000000000lG2Nc",
            "crew_prod_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg0eaIx4",
            "crew_org_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz2zQEwM",
            "crew_op_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ2dxQeD",
        ] {
            let text = SecretString::from(vector);
            let operators = Some(TokenKind::OperatorKey).filter(|kind| kind.begins(&text));
            let kind = TokenKind::of_api_key(&text).or(operators).expect("a key");
            assert!(Token::parse(kind, &text).is_some(), "{vector}");
            assert!(told.contains(vector), "{vector}");
        }
    }

    #[test]
    fn base62_pads_and_counts() {
        assert_eq!(&base62([0]), b"000");
        assert_eq!(&base62([61]), b"0z");
        assert_eq!(&base62([1, 0]), b"48");
        // 2^256 - 1: nothing is cut off, as nothing is left of it.
        let largest = base62::<32, BODY_DIGITS>([0xff; 32]);
        assert_eq!(
            &largest,
            &base62::<32, { BODY_DIGITS + 1 }>([0xff; 32])[1..]
        );
    }
}
