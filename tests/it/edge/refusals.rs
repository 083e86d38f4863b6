//! What every route refuses, and how it says so.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use super::Running;
use super::routes::{Answer, Ask, Route, World, all, points_at, problem, whole_problem};
use super::team::{Person, Who};
use crate::support::server::{Call, Reply};
use crate::support::trials::{Case, StoreUnderTest, both};

/// An id of each kind that nobody has.
const UNKNOWN: &str = "00000000000000000000000001";

/// The bodies of routes that do not say otherwise, and of the server as a whole.
const BODY_LIMIT_BYTES: usize = 64 * 1024;
/// Of a body with the configuration of an agent or a pathway, or with a document.
const ITEM_BODY_LIMIT_BYTES: usize = 512 * 1024;
const BATCH_LIMIT_BYTES: usize = 1024 * 1024;
const BUNDLE_LIMIT_BYTES: usize = (32 * 1024 + 64) * 1024;
const SERVER_LIMIT_BYTES: usize = 34 * 1024 * 1024;

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "who_does_not_say_who_they_are", nobody),
        both("edge", "what_one_may_not_know_of_is_not_there", hidden),
        both("edge", "every_mistake_in_a_body_has_its_place", bodies),
        both("edge", "addresses_are_exact", addresses),
    ]
}

/// The routes of what the server is for.
pub(super) fn versioned() -> impl Iterator<Item = &'static Route> {
    let of_server = |route: &&Route| matches!(route.answer, Answer::Server);
    all().filter(move |route| !of_server(route))
}

async fn nobody(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let over = world.team.owner.sign_in(&world.server).await;
    let end = format!("/v1/sessions/{}", over.session);
    world
        .server
        .delete(&end)
        .bearer(&over.token)
        .await
        .expect(204);
    let invitation = super::team::text(&world.invitation().await.body, "/token");
    let (rest, last) = world
        .team
        .owner
        .token
        .split_at(world.team.owner.token.len() - 1);
    let mistyped = format!("{rest}{}", if last == "x" { "y" } else { "x" });
    for route in versioned() {
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let ask = world.fresh(route, caller).await;
        let send = || world.send(&ask);
        let is_accepting = route.path == "/v1/invitations/accept";
        if route.is_open() && !is_accepting {
            continue; // A token is not looked at.
        }
        let mut refused = Vec::new();
        if !is_accepting {
            refused.push(send().await);
        }
        for token in [
            "garbage",
            "crew_session_",
            &mistyped,
            &over.token,
            &invitation,
        ] {
            refused.push(send().bearer(token).await);
        }
        for header in ["", "Bearer", "Basic b3duZXI6cGFzc3dvcmQ=", "Bearer a b"] {
            refused.push(send().header("Authorization", header).await);
        }
        let twice = send()
            .bearer(&caller.token)
            .header("Authorization", "Bearer x");
        refused.push(twice.await);
        for reply in refused {
            assert_eq!(reply.status, 401, "{}: {}", route.name(), reply.text);
            whole_problem(&reply);
            let challenge = reply.header("www-authenticate").unwrap_or_default();
            assert!(
                challenge.starts_with("Bearer"),
                "{}: {challenge}",
                route.name()
            );
        }
        // Who asks comes first: nothing else about the request is told.
        if route.writes() && !is_accepting {
            let reply = ask.bare(&world.server).body("{").await;
            assert_eq!(reply.status, 401, "{}: {}", route.name(), reply.text);
        }
    }
    super::held(&store);
}

/// A reply but for its request's id.
pub(super) fn but_for_the_request(reply: &Reply) -> Value {
    let mut body = reply.body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("request_id");
    }
    body
}

