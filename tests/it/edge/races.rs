//! What many do at once: exactly one of them gets what only one can have.

use std::future::IntoFuture;

use futures::future::join_all;
use serde_json::json;

use super::Running;
use super::routes::problem;
use super::team::{Person, Team, accept, address, grant, invited, number, password, text};
use crate::support::journal::reading;
use crate::support::server::{Call, Reply};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "of_many_at_once_one_wins", races),
        both(
            "edge",
            "somebody_introduced_by_many_is_one_subject",
            introductions,
        ),
    ]
}

async fn at_once(calls: Vec<Call>) -> Vec<Reply> {
    join_all(calls.into_iter().map(IntoFuture::into_future)).await
}

async fn races(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;

    // One token, twenty times, by the account that it is for.
    let token = invited(
        &server,
        &team.workspace,
        &team.owner,
        &team.stranger.email,
        "member",
    )
    .await;
    let replies = at_once(
        (0..20)
            .map(|_| accept(&server, &team.stranger, &token))
            .collect(),
    )
    .await;
    one_won(&replies, 200, &["invitation_not_pending", "already_member"]);
    let members = server
        .get(&team.path("/members?limit=200"))
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let there = members.body["data"].as_array().into_iter().flatten();
    assert_eq!(
        there
            .filter(|one| one["user"] == team.stranger.user.as_str())
            .count(),
        1
    );

    // One token, six newcomers.
    let email = address("crowd");
    let token = invited(&server, &team.workspace, &team.owner, &email, "viewer").await;
    let newcomer = || {
        let body = json!({"token": token, "name": format!("Newcomer {}", number()), "password": password()});
        server.post("/v1/invitations/accept").json(body)
    };
    let replies = at_once((0..6).map(|_| newcomer()).collect()).await;
    one_won(
        &replies,
        200,
        &["invitation_not_pending", "email_taken", "already_member"],
    );

    // Eight sign-ups of one address.
    let email = address("wanted");
    let sign_up = || {
        let name = format!("Claimant {}", number());
        let organization = json!({"name": "Claimed"});
        let body = json!({"email": email, "password": password(), "name": name, "organization": organization});
        server.post("/v1/signup").json(body)
    };
    let replies = at_once((0..8).map(|_| sign_up()).collect()).await;
    one_won(&replies, 201, &["email_taken"]);

    // Two owners, each unmaking the other, and both leaving.
    for round in 0..6 {
        let maker = &team.organization_owner;
        let (workspace, one, two) = two_owners(&server, maker, &team.organization).await;
        let path = |of: &Person| format!("/v1/workspaces/{workspace}/members/{}", of.user);
        let demote = |by: &Person, of: &Person| {
            server
                .patch(&path(of))
                .bearer(&by.token)
                .json(json!({"role": "viewer"}))
        };
        let calls = match round % 3 {
            0 => vec![demote(&one, &two), demote(&two, &one)],
            1 => vec![
                server.delete(&path(&two)).bearer(&one.token),
                server.delete(&path(&one)).bearer(&two.token),
            ],
            _ => vec![
                server.delete(&path(&one)).bearer(&one.token),
                server.delete(&path(&two)).bearer(&two.token),
            ],
        };
        let replies = at_once(calls).await;
        let good = if round % 3 == 0 { 200 } else { 204 };
        one_won(
            &replies,
            good,
            &["last_owner", "not_permitted", "not_found"],
        );
        let survivor = if replies[0].status < 300 {
            [&one, &two]
        } else {
            [&two, &one]
        };
        let survivor = match round % 3 {
            2 => survivor[1],
            _ => survivor[0],
        };
        let members = server
            .get(&format!("/v1/workspaces/{workspace}/members"))
            .bearer(&survivor.token);
        let members = members.await.expect(200);
        let owners = members.body["data"].as_array().into_iter().flatten();
        assert_eq!(
            owners.filter(|one| one["role"] == "owner").count(),
            1,
            "round {round}"
        );
    }

    two_organization_owners(&server, &team).await;

    // Conditional writes from one version: one of them.
    let workspace = team.path("");
    let tag = server
        .get(&workspace)
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let tag = tag.header("etag").expect("a version").to_owned();
    let rename = || {
        let call = server
            .patch(&workspace)
            .bearer(&team.owner.token)
            .header("If-Match", &tag);
        call.json(json!({"name": format!("Raced {}", number())}))
    };
    let replies = at_once((0..10).map(|_| rename()).collect()).await;
    one_won(&replies, 200, &["precondition_failed"]);

    // One key, ten times at once.
    let owner = Person::sign_up(&server, "ten times").await;
    let make = || {
        let call = server.post("/v1/organizations").bearer(&owner.token);
        call.header("Idempotency-Key", "ten-at-once")
            .json(json!({"name": "Once"}))
    };
    let replies = at_once((0..10).map(|_| make()).collect()).await;
    let made: Vec<_> = replies.iter().filter(|reply| reply.status == 201).collect();
    assert!(!made.is_empty(), "somebody is told");
    let first = text(&made[0].body, "/id");
    for reply in &replies {
        match reply.status {
            201 => assert_eq!(reply.body["id"], first.as_str()),
            _ => problem(reply, 409, "idempotency_in_progress"),
        }
    }
    let fresh = made
        .iter()
        .filter(|reply| reply.header("idempotent-replayed").is_none());
    assert_eq!(fresh.count(), 1, "one of them made it");
    let list = server
        .get("/v1/organizations")
        .bearer(&owner.token)
        .await
        .expect(200);
    assert_eq!(list.body["data"].as_array().map(Vec::len), Some(1));
    super::held(&store);
}

