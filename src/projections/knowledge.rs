//! Knowledge bases and their documents as they are now; of archived crews, as they were when they
//! were. What documents say is not here: they name it by its digest.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, items::place, present};
use crate::{
    domain::{
        Timestamp,
        crew::{KnowledgeBase, KnowledgeDocument, KnowledgeEvent},
        event::Event,
        ids::{CrewId, DocumentId, KnowledgeBaseId, WorkspaceId},
    },
    journal::Recorded,
};

/// A knowledge base of a crew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnowledgeBaseDocument {
    pub id: KnowledgeBaseId,
    pub crew: CrewId,
    pub workspace: WorkspaceId,
    /// Sequence of the last event that changed it; its documents do not.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub base: KnowledgeBase,
}

/// A document of a knowledge base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnowledgeDocumentDocument {
    pub id: DocumentId,
    pub knowledge_base: KnowledgeBaseId,
    pub crew: CrewId,
    pub workspace: WorkspaceId,
    /// Sequence of the last event that changed it.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub document: KnowledgeDocument,
}

/// What an event says of what a crew knows, where it is about that.
pub(super) fn of_knowledge(event: &Recorded) -> Option<KnowledgeEvent> {
    match &event.event {
        Event::Crew(happened) => happened.of_knowledge(),
        Event::User(_)
        | Event::Organization(_)
        | Event::Workspace(_)
        | Event::Promotion(_)
        | Event::Review(_)
        | Event::Attempts(_)
        | Event::Installation(_) => None,
    }
}

/// See the module.
pub struct KnowledgeBases;

impl Projection for KnowledgeBases {
    type Document = KnowledgeBaseDocument;
    const NAME: &'static str = "knowledge_bases";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        let base = of_knowledge(event).and_then(|happened| match happened {
            KnowledgeEvent::BaseCreated(event) => Some(event.knowledge_base),
            KnowledgeEvent::BaseUpdated(event) => Some(event.knowledge_base),
            KnowledgeEvent::BaseRemoved(event) => Some(event.knowledge_base),
            KnowledgeEvent::DocumentCreated(_)
            | KnowledgeEvent::DocumentUpdated(_)
            | KnowledgeEvent::DocumentRemoved(_) => None,
        });
        base.iter().map(ToString::to_string).collect()
    }

    fn fold(
        document: Option<KnowledgeBaseDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<KnowledgeBaseDocument>, CannotFold> {
        let Some(happened) = of_knowledge(event) else {
            return Ok(document);
        };
        match happened {
            KnowledgeEvent::BaseCreated(created) => {
                let (crew, workspace) = place(event)?;
                Ok(Some(KnowledgeBaseDocument {
                    id: created.knowledge_base,
                    crew,
                    workspace,
                    version: event.sequence,
                    created_at: event.recorded_at,
                    updated_at: event.recorded_at,
                    base: created.to,
                }))
            }
            KnowledgeEvent::BaseUpdated(updated) => Ok(Some(KnowledgeBaseDocument {
                version: event.sequence,
                updated_at: event.recorded_at,
                base: updated.to,
                ..present(document, key)?
            })),
            KnowledgeEvent::BaseRemoved(_) => present(document, key).map(|_| None),
            KnowledgeEvent::DocumentCreated(_)
            | KnowledgeEvent::DocumentUpdated(_)
            | KnowledgeEvent::DocumentRemoved(_) => Ok(document),
        }
    }

    fn columns(document: &KnowledgeBaseDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            parent: Some(document.crew.to_string()),
            ..Columns::default()
        }
    }
}

/// See the module.
pub struct KnowledgeDocuments;

impl Projection for KnowledgeDocuments {
    type Document = KnowledgeDocumentDocument;
    const NAME: &'static str = "knowledge_documents";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        let documents = match of_knowledge(event) {
            Some(KnowledgeEvent::DocumentCreated(event)) => vec![event.document],
            Some(KnowledgeEvent::DocumentUpdated(event)) => vec![event.document],
            Some(KnowledgeEvent::DocumentRemoved(event)) => vec![event.document],
            Some(KnowledgeEvent::BaseRemoved(event)) => event.documents,
            Some(KnowledgeEvent::BaseCreated(_) | KnowledgeEvent::BaseUpdated(_)) | None => vec![],
        };
        documents.iter().map(ToString::to_string).collect()
    }

    fn fold(
        document: Option<KnowledgeDocumentDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<KnowledgeDocumentDocument>, CannotFold> {
        let Some(happened) = of_knowledge(event) else {
            return Ok(document);
        };
        match happened {
            KnowledgeEvent::DocumentCreated(created) => {
                let (crew, workspace) = place(event)?;
                Ok(Some(KnowledgeDocumentDocument {
                    id: created.document,
                    knowledge_base: created.knowledge_base,
                    crew,
                    workspace,
                    version: event.sequence,
                    created_at: event.recorded_at,
                    updated_at: event.recorded_at,
                    document: created.to,
                }))
            }
            KnowledgeEvent::DocumentUpdated(updated) => Ok(Some(KnowledgeDocumentDocument {
                version: event.sequence,
                updated_at: event.recorded_at,
                document: updated.to,
                ..present(document, key)?
            })),
            KnowledgeEvent::DocumentRemoved(_) | KnowledgeEvent::BaseRemoved(_) => {
                present(document, key).map(|_| None)
            }
            KnowledgeEvent::BaseCreated(_) | KnowledgeEvent::BaseUpdated(_) => Ok(document),
        }
    }

    fn columns(document: &KnowledgeDocumentDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            parent: Some(document.knowledge_base.to_string()),
            ..Columns::default()
        }
    }
}
