//! What can be said to have happened to a workspace.

use serde::{Deserialize, Serialize};

use crate::domain::{
    api_keys::{KeyCreated, KeyEvent, KeyExpired, KeyRevoked, KeyRotated, KeyUpdated},
    authority::Role,
    environment::Environment,
    ids::{CrewId, InvitationId, KeyId, OrganizationId, UserId, WorkspaceId},
    plans::{PlanName, Quotas},
    sealed::Sealed,
    time::Timestamp,
    usage::Statement,
};

use super::policy::Policy;

/// Events of the stream `workspace`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkspaceEvent {
    /// A workspace was made in an organization.
    WorkspaceCreated {
        workspace: WorkspaceId,
        organization: OrganizationId,
        name: String,
        created_by: UserId,
    },
    /// Its name changed.
    WorkspaceRenamed { from: String, to: String },
    /// Its plan was chosen, or changed.
    PlanSelected {
        from: Option<PlanName>,
        to: PlanName,
    },
    /// Somebody became a member.
    MemberJoined {
        user: UserId,
        role: Role,
        source: MembershipSource,
    },
    /// A member's role changed; a limit of the role before is gone with it.
    MemberRoleChanged {
        user: UserId,
        from: Role,
        to: Role,
        changed_by: UserId,
    },
    /// A member was taken out by somebody.
    MemberRemoved {
        user: UserId,
        role: Role,
        removed_by: UserId,
    },
    /// A member left.
    MemberLeft { user: UserId, role: Role },
    /// Somebody was invited. The token was shown once; this is its hash.
    MemberInvited {
        invitation: InvitationId,
        email: Sealed,
        role: Role,
        invited_by: UserId,
        /// Standard base64 of SHA-256(token).
        token_hash: String,
        /// First moment at which it can no longer be accepted.
        expires_at: Timestamp,
    },
    /// A new token replaced the old one, which no longer works.
    InvitationResent {
        invitation: InvitationId,
        resent_by: UserId,
        token_hash: String,
        expires_at: Timestamp,
    },
    /// The invited person came in; `member_joined` follows in the same unit.
    InvitationAccepted {
        invitation: InvitationId,
        user: UserId,
    },
    /// The invited person said no.
    InvitationDeclined { invitation: InvitationId },
    /// It was taken back.
    InvitationRevoked {
        invitation: InvitationId,
        revoked_by: UserId,
    },
    /// Its time ran out.
    InvitationExpired {
        invitation: InvitationId,
        expires_at: Timestamp,
    },
    /// An API key was made.
    ApiKeyCreated(KeyCreated),
    /// What a key may, or until when, was changed.
    ApiKeyUpdated(KeyUpdated),
    /// Another key took its place; `api_key_created` follows in the same unit.
    ApiKeyRotated(KeyRotated),
    /// A key was taken back.
    ApiKeyRevoked(KeyRevoked),
    /// A key's time ran out.
    ApiKeyExpired(KeyExpired),
    /// An owner handed the workspace over; the changed roles follow in the same unit.
    OwnershipTransferred { from: UserId, to: UserId },
    /// The workspace was deleted, and with it every access that is named here.
    WorkspaceDeleted {
        name: String,
        organization: OrganizationId,
        deleted_by: UserId,
        /// Everybody who was a member.
        members: Vec<UserId>,
        /// Every invitation that could still be accepted, or whose end no event has said.
        invitations: Vec<InvitationId>,
        /// Everybody who had an auditor grant.
        auditors: Vec<UserId>,
        /// Every API key that no event had ended.
        api_keys: Vec<KeyId>,
        /// Every crew that was not archived.
        #[serde(default)]
        crews: Vec<CrewId>,
    },
    /// Nothing of what is known of its people is destroyed from now on; why, the entry says.
    LegalHoldPlaced { placed_by: UserId },
    /// What is due to be erased may be.
    LegalHoldLifted { lifted_by: UserId },
    /// The owners decided otherwise about how it is worked in.
    PolicyChanged { from: Policy, to: Policy },
    /// A member's role, or their membership, ends by itself.
    MembershipLimited {
        user: UserId,
        role: Role,
        /// First moment at which the role is held no more.
        until: Timestamp,
        /// The role from then on; none where the membership ends.
        afterwards: Option<Role>,
        /// The moment that this replaces.
        previous: Option<Timestamp>,
        limited_by: UserId,
    },
    /// A role, or a membership, that would have ended by itself lasts.
    MembershipLimitLifted {
        user: UserId,
        role: Role,
        until: Timestamp,
        afterwards: Option<Role>,
        lifted_by: UserId,
    },
    /// The moment came: they have the role `afterwards`, or are a member no more.
    MembershipLimitReached {
        user: UserId,
        role: Role,
        until: Timestamp,
        afterwards: Option<Role>,
    },
    /// Somebody who is no member may read the audit log.
    AuditorGranted {
        user: UserId,
        /// First moment at which they may no more.
        expires_at: Timestamp,
        granted_by: UserId,
    },
    /// A grant was taken back before its time.
    AuditorRevoked {
        user: UserId,
        expires_at: Timestamp,
        /// Who took it back; the person themselves where they became a member.
        revoked_by: UserId,
    },
    /// A grant's time ran out.
    AuditorExpired { user: UserId, expires_at: Timestamp },
    /// A crew is counted among those of its environment; its stream begins in the same unit.
    CrewListed {
        crew: CrewId,
        environment: Environment,
    },
    /// A crew is counted no more: it was archived, in the same unit.
    CrewUnlisted {
        crew: CrewId,
        environment: Environment,
    },
    /// The owners set other limits below those of the plan.
    LimitsChanged { from: Quotas, to: Quotas },
    /// A month takes no more usage, and this is what it came to. It can be computed again from
    /// the records, which are kept.
    UsageMonthClosed { statement: Statement },
    /// An operator of the installation made somebody an owner, for good, as nobody who owned it was
    /// to be found any more; why, the entry says.
    WorkspaceRecovered {
        user: UserId,
        /// The role that they had before.
        from: Option<Role>,
        /// The owners, who stay what they are.
        gone: Vec<UserId>,
        /// The operator's key.
        recovered_by: KeyId,
    },
}

