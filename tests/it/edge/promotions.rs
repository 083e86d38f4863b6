//! Promotions: from the export of one crew to the change log of another.
//!
//! The stories try one rule each; [`model`] tries them all against each other.

mod killed;
mod model;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Running;
use super::routes::{points_at, problem};
use super::team::{Person, Team, text};
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "a_promotion_goes_its_way", way),
        both("edge", "a_target_that_moved_is_reviewed_anew", moved),
        both("edge", "a_promotion_needs_what_its_target_lacks", slots),
        both("edge", "a_key_counts_as_its_people", keys),
        both("edge", "keys_do_not_cross_environments", reach),
        both(
            "edge",
            "approvals_are_those_of_the_stricter_policy",
            policies,
        ),
        both(
            "edge",
            "a_scheduled_promotion_is_applied_or_says_why",
            scheduled,
        ),
        both("edge", "a_rollback_restores_exactly", rollbacks),
        both("edge", "chosen_items_bring_what_they_need", chosen),
        both("edge", "a_template_goes_out_to_many_clients", rolled_out),
        both("edge", "a_bundle_is_checked", bundles),
        both("edge", "promotions_do_what_their_model_says", model::agrees),
        both(
            "edge",
            "an_apply_that_is_killed_is_whole_or_not_there",
            killed::whole,
        ),
    ]
}

/// What the stories ask a server.
struct Shop<'a> {
    server: &'a Server,
    team: &'a Team,
}

impl Shop<'_> {
    async fn agent(&self, crew: &str, name: &str, config: Value) -> Reply {
        self.item(crew, "agents", name, config).await
    }

    async fn item(&self, crew: &str, kind: &str, name: &str, config: Value) -> Reply {
        let path = self.team.path(&format!("/crews/{crew}/{kind}"));
        let body = json!({
            "name": name, "config": config, "break_glass": {"reason": "set up"},
        });
        let call = self.server.post(&path).bearer(&self.team.owner.token);
        call.json(body).await.expect(201)
    }

    async fn export(&self, crew: &str) -> Reply {
        let path = self.team.path(&format!("/crews/{crew}/export"));
        let call = self.server.get(&path).bearer(&self.team.viewer.token);
        call.await.expect(200)
    }

    async fn propose(&self, by: &Person, source: &str, target: &str) -> Reply {
        let body = json!({"source": source, "target": target, "reason": "New words"});
        self.propose_with(by, body).await
    }

    async fn propose_with(&self, by: &Person, body: Value) -> Reply {
        let call = self.server.post(&self.team.path("/promotions"));
        call.bearer(&by.token).json(body).await
    }

    async fn act(&self, by: &Person, promotion: &str, act: &str) -> Reply {
        self.act_with(by, promotion, act, json!({})).await
    }

    async fn act_with(&self, by: &Person, promotion: &str, act: &str, body: Value) -> Reply {
        let path = self.team.path(&format!("/promotions/{promotion}/{act}"));
        let call = self.server.post(&path).bearer(&by.token);
        call.json(body).await
    }

    async fn read(&self, promotion: &str) -> Reply {
        let path = self.team.path(&format!("/promotions/{promotion}"));
        let call = self.server.get(&path).bearer(&self.team.viewer.token);
        call.await.expect(200)
    }

    async fn policy(&self, policy: Value) {
        let call = self.server.put(&self.team.path("/policy"));
        let call = call.bearer(&self.team.owner.token).json(policy);
        call.await.expect(200);
    }

    async fn key(&self, by: &Person, environment: &str) -> Value {
        let body = json!({
            "name": "deploys", "environment": environment,
            "scopes": ["crews:read", "promotions:propose", "promotions:read"],
        });
        let call = self.server.post(&self.team.path("/api-keys"));
        call.bearer(&by.token).json(body).await.expect(201).body
    }
}

/// The digest of a text, as an `ETag` has it.
fn tag_of(text: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use sha2::{Digest, Sha256};
    format!("\"{}\"", BASE64_STANDARD.encode(Sha256::digest(text)))
}

