//! Auditor grants: somebody who is no member reads the audit log, until a date.
//!
//! A person is a member or an auditor, never both: who is a member is granted nothing, and
//! who comes in loses the grant.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::{Workspace, WorkspaceEvent, limits::lies_ahead, rules::Decision};
use crate::domain::{Refusal, Timestamp, authority::Permission, ids::UserId};

/// How far away the end of a grant may be: a year, leap years included.
pub const GRANT_AWAY_MAX: TimeDelta = TimeDelta::days(366);

/// A grant that was not revoked and whose end no event has noted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditorGrant {
    /// First moment at which it counts no more.
    pub expires_at: Timestamp,
    /// Position of the event that granted it; 0 until the log has given it one.
    pub granted_at: u64,
}

impl AuditorGrant {
    /// Whether it counts at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

impl Workspace {
    /// The grant of `user`, if it counts at `now`.
    pub fn auditor_at(&self, user: UserId, now: Timestamp) -> Option<AuditorGrant> {
        let grant = self.auditors.get(&user).copied();
        grant.filter(|grant| grant.is_live(now))
    }

    pub(super) fn grant_auditor(
        &self,
        actor: UserId,
        user: UserId,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Decision {
        let own = self.permitted(actor, Permission::ManageAuditors, now)?;
        lies_ahead("expires_at", expires_at, now, GRANT_AWAY_MAX)?;
        own.may_let_audit(expires_at)?;
        if self.member_at(user, now).is_some() {
            return Err(Refusal::AlreadyMember);
        }
        if self.auditor_at(user, now).is_some() {
            return Err(Refusal::AlreadyExists {
                what: "auditor grant",
            });
        }
        let granted = WorkspaceEvent::AuditorGranted {
            user,
            expires_at,
            granted_by: actor,
        };
        let before = [self.overdue(user, now), self.overdue_grant(user, now)].concat();
        Ok([before, vec![granted]].concat())
    }

    /// Takes a grant back; who takes back their own gives it up.
    pub(super) fn revoke_auditor(&self, actor: UserId, user: UserId, now: Timestamp) -> Decision {
        let gives_up = actor == user && self.auditor_at(user, now).is_some();
        if !gives_up {
            self.permitted(actor, Permission::ManageAuditors, now)?;
        }
        let grant = self.auditor_at(user, now).ok_or(Refusal::NotFound {
            what: "auditor grant",
            hidden: false,
        })?;
        Ok(vec![WorkspaceEvent::AuditorRevoked {
            user,
            expires_at: grant.expires_at,
            revoked_by: actor,
        }])
    }

    /// Notes that a grant has run out; nothing happens where none has, or where it is noted.
    pub(super) fn expire_auditor(&self, user: UserId, now: Timestamp) -> Decision {
        self.existing()?;
        Ok(self.overdue_grant(user, now))
    }

    /// What ends the grant of somebody who becomes a member.
    pub(super) fn grant_gives_way(&self, user: UserId, now: Timestamp) -> Vec<WorkspaceEvent> {
        match self.auditor_at(user, now) {
            Some(grant) => vec![WorkspaceEvent::AuditorRevoked {
                user,
                expires_at: grant.expires_at,
                revoked_by: user,
            }],
            None => self.overdue_grant(user, now),
        }
    }

    /// That a grant has run out, where no event says so yet.
    fn overdue_grant(&self, user: UserId, now: Timestamp) -> Vec<WorkspaceEvent> {
        let grant = self.auditors.get(&user);
        let over = grant.filter(|grant| !grant.is_live(now));
        let expired = over.map(|grant| WorkspaceEvent::AuditorExpired {
            user,
            expires_at: grant.expires_at,
        });
        expired.into_iter().collect()
    }
}
