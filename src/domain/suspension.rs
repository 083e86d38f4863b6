//! What goes on in an organization that an operator of the installation has suspended.
//!
//! It is read and audited, access reviews included; access may be taken away, by people and by
//! time; what time closes is closed. Nothing else changes: no key and no person is let in, nothing
//! in a crew moves. It is a table over everything that can happen, so that a new event does not
//! compile before somebody has thought of it here, and it is asked of what a unit has decided, so
//! that no command can go round it.

use super::{
    authority::{OrganizationRole, Permission},
    event::Event,
    organization::OrganizationEvent,
    promotion::PromotionEvent,
    workspace::WorkspaceEvent,
};

/// Whether this may happen in a suspended organization.
pub fn goes_on(event: &Event) -> bool {
    match event {
        // Of people and the installation, which no organization has suspended; and what was read,
        // refused and reviewed.
        Event::User(_) | Event::Installation(_) | Event::Attempts(_) | Event::Review(_) => true,
        Event::Organization(happened) => goes_on_in_organization(happened),
        Event::Workspace(happened) => goes_on_in_workspace(happened),
        Event::Crew(_) => false,
        Event::Promotion(happened) => match happened {
            PromotionEvent::PromotionScheduleEnded { .. } => true,
            PromotionEvent::PromotionProposed { .. }
            | PromotionEvent::PromotionRefreshed { .. }
            | PromotionEvent::PromotionApproved { .. }
            | PromotionEvent::PromotionRejected { .. }
            | PromotionEvent::PromotionCancelled { .. }
            | PromotionEvent::PromotionScheduled { .. }
            | PromotionEvent::PromotionApplied { .. }
            | PromotionEvent::PromotionChecked { .. }
            | PromotionEvent::PromotionRolledBack { .. } => false,
        },
    }
}

fn goes_on_in_organization(happened: &OrganizationEvent) -> bool {
    use OrganizationEvent as E;
    match happened {
        E::PersonRecorded { .. }
        | E::OrganizationKeyRevoked(_)
        | E::OrganizationKeyExpired(_)
        | E::OrganizationMemberRemoved { .. }
        | E::OrganizationSuspended { .. }
        | E::OrganizationResumed { .. }
        | E::WorkspaceHoldBegan { .. }
        | E::PersonErasureScheduled { .. }
        | E::PersonErased { .. } => true,
        E::OrganizationMemberRoleChanged { from, .. } => *from == OrganizationRole::Owner,
        E::OrganizationCreated { .. }
        | E::OrganizationRenamed { .. }
        | E::OrganizationMemberAdded { .. }
        | E::OrganizationKeyCreated(_)
        | E::OrganizationKeyUpdated(_)
        | E::OrganizationKeyRotated(_)
        | E::WorkspaceHoldEnded { .. } => false,
    }
}

fn goes_on_in_workspace(happened: &WorkspaceEvent) -> bool {
    use WorkspaceEvent as E;
    match happened {
        E::MemberRemoved { .. }
        | E::MemberLeft { .. }
        | E::MembershipLimitReached { .. }
        | E::InvitationDeclined { .. }
        | E::InvitationRevoked { .. }
        | E::InvitationExpired { .. }
        | E::ApiKeyRevoked(_)
        | E::ApiKeyExpired(_)
        | E::AuditorRevoked { .. }
        | E::AuditorExpired { .. }
        | E::UsageMonthClosed { .. }
        | E::WorkspaceRecovered { .. }
        | E::LegalHoldPlaced { .. } => true,
        E::MemberRoleChanged { from, to, .. } => to < from,
        // A later end than before gives what would have ended.
        E::MembershipLimited {
            until, previous, ..
        } => previous.is_none_or(|previous| *until <= previous),
        E::WorkspaceCreated { .. }
        | E::WorkspaceRenamed { .. }
        | E::PlanSelected { .. }
        | E::MemberJoined { .. }
        | E::MemberInvited { .. }
        | E::InvitationResent { .. }
        | E::InvitationAccepted { .. }
        | E::ApiKeyCreated(_)
        | E::ApiKeyUpdated(_)
        | E::ApiKeyRotated(_)
        | E::OwnershipTransferred { .. }
        | E::WorkspaceDeleted { .. }
        | E::PolicyChanged { .. }
        | E::MembershipLimitLifted { .. }
        | E::AuditorGranted { .. }
        | E::CrewListed { .. }
        | E::CrewUnlisted { .. }
        | E::LimitsChanged { .. }
        | E::LegalHoldLifted { .. } => false,
    }
}

