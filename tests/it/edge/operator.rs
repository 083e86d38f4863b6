//! Operators of the installation: what they may, what those that it is done to are told, and what
//! goes on meanwhile.
//!
//! [`Operated`] is what the walks over all routes need of one: a key, an organization that may be
//! suspended, and workspaces whose owner was last seen long ago. It is made before the server
//! starts, by the service in this process, with a clock that stands in the past.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use crewlog::domain::authority::Role;
use crewlog::domain::ids::{OrganizationId, WorkspaceId};
use crewlog::domain::{Refusal, Timestamp};
use crewlog::journal::sealing::RootKey;
use crewlog::journal::{Source, SystemSource};
use crewlog::service::{
    AuditFilter, AuditScope, Caller, Heir, OperatorCaller, Request, Service, ServiceError,
    ServiceSettings, SignUp,
};
use futures::future::join_all;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::Running;
use super::routes::problem;
use super::team::{Person, Team, accept, address, invite, invited, number, password, text};
use super::time::{Clocked, email, name, secret};
use crate::support::commands::{crewlog_on, run};
use crate::support::journal::{ROOT_KEY, TestSource, open_store, reading};
use crate::support::ledger;
use crate::support::operated::Operated;
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "a_suspended_organization_is_read", suspended),
        both("edge", "keys_of_a_suspended_organization", keys),
        both("edge", "a_suspension_races_with_writes", raced),
        both("edge", "a_suspension_outlives_a_kill", killed),
        both("edge", "operators_keys_are_made_and_revoked", key_rings),
        both("edge", "a_workspace_is_recovered", recovered),
        both("edge", "who_signs_in_first_keeps_the_workspace", signs_in),
        both("edge", "due_work_in_a_suspended_organization", due_work),
        both(
            "edge",
            "a_schedule_ends_in_a_suspended_organization",
            schedule_ends,
        ),
    ]
}

/// How many workspaces are there to be recovered: more than any walk needs.
const WORKSPACES: usize = 64;

/// Makes an operator's key, and what it is used on, in a store that nobody has opened yet.
pub async fn prepare(store: &StoreUnderTest) -> Operated {
    let file = store.data_dir().join("root.key");
    std::fs::create_dir_all(store.data_dir()).expect("the data folder");
    std::fs::write(&file, ROOT_KEY).expect("the root key");
    let for_its_owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&file, for_its_owner).expect("its mode");
    let root = RootKey::from_text(ROOT_KEY).expect("the tests' root key");
    let source = Arc::new(TestSource::new(number()));
    let opened = open_store(store).await;
    let settings = ServiceSettings::default();
    let service = Service::start(opened, source, &root, settings).await;
    let service = service.expect("the service to start");
    let made = service.create_operator_key(name("Walks"), None).await;
    let (view, token) = made.expect("a key");
    let request = Request::default();
    let (caller, organization) = gone(&service).await;
    let mut workspaces = Vec::new();
    for _ in 0..WORKSPACES {
        let plan = "free".parse().expect("a plan");
        let made = service
            .create_workspace(&request, &caller, organization, name("Left"), plan)
            .await;
        let made = made.expect("a workspace").value;
        workspaces.push((made.id.to_string(), made.version));
    }
    assert!(service.stop(Duration::from_secs(20)).await);
    let key = view.key.id.to_string();
    let secret = token.expose().to_owned();
    Operated::new((key, secret), organization.to_string(), workspaces)
}

/// Somebody with an organization.
async fn gone(service: &Service) -> (Caller, OrganizationId) {
    let asked = SignUp {
        email: email(&address("gone")),
        password: secret(&password()),
        name: name("Gone"),
        organization: Some(name("Left behind")),
        workspace: None,
    };
    let made = service.sign_up(&Request::default(), asked).await;
    let made = made.expect("a sign-up").value;
    let caller = Caller {
        user: made.me.id,
        session: made.session.id,
    };
    (caller, made.organization.expect("an organization").id)
}

fn operated(server: &Server) -> &Operated {
    server.operated().expect("an operator")
}

