//! What can be said to have happened to a crew.

use serde::{Deserialize, Serialize};

use super::{
    CrewPlace, CrewProfile,
    connections::{
        ConnectionAdded, ConnectionChanged, ConnectionEvent, ConnectionRemoved, CredentialRemoved,
        CredentialSet,
    },
    items::{ItemChange, ItemCreated, ItemEvent, ItemId, ItemKind, ItemRemoved, ItemUpdated},
    knowledge::{
        DocumentCreated, DocumentRemoved, DocumentUpdated, KnowledgeBaseCreated,
        KnowledgeBaseRemoved, KnowledgeBaseUpdated, KnowledgeEvent,
    },
};
use crate::domain::{
    ids::{OrganizationId, PromotionId, WorkspaceId},
    sealed::Sealed,
};

/// Events of the stream `crew`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CrewEvent {
    /// A crew was made in a workspace.
    CrewCreated {
        crew: CrewPlace,
        workspace: WorkspaceId,
        organization: OrganizationId,
        profile: CrewProfile,
        description: Option<Sealed>,
    },
    /// What it is called, for whom, or what it is for, changed.
    CrewUpdated {
        from: CrewProfile,
        to: CrewProfile,
        /// The description before, where that changed and there was one.
        previous: Option<Sealed>,
        /// The description from now on; where there is none before or after, it stays as it is.
        description: Option<Sealed>,
    },
    /// It was archived: nothing in it changes any more.
    CrewArchived {},
    /// An agent was made.
    AgentCreated(ItemCreated),
    /// An agent is called otherwise, or says something else.
    AgentUpdated(ItemUpdated),
    /// An agent is there no more.
    AgentRemoved(ItemRemoved),
    /// A pathway was made.
    PathwayCreated(ItemCreated),
    /// A pathway is called otherwise, or says something else.
    PathwayUpdated(ItemUpdated),
    /// A pathway is there no more.
    PathwayRemoved(ItemRemoved),
    /// It was joined to a phone number, a channel, a webhook endpoint or an integration.
    ConnectionAdded(ConnectionAdded),
    /// It is joined to another one instead.
    ConnectionChanged(ConnectionChanged),
    /// It is joined to it no more.
    ConnectionRemoved(ConnectionRemoved),
    /// A knowledge base was made.
    KnowledgeBaseCreated(KnowledgeBaseCreated),
    /// A knowledge base is called otherwise.
    KnowledgeBaseUpdated(KnowledgeBaseUpdated),
    /// A knowledge base is there no more, with all that was in it.
    KnowledgeBaseRemoved(KnowledgeBaseRemoved),
    /// A document was put into a knowledge base.
    DocumentCreated(DocumentCreated),
    /// A document is called otherwise, or says something else.
    DocumentUpdated(DocumentUpdated),
    /// A document is there no more.
    DocumentRemoved(DocumentRemoved),
    /// A connection has a credential from now on, or another one.
    CredentialSet(CredentialSet),
    /// A connection has no credential any more.
    CredentialRemoved(CredentialRemoved),
    /// Its agents and pathways became those that a promotion brought.
    CrewPromoted(CrewPromoted),
    /// They became what they were before a promotion.
    CrewRolledBack(CrewPromoted),
}

/// Many agents and pathways changed at once, by a promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrewPromoted {
    pub promotion: PromotionId,
    /// In the order of the items' ids, each once.
    pub changes: Vec<ItemChange>,
}

impl CrewPromoted {
    /// What it says of one of the items.
    pub fn of(&self, item: ItemId) -> Option<ItemEvent> {
        let found = self
            .changes
            .binary_search_by_key(&item, |change| change.item);
        self.changes[found.ok()?].event()
    }
}

