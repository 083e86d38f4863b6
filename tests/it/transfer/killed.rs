//! Moves, backups and restores that are killed, at chosen places and at any moment, and gone on with.
//!
//! Between two kills the old store is served from and written, as an operator would who has given up
//! for the day. At no moment do two stores take a writer, and in the end nothing is missing.

use std::time::Duration;

use super::{
    assert_same, bring_the_key, empty, everything_in, move_to, takes_a_writer, target, text,
};
use crate::faults::check_all;
use crate::projections::assert_store_is_its_log;
use crate::support::commands::{Ended, crewlog_on, killed_after, run};
use crate::support::journal::reading;
use crate::support::load::Load;
use crate::support::scratch;
use crate::support::server::Server;
use crate::support::trials::{Case, FAULT_ROUNDS, StoreKind, StoreUnderTest, both, on, rounds};

const WITH_BOTH: &[StoreKind] = &[StoreKind::Postgres];

pub fn trials() -> Vec<Case> {
    vec![
        on(
            WITH_BOTH,
            "transfer",
            "a_killed_move_to_postgres_goes_on",
            async |store| {
                moved(empty(StoreKind::Sqlite).await, store).await;
            },
        ),
        on(
            WITH_BOTH,
            "transfer",
            "a_killed_move_to_sqlite_goes_on",
            async |store| {
                moved(store, empty(StoreKind::Sqlite).await).await;
            },
        ),
        on(
            WITH_BOTH,
            "transfer",
            "a_move_that_dies_at_a_place_goes_on",
            places,
        ),
        both("transfer", "a_killed_backup_goes_on_under_load", backed_up),
        both("transfer", "a_killed_restore_goes_on", restored),
    ]
}

/// How a kill comes.
enum Kill<'a> {
    /// After a while.
    After(Duration),
    /// At a place, the so many-th time.
    At(&'a str, usize),
}

impl Kill<'_> {
    /// Whether what it ends is surely not whole: at some moment it may be, and about to say so.
    fn is_amid(&self) -> bool {
        matches!(self, Self::At(..))
    }
}

/// Runs a command, and kills it; none where it ended by itself before.
fn killed(mut command: std::process::Command, kill: &Kill<'_>) -> Option<Ended> {
    match *kill {
        Kill::At(place, time) => {
            command.env("CREWLOG_FAIL_POINT", format!("{place}:{time}"));
            let ended = run(command);
            ended.status.is_some().then_some(ended)
        }
        Kill::After(time) => killed_after(command, time),
    }
}

fn seed() -> u64 {
    u64::from(rand::random::<u32>())
}

/// A store with a load's entries on it, and the load; nobody serves it.
async fn loaded(store: &StoreUnderTest, answers: usize) -> std::sync::Arc<Load> {
    let mut server = Server::start(store).await;
    let load = Load::begin(&server, 3, seed()).await;
    work(&server, &load, answers).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    load
}

async fn work(server: &Server, load: &std::sync::Arc<Load>, answers: usize) {
    let clients = load.start(&[server.base_url().to_owned()], 6);
    load.answers(answers).await;
    clients.stop().await;
    load.settle(server.base_url()).await;
}

/// That at most one of them takes a writer; which.
async fn at_most_one(from: &StoreUnderTest, to: &StoreUnderTest) -> Option<bool> {
    // What was never opened is no store.
    let to_takes = match to.kind() {
        StoreKind::Sqlite if !to.data_dir().join("crewlog.sqlite").exists() => false,
        _ => began(to).await && takes_a_writer(to).await,
    };
    let from_takes = takes_a_writer(from).await;
    assert!(!(from_takes && to_takes), "both take a writer");
    match (from_takes, to_takes) {
        (true, false) => Some(false),
        (false, true) => Some(true),
        _ => None,
    }
}

/// Whether the target has been marked: before, it is empty, and nobody's.
async fn began(to: &StoreUnderTest) -> bool {
    let Ok(store) = opened_for_reading(to).await else {
        return false;
    };
    let seal = crewlog::journal::stores::seal_of(&*store).await;
    store.close().await;
    matches!(seal, Ok(Some(_)))
}

async fn opened_for_reading(
    store: &StoreUnderTest,
) -> Result<std::sync::Arc<dyn crewlog::journal::stores::Store>, crewlog::journal::stores::StoreError>
{
    use crewlog::journal::stores::{postgres::PostgresStore, sqlite::SqliteStore};
    Ok(match store.database_url() {
        Some(url) => std::sync::Arc::new(PostgresStore::open_for_reading(url).await?),
        None => std::sync::Arc::new(SqliteStore::open_for_reading(store.data_dir()).await?),
    })
}

