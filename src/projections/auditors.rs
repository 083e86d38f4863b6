//! Auditor grants that were neither revoked nor noted as expired: who may read a
//! workspace's audit log without being a member, until when, and by which event.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::{OrganizationId, UserId, WorkspaceId},
        standing::Standing,
        workspace::WorkspaceEvent,
    },
    journal::Recorded,
};

/// A grant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditorDocument {
    pub workspace: WorkspaceId,
    pub organization: Option<OrganizationId>,
    pub user: UserId,
    pub since: Timestamp,
    /// First moment at which it counts no more.
    pub expires_at: Timestamp,
    pub granted_by: UserId,
    /// Sequence of the event that granted it.
    pub version: u64,
    /// Position of the event that granted it.
    pub granted_at: u64,
}

impl AuditorDocument {
    /// Whether it counts at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }

    /// The rights that it gives at `now`, if it counts then.
    pub fn standing_at(&self, now: Timestamp) -> Option<Standing> {
        self.is_live(now).then_some(Standing::Auditor {
            position: self.granted_at,
            until: self.expires_at,
        })
    }
}

/// See the module.
pub struct Auditors;

impl Auditors {
    /// The key of a person's grant in a workspace.
    pub fn key(workspace: &WorkspaceId, user: &UserId) -> String {
        format!("{workspace}/{user}")
    }
}

impl Projection for Auditors {
    type Document = AuditorDocument;
    const NAME: &'static str = "auditors";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        let Event::Workspace(happened) = &event.event else {
            return vec![];
        };
        match happened {
            WorkspaceEvent::AuditorGranted { user, .. }
            | WorkspaceEvent::AuditorRevoked { user, .. }
            | WorkspaceEvent::AuditorExpired { user, .. } => {
                vec![format!("{}/{user}", event.aggregate_id)]
            }
            WorkspaceEvent::WorkspaceDeleted { auditors, .. } => auditors
                .iter()
                .map(|user| format!("{}/{user}", event.aggregate_id))
                .collect(),
            WorkspaceEvent::WorkspaceCreated { .. }
            | WorkspaceEvent::WorkspaceRenamed { .. }
            | WorkspaceEvent::PlanSelected { .. }
            | WorkspaceEvent::CrewListed { .. }
            | WorkspaceEvent::CrewUnlisted { .. }
            | WorkspaceEvent::LimitsChanged { .. }
            | WorkspaceEvent::UsageMonthClosed { .. }
            | WorkspaceEvent::WorkspaceRecovered { .. }
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
            | WorkspaceEvent::OwnershipTransferred { .. }
            | WorkspaceEvent::LegalHoldPlaced { .. }
            | WorkspaceEvent::LegalHoldLifted { .. }
            | WorkspaceEvent::PolicyChanged { .. }
            | WorkspaceEvent::MembershipLimited { .. }
            | WorkspaceEvent::MembershipLimitLifted { .. }
            | WorkspaceEvent::MembershipLimitReached { .. }
            | WorkspaceEvent::ApiKeyCreated(_)
            | WorkspaceEvent::ApiKeyUpdated(_)
            | WorkspaceEvent::ApiKeyRotated(_)
            | WorkspaceEvent::ApiKeyRevoked(_)
            | WorkspaceEvent::ApiKeyExpired(_) => vec![],
        }
    }

    fn fold(
        document: Option<AuditorDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<AuditorDocument>, CannotFold> {
        let Event::Workspace(WorkspaceEvent::AuditorGranted {
            user,
            expires_at,
            granted_by,
        }) = &event.event
        else {
            // Every other event with this key ends the grant.
            return present(document, key).map(|_| None);
        };
        let workspace = event.aggregate_id.parse();
        Ok(Some(AuditorDocument {
            workspace: workspace.map_err(|_| CannotFold(format!("{key} has no workspace")))?,
            organization: event.metadata.organization,
            user: *user,
            since: event.recorded_at,
            expires_at: *expires_at,
            granted_by: *granted_by,
            version: event.sequence,
            granted_at: event.position,
        }))
    }

    fn columns(document: &AuditorDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            parent: Some(document.workspace.to_string()),
            lookup: Some(document.user.to_string()),
            deadline: Some(document.expires_at.0),
        }
    }
}
