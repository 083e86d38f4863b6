//! Asking whether a key is good, over loopback on connections that are kept open: the whole
//! server answering from memory, beside an empty axum route that parses the same body behind
//! the same layers, and beside a bare one that has none of them.
//!
//! `cargo bench --bench verify` runs the sides in turn; the client is part of this process,
//! and the same for all. `CREWLOG_BENCH_ONLY` names a side to run alone, for a profiler.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::{io::Write as _, net::IpAddr, net::SocketAddr, sync::Arc};

use axum::{Json, Router, routing::post};
use crewlog::{
    api::{self, EdgeSettings, middleware},
    domain::{Name, api_keys::KeyScope, environment::Environment, ids::CrewId},
    journal::{SystemSource, sealing::RootKey},
    service::NewKey,
};
use harness::{
    Place,
    http::{Figure, asked, listen, listen_plainly},
    median,
    owner::{Owner, request, serve},
    setting,
};
use serde::Deserialize;
use support::postgres::{Cluster, Durability};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const CONNECTIONS: [usize; 3] = [1, 32, 256];
const KEYS: usize = 512;
const PATH: &str = "/v1/api-keys/verify";

/// Something that is asked about keys.
struct Side {
    name: &'static str,
    address: SocketAddr,
    /// Secrets that are asked about in turn.
    secrets: Arc<[String]>,
}

/// What an empty route parses: the body that ours takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is parsed, and nobody looks at it")]
struct Question {
    key: String,
    environment: Option<Environment>,
    crew: Option<CrewId>,
    scope: Option<KeyScope>,
    ip: Option<IpAddr>,
}

fn main() {
    let _session = support::Session::begin();
    // Log lines are made as the program makes them, and thrown away.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .json()
        .flatten_event(true)
        .with_writer(std::io::sink)
        .init();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    let settings = EdgeSettings {
        metrics: Some(api::install_metrics().expect("the first recorder")),
        ..EdgeSettings::default()
    };
    let places = Place::both(cluster).await;
    let mut sides = Vec::new();
    for place in &places {
        sides.push(ours(place, &settings).await);
    }
    let secrets = sides[0].secrets.clone();
    let of_axum = |name, address| Side {
        name,
        address,
        secrets: secrets.clone(),
    };
    let behind_layers = middleware::layers(empty(), &settings);
    sides.push(of_axum("empty route", listen(behind_layers).await));
    sides.push(of_axum("bare route", listen_plainly(empty()).await));
    if let Ok(only) = std::env::var("CREWLOG_BENCH_ONLY") {
        sides.retain(|side| side.name == only);
        let only = sides.first().expect("CREWLOG_BENCH_ONLY names a side");
        let figure = measure(only, 1).await;
        println!(
            "{}, one connection: {:.0} a second",
            only.name, figure.per_second
        );
        return;
    }
    println!("Requests a second (processor µs of this process for one, the client's included):");
    println!();
    let names: Vec<_> = sides.iter().map(|side| side.name).collect();
    println!(
        "| connections | {} | SQLite / empty | PostgreSQL / empty | SQLite / bare | PostgreSQL / bare |",
        names.join(" | ")
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for connections in CONNECTIONS {
        let mut figures = vec![Vec::new(); sides.len()];
        for _ in 0..ROUNDS {
            for (side, figures) in sides.iter().zip(&mut figures) {
                figures.push(measure(side, connections).await);
            }
        }
        print_row(connections, &figures);
    }
}

fn print_row(connections: usize, figures: &[Vec<Figure>]) {
    let cell = |of: &Vec<Figure>| {
        format!(
            "{:.0} ({:.1})",
            median(of.iter().map(|figure| figure.per_second)),
            median(of.iter().map(|figure| figure.cpu_us))
        )
    };
    let ratio = |of: usize, to: usize| {
        let pairs = figures[of].iter().zip(&figures[to]);
        median(pairs.map(|(of, to)| of.per_second / to.per_second))
    };
    println!(
        "| {connections} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
        figures.iter().map(cell).collect::<Vec<_>>().join(" | "),
        ratio(0, 2),
        ratio(1, 2),
        ratio(0, 3),
        ratio(1, 3),
    );
}

/// The whole server, with keys.
async fn ours(place: &Place, settings: &EdgeSettings) -> Side {
    let root = RootKey::generate(&SystemSource);
    let owner = Owner::of(serve(place.open().await, &root).await, 1).await;
    // As many keys as it takes, whatever the smallest plan allows.
    let workspace = owner.more("enterprise", 1).await[0];
    let mut secrets = Vec::with_capacity(KEYS);
    for _ in 0..KEYS {
        let new = NewKey {
            name: Name::parse("Gateway").expect("a name"),
            scopes: KeyScope::OF_WORKSPACE.into(),
            crews: None,
            allowed_cidrs: vec![],
            expires_at: None,
        };
        let service = &owner.service;
        let made = service
            .create_api_key(
                &request(),
                &owner.caller,
                workspace,
                Environment::Production,
                new,
            )
            .await;
        let secret = made.expect("a key is made").value.secret;
        secrets.push(secret.expect("it is shown once").expose().to_owned());
    }
    let app = api::app(owner.service.clone(), settings).expect("the API is made");
    Side {
        name: place.name,
        address: listen(app).await,
        secrets: secrets.into(),
    }
}

/// A route that parses the body and answers with nothing.
fn empty() -> Router {
    let parses = async |Json(question): Json<Question>| {
        std::hint::black_box(question);
    };
    Router::new().route(PATH, post(parses))
}

async fn measure(side: &Side, connections: usize) -> Figure {
    let seconds = setting("CREWLOG_BENCH_SECONDS", 1.0);
    let secrets = side.secrets.clone();
    asked(side.address, connections, seconds, move |count, request| {
        let secret = &secrets[count % secrets.len()];
        let body = format!(
            r#"{{"key":"{secret}","environment":"production","scope":"crews:read","ip":"192.0.2.7"}}"#
        );
        let written = write!(
            request,
            "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench\r\naccept: */*\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        written.expect("memory takes it");
    })
    .await
}
