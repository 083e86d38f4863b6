//! Every route by every kind of principal, held against the table that the program prints.
//!
//! The table ([`crewlog::api::access`]) is typed; what it means for each kind of principal is
//! written down here once more, from the product's table of roles.

use std::collections::{BTreeSet, HashMap};

use crewlog::api::access::{self, Access};
use crewlog::domain::api_keys::{KeyRight, KeyScope};
use crewlog::domain::authority::{OrganizationRole, Permission, Role};
use crewlog::domain::environment::Environment;
use crewlog::journal::{Source, SystemSource};
use serde_json::{Value, json};

use super::Running;
use super::routes::{Answer, Ask, ROUTES, Route, World, all, problem, whole_problem};
use super::team::{Person, Who, text};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "everybody_may_what_the_table_says", walk),
        both("edge", "keys_may_what_the_table_says", walk_with_keys),
    ]
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Yes,
    Unauthenticated,
    Forbidden,
    NotFound,
}

impl Verdict {
    fn of(access: Access, who: Who) -> Self {
        let role = match who {
            Who::Owner => Some(Role::Owner),
            Who::Admin => Some(Role::Admin),
            Who::Member => Some(Role::Member),
            Who::Viewer => Some(Role::Viewer),
            Who::OrganizationOwner
            | Who::Neighbour
            | Who::Stranger
            | Who::Anonymous
            | Who::Auditor
            | Who::Billing
            | Who::OrganizationAuditor
            | Who::Operator => None,
        };
        let of_organization = match who {
            Who::OrganizationOwner => Some(OrganizationRole::Owner),
            Who::Billing => Some(OrganizationRole::Billing),
            Who::OrganizationAuditor => Some(OrganizationRole::Auditor),
            Who::Owner
            | Who::Admin
            | Who::Member
            | Who::Viewer
            | Who::Neighbour
            | Who::Stranger
            | Who::Anonymous
            | Who::Auditor
            | Who::Operator => None,
        };
        let allowed = match access {
            Access::Public => return Self::Yes,
            _ if who == Who::Anonymous => return Self::Unauthenticated,
            Access::Operator(_) if who == Who::Operator => return Self::Yes,
            Access::Operator(_) => return Self::Forbidden,
            _ if who == Who::Operator => return Self::Forbidden,
            Access::Session | Access::Own | Access::Principal => return Self::Yes,
            Access::Workspace(permission) if who == Who::Auditor => {
                Some(permission.allows_auditor())
            }
            Access::Workspace(permission) => role.map(|role| permission.allows(role)),
            Access::Organization(permission) => of_organization.map(|role| permission.allows(role)),
        };
        match allowed {
            Some(true) => Self::Yes,
            Some(false) => Self::Forbidden,
            None => Self::NotFound,
        }
    }
}

