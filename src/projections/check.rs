//! Checking read models: the log is folded again, and every row is compared with what is stored.
//!
//! Rows of the audit index are compared page by page, as the log is folded; documents at the end,
//! from memory, or from a scratch database where memory had no room for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    EngineError, Progress, Projections, audit_index,
    engine::{Folder, head_position, outdated, read_name, serving},
    filling::{Filling, Room, Unread},
    names,
};
use crate::journal::{
    beside,
    stores::{Cell, DocumentRow, Row, Sheet, Store, StoreError, Value, decoded, events_span},
};

/// Documents that are compared at once.
const PAGE: usize = 2_000;
/// How many such pages are under way together.
const RANGES_AT_ONCE: usize = 3;
/// Differences that are told; the rest are counted.
const DIFFERENCES_TOLD: usize = 20;
/// How often a row is looked at again that others keep changing.
const LOOKS_MAX: usize = 100;

/// One row that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub projection: String,
    pub key: String,
    /// What is stored; none where nothing is.
    pub stored: Option<String>,
    /// What the log folds to; none where nothing should be.
    pub folded: Option<String>,
}

/// What a check has found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// The position that everything was compared at.
    pub position: u64,
    /// Rows compared, by projection.
    pub rows: Vec<(String, u64)>,
    /// How many rows differ.
    pub differing: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// Folds the whole log and compares every projection with it; `scratch` is a folder for what
/// memory has no room for.
///
/// # Errors
/// When the store or the scratch folder cannot be used, or an event cannot be folded.
pub async fn check(
    store: &dyn Store,
    scratch: &Path,
    mut progress: impl FnMut(Progress),
) -> Result<CheckReport, EngineError> {
    let projections = Projections::default();
    let tables = tables(store, &projections).await?;
    // What the index has not come to by now it may or may not have when it is compared.
    let indexed = audit_index::state(store).await?.position;
    let room = Room::scratch(scratch, tables.get(audit_index::NAME).cloned());
    let mut filling = Filling::new(store, Folder::of_all(&projections).into(), room);
    let mut report = CheckReport {
        position: filling.catch_up(&mut progress).await?,
        ..CheckReport::default()
    };
    let mut differing = Vec::new();
    for name in names() {
        let table = tables.get(name).map(String::as_str);
        let compared = match name {
            audit_index::NAME => audit(store, table, &mut filling).await?,
            name => documents(store, table, name, &mut filling).await?,
        };
        let pairs = compared.keys.into_iter().map(|key| Pair::new(name, key));
        differing.extend(pairs);
        report.rows.push((name.to_owned(), compared.rows));
    }
    // A difference counts only if it is none of what others have written meanwhile.
    for pair in &mut differing {
        if pair.differs(store, &tables, &mut filling, indexed).await? {
            report.add(pair);
        }
    }
    report.position = filling.position();
    Ok(report)
}

/// What is read of each projection that serves.
///
/// # Errors
/// When another version has made one: then another version must check it.
async fn tables(store: &dyn Store, projections: &Projections) -> Result<Tables, EngineError> {
    let (serving, versions) = (serving(store).await?, projections.versions());
    for name in outdated(projections, &serving)? {
        if serving.contains_key(name) {
            return Err(EngineError::Older(name.to_owned()));
        }
    }
    let tables = serving.into_keys().filter_map(|name| {
        let version = *versions.get(name.as_str())?;
        let table = read_name(&name, version);
        Some((name, table))
    });
    Ok(tables.collect())
}

/// What is read of the projections that serve: one generation or the next, whichever serves.
type Tables = BTreeMap<String, String>;

/// How many rows were compared, and the keys of those that differ.
#[derive(Default)]
struct Compared {
    rows: u64,
    keys: Vec<String>,
}

/// What differs in the audit index: what has been compared on the way, and what is beyond.
async fn audit(
    store: &dyn Store,
    table: Option<&str>,
    filling: &mut Filling<'_>,
) -> Result<Compared, StoreError> {
    let mut positions = std::mem::take(&mut filling.differing);
    let mut rows = filling.position();
    if let Some(table) = table {
        let sql = format!("SELECT position FROM {table} WHERE position > $1 ORDER BY position");
        for row in store.query(&sql, vec![filling.position().into()]).await? {
            positions.push(row.count(0)?);
            rows += 1;
        }
    }
    let keys = positions.iter().map(u64::to_string).collect();
    Ok(Compared { rows, keys })
}

