//! An access review: a campaign over who had access at a position, who decides about it, and what
//! becomes of each decision.
//!
//! What there is to decide about is not kept here: it follows from the position (`items.rs`). Here
//! is what was decided and on which event each decision looked, so that nothing is carried out
//! that nobody saw. Nobody decides about themselves, and a key counts as everybody who made,
//! rotated or changed it. The changes themselves are the workspace's to decide, when they are
//! carried out, on the authority of whoever decided them.
//!
//! To add something: an event, the command that asks for it, a function that decides it, its arm
//! in `apply`, and its rule in `tests.rs`.

mod commands;
mod events;
mod findings;
mod items;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};

pub use commands::{DecideAccess, ReviewCommand};
pub use events::{
    Decision, RecurrenceEnd, ReviewEvent, ReviewTerms, Reviewed, Settlement, Undecided,
};
pub use findings::{EVIDENCE_COUNTS_FOR, Evidence, Finding, findings, needed_for, recommended};
pub use items::{Access, Item, Items, Newest, kind_of};

use super::{
    Moment, Refusal, Stream, Timestamp,
    ids::{OrganizationId, PrincipalId, ReviewId, UserId, WorkspaceId},
};

/// The most reviewers of one campaign.
pub const REVIEWERS_MAX: usize = 50;
/// The most access that one campaign is about.
pub const ITEMS_MAX: u64 = 20_000;
/// The longest that a campaign goes on, and the longest until the next one.
pub const DURATION_DAYS_MAX: u16 = 366;
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
    /// The mark of the access, as the reviewer saw it.
    pub seen_at: u64,
    pub by: UserId,
    /// Position of the decision; 0 until the log has given it one.
    pub position: u64,
}

/// What is left to do about access when its campaign closes.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Nothing can be done, or need be: note it.
    Note {
        decision: Decision,
        outcome: Settlement,
    },
    /// Carry it out on the authority of the first of these who may.
    Apply {
        decision: Decision,
        by: Vec<UserId>,
        access: Access,
        /// Position of what was decided: of the decision, or of the campaign with its rule.
        position: u64,
    },
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
    items: u64,
    status: ReviewStatus,
    /// Who closes it; none while it is open, or where its time ran out.
    closed_by: Option<UserId>,
    /// Position of what opened it again; 0 where nothing has, or the log has given it none.
    reopened_at: u64,
    reminded: BTreeSet<u16>,
    decisions: BTreeMap<PrincipalId, Decided>,
    settled: BTreeMap<PrincipalId, Settlement>,
    /// Whether another has opened by itself, or none is to.
    has_recurred: bool,
}

type Events = Result<Vec<ReviewEvent>, Refusal>;

impl Review {
    /// Its terms; none before it was opened.
    pub fn terms(&self) -> Option<&ReviewTerms> {
        self.terms.as_ref()
    }

    /// How it stands.
    pub fn status(&self) -> ReviewStatus {
        self.status
    }

    /// Whether it was opened again after a position: whoever closes it as it was then has not seen
    /// what came back.
    pub fn is_reopened_since(&self, position: u64) -> bool {
        self.reopened_at > position
    }

    /// Whether the next one is still to open by itself at `now`.
    pub fn recurs(&self, now: Timestamp) -> bool {
        let days = self
            .terms
            .as_ref()
            .and_then(|terms| terms.recurs_after_days);
        let is_time =
            days.is_some_and(|days| self.opened_at.plus(TimeDelta::days(days.into())) <= now);
        self.status == ReviewStatus::Closed && !self.has_recurred && is_time
    }

    /// What is left to do about access, as it is now, when the campaign closes; none where it is
    /// kept, or done.
    pub fn task(&self, id: PrincipalId, item: &Item, access: Option<Access>) -> Option<Task> {
        if self.settled.contains_key(&id) {
            return None;
        }
        let decided = self.decisions.get(&id);
        let rule = self.terms.as_ref().map(|terms| terms.undecided);
        let (decision, seen_at) = match (decided, rule) {
            (Some(decided), _) => (decided.decision, decided.seen_at),
            (None, Some(Undecided::Revoke)) => (Decision::Revoke, item.mark),
            (None, Some(Undecided::Keep) | None) => return None,
        };
        let note = |outcome| Some(Task::Note { decision, outcome });
        match access {
            None => note(Settlement::Gone),
            Some(access) if access.mark != seen_at => note(Settlement::Changed),
            Some(_) if decision == Decision::Keep => None,
            Some(access) => Some(Task::Apply {
                decision,
                by: match decided {
                    Some(decided) => vec![decided.by],
                    None => self.stand_for_the_rule(&access),
                },
                position: decided.map_or(self.position, |decided| decided.position),
                access,
            }),
        }
    }

