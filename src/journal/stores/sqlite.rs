//! The embedded store: one SQLite file, written by one process.
//!
//! rusqlite on threads of its own: one connection writes, a few read beside it (WAL). A
//! commit is on the disk when it is answered (`synchronous = FULL`). A lock file keeps a
//! second writing process out; reading commands need no lock.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, SyncSender},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rusqlite::{
    ErrorCode, OpenFlags, Transaction, TransactionBehavior, params, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};
use tokio::sync::OwnedMutexGuard;
use tokio_rusqlite::Connection;

use super::{
    AUDIT_COLUMNS, Append, AppendError, AuditRows, Cell, ColumnKind, DocumentChanges, Load, Row,
    Scan, ScanError, Sheet, Snapshot, Span, Statement, Store, StoreError, StoreKind, Value,
    queries,
    snapshot::{Filling, Question},
};
use crate::{
    domain::{Timestamp, ids::BatchId},
    journal::{
        entry::{DecodeError, EventRow, Recorded, StoredEvent},
        fail_points::FailPoint,
    },
};

/// How many connections read beside the writer.
const READERS: usize = 4;

/// Pages that the writing connection keeps: with SQLite's 2 MiB it read the same ones back
/// from the file for every batch.
const WRITER_CACHE_KIB: i64 = 65_536;

/// After how many events the write-ahead log is copied into the database beside the appends.
const CHECKPOINT_AFTER_EVENTS: u64 = 2_000;
/// After how many pages of it an append waits until the rest of them are copied, so that it
/// begins at its start again.
const WAL_PAGES_MAX: i64 = 40_000;

/// In a data folder: locked for as long as a process may write.
pub const LOCK_FILE: &str = "writer.lock";

/// How long a statement waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// The version of the last migration that this program knows.
pub(super) fn newest_migration() -> Option<i64> {
    MIGRATIONS.iter().map(|migration| migration.version).max()
}

/// The embedded store.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Option<Connection>,
    readers: Vec<Connection>,
    next_reader: AtomicUsize,
    /// Rows that were written since the last checkpoint was asked for, and whom to ask.
    since_checkpoint: Arc<AtomicU64>,
    checkpointer: Option<SyncSender<()>>,
    file: PathBuf,
    damage: Arc<OnceLock<String>>,
    /// Whose turn it is to append, among the handles of this process, and that it is this one's
    /// for longer.
    turn: Arc<tokio::sync::Mutex<()>>,
    held: std::sync::Mutex<Option<OwnedMutexGuard<()>>>,
    /// Held for as long as this process may write.
    lock: Option<Arc<File>>,
}

impl SqliteStore {
    /// The file inside a data folder.
    pub fn file(folder: &Path) -> PathBuf {
        folder.join("crewlog.sqlite")
    }

