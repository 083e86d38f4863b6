//! Backups that are restored, that were changed, that are too old, and who was erased since.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{
    assert_same, bring_the_key, empty, everything_done, everything_in, other, takes_a_writer, text,
};
use crate::edge::team::Person;
use crate::edge::{eventually, held};
use crate::projections::assert_store_is_its_log;
use crate::support::commands::{Ended, crewlog_on, run};
use crate::support::journal::reading;
use crate::support::scratch;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both(
            "transfer",
            "a_backup_is_restored_to_either_store",
            both_ways,
        ),
        both("transfer", "a_changed_backup_is_refused", changed),
        both("transfer", "a_backup_is_no_store_to_serve", no_store),
        both("transfer", "a_rolled_back_history_is_found", rolled_back),
        both("transfer", "who_was_erased_stays_erased", erased),
        both(
            "transfer",
            "organizations_erase_who_was_erased_since",
            erased_in_time,
        ),
        both("transfer", "keys_are_of_the_backup_or_newer", keys),
    ]
}

/// What a restored store has for itself.
const OWN: [&str; 7] = [
    "access_snapshots",
    "log_head",
    "projections",
    "rebuild",
    "request_rates",
    "seals",
    "session_tokens",
];

fn back_up(store: &StoreUnderTest, folder: &Path) -> Value {
    let arguments = ["backup", "--json", &text(folder)];
    run(crewlog_on(store, &arguments)).expect(0).json()
}

fn restore(store: &StoreUnderTest, folder: &Path, more: &[&str]) -> Ended {
    let folder = text(folder);
    let arguments = [&["restore", "--json", &folder], more].concat();
    run(crewlog_on(store, &arguments))
}

async fn both_ways(store: StoreUnderTest) {
    let mut server = everything_done(&store).await;
    let folder = scratch::directory("backups");
    let backup = folder.path().join("backup");
    // Beside the server, and as of a moment: it is stopped only to hold still for the comparison.
    let early = folder.path().join("early");
    back_up(&store, &early);
    assert!(server.terminate().await.success(), "{}", server.logs());
    let made = back_up(&store, &backup);
    let before = everything_in(&store).await;
    for kind in [store.kind(), other(store.kind())] {
        let to = empty(kind).await;
        let done = restore(&to, &backup, &[]).expect(0).json();
        assert_eq!(done["position"], made["manifest"]["position"], "{done}");
        assert_eq!(done["erased"], 0, "{done}");
        let after = everything_in(&to).await;
        assert_same(&before, &after, &OWN);
        assert!(
            after["session_tokens"].is_empty(),
            "everybody signs in anew"
        );
        let restored = reading(&to).await;
        assert_store_is_its_log(&*restored).await;
        restored.close().await;
        // It wants the root key that it was made with, and then it serves.
        run(crewlog_on(&to, &["serve", "--listen", "127.0.0.1:0"]))
            .refused_with(&["has a root key"]);
        bring_the_key(&store, &to);
        let mut server = Server::start(&to).await;
        let more = json!({"organization": {"name": "Later"}, "workspace": {"name": "Later"}});
        Person::sign_up_with(&server, "later", more).await;
        assert!(server.terminate().await.success(), "{}", server.logs());
        held(&to);
        let to = empty(kind).await;
        restore(&to, &early, &[]).expect(0);
        held(&to);
    }
}

async fn with_people(store: &StoreUnderTest) -> (Server, Vec<Person>) {
    let server = Server::start(store).await;
    let mut people = Vec::new();
    for who in ["ada", "ben"] {
        people.push(sign_up(&server, who).await);
    }
    (server, people)
}

async fn sign_up(server: &Server, who: &str) -> Person {
    let more = json!({"organization": {"name": "Acme"}, "workspace": {"name": "Acme"}});
    Person::sign_up_with(server, who, more).await.0
}

