//! Handing a workspace over, and deleting it.

use super::{KeyRing, Workspace, WorkspaceEvent, rules::Decision};
use crate::domain::{
    Refusal, Timestamp,
    authority::{Permission, Role},
    ids::UserId,
};

impl Workspace {
    /// Makes a member the owner, and the caller an admin.
    pub(super) fn transfer_ownership(&self, actor: UserId, to: UserId, now: Timestamp) -> Decision {
        let own = self.permitted(actor, Permission::TransferOwnership, now)?;
        if actor == to {
            return Err(Refusal::TransferToOneself);
        }
        let heir = self.member_at(to, now).ok_or(Refusal::NotAMember)?;
        if let Some(limit) = own.limit {
            // Who owns it for an afternoon neither gives it away nor stays longer.
            return Err(Refusal::OwnLimit { until: limit.until });
        }
        let mut events = [self.overdue(actor, now), self.overdue(to, now)].concat();
        events.push(WorkspaceEvent::OwnershipTransferred { from: actor, to });
        let changed = |user, from, to| WorkspaceEvent::MemberRoleChanged {
            user,
            from,
            to,
            changed_by: actor,
        };
        match (heir.role, heir.limit) {
            (Role::Owner, None) => {}
            (Role::Owner, Some(limit)) => events.push(WorkspaceEvent::MembershipLimitLifted {
                user: to,
                role: Role::Owner,
                until: limit.until,
                afterwards: limit.afterwards,
                lifted_by: actor,
            }),
            (role, _) => events.push(changed(to, role, Role::Owner)),
        }
        events.push(changed(actor, Role::Owner, Role::Admin));
        Ok(events)
    }

    /// Ends the workspace and every access to it.
    pub(super) fn delete(&self, actor: UserId, confirm: &str, now: Timestamp) -> Decision {
        self.permitted(actor, Permission::DeleteWorkspace, now)?;
        self.is_not_held()?;
        if confirm != self.name {
            return Err(Refusal::WrongValue {
                field: "confirm",
                detail: "this is not the name of the workspace",
            });
        }
        let organization = self.organization.ok_or(Refusal::NotFound {
            what: "workspace",
            hidden: false,
        })?;
        Ok(vec![WorkspaceEvent::WorkspaceDeleted {
            name: self.name.clone(),
            organization,
            deleted_by: actor,
            members: self.members.keys().copied().collect(),
            invitations: self.pending.keys().copied().collect(),
            auditors: self.auditors.keys().copied().collect(),
            api_keys: self.keys.live().map(|(key, _)| key).collect(),
            crews: self.crews.keys().copied().collect(),
        }])
    }

    /// Ends every access, in the state. Whose it was stays: its history is still theirs.
    pub(super) fn end_every_access(&mut self) {
        self.is_deleted = true;
        self.members.clear();
        self.pending.clear();
        self.finished.clear();
        self.auditors.clear();
        self.keys = KeyRing::default();
        self.crews.clear();
    }
}
