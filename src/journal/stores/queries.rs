//! The log's own queries, the same on both stores.

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{
    ColumnKind, FORMAT, Head, READ_MODELS_ONLY, Row, Scan, ScanError, SealState, Sheet, SheetRow,
    Span, Store, StoreError, StoreKind, Value,
};
use crate::{
    domain::Timestamp,
    journal::entry::{EventRow, Recorded, StoredEvent},
    proofs::tree::Frontier,
};

/// Events in a full page of a stream or a scope.
const PAGE_EVENTS: u64 = 2_048;

const HEAD: &str = "
SELECT position, epoch, recorded_at, frontier, format
  FROM log_head
 WHERE singleton = 1";

/// The columns of an entry, in the order that [`read_event`] takes them.
macro_rules! event_columns {
    () => {
        "position, id, recorded_at, batch, aggregate_type, aggregate_id, sequence,
       scope, scope_sequence, previous, event_type, event_version,
       CAST(payload AS TEXT), CAST(metadata AS TEXT), salt, leaf"
    };
}

const EVENTS_AFTER: &str = concat!(
    "SELECT ",
    event_columns!(),
    "
  FROM events
 WHERE position > $1
 ORDER BY position
 LIMIT $2"
);

/// What folds need of an entry, in the order that the stores take it.
macro_rules! scanned_columns {
    () => {
        "position, id, recorded_at, aggregate_type, aggregate_id, sequence, scope,
       event_type, event_version, CAST(payload AS TEXT), CAST(metadata AS TEXT)"
    };
}

const SCAN_PAGE: &str = concat!(
    "SELECT ",
    scanned_columns!(),
    "
  FROM events
 WHERE position > $1
 ORDER BY position
 LIMIT $2"
);

/// A statement of its own: one for both would be planned for neither. The scope is compared
/// as an expression, so that no planner takes the scope's index, and with it all that was ever
/// written there, for the few rows between two positions.
const SCAN_BETWEEN: &str = concat!(
    "SELECT ",
    scanned_columns!(),
    "
  FROM events
 WHERE position > $1 AND position <= $2 AND ($3 = '' OR scope || '' = $3)
 ORDER BY position"
);

/// The statement that reads a part of the log, and its parameters.
pub(super) fn scan(scan: &Scan) -> (&'static str, Vec<Value>) {
    match scan {
        Scan::Page { after, limit } => (SCAN_PAGE, vec![(*after).into(), (*limit).into()]),
        Scan::Between {
            after,
            through,
            scope,
        } => {
            let scope = scope.as_deref().unwrap_or_default();
            let parameters = vec![(*after).into(), (*through).into(), scope.into()];
            (SCAN_BETWEEN, parameters)
        }
    }
}

/// What folds need of an entry, in the order that `scanned` takes it.
const SCANNED: [(&str, ColumnKind); 11] = [
    ("position", ColumnKind::Integer),
    ("id", ColumnKind::Text),
    ("recorded_at", ColumnKind::Integer),
    ("aggregate_type", ColumnKind::Text),
    ("aggregate_id", ColumnKind::Text),
    ("sequence", ColumnKind::Integer),
    ("scope", ColumnKind::Text),
    ("event_type", ColumnKind::Text),
    ("event_version", ColumnKind::Text),
    ("CAST(payload AS TEXT)", ColumnKind::Text),
    ("CAST(metadata AS TEXT)", ColumnKind::Text),
];

/// The events after a position (exclusive) up to another (inclusive), for [`Store::read`];
/// see [`decoded`].
pub fn events_span(after: u64, through: u64) -> Span {
    Span {
        table: "events".to_owned(),
        columns: &SCANNED,
        after,
        through,
    }
}

/// The events in the rows of [`events_span`].
///
/// # Errors
/// When a row is malformed, or an event that this version cannot read.
pub fn decoded(sheet: &Sheet) -> Result<Vec<Recorded>, ScanError> {
    let rows = sheet.rows();
    // In one piece from the start: they are large, and there are many.
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        events.push(scanned(row)?);
    }
    Ok(events)
}

fn scanned(row: SheetRow<'_>) -> Result<Recorded, ScanError> {
    let id = row.text(1)?.parse();
    let row = EventRow {
        position: row.count(0)?,
        id: id.map_err(|_| StoreError::Row("column 1 is not an event's id".to_owned()))?,
        recorded_at: Timestamp(row.integer(2)?),
        aggregate_type: row.text(3)?,
        aggregate_id: row.text(4)?,
        sequence: row.count(5)?,
        scope: row.text(6)?,
        event_type: row.text(7)?,
        event_version: row.text(8)?,
        payload: row.text(9)?,
        metadata: row.text(10)?,
    };
    Ok(row.decode()?)
}

const STREAM_AFTER: &str = concat!(
    "SELECT ",
    event_columns!(),
    "
  FROM events
 WHERE aggregate_type = $1 AND aggregate_id = $2 AND sequence > $3 AND position <= $4
 ORDER BY sequence"
);

