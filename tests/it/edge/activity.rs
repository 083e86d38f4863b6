//! The activity of crews: sent, read back, kept to its crew, and deleted in the end.

use crewlog::journal::{Source, SystemSource};
use serde_json::{Value, json};

use super::Running;
use super::routes::{points_at, problem};
use super::team::{Person, Team, number, text};
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "activity_is_read_back", read_back),
        both("edge", "a_batch_is_answered_once", answered_once),
        both("edge", "activity_stays_in_its_crew", isolated),
        both("edge", "activity_is_kept_for_a_while", kept),
    ]
}

fn hours_ago(hours: i64) -> String {
    let at = SystemSource.now().plus(-chrono::TimeDelta::hours(hours));
    at.to_rfc3339()
}

fn record(id: &str, hours: i64) -> Value {
    json!({"id": id, "at": hours_ago(hours), "kind": "call.ended"})
}

async fn send(server: &Server, path: &str, token: &str, records: &[Value]) -> Reply {
    let call = server.post(path).bearer(token);
    call.json(json!({"records": records})).await
}

/// The ids of all records, in pages of two.
async fn ids(server: &Server, path: &str, token: &str, query: &str) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("{path}?limit=2{query}{cursor}");
        let page = server.get(&path).bearer(token).await.expect(200).body;
        let data = page["data"].as_array().expect("a list");
        all.extend(data.iter().map(|record| text(record, "/id")));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// The first answer to an idempotency key is told again, whatever has become of the crew.
async fn answered_once(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "production").await;
    let path = team.path(&format!("/crews/{crew}/activity"));
    let send = async |key: &str, records: &[Value], person: &Person| {
        let call = server.post(&path).bearer(&person.token);
        let call = call.header("Idempotency-Key", key);
        call.json(json!({"records": records})).await
    };
    let batch = [record("one", 1), record("two", 1)];
    let (member, admin) = (&team.member, &team.admin);
    let first = send("a", &batch, member).await.expect(200);
    assert_eq!(first.body["accepted"], 2);
    assert_eq!(first.header("idempotent-replayed"), None);
    // Without a key, or with another's, it is known.
    for reply in [
        self::send(&server, &path, &member.token, &batch).await,
        send("a", &batch, admin).await,
        send("b", &batch, member).await,
    ] {
        assert_eq!(reply.expect(200).body["known"], 2);
    }
    archive(&server, &team, &crew).await;
    let again = send("a", &batch, member).await.expect(200);
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let position = first.header("crewlog-position").map(str::to_owned);
    assert_eq!(
        again.header("crewlog-position").map(str::to_owned),
        position
    );
    let other = send("a", &batch[..1], member).await;
    problem(&other, 422, "idempotency_key_reused");
    // What was refused is not kept.
    problem(&send("c", &batch, member).await, 409, "crew_archived");
    problem(&send("a", &batch, &team.viewer).await, 403, "not_permitted");
    let call = server.post(&path).bearer(&member.token);
    let call = call
        .header("If-Match", "\"1\"")
        .json(json!({"records": batch}));
    problem(&call.await, 400, "invalid_request");
    super::held(&store);
}

async fn archive(server: &Server, team: &Team, crew: &str) {
    let path = team.path(&format!("/crews/{crew}/archive"));
    server
        .post(&path)
        .bearer(&team.admin.token)
        .await
        .expect(200);
}

