//! The documents of knowledge bases, and finding them by their words.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    as_of::AsOf,
    audit::FilterText,
    exchange::{Command, MomentQuery, PrincipalReader, PrincipalWriter, ReadQuery},
    fields::{FieldCode, FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    items::ITEM_BODY_BYTES_MAX,
    json::Json,
    paging::{DocumentCursor, Limit, PageQuery},
    problem::Problem,
    query::Path,
    respond::{Created, NoContent, Page, Resource},
    values::{self, ReasonOnly, Time, wrong},
};
use crate::{
    domain::{
        contents::{CONTENT_BYTES_MAX, secrets},
        ids::{CrewId, DocumentId, KnowledgeBaseId, WorkspaceId},
    },
    service::{DocumentDraft, DocumentView, KnowledgeMatch, Service, SnippetPart},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(create_document, list_documents))
        .routes(routes!(read_document, update_document, remove_document))
        .routes(routes!(search_documents))
}

/// A document of a knowledge base. Lists leave out what it says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Document)]
pub struct DocumentBody {
    id: DocumentId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    workspace: WorkspaceId,
    crew: CrewId,
    knowledge_base: KnowledgeBaseId,
    title: String,
    /// SHA-256 of the text in UTF-8, in standard base64.
    digest: String,
    /// Of the text in UTF-8, in bytes.
    size: u64,
    /// What it says; in the answer of one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    text: Option<String>,
}

impl From<DocumentView> for DocumentBody {
    fn from(view: DocumentView) -> Self {
        let document = view.document;
        Self {
            id: document.id,
            version: document.version,
            created_at: document.created_at.into(),
            updated_at: document.updated_at.into(),
            workspace: document.workspace,
            crew: document.crew,
            knowledge_base: document.knowledge_base,
            title: document.document.title,
            digest: document.document.content.digest.to_string(),
            size: document.document.content.size,
            text: view.text,
        }
    }
}

/// What a document is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDocument)]
pub struct NewDocumentBody {
    #[schema(min_length = 1, max_length = 120, example = "Refunds")]
    title: String,
    /// At most 256 KiB in UTF-8. It holds no credentials.
    #[schema(min_length = 1, max_length = 262_144)]
    text: String,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

fn check_words(text: &str) -> Option<FieldError> {
    if text.is_empty() {
        return Some(FieldError::invalid("/text", "at least one character"));
    }
    (text.len() > CONTENT_BYTES_MAX).then(|| {
        let detail = format!("at most {CONTENT_BYTES_MAX} bytes in UTF-8");
        FieldError::new(FieldCode::TooLong, "/text", detail)
    })
}

fn check_secrets(pointer: &str, text: &str) -> Option<FieldError> {
    let found = secrets::find_in_text(pointer, text);
    found.map(|found| FieldError::new(FieldCode::SecretFound, found.pointer, found.detail))
}

impl Validate for NewDocumentBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::name("/title", &self.title).err(),
            check_words(&self.text),
            check_secrets("/title", &self.title),
            check_secrets("/text", &self.text),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewDocumentBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl NewDocumentBody {
    fn into_draft(self) -> Result<DocumentDraft, FieldError> {
        Ok(DocumentDraft {
            title: values::name("/title", &self.title)?,
            text: self.text,
        })
    }
}

/// Puts a document into a knowledge base.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("kb" = inline(KnowledgeBaseId), Path), IdempotencyKey
    ),
    request_body = NewDocumentBody,
    responses((status = 201, description = "The new document.", body = DocumentBody)),
)]
pub async fn create_document(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, base)): Path<(WorkspaceId, CrewId, KnowledgeBaseId)>,
    body: Json<NewDocumentBody, ITEM_BODY_BYTES_MAX>,
) -> Result<Created<DocumentBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let (at, draft) = ((workspace, crew), body.value.into_draft()?);
    let written = service
        .create_document(&request, &principal, at, base, draft)
        .await?;
    let document = DocumentBody::from(written.value);
    let location = format!(
        "/v1/workspaces/{workspace}/crews/{crew}/knowledge-bases/{base}/documents/{}",
        document.id
    );
    let made = Created::new(location, document.version, written.position, document);
    Ok(made.replayed(written.replayed))
}

/// The documents of a knowledge base, oldest first, without what they say.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("kb" = inline(KnowledgeBaseId), Path), PageQuery<DocumentCursor>, MinimumPosition
    ),
    responses((status = 200, description = "A page of documents.", body = Page<DocumentBody>)),
)]
pub async fn list_documents(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<DocumentCursor>>,
    Path((workspace, crew, base)): Path<(WorkspaceId, CrewId, KnowledgeBaseId)>,
) -> Result<Page<DocumentBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let (at, range) = ((workspace, crew), (query.after(), query.limit.count()));
    let page = service
        .documents_of(&request, &principal, at, base, range)
        .await?;
    Ok(Page::keyed::<DocumentCursor, _>(page, DocumentBody::from))
}

