//! What every route answers when it succeeds: status, headers, shape, conditions, replays.

use std::collections::BTreeSet;
use std::future::IntoFuture;

use serde_json::{Value, json};

use super::Running;
use super::routes::{Answer, Ask, ROUTES, Route, World, problem};
use super::team::{Person, Who, address, grant, invite, number, password, text};
use crate::support::server::Reply;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "every_route_answers_its_shape", shapes),
        both("edge", "a_repeated_request_has_one_effect", replays),
        both("edge", "a_write_may_be_conditional", conditions),
        both("edge", "lists_are_read_page_by_page", pages),
    ]
}

async fn shapes(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let document = world.server.get("/openapi.json").await.expect(200).body;
    for route in ROUTES {
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let ask = world.fresh(route, caller).await;
        let mut call = world
            .send(&ask)
            .header("X-Request-Id", "chosen-by.the_client-1");
        if !route.is_open() {
            call = call.bearer(&caller.token);
        }
        let reply = call.await;
        answered(route, &reply);
        described(&document, route, &reply);
    }
    made_is_where_it_says(&world).await;
    positions_are_waited_for(&world).await;
    super::held(&store);
}

/// That an answer has the status, the headers and exactly the fields of its kind.
fn answered(route: &Route, reply: &Reply) {
    let name = route.name();
    let good = match route.answer {
        Answer::Created(_) => 201,
        Answer::Nothing => 204,
        _ => 200,
    };
    assert_eq!(reply.status, good, "{name}: {}", reply.text);
    let has = |header: &str| reply.header(header).is_some();
    assert_eq!(
        reply.header("x-request-id"),
        Some("chosen-by.the_client-1"),
        "{name}"
    );
    assert!(has("cache-control"), "{name} says how it may be cached");
    assert_eq!(
        reply.header("x-content-type-options"),
        Some("nosniff"),
        "{name}"
    );
    if matches!(route.answer, Answer::Server) {
        return;
    }
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{name}");
    let position: u64 = reply
        .header("crewlog-position")
        .unwrap_or_else(|| panic!("{name} says its position"))
        .parse()
        .expect("a position is a number");
    assert!(position > 0, "{name}");
    assert!(!has("idempotent-replayed"), "{name} is no replay");
    let versioned = matches!(route.answer, Answer::Created(_) | Answer::Resource(_));
    assert_eq!(has("etag"), versioned, "{name}: ETag");
    assert_eq!(
        has("location"),
        matches!(route.answer, Answer::Created(_)),
        "{name}: Location"
    );
    match route.answer {
        Answer::Created(fields) | Answer::Resource(fields) => {
            let mut body = reply.body.clone();
            if route.path == "/v1/invitations/accept" {
                // A newcomer's first session comes with the membership.
                let session = body.as_object_mut().and_then(|body| body.remove("session"));
                assert!(
                    session.is_some_and(|session| session["token"].is_string()),
                    "{name}"
                );
            }
            fields_are(&name, &body, fields);
            let of_resource = body["user"].get("version").unwrap_or(&body["version"]);
            let tag = format!("\"{of_resource}\"");
            assert_eq!(reply.header("etag"), Some(tag.as_str()), "{name}");
        }
        Answer::Unversioned(fields) => fields_are(&name, &reply.body, fields),
        Answer::Page(fields) => {
            fields_are(&name, &reply.body, &["data", "next_cursor"]);
            let data = reply.body["data"].as_array().expect("a list");
            assert!(!data.is_empty(), "{name} has something to show");
            for item in data {
                fields_are(&name, item, fields);
            }
        }
        Answer::Nothing => assert_eq!(reply.text, "", "{name}"),
        Answer::Text => assert!(!reply.text.is_empty(), "{name}"),
        Answer::Server => {}
    }
    well_formed(&name, &reply.body);
}

fn fields_are(name: &str, body: &Value, fields: &[&str]) {
    let object = body.as_object();
    let there: BTreeSet<_> = object
        .into_iter()
        .flat_map(|object| object.keys())
        .collect();
    let wanted: BTreeSet<_> = fields.iter().map(|field| (*field).to_owned()).collect();
    assert_eq!(
        there,
        wanted.iter().collect(),
        "{name} answers these fields: {body}"
    );
}

