//! The process dies while a campaign is closing: afterwards it goes on by itself, and everything
//! that was decided is done once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Running, Team, decision, entries, opened, text};
use crate::edge::eventually;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

/// More than one step settles.
const KEYS: usize = 130;

pub fn trials() -> Vec<Case> {
    vec![both("edge", "closing_goes_on_after_a_crash", goes_on)]
}

async fn goes_on(store: StoreUnderTest) {
    let Running { mut server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let plan = server.put(&team.path("/plan")).bearer(&team.owner.token);
    plan.json(json!({"plan": "enterprise"})).await.expect(200);
    for point in [
        "append_before_send:2",
        "append_after_send:2",
        "append_after_commit:2",
        "append_before_send:3",
    ] {
        let mut keys = Vec::new();
        for at in 0..KEYS {
            let call = server
                .post(&team.path("/api-keys"))
                .bearer(&team.admin.token);
            let body =
                json!({"name": format!("Key {at}"), "environment": "production", "scopes": []});
            keys.push(text(&call.json(body).await.expect(201).body, "/id"));
        }
        let more = json!({"scope": {"principals": ["api_keys"]}});
        let path = opened(&server, &team, more).await;
        let decisions: Vec<Value> = keys.iter().map(|key| decision(key, "revoke")).collect();
        let call = server
            .post(&format!("{path}/decisions"))
            .bearer(&team.owner.token);
        call.json(json!({"decisions": decisions})).await.expect(200);
        assert!(server.terminate().await.success(), "{}", server.logs());

        let mut command = Server::command(&store);
        command.env("CREWLOG_FAIL_POINT", point);
        let mut dying = Server::launch(command).await;
        let close = format!("{path}/close");
        // It may answer before it dies, or not at all.
        let _ = dying.post(&close).bearer(&team.owner.token).attempt().await;
        assert!(!dying.ended().await.success(), "{}", dying.logs());
        server = Server::start(&store).await;
        // What had begun goes on by itself; what had not is asked for again.
        let state = server
            .get(&path)
            .bearer(&team.owner.token)
            .await
            .expect(200)
            .body;
        if state["status"] == "open" {
            server
                .post(&close)
                .bearer(&team.owner.token)
                .await
                .expect(200);
        }
        let closed = async || {
            let state = server
                .get(&path)
                .bearer(&team.owner.token)
                .await
                .expect(200)
                .body;
            (state["status"] == "closed").then_some(state)
        };
        let state = eventually("it to be closed", closed).await;
        assert_eq!(state["closed"]["applied"], KEYS, "{state}");
        let mut revoked: BTreeMap<String, usize> = BTreeMap::new();
        let position = state["pinned_at"].as_u64().expect("a position");
        let filter = format!("action=api_key.revoked&after={position}");
        for entry in entries(&server, &team, &filter).await {
            *revoked.entry(text(&entry, "/target/id")).or_default() += 1;
        }
        assert_eq!(revoked, keys.into_iter().map(|key| (key, 1)).collect());
        let review = text(&state, "/id");
        let filter = format!("target={review}&action=access_review.settled");
        assert_eq!(entries(&server, &team, &filter).await.len(), KEYS);
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    super::super::held(&store);
}
