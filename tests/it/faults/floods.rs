//! Too much at once: who floods waits for themselves, what is too much is refused in words, and
//! stopping in the midst of it finishes what was begun.

use std::future::IntoFuture;
use std::time::Duration;

use serde_json::json;

use super::{check_all, rounds, seed, tell};
use crate::support::load::{Load, until};
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("faults", "a_flood_waits_for_itself", flood),
        both("faults", "stopping_under_load_finishes", stopping),
    ]
}

/// Waits until so many commands wait in the queue.
async fn queued(server: &Server, at_least: u64) {
    for _ in 0..3_000 {
        let length = server.get("/readyz").await.body["queue"]["length"]
            .as_u64()
            .expect("a length");
        if length >= at_least {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the queue never had {at_least}");
}

fn position(reply: &Reply) -> u64 {
    let position = reply.header("crewlog-position").expect("a position");
    position.parse().expect("a number")
}

/// The writer is held; one organization asks for far more than its share, and then another for a
/// little. When it goes on, the little one's turn comes with the first batch.
async fn flood(store: StoreUnderTest) {
    const LANE: usize = 1_024;
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    assert!(server.terminate().await.success(), "{}", server.logs());

    let mut command = Server::command(&store);
    // Keeps the writer with one batch decided; the rest waits.
    let held_by = store.data_dir().join("held");
    std::fs::write(&held_by, "").expect("a file");
    let point = format!("append_before_send:1:hold={}", held_by.display());
    command.env("CREWLOG_FAIL_POINT", point);
    let mut server = Server::launch(command).await;
    let [flooding, quiet] = [&load.owners[0], &load.owners[1]];
    let rename = |owner: &crate::support::load::Owner, name: &str| {
        let call = server.patch(&format!("/v1/workspaces/{}", owner.workspace));
        let call = call.bearer(&owner.token).header("x-request-id", "setup");
        tokio::spawn(call.json(json!({"name": name})).into_future())
    };
    let first = rename(quiet, "the one that is held");
    let held = || server.logs().contains("holding");
    until("the writer to be held", Duration::from_secs(30), held).await;
    let asked = LANE + 40;
    let flood: Vec<_> = (0..asked)
        .map(|number| rename(flooding, &format!("flood {number}")))
        .collect();
    queued(&server, LANE as u64).await;
    let little: Vec<_> = (0..3)
        .map(|number| rename(quiet, &format!("quiet {number}")))
        .collect();
    queued(&server, LANE as u64 + 3).await;
    // What is beyond the lane is refused while all else waits.
    let mut refused = 0;
    let refusals = || flood.iter().filter(|task| task.is_finished()).count();
    until("refusals", Duration::from_secs(30), || {
        refusals() == asked - LANE
    })
    .await;
    std::fs::remove_file(&held_by).expect("the file to go");

    first.await.expect("an answer").expect(200);
    let mut flooded = Vec::new();
    for task in flood {
        let reply = task.await.expect("an answer");
        if reply.status == 503 {
            assert_eq!(reply.body["code"], "overloaded", "{}", reply.text);
            assert!(reply.header("retry-after").is_some(), "{:?}", reply.headers);
            let kind = reply.header("content-type");
            assert_eq!(kind, Some("application/problem+json"));
            refused += 1;
        } else {
            flooded.push(position(&reply.expect(200)));
        }
    }
    assert_eq!((refused, flooded.len()), (asked - LANE, LANE));
    flooded.sort_unstable();
    for task in little {
        let reply = task.await.expect("an answer").expect(200);
        // Lanes take turns: three of the other's come before a handful of the flood.
        let before = flooded.partition_point(|at| *at < position(&reply));
        assert!(before <= 4, "{before} of the flood came first");
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    check_all(&store, &load).await;
}

/// SIGTERM under load: what was accepted is answered, and nothing waits for what was not.
async fn stopping(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 3, seed()).await;
    let rounds = rounds(2);
    for _ in 0..rounds {
        let clients = load.start(&[server.base_url().to_owned()], 12);
        load.answers(1 + load.below(60)).await;
        let status = server.terminate().await;
        clients.stop().await;
        assert!(status.success(), "{status}: {}", server.logs());
        let logs = server.logs();
        assert!(logs.contains("everything that was accepted"), "{logs}");
        server = Server::start(&store).await;
        load.settle(server.base_url()).await;
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check_all(&store, &load).await;
    // Nothing that had been sent was left undone: whoever was not answered had not got through.
    assert_eq!(figures.found, 0, "{figures:?}");
    tell("SIGTERM under load", &store, rounds, &figures);
}
