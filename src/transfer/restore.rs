//! Making a store of a backup, and erasing again whoever was erased since.
//!
//! The target is filled and proven as it is for a move, and takes no writer until it is whole; who
//! was killed goes on with the same backup.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tempfile::TempDir;

use super::{
    End, Step, TransferError,
    backup::KEYS,
    carrying::{RowsByTable, Source, Told, carry, carry_rows},
    keys_file::{KeysFile, Origin},
    manifest::{FileDigest, Manifest, ManifestError},
    moving::{not_empty, open},
    proof, tables,
};
use crate::{
    journal::{
        FailPoint, Source as Random,
        sealing::RootKey,
        stores::{
            self, Row, Rows, Seal, SealState, Statement, Store, StoreKind, schema::Schema, seal_of,
            sqlite::SqliteStore, tables::TableSchema,
        },
    },
    proofs::{
        note::{Checkpoint, VerifierKey},
        tree::Frontier,
    },
    service::signing,
};

/// What the transfers of restores are called.
const RESTORE: &str = "restore";

/// Their keys are gone, and so what they sealed; by this they are found no more.
const FORGET: [&str; 5] = [
    // Their organizations are told anew, by whoever serves from it next, from when on to erase
    // their copies: what they were told is not in the restored log.
    "
INSERT INTO untold_erasures (user_id, email_lookup, erased_at)
SELECT s.user_id, s.email_lookup, (SELECT MAX(recorded_at) FROM events)
  FROM subjects s
 WHERE s.realm = 'account' AND s.user_id IS NOT NULL AND s.email_lookup IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM subject_keys k WHERE k.owner = s.subject)
   AND NOT EXISTS (SELECT 1 FROM untold_erasures u WHERE u.user_id = s.user_id)",
    "
DELETE FROM passwords
 WHERE user_id IN (SELECT s.user_id
                     FROM subjects s
                    WHERE s.realm = 'account'
                      AND NOT EXISTS (SELECT 1 FROM subject_keys k WHERE k.owner = s.subject))",
    "
DELETE FROM session_tokens
 WHERE user_id IN (SELECT s.user_id
                     FROM subjects s
                    WHERE s.realm = 'account'
                      AND NOT EXISTS (SELECT 1 FROM subject_keys k WHERE k.owner = s.subject))",
    "
DELETE FROM name_words
 WHERE EXISTS (SELECT 1
                 FROM subjects s
                WHERE s.realm = name_words.realm AND s.user_id = name_words.user_id
                  AND NOT EXISTS (SELECT 1 FROM subject_keys k WHERE k.owner = s.subject))",
    "
UPDATE subjects
   SET email_lookup = NULL
 WHERE email_lookup IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM subject_keys k WHERE k.owner = subjects.subject)",
];

/// Of people alone: keys of other owners do not say that somebody was erased.
const OF_PEOPLE: &str = "owner LIKE 'sub\\_%' ESCAPE '\\'";

const DESTROY: &str = "
DELETE FROM subject_keys
 WHERE owner = $1";

const COUNT_FOUND: &str = "
SELECT COUNT(*)
  FROM subjects
 WHERE email_lookup IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM subject_keys k WHERE k.owner = subjects.subject)";

/// A backup that is what its manifest says.
#[derive(Debug)]
pub struct Backup {
    pub manifest: Manifest,
    folder: PathBuf,
    store: Arc<dyn Store>,
    /// By what it knows its root key.
    root_key: Option<Vec<u8>>,
    /// Where an older one was brought up to this version.
    _scratch: Option<TempDir>,
}

/// Why a backup is not a continuation of what others have seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotExtended {
    /// Others have seen more.
    #[error(
        "the backup is rolled back: it ends at position {position}, and the checkpoint covers {size} \
         entries; {} entries that others have seen are not in it. Restore a newer backup",
        size - position
    )]
    RolledBack { position: u64, size: u64 },
    /// Others have seen something else.
    #[error(
        "the backup is of another history: its first {size} entries are not those that the \
         checkpoint covers"
    )]
    Forked { size: u64 },
    /// Nothing is known from it.
    #[error("the checkpoint cannot be believed: {0}")]
    Unbelieved(String),
}