    /// Opens the store for writing, makes or migrates it, and keeps other writers out.
    ///
    /// # Errors
    /// When the folder cannot be written, another process writes it, or its schema is newer.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        let lock = lock(folder)?;
        let file = Self::file(folder);
        migrate(&file).await?;
        let writer = connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE).await?;
        writer
            .call(|connection| Ok(for_writing(connection)?))
            .await
            .map_err(failed)?;
        Ok(Self {
            writer: Some(writer),
            readers: readers(&file).await?,
            next_reader: AtomicUsize::new(0),
            since_checkpoint: Arc::default(),
            checkpointer: Some(checkpointer(&file)?),
            file,
            damage: Arc::default(),
            turn: Arc::default(),
            held: std::sync::Mutex::default(),
            lock: Some(Arc::new(lock)),
        })
    }

    /// Opens the store for reading only, beside a process that may be writing.
    ///
    /// # Errors
    /// When there is no store, or it cannot be read.
    pub async fn open_for_reading(folder: &Path) -> Result<Self, StoreError> {
        let file = Self::file(folder);
        if !file.exists() {
            return Err(StoreError::NotMigrated {
                kind: StoreKind::Sqlite,
                detail: format!("there is no file {}", file.display()),
            });
        }
        Ok(Self {
            writer: None,
            readers: readers(&file).await?,
            next_reader: AtomicUsize::new(0),
            since_checkpoint: Arc::default(),
            checkpointer: None,
            file,
            damage: Arc::default(),
            turn: Arc::default(),
            held: std::sync::Mutex::default(),
            lock: None,
        })
    }

    /// Opens the store to leave a word with the process that writes it: a few rows beside the
    /// log, which SQLite's own locks keep apart. Never to append.
    ///
    /// # Errors
    /// When there is no store, or it cannot be written.
    pub async fn open_beside(folder: &Path) -> Result<Self, StoreError> {
        let mut store = Self::open_for_reading(folder).await?;
        let writer = connect(&store.file, OpenFlags::SQLITE_OPEN_READ_WRITE).await?;
        store.writer = Some(writer);
        Ok(store)
    }

    /// Waits until it is this handle's turn to append.
    async fn turn(&self) -> OwnedMutexGuard<()> {
        let held = self.held().take();
        match held {
            Some(held) => held,
            None => self.turn.clone().lock_owned().await,
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<OwnedMutexGuard<()>>> {
        let held = self.held.lock();
        held.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Ends the store, and leaves it in its one file, with no log beside it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn into_one_file(self) -> Result<(), StoreError> {
        let Self {
            writer,
            readers,
            checkpointer,
            file,
            lock: _lock,
            ..
        } = self;
        drop(checkpointer);
        for connection in readers.into_iter().chain(writer) {
            connection.close().await.map_err(failed)?;
        }
        let alone = move || -> rusqlite::Result<()> {
            let connection = reopen(&file)?;
            let started = Instant::now();
            loop {
                // Alone once the thread of the checkpoints has let go of it.
                match connection.pragma_update(None, "journal_mode", "DELETE") {
                    Err(error) if started.elapsed() < BUSY_TIMEOUT => {
                        tracing::debug!(%error, "the file is let go of in a moment");
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    other => return other,
                }
            }
        };
        let ended = tokio::task::spawn_blocking(alone).await;
        ended
            .map_err(|error| refused(error.to_string()))?
            .map_err(failed)
    }

    /// What an error means; damage is remembered.
    fn failed(&self, error: impl Into<tokio_rusqlite::Error>) -> StoreError {
        let error = failed(error);
        if let StoreError::Damaged { detail, .. } = &error {
            self.damage.get_or_init(|| detail.clone());
        }
        error
    }

    /// Takes note of events that were written, and has the log copied when there are many.
    fn written(&self, events: u64) {
        let before = self.since_checkpoint.fetch_add(events, Ordering::Relaxed);
        if before + events >= CHECKPOINT_AFTER_EVENTS {
            self.since_checkpoint.store(0, Ordering::Relaxed);
            // One that is asked already, or has ended, need not be asked.
            let _ = self.checkpointer.as_ref().map(|asked| asked.try_send(()));
        }
    }

    fn reader(&self) -> &Connection {
        let next = self.next_reader.fetch_add(1, Ordering::Relaxed);
        &self.readers[next % self.readers.len()]
    }

    fn writer(&self) -> Result<&Connection, StoreError> {
        self.writer.as_ref().ok_or_else(|| StoreError::Failed {
            kind: StoreKind::Sqlite,
            detail: "this command opened the store for reading only".to_owned(),
        })
    }
}

fn cannot_write(folder: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Failed {
        kind: StoreKind::Sqlite,
        detail: format!(
            "the data folder {} cannot be written ({error}); name another with --data",
            folder.display()
        ),
    }
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| cannot_write(folder, &error))?;
    file.try_lock().map_err(|_| StoreError::Held {
        detail: format!(
            "another crewlog process is writing to {}; stop it first, or use PostgreSQL \
             (--database-url) for several processes",
            folder.display()
        ),
    })?;
    Ok(file)
}

async fn migrate(file: &Path) -> Result<(), StoreError> {
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
    let mut connection = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .connect()
        .await
        .map_err(|error| refused(error.to_string()))?;
    let migrated = MIGRATIONS.run_direct(&mut connection).await;
    sqlx::Connection::close(connection)
        .await
        .map_err(|error| refused(error.to_string()))?;
    migrated.map_err(|error| super::postgres::migration_error(StoreKind::Sqlite, &error))
}

async fn readers(file: &Path) -> Result<Vec<Connection>, StoreError> {
    let mut readers = Vec::with_capacity(READERS);
    for _ in 0..READERS {
        readers.push(connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY).await?);
    }
    Ok(readers)
}

async fn connect(file: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)
        .await
        .map_err(failed)?;
    connection
        .call(|connection| Ok(for_reading(connection)?))
        .await
        .map_err(failed)?;
    Ok(connection)
}

