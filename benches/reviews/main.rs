//! What a campaign over a large workspace costs: 5,000 members and 2,000 API keys are opened, paged
//! through, decided about in bulk, closed and reported, beside a bare query of the same rows.
//!
//! `cargo bench --bench reviews`; every time is a multiple of what it took in the same round to read
//! the payloads of the workspace's events, which is what all of it is folded from. The memory that
//! each takes beyond what there was is told as well.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crewlog::{
    domain::{
        Name, Timestamp,
        api_keys::{KeyCreated, KeyTerms},
        authority::Role,
        environment::Environment,
        ids::{KeyId, PrincipalId, ReviewId, WorkspaceId},
        review::{Decision, ReviewStatus, Reviewed, Undecided},
        workspace::{MembershipSource, WorkspaceEvent},
    },
    journal::{Source, SystemSource, sealing::RootKey, stores::Store},
    service::{DECISIONS_MAX, ItemDecision, NewReview, Principal, ReportFormat, Service},
};
use harness::{
    Place,
    log::{LogWriter, Person, Target, metadata},
    median,
    owner::{Owner, request, serve},
    taken,
};
use support::postgres::{Cluster, Durability};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MEMBERS: usize = 5_000;
const KEYS: usize = 2_000;
const ROUNDS: usize = 3;
/// The share of what is decided that is revoked; the rest is kept.
const REVOKED_OF: usize = 10;
const STEPS: [&str; 5] = [
    "open",
    "read all, 200 a page",
    "decide all, 200 at once",
    "close",
    "report (JSON)",
];

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    println!(
        "A campaign over {MEMBERS} members and {KEYS} API keys: times of the bare query (in ms;"
    );
    println!("memory beyond what there was, in MiB).");
    println!();
    println!("| | SQLite | PostgreSQL |");
    println!("|---|---|---|");
    let mut columns = Vec::new();
    for place in Place::both(cluster).await {
        columns.push(measure(&place).await);
    }
    for (at, name) in STEPS.iter().enumerate() {
        println!("| {name} | {} | {} |", columns[0][at], columns[1][at]);
    }
}

struct Bench {
    owner: Owner,
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
}

impl Bench {
    /// A workspace whose people and keys were written as the writer does, without deciding.
    async fn on(place: &Place) -> Self {
        let root = RootKey::generate(&SystemSource);
        let service = serve(place.open().await, &root).await;
        let owner = Owner::of(service, 1).await;
        let (workspace, organization) = (owner.workspaces[0], owner.organization);
        let owner = owner.outlive(Duration::from_secs(30)).await;
        let store = place.open().await;
        let mut log = LogWriter::open(store.clone()).await;
        let target = Target::workspace(workspace, organization);
        let maker = Person {
            user: owner.caller.user,
            ..Person::new()
        };
        let mut members = Vec::with_capacity(MEMBERS);
        for at in 1..MEMBERS {
            let person = Person::new();
            let joined = WorkspaceEvent::MemberJoined {
                user: person.user,
                role: [Role::Viewer, Role::Member, Role::Admin][at % 3],
                source: MembershipSource::Creation,
            };
            let about = metadata(&maker, Some(Role::Owner), &target, 1);
            log.add(&target, about, joined).await;
            members.push(person);
        }
        for at in 0..KEYS {
            let made = WorkspaceEvent::ApiKeyCreated(key(at, &members[at % members.len()]));
            let about = metadata(&maker, Some(Role::Owner), &target, 1);
            log.add(&target, about, made).await;
        }
        log.flush().await;
        drop(log);
        // An embedded store has one who writes.
        store.close().await;
        drop(store);
        let store = place.open().await;
        let service: Arc<Service> = serve(store.clone(), &root).await;
        Self {
            owner: owner.at(service),
            store,
            workspace,
        }
    }

    async fn open(&self) -> ReviewId {
        let new = NewReview {
            name: Name::parse("Everybody").expect("a name"),
            principals: BTreeSet::from(Reviewed::ALL),
            environment: None,
            reviewers: BTreeSet::from([self.owner.caller.user]),
            due_at: SystemSource.now().plus(chrono::TimeDelta::days(30)),
            undecided: Undecided::Keep,
            recurs_after_days: None,
        };
        let service = &self.owner.service;
        let opened = service
            .open_review(&request(), &self.owner.caller, self.workspace, new)
            .await;
        opened.expect("it is opened").value.id
    }

    /// Everything that is reviewed, as it stands.
    async fn read(&self, review: ReviewId) -> Vec<(PrincipalId, u64)> {
        let (reader, mut all, mut after) = (Principal::from(&self.owner.caller), Vec::new(), None);
        loop {
            let of = (after.as_deref(), 200);
            let page = self
                .owner
                .service
                .review_items(&request(), &reader, self.workspace, review, of)
                .await;
            let (_, page) = page.expect("a page");
            after = page.items.last().map(|(key, _)| key.clone());
            let seen = page
                .items
                .iter()
                .filter_map(|(_, item)| Some((item.id(), item.seen_at?)));
            all.extend(seen);
            if !page.more {
                return all;
            }
        }
    }

