//! What the server says of itself: how it is, what it measures, what its routes and problems are.

use std::collections::BTreeSet;

use crewlog::api::ProblemCode;
use serde_json::{Value, json};

use super::refusals::{body_schema, resolved};
use super::routes::{World, all, problem};
use super::team::invite;
use super::{Running, eventually};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![both("edge", "the_server_says_how_it_is", meta)]
}

async fn meta(store: StoreUnderTest) {
    let kind = match store.kind() {
        StoreKind::Sqlite => "sqlite",
        StoreKind::Postgres => "postgres",
    };
    let Running { server, store } = Running::on(store).await;
    let empty = server.get("/readyz").await.expect(200);
    assert_eq!(empty.body["position"], 0, "a new log is empty");
    metric(&server, "crewlog_head_position").await;
    let world = World::on(server).await;
    let server = &world.server;

    assert_eq!(
        server.get("/healthz").await.expect(200).body,
        json!({"status": "ok"})
    );
    // The audit index trails the log, and comes up with it when nothing is written.
    let ready = super::eventually("the audit index to be at the head", async || {
        let ready = server.get("/readyz").await.expect(200).body;
        let lags = ready["projections"].as_array().expect("projections");
        let is_level = lags.iter().all(|one| one["lag"] == 0);
        is_level.then_some(ready)
    })
    .await;
    assert_eq!(ready["ready"], true);
    assert_eq!(ready["problems"], json!([]));
    assert_eq!(ready["store"], kind);
    let position = ready["position"].as_u64().expect("a number");
    assert!(position > 0);
    assert!(ready["queue"]["capacity"].as_u64() > Some(0), "{ready}");
    let projections = ready["projections"].as_array().expect("projections");
    let names: BTreeSet<_> = projections
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    for name in ["audit", "members", "workspaces", "invitations", "users"] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    for one in projections {
        let (at, lag) = (one["position"].as_u64(), one["lag"].as_u64());
        assert_eq!(
            at.zip(lag).map(|(at, lag)| at + lag),
            Some(position),
            "{one}"
        );
        assert!(lag == Some(0) || one["name"] == "audit", "{one}");
    }
    eventually("the audit index is at the head", async || {
        let ready = server.get("/readyz").await.expect(200).body;
        let mut all = ready["projections"].as_array()?.iter();
        all.all(|one| one["lag"] == 0).then_some(())
    })
    .await;
    let version = server.get("/version").await.expect(200).body;
    assert_eq!(version["name"], "crewlog");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));

    assert_eq!(
        metric(server, "crewlog_head_position").await,
        position as f64
    );
    invite(
        server,
        &world.team.workspace,
        &world.team.owner,
        "metric@mail-of-tests.example",
        "viewer",
    )
    .await
    .expect(201);
    assert_eq!(
        metric(server, "crewlog_head_position").await,
        (position + 1) as f64
    );
    let text = server.get("/metrics").await.expect(200);
    assert!(
        text.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain"))
    );
    for personal in [
        &world.team.workspace,
        &world.team.owner.email,
        &world.team.owner.token,
    ] {
        assert!(
            !text.text.contains(personal.as_str()),
            "metrics name routes, not what was asked for"
        );
    }

    document(&world).await;
    docs(server).await;
    problems(server).await;
    super::held(&store);
}

/// A value of the Prometheus text.
async fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics").await.expect(200).text;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("{name} in\n{text}"));
    line.trim().parse().expect("a number")
}