async fn hidden(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let team = &world.team;
    let unknown_workspace = format!("ws_{UNKNOWN}");
    let unknown_organization = format!("org_{UNKNOWN}");
    for route in versioned().filter(|route| route.path.contains('{')) {
        let name = route.name();
        let who = world.entitled(route);
        let caller = team.person(who).expect("a person");
        let ask = world.fresh(route, caller).await;
        let as_ = |ask: &Ask, person: &Person| world.send(ask).bearer(&person.token);
        // Each id of the path that is none, that is nobody's, or that is something else's.
        let parts: Vec<_> = ask.path.split('/').map(str::to_owned).collect();
        for (place, part) in route.path.split('/').enumerate() {
            if !part.starts_with('{') {
                continue;
            }
            let mut wrong = vec!["x", "%00", "%FF", "..%2F.."];
            let id = &parts[place];
            let made = match id.split_once('_') {
                Some((kind, _)) => vec![
                    format!("{kind}_{UNKNOWN}"),
                    format!("{kind}_"),
                    id.to_uppercase(),
                    format!("{id}'--"),
                    match kind {
                        "usr" => team.workspace.clone(),
                        _ => team.owner.user.clone(),
                    },
                ],
                None => vec![],
            };
            match part {
                "{month}" => wrong.extend(["2026-13", "2026-1", "1999-12", "2026-01-01"]),
                _ if made.is_empty() => {
                    wrong.extend(["0", "999999999", "-1", "1.0", "99999999999999999999"]);
                }
                _ => wrong.extend(made.iter().map(String::as_str)),
            }
            for id in wrong {
                let mut parts = parts.clone();
                parts[place] = id.to_owned();
                let reply = as_(&ask.at(parts.join("/")), caller).await;
                problem(&reply, 404, "not_found");
            }
        }
        // Who may not know of it is told what is told of what is not there.
        let path = &ask.path;
        let elsewhere = path
            .replace(&team.workspace, &unknown_workspace)
            .replace(&team.organization, &unknown_organization);
        if elsewhere == *path {
            continue;
        }
        for person in [&team.stranger, &team.neighbour] {
            let there = as_(&ask, person).await;
            let missing = as_(&ask.at(elsewhere.clone()), person).await;
            problem(&there, 404, "not_found");
            problem(&missing, 404, "not_found");
            assert_eq!(
                but_for_the_request(&there),
                but_for_the_request(&missing),
                "{name}"
            );
            if route.writes() && route.takes_if_match() {
                let stale = as_(&ask, person).header("If-Match", "\"999999\"").await;
                problem(&stale, 404, "not_found");
            }
        }
    }
    others(&world).await;
    super::held(&store);
}

/// Ids that exist, in places that are not theirs.
async fn others(world: &World) {
    let team = &world.team;
    let server = &world.server;
    let ours = super::team::text(&world.invitation().await.body, "/id");
    let theirs = format!("/v1/workspaces/{}", team.neighbours_workspace);
    let neighbour = &team.neighbour;
    let invitation = format!("{theirs}/invitations/{ours}");
    for call in [
        server.get(&invitation),
        server.delete(&invitation),
        server.post(&format!("{invitation}/resend")),
        server.get(&format!("{theirs}/members/{}", team.member.user)),
        server.delete(&format!("{theirs}/members/{}", team.member.user)),
        server
            .patch(&format!("{theirs}/members/{}", team.member.user))
            .json(json!({"role": "viewer"})),
        server.delete(&format!("/v1/sessions/{}", team.owner.session)),
    ] {
        problem(&call.bearer(&neighbour.token).await, 404, "not_found");
    }
    // An entry of one workspace is not in another's log, nor in a stranger's organization.
    let list = server
        .get(&team.path("/audit?limit=1"))
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let position = &list.body["data"][0]["position"];
    let entry = server
        .get(&format!("{theirs}/audit/{position}"))
        .bearer(&neighbour.token)
        .await;
    problem(&entry, 404, "not_found");
    // A weak role is told so, with what it takes.
    let refused = server
        .patch(&team.path(""))
        .bearer(&team.admin.token)
        .json(json!({"name": "Mine"}));
    let refused = refused.await;
    problem(&refused, 403, "not_permitted");
    let detail = refused.body["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("admin") && detail.contains("owner"),
        "{detail}"
    );
}

/// The schema of a request's body; none where a route takes no body.
pub(super) fn body_schema(document: &Value, route: &Route) -> Option<Value> {
    let operation = &document["paths"][route.path][route.method.to_lowercase()];
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    schema.is_object().then(|| resolved(document, schema))
}

/// A schema itself, behind references and choices with `null`.
pub(super) fn resolved(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let found = document.pointer(reference.trim_start_matches('#'));
        return resolved(document, found.expect("a reference that leads somewhere"));
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let found = choices.iter().find(|choice| choice["type"] != "null");
            return resolved(document, found.expect("a choice that is not null"));
        }
    }
    schema.clone()
}

