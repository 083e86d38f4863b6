//! The access reviews of a workspace: one document each, without its decisions, which are many and
//! are folded from its stream where they are shown.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::{EventId, OrganizationId, ReviewId, UserId, WorkspaceId},
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
    /// The event that began to close it, and who did; what is carried out names it as its cause.
    pub closing: Option<ReviewClosing>,
    /// Where and how it ended.
    pub closed: Option<ReviewEnd>,
    pub has_recurred: bool,
    pub next: Option<ReviewId>,
}

/// What began to close a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewClosing {
    pub event: EventId,
    /// None where its time ran out.
    pub by: Option<UserId>,
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
    /// The reminder that is due at `now`, as days before the end: of several the last, as it is
    /// too late for the others.
    pub fn reminder_due(&self, now: Timestamp) -> Option<u16> {
        let left = self.reminders_left();
        left.filter(|(_, at)| *at <= now)
            .map(|(days, _)| days)
            .last()
    }

    /// The reminders that are to come, with their moments. One whose time was over when the
    /// campaign opened never comes.
    fn reminders_left(&self) -> impl Iterator<Item = (u16, Timestamp)> {
        let due = |days: u16| {
            self.terms
                .due_at
                .plus(-chrono::TimeDelta::days(days.into()))
        };
        let last_told = self.reminded.iter().min().copied().unwrap_or(u16::MAX);
        let all = REMINDERS_DAYS
            .into_iter()
            .map(move |days| (days, due(days)));
        all.filter(move |(days, at)| *at > self.created_at && *days < last_told)
    }

    /// When the next one opens by itself.
    pub fn recurs_at(&self) -> Option<Timestamp> {
        let days = self
            .terms
            .recurs_after_days
            .filter(|_| !self.has_recurred)?;
        Some(self.created_at.plus(chrono::TimeDelta::days(days.into())))
    }

    /// When something about it is due.
    fn deadline(&self) -> Option<Timestamp> {
        match self.status {
            ReviewStatus::Open => {
                let reminder = self.reminders_left().map(|(_, at)| at).next();
                Some(reminder.unwrap_or(self.terms.due_at))
            }
            ReviewStatus::Closing => Some(self.updated_at),
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
            | Event::Promotion(_)
            | Event::Attempts(_)
            | Event::Installation(_) => vec![],
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
                closing: None,
                closed: None,
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
            ReviewEvent::ReviewClosing { closed_by: by } => {
                review.status = ReviewStatus::Closing;
                let (event, by) = (event.id, *by);
                review.closing = Some(ReviewClosing { event, by });
            }
            ReviewEvent::ReviewReopened { returned } => {
                review.status = ReviewStatus::Open;
                review.closing = None;
                review.decided = review.decided.saturating_sub(returned.len() as u64);
            }
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
            ReviewEvent::ReviewRecurred { next, ended: _ } => {
                review.has_recurred = true;
                review.next = *next;
            }
            ReviewEvent::ReviewRecurrenceStopped { .. } => review.has_recurred = true,
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