async fn document(world: &World) {
    let reply = world.server.get("/openapi.json").await.expect(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let document = reply.body;
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    references_lead_somewhere(&document, &document);
    let mut ids = BTreeSet::new();
    for route in all() {
        let name = route.name();
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        assert!(operation.is_object(), "{name} is described");
        let id = operation["operationId"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            !id.is_empty() && ids.insert(id),
            "{name} has an id of its own"
        );
        let told = operation["summary"].is_string() || operation["description"].is_string();
        assert!(told, "{name} says what it does");
        let problem = &operation["responses"]["default"]["$ref"];
        assert_eq!(problem, "#/components/responses/Problem", "{name}");
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let of_path: BTreeSet<_> = parameters
            .iter()
            .filter(|one| one["in"] == "path")
            .filter_map(|one| one["name"].as_str())
            .collect();
        let in_path: BTreeSet<_> = route
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        assert_eq!(of_path, in_path, "{name}: parameters of the path");
        if let Some(schema) = body_schema(&document, route) {
            is_bounded(&document, &name, "", &schema);
        }
        if route.path.starts_with("/v1/") {
            let has = |wanted: &str| parameters.iter().any(|one| one["name"] == wanted);
            assert_eq!(
                has("Idempotency-Key"),
                route.writes(),
                "{name}: Idempotency-Key"
            );
            assert_eq!(has("If-Match"), route.takes_if_match(), "{name}: If-Match");
            assert_eq!(
                has("limit") && has("cursor"),
                route.is_paged(),
                "{name}: pages"
            );
            let open = operation["security"].as_array().into_iter().flatten();
            let open = open.into_iter().any(|need| *need == json!({}));
            assert_eq!(open, route.is_open(), "{name}: who may");
        }
    }
}

/// That every text, list and number of a schema has its limits, whatever it refers to.
fn is_bounded(document: &Value, name: &str, at: &str, schema: &Value) {
    let schema = resolved(document, schema);
    let is = |kind: &str| {
        let of = &schema["type"];
        let among = of
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == kind));
        of == kind || among
    };
    if is("array") {
        assert!(schema["maxItems"].is_u64(), "{name}: how many at {at}");
        is_bounded(document, name, &format!("{at}/0"), &schema["items"]);
    }
    if is("string") {
        let bounded = ["maxLength", "enum", "pattern"]
            .iter()
            .any(|it| !schema[it].is_null());
        let is_time = schema["format"] == "date-time";
        assert!(bounded || is_time, "{name}: how long at {at}");
    }
    if is("integer") {
        let most = schema["maximum"].is_number() || schema["format"] == "int64";
        let bounded = schema["minimum"].is_number() && most;
        assert!(bounded, "{name}: from what to what at {at}");
    }
    for (member, schema) in schema["properties"].as_object().into_iter().flatten() {
        is_bounded(document, name, &format!("{at}/{member}"), schema);
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for schema in schema[choice].as_array().into_iter().flatten() {
            is_bounded(document, name, at, schema);
        }
    }
}

fn references_lead_somewhere(document: &Value, value: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                let pointer = reference
                    .strip_prefix('#')
                    .expect("a reference into the document");
                assert!(
                    document.pointer(pointer).is_some(),
                    "{reference} is in the document"
                );
            }
            members
                .values()
                .for_each(|value| references_lead_somewhere(document, value));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| references_lead_somewhere(document, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The viewer refers to nothing but this server.
async fn docs(server: &Server) {
    let moved = server.get("/docs").await;
    let page = match moved.status {
        200 => moved,
        _ => server
            .get(moved.header("location").expect("where it is"))
            .await
            .expect(200),
    };
    assert!(
        page.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"))
    );
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'self'"), "{policy}");
    let mut found = 0;
    for attribute in ["src=\"", "href=\""] {
        for rest in page.text.split(attribute).skip(1) {
            let link = rest.split('"').next().unwrap_or_default();
            if link.is_empty() || link.starts_with("data:") || link.starts_with('#') {
                continue;
            }
            assert!(!link.contains("//"), "{link} is on this server");
            found += 1;
            let path = match link.strip_prefix('/') {
                Some(_) => link.to_owned(),
                None => format!("/docs/{}", link.trim_start_matches("./")),
            };
            server.get(&path).await.expect(200);
        }
    }
    assert!(found > 2, "the page has scripts and styles: {}", page.text);
    assert!(
        !page.text.contains("https://") && !page.text.contains("http://"),
        "{}",
        page.text
    );
}

async fn problems(server: &Server) {
    for code in ProblemCode::ALL {
        let kind = code.kind();
        let page = server
            .get(&format!("/problems/{}", kind.code))
            .await
            .expect(200);
        assert!(
            page.header("content-type")
                .is_some_and(|kind| kind.starts_with("text/html"))
        );
        let status = kind.status.as_u16().to_string();
        assert!(
            page.text.contains(kind.code) && page.text.contains(&status),
            "{}",
            page.text
        );
        assert!(
            !page.text.contains("//"),
            "{} refers to nothing elsewhere",
            kind.code
        );
    }
    problem(
        &server.get("/problems/no_such_code").await,
        404,
        "not_found",
    );
}