/// A document.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents/{doc}",
    tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("kb" = inline(KnowledgeBaseId), Path), ("doc" = inline(DocumentId), Path),
        MomentQuery, MinimumPosition
    ),
    responses((
        status = 200, description = "The document.", body = DocumentBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_document(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path((workspace, crew, base, document)): Path<(
        WorkspaceId,
        CrewId,
        KnowledgeBaseId,
        DocumentId,
    )>,
) -> Result<Resource<DocumentBody>, Problem> {
    let (at, which) = ((workspace, crew), (base, document));
    let found = service
        .document(&reader.request, &reader.principal, at, which)
        .await?;
    let body = DocumentBody::from(found.value);
    Ok(Resource::new(body.version, found.position, body))
}

/// Puts another title and text in place of those there are.
#[utoipa::path(
    put, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents/{doc}",
    tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("kb" = inline(KnowledgeBaseId), Path), ("doc" = inline(DocumentId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = NewDocumentBody,
    responses((
        status = 200, description = "The document as it now is.", body = DocumentBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn update_document(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, base, document)): Path<(
        WorkspaceId,
        CrewId,
        KnowledgeBaseId,
        DocumentId,
    )>,
    body: Json<NewDocumentBody, ITEM_BODY_BYTES_MAX>,
) -> Result<Resource<DocumentBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, which) = ((workspace, crew), (base, document));
    let draft = body.value.into_draft()?;
    let written = service
        .update_document(&request, &principal, at, which, draft)
        .await?;
    let body = DocumentBody::from(written.value);
    Ok(Resource::new(body.version, written.position, body).replayed(written.replayed))
}

/// Takes a document out of its knowledge base.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents/{doc}",
    tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("kb" = inline(KnowledgeBaseId), Path), ("doc" = inline(DocumentId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = Option<ReasonOnly>,
    responses((status = 204, description = "It is there no more.")),
)]
pub async fn remove_document(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, base, document)): Path<(
        WorkspaceId,
        CrewId,
        KnowledgeBaseId,
        DocumentId,
    )>,
    body: Option<Json<ReasonOnly>>,
) -> Result<NoContent, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, which) = ((workspace, crew), (base, document));
    let written = service
        .remove_document(&request, &principal, at, which)
        .await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}

/// What is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// Words, of which a document has at least one in its title or text. Case and accents do not
    /// matter; what has more of them, and rarer ones, comes first.
    #[param(inline)]
    q: FilterText,
    /// How many documents at most.
    #[serde(default)]
    #[param(inline, required = false)]
    limit: Limit,
    /// The moment that is asked about: a position of the log, or a time. Now, where nobody says.
    #[param(inline)]
    as_of: Option<AsOf>,
}

impl ReadQuery for SearchQuery {
    fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }
}

/// A part of what is shown of a text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SnippetPart)]
pub struct SnippetPartBody {
    text: String,
    /// Whether it is one of the words.
    matches: bool,
}

impl From<SnippetPart> for SnippetPartBody {
    fn from(part: SnippetPart) -> Self {
        Self {
            text: part.text,
            matches: part.matches,
        }
    }
}

/// A document that was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FoundDocument)]
pub struct FoundDocumentBody {
    id: DocumentId,
    version: u64,
    title: String,
    size: u64,
    /// How often the words occur in its title and text.
    matches: u64,
    /// The first places in its text, at most three, each in parts that follow on each other.
    snippets: Vec<Vec<SnippetPartBody>>,
}

impl From<KnowledgeMatch> for FoundDocumentBody {
    fn from(found: KnowledgeMatch) -> Self {
        let document = found.document;
        let parts = |parts: Vec<SnippetPart>| parts.into_iter().map(Into::into).collect();
        Self {
            id: document.id,
            version: document.version,
            title: document.document.title,
            size: document.document.content.size,
            matches: found.matches,
            snippets: found.snippets.into_iter().map(parts).collect(),
        }
    }
}

/// What was found, the best first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FoundDocuments)]
pub struct FoundBody {
    data: Vec<FoundDocumentBody>,
}

/// The documents of a knowledge base that have any of some words, the best first.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/search", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("kb" = inline(KnowledgeBaseId), Path), SearchQuery, MinimumPosition
    ),
    responses((status = 200, description = "What was found.", body = FoundBody)),
)]
pub async fn search_documents(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<SearchQuery>,
    Path((workspace, crew, base)): Path<(WorkspaceId, CrewId, KnowledgeBaseId)>,
) -> Result<Resource<FoundBody>, Problem> {
    let (request, principal, query) = (reader.request, reader.principal, reader.query);
    let (at, FilterText(words)) = ((workspace, crew), query.q);
    let wanted = (words.as_str(), query.limit.get());
    let found = service
        .search_documents(&request, &principal, at, base, wanted)
        .await?;
    let data = found.value.into_iter().map(Into::into).collect();
    Ok(Resource::unversioned(found.position, FoundBody { data }))
}