async fn operate(server: &Server, path: &str, body: Value) -> Reply {
    let secret = &operated(server).secret;
    let call = server.post(&format!("/v1/operator{path}"));
    call.bearer(secret).json(body).await
}

async fn suspend(server: &Server, organization: &str) -> Reply {
    let path = format!("/organizations/{organization}/suspend");
    operate(server, &path, json!({"reason": "unpaid since May"})).await
}

async fn resume(server: &Server, organization: &str) -> Reply {
    let path = format!("/organizations/{organization}/resume");
    operate(server, &path, json!({"reason": "paid"})).await
}

async fn entries(server: &Server, path: &str, by: &Person) -> Vec<Value> {
    let page = server.get(path).bearer(&by.token).await.expect(200).body;
    page["data"].as_array().expect("a list").clone()
}

/// Reading, auditing and taking away go on; nothing else does, and its owners read why.
async fn suspended(store: StoreUnderTest) {
    let mut command = Server::command(&store);
    command.env("CREWLOG_OPERATOR_CONTACT", "trust@platform.example");
    let prepared = Arc::new(prepare(&store).await);
    let server = Server::launch(command).await.operated_by(prepared);
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "development").await;
    let guest = team.joined(&server, "member").await;
    let token = invited(
        &server,
        &team.workspace,
        &team.owner,
        &team.stranger.email,
        "viewer",
    )
    .await;
    let pending = invite(
        &server,
        &team.workspace,
        &team.owner,
        &address("late"),
        "viewer",
    )
    .await;
    let pending = text(&pending.expect(201).body, "/id");

    let told = suspend(&server, &team.organization).await.expect(200).body;
    assert_eq!(told["status"], "suspended");
    assert!(told.get("name").is_none(), "{told}");
    // Twice is once.
    let again = suspend(&server, &team.organization).await.expect(200).body;
    assert_eq!(again, told);

    refuses_to_change(&server, &team, (&crew, &guest.user, &token)).await;
    goes_on(&server, &team, (&crew, &guest.user, &pending)).await;
    is_told(&server, &team).await;

    // And on it goes.
    let told = resume(&server, &team.organization).await.expect(200).body;
    assert_eq!(
        (&told["status"], &told["suspended_at"]),
        (&json!("active"), &Value::Null)
    );
    let renamed = server.patch(&team.path("")).bearer(&team.owner.token);
    renamed.json(json!({"name": "On again"})).await.expect(200);
    accept(&server, &team.stranger, &token).await.expect(200);
    let log = format!(
        "/v1/organizations/{}/audit?action=organization.resumed",
        team.organization
    );
    let told = entries(&server, &log, &team.organization_owner).await;
    assert_eq!(told.len(), 1, "{told:?}");
    super::held(&store);
}

