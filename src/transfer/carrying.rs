//! Carrying rows into a store until it has what the source has.
//!
//! Done twice it does nothing the second time. What the target has too much of, or otherwise, goes
//! first: so rows never meet others that a unique key would not have beside them.

use std::time::Instant;

use super::{
    Step, TransferError,
    merge::{Merge, Met},
    tables::EVENTS,
};
use crate::{
    domain::Timestamp,
    journal::{
        FailPoint,
        stores::{
            Head, Load, Row, Rows, Snapshot, Statement, Store, StoreError, StoreKind, Value,
            bytes_of, tables::TableSchema,
        },
    },
    proofs::tree::Frontier,
};

/// Rows that are written at once, and bytes after which there are no more.
const ROWS_AT_ONCE: usize = 2_000;
const BYTES_AT_ONCE: usize = 4 << 20;

const SELECT_HEAD: &str = "
SELECT position, epoch, recorded_at, frontier, last_batch
  FROM log_head
 WHERE singleton = 1";

const LAST_EVENT: &str = "
SELECT position, leaf
  FROM events
 WHERE position = (SELECT MAX(position) FROM events)";

const SET_HEAD: &str = "
UPDATE log_head
   SET position = $1, epoch = $2, recorded_at = $3, frontier = $4, last_batch = $5
 WHERE singleton = 1";

/// A store as it was at one moment, to be carried away.
pub(super) struct Source {
    pub snapshot: Snapshot,
    pub kind: StoreKind,
    pub head: Head,
    last_batch: Option<String>,
}

impl Source {
    /// Takes the store as it is now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let snapshot = store.snapshot().await?;
        let rows = snapshot.all(SELECT_HEAD).await?;
        let row = rows.first();
        let row = row.ok_or_else(|| StoreError::Row("log_head has no row".to_owned()))?;
        let position = row.count(0)?;
        let frontier = Frontier::from_bytes(position, row.bytes(3)?)
            .map_err(|error| StoreError::Row(error.to_string()))?;
        Ok(Self {
            kind: store.kind(),
            head: Head {
                position,
                epoch: row.count(1)?,
                recorded_at: Timestamp(row.integer(2)?),
                frontier,
            },
            last_batch: row.optional_text(4)?.map(str::to_owned),
            snapshot,
        })
    }

    /// What no other log has: the leaf of its first entry; nothing of an empty log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn log(&self) -> Result<Option<[u8; 32]>, StoreError> {
        let first = "SELECT leaf FROM events WHERE position = 1";
        let rows = self.snapshot.all(first).await?;
        rows.first().map(|row| row.hash(0)).transpose()
    }

    /// By what the store knows its root key, where it has one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn root_key(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let proof = "SELECT proof FROM root_keys WHERE name = 'root'";
        let rows = self.snapshot.all(proof).await?;
        let proof = rows.first().map(|row| row.bytes(0).map(<[u8]>::to_vec));
        proof.transpose()
    }

    async fn count(&self, tables: &[TableSchema]) -> Result<u64, StoreError> {
        let mut count = 0;
        for table in tables {
            let sql = format!("SELECT COUNT(*) FROM {}", table.name);
            let rows = self.snapshot.all(sql).await?;
            count += rows.first().map_or(Ok(0), |row| row.count(0))?;
        }
        Ok(count)
    }

    /// The statement that sets the target's head to this one's. Its format stays as it is.
    pub fn set_head(&self) -> Statement {
        let parameters: [Value; 5] = [
            self.head.position.into(),
            self.head.epoch.into(),
            self.head.recorded_at.0.into(),
            self.head.frontier.to_bytes().into(),
            self.last_batch.clone().into(),
        ];
        Statement::new(SET_HEAD, parameters)
    }
}

/// Who is told how far it is.
pub(super) type Told<'a> = &'a mut (dyn FnMut(Step) + Send);

/// Rows by table.
pub type RowsByTable = Vec<(String, u64)>;

/// Carries the rows of tables from a source into a target.
///
/// # Errors
/// When one of them cannot be read or written, or the target is another log's.
pub(super) async fn carry(
    source: &Source,
    target: &dyn Store,
    tables: &[TableSchema],
    told: Told<'_>,
) -> Result<RowsByTable, TransferError> {
    let mut meter = Meter {
        what: "carrying",
        done: 0,
        of: source.count(tables).await?,
        started: Instant::now(),
        told,
    };
    let mut carried = Vec::with_capacity(tables.len());
    for table in tables {
        let rows = match table.name.as_str() {
            EVENTS => carry_log(source, target, table, &mut meter).await?,
            _ => carry_table(source, target, table, &mut meter).await?,
        };
        carried.push((table.name.clone(), rows));
    }
    meter.tell();
    Ok(carried)
}

/// Counts rows, and tells of them.
pub(super) struct Meter<'a> {
    pub what: &'static str,
    pub done: u64,
    pub of: u64,
    pub started: Instant,
    pub told: Told<'a>,
}

impl Meter<'_> {
    pub fn count(&mut self) {
        self.done += 1;
        if self.done.is_multiple_of(1_000) {
            self.tell();
        }
    }

    pub fn tell(&mut self) {
        (self.told)(Step {
            what: self.what,
            unit: "rows",
            done: self.done,
            of: self.of.max(self.done),
            elapsed: self.started.elapsed(),
        });
    }
}

