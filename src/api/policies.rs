//! The policy of a workspace.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, MomentQuery, PrincipalReader, Writer},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    problem::Problem,
    query::Path,
    respond::Resource,
    values::{Time, wrong},
};
use crate::{
    domain::{
        ids::WorkspaceId,
        workspace::{Policy, ProductionChanges},
    },
    projections::PolicyDocument,
    service::Service,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(read_policy, change_policy))
}

/// What the owners of a workspace have decided about how it is worked in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policy)]
pub struct PolicyBody {
    workspace: WorkspaceId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    production_changes: ProductionChanges,
    approvals_needed: u8,
    self_approval: bool,
    /// `null`: as old as they like.
    #[schema(required)]
    key_rotation_days: Option<u16>,
}

impl From<PolicyDocument> for PolicyBody {
    fn from(document: PolicyDocument) -> Self {
        let policy = document.policy;
        Self {
            workspace: document.workspace,
            version: document.version,
            created_at: document.created_at.into(),
            updated_at: document.updated_at.into(),
            production_changes: policy.production_changes,
            approvals_needed: policy.approvals_needed,
            self_approval: policy.self_approval,
            key_rotation_days: policy.key_rotation_days,
        }
    }
}

/// The whole policy as it is to be: what is left out is as it is in a new workspace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangePolicy)]
pub struct ChangePolicyBody {
    /// `promotion_only` where nobody says.
    #[serde(default = "production_changes")]
    production_changes: ProductionChanges,
    /// How many approvals a promotion takes; 1 where nobody says.
    #[serde(default = "approvals_needed")]
    #[schema(minimum = 0, maximum = 10)]
    approvals_needed: u8,
    /// Whether who proposes a promotion may approve it; `false` where nobody says.
    #[serde(default)]
    self_approval: bool,
    /// How old keys may become, in days; as old as they like where nobody says.
    #[schema(minimum = 1, maximum = 3650)]
    key_rotation_days: Option<u16>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

fn production_changes() -> ProductionChanges {
    Policy::default().production_changes
}

fn approvals_needed() -> u8 {
    Policy::default().approvals_needed
}

impl ChangePolicyBody {
    fn policy(&self) -> Policy {
        Policy {
            production_changes: self.production_changes,
            approvals_needed: self.approvals_needed,
            self_approval: self.self_approval,
            key_rotation_days: self.key_rotation_days,
        }
    }
}

impl Validate for ChangePolicyBody {
    fn validate(&self) -> Vec<FieldError> {
        let too_many = self.approvals_needed > Policy::APPROVALS_MAX;
        let days = self.key_rotation_days;
        let no_days = days.is_some_and(|days| !(1..=Policy::ROTATION_DAYS_MAX).contains(&days));
        wrong([
            too_many.then(|| {
                let detail = format!("0 to {}", Policy::APPROVALS_MAX);
                FieldError::invalid("/approvals_needed", detail)
            }),
            no_days.then(|| {
                let detail = format!("1 to {}, or null", Policy::ROTATION_DAYS_MAX);
                FieldError::invalid("/key_rotation_days", detail)
            }),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for ChangePolicyBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// The policy of a workspace.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/policy", tag = "workspaces",
    params(("ws" = WorkspaceId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The policy.", body = PolicyBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_policy(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Resource<PolicyBody>, Problem> {
    let found = service
        .policy(&reader.request, &reader.principal, workspace)
        .await?;
    let version = found.value.version;
    Ok(Resource::new(version, found.position, found.value.into()))
}

/// Puts another policy in place of the one there is.
#[utoipa::path(
    put, path = "/v1/workspaces/{ws}/policy", tag = "workspaces",
    params(("ws" = WorkspaceId, Path), IfMatch, IdempotencyKey), request_body = ChangePolicyBody,
    responses((
        status = 200, description = "The policy as it now is.", body = PolicyBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn change_policy(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<ChangePolicyBody>,
) -> Result<Resource<PolicyBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .change_policy(&request, &caller, workspace, body.value.policy())
        .await?;
    let version = written.value.version;
    let policy = Resource::new(version, written.position, written.value.into());
    Ok(policy.replayed(written.replayed))
}
