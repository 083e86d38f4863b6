//! Who has access to a workspace at one moment, through what, and how far it goes.
//!
//! Pure: it is asked of the workspace and its organization as they were then, so that a report of
//! the past and one of now are made by the same rules that decide commands. It says nothing of
//! who gave the access; that is told by the event at [`Held::granted_at`].
//!
//! To add a way to have access: a variant of [`Through`], and its rows in [`held`].

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Timestamp,
    api_keys::{ApiKey, KeyRight, KeyScope},
    authority::{OrganizationPermission, OrganizationRole, Permission, Role},
    environment::Environment,
    ids::{CrewId, KeyId, PrincipalId, UserId},
    organization::Organization,
    workspace::{Policy, ProductionChanges, Workspace},
};

/// What gives somebody access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Through {
    /// A role in the workspace.
    Membership(Role),
    /// A grant to read the audit log.
    AuditorGrant,
    /// A role in the organization, which reaches into no crew.
    OrganizationRole(OrganizationRole),
    /// A key of the workspace.
    ApiKey,
    /// A key of the organization, which reaches into no crew.
    OrganizationKey,
}

impl Through {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Membership(_) => "membership",
            Self::AuditorGrant => "auditor_grant",
            Self::OrganizationRole(_) => "organization_role",
            Self::ApiKey => "api_key",
            Self::OrganizationKey => "organization_key",
        }
    }

    /// The role, where it is one.
    pub fn role(self) -> Option<&'static str> {
        match self {
            Self::Membership(role) => Some(role.name()),
            Self::AuditorGrant => Some("auditor"),
            Self::OrganizationRole(role) => Some(role.name()),
            Self::ApiKey | Self::OrganizationKey => None,
        }
    }
}

/// Access that counts at the moment that it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub principal: PrincipalId,
    pub through: Through,
    /// What a key is called; people's names are sealed.
    pub name: Option<String>,
    /// Of a key.
    pub scopes: Option<BTreeSet<KeyScope>>,
    /// The crews that a key is bound to; none where it is bound to none.
    pub crews: Option<BTreeSet<CrewId>>,
    /// The environments that it reaches, with what may be done in crews there. A key reaches its
    /// own whatever it may do there.
    pub reach: BTreeMap<Environment, Vec<Permission>>,
    /// First moment at which it counts no more, and the role from then on.
    pub until: Option<Timestamp>,
    pub afterwards: Option<Role>,
    /// When it began to count, where that is not when it was given: a role that came back.
    pub counts_since: Option<Timestamp>,
    /// Of a key: when it was made.
    pub created_at: Option<Timestamp>,
    /// Position of the event that gave it, or last changed how far it goes.
    pub granted_at: u64,
}

impl Held {
    /// Whether it reaches `environment`.
    pub fn reaches(&self, environment: Environment) -> bool {
        self.reach.contains_key(&environment)
    }
}

/// Everything that gives anybody access at `now`, sorted by what it comes through and then by id.
pub fn held(workspace: &Workspace, organization: &Organization, now: Timestamp) -> Vec<Held> {
    if !workspace.exists() || workspace.is_deleted() {
        return Vec::new();
    }
    let policy = workspace.policy();
    let mut held: Vec<Held> = Vec::new();
    for (user, before) in workspace.members() {
        let Some(member) = before.at(now) else {
            continue;
        };
        let came_back = before.limit.filter(|limit| limit.is_over(now));
        held.push(Held {
            reach: Environment::ALL
                .into_iter()
                .map(|environment| (environment, of_role(member.role, environment, policy)))
                .collect(),
            until: member.limit.map(|limit| limit.until),
            afterwards: member.limit.and_then(|limit| limit.afterwards),
            counts_since: came_back.map(|limit| limit.until),
            ..of_person(user, Through::Membership(member.role), member.granted_at)
        });
    }
    for (user, grant) in workspace.auditors() {
        if grant.is_live(now) {
            held.push(Held {
                until: Some(grant.expires_at),
                ..of_person(user, Through::AuditorGrant, grant.granted_at)
            });
        }
    }
    for (user, member) in organization.members() {
        // The role `billing` reads what a workspace costs, and nothing of what is in it.
        if OrganizationPermission::ReadAudit.allows(member.role) {
            let through = Through::OrganizationRole(member.role);
            held.push(of_person(user, through, member.granted_at));
        }
    }
    for (id, key) in workspace.keys().live().filter(|(_, key)| key.is_live(now)) {
        held.push(of_key(id, key, Through::ApiKey, policy));
    }
    let reads = [KeyScope::AuditRead, KeyScope::WorkspacesRead];
    for (id, key) in organization.keys().live() {
        if key.is_live(now) && reads.iter().any(|scope| key.terms.scopes.contains(scope)) {
            held.push(of_key(id, key, Through::OrganizationKey, policy));
        }
    }
    held
}

