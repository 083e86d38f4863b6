//! The honest lower bound: one statement, the columns that replay reads, each row decoded
//! into its typed event and metadata, and dropped.

use std::path::Path;

use crewlog::{
    domain::event::Event,
    journal::{Metadata, stores::sqlite::SqliteStore},
};
use futures::TryStreamExt;
use rusqlite::{OpenFlags, Row};
use sqlx::{Row as _, postgres::PgPoolOptions, postgres::PgRow};

use crate::Side;

const SELECT: &str = "
SELECT position, id, recorded_at, aggregate_type, aggregate_id, sequence, scope,
       event_type, event_version, CAST(payload AS TEXT), CAST(metadata AS TEXT)
  FROM events
 ORDER BY position";

fn decode(aggregate_type: &str, payload: &str, metadata: &str) {
    let event = Event::decode(aggregate_type, payload).expect("an event of ours");
    let metadata: Metadata = serde_json::from_str(metadata).expect("metadata of ours");
    std::hint::black_box((event, metadata));
}

/// Through rusqlite, on a thread of its own.
pub fn sqlite(folder: &Path) -> Side {
    let file = SqliteStore::file(folder);
    Box::new(move || {
        let file = file.clone();
        Box::pin(async move {
            let scanned = tokio::task::spawn_blocking(move || scan_sqlite(&file)).await;
            scanned.expect("no panic").expect("the log can be read")
        })
    })
}

fn scan_sqlite(file: &Path) -> rusqlite::Result<u64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(file, flags)?;
    let mut statement = connection.prepare(SELECT)?;
    let mut rows = statement.query([])?;
    let mut events = 0;
    while let Some(row) = rows.next()? {
        let text = |row: &Row<'_>, column| {
            row.get_ref(column)?
                .as_str()
                .map(str::len)
                .map_err(Into::into)
        };
        for column in [1, 4, 6, 7, 8] {
            let length: rusqlite::Result<usize> = text(row, column);
            std::hint::black_box(length?);
        }
        for column in [0, 2, 5] {
            std::hint::black_box(row.get::<_, i64>(column)?);
        }
        decode(
            row.get_ref(3)?.as_str()?,
            row.get_ref(9)?.as_str()?,
            row.get_ref(10)?.as_str()?,
        );
        events += 1;
    }
    Ok(events)
}

/// Through sqlx, streaming, on one connection.
pub async fn postgres(url: &str) -> Side {
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect(url).await.expect("PostgreSQL answers");
    Box::new(move || {
        let pool = pool.clone();
        Box::pin(async move {
            // On a task of its own: the caller's thread is not one of the runtime's workers.
            let scan = async move {
                let mut rows = sqlx::query(SELECT).fetch(&pool);
                let mut events = 0;
                while let Some(row) = rows.try_next().await? {
                    read_row(&row)?;
                    events += 1;
                }
                Ok::<u64, sqlx::Error>(events)
            };
            let scanned = tokio::spawn(scan).await;
            scanned.expect("no panic").expect("the log can be read")
        })
    })
}

fn read_row(row: &PgRow) -> Result<(), sqlx::Error> {
    for column in [1, 4, 6, 7, 8] {
        std::hint::black_box(row.try_get::<&str, _>(column)?);
    }
    for column in [0, 2, 5] {
        std::hint::black_box(row.try_get::<i64, _>(column)?);
    }
    decode(row.try_get(3)?, row.try_get(9)?, row.try_get(10)?);
    Ok(())
}
