//! Limits and usage against a model: random commands that race through one server or two, and a
//! clock that is moved over the ends of months while batches are under way.
//!
//! The model shares no rule with the program: it reads the rows of the log and of the records as
//! they are stored, counts again what is limited and what was used, and does the money over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use crewlog::domain::Timestamp;
use crewlog::domain::crew::CrewProfile;
use crewlog::domain::environment::Environment;
use crewlog::domain::ids::CrewId;
use crewlog::domain::usage::{Month, UsageRecord};
use crewlog::journal::Source;
use crewlog::journal::sealing::RootKey;
use crewlog::journal::stores::Store;
use crewlog::service::{Principal, Service, ServiceError, ServiceSettings};
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::limits::server_with_prices;
use super::team::{Person, address, number, text};
use super::time::{Clocked, Owned, name, request};
use crate::support::journal::{ROOT_KEY, open_store, reading};
use crate::support::ledger;
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, on};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "limits_and_usage_hold_whatever_races", |store| {
            race(store, 1)
        }),
        on(
            &[StoreKind::Postgres],
            "edge",
            "limits_and_usage_hold_whatever_races_two_servers",
            |store| race(store, 2),
        ),
        both("edge", "usage_is_counted_by_the_month", months),
        both("edge", "usage_races_the_end_of_its_month", ends),
        both(
            "edge",
            "usage_beyond_what_can_be_stated_is_refused",
            too_much,
        ),
        both("edge", "usage_is_read_by_its_indexes", planned),
    ]
}

/// Name, then members, crews of an environment, keys.
const PLANS: [(&str, [u64; 3]); 3] = [
    ("free", [4, 2, 2]),
    ("team", [6, 3, 4]),
    ("large", [9, 4, 6]),
];
const PRICES: [(&str, &str, u64, u64); 3] = [
    ("messages", "USD", 50, 1_000),
    ("minutes", "USD", 7, 3),
    ("storage", "EUR", 1, 7),
];
const CLIENTS: u64 = 8;
const STEPS: usize = 45;
/// Ids of records that clients send, each more than once, and seldom with something else in it.
const IDS: u64 = 400;
const ENVIRONMENTS: [&str; 3] = ["development", "staging", "production"];

/// What a client does, at random, and what came of it.
struct Client<'a> {
    server: &'a Server,
    owner: &'a Person,
    workspace: &'a str,
    /// To send usage of; they are never archived.
    crews: &'a [String],
    random: StdRng,
    made: Made,
    /// How many records were answered as new, and how many batches as of another record.
    accepted: u64,
    conflicts: u64,
    /// Commands that were done, and that a limit has refused.
    done: u64,
    limited: u64,
}

/// What a client has made, and may take away.
#[derive(Default)]
struct Made {
    invitations: Vec<String>,
    crews: Vec<String>,
    keys: Vec<String>,
}

