//! What is decided about a promotion: approved, rejected, cancelled, scheduled, applied, checked,
//! rolled back.

use std::{collections::BTreeMap, sync::Arc};

use futures::FutureExt;

use super::{Decide, Plan, PromotionAt, PromotionView, PromotionWrite, circumstances};
use crate::{
    domain::{
        Refusal, Timestamp,
        authority::Permission,
        bundle::changes,
        contents::Content,
        crew::{Crew, CrewCommand, CrewPromoted},
        event::Event,
        ids::{EventId, PromotionId, UserId, WorkspaceId},
        promotion::{CHANGES_BYTES_MAX, CheckOutcome, CheckResult, Promotion, PromotionCommand},
        workspace::Workspace,
    },
    journal::{Desk, Rejection, entry::to_canonical, stores},
    service::{
        Principal, Request, Service, ServiceError, Written, bundles::Contents, write::Receipt,
    },
};

/// A check, with what shows how it came out.
#[derive(Debug, Clone)]
pub struct ReportedCheck {
    pub name: String,
    pub outcome: CheckOutcome,
    pub evidence: Option<String>,
}

/// The sealed field of a report's evidence.
const EVIDENCE: &str = "evidence";
/// How many later changes are told of at most.
const LATER_MAX: usize = 20;

/// The evidence of one check in that of its report.
pub(super) fn evidence_of(text: &str, check: &str) -> Option<String> {
    let all: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    all.get(check).cloned()
}

/// Somebody, where only people may.
fn person(principal: &Principal) -> Result<UserId, Refusal> {
    principal.actor().user().ok_or(Refusal::NotForApiKeys)
}

/// Makes a promotion's changes in its crew, as it was approved, and notes that.
pub(super) fn apply_in(
    desk: &mut Desk<'_>,
    at: PromotionAt,
    user: UserId,
    scheduled: Option<Timestamp>,
    (content, plan): (Content, &Plan),
) -> Result<(), Rejection> {
    let (stream, crew) = (at.stream(), at.crew().stream());
    if desk.read::<Promotion>(&stream).review()?.plan != content {
        // It was made anew since the plan was read.
        return Err(Rejection::Recompose);
    }
    let now = circumstances(desk, at);
    let expected = now.target_version;
    let apply = PromotionCommand::Apply {
        user,
        version: desk.sequence(&crew) + 1,
        scheduled,
        now,
    };
    desk.execute::<Promotion>(&stream, apply, &[])?;
    let promote = CrewCommand::Promote {
        promotion: at.id,
        expected,
        changes: plan.changes.clone(),
        needs: plan.needs.clone(),
    };
    Ok(desk.execute::<Crew>(&crew, promote, &[])?)
}

impl Service {
    /// A decision about a promotion that needs nothing but its newest state.
    async fn decide_on(
        &self,
        request: &Request,
        principal: &Principal,
        at: (WorkspaceId, PromotionId),
        (permission, action): (Permission, &'static str),
        decide: impl Fn(&mut Desk<'_>, PromotionAt) -> Result<(), Rejection>
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> Result<Written<PromotionView>, ServiceError> {
        let (at, _) = self
            .may_on_promotion(request, principal, at, permission, action)
            .await?;
        let write = PromotionWrite {
            action,
            permission,
            status: 200,
            decide: &|| {
                let decide = decide.clone();
                let boxed: Box<Decide> = Box::new(move |desk| decide(desk, at));
                async move { Ok(boxed) }.boxed()
            },
        };
        let receipt = self
            .submit_on_promotion(request, principal, at, write)
            .await?;
        self.promotion_written(receipt, false).await
    }

    /// Approves a promotion, in its present form.
    ///
    /// # Errors
    /// A refusal unless the caller decides about promotions and did not propose it;
    /// [`Refusal::CrewMoved`] where the target changed since.
    pub async fn approve_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: (WorkspaceId, PromotionId),
    ) -> Result<Written<PromotionView>, ServiceError> {
        let actor = principal.actor();
        let of = (Permission::DecidePromotions, "promotion.approved");
        self.decide_on(request, principal, at, of, move |desk, at| {
            let user = actor.user().ok_or(Refusal::NotForApiKeys)?;
            let now = circumstances(desk, at);
            let approve = PromotionCommand::Approve { user, now };
            Ok(desk.execute::<Promotion>(&at.stream(), approve, &[])?)
        })
        .await
    }

    /// Says no to a promotion.
    ///
    /// # Errors
    /// A refusal unless the caller decides about promotions.
    pub async fn reject_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: (WorkspaceId, PromotionId),
    ) -> Result<Written<PromotionView>, ServiceError> {
        let actor = principal.actor();
        let of = (Permission::DecidePromotions, "promotion.rejected");
        self.decide_on(request, principal, at, of, move |desk, at| {
            let user = actor.user().ok_or(Refusal::NotForApiKeys)?;
            let reject = PromotionCommand::Reject { user };
            Ok(desk.execute::<Promotion>(&at.stream(), reject, &[])?)
        })
        .await
    }

    /// Takes a promotion back.
    ///
    /// # Errors
    /// A refusal unless the caller proposed it, or decides about promotions.
    pub async fn cancel_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: (WorkspaceId, PromotionId),
    ) -> Result<Written<PromotionView>, ServiceError> {
        let actor = principal.actor();
        let of = (Permission::ProposePromotions, "promotion.cancelled");
        self.decide_on(request, principal, at, of, move |desk, at| {
            let now = desk.now();
            let workspace = desk.read::<Workspace>(&at.place.stream());
            let permission = Permission::DecidePromotions;
            let decides = workspace.authorise_in_crew(actor, permission, at.target, now);
            let decides = decides.is_ok();
            let cancel = PromotionCommand::Cancel { actor, decides };
            Ok(desk.execute::<Promotion>(&at.stream(), cancel, &[])?)
        })
        .await
    }

