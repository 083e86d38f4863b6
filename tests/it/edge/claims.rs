//! Claims, raced by many callers, over kills, and with a clock that moves; and judged afterwards
//! by [`judge`], which reads the log from its first entry and knows nothing of how claims are
//! kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use crewlog::journal::stores::Store;
use futures::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::Running;
use super::routes::phone_number;
use super::team::{Team, number, text};
use crate::support::journal::reading;
use crate::support::server::{Call, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "claims_hold_whatever_races", races),
        both("edge", "claims_hold_when_it_is_killed", killed),
    ]
}

/// Callers at a time.
const CALLERS: usize = 64;
/// How often each calls.
const CALLS: usize = 6;
/// How many there are of each kind to be had.
const WANTED: usize = 3;
const LISTS: [&str; 4] = [
    "phone-numbers",
    "channels",
    "webhook-endpoints",
    "integrations",
];
/// A freed number is not another workspace's before this is over, in microseconds.
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// A workspace with its owner's token.
#[derive(Clone)]
pub struct Site {
    pub workspace: String,
    pub token: String,
}

impl Site {
    /// Another workspace of the team's organization.
    pub async fn make(server: &Server, team: &Team, name: &str) -> Self {
        let path = format!("/v1/organizations/{}/workspaces", team.organization);
        let token = team.organization_owner.token.clone();
        let call = server.post(&path).bearer(&token);
        let call = call.json(json!({"name": name, "plan": "enterprise"}));
        let workspace = text(&call.await.expect(201).body, "/id");
        Self { workspace, token }
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/workspaces/{}/{rest}", self.workspace)
    }

    pub fn add(&self, server: &Server, crew: &str, list: &str, body: &Value) -> Call {
        let path = self.path(&format!("crews/{crew}/{list}"));
        server.post(&path).bearer(&self.token).json(body)
    }

    pub async fn crew(&self, server: &Server, environment: &str) -> String {
        let name = format!("Client {} - {environment}", number());
        let body = json!({"name": name, "environment": environment});
        let call = server.post(&self.path("crews")).bearer(&self.token);
        text(&call.json(body).await.expect(201).body, "/id")
    }

    pub fn archive(&self, server: &Server, crew: &str) -> Call {
        let path = self.path(&format!("crews/{crew}/archive"));
        server.post(&path).bearer(&self.token)
    }

    fn delete(&self, server: &Server, name: &str) -> Call {
        let call = server.delete(&format!("/v1/workspaces/{}", self.workspace));
        call.bearer(&self.token).json(json!({"confirm": name}))
    }
}

/// What callers want: the same few for all, each time spelled a little otherwise.
fn wanted(first: u64, list: &str, which: usize, turn: usize) -> Value {
    let which = first + which as u64;
    let shouts = turn % 2 == 1;
    let cased = |text: String| if shouts { text.to_uppercase() } else { text };
    match list {
        "phone-numbers" => json!({"number": phone_number(which)}),
        "channels" => {
            json!({"kind": "email", "address": cased(format!("inbox-{which}@example.com"))})
        }
        "webhook-endpoints" => json!({
            "url": format!("https://hooks.example.com/{which}{}", if shouts { "/?again" } else { "" }),
        }),
        _ => json!({
            "name": format!("crm {}", number()), "kind": "salesforce",
            "account": cased(format!("acme-{which}")), "credentials": {"token": "theirs"},
        }),
    }
}

/// A number below `bound`, another for every turn of every caller, and the same in every run.
fn pick(caller: usize, turn: usize, salt: usize, bound: usize) -> usize {
    let mixed = ((caller * 64 + turn) * 8 + salt) as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % bound
}

/// Where callers call: crews of every environment in several workspaces.
struct Grounds<'a> {
    server: &'a Server,
    crews: Vec<(&'a Site, String)>,
    first: u64,
    answered: AtomicUsize,
    /// After so many answers the server is killed.
    killed_after: Option<usize>,
}

const EXPECTED: [&str; 6] = [
    "already_claimed",
    "already_exists",
    "claim_rests",
    "crew_archived",
    "not_found",
    "production_apart",
];

