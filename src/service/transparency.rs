//! The transparency log: checkpoints, proofs, tiles, and what witnesses sign.
//!
//! A checkpoint is made behind the head, once a second where the log has grown, or at once where
//! somebody needs one that covers a position. Before it is signed, its tiles are made and what
//! they come to is compared with the head's own root: nobody is shown a checkpoint whose tiles
//! cannot be served, and a leaf that was changed in the store stops them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Service, ServiceError, publishing::Published, signing, tree::LogTree};
use crate::{
    journal::stores::{self, Row, Statement, Store, StoreError},
    proofs::{
        note::{Checkpoint, Disbelief, witness_of},
        tiles::TilePath,
        tree::Hash,
    },
};

/// How often a checkpoint is made of a log that grows.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// How long a checkpoint that was neither published nor cosigned is kept when there is a newer.
const KEPT_FOR: chrono::TimeDelta = chrono::TimeDelta::hours(1);
/// Cosignatures that are taken at once.
pub const COSIGNATURES_MAX: usize = 16;

const SELECT_NEWEST: &str = "
SELECT size, note
  FROM checkpoints
 ORDER BY size DESC
 LIMIT 1";

const SELECT_COSIGNED: &str = "
SELECT size, note
  FROM checkpoints
 WHERE size IN (SELECT size FROM cosignatures)
 ORDER BY size DESC
 LIMIT 1";

const SELECT_OF_SIZE: &str = "
SELECT size, note
  FROM checkpoints
 WHERE size = $1";

const SELECT_COSIGNATURES: &str = "
SELECT line
  FROM cosignatures
 WHERE size = $1
 ORDER BY witness";

const INSERT_CHECKPOINT: &str = "
INSERT INTO checkpoints (size, note, made_at)
VALUES ($1, $2, $3)
    ON CONFLICT (size) DO NOTHING";

const INSERT_COSIGNATURE: &str = "
INSERT INTO cosignatures (size, witness, line, added_at)
VALUES ($1, $2, $3, $4)
    ON CONFLICT (size, witness) DO UPDATE
       SET line = excluded.line, added_at = excluded.added_at";

pub(super) const MARK_PUBLISHED: &str = "
UPDATE checkpoints
   SET published_at = $1
 WHERE size = $2";

const DELETE_SUPERSEDED: &str = "
DELETE FROM checkpoints
 WHERE made_at <= $1 AND published_at IS NULL
   AND size NOT IN (SELECT size FROM cosignatures)
   AND size < (SELECT MAX(size) FROM checkpoints)";

const SELECT_LEAF: &str = "
SELECT leaf
  FROM events
 WHERE position = $1";

/// What the service keeps of it in memory.
#[derive(Debug)]
pub(super) struct Transparency {
    pub(super) tree: LogTree,
    /// One checkpoint is made at a time.
    making: tokio::sync::Mutex<()>,
    /// What keeps checkpoints from being made.
    trouble: Mutex<Option<String>>,
    /// The last checkpoint that others have of this log.
    pub(super) published: Mutex<Option<Published>>,
}

impl Transparency {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            tree: LogTree::new(store),
            making: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            published: Mutex::default(),
        }
    }

    /// What keeps checkpoints from being made, where something does.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn told(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// A checkpoint that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    pub size: u64,
    /// C2SP tlog-checkpoint.
    pub note: String,
}

impl SignedCheckpoint {
    fn of(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            size: row.count(0)?,
            note: row.text(1)?.to_owned(),
        })
    }

    /// What it says.
    ///
    /// # Errors
    /// When what is kept is no checkpoint.
    pub(super) fn checkpoint(&self) -> Result<Checkpoint, ServiceError> {
        let told = |error: Disbelief| ServiceError::Internal(format!("a kept checkpoint: {error}"));
        Checkpoint::unverified(&self.note).map_err(told)
    }
}

/// That an entry is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    pub tree_size: u64,
    pub leaf_index: u64,
    pub leaf: Hash,
    pub hashes: Vec<Hash>,
}

/// That the log of one size is the beginning of another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    pub from: u64,
    pub to: u64,
    pub hashes: Vec<Hash>,
}

/// Which checkpoint is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichCheckpoint {
    Newest,
    /// The newest that a witness has signed.
    Cosigned,
    OfSize(u64),
}

