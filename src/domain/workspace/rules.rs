//! The decisions of a workspace: which events a command leads to, or why it is refused.
//!
//! Nothing here changes state; every function reads the newest one and answers. Authority
//! is asked first, so that whoever may not act learns nothing else.

use subtle::ConstantTimeEq;

use super::{
    Invitation, Member, MembershipSource, PENDING_INVITATIONS_MAX, Workspace, WorkspaceCommand,
    WorkspaceEvent,
};
use crate::domain::{
    Name, Refusal, Timestamp,
    api_keys::KeyCommand,
    authority::{Permission, Role},
    ids::{InvitationId, OrganizationId, UserId, WorkspaceId},
    plans::PlanName,
};

type Decision = Result<Vec<WorkspaceEvent>, Refusal>;

/// A token as it is known here: by its hash, and when it stops.
struct NewToken {
    hash: String,
    expires_at: Timestamp,
}

impl Workspace {
    /// The events that `command` leads to at `now`; nothing has changed yet.
    pub(super) fn decide(&self, command: WorkspaceCommand, now: Timestamp) -> Decision {
        use WorkspaceCommand as C;
        match command {
            C::Create {
                workspace,
                organization,
                name,
                created_by,
                plan,
            } => self.create(workspace, organization, name, created_by, plan),
            C::Rename { actor, name } => self.rename(actor, name),
            C::SelectPlan { actor, plan } => self.select_plan(actor, plan),
            C::ChangeRole { actor, user, role } => self.change_role(actor, user, role),
            C::Remove { actor, user } if actor == user => self.leave(user),
            C::Remove { actor, user } => self.remove(actor, user),
            C::Leave { user } => self.leave(user),
            C::Invite {
                actor,
                invitation,
                email,
                role,
                token_hash: hash,
                expires_at,
                invitee,
            } => {
                self.may_invite(actor, invitation, role, invitee, now)?;
                Ok(vec![WorkspaceEvent::MemberInvited {
                    invitation,
                    email,
                    role,
                    invited_by: actor,
                    token_hash: hash,
                    expires_at,
                }])
            }
            C::ResendInvitation {
                actor,
                invitation,
                token_hash: hash,
                expires_at,
            } => self.resend(actor, invitation, NewToken { hash, expires_at }, now),
            C::RevokeInvitation { actor, invitation } => self.revoke(actor, invitation, now),
            C::AcceptInvitation {
                invitation,
                token_hash,
                user,
            } => self.accept(invitation, &token_hash, user, now),
            C::DeclineInvitation {
                invitation,
                token_hash,
            } => self.decline(invitation, &token_hash, now),
            C::ExpireInvitation { invitation } => self.expire(invitation, now),
            C::ApiKey(command) => self.decide_key(command, now),
        }
    }

    fn create(
        &self,
        workspace: WorkspaceId,
        organization: OrganizationId,
        name: Name,
        created_by: UserId,
        plan: PlanName,
    ) -> Decision {
        if self.exists() {
            return Err(Refusal::AlreadyExists { what: "workspace" });
        }
        Ok(vec![
            WorkspaceEvent::WorkspaceCreated {
                workspace,
                organization,
                name: name.into(),
                created_by,
            },
            WorkspaceEvent::MemberJoined {
                user: created_by,
                role: Role::Owner,
                source: MembershipSource::Creation,
            },
            WorkspaceEvent::PlanSelected {
                from: None,
                to: plan,
            },
        ])
    }

    fn rename(&self, actor: UserId, name: Name) -> Decision {
        self.permitted(actor, Permission::RenameWorkspace)?;
        if name.as_str() == self.name {
            return Ok(Vec::new());
        }
        Ok(vec![WorkspaceEvent::WorkspaceRenamed {
            from: self.name.clone(),
            to: name.into(),
        }])
    }

    fn select_plan(&self, actor: UserId, plan: PlanName) -> Decision {
        self.permitted(actor, Permission::SelectPlan)?;
        if self.plan.as_ref() == Some(&plan) {
            return Ok(vec![]);
        }
        Ok(vec![WorkspaceEvent::PlanSelected {
            from: self.plan.clone(),
            to: plan,
        }])
    }

