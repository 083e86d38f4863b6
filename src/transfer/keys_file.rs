//! The keys of a store in a file of their own, as JSON Lines: a line that says which log's they are
//! and as of which position, a line a key, and a line with the count and the digest of those before.
//!
//! Each key stays wrapped under the root key, and can be read by nobody without it. Apart, because
//! somebody who was erased is nowhere any more once no such file has their key: backups of the store
//! itself may be kept for as long as one likes. A key that was there at a position, and is not in a
//! newer file, was destroyed in between: that is how a restore knows whom to erase again.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::manifest::hex;
use crate::journal::{
    beside,
    stores::{
        Row, Rows, StoreError, Value,
        tables::{ColumnType, TableSchema},
    },
};

/// The form that this version writes.
const FORMAT: u32 = 1;
/// The longest line that is taken for one.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Keys that are handed over at once.
const AT_ONCE: u64 = 1_000;

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysFileError {
    #[error("the file of keys {path}: {error}")]
    File { path: String, error: io::Error },
    #[error("{0} is not a file of keys, or was cut or changed")]
    Malformed(String),
    #[error("the keys in {0} are of another log")]
    OtherLog(String),
    #[error(
        "the keys in {path} are as of position {keys}, and the backup is of {position}: keys that \
         were made in between would be missing; take a newer file"
    )]
    Older {
        path: String,
        keys: u64,
        position: u64,
    },
}

impl KeysFileError {
    /// Whether the file is not what was written.
    pub fn is_difference(&self) -> bool {
        match self {
            Self::Malformed(_) => true,
            Self::File { .. } | Self::OtherLog(_) | Self::Older { .. } => false,
        }
    }
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    crewlog_keys: u32,
    /// The leaf of the log's first entry.
    log: Option<String>,
    position: u64,
    made_at: String,
    /// By what the store knows the root key that they are wrapped under; it tells nothing of it.
    #[serde(default)]
    root_key: Option<String>,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    keys: u64,
    sha256: String,
}

/// A file of keys that is whole.
#[derive(Debug, Clone)]
pub(super) struct KeysFile {
    path: PathBuf,
    table: TableSchema,
    head: Head,
    /// How many keys it has.
    pub keys: u64,
}

/// Of which log, and as of when, keys are.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub log: Option<[u8; 32]>,
    pub position: u64,
    pub made_at: String,
    /// By what the store knows its root key.
    pub root_key: Option<Vec<u8>>,
}

impl Origin {
    fn log(&self) -> Option<String> {
        self.log.map(|leaf| BASE64_STANDARD.encode(leaf))
    }

    fn root_key(&self) -> Option<String> {
        let known = self.root_key.as_ref();
        known.map(|proof| BASE64_STANDARD.encode(proof))
    }
}

/// Writes keys, for their owner alone, under the name once it is whole; answers how many.
///
/// # Errors
/// When they cannot be read or written.
pub(super) async fn write(
    path: &Path,
    table: &TableSchema,
    origin: &Origin,
    mut rows: Rows,
) -> Result<u64, super::TransferError> {
    let failed = |error| super::TransferError::file(path, error);
    let mut writing = Writing::begin(path, origin).map_err(failed)?;
    while let Some(row) = rows.next().await? {
        writing.line(&to_json(table, &row)).map_err(failed)?;
        writing.keys += 1;
    }
    writing.end(path).map_err(failed)
}

/// A file on its way.
struct Writing {
    file: BufWriter<tempfile::NamedTempFile>,
    digest: Sha256,
    keys: u64,
}

impl Writing {
    fn begin(path: &Path, origin: &Origin) -> io::Result<Self> {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        // A temporary file is its owner's alone (mode 0600) from the start.
        let file = tempfile::NamedTempFile::new_in(folder)?;
        let mut writing = Self {
            file: BufWriter::new(file),
            digest: Sha256::new(),
            keys: 0,
        };
        let head = Head {
            crewlog_keys: FORMAT,
            log: origin.log(),
            position: origin.position,
            made_at: origin.made_at.clone(),
            root_key: origin.root_key(),
        };
        writing.line(&json!(head))?;
        Ok(writing)
    }

    fn line(&mut self, line: &Json) -> io::Result<()> {
        let line = format!("{line}\n");
        self.digest.update(line.as_bytes());
        self.file.write_all(line.as_bytes())
    }

    fn end(mut self, path: &Path) -> io::Result<u64> {
        let end = End {
            keys: self.keys,
            sha256: hex(&self.digest.clone().finalize()),
        };
        self.line(&json!(end))?;
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(self.keys)
    }
}

fn to_json(table: &TableSchema, row: &Row) -> Json {
    let member = |(column, value): (&crate::journal::stores::tables::TableColumn, &Value)| {
        let value = match value {
            Value::Text(text) => json!(text),
            Value::Integer(integer) => json!(integer),
            Value::Bytes(bytes) => json!(bytes.as_ref().map(|bytes| BASE64_STANDARD.encode(bytes))),
        };
        (column.name.clone(), value)
    };
    let members = table.columns.iter().zip(&row.0).map(member);
    Json::Object(members.collect::<Map<_, _>>())
}

