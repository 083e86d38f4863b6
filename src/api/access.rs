//! Who may use which route: one row for each, so that none is forgotten.
//!
//! The table says what the handlers ask the service for; it grants nothing itself. Tests
//! hold it against the OpenAPI document, print it as `docs/permissions.md`, and walk it with
//! every kind of principal.
//!
//! To add a route: its row here. Then `CREWLOG_BLESS=1 cargo test access` rewrites the page.

use axum::{
    extract::{FromRequestParts, MatchedPath, RawPathParams},
    http::request::Parts,
};

use crate::{
    domain::{
        authority::{OrganizationPermission as InOrganization, Permission as InWorkspace},
        ids::WorkspaceId,
        installation::OperatorAct,
    },
    service::{KeyAim, OperatorAim},
};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a session.
    Public,
    /// Anybody with a session.
    Session,
    /// Anybody with a session, on what is their own; nobody else's is found.
    Own,
    /// The same, and an API key on what is its own.
    Principal,
    /// Members of the workspace in the path whose role has the permission, and auditors of it
    /// where a grant has it.
    Workspace(InWorkspace),
    /// Who has a role in the organization in the path that has the permission.
    Organization(InOrganization),
    /// Operators of the installation, with a key of theirs.
    Operator(OperatorAct),
}

/// A route, and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// In capitals.
    pub method: &'static str,
    /// With `{names}` as the OpenAPI document has them.
    pub path: &'static str,
    /// Who may.
    pub access: Access,
    /// What the permission alone does not tell; empty where it tells all.
    pub note: &'static str,
}

const fn route(method: &'static str, path: &'static str, access: Access) -> Route {
    Route {
        method,
        path,
        access,
        note: "",
    }
}

const fn noted(route: Route, note: &'static str) -> Route {
    Route { note, ..route }
}

/// The workspace in the path of a request, where its route has one.
pub async fn workspace(parts: &mut Parts) -> Option<WorkspaceId> {
    let matched = parts.extensions.get::<MatchedPath>()?;
    if !matched.as_str().starts_with("/v1/workspaces/{ws}") {
        return None;
    }
    let parameters = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    let named = parameters.iter().find(|(name, _)| *name == "ws");
    named.and_then(|(_, id)| id.parse().ok())
}

/// What a request aims at, by its route's row and the id in its path.
pub async fn aim(parts: &mut Parts) -> KeyAim {
    let matched = parts.extensions.get::<MatchedPath>().cloned();
    let path = matched.as_ref().map_or("", MatchedPath::as_str);
    let row = ROUTES
        .iter()
        .find(|row| row.method == parts.method.as_str() && row.path == path);
    let access = row.map(|row| row.access);
    let parameters = RawPathParams::from_request_parts(parts, &()).await;
    let named = |name: &str| {
        let parameters = parameters.as_ref().ok()?;
        let found = parameters.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.to_owned())
    };
    match access {
        Some(Workspace(permission)) => match named("ws").and_then(|id| id.parse().ok()) {
            Some(workspace) => KeyAim::Workspace(workspace, permission),
            None => KeyAim::Nothing,
        },
        Some(Organization(permission)) => match named("org").and_then(|id| id.parse().ok()) {
            Some(organization) => KeyAim::Organization(organization, permission),
            None => KeyAim::Nothing,
        },
        Some(Own | Session | Public | Principal) => KeyAim::People,
        Some(Operator(_)) | None => KeyAim::Nothing,
    }
}

/// What a request aims at, and what it would do there, where it is an operator's, or an operator's
/// key is sent with it.
pub async fn operator_aim(parts: &mut Parts) -> (OperatorAim, &'static str) {
    let matched = parts.extensions.get::<MatchedPath>().cloned();
    let path = matched.as_ref().map_or("", MatchedPath::as_str);
    let row = ROUTES
        .iter()
        .find(|row| row.method == parts.method.as_str() && row.path == path);
    let action = match row.map(|row| row.access) {
        Some(Workspace(permission)) => permission.name(),
        Some(Organization(permission)) => permission.name(),
        Some(Operator(act)) => act.action(),
        Some(Own | Session | Public | Principal) | None => "account.use",
    };
    let parameters = RawPathParams::from_request_parts(parts, &()).await;
    let named = |name: &str| {
        let parameters = parameters.as_ref().ok()?;
        let found = parameters.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.to_owned())
    };
    let workspace = named("ws").and_then(|id| id.parse().ok());
    let organization = named("org").and_then(|id| id.parse().ok());
    let aim = match (workspace, organization) {
        (Some(workspace), _) => OperatorAim::Workspace(workspace),
        (None, Some(organization)) => OperatorAim::Organization(organization),
        (None, None) => OperatorAim::Nothing,
    };
    (aim, action)
}