async fn way(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let staging = team.crew(&server, "staging").await;
    let production = team.crew(&server, "production").await;
    let steps = json!([{"id": "greet", "text": "Hello"}, {"id": "ask", "text": "How?"}]);
    shop.agent(&staging, "Greeter", json!({"steps": steps, "n": 1.0}))
        .await;
    shop.item(
        &staging,
        "pathways",
        "Intake",
        json!({"first": {"$slot": "agent/Greeter"}}),
    )
    .await;
    let turned = json!([{"id": "ask", "text": "How?"}, {"id": "greet", "text": "Hi"}]);
    shop.agent(&production, "Greeter", json!({"steps": turned}))
        .await;
    shop.agent(&production, "Old", json!({})).await;

    // Export: canonical, byte for byte, and named by its digest.
    let exported = shop.export(&staging).await;
    assert_eq!(
        exported.text,
        r#"{"agents":{"Greeter":{"n":1,"steps":[{"id":"greet","text":"Hello"},{"id":"ask","text":"How?"}]}},"format":"crewlog/bundle/1","pathways":{"Intake":{"first":{"$slot":"agent/Greeter"}}}}"#
    );
    assert_eq!(
        exported.header("etag"),
        Some(tag_of(&exported.text).as_str())
    );
    let before = shop.export(&production).await;
    // As it was at an earlier version.
    let path = team.path(&format!("/crews/{staging}/export?version=2"));
    let earlier = server
        .get(&path)
        .bearer(&team.viewer.token)
        .await
        .expect(200);
    assert!(earlier.text.contains("Greeter") && !earlier.text.contains("Intake"));
    let path = team.path(&format!("/crews/{staging}/export?version=99"));
    problem(
        &server.get(&path).bearer(&team.viewer.token).await,
        404,
        "not_found",
    );

    // Review.
    let made = shop
        .propose(&team.member, &staging, &production)
        .await
        .expect(201);
    let promotion = text(&made.body, "/id");
    assert_eq!(made.body["status"], "proposed");
    assert_eq!(made.body["reason"], "New words");
    let read = shop.read(&promotion).await;
    let diff = &read.body["diff"];
    assert_eq!(diff["added"][0]["name"], "Intake");
    assert_eq!(diff["removed"][0]["name"], "Old");
    assert_eq!(diff["missing_slots"], json!([]));
    let changed = diff["changed"].as_array().expect("changes");
    let told: Vec<_> = changed
        .iter()
        .map(|change| (text(change, "/change"), text(change, "/path")))
        .collect();
    let pair = |change: &str, path: &str| (change.to_owned(), path.to_owned());
    assert_eq!(
        told,
        [
            pair("added", "/n"),
            pair("moved", "/steps[ask]"),
            pair("changed", "/steps[greet]/text")
        ],
        "{diff}"
    );
    // The patch makes the one bundle the other.
    let mut patched: Value = serde_json::from_str(&before.text).expect("a bundle");
    let patch: json_patch::Patch = serde_json::from_value(diff["patch"].clone()).expect("RFC 6902");
    json_patch::patch(&mut patched, &patch).expect("it applies");
    assert_eq!(patched, exported.body);
    // Drift says the same.
    let path = team.path(&format!("/crews/{production}/diff"));
    let call = server.post(&path).bearer(&team.viewer.token);
    let drift = call.json(json!({"crew": staging})).await.expect(200);
    assert_eq!(drift.body["patch"], diff["patch"]);
    let call = server.post(&path).bearer(&team.viewer.token);
    let by_bundle = call
        .json(json!({"bundle": exported.body}))
        .await
        .expect(200);
    assert_eq!(by_bundle.body["patch"], diff["patch"]);

    // Approve: not by who proposed it, nor before that is it applied.
    problem(
        &shop.act(&team.admin, &promotion, "apply").await,
        409,
        "approvals_missing",
    );
    problem(
        &shop.act(&team.member, &promotion, "approve").await,
        403,
        "not_permitted",
    );
    let own = shop
        .propose(&team.admin, &staging, &production)
        .await
        .expect(201);
    let own = text(&own.body, "/id");
    problem(
        &shop.act(&team.admin, &own, "approve").await,
        403,
        "own_proposal",
    );
    let rejected = shop
        .act_with(&team.owner, &own, "reject", json!({"reason": "Twice"}))
        .await;
    assert_eq!(rejected.expect(200).body["ended"]["reason"], "Twice");
    let approved = shop
        .act(&team.admin, &promotion, "approve")
        .await
        .expect(200);
    assert_eq!(approved.body["status"], "approved");
    assert_eq!(approved.body["approvals"][0]["user"], team.admin.user);

    // Import.
    let applied = shop.act(&team.owner, &promotion, "apply").await.expect(200);
    assert_eq!(applied.body["status"], "applied");
    assert_eq!(shop.export(&production).await.text, exported.text);
    problem(
        &shop.act(&team.owner, &promotion, "apply").await,
        409,
        "promotion_not_open",
    );
    let nothing = shop.propose(&team.member, &staging, &production).await;
    problem(&nothing, 409, "nothing_to_promote");

    // Verify.
    let check = |outcome: &str| {
        json!({"checks": [
            {"name": "A call is answered", "outcome": outcome, "evidence": "in 2 s"},
        ]})
    };
    let failed = shop
        .act_with(&team.member, &promotion, "verify", check("failed"))
        .await;
    assert_eq!(failed.expect(200).body["status"], "applied");
    let passed = shop
        .act_with(&team.member, &promotion, "verify", check("passed"))
        .await;
    let passed = passed.expect(200);
    assert_eq!(passed.body["status"], "verified");
    assert_eq!(passed.body["checks"].as_array().map(Vec::len), Some(1));
    assert_eq!(passed.body["checks"][0]["evidence"], "in 2 s");

    // Or back.
    let back = shop
        .act(&team.admin, &promotion, "rollback")
        .await
        .expect(200);
    assert_eq!(back.body["status"], "rolled_back");
    assert_eq!(shop.export(&production).await.text, before.text);

    // The change log, for programs and for people.
    let path = team.path(&format!("/crews/{production}/changelog"));
    let log = server
        .get(&path)
        .bearer(&team.viewer.token)
        .await
        .expect(200);
    let entries = log.body["data"].as_array().expect("entries");
    let kinds: Vec<_> = entries.iter().map(|entry| text(entry, "/change")).collect();
    assert_eq!(kinds, ["rolled_back", "promoted"]);
    assert_eq!(entries[1]["added"], json!(["pathway/Intake"]));
    assert_eq!(entries[1]["approved_by"][0]["name"], team.admin.name);
    let call = server
        .get(&format!("{path}?format=md"))
        .bearer(&team.viewer.token);
    let page = call.await.expect(200);
    assert_eq!(
        page.header("content-type"),
        Some("text/markdown; charset=utf-8")
    );
    for line in [
        "Rolled back",
        "Promoted",
        "New words",
        "- Added: pathway/Intake",
        "passed",
    ] {
        assert!(page.text.contains(line), "{line}: {}", page.text);
    }
    // What the log says of the crew.
    let path = team.path(&format!("/audit?crew={production}&order=asc&limit=200"));
    let log = server
        .get(&path)
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let entries = log.body["data"].as_array().expect("entries");
    let actions: Vec<_> = entries
        .iter()
        .map(|entry| text(entry, "/action"))
        .filter(|action| action.starts_with("promotion.") || action.starts_with("crew."))
        .collect();
    assert_eq!(
        actions,
        [
            "crew.listed",
            "crew.created",
            "promotion.proposed",
            "promotion.approved",
            "promotion.proposed",
            "promotion.approved",
            "promotion.rejected",
            "promotion.approved",
            "promotion.applied",
            "crew.promoted",
            "promotion.check_failed",
            "promotion.verified",
            "promotion.rolled_back",
            "crew.rolled_back",
        ]
    );
    let promoted = entries
        .iter()
        .find(|entry| entry["action"] == "crew.promoted");
    let changes = promoted.expect("an entry")["changes"].as_array().cloned();
    assert!(changes.is_some_and(|changes| changes.iter().any(|it| it["path"] == "pathways")));
    // One entry tells what of them differs, item by item, and a rollback the way back.
    let differing = async |action: &str| {
        let entry = entries.iter().find(|entry| entry["action"] == action);
        let position = &entry.expect("an entry")["position"];
        let path = team.path(&format!("/audit/{position}"));
        let one = server.get(&path).bearer(&team.owner.token).await;
        let one = one.expect(200).body;
        assert!(one.get("contents_cut").is_none(), "all of it is told");
        let mut told: Vec<_> = one["contents"]
            .as_array()
            .expect("contents")
            .iter()
            .map(|place| {
                let (kind, name) = (text(place, "/item/type"), text(place, "/item/name"));
                let (change, at) = (text(place, "/change"), text(place, "/path"));
                let (from, to) = (&place["from"], &place["to"]);
                format!("{kind}/{name} {change} {at}: {from} {to}")
            })
            .collect();
        told.sort();
        told
    };
    let promoted = differing("crew.promoted").await;
    assert_eq!(
        promoted,
        [
            r#"agent/Greeter added /n: null 1"#,
            r#"agent/Greeter changed /steps/0/id: "ask" "greet""#,
            r#"agent/Greeter changed /steps/0/text: "How?" "Hello""#,
            r#"agent/Greeter changed /steps/1/id: "greet" "ask""#,
            r#"agent/Greeter changed /steps/1/text: "Hi" "How?""#,
            r#"agent/Old removed : {} null"#,
            r#"pathway/Intake added : null {"first":{"$slot":"agent/Greeter"}}"#,
        ]
    );
    let back = differing("crew.rolled_back").await;
    assert_eq!(back.len(), promoted.len());
    assert!(
        back.contains(&"agent/Greeter removed /n: 1 null".to_owned()),
        "{back:?}"
    );
    super::held(&store);
}

