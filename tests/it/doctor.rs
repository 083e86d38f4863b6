//! `crewlog doctor`: each thing is made wrong, and found; where nothing is, nothing is found.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crewlog::domain::workspace::{Workspace, WorkspaceCommand};
use crewlog::projections::audit_index;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::commands::{crewlog, crewlog_on, run};
use crate::support::journal::{Fixture, ROOT_KEY, commands, name};
use crate::support::pages::Page;
use crate::support::postgres::Cluster;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, on, once, with_cluster};

pub fn trials() -> Vec<Case> {
    vec![
        both("doctor", "a_sound_store_is_sound", sound),
        with_cluster("doctor", "settings_that_lose_commits", settings),
        once("doctor", "a_database_that_is_away", away),
        on(
            &[StoreKind::Sqlite],
            "doctor",
            "files_that_are_none",
            no_store,
        ),
        both("doctor", "files_that_others_read", modes),
        both("doctor", "a_disk_that_is_nearly_full", disk),
        both("doctor", "root_keys", root_keys),
        both("doctor", "clocks", clocks),
        both("doctor", "what_is_missing_of_the_schema", schema),
        both("doctor", "schemas_of_other_versions", versions),
        both(
            "doctor",
            "projections_that_are_not_as_they_should",
            projections,
        ),
        both("doctor", "an_index_that_is_behind", behind),
        both("doctor", "what_was_left_half_done", unfinished),
    ]
}

/// The findings of the settings that the tests' own PostgreSQL is made fast with.
const FAST: [&str; 3] = ["weak_durability"; 3];

/// A store that a server has made, and that nobody serves.
async fn made(store: &StoreUnderTest) -> Server {
    fs::set_permissions(store.data_dir(), Permissions::from_mode(0o700)).expect("a mode");
    let mut command = Server::command(store);
    command.arg("--demo");
    let mut server = Server::launch(command).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    server
}

/// What the doctor says of a store, and whether its status is right.
#[track_caller]
fn findings(store: &StoreUnderTest, arguments: &[&str]) -> Vec<Value> {
    let ended = run(crewlog_on(
        store,
        &[&["doctor", "--json"], arguments].concat(),
    ));
    let found = ended.json()["findings"].as_array().expect("a list").clone();
    ended.expect(i32::from(!found.is_empty()));
    let page = include_str!("../../docs/operating.md");
    for finding in &found {
        let code = finding["code"].as_str().expect("a code");
        assert!(page.contains(&format!("`{code}`")), "the page has {code}");
        for part in ["code", "what", "what_to_do"] {
            let said = finding[part].as_str();
            assert!(said.is_some_and(|said| !said.is_empty()), "{finding}");
        }
    }
    found
}

/// The codes of the findings, without those of the tests' own PostgreSQL.
#[track_caller]
fn codes(store: &StoreUnderTest, arguments: &[&str]) -> Vec<String> {
    let found = findings(store, arguments);
    let codes = found.iter().filter_map(|finding| finding["code"].as_str());
    codes
        .filter(|code| !FAST.contains(code))
        .map(str::to_owned)
        .collect()
}

/// Makes something wrong, sees it found, and mends it.
async fn wrong(store: &StoreUnderTest, server: &Server, wrong: &str, code: &str, right: &str) {
    assert_eq!(codes(store, &[]), [] as [&str; 0], "before {wrong}");
    server.behind_its_back(&[wrong.to_owned()]).await;
    assert_eq!(codes(store, &[]), [code], "{wrong}");
    server.behind_its_back(&[right.to_owned()]).await;
    assert_eq!(codes(store, &[]), [] as [&str; 0], "after {right}");
}

