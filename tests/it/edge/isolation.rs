//! What is in a crew is there for nobody who comes from elsewhere: walked over every route below
//! a crew that the table in [`super::routes`] has, so that a new one is walked as well.
//!
//! Each is asked by whoever has no part in the workspace, by keys of every other crew, environment,
//! workspace and organization, with ids of one crew under another, with cursors and filters of
//! another; and what has ids of crews in its body or its filters is asked in [`by_other_ways`].
//! Every refusal is the same as for what was never there, to the letter.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Running;
use super::routes::{Ask, ROUTES, Route, World, new_connection, problem};
use super::team::{Person, number, text};
use crate::support::server::Reply;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "crews_are_isolated_on_every_route", walk),
        both("edge", "crews_are_isolated_by_other_ways", by_other_ways),
    ]
}

const ENVIRONMENTS: [&str; 3] = ["development", "staging", "production"];

/// Somebody who asks: what to say of them, and what they hold.
struct Outsider {
    name: String,
    token: String,
    /// A workspace where they may everything that they may anywhere.
    home: Option<String>,
}

/// A key with every scope of its kind.
async fn key(world: &World, path: &str, by: &Person, body: Value) -> String {
    let call = world.server.post(path).bearer(&by.token).json(body);
    text(&call.await.expect(201).body, "/secret")
}

fn terms(environment: &str, crews: Value) -> Value {
    let scopes: Vec<_> = crewlog::domain::api_keys::KeyScope::OF_WORKSPACE
        .iter()
        .map(|scope| scope.name())
        .collect();
    let mut terms = json!({"name": "walks", "environment": environment, "scopes": scopes});
    if !crews.is_null() {
        terms["crews"] = crews;
    }
    terms
}

impl Outsider {
    /// Everybody who has no part in the workspace, or in none of its crews.
    async fn all(world: &World) -> Vec<Self> {
        let team = &world.team;
        let people = [
            (
                "a neighbour",
                &team.neighbour,
                Some(&team.neighbours_workspace),
            ),
            ("the organization's owner", &team.organization_owner, None),
            ("a stranger", &team.stranger, None),
            ("the organization's billing", &team.billing, None),
            (
                "the organization's auditor",
                &team.organization_auditor,
                None,
            ),
        ];
        let mut all = Vec::new();
        for (name, person, home) in people {
            let (name, token) = (name.to_owned(), person.token.clone());
            let home = home.cloned();
            all.push(Self { name, token, home });
        }
        let neighbours = format!("/v1/workspaces/{}/api-keys", team.neighbours_workspace);
        for environment in ENVIRONMENTS {
            let body = terms(environment, Value::Null);
            all.push(Self {
                name: format!("a neighbour's key of {environment}"),
                token: key(world, &neighbours, &team.neighbour, body).await,
                home: Some(team.neighbours_workspace.clone()),
            });
        }
        let scopes: Vec<_> = crewlog::domain::api_keys::KeyScope::OF_ORGANIZATION
            .iter()
            .map(|scope| scope.name())
            .collect();
        let body = json!({"name": "walks", "scopes": scopes});
        let path = format!("/v1/organizations/{}/api-keys", team.organization);
        all.push(Self {
            name: "a key of the organization".to_owned(),
            token: key(world, &path, &team.organization_owner, body.clone()).await,
            home: None,
        });
        let more = json!({"organization": {"name": "Elsewhere"}});
        let (other, reply) = Person::sign_up_with(&world.server, "elsewhere", more).await;
        let path = text(&reply.body, "/organization/id");
        let path = format!("/v1/organizations/{path}/api-keys");
        all.push(Self {
            name: "a key of another organization".to_owned(),
            token: key(world, &path, &other, body).await,
            home: None,
        });
        all
    }

    /// Keys of the workspace that do not reach this crew: of other environments, and of one that
    /// names other crews.
    async fn within(world: &World, environment: &str, other: &str) -> Vec<Self> {
        let (team, path) = (&world.team, world.team.path("/api-keys"));
        let mut all = Vec::new();
        for of in ENVIRONMENTS {
            let crews = if of == environment {
                json!([other])
            } else {
                Value::Null
            };
            all.push(Self {
                name: format!("a key of {of} for {crews}"),
                token: key(world, &path, &team.owner, terms(of, crews)).await,
                home: None,
            });
        }
        all
    }
}

