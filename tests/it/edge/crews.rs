//! Crews as a whole: what they are called, who reaches them, how they end.

use crewlog::journal::stores::{Statement, Value as StoreValue};
use serde_json::{Value, json};

use super::Running;
use super::routes::{points_at, problem};
use super::secrets::{Secrets, absent_in_store};
use super::team::{Person, Team, text};
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "a_crew_lives_and_is_archived", life),
        both("edge", "keys_reach_their_crews_alone", reach),
        both("edge", "crews_are_told_and_found_by_auditors", told),
        both("edge", "what_a_crew_is_for_is_sealed", sealed),
        both("edge", "agents_are_versioned_and_kept_once", agents),
        both("edge", "production_is_protected", protected),
        both(
            "edge",
            "contents_are_verified_and_orphans_collected",
            orphans,
        ),
        both(
            "edge",
            "who_dies_while_staging_leaves_nothing",
            dies_while_staging,
        ),
    ]
}

/// A key of the workspace that reads and writes crews.
async fn key(server: &Server, team: &Team, environment: &str, crews: Option<&[&String]>) -> String {
    let body = json!({
        "name": "crews", "environment": environment, "crews": crews,
        "scopes": ["crews:read", "crews:write"],
    });
    let call = server
        .post(&team.path("/api-keys"))
        .bearer(&team.owner.token);
    text(&call.json(body).await.expect(201).body, "/secret")
}

async fn ids(server: &Server, team: &Team, token: &str, query: &str) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = team.path(&format!("/crews?limit=2{query}{cursor}"));
        let page = server.get(&path).bearer(token).await.expect(200).body;
        let data = page["data"].as_array().expect("a list");
        all.extend(data.iter().map(|crew| text(crew, "/id")));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

async fn life(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crews = team.path("/crews");
    let post = |person: &Person, body: Value| {
        let call = server.post(&crews).bearer(&person.token);
        call.json(body)
    };
    let short = post(
        &team.admin,
        json!({"name": "prod", "environment": "production"}),
    );
    let made = short.await.expect(201);
    let warning = text(&made.body, "/warnings/0/detail");
    assert!(warning.contains("`Acme Corp - Production`"), "{warning}");
    let crew = team.path(&format!("/crews/{}", text(&made.body, "/id")));
    assert_eq!(made.header("location"), Some(crew.as_str()));
    let body = json!({"name": "prod", "environment": "production"});
    problem(&post(&team.member, body).await, 403, "not_permitted");
    for (body, pointer) in [
        (json!({"name": " ", "environment": "production"}), "/name"),
        (json!({"name": "a", "environment": "qa"}), "/environment"),
        (
            json!({"name": "a", "environment": "staging", "client": "x".repeat(121)}),
            "/client",
        ),
        (
            json!({"name": "a", "environment": "staging", "description": "x".repeat(501)}),
            "/description",
        ),
    ] {
        let reply = post(&team.admin, body).await;
        points_at(&reply, pointer, &["invalid_value", "too_long"]);
    }

    let patch = |person: &Person, body: Value| {
        let call = server.patch(&crew).bearer(&person.token);
        call.json(body)
    };
    let tag = made.header("etag").expect("a version").to_owned();
    let body = json!({"name": "Acme Corp - Production", "client": "Acme Corp", "description": "d"});
    let named = patch(&team.member, body.clone()).header("If-Match", &tag);
    let named = named.await.expect(200);
    assert_eq!(named.body["client"], "Acme Corp");
    assert!(named.body.get("warnings").is_none(), "{}", named.text);
    let stale = patch(&team.member, json!({"client": null})).header("If-Match", &tag);
    problem(&stale.await, 412, "precondition_failed");
    // Nothing happens where it is so already; the version stays.
    let again = patch(&team.member, body).await.expect(200);
    assert_eq!(again.header("etag"), named.header("etag"));
    let nobodys = patch(&team.member, json!({"client": null}))
        .await
        .expect(200);
    assert_eq!(nobodys.body["client"], Value::Null);
    assert_eq!(nobodys.body["description"], "d");
    problem(
        &patch(&team.viewer, json!({"name": "x"})).await,
        403,
        "not_permitted",
    );

    // Another crew does not move this one's version.
    let other = team.crew(&server, "staging").await;
    let read = server
        .get(&crew)
        .bearer(&team.viewer.token)
        .await
        .expect(200);
    assert_eq!(read.header("etag"), nobodys.header("etag"));

    let owner = &team.owner.token;
    let id = text(&made.body, "/id");
    assert_eq!(
        ids(&server, &team, owner, "").await,
        [id.clone(), other.clone()]
    );
    let archive = format!("{crew}/archive");
    let call = |person: &Person| server.post(&archive).bearer(&person.token);
    problem(&call(&team.member).await, 403, "not_permitted");
    let archived = call(&team.admin)
        .json(json!({"reason": "moved"}))
        .await
        .expect(200);
    assert_eq!(archived.body["status"], "archived");
    problem(&call(&team.admin).await, 409, "crew_archived");
    problem(
        &patch(&team.member, json!({"name": "x"})).await,
        409,
        "crew_archived",
    );
    assert_eq!(
        ids(&server, &team, owner, "&status=active").await,
        std::slice::from_ref(&other)
    );
    assert_eq!(ids(&server, &team, owner, "&status=archived").await, [id]);
    assert_eq!(
        ids(&server, &team, owner, "&environment=staging").await,
        [other]
    );
    assert!(
        ids(&server, &team, owner, "&client=Nobody")
            .await
            .is_empty()
    );
    super::held(&store);
}

