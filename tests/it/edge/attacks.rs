//! Attacks, one trial each: what happens, and that nothing is written that should not be.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::time::{Duration, Instant};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::Running;
use super::refusals::{body_schema, but_for_the_request, resolved, versioned};
use super::routes::{ROUTES, Route, World, points_at, problem, whole_problem};
use super::team::{Person, Team, accept, address, invite, invited, number, password, text};
use crate::support::server::{Call, Reply, SIGN_UPS_PER_HOUR, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("attacks", "tokens_are_not_guessed", tokens),
        both("attacks", "unknown_takes_as_long_as_wrong", timing),
        both("attacks", "sign_ups_of_one_network_are_bounded", sign_ups),
        both("attacks", "nobody_sets_what_is_not_asked_for", mass),
        both("attacks", "ids_tell_nothing", ids),
        both("attacks", "an_invitation_lifts_nobody", invitations),
        both("attacks", "of_two_demotions_one_wins", demotions),
        both("attacks", "keys_of_others_answer_nothing", keys),
        both("attacks", "bodies_break_nothing", bodies),
        both("attacks", "headers_inject_nothing", headers),
        both("attacks", "slow_clients_are_cut_off", slow),
        both("attacks", "cursors_and_limits_are_no_way_in", cursors),
    ]
}

/// Random bytes that are the same in every run.
fn random(number: u64) -> [u8; 32] {
    Sha256::digest(format!("attack {number}")).into()
}

/// What the team's workspace and its organization have had done to them, and who is in it. What
/// was refused is left out: it is told there too.
async fn done(server: &Server, team: &Team) -> String {
    let organization = format!("/v1/organizations/{}/audit", team.organization);
    let mut all = String::new();
    for (path, reader) in [
        (team.path("/audit"), &team.owner),
        (organization, &team.organization_owner),
    ] {
        let path = format!("{path}?outcome=ok&limit=200");
        let page = server.get(&path).bearer(&reader.token).await.expect(200);
        all.push_str(&page.text);
    }
    for path in ["", "/members?limit=200", "/invitations?limit=200"] {
        let call = server.get(&team.path(path)).bearer(&team.owner.token);
        all.push_str(&call.await.expect(200).text);
    }
    all
}

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token that has the right form: the checksum is no secret.
fn forged(prefix: &str, body: &str) -> String {
    let checked = format!("{prefix}{body}");
    let mut checksum = crc32fast::hash(checked.as_bytes());
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(checksum % 62) as usize];
        checksum /= 62;
    }
    format!("{checked}{}", String::from_utf8_lossy(&digits))
}

async fn tokens(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let over = team.owner.sign_in(&server).await;
    let path = format!("/v1/sessions/{}", over.session);
    server.delete(&path).bearer(&over.token).await.expect(204);
    let email = address("invitee");
    let invitation = invited(&server, &team.workspace, &team.owner, &email, "owner").await;

    let good = &team.owner.token;
    let body = &good["crew_session_".len()..good.len() - 6];
    assert_eq!(forged("crew_session_", body), *good, "the form is known");
    let mut guesses = vec![
        over.token.clone(),
        invitation.clone(),
        forged("crew_invite_", body),
        forged("crew_", body),
        good[..good.len() - 1].to_owned(),
        format!("{good}0"),
        good.to_lowercase(),
        good.replacen("crew_session_", "Crew_session_", 1),
        forged("crew_session_", &"0".repeat(43)),
        forged("crew_session_", ""),
        format!("{:x}", Sha256::digest(good)),
        team.owner.session.clone(),
        team.owner.user.clone(),
    ];
    for (place, digit) in body.bytes().enumerate() {
        let mut near = body.as_bytes().to_vec();
        near[place] = if digit == b'a' { b'b' } else { b'a' };
        let near = String::from_utf8(near).expect("digits");
        guesses.push(forged("crew_session_", &near));
        guesses.push(format!("crew_session_{near}{}", &good[good.len() - 6..]));
    }
    for number in 0..50 {
        let digits = random(number).into_iter().chain(random(number + 1_000));
        let body: String = digits
            .take(43)
            .map(|byte| char::from(DIGITS[usize::from(byte) % 62]))
            .collect();
        guesses.push(forged("crew_session_", &body));
    }

    let (before, at) = (done(&server, &team).await, head(&server).await);
    let mut told = BTreeSet::new();
    for guess in &guesses {
        let rename = server
            .patch(&team.path(""))
            .bearer(guess)
            .json(json!({"name": "Mine"}));
        for reply in [rename.await, server.get("/v1/me").bearer(guess).await] {
            problem(&reply, 401, "unauthenticated");
            told.insert(but_for_the_request(&reply).to_string());
        }
    }
    assert_eq!(told.len(), 1, "a guess learns nothing: {told:?}");
    // A token of one kind opens nothing that takes another.
    for token in [good, &over.token, &forged("crew_invite_", body)] {
        for path in ["/v1/invitations/decline", "/v1/invitations/accept"] {
            let body = json!({"token": token, "name": "Mallory", "password": password()});
            let body = match path.ends_with("accept") {
                true => body,
                false => json!({"token": token}),
            };
            problem(&server.post(path).json(body).await, 404, "not_found");
        }
    }
    assert_eq!(head(&server).await, at, "nothing is written");
    assert_eq!(done(&server, &team).await, before);
    server.get("/v1/me").bearer(good).await.expect(200);
    super::held(&store);
}

/// The newest position.
async fn head(server: &Server) -> u64 {
    let reply = server.get("/v1/plans").await.expect(200);
    let text = reply.header("crewlog-position").expect("a position");
    text.parse().expect("a number")
}

