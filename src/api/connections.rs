//! What joins crews to the world, over HTTP: one set of handlers for every kind.
//!
//! A kind says in [`Kind`] what it is called, what is sent for it and how it is shown; its file is
//! that and nothing else ([`super::phone_numbers`], [`super::channels`],
//! [`super::webhook_endpoints`], [`super::integrations`]).
//!
//! To add one: its file with a [`Kind`], and [`routes`] of it in [`super::routes`].

use std::sync::Arc;

use axum::extract::State;
use serde::{Serialize, de::DeserializeOwned};
use utoipa::{PartialSchema, ToSchema, openapi::HttpMethod};
use utoipa_axum::router::OpenApiRouter;

use super::{
    app::Edge,
    described::{Described, Routes},
    exchange::{Command, MomentQuery, PrincipalReader, PrincipalWriter},
    fields::FieldError,
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    paging::{CursorKey, PageQuery},
    problem::Problem,
    query::Path,
    respond::{Created, NoContent, Page, Resource},
    values::{ReasonOnly, Time},
};
use crate::{
    domain::{
        crew::{Connection, ConnectionId, ConnectionKind},
        ids::{CrewId, WorkspaceId},
    },
    service::{ConnectionView, CredentialChange, Service, Written},
};

/// What each is answered with, before its own fields.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionHead {
    id: String,
    version: u64,
    created_at: Time,
    updated_at: Time,
    workspace: WorkspaceId,
    crew: CrewId,
}

impl From<&ConnectionView> for ConnectionHead {
    fn from(view: &ConnectionView) -> Self {
        let connection = &view.connection;
        Self {
            id: connection.id.to_string(),
            version: connection.version,
            created_at: connection.created_at.into(),
            updated_at: connection.updated_at.into(),
            workspace: connection.workspace,
            crew: connection.crew,
        }
    }
}

/// What the document says of a kind's operations.
pub struct Words {
    /// In ids of operations: `phone_number`, and of more than one.
    pub one: &'static str,
    pub many: &'static str,
    /// What each operation does.
    pub add: &'static str,
    pub list: &'static str,
    pub read: &'static str,
    pub change: &'static str,
    pub remove: &'static str,
    /// What each answers.
    pub new: &'static str,
    pub page: &'static str,
    pub found: &'static str,
    pub changed: &'static str,
}

/// A kind of connection: how it is called, sent and shown.
pub trait Kind: Send + Sync + 'static {
    /// Which.
    const KIND: ConnectionKind;
    /// The last part of the path of their list.
    const LIST: &'static str;
    /// The name of their ids in the path.
    const PARAMETER: &'static str;
    /// What the document says.
    const WORDS: Words;

    /// What it is the id of.
    type Id: Into<ConnectionId> + DeserializeOwned + PartialSchema + Send + 'static;
    /// Where one stands in the list.
    type Cursor: CursorKey + From<String> + AsRef<str> + Send + 'static;
    /// What is sent for one.
    type New: Command + DeserializeOwned + ToSchema + Send + 'static;
    /// How one is shown.
    type Body: Serialize + ToSchema + 'static;

    /// What was sent.
    ///
    /// # Errors
    /// What is wrong with it; never for what was validated.
    fn sent(new: Self::New) -> Result<(Connection, CredentialChange), FieldError>;

    /// How it is shown; none where it is of another kind.
    fn shown(head: ConnectionHead, view: ConnectionView) -> Option<Self::Body>;
}

const CREW: &str = "/v1/workspaces/{ws}/crews/{crew}";

