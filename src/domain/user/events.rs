//! What can be said to have happened to an account.

use serde::{Deserialize, Serialize};

use crate::domain::{
    ids::{OrganizationId, SessionId, UserId},
    sealed::Sealed,
    time::Timestamp,
};

/// Events of the stream `user`. Names are what an auditor reads; changing one, or a field,
/// takes a new version and an upcaster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UserEvent {
    /// An account was made. `email` and `name` are sealed under its account key.
    UserSignedUp {
        user: UserId,
        email: Sealed,
        name: Sealed,
    },
    /// The person changed their name.
    UserRenamed { name: Sealed, previous: Sealed },
    /// The person changed their e-mail address.
    UserEmailChanged { email: Sealed, previous: Sealed },
    /// The organizations that keep a copy of the profile were told of it.
    UserProfileShared {
        /// Sequence of the profile event that they now have.
        profile_sequence: u64,
        organizations: Vec<OrganizationId>,
    },
    /// A session began; its token is kept elsewhere, as a hash.
    SessionStarted {
        session: SessionId,
        started_at: Timestamp,
        /// First moment at which it no longer counts.
        expires_at: Timestamp,
    },
    /// A session was ended before its time.
    SessionRevoked {
        session: SessionId,
        cause: SessionEnd,
    },
    /// Somebody gave a wrong password. Coalesced: one event at once, then one a minute.
    SignInFailed {
        /// Minutes since 1970.
        minute: i64,
        count: u64,
    },
    /// The person erased their account: its key was destroyed, and every session has ended.
    UserErased {
        /// Those that were live.
        sessions: Vec<SessionId>,
    },
    /// The person chose another password; it is kept elsewhere, as a hash.
    PasswordChanged {
        /// The sessions that end with it, each with an event of its own after this one: all
        /// that were live, but for the one that asked.
        sessions: Vec<SessionId>,
    },
}

/// Why a session was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The person ended it.
    SignedOut,
    /// The oldest gave way to a new one, as there were too many.
    Replaced,
    /// Another password was chosen in another session.
    PasswordChanged,
}
