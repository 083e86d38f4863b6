//! The decisions of a workspace: which events a command leads to, or why it is refused.
//!
//! Nothing here changes state; every function reads the newest one and answers. Authority
//! is asked first, so that whoever may not act learns nothing else. Roles that end by
//! themselves are decided in `limits.rs`, auditor grants in `auditors.rs`, handing over and
//! deleting in `ownership.rs`, recovering in `recovery.rs`, the policy in `policy.rs`, legal holds in
//! `hold.rs`, what plans and limits allow in `quotas.rs`.

use subtle::ConstantTimeEq;

use super::{
    Invitation, Member, MembershipSource, PENDING_INVITATIONS_MAX, Workspace, WorkspaceCommand,
    WorkspaceEvent, limits::Term,
};
use crate::domain::{
    Moment, Name, Refusal, Timestamp,
    api_keys::KeyCommand,
    authority::{Permission, Role},
    ids::{InvitationId, OrganizationId, UserId, WorkspaceId},
    plans::PlanName,
};

/// What a command leads to.
pub(super) type Decision = Result<Vec<WorkspaceEvent>, Refusal>;

/// A token as it is known here: by its hash, and when it stops.
struct NewToken {
    hash: String,
    expires_at: Timestamp,
}

impl Workspace {
    /// The events that `command` leads to at `now`; nothing has changed yet.
    pub(super) fn decide(&self, command: WorkspaceCommand, moment: Moment) -> Decision {
        use WorkspaceCommand as C;
        let now = moment.now;
        match command {
            C::Create {
                workspace,
                organization,
                name,
                created_by,
                plan,
            } => self.create(workspace, organization, name, created_by, plan),
            C::Rename { actor, name } => self.rename(actor, name, now),
            C::SelectPlan { actor, plan } => self.select_plan(actor, plan, moment),
            C::Recover {
                user,
                gone,
                recovered_by,
            } => self.recover(user, &gone, recovered_by, now),
            C::CloseMonth { statement } => self.close_month(statement, now),
            C::ChangeLimits { actor, limits } => self.change_limits(actor, limits, moment),
            C::ChangeRole { actor, user, role } => {
                self.change_role(actor, user, Term { role, until: None }, now)
            }
            C::Remove { actor, user } if actor == user => self.leave(user, now),
            C::Remove { actor, user } => self.remove(actor, user, now),
            C::Leave { user } => self.leave(user, now),
            C::Invite {
                actor,
                invitation,
                email,
                role,
                token_hash: hash,
                expires_at,
                invitee,
            } => {
                self.may_invite(actor, invitation, role, invitee, moment)?;
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
            } => self.resend(actor, invitation, NewToken { hash, expires_at }, moment),
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
            C::ApiKey(command) => self.decide_key(command, moment),
            C::ChangeRoleUntil {
                actor,
                user,
                role,
                until,
            } => {
                let until = Some(until);
                self.change_role(actor, user, Term { role, until }, now)
            }
            C::ReachLimit { user } => self.reach_limit(user, now),
            C::TransferOwnership { actor, to } => self.transfer_ownership(actor, to, now),
            C::Delete { actor, confirm } => self.delete(actor, &confirm, now),
            C::PlaceLegalHold { actor } => self.place_legal_hold(actor, now),
            C::LiftLegalHold { actor } => self.lift_legal_hold(actor, now),
            C::ChangePolicy { actor, policy } => self.change_policy(actor, policy, now),
            C::GrantAuditor {
                actor,
                user,
                expires_at,
            } => self.grant_auditor(actor, user, expires_at, now),
            C::RevokeAuditor { actor, user } => self.revoke_auditor(actor, user, now),
            C::ExpireAuditor { user } => self.expire_auditor(user, now),
            C::ListCrew { actor, crew } => self.list_crew(actor, crew, moment),
            C::UnlistCrew { actor, crew } => self.unlist_crew(actor, crew, now),
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

    fn rename(&self, actor: UserId, name: Name, now: Timestamp) -> Decision {
        self.permitted(actor, Permission::RenameWorkspace, now)?;
        if name.as_str() == self.name {
            return Ok(Vec::new());
        }
        Ok(vec![WorkspaceEvent::WorkspaceRenamed {
            from: self.name.clone(),
            to: name.into(),
        }])
    }

    fn select_plan(&self, actor: UserId, plan: PlanName, moment: Moment) -> Decision {
        self.permitted(actor, Permission::SelectPlan, moment.now)?;
        if self.plan.as_ref() == Some(&plan) {
            return Ok(vec![]);
        }
        let by_plan = true;
        self.fits(moment.plans.quotas(Some(&plan)), by_plan, moment.now)?;
        Ok(vec![WorkspaceEvent::PlanSelected {
            from: self.plan.clone(),
            to: plan,
        }])
    }

    fn remove(&self, actor: UserId, user: UserId, now: Timestamp) -> Decision {
        let own = self.permitted(actor, Permission::RemoveMembers, now)?.role;
        let member = self.member(user, now)?;
        not_above(member.strongest_role(), own)?;
        self.keeps_an_owner_without(member, now)?;
        let removed = WorkspaceEvent::MemberRemoved {
            user,
            role: member.role,
            removed_by: actor,
        };
        Ok([self.overdue(user, now), vec![removed]].concat())
    }

    fn leave(&self, user: UserId, now: Timestamp) -> Decision {
        let member = self.permitted(user, Permission::LeaveWorkspace, now)?;
        self.keeps_an_owner_without(member, now)?;
        let role = member.role;
        let left = WorkspaceEvent::MemberLeft { user, role };
        Ok([self.overdue(user, now), vec![left]].concat())
    }

    fn may_invite(
        &self,
        actor: UserId,
        invitation: InvitationId,
        role: Role,
        invitee: Option<UserId>,
        moment: Moment,
    ) -> Result<(), Refusal> {
        let now = moment.now;
        let own = self.permitted(actor, Permission::InviteMembers, now)?;
        not_above(role, own.role)?;
        own.may_give(Term { role, until: None })?;
        if self.pending.contains_key(&invitation) || self.ended_as(invitation).is_some() {
            return Err(Refusal::AlreadyExists { what: "invitation" });
        }
        if invitee.is_some_and(|user| self.member_at(user, now).is_some()) {
            return Err(Refusal::AlreadyMember);
        }
        self.has_room_for_an_invitation(moment)
    }

    fn resend(
        &self,
        actor: UserId,
        invitation: InvitationId,
        token: NewToken,
        moment: Moment,
    ) -> Decision {
        let now = moment.now;
        let own = self.permitted(actor, Permission::InviteMembers, now)?.role;
        let pending = self.invitation(invitation)?;
        not_above(pending.role, own)?;
        if !pending.is_live(now) {
            // It was not counted any more, and a new deadline makes it count again.
            self.has_room_for_an_invitation(moment)?;
        }
        Ok(vec![WorkspaceEvent::InvitationResent {
            invitation,
            resent_by: actor,
            token_hash: token.hash,
            expires_at: token.expires_at,
        }])
    }

    fn revoke(&self, actor: UserId, invitation: InvitationId, now: Timestamp) -> Decision {
        let own = self.permitted(actor, Permission::InviteMembers, now)?.role;
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
        if self.member_at(user, now).is_some() {
            return Err(Refusal::AlreadyMember);
        }
        self.inviter_still_may(pending, now)?;
        let source = MembershipSource::Invitation {
            invitation,
            invited_by: pending.invited_by,
        };
        let role = pending.role;
        let joins = vec![
            WorkspaceEvent::InvitationAccepted { invitation, user },
            WorkspaceEvent::MemberJoined { user, role, source },
        ];
        let before = [self.overdue(user, now), self.grant_gives_way(user, now)].concat();
        Ok([before, joins].concat())
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

    fn decide_key(&self, command: KeyCommand, moment: Moment) -> Decision {
        let now = moment.now;
        self.existing()?;
        if let Some(user) = command.asked_by() {
            self.permitted(user, Permission::ManageKeys, now)?;
        }
        self.key_names_crews_of_its_environment(&command)?;
        if matches!(command, KeyCommand::Create { .. }) {
            self.has_room_for_a_key(moment)?;
        }
        let events = self.keys.decide(command, now)?;
        Ok(events.into_iter().map(WorkspaceEvent::from).collect())
    }

    pub(super) fn existing(&self) -> Result<WorkspaceId, Refusal> {
        let living = self.id.filter(|_| !self.is_deleted);
        living.ok_or(Refusal::NotFound {
            what: "workspace",
            hidden: false,
        })
    }

    /// The membership of `user` at `now`, if it allows what `permission` names.
    pub(super) fn permitted(
        &self,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Result<Member, Refusal> {
        self.authorise(user, permission, now)?;
        // A grant allows no command, so that nobody but a member comes this far.
        self.member_at(user, now)
            .ok_or(Refusal::NotPermittedToAuditor { permission })
    }

    /// Somebody whom a member, who sees who is in here, aims at.
    pub(super) fn member(&self, user: UserId, now: Timestamp) -> Result<Member, Refusal> {
        self.member_at(user, now).ok_or(Refusal::NotFound {
            what: "member",
            hidden: false,
        })
    }

    /// Whether an owner is left when `member` is one no more. Owners whose role ends by
    /// itself do not count: the workspace would be left without one later.
    pub(super) fn keeps_an_owner_without(
        &self,
        member: Member,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let present = self.members.values().filter_map(|member| member.at(now));
        let owners = present.filter(Member::is_lasting_owner);
        if member.is_lasting_owner() && owners.count() == 1 {
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

    fn has_room_for_an_invitation(&self, moment: Moment) -> Result<(), Refusal> {
        if self.live_invitations(moment.now) >= PENDING_INVITATIONS_MAX {
            return Err(Refusal::TooManyInvitations {
                limit: PENDING_INVITATIONS_MAX,
            });
        }
        self.has_room_for_a_member(moment)
    }

    /// An invitation gives no more, and for no longer, than its inviter may still give now.
    fn inviter_still_may(&self, invitation: &Invitation, now: Timestamp) -> Result<(), Refusal> {
        let role = invitation.role;
        let inviter = self.permitted(invitation.invited_by, Permission::InviteMembers, now);
        let gives = inviter.and_then(|inviter| {
            not_above(role, inviter.role)?;
            inviter.may_give(Term { role, until: None })
        });
        gives.map_err(|_| Refusal::InvitationExceedsInviter { role })
    }
}

impl Workspace {
    /// Whether the workspace would have no owner for good without `user`.
    pub fn is_last_owner(&self, user: UserId, now: Timestamp) -> bool {
        let member = self.member_at(user, now);
        member.is_some_and(|member| self.keeps_an_owner_without(member, now).is_err())
    }

    /// That `actor` may take or change a role as strong as this one.
    ///
    /// # Errors
    /// That they may not remove anybody; [`Refusal::RoleAboveOwn`].
    pub fn may_touch(&self, actor: UserId, role: Role, now: Timestamp) -> Result<(), Refusal> {
        let own = self.permitted(actor, Permission::RemoveMembers, now)?.role;
        not_above(role, own)
    }
}

/// Nobody gives, takes or touches a role above their own; so an admin never makes or
/// unmakes an owner.
pub(super) fn not_above(role: Role, own: Role) -> Result<(), Refusal> {
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