/// Every byte counts: of the store, the keys and the manifest.
async fn changed(store: StoreUnderTest) {
    let (mut server, _) = with_people(&store).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let folder = scratch::directory("backups");
    let backup = folder.path().join("backup");
    back_up(&store, &backup);
    let to = empty(store.kind()).await;
    for file in ["crewlog.sqlite", "keys.jsonl", "manifest.json"] {
        let file = backup.join(file);
        let whole = fs::read(&file).expect("the file");
        let places = [0, whole.len() / 3, whole.len() / 2, whole.len() - 2];
        let flipped = places.map(|place| {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            bytes
        });
        let cut = [whole.len() - 1, whole.len() / 2, 0].map(|length| whole[..length].to_vec());
        let grown = [[&whole[..], b"\n"].concat()];
        for bytes in flipped.into_iter().chain(cut).chain(grown) {
            // White space behind JSON means nothing.
            let is_manifest = file.ends_with("manifest.json");
            if is_manifest && bytes.len() > whole.len() {
                continue;
            }
            fs::write(&file, bytes).expect("the file to be changed");
            let ended = restore(&to, &backup, &[]).expect(1);
            let told = ended.json();
            let detail = told["detail"].as_str().expect("words");
            assert!(detail.contains("changed"), "{detail}");
        }
        fs::write(&file, whole).expect("the file as it was");
    }
    let missing = folder.path().join("none");
    restore(&to, &missing, &[]).refused_with(&["manifest.json", "folder of a backup"]);
    // A file that says what the manifest says, and is no continuation: the store itself is asked.
    restore(&to, &backup, &[]).expect(0);
    let again = run(crewlog_on(&store, &["backup", &text(&backup)]));
    again.refused_with(&["is there already"]);
}

async fn no_store(store: StoreUnderTest) {
    let (mut server, _) = with_people(&store).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let folder = scratch::directory("backups");
    let backup = folder.path().join("backup");
    let made = back_up(&store, &backup);
    let as_store = StoreUnderTest::in_directory(scratch::directory("data"));
    let files = fs::read_dir(&backup).expect("the backup");
    let mut names = Vec::new();
    for file in files {
        let file = file.expect("a file");
        names.push(file.file_name().into_string().expect("a name"));
        fs::copy(file.path(), as_store.data_dir().join(file.file_name())).expect("a copy");
    }
    names.sort();
    assert_eq!(names, ["crewlog.sqlite", "keys.jsonl", "manifest.json"]);
    // It can be verified as it lies there, and nobody writes it.
    let verified = run(crewlog_on(&as_store, &["verify", "--json"]))
        .expect(0)
        .json();
    assert_eq!(verified["root"], made["manifest"]["root"]);
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["migrate"]] {
        run(crewlog_on(&as_store, arguments)).refused_with(&["is a backup", "crewlog restore"]);
    }
    // No key that opens anything is in its store, also not where rows were.
    let keys = fs::read_to_string(backup.join("keys.jsonl")).expect("the keys");
    let store_bytes = fs::read(backup.join("crewlog.sqlite")).expect("the store");
    let mut wrapped = 0;
    for line in keys.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let Some(key) = line["wrapped"].as_str() else {
            continue;
        };
        use base64::{Engine, prelude::BASE64_STANDARD};
        let key = BASE64_STANDARD.decode(key).expect("base64");
        assert!(!store_bytes.windows(key.len()).any(|window| window == key));
        wrapped += 1;
    }
    assert!(wrapped > 3, "{keys}");
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).expect("it").permissions().mode() & 0o777;
    assert_eq!(mode(&backup), 0o700);
    assert_eq!(mode(&backup.join("keys.jsonl")), 0o600);
}

async fn newest_checkpoint(server: &Server, file: &Path) -> u64 {
    let head = server.get("/readyz").await.body["position"]
        .as_u64()
        .expect("a position");
    let note = eventually("a checkpoint of the head", async || {
        let note = server.get("/v1/log/checkpoint").await.text;
        let size: u64 = note.lines().nth(1)?.parse().ok()?;
        (size >= head).then_some(note)
    })
    .await;
    fs::write(file, note).expect("the checkpoint");
    head
}

