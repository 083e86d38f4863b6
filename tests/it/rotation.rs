//! Keys that are rotated as the page for operators says: of the log, and the root key, killed at any
//! moment and gone on with. Afterwards everything opens with the new key, and nothing with the old.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crewlog::domain::ids::WorkspaceId;
use crewlog::domain::sealed::KeyOwner;
use crewlog::journal::sealing::{Keyring, RootKey};
use crewlog::journal::stores::{Row, Store};
use crewlog::journal::{Source, SystemSource};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::edge::team::Person;
use crate::support::commands::{Ended, crewlog_on, killed_after, run};
use crate::support::journal::{open_store, reading};
use crate::support::pages::Page;
use crate::support::scratch;
use crate::support::server::Server;
use crate::support::trials::{Case, FAULT_ROUNDS, StoreKind, StoreUnderTest, both, on, rounds};

pub fn trials() -> Vec<Case> {
    vec![
        both("rotation", "the_page_rotates_keys", as_the_page_says),
        both("rotation", "a_killed_rotation_goes_on", killed),
        both("rotation", "wrong_keys_change_nothing", wrong_keys),
        both(
            "rotation",
            "a_backup_from_before_wants_the_old_key",
            backups,
        ),
        both("rotation", "a_key_that_opens_under_neither_stays", unopened),
        on(
            &[StoreKind::Postgres],
            "rotation",
            "nobody_rotates_beside_a_server",
            beside,
        ),
    ]
}

/// More than a rotation wraps anew at once, several times over.
const MANY_KEYS: usize = 1_800;

fn key_file(store: &StoreUnderTest) -> PathBuf {
    store.data_dir().join("root.key")
}