/// What a restore has done.
#[derive(Debug, Clone)]
pub struct Restored {
    pub position: u64,
    pub root: [u8; 32],
    pub rows: RowsByTable,
    pub keys: u64,
    /// People who were erased since, and were again.
    pub erased: u64,
    /// As of which position it is known who was.
    pub erased_as_of: u64,
    pub elapsed: Duration,
}

impl Backup {
    /// Opens a backup, once all of it was read and is as it was written.
    ///
    /// # Errors
    /// When it is not, or cannot be read.
    pub async fn open(folder: &Path, told: impl FnMut(Step) + Send) -> Result<Self, TransferError> {
        let manifest = Manifest::read(folder)?;
        let file = SqliteStore::file(folder);
        is_as_written(&manifest.file, &file, told).await?;
        if manifest.schema > Schema::expected(StoreKind::Sqlite).version {
            return Err(TransferError::Refused(format!(
                "the backup was made by version {}, which has newer tables than this one; use that",
                manifest.version
            )));
        }
        let (folder, scratch) = (folder.to_owned(), as_this_version(&manifest, folder).await?);
        let readable = scratch.as_ref().map_or(folder.as_path(), TempDir::path);
        let store = Arc::new(SqliteStore::open_for_reading(readable).await?);
        let head = stores::head(&*store).await?;
        let root = BASE64_STANDARD.encode(head.frontier.root());
        if (head.position, &root) != (manifest.position, &manifest.root) {
            let (file, what) = (
                file.display().to_string(),
                "is of another position".to_owned(),
            );
            return Err(ManifestError::Changed { file, what }.into());
        }
        Ok(Self {
            manifest,
            folder,
            root_key: Source::of(&*store).await?.root_key().await?,
            store,
            _scratch: scratch,
        })
    }

    /// That its log goes as far as a checkpoint that was kept elsewhere, and is the same up to there.
    /// It must be signed by a key that the log had by then, or by one of these.
    ///
    /// # Errors
    /// [`NotExtended`]; and when the backup cannot be read.
    pub async fn extends(
        &self,
        checkpoint: &str,
        keys: &[VerifierKey],
    ) -> Result<Result<(), NotExtended>, TransferError> {
        let known = signing::known(&*self.store).await;
        let known = known.map_err(|error| TransferError::Refused(error.to_string()))?;
        let known = known.into_iter().map(|key| key.verifier);
        let keys: Vec<_> = known.chain(keys.iter().cloned()).collect();
        let checkpoint = match Checkpoint::open(checkpoint, &keys) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Ok(Err(NotExtended::Unbelieved(error.to_string()))),
        };
        let (size, position) = (checkpoint.size, self.manifest.position);
        if size > position {
            return Ok(Err(NotExtended::RolledBack { position, size }));
        }
        let leaves = format!("SELECT leaf FROM events WHERE position <= {size} ORDER BY position");
        let mut leaves = self.store.snapshot().await?.rows(leaves).await;
        let mut tree = Frontier::default();
        while let Some(leaf) = leaves.next().await? {
            tree.push(leaf.hash(0)?);
        }
        Ok(match tree.root() == checkpoint.root {
            true => Ok(()),
            false => Err(NotExtended::Forked { size }),
        })
    }

    fn origin(&self) -> Origin {
        let log = self.manifest.log.as_ref();
        let leaf = log.and_then(|leaf| BASE64_STANDARD.decode(leaf).ok()?.try_into().ok());
        Origin {
            log: leaf,
            position: self.manifest.position,
            made_at: self.manifest.made_at.clone(),
            root_key: self.root_key.clone(),
        }
    }
}

async fn is_as_written(
    digest: &FileDigest,
    file: &Path,
    mut told: impl FnMut(Step) + Send,
) -> Result<(), TransferError> {
    let started = Instant::now();
    let tell = |done, of| {
        told(Step {
            what: "reading the backup",
            unit: "bytes",
            done,
            of,
            elapsed: started.elapsed(),
        });
    };
    Ok(digest.holds_of(file, tell).await?)
}

/// A copy that this version has brought up to its tables; none where there is nothing to bring.
async fn as_this_version(
    manifest: &Manifest,
    folder: &Path,
) -> Result<Option<TempDir>, TransferError> {
    if manifest.schema == Schema::expected(StoreKind::Sqlite).version {
        return Ok(None);
    }
    let failed = |error| TransferError::file(folder, error);
    let scratch = tempfile::tempdir().map_err(failed)?;
    let copy = SqliteStore::file(scratch.path());
    std::fs::copy(SqliteStore::file(folder), copy).map_err(failed)?;
    let store = SqliteStore::open(scratch.path()).await?;
    store.into_one_file().await?;
    Ok(Some(scratch))
}

