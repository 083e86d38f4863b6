//! That the log can be believed: what is signed and proven of it, verified by code that shares
//! nothing with what made it, and what becomes of those who change it.

mod by_command;
mod exports;
mod log;
mod publishing;
mod reports;
mod tampering;

use rusqlite::Connection;
use sqlx::{Connection as _, PgConnection};

use crate::support::trials::{Case, StoreUnderTest};

pub fn trials() -> Vec<Case> {
    [
        by_command::trials(),
        exports::trials(),
        log::trials(),
        publishing::trials(),
        reports::trials(),
        tampering::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Changes the tables of a store behind its back: the triggers that keep events as they are do
/// not hold whoever owns the database.
async fn change(store: &StoreUnderTest, statements: &str) {
    match store.database_url() {
        None => {
            let file = store.data_dir().join("crewlog.sqlite");
            let connection = Connection::open(file).expect("the store's file");
            for trigger in ["changed", "removed", "replaced"] {
                let drop = format!("DROP TRIGGER IF EXISTS events_are_never_{trigger}");
                connection.execute_batch(&drop).expect("no triggers");
            }
            connection.execute_batch(statements).expect("the change");
        }
        Some(url) => {
            let mut connection = PgConnection::connect(url).await.expect("the database");
            let statements = format!("ALTER TABLE events DISABLE TRIGGER USER; {statements}");
            let done = sqlx::raw_sql(&statements).execute(&mut connection).await;
            done.expect("the change");
        }
    }
}
