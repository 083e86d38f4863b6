//! The command line, through the real program: what it prints where, and how it ends.

use std::fs::{self, Permissions};
use std::future::IntoFuture;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::support::commands::{crewlog, crewlog_on, run};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, on, once};

pub fn trials() -> Vec<Case> {
    vec![
        once("cli", "help_is_as_shown", help_is_as_shown),
        once("cli", "completions_are_printed", completions_are_printed),
        once("cli", "used_wrongly_is_2", used_wrongly_is_2),
        once("cli", "a_closed_output_is_no_failure", a_closed_output),
        once("cli", "the_openapi_document_is_current", openapi_is_current),
        once(
            "cli",
            "a_folder_that_cannot_be_made",
            a_folder_that_cannot_be_made,
        ),
        once("cli", "an_address_in_use", an_address_in_use),
        once("cli", "an_unreachable_database", an_unreachable_database),
        once("cli", "nothing_to_read", nothing_to_read),
        on(
            &[StoreKind::Sqlite],
            "cli",
            "a_second_writer_is_refused",
            a_second_writer,
        ),
        both(
            "cli",
            "a_newer_schema_is_refused",
            a_newer_schema_is_refused,
        ),
        both(
            "cli",
            "a_wrong_root_key_is_refused",
            a_wrong_root_key_is_refused,
        ),
        both("cli", "commands_beside_a_server", commands_beside_a_server),
        both(
            "cli",
            "what_was_changed_is_found",
            what_was_changed_is_found,
        ),
        both("cli", "the_demo_is_made_once", the_demo_is_made_once),
        both("cli", "stopping_finishes_what_was_begun", stopping_finishes),
    ]
}

async fn help_is_as_shown(_directory: TempDir) {
    for (name, arguments) in [
        ("help", &["--help"][..]),
        ("help_serve", &["serve", "--help"]),
        ("help_replay", &["replay", "--help"]),
        ("help_doctor", &["doctor", "--help"]),
    ] {
        let ended = run(crewlog(arguments)).expect(0);
        assert_eq!(ended.stderr, "", "help is what was asked for");
        insta::assert_snapshot!(name, ended.stdout);
    }
    let version = run(crewlog(&["--version"])).expect(0).stdout;
    assert_eq!(
        version,
        concat!("crewlog ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

async fn completions_are_printed(_directory: TempDir) {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(crewlog(&["completions", shell])).expect(0);
        assert!(ended.stdout.contains("replay"), "{shell}: {}", ended.stdout);
    }
}

async fn used_wrongly_is_2(_directory: TempDir) {
    for arguments in [
        &[][..],
        &["nonsense"],
        &["serve", "--nonsense"],
        &["serve", "--listen", "nonsense"],
        &["serve", "--trusted-proxy", "nonsense"],
        &["replay", "nonsense"],
        &["replay", "users", "--check"],
        &["replay", "--to", "5"],
        &["replay", "--into", "mysql://somewhere/else"],
        &["replay", "--into", "sqlite://"],
        &["replay", "--events-per-second", "0"],
        &["replay", "--cancel", "--check"],
        &["verify", "--log", "x=y=z"],
        &[
            "verify",
            "--database-url",
            "mysql://root:secret@localhost/crewlog",
        ],
    ] {
        let ended = run(crewlog(arguments)).expect(2);
        assert_eq!(ended.stdout, "", "{arguments:?}");
        assert_ne!(ended.stderr, "", "{arguments:?} says what was wrong");
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    }
    let mut twice = crewlog(&["verify"]);
    twice
        .env("CREWLOG_DATABASE_URL", "postgres://localhost/one")
        .env("CREWLOG_DATABASE_URL_FILE", "/two");
    let told = run(twice).expect(2).stderr;
    assert!(
        told.contains("CREWLOG_DATABASE_URL_FILE are both set"),
        "{told}"
    );
}

async fn a_closed_output(_directory: TempDir) {
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_crewlog");
    // `true` reads nothing, so the program writes into a pipe without a reader.
    let script = format!("{{ sleep 0.3; {program} completions bash; echo $? >&2; }} | true");
    command.args(["-c", &script]);
    assert_eq!(run(command).expect(0).stderr, "0\n");
}

async fn openapi_is_current(_directory: TempDir) {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let kept = fs::read_to_string(kept).expect("docs/openapi.json");
    let printed = run(crewlog(&["openapi"])).expect(0).stdout;
    assert!(
        printed == kept,
        "docs/openapi.json is not current: crewlog openapi > docs/openapi.json"
    );
}

async fn a_folder_that_cannot_be_made(directory: TempDir) {
    let file = directory.path().join("file");
    fs::write(&file, "in the way").expect("a file");
    for folder in [file.clone(), file.join("below")] {
        let folder = folder.to_string_lossy();
        for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["migrate"]] {
            let command = crewlog(&[command, &["--data", &folder]].concat());
            run(command).refused_with(&[&folder, "--data"]);
        }
    }
}

async fn an_address_in_use(directory: TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("the port").to_string();
    let folder = directory.path().join("data");
    let arguments = [
        "serve",
        "--listen",
        &address,
        "--data",
        &folder.to_string_lossy(),
    ];
    run(crewlog(&arguments)).refused_with(&[&address, "in use", "--listen"]);
    assert!(!folder.exists(), "nothing was made");
}

async fn an_unreachable_database(directory: TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("the port").port();
    drop(listener);
    let url = format!("postgres://user:secret@127.0.0.1:{port}/crewlog");
    let folder = directory.path().to_string_lossy();
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["verify"],
        &["migrate"],
        &["replay"],
        &["replay", "--cancel"],
    ] {
        let command = crewlog(&[command, &["--database-url", &url, "--data", &folder]].concat());
        let ended =
            run(command).refused_with(&["cannot be reached", "check that the database runs"]);
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    }
    // The URL may come from a file.
    let file = directory.path().join("url");
    fs::write(&file, format!("{url}\n")).expect("a file");
    let mut command = crewlog(&["verify", "--data", &folder]);
    command.env("CREWLOG_DATABASE_URL_FILE", &file);
    run(command).refused_with(&["cannot be reached"]);
}