async fn read_back(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "production").await;
    let path = team.path(&format!("/crews/{crew}/activity"));
    let token = &team.member.token;
    let full = json!({
        "id": "full", "at": hours_ago(1), "kind": "call.failed", "level": "error",
        "message": "No answer\nfrom the caller", "data": {"client": "Zwölf AG", "tries": [1, 2]},
    });
    let batch = [
        record("oldest", 5),
        record("B", 3),
        full.clone(),
        record("a", 2),
    ];
    let sent = send(&server, &path, token, &batch).await.expect(200);
    assert_eq!(
        sent.body,
        json!({"accepted": 4, "known": 0, "expired": 0}),
        "{}",
        sent.text
    );
    // Sent again it changes nothing, whatever it says now; what is new with it is taken.
    let other = json!({"id": "full", "at": hours_ago(4), "kind": "other"});
    let again = [other, record("new", 4), record("new", 4)];
    let sent = send(&server, &path, token, &again).await.expect(200);
    assert_eq!(sent.body, json!({"accepted": 1, "known": 2, "expired": 0}));
    let viewer = &team.viewer.token;
    let all = ["full", "a", "B", "new", "oldest"];
    assert_eq!(ids(&server, &path, viewer, "").await, all);
    let read = server.get(&path).bearer(viewer).await.expect(200);
    let shown = &read.body["data"][0];
    for name in ["id", "kind", "level", "message", "data"] {
        assert_eq!(shown[name], full[name], "{name}");
    }
    assert_eq!(read.body["data"][1]["level"], Value::Null);

    for (query, found) in [
        ("&kind=call.failed", vec!["full"]),
        ("&kind=call", vec![]),
        ("&level=error", vec!["full"]),
        ("&level=info", vec![]),
        ("&q=ANSWER", vec!["full"]),
        ("&q=zw%C3%B6lf%20caller", vec!["full"]),
        ("&q=answer%20nobody", vec![]),
    ] {
        assert_eq!(ids(&server, &path, viewer, query).await, found, "{query}");
    }
    let between = |from: &Value, to: &Value| {
        let time = |value: &Value| value.as_str().expect("a time").to_owned();
        format!("&from={}&to={}", time(from), time(to))
    };
    let query = between(&batch[1]["at"], &batch[2]["at"]);
    assert_eq!(ids(&server, &path, viewer, &query).await, ["a", "B"]);

    // Records of one time are in the order of their ids, and none is lost between pages, though
    // new ones come meanwhile.
    let at = hours_ago(10);
    let same: Vec<_> = ["x", "Y", "z", "é"]
        .map(|id| json!({"id": id, "at": at, "kind": "same"}))
        .into();
    send(&server, &path, token, &same).await.expect(200);
    let first = format!("{path}?limit=2&kind=same");
    let first = server.get(&first).bearer(viewer).await.expect(200).body;
    let newer = json!({"id": "newer", "at": hours_ago(9), "kind": "same"});
    send(&server, &path, token, &[newer]).await.expect(200);
    let rest = format!(
        "&kind=same&cursor={}",
        first["next_cursor"].as_str().expect("more")
    );
    let rest = format!("{path}?limit=2{rest}");
    let rest = server.get(&rest).bearer(viewer).await.expect(200).body;
    let of = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().expect("a list");
        data.iter().map(|record| text(record, "/id")).collect()
    };
    assert_eq!(of(&first), ["é", "z"]);
    assert_eq!(of(&rest), ["x", "Y"]);
    assert_eq!(rest["next_cursor"], Value::Null);

    let mut wrong = record("wrong", 1);
    for (field, value, code) in [
        ("id", json!("x".repeat(101)), "too_long"),
        ("kind", json!("Call Ended"), "invalid_value"),
        ("level", json!("loud"), "invalid_value"),
        ("message", json!("x".repeat(4_001)), "too_long"),
        ("data", json!([1]), "wrong_type"),
        ("data", json!({"x": "x".repeat(8 * 1024)}), "invalid_value"),
        ("at", json!("yesterday"), "invalid_value"),
        ("more", json!(1), "unknown_field"),
    ] {
        let good = wrong.clone();
        wrong[field] = value;
        let reply = send(&server, &path, token, &[good.clone(), wrong]).await;
        points_at(&reply, &format!("/records/1/{field}"), &[code]);
        wrong = good;
    }
    let many: Vec<_> = (0..501).map(|n| record(&format!("r{n}"), 1)).collect();
    let reply = send(&server, &path, token, &many).await;
    points_at(&reply, "/records", &["too_long"]);
    for records in [&[][..], &[record("ahead", -48)]] {
        let reply = send(&server, &path, token, records).await;
        points_at(&reply, "/records", &["invalid_value"]);
    }
    send(&server, &path, token, &many[1..]).await.expect(200);
    assert_eq!(
        ids(&server, &path, viewer, "&q=answer").await,
        ["full"],
        "found behind many others"
    );

    // An archived crew takes no more, and still shows what it has done.
    let archive = team.path(&format!("/crews/{crew}/archive"));
    let archive = server.post(&archive).bearer(&team.owner.token);
    archive.await.expect(200);
    let late = send(&server, &path, token, &[record("late", 1)]).await;
    problem(&late, 409, "crew_archived");
    assert_eq!(
        ids(&server, &path, viewer, "&kind=call.failed").await,
        ["full"]
    );
    super::held(&store);
}

