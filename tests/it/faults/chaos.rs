//! Everything that can go wrong, at random and one thing in the midst of another, under load; after
//! each round all that must be true is looked at.
//!
//! A deck has a card of each fault that can be made on a store. It is shuffled and dealt out over
//! two rounds, then shuffled again: the short form meets every fault once, each time in another
//! order. Slow flushes and wrong clocks last until their round is over, so that the faults after
//! them are made on top. What cannot be made on a machine is said, and not dealt.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::disks::Mounted;
use super::outages::{readiness, red};
use super::{check_all, rounds, seed};
use crate::support::journal::reading;
use crate::support::ledger;
use crate::support::load::{Ask, Figures, Load, Running, Told, until};
use crate::support::postgres::{Cluster, Ending};
use crate::support::proxy::{Cut, Proxy};
use crate::support::scratch;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, on, with_cluster};

pub fn trials() -> Vec<Case> {
    vec![
        on(&[StoreKind::Sqlite], "faults", "chaos", on_a_file),
        with_cluster("faults", "chaos", on_a_cluster),
    ]
}

/// Clients of one server.
const CLIENTS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGKILL of a server.
    Killed,
    /// SIGSTOP of a server, and SIGCONT after a while.
    Stopped,
    /// The disk of the store is full for a while.
    DiskFull,
    /// PostgreSQL is stopped, fast or as by a crash, and started again.
    DatabaseRestarted,
    /// A proxy cuts connections: all, that of a commit before it, and that of a commit after it.
    ConnectionsCut,
    /// Each flush takes long.
    FlushesSlow,
    /// The servers' clock goes forward, and then back to before what they have recorded.
    ClockJumps,
}

/// PostgreSQL, and what is around it.
struct Database {
    cluster: Cluster,
    proxy: Proxy,
    /// Of an administrator, past the proxy.
    url: String,
}

/// A clock of servers that is ahead of the machine's by what a file says.
struct Clock {
    library: PathBuf,
    file: PathBuf,
    /// How far ahead the servers have written.
    ahead_s: usize,
}

/// A server, and its clients.
struct Node {
    server: Server,
    clients: Running,
}

/// What there is in a trial; each kind of fault has what it is made with here.
struct Scene {
    store: StoreUnderTest,
    load: Arc<Load>,
    nodes: Vec<Node>,
    disk: Option<Mounted>,
    database: Option<Database>,
    clock: Option<Clock>,
    /// How long a flush of SQLite takes, where it is slow.
    pace: PathBuf,
    _folder: TempDir,
    deck: Vec<Fault>,
    made: BTreeMap<Fault, usize>,
    /// The leaves of the log at the end of the round before.
    leaves: Vec<[u8; 32]>,
}

async fn on_a_file(store: StoreUnderTest) {
    // The write-ahead log alone grows to 80 MB before it is moved into the file.
    let disk = mounted(store.data_dir(), 160);
    Scene::new(store, disk, None).await.run(1).await;
}

async fn on_a_cluster(cluster: Cluster) {
    let database = cluster.database().await.expect("a database");
    let mut administrator = reqwest::Url::parse(database.url()).expect("a URL");
    let name = administrator.path().trim_start_matches('/').to_owned();
    administrator.set_path("postgres");
    let administrator = administrator.to_string();
    // Tables and indexes get a small disk of their own. That of PostgreSQL's log is another: where
    // it is full, PostgreSQL stops, and goes on when somebody has made room and starts it.
    let folder = cluster.folder("small");
    let disk = mounted(&folder, 80 + 20 * rounds(2).min(20));
    if disk.is_some() {
        let made = format!("CREATE TABLESPACE small LOCATION '{}'", folder.display());
        let moved = format!("ALTER DATABASE {name} SET TABLESPACE small");
        administer(&administrator, &[&made, &moved]).await;
    }
    let database_under_test = Database {
        proxy: Proxy::start(database.url()).await,
        cluster,
        url: administrator,
    };
    let store = StoreUnderTest::in_database(database);
    let scene = Scene::new(store, disk, Some(database_under_test)).await;
    scene.run(2).await;
}