fn for_reading(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(256);
    connection.pragma_update(None, "foreign_keys", "ON")
}

fn for_writing(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A destroyed key is overwritten where it was, not just let go of.
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES_MAX)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)
}

/// A thread that copies the write-ahead log into the database whenever it is asked, on a
/// connection of its own: the writer goes on meanwhile. It ends with the store. What it fails at,
/// the writer does itself, and says what is wrong.
fn checkpointer(file: &Path) -> Result<SyncSender<()>, StoreError> {
    let (sender, asked) = mpsc::sync_channel(1);
    let file = file.to_owned();
    let work = move || {
        let connection = reopen(&file)?;
        while asked.recv().is_ok() {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        Ok::<_, rusqlite::Error>(())
    };
    let thread = std::thread::Builder::new().name("checkpoints".to_owned());
    let started = thread.spawn(move || {
        if let Err(error) = work() {
            tracing::warn!(%error, "checkpoints are left to the writer");
        }
    });
    started.map_err(|error| refused(error.to_string()))?;
    Ok(sender)
}

/// A writing connection in the place of one that has met an error.
fn reopen(file: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(file, flags)?;
    for_reading(&connection)?;
    for_writing(&connection)?;
    Ok(connection)
}

fn failed(error: impl Into<tokio_rusqlite::Error>) -> StoreError {
    // What SQLite says, without the wrapper's debug form.
    let error = match error.into() {
        tokio_rusqlite::Error::Rusqlite(error) => error,
        other => return refused(other.to_string()),
    };
    let (kind, detail) = (StoreKind::Sqlite, error.to_string());
    if detail.contains("no such table") {
        return StoreError::NotMigrated { kind, detail };
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::ReadOnly) => StoreError::Unwritable { kind, detail },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged { kind, detail }
        }
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked,
        ) => StoreError::Unavailable { kind, detail },
        _ => StoreError::Failed { kind, detail },
    }
}

fn refused(detail: String) -> StoreError {
    StoreError::Failed {
        kind: StoreKind::Sqlite,
        detail,
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Integer(Some(integer)) => ValueRef::Integer(*integer),
            Self::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Self::Text(None) | Self::Integer(None) | Self::Bytes(None) => ValueRef::Null,
        }))
    }
}

impl rusqlite::ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Null => ValueRef::Null,
        }))
    }
}

fn read_value(value: ValueRef<'_>) -> rusqlite::Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Text(None),
        ValueRef::Integer(integer) => Value::Integer(Some(integer)),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    0,
                    rusqlite::types::Type::Text,
                    Box::new(error),
                )
            })?;
            Value::Text(Some(text.to_owned()))
        }
        ValueRef::Blob(bytes) => Value::Bytes(Some(bytes.to_vec())),
        ValueRef::Real(real) => Value::Text(Some(real.to_string())),
    })
}

/// SQLite takes `$1` for a name and numbers it by where it first occurs; `?1` is the number.
/// No statement of ours has a dollar sign elsewhere.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

fn run_query(
    connection: &rusqlite::Connection,
    sql: &str,
    parameters: &[Value],
) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(&numbered(sql))?;
    let columns = statement.column_count();
    let rows = statement.query_map(params_from_iter(parameters), |row| {
        (0..columns)
            .map(|column| read_value(row.get_ref(column)?))
            .collect::<Result<_, _>>()
    })?;
    rows.map(|values| values.map(Row)).collect()
}

/// Sends what a question finds, until nobody takes it.
fn answer(connection: &rusqlite::Connection, question: &Question) {
    let mut filling = Filling::default();
    let mut send = || -> rusqlite::Result<bool> {
        let mut statement = connection.prepare(&question.sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| read_value(row.get_ref(column)?));
            let row = Row(values.collect::<Result<_, _>>()?);
            if let Some(chunk) = filling.push(row)
                && question.rows.blocking_send(Ok(chunk)).is_err()
            {
                return Ok(false);
            }
        }
        Ok(true)
    };
    match send() {
        Ok(true) => {
            for chunk in filling.end() {
                let _ = question.rows.blocking_send(Ok(chunk));
            }
        }
        Ok(false) => {}
        Err(error) => drop(question.rows.blocking_send(Err(failed(error)))),
    }
}

