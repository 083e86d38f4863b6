//! A crew: one environment of a workspace, and what it holds.
//!
//! Its stream begins in the unit in which the workspace lists it, and ends when it is archived:
//! nothing in it changes after that. It decides what may happen inside of it; who may ask has
//! been put before it on the newest state of the workspace
//! ([`super::workspace::Workspace::authorise_in_crew`]), in the same unit.
//!
//! To add something that a crew holds: a file here with its events, commands and rules, their
//! variants in [`CrewEvent`] and [`CrewCommand`], its arm in `decide` and in `apply`, and its
//! rules in `tests.rs`.

mod commands;
mod connections;
mod events;
mod items;
mod knowledge;
mod profile;
mod slots;
#[cfg(test)]
mod tests;

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};

pub use commands::CrewCommand;
pub use connections::{
    ADDRESS_CHARACTERS_MAX, CONNECTIONS_MAX, Connection, ConnectionAdded, ConnectionChanged,
    ConnectionCommand, ConnectionEvent, ConnectionId, ConnectionKind, ConnectionRemoved,
    Connections, CredentialRemoved, CredentialSet, ENDPOINT_EVENTS_MAX, EVENT_NAME_CHARACTERS_MAX,
    GRACE_SECONDS_MAX, InvalidConnection, KIND_CHARACTERS_MAX, end_of_grace,
};
pub use events::{CrewEvent, CrewPromoted};
pub use items::{
    ITEMS_MAX, Item, ItemChange, ItemCommand, ItemCreated, ItemEvent, ItemId, ItemKind,
    ItemRemoved, ItemUpdated, Items,
};
pub use knowledge::{
    DOCUMENTS_MAX, DocumentCreated, DocumentRemoved, DocumentUpdated, KNOWLEDGE_BASE_BYTES_MAX,
    KNOWLEDGE_BASES_MAX, Knowledge, KnowledgeBase, KnowledgeBaseCreated, KnowledgeBaseRemoved,
    KnowledgeBaseUpdated, KnowledgeCommand, KnowledgeDocument, KnowledgeEvent,
};
pub use profile::{
    CrewProfile, DESCRIPTION_CHARACTERS_MAX, DescriptionChange, ProfileChange, naming_warning,
};

use super::{
    Moment, Refusal, Stream, Timestamp,
    contents::slots::Slot,
    environment::Environment,
    ids::{CrewId, OrganizationId, WorkspaceId},
    sealed::Sealed,
};

/// Which crew, and of which environment it is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrewPlace {
    pub id: CrewId,
    pub environment: Environment,
}

/// How a crew stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrewStatus {
    #[default]
    Active,
    /// Nothing in it changes any more.
    Archived,
}

impl CrewStatus {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Archived => "archived",
        }
    }
}

/// A crew, folded from its events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Crew {
    place: Option<CrewPlace>,
    workspace: Option<WorkspaceId>,
    organization: Option<OrganizationId>,
    profile: CrewProfile,
    status: CrewStatus,
    items: Items,
    connections: Connections,
    knowledge: Knowledge,
    /// How many events it has had: the sequence of the last.
    sequence: u64,
    /// The sequence of the last event that changed its profile or its description.
    profile_sequence: u64,
    /// The sequence of the last event that changed what promotes; 0 before any did.
    contents_version: u64,
}

/// What a command leads to.
type Decision = Result<Vec<CrewEvent>, Refusal>;

