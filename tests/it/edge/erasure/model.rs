//! Erasing races with everything that gives somebody something: invitations, grants, roles,
//! ownership, workspaces and organizations of their own, renaming, and with holds that are put and
//! lifted, through one process and through two. Then the log is judged by a model that shares no
//! rule with the program.

use std::collections::{BTreeMap, BTreeSet};
use std::future::IntoFuture;
use std::sync::{Arc, Mutex, PoisonError};

use crewlog::journal::StoredEvent;
use crewlog::journal::stores::Store;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{RETENTION_DAYS, erase};
use crate::edge::eventually;
use crate::edge::team::{Person, accept, grant, invite, number, text};
use crate::projections::assert_store_is_its_log;
use crate::support::journal::reading;
use crate::support::ledger;
use crate::support::server::{Call, Server};
use crate::support::trials::{AUTHORITY_ROUNDS, Case, StoreKind, StoreUnderTest, both, on, rounds};

pub fn trials() -> Vec<Case> {
    vec![
        both("erasure", "races_through_one_process", |store| {
            race(store, 1)
        }),
        on(
            &[StoreKind::Postgres],
            "erasure",
            "races_through_two_processes",
            |store| race(store, 2),
        ),
    ]
}

const CLIENTS: usize = 6;
/// So many that most are given nothing of their own that they could not leave.
const PEOPLE: usize = 54;
const WORKSPACES: usize = 3;
const VOLLEYS: usize = 12;

/// Who does what to whom: one person gives, and is never erased.
struct Scene {
    servers: Vec<Server>,
    first: Person,
    organization: String,
    workspaces: Vec<String>,
    key: String,
    people: Vec<Person>,
    random: Mutex<StdRng>,
    /// How often each answer was given, by status and code.
    answers: Mutex<BTreeMap<String, usize>>,
}

impl Scene {
    async fn set(servers: Vec<Server>, seed: u64) -> Self {
        let server = &servers[0];
        let made = json!({
            "organization": {"name": "Raced"}, "workspace": {"name": "Raced", "plan": "team"},
        });
        let (first, made) = Person::sign_up_with(server, "giver", made).await;
        let organization = text(&made.body, "/organization/id");
        let mut workspaces = vec![text(&made.body, "/workspace/id")];
        for _ in 1..WORKSPACES {
            let path = format!("/v1/organizations/{organization}/workspaces");
            let call = server.post(&path).bearer(&first.token);
            let made = call.json(json!({"name": "Raced"})).await.expect(201);
            workspaces.push(text(&made.body, "/id"));
        }
        let path = format!("/v1/organizations/{organization}/api-keys");
        let new = json!({"name": "Raced", "scopes": ["workspaces:create"]});
        let call = server.post(&path).bearer(&first.token);
        let key = text(&call.json(new).await.expect(201).body, "/secret");
        let mut people = Vec::new();
        for _ in 0..PEOPLE {
            people.push(Person::sign_up(server, "racer").await);
        }
        Self {
            servers,
            first,
            organization,
            workspaces,
            key,
            people,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            answers: Mutex::default(),
        }
    }

    fn below(&self, bound: usize) -> usize {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.gen_range(0..bound)
    }

    fn one_of<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn server(&self) -> &Server {
        self.one_of(&self.servers)
    }

