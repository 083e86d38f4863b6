//! The life of an API key, as a gateway and a team see it.

use serde_json::{Value, json};

use super::Running;
use super::routes::problem;
use super::team::{Person, Team, text};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "a_key_is_made_used_rotated_and_revoked", life),
        both("edge", "a_gateway_is_told_what_is_wrong", verdicts),
        both(
            "edge",
            "a_key_of_an_organization_makes_workspaces",
            makes_workspaces,
        ),
        both("edge", "keys_become_due_to_be_rotated", rotation),
        both("edge", "can_says_why_of_keys", can_of_keys),
        both("edge", "can_knows_which_crews", can_in_crews),
        both("edge", "a_key_that_is_over_is_told_of", over),
    ]
}

/// Well-formed, and nobody's.
const NOBODYS: &str = "crew_prod_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg0eaIx4";

async fn new_key(server: &Server, team: &Team, by: &Person, more: Value) -> Value {
    let mut body = json!({
        "name": "Deploys", "environment": "production", "scopes": ["audit:read"],
    });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let call = server.post(&team.path("/api-keys")).bearer(&by.token);
    call.json(body).await.expect(201).body
}

async fn asked(server: &Server, question: Value) -> Value {
    let reply = server.post("/v1/api-keys/verify").json(question);
    reply.await.expect(200).body
}

async fn code(server: &Server, question: Value) -> String {
    let verdict = asked(server, question).await;
    assert_eq!(verdict["valid"], verdict["code"] == "valid", "{verdict}");
    text(&verdict, "/code")
}

async fn life(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let key = new_key(&server, &team, &team.admin, json!({})).await;
    let (secret, id) = (text(&key, "/secret"), text(&key, "/id"));
    assert!(secret.starts_with(&text(&key, "/prefix")));
    let path = team.path(&format!("/api-keys/{id}"));
    let read = async || {
        let reply = server.get(&path).bearer(&team.owner.token).await;
        reply.expect(200).body
    };
    assert_eq!(read().await["last_used_at"], Value::Null);

    // It says who it is, and reads what its scope says.
    let me = server.get("/v1/me").bearer(&secret).await.expect(200).body;
    assert_eq!(
        (&me["id"], &me["environment"]),
        (&json!(id), &json!("production"))
    );
    let audit = team.path("/audit");
    server.get(&audit).bearer(&secret).await.expect(200);
    let refused = server.get(&team.path("/members")).bearer(&secret).await;
    problem(&refused, 403, "scope_missing");
    assert!(read().await["last_used_at"].is_string());
    let renamed = server.patch(&path).bearer(&team.owner.token);
    renamed.json(json!({"name": "Releases"})).await.expect(200);
    let denied = format!("{audit}?outcome=denied&actor={id}");
    let denied = server
        .get(&denied)
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let entry = &denied.body["data"][0];
    assert_eq!(entry["action"], "member.read", "{}", denied.text);
    assert_eq!(
        entry["actor"],
        json!({"type": "api_key", "id": id, "name": "Deploys"}),
        "as it was called then"
    );
    assert_eq!(entry["environment"], "production", "that of the key");

    // It outlives the membership of who made it.
    let maker = team.path(&format!("/members/{}", team.admin.user));
    server
        .delete(&maker)
        .bearer(&team.owner.token)
        .await
        .expect(204);
    assert_eq!(code(&server, json!({"key": secret})).await, "valid");

    // Both live until the grace is over, or somebody revokes.
    let rotate = server
        .post(&format!("{path}/rotate"))
        .bearer(&team.owner.token);
    let successor = rotate
        .json(json!({"grace_seconds": 3600}))
        .await
        .expect(201)
        .body;
    assert_eq!(successor["rotated_from"], json!(id));
    assert!(successor["predecessor"]["expires_at"].is_string());
    assert_eq!(read().await["status"], "rotating");
    let next = text(&successor, "/secret");
    for secret in [&secret, &next] {
        assert_eq!(code(&server, json!({"key": secret})).await, "valid");
    }
    server
        .delete(&path)
        .bearer(&team.owner.token)
        .await
        .expect(200);
    assert_eq!(code(&server, json!({"key": secret})).await, "revoked");
    let over = server.get("/v1/me").bearer(&secret).await;
    problem(&over, 401, "unauthenticated");
    let again = server.delete(&path).bearer(&team.owner.token).await;
    problem(&again, 409, "api_key_not_active");

    // All of it is found by the key's environment, and by its name of then.
    let told = async |filter: &str| {
        let list = format!("{audit}?outcome=ok&order=asc&{filter}");
        let page = server
            .get(&list)
            .bearer(&team.owner.token)
            .await
            .expect(200);
        let entries = page.body["data"].as_array().expect("a list").clone();
        let of = |entry: &Value| (text(entry, "/action"), text(entry, "/target/name"));
        entries.iter().map(of).collect::<Vec<_>>()
    };
    let of = |action: &str, name: &str| (format!("api_key.{action}"), name.to_owned());
    let life = [
        of("created", "Deploys"),
        of("updated", "Releases"),
        of("rotated", "Releases"),
        of("created", "Releases"),
        of("revoked", "Releases"),
    ];
    assert_eq!(told("environment=production").await, life);
    assert_eq!(told("environment=staging").await, []);
    assert_eq!(told("q=Releases").await, life[1..]);

    // It ends with its workspace.
    let workspace = team.path("");
    let read = server
        .get(&workspace)
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let delete = server.delete(&workspace).bearer(&team.owner.token);
    let confirm = json!({"confirm": text(&read.body, "/name")});
    delete.json(confirm).await.expect(204);
    assert_eq!(code(&server, json!({"key": next})).await, "revoked");
    problem(
        &server.get("/v1/me").bearer(&next).await,
        401,
        "unauthenticated",
    );
    super::held(&store);
}