async fn key(server: &Server, team: &Team, environment: &str, crew: Option<&String>) -> String {
    let body = json!({
        "name": format!("Activity {}", number()), "environment": environment,
        "scopes": ["activity:write", "crews:read"], "crews": crew.map(|crew| [crew]),
    });
    let call = server.post(&team.path("/api-keys"));
    let made = call.bearer(&team.owner.token).json(body);
    text(&made.await.expect(201).body, "/secret")
}

async fn isolated(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let production = team.crew(&server, "production").await;
    let second = team.crew(&server, "production").await;
    let staging = team.crew(&server, "staging").await;
    let path = |crew: &str| team.path(&format!("/crews/{crew}/activity"));
    let owner = &team.owner.token;
    for (crew, id) in [(&production, "one"), (&second, "two"), (&staging, "three")] {
        // The same ids in each, beside one of its own.
        let records = [record("shared", 1), record("again", 2), record(id, 3)];
        let sent = send(&server, &path(crew), owner, &records).await;
        assert_eq!(sent.expect(200).body["accepted"], 3);
    }
    assert_eq!(
        ids(&server, &path(&production), owner, "").await,
        ["shared", "again", "one"]
    );
    // A cursor of another crew finds what is this one's.
    let list = format!("{}?limit=1", path(&second));
    let page = server.get(&list).bearer(owner).await.expect(200).body;
    let cursor = text(&page, "/next_cursor");
    let list = format!("{}?cursor={cursor}", path(&production));
    let page = server.get(&list).bearer(owner).await.expect(200).body;
    let found: Vec<_> = page["data"].as_array().expect("a list").iter().collect();
    assert!(
        found
            .iter()
            .all(|record| !["two", "three"].contains(&&*text(record, "/id")))
    );

    let of_production = key(&server, &team, "production", None).await;
    let of_staging = key(&server, &team, "staging", None).await;
    let bound = key(&server, &team, "production", Some(&second)).await;
    for (secret, crew, is_reached) in [
        (&of_production, &production, true),
        (&of_production, &staging, false),
        (&of_staging, &production, false),
        (&of_staging, &staging, true),
        (&bound, &second, true),
        (&bound, &production, false),
    ] {
        let sent = send(&server, &path(crew), secret, &[record("by-key", 1)]).await;
        let read = server.get(&path(crew)).bearer(secret).await;
        for reply in [sent, read] {
            match is_reached {
                true => assert_eq!(reply.status, 200, "{}", reply.text),
                false => problem(&reply, 404, "not_found"),
            }
        }
    }
    // Reading crews is not sending their activity, and the other way round.
    for (scope, sends) in [("crews:read", false), ("activity:write", true)] {
        let body = json!({"name": scope, "environment": "staging", "scopes": [scope]});
        let call = server.post(&team.path("/api-keys")).bearer(owner);
        let secret = text(&call.json(body).await.expect(201).body, "/secret");
        let sent = send(&server, &path(&staging), &secret, &[record("scoped", 1)]).await;
        let read = server.get(&path(&staging)).bearer(&secret).await;
        let (may, may_not) = match sends {
            true => (sent, read),
            false => (read, sent),
        };
        assert_eq!(may.status, 200, "{}", may.text);
        problem(&may_not, 403, "scope_missing");
    }
    // Another workspace, by its own path and by this one's.
    let neighbour = &team.neighbour.token;
    let elsewhere = format!(
        "/v1/workspaces/{}/crews/{production}/activity",
        team.neighbours_workspace
    );
    for path in [elsewhere, path(&production)] {
        let sent = send(&server, &path, neighbour, &[record("foreign", 1)]).await;
        problem(&sent, 404, "not_found");
        problem(&server.get(&path).bearer(neighbour).await, 404, "not_found");
    }
    assert_eq!(
        ids(&server, &path(&production), owner, "").await.len(),
        4,
        "its own, and what its key has sent"
    );
    // What was refused is told, in the crew's own log; what was sent is no event.
    let refused = team.path(&format!("/audit?crew={production}&outcome=denied"));
    let page = server.get(&refused).bearer(owner).await.expect(200).body;
    let entries = page["data"].as_array().expect("entries").clone();
    let mut actions: Vec<_> = entries.iter().map(|entry| text(entry, "/action")).collect();
    actions.sort_unstable();
    actions.dedup();
    assert_eq!(actions, ["activity.read", "activity.send"], "{entries:?}");
    let sent = team.path("/audit?action=activity.send&outcome=ok");
    let page = server.get(&sent).bearer(owner).await.expect(200).body;
    assert_eq!(page["data"], json!([]));
    super::held(&store);
}

