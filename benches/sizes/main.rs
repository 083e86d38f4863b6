//! Whether what is large is slower: a command on a stream of 10,000 events against one of
//! ten, and in a workspace of 5,000 members against one of five; reading a stream that is not
//! in memory; a page of each list.
//!
//! `cargo bench --bench sizes`; every figure is the time of the large one for the small
//! one's 1.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::{sync::Arc, time::Duration};

use crewlog::{
    domain::{
        authority::Role,
        ids::{InvitationId, WorkspaceId},
        workspace::{MembershipSource, Workspace, WorkspaceEvent},
    },
    journal::{
        Metadata, Source, StreamRef, SystemSource, loading, sealing::RootKey, stores::Store,
    },
    service::{AuditFilter, AuditScope, Order},
};
use harness::{
    Place, calls,
    log::{self, LogWriter, Person, Target},
    median,
    owner::{Owner, request, serve},
    setting, taken,
};
use support::postgres::{Cluster, Durability};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: usize = 10_000;
const MEMBERS: usize = 5_000;
const FEW: usize = 5;

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    println!("Time of the large one, the small one's = 1 (and of a call, in ms, large and small):");
    println!();
    println!("| | SQLite | PostgreSQL |");
    println!("|---|---|---|");
    let mut columns = Vec::new();
    for place in Place::both(cluster).await {
        columns.push(measure(&place).await);
    }
    for (left, right) in columns[0].iter().zip(&columns[1]) {
        println!("| {} | {} | {} |", left.0, left.1, right.1);
    }
}

/// The workspaces that are compared.
struct Compared {
    store: Arc<dyn Store>,
    owner: Owner,
    short: WorkspaceId,
    long: WorkspaceId,
    few: WorkspaceId,
    crowd: WorkspaceId,
}

async fn measure(place: &Place) -> Vec<(String, String)> {
    let root = RootKey::generate(&SystemSource);
    let owner = Owner::of(serve(place.open().await, &root).await, 4).await;
    let owner = owner.outlive(Duration::from_secs(10)).await;
    let [short, long, few, crowd]: [WorkspaceId; 4] =
        owner.workspaces[..].try_into().expect("four were made");
    let store = place.open().await;
    grow(LogWriter::open(store.clone()).await, &owner).await;
    let owner = owner.at(serve(store.clone(), &root).await);
    let of = Compared {
        store,
        owner,
        short,
        long,
        few,
        crowd,
    };
    let mut rows = Vec::new();
    cold(&of, &mut rows).await;
    for callers in [1, 64] {
        commands(&of, callers, &mut rows).await;
    }
    lists(&of, &mut rows).await;
    rows
}

/// Renames one workspace often, and lets many people into another.
async fn grow(mut log: LogWriter, owner: &Owner<()>) {
    let [short, long, few, crowd]: [WorkspaceId; 4] =
        owner.workspaces[..].try_into().expect("four were made");
    for (workspace, renames) in [(short, 6), (long, EVENTS)] {
        let target = Target::workspace(workspace, owner.organization);
        for count in 0..renames {
            let renamed = WorkspaceEvent::WorkspaceRenamed {
                from: format!("Workspace {count}"),
                to: format!("Workspace {}", count + 1),
            };
            let metadata = metadata(&target, &log);
            log.add(&target, metadata, renamed).await;
        }
    }
    for (workspace, members) in [(few, FEW), (crowd, MEMBERS)] {
        let target = Target::workspace(workspace, owner.organization);
        for _ in 0..members {
            let joined = WorkspaceEvent::MemberJoined {
                user: Person::new().user,
                role: Role::Member,
                source: MembershipSource::Invitation {
                    invitation: InvitationId::from_uuid(SystemSource.uuid()),
                    invited_by: owner.caller.user,
                },
            };
            let metadata = metadata(&target, &log);
            log.add(&target, metadata, joined).await;
        }
    }
    log.flush().await;
}