/// What differs in the documents of a projection.
async fn documents(
    store: &dyn Store,
    table: Option<&str>,
    name: &'static str,
    filling: &mut Filling<'_>,
) -> Result<Compared, EngineError> {
    let folded = filling.documents(name).await?;
    let mut jobs = stream::iter(ranges(folded))
        .map(|(after, rows, through)| compare_range(store, table, after, rows, through))
        .buffered(RANGES_AT_ONCE);
    let mut compared = Compared::default();
    while let Some(of_range) = jobs.try_next().await? {
        compared.rows += of_range.rows;
        compared.keys.extend(of_range.keys);
    }
    Ok(compared)
}

/// Cuts documents into ranges of keys, the last without an end: what is after a key (exclusive),
/// up to another (inclusive).
fn ranges(mut folded: Vec<Unread>) -> Vec<(String, Vec<Unread>, Option<String>)> {
    let mut ranges = Vec::new();
    let mut after = String::new();
    while folded.len() > PAGE {
        let rest = folded.split_off(PAGE);
        let through = folded.last().map(|one| one.key().to_owned());
        let begin = std::mem::replace(&mut after, through.clone().unwrap_or_default());
        ranges.push((begin, std::mem::replace(&mut folded, rest), through));
    }
    ranges.push((after, folded, None));
    ranges
}

async fn compare_range(
    store: &dyn Store,
    table: Option<&str>,
    after: String,
    folded: Vec<Unread>,
    through: Option<String>,
) -> Result<Compared, EngineError> {
    let stored = match table {
        Some(table) => {
            let mut sql = format!("SELECT {COLUMNS} FROM {table} WHERE key > $1");
            let mut parameters: Vec<Value> = vec![after.into()];
            if let Some(through) = through {
                sql.push_str(" AND key <= $2");
                parameters.push(through.into());
            }
            sql.push_str(" ORDER BY key");
            store.query(&sql, parameters).await?
        }
        None => Vec::new(),
    };
    let compare = move || {
        let stored = stored.into_iter().map(document_row);
        let stored = stored.collect::<Result<Vec<_>, _>>()?;
        let folded = folded.into_iter().map(Unread::row);
        Ok(compare(stored, folded.collect::<Result<Vec<_>, _>>()?))
    };
    beside(compare).await
}

/// Compares rows that are in order of their keys.
fn compare(stored: Vec<DocumentRow>, folded: Vec<DocumentRow>) -> Compared {
    let (mut stored, mut folded) = (stored.iter().peekable(), folded.iter().peekable());
    let mut compared = Compared::default();
    loop {
        let keys = [stored.peek(), folded.peek()].map(|row| row.map(|row| &row.key));
        let Some(key) = keys.into_iter().flatten().min() else {
            return compared;
        };
        let is_first = |row: &&DocumentRow| row.key == *key;
        let (left, right) = (stored.next_if(is_first), folded.next_if(is_first));
        compared.rows += 1;
        if left != right {
            compared.keys.push(key.clone());
        }
    }
}

/// The keys of documents that two tables have as something else, at most `limit` of them; what
/// one of them has of later than `position` is left out.
pub(super) async fn compare_tables(
    store: &dyn Store,
    left: &str,
    right: &str,
    position: u64,
    limit: usize,
) -> Result<Vec<String>, EngineError> {
    let (mut differing, mut after) = (Vec::new(), String::new());
    while differing.len() < limit {
        let sql = format!("SELECT {COLUMNS} FROM {left} WHERE key > $1 ORDER BY key LIMIT {PAGE}");
        let left = store.query(&sql, vec![after.as_str().into()]).await?;
        let Some(last) = left.last() else {
            break;
        };
        let last = last.text(0)?.to_owned();
        let sql =
            format!("SELECT {COLUMNS} FROM {right} WHERE key > $1 AND key <= $2 ORDER BY key");
        let parameters = vec![after.into(), last.as_str().into()];
        let right = store.query(&sql, parameters).await?;
        let compare = move || {
            let rows = |rows: Vec<Row>| rows.into_iter().map(document_row).collect();
            let left: Result<Vec<_>, StoreError> = rows(left);
            let right: Result<Vec<_>, StoreError> = rows(right);
            let (mut left, right) = (left?, right?);
            let newer: BTreeSet<_> = left
                .extract_if(.., |row| row.position > position)
                .map(|row| row.key)
                .collect();
            let keys = compare(left, right).keys.into_iter();
            Ok::<_, StoreError>(keys.filter(|key| !newer.contains(key)).collect::<Vec<_>>())
        };
        differing.extend(beside(compare).await?);
        after = last;
    }
    differing.truncate(limit);
    Ok(differing)
}

const COLUMNS: &str = "key, workspace, parent, lookup, deadline, position, CAST(document AS TEXT)";