async fn reach(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let staging = team.crew(&server, "staging").await;
    let second = team.crew(&server, "staging").await;
    let production = team.crew(&server, "production").await;
    let of_staging = key(&server, &team, "staging", None).await;
    let bound = key(&server, &team, "staging", Some(&[&second])).await;
    assert_eq!(
        ids(&server, &team, &of_staging, "").await,
        [staging.clone(), second.clone()]
    );
    assert_eq!(
        ids(&server, &team, &bound, "").await,
        std::slice::from_ref(&second)
    );
    let read = async |secret: &str, crew: &str| -> Reply {
        let path = team.path(&format!("/crews/{crew}"));
        server.get(&path).bearer(secret).await
    };
    let rename = async |secret: &str, crew: &str| -> Reply {
        let path = team.path(&format!("/crews/{crew}"));
        let call = server.patch(&path).bearer(secret);
        call.json(json!({"name": "By a program"})).await
    };
    for (secret, crew, is_reached) in [
        (&of_staging, &staging, true),
        (&of_staging, &production, false),
        (&bound, &second, true),
        (&bound, &staging, false),
        (&bound, &production, false),
    ] {
        for reply in [read(secret, crew).await, rename(secret, crew).await] {
            match is_reached {
                true => assert_eq!(reply.status, 200, "{}", reply.text),
                false => problem(&reply, 404, "not_found"),
            }
        }
        let question = json!({"key": secret, "crew": crew});
        let verdict = server.post("/v1/api-keys/verify").json(question).await;
        assert_eq!(verdict.expect(200).body["valid"], is_reached);
    }
    let create = async |secret: &str, environment: &str| -> Reply {
        let body = json!({"name": "By a program", "environment": environment});
        server
            .post(&team.path("/crews"))
            .bearer(secret)
            .json(body)
            .await
    };
    create(&of_staging, "staging").await.expect(201);
    problem(
        &create(&of_staging, "production").await,
        403,
        "not_permitted",
    );
    problem(&create(&bound, "staging").await, 403, "not_permitted");
    // A key is bound to crews that there are, of its own environment.
    for crews in [vec![&production], vec![&staging, &production]] {
        let body = json!({
            "name": "crews", "environment": "staging", "crews": crews, "scopes": ["crews:read"],
        });
        let call = server
            .post(&team.path("/api-keys"))
            .bearer(&team.owner.token);
        points_at(&call.json(body).await, "/crews", &["invalid_value"]);
    }
    // Nobody's crew is there for a neighbour.
    let elsewhere = format!(
        "/v1/workspaces/{}/crews/{staging}",
        team.neighbours_workspace
    );
    let reply = server.get(&elsewhere).bearer(&team.neighbour.token).await;
    problem(&reply, 404, "not_found");
    super::held(&store);
}

