//! Who may do what: roles, permissions, and the one matrix that joins them.
//!
//! The matrix is data ([`Permission::roles`]); the aggregates ask it inside the append, the
//! queries ask it before they answer, and `docs/permissions.md` is printed from it.
//!
//! To add a permission: a variant, its row in `roles`, its name, and the routes that need
//! it name it in `api`.

use serde::{Deserialize, Serialize};

use super::{
    api_keys::{KeyRight, KeyScope},
    ids::{KeyId, ReviewId, SessionId, UserId},
};

/// A role in a workspace, weakest first, so that `<` means "may less".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read-only.
    Viewer,
    /// Works inside crews.
    Member,
    /// Manages crews and people.
    Admin,
    /// Everything, billing and deletion included.
    Owner,
}

impl Role {
    /// Strongest first, as tables show them.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Member, Self::Viewer];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Viewer => "viewer",
        }
    }
}

/// A role in an organization; none of them reaches into a crew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrganizationRole {
    /// Its members, workspaces, roll-up and audit.
    Owner,
    /// Usage and statements.
    Billing,
    /// Audit.
    Auditor,
}

impl OrganizationRole {
    /// Strongest first, as tables show them.
    pub const ALL: [Self; 3] = [Self::Owner, Self::Billing, Self::Auditor];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Billing => "billing",
            Self::Auditor => "auditor",
        }
    }
}

/// What a role in a workspace may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// See the workspace and who is in it.
    SeeWorkspace,
    /// Leave it: what every member may, but for the last owner.
    LeaveWorkspace,
    /// Invite, and see, resend and revoke invitations.
    InviteMembers,
    /// Change roles, up to one's own.
    ChangeRoles,
    /// Remove members, up to one's own role.
    RemoveMembers,
    /// Read the workspace's audit log.
    ReadAudit,
    /// Rename the workspace.
    RenameWorkspace,
    /// Choose the plan.
    SelectPlan,
    /// See which API keys there are.
    SeeKeys,
    /// Make, change, rotate and revoke API keys.
    ManageKeys,
    /// See who is in the workspace.
    SeeMembers,
    /// Read the workspace's policy.
    SeePolicy,
    /// Ask whether somebody may do something here, and why.
    AskWhoMay,
    /// Grant, see and revoke auditor grants.
    ManageAuditors,
    /// Give up one's own auditor grant: what everybody with one may.
    GiveUpGrant,
    /// Change the workspace's policy.
    ChangePolicy,
    /// Hand the ownership over.
    TransferOwnership,
    /// Delete the workspace.
    DeleteWorkspace,
    /// Place and lift a legal hold.
    HoldLegally,
    /// See crews and what is in them.
    SeeCrews,
    /// Rename a crew, describe it, and say for which client it is.
    DescribeCrews,
    /// Make and archive crews.
    ManageCrews,
    /// Edit what is in a crew.
    EditCrews,
    /// Send a crew's activity.
    SendActivity,
    /// Join a crew to phone numbers, channels, webhook endpoints and integrations, and end that.
    ManageConnections,
    /// See what the workspace may have, and has.
    SeeLimits,
    /// Set limits below the plan's.
    ChangeLimits,
    /// See what the workspace used, and its statements.
    SeeUsage,
    /// Send what crews have used.
    SendUsage,
    /// Edit what is in a production crew against the workspace's policy, with a reason.
    BreakGlass,
    /// See promotions, and what crews were promoted.
    SeePromotions,
    /// Propose, refresh and check promotions.
    ProposePromotions,
    /// Approve, reject, apply, schedule and roll back promotions.
    DecidePromotions,
    /// Open access reviews, decide in them, and close them.
    RunReviews,
}