impl Client<'_> {
    fn one_of(&mut self, ids: fn(&mut Made) -> &mut Vec<String>) -> Option<String> {
        let ids = ids(&mut self.made);
        let at = self.random.gen_range(0..ids.len().max(1));
        (!ids.is_empty()).then(|| ids.swap_remove(at))
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let path = format!("{}{path}", self.workspace);
        let method = method.parse().expect("a method");
        let call = self.server.call(method, &path).bearer(&self.owner.token);
        match body {
            Some(body) => call.json(body).await,
            None => call.await,
        }
    }

    /// What was made, or nothing where a limit has refused it.
    fn made(&mut self, reply: &Reply) -> Option<String> {
        match (reply.status, reply.body["code"].as_str()) {
            (201, _) => {
                self.done += 1;
                Some(text(&reply.body, "/id"))
            }
            (409, Some("limit_reached")) => {
                self.limited += 1;
                None
            }
            _ => panic!("{}", reply.text),
        }
    }

    async fn step(&mut self) {
        match self.random.gen_range(0..14) {
            0 | 1 => {
                let body = json!({"email": address("raced"), "role": "member"});
                let reply = self.call("POST", "/invitations", Some(body)).await;
                let made = self.made(&reply);
                self.made.invitations.extend(made);
            }
            2 | 3 => {
                let environment = ENVIRONMENTS[self.random.gen_range(0..3)];
                let name = format!("Client {} - {environment}", number());
                let body = json!({"name": name, "environment": environment});
                let reply = self.call("POST", "/crews", Some(body)).await;
                let made = self.made(&reply);
                self.made.crews.extend(made);
            }
            4 | 5 => {
                let body = json!({
                    "name": format!("key {}", number()), "environment": "staging",
                    "scopes": ["crews:read"],
                });
                let reply = self.call("POST", "/api-keys", Some(body)).await;
                let made = self.made(&reply);
                self.made.keys.extend(made);
            }
            6 => {
                if let Some(id) = self.one_of(|made| &mut made.invitations) {
                    let path = format!("/invitations/{id}");
                    self.call("DELETE", &path, None).await.expect(200);
                }
            }
            7 => {
                if let Some(id) = self.one_of(|made| &mut made.crews) {
                    let path = format!("/crews/{id}/archive");
                    self.call("POST", &path, Some(json!({}))).await.expect(200);
                }
            }
            8 => {
                if let Some(id) = self.one_of(|made| &mut made.keys) {
                    let path = format!("/api-keys/{id}");
                    self.call("DELETE", &path, None).await.expect(200);
                }
            }
            9 => {
                // A key that was rotated counts as one with its successor.
                if let Some(id) = self.one_of(|made| &mut made.keys) {
                    let path = format!("/api-keys/{id}/rotate");
                    let body = json!({"grace_seconds": 600});
                    let reply = self.call("POST", &path, Some(body)).await.expect(201);
                    self.made.keys.push(text(&reply.body, "/id"));
                }
            }
            10 => {
                let plan = PLANS[self.random.gen_range(0..3)].0;
                let reply = self.call("PUT", "/plan", Some(json!({"plan": plan}))).await;
                self.changed(&reply);
            }
            11 => {
                let mut limit = |most: u64| match self.random.gen_range(0..3) {
                    0 => Value::Null,
                    _ => json!(self.random.gen_range(1..=most)),
                };
                let body = json!({
                    "members": limit(9), "crews_per_environment": limit(4), "api_keys": limit(6),
                });
                let reply = self.call("PUT", "/limits", Some(body)).await;
                self.changed(&reply);
            }
            _ => self.send().await,
        }
    }

    fn changed(&mut self, reply: &Reply) {
        match reply.status {
            200 => self.done += 1,
            409 => {
                assert_eq!(reply.body["code"], "limit_exceeded", "{}", reply.text);
                self.limited += 1;
            }
            _ => panic!("{}", reply.text),
        }
    }

    /// A batch of records, of which others send the same.
    async fn send(&mut self) {
        let count = self.random.gen_range(1..30);
        let mut ids = BTreeSet::new();
        while ids.len() < count {
            ids.insert(self.random.gen_range(0..IDS));
        }
        let is_wrong = self.random.gen_range(0..6) == 0;
        let mut records: Vec<_> = ids.iter().map(|id| offered(*id, self.crews)).collect();
        if is_wrong {
            records[count - 1]["quantity"] = json!(123_456);
        }
        if self.random.gen_range(0..2) == 0 {
            records.reverse();
        }
        let reply = self
            .call("POST", "/usage", Some(json!({"records": records})))
            .await;
        match reply.status {
            200 => {
                let of = |name: &str| reply.body[name].as_u64().expect("a count");
                assert_eq!(of("accepted") + of("known"), count as u64);
                self.accepted += of("accepted");
            }
            409 => {
                assert_eq!(reply.body["code"], "usage_conflict", "{}", reply.text);
                self.conflicts += 1;
            }
            _ => panic!("{}", reply.text),
        }
    }
}

/// The record of an id, as all clients would send it.
fn offered(id: u64, crews: &[String]) -> Value {
    let crew = &crews[usize::try_from(id).expect("few") % crews.len()];
    let meter = PRICES[usize::try_from(id % 3).expect("few")].0;
    // Within this month, which is open: the first moment of it, and later.
    let now = crewlog::journal::SystemSource.now();
    let start = Month::of(now).start();
    let at = Timestamp(start.0 + i64::try_from(id % 60).expect("few") * 1_000_000);
    json!({
        "id": format!("record {id} \u{e9}"), "crew": crew, "meter": meter,
        "quantity": id * 37 % 1_000, "at": at.to_rfc3339(),
    })
}

