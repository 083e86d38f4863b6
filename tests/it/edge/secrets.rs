//! Every secret of a long run is looked for everywhere, and found in the one answer that shows it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};

use super::routes::{Answer, Ask, ROUTES, World};
use super::team::{Person, Who, address, password, text};
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![both("edge", "secrets_are_nowhere", secrets)]
}

/// What must not be found, and what it is.
#[derive(Default)]
pub(super) struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    pub(super) fn keep(&mut self, what: &'static str, secret: &str) {
        assert!(secret.len() >= 8, "{what} is long enough to be looked for");
        if !self.0.iter().any(|(_, known)| known == secret) {
            self.0.push((what, secret.to_owned()));
        }
    }

    fn keep_of(&mut self, person: &Person) {
        self.keep("an e-mail address", &person.email);
        self.keep("a password", &person.password);
        self.keep("a session token", &person.token);
    }

    /// What is secret in a body that was sent, or in the answer that shows it once.
    fn keep_in(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match (name.as_str(), value.as_str()) {
                        ("token", Some(secret)) => self.keep("a token", secret),
                        ("secret", Some(secret)) => self.keep("a secret", secret),
                        ("password" | "current_password" | "new_password", Some(secret)) => {
                            self.keep("a password", secret);
                        }
                        ("email", Some(email)) => self.keep("an e-mail address", email),
                        _ => self.keep_in(value),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.keep_in(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The first that is in some bytes, in any case.
    fn found_in(&self, bytes: &[u8]) -> Option<&'static str> {
        let wanted: Vec<_> = self.0.iter().map(|(_, secret)| secret.as_bytes()).collect();
        first_found(bytes, &wanted).map(|which| self.0[which].0)
    }

    /// Whether none of them is in some bytes.
    pub(super) fn is_absent_in(&self, bytes: &[u8]) -> bool {
        self.found_in(bytes).is_none()
    }

    #[track_caller]
    pub(super) fn absent_in(&self, place: &str, bytes: &[u8]) {
        if let Some(what) = self.found_in(bytes) {
            panic!("{what} is in {place}");
        }
    }
}

/// Which of these is in some bytes, in any case; looked for in one pass, as stores are large.
pub(super) fn first_found(bytes: &[u8], wanted: &[&[u8]]) -> Option<usize> {
    let pair = |first: u8, second: u8| usize::from(first) << 8 | usize::from(second);
    let mut begins = vec![false; 1 << 16];
    for one in wanted {
        for first in [one[0].to_ascii_lowercase(), one[0].to_ascii_uppercase()] {
            for second in [one[1].to_ascii_lowercase(), one[1].to_ascii_uppercase()] {
                begins[pair(first, second)] = true;
            }
        }
    }
    let mut before = *bytes.first()?;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        if begins[pair(before, *byte)] {
            let rest = &bytes[at - 1..];
            let is_here = |one: &&[u8]| {
                let there = rest.get(..one.len());
                there.is_some_and(|there| there.eq_ignore_ascii_case(one))
            };
            if let Some(which) = wanted.iter().position(is_here) {
                return Some(which);
            }
        }
        before = *byte;
    }
    None
}

/// That none of it is in what a store keeps.
pub(super) async fn absent_in_store(store: &StoreUnderTest, secrets: &Secrets) {
    let key_file = store.data_dir().join("root.key");
    match store.database_url() {
        Some(url) => tables(url, secrets).await,
        None => files(store.data_dir(), &key_file, secrets),
    }
}

