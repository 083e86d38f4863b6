//! What everything that joins a crew to the world has in common over HTTP.
//!
//! Their routes are in [`super::phone_numbers`] and [`super::channels`].

use serde::Serialize;

use super::{
    problem::Problem,
    respond::{Created, NoContent, Page, Resource},
    values::Time,
};
use crate::{
    domain::ids::{CrewId, WorkspaceId},
    projections,
    service::{ConnectionView, Written},
};

/// What each is answered with, before its own fields.
#[derive(Debug, Serialize, utoipa::ToSchema)]
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
        Self {
            id: view.id.to_string(),
            version: view.version,
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            workspace: view.workspace,
            crew: view.crew,
        }
    }
}

/// A kind of connection, as it is answered.
pub trait ConnectionBody: TryFrom<ConnectionView, Error = Problem> + Serialize {
    /// The last part of the path of their list.
    const LIST: &'static str;
}

/// A connection of another kind than its id.
#[derive(Debug, thiserror::Error)]
#[error("a connection is of another kind than its id")]
struct WrongKind;

/// That an answer is of another kind than its id.
pub fn wrong_kind() -> Problem {
    Problem::internal(&WrongKind)
}

/// The answer to one that was added.
pub fn created<B: ConnectionBody>(written: Written<ConnectionView>) -> Result<Created<B>, Problem> {
    let (position, replayed, view) = (written.position, written.replayed, written.value);
    let (workspace, crew, id, list) = (view.workspace, view.crew, view.id, B::LIST);
    let location = format!("/v1/workspaces/{workspace}/crews/{crew}/{list}/{id}");
    let version = view.version;
    let made = Created::new(location, version, position, B::try_from(view)?);
    Ok(made.replayed(replayed))
}

/// The answer to one that was changed.
pub fn changed<B: ConnectionBody>(
    written: Written<ConnectionView>,
) -> Result<Resource<B>, Problem> {
    let (position, replayed) = (written.position, written.replayed);
    Ok(shown(position, written.value)?.replayed(replayed))
}

/// One of them, as it was at a position.
pub fn shown<B: ConnectionBody>(
    position: u64,
    view: ConnectionView,
) -> Result<Resource<B>, Problem> {
    let version = view.version;
    Ok(Resource::new(version, position, B::try_from(view)?))
}

/// The answer to one that was removed.
pub fn removed(written: &Written<()>) -> NoContent {
    NoContent::new(written.position).replayed(written.replayed)
}

/// A page of them.
pub fn page<K, B>(page: projections::Page<ConnectionView>) -> Result<Page<B>, Problem>
where
    K: super::paging::CursorKey + From<String>,
    B: ConnectionBody + utoipa::ToSchema,
{
    Page::try_keyed::<K, _>(page, B::try_from)
}
