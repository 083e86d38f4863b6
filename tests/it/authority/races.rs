//! Many clients at once send random commands about who may what, over one process or two; then the
//! log is judged.
//!
//! The clients know little of the state: much of what they ask for may be done, some of it never,
//! and some no more by the time that it is decided. Some commands come as a volley of those that
//! must not all succeed; at the end everybody leaves everything at once. The first person is aimed
//! at in one workspace alone, or soon nobody could do anything anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::future::IntoFuture;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crewlog::journal::StoredEvent;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{model, rounds};
use crate::edge::team::{Person, accept, address, invited, password, text};
use crate::projections::assert_store_is_its_log;
use crate::support::journal::reading;
use crate::support::ledger;
use crate::support::server::{Call, Reply, Server};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, on};

pub fn trials() -> Vec<Case> {
    vec![
        both("authority", "races_through_one_process", |store| {
            race(store, 1)
        }),
        on(
            &[StoreKind::Postgres],
            "authority",
            "races_through_two_processes",
            |store| race(store, 2),
        ),
    ]
}

const CLIENTS: usize = 12;
const WORKSPACES: usize = 3;
const PEOPLE: usize = 8;
/// How many volleys each client sends in a round.
const VOLLEYS: usize = 50;

/// What an answer tells its client that can be used later.
enum Learn {
    Nothing,
    /// An invitation to somebody, or to an address that has no account.
    Invitation {
        workspace: usize,
        to: Option<usize>,
    },
    Key {
        keys: String,
    },
    Session {
        person: usize,
    },
}

struct Invited {
    workspace: usize,
    id: String,
    token: String,
    to: Option<usize>,
}

#[derive(Clone)]
struct Key {
    path: String,
    secret: String,
}

/// What the clients know.
#[derive(Default)]
struct Known {
    /// The tokens of each person's sessions, with their ids; more than one.
    sessions: Vec<Vec<(String, String)>>,
    invitations: Vec<Invited>,
    keys: Vec<Key>,
    organization_keys: Vec<Key>,
    /// What each request was answered: its position, or why not.
    answers: BTreeMap<String, Result<u64, String>>,
}

struct Scene {
    servers: Vec<Server>,
    people: Vec<Person>,
    organization: String,
    workspaces: Vec<String>,
    /// A time that is in the future, whatever the clock says.
    later: String,
    known: Mutex<Known>,
    random: Mutex<StdRng>,
}

/// A command that is sent once, and what is learnt from its answer.
type Shot = (Call, Learn);