fn insert_rows(transaction: &Transaction<'_>, load: &Load) -> rusqlite::Result<()> {
    let numbers: Vec<_> = (1..=load.columns.len())
        .map(|number| format!("?{number}"))
        .collect();
    let mut insert = transaction.prepare_cached(&format!(
        "INSERT INTO {} ({}) VALUES ({})",
        load.table,
        load.columns.join(", "),
        numbers.join(", ")
    ))?;
    for row in &load.rows {
        insert.execute(params_from_iter(&row.0))?;
    }
    Ok(())
}

/// An event that cannot be read is an answer of its own: the database has done its part.
fn run_scan(
    connection: &rusqlite::Connection,
    scan: &Scan,
) -> rusqlite::Result<Result<Vec<Recorded>, DecodeError>> {
    let (sql, parameters) = queries::scan(scan);
    let mut statement = connection.prepare_cached(&numbered(sql))?;
    let mut rows = statement.query(params_from_iter(parameters))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        match event_row(row)?.decode() {
            Ok(event) => events.push(event),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(events))
}

fn event_row<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<EventRow<'a>> {
    let text = |column| -> rusqlite::Result<&'a str> { Ok(row.get_ref(column)?.as_str()?) };
    let wrong = |error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
    };
    Ok(EventRow {
        position: row.get(0)?,
        id: text(1)?.parse().map_err(wrong)?,
        recorded_at: Timestamp(row.get(2)?),
        aggregate_type: text(3)?,
        aggregate_id: text(4)?,
        sequence: row.get(5)?,
        scope: text(6)?,
        event_type: text(7)?,
        event_version: text(8)?,
        payload: text(9)?,
        metadata: text(10)?,
    })
}

/// A column that is of another kind than it was said to be is an answer of its own.
fn run_read(
    connection: &rusqlite::Connection,
    span: &Span,
) -> rusqlite::Result<Result<Sheet, StoreError>> {
    let mut statement = connection.prepare(&span.sql())?;
    let mut rows = statement.query([])?;
    let mut sheet = span.sheet();
    while let Some(row) = rows.next()? {
        for (number, (name, kind)) in span.columns.iter().enumerate() {
            sheet.push(match (kind, row.get_ref(number)?) {
                (_, ValueRef::Null) => Cell::Null,
                (ColumnKind::Integer, ValueRef::Integer(integer)) => Cell::Integer(integer),
                (ColumnKind::Text, value @ ValueRef::Text(_)) => Cell::Text(value.as_str()?),
                _ => return Ok(Err(StoreError::Row(format!("{name} is not {kind:?}")))),
            });
        }
    }
    Ok(Ok(sheet))
}

#[async_trait]
impl Store for SqliteStore {
    fn kind(&self) -> StoreKind {
        StoreKind::Sqlite
    }