    /// What gives somebody something, or takes it.
    async fn gift(&self, person: &Person) -> Call {
        let (server, first) = (self.server(), &self.first.token);
        let workspace = self.one_of(&self.workspaces);
        let member = format!("/v1/workspaces/{workspace}/members/{}", person.user);
        let organization = format!("/v1/organizations/{}", self.organization);
        let named = json!({"name": format!("Raced {}", number())});
        match self.below(11) {
            0 | 1 => {
                let role = ["owner", "admin", "viewer"][self.below(3)];
                let asked = invite(server, workspace, &self.first, &person.email, role).await;
                // Who is in already, or invited by somebody who may not, comes with nothing.
                let token = asked.body["token"].as_str().unwrap_or_default().to_owned();
                accept(server, person, &token)
            }
            2 => grant(server, workspace, &self.first, person),
            3 => {
                let role = ["owner", "billing", "auditor"][self.below(3)];
                let path = format!("{organization}/members/{}", person.user);
                let call = server.put(&path).bearer(first);
                call.json(json!({"role": role}))
            }
            4 => {
                let call = server.patch(&member).bearer(first);
                call.json(json!({"role": "owner"}))
            }
            5 => {
                // To a co-owner, who gives it back where they are not gone by then.
                let path = format!("/v1/workspaces/{workspace}/transfer-ownership");
                let call = server.post(&path).bearer(first);
                call.json(json!({"user": person.user}))
            }
            6 => {
                let call = server.post("/v1/organizations").bearer(&person.token);
                call.json(named)
            }
            7 => {
                let path = format!("{organization}/workspaces");
                let mut body = named;
                body["owner"] = json!(person.user);
                server.post(&path).bearer(&self.key).json(body)
            }
            8 => {
                let path = format!("{organization}/workspaces");
                server.post(&path).bearer(&person.token).json(named)
            }
            9 => server.delete(&member).bearer(first),
            _ => server.patch("/v1/me").bearer(&person.token).json(named),
        }
    }

    /// A hold that is put or lifted.
    fn hold(&self) -> Call {
        let path = format!(
            "/v1/workspaces/{}/legal-hold",
            self.one_of(&self.workspaces)
        );
        let method = [reqwest::Method::PUT, reqwest::Method::DELETE][self.below(2)].clone();
        let call = self.server().call(method, &path).bearer(&self.first.token);
        call.json(json!({"reason": "raced"}))
    }

    /// What a client sends at once.
    async fn volley(&self) -> Vec<Call> {
        let person = self.one_of(&self.people);
        let erases = || erase(self.server(), person, &person.password);
        match self.below(8) {
            0..4 => vec![self.gift(person).await],
            4 => vec![self.hold()],
            5 => vec![self.gift(person).await, self.gift(person).await, erases()],
            6 => vec![erases(), self.gift(person).await, erases()],
            _ => vec![self.gift(person).await, erases(), self.hold()],
        }
    }

