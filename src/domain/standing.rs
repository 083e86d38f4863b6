//! What gives somebody rights in a workspace at one moment, and what they may by it.
//!
//! The aggregate decides commands with it, the queries decide reads with it, and `can`
//! explains it, so that none of the three can differ. It says nothing about keys, and it
//! reads no clock: whoever makes a [`Standing`] has looked at the time already.
//!
//! To add a way to have rights: a variant, its arm in [`Standing::permits`] and in
//! [`Standing::words`].

use super::{
    Refusal, Timestamp,
    authority::{AuthorityLink, Permission, Role},
    ids::UserId,
};

/// A role or a grant that counts at the moment that it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A member.
    Member {
        role: Role,
        /// Position of the event that gave the role.
        position: u64,
        /// First moment at which they hold the role no more; none where it lasts.
        until: Option<Timestamp>,
        /// The role that they fall back to then; none where the membership ends.
        afterwards: Option<Role>,
    },
    /// Somebody who is no member and may read the audit log.
    Auditor {
        /// Position of the event that granted it.
        position: u64,
        /// First moment at which it counts no more.
        until: Timestamp,
    },
}

/// Whether somebody may do something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether they may.
    pub allowed: bool,
    /// A sentence that names what allows it, or what is missing.
    pub because: String,
}

impl Verdict {
    /// The same in a suspended organization, of what does not go on there.
    pub fn under_suspension(self) -> Self {
        if !self.allowed {
            return self;
        }
        let because = format!("{}, but the organization is suspended", self.because);
        Self {
            allowed: false,
            because,
        }
    }

    /// The same of a change in a crew that is changed by promotion: who may break glass is told
    /// so.
    pub fn by_promotion(self, may_break_glass: bool) -> Self {
        if !self.allowed {
            return self;
        }
        let otherwise = match may_break_glass {
            true => "unless they break glass with a reason",
            false => "unless an owner or admin breaks glass",
        };
        let because = format!(
            "{}, but a production crew is changed by promotion, {otherwise}",
            self.because
        );
        Self {
            allowed: false,
            because,
        }
    }
}

impl Standing {
    /// That it allows what `permission` names, as a link of the chain of authority.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`], [`Refusal::NotPermittedToAuditor`].
    pub fn permits(self, permission: Permission) -> Result<AuthorityLink, Refusal> {
        match self {
            Self::Member { role, position, .. } if permission.allows(role) => {
                Ok(AuthorityLink::Role { role, position })
            }
            Self::Member { role, .. } => Err(Refusal::NotPermitted { permission, role }),
            Self::Auditor { position, .. } if permission.allows_auditor() => {
                Ok(AuthorityLink::AuditorGrant { position })
            }
            Self::Auditor { .. } => Err(Refusal::NotPermittedToAuditor { permission }),
        }
    }

    /// What they are, since which position and until when: `admin since position 7`.
    fn words(self) -> String {
        match self {
            Self::Member {
                role,
                position,
                until,
                afterwards,
            } => {
                let end = match (until, afterwards) {
                    (None, _) => String::new(),
                    (Some(until), None) => {
                        format!(", until the membership ends at {}", until.to_rfc3339())
                    }
                    (Some(until), Some(role)) => {
                        format!(
                            ", until {}, and {} from then on",
                            until.to_rfc3339(),
                            role.name()
                        )
                    }
                };
                format!(
                    "has the role {} since position {position}{end}",
                    role.name()
                )
            }
            Self::Auditor { position, until } => format!(
                "has an auditor grant since position {position}, until {}",
                until.to_rfc3339()
            ),
        }
    }
}

/// Whether `user`, who stands as this in a workspace, may do what `permission` names.
pub fn verdict(user: UserId, standing: Option<Standing>, permission: Permission) -> Verdict {
    let name = permission.name();
    let Some(standing) = standing else {
        let because = format!(
            "{user} is no member of the workspace and has no auditor grant; {name} takes {}",
            takers(permission)
        );
        return Verdict {
            allowed: false,
            because,
        };
    };
    let allowed = standing.permits(permission).is_ok();
    let words = standing.words();
    let because = match allowed {
        true => format!("{user} {words}, which allows {name}"),
        false => format!("{user} {words}; {name} takes {}", takers(permission)),
    };
    Verdict { allowed, because }
}

/// Everything that holds a permission: `the role owner or admin, or an auditor grant`.
fn takers(permission: Permission) -> String {
    let roles: Vec<_> = permission.roles().iter().map(|role| role.name()).collect();
    let roles = roles.join(" or ");
    match (roles.as_str(), permission.allows_auditor()) {
        ("", _) => "an auditor grant".to_owned(),
        (roles, true) => format!("the role {roles}, or an auditor grant"),
        (roles, false) => format!("the role {roles}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::user;

    const END: Timestamp = Timestamp(1_000_000);

    fn member(role: Role, until: Option<Timestamp>, afterwards: Option<Role>) -> Standing {
        Standing::Member {
            role,
            position: 7,
            until,
            afterwards,
        }
    }

    fn auditor() -> Standing {
        Standing::Auditor {
            position: 9,
            until: END,
        }
    }

    #[test]
    fn a_standing_permits_what_the_matrix_says() {
        for permission in Permission::ALL {
            for role in Role::ALL {
                let link = AuthorityLink::Role { role, position: 7 };
                let expected = match permission.allows(role) {
                    true => Ok(link),
                    false => Err(Refusal::NotPermitted { permission, role }),
                };
                assert_eq!(member(role, None, None).permits(permission), expected);
            }
            let expected = match permission.allows_auditor() {
                true => Ok(AuthorityLink::AuditorGrant { position: 9 }),
                false => Err(Refusal::NotPermittedToAuditor { permission }),
            };
            assert_eq!(auditor().permits(permission), expected);
        }
    }

    #[test]
    fn a_verdict_names_what_allows_it_or_what_is_missing() {
        let said = |standing, permission| {
            let Verdict { allowed, because } = verdict(user(1), standing, permission);
            let words = because.strip_prefix(&format!("{} ", user(1)));
            (allowed, words.expect("whom it is about").to_owned())
        };
        for (standing, permission, allowed, words) in [
            (
                Some(member(Role::Admin, None, None)),
                Permission::InviteMembers,
                true,
                "has the role admin since position 7, which allows member.invite",
            ),
            (
                Some(member(Role::Admin, Some(END), Some(Role::Member))),
                Permission::InviteMembers,
                true,
                "has the role admin since position 7, until 1970-01-01T00:00:01.000000Z, and \
                 member from then on, which allows member.invite",
            ),
            (
                Some(member(Role::Viewer, Some(END), None)),
                Permission::SelectPlan,
                false,
                "has the role viewer since position 7, until the membership ends at \
                 1970-01-01T00:00:01.000000Z; plan.select takes the role owner",
            ),
            (
                Some(auditor()),
                Permission::ReadAudit,
                true,
                "has an auditor grant since position 9, until 1970-01-01T00:00:01.000000Z, which \
                 allows audit.read",
            ),
            (
                None,
                Permission::ReadAudit,
                false,
                "is no member of the workspace and has no auditor grant; audit.read takes the \
                 role owner or admin, or an auditor grant",
            ),
        ] {
            assert_eq!(said(standing, permission), (allowed, words.to_owned()));
        }
    }
}