async fn moved(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let staging = team.crew(&server, "staging").await;
    let production = team.crew(&server, "production").await;
    shop.agent(&staging, "Greeter", json!({"v": 1})).await;
    let made = shop
        .propose(&team.member, &staging, &production)
        .await
        .expect(201);
    let promotion = text(&made.body, "/id");
    shop.act(&team.admin, &promotion, "approve")
        .await
        .expect(200);
    // Somebody breaks glass; what is called, or joined, does not matter.
    let path = team.path(&format!("/crews/{production}"));
    let rename = server.patch(&path).bearer(&team.owner.token);
    rename
        .json(json!({"description": "live"}))
        .await
        .expect(200);
    assert_eq!(shop.read(&promotion).await.body["status"], "approved");
    shop.agent(&production, "Urgent", json!({})).await;
    assert_eq!(shop.read(&promotion).await.body["status"], "stale");
    for act in ["approve", "apply"] {
        problem(
            &shop.act(&team.owner, &promotion, act).await,
            409,
            "crew_moved",
        );
    }
    let refreshed = shop
        .act(&team.member, &promotion, "refresh")
        .await
        .expect(200);
    assert_eq!(refreshed.body["status"], "proposed");
    assert_eq!(refreshed.body["approvals"], json!([]));
    assert_eq!(refreshed.body["diff"]["removed"][0]["name"], "Urgent");
    problem(
        &shop.act(&team.admin, &promotion, "apply").await,
        409,
        "approvals_missing",
    );
    // Whoever makes it anew has proposed that.
    shop.act(&team.admin, &promotion, "refresh")
        .await
        .expect(200);
    problem(
        &shop.act(&team.admin, &promotion, "approve").await,
        403,
        "own_proposal",
    );
    shop.act(&team.owner, &promotion, "approve")
        .await
        .expect(200);
    // A later change of the source does not come with it.
    shop.agent(&staging, "Later", json!({})).await;
    shop.act(&team.admin, &promotion, "apply").await.expect(200);
    let there = shop.export(&production).await.text;
    assert!(
        there.contains("Greeter") && !there.contains("Later"),
        "{there}"
    );
    // A review is of one version: what was reviewed is named in `If-Match`.
    let made = shop
        .propose(&team.member, &staging, &production)
        .await
        .expect(201);
    let (promotion, tag) = (text(&made.body, "/id"), made.header("etag").expect("a tag"));
    shop.act(&team.member, &promotion, "refresh")
        .await
        .expect(200);
    let path = team.path(&format!("/promotions/{promotion}/approve"));
    let call = server
        .post(&path)
        .bearer(&team.admin.token)
        .header("If-Match", tag);
    problem(&call.await, 412, "precondition_failed");
    let cancelled = shop
        .act(&team.member, &promotion, "cancel")
        .await
        .expect(200);
    assert_eq!(cancelled.body["status"], "cancelled");
    super::held(&store);
}

