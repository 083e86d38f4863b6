//! Replicas: servers that read from a standby of PostgreSQL, made by the commands of
//! `docs/operating.md`. What they answer is of the position that they tell, and at least of the one
//! that they are asked for; what is not for them they hand on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::edge::eventually;
use crate::edge::team::Person;
use crate::faults::failover::standby_of;
use crate::faults::outages::readiness;
use crate::support::commands::{crewlog, crewlog_on, run};
use crate::support::postgres::Cluster;
use crate::support::server::{Call, PLANS, Reply, Server, plans};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, on, with_cluster};

pub fn trials() -> Vec<Case> {
    vec![
        with_cluster("replicas", "read_from_a_standby", read_from_a_standby),
        on(
            &[StoreKind::Sqlite],
            "replicas",
            "are_of_postgresql",
            are_of_postgresql,
        ),
    ]
}

const POSITION: &str = "crewlog-position";

/// A primary with a server, a standby with a replica, and somebody with a workspace.
struct Pair {
    writer: Server,
    replica: Server,
    standby: Cluster,
    owner: Person,
    /// The path of the workspace.
    path: String,
}

/// What an answer shows: the name of the workspace, and the position that it is of.
type Seen = (u64, String);

fn position(reply: &Reply) -> u64 {
    let position = reply.header(POSITION).expect("a position");
    position.parse().expect("a number")
}

fn seen(reply: &Reply) -> Seen {
    let name = reply.body["name"].as_str().expect("a name");
    (position(reply), name.to_owned())
}

#[track_caller]
fn handed_on(reply: Reply) {
    let reply = reply.expect(503);
    assert_eq!(reply.body["code"], "read_only", "{}", reply.text);
    assert!(reply.header("retry-after").is_some());
}

impl Pair {
    async fn of(cluster: &Cluster, store: &StoreUnderTest) -> Self {
        let writer = Server::start(store).await;
        let more = json!({"organization": {"name": "Acme"}, "workspace": {"name": "name 0"}});
        let (owner, made) = Person::sign_up_with(&writer, "owner", more).await;
        let workspace = made.body["workspace"]["id"].as_str().expect("an id");
        let standby = standby_of(cluster, store).await;
        let url = standby.here(store.database_url().expect("a database"));
        let mut command = crewlog(&["serve", "--replica", "--listen", "127.0.0.1:0"]);
        command.args(["--database-url", url.as_str(), "--data"]);
        command.arg(store.data_dir()).env(PLANS, plans());
        Self {
            path: format!("/v1/workspaces/{workspace}"),
            replica: Server::launch(command).await,
            writer,
            standby,
            owner,
        }
    }

    /// Gives the workspace a name.
    async fn rename(&self, name: &str) -> Seen {
        let call = self.writer.patch(&self.path).bearer(&self.owner.token);
        seen(&call.json(json!({"name": name})).await.expect(200))
    }

    /// Asks the replica for something of the workspace's.
    fn read(&self, of_it: &str) -> Call {
        let path = format!("{}{of_it}", self.path);
        self.replica.get(&path).bearer(&self.owner.token)
    }

    fn read_at_least(&self, position: u64) -> Call {
        self.read("").header(POSITION, &position.to_string())
    }

    /// Keeps the standby from taking over anything more; or no longer.
    async fn paused(&self, is_paused: bool) {
        let statement = match is_paused {
            true => "SELECT pg_wal_replay_pause()",
            false => "SELECT pg_wal_replay_resume()",
        };
        self.standby.run(&[statement]).await;
        if is_paused {
            let paused = "pg_get_wal_replay_pause_state() = 'paused'";
            self.standby.until(paused).await;
        }
    }
}

async fn read_from_a_standby(cluster: Cluster) {
    let store = StoreUnderTest::in_database(cluster.database().await.expect("a database"));
    let mut pair = Pair::of(&cluster, &store).await;
    readiness(&pair.replica, true).await;
    is_never_older_than_it_says(&pair).await;
    waits_for_a_position(&pair).await;
    hands_on_what_it_may_not_know(&pair).await;
    hands_on_what_is_written(&pair).await;
    a_standby_takes_no_writer(&pair, &store);
    outlives_a_promotion(&cluster, &pair).await;
    for server in [&mut pair.replica, &mut pair.writer] {
        let ended = server.terminate().await;
        assert!(ended.success(), "{}", server.logs());
    }
}

/// While names are given, each answer has the name of its position.
async fn is_never_older_than_it_says(pair: &Pair) {
    let writing = async {
        let mut given = vec![];
        for number in 1..=60 {
            let name = format!("name {number}");
            given.push(pair.rename(&name).await);
            // At least as new as what was just answered, and whole.
            if number % 10 == 0 {
                let read = pair.read_at_least(position_of(&given)).await.expect(200);
                assert!(seen(&read) >= given.last().expect("one").clone());
            }
        }
        given
    };
    let reading = async {
        let mut read = vec![];
        for _ in 0..200 {
            read.push(seen(&pair.read("").await.expect(200)));
        }
        read
    };
    let (given, read) = tokio::join!(writing, reading);
    assert!(read.is_sorted_by_key(|(position, _)| *position), "{read:?}");
    for (position, name) in read {
        let before = given.iter().rev().find(|(given, _)| *given <= position);
        let expected = before.map_or("name 0", |(_, name)| name.as_str());
        assert_eq!(name, expected, "at {position}");
    }
}