impl CrewEvent {
    /// What it says of many agents and pathways at once, where it does.
    pub fn promoted(&self) -> Option<&CrewPromoted> {
        match self {
            Self::CrewPromoted(event) | Self::CrewRolledBack(event) => Some(event),
            Self::CrewCreated { .. }
            | Self::CrewUpdated { .. }
            | Self::CrewArchived {}
            | Self::AgentCreated(_)
            | Self::AgentUpdated(_)
            | Self::AgentRemoved(_)
            | Self::PathwayCreated(_)
            | Self::PathwayUpdated(_)
            | Self::PathwayRemoved(_)
            | Self::ConnectionAdded(_)
            | Self::ConnectionChanged(_)
            | Self::ConnectionRemoved(_)
            | Self::KnowledgeBaseCreated(_)
            | Self::KnowledgeBaseUpdated(_)
            | Self::KnowledgeBaseRemoved(_)
            | Self::DocumentCreated(_)
            | Self::DocumentUpdated(_)
            | Self::DocumentRemoved(_)
            | Self::CredentialSet(_)
            | Self::CredentialRemoved(_) => None,
        }
    }

    /// The agents and pathways that it changes.
    pub fn items(&self) -> Vec<ItemId> {
        match self.promoted() {
            Some(event) => event.changes.iter().map(|change| change.item).collect(),
            None => self.of_item().iter().map(ItemEvent::item).collect(),
        }
    }

    /// What it says of one of them.
    pub fn of(&self, item: ItemId) -> Option<ItemEvent> {
        match self.promoted() {
            Some(event) => event.of(item),
            None => self.of_item().filter(|event| event.item() == item),
        }
    }

    /// What it says of an agent or a pathway, where it is about one.
    pub fn of_item(&self) -> Option<ItemEvent> {
        match self {
            Self::AgentCreated(event) | Self::PathwayCreated(event) => {
                Some(ItemEvent::Created(event.clone()))
            }
            Self::AgentUpdated(event) | Self::PathwayUpdated(event) => {
                Some(ItemEvent::Updated(event.clone()))
            }
            Self::AgentRemoved(event) | Self::PathwayRemoved(event) => {
                Some(ItemEvent::Removed(event.clone()))
            }
            Self::CrewCreated { .. }
            | Self::CrewUpdated { .. }
            | Self::CrewArchived {}
            | Self::ConnectionAdded(_)
            | Self::ConnectionChanged(_)
            | Self::ConnectionRemoved(_)
            | Self::KnowledgeBaseCreated(_)
            | Self::KnowledgeBaseUpdated(_)
            | Self::KnowledgeBaseRemoved(_)
            | Self::DocumentCreated(_)
            | Self::DocumentUpdated(_)
            | Self::DocumentRemoved(_)
            | Self::CredentialSet(_)
            | Self::CredentialRemoved(_)
            | Self::CrewPromoted(_)
            | Self::CrewRolledBack(_) => None,
        }
    }

    /// What it says of a connection, where it is about one.
    pub fn of_connection(&self) -> Option<ConnectionEvent> {
        match self {
            Self::ConnectionAdded(event) => Some(ConnectionEvent::Added(event.clone())),
            Self::ConnectionChanged(event) => Some(ConnectionEvent::Changed(event.clone())),
            Self::ConnectionRemoved(event) => Some(ConnectionEvent::Removed(event.clone())),
            Self::CredentialSet(event) => Some(ConnectionEvent::CredentialSet(event.clone())),
            Self::CredentialRemoved(event) => {
                Some(ConnectionEvent::CredentialRemoved(event.clone()))
            }
            Self::CrewCreated { .. }
            | Self::CrewUpdated { .. }
            | Self::CrewArchived {}
            | Self::AgentCreated(_)
            | Self::AgentUpdated(_)
            | Self::AgentRemoved(_)
            | Self::PathwayCreated(_)
            | Self::PathwayUpdated(_)
            | Self::PathwayRemoved(_)
            | Self::KnowledgeBaseCreated(_)
            | Self::KnowledgeBaseUpdated(_)
            | Self::KnowledgeBaseRemoved(_)
            | Self::DocumentCreated(_)
            | Self::DocumentUpdated(_)
            | Self::DocumentRemoved(_)
            | Self::CrewPromoted(_)
            | Self::CrewRolledBack(_) => None,
        }
    }

