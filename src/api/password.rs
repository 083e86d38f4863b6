//! Choosing another password.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, Writer},
    fields::{FieldError, Validate},
    headers::IdempotencyKey,
    json::Json,
    problem::Problem,
    respond::NoContent,
    values::{self, Secret, wrong},
};
use crate::service::{PasswordChange, Service};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(change_password))
}

/// What a password is changed with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangePassword)]
pub struct ChangePasswordBody {
    /// The present one, which proves who changes it.
    #[schema(value_type = String, format = "password", max_length = 256)]
    current_password: Secret,
    /// Another one.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 256)]
    new_password: Secret,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for ChangePasswordBody {
    fn validate(&self) -> Vec<FieldError> {
        let same = self.new_password.is(&self.current_password);
        wrong([
            values::check_tried_password("/current_password", &self.current_password),
            values::check_new_password("/new_password", &self.new_password),
            same.then(|| FieldError::invalid("/new_password", "must not be the present one")),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for ChangePasswordBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Gives the caller another password. Every session of theirs ends but the one that asks. A
/// wrong present password counts as a failed sign-in does.
#[utoipa::path(
    post, path = "/v1/me/password", tag = "getting in",
    params(IdempotencyKey), request_body = ChangePasswordBody,
    responses((status = 204, description = "It is changed, and the other sessions have ended.")),
)]
pub async fn change_password(
    State(service): State<Arc<Service>>,
    writer: Writer,
    body: Json<ChangePasswordBody>,
) -> Result<NoContent, Problem> {
    let (request, caller) = writer.making(&body)?;
    let change = PasswordChange {
        current: body.value.current_password.into_inner(),
        new: body.value.new_password.into_inner(),
    };
    let written = service.change_password(&request, &caller, change).await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}
