//! Whole stores that are moved, backed up and restored: everything arrives, nothing is writable twice,
//! and whoever is killed goes on.

mod backups;
mod killed;
mod moves;
mod recovery;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;

use crewlog::journal::stores::{Store, Value};

use crate::edge;
use crate::support::commands::{Ended, crewlog_on, run};
use crate::support::journal::reading;
use crate::support::postgres;
use crate::support::scratch;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest};
use crate::support::witness;

pub fn trials() -> Vec<Case> {
    [
        backups::trials(),
        killed::trials(),
        moves::trials(),
        recovery::trials(),
        tables::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// An empty store of a kind.
pub async fn empty(kind: StoreKind) -> StoreUnderTest {
    match kind {
        StoreKind::Sqlite => StoreUnderTest::in_directory(scratch::directory("data")),
        StoreKind::Postgres => {
            let cluster = postgres::shared().expect("a PostgreSQL to test on");
            StoreUnderTest::in_database(cluster.database().await.expect("a database"))
        }
    }
}

fn other(kind: StoreKind) -> StoreKind {
    match kind {
        StoreKind::Sqlite => StoreKind::Postgres,
        StoreKind::Postgres => StoreKind::Sqlite,
    }
}

/// A store on which everything was done once that can be done, and nobody serves.
async fn with_everything(store: &StoreUnderTest) {
    let mut server = everything_done(store).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
}

/// The same while it is served: with a witness, and what only time makes.
async fn everything_done(store: &StoreUnderTest) -> Server {
    let server = edge::everything(Server::start(store).await).await;
    let checkpoint = server.get("/v1/log/checkpoint").await.expect(200).text;
    let line = witness::cosign(&checkpoint, 1_780_000_000);
    let body = serde_json::json!({"size": size_of(&checkpoint), "signatures": [line]});
    server
        .post("/v1/log/cosignatures")
        .json(body)
        .await
        .expect(200);
    server
        .behind_its_back(&[
            "INSERT INTO snapshots VALUES ('none', 'usr_0', 1, 1, '{\"is\": null}', 1)".to_owned(),
            "INSERT INTO key_activity VALUES ('key_0', 29000000)".to_owned(),
            "INSERT INTO activity_ended VALUES ('ws_0', 4000000000000000)".to_owned(),
            "INSERT INTO erasures VALUES ('sub_0', 'org_0', 'usr_0', 4000000000000000, NULL)"
                .to_owned(),
            "INSERT INTO legal_holds VALUES ('ws_0', 'org_0')".to_owned(),
        ])
        .await;
    server
}

fn size_of(checkpoint: &str) -> u64 {
    let size = checkpoint.lines().nth(1).expect("a size");
    size.parse().expect("a number")
}

/// Where a command is told to move a store.
fn target(store: &StoreUnderTest) -> String {
    match store.database_url() {
        Some(url) => url.to_owned(),
        None => format!("sqlite:{}", store.data_dir().display()),
    }
}

fn move_to(from: &StoreUnderTest, to: &StoreUnderTest) -> Ended {
    run(crewlog_on(from, &["move", "--json", "--to", &target(to)]))
}

/// The root key stays in the folder that a PostgreSQL is served with: here each has its own.
fn bring_the_key(from: &StoreUnderTest, to: &StoreUnderTest) {
    let key = to.data_dir().join("root.key");
    if !key.exists() {
        std::fs::copy(from.data_dir().join("root.key"), key).expect("the root key");
    }
}

/// A row, as text that is the same whichever store it comes from.
type Rows = Vec<Vec<Option<String>>>;

/// All that is in a store, by table: looked at without the code that carries it.
async fn everything_in(store: &StoreUnderTest) -> BTreeMap<String, Rows> {
    let reading = reading(store).await;
    let mut all = BTreeMap::new();
    for table in tables_of(&*reading, store.kind()).await {
        let columns = columns_of(&*reading, store.kind(), &table).await;
        all.insert(table.clone(), rows_of(&*reading, &table, &columns).await);
    }
    reading.close().await;
    all
}

async fn tables_of(store: &dyn Store, kind: StoreKind) -> Vec<String> {
    let sql = match kind {
        StoreKind::Sqlite => {
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        }
        StoreKind::Postgres => {
            "SELECT CAST(table_name AS TEXT) FROM information_schema.tables
              WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        }
    };
    let mut tables = texts(store, sql).await;
    tables.retain(|table| table != "_sqlx_migrations");
    tables.sort();
    tables
}

async fn columns_of(store: &dyn Store, kind: StoreKind, table: &str) -> Vec<String> {
    let sql = match kind {
        StoreKind::Sqlite => format!("SELECT name FROM pragma_table_info('{table}') ORDER BY name"),
        StoreKind::Postgres => format!(
            "SELECT CAST(column_name AS TEXT) FROM information_schema.columns
              WHERE table_schema = 'public' AND table_name = '{table}' ORDER BY 1"
        ),
    };
    let mut columns = texts(store, &sql).await;
    columns.sort();
    columns
}

async fn texts(store: &dyn Store, sql: &str) -> Vec<String> {
    let rows = store.query(sql, vec![]).await.expect("the catalogue");
    let text = |row: &crewlog::journal::stores::Row| row.text(0).expect("a name").to_owned();
    rows.iter().map(text).collect()
}

async fn rows_of(store: &dyn Store, table: &str, columns: &[String]) -> Rows {
    let json = ["payload", "metadata", "document"];
    let column = |name: &String| match json.contains(&name.as_str()) {
        true => format!("CAST({name} AS TEXT)"),
        false => name.clone(),
    };
    let columns: Vec<_> = columns.iter().map(column).collect();
    let sql = format!("SELECT {} FROM {table}", columns.join(", "));
    let rows = store.query(&sql, vec![]).await;
    let rows = rows.unwrap_or_else(|error| panic!("{table}: {error}"));
    let shown = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        Value::Integer(integer) => integer.map(|integer| integer.to_string()),
        Value::Bytes(bytes) => bytes.as_ref().map(|bytes| format!("{bytes:02x?}")),
    };
    let mut rows: Rows = rows
        .iter()
        .map(|row| row.0.iter().map(shown).collect())
        .collect();
    rows.sort();
    rows
}

/// That two stores hold the same rows, but for what is said to differ.
#[track_caller]
fn assert_same(left: &BTreeMap<String, Rows>, right: &BTreeMap<String, Rows>, but_for: &[&str]) {
    let is_compared = |table: &&String| {
        // Read models have tables of another generation, and are compared with the log.
        !table.starts_with("documents_")
            && !table.starts_with("audit_")
            && !but_for.contains(&table.as_str())
    };
    let names = |all: &BTreeMap<String, Rows>| -> Vec<String> {
        all.keys().filter(is_compared).cloned().collect()
    };
    assert_eq!(names(left), names(right));
    for table in names(left) {
        assert_eq!(left[&table], right[&table], "the rows of {table}");
    }
}

/// Whether a server could write it.
async fn takes_a_writer(store: &StoreUnderTest) -> bool {
    let reading = reading(store).await;
    let may = crewlog::journal::stores::may_be_written(&*reading).await;
    reading.close().await;
    may.is_ok()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