/// Restores a backup into a store that is empty, or what an earlier try with it has left. `keys` is
/// this backup's file of keys, or a newer one of the same log: who is not in that any more stays
/// erased.
///
/// # Errors
/// When something cannot be used, or what has arrived is not what the backup says. The target then
/// takes no writer.
pub async fn restore(
    backup: &Backup,
    keys: Option<&Path>,
    target: &mut End,
    root_key: Option<&RootKey>,
    random: &dyn Random,
    mut told: impl FnMut(Step) + Send,
) -> Result<Restored, TransferError> {
    let started = Instant::now();
    if let Some(key) = root_key {
        proof::keyring(&backup.store, key).await?;
    }
    let keys = Keys::of(backup, keys, &mut told).await?;
    let seal = standing(backup, target, random).await?;
    target.execute(seal.put()).await?;
    let source = Source::of(&*backup.store).await?;
    let tables = tables::of_backup().await?;
    let rows = carry(&source, &*target.store, &tables, &mut told).await?;
    target.execute(vec![source.set_head()]).await?;
    FailPoint::Filled.hit();
    proof::rows(&source, &*target.store, &tables, &rows, &mut told).await?;
    keys.carry(&*target.store).await?;
    let erased = forget_erased(target).await?;
    proof::fold(&*target.store, source.head.position, &mut told).await?;
    proof::root(&target.store, &source.head, root_key, &mut told).await?;
    FailPoint::Proven.hit();
    open(target, &seal, random).await?;
    Ok(Restored {
        position: source.head.position,
        root: source.head.frontier.root(),
        rows,
        keys: keys.carried(),
        erased,
        erased_as_of: keys.taken.position(),
        elapsed: started.elapsed(),
    })
}

async fn standing(
    backup: &Backup,
    target: &End,
    random: &dyn Random,
) -> Result<Seal, TransferError> {
    let transfer = format!("{RESTORE}-{}", backup.manifest.id);
    match seal_of(&*target.store).await? {
        Some(seal) if seal.state == SealState::Arriving && seal.transfer == transfer => Ok(seal),
        None if proof::is_empty(&*target.store, &tables::of_move().await?).await? => Ok(Seal {
            state: SealState::Arriving,
            transfer,
            other: format!("the backup {}", backup.folder.display()),
            at: random.now(),
        }),
        Some(_) | None => Err(not_empty(&target.name)),
    }
}

/// The keys that are restored.
struct Keys {
    taken: KeysFile,
    own: Own,
}

/// What the backup's own keys are for, where others are taken.
enum Own {
    /// They are not there, or those that are taken.
    Unused,
    /// Of what only they have, people's are left out.
    Rest(KeysFile),
    /// Those that are taken are wrapped under another root key, as that was rotated since. They say
    /// who is still there, and the backup's own are what opens under its root key.
    Wrapped(KeysFile),
}

impl Keys {
    async fn of(
        backup: &Backup,
        named: Option<&Path>,
        told: Told<'_>,
    ) -> Result<Self, TransferError> {
        let own = backup.folder.join(KEYS);
        let table = tables::of_keys().await?;
        let own = match own.exists() {
            true => {
                is_as_written(&backup.manifest.keys, &own, told).await?;
                Some(KeysFile::open(&own, table.clone()).await?)
            }
            false => None,
        };
        let (taken, own) = match (named, own) {
            (Some(named), own) => (KeysFile::open(named, table).await?, own),
            (None, Some(own)) => (own, None),
            (None, None) => {
                return Err(TransferError::Refused(
                    "the keys are not in the backup; name their file with --keys".to_owned(),
                ));
            }
        };
        taken.is_of(&backup.origin())?;
        taken.is_as_new_as(&backup.origin())?;
        let own = match (own, taken.is_under_root_key_of(&backup.origin())) {
            (Some(own), true) => Own::Rest(own),
            (None, true) => Own::Unused,
            (Some(own), false) => Own::Wrapped(own),
            (None, false) => {
                return Err(TransferError::Refused(format!(
                    "the root key was rotated after the backup, and the keys that are named open with \
                     the new one; put the backup's own file of keys back into it, as {KEYS}"
                )));
            }
        };
        Ok(Self { taken, own })
    }

