//! Mixed load at a steady pace for as long as one likes: memory, latencies, open files and the
//! queue stay as they are, and the server warns of nothing.
//!
//! The short form runs with all other tests and looks for warnings, and that everything is asked
//! and answered. Times and memory are judged in a run of half an hour or more:
//!
//! ```text
//! CREWLOG_LOAD_MINUTES=60 cargo test --release --test it -- endurance --test-threads=1
//! ```
//!
//! It leaves a table (CSV) and a picture (SVG) behind and says where. What is written has a working
//! set that does not grow, such as workspaces that are renamed: what a server keeps in memory of
//! what it has seen is bounded elsewhere, and would grow up to there.

mod samples;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crewlog::journal::{Source, SystemSource};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Client, Method};
use samples::{KINDS, Kind, Latency, Sample, columns, csv, growth, svg};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::edge::tails::Tail;
use crate::support::commands::{crewlog_on, run_within};
use crate::support::newcomer::Newcomer;
use crate::support::postgres::Cluster;
use crate::support::scratch;
use crate::support::server::Server;
use crate::support::trials::{self, Case, StoreKind, StoreUnderTest, on, once, with_cluster};

pub fn trials() -> Vec<Case> {
    vec![
        once("endurance", "growth_is_told_from_noise", told_from_noise),
        on(
            &[StoreKind::Sqlite],
            "endurance",
            "mixed_load",
            async |store| {
                endure(&store).await;
            },
        ),
        with_cluster("endurance", "mixed_load", async |cluster: Cluster| {
            let database = cluster.database().await.expect("a database");
            endure(&StoreUnderTest::in_database(database)).await;
        }),
    ]
}

const WORKSPACES: usize = 8;
/// Each with a pause after each answer, at least: what a second has of it does not depend on how
/// fast the server is.
const CLIENTS: [(Kind, usize, Duration); 3] = [
    (Kind::Write, 8, Duration::from_millis(200)),
    (Kind::Read, 8, Duration::from_millis(100)),
    (Kind::Audit, 2, Duration::from_millis(500)),
];
const TAILS: usize = 4;
/// Between two runs of `verify`.
const VERIFY_PAUSE: Duration = Duration::from_secs(60);
/// For a command that reads the whole log of an hour.
const COMMAND_LIMIT: Duration = Duration::from_secs(600);
/// What the server may warn of, and why.
const EXPLAINED: [&str; 2] = [
    // Of a second or more; how long things take is told by the latencies.
    "slow statement: execution time exceeded alert threshold",
    // PostgreSQL's word to the ROLLBACK that sqlx sends for a transaction which was dropped while its
    // COMMIT was on the way, as work in the background is when the server stops: it has committed.
    "there is no transaction in progress",
];
/// From here on growth fails a run: before, caches fill.
const JUDGED_MINUTES: usize = 30;

/// How long a run is, and how long one sample of it.
#[derive(Clone, Copy)]
struct Length {
    minutes: usize,
    all: Duration,
    sample: Duration,
}

impl Length {
    fn wanted() -> Self {
        let minutes = trials::rounds(trials::LOAD_MINUTES, 0);
        let all = match minutes {
            0 => Duration::from_secs(4),
            _ => Duration::from_secs(60 * minutes as u64),
        };
        let sample = (all / 60).clamp(Duration::from_secs(1), Duration::from_secs(60));
        Self {
            minutes,
            all,
            sample,
        }
    }
}

/// Somebody's workspace.
struct Place {
    token: String,
    path: String,
    crew: String,
    agent: String,
}

struct World {
    base_url: String,
    client: Client,
    places: Vec<Place>,
    is_over: AtomicBool,
    /// Of the sample that is being taken, by [`KINDS`].
    taken: Mutex<[Vec<Duration>; 3]>,
    tailed: AtomicUsize,
    queued: AtomicUsize,
    position: AtomicU64,
    verify_ms: AtomicU64,
    number: AtomicUsize,
}

