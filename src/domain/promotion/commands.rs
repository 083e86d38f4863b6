//! What can be asked of a promotion.

use std::collections::BTreeSet;

use super::{ApprovalTerms, CheckResult, PromotionSource, Review, ScheduleEnd};
use crate::domain::{
    Timestamp,
    authority::Actor,
    crew::CrewPlace,
    ids::{OrganizationId, PromotionId, UserId, WorkspaceId},
    sealed::Sealed,
};

/// What a decision about a promotion stands on besides the promotion: the newest state of its
/// workspace and its target.
#[derive(Debug, Clone, PartialEq)]
pub struct Circumstances {
    /// The version of the target's contents.
    pub target_version: u64,
    /// What the policy asks for now.
    pub terms: ApprovalTerms,
    /// Of those who have approved it, who still may.
    pub entitled: BTreeSet<UserId>,
}

/// Commands to the stream `promotion`. Who may ask was decided on the workspace, in the same unit.
#[derive(Debug, Clone, PartialEq)]
pub enum PromotionCommand {
    Propose {
        promotion: PromotionId,
        workspace: WorkspaceId,
        organization: OrganizationId,
        source: PromotionSource,
        target: CrewPlace,
        review: Review,
        terms: ApprovalTerms,
        proposed_by: Actor,
        /// The people that the proposer counts as.
        proposers: Vec<UserId>,
    },
    /// Put a new form in place of the present one.
    Refresh {
        source: PromotionSource,
        review: Review,
        terms: ApprovalTerms,
        refreshed_by: Actor,
        proposers: Vec<UserId>,
    },
    /// Nothing happens where they have approved this form already.
    Approve {
        user: UserId,
        now: Circumstances,
    },
    Reject {
        user: UserId,
    },
    /// Who proposed it may, and whoever decides about promotions.
    Cancel {
        actor: Actor,
        decides: bool,
    },
    /// Have it applied at a time. Another time takes the place of the present one.
    Schedule {
        user: UserId,
        at: Timestamp,
        now: Circumstances,
    },
    /// Note that a scheduled one could not be applied. Due work; accepted once.
    EndSchedule {
        at: Timestamp,
        why: ScheduleEnd,
    },
    /// What changes in the crew is decided there, in the same unit.
    Apply {
        user: UserId,
        /// The version that the target's contents get.
        version: u64,
        /// The time that it was scheduled for, where it was.
        scheduled: Option<Timestamp>,
        now: Circumstances,
    },
    Check {
        checks: Vec<CheckResult>,
        evidence: Option<Sealed>,
        checked_by: Actor,
    },
    /// What changes in the crew is decided there, in the same unit.
    RollBack {
        user: UserId,
        /// The version of the target's contents.
        present: u64,
        /// The version that they get.
        version: u64,
        /// Whether later changes are to go with it.
        force: bool,
    },
}