fn is_type(schema: &Value, name: &str) -> bool {
    let of = &schema["type"];
    of == name
        || of
            .as_array()
            .is_some_and(|types| types.iter().any(|one| one == name))
}

async fn bodies(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let document = world.server.get("/openapi.json").await.expect(200).body;
    let before = position(&world).await;
    let mut fresh = 0;
    for route in versioned().filter(|route| route.takes_a_body()) {
        let name = route.name();
        let schema = body_schema(&document, route);
        let schema = schema.unwrap_or_else(|| panic!("{name}: its body is in the document"));
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let at = position(&world).await;
        let ask = world.fresh(route, caller).await;
        fresh += position(&world).await - at;
        let body = Body {
            world: &world,
            route,
            ask,
            caller,
        };
        body.transport().await;
        body.fields(&document, &schema, &mut Vec::new()).await;
    }
    assert_eq!(
        position(&world).await - before,
        fresh,
        "nothing that is refused is written"
    );
    super::held(&store);
}

async fn position(world: &World) -> u64 {
    let reply = world.server.get("/v1/plans").await.expect(200);
    let text = reply.header("crewlog-position").expect("a position");
    text.parse().expect("a number")
}

/// A route whose body is spoiled in every way.
struct Body<'a> {
    world: &'a World,
    route: &'a Route,
    ask: Ask,
    caller: &'a Person,
}

