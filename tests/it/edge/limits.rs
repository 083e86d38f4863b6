//! What plans and owners allow: how many, and how fast.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use super::held;
use super::routes::{points_at, problem};
use super::team::{Person, accept, address, invited, number, text};
use crate::support::server::{PLANS, Reply, Server};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, on};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "limits_are_of_the_plan_and_the_owners", limited),
        both("edge", "limits_are_never_exceeded_by_races", raced),
        both("edge", "limits_on_requests_are_told_and_kept", rated),
        on(
            &[StoreKind::Postgres],
            "edge",
            "limits_on_requests_are_kept_by_three_servers_together",
            rated_together,
        ),
    ]
}

/// A server whose plans are these: name, members, crews, keys, requests a minute.
async fn server_with(store: &StoreUnderTest, plans: &[(&str, [Option<u64>; 4])]) -> Server {
    let plans = plans
        .iter()
        .map(|(name, [members, crews, keys, requests])| {
            json!({
                "name": name, "title": name, "prices": {},
                "quotas": {
                    "members": members, "crews_per_environment": crews, "api_keys": keys,
                    "requests_per_minute": requests,
                },
            })
        });
    server_of(store, &json!({"plans": plans.collect::<Vec<_>>()})).await
}

/// A server whose plans have these quotas (members, crews, keys) and all the same prices: meter,
/// currency, amount, for how much.
pub(super) async fn server_with_prices(
    store: &StoreUnderTest,
    plans: &[(&str, [u64; 3])],
    prices: &[(&str, &str, u64, u64)],
) -> Server {
    let prices: serde_json::Map<_, _> = prices
        .iter()
        .map(|(meter, currency, amount, per)| {
            let price = json!({
                "currency": currency, "amount_minor": amount, "per_quantity": per,
            });
            ((*meter).to_owned(), price)
        })
        .collect();
    let plans = plans.iter().map(|(name, [members, crews, keys])| {
        json!({
            "name": name, "title": name, "prices": prices,
            "quotas": {
                "members": members, "crews_per_environment": crews, "api_keys": keys,
                "requests_per_minute": null,
            },
        })
    });
    server_of(store, &json!({"plans": plans.collect::<Vec<_>>()})).await
}

async fn server_of(store: &StoreUnderTest, plans: &Value) -> Server {
    let file = store.data_dir().join(format!("plans-{}.json", number()));
    std::fs::create_dir_all(store.data_dir()).expect("the folder");
    std::fs::write(&file, plans.to_string()).expect("the catalogue to be written");
    let mut command = Server::command(store);
    command.env(PLANS, &file);
    Server::launch(command).await
}

/// Somebody who owns a workspace on the plan `free`.
async fn owner(server: &Server) -> (Person, String) {
    let made = json!({
        "organization": {"name": format!("Org {}", number())},
        "workspace": {"name": format!("Team {}", number()), "plan": "free"},
    });
    let (owner, reply) = Person::sign_up_with(server, "owner", made).await;
    let workspace = text(&reply.body, "/workspace/id");
    (owner, format!("/v1/workspaces/{workspace}"))
}

async fn post(server: &Server, who: &Person, path: &str, body: Value) -> Reply {
    server.post(path).bearer(&who.token).json(body).await
}

async fn put(server: &Server, who: &Person, path: &str, body: Value) -> Reply {
    server.put(path).bearer(&who.token).json(body).await
}

async fn invite(server: &Server, who: &Person, workspace: &str) -> Reply {
    let body = json!({"email": address("guest"), "role": "member"});
    post(server, who, &format!("{workspace}/invitations"), body).await
}

fn crew(environment: &str) -> Value {
    json!({"name": format!("Client {} - {environment}", number()), "environment": environment})
}

fn key() -> Value {
    json!({"name": format!("key {}", number()), "environment": "staging", "scopes": ["crews:read"]})
}