fn position_of(given: &[Seen]) -> u64 {
    given.last().expect("one was given").0
}

/// It answers what it has, says so, and answers nothing older than it is asked for.
async fn waits_for_a_position(pair: &Pair) {
    let before = pair.rename("before").await;
    pair.read_at_least(before.0).await.expect(200);
    pair.paused(true).await;
    let after = pair.rename("after").await;
    assert_eq!(seen(&pair.read("").await.expect(200)), before);
    let late = pair.read_at_least(after.0).await.expect(503);
    assert_eq!(late.body["code"], "position_not_reached", "{}", late.text);
    assert!(late.header("retry-after").is_some());
    // It comes while somebody waits for it.
    let waiting = async { pair.read_at_least(after.0).await };
    let coming = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        pair.paused(false).await;
    };
    let (answer, ()) = tokio::join!(waiting, coming);
    assert_eq!(seen(&answer.expect(200)), after);
}

/// Who signed in a moment ago, what is not there yet, and what was at a moment that it has not come
/// to: a server that writes knows.
async fn hands_on_what_it_may_not_know(pair: &Pair) {
    pair.paused(true).await;
    let new = Person::sign_up(&pair.writer, "new").await;
    handed_on(pair.replica.get("/v1/me").bearer(&new.token).await);
    pair.writer
        .get("/v1/me")
        .bearer(&new.token)
        .await
        .expect(200);
    let renamed = pair.rename("meanwhile").await;
    let at = format!("?as_of={}", renamed.0);
    let late = pair.read(&at).await.expect(503);
    assert_eq!(late.body["code"], "position_not_reached", "{}", late.text);
    let audit = format!("{}/audit?limit=1", pair.path);
    let entries = pair.writer.get(&audit).bearer(&pair.owner.token);
    let entry = entries.await.expect(200).body["data"][0].clone();
    let recorded_at = entry["recorded_at"].as_str().expect("a time");
    handed_on(pair.read(&format!("?as_of={recorded_at}")).await);
    let nowhere = pair.replica.get("/v1/workspaces/ws_x");
    handed_on(nowhere.bearer(&pair.owner.token).await);
    pair.paused(false).await;
    let found = eventually("it to know who signed in", async || {
        let me = pair.replica.get("/v1/me").bearer(&new.token).await;
        (me.status == 200).then_some(me)
    });
    assert!(found.await.text.contains(&new.user));
    pair.read_at_least(renamed.0).await.expect(200);
    let then = pair
        .read(&format!("?as_of={recorded_at}"))
        .await
        .expect(200);
    assert_eq!(then.body["name"], "meanwhile");
}

/// Nothing is written through it: no command, no sign-in, and no attempt.
async fn hands_on_what_is_written(pair: &Pair) {
    let stranger = Person::sign_up(&pair.writer, "stranger").await;
    let before = pair.rename("before").await.0;
    pair.read_at_least(before).await.expect(200);
    let call = pair.replica.patch(&pair.path).bearer(&pair.owner.token);
    handed_on(call.json(json!({"name": "never"})).await);
    let Person {
        email, password, ..
    } = &pair.owner;
    let signing_in = json!({"email": email, "password": password});
    handed_on(pair.replica.post("/v1/sessions").json(signing_in).await);
    let question = json!({"key": "crew_prod_x"});
    handed_on(
        pair.replica
            .post("/v1/api-keys/verify")
            .json(question)
            .await,
    );
    handed_on(pair.replica.get(&pair.path).bearer(&stranger.token).await);
    let ready: Value = pair.writer.get("/readyz").await.body;
    assert_eq!(ready["position"], before, "nobody wrote");
    // What it can read of the log, it reads: whether the index has it yet or not.
    let entries = pair.read("/audit?limit=1").await.expect(200);
    assert_eq!(
        entries.body["data"][0]["position"], before,
        "{}",
        entries.text
    );
}

fn a_standby_takes_no_writer(pair: &Pair, store: &StoreUnderTest) {
    let url = pair.standby.here(store.database_url().expect("a database"));
    let mut command = crewlog(&["serve", "--listen", "127.0.0.1:0"]);
    command.args(["--database-url", url.as_str(), "--data"]);
    command.arg(store.data_dir());
    run(command).refused_with(&["a standby", "--replica"]);
}

/// It goes on reading from what has become a primary.
async fn outlives_a_promotion(cluster: &Cluster, pair: &Pair) {
    let last = pair.rename("last").await;
    pair.read_at_least(last.0).await.expect(200);
    tokio::task::block_in_place(|| cluster.stop(crate::support::postgres::Ending::Fast));
    pair.standby.run(&["SELECT pg_promote()"]).await;
    assert_eq!(seen(&pair.read("").await.expect(200)), last);
    readiness(&pair.replica, true).await;
    tokio::task::block_in_place(|| cluster.recover());
}

async fn are_of_postgresql(store: StoreUnderTest) {
    let ended = run(crewlog_on(&store, &["serve", "--replica"])).expect(2);
    assert!(ended.stderr.contains("PostgreSQL"), "{ended:#?}");
}
