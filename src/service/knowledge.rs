//! What crews know: knowledge bases and their documents, made, read, listed, changed, removed.
//!
//! They stay in their crew and never promote, so they are edited where they are, in production
//! too. What a document says is a content ([`super::contents`]); finding it by its words is in
//! [`super::knowledge_search`].

use super::{
    InCrew, Principal, Request, Service, ServiceError, Written,
    contents::Staged,
    crews::{Conditional, CrewAt, CrewWrite, authorise_in_crew},
    write::{Made, Receipt},
};
use crate::{
    domain::{
        Name, Refusal,
        authority::Permission,
        contents::CONTENT_BYTES_MAX,
        crew::{Crew, CrewCommand, KnowledgeCommand},
        ids::{DocumentId, KnowledgeBaseId},
    },
    projections::{
        Found, KnowledgeBaseDocument, KnowledgeBases, KnowledgeDocumentDocument,
        KnowledgeDocuments, Page,
    },
};

/// A knowledge base, as it is answered.
pub type KnowledgeBaseView = KnowledgeBaseDocument;

/// A document, with what it says where that is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentView {
    pub document: KnowledgeDocumentDocument,
    pub text: Option<String>,
}

/// What a document is to be.
#[derive(Debug, Clone)]
pub struct DocumentDraft {
    pub title: Name,
    pub text: String,
}

const NO_BASE: Refusal = Refusal::NotFound {
    what: "knowledge base",
    hidden: false,
};
const NO_DOCUMENT: Refusal = Refusal::NotFound {
    what: "document",
    hidden: false,
};

/// A change of what a crew knows.
struct KnowledgeWrite {
    action: &'static str,
    /// What it aims at: what the new thing is in, where it makes one.
    target: String,
    command: KnowledgeCommand,
    /// What the command names, to be pinned.
    content: Option<Staged>,
    conditional: Conditional,
    status: u16,
    made: Made,
}

impl Service {
    /// Makes a knowledge base.
    ///
    /// # Errors
    /// A refusal unless the caller may edit the crew.
    pub async fn create_knowledge_base(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        name: Name,
    ) -> Result<Written<KnowledgeBaseView>, ServiceError> {
        let base = KnowledgeBaseId::from_uuid(self.source().uuid());
        let write = KnowledgeWrite {
            action: "knowledge_base.created",
            target: at.1.to_string(),
            command: KnowledgeCommand::CreateBase { base, name },
            content: None,
            conditional: Conditional::Nothing,
            status: 201,
            made: Made::KnowledgeBase(at.1, base),
        };
        let receipt = self.submit_knowledge(request, principal, at, write).await?;
        self.knowledge_base_written(receipt).await
    }

    /// Renames a knowledge base.
    ///
    /// # Errors
    /// A refusal unless the caller may edit the crew.
    pub async fn rename_knowledge_base(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        base: KnowledgeBaseId,
        name: Name,
    ) -> Result<Written<KnowledgeBaseView>, ServiceError> {
        let write = KnowledgeWrite {
            action: "knowledge_base.updated",
            target: base.to_string(),
            command: KnowledgeCommand::RenameBase { base, name },
            content: None,
            conditional: Conditional::KnowledgeBase(base),
            status: 200,
            made: Made::KnowledgeBase(at.1, base),
        };
        let receipt = self.submit_knowledge(request, principal, at, write).await?;
        self.knowledge_base_written(receipt).await
    }

    /// Removes a knowledge base with its documents.
    ///
    /// # Errors
    /// A refusal unless the caller may edit the crew.
    pub async fn remove_knowledge_base(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        base: KnowledgeBaseId,
    ) -> Result<Written<()>, ServiceError> {
        let write = KnowledgeWrite {
            action: "knowledge_base.removed",
            target: base.to_string(),
            command: KnowledgeCommand::RemoveBase { base },
            content: None,
            conditional: Conditional::KnowledgeBase(base),
            status: 204,
            made: Made::KnowledgeBase(at.1, base),
        };
        let receipt = self.submit_knowledge(request, principal, at, write).await?;
        Ok(Written::of(&receipt, ()))
    }

