//! What a crew knows, and keeps for itself: knowledge bases with documents. None of it promotes;
//! a content names a knowledge base by a slot ([`crate::domain::contents::slots`]), and so its
//! name is unique in the crew. What a document says is a content, known here by its digest.
//!
//! Production is no exception: what promotes is reviewed before it gets there, what stays in its
//! crew has nowhere to come from but whoever edits it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{
    Name, Refusal,
    contents::Content,
    ids::{DocumentId, KnowledgeBaseId},
};

/// The most knowledge bases of one crew.
pub const KNOWLEDGE_BASES_MAX: usize = 50;
/// The most documents of one knowledge base.
pub const DOCUMENTS_MAX: usize = 1_000;
/// The most that the documents of one knowledge base say together, in bytes.
pub const KNOWLEDGE_BASE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The names of what is here, in sentences and on the wire.
const BASE: &str = "knowledge base";
const DOCUMENT: &str = "document";

/// What a knowledge base is at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeBase {
    pub name: String,
}

/// What a document is at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeDocument {
    pub title: String,
    pub content: Content,
}

/// A knowledge base was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeBaseCreated {
    pub knowledge_base: KnowledgeBaseId,
    pub to: KnowledgeBase,
}

/// It is called otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeBaseUpdated {
    pub knowledge_base: KnowledgeBaseId,
    pub from: KnowledgeBase,
    pub to: KnowledgeBase,
}

/// It is there no more, and neither are the documents that were in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeBaseRemoved {
    pub knowledge_base: KnowledgeBaseId,
    pub from: KnowledgeBase,
    pub documents: Vec<DocumentId>,
}

/// A document was put into a knowledge base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentCreated {
    pub knowledge_base: KnowledgeBaseId,
    pub document: DocumentId,
    pub to: KnowledgeDocument,
}

/// It is called otherwise, or says something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentUpdated {
    pub knowledge_base: KnowledgeBaseId,
    pub document: DocumentId,
    pub from: KnowledgeDocument,
    pub to: KnowledgeDocument,
}

/// It is there no more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentRemoved {
    pub knowledge_base: KnowledgeBaseId,
    pub document: DocumentId,
    pub from: KnowledgeDocument,
}

/// Any of them, between a crew and what it knows.
#[derive(Debug, Clone, PartialEq)]
pub enum KnowledgeEvent {
    BaseCreated(KnowledgeBaseCreated),
    BaseUpdated(KnowledgeBaseUpdated),
    BaseRemoved(KnowledgeBaseRemoved),
    DocumentCreated(DocumentCreated),
    DocumentUpdated(DocumentUpdated),
    DocumentRemoved(DocumentRemoved),
}

impl KnowledgeEvent {
    /// The content that it names from now on.
    pub fn content(&self) -> Option<Content> {
        match self {
            Self::DocumentCreated(event) => Some(event.to.content),
            Self::DocumentUpdated(event) => Some(event.to.content),
            Self::DocumentRemoved(_)
            | Self::BaseCreated(_)
            | Self::BaseUpdated(_)
            | Self::BaseRemoved(_) => None,
        }
    }
}

/// Commands about knowledge bases and what is in them.
#[derive(Debug, Clone, PartialEq)]
pub enum KnowledgeCommand {
    CreateBase {
        base: KnowledgeBaseId,
        name: Name,
    },
    /// Nothing happens where it is so already.
    RenameBase {
        base: KnowledgeBaseId,
        name: Name,
    },
    RemoveBase {
        base: KnowledgeBaseId,
    },
    CreateDocument {
        base: KnowledgeBaseId,
        document: DocumentId,
        title: Name,
        content: Content,
    },
    /// Nothing happens where it is so already.
    UpdateDocument {
        base: KnowledgeBaseId,
        document: DocumentId,
        title: Name,
        content: Content,
    },
    RemoveDocument {
        base: KnowledgeBaseId,
        document: DocumentId,
    },
}

/// A knowledge base with what is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    base: KnowledgeBase,
    documents: BTreeMap<DocumentId, KnowledgeDocument>,
}

/// What a crew knows, folded from its events: no two knowledge bases have one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Knowledge(BTreeMap<KnowledgeBaseId, Kept>);

