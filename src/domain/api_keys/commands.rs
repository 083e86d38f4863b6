//! What can be asked of a ring of keys.

use std::collections::BTreeSet;

use super::{AddressRange, KeyScope, KeyTerms};
use crate::domain::{
    Timestamp,
    environment::Environment,
    ids::{CrewId, KeyId, UserId},
};

/// A secret as it is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// Standard base64 of SHA-256(secret).
    pub hash: String,
    /// How it begins, so that people can tell keys apart.
    pub prefix: String,
}

/// Commands about keys. `by` is the person who asks; that they may, the holder has decided.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyCommand {
    /// Make a key.
    Create {
        key: KeyId,
        environment: Option<Environment>,
        terms: KeyTerms,
        secret: NewSecret,
        by: UserId,
    },
    /// Change what it may, or until when. Nothing happens where that is so already.
    Update {
        key: KeyId,
        change: KeyChange,
        by: UserId,
    },
    /// Make a successor with the same terms, and let the key live for a while.
    Rotate {
        key: KeyId,
        successor: KeyId,
        secret: NewSecret,
        /// At most [`super::GRACE_SECONDS_MAX`].
        grace_seconds: u64,
        by: UserId,
    },
    /// End it now.
    Revoke { key: KeyId, by: UserId },
    /// Note that its time ran out. Due work, sent by Crewlog itself; accepted once.
    Expire { key: KeyId },
}

impl KeyCommand {
    /// The person who asks; none for due work.
    pub fn asked_by(&self) -> Option<UserId> {
        match self {
            Self::Create { by, .. }
            | Self::Update { by, .. }
            | Self::Rotate { by, .. }
            | Self::Revoke { by, .. } => Some(*by),
            Self::Expire { .. } => None,
        }
    }
}

/// What of a key's terms is to be changed; what is none stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeyChange {
    pub name: Option<String>,
    pub scopes: Option<BTreeSet<KeyScope>>,
    pub crews: Option<Option<BTreeSet<CrewId>>>,
    pub allowed_cidrs: Option<Vec<AddressRange>>,
    pub expires_at: Option<Option<Timestamp>>,
}

impl KeyChange {
    /// The terms after the change.
    pub(super) fn applied_to(self, terms: &KeyTerms) -> KeyTerms {
        let terms = terms.clone();
        KeyTerms {
            name: self.name.unwrap_or(terms.name),
            scopes: self.scopes.unwrap_or(terms.scopes),
            crews: self.crews.unwrap_or(terms.crews),
            allowed_cidrs: self.allowed_cidrs.unwrap_or(terms.allowed_cidrs),
            expires_at: self.expires_at.unwrap_or(terms.expires_at),
        }
    }
}