impl Crew {
    /// That it was made in `workspace`.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn lies_in(&self, workspace: WorkspaceId) -> Result<CrewPlace, Refusal> {
        let place = self.place.filter(|_| self.workspace == Some(workspace));
        place.ok_or(Refusal::NotFound {
            what: "crew",
            hidden: false,
        })
    }

    /// What it is called, and for whom.
    pub fn profile(&self) -> &CrewProfile {
        &self.profile
    }

    /// How it stands.
    pub fn status(&self) -> CrewStatus {
        self.status
    }

    /// Its agents and pathways.
    pub fn items(&self) -> &Items {
        &self.items
    }

    /// What joins it to the world.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The version of its contents: the sequence of the last event that changed an agent or a
    /// pathway; 0 before any did.
    pub fn contents_version(&self) -> u64 {
        self.contents_version
    }

    /// The events that `command` leads to; nothing has changed yet.
    fn decide(&self, command: CrewCommand, now: Timestamp) -> Decision {
        match command {
            CrewCommand::Create {
                crew,
                workspace,
                organization,
                profile,
                description,
            } => self.create(crew, workspace, organization, profile, description),
            CrewCommand::Update { change } => self.update(change),
            CrewCommand::Archive => {
                self.changeable()?;
                Ok(vec![CrewEvent::CrewArchived {}])
            }
            CrewCommand::Item(command) => {
                self.changeable()?;
                let events = self.items.decide(command)?;
                Ok(events.into_iter().map(CrewEvent::from).collect())
            }
            CrewCommand::Connection(command) => {
                self.changeable()?;
                let event = self.connections.decide(command, now)?;
                Ok(event.into_iter().map(CrewEvent::from).collect())
            }
            CrewCommand::Knowledge(command) => {
                self.changeable()?;
                let event = self.knowledge.decide(command)?;
                Ok(event.into_iter().map(CrewEvent::from).collect())
            }
            CrewCommand::Promote {
                promotion,
                expected,
                changes,
                needs,
            } => {
                let becomes = self.becomes(expected, &changes)?;
                let slots = self.missing(&needs, &becomes);
                if !slots.is_empty() {
                    return Err(Refusal::SlotsMissing { slots });
                }
                let event = CrewPromoted { promotion, changes };
                Ok(vec![CrewEvent::CrewPromoted(event)])
            }
            CrewCommand::RollBack {
                promotion,
                expected,
                changes,
            } => {
                self.becomes(expected, &changes)?;
                let event = CrewPromoted { promotion, changes };
                Ok(vec![CrewEvent::CrewRolledBack(event)])
            }
        }
    }

    fn create(
        &self,
        crew: CrewPlace,
        workspace: WorkspaceId,
        organization: OrganizationId,
        profile: CrewProfile,
        description: Option<Sealed>,
    ) -> Decision {
        if self.place.is_some() {
            return Err(Refusal::AlreadyExists { what: "crew" });
        }
        Ok(vec![CrewEvent::CrewCreated {
            crew,
            workspace,
            organization,
            profile,
            description,
        }])
    }

    /// That it was made in `workspace`, and is not archived.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::CrewArchived`].
    pub fn changeable_in(&self, workspace: WorkspaceId) -> Result<(), Refusal> {
        self.lies_in(workspace)?;
        self.changeable().map(drop)
    }

    /// What the crew would lack if its contents changed so, now that they are of this version.
    ///
    /// # Errors
    /// [`Refusal::CrewMoved`] where they are of another; the rules of every item.
    pub fn would_lack(
        &self,
        expected: u64,
        changes: &[ItemChange],
        needs: &[Slot],
    ) -> Result<Vec<Slot>, Refusal> {
        let becomes = self.becomes(expected, changes)?;
        Ok(self.missing(needs, &becomes))
    }

    /// What its contents become by `changes`, if they are still of the version that was looked at.
    fn becomes(&self, expected: u64, changes: &[ItemChange]) -> Result<Items, Refusal> {
        self.changeable()?;
        match self.contents_version == expected {
            true => self.items.changed(changes),
            false => Err(Refusal::CrewMoved),
        }
    }

    fn update(&self, change: ProfileChange) -> Decision {
        self.changeable()?;
        let (previous, description) = match change.description.clone() {
            Some(change) if change.profile_sequence != self.profile_sequence => {
                return Err(Refusal::ProfileMoved);
            }
            Some(change) => (change.previous, change.description),
            None => (None, None),
        };
        let from = self.profile.clone();
        let to = change.applied_to(from.clone());
        if from == to && previous.is_none() && description.is_none() {
            return Ok(vec![]);
        }
        Ok(vec![CrewEvent::CrewUpdated {
            from,
            to,
            previous,
            description,
        }])
    }

    /// That it is there, and not archived.
    fn changeable(&self) -> Result<CrewPlace, Refusal> {
        let place = self.place.ok_or(Refusal::NotFound {
            what: "crew",
            hidden: false,
        })?;
        match self.status {
            CrewStatus::Active => Ok(place),
            CrewStatus::Archived => Err(Refusal::CrewArchived),
        }
    }
}

impl Aggregate for Crew {
    const TYPE: &'static str = "crew";
    type Command = CrewCommand;
    type Event = CrewEvent;
    type Error = Refusal;
    type Services = Moment;