impl<'a> Grounds<'a> {
    async fn new(server: &'a Server, sites: &'a [Site], first: u64) -> Self {
        let mut crews = Vec::new();
        for site in sites {
            for environment in ["development", "staging", "production"] {
                crews.push((site, site.crew(server, environment).await));
            }
        }
        Self {
            server,
            crews,
            first,
            answered: AtomicUsize::new(0),
            killed_after: None,
        }
    }

    /// Sends it; answers with the code and the body, or nothing where nobody answers any more.
    async fn send(&self, call: Call) -> Option<(String, Value)> {
        let reply = match (call.attempt().await, self.killed_after) {
            (Ok(reply), _) => reply,
            (Err(_), Some(_)) => return None,
            (Err(error), None) => panic!("not answered: {error:?}"),
        };
        let answered = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
        if self.killed_after == Some(answered) {
            self.server.signal(Signal::SIGKILL);
        }
        let code = reply.body["code"].as_str().unwrap_or("done").to_owned();
        assert!(
            reply.status < 300 || EXPECTED.contains(&code.as_str()),
            "{}: {}",
            reply.request,
            reply.text
        );
        Some((code, reply.body))
    }

    /// One caller: adds, changes and removes what everybody else wants as well, and at times
    /// archives a crew or deletes a workspace. Answers how often it was told what.
    async fn calls(&self, caller: usize, deletes: Option<&Site>) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        let mut own: Vec<(&str, String, &str)> = Vec::new();
        for turn in 0..CALLS {
            let (site, crew) = &self.crews[pick(caller, turn, 0, self.crews.len())];
            let list = LISTS[pick(caller, turn, 1, LISTS.len())];
            let body = wanted(self.first, list, pick(caller, turn, 2, WANTED), turn);
            let way = pick(caller, turn, 3, 3);
            let call = match (turn, own.last()) {
                (2, _) if caller % 16 == 5 => site.archive(self.server, crew),
                (3, _) if caller == 40 && deletes.is_some() => {
                    let site = deletes.expect("a workspace");
                    site.delete(self.server, "Deleted")
                }
                (_, Some((token, path, list))) if way == 0 => {
                    let body = wanted(self.first, list, pick(caller, turn, 4, WANTED), turn);
                    self.server.put(path).bearer(token).json(body)
                }
                (_, Some((token, path, _))) if way == 1 => self.server.delete(path).bearer(token),
                _ => site.add(self.server, crew, list, &body),
            };
            let Some((code, body)) = self.send(call).await else {
                return told;
            };
            if let (Some(id), Some(of)) = (body["id"].as_str(), body["crew"].as_str()) {
                let site = self.crews.iter().find(|(_, crew)| crew == of);
                let (site, crew) = site.expect("a crew of ours");
                let list = list_of(id);
                let path = site.path(&format!("crews/{crew}/{list}/{id}"));
                own.push((site.token.as_str(), path, list));
            }
            *told.entry(code).or_insert(0) += 1;
        }
        told
    }

    /// All callers at once.
    async fn race(&self, deletes: Option<&Site>) -> BTreeMap<String, usize> {
        let callers = (0..CALLERS).map(|caller| self.calls(caller, deletes));
        let mut told = BTreeMap::new();
        for (code, count) in join_all(callers).await.into_iter().flatten() {
            *told.entry(code).or_insert(0) += count;
        }
        told
    }
}

fn list_of(id: &str) -> &'static str {
    match id.split('_').next() {
        Some("num") => "phone-numbers",
        Some("chn") => "channels",
        Some("whk") => "webhook-endpoints",
        _ => "integrations",
    }
}

/// 64 callers at a time want a few numbers, channels, endpoints and accounts for crews of three
/// environments in two workspaces.
async fn races(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let sites = [
        Site::make(&server, &team, "Kept").await,
        Site::make(&server, &team, "Deleted").await,
    ];
    let first = number();
    let mut told = BTreeMap::new();
    for round in 0..4 {
        let grounds = Grounds::new(&server, &sites, first).await;
        let deletes = (round == 3).then_some(&sites[1]);
        for (code, count) in grounds.race(deletes).await {
            *told.entry(code).or_insert(0) += count;
        }
        judge(&store).await;
    }
    for code in ["done", "already_claimed", "production_apart"] {
        assert!(told.contains_key(code), "{told:?}");
    }
    let gone = server.get(&format!("/v1/workspaces/{}", sites[1].workspace));
    gone.bearer(&sites[1].token).await.expect(404);
    super::held(&store);
}