async fn verdicts(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "production").await;
    let key = new_key(
        &server,
        &team,
        &team.owner,
        json!({"allowed_cidrs": ["203.0.113.0/24"], "crews": [&crew]}),
    )
    .await;
    let secret = text(&key, "/secret");
    let verdict = asked(
        &server,
        json!({
            "key": secret, "environment": "production", "scope": "audit:read",
            "ip": "203.0.113.9", "crew": crew,
        }),
    )
    .await;
    assert_eq!(verdict["code"], "valid", "{verdict}");
    assert_eq!(verdict["key_id"], key["id"]);
    assert_eq!(verdict["workspace"], json!(team.workspace));
    assert_eq!(verdict["scopes"], json!(["audit:read"]));
    let mut mistyped = secret.clone();
    let last = mistyped.pop().expect("a character");
    mistyped.push(if last == '0' { '1' } else { '0' });
    for (question, told) in [
        (json!({"key": mistyped}), "malformed"),
        (json!({"key": "crew_prod_"}), "malformed"),
        (json!({"key": team.owner.token}), "malformed"),
        (json!({"key": NOBODYS}), "unknown"),
        (
            json!({"key": secret, "environment": "staging"}),
            "wrong_environment",
        ),
        (
            json!({"key": secret, "crew": "crw_00000000000000000000000002"}),
            "crew_not_allowed",
        ),
        (
            json!({"key": secret, "scope": "members:read"}),
            "scope_missing",
        ),
        (
            json!({"key": secret, "ip": "198.51.100.1"}),
            "ip_not_allowed",
        ),
    ] {
        assert_eq!(code(&server, question).await, told);
    }
    // From where it may not be used, it is refused, and the attempt kept.
    let refused = server.get("/v1/me").bearer(&secret).await;
    problem(&refused, 403, "ip_not_allowed");
    super::held(&store);
}

async fn makes_workspaces(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let keys = format!("/v1/organizations/{}/api-keys", team.organization);
    let new = json!({"name": "Platform", "scopes": ["workspaces:create", "workspaces:read"]});
    let key = server
        .post(&keys)
        .bearer(&team.organization_owner.token)
        .json(new);
    let secret = text(&key.await.expect(201).body, "/secret");
    let path = format!("/v1/organizations/{}/workspaces", team.organization);
    let make = |body: Value| server.post(&path).bearer(&secret).json(body);
    let unowned = make(json!({"name": "Client A"})).await;
    problem(&unowned, 422, "invalid_body");
    let owner = &team.stranger;
    let body = json!({"name": "Client A", "owner": owner.user});
    let call = || make(body.clone()).header("Idempotency-Key", "client-a");
    let made = call().await.expect(201);
    let again = call().await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(made.body, again.body);
    let workspace = text(&made.body, "/id");

    // Its owner finds it, and is known by name in it; the key sees it, and not into it.
    let members = format!("/v1/workspaces/{workspace}/members");
    let seen = server.get(&members).bearer(&owner.token).await.expect(200);
    assert_eq!(seen.body["data"][0]["role"], "owner");
    assert_eq!(seen.body["data"][0]["name"], json!(owner.name));
    let one = format!("/v1/workspaces/{workspace}");
    server.get(&one).bearer(&secret).await.expect(200);
    problem(
        &server.get(&members).bearer(&secret).await,
        404,
        "not_found",
    );
    let list = server
        .get("/v1/workspaces")
        .bearer(&secret)
        .await
        .expect(200);
    let all = list.body["data"].as_array().expect("a list");
    assert!(all.iter().any(|one| one["id"] == json!(workspace)));
    super::held(&store);
}

