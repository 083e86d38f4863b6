//! Usage: sent, counted once, rolled up, and closed by the month.

use base64::{Engine, prelude::BASE64_STANDARD};
use crewlog::journal::stores::Statement;
use crewlog::journal::{Source, SystemSource};
use futures::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Running;
use super::routes::{points_at, problem, usage_of_then};
use super::team::{Person, Team, text};
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "usage_counts_once_and_rolls_up", counted),
        both(
            "edge",
            "usage_of_a_month_is_closed_with_a_statement",
            closed,
        ),
    ]
}

fn now() -> String {
    SystemSource.now().to_rfc3339()
}

fn record(id: &str, crew: &str, meter: &str, quantity: u64) -> Value {
    json!({"id": id, "crew": crew, "meter": meter, "quantity": quantity, "at": now()})
}

async fn send(server: &Server, team: &Team, token: &str, records: &[Value]) -> Reply {
    let call = server.post(&team.path("/usage")).bearer(token);
    call.json(json!({"records": records})).await
}

async fn used(server: &Server, team: &Team, who: &Person, query: &str) -> Value {
    let path = team.path(&format!("/usage{query}"));
    server.get(&path).bearer(&who.token).await.expect(200).body
}

async fn counted(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let owner = team.owner.token.clone();
    let [one, other] = ["production", "staging"];
    let (one, other) = (
        team.crew(&server, one).await,
        team.crew(&server, other).await,
    );
    let batch = [
        record("a", &one, "messages", 900),
        record("b", &one, "messages", 600),
        record("c", &other, "messages", 10),
        record("d", &other, "agent_minutes", 7),
        record("e", &other, "unpriced", 5),
    ];
    let sent = send(&server, &team, &owner, &batch).await.expect(200);
    assert_eq!(sent.body, json!({"accepted": 5, "known": 0}));
    // A key tells the first answer again; another batch under it is refused.
    let keyed = async |records: &[Value]| {
        let call = server.post(&team.path("/usage")).bearer(&owner);
        let call = call.header("Idempotency-Key", "batch-1");
        call.json(json!({"records": records})).await
    };
    let one_more = [record("keyed", &other, "agent_minutes", 1)];
    for replayed in [None, Some("true")] {
        let sent = keyed(&one_more).await.expect(200);
        assert_eq!(sent.body, json!({"accepted": 1, "known": 0}));
        assert_eq!(sent.header("Idempotent-Replayed"), replayed);
    }
    problem(&keyed(&batch).await, 422, "idempotency_key_reused");
    // Twice, out of order, and many at once: each counts once.
    let again: Vec<_> = batch.iter().rev().cloned().collect();
    for reply in join_all((0..6).map(|_| send(&server, &team, &owner, &again))).await {
        assert_eq!(reply.expect(200).body, json!({"accepted": 0, "known": 5}));
    }
    let late = [record("f", &one, "messages", 1), batch[0].clone()];
    let replies = join_all((0..8).map(|_| send(&server, &team, &owner, &late))).await;
    let accepted = replies.into_iter().map(|reply| reply.expect(200));
    let accepted: u64 = accepted
        .filter_map(|reply| reply.body["accepted"].as_u64())
        .sum();
    assert_eq!(accepted, 1);
    let seen = used(&server, &team, &team.owner, "").await;
    let messages = &seen["meters"]["messages"];
    // 1511 at 50 cents a thousand are 75.55 cents.
    assert_eq!(
        (&messages["quantity"], &messages["records"]),
        (&json!(1511), &json!(4))
    );
    assert_eq!(messages["amount_minor"], 76);
    assert_eq!(seen["meters"]["unpriced"]["price"], Value::Null);
    assert_eq!(seen["amounts"], json!({"USD": 76 + 80}));
    assert_eq!(seen["closed"], false);
    let of_crew = |crew: &str| {
        let crews = seen["crews"].as_array().expect("crews");
        let found = crews.iter().find(|line| line["crew"] == crew);
        found.map(|line| line["meters"]["messages"]["quantity"].clone())
    };
    assert_eq!(
        (of_crew(&one), of_crew(&other)),
        (Some(json!(1501)), Some(json!(10)))
    );
    let path = format!("/v1/organizations/{}/usage", team.organization);
    let together = server
        .get(&path)
        .bearer(&team.billing.token)
        .await
        .expect(200);
    assert_eq!(together.body["meters"]["messages"]["quantity"], 1511);
    assert_eq!(
        together.body["workspaces"][0]["workspace"],
        team.workspace.as_str()
    );
    let refused = server
        .get(&path)
        .bearer(&team.organization_auditor.token)
        .await;
    problem(&refused, 403, "not_permitted");
    refused_by_name(&server, &team, &one).await;
    reached_by_keys(&server, &team, [&one, &other]).await;
    drop(server);
    super::held(&store);
}

