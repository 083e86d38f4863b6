//! Every route by every kind of principal, held against the table that the program prints.
//!
//! The table ([`crewlog::api::access`]) is typed; what it means for each kind of principal is
//! written down here once more, from the product's table of roles.

use std::collections::BTreeSet;

use crewlog::api::access::{self, Access};
use crewlog::domain::authority::{OrganizationRole, Role};

use super::Running;
use super::routes::{Answer, ROUTES, Route, World, problem, whole_problem};
use super::team::Who;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![both("edge", "everybody_may_what_the_table_says", walk)]
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
            | Who::OrganizationAuditor => None,
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
            | Who::Auditor => None,
        };
        let allowed = match access {
            Access::Public => return Self::Yes,
            _ if who == Who::Anonymous => return Self::Unauthenticated,
            Access::Session | Access::Own => return Self::Yes,
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
const PRODUCT: [(&str, &str, [bool; 4]); 21] = [
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
];

fn row(route: &Route) -> &'static access::Route {
    let found = access::ROUTES
        .iter()
        .find(|row| (row.method, row.path) == (route.method, route.path));
    found.unwrap_or_else(|| panic!("{} has no row in the access table", route.name()))
}

async fn walk(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
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
    for route in ROUTES {
        for who in Who::ALL {
            visit(&world, route, who).await;
        }
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
        "GET /v1/workspaces/{ws}/audit",
        "GET /v1/workspaces/{ws}/audit/{position}",
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
    let tested: BTreeSet<_> = ROUTES.iter().map(Route::name).collect();
    assert_eq!(
        described, allowed,
        "every route has its row in the access table, and every row its route"
    );
    assert_eq!(
        described, tested,
        "every route has its row in `edge::routes`, and every row its route"
    );
}

async fn visit(world: &World, route: &Route, who: Who) {
    let name = format!("{} by {who:?}", route.name());
    let stand_in = world.team.person(world.entitled(route)).expect("a person");
    let caller = world.team.person(who);
    let ask = world.fresh(route, caller.unwrap_or(stand_in)).await;
    let call = world.send(&ask);
    let reply = match caller {
        Some(person) => call.bearer(&person.token).await,
        None => call.await,
    };
    if route.path == "/v1/invitations/accept" && who != Who::Anonymous {
        // Open to whoever holds the token, but for accounts of another address.
        return problem(&reply, 403, "invitation_for_another");
    }
    match Verdict::of(row(route).access, who) {
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
        }
        Verdict::Unauthenticated => {
            assert_eq!(reply.status, 401, "{name}: {}", reply.text);
            whole_problem(&reply);
        }
        Verdict::Forbidden => problem(&reply, 403, "not_permitted"),
        Verdict::NotFound => problem(&reply, 404, "not_found"),
    }
}