impl Body<'_> {
    /// A good body; `{}` where it may be left out.
    fn good(&self) -> Value {
        self.ask.body.clone().unwrap_or_else(|| json!({}))
    }

    fn call(&self) -> Call {
        let call = self.ask.bare(&self.world.server);
        match self.route.is_open() {
            true => call,
            false => call.bearer(&self.caller.token),
        }
    }

    async fn send(&self, body: impl Into<reqwest::Body>) -> Reply {
        let call = self.call().header("Content-Type", "application/json");
        call.body(body).await
    }

    async fn transport(&self) {
        let good = self.good().to_string();
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=latin1",
            "application/jsonx",
        ] {
            let reply = self
                .call()
                .header("Content-Type", kind)
                .body(good.clone())
                .await;
            problem(&reply, 415, "unsupported_media_type");
        }
        let untyped = self.call().body(good.clone()).await;
        problem(&untyped, 415, "unsupported_media_type");
        let packed = self.call().header("Content-Type", "application/json");
        let packed = packed
            .header("Content-Encoding", "gzip")
            .body(good.clone())
            .await;
        problem(&packed, 415, "unsupported_media_type");

        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        for malformed in [
            "{",
            "{\"a\":}",
            "nul",
            "{}{}",
            "\u{feff}{}",
            "{'a':1}",
            deep.as_str(),
        ] {
            problem(
                &self.send(malformed.to_owned()).await,
                400,
                "malformed_json",
            );
        }
        problem(
            &self
                .send(vec![b'{', b'"', 0xff, b'"', b':', b'1', b'}'])
                .await,
            400,
            "malformed_json",
        );
        if self.ask.body.is_some() {
            problem(&self.call().await, 400, "malformed_json");
        }
        for other in ["[]", "\"text\"", "1", "null"] {
            points_at(&self.send(other.to_owned()).await, "", &["wrong_type"]);
        }

        let mut long = self.good();
        // Configurations are larger than what other bodies hold.
        let path = self.route.path;
        let holds_a_configuration = ["/agents", "/pathways", "/documents"]
            .iter()
            .any(|list| path.contains(list));
        let limit = match self.route.method {
            "POST" | "PUT" if holds_a_configuration => ITEM_BODY_LIMIT_BYTES,
            "POST" if path.ends_with("/activity") || path.ends_with("/decisions") => {
                BATCH_LIMIT_BYTES
            }
            "POST" if path.ends_with("/diff") || path.ends_with("{ws}/promotions") => {
                BUNDLE_LIMIT_BYTES
            }
            "POST" if path.ends_with("/verify") => ITEM_BODY_LIMIT_BYTES,
            "POST" if path.ends_with("/usage") => BATCH_LIMIT_BYTES / 2,
            _ => BODY_LIMIT_BYTES,
        };
        long["reason"] = json!("x".repeat(limit));
        if limit > ITEM_BODY_LIMIT_BYTES {
            return self.much_too_large(long.to_string()).await;
        }
        problem(&self.send(long.to_string()).await, 413, "body_too_large");
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>(long.to_string())]);
        let unannounced = reqwest::Body::wrap_stream(chunks);
        problem(&self.send(unannounced).await, 413, "body_too_large");
        if self.route.path == "/v1/signup" {
            self.much_too_large("x".repeat(SERVER_LIMIT_BYTES + 1))
                .await;
        }
    }

    /// Who goes on sending may find the connection closed before the answer can be read; one that
    /// is read says why.
    async fn much_too_large(&self, body: String) {
        let call = self.call().header("Content-Type", "application/json");
        if let Ok(reply) = call.body(body).attempt().await {
            problem(&reply, 413, "body_too_large");
        }
    }

    /// Spoils each field of the object at `place`, and of the objects in it.
    async fn fields(&self, document: &Value, schema: &Value, place: &mut Vec<String>) {
        let properties = schema["properties"].as_object().expect("a body has fields");
        let required: BTreeSet<_> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let pointer = |place: &[String], name: &str| {
            place
                .iter()
                .map(String::as_str)
                .chain([name])
                .fold(String::new(), |all, part| format!("{all}/{part}"))
        };
        let name = self.route.name();

        let spoiled = self.with(place, "surprise", json!(1));
        points_at(
            &self.send(spoiled.to_string()).await,
            &pointer(place, "surprise"),
            &["unknown_field"],
        );
        for (field, schema) in properties {
            let schema = resolved(document, schema);
            let at = pointer(place, field);
            let wrong = if is_type(&schema, "object") {
                vec![json!("text"), json!([]), json!(1)]
            } else if is_type(&schema, "array") {
                vec![json!("text"), json!(1), json!(true), json!({"a": 1})]
            } else if is_type(&schema, "integer") {
                vec![
                    json!("text"),
                    json!(true),
                    json!({"a": 1}),
                    json!([]),
                    json!(-1),
                ]
            } else {
                vec![json!(1), json!(true), json!({"a": 1}), json!([])]
            };
            let of_its_type = |value: &Value| {
                is_type(&schema, "boolean") && value.is_boolean()
                    || is_type(&schema, "integer") && value.is_number()
            };
            for value in wrong.into_iter().filter(|value| !of_its_type(value)) {
                let spoiled = self.with(place, field, value);
                points_at(
                    &self.send(spoiled.to_string()).await,
                    &at,
                    &["wrong_type", "invalid_value"],
                );
            }
            if required.contains(field.as_str()) {
                let mut spoiled = self.good();
                self.object(&mut spoiled, place).remove(field);
                points_at(
                    &self.send(spoiled.to_string()).await,
                    &at,
                    &["missing_field"],
                );
                let spoiled = self.with(place, field, Value::Null);
                points_at(
                    &self.send(spoiled.to_string()).await,
                    &at,
                    &["wrong_type", "invalid_value", "missing_field"],
                );
            }
            if is_type(&schema, "string") {
                let longest = schema["maxLength"].as_u64();
                let described =
                    longest.is_some() || schema["enum"].is_array() || schema["pattern"].is_string();
                assert!(described, "{name}: the document bounds {at}");
                let length = usize::try_from(longest.unwrap_or(1_000)).expect("a length") + 1;
                let spoiled = self.with(place, field, json!("x".repeat(length)));
                points_at(
                    &self.send(spoiled.to_string()).await,
                    &at,
                    &["too_long", "invalid_value"],
                );
                if schema["minLength"].as_u64().is_some_and(|least| least > 0) {
                    let spoiled = self.with(place, field, json!(""));
                    points_at(
                        &self.send(spoiled.to_string()).await,
                        &at,
                        &["too_short", "invalid_value"],
                    );
                }
            }
            // The same name twice, however it is written.
            let good = self.with(place, field, self.value(place, field));
            for spelled in [
                field.clone(),
                format!("\\u{:04x}{}", field.as_bytes()[0], &field[1..]),
            ] {
                let twice = with_again(&good, place, &spelled, "1");
                points_at(&self.send(twice).await, &at, &["duplicate_name"]);
            }
            for number in ["9007199254740993", "1e400", "-0", "0.10000000000000000001"] {
                let spoiled = self.with(place, field, json!("__number__"));
                let spoiled = spoiled.to_string().replace("\"__number__\"", number);
                points_at(&self.send(spoiled).await, &at, &["not_canonical_number"]);
            }
            if schema["properties"].is_object() {
                place.push(field.clone());
                Box::pin(self.fields(document, &schema, place)).await;
                place.pop();
            }
        }
    }

    fn object<'b>(
        &self,
        body: &'b mut Value,
        place: &[String],
    ) -> &'b mut serde_json::Map<String, Value> {
        let found = place.iter().fold(body, |value, part| {
            let inner = &mut value[part.as_str()];
            if inner.is_null() {
                // It may be left out, and a good request does.
                *inner = json!({});
            }
            inner
        });
        let name = self.route.name();
        found
            .as_object_mut()
            .unwrap_or_else(|| panic!("{name}: a good request has /{}", place.join("/")))
    }

    fn value(&self, place: &[String], field: &str) -> Value {
        let mut good = self.good();
        self.object(&mut good, place)
            .get(field)
            .cloned()
            .unwrap_or_else(|| json!("text"))
    }

    /// A good body with one field of the object at `place` set.
    fn with(&self, place: &[String], field: &str, value: Value) -> Value {
        let mut body = self.good();
        self.object(&mut body, place)
            .insert(field.to_owned(), value);
        body
    }
}