/// What a target has of its own fills slots: an integration and a knowledge base by their names,
/// any of its endpoints.
async fn stays_in_its_crew(shop: &Shop<'_>, staging: &str, production: &str) {
    let (server, team) = (shop.server, shop.team);
    let config = json!({
        "crm": {"$slot": "integration/crm"}, "faq": {"$slot": "knowledge-base/FAQ"},
        "told": {"$slot": "webhook-endpoint/calls"},
    });
    shop.agent(staging, "Closer", config).await;
    let missing = async || {
        let made = shop.propose(&team.member, staging, production).await;
        made.expect(201).body["diff"]["missing_slots"].clone()
    };
    let all = [
        "integration/crm",
        "knowledge-base/FAQ",
        "webhook-endpoint/calls",
    ];
    let mut lacking = BTreeSet::from(all);
    for (slot, list, body) in [
        (
            all[0],
            "integrations",
            json!({"name": "crm", "kind": "salesforce", "account": "acme"}),
        ),
        (all[1], "knowledge-bases", json!({"name": "FAQ"})),
        (
            all[2],
            "webhook-endpoints",
            json!({"url": "https://hooks.example.com/calls"}),
        ),
    ] {
        let told = missing().await;
        let told = told.as_array().expect("slots").iter();
        let told: BTreeSet<_> = told.filter_map(serde_json::Value::as_str).collect();
        assert_eq!(told, lacking);
        let path = team.path(&format!("/crews/{production}/{list}"));
        let call = server.post(&path).bearer(&team.owner.token);
        call.json(body).await.expect(201);
        lacking.remove(slot);
    }
    assert_eq!(missing().await, json!([]));
}

async fn slots(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let staging = team.crew(&server, "staging").await;
    let production = team.crew(&server, "production").await;
    let config = json!({"reply": {"$slot": "channel/email"}, "then": {"$slot": "pathway/Gone"}});
    shop.agent(&staging, "Greeter", config).await;
    let made = shop
        .propose(&team.member, &staging, &production)
        .await
        .expect(201);
    let missing = &made.body["diff"]["missing_slots"];
    assert_eq!(*missing, json!(["channel/email", "pathway/Gone"]));
    let promotion = text(&made.body, "/id");
    shop.act(&team.admin, &promotion, "approve")
        .await
        .expect(200);
    let refused = shop.act(&team.admin, &promotion, "apply").await;
    problem(&refused, 409, "slots_missing");
    assert!(
        refused.text.contains("channel/email, pathway/Gone"),
        "{}",
        refused.text
    );
    // What the target has by now counts; what promotes comes by promotion.
    let path = team.path(&format!("/crews/{production}/channels"));
    let call = server.post(&path).bearer(&team.owner.token);
    let channel = json!({"kind": "email", "address": "calls@example.com"});
    call.json(channel).await.expect(201);
    let refused = shop.act(&team.admin, &promotion, "apply").await;
    assert!(!refused.text.contains("channel/email"), "{}", refused.text);
    shop.item(&staging, "pathways", "Gone", json!({})).await;
    let refreshed = shop
        .act(&team.member, &promotion, "refresh")
        .await
        .expect(200);
    assert_eq!(refreshed.body["diff"]["missing_slots"], json!([]));
    shop.act(&team.admin, &promotion, "approve")
        .await
        .expect(200);
    shop.act(&team.admin, &promotion, "apply").await.expect(200);
    stays_in_its_crew(&shop, &staging, &production).await;
    super::held(&store);
}