/// Entries are never changed: what is there is skipped. It is proven with all others in the end.
async fn carry_log(
    source: &Source,
    target: &dyn Store,
    table: &TableSchema,
    meter: &mut Meter<'_>,
) -> Result<u64, TransferError> {
    let last = target.query(LAST_EVENT, vec![]).await?;
    let mut after = 0;
    if let Some(last) = last.first() {
        after = last.count(0)?;
        let same = format!("SELECT leaf FROM events WHERE position = {after}");
        let same = source.snapshot.all(same).await?;
        if same.first().map(|row| row.hash(0)).transpose()? != Some(last.hash(1)?) {
            return Err(TransferError::Refused(
                "the target holds entries of another log; empty it, or name another".to_owned(),
            ));
        }
    }
    let condition = format!("position > {after}");
    let sql = table.select(source.kind, Some(&condition));
    let mut rows = source.snapshot.rows(sql).await;
    let mut writing = Writing::new(target, table);
    meter.done += after;
    let mut count = after;
    while let Some(row) = rows.next().await? {
        writing.insert(row).await?;
        count += 1;
        meter.count();
    }
    writing.flush().await?;
    Ok(count)
}

async fn carry_table(
    source: &Source,
    target: &dyn Store,
    table: &TableSchema,
    meter: &mut Meter<'_>,
) -> Result<u64, TransferError> {
    let sql = || table.select(source.kind, None);
    if !is_empty(target, table).await? {
        remove_what_differs(source.snapshot.rows(sql()).await, target, table).await?;
    }
    let rows = source.snapshot.rows(sql()).await;
    insert_what_is_missing(rows, target, table, || meter.count()).await
}

pub(super) async fn is_empty(store: &dyn Store, table: &TableSchema) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM {} LIMIT 1", table.name);
    Ok(store.query(&sql, vec![]).await?.is_empty())
}

/// Carries rows that come in order of their key; answers how many there are.
///
/// # Errors
/// When they cannot be read or written.
pub(super) async fn carry_rows(
    rows: impl AsyncFn() -> Result<Rows, TransferError>,
    target: &dyn Store,
    table: &TableSchema,
) -> Result<u64, TransferError> {
    if !is_empty(target, table).await? {
        remove_what_differs(rows().await?, target, table).await?;
    }
    insert_what_is_missing(rows().await?, target, table, || {}).await
}

async fn target_rows(
    target: &dyn Store,
    table: &TableSchema,
) -> Result<(Snapshot, Rows), StoreError> {
    let snapshot = target.snapshot().await?;
    let rows = snapshot.rows(table.select(target.kind(), None)).await;
    Ok((snapshot, rows))
}

async fn remove_what_differs(
    source: Rows,
    target: &dyn Store,
    table: &TableSchema,
) -> Result<(), TransferError> {
    let (_snapshot, rows) = target_rows(target, table).await?;
    let mut merge = Merge::begin(source, rows, &table.key).await?;
    let mut writing = Writing::new(target, table);
    while let Some(met) = merge.next().await? {
        match met {
            Met::Extra(row) | Met::Other(row) => writing.remove(&row).await?,
            Met::Same | Met::Missing(_) => {}
        }
    }
    writing.flush().await?;
    Ok(())
}

async fn insert_what_is_missing(
    source: Rows,
    target: &dyn Store,
    table: &TableSchema,
    mut count: impl FnMut(),
) -> Result<u64, TransferError> {
    let (_snapshot, rows) = target_rows(target, table).await?;
    let mut merge = Merge::begin(source, rows, &table.key).await?;
    let mut writing = Writing::new(target, table);
    let mut all = 0;
    while let Some(met) = merge.next().await? {
        match met {
            Met::Missing(row) => writing.insert(row).await?,
            Met::Same => {}
            Met::Extra(_) | Met::Other(_) => {
                return Err(TransferError::Refused(format!(
                    "somebody else writes the table {} of the target",
                    table.name
                )));
            }
        }
        all += 1;
        count();
    }
    writing.flush().await?;
    Ok(all)
}

/// Changes to a table that are written together.
struct Writing<'a> {
    target: &'a dyn Store,
    table: &'a TableSchema,
    load: Load,
    bytes: usize,
}

impl<'a> Writing<'a> {
    fn new(target: &'a dyn Store, table: &'a TableSchema) -> Self {
        Self {
            target,
            table,
            load: Load::default(),
            bytes: 0,
        }
    }

    async fn insert(&mut self, row: Row) -> Result<(), StoreError> {
        self.bytes += bytes_of(&row);
        self.load.rows.push(row);
        self.flush_if_full().await
    }

    /// Removes the row of the same key.
    async fn remove(&mut self, row: &Row) -> Result<(), StoreError> {
        let conditions = self.table.key.iter().enumerate().map(|(number, column)| {
            let name = &self.table.columns[*column].name;
            format!("{name} = ${}", number + 1)
        });
        let conditions = conditions.collect::<Vec<_>>().join(" AND ");
        let sql = format!("DELETE FROM {} WHERE {conditions}", self.table.name);
        let key = self.table.key.iter().map(|column| row.0[*column].clone());
        self.load.before.push(Statement::new(sql, key));
        self.flush_if_full().await
    }

    async fn flush_if_full(&mut self) -> Result<(), StoreError> {
        let rows = self.load.rows.len() + self.load.before.len();
        match rows >= ROWS_AT_ONCE || self.bytes >= BYTES_AT_ONCE {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        let mut load = std::mem::take(&mut self.load);
        if load.rows.is_empty() && load.before.is_empty() {
            return Ok(());
        }
        load.table.clone_from(&self.table.name);
        let names = self.table.column_names().into_iter();
        load.columns = names.map(str::to_owned).collect();
        self.target.load(load).await?;
        FailPoint::Carried.hit();
        Ok(())
    }
}
