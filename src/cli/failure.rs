//! How a command ends: with an outcome, or with one sentence that says what to do.

use std::process::ExitCode;

use crate::{
    journal::{
        sealing::{KeyringError, rotation::RotationError},
        stores::{StoreError, StoreKind},
    },
    projections::EngineError,
    service::{ServiceError, StartError, plans::CatalogueError, signing::SigningError},
    transfer::TransferError,
};

/// What a command that ran has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit status 0.
    Fine,
    /// Something is not as it should be: exit status 1.
    Difference,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Exit status 2.
    UsedWrongly(String),
    /// Exit status 3.
    CouldNotRun(String),
    /// Whoever read the output has stopped reading; nothing is wrong.
    OutputClosed,
}

impl Failure {
    pub fn used_wrongly(sentence: impl Into<String>) -> Self {
        Self::UsedWrongly(sentence.into())
    }

    pub fn could_not_run(sentence: impl Into<String>) -> Self {
        Self::CouldNotRun(sentence.into())
    }

    /// What to tell, on one line.
    pub fn sentence(&self) -> Option<String> {
        match self {
            Self::UsedWrongly(sentence) | Self::CouldNotRun(sentence) => {
                Some(sentence.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            Self::OutputClosed => None,
        }
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::UsedWrongly(_) => ExitCode::from(2),
            Self::CouldNotRun(_) => ExitCode::from(3),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let advice = match &error {
            StoreError::Unavailable {
                kind: StoreKind::Postgres,
                ..
            } => "; check that the database runs, and the address in its URL",
            StoreError::Failed {
                kind: StoreKind::Postgres,
                ..
            } => "; check the database URL, and what its user may do",
            StoreError::Failed {
                kind: StoreKind::Sqlite,
                detail,
            } if !detail.contains("--data") => "; check the files in the data folder (--data)",
            StoreError::Row(_) => "; run `crewlog verify` to see what was changed",
            StoreError::Unavailable { .. }
            | StoreError::Failed { .. }
            | StoreError::Unwritable { .. }
            | StoreError::Damaged { .. }
            | StoreError::Newer { .. }
            | StoreError::NotMigrated { .. }
            | StoreError::Held { .. }
            | StoreError::Sealed { .. }
            | StoreError::Forked { .. } => "",
        };
        Self::CouldNotRun(format!("{error}{advice}"))
    }
}

impl From<KeyringError> for Failure {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Store(error) => error.into(),
            KeyringError::WrongRootKey
            | KeyringError::RotationUnfinished
            | KeyringError::Damaged(_)
            | KeyringError::DamagedLookup => Self::CouldNotRun(error.to_string()),
        }
    }
}

impl From<RotationError> for Failure {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Keyring(error) => error.into(),
            RotationError::NoRootKey | RotationError::OtherUnderWay => {
                Self::CouldNotRun(error.to_string())
            }
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::Decode(_) => Self::CouldNotRun(format!(
                "{error}; run `crewlog verify` to see whether the log was changed, or a newer version"
            )),
            EngineError::Fold { .. }
            | EngineError::Newer { .. }
            | EngineError::Older(_)
            | EngineError::Busy
            | EngineError::Underway(_)
            | EngineError::Cancelled
            | EngineError::NotThatFar { .. }
            | EngineError::Unknown(..) => Self::CouldNotRun(error.to_string()),
        }
    }
}

impl From<SigningError> for Failure {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Store(error) => error.into(),
            SigningError::OtherOrigin { .. } => Self::UsedWrongly(error.to_string()),
            SigningError::Damaged(_) | SigningError::Missing => {
                Self::CouldNotRun(error.to_string())
            }
        }
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::CouldNotRun(error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(error) => error.into(),
            StartError::Keyring(error) => error.into(),
            StartError::Signing(error) => error.into(),
            StartError::Engine(error) => error.into(),
            StartError::Service(error) => error.into(),
        }
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Store(error) => error.into(),
            TransferError::Engine(error) => error.into(),
            TransferError::Refused(_)
            | TransferError::Differs(_)
            | TransferError::File { .. }
            | TransferError::Manifest(_)
            | TransferError::Keys(_) => Self::CouldNotRun(error.to_string()),
        }
    }
}

impl From<CatalogueError> for Failure {
    fn from(error: CatalogueError) -> Self {
        Self::CouldNotRun(error.to_string())
    }
}
