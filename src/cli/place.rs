//! Where the store is, and how commands open it.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    Failure,
    environment::{Setting, secret_file, setting},
};
use crate::journal::stores::{
    Store, StoreError,
    postgres::{PostgresStore, ServingLock},
    sqlite::SqliteStore,
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
        if let Some(url) = &database_url {
            let (scheme, _) = url.expose_secret().split_once(':').unwrap_or_default();
            if !matches!(scheme, "postgres" | "postgresql") {
                return Err(Failure::used_wrongly(
                    "the database URL is not one of PostgreSQL; it looks like \
                     postgres://user:password@host:5432/database (for SQLite name a folder with --data)",
                ));
            }
        }
        Ok(Self {
            folder,
            database_url,
        })
    }

    /// The store at a URL: a database of PostgreSQL, or `sqlite://` and a data folder.
    ///
    /// # Errors
    /// When it is neither.
    pub fn at(url: &str) -> Result<Self, Failure> {
        match url.strip_prefix("sqlite://") {
            Some("") => Err(Failure::used_wrongly(
                "the URL names no folder; it looks like sqlite:///var/lib/crewlog",
            )),
            Some(folder) => Ok(Self {
                folder: folder.into(),
                database_url: None,
            }),
            None => Self::of(PathBuf::new(), Some(url.to_owned())),
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
        let write = || {
            // A temporary file is its owner's alone (mode 0600) from the start.
            let mut temporary = tempfile::NamedTempFile::new_in(&self.folder)?;
            writeln!(temporary, "{text}")?;
            temporary.as_file().sync_all()?;
            temporary.persist_noclobber(&file)?;
            File::open(&self.folder)?.sync_all()
        };
        match write() {
            Ok(()) => Ok(file),
            Err(error) => Err(Failure::could_not_run(format!(
                "the file {} cannot be written: {error}",
                file.display()
            ))),
        }
    }

    /// Opens the store for writing; makes or migrates it.
    ///
    /// # Errors
    /// When it cannot be opened, another process holds it, or its schema is newer.
    pub async fn open_for_writing(&self) -> Result<Arc<dyn Store>, Failure> {
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
    /// When there is none, or it cannot be opened.
    pub async fn open_for_reading(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(self.reach().await?)
    }

    /// The same for who is interested in what is wrong.
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
