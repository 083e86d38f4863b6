//! Workspaces that are handed over and deleted, their policy and their auditors, roles for a time,
//! who has a role in an organization, and whether somebody may do something.

use serde_json::{Value, json};

use super::Running;
use super::routes::{points_at, problem};
use super::team::{Person, Team, accept, address, grant, invite, invited, text};
use crate::support::server::{Call, Server};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "a_workspace_is_handed_over", handed_over),
        both("edge", "a_workspace_is_deleted", deleted),
        both("edge", "a_policy_is_a_resource", policy),
        both("edge", "auditors_read_and_nothing_else", auditors),
        both("edge", "a_role_may_be_for_a_time", for_a_time),
        both("edge", "an_organization_has_members", organization_members),
        both("edge", "it_is_told_who_may_and_why", who_may),
    ]
}

/// An end that is past, whatever the clock says, and one that is too far away.
const PAST: &str = "2020-01-01T00:00:00Z";
const FAR: &str = "2199-01-01T00:00:00Z";

fn role(team: &Team, server: &Server, by: &Person, of: &Person, body: Value) -> Call {
    let path = team.path(&format!("/members/{}", of.user));
    server.patch(&path).bearer(&by.token).json(body)
}

/// What was done, newest first; refused attempts are left out.
async fn audit_of(server: &Server, path: &str, reader: &Person, action: &str) -> Vec<Value> {
    let path = format!("{path}/audit?action={action}&outcome=ok");
    let page = server.get(&path).bearer(&reader.token).await.expect(200);
    page.body["data"].as_array().expect("a list").clone()
}

async fn handed_over(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let transfer = |by: &Person, to: &Person| {
        let call = server.post(&team.path("/transfer-ownership"));
        call.bearer(&by.token)
            .json(json!({"user": to.user, "reason": "Moving on"}))
    };
    let (owner, member) = (&team.owner, &team.member);
    problem(&transfer(owner, &team.stranger).await, 409, "not_a_member");
    problem(&transfer(owner, owner).await, 409, "transfer_to_oneself");
    problem(&transfer(&team.admin, member).await, 403, "not_permitted");
    let done = transfer(owner, member).await.expect(200);
    assert_eq!(done.body["id"], team.workspace.as_str());
    for (person, role) in [(member, "owner"), (owner, "admin")] {
        let path = team.path(&format!("/members/{}", person.user));
        let read = server.get(&path).bearer(&member.token).await.expect(200);
        assert_eq!(read.body["role"], role);
    }
    problem(&transfer(owner, &team.admin).await, 403, "not_permitted");
    let told = audit_of(&server, &team.path(""), member, "ownership.transferred").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["reason"], "Moving on");
    let change = json!({"path": "owner", "from": owner.user, "to": member.user});
    assert_eq!(told[0]["changes"], json!([change]));
    let changed = audit_of(&server, &team.path(""), member, "member.role_changed").await;
    let targets: Vec<_> = changed.iter().map(|one| text(one, "/target/id")).collect();
    assert_eq!(targets, [owner.user.clone(), member.user.clone()]);
    super::held(&store);
}

