//! The agents of a crew.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{PrincipalReader, PrincipalWriter},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    items::{ITEM_BODY_BYTES_MAX, ItemBody, ItemDraftBody, ItemVersionBody, RemoveItemBody},
    json::Json,
    paging::{AgentCursor, AgentVersionCursor, PageQuery},
    problem::Problem,
    query::Path,
    respond::{Created, NoContent, Page, Resource},
    values::Position,
};
use crate::{
    domain::{
        crew::{ItemId, ItemKind},
        ids::{AgentId, CrewId, WorkspaceId},
    },
    service::Service,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(create_agent, list_agents))
        .routes(routes!(read_agent, update_agent, remove_agent))
        .routes(routes!(list_agent_versions))
        .routes(routes!(read_agent_version))
}

/// Makes an agent.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/agents", tag = "crews",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), IdempotencyKey),
    request_body = ItemDraftBody,
    responses((status = 201, description = "The new agent.", body = ItemBody)),
)]
pub async fn create_agent(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Json<ItemDraftBody, ITEM_BODY_BYTES_MAX>,
) -> Result<Created<ItemBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let draft = body.value.into_draft()?;
    let written = service
        .create_item(&request, &principal, at, ItemKind::Agent, draft)
        .await?;
    let agent = ItemBody::try_from(written.value)?;
    let (workspace, crew) = at;
    let location = format!(
        "/v1/workspaces/{workspace}/crews/{crew}/agents/{}",
        agent.id
    );
    let made = Created::new(location, agent.version, written.position, agent);
    Ok(made.replayed(written.replayed))
}

/// The agents of a crew, oldest first, without their configurations.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/agents", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), PageQuery<AgentCursor>,
        MinimumPosition
    ),
    responses((status = 200, description = "A page of agents.", body = Page<ItemBody>)),
)]
pub async fn list_agents(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<AgentCursor>>,
    Path(at): Path<(WorkspaceId, CrewId)>,
) -> Result<Page<ItemBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let range = (query.after(), query.limit.count());
    let page = service
        .items_of(&request, &principal, at, ItemKind::Agent, range)
        .await?;
    Page::try_keyed::<AgentCursor, _>(page, ItemBody::try_from)
}

/// An agent.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ("agent" = inline(AgentId), Path),
        MinimumPosition
    ),
    responses((
        status = 200, description = "The agent.", body = ItemBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_agent(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader,
    Path((workspace, crew, agent)): Path<(WorkspaceId, CrewId, AgentId)>,
) -> Result<Resource<ItemBody>, Problem> {
    let (at, agent) = ((workspace, crew), ItemId::Agent(agent));
    let found = service
        .item(&reader.request, &reader.principal, at, agent)
        .await?;
    let body = ItemBody::try_from(found.value)?;
    Ok(Resource::new(body.version, found.position, body))
}

/// Puts another name and configuration in place of those there are.
#[utoipa::path(
    put, path = "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ("agent" = inline(AgentId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = ItemDraftBody,
    responses((
        status = 200, description = "The agent as it now is.", body = ItemBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn update_agent(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, agent)): Path<(WorkspaceId, CrewId, AgentId)>,
    body: Json<ItemDraftBody, ITEM_BODY_BYTES_MAX>,
) -> Result<Resource<ItemBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, agent) = ((workspace, crew), ItemId::Agent(agent));
    let draft = body.value.into_draft()?;
    let written = service
        .update_item(&request, &principal, at, agent, draft)
        .await?;
    let body = ItemBody::try_from(written.value)?;
    Ok(Resource::new(body.version, written.position, body).replayed(written.replayed))
}

/// Removes an agent; its versions can still be read.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ("agent" = inline(AgentId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = Option<RemoveItemBody>,
    responses((status = 204, description = "It is there no more.")),
)]
pub async fn remove_agent(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, agent)): Path<(WorkspaceId, CrewId, AgentId)>,
    body: Option<Json<RemoveItemBody>>,
) -> Result<NoContent, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, agent) = ((workspace, crew), ItemId::Agent(agent));
    let breaks_glass = body.is_some_and(|body| body.value.breaks_glass());
    let written = service
        .remove_item(&request, &principal, at, agent, breaks_glass)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}

/// The versions of an agent, oldest first, without their configurations; of one that was removed
/// as well.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}/versions", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ("agent" = inline(AgentId), Path),
        PageQuery<AgentVersionCursor>, MinimumPosition
    ),
    responses((status = 200, description = "A page of versions.", body = Page<ItemVersionBody>)),
)]
pub async fn list_agent_versions(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<AgentVersionCursor>>,
    Path((workspace, crew, agent)): Path<(WorkspaceId, CrewId, AgentId)>,
) -> Result<Page<ItemVersionBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let (at, agent) = ((workspace, crew), ItemId::Agent(agent));
    let range = (query.after(), query.limit.count());
    let page = service
        .item_versions_of(&request, &principal, at, agent, range)
        .await?;
    Page::try_keyed::<AgentVersionCursor, _>(page, ItemVersionBody::try_from)
}

/// One version of an agent.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}/versions/{version}",
    tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ("agent" = inline(AgentId), Path),
        ("version" = Position, Path), MinimumPosition
    ),
    responses((
        status = 200, description = "The version.", body = ItemVersionBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_agent_version(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader,
    Path((workspace, crew, agent, version)): Path<(WorkspaceId, CrewId, AgentId, Position)>,
) -> Result<Resource<ItemVersionBody>, Problem> {
    let (at, agent) = ((workspace, crew), ItemId::Agent(agent));
    let found = service
        .item_version(&reader.request, &reader.principal, at, agent, version.0)
        .await?;
    let body = ItemVersionBody::try_from(found.value)?;
    Ok(Resource::new(body.version, found.position, body))
}