/// The text of a body in whose object at `place` a name is there once more.
fn with_again(body: &Value, place: &[String], name: &str, value: &str) -> String {
    let mut marked = body.clone();
    let object = place
        .iter()
        .fold(&mut marked, |value, part| &mut value[part.as_str()]);
    object["__again__"] = json!("__value__");
    let again = format!("\"{name}\":{value}");
    marked
        .to_string()
        .replace("\"__again__\":\"__value__\"", &again)
}

async fn addresses(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let server = &world.server;
    let document = server.get("/openapi.json").await.expect(200).body;
    let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for route in all() {
        methods.entry(route.path).or_default().insert(route.method);
    }
    let methods_of = |concrete: &Route| methods[concrete.path].clone();
    for route in all() {
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let ask = world.fresh(route, caller).await;
        let name = route.name();
        let mut allowed = methods_of(route);
        if allowed.contains("GET") {
            allowed.insert("HEAD");
        }
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "BREW"] {
            if allowed.contains(method) {
                continue;
            }
            let wrong = Method::from_bytes(method.as_bytes()).expect("a method");
            let reply = server.call(wrong, &ask.path).bearer(&caller.token).await;
            problem(&reply, 405, "method_not_allowed");
            let told: BTreeSet<_> = reply
                .header("allow")
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .map(str::to_owned)
                .collect();
            let expected: BTreeSet<_> = allowed.iter().map(|method| (*method).to_owned()).collect();
            assert_eq!(told, expected, "{name}: Allow for {method}");
        }
        if matches!(route.answer, Answer::Server) {
            continue;
        }
        let bare = ask.path.split('?').next().expect("a path");
        for query in [
            "surprise=1",
            "surprise",
            "limit=1&limit=2&surprise=1",
            "LIMIT=1",
        ] {
            let reply = world
                .send(&ask.at(format!("{bare}?{query}")))
                .bearer(&caller.token)
                .await;
            problem(&reply, 400, "invalid_request");
        }
        if route.is_list() {
            lists(&world, route, &ask.path, caller).await;
        }
        queries(&world, &document, route, &ask, caller).await;
        let slash = world
            .send(&ask.at(format!("{bare}/")))
            .bearer(&caller.token)
            .await;
        problem(&slash, 404, "not_found");
    }
    audit_queries(&world).await;
    for nowhere in [
        "/",
        "/v1",
        "/v2/me",
        "/v1/nothing",
        "/v1//me",
        "/v1/workspaces/",
        "/problems/nothing",
    ] {
        problem(
            &server.get(nowhere).bearer(&world.team.owner.token).await,
            404,
            "not_found",
        );
    }
    super::held(&store);
}

