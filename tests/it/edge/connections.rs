//! What joins crews to the world: who may have what, and that no race breaks that.

use std::collections::{BTreeMap, BTreeSet};
use std::future::IntoFuture;

use futures::future::join_all;
use serde_json::{Value, json};

use super::Running;
use super::routes::{phone_number, points_at, problem};
use super::team::{Team, number, text};
use crate::support::journal::reading;
use crate::support::server::{Call, Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "production_shares_no_connection", rules),
        both("edge", "claims_hold_whatever_races", races),
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

/// A workspace with its owner's token.
#[derive(Clone)]
struct Site {
    workspace: String,
    token: String,
}

impl Site {
    fn add(&self, server: &Server, crew: &str, (list, body): &Wanted) -> Call {
        let path = format!("/v1/workspaces/{}/crews/{crew}/{list}", self.workspace);
        server.post(&path).bearer(&self.token).json(body.clone())
    }

    async fn crew(&self, server: &Server, environment: &str) -> String {
        let path = format!("/v1/workspaces/{}/crews", self.workspace);
        let name = format!("Client {} - {environment}", number());
        let body = json!({"name": name, "environment": environment});
        let call = server.post(&path).bearer(&self.token).json(body);
        text(&call.await.expect(201).body, "/id")
    }

    fn archive(&self, server: &Server, crew: &str) -> Call {
        let path = format!("/v1/workspaces/{}/crews/{crew}/archive", self.workspace);
        server.post(&path).bearer(&self.token)
    }
}

/// Another workspace of the team's organization.
async fn another_site(server: &Server, team: &Team, name: &str) -> Site {
    let path = format!("/v1/organizations/{}/workspaces", team.organization);
    let token = team.organization_owner.token.clone();
    let call = server
        .post(&path)
        .bearer(&token)
        .json(json!({"name": name}));
    let workspace = text(&call.await.expect(201).body, "/id");
    Site { workspace, token }
}

async fn rules(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let home = Site {
        workspace: team.workspace.clone(),
        token: team.admin.token.clone(),
    };
    let other = another_site(&server, &team, "Other").await;
    let production = home.crew(&server, "production").await;
    let second = home.crew(&server, "production").await;
    let staging = home.crew(&server, "staging").await;
    let elsewhere = other.crew(&server, "staging").await;
    let (line, inbox) = (a_number(number()), a_channel(number()));

    // A number has one owner, who is named to whoever may see it.
    home.add(&server, &production, &line).await.expect(201);
    for crew in [&second, &staging] {
        let reply = home.add(&server, crew, &line).await;
        problem(&reply, 409, "already_claimed");
        assert!(
            text(&reply.body, "/detail").contains(&production),
            "{}",
            reply.text
        );
    }
    let reply = other.add(&server, &elsewhere, &line).await;
    problem(&reply, 409, "already_claimed");
    assert!(!reply.text.contains(&production), "{}", reply.text);
    let twice = home.add(&server, &production, &line).await;
    problem(&twice, 409, "already_exists");

    // Production's crews share a channel, and nobody else with them.
    home.add(&server, &production, &inbox).await.expect(201);
    home.add(&server, &second, &inbox).await.expect(201);
    let shouted = ("channels", {
        let address = text(&inbox.1, "/address").to_uppercase();
        json!({"kind": "email", "address": address})
    });
    for wanted in [&inbox, &shouted] {
        let reply = home.add(&server, &staging, wanted).await;
        problem(&reply, 409, "production_apart");
        let detail = text(&reply.body, "/detail");
        assert!(
            detail.contains(&production) || detail.contains(&second),
            "{detail}"
        );
    }
    other.add(&server, &elsewhere, &inbox).await.expect(201);

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
    home.add(&server, &staging, &line).await.expect(201);
    let reply = home.add(&server, &production, &line).await;
    problem(&reply, 409, "already_claimed");
    home.archive(&server, &staging).await.expect(200);
    let reply = other.add(&server, &elsewhere, &line).await;
    problem(&reply, 409, "claim_rests");
    home.add(&server, &second, &line).await.expect(201);
    for crew in [&production, &second] {
        home.archive(&server, crew).await.expect(200);
    }
    let fresh = home.crew(&server, "development").await;
    home.add(&server, &fresh, &inbox).await.expect(201);

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
        let reply = home.add(&server, &fresh, &(list, body)).await;
        points_at(&reply, pointer, &["invalid_value"]);
    }
    check(&server, &store, &[home, other]).await;
    super::held(&store);
}