async fn deleted(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    // Another process knows the workspace, where there can be one.
    let other = match store.kind() {
        StoreKind::Postgres => Some(Server::start(&store).await),
        StoreKind::Sqlite => None,
    };
    let servers: Vec<_> = [&server].into_iter().chain(other.as_ref()).collect();
    for server in &servers {
        let read = server.get(&team.path("")).bearer(&team.viewer.token);
        read.await.expect(200);
    }
    let pending = invited(
        &server,
        &team.workspace,
        &team.owner,
        &address("late"),
        "viewer",
    )
    .await;
    let of_stranger = &team.stranger.email;
    let declined = invited(&server, &team.workspace, &team.owner, of_stranger, "viewer").await;
    let body = json!({"token": declined});
    server
        .post("/v1/invitations/decline")
        .json(&body)
        .await
        .expect(200);
    let read = server.get(&team.path("")).bearer(&team.owner.token).await;
    let name = text(&read.expect(200).body, "/name");
    let delete = |by: &Person, confirm: &str| {
        let call = server.delete(&team.path("")).bearer(&by.token);
        call.header("Idempotency-Key", "once")
            .json(json!({"confirm": confirm, "reason": "Over"}))
    };
    points_at(
        &delete(&team.owner, "something else").await,
        "/confirm",
        &["invalid_value"],
    );
    problem(&delete(&team.admin, &name).await, 403, "not_permitted");
    let position = delete(&team.owner, &name).await.expect(204);
    let position = position.header("crewlog-position").expect("a position");

    for server in &servers {
        for person in [
            &team.owner,
            &team.admin,
            &team.viewer,
            &team.auditor,
            &team.organization_owner,
        ] {
            for call in [
                server.get(&team.path("")),
                server.get(&team.path("/members")),
                server.get(&team.path("/audit")),
                server.get(&team.path("/policy")),
                server.patch(&team.path("")).json(json!({"name": "Mine"})),
                server.delete(&team.path(&format!("/members/{}", person.user))),
                server.delete(&team.path("")).json(json!({"confirm": name})),
            ] {
                let call = call.header("Crewlog-Position", position);
                problem(&call.bearer(&person.token).await, 404, "not_found");
            }
            let list = server.get("/v1/workspaces").bearer(&person.token);
            assert_eq!(list.await.expect(200).body["data"], json!([]));
        }
        for token in [&pending, &declined] {
            problem(
                &accept(server, &team.stranger, token).await,
                404,
                "not_found",
            );
            let decline = server.post("/v1/invitations/decline");
            let decline = decline.json(json!({"token": token})).await;
            problem(&decline, 404, "not_found");
        }
    }
    let again = delete(&team.owner, &name).await.expect(204);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    // Its history is the organization's to read, and nothing has come after its end.
    let path = format!("/v1/organizations/{}", team.organization);
    let boss = &team.organization_owner;
    let told = audit_of(&server, &path, boss, "workspace.deleted").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["target"]["id"], team.workspace.as_str());
    assert_eq!(told[0]["reason"], "Over");
    assert_eq!(told[0]["actor"]["id"], team.owner.user.as_str());
    assert_eq!(audit_of(&server, &path, boss, "member.left").await.len(), 2);
    let after = server
        .get(&format!("{path}/audit?after={position}"))
        .bearer(&boss.token);
    let after = after.await.expect(200);
    assert_eq!(after.body["data"], json!([]), "no attempts are kept in it");
    drop(other);
    super::held(&store);
}

async fn policy(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let path = team.path("/policy");
    let put = |by: &Person, body: Value| server.put(&path).bearer(&by.token).json(body);
    let first = server.get(&path).bearer(&team.viewer.token).await;
    let first = first.expect(200);
    let decided = |body: &Value| {
        json!([
            body["production_changes"],
            body["approvals_needed"],
            body["self_approval"],
            body["key_rotation_days"],
        ])
    };
    assert_eq!(
        decided(&first.body),
        json!(["promotion_only", 1, false, null])
    );
    assert_eq!(first.header("etag"), Some("\"1\""));
    let strict = json!({
        "production_changes": "direct", "approvals_needed": 10, "self_approval": true,
        "key_rotation_days": 3650,
    });
    problem(
        &put(&team.admin, strict.clone()).await,
        403,
        "not_permitted",
    );
    for (field, value) in [
        ("approvals_needed", json!(11)),
        ("approvals_needed", json!(-1)),
        ("key_rotation_days", json!(0)),
        ("key_rotation_days", json!(3_651)),
        ("production_changes", json!("sometimes")),
    ] {
        let mut body = strict.clone();
        body[field] = value;
        let reply = put(&team.owner, body).await;
        points_at(
            &reply,
            &format!("/{field}"),
            &["invalid_value", "wrong_type"],
        );
    }
    let changed = put(&team.owner, strict).await.expect(200);
    assert_eq!(decided(&changed.body), json!(["direct", 10, true, 3650]));
    let tag = changed.header("etag").expect("a version").to_owned();
    let stale = put(&team.owner, json!({})).header("If-Match", "\"1\"");
    problem(&stale.await, 412, "precondition_failed");
    // A rename is none of its business.
    let rename = server.patch(&team.path("")).bearer(&team.owner.token);
    rename.json(json!({"name": "Renamed"})).await.expect(200);
    let back = put(&team.owner, json!({})).header("If-Match", &tag);
    let back = back.await.expect(200);
    assert_eq!(decided(&back.body), decided(&first.body));
    let told = audit_of(&server, &team.path(""), &team.owner, "policy.changed").await;
    assert_eq!(told.len(), 2);
    let change = json!({"path": "approvals_needed", "from": 1, "to": 10});
    let changes = told[1]["changes"].as_array().expect("changes");
    assert!(changes.contains(&change), "{changes:?}");
    super::held(&store);
}

