//! The policy of each workspace: there from its making on, with a version of its own.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::WorkspaceId,
        workspace::{Policy, WorkspaceEvent},
    },
    journal::Recorded,
};

/// A policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyDocument {
    pub workspace: WorkspaceId,
    /// Sequence of the last event that changed the policy; that of the making, before any did.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub policy: Policy,
}

/// See the module.
pub struct Policies;

impl Projection for Policies {
    type Document = PolicyDocument;
    const NAME: &'static str = "policies";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::Workspace(
                WorkspaceEvent::WorkspaceCreated { .. }
                | WorkspaceEvent::PolicyChanged { .. }
                | WorkspaceEvent::WorkspaceDeleted { .. },
            ) => vec![event.aggregate_id.clone()],
            Event::Workspace(_)
            | Event::User(_)
            | Event::Organization(_)
            | Event::Crew(_)
            | Event::Promotion(_)
            | Event::Review(_)
            | Event::Attempts(_)
            | Event::Installation(_) => vec![],
        }
    }

    fn fold(
        document: Option<PolicyDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<PolicyDocument>, CannotFold> {
        match &event.event {
            Event::Workspace(WorkspaceEvent::WorkspaceCreated { workspace, .. }) => {
                Ok(Some(PolicyDocument {
                    workspace: *workspace,
                    version: event.sequence,
                    created_at: event.recorded_at,
                    updated_at: event.recorded_at,
                    policy: Policy::default(),
                }))
            }
            Event::Workspace(WorkspaceEvent::PolicyChanged { to, .. }) => {
                let mut document = present(document, key)?;
                document.policy = *to;
                document.version = event.sequence;
                document.updated_at = event.recorded_at;
                Ok(Some(document))
            }
            Event::Workspace(WorkspaceEvent::WorkspaceDeleted { .. }) => {
                present(document, key).map(|_| None)
            }
            Event::Workspace(_)
            | Event::User(_)
            | Event::Organization(_)
            | Event::Crew(_)
            | Event::Promotion(_)
            | Event::Review(_)
            | Event::Attempts(_)
            | Event::Installation(_) => Ok(document),
        }
    }

    fn columns(document: &PolicyDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            ..Columns::default()
        }
    }
}
