//! What can be asked of a workspace.

use crate::domain::{
    api_keys::KeyCommand,
    authority::Role,
    ids::{InvitationId, OrganizationId, UserId, WorkspaceId},
    name::Name,
    plans::PlanName,
    sealed::Sealed,
    time::Timestamp,
};

/// Commands to the stream `workspace`. `actor` is the person who asks; what they may is
/// decided on the newest state, when the command is.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkspaceCommand {
    /// Make the workspace on a plan; `created_by` becomes its owner. That they may make
    /// workspaces in this organization is the organization's to decide, in the same unit.
    Create {
        workspace: WorkspaceId,
        organization: OrganizationId,
        name: Name,
        created_by: UserId,
        plan: PlanName,
    },
    /// Change its name. Nothing happens where that is its name already.
    Rename { actor: UserId, name: Name },
    /// Change its plan. Nothing happens where that is its plan already.
    SelectPlan { actor: UserId, plan: PlanName },
    /// Give a member another role. Nothing happens where that is their role already.
    ChangeRole {
        actor: UserId,
        user: UserId,
        role: Role,
    },
    /// Take a member out. Who removes themselves leaves.
    Remove { actor: UserId, user: UserId },
    /// Leave, whatever the role.
    Leave { user: UserId },
    /// Invite somebody by e-mail.
    Invite {
        actor: UserId,
        invitation: InvitationId,
        /// Sealed under the invited person's key in this organization.
        email: Sealed,
        role: Role,
        /// Standard base64 of SHA-256(token).
        token_hash: String,
        /// First moment at which it can no longer be accepted.
        expires_at: Timestamp,
        /// The account behind the address, where the service knows of one.
        invitee: Option<UserId>,
    },
    /// Replace the token of a pending invitation, and give it a new deadline.
    ResendInvitation {
        actor: UserId,
        invitation: InvitationId,
        /// Standard base64 of SHA-256(token).
        token_hash: String,
        /// First moment at which it can no longer be accepted.
        expires_at: Timestamp,
    },
    /// Take a pending invitation back.
    RevokeInvitation {
        actor: UserId,
        invitation: InvitationId,
    },
    /// Come in. That the invited address is `user`'s own was checked by the service.
    AcceptInvitation {
        invitation: InvitationId,
        /// Standard base64 of SHA-256(token that was shown).
        token_hash: String,
        user: UserId,
    },
    /// Say no; whoever holds the token may.
    DeclineInvitation {
        invitation: InvitationId,
        /// Standard base64 of SHA-256(token that was shown).
        token_hash: String,
    },
    /// Note that its time ran out. Due work, sent by Crewlog itself; accepted once.
    ExpireInvitation { invitation: InvitationId },
    /// Something about one of its API keys.
    ApiKey(KeyCommand),
}
