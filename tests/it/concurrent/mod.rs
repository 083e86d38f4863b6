//! Histories of people who change and read a workspace at once, over HTTP, through every server
//! that there is, while servers are killed and stopped: each must be one that could have happened
//! one thing after the other ([`model`]).
//!
//! ```text
//! CREWLOG_FAULT_ROUNDS=20 cargo test --test it -- concurrent
//! ```

mod checker;
mod model;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{
    Content, Operation, Outcome, Recorded, Seen, THINGS, Thing, Workspace, first_wrong,
    is_linearizable,
};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::load::until;
use crate::support::newcomer::Newcomer;
use crate::support::server::Server;
use crate::support::trials::{self, Case, StoreKind, StoreUnderTest, both, once};

pub fn trials() -> Vec<Case> {
    vec![
        once(
            "concurrent",
            "wrong_histories_are_told_from_right_ones",
            checker::tells_wrong_from_right,
        ),
        both("concurrent", "histories_are_linearizable", histories),
    ]
}

/// Workspaces, each with a history of its own.
const PLACES: usize = 4;
/// Of one workspace.
const CLIENTS: usize = 4;
/// What is answered in a history. Four short ones are checked much faster than one that is long.
const OPERATIONS: usize = 100;

async fn histories(store: StoreUnderTest) {
    let rounds = trials::rounds(trials::FAULT_ROUNDS, 1);
    let mut counts = Counts::default();
    for _ in 0..rounds {
        let mut servers = vec![Server::start(&store).await];
        if store.kind() == StoreKind::Postgres {
            servers.push(Server::start(&store).await);
        }
        let world = World::begin(&servers).await;
        let clients = world.start();
        servers = disturbed(&store, &world, servers).await;
        for client in clients {
            client.await.expect("a client to be content");
        }
        for place in &world.places {
            counts.add(&place.recorded());
            place.check();
        }
        for server in &mut servers {
            assert!(server.terminate().await.success(), "{}", server.logs());
        }
    }
    let Counts {
        operations,
        unknown,
        refused,
    } = counts;
    println!(
        "| {:?} | {} | {operations} | {refused} | {unknown} | 0 |",
        store.kind(),
        rounds * PLACES,
    );
}

/// What was recorded, for the table in `docs/reliability.md`.
#[derive(Default)]
struct Counts {
    operations: usize,
    unknown: usize,
    refused: usize,
}

impl Counts {
    fn add(&mut self, operations: &[Recorded]) {
        self.operations += operations.len();
        for recorded in operations {
            if let Operation::Write { outcome, .. } = recorded.operation {
                self.unknown += usize::from(outcome == Outcome::Unknown);
                self.refused += usize::from(outcome == Outcome::Refused);
            }
        }
    }
}

/// A server is killed and another started in its place, and one is stopped for a while.
async fn disturbed(
    store: &StoreUnderTest,
    world: &Arc<World>,
    mut servers: Vec<Server>,
) -> Vec<Server> {
    let of_all = OPERATIONS * PLACES;
    let mut random = StdRng::from_entropy();
    let half = random.gen_range(of_all / 4..of_all / 2);
    world.records(half).await;
    let stopped = &servers[random.gen_range(0..servers.len())];
    stopped.signal(Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_millis(random.gen_range(20..200))).await;
    stopped.signal(Signal::SIGCONT);
    world.records(half + random.gen_range(0..of_all / 4)).await;
    let killed = random.gen_range(0..servers.len());
    servers[killed].kill().await;
    servers[killed] = Server::start(store).await;
    world.urls()[killed] = servers[killed].base_url().to_owned();
    servers
}

/// Somebody's workspace, and what was done with it.
struct Place {
    token: String,
    workspace: String,
    agent: String,
    begin: Workspace,
    operations: Mutex<Vec<Recorded>>,
    /// The last value that was given.
    value: AtomicUsize,
}

struct World {
    /// Where the servers are.
    urls: Mutex<Vec<String>>,
    client: Client,
    began: Instant,
    places: Vec<Place>,
}

impl World {
    async fn begin(servers: &[Server]) -> Arc<Self> {
        let mut places = Vec::new();
        for _ in 0..PLACES {
            places.push(Place::make(&servers[0]).await);
        }
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(40))
            .build();
        let urls = servers.iter().map(|server| server.base_url().to_owned());
        let world = Self {
            urls: Mutex::new(urls.collect()),
            client: client.expect("an HTTP client"),
            began: Instant::now(),
            places,
        };
        Arc::new(world)
    }

    fn urls(&self) -> MutexGuard<'_, Vec<String>> {
        self.urls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so much is recorded.
    async fn records(&self, enough: usize) {
        let recorded = || {
            let places = self.places.iter();
            places.map(|place| place.operations().len()).sum::<usize>()
        };
        let is_enough = || recorded() >= enough;
        until("a history", Duration::from_secs(60), is_enough).await;
    }

    fn start(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let clients = (0..PLACES * CLIENTS).map(|number| {
            let client = Person {
                world: self.clone(),
                place: number % PLACES,
                random: StdRng::from_entropy(),
                position: 0,
            };
            tokio::spawn(client.work())
        });
        clients.collect()
    }
}

