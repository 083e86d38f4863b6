//! What is read: read models folded from the log, and the engine that keeps them.
//!
//! A projection is a pure fold of one document at a time: it says which documents an event
//! changes and what they become. The [`Engine`] runs every fold inside the append, rebuilds
//! them from the start, and checks what is stored against a fold of its own. No projection
//! knows of SQL.
//!
//! To add one: a file with the document and its [`Projection`], its line in [`all`], and a
//! table of a first generation is made and filled when the program next starts. To change
//! one: raise its `VERSION`; it is then rebuilt.

pub mod access;
pub mod access_snapshots;
mod api_keys;
pub mod audit;
pub mod audit_index;
mod auditors;
mod changelog;
mod check;
mod connections;
mod crew_contents;
mod crews;
mod engine;
mod filling;
mod indexer;
mod into;
mod invitations;
mod items;
mod key_index;
mod key_names;
mod knowledge;
mod limits;
mod members;
mod operator_keys;
mod organizations;
mod past;
mod people;
mod policies;
mod promotions;
mod query;
mod rebuild;
mod reviews;
mod set;
mod statements;
mod states;
mod users;
mod workspaces;

use std::{any::Any, collections::BTreeMap, marker::PhantomData, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use api_keys::{ApiKeyDocument, ApiKeys, KeyStatus};
pub use auditors::{AuditorDocument, Auditors};
pub use changelog::{ChangeKind, Changelog, ChangelogDocument};
pub use check::{CheckReport, Difference, check};
pub use connections::{ConnectionDocument, Connections};
pub use crew_contents::{CrewContents, CrewContentsDocument};
pub use crews::{CrewDocument, Crews};
pub use engine::{Engine, EngineError, ServingTable, serving_tables};
pub use indexer::{Indexer, POSITION_METRIC};
pub use into::{FoldedInto, fold_into};
pub use invitations::{InvitationDocument, InvitationStatus, Invitations};
pub use items::{ItemDocument, ItemVersionDocument, ItemVersions, Items};
pub use key_index::{KeyIndex, SecretHash};
pub use key_names::{KeyNameDocument, KeyNames};
pub use knowledge::{
    KnowledgeBaseDocument, KnowledgeBases, KnowledgeDocumentDocument, KnowledgeDocuments,
};
pub use limits::{Limits, LimitsDocument};
pub use members::{MemberDocument, Members};
pub use operator_keys::{OperatorKeyDocument, OperatorKeys};
pub use organizations::{
    OrganizationDocument, OrganizationMemberDocument, OrganizationMembers, Organizations,
};
pub use past::{Past, PastFold};
pub use people::{ACCOUNT, People, PersonField, PersonFieldDocument, person_key};
pub use policies::{Policies, PolicyDocument};
pub use promotions::{
    AppliedPromotion, CheckDocument, EndedPromotion, EndedSchedule, PromotionApproval,
    PromotionDocument, Promotions,
};
pub use query::{By, Documents, Found, Page};
pub use rebuild::{
    Pace, Progress, Rebuild, RebuildState, RebuildStatus, Rebuilt, ask, cancel, fold_all, rebuild,
    status, withdraw,
};
pub use reviews::{ReviewClosing, ReviewDocument, ReviewEnd, Reviews};
pub use set::Projections;
pub use statements::{StatementDocument, Statements};
pub use states::{ProjectionIndex, ProjectionState, Unfinished, indexes, states, unfinished};
pub use users::{UserDocument, Users};
pub use workspaces::{WorkspaceDocument, Workspaces};

use crate::{
    domain::{ids::EventId, sealed::Sealed},
    journal::Recorded,
};

/// A fold of events into documents, one document at a time.
pub trait Projection: Send + Sync + 'static {
    /// A read model, as JSON.
    type Document: Document;

    /// Part of the tables' names: lower-case letters and `_`.
    const NAME: &'static str;
    /// Raised when the fold or the document changes: then it is rebuilt.
    const VERSION: i64;

    /// The documents that an event changes, by key; each once.
    fn keys(event: &Recorded) -> Vec<String>;

    /// What the document at `key` becomes; none if it goes, or never was.
    ///
    /// # Errors
    /// When the event cannot follow on the document: a defect, and the unit that brought it
    /// is refused.
    fn fold(
        document: Option<Self::Document>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<Self::Document>, CannotFold>;

    /// What the document is found by.
    fn columns(document: &Self::Document) -> Columns;
}

/// What a document must be able to do.
pub trait Document: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<D: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Document for D {}

/// An event that does not follow on the document that it should change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotFold(pub String);

/// The document that must be there, or a fold that failed.
fn present<D>(document: Option<D>, key: &str) -> Result<D, CannotFold> {
    document.ok_or_else(|| CannotFold(format!("there is no document {key} to change")))
}

/// What a document is found by, beside its key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The workspace it lies in.
    pub workspace: Option<String>,
    /// What lists are of.
    pub parent: Option<String>,
    /// One more value that it is found by.
    pub lookup: Option<String>,
    /// When time alone will end something about it, in microseconds since 1970.
    pub deadline: Option<i64>,
}

