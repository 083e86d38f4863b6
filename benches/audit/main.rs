//! The audit log at one and at ten million events: what each filter takes, on its first page and on
//! its thousandth; who had access; exports, proofs, the start of a server, and what it all takes on
//! the disk.
//!
//! `cargo bench --bench audit`; `AUDIT_EVENTS=1000000,10000000` says at which sizes, and
//! `AUDIT_STORES=sqlite,postgresql` on which stores. A log is filled by real appends of real
//! entries (see [`world`]), then everything that is folded of it is rebuilt, as `crewlog replay`
//! does. It grows from one size to the next, so that the same workspaces are asked. What is large is
//! told as a multiple of what it was at the first size.

#[path = "../harness/mod.rs"]
mod harness;
mod questions;
mod space;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;
mod whole;
mod world;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use crewlog::{
    domain::Timestamp,
    journal::{
        Source, SystemSource,
        sealing::{Keyring, RootKey},
        stores::{Statement, Store, StoreKind},
    },
    projections,
    service::{Service, ServiceSettings},
};
use harness::{Place, owner::Owner};
use support::postgres::{Cluster, Durability};
use world::{Desk, World};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

/// A clock that is so many days behind, so that there is time for what happens until now.
#[derive(Debug)]
struct Earlier(i64);

impl Source for Earlier {
    fn now(&self) -> Timestamp {
        SystemSource.now().plus(-TimeDelta::days(self.0))
    }

    fn fill(&self, bytes: &mut [u8]) {
        SystemSource.fill(bytes);
    }
}

/// What was measured, at each size: a name, and its figures.
#[derive(Default)]
pub struct Told {
    rows: Vec<(String, Vec<Figure>)>,
}

/// What something took, in ms; of how many calls.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub p50: f64,
    pub p99: f64,
}

impl Told {
    pub fn add(&mut self, name: impl Into<String>, mut taken_ms: Vec<f64>) {
        let name = name.into();
        taken_ms.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (taken_ms.len() as f64 * share) as usize;
            taken_ms
                .get(index.min(taken_ms.len().saturating_sub(1)))
                .copied()
                .unwrap_or(f64::NAN)
        };
        let figure = Figure {
            p50: at(0.5),
            p99: at(0.99),
        };
        // The tables come at the end, an hour later.
        eprintln!("{name}: {:.2} ({:.2}) ms", figure.p50, figure.p99);
        match self.rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, figures)) => figures.push(figure),
            None => self.rows.push((name, vec![figure])),
        }
    }

    fn print(&self, sizes: &[u64]) {
        let head: Vec<_> = sizes
            .iter()
            .map(|size| format!("{size}: p50 (p99), ms"))
            .collect();
        println!("| | {} | largest / first |", head.join(" | "));
        println!("|---|{}---|", "---|".repeat(sizes.len()));
        for (name, figures) in &self.rows {
            let cells: Vec<_> = figures
                .iter()
                .map(|figure| format!("{:.2} ({:.2})", figure.p50, figure.p99))
                .collect();
            let ratio = match (figures.first(), figures.last()) {
                (Some(first), Some(last)) => last.p50 / first.p50,
                (None, _) | (_, None) => f64::NAN,
            };
            println!("| {name} | {} | {ratio:.2} |", cells.join(" | "));
        }
        println!();
    }
}

async fn run(cluster: &Cluster) {
    let sizes = std::env::var("AUDIT_EVENTS").unwrap_or_else(|_| "100000".to_owned());
    let sizes: Vec<u64> = sizes
        .split(',')
        .map(|size| size.trim().parse().expect("AUDIT_EVENTS are numbers"))
        .collect();
    let stores = std::env::var("AUDIT_STORES").unwrap_or_else(|_| "sqlite,postgresql".to_owned());
    for place in Place::both(cluster).await {
        if stores.contains(&place.name.to_lowercase()) {
            measure(&place, &sizes).await;
        }
    }
}

