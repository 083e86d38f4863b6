//! Where the log lives: SQLite or PostgreSQL, behind one small trait.
//!
//! A store runs SQL and appends; it decides nothing. Queries are written once, in SQL that
//! reads the same on both (`$1` placeholders, TEXT ids, BIGINT microseconds); what differs
//! is only how an append is sent, and stands in [`sqlite`] and [`postgres`].
//!
//! To add a store: implement [`Store`], add a folder of migrations, and run the contract
//! suite (`tests/it`) on it.

pub mod postgres;
mod queries;
pub mod schema;
mod seals;
mod sheet;
mod snapshot;
pub mod sqlite;
pub mod tables;
mod value;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub use queries::{
    Chosen, decoded, events_after, events_at, events_span, head, last_position_at, padded,
    page_rows, plan, stream_after, stream_page, stream_pages, stream_pages_of,
};
pub use seals::{Seal, SealState, head_for_writing, may_be_written, seal_of};
pub use sheet::{Cell, ColumnKind, Sheet, SheetRow, Span};
pub use snapshot::{Rows, Snapshot, bytes_of};
pub use value::{Row, Statement, Value};

use super::entry::{DecodeError, Recorded, StoredEvent};
use crate::{
    domain::{Timestamp, ids::BatchId},
    proofs::tree::Frontier,
};

/// The lowest format that this program writes; `log_head.format` must not be above it.
pub const FORMAT: i64 = 1;

/// In the place of a format: that there are read models and no log, which nobody may write.
pub const READ_MODELS_ONLY: i64 = i64::MAX;

/// Which kind of database a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Sqlite,
    Postgres,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        })
    }
}

const SELECT_MIGRATION: &str = "
SELECT CAST(MAX(version) AS BIGINT)
  FROM _sqlx_migrations";

/// Whether the schema of a store is this program's: neither older nor newer.
///
/// # Errors
/// When the store cannot be read.
pub async fn is_current(store: &dyn Store) -> Result<bool, StoreError> {
    let newest = match store.kind() {
        StoreKind::Sqlite => sqlite::newest_migration(),
        StoreKind::Postgres => postgres::newest_migration(),
    };
    let rows = store.query(SELECT_MIGRATION, vec![]).await?;
    let applied = rows
        .first()
        .map(|row| row.optional_integer(0))
        .transpose()?;
    Ok(applied.flatten() == newest)
}

/// What a store says when it could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or will not serve now; the same call may go through later.
    #[error("the {kind} store cannot be reached: {detail}")]
    Unavailable { kind: StoreKind, detail: String },
    /// It can be read and not written: a full disk, a read-only file or database.
    #[error("the {kind} store cannot be written: {detail}")]
    Unwritable { kind: StoreKind, detail: String },
    /// What is stored is damaged; it is not written any more until a person has looked at it.
    #[error("the {kind} store is damaged: {detail}; run `crewlog verify`, and restore a backup")]
    Damaged { kind: StoreKind, detail: String },
    /// It holds something that cannot be, or refused what it should take.
    #[error("the {kind} store failed: {detail}")]
    Failed { kind: StoreKind, detail: String },
    /// The schema was made by a newer program.
    #[error(
        "the {kind} store has a newer schema than this version of crewlog knows ({detail}); \
         run the newer version"
    )]
    Newer { kind: StoreKind, detail: String },
    /// It has not been set up, or not for this version.
    #[error(
        "the {kind} store has not the schema of this version of crewlog: {detail}; run `crewlog migrate` or `crewlog serve`"
    )]
    NotMigrated { kind: StoreKind, detail: String },
    /// Another process holds it.
    #[error("{detail}")]
    Held { detail: String },
    /// It takes no writer: it was moved away, it is not whole yet, or it is a backup.
    #[error("{detail}")]
    Sealed { detail: String },
    /// Its log is another than the one that this process has read and written.
    #[error("{detail}")]
    Forked { detail: String },
    /// A row does not have the shape that the query promised.
    #[error("a row of the store cannot be read: {0}")]
    Row(String),
}

/// Why an append did not happen, or whether that is known at all.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The head is not where the writer thought: somebody else wrote. Nothing was written.
    #[error("the head of the log has moved")]
    Lost,
    /// A unique key outside the log refused a row. Nothing was written.
    #[error("a unique key refused the batch: {0}")]
    Conflict(String),
    /// The connection broke while it was being sent: it may have been written or not.
    #[error("it is not known whether the batch was written: {0}")]
    Unknown(String),
    /// The store refused it for a reason that will not go away. Nothing was written.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// Why a part of the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scan {
    /// At most `limit` events after a position (exclusive).
    Page { after: u64, limit: u64 },
    /// The events after a position (exclusive) up to another (inclusive): all of them, or those
    /// of one scope.
    Between {
        after: u64,
        through: u64,
        scope: Option<String>,
    },
}