/// Whether somebody may do in it all that a permission names, for whoever asks beforehand: what
/// reads, and what only takes away. A permission that also gives is not among them, though what
/// it takes away may be taken.
pub fn holds(permission: Permission) -> bool {
    match permission {
        Permission::SeeWorkspace
        | Permission::LeaveWorkspace
        | Permission::RemoveMembers
        | Permission::ReadAudit
        | Permission::RunReviews
        | Permission::SeeLimits
        | Permission::SeeUsage
        | Permission::SeeMembers
        | Permission::SeeKeys
        | Permission::SeePolicy
        | Permission::AskWhoMay
        | Permission::GiveUpGrant
        | Permission::SeeCrews
        | Permission::SeePromotions => true,
        Permission::InviteMembers
        | Permission::ChangeRoles
        | Permission::RenameWorkspace
        | Permission::SelectPlan
        | Permission::ChangeLimits
        | Permission::SendUsage
        | Permission::ManageKeys
        | Permission::ManageAuditors
        | Permission::ChangePolicy
        | Permission::TransferOwnership
        | Permission::DeleteWorkspace
        | Permission::DescribeCrews
        | Permission::ManageCrews
        | Permission::EditCrews
        | Permission::SendActivity
        | Permission::ManageConnections
        | Permission::BreakGlass
        | Permission::HoldLegally
        | Permission::ProposePromotions
        | Permission::DecidePromotions => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        authority::Role,
        testing::{name, organization, user, workspace},
        workspace::MembershipSource,
    };

    fn role_changed(from: Role, to: Role) -> Event {
        let (user, changed_by) = (user(2), user(1));
        Event::Workspace(WorkspaceEvent::MemberRoleChanged {
            user,
            from,
            to,
            changed_by,
        })
    }

    #[test]
    fn access_is_taken_away_and_never_given() {
        let (user, by) = (user(2), user(1));
        let role = Role::Admin;
        let removed = WorkspaceEvent::MemberRemoved {
            user,
            role,
            removed_by: by,
        };
        let source = MembershipSource::Creation;
        let joined = WorkspaceEvent::MemberJoined { user, role, source };
        assert!(goes_on(&removed.into()));
        assert!(!goes_on(&joined.into()));
        assert!(goes_on(&role_changed(Role::Admin, Role::Member)));
        assert!(!goes_on(&role_changed(Role::Member, Role::Admin)));
    }

    #[test]
    fn a_role_in_the_organization_is_weaker_than_that_of_its_owner() {
        let changed = |from, to| {
            goes_on(&Event::Organization(
                OrganizationEvent::OrganizationMemberRoleChanged {
                    user: user(2),
                    from,
                    to,
                    changed_by: user(1),
                },
            ))
        };
        use OrganizationRole::{Auditor, Billing, Owner};
        assert!(changed(Owner, Auditor));
        assert!(!changed(Auditor, Owner));
        // Neither of these is less than the other.
        assert!(!changed(Billing, Auditor));
    }

    #[test]
    fn nothing_new_begins() {
        let created = WorkspaceEvent::WorkspaceCreated {
            workspace: workspace(1),
            organization: organization(1),
            name: name("New").into(),
            created_by: user(1),
        };
        assert!(!goes_on(&created.into()));
    }
}
