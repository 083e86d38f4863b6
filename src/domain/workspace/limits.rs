//! Roles and memberships that end by themselves.
//!
//! What somebody may is decided by the time of the batch: a limit counts from its moment
//! on, whether or not the event that says so has been written. That event comes from due
//! work, or before whatever else is decided about the person, whichever is first; so the
//! log never tells of a change to a role that was not there any more.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::{
    Member, Workspace, WorkspaceEvent,
    rules::{Decision, not_above},
};
use crate::domain::{
    Refusal, Timestamp,
    authority::{Permission, Role},
    ids::UserId,
};

/// How far away the end of a role or a membership may be.
pub const LIMIT_AWAY_MAX: TimeDelta = TimeDelta::days(3_650);

/// When a role ends by itself, and what comes then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// First moment at which the role is held no more.
    pub until: Timestamp,
    /// The role from then on; none where the membership ends.
    pub afterwards: Option<Role>,
    /// Position of the event that decided it; 0 until the log has given it one.
    pub decided_at: u64,
}

impl Limit {
    /// Whether its moment has come.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until <= now
    }
}

/// A role as it is given: for good, or until a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term {
    pub role: Role,
    pub until: Option<Timestamp>,
}

impl Member {
    /// The membership as it is at `now`; none where it has ended by then.
    pub fn at(self, now: Timestamp) -> Option<Self> {
        match self.limit {
            Some(limit) if limit.is_over(now) => limit.afterwards.map(|role| Self {
                role,
                granted_at: limit.decided_at,
                limit: None,
            }),
            Some(_) | None => Some(self),
        }
    }

    /// The role that no time takes away; none where the membership ends by itself.
    fn lasting_role(&self) -> Option<Role> {
        match self.limit {
            Some(limit) => limit.afterwards,
            None => Some(self.role),
        }
    }

    /// Whether they own the workspace, and no time changes that.
    pub(super) fn is_lasting_owner(&self) -> bool {
        self.limit.is_none() && self.role == Role::Owner
    }

    /// The strongest role that they hold, or will hold again.
    pub fn strongest_role(&self) -> Role {
        self.lasting_role()
            .map_or(self.role, |lasting| lasting.max(self.role))
    }

    /// Nobody gives what lasts longer than what they have: who holds a role for a time gives it
    /// for no longer, to others or themselves, and for good no more than they keep then.
    pub(super) fn may_give(&self, term: Term) -> Result<(), Refusal> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        let ends_no_later = term.until.is_some_and(|until| until <= limit.until);
        if ends_no_later || Some(term.role) <= limit.afterwards {
            Ok(())
        } else {
            let until = limit.until;
            Err(Refusal::OwnLimit { until })
        }
    }
}

impl Member {
    /// The same of an auditor grant, where what they keep grants none.
    pub(super) fn may_let_audit(&self, until: Timestamp) -> Result<(), Refusal> {
        let grants = |role| Permission::ManageAuditors.allows(role);
        match self.limit {
            Some(limit) if until > limit.until && !self.lasting_role().is_some_and(grants) => {
                let until = limit.until;
                Err(Refusal::OwnLimit { until })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Workspace {
    /// Gives a member a role: for good, or for a time after which the lasting one they have
    /// holds again. Where that is the same role, the membership ends then.
    pub(super) fn change_role(
        &self,
        actor: UserId,
        user: UserId,
        term: Term,
        now: Timestamp,
    ) -> Decision {
        let own = self.permitted(actor, Permission::ChangeRoles, now)?;
        let present = self.member(user, now)?;
        not_above(present.strongest_role(), own.role)?;
        not_above(term.role, own.role)?;
        if let Some(until) = term.until {
            lies_ahead("until", until, now, LIMIT_AWAY_MAX)?;
        }
        if Some(term.role) > present.lasting_role() {
            own.may_give(term)?;
        }
        let changes = changes(actor, user, present, term);
        if !changes.is_empty() {
            self.keeps_an_owner_without(present, now)?;
        }
        Ok([self.overdue(user, now), changes].concat())
    }

    /// Notes that a limit was reached; nothing happens where none was, or where it is noted.
    pub(super) fn reach_limit(&self, user: UserId, now: Timestamp) -> Decision {
        self.existing()?;
        Ok(self.overdue(user, now))
    }

    /// What time has done to a membership, and no event says yet.
    pub(super) fn overdue(&self, user: UserId, now: Timestamp) -> Vec<WorkspaceEvent> {
        let Some(member) = self.members.get(&user) else {
            return Vec::new();
        };
        let reached = member.limit.filter(|limit| limit.is_over(now));
        let reached = reached.map(|limit| WorkspaceEvent::MembershipLimitReached {
            user,
            role: member.role,
            until: limit.until,
            afterwards: limit.afterwards,
        });
        reached.into_iter().collect()
    }

    /// Ends a limit whose moment has come, in the state.
    pub(super) fn end_limit(&mut self, user: UserId, until: Timestamp) {
        let settled = self
            .members
            .remove(&user)
            .and_then(|member| member.at(until));
        if let Some(member) = settled {
            self.members.insert(user, member);
        }
    }

    /// Sets or lifts a limit, in the state.
    pub(super) fn set_limit(&mut self, user: UserId, limit: Option<Limit>) {
        if let Some(member) = self.members.get_mut(&user) {
            member.limit = limit;
        }
    }
}

/// What gives a member as they are now a role on new terms; empty where they have it on
/// these.
fn changes(actor: UserId, user: UserId, present: Member, term: Term) -> Vec<WorkspaceEvent> {
    let Term { role, until } = term;
    let afterwards = present.lasting_role().filter(|lasting| *lasting != role);
    let mut changes = Vec::new();
    if present.role != role {
        changes.push(WorkspaceEvent::MemberRoleChanged {
            user,
            from: present.role,
            to: role,
            changed_by: actor,
        });
    }
    let is_as_before = |until: Timestamp| {
        let same = |limit: Limit| limit.until == until && limit.afterwards == afterwards;
        present.role == role && present.limit.is_some_and(same)
    };
    match (until, present.limit) {
        (Some(until), _) if is_as_before(until) => {}
        (Some(until), previous) => changes.push(WorkspaceEvent::MembershipLimited {
            user,
            role,
            until,
            afterwards,
            previous: previous.map(|limit| limit.until),
            limited_by: actor,
        }),
        (None, Some(limit)) if present.role == role => {
            changes.push(WorkspaceEvent::MembershipLimitLifted {
                user,
                role,
                until: limit.until,
                afterwards: limit.afterwards,
                lifted_by: actor,
            });
        }
        // With another role, the limit of the one before is gone.
        (None, Some(_) | None) => {}
    }
    changes
}

/// That a moment which a command brings lies after `now`, and not too far.
pub(super) fn lies_ahead(
    field: &'static str,
    moment: Timestamp,
    now: Timestamp,
    away_max: TimeDelta,
) -> Result<(), Refusal> {
    let detail = if moment <= now {
        "this must be in the future"
    } else if moment > now.plus(away_max) {
        "this is too far away"
    } else {
        return Ok(());
    };
    Err(Refusal::WrongValue { field, detail })
}
