//! What each workspace may have: its plan, and its own limits below that. Its version is that of
//! the last choice of either.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::WorkspaceId,
        plans::{PlanName, Quotas},
        workspace::WorkspaceEvent,
    },
    journal::Recorded,
};

/// The limits of a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsDocument {
    pub workspace: WorkspaceId,
    /// Sequence of the last event that changed the plan or the limits.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// None only between the two events of a workspace's making, which are one unit.
    pub plan: Option<PlanName>,
    /// What its owners allow at most.
    pub limits: Quotas,
}

/// See the module.
pub struct Limits;

impl Projection for Limits {
    type Document = LimitsDocument;
    const NAME: &'static str = "limits";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::Workspace(
                WorkspaceEvent::WorkspaceCreated { .. }
                | WorkspaceEvent::PlanSelected { .. }
                | WorkspaceEvent::LimitsChanged { .. }
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
        document: Option<LimitsDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<LimitsDocument>, CannotFold> {
        let Event::Workspace(happened) = &event.event else {
            return Ok(document);
        };
        if let WorkspaceEvent::WorkspaceCreated { workspace, .. } = happened {
            return Ok(Some(LimitsDocument {
                workspace: *workspace,
                version: event.sequence,
                created_at: event.recorded_at,
                updated_at: event.recorded_at,
                plan: None,
                limits: Quotas::UNLIMITED,
            }));
        }
        let mut document = present(document, key)?;
        if let WorkspaceEvent::PlanSelected { to, .. } = happened {
            document.plan = Some(to.clone());
        } else if let WorkspaceEvent::LimitsChanged { to, .. } = happened {
            document.limits = *to;
        } else if let WorkspaceEvent::WorkspaceDeleted { .. } = happened {
            return Ok(None);
        } else {
            return Ok(Some(document));
        }
        document.version = event.sequence;
        document.updated_at = event.recorded_at;
        Ok(Some(document))
    }

    fn columns(document: &LimitsDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            ..Columns::default()
        }
    }
}