async fn refused_by_name(server: &Server, team: &Team, crew: &str) {
    let owner = &team.owner.token;
    // The id of another record: nothing of the batch is kept.
    let other = [
        record("n", crew, "messages", 1),
        record("a", crew, "messages", 901),
    ];
    let refused = send(server, team, owner, &other).await;
    problem(&refused, 409, "usage_conflict");
    assert_eq!(refused.body["errors"][0]["pointer"], "/records/1/id");
    // A month that is over, within a batch: nothing of it is kept.
    let mut old = record("g", crew, "messages", 1);
    old["at"] = json!("2026-01-31T23:59:59.999999Z");
    let batch = [record("h", crew, "messages", 1), old];
    let refused = send(server, team, owner, &batch).await;
    problem(&refused, 409, "month_closed");
    let error = json!({
        "pointer": "/records/1/at", "code": "month_closed",
        "detail": "2026-01 is closed and takes no more records",
    });
    assert_eq!(refused.body["errors"], json!([error]));
    let seen = used(server, team, &team.owner, "").await;
    assert_eq!(seen["meters"]["messages"]["quantity"], 1511);
    for (name, wrong, pointer) in [
        ("meter", json!("A b"), "/records/0/meter"),
        ("quantity", json!(1_000_000_001), "/records/0/quantity"),
        ("id", json!(""), "/records/0/id"),
        ("at", json!("2999-01-01T00:00:00Z"), "/records"),
    ] {
        let mut record = record("i", crew, "messages", 1);
        record[name] = wrong;
        let refused = send(server, team, owner, &[record]).await;
        points_at(&refused, pointer, &["invalid_value"]);
    }
    let twice = [record("j", crew, "m", 1), record("j", crew, "m", 1)];
    points_at(
        &send(server, team, owner, &twice).await,
        "/records/1/id",
        &["invalid_value"],
    );
}

/// A key sends what the crews have used that it reaches.
async fn reached_by_keys(server: &Server, team: &Team, [production, staging]: [&str; 2]) {
    let body = json!({"name": "meter", "environment": "staging", "scopes": ["usage:write"]});
    let call = server
        .post(&team.path("/api-keys"))
        .bearer(&team.owner.token);
    let key = text(&call.json(body).await.expect(201).body, "/secret");
    let sent = send(server, team, &key, &[record("k", staging, "messages", 1)]).await;
    assert_eq!(sent.expect(200).body["accepted"], 1);
    let refused = send(
        server,
        team,
        &key,
        &[record("l", production, "messages", 1)],
    )
    .await;
    problem(&refused, 404, "not_found");
    let refused = send(
        server,
        team,
        &team.admin.token,
        &[record("m", staging, "messages", 1)],
    )
    .await;
    problem(&refused, 403, "not_permitted");
}