/// Everything that members try to change, and what would give access.
async fn refuses_to_change(server: &Server, team: &Team, (crew, guest, token): (&str, &str, &str)) {
    let (owner, boss) = (&team.owner, &team.organization_owner);
    let organization = format!("/v1/organizations/{}", team.organization);
    let at = |rest: &str| team.path(rest);
    let inside = |rest: &str| team.path(&format!("/crews/{crew}{rest}"));
    let named = || json!({"name": format!("New {}", number())});
    let refused = [
        (owner, server.patch(&at("")).json(named())),
        (owner, server.put(&at("/plan")).json(json!({"plan": "enterprise"}))),
        (owner, server.put(&at("/limits")).json(json!({"members": 400}))),
        (owner, server.put(&at("/policy")).json(json!({
            "production_changes": "direct", "approvals_needed": 3,
            "self_approval": true, "key_rotation_days": 9,
        }))),
        (owner, server.post(&at("/crews")).json(json!({"name": "New", "environment": "staging"}))),
        (owner, server.patch(&inside("")).json(named())),
        (owner, server.post(&inside("/archive"))),
        (owner, server.post(&inside("/agents")).json(json!({"name": "New", "config": {}}))),
        (owner, server.post(&inside("/knowledge-bases")).json(named())),
        (owner, server.post(&at("/invitations")).json(json!({"email": address("x"), "role": "viewer"}))),
        (owner, server.post(&at("/api-keys")).json(json!({"name": "x", "environment": "staging", "scopes": []}))),
        (owner, server.patch(&at(&format!("/members/{guest}"))).json(json!({"role": "admin"}))),
        (owner, server.post(&at("/transfer-ownership")).json(json!({"user": guest}))),
        (owner, server.post(&at("/auditors")).json(json!({
            "email": team.stranger.email, "expires_at": team.stranger.later,
        }))),
        (owner, server.post(&inside("/activity")).json(json!({"records": [
            {"id": "a", "at": "2026-11-01T00:00:00.000000Z", "kind": "call"},
        ]}))),
        (owner, server.post(&at("/usage")).json(json!({"records": [
            {"id": "u", "crew": crew, "meter": "messages", "quantity": 1, "at": "2026-11-01T00:00:00.000000Z"},
        ]}))),
        (boss, server.patch(&organization).json(named())),
        (boss, server.post(&format!("{organization}/workspaces")).json(named())),
        (boss, server.post(&format!("{organization}/api-keys")).json(json!({"name": "x", "scopes": []}))),
        (boss, server.put(&format!("{organization}/members/{guest}")).json(json!({"role": "owner"}))),
        (&team.stranger, server.post("/v1/invitations/accept").json(json!({"token": token}))),
    ];
    for (who, call) in refused {
        let reply = call.bearer(&who.token).await;
        problem(&reply, 403, "organization_suspended");
        let detail = text(&reply.body, "/detail");
        assert!(detail.contains("trust@platform.example"), "{detail}");
    }
    // Whoever may not is told that, and no more.
    let strange = server
        .patch(&at(""))
        .bearer(&team.neighbour.token)
        .json(named());
    problem(&strange.await, 404, "not_found");
    let weak = server
        .patch(&at(""))
        .bearer(&team.viewer.token)
        .json(named());
    problem(&weak.await, 403, "not_permitted");
    // What they can find out beforehand.
    for (action, allowed) in [
        ("crew.edit", false),
        ("crew.read", true),
        ("member.invite", false),
    ] {
        let call = server.post(&at("/can")).bearer(&owner.token);
        let told = call
            .json(json!({"principal": owner.user, "action": action}))
            .await;
        let told = told.expect(200).body;
        assert_eq!(told["allowed"], allowed, "{told}");
    }
}

/// What people go on doing.
async fn goes_on(server: &Server, team: &Team, (crew, guest, pending): (&str, &str, &str)) {
    let owner = &team.owner;
    for path in [
        team.path(""),
        team.path("/members"),
        team.path("/crews"),
        team.path(&format!("/crews/{crew}/agents")),
        team.path("/audit"),
        team.path("/audit/export"),
        team.path("/access"),
        team.path("/limits"),
        "/v1/me".to_owned(),
    ] {
        server.get(&path).bearer(&owner.token).await.expect(200);
    }
    let member = |who: &str| team.path(&format!("/members/{who}"));
    let lowered = server.patch(&member(guest)).bearer(&owner.token);
    lowered.json(json!({"role": "viewer"})).await.expect(200);
    server
        .delete(&member(guest))
        .bearer(&owner.token)
        .await
        .expect(204);
    let path = team.path(&format!("/invitations/{pending}"));
    server.delete(&path).bearer(&owner.token).await.expect(200);
    let review = json!({
        "name": "While suspended", "scope": {"principals": ["members"]},
        "reviewers": [team.admin.user, owner.user], "due_at": owner.later, "undecided": "keep",
    });
    let call = server
        .post(&team.path("/access-reviews"))
        .bearer(&owner.token);
    let review = text(&call.json(review).await.expect(201).body, "/id");
    let decided = json!({"decisions": [
        {"item": team.viewer.user, "decision": "revoke", "reason": "left"},
        {"item": team.member.user, "decision": "change", "role": "admin", "reason": "more"},
    ]});
    let path = team.path(&format!("/access-reviews/{review}"));
    let call = server
        .post(&format!("{path}/decisions"))
        .bearer(&owner.token);
    call.json(decided).await.expect(200);
    let call = server.post(&format!("{path}/close")).bearer(&owner.token);
    call.await.expect(200);
    // It takes away, and does not give.
    let viewer = server.get(&member(&team.viewer.user)).bearer(&owner.token);
    problem(&viewer.await, 404, "not_found");
    let member = server.get(&member(&team.member.user)).bearer(&owner.token);
    assert_eq!(member.await.expect(200).body["role"], "member");
    // One's account is one's own, and so is another organization.
    let call = server.post("/v1/organizations").bearer(&owner.token);
    call.json(json!({"name": "Another"})).await.expect(201);
    owner.sign_in(server).await;
}