impl WorkspaceEvent {
    /// What it says of a key, where it is about one.
    pub fn of_key(&self) -> Option<KeyEvent> {
        match self {
            Self::ApiKeyCreated(event) => Some(KeyEvent::Created(event.clone())),
            Self::ApiKeyUpdated(event) => Some(KeyEvent::Updated(event.clone())),
            Self::ApiKeyRotated(event) => Some(KeyEvent::Rotated(event.clone())),
            Self::ApiKeyRevoked(event) => Some(KeyEvent::Revoked(event.clone())),
            Self::ApiKeyExpired(event) => Some(KeyEvent::Expired(event.clone())),
            Self::WorkspaceCreated { .. }
            | Self::WorkspaceRenamed { .. }
            | Self::PlanSelected { .. }
            | Self::MemberJoined { .. }
            | Self::MemberRoleChanged { .. }
            | Self::MemberRemoved { .. }
            | Self::MemberLeft { .. }
            | Self::MemberInvited { .. }
            | Self::InvitationResent { .. }
            | Self::InvitationAccepted { .. }
            | Self::InvitationDeclined { .. }
            | Self::InvitationRevoked { .. }
            | Self::InvitationExpired { .. }
            | Self::OwnershipTransferred { .. }
            | Self::WorkspaceDeleted { .. }
            | Self::PolicyChanged { .. }
            | Self::LegalHoldPlaced { .. }
            | Self::LegalHoldLifted { .. }
            | Self::MembershipLimited { .. }
            | Self::MembershipLimitLifted { .. }
            | Self::MembershipLimitReached { .. }
            | Self::AuditorGranted { .. }
            | Self::AuditorRevoked { .. }
            | Self::AuditorExpired { .. }
            | Self::CrewListed { .. }
            | Self::CrewUnlisted { .. }
            | Self::LimitsChanged { .. }
            | Self::UsageMonthClosed { .. }
            | Self::WorkspaceRecovered { .. } => None,
        }
    }
}

impl From<KeyEvent> for WorkspaceEvent {
    fn from(event: KeyEvent) -> Self {
        match event {
            KeyEvent::Created(event) => Self::ApiKeyCreated(event),
            KeyEvent::Updated(event) => Self::ApiKeyUpdated(event),
            KeyEvent::Rotated(event) => Self::ApiKeyRotated(event),
            KeyEvent::Revoked(event) => Self::ApiKeyRevoked(event),
            KeyEvent::Expired(event) => Self::ApiKeyExpired(event),
        }
    }
}

/// What made somebody a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MembershipSource {
    /// They made the workspace.
    Creation,
    /// They accepted an invitation.
    Invitation {
        invitation: InvitationId,
        invited_by: UserId,
    },
}