async fn rolled_back(store: StoreUnderTest) {
    let (mut server, _) = with_people(&store).await;
    let folder = scratch::directory("backups");
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let kept = folder.path().join("checkpoint.txt");
    let early = folder.path().join("early.txt");
    newest_checkpoint(&server, &early).await;
    let made = back_up(&store, &old);
    let position = made["manifest"]["position"].as_u64().expect("a position");
    sign_up(&server, "later").await;
    let seen = newest_checkpoint(&server, &kept).await;
    back_up(&store, &new);
    assert!(server.terminate().await.success(), "{}", server.logs());

    // The old one is named, and nothing is restored of it.
    let to = empty(store.kind()).await;
    let checkpoint = ["--checkpoint", &text(&kept)];
    let found = restore(&to, &old, &checkpoint).expect(1).json();
    assert_eq!(found["why"], "rolled_back", "{found}");
    assert_eq!(found["position"], position, "{found}");
    let size = found["checkpoint_size"].as_u64().expect("a size");
    assert!(size >= seen && seen > position, "{found}");
    // The new one goes as far; the old one goes as far as what was seen before it.
    restore(&to, &new, &checkpoint).expect(0);
    let second = empty(store.kind()).await;
    restore(&second, &old, &["--checkpoint", &text(&early)]).expect(0);

    // Knowingly, it can be gone back; what then is written is another history.
    let to = empty(other(store.kind())).await;
    let more = [&checkpoint[..], &["--rolled-back"]].concat();
    let done = restore(&to, &old, &more).expect(0).json();
    assert_eq!(done["entries_lost"], size - position, "{done}");
    bring_the_key(&store, &to);
    let server = Server::start(&to).await;
    for who in ["eve", "fay"] {
        sign_up(&server, who).await;
    }
    let forked = folder.path().join("forked.txt");
    let head = newest_checkpoint(&server, &forked).await;
    assert!(head >= size);
    let other_history = folder.path().join("other");
    back_up(&to, &other_history);
    drop(server);
    let to = empty(store.kind()).await;
    let found = restore(&to, &other_history, &checkpoint).expect(1).json();
    assert_eq!(found["why"], "another_history", "{found}");
    let anyway = [&checkpoint[..], &["--rolled-back"]].concat();
    restore(&to, &other_history, &anyway).expect(1);
    // A checkpoint that nobody signed says nothing.
    fs::write(
        &kept,
        fs::read_to_string(&kept).expect("it").replace('\n', "\n "),
    )
    .expect("it");
    let found = restore(&to, &new, &checkpoint).expect(1).json();
    assert_eq!(found["why"], "unbelieved", "{found}");
}

/// What erasing somebody does beside the log.
async fn erase(server: &Server, person: &Person) {
    let user = &person.user;
    let subjects = format!("SELECT subject FROM subjects WHERE user_id = '{user}'");
    server
        .behind_its_back(&[
            format!("DELETE FROM subject_keys WHERE owner IN ({subjects})"),
            format!("UPDATE subjects SET email_lookup = NULL WHERE user_id = '{user}'"),
            format!("DELETE FROM name_words WHERE user_id = '{user}'"),
            format!("DELETE FROM passwords WHERE user_id = '{user}'"),
            format!("DELETE FROM session_tokens WHERE user_id = '{user}'"),
        ])
        .await;
}

