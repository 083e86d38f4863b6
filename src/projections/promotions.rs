//! Promotions as they are now, but for what their targets have become since: whether one is stale
//! is asked when it is read.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, SealedAt, present};
use crate::{
    domain::{
        Timestamp,
        authority::Actor,
        crew::CrewPlace,
        event::Event,
        ids::{PromotionId, UserId, WorkspaceId},
        promotion::{
            ApprovalTerms, CheckResult, PromotionEvent, PromotionSource, PromotionStatus, Review,
            Schedule, ScheduleEnd,
        },
    },
    journal::{Recorded, entry::REASON},
};

/// A promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromotionDocument {
    pub id: PromotionId,
    /// Sequence of the last event.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub workspace: WorkspaceId,
    pub source: PromotionSource,
    pub target: CrewPlace,
    pub review: Review,
    pub terms: ApprovalTerms,
    pub status: PromotionStatus,
    pub proposed_by: Actor,
    /// Why, in the proposer's words.
    pub reason: Option<SealedAt>,
    /// Of the present form, in their order.
    pub approvals: Vec<PromotionApproval>,
    pub schedule: Option<Schedule>,
    /// How the last schedule ended, where it came to nothing.
    pub schedule_ended: Option<EndedSchedule>,
    pub applied: Option<AppliedPromotion>,
    /// The last report on each check, in the order that they were first made.
    pub checks: Vec<CheckDocument>,
    /// How it ended, where it was rejected, cancelled or rolled back.
    pub ended: Option<EndedPromotion>,
}

/// An approval of the present form.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PromotionApproval {
    pub user: UserId,
    pub at: Timestamp,
}

/// A schedule that came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EndedSchedule {
    pub at: Timestamp,
    pub why: ScheduleEnd,
}

/// That it was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppliedPromotion {
    pub user: UserId,
    pub at: Timestamp,
    /// The version of the target's contents since.
    pub version: u64,
    pub scheduled: bool,
}

/// A check, by whom and when; its evidence is sealed with those of its report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckDocument {
    pub check: CheckResult,
    pub by: Actor,
    pub at: Timestamp,
    pub evidence: Option<SealedAt>,
}

/// That it is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedPromotion {
    pub by: Actor,
    pub at: Timestamp,
    pub reason: Option<SealedAt>,
    /// Whether later changes went with it, where it was rolled back.
    pub forced: bool,
}

/// See the module.
pub struct Promotions;

fn reason(event: &Recorded) -> Option<SealedAt> {
    let sealed = event.metadata.reason.as_ref();
    sealed.map(|sealed| SealedAt::of(event, REASON, sealed))
}

impl PromotionDocument {
    fn end(&mut self, status: PromotionStatus, by: Actor, event: &Recorded, forced: bool) {
        self.status = status;
        self.schedule = None;
        self.ended = Some(EndedPromotion {
            by,
            at: event.recorded_at,
            reason: reason(event),
            forced,
        });
    }

    fn check(
        &mut self,
        event: &Recorded,
        check: &CheckResult,
        by: Actor,
        evidence: Option<SealedAt>,
    ) {
        let told = CheckDocument {
            check: check.clone(),
            by,
            at: event.recorded_at,
            evidence,
        };
        match self
            .checks
            .iter_mut()
            .find(|it| it.check.name == check.name)
        {
            Some(known) => *known = told,
            None => self.checks.push(told),
        }
    }