impl Scene {
    async fn set(servers: Vec<Server>, seed: u64) -> Self {
        let server = &servers[0];
        let mut people = Vec::new();
        let made = json!({
            "organization": {"name": "Raced"}, "workspace": {"name": "Raced", "plan": "team"},
        });
        let (first, reply) = Person::sign_up_with(server, "racer", made).await;
        let organization = text(&reply.body, "/organization/id");
        let mut workspaces = vec![text(&reply.body, "/workspace/id")];
        people.push(first.clone());
        for _ in 1..PEOPLE {
            people.push(Person::sign_up(server, "racer").await);
        }
        for _ in 1..WORKSPACES {
            let path = format!("/v1/organizations/{organization}/workspaces");
            let call = server.post(&path).bearer(&first.token);
            let made = call.json(json!({"name": "Raced"})).await.expect(201);
            workspaces.push(text(&made.body, "/id"));
        }
        let roles = ["owner", "owner", "admin", "admin", "member", "viewer"];
        for workspace in &workspaces {
            for (person, role) in people[1..].iter().zip(roles) {
                let token = invited(server, workspace, &first, &person.email, role).await;
                accept(server, person, &token).await.expect(200);
            }
        }
        for (person, role) in people[1..].iter().zip(["owner", "owner", "billing"]) {
            let path = format!("/v1/organizations/{organization}/members/{}", person.user);
            let call = server.put(&path).bearer(&first.token);
            call.json(json!({"role": role})).await.expect(200);
        }
        let mut sessions = Vec::new();
        for person in &people {
            let other = person.sign_in(server).await;
            let both = [
                (&person.session, &person.token),
                (&other.session, &other.token),
            ];
            sessions.push(both.map(|(id, token)| (id.clone(), token.clone())).to_vec());
        }
        Self {
            servers,
            people,
            organization,
            workspaces,
            later: first.later,
            known: Mutex::new(Known {
                sessions,
                ..Known::default()
            }),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn below(&self, bound: usize) -> usize {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.gen_range(0..bound)
    }

    fn one_of<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Mostly one of the newest.
    fn newest<T>(&self, items: &[T]) -> Option<usize> {
        let back = self.below(6).min(items.len().checked_sub(1)?);
        Some(items.len() - 1 - back)
    }

    fn server(&self) -> &Server {
        self.one_of(&self.servers)
    }

    /// A session of somebody's.
    fn session(&self, person: usize) -> (String, String) {
        let sessions = self.known().sessions[person].clone();
        self.one_of(&sessions).clone()
    }

    /// Somebody signed in.
    fn token(&self, person: usize) -> String {
        self.session(person).1
    }

    fn anybody(&self) -> usize {
        self.below(PEOPLE)
    }

    /// The first few are more often owners.
    fn actor(&self) -> usize {
        match self.below(3) {
            0 => 0,
            _ => self.below(PEOPLE).min(self.below(PEOPLE)),
        }
    }

    /// Whoever is aimed at.
    fn target(&self) -> usize {
        1 + self.below(PEOPLE - 1)
    }

    /// Whoever is aimed at in a workspace: in the last one, also the first person.
    fn target_in(&self, workspace: &str) -> usize {
        match self.workspaces.last().is_some_and(|last| last == workspace) {
            true => self.anybody(),
            false => self.target(),
        }
    }

    /// Mostly one that may do much, or soon nobody could do anything.
    fn role(&self) -> &'static str {
        const ROLES: [&str; 7] = [
            "owner", "owner", "admin", "admin", "admin", "member", "viewer",
        ];
        ROLES[self.below(ROLES.len())]
    }

    fn workspace(&self, rest: &str) -> String {
        format!("/v1/workspaces/{}{rest}", self.one_of(&self.workspaces))
    }

    fn organization(&self, rest: &str) -> String {
        format!("/v1/organizations/{}{rest}", self.organization)
    }

    fn asks(&self, call: Call, by: usize, body: Value) -> Shot {
        (call.bearer(&self.token(by)).json(body), Learn::Nothing)
    }

    fn demotes(&self, members: &str, by: usize, of: usize) -> Shot {
        let path = format!("{members}/{}", self.people[of].user);
        self.asks(self.server().patch(&path), by, json!({"role": "viewer"}))
    }

    fn leaves(&self, members: &str, person: usize) -> Shot {
        let path = format!("{members}/{}", self.people[person].user);
        (
            self.server().delete(&path).bearer(&self.token(person)),
            Learn::Nothing,
        )
    }

    /// What a client asks for next.
    fn volley(&self) -> Vec<Shot> {
        match self.below(100) {
            0..16 => vec![self.invites(self.token(self.actor()))],
            16..36 => self.answers_invitation(),
            36..41 => self.changes_invitation(),
            41..53 => self.changes_member(),
            53..58 => self.duels(),
            58..64 => self.audits(),
            64..80 => self.keys(),
            80..92 => self.organizes(),
            _ => self.signs(),
        }
    }

    fn invites(&self, token: String) -> Shot {
        let workspace = self.below(WORKSPACES);
        let to = (self.below(5) > 0).then(|| self.anybody());
        let email = to.map_or_else(|| address("newcomer"), |to| self.people[to].email.clone());
        let path = format!("/v1/workspaces/{}/invitations", self.workspaces[workspace]);
        let call = self.server().post(&path).bearer(&token);
        let call = call.json(json!({"email": email, "role": self.role()}));
        (call, Learn::Invitation { workspace, to })
    }

    /// Accepts, twice at once, or declines.
    fn answers_invitation(&self) -> Vec<Shot> {
        let known = self.known();
        let Some(which) = self.newest(&known.invitations) else {
            return vec![];
        };
        let (token, to) = (
            known.invitations[which].token.clone(),
            known.invitations[which].to,
        );
        drop(known);
        if self.below(10) == 0 {
            let call = self.server().post("/v1/invitations/decline");
            return vec![(call.json(json!({"token": token})), Learn::Nothing)];
        }
        let accepts = || {
            let call = self.server().post("/v1/invitations/accept");
            match to {
                Some(to) => self.asks(call, to, json!({"token": token})),
                None => {
                    let body = json!({"token": token, "name": "Newcomer", "password": password()});
                    (call.json(body), Learn::Nothing)
                }
            }
        };
        vec![accepts(), accepts()]
    }

    fn changes_invitation(&self) -> Vec<Shot> {
        let known = self.known();
        let Some(which) = self.newest(&known.invitations) else {
            return vec![];
        };
        let invitation = &known.invitations[which];
        let (workspace, to) = (invitation.workspace, invitation.to);
        let path = format!(
            "/v1/workspaces/{}/invitations/{}",
            self.workspaces[workspace], invitation.id
        );
        drop(known);
        let token = self.token(self.actor());
        match self.below(2) {
            0 => {
                let call = self.server().post(&format!("{path}/resend"));
                let learn = Learn::Invitation { workspace, to };
                vec![(call.bearer(&token), learn)]
            }
            _ => vec![(self.server().delete(&path).bearer(&token), Learn::Nothing)],
        }
    }

    fn changes_member(&self) -> Vec<Shot> {
        let workspace = self.one_of(&self.workspaces);
        let (by, of) = (self.actor(), self.target_in(workspace));
        let path = format!("/v1/workspaces/{workspace}");
        let members = format!("{path}/members");
        let member = format!("{members}/{}", self.people[of].user);
        match self.below(12) {
            0..5 => {
                let body = json!({"role": self.role()});
                vec![self.asks(self.server().patch(&member), by, body)]
            }
            5..7 => vec![(
                self.server().delete(&member).bearer(&self.token(by)),
                Learn::Nothing,
            )],
            7 => vec![self.leaves(&members, of)],
            8..11 => {
                let path = format!("{path}/transfer-ownership");
                let to = json!({"user": self.people[of].user});
                vec![self.asks(self.server().post(&path), by, to)]
            }
            _ => {
                let name = json!({"name": format!("Raced {}", self.below(1_000))});
                vec![self.asks(self.server().patch(&path), by, name)]
            }
        }
    }

    /// Two unmake each other, or leave, where anybody is aimed at.
    fn duels(&self) -> Vec<Shot> {
        let workspace = self.workspaces.last().expect("a workspace");
        let members = format!("/v1/workspaces/{workspace}/members");
        let (one, two) = (self.anybody(), self.anybody());
        match self.below(3) {
            0 | 1 => vec![
                self.demotes(&members, one, two),
                self.demotes(&members, two, one),
            ],
            _ => vec![self.leaves(&members, one), self.leaves(&members, two)],
        }
    }

    /// Everybody leaves everything at once.
    fn leave_all(&self) -> Vec<Shot> {
        let workspaces = self.workspaces.iter();
        let mut all: Vec<_> = workspaces
            .map(|workspace| format!("/v1/workspaces/{workspace}/members"))
            .collect();
        all.push(self.organization("/members"));
        let people = (0..PEOPLE).flat_map(|person| {
            let leaves = all.iter().map(move |members| self.leaves(members, person));
            leaves.collect::<Vec<_>>()
        });
        people.collect()
    }

    fn audits(&self) -> Vec<Shot> {
        let (path, by, of) = (self.workspace("/auditors"), self.actor(), self.target());
        match self.below(4) {
            0 => {
                let path = format!("{path}/{}", self.people[of].user);
                vec![(
                    self.server().delete(&path).bearer(&self.token(by)),
                    Learn::Nothing,
                )]
            }
            _ => {
                let body = json!({"email": self.people[of].email, "expires_at": self.later});
                vec![self.asks(self.server().post(&path), by, body)]
            }
        }
    }

    fn keys(&self) -> Vec<Shot> {
        let known = self.known();
        let which = self
            .newest(&known.keys)
            .map(|which| known.keys[which].clone());
        drop(known);
        let by = self.actor();
        let Some(key) = which.filter(|_| self.below(4) > 0) else {
            let keys = self.workspace("/api-keys");
            let call = self.server().post(&keys).bearer(&self.token(by));
            let new = json!({"name": "Raced", "environment": "staging", "scopes": ["keys:read"]});
            return vec![(call.json(new), Learn::Key { keys })];
        };
        match self.below(6) {
            0..3 => (0..2).map(|_| self.rotates(&key, by)).collect(),
            3 => {
                let name = json!({"name": format!("Raced {}", self.below(1_000))});
                vec![self.asks(self.server().patch(&key.path), by, name)]
            }
            _ => vec![self.revokes(&key, by), self.rotates(&key, self.actor())],
        }
    }

    fn rotates(&self, key: &Key, by: usize) -> Shot {
        let keys = key.path.rsplit_once('/').expect("a path").0.to_owned();
        let call = self.server().post(&format!("{}/rotate", key.path));
        let grace = json!({"grace_seconds": self.one_of(&[0, 1, 3_600])});
        let call = call.bearer(&self.token(by)).json(grace);
        (call, Learn::Key { keys })
    }

    fn revokes(&self, key: &Key, by: usize) -> Shot {
        let call = self.server().delete(&key.path).bearer(&self.token(by));
        (call, Learn::Nothing)
    }

    fn makes_workspace(&self, key: &Key) -> Shot {
        let owner = &self.people[self.anybody()].user;
        let call = self.server().post(&self.organization("/workspaces"));
        let call = call.bearer(&key.secret);
        (
            call.json(json!({"name": "Made by a key", "owner": owner})),
            Learn::Nothing,
        )
    }

    fn organizes(&self) -> Vec<Shot> {
        let known = self.known();
        let which = self.newest(&known.organization_keys);
        let which = which.map(|which| known.organization_keys[which].clone());
        drop(known);
        let (by, of) = (self.actor(), self.target());
        let member = self.organization(&format!("/members/{}", self.people[of].user));
        match (self.below(10), which) {
            (0..3, _) => {
                let role = self.one_of(&["owner", "owner", "billing", "auditor"]);
                vec![self.asks(self.server().put(&member), by, json!({"role": role}))]
            }
            (3, _) => vec![self.leaves(&self.organization("/members"), of)],
            (4, _) | (_, None) => {
                let keys = self.organization("/api-keys");
                let call = self.server().post(&keys).bearer(&self.token(by));
                let new = json!({"name": "Raced", "scopes": ["workspaces:create"]});
                vec![(call.json(new), Learn::Key { keys })]
            }
            // Used while it is taken away.
            (5 | 6, Some(key)) => vec![
                self.makes_workspace(&key),
                self.revokes(&key, by),
                self.makes_workspace(&key),
            ],
            (7, Some(key)) => vec![self.rotates(&key, by), self.makes_workspace(&key)],
            (_, Some(key)) => vec![self.makes_workspace(&key)],
        }
    }

    /// Signs in, or out in the midst of something.
    fn signs(&self) -> Vec<Shot> {
        let person = self.anybody();
        let mut known = self.known();
        let sessions = &mut known.sessions[person];
        if sessions.len() > 2 {
            let (id, token) = sessions.remove(0);
            drop(known);
            let path = format!("/v1/sessions/{id}");
            let ends = self.server().delete(&path).bearer(&self.token(person));
            return vec![
                self.invites(token.clone()),
                (ends, Learn::Nothing),
                self.invites(token),
            ];
        }
        drop(known);
        let Person {
            email, password, ..
        } = &self.people[person];
        let call = self.server().post("/v1/sessions");
        let call = call.json(json!({"email": email, "password": password}));
        vec![(call, Learn::Session { person })]
    }

    /// Every client sends so many volleys.
    async fn run(self: &Arc<Self>, id: &str, volleys: usize) {
        let clients = (0..CLIENTS).map(|client| {
            let (scene, id) = (self.clone(), format!("{id}.{client}"));
            tokio::spawn(async move {
                for number in 0..volleys {
                    let volley = scene.volley();
                    scene.send(volley, &format!("{id}.{number}")).await;
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client to be content");
        }
    }

    /// Sends a volley, all of it at once, and notes what is answered.
    async fn send(&self, volley: Vec<Shot>, id: &str) {
        let numbered = volley.into_iter().enumerate();
        let (calls, learnt): (Vec<_>, Vec<_>) = numbered
            .map(|(number, (call, learn))| {
                let id = format!("{id}.{number}");
                (call.header("x-request-id", &id).into_future(), (id, learn))
            })
            .unzip();
        for (reply, (id, learn)) in join_all(calls).await.into_iter().zip(learnt) {
            let answer = match reply.status {
                200..300 => {
                    self.learn(&reply, learn);
                    let position = reply.header("crewlog-position").expect("a position");
                    Ok(position.parse().expect("a number"))
                }
                400..500 => Err(text(&reply.body, "/code")),
                _ => panic!("{} {}: {}", reply.request, reply.status, reply.text),
            };
            self.known().answers.insert(id, answer);
        }
    }

    fn learn(&self, reply: &Reply, learn: Learn) {
        let secret = |field| text(&reply.body, field);
        let mut known = self.known();
        match learn {
            Learn::Nothing => {}
            Learn::Invitation { workspace, to } => known.invitations.push(Invited {
                workspace,
                id: secret("/id"),
                token: secret("/token"),
                to,
            }),
            Learn::Key { keys } => {
                let key = Key {
                    path: format!("{keys}/{}", secret("/id")),
                    secret: secret("/secret"),
                };
                match keys.starts_with("/v1/organizations") {
                    true => known.organization_keys.push(key),
                    false => known.keys.push(key),
                }
            }
            Learn::Session { person } => {
                known.sessions[person].push((secret("/id"), secret("/token")));
            }
        }
    }
}

/// What was answered is what the log has: done at that position, refused not at all.
fn assert_answers_are_the_log(
    events: &[StoredEvent],
    answers: &BTreeMap<String, Result<u64, String>>,
) {
    let mut written: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in events {
        let metadata: Value = serde_json::from_str(&event.metadata).expect("JSON");
        if let Some(id) = metadata["request_id"].as_str()
            && event.aggregate_type != "attempts"
        {
            let positions = written.entry(id.to_owned()).or_default();
            positions.push(event.position);
        }
    }
    for (id, answer) in answers {
        match (written.get(id), answer) {
            (Some(positions), Ok(position)) => {
                assert_eq!(positions.last(), Some(position), "{id}");
            }
            (Some(positions), Err(code)) => panic!("{id} is at {positions:?}, and was {code}"),
            // It found everything as it asks for.
            (None, _) => {}
        }
    }
}

/// What happened in a race that is worth its name.
const HAPPENS: [&str; 20] = [
    "api_key_created",
    "api_key_revoked",
    "api_key_rotated",
    "attempt_refused",
    "auditor_granted",
    "invitation_accepted",
    "invitation_resent",
    "invitation_revoked",
    "member_invited",
    "member_joined",
    "member_left",
    "member_removed",
    "member_role_changed",
    "organization_key_created",
    "organization_key_revoked",
    "organization_member_added",
    "ownership_transferred",
    "session_revoked",
    "session_started",
    "workspace_created",
];

/// What a race that is worth its name is refused.
const REFUSED: [&str; 3] = [
    "not_permitted",
    "invitation_not_pending",
    "api_key_not_active",
];

/// How often the clients go on for what has not happened yet.
const MORE_MAX: usize = 20;

/// What has not happened yet.
async fn missing(store: &StoreUnderTest, scene: &Scene) -> Vec<&'static str> {
    let reading = reading(store).await;
    let events = ledger::read(&*reading).await;
    reading.close().await;
    let happened: BTreeSet<_> = events.iter().map(|it| it.event_type.as_str()).collect();
    let known = scene.known();
    let answers = known.answers.values();
    let refused: BTreeSet<_> = answers
        .filter_map(|answer| answer.as_ref().err().map(String::as_str))
        .collect();
    let not_yet = HAPPENS.into_iter().filter(|kind| !happened.contains(kind));
    let not_refused = REFUSED.into_iter().filter(|code| !refused.contains(code));
    not_yet.chain(not_refused).collect()
}

async fn race(store: StoreUnderTest, processes: usize) {
    let seed = u64::from(rand::random::<u32>());
    println!("the seed of this race is {seed}");
    let mut servers = Vec::new();
    for _ in 0..processes {
        servers.push(Server::start(&store).await);
    }
    let scene = Arc::new(Scene::set(servers, seed).await);
    for round in 0..rounds(1) {
        scene.run(&format!("race.{round}"), VOLLEYS).await;
    }
    // Chance may have left something out.
    for more in 0..MORE_MAX {
        if missing(&store, &scene).await.is_empty() {
            break;
        }
        scene.run(&format!("more.{more}"), VOLLEYS / 5).await;
    }
    assert_eq!(missing(&store, &scene).await, [] as [&str; 0]);
    scene.send(scene.leave_all(), "race.end").await;
    let scene = Arc::into_inner(scene).expect("nobody else has it");
    let answers = scene.known().answers.clone();
    for mut server in scene.servers {
        assert!(server.terminate().await.success(), "{}", server.logs());
    }
    let reading = reading(&store).await;
    let events = ledger::verify(&*reading).await;
    let seen = model::judge(&events);
    assert_answers_are_the_log(&events, &answers);
    assert_store_is_its_log(&*reading).await;
    reading.close().await;
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    for code in answers.values().filter_map(|answer| answer.as_ref().err()) {
        *refused.entry(code).or_default() += 1;
    }
    let done = answers.values().filter(|answer| answer.is_ok()).count();
    println!(
        "{:?}, {processes} processes: {done} of {} commands done, {} entries; refused {refused:?}",
        store.kind(),
        answers.len(),
        events.len()
    );
    assert!(refused.contains_key("last_owner"), "{refused:?}");
    println!("{seen:?}");
}
