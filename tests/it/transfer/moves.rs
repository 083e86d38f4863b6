//! Moves that are made, and moves that are refused.

use serde_json::json;

use super::{
    assert_same, bring_the_key, empty, everything_in, move_to, other, takes_a_writer, target,
    with_everything,
};
use crate::edge::held;
use crate::edge::team::Person;
use crate::projections::assert_store_is_its_log;
use crate::support::commands::{crewlog_on, run};
use crate::support::journal::{open_store, reading};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, on};

/// Each has both kinds of store, and so needs a PostgreSQL.
const WITH_BOTH: &[StoreKind] = &[StoreKind::Postgres];

pub fn trials() -> Vec<Case> {
    vec![
        on(
            WITH_BOTH,
            "transfer",
            "everything_is_moved_to_postgres",
            to_postgres,
        ),
        on(
            WITH_BOTH,
            "transfer",
            "everything_is_moved_to_sqlite",
            to_sqlite,
        ),
        on(WITH_BOTH, "transfer", "a_store_in_use_is_not_moved", in_use),
        on(
            WITH_BOTH,
            "transfer",
            "what_is_not_empty_is_no_target",
            not_empty,
        ),
        on(WITH_BOTH, "transfer", "a_move_names_two_places", two_places),
    ]
}

async fn to_postgres(store: StoreUnderTest) {
    moved(empty(StoreKind::Sqlite).await, store).await;
}

async fn to_sqlite(store: StoreUnderTest) {
    moved(store, empty(StoreKind::Sqlite).await).await;
}

/// What each end has for itself.
pub(super) const OWN: [&str; 6] = [
    "access_snapshots",
    "log_head",
    "projections",
    "rebuild",
    "request_rates",
    "seals",
];
/// What everything may have none of: tiles take more entries, the loads that are moved while they
/// are killed have some; who was erased is told of within a moment; the look-up key is kept once the
/// root key was rotated, and follows from that one before.
const MAY_BE_EMPTY: [&str; 3] = ["lookup_keys", "tiles", "untold_erasures"];

async fn moved(from: StoreUnderTest, to: StoreUnderTest) {
    with_everything(&from).await;
    let before = everything_in(&from).await;
    for (table, rows) in &before {
        let table = table.as_str();
        let may_be_empty = MAY_BE_EMPTY.contains(&table) || OWN.contains(&table);
        let is_compared = !may_be_empty && !is_read_model(table);
        assert!(!is_compared || !rows.is_empty(), "nothing is in {table}");
    }
    let said = move_to(&from, &to).expect(0).json();
    assert_eq!(said["holds"], true, "{said}");
    assert_eq!(said["was_done"], false, "{said}");
    let after = everything_in(&to).await;
    assert_same(&before, &after, &OWN);
    let moved = reading(&to).await;
    assert_store_is_its_log(&*moved).await;
    moved.close().await;

    // The old one can be read, and takes nothing, from nobody.
    assert!(!takes_a_writer(&from).await);
    assert!(takes_a_writer(&to).await);
    for arguments in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["migrate"],
        &["replay"],
        &["keys", "rotate"],
    ] {
        run(crewlog_on(&from, arguments)).refused_with(&["was moved to", "serve from there"]);
    }
    run(crewlog_on(&from, &["verify"])).expect(0);
    run(crewlog_on(&from, &["replay", "--check"])).expect(0);
    refuses_every_change(&from, before.keys()).await;
    assert_same(&before, &everything_in(&from).await, &OWN);
    let again = move_to(&from, &to).expect(0).json();
    assert_eq!(again["was_done"], true, "{again}");
    let elsewhere = empty(StoreKind::Sqlite).await;
    move_to(&from, &elsewhere).refused_with(&["was moved to"]);

    // The new one serves; who was signed in still is, and what is sealed opens.
    bring_the_key(&from, &to);
    held(&to);
    let mut server = Server::start(&to).await;
    let more = json!({"organization": {"name": "Later"}, "workspace": {"name": "Later"}});
    let (person, _) = Person::sign_up_with(&server, "later", more).await;
    server.get("/v1/me").bearer(&person.token).await.expect(200);
    assert!(server.terminate().await.success(), "{}", server.logs());
    held(&to);
    // And back, or on.
    let back = empty(other(to.kind())).await;
    let before = everything_in(&to).await;
    move_to(&to, &back).expect(0);
    assert_same(&before, &everything_in(&back).await, &OWN);
    bring_the_key(&to, &back);
    held(&back);
}

fn is_read_model(table: &str) -> bool {
    table.starts_with("documents_") || table.starts_with("audit_")
}

