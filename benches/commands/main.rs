//! Commands a second: Crewlog on both stores, beside the same command built the way a user
//! of plain `cqrs-es` with `postgres-es` or `sqlite-es` would, beside bare single-row commits,
//! and beside bare flushes of the disk.
//!
//! `cargo bench --bench commands` starts a PostgreSQL of its own with default durability,
//! runs all sides in turn, five rounds, and prints medians and ratios. Disks of shared
//! machines change their speed by the second, so only figures of one run compare.
//! `CREWLOG_BENCH_SECONDS` (default 2) is the length of one measurement; `CREWLOG_BENCH_ONLY`
//! names the sides to run alone, for a profiler, and `CREWLOG_BENCH_CALLERS` the callers.

#[path = "../../tests/it/support/mod.rs"]
#[expect(
    dead_code,
    reason = "the bench uses only the throw-away PostgreSQL of it"
)]
mod support;

mod flush;
mod ours;
mod peer;
mod single_row;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};
use support::postgres::{Cluster, Durability};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const STREAMS: usize = 512;
/// Callers, and the number of streams that they share.
const SHAPES: [(usize, usize); 5] = [
    (1, STREAMS),
    (32, STREAMS),
    (256, STREAMS),
    (256, 64),
    (256, 1),
];

/// Where the sides stand that are compared.
const SQLITE: usize = 0;
const POSTGRES: usize = 1;
const POSTGRES_PEER: usize = 2;
const TUNED_PEER: usize = 3;
const SQLITE_PEER: usize = 4;

/// What became of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Done,
    /// The caller was told to try again, as somebody else was quicker.
    Conflict,
}

/// Something that commands are sent to.
trait Side: Send + Sync {
    fn name(&self) -> &'static str;

    /// Changes the name on one of `STREAMS` streams; `count` makes it a new one.
    fn rename(&self, stream: usize, count: u64) -> BoxFuture<'_, Answer>;

    /// A remark after all rounds, where there is one.
    fn remark(&self) -> BoxFuture<'_, Option<String>>;
}

/// One measurement.
#[derive(Clone, Copy)]
struct Figure {
    per_second: f64,
    p50_ms: f64,
    /// Processor time of this process for a command, the callers' included.
    cpu_us: f64,
    conflicts: f64,
}

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut databases = Vec::new();
    for _ in 0..4 {
        databases.push(cluster.database().await.expect("a database can be made"));
    }
    let sides: [Arc<dyn Side>; 7] = [
        Arc::new(ours::Ours::on_sqlite(folder.path()).await),
        Arc::new(ours::Ours::on_postgres(databases[0].url()).await),
        Arc::new(peer::Peer::on_postgres(databases[1].url()).await),
        Arc::new(peer::Peer::on_postgres_tuned(databases[3].url()).await),
        Arc::new(peer::Peer::on_sqlite(folder.path()).await),
        Arc::new(single_row::SingleRow::on_postgres(databases[2].url()).await),
        Arc::new(flush::Flush::in_folder(folder.path())),
    ];
    println!("Commands a second (median wait in ms; processor µs of this process a command).");
    println!();
    let names = sides.iter().map(|side| side.name()).collect::<Vec<_>>();
    println!(
        "| callers, streams | {} | SQLite / sqlite-es | SQLite / postgres-es (not pinging) \
         | PostgreSQL / postgres-es (not pinging) |",
        names.join(" | ")
    );
    println!("|---|{}", "---|".repeat(sides.len() + 3));
    let only = |variable, name: &str| std::env::var(variable).is_ok_and(|only| only != name);
    for (callers, streams) in SHAPES {
        if only("CREWLOG_BENCH_CALLERS", &callers.to_string()) {
            continue;
        }
        let mut figures = vec![Vec::new(); sides.len()];
        for _ in 0..ROUNDS {
            for (side, figures) in sides.iter().zip(&mut figures) {
                if only("CREWLOG_BENCH_ONLY", side.name()) {
                    continue;
                }
                figures.push(measure(side, callers, streams).await);
            }
        }
        print_row(callers, streams, &figures);
    }
    println!();
    for side in &sides {
        if only("CREWLOG_BENCH_ONLY", side.name()) {
            continue;
        }
        if let Some(remark) = side.remark().await {
            println!("{}: {remark}", side.name());
        }
    }
}

fn print_row(callers: usize, streams: usize, figures: &[Vec<Figure>]) {
    let ratio = |side: usize, peer: usize| {
        let pairs = figures[side].iter().zip(&figures[peer]);
        median(pairs.map(|(left, right)| left.per_second / right.per_second))
    };
    let ratios = format!(
        "{:.1} | {:.1} ({:.1}) | {:.1} ({:.1})",
        ratio(SQLITE, SQLITE_PEER),
        ratio(SQLITE, POSTGRES_PEER),
        ratio(SQLITE, TUNED_PEER),
        ratio(POSTGRES, POSTGRES_PEER),
        ratio(POSTGRES, TUNED_PEER)
    );
    let cells: Vec<_> = figures.iter().map(|figures| cell(figures)).collect();
    println!(
        "| {callers}, {streams} | {} | {ratios} |",
        cells.join(" | ")
    );
}

fn cell(figures: &[Figure]) -> String {
    let of = |part: fn(&Figure) -> f64| median(figures.iter().map(part));
    let (per_second, p50_ms) = (of(|figure| figure.per_second), of(|figure| figure.p50_ms));
    let conflicts = of(|figure| figure.conflicts);
    let seen = match conflicts {
        0.0 => String::new(),
        conflicts => format!(", {conflicts:.0} conflicts"),
    };
    format!(
        "{per_second:.0} ({p50_ms:.2}; {:.0}){seen}",
        of(|figure| figure.cpu_us)
    )
}

async fn measure(side: &Arc<dyn Side>, callers: usize, streams: usize) -> Figure {
    let seconds = std::env::var("CREWLOG_BENCH_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let duration = Duration::from_secs_f64(seconds.unwrap_or(2.0));
    let (count, conflicts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (cpu_before, started) = (cpu_time(), Instant::now());
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (side, count, conflicts) = (side.clone(), count.clone(), conflicts.clone());
            tokio::spawn(async move {
                let mut waits = Vec::new();
                let mut turn = caller * 7;
                while started.elapsed() < duration {
                    turn += callers;
                    let asked = Instant::now();
                    let count = count.fetch_add(1, Ordering::Relaxed);
                    match side.rename(turn % streams, count).await {
                        Answer::Done => waits.push(asked.elapsed().as_secs_f64() * 1_000.0),
                        Answer::Conflict => {
                            conflicts.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("no caller fails"));
    }
    Figure {
        per_second: waits.len() as f64 / started.elapsed().as_secs_f64(),
        cpu_us: (cpu_time() - cpu_before).as_secs_f64() * 1e6 / waits.len().max(1) as f64,
        conflicts: conflicts.load(Ordering::Relaxed) as f64,
        p50_ms: median(waits),
    }
}

/// The processor time that this process has taken, callers included.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process knows its own usage");
    let of = |time: TimeVal| Duration::from_micros(time.num_microseconds() as u64);
    of(usage.user_time()) + of(usage.system_time())
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
