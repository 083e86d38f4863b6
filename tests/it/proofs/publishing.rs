//! Checkpoints that others keep, and stores that do not extend them.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use super::change;
use crate::edge::eventually;
use crate::edge::team::Person;
use crate::support::commands::{crewlog_on, run};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both(
            "proofs",
            "a_store_that_lost_what_was_published_refuses",
            lost,
        ),
        both(
            "proofs",
            "a_store_that_changed_what_was_published_refuses",
            changed,
        ),
        both("proofs", "checkpoints_are_published_to_a_url", to_a_url),
    ]
}

fn serve(store: &StoreUnderTest, to: &str) -> Command {
    let mut command = Server::command(store);
    command.args(["--publish-checkpoint", to, "--publish-every-seconds", "1"]);
    command
}

fn refuses(store: &StoreUnderTest, to: &str, words: &[&str]) {
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--publish-checkpoint",
        to,
    ];
    run(crewlog_on(store, &arguments)).refused_with_log(words);
}

async fn make_entries(server: &Server) {
    let more = json!({"organization": {"name": "Acme"}, "workspace": {"name": "Acme"}});
    Person::sign_up_with(server, "owner", more).await;
}

fn size_of(checkpoint: &str) -> u64 {
    let size = checkpoint.lines().nth(1).expect("a size");
    size.parse().expect("a number")
}

async fn published(file: &Path, at_least: u64) -> String {
    eventually("a checkpoint in the file", async || {
        let text = std::fs::read_to_string(file).ok()?;
        (size_of(&text) >= at_least).then_some(text)
    })
    .await
}

async fn head(server: &Server) -> u64 {
    let ready = server.get("/readyz").await.body;
    ready["position"].as_u64().expect("a position")
}

/// Takes the last entry away, as a backup that is too old would.
async fn cut(store: &StoreUnderTest, position: u64, frontier: &[u8]) {
    let hex: String = frontier.iter().map(|byte| format!("{byte:02x}")).collect();
    let bytes = match store.database_url() {
        None => format!("x'{hex}'"),
        Some(_) => format!("'\\x{hex}'::bytea"),
    };
    let statements = format!(
        "DELETE FROM events WHERE position > {position};
         UPDATE log_head SET position = {position}, frontier = {bytes};
         DELETE FROM checkpoints;"
    );
    change(store, &statements).await;
}

async fn lost(store: StoreUnderTest) {
    let file = store.data_dir().join("checkpoint.txt");
    let to = file.to_string_lossy().into_owned();
    let mut server = Server::launch(serve(&store, &to)).await;
    make_entries(&server).await;
    let early = head(&server).await;
    published(&file, early).await;
    make_entries(&server).await;
    published(&file, early + 1).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    // What was published is extended: it goes on.
    let mut server = Server::launch(serve(&store, &to)).await;
    assert!(server.terminate().await.success(), "{}", server.logs());

    let mut frontier = crewlog::proofs::tree::Frontier::default();
    let events = crate::support::ledger::verify(&*reading(&store).await).await;
    for event in &events[..early as usize] {
        frontier.push(event.leaf);
    }
    cut(&store, early, &frontier.to_bytes()).await;
    run(crewlog_on(&store, &["verify"])).expect(0);
    refuses(&store, &to, &["published", "entries were lost"]);

    std::fs::write(&file, "rubbish").expect("the file");
    refuses(&store, &to, &["published", "not a signed note"]);
    std::fs::remove_file(&file).expect("the file");
    let server = Server::launch(serve(&store, &to)).await;
    published(&file, early).await;
    drop(server);
}

async fn reading(store: &StoreUnderTest) -> Arc<dyn crewlog::journal::stores::Store> {
    use crewlog::journal::stores::{postgres::PostgresStore, sqlite::SqliteStore};
    match store.database_url() {
        None => Arc::new(
            SqliteStore::open_for_reading(store.data_dir())
                .await
                .expect("the store"),
        ),
        Some(url) => Arc::new(
            PostgresStore::open_for_reading(url)
                .await
                .expect("the store"),
        ),
    }
}

/// Somebody edits an entry, and everything that hangs on it in the store: only what others have
/// tells.
async fn changed(store: StoreUnderTest) {
    let file = store.data_dir().join("checkpoint.txt");
    let to = file.to_string_lossy().into_owned();
    let mut server = Server::launch(serve(&store, &to)).await;
    make_entries(&server).await;
    let size = head(&server).await;
    published(&file, size).await;
    assert!(server.terminate().await.success(), "{}", server.logs());

    let events = crate::support::ledger::verify(&*reading(&store).await).await;
    let mut forged = events.last().expect("an entry").clone();
    forged.salt = [7; 32];
    forged.leaf = forged.computed_leaf();
    let mut frontier = crewlog::proofs::tree::Frontier::default();
    for event in &events[..events.len() - 1] {
        frontier.push(event.leaf);
    }
    frontier.push(forged.leaf);
    let bytes = |bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match store.database_url() {
            None => format!("x'{hex}'"),
            Some(_) => format!("'\\x{hex}'::bytea"),
        }
    };
    let (salt, leaf) = (bytes(&forged.salt), bytes(&forged.leaf));
    let statements = format!(
        "UPDATE events SET salt = {salt}, leaf = {leaf} WHERE position = {};
         UPDATE log_head SET frontier = {};
         DELETE FROM checkpoints;",
        forged.position,
        bytes(&frontier.to_bytes())
    );
    change(&store, &statements).await;
    run(crewlog_on(&store, &["verify"])).expect(0);
    refuses(&store, &to, &["published", "not those that were published"]);
}

type Kept = Arc<Mutex<HashMap<String, String>>>;

/// A place that keeps what is put there, as an object store does.
async fn object_store() -> (String, Kept) {
    let kept = Kept::default();
    let read = async |State(kept): State<Kept>, UrlPath(name): UrlPath<String>| {
        let found = kept.lock().expect("the objects").get(&name).cloned();
        found.ok_or(StatusCode::NOT_FOUND)
    };
    let write = async |State(kept): State<Kept>, UrlPath(name): UrlPath<String>, body: String| {
        kept.lock().expect("the objects").insert(name, body);
        StatusCode::CREATED
    };
    let router = Router::new()
        .route("/{name}", get(read).put(write))
        .with_state(kept.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/checkpoint"), kept)
}

async fn to_a_url(store: StoreUnderTest) {
    let (url, kept) = object_store().await;
    let at = || kept.lock().expect("the objects").get("checkpoint").cloned();
    let mut server = Server::launch(serve(&store, &url)).await;
    make_entries(&server).await;
    let size = head(&server).await;
    let text = eventually("a checkpoint at the URL", async || {
        at().filter(|text| size_of(text) >= size)
    })
    .await;
    let newest = server.get("/v1/log/checkpoint").await.expect(200).text;
    assert!(newest.lines().next() == text.lines().next(), "{text}");
    assert!(server.terminate().await.success(), "{}", server.logs());
    // Port 1 answers nobody; the password in the URL is told to nobody either.
    let ended = {
        let nowhere = "http://ada:hunter2@127.0.0.1:1/checkpoint";
        let arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--publish-checkpoint",
            nowhere,
        ];
        run(crewlog_on(&store, &arguments)).refused_with_log(&["published", "--publish-checkpoint"])
    };
    assert!(!ended.stderr.contains("hunter2"), "{ended:#?}");
    let forged = text.replacen(&size_of(&text).to_string(), "999", 1);
    kept.lock()
        .expect("the objects")
        .insert("checkpoint".to_owned(), forged);
    refuses(&store, &url, &["published", "is wrong"]);
}