impl Knowledge {
    /// Whether a knowledge base has this name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.0.values().any(|kept| kept.base.name == name)
    }

    pub(super) fn decide(
        &self,
        command: KnowledgeCommand,
    ) -> Result<Option<KnowledgeEvent>, Refusal> {
        match command {
            KnowledgeCommand::CreateBase { base, name } => self.create_base(base, &name).map(Some),
            KnowledgeCommand::RenameBase { base, name } => self.rename_base(base, &name),
            KnowledgeCommand::RemoveBase { base } => {
                let kept = self.known(base)?;
                Ok(Some(KnowledgeEvent::BaseRemoved(KnowledgeBaseRemoved {
                    knowledge_base: base,
                    from: kept.base.clone(),
                    documents: kept.documents.keys().copied().collect(),
                })))
            }
            KnowledgeCommand::CreateDocument {
                base,
                document,
                title,
                content,
            } => {
                let title = title.into();
                let to = KnowledgeDocument { title, content };
                self.create_document(base, document, to).map(Some)
            }
            KnowledgeCommand::UpdateDocument {
                base,
                document,
                title,
                content,
            } => {
                let title = title.into();
                let to = KnowledgeDocument { title, content };
                self.update_document(base, document, to)
            }
            KnowledgeCommand::RemoveDocument { base, document } => {
                let from = self.known(base)?.known(document)?.clone();
                Ok(Some(KnowledgeEvent::DocumentRemoved(DocumentRemoved {
                    knowledge_base: base,
                    document,
                    from,
                })))
            }
        }
    }

    fn create_base(&self, base: KnowledgeBaseId, name: &Name) -> Result<KnowledgeEvent, Refusal> {
        if self.0.contains_key(&base) {
            return Err(Refusal::AlreadyExists { what: BASE });
        }
        if self.0.len() >= KNOWLEDGE_BASES_MAX {
            let limit = KNOWLEDGE_BASES_MAX;
            return Err(Refusal::TooManyItems { what: BASE, limit });
        }
        self.name_is_free(base, name)?;
        let name = name.as_str().to_owned();
        Ok(KnowledgeEvent::BaseCreated(KnowledgeBaseCreated {
            knowledge_base: base,
            to: KnowledgeBase { name },
        }))
    }

    fn rename_base(
        &self,
        base: KnowledgeBaseId,
        name: &Name,
    ) -> Result<Option<KnowledgeEvent>, Refusal> {
        let from = self.known(base)?.base.clone();
        self.name_is_free(base, name)?;
        let name = name.as_str().to_owned();
        let to = KnowledgeBase { name };
        let event = |from, to| {
            KnowledgeEvent::BaseUpdated(KnowledgeBaseUpdated {
                knowledge_base: base,
                from,
                to,
            })
        };
        Ok((from != to).then(|| event(from, to)))
    }

    fn create_document(
        &self,
        base: KnowledgeBaseId,
        document: DocumentId,
        to: KnowledgeDocument,
    ) -> Result<KnowledgeEvent, Refusal> {
        let kept = self.known(base)?;
        let mut bases = self.0.values();
        if bases.any(|base| base.documents.contains_key(&document)) {
            return Err(Refusal::AlreadyExists { what: DOCUMENT });
        }
        if kept.documents.len() >= DOCUMENTS_MAX {
            return Err(Refusal::KnowledgeBaseFull);
        }
        kept.has_room(document, to.content)?;
        Ok(KnowledgeEvent::DocumentCreated(DocumentCreated {
            knowledge_base: base,
            document,
            to,
        }))
    }

    fn update_document(
        &self,
        base: KnowledgeBaseId,
        document: DocumentId,
        to: KnowledgeDocument,
    ) -> Result<Option<KnowledgeEvent>, Refusal> {
        let kept = self.known(base)?;
        let from = kept.known(document)?.clone();
        kept.has_room(document, to.content)?;
        let event = |from, to| {
            KnowledgeEvent::DocumentUpdated(DocumentUpdated {
                knowledge_base: base,
                document,
                from,
                to,
            })
        };
        Ok((from != to).then(|| event(from, to)))
    }

    fn known(&self, base: KnowledgeBaseId) -> Result<&Kept, Refusal> {
        self.0.get(&base).ok_or(Refusal::NotFound {
            what: BASE,
            hidden: false,
        })
    }

    fn name_is_free(&self, base: KnowledgeBaseId, name: &Name) -> Result<(), Refusal> {
        let others = self.0.iter().filter(|(id, _)| **id != base);
        let mut names = others.map(|(_, other)| &other.base.name);
        match names.any(|other| other == name.as_str()) {
            true => Err(Refusal::NameTaken { what: BASE }),
            false => Ok(()),
        }
    }

    pub(super) fn apply(&mut self, event: KnowledgeEvent) {
        match event {
            KnowledgeEvent::BaseCreated(event) => {
                let (base, documents) = (event.to, BTreeMap::new());
                let kept = Kept { base, documents };
                self.0.insert(event.knowledge_base, kept);
            }
            KnowledgeEvent::BaseUpdated(event) => {
                if let Some(kept) = self.0.get_mut(&event.knowledge_base) {
                    kept.base = event.to;
                }
            }
            KnowledgeEvent::BaseRemoved(event) => drop(self.0.remove(&event.knowledge_base)),
            KnowledgeEvent::DocumentCreated(event) => {
                if let Some(kept) = self.0.get_mut(&event.knowledge_base) {
                    kept.documents.insert(event.document, event.to);
                }
            }
            KnowledgeEvent::DocumentUpdated(event) => {
                if let Some(kept) = self.0.get_mut(&event.knowledge_base) {
                    kept.documents.insert(event.document, event.to);
                }
            }
            KnowledgeEvent::DocumentRemoved(event) => {
                if let Some(kept) = self.0.get_mut(&event.knowledge_base) {
                    kept.documents.remove(&event.document);
                }
            }
        }
    }

    pub(super) fn weight_bytes(&self) -> usize {
        // An id, a digest, a title of some length, and their share of the node.
        let documents: usize = self.0.values().map(|kept| kept.documents.len()).sum();
        (self.0.len() + documents) * 192
    }
}

impl Kept {
    fn known(&self, document: DocumentId) -> Result<&KnowledgeDocument, Refusal> {
        self.documents.get(&document).ok_or(Refusal::NotFound {
            what: DOCUMENT,
            hidden: false,
        })
    }

    /// That all documents together, with this one saying `content`, stay within bounds.
    fn has_room(&self, document: DocumentId, content: Content) -> Result<(), Refusal> {
        let others = self.documents.iter().filter(|(id, _)| **id != document);
        let others: u64 = others.map(|(_, other)| other.content.size).sum();
        match others + content.size <= KNOWLEDGE_BASE_BYTES_MAX {
            true => Ok(()),
            false => Err(Refusal::KnowledgeBaseFull),
        }
    }
}