/// Every parameter of a query that is beyond what the document says of it, the others as they are
/// in a request that succeeds.
async fn queries(world: &World, document: &Value, route: &Route, ask: &Ask, caller: &Person) {
    let operation = &document["paths"][route.path][route.method.to_lowercase()];
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let (bare, good) = ask.path.split_once('?').unwrap_or((&ask.path, ""));
    for parameter in parameters.filter(|one| one["in"] == "query") {
        let name = parameter["name"].as_str().expect("a name");
        let schema = resolved(document, &parameter["schema"]);
        let mut wrong = Vec::new();
        if let Some(longest) = schema["maxLength"].as_u64() {
            let length = usize::try_from(longest).expect("a length") + 1;
            wrong.push("x".repeat(length));
        }
        let shortest = schema["minLength"].as_u64();
        let bounded = schema["enum"].is_array() || schema["pattern"].is_string();
        match () {
            () if bounded || schema["format"] == "date-time" => wrong.push("surprise".to_owned()),
            () if is_type(&schema, "boolean") => wrong.push("maybe".to_owned()),
            () if is_type(&schema, "integer") => {
                wrong.extend(["x", "-1", "1.5", "99999999999999999999"].map(str::to_owned));
            }
            () => {}
        }
        if shortest.is_some_and(|least| least > 0) || !is_type(&schema, "string") {
            wrong.push(String::new());
        }
        let others = good.split('&').filter(|pair| !pair.is_empty());
        let others = others.filter(|pair| !pair.starts_with(&format!("{name}=")));
        let others: Vec<_> = others.collect();
        for value in wrong {
            let spoiled = format!("{name}={value}");
            let query = [others.as_slice(), &[&spoiled]].concat();
            let path = format!("{bare}?{}", query.join("&"));
            let reply = world.send(&ask.at(path)).bearer(&caller.token).await;
            problem(&reply, 400, "invalid_request");
            let detail = reply.body["detail"].as_str().unwrap_or_default();
            assert!(detail.contains(name), "{}: {detail}", reply.request);
        }
    }
}

async fn lists(world: &World, route: &Route, path: &str, caller: &Person) {
    let ask = |query: String| {
        let call = world.server.get(&format!("{path}?{query}"));
        call.bearer(&caller.token)
    };
    for limit in ["0", "201", "abc", "", "-1", "1.5", "+1", "%31%30%30%30"] {
        problem(&ask(format!("limit={limit}")).await, 400, "invalid_request");
    }
    let other_list = match route.path {
        "/v1/organizations" => world.team.path("/members"),
        _ => "/v1/organizations".to_owned(),
    };
    let other = world.team.person(Who::Owner).expect("a person");
    let page = world
        .server
        .get(&format!("{other_list}?limit=1"))
        .bearer(&other.token)
        .await
        .expect(200);
    let mut cursors = vec![
        "x".to_owned(),
        String::new(),
        "e30".to_owned(),
        "a".repeat(5_000),
        "%00".to_owned(),
    ];
    if let Some(cursor) = page.body["next_cursor"].as_str() {
        cursors.push(cursor.to_owned());
    }
    for cursor in cursors {
        problem(
            &ask(format!("cursor={cursor}")).await,
            400,
            "invalid_request",
        );
    }
    for limit in ["1", "200"] {
        ask(format!("limit={limit}")).await.expect(200);
    }
}

async fn audit_queries(world: &World) {
    let path = world.team.path("/audit");
    let ask = |query: &str| {
        let call = world.server.get(&format!("{path}?{query}"));
        call.bearer(&world.team.owner.token)
    };
    for wrong in [
        "outcome=maybe",
        "environment=moon",
        "from=yesterday",
        "from=2026-01-01",
        "to=2026-01-01T00:00:00",
        "after=-1",
        "after=x",
        "before=1.5",
        "before=99999999999999999999",
        "order=sideways",
        "q=",
        "actor=",
        "actor=a&actor=b",
    ] {
        let reply = ask(wrong).await;
        problem(&reply, 400, "invalid_request");
        let name = wrong.split('=').next().unwrap_or_default();
        let detail = reply.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(name), "{wrong}: {detail}");
    }
    problem(
        &ask(&format!("q={}", "x".repeat(201))).await,
        400,
        "invalid_request",
    );
    for nothing in [
        "actor=usr_00000000000000000000000001",
        "action=no.such_thing",
        "q=%25",
        "q='%3B--",
        "crew=crw_00000000000000000000000001",
        "environment=staging",
        "after=9000000000000000000",
        "before=0",
        "from=2199-01-01T00:00:00Z",
        "to=1971-01-01T00:00:00Z",
    ] {
        let reply = ask(nothing).await.expect(200);
        assert_eq!(reply.body["data"], json!([]), "{nothing}");
    }
}
