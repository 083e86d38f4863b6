//! A store as it was at one moment, read table by table while others go on writing.
//!
//! One connection in one reading transaction, on a worker of its own, which answers one question
//! after the other: rows come in chunks, the next of which is read while one is looked at.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::{Row, StoreError, Value};

/// Rows in a chunk at most, and bytes after which one is not filled any further.
const CHUNK_ROWS: usize = 1_000;
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait for whoever reads them.
const CHUNKS_WAITING: usize = 2;

/// What a worker sends.
pub(super) type Chunk = Result<Vec<Row>, StoreError>;

/// A question to a worker, and where its rows go.
pub(super) struct Question {
    pub sql: String,
    pub rows: mpsc::Sender<Chunk>,
}

/// One moment of a store; it lasts as long as this is kept.
#[derive(Debug)]
pub struct Snapshot {
    questions: mpsc::Sender<Question>,
}

impl Snapshot {
    /// With the worker's end of it.
    pub(super) fn new() -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(1);
        (Self { questions }, asked)
    }

    /// The rows that a statement without parameters finds. The next question waits until these
    /// are read, or given up.
    pub async fn rows(&self, sql: impl Into<String>) -> Rows {
        let (rows, incoming) = mpsc::channel(CHUNKS_WAITING);
        let question = Question {
            sql: sql.into(),
            rows,
        };
        // Where the worker has ended, so have the rows, and reading them says so.
        let _ = self.questions.send(question).await;
        Rows {
            incoming,
            here: VecDeque::new(),
            is_whole: false,
        }
    }

    /// All rows of a short answer.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn all(&self, sql: impl Into<String>) -> Result<Vec<Row>, StoreError> {
        let mut rows = self.rows(sql).await;
        let mut all = Vec::new();
        while let Some(row) = rows.next().await? {
            all.push(row);
        }
        Ok(all)
    }
}

/// Rows on their way.
#[derive(Debug)]
pub struct Rows {
    incoming: mpsc::Receiver<Chunk>,
    here: VecDeque<Row>,
    is_whole: bool,
}

impl Rows {
    /// Rows that come from elsewhere; an empty chunk says that there are no more.
    pub fn of(incoming: mpsc::Receiver<Result<Vec<Row>, StoreError>>) -> Self {
        Self {
            incoming,
            here: VecDeque::new(),
            is_whole: false,
        }
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// When the store cannot be read, or whoever reads it has ended before the last row.
    pub async fn next(&mut self) -> Result<Option<Row>, StoreError> {
        while self.here.is_empty() && !self.is_whole {
            let chunk = self.incoming.recv().await;
            let chunk = chunk.unwrap_or_else(|| {
                let detail = "the store was let go of while it was read".to_owned();
                Err(StoreError::Row(detail))
            })?;
            self.is_whole = chunk.is_empty();
            self.here.extend(chunk);
        }
        Ok(self.here.pop_front())
    }
}

/// Rows of one answer until there are enough for a chunk.
#[derive(Default)]
pub(super) struct Filling {
    rows: Vec<Row>,
    bytes: usize,
}

impl Filling {
    /// Takes a row; a chunk, once it is full.
    pub fn push(&mut self, row: Row) -> Option<Vec<Row>> {
        self.bytes += bytes_of(&row);
        self.rows.push(row);
        let is_full = self.rows.len() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES;
        is_full.then(|| std::mem::take(self).rows)
    }

    /// The chunks that are left: what has not been sent, and the empty one that ends an answer.
    pub fn end(self) -> impl Iterator<Item = Vec<Row>> {
        let last = (!self.rows.is_empty()).then_some(self.rows);
        last.into_iter().chain([Vec::new()])
    }
}

/// Bytes of a row's values.
pub fn bytes_of(row: &Row) -> usize {
    let bytes = |value: &Value| match value {
        Value::Text(text) => text.as_ref().map_or(0, String::len),
        Value::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
        Value::Integer(_) => 8,
    };
    row.0.iter().map(bytes).sum()
}