impl Service {
    /// Makes checkpoints, and publishes them, for as long as the service lives.
    ///
    /// Answers when this log does not extend what was published of it: then nothing may be
    /// served from it any more.
    pub async fn keep_proving(self: Arc<Self>) -> String {
        if self.is_replica() {
            // Whoever writes proves.
            return std::future::pending().await;
        }
        let mut size = 0;
        loop {
            if self.position() > size {
                match self.make_checkpoint().await {
                    Ok(made) => size = made.size,
                    Err(error) => tracing::warn!(%error, "no checkpoint could be made"),
                }
            }
            if let Err(refusal) = self.publish_if_due().await {
                return refusal;
            }
            tokio::time::sleep(CHECKPOINT_EVERY).await;
        }
    }

    /// A checkpoint with the cosignatures that it has; none where there is no such one.
    ///
    /// # Errors
    /// When the store cannot be read, or the first cannot be made.
    pub async fn checkpoint(
        &self,
        which: WhichCheckpoint,
    ) -> Result<Option<SignedCheckpoint>, ServiceError> {
        let found = match which {
            WhichCheckpoint::Newest => Some(self.checkpoint_of(0).await?),
            WhichCheckpoint::Cosigned => self.kept_checkpoint(SELECT_COSIGNED, vec![]).await?,
            WhichCheckpoint::OfSize(size) => {
                let size = vec![size.into()];
                self.kept_checkpoint(SELECT_OF_SIZE, size).await?
            }
        };
        let Some(mut found) = found else {
            return Ok(None);
        };
        let store = self.journal.store();
        for row in &store
            .query(SELECT_COSIGNATURES, vec![found.size.into()])
            .await?
        {
            found.note.push_str(row.text(0)?);
            found.note.push('\n');
        }
        Ok(Some(found))
    }

    /// A checkpoint that covers `position`: the newest, or a new one.
    pub(super) async fn checkpoint_of(
        &self,
        position: u64,
    ) -> Result<SignedCheckpoint, ServiceError> {
        match self.newest_checkpoint().await? {
            Some(newest) if newest.size >= position => Ok(newest),
            _ => self.make_checkpoint().await,
        }
    }

