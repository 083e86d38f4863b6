//! Campaigns against a model: several reviewers decide at random while the team changes underneath,
//! campaigns time out, are closed twice, and recur. Whatever happens, each decision is carried out
//! once or shown again, and nobody reviews themselves.
//!
//! The model knows what each reviewer looked at, as the rows of the log have it, and none of the
//! program's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crewlog::domain::Refusal;
use crewlog::domain::api_keys::KeyScope;
use crewlog::domain::authority::Role;
use crewlog::domain::environment::Environment;
use crewlog::domain::ids::{KeyId, PrincipalId, ReviewId, UserId};
use crewlog::domain::review::{Decision, ReviewStatus, Undecided};
use crewlog::journal::stores::Store;
use crewlog::service::{
    Caller, ItemDecision, ItemStatus, NewKey, NewReview, Principal, ReviewItemView, ServiceError,
};
use serde_json::Value;

use super::time::{DAY, joined, new_review, open, shown};
use crate::edge::time::{Clocked, Owned, name, request};
use crate::support::trials::{Case, StoreUnderTest, both};

const CAMPAIGNS: usize = 6;
const STEPS: usize = 40;

pub fn trials() -> Vec<Case> {
    vec![both("edge", "reviews_hold_while_the_team_changes", holds)]
}

struct World {
    clocked: Clocked,
    owner: Owned,
    /// The owner, admins who come and go, and everybody else.
    people: Vec<Caller>,
    keys: Vec<KeyId>,
    /// What happened, so that the model is not right for want of anything to be wrong about.
    seen: BTreeMap<&'static str, usize>,
}