fn mounted(at: &Path, megabytes: usize) -> Option<Mounted> {
    let mounted = Mounted::new(at, megabytes);
    mounted
        .inspect_err(|reason| println!("NOT TESTED in chaos: a full disk ({reason})"))
        .ok()
}

async fn administer(url: &str, statements: &[&str]) {
    let mut connection = PgConnection::connect(url).await.expect("the database");
    for statement in statements {
        let done = sqlx::raw_sql(statement).execute(&mut connection).await;
        done.expect(statement);
    }
}

impl Clock {
    /// # Errors
    /// With the reason why there is none.
    fn found(folder: &Path) -> Result<Self, String> {
        let multiarch = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let parents = multiarch.map(|entry| entry.path());
        let parents = parents.chain(["/usr/lib", "/usr/local/lib"].map(PathBuf::from));
        let mut libraries = parents.map(|parent| parent.join("faketime/libfaketime.so.1"));
        let library = libraries.find(|library| library.is_file());
        let clock = Self {
            library: library.ok_or("there is no libfaketime: `apt-get install faketime`")?,
            file: folder.join("clock"),
            ahead_s: 0,
        };
        clock.set(0);
        Ok(clock)
    }

    /// Has a server that is not started yet go by it.
    fn wind(&self, command: &mut std::process::Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            // Clocks that are set leave alone what is measured.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    fn set(&self, ahead_s: usize) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("+{ahead_s}s\n")).expect("a file");
        fs::rename(&new, &self.file).expect("the file to be replaced");
    }
}

impl Scene {
    async fn new(store: StoreUnderTest, disk: Option<Mounted>, database: Option<Database>) -> Self {
        let folder = scratch::directory("chaos");
        let clock = Clock::found(folder.path());
        let clock = clock
            .inspect_err(|reason| println!("NOT TESTED in chaos: clock jumps ({reason})"))
            .ok();
        let mut server = Server::start(&store).await;
        let load = Load::begin(&server, 3, seed()).await;
        load.colleague_asks.store(true, Ordering::SeqCst);
        assert!(server.terminate().await.success(), "{}", server.logs());
        Self {
            store,
            load,
            nodes: Vec::new(),
            disk,
            database,
            clock,
            pace: folder.path().join("pace"),
            _folder: folder,
            deck: Vec::new(),
            made: BTreeMap::new(),
            leaves: Vec::new(),
        }
    }

    async fn run(mut self, servers: usize) {
        let rounds = rounds(2);
        let kinds = self.kinds();
        let mut figures = Figures::default();
        for _ in 0..rounds {
            for _ in 0..servers {
                let node = self.node().await;
                self.nodes.push(node);
            }
            for _ in 0..kinds.len().div_ceil(2) {
                let fault = self.drawn();
                self.make(fault).await;
                *self.made.entry(fault).or_default() += 1;
                self.load.answers(1 + self.load.below(20)).await;
            }
            figures = self.over().await;
        }
        tell(&self, rounds, &figures);
        self.put_away();
    }

    /// A database goes before its server, which goes before its disk; a file's disk goes before
    /// the folder that it is over.
    fn put_away(self) {
        let Self {
            store,
            disk,
            database,
            ..
        } = self;
        match database {
            Some(database) => {
                drop(store);
                drop(database);
                drop(disk);
            }
            None => {
                drop(disk);
                drop(store);
            }
        }
    }

    /// The faults that can be made here.
    fn kinds(&self) -> Vec<Fault> {
        let is_database = self.database.is_some();
        [
            (Fault::Killed, true),
            (Fault::Stopped, true),
            (Fault::DiskFull, self.disk.is_some()),
            (Fault::DatabaseRestarted, is_database),
            (Fault::ConnectionsCut, is_database),
            (Fault::FlushesSlow, true),
            (Fault::ClockJumps, self.clock.is_some()),
        ]
        .into_iter()
        .filter_map(|(fault, can_be)| can_be.then_some(fault))
        .collect()
    }

