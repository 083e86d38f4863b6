//! Checking read models: the log is folded again, and every row is compared with what is stored.
//!
//! Rows of the audit index are compared page by page, as the log is folded; documents at the end,
//! from memory, or from a scratch database where memory had no room for them.

use std::{collections::BTreeMap, path::Path};

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    EngineError, Generations, Progress, audit_index,
    engine::{Folder, head_position, serving, table_name},
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
    let tables = serving(store).await?.into_iter();
    let tables: Tables = tables
        .map(|(name, (generation, _))| (name.clone(), table_name(&name, generation)))
        .collect();
    // What the index has not come to by now it may or may not have when it is compared.
    let indexed = audit_index::state(store).await?.position;
    let generations: Generations = names()
        .into_iter()
        .map(|name| (name.to_owned(), 1))
        .collect();
    let room = Room::scratch(scratch, tables.get(audit_index::NAME).cloned());
    let mut filling = Filling::new(store, Folder::new(generations).into(), room);
    let mut report = CheckReport {
        position: filling.to_head(&mut progress).await?,
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
    for _ in 0..LOOKS_MAX {
        for pair in &mut differing {
            pair.look(store, &tables, &filling).await?;
        }
        differing.retain(|pair| pair.stored != pair.folded && !pair.is_to_come(indexed));
        if differing.is_empty() || head_position(store).await? == report.position {
            break;
        }
        report.position = filling.to_head(&mut progress).await?;
    }
    differing.into_iter().for_each(|pair| report.add(pair));
    Ok(report)
}

/// The tables that serve, by projection.
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

    /// Looks at both as they are now.
    async fn look(
        &mut self,
        store: &dyn Store,
        tables: &Tables,
        filling: &Filling<'_>,
    ) -> Result<(), EngineError> {
        let table = tables.get(self.name);
        match self.position() {
            Some(position) => {
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
            }
            None => {
                let folded = filling.document(self.name, &self.key).await?;
                self.folded = folded.as_ref().map(shown_document);
                self.stored = match table {
                    Some(table) => {
                        let stored = one(store, table, &self.key).await?;
                        stored.as_ref().map(shown_document)
                    }
                    None => None,
                };
            }
        }
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
    fn add(&mut self, pair: Pair) {
        self.differing += 1;
        if self.differences.len() < DIFFERENCES_TOLD {
            self.differences.push(Difference {
                projection: pair.name.to_owned(),
                key: pair.key,
                stored: pair.stored,
                folded: pair.folded,
            });
        }
    }
}