async fn endure(store: &StoreUnderTest) {
    let length = Length::wanted();
    let mut command = Server::command(store);
    command.env("CREWLOG_LOG", "warn");
    let mut server = Server::launch(command).await;
    let world = World::begin(&server).await;
    let mut tasks = world.start();
    tasks.push(tokio::spawn(world.clone().looks_at_the_queue()));
    let (samples, ()) = tokio::join!(world.samples(&server, length), world.verifies(store));
    for task in tasks {
        task.await.expect("a client to be content");
    }
    if length.minutes == 0 {
        run_within(crewlog_on(store, &["verify"]), COMMAND_LIMIT).expect(0);
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    run_within(crewlog_on(store, &["replay", "--check"]), COMMAND_LIMIT).expect(0);
    let warned = warnings(&server.logs());
    assert_eq!(warned, [] as [String; 0], "nothing was wrong");
    leave(store, length, &samples);
    for (at, kind) in KINDS.iter().enumerate() {
        let mut answers = samples.iter().map(|sample| sample.latencies[at].answers);
        assert!(answers.any(|answers| answers > 0), "{}", kind.name());
    }
    assert!(samples.iter().any(|sample| sample.tailed > 0), "tails");
    judge(length, &samples);
}

/// Lines that warn, or tell of an error, without what is explained.
fn warnings(logs: &str) -> Vec<String> {
    let told = ["\"level\":\"WARN\"", "\"level\":\"ERROR\""];
    let has = |line: &str, one_of: &[&str]| one_of.iter().any(|words| line.contains(words));
    let lines = logs.lines().filter(|line| has(line, &told));
    let lines = lines.filter(|line| !has(line, &EXPLAINED));
    lines.map(str::to_owned).collect()
}

/// Writes down what was seen.
fn leave(store: &StoreUnderTest, length: Length, samples: &[Sample]) {
    let name = match store.kind() {
        StoreKind::Sqlite => "SQLite",
        StoreKind::Postgres => "PostgreSQL",
    };
    // A short run leaves alone what a long one has left.
    let (_folder, path): (Option<TempDir>, PathBuf) = match length.minutes {
        0 => {
            let folder = scratch::directory("endurance");
            let path = folder.path().to_owned();
            (Some(folder), path)
        }
        _ => (None, Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned()),
    };
    let file = path.join(format!("endurance-{}", name.to_lowercase()));
    for (extension, text) in [("csv", csv(samples)), ("svg", svg(name, samples))] {
        let file = file.with_extension(extension);
        std::fs::write(&file, text).expect("a file");
        if length.minutes > 0 {
            println!("{name}: {}", file.display());
        }
    }
}

/// Says how everything has developed, and fails where something grew in a long run.
fn judge(length: Length, samples: &[Sample]) {
    if length.minutes == 0 {
        return;
    }
    println!("| | first quarter | last quarter | growth in the second half | allowed |");
    println!("|---|---|---|---|---|");
    let mut grown = Vec::new();
    for column in columns(samples) {
        let (grew, allowed) = column.judged();
        let values = &column.values;
        let quarter = values.len().div_ceil(4);
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (first, last) = (
            mean(&values[..quarter]),
            mean(&values[values.len() - quarter..]),
        );
        let name = &column.name;
        println!("| {name} | {first:.1} | {last:.1} | {grew:.1} | {allowed:.1} |");
        if grew > allowed {
            grown.push(format!("{name} by {grew:.1}"));
        }
    }
    assert!(
        grown.is_empty() || length.minutes < JUDGED_MINUTES,
        "it grows: {grown:?}"
    );
}

impl World {
    async fn begin(server: &Server) -> Arc<Self> {
        let mut places = Vec::new();
        for _ in 0..WORKSPACES {
            places.push(Place::make(server).await);
        }
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build();
        Arc::new(Self {
            base_url: server.base_url().to_owned(),
            client: client.expect("an HTTP client"),
            places,
            is_over: AtomicBool::new(false),
            taken: Mutex::default(),
            tailed: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            position: AtomicU64::new(0),
            verify_ms: AtomicU64::new(0),
            number: AtomicUsize::new(0),
        })
    }

    fn start(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        for (kind, clients, pause) in CLIENTS {
            for _ in 0..clients {
                tasks.push(tokio::spawn(self.clone().asks(kind, pause)));
            }
        }
        for number in 0..TAILS {
            tasks.push(tokio::spawn(self.clone().follows(number)));
        }
        tasks
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn next_number(&self) -> usize {
        self.number.fetch_add(1, Ordering::SeqCst)
    }

    async fn asks(self: Arc<Self>, kind: Kind, pause: Duration) {
        let mut random = StdRng::from_entropy();
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_over() {
            ticks.tick().await;
            let place = &self.places[random.gen_range(0..self.places.len())];
            match kind {
                Kind::Write => self.write(place, random.gen_range(0..50)).await,
                Kind::Read => self.read(place, random.gen_range(0..5)).await,
                Kind::Audit => self.audit(place, random.gen_range(0..3)).await,
            }
        }
    }

    /// Asks, and keeps how long the answer took.
    async fn ask(&self, kind: Kind, token: &str, call: (Method, String, Option<Value>)) -> Value {
        let (method, path, body) = call;
        let url = format!("{}{path}", self.base_url);
        let mut request = self.client.request(method, url).bearer_auth(token);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let started = Instant::now();
        let response = request.send().await;
        let response = response.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let status = response.status();
        let text = response.text().await.expect("an answer");
        let took = started.elapsed();
        assert!(status.is_success(), "{path} {body:?}: {status} {text}");
        let at = KINDS.iter().position(|known| *known == kind);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken[at.expect("a kind")].push(took);
        drop(taken);
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    async fn write(&self, place: &Place, which: usize) {
        let (number, path) = (self.next_number(), &place.path);
        let now = SystemSource.now().to_rfc3339();
        let (method, path, body) = match which {
            0..24 => (
                Method::PATCH,
                path.clone(),
                json!({"name": format!("name {number}")}),
            ),
            24..38 => (
                Method::PUT,
                format!("{path}/policy"),
                json!({"key_rotation_days": 1 + number % 3_650}),
            ),
            38..44 => (
                Method::POST,
                format!("{}/activity", place.crew),
                json!({"records": [{"id": format!("act-{number}"), "at": now, "kind": "call"}]}),
            ),
            44..48 => (
                Method::POST,
                format!("{path}/usage"),
                json!({"records": [{
                    "id": format!("use-{number}"), "crew": place.crew_id(), "at": now,
                    "meter": "messages", "quantity": 1,
                }]}),
            ),
            48 => (
                Method::PUT,
                place.agent.clone(),
                json!({"name": "Agent", "config": {"value": number}}),
            ),
            _ => return self.invite(place, number).await,
        };
        self.ask(Kind::Write, &place.token, (method, path, Some(body)))
            .await;
    }

    /// Somebody who is told a moment later that it was a mistake.
    async fn invite(&self, place: &Place, number: usize) {
        let path = format!("{}/invitations", place.path);
        let body = json!({"email": format!("guest{number}@example.com"), "role": "viewer"});
        let call = (Method::POST, path.clone(), Some(body));
        let made = self.ask(Kind::Write, &place.token, call).await;
        let path = format!("{path}/{}", made["id"].as_str().expect("an id"));
        let call = (Method::DELETE, path, None);
        self.ask(Kind::Write, &place.token, call).await;
    }

    async fn read(&self, place: &Place, which: usize) {
        let path = &place.path;
        let path = match which {
            0 => path.clone(),
            1 => format!("{path}/members"),
            2 => format!("{path}/policy"),
            3 => format!("{path}/crews"),
            _ => place.agent.clone(),
        };
        let call = (Method::GET, path, None);
        self.ask(Kind::Read, &place.token, call).await;
    }

    async fn audit(&self, place: &Place, which: usize) {
        let query = match which {
            0 => "limit=50",
            1 => "limit=20&action=workspace.renamed",
            _ => "limit=20&q=Somebody",
        };
        let path = format!("{}/audit?{query}", place.path);
        let call = (Method::GET, path, None);
        self.ask(Kind::Audit, &place.token, call).await;
    }

    /// Follows a workspace's log to the end; every entry comes once, and in order.
    async fn follows(self: Arc<Self>, number: usize) {
        let place = &self.places[number % self.places.len()];
        let path = format!("{}/audit/stream", place.path);
        // Without a limit to how long an answer may be.
        let client = Client::builder().no_proxy().build();
        let client = client.expect("an HTTP client");
        let mut last = None;
        while !self.is_over() {
            let tail = Tail::open(&client, &self.base_url, &path, &place.token, last);
            let mut tail = tail.await.expect("a tail");
            while !self.is_over() {
                let next = tokio::time::timeout(Duration::from_millis(200), tail.next()).await;
                let Ok(told) = next else { continue };
                let Some(told) = told else { break };
                if let Some(id) = told.id {
                    assert!(last.is_none_or(|last| id > last), "{id} after {last:?}");
                    last = Some(id);
                    self.tailed.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    }

    /// The queue is short-lived: it is looked at more often than samples are taken.
    async fn looks_at_the_queue(self: Arc<Self>) {
        while !self.is_over() {
            let url = format!("{}/readyz", self.base_url);
            let read = self.client.get(url).send().await.expect("an answer");
            let body: Value = read.json().await.expect("JSON");
            let length = body["queue"]["length"].as_u64().expect("a length");
            self.queued.fetch_max(length as usize, Ordering::SeqCst);
            let position = body["position"].as_u64().expect("a position");
            self.position.store(position, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Verifies the store beside the server, over and over.
    async fn verifies(&self, store: &StoreUnderTest) {
        let mut ended = Instant::now();
        while !self.is_over() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if ended.elapsed() < VERIFY_PAUSE {
                continue;
            }
            let command = crewlog_on(store, &["verify"]);
            let started = Instant::now();
            let verified =
                tokio::task::spawn_blocking(move || run_within(command, COMMAND_LIMIT).expect(0));
            verified.await.expect("no panic");
            let took = started.elapsed().as_millis() as u64;
            self.verify_ms.store(took, Ordering::SeqCst);
            ended = Instant::now();
        }
    }

    async fn samples(&self, server: &Server, length: Length) -> Vec<Sample> {
        let began = Instant::now();
        let mut samples = Vec::new();
        while began.elapsed() < length.all {
            tokio::time::sleep(length.sample).await;
            samples.push(self.sample(server, began));
        }
        self.is_over.store(true, Ordering::SeqCst);
        samples
    }

    fn sample(&self, server: &Server, began: Instant) -> Sample {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *taken);
        let (resident_mib, open_files) = samples::process(server.id()).unwrap_or_default();
        Sample {
            seconds: began.elapsed().as_secs_f64(),
            resident_mib,
            open_files,
            queued: self.queued.swap(0, Ordering::SeqCst),
            position: self.position.load(Ordering::SeqCst),
            latencies: taken.map(Latency::of),
            tailed: self.tailed.swap(0, Ordering::SeqCst),
            verify_seconds: self.verify_ms.load(Ordering::SeqCst) as f64 / 1e3,
            warnings: warnings(&server.logs()).len(),
        }
    }
}

impl Place {
    async fn make(server: &Server) -> Self {
        let newcomer = Newcomer::make(server).await;
        let agent = json!({"name": "Agent", "config": {"value": 0}});
        Self {
            agent: newcomer.agent(server, agent).await,
            token: newcomer.token,
            path: newcomer.workspace,
            crew: newcomer.crew,
        }
    }

    fn crew_id(&self) -> &str {
        let (_, id) = self.crew.rsplit_once('/').expect("a path");
        id
    }
}

/// A slow growth under noise and spikes is found, and noise is none.
async fn told_from_noise(_: TempDir) {
    let mut random = StdRng::seed_from_u64(7);
    let mut series = |slope: f64| -> Vec<f64> {
        let values = (0..30).map(|at| {
            let spike = if at % 9 == 4 { 200.0 } else { 0.0 };
            100.0 + slope * f64::from(at) + random.gen_range(-3.0..3.0) + spike
        });
        values.collect()
    };
    let (flat, grows) = (growth(&series(0.0)), growth(&series(1.0)));
    assert!(flat.abs() < 5.0, "{flat}");
    assert!((20.0..40.0).contains(&grows), "{grows}");
    assert_eq!(growth(&[5.0]), 0.0);

    let sample = |at: usize| Sample {
        seconds: at as f64,
        resident_mib: 100.0 + at as f64,
        latencies: [Latency::of(vec![Duration::from_millis(2), Duration::from_millis(9)]); 3],
        ..Sample::default()
    };
    let samples: Vec<_> = (0..60).map(sample).collect();
    let grown = columns(&samples).into_iter().filter(|column| {
        let (grew, allowed) = column.judged();
        grew > allowed
    });
    let grown: BTreeSet<_> = grown.map(|column| column.name).collect();
    assert_eq!(grown, BTreeSet::from(["memory, MiB".to_owned()]));
    let table = csv(&samples);
    assert_eq!(table.lines().count(), 61);
    let columns = table.lines().map(|line| line.split(',').count());
    assert_eq!(columns.collect::<BTreeSet<_>>().len(), 1, "{table}");
    let picture = svg("a server", &samples);
    assert_eq!(picture.matches("<polyline").count(), 9);
}
