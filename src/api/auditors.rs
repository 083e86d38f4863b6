//! Auditor grants of a workspace.

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
    paging::{AuditorCursor, PageQuery},
    problem::Problem,
    query::Path,
    respond::{Created, NoContent, Page, Resource},
    values::{self, GivenTime, ReasonOnly, Time, wrong},
};
use crate::{
    domain::ids::{UserId, WorkspaceId},
    service::{AuditorView, Service},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(grant_auditor, list_auditors))
        .routes(routes!(read_auditor, revoke_auditor))
}

/// Somebody who is no member and may read the audit log, until a time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Auditor)]
pub struct AuditorBody {
    user: UserId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    workspace: WorkspaceId,
    /// `erased` where it is gone.
    email: String,
    /// `erased` where it is gone.
    name: String,
    /// First moment at which they may no more.
    expires_at: Time,
    granted_by: UserId,
}

impl From<AuditorView> for AuditorBody {
    fn from(auditor: AuditorView) -> Self {
        Self {
            user: auditor.user,
            version: auditor.version,
            created_at: auditor.since.into(),
            updated_at: auditor.since.into(),
            workspace: auditor.workspace,
            email: auditor.email.into_text(),
            name: auditor.name.into_text(),
            expires_at: auditor.expires_at.into(),
            granted_by: auditor.granted_by,
        }
    }
}

/// Who may read the audit log, until when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GrantAuditor)]
pub struct GrantAuditorBody {
    /// Of somebody with an account who is no member.
    #[schema(format = "email", max_length = 254)]
    email: String,
    /// First moment at which they may no more: in the future, and at most a year away.
    expires_at: GivenTime,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for GrantAuditorBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::email("/email", &self.email).err(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for GrantAuditorBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Lets somebody who is no member read the workspace's audit log, until a time.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/auditors", tag = "team",
    params(("ws" = WorkspaceId, Path), IdempotencyKey), request_body = GrantAuditorBody,
    responses((status = 201, description = "The new grant.", body = AuditorBody)),
)]
pub async fn grant_auditor(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<GrantAuditorBody>,
) -> Result<Created<AuditorBody>, Problem> {
    let (request, caller) = writer.making(&body)?;
    let email = values::email("/email", &body.value.email)?;
    let GivenTime(expires_at) = body.value.expires_at;
    let written = service
        .grant_auditor(&request, &caller, workspace, &email, expires_at)
        .await?;
    let auditor = AuditorBody::from(written.value);
    let location = format!("/v1/workspaces/{workspace}/auditors/{}", auditor.user);
    let made = Created::new(location, auditor.version, written.position, auditor);
    Ok(made.replayed(written.replayed))
}

/// The auditor grants of a workspace, in order of the people's ids.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/auditors", tag = "team",
    params(("ws" = WorkspaceId, Path), PageQuery<AuditorCursor>, MinimumPosition),
    responses((status = 200, description = "A page of grants.", body = Page<AuditorBody>)),
)]
pub async fn list_auditors(
    State(service): State<Arc<Service>>,
    reader: Reader<PageQuery<AuditorCursor>>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Page<AuditorBody>, Problem> {
    let Reader {
        request,
        caller,
        query,
    } = reader;
    let limit = query.limit.count();
    let page = service
        .auditors_of(&request, &caller, workspace, query.after(), limit)
        .await?;
    Ok(Page::keyed::<AuditorCursor, _>(page, Into::into))
}

/// An auditor grant.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/auditors/{user}", tag = "team",
    params(("ws" = WorkspaceId, Path), ("user" = UserId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The grant.", body = AuditorBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_auditor(
    State(service): State<Arc<Service>>,
    reader: Reader<MomentQuery>,
    Path((workspace, user)): Path<(WorkspaceId, UserId)>,
) -> Result<Resource<AuditorBody>, Problem> {
    let found = service
        .auditor(&reader.request, &reader.caller, workspace, user)
        .await?;
    let version = found.value.version;
    Ok(Resource::new(version, found.position, found.value.into()))
}

/// Takes an auditor grant back.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/auditors/{user}", tag = "team",
    params(("ws" = WorkspaceId, Path), ("user" = UserId, Path), IfMatch, IdempotencyKey),
    request_body = Option<ReasonOnly>,
    responses((status = 204, description = "They may read the audit log no more.")),
)]
pub async fn revoke_auditor(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((workspace, user)): Path<(WorkspaceId, UserId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<NoContent, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .revoke_auditor(&request, &caller, workspace, user)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}
