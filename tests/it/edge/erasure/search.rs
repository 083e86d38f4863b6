//! Who is erased is looked for everywhere: in every answer, in every line of a log that tells all,
//! and in every byte of the store's files.
//!
//! Somebody does all that leaves something personal behind, and much is asked that shows it. Then
//! they erase their account, their organizations keep nothing for longer than they must, the store
//! is compacted as `docs/operating.md` says, and their names and addresses, what they came from
//! and with, and the wrapped keys that would open them are nowhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::{RETENTION_DAYS, erase, hold, is_erased};
use crate::edge::eventually;
use crate::edge::reviews::opened;
use crate::edge::secrets::{Secrets, files_below, first_found};
use crate::edge::team::{
    Person, Team, accept, address, grant, invite, invited, number, password, text,
};
use crate::support::commands::{crewlog_on, run};
use crate::support::journal::reading;
use crate::support::postgres::{Cluster, Ending};
use crate::support::server::{Call, Server};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, on, with_cluster};

pub fn trials() -> Vec<Case> {
    let name = "an_erased_account_is_found_nowhere";
    vec![
        on(&[StoreKind::Sqlite], "erasure", name, in_a_file),
        with_cluster("erasure", name, in_a_cluster),
    ]
}

/// What nobody else comes with, or from.
const AGENT: &str = "erasure-trial-agent/7.3 (nobody-else-sends-this)";
const ADDRESS: &str = "203.0.113.77";

async fn in_a_file(store: StoreUnderTest) {
    let (secrets, keys) = goes_without_a_trace(&store).await;
    let file = store.data_dir().join("crewlog.sqlite");
    let connection = rusqlite::Connection::open(file).expect("the file");
    // As operating.md says.
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
        .expect("the file to be compacted");
    drop(connection);
    let root_key = store.data_dir().join("root.key");
    look_through(store.data_dir(), &secrets, |path| *path != root_key);
    looks_for_keys(store.data_dir(), &keys, |path| *path != root_key);
    crate::edge::held(&store);
}

async fn in_a_cluster(cluster: Cluster) {
    let database = cluster.database().await.expect("a database");
    let store = StoreUnderTest::in_database(database);
    let (secrets, keys) = goes_without_a_trace(&store).await;
    let url = store.database_url().expect("a database");
    let mut connection = PgConnection::connect(url).await.expect("the database");
    // What a session may still see is kept.
    eventually("everybody else has left", async || {
        let others = "SELECT COUNT(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let count = sqlx::query_scalar::<_, i64>(others).fetch_one(&mut connection);
        (count.await.expect("a count") == 0).then_some(())
    })
    .await;
    for statement in ["VACUUM FULL", "CHECKPOINT"] {
        let done = sqlx::raw_sql(statement).execute(&mut connection).await;
        done.expect("the database to be compacted");
    }
    let tables = "SELECT relname || ' is in ' || relfilenode FROM pg_class
                   WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    let tables = sqlx::query_scalar::<_, String>(tables).fetch_all(&mut connection);
    println!("{:?}", tables.await.expect("the tables"));
    connection.close().await.expect("to leave");
    cluster.stop(Ending::Fast);
    let everything = cluster.data();
    let everything = everything.parent().expect("the cluster's directory");
    look_through(everything, &secrets, |_| true);
    // Its write-ahead log has what was written for as long as its segments live: see operating.md.
    let is_log = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "pg_wal");
    looks_for_keys(everything, &keys, |path| !is_log(path));
    cluster.recover();
    crate::edge::held(&store);
}