async fn auditors(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let (admin, auditor) = (&team.admin, &team.stranger);
    let path = team.path("/auditors");
    let ask = |email: &str, expires_at: &str| {
        let call = server.post(&path).bearer(&admin.token);
        call.json(json!({"email": email, "expires_at": expires_at}))
    };
    problem(
        &ask(&address("nobody"), &admin.later).await,
        409,
        "no_such_account",
    );
    problem(
        &ask(&team.viewer.email, &admin.later).await,
        409,
        "already_member",
    );
    for wrong in [PAST, FAR] {
        let reply = ask(&auditor.email, wrong).await;
        points_at(&reply, "/expires_at", &["invalid_value"]);
    }
    // Whether somebody has an account is not for everybody to know.
    let probe = server.post(&path).bearer(&team.member.token);
    let probe = probe.json(json!({"email": address("nobody"), "expires_at": admin.later}));
    problem(&probe.await, 403, "not_permitted");

    let made = ask(&auditor.email.to_uppercase(), &admin.later).await;
    let made = made.expect(201);
    assert_eq!(made.body["user"], auditor.user.as_str());
    assert_eq!(made.body["email"], auditor.email.as_str());
    assert_eq!(made.body["name"], auditor.name.as_str());
    assert_eq!(made.body["expires_at"], admin.later.as_str());
    assert_eq!(made.body["granted_by"], admin.user.as_str());
    problem(
        &ask(&auditor.email, &admin.later).await,
        409,
        "already_exists",
    );
    for readable in ["", "/audit", "/audit?action=auditor.granted"] {
        let read = server.get(&team.path(readable)).bearer(&auditor.token);
        read.await.expect(200);
    }
    for hidden in ["/members", "/policy", "/auditors", "/invitations"] {
        let read = server.get(&team.path(hidden)).bearer(&auditor.token).await;
        problem(&read, 403, "not_permitted");
    }
    let list = server.get("/v1/workspaces").bearer(&auditor.token).await;
    assert_eq!(
        list.expect(200).body["data"][0]["id"],
        team.workspace.as_str()
    );
    let told = audit_of(&server, &team.path(""), auditor, "auditor.granted").await;
    assert_eq!(told[0]["target"]["name"], auditor.name.as_str());

    let own = format!("{path}/{}", auditor.user);
    let revoke = || server.delete(&own).bearer(&team.owner.token);
    revoke().await.expect(204);
    problem(&revoke().await, 404, "not_found");
    for call in [server.get(&team.path("")), server.get(&team.path("/audit"))] {
        problem(&call.bearer(&auditor.token).await, 404, "not_found");
    }
    let list = server.get("/v1/workspaces").bearer(&auditor.token).await;
    assert_eq!(list.expect(200).body["data"], json!([]));
    // An auditor gives up their own grant, and nobody else's.
    ask(&auditor.email, &admin.later).await.expect(201);
    let other = server.delete(&format!("{path}/{}", team.auditor.user));
    problem(&other.bearer(&auditor.token).await, 403, "not_permitted");
    let give_up = || server.delete(&own).bearer(&auditor.token);
    give_up().await.expect(204);
    problem(&give_up().await, 404, "not_found");
    let told = audit_of(&server, &team.path(""), admin, "auditor.revoked").await;
    assert_eq!(told[0]["actor"]["id"], auditor.user.as_str());
    // Who comes in as a member has what members have, and nothing else.
    ask(&auditor.email, &admin.later).await.expect(201);
    team.join(&server, auditor, "viewer").await;
    let read = server.get(&team.path("/audit")).bearer(&auditor.token);
    problem(&read.await, 403, "not_permitted");
    let gone = server.get(&own).bearer(&admin.token).await;
    problem(&gone, 404, "not_found");
    invited_first(&server, &team).await;
    super::held(&store);
}