    fn take(&mut self, event: &Recorded, happened: &PromotionEvent) {
        use PromotionEvent as E;
        match happened {
            // What follows on nothing is made in `fold`.
            E::PromotionProposed { .. } => {}
            E::PromotionRefreshed {
                source,
                review,
                terms,
                ..
            } => {
                self.source = *source;
                self.review = review.clone();
                self.terms = *terms;
                self.approvals.clear();
                self.schedule = None;
                self.schedule_ended = None;
                self.status = waiting(*terms);
            }
            E::PromotionApproved { user, suffices, .. } => {
                let (user, at) = (*user, event.recorded_at);
                self.approvals.push(PromotionApproval { user, at });
                if *suffices && self.status == PromotionStatus::Proposed {
                    self.status = PromotionStatus::Approved;
                }
            }
            E::PromotionRejected { user, .. } => {
                let by = Actor::User { id: *user };
                self.end(PromotionStatus::Rejected, by, event, false);
            }
            E::PromotionCancelled { cancelled_by, .. } => {
                self.end(PromotionStatus::Cancelled, *cancelled_by, event, false);
            }
            E::PromotionScheduled { at, user, .. } => {
                let (at, user) = (*at, *user);
                self.schedule = Some(Schedule { at, user });
                self.schedule_ended = None;
                self.status = PromotionStatus::Scheduled;
            }
            E::PromotionScheduleEnded { at, why, .. } => {
                let (at, why) = (*at, *why);
                self.schedule = None;
                self.schedule_ended = Some(EndedSchedule { at, why });
                self.status = PromotionStatus::Approved;
            }
            E::PromotionApplied {
                user,
                version,
                scheduled,
                ..
            } => {
                self.schedule = None;
                self.status = PromotionStatus::Applied;
                self.applied = Some(AppliedPromotion {
                    user: *user,
                    at: event.recorded_at,
                    version: *version,
                    scheduled: *scheduled,
                });
            }
            E::PromotionChecked {
                checks,
                evidence,
                verified,
                checked_by,
                ..
            } => {
                let evidence = evidence.as_ref();
                let evidence = evidence.map(|sealed| SealedAt::of(event, "evidence", sealed));
                for check in checks {
                    self.check(event, check, *checked_by, evidence.clone());
                }
                self.status = match verified {
                    true => PromotionStatus::Verified,
                    false => PromotionStatus::Applied,
                };
            }
            E::PromotionRolledBack { user, forced, .. } => {
                let by = Actor::User { id: *user };
                self.end(PromotionStatus::RolledBack, by, event, *forced);
            }
        }
    }
}

/// How a form stands that nobody has approved yet.
fn waiting(terms: ApprovalTerms) -> PromotionStatus {
    match terms.approvals_needed {
        0 => PromotionStatus::Approved,
        _ => PromotionStatus::Proposed,
    }
}

impl Projection for Promotions {
    type Document = PromotionDocument;
    const NAME: &'static str = "promotions";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::Promotion(_) => vec![event.aggregate_id.clone()],
            Event::User(_)
            | Event::Organization(_)
            | Event::Workspace(_)
            | Event::Crew(_)
            | Event::Review(_)
            | Event::Attempts(_)
            | Event::Installation(_) => vec![],
        }
    }

    fn fold(
        document: Option<PromotionDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<PromotionDocument>, CannotFold> {
        let Event::Promotion(happened) = &event.event else {
            return Ok(document);
        };
        if let PromotionEvent::PromotionProposed {
            promotion,
            workspace,
            organization: _,
            source,
            target,
            review,
            terms,
            proposed_by,
            proposers: _,
        } = happened
        {
            return Ok(Some(PromotionDocument {
                id: *promotion,
                version: event.sequence,
                created_at: event.recorded_at,
                updated_at: event.recorded_at,
                workspace: *workspace,
                source: *source,
                target: *target,
                review: review.clone(),
                terms: *terms,
                status: waiting(*terms),
                proposed_by: *proposed_by,
                reason: reason(event),
                approvals: vec![],
                schedule: None,
                schedule_ended: None,
                applied: None,
                checks: vec![],
                ended: None,
            }));
        }
        let mut document = present(document, key)?;
        document.take(event, happened);
        document.version = event.sequence;
        document.updated_at = event.recorded_at;
        Ok(Some(document))
    }

    fn columns(document: &PromotionDocument) -> Columns {
        let workspace = document.workspace.to_string();
        Columns {
            parent: Some(workspace.clone()),
            workspace: Some(workspace),
            lookup: Some(document.target.id.to_string()),
            deadline: document.schedule.map(|schedule| schedule.at.0),
        }
    }
}