/// A month that ended long ago, as a server that was stopped since would have left it.
async fn closed(store: StoreUnderTest) {
    let Running { mut server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "production").await;
    let statements = team.path("/statements");
    let read = async |server: &Server, path: &str| server.get(path).bearer(&team.owner.token).await;
    problem(
        &read(&server, &format!("{statements}/2026-01")).await,
        404,
        "not_found",
    );
    for month in ["2025-12", "2026-01"] {
        usage_of_then(&server, &team, &crew, month, &[999, 500, 51]).await;
    }
    let stated = super::eventually("the months to be closed", async || {
        let list = read(&server, &statements).await.expect(200).body;
        (list["data"].as_array().map(Vec::len) == Some(2)).then_some(list["data"].clone())
    });
    let stated = stated.await;
    let months = [0, 1].map(|at| stated[at]["month"].clone());
    assert_eq!(months, ["2026-01", "2025-12"], "the newest comes first");
    // 77.5 cents.
    let messages = &stated[0]["meters"]["messages"];
    let total = ["quantity", "records", "amount_minor"].map(|name| messages[name].clone());
    assert_eq!(total, [1550, 3, 78]);
    assert_eq!(stated[0]["amounts"], json!({"USD": 78}));
    assert_eq!(stated[0]["plan"], "team");
    let lines: String = [(0, 999), (1, 500), (2, 51)]
        .map(|(place, quantity)| {
            format!(
                "{{\"at\":1767225600000000,\"crew\":\"{crew}\",\"id\":\"2026-01-{place}\",\
                 \"meter\":\"messages\",\"quantity\":{quantity}}}\n"
            )
        })
        .concat();
    let digest = BASE64_STANDARD.encode(Sha256::digest(lines));
    assert_eq!(stated[0]["records_digest"], digest.as_str());
    let one = read(&server, &format!("{statements}/2026-01"))
        .await
        .expect(200);
    assert_eq!(one.body, stated[0]);
    let first = read(&server, &format!("{statements}?limit=1"))
        .await
        .expect(200)
        .body;
    let cursor = text(&first, "/next_cursor");
    let second = read(&server, &format!("{statements}?limit=1&cursor={cursor}")).await;
    assert_eq!(
        second.expect(200).body,
        json!({"data": [stated[1]], "next_cursor": null})
    );
    let seen = used(&server, &team, &team.owner, "?month=2026-01").await;
    assert_eq!(
        (&seen["closed"], &seen["meters"]),
        (&json!(true), &stated[0]["meters"])
    );
    rolled_up(&server, &team).await;
    told_once(&server, &team).await;
    takes_no_more(&server, &team, &crew).await;
    server.terminate().await;
    never_changed(&store).await;
    super::held(&store);
}

/// What the statements come to, for whom it is in the organization.
async fn rolled_up(server: &Server, team: &Team) {
    let path = format!(
        "/v1/organizations/{}/usage?month=2026-01",
        team.organization
    );
    let together = server.get(&path).bearer(&team.billing.token).await;
    let together = together.expect(200).body;
    assert_eq!(together["amounts"], json!({"USD": 78}));
    assert_eq!(together["workspaces"][0]["closed"], true);
}

async fn told_once(server: &Server, team: &Team) {
    let audit = team.path("/audit?action=usage_month.closed");
    let told = server.get(&audit).bearer(&team.owner.token).await;
    let told = told.expect(200).body;
    let entries = told["data"].as_array().expect("entries");
    assert_eq!(entries.len(), 2, "each is said once");
    assert_eq!(entries[0]["actor"]["type"], "system");
    assert_eq!(entries[0]["changes"][1]["to"], json!({"USD": 78}));
}

/// A closed month still knows what it took, and takes nothing new.
async fn takes_no_more(server: &Server, team: &Team, crew: &str) {
    let owner = &team.owner.token;
    let at = "2026-01-01T00:00:00Z";
    let mut known = record("2026-01-0", crew, "messages", 999);
    known["at"] = json!(at);
    let sent = send(server, team, owner, &[known.clone()])
        .await
        .expect(200);
    assert_eq!(sent.body, json!({"accepted": 0, "known": 1}));
    let mut new = record("late", crew, "messages", 1);
    new["at"] = json!(at);
    let refused = send(server, team, owner, &[known.clone(), new]).await;
    problem(&refused, 409, "month_closed");
    assert_eq!(refused.body["errors"][0]["pointer"], "/records/1/at");
    known["quantity"] = json!(1);
    let refused = send(server, team, owner, &[known]).await;
    problem(&refused, 409, "usage_conflict");
}

async fn never_changed(store: &StoreUnderTest) {
    let opened = crate::support::journal::open_store(store).await;
    for wrong in [
        "UPDATE usage_records SET quantity = 1",
        "DELETE FROM usage_records",
    ] {
        let changed = opened.execute(vec![Statement::new(wrong, [])]).await;
        assert!(changed.is_err(), "{wrong}");
    }
    opened.close().await;
}