/// Times are RFC 3339 in UTC with microseconds, references are ids under their plain names.
fn well_formed(name: &str, value: &Value) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let prefix = match member.as_str() {
                    "workspace" => "ws_",
                    "organization" => "org_",
                    "created_by" | "invited_by" => "usr_",
                    "expires_at" | "last_used_at" if value.is_null() => continue,
                    "created_at" | "updated_at" | "expires_at" | "since" | "recorded_at"
                    | "last_used_at" => {
                        let time = value.as_str().unwrap_or_default();
                        let ending = time.get(19..).unwrap_or_default();
                        assert!(
                            time.len() == 27 && ending.starts_with('.') && ending.ends_with('Z'),
                            "{name}: {member} is {time:?}"
                        );
                        continue;
                    }
                    _ => "",
                };
                match value.as_str() {
                    Some(id) => assert!(id.starts_with(prefix), "{name}: {member} is {id:?}"),
                    None => well_formed(name, value),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| well_formed(name, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// That the document describes the answer: the status, every field that is there, and as required
/// no field that is not.
fn described(document: &Value, route: &Route, reply: &Reply) {
    let name = route.name();
    let operation = &document["paths"][route.path][route.method.to_lowercase()];
    let response = &operation["responses"][reply.status.to_string()];
    assert!(
        response.is_object(),
        "{name}: {} is described",
        reply.status
    );
    let content = &response["content"]["application/json"]["schema"];
    if content.is_object() && !reply.body.is_null() && route.path != "/openapi.json" {
        conforms(document, &name, content, &reply.body);
    }
}

fn found<'a>(document: &'a Value, name: &str, reference: &str) -> &'a Value {
    document
        .pointer(reference.trim_start_matches('#'))
        .unwrap_or_else(|| panic!("{name}: {reference} is in the document"))
}