/// The row of a line; none where it is not one of this table.
fn of_json(table: &TableSchema, line: &Json) -> Option<Row> {
    let members = line.as_object()?;
    if members.len() != table.columns.len() {
        return None;
    }
    let values = table.columns.iter().map(|column| {
        let value = members.get(&column.name)?;
        let text = || value.as_str();
        Some(match column.kind {
            _ if value.is_null() => Value::Text(None),
            ColumnType::Text => text()?.into(),
            ColumnType::Integer => value.as_i64()?.into(),
            ColumnType::Bytes => BASE64_STANDARD.decode(text()?).ok()?.into(),
        })
    });
    values.collect::<Option<Vec<_>>>().map(Row)
}

impl KeysFile {
    /// Reads all of a file, to see that it is whole.
    ///
    /// # Errors
    /// When it cannot be read, or is not as it was written.
    pub async fn open(path: &Path, table: TableSchema) -> Result<Self, KeysFileError> {
        let path = path.to_owned();
        beside(move || Self::read(path, table)).await
    }

    fn read(path: PathBuf, table: TableSchema) -> Result<Self, KeysFileError> {
        let mut lines = Lines::open(&path)?;
        let malformed = || KeysFileError::Malformed(path.display().to_string());
        let first = lines.next()?.ok_or_else(malformed)?;
        let head: Head = serde_json::from_str(&first).map_err(|_| malformed())?;
        if head.crewlog_keys != FORMAT {
            return Err(malformed());
        }
        let mut digest = Sha256::new();
        digest.update(first.as_bytes());
        let mut keys = 0;
        loop {
            let line = lines.next()?.ok_or_else(malformed)?;
            if let Ok(end) = serde_json::from_str::<End>(&line) {
                let is_whole = end.keys == keys && end.sha256 == hex(&digest.finalize());
                if !is_whole || lines.next()?.is_some() {
                    return Err(malformed());
                }
                break;
            }
            digest.update(line.as_bytes());
            keys += 1;
        }
        Ok(Self {
            path,
            table,
            head,
            keys,
        })
    }

    /// That it has the keys of a log.
    ///
    /// # Errors
    /// When it has another's.
    pub fn is_of(&self, origin: &Origin) -> Result<(), KeysFileError> {
        match origin.log().is_none_or(|log| self.head.log == Some(log)) {
            true => Ok(()),
            false => Err(KeysFileError::OtherLog(self.path.display().to_string())),
        }
    }

    /// That no key can have been made between its position and another.
    ///
    /// # Errors
    /// When its own comes first.
    pub fn is_as_new_as(&self, origin: &Origin) -> Result<(), KeysFileError> {
        match self.head.position >= origin.position {
            true => Ok(()),
            false => Err(KeysFileError::Older {
                path: self.path.display().to_string(),
                keys: self.head.position,
                position: origin.position,
            }),
        }
    }

    /// Whether its keys are wrapped under the root key of a store, as far as it says so.
    pub fn is_under_root_key_of(&self, origin: &Origin) -> bool {
        match (&self.head.root_key, origin.root_key()) {
            (Some(ours), Some(theirs)) => *ours == theirs,
            (None, _) | (_, None) => true,
        }
    }

    /// As of which position.
    pub fn position(&self) -> u64 {
        self.head.position
    }

    /// Its keys, in the order that they were written in.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn rows(&self) -> Result<Rows, super::TransferError> {
        let (sender, rows) = mpsc::channel(2);
        let lines = Lines::open(&self.path)?;
        let (table, keys) = (self.table.clone(), self.keys);
        tokio::task::spawn_blocking(move || {
            let path = lines.path.clone();
            if hand_over(lines, &table, keys, &sender).is_none() {
                let changed = StoreError::Row(format!("{path} was changed meanwhile"));
                let _ = sender.blocking_send(Err(changed));
            }
        });
        Ok(Rows::of(rows))
    }
}

/// Sends keys until nobody takes them; nothing where a line is not one any more.
fn hand_over(
    mut lines: Lines,
    table: &TableSchema,
    keys: u64,
    sender: &mpsc::Sender<Result<Vec<Row>, StoreError>>,
) -> Option<()> {
    let mut next = || lines.next().ok().flatten();
    // What the file says of itself.
    next()?;
    let mut key = || of_json(table, &serde_json::from_str(&next()?).ok()?);
    let mut left = keys;
    while left > 0 {
        let count = left.min(AT_ONCE);
        let chunk = (0..count).map(|_| key()).collect::<Option<Vec<_>>>()?;
        left -= count;
        if sender.blocking_send(Ok(chunk)).is_err() {
            return Some(());
        }
    }
    let _ = sender.blocking_send(Ok(vec![]));
    Some(())
}

/// Lines with their ends, none too long.
struct Lines {
    reader: BufReader<File>,
    path: String,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, KeysFileError> {
        let shown = path.display().to_string();
        match File::open(path) {
            Ok(file) => Ok(Self {
                reader: BufReader::new(file),
                path: shown,
            }),
            Err(error) => Err(KeysFileError::File { path: shown, error }),
        }
    }

    fn next(&mut self) -> Result<Option<String>, KeysFileError> {
        let mut line = String::new();
        let mut limited = io::Read::take(&mut self.reader, LINE_BYTES_MAX);
        match limited.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) if line.ends_with('\n') => Ok(Some(line)),
            Ok(_) => Err(KeysFileError::Malformed(self.path.clone())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(KeysFileError::Malformed(self.path.clone()))
            }
            Err(error) => Err(KeysFileError::File {
                path: self.path.clone(),
                error,
            }),
        }
    }
}