/// The same, and the program is killed in the middle; it then goes on where it was.
async fn killed(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let team = Team::make(&server).await;
    let sites = [
        Site::make(&server, &team, "Kept").await,
        Site::make(&server, &team, "Deleted").await,
    ];
    let first = number();
    for round in 0..3 {
        let mut grounds =
            Grounds::new(&server, &sites[..if round > 1 { 1 } else { 2 }], first).await;
        grounds.killed_after = Some(40 + 70 * round);
        grounds.race((round == 1).then_some(&sites[1])).await;
        drop(grounds);
        server.ended().await;
        judge(&store).await;
        server = Server::start(&store).await;
        // Workspaces that were not deleted in time are now, so that rounds begin alike.
        if round == 1 {
            sites[1].delete(&server, "Deleted").await;
        }
        let grounds = Grounds::new(&server, &sites[..1], first).await;
        assert!(grounds.race(None).await.contains_key("done"));
        judge(&store).await;
    }
    super::held(&store);
}

/// Who holds something: a connection, of a crew, of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    connection: String,
    crew: String,
    workspace: String,
    environment: String,
}

/// A number that was freed: by which workspace, and when.
#[derive(Debug)]
struct Freed {
    workspace: String,
    at: i64,
}

/// What the log says of who holds what.
#[derive(Debug, Default)]
struct Told {
    /// By kind and what is held.
    held: BTreeMap<(String, String), BTreeSet<Holder>>,
    rests: BTreeMap<String, Freed>,
    environments: BTreeMap<String, String>,
    /// Connections that were given a credential, and not had it removed.
    with_credential: BTreeSet<String>,
    now: i64,
}

/// The kind of a connection, and what is held by it: all spellings of the tests are one.
fn held_by(connection: &Value) -> (String, String) {
    let (kind, of) = connection
        .as_object()
        .and_then(|of| of.iter().next())
        .expect("a kind");
    let field = |name: &str| of[name].as_str().expect("a text").to_lowercase();
    let value = match kind.as_str() {
        "phone_number" => field("number"),
        "channel" => format!("{} {}", field("kind"), field("address")),
        "webhook_endpoint" => {
            let url = field("url");
            let place = url.split('?').next().unwrap_or_default();
            place.trim_end_matches('/').to_owned()
        }
        _ => format!("{} {}", field("kind"), field("account")),
    };
    (kind.clone(), value)
}

impl Told {
    fn free(&mut self, is_freed: impl Fn(&Holder) -> bool) {
        for ((kind, value), holders) in &mut self.held {
            let freed: Vec<_> = holders
                .iter()
                .filter(|holder| is_freed(holder))
                .cloned()
                .collect();
            holders.retain(|holder| !is_freed(holder));
            if let (Some(holder), "phone_number") = (freed.first(), kind.as_str()) {
                let (workspace, at) = (holder.workspace.clone(), self.now);
                self.rests.insert(value.clone(), Freed { workspace, at });
            }
        }
        self.held.retain(|_, holders| !holders.is_empty());
    }

    fn take(&mut self, what: (String, String), holder: Holder) {
        let holders = self.held.entry(what.clone()).or_default();
        if what.0 == "phone_number" {
            assert_eq!(
                holders.len(),
                0,
                "{what:?} has two owners: {holders:?}, {holder:?}"
            );
            if let Some(freed) = self.rests.remove(&what.1) {
                let rested = self.now >= freed.at + DAY_US;
                let same = freed.workspace == holder.workspace;
                assert!(
                    rested || same,
                    "{what:?} of {freed:?} did not rest for {holder:?}"
                );
            }
        }
        let is_production = |holder: &Holder| holder.environment == "production";
        for other in holders.iter() {
            assert!(
                other.workspace != holder.workspace
                    || is_production(other) == is_production(&holder),
                "production shares {what:?}: {other:?}, {holder:?}"
            );
        }
        holders.insert(holder);
    }

