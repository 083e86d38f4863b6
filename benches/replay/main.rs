//! Events a second through everything that reads the whole log, beside a bare scan: one
//! statement that reads the rows and columns that replay needs, and decodes them.
//!
//! `cargo bench --bench replay` writes a log of `CREWLOG_BENCH_EVENTS` events (default
//! 100,000) to a SQLite file and to a PostgreSQL of its own, and runs all sides in turn,
//! `CREWLOG_BENCH_ROUNDS` (default 5) times. `CREWLOG_BENCH_ONLY` names a side to run alone,
//! for a profiler. Then it starts the program on an empty log and on this one, and looks at how long
//! that takes and how much memory it holds; and at what a rebuild under way costs those who write
//! (`CREWLOG_BENCH_SECONDS` a side and round, default 5).

mod beside;
#[path = "../harness/mod.rs"]
mod harness;
mod peer;
mod scan;
mod startup;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::sync::Arc;

use crewlog::{
    journal::stores::Store,
    projections::{self, Pace, Projections, Rebuild},
    service,
};
use futures::future::BoxFuture;
use harness::{Place, Taken, median, setting, taken};
use support::postgres::{Cluster, Durability};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reads the whole log in some way; answers how many events it has read.
type Side = Box<dyn Fn() -> BoxFuture<'static, u64>>;

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    let events = setting("CREWLOG_BENCH_EVENTS", 100_000.0) as u64;
    let places = Place::both(cluster).await;
    for place in &places {
        let store = place.open().await;
        harness::log::fill(store.clone(), events).await;
        compare(place, &store).await;
        store.close().await;
    }
    println!();
    // Before anybody with a root key of their own has been there.
    startup::measure(cluster, &places).await;
    for place in &places {
        let store = place.open().await;
        beside::measure(place, &store).await;
        store.close().await;
    }
}

async fn compare(place: &Place, store: &Arc<dyn Store>) {
    let mut sides = sides(place, store).await;
    if let Ok(only) = std::env::var("CREWLOG_BENCH_ONLY") {
        sides.retain(|(name, _)| name.contains(&only));
    }
    let mut figures = vec![Vec::new(); sides.len()];
    let mut events = 0;
    for _ in 0..setting("CREWLOG_BENCH_ROUNDS", 5.0) as usize {
        for ((_, side), figures) in sides.iter().zip(&mut figures) {
            let (taken, read) = taken(side()).await;
            events = read.max(events);
            figures.push(taken);
        }
    }
    println!();
    println!("{}, {events} events:", place.name);
    println!();
    println!("| | events/s | of the bare scan | processor time, bare scan = 1 |");
    println!("|---|---|---|---|");
    for ((name, _), of_side) in sides.iter().zip(&figures) {
        let ratio = |part: fn(&Taken) -> f64| {
            let pairs = figures[0].iter().zip(of_side);
            median(pairs.map(|(scan, side)| part(side) / part(scan)))
        };
        println!(
            "| {name} | {:.0} | {:.2} | {:.1} |",
            events as f64 / median(of_side.iter().map(|taken| taken.seconds)),
            1.0 / ratio(|taken| taken.seconds),
            ratio(|taken| taken.cpu_seconds),
        );
    }
}

async fn sides(place: &Place, store: &Arc<dyn Store>) -> Vec<(&'static str, Side)> {
    fn side(
        store: &Arc<dyn Store>,
        work: impl Fn(Arc<dyn Store>) -> BoxFuture<'static, u64> + 'static,
    ) -> Side {
        let store = store.clone();
        Box::new(move || work(store.clone()))
    }
    let (scan, peer) = match &place.database {
        None => (
            scan::sqlite(place.folder.path()),
            peer::sqlite(place.folder.path()).await,
        ),
        Some(database) => (
            scan::postgres(database.url()).await,
            peer::postgres(database.url()).await,
        ),
    };
    vec![
        ("bare scan, typed", scan),
        (
            "fold, nothing written",
            side(store, |store| {
                Box::pin(async move {
                    let folded = projections::fold_all(&*store, |_| {}).await;
                    folded.expect("the log folds")
                })
            }),
        ),
        (
            "`replay` (everything rebuilt)",
            side(store, |store| {
                Box::pin(async move {
                    // As the command does where no server runs.
                    let pace = Pace {
                        is_alone: true,
                        ..Pace::default()
                    };
                    let (names, all) = (projections::names(), Projections::default());
                    let rebuild = Rebuild::begin(&*store, &all, &names, pace).await;
                    let rebuild = rebuild.expect("nothing else is under way");
                    let rebuilt = rebuild.run(&*store, &mut |_| {}).await;
                    rebuilt.expect("it is rebuilt").position
                })
            }),
        ),
        (
            "`replay --check`",
            side(store, |store| {
                Box::pin(async move {
                    let scratch = tempfile::tempdir().expect("a folder can be made");
                    let report = projections::check(&*store, scratch.path(), |_| {}).await;
                    let report = report.expect("it is checked");
                    assert_eq!(report.differing, 0, "{:?}", report.differences);
                    report.position
                })
            }),
        ),
        (
            "`verify`",
            side(store, |store| {
                Box::pin(async move {
                    let report = service::verify(&*store, None, |_| {})
                        .await
                        .expect("it is read");
                    assert!(report.holds(), "{:?}", report.failures);
                    report.entries
                })
            }),
        ),
        ("the peer's `QueryReplay`", peer),
    ]
}