    async fn handle(
        &mut self,
        command: CrewCommand,
        moment: &Moment,
        sink: &EventSink<Self>,
    ) -> Result<(), Refusal> {
        // All is decided before the first write, and `write` applies.
        for event in self.decide(command, moment.now)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: CrewEvent) {
        self.sequence += 1;
        if let Some(event) = event.of_item() {
            self.contents_version = self.sequence;
            return self.items.apply(event);
        }
        if let Some(event) = event.of_connection() {
            return self.connections.apply(event);
        }
        if let Some(event) = event.of_knowledge() {
            return self.knowledge.apply(event);
        }
        match event {
            CrewEvent::CrewCreated {
                crew,
                workspace,
                organization,
                profile,
                description: _,
            } => {
                self.place = Some(crew);
                self.workspace = Some(workspace);
                self.organization = Some(organization);
                self.profile = profile;
                self.profile_sequence = self.sequence;
            }
            CrewEvent::CrewUpdated { to, .. } => {
                self.profile = to;
                self.profile_sequence = self.sequence;
            }
            CrewEvent::CrewArchived {} => self.status = CrewStatus::Archived,
            CrewEvent::CrewPromoted(event) | CrewEvent::CrewRolledBack(event) => {
                self.contents_version = self.sequence;
                self.items.apply_changes(event.changes);
            }
            CrewEvent::AgentCreated(_)
            | CrewEvent::AgentUpdated(_)
            | CrewEvent::AgentRemoved(_)
            | CrewEvent::PathwayCreated(_)
            | CrewEvent::PathwayUpdated(_)
            | CrewEvent::PathwayRemoved(_)
            | CrewEvent::ConnectionAdded(_)
            | CrewEvent::ConnectionChanged(_)
            | CrewEvent::ConnectionRemoved(_)
            | CrewEvent::KnowledgeBaseCreated(_)
            | CrewEvent::KnowledgeBaseUpdated(_)
            | CrewEvent::KnowledgeBaseRemoved(_)
            | CrewEvent::DocumentCreated(_)
            | CrewEvent::DocumentUpdated(_)
            | CrewEvent::DocumentRemoved(_)
            | CrewEvent::CredentialSet(_)
            | CrewEvent::CredentialRemoved(_) => {}
        }
    }
}

impl Stream for Crew {
    const STATE_VERSION: i64 = 5;

    fn positioned(&mut self, event: &CrewEvent, _position: u64) {
        match event {
            // Nothing in a crew gives anybody a right.
            CrewEvent::CrewCreated { .. }
            | CrewEvent::CrewUpdated { .. }
            | CrewEvent::CrewArchived {}
            | CrewEvent::AgentCreated(_)
            | CrewEvent::AgentUpdated(_)
            | CrewEvent::AgentRemoved(_)
            | CrewEvent::PathwayCreated(_)
            | CrewEvent::PathwayUpdated(_)
            | CrewEvent::PathwayRemoved(_)
            | CrewEvent::ConnectionAdded(_)
            | CrewEvent::ConnectionChanged(_)
            | CrewEvent::ConnectionRemoved(_)
            | CrewEvent::KnowledgeBaseCreated(_)
            | CrewEvent::KnowledgeBaseUpdated(_)
            | CrewEvent::KnowledgeBaseRemoved(_)
            | CrewEvent::DocumentCreated(_)
            | CrewEvent::DocumentUpdated(_)
            | CrewEvent::DocumentRemoved(_)
            | CrewEvent::CredentialSet(_)
            | CrewEvent::CredentialRemoved(_)
            | CrewEvent::CrewPromoted(_)
            | CrewEvent::CrewRolledBack(_) => {}
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }

    fn environment(&self) -> Option<Environment> {
        self.place.map(|place| place.environment)
    }

    fn weight_bytes(&self) -> usize {
        size_of::<Self>()
            + self.profile.weight_bytes()
            + self.items.weight_bytes()
            + self.connections.weight_bytes()
            + self.knowledge.weight_bytes()
    }
}

impl DomainEvent for CrewEvent {
    fn event_type(&self) -> String {
        match self {
            Self::CrewCreated { .. } => "crew_created",
            Self::CrewUpdated { .. } => "crew_updated",
            Self::CrewArchived {} => "crew_archived",
            Self::AgentCreated(_) => "agent_created",
            Self::AgentUpdated(_) => "agent_updated",
            Self::AgentRemoved(_) => "agent_removed",
            Self::PathwayCreated(_) => "pathway_created",
            Self::PathwayUpdated(_) => "pathway_updated",
            Self::PathwayRemoved(_) => "pathway_removed",
            Self::ConnectionAdded(_) => "connection_added",
            Self::ConnectionChanged(_) => "connection_changed",
            Self::ConnectionRemoved(_) => "connection_removed",
            Self::KnowledgeBaseCreated(_) => "knowledge_base_created",
            Self::KnowledgeBaseUpdated(_) => "knowledge_base_updated",
            Self::KnowledgeBaseRemoved(_) => "knowledge_base_removed",
            Self::DocumentCreated(_) => "document_created",
            Self::DocumentUpdated(_) => "document_updated",
            Self::DocumentRemoved(_) => "document_removed",
            Self::CredentialSet(_) => "credential_set",
            Self::CredentialRemoved(_) => "credential_removed",
            Self::CrewPromoted(_) => "crew_promoted",
            Self::CrewRolledBack(_) => "crew_rolled_back",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