    async fn query(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let sql = sql.to_owned();
        self.reader()
            .call(move |connection| Ok(run_query(connection, &sql, &parameters)?))
            .await
            .map_err(|error| self.failed(error))
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Recorded>, ScanError> {
        let events = self
            .reader()
            .call(move |connection| Ok(run_scan(connection, &scan)?))
            .await;
        Ok(events.map_err(|error| self.failed(error))??)
    }

    async fn read(&self, span: Span) -> Result<Sheet, StoreError> {
        let sheet = self
            .reader()
            .call(move |connection| Ok(run_read(connection, &span)?))
            .await;
        sheet.map_err(|error| self.failed(error))?
    }

    async fn execute(&self, statements: Vec<Statement>) -> Result<Vec<u64>, StoreError> {
        self.writer()?
            .call(move |connection| {
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let touched = statements
                    .iter()
                    .map(|statement| run_statement(&transaction, statement))
                    .collect::<Result<_, _>>()?;
                transaction.commit()?;
                Ok(touched)
            })
            .await
            .map_err(|error| self.failed(error))
    }

    async fn put(
        &self,
        documents: Vec<DocumentChanges>,
        audit: Option<AuditRows>,
        guard: Option<Statement>,
    ) -> Result<bool, StoreError> {
        let of_documents = documents.iter().map(|changes| changes.upserts.len());
        let sheets = audit.iter().flat_map(|audit| &audit.sheets);
        let of_audit = sheets.map(|sheet| sheet.rows().len());
        let rows = of_documents.chain(of_audit).sum::<usize>() as u64;
        let written = self
            .writer()?
            .call(move |connection| {
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                if let Some(guard) = &guard
                    && run_statement(&transaction, guard)? == 0
                {
                    return Ok(false);
                }
                documents
                    .iter()
                    .try_for_each(|changes| write_documents(&transaction, changes))?;
                audit
                    .iter()
                    .try_for_each(|rows| insert_audit(&transaction, rows))?;
                transaction.commit()?;
                Ok(true)
            })
            .await
            .map_err(|error| self.failed(error))?;
        self.written(rows);
        Ok(written)
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let connection = connect(&self.file, OpenFlags::SQLITE_OPEN_READ_ONLY).await?;
        let begin = "BEGIN; SELECT position FROM log_head;";
        connection
            .call(move |connection| Ok(connection.execute_batch(begin)?))
            .await
            .map_err(|error| self.failed(error))?;
        let (snapshot, mut asked) = Snapshot::new();
        // The connection ends with the last question.
        tokio::spawn(async move {
            while let Some(question) = asked.recv().await {
                // What goes wrong is told with the rows.
                let answer = move |connection: &mut rusqlite::Connection| {
                    answer(connection, &question);
                    Ok(())
                };
                if connection.call(answer).await.is_err() {
                    break;
                }
            }
        });
        Ok(snapshot)
    }

    async fn load(&self, load: Load) -> Result<(), StoreError> {
        self.writer()?
            .call(move |connection| {
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                for statement in &load.before {
                    run_statement(&transaction, statement)?;
                }
                insert_rows(&transaction, &load)?;
                Ok(transaction.commit()?)
            })
            .await
            .map_err(|error| self.failed(error))
    }

    async fn append(&self, append: Arc<Append>) -> Result<(), AppendError> {
        if self.lock.is_none() {
            let detail = "this command opened the store beside the process that writes it";
            return Err(AppendError::Failed(refused(detail.to_owned())));
        }
        let events = append.events.len() as u64;
        let _turn = self.turn().await;
        let written = self
            .writer()?
            .call(move |connection| Ok(write(connection, &append)))
            .await
            .map_err(|error| AppendError::Unknown(error.to_string()))?;
        match written {
            Ok(true) => {
                self.written(events);
                Ok(())
            }
            Ok(false) => Err(AppendError::Lost),
            Err(error) => Err(self.append_error(error)),
        }
    }

    async fn hold_head(&self) -> Result<(), StoreError> {
        let turn = self.turn().await;
        *self.held() = Some(turn);
        Ok(())
    }

    async fn release_head(&self) {
        drop(self.held().take());
    }

    fn another(&self) -> Arc<dyn Store> {
        Arc::new(Self {
            writer: self.writer.clone(),
            readers: self.readers.clone(),
            next_reader: AtomicUsize::new(0),
            since_checkpoint: self.since_checkpoint.clone(),
            checkpointer: self.checkpointer.clone(),
            file: self.file.clone(),
            damage: self.damage.clone(),
            turn: self.turn.clone(),
            held: std::sync::Mutex::default(),
            lock: self.lock.clone(),
        })
    }

    async fn resolve(&self, batch: BatchId, first_position: u64) -> Result<bool, StoreError> {
        let file = self.file.clone();
        self.writer()?
            .call(move |connection| {
                // What the old one has in memory of the file may not be what is on the disk.
                *connection = reopen(&file)?;
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                transaction.execute(super::postgres::RAISE_EPOCH, [])?;
                let found = transaction
                    .prepare(&numbered(super::postgres::FIND_BATCH))?
                    .exists(params![first_position, batch.to_string()])?;
                transaction.commit()?;
                Ok(found)
            })
            .await
            .map_err(|error| self.failed(error))
    }

    fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    async fn close(&self) {
        // A connection closes when its last handle is dropped; dropping the store does it.
    }
}

impl SqliteStore {
    fn append_error(&self, error: rusqlite::Error) -> AppendError {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => AppendError::Conflict(error.to_string()),
            // A write or a flush that failed: the commit may or may not have reached the disk.
            Some(ErrorCode::SystemIoFailure) => AppendError::Unknown(error.to_string()),
            _ => AppendError::Failed(self.failed(error)),
        }
    }
}

