//! Traces: a collector that takes them gets a span of each request, with its route and its id, below
//! the one of whoever asked; and nothing that is secret.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;
use tokio::net::TcpListener;

use crate::edge::team::Person;
use crate::support::commands::{crewlog_on, run};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![both("traces", "requests_are_traced", requests_are_traced)]
}

type Taken = Arc<Mutex<Vec<Bytes>>>;

/// Takes what is sent to it, as a collector does; answers with where it is.
async fn collector() -> (String, Taken) {
    let taken = Taken::default();
    let take = async |State(taken): State<Taken>, body: Bytes| {
        taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(body);
    };
    let router = Router::new()
        .route("/v1/traces", post(take))
        .with_state(taken.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("the address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), taken)
}

fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|one| one.key == name)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

async fn requests_are_traced(store: StoreUnderTest) {
    let (endpoint, taken) = collector().await;
    let mut command = Server::command(&store);
    command.args(["--otlp-endpoint", &endpoint]);
    let mut server = Server::launch(command).await;
    let more = json!({"organization": {"name": "Acme"}, "workspace": {"name": "Acme"}});
    let (person, made) = Person::sign_up_with(&server, "ada", more).await;
    let workspace = made.body["workspace"]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let path = format!("/v1/workspaces/{workspace}");
    server
        .patch(&path)
        .bearer(&person.token)
        .header("x-request-id", "traced-1")
        .header("traceparent", &format!("00-{trace}-{parent}-01"))
        .json(json!({"name": "Acme again"}))
        .await
        .expect(200);
    let unknown = server.get(&format!("{path}?cursor=hunter2"));
    unknown.header("x-request-id", "traced-2").await.expect(401);
    assert!(server.terminate().await.success(), "{}", server.logs());

    let taken = std::mem::take(&mut *taken.lock().unwrap_or_else(PoisonError::into_inner));
    let requests = taken
        .iter()
        .map(|body| ExportTraceServiceRequest::decode(&body[..]).expect("what OTLP says"));
    let resources: Vec<_> = requests
        .flat_map(|request| request.resource_spans)
        .collect();
    let of = resources[0].resource.as_ref().expect("who sends it");
    assert_eq!(
        text(&of.attributes, "service.name").as_deref(),
        Some("crewlog")
    );
    let spans: Vec<Span> = resources
        .into_iter()
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect();
    let of_request = |id: &str| {
        let found = spans
            .iter()
            .find(|span| text(&span.attributes, "crewlog.request_id").as_deref() == Some(id));
        found.unwrap_or_else(|| panic!("a span of {id} in {spans:#?}"))
    };
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };

    let patched = of_request("traced-1");
    assert_eq!(patched.name, "PATCH /v1/workspaces/{ws}");
    assert_eq!(hex(&patched.trace_id), trace);
    assert_eq!(hex(&patched.parent_span_id), parent);
    let submitted = spans
        .iter()
        .find(|span| span.parent_span_id == patched.span_id);
    let submitted = submitted.expect("a span below it");
    assert_eq!(submitted.name, "submit");
    assert_eq!(hex(&submitted.trace_id), trace);
    assert!(
        text(&submitted.attributes, "crewlog.position").is_some(),
        "{submitted:?}"
    );

    let refused = of_request("traced-2");
    assert_eq!(
        text(&refused.attributes, "http.route").as_deref(),
        Some("/v1/workspaces/{ws}")
    );
    assert_eq!(
        text(&refused.attributes, "http.response.status_code").as_deref(),
        Some("401")
    );
    assert_eq!(
        text(&refused.attributes, "crewlog.problem").as_deref(),
        Some("unauthenticated")
    );
    assert_eq!(
        refused.parent_span_id, [0u8; 0],
        "nobody said what it is part of"
    );
    assert_ne!(hex(&refused.trace_id), trace);

    // No secret, and nothing of whoever asked.
    for secret in [
        &person.token,
        &person.password,
        &person.email,
        &person.name,
        &workspace,
        "hunter2",
    ] {
        for body in &taken {
            let found = body
                .windows(secret.len())
                .any(|bytes| bytes == secret.as_bytes());
            assert!(!found, "{secret} is in a span");
        }
    }
    // The log has lines of requests as ever, and no spans of these.
    assert!(server.logs().contains("traced-1") && !server.logs().contains("otel.name"));
    run(crewlog_on(
        &store,
        &["serve", "--otlp-endpoint", "collector:4318"],
    ))
    .expect(2);
}
