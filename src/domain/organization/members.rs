//! Who has a role in an organization: given, changed, taken away, given up.

use super::{Organization, OrganizationEvent, OrganizationMember};
use crate::domain::{
    Refusal,
    authority::{OrganizationPermission, OrganizationRole},
    ids::UserId,
};

type Decision = Result<Vec<OrganizationEvent>, Refusal>;

impl Organization {
    pub(super) fn set_member(
        &self,
        actor: UserId,
        user: UserId,
        role: OrganizationRole,
    ) -> Decision {
        self.authorise(actor, OrganizationPermission::ManageMembers)?;
        let Some(present) = self.members.get(&user) else {
            return Ok(vec![OrganizationEvent::OrganizationMemberAdded {
                user,
                role,
            }]);
        };
        if present.role == role {
            return Ok(Vec::new());
        }
        self.keeps_an_owner_without(present)?;
        Ok(vec![OrganizationEvent::OrganizationMemberRoleChanged {
            user,
            from: present.role,
            to: role,
            changed_by: actor,
        }])
    }

    pub(super) fn remove_member(&self, actor: UserId, user: UserId) -> Decision {
        let permission = match actor == user {
            true => OrganizationPermission::Leave,
            false => OrganizationPermission::ManageMembers,
        };
        self.authorise(actor, permission)?;
        let present = self.members.get(&user).ok_or(Refusal::NotFound {
            what: "member",
            hidden: false,
        })?;
        self.keeps_an_owner_without(present)?;
        Ok(vec![OrganizationEvent::OrganizationMemberRemoved {
            user,
            role: present.role,
            removed_by: actor,
        }])
    }

    /// Whether somebody is the only owner.
    pub fn is_last_owner(&self, user: UserId) -> bool {
        let member = self.members.get(&user);
        member.is_some_and(|member| self.keeps_an_owner_without(member).is_err())
    }

    /// Whether an owner is left when `member` is one no more.
    fn keeps_an_owner_without(&self, member: &OrganizationMember) -> Result<(), Refusal> {
        let is_owner = |member: &&OrganizationMember| member.role == OrganizationRole::Owner;
        let owners = self.members.values().filter(is_owner);
        if is_owner(&member) && owners.count() == 1 {
            return Err(Refusal::LastOrganizationOwner);
        }
        Ok(())
    }
}
