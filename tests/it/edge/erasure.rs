//! Somebody erases their account: what is gone at once, what an organization keeps until its
//! retention is over or a legal hold lifted, and that nothing of them is found afterwards.

use std::time::Duration;

use crewlog::domain::Refusal;
use crewlog::domain::authority::Role;
use crewlog::journal::sealing::RootKey;
use crewlog::service::{
    Acceptance, AuditFilter, AuditScope, Caller, Service, ServiceError, ServiceSettings, SignUp,
};
use serde_json::{Value, json};

use super::Running;
use super::eventually;
use super::routes::{points_at, problem};
use super::secrets::{Secrets, files, tables};
use super::team::{Person, Team, address, invite, number, password, text};
use super::time::{Clocked, Owned, email, name, request, secret};
use crate::support::journal::{ROOT_KEY, open_store};
use crate::support::server::{Call, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

const RETENTION_DAYS: &str = "CREWLOG_ERASURE_RETENTION_DAYS";
const AGENT: &str = "erasure-trial-agent/7.3 (nobody-else-sends-this)";

pub fn trials() -> Vec<Case> {
    vec![
        both("erasure", "a_last_owner_hands_over_first", last_owner),
        both("erasure", "an_erased_account_is_found_nowhere", searched),
        both("erasure", "a_legal_hold_keeps_it", held),
        both(
            "erasure",
            "an_organization_keeps_its_copy_for_its_retention",
            retained,
        ),
        both("erasure", "a_hold_is_an_owners_and_says_why", holds),
    ]
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
    // Of a workspace, and of an organization.
    for person in [&team.owner, &team.organization_owner] {
        let refused = erase(&server, person, &person.password).await;
        problem(&refused, 409, "last_owner");
        server.get("/v1/me").bearer(&person.token).await.expect(200);
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

async fn searched(store: StoreUnderTest) {
    let mut command = Server::command(&store);
    command.env(RETENTION_DAYS, "0").env("RUST_LOG", "trace");
    let mut server = Server::launch(command).await;
    let team = Team::make(&server).await;
    let (mail, pass) = (address("erased-person"), password());
    let called = format!("Erasmus Gonefrom{}", number());
    let agent = |call: Call| call.header("User-Agent", AGENT);
    let sign_up = |name: &str, password: &str| {
        let body = json!({"email": mail, "password": password, "name": name});
        agent(server.post("/v1/signup").json(body))
    };
    let made = sign_up(&called, &pass).await.expect(201);
    let person = Person {
        name: called.clone(),
        email: mail.clone(),
        password: pass.clone(),
        user: text(&made.body, "/user/id"),
        session: text(&made.body, "/session/id"),
        token: text(&made.body, "/session/token"),
        later: text(&made.body, "/session/expires_at"),
    };
    team.join(&server, &person, "admin").await;
    let rename = json!({"name": format!("Dr {called}")});
    agent(server.patch("/v1/me").bearer(&person.token).json(rename))
        .await
        .expect(200);
    let crew = json!({"name": format!("Client {} - staging", number()), "environment": "staging"});
    agent(
        server
            .post(&team.path("/crews"))
            .bearer(&person.token)
            .json(crew),
    )
    .await
    .expect(201);
    // It is there to be found, before.
    let before = everything_answered(&server, &team).await;
    for value in [&mail, &called, &AGENT.to_owned()] {
        assert!(before.contains(value.as_str()), "{value} is told before");
    }

    agent(erase(&server, &person, &pass)).await.expect(204);
    problem(
        &server.get("/v1/me").bearer(&person.token).await,
        401,
        "unauthenticated",
    );
    let sign_in = json!({"email": mail, "password": pass});
    let refused = server.post("/v1/sessions").json(sign_in).await;
    problem(&refused, 401, "invalid_credentials");
    eventually("the organization erases its copy", async || {
        is_erased(&server, &team, &person.user).await.then_some(())
    })
    .await;
    let after = eventually("the process forgets the key", async || {
        let after = everything_answered(&server, &team).await;
        (!after.contains(&mail)).then_some(after)
    })
    .await;
    let mut secrets = Secrets::default();
    secrets.keep("an e-mail address", &mail);
    secrets.keep("a name", &called);
    secrets.keep("a user agent", AGENT);
    secrets.absent_in("an answer", after.as_bytes());
    assert!(after.contains("\"erased\""), "what is gone is told so");
    // Nor is it in what is stored, however it is written there; nor was it ever in the log.
    for (what, value) in [("a name", &called), ("an e-mail address", &mail)] {
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD_NO_PAD, value);
        // The last group depends on what follows.
        secrets.keep(what, &encoded[..encoded.len() - 4]);
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        secrets.keep(what, &hex);
    }
    match store.database_url() {
        Some(url) => tables(url, &secrets).await,
        None => files(
            store.data_dir(),
            &store.data_dir().join("root.key"),
            &secrets,
        ),
    }
    secrets.absent_in("the log", server.logs().as_bytes());

    // The address is free: to be invited, and to sign up with.
    let invited = invite(&server, &team.workspace, &team.owner, &mail, "viewer").await;
    let token = text(&invited.expect(201).body, "/token");
    let again = sign_up("Somebody Else", &password()).await.expect(201);
    assert_ne!(text(&again.body, "/user/id"), person.user);
    let call = server.post("/v1/invitations/accept");
    let call = call.bearer(&text(&again.body, "/session/token"));
    call.json(json!({"token": token})).await.expect(200);
    assert!(server.terminate().await.success());
    super::held(&store);
}

/// The answers that tell of people.
async fn everything_answered(server: &Server, team: &Team) -> String {
    let organization = format!("/v1/organizations/{}", team.organization);
    let of_workspace = [
        "/members?limit=200",
        "/invitations?limit=200",
        "/auditors?limit=200",
        "/audit?limit=200",
        "/audit/export?format=jsonl",
        "/audit/export?format=csv",
        "/access",
    ];
    let mut answers = String::new();
    for path in of_workspace {
        let call = server.get(&team.path(path)).bearer(&team.owner.token);
        answers.push_str(&call.await.expect(200).text);
    }
    for path in [
        "/members?limit=200",
        "/audit?limit=200",
        "/audit/export?format=jsonl",
    ] {
        let call = server.get(&format!("{organization}{path}"));
        let call = call.bearer(&team.organization_owner.token);
        answers.push_str(&call.await.expect(200).text);
    }
    answers
}

async fn held(store: StoreUnderTest) {
    let mut command = Server::command(&store);
    command.env(RETENTION_DAYS, "0");
    let mut server = Server::launch(command).await;
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
    let mine = everything_answered(&server, &team).await;
    for person in [&first, &second] {
        assert!(!is_erased(&server, &team, &person.user).await, "it is held");
        assert!(mine.contains(&person.name), "what is held can be read");
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
        .erase_account(&request(), &caller, secret(&password()))
        .await;
    assert!(matches!(
        erased,
        Err(ServiceError::Refused(Refusal::WrongPassword))
    ));
    let erased = service
        .erase_account(&request(), &caller, secret(&pass))
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
