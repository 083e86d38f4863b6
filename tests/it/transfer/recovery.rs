//! The commands of `docs/operating.md`, run as they stand: move, backup, restore, and PostgreSQL's own
//! recovery to a point in time.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::{bring_the_key, empty, other, takes_a_writer, target, text};
use crate::edge::held;
use crate::edge::team::Person;
use crate::support::commands::{crewlog_on, run};
use crate::support::load::Load;
use crate::support::pages::Page;
use crate::support::postgres::{Cluster, Ending};
use crate::support::scratch;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, on, with_cluster};

pub fn trials() -> Vec<Case> {
    vec![
        on(
            &[StoreKind::Postgres],
            "documents",
            "operating_moves_a_store",
            moves,
        ),
        both("documents", "operating_backs_up_and_restores", backs_up),
        with_cluster(
            "documents",
            "operating_recovers_to_a_point_in_time",
            recovers,
        ),
    ]
}

fn page() -> Page {
    Page::read("docs/operating.md")
}

async fn with_a_person(store: &StoreUnderTest) -> Person {
    let mut server = Server::start(store).await;
    let more = json!({"organization": {"name": "Acme"}, "workspace": {"name": "Acme"}});
    let (person, _) = Person::sign_up_with(&server, "owner", more).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    person
}

async fn moves(store: StoreUnderTest) {
    let from = empty(StoreKind::Sqlite).await;
    with_a_person(&from).await;
    let ended = page().run_block_with(&from, "move", &[("TO", &target(&store))]);
    assert!(
        ended.stdout.contains("every one was compared"),
        "{ended:#?}"
    );
    assert!(
        ended.stdout.contains("the log is as it was written"),
        "{ended:#?}"
    );
    assert!(takes_a_writer(&store).await && !takes_a_writer(&from).await);
}

async fn backs_up(store: StoreUnderTest) {
    let person = with_a_person(&store).await;
    let folder = scratch::directory("backups");
    let (backups, to) = (folder.path(), folder.path().join("restored"));
    let settings = [("BACKUPS", &*text(backups)), ("TO", &text(&to))];
    let page = page();
    let server = Server::start(&store).await;
    let ended = page.run_block_with(&store, "backup", &settings);
    assert!(
        ended.stdout.contains("the log is as it was written"),
        "{ended:#?}"
    );
    page.run_block_with(&store, "keys", &settings);
    drop(server);
    let ended = page.run_block_with(&store, "restore", &settings);
    assert!(
        ended.stdout.contains("put the root key there"),
        "{ended:#?}"
    );
    let place = tempfile::TempDir::with_prefix_in("restored-", backups).expect("a folder");
    std::fs::remove_dir(place.path()).expect("an empty folder");
    std::fs::rename(&to, place.path()).expect("the restored store");
    let restored = StoreUnderTest::in_directory(place);
    bring_the_key(&store, &restored);
    held(&restored);
    let server = Server::start(&restored).await;
    person.sign_in(&server).await;
    drop(server);
    // The same on the other kind.
    let elsewhere = empty(other(restored.kind())).await;
    let backup = text(&backups.join("sunday"));
    run(crewlog_on(&elsewhere, &["restore", &backup])).expect(0);
}

async fn recovers(cluster: Cluster) {
    let database = cluster.database().await.expect("a database");
    let url = database.url().to_owned();
    let store = StoreUnderTest::in_database(database);
    let (archive, backups) = (
        text(&cluster.folder("archive")),
        scratch::directory("backups"),
    );
    let settings = [("ARCHIVE", &*archive), ("BACKUPS", &text(backups.path()))];
    let page = page();
    page.run_block_with(&store, "archive", &settings);
    cluster.stop(Ending::Fast);
    cluster.recover();

    // A base backup under load, and more afterwards.
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, u64::from(rand::random::<u32>())).await;
    let clients = load.start(&[server.base_url().to_owned()], 4);
    load.answers(30).await;
    page.run_block_with(&store, "base", &settings);
    load.answers(30).await;
    // What is there before the moment is in what is recovered up to it.
    let at_least = head_of(&server).await;
    let until = now(&url).await;
    load.answers(30).await;
    clients.stop().await;
    load.settle(server.base_url()).await;
    page.run_block_with(&store, "keys", &settings);
    let at_most = head_of(&server).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    archived(&url).await;
    cluster.stop(Ending::Crash);

    for until in ["", &until] {
        let again = cluster.on_files(|data| {
            let data = text(data);
            let more = [("PGDATA", &*data), ("UNTIL", until)];
            page.run_block_with(&store, "recover", &[&settings[..], &more].concat());
        });
        let recovered = StoreUnderTest::in_database(again.adopted(&url));
        bring_the_key(&store, &recovered);
        eventually_writable(&recovered).await;
        page.run_block_with(&recovered, "recovered", &settings);
        let reading = crate::support::journal::reading(&recovered).await;
        let head = crewlog::journal::stores::head(&*reading)
            .await
            .expect("the head")
            .position;
        match until {
            "" => {
                load.check(&*reading).await;
                assert_eq!(head, at_most, "nothing that was archived is missing");
            }
            _ => assert!(
                (at_least..at_most).contains(&head),
                "{at_least} {head} {at_most}"
            ),
        }
        reading.close().await;
        let mut server = Server::start(&recovered).await;
        let more = json!({"organization": {"name": "Later"}, "workspace": {"name": "Later"}});
        Person::sign_up_with(&server, "later", more).await;
        assert!(server.terminate().await.success(), "{}", server.logs());
        held(&recovered);
    }
    // So that its database can be put away.
    cluster.recover();
}

async fn head_of(server: &Server) -> u64 {
    let ready = server.get("/readyz").await.body;
    ready["position"].as_u64().expect("a position")
}

async fn now(url: &str) -> String {
    let mut connection = PgConnection::connect(url).await.expect("the database");
    let now = sqlx::query_scalar("SELECT CAST(clock_timestamp() AS TEXT)");
    now.fetch_one(&mut connection).await.expect("its time")
}

/// Waits until all that was written is in the archive.
async fn archived(url: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the database");
    let last: String = sqlx::query_scalar("SELECT pg_walfile_name(pg_switch_wal())")
        .fetch_one(&mut connection)
        .await
        .expect("a switch");
    for _ in 0..600 {
        let done: Option<String> = sqlx::query_scalar(
            "SELECT last_archived_wal FROM pg_stat_archiver WHERE last_archived_wal >= $1",
        )
        .bind(&last)
        .fetch_optional(&mut connection)
        .await
        .expect("the archiver's state");
        if done.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{last} was not archived");
}

/// Recovery ends a moment after the server answers.
async fn eventually_writable(store: &StoreUnderTest) {
    let url = store.database_url().expect("a database");
    crate::edge::eventually("recovery to end", async || {
        let mut connection = PgConnection::connect(url).await.ok()?;
        let is_over: bool = sqlx::query_scalar("SELECT NOT pg_is_in_recovery()")
            .fetch_one(&mut connection)
            .await
            .ok()?;
        is_over.then_some(())
    })
    .await;
}