use Access::{Operator, Organization, Own, Principal, Public, Session, Workspace};

const UP_TO_OWN_ROLE: &str = "roles up to one's own";
const OR_LEAVE: &str = "roles up to one's own; oneself: `member.leave`";
const OR_LEAVE_ORGANIZATION: &str = "oneself: `organization_member.leave`";
const OF_ITS_ENVIRONMENT: &str = "a key, of its own environment, unless it is bound to crews";
const WITHIN_REACH: &str = "a key, the crews of its environment that it names";
const PROTECTED: &str = "a key, the crews of its environment that it names; in production by promotion, unless the \
     policy says otherwise or an owner or admin breaks glass";
const BOTH_WITHIN_REACH: &str =
    "a key, where it reaches both sides: between environments a bundle crosses, and no key does";
const TARGET_WITHIN_REACH: &str = "a key, where it reaches the target";
const NOT_THE_PROPOSER: &str = "not who proposed it, nor made or last rotated the key that did, unless the policy says otherwise";
const REVIEWERS: &str = "the campaign's reviewers; nobody about themselves, or a key that they made, rotated or changed";
const OWN_OR_DECIDES: &str = "one's own; others': `promotion.decide`";
const WITH_A_REASON: &str = "with a reason";
const BY_TOKEN: &str = "whoever holds the invitation's token";
const OF_ADDRESS: &str =
    "whoever holds the invitation's token: with a session of the invited address, or none";

