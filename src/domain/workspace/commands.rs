//! What can be asked of a workspace.

use std::collections::BTreeSet;

use crate::domain::{
    api_keys::KeyCommand,
    authority::{Actor, Role},
    crew::CrewPlace,
    ids::{InvitationId, KeyId, OrganizationId, UserId, WorkspaceId},
    name::Name,
    plans::{PlanName, Quotas},
    sealed::Sealed,
    time::Timestamp,
    usage::Statement,
};

use super::policy::Policy;

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
    /// Change its plan, unless it already has more than that allows. Nothing happens where that
    /// is its plan already.
    SelectPlan { actor: UserId, plan: PlanName },
    /// Give a member a role for good. Nothing happens where they have it already.
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
    /// Give a member a role until a moment. With another role than their lasting one, that
    /// one holds again from then on; with the same, the membership ends.
    ChangeRoleUntil {
        actor: UserId,
        user: UserId,
        role: Role,
        /// First moment at which it is held no more.
        until: Timestamp,
    },
    /// Note that a role or a membership has ended by itself. Due work; accepted once, and
    /// nothing happens where it is noted, or too early.
    ReachLimit { user: UserId },
    /// Make a member the owner, and the caller an admin.
    TransferOwnership { actor: UserId, to: UserId },
    /// End the workspace and every access to it.
    Delete {
        actor: UserId,
        /// Its name, as the caller wrote it.
        confirm: String,
    },
    /// Decide otherwise about how it is worked in. Nothing happens where that is the policy
    /// already.
    ChangePolicy { actor: UserId, policy: Policy },
    /// Forbid that anything of its people is destroyed. Nothing happens where it is forbidden.
    PlaceLegalHold { actor: UserId },
    /// Allow it again. Nothing happens where it is allowed.
    LiftLegalHold { actor: UserId },
    /// Give it to somebody, as nobody who owns it is to be found any more; asked by an operator of
    /// the installation.
    Recover {
        user: UserId,
        /// Whom the unit has found to be gone: every owner must be among them.
        gone: BTreeSet<UserId>,
        /// The operator's key.
        recovered_by: KeyId,
    },
    /// Set limits below the plan's. Nothing happens where those are the limits already.
    ChangeLimits { actor: UserId, limits: Quotas },
    /// Say what a month came to. Due work; accepted once, also of a workspace that was deleted,
    /// and nothing happens where it has been said.
    CloseMonth { statement: Statement },
    /// Let somebody who is no member read the audit log.
    GrantAuditor {
        actor: UserId,
        user: UserId,
        /// First moment at which they may no more.
        expires_at: Timestamp,
    },
    /// Take a grant back.
    RevokeAuditor { actor: UserId, user: UserId },
    /// Note that a grant has run out. Due work; accepted once, and nothing happens where it
    /// is noted, or too early.
    ExpireAuditor { user: UserId },
    /// Count a new crew among those of its environment. Its own stream begins in the same unit.
    ListCrew { actor: Actor, crew: CrewPlace },
    /// Count it no more, as it is archived in the same unit.
    UnlistCrew { actor: Actor, crew: CrewPlace },
}