async fn sign_ups(store: StoreUnderTest) {
    let mut command = Server::command(&store);
    command.args(["--trusted-proxy", "127.0.0.0/8"]);
    command.env(SIGN_UPS_PER_HOUR, "2");
    let server = Server::launch(command).await;
    let sign_up = async |from: &str| {
        let body = json!({"email": address("flood"), "password": password(), "name": "Flood"});
        let call = server.post("/v1/signup").header("X-Forwarded-For", from);
        call.json(body).await
    };
    for _ in 0..2 {
        sign_up("10.1.0.1").await.expect(201);
    }
    let at = head(&server).await;
    let refused = sign_up("10.1.0.1").await;
    problem(&refused, 429, "too_many_attempts");
    let wait = refused.header("retry-after").expect("when to come back");
    let wait: u64 = wait.parse().expect("seconds");
    assert!((1..=1_800).contains(&wait), "{wait}");
    assert_eq!(head(&server).await, at, "nothing was written");
    sign_up("10.1.0.2").await.expect(201);
    super::held(&store);
}

/// Medians of many samples that take turns: what else the machine does meets both alike.
async fn timing(store: StoreUnderTest) {
    const PEOPLE: usize = 12;
    const EACH: usize = 5;
    let mut command = Server::command(&store);
    // As many clients: one alone would have to wait.
    command.args(["--trusted-proxy", "127.0.0.0/8"]);
    let server = Server::launch(command).await;
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        people.push(Person::sign_up(&server, "timed").await);
    }
    let at = head(&server).await;
    let tried = async |email: &str, number: usize| {
        let body = json!({"email": email, "password": password()});
        let call = server.post("/v1/sessions").header(
            "X-Forwarded-For",
            &format!("10.1.{}.{}", number / 250, number % 250),
        );
        let started = Instant::now();
        let reply = call.json(body).await;
        let took = started.elapsed();
        problem(&reply, 401, "invalid_credentials");
        (took, but_for_the_request(&reply).to_string())
    };
    let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
    let mut told = BTreeSet::new();
    for round in 0..EACH {
        for (number, person) in people.iter().enumerate() {
            let number = round * PEOPLE + number;
            // Who goes first takes turns, too.
            let nobody = address("nobody");
            let mut emails = [(&person.email, true), (&nobody, false)];
            if number % 2 == 1 {
                emails.reverse();
            }
            for (email, known) in emails {
                let (took, said) = tried(email, number).await;
                told.insert(said);
                match known {
                    true => wrong.push(took),
                    false => unknown.push(took),
                }
            }
        }
    }
    assert_eq!(told.len(), 1, "both are told the same: {told:?}");
    let [wrong, unknown] = [wrong, unknown].map(|mut samples| {
        samples.sort_unstable();
        samples[samples.len() / 2]
    });
    // Without a hash it would be a tenth, or less.
    let ratio = unknown.as_secs_f64() / wrong.as_secs_f64();
    assert!(
        (0.6..1.67).contains(&ratio),
        "unknown takes {unknown:?}, wrong {wrong:?}"
    );
    // Failures may be written when their minute ends: one for each person and minute.
    assert!(head(&server).await <= at + 3 * PEOPLE as u64);
    for person in &people[..3] {
        let list = server.get("/v1/sessions").bearer(&person.token).await;
        let sessions = list.expect(200).body["data"].as_array().map(Vec::len);
        assert_eq!(sessions, Some(1), "no session was made");
    }
    super::held(&store);
}

/// What somebody might slip into a body.
const EXTRAS: [(&str, &str); 16] = [
    ("id", "\"usr_00000000000000000000000001\""),
    ("role", "\"owner\""),
    ("roles", "[\"owner\"]"),
    ("owner", "true"),
    ("admin", "true"),
    ("version", "1"),
    ("organization", "\"org_00000000000000000000000001\""),
    ("workspace", "\"ws_00000000000000000000000001\""),
    ("user", "\"usr_00000000000000000000000001\""),
    ("created_by", "\"usr_00000000000000000000000001\""),
    ("invited_by", "\"usr_00000000000000000000000001\""),
    ("status", "\"accepted\""),
    ("expires_at", "\"2099-01-01T00:00:00Z\""),
    ("plan", "\"enterprise\""),
    ("token_hash", "\"x\""),
    ("__proto__", "{\"role\":\"owner\"}"),
];

