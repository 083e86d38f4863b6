//! The program dies: at chosen places in the writing of a batch, and at any moment at all.

use std::process::Command;

use super::{check, check_all, rounds, seed, tell};
use crate::support::load::Load;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("faults", "it_dies_before_it_sends", async |store| {
            dies_at(store, "append_before_send").await;
        }),
        both("faults", "it_dies_after_it_sent", async |store| {
            dies_at(store, "append_after_send").await;
        }),
        both("faults", "it_dies_after_the_commit", async |store| {
            dies_at(store, "append_after_commit").await;
        }),
        both("faults", "it_is_killed_at_any_moment", killed),
    ]
}

const CLIENTS: usize = 6;

fn with_fail_point(store: &StoreUnderTest, point: &str, time: usize) -> Command {
    let mut command = Server::command(store);
    command.env("CREWLOG_FAIL_POINT", format!("{point}:{time}"));
    command
}

async fn dies_at(store: StoreUnderTest, point: &str) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 3, seed()).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let rounds = rounds(3);
    for _ in 0..rounds {
        let command = with_fail_point(&store, point, 1 + load.below(12));
        let mut server = Server::launch(command).await;
        let clients = load.start(&[server.base_url().to_owned()], CLIENTS);
        let status = server.ended().await;
        clients.stop().await;
        assert!(!status.success(), "{status}");
        assert!(server.logs().contains("aborting"), "{}", server.logs());
        check(&store, &load).await;
    }
    let mut server = Server::start(&store).await;
    load.settle(server.base_url()).await;
    load.is_in_the_audit_log(&server).await;
    assert_eq!(load.unanswered(), [] as [usize; 0]);
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check_all(&store, &load).await;
    tell(&format!("dies: `{point}`"), &store, rounds, &figures);
}

async fn killed(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 3, seed()).await;
    let rounds = rounds(4);
    for _ in 0..rounds {
        let clients = load.start(&[server.base_url().to_owned()], CLIENTS);
        load.answers(1 + load.below(60)).await;
        server.kill().await;
        clients.stop().await;
        check(&store, &load).await;
        server = Server::start(&store).await;
        load.settle(server.base_url()).await;
        load.is_in_the_audit_log(&server).await;
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check_all(&store, &load).await;
    tell("killed (SIGKILL)", &store, rounds, &figures);
}
