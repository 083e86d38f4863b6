//! People who have erased their accounts: how long the organization keeps its copy of them, and
//! the legal holds that keep it longer.

use super::{Organization, OrganizationEvent};
use crate::domain::{
    Refusal, Timestamp,
    ids::{UserId, WorkspaceId},
};

type Decision = Result<Vec<OrganizationEvent>, Refusal>;

impl Organization {
    /// Whether a workspace of it is under a legal hold.
    pub fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether what it knows of somebody is to be erased at `now`, and may be.
    pub fn erases(&self, user: UserId, now: Timestamp) -> bool {
        let due = self
            .erasures
            .get(&user)
            .is_some_and(|due_at| *due_at <= now);
        due && !self.is_held()
    }

    pub(super) fn note_hold(&self, workspace: WorkspaceId, held: bool) -> Decision {
        self.existing()?;
        Ok(match (held, self.held.contains(&workspace)) {
            (true, false) => vec![OrganizationEvent::WorkspaceHoldBegan { workspace }],
            (false, true) => vec![OrganizationEvent::WorkspaceHoldEnded { workspace }],
            (true, true) | (false, false) => Vec::new(),
        })
    }

    pub(super) fn schedule_erasure(&self, user: UserId, due_at: Timestamp) -> Decision {
        self.existing()?;
        if self.erasures.contains_key(&user) {
            return Ok(Vec::new());
        }
        Ok(vec![OrganizationEvent::PersonErasureScheduled {
            user,
            due_at,
        }])
    }

    pub(super) fn erase_person(&self, user: UserId, now: Timestamp) -> Decision {
        self.existing()?;
        if self.is_held() && self.erasures.contains_key(&user) {
            return Err(Refusal::UnderLegalHold);
        }
        Ok(match self.erases(user, now) {
            true => vec![OrganizationEvent::PersonErased { user }],
            false => Vec::new(),
        })
    }
}
