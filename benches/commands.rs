//! Commands a second, through the service: authority, decision, entry, leaf, documents,
//! audit index and the durable commit, on both stores in one run.
//!
//! `cargo bench --bench commands` starts a PostgreSQL of its own with default durability,
//! runs both stores in turn, five rounds, and prints medians and the ratio between them.
//! Disks of shared machines change their speed by the second, so only figures of one run
//! compare. Seconds for each measurement: `CREWLOG_BENCH_SECONDS` (default 2).

#[path = "../tests/it/support/mod.rs"]
#[expect(
    dead_code,
    reason = "the bench uses only the throw-away PostgreSQL of it"
)]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crewlog::{
    domain::{EmailAddress, Name, ids::WorkspaceId},
    journal::{
        SystemSource,
        sealing::RootKey,
        stores::{Store, postgres::PostgresStore, sqlite::SqliteStore},
    },
    service::{Caller, Request, Service, ServiceSettings, SignUp},
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};
use support::postgres::{Cluster, Durability};

const ROUNDS: usize = 5;
const STREAMS: usize = 512;
/// Callers, and the number of workspaces that they share.
const SHAPES: [(usize, usize); 5] = [
    (1, STREAMS),
    (32, STREAMS),
    (256, STREAMS),
    (256, 64),
    (256, 1),
];

/// A Crewlog with workspaces to write to.
struct Side {
    name: &'static str,
    service: Arc<Service>,
    caller: Caller,
    workspaces: Vec<WorkspaceId>,
}

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Commands a second, the median wait for one, and what one costs this process.
#[derive(Clone, Copy)]
struct Figure {
    per_second: f64,
    p50_ms: f64,
    cpu_us: f64,
}

/// The processor time that this process has taken, callers included.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process knows its own usage");
    let of = |time: TimeVal| Duration::from_micros(time.num_microseconds() as u64);
    of(usage.user_time()) + of(usage.system_time())
}

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let database = cluster.database().await.expect("a database can be made");
    let postgres = PostgresStore::open(database.url())
        .await
        .expect("PostgreSQL opens");
    let sqlite = SqliteStore::open(folder.path())
        .await
        .expect("SQLite opens");
    let sides = [
        side("SQLite", Arc::new(sqlite)).await,
        side("PostgreSQL", Arc::new(postgres)).await,
    ];
    println!(
        "| callers, workspaces | SQLite a second (p50 ms; CPU µs) | PostgreSQL a second (p50 ms; CPU µs) | SQLite / PostgreSQL |"
    );
    println!("|---|---|---|---|");
    for (callers, streams) in SHAPES {
        let mut figures: [Vec<Figure>; 2] = Default::default();
        for _ in 0..ROUNDS {
            for (side, figures) in sides.iter().zip(&mut figures) {
                figures.push(measure(side, callers, streams).await);
            }
        }
        let ratio = median(
            figures[0]
                .iter()
                .zip(&figures[1])
                .map(|(left, right)| left.per_second / right.per_second),
        );
        let [sqlite, postgres] = figures.map(|figures| {
            let per_second = median(figures.iter().map(|figure| figure.per_second));
            let p50_ms = median(figures.iter().map(|figure| figure.p50_ms));
            let cpu_us = median(figures.iter().map(|figure| figure.cpu_us));
            format!("{per_second:.0} ({p50_ms:.2}; {cpu_us:.0})")
        });
        println!("| {callers}, {streams} | {sqlite} | {postgres} | {ratio:.2} |");
    }
    for side in sides {
        side.service.stop(Duration::from_secs(10)).await;
    }
}

async fn side(name: &'static str, store: Arc<dyn Store>) -> Side {
    let root = RootKey::generate(&SystemSource);
    let service = Service::start(
        store,
        Arc::new(SystemSource),
        &root,
        ServiceSettings::default(),
    )
    .await
    .expect("Crewlog starts");
    let request = Request::default();
    let asked = SignUp {
        email: EmailAddress::parse("bench@example.com").expect("an address"),
        password: "a long enough password".into(),
        name: Name::parse("Bench").expect("a name"),
        organization: Some(Name::parse("Bench").expect("a name")),
        workspace: None,
    };
    let signed_up = service
        .sign_up(&request, asked)
        .await
        .expect("signing up")
        .value;
    let caller = Caller {
        user: signed_up.me.id,
        session: signed_up.session.id,
    };
    let organization = signed_up.organization.expect("it was asked for").id;
    let mut workspaces = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        let name = Name::parse("Workspace").expect("a name");
        let plan = "free".parse().expect("a plan");
        let made = service
            .create_workspace(&request, &caller, organization, name, plan)
            .await;
        workspaces.push(made.expect("a workspace is made").value.id);
    }
    Side {
        name,
        service,
        caller,
        workspaces,
    }
}

async fn measure(side: &Side, callers: usize, streams: usize) -> Figure {
    let seconds = std::env::var("CREWLOG_BENCH_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let duration = Duration::from_secs_f64(seconds.unwrap_or(2.0));
    let done = Arc::new(AtomicU64::new(0));
    let cpu_before = cpu_time();
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|number| {
            let (service, caller) = (side.service.clone(), side.caller.clone());
            let (workspaces, done) = (side.workspaces[..streams].to_vec(), done.clone());
            let name = side.name;
            tokio::spawn(async move {
                let mut waits = Vec::new();
                let mut turn = number * 7;
                while started.elapsed() < duration {
                    turn += callers;
                    let count = done.fetch_add(1, Ordering::Relaxed);
                    let new_name = Name::parse(&format!("Workspace {count}")).expect("a name");
                    let workspace = workspaces[turn % workspaces.len()];
                    let asked = Instant::now();
                    service
                        .rename_workspace(&Request::default(), &caller, workspace, new_name)
                        .await
                        .unwrap_or_else(|error| panic!("{name}: {error}"));
                    waits.push(asked.elapsed().as_secs_f64() * 1_000.0);
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
        cpu_us: (cpu_time() - cpu_before).as_secs_f64() * 1e6 / waits.len() as f64,
        p50_ms: median(waits),
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