    fn drawn(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck = self.kinds();
        }
        let card = self.load.below(self.deck.len());
        self.deck.swap_remove(card)
    }

    /// A server with its clients.
    async fn node(&self) -> Node {
        let through = self.database.as_ref().map(|database| database.proxy.url());
        let mut command = Server::command_at(&self.store, through);
        if let Some(clock) = &self.clock {
            clock.wind(&mut command);
        }
        let slow = format!("append_after_send:1:slow={}", self.pace.display());
        if self.database.is_none() {
            command.env("CREWLOG_FAIL_POINT", slow);
        }
        let server = Server::launch(command).await;
        let clients = self.load.start(&[server.base_url().to_owned()], CLIENTS);
        Node { server, clients }
    }

    /// Makes a fault; what passes is over afterwards.
    async fn make(&mut self, fault: Fault) {
        let one = self.load.below(self.nodes.len());
        match fault {
            Fault::Killed => self.kill(one).await,
            Fault::Stopped => self.stop(one).await,
            Fault::DiskFull => self.fill(one).await,
            Fault::DatabaseRestarted => self.restart(one).await,
            Fault::ConnectionsCut => self.cut().await,
            Fault::FlushesSlow => self.slow_down().await,
            Fault::ClockJumps => self.jump(one).await,
        }
    }

    async fn kill(&mut self, one: usize) {
        let mut node = self.nodes.swap_remove(one);
        node.server.kill().await;
        node.clients.stop().await;
        let next = self.node().await;
        self.nodes.push(next);
    }

    async fn stop(&self, one: usize) {
        let server = &self.nodes[one].server;
        server.signal(Signal::SIGSTOP);
        until("it to stop", Duration::from_secs(10), || {
            server.is_stopped()
        })
        .await;
        match self.nodes.len() {
            // Whatever it holds, the others write.
            2.. => self.load.answers(10).await,
            _ => tokio::time::sleep(Duration::from_millis(100 + self.load.below(400) as u64)).await,
        }
        server.signal(Signal::SIGCONT);
        let url = server.base_url().to_owned();
        self.load.answers_by(&[url], 3).await;
    }

    async fn fill(&self, one: usize) {
        let disk = self.disk.as_ref().expect("a disk that can be filled");
        disk.fill();
        red(&self.nodes[one].server, "its disk is full").await;
        disk.empty();
    }

    async fn restart(&self, one: usize) {
        let database = self.database.as_ref().expect("a database");
        let ending = [Ending::Fast, Ending::Crash][self.load.below(2)];
        tokio::task::block_in_place(|| database.cluster.stop(ending));
        red(&self.nodes[one].server, "the store cannot be reached").await;
        tokio::task::block_in_place(|| database.cluster.recover());
    }

    async fn cut(&self) {
        let proxy = &self.database.as_ref().expect("a database").proxy;
        let first = self.load.below(3);
        for kind in 0..3 {
            match (first + kind) % 3 {
                0 => proxy.cut_all(),
                1 => proxy.cut_next_commit(Cut::Before),
                _ => proxy.cut_next_commit(Cut::After),
            }
            self.load.answers(8).await;
        }
    }

    async fn slow_down(&self) {
        let wait_ms = 20 + self.load.below(80);
        match &self.database {
            None => fs::write(&self.pace, wait_ms.to_string()).expect("a file"),
            // PostgreSQL itself waits before each flush of its log.
            Some(database) => {
                let delay = format!("ALTER SYSTEM SET commit_delay = {}", wait_ms * 1_000);
                let always = "ALTER SYSTEM SET commit_siblings = 0";
                let heard = "SELECT pg_reload_conf()";
                administer(&database.url, &[&delay, always, heard]).await;
            }
        }
    }

    /// One that has written in the future finds itself, with all others, in the past.
    async fn jump(&mut self, one: usize) {
        let clock = self.clock.as_mut().expect("a clock that can be set");
        let (was_s, jump_s) = (clock.ahead_s, 10 + self.load.below(110));
        clock.ahead_s += jump_s;
        clock.set(clock.ahead_s);
        let server = &self.nodes[one].server;
        let rename = self.load.add(0, Ask::Rename).number;
        while self.load.send(server.base_url(), rename).await != Told::Answered {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        clock.set(was_s);
        for node in &self.nodes {
            red(&node.server, "this machine's clock is").await;
        }
    }

    /// Ends what lasts, has everything answered, and looks at everything.
    async fn over(&mut self) -> Figures {
        self.set_right().await;
        let mut servers = Vec::new();
        for node in self.nodes.drain(..) {
            node.clients.stop().await;
            readiness(&node.server, true).await;
            servers.push(node.server);
        }
        let one = self.load.below(servers.len());
        self.load.settle(servers[one].base_url()).await;
        for server in &mut servers {
            self.load.is_what_is_read(server).await;
            self.load.is_in_the_audit_log(server).await;
            readiness(server, true).await;
            assert!(server.terminate().await.success(), "{}", server.logs());
            let logs = server.logs();
            for secret in self.load.secrets() {
                assert!(!logs.contains(secret), "a secret in {logs}");
            }
        }
        assert_eq!(self.load.unanswered(), [] as [usize; 0]);
        self.only_grew().await;
        check_all(&self.store, &self.load).await
    }

    /// Flushes and clocks are as they should be. Clocks stay ahead: what was written stays so.
    async fn set_right(&self) {
        if let Some(clock) = &self.clock {
            clock.set(clock.ahead_s);
        }
        match &self.database {
            None => drop(fs::remove_file(&self.pace)),
            Some(database) => {
                let reset = ["commit_delay", "commit_siblings"];
                let reset = reset.map(|name| format!("ALTER SYSTEM RESET {name}"));
                let heard = "SELECT pg_reload_conf()";
                administer(&database.url, &[&reset[0], &reset[1], heard]).await;
            }
        }
    }

    /// What was in the log is in it, and no secret is.
    async fn only_grew(&mut self) {
        let reading = reading(&self.store).await;
        let events = ledger::read(&*reading).await;
        reading.close().await;
        for event in &events {
            for secret in self.load.secrets() {
                let is_told = event.payload.contains(secret) || event.metadata.contains(secret);
                assert!(!is_told, "a secret at {}", event.position);
            }
        }
        let leaves: Vec<_> = events.iter().map(|event| event.leaf).collect();
        assert!(leaves.starts_with(&self.leaves), "the log was rewritten");
        self.leaves = leaves;
    }
}

/// A row of the table in `docs/reliability.md`.
fn tell(scene: &Scene, rounds: usize, figures: &Figures) {
    let made = scene.made.iter().map(|(fault, times)| {
        let words = match fault {
            Fault::Killed => "killed",
            Fault::Stopped => "stopped",
            Fault::DiskFull => "disk full",
            Fault::DatabaseRestarted => "database restarted",
            Fault::ConnectionsCut => "connections cut",
            Fault::FlushesSlow => "flushes slow",
            Fault::ClockJumps => "clock jumped",
        };
        format!("{words} {times}")
    });
    let made = made.collect::<Vec<_>>().join(", ");
    let Figures {
        commands,
        attempts,
        done,
        refused,
        entries,
        found,
        slowest,
    } = figures;
    println!(
        "| {:?} | {rounds} | {made} | {commands} | {attempts} | {done} | {refused} | {found} | \
         {entries} | 0 | 0 | {:.1} s |",
        scene.store.kind(),
        slowest.as_secs_f64()
    );
}