async fn keys(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let production = team.crew(&server, "production").await;
    let first = shop.key(&team.admin, "production").await;
    let second = team.joined(&server, "admin").await;
    let path = team.path(&format!("/api-keys/{}/rotate", text(&first, "/id")));
    let call = server.post(&path).bearer(&second.token);
    let rotated = call
        .json(json!({"grace_seconds": 3600}))
        .await
        .expect(201)
        .body;
    let propose = async |secret: &str, name: &str| {
        let mut bundle = json!({"format": "crewlog/bundle/1", "agents": {}});
        bundle["agents"][name] = json!({});
        let body = json!({"bundle": bundle, "target": production, "reason": "By a program"});
        let call = server.post(&team.path("/promotions")).bearer(secret);
        text(&call.json(body).await.expect(201).body, "/id")
    };
    let by_first = propose(&text(&first, "/secret"), "First").await;
    let by_second = propose(&text(&rotated, "/secret"), "Second").await;
    // The old key counts as who made it, its successor as who rotated it too.
    problem(
        &shop.act(&team.admin, &by_first, "approve").await,
        403,
        "own_proposal",
    );
    shop.act(&second, &by_first, "approve").await.expect(200);
    for person in [&team.admin, &second] {
        problem(
            &shop.act(person, &by_second, "approve").await,
            403,
            "own_proposal",
        );
    }
    shop.act(&team.owner, &by_second, "approve")
        .await
        .expect(200);
    // A key decides nothing.
    let key = Person {
        token: text(&first, "/secret"),
        ..team.owner.clone()
    };
    for act in ["approve", "apply", "reject", "rollback"] {
        problem(
            &shop.act(&key, &by_first, act).await,
            403,
            "not_for_api_keys",
        );
    }
    super::held(&store);
}

async fn reach(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let staging = team.crew(&server, "staging").await;
    let production = team.crew(&server, "production").await;
    shop.agent(&staging, "Greeter", json!({})).await;
    let of_staging = text(&shop.key(&team.admin, "staging").await, "/secret");
    let of_production = text(&shop.key(&team.admin, "production").await, "/secret");
    let body = json!({"source": staging, "target": production, "reason": "By a program"});
    for secret in [&of_staging, &of_production] {
        let call = server.post(&team.path("/promotions")).bearer(secret);
        problem(&call.json(&body).await, 404, "not_found");
        let path = team.path(&format!("/crews/{production}/diff"));
        let call = server.post(&path).bearer(secret);
        problem(&call.json(json!({"crew": staging})).await, 404, "not_found");
    }
    // A file crosses.
    let path = team.path(&format!("/crews/{staging}/export"));
    let exported = server.get(&path).bearer(&of_staging).await.expect(200);
    problem(
        &server.get(&path).bearer(&of_production).await,
        404,
        "not_found",
    );
    let body = json!({"bundle": exported.body, "target": production, "reason": "By a program"});
    let call = server
        .post(&team.path("/promotions"))
        .bearer(&of_production);
    let made = call.json(body).await.expect(201);
    assert_eq!(
        format!("\"{}\"", text(&made.body, "/bundle_digest")),
        tag_of(&exported.text)
    );
    let path = team.path(&format!("/promotions/{}", text(&made.body, "/id")));
    server.get(&path).bearer(&of_production).await.expect(200);
    problem(
        &server.get(&path).bearer(&of_staging).await,
        404,
        "not_found",
    );
    let list = team.path("/promotions");
    let seen = async |secret: &str| {
        let page = server.get(&list).bearer(secret).await.expect(200);
        page.body["data"].as_array().map(Vec::len)
    };
    assert_eq!(seen(&of_production).await, Some(1));
    assert_eq!(seen(&of_staging).await, Some(0));
    // Nobody's promotion is there for a neighbour.
    let elsewhere = path.replace(&team.workspace, &team.neighbours_workspace);
    let reply = server.get(&elsewhere).bearer(&team.neighbour.token).await;
    problem(&reply, 404, "not_found");
    super::held(&store);
}

async fn policies(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let staging = team.crew(&server, "staging").await;
    let production = team.crew(&server, "production").await;
    shop.agent(&staging, "Greeter", json!({})).await;
    let propose = async || {
        let made = shop.propose(&team.admin, &staging, &production).await;
        text(&made.expect(201).body, "/id")
    };
    // Stricter since.
    let promotion = propose().await;
    shop.act(&team.owner, &promotion, "approve")
        .await
        .expect(200);
    shop.policy(json!({"approvals_needed": 2})).await;
    problem(
        &shop.act(&team.owner, &promotion, "apply").await,
        409,
        "approvals_missing",
    );
    // Laxer since: what was asked for when it was proposed still is.
    let strict = propose().await;
    shop.policy(json!({"approvals_needed": 0, "self_approval": true}))
        .await;
    problem(
        &shop.act(&team.owner, &strict, "apply").await,
        409,
        "approvals_missing",
    );
    problem(
        &shop.act(&team.admin, &strict, "approve").await,
        403,
        "own_proposal",
    );
    // Who may decide no more counts no more.
    shop.policy(json!({"approvals_needed": 1})).await;
    let guest = team.joined(&server, "admin").await;
    let promotion = propose().await;
    shop.act(&guest, &promotion, "approve").await.expect(200);
    let path = team.path(&format!("/members/{}", guest.user));
    let demote = server.patch(&path).bearer(&team.owner.token);
    demote.json(json!({"role": "viewer"})).await.expect(200);
    problem(
        &shop.act(&team.owner, &promotion, "apply").await,
        409,
        "approvals_missing",
    );
    // Nobody at all is asked where the policy says so.
    shop.policy(json!({"approvals_needed": 0})).await;
    let promotion = propose().await;
    shop.act(&team.admin, &promotion, "apply").await.expect(200);
    super::held(&store);
}

