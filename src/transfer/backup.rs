//! Making a backup beside whoever writes the store.
//!
//! A folder with a store of its own (SQLite, whatever it was made of), the keys apart, and a manifest.
//! It is made under another name, proven, and has its own name once it is whole; who was killed
//! goes on from what is there.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    Step, TransferError,
    carrying::{RowsByTable, Source, Told, carry},
    keys_file::{self, Origin},
    manifest::{self, FileDigest, Manifest},
    proof, tables,
};
use crate::journal::{
    FailPoint, Source as Random,
    stores::{
        Seal, SealState, Store, StoreKind,
        schema::Schema,
        seal_of,
        sqlite::{LOCK_FILE, SqliteStore},
    },
};

/// The keys, where they are not kept elsewhere.
pub(super) const KEYS: &str = "keys.jsonl";
/// Behind the name of a folder that is not whole.
const UNFINISHED: &str = "unfinished";

/// A backup that was made.
#[derive(Debug, Clone)]
pub struct BackedUp {
    pub folder: PathBuf,
    /// The file of keys.
    pub keys: PathBuf,
    pub manifest: Manifest,
    pub elapsed: Duration,
}

/// Makes a backup of a store in a folder that is not there yet; its keys go into it, or where
/// `keys` says.
///
/// # Errors
/// When the store cannot be read, the folder not be written or is in use, or what was written does
/// not prove to be the log.
pub async fn backup(
    store: &dyn Store,
    name: &str,
    folder: &Path,
    keys: Option<&Path>,
    random: &dyn Random,
    mut told: impl FnMut(Step) + Send,
) -> Result<BackedUp, TransferError> {
    let started = Instant::now();
    super::is_under_one_root_key(store).await?;
    let making = Making::begin(folder)?;
    let source = Source::of(store).await?;
    let seal = Seal {
        state: SealState::Backup,
        transfer: format!("backup-{}", random.uuid()),
        other: name.to_owned(),
        at: random.now(),
    };
    let rows = making.fill(&source, &seal, &mut told).await?;
    let keys_there = keys.map_or_else(|| making.unfinished.join(KEYS), Path::to_owned);
    let origin = origin(&source, &seal).await?;
    let of_keys = write_keys(&source, &origin, &keys_there).await?;
    let manifest = Manifest {
        format: 0,
        id: seal.transfer,
        made_at: origin.made_at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: source.kind.to_string(),
        schema: Schema::expected(StoreKind::Sqlite).version,
        log: origin.log.map(|leaf| BASE64_STANDARD.encode(leaf)),
        position: source.head.position,
        root: BASE64_STANDARD.encode(source.head.frontier.root()),
        rows: rows.into_iter().collect::<BTreeMap<_, _>>(),
        file: making
            .digest(&SqliteStore::file(&making.unfinished), &mut told)
            .await?,
        keys: making.digest(&keys_there, &mut told).await?,
        digest: String::new(),
    };
    let manifest = manifest.finished();
    tracing::debug!(of_keys, "the keys are apart");
    making.end(&manifest)?;
    Ok(BackedUp {
        keys: keys.map_or_else(|| folder.join(KEYS), Path::to_owned),
        folder: folder.to_owned(),
        manifest,
        elapsed: started.elapsed(),
    })
}

/// Writes a store's keys as they are now into a file, in the place of one that is there; answers how
/// many, and as of which position.
///
/// # Errors
/// When the store cannot be read, or the file not be written.
pub async fn keep_keys(
    store: &dyn Store,
    file: &Path,
    random: &dyn Random,
) -> Result<(u64, u64), TransferError> {
    super::is_under_one_root_key(store).await?;
    let source = Source::of(store).await?;
    let origin = Origin {
        log: source.log().await?,
        position: source.head.position,
        made_at: random.now().to_rfc3339(),
        root_key: source.root_key().await?,
    };
    let keys = write_keys(&source, &origin, file).await?;
    Ok((keys, origin.position))
}