/// Somebody who was invited before they had an account is one person to the organization.
async fn invited_first(server: &Server, team: &Team) {
    let email = address("invited-first");
    let first = invite(server, &team.workspace, &team.owner, &email, "viewer").await;
    let token = text(&first.expect(201).body, "/token");
    let body = json!({"email": email, "password": super::team::password(), "name": "Invited"});
    let made = server.post("/v1/signup").json(body).await.expect(201);
    let person = Person {
        email,
        user: text(&made.body, "/user/id"),
        token: text(&made.body, "/session/token"),
        ..team.stranger.clone()
    };
    let granted = grant(server, &team.workspace, &team.owner, &person).await;
    assert_eq!(granted.expect(201).body["name"], "Invited");
    let joined = accept(server, &person, &token).await.expect(200);
    assert_eq!(joined.body["name"], "Invited");
}

async fn for_a_time(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let (owner, admin, member) = (&team.owner, &team.admin, &team.member);
    let later = owner.later.as_str();
    for wrong in [PAST, FAR] {
        let body = json!({"role": "admin", "until": wrong});
        let reply = role(&team, &server, owner, member, body).await;
        points_at(&reply, "/until", &["invalid_value"]);
    }
    let for_now = json!({"role": "admin", "until": later});
    let reply = role(&team, &server, owner, member, for_now)
        .await
        .expect(200);
    let shown = |body: &Value| json!([body["role"], body["until"], body["afterwards"]]);
    assert_eq!(shown(&reply.body), json!(["admin", later, "member"]));
    // Nobody makes their own last.
    let own = role(&team, &server, member, member, json!({"role": "admin"}));
    problem(&own.await, 403, "own_limit");
    let lasting = json!({"role": "admin", "until": null});
    let reply = role(&team, &server, owner, member, lasting)
        .await
        .expect(200);
    assert_eq!(shown(&reply.body), json!(["admin", null, null]));
    // With the same role, the membership ends.
    let ends = json!({"role": "admin", "until": later});
    let reply = role(&team, &server, owner, admin, ends).await.expect(200);
    assert_eq!(shown(&reply.body), json!(["admin", later, null]));
    let list = server.get(&team.path("/members")).bearer(&owner.token);
    let list = list.await.expect(200);
    let until = list.body["data"].as_array().into_iter().flatten();
    assert_eq!(until.filter(|one| one["until"] == later).count(), 1);
    // The only owner for good stays one.
    let other = json!({"role": "owner", "until": later});
    role(&team, &server, owner, member, other).await.expect(200);
    for body in [
        json!({"role": "viewer"}),
        json!({"role": "owner", "until": later}),
    ] {
        let reply = role(&team, &server, owner, owner, body).await;
        problem(&reply, 409, "last_owner");
    }
    let told = audit_of(&server, &team.path(""), owner, "member.limited").await;
    assert_eq!(told.len(), 3);
    let lifted = audit_of(&server, &team.path(""), owner, "member.limit_lifted").await;
    assert_eq!(lifted.len(), 1);
    super::held(&store);
}

