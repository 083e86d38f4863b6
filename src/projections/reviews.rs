//! The access reviews of a workspace: one document each, without its decisions, which are many and
//! are folded from its stream where they are shown.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::{OrganizationId, ReviewId, UserId, WorkspaceId},
        review::{REMINDERS_DAYS, ReviewEvent, ReviewStatus, ReviewTerms},
    },
    journal::Recorded,
};

/// A campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewDocument {
    pub id: ReviewId,
    pub workspace: WorkspaceId,
    pub organization: OrganizationId,
    pub terms: ReviewTerms,
    pub status: ReviewStatus,
    pub opened_by: UserId,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Sequence of its last event.
    pub version: u64,
    pub pinned_at: u64,
    /// How much access there is to decide about, and about how much somebody has.
    pub items: u64,
    pub decided: u64,
    pub reminded: Vec<u16>,
    pub previous: Option<ReviewId>,
    /// Where and how it ended.
    pub closed: Option<ReviewEnd>,
    /// The position of the entry with the digests of its report.
    pub reported_at: Option<u64>,
    pub has_recurred: bool,
    pub next: Option<ReviewId>,
}

/// How a campaign ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewEnd {
    pub position: u64,
    pub at: Timestamp,
    pub timed_out: bool,
    pub kept: u64,
    pub applied: u64,
    pub not_applied: u64,
}

impl ReviewDocument {
    /// The reminder that comes next, as days before the end and its moment. One whose time was
    /// over when the campaign opened never comes.
    pub fn next_reminder(&self) -> Option<(u16, Timestamp)> {
        let due = |days: u16| self.terms.due_at.plus(-chrono::TimeDelta::days(days.into()));
        let left = REMINDERS_DAYS.into_iter().map(|days| (days, due(days)));
        let mut left = left.filter(|(days, at)| *at > self.created_at && !self.reminded.contains(days));
        left.next()
    }

    /// When the next one opens by itself.
    pub fn recurs_at(&self) -> Option<Timestamp> {
        let days = self.terms.recurs_after_days.filter(|_| !self.has_recurred)?;
        Some(self.created_at.plus(chrono::TimeDelta::days(days.into())))
    }

    /// When something about it is due.
    fn deadline(&self) -> Option<Timestamp> {
        match self.status {
            ReviewStatus::Open => {
                let reminder = self.next_reminder().map(|(_, at)| at);
                Some(reminder.map_or(self.terms.due_at, |at| at.min(self.terms.due_at)))
            }
            ReviewStatus::Closing => Some(self.updated_at),
            ReviewStatus::Closed if self.reported_at.is_none() => Some(self.updated_at),
            ReviewStatus::Closed => self.recurs_at(),
        }
    }
}

/// See the module.
pub struct Reviews;

impl Projection for Reviews {
    type Document = ReviewDocument;
    const NAME: &'static str = "access_reviews";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::Review(_) => vec![event.aggregate_id.clone()],
            Event::User(_)
            | Event::Organization(_)
            | Event::Workspace(_)
            | Event::Crew(_)
            | Event::Attempts(_) => vec![],
        }
    }

    fn fold(
        document: Option<ReviewDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<ReviewDocument>, CannotFold> {
        let Event::Review(happened) = &event.event else {
            return Ok(document);
        };
        if let ReviewEvent::ReviewOpened {
            review,
            workspace,
            organization,
            terms,
            opened_by,
            opened_at: _,
            pinned_at,
            items,
            previous,
        } = happened
        {
            return Ok(Some(ReviewDocument {
                id: *review,
                workspace: *workspace,
                organization: *organization,
                terms: terms.clone(),
                status: ReviewStatus::Open,
                opened_by: *opened_by,
                created_at: event.recorded_at,
                updated_at: event.recorded_at,
                version: event.sequence,
                pinned_at: *pinned_at,
                items: *items,
                decided: 0,
                reminded: vec![],
                previous: *previous,
                closed: None,
                reported_at: None,
                has_recurred: false,
                next: None,
            }));
        }
        let mut review = present(document, key)?;
        review.updated_at = event.recorded_at;
        review.version = event.sequence;
        match happened {
            ReviewEvent::ReviewOpened { .. } | ReviewEvent::AccessSettled { .. } => {}
            ReviewEvent::ReviewReminded { days_left, .. } => review.reminded.push(*days_left),
            ReviewEvent::AccessDecided { again, .. } => review.decided += u64::from(!again),
            ReviewEvent::DecisionReturned { .. } => review.decided -= 1,
            ReviewEvent::ReviewClosing { .. } => review.status = ReviewStatus::Closing,
            ReviewEvent::ReviewReopened { .. } => review.status = ReviewStatus::Open,
            ReviewEvent::ReviewClosed {
                timed_out,
                kept,
                applied,
                not_applied,
            } => {
                review.status = ReviewStatus::Closed;
                review.closed = Some(ReviewEnd {
                    position: event.position,
                    at: event.recorded_at,
                    timed_out: *timed_out,
                    kept: *kept,
                    applied: *applied,
                    not_applied: *not_applied,
                });
            }
            ReviewEvent::ReviewReported { .. } => review.reported_at = Some(event.position),
            ReviewEvent::ReviewRecurred { next } => {
                review.has_recurred = true;
                review.next = *next;
            }
        }
        Ok(Some(review))
    }

    fn columns(review: &ReviewDocument) -> Columns {
        Columns {
            workspace: Some(review.workspace.to_string()),
            parent: Some(review.workspace.to_string()),
            deadline: review.deadline().map(|at| at.0),
            ..Columns::default()
        }
    }
}