async fn told(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let staging = team.crew(&server, "staging").await;
    let production = team.crew(&server, "production").await;
    let path = team.path(&format!("/crews/{production}"));
    let rename = server.patch(&path).bearer(&team.admin.token);
    let body = json!({"name": "Acme Corp - Production", "reason": "says whose"});
    rename.json(body).await.expect(200);
    problem(
        &server
            .post(&format!("{path}/archive"))
            .bearer(&team.viewer.token)
            .await,
        403,
        "not_permitted",
    );
    let bound = key(&server, &team, "production", None).await;
    let other = team.path(&format!("/crews/{staging}"));
    problem(&server.get(&other).bearer(&bound).await, 404, "not_found");
    let actions = async |query: &str| -> Vec<(String, String)> {
        let path = team.path(&format!("/audit?order=asc&{query}"));
        let page = server
            .get(&path)
            .bearer(&team.owner.token)
            .await
            .expect(200);
        let entries = page.body["data"].as_array().expect("entries");
        let told = |entry: &Value| (text(entry, "/action"), text(entry, "/outcome"));
        entries.iter().map(told).collect()
    };
    let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        let owned = |(action, outcome): &(&str, &str)| ((*action).into(), (*outcome).into());
        all.iter().map(owned).collect()
    };
    assert_eq!(
        actions(&format!("crew={production}")).await,
        pairs(&[
            ("crew.listed", "ok"),
            ("crew.created", "ok"),
            ("crew.updated", "ok"),
            ("crew.archived", "denied"),
        ])
    );
    assert_eq!(
        actions("environment=staging").await,
        pairs(&[
            ("crew.listed", "ok"),
            ("crew.created", "ok"),
            ("crew.read", "denied")
        ])
    );
    let entries = team.path("/audit?action=crew.updated");
    let page = server
        .get(&entries)
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let entry = &page.body["data"][0];
    assert_eq!(entry["crew"], json!(production));
    assert_eq!(entry["environment"], "production");
    assert_eq!(entry["reason"], "says whose");
    assert_eq!(entry["changes"][0]["path"], "name");
    assert_eq!(entry["changes"][0]["to"], "Acme Corp - Production");
    // The organization knows which crews there are, and nothing of what is inside.
    let log = format!(
        "/v1/organizations/{}/audit?crew={production}",
        team.organization
    );
    let page = server
        .get(&log)
        .bearer(&team.organization_owner.token)
        .await
        .expect(200);
    let entries = page.body["data"].as_array().expect("entries");
    let seen: Vec<_> = entries.iter().map(|entry| text(entry, "/action")).collect();
    assert_eq!(seen, ["crew.archived", "crew.listed"], "{entries:?}");

    // With the workspace every crew ends.
    let name = server
        .get(&team.path(""))
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let delete = server.delete(&team.path("")).bearer(&team.owner.token);
    let confirm = json!({"confirm": text(&name.body, "/name")});
    delete.json(confirm).await.expect(204);
    problem(
        &server.get(&path).bearer(&team.owner.token).await,
        404,
        "not_found",
    );
    let question = json!({"key": bound, "crew": production});
    let verdict = server.post("/v1/api-keys/verify").json(question).await;
    assert_eq!(verdict.expect(200).body["code"], "revoked");
    super::held(&store);
}

/// How many contents a store holds.
async fn contents(store: &crate::support::trials::StoreUnderTest) -> i64 {
    let store = crate::support::journal::reading(store).await;
    let rows = store.query("SELECT COUNT(*) FROM blobs", vec![]).await;
    rows.expect("contents")[0].integer(0).expect("a number")
}