    /// Puts a document into a knowledge base.
    ///
    /// # Errors
    /// A refusal unless the caller may edit the crew, or when it is full; an invalid value when
    /// the text is too large.
    pub async fn create_document(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        base: KnowledgeBaseId,
        draft: DocumentDraft,
    ) -> Result<Written<DocumentView>, ServiceError> {
        let action = "document.created";
        let document = DocumentId::from_uuid(self.source().uuid());
        let staged = self
            .staged_text(request, principal, at, action, &draft.text)
            .await?;
        let write = KnowledgeWrite {
            action,
            target: base.to_string(),
            command: KnowledgeCommand::CreateDocument {
                base,
                document,
                title: draft.title,
                content: staged.content,
            },
            content: Some(staged),
            conditional: Conditional::Nothing,
            status: 201,
            made: Made::Document(at.1, document),
        };
        let receipt = self.submit_knowledge(request, principal, at, write).await?;
        self.document_written(receipt).await
    }

    /// Puts another title or text in place of those there are.
    ///
    /// # Errors
    /// As [`Service::create_document`].
    pub async fn update_document(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        (base, document): (KnowledgeBaseId, DocumentId),
        draft: DocumentDraft,
    ) -> Result<Written<DocumentView>, ServiceError> {
        let action = "document.updated";
        let staged = self
            .staged_text(request, principal, at, action, &draft.text)
            .await?;
        let write = KnowledgeWrite {
            action,
            target: document.to_string(),
            command: KnowledgeCommand::UpdateDocument {
                base,
                document,
                title: draft.title,
                content: staged.content,
            },
            content: Some(staged),
            conditional: Conditional::Document(document),
            status: 200,
            made: Made::Document(at.1, document),
        };
        let receipt = self.submit_knowledge(request, principal, at, write).await?;
        self.document_written(receipt).await
    }

    /// Takes a document out of its knowledge base.
    ///
    /// # Errors
    /// A refusal unless the caller may edit the crew.
    pub async fn remove_document(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        (base, document): (KnowledgeBaseId, DocumentId),
    ) -> Result<Written<()>, ServiceError> {
        let write = KnowledgeWrite {
            action: "document.removed",
            target: document.to_string(),
            command: KnowledgeCommand::RemoveDocument { base, document },
            content: None,
            conditional: Conditional::Document(document),
            status: 204,
            made: Made::Document(at.1, document),
        };
        let receipt = self.submit_knowledge(request, principal, at, write).await?;
        Ok(Written::of(&receipt, ()))
    }

    /// A text, kept as a content for whoever may edit the crew: nobody else's is kept.
    async fn staged_text(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        action: &'static str,
        text: &str,
    ) -> Result<Staged, ServiceError> {
        self.may_in_crew(request, principal, at, Permission::EditCrews, action)
            .await?;
        if text.len() > CONTENT_BYTES_MAX {
            return Err(ServiceError::InvalidValue {
                pointer: "/text",
                detail: format!("at most {CONTENT_BYTES_MAX} bytes in UTF-8"),
            });
        }
        self.stage(at.0, text).await
    }

    async fn submit_knowledge(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        write: KnowledgeWrite,
    ) -> Result<Receipt, ServiceError> {
        let (permission, actor) = (Permission::EditCrews, principal.actor());
        let at: CrewAt = self
            .crew_to_change(request, principal, at, permission, write.action)
            .await?;
        let (command, content, made) = (write.command, write.content, write.made);
        let in_crew = CrewWrite {
            action: write.action,
            target: write.target,
            permission,
            conditional: write.conditional,
            status: write.status,
            lookups: vec![],
            authorise: &|| authorise_in_crew(actor, permission, at.crew),
            decide: &|| {
                let (command, content, made) = (command.clone(), content.clone(), made.clone());
                Box::new(move |desk, stream| {
                    let before = desk.sequence(stream);
                    let command = CrewCommand::Knowledge(command.clone());
                    desk.execute::<Crew>(stream, command, &[])?;
                    if let (Some(content), true) = (&content, desk.sequence(stream) != before) {
                        content.pin(desk)?;
                    }
                    Ok(made.clone())
                })
            },
            beside: vec![],
        };
        self.submit_in_crew(request, principal, at, in_crew).await
    }