/// Who it was and why, in the log of the organization; and what was refused.
async fn is_told(server: &Server, team: &Team) {
    let operated = operated(server);
    let boss = &team.organization_owner;
    let organization = format!("/v1/organizations/{}", team.organization);
    let read = server
        .get(&organization)
        .bearer(&boss.token)
        .await
        .expect(200)
        .body;
    assert_eq!(read["status"], "suspended");
    assert!(read["suspended_at"].is_string(), "{read}");
    let log = format!("{organization}/audit?action=organization.suspended");
    let told = entries(server, &log, boss).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        told[0]["actor"],
        json!({
            "type": "operator_key", "id": operated.key, "name": "Walks",
        })
    );
    assert_eq!(told[0]["reason"], "unpaid since May");
    let flagged = entries(server, &format!("{organization}/audit?q=operator"), boss).await;
    assert_eq!(flagged.len(), 1, "{flagged:?}");
    let log = team.path("/audit?action=workspace.renamed&outcome=denied&limit=200");
    let denied = entries(server, &log, &team.owner).await;
    let of_owner = |entry: &&Value| entry["actor"]["id"] == team.owner.user.as_str();
    let denied = denied.iter().find(of_owner).expect("the attempt is kept");
    let code = denied["changes"].as_array().expect("changes");
    assert!(code.contains(&json!({"path": "code", "from": null, "to": "organization_suspended"})));
}

