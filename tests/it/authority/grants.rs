//! Auditor grants through two processes: a grant is given by an address, and whose it is, whether
//! they are let in already, and whether whoever gives it still may, can change through the other
//! process until the last moment.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::rounds;
use crate::edge::team::{Person, Team, accept, address, grant, invited, number, password, text};
use crate::projections::assert_store_is_its_log;
use crate::support::journal::reading;
use crate::support::ledger;
use crate::support::load::until;
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, on};

pub fn trials() -> Vec<Case> {
    vec![on(
        &[StoreKind::Postgres],
        "authority",
        "auditors_are_granted_by_two_processes",
        granted,
    )]
}

/// Grants of one person that are sent at once.
const AT_ONCE: usize = 8;

/// What happens through the other process while a grant is decided, and not sent.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    /// The address goes to somebody else, whom it then is for.
    AnotherHasIt,
    /// The address is given up, and nobody's.
    NobodyHasIt,
    /// The other process grants it.
    Granted,
    /// They come in as a member.
    Member,
    /// Whoever grants may no more.
    Demoted,
    /// The workspace is deleted.
    Deleted,
}

impl Meanwhile {
    /// The last deletes the workspace.
    const ALL: [Self; 6] = [
        Self::AnotherHasIt,
        Self::NobodyHasIt,
        Self::Granted,
        Self::Member,
        Self::Demoted,
        Self::Deleted,
    ];

    /// What the grant is answered, once it goes on.
    fn answer(self) -> (u16, Option<&'static str>) {
        match self {
            Self::AnotherHasIt => (201, None),
            Self::NobodyHasIt => (409, Some("no_such_account")),
            Self::Granted => (409, Some("already_exists")),
            Self::Member => (409, Some("already_member")),
            Self::Demoted => (403, Some("not_permitted")),
            Self::Deleted => (404, Some("not_found")),
        }
    }
}

/// An event of a grant, or of whose an address is.
struct Told {
    position: u64,
    kind: String,
    user: String,
}

async fn granted(store: StoreUnderTest) {
    let mut servers = [Server::start(&store).await, Server::start(&store).await];
    let team = Team::make(&servers[0]).await;
    let mut moved = Vec::new();
    for _ in 0..rounds(2) {
        many_at_once(&servers, &team).await;
        moved.push(address_moves(&servers, &team).await);
    }
    let [other, _] = &servers;
    let mut of_each = Vec::new();
    for meanwhile in Meanwhile::ALL {
        of_each.push(late(&store, other, &team, meanwhile).await);
    }
    for server in &mut servers {
        assert!(server.terminate().await.success(), "{}", server.logs());
    }
    let told = told(&store).await;
    for [alice, bob] in moved {
        granted_to_the_holder(&told, &alice, &bob);
    }
    for (meanwhile, [alice, bob]) in Meanwhile::ALL.into_iter().zip(of_each) {
        let expected = match meanwhile {
            Meanwhile::AnotherHasIt => (0, 1),
            Meanwhile::Granted => (1, 0),
            Meanwhile::NobodyHasIt
            | Meanwhile::Member
            | Meanwhile::Demoted
            | Meanwhile::Deleted => (0, 0),
        };
        let found = (grants_of(&told, &alice).len(), grants_of(&told, &bob).len());
        assert_eq!(found, expected, "{meanwhile:?}");
    }
    let reading = reading(&store).await;
    assert_store_is_its_log(&*reading).await;
    reading.close().await;
    crate::edge::held(&store);
}

/// One person is granted by two, through both processes: once.
async fn many_at_once(servers: &[Server; 2], team: &Team) {
    let alice = Person::sign_up(&servers[0], "auditor").await;
    let calls = (0..AT_ONCE).map(|nth| {
        let by = [&team.owner, &team.admin][nth / 2 % 2];
        grant(&servers[nth % 2], &team.workspace, by, &alice).into_future()
    });
    let replies = futures::future::join_all(calls).await;
    let (made, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 201);
    let codes: Vec<_> = refused
        .iter()
        .map(|reply| text(&reply.body, "/code"))
        .collect();
    assert_eq!(made.len(), 1, "{codes:?}");
    assert_eq!(codes, ["already_exists"; AT_ONCE - 1]);
}

/// Somebody is granted by an address that they give up at that moment, and that somebody else
/// takes as soon as it is free.
async fn address_moves(servers: &[Server; 2], team: &Team) -> [String; 2] {
    let [here, there] = servers;
    let alice = Person::sign_up(here, "auditor").await;
    let taken = async {
        moves(there, &alice).await;
        signs_up_at(there, &alice.email).await
    };
    let asked = grant(here, &team.workspace, &team.owner, &alice).into_future();
    let (reply, bob) = futures::join!(asked, taken);
    match reply.status {
        201 => assert_eq!(reply.body["email"], alice.email),
        _ => assert_eq!(reply.body["code"], "no_such_account", "{}", reply.text),
    }
    [alice.user, bob]
}