const STREAM_PAGE: &str = concat!(
    "SELECT ",
    event_columns!(),
    "
  FROM events
 WHERE aggregate_type = $1 AND aggregate_id = $2 AND sequence > $3 AND position <= $4
 ORDER BY sequence
 LIMIT $5"
);

const RECORDED_AT: &str = "
SELECT recorded_at
  FROM events
 WHERE position = $1";

/// Reads the head of the log. Whoever writes asks for [`super::head_for_writing`] instead.
///
/// # Errors
/// When the store cannot be read, holds a head that cannot be, or asks for a newer writer.
pub async fn head(store: &dyn Store) -> Result<Head, StoreError> {
    head_and_format(store).await.map(|(head, _)| head)
}

/// The same, with what stands for its format.
pub(super) async fn head_and_format(store: &dyn Store) -> Result<(Head, i64), StoreError> {
    let rows = store.query(HEAD, vec![]).await?;
    let row = rows.first().ok_or_else(|| StoreError::Failed {
        kind: store.kind(),
        detail: "log_head has no row".to_owned(),
    })?;
    let position = row.count(0)?;
    let format = row.integer(4)?;
    if format == READ_MODELS_ONLY {
        return Err(StoreError::Held {
            detail: "this database holds read models that `crewlog replay --into` has made, and \
                     no log; name the database of the log"
                .to_owned(),
        });
    }
    if format > FORMAT && !SealState::FORMATS.contains(&format) {
        return Err(StoreError::Newer {
            kind: store.kind(),
            detail: format!("it asks for writers of format {format}, this one is {FORMAT}"),
        });
    }
    let frontier = Frontier::from_bytes(position, row.bytes(3)?)
        .map_err(|error| StoreError::Row(error.to_string()))?;
    let head = Head {
        position,
        epoch: row.count(1)?,
        recorded_at: Timestamp(row.integer(2)?),
        frontier,
    };
    Ok((head, format))
}

/// How the store goes about a statement: the lines of its plan.
///
/// # Errors
/// When the store cannot be read.
pub async fn plan(
    store: &dyn Store,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<Vec<String>, StoreError> {
    let (explain, column) = match store.kind() {
        StoreKind::Sqlite => ("EXPLAIN QUERY PLAN", 3),
        StoreKind::Postgres => ("EXPLAIN", 0),
    };
    let rows = store.query(&format!("{explain} {sql}"), parameters).await?;
    rows.iter()
        .map(|row| row.text(column).map(str::to_owned))
        .collect()
}

/// At most `limit` events after `position` (exclusive), in order.
///
/// # Errors
/// When the store cannot be read or a row is malformed.
pub async fn events_after(
    store: &dyn Store,
    position: u64,
    limit: u64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let parameters = vec![position.into(), limit.into()];
    read_events(store.query(EVENTS_AFTER, parameters).await?)
}

/// The events of one stream after `sequence` (exclusive), up to `position` (inclusive).
///
/// # Errors
/// When the store cannot be read or a row is malformed.
pub async fn stream_after(
    store: &dyn Store,
    aggregate_type: &str,
    aggregate_id: &str,
    sequence: u64,
    position: u64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let parameters = vec![
        aggregate_type.into(),
        aggregate_id.into(),
        sequence.into(),
        position.into(),
    ];
    read_events(store.query(STREAM_AFTER, parameters).await?)
}

/// At most `limit` events of one stream after `sequence` (exclusive), up to `position` (inclusive).
///
/// # Errors
/// When the store cannot be read or a row is malformed.
pub async fn stream_page(
    store: &dyn Store,
    (aggregate_type, aggregate_id): (&str, &str),
    sequence: u64,
    position: u64,
    limit: u64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let parameters = vec![
        aggregate_type.into(),
        aggregate_id.into(),
        sequence.into(),
        position.into(),
        limit.into(),
    ];
    read_events(store.query(STREAM_PAGE, parameters).await?)
}

/// Pages of events, none of them empty; an error where the store cannot be read or a row is
/// malformed.
pub type Pages<'a> = BoxStream<'a, Result<Vec<StoredEvent>, StoreError>>;

/// Which events of a stream are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    All,
    /// Those of these types.
    OfTypes(&'static [&'static str]),
    /// The last one of these types.
    LastOfTypes(&'static [&'static str]),
}

/// The events of one stream, by its type and id, up to `position` (inclusive).
pub fn stream_pages<'a>(
    store: &'a dyn Store,
    stream: (&'a str, &'a str),
    position: u64,
) -> Pages<'a> {
    stream_pages_of(store, stream, position, Chosen::All)
}

/// [`stream_pages`] of some of the stream's events.
pub fn stream_pages_of<'a>(
    store: &'a dyn Store,
    (aggregate_type, aggregate_id): (&'a str, &'a str),
    position: u64,
    chosen: Chosen,
) -> Pages<'a> {
    let sql = chosen_page(chosen);
    let limit = match chosen {
        Chosen::All | Chosen::OfTypes(_) => PAGE_EVENTS,
        Chosen::LastOfTypes(_) => 1,
    };
    let read = move |sequence: u64| {
        let parameters: Vec<Value> = vec![
            aggregate_type.into(),
            aggregate_id.into(),
            sequence.into(),
            position.into(),
            limit.into(),
        ];
        let sql = sql.clone();
        async move { store.query(&sql, parameters).await }
    };
    pages(read, |event| event.sequence)
}

