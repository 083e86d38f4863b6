//! What of crews promotes, over HTTP: one set of handlers for agents and pathways. Their shapes
//! are in [`super::items`].
//!
//! To add a kind: a [`Kind`] here, and [`routes`] of it in [`super::routes`].

use std::sync::Arc;

use axum::extract::State;
use serde::de::DeserializeOwned;
use utoipa::{PartialSchema, openapi::HttpMethod};
use utoipa_axum::router::OpenApiRouter;

use super::{
    app::Edge,
    described::{Described, Routes},
    exchange::{MomentQuery, PrincipalReader, PrincipalWriter},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    items::{ITEM_BODY_BYTES_MAX, ItemBody, ItemDraftBody, ItemVersionBody, RemoveItemBody},
    json::Json,
    paging::{
        AgentCursor, AgentVersionCursor, CursorKey, PageQuery, PathwayCursor, PathwayVersionCursor,
    },
    problem::Problem,
    query::Path,
    respond::{Created, NoContent, Page, Resource},
    values::Position,
};
use crate::{
    domain::{
        crew::{ItemId, ItemKind},
        ids::{AgentId, CrewId, PathwayId, WorkspaceId},
    },
    service::Service,
};

/// A kind of what promotes: how it is called.
pub trait Kind: Send + Sync + 'static {
    /// Which.
    const KIND: ItemKind;
    /// The last part of the path of their list.
    const LIST: &'static str;
    /// One of them in a sentence.
    const ONE: &'static str;

    /// What it is the id of.
    type Id: Into<ItemId> + DeserializeOwned + PartialSchema + Send + 'static;
    /// Where one stands in the list.
    type Cursor: CursorKey + From<String> + AsRef<str> + Send + 'static;
    /// Where a version of one stands in its list.
    type VersionCursor: CursorKey + From<String> + AsRef<str> + Send + 'static;
}

/// See the module.
pub struct Agents;

impl Kind for Agents {
    const KIND: ItemKind = ItemKind::Agent;
    const LIST: &'static str = "agents";
    const ONE: &'static str = "an agent";

    type Id = AgentId;
    type Cursor = AgentCursor;
    type VersionCursor = AgentVersionCursor;
}

/// See the module.
pub struct Pathways;

impl Kind for Pathways {
    const KIND: ItemKind = ItemKind::Pathway;
    const LIST: &'static str = "pathways";
    const ONE: &'static str = "a pathway";

    type Id = PathwayId;
    type Cursor = PathwayCursor;
    type VersionCursor = PathwayVersionCursor;
}

const CREW: &str = "/v1/workspaces/{ws}/crews/{crew}";

/// The routes of a kind.
pub fn routes<K: Kind>() -> OpenApiRouter<Edge> {
    let (name, list) = (K::KIND.name(), K::LIST);
    let (of_crew, of_one) = (
        format!("{CREW}/{list}"),
        format!("{CREW}/{list}/{{{name}}}"),
    );
    let of_versions = format!("{of_one}/versions");
    let of_version = format!("{of_versions}/{{version}}");
    OpenApiRouter::new()
        .routes(list_routes::<K>(of_crew).done())
        .routes(one_routes::<K>(of_one).done())
        .routes(versions_routes::<K>(of_versions).done())
        .routes(version_routes::<K>(of_version).done())
}

/// `operation` names what it does with one of them, or with several.
fn describe(operation: String, summary: String) -> Described {
    Described::new("crews", operation, &summary)
        .shared_id::<WorkspaceId>("ws")
        .shared_id::<CrewId>("crew")
}

fn describe_one<K: Kind>(operation: String, summary: String) -> Described {
    describe(operation, summary).id::<K::Id>(K::KIND.name())
}

fn list_routes<K: Kind>(path: String) -> Routes {
    let (name, many, one) = (K::KIND.name(), K::LIST, K::ONE);
    let create = describe(format!("create_{name}"), format!("Makes {one}."))
        .parameters::<IdempotencyKey>()
        .takes::<ItemDraftBody>()
        .creates::<ItemBody>(&format!("The new {name}."));
    let summary = format!("The {many} of a crew, oldest first, without their configurations.");
    let list = describe(format!("list_{many}"), summary)
        .parameters::<PageQuery<K::Cursor>>()
        .parameters::<MinimumPosition>()
        .lists::<ItemBody>(&format!("A page of {many}."));
    Routes::at(path)
        .on(HttpMethod::Post, create_one::<K>, create)
        .on(HttpMethod::Get, list_all::<K>, list)
}