    /// How many are carried of the file that they are from.
    fn carried(&self) -> u64 {
        match &self.own {
            Own::Unused | Own::Rest(_) => self.taken.keys,
            Own::Wrapped(own) => own.keys,
        }
    }

    async fn carry(&self, target: &dyn Store) -> Result<(), TransferError> {
        let table = tables::of_keys().await?;
        match &self.own {
            Own::Unused => {
                carry_rows(async || self.taken.rows(), target, &table).await?;
            }
            Own::Rest(own) => {
                carry_rows(async || self.taken.rows(), target, &table).await?;
                Self::carry_rest(own, target, &table).await?;
            }
            Own::Wrapped(own) => {
                carry_rows(async || own.rows(), target, &table).await?;
                let gone = gone(own.rows()?, self.taken.rows()?, &table).await?;
                target.execute(gone).await?;
            }
        }
        Ok(())
    }

    async fn carry_rest(
        own: &KeysFile,
        target: &dyn Store,
        table: &TableSchema,
    ) -> Result<(), TransferError> {
        let mut rows = own.rows()?;
        let numbers: Vec<_> = (1..=table.columns.len())
            .map(|number| format!("${number}"))
            .collect();
        let insert = format!(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING",
            table.name,
            table.column_names().join(", "),
            numbers.join(", ")
        );
        let mut statements = Vec::new();
        while let Some(row) = rows.next().await? {
            if !row.text(table.key[0])?.starts_with(PERSON) {
                statements.push(Statement::new(insert.clone(), row.0));
            }
            if statements.len() >= 500 {
                target.execute(std::mem::take(&mut statements)).await?;
            }
        }
        target.execute(statements).await?;
        Ok(())
    }
}

/// What the ids of people's keys begin with.
const PERSON: &str = "sub_";

/// Forgets by what people are found whose keys are not there; answers how many were found until now.
async fn forget_erased(target: &mut End) -> Result<u64, TransferError> {
    let rows = target.store.query(COUNT_FOUND, vec![]).await?;
    let found = rows.first().map_or(Ok(0), |row| row.count(0))?;
    let statements = FORGET.map(|sql| Statement::new(sql, []));
    target.execute(statements.into()).await?;
    Ok(found)
}

/// Erases again, in a store that was restored by other means, whoever is not in a newer file of its
/// keys; answers how many keys were destroyed. None where the file is older than the store: it says
/// nothing of it that the store does not know.
///
/// # Errors
/// When the store cannot be written, or the file is of another log.
pub async fn repeat_erasures(store: &mut End, keys: &Path) -> Result<Option<u64>, TransferError> {
    stores::may_be_written(&*store.store).await?;
    let table = tables::of_keys().await?;
    let keys = KeysFile::open(keys, table.clone()).await?;
    let source = Source::of(&*store.store).await?;
    let origin = Origin {
        log: source.log().await?,
        position: source.head.position,
        made_at: String::new(),
        root_key: None,
    };
    keys.is_of(&origin)?;
    if keys.position() < origin.position {
        return Ok(None);
    }
    let present = table.select(source.kind, Some(OF_PEOPLE));
    let present = source.snapshot.rows(present).await;
    let destroyed = gone(present, keys.rows()?, &table).await?;
    let count = destroyed.len() as u64;
    store.execute(destroyed).await?;
    forget_erased(store).await?;
    Ok(Some(count))
}

/// What destroys the keys of people that are present and are not kept any more; both come in the
/// order of their owners.
async fn gone(
    mut present: Rows,
    mut kept: Rows,
    table: &TableSchema,
) -> Result<Vec<Statement>, TransferError> {
    let owner_of = |row: &Row| row.text(table.key[0]).map(str::to_owned);
    let mut next = kept.next().await?.as_ref().map(owner_of).transpose()?;
    let mut destroyed = Vec::new();
    while let Some(row) = present.next().await? {
        let owner = owner_of(&row)?;
        if !owner.starts_with(PERSON) {
            continue;
        }
        while next.as_ref().is_some_and(|next| *next < owner) {
            next = kept.next().await?.as_ref().map(owner_of).transpose()?;
        }
        if next.as_ref() != Some(&owner) {
            destroyed.push(Statement::new(DESTROY, [owner.into()]));
        }
    }
    Ok(destroyed)
}
