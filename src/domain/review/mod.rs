//! An access review: a campaign over who had access at a position, who decides about it, and what
//! becomes of each decision.
//!
//! What there is to decide about is not kept here: it follows from the position. Here is what was
//! decided and on which event each decision looked, so that nothing is carried out that nobody
//! saw. Nobody decides about themselves, and a key counts as everybody who made, rotated or
//! changed it. The changes themselves are the workspace's to decide, when they are carried out,
//! on the authority of whoever decided them.
//!
//! To add something: an event, the command that asks for it, a function that decides it, its arm
//! in `apply`, and its rule in `tests.rs`.

mod commands;
mod events;
mod findings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};

pub use commands::ReviewCommand;
pub use events::{Decision, ReviewEvent, ReviewTerms, Reviewed, Settlement, Undecided};
pub use findings::{Evidence, Finding, findings, recommended};

use super::{
    Moment, Refusal, Stream, Timestamp,
    ids::{OrganizationId, PrincipalId, ReviewId, UserId, WorkspaceId},
};

/// The most reviewers of one campaign.
pub const REVIEWERS_MAX: usize = 50;
/// The longest that a campaign goes on, and the longest until the next one.
pub const DURATION_MAX: TimeDelta = TimeDelta::days(366);
/// Days before the end at which reviewers are reminded, most first.
pub const REMINDERS_DAYS: [u16; 3] = [7, 3, 1];

/// How a campaign stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewStatus {
    #[default]
    Open,
    /// What was decided is being carried out.
    Closing,
    Closed,
}

impl ReviewStatus {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// A decision that counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    pub decision: Decision,
    /// Position of the event that gave the access, as the reviewer saw it.
    pub seen_at: u64,
    pub by: UserId,
    /// Position of the decision; 0 until the log has given it one.
    pub position: u64,
}

/// A campaign, folded from its events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Review {
    id: Option<ReviewId>,
    workspace: Option<WorkspaceId>,
    organization: Option<OrganizationId>,
    terms: Option<ReviewTerms>,
    opened_by: Option<UserId>,
    opened_at: Timestamp,
    /// Position of its opening; 0 until the log has given it one.
    position: u64,
    pinned_at: u64,
    items: u64,
    status: ReviewStatus,
    /// Who closes it; none while it is open, or where its time ran out.
    closed_by: Option<UserId>,
    reminded: BTreeSet<u16>,
    decisions: BTreeMap<PrincipalId, Decided>,
    settled: BTreeMap<PrincipalId, Settlement>,
    is_reported: bool,
    has_recurred: bool,
}

type Events = Result<Vec<ReviewEvent>, Refusal>;

impl Review {
    /// Its terms; none before it was opened.
    pub fn terms(&self) -> Option<&ReviewTerms> {
        self.terms.as_ref()
    }

    /// Who opened it; none before anybody did.
    pub fn opened_by(&self) -> Option<UserId> {
        self.opened_by
    }

    /// Position of its opening.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How it stands.
    pub fn status(&self) -> ReviewStatus {
        self.status
    }

    /// The decision about access that counts.
    pub fn decision(&self, item: PrincipalId) -> Option<Decided> {
        self.decisions.get(&item).copied()
    }

    /// Whether it is known what became of access.
    pub fn is_settled(&self, item: PrincipalId) -> bool {
        self.settled.contains_key(&item)
    }

    fn decide(&self, command: ReviewCommand, now: Timestamp) -> Events {
        match command {
            ReviewCommand::Open {
                review,
                workspace,
                organization,
                terms,
                actor,
                pinned_at,
                items,
                previous,
            } => {
                if self.id.is_some() {
                    return Err(Refusal::AlreadyExists { what: "review" });
                }
                terms_are_right(&terms, now)?;
                Ok(vec![ReviewEvent::ReviewOpened {
                    review,
                    workspace,
                    organization,
                    terms,
                    opened_by: actor,
                    opened_at: now,
                    pinned_at,
                    items,
                    previous,
                }])
            }
            ReviewCommand::Remind { days_left } => self.remind(days_left),
            ReviewCommand::Decide {
                actor,
                item,
                decision,
                seen_at,
                subjects,
                reason,
                findings,
                last_used_at,
            } => {
                self.may_decide(actor, item, &subjects, now)?;
                if matches!((item, decision), (PrincipalId::Key(_), Decision::Change { .. })) {
                    return Err(Refusal::WrongValue {
                        field: "decision",
                        detail: "only a member's role is changed; an API key is kept or revoked",
                    });
                }
                Ok(vec![ReviewEvent::AccessDecided {
                    item,
                    decision,
                    seen_at,
                    decided_by: actor,
                    reason,
                    findings,
                    last_used_at,
                    again: self.decisions.contains_key(&item),
                }])
            }
            ReviewCommand::BeginClosing { actor } => self.begin_closing(actor, now),
            ReviewCommand::Settle { item, outcome } => {
                let is_known = self.status != ReviewStatus::Closing || self.is_settled(item);
                let settled = ReviewEvent::AccessSettled { item, outcome };
                Ok(if is_known { vec![] } else { vec![settled] })
            }
            ReviewCommand::FinishClosing => Ok(self.finish_closing(now)),
            ReviewCommand::Report { json, csv, html } => {
                let is_due = self.status == ReviewStatus::Closed && !self.is_reported;
                let reported = ReviewEvent::ReviewReported { json, csv, html };
                Ok(if is_due { vec![reported] } else { vec![] })
            }
            ReviewCommand::Recur { next } => {
                let is_due = self.status == ReviewStatus::Closed && !self.has_recurred;
                Ok(if is_due { vec![ReviewEvent::ReviewRecurred { next }] } else { vec![] })
            }
        }
    }