    /// Who carries out what nobody has decided: whoever closes the campaign or opened it, or a
    /// reviewer, but for whom it is about.
    fn stand_for_the_rule(&self, access: &Access) -> Vec<UserId> {
        let reviewers = self
            .terms
            .iter()
            .flat_map(|terms| &terms.reviewers)
            .copied();
        let people = self
            .closed_by
            .into_iter()
            .chain(self.opened_by)
            .chain(reviewers);
        let mut chosen = Vec::new();
        for user in people {
            if !access.subjects.contains(&user) && !chosen.contains(&user) {
                chosen.push(user);
            }
        }
        chosen
    }

    fn decide(&self, command: ReviewCommand, now: Timestamp) -> Events {
        match command {
            ReviewCommand::Open {
                review,
                workspace,
                organization,
                terms,
                actor: opened_by,
                pinned_at,
                items,
                previous,
            } => {
                if self.id.is_some() {
                    return Err(Refusal::AlreadyExists { what: "review" });
                }
                terms_are_right(&terms, items, now)?;
                Ok(vec![ReviewEvent::ReviewOpened {
                    review,
                    workspace,
                    organization,
                    terms,
                    opened_by,
                    opened_at: now,
                    pinned_at,
                    items,
                    previous,
                }])
            }
            ReviewCommand::Remind { days_left } => self.remind(days_left, now),
            ReviewCommand::Decide(asked) => self.decide_access(asked, now),
            ReviewCommand::BeginClosing { actor } => self.begin_closing(actor, now),
            ReviewCommand::Settle {
                item,
                decision,
                outcome,
                applied_by,
            } => {
                let is_left =
                    self.status == ReviewStatus::Closing && !self.settled.contains_key(&item);
                Ok(only(is_left, || ReviewEvent::AccessSettled {
                    item,
                    decision,
                    outcome,
                    applied_by,
                }))
            }
            ReviewCommand::FinishClosing => Ok(self.finish_closing(now)),
            ReviewCommand::Recur { next } => {
                Ok(only(self.recurs(now), || ReviewEvent::ReviewRecurred {
                    next: next.ok(),
                    ended: next.err(),
                }))
            }
            ReviewCommand::StopRecurring { actor } => {
                let terms = self.existing()?;
                let is_left = terms.recurs_after_days.is_some() && !self.has_recurred;
                let stopped = || ReviewEvent::ReviewRecurrenceStopped { stopped_by: actor };
                Ok(only(is_left, stopped))
            }
        }
    }

    fn existing(&self) -> Result<&ReviewTerms, Refusal> {
        self.terms.as_ref().ok_or(Refusal::NotFound {
            what: "access review",
            hidden: false,
        })
    }

    fn decide_access(&self, asked: DecideAccess, now: Timestamp) -> Events {
        self.may_decide(&asked, now)?;
        let item = asked.item;
        if let (Decision::Change { .. }, Reviewed::ApiKeys | Reviewed::Auditors) =
            (asked.decision, asked.kind)
        {
            return Err(Refusal::WrongValue {
                field: "decisions",
                detail: "only a member's role is changed; anything else is kept or revoked",
            });
        }
        if self.settled.contains_key(&item) {
            return Err(Refusal::AccessSettled { item });
        }
        if asked.present != Some(asked.seen_at) {
            return Err(Refusal::AccessChanged { item });
        }
        Ok(vec![ReviewEvent::AccessDecided {
            item,
            decision: asked.decision,
            seen_at: asked.seen_at,
            decided_by: asked.actor,
            reason: asked.reason,
            findings: asked.findings,
            last_used_at: asked.last_used_at,
            again: self.decisions.contains_key(&item),
        }])
    }

    fn may_decide(&self, asked: &DecideAccess, now: Timestamp) -> Result<(), Refusal> {
        let terms = self.existing()?;
        if !terms.reviewers.contains(&asked.actor) {
            return Err(Refusal::NotReviewer);
        }
        if self.status != ReviewStatus::Open || terms.due_at <= now {
            let status = match self.status {
                ReviewStatus::Open | ReviewStatus::Closing => ReviewStatus::Closing,
                ReviewStatus::Closed => ReviewStatus::Closed,
            };
            return Err(Refusal::ReviewNotOpen {
                status: status.name(),
            });
        }
        if asked.item == PrincipalId::User(asked.actor) || asked.subjects.contains(&asked.actor) {
            return Err(Refusal::SelfReview { item: asked.item });
        }
        Ok(())
    }

    /// A reminder that comes late is one of fewer days: the earlier ones are then left out.
    fn remind(&self, days_left: u16, now: Timestamp) -> Events {
        let terms = self.existing()?;
        let is_told = self.reminded.iter().any(|days| *days <= days_left);
        let is_open = self.status == ReviewStatus::Open && now < terms.due_at;
        let undecided = self.items.saturating_sub(self.decisions.len() as u64);
        Ok(only(is_open && !is_told, || ReviewEvent::ReviewReminded {
            days_left,
            undecided,
            due_at: terms.due_at,
        }))
    }

    fn begin_closing(&self, actor: Option<UserId>, now: Timestamp) -> Events {
        let is_over = self.existing()?.due_at <= now;
        let begins = self.status == ReviewStatus::Open && (is_over || actor.is_some());
        Ok(only(begins, || ReviewEvent::ReviewClosing {
            closed_by: actor.filter(|_| !is_over),
        }))
    }

