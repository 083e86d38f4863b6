//! Who is in a workspace, with which role, since when, and by which event.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        authority::Role,
        event::Event,
        ids::{OrganizationId, UserId, WorkspaceId},
        workspace::{MembershipSource, WorkspaceEvent},
    },
    journal::Recorded,
};

/// A membership.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberDocument {
    pub workspace: WorkspaceId,
    pub organization: Option<OrganizationId>,
    pub user: UserId,
    pub role: Role,
    /// When they joined.
    pub since: Timestamp,
    pub updated_at: Timestamp,
    pub invited_by: Option<UserId>,
    /// Sequence of the event that gave the role.
    pub version: u64,
    /// Position of the event that gave the role.
    pub granted_at: u64,
}

/// See the module.
pub struct Members;

impl Members {
    /// The key of a person's membership of a workspace.
    pub fn key(workspace: &WorkspaceId, user: &UserId) -> String {
        format!("{workspace}/{user}")
    }
}

impl Projection for Members {
    type Document = MemberDocument;
    const NAME: &'static str = "members";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        let Event::Workspace(happened) = &event.event else {
            return vec![];
        };
        match happened {
            WorkspaceEvent::MemberJoined { user, .. }
            | WorkspaceEvent::MemberRoleChanged { user, .. }
            | WorkspaceEvent::MemberRemoved { user, .. }
            | WorkspaceEvent::MemberLeft { user, .. } => {
                vec![format!("{}/{user}", event.aggregate_id)]
            }
            WorkspaceEvent::WorkspaceCreated { .. }
            | WorkspaceEvent::WorkspaceRenamed { .. }
            | WorkspaceEvent::PlanSelected { .. }
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
            | WorkspaceEvent::ApiKeyExpired(_) => vec![],
        }
    }

    fn fold(
        document: Option<MemberDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<MemberDocument>, CannotFold> {
        let Event::Workspace(happened) = &event.event else {
            return Ok(document);
        };
        match happened {
            WorkspaceEvent::MemberJoined { user, role, source } => {
                joined(key, event, *user, *role, *source).map(Some)
            }
            WorkspaceEvent::MemberRoleChanged { to, .. } => {
                let mut member = present(document, key)?;
                member.role = *to;
                member.updated_at = event.recorded_at;
                member.version = event.sequence;
                member.granted_at = event.position;
                Ok(Some(member))
            }
            WorkspaceEvent::MemberRemoved { .. } | WorkspaceEvent::MemberLeft { .. } => {
                present(document, key).map(|_| None)
            }
            WorkspaceEvent::WorkspaceCreated { .. }
            | WorkspaceEvent::WorkspaceRenamed { .. }
            | WorkspaceEvent::PlanSelected { .. }
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
            | WorkspaceEvent::ApiKeyExpired(_) => Ok(document),
        }
    }

    fn columns(document: &MemberDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            parent: Some(document.workspace.to_string()),
            lookup: Some(document.user.to_string()),
            deadline: None,
        }
    }
}

fn joined(
    key: &str,
    event: &Recorded,
    user: UserId,
    role: Role,
    source: MembershipSource,
) -> Result<MemberDocument, CannotFold> {
    let workspace = event.aggregate_id.parse();
    Ok(MemberDocument {
        workspace: workspace.map_err(|_| CannotFold(format!("{key} has no workspace")))?,
        organization: event.metadata.organization,
        user,
        role,
        since: event.recorded_at,
        updated_at: event.recorded_at,
        invited_by: match source {
            MembershipSource::Creation => None,
            MembershipSource::Invitation { invited_by, .. } => Some(invited_by),
        },
        version: event.sequence,
        granted_at: event.position,
    })
}
