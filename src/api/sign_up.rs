//! Signing up: an account, and with it, in one go, an organization and a workspace.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Asked, Command},
    fields::{FieldError, Validate},
    headers::IdempotencyKey,
    json::{Json, Object},
    me::MeBody,
    organizations::OrganizationBody,
    problem::Problem,
    respond::Created,
    sessions::SessionBody,
    values::{self, Secret, wrong},
    workspaces::WorkspaceBody,
};
use crate::{
    domain::plans::PlanName,
    service::{FirstWorkspace, Service, SignUp, SignedUp, plans::DEFAULT_PLAN},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(sign_up))
}

/// What somebody signs up with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SignUp)]
pub struct SignUpBody {
    #[schema(format = "email", max_length = 254)]
    email: String,
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 256)]
    password: Secret,
    /// What people see.
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// An organization, owned by the new account.
    #[schema(value_type = Option<SignUpOrganization>)]
    organization: Option<Object<SignUpOrganization>>,
    /// A workspace in that organization.
    #[schema(value_type = Option<SignUpWorkspace>)]
    workspace: Option<Object<SignUpWorkspace>>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// The organization that is made with a sign-up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignUpOrganization {
    #[schema(min_length = 1, max_length = 120)]
    name: String,
}

/// The workspace that is made with a sign-up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignUpWorkspace {
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// `free` where nobody says.
    plan: Option<PlanName>,
}

impl Validate for SignUpBody {
    fn validate(&self) -> Vec<FieldError> {
        let organization = self.organization.as_ref().map(|Object(made)| made);
        let workspace = self.workspace.as_ref().map(|Object(made)| made);
        let alone = workspace.is_some() && organization.is_none();
        wrong([
            values::email("/email", &self.email).err(),
            values::check_new_password("/password", &self.password),
            values::name("/name", &self.name).err(),
            organization.and_then(|made| values::name("/organization/name", &made.name).err()),
            workspace.and_then(|made| values::name("/workspace/name", &made.name).err()),
            alone.then(|| FieldError::invalid("/workspace", "a workspace needs an organization")),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for SignUpBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl SignUpBody {
    fn into_asked(self) -> Result<SignUp, FieldError> {
        let organization = self
            .organization
            .map(|Object(made)| values::name("/organization/name", &made.name));
        let workspace = self.workspace.map(|Object(made)| {
            Ok(FirstWorkspace {
                name: values::name("/workspace/name", &made.name)?,
                plan: plan_or_default("/workspace/plan", made.plan)?,
            })
        });
        Ok(SignUp {
            email: values::email("/email", &self.email)?,
            password: self.password.into_inner(),
            name: values::name("/name", &self.name)?,
            organization: organization.transpose()?,
            workspace: workspace.transpose()?,
        })
    }
}

/// The plan that was named, or the one that a workspace gets otherwise.
pub(super) fn plan_or_default(
    pointer: &str,
    plan: Option<PlanName>,
) -> Result<PlanName, FieldError> {
    let named = plan.map_or_else(|| DEFAULT_PLAN.parse(), Ok);
    named.map_err(|error: crate::domain::plans::InvalidPlanName| {
        FieldError::invalid(pointer, error.to_string())
    })
}

/// Everything that a sign-up made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignedUp)]
pub struct SignedUpBody {
    user: MeBody,
    #[schema(required)]
    organization: Option<OrganizationBody>,
    #[schema(required)]
    workspace: Option<WorkspaceBody>,
    /// With its token, this once.
    session: SessionBody,
}

impl From<SignedUp> for SignedUpBody {
    fn from(made: SignedUp) -> Self {
        Self {
            user: made.me.into(),
            organization: made.organization.map(Into::into),
            workspace: made.workspace.map(Into::into),
            session: made.session.into(),
        }
    }
}

/// Makes an account and its first session and, in the same entry of the log or not at all,
/// an organization and a workspace.
#[utoipa::path(
    post, path = "/v1/signup", tag = "getting in", security(()),
    params(IdempotencyKey), request_body = SignUpBody,
    responses((status = 201, description = "All that was made, and a session.", body = SignedUpBody)),
)]
pub async fn sign_up(
    State(service): State<Arc<Service>>,
    asked: Asked,
    body: Json<SignUpBody>,
) -> Result<Created<SignedUpBody>, Problem> {
    let request = asked.making(&body)?;
    let written = service.sign_up(&request, body.value.into_asked()?).await?;
    let (position, version) = (written.position, written.value.me.version);
    let made = Created::new("/v1/me", version, position, written.value.into());
    Ok(made.replayed(written.replayed))
}
