//! Tests of the harness itself: stores are real and separate, failures name their place, and the
//! server's client works. It needs nothing of the program.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::support::postgres::Cluster;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, once, run, with_cluster};

pub fn trials() -> Vec<Case> {
    vec![
        both("harness", "a_store_answers", a_store_answers),
        // Twice the same, in parallel: creating the same table would fail in a shared database.
        both("harness", "a_store_is_its_own", a_store_is_its_own),
        both("harness", "a_store_is_its_own_too", a_store_is_its_own),
        with_cluster(
            "harness",
            "a_commit_survives_a_crash",
            a_commit_survives_a_crash,
        ),
        once("harness", "a_directory_is_empty", a_directory_is_empty),
        once(
            "harness",
            "a_panic_is_reported_with_its_line",
            a_panic_is_reported_with_its_line,
        ),
        once(
            "harness",
            "a_limit_is_reported_with_the_name",
            a_limit_is_reported_with_the_name,
        ),
        once("harness", "a_server_is_called", a_server_is_called),
        once(
            "harness",
            "a_server_that_ends_is_reported",
            a_server_that_ends_is_reported,
        ),
        both(
            "harness",
            "a_server_is_told_its_store",
            a_server_is_told_its_store,
        ),
    ]
}

async fn a_store_answers(store: StoreUnderTest) {
    let one: i64 = match store.database_url() {
        None => sqlite(&store)
            .query_row("SELECT 1", [], |row| row.get(0))
            .expect("SQLite to answer"),
        Some(url) => sqlx::query_scalar("SELECT 1::bigint")
            .fetch_one(&mut postgres(url).await)
            .await
            .expect("PostgreSQL to answer"),
    };
    assert_eq!(one, 1, "the answer of {}", store.url());
}

