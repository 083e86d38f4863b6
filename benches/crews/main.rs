//! Whether a workspace slows down as it grows: 2,000 crews with 50,000 agents, beside 200 with 5,000
//! and 20 with 500. How long each takes to start and to be loaded, to be listed, searched and read,
//! and what a command in it costs. Then what a crew does: how fast records are taken in and read
//! back, beside bare statements with the same rows. Then how long finding documents by their words
//! takes, the first time and after it.
//!
//! `cargo bench --bench crews`; `CREWLOG_BENCH_CREWS=400` makes all of them smaller.

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
    domain::{
        contents::Digest,
        crew::{CrewStatus, ItemKind},
        environment::Environment,
    },
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

/// How much smaller than the largest each workspace is, the largest first.
const TIMES_SMALLER: [usize; 3] = [1, 10, 100];

/// Times of one round in seconds, of the largest workspace first.
type Round = [f64; TIMES_SMALLER.len()];

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    let crews = setting("CREWLOG_BENCH_CREWS", 2_000.0) as usize;
    let (mut columns, mut rates) = (Vec::new(), Vec::new());
    let mut places = [vec![], vec![]];
    for _ in TIMES_SMALLER {
        for (of, place) in places.iter_mut().zip(Place::both(cluster).await) {
            of.push(place);
        }
    }
    for places in &places {
        let root = RootKey::generate(&SystemSource);
        let mut sites = Vec::new();
        for (place, smaller) in places.iter().zip(TIMES_SMALLER) {
            eprintln!("{}: filling {} crews", place.name, crews / smaller);
            sites.push(Site::filled(place, &root, crews / smaller).await);
        }
        eprintln!("starts, reads and commands");
        let mut rows = Vec::new();
        starts(&mut sites, &mut rows).await;
        reads(&sites, &mut rows).await;
        commands(&sites, &mut rows).await;
        columns.push(rows);
        eprintln!("activity and knowledge");
        let largest = &mut sites[0];
        let mut told = activity::measure(largest).await;
        told.extend(knowledge::measure(largest).await);
        rates.push(told);
        for site in &mut sites {
            site.stop().await;
        }
    }
    let sizes = TIMES_SMALLER.map(|smaller| (crews / smaller).to_string());
    println!(
        "Time with {} crews of {} agents, with {} = 1 (and in ms, with {}):",
        sizes[0],
        site::AGENTS,
        sizes[1],
        sizes.join(", ")
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
async fn starts(sites: &mut [Site], rows: &mut Vec<(String, String)>) {
    let (mut started, mut first) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (mut start, mut command) = (Round::default(), Round::default());
        for (nth, site) in sites.iter_mut().enumerate() {
            site.stop().await;
            start[nth] = taken(site.start()).await.0.seconds;
            command[nth] = taken(site.edit(0, 7)).await.0.seconds;
        }
        started.push(start);
        first.push(command);
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
    let page = service.crews_of(&request, &site.principal, workspace, &filter, (None, PAGE));
    Ok(page.await?.items.len())
}

async fn entries(site: &Site, filter: AuditFilter) -> Result<usize, ServiceError> {
    let scope = AuditScope::Workspace(site.workspace());
    let (service, request) = (site.service(), request());
    let page = service.audit(&request, site.principal.clone(), scope, &filter, None, PAGE);
    Ok(page.await?.entries.len())
}

async fn reads(sites: &[Site], rows: &mut Vec<(String, String)>) {
    let asked: [(&str, Read); 9] = [
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
        ("the one crew that is archived", |site, _| {
            Box::pin(crews(
                site,
                CrewFilter {
                    status: Some(CrewStatus::Archived),
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
                Ok(usize::from(found.value.crew.version > 0))
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
        let mut rounds = Vec::new();
        for nth in 0..READS {
            let mut times = Round::default();
            for (site, time) in sites.iter().zip(&mut times) {
                let (took, found) = taken(read(site, nth * 7)).await;
                assert!(found.expect("it is read") > 0, "{name}: nothing is found");
                *time = took.seconds;
            }
            rounds.push(times);
        }
        rows.push((name.to_owned(), told(&rounds)));
    }
}

/// Editing agents all over the workspace.
async fn commands(sites: &[Site], rows: &mut Vec<(String, String)>) {
    let seconds = setting("CREWLOG_BENCH_SECONDS", 1.0);
    for callers in [1, 64] {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let mut times = Round::default();
            for (site, time) in sites.iter().zip(&mut times) {
                let site = site.clone();
                let edit = move |nth: usize| {
                    let site = site.clone();
                    async move { site.edit(nth * 13, round * 1_000_000 + nth).await }
                };
                *time = 1.0 / calls(callers, seconds, edit).await.0;
            }
            rounds.push(times);
        }
        let name = format!("editing an agent, {callers} at once");
        rows.push((name, told(&rounds)));
    }
}

/// The median of the ratios of the two largest, and of each one's times.
fn told(rounds: &[Round]) -> String {
    let ratio = median(rounds.iter().map(|times| times[0] / times[1]));
    let ms = |nth: usize| median(rounds.iter().map(|times| times[nth])) * 1_000.0;
    let times: Vec<_> = (0..TIMES_SMALLER.len())
        .map(|nth| format!("{:.2}", ms(nth)))
        .collect();
    format!("{ratio:.2} ({})", times.join(", "))
}

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(20);