fn new_file(store: &StoreUnderTest) -> PathBuf {
    store.data_dir().join("root.key.new")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn root_in(file: &Path) -> RootKey {
    let text = fs::read_to_string(file).expect("a file with a key");
    RootKey::from_text(&text).expect("a root key")
}

fn rotate(store: &StoreUnderTest) -> std::process::Command {
    let file = text(&new_file(store));
    crewlog_on(
        store,
        &[
            "keys",
            "rotate-root",
            "--json",
            "--new-root-key-file",
            &file,
        ],
    )
}

/// As an operator does when the rotation has ended.
fn put_in_place(store: &StoreUnderTest) {
    fs::rename(key_file(store), store.data_dir().join("root.key.old")).expect("the old key");
    fs::rename(new_file(store), key_file(store)).expect("the new key");
}

/// Everything that the root key wraps, without what is wrapped.
async fn wrapped(store: &dyn Store) -> Vec<(String, Vec<u8>)> {
    let sql = "
SELECT owner || ' ' || CAST(key_version AS TEXT), wrapped FROM subject_keys
 UNION ALL
SELECT verifier, wrapped FROM signing_keys WHERE wrapped IS NOT NULL
 UNION ALL
SELECT 'lookup ' || CAST(version AS TEXT), wrapped FROM lookup_keys
 ORDER BY 1";
    let rows = store.query(sql, vec![]).await.expect("the keys");
    let of_row = |row: &Row| {
        let name = row.text(0).expect("a name").to_owned();
        (name, row.bytes(1).expect("what is wrapped").to_vec())
    };
    rows.iter().map(of_row).collect()
}

/// The log, byte for byte.
async fn log(store: &dyn Store) -> Vec<Row> {
    let sql = "SELECT position, leaf, CAST(payload AS TEXT), CAST(metadata AS TEXT) FROM events ORDER BY position";
    store.query(sql, vec![]).await.expect("the log")
}

/// A store with a person in it, and a key of each kind; nobody serves it.
async fn with_a_person(store: &StoreUnderTest) -> (Person, Value) {
    let mut server = Server::start(store).await;
    let more = json!({"organization": {"name": "Acme"}, "workspace": {"name": "Acme"}});
    let (person, made) = Person::sign_up_with(&server, "ada", more).await;
    let made = made.body;
    // What is kept sealed beside the log as well, and a name to be found by.
    let workspace = made["workspace"]["id"].as_str().expect("an id").to_owned();
    server
        .post(&format!("/v1/workspaces/{workspace}/crews"))
        .bearer(&person.token)
        .json(json!({"name": "Acme Corp - Staging", "environment": "staging", "description": "tries"}))
        .await
        .expect(201);
    assert!(server.terminate().await.success(), "{}", server.logs());
    (person, made)
}

/// More keys than there would be people in a trial.
async fn add_keys(store: &StoreUnderTest) {
    let opened = open_store(store).await;
    let root = root_in(&key_file(store));
    let keyring = Keyring::open(opened.clone(), Arc::new(SystemSource), &root, false).await;
    let keyring = keyring.expect("the keys");
    let statements = (0..MANY_KEYS).map(|_| {
        let owner = KeyOwner::Workspace(WorkspaceId::from_uuid(SystemSource.uuid()));
        keyring.create(owner).1
    });
    let added = opened.execute(statements.collect()).await;
    added.expect("the keys to be added");
    opened.close().await;
}

/// That everything opens with the key that is in its place, for people as well.
async fn all_opens(store: &StoreUnderTest, person: &Person, made: &Value) {
    let mut server = Server::start(store).await;
    let signed_in = json!({"email": person.email, "password": person.password});
    let session = server
        .post("/v1/sessions")
        .json(signed_in)
        .await
        .expect(201);
    let token = session.body["token"].as_str().expect("a token");
    let me = server.get("/v1/me").bearer(token).await.expect(200).body;
    assert_eq!(me["email"], person.email.as_str(), "{me}");
    // The claim of the address still holds.
    let again = json!({"email": person.email, "password": "another long password", "name": "Eve"});
    server.post("/v1/signup").json(again).await.expect(409);
    let workspace = made["workspace"]["id"].as_str().expect("an id");
    let crews = server
        .get(&format!("/v1/workspaces/{workspace}/crews"))
        .bearer(token)
        .await
        .expect(200);
    assert_eq!(
        crews.body["data"][0]["description"], "tries",
        "{}",
        crews.text
    );
    assert!(server.terminate().await.success(), "{}", server.logs());
    run(crewlog_on(store, &["verify"])).expect(0);
    run(crewlog_on(store, &["replay", "--check"])).expect(0);
}

/// That every wrapped key changed, each opens with the new root key, and none with the old.
async fn all_was_wrapped_anew(store: &StoreUnderTest, before: &[(String, Vec<u8>)]) {
    let opened = reading(store).await;
    let after = wrapped(&*opened).await;
    let mut left: Vec<_> = after
        .iter()
        .filter(|(name, _)| !name.starts_with("lookup"))
        .collect();
    for (name, was) in before
        .iter()
        .filter(|(name, _)| !name.starts_with("lookup"))
    {
        let place = left
            .iter()
            .position(|(now, _)| now == name)
            .unwrap_or_else(|| panic!("{name} is there"));
        let (_, now) = left.swap_remove(place);
        assert_ne!(was, now, "{name} was wrapped anew");
    }
    assert_eq!(left, Vec::<&(String, Vec<u8>)>::new(), "no key was added");
    let root = root_in(&key_file(store));
    let keyring = Keyring::open(opened.clone(), Arc::new(SystemSource), &root, false).await;
    let keyring = keyring.expect("the keys");
    let owners = after.iter().filter_map(|(name, _)| name.split_once(' '));
    for (owner, version) in owners.filter(|(owner, _)| *owner != "lookup" && !owner.contains('+')) {
        let owner: KeyOwner = owner.parse().expect("an owner");
        let version = version.parse().expect("a version");
        let key = keyring.key(owner, version).await.expect("it opens");
        assert!(key.is_some(), "{owner}");
    }
    let old = root_in(&store.data_dir().join("root.key.old"));
    let refused = Keyring::open(opened.clone(), Arc::new(SystemSource), &old, false).await;
    refused.expect_err("the old key opens nothing");
    opened.close().await;
}

async fn as_the_page_says(store: StoreUnderTest) {
    let (person, made) = with_a_person(&store).await;
    let page = Page::read("docs/operating.md");
    let shown = page.run_block(&store, "rotate-signing", None).stdout;
    let lines: Vec<_> = shown.lines().collect();
    // What the first command shows, and what the second does.
    assert_eq!(lines.len(), 4, "{shown}");
    assert!(
        lines[0].ends_with("signs") && lines[1].contains("signs until"),
        "{shown}"
    );
    assert_eq!(lines[..2], lines[2..], "{shown}");
    let opened = reading(&store).await;
    let (before, entries) = (wrapped(&*opened).await, log(&*opened).await);
    opened.close().await;
    let backups = scratch::directory("backups");
    let settings = [("BACKUPS", &*text(backups.path()))];
    let done = page.run_block_with(&store, "rotate-root", &settings);
    assert!(done.stdout.contains("keys anew in"), "{done:?}");
    let opened = reading(&store).await;
    assert_eq!(log(&*opened).await, entries, "nothing in the log changes");
    opened.close().await;
    all_was_wrapped_anew(&store, &before).await;
    all_opens(&store, &person, &made).await;
    // And once more, now that the key of look-ups is kept.
    run(rotate(&store)).expect(0);
    put_in_place(&store);
    all_opens(&store, &person, &made).await;
}

fn found(store: &StoreUnderTest) -> Vec<String> {
    let findings = run(crewlog_on(store, &["doctor", "--json"])).json();
    let findings = findings["findings"].as_array().expect("a list").clone();
    let code = |finding: &Value| finding["code"].as_str().expect("a code").to_owned();
    findings.iter().map(code).collect()
}

/// That whoever would use the store meanwhile is told to go on.
fn is_between(store: &StoreUnderTest, backups: &TempDir) {
    assert!(found(store).contains(&"unfinished_rotation".to_owned()));
    let folder = text(&backups.path().join("between"));
    for arguments in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["backup", &folder],
        &["verify"],
        &["keys", "rotate"],
    ] {
        run(crewlog_on(store, arguments)).refused_with_log(&["rotate-root"]);
    }
}