    async fn decide(&self, review: ReviewId, items: &[(PrincipalId, u64)]) {
        let own = PrincipalId::User(self.owner.caller.user);
        let items: Vec<_> = items.iter().filter(|(item, _)| *item != own).collect();
        for (batch, some) in items.chunks(DECISIONS_MAX).enumerate() {
            let decision = |(at, (item, seen_at)): (usize, &&(PrincipalId, u64))| ItemDecision {
                item: *item,
                decision: match (batch + at) % REVOKED_OF {
                    0 => Decision::Revoke,
                    _ => Decision::Keep,
                },
                reason: "As the policy asks".to_owned(),
                seen_at: Some(*seen_at),
            };
            let decisions = some.iter().enumerate().map(decision).collect();
            let service = &self.owner.service;
            let decided = service
                .decide_access(
                    &request(),
                    &self.owner.caller,
                    self.workspace,
                    review,
                    decisions,
                )
                .await;
            decided.expect("it is decided");
        }
    }

    async fn close(&self, review: ReviewId) {
        let service = &self.owner.service;
        let closed = service
            .close_review(
                &request(),
                &self.owner.caller,
                self.workspace,
                review,
                false,
            )
            .await;
        let closed = closed.expect("it is closed").value;
        assert_eq!(closed.status, ReviewStatus::Closed);
    }

    async fn report(&self, review: ReviewId) -> usize {
        let (reader, format) = (Principal::from(&self.owner.caller), ReportFormat::Json);
        let service = &self.owner.service;
        let sent = service
            .review_report(&request(), &reader, self.workspace, review, format)
            .await;
        sent.expect("it is reported").text.len()
    }

    /// Reads the workspace's events, and nothing else.
    async fn bare_read(&self) -> usize {
        let sql = "SELECT CAST(payload AS TEXT) FROM events
                    WHERE aggregate_type = 'workspace' AND aggregate_id = $1 ORDER BY sequence";
        let rows = self
            .store
            .query(sql, vec![self.workspace.to_string().into()])
            .await;
        let rows = rows.expect("the events");
        rows.iter()
            .map(|row| row.text(0).expect("text").len())
            .sum()
    }
}

fn key(at: usize, maker: &Person) -> KeyCreated {
    KeyCreated {
        key: KeyId::from_uuid(SystemSource.uuid()),
        environment: Some(Environment::Production),
        terms: KeyTerms {
            name: format!("Key {at}"),
            scopes: BTreeSet::new(),
            crews: None,
            expires_at: None,
            allowed_cidrs: vec![],
        },
        token_hash: format!("hash {at}"),
        prefix: "crew_prod_".to_owned(),
        created_by: maker.user,
        created_at: Timestamp(1_700_000_000_000_000),
        rotated_from: None,
    }
}

/// The most memory that the process has had since it was last asked to forget, in MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1_024.0
}

/// What there is now becomes the most.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

async fn measure(place: &Place) -> Vec<String> {
    let bench = Bench::on(place).await;
    let mut figures: [Vec<(f64, f64, f64)>; STEPS.len()] = Default::default();
    for _ in 0..ROUNDS {
        let (bare, _) = taken(bench.bare_read()).await;
        let mut note = |at: usize, before: f64, seconds: f64| {
            let grown = (peak_mib() - before).max(0.0);
            figures[at].push((seconds / bare.seconds, seconds * 1e3, grown));
        };
        let begin = || {
            forget_peak();
            peak_mib()
        };
        let before = begin();
        let (time, review) = taken(bench.open()).await;
        note(0, before, time.seconds);
        let before = begin();
        let (time, items) = taken(bench.read(review)).await;
        note(1, before, time.seconds);
        let before = begin();
        note(
            2,
            before,
            taken(bench.decide(review, &items)).await.0.seconds,
        );
        let before = begin();
        note(3, before, taken(bench.close(review)).await.0.seconds);
        let before = begin();
        note(4, before, taken(bench.report(review)).await.0.seconds);
    }
    let of = |figures: Vec<(f64, f64, f64)>| {
        let middle = |part: fn(&(f64, f64, f64)) -> f64| median(figures.iter().map(part));
        let (ratio, time_ms) = (middle(|figure| figure.0), middle(|figure| figure.1));
        let grown_mib = middle(|figure| figure.2);
        format!("{ratio:.1} ({time_ms:.0}; {grown_mib:.0})")
    };
    figures.into_iter().map(of).collect()
}