/// How many records a store holds, of all crews.
async fn records(store: &StoreUnderTest) -> i64 {
    let store = crate::support::journal::reading(store).await;
    let rows = store.query("SELECT COUNT(*) FROM activity", vec![]).await;
    rows.expect("activity")[0].integer(0).expect("a number")
}

async fn kept(store: StoreUnderTest) {
    let Running { mut server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "staging").await;
    let path = team.path(&format!("/crews/{crew}/activity"));
    let owner = &team.owner.token;
    // More than one statement deletes, and one that says something that nobody else may read.
    let mut said = record("said", 1);
    said["message"] = json!("the caller is Wilhelmina");
    for batch in 0..3 {
        let old: Vec<_> = (0..500)
            .map(|n| record(&format!("old-{batch}-{n}"), 48))
            .collect();
        send(&server, &path, owner, &old).await.expect(200);
    }
    let sent = send(&server, &path, owner, &[said, record("ancient", 31 * 24)]).await;
    assert_eq!(
        sent.expect(200).body,
        json!({"accepted": 1, "known": 0, "expired": 1})
    );
    assert_eq!(records(&store).await, 1_501);
    {
        let beside = crate::support::journal::reading(&store).await;
        let rows = beside.query("SELECT sealed FROM activity WHERE id = 'said'", vec![]);
        let rows = rows.await.expect("a record");
        let sealed = String::from_utf8_lossy(rows[0].bytes(0).expect("bytes")).into_owned();
        assert!(!sealed.contains("Wilhelmina"), "{sealed}");
    }
    server.terminate().await;

    let mut command = Server::command(&store);
    command.args(["--activity-retention-days", "1"]);
    let server = Server::launch(command).await;
    // What is past is not shown, though it is deleted later.
    assert_eq!(ids(&server, &path, owner, "").await, ["said"]);
    super::eventually("old records to be deleted", async || {
        (records(&store).await == 1).then_some(())
    })
    .await;
    let old = send(&server, &path, owner, &[record("old-0-0", 48)]).await;
    assert_eq!(old.expect(200).body["expired"], 1);

    let name = server.get(&team.path("")).bearer(owner).await.expect(200);
    let delete = server.delete(&team.path("")).bearer(owner);
    let confirm = json!({"confirm": text(&name.body, "/name")});
    delete.json(confirm).await.expect(204);
    problem(&server.get(&path).bearer(owner).await, 404, "not_found");
    super::eventually("the workspace's activity to be deleted", async || {
        (records(&store).await == 0).then_some(())
    })
    .await;
    super::held(&store);
}