/// Keys of the workspace and the organization are good for nothing, and gateways are told so: at
/// once where it was suspended, within a second elsewhere.
async fn keys(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let team = Team::make(&server).await;
    let elsewhere = match store.kind() {
        StoreKind::Sqlite => None,
        StoreKind::Postgres => Some(Server::start(&store).await),
    };
    let new = json!({"name": "Gateway", "environment": "production", "scopes": ["crews:read"]});
    let made = server
        .post(&team.path("/api-keys"))
        .bearer(&team.owner.token);
    let of_workspace = text(&made.json(new).await.expect(201).body, "/secret");
    let path = format!("/v1/organizations/{}/api-keys", team.organization);
    let new = json!({"name": "Platform", "scopes": ["workspaces:read", "workspaces:create"]});
    let made = server.post(&path).bearer(&team.organization_owner.token);
    let of_organization = text(&made.json(new).await.expect(201).body, "/secret");
    let secrets = [&of_workspace, &of_organization];
    let verdict = async |server: &Server, secret: &str| {
        let call = server
            .post("/v1/api-keys/verify")
            .json(json!({"key": secret}));
        let told = call.await.expect(200).body;
        assert_eq!(told["valid"], told["code"] == "valid", "{told}");
        text(&told, "/code")
    };
    let all = [Some(&server), elsewhere.as_ref()];
    let all: Vec<&Server> = all.into_iter().flatten().collect();
    for round in 0..3 {
        for server in &all {
            for secret in secrets {
                assert_eq!(verdict(server, secret).await, "valid", "round {round}");
            }
        }
        suspend(&server, &team.organization).await.expect(200);
        for secret in secrets {
            assert_eq!(verdict(&server, secret).await, "organization_suspended");
            problem(
                &server.get("/v1/me").bearer(secret).await,
                403,
                "organization_suspended",
            );
        }
        if let Some(elsewhere) = &elsewhere {
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            for secret in secrets {
                assert_eq!(verdict(elsewhere, secret).await, "organization_suspended");
            }
        }
        resume(&server, &team.organization).await.expect(200);
        if elsewhere.is_some() {
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
    }
    // What is over is said to be over, whatever else.
    suspend(&server, &team.organization).await.expect(200);
    let list = team.path("/api-keys");
    let page = server
        .get(&list)
        .bearer(&team.owner.token)
        .await
        .expect(200)
        .body;
    let key = text(&page, "/data/0/id");
    let revoke = server
        .delete(&format!("{list}/{key}"))
        .bearer(&team.owner.token);
    revoke.await.expect(200);
    assert_eq!(verdict(&server, &of_workspace).await, "revoked");
    drop(elsewhere);
    super::held(&store);
}

/// Members write on every process while their organization is suspended on one: nothing of theirs
/// has a place in the log between its end and its going on, whoever was answered what.
async fn raced(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let team = Team::make(&server).await;
    let elsewhere = match store.kind() {
        StoreKind::Sqlite => None,
        StoreKind::Postgres => Some(Server::start(&store).await),
    };
    let write = async |server: &Server, who: &Person| {
        let mut refused = 0_u32;
        for _ in 0..25 {
            let name = json!({"name": format!("Raced {}", number())});
            let reply = server
                .patch(&team.path(""))
                .bearer(&who.token)
                .json(name)
                .await;
            match reply.status {
                200 => {}
                _ => {
                    problem(&reply, 403, "organization_suspended");
                    refused += 1;
                }
            }
        }
        refused
    };
    let operator = async {
        let mut spans = Vec::new();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(15)).await;
            let position = |reply: Reply| -> u64 {
                let position = reply.header("crewlog-position").expect("a position");
                position.parse().expect("a number")
            };
            let from = position(suspend(&server, &team.organization).await.expect(200));
            tokio::time::sleep(Duration::from_millis(25)).await;
            let to = position(resume(&server, &team.organization).await.expect(200));
            spans.push((from, to));
        }
        spans
    };
    let other = elsewhere.as_ref().unwrap_or(&server);
    let writers = join_all([
        write(&server, &team.owner),
        write(other, &team.owner),
        write(&server, &team.owner),
        write(other, &team.owner),
    ]);
    let (spans, refused) = tokio::join!(operator, writers);
    assert!(
        refused.iter().sum::<u32>() > 0,
        "some were refused: {refused:?}"
    );
    drop(elsewhere);
    super::held(&store);
    let reading = reading(&store).await;
    let events = ledger::verify(&*reading).await;
    let mut within = 0;
    for (from, to) in spans {
        let ours = events.iter().filter(|event| {
            let is_within = event.position > from && event.position < to;
            is_within && [&team.workspace, &team.organization].contains(&&event.scope)
        });
        for event in ours {
            assert_eq!(event.event_type, "attempt_refused", "{event:?}");
            within += 1;
        }
    }
    assert!(within > 0, "what was refused is told");
    reading.close().await;
}

/// Answered is kept, whatever becomes of the process.
async fn killed(store: StoreUnderTest) {
    let Running { mut server, store } = Running::operated(store).await;
    let team = Team::make(&server).await;
    let rename = |server: &Server| {
        let call = server.patch(&team.path("")).bearer(&team.owner.token);
        call.json(json!({"name": format!("Renamed {}", number())}))
    };
    let operator = server.operated().cloned().expect("an operator");
    for (act, status) in [("suspend", 403), ("resume", 200), ("suspend", 403)] {
        let path = format!("/organizations/{}/{act}", team.organization);
        operate(&server, &path, json!({"reason": "killed"}))
            .await
            .expect(200);
        server.kill().await;
        server = Server::start(&store).await.operated_by(operator.clone());
        rename(&server).await.expect(status);
    }
    super::held(&store);
}

