//! What can be said to have happened to an organization.

use serde::{Deserialize, Serialize};

use crate::domain::{
    api_keys::{KeyCreated, KeyEvent, KeyExpired, KeyRevoked, KeyRotated, KeyUpdated},
    authority::OrganizationRole,
    ids::{KeyId, OrganizationId, UserId, WorkspaceId},
    sealed::Sealed,
    time::Timestamp,
};

/// Events of the stream `organization`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OrganizationEvent {
    /// An organization was made.
    OrganizationCreated {
        organization: OrganizationId,
        name: String,
        created_by: UserId,
    },
    /// Its name changed.
    OrganizationRenamed { from: String, to: String },
    /// Somebody was given a role in the organization.
    OrganizationMemberAdded {
        user: UserId,
        role: OrganizationRole,
    },
    /// The organization's own copy of what a person is called, sealed under the person's
    /// key in this organization. Written when they come, and when they change it.
    PersonRecorded {
        user: UserId,
        /// Sequence, in the person's own stream, of the profile event that this copies.
        profile_sequence: u64,
        email: Sealed,
        name: Sealed,
    },
    /// An API key of the organization was made.
    OrganizationKeyCreated(KeyCreated),
    /// What a key may, or until when, was changed.
    OrganizationKeyUpdated(KeyUpdated),
    /// Another key took its place; `organization_key_created` follows in the same unit.
    OrganizationKeyRotated(KeyRotated),
    /// A key was taken back.
    OrganizationKeyRevoked(KeyRevoked),
    /// A key's time ran out.
    OrganizationKeyExpired(KeyExpired),
    /// Somebody's role in the organization changed.
    OrganizationMemberRoleChanged {
        user: UserId,
        from: OrganizationRole,
        to: OrganizationRole,
        changed_by: UserId,
    },
    /// A workspace of it came under a legal hold: nobody is erased here.
    WorkspaceHoldBegan { workspace: WorkspaceId },
    /// The workspace is under one no more.
    WorkspaceHoldEnded { workspace: WorkspaceId },
    /// Somebody erased their account; the organization keeps its copy for a while.
    PersonErasureScheduled {
        user: UserId,
        /// From when on the copy is erased, unless there is a legal hold then.
        due_at: Timestamp,
    },
    /// The key of somebody in the organization was destroyed.
    PersonErased { user: UserId },
    /// Somebody has a role in the organization no more.
    OrganizationMemberRemoved {
        user: UserId,
        role: OrganizationRole,
        /// Who took it away; the person themselves where they left.
        removed_by: UserId,
    },
    /// An operator of the installation suspended it; why, the entry says.
    OrganizationSuspended {
        /// The operator's key.
        suspended_by: KeyId,
        suspended_at: Timestamp,
    },
    /// An operator of the installation let it go on; why, the entry says.
    OrganizationResumed {
        /// The operator's key.
        resumed_by: KeyId,
        /// Since when it was suspended.
        suspended_at: Timestamp,
    },
}

impl OrganizationEvent {
    /// What it says of a key, where it is about one.
    pub fn of_key(&self) -> Option<KeyEvent> {
        match self {
            Self::OrganizationKeyCreated(event) => Some(KeyEvent::Created(event.clone())),
            Self::OrganizationKeyUpdated(event) => Some(KeyEvent::Updated(event.clone())),
            Self::OrganizationKeyRotated(event) => Some(KeyEvent::Rotated(event.clone())),
            Self::OrganizationKeyRevoked(event) => Some(KeyEvent::Revoked(event.clone())),
            Self::OrganizationKeyExpired(event) => Some(KeyEvent::Expired(event.clone())),
            Self::OrganizationCreated { .. }
            | Self::OrganizationRenamed { .. }
            | Self::OrganizationMemberAdded { .. }
            | Self::PersonRecorded { .. }
            | Self::OrganizationMemberRoleChanged { .. }
            | Self::WorkspaceHoldBegan { .. }
            | Self::WorkspaceHoldEnded { .. }
            | Self::PersonErasureScheduled { .. }
            | Self::PersonErased { .. }
            | Self::OrganizationSuspended { .. }
            | Self::OrganizationResumed { .. }
            | Self::OrganizationMemberRemoved { .. } => None,
        }
    }
}

impl From<KeyEvent> for OrganizationEvent {
    fn from(event: KeyEvent) -> Self {
        match event {
            KeyEvent::Created(event) => Self::OrganizationKeyCreated(event),
            KeyEvent::Updated(event) => Self::OrganizationKeyUpdated(event),
            KeyEvent::Rotated(event) => Self::OrganizationKeyRotated(event),
            KeyEvent::Revoked(event) => Self::OrganizationKeyRevoked(event),
            KeyEvent::Expired(event) => Self::OrganizationKeyExpired(event),
        }
    }
}
