//! What can be asked of an access review.

use std::collections::BTreeSet;

use super::{Decision, ReviewTerms, Settlement};
use crate::domain::{
    Timestamp,
    contents::Digest,
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
    Decide {
        actor: UserId,
        item: PrincipalId,
        decision: Decision,
        seen_at: u64,
        /// Whom the access is, or counts as: none of them decides about it.
        subjects: BTreeSet<UserId>,
        reason: Sealed,
        findings: Vec<String>,
        last_used_at: Option<Timestamp>,
    },
    /// Carry out what was decided; nothing happens where that goes on already.
    BeginClosing {
        /// None for due work, when the time has run out.
        actor: Option<UserId>,
    },
    /// Note what became of access; nothing happens where it is noted.
    Settle {
        item: PrincipalId,
        outcome: Settlement,
    },
    /// Everything is settled: close it, or have what changed decided about anew.
    FinishClosing,
    /// Note the digests of the report; accepted once.
    Report {
        json: Digest,
        csv: Digest,
        html: Digest,
    },
    /// Note that the next campaign opens in the same unit; accepted once.
    Recur { next: Option<ReviewId> },
}