async fn a_store_is_its_own(store: StoreUnderTest) {
    const STATEMENT: &str = "CREATE TABLE notes (note TEXT NOT NULL)";
    match store.database_url() {
        None => sqlite(&store)
            .execute_batch(STATEMENT)
            .expect("a table in SQLite"),
        Some(url) => {
            let mut connection = postgres(url).await;
            let made = sqlx::raw_sql(STATEMENT).execute(&mut connection).await;
            made.expect("a table in PostgreSQL");
        }
    }
    // So that the two trials overlap.
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn a_commit_survives_a_crash(cluster: Cluster) {
    let database = cluster.database().await.expect("a database");
    let mut connection = postgres(database.url()).await;
    let fsync: String = sqlx::query_scalar("SHOW fsync")
        .fetch_one(&mut connection)
        .await
        .expect("PostgreSQL to tell its setting");
    assert_eq!(fsync, "on", "the setting of a safe cluster");
    sqlx::raw_sql("CREATE TABLE notes AS SELECT 'kept' AS note")
        .execute(&mut connection)
        .await
        .expect("a table with a row");

    cluster.crash_and_recover();

    let note: String = sqlx::query_scalar("SELECT note FROM notes")
        .fetch_one(&mut postgres(database.url()).await)
        .await
        .expect("the row that was committed");
    assert_eq!(note, "kept");
}

async fn a_directory_is_empty(directory: TempDir) {
    let mut entries = std::fs::read_dir(directory.path()).expect("the directory to exist");
    assert!(entries.next().is_none(), "the directory is new");
}

async fn a_panic_is_reported_with_its_line(_directory: TempDir) {
    let line = line!() + 3;
    let outcome = run("inner", Duration::from_secs(5), async || {
        let missing: Option<()> = std::hint::black_box(None);
        missing.expect("something that is missing");
    });
    let report = outcome.expect_err("the panic is a failure");
    let place = format!("{}:{line}:", file!());
    assert!(report.contains(&place), "{report:?} names {place}");
    assert!(
        report.contains("something that is missing"),
        "{report:?} has the message"
    );
}

async fn a_limit_is_reported_with_the_name(_directory: TempDir) {
    let outcome = run(
        "a_slow_one",
        Duration::from_millis(50),
        std::future::pending,
    );
    let report = outcome.expect_err("taking too long is a failure");
    assert!(
        report.contains("a_slow_one did not end"),
        "{report:?} names the trial"
    );
}

async fn a_server_is_called(_directory: TempDir) {
    let mut server = Server::launch(stand_in::command("serve")).await;
    assert!(
        server.base_url().starts_with("http://127.0.0.1:"),
        "{}",
        server.base_url()
    );

    for call in [
        server.post("/echo"),
        server.put("/echo"),
        server.patch("/echo"),
    ] {
        let reply = call
            .bearer("token")
            .header("idempotency-key", "once")
            .json(json!({"a": 1}))
            .await
            .expect(201);
        assert_eq!(
            reply.body["authorization"], "Bearer token",
            "{}",
            reply.text
        );
        assert_eq!(reply.body["body"], json!({"a": 1}), "{}", reply.text);
        assert_eq!(
            reply.header("x-idempotency-key"),
            Some("once"),
            "{:?}",
            reply.headers
        );
    }
    let reply = server.get("/absent").await.expect(404);
    assert!(reply.body.is_null(), "what is no JSON is null");
    server.delete("/echo").await.expect(201);
    // What it prints is read beside its answers, and may come after them.
    for _ in 0..500 {
        if server.logs().contains("DELETE /echo") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        server.logs().contains("DELETE /echo"),
        "its log is kept: {}",
        server.logs()
    );

    let status = server.terminate().await;
    assert!(
        status.success(),
        "it ended by itself after SIGTERM: {status}"
    );

    let mut server = Server::launch(stand_in::command("serve")).await;
    let status = server.kill().await;
    assert!(!status.success(), "it was killed: {status}");
}

async fn a_server_that_ends_is_reported(_directory: TempDir) {
    let outcome = run("inner", Duration::from_secs(30), async || {
        Server::launch(stand_in::command("end")).await;
    });
    let report = outcome.expect_err("ending before listening is a failure");
    assert!(
        report.contains("ended before it listened (exit status: 3)"),
        "{report:?}"
    );
}

async fn a_server_is_told_its_store(store: StoreUnderTest) {
    let command = Server::command(&store);
    let arguments: Vec<_> = command
        .get_args()
        .map(|part| part.to_string_lossy())
        .collect();
    let url_is_given = arguments.iter().any(|part| part == "--database-url");
    assert_eq!(
        url_is_given,
        store.kind() == StoreKind::Postgres,
        "{arguments:?}"
    );
    let data_is_given = arguments
        .iter()
        .any(|part| **part == *store.data_dir().to_string_lossy());
    assert!(data_is_given, "{arguments:?}");
}

fn sqlite(store: &StoreUnderTest) -> rusqlite::Connection {
    assert_eq!(store.kind(), StoreKind::Sqlite);
    let path: PathBuf = store.data_dir().join("harness.db");
    rusqlite::Connection::open(path).expect("a file in the data directory")
}

async fn postgres(url: &str) -> PgConnection {
    PgConnection::connect(url)
        .await
        .expect("a connection to PostgreSQL")
}

/// A small server that this binary becomes when asked to: the harness is proved without the
/// program it will test.
pub mod stand_in {
    use std::process::ExitCode;

    use axum::extract::Request;
    use axum::http::{HeaderMap, StatusCode};
    use axum::{Json, Router, routing::any};
    use serde_json::Value;

    use super::{Command, json};

    const ROLE: &str = "CREWLOG_STAND_IN";

    pub fn command(role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("the path of this binary"));
        command.env(ROLE, role);
        command
    }

    pub fn is_wanted() -> bool {
        std::env::var_os(ROLE).is_some()
    }

    #[tokio::main(flavor = "current_thread")]
    pub async fn serve() -> ExitCode {
        if std::env::var(ROLE).as_deref() != Ok("serve") {
            return ExitCode::from(3);
        }
        let mut terminated =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .expect("SIGTERM to be caught");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("the port");
        eprintln!("{{\"message\":\"listening on http://{address}\"}}");
        axum::serve(listener, Router::new().route("/echo", any(echo)))
            .with_graceful_shutdown(async move {
                terminated.recv().await;
            })
            .await
            .expect("to serve");
        ExitCode::SUCCESS
    }

    async fn echo(headers: HeaderMap, request: Request) -> (StatusCode, HeaderMap, Json<Value>) {
        println!("{} {}", request.method(), request.uri());
        let mut answered = HeaderMap::new();
        if let Some(key) = headers.get("idempotency-key") {
            answered.insert("x-idempotency-key", key.clone());
        }
        let authorization = headers
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let bytes = axum::body::to_bytes(request.into_body(), 1 << 20)
            .await
            .unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let answer = json!({"authorization": authorization, "body": body});
        (StatusCode::CREATED, answered, Json(answer))
    }
}
