//! The past is a query: every state resource as of a position is what it answered when that
//! position was the head.
//!
//! A history is made at random, through every route that writes. On its way every `GET` of the
//! OpenAPI document is asked and its answer kept; at the end each is asked again as of the position
//! and the time of then. A `GET` that is no state has its reason in [`NO_STATE`].
//!
//! A new route that reads state has nothing to do here; one that does not needs its reason.

use std::collections::{BTreeMap, BTreeSet};

use crewlog::journal::{Source, SystemSource};
use serde_json::{Value, json};

use super::Running;
use super::routes::{Answer, Ask, ROUTES, Route, World, problem};
use super::team::{Person, Who};
use crate::support::server::Reply;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "the_past_is_what_was_answered_then", walk),
        both(
            "edge",
            "the_past_is_read_with_the_authority_of_now",
            authority,
        ),
        both("edge", "a_moment_that_cannot_be_is_refused", refused),
    ]
}

/// Every `GET` that has no past, and why.
const NO_STATE: &[(&str, &str)] = &[
    ("/v1/plans", "the catalogue is a file of the operator's"),
    (
        "/v1/workspaces/{ws}/crews/{crew}/activity",
        "what a crew did lies beside the log, and is kept for a while only",
    ),
    (
        "/v1/workspaces/{ws}/audit",
        "the log itself: `before` says up to where",
    ),
    (
        "/v1/workspaces/{ws}/audit/{position}",
        "an entry never changes",
    ),
    (
        "/v1/workspaces/{ws}/audit/export",
        "the log itself: `before` says up to where",
    ),
    (
        "/v1/organizations/{org}/audit",
        "the log itself: `before` says up to where",
    ),
    (
        "/v1/organizations/{org}/audit/{position}",
        "an entry never changes",
    ),
    (
        "/v1/organizations/{org}/audit/export",
        "the log itself: `before` says up to where",
    ),
    (
        "/v1/workspaces/{ws}/audit/stream",
        "the log itself, from a position on",
    ),
    (
        "/v1/organizations/{org}/audit/stream",
        "the log itself, from a position on",
    ),
    (
        "/v1/workspaces/{ws}/usage",
        "records of usage lie beside the log; a closed month is a statement",
    ),
    (
        "/v1/organizations/{org}/usage",
        "records of usage lie beside the log; a closed month is a statement",
    ),
    (
        "/v1/workspaces/{ws}/access/diff",
        "it compares two moments: `from` and `to`",
    ),
    (
        "/v1/workspaces/{ws}/access-reviews/{review}",
        "access as it was at the pin beside access as it is now",
    ),
    (
        "/v1/workspaces/{ws}/access-reviews/{review}/report",
        "signed over the newest checkpoint",
    ),
    ("/v1/log/checkpoint", "`size` says of which tree"),
    (
        "/v1/log/keys",
        "the verifiers of all checkpoints that there are",
    ),
    ("/v1/log/tile/{tile}", "its path says of which tree"),
    ("/v1/log/proof/inclusion", "`size` says of which tree"),
    (
        "/v1/log/proof/consistency",
        "`from` and `to` say of which trees",
    ),
    ("/healthz", "about the server"),
    ("/readyz", "about the server"),
    ("/metrics", "about the server"),
    ("/version", "about the server"),
    ("/openapi.json", "about the server"),
    ("/problems/{code}", "a page of the documentation"),
];

/// A report that is an entry of the log itself, so that no two answers have one position: its past
/// is compared in [`super::access`].
const REPORT: &str = "/v1/workspaces/{ws}/access";

/// Writes that would take from whoever asks what they may see.
const NOT_MADE: &[(&str, &str)] = &[
    ("DELETE", "/v1/workspaces/{ws}"),
    ("DELETE", "/v1/sessions/{id}"),
    ("POST", "/v1/me/password"),
    ("POST", "/v1/workspaces/{ws}/transfer-ownership"),
];

/// How often every write is made.
const ROUNDS: usize = 2;
/// Writes between two looks.
const WRITES_BETWEEN: usize = 4;
/// Answers that are kept of one look.
const LOOKED_AT: usize = 14;

/// Numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("a small number")
    }

    fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
        items
    }
}

/// A path that is watched, as whom, and which route it is of.
struct Watched {
    route: &'static Route,
    who: Who,
    path: String,
}

/// What was answered.
struct Kept {
    who: Who,
    path: String,
    position: u64,
    time: String,
    reply: Reply,
}