fn document_row(mut row: Row) -> Result<DocumentRow, StoreError> {
    let optional = |row: &mut Row, column| match row.optional_text(column)? {
        Some(_) => row.take_text(column).map(Some),
        None => Ok(None),
    };
    Ok(DocumentRow {
        key: row.take_text(0)?,
        workspace: optional(&mut row, 1)?,
        parent: optional(&mut row, 2)?,
        lookup: optional(&mut row, 3)?,
        deadline: row.optional_integer(4)?,
        position: row.count(5)?,
        document: row.take_text(6)?,
    })
}

/// A row that differs: as it is stored, and as the log folds to it.
struct Pair {
    name: &'static str,
    key: String,
    stored: Option<String>,
    folded: Option<String>,
}

impl Pair {
    fn new(name: &'static str, key: String) -> Self {
        Self {
            name,
            key,
            stored: None,
            folded: None,
        }
    }

    /// Whether it differs, whatever others write meanwhile: what is stored says which position
    /// changed it last, and up to that one the log is folded.
    async fn differs(
        &mut self,
        store: &dyn Store,
        tables: &Tables,
        filling: &mut Filling<'_>,
        indexed: u64,
    ) -> Result<bool, EngineError> {
        let table = tables.get(self.name).map(String::as_str);
        if let Some(position) = self.position() {
            self.look(store, table, position).await?;
            return Ok(self.stored != self.folded && !self.is_to_come(indexed));
        }
        for _ in 0..LOOKS_MAX {
            let stored = match table {
                Some(table) => one(store, table, &self.key).await?,
                None => None,
            };
            let head = head_position(store).await?;
            // Of what is gone it is not known when it went.
            let changed_at = stored.as_ref().map_or(head, |row| row.position.min(head));
            filling.reach(changed_at, &mut |_| {}).await?;
            let folded = filling.document(self.name, &self.key).await?;
            let is_known = stored.is_some() || head == head_position(store).await?;
            self.stored = stored.as_ref().map(shown_document);
            self.folded = folded.as_ref().map(shown_document);
            if self.stored == self.folded || is_known {
                break;
            }
        }
        Ok(self.stored != self.folded)
    }

    /// Looks at a row of the audit index, which never changes, and at its entry.
    async fn look(
        &mut self,
        store: &dyn Store,
        table: Option<&str>,
        position: u64,
    ) -> Result<(), EngineError> {
        let events = store.read(events_span(position - 1, position)).await?;
        let events = decoded(&events)?;
        self.folded = shown_first(&audit_index::sheet(&events));
        self.stored = match table {
            Some(table) => {
                let span = audit_index::span(table, position - 1, position);
                shown_first(&store.read(span).await?)
            }
            None => None,
        };
        Ok(())
    }

    /// Of a row of the audit index.
    fn position(&self) -> Option<u64> {
        let position = (self.name == audit_index::NAME).then(|| self.key.parse());
        position?.ok()
    }

    /// Whether it is a row that the audit index may not have come to.
    fn is_to_come(&self, indexed: u64) -> bool {
        self.stored.is_none() && self.position().is_some_and(|position| position > indexed)
    }
}

/// The document of a key as it is in a table.
pub(super) async fn one(
    store: &dyn Store,
    table: &str,
    key: &str,
) -> Result<Option<DocumentRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM {table} WHERE key = $1");
    let rows = store.query(&sql, vec![key.into()]).await?;
    rows.into_iter().next().map(document_row).transpose()
}

/// The documents of a table, in order of their keys.
pub(super) async fn all_of(store: &dyn Store, table: &str) -> Result<Vec<DocumentRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM {table} ORDER BY key");
    let rows = store.query(&sql, vec![]).await?;
    rows.into_iter().map(document_row).collect()
}

fn shown_document(row: &DocumentRow) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".to_owned());
    let deadline = row.deadline.map(|deadline| deadline.to_string());
    [
        text(&row.workspace),
        text(&row.parent),
        text(&row.lookup),
        text(&deadline),
        row.position.to_string(),
        row.document.clone(),
    ]
    .join(" | ")
}

/// What the first row says beside its position.
fn shown_first(sheet: &Sheet) -> Option<String> {
    let cells = sheet.rows().next()?.cells().skip(1);
    let shown = cells.map(|cell| match cell {
        Cell::Text(text) => text.to_owned(),
        Cell::Integer(integer) => integer.to_string(),
        Cell::Null => "null".to_owned(),
    });
    Some(shown.collect::<Vec<_>>().join(" | "))
}

impl CheckReport {
    fn add(&mut self, pair: &Pair) {
        self.differing += 1;
        if self.differences.len() < DIFFERENCES_TOLD {
            self.differences.push(Difference {
                projection: pair.name.to_owned(),
                key: pair.key.clone(),
                stored: pair.stored.clone(),
                folded: pair.folded.clone(),
            });
        }
    }
}