async fn mass(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let document = world.server.get("/openapi.json").await.expect(200).body;
    let before = head(&world.server).await;
    let (mut fresh, mut tried) = (0, 0);
    for route in versioned().filter(|route| route.writes()) {
        let schema = body_schema(&document, route).expect("a body in the document");
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let at = head(&world.server).await;
        let ask = world.fresh(route, caller).await;
        fresh += head(&world.server).await - at;
        let body = ask.body.clone().unwrap_or_else(|| json!({}));
        // The body itself, and each object in it; but for configurations, which hold what they like.
        let nested = schema["properties"].as_object().into_iter().flatten();
        let nested = nested.filter(|(name, _)| body[name.as_str()].is_object());
        let nested =
            nested.filter(|(_, inner)| resolved(&document, inner)["properties"].is_object());
        let mut places = vec![(String::new(), schema.clone())];
        places.extend(nested.map(|(name, inner)| (format!("/{name}"), resolved(&document, inner))));
        for (place, schema) in places {
            for (name, value) in EXTRAS {
                if schema["properties"].get(name).is_some() {
                    continue;
                }
                let mut spoiled = body.clone();
                let object = spoiled.pointer_mut(&place).expect("an object");
                object[name] = serde_json::from_str(value).expect("JSON");
                let call = world.send(&ask.saying(spoiled));
                let reply = match route.is_open() {
                    true => call.await,
                    false => call.bearer(&caller.token).await,
                };
                points_at(&reply, &format!("{place}/{name}"), &["unknown_field"]);
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "{tried} were tried");
    assert_eq!(
        head(&world.server).await - before,
        fresh,
        "nothing is written"
    );
    super::held(&store);
}

/// An id of a kind that nobody has, in the form that they have.
fn nobodys(kind: &str) -> String {
    let bytes: [u8; 16] = random(number()).first_chunk().copied().expect("16 bytes");
    let uuid = uuid::Builder::from_unix_timestamp_millis(
        1_780_000_000_000 + number(),
        bytes.first_chunk().expect("10 bytes"),
    );
    let uuid: Uuid = uuid.into_uuid();
    let user = crewlog::domain::ids::UserId::from_uuid(uuid).to_string();
    user.replace("usr_", &format!("{kind}_"))
}

/// An answer, byte for byte, but for what names the request.
fn bytes_of(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let id = reply.header("x-request-id").expect("a request id");
    // What is left of the workspace's rate falls with every call, whatever it asks for.
    let own = ["date", "x-request-id", "ratelimit"];
    let headers = reply
        .headers
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), value)
        });
    let text = reply.text.replace(id, "the request");
    (reply.status, headers.collect(), text)
}

async fn ids(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let (server, team) = (&world.server, &world.team);
    let theirs = &team.neighbours_workspace;
    let email = address("invitee");
    let invitation = invite(server, theirs, &team.neighbour, &email, "viewer").await;
    let path = format!("/v1/workspaces/{theirs}/api-keys");
    let call = server.post(&path).bearer(&team.neighbour.token);
    let new = json!({"name": "theirs", "environment": "staging", "scopes": []});
    let key = call.json(new).await;
    let elsewhere = json!({"organization": {"name": "Elsewhere"}});
    let (other, made) = Person::sign_up_with(server, "elsewhere", elsewhere).await;
    let organization = text(&made.body, "/organization/id");
    let entry = server
        .get(&format!("/v1/organizations/{organization}/audit?limit=1"))
        .bearer(&other.token)
        .await
        .expect(200);
    // What exists, and is not the caller's.
    let foreign = [
        ("{ws}", "ws", theirs.clone()),
        ("{org}", "org", organization),
        ("{user}", "usr", team.stranger.user.clone()),
        ("{inv}", "inv", text(&invitation.expect(201).body, "/id")),
        ("{id}", "ses", team.stranger.session.clone()),
        ("{key}", "key", text(&key.expect(201).body, "/id")),
        (
            "{position}",
            "",
            entry.body["data"][0]["position"].to_string(),
        ),
    ];
    let mut compared = 0;
    // An operator's routes are about anybody's.
    let named = |route: &&Route| route.path.contains('{') && !route.is_operators();
    for route in versioned().filter(named) {
        let caller = team.person(world.entitled(route)).expect("a person");
        let ask = world.fresh(route, caller).await;
        let before = done(server, team).await;
        for (name, kind, theirs) in &foreign {
            let place = route.path.split('/').position(|part| part == *name);
            let Some(place) = place else { continue };
            // Anybody with an account can be given a role: there, an id must be of somebody.
            if route.name() == "PUT /v1/organizations/{org}/members/{user}" && *name == "{user}" {
                continue;
            }
            let with = |id: String| {
                let mut parts: Vec<_> = ask.path.split('/').map(str::to_owned).collect();
                parts[place] = id;
                ask.at(parts.join("/"))
            };
            let nobodys = || match *name {
                "{position}" => (8_000_000_000_000_000_000 + number()).to_string(),
                _ => nobodys(kind),
            };
            // Who may where it is theirs, and who may nowhere.
            for who in [caller, &team.stranger] {
                if who.session == *theirs {
                    continue; // Their own session.
                }
                let there = world.send(&with(theirs.clone())).bearer(&who.token).await;
                problem(&there, 404, "not_found");
                for _ in 0..2 {
                    let missing = world.send(&with(nobodys())).bearer(&who.token).await;
                    assert_eq!(bytes_of(&there), bytes_of(&missing), "{}", route.name());
                    compared += 1;
                }
            }
        }
        assert_eq!(done(server, team).await, before, "{}", route.name());
    }
    assert!(compared > 60, "{compared} were compared");
    super::held(&store);
}

fn change_role(server: &Server, team: &Team, by: &Person, of: &Person, role: &str) -> Call {
    let path = team.path(&format!("/members/{}", of.user));
    let call = server.patch(&path).bearer(&by.token);
    call.json(json!({"role": role}))
}

fn newcomer(server: &Server, token: &str) -> Call {
    let name = format!("Mallory {}", number());
    let body = json!({"token": token, "name": name, "password": password()});
    server.post("/v1/invitations/accept").json(body)
}

