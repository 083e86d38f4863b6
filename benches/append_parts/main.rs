//! What each part of an append costs: the same renames, written through the store's own
//! append, with one part left out at a time.
//!
//! `cargo bench --bench append_parts`; each side has a store of its own, all run in turn, and
//! what is told is the median over the rounds of what a command takes less than in full.
//! Deciding, the queue and the caller's wait are not in it.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::{sync::Arc, time::Instant};

use crewlog::{
    domain::{
        authority::Role,
        ids::{EventId, OrganizationId, WorkspaceId},
        sealed::KeyOwner,
        workspace::WorkspaceEvent,
    },
    journal::{
        Source, SystemSource,
        entry::CONTEXT,
        sealing::{DataKey, Keyring, RootKey},
    },
};
use harness::{
    Place,
    log::{LogWriter, Parts, Person, Target, metadata},
    median, setting,
};
use support::postgres::{Cluster, Durability};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STREAMS: usize = 512;
/// Commands in one append: of a single caller, and of many.
const BATCHES: [usize; 2] = [1, 128];
const ROUNDS: usize = 21;

/// One way to append.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    parts: Parts,
    /// Whether metadata has a sealed request context.
    sealed: bool,
}

const FULL: Way = Way {
    name: "in full",
    parts: Parts::ALL,
    sealed: true,
};

const WAYS: [Way; 6] = [
    FULL,
    Way {
        name: "the audit index, 1,024 entries at a time",
        parts: Parts {
            audit: false,
            ..Parts::ALL
        },
        ..FULL
    },
    Way {
        name: "document, folded and written",
        parts: Parts {
            documents: false,
            ..Parts::ALL
        },
        ..FULL
    },
    Way {
        name: "sealed request context",
        sealed: false,
        ..FULL
    },
    Way {
        name: "leaf and tree",
        parts: Parts {
            leaves: false,
            ..Parts::ALL
        },
        ..FULL
    },
    Way {
        name: "all of these: events and head alone",
        parts: Parts {
            leaves: false,
            documents: false,
            audit: false,
        },
        sealed: false,
    },
];

/// A way on a store of its own.
struct Side {
    log: LogWriter,
    /// What request contexts are sealed under, where they are.
    key: Option<Arc<DataKey>>,
    owner: Person,
    targets: Vec<Target>,
    count: usize,
    _place: Place,
}

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    let mut columns = Vec::new();
    for store in 0..2 {
        let mut sides = Vec::new();
        for way in WAYS {
            let places = Place::both(cluster).await;
            let place = places.into_iter().nth(store).expect("there are two");
            sides.push(Side::start(way, place).await);
        }
        for batch in BATCHES {
            columns.push(measure(&mut sides, batch).await);
        }
    }
    println!("µs of a command, and what is saved by leaving a part out:");
    println!();
    println!(
        "| | SQLite, 1 at a time | SQLite, {0} | PostgreSQL, 1 at a time | PostgreSQL, {0} |",
        BATCHES[1]
    );
    println!("|---|---|---|---|---|");
    for (number, way) in WAYS.iter().enumerate() {
        let cells: Vec<_> = columns
            .iter()
            .map(|column| format!("{:.1}", column[number]))
            .collect();
        println!("| {} | {} |", way.name, cells.join(" | "));
    }
}

/// For each way what it saves of a command; for the first, what a command takes.
async fn measure(sides: &mut [Side], batch: usize) -> Vec<f64> {
    let seconds = setting("CREWLOG_BENCH_SECONDS", 0.5);
    let mut figures = vec![Vec::new(); sides.len()];
    for _ in 0..ROUNDS {
        for (side, figures) in sides.iter_mut().zip(&mut figures) {
            figures.push(side.run(batch, seconds).await);
        }
    }
    let full = figures[0].clone();
    let saved = |of: &Vec<f64>| median(full.iter().zip(of).map(|(full, part)| full - part));
    let mut column: Vec<_> = figures.iter().map(saved).collect();
    column[0] = median(full.iter().copied());
    column
}

impl Side {
    async fn start(way: Way, place: Place) -> Self {
        let store = place.open().await;
        let source = Arc::new(SystemSource);
        let root = RootKey::generate(&SystemSource);
        let keyring = Keyring::open(store.clone(), source, &root, true).await;
        let owner = Person::new();
        let keyring = keyring.expect("it is a new store");
        let (key, _) = keyring.create(KeyOwner::Subject(owner.subject));
        let mut log = LogWriter::open(store).await;
        let organization = OrganizationId::from_uuid(SystemSource.uuid());
        let mut targets = Vec::new();
        for _ in 0..STREAMS {
            let workspace = WorkspaceId::from_uuid(SystemSource.uuid());
            let target = Target::workspace(workspace, organization);
            let created = WorkspaceEvent::WorkspaceCreated {
                workspace,
                organization,
                name: "Workspace".to_owned(),
                created_by: owner.user,
            };
            let metadata = metadata(&owner, None, &target, log.position());
            log.add(&target, metadata, created).await;
            targets.push(target);
        }
        log.flush().await;
        log.parts = way.parts;
        Self {
            log,
            key: way.sealed.then_some(key),
            owner,
            targets,
            count: 0,
            _place: place,
        }
    }

    /// Renames for `seconds`; answers the µs of one.
    async fn run(&mut self, batch: usize, seconds: f64) -> f64 {
        self.log.batch_events = batch;
        let (started, before) = (Instant::now(), self.count);
        while started.elapsed().as_secs_f64() < seconds {
            for _ in 0..batch {
                self.rename().await;
            }
        }
        started.elapsed().as_secs_f64() * 1e6 / (self.count - before) as f64
    }

    async fn rename(&mut self) {
        self.count += 1;
        let target = self.targets[self.count * 7 % STREAMS].clone();
        let renamed = WorkspaceEvent::WorkspaceRenamed {
            from: format!("Workspace {}", self.count),
            to: format!("Workspace {}", self.count + 1),
        };
        let mut metadata = metadata(&self.owner, Some(Role::Owner), &target, self.log.position());
        metadata.context = self.key.as_ref().map(|key| {
            let event = EventId::from_uuid(SystemSource.uuid());
            let context = r#"{"ip":"127.0.0.1","user_agent":"bench"}"#;
            key.seal(&SystemSource, event, CONTEXT, context)
        });
        self.log.add(&target, metadata, renamed).await;
    }
}