    fn change_role(&self, actor: UserId, user: UserId, to: Role) -> Decision {
        let own = self.permitted(actor, Permission::ChangeRoles)?.role;
        let from = self.member(user)?.role;
        not_above(from, own)?;
        not_above(to, own)?;
        if from == to {
            return Ok(Vec::new());
        }
        self.keeps_an_owner_without(from)?;
        Ok(vec![WorkspaceEvent::MemberRoleChanged {
            user,
            from,
            to,
            changed_by: actor,
        }])
    }

    fn remove(&self, actor: UserId, user: UserId) -> Decision {
        let own = self.permitted(actor, Permission::RemoveMembers)?.role;
        let role = self.member(user)?.role;
        not_above(role, own)?;
        self.keeps_an_owner_without(role)?;
        Ok(vec![WorkspaceEvent::MemberRemoved {
            user,
            role,
            removed_by: actor,
        }])
    }

    fn leave(&self, user: UserId) -> Decision {
        let role = self.permitted(user, Permission::LeaveWorkspace)?.role;
        self.keeps_an_owner_without(role)?;
        Ok(vec![WorkspaceEvent::MemberLeft { user, role }])
    }

    fn may_invite(
        &self,
        actor: UserId,
        invitation: InvitationId,
        role: Role,
        invitee: Option<UserId>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let own = self.permitted(actor, Permission::InviteMembers)?.role;
        not_above(role, own)?;
        if self.pending.contains_key(&invitation) || self.ended_as(invitation).is_some() {
            return Err(Refusal::AlreadyExists { what: "invitation" });
        }
        if invitee.is_some_and(|user| self.members.contains_key(&user)) {
            return Err(Refusal::AlreadyMember);
        }
        self.has_room_for_an_invitation(now)
    }

    fn resend(
        &self,
        actor: UserId,
        invitation: InvitationId,
        token: NewToken,
        now: Timestamp,
    ) -> Decision {
        let own = self.permitted(actor, Permission::InviteMembers)?.role;
        let pending = self.invitation(invitation)?;
        not_above(pending.role, own)?;
        if !pending.is_live(now) {
            // It was not counted any more, and a new deadline makes it count again.
            self.has_room_for_an_invitation(now)?;
        }
        Ok(vec![WorkspaceEvent::InvitationResent {
            invitation,
            resent_by: actor,
            token_hash: token.hash,
            expires_at: token.expires_at,
        }])
    }

    fn revoke(&self, actor: UserId, invitation: InvitationId, now: Timestamp) -> Decision {
        let own = self.permitted(actor, Permission::InviteMembers)?.role;
        let pending = self.live_invitation(invitation, now)?;
        not_above(pending.role, own)?;
        Ok(vec![WorkspaceEvent::InvitationRevoked {
            invitation,
            revoked_by: actor,
        }])
    }

    fn accept(
        &self,
        invitation: InvitationId,
        token_hash: &str,
        user: UserId,
        now: Timestamp,
    ) -> Decision {
        self.existing()?;
        let pending = self.live_invitation(invitation, now)?;
        token_matches(pending, token_hash)?;
        if self.members.contains_key(&user) {
            return Err(Refusal::AlreadyMember);
        }
        self.inviter_still_may(pending)?;
        let source = MembershipSource::Invitation {
            invitation,
            invited_by: pending.invited_by,
        };
        let role = pending.role;
        Ok(vec![
            WorkspaceEvent::InvitationAccepted { invitation, user },
            WorkspaceEvent::MemberJoined { user, role, source },
        ])
    }

    fn decline(&self, invitation: InvitationId, token_hash: &str, now: Timestamp) -> Decision {
        self.existing()?;
        token_matches(self.live_invitation(invitation, now)?, token_hash)?;
        Ok(vec![WorkspaceEvent::InvitationDeclined { invitation }])
    }

