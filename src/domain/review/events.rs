//! What can be said to have happened to an access review.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Finding;
use crate::domain::{
    Timestamp,
    authority::Role,
    environment::Environment,
    ids::{OrganizationId, PrincipalId, ReviewId, UserId, WorkspaceId},
    sealed::Sealed,
};

/// A kind of access that is reviewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reviewed {
    Members,
    ApiKeys,
    Auditors,
}

impl Reviewed {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Members, Self::ApiKeys, Self::Auditors];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::ApiKeys => "api_keys",
            Self::Auditors => "auditors",
        }
    }
}

/// What happens to access that nobody has decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undecided {
    Keep,
    Revoke,
}

impl Undecided {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Revoke => "revoke",
        }
    }
}

/// What a campaign is about, and how it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewTerms {
    /// What people call it.
    pub name: String,
    pub principals: BTreeSet<Reviewed>,
    /// Only what reaches it.
    pub environment: Option<Environment>,
    pub reviewers: BTreeSet<UserId>,
    /// First moment at which nobody decides any more.
    pub due_at: Timestamp,
    pub undecided: Undecided,
    /// Days after its opening at which the next one opens by itself.
    pub recurs_after_days: Option<u16>,
}

/// What a reviewer has decided about access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Keep,
    Revoke,
    /// A member gets another role.
    Change {
        role: Role,
    },
}

impl Decision {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Revoke => "revoke",
            Self::Change { .. } => "change",
        }
    }

    /// The new role, where it is one.
    pub fn role(self) -> Option<Role> {
        match self {
            Self::Change { role } => Some(role),
            Self::Keep | Self::Revoke => None,
        }
    }
}

/// What became of access when its campaign closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// What was decided was done.
    Applied,
    /// It was changed since whoever decided saw it, so nothing was done.
    Changed,
    /// There was no access any more.
    Gone,
    /// It could not be done, such as of the last owner.
    Refused { code: String },
}

impl Settlement {
    /// The name on the wire; of a refusal, [`Settlement::Refused`] has the code besides.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Changed => "changed",
            Self::Gone => "gone",
            Self::Refused { .. } => "refused",
        }
    }
}

/// Why no other campaign opens by itself any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecurrenceEnd {
    /// None of its reviewers may run reviews any more.
    NobodyReviews,
    /// There is more access than one campaign takes: it is reviewed in parts.
    TooMuchAccess,
}

impl RecurrenceEnd {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::NobodyReviews => "nobody_reviews",
            Self::TooMuchAccess => "too_much_access",
        }
    }
}

/// Events of the stream `review`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ReviewEvent {
    /// A campaign began, over access as it was at a position.
    ReviewOpened {
        review: ReviewId,
        workspace: WorkspaceId,
        organization: OrganizationId,
        terms: ReviewTerms,
        opened_by: UserId,
        opened_at: Timestamp,
        /// The last position that it takes into account.
        pinned_at: u64,
        /// How much access there is to decide about.
        items: u64,
        /// The campaign that this one follows on by itself.
        previous: Option<ReviewId>,
    },
    /// Its reviewers were reminded of what is left.
    ReviewReminded {
        days_left: u16,
        undecided: u64,
        due_at: Timestamp,
    },
    /// A reviewer decided, or decided otherwise.
    AccessDecided {
        item: PrincipalId,
        decision: Decision,
        /// Position of the event that the access stood on, as the reviewer saw it.
        seen_at: u64,
        decided_by: UserId,
        reason: Sealed,
        /// Why the access was worth a look, as the reviewer was told.
        findings: Vec<Finding>,
        last_used_at: Option<Timestamp>,
        /// Whether it replaces another decision.
        again: bool,
    },
    /// Nothing is decided from here on, and what was decided is carried out.
    ReviewClosing {
        /// None when its time ran out.
        closed_by: Option<UserId>,
    },
    /// What became of access that was not simply kept. A change of it is an event of its own, in
    /// the same unit.
    AccessSettled {
        item: PrincipalId,
        decision: Decision,
        outcome: Settlement,
        /// On whose authority; none where nothing was done.
        applied_by: Option<UserId>,
    },
    /// Access was changed since it was decided about: it is decided about anew.
    ReviewReopened { returned: Vec<PrincipalId> },
    /// The campaign is over.
    ReviewClosed {
        timed_out: bool,
        kept: u64,
        applied: u64,
        not_applied: u64,
    },
    /// The next one was opened by itself, or could not be; then there is none.
    ReviewRecurred {
        next: Option<ReviewId>,
        /// Why there is none; older entries do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ended: Option<RecurrenceEnd>,
    },
    /// No other opens by itself any more.
    ReviewRecurrenceStopped { stopped_by: UserId },
}
