//! Crews as they are now, archived ones included; those of a workspace that was deleted are there
//! no more.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, SealedAt, present};
use crate::{
    domain::{
        Timestamp,
        crew::{CrewEvent, CrewPlace, CrewProfile, CrewStatus},
        event::Event,
        ids::{CrewId, OrganizationId, WorkspaceId},
        sealed::Sealed,
        workspace::WorkspaceEvent,
    },
    journal::Recorded,
};

/// A crew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrewDocument {
    pub place: CrewPlace,
    /// Sequence of the last event that changed the crew itself: what is in it does not.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub organization: OrganizationId,
    pub workspace: WorkspaceId,
    pub profile: CrewProfile,
    pub description: Option<SealedAt>,
    pub status: CrewStatus,
}

impl CrewDocument {
    /// Which crew.
    pub fn id(&self) -> CrewId {
        self.place.id
    }
}

/// See the module.
pub struct Crews;

impl Crews {
    /// The events of a crew's stream that it is folded of.
    pub const EVENT_TYPES: [&str; 3] = ["crew_created", "crew_updated", "crew_archived"];

    /// What the crews of one client of a workspace are found by.
    pub fn of_client(workspace: &WorkspaceId, client: &str) -> String {
        format!("{workspace}/{client}")
    }
}

impl Projection for Crews {
    type Document = CrewDocument;
    const NAME: &'static str = "crews";
    const VERSION: i64 = 3;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::Crew(
                CrewEvent::CrewCreated { .. }
                | CrewEvent::CrewUpdated { .. }
                | CrewEvent::CrewArchived {},
            ) => vec![event.aggregate_id.clone()],
            Event::Workspace(WorkspaceEvent::WorkspaceDeleted { crews, .. }) => {
                crews.iter().map(ToString::to_string).collect()
            }
            Event::Crew(
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
                | CrewEvent::CredentialRemoved(_)
                | CrewEvent::CrewPromoted(_)
                | CrewEvent::CrewRolledBack(_),
            ) => vec![],
            Event::Workspace(_)
            | Event::User(_)
            | Event::Organization(_)
            | Event::Promotion(_)
            | Event::Review(_)
            | Event::Attempts(_)
            | Event::Installation(_) => {
                vec![]
            }
        }
    }

    fn fold(
        document: Option<CrewDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<CrewDocument>, CannotFold> {
        let Event::Crew(happened) = &event.event else {
            // Every other event with this key ends the workspace.
            return present(document, key).map(|_| None);
        };
        let described = |sealed: Option<&Sealed>| {
            sealed.map(|sealed| SealedAt::of(event, "description", sealed))
        };
        let mut document = match happened {
            CrewEvent::CrewCreated {
                crew,
                workspace,
                organization,
                profile,
                description,
            } => CrewDocument {
                place: *crew,
                version: event.sequence,
                created_at: event.recorded_at,
                updated_at: event.recorded_at,
                organization: *organization,
                workspace: *workspace,
                profile: profile.clone(),
                description: described(description.as_ref()),
                status: CrewStatus::Active,
            },
            CrewEvent::CrewUpdated {
                from: _,
                to,
                previous,
                description,
            } => {
                let document = present(document, key)?;
                let stays = previous.is_none() && description.is_none();
                CrewDocument {
                    profile: to.clone(),
                    description: match stays {
                        true => document.description.clone(),
                        false => described(description.as_ref()),
                    },
                    ..document
                }
            }
            CrewEvent::CrewArchived {} => CrewDocument {
                status: CrewStatus::Archived,
                ..present(document, key)?
            },
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
            | CrewEvent::CredentialRemoved(_)
            | CrewEvent::CrewPromoted(_)
            | CrewEvent::CrewRolledBack(_) => return Ok(document),
        };
        document.version = event.sequence;
        document.updated_at = event.recorded_at;
        Ok(Some(document))
    }

    fn columns(document: &CrewDocument) -> Columns {
        let client = document.profile.client.as_ref();
        let workspace = document.workspace.to_string();
        Columns {
            parent: Some(workspace.clone()),
            lookup: client.map(|client| Self::of_client(&document.workspace, client)),
            workspace: Some(workspace),
            ..Columns::default()
        }
    }
}
