//! Workspaces that are handed over, and deleted.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, Writer},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch},
    json::Json,
    problem::Problem,
    query::Path,
    respond::{NoContent, Resource},
    values::{self, wrong},
    workspaces::WorkspaceBody,
};
use crate::{
    domain::ids::{UserId, WorkspaceId},
    service::Service,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(transfer_ownership))
        .routes(routes!(delete_workspace))
}

/// Who is to own the workspace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TransferOwnership)]
pub struct TransferBody {
    /// A member of the workspace.
    user: UserId,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for TransferBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([FieldError::check_reason(self.reason.as_deref())])
    }
}

impl Command for TransferBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// That it is this workspace which is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeleteWorkspace)]
pub struct DeleteBody {
    /// The workspace's name.
    #[schema(min_length = 1, max_length = 120)]
    confirm: String,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for DeleteBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::name("/confirm", &self.confirm).err(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for DeleteBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Makes a member the owner of a workspace, and the caller an admin.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/transfer-ownership", tag = "team",
    params(("ws" = WorkspaceId, Path), IfMatch, IdempotencyKey), request_body = TransferBody,
    responses((
        status = 200, description = "The workspace, as it is now another's.", body = WorkspaceBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn transfer_ownership(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<TransferBody>,
) -> Result<Resource<WorkspaceBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .transfer_ownership(&request, &caller, workspace, body.value.user)
        .await?;
    Ok(WorkspaceBody::changed(written))
}

/// Deletes a workspace: every access to it ends at once, and its history stays.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}", tag = "workspaces",
    params(("ws" = WorkspaceId, Path), IfMatch, IdempotencyKey), request_body = DeleteBody,
    responses((status = 204, description = "It is there no more.")),
)]
pub async fn delete_workspace(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<DeleteBody>,
) -> Result<NoContent, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .delete_workspace(&request, &caller, workspace, &body.value.confirm)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}