/// What a crew is for is free text: told to whoever may see the crew, kept sealed, gone with the
/// workspace's key.
async fn sealed(store: StoreUnderTest) {
    let Running { mut server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let texts = ["Anrufe-der-Zahnklinik", "Termine-der-Zahnklinik"];
    let body = json!({
        "name": "Acme Corp - Staging", "environment": "staging", "description": texts[0],
    });
    let (owner, admin) = (&team.owner.token, &team.admin.token);
    let call = server.post(&team.path("/crews")).bearer(admin);
    let made = call.json(body).await.expect(201);
    let crew = team.path(&format!("/crews/{}", text(&made.body, "/id")));
    assert_eq!(made.body["description"], texts[0]);
    let position = made.header("crewlog-position").expect("a position");
    let then = format!("{crew}?as_of={position}");

    let describe = async |body: Value| server.patch(&crew).bearer(admin).json(body).await;
    let again = describe(json!({"description": texts[0]})).await.expect(200);
    assert_eq!(again.header("etag"), made.header("etag"), "nothing is new");
    let named = describe(json!({"name": "Acme - Staging"}))
        .await
        .expect(200);
    assert_eq!(named.body["description"], texts[0], "it stays");
    let both = json!({"client": "Acme Corp", "description": texts[1]});
    let both = describe(both).await.expect(200);
    let told = (&both.body["client"], &both.body["description"]);
    assert_eq!(told, (&json!("Acme Corp"), &json!(texts[1])));
    // Two at once: each is decided on what the other left.
    let others = ["Rezepte-der-Zahnklinik", "Notdienst-der-Zahnklinik"];
    let bodies = others.map(|text| describe(json!({"description": text})));
    let [one, other] = <[Reply; 2]>::try_from(futures::future::join_all(bodies).await)
        .unwrap_or_else(|replies| panic!("two: {replies:?}"));
    for reply in [one, other] {
        reply.expect(200);
    }
    let gone = describe(json!({"description": null})).await.expect(200);
    assert_eq!(gone.body["description"], Value::Null);
    let back = describe(json!({"description": texts[0]})).await.expect(200);
    assert_eq!(back.body["description"], texts[0]);

    // Each entry has what was and what is; it is found by none of it.
    let changes = async |query: &str| -> Vec<(Value, Value)> {
        let path = team.path(&format!("/audit?order=asc&{query}"));
        let page = server.get(&path).bearer(owner).await.expect(200).body;
        let entries = page["data"].as_array().expect("entries").iter();
        let changes = entries.flat_map(|entry| entry["changes"].as_array().expect("changes"));
        let described = changes.filter(|change| change["path"] == "description");
        described
            .map(|it| (it["from"].clone(), it["to"].clone()))
            .collect()
    };
    let told = changes("q=crew").await;
    let pair = |from: &Value, to: &Value| (from.clone(), to.clone());
    let (null, first, second) = (Value::Null, json!(texts[0]), json!(texts[1]));
    assert_eq!(told.len(), 6, "{told:?}");
    assert_eq!(told[..2], [pair(&null, &first), pair(&first, &second)]);
    assert_eq!(told[2].0, second);
    assert_eq!((&told[2].1, &told[4].0), (&told[3].0, &told[3].1));
    assert_eq!(told[4..], [pair(&told[3].1, &null), pair(&null, &first)]);
    for text in texts {
        assert!(changes(&format!("q={text}")).await.is_empty(), "{text}");
    }
    let export = server.get(&team.path("/audit/export")).bearer(owner);
    let export = export.await.expect(200).text;
    let lines = export
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).expect("JSON") });
    let openings: Vec<_> = lines
        .filter_map(|line| line["openings"].as_array().cloned())
        .flatten()
        .map(|opening| text(&opening, "/value"))
        .collect();
    for text in texts.iter().chain(&others) {
        let times = openings.iter().filter(|value| value == text).count();
        assert!(
            times >= 2,
            "{text} is opened for others as what is, and as what was"
        );
    }

    let mut secrets = Secrets::default();
    for text in texts.iter().chain(&others) {
        secrets.keep("what a crew is for", text);
    }
    absent_in_store(&store, &secrets).await;
    let read = async |server: &Server, path: &str| -> Value {
        server.get(path).bearer(owner).await.expect(200).body["description"].clone()
    };
    assert_eq!(read(&server, &then).await, texts[0]);
    // As when somebody destroys the workspace's key; what is in memory goes with the process.
    let destroy = format!(
        "DELETE FROM subject_keys WHERE owner = '{}'",
        team.workspace
    );
    server.behind_its_back(&[destroy]).await;
    server.terminate().await;
    let server = Server::start(&store).await;
    for path in [&crew, &then] {
        assert_eq!(read(&server, path).await, "erased", "{path}");
    }
    let list = server
        .get(&team.path("/crews"))
        .bearer(owner)
        .await
        .expect(200);
    assert_eq!(list.body["data"][0]["description"], "erased");
    let named = json!({"name": "Acme Corp - Development"});
    let named = server
        .patch(&crew)
        .bearer(admin)
        .json(named)
        .await
        .expect(200);
    assert_eq!(named.body["description"], "erased");
    absent_in_store(&store, &secrets).await;
    super::held(&store);
}

