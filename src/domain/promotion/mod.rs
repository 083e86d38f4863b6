//! A promotion: what is in one crew, or in a file, is to come into another crew, as reviewed.
//!
//! It pins what is to change (the *plan*, a content) and the versions of both sides; people
//! approve exactly that. Making it anew voids approvals. Applying is decided on the newest state
//! of the workspace, of the promotion and of the target, in one unit: nobody applies what nobody
//! has reviewed, and the target changes as a whole or not at all.
//!
//! **Stale** is no event: a promotion that is open is stale while the contents of its target are
//! of another version than it was made for ([`Promotion::status_at`]).
//!
//! To add something that can happen to a promotion: an event, the command that asks for it, its
//! arms in `decide` and `apply`, and its rule in `tests.rs`.

mod commands;
mod events;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};

pub use commands::{Circumstances, PromotionCommand};
pub use events::PromotionEvent;

use super::{
    Moment, Refusal, Stream, Timestamp,
    authority::Actor,
    bundle::ItemKey,
    contents::{Content, Digest},
    crew::CrewPlace,
    environment::Environment,
    ids::{OrganizationId, UserId, WorkspaceId},
    workspace::Policy,
};

/// The longest time ahead that one can be scheduled for, in days.
pub const SCHEDULE_AHEAD_DAYS: i64 = 90;
/// The most agents and pathways that one names.
pub const CHOSEN_MAX: usize = 500;
/// The most that changes in one promotion, in bytes of the crew's event: one unit holds 1 MiB.
pub const CHANGES_BYTES_MAX: usize = 960 * 1024;
/// The most checks of one report.
pub const CHECKS_MAX: usize = 50;

/// Where what is promoted comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PromotionSource {
    /// A crew of the same workspace, at a version of its contents.
    Crew { crew: CrewPlace, version: u64 },
    /// A bundle that was sent.
    Bundle {},
}

/// What is reviewed, approved and applied: one form of a promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// The version of the target's contents that it was made for.
    pub target_version: u64,
    /// Of the bundle: of what was chosen, where something was.
    pub bundle_digest: Digest,
    /// The agents and pathways that were chosen, with what they need; none: all there are.
    pub include: Option<Vec<ItemKey>>,
    /// What changes, item by item, what the bundle holds and what it needs: a content.
    pub plan: Content,
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
}

/// How a promotion is approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalTerms {
    pub approvals_needed: u8,
    /// Whether who proposed it may be one of those who approve it.
    pub self_approval: bool,
}

impl ApprovalTerms {
    /// What holds where both do.
    pub fn stricter(self, other: Self) -> Self {
        Self {
            approvals_needed: self.approvals_needed.max(other.approvals_needed),
            self_approval: self.self_approval && other.self_approval,
        }
    }
}

impl From<Policy> for ApprovalTerms {
    fn from(policy: Policy) -> Self {
        Self {
            approvals_needed: policy.approvals_needed,
            self_approval: policy.self_approval,
        }
    }
}

/// A check, and how it came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    pub name: String,
    pub outcome: CheckOutcome,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    Passed,
    Failed,
}

impl CheckOutcome {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
        }
    }
}

/// Why a scheduled promotion was not applied when its time came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleEnd {
    /// The target changed since the review.
    TargetMoved,
    /// Who scheduled it may apply promotions no more.
    RightsEnded,
    /// The policy asks for more approvals, or some count no more.
    ApprovalsMissing,
    /// The target lacks what the new contents need.
    SlotsMissing,
    /// The target, or its workspace, is there no more.
    TargetGone,
    /// The organization was suspended when its time came.
    OrganizationSuspended,
}

impl ScheduleEnd {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::TargetMoved => "target_moved",
            Self::RightsEnded => "rights_ended",
            Self::ApprovalsMissing => "approvals_missing",
            Self::SlotsMissing => "slots_missing",
            Self::TargetGone => "target_gone",
            Self::OrganizationSuspended => "organization_suspended",
        }
    }
}

/// How a promotion stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromotionStatus {
    #[default]
    Proposed,
    Approved,
    Scheduled,
    Applied,
    Verified,
    RolledBack,
    Rejected,
    Cancelled,
    /// The target changed since the review; it can be refreshed. Never stored.
    Stale,
}

impl PromotionStatus {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Approved => "approved",
            Self::Scheduled => "scheduled",
            Self::Applied => "applied",
            Self::Verified => "verified",
            Self::RolledBack => "rolled_back",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Stale => "stale",
        }
    }

    /// Whether it can still be applied, or refreshed so that it can.
    pub fn is_open(self) -> bool {
        match self {
            Self::Proposed | Self::Approved | Self::Scheduled | Self::Stale => true,
            Self::Applied
            | Self::Verified
            | Self::RolledBack
            | Self::Rejected
            | Self::Cancelled => false,
        }
    }

    /// How it stands where the target's contents are of `version` and it was made for `made_for`.
    pub fn at(self, made_for: u64, version: u64) -> Self {
        match self.is_open() && made_for != version {
            true => Self::Stale,
            false => self,
        }
    }
}