/// The routes of a kind.
pub fn routes<K: Kind>() -> OpenApiRouter<Edge> {
    let words = K::WORDS;
    let describe = |verb: &str, what: &str, summary| {
        let described = Described::new("crews", format!("{verb}_{what}"), summary);
        described
            .shared_id::<WorkspaceId>("ws")
            .shared_id::<CrewId>("crew")
    };
    let add = describe("add", words.one, words.add)
        .parameters::<IdempotencyKey>()
        .takes::<K::New>()
        .creates::<K::Body>(words.new);
    let list = describe("list", words.many, words.list)
        .parameters::<PageQuery<K::Cursor>>()
        .parameters::<MinimumPosition>()
        .lists::<K::Body>(words.page);
    let read = describe("read", words.one, words.read)
        .id::<K::Id>(K::PARAMETER)
        .parameters::<MomentQuery>()
        .parameters::<MinimumPosition>()
        .shows::<K::Body>(words.found);
    let change = describe("change", words.one, words.change)
        .id::<K::Id>(K::PARAMETER)
        .parameters::<IfMatch>()
        .parameters::<IdempotencyKey>()
        .takes::<K::New>()
        .shows::<K::Body>(words.changed);
    let remove = describe("remove", words.one, words.remove)
        .id::<K::Id>(K::PARAMETER)
        .parameters::<IfMatch>()
        .parameters::<IdempotencyKey>()
        .may_take::<ReasonOnly>()
        .ends("It is there no more.");
    let of_list = Routes::at(format!("{CREW}/{}", K::LIST))
        .on(HttpMethod::Post, add_one::<K>, add)
        .on(HttpMethod::Get, list_all::<K>, list);
    let of_one = Routes::at(format!("{CREW}/{}/{{{}}}", K::LIST, K::PARAMETER))
        .on(HttpMethod::Get, read_one::<K>, read)
        .on(HttpMethod::Put, change_one::<K>, change)
        .on(HttpMethod::Delete, remove_one::<K>, remove);
    OpenApiRouter::new()
        .routes(of_list.done())
        .routes(of_one.done())
}

/// A connection of another kind than its id.
#[derive(Debug, thiserror::Error)]
#[error("a connection is of another kind than its id")]
struct WrongKind;

fn body<K: Kind>(view: ConnectionView) -> Result<K::Body, Problem> {
    let head = ConnectionHead::from(&view);
    K::shown(head, view).ok_or_else(|| Problem::internal(&WrongKind))
}

/// Something that was written, as it now is.
pub fn written<K: Kind>(written: Written<ConnectionView>) -> Result<Resource<K::Body>, Problem> {
    let (position, replayed, view) = (written.position, written.replayed, written.value);
    let version = view.connection.version;
    Ok(Resource::new(version, position, body::<K>(view)?).replayed(replayed))
}

async fn add_one<K: Kind>(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    sent: Json<K::New>,
) -> Result<Created<K::Body>, Problem> {
    let (request, principal) = writer.making(&sent)?;
    let (to, credential) = K::sent(sent.value)?;
    let written = service
        .add_connection(&request, &principal, at, to, credential)
        .await?;
    let (position, replayed, view) = (written.position, written.replayed, written.value);
    let (workspace, crew) = at;
    let (id, version, list) = (view.connection.id, view.connection.version, K::LIST);
    let location = format!("/v1/workspaces/{workspace}/crews/{crew}/{list}/{id}");
    let made = Created::new(location, version, position, body::<K>(view)?);
    Ok(made.replayed(replayed))
}

async fn list_all<K: Kind>(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<K::Cursor>>,
    Path(at): Path<(WorkspaceId, CrewId)>,
) -> Result<Page<K::Body>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let range = (query.after(), query.limit.count());
    let page = service
        .connections_of(&request, &principal, at, K::KIND, range)
        .await?;
    Page::try_keyed::<K::Cursor, _>(page, |connection| body::<K>(connection.into()))
}

async fn read_one<K: Kind>(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path((workspace, crew, id)): Path<(WorkspaceId, CrewId, K::Id)>,
) -> Result<Resource<K::Body>, Problem> {
    let found = service
        .connection(
            &reader.request,
            &reader.principal,
            (workspace, crew),
            id.into(),
        )
        .await?;
    let version = found.value.version;
    let shown = body::<K>(found.value.into())?;
    Ok(Resource::new(version, found.position, shown))
}

async fn change_one<K: Kind>(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, id)): Path<(WorkspaceId, CrewId, K::Id)>,
    sent: Json<K::New>,
) -> Result<Resource<K::Body>, Problem> {
    let (request, principal) = writer.changing(&sent)?;
    let (at, to) = ((workspace, crew), K::sent(sent.value)?);
    let changed = service
        .change_connection(&request, &principal, at, id.into(), to)
        .await?;
    written::<K>(changed)
}

async fn remove_one<K: Kind>(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, id)): Path<(WorkspaceId, CrewId, K::Id)>,
    sent: Option<Json<ReasonOnly>>,
) -> Result<NoContent, Problem> {
    let (request, principal) = writer.changing(&sent)?;
    let at = (workspace, crew);
    let removed = service
        .remove_connection(&request, &principal, at, id.into())
        .await?;
    Ok(NoContent::new(removed.position).replayed(removed.replayed))
}