impl Place {
    async fn make(server: &Server) -> Self {
        let newcomer = Newcomer::make(server).await;
        let agent = newcomer.agent(server, agent_of(0)).await;
        let Newcomer {
            token, workspace, ..
        } = newcomer;
        // The last event of its stream, so that its version is what the next one counts from.
        let call = server.patch(&workspace).bearer(&token);
        let named = call.json(body_of(Thing::Name, 0)).await.expect(200);
        let position = named.header("crewlog-position").expect("a position");
        let mut place = Self {
            agent,
            token,
            workspace,
            begin: Workspace::default(),
            operations: Mutex::new(Vec::new()),
            value: AtomicUsize::new(0),
        };
        let mut found = Vec::new();
        for thing in THINGS {
            let call = server.get(&place.path(thing)).bearer(&place.token);
            found.push(content(thing, &call.await.expect(200).body));
        }
        place.begin = Workspace {
            name: found[0],
            policy: found[1],
            agent: found[2],
            position: position.parse().expect("a number"),
        };
        place
    }

    fn path(&self, thing: Thing) -> String {
        match thing {
            Thing::Name => self.workspace.clone(),
            Thing::Policy => format!("{}/policy", self.workspace),
            Thing::Agent => self.agent.clone(),
        }
    }

    fn operations(&self) -> MutexGuard<'_, Vec<Recorded>> {
        let operations = self.operations.lock();
        operations.unwrap_or_else(PoisonError::into_inner)
    }

    fn recorded(&self) -> Vec<Recorded> {
        self.operations().clone()
    }

    /// That what was recorded could have been, and that it could not have with one stale read.
    fn check(&self) {
        let operations = self.recorded();
        if let Some(wrong) = first_wrong(&self.begin, &operations) {
            let until = wrong.answered.unwrap_or(Duration::MAX);
            let mut before = operations.clone();
            before.retain(|recorded| recorded.asked <= until);
            before.sort_by_key(|recorded| recorded.asked);
            let last = before.split_off(before.len().saturating_sub(40));
            panic!("no order explains {wrong:#?}; asked before it: {last:#?}");
        }
        let stale = with_a_stale_read(&operations).expect("something was read twice");
        assert!(!is_linearizable(&self.begin, &stale), "a read is stale");
    }
}

/// The history with a read that answers what was read once, and was known to be overwritten when
/// it was asked.
fn with_a_stale_read(operations: &[Recorded]) -> Option<Vec<Recorded>> {
    let reads = operations.iter().enumerate().filter_map(|(number, one)| {
        let Operation::Read {
            thing,
            content,
            seen: Seen::At(_),
        } = one.operation
        else {
            return None;
        };
        Some((number, thing, content, one.asked, one.answered?))
    });
    let reads: Vec<_> = reads.collect();
    for (number, thing, _, asked, _) in reads.iter().rev() {
        let known = reads.iter().filter(|(.., answered)| answered < asked);
        let mut known = known.filter(|(_, other, ..)| other == thing);
        let newer = known
            .clone()
            .max_by_key(|(_, _, content, ..)| content.version);
        let Some((_, _, newer, ..)) = newer else {
            continue;
        };
        let older = known.find(|(_, _, content, ..)| content.version < newer.version);
        if let Some((_, _, older, ..)) = older {
            let mut stale = operations.to_vec();
            if let Operation::Read { content, .. } = &mut stale[*number].operation {
                *content = *older;
            }
            return Some(stale);
        }
    }
    None
}

/// What an answer says.
enum Told {
    /// How the thing is, and the position.
    So(Content, u64),
    /// 412.
    Refused,
    /// Nobody knows what became of it.
    Nothing,
    /// It has not reached anybody.
    NotAsked,
}

/// Who changes and reads a workspace, one thing after the other.
struct Person {
    world: Arc<World>,
    place: usize,
    random: StdRng,
    /// The newest that it knows of.
    position: u64,
}

