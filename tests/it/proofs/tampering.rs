//! Random changes of exports and of the database: each is found, and where it is said; what was
//! not changed always holds.

use std::sync::Arc;

use crewlog::journal::stores::Store;
use crewlog::journal::stores::sqlite::SqliteStore;
use crewlog::service::VerifyReport;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rusqlite::Connection;

use super::exports::{exported, verify};
use super::log::{checkpoint_of, verifiers, with_entries};
use crate::edge::team::Team;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, on, rounds};

/// How many rounds the long form has: `CREWLOG_TAMPER_ROUNDS`.
const ROUNDS: &str = "CREWLOG_TAMPER_ROUNDS";

pub fn trials() -> Vec<Case> {
    vec![
        both("proofs", "a_changed_export_is_found_out", exports),
        on(
            &[StoreKind::Sqlite],
            "proofs",
            "a_changed_database_is_found_out",
            databases,
        ),
    ]
}

/// Where an entry's line is, and the position that it is of.
fn entries_of(lines: &[Vec<u8>]) -> Vec<(usize, u64)> {
    let position = |line: &[u8]| {
        let line: serde_json::Value = serde_json::from_slice(line).ok()?;
        line["entry"]["position"].as_u64()
    };
    let placed = lines.iter().enumerate();
    placed
        .filter_map(|(place, line)| Some((place, position(line)?)))
        .collect()
}

async fn exports(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    let team = Team::make(&server).await;
    let [key] = &verifiers(&server).await[..] else {
        panic!("one key");
    };
    let mut random = StdRng::seed_from_u64(8);
    for (path, complete) in [
        (team.path("/audit/export"), true),
        (team.path("/audit/export?outcome=ok"), false),
    ] {
        let export = exported(&server, &path, &team.owner.token).await;
        let honest: Vec<Vec<u8>> = export
            .split_inclusive('\n')
            .map(|line| line.as_bytes().to_vec())
            .collect();
        let entries = entries_of(&honest);
        assert!(entries.len() > 12, "{}", entries.len());
        for round in 0..rounds(ROUNDS, 250) {
            let mut lines = honest.clone();
            let pick = |random: &mut StdRng| entries[random.gen_range(0..entries.len())];
            let (place, position) = pick(&mut random);
            let (what, named) = match round % 5 {
                0 => {
                    let byte = random.gen_range(0..lines[place].len() - 1);
                    lines[place][byte] ^= 1 << random.gen_range(0..7);
                    ("flipped a bit", vec![position])
                }
                1 => {
                    lines.remove(place);
                    ("removed an entry", vec![position])
                }
                2 => {
                    let (other, _) = pick(&mut random);
                    let again = lines[place].clone();
                    lines.insert(other, again);
                    ("added an entry again", vec![position])
                }
                3 => {
                    let (other, moved) = pick(&mut random);
                    if other == place {
                        continue;
                    }
                    lines.swap(place, other);
                    ("swapped two entries", vec![position, moved])
                }
                _ => {
                    let (first, _) = entries[entries.len() - 10];
                    let last = entries[entries.len() - 1].0;
                    lines.drain(first..=last);
                    let cut = entries[entries.len() - 10..].iter();
                    (
                        "cut the last ten off",
                        cut.map(|(_, position)| *position).collect(),
                    )
                }
            };
            let report = verify(&lines.concat(), None, key);
            assert!(!report.holds(), "{what}, round {round}");
            let line = Some(place as u64 + 1);
            let is_named = report.failures.iter().any(|failure| {
                failure
                    .position
                    .is_some_and(|position| named.contains(&position))
                    || failure.line == line
            });
            assert!(
                is_named,
                "{what} at {named:?} of {path}, round {round}: {report:#?}"
            );
        }
        assert!(verify(export.as_bytes(), None, key).holds());
        // Cut off with the end, too: at any byte.
        for _ in 0..20 {
            let bytes = random.gen_range(0..export.len() - 1);
            let report = verify(&export.as_bytes()[..bytes], None, key);
            assert!(!report.holds(), "cut at byte {bytes}");
        }
        // An entry taken out with all that proves it here, the statement aside.
        if complete {
            let mut lines = honest.clone();
            lines.remove(entries[5].0);
            let report = verify(&lines.concat(), None, key);
            let chain = |detail: &str| detail.contains("of its workspace");
            assert!(
                report.failures.iter().any(|failure| chain(&failure.detail)),
                "{report:#?}"
            );
        }
    }
    assert!(checkpoint_of(&server, 1).await.size > 1);
}