/// The head of the log: the one row that every append compares and moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The last position written; 0 in an empty log.
    pub position: u64,
    /// Raised whenever an unknown outcome is resolved, so that what is still in flight
    /// loses its compare.
    pub epoch: u64,
    /// `recorded_at` of the last batch.
    pub recorded_at: Timestamp,
    /// The tree over all entries up to `position`.
    pub frontier: Frontier,
}

/// Everything that one batch writes, all or nothing.
#[derive(Debug)]
pub struct Append {
    pub batch: BatchId,
    /// The head must still be this. The tree is compared as well: after a failover that lost
    /// entries, another log can have come to the same position and epoch.
    pub expected_position: u64,
    pub expected_epoch: u64,
    pub expected_frontier: Frontier,
    /// The head afterwards: `position + events.len()`.
    pub recorded_at: Timestamp,
    pub frontier: Frontier,
    pub events: Vec<StoredEvent>,
    pub documents: Vec<DocumentChanges>,
    /// What is written beside the log: claims, subjects, keys, hashes, idempotency.
    pub statements: Vec<Statement>,
}

/// What a batch does to one generation of one projection: each key at most once.
#[derive(Debug, Clone, Default)]
pub struct DocumentChanges {
    /// `documents_<projection>_<generation>`.
    pub table: String,
    /// That none of the keys is stored yet: a store need not look for them.
    pub is_new: bool,
    pub upserts: Vec<DocumentRow>,
    pub deletes: Vec<String>,
}

impl DocumentChanges {
    /// Says that none of the keys is stored yet.
    pub fn as_new(&mut self) {
        self.is_new = true;
    }
}

/// One document with its filter columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentRow {
    pub key: String,
    /// The workspace it lies in, where there is one.
    pub workspace: Option<String>,
    /// What lists are of: the workspace of a member, the user of a session.
    pub parent: Option<String>,
    /// One more value that it is found by.
    pub lookup: Option<String>,
    /// When time alone will end something about it, in microseconds.
    pub deadline: Option<i64>,
    /// The position that last changed it.
    pub position: u64,
    /// JSON.
    pub document: String,
}

/// Rows of one generation of the audit index.
#[derive(Debug, Default)]
pub struct AuditRows {
    /// `audit_<generation>`.
    pub table: String,
    /// Of [`AUDIT_COLUMNS`].
    pub sheets: Vec<Sheet>,
}

/// What the audit index holds of an entry. What ends in `_hash` is what indexes are on in the
/// place of an id: see [`hash_of`].
pub const AUDIT_COLUMNS: [(&str, ColumnKind); 15] = [
    ("position", ColumnKind::Integer),
    ("recorded_at", ColumnKind::Integer),
    ("organization", ColumnKind::Text),
    ("workspace", ColumnKind::Text),
    ("crew", ColumnKind::Text),
    ("environment", ColumnKind::Text),
    ("actor", ColumnKind::Text),
    ("action", ColumnKind::Text),
    ("target", ColumnKind::Text),
    ("outcome", ColumnKind::Text),
    ("words", ColumnKind::Text),
    ("organization_hash", ColumnKind::Integer),
    ("workspace_hash", ColumnKind::Integer),
    ("actor_hash", ColumnKind::Integer),
    ("target_hash", ColumnKind::Integer),
];

impl AuditRow {
    /// Adds it to a sheet of [`AUDIT_COLUMNS`].
    pub fn push_to(&self, sheet: &mut Sheet) {
        let numbers = [self.position.cast_signed(), self.recorded_at];
        let texts = [
            self.organization.as_deref(),
            self.workspace.as_deref(),
            self.crew.as_deref(),
            self.environment.as_deref(),
            self.actor.as_deref(),
            Some(self.action.as_str()),
            self.target.as_deref(),
            Some(self.outcome),
            Some(self.words.as_str()),
        ];
        let hashed = [
            &self.organization,
            &self.workspace,
            &self.actor,
            &self.target,
        ];
        let numbers = numbers.map(Cell::Integer).into_iter();
        let texts = texts.map(|text| text.map_or(Cell::Null, Cell::Text));
        let hash = |id: &Option<String>| match id {
            Some(id) => Cell::Integer(hash_of(id)),
            None => Cell::Null,
        };
        let cells = numbers.chain(texts).chain(hashed.map(hash));
        cells.for_each(|cell| sheet.push(cell));
    }
}