async fn invitations(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let workspace = &team.workspace;
    let helper = team.joined(&server, "admin").await;
    let second = team.joined(&server, "owner").await;
    let (one, two) = (address("one"), address("two"));
    let of_admin = invited(&server, workspace, &helper, &one, "admin").await;
    let of_owner = invite(&server, workspace, &second, &two, "owner")
        .await
        .expect(201);
    let of_stranger = invited(
        &server,
        workspace,
        &team.owner,
        &team.stranger.email,
        "viewer",
    )
    .await;
    let (id, token) = (text(&of_owner.body, "/id"), text(&of_owner.body, "/token"));
    change_role(&server, &team, &team.owner, &helper, "member")
        .await
        .expect(200);
    change_role(&server, &team, &team.owner, &second, "admin")
        .await
        .expect(200);

    let before = done(&server, &team).await;
    // Nobody invites above themselves, nor takes over an invitation that is above them.
    for (by, role, code) in [
        (&team.admin, "owner", "role_above_own"),
        (&second, "owner", "role_above_own"),
        (&helper, "viewer", "not_permitted"),
        (&team.viewer, "viewer", "not_permitted"),
    ] {
        let reply = invite(&server, workspace, by, &address("raised"), role).await;
        problem(&reply, 403, code);
    }
    let path = team.path(&format!("/invitations/{id}"));
    let resend = server
        .post(&format!("{path}/resend"))
        .bearer(&team.admin.token);
    problem(&resend.await, 403, "role_above_own");
    let own = change_role(&server, &team, &team.admin, &team.admin, "owner").await;
    problem(&own, 403, "role_above_own");
    // Whose inviter may no longer give it gets nothing by it.
    for token in [&of_admin, &token] {
        let late = newcomer(&server, token).await;
        problem(&late, 409, "invitation_exceeds_inviter");
    }
    // Nor does another account, with any token; nor does a token that is shown as a session.
    for thief in [&team.neighbour, &team.viewer, &team.admin] {
        for token in [&of_admin, &token, &of_stranger] {
            let stolen = accept(&server, thief, token).await;
            problem(&stolen, 403, "invitation_for_another");
        }
    }
    let shown = server.get(&team.path("")).bearer(&of_stranger).await;
    problem(&shown, 401, "unauthenticated");
    let raised = json!({"token": of_stranger, "role": "owner"});
    let raised = server
        .post("/v1/invitations/accept")
        .bearer(&team.stranger.token)
        .json(raised);
    points_at(&raised.await, "/role", &["unknown_field"]);
    // The account that has the address cannot be made once more.
    let twice = newcomer(&server, &of_stranger).await;
    problem(&twice, 409, "email_taken");
    assert_eq!(done(&server, &team).await, before, "nothing is written");

    // Used once, it is used up: for the one who used it and for everybody else.
    let accepted = accept(&server, &team.stranger, &of_stranger).await;
    assert_eq!(accepted.expect(200).body["role"], "viewer");
    let member = team.path(&format!("/members/{}", team.stranger.user));
    let after = done(&server, &team).await;
    let again = accept(&server, &team.stranger, &of_stranger).await;
    assert_eq!(again.status, 409, "{}", again.text);
    problem(
        &newcomer(&server, &of_stranger).await,
        409,
        "invitation_not_pending",
    );
    assert_eq!(done(&server, &team).await, after, "nothing is written");
    server
        .delete(&member)
        .bearer(&team.owner.token)
        .await
        .expect(204);
    let back = accept(&server, &team.stranger, &of_stranger).await;
    problem(&back, 409, "invitation_not_pending");
    let outside = server.get(&team.path("")).bearer(&team.stranger.token);
    problem(&outside.await, 404, "not_found");
    super::held(&store);
}

async fn demotions(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    for round in 0..12 {
        let other = team.joined(&server, "owner").await;
        let mut calls = vec![
            change_role(&server, &team, &team.owner, &other, "admin").into_future(),
            change_role(&server, &team, &other, &team.owner, "admin").into_future(),
        ];
        if round % 2 == 1 {
            calls.reverse();
        }
        let mut replies = join_all(calls).await;
        if round % 2 == 1 {
            replies.reverse();
        }
        let good: Vec<_> = replies.iter().map(|reply| reply.status == 200).collect();
        assert_eq!(good.iter().filter(|good| **good).count(), 1, "{replies:?}");
        let winner = usize::from(good[1]);
        // An admin by then touches no owner.
        problem(&replies[1 - winner], 403, "role_above_own");
        let (stays, falls) = match winner {
            0 => (&team.owner, &other),
            _ => (&other, &team.owner),
        };
        let list = server
            .get(&team.path("/members?limit=200"))
            .bearer(&stays.token)
            .await
            .expect(200);
        let owners: Vec<_> = list.body["data"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| one["role"] == "owner")
            .map(|one| text(one, "/user"))
            .collect();
        assert_eq!(owners, [stays.user.as_str()], "round {round}");
        let log = format!(
            "/audit?action=member.role_changed&outcome=ok&target={}&limit=200",
            stays.user
        );
        let entries = server.get(&team.path(&log)).bearer(&stays.token).await;
        let fallen = entries.expect(200).body["data"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|entry| entry["actor"]["id"] == falls.user.as_str());
        assert!(
            !fallen,
            "round {round}: the refused demotion is not written"
        );
        // As it was, for the next round.
        if winner == 1 {
            change_role(&server, &team, &other, &team.owner, "owner")
                .await
                .expect(200);
        }
        let path = team.path(&format!("/members/{}", other.user));
        let remove = server.delete(&path).bearer(&team.owner.token);
        remove.await.expect(204);
    }
    super::held(&store);
}

