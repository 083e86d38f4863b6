//! Contents: what agents, pathways and documents say. Events carry a digest and a size of them,
//! never the contents themselves, which are kept beside the log.
//!
//! What may not be in a content is here ([`secrets`], [`slots`]); storing one is not.

mod difference;
pub mod secrets;
pub mod slots;

use std::{fmt, str::FromStr};

pub use difference::{Difference, differences};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// The largest content, in bytes of its canonical form.
pub const CONTENT_BYTES_MAX: usize = 256 * 1024;

/// SHA-256 of a content's bytes; of JSON, in its RFC 8785 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not SHA-256 in standard base64")]
pub struct InvalidDigest;

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| InvalidDigest)?;
        bytes.try_into().map(Self).map_err(|_| InvalidDigest)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A content, as events name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

impl Content {
    /// What these bytes are named by.
    pub fn of(text: &str) -> Self {
        Self {
            digest: Digest(Sha256::digest(text).into()),
            size: text.len() as u64,
        }
    }
}

/// A place in a document, as an RFC 6901 pointer, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub pointer: String,
    pub detail: String,
}

/// The pointer of a member or an item below another.
pub(super) fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back() {
        let digest = Digest([7; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for rubbish in ["", "AAAA", "not base64"] {
            assert_eq!(rubbish.parse::<Digest>(), Err(InvalidDigest), "{rubbish}");
        }
    }
}