impl Permission {
    /// Every permission, in the order that the printed matrix has.
    pub const ALL: [Self; 34] = [
        Self::SeeWorkspace,
        Self::LeaveWorkspace,
        Self::InviteMembers,
        Self::ChangeRoles,
        Self::RemoveMembers,
        Self::ReadAudit,
        Self::RunReviews,
        Self::RenameWorkspace,
        Self::SelectPlan,
        Self::SeeLimits,
        Self::ChangeLimits,
        Self::SeeUsage,
        Self::SendUsage,
        Self::SeeMembers,
        Self::SeeKeys,
        Self::ManageKeys,
        Self::SeePolicy,
        Self::AskWhoMay,
        Self::ManageAuditors,
        Self::GiveUpGrant,
        Self::ChangePolicy,
        Self::TransferOwnership,
        Self::DeleteWorkspace,
        Self::HoldLegally,
        Self::SeeCrews,
        Self::DescribeCrews,
        Self::ManageCrews,
        Self::EditCrews,
        Self::SendActivity,
        Self::ManageConnections,
        Self::BreakGlass,
        Self::SeePromotions,
        Self::ProposePromotions,
        Self::DecidePromotions,
    ];

    /// The matrix: the roles that hold this permission, strongest first.
    pub fn roles(self) -> &'static [Role] {
        use Role::{Admin, Member, Owner, Viewer};
        match self {
            Self::SeeWorkspace
            | Self::LeaveWorkspace
            | Self::SeeMembers
            | Self::SeePolicy
            | Self::AskWhoMay
            | Self::SeeCrews
            | Self::SeePromotions => &[Owner, Admin, Member, Viewer],
            Self::DescribeCrews
            | Self::EditCrews
            | Self::SendActivity
            | Self::ProposePromotions => &[Owner, Admin, Member],
            Self::InviteMembers
            | Self::ChangeRoles
            | Self::RemoveMembers
            | Self::ReadAudit
            | Self::RunReviews
            | Self::SeeKeys
            | Self::ManageKeys
            | Self::ManageAuditors
            | Self::ManageCrews
            | Self::ManageConnections
            | Self::BreakGlass
            | Self::DecidePromotions => &[Owner, Admin],
            Self::GiveUpGrant => &[],
            Self::RenameWorkspace
            | Self::SelectPlan
            | Self::SeeLimits
            | Self::ChangeLimits
            | Self::SeeUsage
            | Self::SendUsage
            | Self::ChangePolicy
            | Self::TransferOwnership
            | Self::HoldLegally
            | Self::DeleteWorkspace => &[Owner],
        }
    }

    /// The matrix's last column: whether an auditor grant, which is for somebody who is no
    /// member, holds this permission.
    pub fn allows_auditor(self) -> bool {
        match self {
            Self::SeeWorkspace | Self::ReadAudit | Self::GiveUpGrant => true,
            Self::LeaveWorkspace
            | Self::InviteMembers
            | Self::ChangeRoles
            | Self::RemoveMembers
            | Self::RenameWorkspace
            | Self::SelectPlan
            | Self::SeeLimits
            | Self::ChangeLimits
            | Self::SeeUsage
            | Self::SendUsage
            | Self::SeeMembers
            | Self::SeePolicy
            | Self::AskWhoMay
            | Self::ManageAuditors
            | Self::ChangePolicy
            | Self::TransferOwnership
            | Self::DeleteWorkspace
            | Self::HoldLegally
            | Self::SeeKeys
            | Self::ManageKeys
            | Self::SeeCrews
            | Self::DescribeCrews
            | Self::ManageCrews
            | Self::EditCrews
            | Self::SendActivity
            | Self::ManageConnections
            | Self::BreakGlass
            | Self::SeePromotions
            | Self::ProposePromotions
            | Self::DecidePromotions
            | Self::RunReviews => false,
        }
    }

    /// Whether `role` holds this permission.
    pub fn allows(self, role: Role) -> bool {
        self.roles().contains(&role)
    }

    /// Whether it is about what is in crews, so that it reaches into environments.
    pub fn is_in_crews(self) -> bool {
        match self {
            Self::SeeCrews
            | Self::DescribeCrews
            | Self::ManageCrews
            | Self::EditCrews
            | Self::SendActivity
            | Self::ManageConnections
            | Self::SeePromotions
            | Self::SendUsage
            | Self::ProposePromotions
            | Self::DecidePromotions
            | Self::BreakGlass => true,
            Self::SeeWorkspace
            | Self::LeaveWorkspace
            | Self::InviteMembers
            | Self::ChangeRoles
            | Self::RemoveMembers
            | Self::ReadAudit
            | Self::RunReviews
            | Self::RenameWorkspace
            | Self::SelectPlan
            | Self::SeeMembers
            | Self::SeeKeys
            | Self::ManageKeys
            | Self::SeePolicy
            | Self::AskWhoMay
            | Self::ManageAuditors
            | Self::GiveUpGrant
            | Self::ChangePolicy
            | Self::TransferOwnership
            | Self::DeleteWorkspace
            | Self::HoldLegally
            | Self::SeeLimits
            | Self::ChangeLimits
            | Self::SeeUsage => false,
        }
    }

    /// What it takes of an API key of the workspace.
    pub fn of_keys(self) -> KeyRight {
        match self {
            Self::SeeWorkspace => KeyRight::Every,
            Self::SeeMembers => KeyRight::Scope(KeyScope::MembersRead),
            Self::SeePolicy => KeyRight::Every,
            Self::ReadAudit => KeyRight::Scope(KeyScope::AuditRead),
            Self::SeeKeys => KeyRight::Scope(KeyScope::KeysRead),
            Self::SeeCrews => KeyRight::Scope(KeyScope::CrewsRead),
            Self::SendActivity => KeyRight::Scope(KeyScope::ActivityWrite),
            Self::SeePromotions => KeyRight::Scope(KeyScope::PromotionsRead),
            Self::ProposePromotions => KeyRight::Scope(KeyScope::PromotionsPropose),
            Self::SendUsage => KeyRight::Scope(KeyScope::UsageWrite),
            Self::DescribeCrews | Self::ManageCrews | Self::EditCrews | Self::ManageConnections => {
                KeyRight::Scope(KeyScope::CrewsWrite)
            }
            Self::LeaveWorkspace
            | Self::InviteMembers
            | Self::ChangeRoles
            | Self::RemoveMembers
            | Self::RenameWorkspace
            | Self::SelectPlan
            | Self::SeeLimits
            | Self::ChangeLimits
            | Self::SeeUsage
            | Self::ManageKeys
            | Self::AskWhoMay
            | Self::ManageAuditors
            | Self::GiveUpGrant
            | Self::ChangePolicy
            | Self::TransferOwnership
            | Self::DeleteWorkspace
            | Self::HoldLegally
            | Self::BreakGlass
            | Self::DecidePromotions
            | Self::RunReviews => KeyRight::Never,
        }
    }

    /// The name that refusals, `can` and the printed matrix use, `<thing>.<verb>`: what the
    /// audit log shows as the action of a refused attempt.
    pub fn name(self) -> &'static str {
        match self {
            Self::SeeWorkspace => "workspace.read",
            Self::LeaveWorkspace => "member.leave",
            Self::InviteMembers => "member.invite",
            Self::ChangeRoles => "member.change_role",
            Self::RemoveMembers => "member.remove",
            Self::ReadAudit => "audit.read",
            Self::RenameWorkspace => "workspace.rename",
            Self::SelectPlan => "plan.select",
            Self::SeeLimits => "limits.read",
            Self::ChangeLimits => "limits.change",
            Self::SeeUsage => "usage.read",
            Self::SendUsage => "usage.send",
            Self::SeeMembers => "member.read",
            Self::SeeKeys => "api_key.read",
            Self::ManageKeys => "api_key.manage",
            Self::SeePolicy => "policy.read",
            Self::AskWhoMay => "permission.ask",
            Self::ManageAuditors => "auditor.manage",
            Self::GiveUpGrant => "auditor.leave",
            Self::ChangePolicy => "policy.change",
            Self::TransferOwnership => "ownership.transfer",
            Self::DeleteWorkspace => "workspace.delete",
            Self::HoldLegally => "legal_hold.manage",
            Self::SeeCrews => "crew.read",
            Self::DescribeCrews => "crew.describe",
            Self::ManageCrews => "crew.manage",
            Self::EditCrews => "crew.edit",
            Self::SendActivity => "activity.send",
            Self::ManageConnections => "connection.manage",
            Self::BreakGlass => "production.break_glass",
            Self::SeePromotions => "promotion.read",
            Self::ProposePromotions => "promotion.propose",
            Self::DecidePromotions => "promotion.decide",
            Self::RunReviews => "access_review.run",
        }
    }

    /// The permission of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.name() == name)
    }
}

