//! Who has access to a workspace, at any moment, and what differs between two.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    as_of::AsOf,
    audit::FilterText,
    exchange::{PrincipalReader, ReadQuery},
    headers::MinimumPosition,
    problem::Problem,
    query::Path,
    respond::Resource,
    values::Time,
};
use crate::{
    domain::{
        api_keys::KeyScope,
        authority::Role,
        environment::Environment,
        ids::{CrewId, PrincipalId, UserId, WorkspaceId},
    },
    service::{AccessDifference, AccessQuestion, AccessReport, AccessView, MomentInLog, Service},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(read_access))
        .routes(routes!(compare_access))
}

/// Access of one person or key, through one thing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Access)]
pub struct AccessBody {
    /// `user` or `api_key`.
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    /// As it was then; `erased` where it is gone.
    name: String,
    /// `membership`, `auditor_grant`, `organization_role`, `api_key` or `organization_key`.
    through: &'static str,
    /// Of a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Of a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<KeyScope>>,
    /// The crews that a key is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    crews: Option<Vec<CrewId>>,
    /// Those that it reaches.
    environments: Vec<Environment>,
    /// What it may do in crews, by environment. Production that is changed by promotion alone
    /// nobody may edit; `production.break_glass` says who could all the same.
    may: BTreeMap<&'static str, Vec<&'static str>>,
    /// When it began to count.
    since: Time,
    /// Who gave it; of a membership by invitation the inviter.
    #[schema(required)]
    granted_by: Option<UserId>,
    /// As it was then; `erased` where it is gone.
    #[schema(required)]
    granted_by_name: Option<String>,
    /// The entry that gave it, or last changed how far it goes.
    granted_at_position: u64,
    /// Why, as was said when it was given.
    #[schema(required)]
    reason: Option<String>,
    /// First moment at which it counts no more.
    #[schema(required)]
    until: Option<Time>,
    /// The role from then on, where one follows.
    #[schema(required)]
    afterwards: Option<Role>,
    /// When a key was last used, to the minute; when a person last signed in or did something in
    /// the workspace. As of the moment that is told of.
    #[schema(required)]
    last_used_at: Option<Time>,
}

impl From<AccessView> for AccessBody {
    fn from(view: AccessView) -> Self {
        let held = view.access.held;
        let kind = match held.principal {
            PrincipalId::User(_) => "user",
            PrincipalId::Key(_) => "api_key",
        };
        let may = held.reach.iter().map(|(environment, may)| {
            let names = may.iter().map(|permission| permission.name());
            (environment.name(), names.collect())
        });
        Self {
            kind,
            id: held.principal.to_string(),
            name: view.name,
            through: held.through.name(),
            role: held.through.role(),
            may: may.collect(),
            environments: held.reach.keys().copied().collect(),
            scopes: held.scopes.map(|scopes| scopes.into_iter().collect()),
            crews: held.crews.map(|crews| crews.into_iter().collect()),
            since: view.since.into(),
            granted_by: view.access.grant.by,
            granted_by_name: view.granted_by_name,
            granted_at_position: view.access.grant.position,
            reason: view.reason,
            until: held.until.map(Into::into),
            afterwards: held.afterwards,
            last_used_at: view.last_used_at.map(Into::into),
        }
    }
}

/// Who had access at a moment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccessReport)]
pub struct AccessReportBody {
    /// The moment.
    at: Time,
    /// The last entry that it takes into account.
    position: u64,
    principals: Vec<AccessBody>,
}

impl From<AccessReport> for AccessReportBody {
    fn from(report: AccessReport) -> Self {
        Self {
            at: report.at.into(),
            position: report.position,
            principals: report.principals.into_iter().map(Into::into).collect(),
        }
    }
}

/// A report as it is answered.
pub fn shown_access(report: AccessReport) -> serde_json::Value {
    let body = AccessReportBody::from(report);
    serde_json::to_value(body).expect("a report has only names as members")
}

/// A moment of the log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MomentInLog)]
pub struct MomentBody {
    at: Time,
    position: u64,
}

