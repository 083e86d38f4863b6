//! Who is in a workspace, with which role, since when, and by which event.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        authority::Role,
        event::Event,
        ids::{OrganizationId, UserId, WorkspaceId},
        workspace::{Limit, Member, MembershipSource, WorkspaceEvent},
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
    /// Sequence of the event that gave the role, or changed when it ends.
    pub version: u64,
    /// Position of the event that gave the role.
    pub granted_at: u64,
    /// When it ends by itself, where it does. It counts from its moment on, whether or not
    /// the event that says so has been written: ask [`MemberDocument::at`].
    pub limit: Option<Limit>,
}

impl MemberDocument {
    /// The membership as it is at `now`; none where it has ended by then.
    pub fn at(&self, now: Timestamp) -> Option<Member> {
        let member = Member {
            role: self.role,
            granted_at: self.granted_at,
            limit: self.limit,
        };
        member.at(now)
    }

    /// The document as it is at `now`; none where the membership has ended by then.
    pub fn settled(mut self, now: Timestamp) -> Option<Self> {
        let member = self.at(now)?;
        self.role = member.role;
        self.granted_at = member.granted_at;
        self.limit = member.limit;
        Some(self)
    }

    /// Takes over what an event has made of the membership.
    fn become_of(&mut self, member: Member, event: &Recorded) {
        self.role = member.role;
        self.granted_at = member.granted_at;
        self.limit = member.limit;
        self.updated_at = event.recorded_at;
        self.version = event.sequence;
    }
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
    const VERSION: i64 = 2;

    fn keys(event: &Recorded) -> Vec<String> {
        let Event::Workspace(happened) = &event.event else {
            return vec![];
        };
        match happened {
            WorkspaceEvent::MemberJoined { user, .. }
            | WorkspaceEvent::MemberRoleChanged { user, .. }
            | WorkspaceEvent::MemberRemoved { user, .. }
            | WorkspaceEvent::MemberLeft { user, .. }
            | WorkspaceEvent::WorkspaceRecovered { user, .. }
            | WorkspaceEvent::MembershipLimited { user, .. }
            | WorkspaceEvent::MembershipLimitLifted { user, .. }
            | WorkspaceEvent::MembershipLimitReached { user, .. } => {
                vec![format!("{}/{user}", event.aggregate_id)]
            }
            WorkspaceEvent::WorkspaceDeleted { members, .. } => members
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
            | WorkspaceEvent::AuditorExpired { .. } => vec![],
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
                let invited_by = match source {
                    MembershipSource::Creation => None,
                    MembershipSource::Invitation { invited_by, .. } => Some(*invited_by),
                };
                joined(key, event, *user, *role, invited_by).map(Some)
            }
            WorkspaceEvent::MemberRoleChanged { to, .. } => {
                changed(document, key, event, *to).map(Some)
            }
            WorkspaceEvent::WorkspaceRecovered {
                user, from: None, ..
            } => joined(key, event, *user, Role::Owner, None).map(Some),
            WorkspaceEvent::WorkspaceRecovered { from: Some(_), .. } => {
                changed(document, key, event, Role::Owner).map(Some)
            }
            WorkspaceEvent::MembershipLimited {
                until, afterwards, ..
            } => {
                let limit = Limit {
                    until: *until,
                    afterwards: *afterwards,
                    decided_at: event.position,
                };
                limited(document, key, event, Some(limit)).map(Some)
            }
            WorkspaceEvent::MembershipLimitLifted { .. } => {
                limited(document, key, event, None).map(Some)
            }
            WorkspaceEvent::MembershipLimitReached { until, .. } => {
                let mut member = present(document, key)?;
                Ok(member.at(*until).map(|then| {
                    member.become_of(then, event);
                    member
                }))
            }
            WorkspaceEvent::MemberRemoved { .. }
            | WorkspaceEvent::MemberLeft { .. }
            | WorkspaceEvent::WorkspaceDeleted { .. } => present(document, key).map(|_| None),
            WorkspaceEvent::WorkspaceCreated { .. }
            | WorkspaceEvent::WorkspaceRenamed { .. }
            | WorkspaceEvent::PlanSelected { .. }
            | WorkspaceEvent::CrewListed { .. }
            | WorkspaceEvent::CrewUnlisted { .. }
            | WorkspaceEvent::LimitsChanged { .. }
            | WorkspaceEvent::UsageMonthClosed { .. }
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
            | WorkspaceEvent::AuditorExpired { .. } => Ok(document),
        }
    }

    fn columns(document: &MemberDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            parent: Some(document.workspace.to_string()),
            lookup: Some(document.user.to_string()),
            deadline: document.limit.map(|limit| limit.until.0),
        }
    }
}

/// Another role, for good.
fn changed(
    document: Option<MemberDocument>,
    key: &str,
    event: &Recorded,
    role: Role,
) -> Result<MemberDocument, CannotFold> {
    let mut member = present(document, key)?;
    let given = Member {
        role,
        granted_at: event.position,
        limit: None,
    };
    member.become_of(given, event);
    Ok(member)
}

fn limited(
    document: Option<MemberDocument>,
    key: &str,
    event: &Recorded,
    limit: Option<Limit>,
) -> Result<MemberDocument, CannotFold> {
    let mut member = present(document, key)?;
    let then = Member {
        role: member.role,
        granted_at: member.granted_at,
        limit,
    };
    member.become_of(then, event);
    Ok(member)
}

fn joined(
    key: &str,
    event: &Recorded,
    user: UserId,
    role: Role,
    invited_by: Option<UserId>,
) -> Result<MemberDocument, CannotFold> {
    let workspace = event.aggregate_id.parse();
    Ok(MemberDocument {
        workspace: workspace.map_err(|_| CannotFold(format!("{key} has no workspace")))?,
        organization: event.metadata.organization,
        user,
        role,
        since: event.recorded_at,
        updated_at: event.recorded_at,
        invited_by,
        version: event.sequence,
        granted_at: event.position,
        limit: None,
    })
}