async fn nothing_to_read(directory: TempDir) {
    let folder = directory.path().join("none");
    let shown = folder.to_string_lossy();
    for command in [&["verify"][..], &["replay"], &["replay", "--check"]] {
        let command = crewlog(&[command, &["--data", &shown]].concat());
        run(command).refused_with(&[&shown, "crewlog serve"]);
    }
    assert!(!folder.exists(), "reading makes nothing");
}

async fn a_second_writer(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["migrate"]] {
        run(crewlog_on(&store, command))
            .refused_with(&["another crewlog process", "stop it first"]);
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
}

async fn a_newer_schema_is_refused(store: StoreUnderTest) {
    run(crewlog_on(&store, &["migrate"])).expect(0);
    let future = |checksum: &str| {
        format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (999999, 'of the future', TRUE, {checksum}, 0)"
        )
    };
    change(&store, &future("x'00'"), &future("'\\x00'")).await;
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["migrate"]] {
        run(crewlog_on(&store, command)).refused_with(&["newer schema", "run the newer version"]);
    }
}

async fn a_wrong_root_key_is_refused(store: StoreUnderTest) {
    let serve = || crewlog_on(&store, &["serve", "--listen", "127.0.0.1:0"]);
    let key = store.data_dir().join("root.key");
    let mut server = Server::start(&store).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let mode = fs::metadata(&key)
        .expect("the root key")
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600, "made for its owner alone");
    let right = fs::read_to_string(&key).expect("the root key");

    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("another mode");
    run(serve()).refused_with(&["0644", "chmod 600"]);
    fs::remove_file(&key).expect("the key to go");
    run(serve()).refused_with(&["root.key", "CREWLOG_ROOT_KEY_FILE"]);
    assert!(!key.exists(), "no other key was made");

    for (wrong, words) in [
        (
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "not the root key",
        ),
        ("hunter2", "44 characters"),
    ] {
        let mut command = serve();
        command.env("CREWLOG_ROOT_KEY", wrong);
        let ended = run(command).refused_with(&[words]);
        assert!(!ended.stderr.contains(wrong), "{}", ended.stderr);
    }
    run(crewlog_on(&store, &["verify"])).expect(0);

    let mut command = Server::command(&store);
    command.env("CREWLOG_ROOT_KEY", right.trim());
    let mut server = Server::launch(command).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
}

async fn commands_beside_a_server(store: StoreUnderTest) {
    let mut server = Server::launch(demo(&store)).await;
    let verified = run(crewlog_on(&store, &["verify", "--json"]))
        .expect(0)
        .json();
    assert_eq!(verified["holds"], true, "{verified}");
    assert!(verified["entries"].as_u64() > Some(20), "{verified}");
    let checked = run(crewlog_on(&store, &["replay", "--check", "--json"]))
        .expect(0)
        .json();
    assert_eq!(checked["differing"], 0, "{checked}");
    assert_eq!(checked["rows"]["workspaces"], 2, "{checked}");
    let replayed = run(crewlog_on(&store, &["replay", "--json"]))
        .expect(0)
        .json();
    assert!(
        replayed["position"].as_u64() >= checked["position"].as_u64(),
        "{replayed}"
    );
    let checked = run(crewlog_on(&store, &["replay", "--check", "--json"]))
        .expect(0)
        .json();
    assert_eq!(checked["differing"], 0, "{checked}");
    assert!(server.terminate().await.success(), "{}", server.logs());
    assert!(
        server.logs().contains("stopped: everything"),
        "{}",
        server.logs()
    );

    let replayed = run(crewlog_on(&store, &["replay", "--json"]))
        .expect(0)
        .json();
    assert_eq!(replayed["position"], checked["position"], "{replayed}");
    let replayed = run(crewlog_on(&store, &["replay", "members", "--json"]))
        .expect(0)
        .json();
    assert_eq!(replayed["rebuilt"], json!(["members"]), "{replayed}");
    let migrated = run(crewlog_on(&store, &["migrate", "--json"]))
        .expect(0)
        .json();
    assert_eq!(migrated["migrations_applied"], json!([]), "{migrated}");
    let checked = run(crewlog_on(&store, &["replay", "--check"]))
        .expect(0)
        .stdout;
    assert!(
        checked.contains("every row is what the log says"),
        "{checked}"
    );

    let mut server = Server::start(&store).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
}

