//! Access reviews from opening to report: who decides about whom, what becomes of each decision,
//! and that access which nobody has looked at is not touched.

mod killed;
mod model;
mod time;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Running;
use super::routes::problem;
use super::team::{Person, Team, number, text};
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    [
        vec![
            both("edge", "a_review_from_opening_to_report", whole),
            both("edge", "nobody_reviews_themselves_by_any_door", doors),
            both("edge", "what_changed_is_shown_again", changed),
            both("edge", "what_nobody_decides_goes_by_the_rule", rule),
            both("edge", "a_rotated_key_stays_under_review", rotated),
            both("edge", "findings_have_their_reasons", findings),
        ],
        killed::trials(),
        model::trials(),
        time::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A campaign over all of a team's access, of whom the owner and the admin review.
pub fn campaign(team: &Team, more: Value) -> Value {
    let mut body = json!({
        "name": format!("Review {}", number()),
        "scope": {"principals": ["members", "api_keys", "auditors"]},
        "reviewers": [team.owner.user, team.admin.user],
        "due_at": team.owner.later, "undecided": "keep",
    });
    super::team::merge(&mut body, more);
    body
}

/// Opens a campaign; answers with its path.
pub async fn opened(server: &Server, team: &Team, more: Value) -> String {
    let call = server.post(&team.path("/access-reviews"));
    let call = call.bearer(&team.owner.token).json(campaign(team, more));
    let made = call.await.expect(201);
    team.path(&format!("/access-reviews/{}", text(&made.body, "/id")))
}

/// Everything that a campaign is about, by id, read page by page.
pub async fn items(server: &Server, team: &Team, path: &str) -> BTreeMap<String, Value> {
    let (mut all, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = server.get(&format!("{path}?limit=3{cursor}"));
        let page = page.bearer(&team.owner.token).await.expect(200).body;
        for item in page["items"]["data"].as_array().expect("a page") {
            let before = all.insert(text(item, "/id"), item.clone());
            assert_eq!(before, None, "no page repeats another");
        }
        match page["items"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn decision(item: &str, decision: &str) -> Value {
    json!({"item": item, "decision": decision, "reason": format!("{decision} it")})
}

async fn decide(server: &Server, path: &str, by: &Person, decisions: Value) -> Reply {
    let call = server.post(&format!("{path}/decisions")).bearer(&by.token);
    call.json(json!({"decisions": decisions})).await
}

async fn close(server: &Server, path: &str, by: &Person) -> Value {
    let call = server.post(&format!("{path}/close")).bearer(&by.token);
    call.await.expect(200).body
}

async fn made_key(
    server: &Server,
    team: &Team,
    by: &Person,
    environment: &str,
) -> (String, String) {
    let call = server.post(&team.path("/api-keys")).bearer(&by.token);
    let body = json!({"name": format!("Key {}", number()), "environment": environment, "scopes": ["audit:read"]});
    let made = call.json(body).await.expect(201).body;
    (text(&made, "/id"), text(&made, "/secret"))
}

async fn entries(server: &Server, team: &Team, filter: &str) -> Vec<Value> {
    let path = team.path(&format!("/audit?order=asc&limit=200&{filter}"));
    let found = server
        .get(&path)
        .bearer(&team.owner.token)
        .await
        .expect(200)
        .body;
    found["data"].as_array().expect("a list").clone()
}

fn change<'a>(entry: &'a Value, path: &str) -> &'a Value {
    let changes = entry["changes"].as_array().expect("changes");
    let found = changes.iter().find(|change| change["path"] == path);
    found.map_or(&Value::Null, |change| &change["to"])
}

async fn whole(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let (key, secret) = made_key(&server, &team, &team.admin, "production").await;
    let (kept, _) = made_key(&server, &team, &team.admin, "development").await;
    let path = opened(&server, &team, json!({})).await;
    let found = items(&server, &team, &path).await;
    let access = server.get(&team.path("/access")).bearer(&team.owner.token);
    let access = access.await.expect(200).body;
    for one in access["principals"].as_array().expect("a list") {
        let of_organization = text(one, "/through").starts_with("organization");
        let item = found.get(&text(one, "/id"));
        assert_eq!(item.is_none(), of_organization, "{one}");
        for field in [
            "name",
            "role",
            "scopes",
            "environments",
            "since",
            "granted_by",
            "granted_at_position",
        ] {
            assert!(
                item.is_none_or(|item| item[field] == one[field]),
                "{field} of {one}"
            );
        }
    }
    assert_eq!(found.len(), 7, "four members, two keys, an auditor");
    assert!(
        found
            .values()
            .all(|item| item["status"] == "undecided" && item["now"].is_null())
    );

    // All that is named is decided, or nothing.
    let (member, viewer) = (&team.member.user, &team.viewer.user);
    let unknown = json!([
        decision(member, "keep"),
        decision(&team.stranger.user, "keep")
    ]);
    problem(
        &decide(&server, &path, &team.owner, unknown).await,
        422,
        "invalid_body",
    );
    let lowered =
        json!({"item": member, "decision": "change", "role": "viewer", "reason": "Reads only"});
    let bulk = json!([
        lowered,
        decision(viewer, "revoke"),
        decision(&key, "revoke"),
        decision(&kept, "keep"),
        decision(&team.auditor.user, "revoke"),
    ]);
    let decided = decide(&server, &path, &team.owner, bulk)
        .await
        .expect(200)
        .body;
    assert_eq!(
        (&decided["decided_count"], &decided["item_count"]),
        (&json!(5), &json!(7))
    );
    let told = items(&server, &team, &path).await;
    assert_eq!(told[member]["decision"]["role"], "viewer");
    assert_eq!(
        told[member]["decision"]["by_name"],
        team.owner.name.as_str()
    );
    assert_eq!(told[viewer]["status"], "decided");
    // Nothing happens before it is closed.
    server
        .get(&team.path(""))
        .bearer(&team.viewer.token)
        .await
        .expect(200);

    let closed = close(&server, &path, &team.admin).await;
    assert_eq!(closed["status"], "closed");
    let end = &closed["closed"];
    let counts = ["kept", "applied", "not_applied"].map(|name| end[name].as_u64());
    assert_eq!(counts, [Some(3), Some(4), Some(0)]);
    assert_eq!(
        close(&server, &path, &team.owner).await,
        closed,
        "twice is once"
    );
    server
        .get(&team.path(""))
        .bearer(&team.viewer.token)
        .await
        .expect(404);
    server
        .get(&team.path("/audit"))
        .bearer(&team.auditor.token)
        .await
        .expect(404);
    server
        .get(&team.path("/audit"))
        .bearer(&secret)
        .await
        .expect(401);
    let after = items(&server, &team, &path).await;
    assert_eq!(after[viewer]["outcome"]["outcome"], "applied");
    assert_eq!(after[&kept]["outcome"]["outcome"], "kept");
    assert_eq!(after[&kept]["outcome"]["position"], Value::Null);

    // Ordinary entries, which point to the campaign.
    let review = path.rsplit('/').next().expect("an id");
    for (action, target) in [
        ("member.role_changed", member),
        ("member.removed", viewer),
        ("api_key.revoked", &key),
        ("auditor.revoked", &team.auditor.user),
    ] {
        let found = entries(&server, &team, &format!("action={action}")).await;
        let last = found.last().expect("an entry");
        assert_eq!(last["target"]["id"], target.as_str(), "{last}");
        assert_eq!(change(last, "access_review"), review, "{last}");
        assert_eq!(last["actor"]["type"], "system", "{last}");
    }
    let told = entries(&server, &team, &format!("target={review}")).await;
    let actions: Vec<_> = told.iter().map(|entry| text(entry, "/action")).collect();
    let expected = [
        vec!["access_review.opened"],
        vec!["access_review.decided"; 5],
        vec!["access_review.closing"],
        vec!["access_review.settled"; 4],
        vec!["access_review.closed"],
    ];
    assert_eq!(actions, expected.concat());
    assert_eq!(change(&told[1], "reason"), "Reads only");
    let late = decide(
        &server,
        &path,
        &team.owner,
        json!([decision(member, "keep")]),
    )
    .await;
    problem(&late, 409, "review_not_open");
    super::held(&store);
}

async fn doors(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    // The admin has a role in the organization too, and has made, changed and rotated keys.
    let officer = format!(
        "/v1/organizations/{}/members/{}",
        team.organization, team.admin.user
    );
    let call = server.put(&officer).bearer(&team.organization_owner.token);
    call.json(json!({"role": "owner"})).await.expect(200);
    let (own, _) = made_key(&server, &team, &team.admin, "production").await;
    let (touched, _) = made_key(&server, &team, &team.owner, "production").await;
    let renamed = server.patch(&team.path(&format!("/api-keys/{touched}")));
    renamed
        .bearer(&team.admin.token)
        .json(json!({"name": "Mine too"}))
        .await
        .expect(200);
    let (turned, _) = made_key(&server, &team, &team.owner, "production").await;
    let turn = server.post(&team.path(&format!("/api-keys/{turned}/rotate")));
    let turn = turn
        .bearer(&team.admin.token)
        .json(json!({"grace_seconds": 3600}));
    let successor = text(&turn.await.expect(201).body, "/id");
    let path = opened(&server, &team, json!({})).await;
    let own_access = [&team.admin.user, &own, &touched, &turned, &successor];
    for item in own_access {
        for verdict in ["keep", "revoke"] {
            let bulk = json!([decision(&team.viewer.user, "keep"), decision(item, verdict)]);
            let reply = decide(&server, &path, &team.admin, bulk).await;
            problem(&reply, 403, "self_review");
            assert!(
                reply.text.contains(item.as_str()),
                "it names {item}: {}",
                reply.text
            );
        }
    }
    let found = items(&server, &team, &path).await;
    assert!(
        found.values().all(|item| item["decision"].is_null()),
        "none of it was decided"
    );
    // Who is no reviewer decides nothing, whatever they may otherwise; nor does a key, ever.
    let third = team.joined(&server, "owner").await;
    let bulk = json!([decision(&team.viewer.user, "keep")]);
    problem(
        &decide(&server, &path, &third, bulk.clone()).await,
        403,
        "not_reviewer",
    );
    let (_, secret) = made_key(&server, &team, &third, "production").await;
    let call = server.post(&format!("{path}/decisions")).bearer(&secret);
    problem(
        &call.json(json!({"decisions": bulk})).await,
        403,
        "not_for_api_keys",
    );
    // Nobody decides what they could not do.
    let above = decide(
        &server,
        &path,
        &team.admin,
        json!([decision(&team.owner.user, "revoke")]),
    );
    problem(&above.await, 403, "role_above_own");
    // The other reviewer decides about all of it, but for what is theirs as well.
    let bulk = json!([decision(&team.admin.user, "keep"), decision(&own, "revoke")]);
    decide(&server, &path, &team.owner, bulk).await.expect(200);
    for item in [&touched, &turned, &successor] {
        let reply = decide(&server, &path, &team.owner, json!([decision(item, "keep")])).await;
        problem(&reply, 403, "self_review");
    }
    // Whoever is no owner and no admin reviews nothing.
    let by = json!({"reviewers": [team.owner.user, team.organization_owner.user]});
    let call = server
        .post(&team.path("/access-reviews"))
        .bearer(&team.owner.token);
    let reply = call.json(campaign(&team, by)).await;
    problem(&reply, 422, "invalid_body");
    let denied = entries(
        &server,
        &team,
        "outcome=denied&action=access_review.decided",
    )
    .await;
    let codes: Vec<_> = denied
        .iter()
        .map(|entry| entry["actor"]["id"].clone())
        .collect();
    assert!(codes.contains(&json!(team.admin.user)) && codes.contains(&json!(third.user)));
    super::held(&store);
}

async fn changed(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let path = opened(&server, &team, json!({})).await;
    let (member, viewer) = (&team.member.user, &team.viewer.user);
    let role = async |user: &str, role: &str| {
        let call = server.patch(&team.path(&format!("/members/{user}")));
        let call = call.bearer(&team.owner.token).json(json!({"role": role}));
        call.await.expect(200);
    };
    // It changed before anybody looked: it is decided about as what it is now, or not at all.
    role(member, "admin").await;
    let blind = decide(
        &server,
        &path,
        &team.owner,
        json!([decision(member, "keep")]),
    )
    .await;
    problem(&blind, 409, "access_changed");
    let told = items(&server, &team, &path).await;
    assert_eq!(
        (&told[member]["status"], &told[member]["role"]),
        (&json!("changed"), &json!("member"))
    );
    assert_eq!(told[member]["now"]["role"], "admin");
    let mut seen = decision(member, "revoke");
    seen["seen_at"] = told[member]["seen_at"].clone();
    decide(&server, &path, &team.owner, json!([seen]))
        .await
        .expect(200);
    // It changes after that: closing touches what is as it was seen, and shows the other again.
    decide(
        &server,
        &path,
        &team.owner,
        json!([decision(viewer, "revoke")]),
    )
    .await
    .expect(200);
    role(member, "viewer").await;
    let key = format!("key-{}", number());
    let close_once = || {
        let call = server.post(&format!("{path}/close"));
        call.bearer(&team.owner.token)
            .header("Idempotency-Key", &key)
    };
    let reopened = close_once().await.expect(200);
    // Asked again, it is told no earlier position: there it is open again.
    let again = close_once().await.expect(200);
    let position = |reply: &Reply| {
        let position = reply.header("crewlog-position").expect("a position");
        position.parse::<u64>().expect("a number")
    };
    assert_eq!(position(&again), position(&reopened));
    assert_eq!(again.body, reopened.body);
    let reopened = reopened.body;
    assert_eq!(
        (&reopened["status"], &reopened["decided_count"]),
        (&json!("open"), &json!(1))
    );
    let again = items(&server, &team, &path).await;
    assert_eq!(again[viewer]["status"], "settled");
    assert_eq!(again[member]["status"], "changed");
    assert_eq!(again[member]["decision"], Value::Null);
    server
        .get(&team.path(""))
        .bearer(&team.member.token)
        .await
        .expect(200);
    let done = decide(
        &server,
        &path,
        &team.owner,
        json!([decision(viewer, "keep")]),
    )
    .await;
    problem(&done, 409, "access_settled");
    // Seen once more, it is carried out.
    let mut seen = decision(member, "revoke");
    seen["seen_at"] = again[member]["seen_at"].clone();
    decide(&server, &path, &team.admin, json!([seen]))
        .await
        .expect(200);
    let closed = close(&server, &path, &team.owner).await;
    assert_eq!(
        (&closed["status"], &closed["closed"]["applied"]),
        (&json!("closed"), &json!(2))
    );
    server
        .get(&team.path(""))
        .bearer(&team.member.token)
        .await
        .expect(404);
    let told = entries(&server, &team, "action=access_review.reopened").await;
    assert_eq!(change(&told[0], "returned"), &json!([member]));
    super::held(&store);
}

async fn rule(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let more = json!({"undecided": "revoke", "scope": {"principals": ["members"]}});
    let path = opened(&server, &team, more).await;
    // Joined since: no business of this campaign.
    let newcomer = team.joined(&server, "viewer").await;
    let changed = &team.viewer.user;
    let call = server.patch(&team.path(&format!("/members/{changed}")));
    call.bearer(&team.owner.token)
        .json(json!({"role": "member"}))
        .await
        .expect(200);
    decide(
        &server,
        &path,
        &team.admin,
        json!([decision(&team.owner.user, "keep")]),
    )
    .await
    .expect(200);
    let closed = close(&server, &path, &team.owner).await;
    assert_eq!(closed["status"], "closed");
    let told = items(&server, &team, &path).await;
    let outcome = |person: &Person| told[&person.user]["outcome"]["outcome"].clone();
    assert_eq!(outcome(&team.owner), "kept");
    assert_eq!(outcome(&team.admin), "applied");
    assert_eq!(outcome(&team.member), "applied");
    assert_eq!(
        outcome(&team.viewer),
        "changed",
        "nobody has looked at what it is now"
    );
    server
        .get(&team.path(""))
        .bearer(&newcomer.token)
        .await
        .expect(200);
    server
        .get(&team.path(""))
        .bearer(&team.member.token)
        .await
        .expect(404);

    // The last owner stays, whoever decided what; nobody is revoked by themselves.
    let owner = team.joined(&server, "owner").await;
    let more =
        json!({"reviewers": [team.owner.user, owner.user], "scope": {"principals": ["members"]}});
    let path = opened(&server, &team, more).await;
    let out = json!([decision(&team.owner.user, "revoke")]);
    decide(&server, &path, &owner, out).await.expect(200);
    let out = json!([decision(&owner.user, "revoke")]);
    decide(&server, &path, &team.owner, out).await.expect(200);
    let closed = close(&server, &path, &team.owner).await;
    let counts = ["applied", "not_applied"].map(|name| closed["closed"][name].as_u64());
    assert_eq!(counts, [Some(1), Some(1)], "{closed}");
    let mut left = 0;
    for person in [&team.owner, &owner] {
        let reply = server
            .get(&team.path("/members"))
            .bearer(&person.token)
            .await;
        left += u64::from(reply.status == 200);
    }
    assert_eq!(left, 1, "one owner is left");
    super::held(&store);
}

async fn rotated(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let (key, first) = made_key(&server, &team, &team.admin, "production").await;
    let path = opened(&server, &team, json!({})).await;
    let turn = server.post(&team.path(&format!("/api-keys/{key}/rotate")));
    let turn = turn
        .bearer(&team.admin.token)
        .json(json!({"grace_seconds": 3600}));
    let turned = turn.await.expect(201).body;
    let (successor, second) = (text(&turned, "/id"), text(&turned, "/secret"));
    let told = items(&server, &team, &path).await;
    assert_eq!(told[&key]["status"], "changed");
    assert_eq!(told[&key]["now"]["keys"], json!([key, successor]));
    problem(
        &decide(
            &server,
            &path,
            &team.owner,
            json!([decision(&key, "revoke")]),
        )
        .await,
        409,
        "access_changed",
    );
    let mut seen = decision(&key, "revoke");
    seen["seen_at"] = told[&key]["seen_at"].clone();
    problem(
        &decide(&server, &path, &team.admin, json!([seen])).await,
        403,
        "self_review",
    );
    decide(&server, &path, &team.owner, json!([seen]))
        .await
        .expect(200);
    let closed = close(&server, &path, &team.owner).await;
    assert_eq!(closed["closed"]["applied"], 1);
    for secret in [first, second] {
        server
            .get(&team.path("/audit"))
            .bearer(&secret)
            .await
            .expect(401);
    }
    super::held(&store);
}

async fn findings(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "production").await;
    let agent = json!({"name": "Greeter", "config": {"greeting": "Hello"}, "break_glass": {"reason": "An outage"}});
    let call = server.post(&team.path(&format!("/crews/{crew}/agents")));
    call.bearer(&team.admin.token).json(agent).await.expect(201);
    let leaver = team.joined(&server, "admin").await;
    let (orphan, _) = made_key(&server, &team, &leaver, "production").await;
    let leave = server.delete(&team.path(&format!("/members/{}", leaver.user)));
    leave.bearer(&leaver.token).await.expect(204);
    made_key(&server, &team, &team.admin, "development").await;
    let more = json!({"scope": {"principals": ["members", "api_keys", "auditors"], "environment": "production"}});
    let path = opened(&server, &team, more).await;
    let told = items(&server, &team, &path).await;
    assert_eq!(told.len(), 5, "four members and the key of production");
    let codes = |item: &Value| -> Vec<String> {
        let found = item["findings"].as_array().expect("findings").iter();
        found.map(|finding| text(finding, "/code")).collect()
    };
    assert_eq!(codes(&told[&orphan]), ["creator_is_gone"]);
    assert_eq!(
        told[&orphan]["recommended"],
        Value::Null,
        "somebody has to look"
    );
    assert_eq!(codes(&told[&team.admin.user]), ["broke_glass"]);
    assert_eq!(codes(&told[&team.owner.user]), ["last_owner"]);
    assert_eq!(
        told[&team.owner.user]["recommended"],
        json!({"decision": "keep"})
    );
    assert_eq!(codes(&told[&team.viewer.user]), Vec::<String>::new());
    let decided = json!([decision(&team.admin.user, "keep")]);
    decide(&server, &path, &team.owner, decided)
        .await
        .expect(200);
    // What the reviewer was told is in the log.
    let found = entries(&server, &team, "action=access_review.decided").await;
    assert_eq!(change(&found[0], "findings"), &json!(["broke_glass"]));
    super::held(&store);
}
