//! Where the store is, and how commands open it.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    Failure,
    environment::{Setting, secret_file, setting},
};
use crate::{
    journal::stores::{
        self, SealState, Store, StoreError,
        postgres::{PostgresStore, ServingLock},
        sqlite::SqliteStore,
    },
    transfer::End,
};

/// A data folder, and a PostgreSQL where there is one.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    database_url: Option<SecretString>,
}

impl Place {
    /// The data folder and the database: the option's, else the environment's.
    ///
    /// # Errors
    /// When the environment names it twice, its file cannot be read, or it is not PostgreSQL's.
    pub fn of(folder: PathBuf, option: Option<String>) -> Result<Self, Failure> {
        let database_url = match option {
            // Whatever the environment says: the embedded store.
            Some(url) if url.is_empty() => None,
            Some(url) => Some(SecretString::from(url)),
            None => match setting("CREWLOG_DATABASE_URL")? {
                Some(Setting::Value(url)) => Some(url),
                Some(Setting::File(file)) => Some(secret_file(&file)?),
                None => match std::env::var("DATABASE_URL") {
                    Ok(url) if !url.trim().is_empty() => Some(url.into()),
                    _ => None,
                },
            },
        };
        if let Some(url) = &database_url
            && !is_postgres(url.expose_secret())
        {
            return Err(Failure::used_wrongly(
                "the database URL is not one of PostgreSQL; it looks like \
                 postgres://user:password@host:5432/database (for SQLite name a folder with --data)",
            ));
        }
        Ok(Self {
            folder,
            database_url,
        })
    }

    /// A place that a command names beside this one: `postgres://…`, or `sqlite:` and a folder. The
    /// root key stays in the data folder of this one, where the other has none.
    ///
    /// # Errors
    /// When it is neither.
    pub fn other(&self, url: &SecretString) -> Result<Self, Failure> {
        let text = url.expose_secret().trim();
        if is_postgres(text) {
            return Ok(Self {
                folder: self.folder.clone(),
                database_url: Some(text.to_owned().into()),
            });
        }
        let folder = text.strip_prefix("sqlite:");
        let folder = folder.map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        match folder {
            Some(folder) if !folder.is_empty() => Ok(Self {
                folder: folder.into(),
                database_url: None,
            }),
            Some(_) | None => Err(Failure::used_wrongly(
                "the target is not understood; write postgres://user:password@host:5432/database, or \
                 sqlite:FOLDER",
            )),
        }
    }