async fn what_was_changed_is_found(store: StoreUnderTest) {
    let mut server = Server::launch(demo(&store)).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let rename = "UPDATE documents_workspaces_1
                     SET document = replace(CAST(document AS TEXT), 'Harbour', 'Hidden')";
    change(
        &store,
        rename,
        &rename.replace("'Hidden')", "'Hidden')::json"),
    )
    .await;
    let found = run(crewlog_on(&store, &["replay", "--check"]))
        .expect(1)
        .stdout;
    assert!(
        found.contains("1 ROWS ARE NOT") && found.contains("Hidden Hotel"),
        "{found}"
    );
    run(crewlog_on(&store, &["replay", "workspaces"])).expect(0);
    run(crewlog_on(&store, &["replay", "--check"])).expect(0);

    let edit = "UPDATE events SET metadata = replace(metadata, 'user', 'usEr') WHERE position = 7";
    change(
        &store,
        &format!("DROP TRIGGER events_are_never_changed; {edit}"),
        &format!(
            "ALTER TABLE events DISABLE TRIGGER USER; {}",
            edit.replace("replace(metadata,", "replace(metadata::text,")
                .replace("'usEr')", "'usEr')::json")
        ),
    )
    .await;
    let found = run(crewlog_on(&store, &["verify", "--json"]))
        .expect(1)
        .json();
    assert_eq!(found["holds"], false, "{found}");
    assert_eq!(found["failures"][0]["position"], 7, "{found}");
    let told = run(crewlog_on(&store, &["verify"])).expect(1).stdout;
    assert!(told.contains("position 7: its bytes do not hash"), "{told}");
}

async fn the_demo_is_made_once(store: StoreUnderTest) {
    let mut server = Server::launch(demo(&store)).await;
    let first = pasted(&server);
    assert!(first[0].contains("ada@demo.example"), "who am I: {first:?}");
    assert!(
        first[1].contains("member.role_changed"),
        "the audit log: {first:?}"
    );
    assert!(
        first[1].contains(r#""outcome":"denied""#),
        "a refused attempt: {first:?}"
    );
    assert!(
        first[2].contains("grace@demo.example"),
        "an invitation: {first:?}"
    );
    let mode = fs::metadata(store.data_dir().join("demo.json")).expect("its file");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    assert!(server.terminate().await.success(), "{}", server.logs());

    let mut server = Server::launch(demo(&store)).await;
    let again = pasted(&server);
    assert_eq!(
        again[0].matches("ws_").count(),
        first[0].matches("ws_").count()
    );
    assert!(server.terminate().await.success(), "{}", server.logs());
}

async fn stopping_finishes(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let sign_up = |number: u32| {
        let body = json!({
            "email": format!("person{number}@example.com"),
            "password": "a long enough password",
            "name": "Somebody",
        });
        tokio::spawn(server.post("/v1/signup").json(body).into_future())
    };
    let asked: Vec<_> = (0..12).map(sign_up).collect();
    // Hashing the passwords takes longer than this, so most are not answered yet.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    for answer in asked {
        answer.await.expect("an answer").expect(201);
    }
    let verified = run(crewlog_on(&store, &["verify", "--json"]))
        .expect(0)
        .json();
    assert_eq!(verified["scopes"], 12, "each is in the log: {verified}");
}

fn demo(store: &StoreUnderTest) -> Command {
    let mut command = Server::command(store);
    command.arg("--demo");
    command
}

/// What the commands answer that the demo prints to be pasted.
fn pasted(server: &Server) -> Vec<String> {
    // The server listens a moment before it prints them.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let logs = server.logs();
        let commands: Vec<_> = logs
            .lines()
            .filter(|line| line.starts_with("curl "))
            .collect();
        if commands.len() == 3 {
            let answer = |command: &&str| {
                let mut shell = Command::new("sh");
                shell.args(["-c", command]);
                run(shell).expect(0).stdout
            };
            return commands.iter().map(answer).collect();
        }
        assert!(Instant::now() < deadline, "three commands: {logs}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs SQL behind the program's back.
async fn change(store: &StoreUnderTest, sqlite: &str, postgres: &str) {
    match store.database_url() {
        None => {
            let file = store.data_dir().join("crewlog.sqlite");
            let connection = rusqlite::Connection::open(file).expect("the store's file");
            connection.execute_batch(sqlite).expect("the change");
        }
        Some(url) => {
            let mut connection = PgConnection::connect(url).await.expect("the database");
            let done = sqlx::raw_sql(postgres).execute(&mut connection).await;
            done.expect("the change");
        }
    }
}