async fn killed(store: StoreUnderTest) {
    let (person, made) = with_a_person(&store).await;
    add_keys(&store).await;
    let backups = scratch::directory("backups");
    for round in 0..rounds(FAULT_ROUNDS, 2) {
        let opened = reading(&store).await;
        let (before, entries) = (wrapped(&*opened).await, log(&*opened).await);
        opened.close().await;
        // At each step: the word that it is under way, the pages of keys, and the end.
        let steps = MANY_KEYS.div_ceil(500) + 2;
        for step in 1..=steps {
            let mut command = rotate(&store);
            command.env("CREWLOG_FAIL_POINT", format!("rotation_rewrapped:{step}"));
            // Who goes on has fewer steps to do.
            let ended = run(command);
            if ended.status.is_some() {
                ended.expect(0);
                break;
            }
            if step == 2 && round == 0 {
                is_between(&store, &backups);
            }
            let moment = Duration::from_millis(u64::from(rand::random::<u8>() / 2));
            let ended = killed_after(rotate(&store), moment);
            if ended.is_some_and(|ended| ended.status == Some(0)) {
                break;
            }
        }
        run(rotate(&store)).expect(0);
        let again = run(rotate(&store)).expect(0).json();
        assert_eq!(again["was_done"], true, "{again}");
        put_in_place(&store);
        let opened = reading(&store).await;
        assert_eq!(log(&*opened).await, entries, "nothing in the log changes");
        opened.close().await;
        all_was_wrapped_anew(&store, &before).await;
        assert!(!found(&store).contains(&"unfinished_rotation".to_owned()));
    }
    all_opens(&store, &person, &made).await;
}

async fn wrong_keys(store: StoreUnderTest) {
    let (person, made) = with_a_person(&store).await;
    let everything = async || {
        let opened = reading(&store).await;
        let found = (
            wrapped(&*opened).await,
            opened
                .query("SELECT name, proof FROM root_keys", vec![])
                .await
                .expect("the proofs"),
        );
        opened.close().await;
        found
    };
    let before = everything().await;
    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let mut command = rotate(&store);
    command.env("CREWLOG_ROOT_KEY", other);
    run(command).refused_with(&["not the root key that the store was made with"]);
    assert!(!new_file(&store).exists(), "no key is made for a wrong one");
    fs::write(new_file(&store), "hunter2").expect("a file");
    run(rotate(&store)).refused_with(&["read or written by others"]);
    let set_mode = |file: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("a mode");
    };
    set_mode(&new_file(&store));
    run(rotate(&store)).refused_with(&["no root key"]);
    assert_eq!(everything().await, before, "nothing was written");
    fs::remove_file(new_file(&store)).expect("the file to go");
    // One that was begun goes on to the key that it was begun with, and to no other.
    let mut command = rotate(&store);
    command.env("CREWLOG_FAIL_POINT", "rotation_rewrapped:1");
    assert_eq!(run(command).status, None);
    let third = store.data_dir().join("third.key");
    fs::write(&third, other).expect("a file");
    set_mode(&third);
    let to_third = ["keys", "rotate-root", "--new-root-key-file", &text(&third)];
    run(crewlog_on(&store, &to_third)).refused_with(&["another root key was begun"]);
    let missing = store.data_dir().join("fourth.key");
    let to_missing = [
        "keys",
        "rotate-root",
        "--new-root-key-file",
        &text(&missing),
    ];
    run(crewlog_on(&store, &to_missing)).refused_with(&["has not ended"]);
    assert!(!missing.exists(), "no key is made in the midst of it");
    let mut command = rotate(&store);
    command.env("CREWLOG_ROOT_KEY", other);
    run(command).refused_with(&["not the root key that the store was made with"]);
    run(rotate(&store)).expect(0);
    // With the old key still in its place, nothing opens.
    run(crewlog_on(&store, &["serve", "--listen", "127.0.0.1:0"]))
        .refused_with(&["not the root key that the store was made with"]);
    put_in_place(&store);
    all_opens(&store, &person, &made).await;
}