async fn race(store: StoreUnderTest, processes: usize) {
    let mut servers = Vec::new();
    for _ in 0..processes {
        servers.push(server_with_prices(&store, &PLANS, &PRICES).await);
    }
    let made = json!({
        "organization": {"name": "Raced"}, "workspace": {"name": "Raced", "plan": "large"},
    });
    let (owner, reply) = Person::sign_up_with(&servers[0], "owner", made).await;
    let workspace = text(&reply.body, "/workspace/id");
    let path = format!("/v1/workspaces/{workspace}");
    let mut crews = Vec::new();
    for environment in ["staging", "production"] {
        let body = json!({"name": format!("Kept - {environment}"), "environment": environment});
        let call = servers[0]
            .post(&format!("{path}/crews"))
            .bearer(&owner.token);
        crews.push(text(&call.json(body).await.expect(201).body, "/id"));
    }
    let organization = text(&reply.body, "/organization/id");
    due_months(&servers[0], &workspace, &organization, &crews).await;
    let clients = (0..CLIENTS).map(|seed| {
        let mut client = Client {
            server: &servers[usize::try_from(seed).expect("few") % processes],
            owner: &owner,
            workspace: &path,
            crews: &crews,
            random: StdRng::seed_from_u64(seed),
            made: Made::default(),
            accepted: 0,
            conflicts: 0,
            done: 0,
            limited: 0,
        };
        async move {
            for _ in 0..STEPS {
                client.step().await;
            }
            client
        }
    });
    let clients = join_all(clients).await;
    let sum = |of: fn(&Client<'_>) -> u64| clients.iter().map(of).sum::<u64>();
    assert!(sum(|client| client.done) > 30 && sum(|client| client.limited) > 10);
    super::eventually("all months to be stated", async || {
        let call = servers[0]
            .get(&format!("{path}/statements"))
            .bearer(&owner.token);
        let list = call.await.expect(200).body;
        (list["data"].as_array().map(Vec::len) == Some(DUE.len())).then_some(())
    })
    .await;
    let now = crewlog::journal::SystemSource.now();
    let opened = reading(&store).await;
    let kept = records(&*opened, &workspace, &Month::of(now).to_string()).await;
    assert_eq!(
        kept.len() as u64,
        sum(|client| client.accepted),
        "each counted once"
    );
    for record in &kept {
        let number = record.id.split(' ').nth(1).and_then(|id| id.parse().ok());
        let said = offered(number.expect("an id"), &crews);
        let right = said["quantity"] == record.quantity;
        assert!(right || record.quantity == 123_456, "{record:?}");
    }
    let within = limits_held(&*opened).await;
    assert!(within > 40, "{within} events of a workspace with limits");
    assert_eq!(recomputed(&*opened).await, DUE.len());
    assert!(sum(|client| client.conflicts) > 0);
    drop((servers, opened));
    super::held(&store);
}

/// Months that are over when the race begins, for both servers to close.
const DUE: [&str; 4] = ["2025-10", "2025-11", "2025-12", "2026-01"];

async fn due_months(server: &Server, workspace: &str, organization: &str, crews: &[String]) {
    let mut statements = vec!["BEGIN".to_owned()];
    for month in DUE {
        let first: Month = month.parse().expect("a month");
        for place in 0..50 {
            let (crew, meter) = (&crews[place % 2], PRICES[place % 3].0);
            let (quantity, at) = (place * place, first.start().0 + place as i64);
            statements.push(format!(
                "INSERT INTO usage_records (workspace, id, month, crew, meter, quantity, at)
                 VALUES ('{workspace}', '{month} {place}', '{month}', '{crew}', '{meter}',
                         {quantity}, {at})"
            ));
        }
        statements.push(format!(
            "INSERT INTO usage_months (workspace, month, organization, closes_at)
             VALUES ('{workspace}', '{month}', '{organization}', 1)"
        ));
    }
    statements.push("COMMIT".to_owned());
    server.behind_its_back(&statements).await;
}

/// What a workspace has, and may have, by the log.
#[derive(Default)]
struct Counted {
    members: BTreeSet<String>,
    invitations: BTreeSet<String>,
    crews: BTreeMap<String, BTreeSet<String>>,
    /// Those that no successor has.
    keys: BTreeSet<String>,
    plan: String,
    limits: [Option<u64>; 3],
}

impl Counted {
    fn take(&mut self, kind: &str, said: &Value) {
        let id = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
        match kind {
            "plan_selected" => self.plan = id("to"),
            "limits_changed" => {
                let names = ["members", "crews_per_environment", "api_keys"];
                self.limits = names.map(|name| said["to"][name].as_u64());
            }
            "member_joined" => drop(self.members.insert(id("user"))),
            "member_invited" => drop(self.invitations.insert(id("invitation"))),
            "invitation_revoked" => drop(self.invitations.remove(&id("invitation"))),
            "crew_listed" => {
                let of = self.crews.entry(id("environment")).or_default();
                of.insert(id("crew"));
            }
            "crew_unlisted" => {
                let of = self.crews.entry(id("environment")).or_default();
                of.remove(&id("crew"));
            }
            "api_key_created" => drop(self.keys.insert(id("key"))),
            "api_key_rotated" | "api_key_revoked" => drop(self.keys.remove(&id("key"))),
            _ => {}
        }
    }

    /// That there is no more of anything than plan and owners allow.
    fn is_within(&self, position: u64) {
        let plan = PLANS.iter().find(|(name, _)| *name == self.plan);
        let Some((_, quotas)) = plan else { return };
        let most = self
            .crews
            .values()
            .map(BTreeSet::len)
            .max()
            .unwrap_or_default();
        let there = [
            self.members.len() + self.invitations.len(),
            most,
            self.keys.len(),
        ];
        for ((there, quota), limit) in there.into_iter().zip(quotas).zip(self.limits) {
            let allowed = limit.map_or(*quota, |limit| limit.min(*quota));
            assert!(
                there as u64 <= allowed,
                "{there} of {allowed} at {position}"
            );
        }
    }
}

/// Counts again, unit by unit, and answers how many events of workspaces were looked at.
async fn limits_held(store: &dyn Store) -> usize {
    let mut workspaces: BTreeMap<String, Counted> = BTreeMap::new();
    let events = ledger::read(store).await;
    let mut looked_at = 0;
    for event in events
        .iter()
        .filter(|event| event.aggregate_type == "workspace")
    {
        let payload: Value = serde_json::from_str(&event.payload).expect("JSON");
        let counted = workspaces.entry(event.aggregate_id.clone()).or_default();
        let kind = event.event_type.as_str();
        counted.take(kind, &payload[kind]);
        // A rotated key and its successor come in one unit.
        if kind != "api_key_rotated" {
            counted.is_within(event.position);
        }
        looked_at += 1;
    }
    looked_at
}

/// The records of a month as they are stored, in order of their ids.
async fn records(store: &dyn Store, workspace: &str, month: &str) -> Vec<UsageRecord> {
    let sql = "SELECT id, crew, meter, quantity, at FROM usage_records
                WHERE workspace = $1 AND month = $2";
    let rows = store.query(sql, vec![workspace.into(), month.into()]).await;
    let record = |row: &crewlog::journal::stores::Row| UsageRecord {
        id: row.text(0).expect("an id").to_owned(),
        crew: row.parsed(1).expect("a crew"),
        meter: row.text(2).expect("a meter").to_owned(),
        quantity: row.count(3).expect("a quantity"),
        at: Timestamp(row.integer(4).expect("a time")),
    };
    let mut records: Vec<_> = rows.expect("records").iter().map(record).collect();
    records.sort_by(|one, other| one.id.as_bytes().cmp(other.id.as_bytes()));
    records
}

/// Does every statement of the log over, from the records; answers how many there are. Each month
/// of a workspace has one at most.
async fn recomputed(store: &dyn Store) -> usize {
    let mut seen = BTreeSet::new();
    for event in ledger::read(store).await {
        if event.event_type != "usage_month_closed" {
            continue;
        }
        let payload: Value = serde_json::from_str(&event.payload).expect("JSON");
        let said = &payload["usage_month_closed"]["statement"];
        let month = text(said, "/month");
        assert!(
            seen.insert((event.aggregate_id.clone(), month.clone())),
            "{month} twice"
        );
        let records = records(store, &event.aggregate_id, &month).await;
        let mut lines = String::new();
        let mut meters: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for record in &records {
            let id = serde_json::to_string(&record.id).expect("JSON");
            lines += &format!(
                "{{\"at\":{},\"crew\":\"{}\",\"id\":{id},\"meter\":\"{}\",\"quantity\":{}}}\n",
                record.at.0, record.crew, record.meter, record.quantity
            );
            let (quantity, count) = meters.entry(&record.meter).or_default();
            *quantity += record.quantity;
            *count += 1;
        }
        let digest = BASE64_STANDARD.encode(Sha256::digest(lines));
        assert_eq!(said["records_digest"], digest.as_str(), "{month}");
        let told = said["meters"].as_object().expect("meters");
        assert_eq!(told.len(), meters.len(), "{month}");
        for (meter, (quantity, count)) in meters {
            let total = &told[meter];
            assert_eq!(
                (&total["quantity"], &total["records"]),
                (&json!(quantity), &json!(count))
            );
            assert_eq!(
                total["amount_minor"],
                cost(total, quantity),
                "{meter} of {month}"
            );
        }
    }
    seen.len()
}

/// By schoolbook: whole units, and one more where half of one or more is left.
fn cost(total: &Value, quantity: u64) -> u64 {
    let price = &total["price"];
    let (Some(amount), Some(per)) = (
        price["amount_minor"].as_u64(),
        price["per_quantity"].as_u64(),
    ) else {
        return 0;
    };
    let exact = quantity * amount;
    exact / per + u64::from(exact % per * 2 >= per)
}

/// A crew of an owner, and who sends what it used.
struct Metered {
    principal: Principal,
    crew: CrewId,
}

impl Metered {
    async fn on(clocked: &Clocked, owner: &Owned) -> Self {
        let principal = Principal::Person(owner.caller.clone());
        let profile = CrewProfile {
            name: name("Metered - Staging").to_string(),
            ..CrewProfile::default()
        };
        let (asked, environment) = (request(), Environment::Staging);
        let made = clocked
            .service
            .create_crew(
                &asked,
                &principal,
                owner.workspace,
                environment,
                (profile, None),
            )
            .await;
        Self {
            crew: made.expect("a crew").value.id(),
            principal,
        }
    }

    fn record(&self, id: impl Into<String>, meter: &str, quantity: u64, at: i64) -> UsageRecord {
        UsageRecord {
            at: Timestamp(at),
            crew: self.crew,
            id: id.into(),
            meter: meter.to_owned(),
            quantity,
        }
    }

    /// How many were new.
    async fn send(
        &self,
        service: &Service,
        owner: &Owned,
        records: Vec<UsageRecord>,
    ) -> Result<u64, ServiceError> {
        let (asked, sent) = (request(), records.len() as u64);
        let sent_to = service.send_usage(&asked, &self.principal, owner.workspace, records);
        let receipt = sent_to.await?.value;
        assert_eq!(receipt.accepted + receipt.known, sent);
        Ok(receipt.accepted)
    }
}

/// A random time in a month, its first and last microseconds more often than any other.
fn somewhen(random: &mut StdRng, month: Month) -> i64 {
    let (start, end) = (month.start().0, month.end().0);
    match random.gen_range(0..4) {
        0 => start,
        1 => end - 1,
        _ => random.gen_range(start..end),
    }
}

/// Half a year passes, hour by hour. Records come in time, late, twice and out of order; the model
/// knows which are new, and of which months none is taken any more.
async fn months(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let owner = clocked.owner().await;
    let metered = Metered::on(&clocked, &owner).await;
    let mut random = StdRng::seed_from_u64(11);
    let mut kept: BTreeMap<String, UsageRecord> = BTreeMap::new();
    let (mut repeated, mut late, mut refused) = (0, 0, 0);
    for step in 0..400 {
        let now = clocked.source.now();
        let this = Month::of(now);
        let before = Month::of(Timestamp(this.start().0 - 1));
        let mut batch: BTreeMap<String, UsageRecord> = BTreeMap::new();
        for place in 0..random.gen_range(1..6) {
            let month = if random.gen_range(0..4) == 0 {
                before
            } else {
                this
            };
            let at = somewhen(&mut random, month).min(now.0);
            let meter = ["agent_minutes", "messages", "unpriced"][random.gen_range(0..3)];
            let id = format!("{}-{step}-{place}", random.gen_range(0..1_000));
            let record = metered.record(&id, meter, random.gen_range(0..5_000), at);
            batch.insert(id, record);
        }
        let again = random.gen_range(0..kept.len().max(1));
        batch.extend(
            kept.iter()
                .nth(again)
                .map(|(id, record)| (id.clone(), record.clone())),
        );
        let new: Vec<_> = batch
            .iter()
            .filter(|(id, _)| !kept.contains_key(*id))
            .collect();
        let is_closed = |record: &UsageRecord| Month::of(record.at).closes_at() <= now;
        let closed = new.iter().filter(|(_, record)| is_closed(record)).count();
        let sent: Vec<_> = batch.values().rev().cloned().collect();
        match metered.send(&clocked.service, &owner, sent).await {
            Ok(accepted) => {
                assert_eq!(
                    (accepted, closed),
                    (new.len() as u64, 0),
                    "at {}",
                    now.to_rfc3339()
                );
                repeated += batch.len() - new.len();
                late += new
                    .iter()
                    .filter(|(_, of)| Month::of(of.at) == before)
                    .count();
                kept.extend(batch);
            }
            Err(ServiceError::MonthClosed { records }) => {
                assert_eq!(records.len(), closed, "at {}", now.to_rfc3339());
                refused += closed;
            }
            Err(error) => panic!("{error}"),
        }
        clocked
            .source
            .pass(Duration::from_secs(60 * random.gen_range(1..1_300)));
        if random.gen_range(0..3) == 0 {
            clocked.service.do_what_is_due().await.expect("due work");
        }
    }
    assert!(
        repeated > 50 && late > 5 && refused > 50,
        "{repeated} {late} {refused}"
    );
    clocked.service.do_what_is_due().await.expect("due work");
    let now = clocked.source.now();
    let used: BTreeSet<_> = kept.values().map(|record| Month::of(record.at)).collect();
    let due = used.iter().filter(|month| month.closes_at() <= now).count();
    assert!(due > 4, "{due} months were closed");
    assert_eq!(recomputed(&*clocked.rows).await, due);
    for month in used {
        let there = records(
            &*clocked.rows,
            &owner.workspace.to_string(),
            &month.to_string(),
        )
        .await;
        let said = kept.values().filter(|record| Month::of(record.at) == month);
        let mut said: Vec<_> = said.cloned().collect();
        said.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(there, said, "{month}");
    }
    clocked.holds().await;
}

/// Batches that are under way while their month is closed, by two services on PostgreSQL: each is
/// in the statement, or was refused.
async fn ends(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let owner = clocked.owner().await;
    let metered = Metered::on(&clocked, &owner).await;
    let mut services = vec![clocked.service.clone()];
    if clocked.store.kind() == StoreKind::Postgres {
        let root = RootKey::from_text(ROOT_KEY).expect("the tests' root key");
        let (opened, source) = (open_store(&clocked.store).await, clocked.source.clone());
        let another = Service::start(opened, source, &root, ServiceSettings::default()).await;
        services.push(another.expect("another service to start"));
    }
    let month = Month::of(clocked.source.now());
    // Every look at the clock moves it a microsecond.
    clocked
        .source
        .not_before(Timestamp(month.closes_at().0 - 400));
    let senders = (0..8_u64).map(|sender| {
        let service = &services[usize::try_from(sender).expect("few") % services.len()];
        let (metered, owner) = (&metered, &owner);
        async move {
            let (mut accepted, mut refused) = (0, 0);
            for batch in 0..40 {
                let records = (0..5).map(|place| {
                    // Half of them are also another sender's.
                    let id = format!("{}-{batch}-{place}", sender / 2 * (place % 2) + sender % 2);
                    metered.record(id, "messages", batch * 5 + place, month.start().0)
                });
                match metered.send(service, owner, records.collect()).await {
                    Ok(new) => accepted += new,
                    Err(ServiceError::MonthClosed { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (accepted, refused)
        }
    });
    let closers = services.iter().map(|service| async {
        for _ in 0..60 {
            service.do_what_is_due().await.expect("due work");
            tokio::task::yield_now().await;
        }
    });
    let (answers, _) = tokio::join!(join_all(senders), join_all(closers));
    clocked.source.pass(Duration::from_secs(1));
    services[0].do_what_is_due().await.expect("due work");
    let accepted: u64 = answers.iter().map(|(accepted, _)| accepted).sum();
    let refused: u64 = answers.iter().map(|(_, refused)| refused).sum();
    assert!(
        accepted > 0 && refused > 0,
        "{accepted} records, {refused} batches"
    );
    let rows = &*clocked.rows;
    let kept = records(rows, &owner.workspace.to_string(), &month.to_string()).await;
    assert_eq!(kept.len() as u64, accepted);
    assert_eq!(recomputed(rows).await, 1);
    for service in services.drain(1..) {
        assert!(
            service.stop(Duration::from_secs(10)).await,
            "everything is written"
        );
    }
    drop(services);
    clocked.holds().await;
}

/// Neither a sum nor the number of meters grows beyond what a statement keeps exactly, whoever
/// races.
async fn too_much(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let owner = clocked.owner().await;
    let metered = Metered::on(&clocked, &owner).await;
    let service: &Arc<Service> = &clocked.service;
    let at = clocked.source.now().0;
    let is_refused = |result: &Result<u64, ServiceError>| match result {
        Ok(accepted) => {
            assert_eq!(*accepted, 1);
            false
        }
        Err(ServiceError::InvalidValue { pointer, .. }) => {
            assert_eq!(*pointer, "/records");
            true
        }
        Err(error) => panic!("{error}"),
    };
    // Each alone would fit; only two of them do together.
    let sent = (0..8).map(|id| {
        let record = metered.record(format!("large {id}"), "messages", 400_000_000_000, at);
        metered.send(service, &owner, vec![record])
    });
    let answers = join_all(sent).await;
    assert_eq!(
        answers.iter().filter(|answer| is_refused(answer)).count(),
        6
    );
    let sent = (0..110).map(|id| {
        let record = metered.record(format!("meter {id}"), &format!("meter_{id}"), 1, at);
        metered.send(service, &owner, vec![record])
    });
    let answers = join_all(sent).await;
    assert_eq!(
        answers.iter().filter(|answer| is_refused(answer)).count(),
        11
    );
    clocked.source.pass(Duration::from_secs(40 * 86_400));
    service.do_what_is_due().await.expect("due work");
    assert_eq!(recomputed(&*clocked.rows).await, 1);
    clocked.holds().await;
}

/// No question about usage reads more than it tells: many workspaces, and one of many records.
async fn planned(store: StoreUnderTest) {
    let opened = open_store(&store).await;
    let numbers = match store.kind() {
        StoreKind::Sqlite => {
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000)"
        }
        StoreKind::Postgres => "WITH numbers (n) AS (SELECT generate_series(1, 20000))",
    };
    let of_one = format!(
        "{numbers} INSERT INTO usage_records (workspace, id, month, crew, meter, quantity, at)
         SELECT 'ws_one', 'r' || n, '2026-01', 'crw_' || (n % 10), 'm' || (n % 3), n, n FROM numbers"
    );
    let of_many = format!(
        "{numbers} INSERT INTO usage_records (workspace, id, month, crew, meter, quantity, at)
         SELECT 'ws_' || (n % 5000), 'r' || n, '2026-01', 'crw', 'm', n, n FROM numbers"
    );
    let months = "INSERT INTO usage_months (workspace, month, organization, closes_at, stated_at)
                  SELECT DISTINCT workspace, month, 'org_' || SUBSTR(workspace, 4, 3), 1, 1
                    FROM usage_records";
    let all = [of_one, of_many, months.to_owned(), "ANALYZE".to_owned()];
    for statement in all {
        let statement = crewlog::journal::stores::Statement::new(statement, []);
        opened.execute(vec![statement]).await.expect("rows");
    }
    for (what, sql, parameters) in crewlog::service::usage_reads() {
        let plan = crewlog::journal::stores::plan(&*opened, &sql, parameters).await;
        let plan = plan.expect("a plan").join("\n");
        assert!(plan.contains("usage_"), "{what}: {plan}");
        let whole = ["Seq Scan", "SCAN usage", "SCAN t\n"];
        let reads_all = whole.iter().any(|scan| plan.contains(scan));
        assert!(!reads_all, "{what}: {plan}");
    }
    opened.close().await;
}
