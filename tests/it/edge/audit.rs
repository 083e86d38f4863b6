//! What the audit log says of what was done and of what was refused, and how it is read.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Running;
use super::routes::problem;
use super::team::{Person, Team, accept, address, invite, number, password, text};
use crate::support::journal::reading;
use crate::support::ledger;
use crate::support::server::{Call, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "everything_done_is_told", told),
        both("edge", "refused_attempts_are_told", denied),
        both("edge", "entries_are_filtered", filters),
        both(
            "edge",
            "pages_neither_skip_nor_repeat_while_the_log_grows",
            growing,
        ),
    ]
}

const AGENT: &str = "crewlog-tests/1.0 (edge)";

/// All entries of a log, newest first, through a filter.
async fn entries(server: &Server, log: &str, reader: &Person, query: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server
            .get(&format!("{log}?limit=200&{query}{cursor}"))
            .bearer(&reader.token);
        let page = page.await.expect(200);
        all.extend(page.body["data"].as_array().expect("a list").clone());
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// The newest entry of a workspace with an action.
async fn newest(server: &Server, team: &Team, action: &str) -> Value {
    let all = entries(
        server,
        &team.path("/audit"),
        &team.owner,
        &format!("action={action}"),
    )
    .await;
    all.first()
        .unwrap_or_else(|| panic!("an entry of {action}"))
        .clone()
}

/// That what was just done is told: by whom, to what, what changed, why, from where.
struct Told<'a> {
    action: &'a str,
    by: &'a Person,
    target: (&'a str, &'a str),
    changes: &'a [(&'a str, Value, Value)],
}

async fn is_told(
    server: &Server,
    team: &Team,
    call: Call,
    reason: Option<&str>,
    told: Told<'_>,
) -> Value {
    let request_id = format!("edge-{}", number());
    let call = call
        .header("X-Request-Id", &request_id)
        .header("User-Agent", AGENT);
    let reply = call.await;
    assert!(reply.status < 300, "{}: {}", reply.request, reply.text);
    let entry = newest(server, team, told.action).await;
    let of = format!("{} of {}", told.action, reply.request);
    assert_eq!(entry["request_id"], request_id.as_str(), "{of}: {entry}");
    assert_eq!(entry["outcome"], "ok", "{of}");
    assert_eq!(
        entry["actor"],
        json!({"type": "user", "id": told.by.user, "name": told.by.name}),
        "{of}"
    );
    assert_eq!(
        (&entry["target"]["type"], &entry["target"]["id"]),
        (&json!(told.target.0), &json!(told.target.1)),
        "{of}"
    );
    for (path, from, to) in told.changes {
        let change = json!({"path": path, "from": from, "to": to});
        let changes = entry["changes"].as_array().expect("changes");
        assert!(changes.contains(&change), "{of}: {change} in {changes:?}");
    }
    assert_eq!(entry["reason"], json!(reason), "{of}");
    assert_eq!(entry["ip"], "127.0.0.1", "{of}");
    assert_eq!(entry["user_agent"], AGENT, "{of}");
    assert_eq!(entry["organization"], team.organization.as_str(), "{of}");
    assert_eq!(entry["workspace"], team.workspace.as_str(), "{of}");
    proven(server, &team.path("/audit"), &team.owner, &entry).await;
    if let Some(position) = reply.header("crewlog-position") {
        let told_position: u64 = position.parse().expect("a number");
        let position = entry["position"].as_u64().expect("a number");
        assert!(
            position <= told_position && position + 3 > told_position,
            "{of}: at {position}, told {told_position}"
        );
    }
    reply.body
}