/// When a promotion is to be applied, and on whose authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    pub at: Timestamp,
    pub user: UserId,
}

/// What a promotion was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Made {
    workspace: WorkspaceId,
    organization: OrganizationId,
    source: PromotionSource,
    target: CrewPlace,
    review: Review,
    terms: ApprovalTerms,
    proposed_by: Actor,
    proposers: BTreeSet<UserId>,
}

/// A promotion, folded from its events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Promotion {
    made: Option<Made>,
    status: PromotionStatus,
    /// Who has approved the present form.
    approvals: BTreeSet<UserId>,
    schedule: Option<Schedule>,
    /// The version of the target's contents that applying it made.
    applied_version: Option<u64>,
}

/// What a command leads to.
type Decision = Result<Vec<PromotionEvent>, Refusal>;

const MISSING: Refusal = Refusal::NotFound {
    what: "promotion",
    hidden: false,
};

impl Promotion {
    /// The crew that it changes, if it was made in `workspace`.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn target_in(&self, workspace: WorkspaceId) -> Result<CrewPlace, Refusal> {
        let made = self
            .made
            .as_ref()
            .filter(|made| made.workspace == workspace);
        made.map(|made| made.target).ok_or(MISSING)
    }

    /// Who has approved the present form.
    pub fn approvers(&self) -> impl Iterator<Item = UserId> {
        self.approvals.iter().copied()
    }

    /// When it is to be applied, where it is scheduled.
    pub fn schedule(&self) -> Option<Schedule> {
        self.schedule
    }

    /// Its present form.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] before it was made.
    pub fn review(&self) -> Result<&Review, Refusal> {
        self.made.as_ref().map(|made| &made.review).ok_or(MISSING)
    }

    /// That it is approved by both policies, and its target is what was reviewed.
    ///
    /// # Errors
    /// [`Refusal::PromotionNotOpen`], [`Refusal::CrewMoved`], [`Refusal::ApprovalsMissing`].
    pub fn can_be_applied(&self, now: &Circumstances) -> Result<(), Refusal> {
        let made = self.open()?;
        self.is_of(now.target_version)?;
        let terms = made.terms.stricter(now.terms);
        let given = self.counted(made, terms, now).count();
        if given < needed(terms) {
            return Err(Refusal::ApprovalsMissing {
                given,
                needed: needed(terms),
            });
        }
        Ok(())
    }

    /// How it stands while the contents of its target are of a version.
    pub fn status_at(&self, target_version: u64) -> PromotionStatus {
        let made_for = self
            .made
            .as_ref()
            .map_or(0, |made| made.review.target_version);
        self.status.at(made_for, target_version)
    }

    /// The events that `command` leads to at `moment`; nothing has changed yet.
    fn decide(&self, command: PromotionCommand, moment: Timestamp) -> Decision {
        use PromotionCommand as C;
        let target = match (&self.made, &command) {
            (Some(made), _) => made.target.id,
            (None, C::Propose { target, .. }) => target.id,
            (None, _) => return Err(MISSING),
        };
        match command {
            C::Propose {
                promotion,
                workspace,
                organization,
                source,
                target,
                review,
                terms,
                proposed_by,
                proposers,
            } => match self.made {
                Some(_) => Err(Refusal::AlreadyExists { what: "promotion" }),
                None => Ok(vec![PromotionEvent::PromotionProposed {
                    promotion,
                    workspace,
                    organization,
                    source,
                    target,
                    review,
                    terms,
                    proposed_by,
                    proposers,
                }]),
            },
            C::Refresh {
                source,
                review,
                terms,
                refreshed_by,
                proposers,
            } => {
                let made = self.open()?;
                let terms = made.terms.stricter(terms);
                Ok(vec![PromotionEvent::PromotionRefreshed {
                    target,
                    source,
                    review,
                    terms,
                    refreshed_by,
                    proposers,
                }])
            }
            C::Approve { user, now } => self.approve(user, &now),
            C::Reject { user } => {
                self.open()?;
                Ok(vec![PromotionEvent::PromotionRejected { target, user }])
            }
            C::Cancel { actor, decides } => {
                let made = self.open()?;
                let is_own = made.proposed_by == actor
                    || actor
                        .user()
                        .is_some_and(|user| made.proposers.contains(&user));
                match is_own || decides {
                    true => Ok(vec![PromotionEvent::PromotionCancelled {
                        target,
                        cancelled_by: actor,
                    }]),
                    false => Err(Refusal::PromotionOfAnother),
                }
            }
            C::Schedule { user, at, now } => self.schedule_for(user, at, &now, moment),
            C::EndSchedule { at, why } => match self.schedule {
                Some(schedule) if schedule.at == at => {
                    Ok(vec![PromotionEvent::PromotionScheduleEnded {
                        target,
                        at,
                        why,
                    }])
                }
                // Another process was quicker, or it was scheduled for another time.
                Some(_) | None => Ok(vec![]),
            },
            C::Apply {
                user,
                version,
                scheduled,
                now,
            } => {
                if scheduled.is_some() && self.schedule.map(|it| it.at) != scheduled {
                    return Ok(vec![]);
                }
                self.can_be_applied(&now)?;
                let scheduled = scheduled.is_some();
                Ok(vec![PromotionEvent::PromotionApplied {
                    target,
                    user,
                    version,
                    scheduled,
                }])
            }
            C::Check {
                checks,
                evidence,
                checked_by,
            } => {
                self.applied()?;
                let failed = |check: &CheckResult| check.outcome == CheckOutcome::Failed;
                let verified = !checks.iter().any(failed);
                Ok(vec![PromotionEvent::PromotionChecked {
                    target,
                    checks,
                    evidence,
                    verified,
                    checked_by,
                }])
            }
            C::RollBack {
                user,
                present,
                version,
                force,
            } => {
                let applied = self.applied()?;
                let forced = present != applied;
                if forced && !force {
                    return Err(Refusal::ChangedSince { changes: vec![] });
                }
                Ok(vec![PromotionEvent::PromotionRolledBack {
                    target,
                    user,
                    version,
                    forced,
                }])
            }
        }
    }

    fn approve(&self, user: UserId, now: &Circumstances) -> Decision {
        let made = self.open()?;
        let target = made.target.id;
        self.is_of(now.target_version)?;
        let terms = made.terms.stricter(now.terms);
        if !terms.self_approval && made.proposers.contains(&user) {
            return Err(Refusal::OwnProposal);
        }
        if self.approvals.contains(&user) {
            return Ok(vec![]);
        }
        let suffices = self.counted(made, terms, now).count() + 1 >= needed(terms);
        Ok(vec![PromotionEvent::PromotionApproved {
            target,
            user,
            review: made.review.plan.digest,
            suffices,
        }])
    }

    fn schedule_for(
        &self,
        user: UserId,
        at: Timestamp,
        now: &Circumstances,
        moment: Timestamp,
    ) -> Decision {
        self.can_be_applied(now)?;
        let latest = moment.plus(chrono::TimeDelta::days(SCHEDULE_AHEAD_DAYS));
        if at <= moment || at > latest {
            return Err(Refusal::WrongValue {
                field: "at",
                detail: "a time from now on, at most 90 days ahead",
            });
        }
        let target = self.open()?.target.id;
        match self.schedule == Some(Schedule { at, user }) {
            true => Ok(vec![]),
            false => Ok(vec![PromotionEvent::PromotionScheduled {
                target,
                at,
                user,
            }]),
        }
    }

    /// Of those who have approved, who counts: who still may, and is no proposer.
    fn counted<'a>(
        &'a self,
        made: &'a Made,
        terms: ApprovalTerms,
        now: &'a Circumstances,
    ) -> impl Iterator<Item = UserId> + 'a {
        let counts = move |user: &UserId| {
            now.entitled.contains(user) && (terms.self_approval || !made.proposers.contains(user))
        };
        self.approvals.iter().copied().filter(counts)
    }

    fn open(&self) -> Result<&Made, Refusal> {
        let made = self.made.as_ref().ok_or(MISSING)?;
        match self.status.is_open() {
            true => Ok(made),
            false => Err(Refusal::PromotionNotOpen {
                status: self.status.name(),
            }),
        }
    }

    /// The version that applying it made, if it counts as applied.
    fn applied(&self) -> Result<u64, Refusal> {
        self.made.as_ref().ok_or(MISSING)?;
        let status = self.status.name();
        match (self.status, self.applied_version) {
            (PromotionStatus::Applied | PromotionStatus::Verified, Some(version)) => Ok(version),
            _ => Err(Refusal::PromotionNotApplied { status }),
        }
    }

    fn is_of(&self, target_version: u64) -> Result<(), Refusal> {
        match self.review()?.target_version == target_version {
            true => Ok(()),
            false => Err(Refusal::CrewMoved),
        }
    }
}