/// The id as it would be of something that was never there.
fn never(id: &str) -> String {
    let (kept, last) = id.split_at(id.len() - 4);
    let turned = last.chars().map(|c| if c == '7' { '8' } else { '7' });
    kept.chars().chain(turned).collect()
}

/// The segments of a path that are ids of things inside a crew, and of the crew itself.
fn ids(path: &str) -> Vec<String> {
    let (_, below) = path.split_once("/crews/").expect("a path below crews");
    let segments = below.split('/').filter(|segment| segment.contains('_'));
    segments.map(str::to_owned).collect()
}

/// Asks for it and for what was never there, and compares: both are not there, and say the same.
async fn is_not_there(world: &World, name: &str, token: &str, ask: &Ask, foreign: &[String]) {
    let reply = world.send(ask).bearer(token).await;
    assert_eq!(reply.status, 404, "{name}: {}", reply.text);
    problem(&reply, 404, "not_found");
    let nowhere = foreign.iter().fold(ask.path.clone(), |path, id| {
        path.replace(id.as_str(), &never(id))
    });
    assert_ne!(nowhere, ask.path, "{name}");
    let of_nothing = world.send(&ask.at(nowhere)).bearer(token).await;
    let told = |reply: &Reply| {
        let mut body = reply.body.clone();
        body["request_id"] = Value::Null;
        body
    };
    assert_eq!(told(&reply), told(&of_nothing), "{name}");
    for id in ids(&ask.path) {
        assert!(
            !reply.text.contains(&id),
            "{name} tells of {id}: {}",
            reply.text
        );
    }
}

async fn walk(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let outsiders = Outsider::all(&world).await;
    let document = world.server.get("/openapi.json").await.expect(200).body;
    let below: Vec<_> = ROUTES
        .iter()
        .filter(|route| route.path.contains("{crew}"))
        .collect();
    assert!(below.len() >= 40, "{}", below.len());
    for route in below {
        route_is_isolated(&world, route, &outsiders).await;
        if route.is_list() {
            list_is_isolated(&world, route, &document).await;
        }
    }
    super::held(&store);
}

async fn route_is_isolated(world: &World, route: &Route, outsiders: &[Outsider]) {
    let (team, owner) = (&world.team, &world.team.owner);
    let ask = world.fresh(route, owner).await;
    let other = world.fresh(route, owner).await;
    let (here, there) = (ids(&ask.path), ids(&other.path));
    let crew = team.path(&format!("/crews/{}", here[0]));
    let read = async |path: &str| {
        world
            .server
            .get(path)
            .bearer(&owner.token)
            .await
            .expect(200)
    };
    let environment = text(&read(&crew).await.body, "/environment");
    for outsider in outsiders {
        let name = format!("{} by {}", route.name(), outsider.name);
        is_not_there(world, &name, &outsider.token, &ask, &here[..1]).await;
        if let Some(home) = &outsider.home {
            let guessed = ask.at(ask.path.replace(&team.workspace, home));
            is_not_there(world, &name, &outsider.token, &guessed, &here[..1]).await;
        }
    }
    for outsider in Outsider::within(world, &environment, &there[0]).await {
        let name = format!("{} by {}", route.name(), outsider.name);
        is_not_there(world, &name, &outsider.token, &ask, &here[..1]).await;
    }
    // What is in one crew is not in the other, whoever asks: its ids below the other's.
    let reaching = terms(&environment, Value::Null);
    let reaching = key(world, &team.path("/api-keys"), owner, reaching).await;
    for (mixed, foreign) in mixtures(&here, &there) {
        let path = here
            .iter()
            .zip(&mixed)
            .fold(ask.path.clone(), |path, (from, to)| {
                path.replace(from.as_str(), to)
            });
        for token in [&owner.token, &reaching] {
            let name = format!("{} as {path}", route.name());
            is_not_there(world, &name, token, &ask.at(path.clone()), &foreign).await;
        }
    }
    // Nothing of that has touched it.
    let reply = world.send(&ask).bearer(&owner.token).await;
    assert!(reply.status < 300, "{}: {}", route.name(), reply.text);
}