/// One entry: the same as in the list, and its bytes hash to its leaf.
async fn proven(server: &Server, log: &str, reader: &Person, listed: &Value) {
    let position = &listed["position"];
    let one = server
        .get(&format!("{log}/{position}"))
        .bearer(&reader.token)
        .await
        .expect(200);
    let mut body = one.body;
    let canonical = body
        .as_object_mut()
        .and_then(|entry| entry.remove("canonical"));
    let canonical = canonical
        .as_ref()
        .and_then(Value::as_str)
        .expect("the exact bytes")
        .to_owned();
    assert_eq!(&body, listed, "one entry is what the list says");
    let leaf = Sha256::new()
        .chain_update([0])
        .chain_update(canonical.as_bytes())
        .finalize();
    assert_eq!(body["leaf"], BASE64_STANDARD.encode(leaf), "{canonical}");
    let entry: Value = serde_json::from_str(&canonical).expect("JSON");
    assert_eq!(entry["position"], *position);
    assert_eq!(entry["id"], listed["id"]);
    assert_eq!(
        serde_json_canonicalizer::to_string(&entry).expect("JSON"),
        canonical,
        "RFC 8785"
    );
}

async fn told(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let (owner, admin) = (&team.owner, &team.admin);
    let write = |call: Call, body: Value| call.json(body);
    let path = |rest: &str| team.path(rest);

    let email = address("told");
    let invite = write(
        server.post(&path("/invitations")).bearer(&admin.token),
        json!({"email": email, "role": "viewer", "reason": "Needed for the launch"}),
    );
    let request_id = format!("edge-{}", number());
    let made = invite
        .header("X-Request-Id", &request_id)
        .header("User-Agent", AGENT)
        .await
        .expect(201);
    let (invitation, token) = (text(&made.body, "/id"), text(&made.body, "/token"));
    let entry = newest(&server, &team, "member.invited").await;
    assert_eq!(entry["target"]["type"], "invitation");
    assert_eq!(entry["target"]["id"], invitation.as_str());
    assert_eq!(entry["reason"], "Needed for the launch");
    let changes = entry["changes"].as_array().expect("changes");
    for change in [
        json!({"path": "email", "from": null, "to": email}),
        json!({"path": "role", "from": null, "to": "viewer"}),
    ] {
        assert!(changes.contains(&change), "{change} in {changes:?}");
    }
    assert!(
        !entry.to_string().contains(&token),
        "a token is in no entry"
    );

    let call = write(
        server
            .post(&format!("{}/{invitation}/resend", path("/invitations")))
            .bearer(&owner.token),
        json!({"reason": "Lost"}),
    );
    let told = Told {
        action: "invitation.resent",
        by: owner,
        target: ("invitation", &invitation),
        changes: &[],
    };
    is_told(&server, &team, call, Some("Lost"), told).await;
    let call = write(
        server
            .delete(&format!("{}/{invitation}", path("/invitations")))
            .bearer(&owner.token),
        json!({"reason": "Mistake"}),
    );
    let changes = [("status", json!("pending"), json!("revoked"))];
    let told = Told {
        action: "invitation.revoked",
        by: owner,
        target: ("invitation", &invitation),
        changes: &changes,
    };
    is_told(&server, &team, call, Some("Mistake"), told).await;

    let made = super::team::invite(
        &server,
        &team.workspace,
        owner,
        &team.stranger.email,
        "member",
    )
    .await
    .expect(201);
    let (invitation, token) = (text(&made.body, "/id"), text(&made.body, "/token"));
    let changes = [("status", json!("pending"), json!("accepted"))];
    let told = Told {
        action: "invitation.accepted",
        by: &team.stranger,
        target: ("invitation", &invitation),
        changes: &changes,
    };
    is_told(
        &server,
        &team,
        accept(&server, &team.stranger, &token),
        None,
        told,
    )
    .await;
    let joined = newest(&server, &team, "member.joined").await;
    assert_eq!(
        joined["target"],
        json!({"type": "user", "id": team.stranger.user, "name": team.stranger.name})
    );

    let of_stranger = path(&format!("/members/{}", team.stranger.user));
    let call = write(
        server.patch(&of_stranger).bearer(&admin.token),
        json!({"role": "viewer", "reason": "Reads only"}),
    );
    let changes = [("role", json!("member"), json!("viewer"))];
    let told = Told {
        action: "member.role_changed",
        by: admin,
        target: ("user", &team.stranger.user),
        changes: &changes,
    };
    is_told(&server, &team, call, Some("Reads only"), told).await;
    let call = server.delete(&of_stranger).bearer(&admin.token);
    let changes = [("role", json!("viewer"), Value::Null)];
    let told = Told {
        action: "member.removed",
        by: admin,
        target: ("user", &team.stranger.user),
        changes: &changes,
    };
    is_told(&server, &team, call, None, told).await;
    let call = server
        .delete(&path(&format!("/members/{}", team.viewer.user)))
        .bearer(&team.viewer.token);
    let told = Told {
        action: "member.left",
        by: &team.viewer,
        target: ("user", &team.viewer.user),
        changes: &changes,
    };
    is_told(&server, &team, call, None, told).await;

    let before = server.get(&path("")).bearer(&owner.token).await.expect(200);
    let name = format!("Renamed {}", number());
    let changes = [("name", before.body["name"].clone(), json!(name))];
    let call = write(
        server.patch(&path("")).bearer(&owner.token),
        json!({"name": name}),
    );
    let told = Told {
        action: "workspace.renamed",
        by: owner,
        target: ("workspace", &team.workspace),
        changes: &changes,
    };
    is_told(&server, &team, call, None, told).await;
    let entry = newest(&server, &team, "workspace.renamed").await;
    assert_eq!(entry["target"]["name"], name.as_str());
    let call = write(
        server.put(&path("/plan")).bearer(&owner.token),
        json!({"plan": "enterprise"}),
    );
    let changes = [("plan", json!("team"), json!("enterprise"))];
    let told = Told {
        action: "plan.selected",
        by: owner,
        target: ("workspace", &team.workspace),
        changes: &changes,
    };
    is_told(&server, &team, call, None, told).await;
    let entry = newest(&server, &team, "plan.selected").await;
    let called = &entry["target"]["name"];
    assert!(
        called.is_null() || *called == name.as_str(),
        "a workspace is not called like its plan: {called}"
    );

    // Nothing is told of what changed nothing.
    let count = entries(&server, &path("/audit"), owner, "").await.len();
    write(
        server.put(&path("/plan")).bearer(&owner.token),
        json!({"plan": "enterprise"}),
    )
    .await
    .expect(200);
    write(
        server.patch(&path("")).bearer(&owner.token),
        json!({"name": name}),
    )
    .await
    .expect(200);
    assert_eq!(
        entries(&server, &path("/audit"), owner, "").await.len(),
        count
    );

    declined_by_nobody(&server, &team, &store).await;
    names_as_they_were(&server, &team).await;
    organizations_apart(&server, &team).await;
    super::held(&store);
}

