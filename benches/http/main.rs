//! Requests a second end to end, over loopback on connections that are kept open: renaming
//! and reading a workspace through the whole server, beside a bare axum route that parses the
//! same body and answers one of the same size.
//!
//! `cargo bench --bench http` runs the sides in turn; the client is part of this process, and
//! small, so that what it takes is the same for all.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use axum::{Json, Router, routing::get};
use crewlog::{
    api::{self, EdgeSettings},
    journal::{SystemSource, sealing::RootKey},
};
use harness::{
    Place, cpu_time, median,
    owner::{Owner, serve},
    setting,
};
use serde_json::{Value, json};
use support::postgres::{Cluster, Durability};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const CONNECTIONS: [usize; 3] = [1, 32, 256];
const WORKSPACES: usize = 512;

/// Something that is asked over HTTP.
struct Side {
    name: &'static str,
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

/// A second's requests, and the processor time of this process for one, the client's included.
#[derive(Clone, Copy)]
struct Figure {
    per_second: f64,
    cpu_us: f64,
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
        let owner = Owner::of(serve(place.open().await, &root).await, WORKSPACES).await;
        let settings = EdgeSettings {
            metrics: Some(metrics.clone()),
            ..EdgeSettings::default()
        };
        let app = api::app(owner.service.clone(), &settings).expect("the API is made");
        let ids = owner.workspaces.iter();
        sides.push(Side {
            name: place.name,
            address: listen(app).await,
            token: owner.token.clone(),
            paths: ids.map(|id| format!("/v1/workspaces/{id}")).collect(),
        });
    }
    println!("Requests a second (processor µs of this process for one, the client's included):");
    println!();
    println!(
        "| connections | bare route | SQLite | PostgreSQL | SQLite / bare | PostgreSQL / bare |"
    );
    println!("|---|---|---|---|---|---|");
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
    let against_bare = |side: usize| {
        let pairs = figures[side].iter().zip(&figures[0]);
        median(pairs.map(|(side, bare)| side.per_second / bare.per_second))
    };
    let what = match ask {
        Ask::Read => "GET",
        Ask::Rename => "PATCH",
    };
    println!(
        "| {what}, {connections} | {} | {:.2} | {:.2} |",
        figures.iter().map(cell).collect::<Vec<_>>().join(" | "),
        against_bare(1),
        against_bare(2)
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
        name: "bare route",
        address: listen(Router::new().route("/v1/workspaces/{ws}", route)).await,
        token: "bare".to_owned(),
        paths: vec!["/v1/workspaces/ws_01kax5y3e8f8ttrxvd0v8ypt5n".to_owned()].into(),
    }
}

/// Serves as `crewlog serve` does.
async fn listen(app: Router) -> SocketAddr {
    use axum::serve::ListenerExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn measure(side: &Side, ask: Ask, connections: usize) -> Figure {
    let seconds = setting("CREWLOG_BENCH_SECONDS", 1.0);
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(side.address).await);
    }
    let count = Arc::new(AtomicUsize::new(0));
    let (cpu_before, started) = (cpu_time(), Instant::now());
    let tasks: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, mut client)| {
            let (count, token, paths) = (count.clone(), side.token.clone(), side.paths.clone());
            tokio::spawn(async move {
                let mut turn = number * 7;
                while started.elapsed().as_secs_f64() < seconds {
                    turn += connections;
                    let count = count.fetch_add(1, Ordering::Relaxed);
                    let path = &paths[turn % paths.len()];
                    client.ask(ask, path, &token, count).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await
            .unwrap_or_else(|error| panic!("{}: {error}", side.name));
    }
    let requests = count.load(Ordering::Relaxed) as f64;
    Figure {
        per_second: requests / started.elapsed().as_secs_f64(),
        cpu_us: (cpu_time() - cpu_before).as_secs_f64() * 1e6 / requests,
    }
}

/// As little of an HTTP client as serves here: one request after the other, bodies with a
/// length.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        Self {
            stream,
            received: Vec::with_capacity(4_096),
        }
    }

    async fn ask(&mut self, ask: Ask, path: &str, token: &str, count: usize) {
        let headers = format!(
            "host: localhost\r\nauthorization: Bearer {token}\r\nuser-agent: bench\r\n\
             accept: */*\r\naccept-encoding: gzip\r\n"
        );
        let request = match ask {
            Ask::Read => format!("GET {path} HTTP/1.1\r\n{headers}\r\n"),
            Ask::Rename => {
                let body = format!(r#"{{"name":"Workspace {count}"}}"#);
                let length = body.len();
                format!(
                    "PATCH {path} HTTP/1.1\r\n{headers}content-type: application/json\r\n\
                     content-length: {length}\r\n\r\n{body}"
                )
            }
        };
        let sent = self.stream.write_all(request.as_bytes()).await;
        sent.expect("it is sent");
        self.answer().await;
    }

    async fn answer(&mut self) {
        self.received.clear();
        while !is_whole(&self.received) {
            let read = self.stream.read_buf(&mut self.received).await;
            assert_ne!(read.expect("an answer"), 0, "the connection was closed");
        }
        let is_good = self.received.starts_with(b"HTTP/1.1 200");
        assert!(is_good, "{}", String::from_utf8_lossy(&self.received));
    }
}

/// Whether an answer has come to its end.
fn is_whole(received: &[u8]) -> bool {
    let Some(head) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let text = std::str::from_utf8(&received[..head]).expect("a head is text");
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let found = name.eq_ignore_ascii_case("content-length");
        found.then(|| value.trim().parse::<usize>().expect("a number"))
    });
    match length {
        Some(length) => received.len() >= head + 4 + length,
        // In chunks, then.
        None => received.ends_with(b"\r\n0\r\n\r\n"),
    }
}
