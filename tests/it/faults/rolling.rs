//! Servers of one PostgreSQL are restarted, one after the other, under load: whoever goes through a
//! balancer that asks for `/readyz` does not notice.

use std::process::Command;
use std::sync::atomic::Ordering;

use super::{check_all, rounds, seed, tell};
use crate::support::balancer::Balancer;
use crate::support::load::Load;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, on};

pub fn trials() -> Vec<Case> {
    let postgres = [StoreKind::Postgres];
    vec![on(
        &postgres,
        "faults",
        "servers_are_restarted_in_turn",
        rolled,
    )]
}

const CLIENTS: usize = 6;
const SERVERS: usize = 3;

async fn leaving_first(store: &StoreUnderTest) -> Server {
    let mut command: Command = Server::command(store);
    command.args(["--drain-ms", "1000"]);
    Server::launch(command).await
}

async fn rolled(store: StoreUnderTest) {
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(leaving_first(&store).await);
    }
    let urls: Vec<_> = servers.iter().map(Server::base_url).collect();
    let balancer = Balancer::start(&urls).await;
    let load = Load::begin(&servers[0], 3, seed()).await;
    let clients = load.start(&[balancer.url().to_owned()], CLIENTS);
    let rounds = rounds(1);
    for place in (0..rounds).flat_map(|_| 0..SERVERS) {
        load.answers(20).await;
        let old = &mut servers[place];
        assert!(old.terminate().await.success(), "{}", old.logs());
        assert!(old.logs().contains("/readyz says so"), "{}", old.logs());
        *old = leaving_first(&store).await;
        balancer.replace(place, old.base_url()).await;
    }
    load.answers(20).await;
    clients.stop().await;
    assert_eq!(load.unanswered(), [] as [usize; 0], "each the first time");
    assert_eq!(load.put_off.load(Ordering::SeqCst), 0);
    for mut server in servers {
        assert!(server.terminate().await.success(), "{}", server.logs());
    }
    let figures = check_all(&store, &load).await;
    assert_eq!(figures.attempts, figures.commands);
    tell(
        "servers restarted in turn",
        &store,
        rounds * SERVERS,
        &figures,
    );
}