/// Who declines need not say who they are; the log says so.
async fn declined_by_nobody(server: &Server, team: &Team, store: &StoreUnderTest) {
    let made = invite(
        server,
        &team.workspace,
        &team.owner,
        &address("declines"),
        "viewer",
    )
    .await
    .expect(201);
    let body = json!({"token": text(&made.body, "/token"), "reason": "No time"});
    server
        .post("/v1/invitations/decline")
        .json(body)
        .await
        .expect(200);
    let entry = newest(server, team, "invitation.declined").await;
    assert_eq!(
        entry["actor"],
        json!({"type": "system", "id": null, "name": null})
    );
    assert_eq!(entry["target"]["id"], made.body["id"]);
    assert_eq!(entry["reason"], "No time");
    assert_eq!(entry["ip"], "127.0.0.1");
    // From where is nobody's in particular: the workspace's to keep, not the invited person's.
    let reading = reading(store).await;
    let events = ledger::verify(&*reading).await;
    reading.close().await;
    let event = events
        .iter()
        .rfind(|event| event.event_type == "invitation_declined");
    let metadata = &event.expect("the event").metadata;
    let metadata: Value = serde_json::from_str(metadata).expect("JSON");
    assert_eq!(text(&metadata, "/context/subject"), team.workspace);
}

