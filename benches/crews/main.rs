//! Whether a large workspace is slower than one of a tenth: 2,000 crews with 50,000 agents
//! against 200 with 5,000. How long each takes to start and to be loaded, to be listed, searched
//! and read, and what a command in it costs. Then what a crew does: how fast records are taken
//! in and read back, beside bare statements with the same rows. Then how long finding documents
//! by their words takes, the first time and after it.
//!
//! `cargo bench --bench crews`; `CREWLOG_BENCH_CREWS=400` makes the large one smaller.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

mod activity;
mod knowledge;
mod site;

use std::time::Duration;

use crewlog::{
    domain::{contents::Digest, crew::ItemKind, environment::Environment},
    journal::{SystemSource, sealing::RootKey},
    service::{AuditFilter, AuditScope, CrewFilter, ServiceError},
};
use harness::{Place, calls, median, owner::request, setting, taken};
use site::Site;
use support::postgres::{Cluster, Durability};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STARTS: usize = 5;
const READS: usize = 100;
const ROUNDS: usize = 5;
const PAGE: u64 = 50;

/// Times of the large one and of the small one, in seconds, in pairs.
type Pairs = Vec<(f64, f64)>;

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    let crews = setting("CREWLOG_BENCH_CREWS", 2_000.0) as usize;
    let (mut columns, mut rates) = (Vec::new(), Vec::new());
    let (large, small) = (Place::both(cluster).await, Place::both(cluster).await);
    for (large, small) in large.iter().zip(&small) {
        let root = RootKey::generate(&SystemSource);
        eprintln!("{}: filling", large.name);
        let large = Site::filled(large, &root, crews).await;
        let small = Site::filled(small, &root, crews / 10).await;
        eprintln!("measuring");
        let mut rows = Vec::new();
        let (mut large, mut small) = (large, small);
        starts(&mut large, &mut small, &mut rows).await;
        reads(&large, &small, &mut rows).await;
        commands(&large, &small, &mut rows).await;
        columns.push(rows);
        let mut told = activity::measure(&mut large).await;
        told.extend(knowledge::measure(&mut large).await);
        rates.push(told);
        large.stop().await;
        small.stop().await;
    }
    println!(
        "Time with {crews} crews and {} agents, a tenth of both = 1 (and in ms, large and small):",
        crews * site::AGENTS
    );
    print(&columns);
    println!();
    println!("What crews do and know:");
    print(&rates);
}

fn print(columns: &[Vec<(String, String)>]) {
    println!();
    println!("| | SQLite | PostgreSQL |");
    println!("|---|---|---|");
    for (left, right) in columns[0].iter().zip(&columns[1]) {
        println!("| {} | {} | {} |", left.0, left.1, right.1);
    }
}

/// Starting on the store, and the first command, for which everything must be loaded.
async fn starts(large: &mut Site, small: &mut Site, rows: &mut Vec<(String, String)>) {
    let (mut started, mut first) = (Pairs::new(), Pairs::new());
    for _ in 0..STARTS {
        let mut times = [(0.0, 0.0); 2];
        for (site, times) in [&mut *large, &mut *small].into_iter().zip(&mut times) {
            site.stop().await;
            let (start, ()) = taken(site.start()).await;
            let (command, ()) = taken(site.edit(0, 7)).await;
            *times = (start.seconds, command.seconds);
        }
        started.push((times[0].0, times[1].0));
        first.push((times[0].1, times[1].1));
    }
    rows.push(("starting".to_owned(), told(&started)));
    rows.push(("the first command after it".to_owned(), told(&first)));
}

/// Something that is read from a site, of one crew.
type Read = fn(&Site, usize) -> futures::future::BoxFuture<'_, Result<usize, ServiceError>>;

fn listing(site: &Site, _: usize) -> futures::future::BoxFuture<'_, Result<usize, ServiceError>> {
    Box::pin(crews(site, CrewFilter::default()))
}