async fn keys(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let key = "a-key-of-somebody-else";
    let with = |call: Call| call.header("Idempotency-Key", key);
    let fresh = |reply: &Reply| {
        assert!(
            reply.header("idempotent-replayed").is_none(),
            "{}: {}",
            reply.request,
            reply.text
        );
    };

    // The same key and body of somebody else is a request of its own.
    let make = |by: &Person| {
        let call = server.post("/v1/organizations").bearer(&by.token);
        with(call.json(json!({"name": "Acme"})))
    };
    let first = make(&team.owner).await.expect(201);
    let (id, position) = (
        text(&first.body, "/id"),
        first.header("crewlog-position").map(str::to_owned),
    );
    for other in [&team.admin, &team.stranger, &team.neighbour] {
        let theirs = make(other).await.expect(201);
        fresh(&theirs);
        assert_ne!(text(&theirs.body, "/id"), id);
        assert_ne!(theirs.header("crewlog-position"), position.as_deref());
    }
    // Also where both may the same: no token of the first is told, nor is who was invited.
    let email = address("invitee");
    let body = json!({"email": email, "role": "viewer"});
    let path = team.path("/invitations");
    let invite = |by: &Person| {
        let call = server.post(&path).bearer(&by.token).json(&body);
        call.header("Idempotency-Key", "another-key")
    };
    let first = invite(&team.owner).await.expect(201);
    let again = invite(&team.admin).await;
    fresh(&again);
    assert!(!again.text.contains(&text(&first.body, "/token")));
    for outsider in [&team.viewer, &team.stranger, &team.neighbour] {
        let refused = invite(outsider).await;
        assert!(matches!(refused.status, 403 | 404), "{}", refused.text);
        fresh(&refused);
        assert!(!refused.text.contains(&email), "{}", refused.text);
    }
    anonymous_keys(&server, &team, key).await;

    // Nor does it help who had the answer once, and whose session is over.
    let over = team.member.sign_in(&server).await;
    make(&over).await.expect(201);
    let end = format!("/v1/sessions/{}", over.session);
    server.delete(&end).bearer(&over.token).await.expect(204);
    problem(&make(&over).await, 401, "unauthenticated");
    super::held(&store);
}

/// Whoever has no session is told apart by what they prove, not by the key.
async fn anonymous_keys(server: &Server, team: &Team, key: &str) {
    let with = |call: Call| call.header("Idempotency-Key", key);
    let (email, known) = (address("signs-up"), password());
    let sign_up = |password: &str| {
        let body = json!({"email": email, "password": password, "name": "Ada"});
        with(server.post("/v1/signup").json(body))
    };
    let made = sign_up(&known).await.expect(201);
    let (user, token) = (
        text(&made.body, "/user/id"),
        text(&made.body, "/session/token"),
    );
    let guessed = sign_up(&password()).await;
    problem(&guessed, 422, "idempotency_key_reused");
    assert!(!guessed.text.contains(&user) && !guessed.text.contains(&email));
    let again = sign_up(&known).await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert!(!again.text.contains(&token), "a secret is shown once");

    let sign_in = |password: &str| {
        let body = json!({"email": email, "password": password});
        with(server.post("/v1/sessions").json(body))
    };
    let session = sign_in(&known).await.expect(201);
    let wrong = sign_in(&password()).await;
    problem(&wrong, 401, "invalid_credentials");
    assert!(!wrong.text.contains(&text(&session.body, "/id")));
    // Another password: what was told for the old one is told no more.
    let new = password();
    let change = json!({"current_password": known, "new_password": new});
    let change = server.post("/v1/me/password").bearer(&token).json(change);
    change.await.expect(204);
    problem(&sign_in(&known).await, 401, "invalid_credentials");

    // A newcomer's answer is for who has the token.
    let token = invited(
        server,
        &team.workspace,
        &team.owner,
        &address("newcomer"),
        "viewer",
    )
    .await;
    let secret = password();
    let come = |token: &str, password: &str| {
        let body = json!({"token": token, "name": "Grace", "password": password});
        with(server.post("/v1/invitations/accept").json(body))
    };
    let came = come(&token, &secret).await.expect(200);
    let guess = come(&forged("crew_invite_", &"a".repeat(43)), &secret).await;
    problem(&guess, 404, "not_found");
    let other = come(&token, &password()).await;
    problem(&other, 422, "idempotency_key_reused");
    for reply in [&guess, &other] {
        assert!(!reply.text.contains(&text(&came.body, "/user")));
    }
}

/// A connection of one's own, byte by byte.
struct Raw {
    stream: TcpStream,
}

impl Raw {
    async fn to(server: &Server) -> Self {
        let address = server.base_url().trim_start_matches("http://");
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Self { stream }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("to be read");
    }

    /// One answer: its head, and the body that its `Content-Length` says. Nothing where the
    /// connection was closed before it.
    async fn answer(&mut self) -> Option<(String, Vec<u8>)> {
        let mut read = Vec::new();
        let mut buffer = [0; 4_096];
        let end = loop {
            let found = read.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = found {
                break end + 4;
            }
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => read.extend(&buffer[..count]),
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        while read.len() < end + length {
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => read.extend(&buffer[..count]),
            }
        }
        Some((head, read[end..].to_vec()))
    }

    /// Whether it still serves.
    async fn serves(&mut self) -> bool {
        self.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = self.answer().await;
        answer.is_some_and(|(head, _)| head.starts_with("http/1.1 200"))
    }
}