async fn scheduled(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let staging = team.crew(&server, "staging").await;
    shop.agent(&staging, "Greeter", json!({"v": 1})).await;
    let guest = team.joined(&server, "admin").await;
    let soon = |milliseconds: i64| {
        use crewlog::journal::{Source, SystemSource};
        let later = chrono::TimeDelta::milliseconds(milliseconds);
        SystemSource.now().plus(later).to_rfc3339()
    };
    let plan = async |by: &Person| {
        let target = team.crew(&server, "production").await;
        let made = shop
            .propose(&team.member, &staging, &target)
            .await
            .expect(201);
        let promotion = text(&made.body, "/id");
        shop.act(&team.owner, &promotion, "approve")
            .await
            .expect(200);
        let at = json!({"at": soon(2_500)});
        let planned = shop.act_with(by, &promotion, "apply", at).await.expect(200);
        assert_eq!(planned.body["status"], "scheduled");
        assert!(planned.body["scheduled_for"].is_string());
        (promotion, target)
    };
    let (met, target) = plan(&team.admin).await;
    let (late, other) = plan(&team.admin).await;
    let (unlawful, third) = plan(&guest).await;
    let (archived, fourth) = plan(&team.admin).await;
    let (cancelled, _) = plan(&team.admin).await;
    // Meanwhile a target moves, a scheduler's rights end, a crew is archived, one is taken back.
    shop.agent(&other, "Urgent", json!({})).await;
    let path = team.path(&format!("/members/{}", guest.user));
    let demote = server.patch(&path).bearer(&team.owner.token);
    demote.json(json!({"role": "member"})).await.expect(200);
    let path = team.path(&format!("/crews/{fourth}/archive"));
    server
        .post(&path)
        .bearer(&team.owner.token)
        .await
        .expect(200);
    shop.act(&team.member, &cancelled, "cancel")
        .await
        .expect(200);
    let ended = async |promotion: &str| {
        super::eventually("what is due to be done", async || {
            let read = shop.read(promotion).await.body;
            let is_over = !read["applied"].is_null() || !read["schedule_ended"].is_null();
            is_over.then_some(read)
        })
        .await
    };
    let applied = ended(&met).await;
    assert_eq!(applied["status"], "applied");
    assert_eq!(applied["applied"]["by"], team.admin.user);
    assert_eq!(applied["applied"]["scheduled"], true);
    assert_eq!(
        shop.export(&target).await.text,
        shop.export(&staging).await.text
    );
    for (promotion, status, why) in [
        (&late, "stale", "target_moved"),
        (&unlawful, "approved", "rights_ended"),
        (&archived, "approved", "target_gone"),
    ] {
        let read = ended(promotion).await;
        assert_eq!(read["status"], status, "{read}");
        assert_eq!(read["schedule_ended"]["why"], why, "{read}");
        assert!(read["scheduled_for"].is_null(), "{read}");
    }
    assert!(!shop.export(&third).await.text.contains("Greeter"));
    // What was not done can be done by hand.
    shop.act(&team.admin, &unlawful, "apply").await.expect(200);
    for wrong in [soon(-1_000), soon(91 * 24 * 3_600 * 1_000)] {
        let body = json!({"at": wrong});
        let made = shop
            .propose(&team.member, &staging, &other)
            .await
            .expect(201);
        let promotion = text(&made.body, "/id");
        shop.act(&team.owner, &promotion, "approve")
            .await
            .expect(200);
        let refused = shop.act_with(&team.admin, &promotion, "apply", body).await;
        points_at(&refused, "/at", &["invalid_value"]);
    }
    super::held(&store);
}

