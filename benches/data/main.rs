//! Moving and backing up a store, beside what a copy of its bytes takes: a file copy with its flush on
//! SQLite, and `pg_dump` into a directory on PostgreSQL. Neither of these proves what it has copied.
//!
//! `cargo bench --bench data` writes a log of `CREWLOG_BENCH_EVENTS` events (default 100,000) to both
//! stores, and runs all sides in turn, `CREWLOG_BENCH_ROUNDS` (default 3) times. Then it rotates the root
//! key of stores with as many keys as there were events.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::{
    fs::File,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use crewlog::{
    domain::{ids::WorkspaceId, sealed::KeyOwner},
    journal::{
        Source, SystemSource,
        sealing::{Keyring, RootKey, rotation::Rotation},
        stores::{Store, sqlite::SqliteStore},
    },
    transfer::{Backup, End, Step, backup, move_store, restore},
};
use harness::{Place, median, setting};
use support::postgres::{Cluster, Durability};
use tempfile::TempDir;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

/// Seconds of each round, by what was done.
type Figures = Vec<(&'static str, Vec<f64>)>;

fn note(figures: &mut Figures, side: &'static str, seconds: f64) {
    match figures.iter_mut().find(|(name, _)| *name == side) {
        Some((_, all)) => all.push(seconds),
        None => figures.push((side, vec![seconds])),
    }
}

async fn run(cluster: &Cluster) {
    let events = setting("CREWLOG_BENCH_EVENTS", 100_000.0);
    let places = Place::both(cluster).await;
    for place in &places {
        let store = place.open().await;
        harness::log::fill(store.clone(), events as u64).await;
        store.close().await;
    }
    let mut figures = Figures::new();
    for _ in 0..setting("CREWLOG_BENCH_ROUNDS", 3.0) as usize {
        for place in &places {
            round(cluster, place, &mut figures).await;
        }
    }
    println!("{events:.0} entries:");
    println!();
    println!("| | s | entries/s |");
    println!("|---|---|---|");
    for (side, seconds) in figures {
        let middle = median(seconds);
        println!("| {side} | {middle:.1} | {:.0} |", events / middle);
    }
    println!();
    println!("{events:.0} keys, under another root key:");
    println!();
    println!("| | s | keys/s |");
    println!("|---|---|---|");
    for place in Place::both(cluster).await {
        let seconds = rotated(&place, events as u64).await;
        let rate = events / seconds;
        println!(
            "| {}: rotation of the root key | {seconds:.1} | {rate:.0} |",
            place.name
        );
    }
}

/// How long a rotation takes, for nobody else has the store meanwhile.
async fn rotated(place: &Place, keys: u64) -> f64 {
    let source = Arc::new(SystemSource);
    let (old, new) = (RootKey::generate(&*source), RootKey::generate(&*source));
    let store = place.open().await;
    let keyring = Keyring::open(store.clone(), source.clone(), &old, true).await;
    let keyring = keyring.expect("the keys");
    let owners = (0..keys).map(|_| KeyOwner::Workspace(WorkspaceId::from_uuid(source.uuid())));
    let statements: Vec<_> = owners.map(|owner| keyring.create(owner).1).collect();
    for some in statements.chunks(500) {
        let added = store.execute(some.to_vec()).await;
        added.expect("the keys are kept");
    }
    drop(keyring);
    let started = Instant::now();
    let rotation = Rotation::begin(store.clone(), None, source, &old, &new).await;
    let mut rotation = rotation
        .expect("it begins")
        .expect("it was not done before");
    let mut wrapped = 0;
    while let Some(keys) = rotation.step().await.expect("a step") {
        wrapped += keys;
    }
    let (unopened, _) = rotation.end(vec![]).await.expect("it ends");
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!((wrapped, unopened), (keys, 0));
    store.close().await;
    seconds
}

async fn round(cluster: &Cluster, place: &Place, figures: &mut Figures) {
    let scratch = tempfile::tempdir().expect("a folder can be made");
    let sides = match &place.database {
        None => [
            "file copy",
            "SQLite: backup",
            "SQLite: restore",
            "SQLite to PostgreSQL: move",
        ],
        Some(_) => [
            "pg_dump",
            "PostgreSQL: backup",
            "PostgreSQL: restore",
            "PostgreSQL to SQLite: move",
        ],
    };
    let seconds = match &place.database {
        None => copied(&SqliteStore::file(place.folder.path()), &scratch),
        Some(database) => dumped(database.url(), &scratch),
    };
    note(figures, sides[0], seconds);
    let folder = scratch.path().join("backup");
    note(figures, sides[1], backed_up(place, &folder).await);
    let kept = Backup::open(&folder, |_| {})
        .await
        .expect("the backup is whole");
    let like = empty(cluster, place.database.is_some()).await;
    let (mut to, _kept_to) = end(&like).await;
    let started = Instant::now();
    let restored = restore(&kept, None, &mut to, None, &SystemSource, |_| {}).await;
    restored.expect("it is restored");
    note(figures, sides[2], started.elapsed().as_secs_f64());
    drop(to);
    // A move seals what it leaves: it is measured on what was restored, which is the same.
    let from = empty(cluster, place.database.is_some()).await;
    let (mut source, _kept_from) = end(&from).await;
    let again = restore(&kept, None, &mut source, None, &SystemSource, |_| {}).await;
    again.expect("it is restored");
    let target = empty(cluster, place.database.is_none()).await;
    let (mut target, _kept_target) = end(&target).await;
    let mut steps = Vec::new();
    let told = |step: Step| tell(&mut steps, step);
    let moved = move_store(&mut source, &mut target, None, &SystemSource, told).await;
    let moved = moved.expect("it is moved");
    note(figures, sides[3], moved.elapsed.as_secs_f64());
    for (what, elapsed) in steps {
        eprintln!("{}: {what} {:.1} s", sides[3], elapsed.as_secs_f64());
    }
}

/// How long each step was at its last word.
fn tell(steps: &mut Vec<(&'static str, Duration)>, step: Step) {
    match steps.iter_mut().find(|(what, _)| *what == step.what) {
        Some((_, elapsed)) => *elapsed = step.elapsed,
        None => steps.push((step.what, step.elapsed)),
    }
}

fn copied(file: &Path, scratch: &TempDir) -> f64 {
    let (copy, started) = (scratch.path().join("copy"), Instant::now());
    std::fs::copy(file, &copy).expect("a copy");
    File::open(&copy)
        .and_then(|file| file.sync_all())
        .expect("it is on the disk");
    started.elapsed().as_secs_f64()
}

fn dumped(url: &str, scratch: &TempDir) -> f64 {
    let started = Instant::now();
    let dumped = Command::new("pg_dump")
        .args([
            "--format=directory",
            "--compress=0",
            "--dbname",
            url,
            "--file",
        ])
        .arg(scratch.path().join("dump"))
        .status();
    assert!(dumped.expect("pg_dump starts").success());
    started.elapsed().as_secs_f64()
}

async fn backed_up(place: &Place, folder: &Path) -> f64 {
    let store = place.open().await;
    let made = backup(&*store, place.name, folder, None, &SystemSource, |_| {}).await;
    store.close().await;
    made.expect("a backup is made").elapsed.as_secs_f64()
}

async fn empty(cluster: &Cluster, is_postgres: bool) -> Place {
    let [sqlite, postgres] = Place::both(cluster).await;
    match is_postgres {
        true => postgres,
        false => sqlite,
    }
}

async fn end(place: &Place) -> (End, Arc<dyn Store>) {
    let store = place.open().await;
    let end = End {
        store: store.clone(),
        lock: None,
        name: place.name.to_owned(),
    };
    (end, store)
}