    async fn run(self: &Arc<Self>) {
        let clients = (0..CLIENTS).map(|_| {
            let scene = self.clone();
            tokio::spawn(async move {
                for _ in 0..VOLLEYS {
                    scene.send(scene.volley().await).await;
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client to be content");
        }
    }

    async fn send(&self, calls: Vec<Call>) {
        for reply in join_all(calls.into_iter().map(IntoFuture::into_future)).await {
            assert!(reply.status < 500, "{}: {}", reply.request, reply.text);
            let code = reply.body["code"].as_str().unwrap_or_default();
            let answer = format!("{} {code}", reply.status);
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            *answers.entry(answer).or_default() += 1;
        }
    }

    /// Whoever got an ownership gives it back or is the only owner no more, all holds are lifted,
    /// and everybody who still can goes.
    async fn ends(&self) {
        let server = &self.servers[0];
        for workspace in &self.workspaces {
            let member = format!("/v1/workspaces/{workspace}/members/{}", self.first.user);
            for person in &self.people {
                let call = server.patch(&member).bearer(&person.token);
                self.send(vec![call.json(json!({"role": "owner"}))]).await;
            }
            let path = format!("/v1/workspaces/{workspace}/legal-hold");
            let call = server.delete(&path).bearer(&self.first.token);
            call.json(json!({"reason": "over"})).await.expect(204);
        }
        let goes = self.people.iter();
        let goes = goes.map(|person| erase(server, person, &person.password));
        self.send(goes.collect()).await;
    }
}

async fn race(store: StoreUnderTest, processes: usize) {
    let seed = u64::from(rand::random::<u32>());
    println!("the seed of this race is {seed}");
    let mut servers = Vec::new();
    for _ in 0..processes {
        let mut command = Server::command(&store);
        command.env(RETENTION_DAYS, "0");
        servers.push(Server::launch(command).await);
    }
    let scene = Arc::new(Scene::set(servers, seed).await);
    for _ in 0..rounds(AUTHORITY_ROUNDS, 1) {
        scene.run().await;
    }
    scene.ends().await;
    let beside = reading(&store).await;
    eventually("all that is due is done", async || {
        nothing_is_due(&*beside).await.then_some(())
    })
    .await;
    let scene = Arc::into_inner(scene).expect("nobody else has it");
    for mut server in scene.servers {
        assert!(server.terminate().await.success(), "{}", server.logs());
    }
    let events = ledger::verify(&*beside).await;
    let seen = judge(&events);
    nothing_is_left(&*beside, &seen.erased).await;
    assert_store_is_its_log(&*beside).await;
    beside.close().await;
    crate::edge::held(&store);
    let answers = scene.answers.into_inner();
    let answers = answers.unwrap_or_else(PoisonError::into_inner);
    println!(
        "{:?}, {processes} processes: {} entries, {} erased; answers {answers:?}; {:?}",
        store.kind(),
        events.len(),
        seen.erased.len(),
        seen.kinds
    );
    assert!(seen.erased.len() >= PEOPLE / 3, "people are erased");
    for happens in ["legal_hold_placed", "member_joined", "person_erased"] {
        assert!(seen.kinds.contains_key(happens), "{:?}", seen.kinds);
    }
}

async fn nothing_is_due(store: &dyn Store) -> bool {
    let mut left = 0;
    for sql in [
        "SELECT COUNT(*) FROM untold_erasures",
        "SELECT COUNT(*) FROM erasures WHERE erased_at IS NULL",
    ] {
        let rows = store.query(sql, vec![]).await.expect("a count");
        left += rows[0].count(0).expect("a count");
    }
    left == 0
}

/// No key, address, word, password or session of theirs is kept beside the log.
async fn nothing_is_left(store: &dyn Store, erased: &BTreeSet<String>) {
    for user in erased {
        for sql in [
            "SELECT COUNT(*) FROM subject_keys k
               JOIN subjects s ON s.subject = k.owner WHERE s.user_id = $1",
            "SELECT COUNT(*) FROM subjects WHERE user_id = $1 AND email_lookup IS NOT NULL",
            "SELECT COUNT(*) FROM subjects s WHERE user_id = $1
                AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.subject = s.subject)",
            "SELECT COUNT(*) FROM name_words WHERE user_id = $1",
            "SELECT COUNT(*) FROM passwords WHERE user_id = $1",
            "SELECT COUNT(*) FROM session_tokens WHERE user_id = $1",
        ] {
            let rows = store.query(sql, vec![user.as_str().into()]).await;
            let count = rows.expect("a count")[0].count(0).expect("a count");
            assert_eq!(count, 0, "{user}: {sql}");
        }
    }
}

#[derive(Default)]
struct Seen {
    kinds: BTreeMap<String, usize>,
    erased: BTreeSet<String>,
    /// The role of each person in each workspace and organization.
    roles: BTreeMap<(String, String), String>,
    grants: BTreeSet<(String, String)>,
    /// Who is known in which organization.
    known: BTreeSet<(String, String)>,
    /// From when on they are to be erased there.
    due: BTreeMap<(String, String), i64>,
    /// The workspaces of each organization that are held.
    held: BTreeSet<(String, String)>,
}

/// Reads a log, and says what nobody may ever have done.
///
/// # Panics
/// With the event that breaks what always holds.
fn judge(events: &[StoredEvent]) -> Seen {
    let mut seen = Seen::default();
    for event in events {
        let said: Value = serde_json::from_str(&event.payload).expect("JSON");
        let metadata: Value = serde_json::from_str(&event.metadata).expect("JSON");
        if metadata["correlation"].is_null() {
            seen.everything_is_owned(event.position);
        }
        seen.take(event, &said[&event.event_type], &metadata);
    }
    seen.everything_is_owned(u64::MAX);
    let left: Vec<_> = seen.due.keys().collect();
    assert!(left.is_empty(), "who is due is erased: {left:?}");
    let known = seen.known.iter();
    let still: Vec<_> = known
        .filter(|(_, user)| seen.erased.contains(user))
        .collect();
    assert!(still.is_empty(), "nobody knows who is erased: {still:?}");
    seen
}

impl Seen {
    fn take(&mut self, event: &StoredEvent, said: &Value, metadata: &Value) {
        let (kind, place) = (event.event_type.as_str(), event.aggregate_id.clone());
        *self.kinds.entry(kind.to_owned()).or_default() += 1;
        let words = format!("{kind} at {}: {said}", event.position);
        let field = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        // Refused attempts may be told of late, and say of whom.
        if event.aggregate_type != "attempts" {
            let actor = metadata["actor"]["id"].as_str().unwrap_or_default();
            assert!(!self.erased.contains(actor), "by somebody erased: {words}");
        }
        let given = match kind {
            "member_joined"
            | "auditor_granted"
            | "organization_member_added"
            | "member_role_changed"
            | "organization_member_role_changed"
            | "person_recorded" => field("user"),
            "ownership_transferred" => field("to"),
            "organization_created" | "workspace_created" => field("created_by"),
            _ => String::new(),
        };
        assert!(!self.erased.contains(&given), "to somebody erased: {words}");
        let of = |user: &str| (place.clone(), user.to_owned());
        match kind {
            "member_joined" | "organization_member_added" => {
                self.roles.insert(of(&field("user")), field("role"));
            }
            "member_role_changed" | "organization_member_role_changed" => {
                self.roles.insert(of(&field("user")), field("to"));
            }
            "member_left" | "member_removed" | "organization_member_removed" => {
                self.roles.remove(&of(&field("user")));
            }
            "auditor_granted" => drop(self.grants.insert(of(&field("user")))),
            "auditor_revoked" => drop(self.grants.remove(&of(&field("user")))),
            "person_recorded" => drop(self.known.insert(of(&field("user")))),
            "workspace_hold_began" => drop(self.held.insert(of(&field("workspace")))),
            "workspace_hold_ended" => drop(self.held.remove(&of(&field("workspace")))),
            "user_erased" => self.is_gone(&place, &words),
            "person_erasure_scheduled" => {
                let user = field("user");
                assert!(self.erased.contains(&user), "of whom is there: {words}");
                let due_at = said["due_at"].as_i64().expect("a time");
                let before = self.due.insert(of(&user), due_at);
                assert_eq!(before, None, "once: {words}");
            }
            "person_erased" => {
                let due = self.due.remove(&of(&field("user")));
                let due = due.unwrap_or_else(|| panic!("nothing is due: {words}"));
                assert!(due <= event.recorded_at.0, "too early: {words}");
                let held = self
                    .held
                    .iter()
                    .any(|(organization, _)| *organization == place);
                assert!(!held, "under a hold: {words}");
                self.known.remove(&of(&field("user")));
            }
            _ => {}
        }
    }

    fn is_gone(&mut self, user: &str, words: &str) {
        let role = self.roles.keys().find(|(_, of)| of == user);
        let grant = self.grants.iter().find(|(_, of)| of == user);
        assert_eq!(role.or(grant), None, "they have left everything: {words}");
        assert!(self.erased.insert(user.to_owned()), "once: {words}");
    }

    fn everything_is_owned(&self, position: u64) {
        let places: BTreeSet<_> = self.roles.keys().map(|(place, _)| place).collect();
        for place in places {
            let roles = self.roles.iter().filter(|((of, _), _)| of == place);
            let is_owned = roles.into_iter().any(|(_, role)| role == "owner");
            assert!(is_owned, "{place} has no owner before {position}");
        }
    }
}