/// A renamed person's old entries show the old name.
async fn names_as_they_were(server: &Server, team: &Team) {
    let (owner, admin) = (&team.owner, &team.admin);
    let path = team.path(&format!("/members/{}", team.member.user));
    let change = async |role: &str| {
        let call = server
            .patch(&path)
            .bearer(&admin.token)
            .json(json!({"role": role}));
        call.await.expect(200);
        newest(server, team, "member.role_changed").await
    };
    let first = change("viewer").await;
    let (admins, members) = (
        format!("Admin anew {}", number()),
        format!("Member anew {}", number()),
    );
    for (person, name) in [(admin, &admins), (&team.member, &members)] {
        let call = server
            .patch("/v1/me")
            .bearer(&person.token)
            .json(json!({"name": name}));
        call.await.expect(200);
    }
    let second = change("member").await;
    assert_eq!(second["actor"]["name"], admins.as_str());
    assert_eq!(second["target"]["name"], members.as_str());
    let log = team.path("/audit");
    let position = &first["position"];
    let again = server
        .get(&format!("{log}/{position}"))
        .bearer(&owner.token)
        .await
        .expect(200);
    assert_eq!(again.body["actor"]["name"], admin.name.as_str());
    assert_eq!(again.body["target"]["name"], team.member.name.as_str());
    assert_eq!(again.body["leaf"], first["leaf"]);
}

/// The organization's log has what its workspaces have, and what is its own; a workspace's has its
/// own only, and who may read one need not read the other.
async fn organizations_apart(server: &Server, team: &Team) {
    let (owner, boss) = (&team.owner, &team.organization_owner);
    let organization = format!("/v1/organizations/{}/audit", team.organization);
    let rename = server
        .patch(&format!("/v1/organizations/{}", team.organization))
        .bearer(&boss.token);
    rename
        .json(json!({"name": "Renamed as a whole"}))
        .await
        .expect(200);
    let of_workspace = entries(server, &team.path("/audit"), owner, "").await;
    let of_organization = entries(server, &organization, boss, "").await;
    let positions = |entries: &[Value]| -> BTreeSet<u64> {
        entries
            .iter()
            .filter_map(|entry| entry["position"].as_u64())
            .collect()
    };
    assert!(positions(&of_organization).is_superset(&positions(&of_workspace)));
    assert!(
        of_workspace
            .iter()
            .all(|entry| entry["workspace"] == team.workspace.as_str())
    );
    assert!(
        of_organization
            .iter()
            .all(|entry| entry["organization"] == team.organization.as_str())
    );
    let renamed = of_organization
        .iter()
        .find(|entry| entry["action"] == "organization.renamed");
    let renamed = renamed.expect("the organization's own");
    assert_eq!(renamed["workspace"], Value::Null);
    assert_eq!(renamed["target"]["name"], "Renamed as a whole");
    assert!(!positions(&of_workspace).contains(&renamed["position"].as_u64().expect("a number")));
    let neighbours = of_organization
        .iter()
        .any(|entry| entry["workspace"] == team.neighbours_workspace.as_str());
    assert!(neighbours, "all of its workspaces");
    for entry in &of_organization {
        proven(server, &organization, boss, entry).await;
    }
    problem(
        &server.get(&team.path("/audit")).bearer(&boss.token).await,
        404,
        "not_found",
    );
    problem(
        &server.get(&organization).bearer(&owner.token).await,
        404,
        "not_found",
    );
    // Accounts are nobody's to read but in organizations that know them.
    let leaked = of_organization.iter().any(|entry| {
        entry["action"]
            .as_str()
            .is_some_and(|action| action.starts_with("session.") || action == "user.signed_up")
    });
    assert!(
        !leaked,
        "what people do with their accounts is not their organization's"
    );
}