/// The statement for a page of them. The types are our own words, and few: they stand in it.
fn chosen_page(chosen: Chosen) -> String {
    let (types, direction) = match chosen {
        Chosen::All => return STREAM_PAGE.to_owned(),
        Chosen::OfTypes(types) => (types, "ASC"),
        Chosen::LastOfTypes(types) => (types, "DESC"),
    };
    let types: Vec<_> = types.iter().map(|name| format!("'{name}'")).collect();
    format!(
        "SELECT {}
  FROM events
 WHERE aggregate_type = $1 AND aggregate_id = $2 AND sequence > $3 AND position <= $4
   AND event_type IN ({})
 ORDER BY sequence {direction}
 LIMIT $5",
        event_columns!(),
        types.join(", ")
    )
}

/// Reads behind the last one's sequence until a page is not full.
fn pages<'a, R>(read: impl Fn(u64) -> R + Send + 'a, sequence: fn(&StoredEvent) -> u64) -> Pages<'a>
where
    R: Future<Output = Result<Vec<Row>, StoreError>> + Send + 'a,
{
    stream::try_unfold(Some(0), move |after| {
        let reading = after.map(&read);
        async move {
            let Some(reading) = reading else {
                return Ok(None);
            };
            let page = read_events(reading.await?)?;
            let is_full = page.len() as u64 == PAGE_EVENTS;
            let next = page.last().filter(|_| is_full).map(sequence);
            Ok((!page.is_empty()).then_some((page, next)))
        }
    })
    .boxed()
}

/// The events at these positions, in order; positions beyond the head are left out.
///
/// # Errors
/// When the store cannot be read or a row is malformed.
pub async fn events_at(
    store: &dyn Store,
    positions: &[u64],
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut events = Vec::with_capacity(positions.len());
    for positions in positions.chunks(1_024) {
        let (placeholders, parameters) = padded(positions, 1);
        let sql = format!(
            "SELECT {} FROM events WHERE position IN ({placeholders}) ORDER BY position",
            event_columns!()
        );
        events.extend(read_events(store.query(&sql, parameters).await?)?);
    }
    Ok(events)
}

/// The last position that was recorded at `time` or before; 0 where there is none.
///
/// Times and positions grow together, so this halves its way through the primary key and
/// the log needs no index on time.
///
/// # Errors
/// When the store cannot be read.
pub async fn last_position_at(store: &dyn Store, time: Timestamp) -> Result<u64, StoreError> {
    let (mut at_most, mut at_least) = (head(store).await?.position, 0);
    while at_least < at_most {
        let middle = at_least + (at_most - at_least).div_ceil(2);
        let rows = store.query(RECORDED_AT, vec![middle.into()]).await?;
        let row = rows
            .first()
            .ok_or_else(|| StoreError::Row(format!("no event {middle}")))?;
        if row.integer(0)? <= time.0 {
            at_least = middle;
        } else {
            at_most = middle - 1;
        }
    }
    Ok(at_least)
}

fn read_events(rows: Vec<Row>) -> Result<Vec<StoredEvent>, StoreError> {
    rows.into_iter().map(read_event).collect()
}

fn read_event(mut row: Row) -> Result<StoredEvent, StoreError> {
    let previous = match row.optional_bytes(9)? {
        Some(_) => Some(row.hash(9)?),
        None => None,
    };
    Ok(StoredEvent {
        position: row.count(0)?,
        id: row.parsed(1)?,
        recorded_at: Timestamp(row.integer(2)?),
        batch: row.parsed(3)?,
        aggregate_type: row.take_text(4)?,
        aggregate_id: row.take_text(5)?,
        sequence: row.count(6)?,
        scope: row.take_text(7)?,
        scope_sequence: row.count(8)?,
        previous,
        event_type: row.take_text(10)?,
        event_version: row.take_text(11)?,
        payload: row.take_text(12)?,
        metadata: row.take_text(13)?,
        salt: row.hash(14)?,
        leaf: row.hash(15)?,
    })
}

/// How many rows to ask for where at least `limit` are wanted, to be written into the text of
/// a statement, so that a plan is made for so many. A power of two, so that few different
/// statements are prepared.
pub fn page_rows(limit: u64) -> u64 {
    limit.next_power_of_two()
}

/// `$first, $second, …` for `values` from placeholder `first` on. The list is filled up to
/// a power of two with its last value, so that few different statements are prepared.
pub fn padded<T: Clone + Into<Value>>(values: &[T], first: usize) -> (String, Vec<Value>) {
    let size = values.len().next_power_of_two();
    let placeholders: Vec<_> = (first..first + size)
        .map(|number| format!("${number}"))
        .collect();
    let last = std::iter::repeat_n(values.last(), size - values.len()).flatten();
    let parameters = values.iter().chain(last).cloned().map(Into::into);
    (placeholders.join(", "), parameters.collect())
}