async fn organization_members(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let boss = &team.organization_owner;
    let path = |user: &str| format!("/v1/organizations/{}/members/{user}", team.organization);
    let put = |by: &Person, user: &str, role: &str| {
        let call = server.put(&path(user)).bearer(&by.token);
        call.json(json!({"role": role}))
    };
    let nobody = "usr_00000000000000000000000001";
    problem(&put(boss, nobody, "billing").await, 404, "not_found");
    problem(
        &put(&team.billing, &team.stranger.user, "owner").await,
        403,
        "not_permitted",
    );
    for (role, code) in [("billing", 409), ("auditor", 409), ("owner", 200)] {
        assert_eq!(put(boss, &boss.user, role).await.status, code);
    }
    let leave = |person: &Person| server.delete(&path(&person.user)).bearer(&person.token);
    problem(&leave(boss).await, 409, "last_owner");

    // A condition holds of nothing that is not there yet.
    let heir = &team.stranger;
    for tag in ["*", "\"1\""] {
        let unmade = put(boss, &heir.user, "owner").header("If-Match", tag);
        problem(&unmade.await, 412, "precondition_failed");
    }
    let unmade = server.get(&path(&heir.user)).bearer(&boss.token);
    problem(&unmade.await, 404, "not_found");
    let made = put(boss, &heir.user, "auditor").await.expect(200);
    let version = made.header("etag").expect("a version").to_owned();
    let changed = put(boss, &heir.user, "billing").header("If-Match", &version);
    changed.await.expect(200);
    let stale = put(boss, &heir.user, "auditor").header("If-Match", &version);
    problem(&stale.await, 412, "precondition_failed");
    let any = put(boss, &heir.user, "auditor").header("If-Match", "*");
    any.await.expect(200);
    let made = put(boss, &heir.user, "owner").await.expect(200);
    assert_eq!(made.body["name"], heir.name.as_str());
    assert_eq!(made.body["email"], heir.email.as_str());
    let me = server.get("/v1/me").bearer(&heir.token).await.expect(200);
    assert_eq!(me.body["organizations"][0]["role"], "owner");
    leave(boss).await.expect(204);
    let read = server.get(&path(&heir.user)).bearer(&boss.token).await;
    problem(&read, 404, "not_found");
    leave(&team.billing).await.expect(204);
    let take = server.delete(&path(&team.organization_auditor.user));
    take.bearer(&heir.token).await.expect(204);
    problem(&put(heir, &heir.user, "billing").await, 409, "last_owner");
    let organization = format!("/v1/organizations/{}", team.organization);
    for (action, count) in [
        ("organization_member.added", 4),
        ("organization_member.removed", 3),
    ] {
        let told = audit_of(&server, &organization, heir, action).await;
        assert_eq!(told.len(), count, "{action}");
    }
    super::held(&store);
}

async fn who_may(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let ask = |by: &Person, body: Value| {
        let call = server.post(&team.path("/can"));
        call.bearer(&by.token).json(body)
    };
    let said = async |of: &Person, action: &str| {
        let body = json!({"principal": of.user, "action": action});
        let reply = ask(&team.viewer, body).await.expect(200);
        (reply.body["allowed"] == true, text(&reply.body, "/because"))
    };
    for (person, action, allowed, words) in [
        (&team.admin, "member.invite", true, "admin since position"),
        (
            &team.admin,
            "workspace.delete",
            false,
            "takes the role owner",
        ),
        (
            &team.auditor,
            "audit.read",
            true,
            "auditor grant since position",
        ),
        (
            &team.auditor,
            "member.read",
            false,
            "takes the role owner or admin",
        ),
        (&team.stranger, "workspace.read", false, "is no member"),
    ] {
        let (may, because) = said(person, action).await;
        assert_eq!(may, allowed, "{action}: {because}");
        assert!(because.contains(words), "{because}");
        assert!(because.contains(&person.user), "{because}");
    }
    // It says until when, and the position is of the event that gave the role.
    let body = json!({"role": "admin", "until": team.owner.later});
    let given = role(&team, &server, &team.owner, &team.member, body).await;
    let position = given
        .expect(200)
        .header("crewlog-position")
        .map(str::to_owned);
    let position: u64 = position
        .and_then(|text| text.parse().ok())
        .expect("a position");
    let (_, because) = said(&team.member, "member.remove").await;
    for words in [
        format!("since position {},", position - 1),
        format!("until {}", team.owner.later),
        "member from then on".to_owned(),
    ] {
        assert!(because.contains(&words), "{words} in {because}");
    }
    let unknown = json!({"principal": team.admin.user, "action": "workspace.fly"});
    let unknown = ask(&team.owner, unknown).await;
    problem(&unknown, 422, "unknown_action");
    assert!(
        unknown.text.contains("ownership.transfer"),
        "{}",
        unknown.text
    );
    let crew = json!({"principal": team.admin.user, "action": "audit.read", "crew": "crw_00000000000000000000000001"});
    points_at(&ask(&team.owner, crew).await, "/crew", &["invalid_value"]);
    let body = json!({"principal": team.admin.user, "action": "audit.read"});
    problem(
        &ask(&team.auditor, body.clone()).await,
        403,
        "not_permitted",
    );
    problem(&ask(&team.neighbour, body).await, 404, "not_found");
    super::held(&store);
}