/// What an entry is found by; the entry itself is read from `events`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditRow {
    pub position: u64,
    pub recorded_at: i64,
    pub organization: Option<String>,
    pub workspace: Option<String>,
    pub crew: Option<String>,
    pub environment: Option<String>,
    pub actor: Option<String>,
    pub action: String,
    pub target: Option<String>,
    pub outcome: &'static str,
    /// Lower-case words that a free-text search looks in; never anything personal.
    pub words: String,
}

/// What the indexes of the audit rows are on in the place of an id: 64 bits of it (FNV-1a).
/// Searches compare the id as well, so that two that share them are never mixed up.
pub fn hash_of(id: &str) -> i64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    i64::from_ne_bytes(hash.to_ne_bytes())
}

/// Rows of a table as they are, and what goes before they come.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// What is done first, in the same transaction.
    pub before: Vec<Statement>,
    pub table: String,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
}

/// A database that holds the log.
///
/// `query` sees one consistent snapshot a call. An answer of [`Store::append`] is a
/// promise: `Ok` MUST mean that every row of the batch is on the disk of the database, and
/// any error but [`AppendError::Unknown`] MUST mean that none is.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Which kind of database this is.
    fn kind(&self) -> StoreKind;

    /// Runs one reading statement.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses the statement.
    async fn query(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, StoreError>;

    /// Reads a part of the log in order, each event decoded from its row as it comes: what
    /// folds are given.
    ///
    /// # Errors
    /// When the database cannot be reached, or holds an event that this version cannot read.
    async fn scan(&self, scan: Scan) -> Result<Vec<Recorded>, ScanError>;

    /// Reads rows between two positions as they are, for those who decode them elsewhere: what
    /// goes through the whole log.
    ///
    /// # Errors
    /// When the database cannot be reached, or holds another kind than a column is said to be.
    async fn read(&self, span: Span) -> Result<Sheet, StoreError>;

    /// Runs writing statements in one transaction, for what is kept outside of the log;
    /// answers with the number of rows that each touched.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses one; then none has happened.
    async fn execute(&self, statements: Vec<Statement>) -> Result<Vec<u64>, StoreError>;

    /// Writes what projections made outside of an append, in one transaction: what fills a
    /// generation that does not serve yet, or brings the audit index on. `guard` comes first
    /// and must touch a row; where it touches none, nothing is written. Answers whether it was.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses a row; then none is written.
    async fn put(
        &self,
        documents: Vec<DocumentChanges>,
        audit: Option<AuditRows>,
        guard: Option<Statement>,
    ) -> Result<bool, StoreError>;

    /// The store as it is now, to be read while others go on writing.
    ///
    /// # Errors
    /// When the database cannot be reached.
    async fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Writes rows as they are, all or none: what fills a store that does not serve.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses a row.
    async fn load(&self, load: Load) -> Result<(), StoreError>;

    /// Writes a batch if the head is still where it says, or nothing.
    ///
    /// # Errors
    /// [`AppendError`] says whether it is known that nothing was written.
    async fn append(&self, append: Arc<Append>) -> Result<(), AppendError>;

    /// Keeps others from appending until this handle has, or calls [`Store::release_head`]: who
    /// has lost a compare catches up and decides again under it, and so does not lose again.
    ///
    /// # Errors
    /// When the database cannot be reached; then nothing is held.
    async fn hold_head(&self) -> Result<(), StoreError>;

    /// Lets others append, if [`Store::hold_head`] still keeps them from it.
    async fn release_head(&self);

    /// Another handle on the same database, which holds the head for itself: for who writes
    /// beside the journal in the same process.
    fn another(&self) -> Arc<dyn Store>;

    /// After an unknown outcome: takes the head's lock, raises its epoch, so that what is
    /// still in flight can no longer be written, and says whether `batch`, whose first event
    /// would be at `first_position`, was.
    ///
    /// # Errors
    /// When the database still cannot be reached: call again.
    async fn resolve(&self, batch: BatchId, first_position: u64) -> Result<bool, StoreError>;

    /// What it has found to be damaged since it was opened, if it has found something.
    fn damage(&self) -> Option<&str> {
        None
    }

    /// Ends all connections; what was answered stays written.
    async fn close(&self);
}