fn restore(to: &StoreUnderTest, folder: &Path, keys: &Path) -> Ended {
    let (folder, keys) = (text(folder), text(keys));
    run(crewlog_on(
        to,
        &["restore", "--json", &folder, "--keys", &keys],
    ))
}

async fn backups(store: StoreUnderTest) {
    let (person, made) = with_a_person(&store).await;
    let mut server = Server::start(&store).await;
    let leaving = Person::sign_up_with(&server, "ben", json!({})).await.0;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let folder = scratch::directory("backups");
    let (backup, keys) = (
        folder.path().join("before"),
        folder.path().join("keys.jsonl"),
    );
    run(crewlog_on(&store, &["backup", &text(&backup)])).expect(0);
    run(rotate(&store)).expect(0);
    put_in_place(&store);
    let mut server = Server::start(&store).await;
    let password = json!({"password": leaving.password});
    server
        .post("/v1/me/erase")
        .bearer(&leaving.token)
        .json(password)
        .await
        .expect(204);
    assert!(server.terminate().await.success(), "{}", server.logs());
    run(crewlog_on(&store, &["backup", "--keys", &text(&keys)])).expect(0);
    // With the new key: refused. With the old one: it opens, and who was erased since is erased.
    let to = crate::transfer::empty(store.kind()).await;
    fs::copy(key_file(&store), key_file(&to)).expect("the new key");
    restore(&to, &backup, &keys).refused_with(&["not the root key that the store was made with"]);
    fs::copy(store.data_dir().join("root.key.old"), key_file(&to)).expect("the old key");
    let own = backup.join("keys.jsonl");
    let aside = folder.path().join("aside.jsonl");
    fs::rename(&own, &aside).expect("the keys to be taken away");
    restore(&to, &backup, &keys).refused_with(&["the root key was rotated after the backup"]);
    fs::rename(&aside, &own).expect("the keys to be put back");
    let done = restore(&to, &backup, &keys).expect(0).json();
    assert_eq!(done["erased"], 1, "{done}");
    all_opens(&to, &person, &made).await;
    let mut server = Server::start(&to).await;
    let signed_in = json!({"email": leaving.email, "password": leaving.password});
    server
        .post("/v1/sessions")
        .json(signed_in)
        .await
        .expect(401);
    assert!(server.terminate().await.success(), "{}", server.logs());
    run(rotate(&to)).expect(0);
    put_in_place(&to);
    all_opens(&to, &person, &made).await;
}

async fn unopened(store: StoreUnderTest) {
    let (person, made) = with_a_person(&store).await;
    let mut server = Server::start(&store).await;
    let ben = Person::sign_up_with(&server, "ben", json!({})).await.0;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let damaged = format!(
        "UPDATE subject_keys SET wrapped = {}
          WHERE owner IN (SELECT subject FROM subjects WHERE user_id = '{}')",
        match store.kind() {
            StoreKind::Sqlite => "x'00'",
            StoreKind::Postgres => "'\\x00'",
        },
        ben.user
    );
    server.behind_its_back(&[damaged]).await;
    let ended = run(rotate(&store)).expect(1).json();
    assert_eq!(ended["unopened"], 1, "{ended}");
    let name = ended["unopened_names"][0].as_str().expect("a name");
    assert!(name.starts_with("sub_"), "{ended}");
    put_in_place(&store);
    all_opens(&store, &person, &made).await;
}

async fn beside(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    run(rotate(&store)).refused_with(&["stop the servers first"]);
    assert!(!new_file(&store).exists());
    server.get("/readyz").await.expect(200);
    assert!(server.terminate().await.success(), "{}", server.logs());
}
