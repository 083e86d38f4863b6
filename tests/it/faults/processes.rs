//! Several processes on one store: what one decided too late loses, and a second writer of a SQLite
//! file is refused.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::{check, check_all, rounds, seed, tell};
use crate::support::commands::{crewlog_on, run};
use crate::support::load::{Ask, Load, Told, until};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, on};

pub fn trials() -> Vec<Case> {
    let postgres = [StoreKind::Postgres];
    vec![
        on(&postgres, "faults", "two_processes_write", two_write),
        on(&postgres, "faults", "a_stopped_process_is_late", stopped),
        on(&postgres, "faults", "a_revoked_right_is_late", revoked),
        on(
            &[StoreKind::Sqlite],
            "faults",
            "a_second_process_on_a_file",
            second,
        ),
        both("faults", "it_is_verified_while_it_writes", verified),
    ]
}

const CLIENTS: usize = 6;

/// A server that stops itself at a fail point, which it meets the `time`th time.
async fn stopping_at(store: &StoreUnderTest, point: &str, time: usize) -> Server {
    let mut command = Server::command(store);
    command.env("CREWLOG_FAIL_POINT", format!("{point}:{time}:stop"));
    Server::launch(command).await
}

async fn is_stopped(server: &Server) {
    // It says so a moment before; who is told to go on in between never does.
    let stopped = || server.logs().contains("stopping") && server.is_stopped();
    until("it to stop itself", Duration::from_secs(30), stopped).await;
}

/// Both go forward: neither loses every compare to the other.
async fn two_write(store: StoreUnderTest) {
    let (mut first, mut second) = (Server::start(&store).await, Server::start(&store).await);
    let load = Load::begin(&first, 3, seed()).await;
    let rounds = rounds(2);
    for round in 0..rounds {
        let urls = [first.base_url().to_owned(), second.base_url().to_owned()];
        let clients = load.start(&urls, CLIENTS);
        load.answers_by(&urls, 40).await;
        if round % 2 == 1 {
            second.kill().await;
            clients.stop().await;
            second = Server::start(&store).await;
        } else {
            clients.stop().await;
        }
        check(&store, &load).await;
        load.settle(second.base_url()).await;
    }
    assert!(first.terminate().await.success(), "{}", first.logs());
    assert!(second.terminate().await.success(), "{}", second.logs());
    let figures = check_all(&store, &load).await;
    tell("two processes, one killed", &store, rounds, &figures);
}

/// One is stopped with a batch decided, or on its way; the other goes on; what the first sends when
/// it is continued was decided on a past state, and loses. Where both were busy, the one that is
/// stopped may hold the head's row: the database takes it away from it.
async fn stopped(store: StoreUnderTest) {
    let mut other = Server::start(&store).await;
    let load = Load::begin(&other, 3, seed()).await;
    let rounds = rounds(2);
    for round in 0..rounds {
        let point = ["append_before_send", "append_after_send"][round / 2 % 2];
        let mut late = stopping_at(&store, point, 1 + load.below(10)).await;
        let to_late = load.start(&[late.base_url().to_owned()], CLIENTS);
        let other_url = other.base_url().to_owned();
        let to_other = match round % 2 {
            0 => {
                is_stopped(&late).await;
                load.start(&[other_url], CLIENTS)
            }
            _ => {
                let to_other = load.start(&[other_url], CLIENTS);
                is_stopped(&late).await;
                to_other
            }
        };
        // Whatever it holds, the other one writes.
        load.answers(60).await;
        late.signal(Signal::SIGCONT);
        load.answers_by(&[late.base_url().to_owned()], 20).await;
        to_other.stop().await;
        to_late.stop().await;
        assert!(late.logs().contains("going on"), "{}", late.logs());
        check(&store, &load).await;
        load.settle(late.base_url()).await;
        assert!(late.terminate().await.success(), "{}", late.logs());
    }
    assert!(other.terminate().await.success(), "{}", other.logs());
    let figures = check_all(&store, &load).await;
    tell("stopped with a batch (SIGSTOP)", &store, rounds, &figures);
}

/// A command waits in one process, decided and not sent, while through the other its sender loses
/// the right to it.
async fn revoked(store: StoreUnderTest) {
    let mut other = Server::start(&store).await;
    let load = Load::begin(&other, 1, seed()).await;
    let owner = &load.owners[0];
    let path = format!("/v1/workspaces/{}", owner.workspace);
    let member = format!("{path}/members/{}", load.colleague);
    let rounds = rounds(2);
    for round in 0..rounds {
        let role = |role: &str| {
            let call = other.patch(&member).header("x-request-id", "setup");
            call.bearer(&owner.token).json(json!({"role": role}))
        };
        role("admin").await.expect(200);
        let mut late = stopping_at(&store, "append_before_send", 1).await;
        let email = format!("guest{round}@example.com");
        let invite = late
            .post(&format!("{path}/invitations"))
            .bearer(&load.colleague_token)
            .header("x-request-id", "setup")
            .json(json!({"email": email, "role": "viewer"}));
        let waiting = tokio::spawn(async move { invite.await });
        is_stopped(&late).await;
        role("viewer").await.expect(200);
        assert!(!waiting.is_finished(), "it was decided, and is not sent");
        late.signal(Signal::SIGCONT);
        let answer = waiting.await.expect("an answer").expect(403);
        assert_eq!(answer.body["code"], "not_permitted", "{}", answer.text);
        let path = format!("{path}/invitations");
        let found = other.get(&path).bearer(&owner.token).await.expect(200);
        assert!(!found.text.contains(&email), "{}", found.text);
        assert!(late.terminate().await.success(), "{}", late.logs());
    }
    let command = load.add(0, Ask::Rename);
    let told = load.send(other.base_url(), command.number).await;
    assert_eq!(told, Told::Answered);
    assert!(other.terminate().await.success(), "{}", other.logs());
    let figures = check_all(&store, &load).await;
    tell("a right revoked meanwhile", &store, rounds, &figures);
}

async fn second(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    let clients = load.start(&[server.base_url().to_owned()], CLIENTS);
    load.answers(5).await;
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["migrate"]] {
        let ended = run(crewlog_on(&store, command));
        ended.refused_with(&["another crewlog process is writing", "stop it first"]);
        load.answers(5).await;
    }
    // The server that writes does it, as it was asked to.
    run(crewlog_on(&store, &["replay"])).expect(0);
    load.answers(5).await;
    clients.stop().await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    check_all(&store, &load).await;
}

/// Who reads beside a writer sees a whole log, and keeps nobody from writing.
async fn verified(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 3, seed()).await;
    let rounds = rounds(3);
    let clients = load.start(&[server.base_url().to_owned()], CLIENTS);
    for _ in 0..rounds {
        load.answers(10).await;
        run(crewlog_on(&store, &["verify"])).expect(0);
        run(crewlog_on(&store, &["replay", "--check"])).expect(0);
    }
    clients.stop().await;
    assert_eq!(load.unanswered(), [] as [usize; 0]);
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check_all(&store, &load).await;
    tell(
        "`verify` and `replay --check` beside it",
        &store,
        rounds,
        &figures,
    );
}
