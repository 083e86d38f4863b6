//! Somebody erases their account: what is gone at once, what an organization keeps until its
//! retention is over or a legal hold lifted.
//!
//! [`search`] looks for what is left of them, everywhere; [`killed`] kills the process meanwhile;
//! [`model`] lets erasing race with everything that gives somebody something.

mod killed;
mod model;
mod search;

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::time::Duration;

use crewlog::domain::Refusal;
use crewlog::domain::authority::Role;
use crewlog::journal::sealing::RootKey;
use crewlog::service::{
    Acceptance, AuditFilter, AuditScope, Caller, Request, Service, ServiceError, ServiceSettings,
    SignUp,
};
use futures::future::join_all;
use serde_json::{Value, json};

use super::Running;
use super::eventually;
use super::routes::{points_at, problem};
use super::team::{Person, Team, accept, address, grant, invited, number, password, text};
use super::time::{Clocked, Owned, email, name, request, secret};
use crate::support::journal::{ROOT_KEY, open_store};
use crate::support::server::{Call, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

/// For how long organizations keep their copies.
const RETENTION_DAYS: &str = "CREWLOG_ERASURE_RETENTION_DAYS";

pub fn trials() -> Vec<Case> {
    [
        vec![
            both("erasure", "a_last_owner_hands_over_first", last_owner),
            both(
                "erasure",
                "who_is_erased_is_somebody_else_afterwards",
                again,
            ),
            both("erasure", "a_repeated_erasure_is_answered_again", repeated),
            both("erasure", "many_memberships_are_left_at_once", many),
            both("erasure", "a_legal_hold_keeps_it", held),
            both(
                "erasure",
                "an_organization_keeps_its_copy_for_its_retention",
                retained,
            ),
            both("erasure", "a_hold_is_an_owners_and_says_why", holds),
        ],
        killed::trials(),
        model::trials(),
        search::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A server whose organizations keep nothing for longer than they must.
async fn forgetful(store: &StoreUnderTest) -> Server {
    let mut command = Server::command(store);
    command.env(RETENTION_DAYS, "0");
    Server::launch(command).await
}

fn erase(server: &Server, person: &Person, password: &str) -> Call {
    server
        .post("/v1/me/erase")
        .bearer(&person.token)
        .json(json!({"password": password}))
}

fn hold(server: &Server, team: &Team, method: reqwest::Method, by: &Person) -> Call {
    server
        .call(method, &team.path("/legal-hold"))
        .bearer(&by.token)
        .json(json!({"reason": "case 17"}))
}

/// What the organization's audit log, and the workspace's, say.
async fn told(server: &Server, team: &Team) -> Vec<Value> {
    let log = format!("/v1/organizations/{}/audit?limit=200", team.organization);
    let mut entries = Vec::new();
    for (path, reader) in [
        (log, &team.organization_owner),
        (team.path("/audit?limit=200"), &team.owner),
    ] {
        let page = server.get(&path).bearer(&reader.token).await.expect(200);
        entries.extend(page.body["data"].as_array().expect("a list").clone());
    }
    entries
}

async fn is_erased(server: &Server, team: &Team, user: &str) -> bool {
    let entries = told(server, team).await;
    entries
        .iter()
        .any(|entry| entry["action"] == "person.erased" && entry["target"]["id"] == user)
}

async fn last_owner(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    // Of a workspace, of an organization, and of both.
    let made = json!({
        "organization": {"name": format!("Org {}", number())},
        "workspace": {"name": format!("Team {}", number()), "plan": "team"},
    });
    let (founder, founded) = Person::sign_up_with(&server, "founder", made).await;
    let of = |pointer| text(&founded.body, pointer);
    for (person, owned) in [
        (&team.owner, vec![team.workspace.clone()]),
        (&team.organization_owner, vec![team.organization.clone()]),
        (&founder, vec![of("/organization/id"), of("/workspace/id")]),
    ] {
        let refused = erase(&server, person, &person.password).await;
        problem(&refused, 409, "last_owner");
        let errors = refused.body["errors"].as_array().expect("what is owned");
        let told: BTreeSet<_> = errors.iter().map(|error| text(error, "/detail")).collect();
        assert_eq!(told, owned.into_iter().collect(), "{}", refused.text);
        // Nothing has changed.
        server.get("/v1/me").bearer(&person.token).await.expect(200);
        person.sign_in(&server).await;
    }
    let wrong = erase(&server, &team.admin, &password()).await;
    problem(&wrong, 403, "wrong_password");
    // Who hands over can go.
    let call = server.post(&team.path("/transfer-ownership"));
    let heir = json!({"user": team.admin.user});
    call.bearer(&team.owner.token).json(heir).await.expect(200);
    erase(&server, &team.owner, &team.owner.password)
        .await
        .expect(204);
    let gone = server.get("/v1/me").bearer(&team.owner.token).await;
    problem(&gone, 401, "unauthenticated");
    super::held(&store);
}

/// The address is free: whoever has it next is somebody else.
async fn again(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let person = team.joined(&server, "admin").await;
    // Invited somewhere else, where nobody knows them.
    let elsewhere = Team::make(&server).await;
    let (workspace, by) = (&elsewhere.workspace, &elsewhere.owner);
    let token = invited(&server, workspace, by, &person.email, "viewer").await;
    let other = person.sign_in(&server).await;
    erase(&server, &person, &person.password).await.expect(204);
    for session in [&person, &other] {
        let gone = server.get("/v1/me").bearer(&session.token).await;
        problem(&gone, 401, "unauthenticated");
    }
    let sign_in = json!({"email": person.email, "password": person.password});
    let refused = server.post("/v1/sessions").json(sign_in).await;
    problem(&refused, 401, "invalid_credentials");
    let member = team.path(&format!("/members/{}", person.user));
    let gone = server.get(&member).bearer(&team.owner.token).await;
    problem(&gone, 404, "not_found");
    let refused = grant(&server, &team.workspace, &team.owner, &person).await;
    problem(&refused, 409, "no_such_account");
    let role = format!(
        "/v1/organizations/{}/members/{}",
        team.organization, person.user
    );
    let role = server.put(&role).bearer(&team.organization_owner.token);
    let refused = role.json(json!({"role": "billing"})).await;
    assert!([404, 409].contains(&refused.status), "{}", refused.text);

    let body = json!({"email": person.email, "password": password(), "name": "Somebody Else"});
    let made = server.post("/v1/signup").json(body).await.expect(201);
    let next = Person {
        user: text(&made.body, "/user/id"),
        token: text(&made.body, "/session/token"),
        ..person.clone()
    };
    assert_ne!(next.user, person.user);
    let me = server.get("/v1/me").bearer(&next.token).await.expect(200);
    assert_eq!(me.body["memberships"], json!([]), "nothing is inherited");
    // What was pending is for whoever has the address.
    accept(&server, &next, &token).await.expect(200);
    let (workspace, by) = (&team.workspace, &team.owner);
    let token = invited(&server, workspace, by, &next.email, "viewer").await;
    accept(&server, &next, &token).await.expect(200);
    // The organization still knows both, each by their name.
    let members = server.get(&team.path("/members")).bearer(&team.owner.token);
    let members = members.await.expect(200);
    assert!(members.text.contains("Somebody Else"), "{}", members.text);
    assert!(!members.text.contains(&person.name), "{}", members.text);
    let entries = told(&server, &team).await;
    let left = entries.iter().find(|entry| {
        entry["action"] == "member.left" && entry["actor"]["id"] == person.user.as_str()
    });
    let left = left.expect("they have left");
    assert_eq!(
        left["actor"]["name"],
        person.name.as_str(),
        "it keeps its copy"
    );
    let scheduled = |entry: &&Value| {
        entry["action"] == "person.erasure_scheduled"
            && entry["target"]["id"] == person.user.as_str()
    };
    assert_eq!(entries.iter().filter(scheduled).count(), 1, "{entries:?}");
    super::held(&store);
}

/// What Stripe's users expect: the first answer, to the same key and token, though the session that
/// the token was of is gone.
async fn repeated(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let person = Person::sign_up(&server, "twice").await;
    let ask = |key: &str, token: &str, password: &str| {
        let call = server.post("/v1/me/erase").bearer(token);
        let call = call.header("Idempotency-Key", key);
        call.json(json!({"password": password}))
    };
    let wrong = ask("once", &person.token, &password()).await;
    problem(&wrong, 403, "wrong_password");
    let calls = (0..4).map(|_| ask("once", &person.token, &person.password).into_future());
    let replies = join_all(calls).await;
    let (done, others): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 204);
    for other in others {
        problem(other, 409, "idempotency_in_progress");
    }
    let first: Vec<_> = done
        .iter()
        .filter(|reply| reply.header("idempotent-replayed").is_none())
        .collect();
    assert_eq!(first.len(), 1, "one of them did it");
    let again = ask("once", &person.token, &person.password)
        .await
        .expect(204);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let position =
        |reply: &crate::support::server::Reply| reply.header("crewlog-position").map(str::to_owned);
    assert_eq!(position(&again), position(first[0]));
    let other = ask("once", &person.token, &password()).await;
    problem(&other, 422, "idempotency_key_reused");
    // Nothing else is answered to the token, nor this to another one.
    let stranger = Person::sign_up(&server, "another").await;
    let forged = format!("{}x", &person.token[..person.token.len() - 1]);
    for refused in [
        ask("twice", &person.token, &person.password).await,
        ask("once", &forged, &person.password).await,
        erase(&server, &person, &person.password).await,
        server.get("/v1/me").bearer(&person.token).await,
    ] {
        problem(&refused, 401, "unauthenticated");
    }
    let refused = ask("once", &stranger.token, &person.password).await;
    problem(&refused, 403, "wrong_password");
    server
        .get("/v1/me")
        .bearer(&stranger.token)
        .await
        .expect(200);
    super::held(&store);
}

/// As many memberships as are left in one append; one more is refused before anything changes.
async fn many(store: StoreUnderTest) {
    const MOST: usize = 450;
    let server = forgetful(&store).await;
    let made = json!({"organization": {"name": "Agency"}});
    let (boss, made) = Person::sign_up_with(&server, "boss", made).await;
    let workspaces = format!(
        "/v1/organizations/{}/workspaces",
        text(&made.body, "/organization/id")
    );
    let person = Person::sign_up(&server, "everywhere").await;
    let mut audited = Vec::new();
    while audited.len() <= MOST {
        let calls = (0..41).map(|_| {
            let name = json!({"name": format!("Client {}", number())});
            let call = server.post(&workspaces).bearer(&boss.token).json(name);
            call.into_future()
        });
        let made = join_all(calls).await;
        let ids: Vec<_> = made
            .into_iter()
            .map(|made| text(&made.expect(201).body, "/id"))
            .collect();
        let grants = ids
            .iter()
            .map(|id| grant(&server, id, &boss, &person).into_future());
        for granted in join_all(grants).await {
            granted.expect(201);
        }
        audited.extend(ids);
    }
    assert_eq!(audited.len(), MOST + 1, "one too many");
    let refused = erase(&server, &person, &person.password).await;
    problem(&refused, 409, "too_many_memberships");
    assert!(refused.text.contains("451"), "{}", refused.text);
    let log = format!("/v1/workspaces/{}/audit", audited[0]);
    server.get(&log).bearer(&person.token).await.expect(200);
    let own = format!("/v1/workspaces/{}/auditors/{}", audited[0], person.user);
    server.delete(&own).bearer(&person.token).await.expect(204);
    erase(&server, &person, &person.password).await.expect(204);
    for workspace in [&audited[1], &audited[MOST]] {
        let grants = format!("/v1/workspaces/{workspace}/auditors");
        let left = server.get(&grants).bearer(&boss.token).await.expect(200);
        assert_eq!(left.body["data"], json!([]), "{}", left.text);
    }
    super::held(&store);
}

async fn held(store: StoreUnderTest) {
    let mut server = forgetful(&store).await;
    let team = Team::make(&server).await;
    let [first, second] = [
        team.joined(&server, "member").await,
        team.joined(&server, "member").await,
    ];
    hold(&server, &team, reqwest::Method::PUT, &team.owner)
        .await
        .expect(204);
    // The account goes at once all the same; the organization's copy does not.
    erase(&server, &first, &first.password).await.expect(204);
    let elsewhere = Team::make(&server).await;
    elsewhere.join(&server, &second, "member").await;
    erase(&server, &second, &second.password).await.expect(204);
    eventually("the other organization erases its copy", async || {
        is_erased(&server, &elsewhere, &second.user)
            .await
            .then_some(())
    })
    .await;
    let mine = told(&server, &team).await;
    for person in [&first, &second] {
        assert!(!is_erased(&server, &team, &person.user).await, "it is held");
        let left = |entry: &&Value| {
            entry["action"] == "member.left" && entry["actor"]["id"] == person.user.as_str()
        };
        let left = mine.iter().find(left).expect("they have left");
        assert_eq!(
            left["actor"]["name"],
            person.name.as_str(),
            "evidence is kept"
        );
    }
    hold(&server, &team, reqwest::Method::DELETE, &team.owner)
        .await
        .expect(204);
    for person in [&first, &second] {
        eventually("what was held is erased", async || {
            is_erased(&server, &team, &person.user).await.then_some(())
        })
        .await;
    }
    assert!(server.terminate().await.success());
    super::held(&store);
}

async fn holds(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let path = team.path("/legal-hold");
    for body in [json!({"reason": " "}), json!({"reason": "x".repeat(501)})] {
        let call = server.put(&path).bearer(&team.owner.token).json(body);
        let reply = call.await;
        assert_eq!(reply.status, 422, "{}", reply.text);
    }
    let call = server.put(&path).bearer(&team.owner.token);
    points_at(&call.json(json!({})).await, "/reason", &["missing_field"]);
    let refused = hold(&server, &team, reqwest::Method::PUT, &team.admin).await;
    problem(&refused, 403, "not_permitted");
    for method in [reqwest::Method::PUT, reqwest::Method::PUT] {
        hold(&server, &team, method, &team.owner).await.expect(204);
    }
    let workspace = server.get(&team.path("")).bearer(&team.owner.token);
    let called = text(&workspace.await.expect(200).body, "/name");
    let delete = || {
        let call = server.delete(&team.path("")).bearer(&team.owner.token);
        call.json(json!({"confirm": called}))
    };
    problem(&delete().await, 409, "under_legal_hold");
    let entries = told(&server, &team).await;
    let of = |action: &str| {
        let found = entries.iter().filter(|entry| entry["action"] == action);
        let with = found.filter(|entry| entry["outcome"] == "ok");
        with.map(|entry| text(entry, "/reason"))
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(of("legal_hold.placed").len(), 1);
    assert!(of("legal_hold.placed").contains("case 17"));
    hold(&server, &team, reqwest::Method::DELETE, &team.owner)
        .await
        .expect(204);
    delete().await.expect(204);
    super::held(&store);
}

async fn retained(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let owner: Owned = clocked.owner().await;
    let service = &clocked.service;
    // Another process, which reads the name too and has the key in memory; one process alone
    // writes a file.
    let other = match clocked.store.database_url() {
        Some(_) => {
            let opened = open_store(&clocked.store).await;
            let root = RootKey::from_text(ROOT_KEY).expect("the tests' root key");
            let settings = ServiceSettings::default();
            let started = Service::start(opened, clocked.source.clone(), &root, settings).await;
            Some(started.expect("another process"))
        }
        None => None,
    };
    let (mail, pass) = (address("kept"), password());
    let asked = || SignUp {
        email: email(&mail),
        password: secret(&pass),
        name: name("Kept Forawhile"),
        organization: None,
        workspace: None,
    };
    let made = service.sign_up(&request(), asked()).await;
    let made = made.expect("a sign-up").value;
    let caller = Caller {
        user: made.me.id,
        session: made.session.id,
    };
    let session = made.session.token.expect("the token of a new session");
    let asking = Request {
        token: Some(secret(session.expose())),
        ..request()
    };
    let (ours, by, role) = (owner.workspace, &owner.caller, Role::Viewer);
    let invited = service
        .invite(&request(), by, ours, &email(&mail), role)
        .await;
    let token = invited
        .expect("an invitation")
        .value
        .token
        .expect("a token");
    let accepted = service
        .accept_invitation(
            &request(),
            &secret(token.expose()),
            Acceptance::SignedIn(caller.clone()),
        )
        .await;
    accepted.expect("they come in");

    let erased = service
        .erase_account(&asking, Some(&caller), secret(&password()))
        .await;
    assert!(matches!(
        erased,
        Err(ServiceError::Refused(Refusal::WrongPassword))
    ));
    let erased = service
        .erase_account(&asking, Some(&caller), secret(&pass))
        .await;
    erased.expect("the account is erased");
    let left = clocked.entries(&owner, "member.left").await;
    assert_eq!(left.len(), 1, "they have left");
    let processes: Vec<_> = [Some(service.clone()), other.clone()]
        .into_iter()
        .flatten()
        .collect();
    let called = async |process: &Service| {
        let filter = AuditFilter {
            action: Some("member.left".to_owned()),
            ..AuditFilter::default()
        };
        let scope = AuditScope::Workspace(owner.workspace);
        let page = process
            .audit(&request(), by, scope, &filter, None, 200)
            .await;
        let entries = page.expect("the audit log").entries;
        format!("{:?}", entries[0])
    };
    let day = Duration::from_secs(24 * 3600);
    clocked.source.pass(30 * day - Duration::from_secs(60));
    for process in &processes {
        let done = process.do_what_is_due().await.expect("due work");
        assert_eq!(done.people_erased, 0, "the organization keeps its copy");
        assert!(called(process).await.contains("Kept Forawhile"));
    }
    // The address is free at once.
    let again = service
        .sign_up(&request(), asked())
        .await
        .expect("a sign-up");
    assert_ne!(again.value.me.id, caller.user);

    clocked.source.pass(Duration::from_secs(61));
    // However many look for it, it is done once, and all forget the key.
    let mut erased = 0;
    for process in processes.iter().chain(&processes) {
        erased += process
            .do_what_is_due()
            .await
            .expect("due work")
            .people_erased;
    }
    assert_eq!(erased, 1);
    for process in &processes {
        let told = called(process).await;
        assert!(
            !told.contains("Forawhile") && !told.contains(&mail),
            "{told}"
        );
    }
    if let Some(other) = other {
        assert!(other.stop(Duration::from_secs(10)).await);
    }
    drop(processes);
    clocked.holds().await;
}
