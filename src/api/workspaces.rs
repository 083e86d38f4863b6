//! Workspaces, and the plan that each is on.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, MomentQuery, PrincipalReader, PrincipalWriter, Writer},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    organizations::NamedBody,
    paging::{PageQuery, WorkspaceCursor},
    problem::Problem,
    query::Path,
    respond::{Created, Page, Resource},
    sign_up::plan_or_default,
    values::{self, Time, wrong},
};
use crate::{
    domain::{
        ids::{OrganizationId, UserId, WorkspaceId},
        plans::PlanName,
    },
    projections::WorkspaceDocument,
    service::{Principal, Service, Written},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(create_workspace))
        .routes(routes!(list_workspaces))
        .routes(routes!(read_workspace, rename_workspace))
        .routes(routes!(select_plan))
}

/// Billing, team, keys, limits and policy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Workspace)]
pub struct WorkspaceBody {
    id: WorkspaceId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    organization: OrganizationId,
    name: String,
    #[schema(required)]
    plan: Option<PlanName>,
    created_by: UserId,
}

impl From<WorkspaceDocument> for WorkspaceBody {
    fn from(workspace: WorkspaceDocument) -> Self {
        Self {
            id: workspace.id,
            version: workspace.version,
            created_at: workspace.created_at.into(),
            updated_at: workspace.updated_at.into(),
            organization: workspace.organization,
            name: workspace.name,
            plan: workspace.plan,
            created_by: workspace.created_by,
        }
    }
}

impl WorkspaceBody {
    pub(super) fn changed(written: Written<WorkspaceDocument>) -> Resource<Self> {
        let version = written.value.version;
        let changed = Resource::new(version, written.position, written.value.into());
        changed.replayed(written.replayed)
    }
}

/// What a new workspace is called, and its plan.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWorkspace)]
pub struct NewWorkspaceBody {
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// `free` where nobody says.
    plan: Option<PlanName>,
    /// Who becomes the owner: for API keys of the organization, which must name somebody. A
    /// person owns what they make.
    owner: Option<UserId>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for NewWorkspaceBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::name("/name", &self.name).err(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewWorkspaceBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Which plan a workspace is to be on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SelectPlan)]
pub struct SelectPlanBody {
    plan: PlanName,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for SelectPlanBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([FieldError::check_reason(self.reason.as_deref())])
    }
}

impl Command for SelectPlanBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Makes a workspace in an organization; the caller becomes its owner, or whom an API key names.
#[utoipa::path(
    post, path = "/v1/organizations/{org}/workspaces", tag = "workspaces",
    params(("org" = OrganizationId, Path), IdempotencyKey), request_body = NewWorkspaceBody,
    responses((status = 201, description = "The new workspace.", body = WorkspaceBody)),
)]
pub async fn create_workspace(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(organization): Path<OrganizationId>,
    body: Json<NewWorkspaceBody>,
) -> Result<Created<WorkspaceBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let name = values::name("/name", &body.value.name)?;
    let plan = plan_or_default("/plan", body.value.plan)?;
    let owner = body.value.owner;
    let written = match &principal {
        Principal::Person(_) if owner.is_some() => {
            let detail = "a person owns what they make; hand it over afterwards";
            return Err(FieldError::invalid("/owner", detail).into());
        }
        Principal::Person(caller) => {
            service
                .create_workspace(&request, caller, organization, name, plan)
                .await?
        }
        Principal::Key(key) => {
            service
                .create_workspace_for(&request, key, organization, (name, plan), owner)
                .await?
        }
    };
    let workspace = WorkspaceBody::from(written.value);
    let location = format!("/v1/workspaces/{}", workspace.id);
    let made = Created::new(location, workspace.version, written.position, workspace);
    Ok(made.replayed(written.replayed))
}

/// The workspaces that the caller is in or audits, or that an API key is for, in order of
/// their ids.
#[utoipa::path(
    get, path = "/v1/workspaces", tag = "workspaces",
    params(PageQuery<WorkspaceCursor>, MinimumPosition),
    responses((status = 200, description = "A page of workspaces.", body = Page<WorkspaceBody>)),
)]
pub async fn list_workspaces(
    State(service): State<Arc<Service>>,
    PrincipalReader {
        request,
        principal,
        query,
    }: PrincipalReader<PageQuery<WorkspaceCursor>>,
) -> Result<Page<WorkspaceBody>, Problem> {
    let page = service
        .workspaces_of(&request, &principal, query.after(), query.limit.count())
        .await?;
    Ok(Page::keyed::<WorkspaceCursor, _>(page, Into::into))
}

/// A workspace.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}", tag = "workspaces",
    params(("ws" = WorkspaceId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The workspace.", body = WorkspaceBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_workspace(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Resource<WorkspaceBody>, Problem> {
    let found = service
        .workspace(&reader.request, &reader.principal, workspace)
        .await?;
    let version = found.value.version;
    Ok(Resource::new(version, found.position, found.value.into()))
}

/// Renames a workspace.
#[utoipa::path(
    patch, path = "/v1/workspaces/{ws}", tag = "workspaces",
    params(("ws" = WorkspaceId, Path), IfMatch, IdempotencyKey), request_body = NamedBody,
    responses((
        status = 200, description = "The workspace as it now is.", body = WorkspaceBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn rename_workspace(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<NamedBody>,
) -> Result<Resource<WorkspaceBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let name = values::name("/name", &body.value.name)?;
    let written = service
        .rename_workspace(&request, &caller, workspace, name)
        .await?;
    Ok(WorkspaceBody::changed(written))
}

/// Puts a workspace on a plan.
#[utoipa::path(
    put, path = "/v1/workspaces/{ws}/plan", tag = "workspaces",
    params(("ws" = WorkspaceId, Path), IfMatch, IdempotencyKey), request_body = SelectPlanBody,
    responses((
        status = 200, description = "The workspace as it now is.", body = WorkspaceBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn select_plan(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<SelectPlanBody>,
) -> Result<Resource<WorkspaceBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .select_plan(&request, &caller, workspace, body.value.plan)
        .await?;
    Ok(WorkspaceBody::changed(written))
}
