//! The pathways of a crew.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{PrincipalReader, PrincipalWriter},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    items::{ITEM_BODY_BYTES_MAX, ItemBody, ItemDraftBody, ItemVersionBody, RemoveItemBody},
    json::Json,
    paging::{PageQuery, PathwayCursor, PathwayVersionCursor},
    problem::Problem,
    query::Path,
    respond::{Created, NoContent, Page, Resource},
    values::Position,
};
use crate::{
    domain::{
        crew::{ItemId, ItemKind},
        ids::{CrewId, PathwayId, WorkspaceId},
    },
    service::Service,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(create_pathway, list_pathways))
        .routes(routes!(read_pathway, update_pathway, remove_pathway))
        .routes(routes!(list_pathway_versions))
        .routes(routes!(read_pathway_version))
}

/// Makes a pathway.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/pathways", tag = "crews",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), IdempotencyKey),
    request_body = ItemDraftBody,
    responses((status = 201, description = "The new pathway.", body = ItemBody)),
)]
pub async fn create_pathway(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Json<ItemDraftBody, ITEM_BODY_BYTES_MAX>,
) -> Result<Created<ItemBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let draft = body.value.into_draft()?;
    let written = service
        .create_item(&request, &principal, at, ItemKind::Pathway, draft)
        .await?;
    let pathway = ItemBody::try_from(written.value)?;
    let (workspace, crew) = at;
    let location = format!(
        "/v1/workspaces/{workspace}/crews/{crew}/pathways/{}",
        pathway.id
    );
    let made = Created::new(location, pathway.version, written.position, pathway);
    Ok(made.replayed(written.replayed))
}

/// The pathways of a crew, oldest first, without their configurations.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/pathways", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), PageQuery<PathwayCursor>,
        MinimumPosition
    ),
    responses((status = 200, description = "A page of pathways.", body = Page<ItemBody>)),
)]
pub async fn list_pathways(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<PathwayCursor>>,
    Path(at): Path<(WorkspaceId, CrewId)>,
) -> Result<Page<ItemBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let range = (query.after(), query.limit.count());
    let page = service
        .items_of(&request, &principal, at, ItemKind::Pathway, range)
        .await?;
    Page::try_keyed::<PathwayCursor, _>(page, ItemBody::try_from)
}

/// A pathway.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ("pathway" = inline(PathwayId), Path),
        MinimumPosition
    ),
    responses((
        status = 200, description = "The pathway.", body = ItemBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_pathway(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader,
    Path((workspace, crew, pathway)): Path<(WorkspaceId, CrewId, PathwayId)>,
) -> Result<Resource<ItemBody>, Problem> {
    let (at, pathway) = ((workspace, crew), ItemId::Pathway(pathway));
    let found = service
        .item(&reader.request, &reader.principal, at, pathway)
        .await?;
    let body = ItemBody::try_from(found.value)?;
    Ok(Resource::new(body.version, found.position, body))
}

/// Puts another name and configuration in place of those there are.
#[utoipa::path(
    put, path = "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ("pathway" = inline(PathwayId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = ItemDraftBody,
    responses((
        status = 200, description = "The pathway as it now is.", body = ItemBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn update_pathway(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, pathway)): Path<(WorkspaceId, CrewId, PathwayId)>,
    body: Json<ItemDraftBody, ITEM_BODY_BYTES_MAX>,
) -> Result<Resource<ItemBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, pathway) = ((workspace, crew), ItemId::Pathway(pathway));
    let draft = body.value.into_draft()?;
    let written = service
        .update_item(&request, &principal, at, pathway, draft)
        .await?;
    let body = ItemBody::try_from(written.value)?;
    Ok(Resource::new(body.version, written.position, body).replayed(written.replayed))
}

/// Removes a pathway; its versions can still be read.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ("pathway" = inline(PathwayId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = Option<RemoveItemBody>,
    responses((status = 204, description = "It is there no more.")),
)]
pub async fn remove_pathway(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, pathway)): Path<(WorkspaceId, CrewId, PathwayId)>,
    body: Option<Json<RemoveItemBody>>,
) -> Result<NoContent, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, pathway) = ((workspace, crew), ItemId::Pathway(pathway));
    let breaks_glass = body.is_some_and(|body| body.value.breaks_glass());
    let written = service
        .remove_item(&request, &principal, at, pathway, breaks_glass)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}

/// The versions of a pathway, oldest first, without their configurations; of one that was removed
/// as well.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}/versions", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ("pathway" = inline(PathwayId), Path),
        PageQuery<PathwayVersionCursor>, MinimumPosition
    ),
    responses((status = 200, description = "A page of versions.", body = Page<ItemVersionBody>)),
)]
pub async fn list_pathway_versions(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<PathwayVersionCursor>>,
    Path((workspace, crew, pathway)): Path<(WorkspaceId, CrewId, PathwayId)>,
) -> Result<Page<ItemVersionBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let (at, pathway) = ((workspace, crew), ItemId::Pathway(pathway));
    let range = (query.after(), query.limit.count());
    let page = service
        .item_versions_of(&request, &principal, at, pathway, range)
        .await?;
    Page::try_keyed::<PathwayVersionCursor, _>(page, ItemVersionBody::try_from)
}

/// One version of a pathway.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}/versions/{version}",
    tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ("pathway" = inline(PathwayId), Path),
        ("version" = Position, Path), MinimumPosition
    ),
    responses((
        status = 200, description = "The version.", body = ItemVersionBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_pathway_version(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader,
    Path((workspace, crew, pathway, version)): Path<(WorkspaceId, CrewId, PathwayId, Position)>,
) -> Result<Resource<ItemVersionBody>, Problem> {
    let (at, pathway) = ((workspace, crew), ItemId::Pathway(pathway));
    let found = service
        .item_version(&reader.request, &reader.principal, at, pathway, version.0)
        .await?;
    let body = ItemVersionBody::try_from(found.value)?;
    Ok(Resource::new(body.version, found.position, body))
}