/// A sealed field with the place that it was sealed for, so that it can be opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SealedAt {
    pub event: EventId,
    pub field: String,
    pub sealed: Sealed,
}

impl SealedAt {
    /// The field of this event.
    pub fn of(event: &Recorded, field: &str, sealed: &Sealed) -> Self {
        Self {
            event: event.id,
            field: field.to_owned(),
            sealed: sealed.clone(),
        }
    }
}

/// A document of any projection, in memory.
pub(crate) type AnyDocument = Arc<dyn Any + Send + Sync>;

/// A projection without its document's type, for a list of them.
pub(crate) trait AnyProjection: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> i64;
    fn keys(&self, event: &Recorded) -> Vec<String>;
    fn fold(
        &self,
        document: Option<AnyDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<AnyDocument>, CannotFold>;
    fn columns(&self, document: &AnyDocument) -> Columns;
    fn encode(&self, document: &AnyDocument) -> Result<String, CannotFold>;
    fn decode(&self, text: &str) -> Result<AnyDocument, CannotFold>;
}

struct Typed<P>(PhantomData<fn() -> P>);

fn typed<P: Projection>(document: &AnyDocument) -> &P::Document {
    document
        .downcast_ref()
        .expect("a projection is given its own documents")
}

/// Copied only where somebody else still holds it.
fn owned<P: Projection>(document: AnyDocument) -> P::Document {
    let document = document
        .downcast()
        .expect("a projection is given its own documents");
    Arc::unwrap_or_clone(document)
}

impl<P: Projection> AnyProjection for Typed<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn version(&self) -> i64 {
        P::VERSION
    }

    fn keys(&self, event: &Recorded) -> Vec<String> {
        P::keys(event)
    }

    fn fold(
        &self,
        document: Option<AnyDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<AnyDocument>, CannotFold> {
        let folded = P::fold(document.map(owned::<P>), key, event)?;
        Ok(folded.map(|document| Arc::new(document) as AnyDocument))
    }

    fn columns(&self, document: &AnyDocument) -> Columns {
        P::columns(typed::<P>(document))
    }

    fn encode(&self, document: &AnyDocument) -> Result<String, CannotFold> {
        serde_json::to_string(typed::<P>(document)).map_err(|error| CannotFold(error.to_string()))
    }

    fn decode(&self, text: &str) -> Result<AnyDocument, CannotFold> {
        serde_json::from_str::<P::Document>(text)
            .map(|document| Arc::new(document) as AnyDocument)
            .map_err(|error| CannotFold(format!("{} document: {error}", P::NAME)))
    }
}

/// Every projection of documents that there is.
fn all() -> Vec<Arc<dyn AnyProjection>> {
    fn one<P: Projection>() -> Arc<dyn AnyProjection> {
        Arc::new(Typed::<P>(PhantomData))
    }
    vec![
        one::<Users>(),
        one::<People>(),
        one::<Organizations>(),
        one::<OrganizationMembers>(),
        one::<Workspaces>(),
        one::<Members>(),
        one::<Invitations>(),
        one::<ApiKeys>(),
        one::<KeyNames>(),
        one::<Policies>(),
        one::<Auditors>(),
        one::<Crews>(),
        one::<Items>(),
        one::<ItemVersions>(),
        one::<Connections>(),
        one::<KnowledgeBases>(),
        one::<KnowledgeDocuments>(),
        one::<CrewContents>(),
        one::<Promotions>(),
        one::<Changelog>(),
        one::<Limits>(),
        one::<Reviews>(),
        one::<Statements>(),
        one::<OperatorKeys>(),
    ]
}

impl Default for Projections {
    fn default() -> Self {
        Self::new(all())
    }
}

/// The names of everything that can be rebuilt, the audit index included.
pub fn names() -> Vec<&'static str> {
    Projections::default().names()
}

/// Which generation of each projection is meant, by name.
pub(crate) type Generations = BTreeMap<String, i64>;