fn metadata(target: &Target, log: &LogWriter) -> Metadata {
    log::metadata(&Person::new(), Some(Role::Owner), target, log.position())
}

/// Reads a stream as the writer does when it is not in memory.
async fn cold(of: &Compared, rows: &mut Vec<(String, String)>) {
    for snapshots in [false, true] {
        let what = if snapshots {
            "with its snapshot"
        } else {
            "without a snapshot"
        };
        for (large, small, name) in [
            (of.long, of.short, "10,000 events, against 10"),
            (of.crowd, of.few, "5,000 members, against 5"),
        ] {
            let load = |workspace: WorkspaceId| {
                let store = of.store.clone();
                let stream = StreamRef::of::<Workspace>(workspace, workspace);
                async move {
                    let loaded = loading::load(&*store, &stream, u64::MAX >> 1).await;
                    loaded.expect("the stream can be read")
                }
            };
            if snapshots {
                // What the writer does with it, in the background.
                if let Some(snapshot) = load(large).await.snapshot {
                    let kept = of.store.execute(vec![snapshot]).await;
                    kept.expect("it is kept");
                }
            }
            let mut pairs = Vec::new();
            for _ in 0..30 {
                let (slow, _) = taken(load(large)).await;
                let (fast, _) = taken(load(small)).await;
                pairs.push((slow.seconds, fast.seconds));
            }
            rows.push((format!("reading a stream {what}: {name}"), told(&pairs)));
        }
    }
}

async fn commands(of: &Compared, callers: usize, rows: &mut Vec<(String, String)>) {
    let seconds = setting("CREWLOG_BENCH_SECONDS", 1.0);
    for (large, small, name) in [
        (of.long, of.short, "a stream of 10,000 events, against 10"),
        (of.crowd, of.few, "5,000 members, against 5"),
    ] {
        let rename = |workspace: WorkspaceId| {
            let owner = of.owner.clone();
            move |count| {
                let owner = owner.clone();
                async move { owner.rename(workspace, count).await }
            }
        };
        let mut pairs = Vec::new();
        for _ in 0..7 {
            let slow = calls(callers, seconds, rename(large)).await;
            let fast = calls(callers, seconds, rename(small)).await;
            pairs.push((1.0 / slow.0, 1.0 / fast.0));
        }
        rows.push((
            format!("a command, {callers} callers: {name}"),
            told(&pairs),
        ));
    }
}

async fn lists(of: &Compared, rows: &mut Vec<(String, String)>) {
    let limit = FEW as u64;
    let (service, caller, request) = (&of.owner.service, &of.owner.caller, request());
    let (mut members, mut audit) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let page = |workspace| service.members_of(&request, caller, workspace, None, limit);
        let (slow, _) = taken(page(of.crowd)).await;
        let (fast, _) = taken(page(of.few)).await;
        members.push((slow.seconds, fast.seconds));
        let filter = AuditFilter {
            order: Order::NewestFirst,
            ..AuditFilter::default()
        };
        let page = |workspace| {
            let scope = AuditScope::Workspace(workspace);
            service.audit(&request, caller, scope, &filter, None, limit)
        };
        let (slow, _) = taken(page(of.long)).await;
        let (fast, _) = taken(page(of.short)).await;
        audit.push((slow.seconds, fast.seconds));
    }
    rows.push((
        "a page of 5 members, of 5,000 against 5".to_owned(),
        told(&members),
    ));
    rows.push((
        "a page of 5 audit entries, of 10,000 against 10".to_owned(),
        told(&audit),
    ));
}

fn told(pairs: &[(f64, f64)]) -> String {
    let ratio = median(pairs.iter().map(|(slow, fast)| slow / fast));
    let ms = |of: fn(&(f64, f64)) -> f64| median(pairs.iter().map(of)) * 1_000.0;
    format!(
        "{ratio:.2} ({:.2}, {:.2})",
        ms(|pair| pair.0),
        ms(|pair| pair.1)
    )
}