async fn walk(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let seed = SystemSource.now().0.unsigned_abs();
    eprintln!("the history is made from seed {seed}");
    let mut random = Random(seed);
    let mut watched = watched(&world).await;
    let mut kept = Vec::new();
    for _ in 0..ROUNDS {
        let writes = ROUTES.iter().filter(|route| is_made(route)).collect();
        for (number, route) in random.shuffled(writes).into_iter().enumerate() {
            write(&world, route, &watched, &mut random).await;
            if number % WRITES_BETWEEN == 0 {
                watched = random.shuffled(watched);
                look(&world, &watched[..LOOKED_AT], &mut kept).await;
            }
        }
    }
    look(&world, &watched, &mut kept).await;
    let head = kept
        .iter()
        .map(|kept| kept.position)
        .max()
        .expect("answers");
    for kept in &kept {
        as_then(&world, kept).await;
    }
    before_and_between(&world, &watched, head, &mut random).await;
    super::held(&store);
}

/// Whether a history has the write of a route.
fn is_made(route: &Route) -> bool {
    route.writes() && !route.is_open() && !NOT_MADE.contains(&(route.method, route.path))
}

/// Every `GET` of the document that reads state, with something that it reads.
async fn watched(world: &World) -> Vec<Watched> {
    let document = world.server.get("/openapi.json").await.expect(200).body;
    let paths = document["paths"].as_object().expect("paths");
    let reasons: BTreeMap<_, _> = NO_STATE.iter().copied().collect();
    let mut unused: BTreeSet<_> = reasons.keys().copied().collect();
    let mut watched = Vec::new();
    for (path, item) in paths {
        let Some(parameters) = item.get("get").map(|get| &get["parameters"]) else {
            continue;
        };
        let parameters = parameters.as_array().map_or(&[][..], Vec::as_slice);
        let as_of = |parameter: &Value| parameter["name"] == "as_of" && parameter["in"] == "query";
        let has_past = parameters.iter().any(as_of);
        unused.remove(path.as_str());
        let reason = reasons.get(path.as_str());
        assert_eq!(
            has_past,
            reason.is_none(),
            "{path} reads state and has no `as_of`, or its reason is stale: {reason:?}"
        );
        if !has_past || path == REPORT {
            continue;
        }
        let route = ROUTES
            .iter()
            .find(|route| route.method == "GET" && route.path == path);
        let route = route.unwrap_or_else(|| panic!("{path} has no row in ROUTES"));
        let who = world.entitled(route);
        let caller = world.team.person(who).expect("a person");
        let Ask { path, .. } = world.fresh(route, caller).await;
        watched.push(Watched { route, who, path });
    }
    assert_eq!(unused, BTreeSet::new(), "these are in no document any more");
    assert!(watched.len() > 35, "{} are few", watched.len());
    watched
}

/// Makes a write; where it changes a resource of a kind that is watched, half of the time that one.
async fn write(world: &World, route: &Route, watched: &[Watched], random: &mut Random) {
    let caller = world.team.person(world.entitled(route)).expect("a person");
    let ask = world.fresh(route, caller).await;
    let same = watched
        .iter()
        .find(|watched| watched.route.path == route.path && route.method != "POST");
    let ask = match same {
        Some(watched) if random.below(2) == 0 => ask.at(watched.path.clone()),
        Some(_) | None => ask,
    };
    let reply = world.send(&ask).bearer(&caller.token).await;
    // What is watched may be gone by now, or not be what this write is for.
    let is_answer = reply.status < 300 || [404, 409].contains(&reply.status);
    assert!(is_answer, "{}: {}", route.name(), reply.text);
}

/// Asks, and keeps what was answered while the head stood still.
async fn look(world: &World, watched: &[Watched], kept: &mut Vec<Kept>) {
    for Watched { route, who, path } in watched {
        let mut paths = vec![path.clone()];
        if matches!(route.answer, Answer::Page(_)) {
            paths.push(with(path, "limit=2"));
        }
        for path in paths {
            let before = head(world).await;
            let reply = asked(world, *who, &path).await;
            let time = SystemSource.now().to_rfc3339();
            if before == head(world).await {
                kept.push(Kept {
                    who: *who,
                    path,
                    position: before,
                    time,
                    reply,
                });
            }
        }
    }
}

fn with(path: &str, parameter: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}{parameter}")
}

async fn asked(world: &World, who: Who, path: &str) -> Reply {
    let caller = world.team.person(who).expect("a person");
    world.server.get(path).bearer(&caller.token).await
}

/// The position of the head, told by an answer about somebody who asks for nothing else.
async fn head(world: &World) -> u64 {
    let ready = world.server.get("/readyz").await.expect(200);
    ready.body["position"].as_u64().expect("a position")
}

/// That an answer is the same as of then, by position and by time.
async fn as_then(world: &World, kept: &Kept) {
    for moment in [kept.position.to_string(), kept.time.clone()] {
        let path = with(&kept.path, &format!("as_of={moment}"));
        let then = asked(world, kept.who, &path).await;
        let (was, is) = (comparable(&kept.reply), comparable(&then));
        assert_eq!(is, was, "{path}");
        if then.status == 200 {
            let position = then.header("crewlog-position");
            assert_eq!(position, Some(&*kept.position.to_string()), "{path}");
        }
    }
}