/// A log that grows, with somebody who may ask about a part of it.
pub struct Bench {
    pub store: Arc<dyn Store>,
    pub owner: Owner,
}

async fn serve(store: Arc<dyn Store>, source: Arc<dyn Source>, root: &RootKey) -> Arc<Service> {
    let started = Service::start(store, source, root, ServiceSettings::default()).await;
    started.expect("Crewlog starts")
}

async fn measure(place: &Place, sizes: &[u64]) {
    let root = RootKey::generate(&SystemSource);
    let behind = |nth: usize| Arc::new(Earlier((sizes.len() - nth) as i64));
    let early = serve(place.open().await, behind(0), &root).await;
    let owner = Owner::of(early, 3).await;
    let mut owner = owner.outlive(STOP).await;
    let mut world = World::new();
    let mut told = Told::default();
    for (nth, size) in sizes.iter().enumerate() {
        // One service after the other, and none of a store that another one has closed.
        let store = place.open().await;
        let keyring = Keyring::open(store.clone(), Arc::new(SystemSource), &root, true).await;
        let desk = Desk {
            store: store.clone(),
            keyring: keyring.expect("the keys"),
        };
        let until = behind(nth + 1).now().plus(-TimeDelta::hours(1));
        fill(&mut world, &desk, place.name, *size, (until, &owner)).await;
        drop(desk);
        store.close().await;
        drop(store);
        let starts = starts(place, behind(nth + 1), &root).await;
        told.add("the start of a server, until it serves", starts);
        let store = place.open().await;
        let service = serve(store.clone(), behind(nth + 1), &root).await;
        let bench = Bench {
            store: store.clone(),
            owner: owner.at(service),
        };
        questions::measure(&bench, &world, &mut told).await;
        whole::measure(&bench, &world, place, &mut told).await;
        space::measure(place, *size).await;
        println!("{}, up to {size} events:", place.name);
        println!();
        told.print(&sizes[..=nth]);
        owner = bench.owner.outlive(STOP).await;
    }
}

const STARTS: usize = 5;

/// What opening the store and starting the service on it takes, in ms.
async fn starts(place: &Place, source: Arc<dyn Source>, root: &RootKey) -> Vec<f64> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        // Waits until whoever had it has let go.
        place.open().await.close().await;
        let started = Instant::now();
        let service = serve(place.open().await, source.clone(), root).await;
        starts.push(started.elapsed().as_secs_f64() * 1e3);
        assert!(service.stop(STOP).await, "it stops");
    }
    starts
}

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(60);

/// Lets the log grow to a size, by a moment.
async fn fill(
    world: &mut World,
    desk: &Desk,
    name: &str,
    size: u64,
    (until, owner): (Timestamp, &Owner<()>),
) {
    let store = &desk.store;
    let started = Instant::now();
    let mut log = World::log(desk, size, until).await;
    let before = log.position();
    let whose = (owner.organization, owner.caller.user);
    world
        .grow(desk, &mut log, size, &owner.workspaces, whose)
        .await;
    let written = log.position() - before;
    drop(log);
    let filled = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let names = projections::names();
    let rebuilt = projections::rebuild(&**store, &names, |_| {}).await;
    let position = rebuilt.expect("it is rebuilt");
    let rebuilt = started.elapsed().as_secs_f64();
    if store.kind() == StoreKind::Postgres {
        // As autovacuum would, before long; and what was written is on the disk before anything is
        // measured.
        for statement in ["ANALYZE", "CHECKPOINT"] {
            let done = store.execute(vec![Statement::new(statement, [])]).await;
            done.expect(statement);
        }
    }
    println!(
        "{name}: {written} events appended in {filled:.0} s ({:.0}/s), {position} rebuilt in \
         {rebuilt:.0} s ({:.0}/s); {} workspaces; of the three measured: {:?}",
        written as f64 / filled,
        position as f64 / rebuilt,
        world.spaces.len(),
        world.spaces[..3]
            .iter()
            .map(|space| space.events)
            .collect::<Vec<_>>(),
    );
    println!();
}
