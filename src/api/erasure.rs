//! Erasing one's own account.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, LastWriter},
    fields::{FieldError, Validate},
    headers::IdempotencyKey,
    json::Json,
    problem::Problem,
    respond::NoContent,
    values::{self, Secret, wrong},
};
use crate::service::Service;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(erase_account))
}

/// What proves that it is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EraseAccount)]
pub struct EraseBody {
    /// The present one.
    #[schema(value_type = String, format = "password", max_length = 256)]
    password: Secret,
    /// Why; sealed under the key that this destroys, so that nobody reads it.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for EraseBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::check_tried_password("/password", &self.password),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for EraseBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Erases the caller's account, at once and for good: its key is destroyed, its sessions and
/// memberships end, and its e-mail address is free. Each organization destroys the key of its own
/// copy after its retention, 30 days by default, and not before a legal hold is lifted. A last
/// owner hands over first: `errors` has the ids. Repeated with its `Idempotency-Key` and the same
/// token, it is answered again.
#[utoipa::path(
    post, path = "/v1/me/erase", tag = "getting in",
    params(IdempotencyKey), request_body = EraseBody,
    responses((status = 204, description = "It is gone.")),
)]
pub async fn erase_account(
    State(service): State<Arc<Service>>,
    writer: LastWriter,
    body: Json<EraseBody>,
) -> Result<NoContent, Problem> {
    let (request, caller) = writer.making(&body)?;
    let password = body.value.password.into_inner();
    let written = service
        .erase_account(&request, caller.as_ref(), password)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}