async fn verified(folder: &std::path::Path) -> VerifyReport {
    let store: Arc<dyn Store> = Arc::new(
        SqliteStore::open_for_reading(folder)
            .await
            .expect("the store"),
    );
    let report = crewlog::service::verify(&*store, None, |_| {}).await;
    report.expect("the store is read")
}

async fn databases(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    // A full tile, and more.
    with_entries(&server, 290).await;
    checkpoint_of(&server, 290).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let file = store.data_dir().join("crewlog.sqlite");
    {
        let connection = Connection::open(&file).expect("the store's file");
        let whole = "PRAGMA wal_checkpoint(TRUNCATE);
            DROP TRIGGER events_are_never_changed; DROP TRIGGER events_are_never_removed;
            DROP TRIGGER events_are_never_replaced; PRAGMA journal_mode = DELETE;";
        connection.execute_batch(whole).expect("one file");
    }
    let honest = std::fs::read(&file).expect("the file");
    let report = verified(store.data_dir()).await;
    assert!(
        report.holds() && report.tiles == 1 && report.checkpoints > 0,
        "{report:#?}"
    );
    let count = report.entries;
    let mut random = StdRng::seed_from_u64(9);
    for round in 0..rounds(ROUNDS, 100) {
        std::fs::write(&file, &honest).expect("the file");
        let position = random.gen_range(2..count);
        let other = 1 + position % (count - 1);
        let change = match round % 8 {
            0 => format!("UPDATE events SET salt = randomblob(32) WHERE position = {position}"),
            1 => format!("UPDATE events SET payload = payload || ' ' WHERE position = {position}"),
            2 => format!("UPDATE events SET leaf = randomblob(32) WHERE position = {position}"),
            3 => format!("UPDATE events SET recorded_at = recorded_at - 1 WHERE position = {position}"),
            4 => format!("DELETE FROM events WHERE position = {position}"),
            5 => format!(
                "CREATE TEMP TABLE kept AS SELECT metadata, salt, leaf FROM events WHERE position = {position};
                 UPDATE events SET (metadata, salt, leaf) =
                    (SELECT metadata, salt, leaf FROM events WHERE position = {other}) WHERE position = {position};
                 UPDATE events SET (metadata, salt, leaf) = (SELECT metadata, salt, leaf FROM kept) WHERE position = {other}"
            ),
            6 => format!("DELETE FROM events WHERE position > {position}"),
            _ => format!(
                "INSERT INTO events SELECT aggregate_type, 'usr_forged', 1, event_type, event_version, payload,
                    metadata, {count} + 1, id, recorded_at, batch, 'usr_forged', 1, NULL, salt, leaf
                   FROM events WHERE position = {position}"
            ),
        };
        {
            let connection = Connection::open(&file).expect("the store's file");
            connection
                .execute_batch(&change)
                .unwrap_or_else(|error| panic!("{change}: {error}"));
        }
        let report = verified(store.data_dir()).await;
        // What is beyond the head is not of the log: nobody is told of it.
        if round % 8 == 7 {
            assert_eq!(report.entries, count, "{change}");
            continue;
        }
        assert!(!report.holds(), "{change}");
        let named = [position, position + 1, other];
        let is_named = report.failures.iter().any(|failure| {
            failure
                .position
                .is_some_and(|position| named.contains(&position))
        });
        assert!(is_named, "{change}: {report:#?}");
    }
    // The tree's own copies: a tile, its root, a checkpoint.
    for change in [
        "UPDATE tiles SET hashes = zeroblob(8192)",
        "UPDATE tiles SET root = zeroblob(32)",
        "DELETE FROM tiles",
        "UPDATE checkpoints SET note = replace(note, 'crewlog/', 'another/')",
        "UPDATE checkpoints SET size = size - 1",
    ] {
        std::fs::write(&file, &honest).expect("the file");
        let connection = Connection::open(&file).expect("the store's file");
        connection.execute_batch(change).expect(change);
        drop(connection);
        let report = verified(store.data_dir()).await;
        assert!(!report.holds(), "{change}");
    }
    std::fs::write(&file, &honest).expect("the file");
    assert!(verified(store.data_dir()).await.holds());
}