fn needed(terms: ApprovalTerms) -> usize {
    usize::from(terms.approvals_needed)
}

fn status_of(terms: ApprovalTerms) -> PromotionStatus {
    match terms.approvals_needed {
        0 => PromotionStatus::Approved,
        _ => PromotionStatus::Proposed,
    }
}

impl Aggregate for Promotion {
    const TYPE: &'static str = "promotion";
    type Command = PromotionCommand;
    type Event = PromotionEvent;
    type Error = Refusal;
    type Services = Moment;

    async fn handle(
        &mut self,
        command: PromotionCommand,
        moment: &Moment,
        sink: &EventSink<Self>,
    ) -> Result<(), Refusal> {
        // All is decided before the first write, and `write` applies.
        for event in self.decide(command, moment.now)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: PromotionEvent) {
        use PromotionEvent as E;
        match event {
            E::PromotionProposed {
                promotion: _,
                workspace,
                organization,
                source,
                target,
                review,
                terms,
                proposed_by,
                proposers,
            } => {
                self.status = status_of(terms);
                self.made = Some(Made {
                    workspace,
                    organization,
                    source,
                    target,
                    review,
                    terms,
                    proposed_by,
                    proposers: proposers.into_iter().collect(),
                });
            }
            E::PromotionRefreshed {
                source,
                review,
                terms,
                proposers,
                ..
            } => {
                self.approvals.clear();
                self.schedule = None;
                self.status = status_of(terms);
                if let Some(made) = &mut self.made {
                    made.source = source;
                    made.review = review;
                    made.terms = terms;
                    // Who gave it its new form has proposed that.
                    made.proposers.extend(proposers);
                }
            }
            E::PromotionApproved { user, suffices, .. } => {
                self.approvals.insert(user);
                if suffices && self.status == PromotionStatus::Proposed {
                    self.status = PromotionStatus::Approved;
                }
            }
            E::PromotionRejected { .. } => self.status = PromotionStatus::Rejected,
            E::PromotionCancelled { .. } => self.status = PromotionStatus::Cancelled,
            E::PromotionScheduled { at, user, .. } => {
                self.status = PromotionStatus::Scheduled;
                self.schedule = Some(Schedule { at, user });
            }
            E::PromotionScheduleEnded { .. } => {
                self.status = PromotionStatus::Approved;
                self.schedule = None;
            }
            E::PromotionApplied { version, .. } => {
                self.status = PromotionStatus::Applied;
                self.schedule = None;
                self.applied_version = Some(version);
            }
            E::PromotionChecked { verified, .. } => {
                self.status = match verified {
                    true => PromotionStatus::Verified,
                    false => PromotionStatus::Applied,
                };
            }
            E::PromotionRolledBack { .. } => self.status = PromotionStatus::RolledBack,
        }
        if !self.status.is_open() {
            self.schedule = None;
        }
    }
}

