//! Many who follow one workspace's audit log while it is written: entries that they are handed a
//! second, how late, and what they cost those who write.
//!
//! `cargo bench --bench tails`; writers with and without tails in turn. Entries are made into JSON
//! as the edge does, and dropped: connections are not measured. `TAILS=64,256,512` says how many.
//! Tails that ask the same read together; beside them are as many that each ask something else, so
//! that each reads by itself.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crewlog::{
    api,
    domain::ids::WorkspaceId,
    journal::{Source, SystemSource, sealing::RootKey},
    service::{
        AuditEntry, AuditFilter, AuditScope, Principal, Service, ServiceSettings, TailStep,
        TailsAllowed,
    },
};
use harness::{
    Place, calls, cpu_time, median,
    owner::{Owner, request},
    setting,
};
use support::postgres::{Cluster, Durability};
use tokio::task::JoinHandle;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WRITERS: usize = 32;
const ROUNDS: usize = 3;
/// Entries a second, where they are written at a pace and it is looked how late they come.
const PACE: u64 = 200;

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    let tails = std::env::var("TAILS").unwrap_or_else(|_| "64,256,512".to_owned());
    println!(
        "{WRITERS} writers on one workspace. As fast as they can: commands a second without tails \
         and with them, their ratio, entries handed out a second, and of those that were written. \
         At {PACE} entries a second: how late they are handed out, and processor time of all."
    );
    println!();
    println!(
        "| | without | with | ratio | handed out/s | of what was written | late, ms: p50 (p99) | \
         cores |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for place in Place::both(cluster).await {
        let bench = Bench::on(&place).await;
        for count in tails.split(',') {
            let count = count.trim().parse().expect("TAILS are numbers");
            for apart in [true, false] {
                measure(&bench, place.name, count, apart).await;
            }
        }
    }
}

struct Bench {
    owner: Owner,
    workspace: WorkspaceId,
}

/// What all tails were handed out.
#[derive(Default)]
struct Handed {
    entries: AtomicU64,
    late_ms: std::sync::Mutex<Vec<f64>>,
    is_over: AtomicBool,
}

impl Bench {
    async fn on(place: &Place) -> Self {
        let root = RootKey::generate(&SystemSource);
        let settings = ServiceSettings {
            tails: TailsAllowed {
                all: 4_096,
                of_one: 4_096,
            },
            ..ServiceSettings::default()
        };
        let (store, source) = (place.open().await, Arc::new(SystemSource));
        let service = Service::start(store, source, &root, settings).await;
        let owner = Owner::of(service.expect("Crewlog starts"), 1).await;
        let workspace = owner.workspaces[0];
        Self { owner, workspace }
    }

    /// Begins to follow, so many times; each by itself, where they are to ask something else each.
    async fn follow(&self, count: usize, apart: bool) -> (Arc<Handed>, Vec<JoinHandle<()>>) {
        let handed = Arc::new(Handed::default());
        let mut followers = Vec::with_capacity(count);
        for nth in 0..count {
            let service = self.owner.service.clone();
            let reader = Principal::from(&self.owner.caller);
            let scope = AuditScope::Workspace(self.workspace);
            let filter = AuditFilter {
                // Far beyond what is written here.
                before: apart.then_some((1 << 40) + nth as u64),
                ..AuditFilter::default()
            };
            let shown = |entry: AuditEntry| api::shown_entry(entry).to_string();
            let about = request();
            let tail = service.begin_tail(&about, &reader, scope, (filter, shown), None);
            let mut tail = tail.await.expect("a place");
            let handed = handed.clone();
            followers.push(tokio::spawn(async move {
                while !handed.is_over.load(Ordering::Relaxed) {
                    let next = service.next_of_tail(&mut tail);
                    let Ok(step) = tokio::time::timeout(Duration::from_secs(1), next).await else {
                        continue;
                    };
                    let TailStep::Entry(entry) = step else {
                        panic!("a tail ended: {step:?}");
                    };
                    // What is sent is a copy.
                    std::hint::black_box(entry.shown.clone());
                    let nth = handed.entries.fetch_add(1, Ordering::Relaxed);
                    if nth.is_multiple_of(97) {
                        let shown: serde_json::Value =
                            serde_json::from_str(&entry.shown).expect("JSON");
                        let text = shown["recorded_at"].as_str().expect("a time");
                        let recorded = chrono::DateTime::parse_from_rfc3339(text);
                        let recorded = recorded.expect("a time").timestamp_micros();
                        let late = SystemSource.now().0 - recorded;
                        let mut figures = handed.late_ms.lock().expect("no panic");
                        figures.push(late as f64 / 1e3);
                    }
                }
            }));
        }
        (handed, followers)
    }

    /// Writes as fast as can be; answers commands a second.
    async fn write(&self, seconds: f64) -> f64 {
        let (owner, workspace) = (self.owner.clone(), self.workspace);
        let rename = move |count| {
            let owner = owner.clone();
            async move { owner.rename(workspace, count).await }
        };
        calls(WRITERS, seconds, rename).await.0
    }

    /// Writes so many entries a second.
    async fn write_at_a_pace(&self, seconds: f64) {
        let started = Instant::now();
        let mut count = 0_usize;
        while started.elapsed().as_secs_f64() < seconds {
            self.owner.rename(self.workspace, count).await;
            count += 1;
            let due = Duration::from_secs_f64(count as f64 / PACE as f64);
            tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        }
    }
}

async fn end(handed: &Handed, followers: Vec<JoinHandle<()>>) {
    handed.is_over.store(true, Ordering::Relaxed);
    for follower in followers {
        follower.await.expect("no follower fails");
    }
}

async fn measure(bench: &Bench, name: &str, count: usize, apart: bool) {
    let seconds = setting("CREWLOG_BENCH_SECONDS", 4.0);
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut handed_out, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let bare = bench.write(seconds).await;
        let (handed, followers) = bench.follow(count, apart).await;
        let followed = bench.write(seconds).await;
        let entries = handed.entries.load(Ordering::Relaxed) as f64 / seconds;
        end(&handed, followers).await;
        without.push(bare);
        with.push(followed);
        ratios.push(followed / bare);
        handed_out.push(entries);
        shares.push(entries / (followed * count as f64));
    }
    let (handed, followers) = bench.follow(count, apart).await;
    let (cpu_before, started) = (cpu_time(), Instant::now());
    bench.write_at_a_pace(seconds).await;
    let cores = (cpu_time() - cpu_before).as_secs_f64() / started.elapsed().as_secs_f64();
    end(&handed, followers).await;
    let mut late = std::mem::take(&mut *handed.late_ms.lock().expect("no panic"));
    late.sort_by(f64::total_cmp);
    let how = if apart { "apart" } else { "together" };
    let worst = late.get(late.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    println!(
        "| {name}, {count} {how} | {:.0} | {:.0} | {:.2} | {:.0} | {:.2} | {:.0} ({worst:.0}) | {cores:.2} |",
        median(without),
        median(with),
        median(ratios),
        median(handed_out),
        median(shares),
        median(late),
    );
}
