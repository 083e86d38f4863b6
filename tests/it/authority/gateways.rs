//! Gateways ask whether a key is good, over and over, while it is revoked.
//!
//! Where it was revoked, whoever asks after the answer is told so. Another process may go on saying
//! `valid` for a second: it answers from memory only while it has heard from the log within the
//! last second. When it is asked lies before when it looks at its memory, and the revocation before
//! its answer, so that the second needs no allowance for a slow machine: a question that is asked
//! more than a second after the answer is never answered `valid`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::task::JoinHandle;

use super::rounds;
use crate::edge::team::{Person, text};
use crate::support::load::until;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, on};

pub fn trials() -> Vec<Case> {
    vec![
        both("authority", "64_gateways_while_a_key_is_revoked", at_once),
        on(
            &[StoreKind::Postgres],
            "authority",
            "another_process_stops_within_a_second",
            within_a_second,
        ),
    ]
}

const GATEWAYS: usize = 64;
/// Fewer ask the other process, so that the revocation is answered soon, and much of the second is
/// left to ask in.
const GATEWAYS_ELSEWHERE: usize = 16;

/// How old what a process knows of keys may be, as `docs/security.md` promises.
const BOUND: Duration = Duration::from_secs(1);

/// An answer to a gateway, with when it asked.
#[derive(Debug)]
struct Told {
    asked_at: Instant,
    code: String,
}

/// Somebody with a workspace, and a key of it.
struct Keyed {
    owner: Person,
    keys: String,
}

impl Keyed {
    async fn on(server: &Server) -> Self {
        let made = json!({
            "organization": {"name": "Gateways"}, "workspace": {"name": "Gateways"},
        });
        let (owner, reply) = Person::sign_up_with(server, "gateways", made).await;
        let workspace = text(&reply.body, "/workspace/id");
        Self {
            owner,
            keys: format!("/v1/workspaces/{workspace}/api-keys"),
        }
    }

    /// The path and the secret of a new key.
    async fn new_key(&self, server: &Server) -> (String, String) {
        let new = json!({"name": "Gateway", "environment": "production", "scopes": ["audit:read"]});
        let call = server.post(&self.keys).bearer(&self.owner.token);
        let made = call.json(new).await.expect(201).body;
        let path = format!("{}/{}", self.keys, text(&made, "/id"));
        (path, text(&made, "/secret"))
    }

    /// Revokes; answers when that was answered.
    async fn revoke(&self, server: &Server, path: &str) -> Instant {
        let revoked = server.delete(path).bearer(&self.owner.token).await;
        let answered_at = Instant::now();
        assert_eq!(revoked.expect(200).body["status"], "revoked");
        answered_at
    }
}

/// A gateway that asks in a loop until it was told three times that the key is revoked, and says
/// when it was first told anything.
fn gateway(
    server: &Arc<Server>,
    secret: &str,
    heard: &tokio::sync::mpsc::UnboundedSender<()>,
) -> JoinHandle<Vec<Told>> {
    let (server, secret, heard) = (server.clone(), secret.to_owned(), heard.clone());
    tokio::spawn(async move {
        let mut told: Vec<Told> = Vec::new();
        let mut revoked = 0;
        while revoked < 3 {
            let asked_at = Instant::now();
            let call = server.post("/v1/api-keys/verify");
            let reply = call.json(json!({"key": secret})).await.expect(200);
            let code = text(&reply.body, "/code");
            assert_eq!(reply.body["valid"], code == "valid", "{}", reply.text);
            match code.as_str() {
                "valid" => {}
                "revoked" => revoked += 1,
                _ => panic!("{}", reply.text),
            }
            if told.is_empty() {
                // Whoever listened has failed, where nobody does.
                let _ = heard.send(());
            }
            told.push(Told { asked_at, code });
        }
        told
    })
}

/// Gateways at work: each has had an answer.
async fn gateways(server: &Arc<Server>, secret: &str, count: usize) -> Vec<JoinHandle<Vec<Told>>> {
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let started = (0..count)
        .map(|_| gateway(server, secret, &heard))
        .collect();
    for _ in 0..count {
        hears.recv().await.expect("an answer");
    }
    started
}

async fn all_told(gateways: Vec<JoinHandle<Vec<Told>>>) -> Vec<Told> {
    let told = join_all(gateways).await;
    told.into_iter()
        .flat_map(|told| told.expect("a gateway to be content"))
        .collect()
}

/// How long after the answer the last question was asked that was answered `valid`.
fn longest_valid(told: &[Told], answered_at: Instant) -> Duration {
    let valid = told.iter().filter(|told| told.code == "valid");
    let late = valid.map(|told| told.asked_at.saturating_duration_since(answered_at));
    late.max().unwrap_or_default()
}

async fn at_once(store: StoreUnderTest) {
    let server = Arc::new(Server::start(&store).await);
    let keyed = Keyed::on(&server).await;
    let (rounds, mut asked) = (rounds(4), 0);
    for _ in 0..rounds {
        let (path, secret) = keyed.new_key(&server).await;
        let gateways = gateways(&server, &secret, GATEWAYS).await;
        let answered_at = keyed.revoke(&server, &path).await;
        let told = all_told(gateways).await;
        let late = longest_valid(&told, answered_at);
        assert_eq!(late, Duration::ZERO, "`valid` was told after the answer");
        assert!(told.iter().any(|told| told.code == "valid"), "it was good");
        asked += told.len();
    }
    println!(
        "{:?}: {rounds} keys were revoked while {GATEWAYS} gateways asked, {asked} times in all; \
         none that asked after the answer was told `valid`",
        store.kind()
    );
}

/// The other process follows the log in the even rounds. In the odd ones it cannot: its writer
/// stands still with a batch, so that it knows only that it has heard nothing.
async fn within_a_second(store: StoreUnderTest) {
    let revoking = Server::start(&store).await;
    let keyed = Keyed::on(&revoking).await;
    for round in 0..rounds(4) {
        let is_deaf = round % 2 == 1;
        let held_by = store.data_dir().join(format!("held.{round}"));
        let mut command = Server::command(&store);
        if is_deaf {
            std::fs::write(&held_by, "").expect("a file");
            let point = format!("append_before_send:1:hold={}", held_by.display());
            command.env("CREWLOG_FAIL_POINT", point);
        }
        let other = Arc::new(Server::launch(command).await);
        let (path, secret) = keyed.new_key(&revoking).await;
        let gateways = gateways(&other, &secret, GATEWAYS_ELSEWHERE).await;
        let held = is_deaf.then(|| {
            let (other, owner) = (other.clone(), keyed.owner.clone());
            let rename = json!({"name": format!("Held {round}")});
            tokio::spawn(async move {
                let call = other.patch("/v1/me").bearer(&owner.token);
                call.json(rename).await
            })
        });
        if is_deaf {
            let holding = || other.logs().contains("holding");
            until("the writer to be held", Duration::from_secs(30), holding).await;
        }
        let answered_at = keyed.revoke(&revoking, &path).await;
        let told = all_told(gateways).await;
        let late = longest_valid(&told, answered_at);
        println!(
            "another process that {} the log went on saying `valid` for {late:.1?} ({} questions)",
            if is_deaf { "cannot follow" } else { "follows" },
            told.len()
        );
        assert!(late <= BOUND, "`valid` was told {late:?} after the answer");
        if let Some(held) = held {
            std::fs::remove_file(&held_by).expect("the file to go");
            held.await.expect("an answer").expect(200);
        }
    }
}