impl World {
    fn below(&self, bound: usize) -> usize {
        self.clocked.source.below(bound)
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn somebody(&self) -> Caller {
        self.people[self.below(self.people.len())].clone()
    }

    async fn items(&self, id: ReviewId) -> Vec<ReviewItemView> {
        let (service, reader) = (&self.clocked.service, Principal::from(&self.owner.caller));
        let of = (None, 200);
        let asked = &request();
        let items = service.review_items(asked, &reader, self.owner.workspace, id, of);
        let (_, page) = items.await.expect("items");
        page.items.into_iter().map(|(_, item)| item).collect()
    }

    /// The team changes, whoever does it and whether or not they may.
    async fn change(&mut self) {
        let (by, about) = (self.somebody(), self.somebody());
        let roles = [Role::Viewer, Role::Member, Role::Admin];
        let (role, what) = (roles[self.below(3)], self.below(8));
        let key = self.keys[self.below(self.keys.len())];
        let (service, workspace) = (&self.clocked.service, self.owner.workspace);
        match what {
            0 => drop(
                service
                    .remove_member(&request(), &by, workspace, about.user)
                    .await,
            ),
            1 | 2 => drop(
                service
                    .change_role(
                        &request(),
                        &self.owner.caller,
                        workspace,
                        about.user,
                        role,
                        None,
                    )
                    .await,
            ),
            3 => {
                let turned = service
                    .rotate_api_key(&request(), &by, workspace, key, 3_600)
                    .await;
                let turned = turned.ok().map(|turned| turned.value.key.id);
                self.keys.extend(turned);
            }
            4 => drop(
                service
                    .revoke_api_key(&request(), &by, workspace, key)
                    .await,
            ),
            5 => {
                let maker = match by.user == self.owner.caller.user {
                    true => self.owner.caller.clone(),
                    false => by,
                };
                if let Some(key) = made_key(&self.clocked, &self.owner, &maker).await {
                    self.keys.push(key);
                }
            }
            _ => {
                let newcomer = joined(&self.clocked, &self.owner, role).await;
                self.people.push(newcomer);
            }
        }
    }
}

async fn made_key(clocked: &Clocked, owner: &Owned, by: &Caller) -> Option<KeyId> {
    let new = NewKey {
        name: name("A key"),
        scopes: BTreeSet::from([KeyScope::AuditRead]),
        crews: None,
        expires_at: None,
        allowed_cidrs: vec![],
    };
    let production = Environment::Production;
    let asked = &request();
    let made = clocked
        .service
        .create_api_key(asked, by, owner.workspace, production, new);
    made.await.ok().map(|made| made.value.key.id)
}

/// Whom access is, or counts as, by the rows of the log alone: of a key, everybody who made,
/// changed or rotated it or one that it came in the place of.
async fn counts_as(rows: &dyn Store, item: PrincipalId) -> BTreeSet<String> {
    let key = match item {
        PrincipalId::User(user) => return BTreeSet::from([user.to_string()]),
        PrincipalId::Key(key) => key.to_string(),
    };
    let sql = "SELECT CAST(payload AS TEXT) FROM events
                WHERE event_type LIKE 'api_key_%' ORDER BY position";
    let found = rows.query(sql, vec![]).await.expect("the log");
    let mut people: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in found {
        let event: Value = serde_json::from_str(row.text(0).expect("text")).expect("JSON");
        let (_, body) = event
            .as_object()
            .and_then(|event| event.iter().next())
            .expect("an event");
        let mut own = people.get(text(&body["key"])).cloned().unwrap_or_default();
        if let Some(before) = body["rotated_from"].as_str() {
            own.extend(people.get(before).cloned().unwrap_or_default());
        }
        for who in ["created_by", "updated_by", "rotated_by"] {
            own.extend(body[who].as_str().map(str::to_owned));
        }
        people.insert(text(&body["key"]).to_owned(), own);
    }
    people.remove(&key).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// What a reviewer looked at, and said of it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Looked {
    decision: Decision,
    seen_at: u64,
}

async fn holds(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let owner = clocked.owner().await;
    let mut people = vec![owner.caller.clone()];
    for role in [Role::Admin, Role::Admin, Role::Member, Role::Viewer] {
        people.push(joined(&clocked, &owner, role).await);
    }
    let mut keys = Vec::new();
    for by in [&people[0], &people[1], &people[2]] {
        keys.extend(made_key(&clocked, &owner, by).await);
    }
    let mut world = World {
        clocked,
        owner,
        people,
        keys,
        seen: BTreeMap::new(),
    };
    for campaign in 0..CAMPAIGNS {
        run(&mut world, campaign).await;
    }
    for what in [
        "decided",
        "own",
        "changed",
        "not a reviewer",
        "applied",
        "returned",
        "timed out",
    ] {
        assert!(
            world.seen.get(what).is_some_and(|times| *times > 0),
            "{what}: {:?}",
            world.seen
        );
    }
    world.clocked.holds().await;
}

async fn run(world: &mut World, campaign: usize) {
    let mut reviewers = BTreeSet::from([world.owner.caller.user]);
    for person in world.people.clone() {
        let (service, owner) = (&world.clocked.service, &world.owner);
        let who = PrincipalId::User(person.user);
        let action = "access_review.run";
        let asked = &request();
        let may = service.can(asked, &owner.caller, owner.workspace, who, action, None);
        if may.await.expect("a verdict").value.allowed {
            reviewers.insert(person.user);
        }
    }
    let reviewers: Vec<UserId> = reviewers.into_iter().take(4).collect();
    let new = NewReview {
        undecided: match campaign % 3 {
            2 => Undecided::Revoke,
            _ => Undecided::Keep,
        },
        ..new_review(&world.clocked, 2, &reviewers)
    };
    let id = open(&world.clocked, &world.owner, new).await;
    let mut looked: BTreeMap<PrincipalId, Looked> = BTreeMap::new();
    for _ in 0..STEPS {
        match world.below(3) {
            0 => world.change().await,
            _ => decide(world, id, &mut looked).await,
        }
    }
    if campaign.is_multiple_of(2) {
        // Often something changes that was decided about already.
        for _ in 0..world.below(3) {
            move_decided(world, &looked).await;
        }
        close(world, id, &mut looked).await;
    }
    while shown(&world.clocked, &world.owner, id).await.status != ReviewStatus::Closed {
        // Time closes what nobody did.
        world.clocked.source.pass(2 * DAY + Duration::from_secs(1));
        let service = &world.clocked.service;
        let (one, two) = tokio::join!(service.do_what_is_due(), service.do_what_is_due());
        one.expect("due work");
        two.expect("due work");
        world.note("timed out");
    }
    settled(world, id, &looked).await;
}

/// Somebody decides about something, having looked at it now, or a while ago, or not at all.
async fn decide(world: &mut World, id: ReviewId, looked: &mut BTreeMap<PrincipalId, Looked>) {
    let items = world.items(id).await;
    let item = &items[world.below(items.len())];
    let by = world.somebody();
    let decision = match (world.below(3), item.id()) {
        (0, _) => Decision::Keep,
        (1, PrincipalId::User(_)) => Decision::Change { role: Role::Viewer },
        _ => Decision::Revoke,
    };
    let seen_at = item.seen_at.filter(|_| world.below(3) > 0);
    if world.below(4) == 0 {
        world.change().await;
    }
    let asked = ItemDecision {
        item: item.id(),
        decision,
        reason: "By chance".to_owned(),
        seen_at,
    };
    let workspace = world.owner.workspace;
    let service = &world.clocked.service;
    let answer = service
        .decide_access(&request(), &by, workspace, id, vec![asked])
        .await;
    let counts_as = counts_as(&*world.clocked.rows, item.id()).await;
    let is_own = counts_as.contains(&by.user.to_string());
    match answer {
        Ok(_) => {
            assert!(!is_own, "{} decided about {}", by.user, item.id());
            world.note("decided");
            let after = world.items(id).await;
            let after = after
                .iter()
                .find(|other| other.id() == item.id())
                .expect("the item");
            let seen_at = after.seen_at.expect("it is there");
            assert_eq!(after.status, ItemStatus::Decided);
            looked.insert(item.id(), Looked { decision, seen_at });
        }
        Err(ServiceError::Refused(Refusal::SelfReview { .. })) => world.note("own"),
        Err(ServiceError::Refused(Refusal::AccessChanged { .. })) => world.note("changed"),
        Err(ServiceError::Refused(Refusal::NotReviewer)) => world.note("not a reviewer"),
        Err(ServiceError::Refused(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Somebody who was decided about gets another role.
async fn move_decided(world: &mut World, looked: &BTreeMap<PrincipalId, Looked>) {
    for item in looked.keys() {
        let PrincipalId::User(user) = item else {
            continue;
        };
        for role in [Role::Member, Role::Admin] {
            let (service, owner) = (&world.clocked.service, &world.owner);
            let asked = &request();
            let moved =
                service.change_role(asked, &owner.caller, owner.workspace, *user, role, None);
            drop(moved.await);
        }
        return;
    }
}

/// Closes it, twice at once; what comes back must have changed since somebody looked at it.
async fn close(world: &mut World, id: ReviewId, looked: &mut BTreeMap<PrincipalId, Looked>) {
    let before = world.items(id).await;
    let caller = world.owner.caller.clone();
    let (service, workspace) = (&world.clocked.service, world.owner.workspace);
    let (asked, other) = (request(), request());
    let once = service.close_review(&asked, &caller, workspace, id, false);
    let again = service.close_review(&other, &caller, workspace, id, false);
    let (once, again) = tokio::join!(once, again);
    once.expect("it is closed");
    again.expect("twice is once");
    let document = shown(&world.clocked, &world.owner, id).await;
    match document.status {
        ReviewStatus::Open => world.note("returned"),
        ReviewStatus::Closed => world.note("closed"),
        ReviewStatus::Closing => panic!("nothing is left to be done"),
    }
    for item in world.items(id).await {
        let was = before
            .iter()
            .find(|other| other.id() == item.id())
            .expect("the item");
        let is_back = item.decided.is_none() && was.decided.is_some();
        if is_back {
            let seen = looked.remove(&item.id()).expect("somebody had decided");
            assert_ne!(
                was.seen_at,
                Some(seen.seen_at),
                "{} did not change",
                item.id()
            );
            assert_eq!(item.outcome, None);
        }
    }
}

/// Every decision was carried out once, or says why not; access that changed was not touched.
async fn settled(world: &mut World, id: ReviewId, looked: &BTreeMap<PrincipalId, Looked>) {
    let document = shown(&world.clocked, &world.owner, id).await;
    let sql = "SELECT position, CAST(payload AS TEXT) FROM events
                WHERE aggregate_type = 'review' AND aggregate_id = $1 AND event_type = 'access_settled'";
    let rows = world
        .clocked
        .rows
        .query(sql, vec![id.to_string().into()])
        .await
        .expect("rows");
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        let event: Value = serde_json::from_str(row.text(1).expect("text")).expect("JSON");
        let item = text(&event["access_settled"]["item"]).to_owned();
        if event["access_settled"]["outcome"] == "applied" {
            *times.entry(item).or_default() += 1;
            world.note("applied");
        }
    }
    let links = carried_out(&*world.clocked.rows, id).await;
    for item in world.items(id).await {
        let (id, key) = (item.id(), item.id().to_string());
        let outcome = item.outcome.expect("it is over");
        let carried = times.get(&key).copied().unwrap_or(0);
        assert!(carried <= 1, "{key} was carried out {carried} times");
        assert_eq!(
            outcome.name == "applied",
            carried == 1,
            "{key}: {outcome:?}"
        );
        match looked.get(&id) {
            Some(seen) => {
                assert_eq!(outcome.decision, seen.decision, "{key}");
                let kept = seen.decision == Decision::Keep;
                assert!(!kept || carried == 0, "{key} was to be kept");
                assert!(kept || outcome.name != "kept", "{key} was not lost");
                assert_eq!(
                    item.decided.map(|decided| decided.decision),
                    Some(seen.decision)
                );
            }
            None => {
                let rule = document.terms.undecided;
                assert!(item.decided.is_none(), "{key}");
                assert_eq!(
                    rule == Undecided::Keep,
                    outcome.name == "kept",
                    "{key}: {outcome:?}"
                );
            }
        }
    }
    for about in links.keys() {
        let is_item = !about.starts_with("usr_") || times.contains_key(about);
        assert!(is_item, "{about} was touched, and not carried out");
    }
    for item in world.items(id).await {
        let key = item.id().to_string();
        let outcome = item.outcome.expect("it is over");
        if outcome.name == "applied"
            && outcome.decision == Decision::Revoke
            && key.starts_with("usr_")
        {
            assert_eq!(links.get(&key), Some(&1), "{key}: by one ordinary entry");
        }
    }
}

/// The people and keys that ordinary entries are about which point to the campaign, and how many.
async fn carried_out(rows: &dyn Store, id: ReviewId) -> BTreeMap<String, usize> {
    let sql = "SELECT CAST(payload AS TEXT), CAST(metadata AS TEXT) FROM events
                WHERE aggregate_type = 'workspace' ORDER BY position";
    let found = rows.query(sql, vec![]).await.expect("the log");
    let mut about: BTreeMap<String, usize> = BTreeMap::new();
    for row in found {
        let json = |column| -> Value {
            serde_json::from_str(row.text(column).expect("text")).expect("JSON")
        };
        let metadata = json(1);
        let links = metadata["authority"].as_array();
        if links
            .into_iter()
            .flatten()
            .any(|link| link["type"] == "access_review" && link["id"] == id.to_string())
        {
            let event = json(0);
            let (_, body) = event
                .as_object()
                .and_then(|event| event.iter().next())
                .expect("an event");
            let whose = body["user"]
                .as_str()
                .or(body["key"].as_str())
                .expect("somebody");
            *about.entry(whose.to_owned()).or_default() += 1;
        }
    }
    about
}