async fn agents(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "staging").await;
    let list = team.path(&format!("/crews/{crew}/agents"));
    let post = |body: Value| server.post(&list).bearer(&team.member.token).json(body);
    let config = json!({"b": 1.0, "a": [{"$slot": "integration/crm"}]});
    let made = post(json!({"name": "Greeter", "config": config}))
        .await
        .expect(201);
    // Canonical, byte for byte, and named by its digest.
    let canonical = r#"{"a":[{"$slot":"integration/crm"}],"b":1}"#;
    assert!(made.text.contains(canonical), "{}", made.text);
    assert_eq!(made.body["size"], canonical.len());
    let one = format!("{list}/{}", text(&made.body, "/id"));
    problem(
        &post(json!({"name": "Greeter", "config": {}})).await,
        409,
        "name_taken",
    );
    let pathways = team.path(&format!("/crews/{crew}/pathways"));
    let call = server.post(&pathways).bearer(&team.member.token);
    let same = call.json(json!({"name": "Greeter", "config": config}));
    let same = same.await.expect(201);
    assert_eq!(same.body["digest"], made.body["digest"]);

    let put = |body: Value| server.put(&one).bearer(&team.member.token).json(body);
    let tag = made.header("etag").expect("a version").to_owned();
    let second = put(json!({"name": "Greeter", "config": {"v": 2}})).header("If-Match", &tag);
    let second = second.await.expect(200);
    let stale = put(json!({"name": "Greeter", "config": {}})).header("If-Match", &tag);
    problem(&stale.await, 412, "precondition_failed");
    let again = put(json!({"name": "Greeter", "config": {"v": 2}}))
        .await
        .expect(200);
    assert_eq!(again.header("etag"), second.header("etag"));
    for (version, config) in [
        (&made.body["version"], &config),
        (&second.body["version"], &json!({"v": 2})),
    ] {
        let path = format!("{one}/versions/{version}");
        let read = server
            .get(&path)
            .bearer(&team.viewer.token)
            .await
            .expect(200);
        assert_eq!(
            read.body["config"].to_string(),
            config.to_string().replace("1.0", "1")
        );
    }
    for (body, pointer, code) in [
        (json!({"name": "x", "config": []}), "/config", "wrong_type"),
        (
            json!({"name": "x", "config": {"k": [format!("ghp_{}", "a1".repeat(18))]}}),
            "/config/k/0",
            "secret_found",
        ),
        (
            json!({"name": "x", "config": {"k": {"$slot": "crm"}}}),
            "/config/k/$slot",
            "invalid_value",
        ),
        (
            json!({"name": "x", "config": {"k": "x".repeat(256 * 1024)}}),
            "/config",
            "invalid_value",
        ),
    ] {
        points_at(&post(body).await, pointer, &[code]);
    }
    // Nested as deep as bodies may be, and no deeper.
    for (depth, status) in [(31, 201), (32, 400)] {
        let nested = (0..depth).fold(json!(1), |inner, _| json!({"k": inner}));
        let reply = post(json!({"name": format!("Deep {depth}"), "config": nested})).await;
        assert_eq!(reply.status, status, "{}", reply.text);
    }
    // The same contents in another crew and another version are kept once.
    let before = contents(&store).await;
    let other = team.crew(&server, "development").await;
    let elsewhere = team.path(&format!("/crews/{other}/agents"));
    let call = server.post(&elsewhere).bearer(&team.member.token);
    let copy = call.json(json!({"name": "Copy", "config": {"v": 2}}));
    let copy = copy.await.expect(201);
    assert_eq!(contents(&store).await, before);
    // What is of another crew is not in this one.
    let foreign = format!("{list}/{}", text(&copy.body, "/id"));
    problem(
        &server.get(&foreign).bearer(&team.owner.token).await,
        404,
        "not_found",
    );

    server
        .delete(&one)
        .bearer(&team.member.token)
        .await
        .expect(204);
    problem(
        &server.get(&one).bearer(&team.member.token).await,
        404,
        "not_found",
    );
    // Of what was removed every version is still told.
    let versions = server
        .get(&format!("{one}/versions"))
        .bearer(&team.viewer.token);
    let versions = versions.await.expect(200).body["data"].clone();
    let told: Vec<_> = versions.as_array().expect("versions").iter().collect();
    assert_eq!(told.len(), 2);
    for (version, config) in told.iter().zip([canonical, r#"{"v":2}"#]) {
        let path = format!("{one}/versions/{}", version["version"]);
        let read = server.get(&path).bearer(&team.viewer.token).await;
        assert_eq!(read.expect(200).body["config"].to_string(), config);
    }
    once_a_workspace(&server, &store, &team).await;
    super::held(&store);
}