/// Every route of the OpenAPI document, in its order.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/signup", Public),
    route("POST", "/v1/sessions", Public),
    route("GET", "/v1/sessions", Own),
    route("DELETE", "/v1/sessions/{id}", Own),
    route("GET", "/v1/me", Principal),
    route("PATCH", "/v1/me", Own),
    noted(
        route("POST", "/v1/me/password", Own),
        "with the present password",
    ),
    noted(
        route("POST", "/v1/me/erase", Own),
        "with the present password",
    ),
    route("GET", "/v1/plans", Public),
    noted(
        route("POST", "/v1/organizations", Session),
        "the caller owns what is made",
    ),
    route("GET", "/v1/organizations", Own),
    route(
        "GET",
        "/v1/organizations/{org}",
        Organization(InOrganization::See),
    ),
    route(
        "PATCH",
        "/v1/organizations/{org}",
        Organization(InOrganization::Rename),
    ),
    noted(
        route(
            "POST",
            "/v1/organizations/{org}/workspaces",
            Organization(InOrganization::CreateWorkspaces),
        ),
        "a person owns what they make; a key names who does",
    ),
    route("GET", "/v1/workspaces", Principal),
    route(
        "GET",
        "/v1/workspaces/{ws}",
        Workspace(InWorkspace::SeeWorkspace),
    ),
    route(
        "PATCH",
        "/v1/workspaces/{ws}",
        Workspace(InWorkspace::RenameWorkspace),
    ),
    route(
        "PUT",
        "/v1/workspaces/{ws}/plan",
        Workspace(InWorkspace::SelectPlan),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/members",
        Workspace(InWorkspace::SeeMembers),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/members/{user}",
        Workspace(InWorkspace::SeeMembers),
    ),
    noted(
        route(
            "PATCH",
            "/v1/workspaces/{ws}/members/{user}",
            Workspace(InWorkspace::ChangeRoles),
        ),
        UP_TO_OWN_ROLE,
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/members/{user}",
            Workspace(InWorkspace::RemoveMembers),
        ),
        OR_LEAVE,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/invitations",
            Workspace(InWorkspace::InviteMembers),
        ),
        UP_TO_OWN_ROLE,
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/invitations",
        Workspace(InWorkspace::InviteMembers),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/invitations/{inv}",
        Workspace(InWorkspace::InviteMembers),
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/invitations/{inv}",
            Workspace(InWorkspace::InviteMembers),
        ),
        UP_TO_OWN_ROLE,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/invitations/{inv}/resend",
            Workspace(InWorkspace::InviteMembers),
        ),
        UP_TO_OWN_ROLE,
    ),
    route(
        "POST",
        "/v1/workspaces/{ws}/api-keys",
        Workspace(InWorkspace::ManageKeys),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/api-keys",
        Workspace(InWorkspace::SeeKeys),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/api-keys/{key}",
        Workspace(InWorkspace::SeeKeys),
    ),
    route(
        "PATCH",
        "/v1/workspaces/{ws}/api-keys/{key}",
        Workspace(InWorkspace::ManageKeys),
    ),
    route(
        "DELETE",
        "/v1/workspaces/{ws}/api-keys/{key}",
        Workspace(InWorkspace::ManageKeys),
    ),
    route(
        "POST",
        "/v1/workspaces/{ws}/api-keys/{key}/rotate",
        Workspace(InWorkspace::ManageKeys),
    ),
    route(
        "POST",
        "/v1/organizations/{org}/api-keys",
        Organization(InOrganization::ManageKeys),
    ),
    route(
        "GET",
        "/v1/organizations/{org}/api-keys",
        Organization(InOrganization::SeeKeys),
    ),
    route(
        "GET",
        "/v1/organizations/{org}/api-keys/{key}",
        Organization(InOrganization::SeeKeys),
    ),
    route(
        "DELETE",
        "/v1/organizations/{org}/api-keys/{key}",
        Organization(InOrganization::ManageKeys),
    ),
    route(
        "POST",
        "/v1/organizations/{org}/api-keys/{key}/rotate",
        Organization(InOrganization::ManageKeys),
    ),
    noted(
        route("POST", "/v1/api-keys/verify", Public),
        "the key in the body is the secret",
    ),
    noted(route("POST", "/v1/invitations/accept", Public), OF_ADDRESS),
    noted(route("POST", "/v1/invitations/decline", Public), BY_TOKEN),
    route(
        "GET",
        "/v1/organizations/{org}/members",
        Organization(InOrganization::SeeMembers),
    ),
    route(
        "GET",
        "/v1/organizations/{org}/members/{user}",
        Organization(InOrganization::SeeMembers),
    ),
    route(
        "PUT",
        "/v1/organizations/{org}/members/{user}",
        Organization(InOrganization::ManageMembers),
    ),
    noted(
        route(
            "DELETE",
            "/v1/organizations/{org}/members/{user}",
            Organization(InOrganization::ManageMembers),
        ),
        OR_LEAVE_ORGANIZATION,
    ),
    route(
        "POST",
        "/v1/workspaces/{ws}/transfer-ownership",
        Workspace(InWorkspace::TransferOwnership),
    ),
    route(
        "DELETE",
        "/v1/workspaces/{ws}",
        Workspace(InWorkspace::DeleteWorkspace),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/policy",
        Workspace(InWorkspace::SeePolicy),
    ),
    route(
        "PUT",
        "/v1/workspaces/{ws}/policy",
        Workspace(InWorkspace::ChangePolicy),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/limits",
        Workspace(InWorkspace::SeeLimits),
    ),
    route(
        "PUT",
        "/v1/workspaces/{ws}/limits",
        Workspace(InWorkspace::ChangeLimits),
    ),
    route(
        "PUT",
        "/v1/workspaces/{ws}/legal-hold",
        Workspace(InWorkspace::HoldLegally),
    ),
    route(
        "DELETE",
        "/v1/workspaces/{ws}/legal-hold",
        Workspace(InWorkspace::HoldLegally),
    ),
    route(
        "POST",
        "/v1/workspaces/{ws}/auditors",
        Workspace(InWorkspace::ManageAuditors),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/auditors",
        Workspace(InWorkspace::ManageAuditors),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/auditors/{user}",
        Workspace(InWorkspace::ManageAuditors),
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/auditors/{user}",
            Workspace(InWorkspace::ManageAuditors),
        ),
        "oneself: `auditor.leave`",
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/can",
            Workspace(InWorkspace::AskWhoMay),
        ),
        "of a key: `api_key.read`",
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews",
            Workspace(InWorkspace::ManageCrews),
        ),
        OF_ITS_ENVIRONMENT,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "PATCH",
            "/v1/workspaces/{ws}/crews/{crew}",
            Workspace(InWorkspace::DescribeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/archive",
            Workspace(InWorkspace::ManageCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/agents",
            Workspace(InWorkspace::EditCrews),
        ),
        PROTECTED,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/agents",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "PUT",
            "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}",
            Workspace(InWorkspace::EditCrews),
        ),
        PROTECTED,
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}",
            Workspace(InWorkspace::EditCrews),
        ),
        PROTECTED,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}/versions",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}/versions/{version}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/pathways",
            Workspace(InWorkspace::EditCrews),
        ),
        PROTECTED,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/pathways",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "PUT",
            "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}",
            Workspace(InWorkspace::EditCrews),
        ),
        PROTECTED,
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}",
            Workspace(InWorkspace::EditCrews),
        ),
        PROTECTED,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}/versions",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}/versions/{version}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases",
            Workspace(InWorkspace::EditCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "PUT",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}",
            Workspace(InWorkspace::EditCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}",
            Workspace(InWorkspace::EditCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents",
            Workspace(InWorkspace::EditCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents/{doc}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "PUT",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents/{doc}",
            Workspace(InWorkspace::EditCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents/{doc}",
            Workspace(InWorkspace::EditCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/search",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/activity",
            Workspace(InWorkspace::SendActivity),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/activity",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/phone-numbers",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/phone-numbers",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/phone-numbers/{number}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "PUT",
            "/v1/workspaces/{ws}/crews/{crew}/phone-numbers/{number}",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/crews/{crew}/phone-numbers/{number}",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/channels",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/channels",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/channels/{channel}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "PUT",
            "/v1/workspaces/{ws}/crews/{crew}/channels/{channel}",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/crews/{crew}/channels/{channel}",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "PUT",
            "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}/rotate",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/integrations",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/integrations",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/integrations/{integration}",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "PUT",
            "/v1/workspaces/{ws}/crews/{crew}/integrations/{integration}",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "DELETE",
            "/v1/workspaces/{ws}/crews/{crew}/integrations/{integration}",
            Workspace(InWorkspace::ManageConnections),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/export",
            Workspace(InWorkspace::SeeCrews),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/diff",
            Workspace(InWorkspace::SeeCrews),
        ),
        BOTH_WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/crews/{crew}/changelog",
            Workspace(InWorkspace::SeePromotions),
        ),
        WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/crews/{crew}/promotions",
            Workspace(InWorkspace::ProposePromotions),
        ),
        BOTH_WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/promotions",
            Workspace(InWorkspace::ProposePromotions),
        ),
        BOTH_WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/promotions",
            Workspace(InWorkspace::SeePromotions),
        ),
        TARGET_WITHIN_REACH,
    ),
    noted(
        route(
            "GET",
            "/v1/workspaces/{ws}/promotions/{promotion}",
            Workspace(InWorkspace::SeePromotions),
        ),
        TARGET_WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/promotions/{promotion}/approve",
            Workspace(InWorkspace::DecidePromotions),
        ),
        NOT_THE_PROPOSER,
    ),
    route(
        "POST",
        "/v1/workspaces/{ws}/promotions/{promotion}/reject",
        Workspace(InWorkspace::DecidePromotions),
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/promotions/{promotion}/refresh",
            Workspace(InWorkspace::ProposePromotions),
        ),
        BOTH_WITHIN_REACH,
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/promotions/{promotion}/cancel",
            Workspace(InWorkspace::ProposePromotions),
        ),
        OWN_OR_DECIDES,
    ),
    route(
        "POST",
        "/v1/workspaces/{ws}/promotions/{promotion}/apply",
        Workspace(InWorkspace::DecidePromotions),
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/promotions/{promotion}/verify",
            Workspace(InWorkspace::ProposePromotions),
        ),
        TARGET_WITHIN_REACH,
    ),
    route(
        "POST",
        "/v1/workspaces/{ws}/promotions/{promotion}/rollback",
        Workspace(InWorkspace::DecidePromotions),
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/usage",
            Workspace(InWorkspace::SendUsage),
        ),
        WITHIN_REACH,
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/usage",
        Workspace(InWorkspace::SeeUsage),
    ),
    route(
        "GET",
        "/v1/organizations/{org}/usage",
        Organization(InOrganization::SeeUsage),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/statements",
        Workspace(InWorkspace::SeeUsage),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/statements/{month}",
        Workspace(InWorkspace::SeeUsage),
    ),
    route(
        "POST",
        "/v1/workspaces/{ws}/access-reviews",
        Workspace(InWorkspace::RunReviews),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/access-reviews",
        Workspace(InWorkspace::ReadAudit),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/access-reviews/{review}",
        Workspace(InWorkspace::ReadAudit),
    ),
    noted(
        route(
            "POST",
            "/v1/workspaces/{ws}/access-reviews/{review}/decisions",
            Workspace(InWorkspace::RunReviews),
        ),
        REVIEWERS,
    ),
    route(
        "POST",
        "/v1/workspaces/{ws}/access-reviews/{review}/close",
        Workspace(InWorkspace::RunReviews),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/access-reviews/{review}/report",
        Workspace(InWorkspace::ReadAudit),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/audit",
        Workspace(InWorkspace::ReadAudit),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/audit/export",
        Workspace(InWorkspace::ReadAudit),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/audit/stream",
        Workspace(InWorkspace::ReadAudit),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/audit/{position}",
        Workspace(InWorkspace::ReadAudit),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/access",
        Workspace(InWorkspace::ReadAudit),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/access/diff",
        Workspace(InWorkspace::ReadAudit),
    ),
    route(
        "GET",
        "/v1/organizations/{org}/audit",
        Organization(InOrganization::ReadAudit),
    ),
    route(
        "GET",
        "/v1/organizations/{org}/audit/export",
        Organization(InOrganization::ReadAudit),
    ),
    route(
        "GET",
        "/v1/organizations/{org}/audit/stream",
        Organization(InOrganization::ReadAudit),
    ),
    route(
        "GET",
        "/v1/organizations/{org}/audit/{position}",
        Organization(InOrganization::ReadAudit),
    ),
    noted(
        route(
            "POST",
            "/v1/operator/organizations/{org}/suspend",
            Operator(OperatorAct::SuspendOrganization),
        ),
        WITH_A_REASON,
    ),
    noted(
        route(
            "POST",
            "/v1/operator/organizations/{org}/resume",
            Operator(OperatorAct::ResumeOrganization),
        ),
        WITH_A_REASON,
    ),
    noted(
        route(
            "POST",
            "/v1/operator/workspaces/{ws}/recover",
            Operator(OperatorAct::RecoverWorkspace),
        ),
        "with a reason, where every owner is gone",
    ),
    route("GET", "/v1/log/checkpoint", Public),
    route("GET", "/v1/log/keys", Public),
    route("GET", "/v1/log/tile/{tile}", Public),
    route("GET", "/v1/log/proof/inclusion", Public),
    route("GET", "/v1/log/proof/consistency", Public),
    noted(
        route("POST", "/v1/log/cosignatures", Public),
        "what a configured witness has signed",
    ),
    route("GET", "/healthz", Public),
    route("GET", "/readyz", Public),
    route("GET", "/metrics", Public),
    route("GET", "/version", Public),
    route("GET", "/openapi.json", Public),
    route("GET", "/problems/{code}", Public),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::{
        api::openapi_json,
        domain::{
            api_keys::KeyRight,
            authority::{OrganizationRole, Role},
        },
    };

    /// The document's routes with whether they can be used without a session.
    fn described() -> Vec<(String, String, bool)> {
        let document: Value =
            serde_json::from_str(&openapi_json().expect("a document")).expect("JSON");
        let mut routes = Vec::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let open = operation["security"].as_array().into_iter().flatten();
                let open = open
                    .into_iter()
                    .any(|need| need.as_object().is_some_and(|need| need.is_empty()));
                routes.push((method.to_uppercase(), path.clone(), open));
            }
        }
        routes.sort();
        routes
    }

    #[test]
    fn every_route_has_its_row_and_every_row_its_route() {
        let mut rows: Vec<_> = ROUTES
            .iter()
            .map(|row| {
                (
                    row.method.to_owned(),
                    row.path.to_owned(),
                    row.access == Public,
                )
            })
            .collect();
        rows.sort();
        assert_eq!(described(), rows);
    }

    #[test]
    fn permissions_are_of_what_the_path_names() {
        for row in ROUTES {
            match row.access {
                Workspace(_) => {
                    assert!(row.path.starts_with("/v1/workspaces/{ws}"), "{}", row.path)
                }
                Organization(_) => assert!(
                    row.path.starts_with("/v1/organizations/{org}"),
                    "{}",
                    row.path
                ),
                Operator(_) => assert!(row.path.starts_with("/v1/operator/"), "{}", row.path),
                Public | Session | Own | Principal => {}
            }
        }
    }

    #[test]
    fn the_printed_matrix_is_current() {
        held("docs/permissions.md", &page());
    }

    #[test]
    fn the_printed_document_is_current() {
        held(
            "docs/openapi.json",
            &format!("{}\n", openapi_json().expect("a document")),
        );
    }

    fn held(name: &str, made: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os("CREWLOG_BLESS").is_some() {
            std::fs::write(&path, made).expect("the page can be written");
        }
        let printed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            printed == made,
            "{name} is not current: run this test with CREWLOG_BLESS=1"
        );
    }

    /// `docs/permissions.md`, as the tables make it.
    fn page() -> String {
        let mut page = String::from(
            "# Permissions\n\nMade from `src/domain/authority.rs` and `src/api/access.rs`; do not edit by hand.\n\n\
             ## In a workspace\n\n",
        );
        let [owner, admin, member, viewer] = Role::ALL.map(Role::name);
        let columns = [owner, admin, member, viewer, "auditor grant"];
        let rows = InWorkspace::ALL.map(|permission| {
            let mut may = Role::ALL.map(|role| permission.allows(role)).to_vec();
            may.push(permission.allows_auditor());
            (permission.name(), may, permission.of_keys())
        });
        push_matrix(&mut page, &columns, &rows);
        page.push_str("\n## In an organization\n\n");
        let roles = OrganizationRole::ALL.map(OrganizationRole::name);
        let rows = InOrganization::ALL.map(|permission| {
            let may = OrganizationRole::ALL.map(|role| permission.allows(role));
            (permission.name(), may.to_vec(), permission.of_keys())
        });
        push_matrix(&mut page, &roles, &rows);
        page.push_str(
            "\n## By route\n\nWhat somebody may not know of is answered as if it were not there (`404`); \
             a member, or an auditor, without the permission is told so (`403`). Both are kept in the audit log. \
             A key of an operator of the installation is refused everywhere but where one is asked for (`403`).\n\n\
             | route | who may | note |\n|---|---|---|\n",
        );
        for row in ROUTES {
            let who = match row.access {
                Public => "anybody".to_owned(),
                Session => "anybody with a session".to_owned(),
                Own => "with a session, on what is one's own".to_owned(),
                Principal => "with a session or an API key, on what is one's own".to_owned(),
                Workspace(permission) => format!("`{}` in the workspace", permission.name()),
                Organization(permission) => format!("`{}` in the organization", permission.name()),
                Operator(_) => "an operator of the installation".to_owned(),
            };
            page.push_str(&format!(
                "| `{} {}` | {who} | {} |\n",
                row.method, row.path, row.note
            ));
        }
        page
    }

    fn push_matrix(page: &mut String, roles: &[&str], rows: &[(&str, Vec<bool>, KeyRight)]) {
        page.push_str(&format!("| may | {} | API key |\n|---|", roles.join(" | ")));
        page.push_str(&"---|".repeat(roles.len() + 1));
        page.push('\n');
        for (name, may, of_keys) in rows {
            let may: Vec<_> = may
                .iter()
                .map(|may| if *may { "yes" } else { "–" })
                .collect();
            let of_keys = match of_keys {
                KeyRight::Every => "yes".to_owned(),
                KeyRight::Scope(scope) => format!("`{scope}`"),
                KeyRight::Never => "–".to_owned(),
            };
            page.push_str(&format!("| `{name}` | {} | {of_keys} |\n", may.join(" | ")));
        }
    }
}