async fn limited(store: StoreUnderTest) {
    let plans = [
        ("free", [Some(3), Some(1), Some(2), None]),
        ("team", [Some(5), Some(2), Some(3), None]),
    ];
    let server = server_with(&store, &plans).await;
    let (owner, workspace) = owner(&server).await;
    let [crews, keys, limits, plan] =
        ["/crews", "/api-keys", "/limits", "/plan"].map(|rest| format!("{workspace}{rest}"));

    // Members, with those who are invited.
    let guest = Person::sign_up(&server, "guest").await;
    let id = workspace.rsplit('/').next().expect("an id").to_owned();
    let token = invited(&server, &id, &owner, &guest.email, "admin").await;
    invite(&server, &owner, &workspace).await.expect(201);
    let refused = invite(&server, &owner, &workspace).await;
    problem(&refused, 409, "limit_reached");
    assert!(
        refused.text.contains("the plan's limit on `members`"),
        "{}",
        refused.text
    );
    accept(&server, &guest, &token).await.expect(200);
    // Crews of each environment, and keys.
    post(&server, &owner, &crews, crew("staging"))
        .await
        .expect(201);
    problem(
        &post(&server, &owner, &crews, crew("staging")).await,
        409,
        "limit_reached",
    );
    post(&server, &owner, &crews, crew("production"))
        .await
        .expect(201);
    let made = post(&server, &owner, &keys, key()).await.expect(201);
    post(&server, &owner, &keys, key()).await.expect(201);
    problem(
        &post(&server, &owner, &keys, key()).await,
        409,
        "limit_reached",
    );
    let rotate = format!("{keys}/{}/rotate", text(&made.body, "/id"));
    post(&server, &owner, &rotate, json!({"grace_seconds": 600}))
        .await
        .expect(201);

    let seen = server.get(&limits).bearer(&owner.token).await.expect(200);
    let used = json!({
        "members": 2, "pending_invitations": 1, "api_keys": 2,
        "crews": {"development": 0, "staging": 1, "production": 1},
    });
    assert_eq!(seen.body["used"], used);
    assert_eq!(seen.body["allowed"]["members"], 3);
    let body = json!({"members": 4});
    problem(
        &put(&server, &guest, &limits, body).await,
        403,
        "not_permitted",
    );

    // A larger plan, and the way back.
    put(&server, &owner, &plan, json!({"plan": "team"}))
        .await
        .expect(200);
    invite(&server, &owner, &workspace).await.expect(201);
    post(&server, &owner, &crews, crew("staging"))
        .await
        .expect(201);
    let refused = put(&server, &owner, &plan, json!({"plan": "free"})).await;
    problem(&refused, 409, "limit_exceeded");
    let errors = refused.body["errors"].as_array().expect("errors");
    let told: Vec<_> = errors.iter().map(|error| text(error, "/detail")).collect();
    assert_eq!(
        told,
        [
            "there are 4 members and pending invitations, and 3 would be allowed",
            "there are 2 staging crews, and 1 would be allowed",
        ]
    );
    assert!(
        errors.iter().all(|error| error["pointer"] == "/plan"),
        "{errors:?}"
    );

    // Limits of their own.
    let refused = put(
        &server,
        &owner,
        &limits,
        json!({"members": 3, "api_keys": 1}),
    )
    .await;
    problem(&refused, 409, "limit_exceeded");
    let errors = refused.body["errors"].as_array().expect("errors");
    let places: Vec<_> = errors.iter().map(|error| text(error, "/pointer")).collect();
    assert_eq!(places, ["/members", "/api_keys"]);
    let tag = seen.header("etag").expect("a version").to_owned();
    let stale = server
        .put(&limits)
        .bearer(&owner.token)
        .header("If-Match", &tag);
    problem(
        &stale.json(json!({"members": 4})).await,
        412,
        "precondition_failed",
    );
    let lower = json!({"members": 4, "reason": "a small team"});
    let set = put(&server, &owner, &limits, lower).await.expect(200);
    assert_eq!(
        (
            &set.body["of_plan"]["members"],
            &set.body["allowed"]["members"]
        ),
        (&json!(5), &json!(4))
    );
    let refused = invite(&server, &owner, &workspace).await;
    problem(&refused, 409, "limit_reached");
    assert!(
        refused.text.contains("its owners have set on `members`"),
        "{}",
        refused.text
    );
    for wrong in [json!({"members": 0}), json!({"requests_per_minute": 0})] {
        let pointer = format!(
            "/{}",
            wrong
                .as_object()
                .expect("an object")
                .keys()
                .next()
                .expect("one")
        );
        points_at(
            &put(&server, &owner, &limits, wrong).await,
            &pointer,
            &["invalid_value"],
        );
    }
    let audit = format!("{workspace}/audit?action=limits.changed");
    let told = server.get(&audit).bearer(&owner.token).await.expect(200);
    let change = json!({"path": "members", "from": null, "to": 4});
    assert_eq!(told.body["data"][0]["changes"][0], change);
    assert_eq!(told.body["data"][0]["reason"], "a small team");
    drop(server);
    held(&store);
}

