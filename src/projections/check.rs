//! Checking read models: the log is folded again, into a scratch database, and every row
//! is compared with what is stored.

use std::{path::Path, sync::Arc};

use super::{
    EngineError, Generations, Progress, audit_index,
    engine::{Folder, head_position, serving, table_name},
    names,
    rebuild::{begin, fill},
};
use crate::journal::stores::{Row, Store, StoreError, Value, sqlite::SqliteStore};

/// Rows that are compared at once.
const PAGE: u64 = 1_000;
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

/// Folds the whole log into a database in `scratch` and compares every projection with it.
///
/// # Errors
/// When the store or the scratch folder cannot be used, or an event cannot be folded.
pub async fn check(
    store: &dyn Store,
    scratch: &Path,
    mut progress: impl FnMut(Progress),
) -> Result<CheckReport, EngineError> {
    let stored = serving(store).await?;
    // What the index has not come to by now it may or may not have when it is compared.
    let indexed = audit_index::state(store).await?.position;
    let target = SqliteStore::open(scratch).await?;
    let generations: Generations = names()
        .into_iter()
        .map(|name| (name.to_owned(), 1))
        .collect();
    begin(&target, &generations).await?;
    let folder = Arc::new(Folder::new(generations));
    let mut report = CheckReport {
        position: fill(store, Some(&target), &folder, 0, &mut progress).await?,
        ..CheckReport::default()
    };
    let mut differing = Vec::new();
    for name in names() {
        let table = stored
            .get(name)
            .map(|(generation, _)| table_name(name, *generation));
        let mut stored = Rows::new(store, table.clone(), name);
        let mut folded = Rows::new(&target, Some(table_name(name, 1)), name);
        let rows = compare(&mut stored, &mut folded, |stored, folded| {
            let key = stored.as_ref().or(folded.as_ref());
            if name == audit_index::NAME && stored.is_none() && is_after(key, indexed) {
                return;
            }
            differing.push(Pair {
                name,
                table: table.clone(),
                key: key.map(|row| row.0.clone()).unwrap_or_default(),
                stored,
                folded,
            });
        });
        report.rows.push((name.to_owned(), rows.await?));
    }
    // A difference counts only if it is none of what others have written meanwhile.
    for _ in 0..LOOKS_MAX {
        if differing.is_empty() {
            break;
        }
        for pair in &mut differing {
            pair.stored = one(store, pair.table.as_deref(), pair).await?;
        }
        if head_position(store).await? == report.position {
            differing.retain(|pair| pair.stored != pair.folded);
            break;
        }
        report.position = fill(
            store,
            Some(&target),
            &folder,
            report.position,
            &mut progress,
        )
        .await?;
        for pair in &mut differing {
            pair.folded = one(&target, Some(&table_name(pair.name, 1)), pair).await?;
        }
        differing.retain(|pair| pair.stored != pair.folded);
    }
    for pair in differing {
        report.add(pair);
    }
    Ok(report)
}

/// Whether a row of the audit index is of a later position.
fn is_after(row: Option<&KeyedRow>, position: u64) -> bool {
    row.and_then(|row| row.0.parse().ok())
        .is_some_and(|at: u64| at > position)
}

/// A row as it is stored and as the log folds to it.
struct Pair {
    name: &'static str,
    table: Option<String>,
    key: String,
    stored: Option<KeyedRow>,
    folded: Option<KeyedRow>,
}

/// The row of a pair as it is now.
async fn one(
    store: &dyn Store,
    table: Option<&str>,
    pair: &Pair,
) -> Result<Option<KeyedRow>, StoreError> {
    let Some(table) = table else {
        return Ok(None);
    };
    let by_position = pair.name == audit_index::NAME;
    let (key, columns) = columns(by_position);
    let sql = format!("SELECT {columns} FROM {table} WHERE {key} = $1");
    let value = match by_position {
        true => Value::from(pair.key.parse::<u64>().unwrap_or_default()),
        false => Value::from(pair.key.as_str()),
    };
    let rows = store.query(&sql, vec![value]).await?;
    rows.first().map(|row| keyed(row, by_position)).transpose()
}

