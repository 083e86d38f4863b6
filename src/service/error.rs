//! Why something that was asked could not be done. `api` maps each to a problem, `cli` to
//! an exit status.

use std::time::Duration;

use crate::{
    domain::{Refusal, usage::Month},
    journal::{
        SubmitError, entry::DecodeError, loading::LoadError, sealing::KeyringError,
        stores::StoreError,
    },
    projections::EngineError,
};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A rule said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No valid session token.
    #[error("the session token is missing, unknown or has ended")]
    Unauthenticated,
    /// Wrong e-mail or password; which of them is not said.
    #[error("the e-mail address or the password is wrong")]
    InvalidCredentials,
    /// Too many wrong passwords.
    #[error("too many failed attempts; wait before the next")]
    TooManyAttempts { retry_after: Duration },
    /// `If-Match` named a version that is not the newest any more.
    #[error("it has changed since you read it; its version is now {version}")]
    PreconditionFailed { version: u64 },
    /// `If-Match` of what is not there yet.
    #[error("there is nothing yet that it could match")]
    NothingToMatch,
    /// The key was used for another request.
    #[error("this Idempotency-Key was used for another request")]
    IdempotencyKeyReused,
    /// The first request with this key is still being decided.
    #[error("the first request with this Idempotency-Key is still running")]
    IdempotencyInProgress,
    /// A value that only the service could judge.
    #[error("{pointer}: {detail}")]
    InvalidValue {
        /// JSON pointer (RFC 6901) into the body.
        pointer: &'static str,
        detail: String,
    },
    /// A query parameter that only the service could judge.
    #[error("{name}: {detail}")]
    InvalidParameter { name: &'static str, detail: String },
    /// Records of months that take none any more; none was kept.
    #[error("{} records are of a month that is closed", records.len())]
    MonthClosed {
        /// Places in the batch, with the month of each.
        records: Vec<(usize, Month)>,
    },
    /// Records whose id another record has, which says something else.
    #[error("{} records have the id of another record", records.len())]
    UsageConflict {
        /// Places in the batch.
        records: Vec<usize>,
    },
    /// No permission has this name.
    #[error("there is no action of this name; there are: {}", known.join(", "))]
    UnknownAction { known: Vec<&'static str> },
    /// Too much is waiting; nothing was done.
    #[error("too many commands are waiting")]
    Overloaded,
    /// As many tails of audit logs of this organization are open as may be.
    #[error("{most} tails of audit logs of the organization are open, which is as many as may be")]
    TooManyTails { most: usize },
    /// The store cannot be used now; a write may have happened or not.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// This process only reads, and this is for one that writes to decide. Nothing was done.
    #[error("this server only reads")]
    ReadOnly,
    /// This process has not yet seen the position that was asked for.
    #[error("position {wanted} has not been reached; the log is at {position}")]
    PositionNotReached { wanted: u64, position: u64 },
    /// The log is not what was published of it: nothing is served from it.
    #[error("{0}")]
    Refuses(String),
    /// A defect of this program, or of what is stored.
    #[error("{0}")]
    Internal(String),
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            // What it was read by has gone: another version has taken over.
            StoreError::Unavailable { .. }
            | StoreError::Unwritable { .. }
            | StoreError::NotMigrated { .. } => Self::Unavailable(error.to_string()),
            StoreError::Failed { .. }
            | StoreError::Damaged { .. }
            | StoreError::Newer { .. }
            | StoreError::Held { .. }
            | StoreError::Sealed { .. }
            | StoreError::Forked { .. }
            | StoreError::Row(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<KeyringError> for ServiceError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Store(error) => error.into(),
            KeyringError::WrongRootKey
            | KeyringError::RotationUnfinished
            | KeyringError::Damaged(_)
            | KeyringError::DamagedLookup => Self::Internal(error.to_string()),
        }
    }
}

impl From<EngineError> for ServiceError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::Decode(_)
            | EngineError::Fold { .. }
            | EngineError::Newer { .. }
            | EngineError::Older(_)
            | EngineError::Busy
            | EngineError::Underway(_)
            | EngineError::Cancelled
            | EngineError::NotThatFar { .. }
            | EngineError::Unknown(..) => Self::Internal(error.to_string()),
        }
    }
}

impl From<LoadError> for ServiceError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => error.into(),
            LoadError::Decode(_) | LoadError::Gap { .. } => Self::Internal(error.to_string()),
        }
    }
}

impl From<DecodeError> for ServiceError {
    fn from(error: DecodeError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<SubmitError> for ServiceError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refusal) => Self::Refused(refusal),
            SubmitError::Duplicate => Self::IdempotencyInProgress,
            SubmitError::Full | SubmitError::Recompose => Self::Overloaded,
            SubmitError::Unavailable(detail) => Self::Unavailable(detail),
            SubmitError::Unanswered => Self::Unavailable(error.to_string()),
            SubmitError::ReadOnly => Self::ReadOnly,
            SubmitError::TooLarge | SubmitError::Fault(_) => Self::Internal(error.to_string()),
        }
    }
}
