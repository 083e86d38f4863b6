//! The policy of a workspace: what its owners have decided about how it is worked in.
//!
//! It is kept and shown here; what it asks for is held where that is decided, such as in a
//! crew or in a report on keys.

use serde::{Deserialize, Serialize};

use super::{Workspace, WorkspaceEvent, rules::Decision};
use crate::domain::{Timestamp, authority::Permission, environment::Environment, ids::UserId};

/// How production crews are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProductionChanges {
    /// By promotion, and otherwise only by breaking glass.
    PromotionOnly,
    /// Also by editing what is in them.
    Direct,
}

impl ProductionChanges {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::PromotionOnly => "promotion_only",
            Self::Direct => "direct",
        }
    }
}

/// What the owners of a workspace have decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How production crews are changed.
    pub production_changes: ProductionChanges,
    /// How many approvals a promotion takes, 0 to [`Policy::APPROVALS_MAX`].
    pub approvals_needed: u8,
    /// Whether who proposed a promotion may be one of those who approve it.
    pub self_approval: bool,
    /// How old a key may become before it is due, in days, 1 to
    /// [`Policy::ROTATION_DAYS_MAX`]; none: as old as it likes.
    pub key_rotation_days: Option<u16>,
}

impl Policy {
    /// The most approvals that may be asked for.
    pub const APPROVALS_MAX: u8 = 10;
    /// The most days that a key may be given.
    pub const ROTATION_DAYS_MAX: u16 = 3_650;

    /// Whether a crew of this environment is changed by promotion alone, unless glass is broken.
    pub fn protects(&self, environment: Environment) -> bool {
        match self.production_changes {
            ProductionChanges::Direct => false,
            ProductionChanges::PromotionOnly => environment == Environment::Production,
        }
    }

    /// When a key that was made at `created_at` is due to be rotated; none where keys may become
    /// as old as they like.
    pub fn rotation_due_at(&self, created_at: Timestamp) -> Option<Timestamp> {
        let days = i64::from(self.key_rotation_days?);
        Some(created_at.plus(chrono::TimeDelta::days(days)))
    }
}

/// What holds until an owner decides otherwise.
impl Default for Policy {
    fn default() -> Self {
        Self {
            production_changes: ProductionChanges::PromotionOnly,
            approvals_needed: 1,
            self_approval: false,
            key_rotation_days: None,
        }
    }
}

impl Workspace {
    pub(super) fn change_policy(&self, actor: UserId, to: Policy, now: Timestamp) -> Decision {
        self.permitted(actor, Permission::ChangePolicy, now)?;
        if self.policy == to {
            return Ok(Vec::new());
        }
        let from = self.policy;
        Ok(vec![WorkspaceEvent::PolicyChanged { from, to }])
    }
}