async fn crews(site: &Site, filter: CrewFilter) -> Result<usize, ServiceError> {
    let (service, workspace, request) = (site.service(), site.workspace(), request());
    let page = service.crews_of(&request,
        &site.principal,
        workspace,
        &filter,
        (None, PAGE),
    );
    Ok(page.await?.items.len())
}

async fn entries(site: &Site, filter: AuditFilter) -> Result<usize, ServiceError> {
    let scope = AuditScope::Workspace(site.workspace());
    let (service, request) = (site.service(), request());
    let page = service.audit(
        &request,
        site.principal.clone(),
        scope,
        &filter,
        None,
        PAGE,
    );
    Ok(page.await?.entries.len())
}

async fn reads(large: &Site, small: &Site, rows: &mut Vec<(String, String)>) {
    let asked: [(&str, Read); 8] = [
        ("a page of 50 crews", listing),
        ("the crews of one client, of many", |site, nth| {
            Box::pin(crews(
                site,
                CrewFilter {
                    client: Some(site.client(nth)),
                    ..CrewFilter::default()
                },
            ))
        }),
        ("a page of the crews of one environment", |site, _| {
            Box::pin(crews(
                site,
                CrewFilter {
                    environment: Some(Environment::Production),
                    ..CrewFilter::default()
                },
            ))
        }),
        ("a crew", |site, nth| {
            Box::pin(async move {
                let (workspace, crew) = site.crew(nth);
                let service = site.service();
                let found = service
                    .crew(&request(), &site.principal, workspace, crew)
                    .await?;
                Ok(usize::from(found.value.version > 0))
            })
        }),
        ("the agents of a crew", |site, nth| {
            Box::pin(async move {
                let (at, range, request) = (site.crew(nth), (None, PAGE), request());
                let service = site.service();
                let page = service.items_of(&request, &site.principal, at, ItemKind::Agent, range);
                Ok(page.await?.items.len())
            })
        }),
        ("an agent with its configuration", |site, nth| {
            Box::pin(async move {
                let (at, agent) = (site.crew(nth), site.agent(nth));
                let service = site.service();
                let found = service.item(&request(), &site.principal, at, agent).await?;
                Ok(usize::from(
                    found.value.item.item.content.digest != Digest([0; 32]),
                ))
            })
        }),
        ("audit entries with the name of a crew", |site, nth| {
            Box::pin(entries(
                site,
                AuditFilter {
                    words: Some(site.crew_word(nth)),
                    ..AuditFilter::default()
                },
            ))
        }),
        ("a page of the audit entries of a crew", |site, nth| {
            Box::pin(entries(
                site,
                AuditFilter {
                    crew: Some(site.crew(nth).1.to_string()),
                    ..AuditFilter::default()
                },
            ))
        }),
    ];
    for (name, read) in asked {
        let mut pairs = Pairs::new();
        for nth in 0..READS {
            let (slow, found) = taken(read(large, nth * 7)).await;
            assert!(found.expect("it is read") > 0, "{name}: nothing is found");
            let (fast, found) = taken(read(small, nth * 7)).await;
            assert!(found.expect("it is read") > 0, "{name}: nothing is found");
            pairs.push((slow.seconds, fast.seconds));
        }
        rows.push((name.to_owned(), told(&pairs)));
    }
}

/// Editing agents all over the workspace.
async fn commands(large: &Site, small: &Site, rows: &mut Vec<(String, String)>) {
    let seconds = setting("CREWLOG_BENCH_SECONDS", 1.0);
    for callers in [1, 64] {
        let mut pairs = Pairs::new();
        for round in 0..ROUNDS {
            let of = async |site: &Site| {
                let site = site.clone();
                let edit = move |nth: usize| {
                    let site = site.clone();
                    async move { site.edit(nth * 13, round * 1_000_000 + nth).await }
                };
                1.0 / calls(callers, seconds, edit).await.0
            };
            pairs.push((of(large).await, of(small).await));
        }
        let name = format!("editing an agent, {callers} at once");
        rows.push((name, told(&pairs)));
    }
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

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(20);