async fn sound(store: StoreUnderTest) {
    made(&store).await;
    let found = findings(&store, &[]);
    match store.kind() {
        StoreKind::Sqlite => {
            assert_eq!(found, [] as [Value; 0]);
            let told = run(crewlog_on(&store, &["doctor"])).expect(0).stdout;
            assert_eq!(told, "nothing found\n");
            let page = Page::read("docs/operating.md");
            assert_eq!(page.run_block(&store, "doctor", None).stdout, told);
        }
        StoreKind::Postgres => {
            let told: Vec<_> = found.iter().map(|finding| &finding["what"]).collect();
            assert_eq!(told.len(), 3, "{told:?}");
            for (told, name) in told
                .iter()
                .zip(["fsync", "full_page_writes", "synchronous_commit"])
            {
                assert!(told.as_str().expect("words").contains(name), "{told}");
            }
        }
    }
    // Beside a server as well.
    let mut server = Server::start(&store).await;
    assert_eq!(codes(&store, &[]), [] as [&str; 0]);
    assert!(server.terminate().await.success(), "{}", server.logs());
}

async fn settings(cluster: Cluster) {
    let database = cluster.database().await.expect("a database");
    let store = StoreUnderTest::in_database(database);
    let server = made(&store).await;
    assert_eq!(findings(&store, &[]), [] as [Value; 0]);
    let url = store.database_url().expect("a database");
    let name = url::Url::parse(url).expect("a URL");
    let name = name.path().trim_start_matches('/');
    for (setting, change) in [
        (
            "synchronous_commit",
            format!("ALTER DATABASE \"{name}\" SET synchronous_commit = off"),
        ),
        ("fsync", "ALTER SYSTEM SET fsync = off".to_owned()),
        (
            "full_page_writes",
            "ALTER SYSTEM SET full_page_writes = off".to_owned(),
        ),
    ] {
        server.behind_its_back(std::slice::from_ref(&change)).await;
        server
            .behind_its_back(&["SELECT pg_reload_conf()".to_owned()])
            .await;
        let mut found = Vec::new();
        for _ in 0..100 {
            found = findings(&store, &[]);
            if !found.is_empty() {
                break;
            }
        }
        assert_eq!(found.len(), 1, "{change}: {found:?}");
        assert_eq!(found[0]["code"], "weak_durability");
        let told = format!("{}{}", found[0]["what"], found[0]["what_to_do"]);
        assert!(told.contains(&format!("{setting} = off")), "{told}");
        let back = match setting {
            "synchronous_commit" => format!("ALTER DATABASE \"{name}\" RESET {setting}"),
            _ => format!("ALTER SYSTEM RESET {setting}"),
        };
        server.behind_its_back(&[back]).await;
        server
            .behind_its_back(&["SELECT pg_reload_conf()".to_owned()])
            .await;
        for _ in 0..100 {
            if findings(&store, &[]).is_empty() {
                break;
            }
        }
        assert_eq!(findings(&store, &[]), [] as [Value; 0], "{setting}");
    }
}

async fn away(directory: TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("the port").port();
    drop(listener);
    let url = format!("postgres://user:secret@127.0.0.1:{port}/crewlog");
    let folder = directory.path().to_string_lossy();
    let ended = run(crewlog(&[
        "doctor",
        "--database-url",
        &url,
        "--data",
        &folder,
    ]))
    .expect(1);
    assert!(
        ended.stdout.contains("store_unreachable") && ended.stdout.contains("what to do"),
        "{ended:?}"
    );
    assert!(!ended.stdout.contains("secret"), "{ended:?}");
}