/// Moves are killed until one is whole, and begun anew on other stores, until there were enough.
async fn moved(from: StoreUnderTest, to: StoreUnderTest) {
    let (of, into) = (from.kind(), to.kind());
    let mut kills = moved_once(from, to).await;
    while kills < rounds(FAULT_ROUNDS, 1) {
        kills += moved_once(empty(of).await, empty(into).await).await;
    }
    println!("moved from {of:?}: {kills} kills");
}

async fn moved_once(from: StoreUnderTest, to: StoreUnderTest) -> usize {
    let load = loaded(&from, 400).await;
    let arguments = ["move", "--to", &target(&to)];
    let (mut kills, mut longest) = (0, 600);
    for round in 0..rounds(FAULT_ROUNDS, 5) {
        let kill = match round % 5 {
            0 => Kill::At("transfer_carried", 1 + load.below(3)),
            1 => Kill::At("transfer_filled", 1),
            2 => Kill::At("transfer_proven", 1),
            _ => Kill::After(Duration::from_millis(20 + load.below(longest) as u64)),
        };
        let ended = killed(crewlog_on(&from, &arguments), &kill);
        let writable = at_most_one(&from, &to).await;
        match ended {
            None => kills += 1,
            Some(ended) => {
                assert_eq!(ended.status, Some(0), "{ended:?}");
                assert_eq!(writable, Some(true));
            }
        }
        longest += 50;
        if writable != Some(false) {
            break;
        }
        if round % 5 == 4 {
            // Given up for today: what comes now must not be missing in the end.
            let mut server = Server::start(&from).await;
            work(&server, &load, 20).await;
            assert!(server.terminate().await.success(), "{}", server.logs());
        }
    }
    if at_most_one(&from, &to).await == Some(false) {
        kills += 1;
        let sealed = killed(
            crewlog_on(&from, &arguments),
            &Kill::At("transfer_sealed", 1),
        );
        assert!(sealed.is_none(), "{sealed:?}");
        assert_eq!(at_most_one(&from, &to).await, None);
    }
    let before = everything_in(&from).await;
    move_to(&from, &to).expect(0);
    assert_eq!(at_most_one(&from, &to).await, Some(true));
    assert_same(&before, &everything_in(&to).await, &super::moves::OWN);
    bring_the_key(&from, &to);
    let mut server = Server::start(&to).await;
    work(&server, &load, 30).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check_all(&to, &load).await;
    println!("moved from {:?}: {kills} kills, {figures:?}", from.kind());
    assert!(kills > 0, "it was killed at least once");
    kills
}

async fn places(store: StoreUnderTest) {
    let from = empty(StoreKind::Sqlite).await;
    let load = loaded(&from, 60).await;
    let arguments = ["move", "--to", &target(&store)];
    for (place, takes) in [
        ("transfer_carried", Some(false)),
        ("transfer_filled", Some(false)),
        ("transfer_proven", Some(false)),
        ("transfer_sealed", None),
        ("transfer_opened", Some(true)),
    ] {
        let ended = killed(crewlog_on(&from, &arguments), &Kill::At(place, 1));
        assert!(ended.is_none(), "{place}: {ended:?}");
        assert_eq!(at_most_one(&from, &store).await, takes, "{place}");
        let refused = match takes {
            Some(false) => &["not whole yet"][..],
            None => &["not whole yet"],
            Some(true) => continue,
        };
        run(crewlog_on(&store, &["serve", "--listen", "127.0.0.1:0"])).refused_with(refused);
        if takes.is_none() {
            run(crewlog_on(&from, &["serve", "--listen", "127.0.0.1:0"]))
                .refused_with(&["was moved to"]);
        }
    }
    let again = move_to(&from, &store).expect(0).json();
    assert_eq!(again["was_done"], true, "{again}");
    bring_the_key(&from, &store);
    check_all(&store, &load).await;
}