async fn origin(source: &Source, seal: &Seal) -> Result<Origin, TransferError> {
    Ok(Origin {
        log: source.log().await?,
        position: source.head.position,
        made_at: seal.at.to_rfc3339(),
        root_key: source.root_key().await?,
    })
}

async fn write_keys(source: &Source, origin: &Origin, file: &Path) -> Result<u64, TransferError> {
    let table = tables::of_keys().await?;
    let rows = source.snapshot.rows(table.select(source.kind, None)).await;
    keys_file::write(file, &table, origin, rows).await
}

/// A folder on its way.
struct Making {
    folder: PathBuf,
    unfinished: PathBuf,
}

impl Making {
    fn begin(folder: &Path) -> Result<Self, TransferError> {
        let failed = |error| TransferError::file(folder, error);
        let mut name = folder.file_name().map(ToOwned::to_owned).ok_or_else(|| {
            TransferError::Refused(format!("{} is no name for a folder", folder.display()))
        })?;
        name.push(format!(".{UNFINISHED}"));
        if folder.exists() {
            let mut entries = std::fs::read_dir(folder).map_err(failed)?;
            if entries.next().is_some() {
                return Err(TransferError::Refused(format!(
                    "{} is there already; name a new folder",
                    folder.display()
                )));
            }
        }
        let unfinished = folder.with_file_name(name);
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&unfinished);
        made.map_err(failed)?;
        Ok(Self {
            folder: folder.to_owned(),
            unfinished,
        })
    }

    /// The store of the backup, with all that belongs there, proven and in one file.
    async fn fill(
        &self,
        source: &Source,
        seal: &Seal,
        told: Told<'_>,
    ) -> Result<RowsByTable, TransferError> {
        let store = Arc::new(SqliteStore::open(&self.unfinished).await?);
        let present = seal_of(&*store).await?;
        let is_ours = present.is_none_or(|seal| seal.state == SealState::Backup);
        if !is_ours {
            return Err(super::moving::not_empty(
                &self.unfinished.display().to_string(),
            ));
        }
        store.execute(seal.put()).await?;
        let tables = tables::of_backup().await?;
        let rows = carry(source, &*store, &tables, told).await?;
        store.execute(vec![source.set_head()]).await?;
        FailPoint::Filled.hit();
        let shared: Arc<dyn Store> = store.clone();
        proof::root(&shared, &source.head, None, told).await?;
        proof::rows(source, &*store, &tables, &rows, told).await?;
        drop(shared);
        let alone = Arc::into_inner(store);
        let alone = alone
            .ok_or_else(|| TransferError::Refused("the backup is still being read".to_owned()))?;
        alone.into_one_file().await?;
        let lock = self.unfinished.join(LOCK_FILE);
        std::fs::remove_file(&lock).map_err(|error| TransferError::file(&lock, error))?;
        Ok(rows)
    }

    async fn digest(&self, file: &Path, told: Told<'_>) -> Result<FileDigest, TransferError> {
        let started = Instant::now();
        let tell = |done, of| {
            told(Step {
                what: "hashing",
                unit: "bytes",
                done,
                of,
                elapsed: started.elapsed(),
            });
        };
        let digest = FileDigest::of(file, tell).await;
        digest.map_err(|error| TransferError::file(file, error))
    }

    /// Gives the folder its name, with everything in it on the disk.
    fn end(&self, manifest: &Manifest) -> Result<(), TransferError> {
        let failed = |error| TransferError::file(&self.folder, error);
        let file = self.unfinished.join(manifest::FILE);
        std::fs::write(&file, manifest.text()).map_err(failed)?;
        for file in [&file, &SqliteStore::file(&self.unfinished)] {
            let opened = File::open(file).map_err(failed)?;
            opened.sync_all().map_err(failed)?;
        }
        sync_folder(&self.unfinished).map_err(failed)?;
        FailPoint::Proven.hit();
        std::fs::rename(&self.unfinished, &self.folder).map_err(failed)?;
        let parent = self
            .folder
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        sync_folder(parent.unwrap_or_else(|| Path::new("."))).map_err(failed)
    }
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
