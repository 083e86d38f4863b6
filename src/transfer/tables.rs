//! Which tables go along, and which stay behind.
//!
//! The schema is asked what there is; here stands only what is said about some of it. A table that
//! is not named goes along.

use crate::journal::stores::{
    StoreError,
    tables::{self, TableSchema},
};

/// What never goes along: it is made where it is needed.
pub const STAYS: [(&str, &str); 6] = [
    ("access_snapshots", "made again where they are wanted"),
    ("log_head", "it is set when all that it stands for is there"),
    ("projections", "read models are folded anew from the log"),
    ("rebuild", "a rebuild is of one store's own read models"),
    ("request_rates", "worth nothing after a crash"),
    ("seals", "each end has its own"),
];

/// What a backup has in a file of its own: whoever destroys a key must be able to destroy it there.
pub const APART: &str = "subject_keys";

/// What a backup does not have.
pub const NOT_IN_BACKUPS: [(&str, &str); 1] = [(
    "session_tokens",
    "a session that was ended since must not live again: everybody signs in anew",
)];

/// Tables that come after all others: triggers write them as the others come.
const LAST: [&str; 2] = ["usage_months", "usage_totals"];

/// The log itself, which comes first.
pub const EVENTS: &str = "events";

/// The tables that a move carries, in the order that they are carried in.
///
/// # Errors
/// When the schema cannot be made.
pub async fn of_move() -> Result<Vec<TableSchema>, StoreError> {
    let mut tables = tables::tables().await?;
    tables.retain(|table| STAYS.iter().all(|(name, _)| table.name != *name));
    let rank = |table: &TableSchema| match table.name.as_str() {
        EVENTS => 0,
        name if LAST.contains(&name) => 2,
        _ => 1,
    };
    tables.sort_by_key(|table| (rank(table), table.name.clone()));
    Ok(tables)
}

/// The tables of a backup's store.
///
/// # Errors
/// When the schema cannot be made.
pub async fn of_backup() -> Result<Vec<TableSchema>, StoreError> {
    let mut tables = of_move().await?;
    tables.retain(|table| {
        let is_left_out = NOT_IN_BACKUPS.iter().any(|(name, _)| table.name == *name);
        table.name != APART && !is_left_out
    });
    Ok(tables)
}

/// The table of keys.
///
/// # Errors
/// When the schema cannot be made.
pub async fn of_keys() -> Result<TableSchema, StoreError> {
    let tables = tables::tables().await?.into_iter();
    let keys = tables.into_iter().find(|table| table.name == APART);
    keys.ok_or_else(|| StoreError::Row(format!("the schema has no table {APART}")))
}
