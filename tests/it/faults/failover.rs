//! PostgreSQL is failed over to a standby, by the commands of `docs/operating.md`: to one that has
//! all that was answered, and to one that has not.

use super::outages::readiness;
use super::{check, check_all, rounds, seed, tell};
use crate::support::commands::{crewlog_on, run};
use crate::support::load::Load;
use crate::support::pages::Page;
use crate::support::postgres::{Cluster, Ending};
use crate::support::proxy::Proxy;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, with_cluster};

pub fn trials() -> Vec<Case> {
    vec![
        with_cluster("faults", "postgresql_is_failed_over", failed_over),
        with_cluster("faults", "a_failover_loses_entries", lost_entries),
    ]
}

const CLIENTS: usize = 6;

fn page() -> Page {
    Page::read("docs/operating.md")
}

fn url_of(store: &StoreUnderTest) -> &str {
    store.database_url().expect("a database")
}

/// A new database, and the address that leads to it wherever it is.
async fn behind_an_address(cluster: &Cluster) -> (Proxy, StoreUnderTest) {
    let database = cluster.database().await.expect("a database");
    let address = Proxy::start(database.url()).await;
    let database = database.behind(address.url());
    (address, StoreUnderTest::in_database(database))
}

/// A hot standby that streams from a primary.
pub async fn standby_of(primary: &Cluster, store: &StoreUnderTest) -> Cluster {
    let url = primary.here(url_of(store));
    let standby = tokio::task::block_in_place(|| {
        primary.on_files(|data| {
            let data = data.to_str().expect("a path in UTF-8");
            let settings = [("DATABASE_URL", url.as_str()), ("PGDATA", data)];
            page().run_block_with(store, "standby", &settings);
        })
    });
    let streams = "EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming')";
    primary.until(streams).await;
    standby
}

async fn waited_for(primary: &Cluster, store: &StoreUnderTest) {
    let url = primary.here(url_of(store));
    page().run_block_with(store, "synchronous", &[("DATABASE_URL", url.as_str())]);
    let waits = "EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')";
    primary.until(waits).await;
}

fn promoted(standby: &Cluster, store: &StoreUnderTest) {
    let url = standby.here(url_of(store));
    page().run_block_with(store, "promote", &[("STANDBY_URL", url.as_str())]);
}

/// Two servers at work, and a primary that waits for its standby: it dies, the standby takes its
/// place, the servers go on by themselves, and nothing that was answered is missing. The next round
/// begins with a standby of the new primary.
async fn failed_over(cluster: Cluster) {
    let (address, store) = behind_an_address(&cluster).await;
    let servers = [Server::start(&store).await, Server::start(&store).await];
    let urls = servers
        .each_ref()
        .map(|server| server.base_url().to_owned());
    let load = Load::begin(&servers[0], 3, seed()).await;
    let mut primary = cluster;
    let rounds = rounds(1);
    for round in 0..rounds {
        let standby = standby_of(&primary, &store).await;
        waited_for(&primary, &store).await;
        let clients = load.start(&urls, CLIENTS);
        load.answers_by(&urls, 5 + load.below(20)).await;
        let ending = [Ending::Killed, Ending::Crash][round % 2];
        tokio::task::block_in_place(|| primary.stop(ending));
        promoted(&standby, &store);
        address.lead_to(&standby.here(url_of(&store)));
        load.answers_by(&urls, 10).await;
        clients.stop().await;
        for server in &servers {
            readiness(server, true).await;
        }
        load.settle(&urls[round % 2]).await;
        check(&store, &load).await;
        // It comes back, and nobody is led to it any more.
        tokio::task::block_in_place(|| primary.recover());
        primary = standby;
    }
    load.is_in_the_audit_log(&servers[0]).await;
    for mut server in servers {
        assert!(server.terminate().await.success(), "{}", server.logs());
    }
    let figures = check_all(&store, &load).await;
    is_told_who_does_not_wait(&primary, &store).await;
    tell(
        "PostgreSQL failed over to a standby",
        &store,
        rounds,
        &figures,
    );
}

/// A setting by which servers would not wait for the standby is found.
async fn is_told_who_does_not_wait(primary: &Cluster, store: &StoreUnderTest) {
    let url = primary.here(url_of(store));
    let database = url.path().trim_start_matches('/');
    let local = format!("ALTER DATABASE {database} SET synchronous_commit = local");
    let waits = "ALTER SYSTEM SET synchronous_standby_names = 'standby1'";
    primary
        .run(&[&local, waits, "SELECT pg_reload_conf()"])
        .await;
    primary
        .until("current_setting('synchronous_standby_names') <> ''")
        .await;
    let found = run(crewlog_on(store, &["doctor"])).expect(1);
    let told = "synchronous_commit = local";
    assert!(found.stdout.contains(told), "{found:#?}");
}

/// A standby that lacks what was answered is promoted: no server goes on from what it remembers, as
/// that is not in the log any more. Who starts again serves what is there.
async fn lost_entries(cluster: Cluster) {
    let (address, store) = behind_an_address(&cluster).await;
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    let standby = standby_of(&cluster, &store).await;
    let clients = load.start(&[server.base_url().to_owned()], CLIENTS);
    load.answers(10).await;
    let stop_receiving = [
        "ALTER SYSTEM SET primary_conninfo = ''",
        "SELECT pg_reload_conf()",
    ];
    standby.run(&stop_receiving).await;
    standby
        .until("NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")
        .await;
    load.answers(10).await;
    clients.stop().await;
    tokio::task::block_in_place(|| cluster.stop(Ending::Crash));
    promoted(&standby, &store);
    address.lead_to(&standby.here(url_of(&store)));
    let ended = server.ended().await;
    assert_eq!(ended.code(), Some(3), "{}", server.logs());
    let why = "the log in the store is not the one that this process has read and written";
    assert!(server.logs().contains(why), "{}", server.logs());
    let mut again = Server::start(&store).await;
    readiness(&again, true).await;
    assert!(again.terminate().await.success(), "{}", again.logs());
    run(crewlog_on(&store, &["verify"])).expect(0);
}
