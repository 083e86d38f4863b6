//! Requests a second end to end, over loopback on connections that are kept open: renaming
//! and reading a workspace through the whole server, beside a bare axum route that parses the
//! same body and answers one of the same size; and the same of workspaces whose requests are
//! counted against a limit that nobody reaches, beside those that have none.
//!
//! `cargo bench --bench http` runs the sides in turn; the client is part of this process, and
//! small, so that what it takes is the same for all.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::{io::Write as _, net::SocketAddr, path::Path, sync::Arc};

use axum::{Json, Router, routing::get};
use crewlog::{
    api::{self, EdgeSettings},
    journal::{SystemSource, sealing::RootKey},
    service::{ServiceSettings, plans::Catalogue},
};
use harness::{
    Place,
    http::{Figure, asked, listen, listen_plainly},
    median,
    owner::{Owner, serve_with},
    setting,
};
use serde_json::{Value, json};
use support::postgres::{Cluster, Durability};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const CONNECTIONS: [usize; 3] = [1, 32, 256];
const WORKSPACES: usize = 512;
/// Plans of which one limits nothing, and one counts.
const PLANS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/http/plans.json");

/// Something that is asked over HTTP.
struct Side {
    address: SocketAddr,
    token: String,
    /// Paths that are asked for in turn.
    paths: Arc<[String]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Rename,
    Read,
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
    let places = Place::both(cluster).await;
    let metrics = api::install_metrics().expect("the first recorder");
    let mut sides = vec![bare().await];
    for place in &places {
        let root = RootKey::generate(&SystemSource);
        let plans = ServiceSettings {
            catalogue: Catalogue::read(Path::new(PLANS)).expect("a catalogue"),
            ..ServiceSettings::default()
        };
        let service = serve_with(place.open().await, &root, plans).await;
        let owner = Owner::of(service, WORKSPACES).await;
        let counted = owner.more("counted", WORKSPACES).await;
        let settings = EdgeSettings {
            metrics: Some(metrics.clone()),
            ..EdgeSettings::default()
        };
        let app = api::app(owner.service.clone(), &settings).expect("the API is made");
        let address = listen(app).await;
        for workspaces in [&owner.workspaces, &counted] {
            let ids = workspaces.iter();
            sides.push(Side {
                address,
                token: owner.token.clone(),
                paths: ids.map(|id| format!("/v1/workspaces/{id}")).collect(),
            });
        }
    }
    println!("Requests a second (processor µs of this process for one, the client's included):");
    println!();
    println!(
        "| connections | bare route | SQLite | counted | PostgreSQL | counted | SQLite / bare | PostgreSQL / bare | SQLite counted / not | PostgreSQL counted / not |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for ask in [Ask::Read, Ask::Rename] {
        for connections in CONNECTIONS {
            let mut figures = vec![Vec::new(); sides.len()];
            for _ in 0..ROUNDS {
                for (side, figures) in sides.iter().zip(&mut figures) {
                    figures.push(measure(side, ask, connections).await);
                }
            }
            print_row(ask, connections, &figures);
        }
    }
}

fn print_row(ask: Ask, connections: usize, figures: &[Vec<Figure>]) {
    let cell = |of: &Vec<Figure>| {
        format!(
            "{:.0} ({:.0})",
            median(of.iter().map(|figure| figure.per_second)),
            median(of.iter().map(|figure| figure.cpu_us))
        )
    };
    let against = |side: usize, other: usize| {
        let pairs = figures[side].iter().zip(&figures[other]);
        median(pairs.map(|(side, other)| side.per_second / other.per_second))
    };
    let what = match ask {
        Ask::Read => "GET",
        Ask::Rename => "PATCH",
    };
    println!(
        "| {what}, {connections} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
        figures.iter().map(cell).collect::<Vec<_>>().join(" | "),
        against(1, 0),
        against(3, 0),
        against(2, 1),
        against(4, 3)
    );
}

/// A route that only parses and answers.
async fn bare() -> Side {
    let answer = || {
        Json(json!({
            "id": "ws_01kax5y3e8f8ttrxvd0v8ypt5n",
            "version": 3,
            "created_at": "2026-11-24T06:30:00.000000Z",
            "updated_at": "2026-11-24T06:30:00.000000Z",
            "organization": "org_01kax5y3e8f8ttrxvd0v8ypt5n",
            "name": "Workspace",
            "plan": "free",
        }))
    };
    let rename = move |Json(body): Json<Value>| async move {
        std::hint::black_box(body);
        answer()
    };
    let route = get(move || async move { answer() }).patch(rename);
    Side {
        address: listen_plainly(Router::new().route("/v1/workspaces/{ws}", route)).await,
        token: "bare".to_owned(),
        paths: vec!["/v1/workspaces/ws_01kax5y3e8f8ttrxvd0v8ypt5n".to_owned()].into(),
    }
}

async fn measure(side: &Side, ask: Ask, connections: usize) -> Figure {
    let seconds = setting("CREWLOG_BENCH_SECONDS", 1.0);
    let (token, paths) = (side.token.clone(), side.paths.clone());
    asked(side.address, connections, seconds, move |count, request| {
        let path = &paths[count * 7 % paths.len()];
        write_request(request, ask, path, &token, count);
    })
    .await
}

fn write_request(request: &mut Vec<u8>, ask: Ask, path: &str, token: &str, count: usize) {
    let headers = format!(
        "host: localhost\r\nauthorization: Bearer {token}\r\nuser-agent: bench\r\n\
         accept: */*\r\naccept-encoding: gzip\r\n"
    );
    let written = match ask {
        Ask::Read => write!(request, "GET {path} HTTP/1.1\r\n{headers}\r\n"),
        Ask::Rename => {
            let body = format!(r#"{{"name":"Workspace {count}"}}"#);
            let length = body.len();
            write!(
                request,
                "PATCH {path} HTTP/1.1\r\n{headers}content-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
        }
    };
    written.expect("memory takes it");
}
