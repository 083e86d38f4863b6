//! Who has a role in an organization.

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
    paging::{OrganizationMemberCursor, PageQuery},
    problem::Problem,
    query::Path,
    respond::{NoContent, Page, Resource},
    values::{ReasonOnly, Time, wrong},
};
use crate::{
    domain::{
        authority::OrganizationRole,
        ids::{OrganizationId, UserId},
    },
    service::{OrganizationMemberView, Service},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(list_organization_members))
        .routes(routes!(
            read_organization_member,
            set_organization_member,
            remove_organization_member
        ))
}

/// Somebody's role in an organization.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationMember)]
pub struct OrganizationMemberBody {
    user: UserId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    organization: OrganizationId,
    /// `erased` where it is gone.
    email: String,
    /// `erased` where it is gone.
    name: String,
    role: OrganizationRole,
    since: Time,
}

impl From<OrganizationMemberView> for OrganizationMemberBody {
    fn from(member: OrganizationMemberView) -> Self {
        Self {
            user: member.user,
            version: member.version,
            created_at: member.since.into(),
            updated_at: member.updated_at.into(),
            organization: member.organization,
            email: member.email.into_text(),
            name: member.name.into_text(),
            role: member.role,
            since: member.since.into(),
        }
    }
}

/// The role that somebody is to have in the organization.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SetOrganizationMember)]
pub struct SetOrganizationMemberBody {
    role: OrganizationRole,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for SetOrganizationMemberBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([FieldError::check_reason(self.reason.as_deref())])
    }
}

impl Command for SetOrganizationMemberBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Who has a role in an organization, in order of their ids.
#[utoipa::path(
    get, path = "/v1/organizations/{org}/members", tag = "organizations",
    params(("org" = OrganizationId, Path), PageQuery<OrganizationMemberCursor>, MinimumPosition),
    responses((status = 200, description = "A page of roles.", body = Page<OrganizationMemberBody>)),
)]
pub async fn list_organization_members(
    State(service): State<Arc<Service>>,
    reader: Reader<PageQuery<OrganizationMemberCursor>>,
    Path(organization): Path<OrganizationId>,
) -> Result<Page<OrganizationMemberBody>, Problem> {
    let Reader {
        request,
        caller,
        query,
    } = reader;
    let limit = query.limit.count();
    let page = service
        .organization_members_of(&request, &caller, organization, query.after(), limit)
        .await?;
    Ok(Page::keyed::<OrganizationMemberCursor, _>(page, Into::into))
}

/// Somebody's role in an organization.
#[utoipa::path(
    get, path = "/v1/organizations/{org}/members/{user}", tag = "organizations",
    params(("org" = OrganizationId, Path), ("user" = UserId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The role.", body = OrganizationMemberBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_organization_member(
    State(service): State<Arc<Service>>,
    reader: Reader<MomentQuery>,
    Path((organization, user)): Path<(OrganizationId, UserId)>,
) -> Result<Resource<OrganizationMemberBody>, Problem> {
    let found = service
        .organization_member(&reader.request, &reader.caller, organization, user)
        .await?;
    let version = found.value.version;
    Ok(Resource::new(version, found.position, found.value.into()))
}

/// Gives somebody with an account a role in an organization, or another one.
#[utoipa::path(
    put, path = "/v1/organizations/{org}/members/{user}", tag = "organizations",
    params(("org" = OrganizationId, Path), ("user" = UserId, Path), IfMatch, IdempotencyKey),
    request_body = SetOrganizationMemberBody,
    responses((
        status = 200, description = "The role as it now is.", body = OrganizationMemberBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn set_organization_member(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((organization, user)): Path<(OrganizationId, UserId)>,
    body: Json<SetOrganizationMemberBody>,
) -> Result<Resource<OrganizationMemberBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .set_organization_member(&request, &caller, organization, user, body.value.role)
        .await?;
    let version = written.value.version;
    let member = Resource::new(version, written.position, written.value.into());
    Ok(member.replayed(written.replayed))
}

/// Takes somebody's role in an organization away; taking one's own is leaving, which
/// everybody may but the last owner.
#[utoipa::path(
    delete, path = "/v1/organizations/{org}/members/{user}", tag = "organizations",
    params(("org" = OrganizationId, Path), ("user" = UserId, Path), IfMatch, IdempotencyKey),
    request_body = Option<ReasonOnly>,
    responses((status = 204, description = "They have a role in it no more.")),
)]
pub async fn remove_organization_member(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((organization, user)): Path<(OrganizationId, UserId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<NoContent, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .remove_organization_member(&request, &caller, organization, user)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}
