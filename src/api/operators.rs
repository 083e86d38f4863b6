//! What an operator of the installation does to those who are in it. They are told what was done,
//! and nothing of what is there.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, OperatorWriter},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch},
    json::Json,
    organizations::OrganizationStatus,
    problem::Problem,
    query::Path,
    respond::Resource,
    values::{self, Time, wrong},
};
use crate::{
    domain::ids::{OrganizationId, UserId, WorkspaceId},
    projections::OrganizationDocument,
    service::{Heir, Recovered, Service, Written},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(suspend_organization))
        .routes(routes!(resume_organization))
        .routes(routes!(recover_workspace))
}

/// Why an operator does something.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OperatorReason)]
pub struct WhyBody {
    /// Why; those that it is done to read it in their audit log.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

impl Validate for WhyBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([FieldError::check_why("/reason", &self.reason)])
    }
}

impl Command for WhyBody {
    fn reason(&self) -> Option<&str> {
        Some(&self.reason)
    }
}

/// Whom a workspace is given to: an account, by its id or its e-mail address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RecoverWorkspace)]
pub struct RecoverBody {
    user: Option<UserId>,
    #[schema(format = "email", max_length = 254)]
    email: Option<String>,
    /// Why; those that it is done to read it in their audit log.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

impl RecoverBody {
    fn heir(&self) -> Result<Heir, FieldError> {
        match (self.user, &self.email) {
            (Some(user), None) => Ok(Heir::User(user)),
            (None, Some(email)) => values::email("/email", email).map(Heir::Email),
            (Some(_), Some(_)) => Err(FieldError::invalid("/email", "either `user` or `email`")),
            (None, None) => Err(FieldError::invalid("/user", "`user` or `email`")),
        }
    }
}

impl Validate for RecoverBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            self.heir().err(),
            FieldError::check_why("/reason", &self.reason),
        ])
    }
}

impl Command for RecoverBody {
    fn reason(&self) -> Option<&str> {
        Some(&self.reason)
    }
}

/// How an organization stands, as its operator is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationStanding)]
pub struct StandingBody {
    id: OrganizationId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    status: OrganizationStatus,
    /// Since when it is suspended.
    #[schema(required)]
    suspended_at: Option<Time>,
}

impl StandingBody {
    fn written(written: Written<OrganizationDocument>) -> Resource<Self> {
        let organization = written.value;
        let body = Self {
            id: organization.id,
            version: organization.version,
            created_at: organization.created_at.into(),
            updated_at: organization.updated_at.into(),
            status: OrganizationStatus::of(&organization),
            suspended_at: organization.suspended_at.map(Into::into),
        };
        Resource::new(body.version, written.position, body).replayed(written.replayed)
    }
}

/// Who owns a workspace that was recovered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecoveredWorkspace)]
pub struct RecoveredBody {
    id: WorkspaceId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    /// The new owner.
    owner: UserId,
}

impl From<Recovered> for RecoveredBody {
    fn from(recovered: Recovered) -> Self {
        let workspace = recovered.workspace;
        Self {
            id: workspace.id,
            version: workspace.version,
            created_at: workspace.created_at.into(),
            updated_at: workspace.updated_at.into(),
            owner: recovered.owner,
        }
    }
}

/// Suspends an organization: it is read and audited, access is taken away, and nothing else goes on
/// in it. Its keys are good for nothing.
#[utoipa::path(
    post, path = "/v1/operator/organizations/{org}/suspend", tag = "operator",
    params(("org" = OrganizationId, Path), IfMatch, IdempotencyKey), request_body = WhyBody,
    responses((
        status = 200, description = "How the organization stands.", body = StandingBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn suspend_organization(
    State(service): State<Arc<Service>>,
    writer: OperatorWriter,
    Path(organization): Path<OrganizationId>,
    body: Json<WhyBody>,
) -> Result<Resource<StandingBody>, Problem> {
    let (request, operator) = writer.changing(&body)?;
    let written = service
        .suspend_organization(&request, &operator, organization)
        .await?;
    Ok(StandingBody::written(written))
}

/// Lets a suspended organization go on.
#[utoipa::path(
    post, path = "/v1/operator/organizations/{org}/resume", tag = "operator",
    params(("org" = OrganizationId, Path), IfMatch, IdempotencyKey), request_body = WhyBody,
    responses((
        status = 200, description = "How the organization stands.", body = StandingBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn resume_organization(
    State(service): State<Arc<Service>>,
    writer: OperatorWriter,
    Path(organization): Path<OrganizationId>,
    body: Json<WhyBody>,
) -> Result<Resource<StandingBody>, Problem> {
    let (request, operator) = writer.changing(&body)?;
    let written = service
        .resume_organization(&request, &operator, organization)
        .await?;
    Ok(StandingBody::written(written))
}

/// Makes somebody an owner of a workspace whose owners are gone: none of them has a live session,
/// or has signed in within 30 days.
#[utoipa::path(
    post, path = "/v1/operator/workspaces/{ws}/recover", tag = "operator",
    params(("ws" = WorkspaceId, Path), IfMatch, IdempotencyKey), request_body = RecoverBody,
    responses((
        status = 200, description = "The new owner.", body = RecoveredBody,
        headers(("ETag" = String, description = "The version of the workspace in quotes.")),
    )),
)]
pub async fn recover_workspace(
    State(service): State<Arc<Service>>,
    writer: OperatorWriter,
    Path(workspace): Path<WorkspaceId>,
    body: Json<RecoverBody>,
) -> Result<Resource<RecoveredBody>, Problem> {
    let (request, operator) = writer.changing(&body)?;
    let heir = body.value.heir()?;
    let written = service
        .recover_workspace(&request, &operator, workspace, heir)
        .await?;
    let body = RecoveredBody::from(written.value);
    let shown = Resource::new(body.version, written.position, body);
    Ok(shown.replayed(written.replayed))
}