/// Behind the back of every program, too.
async fn refuses_every_change<'a>(
    store: &StoreUnderTest,
    tables: impl Iterator<Item = &'a String>,
) {
    let opened = open_store(store).await;
    let own = ["access_snapshots", "seals", "projections", "request_rates"];
    for table in tables.filter(|table| !is_read_model(table) && !own.contains(&table.as_str())) {
        let delete = format!("DELETE FROM {table}");
        let statement = crewlog::journal::stores::Statement::new(delete, []);
        let refused = opened.execute(vec![statement]).await;
        let is_empty = opened
            .query(&format!("SELECT 1 FROM {table} LIMIT 1"), vec![])
            .await
            .expect("the table to be read")
            .is_empty();
        assert!(refused.is_err() || is_empty, "{table}: {refused:?}");
    }
    opened.close().await;
}

async fn in_use(store: StoreUnderTest) {
    let folder = empty(StoreKind::Sqlite).await;
    let served = Server::start(&folder).await;
    move_to(&folder, &store).refused_with(&["another crewlog process is writing", "stop it"]);
    served.get("/healthz").await.expect(200);
    drop(served);
    let stop = &["a server is serving from", "stop the servers"];
    let served = Server::start(&store).await;
    let back = empty(StoreKind::Sqlite).await;
    move_to(&store, &back).refused_with(stop);
    move_to(&folder, &store).refused_with(stop);
    served.get("/healthz").await.expect(200);
    drop(served);
    assert!(takes_a_writer(&folder).await && takes_a_writer(&store).await);
}

async fn with_a_person(store: &StoreUnderTest) {
    let mut server = Server::start(store).await;
    let more = json!({"organization": {"name": "Acme"}, "workspace": {"name": "Acme"}});
    Person::sign_up_with(&server, "owner", more).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
}

async fn not_empty(store: StoreUnderTest) {
    let from = empty(StoreKind::Sqlite).await;
    with_a_person(&from).await;
    with_a_person(&store).await;
    let before = everything_in(&store).await;
    move_to(&from, &store).refused_with(&["is not empty", "empty database"]);
    assert_same(&before, &everything_in(&store).await, &[]);
    assert!(takes_a_writer(&from).await && takes_a_writer(&store).await);
    // Half of another move is no target either.
    let third = empty(StoreKind::Sqlite).await;
    with_a_person(&third).await;
    let half = empty(StoreKind::Postgres).await;
    let arguments = ["move", "--to", &target(&half)];
    let mut killed = crewlog_on(&third, &arguments);
    killed.env("CREWLOG_FAIL_POINT", "transfer_filled:1");
    assert_eq!(run(killed).status, None);
    move_to(&from, &half).refused_with(&["another log"]);
    // Nobody serves what is not whole, nor reads it.
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["verify"]] {
        run(crewlog_on(&half, arguments)).refused_with(&["not whole yet", "crewlog move"]);
    }
    move_to(&third, &half).expect(0);
    // With another root key than the store's, nothing is begun.
    let key = from.data_dir().join("root.key");
    std::fs::copy(third.data_dir().join("root.key"), &key).expect("another key");
    let to = empty(StoreKind::Postgres).await;
    move_to(&from, &to).refused_with(&["not the root key"]);
    assert!(takes_a_writer(&from).await);
}

async fn two_places(store: StoreUnderTest) {
    let folder = empty(StoreKind::Sqlite).await;
    run(crewlog_on(&folder, &["move"])).expect(2);
    for to in [
        "nonsense",
        "sqlite:",
        "mysql://root:secret@localhost/crewlog",
    ] {
        let ended = run(crewlog_on(&folder, &["move", "--to", to])).expect(2);
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    }
    let same = target(&folder);
    let ended = run(crewlog_on(&folder, &["move", "--to", &same])).expect(2);
    assert!(ended.stderr.contains("there already"), "{ended:?}");
    move_to(&folder, &store).refused_with(&["crewlog serve"]);
    // The target may come from a file, and its password is told to nobody.
    with_a_person(&folder).await;
    let file = folder.data_dir().join("target");
    std::fs::write(&file, target(&store)).expect("a file");
    let mut command = crewlog_on(&folder, &["move"]);
    command.env("CREWLOG_TO_FILE", &file);
    let ended = run(command).expect(0);
    assert!(ended.stdout.contains("every one was compared"), "{ended:?}");
    let url = reqwest::Url::parse(&target(&store)).expect("a URL");
    let password = url.password().expect("a password");
    assert!(!ended.stdout.contains(password) && !ended.stderr.contains(password));
    let refused = run(crewlog_on(&folder, &["migrate"]));
    assert!(!refused.stderr.contains(password), "{refused:?}");
}
