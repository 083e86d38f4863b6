//! That what has arrived is what was sent.

use std::{sync::Arc, time::Instant};

use super::{
    Step, TransferError,
    carrying::{Meter, RowsByTable, Source, Told},
    merge::{Merge, Met},
    tables::EVENTS,
};
use crate::{
    journal::{
        SystemSource,
        sealing::{Keyring, KeyringError, RootKey},
        stores::{AUDIT_COLUMNS, Head, Rows, Snapshot, Store, StoreError, tables::TableSchema},
    },
    projections::{self, Progress, Projections, ServingTable, audit_index, serving_tables},
    service::verify,
};

/// Of a table of documents; keys sort by their bytes on both stores.
const DOCUMENT_COLUMNS: &str =
    "key, workspace, parent, lookup, deadline, position, CAST(document AS TEXT)";

/// Recomputes every leaf, chain and root of a store, and compares the root with a head's.
///
/// # Errors
/// When it cannot be read, or something is not as it was written.
pub(super) async fn root(
    store: &Arc<dyn Store>,
    head: &Head,
    root_key: Option<&RootKey>,
    told: Told<'_>,
) -> Result<(), TransferError> {
    let keys = match root_key {
        Some(key) => Some(keyring(store, key).await?),
        None => None,
    };
    let progress = |progress: Progress| told(step("verifying", progress));
    let report = verify(&**store, keys.as_ref(), progress).await?;
    if let Some(failure) = report.failures.first() {
        let place = failure.position.map_or_else(
            || "the log".to_owned(),
            |position| format!("position {position}"),
        );
        return Err(TransferError::Differs(format!(
            "what has arrived does not verify, {} failures; {place}: {}; run `crewlog verify` where \
             it came from",
            report.failing, failure.detail
        )));
    }
    if report.entries != head.position {
        return Err(TransferError::Differs(format!(
            "{} entries have arrived of {}",
            report.entries, head.position
        )));
    }
    // Where it verifies, its root is that of its head, which was set to this one.
    Ok(())
}

/// The keys of a store under a root key.
///
/// # Errors
/// When the store was made with another, or cannot be read.
pub(super) async fn keyring(
    store: &Arc<dyn Store>,
    root: &RootKey,
) -> Result<Keyring, TransferError> {
    let source = Arc::new(SystemSource);
    let opened = Keyring::open(store.clone(), source, root, false).await;
    opened.map_err(|error| match error {
        KeyringError::Store(error) => error.into(),
        other => TransferError::Refused(other.to_string()),
    })
}

/// What of a rebuild or a check there is to tell.
pub(super) fn step(what: &'static str, progress: Progress) -> Step {
    Step {
        what,
        unit: "entries",
        done: progress.position,
        of: progress.head,
        elapsed: progress.elapsed,
    }
}

/// Compares every row of the tables with where it came from. The log itself is proven by its root.
///
/// # Errors
/// When one cannot be read, or a row is not the same.
pub(super) async fn rows(
    source: &Source,
    target: &dyn Store,
    tables: &[TableSchema],
    carried: &RowsByTable,
    told: Told<'_>,
) -> Result<(), TransferError> {
    let beside = tables.iter().filter(|table| table.name != EVENTS);
    let all = carried.iter().filter(|(name, _)| name != EVENTS);
    let mut meter = Meter {
        what: "comparing",
        done: 0,
        of: all.map(|(_, rows)| rows).sum(),
        started: Instant::now(),
        told,
    };
    let arrived = target.snapshot().await?;
    for table in beside {
        let sent = source.snapshot.rows(table.select(source.kind, None)).await;
        let found = arrived.rows(table.select(target.kind(), None)).await;
        are_equal(sent, found, &table.name, &table.key, &mut meter).await?;
    }
    meter.tell();
    Ok(())
}

async fn are_equal(
    sent: Rows,
    found: Rows,
    table: &str,
    key: &[usize],
    meter: &mut Meter<'_>,
) -> Result<(), TransferError> {
    let (mut differing, mut compared) = (0, 0);
    let mut merge = Merge::begin(sent, found, key).await?;
    while let Some(met) = merge.next().await? {
        differing += u64::from(met != Met::Same);
        compared += 1;
        meter.count();
    }
    match differing {
        0 => Ok(()),
        differing => Err(TransferError::Differs(format!(
            "{differing} of {compared} rows of {table} are not the same at both ends"
        ))),
    }
}

/// Folds the read models of a store that has none, or older ones than its log.
///
/// # Errors
/// When they cannot be folded.
pub(super) async fn fold(
    store: &dyn Store,
    position: u64,
    told: Told<'_>,
) -> Result<(), TransferError> {
    let present = serving_tables(store).await?;
    let is_there = |name: &&str| {
        let found = present.iter().find(|table| table.projection == **name);
        found.is_some_and(|table| table.is_current && table.position == position)
    };
    let names = Projections::default().names();
    if names.iter().all(is_there) {
        return Ok(());
    }
    let progress = |progress: Progress| told(step("folding", progress));
    projections::rebuild(store, &names, progress).await?;
    Ok(())
}

/// Compares the read models of both ends: one was folded as the log was written, one from the whole.
///
/// # Errors
/// When one cannot be read, or a row is not the same.
pub(super) async fn read_models(
    source: &dyn Store,
    target: &dyn Store,
    told: Told<'_>,
) -> Result<(), TransferError> {
    let mut meter = Meter {
        what: "comparing read models",
        done: 0,
        of: 0,
        started: Instant::now(),
        told,
    };
    let (left, right) = (source.snapshot().await?, target.snapshot().await?);
    let arrived = serving_tables(target).await?;
    for sent in serving_tables(source).await? {
        let name = &sent.projection;
        let found = arrived.iter().find(|table| table.projection == *name);
        let found = found.ok_or_else(|| {
            TransferError::Differs(format!("there is no projection {name} at the target"))
        })?;
        let (left, right) = match name.as_str() {
            // The source's index trails its log.
            audit_index::NAME => (
                audit(&left, &sent, sent.position).await,
                audit(&right, found, sent.position).await,
            ),
            _ => (
                documents(&left, &sent).await,
                documents(&right, found).await,
            ),
        };
        are_equal(left, right, name, &[0], &mut meter).await?;
    }
    meter.tell();
    Ok(())
}

async fn documents(store: &Snapshot, table: &ServingTable) -> Rows {
    let table = &table.table;
    store
        .rows(format!(
            "SELECT {DOCUMENT_COLUMNS} FROM {table} ORDER BY key"
        ))
        .await
}

async fn audit(store: &Snapshot, table: &ServingTable, through: u64) -> Rows {
    let columns = AUDIT_COLUMNS.map(|(name, _)| name).join(", ");
    let table = &table.table;
    let sql =
        format!("SELECT {columns} FROM {table} WHERE position <= {through} ORDER BY position");
    store.rows(sql).await
}

/// That a store holds nothing yet.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn is_empty(
    store: &dyn Store,
    tables: &[TableSchema],
) -> Result<bool, StoreError> {
    for table in tables {
        if !super::carrying::is_empty(store, table).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
