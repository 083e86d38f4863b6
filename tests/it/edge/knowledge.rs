//! What crews know: kept in its crew, edited where it is, and found by its words.

use serde_json::{Value, json};

use super::Running;
use super::routes::{points_at, problem};
use super::team::{Team, text};
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "knowledge_is_edited_where_it_is", edited),
        both("edge", "documents_are_found_by_their_words", found),
        both("edge", "knowledge_stays_in_its_crew", isolated),
    ]
}

/// A new knowledge base: its path.
async fn base(server: &Server, team: &Team, crew: &str, name: &str) -> String {
    let list = team.path(&format!("/crews/{crew}/knowledge-bases"));
    let call = server.post(&list).bearer(&team.member.token);
    let made = call.json(json!({"name": name})).await.expect(201);
    format!("{list}/{}", text(&made.body, "/id"))
}

/// A new document: the answer to it.
async fn document(server: &Server, team: &Team, base: &str, title: &str, says: &str) -> Reply {
    let list = format!("{base}/documents");
    let call = server.post(&list).bearer(&team.member.token);
    call.json(json!({"title": title, "text": says})).await
}

async fn edited(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    // In production too, by every member: what stays in its crew is not promoted.
    let crew = team.crew(&server, "production").await;
    let faq = base(&server, &team, &crew, "FAQ").await;
    let says = "Ask «Wilhelmina».\r\n\tIn UTF-8: 退款\u{0}";
    let made = document(&server, &team, &faq, "Refunds", says).await;
    let made = made.expect(201);
    assert_eq!(made.body["text"], says, "byte for byte");
    assert_eq!(made.body["size"], says.len());
    let one = format!("{faq}/documents/{}", text(&made.body, "/id"));
    let viewer = &team.viewer.token;
    let read = server.get(&one).bearer(viewer).await.expect(200);
    assert_eq!(read.body, made.body);
    let list = format!("{faq}/documents");
    let listed = server.get(&list).bearer(viewer).await.expect(200);
    assert_eq!(listed.body["data"][0].get("text"), None);
    assert_eq!(listed.body["data"][0]["digest"], made.body["digest"]);

    let put = |path: &str, body: Value| server.put(path).bearer(&team.member.token).json(body);
    let tag = made.header("etag").expect("a version").to_owned();
    let shorter = json!({"title": "Refunds", "text": "Within days.", "reason": "shorter"});
    let second = put(&one, shorter.clone()).header("If-Match", &tag).await;
    let second = second.expect(200);
    problem(
        &put(&one, shorter.clone()).header("If-Match", &tag).await,
        412,
        "precondition_failed",
    );
    let again = put(&one, shorter).await.expect(200);
    assert_eq!(
        again.header("etag"),
        second.header("etag"),
        "nothing changed"
    );
    // A document does not move the version of what it is in.
    let before = server.get(&faq).bearer(viewer).await.expect(200);
    document(&server, &team, &faq, "Another", "b")
        .await
        .expect(201);
    let after = server.get(&faq).bearer(viewer).await.expect(200);
    assert_eq!(before.header("etag"), after.header("etag"));

    let other = base(&server, &team, &crew, "Prices").await;
    problem(
        &put(&other, json!({"name": "FAQ"})).await,
        409,
        "name_taken",
    );
    let renamed = put(&faq, json!({"name": "Questions"})).await.expect(200);
    assert_eq!(renamed.body["name"], "Questions");
    for path in [&faq, &one] {
        let body = json!({"name": "x", "title": "x", "text": "x"});
        let names: &[&str] = match path == &faq {
            true => &["name"],
            false => &["title", "text"],
        };
        let body: Value = names
            .iter()
            .map(|name| (*name, body[name].clone()))
            .collect();
        let call = server.put(path).bearer(viewer).json(body);
        problem(&call.await, 403, "not_permitted");
        problem(
            &server.delete(path).bearer(viewer).await,
            403,
            "not_permitted",
        );
    }
    let secret = format!("call with sk_live_{}", "a1".repeat(12));
    let long = "é".repeat(128 * 1024 + 1);
    for (title, says, pointer, code) in [
        ("x", secret.as_str(), "/text", "secret_found"),
        (secret.as_str(), "x", "/title", "secret_found"),
        ("x", "", "/text", "invalid_value"),
        ("x", long.as_str(), "/text", "too_long"),
        (" ", "x", "/title", "invalid_value"),
    ] {
        let reply = document(&server, &team, &faq, title, says).await;
        points_at(&reply, pointer, &[code]);
        assert!(!reply.text.contains("a1a1"), "{}", reply.text);
    }
    told(&server, &team, &made.body, &second.body).await;

    // With a knowledge base go its documents; with its crew nothing, but it changes no more.
    let removal = server.delete(&faq).bearer(&team.member.token);
    removal.await.expect(204);
    for path in [&faq, &one, &list, &format!("{faq}/search?q=days")] {
        problem(&server.get(path).bearer(viewer).await, 404, "not_found");
    }
    let late = document(&server, &team, &faq, "Late", "x").await;
    problem(&late, 404, "not_found");
    document(&server, &team, &other, "Kept", "x")
        .await
        .expect(201);
    let archive = team.path(&format!("/crews/{crew}/archive"));
    let archive = server.post(&archive).bearer(&team.owner.token);
    archive.await.expect(200);
    let late = document(&server, &team, &other, "Late", "x").await;
    problem(&late, 409, "crew_archived");
    let found = format!("{other}/search?q=kept");
    let found = server.get(&found).bearer(viewer).await.expect(200);
    assert_eq!(found.body["data"][0]["title"], "Kept");
    super::held(&store);
}

