//! What can be said to have happened to a promotion.

use serde::{Deserialize, Serialize};

use super::{ApprovalTerms, CheckResult, PromotionSource, Review, ScheduleEnd};
use crate::domain::{
    Timestamp,
    authority::Actor,
    contents::{Content, Digest},
    crew::CrewPlace,
    ids::{CrewId, OrganizationId, PromotionId, UserId, WorkspaceId},
    sealed::Sealed,
};

/// Events of the stream `promotion`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PromotionEvent {
    /// Somebody asked that what is in a crew, or in a file, come into another crew.
    PromotionProposed {
        promotion: PromotionId,
        workspace: WorkspaceId,
        organization: OrganizationId,
        source: PromotionSource,
        target: CrewPlace,
        review: Review,
        terms: ApprovalTerms,
        proposed_by: Actor,
        /// The people that count as having proposed it: of a key, who made and last rotated it.
        proposers: Vec<UserId>,
    },
    /// It was made anew from what source and target are now: approvals are void.
    PromotionRefreshed {
        /// The crew that it changes: every event says so, as entries are found by it.
        target: CrewId,
        source: PromotionSource,
        review: Review,
        terms: ApprovalTerms,
        refreshed_by: Actor,
        proposers: Vec<UserId>,
    },
    /// Somebody approved it, in the form that has this digest.
    PromotionApproved {
        target: CrewId,
        user: UserId,
        review: Digest,
        /// Whether it can be applied from now on.
        suffices: bool,
    },
    /// Somebody said no.
    PromotionRejected { target: CrewId, user: UserId },
    /// It was taken back.
    PromotionCancelled { target: CrewId, cancelled_by: Actor },
    /// It is to be applied at a time.
    PromotionScheduled {
        target: CrewId,
        at: Timestamp,
        user: UserId,
    },
    /// The time came, and it could not be applied.
    PromotionScheduleEnded {
        target: CrewId,
        at: Timestamp,
        why: ScheduleEnd,
    },
    /// What is in the target became what was reviewed.
    PromotionApplied {
        target: CrewId,
        /// Who did, or who scheduled it.
        user: UserId,
        /// The version of the target's contents since.
        version: u64,
        scheduled: bool,
    },
    /// Somebody looked whether it does what it should.
    PromotionChecked {
        target: CrewId,
        checks: Vec<CheckResult>,
        /// JSON of the evidence by the names of the checks.
        evidence: Option<Sealed>,
        /// Whether all of them passed.
        verified: bool,
        checked_by: Actor,
    },
    /// The target became what it was before.
    PromotionRolledBack {
        target: CrewId,
        user: UserId,
        /// The version of the target's contents since.
        version: u64,
        /// Whether later changes went with it.
        forced: bool,
    },
}

impl PromotionEvent {
    /// The crew that the promotion changes.
    pub fn target(&self) -> CrewId {
        match self {
            Self::PromotionProposed { target, .. } => target.id,
            Self::PromotionRefreshed { target, .. }
            | Self::PromotionApproved { target, .. }
            | Self::PromotionRejected { target, .. }
            | Self::PromotionCancelled { target, .. }
            | Self::PromotionScheduled { target, .. }
            | Self::PromotionScheduleEnded { target, .. }
            | Self::PromotionApplied { target, .. }
            | Self::PromotionChecked { target, .. }
            | Self::PromotionRolledBack { target, .. } => *target,
        }
    }

    /// The contents that it names from now on.
    pub fn contents(&self) -> Vec<Content> {
        match self {
            Self::PromotionProposed { review, .. } | Self::PromotionRefreshed { review, .. } => {
                vec![review.plan]
            }
            Self::PromotionApproved { .. }
            | Self::PromotionRejected { .. }
            | Self::PromotionCancelled { .. }
            | Self::PromotionScheduled { .. }
            | Self::PromotionScheduleEnded { .. }
            | Self::PromotionApplied { .. }
            | Self::PromotionChecked { .. }
            | Self::PromotionRolledBack { .. } => vec![],
        }
    }
}