fn of_person(user: UserId, through: Through, granted_at: u64) -> Held {
    Held {
        principal: PrincipalId::User(user),
        through,
        name: None,
        scopes: None,
        crews: None,
        reach: BTreeMap::new(),
        until: None,
        afterwards: None,
        counts_since: None,
        created_at: None,
        granted_at,
    }
}

fn of_key(id: KeyId, key: &ApiKey, through: Through, policy: Policy) -> Held {
    let reach = key.environment.map(|environment| {
        let may = in_crews(environment, policy, |permission| {
            let right = permission.of_keys();
            right != KeyRight::Never && right.allows(&key.terms.scopes).is_ok()
        });
        (environment, may)
    });
    Held {
        principal: PrincipalId::Key(id),
        through,
        name: Some(key.terms.name.clone()),
        scopes: Some(key.terms.scopes.clone()),
        crews: key.terms.crews.clone(),
        reach: reach.into_iter().collect(),
        until: key.terms.expires_at,
        afterwards: None,
        counts_since: None,
        created_at: Some(key.created_at),
        granted_at: key.position,
    }
}

fn of_role(role: Role, environment: Environment, policy: Policy) -> Vec<Permission> {
    in_crews(environment, policy, |permission| permission.allows(role))
}

/// What may be done in crews of an environment. Where production is changed by promotion alone,
/// nobody edits it but by breaking glass, which elsewhere is never needed.
fn in_crews(
    environment: Environment,
    policy: Policy,
    may: impl Fn(Permission) -> bool,
) -> Vec<Permission> {
    let is_protected = environment == Environment::Production
        && policy.production_changes == ProductionChanges::PromotionOnly;
    let counts = |permission: &Permission| match permission {
        Permission::EditCrews => !is_protected,
        Permission::BreakGlass => is_protected,
        other => other.is_in_crews(),
    };
    let permissions = Permission::ALL.into_iter().filter(counts);
    permissions.filter(|permission| may(*permission)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(role: Role, environment: Environment, policy: Policy) -> Vec<&'static str> {
        let may = of_role(role, environment, policy);
        may.into_iter().map(Permission::name).collect()
    }

    #[test]
    fn protected_production_is_edited_by_breaking_glass_alone() {
        let protected = Policy::default();
        let direct = Policy {
            production_changes: ProductionChanges::Direct,
            ..protected
        };
        let production = Environment::Production;
        let edits =
            |role, environment, policy| names(role, environment, policy).contains(&"crew.edit");
        let breaks = |role, environment, policy| {
            names(role, environment, policy).contains(&"production.break_glass")
        };
        assert!(!edits(Role::Owner, production, protected));
        assert!(breaks(Role::Admin, production, protected));
        assert!(!breaks(Role::Member, production, protected));
        assert!(edits(Role::Member, production, direct));
        assert!(!breaks(Role::Owner, production, direct));
        assert!(edits(Role::Member, Environment::Staging, protected));
        assert!(!breaks(Role::Owner, Environment::Staging, protected));
        let sees = names(Role::Viewer, production, protected);
        assert!(
            sees.contains(&"crew.read") && !sees.contains(&"crew.describe"),
            "{sees:?}"
        );
    }
}