    fn existing(&self) -> Result<&ReviewTerms, Refusal> {
        self.terms.as_ref().ok_or(Refusal::NotFound {
            what: "access review",
            hidden: false,
        })
    }

    fn is_open(&self, now: Timestamp) -> Result<&ReviewTerms, Refusal> {
        let terms = self.existing()?;
        if self.status != ReviewStatus::Open || terms.due_at <= now {
            let status = match self.status {
                ReviewStatus::Open | ReviewStatus::Closing => ReviewStatus::Closing,
                ReviewStatus::Closed => ReviewStatus::Closed,
            };
            return Err(Refusal::ReviewNotOpen {
                status: status.name(),
            });
        }
        Ok(terms)
    }

    fn may_decide(
        &self,
        actor: UserId,
        item: PrincipalId,
        subjects: &BTreeSet<UserId>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let terms = self.is_open(now)?;
        if !terms.reviewers.contains(&actor) {
            return Err(Refusal::NotReviewer);
        }
        if item == PrincipalId::User(actor) || subjects.contains(&actor) {
            return Err(Refusal::SelfReview);
        }
        Ok(())
    }

    fn remind(&self, days_left: u16) -> Events {
        let terms = self.existing()?;
        let undecided = self.items.saturating_sub(self.decisions.len() as u64);
        if self.status != ReviewStatus::Open || self.reminded.contains(&days_left) {
            return Ok(vec![]);
        }
        Ok(vec![ReviewEvent::ReviewReminded {
            days_left,
            undecided,
            due_at: terms.due_at,
        }])
    }

    fn begin_closing(&self, actor: Option<UserId>, now: Timestamp) -> Events {
        let terms = self.existing()?;
        let is_over = terms.due_at <= now;
        match (self.status, actor) {
            (ReviewStatus::Closing | ReviewStatus::Closed, None) => Ok(vec![]),
            // Twice is once.
            (ReviewStatus::Closing, Some(_)) => Ok(vec![]),
            (ReviewStatus::Closed, Some(_)) => Err(Refusal::ReviewNotOpen { status: "closed" }),
            (ReviewStatus::Open, None) if !is_over => Ok(vec![]),
            (ReviewStatus::Open, actor) => {
                let closed_by = actor.filter(|_| !is_over);
                Ok(vec![ReviewEvent::ReviewClosing { closed_by }])
            }
        }
    }

    fn finish_closing(&self, now: Timestamp) -> Vec<ReviewEvent> {
        let Some(terms) = self.terms.as_ref().filter(|_| self.status == ReviewStatus::Closing)
        else {
            return vec![];
        };
        let changed = self.settled.iter().filter(|(item, outcome)| {
            **outcome == Settlement::Changed && self.decisions.contains_key(item)
        });
        let changed: Vec<_> = changed.map(|(item, _)| *item).collect();
        // Where there is time left, what has changed is shown again.
        if self.closed_by.is_some() && now < terms.due_at && !changed.is_empty() {
            let returned = changed.len() as u64;
            let events = changed.into_iter().map(|item| ReviewEvent::DecisionReturned { item });
            return events.chain([ReviewEvent::ReviewReopened { returned }]).collect();
        }
        let settled = self.settled.len() as u64;
        let applied = self.settled.values().filter(|outcome| **outcome == Settlement::Applied);
        let applied = applied.count() as u64;
        vec![ReviewEvent::ReviewClosed {
            timed_out: self.closed_by.is_none(),
            kept: self.items.saturating_sub(settled),
            applied,
            not_applied: settled - applied,
        }]
    }
}

