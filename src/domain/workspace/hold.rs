//! Legal holds: as long as there is one, nothing of what the organization knows of people is
//! destroyed, and the workspace is not deleted.
//!
//! The organization keeps count of them, in the same unit; whether somebody may be erased is
//! decided there.

use super::{Workspace, WorkspaceEvent, rules::Decision};
use crate::domain::{Refusal, Timestamp, authority::Permission, ids::UserId};

impl Workspace {
    /// Whether it is under a legal hold.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    pub(super) fn place_legal_hold(&self, actor: UserId, now: Timestamp) -> Decision {
        self.permitted(actor, Permission::HoldLegally, now)?;
        if self.is_held {
            return Ok(Vec::new());
        }
        let placed_by = actor;
        Ok(vec![WorkspaceEvent::LegalHoldPlaced { placed_by }])
    }

    pub(super) fn lift_legal_hold(&self, actor: UserId, now: Timestamp) -> Decision {
        self.permitted(actor, Permission::HoldLegally, now)?;
        if !self.is_held {
            return Ok(Vec::new());
        }
        let lifted_by = actor;
        Ok(vec![WorkspaceEvent::LegalHoldLifted { lifted_by }])
    }

    /// That nothing forbids destroying what it keeps.
    pub(super) fn is_not_held(&self) -> Result<(), Refusal> {
        match self.is_held {
            true => Err(Refusal::UnderLegalHold),
            false => Ok(()),
        }
    }
}
