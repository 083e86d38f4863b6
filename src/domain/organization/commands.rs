//! What can be asked of an organization.

use crate::domain::{
    api_keys::KeyCommand,
    authority::{Actor, OrganizationRole},
    ids::{KeyId, OrganizationId, UserId, WorkspaceId},
    name::Name,
    sealed::Sealed,
    time::Timestamp,
};

/// Commands to the stream `organization`.
#[derive(Debug, Clone, PartialEq)]
pub enum OrganizationCommand {
    /// Make the organization; `created_by` becomes its owner.
    Create {
        organization: OrganizationId,
        name: Name,
        created_by: UserId,
    },
    /// Change its name. Nothing happens where that is its name already.
    Rename { actor: Actor, name: Name },
    /// Keep the organization's own copy of a person's profile, sealed under the person's
    /// key in this organization. Accepted once: nothing happens if the copy is of this or
    /// a later `profile_sequence`.
    RecordPerson {
        user: UserId,
        /// Sequence, in the person's own stream, of the profile event that this copies.
        profile_sequence: u64,
        email: Sealed,
        name: Sealed,
    },
    /// Something about one of its API keys.
    Key(KeyCommand),
    /// Give somebody a role, whether or not they have one. Nothing happens where they have
    /// this one already.
    SetMember {
        actor: UserId,
        user: UserId,
        role: OrganizationRole,
    },
    /// Note that a workspace is, or is no more, under a legal hold, as its owner has decided in
    /// the same unit. Nothing happens where that is known.
    NoteHold { workspace: WorkspaceId, held: bool },
    /// Note from when on what the organization knows of somebody is to be erased; they have
    /// erased their account in the same unit. Accepted once.
    ScheduleErasure { user: UserId, due_at: Timestamp },
    /// Note that it is erased. Due work; accepted once, and nothing happens where nothing is
    /// scheduled, or too early.
    ErasePerson { user: UserId },
    /// Have it change nothing any more, but for what [`crate::domain::suspension`] lists. Nothing
    /// happens where it is suspended already.
    Suspend { suspended_by: KeyId },
    /// Let it go on. Nothing happens where it is not suspended.
    Resume { resumed_by: KeyId },
    /// Take somebody's role away. Who removes themselves leaves.
    RemoveMember { actor: UserId, user: UserId },
}
