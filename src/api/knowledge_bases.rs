//! The knowledge bases of crews. Their documents are in [`super::documents`].

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, MomentQuery, PrincipalReader, PrincipalWriter},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    paging::{KnowledgeBaseCursor, PageQuery},
    problem::Problem,
    query::Path,
    respond::{Created, NoContent, Page, Resource},
    values::{self, ReasonOnly, Time, wrong},
};
use crate::{
    domain::{
        Name,
        ids::{CrewId, KnowledgeBaseId, WorkspaceId},
    },
    service::{KnowledgeBaseView, Service},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(create_knowledge_base, list_knowledge_bases))
        .routes(routes!(
            read_knowledge_base,
            rename_knowledge_base,
            remove_knowledge_base
        ))
}

/// A knowledge base of a crew.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KnowledgeBase)]
pub struct KnowledgeBaseBody {
    id: KnowledgeBaseId,
    /// Its documents do not move it.
    version: u64,
    created_at: Time,
    updated_at: Time,
    workspace: WorkspaceId,
    crew: CrewId,
    name: String,
}

impl From<KnowledgeBaseView> for KnowledgeBaseBody {
    fn from(view: KnowledgeBaseView) -> Self {
        Self {
            id: view.id,
            version: view.version,
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            workspace: view.workspace,
            crew: view.crew,
            name: view.base.name,
        }
    }
}

/// What a knowledge base is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKnowledgeBase)]
pub struct NewKnowledgeBaseBody {
    /// Unique in the crew. Agents name it by a slot, `{"$slot": "knowledge-base/FAQ"}`.
    #[schema(min_length = 1, max_length = 120, example = "FAQ")]
    name: String,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl NewKnowledgeBaseBody {
    fn name(&self) -> Result<Name, FieldError> {
        values::name("/name", &self.name)
    }
}

impl Validate for NewKnowledgeBaseBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            self.name().err(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewKnowledgeBaseBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Makes a knowledge base. It stays in its crew: it is never promoted, and is edited directly in
/// production too.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases", tag = "crews",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), IdempotencyKey),
    request_body = NewKnowledgeBaseBody,
    responses((status = 201, description = "The new knowledge base.", body = KnowledgeBaseBody)),
)]
pub async fn create_knowledge_base(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Json<NewKnowledgeBaseBody>,
) -> Result<Created<KnowledgeBaseBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let name = body.value.name()?;
    let written = service
        .create_knowledge_base(&request, &principal, at, name)
        .await?;
    let ((workspace, crew), view) = (at, written.value);
    let location = format!(
        "/v1/workspaces/{workspace}/crews/{crew}/knowledge-bases/{}",
        view.id
    );
    let made = Created::new(location, view.version, written.position, view.into());
    Ok(made.replayed(written.replayed))
}

/// The knowledge bases of a crew, oldest first.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), PageQuery<KnowledgeBaseCursor>,
        MinimumPosition
    ),
    responses((
        status = 200, description = "A page of knowledge bases.", body = Page<KnowledgeBaseBody>
    )),
)]
pub async fn list_knowledge_bases(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<KnowledgeBaseCursor>>,
    Path(at): Path<(WorkspaceId, CrewId)>,
) -> Result<Page<KnowledgeBaseBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let range = (query.after(), query.limit.count());
    let page = service
        .knowledge_bases_of(&request, &principal, at, range)
        .await?;
    Ok(Page::keyed::<KnowledgeBaseCursor, _>(
        page,
        KnowledgeBaseBody::from,
    ))
}

/// A knowledge base.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("kb" = inline(KnowledgeBaseId), Path), MomentQuery, MinimumPosition
    ),
    responses((
        status = 200, description = "The knowledge base.", body = KnowledgeBaseBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_knowledge_base(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path((workspace, crew, base)): Path<(WorkspaceId, CrewId, KnowledgeBaseId)>,
) -> Result<Resource<KnowledgeBaseBody>, Problem> {
    let at = (workspace, crew);
    let found = service
        .knowledge_base(&reader.request, &reader.principal, at, base)
        .await?;
    let version = found.value.version;
    Ok(Resource::new(version, found.position, found.value.into()))
}

/// Renames a knowledge base. Slots that name it by its former name find it no more.
#[utoipa::path(
    put, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("kb" = inline(KnowledgeBaseId), Path), IfMatch, IdempotencyKey
    ),
    request_body = NewKnowledgeBaseBody,
    responses((
        status = 200, description = "The knowledge base as it now is.", body = KnowledgeBaseBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn rename_knowledge_base(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, base)): Path<(WorkspaceId, CrewId, KnowledgeBaseId)>,
    body: Json<NewKnowledgeBaseBody>,
) -> Result<Resource<KnowledgeBaseBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, name) = ((workspace, crew), body.value.name()?);
    let written = service
        .rename_knowledge_base(&request, &principal, at, base, name)
        .await?;
    let version = written.value.version;
    let body = written.value.into();
    Ok(Resource::new(version, written.position, body).replayed(written.replayed))
}

/// Removes a knowledge base with its documents.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("kb" = inline(KnowledgeBaseId), Path), IfMatch, IdempotencyKey
    ),
    request_body = Option<ReasonOnly>,
    responses((status = 204, description = "It is there no more.")),
)]
pub async fn remove_knowledge_base(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, base)): Path<(WorkspaceId, CrewId, KnowledgeBaseId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<NoContent, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let at = (workspace, crew);
    let written = service
        .remove_knowledge_base(&request, &principal, at, base)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}