    /// What it says of what the crew knows, where it is about that.
    pub fn of_knowledge(&self) -> Option<KnowledgeEvent> {
        match self {
            Self::KnowledgeBaseCreated(event) => Some(KnowledgeEvent::BaseCreated(event.clone())),
            Self::KnowledgeBaseUpdated(event) => Some(KnowledgeEvent::BaseUpdated(event.clone())),
            Self::KnowledgeBaseRemoved(event) => Some(KnowledgeEvent::BaseRemoved(event.clone())),
            Self::DocumentCreated(event) => Some(KnowledgeEvent::DocumentCreated(event.clone())),
            Self::DocumentUpdated(event) => Some(KnowledgeEvent::DocumentUpdated(event.clone())),
            Self::DocumentRemoved(event) => Some(KnowledgeEvent::DocumentRemoved(event.clone())),
            Self::CrewCreated { .. }
            | Self::CrewUpdated { .. }
            | Self::CrewArchived {}
            | Self::AgentCreated(_)
            | Self::AgentUpdated(_)
            | Self::AgentRemoved(_)
            | Self::PathwayCreated(_)
            | Self::PathwayUpdated(_)
            | Self::PathwayRemoved(_)
            | Self::ConnectionAdded(_)
            | Self::ConnectionChanged(_)
            | Self::ConnectionRemoved(_)
            | Self::CredentialSet(_)
            | Self::CredentialRemoved(_)
            | Self::CrewPromoted(_)
            | Self::CrewRolledBack(_) => None,
        }
    }

    /// The contents that it names from now on.
    pub fn contents(&self) -> Vec<crate::domain::contents::Content> {
        if let Some(event) = self.promoted() {
            let to = event.changes.iter().filter_map(|change| change.to.as_ref());
            return to.map(|item| item.content).collect();
        }
        let item = self.of_item().and_then(|event| event.to().cloned());
        let document = self.of_knowledge().and_then(|event| event.content());
        let of_item = item.into_iter().map(|item| item.content);
        of_item.chain(document).collect()
    }
}

impl From<ConnectionEvent> for CrewEvent {
    fn from(event: ConnectionEvent) -> Self {
        match event {
            ConnectionEvent::Added(event) => Self::ConnectionAdded(event),
            ConnectionEvent::Changed(event) => Self::ConnectionChanged(event),
            ConnectionEvent::Removed(event) => Self::ConnectionRemoved(event),
            ConnectionEvent::CredentialSet(event) => Self::CredentialSet(event),
            ConnectionEvent::CredentialRemoved(event) => Self::CredentialRemoved(event),
        }
    }
}

impl From<KnowledgeEvent> for CrewEvent {
    fn from(event: KnowledgeEvent) -> Self {
        match event {
            KnowledgeEvent::BaseCreated(event) => Self::KnowledgeBaseCreated(event),
            KnowledgeEvent::BaseUpdated(event) => Self::KnowledgeBaseUpdated(event),
            KnowledgeEvent::BaseRemoved(event) => Self::KnowledgeBaseRemoved(event),
            KnowledgeEvent::DocumentCreated(event) => Self::DocumentCreated(event),
            KnowledgeEvent::DocumentUpdated(event) => Self::DocumentUpdated(event),
            KnowledgeEvent::DocumentRemoved(event) => Self::DocumentRemoved(event),
        }
    }
}

impl From<ItemEvent> for CrewEvent {
    fn from(event: ItemEvent) -> Self {
        match (event.item().kind(), event) {
            (ItemKind::Agent, ItemEvent::Created(event)) => Self::AgentCreated(event),
            (ItemKind::Agent, ItemEvent::Updated(event)) => Self::AgentUpdated(event),
            (ItemKind::Agent, ItemEvent::Removed(event)) => Self::AgentRemoved(event),
            (ItemKind::Pathway, ItemEvent::Created(event)) => Self::PathwayCreated(event),
            (ItemKind::Pathway, ItemEvent::Updated(event)) => Self::PathwayUpdated(event),
            (ItemKind::Pathway, ItemEvent::Removed(event)) => Self::PathwayRemoved(event),
        }
    }
}