/// The rows of the product's table of roles that have routes: who may, as the table has it.
const PRODUCT: [(&str, &str, [bool; 4]); 106] = [
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases",
        [true, true, true, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}",
        [true, true, true, true],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}",
        [true, true, true, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}",
        [true, true, true, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents",
        [true, true, true, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents/{doc}",
        [true, true, true, true],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents/{doc}",
        [true, true, true, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents/{doc}",
        [true, true, true, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/search",
        [true, true, true, true],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/activity",
        [true, true, true, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/activity",
        [true, true, true, true],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/phone-numbers",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/phone-numbers",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/phone-numbers/{number}",
        [true, true, true, true],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/crews/{crew}/phone-numbers/{number}",
        [true, true, false, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/crews/{crew}/phone-numbers/{number}",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/channels",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/channels",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/channels/{channel}",
        [true, true, true, true],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/crews/{crew}/channels/{channel}",
        [true, true, false, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/crews/{crew}/channels/{channel}",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/agents",
        [true, true, true, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/agents",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}",
        [true, true, true, true],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}",
        [true, true, true, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}",
        [true, true, true, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}/versions",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}/versions/{version}",
        [true, true, true, true],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/pathways",
        [true, true, true, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/pathways",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}",
        [true, true, true, true],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}",
        [true, true, true, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}",
        [true, true, true, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}/versions",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}/versions/{version}",
        [true, true, true, true],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews",
        [true, true, false, false],
    ),
    ("GET", "/v1/workspaces/{ws}/crews", [true, true, true, true]),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}",
        [true, true, true, true],
    ),
    (
        "PATCH",
        "/v1/workspaces/{ws}/crews/{crew}",
        [true, true, true, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/archive",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/transfer-ownership",
        [true, false, false, false],
    ),
    ("DELETE", "/v1/workspaces/{ws}", [true, false, false, false]),
    (
        "GET",
        "/v1/workspaces/{ws}/policy",
        [true, true, true, true],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/policy",
        [true, false, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/limits",
        [true, false, false, false],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/limits",
        [true, false, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/usage",
        [true, false, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/usage",
        [true, false, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/statements",
        [true, false, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/statements/{month}",
        [true, false, false, false],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/legal-hold",
        [true, false, false, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/legal-hold",
        [true, false, false, false],
    ),
    ("POST", "/v1/workspaces/{ws}/can", [true, true, true, true]),
    (
        "POST",
        "/v1/workspaces/{ws}/auditors",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/auditors",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/auditors/{user}",
        [true, true, false, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/auditors/{user}",
        [true, true, false, false],
    ),
    ("GET", "/v1/workspaces/{ws}", [true, true, true, true]),
    (
        "GET",
        "/v1/workspaces/{ws}/members",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/members/{user}",
        [true, true, true, true],
    ),
    (
        "PATCH",
        "/v1/workspaces/{ws}/members/{user}",
        [true, true, false, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/members/{user}",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/invitations",
        [true, true, false, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/invitations/{inv}",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/invitations/{inv}/resend",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/audit",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/audit/{position}",
        [true, true, false, false],
    ),
    ("PATCH", "/v1/workspaces/{ws}", [true, false, false, false]),
    (
        "PUT",
        "/v1/workspaces/{ws}/plan",
        [true, false, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/export",
        [true, true, true, true],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/diff",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/changelog",
        [true, true, true, true],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/promotions",
        [true, true, true, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/promotions",
        [true, true, true, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/promotions",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/promotions/{promotion}",
        [true, true, true, true],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/promotions/{promotion}/approve",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/promotions/{promotion}/reject",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/promotions/{promotion}/refresh",
        [true, true, true, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/promotions/{promotion}/cancel",
        [true, true, true, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/promotions/{promotion}/apply",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/promotions/{promotion}/verify",
        [true, true, true, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/promotions/{promotion}/rollback",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/access-reviews",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/access-reviews",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/access-reviews/{review}",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/access-reviews/{review}/decisions",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/access-reviews/{review}/close",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/access-reviews/{review}/report",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/access",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/access/diff",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/audit/export",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/audit/stream",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}",
        [true, true, true, true],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}",
        [true, true, false, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}/rotate",
        [true, true, false, false],
    ),
    (
        "POST",
        "/v1/workspaces/{ws}/crews/{crew}/integrations",
        [true, true, false, false],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/integrations",
        [true, true, true, true],
    ),
    (
        "GET",
        "/v1/workspaces/{ws}/crews/{crew}/integrations/{integration}",
        [true, true, true, true],
    ),
    (
        "PUT",
        "/v1/workspaces/{ws}/crews/{crew}/integrations/{integration}",
        [true, true, false, false],
    ),
    (
        "DELETE",
        "/v1/workspaces/{ws}/crews/{crew}/integrations/{integration}",
        [true, true, false, false],
    ),
];

fn row(route: &Route) -> &'static access::Route {
    let found = access::ROUTES
        .iter()
        .find(|row| (row.method, row.path) == (route.method, route.path));
    found.unwrap_or_else(|| panic!("{} has no row in the access table", route.name()))
}

async fn walk(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    rows_are_routes(&world).await;
    for (method, path, may) in PRODUCT {
        let route = ROUTES
            .iter()
            .find(|route| (route.method, route.path) == (method, path));
        let access = row(route.expect("a route of the product")).access;
        let told = [Who::Owner, Who::Admin, Who::Member, Who::Viewer]
            .map(|who| Verdict::of(access, who) == Verdict::Yes);
        assert_eq!(
            told, may,
            "{method} {path} is for those of the product's table"
        );
    }
    auditors_have_these_routes();
    let mut refused: HashMap<&str, Vec<String>> = HashMap::new();
    for route in ROUTES {
        let mut refused_with = None;
        for who in Who::ALL {
            let path = visit(&world, route, who, &mut refused_with).await;
            // An operator's attempts are kept with those that they aim at.
            let is_told = |path: &String| {
                let of_somebody = ["/workspaces/", "/organizations/"];
                who != Who::Operator || of_somebody.iter().any(|part| path.contains(part))
            };
            let path = path.filter(is_told);
            if let (Some(person), Some(path)) = (world.team.person(who), path) {
                refused.entry(&person.user).or_default().push(path);
            }
        }
    }
    for (user, paths) in refused {
        refusals_are_kept(&world, user, &paths).await;
    }
    super::held(&store);
}

/// Every route in a workspace that an auditor may use, as the product says.
fn auditors_have_these_routes() {
    let may = |route: &&Route| Verdict::of(row(route).access, Who::Auditor) == Verdict::Yes;
    let here = ROUTES
        .iter()
        .filter(|route| route.path.contains("{ws}"))
        .filter(may)
        .map(Route::name);
    let product = [
        "GET /v1/workspaces/{ws}",
        "GET /v1/workspaces/{ws}/access-reviews",
        "GET /v1/workspaces/{ws}/access-reviews/{review}",
        "GET /v1/workspaces/{ws}/access-reviews/{review}/report",
        "GET /v1/workspaces/{ws}/audit",
        "GET /v1/workspaces/{ws}/audit/{position}",
        "GET /v1/workspaces/{ws}/access",
        "GET /v1/workspaces/{ws}/access/diff",
        "GET /v1/workspaces/{ws}/audit/export",
        "GET /v1/workspaces/{ws}/audit/stream",
    ];
    assert_eq!(here.collect::<Vec<_>>(), product);
}

/// The document, the access table and the table of these tests have the same rows.
async fn rows_are_routes(world: &World) {
    let document = world.server.get("/openapi.json").await.expect(200).body;
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("operations").keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let allowed: BTreeSet<_> = access::ROUTES
        .iter()
        .map(|row| format!("{} {}", row.method, row.path))
        .collect();
    let tested: BTreeSet<_> = all().map(Route::name).collect();
    assert_eq!(
        described, allowed,
        "every route has its row in the access table, and every row its route"
    );
    assert_eq!(
        described, tested,
        "every route has its row in `edge::routes`, and every row its route"
    );
}

/// Whoever is known and was refused is in the audit log, with what they aimed at. The same again
/// in one minute is counted when the minute has ended.
async fn refusals_are_kept(world: &World, actor: &str, paths: &[String]) {
    let team = &world.team;
    let log = format!("/v1/organizations/{}/audit", team.organization);
    let log = format!("{log}?outcome=denied&actor={actor}&limit=200");
    let page = world
        .server
        .get(&log)
        .bearer(&team.organization_owner.token);
    let page = page.await.expect(200).body;
    let entries = page["data"].as_array().expect("a list");
    let aimed: BTreeSet<_> = entries
        .iter()
        .map(|entry| text(entry, "/target/id"))
        .collect();
    for path in paths {
        // What is nobody's in particular is kept with whoever asked.
        let of_nobody = ["/workspaces/", "/organizations/"]
            .iter()
            .all(|part| !path.contains(part));
        let ours = path.contains(&team.workspace) || path.contains(&team.organization);
        let kept = |target: &String| path.contains(target) || (of_nobody && target == actor);
        assert!(
            aimed.iter().any(kept) || !(ours || of_nobody),
            "{actor} was refused {path}, and it is not kept"
        );
    }
}

/// Answers with the path, where it was refused.
async fn visit(
    world: &World,
    route: &Route,
    who: Who,
    refused_with: &mut Option<Ask>,
) -> Option<String> {
    let name = format!("{} by {who:?}", route.name());
    let stand_in = world.team.person(world.entitled(route)).expect("a person");
    let caller = world.team.person(who);
    // Who has no account asks for what somebody else would.
    let asks = caller.filter(|_| who != Who::Operator).unwrap_or(stand_in);
    let verdict = Verdict::of(row(route).access, who);
    // What changes nothing can be asked again, by the next who may not.
    let ask = match refused_with {
        Some(ask) if verdict != Verdict::Yes => ask.clone(),
        _ => world.fresh(route, asks).await,
    };
    if verdict != Verdict::Yes && !route.is_of_the_caller() {
        *refused_with = Some(ask.clone());
    }
    let call = world.send(&ask);
    let reply = match caller {
        Some(person) => call.bearer(&person.token).await,
        None => call.await,
    };
    if route.path == "/v1/invitations/accept" && who == Who::Operator {
        problem(&reply, 401, "unauthenticated");
        return None;
    }
    if route.path == "/v1/invitations/accept" && who != Who::Anonymous {
        // Open to whoever holds the token, but for accounts of another address.
        problem(&reply, 403, "invitation_for_another");
        return None;
    }
    match verdict {
        Verdict::Yes => {
            assert!(
                reply.status < 300,
                "{name}: {} {}",
                reply.status,
                reply.text
            );
            if let Answer::Created(_) = route.answer {
                assert_eq!(reply.status, 201, "{name}");
            }
            None
        }
        Verdict::Unauthenticated => {
            assert_eq!(reply.status, 401, "{name}: {}", reply.text);
            whole_problem(&reply);
            None
        }
        Verdict::Forbidden => {
            problem(&reply, 403, "not_permitted");
            Some(ask.path)
        }
        Verdict::NotFound => {
            problem(&reply, 404, "not_found");
            Some(ask.path)
        }
    }
}

/// A kind of key that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    /// Of the workspace, for this environment, with every scope that there is.
    Full(Environment),
    /// Of the workspace, with no scope.
    Bare,
    /// Of another workspace of the organization, with every scope.
    Neighbours,
    /// Of the organization, with every scope.
    OfOrganization,
    /// Of another organization, with every scope.
    OfAnother,
    Revoked,
    Expired,
    /// Rotated without grace.
    Rotated,
}

/// A key with its secret.
struct Key {
    kind: KeyKind,
    id: String,
    secret: String,
}

fn every(scopes: &[KeyScope]) -> Vec<&'static str> {
    scopes.iter().map(|scope| scope.name()).collect()
}

async fn made(world: &World, path: &str, by: &Person, body: Value) -> Value {
    let call = world.server.post(path).bearer(&by.token).json(body);
    call.await.expect(201).body
}

async fn keys(world: &World) -> Vec<Key> {
    let team = &world.team;
    let scopes = every(&KeyScope::OF_WORKSPACE);
    let body = |environment: Environment, scopes: &[&str]| json!({"name": "walks", "environment": environment.name(), "scopes": scopes});
    let production = Environment::Production;
    let own = team.path("/api-keys");
    let of_team = async |body| made(world, &own, &team.owner, body).await;
    let mut keys = Vec::new();
    for environment in Environment::ALL {
        let key = of_team(body(environment, &scopes)).await;
        keys.push((KeyKind::Full(environment), key));
    }
    keys.push((KeyKind::Bare, of_team(body(production, &[])).await));
    let neighbours = format!("/v1/workspaces/{}/api-keys", team.neighbours_workspace);
    let key = made(
        world,
        &neighbours,
        &team.neighbour,
        body(production, &scopes),
    )
    .await;
    keys.push((KeyKind::Neighbours, key));
    let of_organization = json!({"name": "walks", "scopes": every(&KeyScope::OF_ORGANIZATION)});
    let path = format!("/v1/organizations/{}/api-keys", team.organization);
    let key = made(
        world,
        &path,
        &team.organization_owner,
        of_organization.clone(),
    )
    .await;
    keys.push((KeyKind::OfOrganization, key));
    let more = json!({"organization": {"name": "Elsewhere"}});
    let (other, reply) = Person::sign_up_with(&world.server, "elsewhere", more).await;
    let elsewhere = text(&reply.body, "/organization/id");
    let path = format!("/v1/organizations/{elsewhere}/api-keys");
    let key = made(world, &path, &other, of_organization).await;
    keys.push((KeyKind::OfAnother, key));

    let revoked = of_team(body(production, &scopes)).await;
    let path = format!("{own}/{}", text(&revoked, "/id"));
    let revoke = world.server.delete(&path).bearer(&team.owner.token);
    revoke.await.expect(200);
    keys.push((KeyKind::Revoked, revoked));
    let soon = SystemSource
        .now()
        .plus(chrono::TimeDelta::milliseconds(300));
    let mut expiring = body(production, &scopes);
    expiring["expires_at"] = json!(soon.to_rfc3339());
    keys.push((KeyKind::Expired, of_team(expiring).await));
    let rotated = of_team(body(production, &scopes)).await;
    let path = format!("{own}/{}/rotate", text(&rotated, "/id"));
    let rotate = world.server.post(&path).bearer(&team.owner.token);
    rotate.json(json!({"grace_seconds": 0})).await.expect(201);
    keys.push((KeyKind::Rotated, rotated));
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let secret = |(kind, key): (KeyKind, Value)| Key {
        kind,
        id: text(&key, "/id"),
        secret: text(&key, "/secret"),
    };
    keys.into_iter().map(secret).collect()
}

const PROPOSE: &str = "POST /v1/workspaces/{ws}/promotions";

/// The status and code that a key is answered with; none where it may.
fn refused(route: &Route, kind: KeyKind) -> Option<(u16, &'static str)> {
    let access = row(route).access;
    // Open, but for whoever comes with an account of another address, which a key has not.
    let is_open = access == Access::Public && route.path != "/v1/invitations/accept";
    if is_open {
        return None;
    }
    if matches!(kind, KeyKind::Revoked | KeyKind::Expired | KeyKind::Rotated) {
        return Some((401, "unauthenticated"));
    }
    let by_right = |right: KeyRight| match (right, kind) {
        (KeyRight::Never, _) => Some((403, "not_for_api_keys")),
        (KeyRight::Scope(_), KeyKind::Bare) => Some((403, "scope_missing")),
        (KeyRight::Every | KeyRight::Scope(_), _) => None,
    };
    let hidden = Some((404, "not_found"));
    // Nobody but its proposer, or who decides, takes a promotion back.
    if route.path.ends_with("/cancel") && kind == KeyKind::Full(Environment::Development) {
        return Some((403, "not_permitted"));
    }
    // To a key of another environment a crew is not there, and it makes none. What is in crews is
    // asked of development's, so that it can be edited.
    let is_inside = [
        "/agents",
        "/pathways",
        "/phone-numbers",
        "/channels",
        "/knowledge-bases",
        "/webhook-endpoints",
        "/integrations",
        "/export",
        "/diff",
        "/changelog",
        "/promotions",
    ]
    .iter()
    .any(|inside| route.path.contains(inside));
    let asked_of = match is_inside {
        true => Environment::Development,
        false => Environment::Production,
    };
    if let KeyKind::Full(environment) = kind
        && environment != asked_of
    {
        let names_a_crew = route.name() == "POST /v1/workspaces/{ws}/usage";
        if names_a_crew || route.path.contains("{crew}") {
            return hidden;
        }
        // So are promotions into it, but for what no key may.
        let access = row(route).access;
        let is_promotion = route.path.contains("/promotions/") || route.name() == PROPOSE;
        if let Access::Workspace(permission) = access
            && is_promotion
        {
            return match by_right(permission.of_keys()) {
                Some(refused) => Some(refused),
                None => hidden,
            };
        }
        if route.name() == "POST /v1/workspaces/{ws}/crews" {
            return Some((403, "not_permitted"));
        }
    }
    match access {
        Access::Operator(_) => Some((403, "not_permitted")),
        Access::Public | Access::Session | Access::Own => Some((403, "not_for_api_keys")),
        Access::Principal => None,
        Access::Workspace(permission) => match kind {
            KeyKind::Full(_) | KeyKind::Bare => by_right(permission.of_keys()),
            KeyKind::OfOrganization if permission == Permission::SeeWorkspace => None,
            _ => hidden,
        },
        Access::Organization(permission) => match kind {
            KeyKind::OfOrganization => by_right(permission.of_keys()),
            _ => hidden,
        },
    }
}

async fn walk_with_keys(store: StoreUnderTest) {
    let Running { server, store } = Running::operated(store).await;
    let world = World::on(server).await;
    let keys = keys(&world).await;
    let mut kept: HashMap<&str, Vec<String>> = HashMap::new();
    for route in all() {
        let mut refused_with: Option<Ask> = None;
        for key in &keys {
            let name = format!("{} by {:?}", route.name(), key.kind);
            let stand_in = world.team.person(world.entitled(route)).expect("a person");
            let refusal = refused(route, key.kind);
            let mut ask = match refused_with.take().filter(|_| refusal.is_some()) {
                Some(ask) => ask,
                None => world.fresh(route, stand_in).await,
            };
            if let ("/v1/organizations/{org}/workspaces", Some(body)) = (route.path, &mut ask.body)
            {
                body["owner"] = json!(world.team.stranger.user);
            }
            let reply = world.send(&ask).bearer(&key.secret).await;
            // What can be done once is asked of a workspace made for it: nobody's key is of that.
            let elsewhere =
                route.path.contains("{ws}") && !ask.path.contains(&world.team.workspace);
            let expected = match refusal {
                Some((status, _)) if elsewhere && status != 401 && !route.is_operators() => {
                    Some((404, "not_found"))
                }
                expected => expected,
            };
            match expected {
                Some((status, code)) => {
                    assert_eq!(reply.body["code"], code, "{name}: {}", reply.text);
                    problem(&reply, status, code);
                    if code == "not_for_api_keys" {
                        let detail = text(&reply.body, "/detail");
                        assert!(detail.contains("only people may"), "{name}: {detail}");
                    }
                    // Of another organization's key the other organization is told.
                    if status != 401 && key.kind != KeyKind::OfAnother {
                        kept.entry(&key.id).or_default().push(ask.path.clone());
                    }
                    refused_with = Some(ask);
                }
                None => assert!(
                    reply.status < 300,
                    "{name}: {} {}",
                    reply.status,
                    reply.text
                ),
            }
        }
    }
    for (key, paths) in kept {
        refusals_are_kept(&world, key, &paths).await;
    }
    super::held(&store);
}