/// One configuration in many crews and versions of two workspaces is kept twice.
async fn once_a_workspace(server: &Server, store: &StoreUnderTest, team: &Team) {
    let before = contents(store).await;
    let config = |n: usize| json!({"prompt": "the same everywhere", "n": n});
    let mut sites = Vec::new();
    for environment in ["development", "staging"] {
        sites.push((
            team.crew(server, environment).await,
            &team.workspace,
            &team.owner,
        ));
    }
    let crews = format!("/v1/workspaces/{}/crews", team.neighbours_workspace);
    let body = json!({"name": "Next Door", "environment": "staging"});
    let made = server.post(&crews).bearer(&team.neighbour.token).json(body);
    let made = text(&made.await.expect(201).body, "/id");
    sites.push((made, &team.neighbours_workspace, &team.neighbour));
    for (crew, workspace, person) in &sites {
        let list = format!("/v1/workspaces/{workspace}/crews/{crew}/agents");
        for name in ["One", "Two", "Three"] {
            let body = json!({"name": name, "config": config(0)});
            let made = server.post(&list).bearer(&person.token).json(body);
            let one = format!("{list}/{}", text(&made.await.expect(201).body, "/id"));
            for n in [1, 0, 1] {
                let body = json!({"name": name, "config": config(n)});
                let put = server.put(&one).bearer(&person.token).json(body);
                put.await.expect(200);
            }
        }
    }
    assert_eq!(contents(store).await, before + 4, "two in each workspace");
}

/// How many contents nothing has pinned.
async fn unpinned(store: &StoreUnderTest) -> i64 {
    let store = crate::support::journal::reading(store).await;
    let sql = "SELECT COUNT(*) FROM blobs WHERE pinned = 0";
    let rows = store.query(sql, vec![]).await;
    rows.expect("contents")[0].integer(0).expect("a number")
}

/// The program is killed when it has staged a content and not written, or not answered, the
/// command that names it.
async fn dies_while_staging(store: StoreUnderTest) {
    let Running { mut server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "staging").await;
    let list = team.path(&format!("/crews/{crew}/agents"));
    let call = server.post(&list).bearer(&team.member.token);
    let body = |n: usize| json!({"name": "Greeter", "config": {"n": n}});
    let made = call.json(body(0)).await.expect(201);
    let one = format!("{list}/{}", text(&made.body, "/id"));
    server.terminate().await;
    let points = [
        "append_before_send",
        "append_after_send",
        "append_after_commit",
    ];
    for (point, n) in points.into_iter().zip(1..) {
        let mut command = Server::command(&store);
        command.env("CREWLOG_FAIL_POINT", format!("{point}:1"));
        let mut dying = Server::launch(command).await;
        let put = dying.put(&one).bearer(&team.member.token).json(body(n));
        assert!(put.attempt().await.is_err(), "{point} answered");
        assert!(!dying.ended().await.success());
        assert!(dying.logs().contains("aborting"), "{}", dying.logs());
        let left = unpinned(&store).await;
        match point {
            "append_before_send" => assert_eq!(left, 1, "staged, and not pinned"),
            "append_after_commit" => assert_eq!(left, 0, "pinned by the append"),
            // Whether that was written is the store's to say.
            _ => assert!(left <= 1),
        }
        super::held(&store);
        // Some hours later.
        let opened = crate::support::journal::open_store(&store).await;
        let later = "UPDATE blobs SET staged_at = staged_at - 10800000000";
        let later = Statement::new(later, []);
        opened.execute(vec![later]).await.expect("an older content");
        opened.close().await;
        drop(opened);
        let mut server = Server::start(&store).await;
        super::eventually("what was left to be collected", async || {
            (unpinned(&store).await == 0).then_some(())
        })
        .await;
        // What was not done can be done again, with the same content.
        let put = server.put(&one).bearer(&team.member.token).json(body(n));
        let put = put.await.expect(200);
        assert_eq!(put.body["config"], body(n)["config"]);
        assert_eq!(unpinned(&store).await, 0);
        server.terminate().await;
    }
    assert_eq!(contents(&store).await, 4);
    super::held(&store);
}