    /// Has a promotion applied at a time.
    ///
    /// # Errors
    /// A refusal unless the caller decides about promotions, and it could be applied now.
    pub async fn schedule_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: (WorkspaceId, PromotionId),
        time: Timestamp,
    ) -> Result<Written<PromotionView>, ServiceError> {
        let actor = principal.actor();
        let of = (Permission::DecidePromotions, "promotion.scheduled");
        self.decide_on(request, principal, at, of, move |desk, at| {
            let user = actor.user().ok_or(Refusal::NotForApiKeys)?;
            let now = circumstances(desk, at);
            let at_time = time;
            let schedule = PromotionCommand::Schedule {
                user,
                at: at_time,
                now,
            };
            Ok(desk.execute::<Promotion>(&at.stream(), schedule, &[])?)
        })
        .await
    }

    /// Makes the target what was reviewed: all of it, or nothing.
    ///
    /// # Errors
    /// A refusal unless the caller decides about promotions; [`Refusal::ApprovalsMissing`],
    /// [`Refusal::CrewMoved`], [`Refusal::SlotsMissing`].
    pub async fn apply_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: (WorkspaceId, PromotionId),
    ) -> Result<Written<PromotionView>, ServiceError> {
        let (permission, action) = (Permission::DecidePromotions, "promotion.applied");
        let (at, _) = self
            .may_on_promotion(request, principal, at, permission, action)
            .await?;
        let user = person(principal)?;
        let write = PromotionWrite {
            action,
            permission,
            status: 200,
            decide: &|| {
                async move {
                    let content = self.newest_plan(at).await?;
                    let plan = self.plan(at.place.workspace, content).await?;
                    let decide: Box<Decide> =
                        Box::new(move |desk| apply_in(desk, at, user, None, (content, &plan)));
                    Ok(decide)
                }
                .boxed()
            },
        };
        let receipt = self
            .submit_on_promotion(request, principal, at, write)
            .await?;
        self.promotion_written(receipt, false).await
    }

    pub(super) async fn newest_plan(&self, at: PromotionAt) -> Result<Content, ServiceError> {
        let found = self.promotions().get(&at.id.to_string()).await?.value;
        let document = found.ok_or(super::MISSING)?;
        Ok(document.review.plan)
    }

    /// Reports whether an applied promotion does what it should.
    ///
    /// # Errors
    /// A refusal unless the caller may propose promotions, or where it is not applied.
    pub async fn check_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: (WorkspaceId, PromotionId),
        checks: &[ReportedCheck],
    ) -> Result<Written<PromotionView>, ServiceError> {
        let (permission, action) = (Permission::ProposePromotions, "promotion.verified");
        let (at, _) = self
            .may_on_promotion(request, principal, at, permission, action)
            .await?;
        let event = EventId::from_uuid(self.source().uuid());
        let evidence: BTreeMap<&str, &str> = checks
            .iter()
            .filter_map(|check| Some((check.name.as_str(), check.evidence.as_deref()?)))
            .collect();
        let evidence = match evidence.is_empty() {
            true => None,
            false => {
                let key = self.workspace_key(at.place.workspace).await?;
                let text = serde_json::to_string(&evidence)
                    .map_err(|error| ServiceError::Internal(error.to_string()))?;
                Some(key.seal(self.source(), event, EVIDENCE, &text))
            }
        };
        let results = checks.iter().map(|check| CheckResult {
            name: check.name.clone(),
            outcome: check.outcome,
        });
        let check = PromotionCommand::Check {
            checks: results.collect(),
            evidence,
            checked_by: principal.actor(),
        };
        let write = PromotionWrite {
            action,
            permission,
            status: 200,
            decide: &|| {
                let check = check.clone();
                let decide: Box<Decide> = Box::new(move |desk| {
                    let check = check.clone();
                    Ok(desk.execute::<Promotion>(&at.stream(), check, &[event])?)
                });
                async move { Ok(decide) }.boxed()
            },
        };
        let receipt = self
            .submit_on_promotion(request, principal, at, write)
            .await?;
        self.promotion_written(receipt, false).await
    }

    /// Makes the target exactly what it was before a promotion was applied; with `force`, also
    /// where it has changed since.
    ///
    /// # Errors
    /// A refusal unless the caller decides about promotions; [`Refusal::ChangedSince`] with what
    /// has changed.
    pub async fn roll_back_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: (WorkspaceId, PromotionId),
        force: bool,
    ) -> Result<Written<PromotionView>, ServiceError> {
        let (permission, action) = (Permission::DecidePromotions, "promotion.rolled_back");
        let (at, found) = self
            .may_on_promotion(request, principal, at, permission, action)
            .await?;
        let user = person(principal)?;
        let write = PromotionWrite {
            action,
            permission,
            status: 200,
            decide: &|| {
                async move {
                    let back = Arc::new(self.way_back(at).await?);
                    let decide: Box<Decide> =
                        Box::new(move |desk| back.take(desk, at, user, force));
                    Ok(decide)
                }
                .boxed()
            },
        };
        let written: Result<Receipt, ServiceError> = self
            .submit_on_promotion(request, principal, at, write)
            .await;
        match written {
            Err(ServiceError::Refused(Refusal::ChangedSince { .. })) => {
                let applied = found.value.applied.map_or(0, |applied| applied.version);
                let changes = self.changes_since(at, applied).await?;
                Err(Refusal::ChangedSince { changes }.into())
            }
            receipt => self.promotion_written(receipt?, false).await,
        }
    }

    /// What changes in a crew where it becomes what it was before a promotion.
    async fn way_back(&self, at: PromotionAt) -> Result<WayBack, ServiceError> {
        let found = self.promotions().get(&at.id.to_string()).await?.value;
        let document = found.ok_or(super::MISSING)?;
        let present = Contents::of(&self.crew_now(at.crew()).await?);
        let version = document.review.target_version;
        let before = match self.crew_at(at.crew(), version).await? {
            Some(crew) => Contents::of(&crew),
            None => {
                let words = format!("{} never had the version {version}", at.target.id);
                return Err(ServiceError::Internal(words));
            }
        };
        let changes = changes::back(&before.items, &present.items);
        let event = CrewPromoted {
            promotion: at.id,
            changes,
        };
        let bytes = to_canonical(&event).map_err(|error| ServiceError::Internal(error.to_string()));
        if bytes?.len() > CHANGES_BYTES_MAX {
            return Err(Refusal::TooManyChanges.into());
        }
        Ok(WayBack {
            before: version,
            present: present.version,
            changes: event.changes,
        })
    }

    /// What has changed in a crew since a version of its contents, for people.
    async fn changes_since(
        &self,
        at: PromotionAt,
        version: u64,
    ) -> Result<Vec<String>, ServiceError> {
        let store = self.journal.store();
        let (kind, crew) = ("crew", at.target.id.to_string());
        let end = u64::MAX >> 1;
        let events = stores::stream_after(&**store, kind, &crew, version, end).await?;
        let mut told = Vec::new();
        for event in &events {
            let Event::Crew(happened) = event.decode()?.event else {
                continue;
            };
            let version = event.sequence;
            if let Some(promoted) = happened.promoted() {
                let id = promoted.promotion;
                told.push(format!("{} {id} (version {version})", event.event_type));
            } else if let Some(changed) = happened.of_item() {
                let item = changed.to().or(changed.from());
                let name = item.map_or_else(String::new, |item| format!("{:?} ", item.name));
                let kind = &event.event_type;
                told.push(format!("{kind} {name}(version {version})"));
            }
        }
        let more = told.len().saturating_sub(LATER_MAX);
        told.truncate(LATER_MAX);
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        Ok(told)
    }
}

/// What makes a crew what it was.
struct WayBack {
    /// The version that it goes back to.
    before: u64,
    /// The version that it was read at.
    present: u64,
    changes: Vec<crate::domain::crew::ItemChange>,
}

impl WayBack {
    fn take(
        &self,
        desk: &mut Desk<'_>,
        at: PromotionAt,
        user: UserId,
        force: bool,
    ) -> Result<(), Rejection> {
        let (stream, crew) = (at.stream(), at.crew().stream());
        let present = desk.read::<Crew>(&crew).contents_version();
        let before = desk.read::<Promotion>(&stream).review()?.target_version;
        let back = PromotionCommand::RollBack {
            user,
            present,
            version: desk.sequence(&crew) + 1,
            force,
        };
        // Said first, as it is why the crew was read at another version.
        desk.execute::<Promotion>(&stream, back, &[])?;
        if (present, before) != (self.present, self.before) {
            return Err(Rejection::Recompose);
        }
        let back = CrewCommand::RollBack {
            promotion: at.id,
            expected: present,
            changes: self.changes.clone(),
        };
        Ok(desk.execute::<Crew>(&crew, back, &[])?)
    }
}
