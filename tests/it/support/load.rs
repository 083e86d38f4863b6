//! Clients that know what they were answered: random commands over HTTP, whatever happens to the
//! servers, and afterwards the question whether the log agrees.
//!
//! Each command has a number, which is in its request id (and so in the metadata of every entry that
//! it makes) and in its idempotency key. So it can be found in the log without its answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crewlog::journal::StoredEvent;
use crewlog::journal::stores::Store;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::ledger;
use super::server::Server;

/// No answer takes longer, whatever has happened to the store: five seconds for a connection, eight
/// for the writer, and some for a busy machine.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(18);

const PASSWORD: &str = "a long enough password";

/// Somebody with an organization and a workspace of their own.
#[derive(Debug, Clone)]
pub struct Owner {
    pub token: String,
    pub organization: String,
    pub workspace: String,
}

/// What a command asks for.
#[derive(Debug, Clone)]
pub enum Ask {
    Rename,
    Invite,
    CreateWorkspace,
    /// Of the colleague in the owner's workspace.
    ChangeRole(&'static str),
    /// By the colleague, who may only while they are an admin.
    InviteByColleague,
}

/// A command, and what its client was told.
#[derive(Debug, Clone)]
pub struct Command {
    pub number: usize,
    pub owner: usize,
    pub ask: Ask,
    /// How often it was sent.
    pub attempts: usize,
    pub answer: Option<Answer>,
}

/// An answer that ends a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done, at this position.
    Done(u64),
    /// Refused with this code.
    Refused(String),
}

/// What became of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Answered,
    /// 503: to be repeated.
    Later,
    /// The connection broke.
    Nothing,
}

/// Counts of a run, for the table in `docs/reliability.md`.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    pub commands: usize,
    pub attempts: usize,
    pub done: usize,
    pub refused: usize,
    pub entries: usize,
    /// Commands that were written although their first attempt was never answered.
    pub found: usize,
    pub slowest: Duration,
}

/// People, their commands, and the clients that send them.
pub struct Load {
    pub owners: Vec<Owner>,
    /// A member of every owner's workspace.
    pub colleague: String,
    pub colleague_token: String,
    commands: Mutex<Vec<Command>>,
    random: Mutex<StdRng>,
    client: Client,
    pub answered: AtomicUsize,
    /// By the address of the server that answered.
    answered_by: Mutex<BTreeMap<String, usize>>,
    pub put_off: AtomicUsize,
    slowest: Mutex<Duration>,
    /// Whether the store is known to be damaged: then `500` is an answer, and not the last.
    pub is_damaged: AtomicBool,
    /// Whether the colleague sends commands too, some of which are refused.
    pub colleague_asks: AtomicBool,
}