async fn backed_up(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 3, seed()).await;
    work(&server, &load, 150).await;
    let folder = scratch::directory("backups");
    let backup = folder.path().join("backup");
    let arguments = ["backup", "--json", &text(&backup)];
    let clients = load.start(&[server.base_url().to_owned()], 4);
    let (rounds, mut kills) = (rounds(FAULT_ROUNDS, 4), 0);
    for round in 0..rounds {
        let kill = match round % 4 {
            0 => Kill::At("transfer_carried", 1 + load.below(3)),
            1 => Kill::At("transfer_proven", 1),
            _ => Kill::After(Duration::from_millis(20 + load.below(1_200) as u64)),
        };
        match killed(crewlog_on(&store, &arguments), &kill) {
            None => {
                kills += 1;
                let is_named = backup.exists();
                assert!(
                    !(is_named && kill.is_amid()),
                    "it has its name once it is whole"
                );
            }
            Some(ended) => {
                assert_eq!(ended.status, Some(0), "{ended:?}");
                assert!(backup.exists());
            }
        }
        // Also where the kill came behind that.
        if backup.exists() {
            let to = empty(super::other(store.kind())).await;
            run(crewlog_on(&to, &["restore", &text(&backup)])).expect(0);
            std::fs::remove_dir_all(&backup).expect("the backup to be removed");
        }
        load.answers(5).await;
    }
    let answered = head_of(&server).await;
    let made = run(crewlog_on(&store, &arguments)).expect(0).json();
    clients.stop().await;
    load.settle(server.base_url()).await;
    let position = made["manifest"]["position"].as_u64().expect("a position");
    assert!(position >= answered, "what was answered before is in it");
    assert!(server.terminate().await.success(), "{}", server.logs());
    let leftover = std::fs::read_dir(folder.path())
        .expect("the folder")
        .count();
    assert_eq!(leftover, 1, "nothing unfinished is left");

    let to = empty(super::other(store.kind())).await;
    let done = run(crewlog_on(&to, &["restore", "--json", &text(&backup)]))
        .expect(0)
        .json();
    assert_eq!(done["position"], position);
    assert_eq!(done["root"], made["manifest"]["root"]);
    bring_the_key(&store, &to);
    is_a_beginning_of(&to, &store, position).await;
    println!(
        "backed up {:?}: {kills} kills, position {position}",
        store.kind()
    );
}

async fn head_of(server: &Server) -> u64 {
    let ready = server.get("/readyz").await.body;
    ready["position"].as_u64().expect("a position")
}

/// That a store is another's beginning, whole in itself.
async fn is_a_beginning_of(store: &StoreUnderTest, whole: &StoreUnderTest, position: u64) {
    let (left, right) = (reading(store).await, reading(whole).await);
    let beginning = crate::support::ledger::verify(&*left).await;
    let all = crate::support::ledger::verify(&*right).await;
    assert_eq!(beginning.len() as u64, position);
    assert!(beginning[..] == all[..beginning.len()], "the same entries");
    assert_store_is_its_log(&*left).await;
    left.close().await;
    right.close().await;
    run(crewlog_on(store, &["verify"])).expect(0);
    run(crewlog_on(store, &["replay", "--check"])).expect(0);
}

/// Restores are killed until one is whole, and begun anew on another store, until there were enough.
async fn restored(store: StoreUnderTest) {
    let kind = store.kind();
    let from = empty(super::other(kind)).await;
    let load = loaded(&from, 200).await;
    let folder = scratch::directory("backups");
    let backup = text(&folder.path().join("backup"));
    let made = run(crewlog_on(&from, &["backup", "--json", &backup]))
        .expect(0)
        .json();
    let position = made["manifest"]["position"].as_u64().expect("a position");
    let (mut kills, mut to) = (0, store);
    loop {
        bring_the_key(&from, &to);
        kills += restored_to(&to, &backup, &load).await;
        is_a_beginning_of(&to, &from, position).await;
        check_all(&to, &load).await;
        // It is a store that is in use now: nothing is restored over it.
        run(crewlog_on(&to, &["restore", "--json", &backup])).refused_with(&["is not empty"]);
        if kills >= rounds(FAULT_ROUNDS, 3) {
            break;
        }
        to = empty(kind).await;
    }
    println!("restored to {kind:?}: {kills} kills");
}

/// Restores a backup, killed at each place and then at some moment; how often it was killed.
async fn restored_to(to: &StoreUnderTest, backup: &str, load: &Load) -> usize {
    let arguments = ["restore", "--json", backup];
    let moment = Duration::from_millis(20 + load.below(1_200) as u64);
    let mut kills = 0;
    for kill in [
        Kill::At("transfer_carried", 1 + load.below(3)),
        Kill::At("transfer_filled", 1),
        Kill::At("transfer_proven", 1),
        Kill::After(moment),
    ] {
        let ended = killed(crewlog_on(to, &arguments), &kill);
        let takes = began(to).await && takes_a_writer(to).await;
        match ended {
            None => {
                kills += 1;
                assert!(!(takes && kill.is_amid()), "it is not whole");
            }
            Some(ended) => {
                assert_eq!(ended.status, Some(0), "{ended:?}");
                assert!(takes, "it is whole");
            }
        }
        if takes {
            return kills;
        }
    }
    run(crewlog_on(to, &arguments)).expect(0);
    kills
}