/// A small part of JSON Schema: objects with their members, arrays, references, choices.
fn conforms(document: &Value, name: &str, schema: &Value, value: &Value) {
    if let Some(reference) = schema["$ref"].as_str() {
        return conforms(document, name, found(document, name, reference), value);
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let null = |schema: &&Value| schema["type"] != "null";
            let Some(schema) = choices.iter().find(null) else {
                return;
            };
            if !value.is_null() {
                conforms(document, name, schema, value);
            }
            return;
        }
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let (mut properties, mut required) = (serde_json::Map::new(), Vec::new());
        for part in parts {
            let part = match part["$ref"].as_str() {
                Some(reference) => found(document, name, reference),
                None => part,
            };
            properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
            required.extend(part["required"].as_array().cloned().unwrap_or_default());
        }
        let whole = json!({"type": "object", "properties": properties, "required": required});
        return conforms(document, name, &whole, value);
    }
    match value {
        Value::Object(members) if schema["properties"].is_object() => {
            for (member, value) in members {
                let schema = &schema["properties"][member];
                assert!(!schema.is_null(), "{name}: {member} is in the document");
                conforms(document, name, schema, value);
            }
            for required in schema["required"].as_array().into_iter().flatten() {
                let required = required.as_str().unwrap_or_default();
                assert!(
                    members.contains_key(required),
                    "{name}: {required} is answered"
                );
            }
        }
        Value::Array(items) => {
            for item in items {
                conforms(document, name, &schema["items"], item);
            }
        }
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What was made is found at its `Location`, as new as it was told.
async fn made_is_where_it_says(world: &World) {
    for route in ROUTES {
        if !matches!(route.answer, Answer::Created(_)) {
            continue;
        }
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let ask = world.fresh(route, caller).await;
        let call = world.send(&ask);
        let made = match route.is_open() {
            true => call.await,
            false => call.bearer(&caller.token).await,
        };
        let location = made.header("location").expect("a place").to_owned();
        let position = made
            .header("crewlog-position")
            .expect("a position")
            .to_owned();
        let session = made.body["session"]["token"]
            .as_str()
            .unwrap_or(&caller.token)
            .to_owned();
        if route.path == "/v1/sessions" {
            continue; // It can be ended there, but not be read.
        }
        let read = world
            .server
            .get(&location)
            .bearer(&session)
            .header("Crewlog-Position", &position)
            .await
            .expect(200);
        let read_at: u64 = read
            .header("crewlog-position")
            .expect("a position")
            .parse()
            .expect("a number");
        assert!(
            read_at >= position.parse().expect("a number"),
            "{}",
            route.name()
        );
        assert_eq!(read.header("etag"), made.header("etag"), "{}", route.name());
        let made = made
            .body
            .get("user")
            .filter(|user| user.is_object())
            .unwrap_or(&made.body);
        for (member, value) in read.body.as_object().expect("a resource") {
            assert_eq!(&made[member], value, "{}: {member}", route.name());
        }
    }
}

async fn positions_are_waited_for(world: &World) {
    let owner = &world.team.owner;
    let me = |position: &str| {
        let call = world.server.get("/v1/me").bearer(&owner.token);
        call.header("Crewlog-Position", position)
    };
    problem(&me("999999999").await, 503, "position_not_reached");
    for wrong in ["-1", "1.5", "x", "99999999999999999999"] {
        problem(&me(wrong).await, 400, "invalid_request");
    }
    me("0").await.expect(200);
}

/// A body without what is shown once only.
fn without_secrets(body: &Value) -> Value {
    let mut body = body.clone();
    let session = body.get_mut("session").and_then(Value::as_object_mut);
    if let Some(session) = session {
        session.remove("token");
    }
    if let Some(body) = body.as_object_mut() {
        body.remove("token");
        body.remove("accept_url");
        body.remove("secret");
    }
    body
}

async fn replays(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    for route in ROUTES.iter().filter(|route| route.writes()) {
        let who = world.entitled(route);
        let caller = world.team.person(who).expect("a person");
        let ask = world.fresh(route, caller).await;
        let key = format!("key-{}", number());
        let send = |ask: &Ask| {
            let call = world.send(ask).header("Idempotency-Key", &key);
            match route.is_open() {
                true => call,
                false => call.bearer(&caller.token),
            }
        };
        let first = send(&ask).await;
        assert!(first.status < 300, "{}: {}", route.name(), first.text);
        let again = send(&ask).await;
        same_again(route, &first, &again);
        // Written otherwise, but the same.
        if let Some(body) = &ask.body {
            let spelled = serde_json::to_string_pretty(body).expect("JSON");
            let call = ask.bare(&world.server).header("Idempotency-Key", &key);
            let call = call.header("content-type", "application/json; charset=utf-8");
            let call = match route.is_open() {
                true => call,
                false => call.bearer(&caller.token),
            };
            same_again(route, &first, &call.body(spelled).await);
        }
        let mut other = ask.body.clone().unwrap_or_else(|| json!({}));
        // A batch has no reason of its own.
        if let Some(record) = other.pointer_mut("/records/0") {
            record["id"] = json!("another record");
        } else if let Some(decision) = other.pointer_mut("/decisions/0") {
            decision["reason"] = json!("another body");
        } else {
            other["reason"] = json!("another body");
        }
        problem(
            &send(&ask.saying(other)).await,
            422,
            "idempotency_key_reused",
        );
        // The same key of somebody else is another key.
        if !route.is_open() {
            let stranger = world.send(&ask).bearer(&world.team.stranger.token);
            let stranger = stranger.header("Idempotency-Key", &key).await;
            assert!(
                stranger.header("idempotent-replayed").is_none(),
                "{}",
                route.name()
            );
        }
    }
    told_as_of_then(&world).await;
    at_once(&world).await;
    keys_are_checked(&world).await;
    super::held(&store);
}

#[track_caller]
fn same_again(route: &Route, first: &Reply, again: &Reply) {
    let name = route.name();
    assert_eq!(again.status, first.status, "{name}: {}", again.text);
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{name}");
    assert_eq!(again.body, without_secrets(&first.body), "{name}");
    for header in ["etag", "location", "crewlog-position"] {
        assert_eq!(
            again.header(header),
            first.header(header),
            "{name}: {header}"
        );
    }
}

/// The first answer again, also where the resource has changed since.
async fn told_as_of_then(world: &World) {
    let owner = &world.team.owner;
    let path = world.team.path("");
    let rename = |name: &str, key: &str| {
        let call = world.server.patch(&path).bearer(&owner.token);
        call.header("Idempotency-Key", key)
            .json(json!({"name": name}))
    };
    let (first_key, second_key) = ("as-of-then-1", "as-of-then-2");
    let first = rename("First", first_key).await.expect(200);
    let second = rename("Second", second_key).await.expect(200);
    let again = rename("First", first_key).await.expect(200);
    assert_eq!(again.body, first.body, "as it was then");
    assert_eq!(rename("Second", second_key).await.body, second.body);
    let now = world
        .server
        .get(&path)
        .bearer(&owner.token)
        .await
        .expect(200);
    assert_eq!(now.body["name"], "Second", "a replay changes nothing");

    let named = |name: &str, key: &str| {
        let call = world.server.patch("/v1/me").bearer(&owner.token);
        call.header("Idempotency-Key", key)
            .json(json!({"name": name}))
    };
    let first = named("Called first", "me-1").await.expect(200);
    named("Called second", "me-2").await.expect(200);
    let again = named("Called first", "me-1").await.expect(200);
    assert_eq!(again.body, first.body, "the profile as it was then");

    // Also what changed nothing is done once: repeated, it undoes nobody's change.
    let path = world
        .team
        .path(&format!("/members/{}", world.team.viewer.user));
    let stay = || {
        let call = world.server.patch(&path).bearer(&owner.token);
        call.header("Idempotency-Key", "changes-nothing")
            .json(json!({"role": "viewer"}))
    };
    let first = stay().await.expect(200);
    let promote = world.server.patch(&path).bearer(&owner.token);
    promote.json(json!({"role": "member"})).await.expect(200);
    let again = stay().await.expect(200);
    assert_eq!(again.body, first.body);
    let now = world.server.get(&path).bearer(&owner.token).await;
    assert_eq!(now.expect(200).body["role"], "member");

    // What one may no longer do is still told as it was done.
    let guest = world.team.joined(&world.server, "admin").await;
    let email = address("invited-by-guest");
    let invite = || {
        let call = world
            .server
            .post(&world.team.path("/invitations"))
            .bearer(&guest.token);
        call.header("Idempotency-Key", "before-removal")
            .json(json!({"email": email, "role": "viewer"}))
    };
    let first = invite().await.expect(201);
    let member = world.team.path(&format!("/members/{}", guest.user));
    world
        .server
        .delete(&member)
        .bearer(&owner.token)
        .await
        .expect(204);
    let again = invite().await;
    assert!(
        again.status == 404 || again.body == without_secrets(&first.body),
        "a replay after the removal says what it said, or nothing: {}",
        again.text
    );
}

/// Two with one key at once: one effect, and nobody is told anything else.
async fn at_once(world: &World) {
    for round in 0..5 {
        let owner = Person::sign_up(&world.server, "twice").await;
        let key = format!("at-once-{round}");
        let make = || {
            let call = world.server.post("/v1/organizations").bearer(&owner.token);
            call.header("Idempotency-Key", &key)
                .json(json!({"name": "Made once"}))
                .into_future()
        };
        let (one, two) = tokio::join!(make(), make());
        let made = [&one, &two].into_iter().find(|reply| reply.status == 201);
        let made = made.expect("one of the two is told that it is made").body["id"].clone();
        for reply in [&one, &two] {
            match reply.status {
                201 => assert_eq!(reply.body["id"], made, "both are told of the same"),
                409 => problem(reply, 409, "idempotency_in_progress"),
                _ => panic!("{}: {}", reply.request, reply.text),
            }
        }
        let list = world
            .server
            .get("/v1/organizations")
            .bearer(&owner.token)
            .await
            .expect(200);
        assert_eq!(
            list.body["data"].as_array().map(Vec::len),
            Some(1),
            "{}",
            list.text
        );
    }
}

async fn keys_are_checked(world: &World) {
    let owner = &world.team.owner;
    for wrong in ["", &"k".repeat(256)] {
        let call = world.server.post("/v1/organizations").bearer(&owner.token);
        let reply = call
            .header("Idempotency-Key", wrong)
            .json(json!({"name": "x"}))
            .await;
        problem(&reply, 400, "invalid_request");
    }
    // A refusal is not remembered: the same key works once the reason is gone.
    let guest = Person::sign_up(&world.server, "late").await;
    let path = world.team.path("/invitations");
    let email = address("after-a-refusal");
    let invite = || {
        let call = world.server.post(&path).bearer(&guest.token);
        call.header("Idempotency-Key", "refused-first")
            .json(json!({"email": email, "role": "viewer"}))
    };
    problem(&invite().await, 404, "not_found");
    world.team.join(&world.server, &guest, "admin").await;
    invite().await.expect(201);
}

async fn conditions(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    for route in ROUTES
        .iter()
        .filter(|route| route.writes() && !matches!(route.answer, Answer::Server))
    {
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let ask = world.fresh(route, caller).await;
        let send = |condition: &str| {
            let call = world.send(&ask).header("If-Match", condition);
            match route.is_open() {
                true => call,
                false => call.bearer(&caller.token),
            }
        };
        let name = route.name();
        if !route.takes_if_match() {
            problem(&send("\"1\"").await, 400, "invalid_request");
            continue;
        }
        for malformed in ["1", "W/\"1\"", "\"1"] {
            problem(&send(malformed).await, 400, "invalid_request");
        }
        for stale in ["\"999999\"", "\"x\"", "\"01\""] {
            problem(&send(stale).await, 412, "precondition_failed");
        }
        let current = version_of(&world, route, &ask, caller).await;
        let both = format!("\"999999\", {current}");
        let good = send(&both).await;
        assert!(good.status < 300, "{name} with {both}: {}", good.text);
        let ask = world.fresh(route, caller).await;
        let any = world
            .send(&ask)
            .header("If-Match", "*")
            .bearer(&caller.token)
            .await;
        assert!(any.status < 300, "{name} with *: {}", any.text);
    }
    // Only what changes the resource itself moves its version.
    let path = world.team.path("");
    let owner = &world.team.owner;
    let before = world
        .server
        .get(&path)
        .bearer(&owner.token)
        .await
        .expect(200);
    invite(
        &world.server,
        &world.team.workspace,
        owner,
        &address("new"),
        "member",
    )
    .await
    .expect(201);
    let after = world
        .server
        .get(&path)
        .bearer(&owner.token)
        .await
        .expect(200);
    assert_eq!(
        before.header("etag"),
        after.header("etag"),
        "an invitation moves no workspace"
    );
    super::held(&store);
}

/// The `ETag` of what a request would change.
async fn version_of(world: &World, route: &Route, ask: &Ask, caller: &Person) -> String {
    if route.is_operators() {
        return world.operators_version(ask).await;
    }
    if let Some(session) = ask.path.strip_prefix("/v1/sessions/") {
        let list = world
            .server
            .get("/v1/sessions?limit=200")
            .bearer(&caller.token)
            .await
            .expect(200);
        let sessions = list.body["data"].as_array().cloned().unwrap_or_default();
        let found = sessions.iter().find(|one| one["id"] == session);
        return format!("\"{}\"", found.expect("the session is listed")["version"]);
    }
    let path = ask
        .path
        .trim_end_matches("/resend")
        .trim_end_matches("/rotate")
        .trim_end_matches("/archive")
        .trim_end_matches("/approve")
        .trim_end_matches("/reject")
        .trim_end_matches("/refresh")
        .trim_end_matches("/cancel")
        .trim_end_matches("/apply")
        .trim_end_matches("/verify")
        .trim_end_matches("/rollback")
        .trim_end_matches("/decisions")
        .trim_end_matches("/close")
        .trim_end_matches("/transfer-ownership")
        .trim_end_matches("/legal-hold")
        .trim_end_matches("/plan");
    let read = world.server.get(path).bearer(&caller.token).await;
    let read = read.expect(200);
    let tag = read.header("etag");
    tag.unwrap_or_else(|| panic!("{} has a version", route.name()))
        .to_owned()
}

async fn pages(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let (server, team) = (&world.server, &world.team);
    // Several of everything.
    for _ in 0..3 {
        world.invitation().await;
        world.key().await;
        team.crew(server, "production").await;
        world.organization_key().await;
        world.review().await;
        for (who, path) in [
            (&team.owner, "/v1/organizations".to_owned()),
            (
                &team.organization_owner,
                format!("/v1/organizations/{}/workspaces", team.organization),
            ),
        ] {
            let call = server.post(&path).bearer(&who.token);
            call.json(json!({"name": format!("Another {}", number())}))
                .await
                .expect(201);
        }
        team.owner.sign_in(server).await;
        let auditor = Person::sign_up(server, "another auditor").await;
        grant(server, &team.workspace, &team.owner, &auditor)
            .await
            .expect(201);
    }
    for route in ROUTES.iter().filter(|route| route.is_list()) {
        let who = match route.path {
            "/v1/workspaces" => Who::OrganizationOwner,
            _ => world.entitled(route),
        };
        let caller = team.person(who).expect("a person");
        let path = world.fresh(route, caller).await.path;
        let all = server
            .get(&format!("{path}?limit=200"))
            .bearer(&caller.token)
            .await
            .expect(200);
        assert_eq!(all.body["next_cursor"], Value::Null, "{path}");
        let all = all.body["data"].as_array().expect("a list").clone();
        assert!(all.len() >= 3, "{path} has several: {}", all.len());
        for limit in [1, 2, all.len()] {
            let (mut read, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = server
                    .get(&format!("{path}?limit={limit}{cursor}"))
                    .bearer(&caller.token);
                let page = page.await.expect(200);
                let items = page.body["data"].as_array().expect("a list").clone();
                assert!(items.len() <= limit, "{path}");
                read.extend(items);
                match page.body["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(read, all, "{path} in pages of {limit}");
        }
    }
    accounts_are_as_told(&world).await;
    super::held(&store);
}

/// Who somebody is, and what a sign-up may leave out.
async fn accounts_are_as_told(world: &World) {
    let server = &world.server;
    let (person, reply) = Person::sign_up_with(server, "alone", json!({})).await;
    assert_eq!(reply.body["organization"], Value::Null);
    assert_eq!(reply.body["workspace"], Value::Null);
    assert_eq!(reply.body["session"]["user"], person.user.as_str());
    let more =
        json!({"organization": {"name": "  Blanks around  "}, "workspace": {"name": "Small"}});
    let (person, reply) = Person::sign_up_with(server, "default", more).await;
    assert_eq!(reply.body["organization"]["name"], "Blanks around");
    assert_eq!(
        reply.body["workspace"]["plan"], "free",
        "the plan that nobody chose"
    );
    let me = server.get("/v1/me").bearer(&person.token).await.expect(200);
    assert_eq!(me.body, reply.body["user"], "who signed up is who they are");
    assert_eq!(me.body["email"], person.email.as_str());
    assert_eq!(me.body["memberships"][0]["role"], "owner");
    assert_eq!(
        me.body["memberships"][0]["workspace"],
        reply.body["workspace"]["id"]
    );
    assert_eq!(me.body["organizations"][0]["role"], "owner");
    // An address is one however it is written.
    let shouted = json!({"email": person.email.to_uppercase(), "password": person.password});
    server.post("/v1/sessions").json(shouted).await.expect(201);
    let twice =
        json!({"email": person.email.to_uppercase(), "password": password(), "name": "Twice"});
    problem(
        &server.post("/v1/signup").json(twice).await,
        409,
        "email_taken",
    );
    // A new address needs the password, and works at once.
    let moved = address("moved");
    let change = |password: &str| {
        let call = server.patch("/v1/me").bearer(&person.token);
        call.json(json!({"email": moved, "password": password}))
    };
    problem(&change("wrong-password").await, 401, "invalid_credentials");
    change(&person.password).await.expect(200);
    let sign_in = |email: &str| {
        let body = json!({"email": email, "password": person.password});
        server.post("/v1/sessions").json(body)
    };
    problem(&sign_in(&person.email).await, 401, "invalid_credentials");
    let session = sign_in(&moved).await.expect(201);
    // Signing out ends the session that asks; all others stay.
    let (id, token) = (text(&session.body, "/id"), text(&session.body, "/token"));
    let end = || server.delete(&format!("/v1/sessions/{id}")).bearer(&token);
    end().await.expect(204);
    assert_eq!(end().await.status, 401);
    server.get("/v1/me").bearer(&person.token).await.expect(200);
    // Unknown and wrong look the same.
    let unknown = json!({"email": address("nobody"), "password": password()});
    let unknown = server.post("/v1/sessions").json(unknown).await;
    let wrong = json!({"email": moved, "password": password()});
    let wrong = server.post("/v1/sessions").json(wrong).await;
    problem(&unknown, 401, "invalid_credentials");
    problem(&wrong, 401, "invalid_credentials");
    assert_eq!(unknown.body["detail"], wrong.body["detail"]);
    // Guessing is slowed down, for an address that nobody has too.
    let guessed = address("guessed");
    let mut waited = None;
    for _ in 0..12 {
        let guess = json!({"email": guessed, "password": password()});
        let reply = server.post("/v1/sessions").json(guess).await;
        if reply.status == 429 {
            waited = Some(reply);
            break;
        }
        problem(&reply, 401, "invalid_credentials");
    }
    problem(
        &waited.expect("guessing is slowed down"),
        429,
        "too_many_attempts",
    );
}
