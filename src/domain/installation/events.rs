//! What can be said to have happened to the installation.

use serde::{Deserialize, Serialize};

use crate::domain::{ids::KeyId, time::Timestamp};

/// Events of the stream `installation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InstallationEvent {
    /// An operator's key was made at the command line. Its secret was shown once; this is its
    /// hash.
    OperatorKeyCreated {
        key: KeyId,
        name: String,
        /// Standard base64 of SHA-256(secret).
        token_hash: String,
        /// How the secret begins.
        prefix: String,
        /// First moment at which it counts no more; none where it lasts.
        expires_at: Option<Timestamp>,
    },
    /// It was taken back, at the command line.
    OperatorKeyRevoked {
        key: KeyId,
        /// What it was called.
        name: String,
    },
}