async fn secrets(store: StoreUnderTest) {
    let mut command = Server::command(&store);
    command.args(["--log", "trace"]);
    let operated = std::sync::Arc::new(super::operator::prepare(&store).await);
    let server = Server::launch(command).await.operated_by(operated);
    let world = World::on(server).await;
    let mut secrets = Secrets::default();
    for who in Who::ALL {
        if let Some(person) = world.team.person(who) {
            secrets.keep_of(person);
        }
    }
    let key_file = store.data_dir().join("root.key");
    let root_key = std::fs::read_to_string(&key_file).expect("the root key beside the store");
    secrets.keep("the root key", root_key.trim());
    everything_once(&world, &mut secrets).await;
    mistakes(&world, &mut secrets).await;
    assert!(
        secrets.0.len() > 60,
        "a long run has many secrets: {}",
        secrets.0.len()
    );

    answers(&world, &secrets).await;
    let logs = world.server.logs();
    assert!(
        logs.contains("TRACE") && logs.len() > 100_000,
        "the log tells everything"
    );
    secrets.absent_in("the log", logs.as_bytes());
    absent_in_store(&store, &secrets).await;
    super::held(&store);
    // What is written at the end, too.
    let World { mut server, .. } = world;
    assert!(server.terminate().await.success());
    secrets.absent_in("the log", server.logs().as_bytes());
    if store.database_url().is_none() {
        absent_in_store(&store, &secrets).await;
    }
}

/// Every write, and once more under its key.
async fn everything_once(world: &World, secrets: &mut Secrets) {
    for route in ROUTES
        .iter()
        .filter(|route| !matches!(route.answer, Answer::Server))
    {
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let ask = world.fresh(route, caller).await;
        let send = async || {
            let call = world
                .send(&ask)
                .header("Idempotency-Key", &format!("once {}", route.name()));
            match route.is_open() {
                true => call.await,
                false => call.bearer(&caller.token).await,
            }
        };
        let sent = ask.body.clone().unwrap_or_default();
        secrets.keep_in(&sent);
        let reply = send().await;
        assert!(reply.status < 300, "{}: {}", route.name(), reply.text);
        if route.writes() {
            secrets.keep_in(&reply.body);
            let again = send().await;
            let told = [
                "crew_session_",
                "crew_op_",
                "crew_invite_",
                "whsec_",
                "\"secret\":",
            ];
            assert!(
                !told.iter().any(|secret| again.text.contains(secret)),
                "a replay of {} shows no secret: {}",
                route.name(),
                again.text
            );
        }
    }
}

