//! What the migrations of this program make, and what a store has of it.
//!
//! The indexes and triggers are read out of the migrations themselves, so that none is forgotten
//! here. Never changes anything.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::migrate::Migrator;

use super::{Store, StoreError, StoreKind, postgres, sqlite};

/// What a store must have, as far as this program knows.
#[derive(Debug)]
pub struct Schema {
    /// The newest migration.
    pub version: i64,
    /// The indexes and triggers by their name, each with its kind.
    pub objects: BTreeMap<String, &'static str>,
}

impl Schema {
    /// What the migrations of a kind of store make.
    pub fn expected(kind: StoreKind) -> Self {
        let migrations: &Migrator = match kind {
            StoreKind::Sqlite => &sqlite::MIGRATIONS,
            StoreKind::Postgres => &postgres::MIGRATIONS,
        };
        let mut schema = Self {
            version: 0,
            objects: BTreeMap::new(),
        };
        for migration in migrations.iter() {
            schema.version = schema.version.max(migration.version);
            schema.take(&migration.sql);
        }
        schema
    }

    /// Takes note of what a migration makes and takes away.
    fn take(&mut self, sql: &str) {
        let lines = sql
            .lines()
            .map(|line| line.split("--").next().unwrap_or(line));
        let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
        for (at, word) in words.iter().enumerate() {
            let mut rest = words[at + 1..].iter().copied().filter(|word| {
                // What may stand between a verb and a name.
                !["UNIQUE", "IF", "NOT", "EXISTS"].contains(word)
            });
            let (kind, name) = (rest.next(), rest.next());
            let Some(name) = name.map(|name| name.trim_end_matches(';')) else {
                continue;
            };
            match (*word, kind) {
                ("CREATE", Some("INDEX")) => drop(self.objects.insert(name.to_owned(), "index")),
                ("CREATE", Some("TRIGGER")) => {
                    self.objects.insert(name.to_owned(), "trigger");
                }
                ("DROP", Some("INDEX" | "TRIGGER")) => drop(self.objects.remove(name)),
                _ => {}
            }
        }
    }
}

const OF_SQLITE: &str = "
SELECT name
  FROM sqlite_master
 WHERE type IN ('index', 'trigger')";

/// Those that work: an index that was not built to its end is none, nor is a trigger that was
/// switched off.
const OF_POSTGRES: &str = "
SELECT CAST(made.relname AS TEXT)
  FROM pg_index AS index
  JOIN pg_class AS made ON made.oid = index.indexrelid
 WHERE index.indisvalid AND pg_table_is_visible(made.oid)
 UNION ALL
SELECT CAST(tgname AS TEXT)
  FROM pg_trigger
 WHERE NOT tgisinternal AND tgenabled <> 'D' AND pg_table_is_visible(tgrelid)";

/// The names of the indexes and triggers that a store has, and that work.
///
/// # Errors
/// When the store cannot be read.
pub async fn objects(store: &dyn Store) -> Result<BTreeSet<String>, StoreError> {
    let sql = match store.kind() {
        StoreKind::Sqlite => OF_SQLITE,
        StoreKind::Postgres => OF_POSTGRES,
    };
    let rows = store.query(sql, vec![]).await?;
    rows.iter()
        .map(|row| row.text(0).map(str::to_owned))
        .collect()
}

const SELECT_MIGRATIONS: &str = "
SELECT CAST(version AS BIGINT)
  FROM _sqlx_migrations
 ORDER BY version";

/// The migrations that a store has had, in order.
///
/// # Errors
/// When the store cannot be read, or was never migrated.
pub async fn migrations(store: &dyn Store) -> Result<Vec<i64>, StoreError> {
    let rows = store.query(SELECT_MIGRATIONS, vec![]).await?;
    rows.iter().map(|row| row.integer(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migrations_say_what_they_make() {
        for kind in [StoreKind::Sqlite, StoreKind::Postgres] {
            let schema = Schema::expected(kind);
            assert!(schema.version >= 27, "{schema:?}");
            let kind_of = |name: &str| schema.objects.get(name).copied();
            assert_eq!(kind_of("events_are_never_changed"), Some("trigger"));
            assert_eq!(kind_of("one_generation_serves"), Some("index"));
            // Dropped, and dropped and made again.
            assert_eq!(kind_of("events_by_batch"), None);
            assert_eq!(kind_of("usage_records_by_month"), Some("index"));
        }
    }
}