fn terms_are_right(terms: &ReviewTerms, now: Timestamp) -> Result<(), Refusal> {
    let wrong = |field, detail| Err(Refusal::WrongValue { field, detail });
    if terms.principals.is_empty() {
        return wrong("scope", "name at least one kind of access to review");
    }
    if terms.reviewers.is_empty() || terms.reviewers.len() > REVIEWERS_MAX {
        return wrong("reviewers", "1 to 50 people");
    }
    if terms.due_at <= now {
        return wrong("due_at", "this must be in the future");
    }
    if terms.due_at > now.plus(DURATION_MAX) {
        return wrong("due_at", "this is too far away");
    }
    Ok(())
}

impl Aggregate for Review {
    const TYPE: &'static str = "review";
    type Command = ReviewCommand;
    type Event = ReviewEvent;
    type Error = Refusal;
    type Services = Moment;

    async fn handle(
        &mut self,
        command: ReviewCommand,
        moment: &Moment,
        sink: &EventSink<Self>,
    ) -> Result<(), Refusal> {
        // All is decided before the first write, and `write` applies: a refusal changes
        // nothing, and nothing is applied twice.
        for event in self.decide(command, moment.now)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ReviewEvent) {
        match event {
            ReviewEvent::ReviewOpened {
                review,
                workspace,
                organization,
                terms,
                opened_by,
                opened_at,
                pinned_at,
                items,
                previous: _,
            } => {
                self.id = Some(review);
                self.workspace = Some(workspace);
                self.organization = Some(organization);
                self.terms = Some(terms);
                self.opened_by = Some(opened_by);
                self.opened_at = opened_at;
                self.pinned_at = pinned_at;
                self.items = items;
            }
            ReviewEvent::ReviewReminded { days_left, .. } => {
                self.reminded.insert(days_left);
            }
            ReviewEvent::AccessDecided {
                item,
                decision,
                seen_at,
                decided_by: by,
                ..
            } => {
                let decided = Decided {
                    decision,
                    seen_at,
                    by,
                    position: 0,
                };
                self.decisions.insert(item, decided);
            }
            ReviewEvent::ReviewClosing { closed_by } => {
                self.status = ReviewStatus::Closing;
                self.closed_by = closed_by;
            }
            ReviewEvent::AccessSettled { item, outcome } => {
                self.settled.insert(item, outcome);
            }
            ReviewEvent::DecisionReturned { item } => {
                self.decisions.remove(&item);
                self.settled.remove(&item);
            }
            ReviewEvent::ReviewReopened { .. } => {
                self.status = ReviewStatus::Open;
                self.closed_by = None;
            }
            ReviewEvent::ReviewClosed { .. } => self.status = ReviewStatus::Closed,
            ReviewEvent::ReviewReported { .. } => self.is_reported = true,
            ReviewEvent::ReviewRecurred { .. } => self.has_recurred = true,
        }
    }
}

impl Stream for Review {
    const STATE_VERSION: i64 = 1;

    fn positioned(&mut self, event: &ReviewEvent, position: u64) {
        match event {
            ReviewEvent::ReviewOpened { .. } => self.position = position,
            ReviewEvent::AccessDecided { item, .. } => {
                if let Some(decided) = self.decisions.get_mut(item) {
                    decided.position = position;
                }
            }
            ReviewEvent::ReviewReminded { .. }
            | ReviewEvent::ReviewClosing { .. }
            | ReviewEvent::AccessSettled { .. }
            | ReviewEvent::DecisionReturned { .. }
            | ReviewEvent::ReviewReopened { .. }
            | ReviewEvent::ReviewClosed { .. }
            | ReviewEvent::ReviewReported { .. }
            | ReviewEvent::ReviewRecurred { .. } => {}
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }

    fn weight_bytes(&self) -> usize {
        // Entries with their share of the node.
        size_of::<Self>() + self.decisions.len() * 96 + self.settled.len() * 64 + REVIEWERS_MAX * 24
    }
}

impl DomainEvent for ReviewEvent {
    fn event_type(&self) -> String {
        match self {
            Self::ReviewOpened { .. } => "review_opened",
            Self::ReviewReminded { .. } => "review_reminded",
            Self::AccessDecided { .. } => "access_decided",
            Self::ReviewClosing { .. } => "review_closing",
            Self::AccessSettled { .. } => "access_settled",
            Self::DecisionReturned { .. } => "decision_returned",
            Self::ReviewReopened { .. } => "review_reopened",
            Self::ReviewClosed { .. } => "review_closed",
            Self::ReviewReported { .. } => "review_reported",
            Self::ReviewRecurred { .. } => "review_recurred",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
