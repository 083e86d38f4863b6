//! Invitations and what became of them. A pending one keeps its deadline, never a status
//! that time alone would change.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, SealedAt, present};
use crate::{
    domain::{
        Timestamp,
        authority::Role,
        event::Event,
        ids::{InvitationId, OrganizationId, UserId, WorkspaceId},
        workspace::WorkspaceEvent,
    },
    journal::Recorded,
};

/// What became of an invitation, as events say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvitationStatus {
    Pending,
    Accepted,
    Declined,
    Revoked,
    Expired,
}

impl InvitationStatus {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvitationDocument {
    pub id: InvitationId,
    /// Sequence of the last event that changed it.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub workspace: WorkspaceId,
    pub organization: Option<OrganizationId>,
    pub email: SealedAt,
    pub role: Role,
    pub invited_by: UserId,
    pub status: InvitationStatus,
    /// First moment at which it can no longer be accepted.
    pub expires_at: Timestamp,
    /// Standard base64 of the SHA-256 of the newest token.
    pub token_hash: String,
    /// Who came in by it.
    pub accepted_by: Option<UserId>,
}

impl InvitationDocument {
    /// The status at `now`: a pending one past its deadline is expired, whether or not the
    /// event that says so has been written.
    pub fn status_at(&self, now: Timestamp) -> InvitationStatus {
        match self.status {
            InvitationStatus::Pending if self.expires_at <= now => InvitationStatus::Expired,
            status => status,
        }
    }
}

/// See the module.
pub struct Invitations;

impl Projection for Invitations {
    type Document = InvitationDocument;
    const NAME: &'static str = "invitations";
    const VERSION: i64 = 2;

    fn keys(event: &Recorded) -> Vec<String> {
        let Event::Workspace(happened) = &event.event else {
            return vec![];
        };
        match happened {
            WorkspaceEvent::MemberInvited { invitation, .. }
            | WorkspaceEvent::InvitationResent { invitation, .. }
            | WorkspaceEvent::InvitationAccepted { invitation, .. }
            | WorkspaceEvent::InvitationDeclined { invitation }
            | WorkspaceEvent::InvitationRevoked { invitation, .. }
            | WorkspaceEvent::InvitationExpired { invitation, .. } => vec![invitation.to_string()],
            WorkspaceEvent::WorkspaceDeleted { invitations, .. } => {
                invitations.iter().map(ToString::to_string).collect()
            }
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
            | WorkspaceEvent::MembershipLimitReached { .. } => vec![],
        }
    }

    fn fold(
        document: Option<InvitationDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<InvitationDocument>, CannotFold> {
        let Event::Workspace(happened) = &event.event else {
            return Ok(document);
        };
        if let WorkspaceEvent::MemberInvited { .. } = happened {
            return invited(key, event, happened).map(Some);
        }
        let mut document = present(document, key)?;
        match happened {
            WorkspaceEvent::InvitationResent {
                token_hash,
                expires_at,
                ..
            } => {
                document.token_hash.clone_from(token_hash);
                document.expires_at = *expires_at;
            }
            WorkspaceEvent::InvitationAccepted { user, .. } => {
                document.status = InvitationStatus::Accepted;
                document.accepted_by = Some(*user);
            }
            WorkspaceEvent::InvitationDeclined { .. } => {
                document.status = InvitationStatus::Declined;
            }
            WorkspaceEvent::InvitationRevoked { .. } => {
                document.status = InvitationStatus::Revoked;
            }
            WorkspaceEvent::InvitationExpired { .. } => {
                document.status = InvitationStatus::Expired;
            }
            // Its token then finds nothing.
            WorkspaceEvent::WorkspaceDeleted { .. } => return Ok(None),
            WorkspaceEvent::MemberInvited { .. }
            | WorkspaceEvent::WorkspaceCreated { .. }
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
            | WorkspaceEvent::MembershipLimitReached { .. } => return Ok(Some(document)),
        }
        document.version = event.sequence;
        document.updated_at = event.recorded_at;
        Ok(Some(document))
    }

    fn columns(document: &InvitationDocument) -> Columns {
        let pending = document.status == InvitationStatus::Pending;
        Columns {
            workspace: Some(document.workspace.to_string()),
            parent: Some(document.workspace.to_string()),
            lookup: Some(document.token_hash.clone()),
            deadline: pending.then_some(document.expires_at.0),
        }
    }
}

fn invited(
    key: &str,
    event: &Recorded,
    happened: &WorkspaceEvent,
) -> Result<InvitationDocument, CannotFold> {
    let workspace = event.aggregate_id.parse();
    let WorkspaceEvent::MemberInvited {
        invitation,
        email,
        role,
        invited_by,
        token_hash,
        expires_at,
    } = happened
    else {
        return Err(CannotFold(format!(
            "{key} does not begin with an invitation"
        )));
    };
    Ok(InvitationDocument {
        id: *invitation,
        version: event.sequence,
        created_at: event.recorded_at,
        updated_at: event.recorded_at,
        workspace: workspace.map_err(|_| CannotFold(format!("{key} has no workspace")))?,
        organization: event.metadata.organization,
        email: SealedAt::of(event, "email", email),
        role: *role,
        invited_by: *invited_by,
        status: InvitationStatus::Pending,
        expires_at: *expires_at,
        token_hash: token_hash.clone(),
        accepted_by: None,
    })
}
