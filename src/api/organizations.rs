//! Organizations.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, MomentQuery, PrincipalReader, Reader, Writer},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    paging::{OrganizationCursor, PageQuery},
    problem::Problem,
    query::Path,
    respond::{Created, Page, Resource},
    values::{self, Time, wrong},
};
use crate::{domain::ids::OrganizationId, projections::OrganizationDocument, service::Service};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(create_organization, list_organizations))
        .routes(routes!(read_organization, rename_organization))
}

/// A company or platform; owns workspaces.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organization)]
pub struct OrganizationBody {
    id: OrganizationId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    name: String,
    status: OrganizationStatus,
    /// Since when an operator of the installation has it suspended.
    #[schema(required)]
    suspended_at: Option<Time>,
}

/// Whether an organization goes on.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrganizationStatus {
    Active,
    /// It is read and audited, access is taken away, and nothing else goes on.
    Suspended,
}

impl OrganizationStatus {
    pub(super) fn of(organization: &OrganizationDocument) -> Self {
        match organization.suspended_at {
            Some(_) => Self::Suspended,
            None => Self::Active,
        }
    }
}

impl From<OrganizationDocument> for OrganizationBody {
    fn from(organization: OrganizationDocument) -> Self {
        Self {
            status: OrganizationStatus::of(&organization),
            suspended_at: organization.suspended_at.map(Into::into),
            id: organization.id,
            version: organization.version,
            created_at: organization.created_at.into(),
            updated_at: organization.updated_at.into(),
            name: organization.name,
        }
    }
}

/// What something is to be called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Named)]
pub struct NamedBody {
    #[schema(min_length = 1, max_length = 120)]
    pub(super) name: String,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for NamedBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::name("/name", &self.name).err(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NamedBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Makes an organization; the caller owns it.
#[utoipa::path(
    post, path = "/v1/organizations", tag = "organizations",
    params(IdempotencyKey), request_body = NamedBody,
    responses((status = 201, description = "The new organization.", body = OrganizationBody)),
)]
pub async fn create_organization(
    State(service): State<Arc<Service>>,
    writer: Writer,
    body: Json<NamedBody>,
) -> Result<Created<OrganizationBody>, Problem> {
    let (request, caller) = writer.making(&body)?;
    let name = values::name("/name", &body.value.name)?;
    let written = service.create_organization(&request, &caller, name).await?;
    let organization = OrganizationBody::from(written.value);
    let location = format!("/v1/organizations/{}", organization.id);
    let made = Created::new(
        location,
        organization.version,
        written.position,
        organization,
    );
    Ok(made.replayed(written.replayed))
}

/// The organizations that the caller has a role in, in order of their ids.
#[utoipa::path(
    get, path = "/v1/organizations", tag = "organizations",
    params(PageQuery<OrganizationCursor>, MinimumPosition),
    responses((status = 200, description = "A page of organizations.", body = Page<OrganizationBody>)),
)]
pub async fn list_organizations(
    State(service): State<Arc<Service>>,
    reader: Reader<PageQuery<OrganizationCursor>>,
) -> Result<Page<OrganizationBody>, Problem> {
    let page = service
        .organizations_of(
            &reader.request,
            &reader.caller,
            reader.query.after(),
            reader.query.limit.count(),
        )
        .await?;
    Ok(Page::keyed::<OrganizationCursor, _>(page, Into::into))
}

/// An organization.
#[utoipa::path(
    get, path = "/v1/organizations/{org}", tag = "organizations",
    params(("org" = OrganizationId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The organization.", body = OrganizationBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_organization(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path(organization): Path<OrganizationId>,
) -> Result<Resource<OrganizationBody>, Problem> {
    let found = service
        .organization(&reader.request, &reader.principal, organization)
        .await?;
    let version = found.value.version;
    Ok(Resource::new(version, found.position, found.value.into()))
}

/// Renames an organization.
#[utoipa::path(
    patch, path = "/v1/organizations/{org}", tag = "organizations",
    params(("org" = OrganizationId, Path), IfMatch, IdempotencyKey), request_body = NamedBody,
    responses((
        status = 200, description = "The organization as it now is.", body = OrganizationBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn rename_organization(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(organization): Path<OrganizationId>,
    body: Json<NamedBody>,
) -> Result<Resource<OrganizationBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let name = values::name("/name", &body.value.name)?;
    let written = service
        .rename_organization(&request, &caller, organization, name)
        .await?;
    let version = written.value.version;
    let renamed = Resource::new(version, written.position, written.value.into());
    Ok(renamed.replayed(written.replayed))
}