async fn denied(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let log = team.path("/audit");
    let denied = async || entries(&server, &log, &team.owner, "outcome=denied").await;
    assert_eq!(denied().await, Vec::<Value>::new());
    let member_path = team.path(&format!("/members/{}", team.owner.user));
    let invitations = team.path("/invitations");
    let cases: Vec<(&Person, Call, u16, &str, &str, &str)> = vec![
        (
            &team.viewer,
            server.get(&log),
            403,
            "audit.read",
            "not_permitted",
            &team.workspace,
        ),
        (
            &team.member,
            server.get(&invitations),
            403,
            "invitation.read",
            "not_permitted",
            &team.workspace,
        ),
        (
            &team.stranger,
            server.get(&team.path("")),
            404,
            "workspace.read",
            "not_found",
            &team.workspace,
        ),
        (
            &team.stranger,
            server.get(&team.path("/members")),
            404,
            "member.read",
            "not_found",
            &team.workspace,
        ),
        (
            &team.admin,
            server.patch(&member_path).json(json!({"role": "viewer"})),
            403,
            "member.role_changed",
            "role_above_own",
            &team.owner.user,
        ),
        (
            &team.admin,
            server.delete(&member_path),
            403,
            "member.removed",
            "role_above_own",
            &team.owner.user,
        ),
        (
            &team.member,
            server
                .post(&invitations)
                .json(json!({"email": address("x"), "role": "viewer"})),
            403,
            "member.invited",
            "not_permitted",
            &team.workspace,
        ),
        (
            &team.admin,
            server.patch(&team.path("")).json(json!({"name": "Mine"})),
            403,
            "workspace.renamed",
            "not_permitted",
            &team.workspace,
        ),
        (
            &team.admin,
            server
                .put(&team.path("/plan"))
                .json(json!({"plan": "free"})),
            403,
            "plan.selected",
            "not_permitted",
            &team.workspace,
        ),
        (
            &team.neighbour,
            server.delete(&member_path),
            404,
            "member.removed",
            "not_found",
            &team.owner.user,
        ),
    ];
    let mut expected = 0;
    for (person, call, status, action, code, target) in cases {
        let request_id = format!("denied-{}", number());
        let call = call
            .bearer(&person.token)
            .header("X-Request-Id", &request_id);
        let reply = call.header("User-Agent", AGENT).await;
        assert_eq!(reply.status, status, "{}: {}", reply.request, reply.text);
        expected += 1;
        let all = denied().await;
        assert_eq!(all.len(), expected, "{action} by {}", person.name);
        let entry = &all[0];
        assert_eq!(entry["action"], action, "{entry}");
        assert_eq!(entry["outcome"], "denied", "{entry}");
        assert_eq!(entry["actor"]["id"], person.user.as_str(), "{entry}");
        let strange = [&team.stranger.user, &team.neighbour.user].contains(&&person.user);
        assert!(
            strange || entry["actor"]["name"] == person.name.as_str(),
            "{entry}"
        );
        assert_eq!(entry["target"]["id"], target, "{entry}");
        assert_eq!(entry["request_id"], request_id.as_str(), "{entry}");
        assert_eq!(
            (&entry["ip"], &entry["user_agent"]),
            (&json!("127.0.0.1"), &json!(AGENT)),
            "{entry}"
        );
        let changes = entry["changes"].as_array().expect("changes");
        assert!(
            changes.contains(&json!({"path": "code", "from": null, "to": code})),
            "{entry}"
        );
        proven(&server, &log, &team.owner, entry).await;
    }
    // Versions do not move, neither of what was aimed at nor of anything else.
    let workspace = server
        .get(&team.path(""))
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let updated = text(&workspace.body, "/updated_at");
    assert_eq!(
        updated,
        text(&workspace.body, "/created_at"),
        "refusals change nothing"
    );

    // Thirty times the same: told once now, or twice where the minute ended meanwhile.
    let before = denied().await.len();
    for _ in 0..30 {
        let reply = server.get(&invitations).bearer(&team.viewer.token).await;
        problem(&reply, 403, "not_permitted");
    }
    let repeated = entries(
        &server,
        &log,
        &team.owner,
        &format!(
            "outcome=denied&actor={}&action=invitation.read",
            team.viewer.user
        ),
    )
    .await;
    let firsts = repeated
        .iter()
        .filter(|entry| entry["changes"][0]["to"] == 1)
        .count();
    assert!((1..=2).contains(&firsts), "{repeated:?}");
    assert!(denied().await.len() <= before + 4);

    // An organization's own refusals are among its own.
    let organization = format!("/v1/organizations/{}", team.organization);
    problem(
        &server.get(&organization).bearer(&team.stranger.token).await,
        404,
        "not_found",
    );
    let rename = server
        .patch(&organization)
        .bearer(&team.owner.token)
        .json(json!({"name": "Mine"}));
    problem(&rename.await, 404, "not_found");
    let list = entries(
        &server,
        &format!("{organization}/audit"),
        &team.organization_owner,
        "outcome=denied",
    )
    .await;
    for (person, action) in [
        (&team.stranger, "organization.read"),
        (&team.owner, "organization.renamed"),
    ] {
        let found = list.iter().any(|entry| {
            entry["action"] == action
                && entry["actor"]["id"] == person.user.as_str()
                && entry["workspace"].is_null()
        });
        assert!(found, "{action} by {} in {list:?}", person.name);
    }
    // What does not exist, and who is nobody, leave nothing.
    let before = (denied().await.len(), position(&server).await);
    problem(
        &server
            .get("/v1/workspaces/ws_00000000000000000000000001")
            .bearer(&team.stranger.token)
            .await,
        404,
        "not_found",
    );
    assert_eq!(server.get(&team.path("")).await.status, 401);
    let unknown = team.path("/members/usr_00000000000000000000000001");
    problem(
        &server.get(&unknown).bearer(&team.owner.token).await,
        404,
        "not_found",
    );
    assert_eq!((denied().await.len(), position(&server).await), before);
    super::held(&store);
}