impl Person {
    async fn work(mut self) {
        let mut seen = THINGS.map(|thing| self.place().begin.content(thing).version);
        while self.place().operations().len() < OPERATIONS {
            let one = self.random.gen_range(0..THINGS.len());
            let thing = THINGS[one];
            let version = match self.random.gen_range(0..10) {
                0..=4 => self.read(thing).await,
                5..=6 => self.write(thing, None).await,
                // As new as it knows, which others may have made old.
                _ => self.write(thing, Some(seen[one])).await,
            };
            match version {
                Some(version) => seen[one] = version,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    fn place(&self) -> &Place {
        &self.world.places[self.place]
    }

    fn now(&self) -> Duration {
        self.world.began.elapsed()
    }

    fn record(&self, asked: Duration, answered: Option<Duration>, operation: Operation) {
        self.place().operations().push(Recorded {
            asked,
            answered,
            operation,
        });
    }

    /// Answers with the version, where it was told one.
    async fn read(&mut self, thing: Thing) -> Option<u64> {
        let asked = self.now();
        let Told::So(content, position) = self.ask(thing, None, None).await else {
            return None;
        };
        let operation = Operation::Read {
            thing,
            content,
            seen: Seen::At(position),
        };
        self.record(asked, Some(self.now()), operation);
        self.position = position;
        Some(content.version)
    }

    async fn write(&mut self, thing: Thing, if_version: Option<u64>) -> Option<u64> {
        let value = self.place().value.fetch_add(1, Ordering::SeqCst) as u64 + 1;
        // Some repeat what was not answered until it is, others never hear of it.
        let repeats = self.random.gen_bool(0.5);
        let asked = self.now();
        let told = loop {
            match self.ask(thing, Some(value), if_version).await {
                Told::NotAsked | Told::Nothing if repeats => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                told => break told,
            }
        };
        let answered = self.now();
        let write = |outcome| Operation::Write {
            thing,
            value,
            if_version,
            outcome,
        };
        match told {
            Told::So(content, position) => {
                self.record(asked, Some(answered), write(Outcome::Done(position)));
                let read = Operation::Read {
                    thing,
                    content,
                    seen: Seen::Since(position),
                };
                self.record(asked, Some(answered), read);
                self.position = position;
                Some(content.version)
            }
            Told::Refused => {
                self.record(asked, Some(answered), write(Outcome::Refused));
                None
            }
            Told::Nothing => {
                self.record(asked, None, write(Outcome::Unknown));
                None
            }
            Told::NotAsked => None,
        }
    }

    /// Asks any of the servers for a thing, or to give it a value.
    async fn ask(&mut self, thing: Thing, value: Option<u64>, if_version: Option<u64>) -> Told {
        let world = self.world.clone();
        let place = &world.places[self.place];
        let url = {
            let urls = world.urls();
            urls[self.random.gen_range(0..urls.len())].clone()
        };
        let method = match (value, thing) {
            (None, _) => Method::GET,
            (Some(_), Thing::Name) => Method::PATCH,
            (Some(_), Thing::Policy | Thing::Agent) => Method::PUT,
        };
        let address = format!("{url}{}", place.path(thing));
        let mut request = world
            .client
            .request(method, address)
            .bearer_auth(&place.token);
        if let Some(value) = value {
            let key = format!("{}-{value}", self.place);
            request = request.header("idempotency-key", key);
            request = request.json(&body_of(thing, value));
        }
        if let Some(version) = if_version {
            request = request.header("if-match", format!("\"{version}\""));
        }
        let at_least = (value.is_none() && self.random.gen_bool(0.5)).then_some(self.position);
        if let Some(position) = at_least {
            request = request.header("crewlog-position", position.to_string());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Told::NotAsked,
            Err(_) => return Told::Nothing,
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let Ok(text) = response.text().await else {
            return Told::Nothing;
        };
        match status {
            200 => {}
            412 => return Told::Refused,
            503 => return Told::Nothing,
            409 if text.contains("idempotency_in_progress") => return Told::Nothing,
            _ => panic!("{thing:?} {value:?}: {status} {text}"),
        }
        let position = headers.get("crewlog-position").expect("a position");
        let position = position.to_str().expect("text").parse().expect("a number");
        assert!(
            at_least.is_none_or(|at_least| position >= at_least),
            "{text}"
        );
        let body = serde_json::from_str(&text).expect("JSON");
        Told::So(content(thing, &body), position)
    }
}

fn name_of(value: u64) -> String {
    format!("name {value}")
}

fn agent_of(value: u64) -> Value {
    json!({"name": "Agent", "config": {"value": value}})
}

fn body_of(thing: Thing, value: u64) -> Value {
    match thing {
        Thing::Name => json!({"name": name_of(value)}),
        Thing::Policy => json!({"key_rotation_days": value}),
        Thing::Agent => agent_of(value),
    }
}

/// What an answer says of a thing.
fn content(thing: Thing, body: &Value) -> Content {
    let value = match thing {
        Thing::Name => {
            let name = body["name"].as_str().and_then(|name| name.split_once(' '));
            name.and_then(|(_, value)| value.parse().ok())
        }
        // Of a new workspace: as old as they like.
        Thing::Policy if body["key_rotation_days"].is_null() => Some(0),
        Thing::Policy => body["key_rotation_days"].as_u64(),
        Thing::Agent => body["config"]["value"].as_u64(),
    };
    Content {
        value: value.unwrap_or_else(|| panic!("{thing:?} in {body}")),
        version: body["version"].as_u64().expect("a version"),
    }
}
