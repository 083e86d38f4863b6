//! What is personal or free text, as the log carries it: sealed, never opened here.
//!
//! A sealed field keeps its place in the log for ever; destroying the key of its subject
//! makes it unreadable, and the log still verifies. Only `service` opens one, through
//! [`crate::journal::sealing`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::ids::{CredentialId, OrganizationId, SubjectId, WorkspaceId};

/// Whose key seals a field: a person (as one organization or their account knows them),
/// a workspace or an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyOwner {
    /// A person, as one organization or their own account knows them.
    Subject(SubjectId),
    /// Free text inside a workspace.
    Workspace(WorkspaceId),
    /// Free text of an organization outside of any workspace.
    Organization(OrganizationId),
    /// One credential, which is outside of the log and goes with its key.
    Credential(CredentialId),
}

impl fmt::Display for KeyOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(id) => id.fmt(formatter),
            Self::Workspace(id) => id.fmt(formatter),
            Self::Organization(id) => id.fmt(formatter),
            Self::Credential(id) => id.fmt(formatter),
        }
    }
}

impl FromStr for KeyOwner {
    type Err = super::ids::InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('_').map(|(prefix, _)| prefix) {
            Some(WorkspaceId::PREFIX) => text.parse().map(Self::Workspace),
            Some(OrganizationId::PREFIX) => text.parse().map(Self::Organization),
            Some(CredentialId::PREFIX) => text.parse().map(Self::Credential),
            _ => text.parse().map(Self::Subject),
        }
    }
}

impl Serialize for KeyOwner {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyOwner {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One sealed value.
///
/// The commitment lets an authorised export prove the value offline: it adds the opening
/// (the 32 random bytes and the value), and anybody can hash it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Whose key opens it.
    pub subject: KeyOwner,
    /// Which of that owner's keys, counted from 1.
    pub key_version: u32,
    /// Standard base64 of SHA-256(32 random bytes ‖ value).
    pub commitment: String,
    /// Standard base64 of nonce ‖ XChaCha20-Poly1305(32 random bytes ‖ value), bound to
    /// the event's id and the field's name.
    pub ciphertext: String,
}