/// Secrets in wrong places, and in requests that are refused: no answer repeats them.
async fn mistakes(world: &World, secrets: &mut Secrets) {
    let server = &world.server;
    let owner = &world.team.owner;
    let mut refused: Vec<Reply> = Vec::new();
    for route in ROUTES.iter().filter(|route| route.writes()) {
        let (secret, email) = (password(), address("mistaken"));
        secrets.keep("a password", &secret);
        secrets.keep("an e-mail address", &email);
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let ask: Ask = world.fresh(route, caller).await;
        let with = |body: Value| world.send(&ask.saying(body)).bearer(&caller.token);
        refused.push(with(json!({secret.clone(): email})).await);
        refused.push(with(json!({"name": {"x": secret}, "email": [email], "role": secret, "plan": secret, "token": [secret], "password": {"y": secret}})).await);
        refused.push(with(json!({"current_password": secret, "new_password": secret})).await);
        refused.push(with(json!([secret, email])).await);
        let broken = ask
            .bare(server)
            .bearer(&caller.token)
            .header("content-type", "application/json");
        refused.push(
            broken
                .body(format!("{{\"password\":\"{secret}\",\"{email}"))
                .await,
        );
        let query = format!("{}?{secret}={email}&password={secret}", ask.path);
        refused.push(world.send(&ask.at(query)).bearer(&caller.token).await);
        let path = format!("{}/{secret}", ask.path);
        refused.push(world.send(&ask.at(path)).bearer(&caller.token).await);
    }
    let (secret, other) = (password(), password());
    secrets.keep("a password", &secret);
    secrets.keep("a password", &other);
    let wrong = json!({"email": owner.email, "password": secret});
    refused.push(server.post("/v1/sessions").json(wrong).await);
    let wrong = json!({"current_password": secret, "new_password": other});
    let change = server.post("/v1/me/password").bearer(&owner.token);
    refused.push(change.json(wrong).await);
    refused.push(server.get("/v1/me").bearer(&secret).await);
    refused.push(
        server
            .get("/v1/me")
            .header("Authorization", &format!("Basic {secret}"))
            .await,
    );
    refused.push(server.get(&format!("/v1/me?token={}", owner.token)).await);
    refused.push(
        server
            .get("/v1/me")
            .bearer(&owner.token)
            .header("If-Match", &secret)
            .header("Crewlog-Position", &secret)
            .await,
    );
    refused.push(server.get(&format!("/problems/{secret}")).await);
    for reply in refused {
        if reply.status < 400 {
            continue; // An optional field with another meaning there.
        }
        let own_names = reply.text.clone();
        // An unknown field is refused by its name, which the client chose.
        let named = reply.body["errors"]
            .as_array()
            .is_some_and(|errors| errors.iter().any(|error| error["code"] == "unknown_field"));
        let named = named
            || reply.body["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("unknown query parameter"));
        if !named {
            secrets.absent_in(
                &format!("{}: {own_names}", reply.request),
                reply.text.as_bytes(),
            );
        }
        for inside in [
            "SELECT ",
            "INSERT ",
            "log_head",
            "session_tokens",
            "subject_keys",
        ] {
            assert!(
                !reply.text.contains(inside),
                "{}: {}",
                reply.request,
                reply.text
            );
        }
    }
}

/// Nothing that can be read shows a secret; addresses are shown to those who may know them.
async fn answers(world: &World, secrets: &Secrets) {
    let only: Vec<_> = secrets
        .0
        .iter()
        .filter(|(what, _)| *what != "an e-mail address")
        .cloned()
        .collect();
    let only = Secrets(only);
    for route in ROUTES.iter().filter(|route| !route.writes()) {
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let ask = world.fresh(route, caller).await;
        let all = match route.is_list() {
            true => ask.at(format!("{}?limit=200", ask.path)),
            false => ask,
        };
        let reply = world.send(&all).bearer(&caller.token).await.expect(200);
        only.absent_in(&route.name(), reply.text.as_bytes());
        for (name, value) in &reply.headers {
            only.absent_in(&format!("{} of {}", name, route.name()), value.as_bytes());
        }
        if route.is_open() {
            secrets.absent_in(&route.name(), reply.text.as_bytes());
        }
    }
    // What an address is found by is not told in an entry's bytes either.
    let log = world.team.path("/audit?action=member.invited&limit=1");
    let page = world
        .server
        .get(&log)
        .bearer(&world.team.owner.token)
        .await
        .expect(200);
    let position = &page.body["data"][0]["position"];
    let entry = world
        .server
        .get(&world.team.path(&format!("/audit/{position}")))
        .bearer(&world.team.owner.token);
    let entry = entry.await.expect(200);
    secrets.absent_in(
        "the bytes of an entry",
        text(&entry.body, "/canonical").as_bytes(),
    );
}

pub(super) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

fn files(directory: &Path, key_file: &Path, secrets: &Secrets) {
    let files = files_below(directory);
    assert!(files.len() >= 2, "a database and a key: {files:?}");
    for file in files.iter().filter(|file| *file != key_file) {
        let bytes = std::fs::read(file).expect("a file of the store");
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        secrets.absent_in(&format!("the file {name}"), &bytes);
    }
}

/// Every column of every table, as text.
async fn tables(url: &str, secrets: &Secrets) {
    let mut connection = PgConnection::connect(url).await.expect("the database");
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT quote_ident(table_name) FROM information_schema.tables
          WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the tables");
    assert!(tables.len() > 10, "{tables:?}");
    for table in tables {
        // Bytes as escaped text, so that what is text in them is seen.
        let rows = sqlx::query(&format!("SELECT row_to_json(t)::text FROM {table} t"))
            .fetch_all(&mut connection)
            .await
            .expect("the rows");
        for row in rows {
            let text: String = row.get(0);
            secrets.absent_in(&format!("the table {table}"), text.as_bytes());
            let hex = text.replace("\\\\x", " ");
            for word in hex
                .split(|byte: char| !byte.is_ascii_hexdigit())
                .filter(|word| word.len() > 30)
            {
                let bytes: Vec<u8> = word
                    .as_bytes()
                    .chunks_exact(2)
                    .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                    .collect();
                secrets.absent_in(&format!("bytes of the table {table}"), &bytes);
            }
        }
    }
}
