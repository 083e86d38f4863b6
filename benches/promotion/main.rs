//! What promoting a large crew costs: 1,000 agents of 20 KiB each are exported, compared, proposed,
//! applied and rolled back, beside serializing and hashing the same bytes.
//!
//! `cargo bench --bench promotion`; every figure is a multiple of serializing and hashing, in the
//! same round. While they are applied somebody else sends small commands: how long the slowest of
//! them waits is told, and how much memory exporting takes beyond what there was.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crewlog::{
    domain::{
        bundle::ItemKey,
        crew::{CrewProfile, ItemKind},
        environment::Environment,
        ids::{CrewId, PromotionId, WorkspaceId},
        workspace::Policy,
    },
    journal::{SystemSource, sealing::RootKey},
    service::{
        BundleDraft, NewPromotion, OtherSide, Principal, Service, ServiceSettings, SourceDraft,
    },
};
use futures::StreamExt;
use harness::{
    Place, median,
    owner::{Owner, request},
    taken,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::postgres::{Cluster, Durability};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const AGENTS: usize = 1_000;
const AGENT_BYTES: usize = 20 * 1024;
const ROUNDS: usize = 5;

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    println!(
        "A crew with {AGENTS} agents of {AGENT_BYTES} bytes: times of serializing and hashing"
    );
    println!("the same bytes (in ms, in brackets).");
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

/// What an agent says: steps with names, as they have, each another in each version.
fn config(agent: usize, version: usize) -> Value {
    let step = |at: usize| {
        json!({
            "id": format!("step-{at}"),
            "text": format!("Agent {agent} says in version {version} what it says at step {at}, {}",
                "and what is there to be said besides ".repeat(4)),
        })
    };
    let mut steps = Vec::new();
    let mut size = 0;
    while size < AGENT_BYTES {
        let next = step(steps.len());
        size += next.to_string().len() + 1;
        steps.push(next);
    }
    json!({"steps": steps})
}

fn bundle(version: usize) -> BTreeMap<ItemKey, Value> {
    let agent = |at: usize| {
        let key = ItemKey::new(ItemKind::Agent, format!("Agent {at:04}"));
        (key, config(at, version))
    };
    (0..AGENTS).map(agent).collect()
}

fn draft(bundle: &BTreeMap<ItemKey, Value>) -> BundleDraft {
    let text = |(key, value): (&ItemKey, &Value)| {
        let text = serde_json_canonicalizer::to_string(value).expect("JSON");
        (key.clone(), text)
    };
    BundleDraft(bundle.iter().map(text).collect())
}

struct Bench {
    owner: Owner,
    principal: Principal,
    workspace: WorkspaceId,
    other: WorkspaceId,
    staging: CrewId,
    production: CrewId,
}

impl Bench {
    async fn on(place: &Place) -> Self {
        let root = RootKey::generate(&SystemSource);
        let store = place.open().await;
        let settings = ServiceSettings::default();
        let service = Service::start(store, Arc::new(SystemSource), &root, settings).await;
        let owner = Owner::of(service.expect("Crewlog starts"), 2).await;
        let [workspace, other] = owner.workspaces[..].try_into().expect("two were made");
        let nobody_is_asked = Policy {
            approvals_needed: 0,
            ..Policy::default()
        };
        let service = &owner.service;
        let changed = service
            .change_policy(&request(), &owner.caller, workspace, nobody_is_asked)
            .await;
        changed.expect("the policy is changed");
        let principal = Principal::from(&owner.caller);
        let mut crews = Vec::new();
        for environment in [Environment::Staging, Environment::Production] {
            let profile = CrewProfile {
                name: "Acme Corp".to_owned(),
                ..CrewProfile::default()
            };
            let made = service
                .create_crew(
                    &request(),
                    &principal,
                    workspace,
                    environment,
                    (profile, None),
                )
                .await;
            crews.push(made.expect("a crew is made").value.id());
        }
        Self {
            principal,
            workspace,
            other,
            staging: crews[0],
            production: crews[1],
            owner,
        }
    }

    async fn propose(&self, source: SourceDraft, target: CrewId) -> PromotionId {
        let new = NewPromotion {
            source,
            target,
            include: None,
        };
        let service = &self.owner.service;
        let made = service
            .propose(&request(), &self.principal, self.workspace, &new)
            .await;
        made.expect("it is proposed").value.document.id
    }

    async fn apply(&self, promotion: PromotionId) {
        let at = (self.workspace, promotion);
        let service = &self.owner.service;
        let applied = service
            .apply_promotion(&request(), &self.principal, at)
            .await;
        applied.expect("it is applied");
    }

    async fn roll_back(&self, promotion: PromotionId) {
        let at = (self.workspace, promotion);
        let service = &self.owner.service;
        let back = service
            .roll_back_promotion(&request(), &self.principal, at, false)
            .await;
        back.expect("it is rolled back");
    }

    async fn export(&self, crew: CrewId) -> u64 {
        let at = (self.workspace, crew);
        let service = self.owner.service.clone();
        let found = service.export(&request(), &self.principal, at, None).await;
        let mut bytes = pin!(found.expect("it is exported").value.bytes(service));
        let mut size = 0;
        while let Some(chunk) = bytes.next().await {
            size += chunk.expect("bytes").len() as u64;
        }
        size
    }

    async fn compare(&self) -> usize {
        let at = (self.workspace, self.production);
        let with = OtherSide::Crew(self.staging);
        let service = &self.owner.service;
        let found = service
            .compare_crew(&request(), &self.principal, at, &with)
            .await;
        found.expect("they are compared").value.changed.len()
    }

    /// Small commands in another workspace, one after the other, until it is told to stop; the
    /// slowest, and the middle one.
    fn neighbours(&self, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<(f64, f64)> {
        let (owner, other) = (self.owner.clone(), self.other);
        tokio::spawn(async move {
            let (mut times, mut count) = (Vec::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                times.push(taken(owner.rename(other, count)).await.0.seconds);
            }
            let slowest = times.iter().copied().fold(0.0, f64::max);
            (slowest, median(times))
        })
    }
}

/// Serializes and hashes what a crew holds.
fn baseline(bundle: &BTreeMap<ItemKey, Value>) -> usize {
    let mut size = 0;
    let mut hasher = Sha256::new();
    for value in bundle.values() {
        let text = serde_json::to_string(value).expect("JSON");
        size += text.len();
        hasher.update(&text);
    }
    std::hint::black_box(hasher.finalize());
    size
}

/// The most memory that the process has had since it was last asked to forget, in MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1_024.0
}

fn forget_peak() {
    // What was the most becomes what there is now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

async fn measure(place: &Place) -> Vec<(String, String)> {
    let bench = Bench::on(place).await;
    let first = draft(&bundle(0));
    for crew in [bench.staging, bench.production] {
        let source = SourceDraft::Bundle(Arc::new(first.clone()));
        let promotion = bench.propose(source, crew).await;
        bench.apply(promotion).await;
    }
    let names = ["export", "diff", "propose", "apply", "rollback"];
    let mut figures: Vec<Vec<(f64, f64)>> = vec![Vec::new(); names.len()];
    let (mut waits, mut usual, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let values = bundle(round);
        let source = SourceDraft::Bundle(Arc::new(draft(&values)));
        let change = bench.propose(source, bench.staging).await;
        bench.apply(change).await;
        let (base, _) = taken(async { baseline(&values) }).await;
        let mut note = |at: usize, seconds: f64| {
            figures[at].push((seconds / base.seconds, seconds * 1e3));
        };
        forget_peak();
        let before = peak_mib();
        let (time, size) = taken(bench.export(bench.staging)).await;
        memory.push((peak_mib() - before) / (size as f64 / 1_048_576.0));
        note(0, time.seconds);
        note(1, taken(bench.compare()).await.0.seconds);
        let source = SourceDraft::Crew(bench.staging);
        let (time, promotion) = taken(bench.propose(source, bench.production)).await;
        note(2, time.seconds);
        let stop = Arc::new(AtomicBool::new(false));
        let neighbours = bench.neighbours(stop.clone());
        tokio::time::sleep(Duration::from_millis(200)).await;
        note(3, taken(bench.apply(promotion)).await.0.seconds);
        note(4, taken(bench.roll_back(promotion)).await.0.seconds);
        stop.store(true, Ordering::Relaxed);
        let (slowest, middle) = neighbours.await.expect("neighbours end");
        waits.push(slowest * 1e3);
        usual.push(middle * 1e3);
    }
    let mut rows: Vec<_> = names
        .iter()
        .zip(figures)
        .map(|(name, figures)| {
            let ratio = median(figures.iter().map(|figure| figure.0));
            let time_ms = median(figures.iter().map(|figure| figure.1));
            ((*name).to_owned(), format!("{ratio:.1} ({time_ms:.0})"))
        })
        .collect();
    let waited = format!("{:.0} ({:.1})", median(waits), median(usual));
    rows.push((
        "slowest small command meanwhile, ms (the middle one)".to_owned(),
        waited,
    ));
    let memory = format!("{:.1}", median(memory));
    rows.push((
        "memory that an export takes, of its size".to_owned(),
        memory,
    ));
    rows
}