fn run_statement(transaction: &Transaction<'_>, statement: &Statement) -> rusqlite::Result<u64> {
    let mut prepared = transaction.prepare_cached(&numbered(&statement.sql))?;
    Ok(prepared.execute(params_from_iter(&statement.parameters))? as u64)
}

const MOVE_HEAD: &str = "
UPDATE log_head
   SET position = ?1, recorded_at = ?2, frontier = ?3, last_batch = ?4
 WHERE singleton = 1 AND position = ?5 AND epoch = ?6 AND frontier = ?7";

/// Whether the head was where the batch expects it; then everything has been committed.
fn write(connection: &mut rusqlite::Connection, append: &Append) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let moved = transaction.prepare_cached(MOVE_HEAD)?.execute(params![
        append.expected_position + append.events.len() as u64,
        append.recorded_at.0,
        append.frontier.to_bytes(),
        append.batch.to_string(),
        append.expected_position,
        append.expected_epoch,
        append.expected_frontier.to_bytes(),
    ])?;
    if moved == 0 {
        return Ok(false);
    }
    append
        .events
        .iter()
        .try_for_each(|event| insert_event(&transaction, event))?;
    append
        .documents
        .iter()
        .try_for_each(|changes| write_documents(&transaction, changes))?;
    for statement in &append.statements {
        run_statement(&transaction, statement)?;
    }
    FailPoint::AfterSend.hit();
    transaction.commit()?;
    Ok(true)
}

const INSERT_EVENT: &str = "
INSERT INTO events
       (position, id, recorded_at, batch, aggregate_type, aggregate_id, sequence, scope,
        scope_sequence, previous, event_type, event_version, payload, metadata, salt, leaf)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

fn insert_event(transaction: &Transaction<'_>, event: &StoredEvent) -> rusqlite::Result<()> {
    transaction.prepare_cached(INSERT_EVENT)?.execute(params![
        event.position,
        event.id.to_string(),
        event.recorded_at.0,
        event.batch.to_string(),
        event.aggregate_type,
        event.aggregate_id,
        event.sequence,
        event.scope,
        event.scope_sequence,
        event.previous.as_ref().map(<[u8; 32]>::as_slice),
        event.event_type,
        event.event_version,
        event.payload,
        event.metadata,
        event.salt.as_slice(),
        event.leaf.as_slice(),
    ])?;
    Ok(())
}

fn write_documents(
    transaction: &Transaction<'_>,
    changes: &DocumentChanges,
) -> rusqlite::Result<()> {
    let table = &changes.table;
    // What lists are found by seldom changes; as SQLite writes every index whose columns are
    // named in an update, they are named only where they do.
    let mut update = transaction.prepare_cached(&format!(
        "
UPDATE {table}
   SET position = ?6, document = ?7
 WHERE key = ?1 AND workspace IS ?2 AND parent IS ?3 AND lookup IS ?4 AND deadline IS ?5"
    ))?;
    let mut upsert = transaction.prepare_cached(&format!(
        "
INSERT INTO {table} (key, workspace, parent, lookup, deadline, position, document)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (key) DO UPDATE
       SET workspace = excluded.workspace, parent = excluded.parent,
           lookup = excluded.lookup, deadline = excluded.deadline,
           position = excluded.position, document = excluded.document"
    ))?;
    for row in &changes.upserts {
        let row = params![
            row.key,
            row.workspace,
            row.parent,
            row.lookup,
            row.deadline,
            row.position,
            row.document
        ];
        if changes.is_new || update.execute(row)? == 0 {
            upsert.execute(row)?;
        }
    }
    let mut delete = transaction.prepare_cached(&format!("DELETE FROM {table} WHERE key = ?1"))?;
    for key in &changes.deletes {
        delete.execute([key])?;
    }
    Ok(())
}

fn insert_audit(transaction: &Transaction<'_>, audit: &AuditRows) -> rusqlite::Result<()> {
    let columns = AUDIT_COLUMNS.map(|(name, _)| name).join(", ");
    let numbers: Vec<_> = (1..=AUDIT_COLUMNS.len())
        .map(|number| format!("?{number}"))
        .collect();
    let mut insert = transaction.prepare_cached(&format!(
        "INSERT INTO {} ({columns}) VALUES ({})",
        audit.table,
        numbers.join(", ")
    ))?;
    for row in audit.sheets.iter().flat_map(Sheet::rows) {
        insert.execute(params_from_iter(row.cells()))?;
    }
    Ok(())
}