/// A workspace with two owners and nobody else.
async fn two_owners(
    server: &crate::support::server::Server,
    maker: &Person,
    organization: &str,
) -> (String, Person, Person) {
    let made = server
        .post(&format!("/v1/organizations/{organization}/workspaces"))
        .bearer(&maker.token)
        .json(json!({"name": format!("Duel {}", number())}))
        .await
        .expect(201);
    let workspace = text(&made.body, "/id");
    let second = Person::sign_up(server, "second").await;
    let token = invited(server, &workspace, maker, &second.email, "owner").await;
    accept(server, &second, &token).await.expect(200);
    (workspace, maker.clone(), second)
}

/// Somebody whom an organization does not know yet is given grants in several workspaces and a role
/// in the organization, and accepts an invitation, all at once.
async fn introductions(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let boss = &team.organization_owner;
    let mut workspaces = vec![(team.workspace.clone(), team.owner.clone())];
    for _ in 0..2 {
        let (workspace, owner, _) = two_owners(&server, boss, &team.organization).await;
        workspaces.push((workspace, owner));
    }
    for round in 0..6 {
        let newcomer = Person::sign_up(&server, "introduced").await;
        let token = invited(
            &server,
            &team.workspace,
            &team.owner,
            &newcomer.email,
            "viewer",
        )
        .await;
        let mut calls = Vec::new();
        for (workspace, owner) in &workspaces {
            calls.extend((0..3).map(|_| grant(&server, workspace, owner, &newcomer)));
        }
        let path = format!(
            "/v1/organizations/{}/members/{}",
            team.organization, newcomer.user
        );
        let role = server.put(&path).bearer(&boss.token);
        calls.push(role.json(json!({"role": "billing"})));
        calls.push(accept(&server, &newcomer, &token));
        calls.rotate_left(2 * round % 11);
        let replies = at_once(calls).await;
        for (workspace, _) in &workspaces[1..] {
            let own: Vec<_> = replies
                .iter()
                .filter(|reply| reply.request.contains(workspace.as_str()))
                .cloned()
                .collect();
            one_won(&own, 201, &["already_exists"]);
        }
        let failed = replies.iter().find(|reply| {
            let code = reply.body["code"].as_str();
            reply.status >= 300 && ![Some("already_exists"), Some("already_member")].contains(&code)
        });
        assert!(failed.is_none(), "round {round}: {failed:?}");

        let reading = reading(&store).await;
        let sql = "SELECT COUNT(*) FROM subjects WHERE realm = $1 AND user_id = $2";
        let of = vec![
            team.organization.as_str().into(),
            newcomer.user.as_str().into(),
        ];
        let rows = reading.query(sql, of).await.expect("the subjects");
        reading.close().await;
        assert_eq!(rows[0].count(0).expect("a count"), 1, "round {round}");
    }
    super::held(&store);
}

/// Two owners of an organization, each unmaking the other, and both leaving.
async fn two_organization_owners(server: &crate::support::server::Server, team: &Team) {
    let second = Person::sign_up(server, "second boss").await;
    let mut owner = team.organization_owner.clone();
    let path = |of: &Person| {
        let organization = &team.organization;
        format!("/v1/organizations/{organization}/members/{}", of.user)
    };
    let set = |by: &Person, of: &Person, role: &str| {
        let call = server.put(&path(of)).bearer(&by.token);
        call.json(json!({"role": role}))
    };
    let remove = |by: &Person, of: &Person| server.delete(&path(of)).bearer(&by.token);
    for round in 0..6 {
        let other = match owner == second {
            true => team.organization_owner.clone(),
            false => second.clone(),
        };
        set(&owner, &other, "owner").await.expect(200);
        let (calls, good) = match round % 3 {
            0 => (
                vec![
                    set(&owner, &other, "billing"),
                    set(&other, &owner, "billing"),
                ],
                200,
            ),
            1 => (vec![remove(&owner, &other), remove(&other, &owner)], 204),
            _ => (vec![remove(&owner, &owner), remove(&other, &other)], 204),
        };
        let replies = at_once(calls).await;
        one_won(
            &replies,
            good,
            &["last_owner", "not_permitted", "not_found"],
        );
        let first_won = replies[0].status == good;
        // Who leaves is the one that goes; else it is the one that was aimed at.
        if first_won == (round % 3 == 2) {
            owner = other;
        }
    }
    if owner == second {
        let boss = &team.organization_owner;
        set(&second, boss, "owner").await.expect(200);
    }
}

/// That one of the replies is good, and each of the others one of these refusals.
#[track_caller]
fn one_won(replies: &[Reply], good: u16, refusals: &[&str]) {
    let won = replies.iter().filter(|reply| reply.status == good).count();
    for reply in replies.iter().filter(|reply| reply.status != good) {
        let code = reply.body["code"].as_str().unwrap_or_default();
        assert!(
            refusals.contains(&code),
            "{}: {} {}",
            reply.request,
            reply.status,
            reply.text
        );
        problem(reply, reply.status, code);
    }
    let told: Vec<_> = replies
        .iter()
        .map(|reply| (reply.status, reply.body["code"].clone()))
        .collect();
    assert_eq!(won, 1, "one of {}: {told:?}", replies.len());
}