async fn rotation(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let key = new_key(&server, &team, &team.owner, json!({})).await;
    assert_eq!(key["rotation_due_at"], Value::Null, "no policy, no date");
    let policy = server.put(&team.path("/policy")).bearer(&team.owner.token);
    policy
        .json(json!({"key_rotation_days": 90}))
        .await
        .expect(200);
    let keys = async |query: &str| {
        let path = format!("{}?{query}", team.path("/api-keys"));
        let page = server
            .get(&path)
            .bearer(&team.admin.token)
            .await
            .expect(200);
        page.body["data"].as_array().expect("a list").clone()
    };
    let time = |value: &Value| -> chrono::DateTime<chrono::Utc> {
        value.as_str().expect("a time").parse().expect("a time")
    };
    let listed = keys("").await;
    let age = time(&listed[0]["rotation_due_at"]) - time(&listed[0]["created_at"]);
    assert_eq!(age, chrono::TimeDelta::days(90));
    assert_eq!(keys("rotation_due=true").await, [] as [Value; 0]);
    assert_eq!(keys("rotation_due=false").await, listed);
    // Whoever has a successor is due no more, and the successor begins anew.
    let path = team.path(&format!("/api-keys/{}/rotate", text(&key, "/id")));
    let rotate = server.post(&path).bearer(&team.owner.token);
    let successor = rotate.json(json!({"grace_seconds": 60})).await.expect(201);
    let age = time(&successor.body["rotation_due_at"]) - time(&successor.body["created_at"]);
    assert_eq!(age, chrono::TimeDelta::days(90));
    assert_eq!(keys("").await[0]["rotation_due_at"], Value::Null);
    let wrong = server
        .get(&team.path("/api-keys?rotation_due=perhaps"))
        .bearer(&team.owner.token);
    problem(&wrong.await, 400, "invalid_request");
    super::held(&store);
}

async fn can_of_keys(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let key = new_key(&server, &team, &team.owner, json!({})).await;
    let id = text(&key, "/id");
    let ask = |by: &Person, principal: &str, action: &str| {
        let call = server.post(&team.path("/can")).bearer(&by.token);
        call.json(json!({"principal": principal, "action": action}))
    };
    let said = async |principal: &str, action: &str| {
        let reply = ask(&team.admin, principal, action).await.expect(200);
        (reply.body["allowed"] == true, text(&reply.body, "/because"))
    };
    let nobodys = "key_00000000000000000000000001";
    for (principal, action, allowed, words) in [
        (
            id.as_str(),
            "audit.read",
            true,
            "its scope audit:read allows",
        ),
        (&id, "workspace.read", true, "an API key for production"),
        (&id, "member.read", false, "takes the scope members:read"),
        (&id, "api_key.manage", false, "for people alone"),
        (
            nobodys,
            "audit.read",
            false,
            "is no API key of the workspace",
        ),
    ] {
        let (may, because) = said(principal, action).await;
        assert_eq!(may, allowed, "{action}: {because}");
        assert!(because.contains(words), "{because}");
        assert!(because.starts_with(principal), "{because}");
    }
    // Who may not see keys is told nothing of them.
    let refused = ask(&team.viewer, &id, "audit.read").await;
    problem(&refused, 403, "not_permitted");
    let wrong = ask(&team.admin, "org_00000000000000000000000001", "audit.read").await;
    problem(&wrong, 422, "invalid_body");
    let revoke = server.delete(&team.path(&format!("/api-keys/{id}")));
    revoke.bearer(&team.owner.token).await.expect(200);
    let (may, because) = said(&id, "audit.read").await;
    assert!(!may && because.contains("revoked"), "{because}");
    super::held(&store);
}