async fn at_once(calls: Vec<Call>) -> Vec<Reply> {
    join_all(calls.into_iter().map(IntoFuture::into_future)).await
}

/// 64 callers at a time want a few numbers and channels for crews of three environments in two
/// workspaces, while crews are archived and, at the end, a workspace is deleted.
async fn races(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let sites = [
        another_site(&server, &team, "Left").await,
        another_site(&server, &team, "Right").await,
    ];
    let first = number();
    let wanted: Vec<Wanted> = (0..4)
        .flat_map(|which| [a_number(first + which), a_channel(first + which)])
        .collect();
    let mut codes = BTreeMap::new();
    for round in 0..6 {
        let mut crews = Vec::new();
        for site in &sites {
            for environment in ["development", "staging", "production"] {
                crews.push((site, site.crew(&server, environment).await));
            }
        }
        let mut calls = Vec::new();
        for turn in 0..64 {
            let (site, crew) = &crews[(turn * 7 + round) % crews.len()];
            calls.push(site.add(&server, crew, &wanted[turn % wanted.len()]));
            if turn % 16 == 15 {
                let (site, crew) = &crews[(turn / 16 + round) % crews.len()];
                calls.push(site.archive(&server, crew));
            }
        }
        if round == 5 {
            let path = format!("/v1/workspaces/{}", sites[1].workspace);
            let call = server.delete(&path).bearer(&sites[1].token);
            calls.insert(40, call.json(json!({"confirm": "Right"})));
        }
        for reply in at_once(calls).await {
            let code = reply.body["code"].as_str().unwrap_or("done").to_owned();
            assert!(
                reply.status < 300 || EXPECTED.contains(&code.as_str()),
                "{}",
                reply.text
            );
            *codes.entry(code).or_insert(0) += 1;
        }
        check(&server, &store, &sites[..if round == 5 { 1 } else { 2 }]).await;
    }
    for code in ["done", "already_claimed", "production_apart"] {
        assert!(codes.contains_key(code), "{codes:?}");
    }
    super::held(&store);
}

const EXPECTED: [&str; 6] = [
    "already_claimed",
    "already_exists",
    "claim_rests",
    "crew_archived",
    "not_found",
    "production_apart",
];

/// That no rule is broken in these workspaces, and that what is claimed is exactly what crews
/// have.
async fn check(server: &Server, store: &StoreUnderTest, sites: &[Site]) {
    let mut there = BTreeSet::new();
    let mut numbers: Vec<String> = Vec::new();
    for site in sites {
        let mut classes: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
        let crews = format!("/v1/workspaces/{}/crews", site.workspace);
        let path = format!("{crews}?limit=200&status=active");
        let page = server.get(&path).bearer(&site.token).await.expect(200).body;
        for crew in page["data"].as_array().into_iter().flatten() {
            for list in ["phone-numbers", "channels"] {
                let path = format!("{crews}/{}/{list}?limit=200", text(crew, "/id"));
                let page = server.get(&path).bearer(&site.token).await.expect(200).body;
                for one in page["data"].as_array().into_iter().flatten() {
                    there.insert(text(one, "/id"));
                    if list == "phone-numbers" {
                        numbers.push(text(one, "/number"));
                        continue;
                    }
                    let class = classes.entry(text(one, "/address").to_lowercase());
                    let is_production = crew["environment"] == "production";
                    class.or_default().insert(is_production);
                }
            }
        }
        let shared = classes.iter().find(|(_, classes)| classes.len() > 1);
        assert_eq!(shared, None, "production shares a channel");
    }
    let distinct: BTreeSet<_> = numbers.iter().collect();
    assert_eq!(
        distinct.len(),
        numbers.len(),
        "a number has two owners: {numbers:?}"
    );

    let sql = "SELECT holder FROM claims WHERE rests_until IS NULL";
    let rows = reading(store).await.query(sql, vec![]).await;
    let rows = rows.expect("the claims");
    let claimed = rows
        .iter()
        .map(|row| row.text(0).expect("a holder").to_owned());
    assert_eq!(
        claimed.collect::<BTreeSet<_>>(),
        there,
        "claimed, and there"
    );
}