/// Has somebody come, do everything, and erase their account; answers with what of them must not be
/// found, and the wrapped keys that were destroyed.
async fn goes_without_a_trace(store: &StoreUnderTest) -> (Secrets, Vec<Vec<u8>>) {
    let mut command = Server::command(store);
    command.env(RETENTION_DAYS, "0");
    command.args(["--log", "trace", "--trusted-proxy", "127.0.0.1/32"]);
    let mut server = Server::launch(command).await;
    let team = Team::make(&server).await;
    let [elsewhere, nowhere] = [Team::make(&server).await, Team::make(&server).await];
    let someone = Someone::comes(&server, &team).await;
    let review = someone
        .does_everything(&server, [&team, &elsewhere, &nowhere])
        .await;
    let asked = Asked {
        server: &server,
        teams: [&team, &elsewhere, &nowhere],
        review: &review,
        someone: &someone,
    };
    let before = asked.everything().await;
    for (what, value) in &someone.traces {
        assert!(
            before.contains(value.as_str()),
            "{what}, {value}, is told before"
        );
    }
    let position = position_of(&server, &team).await;
    let keys = wrapped_keys(store).await;

    let person = &someone.person;
    someone
        .sends(erase(&server, person, &person.password))
        .await
        .expect(204);
    for known_to in [&team, &elsewhere, &nowhere] {
        eventually("the organization erases its copy", async || {
            let erased = is_erased(&server, known_to, &person.user).await;
            erased.then_some(())
        })
        .await;
    }
    let mut secrets = Secrets::default();
    for (what, value) in &someone.traces {
        secrets.keep(what, value);
    }
    let after = eventually("the process forgets the keys", async || {
        let after = asked.everything().await;
        secrets.is_absent_in(after.as_bytes()).then_some(after)
    })
    .await;
    assert!(after.contains("\"erased\""), "what is gone is told so");
    secrets.absent_in("the past", asked.as_of(&position).await.as_bytes());
    secrets.absent_in(
        "a repeated answer",
        someone.asks_again(&server).await.as_bytes(),
    );
    for team in [&team, &elsewhere, &nowhere] {
        for printed in by_command(store, team) {
            secrets.absent_in("what a command prints", printed.as_bytes());
        }
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    let logs = server.logs();
    let told = (logs.contains("TRACE"), logs.len());
    assert!(told.0 && told.1 > 50_000, "it tells all: {told:?}");
    // However it is written there.
    for (what, value) in &someone.traces {
        let encoded = BASE64_STANDARD_NO_PAD.encode(value);
        // The last group depends on what follows.
        secrets.keep(what, &encoded[..encoded.len() - 4]);
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        secrets.keep(what, &hex);
    }
    secrets.keep("the password", &person.password);
    secrets.absent_in("the log", logs.as_bytes());
    let left: BTreeSet<_> = wrapped_keys(store).await.into_iter().collect();
    let destroyed: Vec<_> = keys.into_iter().filter(|key| !left.contains(key)).collect();
    assert_eq!(
        destroyed.len(),
        4,
        "of the account, and of each organization"
    );
    (secrets, destroyed)
}

/// Who is looked for.
struct Someone {
    person: Person,
    /// What they were called, found by, came from and with.
    traces: Vec<(&'static str, String)>,
    /// What they signed up with.
    sign_up: Value,
}

impl Someone {
    async fn comes(server: &Server, team: &Team) -> Self {
        let name = format!("Erasmus Gonefrom{}", number());
        let (email, password) = (address("first-of-erased"), password());
        let sign_up = json!({"email": email, "password": password, "name": name});
        let mut someone = Self {
            person: Person {
                name,
                email,
                password,
                user: String::new(),
                session: String::new(),
                token: String::new(),
                later: String::new(),
            },
            traces: vec![
                ("a user agent", AGENT.to_owned()),
                ("a client's address", ADDRESS.to_owned()),
            ],
            sign_up,
        };
        let made = someone.signs_up(server).await.expect(201);
        let person = &mut someone.person;
        person.user = text(&made.body, "/user/id");
        person.session = text(&made.body, "/session/id");
        person.token = text(&made.body, "/session/token");
        person.later = text(&made.body, "/session/expires_at");
        let token = invited(server, &team.workspace, &team.owner, &person.email, "admin").await;
        someone
            .sends(accept(server, &someone.person, &token))
            .await
            .expect(200);
        someone.is_called_otherwise(server, team).await;
        someone
    }

    fn sends(&self, call: Call) -> Call {
        let call = call.header("User-Agent", AGENT);
        call.header("X-Forwarded-For", ADDRESS)
    }

    fn signs_up(&self, server: &Server) -> Call {
        let call = server.post("/v1/signup").json(&self.sign_up);
        self.sends(call.header("Idempotency-Key", "their sign-up"))
    }

    /// Another name, another address, another password.
    async fn is_called_otherwise(&mut self, server: &Server, team: &Team) {
        let (old, new) = (self.person.password.clone(), password());
        let before = self.person.clone();
        self.person.name = format!("Dr Erika Goneto{}", number());
        self.person.email = address("second-of-erased");
        self.person.password = new.clone();
        let Person { name, email, .. } = &self.person;
        let change = json!({"name": name, "email": email, "password": old});
        let call = server.patch("/v1/me").bearer(&self.person.token);
        self.sends(call.json(change)).await.expect(200);
        let change = json!({"current_password": old, "new_password": new});
        let call = server.post("/v1/me/password").bearer(&self.person.token);
        self.sends(call.json(change)).await.expect(204);
        let wrong = json!({"email": email, "password": password()});
        let refused = self.sends(server.post("/v1/sessions").json(wrong)).await;
        assert_eq!(refused.status, 401);
        eventually("the organization is told", async || {
            let members = server.get(&team.path("/members?limit=200"));
            let members = members.bearer(&team.owner.token).await.expect(200);
            members.text.contains(email.as_str()).then_some(())
        })
        .await;
        for person in [&before, &self.person] {
            self.traces.push(("a name", person.name.clone()));
            self.traces
                .push(("an e-mail address", person.email.clone()));
        }
    }

    /// All that leaves something personal: in an organization that they are in, in one that knows
    /// them, and in one where their address alone was invited. Answers with the path of a review.
    async fn does_everything(&self, server: &Server, teams: [&Team; 3]) -> String {
        let ([team, elsewhere, nowhere], person) = (teams, &self.person);
        let crew =
            json!({"name": format!("Client {} - staging", number()), "environment": "staging"});
        let crews = server.post(&team.path("/crews")).bearer(&person.token);
        self.sends(crews.json(crew)).await.expect(201);
        let refused = self.sends(hold(server, team, reqwest::Method::PUT, person));
        assert_eq!(refused.await.status, 403, "an attempt that is kept");
        let key = json!({"name": "Theirs", "environment": "staging", "scopes": ["crews:read"]});
        let keys = server.post(&team.path("/api-keys")).bearer(&person.token);
        self.sends(keys.json(key)).await.expect(201);
        let guest = json!({"email": address("guest"), "role": "viewer"});
        let guests = server
            .post(&team.path("/invitations"))
            .bearer(&person.token);
        self.sends(guests.json(guest)).await.expect(201);
        let (organization, boss) = (&team.organization, &team.organization_owner);
        let role = format!("/v1/organizations/{organization}/members/{}", person.user);
        let role = server.put(&role).bearer(&boss.token);
        role.json(json!({"role": "auditor"})).await.expect(200);
        let log = format!("/v1/organizations/{organization}/audit/export?format=jsonl");
        let log = server.get(&log).bearer(&person.token);
        self.sends(log).await.expect(200);
        let granted = grant(server, &elsewhere.workspace, &elsewhere.owner, person);
        granted.await.expect(201);
        let log = elsewhere.path("/audit/export?format=csv");
        let log = server.get(&log).bearer(&person.token);
        self.sends(log).await.expect(200);
        let asked = invite(
            server,
            &nowhere.workspace,
            &nowhere.owner,
            &person.email,
            "viewer",
        );
        asked.await.expect(201);
        let reviewers = json!({"reviewers": [team.owner.user, person.user]});
        let review = opened(server, team, reviewers).await;
        let decisions = |item: &str| json!({"decisions": [{"item": item, "decision": "keep", "reason": "as before"}]});
        let path = format!("{review}/decisions");
        let own = server.post(&path).bearer(&person.token);
        let own = own.json(decisions(&team.viewer.user));
        self.sends(own).await.expect(200);
        let of_them = server.post(&path).bearer(&team.owner.token);
        let of_them = of_them.json(decisions(&person.user));
        of_them.await.expect(200);
        let close = server.post(&format!("{review}/close"));
        close.bearer(&team.owner.token).await.expect(200);
        review
    }

    /// Their sign-up once more, under its key.
    async fn asks_again(&self, server: &Server) -> String {
        let again = self.signs_up(server).await.expect(201);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        again.text
    }
}

async fn position_of(server: &Server, team: &Team) -> String {
    let members = server.get(&team.path("/members")).bearer(&team.owner.token);
    let members = members.await.expect(200);
    members
        .header("crewlog-position")
        .expect("a position")
        .to_owned()
}

/// What is asked by those who stay.
struct Asked<'a> {
    server: &'a Server,
    teams: [&'a Team; 3],
    review: &'a str,
    someone: &'a Someone,
}

impl Asked<'_> {
    async fn get(&self, path: &str, by: &Person) -> String {
        let reply = self.server.get(path).bearer(&by.token).await;
        assert!([200, 404].contains(&reply.status), "{path}: {}", reply.text);
        reply.text
    }

    /// Every answer that tells of people.
    async fn everything(&self) -> String {
        let mut answers = String::new();
        for team in self.teams {
            for path in self.paths_in(team) {
                answers.push_str(&self.get(&path, &team.owner).await);
            }
            for path in self.paths_over(team) {
                answers.push_str(&self.get(&path, &team.organization_owner).await);
            }
            answers.push_str(&self.each_entry(team).await);
        }
        for form in [
            "",
            "/report?format=json",
            "/report?format=csv",
            "/report?format=html",
        ] {
            let path = format!("{}{form}", self.review);
            answers.push_str(&self.get(&path, &self.teams[0].owner).await);
        }
        // Their own, for as long as they are.
        for path in ["/v1/me", "/v1/sessions"] {
            let own = self.server.get(path).bearer(&self.someone.person.token);
            answers.push_str(&own.await.text);
        }
        answers
    }

    fn paths_in(&self, team: &Team) -> Vec<String> {
        let person = &self.someone.person;
        let word = person.name.rsplit(' ').next().expect("a word");
        let member = format!("/members/{}", person.user);
        let (by_name, by_address) = (
            format!("/audit?q={word}"),
            format!("/audit?q={}", person.email),
        );
        let paths = [
            "/members?limit=200",
            &member,
            "/invitations?limit=200",
            "/auditors?limit=200",
            "/api-keys?limit=200",
            "/crews?limit=200",
            "/audit?limit=200",
            &by_name,
            &by_address,
            "/audit/export?format=jsonl",
            "/audit/export?format=csv",
            "/audit/export?format=ocsf",
            "/access",
            "/access/diff?from=1",
            "/access-reviews?limit=200",
        ];
        paths.iter().map(|path| team.path(path)).collect()
    }

    fn paths_over(&self, team: &Team) -> Vec<String> {
        let paths = [
            "/members?limit=200",
            "/audit?limit=200",
            "/audit/export?format=jsonl",
            "/audit/export?format=csv",
        ];
        let path = |path| format!("/v1/organizations/{}{path}", team.organization);
        paths.into_iter().map(path).collect()
    }

    /// The entries that they have made, one by one, with their bytes.
    async fn each_entry(&self, team: &Team) -> String {
        let user = &self.someone.person.user;
        let log = team.path(&format!("/audit?limit=200&actor={user}"));
        let page = self.server.get(&log).bearer(&team.owner.token);
        let page = page.await.expect(200);
        let mut answers = page.text.clone();
        for entry in page.body["data"].as_array().expect("a list") {
            let one = team.path(&format!("/audit/{}", entry["position"]));
            answers.push_str(&self.get(&one, &team.owner).await);
        }
        answers
    }

    /// What was so at a position.
    async fn as_of(&self, position: &str) -> String {
        let mut answers = String::new();
        for team in self.teams {
            for path in ["/members", "/invitations", "/auditors", "/access"] {
                let path = team.path(&format!("{path}?as_of={position}"));
                answers.push_str(&self.get(&path, &team.owner).await);
            }
            let organization = &team.organization;
            let path = format!("/v1/organizations/{organization}/members?as_of={position}");
            answers.push_str(&self.get(&path, &team.organization_owner).await);
        }
        answers
    }
}

/// What whoever has the root key prints.
fn by_command(store: &StoreUnderTest, team: &Team) -> Vec<String> {
    let of = ["--workspace", &team.workspace];
    let exports = ["jsonl", "csv", "ocsf"].map(|format| {
        let arguments = ["audit", "export", of[0], of[1], "--format", format];
        run(crewlog_on(store, &arguments)).expect(0).stdout
    });
    let access = ["audit", "access", of[0], of[1]];
    let access = run(crewlog_on(store, &access)).expect(0).stdout;
    exports.into_iter().chain([access]).collect()
}

async fn wrapped_keys(store: &StoreUnderTest) -> Vec<Vec<u8>> {
    let reading = reading(store).await;
    let sql = "SELECT wrapped FROM subject_keys";
    let rows = reading.query(sql, vec![]).await.expect("the keys");
    reading.close().await;
    let key = |row: &crewlog::journal::stores::Row| row.bytes(0).expect("a key").to_vec();
    rows.iter().map(key).collect()
}

fn look_through(directory: &Path, secrets: &Secrets, which: impl Fn(&PathBuf) -> bool) {
    let files = files_below(directory);
    assert!(files.len() >= 2, "a store: {files:?}");
    for file in files.iter().filter(|file| which(file)) {
        let bytes = std::fs::read(file).expect("a file of the store");
        secrets.absent_in(&format!("the file {}", file.display()), &bytes);
    }
}

fn looks_for_keys(directory: &Path, keys: &[Vec<u8>], which: impl Fn(&PathBuf) -> bool) {
    let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
    for file in files_below(directory).iter().filter(|file| which(file)) {
        let bytes = std::fs::read(file).expect("a file of the store");
        let found = first_found(&bytes, &keys);
        assert_eq!(found, None, "a destroyed key is in {}", file.display());
    }
}