async fn no_store(store: StoreUnderTest) {
    set_mode(store.data_dir(), 0o700);
    assert_eq!(codes(&store, &[]), ["no_store"]);
    let file = store.data_dir().join("crewlog.sqlite");
    fs::create_dir(&file).expect("a folder in the place of the file");
    assert_eq!(codes(&store, &[]), ["store_unreachable"]);
    fs::remove_dir(&file).expect("the folder to go");
    fs::write(
        &file,
        "not a database at all, and longer than a header of one",
    )
    .expect("a file");
    assert_eq!(codes(&store, &[]), ["store_damaged"]);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

async fn modes(store: StoreUnderTest) {
    made(&store).await;
    let key = store.data_dir().join("root.key");
    set_mode(&key, 0o640);
    let found = findings(&store, &[]);
    let of_key = found.iter().find(|finding| finding["code"] == "file_modes");
    let of_key = of_key.expect("the mode of the key");
    let what_to_do = of_key["what_to_do"].as_str().expect("words");
    assert!(what_to_do.starts_with("run `chmod 600 "), "{of_key}");
    set_mode(&key, 0o600);
    set_mode(store.data_dir(), 0o777);
    assert!(codes(&store, &[]).contains(&"file_modes".to_owned()));
    if store.kind() == StoreKind::Sqlite {
        let file = store.data_dir().join("crewlog.sqlite");
        for (folder, mode, expected) in [
            (0o700, 0o644, false),
            (0o755, 0o640, false),
            (0o755, 0o644, true),
        ] {
            for name in ["crewlog.sqlite", "writer.lock"] {
                set_mode(&store.data_dir().join(name), 0o600);
            }
            set_mode(store.data_dir(), folder);
            set_mode(&file, mode);
            let found = findings(&store, &[]);
            let is_found = found.iter().any(|finding| {
                let what = finding["what"].as_str().expect("words");
                finding["code"] == "file_modes" && what.contains("crewlog.sqlite can be read")
            });
            assert_eq!(is_found, expected, "{folder:o} {mode:o}: {found:?}");
        }
    }
}

async fn disk(store: StoreUnderTest) {
    made(&store).await;
    assert_eq!(codes(&store, &["--disk-free", "0"]), [] as [&str; 0]);
    // No disk has all of it left.
    assert_eq!(codes(&store, &["--disk-free", "100"]), ["disk_nearly_full"]);
}

async fn root_keys(store: StoreUnderTest) {
    made(&store).await;
    let key = store.data_dir().join("root.key");
    let right = fs::read_to_string(&key).expect("the key");
    fs::remove_file(&key).expect("the key to go");
    assert_eq!(codes(&store, &[]), ["root_key_missing"]);
    for (text, code) in [
        (
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "root_key_wrong",
        ),
        ("hunter2", "root_key_unusable"),
    ] {
        let mut command = crewlog_on(&store, &["doctor", "--json"]);
        command.env("CREWLOG_ROOT_KEY", text);
        let ended = run(command).expect(1);
        assert!(ended.stdout.contains(code), "{ended:?}");
        assert!(!ended.stdout.contains(text), "{ended:?}");
    }
    fs::write(&key, right).expect("the key");
    set_mode(&key, 0o600);
    assert_eq!(codes(&store, &[]), [] as [&str; 0]);
}

async fn clocks(store: StoreUnderTest) {
    let mut server = made(&store).await;
    let later = "UPDATE log_head SET recorded_at = recorded_at + 3600000000";
    server.behind_its_back(&[later.to_owned()]).await;
    assert_eq!(codes(&store, &[]), ["clock_behind"]);
    // What is written meanwhile is written in steps of a microsecond.
    server = Server::start(&store).await;
    for number in 0..5 {
        let body = json!({
            "email": format!("somebody{number}@example.com"),
            "password": "a long enough password",
            "name": "Somebody",
        });
        server.post("/v1/signup").json(body).await.expect(201);
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    assert_eq!(codes(&store, &[]), ["clock_behind", "clock_went_back"]);
    // The clock was set right.
    let earlier = "UPDATE log_head SET recorded_at = recorded_at - 3600000000";
    server.behind_its_back(&[earlier.to_owned()]).await;
    assert_eq!(codes(&store, &[]), ["clock_went_back"]);
}

async fn schema(store: StoreUnderTest) {
    let server = made(&store).await;
    wrong(
        &store,
        &server,
        "DROP INDEX subjects_by_user",
        "missing_index",
        "CREATE INDEX subjects_by_user ON subjects (user_id, realm)",
    )
    .await;
    let (off, back) = match store.kind() {
        StoreKind::Sqlite => (
            "DROP TRIGGER events_are_never_changed",
            "CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
             BEGIN SELECT RAISE(ABORT, 'events are immutable: they are never changed'); END",
        ),
        StoreKind::Postgres => (
            "ALTER TABLE events DISABLE TRIGGER events_are_never_changed",
            "ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_never_changed",
        ),
    };
    wrong(&store, &server, off, "missing_trigger", back).await;
    // Of a projection, too; and what it says to do mends it.
    let index = "DROP INDEX documents_members_1_by_parent";
    server.behind_its_back(&[index.to_owned()]).await;
    let found = findings(&store, &[]);
    let of_members = found
        .iter()
        .find(|finding| finding["code"] == "missing_index");
    let what_to_do = of_members.expect("the index")["what_to_do"].as_str();
    assert!(
        what_to_do
            .expect("words")
            .contains("`crewlog replay members`"),
        "{found:?}"
    );
    run(crewlog_on(&store, &["replay", "members"])).expect(0);
    assert_eq!(codes(&store, &[]), [] as [&str; 0]);
}

async fn versions(store: StoreUnderTest) {
    let server = made(&store).await;
    let checksum = match store.kind() {
        StoreKind::Sqlite => "x'00'",
        StoreKind::Postgres => "'\\x00'",
    };
    let future = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999999, 'of the future', TRUE, {checksum}, 0)"
    );
    let gone = "DELETE FROM _sqlx_migrations WHERE version = 999999";
    wrong(&store, &server, &future, "schema_newer", gone).await;
    wrong(
        &store,
        &server,
        "UPDATE log_head SET format = 99",
        "log_newer",
        "UPDATE log_head SET format = 1",
    )
    .await;
    server
        .behind_its_back(&["DELETE FROM _sqlx_migrations WHERE version > 20".to_owned()])
        .await;
    assert_eq!(codes(&store, &[]), ["schema_older"]);
}