async fn bodies(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let person = Person::sign_up(&server, "sends").await;
    let before = head(&server).await;
    let nested = |open: &str, close: &str, times: usize| {
        format!("{}1{}", open.repeat(times), close.repeat(times))
    };
    let many = (0..5_000)
        .map(|number| format!("\"k{number}\":1"))
        .collect::<Vec<_>>()
        .join(",");
    let cases: Vec<(u16, String)> = vec![
        (413, format!("{{\"name\":\"{}\"}}", "x".repeat(100_000))),
        (413, "x".repeat(5_000_000)),
        (400, nested("[", "]", 30_000)),
        (400, nested("{\"a\":", "}", 10_000)),
        (400, "[".repeat(60_000)),
        (422, nested("{\"a\":", "}", 20)),
        (422, "{\"name\":1e999999}".to_owned()),
        (422, format!("{{\"name\":{}}}", "9".repeat(60_000))),
        (422, format!("{{\"name\":0.{}}}", "1".repeat(60_000))),
        (422, "{\"name\":-0}".to_owned()),
        (422, "{\"name\":1e-999999}".to_owned()),
        (400, "{\"name\":NaN}".to_owned()),
        (400, "{\"name\":Infinity}".to_owned()),
        (422, format!("{{\"name\":\"{}\"}}", "x".repeat(60_000))),
        (422, "{\"name\":\"a\\u0000b\"}".to_owned()),
        (422, "{\"name\":\"a\\r\\nb\"}".to_owned()),
        (400, "{\"name\":\"\\ud800\"}".to_owned()),
        (400, "{\"name\":\"a\u{0}b\"}".to_owned()),
        (422, format!("{{{many}}}")),
        (422, format!("{{\"{}\":1}}", "k".repeat(60_000))),
    ];
    for (status, body) in cases {
        let mut raw = Raw::to(&server).await;
        let sent = format!(
            "POST /v1/organizations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            person.token,
            body.len()
        );
        let shown = format!("{} bytes: {}", body.len(), &body[..body.len().min(40)]);
        raw.send(sent.as_bytes()).await;
        raw.send(body.as_bytes()).await;
        let (answered, said) = raw.answer().await.expect("an answer");
        assert!(
            answered.starts_with(&format!("http/1.1 {status} ")),
            "{shown}: {answered}{}",
            String::from_utf8_lossy(&said)
        );
        assert!(said.len() < 64 * 1_024, "{shown}: {} bytes", said.len());
        let said: Value = serde_json::from_slice(&said).expect("a problem");
        assert_eq!(said["status"], status, "{shown}");
        // What was refused was read to its end: the connection goes on.
        assert!(raw.serves().await, "{shown}: the connection is usable");
    }
    assert_eq!(head(&server).await, before, "nothing is written");
    super::held(&store);
}

async fn headers(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let person = Person::sign_up(&server, "sends").await;
    let before = head(&server).await;
    let asked = |lines: &str| format!("GET /v1/me HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let bearer = format!("Authorization: Bearer {}\r\n", person.token);
    // What an answer repeats of a request is harmless.
    for rubbish in [
        "a b",
        "<script>alert(1)</script>",
        "a\tb",
        "x\"y",
        "%0d%0aSet-Cookie:%20a=b",
        "\u{e4}",
        &"x".repeat(129),
        &"x".repeat(5_000),
    ] {
        let mut raw = Raw::to(&server).await;
        let lines = format!("{bearer}X-Request-Id: {rubbish}\r\n");
        raw.send(asked(&lines).as_bytes()).await;
        let (head, body) = raw.answer().await.expect("an answer");
        assert!(head.starts_with("http/1.1 200"), "{rubbish}: {head}");
        assert!(head.contains("x-request-id: req_"), "{rubbish}: {head}");
        let body = String::from_utf8_lossy(&body).into_owned();
        let rubbish = rubbish.to_ascii_lowercase();
        assert!(!head.contains(&rubbish), "{head}");
        assert!(!body.to_ascii_lowercase().contains(&rubbish), "{body}");
    }
    // What is no header ends the request; nothing of it becomes one of the answer.
    for (name, line) in [
        ("a bare CR", "X-Request-Id: a\rX-Injected: 1\r\n".to_owned()),
        ("NUL", "X-Request-Id: a\0b\r\n".to_owned()),
        (
            "NUL in a token",
            format!("Authorization: Bearer {}\0\r\n", person.token),
        ),
        ("a fold", "X-Request-Id: a\r\n X-Injected: 1\r\n".to_owned()),
        ("a blank in a name", "X-Request Id: a\r\n".to_owned()),
        ("no colon", "X-Injected\r\n".to_owned()),
        (
            "two lengths",
            "Content-Length: 1\r\nContent-Length: 2\r\n".to_owned(),
        ),
        ("no length", "Content-Length: -1\r\n".to_owned()),
        ("many headers", "X-A: b\r\n".repeat(500)),
        ("a long value", format!("X-A: {}\r\n", "b".repeat(200_000))),
        ("a long name", format!("{}: b\r\n", "X".repeat(200_000))),
    ] {
        let mut raw = Raw::to(&server).await;
        // It may be refused before all of it was sent.
        let _ = raw
            .stream
            .write_all(asked(&format!("{bearer}{line}")).as_bytes())
            .await;
        if let Some((head, body)) = raw.answer().await {
            let body = String::from_utf8_lossy(&body);
            assert!(
                head.starts_with("http/1.1 400") || head.starts_with("http/1.1 431"),
                "{name}: {head}{body}"
            );
            assert!(!head.contains("x-injected"), "{name}: {head}");
            assert!(!body.contains(&person.email), "{name}: {body}");
        }
        let mut next = Raw::to(&server).await;
        assert!(next.serves().await, "{name}: others are served");
    }
    // Twice is not once, where it decides something.
    let me = || server.get("/v1/me").bearer(&person.token);
    problem(
        &me().header("Authorization", "Bearer x").await,
        401,
        "unauthenticated",
    );
    problem(
        &me()
            .header("Crewlog-Position", "1")
            .header("Crewlog-Position", "1")
            .await,
        400,
        "invalid_request",
    );
    for values in [vec!["a", "a"], vec![""], vec!["a\tb"]] {
        let mut call = server.post("/v1/organizations").bearer(&person.token);
        for value in &values {
            call = call.header("Idempotency-Key", value);
        }
        let reply = call.json(json!({"name": "Twice"})).await;
        problem(&reply, 400, "invalid_request");
    }
    // What comes from a client's mouth about its address is not believed.
    let renamed = server
        .patch("/v1/me")
        .bearer(&person.token)
        .header("User-Agent", &"agent ".repeat(500))
        .header("X-Forwarded-For", "6.6.6.6")
        .header("Forwarded", "for=6.6.6.6");
    let renamed = renamed.json(json!({"name": "Renamed"})).await.expect(200);
    assert!(!renamed.text.contains("6.6.6.6"));
    let position = head(&server).await;
    assert!(
        position > before && position <= before + 2,
        "one change, shared"
    );
    super::held(&store);
}

/// Connections, and since when they are. They come one after the other: what overflows the queue of
/// the operating system is dropped by it, which is not what is looked at here.
async fn connected(server: &Server, count: usize) -> Vec<(Instant, Raw)> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        // The server may see the connection before this side hears that it stands.
        let started = Instant::now();
        connections.push((started, Raw::to(server).await));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    connections
}

