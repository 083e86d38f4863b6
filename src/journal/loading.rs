//! How a stream that is not in memory is read back: its snapshot, and the events since.

use super::{
    cache::Entry,
    entry::{DecodeCause, DecodeError, StoredEvent},
    stores::{self, Statement, Store, StoreError, Value},
    unit::StreamRef,
    upcasters,
};
use crate::domain::Stream;

/// A cold load that had to fold more events than this leaves a snapshot behind.
pub const SNAPSHOT_AFTER_EVENTS: usize = 256;

/// Why a stream could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The sequences have a hole: the log was tampered with.
    #[error("stream {stream} has event {found} where {expected} should be")]
    Gap {
        stream: String,
        expected: u64,
        found: u64,
    },
}

const SELECT_SNAPSHOT: &str = "
SELECT last_sequence, CAST(payload AS TEXT)
  FROM snapshots
 WHERE aggregate_type = $1 AND aggregate_id = $2 AND state_version = $3";

/// `payload` is how the store takes JSON in a parameter.
macro_rules! upsert_snapshot {
    ($payload:literal) => {
        concat!(
            "
INSERT INTO snapshots
       (aggregate_type, aggregate_id, last_sequence, current_snapshot, payload, state_version)
VALUES ($1, $2, $3, 1, ",
            $payload,
            ", $5)
    ON CONFLICT (aggregate_type, aggregate_id) DO UPDATE
       SET last_sequence = excluded.last_sequence,
           current_snapshot = snapshots.current_snapshot + 1,
           payload = excluded.payload, state_version = excluded.state_version
     WHERE snapshots.last_sequence < excluded.last_sequence
        OR snapshots.state_version <> excluded.state_version"
        )
    };
}

const UPSERT_SNAPSHOT_POSTGRES: &str = upsert_snapshot!("CAST($4 AS JSON)");
/// A cast to JSON would make a number of it here.
const UPSERT_SNAPSHOT_SQLITE: &str = upsert_snapshot!("$4");

/// A stream read back, and the snapshot that is worth keeping if there were many events.
pub struct Loaded {
    pub entry: Entry,
    pub snapshot: Option<Statement>,
}

/// Reads a stream up to `position` (inclusive); one without events is empty.
///
/// # Errors
/// When the store cannot be read, or holds what this version cannot fold.
pub async fn load(
    store: &dyn Store,
    stream: &StreamRef,
    position: u64,
) -> Result<Loaded, LoadError> {
    let kind = stream.stream_type;
    let mut entry = from_snapshot(store, stream).await?;
    let events =
        stores::stream_after(store, kind.name, &stream.id, entry.sequence, position).await?;
    for event in &events {
        apply(&mut entry, event)?;
    }
    let snapshot = (events.len() > SNAPSHOT_AFTER_EVENTS)
        .then(|| snapshot_statement(store, stream, &entry))
        .flatten();
    Ok(Loaded { entry, snapshot })
}

/// A stream read back as its aggregate, for readers: as it is now, or as its first `through`
/// events left it; with the sequence of the last of them.
///
/// # Errors
/// When the store cannot be read, or holds what this version cannot fold.
pub async fn read_back<A: Stream + Clone>(
    store: &dyn Store,
    stream: &StreamRef,
    through: Option<u64>,
) -> Result<(A, u64), LoadError> {
    let kind = stream.stream_type;
    let mut entry = match through {
        None => from_snapshot(store, stream).await?,
        Some(_) => Entry::new(kind.empty(), 0),
    };
    let (name, end) = (kind.name, u64::MAX >> 1);
    let events = stores::stream_after(store, name, &stream.id, entry.sequence, end).await?;
    let through = through.unwrap_or(u64::MAX);
    for event in events.iter().filter(|event| event.sequence <= through) {
        apply(&mut entry, event)?;
    }
    let state = entry.state.as_any().downcast_ref::<A>();
    let state = state.expect("a stream has one type").clone();
    Ok((state, entry.sequence))
}

/// A stream read back as its aggregate, as its events up to `position` (inclusive) left it;
/// with the sequence of the last of them.
///
/// # Errors
/// When the store cannot be read, or holds what this version cannot fold.
pub async fn read_back_at<A: Stream + Clone>(
    store: &dyn Store,
    stream: &StreamRef,
    position: u64,
) -> Result<(A, u64), LoadError> {
    let kind = stream.stream_type;
    let mut entry = Entry::new(kind.empty(), 0);
    let events = stores::stream_after(store, kind.name, &stream.id, 0, position).await?;
    for event in &events {
        apply(&mut entry, event)?;
    }
    let state = entry.state.as_any().downcast_ref::<A>();
    let state = state.expect("a stream has one type").clone();
    Ok((state, entry.sequence))
}

async fn from_snapshot(store: &dyn Store, stream: &StreamRef) -> Result<Entry, StoreError> {
    let kind = stream.stream_type;
    let parameters: Vec<Value> = vec![
        kind.name.into(),
        stream.id.clone().into(),
        kind.state_version.into(),
    ];
    let rows = store.query(SELECT_SNAPSHOT, parameters).await?;
    if let Some(row) = rows.first() {
        match kind.read_snapshot(row.text(1)?) {
            Ok(state) => return Ok(Entry::new(state, row.count(0)?)),
            // A snapshot only saves time: without it the stream is folded from its start.
            Err(error) => tracing::warn!(stream = %stream.id, %error, "snapshot ignored"),
        }
    }
    Ok(Entry::new(kind.empty(), 0))
}

fn snapshot_statement(store: &dyn Store, stream: &StreamRef, entry: &Entry) -> Option<Statement> {
    let kind = stream.stream_type;
    let payload = entry.state.snapshot().ok()?;
    let parameters: [Value; 5] = [
        kind.name.into(),
        stream.id.clone().into(),
        entry.sequence.into(),
        payload.into(),
        kind.state_version.into(),
    ];
    Some(Statement::new(
        match store.kind() {
            stores::StoreKind::Postgres => UPSERT_SNAPSHOT_POSTGRES,
            stores::StoreKind::Sqlite => UPSERT_SNAPSHOT_SQLITE,
        },
        parameters,
    ))
}

/// Applies the next stored event of a stream; what the state already has in it is passed
/// over, as another process may have been read ahead of.
///
/// # Errors
/// When it is not the next, or cannot be read by this version.
pub fn apply(entry: &mut Entry, event: &StoredEvent) -> Result<(), LoadError> {
    if event.sequence <= entry.sequence {
        return Ok(());
    }
    if event.sequence != entry.sequence + 1 {
        return Err(LoadError::Gap {
            stream: format!("{} {}", event.aggregate_type, event.aggregate_id),
            expected: entry.sequence + 1,
            found: event.sequence,
        });
    }
    let decode_error = |source: DecodeCause| DecodeError {
        position: event.position,
        source,
    };
    let current = upcasters::upcast(
        &event.aggregate_type,
        &event.event_type,
        &event.event_version,
        &event.payload,
    )
    .map_err(|error| decode_error(error.into()))?;
    entry
        .state
        .apply(&current, event.position)
        .map_err(decode_error)?;
    entry.sequence = event.sequence;
    Ok(())
}