/// Every way to write ids of two crews into one path, but for those that are of one; each with
/// the ids that are not of its crew.
fn mixtures(here: &[String], there: &[String]) -> Vec<(Vec<String>, Vec<String>)> {
    let ways = 1_u32 << here.len();
    let pick = |way: u32| {
        let of = |bit: usize| if way >> bit & 1 == 0 { here } else { there };
        let mixed = (0..here.len()).map(|bit| of(bit)[bit].clone());
        let is_foreign = |bit: &usize| way >> bit & 1 != way & 1;
        let foreign = (0..here.len()).filter(is_foreign);
        (
            mixed.collect(),
            foreign.map(|bit| of(bit)[bit].clone()).collect(),
        )
    };
    (1..ways - 1).map(pick).collect()
}

/// The query parameters of an operation that are filters.
fn filters(document: &Value, route: &Route) -> Vec<String> {
    let operation = &document["paths"][route.path]["get"]["parameters"];
    let parameters = operation.as_array().into_iter().flatten();
    let of_query = parameters.filter(|one| one["in"] == "query");
    let names = of_query.map(|one| text(one, "/name"));
    names
        .filter(|name| !["limit", "cursor", "format"].contains(&name.as_str()))
        .collect()
}

/// A list shows what is in its crew, with cursors and filters of another as well.
async fn list_is_isolated(world: &World, route: &Route, document: &Value) {
    let owner = &world.team.owner;
    let [one, other] = [
        world.fresh(route, owner).await,
        world.fresh(route, owner).await,
    ];
    let read = async |path: &str| {
        let reply = world.server.get(path).bearer(&owner.token).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply
    };
    let ids_of = |reply: &Reply| {
        let data = reply.body["data"].as_array().cloned().unwrap_or_default();
        // Items of a version list have one id, and a version each; some things have no id.
        let of = |one: &Value| match &one["id"] {
            Value::Null => one.to_string(),
            id => format!("{id} {}", one["version"]),
        };
        data.iter().map(of).collect::<BTreeSet<_>>()
    };
    let foreign = read(&format!("{}?limit=200", one.path)).await;
    let own = read(&format!("{}?limit=200", other.path)).await;
    let (theirs, ours) = (ids_of(&foreign), ids_of(&own));
    assert!(
        !theirs.is_empty() && theirs.is_disjoint(&ours),
        "{}",
        route.name()
    );
    let mut queries = Vec::new();
    let first = read(&format!("{}?limit=1", one.path)).await;
    if let Some(cursor) = first.body["next_cursor"].as_str() {
        queries.push(format!("cursor={cursor}"));
    }
    for filter in filters(document, route) {
        let datum = &foreign.body["data"][0];
        let value = match (filter.as_str(), datum[&filter].as_str()) {
            ("from", _) => "2020-01-01T00:00:00Z".to_owned(),
            ("to", _) => "2120-01-01T00:00:00Z".to_owned(),
            ("as_of", _) => foreign.header("crewlog-position").expect("one").to_owned(),
            (_, Some(value)) => value.to_owned(),
            _ => text(datum, "/message"),
        };
        queries.push(format!("{filter}={value}"));
    }
    for query in queries {
        let shown = ids_of(&read(&format!("{}?{query}", other.path)).await);
        assert!(
            shown.is_subset(&ours),
            "{}?{query}: {shown:?}",
            route.name()
        );
    }
}

