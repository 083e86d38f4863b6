//! A whole store carried into another: moved for good, kept as a backup, restored from one.
//!
//! All three are the same walk. Two stores are read side by side in the order of each table's key,
//! and what differs is written to the target; so whoever was killed begins again, and only what is
//! missing is carried. What arrives is proven before anybody may use it: every leaf, chain and root
//! is recomputed, the read models are folded anew, and every row is compared with where it came from.
//!
//! Which tables there are is asked of the schema: a new one goes along unless [`tables`] says why
//! it does not. Nothing here changes an event, opens what is sealed, or lets two stores of one log
//! be written at once: see `journal::stores::Seal`.
//!
//! To add something that stays behind: its line in [`tables`], and in the trial that lists them.

mod backup;
mod carrying;
mod keys_file;
mod manifest;
mod merge;
mod moving;
mod proof;
mod restore;
pub mod tables;

use std::{path::Path, sync::Arc, time::Duration};

pub use backup::{BackedUp, backup, keep_keys};
pub use keys_file::KeysFileError;
pub use manifest::{Manifest, ManifestError};
pub use moving::{Moved, move_store};
pub use restore::{Backup, NotExtended, Restored, repeat_erasures, restore};

use crate::{
    journal::{
        sealing::{KeyringError, rotation},
        stores::{Statement, Store, StoreError, postgres::ServingLock},
    },
    projections::EngineError,
};

/// One end: a store that nobody else writes for as long as this is kept.
#[derive(Debug)]
pub struct End {
    pub store: Arc<dyn Store>,
    /// What keeps others away, where the store itself does not.
    pub lock: Option<ServingLock>,
    /// Where it is, for people; without a password.
    pub name: String,
}

impl End {
    /// Writes in one transaction, and only if others were kept away all the time.
    async fn execute(&mut self, statements: Vec<Statement>) -> Result<(), StoreError> {
        match &mut self.lock {
            Some(lock) => lock.execute(&statements).await,
            None => self.store.execute(statements).await.map(drop),
        }
    }
}

/// That no rotation of the root key is under way: what is carried off in the midst of one opens with
/// neither.
///
/// # Errors
/// When one is, or the store cannot be read.
async fn is_under_one_root_key(store: &dyn Store) -> Result<(), TransferError> {
    match rotation::is_under_way(store).await? {
        false => Ok(()),
        true => Err(TransferError::Refused(
            KeyringError::RotationUnfinished.to_string(),
        )),
    }
}

/// How far one step of the work is.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What is being done: "carrying".
    pub what: &'static str,
    /// What is counted: "rows".
    pub unit: &'static str,
    pub done: u64,
    pub of: u64,
    pub elapsed: Duration,
}

/// Why nothing, or not all, was carried. What was is kept, and carried on from by the same command.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The target is in use, or is another's.
    #[error("{0}")]
    Refused(String),
    /// What has arrived is not what was sent.
    #[error("{0}")]
    Differs(String),
    #[error("{path}: {error}")]
    File { path: String, error: std::io::Error },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Keys(#[from] KeysFileError),
}

impl TransferError {
    fn file(path: &Path, error: std::io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            error,
        }
    }

    /// Whether something was looked at and is not as it should be, rather than not looked at.
    pub fn is_difference(&self) -> bool {
        match self {
            Self::Differs(_) => true,
            Self::Manifest(error) => error.is_difference(),
            Self::Keys(error) => error.is_difference(),
            Self::Store(_) | Self::Engine(_) | Self::Refused(_) | Self::File { .. } => false,
        }
    }
}