/// Keys are made, listed and taken back at the command line.
async fn key_rings(store: StoreUnderTest) {
    let arguments = ["keys", "operator", "create", "--name", "On call", "--json"];
    let made = run(crewlog_on(&store, &arguments)).expect(0).json();
    let (id, secret) = (text(&made, "/id"), text(&made, "/secret"));
    assert!(secret.starts_with("crew_op_"), "{made}");
    assert!(secret.starts_with(&text(&made, "/prefix")), "{made}");
    let arguments = [
        "keys",
        "operator",
        "create",
        "--name",
        "Short",
        "--expires-in-days",
        "1",
        "--json",
    ];
    let short = run(crewlog_on(&store, &arguments)).expect(0).json();
    assert!(short["expires_at"].is_string(), "{short}");

    let mut server = Server::start(&store).await;
    let team = Team::make(&server).await;
    let path = format!("/v1/operator/organizations/{}/suspend", team.organization);
    let suspend = async |server: &Server, secret: &str| {
        let call = server.post(&path).bearer(secret);
        call.json(json!({"reason": "because"})).await
    };
    suspend(&server, &secret).await.expect(200);
    // Not without a reason; not by anybody else; and it reads nothing.
    for body in [json!({}), json!({"reason": " "}), json!({"reason": null})] {
        let reply = server.post(&path).bearer(&secret).json(body).await;
        problem(&reply, 422, "invalid_body");
    }
    problem(
        &suspend(&server, &team.organization_owner.token).await,
        403,
        "not_permitted",
    );
    let organization = format!("/v1/organizations/{}", team.organization);
    for read in [
        organization.as_str(),
        &team.path("/members"),
        "/v1/me",
        "/v1/workspaces",
    ] {
        problem(
            &server.get(read).bearer(&secret).await,
            403,
            "not_permitted",
        );
    }
    let mistyped = format!("{}x", &secret[..secret.len() - 1]);
    problem(&suspend(&server, &mistyped).await, 401, "unauthenticated");

    // On PostgreSQL beside a server, which refuses it from then on; on SQLite with none.
    if store.kind() == StoreKind::Sqlite {
        let held = run(crewlog_on(&store, &["keys", "operator", "revoke", &id]));
        held.refused_with_log(&["another crewlog process"]);
        assert!(server.terminate().await.success());
    }
    let revoked = run(crewlog_on(&store, &["keys", "operator", "revoke", &id])).expect(0);
    assert!(revoked.stdout.contains("revoked"), "{}", revoked.stdout);
    assert!(!revoked.stdout.contains(&secret));
    if store.kind() == StoreKind::Sqlite {
        server = Server::start(&store).await;
    }
    problem(&suspend(&server, &secret).await, 401, "unauthenticated");
    let again = run(crewlog_on(&store, &["keys", "operator", "list", "--json"])).expect(0);
    let listed = again.json();
    let listed = listed["keys"].as_array().expect("keys");
    let states: Vec<_> = listed.iter().map(|key| text(key, "/status")).collect();
    assert_eq!(states, ["revoked", "active"]);
    assert!(!again.stdout.contains(&secret));
    if store.kind() == StoreKind::Postgres {
        let unknown = run(crewlog_on(&store, &["keys", "operator", "revoke", &id]));
        unknown.refused_with_log(&["no such"]);
    }
    super::held(&store);
}

/// A workspace, whose it is, and an operator's key.
struct Left {
    clocked: Clocked,
    operator: OperatorCaller,
    organization: OrganizationId,
    workspace: WorkspaceId,
    owner: Caller,
    /// Its address and password.
    owners_account: (String, String),
}