    /// Where it is, for people and for other stores to keep: without user and password.
    pub fn shown(&self) -> String {
        match self.database_url() {
            Some(url) => match Url::parse(url) {
                Ok(url) => {
                    let host = url.host_str().unwrap_or_default();
                    let port = url.port().map(|port| format!(":{port}"));
                    format!(
                        "postgres://{host}{}{}",
                        port.unwrap_or_default(),
                        url.path()
                    )
                }
                Err(_) => "a PostgreSQL database".to_owned(),
            },
            None => {
                let folder = std::path::absolute(&self.folder);
                let folder = folder.unwrap_or_else(|_| self.folder.clone());
                format!("sqlite:{}", folder.display())
            }
        }
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of the PostgreSQL; none where the store is embedded.
    pub fn database_url(&self) -> Option<&str> {
        self.database_url.as_ref().map(|url| url.expose_secret())
    }

    /// Makes the data folder, for its owner alone, where it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_folder(&self) -> Result<(), Failure> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| {
                Failure::could_not_run(format!(
                    "the data folder {} cannot be made ({error}); name another with --data",
                    self.folder.display()
                ))
            })
    }

    /// Writes a new file into the data folder, for its owner alone: whole and on the disk, or not
    /// there; never over another.
    ///
    /// # Errors
    /// When it cannot be written, or is there already.
    pub fn write_private(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let file = self.folder.join(name);
        write_private(&file, text).map(|()| file)
    }

    /// Opens the store for writing; makes or migrates it.
    ///
    /// # Errors
    /// When it cannot be opened, another process holds it, its schema is newer, or nobody may write
    /// it: then it is left as it is.
    pub async fn open_for_writing(&self) -> Result<Arc<dyn Store>, Failure> {
        if let Ok(store) = self.reach().await {
            let may_be = stores::may_be_written(&*store).await;
            store.close().await;
            if let Err(sealed @ StoreError::Sealed { .. }) = may_be {
                return Err(sealed.into());
            }
        }
        self.open_whatever_it_is().await
    }

    /// The same of one that may be sealed: for whoever seals stores, or fills them.
    ///
    /// # Errors
    /// When it cannot be opened, another process holds it, or its schema is newer.
    async fn open_whatever_it_is(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(match self.database_url() {
            Some(url) => Arc::new(PostgresStore::open(url).await?),
            None => {
                self.make_folder()?;
                Arc::new(SqliteStore::open(&self.folder).await?)
            }
        })
    }

    /// Opens a store that exists, for reading, beside a process that may be writing.
    ///
    /// # Errors
    /// When there is none, it cannot be opened, or it is not whole yet.
    pub async fn open_for_reading(&self) -> Result<Arc<dyn Store>, Failure> {
        let store = self.reach().await?;
        // What cannot be said of it will be told by whoever reads it.
        if let Err(sealed @ StoreError::Sealed { .. }) = stores::may_be_written(&*store).await {
            let seal = stores::seal_of(&*store).await?;
            if seal.is_none_or(|seal| seal.state == SealState::Arriving) {
                return Err(sealed.into());
            }
        }
        Ok(store)
    }

    /// The same of one that may be sealed, or not whole: for who is interested in what is wrong.
    ///
    /// # Errors
    /// What the store says.
    pub async fn reach(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self.database_url() {
            Some(url) => Arc::new(PostgresStore::open_for_reading(url).await?),
            None => Arc::new(SqliteStore::open_for_reading(&self.folder).await?),
        })
    }

    /// Opens the store for a few words beside whoever writes it: see [`SqliteStore::open_beside`].
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    pub async fn open_beside(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(match self.database_url() {
            Some(url) => Arc::new(PostgresStore::open_for_reading(url).await?),
            None => Arc::new(SqliteStore::open_beside(&self.folder).await?),
        })
    }

    /// Opens the store as an end of a transfer: sealed or not, and nobody else's until it is let go.
    ///
    /// # Errors
    /// When it cannot be opened, or others serve from it.
    pub async fn open_end(&self) -> Result<End, Failure> {
        let alone = self.alone().await?.ok_or_else(|| {
            Failure::could_not_run(format!(
                "a server is serving from {}; stop the servers first",
                self.shown()
            ))
        })?;
        Ok(End {
            store: self.open_whatever_it_is().await?,
            lock: alone.0,
            name: self.shown(),
        })
    }

    /// Keeps away who must be alone with the store, for as long as this is kept: on SQLite the store
    /// itself does.
    ///
    /// # Errors
    /// When somebody is alone with it for longer than `wait`, or the database cannot be asked.
    pub async fn together(&self, wait: Duration) -> Result<Option<ServingLock>, Failure> {
        Ok(match self.database_url() {
            Some(url) => Some(ServingLock::together(url, wait).await?),
            None => None,
        })
    }

    /// Being alone with the store: on SQLite the store itself sees to it, on PostgreSQL a lock
    /// does; none where servers are serving from it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn alone(&self) -> Result<Option<Alone>, Failure> {
        Ok(match self.database_url() {
            None => Some(Alone(None)),
            Some(url) => ServingLock::alone(url).await?.map(|lock| Alone(Some(lock))),
        })
    }
}

/// Writes a new file for its owner alone: whole and on the disk, or not there; never over another.
///
/// # Errors
/// When it cannot be written, or is there already.
pub fn write_private(file: &Path, text: &str) -> Result<(), Failure> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let write = || {
        // A temporary file is its owner's alone (mode 0600) from the start.
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(temporary, "{text}")?;
        temporary.as_file().sync_all()?;
        temporary.persist_noclobber(file)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        Failure::could_not_run(format!(
            "the file {} cannot be written: {error}",
            file.display()
        ))
    })
}

fn is_postgres(url: &str) -> bool {
    let (scheme, _) = url.split_once(':').unwrap_or_default();
    matches!(scheme, "postgres" | "postgresql")
}

/// That nobody serves from the store, for as long as this is kept.
#[derive(Debug)]
pub struct Alone(Option<ServingLock>);

impl Alone {
    /// Lets others serve as well; there is a lock to keep on PostgreSQL only.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn share(self) -> Result<Option<ServingLock>, Failure> {
        match self.0 {
            Some(lock) => Ok(Some(lock.share().await?)),
            None => Ok(None),
        }
    }
}