/// What auditors are told: digests, and nothing that a document says.
async fn told(server: &Server, team: &Team, first: &Value, second: &Value) {
    let path = team.path("/audit?order=asc&q=refunds");
    let page = server.get(&path).bearer(&team.owner.token).await;
    let page = page.expect(200);
    assert!(!page.text.contains("Wilhelmina"), "{}", page.text);
    let entries = page.body["data"].as_array().expect("entries").clone();
    let actions: Vec<_> = entries.iter().map(|entry| text(entry, "/action")).collect();
    assert_eq!(actions, ["document.created", "document.updated"]);
    let change = &entries[1]["changes"][0];
    assert_eq!(change["path"], "text");
    assert_eq!(change["from"], first["digest"]);
    assert_eq!(change["to"], second["digest"]);
    assert_eq!(entries[1]["target"]["type"], "document");
    assert_eq!(entries[1]["target"]["id"], first["id"]);
    assert_eq!(entries[1]["target"]["name"], "Refunds");
    assert_eq!(entries[1]["reason"], "shorter");
    assert_eq!(entries[1]["environment"], "production");
}

async fn search(server: &Server, team: &Team, base: &str, query: &str) -> Vec<String> {
    let path = format!("{base}/search?{query}");
    let reply = server.get(&path).bearer(&team.viewer.token).await;
    let found = reply.expect(200).body["data"]
        .as_array()
        .expect("a list")
        .clone();
    found.iter().map(|one| text(one, "/title")).collect()
}

async fn found(store: StoreUnderTest) {
    let Running { mut server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "staging").await;
    let faq = base(&server, &team, &crew, "FAQ").await;
    let far = "nothing of it. ".repeat(2_000);
    for (title, says) in [
        ("Orders", "The order of an order is the order."),
        ("Refunds", "How a refund of an order is asked for."),
        ("Wörter", "Die Straße am Fluß, und ein Hôtel."),
        ("退款", "如何申请退款"),
        ("Long", format!("{far}Then a refund.").as_str()),
    ] {
        document(&server, &team, &faq, title, says)
            .await
            .expect(201);
    }
    for restarted in [false, true] {
        if restarted {
            // What was counted in memory is counted again.
            server.terminate().await;
            server = Server::start(&store).await;
        }
        for (query, expected) in [
            ("q=refund", &["Refunds", "Long"][..]),
            ("q=REFUND%20order", &["Refunds", "Orders", "Long"]),
            ("q=STRASSE", &["Wörter"]),
            ("q=worter%20hotel", &["Wörter"]),
            ("q=%E9%80%80%E6%AC%BE", &["退款"]),
            ("q=refund&limit=1", &["Refunds"]),
            ("q=refun", &[]),
            ("q=!%3F", &[]),
        ] {
            assert_eq!(
                search(&server, &team, &faq, query).await,
                expected,
                "{query}"
            );
        }
    }
    let path = format!("{faq}/search?q=refund");
    let reply = server
        .get(&path)
        .bearer(&team.viewer.token)
        .await
        .expect(200);
    assert_eq!(reply.body["data"][0]["matches"], 1);
    assert_eq!(
        reply.body["data"][0]["snippets"],
        json!([[
            {"text": "How a ", "matches": false},
            {"text": "refund", "matches": true},
            {"text": " of an order is asked for.", "matches": false},
        ]])
    );
    let long = &reply.body["data"][1]["snippets"];
    assert_eq!(long[0][1], json!({"text": "refund", "matches": true}));
    assert!(text(long, "/0/0/text").len() < 100, "{long}");

    // What it said before, and what was taken out, is found no more.
    let list = format!("{faq}/documents");
    let listed = server.get(&list).bearer(&team.member.token).await;
    let listed = listed.expect(200).body;
    let of = |place: usize| format!("{list}/{}", text(&listed["data"][place], "/id"));
    let put = server.put(&of(1)).bearer(&team.member.token);
    let body = json!({"title": "Returns", "text": "How something is sent back."});
    put.json(body).await.expect(200);
    assert_eq!(search(&server, &team, &faq, "q=refund").await, ["Long"]);
    assert_eq!(search(&server, &team, &faq, "q=back").await, ["Returns"]);
    let removal = server.delete(&of(4)).bearer(&team.member.token);
    removal.await.expect(204);
    let none: [&str; 0] = [];
    assert_eq!(search(&server, &team, &faq, "q=refund").await, none);

    for query in ["", "?q=", "?q=a&limit=0", "?q=a&cursor=x"] {
        let path = format!("{faq}/search{query}");
        let reply = server.get(&path).bearer(&team.viewer.token).await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.text);
    }
    // Nothing that documents say lies beside the log in plain text, nor their words.
    let beside = crate::support::journal::reading(&store).await;
    let rows = beside.query("SELECT sealed FROM blobs", vec![]).await;
    for row in rows.expect("contents") {
        let sealed = String::from_utf8_lossy(row.bytes(0).expect("bytes")).into_owned();
        assert!(!sealed.contains("refund"), "{sealed}");
    }
    super::held(&store);
}

