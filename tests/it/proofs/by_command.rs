//! The audit log by the command line: followed, exported and asked for access beside a server, and
//! what comes of it compared with what the server says.

use std::path::Path;

use serde_json::{Value, json};

use super::exports::{exported, verify};
use super::log::{checkpoint_of, verifiers, with_entries};
use crate::edge::team::{Person, Team, number, text};
use crate::support::commands::{Ended, crewlog, crewlog_on, run};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("proofs", "the_command_line_exports", exports),
        both("proofs", "the_command_line_follows", follows),
        both("proofs", "the_command_line_tells_access", access),
        both("proofs", "an_export_is_of_ocsf", ocsf),
    ]
}

async fn listed(server: &Server, log: &str, reader: &Person, query: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("{log}?order=asc&limit=200&{query}{cursor}");
        let page = server.get(&path).bearer(&reader.token).await.expect(200);
        all.extend(page.body["data"].as_array().expect("a list").clone());
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn lines(text: &str) -> Vec<Value> {
    let line = |line| serde_json::from_str(line).expect("a line of JSON");
    text.lines().map(line).collect()
}

fn audit(store: &StoreUnderTest, arguments: &[&str]) -> Ended {
    run(crewlog_on(store, &[&["audit"], arguments].concat()))
}

/// Renames a workspace, and answers with the position.
async fn rename(server: &Server, path: &str, owner: &Person) -> u64 {
    let name = json!({"name": format!("Renamed {}", number())});
    let call = server.patch(path).bearer(&owner.token).json(name);
    let reply = call.await.expect(200);
    let position = reply.header("crewlog-position").expect("a position");
    position.parse().expect("a number")
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

async fn exports(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    with_entries(&server, 5).await;
    let (owner, path) = with_entries(&server, 300).await;
    let workspace = path.rsplit('/').next().expect("an id").to_owned();
    let head = rename(&server, &path, &owner).await;
    checkpoint_of(&server, head).await;
    let [key] = &verifiers(&server).await[..] else {
        panic!("one key");
    };
    let list = listed(&server, &format!("{path}/audit"), &owner, "").await;
    let scratch = tempfile::tempdir().expect("a folder");
    for format in ["jsonl", "csv", "ocsf"] {
        let file = scratch.path().join(format);
        let to = shown(&file);
        let arguments = ["export", "--workspace", &workspace, "--format", format];
        let ended = audit(&store, &[&arguments[..], &["--output", &to]].concat()).expect(0);
        assert_eq!(ended.stdout, "", "{format}");
        assert!(ended.stderr.contains("exported 3"), "{}", ended.stderr);
        let told = run(crewlog(&[
            "verify",
            "--json",
            "--offline",
            &to,
            "--key",
            key,
        ]));
        let told = told.expect(0).json();
        assert_eq!(told["entries"], list.len(), "{format}: {told}");
        assert_eq!(told["about"]["format"], format);
        assert_eq!(told["about"]["complete"], true, "{format}");
        // The same on stdout, but for when it was made.
        let printed = audit(&store, &arguments).expect(0).stdout;
        let kept = std::fs::read_to_string(&file).expect("the file");
        let entries = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.truncate(list.len());
            lines
        };
        assert_eq!(entries(&printed), entries(&kept), "{format}");
        assert!(verify(printed.as_bytes(), None, key).holds(), "{format}");
    }
    let jsonl = std::fs::read_to_string(scratch.path().join("jsonl")).expect("the file");
    let jsonl = lines(&jsonl);
    let entries: Vec<_> = jsonl.iter().filter_map(|line| line.get("entry")).collect();
    assert_eq!(entries, list.iter().collect::<Vec<_>>());
    a_range(&store, &server, (&workspace, &path, &owner), key).await;
    refused(&store, &workspace, scratch.path());

    // Beside the server it goes up to what was written last, of which there is no checkpoint yet.
    let list = list.len() as u64;
    rename(&server, &path, &owner).await;
    up_to_now(&store, &workspace, key, list + 1);

    // With no server, too: the checkpoint is made here, once.
    rename(&server, &path, &owner).await;
    server.kill().await;
    up_to_now(&store, &workspace, key, list + 2);
    up_to_now(&store, &workspace, key, list + 2);
}

fn up_to_now(store: &StoreUnderTest, workspace: &str, key: &str, entries: u64) {
    let ended = audit(store, &["export", "--workspace", workspace]).expect(0);
    let report = verify(ended.stdout.as_bytes(), None, key);
    assert!(report.holds(), "{report:#?}");
    assert_eq!(report.entries, entries, "{}", ended.stderr);
}

async fn a_range(
    store: &StoreUnderTest,
    server: &Server,
    (workspace, path, owner): (&str, &str, &Person),
    key: &str,
) {
    let list = listed(server, &format!("{path}/audit"), owner, "").await;
    let at = |index: usize| list[index]["position"].to_string();
    let when = |index: usize| text(&list[index], "/recorded_at");
    for (range, expected) in [
        (
            vec!["--after".to_owned(), at(9), "--before".to_owned(), at(20)],
            10,
        ),
        (
            vec!["--from".to_owned(), when(30), "--to".to_owned(), when(45)],
            15,
        ),
    ] {
        let range: Vec<_> = range.iter().map(String::as_str).collect();
        let arguments = [&["export", "--workspace", workspace], &range[..]].concat();
        let ended = audit(store, &arguments).expect(0);
        let report = verify(ended.stdout.as_bytes(), None, key);
        assert!(report.holds(), "{range:?}: {report:#?}");
        assert_eq!(report.entries, expected, "{range:?}");
    }
}

/// What cannot be exported says so, and leaves no file.
fn refused(store: &StoreUnderTest, workspace: &str, scratch: &Path) {
    let nobodys = "ws_01h455vb4pex5vsknk084sn02q";
    let to = shown(&scratch.join("none"));
    let arguments = ["export", "--workspace", nobodys, "--output", &to];
    audit(store, &arguments).refused_with(&["audit log"]);
    assert!(!scratch.join("none").exists());
    audit(store, &["export"]).expect(2);
    let both = [
        "--workspace",
        workspace,
        "--organization",
        "org_01h455vb4pex5vsknk084sn02q",
    ];
    audit(store, &[&["export"], &both[..]].concat()).expect(2);
    audit(
        store,
        &["export", "--workspace", workspace, "--format", "xml"],
    )
    .expect(2);
    let nowhere = [
        "export",
        "--workspace",
        workspace,
        "--output",
        "/nowhere/at/all",
    ];
    audit(store, &nowhere).refused_with(&["/nowhere/at/all"]);
    let left = std::fs::read_dir(scratch).expect("the folder");
    assert_eq!(left.count(), 3, "nothing but the exports");
}

async fn follows(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    let (owner, path) = with_entries(&server, 3).await;
    let workspace = path.rsplit('/').next().expect("an id").to_owned();
    let first = rename(&server, &path, &owner).await;
    let (after, before) = (first.to_string(), (first + 21).to_string());
    let command = crewlog_on(
        &store,
        &[
            "audit",
            "tail",
            "--workspace",
            &workspace,
            "--after",
            &after,
            "--before",
            &before,
        ],
    );
    let following = tokio::task::spawn_blocking(move || run(command));
    let mut last = first;
    while last < first + 21 {
        last = rename(&server, &path, &owner).await;
    }
    let ended = following.await.expect("it ends").expect(0);
    let range = format!("after={after}&before={before}");
    let list = listed(&server, &format!("{path}/audit"), &owner, &range).await;
    assert!(list.len() >= 20);
    assert_eq!(lines(&ended.stdout), list);
    let nobodys = "ws_01h455vb4pex5vsknk084sn02q";
    audit(&store, &["tail", "--workspace", nobodys]).refused_with(&["audit log"]);
}

async fn access(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    let team = Team::make(&server).await;
    let owner = &team.owner;
    let told = server.get(&team.path("/access")).bearer(&owner.token);
    let told = told.await.expect(200).body;
    let position = told["position"].to_string();
    let removed = server.delete(&team.path(&format!("/members/{}", team.member.user)));
    removed.bearer(&owner.token).await;
    let as_of = [
        "access",
        "--workspace",
        &team.workspace,
        "--as-of",
        &position,
    ];
    let then = audit(&store, &[&as_of[..], &["--json"]].concat())
        .expect(0)
        .json();
    let without_time = |report: &Value| report["principals"].clone();
    assert_eq!(without_time(&then), without_time(&told));
    let now = audit(&store, &["access", "--workspace", &team.workspace]).expect(0);
    assert!(now.stdout.contains(&owner.user), "{}", now.stdout);
    assert!(!now.stdout.contains(&team.member.user), "{}", now.stdout);
    let of_one = [&as_of[..], &["--principal", &team.member.user, "--json"]].concat();
    let of_one = audit(&store, &of_one).expect(0).json();
    assert_eq!(of_one["principals"].as_array().map(Vec::len), Some(1));
    let to_come = [
        "access",
        "--workspace",
        &team.workspace,
        "--as-of",
        "999999",
    ];
    audit(&store, &to_come).refused_with(&["as_of"]);
}

async fn ocsf(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    let team = Team::make(&server).await;
    let refused = server.get(&team.path("/limits")).bearer(&team.member.token);
    refused.await.expect(403);
    let [key] = &verifiers(&server).await[..] else {
        panic!("one key");
    };
    let path = team.path("/audit/export?format=ocsf");
    let export = exported(&server, &path, &team.owner.token).await;
    let report = verify(export.as_bytes(), None, key);
    assert!(report.holds(), "{report:#?}");
    let mut events = lines(&export);
    let list = listed(&server, &team.path("/audit"), &team.owner, "").await;
    let last = events.pop().expect("a statement");
    assert!(text(&last, "/unmapped/statement").starts_with("crewlog export v1"));
    assert_eq!(events.len(), list.len());
    for (event, entry) in events.iter().zip(&list) {
        let number = |place: &str| {
            event
                .pointer(place)
                .and_then(Value::as_i64)
                .expect("a number")
        };
        assert_eq!(
            number("/type_uid"),
            number("/class_uid") * 100 + number("/activity_id")
        );
        assert_eq!(number("/category_uid"), number("/class_uid") / 1_000);
        assert_eq!(event["metadata"]["sequence"], entry["position"]);
        assert_eq!(event["metadata"]["uid"], entry["id"]);
        assert_eq!(event["message"], entry["action"]);
        assert_eq!(event["unmapped"]["leaf"], entry["leaf"]);
        assert_eq!(event["unmapped"]["changes"], entry["changes"]);
        let at = chrono::DateTime::parse_from_rfc3339(&text(entry, "/recorded_at"));
        assert_eq!(number("/time"), at.expect("a time").timestamp_millis());
        let status = if entry["outcome"] == "ok" { 1 } else { 2 };
        assert_eq!(number("/status_id"), status);
    }
    let of = |action: &str| {
        let found = events.iter().find(|event| event["message"] == action);
        found.unwrap_or_else(|| panic!("an event of {action}"))
    };
    let joined = of("member.joined");
    assert_eq!(
        (&joined["class_uid"], &joined["privileges"]),
        (&json!(3005), &json!(["owner"]))
    );
    let first = list.iter().find(|entry| entry["action"] == "member.joined");
    assert_eq!(
        joined["user"]["uid"],
        first.expect("an entry")["target"]["id"]
    );
    assert_eq!(joined["src_endpoint"]["ip"], "127.0.0.1");
    assert_eq!(of("member.invited")["entity"]["type"], "invitation");
    let denied = events
        .iter()
        .find(|event| event["status_id"] == 2)
        .expect("a refusal");
    assert_eq!(
        (&denied["class_uid"], &denied["severity_id"]),
        (&json!(6003), &json!(2))
    );
    assert_eq!(denied["actor"]["user"]["uid"], team.member.user.as_str());

    // Who edits it is found out, and where.
    let position = joined["metadata"]["sequence"].as_u64();
    let edited = export.replacen(
        "\"privileges\":[\"owner\"]",
        "\"privileges\":[\"viewer\"]",
        1,
    );
    assert_ne!(edited, export);
    let report = verify(edited.as_bytes(), None, key);
    assert_eq!(report.failures[0].position, position, "{report:#?}");
    let mut cut: Vec<_> = export.lines().collect();
    cut.remove(3);
    assert!(!verify(cut.join("\n").as_bytes(), None, key).holds());
}
