//! What can be said to have happened to a key, whoever holds it.

use serde::{Deserialize, Serialize};

use super::KeyTerms;
use crate::domain::{
    Timestamp,
    environment::Environment,
    ids::{KeyId, UserId},
};

/// A key was made. Its secret was shown once; this is its hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCreated {
    pub key: KeyId,
    /// None for a key of an organization.
    pub environment: Option<Environment>,
    pub terms: KeyTerms,
    /// Standard base64 of SHA-256(secret).
    pub token_hash: String,
    /// How the secret begins.
    pub prefix: String,
    pub created_by: UserId,
    pub created_at: Timestamp,
    /// The key in whose place it comes.
    pub rotated_from: Option<KeyId>,
}

/// What it may, or until when, was changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyUpdated {
    pub key: KeyId,
    /// It stays.
    pub environment: Option<Environment>,
    pub from: KeyTerms,
    pub to: KeyTerms,
    pub updated_by: UserId,
}

/// Another key took its place; its creation follows in the same unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotated {
    pub key: KeyId,
    /// What it was called.
    pub name: String,
    pub environment: Option<Environment>,
    pub successor: KeyId,
    /// First moment at which the old key no longer counts.
    pub expires_at: Timestamp,
    pub rotated_by: UserId,
}

/// It was taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRevoked {
    pub key: KeyId,
    /// What it was called.
    pub name: String,
    pub environment: Option<Environment>,
    pub revoked_by: UserId,
}

/// Its time ran out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyExpired {
    pub key: KeyId,
    /// What it was called.
    pub name: String,
    pub environment: Option<Environment>,
    pub expires_at: Timestamp,
}

/// Any of them, between a ring and its holder.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyEvent {
    Created(KeyCreated),
    Updated(KeyUpdated),
    Rotated(KeyRotated),
    Revoked(KeyRevoked),
    Expired(KeyExpired),
}

impl KeyEvent {
    /// Which key.
    pub fn key(&self) -> KeyId {
        match self {
            Self::Created(event) => event.key,
            Self::Updated(event) => event.key,
            Self::Rotated(event) => event.key,
            Self::Revoked(event) => event.key,
            Self::Expired(event) => event.key,
        }
    }
}
