//! What joins crews to the world: who may have what, what is taken at all, and what signs and
//! signs in. That no race breaks a claim is in [`super::claims`].

use crewlog::domain::sealed::KeyOwner;
use crewlog::journal::SystemSource;
use crewlog::journal::sealing::{Keyring, RootKey};
use crewlog::journal::stores::Store;
use serde_json::{Value, json};

use super::Running;
use super::claims::{Site, judge};
use super::routes::{phone_number, points_at, problem};
use super::team::{Team, number, text};
use crate::support::journal::reading;
use crate::support::server::{Call, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "production_shares_no_connection", rules),
        both(
            "edge",
            "production_shares_no_account_nor_endpoint",
            accounts,
        ),
        both("edge", "endpoints_lie_on_the_public_internet", endpoints),
        both("edge", "credentials_are_sealed_and_go", credentials),
    ]
}

/// Something that is claimed: the list that it is added to, and the body that does.
type Wanted = (&'static str, Value);

fn a_number(which: u64) -> Wanted {
    ("phone-numbers", json!({"number": phone_number(which)}))
}

fn a_channel(which: u64) -> Wanted {
    let address = format!("inbox-{which}@example.com");
    ("channels", json!({"kind": "email", "address": address}))
}

fn add(site: &Site, server: &Server, crew: &str, (list, body): &Wanted) -> Call {
    site.add(server, crew, list, body)
}

async fn rules(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let home = Site {
        workspace: team.workspace.clone(),
        token: team.admin.token.clone(),
    };
    let other = Site::make(&server, &team, "Other").await;
    let production = home.crew(&server, "production").await;
    let second = home.crew(&server, "production").await;
    let staging = home.crew(&server, "staging").await;
    let elsewhere = other.crew(&server, "staging").await;
    let (line, inbox) = (a_number(number()), a_channel(number()));

    // A number has one owner, who is named to whoever may see it.
    add(&home, &server, &production, &line).await.expect(201);
    for crew in [&second, &staging] {
        let reply = add(&home, &server, crew, &line).await;
        problem(&reply, 409, "already_claimed");
        assert!(
            text(&reply.body, "/detail").contains(&production),
            "{}",
            reply.text
        );
    }
    let reply = add(&other, &server, &elsewhere, &line).await;
    problem(&reply, 409, "already_claimed");
    assert!(!reply.text.contains(&production), "{}", reply.text);
    let twice = add(&home, &server, &production, &line).await;
    problem(&twice, 409, "already_exists");

    // Production's crews share a channel, and nobody else with them.
    add(&home, &server, &production, &inbox).await.expect(201);
    add(&home, &server, &second, &inbox).await.expect(201);
    let shouted = ("channels", {
        let address = text(&inbox.1, "/address").to_uppercase();
        json!({"kind": "email", "address": address})
    });
    for wanted in [&inbox, &shouted] {
        let reply = add(&home, &server, &staging, wanted).await;
        problem(&reply, 409, "production_apart");
        let detail = text(&reply.body, "/detail");
        assert!(
            detail.contains(&production) || detail.contains(&second),
            "{detail}"
        );
    }
    add(&other, &server, &elsewhere, &inbox).await.expect(201);

    // Changing it frees what was there; archiving frees all.
    let list = team.path(&format!("/crews/{production}/phone-numbers"));
    let there = server
        .get(&list)
        .bearer(&team.viewer.token)
        .await
        .expect(200);
    let one = format!("{list}/{}", text(&there.body, "/data/0/id"));
    let put = server.put(&one).bearer(&team.admin.token);
    put.json(a_number(number()).1).await.expect(200);
    add(&home, &server, &staging, &line).await.expect(201);
    let reply = add(&home, &server, &production, &line).await;
    problem(&reply, 409, "already_claimed");
    home.archive(&server, &staging).await.expect(200);
    let reply = add(&other, &server, &elsewhere, &line).await;
    problem(&reply, 409, "claim_rests");
    add(&home, &server, &second, &line).await.expect(201);
    for crew in [&production, &second] {
        home.archive(&server, crew).await.expect(200);
    }
    let fresh = home.crew(&server, "development").await;
    add(&home, &server, &fresh, &inbox).await.expect(201);

    // What is no number or address is not taken.
    for (list, body, pointer) in [
        (
            "phone-numbers",
            json!({"number": "+1 202 555 0143"}),
            "/number",
        ),
        ("phone-numbers", json!({"number": "2025550143"}), "/number"),
        ("phone-numbers", json!({"number": "+12"}), "/number"),
        (
            "channels",
            json!({"kind": "E-mail", "address": "a"}),
            "/kind",
        ),
        (
            "channels",
            json!({"kind": "email", "address": "a b"}),
            "/address",
        ),
    ] {
        let reply = add(&home, &server, &fresh, &(list, body)).await;
        points_at(&reply, pointer, &["invalid_value"]);
    }
    judge(&store).await;
    super::held(&store);
}

/// Endpoints and accounts in every spelling.
async fn accounts(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let home = Site {
        workspace: team.workspace.clone(),
        token: team.admin.token.clone(),
    };
    let other = Site::make(&server, &team, "Other").await;
    let production = home.crew(&server, "production").await;
    let second = home.crew(&server, "production").await;
    let staging = home.crew(&server, "staging").await;
    let development = home.crew(&server, "development").await;
    let elsewhere = other.crew(&server, "staging").await;
    let endpoint = |url: &str| ("webhook-endpoints", json!({"url": url}));
    let account = |called: &str, kind: &str, account: &str| {
        let body = json!({"name": called, "kind": kind, "account": account});
        ("integrations", body)
    };
    for (taken, spellings, another) in [
        (
            endpoint("https://hooks.example.com/a"),
            vec![
                endpoint("https://HOOKS.example.com:443/a/"),
                endpoint("https://hooks.example.com/a?crew=2"),
                endpoint("https://hooks.example.com/b/../%61"),
            ],
            endpoint("https://hooks.example.com/c"),
        ),
        (
            account("crm", "salesforce", "Acme"),
            vec![account("other", "salesforce", "ACME")],
            account("sales", "hubspot", "Acme"),
        ),
    ] {
        add(&home, &server, &production, &taken).await.expect(201);
        add(&home, &server, &second, &taken).await.expect(201);
        let twice = add(&home, &server, &production, &taken).await;
        problem(&twice, 409, "already_exists");
        for spelling in &spellings {
            for crew in [&staging, &development] {
                let reply = add(&home, &server, crew, spelling).await;
                problem(&reply, 409, "production_apart");
            }
        }
        // Those that are none of production's share; so do workspaces.
        let free = add(&home, &server, &staging, &another).await.expect(201);
        add(&home, &server, &development, &another)
            .await
            .expect(201);
        let reply = add(&home, &server, &second, &another).await;
        problem(&reply, 409, "production_apart");
        add(&other, &server, &elsewhere, &taken).await.expect(201);
        // What is changed to is claimed as well, and refused as a whole.
        let (list, body) = &taken;
        let path = team.path(&format!(
            "/crews/{staging}/{list}/{}",
            text(&free.body, "/id")
        ));
        let reply = server.put(&path).bearer(&team.admin.token).json(body).await;
        problem(&reply, 409, "production_apart");
        let same = server
            .get(&path)
            .bearer(&team.viewer.token)
            .await
            .expect(200);
        assert_eq!(same.header("etag"), free.header("etag"));
    }
    // A name is one integration's in its crew.
    let reply = add(
        &home,
        &server,
        &staging,
        &account("sales", "zendesk", "Acme"),
    )
    .await;
    problem(&reply, 409, "name_taken");
    judge(&store).await;
    super::held(&store);
}

/// What is no endpoint is refused with its pointer; the domain has every spelling.
async fn endpoints(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let home = Site {
        workspace: team.workspace.clone(),
        token: team.admin.token.clone(),
    };
    let crew = home.crew(&server, "development").await;
    for (url, code) in [
        ("http://hooks.example.com/", "invalid_value"),
        ("https://localhost/", "invalid_value"),
        ("https://127.0.0.1:8443/", "invalid_value"),
        ("https://2130706433/", "invalid_value"),
        ("https://[::ffff:169.254.169.254]/", "invalid_value"),
        ("https://metadata.google.internal/", "invalid_value"),
        ("https://user:word@hooks.example.com/", "invalid_value"),
        (
            "https://hooks.example.com/?key=ghp_0123456789abcdefghijABCDEFGHIJ012345",
            "secret_found",
        ),
    ] {
        let reply = add(
            &home,
            &server,
            &crew,
            &("webhook-endpoints", json!({"url": url})),
        )
        .await;
        points_at(&reply, "/url", &[code]);
        assert!(!reply.text.contains("ghp_"), "{}", reply.text);
    }
    let url = "https://hooks.example.com/";
    for events in [json!([]), json!(["Call"]), json!(["a b"]), json!([""])] {
        let body = json!({"url": url, "events": events});
        let reply = add(&home, &server, &crew, &("webhook-endpoints", body)).await;
        points_at(&reply, "/events", &["invalid_value"]);
    }
    for (body, pointer) in [
        (json!({"name": "", "kind": "crm", "account": "a"}), "/name"),
        (
            json!({"name": "a", "kind": "C R M", "account": "a"}),
            "/kind",
        ),
        (
            json!({"name": "a", "kind": "crm", "account": " "}),
            "/account",
        ),
        (
            json!({"name": "a", "kind": "crm", "account": "a", "credentials": {"k": "v".repeat(20_000)}}),
            "/credentials",
        ),
    ] {
        let reply = add(&home, &server, &crew, &("integrations", body)).await;
        points_at(&reply, pointer, &["invalid_value"]);
    }
    for wrong in [json!("a secret"), json!(["a secret"])] {
        let body = json!({"name": "a", "kind": "crm", "account": "a", "credentials": wrong});
        let reply = add(&home, &server, &crew, &("integrations", body)).await;
        points_at(&reply, "/credentials", &["wrong_type"]);
        assert!(!reply.text.contains("a secret"), "{}", reply.text);
    }
    super::held(&store);
}

/// What is sealed, opened as whoever delivers would; by connection, the newest first.
async fn sealed(store: &StoreUnderTest, connection: &str) -> Vec<(String, bool)> {
    let file = store.data_dir().join("root.key");
    let root = std::fs::read_to_string(file).expect("the root key");
    let root = RootKey::from_text(&root).expect("a root key");
    let rows: std::sync::Arc<dyn Store> = reading(store).await;
    let source = std::sync::Arc::new(SystemSource);
    let keys = Keyring::open(rows.clone(), source, &root, false).await;
    let keys = keys.expect("the keys");
    let sql = "SELECT credential, crew, sealed, expires_at FROM credentials
                WHERE connection = $1 ORDER BY expires_at IS NOT NULL";
    let mut opened = Vec::new();
    for row in rows
        .query(sql, vec![connection.into()])
        .await
        .expect("rows")
    {
        let id = row.text(0).expect("an id");
        let key = keys.key(id.parse::<KeyOwner>().expect("an owner"), 1).await;
        let key = key.expect("the key").expect("a key");
        let crew = row.text(1).expect("a crew");
        let bound = format!("credential {crew} {connection} {id}");
        let plain = key.open_bytes(&bound, row.bytes(2).expect("bytes"));
        let plain = String::from_utf8(plain.expect("it opens").to_vec()).expect("text");
        opened.push((plain, row.optional_integer(3).expect("a time").is_some()));
    }
    rows.close().await;
    opened
}

/// A credential is shown once or never, sealed as it was given, replaced with a grace or at once,
/// and destroyed with what it is of.
async fn credentials(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let home = Site {
        workspace: team.workspace.clone(),
        token: team.admin.token.clone(),
    };
    let crew = home.crew(&server, "production").await;
    let token = &team.admin.token;
    let hook = (
        "webhook-endpoints",
        json!({"url": "https://hooks.example.com/"}),
    );
    let made = add(&home, &server, &crew, &hook).await.expect(201).body;
    let first = text(&made, "/secret");
    assert!(first.starts_with("whsec_"));
    let id = text(&made, "/id");
    let path = team.path(&format!("/crews/{crew}/webhook-endpoints/{id}"));
    assert_eq!(sealed(&store, &id).await, [(first.clone(), false)]);

    // Rotated with a grace, twice: two at most are good. Then at once.
    let rotate = async |grace_seconds: u64| {
        let call = server.post(&format!("{path}/rotate")).bearer(token);
        let rotated = call.json(json!({"grace_seconds": grace_seconds})).await;
        let rotated = rotated.expect(200).body;
        assert_eq!(
            rotated["former_secret_until"].is_string(),
            grace_seconds > 0
        );
        text(&rotated, "/secret")
    };
    let second = rotate(3_600).await;
    let both = [(second.clone(), false), (first, true)];
    assert_eq!(sealed(&store, &id).await, both);
    let third = rotate(60).await;
    assert_eq!(sealed(&store, &id).await, [(third, false), (second, true)]);
    let last = rotate(0).await;
    assert_eq!(sealed(&store, &id).await, [(last.clone(), false)]);
    let late = server.post(&format!("{path}/rotate")).bearer(token);
    let late = late.json(json!({"grace_seconds": 604_801})).await;
    points_at(&late, "/grace_seconds", &["invalid_value"]);
    let stale = server.post(&format!("{path}/rotate")).bearer(token);
    let stale = stale
        .header("If-Match", "\"1\"")
        .json(json!({"grace_seconds": 0}));
    problem(&stale.await, 412, "precondition_failed");
    // Another address, the same secret.
    let moved = json!({"url": "https://hooks.example.com/moved"});
    let put = server
        .put(&path)
        .bearer(token)
        .json(moved)
        .await
        .expect(200);
    assert_eq!(put.body["secret"], Value::Null);
    assert_eq!(sealed(&store, &id).await, [(last, false)]);
    server.delete(&path).bearer(token).await.expect(204);
    assert_eq!(sealed(&store, &id).await, []);

    // Of integrations it is the caller's.
    let with = |credentials: Value| {
        let mut body = json!({"name": "crm", "kind": "salesforce", "account": "Acme"});
        if !credentials.is_boolean() {
            body["credentials"] = credentials;
        }
        body
    };
    let body = with(json!({"user": "u", "secret": "one of theirs"}));
    let made = add(&home, &server, &crew, &("integrations", body))
        .await
        .expect(201);
    assert!(!made.text.contains("one of theirs"), "{}", made.text);
    let id = text(&made.body, "/id");
    let path = team.path(&format!("/crews/{crew}/integrations/{id}"));
    let kept = r#"{"secret":"one of theirs","user":"u"}"#;
    assert_eq!(sealed(&store, &id).await, [(kept.to_owned(), false)]);
    let put = async |credentials: Value| {
        let call = server.put(&path).bearer(token).json(with(credentials));
        call.await.expect(200).body["credentials_set_at"].clone()
    };
    assert!(put(json!(false)).await.is_string());
    assert_eq!(sealed(&store, &id).await, [(kept.to_owned(), false)]);
    assert!(put(json!({"secret": "another"})).await.is_string());
    let another = r#"{"secret":"another"}"#.to_owned();
    assert_eq!(sealed(&store, &id).await, [(another, false)]);
    assert!(put(Value::Null).await.is_null());
    assert_eq!(sealed(&store, &id).await, []);
    assert!(put(json!({"secret": "the last"})).await.is_string());
    home.archive(&server, &crew).await.expect(200);
    assert_eq!(sealed(&store, &id).await, []);

    // The log tells that it happened, and not what it is.
    let log = server
        .get(&team.path("/audit?limit=200"))
        .bearer(&team.owner.token);
    let log = log.await.expect(200);
    for (action, count) in [
        ("webhook_endpoint.added", 1),
        ("webhook_endpoint.credential_set", 4),
        ("webhook_endpoint.changed", 1),
        ("integration.credential_set", 3),
        ("integration.credential_removed", 1),
    ] {
        let entries = log.body["data"].as_array().into_iter().flatten();
        let found = entries.filter(|entry| entry["action"] == action).count();
        assert_eq!(found, count, "{action}");
    }
    for secret in ["whsec_", "one of theirs", "another\""] {
        assert!(!log.text.contains(secret), "{secret} is in the audit log");
    }
    super::held(&store);
}
