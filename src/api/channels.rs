//! The channels of crews.

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
    paging::{ChannelCursor, PageQuery},
    problem::Problem,
    query::Path,
    respond::{Created, NoContent, Page, Resource},
    values::{ReasonOnly, wrong},
};
use crate::{
    domain::{
        crew::{Connection, ConnectionId, ConnectionKind, InvalidConnection},
        ids::{ChannelId, CrewId, WorkspaceId},
    },
    service::{ConnectionView, Service},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(add_channel, list_channels))
        .routes(routes!(read_channel, change_channel, remove_channel))
}

/// A channel of a crew.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Channel)]
pub struct ChannelBody {
    #[serde(flatten)]
    head: ConnectionHead,
    kind: String,
    address: String,
}

impl ConnectionBody for ChannelBody {
    const LIST: &'static str = "channels";
}

impl TryFrom<ConnectionView> for ChannelBody {
    type Error = Problem;

    fn try_from(view: ConnectionView) -> Result<Self, Problem> {
        let head = ConnectionHead::from(&view);
        match view.connection {
            Connection::Channel { kind, address } => Ok(Self {
                head,
                kind,
                address,
            }),
            Connection::PhoneNumber { .. } => Err(connections::wrong_kind()),
        }
    }
}

/// What a channel is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewChannel)]
pub struct NewChannelBody {
    /// A lower-case word for what carries it: `email`, `web_chat`.
    #[schema(min_length = 1, max_length = 40, pattern = "^[a-z][a-z0-9_]*$")]
    kind: String,
    /// Without spaces, `support@example.com`; letters of both cases are the same to the rule.
    #[schema(min_length = 1, max_length = 320)]
    address: String,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl NewChannelBody {
    fn connection(&self) -> Result<Connection, FieldError> {
        Connection::channel(&self.kind, &self.address).map_err(|error| {
            let pointer = match error {
                InvalidConnection::ChannelKind => "/kind",
                InvalidConnection::Address | InvalidConnection::Number => "/address",
            };
            FieldError::invalid(pointer, error.to_string())
        })
    }
}

impl Validate for NewChannelBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            self.connection().err(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewChannelBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Gives a crew a channel. Production never shares one with development or staging.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/channels", tag = "crews",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), IdempotencyKey),
    request_body = NewChannelBody,
    responses((status = 201, description = "The new channel.", body = ChannelBody)),
)]
pub async fn add_channel(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Json<NewChannelBody>,
) -> Result<Created<ChannelBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let to = body.value.connection()?;
    let written = service.add_connection(&request, &principal, at, to).await?;
    connections::created(written)
}

/// The channels of a crew, oldest first.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/channels", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), PageQuery<ChannelCursor>,
        MinimumPosition
    ),
    responses((status = 200, description = "A page of channels.", body = Page<ChannelBody>)),
)]
pub async fn list_channels(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<ChannelCursor>>,
    Path(at): Path<(WorkspaceId, CrewId)>,
) -> Result<Page<ChannelBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let range = (query.after(), query.limit.count());
    let page = service
        .connections_of(&request, &principal, at, ConnectionKind::Channel, range)
        .await?;
    connections::page::<ChannelCursor, _>(page)
}

/// A channel of a crew.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/channels/{channel}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("channel" = inline(ChannelId), Path), MinimumPosition
    ),
    responses((
        status = 200, description = "The channel.", body = ChannelBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_channel(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader,
    Path((workspace, crew, id)): Path<(WorkspaceId, CrewId, ChannelId)>,
) -> Result<Resource<ChannelBody>, Problem> {
    let (at, id) = ((workspace, crew), ConnectionId::Channel(id));
    let found = service
        .connection(&reader.request, &reader.principal, at, id)
        .await?;
    connections::shown(found.position, found.value)
}

/// Gives a crew another channel in place of this one, which is free then.
#[utoipa::path(
    put, path = "/v1/workspaces/{ws}/crews/{crew}/channels/{channel}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("channel" = inline(ChannelId), Path), IfMatch, IdempotencyKey
    ),
    request_body = NewChannelBody,
    responses((
        status = 200, description = "The channel as it now is.", body = ChannelBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn change_channel(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, id)): Path<(WorkspaceId, CrewId, ChannelId)>,
    body: Json<NewChannelBody>,
) -> Result<Resource<ChannelBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, id) = ((workspace, crew), ConnectionId::Channel(id));
    let to = body.value.connection()?;
    let written = service
        .change_connection(&request, &principal, at, id, to)
        .await?;
    connections::changed(written)
}

/// Takes a channel from a crew; it is free then.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/crews/{crew}/channels/{channel}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("channel" = inline(ChannelId), Path), IfMatch, IdempotencyKey
    ),
    request_body = Option<ReasonOnly>,
    responses((status = 204, description = "It is there no more.")),
)]
pub async fn remove_channel(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, id)): Path<(WorkspaceId, CrewId, ChannelId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<NoContent, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, id) = ((workspace, crew), ConnectionId::Channel(id));
    let written = service
        .remove_connection(&request, &principal, at, id)
        .await?;
    Ok(connections::removed(&written))
}