    /// The head of the log, where no checkpoint covers it yet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn uncovered(&self) -> Result<Option<u64>, ServiceError> {
        let head = stores::head(&**self.journal.store()).await?.position;
        let is_covered = self.covers(head).await?;
        Ok((!is_covered).then_some(head))
    }

    /// Whether a checkpoint covers a position.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn covers(&self, position: u64) -> Result<bool, ServiceError> {
        let newest = self.newest_checkpoint().await?;
        Ok(newest.is_some_and(|newest| newest.size >= position))
    }

    /// The newest checkpoint that there is.
    pub(super) async fn newest_checkpoint(&self) -> Result<Option<SignedCheckpoint>, ServiceError> {
        self.kept_checkpoint(SELECT_NEWEST, vec![]).await
    }

    async fn kept_checkpoint(
        &self,
        select: &str,
        parameters: Vec<stores::Value>,
    ) -> Result<Option<SignedCheckpoint>, ServiceError> {
        let rows = self.journal.store().query(select, parameters).await?;
        Ok(rows.first().map(SignedCheckpoint::of).transpose()?)
    }

    /// Makes a checkpoint of the head as it is now.
    ///
    /// # Errors
    /// When the store cannot be read or written, or its tiles do not come to the head's root.
    pub async fn make_checkpoint(&self) -> Result<SignedCheckpoint, ServiceError> {
        let _one_at_a_time = self.transparency.making.lock().await;
        let made = self.try_to_make_checkpoint().await;
        if let Ok(made) = &made {
            metrics::gauge!("crewlog_checkpoint_position").set(made.size as f64);
        }
        let trouble = made.as_ref().err().map(ToString::to_string);
        self.transparency.told(trouble);
        made
    }

    async fn try_to_make_checkpoint(&self) -> Result<SignedCheckpoint, ServiceError> {
        let store = self.journal.store();
        let head = stores::head(&**store).await?;
        let size = head.position;
        self.transparency.tree.advance(size).await?;
        let root = self.transparency.tree.root(size).await?;
        if root != head.frontier.root() {
            return Err(ServiceError::Internal(format!(
                "the leaves up to position {size} do not come to the head's root: run `crewlog verify`"
            )));
        }
        let keys = signing::signing(&**store, &self.keyring).await?;
        let origin = keys
            .first()
            .map(|key| signed_note::Signer::name(key).to_owned());
        let checkpoint = Checkpoint {
            origin: origin.unwrap_or_default(),
            size,
            root,
        };
        let note = checkpoint.signed(&keys);
        let made_at = self.source().now();
        let parameters = [size.into(), note.clone().into(), made_at.0.into()];
        store
            .execute(vec![Statement::new(INSERT_CHECKPOINT, parameters)])
            .await?;
        Ok(SignedCheckpoint { size, note })
    }

    /// The hashes of a tile; none where no checkpoint covers them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tile(&self, path: TilePath) -> Result<Option<Arc<Vec<u8>>>, ServiceError> {
        let size = self.checkpoint_of(0).await?.size;
        if path.width > path.tile.width_in(size) {
            return Ok(None);
        }
        let tree = &self.transparency.tree;
        Ok(Some(tree.tile(path.tile, path.width).await?))
    }

    /// That the entry at a position is in the log of a size, the newest checkpoint's where none
    /// is given; none where there is no such entry, or no checkpoint covers the size.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn inclusion(
        &self,
        position: u64,
        size: Option<u64>,
    ) -> Result<Option<Inclusion>, ServiceError> {
        let covered = self.checkpoint_of(0).await?.size;
        let tree_size = size.unwrap_or(covered);
        if position == 0 || position > tree_size || tree_size > covered {
            return Ok(None);
        }
        let leaf_index = position - 1;
        let rows = self
            .journal
            .store()
            .query(SELECT_LEAF, vec![position.into()]);
        let rows = rows.await?;
        let proof = self
            .transparency
            .tree
            .ask(tree_size, |tiles| tiles.inclusion(leaf_index, tree_size));
        let (Some(row), Some(hashes)) = (rows.first(), proof.await?) else {
            return Ok(None);
        };
        Ok(Some(Inclusion {
            tree_size,
            leaf_index,
            leaf: row.hash(0)?,
            hashes,
        }))
    }

    /// That the log of one size is the beginning of the log of another; none where a size is
    /// nothing, the first is larger, or no checkpoint covers the second.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn consistency(
        &self,
        from: u64,
        to: Option<u64>,
    ) -> Result<Option<Consistency>, ServiceError> {
        let covered = self.checkpoint_of(0).await?.size;
        let to = to.unwrap_or(covered);
        if from == 0 || from > to || to > covered {
            return Ok(None);
        }
        let proof = self
            .transparency
            .tree
            .ask(to, |tiles| tiles.consistency(from, to));
        let proof = proof.await?;
        Ok(proof.map(|hashes| Consistency { from, to, hashes }))
    }

    /// Adds what witnesses have signed to the checkpoint of a size, and answers with it; none
    /// where there is no such checkpoint (any more).
    ///
    /// # Errors
    /// An invalid value for a line that none of the configured witnesses has signed; then none is
    /// added.
    pub async fn add_cosignatures(
        &self,
        size: u64,
        lines: &[String],
    ) -> Result<Option<SignedCheckpoint>, ServiceError> {
        let of_size = self.kept_checkpoint(SELECT_OF_SIZE, vec![size.into()]);
        let Some(checkpoint) = of_size.await? else {
            return Ok(None);
        };
        let added_at = self.source().now();
        let mut statements = Vec::with_capacity(lines.len());
        for line in lines {
            let line = line.trim_end();
            let witness = witness_of(&checkpoint.note, line, &self.settings.witnesses);
            let witness = witness.map_err(|error| ServiceError::InvalidValue {
                pointer: "/signatures",
                detail: match error {
                    Disbelief::Unsigned => "one is of no witness of this log".to_owned(),
                    Disbelief::WrongSignature(witness) => {
                        format!("the one of {witness} is not for the checkpoint of size {size}")
                    }
                    Disbelief::Malformed | Disbelief::NoCheckpoint | Disbelief::OtherLog { .. } => {
                        "one is not a signature line: `— name base64`".to_owned()
                    }
                },
            })?;
            let parameters = [
                size.into(),
                witness.short().into(),
                line.into(),
                added_at.0.into(),
            ];
            statements.push(Statement::new(INSERT_COSIGNATURE, parameters));
        }
        self.journal.store().execute(statements).await?;
        self.checkpoint(WhichCheckpoint::OfSize(size)).await
    }

    /// The keys that this log signs with and has signed with, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn verifiers(&self) -> Result<Vec<signing::KnownKey>, ServiceError> {
        Ok(signing::known(&**self.journal.store()).await?)
    }
}

/// Forgets checkpoints that nobody else has, once there is a newer.
pub(super) fn delete_superseded(now: crate::domain::Timestamp) -> Statement {
    Statement::new(DELETE_SUPERSEDED, [now.plus(-KEPT_FOR).0.into()])
}