/// Where ids and names of crews, and of what is in them, stand in bodies and filters.
async fn by_other_ways(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let (server, team) = (&world.server, &world.team);
    let (owner, neighbour) = (&team.owner, &team.neighbour);
    let crew = team.crew(server, "production").await;
    let named = format!("crm of {}", number());
    let mut integration = new_connection("integrations");
    integration["name"] = json!(named);
    let list = team.path(&format!("/crews/{crew}/integrations"));
    let made = server.post(&list).bearer(&owner.token).json(&integration);
    let id = text(&made.await.expect(201).body, "/id");
    let account = text(&integration, "/account");
    let home = format!("/v1/workspaces/{}", team.neighbours_workspace);

    // The audit log of another workspace.
    for query in [
        format!("crew={crew}"),
        format!("target={crew}"),
        format!("target={id}"),
        format!("q={account}"),
        format!("q={}", named.replace(' ', "%20")),
        format!("crew={crew}&environment=production"),
        "limit=200".to_owned(),
    ] {
        let path = format!("{home}/audit?{query}");
        let page = server.get(&path).bearer(&neighbour.token).await.expect(200);
        for secret in [&crew, &id, &account] {
            assert!(
                !page.text.contains(secret.as_str()),
                "{query} tells of {secret}"
            );
        }
    }
    // That of the organization has the crew, and nothing of what is in it.
    let path = format!("/v1/organizations/{}/audit?limit=200", team.organization);
    for officer in [&team.organization_owner, &team.organization_auditor] {
        let page = server.get(&path).bearer(&officer.token).await.expect(200);
        assert!(page.text.contains(&crew));
        for inside in [&id, &account, &named] {
            assert!(!page.text.contains(inside.as_str()), "{inside}");
        }
    }

    // Keys of another workspace that name it; a gateway that asks for it.
    let path = format!("{home}/api-keys");
    let wrong = async |crew: &str| {
        let call = server.post(&path).bearer(&neighbour.token);
        let reply = call.json(terms("production", json!([crew]))).await;
        problem(&reply, 422, "invalid_body");
        reply.body["errors"].clone()
    };
    assert_eq!(wrong(&crew).await, wrong(&never(&crew)).await);
    let secret = key(&world, &path, neighbour, terms("production", Value::Null)).await;
    let verdict = async |crew: &str| {
        let body = json!({"key": secret, "crew": crew});
        server
            .post("/v1/api-keys/verify")
            .json(body)
            .await
            .expect(200)
            .body
    };
    let told = verdict(&crew).await;
    assert_eq!(
        (&told["valid"], &told["code"]),
        (&json!(false), &json!("crew_not_allowed"))
    );
    assert_eq!(told, verdict(&never(&crew)).await);
    // Whether somebody may do something in it.
    let can = async |crew: &str| {
        let body = json!({"principal": neighbour.user, "action": "crew.read", "crew": crew});
        let call = server.post(&format!("{home}/can")).bearer(&neighbour.token);
        let reply = call.json(body).await;
        assert!(
            reply.status >= 400 || reply.body["allowed"] == json!(false),
            "{}",
            reply.text
        );
        (
            reply.status,
            reply.body["code"].clone(),
            reply.body["errors"].clone(),
        )
    };
    assert_eq!(can(&crew).await, can(&never(&crew)).await);

    // A list of crews shows a key those that it reaches.
    let staging = team.crew(server, "staging").await;
    let other = team.crew(server, "production").await;
    for (crews, reached) in [
        (json!([other]), BTreeSet::from([other.clone()])),
        (Value::Null, BTreeSet::from([crew.clone(), other.clone()])),
    ] {
        let secret = key(
            &world,
            &team.path("/api-keys"),
            owner,
            terms("production", crews),
        )
        .await;
        for query in [
            "limit=200",
            "limit=200&environment=production",
            "limit=200&status=active",
        ] {
            let path = team.path(&format!("/crews?{query}"));
            let page = server.get(&path).bearer(&secret).await.expect(200).body;
            let shown = page["data"].as_array().into_iter().flatten();
            let shown: BTreeSet<_> = shown.map(|one| text(one, "/id")).collect();
            assert_eq!(shown, reached, "{query}");
        }
        let path = team.path("/crews?environment=staging");
        let page = server.get(&path).bearer(&secret).await.expect(200).body;
        assert_eq!(page["data"], json!([]));
    }

    // A slot is a name of one's own crew: another's tells nothing of what is called so there.
    let agents = team.path(&format!("/crews/{staging}/agents"));
    let slot = json!({"$slot": format!("integration/{named}")});
    let body = json!({"name": "Curious", "config": {"tool": slot}});
    let made = server
        .post(&agents)
        .bearer(&owner.token)
        .json(body)
        .await
        .expect(201);
    let path = format!("{agents}/{}", text(&made.body, "/id"));
    let read = server.get(&path).bearer(&owner.token).await.expect(200);
    for reply in [made, read] {
        for inside in [&id, &account, &crew] {
            assert!(!reply.text.contains(inside.as_str()), "{}", reply.text);
        }
    }
    super::held(&store);
}