async fn position(server: &Server) -> u64 {
    let reply = server.get("/v1/plans").await.expect(200);
    reply
        .header("crewlog-position")
        .expect("a position")
        .parse()
        .expect("a number")
}

async fn filters(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let log = team.path("/audit");
    // Something of every kind.
    for (person, role) in [(&team.admin, "viewer"), (&team.owner, "member")] {
        let made = invite(&server, &team.workspace, person, &address("x"), role)
            .await
            .expect(201);
        let path = team.path(&format!("/invitations/{}", text(&made.body, "/id")));
        server.delete(&path).bearer(&person.token).await.expect(200);
    }
    problem(
        &server.get(&log).bearer(&team.viewer.token).await,
        403,
        "not_permitted",
    );
    let name = "Zanzibar 100%_Support";
    let rename = server
        .patch(&team.path(""))
        .bearer(&team.owner.token)
        .json(json!({"name": name}));
    rename.await.expect(200);
    let all = entries(&server, &log, &team.owner, "").await;
    let positions = |entries: &[Value]| -> Vec<u64> {
        entries
            .iter()
            .map(|entry| entry["position"].as_u64().expect("a number"))
            .collect()
    };
    let sorted = positions(&all);
    assert!(
        sorted.is_sorted_by(|a, b| a > b),
        "newest first: {sorted:?}"
    );
    let mut oldest_first = entries(&server, &log, &team.owner, "order=asc").await;
    oldest_first.reverse();
    assert_eq!(oldest_first, all);

    let middle = &all[all.len() / 2];
    let at = middle["position"].as_u64().expect("a number");
    let time = text(middle, "/recorded_at");
    type Holds<'a> = Box<dyn Fn(&Value) -> bool + 'a>;
    let is = |pointer: &'static str, wanted: String| -> (String, Holds<'_>) {
        let name = match pointer {
            "/actor/id" => "actor",
            "/target/id" => "target",
            other => &other[1..],
        };
        let query = format!("{name}={wanted}");
        (
            query,
            Box::new(move |entry| entry.pointer(pointer) == Some(&json!(wanted))),
        )
    };
    let position_of = |entry: &Value| entry["position"].as_u64().unwrap_or_default();
    let time_of = |entry: &Value| text(entry, "/recorded_at");
    let conditions: Vec<(String, Holds<'_>)> = vec![
        is("/actor/id", team.owner.user.clone()),
        is("/actor/id", team.admin.user.clone()),
        is("/action", "member.invited".to_owned()),
        is("/action", "invitation.revoked".to_owned()),
        is("/target/id", text(middle, "/target/id")),
        is("/outcome", "ok".to_owned()),
        is("/outcome", "denied".to_owned()),
        (
            format!("after={at}"),
            Box::new(move |entry| position_of(entry) > at),
        ),
        (
            format!("before={at}"),
            Box::new(move |entry| position_of(entry) < at),
        ),
        (
            format!("from={time}"),
            Box::new(|entry| time_of(entry) >= time),
        ),
        (
            format!("to={time}"),
            Box::new(|entry| time_of(entry) < time),
        ),
        (
            "q=zanzibar".to_owned(),
            Box::new(|entry| entry["action"] == "workspace.renamed"),
        ),
        (
            "q=SUPPORT+100%25_".to_owned(),
            Box::new(|entry| entry["action"] == "workspace.renamed"),
        ),
        (
            "q=invited".to_owned(),
            Box::new(|entry| entry["action"] == "member.invited"),
        ),
    ];
    for (query, holds) in &conditions {
        let found = entries(&server, &log, &team.owner, query).await;
        let expected: Vec<_> = all.iter().filter(|entry| holds(entry)).cloned().collect();
        assert_eq!(positions(&found), positions(&expected), "{query}");
    }
    for (one, (first, holds)) in conditions.iter().enumerate() {
        for (second, also) in &conditions[one + 1..] {
            let name = |query: &str| query.split('=').next().map(str::to_owned);
            if name(first) == name(second) {
                continue;
            }
            let query = format!("{first}&{second}");
            let found = entries(&server, &log, &team.owner, &query).await;
            let expected: Vec<_> = all
                .iter()
                .filter(|entry| holds(entry) && also(entry))
                .cloned()
                .collect();
            assert_eq!(positions(&found), positions(&expected), "{query}");
        }
    }
    // A time between two microseconds, and one elsewhere on earth.
    let offset = time.replace('Z', "%2B00:00");
    let found = entries(&server, &log, &team.owner, &format!("from={offset}")).await;
    assert!(positions(&found).contains(&at), "from is inclusive");
    super::held(&store);
}

