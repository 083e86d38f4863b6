//! The phone numbers of crews.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    connections::{self, ConnectionBody, ConnectionHead},
    exchange::{Command, PrincipalReader, PrincipalWriter},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    paging::{PageQuery, PhoneNumberCursor},
    problem::Problem,
    query::Path,
    respond::{Created, NoContent, Page, Resource},
    values::{ReasonOnly, wrong},
};
use crate::{
    domain::{
        crew::{Connection, ConnectionId, ConnectionKind},
        ids::{CrewId, PhoneNumberId, WorkspaceId},
    },
    service::{ConnectionView, Service},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(add_phone_number, list_phone_numbers))
        .routes(routes!(
            read_phone_number,
            change_phone_number,
            remove_phone_number
        ))
}

/// A phone number of a crew.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PhoneNumber)]
pub struct PhoneNumberBody {
    #[serde(flatten)]
    head: ConnectionHead,
    /// In E.164.
    number: String,
}

impl ConnectionBody for PhoneNumberBody {
    const LIST: &'static str = "phone-numbers";
}

impl TryFrom<ConnectionView> for PhoneNumberBody {
    type Error = Problem;

    fn try_from(view: ConnectionView) -> Result<Self, Problem> {
        let head = ConnectionHead::from(&view);
        match view.connection {
            Connection::PhoneNumber { number } => Ok(Self { head, number }),
            Connection::Channel { .. } => Err(connections::wrong_kind()),
        }
    }
}

/// What a phone number is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPhoneNumber)]
pub struct NewPhoneNumberBody {
    /// One that can be called, in E.164.
    #[schema(min_length = 3, max_length = 16, example = "+12025550143")]
    number: String,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl NewPhoneNumberBody {
    fn connection(&self) -> Result<Connection, FieldError> {
        Connection::phone_number(&self.number)
            .map_err(|error| FieldError::invalid("/number", error.to_string()))
    }
}

impl Validate for NewPhoneNumberBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            self.connection().err(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewPhoneNumberBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Gives a crew a phone number. It has one owner in the whole installation; one that was
/// freed rests for a day before another workspace can have it.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/phone-numbers", tag = "crews",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), IdempotencyKey),
    request_body = NewPhoneNumberBody,
    responses((status = 201, description = "The new phone number.", body = PhoneNumberBody)),
)]
pub async fn add_phone_number(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Json<NewPhoneNumberBody>,
) -> Result<Created<PhoneNumberBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let to = body.value.connection()?;
    let written = service.add_connection(&request, &principal, at, to).await?;
    connections::created(written)
}

/// The phone numbers of a crew, oldest first.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/phone-numbers", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), PageQuery<PhoneNumberCursor>,
        MinimumPosition
    ),
    responses((status = 200, description = "A page of phone numbers.", body = Page<PhoneNumberBody>)),
)]
pub async fn list_phone_numbers(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<PhoneNumberCursor>>,
    Path(at): Path<(WorkspaceId, CrewId)>,
) -> Result<Page<PhoneNumberBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let range = (query.after(), query.limit.count());
    let page = service
        .connections_of(&request, &principal, at, ConnectionKind::PhoneNumber, range)
        .await?;
    connections::page::<PhoneNumberCursor, _>(page)
}

/// A phone number of a crew.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/phone-numbers/{number}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("number" = inline(PhoneNumberId), Path), MinimumPosition
    ),
    responses((
        status = 200, description = "The phone number.", body = PhoneNumberBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_phone_number(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader,
    Path((workspace, crew, id)): Path<(WorkspaceId, CrewId, PhoneNumberId)>,
) -> Result<Resource<PhoneNumberBody>, Problem> {
    let (at, id) = ((workspace, crew), ConnectionId::PhoneNumber(id));
    let found = service
        .connection(&reader.request, &reader.principal, at, id)
        .await?;
    connections::shown(found.position, found.value)
}

/// Gives a crew another phone number in place of this one, which is free then.
#[utoipa::path(
    put, path = "/v1/workspaces/{ws}/crews/{crew}/phone-numbers/{number}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("number" = inline(PhoneNumberId), Path), IfMatch, IdempotencyKey
    ),
    request_body = NewPhoneNumberBody,
    responses((
        status = 200, description = "The phone number as it now is.", body = PhoneNumberBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn change_phone_number(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, id)): Path<(WorkspaceId, CrewId, PhoneNumberId)>,
    body: Json<NewPhoneNumberBody>,
) -> Result<Resource<PhoneNumberBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, id) = ((workspace, crew), ConnectionId::PhoneNumber(id));
    let to = body.value.connection()?;
    let written = service
        .change_connection(&request, &principal, at, id, to)
        .await?;
    connections::changed(written)
}

/// Takes a phone number from a crew; it is free then.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/crews/{crew}/phone-numbers/{number}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("number" = inline(PhoneNumberId), Path), IfMatch, IdempotencyKey
    ),
    request_body = Option<ReasonOnly>,
    responses((status = 204, description = "It is there no more.")),
)]
pub async fn remove_phone_number(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, id)): Path<(WorkspaceId, CrewId, PhoneNumberId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<NoContent, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, id) = ((workspace, crew), ConnectionId::PhoneNumber(id));
    let written = service
        .remove_connection(&request, &principal, at, id)
        .await?;
    Ok(connections::removed(&written))
}
