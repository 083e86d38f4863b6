//! Members of a workspace.

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
    paging::{MemberCursor, PageQuery},
    problem::Problem,
    query::Path,
    respond::{NoContent, Page, Resource},
    values::{GivenTime, ReasonOnly, Time, wrong},
};
use crate::{
    domain::{
        authority::Role,
        ids::{UserId, WorkspaceId},
    },
    service::{MemberView, Service},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(list_members))
        .routes(routes!(read_member, change_role, remove_member))
}

/// A member of a workspace, as their organization knows them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub struct MemberBody {
    user: UserId,
    pub(super) version: u64,
    created_at: Time,
    updated_at: Time,
    workspace: WorkspaceId,
    /// `erased` where it is gone.
    email: String,
    /// `erased` where it is gone.
    name: String,
    role: Role,
    since: Time,
    /// `null` for who made the workspace.
    #[schema(required)]
    invited_by: Option<UserId>,
    /// First moment at which the role, or the membership, is over; `null` where it lasts.
    #[schema(required)]
    until: Option<Time>,
    /// The role from then on; `null` where the membership ends, or the role lasts.
    #[schema(required)]
    afterwards: Option<Role>,
}

impl From<MemberView> for MemberBody {
    fn from(member: MemberView) -> Self {
        Self {
            user: member.user,
            version: member.version,
            created_at: member.since.into(),
            updated_at: member.updated_at.into(),
            workspace: member.workspace,
            email: member.email.into_text(),
            name: member.name.into_text(),
            role: member.role,
            since: member.since.into(),
            invited_by: member.invited_by,
            until: member.until.map(Into::into),
            afterwards: member.afterwards,
        }
    }
}

/// The role that a member is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangeRole)]
pub struct ChangeRoleBody {
    role: Role,
    /// First moment at which it is over. With another role than their lasting one, that one
    /// holds again from then on; with the same, the membership ends. Without it, the role
    /// lasts.
    until: Option<GivenTime>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for ChangeRoleBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([FieldError::check_reason(self.reason.as_deref())])
    }
}

impl Command for ChangeRoleBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// The members of a workspace, in order of their ids.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/members", tag = "team",
    params(("ws" = WorkspaceId, Path), PageQuery<MemberCursor>, MinimumPosition),
    responses((status = 200, description = "A page of members.", body = Page<MemberBody>)),
)]
pub async fn list_members(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<MemberCursor>>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Page<MemberBody>, Problem> {
    let PrincipalReader {
        request,
        principal,
        query,
    } = reader;
    let page = service
        .members_of(
            &request,
            &principal,
            workspace,
            query.after(),
            query.limit.count(),
        )
        .await?;
    Ok(Page::keyed::<MemberCursor, _>(page, Into::into))
}

/// A member.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/members/{user}", tag = "team",
    params(("ws" = WorkspaceId, Path), ("user" = UserId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The member.", body = MemberBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_member(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path((workspace, user)): Path<(WorkspaceId, UserId)>,
) -> Result<Resource<MemberBody>, Problem> {
    let found = service
        .member(&reader.request, &reader.principal, workspace, user)
        .await?;
    let version = found.value.version;
    Ok(Resource::new(version, found.position, found.value.into()))
}

/// Gives a member a role, up to the caller's own: for good, or until a time.
#[utoipa::path(
    patch, path = "/v1/workspaces/{ws}/members/{user}", tag = "team",
    params(("ws" = WorkspaceId, Path), ("user" = UserId, Path), IfMatch, IdempotencyKey),
    request_body = ChangeRoleBody,
    responses((
        status = 200, description = "The member as they now are.", body = MemberBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn change_role(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((workspace, user)): Path<(WorkspaceId, UserId)>,
    body: Json<ChangeRoleBody>,
) -> Result<Resource<MemberBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let ChangeRoleBody { role, until, .. } = body.value;
    let until = until.map(|GivenTime(until)| until);
    let written = service
        .change_role(&request, &caller, workspace, user, role, until)
        .await?;
    let version = written.value.version;
    let member = Resource::new(version, written.position, written.value.into());
    Ok(member.replayed(written.replayed))
}

/// Takes a member out, up to the caller's own role; removing oneself is leaving, which every
/// member may but the last owner.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/members/{user}", tag = "team",
    params(("ws" = WorkspaceId, Path), ("user" = UserId, Path), IfMatch, IdempotencyKey),
    request_body = Option<ReasonOnly>,
    responses((status = 204, description = "They are a member no more.")),
)]
pub async fn remove_member(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((workspace, user)): Path<(WorkspaceId, UserId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<NoContent, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .remove_member(&request, &caller, workspace, user)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}