async fn growing(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let log = team.path("/audit");
    let write = async || {
        let email = address("grows");
        let invited = invite(&server, &team.workspace, &team.owner, &email, "viewer");
        invited.await.expect(201);
    };
    for _ in 0..12 {
        write().await;
    }
    for order in ["asc", "desc"] {
        let before = entries(&server, &log, &team.owner, "order=asc").await;
        let (mut read, mut cursor) = (Vec::new(), String::new());
        let mut writes = 0;
        loop {
            let path = format!("{log}?order={order}&limit=3{cursor}");
            // The page is read while something is written.
            let (page, ()) = tokio::join!(
                std::future::IntoFuture::into_future(server.get(&path).bearer(&team.owner.token)),
                async {
                    if writes < 8 {
                        write().await;
                    }
                }
            );
            writes += 1;
            let page = page.expect(200);
            read.extend(page.body["data"].as_array().expect("a list").clone());
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let positions: Vec<_> = read
            .iter()
            .map(|entry| entry["position"].as_u64().expect("a number"))
            .collect();
        let unique: BTreeSet<_> = positions.iter().copied().collect();
        assert_eq!(unique.len(), positions.len(), "{order}: none twice");
        let all = entries(&server, &log, &team.owner, "order=asc").await;
        let (first, last) = (positions[0], *positions.last().expect("entries"));
        let (low, high) = (first.min(last), first.max(last));
        let within: Vec<_> = all
            .iter()
            .filter(|entry| (low..=high).contains(&entry["position"].as_u64().expect("a number")))
            .collect();
        assert_eq!(within.len(), read.len(), "{order}: none skipped");
        assert!(
            before.iter().all(|entry| read.contains(entry)),
            "{order}: all that was there before"
        );
        if order == "asc" {
            assert!(positions.is_sorted());
            assert!(read.len() > before.len(), "what came meanwhile comes last");
        } else {
            assert!(positions.is_sorted_by(|a, b| a > b));
        }
    }
    // Whoever follows the log from its end finds all that comes, each once.
    let last = entries(&server, &log, &team.owner, "").await[0]["position"].clone();
    let secret = password();
    let guest = json!({"email": address("late"), "password": secret, "name": "Late"});
    server.post("/v1/signup").json(guest).await.expect(201);
    for _ in 0..4 {
        write().await;
    }
    let found = entries(
        &server,
        &log,
        &team.owner,
        &format!("order=asc&after={last}"),
    )
    .await;
    assert_eq!(
        found.len(),
        4,
        "what is not of this workspace is not in its log"
    );
    super::held(&store);
}
