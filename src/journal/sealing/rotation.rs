//! Another root key in the place of the present one: what that wraps is wrapped anew.
//!
//! In steps, each a transaction. The first says that a rotation is under way: from then on the store
//! opens with neither key ([`KeyringError::RotationUnfinished`]). The last makes the new key the
//! store's. Who was killed begins again, and leaves as it is what the new key opens already.
//!
//! Nobody else may write the store meanwhile: a key that is wrapped behind the walk would be lost.
//! Never changes a key, nor anything in the log.

use std::{fmt::Write, sync::Arc};

use zeroize::Zeroizing;

use super::{
    KeyringError, LOOKUP_VERSION, NONCE_BYTES, Proofs, RootKey, decrypt, encrypt, is,
    lookup_bound_to, lookup_key, secret_bound_to, wrap_bound_to,
};
use crate::journal::{
    fail_points::FailPoint,
    source::Source,
    stores::{Row, Statement, Store, StoreError, Value, postgres::ServingLock},
};

/// Keys that are wrapped anew in one transaction.
const KEYS_AT_ONCE: i64 = 500;
/// How many that do not open are named.
const NAMED_MAX: usize = 20;

const COUNT_KEYS: &str = "
SELECT COUNT(*)
  FROM subject_keys";

const SELECT_PAGE: &str = "
SELECT owner, key_version, wrapped
  FROM subject_keys
 WHERE (owner, key_version) > ($1, $2)
 ORDER BY owner, key_version
 LIMIT $3";

const BEGIN: &str = "
INSERT INTO root_keys (name, proof)
VALUES ('next', $1)";

const PUT_LOOKUP: &str = "
INSERT INTO lookup_keys (version, wrapped)
VALUES ($1, $2)
    ON CONFLICT (version) DO UPDATE SET wrapped = EXCLUDED.wrapped";

const PUT_PROOF: &str = "
UPDATE root_keys
   SET proof = $1
 WHERE name = 'root'";

const END: &str = "
DELETE FROM root_keys
 WHERE name = 'next'";

/// Why a root key cannot be rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// It never had one.
    #[error("the store has no root key yet; `crewlog serve` makes one")]
    NoRootKey,
    /// It is on its way to a third.
    #[error(
        "a rotation to another root key was begun and has not ended; name the file with that one, \
         which goes on with it"
    )]
    OtherUnderWay,
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

impl From<StoreError> for RotationError {
    fn from(error: StoreError) -> Self {
        Self::Keyring(error.into())
    }
}

/// Whether a rotation was begun that has not ended.
///
/// # Errors
/// When the store cannot be read.
pub async fn is_under_way(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(Proofs::of(store).await?.next.is_some())
}

/// A rotation that is under way, and nobody else's store until it has ended.
pub struct Rotation {
    store: Arc<dyn Store>,
    /// What keeps others away, where the store itself does not.
    lock: Option<ServingLock>,
    source: Arc<dyn Source>,
    old: Zeroizing<[u8; 32]>,
    new: Zeroizing<[u8; 32]>,
    new_proof: Zeroizing<[u8; 32]>,
    lookup: Zeroizing<[u8; 32]>,
    /// The key that was looked at last.
    after: (String, i64),
    unopened: Vec<String>,
    unopened_count: u64,
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Rotation(…)")
    }
}

impl Rotation {
    /// Begins one, or takes up what was begun with the same keys; none where the new key is the
    /// store's already.
    ///
    /// # Errors
    /// When the old key is not the store's, or another rotation is under way. Nothing is written
    /// then.
    pub async fn begin(
        store: Arc<dyn Store>,
        lock: Option<ServingLock>,
        source: Arc<dyn Source>,
        old: &RootKey,
        new: &RootKey,
    ) -> Result<Option<Self>, RotationError> {
        let proofs = Proofs::of(&*store).await?;
        let (present, next) = (proofs.present.as_deref(), proofs.next.as_deref());
        let new_proof = new.proof();
        if present.is_none() {
            return Err(RotationError::NoRootKey);
        }
        if next.is_none() && is(&new_proof, present) {
            return Ok(None);
        }
        if !is(&old.proof(), present) {
            return Err(KeyringError::WrongRootKey.into());
        }
        if next.is_some() && !is(&new_proof, next) {
            return Err(RotationError::OtherUnderWay);
        }
        let is_new = next.is_none();
        let mut rotation = Self {
            lookup: lookup_key(&*store, old).await?,
            store,
            lock,
            source,
            old: old.wrapping(),
            new: new.wrapping(),
            new_proof,
            after: (String::new(), 0),
            unopened: Vec::new(),
            unopened_count: 0,
        };
        if is_new {
            let proof = rotation.new_proof.to_vec();
            let begin = Statement::new(BEGIN, [proof.into()]);
            rotation.execute(vec![begin]).await?;
        }
        Ok(Some(rotation))
    }