    fn expire(&self, invitation: InvitationId, now: Timestamp) -> Decision {
        self.existing()?;
        let pending = self.invitation(invitation)?;
        let expires_at = pending.expires_at;
        if pending.is_live(now) {
            return Err(Refusal::InvitationStillPending { expires_at });
        }
        Ok(vec![WorkspaceEvent::InvitationExpired {
            invitation,
            expires_at,
        }])
    }

    fn decide_key(&self, command: KeyCommand, now: Timestamp) -> Decision {
        self.existing()?;
        if let Some(user) = command.asked_by() {
            self.permitted(user, Permission::ManageKeys)?;
        }
        let events = self.keys.decide(command, now)?;
        Ok(events.into_iter().map(WorkspaceEvent::from).collect())
    }

    fn existing(&self) -> Result<WorkspaceId, Refusal> {
        self.id.ok_or(Refusal::NotFound {
            what: "workspace",
            hidden: false,
        })
    }

    /// The membership of `user`, if it allows what `permission` names.
    pub(super) fn permitted(
        &self,
        user: UserId,
        permission: Permission,
    ) -> Result<Member, Refusal> {
        self.existing()?;
        let member = *self.members.get(&user).ok_or(Refusal::NotFound {
            what: "workspace",
            hidden: true,
        })?;
        if !permission.allows(member.role) {
            let role = member.role;
            return Err(Refusal::NotPermitted { permission, role });
        }
        Ok(member)
    }

    /// Somebody whom a member, who sees who is in here, aims at.
    fn member(&self, user: UserId) -> Result<Member, Refusal> {
        self.members.get(&user).copied().ok_or(Refusal::NotFound {
            what: "member",
            hidden: false,
        })
    }

    /// Whether an owner is left when somebody with `role` loses it.
    fn keeps_an_owner_without(&self, role: Role) -> Result<(), Refusal> {
        let owners = self.members.values().filter(|m| m.role == Role::Owner);
        if role == Role::Owner && owners.count() == 1 {
            return Err(Refusal::LastOwner);
        }
        Ok(())
    }

    /// The invitation, if it can still be answered at `now`. Once its deadline has passed
    /// it counts as expired, whether or not the event that says so is written yet.
    fn live_invitation(
        &self,
        invitation: InvitationId,
        now: Timestamp,
    ) -> Result<&Invitation, Refusal> {
        let pending = self.invitation(invitation)?;
        if !pending.is_live(now) {
            return Err(Refusal::InvitationNotPending {
                status: super::InvitationStatus::Expired.name(),
            });
        }
        Ok(pending)
    }

    fn has_room_for_an_invitation(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.live_invitations(now) >= PENDING_INVITATIONS_MAX {
            return Err(Refusal::TooManyInvitations {
                limit: PENDING_INVITATIONS_MAX,
            });
        }
        Ok(())
    }

    /// An invitation gives no more than its inviter may still give now.
    fn inviter_still_may(&self, invitation: &Invitation) -> Result<(), Refusal> {
        let role = invitation.role;
        let inviter = self.permitted(invitation.invited_by, Permission::InviteMembers);
        match inviter {
            Ok(inviter) if inviter.role >= role => Ok(()),
            Ok(_) | Err(_) => Err(Refusal::InvitationExceedsInviter { role }),
        }
    }
}

/// Nobody gives, takes or touches a role above their own; so an admin never makes or
/// unmakes an owner.
fn not_above(role: Role, own: Role) -> Result<(), Refusal> {
    if role > own {
        return Err(Refusal::RoleAboveOwn { role, own });
    }
    Ok(())
}

/// In constant time, so that how long a refusal takes tells nothing of the hash.
fn token_matches(invitation: &Invitation, token_hash: &str) -> Result<(), Refusal> {
    let current = invitation.token_hash.as_bytes();
    if bool::from(current.ct_eq(token_hash.as_bytes())) {
        Ok(())
    } else {
        Err(Refusal::InvitationTokenReplaced)
    }
}