/// Sends a request piece by piece until the connection is closed, at the latest after 20 seconds;
/// answers when that was.
async fn dribble(connected: (Instant, Raw), begin: String, piece: &'static [u8]) -> Duration {
    let (started, mut raw) = connected;
    raw.send(begin.as_bytes()).await;
    let mut buffer = [0; 1_024];
    while started.elapsed() < Duration::from_secs(20) {
        let (mut reader, mut writer) = raw.stream.split();
        tokio::select! {
            read = reader.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            },
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                if writer.write_all(piece).await.is_err() {
                    break;
                }
            }
        }
    }
    started.elapsed()
}

async fn slow(store: StoreUnderTest) {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let mut command = Server::command(&store);
    command.args(["--request-timeout-ms", "3000"]);
    let server = Server::launch(command).await;
    let person = Person::sign_up(&server, "fast").await;
    let before = head(&server).await;
    let of_header = || "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ".to_owned();
    let of_body = || {
        "POST /v1/signup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: 5000\r\n\r\n{"
            .to_owned()
    };
    let mut sent: Vec<(String, &[u8])> = Vec::new();
    for _ in 0..200 {
        sent.push((of_header(), b"a"));
        sent.push((of_body(), b" "));
    }
    // Who says nothing at all, and who asks once and stays.
    for begin in ["", "G", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"] {
        sent.push((begin.to_owned(), b""));
    }
    let clients = connected(&server, sent.len()).await.into_iter().zip(sent);
    let clients = clients.map(|(connected, (begin, piece))| dribble(connected, begin, piece));
    let others = async {
        let mut waits = Vec::new();
        let ends = Instant::now() + Duration::from_secs(2);
        let mut renamed = 0;
        while Instant::now() < ends {
            let started = Instant::now();
            let name = json!({"name": format!("Fast {}", number())});
            let call = server.patch("/v1/me").bearer(&person.token).json(name);
            call.await.expect(200);
            renamed += 1;
            waits.push(started.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        waits.sort_unstable();
        (waits[waits.len() / 2], renamed)
    };
    let (cut_off, (wait, renamed)) = tokio::join!(join_all(clients), others);
    assert!(wait < Duration::from_millis(500), "others wait {wait:?}");
    assert!(renamed > 3, "{renamed} others were served");
    for took in cut_off {
        assert!(
            took >= TIMEOUT - Duration::from_millis(200) && took < TIMEOUT * 4,
            "cut off after {took:?}"
        );
    }
    assert!(Raw::to(&server).await.serves().await);
    // A change of name is told to nobody: one event, and that it was shared.
    let written = head(&server).await - before;
    assert_eq!(written, 2 * renamed, "nothing of the slow ones is written");
    super::held(&store);
}

async fn cursors(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let (server, team) = (&world.server, &world.team);
    for _ in 0..3 {
        world.invitation().await;
        let call = server.post("/v1/organizations").bearer(&team.owner.token);
        let name = json!({"name": format!("Another {}", number())});
        call.json(name).await.expect(201);
        team.owner.sign_in(server).await;
    }
    foreign_cursors(server, team).await;
    // What some lists are of is made for them.
    let mut lists = Vec::new();
    for route in ROUTES.iter().filter(|route| route.is_list()) {
        let caller = team.person(world.entitled(route)).expect("a person");
        lists.push((route, caller, world.fresh(route, caller).await.path));
    }
    assert!(lists.len() >= 6);
    let before = head(server).await;
    let mut cursors = Vec::new();
    for (route, caller, path) in &lists {
        let page = server
            .get(&format!("{path}?limit=1"))
            .bearer(&caller.token)
            .await
            .expect(200);
        if let Some(cursor) = page.body["next_cursor"].as_str() {
            cursors.push((route.path, cursor.to_owned()));
        }
    }
    assert!(cursors.len() >= 5, "{cursors:?}");
    for (route, caller, path) in &lists {
        list(server, route, path, caller, &cursors).await;
    }
    // Filters are text that is looked for, whatever it is.
    for name in ["actor", "action", "target", "q", "crew"] {
        for value in [
            "%00",
            "a%00b",
            "%27%3B--",
            "%25",
            "%F0%9F%9A%80",
            "%ED%A0%80",
        ] {
            let path = team.path(&format!("/audit?{name}={value}"));
            let reply = server.get(&path).bearer(&team.owner.token).await;
            assert!(matches!(reply.status, 200 | 400), "{path}: {}", reply.text);
        }
    }
    assert_eq!(head(server).await, before, "nothing is written");
    super::held(&store);
}

/// What is no cursor of this list, and no limit.
async fn list(
    server: &Server,
    route: &Route,
    path: &str,
    caller: &Person,
    cursors: &[(&str, String)],
) {
    let ask = |query: String| {
        let call = server.get(&format!("{path}?{query}"));
        call.bearer(&caller.token)
    };
    for limit in [
        "0",
        "-1",
        "201",
        "1e9",
        "1000000000",
        "99999999999999999999",
        "NaN",
        "null",
        "0x10",
        "1%00",
        "",
        "%20",
        "1,2",
        "\u{661}",
    ] {
        problem(&ask(format!("limit={limit}")).await, 400, "invalid_request");
    }
    for (of, cursor) in cursors {
        if *of != route.path {
            let reply = ask(format!("cursor={cursor}")).await;
            // Both audit logs are lists of the same entries.
            let audits = of.ends_with("/audit") && route.path.ends_with("/audit");
            if !audits {
                problem(&reply, 400, "invalid_request");
            }
            continue;
        }
        ask(format!("cursor={cursor}")).await.expect(200);
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).expect("base64");
        for spoiled in [
            cursor[..cursor.len() - 2].to_owned(),
            cursor[1..].to_owned(),
            format!("{cursor}A"),
            format!("{cursor}="),
            format!("{cursor}{cursor}"),
            cursor.to_lowercase(),
            BASE64_URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() / 2]),
            BASE64_URL_SAFE_NO_PAD.encode([bytes.as_slice(), b" "].concat()),
        ] {
            let reply = ask(format!("cursor={spoiled}")).await;
            problem(&reply, 400, "invalid_request");
        }
        forged_cursors(&ask, path, &bytes).await;
    }
    for length in [2_000, 40_000] {
        let reply = ask(format!("cursor={}", "A".repeat(length))).await;
        problem(&reply, 400, "invalid_request");
    }
    // More than a request line may have is refused before anybody looks at it.
    let reply = ask(format!("cursor={}", "A".repeat(1_000_000)))
        .attempt()
        .await;
    if let Ok(reply) = reply {
        assert!(matches!(reply.status, 400 | 414 | 431), "{}", reply.status);
    }
    ask("limit=200".to_owned()).await.expect(200);
}