/// What a role in an organization may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrganizationPermission {
    /// See the organization.
    See,
    /// Rename it.
    Rename,
    /// Make workspaces in it.
    CreateWorkspaces,
    /// Read its audit log, which leaves out what changed inside crews.
    ReadAudit,
    /// See what its workspaces used.
    SeeUsage,
    /// See the workspaces in it: for its keys; people see those that they are in.
    SeeWorkspaces,
    /// See which keys the organization has.
    SeeKeys,
    /// Make, rotate and revoke the organization's keys.
    ManageKeys,
    /// See who has a role in it.
    SeeMembers,
    /// Give people roles in it, and take them away.
    ManageMembers,
    /// Give up one's own role: what everybody with one may, but for the last owner.
    Leave,
}

impl OrganizationPermission {
    /// Every permission, in the order that the printed matrix has.
    pub const ALL: [Self; 11] = [
        Self::See,
        Self::Rename,
        Self::CreateWorkspaces,
        Self::ReadAudit,
        Self::SeeUsage,
        Self::SeeWorkspaces,
        Self::SeeKeys,
        Self::ManageKeys,
        Self::SeeMembers,
        Self::ManageMembers,
        Self::Leave,
    ];

    /// The matrix: the roles that hold this permission.
    pub fn roles(self) -> &'static [OrganizationRole] {
        use OrganizationRole::{Auditor, Billing, Owner};
        match self {
            Self::See | Self::SeeMembers | Self::Leave => &[Owner, Billing, Auditor],
            Self::Rename
            | Self::CreateWorkspaces
            | Self::ManageMembers
            | Self::SeeKeys
            | Self::ManageKeys => &[Owner],
            Self::ReadAudit => &[Owner, Auditor],
            Self::SeeUsage => &[Owner, Billing],
            Self::SeeWorkspaces => &[],
        }
    }

    /// What it takes of an API key of the organization.
    pub fn of_keys(self) -> KeyRight {
        match self {
            Self::See => KeyRight::Every,
            Self::ReadAudit => KeyRight::Scope(KeyScope::AuditRead),
            Self::SeeUsage => KeyRight::Scope(KeyScope::UsageRead),
            Self::SeeWorkspaces => KeyRight::Scope(KeyScope::WorkspacesRead),
            Self::CreateWorkspaces => KeyRight::Scope(KeyScope::WorkspacesCreate),
            Self::Rename
            | Self::SeeMembers
            | Self::ManageMembers
            | Self::Leave
            | Self::SeeKeys
            | Self::ManageKeys => KeyRight::Never,
        }
    }

    /// Whether `role` holds this permission.
    pub fn allows(self, role: OrganizationRole) -> bool {
        self.roles().contains(&role)
    }

    /// The name that refusals and the printed matrix use.
    pub fn name(self) -> &'static str {
        match self {
            Self::See => "organization.read",
            Self::Rename => "organization.rename",
            Self::CreateWorkspaces => "workspace.create",
            Self::ReadAudit => "organization_audit.read",
            Self::SeeUsage => "organization_usage.read",
            Self::SeeWorkspaces => "organization_workspace.read",
            Self::SeeKeys => "organization_key.read",
            Self::ManageKeys => "organization_key.manage",
            Self::SeeMembers => "organization_member.read",
            Self::ManageMembers => "organization_member.manage",
            Self::Leave => "organization_member.leave",
        }
    }
}

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Actor {
    /// A person.
    User {
        /// Their account.
        id: UserId,
    },
    /// A program with an API key.
    ApiKey {
        /// The key; not its secret.
        id: KeyId,
    },
    /// Crewlog itself: due work, such as an expiry.
    System,
    /// An operator of the installation, with a key.
    OperatorKey {
        /// The key; not its secret.
        id: KeyId,
    },
    /// Whoever has the store and its root key at hand, at the command line.
    CommandLine,
}