async fn projections(store: StoreUnderTest) {
    let server = made(&store).await;
    let change = |set: &str| format!("UPDATE projections SET {set} WHERE name = 'members'");
    wrong(
        &store,
        &server,
        &change("version = version + 1"),
        "projection_newer",
        &change("version = version - 1"),
    )
    .await;
    server.behind_its_back(&[change("version = 0")]).await;
    assert_eq!(codes(&store, &[]), ["projection_older"]);
    run(crewlog_on(&store, &["migrate"])).expect(0);
    server
        .behind_its_back(&["DELETE FROM projections WHERE name = 'limits'".to_owned()])
        .await;
    assert_eq!(codes(&store, &[]), ["projection_missing"]);
}

/// A log that has grown while nothing indexed it.
async fn behind(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    for round in 0..10 {
        let renames = (0..900).map(|number| WorkspaceCommand::Rename {
            actor: owner.user,
            name: name(&format!("{round} {number}")),
        });
        let unit = commands::<Workspace>(team.stream(), renames.collect());
        fixture.commit(unit).await;
    }
    let doctor = || {
        let mut command = crewlog_on(&store, &["doctor", "--json"]);
        command.env("CREWLOG_ROOT_KEY", ROOT_KEY);
        run(command).stdout
    };
    let told = doctor();
    assert!(told.contains("projection_behind"), "{told}");
    let caught_up = audit_index::catch_up(&*fixture.store).await;
    caught_up.expect("the index to catch up");
    let told = doctor();
    assert!(!told.contains("projection_behind"), "{told}");
}

async fn unfinished(store: StoreUnderTest) {
    let server = made(&store).await;
    wrong(
        &store,
        &server,
        "INSERT INTO projections (name, generation, version, position, state)
         VALUES ('members', 7, 1, 0, 'building')",
        "unfinished_rebuild",
        "DELETE FROM projections WHERE generation = 7",
    )
    .await;
    let codes: BTreeSet<_> = codes(&store, &[]).into_iter().collect();
    assert!(codes.is_empty(), "{codes:?}");
}
