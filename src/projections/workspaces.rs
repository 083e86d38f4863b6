//! Workspaces as they are now; one that was deleted is there no more.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::{OrganizationId, UserId, WorkspaceId},
        plans::PlanName,
        workspace::WorkspaceEvent,
    },
    journal::Recorded,
};

/// A workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceDocument {
    pub id: WorkspaceId,
    /// Sequence of the last event that changed the workspace itself: a new member does not.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub organization: OrganizationId,
    pub name: String,
    /// None only between the two events of its making, which are one unit.
    pub plan: Option<PlanName>,
    pub created_by: UserId,
}

/// See the module.
pub struct Workspaces;

impl Projection for Workspaces {
    type Document = WorkspaceDocument;
    const NAME: &'static str = "workspaces";
    const VERSION: i64 = 2;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::Workspace(
                WorkspaceEvent::WorkspaceCreated { .. }
                | WorkspaceEvent::WorkspaceRenamed { .. }
                | WorkspaceEvent::PlanSelected { .. }
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
        document: Option<WorkspaceDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<WorkspaceDocument>, CannotFold> {
        let Event::Workspace(happened) = &event.event else {
            return Ok(document);
        };
        if let WorkspaceEvent::WorkspaceCreated {
            workspace,
            organization,
            name,
            created_by,
        } = happened
        {
            return Ok(Some(WorkspaceDocument {
                id: *workspace,
                version: event.sequence,
                created_at: event.recorded_at,
                updated_at: event.recorded_at,
                organization: *organization,
                name: name.clone(),
                plan: None,
                created_by: *created_by,
            }));
        }
        let mut document = present(document, key)?;
        match happened {
            WorkspaceEvent::WorkspaceRenamed { to, .. } => document.name.clone_from(to),
            WorkspaceEvent::PlanSelected { to, .. } => document.plan = Some(to.clone()),
            WorkspaceEvent::WorkspaceDeleted { .. } => return Ok(None),
            WorkspaceEvent::WorkspaceCreated { .. }
            | WorkspaceEvent::MemberJoined { .. }
            | WorkspaceEvent::MemberRoleChanged { .. }
            | WorkspaceEvent::MemberRemoved { .. }
            | WorkspaceEvent::MemberLeft { .. }
            | WorkspaceEvent::MemberInvited { .. }
            | WorkspaceEvent::InvitationResent { .. }
            | WorkspaceEvent::InvitationAccepted { .. }
            | WorkspaceEvent::InvitationDeclined { .. }
            | WorkspaceEvent::InvitationRevoked { .. }
            | WorkspaceEvent::InvitationExpired { .. }
            | WorkspaceEvent::ApiKeyCreated(_)
            | WorkspaceEvent::ApiKeyUpdated(_)
            | WorkspaceEvent::ApiKeyRotated(_)
            | WorkspaceEvent::ApiKeyRevoked(_)
            | WorkspaceEvent::ApiKeyExpired(_)
            | WorkspaceEvent::OwnershipTransferred { .. }
            | WorkspaceEvent::LegalHoldPlaced { .. }
            | WorkspaceEvent::LegalHoldLifted { .. }
            | WorkspaceEvent::PolicyChanged { .. }
            | WorkspaceEvent::AuditorGranted { .. }
            | WorkspaceEvent::AuditorRevoked { .. }
            | WorkspaceEvent::AuditorExpired { .. }
            | WorkspaceEvent::MembershipLimited { .. }
            | WorkspaceEvent::MembershipLimitLifted { .. }
            | WorkspaceEvent::MembershipLimitReached { .. }
            | WorkspaceEvent::CrewListed { .. }
            | WorkspaceEvent::CrewUnlisted { .. }
            | WorkspaceEvent::LimitsChanged { .. }
            | WorkspaceEvent::UsageMonthClosed { .. }
            | WorkspaceEvent::WorkspaceRecovered { .. } => return Ok(Some(document)),
        }
        document.version = event.sequence;
        document.updated_at = event.recorded_at;
        Ok(Some(document))
    }

    fn columns(document: &WorkspaceDocument) -> Columns {
        Columns {
            workspace: Some(document.id.to_string()),
            parent: Some(document.organization.to_string()),
            ..Columns::default()
        }
    }
}