impl From<MomentInLog> for MomentBody {
    fn from(moment: MomentInLog) -> Self {
        Self {
            at: moment.at.into(),
            position: moment.position,
        }
    }
}

/// Access as it was, and as it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangedAccess)]
pub struct ChangedAccessBody {
    from: AccessBody,
    to: AccessBody,
}

/// What differs in access between two moments.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccessDifference)]
pub struct AccessDifferenceBody {
    from: MomentBody,
    to: MomentBody,
    added: Vec<AccessBody>,
    removed: Vec<AccessBody>,
    changed: Vec<ChangedAccessBody>,
}

impl From<AccessDifference> for AccessDifferenceBody {
    fn from(difference: AccessDifference) -> Self {
        let changed = difference.changed.into_iter();
        Self {
            from: difference.from.into(),
            to: difference.to.into(),
            added: difference.added.into_iter().map(Into::into).collect(),
            removed: difference.removed.into_iter().map(Into::into).collect(),
            changed: changed
                .map(|(from, to)| ChangedAccessBody {
                    from: from.into(),
                    to: to.into(),
                })
                .collect(),
        }
    }
}

/// Which access to tell of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AccessQuery {
    /// Only what reaches it.
    #[param(inline)]
    environment: Option<Environment>,
    /// The id of a person or a key.
    #[param(inline)]
    principal: Option<FilterText>,
    /// Now, where nothing is said.
    #[param(inline)]
    as_of: Option<AsOf>,
}

impl ReadQuery for AccessQuery {}

/// Which access to compare.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AccessDifferenceQuery {
    /// The earlier moment; before the first entry, where nothing is said.
    #[param(inline)]
    from: Option<AsOf>,
    /// The later moment; now, where nothing is said.
    #[param(inline)]
    to: Option<AsOf>,
    /// Only what reaches it, then or now.
    #[param(inline)]
    environment: Option<Environment>,
    /// The id of a person or a key.
    #[param(inline)]
    principal: Option<FilterText>,
}

impl ReadQuery for AccessDifferenceQuery {}

fn principal(text: Option<FilterText>) -> Result<Option<PrincipalId>, Problem> {
    let wrong = |error| Problem::invalid_request(format!("principal: {error}"));
    text.map(|FilterText(text)| text.parse().map_err(wrong))
        .transpose()
}

/// Who has access to a workspace, or had it at a moment: members, auditors, keys, and whoever
/// reaches it from its organization. The report is itself an entry of the audit log.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/access", tag = "audit",
    params(("ws" = WorkspaceId, Path), AccessQuery, MinimumPosition),
    responses((status = 200, description = "Who has access.", body = AccessReportBody)),
)]
pub async fn read_access(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<AccessQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Resource<AccessReportBody>, Problem> {
    let query = reader.query;
    let question = AccessQuestion {
        environment: query.environment,
        principal: principal(query.principal)?,
        as_of: query.as_of.map(|AsOf(moment)| moment),
    };
    let found = service
        .access(&reader.request, &reader.principal, workspace, question)
        .await?;
    Ok(Resource::unversioned(found.position, found.value.into()))
}

/// What differs in access to a workspace between two moments.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/access/diff", tag = "audit",
    params(("ws" = WorkspaceId, Path), AccessDifferenceQuery, MinimumPosition),
    responses((status = 200, description = "What differs.", body = AccessDifferenceBody)),
)]
pub async fn compare_access(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<AccessDifferenceQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Resource<AccessDifferenceBody>, Problem> {
    let query = reader.query;
    let from = query.from.map(|AsOf(moment)| moment);
    let question = AccessQuestion {
        environment: query.environment,
        principal: principal(query.principal)?,
        as_of: query.to.map(|AsOf(moment)| moment),
    };
    let found = service
        .access_difference(
            &reader.request,
            &reader.principal,
            workspace,
            from,
            question,
        )
        .await?;
    Ok(Resource::unversioned(found.position, found.value.into()))
}
