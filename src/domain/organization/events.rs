//! What can be said to have happened to an organization.

use serde::{Deserialize, Serialize};

use crate::domain::{
    authority::OrganizationRole,
    ids::{OrganizationId, UserId},
    sealed::Sealed,
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
    /// Somebody's role in the organization changed.
    OrganizationMemberRoleChanged {
        user: UserId,
        from: OrganizationRole,
        to: OrganizationRole,
        changed_by: UserId,
    },
    /// Somebody has a role in the organization no more.
    OrganizationMemberRemoved {
        user: UserId,
        role: OrganizationRole,
        /// Who took it away; the person themselves where they left.
        removed_by: UserId,
    },
}