/// Cursors in the form of ours, with keys that nobody was given: a place in the list, and
/// nothing else.
async fn forged_cursors(ask: &impl Fn(String) -> Call, path: &str, ours: &[u8]) {
    let all = ask("limit=200".to_owned()).await.expect(200);
    let known = all.body["data"].as_array().expect("a list").clone();
    let whole: Value = serde_json::from_slice(ours).expect("a cursor is JSON");
    let (version, list, key) = (&whole[0], &whole[1], &whole[2]);
    let keys = match key.is_string() {
        true => vec![
            json!(""),
            json!("\u{0}"),
            json!("a\u{0}b"),
            json!("zzzz"),
            json!("' OR 1=1 --"),
            json!("%"),
            json!("\u{10ffff}"),
            json!(7),
            json!(null),
        ],
        false => vec![
            json!(0),
            json!(-1),
            json!(u64::MAX),
            json!(i64::MAX),
            json!(1.5),
            json!("x"),
        ],
    };
    for key in keys {
        let cursor = serde_json::to_vec(&json!([version, list, key])).expect("JSON");
        let cursor = BASE64_URL_SAFE_NO_PAD.encode(cursor);
        let reply = ask(format!("limit=200&cursor={cursor}")).await;
        match reply.status {
            200 => {
                for item in reply.body["data"].as_array().expect("a list") {
                    assert!(known.contains(item), "{path} after {key}: {item}");
                }
            }
            _ => problem(&reply, 400, "invalid_request"),
        }
        let other = serde_json::to_vec(&json!([9, list, key])).expect("JSON");
        let other = BASE64_URL_SAFE_NO_PAD.encode(other);
        let reply = ask(format!("cursor={other}")).await;
        problem(&reply, 400, "invalid_request");
    }
}

/// A cursor of the same list in another workspace shows nothing of that workspace.
async fn foreign_cursors(server: &Server, team: &Team) {
    let theirs = format!("/v1/workspaces/{}", team.neighbours_workspace);
    for _ in 0..3 {
        let email = address("theirs");
        let made = invite(
            server,
            &team.neighbours_workspace,
            &team.neighbour,
            &email,
            "viewer",
        );
        made.await.expect(201);
    }
    for list in ["/invitations", "/audit"] {
        let page = server
            .get(&format!("{theirs}{list}?limit=1"))
            .bearer(&team.neighbour.token)
            .await
            .expect(200);
        let cursor = text(&page.body, "/next_cursor");
        let path = team.path(&format!("{list}?limit=200&cursor={cursor}"));
        let reply = server.get(&path).bearer(&team.owner.token).await;
        if reply.status != 200 {
            whole_problem(&reply);
            continue;
        }
        let items = reply.body["data"].as_array().expect("a list");
        for item in items {
            assert_eq!(item["workspace"], team.workspace.as_str(), "{item}");
        }
    }
}
