//! An address goes from one person to another, with invitations to it on their way: who has it now
//! is let in, and who had it before stays who they were.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Running;
use super::team::{Person, Team, accept, address, invite, invited, number, password, text};
use crate::support::journal::reading;
use crate::support::ledger;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "an_invitation_to_a_given_up_address", given_up),
        both("edge", "an_address_that_two_were_found_by", found_by_two),
    ]
}

/// Who each subject of an organization is.
async fn subjects(store: &StoreUnderTest, organization: &str) -> BTreeMap<String, Option<String>> {
    let reading = reading(store).await;
    let sql = "SELECT subject, user_id FROM subjects WHERE realm = $1";
    let rows = reading.query(sql, vec![organization.into()]).await;
    let rows = rows.expect("the subjects");
    reading.close().await;
    let text = |text: Option<&str>| text.map(str::to_owned);
    rows.iter()
        .map(|row| {
            let user = text(row.optional_text(1).expect("text or null"));
            (row.text(0).expect("text").to_owned(), user)
        })
        .collect()
}

/// That whoever a subject was, it still is.
fn nobody_became_another(
    before: &BTreeMap<String, Option<String>>,
    after: &BTreeMap<String, Option<String>>,
) {
    for (subject, user) in before.iter().filter(|(_, user)| user.is_some()) {
        assert_eq!(after.get(subject), Some(user), "who {subject} is");
    }
}

/// That what the organization has recorded of people is sealed under subjects that are they.
async fn each_is_sealed_as_oneself(store: &StoreUnderTest, organization: &str) {
    let subjects = subjects(store, organization).await;
    let reading = reading(store).await;
    let events = ledger::verify(&*reading).await;
    reading.close().await;
    let mut recorded = BTreeSet::new();
    for event in events {
        if event.event_type != "person_recorded" || event.aggregate_id != organization {
            continue;
        }
        let payload: Value = serde_json::from_str(&event.payload).expect("JSON");
        let user = text(&payload, "/person_recorded/user");
        for field in ["email", "name"] {
            let subject = text(&payload, &format!("/person_recorded/{field}/subject"));
            assert_eq!(subjects[&subject], Some(user.clone()), "{}", event.payload);
        }
        recorded.insert(user);
    }
    assert!(recorded.len() > 1, "people are recorded");
}

/// Changes the address of somebody's account.
async fn moves(server: &Server, person: &Person, email: &str) {
    let call = server.patch("/v1/me").bearer(&person.token);
    let change = json!({"email": email, "password": person.password});
    call.json(change).await.expect(200);
}

async fn member(server: &Server, workspace: &str, reader: &Person, user: &str) -> Value {
    let path = format!("/v1/workspaces/{workspace}/members/{user}");
    server
        .get(&path)
        .bearer(&reader.token)
        .await
        .expect(200)
        .body
}

/// Somebody whom the organization knows is invited, gives the address up, and another has it.
async fn given_up(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let (alice, inviter) = (&team.member, &team.neighbour);
    let elsewhere = &team.neighbours_workspace;
    let token = invited(&server, elsewhere, inviter, &alice.email, "viewer").await;
    let before = subjects(&store, &team.organization).await;
    moves(&server, alice, &address("alice")).await;

    let signed_up = json!({
        "email": alice.email, "password": password(), "name": format!("Bob {}", number()),
    });
    let reply = server.post("/v1/signup").json(&signed_up).await.expect(201);
    let bob = Person {
        name: text(&signed_up, "/name"),
        user: text(&reply.body, "/user/id"),
        token: text(&reply.body, "/session/token"),
        ..alice.clone()
    };
    let accepted = accept(&server, &bob, &token).await.expect(200);
    assert_eq!(accepted.body["name"], json!(bob.name));

    let bob_there = member(&server, elsewhere, inviter, &bob.user).await;
    assert_eq!(bob_there["email"], json!(bob.email));
    let alice_here = member(&server, &team.workspace, &team.owner, &alice.user).await;
    assert_eq!(alice_here["name"], json!(alice.name));
    assert_ne!(alice_here["email"], json!(alice.email));
    nobody_became_another(&before, &subjects(&store, &team.organization).await);
    each_is_sealed_as_oneself(&store, &team.organization).await;
    super::held(&store);
}

/// An invitation has made the new address known before somebody moves to it: they are found by it
/// no less, and the old one leads to whoever comes in by it, and not to them.
async fn found_by_two(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let (alice, inviter) = (&team.member, &team.neighbour);
    let elsewhere = &team.neighbours_workspace;
    let new_address = address("alice");
    let for_new = invited(&server, elsewhere, inviter, &new_address, "viewer").await;
    let for_old = invited(&server, elsewhere, inviter, &alice.email, "viewer").await;
    let before = subjects(&store, &team.organization).await;
    moves(&server, alice, &new_address).await;
    // Invited at the old address once more, it is somebody else that is.
    let again = invited(
        &server,
        &team.workspace,
        &team.owner,
        &alice.email,
        "viewer",
    )
    .await;

    let name = format!("Bob {}", number());
    let newcomer = json!({"token": for_old, "name": name, "password": password()});
    let accepted = server.post("/v1/invitations/accept").json(newcomer).await;
    let accepted = accepted.expect(200);
    assert_eq!(accepted.body["name"], json!(name));
    let bob = Person {
        user: text(&accepted.body, "/user"),
        token: text(&accepted.body, "/session/token"),
        name,
        ..alice.clone()
    };
    nobody_became_another(&before, &subjects(&store, &team.organization).await);

    // Alice comes in by the address that she has now, Bob by the second invitation to his.
    accept(&server, alice, &for_new).await.expect(200);
    accept(&server, &bob, &again).await.expect(200);
    let named = async |workspace: &str, reader: &Person, person: &Person| {
        let found = member(&server, workspace, reader, &person.user).await;
        assert_eq!(found["name"], json!(person.name), "{found}");
        text(&found, "/email")
    };
    for (workspace, reader) in [(&team.workspace, &team.owner), (elsewhere, inviter)] {
        assert_eq!(named(workspace, reader, alice).await, new_address);
        assert_eq!(named(workspace, reader, &bob).await, bob.email);
    }
    let again = invite(&server, elsewhere, inviter, &new_address, "viewer").await;
    assert_eq!(again.body["code"], "already_member", "{}", again.text);
    nobody_became_another(&before, &subjects(&store, &team.organization).await);
    each_is_sealed_as_oneself(&store, &team.organization).await;
    super::held(&store);
}