async fn rollbacks(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let staging = team.crew(&server, "staging").await;
    let production = team.crew(&server, "production").await;
    shop.agent(&production, "Kept", json!({"v": 1})).await;
    let gone = shop.agent(&production, "Gone", json!({"v": 2})).await;
    shop.agent(&staging, "Kept", json!({"v": 3})).await;
    shop.agent(&staging, "New", json!({})).await;
    let before = shop.export(&production).await.text;
    let made = shop
        .propose(&team.member, &staging, &production)
        .await
        .expect(201);
    let promotion = text(&made.body, "/id");
    problem(
        &shop.act(&team.admin, &promotion, "rollback").await,
        409,
        "promotion_not_applied",
    );
    shop.act(&team.admin, &promotion, "approve")
        .await
        .expect(200);
    shop.act(&team.admin, &promotion, "apply").await.expect(200);
    shop.agent(&production, "Urgent", json!({"v": 4})).await;
    let refused = shop.act(&team.admin, &promotion, "rollback").await;
    problem(&refused, 409, "changed_since");
    let detail = text(&refused.body, "/detail");
    assert!(
        detail.contains("agent_created \"Urgent\" (version"),
        "{detail}"
    );
    let silent = shop
        .act_with(&team.admin, &promotion, "rollback", json!({"force": true}))
        .await;
    points_at(&silent, "/reason", &["invalid_value"]);
    let force = json!({"force": true, "reason": "All of it was wrong"});
    let back = shop
        .act_with(&team.admin, &promotion, "rollback", force)
        .await
        .expect(200);
    assert_eq!(back.body["ended"]["forced"], true);
    assert_eq!(back.body["ended"]["reason"], "All of it was wrong");
    assert_eq!(shop.export(&production).await.text, before);
    // What was there is there again under its own id.
    let path = team.path(&format!(
        "/crews/{production}/agents/{}",
        text(&gone.body, "/id")
    ));
    let again = server
        .get(&path)
        .bearer(&team.viewer.token)
        .await
        .expect(200);
    assert_eq!(again.body["config"], json!({"v": 2}));
    problem(
        &shop.act(&team.admin, &promotion, "rollback").await,
        409,
        "promotion_not_applied",
    );
    super::held(&store);
}

async fn chosen(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let staging = team.crew(&server, "staging").await;
    let production = team.crew(&server, "production").await;
    shop.agent(
        &staging,
        "Greeter",
        json!({"then": {"$slot": "pathway/Intake"}}),
    )
    .await;
    shop.item(
        &staging,
        "pathways",
        "Intake",
        json!({"by": {"$slot": "agent/Closer"}}),
    )
    .await;
    shop.agent(
        &staging,
        "Closer",
        json!({"back": {"$slot": "agent/Greeter"}}),
    )
    .await;
    shop.agent(&staging, "Unfinished", json!({})).await;
    shop.agent(&production, "Old", json!({})).await;
    shop.agent(&production, "Own", json!({})).await;
    let body = |include: Value| {
        json!({
            "source": staging, "target": production, "reason": "Only these", "include": include,
        })
    };
    let made = shop
        .propose_with(&team.member, body(json!(["agent/Greeter", "agent/Old"])))
        .await;
    let made = made.expect(201);
    assert_eq!(
        made.body["summary"],
        json!({"added": 3, "changed": 0, "removed": 1})
    );
    let promotion = text(&made.body, "/id");
    shop.act(&team.admin, &promotion, "approve")
        .await
        .expect(200);
    shop.act(&team.admin, &promotion, "apply").await.expect(200);
    let there = shop.export(&production).await.body;
    let names: Vec<_> = there["agents"]
        .as_object()
        .expect("agents")
        .keys()
        .collect();
    assert_eq!(names, ["Closer", "Greeter", "Own"]);
    assert!(there["pathways"]["Intake"].is_object());
    for (include, pointer) in [
        (json!([]), "/include"),
        (json!(["Greeter"]), "/include/0"),
        (json!(["agent/Nobody"]), "/include"),
    ] {
        let refused = shop.propose_with(&team.member, body(include)).await;
        points_at(&refused, pointer, &["invalid_value"]);
    }
    super::held(&store);
}

