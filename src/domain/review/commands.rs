//! What can be asked of an access review.

use std::collections::BTreeSet;

use super::{Decision, Finding, RecurrenceEnd, ReviewTerms, Reviewed, Settlement};
use crate::domain::{
    Timestamp,
    ids::{OrganizationId, PrincipalId, ReviewId, UserId, WorkspaceId},
    sealed::Sealed,
};

/// Commands to the stream `review`. That the person may run reviews in the workspace is asked of
/// the workspace, in the same unit.
#[derive(Debug, Clone, PartialEq)]
pub enum ReviewCommand {
    /// Begin a campaign.
    Open {
        review: ReviewId,
        workspace: WorkspaceId,
        organization: OrganizationId,
        terms: ReviewTerms,
        actor: UserId,
        pinned_at: u64,
        items: u64,
        previous: Option<ReviewId>,
    },
    /// Remind of what is left. Due work; accepted once for each number of days.
    Remind { days_left: u16 },
    /// Decide about access.
    Decide(DecideAccess),
    /// Carry out what was decided; nothing happens where that goes on already, or is done.
    BeginClosing {
        /// None for due work, when the time has run out.
        actor: Option<UserId>,
    },
    /// Note what became of access; nothing happens where it is noted.
    Settle {
        item: PrincipalId,
        decision: Decision,
        outcome: Settlement,
        applied_by: Option<UserId>,
    },
    /// Everything is settled: close it, or have what changed decided about anew.
    FinishClosing,
    /// Note that the next campaign opens in the same unit, or why none does; accepted once.
    Recur {
        next: Result<ReviewId, RecurrenceEnd>,
    },
    /// Open no other by itself; nothing happens where none would be.
    StopRecurring { actor: UserId },
}

/// A decision, and what it looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct DecideAccess {
    pub actor: UserId,
    pub item: PrincipalId,
    pub kind: Reviewed,
    pub decision: Decision,
    /// The mark of the access that the reviewer saw.
    pub seen_at: u64,
    /// Its mark now; none where there is no access any more.
    pub present: Option<u64>,
    /// Whom the access is, or counts as: none of them decides about it.
    pub subjects: BTreeSet<UserId>,
    pub reason: Sealed,
    pub findings: Vec<Finding>,
    pub last_used_at: Option<Timestamp>,
}