/// The key of a table, and the columns that are compared.
fn columns(by_position: bool) -> (&'static str, &'static str) {
    if by_position {
        (
            "position",
            "position, recorded_at, organization, workspace, crew, environment, actor, action,
             target, outcome, words",
        )
    } else {
        (
            "key",
            "key, workspace, parent, lookup, deadline, position, CAST(document AS TEXT)",
        )
    }
}

/// Compares rows, and answers how many there are.
async fn compare(
    stored: &mut Rows<'_>,
    folded: &mut Rows<'_>,
    mut differs: impl FnMut(Option<KeyedRow>, Option<KeyedRow>),
) -> Result<u64, EngineError> {
    let mut compared = 0;
    loop {
        let difference = match (stored.peek().await?, folded.peek().await?) {
            (None, None) => break,
            (Some(left), Some(right)) if left.0 == right.0 => {
                let (left, right) = (stored.take(), folded.take());
                (left != right).then_some((left, right))
            }
            (Some(left), right) if right.as_ref().is_none_or(|right| left.0 < right.0) => {
                Some((stored.take(), None))
            }
            _ => Some((None, folded.take())),
        };
        compared += 1;
        if let Some((left, right)) = difference {
            differs(left, right);
        }
    }
    Ok(compared)
}

impl CheckReport {
    fn add(&mut self, pair: Pair) {
        self.differing += 1;
        if self.differences.len() < DIFFERENCES_TOLD {
            self.differences.push(Difference {
                projection: pair.name.to_owned(),
                key: pair.key,
                stored: pair.stored.map(|row| row.1),
                folded: pair.folded.map(|row| row.1),
            });
        }
    }
}

/// A key, and everything else in the row as text.
type KeyedRow = (String, String);

/// The rows of a table in order of their keys, read in pages.
struct Rows<'a> {
    store: &'a dyn Store,
    sql: Option<String>,
    by_position: bool,
    page: std::collections::VecDeque<KeyedRow>,
    after: Value,
    finished: bool,
}

impl<'a> Rows<'a> {
    fn new(store: &'a dyn Store, table: Option<String>, name: &str) -> Self {
        let by_position = name == audit_index::NAME;
        let (key, columns) = columns(by_position);
        Self {
            store,
            finished: table.is_none(),
            sql: table.map(|table| {
                format!(
                    "SELECT {columns} FROM {table} WHERE {key} > $1 ORDER BY {key} LIMIT {PAGE}"
                )
            }),
            by_position,
            page: std::collections::VecDeque::new(),
            after: if by_position {
                Value::from(0u64)
            } else {
                Value::from("")
            },
        }
    }

    async fn peek(&mut self) -> Result<Option<KeyedRow>, StoreError> {
        if let (true, false, Some(sql)) = (self.page.is_empty(), self.finished, &self.sql) {
            let rows = self.store.query(sql, vec![self.after.clone()]).await?;
            self.finished = (rows.len() as u64) < PAGE;
            if let Some(last) = rows.last() {
                self.after = last.0[0].clone();
            }
            self.page = rows
                .iter()
                .map(|row| keyed(row, self.by_position))
                .collect::<Result<_, _>>()?;
        }
        Ok(self.page.front().cloned())
    }

    fn take(&mut self) -> Option<KeyedRow> {
        self.page.pop_front()
    }
}

fn keyed(row: &Row, by_position: bool) -> Result<KeyedRow, StoreError> {
    // Positions sort as text once they are of one length.
    let key = if by_position {
        format!("{:020}", row.count(0)?)
    } else {
        row.text(0)?.to_owned()
    };
    let shown = row.0[1..].iter().map(|value| match value {
        Value::Text(Some(text)) => text.clone(),
        Value::Integer(Some(integer)) => integer.to_string(),
        Value::Bytes(Some(bytes)) => format!("{bytes:02x?}"),
        Value::Text(None) | Value::Integer(None) | Value::Bytes(None) => "null".to_owned(),
    });
    Ok((key, shown.collect::<Vec<_>>().join(" | ")))
}
