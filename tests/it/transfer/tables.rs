//! That no table is forgotten: whoever adds one finds this trial.

use std::collections::BTreeSet;

use crewlog::transfer::tables::{self, APART, NOT_IN_BACKUPS, STAYS};

use super::{columns_of, tables_of};
use crate::support::journal::open_store;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![both("transfer", "no_table_is_forgotten", none_is_forgotten)]
}

/// Every table that goes along with a move. One that is added goes along by itself; here its author
/// says that it should, and looks whether a backup may have it.
const CARRIED: &[&str] = &[
    "activity",
    "activity_ended",
    "blobs",
    "checkpoints",
    "claims",
    "cosignatures",
    "credentials",
    "erasures",
    "events",
    "idempotency",
    "key_activity",
    "legal_holds",
    "lookup_keys",
    "name_words",
    "passwords",
    "root_keys",
    "session_tokens",
    "signing_keys",
    "snapshots",
    "subject_keys",
    "subjects",
    "tiles",
    "untold_erasures",
    "usage_months",
    "usage_records",
    "usage_totals",
];

async fn none_is_forgotten(store: StoreUnderTest) {
    let opened = open_store(&store).await;
    let there: BTreeSet<_> = tables_of(&*opened, store.kind())
        .await
        .into_iter()
        .collect();
    let carried = tables::of_move().await.expect("the schema");
    let names: BTreeSet<_> = carried.iter().map(|table| table.name.clone()).collect();
    assert_eq!(
        names,
        CARRIED.iter().map(|name| (*name).to_owned()).collect(),
        "a table was added: say here that it goes along, or in `transfer::tables` why not"
    );
    let stays: BTreeSet<_> = STAYS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.union(&stays).cloned().collect::<BTreeSet<_>>(), there);
    for table in &carried {
        let columns = columns_of(&*opened, store.kind(), &table.name).await;
        let mut known: Vec<_> = table
            .column_names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        known.sort();
        assert_eq!(columns, known, "the columns of {}", table.name);
    }
    let backed_up = tables::of_backup().await.expect("the schema");
    let backed_up: BTreeSet<_> = backed_up.into_iter().map(|table| table.name).collect();
    let left_out = NOT_IN_BACKUPS.iter().map(|(name, _)| *name).chain([APART]);
    let left_out: BTreeSet<_> = left_out.map(str::to_owned).collect();
    assert_eq!(&backed_up | &left_out, names);
    assert_eq!(&backed_up & &left_out, BTreeSet::new());
    opened.close().await;
}
