//! What can be asked of an account.

use crate::domain::{
    ids::{OrganizationId, SessionId, UserId},
    sealed::Sealed,
    time::Timestamp,
};

/// Commands to the stream `user`. Whoever sends one acts for the person themselves: `api`
/// proved it by a session, a password or a sign-up.
#[derive(Debug, Clone, PartialEq)]
pub enum UserCommand {
    /// Make the account. `email` and `name` are sealed under its account key; that the
    /// address is not in use is a claim of the service's.
    SignUp {
        user: UserId,
        email: Sealed,
        name: Sealed,
    },
    /// Change what the person is called. Always an event: sealed values do not compare.
    Rename {
        name: Sealed,
        /// The name as it was at `profile_sequence`, sealed for this event.
        previous: Sealed,
        /// The profile that `previous` was read from; refused when it has moved.
        profile_sequence: u64,
    },
    /// Change the person's e-mail address. Always an event, as above.
    ChangeEmail {
        email: Sealed,
        /// The address as it was at `profile_sequence`, sealed for this event.
        previous: Sealed,
        /// The profile that `previous` was read from; refused when it has moved.
        profile_sequence: u64,
    },
    /// Note that `organizations` now have the profile of `profile_sequence`. Accepted
    /// once: nothing happens if they had this or a later one.
    ShareProfile {
        profile_sequence: u64,
        organizations: Vec<OrganizationId>,
    },
    /// Begin a session now. The oldest live one gives way where there are too many.
    StartSession {
        session: SessionId,
        /// First moment at which it no longer counts.
        expires_at: Timestamp,
    },
    /// End a live session: the person signs out.
    RevokeSession { session: SessionId },
    /// Note wrong passwords of one minute, already counted by the service.
    RecordSignInFailed {
        /// Minutes since 1970.
        minute: i64,
        count: u64,
    },
    /// Erase the account, and end every session.
    Erase {
        /// The session that asked.
        session: SessionId,
    },
    /// Note that another password was chosen, and end every session but the one that asked.
    ChangePassword {
        /// The session that asked, which stays.
        session: SessionId,
    },
}