async fn protected(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "production").await;
    let list = team.path(&format!("/crews/{crew}/agents"));
    let post = |person: &Person, body: Value| server.post(&list).bearer(&person.token).json(body);
    let plain = json!({"name": "Greeter", "config": {}});
    let glass = json!({
        "name": "Greeter", "config": {}, "break_glass": {"reason": "clients cannot call"},
    });
    for person in [&team.owner, &team.member] {
        problem(
            &post(person, plain.clone()).await,
            409,
            "production_protected",
        );
    }
    problem(
        &post(&team.member, glass.clone()).await,
        403,
        "not_permitted",
    );
    let secret = key(&server, &team, "production", None).await;
    let by_key = server.post(&list).bearer(&secret).json(&glass);
    problem(&by_key.await, 403, "not_for_api_keys");
    let made = post(&team.admin, glass).await.expect(201);
    let path = team.path("/audit?q=break%20glass");
    let page = server
        .get(&path)
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let entries = page.body["data"].as_array().expect("entries");
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0]["break_glass"], true);
    assert_eq!(entries[0]["reason"], "clients cannot call");
    assert_eq!(entries[0]["target"]["id"], made.body["id"]);
    assert_eq!(entries[0]["changes"][1]["to"], made.body["digest"]);
    let one = format!("{list}/{}", text(&made.body, "/id"));
    problem(
        &server.delete(&one).bearer(&team.owner.token).await,
        409,
        "production_protected",
    );
    // Where the policy allows edits, no glass is broken.
    let policy = server.put(&team.path("/policy")).bearer(&team.owner.token);
    policy
        .json(json!({"production_changes": "direct"}))
        .await
        .expect(200);
    server
        .delete(&one)
        .bearer(&team.member.token)
        .await
        .expect(204);
    let removed = team.path("/audit?action=agent.removed");
    let page = server
        .get(&removed)
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let entry = &page.body["data"].as_array().expect("entries")[0];
    assert_eq!(entry["break_glass"], false);
    super::held(&store);
}

async fn orphans(store: StoreUnderTest) {
    let Running { mut server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "staging").await;
    let list = team.path(&format!("/crews/{crew}/agents"));
    let call = server.post(&list).bearer(&team.member.token);
    let body = json!({"name": "Greeter", "config": {"prompt": "Hello"}});
    let made = call.json(body).await.expect(201);
    server.terminate().await;

    // A content of a process that died between staging and appending, long ago.
    let opened = crate::support::journal::open_store(&store).await;
    let left = "INSERT INTO blobs (workspace, digest, size, key_version, sealed, staged_at)
                SELECT workspace, $1, size, key_version, sealed, 1 FROM blobs";
    let left = Statement::new(left, [StoreValue::from(&[7_u8; 32][..])]);
    opened.execute(vec![left]).await.expect("an orphan");
    opened.close().await;
    // The lock on the file goes with it.
    drop(opened);
    assert_eq!(contents(&store).await, 2);
    super::held(&store);
    let mut server = Server::start(&store).await;
    super::eventually("the orphan to be collected", async || {
        (contents(&store).await == 1).then_some(())
    })
    .await;
    let one = format!("{list}/{}", text(&made.body, "/id"));
    let read = server
        .get(&one)
        .bearer(&team.viewer.token)
        .await
        .expect(200);
    assert_eq!(read.body["config"], json!({"prompt": "Hello"}));
    server.terminate().await;

    // A changed content, and one that is gone, are found.
    let verify = |told: &str| {
        let (data, url) = (store.data_dir(), store.database_url());
        let output = super::crewlog(data, url, &["verify"]).output();
        let output = output.expect("the program to run");
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{found}");
        assert!(found.contains(told), "{found}");
    };
    for (sql, told) in [
        ("UPDATE blobs SET sealed = $1", "was changed"),
        ("DELETE FROM blobs WHERE digest <> $1", "is missing"),
    ] {
        let opened = crate::support::journal::open_store(&store).await;
        let spoil = Statement::new(sql, [StoreValue::from(&[1_u8; 80][..])]);
        opened
            .execute(vec![spoil])
            .await
            .expect("a changed content");
        opened.close().await;
        drop(opened);
        verify(told);
    }
}