async fn rolled_out(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let template = team.crew(&server, "staging").await;
    shop.agent(&template, "Greeter", json!({"prompt": "Hello"}))
        .await;
    let own = team.crew(&server, "production").await;
    let same = team.crew(&server, "production").await;
    shop.agent(&same, "Greeter", json!({"prompt": "Hello"}))
        .await;
    // A client with a workspace of their own, where the admin may propose, and one where not.
    let theirs = format!("/v1/workspaces/{}", team.neighbours_workspace);
    let crew = async |name: &str| {
        let body = json!({"name": name, "environment": "production"});
        let call = server
            .post(&format!("{theirs}/crews"))
            .bearer(&team.neighbour.token);
        text(&call.json(body).await.expect(201).body, "/id")
    };
    let clients = crew("A client - Production").await;
    let hidden = {
        let (stranger, reply) = Person::sign_up_with(
            &server,
            "stranger",
            json!({
                "organization": {"name": "Elsewhere"},
                "workspace": {"name": "Elsewhere", "plan": "team"},
            }),
        )
        .await;
        let path = format!(
            "/v1/workspaces/{}/crews",
            text(&reply.body, "/workspace/id")
        );
        let body = json!({"name": "Their own", "environment": "production"});
        let call = server.post(&path).bearer(&stranger.token).json(body);
        text(&call.await.expect(201).body, "/id")
    };
    let token = super::team::invited(
        &server,
        &team.neighbours_workspace,
        &team.neighbour,
        &team.admin.email,
        "admin",
    )
    .await;
    super::team::accept(&server, &team.admin, &token)
        .await
        .expect(200);
    let unknown = "crw_00000000000000000000000001";
    let path = team.path(&format!("/crews/{template}/promotions"));
    let body = json!({
        "targets": [own, same, clients, hidden, unknown], "reason": "To all clients",
    });
    let call = server.post(&path).bearer(&team.admin.token);
    let report = call
        .header("Idempotency-Key", "roll-out-1")
        .json(&body)
        .await
        .expect(200);
    let results = report.body["data"].as_array().expect("results");
    let codes: Vec<_> = results
        .iter()
        .map(|it| it["problem"]["code"].as_str())
        .collect();
    assert_eq!(
        codes,
        [
            None,
            Some("nothing_to_promote"),
            None,
            Some("not_found"),
            Some("not_found")
        ]
    );
    assert_eq!(results[0]["workspace"], team.workspace);
    assert_eq!(results[2]["workspace"], team.neighbours_workspace);
    assert_eq!(results[3]["workspace"], Value::Null);
    assert_eq!(
        results[3]["problem"]["detail"],
        results[4]["problem"]["detail"]
    );
    // The same request again proposes nothing twice.
    let call = server.post(&path).bearer(&team.admin.token);
    let again = call
        .header("Idempotency-Key", "roll-out-1")
        .json(&body)
        .await
        .expect(200);
    for place in [0, 2] {
        let id = |reply: &Reply| reply.body["data"][place]["promotion"]["id"].clone();
        assert_eq!(id(&again), id(&report));
    }
    // Each target is approved where it lies.
    let there = text(&results[2], "/promotion/id");
    let act = |by: &Person, act: &str| {
        let path = format!("{theirs}/promotions/{there}/{act}");
        server.post(&path).bearer(&by.token)
    };
    problem(&act(&team.admin, "approve").await, 403, "own_proposal");
    problem(&act(&team.owner, "approve").await, 404, "not_found");
    act(&team.neighbour, "approve").await.expect(200);
    act(&team.neighbour, "apply").await.expect(200);
    let call = server.get(&format!("{theirs}/crews/{clients}/export"));
    let exported = call.bearer(&team.neighbour.token).await.expect(200);
    assert_eq!(exported.text, shop.export(&template).await.text);
    // Nothing of the template's workspace is told there.
    let call = server.get(&format!("{theirs}/promotions/{there}"));
    let read = call.bearer(&team.neighbour.token).await.expect(200);
    assert!(!read.text.contains(&template) && !read.text.contains(&team.workspace));
    super::held(&store);
}

async fn bundles(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let shop = Shop {
        server: &server,
        team: &team,
    };
    let production = team.crew(&server, "production").await;
    let propose = async |bundle: Value| {
        let body = json!({"bundle": bundle, "target": production, "reason": "From a file"});
        shop.propose_with(&team.member, body).await
    };
    let one = |config: Value| json!({"format": "crewlog/bundle/1", "agents": {"A/b": config}});
    let id = format!("call {production} first");
    for (bundle, pointer, code) in [
        (
            json!({"format": "2", "agents": {}}),
            "/bundle/format",
            "invalid_value",
        ),
        (
            json!({"format": "crewlog/bundle/1", "crews": {}}),
            "/bundle/crews",
            "unknown_field",
        ),
        (one(json!([])), "/bundle/agents/A~1b", "wrong_type"),
        (
            one(json!({"k": {"$slot": "crm"}})),
            "/bundle/agents/A~1b/k/$slot",
            "invalid_value",
        ),
        (
            one(json!({"k": id})),
            "/bundle/agents/A~1b/k",
            "invalid_value",
        ),
        (
            one(json!({"k": format!("ghp_{}", "a1".repeat(18))})),
            "/bundle/agents/A~1b/k",
            "secret_found",
        ),
        (
            one(json!({"k": "x".repeat(256 * 1024)})),
            "/bundle/agents/A~1b",
            "invalid_value",
        ),
    ] {
        points_at(&propose(bundle).await, pointer, &[code]);
    }
    // Ids in a crew are found when they would leave it.
    let staging = team.crew(&server, "staging").await;
    shop.agent(
        &staging,
        "Caller",
        json!({"number": "num_01arz3ndektsv4rrffq69g5fav"}),
    )
    .await;
    let refused = shop.propose(&team.member, &staging, &production).await;
    problem(&refused, 409, "not_portable");
    assert!(
        refused.text.contains("/agents/Caller/number"),
        "{}",
        refused.text
    );
    let path = team.path(&format!("/crews/{staging}/export"));
    let call = server.get(&path).bearer(&team.viewer.token);
    problem(&call.await, 409, "not_portable");
    // A crew, and a bundle: one of them.
    let both = json!({
        "source": staging, "bundle": one(json!({})), "target": production, "reason": "Both",
    });
    points_at(
        &shop.propose_with(&team.member, both).await,
        "/bundle",
        &["invalid_value"],
    );
    let neither = json!({"target": production, "reason": "Neither"});
    points_at(
        &shop.propose_with(&team.member, neither).await,
        "",
        &["missing_field"],
    );
    let itself = shop.propose(&team.member, &production, &production).await;
    points_at(&itself, "/source", &["invalid_value"]);
    super::held(&store);
}