impl Load {
    /// Signs everybody up: owners, and a colleague who is in each of their workspaces.
    pub async fn begin(server: &Server, owners: usize, seed: u64) -> Arc<Self> {
        println!("the seed of this load is {seed}");
        let colleague = sign_up(server, "colleague", seed).await;
        let token = colleague["session"]["token"].as_str().expect("a token");
        let mut signed_up = Vec::new();
        for number in 0..owners {
            let made = sign_up(server, &format!("owner{number}"), seed).await;
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let owner = Owner {
                token: text(&made["session"]["token"]),
                organization: text(&made["organization"]["id"]),
                workspace: text(&made["workspace"]["id"]),
            };
            let invitation = server
                .post(&format!("/v1/workspaces/{}/invitations", owner.workspace))
                .bearer(&owner.token)
                .header("x-request-id", "setup")
                .json(json!({"email": address("colleague", seed), "role": "member"}))
                .await
                .expect(201);
            server
                .post("/v1/invitations/accept")
                .bearer(token)
                .header("x-request-id", "setup")
                .json(json!({"token": invitation.body["token"]}))
                .await
                .expect(200);
            signed_up.push(owner);
        }
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(40))
            .build()
            .expect("an HTTP client");
        Arc::new(Self {
            owners: signed_up,
            colleague: colleague["user"]["id"].as_str().expect("an id").to_owned(),
            colleague_token: token.to_owned(),
            commands: Mutex::new(Vec::new()),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            client,
            answered: AtomicUsize::new(0),
            answered_by: Mutex::new(BTreeMap::new()),
            put_off: AtomicUsize::new(0),
            slowest: Mutex::new(Duration::ZERO),
            is_damaged: AtomicBool::new(false),
            colleague_asks: AtomicBool::new(false),
        })
    }

    fn commands(&self) -> MutexGuard<'_, Vec<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below `bound`, from the seed.
    pub fn below(&self, bound: usize) -> usize {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.gen_range(0..bound)
    }

    /// A new random command, not sent yet.
    fn another(&self) -> Command {
        let owner = self.below(self.owners.len());
        let kinds = match self.colleague_asks.load(Ordering::SeqCst) {
            true => 12,
            false => 10,
        };
        let ask = match self.below(kinds) {
            0..=3 => Ask::Rename,
            4..=5 => Ask::Invite,
            6..=7 => Ask::CreateWorkspace,
            8..=9 => Ask::ChangeRole(["viewer", "member", "admin"][self.below(3)]),
            _ => Ask::InviteByColleague,
        };
        self.add(owner, ask)
    }

    /// A new command, not sent yet.
    pub fn add(&self, owner: usize, ask: Ask) -> Command {
        let mut commands = self.commands();
        let command = Command {
            number: commands.len(),
            owner,
            ask,
            attempts: 0,
            answer: None,
        };
        commands.push(command.clone());
        command
    }

    /// Sends a command once.
    ///
    /// # Panics
    /// If it is answered what no client can make sense of, or much too late.
    pub async fn send(&self, base_url: &str, number: usize) -> Told {
        let (command, attempt) = {
            let mut commands = self.commands();
            commands[number].attempts += 1;
            (commands[number].clone(), commands[number].attempts)
        };
        let owner = &self.owners[command.owner];
        let name = name_of(number);
        let workspace = format!("/v1/workspaces/{}", owner.workspace);
        let (method, path, body) = match &command.ask {
            Ask::Rename => (Method::PATCH, workspace, json!({"name": name})),
            Ask::Invite | Ask::InviteByColleague => (
                Method::POST,
                format!("{workspace}/invitations"),
                json!({"email": format!("{name}@example.com"), "role": "viewer"}),
            ),
            Ask::CreateWorkspace => (
                Method::POST,
                format!("/v1/organizations/{}/workspaces", owner.organization),
                json!({"name": name}),
            ),
            Ask::ChangeRole(role) => (
                Method::PATCH,
                format!("{workspace}/members/{}", self.colleague),
                json!({"role": role}),
            ),
        };
        let sender = match command.ask {
            Ask::InviteByColleague => &self.colleague_token,
            _ => &owner.token,
        };
        let started = Instant::now();
        let sent = self
            .client
            .request(method, format!("{base_url}{path}"))
            .bearer_auth(sender)
            .header("idempotency-key", &name)
            .header("x-request-id", format!("cmd.{number}.{attempt}"))
            .json(&body)
            .send()
            .await;
        let Ok(response) = sent else {
            return Told::Nothing;
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let Ok(text) = response.text().await else {
            return Told::Nothing;
        };
        let took = started.elapsed();
        {
            let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
            *slowest = took.max(*slowest);
        }
        assert!(
            took < ANSWER_LIMIT,
            "{command:?} took {took:?}: {status} {text}"
        );
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let answer = match status {
            200..=299 => {
                let position = header("crewlog-position").expect("a position");
                Answer::Done(position.parse().expect("a number"))
            }
            503 => {
                assert_eq!(header("content-type"), Some("application/problem+json"));
                assert!(header("retry-after").is_some(), "{headers:?}");
                self.put_off.fetch_add(1, Ordering::SeqCst);
                return Told::Later;
            }
            // Its first attempt is being decided.
            409 if text.contains("idempotency_in_progress") => return Told::Later,
            400..=499 => {
                let problem: Value = serde_json::from_str(&text).expect("a problem");
                Answer::Refused(problem["code"].as_str().expect("a code").to_owned())
            }
            500 if self.is_damaged.load(Ordering::SeqCst) => return Told::Later,
            _ => panic!("{command:?} was answered {status}: {text}"),
        };
        let mut commands = self.commands();
        let known = commands[number].answer.replace(answer.clone());
        if let Some(known) = known {
            assert_eq!(known, answer, "{command:?} is answered as before");
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
        *self.by().entry(base_url.to_owned()).or_default() += 1;
        Told::Answered
    }

    /// Sends random commands from several clients, over one of the servers each, until they are
    /// told to stop; a command is sent once here.
    pub fn start(self: &Arc<Self>, base_urls: &[String], clients: usize) -> Running {
        let is_over = Arc::new(AtomicBool::new(false));
        let tasks = (0..clients)
            .map(|client| {
                let (load, is_over) = (self.clone(), is_over.clone());
                let base_url = base_urls[client % base_urls.len()].clone();
                tokio::spawn(async move {
                    while !is_over.load(Ordering::SeqCst) {
                        let number = load.another().number;
                        if load.send(&base_url, number).await != Told::Answered {
                            // Who was not answered comes back a little later, as clients do.
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                })
            })
            .collect();
        Running { is_over, tasks }
    }

    /// Waits until so many more commands have been answered.
    pub async fn answers(&self, more: usize) {
        let wanted = self.answered.load(Ordering::SeqCst) + more;
        let enough = || self.answered.load(Ordering::SeqCst) >= wanted;
        until("commands to be answered", Duration::from_secs(60), enough).await;
    }

    /// Waits until each of the servers has answered so many more commands.
    pub async fn answers_by(&self, base_urls: &[String], more: usize) {
        let so_far = self.by().clone();
        let count = |by: &BTreeMap<String, usize>, url| by.get(url).copied().unwrap_or(0);
        let enough = || {
            let by = self.by();
            let mut urls = base_urls.iter();
            urls.all(|url| count(&by, url) >= count(&so_far, url) + more)
        };
        until("each to answer", Duration::from_secs(60), enough).await;
    }

    fn by(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        let by = self.answered_by.lock();
        by.unwrap_or_else(PoisonError::into_inner)
    }

    /// The commands whose clients do not know what became of them.
    pub fn unanswered(&self) -> Vec<usize> {
        let commands = self.commands();
        let open = commands.iter().filter(|command| command.answer.is_none());
        open.map(|command| command.number).collect()
    }

    /// Repeats everything that was not answered until it is.
    pub async fn settle(self: &Arc<Self>, base_url: &str) {
        let open = Arc::new(Mutex::new(self.unanswered()));
        let clients = (0..8).map(|_| {
            let (load, open, base_url) = (self.clone(), open.clone(), base_url.to_owned());
            tokio::spawn(async move {
                loop {
                    let next = open.lock().expect("no panic").pop();
                    let Some(number) = next else { break };
                    let deadline = Instant::now() + Duration::from_secs(60);
                    while load.send(&base_url, number).await != Told::Answered {
                        assert!(
                            Instant::now() < deadline,
                            "command {number} is not answered"
                        );
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("no panic");
        }
    }

    /// What the log must say of every command: an answered one is there once, at the position that
    /// was told; a refused one is not there; any other once or not at all; and nothing is there
    /// that nobody asked for.
    ///
    /// # Panics
    /// If it does not.
    pub async fn check(&self, store: &dyn Store) -> Figures {
        let all = ledger::verify(store).await;
        let mut figures = Figures {
            entries: all.len(),
            slowest: *self.slowest.lock().unwrap_or_else(PoisonError::into_inner),
            ..Figures::default()
        };
        let mut written: BTreeMap<usize, BTreeMap<usize, Vec<&StoredEvent>>> = BTreeMap::new();
        for event in &all {
            if let Some((number, attempt)) = asked_for(event) {
                let attempts = written.entry(number).or_default();
                attempts.entry(attempt).or_default().push(event);
            }
        }
        let commands = self.commands().clone();
        for command in &commands {
            let found = written.remove(&command.number).unwrap_or_default();
            assert!(found.len() <= 1, "{command:?} is there twice: {found:?}");
            figures.commands += 1;
            figures.attempts += command.attempts;
            let last = found.values().next().and_then(|events| events.last());
            if let Some((attempt, events)) = found.first_key_value() {
                assert!(
                    *attempt <= command.attempts,
                    "{command:?} was sent so often"
                );
                self.is_its_effect(command, events);
                if matches!(command.ask, Ask::InviteByColleague) {
                    let role = self.role_at(command.owner, events[0].position, &all);
                    assert_eq!(role, "admin", "{command:?} had no right to {events:?}");
                }
                figures.found += usize::from(command.attempts > 1 && *attempt < command.attempts);
            }
            match &command.answer {
                Some(Answer::Done(position)) => {
                    figures.done += 1;
                    match last {
                        Some(event) => assert_eq!(event.position, *position, "{command:?}"),
                        None => self.was_so_already(command, *position, &all),
                    }
                }
                Some(Answer::Refused(_)) => {
                    figures.refused += 1;
                    assert!(found.is_empty(), "{command:?} is there: {found:?}");
                }
                None => {}
            }
        }
        assert!(written.is_empty(), "nobody asked for {written:?}");
        figures
    }

    fn is_its_effect(&self, command: &Command, events: &[&StoredEvent]) {
        let event = events[0];
        assert!(
            events.iter().all(|other| other.batch == event.batch),
            "{command:?} is written at once: {events:?}"
        );
        let owner = &self.owners[command.owner];
        let name = format!("\"{}\"", name_of(command.number));
        let (kind, holds, entries) = match &command.ask {
            Ask::Rename => ("workspace_renamed", name, 1),
            Ask::Invite | Ask::InviteByColleague => ("member_invited", "viewer".to_owned(), 1),
            Ask::CreateWorkspace => ("workspace_created", name, 3),
            Ask::ChangeRole(role) => ("member_role_changed", format!("\"{role}\""), 1),
        };
        assert_eq!(event.event_type, kind, "{command:?}");
        assert_eq!(events.len(), entries, "{command:?}: {events:?}");
        assert!(event.payload.contains(&holds), "{command:?}: {event:?}");
        if !matches!(command.ask, Ask::CreateWorkspace) {
            assert_eq!(event.scope, owner.workspace, "{command:?}");
        }
    }

    /// A command that is done and has no entry found everything as it asks for.
    fn was_so_already(&self, command: &Command, position: u64, events: &[StoredEvent]) {
        let Ask::ChangeRole(role) = &command.ask else {
            panic!("{command:?} is lost");
        };
        let was = self.role_at(command.owner, position, events);
        assert_eq!(was, *role, "{command:?} is lost");
    }

    /// The role that the colleague had in a workspace as of a position.
    fn role_at(&self, owner: usize, position: u64, events: &[StoredEvent]) -> String {
        let workspace = &self.owners[owner].workspace;
        let before = events.iter().filter(|event| event.position <= position);
        let mut changes = before
            .filter(|event| event.scope == *workspace && event.event_type == "member_role_changed");
        let Some(last) = changes.next_back() else {
            return "member".to_owned();
        };
        let payload: Value = serde_json::from_str(&last.payload).expect("JSON");
        let to = payload["member_role_changed"]["to"].as_str();
        to.expect("a role").to_owned()
    }

    /// That a server answers with what the commands have made, when all have been answered: what
    /// workspaces are called, and what the colleague is in them.
    pub async fn is_what_is_read(&self, server: &Server) {
        let commands = self.commands().clone();
        let done = commands.iter().filter_map(|command| match command.answer {
            Some(Answer::Done(position)) => Some((position, command)),
            _ => None,
        });
        let mut last: BTreeMap<(usize, bool), (u64, &Command)> = BTreeMap::new();
        for (position, command) in done {
            let is_role = match command.ask {
                Ask::Rename => false,
                Ask::ChangeRole(_) => true,
                Ask::Invite | Ask::CreateWorkspace | Ask::InviteByColleague => continue,
            };
            let newest = last.entry((command.owner, is_role)).or_insert((0, command));
            if position > newest.0 {
                *newest = (position, command);
            }
        }
        for ((owner, _), (_, command)) in last {
            let owner = &self.owners[owner];
            let workspace = format!("/v1/workspaces/{}", owner.workspace);
            match command.ask {
                Ask::ChangeRole(role) => {
                    let path = format!("{workspace}/members?limit=200");
                    let read = server.get(&path).bearer(&owner.token).await.expect(200);
                    let mut members = read.body["data"].as_array().expect("members").iter();
                    let found = members.find(|member| member["user"] == *self.colleague);
                    let found = found.map(|member| &member["role"]);
                    assert_eq!(found, Some(&json!(role)), "{command:?}: {}", read.text);
                }
                _ => {
                    let read = server
                        .get(&workspace)
                        .bearer(&owner.token)
                        .await
                        .expect(200);
                    assert_eq!(read.body["name"], name_of(command.number), "{command:?}");
                }
            }
        }
    }

    /// What must never be written anywhere.
    pub fn secrets(&self) -> Vec<&str> {
        let tokens = self.owners.iter().map(|owner| &*owner.token);
        tokens.chain([&*self.colleague_token, PASSWORD]).collect()
    }

    /// That the audit log over HTTP has a handful of the answered commands where it was told.
    pub async fn is_in_the_audit_log(&self, server: &Server) {
        let commands = self.commands().clone();
        let done = commands.iter().filter_map(|command| match command.answer {
            Some(Answer::Done(position)) if matches!(command.ask, Ask::Rename | Ask::Invite) => {
                Some((command, position))
            }
            _ => None,
        });
        for (command, position) in done.rev_take(12) {
            let owner = &self.owners[command.owner];
            let path = format!("/v1/workspaces/{}/audit/{position}", owner.workspace);
            let entry = server.get(&path).bearer(&owner.token).await.expect(200);
            assert_eq!(entry.body["position"], position, "{}", entry.text);
            let id = format!("cmd.{}.", command.number);
            assert!(entry.text.contains(&id), "{id} in {}", entry.text);
        }
    }
}

trait RevTake: Iterator + Sized {
    /// The last few.
    fn rev_take(self, most: usize) -> Vec<Self::Item> {
        let mut all: Vec<_> = self.collect();
        all.split_off(all.len().saturating_sub(most))
    }
}

impl<I: Iterator> RevTake for I {}

/// Clients at work.
pub struct Running {
    is_over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Tells the clients to stop, and waits for their last answers.
    ///
    /// # Panics
    /// With a client.
    pub async fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("a client to be content");
        }
    }
}

fn name_of(number: usize) -> String {
    format!("cmd{number}")
}

/// The number and the attempt of the command that made an entry; none of those that set the scene,
/// or that nobody asked for over HTTP. A kept refusal is no effect.
fn asked_for(event: &StoredEvent) -> Option<(usize, usize)> {
    let metadata: Value = serde_json::from_str(&event.metadata).expect("JSON");
    let id = metadata["request_id"].as_str()?;
    if id == "setup" || event.aggregate_type == "attempts" {
        return None;
    }
    let (number, attempt) = id
        .strip_prefix("cmd.")
        .and_then(|rest| rest.split_once('.'))
        .unwrap_or_else(|| panic!("nobody asked for {event:?}"));
    Some((
        number.parse().expect("a number"),
        attempt.parse().expect("an attempt"),
    ))
}

fn address(who: &str, seed: u64) -> String {
    format!("{who}.{seed}@example.com")
}

async fn sign_up(server: &Server, who: &str, seed: u64) -> Value {
    let body = json!({
        "email": address(who, seed),
        "password": PASSWORD,
        "name": who,
        "organization": {"name": who},
        "workspace": {"name": who, "plan": "team"},
    });
    let call = server.post("/v1/signup").header("x-request-id", "setup");
    call.json(body).await.expect(201).body
}

/// Waits for something that will be.
///
/// # Panics
/// If it is not by the limit.
pub async fn until(what: &str, limit: Duration, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