impl Actor {
    /// The person, where it is one.
    pub fn user(self) -> Option<UserId> {
        match self {
            Self::User { id } => Some(id),
            Self::ApiKey { .. } | Self::System | Self::OperatorKey { .. } | Self::CommandLine => {
                None
            }
        }
    }

    /// The kind, as an auditor reads it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::User { .. } => "user",
            Self::ApiKey { .. } => "api_key",
            Self::System => "system",
            Self::OperatorKey { .. } => "operator_key",
            Self::CommandLine => "command_line",
        }
    }

    /// The id of the person or the key; none for Crewlog itself, and at the command line.
    pub fn id(self) -> Option<String> {
        match self {
            Self::User { id } => Some(id.to_string()),
            Self::ApiKey { id } | Self::OperatorKey { id } => Some(id.to_string()),
            Self::System | Self::CommandLine => None,
        }
    }
}

/// One link of the chain that a decision stood on, with the position of the event that
/// gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AuthorityLink {
    /// A live session proved who the person is.
    Session { id: SessionId, position: u64 },
    /// A role in the workspace.
    Role { role: Role, position: u64 },
    /// A role in the organization.
    OrganizationRole {
        role: OrganizationRole,
        position: u64,
    },
    /// An API key with its scopes.
    ApiKey { id: KeyId, position: u64 },
    /// An auditor grant in the workspace.
    AuditorGrant { position: u64 },
    /// Glass was broken: a production crew was changed against the workspace's policy, by
    /// somebody who may. The reason is the entry's.
    BrokenGlass {},
    /// An access review decided it, in the entry at this position: a decision about access, or
    /// the campaign with its rule for what nobody decides about.
    AccessReview { id: ReviewId, position: u64 },
    /// A key of an operator of the installation.
    OperatorKey { id: KeyId, position: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;
    use Permission as P;

    const YES: bool = true;
    const NO: bool = false;

    /// A row of the product's table of roles: what it says, the permissions that carry it
    /// out, and who may: Owner, Admin, Member, Viewer.
    type Row = (&'static str, &'static [Permission], [bool; 4]);

    /// The rows of the table that have a permission yet. `LeaveWorkspace` stands with the
    /// first, as everybody holds it; `ManageAuditors` with what else lets people in;
    /// `SendActivity` with what else is done in a crew;
    /// `RenameWorkspace` with what changes the workspace as a whole.
    const TABLE: [Row; 11] = [
        (
            // Who is no member has it, by a grant.
            "an auditor grant",
            &[P::GiveUpGrant],
            [NO, NO, NO, NO],
        ),
        (
            "see the workspace, crews, dashboards, crew activity",
            &[
                P::SeeWorkspace,
                P::LeaveWorkspace,
                P::SeeMembers,
                P::SeePolicy,
                P::AskWhoMay,
                P::SeeCrews,
                P::SeePromotions,
            ],
            [YES, YES, YES, YES],
        ),
        (
            "edit what is in a crew: agents, pathways, knowledge bases; rename and describe it",
            &[P::DescribeCrews, P::EditCrews, P::SendActivity],
            [YES, YES, YES, NO],
        ),
        (
            "propose a promotion",
            &[P::ProposePromotions],
            [YES, YES, YES, NO],
        ),
        (
            "create and archive crews; integrations, phone numbers, channels, webhook endpoints",
            &[P::ManageCrews, P::ManageConnections],
            [YES, YES, NO, NO],
        ),
        (
            "approve, apply, roll back a promotion; break glass",
            &[P::BreakGlass, P::DecidePromotions],
            [YES, YES, NO, NO],
        ),
        (
            "invite, remove, change roles up to their own",
            &[
                P::InviteMembers,
                P::RemoveMembers,
                P::ChangeRoles,
                P::ManageAuditors,
            ],
            [YES, YES, NO, NO],
        ),
        (
            "create, rotate, revoke API keys",
            &[P::ManageKeys, P::SeeKeys],
            [YES, YES, NO, NO],
        ),
        (
            "read the audit log of the workspace; run access reviews",
            &[P::ReadAudit, P::RunReviews],
            [YES, YES, NO, NO],
        ),
        (
            "plan, billing, usage statements, limits, policy",
            &[
                P::SelectPlan,
                P::RenameWorkspace,
                P::ChangePolicy,
                P::SeeLimits,
                P::ChangeLimits,
                P::SeeUsage,
                P::SendUsage,
            ],
            [YES, NO, NO, NO],
        ),
        (
            "delete the workspace, transfer ownership; place and lift a legal hold",
            &[P::DeleteWorkspace, P::TransferOwnership, P::HoldLegally],
            [YES, NO, NO, NO],
        ),
    ];

    #[test]
    fn the_matrix_is_the_table_row_by_row() {
        for (row, permissions, may) in TABLE {
            for permission in permissions {
                let holds = Role::ALL.map(|role| permission.allows(role));
                assert_eq!(holds, may, "{row}: {}", permission.name());
            }
        }
        for permission in Permission::ALL {
            let rows = TABLE.iter().filter(|row| row.1.contains(&permission));
            assert_eq!(rows.count(), 1, "{} is in one row", permission.name());
        }
    }

    #[test]
    fn roles_are_listed_strongest_first_and_a_stronger_one_never_may_less() {
        assert!(Role::ALL.is_sorted_by(|a, b| a > b));
        for permission in Permission::ALL {
            let roles = permission.roles();
            assert!(roles.is_sorted_by(|a, b| a > b), "{}", permission.name());
            // The first so many of all roles: nobody above a holder is left out.
            assert_eq!(roles, &Role::ALL[..roles.len()], "{}", permission.name());
        }
    }

    #[test]
    fn the_organization_matrix_is_what_its_roles_are_for() {
        use OrganizationPermission as O;
        let holders = |permission: O| OrganizationRole::ALL.map(|role| permission.allows(role));
        assert_eq!(holders(O::See), [YES, YES, YES]);
        assert_eq!(holders(O::Rename), [YES, NO, NO]);
        assert_eq!(holders(O::CreateWorkspaces), [YES, NO, NO]);
        assert_eq!(holders(O::ReadAudit), [YES, NO, YES]);
        assert_eq!(holders(O::SeeWorkspaces), [NO, NO, NO]);
        assert_eq!(holders(O::SeeKeys), [YES, NO, NO]);
        assert_eq!(holders(O::ManageKeys), [YES, NO, NO]);
        assert_eq!(holders(O::SeeMembers), [YES, YES, YES]);
        assert_eq!(holders(O::ManageMembers), [YES, NO, NO]);
        assert_eq!(holders(O::Leave), [YES, YES, YES]);
    }

    #[test]
    fn keys_never_manage_people_or_keys() {
        let of_keys = |permission: &Permission| permission.of_keys() != KeyRight::Never;
        let given: Vec<_> = Permission::ALL.into_iter().filter(of_keys).collect();
        assert_eq!(
            given,
            [
                P::SeeWorkspace,
                P::ReadAudit,
                P::SendUsage,
                P::SeeMembers,
                P::SeeKeys,
                P::SeePolicy,
                P::SeeCrews,
                P::DescribeCrews,
                P::ManageCrews,
                P::EditCrews,
                P::SendActivity,
                P::ManageConnections,
                P::SeePromotions,
                P::ProposePromotions,
            ]
        );
        for permission in Permission::ALL {
            if let KeyRight::Scope(scope) = permission.of_keys() {
                assert!(KeyScope::OF_WORKSPACE.contains(&scope), "{scope}");
            }
        }
        for permission in OrganizationPermission::ALL {
            if let KeyRight::Scope(scope) = permission.of_keys() {
                assert!(KeyScope::OF_ORGANIZATION.contains(&scope), "{scope}");
            }
        }
    }

    #[test]
    fn an_auditor_sees_the_workspace_and_reads_its_log_and_leaves_and_nothing_else() {
        let held = P::ALL
            .into_iter()
            .filter(|permission| permission.allows_auditor());
        let expected = [P::SeeWorkspace, P::ReadAudit, P::GiveUpGrant];
        assert_eq!(held.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_permission_is_found_by_its_name() {
        for permission in P::ALL {
            assert_eq!(P::named(permission.name()), Some(permission));
        }
        assert_eq!(P::named("workspace.fly"), None);
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Permission::ALL.iter().map(|p| p.name()).collect();
        names.extend(OrganizationPermission::ALL.iter().map(|p| p.name()));
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