    async fn knowledge_base_written(
        &self,
        receipt: Receipt,
    ) -> Result<Written<KnowledgeBaseView>, ServiceError> {
        let Made::KnowledgeBase(crew, base) = &receipt.made else {
            let words = "the kept answer is no knowledge base".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let (stream, key) = (crew.to_string(), base.to_string());
        let bases = self.knowledge_bases();
        let shown = self.shown::<KnowledgeBases, Crew>(bases, &receipt, &stream, &key);
        let shown = shown.await?;
        Ok(Written::of(&receipt, shown))
    }

    async fn document_written(
        &self,
        receipt: Receipt,
    ) -> Result<Written<DocumentView>, ServiceError> {
        let Made::Document(crew, document) = &receipt.made else {
            let words = "the kept answer is no document".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let (stream, key) = (crew.to_string(), document.to_string());
        let documents = self.knowledge_documents();
        let shown = self.shown::<KnowledgeDocuments, Crew>(documents, &receipt, &stream, &key);
        let view = self.with_text(shown.await?).await?;
        Ok(Written::of(&receipt, view))
    }

    async fn with_text(
        &self,
        document: KnowledgeDocumentDocument,
    ) -> Result<DocumentView, ServiceError> {
        let content = document.document.content;
        let text = Some(self.content(document.workspace, content).await?);
        Ok(DocumentView { document, text })
    }

    /// A page of a crew's knowledge bases, oldest first.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew.
    pub async fn knowledge_bases_of(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        (after, limit): (Option<&str>, u64),
    ) -> Result<Page<KnowledgeBaseView>, ServiceError> {
        let (permission, action) = (Permission::SeeCrews, "knowledge_base.read");
        self.may_in_crew(request, principal, at, permission, action)
            .await?;
        let state = self.state_of_crew(request, at.1).await?;
        let bases = state.documents::<KnowledgeBases>();
        Ok(bases
            .page_of_parent(&at.1.to_string(), after, limit)
            .await?)
    }

    /// A knowledge base.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew; [`Refusal::NotFound`].
    pub async fn knowledge_base(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        base: KnowledgeBaseId,
    ) -> Result<Found<KnowledgeBaseView>, ServiceError> {
        let (permission, action) = (Permission::SeeCrews, "knowledge_base.read");
        self.may_in_crew(request, principal, at, permission, action)
            .await?;
        let state = self.state_of_crew(request, at.1).await?;
        let bases = state.documents::<KnowledgeBases>();
        let found = bases.get(&base.to_string()).await?;
        let here = found.value.filter(|base| base.crew == at.1);
        Ok(Found {
            position: found.position,
            value: here.ok_or(NO_BASE)?,
        })
    }

    /// A page of a knowledge base's documents, oldest first, without what they say.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew; [`Refusal::NotFound`].
    pub async fn documents_of(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        base: KnowledgeBaseId,
        (after, limit): (Option<&str>, u64),
    ) -> Result<Page<DocumentView>, ServiceError> {
        self.knowledge_base(request, principal, at, base).await?;
        let state = self.state_of_crew(request, at.1).await?;
        let documents = state.documents::<KnowledgeDocuments>();
        let page = documents
            .page_of_parent(&base.to_string(), after, limit)
            .await?;
        Ok(page.map(|document| DocumentView {
            document,
            text: None,
        }))
    }

    /// A document.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew; [`Refusal::NotFound`].
    pub async fn document(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        (base, document): (KnowledgeBaseId, DocumentId),
    ) -> Result<Found<DocumentView>, ServiceError> {
        let (permission, action) = (Permission::SeeCrews, "document.read");
        self.may_in_crew(request, principal, at, permission, action)
            .await?;
        let state = self.state_of_crew(request, at.1).await?;
        let found = state
            .documents::<KnowledgeDocuments>()
            .get(&document.to_string())
            .await?;
        let here = found
            .value
            .filter(|document| document.crew == at.1 && document.knowledge_base == base);
        let value = self.with_text(here.ok_or(NO_DOCUMENT)?).await?;
        let position = found.position;
        Ok(Found { position, value })
    }
}
