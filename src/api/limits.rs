//! The limits of a workspace.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, MomentQuery, Reader, Writer},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    plans::QuotasBody,
    problem::Problem,
    query::Path,
    respond::Resource,
    values::{Time, wrong},
};
use crate::{
    domain::{
        ids::WorkspaceId,
        plans::{PlanName, Quotas},
        workspace::Used,
    },
    service::{LimitsView, Service},
};

/// The most that a limit may be: what JSON keeps exactly.
const LIMIT_MAX: u64 = (1 << 53) - 1;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(read_limits, change_limits))
}

/// What a workspace may have, and has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Limits)]
pub struct LimitsBody {
    workspace: WorkspaceId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    #[schema(required)]
    plan: Option<PlanName>,
    /// What the plan allows.
    of_plan: QuotasBody,
    /// What its owners have set below that.
    limits: QuotasBody,
    /// What is allowed: the lower of the two.
    allowed: QuotasBody,
    used: UsedBody,
}

/// What there is of everything that is counted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Used)]
pub struct UsedBody {
    members: u64,
    /// Invitations that can be accepted; they count as members.
    pending_invitations: u64,
    crews: CrewsUsedBody,
    /// A key that is being rotated counts as one with its successor.
    api_keys: u64,
}

/// How many crews there are of each environment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CrewsUsed)]
pub struct CrewsUsedBody {
    development: u64,
    staging: u64,
    production: u64,
}

impl From<Used> for UsedBody {
    fn from(used: Used) -> Self {
        Self {
            members: used.members,
            pending_invitations: used.invitations,
            crews: CrewsUsedBody {
                development: used.development_crews,
                staging: used.staging_crews,
                production: used.production_crews,
            },
            api_keys: used.api_keys,
        }
    }
}

impl From<LimitsView> for LimitsBody {
    fn from(view: LimitsView) -> Self {
        Self {
            workspace: view.workspace,
            version: view.version,
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            plan: view.plan,
            of_plan: (&view.of_plan).into(),
            limits: (&view.limits).into(),
            allowed: (&view.allowed).into(),
            used: view.used.into(),
        }
    }
}

/// All limits as they are to be: what is left out, or `null`, is as the plan has it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangeLimits)]
pub struct ChangeLimitsBody {
    /// Members, and invitations that can be accepted.
    #[schema(minimum = 1, maximum = 9007199254740991u64)]
    members: Option<u64>,
    #[schema(minimum = 0, maximum = 9007199254740991u64)]
    crews_per_environment: Option<u64>,
    #[schema(minimum = 0, maximum = 9007199254740991u64)]
    api_keys: Option<u64>,
    /// Of everybody together.
    #[schema(minimum = 1, maximum = 9007199254740991u64)]
    requests_per_minute: Option<u64>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl ChangeLimitsBody {
    fn quotas(&self) -> Quotas {
        Quotas {
            members: self.members,
            crews_per_environment: self.crews_per_environment,
            api_keys: self.api_keys,
            requests_per_minute: self.requests_per_minute,
        }
    }
}

impl Validate for ChangeLimitsBody {
    fn validate(&self) -> Vec<FieldError> {
        let limit = |pointer: &'static str, value: Option<u64>, least: u64| {
            let is_out = value.is_some_and(|value| !(least..=LIMIT_MAX).contains(&value));
            is_out.then(|| {
                let detail = format!("{least} to {LIMIT_MAX}, or null");
                FieldError::invalid(pointer, detail)
            })
        };
        wrong([
            limit("/members", self.members, 1),
            limit("/crews_per_environment", self.crews_per_environment, 0),
            limit("/api_keys", self.api_keys, 0),
            limit("/requests_per_minute", self.requests_per_minute, 1),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for ChangeLimitsBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// What a workspace may have, and has.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/limits", tag = "workspaces",
    params(("ws" = WorkspaceId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The limits.", body = LimitsBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_limits(
    State(service): State<Arc<Service>>,
    reader: Reader<MomentQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Resource<LimitsBody>, Problem> {
    let found = service
        .limits(&reader.request, &reader.caller, workspace)
        .await?;
    let version = found.value.version;
    Ok(Resource::new(version, found.position, found.value.into()))
}

/// Sets limits below those of the plan. Refused where there is more of something already, with
/// all that there is too much of in `errors`.
#[utoipa::path(
    put, path = "/v1/workspaces/{ws}/limits", tag = "workspaces",
    params(("ws" = WorkspaceId, Path), IfMatch, IdempotencyKey), request_body = ChangeLimitsBody,
    responses((
        status = 200, description = "The limits as they now are.", body = LimitsBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn change_limits(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<ChangeLimitsBody>,
) -> Result<Resource<LimitsBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .change_limits(&request, &caller, workspace, body.value.quotas())
        .await?;
    let version = written.value.version;
    let limits = Resource::new(version, written.position, written.value.into());
    Ok(limits.replayed(written.replayed))
}