async fn moves(server: &Server, person: &Person) {
    let change = json!({"email": address("moved"), "password": person.password});
    let call = server.patch("/v1/me").bearer(&person.token);
    call.json(change).await.expect(200);
}

/// The id of somebody who has signed up with the address.
async fn signs_up_at(server: &Server, email: &str) -> String {
    let name = format!("Bob {}", number());
    let body = json!({"email": email, "password": password(), "name": name});
    let reply = server.post("/v1/signup").json(body).await.expect(201);
    text(&reply.body, "/user/id")
}

/// A grant that is decided, and held until something else has happened through the other process.
/// Answers with whom it was for, and who has their address since.
async fn late(
    store: &StoreUnderTest,
    other: &Server,
    team: &Team,
    meanwhile: Meanwhile,
) -> [String; 2] {
    let alice = Person::sign_up(other, "auditor").await;
    let token = invited(other, &team.workspace, &team.owner, &alice.email, "viewer").await;
    let mut command = Server::command(store);
    command.env("CREWLOG_FAIL_POINT", "append_before_send:1:stop");
    let mut late = Server::launch(command).await;
    let call = grant(&late, &team.workspace, &team.admin, &alice);
    let waiting = tokio::spawn(call.into_future());
    let stopped = || late.logs().contains("stopping") && late.is_stopped();
    until("it to stop itself", Duration::from_secs(30), stopped).await;

    let mut bob = String::new();
    let admin = team.path(&format!("/members/{}", team.admin.user));
    let role = async |role: &str| {
        let call = other.patch(&admin).bearer(&team.owner.token);
        call.json(json!({"role": role})).await.expect(200);
    };
    match meanwhile {
        Meanwhile::AnotherHasIt => {
            moves(other, &alice).await;
            bob = signs_up_at(other, &alice.email).await;
        }
        Meanwhile::NobodyHasIt => moves(other, &alice).await,
        Meanwhile::Granted => {
            let first = grant(other, &team.workspace, &team.owner, &alice);
            first.await.expect(201);
        }
        Meanwhile::Member => {
            accept(other, &alice, &token).await.expect(200);
        }
        Meanwhile::Demoted => role("member").await,
        Meanwhile::Deleted => {
            let path = team.path("");
            let read = other.get(&path).bearer(&team.owner.token);
            let name = text(&read.await.expect(200).body, "/name");
            let delete = other.delete(&path).bearer(&team.owner.token);
            delete.json(json!({"confirm": name})).await.expect(204);
        }
    }
    assert!(!waiting.is_finished(), "{meanwhile:?}: it is not sent");
    late.signal(Signal::SIGCONT);
    let reply: Reply = waiting.await.expect("an answer");
    let (status, code) = meanwhile.answer();
    let told = (reply.status, reply.body["code"].as_str());
    assert_eq!(told, (status, code), "{meanwhile:?}: {}", reply.text);
    if let Meanwhile::AnotherHasIt = meanwhile {
        assert_eq!(reply.body["user"], json!(bob));
        assert_eq!(reply.body["email"], json!(alice.email));
    }
    if let Meanwhile::Demoted = meanwhile {
        role("admin").await;
    }
    assert!(late.terminate().await.success(), "{}", late.logs());
    [alice.user, bob]
}

/// What the log says of grants, and of whose an address is, in order.
async fn told(store: &StoreUnderTest) -> Vec<Told> {
    let reading = reading(store).await;
    let events = ledger::verify(&*reading).await;
    reading.close().await;
    let mut told = Vec::new();
    for event in events {
        let payload: Value = serde_json::from_str(&event.payload).expect("JSON");
        let user = match event.event_type.as_str() {
            "auditor_granted" => text(&payload, "/auditor_granted/user"),
            "user_signed_up" | "user_email_changed" => event.aggregate_id,
            _ => continue,
        };
        told.push(Told {
            position: event.position,
            kind: event.event_type,
            user,
        });
    }
    told
}

fn grants_of(told: &[Told], user: &str) -> Vec<u64> {
    let grants = told.iter().filter(|it| it.kind == "auditor_granted");
    let of_user = grants.filter(|it| it.user == user);
    of_user.map(|it| it.position).collect()
}

/// At its position the address was that of whom the grant is for.
fn granted_to_the_holder(told: &[Told], alice: &str, bob: &str) {
    let positions: BTreeMap<_, _> = told
        .iter()
        .map(|it| ((it.kind.as_str(), it.user.as_str()), it.position))
        .collect();
    let gone = positions[&("user_email_changed", alice)];
    let taken = positions[&("user_signed_up", bob)];
    let (to_alice, to_bob) = (grants_of(told, alice), grants_of(told, bob));
    assert!(
        to_alice.len() + to_bob.len() <= 1,
        "{to_alice:?}, {to_bob:?}"
    );
    assert!(to_alice.iter().all(|position| *position < gone));
    assert!(to_bob.iter().all(|position| *position > taken));
}
