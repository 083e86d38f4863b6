//! Rebuilds beside servers that are written to and read from: killed, gone on with, cancelled,
//! refused; into another database; and by another version of the program.
//!
//! The long form kills far more of them:
//!
//! ```text
//! CREWLOG_FAULT_ROUNDS=30 cargo test --test it -- rebuilds
//! ```

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crewlog::domain::authority::Role;
use crewlog::journal::stores::Statement;
use crewlog::journal::{Recorded, SubmitError};
use crewlog::projections::{
    self, CannotFold, Columns, Documents, Engine, MemberDocument, Members, Projection, Projections,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::projections::{assert_documents_are_the_log, assert_store_is_its_log};
use crate::support::commands::{Ended, crewlog_on, run};
use crate::support::journal::{Fixture, open_store, reading, rename};
use crate::support::load::Load;
use crate::support::pages::Page;
use crate::support::postgres;
use crate::support::process;
use crate::support::scratch;
use crate::support::server::{Server, without_settings_of_ours};
use crate::support::trials::{self, Case, StoreKind, StoreUnderTest, both, on};

pub fn trials() -> Vec<Case> {
    let postgres = [StoreKind::Postgres];
    vec![
        both("rebuilds", "killed_at_any_moment_and_gone_on_with", killed),
        both("rebuilds", "one_is_cancelled", cancelled),
        both("rebuilds", "a_second_is_refused", refused),
        both("rebuilds", "what_was_wrong_is_told", repaired),
        both("rebuilds", "checks_hold_under_load", checked),
        both("rebuilds", "into_another_database", into),
        both("rebuilds", "two_in_one_process", in_process),
        both("rebuilds", "the_page_is_true", page),
        on(
            &[StoreKind::Sqlite],
            "rebuilds",
            "the_server_dies_and_the_command_goes_on",
            server_dies,
        ),
        on(&postgres, "rebuilds", "a_newer_fold_takes_over", newer_fold),
        on(
            &postgres,
            "rebuilds",
            "a_newer_program_takes_over",
            newer_program,
        ),
        on(
            &postgres,
            "rebuilds",
            "a_newer_format_takes_over",
            newer_format,
        ),
    ]
}

const CLIENTS: usize = 4;

fn seed() -> u64 {
    u64::from(rand::random::<u32>())
}

/// How often a rebuild is killed.
fn rounds() -> usize {
    trials::rounds(trials::FAULT_ROUNDS, 3)
}

/// Runs a command to its end while the test goes on.
async fn ends(store: &StoreUnderTest, arguments: &[&str]) -> Ended {
    let command = crewlog_on(store, arguments);
    let ended = tokio::task::spawn_blocking(|| run(command)).await;
    ended.expect("the command to be run")
}

/// A command that is left running.
fn begin(store: &StoreUnderTest, arguments: &[&str]) -> Child {
    let mut command = crewlog_on(store, arguments);
    without_settings_of_ours(&mut command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    process::spawn(command, Signal::SIGKILL).expect("the command to start")
}

fn kill(mut child: Child) {
    process::signal(&child, Signal::SIGKILL);
    process::wait(&mut child, Duration::from_secs(10)).expect("a killed command to end");
}

/// The row of the rebuild.
async fn status(store: &StoreUnderTest) -> projections::RebuildStatus {
    let reading = reading(store).await;
    let status = projections::status(&*reading).await.expect("the rebuild");
    reading.close().await;
    status
}

async fn wait_until(
    store: &StoreUnderTest,
    what: &str,
    is_so: impl Fn(&projections::RebuildStatus) -> bool,
) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = status(store).await;
        if is_so(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// That there is nothing of any rebuild but what serves.
async fn nothing_is_left(store: &StoreUnderTest) {
    let reading = reading(store).await;
    let sql = "SELECT name, generation FROM projections WHERE state <> 'serving'";
    let rows = reading.query(sql, vec![]).await.expect("projections");
    assert!(rows.is_empty(), "{rows:?}");
    let sql = match store.kind() {
        StoreKind::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table'",
        StoreKind::Postgres => {
            "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public'"
        }
    };
    let tables = reading.query(sql, vec![]).await.expect("tables");
    let of_projections = tables
        .iter()
        .map(|row| row.text(0).expect("a name"))
        .filter(|name| name.starts_with("documents_") || name.starts_with("audit_"));
    let of_projections: Vec<_> = of_projections.collect();
    assert_eq!(
        of_projections.len(),
        projections::names().len(),
        "{of_projections:?}"
    );
    reading.close().await;
}

/// Somebody who reads all the time what every generation must show them whole.
struct Reader {
    is_over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    reading: Vec<JoinHandle<()>>,
}

impl Reader {
    fn start(load: &Load, base_urls: &[String]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicUsize::new(0));
        let owner = load.owners[0].clone();
        let reading = base_urls.iter().map(|base_url| {
            let members = format!("{base_url}/v1/workspaces/{}/members", owner.workspace);
            let audit = format!(
                "{base_url}/v1/workspaces/{}/audit?action=workspace.created",
                owner.workspace
            );
            let (token, colleague) = (owner.token.clone(), load.colleague.clone());
            let (is_over, answers) = (is_over.clone(), answers.clone());
            tokio::spawn(async move {
                let client = reqwest::Client::builder()
                    .no_proxy()
                    .timeout(Duration::from_secs(30))
                    .build()
                    .expect("a client");
                while !is_over.load(Ordering::SeqCst) {
                    for (url, has) in [
                        (&members, colleague.as_str()),
                        (&audit, "workspace.created"),
                    ] {
                        let sent = client.get(url).bearer_auth(&token).send().await;
                        // A server that is killed answers nothing.
                        let Ok(reply) = sent else {
                            continue;
                        };
                        let status = reply.status().as_u16();
                        let Ok(text) = reply.text().await else {
                            continue;
                        };
                        assert_eq!(status, 200, "{url}: {text}");
                        let body: Value = serde_json::from_str(&text).expect("JSON");
                        let expected = if has == colleague { 2 } else { 1 };
                        let found = body["data"].as_array().expect("a list").len();
                        assert_eq!(found, expected, "a half-built answer: {text}");
                        assert!(text.contains(has), "a half-built answer: {text}");
                        answers.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        });
        Self {
            reading: reading.collect(),
            is_over,
            answers,
        }
    }

    /// How often they were answered; never wrongly.
    async fn stop(self) -> usize {
        self.is_over.store(true, Ordering::SeqCst);
        for reading in self.reading {
            reading.await.expect("every answer to be whole");
        }
        self.answers.load(Ordering::SeqCst)
    }
}

/// Entries in a second with which a rebuild of this log takes a few seconds.
async fn slowly(store: &StoreUnderTest, seconds: u64) -> String {
    let reading = reading(store).await;
    let head = crewlog::journal::stores::head(&*reading).await;
    let position = head.expect("the head").position;
    reading.close().await;
    (position / seconds).max(10).to_string()
}

/// Lets the log grow before anything is rebuilt.
async fn grown(load: &Arc<Load>, server: &Server, answers: usize) {
    let clients = load.start(&[server.base_url().to_owned()], CLIENTS);
    load.answers(answers).await;
    clients.stop().await;
    load.settle(server.base_url()).await;
}

async fn killed(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    // Where several processes serve, two do.
    let second = match store.kind() {
        StoreKind::Sqlite => None,
        StoreKind::Postgres => Some(Server::start(&store).await),
    };
    let load = Load::begin(&server, 3, seed()).await;
    grown(&load, &server, 250).await;
    let (mut gone_on, mut answers) = (0, 0);
    for round in 0..rounds() {
        let per_second = slowly(&store, 4).await;
        let mut urls = vec![server.base_url().to_owned()];
        urls.extend(second.iter().map(|server| server.base_url().to_owned()));
        let clients = load.start(&urls, CLIENTS);
        let reader = Reader::start(&load, &urls);
        let arguments = ["replay", "--events-per-second", &per_second];
        let command = begin(&store, &arguments);
        wait_until(&store, "a rebuild", |status| status.is_under_way()).await;
        // The first in the midst of it, so that one is gone on with however few rounds there are.
        let moment = match round {
            0 => 2_000 + load.below(1_500),
            _ => load.below(5_000),
        };
        let moment = Duration::from_millis(moment as u64);
        tokio::time::sleep(moment).await;
        let before = status(&store).await;
        kill(command);
        if store.kind() == StoreKind::Sqlite {
            server.kill().await;
        }
        clients.stop().await;
        answers += reader.stop().await;
        if store.kind() == StoreKind::Sqlite {
            server = Server::start(&store).await;
        }
        load.settle(server.base_url()).await;
        // Whoever comes next goes on with it, beside everybody else.
        let urls = [server.base_url().to_owned()];
        let clients = load.start(&urls, CLIENTS);
        let reader = Reader::start(&load, &urls);
        match store.kind() {
            // The server does, by itself, and at the pace that was asked for: whoever writes faster
            // than that would never let it end.
            StoreKind::Sqlite => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                clients.stop().await;
                wait_until(&store, "its end", |status| !status.is_under_way()).await;
                gone_on += server.logs().matches("going on with a rebuild").count();
            }
            StoreKind::Postgres => {
                let ended = ends(&store, &["replay"]).await.expect(0);
                gone_on += ended.stderr.matches("going on with a rebuild").count();
                clients.stop().await;
            }
        }
        answers += reader.stop().await;
        load.settle(server.base_url()).await;
        nothing_is_left(&store).await;
        run(crewlog_on(&store, &["verify"])).expect(0);
        run(crewlog_on(&store, &["replay", "--check"])).expect(0);
        println!(
            "round {round}: killed after {moment:?}, at {} of {}",
            before.position, before.head
        );
    }
    assert!(gone_on > 0, "some were gone on with");
    assert!(answers > 100, "somebody read all the time: {answers}");
    load.is_in_the_audit_log(&server).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let reading = reading(&store).await;
    load.check(&*reading).await;
    assert_store_is_its_log(&*reading).await;
    reading.close().await;
    println!(
        "{:?}: gone on with {gone_on} times, {answers} whole answers",
        store.kind()
    );
}

async fn cancelled(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    grown(&load, &server, 60).await;
    // Before there is any.
    let told = ends(&store, &["replay", "--cancel"]).await.expect(0);
    assert!(told.stdout.contains("no rebuild was under way"), "{told:?}");
    let clients = load.start(&[server.base_url().to_owned()], CLIENTS);
    let per_second = slowly(&store, 20).await;
    let arguments = ["replay", "--events-per-second", &per_second];
    let (ended, ()) = tokio::join!(ends(&store, &arguments), async {
        wait_until(&store, "some of it", |status| status.position > 0).await;
        // Meanwhile everybody can see how far it is.
        let ready = server.get("/readyz").await.expect(200);
        let rebuild = &ready.body["rebuild"];
        assert_eq!(rebuild["state"], "running", "{ready:?}");
        assert!(rebuild["position"].as_u64() > Some(0), "{ready:?}");
        assert!(
            rebuild["head"].as_u64() > rebuild["position"].as_u64(),
            "{ready:?}"
        );
        assert!(rebuild["seconds_left"].as_u64() > Some(0), "{ready:?}");
        let is_shown = || async {
            let metrics = server.get("/metrics").await.expect(200).text;
            let left = metrics
                .lines()
                .find_map(|line| line.strip_prefix("crewlog_rebuild_entries_left "));
            left.is_some_and(|left| left != "0")
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_shown().await {
            assert!(Instant::now() < deadline, "the metrics show it");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let told = ends(&store, &["replay", "--cancel", "--json"]).await;
        assert_eq!(told.expect(0).json(), json!({"cancelled": true}));
    });
    ended.refused_with_log(&["cancelled"]);
    clients.stop().await;
    load.settle(server.base_url()).await;
    nothing_is_left(&store).await;
    assert!(!status(&store).await.is_under_way());
    let ready = server.get("/readyz").await.expect(200);
    assert_eq!(ready.body["rebuild"], Value::Null, "{ready:?}");
    run(crewlog_on(&store, &["replay", "--check"])).expect(0);

    // One that nobody works on any more.
    let command = begin(&store, &arguments);
    let is_at_work =
        |status: &projections::RebuildStatus| status.is_under_way() && status.position > 0;
    wait_until(&store, "another", is_at_work).await;
    kill(command);
    if store.kind() == StoreKind::Sqlite {
        server.kill().await;
    }
    let told = ends(&store, &["doctor"]).await.expect(1);
    assert!(told.stdout.contains("unfinished_rebuild"), "{told:?}");
    let told = ends(&store, &["replay", "--cancel"]).await.expect(0);
    assert!(told.stdout.contains("was cancelled"), "{told:?}");
    nothing_is_left(&store).await;
    // And tables that nothing is known of.
    let writing = open_store(&store).await;
    let left = [
        "INSERT INTO projections (name, generation, version, position, state)
         VALUES ('members', 7, 1, 4, 'building')",
        "CREATE TABLE documents_members_7 (key TEXT PRIMARY KEY)",
    ];
    let left = left.map(|sql| Statement::new(sql, [])).into();
    writing.execute(left).await.expect("what is left");
    writing.close().await;
    drop(writing);
    run(crewlog_on(&store, &["replay", "--cancel"])).expect(0);
    nothing_is_left(&store).await;
}

async fn refused(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    grown(&load, &server, 60).await;
    let per_second = slowly(&store, 8).await;
    let arguments = ["replay", "members", "--events-per-second", &per_second];
    let (first, ()) = tokio::join!(ends(&store, &arguments), async {
        wait_until(&store, "the first", |status| status.position > 0).await;
        for second in [&["replay", "members"][..], &["replay"]] {
            let ended = ends(&store, second).await;
            ended.refused_with(&["a rebuild of members is under way", "--cancel"]);
        }
        // It is under way, and so nothing that was left.
        let told = ends(&store, &["doctor"]).await;
        assert!(!told.stdout.contains("unfinished"), "{told:?}");
    });
    let first = first.expect(0);
    assert!(first.stdout.contains("into members"), "{first:?}");
    assert!(
        first.stderr.contains(" entries, ") && first.stderr.contains("s left"),
        "{first:?}"
    );
    nothing_is_left(&store).await;
    // By the writers' latency, which nothing keeps down to nothing here.
    let ended = ends(
        &store,
        &["replay", "members", "--commit-latency-ms", "60000"],
    )
    .await;
    ended.expect(0);
    assert!(server.terminate().await.success(), "{}", server.logs());
}

async fn server_dies(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    grown(&load, &server, 60).await;
    let per_second = slowly(&store, 6).await;
    let arguments = ["replay", "--events-per-second", &per_second];
    let (ended, ()) = tokio::join!(ends(&store, &arguments), async {
        wait_until(&store, "some of it", |status| status.position > 0).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.kill().await;
    });
    let ended = ended.expect(0);
    assert!(
        ended.stderr.contains("going on with a rebuild"),
        "{ended:?}"
    );
    nothing_is_left(&store).await;
    run(crewlog_on(&store, &["replay", "--check"])).expect(0);
}

async fn repaired(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    let wrong = match store.kind() {
        StoreKind::Sqlite => {
            "UPDATE documents_workspaces_1 SET document = json_set(document, '$.name', 'Hidden')"
        }
        StoreKind::Postgres => {
            "UPDATE documents_workspaces_1 SET document = jsonb_set(document::jsonb, '{name}', '\"Hidden\"')::json"
        }
    };
    server.behind_its_back(&[wrong.to_owned()]).await;
    let found = ends(&store, &["replay", "--check", "--json"]).await;
    let found = found.expect(1).json();
    assert!(
        found["differing"].as_u64() >= Some(load.owners.len() as u64),
        "{found}"
    );
    let told = ends(&store, &["replay", "workspaces", "--json"]).await;
    let told = told.expect(0).json();
    assert_eq!(told["repaired"], found["differing"], "{told}");
    run(crewlog_on(&store, &["replay", "--check"])).expect(0);
    let told = ends(&store, &["replay", "workspaces", "--json"]).await;
    assert_eq!(told.expect(0).json()["repaired"], 0);
    assert!(server.terminate().await.success(), "{}", server.logs());
}

async fn checked(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    let clients = load.start(&[server.base_url().to_owned()], CLIENTS);
    for _ in 0..3 {
        let (checked, rebuilt) = tokio::join!(
            ends(&store, &["replay", "--check", "--json"]),
            ends(&store, &["replay", "--json"])
        );
        let checked = checked.expect(0).json();
        assert_eq!(checked["differing"], 0, "{checked}");
        rebuilt.expect(0);
        let verified = ends(&store, &["verify"]).await;
        verified.expect(0);
    }
    clients.stop().await;
    load.settle(server.base_url()).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let reading = reading(&store).await;
    load.check(&*reading).await;
    assert_store_is_its_log(&*reading).await;
}

async fn into(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    grown(&load, &server, 40).await;
    let target = match store.kind() {
        StoreKind::Sqlite => StoreUnderTest::in_directory(scratch::directory("into")),
        StoreKind::Postgres => {
            let cluster = postgres::shared().expect("the cluster");
            let database = cluster.database().await.expect("a database");
            StoreUnderTest::in_database(database)
        }
    };
    let url = target.url();
    let whole = ends(&store, &["replay", "--into", &url, "--json"]).await;
    let whole = whole.expect(0).json();
    assert!(whole["rows"]["workspaces"].as_u64() > Some(2), "{whole}");
    let (here, there) = (reading(&store).await, reading(&target).await);
    for name in projections::names() {
        let sql = match name {
            "audit" => "SELECT position, action FROM crewlog_audit ORDER BY position".to_owned(),
            name => format!(
                "SELECT key, CAST(document AS TEXT) FROM {name}_v{} ORDER BY key",
                Projections::default().versions()[name]
            ),
        };
        let [left, right] = [&here, &there].map(|store| store.query(&sql, vec![]));
        let (left, right) = (left.await.expect(name), right.await.expect(name));
        // The index here may trail.
        assert!(right.starts_with(&left), "{name}");
        assert_eq!(whole["rows"][name], right.len(), "{name}");
    }
    // As of a position, over what was there: the documents of then.
    let part = ends(&store, &["replay", "--into", &url, "--to", "9", "--json"]).await;
    let part = part.expect(0).json();
    assert_eq!(
        (&part["position"], &part["rows"]["audit"]),
        (&json!(9), &json!(9))
    );
    assert!(
        part["rows"]["members"].as_u64() < whole["rows"]["members"].as_u64(),
        "{part}"
    );
    let ended = ends(&store, &["replay", "--into", &url, "--to", "99999999"]).await;
    ended.refused_with(&["the log ends at position"]);
    // What was made so is no log, and a log is nothing to fold into.
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["migrate"],
        &["replay", "--check"],
        &["verify"],
    ] {
        let ended = ends(&target, command).await;
        ended.refused_with_log(&["replay --into", "no log"]);
    }
    let ended = ends(&store, &["replay", "--into", &store.url()]).await;
    assert_eq!(ended.status, Some(3), "{ended:?}");
    load.settle(server.base_url()).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let ended = ends(&store, &["replay", "--into", &store.url()]).await;
    ended.refused_with(&["of its own"]);
    run(crewlog_on(&store, &["replay", "--check"])).expect(0);
}

/// The commands of the page that operators read.
async fn page(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    grown(&load, &server, 20).await;
    let page = Arc::new(Page::read("docs/operating.md"));
    let rebuilt = page.run_block(&store, "rebuild", None).stdout;
    assert!(rebuilt.contains("into members in "), "{rebuilt}");
    assert!(
        rebuilt.contains("every row is what the log says"),
        "{rebuilt}"
    );
    let cancelled = page.run_block(&store, "cancel", None).stdout;
    assert!(
        cancelled.contains("no rebuild was under way"),
        "{cancelled}"
    );
    if store.kind() == StoreKind::Sqlite {
        assert!(server.terminate().await.success(), "{}", server.logs());
    }
    let upgraded = page.run_block(&store, "upgrade", None).stdout;
    assert!(
        upgraded.contains("the projections are current"),
        "{upgraded}"
    );
}

async fn in_process(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    let names = projections::names();
    let (one, other) = (fixture.store.another(), fixture.store.another());
    let ((), first, second) = tokio::join!(
        async {
            for number in 0..50 {
                fixture
                    .commit(rename(team, &owner, &number.to_string()))
                    .await;
            }
        },
        projections::rebuild(&*one, &names, |_| {}),
        projections::rebuild(&*other, &names, |_| {}),
    );
    let ended = [first, second].map(|ended| ended.map_err(|error| error.to_string()));
    assert!(ended.iter().any(Result::is_ok), "{ended:?}");
    for refusal in ended.iter().filter_map(|ended| ended.as_ref().err()) {
        assert!(refusal.contains("is under way"), "{refusal}");
    }
    assert_documents_are_the_log(&fixture).await;
    nothing_is_left(&store).await;
}

/// The fold of members in the next version of the program: it finds nobody by their user.
struct MembersOfTomorrow;

impl Projection for MembersOfTomorrow {
    type Document = MemberDocument;
    const NAME: &'static str = Members::NAME;
    const VERSION: i64 = Members::VERSION + 1;

    fn keys(event: &Recorded) -> Vec<String> {
        Members::keys(event)
    }

    fn fold(
        document: Option<MemberDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<MemberDocument>, CannotFold> {
        Members::fold(document, key, event)
    }

    fn columns(document: &MemberDocument) -> Columns {
        Columns {
            lookup: None,
            ..Members::columns(document)
        }
    }
}

/// The same in the version before.
struct MembersOfYesterday;

impl Projection for MembersOfYesterday {
    type Document = MemberDocument;
    const NAME: &'static str = Members::NAME;
    const VERSION: i64 = Members::VERSION - 1;

    fn keys(event: &Recorded) -> Vec<String> {
        Members::keys(event)
    }

    fn fold(
        document: Option<MemberDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<MemberDocument>, CannotFold> {
        Members::fold(document, key, event)
    }

    fn columns(document: &MemberDocument) -> Columns {
        Columns {
            parent: None,
            ..Members::columns(document)
        }
    }
}

async fn newer_fold(store: StoreUnderTest) {
    let mut servers = vec![Server::start(&store).await, Server::start(&store).await];
    let load = Load::begin(&servers[0], 3, seed()).await;
    grown(&load, &servers[0], 60).await;
    let urls: Vec<_> = servers
        .iter()
        .map(|server| server.base_url().to_owned())
        .collect();
    let clients = load.start(&urls, CLIENTS);
    load.answers(20).await;
    // The next version fills its own beside them, and takes over.
    let writing = open_store(&store).await;
    let tomorrow = Projections::default().with::<MembersOfTomorrow>();
    let engine = Engine::open_with(&*writing, tomorrow.clone()).await;
    let engine = engine.expect("the next version to fill what it reads");
    for server in &mut servers {
        let status = server.ended().await;
        assert_eq!(status.code(), Some(3), "{}", server.logs());
        let logs = server.logs();
        assert!(
            logs.contains("made by a newer version of crewlog"),
            "{logs}"
        );
        assert!(!logs.contains("panicked"), "{logs}");
    }
    clients.stop().await;
    // Nothing that was answered is lost, and nothing is there twice.
    load.check(&*writing).await;
    let members = Documents::<MembersOfTomorrow>::of(writing.clone(), &engine);
    let found = members
        .page_of_parent(&load.owners[0].workspace, None, 10)
        .await;
    assert_eq!(found.expect("a page").items.len(), 2);
    let found = members.page_of_lookup(&load.colleague, None, 10).await;
    assert_eq!(found.expect("a page").items.len(), 0, "as its fold says");
    // What this program is told when it comes back.
    writing.close().await;
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["migrate"],
        &["replay"],
    ] {
        let ended = ends(&store, command).await;
        ended.refused_with_log(&["newer version of crewlog", "run the newer version"]);
    }
    let told = ends(&store, &["doctor"]).await.expect(1);
    assert!(told.stdout.contains("projection_newer"), "{told:?}");
}

async fn newer_program(store: StoreUnderTest) {
    // The version before serves: what it folded of members is not what this program reads.
    let writing = open_store(&store).await;
    let yesterday = Projections::default().with::<MembersOfYesterday>();
    let before = Fixture::of_version(writing, 1, yesterday).await;
    let owner = before.sign_up("owner").await;
    let team = before.workspace(&owner, "team").await;
    let other = before.sign_up("other").await;
    before.join(team, &owner, &other, Role::Viewer).await;
    let before = Arc::new(before);
    let writer = tokio::spawn({
        let (before, owner) = (before.clone(), owner.clone());
        async move {
            let mut positions = Vec::new();
            loop {
                let unit = rename(team, &owner, &format!("name {}", positions.len()));
                match before.submit(unit).await {
                    Ok(committed) => positions.push(committed.position),
                    Err(SubmitError::Unavailable(why)) => return (positions, why),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Rebuilding is not for a program that would take over by it; upgrading is.
    let ended = ends(&store, &["replay", "members"]).await;
    ended.refused_with(&["crewlog migrate"]);
    assert_eq!(before.engine.superseded(), None);
    let migrated = ends(&store, &["migrate", "--json"]).await.expect(0).json();
    assert_eq!(
        migrated["projections_filled"],
        json!(["members"]),
        "{migrated}"
    );
    let (positions, why) = writer.await.expect("no panic");
    assert!(why.contains("newer version of crewlog"), "{why}");
    assert!(before.engine.superseded().is_some());
    assert!(positions.len() > 10, "{positions:?}");
    assert!(
        positions.is_sorted_by(|left, right| left < right),
        "{positions:?}"
    );
    let reading = reading(&store).await;
    let sql =
        "SELECT position FROM events WHERE event_type = 'workspace_renamed' ORDER BY position";
    let rows = reading.query(sql, vec![]).await.expect("events");
    let written: Vec<_> = rows
        .iter()
        .map(|row| row.count(0).expect("a position"))
        .collect();
    assert_eq!(written, positions, "what was answered, and nothing else");
    assert_store_is_its_log(&*reading).await;
    // What it asks for is not there any more for it.
    let members = Documents::<MembersOfYesterday>::of(before.store.clone(), &before.engine);
    let read = members.get("anybody").await;
    assert!(read.is_err(), "{read:?}");
    // The new one serves.
    let now = Fixture::on(open_store(&store).await, 2, Default::default()).await;
    now.commit(rename(team, &owner, "the last")).await;
    assert_documents_are_the_log(&now).await;
    nothing_is_left(&store).await;
}

async fn newer_format(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    let clients = load.start(&[server.base_url().to_owned()], CLIENTS);
    load.answers(20).await;
    let raise = "UPDATE log_head SET format = format + 1, epoch = epoch + 1";
    server.behind_its_back(&[raise.to_owned()]).await;
    let status = server.ended().await;
    assert_eq!(status.code(), Some(3), "{}", server.logs());
    let logs = server.logs();
    assert!(logs.contains("asks for writers of format 2"), "{logs}");
    clients.stop().await;
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["migrate"]] {
        let ended = ends(&store, command).await;
        ended.refused_with_log(&["newer", "run the newer version"]);
    }
    let lower = "UPDATE log_head SET format = format - 1";
    server.behind_its_back(&[lower.to_owned()]).await;
    let mut server = Server::start(&store).await;
    load.settle(server.base_url()).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let reading = reading(&store).await;
    load.check(&*reading).await;
}