async fn signs_in(store: &StoreUnderTest, people: &[Person]) -> Vec<u16> {
    let mut server = Server::start(store).await;
    let mut answers = Vec::new();
    for person in people {
        let body = json!({"email": person.email, "password": person.password});
        answers.push(server.post("/v1/sessions").json(body).await.status);
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    answers
}

async fn erased(store: StoreUnderTest) {
    let (mut server, people) = with_people(&store).await;
    let folder = scratch::directory("backups");
    let backup = folder.path().join("backup");
    back_up(&store, &backup);
    erase(&server, &people[0]).await;
    sign_up(&server, "later").await;
    let newer = folder.path().join("newer.jsonl");
    run(crewlog_on(&store, &["backup", "--keys", &text(&newer)])).expect(0);
    assert!(server.terminate().await.success(), "{}", server.logs());

    // With the keys of then, both are there, and it is said that nobody knows better.
    let to = empty(store.kind()).await;
    let ended = run(crewlog_on(&to, &["restore", &text(&backup)])).expect(0);
    assert!(ended.stdout.contains("as old as the backup"), "{ended:?}");
    bring_the_key(&store, &to);
    assert_eq!(signs_in(&to, &people).await, [201, 201]);
    // With the newest keys who was erased stays erased.
    let to = empty(other(store.kind())).await;
    let done = restore(&to, &backup, &["--keys", &text(&newer)])
        .expect(0)
        .json();
    assert_eq!(
        done["erased"], 2,
        "the account, and the organization's copy: {done}"
    );
    bring_the_key(&store, &to);
    assert_eq!(signs_in(&to, &people).await, [401, 201]);
    is_erased(&to, &people[0]).await;
    held(&to);
    // A store that was restored by other means is brought to the same.
    let other_means = empty(store.kind()).await;
    restore(&other_means, &backup, &[]).expect(0);
    bring_the_key(&store, &other_means);
    let again = ["restore", "--json", "--keys", &text(&newer)];
    let done = run(crewlog_on(&other_means, &again)).expect(0).json();
    assert_eq!(done["erased"], 2, "{done}");
    assert_eq!(signs_in(&other_means, &people).await, [401, 201]);
    is_erased(&other_means, &people[0]).await;
    held(&other_means);
}

/// Who erased their account after the backup, and whose organization still keeps its copy then, is
/// erased by it too, in its time: the restored log knows nothing of that.
async fn erased_in_time(store: StoreUnderTest) {
    let (mut server, people) = with_people(&store).await;
    let folder = scratch::directory("backups");
    let backup = folder.path().join("backup");
    back_up(&store, &backup);
    let account = format!(
        "SELECT subject FROM subjects WHERE user_id = '{}' AND realm = 'account'",
        people[0].user
    );
    let forget = format!("DELETE FROM subject_keys WHERE owner IN ({account})");
    server.behind_its_back(&[forget]).await;
    sign_up(&server, "later").await;
    let newer = folder.path().join("newer.jsonl");
    run(crewlog_on(&store, &["backup", "--keys", &text(&newer)])).expect(0);
    assert!(server.terminate().await.success(), "{}", server.logs());

    let to = empty(other(store.kind())).await;
    let done = restore(&to, &backup, &["--keys", &text(&newer)])
        .expect(0)
        .json();
    assert_eq!(done["erased"], 1, "the account alone: {done}");
    bring_the_key(&store, &to);
    assert_eq!(keys_of(&to, &people[0]).await, 1, "the organization's copy");
    let mut command = Server::command(&to);
    command.args(["--erasure-retention-days", "0"]);
    let mut server = Server::launch(command).await;
    let is_gone = async || (keys_of(&to, &people[0]).await == 0).then_some(());
    eventually("the organization erases its copy", is_gone).await;
    assert_eq!(keys_of(&to, &people[1]).await, 2, "nobody else is erased");
    assert!(server.terminate().await.success(), "{}", server.logs());
    held(&to);
}

/// How many keys there are of somebody.
async fn keys_of(store: &StoreUnderTest, person: &Person) -> usize {
    let all = everything_in(store).await;
    let has =
        |row: &[Option<String>], wanted: &str| row.iter().flatten().any(|value| value == wanted);
    let subjects = all["subjects"]
        .iter()
        .filter(|row| has(row, &person.user))
        .flatten()
        .flatten()
        .filter(|value| value.starts_with("sub_"));
    let with_key = subjects.filter(|one| all["subject_keys"].iter().any(|row| has(row, one)));
    with_key.count()
}

async fn is_erased(store: &StoreUnderTest, person: &Person) {
    let all = everything_in(store).await;
    let of_person = |table: &str| {
        let rows = all[table].iter();
        let is_theirs =
            |row: &&Vec<Option<String>>| row.iter().flatten().any(|value| *value == person.user);
        rows.filter(is_theirs).count()
    };
    assert_eq!(of_person("passwords"), 0);
    assert_eq!(of_person("name_words"), 0);
    assert!(
        of_person("subjects") > 0,
        "who they were is known, and not how they are found"
    );
}

async fn keys(store: StoreUnderTest) {
    let (server, _) = with_people(&store).await;
    let folder = scratch::directory("backups");
    let (early, apart) = (
        folder.path().join("early.jsonl"),
        folder.path().join("apart.jsonl"),
    );
    run(crewlog_on(&store, &["backup", "--keys", &text(&early)])).expect(0);
    sign_up(&server, "later").await;
    let backup = folder.path().join("backup");
    let arguments = ["backup", &text(&backup), "--keys", &text(&apart)];
    run(crewlog_on(&store, &arguments)).expect(0);
    assert!(!backup.join("keys.jsonl").exists(), "they are apart");
    drop(server);

    let to = empty(store.kind()).await;
    restore(&to, &backup, &[]).refused_with(&["not in the backup", "--keys"]);
    restore(&to, &backup, &["--keys", &text(&early)]).refused_with(&["take a newer file"]);
    let another = empty(store.kind()).await;
    let (_server, _) = with_people(&another).await;
    let foreign = folder.path().join("foreign.jsonl");
    run(crewlog_on(&another, &["backup", "--keys", &text(&foreign)])).expect(0);
    restore(&to, &backup, &["--keys", &text(&foreign)]).refused_with(&["of another log"]);
    let nothing = folder.path().join("nothing.jsonl");
    fs::write(&nothing, "{}\n").expect("a file");
    restore(&to, &backup, &["--keys", &text(&nothing)]).expect(1);
    let done = restore(&to, &backup, &["--keys", &text(&apart)])
        .expect(0)
        .json();
    assert_eq!(done["erased"], 0, "{done}");
    bring_the_key(&store, &to);
    held(&to);
    assert!(takes_a_writer(&to).await);
}