    fn finish_closing(&self, now: Timestamp) -> Vec<ReviewEvent> {
        let terms = self.terms.as_ref();
        let Some(terms) = terms.filter(|_| self.status == ReviewStatus::Closing) else {
            return vec![];
        };
        let of = |wanted: Settlement| {
            let settled = self.settled.iter();
            settled
                .filter(move |(_, outcome)| **outcome == wanted)
                .map(|(item, _)| *item)
        };
        let decided = |item: &PrincipalId| self.decisions.contains_key(item);
        let returned: Vec<_> = of(Settlement::Changed).filter(decided).collect();
        // Where there is time left, what has changed is shown again.
        if self.closed_by.is_some() && now < terms.due_at && !returned.is_empty() {
            return vec![ReviewEvent::ReviewReopened { returned }];
        }
        let settled = self.settled.len() as u64;
        let applied = of(Settlement::Applied).count() as u64;
        vec![ReviewEvent::ReviewClosed {
            timed_out: self.closed_by.is_none(),
            kept: self.items.saturating_sub(settled),
            applied,
            not_applied: settled - applied,
        }]
    }
}

/// The event, where it happens.
fn only(happens: bool, event: impl FnOnce() -> ReviewEvent) -> Vec<ReviewEvent> {
    match happens {
        true => vec![event()],
        false => vec![],
    }
}

fn terms_are_right(terms: &ReviewTerms, items: u64, now: Timestamp) -> Result<(), Refusal> {
    let wrong = |field, detail| Err(Refusal::WrongValue { field, detail });
    let days = |days: u16| TimeDelta::days(days.into());
    if terms.principals.is_empty() {
        return wrong("scope", "name at least one kind of access to review");
    }
    if items > ITEMS_MAX {
        return wrong(
            "scope",
            "there is too much of it for one campaign; review it in parts",
        );
    }
    if terms.reviewers.is_empty() || terms.reviewers.len() > REVIEWERS_MAX {
        return wrong("reviewers", "1 to 50 people");
    }
    if terms.due_at <= now {
        return wrong("due_at", "this must be in the future");
    }
    if terms.due_at > now.plus(days(DURATION_DAYS_MAX)) {
        return wrong("due_at", "at most 366 days away");
    }
    match terms.recurs_after_days {
        Some(0) => wrong("recurrence", "1 to 366 days"),
        Some(after) if after > DURATION_DAYS_MAX => wrong("recurrence", "1 to 366 days"),
        Some(after) if terms.due_at > now.plus(days(after)) => wrong(
            "recurrence",
            "the next one opens when this one is over, not before",
        ),
        Some(_) | None => Ok(()),
    }
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
                pinned_at: _,
                items,
                previous: _,
            } => {
                self.id = Some(review);
                self.workspace = Some(workspace);
                self.organization = Some(organization);
                self.terms = Some(terms);
                self.opened_by = Some(opened_by);
                self.opened_at = opened_at;
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
                let position = 0;
                let decided = Decided {
                    decision,
                    seen_at,
                    by,
                    position,
                };
                self.decisions.insert(item, decided);
            }
            ReviewEvent::ReviewClosing { closed_by } => {
                self.status = ReviewStatus::Closing;
                self.closed_by = closed_by;
            }
            ReviewEvent::AccessSettled { item, outcome, .. } => {
                self.settled.insert(item, outcome);
            }
            ReviewEvent::ReviewReopened { returned } => {
                self.status = ReviewStatus::Open;
                self.closed_by = None;
                for item in returned {
                    self.decisions.remove(&item);
                    self.settled.remove(&item);
                }
            }
            ReviewEvent::ReviewClosed { .. } => self.status = ReviewStatus::Closed,
            ReviewEvent::ReviewRecurred { .. } | ReviewEvent::ReviewRecurrenceStopped { .. } => {
                self.has_recurred = true;
            }
        }
    }
}

impl Stream for Review {
    const STATE_VERSION: i64 = 2;

    fn positioned(&mut self, event: &ReviewEvent, position: u64) {
        match event {
            ReviewEvent::ReviewOpened { .. } => self.position = position,
            ReviewEvent::ReviewReopened { .. } => self.reopened_at = position,
            ReviewEvent::AccessDecided { item, .. } => {
                if let Some(decided) = self.decisions.get_mut(item) {
                    decided.position = position;
                }
            }
            ReviewEvent::ReviewReminded { .. }
            | ReviewEvent::ReviewClosing { .. }
            | ReviewEvent::AccessSettled { .. }
            | ReviewEvent::ReviewClosed { .. }
            | ReviewEvent::ReviewRecurred { .. }
            | ReviewEvent::ReviewRecurrenceStopped { .. } => {}
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
            Self::ReviewReopened { .. } => "review_reopened",
            Self::ReviewClosed { .. } => "review_closed",
            Self::ReviewRecurred { .. } => "review_recurred",
            Self::ReviewRecurrenceStopped { .. } => "review_recurrence_stopped",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