fn one_routes<K: Kind>(path: String) -> Routes {
    let (name, one) = (K::KIND.name(), K::ONE);
    let article = format!("{}{}.", one[..1].to_uppercase(), &one[1..]);
    let read = describe_one::<K>(format!("read_{name}"), article)
        .parameters::<MomentQuery>()
        .parameters::<MinimumPosition>()
        .shows::<ItemBody>(&format!("The {name}."));
    let summary = "Puts another name and configuration in place of those there are.".to_owned();
    let update = describe_one::<K>(format!("update_{name}"), summary)
        .parameters::<IfMatch>()
        .parameters::<IdempotencyKey>()
        .takes::<ItemDraftBody>()
        .shows::<ItemBody>(&format!("The {name} as it now is."));
    let summary = format!("Removes {one}; its versions can still be read.");
    let remove = describe_one::<K>(format!("remove_{name}"), summary)
        .parameters::<IfMatch>()
        .parameters::<IdempotencyKey>()
        .may_take::<RemoveItemBody>()
        .ends("It is there no more.");
    Routes::at(path)
        .on(HttpMethod::Get, read_one::<K>, read)
        .on(HttpMethod::Put, update_one::<K>, update)
        .on(HttpMethod::Delete, remove_one::<K>, remove)
}

fn versions_routes<K: Kind>(path: String) -> Routes {
    let (name, one) = (K::KIND.name(), K::ONE);
    let summary = format!(
        "The versions of {one}, oldest first, without their configurations; of one that was removed\n\
         as well."
    );
    let list = describe_one::<K>(format!("list_{name}_versions"), summary)
        .parameters::<PageQuery<K::VersionCursor>>()
        .parameters::<MinimumPosition>()
        .lists::<ItemVersionBody>("A page of versions.");
    Routes::at(path).on(HttpMethod::Get, list_versions::<K>, list)
}

fn version_routes<K: Kind>(path: String) -> Routes {
    let (name, one) = (K::KIND.name(), K::ONE);
    let summary = format!("One version of {one}.");
    let read = describe_one::<K>(format!("read_{name}_version"), summary)
        .shared_id::<Position>("version")
        .parameters::<MomentQuery>()
        .parameters::<MinimumPosition>()
        .shows::<ItemVersionBody>("The version.");
    Routes::at(path).on(HttpMethod::Get, read_version::<K>, read)
}

async fn create_one<K: Kind>(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Json<ItemDraftBody, ITEM_BODY_BYTES_MAX>,
) -> Result<Created<ItemBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let draft = body.value.into_draft()?;
    let written = service
        .create_item(&request, &principal, at, K::KIND, draft)
        .await?;
    let item = ItemBody::try_from(written.value)?;
    let ((workspace, crew), list, id) = (at, K::LIST, &item.id);
    let location = format!("/v1/workspaces/{workspace}/crews/{crew}/{list}/{id}");
    let made = Created::new(location, item.version, written.position, item);
    Ok(made.replayed(written.replayed))
}

async fn list_all<K: Kind>(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<K::Cursor>>,
    Path(at): Path<(WorkspaceId, CrewId)>,
) -> Result<Page<ItemBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let range = (query.after(), query.limit.count());
    let page = service
        .items_of(&request, &principal, at, K::KIND, range)
        .await?;
    Page::try_keyed::<K::Cursor, _>(page, ItemBody::try_from)
}

async fn read_one<K: Kind>(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path((workspace, crew, item)): Path<(WorkspaceId, CrewId, K::Id)>,
) -> Result<Resource<ItemBody>, Problem> {
    let at = (workspace, crew);
    let found = service
        .item(&reader.request, &reader.principal, at, item.into())
        .await?;
    let body = ItemBody::try_from(found.value)?;
    Ok(Resource::new(body.version, found.position, body))
}

async fn update_one<K: Kind>(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, item)): Path<(WorkspaceId, CrewId, K::Id)>,
    body: Json<ItemDraftBody, ITEM_BODY_BYTES_MAX>,
) -> Result<Resource<ItemBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, draft) = ((workspace, crew), body.value.into_draft()?);
    let written = service
        .update_item(&request, &principal, at, item.into(), draft)
        .await?;
    let body = ItemBody::try_from(written.value)?;
    Ok(Resource::new(body.version, written.position, body).replayed(written.replayed))
}

async fn remove_one<K: Kind>(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, item)): Path<(WorkspaceId, CrewId, K::Id)>,
    body: Option<Json<RemoveItemBody>>,
) -> Result<NoContent, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let at = (workspace, crew);
    let breaks_glass = body.is_some_and(|body| body.value.breaks_glass());
    let written = service
        .remove_item(&request, &principal, at, item.into(), breaks_glass)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}

async fn list_versions<K: Kind>(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<K::VersionCursor>>,
    Path((workspace, crew, item)): Path<(WorkspaceId, CrewId, K::Id)>,
) -> Result<Page<ItemVersionBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let (at, range) = ((workspace, crew), (query.after(), query.limit.count()));
    let page = service
        .item_versions_of(&request, &principal, at, item.into(), range)
        .await?;
    Page::try_keyed::<K::VersionCursor, _>(page, ItemVersionBody::try_from)
}

async fn read_version<K: Kind>(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path((workspace, crew, item, version)): Path<(WorkspaceId, CrewId, K::Id, Position)>,
) -> Result<Resource<ItemVersionBody>, Problem> {
    let (at, item) = ((workspace, crew), item.into());
    let found = service
        .item_version(&reader.request, &reader.principal, at, item, version.0)
        .await?;
    let body = ItemVersionBody::try_from(found.value)?;
    Ok(Resource::new(body.version, found.position, body))
}