impl Stream for Promotion {
    const STATE_VERSION: i64 = 1;

    fn positioned(&mut self, event: &PromotionEvent, _position: u64) {
        match event {
            // Nothing in a promotion gives anybody a right.
            PromotionEvent::PromotionProposed { .. }
            | PromotionEvent::PromotionRefreshed { .. }
            | PromotionEvent::PromotionApproved { .. }
            | PromotionEvent::PromotionRejected { .. }
            | PromotionEvent::PromotionCancelled { .. }
            | PromotionEvent::PromotionScheduled { .. }
            | PromotionEvent::PromotionScheduleEnded { .. }
            | PromotionEvent::PromotionApplied { .. }
            | PromotionEvent::PromotionChecked { .. }
            | PromotionEvent::PromotionRolledBack { .. } => {}
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.made.as_ref().map(|made| made.organization)
    }

    fn environment(&self) -> Option<Environment> {
        self.made.as_ref().map(|made| made.target.environment)
    }

    fn weight_bytes(&self) -> usize {
        let include = self
            .made
            .as_ref()
            .and_then(|made| made.review.include.as_ref());
        let include = include.map_or(0, |keys| keys.len() * 160);
        size_of::<Self>() + self.approvals.len() * 40 + include
    }
}

impl DomainEvent for PromotionEvent {
    fn event_type(&self) -> String {
        match self {
            Self::PromotionProposed { .. } => "promotion_proposed",
            Self::PromotionRefreshed { .. } => "promotion_refreshed",
            Self::PromotionApproved { .. } => "promotion_approved",
            Self::PromotionRejected { .. } => "promotion_rejected",
            Self::PromotionCancelled { .. } => "promotion_cancelled",
            Self::PromotionScheduled { .. } => "promotion_scheduled",
            Self::PromotionScheduleEnded { .. } => "promotion_schedule_ended",
            Self::PromotionApplied { .. } => "promotion_applied",
            Self::PromotionChecked { .. } => "promotion_checked",
            Self::PromotionRolledBack { .. } => "promotion_rolled_back",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