fn why() -> Request {
    Request {
        reason: Some("nobody there answers".to_owned()),
        ..Request::default()
    }
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Left {
    async fn on(store: StoreUnderTest) -> Self {
        let clocked = Clocked::on(store).await;
        let service = &clocked.service;
        let (_, token) = service
            .create_operator_key(name("On call"), None)
            .await
            .expect("a key");
        let request = Request {
            token: Some(SecretString::from(token.expose())),
            ..Request::default()
        };
        let operator = service.operator(&request).await.expect("a key that counts");
        let (mail, words) = (address("owner"), password());
        let asked = SignUp {
            email: email(&mail),
            password: secret(&words),
            name: name("Owner"),
            organization: Some(name("Left")),
            workspace: None,
        };
        let made = service.sign_up(&Request::default(), asked).await;
        let made = made.expect("a sign-up").value;
        let owner = Caller {
            user: made.me.id,
            session: made.session.id,
        };
        let organization = made.organization.expect("an organization").id;
        let plan = "team".parse().expect("a plan");
        let workspace = service
            .create_workspace(
                &Request::default(),
                &owner,
                organization,
                name("Left"),
                plan,
            )
            .await
            .expect("a workspace")
            .value
            .id;
        Self {
            operator: operator.expect("an operator"),
            organization,
            workspace,
            owner,
            owners_account: (mail, words),
            clocked,
        }
    }

    async fn recover(&self, heir: Heir) -> Result<u64, ServiceError> {
        let recovered = self
            .clocked
            .service
            .recover_workspace(&why(), &self.operator, self.workspace, heir)
            .await?;
        Ok(recovered.position)
    }
}

fn refusal(answer: Result<u64, ServiceError>) -> &'static str {
    match answer {
        Err(ServiceError::Refused(refusal)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

/// Only where no owner is left who may still sign in; and everybody there reads who did it.
async fn recovered(store: StoreUnderTest) {
    let left = Left::on(store).await;
    let service = &left.clocked.service;
    let (heir, _) = left.clocked.signed_up(None).await;
    let to_heir = || Heir::User(heir.user);
    assert_eq!(refusal(left.recover(to_heir()).await), "owner_is_there");
    // Without a session, and still not gone.
    let request = Request::default();
    let ended = service.end_session(&request, &left.owner, left.owner.session);
    ended.await.expect("signed out");
    left.clocked.source.pass(DAY * 29);
    assert_eq!(refusal(left.recover(to_heir()).await), "owner_is_there");
    left.clocked.source.pass(DAY);
    let nobody = Heir::Email(email(&address("nobody")));
    assert_eq!(refusal(left.recover(nobody).await), "no_such_account");
    assert_eq!(
        refusal(left.recover(Heir::User(left.owner.user)).await),
        "invalid_body"
    );
    // Also while it is suspended, which may be why.
    let suspended = service
        .suspend_organization(&why(), &left.operator, left.organization)
        .await;
    suspended.expect("suspended");
    let (newcomer, _) = left.clocked.signed_up(None).await;
    let position = left
        .recover(Heir::User(newcomer.user))
        .await
        .expect("recovered");
    // The new owner is there: nobody else is given it.
    assert_eq!(refusal(left.recover(to_heir()).await), "owner_is_there");

    let may = service.workspace(&request, &newcomer, left.workspace).await;
    may.expect("its owner reads it");
    let scope = AuditScope::Workspace(left.workspace);
    let all = AuditFilter::default();
    let page = service
        .audit(&request, &newcomer, scope, &all, None, 200)
        .await;
    let entries = page.expect("its log").entries;
    let told = entries
        .iter()
        .find(|entry| entry.action == "workspace.recovered" && entry.outcome.name() == "ok");
    let told = told.expect("it is told");
    assert_eq!(told.position, position);
    assert_eq!(told.actor.kind, "operator_key");
    assert_eq!(told.actor.name.as_deref(), Some("On call"));
    assert_eq!(told.reason.as_deref(), Some("nobody there answers"));
    let denied = entries
        .iter()
        .filter(|entry| entry.outcome.name() == "denied" && entry.actor.kind == "operator_key");
    assert!(denied.count() >= 2, "what was refused is told as well");
    // Access says that somebody has it by this event; the old owner stays what they were.
    let members = service
        .members_of(&request, &newcomer, left.workspace, None, 50)
        .await;
    let roles: Vec<_> = members.expect("members").items;
    assert_eq!(roles.len(), 2);
    assert!(roles.iter().all(|(_, member)| member.role == Role::Owner));
    left.clocked.holds().await;
}

/// An owner who signs in first is not gone; one who comes too late finds another.
async fn signs_in(store: StoreUnderTest) {
    let left = Left::on(store).await;
    let service = &left.clocked.service;
    let (heir, _) = left.clocked.signed_up(None).await;
    left.clocked.source.pass(DAY * 31);
    let (mail, words) = &left.owners_account;
    let request = Request::default();
    let address = email(mail);
    let sign_in = service.sign_in(&request, &address, secret(words));
    let (recovered, signed_in) = tokio::join!(left.recover(Heir::User(heir.user)), sign_in);
    let signed_in = signed_in.expect("a session").position;
    match recovered {
        Ok(position) => assert!(position < signed_in, "{position} is before {signed_in}"),
        Err(ServiceError::Refused(refusal)) => assert_eq!(refusal, Refusal::OwnerIsThere),
        Err(error) => panic!("{error:?}"),
    }
    left.clocked.holds().await;
}

/// A promotion whose time comes is not applied, then or later, and says why.
async fn schedule_ends(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let team = Team::make(&server).await;
    let (owner, admin) = (&team.owner, &team.admin);
    let source = team.crew(&server, "development").await;
    let target = team.crew(&server, "production").await;
    let post = async |path: String, by: &Person, body: Value| {
        let call = server.post(&team.path(&path)).bearer(&by.token);
        call.json(body).await
    };
    let agent = json!({"name": "Greeter", "config": {"greeting": "Hello"}});
    let made = post(format!("/crews/{source}/agents"), owner, agent).await;
    made.expect(201);
    let proposal = json!({"source": source, "target": target, "reason": "a greeting"});
    let made = post("/promotions".to_owned(), owner, proposal).await;
    let id = text(&made.expect(201).body, "/id");
    let approved = post(format!("/promotions/{id}/approve"), admin, json!({})).await;
    approved.expect(200);
    let soon = SystemSource.now().plus(chrono::TimeDelta::seconds(2));
    let at = json!({"at": soon.to_rfc3339()});
    let scheduled = post(format!("/promotions/{id}/apply"), owner, at).await;
    scheduled.expect(200);
    suspend(&server, &team.organization).await.expect(200);
    let log = team.path(&format!(
        "/audit?target={id}&action=promotion.schedule_ended"
    ));
    let told = super::eventually("the schedule to end", async || {
        let told = entries(&server, &log, owner).await;
        told.into_iter().next()
    })
    .await;
    let why = json!({"path": "why", "from": null, "to": "organization_suspended"});
    let changes = told["changes"].as_array().expect("changes");
    assert!(changes.contains(&why), "{told}");
    resume(&server, &team.organization).await.expect(200);
    let path = team.path(&format!("/crews/{target}/agents"));
    let page = server.get(&path).bearer(&owner.token).await.expect(200);
    assert_eq!(page.body["data"], json!([]));
    super::held(&store);
}

/// What time does goes on: it ends what ends.
async fn due_work(store: StoreUnderTest) {
    let left = Left::on(store).await;
    let (service, request) = (&left.clocked.service, Request::default());
    let until = |days: i64| Timestamp(left.clocked.source.now().0 + days * 24 * 3_600 * 1_000_000);
    let mail = address("auditor");
    let asked = SignUp {
        email: email(&mail),
        password: secret(&password()),
        name: name("Auditor"),
        organization: None,
        workspace: None,
    };
    service.sign_up(&request, asked).await.expect("a sign-up");
    let granted = service
        .grant_auditor(
            &request,
            &left.owner,
            left.workspace,
            &email(&mail),
            until(3),
        )
        .await;
    granted.expect("a grant");
    let invited = service
        .invite(
            &request,
            &left.owner,
            left.workspace,
            &email(&address("late")),
            Role::Viewer,
        )
        .await;
    invited.expect("an invitation");
    let suspended = service
        .suspend_organization(&why(), &left.operator, left.organization)
        .await;
    suspended.expect("suspended");
    left.clocked.source.pass(DAY * 8);
    let report = service.do_what_is_due().await.expect("due work");
    assert_eq!(
        (report.auditors_expired, report.invitations_expired),
        (1, 1)
    );
    left.clocked.holds().await;
}