async fn isolated(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let staging = team.crew(&server, "staging").await;
    let second = team.crew(&server, "staging").await;
    let production = team.crew(&server, "production").await;
    // One name in each, and one text in all: kept once, and of each its own.
    let mut bases = Vec::new();
    for crew in [&staging, &second, &production] {
        let base = base(&server, &team, crew, "FAQ").await;
        let made = document(&server, &team, &base, crew, "the same").await;
        let id = text(&made.expect(201).body, "/id");
        bases.push((base, id));
    }
    for ((base, _), crew) in bases.iter().zip([&staging, &second, &production]) {
        assert_eq!(
            search(&server, &team, base, "q=same").await,
            [crew.as_str()]
        );
    }
    let (of_staging, document_of_staging) = &bases[0];
    let base_of_staging = of_staging.rsplit('/').next().expect("an id");
    let elsewhere = team.path(&format!(
        "/crews/{second}/knowledge-bases/{base_of_staging}"
    ));
    let misplaced = format!("{}/documents/{document_of_staging}", bases[1].0);
    for path in [
        elsewhere.clone(),
        format!("{elsewhere}/documents"),
        format!("{elsewhere}/documents/{document_of_staging}"),
        format!("{elsewhere}/search?q=same"),
        misplaced.clone(),
    ] {
        let read = server.get(&path).bearer(&team.owner.token).await;
        problem(&read, 404, "not_found");
    }
    let body = json!({"title": "x", "text": "x"});
    let put = server.put(&misplaced).bearer(&team.owner.token).json(body);
    problem(&put.await, 404, "not_found");

    let key = async |environment: &str, crews: Option<[&String; 1]>, scope: &str| {
        let body = json!({
            "name": "knowledge", "environment": environment, "crews": crews, "scopes": [scope],
        });
        let path = team.path("/api-keys");
        let call = server.post(&path).bearer(&team.owner.token).json(body);
        text(&call.await.expect(201).body, "/secret")
    };
    let bound = key("staging", Some([&second]), "crews:read").await;
    let of_production = key("production", None, "crews:read").await;
    let whole = key("staging", None, "crews:read").await;
    let writes = key("staging", None, "crews:write").await;
    let sends = format!("{of_staging}/documents");
    for (secret, reads, may_write) in [
        (&bound, Some(404), 403),
        (&of_production, Some(404), 403),
        (&whole, None, 403),
        (&writes, Some(403), 201),
    ] {
        for path in [
            of_staging.clone(),
            format!("{of_staging}/search?q=same"),
            sends.clone(),
        ] {
            let reply = server.get(&path).bearer(secret).await;
            assert_eq!(reply.status, reads.unwrap_or(200), "{}", reply.text);
        }
        let body = json!({"title": "By a program", "text": "x"});
        let reply = server.post(&sends).bearer(secret).json(body).await;
        assert_eq!(reply.status, may_write, "{}", reply.text);
    }
    for path in [of_staging.clone(), format!("{of_staging}/search?q=same")] {
        let reply = server.get(&path).bearer(&team.neighbour.token).await;
        problem(&reply, 404, "not_found");
    }
    super::held(&store);
}