    fn hear(&mut self, kind: &str, stream: &str, scope: &str, event: &Value) {
        let Some((name, body)) = event.as_object().and_then(|event| event.iter().next()) else {
            return;
        };
        match (kind, name.as_str()) {
            ("crew", "crew_created") => {
                let environment = text(body, "/crew/environment");
                self.environments.insert(stream.to_owned(), environment);
            }
            ("crew", "connection_added" | "connection_changed") => {
                let connection = text(body, "/connection");
                self.free(|holder| holder.connection == connection);
                let holder = Holder {
                    connection,
                    crew: stream.to_owned(),
                    workspace: scope.to_owned(),
                    environment: self.environments[stream].clone(),
                };
                self.take(held_by(&body["to"]), holder);
            }
            ("crew", "credential_set") => {
                self.with_credential.insert(text(body, "/connection"));
            }
            ("crew", "credential_removed") => {
                self.with_credential.remove(&text(body, "/connection"));
            }
            ("crew", "connection_removed") => {
                let connection = text(body, "/connection");
                self.free(|holder| holder.connection == connection);
            }
            ("crew", "crew_archived") => self.free(|holder| holder.crew == stream),
            ("workspace", "workspace_deleted") => self.free(|holder| holder.workspace == stream),
            _ => {}
        }
    }
}

/// That at no moment of the log a rule was broken; that what is claimed is what crews have, by
/// them; that what rests was freed by who is said; and that no credential is of nobody.
pub async fn judge(store: &StoreUnderTest) {
    let store = reading(store).await;
    let sql = "SELECT aggregate_type, aggregate_id, scope, recorded_at, CAST(payload AS TEXT)
                 FROM events ORDER BY position";
    let mut told = Told::default();
    for row in store.query(sql, vec![]).await.expect("the log") {
        let column = |at| row.text(at).expect("a text").to_owned();
        told.now = row.integer(3).expect("a time");
        let event = serde_json::from_str(&column(4)).expect("an event");
        told.hear(&column(0), &column(1), &column(2), &event);
    }
    let held = told.held.values().flatten().cloned();
    let held: BTreeSet<_> = held.collect();

    let sql = "SELECT holder, crew, workspace, environment, rests_until, value FROM claims";
    let (mut claimed, mut resting) = (BTreeSet::new(), BTreeMap::new());
    for row in store.query(sql, vec![]).await.expect("the claims") {
        let column = |at| row.text(at).expect("a text").to_owned();
        match row.optional_integer(4).expect("a time or none") {
            Some(until) => {
                let before = resting.insert(column(5), (column(2), until));
                assert_eq!(before, None, "a number rests twice");
            }
            None => {
                claimed.insert(Holder {
                    connection: column(0),
                    crew: column(1),
                    workspace: column(2),
                    environment: column(3),
                });
            }
        }
    }
    assert_eq!(claimed, held, "claimed, and held");
    for (number, freed) in &told.rests {
        let until = freed.at + DAY_US;
        match resting.remove(number) {
            Some(rests) => assert_eq!(rests, (freed.workspace.clone(), until), "{number}"),
            None => assert!(until <= told.now, "{number} rests no more, before {until}"),
        }
    }
    assert_eq!(resting, BTreeMap::new(), "rests that nobody freed");
    let there = held.iter().map(|holder| &holder.connection);
    let there: BTreeSet<_> = there.cloned().collect();
    credentials_are_held(&*store, &(&told.with_credential & &there)).await;
    store.close().await;
}

/// That credentials are those of these connections, each with the key that it is sealed under, and
/// no key is left over.
async fn credentials_are_held(store: &dyn Store, of: &BTreeSet<String>) {
    let ids = async |sql: &str| {
        let rows = store.query(sql, vec![]).await.expect("rows");
        let ids = rows
            .iter()
            .map(|row| row.text(0).expect("an id").to_owned());
        ids.collect::<BTreeSet<_>>()
    };
    let keys = ids("SELECT owner FROM subject_keys WHERE owner LIKE 'crd%'").await;
    assert_eq!(ids("SELECT credential FROM credentials").await, keys);
    let kept = ids("SELECT connection FROM credentials").await;
    assert_eq!(&kept, of, "connections with credentials");
}
