//! What a log takes on the disk: each table and each index, in bytes of one event.

use std::collections::BTreeMap;

use crewlog::journal::stores::sqlite::SqliteStore;

use crate::harness::Place;

/// What is too small to be told of, in bytes of one event.
const TOLD_FROM: f64 = 0.5;

pub async fn measure(place: &Place, events: u64) {
    let parts = match &place.database {
        None => {
            let file = SqliteStore::file(place.folder.path());
            let read = tokio::task::spawn_blocking(move || of_sqlite(&file)).await;
            read.expect("no panic").expect("the sizes")
        }
        Some(database) => of_postgres(database.url()).await.expect("the sizes"),
    };
    let of_one = |bytes: i64| bytes as f64 / events as f64;
    let all = of_one(parts.values().sum());
    let mut told: Vec<_> = parts
        .iter()
        .map(|(name, bytes)| (of_one(*bytes), name))
        .filter(|(bytes, _)| *bytes >= TOLD_FROM)
        .collect();
    told.sort_by(|one, other| other.0.total_cmp(&one.0));
    println!(
        "{}: {all:.0} bytes on the disk an event, of these:",
        place.name
    );
    println!();
    println!("| table or index | bytes an event |");
    println!("|---|---|");
    for (bytes, name) in told {
        println!("| `{name}` | {bytes:.1} |");
    }
    println!();
}

fn of_sqlite(file: &std::path::Path) -> rusqlite::Result<BTreeMap<String, i64>> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(file, flags)?;
    let sql = "SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE";
    let mut statement = connection.prepare(sql)?;
    let sizes = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    sizes.collect()
}

async fn of_postgres(url: &str) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let pool = sqlx::PgPool::connect(url).await?;
    let sql = "SELECT relname::text, pg_relation_size(pg_class.oid) FROM pg_class
                JOIN pg_namespace ON pg_namespace.oid = relnamespace
                WHERE nspname = 'public' AND relkind IN ('r', 'i')";
    let sizes: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&pool).await?;
    Ok(sizes.into_iter().collect())
}