/// What is compared of an answer: not the last uses of keys, which are kept beside the log.
fn comparable(reply: &Reply) -> (u16, Option<&str>, Value) {
    fn without_uses(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.remove("last_used_at");
                members.remove("request_id");
                members.values_mut().for_each(without_uses);
            }
            Value::Array(items) => items.iter_mut().for_each(without_uses),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut body = match &reply.body {
        Value::Null => json!(reply.text),
        body => body.clone(),
    };
    without_uses(&mut body);
    (reply.status, reply.header("etag"), body)
}

/// Also between looks every resource has a past, and none before the first entry.
async fn before_and_between(world: &World, watched: &[Watched], head: u64, random: &mut Random) {
    for Watched { route, who, path } in watched {
        let position = 1 + random.next() % head;
        let then = asked(world, *who, &with(path, &format!("as_of={position}"))).await;
        assert!([200, 404].contains(&then.status), "{path}: {}", then.text);
        if then.status == 200 {
            let said = then.header("crewlog-position");
            assert_eq!(said, Some(&*position.to_string()), "{path}");
        }
        let never = asked(world, *who, &with(path, "as_of=0")).await;
        match (route.answer, route.path) {
            (Answer::Page(_), "/v1/sessions" | "/v1/organizations" | "/v1/workspaces") => {
                assert_eq!(never.expect(200).body["data"], json!([]), "{path}");
            }
            _ => assert_eq!(never.status, 404, "{path}: {}", never.text),
        }
    }
}

async fn authority(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let team = &world.team;
    let guest = team.joined(&world.server, "member").await;
    let (path, crews) = (team.path(""), team.path("/crews"));
    let there = head(&world).await;
    let then = format!("as_of={there}");
    let reads = async |person: &Person, path: &str| {
        let call = world.server.get(&with(path, &then));
        call.bearer(&person.token).await
    };
    reads(&guest, &crews).await.expect(200);
    let of_guest = reads(&guest, "/v1/workspaces").await.expect(200).body;
    assert_eq!(of_guest["data"][0]["id"], json!(team.workspace));

    // Whoever may not read now does not read what they could have read then.
    let member = team.path(&format!("/members/{}", guest.user));
    let call = world.server.delete(&member).bearer(&team.owner.token);
    call.await.expect(204);
    for path in [&path, &crews, &member] {
        problem(&reads(&guest, path).await, 404, "not_found");
    }
    let of_guest = reads(&guest, "/v1/workspaces").await.expect(200).body;
    assert_eq!(of_guest["data"], json!([]));
    let me = reads(&guest, "/v1/me").await.expect(200).body;
    assert_eq!(me["memberships"], json!([]));

    // And who may now, reads what was before they could.
    let late = team.joined(&world.server, "viewer").await;
    let members = team.path("/members?limit=200");
    let members = reads(&late, &members).await.expect(200).body;
    let users: Vec<_> = members["data"]
        .as_array()
        .expect("members")
        .iter()
        .collect();
    let has = |person: &Person| {
        users
            .iter()
            .any(|member| member["user"] == person.user.as_str())
    };
    assert!(has(&guest), "as it was then");
    assert!(!has(&late), "who came later");

    // A former name is that of then; so is somebody's own.
    let rename = world.server.patch(&path).bearer(&team.owner.token);
    let renamed = rename.json(json!({"name": "Another name"})).await;
    renamed.expect(200);
    let named = world.server.patch("/v1/me").bearer(&team.owner.token);
    named
        .json(json!({"name": "Called otherwise"}))
        .await
        .expect(200);
    let was = reads(&late, &path).await.expect(200).body;
    assert_ne!(was["name"], "Another name");
    let owner = team.path(&format!("/members/{}", team.owner.user));
    let was = reads(&late, &owner).await.expect(200).body;
    assert_eq!(was["name"], team.owner.name.as_str());
    super::held(&store);
}

async fn refused(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let path = world.team.path("/crews");
    let owner = &world.team.owner.token;
    for moment in [
        "99999999",
        "9223372036854775807",
        "9223372036854775808",
        "9999-01-01T00:00:00Z",
        "2026-11-24",
        "yesterday",
        "-1",
        "1.5",
        "",
        "1&as_of=2",
    ] {
        let call = world.server.get(&with(&path, &format!("as_of={moment}")));
        let reply = call.bearer(owner).await;
        problem(&reply, 400, "invalid_request");
        assert!(reply.text.contains("as_of"), "{moment}: {}", reply.text);
    }
    // What is no state has no past.
    let plans = world.server.get("/v1/plans?as_of=1").await;
    problem(&plans, 400, "invalid_request");
    let audit = world
        .server
        .get(&with(&world.team.path("/audit"), "as_of=1"));
    problem(&audit.bearer(owner).await, 400, "invalid_request");
    super::held(&store);
}