    /// How many keys there are to be looked at.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn keys(&self) -> Result<u64, RotationError> {
        let rows = self.store.query(COUNT_KEYS, vec![]).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.count(0))?)
    }

    /// Wraps the next keys anew; answers how many were looked at, none at the end.
    ///
    /// # Errors
    /// When the store cannot be read or written, or others may have written it.
    pub async fn step(&mut self) -> Result<Option<u64>, RotationError> {
        let (owner, version) = self.after.clone();
        let parameters = vec![owner.into(), version.into(), KEYS_AT_ONCE.into()];
        let rows = self.store.query(SELECT_PAGE, parameters).await?;
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        self.after = (last.text(0)?.to_owned(), last.integer(1)?);
        let mut changes = Vec::new();
        for row in &rows {
            changes.extend(self.change(row)?);
        }
        if !changes.is_empty() {
            self.execute(vec![update(changes)]).await?;
        }
        Ok(Some(rows.len() as u64))
    }

    /// What of a row is to be changed, and into what; nothing where that was done.
    fn change(&mut self, row: &Row) -> Result<Option<[Value; 4]>, RotationError> {
        let (owner, version, wrapped) = (row.text(0)?, row.integer(1)?, row.bytes(2)?);
        let bound_to = wrap_bound_to(owner, version);
        let anew = self.anew(&bound_to, wrapped, || format!("{owner}, version {version}"));
        Ok(anew.map(|anew| [owner.into(), version.into(), wrapped.into(), anew.into()]))
    }

    /// A secret that was wrapped with [`super::Keyring::wrap_secret`], wrapped anew; none where it
    /// stays as it is.
    pub fn secret(&mut self, bound_to: &str, wrapped: &[u8]) -> Option<Vec<u8>> {
        let bytes = secret_bound_to(bound_to);
        self.anew(&bytes, wrapped, || bound_to.to_owned())
    }

    fn anew(
        &mut self,
        bound_to: &[u8],
        wrapped: &[u8],
        name: impl FnOnce() -> String,
    ) -> Option<Vec<u8>> {
        if let Ok(plain) = decrypt(&self.old, bound_to, wrapped) {
            return Some(self.wrap(bound_to, &plain));
        }
        if decrypt(&self.new, bound_to, wrapped).is_err() {
            self.unopened_count += 1;
            if self.unopened.len() < NAMED_MAX {
                self.unopened.push(name());
            }
        }
        None
    }

    fn wrap(&self, bound_to: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        self.source.fill(&mut nonce);
        encrypt(&self.new, &nonce, bound_to, plain)
    }

    /// The store has the new root key from here on; with it, what else was wrapped anew is written.
    /// Answers how many keys open under neither, and some of their names.
    ///
    /// # Errors
    /// When the store cannot be written, or others may have written it.
    pub async fn end(
        mut self,
        mut statements: Vec<Statement>,
    ) -> Result<(u64, Vec<String>), RotationError> {
        let lookup = self.wrap(&lookup_bound_to(), self.lookup.as_ref());
        statements.extend([
            Statement::new(PUT_LOOKUP, [LOOKUP_VERSION.into(), lookup.into()]),
            Statement::new(PUT_PROOF, [self.new_proof.to_vec().into()]),
            Statement::new(END, []),
        ]);
        self.execute(statements).await?;
        Ok((self.unopened_count, self.unopened))
    }

    /// Writes in one transaction, and only if others were kept away all the time.
    async fn execute(&mut self, statements: Vec<Statement>) -> Result<(), RotationError> {
        match &mut self.lock {
            Some(lock) => lock.execute(&statements).await?,
            None => drop(self.store.execute(statements).await?),
        }
        FailPoint::Rewrapped.hit();
        Ok(())
    }
}

/// Changes rows that still are what was read; `VALUES` names its columns alike on both stores.
fn update(changes: Vec<[Value; 4]>) -> Statement {
    let mut sql = "
UPDATE subject_keys
   SET wrapped = anew.column4
  FROM (VALUES "
        .to_owned();
    for number in 0..changes.len() {
        let first = number * 4 + 1;
        let comma = if number == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(
            sql,
            "{comma}(${first}, ${}, ${}, ${})",
            first + 1,
            first + 2,
            first + 3
        );
    }
    sql.push_str(
        ") AS anew
 WHERE subject_keys.owner = anew.column1
   AND subject_keys.key_version = anew.column2
   AND subject_keys.wrapped = anew.column3",
    );
    Statement::new(sql, changes.into_iter().flatten())
}
