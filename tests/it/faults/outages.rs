//! PostgreSQL goes away and comes back, and connections break, also at the worst of moments.

use std::time::{Duration, Instant};

use super::{check, check_all, rounds, seed, tell};
use crate::support::commands::crewlog;
use crate::support::load::{ANSWER_LIMIT, Ask, Load, Told};
use crate::support::postgres::{Cluster, Ending};
use crate::support::proxy::{Cut, Proxy};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, on, with_cluster};

pub fn trials() -> Vec<Case> {
    let postgres = [StoreKind::Postgres];
    vec![
        with_cluster("faults", "postgresql_is_restarted", restarted),
        on(&postgres, "faults", "connections_are_cut", cut),
        on(&postgres, "faults", "the_network_is_silent", silent),
    ]
}

const CLIENTS: usize = 6;

/// Waits until `/readyz` is as it should be; answers with its problems.
pub async fn readiness(server: &Server, is_ready: bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let reply = server.get("/readyz").await;
        let status = if is_ready { 200 } else { 503 };
        if reply.status == status {
            assert_eq!(reply.body["ready"], is_ready, "{}", reply.text);
            return reply.body["problems"].to_string();
        }
        assert!(
            Instant::now() < deadline,
            "ready: {is_ready}? {}",
            reply.text
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `/readyz` is red for this reason.
pub async fn red(server: &Server, reason: &str) {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let problems = readiness(server, false).await;
        if problems.contains(reason) {
            return;
        }
        assert!(Instant::now() < deadline, "{reason}: {problems}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn restarted(cluster: Cluster) {
    let store = StoreUnderTest::in_database(cluster.database().await.expect("a database"));
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 3, seed()).await;
    let url = server.base_url().to_owned();
    let rounds = rounds(2);
    for round in 0..rounds {
        let ending = [Ending::Fast, Ending::Crash][round % 2];
        let clients = load.start(std::slice::from_ref(&url), CLIENTS);
        load.answers(10 + load.below(40)).await;
        tokio::task::block_in_place(|| cluster.stop(ending));
        red(&server, "the store cannot be reached").await;
        // One command by itself is told to come back, in time (the load looks at that).
        let command = load.add(0, Ask::Rename);
        assert_eq!(load.send(&url, command.number).await, Told::Later);
        tokio::task::block_in_place(|| cluster.recover());
        load.answers(20).await;
        clients.stop().await;
        readiness(&server, true).await;
        load.settle(&url).await;
        check(&store, &load).await;
    }
    load.is_in_the_audit_log(&server).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check_all(&store, &load).await;
    tell("PostgreSQL stopped (fast, crash)", &store, rounds, &figures);
}

async fn behind(proxy: &Proxy, store: &StoreUnderTest) -> Server {
    let mut command = crewlog(&["serve", "--listen", "127.0.0.1:0", "--database-url"]);
    command.arg(proxy.url()).arg("--data").arg(store.data_dir());
    Server::launch(command).await
}

async fn cut(store: StoreUnderTest) {
    let proxy = Proxy::start(store.database_url().expect("a database")).await;
    let mut server = behind(&proxy, &store).await;
    let load = Load::begin(&server, 3, seed()).await;
    let url = server.base_url().to_owned();
    let rounds = rounds(4);
    for round in 0..rounds {
        let clients = load.start(std::slice::from_ref(&url), CLIENTS);
        for kind in 0..3 {
            load.answers(load.below(10)).await;
            let cuts = proxy.cuts();
            match (round + kind) % 3 {
                0 => proxy.cut_all(),
                1 => proxy.cut_next_commit(Cut::Before),
                _ => proxy.cut_next_commit(Cut::After),
            }
            load.answers(10).await;
            assert!((round + kind) % 3 == 0 || proxy.cuts() == cuts + 1);
        }
        clients.stop().await;
        readiness(&server, true).await;
        load.settle(&url).await;
        check(&store, &load).await;
    }
    load.is_in_the_audit_log(&server).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check_all(&store, &load).await;
    tell(
        "connections cut, also after COMMIT",
        &store,
        rounds * 3,
        &figures,
    );
}

/// Nothing comes through, and nobody is told: what a pulled cable is like.
async fn silent(store: StoreUnderTest) {
    let proxy = Proxy::start(store.database_url().expect("a database")).await;
    let mut server = behind(&proxy, &store).await;
    let load = Load::begin(&server, 3, seed()).await;
    let url = server.base_url().to_owned();
    let rounds = rounds(1).div_ceil(4);
    for _ in 0..rounds {
        let clients = load.start(std::slice::from_ref(&url), CLIENTS);
        load.answers(10 + load.below(20)).await;
        proxy.silence(true);
        red(&server, "the store cannot be reached").await;
        let command = load.add(0, Ask::Rename);
        let sent = Instant::now();
        assert_eq!(load.send(&url, command.number).await, Told::Later);
        assert!(sent.elapsed() < ANSWER_LIMIT);
        proxy.silence(false);
        load.answers(20).await;
        clients.stop().await;
        readiness(&server, true).await;
        load.settle(&url).await;
        check(&store, &load).await;
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check_all(&store, &load).await;
    tell("network silent", &store, rounds, &figures);
}