/// Many at once, on PostgreSQL of two servers.
async fn raced(store: StoreUnderTest) {
    let plans = [("free", [Some(6), Some(2), Some(3), None])];
    let mut servers = vec![server_with(&store, &plans).await];
    if store.database_url().is_some() {
        servers.push(server_with(&store, &plans).await);
    }
    let (owner, workspace) = owner(&servers[0]).await;
    let of = |number: usize| &servers[number % servers.len()];
    let (crews, keys) = (
        format!("{workspace}/crews"),
        format!("{workspace}/api-keys"),
    );
    let invites = (0..12).map(|number| invite(of(number), &owner, &workspace));
    let made_crews = (0..8).map(|number| post(of(number), &owner, &crews, crew("production")));
    let made_keys = (0..8).map(|number| post(of(number), &owner, &keys, key()));
    let (invites, made_crews, made_keys) =
        tokio::join!(join_all(invites), join_all(made_crews), join_all(made_keys));
    for (replies, allowed) in [(invites, 5), (made_crews, 2), (made_keys, 3)] {
        let (made, refused): (Vec<_>, Vec<_>) =
            replies.iter().partition(|reply| reply.status == 201);
        assert_eq!(made.len(), allowed);
        refused
            .iter()
            .for_each(|reply| problem(reply, 409, "limit_reached"));
    }
    drop(servers);
    held(&store);
}

/// What the headers say of a rate: a minute's, what is left.
fn told(reply: &Reply) -> (u64, u64) {
    let number = |name: &str, parameter: &str| -> u64 {
        let header = reply.header(name).unwrap_or_else(|| panic!("no {name}"));
        let mut parameters = header.split(';');
        assert_eq!(parameters.next(), Some("\"workspace\""), "{header}");
        let found = parameters.find_map(|part| part.strip_prefix(parameter));
        found
            .and_then(|value| value.parse().ok())
            .expect("a number")
    };
    assert_eq!(number("ratelimit-policy", "w="), 60);
    (number("ratelimit-policy", "q="), number("ratelimit", "r="))
}

async fn rated(store: StoreUnderTest) {
    let plans = [("free", [None, None, None, Some(320)])];
    let server = server_with(&store, &plans).await;
    let (owner, workspace) = owner(&server).await;
    let (stranger, _) = self::owner(&server).await;
    let ask = |who: &Person| {
        let call = server.get(&workspace).bearer(&who.token);
        async move { call.await }
    };
    let first = ask(&owner).await.expect(200);
    let (limit, left) = told(&first);
    assert_eq!(limit, 320);
    assert!(
        (16..20).contains(&left),
        "a sixteenth at once, of which one is spent: {left}"
    );
    // Whoever is not in it spends nothing of it, and is told nothing.
    for reply in join_all((0..30).map(|_| ask(&stranger))).await {
        problem(&reply, 404, "not_found");
        assert_eq!(reply.header("ratelimit"), None);
    }
    let replies = join_all((0..60).map(|_| ask(&owner))).await;
    let (admitted, refused): (Vec<_>, Vec<_>) =
        replies.iter().partition(|reply| reply.status == 200);
    assert!(
        admitted.len() >= 12,
        "{} were admitted at once",
        admitted.len()
    );
    let refused = refused.first().expect("some to be refused");
    problem(refused, 429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(told(refused), (320, 0));
    // What is about nobody's workspace goes on.
    server.get("/v1/me").bearer(&owner.token).await.expect(200);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    ask(&owner).await.expect(200);
    // Another limit is known within seconds.
    let path = format!("{workspace}/limits");
    put(&server, &owner, &path, json!({"requests_per_minute": 32}))
        .await
        .expect(200);
    let lower = async || (told(&ask(&owner).await).0 == 32).then_some(());
    super::eventually("the lower limit", lower).await;
}

async fn rated_together(store: StoreUnderTest) {
    let (limit, seconds) = (1_200.0, 6.0);
    let plans = [("free", [None, None, None, Some(1_200)])];
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(server_with(&store, &plans).await);
    }
    let (owner, workspace) = owner(&servers[0]).await;
    let began = Instant::now();
    let clients = (0..12).map(|client| {
        let (server, owner, workspace) = (&servers[client % 3], &owner, &workspace);
        async move {
            let mut admitted = 0u32;
            while began.elapsed() < Duration::from_secs_f64(seconds) {
                let reply = server.get(workspace).bearer(&owner.token).await;
                match reply.status {
                    200 => admitted += 1,
                    _ => problem(&reply, 429, "rate_limited"),
                }
            }
            admitted
        }
    });
    let admitted: u32 = join_all(clients).await.into_iter().sum();
    let elapsed = began.elapsed().as_secs_f64();
    // What comes at the rate, and what may be beyond it in any minute.
    let most = limit * elapsed / 60.0 + limit / 10.0;
    assert!(f64::from(admitted) <= most, "{admitted} of at most {most}");
    println!("{admitted} admitted in {elapsed:.1} s; {most:.0} may be");
}
