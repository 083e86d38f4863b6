//! Legal holds on a workspace.

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
    respond::NoContent,
    values::wrong,
};
use crate::{domain::ids::WorkspaceId, service::Service};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(place_legal_hold, lift_legal_hold))
}

/// Why there is a legal hold, or is one no more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LegalHold)]
pub struct LegalHoldBody {
    /// Why; kept in the audit log.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

impl Validate for LegalHoldBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([FieldError::check_why("/reason", &self.reason)])
    }
}

impl Command for LegalHoldBody {
    fn reason(&self) -> Option<&str> {
        Some(&self.reason)
    }
}

/// Places a legal hold: as long as there is one, the workspace is not deleted, and its
/// organization erases nobody. Nothing happens where there is one.
#[utoipa::path(
    put, path = "/v1/workspaces/{ws}/legal-hold", tag = "audit",
    params(("ws" = WorkspaceId, Path), IfMatch, IdempotencyKey), request_body = LegalHoldBody,
    responses((status = 204, description = "There is one.")),
)]
pub async fn place_legal_hold(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<LegalHoldBody>,
) -> Result<NoContent, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .hold_legally(&request, &caller, workspace, true)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}

/// Lifts a legal hold: what was to be erased meanwhile is, soon after. Nothing happens where
/// there is none.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/legal-hold", tag = "audit",
    params(("ws" = WorkspaceId, Path), IfMatch, IdempotencyKey), request_body = LegalHoldBody,
    responses((status = 204, description = "There is none.")),
)]
pub async fn lift_legal_hold(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<LegalHoldBody>,
) -> Result<NoContent, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .hold_legally(&request, &caller, workspace, false)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}