/// What `can` says of a key that is bound to crews, and of changes in production.
async fn can_in_crews(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let (named, other) = (
        team.crew(&server, "production").await,
        team.crew(&server, "production").await,
    );
    let staging = team.crew(&server, "staging").await;
    let scopes = json!({"scopes": ["crews:read", "crews:write"], "crews": [&named]});
    let key = new_key(&server, &team, &team.owner, scopes).await;
    let key = text(&key, "/id");
    let said = async |principal: &str, action: &str, crew: &str| {
        let body = json!({"principal": principal, "action": action, "crew": crew});
        let call = server.post(&team.path("/can")).bearer(&team.admin.token);
        let reply = call.json(body).await.expect(200);
        (reply.body["allowed"] == true, text(&reply.body, "/because"))
    };
    let key = key.as_str();
    let (admin, member) = (team.admin.user.as_str(), team.member.user.as_str());
    let bound = "it is bound to other crews";
    let elsewhere = "it does not reach the environment of the crew";
    let protected = "but a production crew is changed by promotion";
    for (principal, action, crew, allowed, words) in [
        (key, "crew.read", &named, true, "its scope crews:read"),
        (key, "crew.read", &other, false, bound),
        (key, "crew.read", &staging, false, elsewhere),
        (key, "crew.edit", &named, false, protected),
        (key, "crew.edit", &other, false, bound),
        (key, "crew.describe", &named, true, "its scope crews:write"),
        (admin, "crew.edit", &named, false, "unless they break glass"),
        (
            member,
            "crew.edit",
            &named,
            false,
            "an owner or admin breaks",
        ),
        (member, "crew.edit", &staging, true, "role member"),
        (member, "production.break_glass", &named, false, "takes the"),
        (admin, "production.break_glass", &named, true, "role admin"),
    ] {
        let (may, because) = said(principal, action, crew).await;
        assert_eq!(may, allowed, "{action}: {because}");
        assert!(because.contains(words), "{because}");
    }
    // What it says is what is decided.
    let agent = json!({"name": "Front desk", "config": {}});
    let path = team.path(&format!("/crews/{named}/agents"));
    let post = |token: &str| server.post(&path).bearer(token).json(agent.clone());
    let refused = post(&team.member.token).await;
    problem(&refused, 409, "production_protected");
    let policy = server.put(&team.path("/policy")).bearer(&team.owner.token);
    let direct = json!({"production_changes": "direct"});
    policy.json(direct).await.expect(200);
    for principal in [key, admin, member] {
        let (may, because) = said(principal, "crew.edit", &named).await;
        assert!(may, "{because}");
    }
    post(&team.member.token).await.expect(201);
    super::held(&store);
}

/// Whoever tries a key that is over learns nothing; those whose it was are told, once a minute.
async fn over(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let key = new_key(&server, &team, &team.owner, json!({})).await;
    let (id, secret) = (text(&key, "/id"), text(&key, "/secret"));
    let revoke = server.delete(&team.path(&format!("/api-keys/{id}")));
    revoke.bearer(&team.owner.token).await.expect(200);
    for path in ["/v1/me".to_owned(), team.path("/audit")] {
        let refused = server.get(&path).bearer(&secret).await;
        problem(&refused, 401, "unauthenticated");
        let unknown = server.get(&path).bearer(NOBODYS).await;
        assert_eq!(
            super::refusals::but_for_the_request(&refused),
            super::refusals::but_for_the_request(&unknown)
        );
    }
    let filter = format!("/audit?outcome=denied&actor={id}");
    let told = server.get(&team.path(&filter)).bearer(&team.owner.token);
    let told = told.await.expect(200);
    let entries = told.body["data"].as_array().expect("a list");
    // Two, where a minute has ended between them.
    assert!(matches!(entries.len(), 1 | 2), "{}", told.text);
    let entry = &entries[0];
    assert_eq!(entry["action"], "api_key.used", "{entry}");
    assert_eq!(entry["target"]["id"], json!(id), "{entry}");
    assert_eq!(entry["environment"], "production", "{entry}");
    let code = json!({"path": "code", "from": null, "to": "api_key_ended"});
    let changes = entry["changes"].as_array().expect("changes");
    assert!(changes.contains(&code), "{entry}");
    super::held(&store);
}
