//! Bad days: PostgreSQL goes away under the server, the server is told to stop under load.

use std::collections::{BTreeMap, BTreeSet};
use std::future::IntoFuture;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use serde_json::json;

use super::routes::{problem, whole_problem};
use super::team::{Person, Team, number, text};
use super::{crewlog, eventually, held, held_at};
use crate::support::postgres::Cluster;
use crate::support::scratch;
use crate::support::server::{Call, Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both, with_cluster};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "a_stop_under_load_loses_nothing", stop_under_load),
        with_cluster("edge", "a_database_that_goes_comes_back", database_goes),
    ]
}

/// Writes organizations, several at once, until told to stop or until nothing answers; answers
/// with the names of those that were told to be there, by position, and what else was answered.
async fn write_until(
    server: &Server,
    token: &str,
    stop: &AtomicBool,
) -> (BTreeMap<u64, String>, Vec<Reply>) {
    let lanes = (0..6).map(|_| async {
        let (mut told, mut others) = (BTreeMap::new(), Vec::new());
        while !stop.load(Ordering::SeqCst) {
            let name = format!("Under load {}", number());
            let call = server.post("/v1/organizations").bearer(token);
            match call.json(json!({"name": name})).attempt().await {
                Ok(reply) if reply.status == 201 => {
                    let position = reply.header("crewlog-position").expect("a position");
                    told.insert(position.parse().expect("a number"), name);
                }
                Ok(reply) => others.push(reply),
                Err(_) => break,
            }
        }
        (told, others)
    });
    let (mut told, mut others) = (BTreeMap::new(), Vec::new());
    for (of_lane, more) in join_all(lanes).await {
        for (position, name) in of_lane {
            assert!(
                told.insert(position, name).is_none(),
                "position {position} was told twice"
            );
        }
        others.extend(more);
    }
    (told, others)
}

/// The names of all organizations that somebody has.
async fn organizations(server: &Server, token: &str) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server
            .get(&format!("/v1/organizations?limit=200{cursor}"))
            .bearer(token)
            .await
            .expect(200);
        names.extend(
            page.body["data"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|one| text(one, "/name")),
        );
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return names,
        }
    }
}

async fn stop_under_load(store: StoreUnderTest) {
    for _ in 0..2 {
        let mut server = Server::start(&store).await;
        let owner = Person::sign_up(&server, "loaded").await;
        let (stop, before) = (AtomicBool::new(false), position(&server).await);
        let id = server.id();
        let load = write_until(&server, &owner.token, &stop);
        let signal = async {
            eventually("some writes", async || {
                let ready = server.get("/readyz").attempt().await.ok()?;
                (ready.body["position"].as_u64()? > before + 60).then_some(())
            })
            .await;
            crate::support::process::signal_id(id, nix::sys::signal::Signal::SIGTERM);
        };
        let ((told, others), ()) = tokio::join!(load, signal);
        let status = server.ended().await;
        assert!(status.success(), "it ends with {status}");
        for reply in &others {
            assert_eq!(reply.status, 503, "{}", reply.text);
            whole_problem(reply);
        }
        assert!(told.len() > 10, "there was load: {}", told.len());
        held(&store);

        let again = Server::start(&store).await;
        let there = organizations(&again, &owner.token).await;
        for (position, name) in &told {
            assert!(
                there.contains(name),
                "{name}, told at {position}, is there after the restart"
            );
        }
        let head = again.get("/readyz").await.expect(200).body["position"].as_u64();
        assert!(head >= told.keys().next_back().copied());
        drop(again);
    }
}

async fn database_goes(cluster: Cluster) {
    let database = cluster.database().await.expect("a database");
    let data = scratch::directory("data");
    let mut server = Server::launch(serve(data.path(), database.url())).await;
    let team = Team::make(&server).await;
    let token = &team.owner.token;
    // Under load, so that something is in flight when it goes.
    let stop = AtomicBool::new(false);
    let outage = async {
        outage(&server, &team, &cluster).await;
        stop.store(true, Ordering::SeqCst);
    };
    let ((told, others), ()) = tokio::join!(write_until(&server, token, &stop), outage);
    for reply in &others {
        assert_eq!(reply.status, 503, "{}", reply.text);
        whole_problem(reply);
    }
    let there = organizations(&server, token).await;
    for (position, name) in &told {
        assert!(there.contains(name), "{name}, told at {position}, is there");
    }
    let once: BTreeSet<_> = there.iter().collect();
    assert_eq!(once.len(), there.len(), "nothing was written twice");
    held_at(data.path(), Some(database.url()));
    assert!(server.terminate().await.success());
    held_at(data.path(), Some(database.url()));
}

/// The database goes while others write, and comes back; the server says so, and recovers.
async fn outage(server: &Server, team: &Team, cluster: &Cluster) {
    let before = position(server).await;
    eventually("some writes", async || {
        (position(server).await > before + 10).then_some(())
    })
    .await;
    cluster.crash();
    let unready = eventually("the server to say that it is not ready", async || {
        let ready = server.get("/readyz").await;
        (ready.status == 503).then_some(ready)
    })
    .await;
    assert_eq!(unready.body["ready"], false, "{}", unready.text);
    let reasons = unready.body["problems"].as_array().expect("reasons");
    assert!(!reasons.is_empty(), "{}", unready.text);
    for inside in ["postgres://", "SELECT", "127.0.0.1", "os error"] {
        assert!(!unready.text.contains(inside), "{}", unready.text);
    }
    for path in ["/healthz", "/metrics", "/v1/plans"] {
        server.get(path).await.expect(200);
    }
    let (path, owner) = (team.path(""), &team.owner);
    let sign_in = json!({"email": owner.email, "password": owner.password});
    let calls = [
        server.get(&path).bearer(&owner.token),
        server.get("/v1/me").bearer(&owner.token),
        server.get(&team.path("/audit")).bearer(&owner.token),
        rename(server, team, "Not now"),
        server.post("/v1/sessions").json(sign_in),
    ];
    for reply in join_all(calls.into_iter().map(IntoFuture::into_future)).await {
        problem(&reply, 503, "unavailable");
    }

    cluster.recover();
    eventually("the server to recover by itself", async || {
        let ready = server.get("/readyz").await;
        (ready.status == 200).then_some(())
    })
    .await;
    eventually("a write after the outage", async || {
        let reply = rename(server, team, "Back again").await;
        (reply.status == 200).then_some(())
    })
    .await;
    let read = server.get(&path).bearer(&owner.token).await.expect(200);
    assert_eq!(read.body["name"], "Back again");
}

fn rename(server: &Server, team: &Team, name: &str) -> Call {
    let call = server.patch(&team.path("")).bearer(&team.owner.token);
    call.header("Idempotency-Key", name)
        .json(json!({"name": name}))
}

fn serve(data: &Path, url: &str) -> Command {
    crewlog(data, Some(url), &["serve", "--listen", "127.0.0.1:0"])
}

async fn position(server: &Server) -> u64 {
    let ready = server.get("/readyz").await.expect(200);
    ready.body["position"].as_u64().expect("a number")
}
