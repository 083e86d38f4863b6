//! Whether a key may do something in a workspace, and why: what `can` says of keys, as
//! [`crate::domain::standing`] does of people.

use std::collections::BTreeSet;

use super::{CrewMissed, KeyEnd, KeyRight, KeyScope};
use crate::domain::{
    Timestamp,
    authority::{OrganizationPermission, Permission},
    environment::Environment,
    ids::KeyId,
    standing::Verdict,
};

/// Whose key it is, as seen from a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyHolder {
    /// The workspace's own, for one environment.
    Workspace(Environment),
    /// That of the organization that the workspace is in.
    Organization,
}

impl KeyHolder {
    /// What a permission in the workspace takes of such a key.
    pub fn right(self, permission: Permission) -> KeyRight {
        match (self, permission) {
            (Self::Workspace(_), permission) => permission.of_keys(),
            (Self::Organization, Permission::SeeWorkspace) => {
                OrganizationPermission::SeeWorkspaces.of_keys()
            }
            (Self::Organization, _) => KeyRight::Never,
        }
    }

    fn words(self) -> String {
        match self {
            Self::Workspace(environment) => format!("an API key for {}", environment.name()),
            Self::Organization => "an API key of the organization".to_owned(),
        }
    }
}

/// A key as it stands at the moment that it was asked for.
#[derive(Debug, Clone, Copy)]
pub struct KeyStanding<'a> {
    pub holder: KeyHolder,
    pub scopes: &'a BTreeSet<KeyScope>,
    /// Position of the event that made it, or last changed what it may.
    pub position: u64,
    /// First moment at which it counts no more; none where it lasts.
    pub until: Option<Timestamp>,
    /// How it ended, where it has.
    pub ended: Option<KeyEnd>,
    /// Why it does not reach the crew that was asked about; none where it does, or none was.
    pub missed: Option<CrewMissed>,
}

/// Whether `key`, which stands as this in a workspace, may do what `permission` names.
pub fn key_verdict(
    key: KeyId,
    standing: Option<KeyStanding<'_>>,
    permission: Permission,
) -> Verdict {
    let name = permission.name();
    let Some(standing) = standing else {
        let right = permission.of_keys();
        let because = format!(
            "{key} is no API key of the workspace; {}",
            takes(right, name)
        );
        return Verdict {
            allowed: false,
            because,
        };
    };
    let end = standing
        .until
        .map(|until| format!(", until {}", until.to_rfc3339()));
    let words = format!(
        "{key} is {} since position {}{}",
        standing.holder.words(),
        standing.position,
        end.unwrap_or_default()
    );
    let right = standing.holder.right(permission);
    let (allowed, why) = match (standing.ended, right.allows(standing.scopes)) {
        (Some(end), _) => (false, format!("it is {}", end.name())),
        (None, Err(_)) => (false, takes(right, name)),
        (None, Ok(())) => match standing.missed {
            Some(missed) => (false, misses(missed).to_owned()),
            None => (true, allows(right, name)),
        },
    };
    let because = format!("{words}; {why}");
    Verdict { allowed, because }
}

fn takes(right: KeyRight, name: &str) -> String {
    match right {
        KeyRight::Every => format!("{name} takes a key of the workspace"),
        KeyRight::Scope(scope) => format!("{name} takes the scope {scope}"),
        KeyRight::Never => format!("{name} is for people alone"),
    }
}

fn allows(right: KeyRight, name: &str) -> String {
    match right {
        KeyRight::Scope(scope) => format!("its scope {scope} allows {name}"),
        KeyRight::Every | KeyRight::Never => format!("every such key may {name}"),
    }
}

fn misses(missed: CrewMissed) -> &'static str {
    match missed {
        CrewMissed::WrongEnvironment => "it does not reach the environment of the crew",
        CrewMissed::NotNamed => "it is bound to other crews",
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const END: Timestamp = Timestamp(1_000_000);

    #[test]
    fn a_verdict_names_what_allows_it_or_what_is_missing() {
        let key = KeyId::from_uuid(Uuid::from_u128(1));
        let scopes = BTreeSet::from([KeyScope::AuditRead, KeyScope::WorkspacesRead]);
        let of = |holder, until, ended| KeyStanding {
            holder,
            scopes: &scopes,
            position: 7,
            until,
            ended,
            missed: None,
        };
        let missing = |missed| KeyStanding {
            missed: Some(missed),
            ..of(KeyHolder::Workspace(Environment::Production), None, None)
        };
        let production = KeyHolder::Workspace(Environment::Production);
        for (standing, permission, allowed, words) in [
            (
                Some(of(production, None, None)),
                Permission::ReadAudit,
                true,
                "is an API key for production since position 7; its scope audit:read allows \
                 audit.read",
            ),
            (
                Some(of(production, Some(END), None)),
                Permission::SeeMembers,
                false,
                "is an API key for production since position 7, until \
                 1970-01-01T00:00:01.000000Z; member.read takes the scope members:read",
            ),
            (
                Some(of(production, None, None)),
                Permission::SeeWorkspace,
                true,
                "is an API key for production since position 7; every such key may workspace.read",
            ),
            (
                Some(of(production, None, None)),
                Permission::ManageKeys,
                false,
                "is an API key for production since position 7; api_key.manage is for people \
                 alone",
            ),
            (
                Some(of(production, None, Some(KeyEnd::Revoked))),
                Permission::ReadAudit,
                false,
                "is an API key for production since position 7; it is revoked",
            ),
            (
                Some(of(KeyHolder::Organization, None, None)),
                Permission::SeeWorkspace,
                true,
                "is an API key of the organization since position 7; its scope workspaces:read \
                 allows workspace.read",
            ),
            (
                Some(of(KeyHolder::Organization, None, None)),
                Permission::ReadAudit,
                false,
                "is an API key of the organization since position 7; audit.read is for people \
                 alone",
            ),
            (
                Some(missing(CrewMissed::WrongEnvironment)),
                Permission::SeeWorkspace,
                false,
                "is an API key for production since position 7; it does not reach the \
                 environment of the crew",
            ),
            (
                Some(missing(CrewMissed::NotNamed)),
                Permission::SeeWorkspace,
                false,
                "is an API key for production since position 7; it is bound to other crews",
            ),
            (
                None,
                Permission::ReadAudit,
                false,
                "is no API key of the workspace; audit.read takes the scope audit:read",
            ),
        ] {
            let said = key_verdict(key, standing, permission);
            assert_eq!(
                (said.allowed, said.because),
                (allowed, format!("{key} {words}"))
            );
        }
    }
}
