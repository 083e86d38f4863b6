//! Access reviews: opened over who had access at a position, decided item by item or in bulk,
//! closed by a person or by time, and carried out as ordinary events that point to the campaign.
//!
//! What there is to decide about is folded from the log up to the pinned position, each time it is
//! asked for: it cannot change. Carrying out goes in steps that are each done once, whoever does
//! them; due work goes on where a process died.

use std::collections::{BTreeMap, BTreeSet};

use cqrs_es::Aggregate;
use futures::FutureExt;

use super::{
    AccessQuestion, Caller, MomentInLog, Principal, Request, Service, ServiceError, Written,
    workspaces::{DecideInWorkspace, Place},
    write::{Made, Sender},
};
use crate::{
    domain::{
        Name, Refusal, Timestamp,
        access::Through,
        api_keys::KeyCommand,
        authority::{Actor, AuthorityLink, Permission, Role},
        environment::Environment,
        event::Event,
        ids::{EventId, PrincipalId, ReviewId, UserId, WorkspaceId},
        review::{
            Decision, Evidence, Review, ReviewCommand, ReviewEvent, ReviewStatus, ReviewTerms,
            Reviewed, Settlement, Undecided, findings, recommended,
        },
        sealed::KeyOwner,
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{Desk, Origin, Rejection, StreamRef, Unit, stores},
    projections::{
        Found, Page, ReviewDocument, Reviews, SealedAt,
        access::AccessHeld,
        audit_index,
    },
};

/// Items that are decided about at once.
pub const DECISIONS_MAX: usize = 200;
/// Items that are settled at once: two events each, with room to spare in a unit.
const SETTLED_AT_ONCE: usize = 200;
/// Events that are folded at once.
const FOLDED_AT_ONCE: u64 = 2_048;

/// What a new campaign is asked to be.
#[derive(Debug, Clone)]
pub struct NewReview {
    pub name: Name,
    pub principals: BTreeSet<Reviewed>,
    pub environment: Option<Environment>,
    pub reviewers: BTreeSet<UserId>,
    pub due_at: Timestamp,
    pub undecided: Undecided,
    pub recurs_after_days: Option<u16>,
}

/// A decision as it is sent.
#[derive(Debug, Clone)]
pub struct ItemDecision {
    pub item: PrincipalId,
    pub decision: Decision,
    pub reason: String,
}

/// What was decided about an item, and by whom.
#[derive(Debug, Clone, PartialEq)]
pub struct DecidedView {
    pub decision: Decision,
    pub by: UserId,
    pub by_name: String,
    pub at: Timestamp,
    pub reason: String,
    /// The entry of the decision.
    pub position: u64,
    /// What the reviewer was told.
    pub findings: Vec<String>,
}

/// Access that is reviewed.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewItemView {
    pub item: PrincipalId,
    pub name: String,
    pub through: Through,
    pub scopes: Option<Vec<&'static str>>,
    pub environments: Vec<Environment>,
    pub since: Timestamp,
    pub granted_by: Option<UserId>,
    pub granted_at_position: u64,
    pub last_used_at: Option<Timestamp>,
    pub findings: Vec<String>,
    pub recommended: Option<Decision>,
    /// Whether it is not any more what it was at the pin.
    pub has_changed: bool,
    pub decided: Option<DecidedView>,
    /// What became of it, once the campaign is over.
    pub outcome: Option<String>,
}

/// What the stream of a campaign says of its items.
#[derive(Debug, Default)]
pub(super) struct Trail {
    decided: BTreeMap<PrincipalId, Trailed>,
    settled: BTreeMap<PrincipalId, Settlement>,
}

#[derive(Debug)]
struct Trailed {
    decision: Decision,
    by: UserId,
    at: Timestamp,
    position: u64,
    reason: SealedAt,
    findings: Vec<String>,
    last_used_at: Option<Timestamp>,
}

impl Trail {
    fn take(&mut self, event: &crate::journal::Recorded) {
        let Event::Review(happened) = &event.event else {
            return;
        };
        match happened {
            ReviewEvent::AccessDecided {
                item,
                decision,
                decided_by,
                reason,
                findings,
                last_used_at,
                ..
            } => {
                let trailed = Trailed {
                    decision: *decision,
                    by: *decided_by,
                    at: event.recorded_at,
                    position: event.position,
                    reason: SealedAt::of(event, REASON_FIELD, reason),
                    findings: findings.clone(),
                    last_used_at: *last_used_at,
                };
                self.decided.insert(*item, trailed);
            }
            ReviewEvent::AccessSettled { item, outcome } => {
                self.settled.insert(*item, outcome.clone());
            }
            ReviewEvent::DecisionReturned { item } => {
                self.decided.remove(item);
                self.settled.remove(item);
            }
            ReviewEvent::ReviewOpened { .. }
            | ReviewEvent::ReviewReminded { .. }
            | ReviewEvent::ReviewClosing { .. }
            | ReviewEvent::ReviewReopened { .. }
            | ReviewEvent::ReviewClosed { .. }
            | ReviewEvent::ReviewReported { .. }
            | ReviewEvent::ReviewRecurred { .. } => {}
        }
    }
}

/// The field of a decision's reason, as it is sealed.
const REASON_FIELD: &str = "reason";

const MISSING: Refusal = Refusal::NotFound {
    what: "access review",
    hidden: false,
};

fn review_stream(place: Place, review: ReviewId) -> StreamRef {
    StreamRef::of::<Review>(review, place.workspace)
}

impl Service {
    /// Opens a campaign over who has access now.
    ///
    /// # Errors
    /// A refusal unless the caller may run reviews here; [`Refusal::WrongValue`] for terms that
    /// cannot be met, such as a reviewer who may not run reviews.
    pub async fn open_review(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        new: NewReview,
    ) -> Result<Written<ReviewDocument>, ServiceError> {
        let place = self.known_place(workspace).await?;
        let permission = Permission::RunReviews;
        let sender = Sender::Person(caller.clone());
        let aim = place.aim("access_review.opened", workspace);
        let id = ReviewId::from_uuid(self.source().uuid());
        let terms = ReviewTerms {
            name: new.name.into(),
            principals: new.principals,
            environment: new.environment,
            reviewers: new.reviewers,
            due_at: new.due_at,
            undecided: new.undecided,
            recurs_after_days: new.recurs_after_days,
        };
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                let terms = terms.clone();
                async {
                    self.may_now(caller, workspace, permission).await?;
                    let opening = self.opening(place, id, terms, caller.user, None).await?;
                    let review = review_stream(place, id);
                    let made = review.clone();
                    let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
                        opening.decide(desk, stream, &review)?;
                        Ok(Made::Review(id))
                    });
                    let composed = self.compose_in_workspace(
                        request, caller, place, permission, None, 201, decide,
                    );
                    let mut composed = composed.await?;
                    composed.streams.push(made);
                    Ok(composed)
                }
                .boxed()
            })
            .await?;
        let Made::Review(id) = receipt.made else {
            return Err(ServiceError::Internal("the kept answer is no review".to_owned()));
        };
        let key = id.to_string();
        let document = self
            .shown::<Reviews, Review>(self.reviews(), &receipt, &key, &key)
            .await?;
        Ok(Written::of(&receipt, document))
    }

    async fn opening(
        &self,
        place: Place,
        review: ReviewId,
        terms: ReviewTerms,
        actor: UserId,
        previous: Option<ReviewId>,
    ) -> Result<Opening, ServiceError> {
        let moment = self.moment("as_of", None).await?;
        let items = self.pinned(place, moment.position, &terms).await?.len() as u64;
        Ok(Opening {
            place,
            review,
            terms,
            actor,
            previous,
            pinned_at: moment.position,
            items,
        })
    }

    /// The access that a campaign is about, as it was at the pin, by id.
    async fn pinned(
        &self,
        place: Place,
        position: u64,
        terms: &ReviewTerms,
    ) -> Result<BTreeMap<PrincipalId, AccessHeld>, ServiceError> {
        let at = self.recorded_at(position).await?;
        let moment = MomentInLog { position, at };
        let question = AccessQuestion {
            environment: terms.environment,
            ..AccessQuestion::default()
        };
        let held = self.access_at(place, moment, question).await?;
        let is_reviewed = |access: &AccessHeld| {
            let kind = match access.held.through {
                Through::Membership(_) => Reviewed::Members,
                Through::AuditorGrant => Reviewed::Auditors,
                Through::ApiKey => Reviewed::ApiKeys,
                Through::OrganizationRole(_) | Through::OrganizationKey => return false,
            };
            terms.principals.contains(&kind)
        };
        let reviewed = held.into_iter().filter(is_reviewed);
        Ok(reviewed.map(|access| (access.held.principal, access)).collect())
    }

    async fn recorded_at(&self, position: u64) -> Result<Timestamp, ServiceError> {
        let event = stores::events_at(&**self.journal.store(), &[position]).await?;
        Ok(event.first().map_or(Timestamp(0), |event| event.recorded_at))
    }

    /// The campaigns of a workspace, in order of their ids.
    ///
    /// # Errors
    /// A refusal unless the caller may read the audit log.
    pub async fn reviews_of(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<ReviewDocument>, ServiceError> {
        let permission = Permission::ReadAudit;
        let action = "access_review.read";
        self.may_in_workspace(request, principal, workspace, permission, action)
            .await?;
        let page = self.reviews().page_of_parent(&workspace.to_string(), after, limit);
        Ok(page.await?)
    }

    /// One campaign.
    ///
    /// # Errors
    /// A refusal unless the caller may read the audit log; [`Refusal::NotFound`].
    pub async fn review(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        review: ReviewId,
    ) -> Result<Found<ReviewDocument>, ServiceError> {
        let permission = Permission::ReadAudit;
        let action = "access_review.read";
        self.may_in_workspace(request, principal, workspace, permission, action)
            .await?;
        self.review_in(workspace, review).await
    }

    async fn review_in(
        &self,
        workspace: WorkspaceId,
        review: ReviewId,
    ) -> Result<Found<ReviewDocument>, ServiceError> {
        let found = self.reviews().get(&review.to_string()).await?;
        let value = found.value.filter(|review| review.workspace == workspace);
        Ok(Found {
            position: found.position,
            value: value.ok_or(MISSING)?,
        })
    }

    /// A page of what a campaign is about, in order of ids.
    ///
    /// # Errors
    /// As [`Service::review`].
    pub async fn review_items(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        review: ReviewId,
        (after, limit): (Option<&str>, u64),
    ) -> Result<Page<ReviewItemView>, ServiceError> {
        let found = self.review(request, principal, workspace, review).await?;
        let document = found.value;
        let place = self.known_place(workspace).await?;
        let pinned = self.pinned(place, document.pinned_at, &document.terms).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let rest = pinned.into_iter().map(|(item, access)| (item.to_string(), access));
        // Ids of people and keys sort together by their text.
        let mut rest: Vec<_> = rest.filter(|(key, _)| Some(key.as_str()) > after).collect();
        rest.sort_by(|one, other| one.0.cmp(&other.0));
        let more = rest.len() > limit;
        rest.truncate(limit);
        let held = rest.into_iter().map(|(_, access)| access).collect();
        let trail = self.trail(review, found.position).await?;
        let shown = Showing {
            evidence_at: None,
            has_ended: document.status == ReviewStatus::Closed,
        };
        let views = self.item_views(place, held, &trail, shown).await?;
        let items = views.into_iter().map(|view| (view.item.to_string(), view));
        Ok(Page {
            items: items.collect(),
            more,
            position: found.position,
        })
    }

    pub(super) async fn trail(
        &self,
        review: ReviewId,
        position: u64,
    ) -> Result<Trail, ServiceError> {
        let (mut trail, mut sequence) = (Trail::default(), 0);
        let id = review.to_string();
        loop {
            let store = &**self.journal.store();
            let stream = (Review::TYPE, id.as_str());
            let page =
                stores::stream_page(store, stream, sequence, position, FOLDED_AT_ONCE).await?;
            for event in &page {
                trail.take(&event.decode()?);
            }
            match page.last() {
                Some(last) if page.len() as u64 == FOLDED_AT_ONCE => sequence = last.sequence,
                Some(_) | None => return Ok(trail),
            }
        }
    }
}

/// What decides the opening of a campaign.
struct Opening {
    place: Place,
    review: ReviewId,
    terms: ReviewTerms,
    actor: UserId,
    previous: Option<ReviewId>,
    pinned_at: u64,
    items: u64,
}

impl Opening {
    /// Every reviewer must be one who may, on the newest state.
    fn decide(
        &self,
        desk: &mut Desk<'_>,
        workspace: &StreamRef,
        review: &StreamRef,
    ) -> Result<(), Rejection> {
        let now = desk.now();
        let state = desk.read::<Workspace>(workspace);
        let may = |user: &UserId| state.authorise(*user, Permission::RunReviews, now).is_ok();
        if !self.terms.reviewers.iter().all(may) {
            return Err(Refusal::WrongValue {
                field: "reviewers",
                detail: "each must be an owner or an admin of the workspace",
            }
            .into());
        }
        let open = ReviewCommand::Open {
            review: self.review,
            workspace: self.place.workspace,
            organization: self.place.organization,
            terms: self.terms.clone(),
            actor: self.actor,
            pinned_at: self.pinned_at,
            items: self.items,
            previous: self.previous,
        };
        desk.execute::<Review>(review, open, &[])?;
        Ok(())
    }
}

/// How items are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Showing {
    /// What is known of their use is told as of this moment; as of now, where there is none.
    pub evidence_at: Option<MomentInLog>,
    pub has_ended: bool,
}

impl Service {
    /// Access as a reviewer sees it.
    pub(super) async fn item_views(
        &self,
        place: Place,
        held: Vec<AccessHeld>,
        trail: &Trail,
        showing: Showing,
    ) -> Result<Vec<ReviewItemView>, ServiceError> {
        let moment = match showing.evidence_at {
            Some(moment) => moment,
            None => self.moment("as_of", None).await?,
        };
        let evidence = self.evidence(place, moment, &held).await?;
        let present = self.present(place, moment).await?;
        let deciders = held.iter().filter_map(|access| trail.decided.get(&access.held.principal));
        let deciders: Vec<_> = deciders.map(|decided| decided.by).collect();
        let realm = place.organization.to_string();
        let called = self.called(&realm, deciders, Some(moment.position)).await?;
        let mut shown = Vec::with_capacity(held.len());
        for view in self.access_views(place, moment, held).await? {
            let access = view.access;
            let item = access.held.principal;
            let known = evidence.get(&item).copied().unwrap_or_default();
            let found = findings(access.held.through, view.since, &known, moment.at);
            let decided = match trail.decided.get(&item) {
                Some(decided) => Some(DecidedView {
                    decision: decided.decision,
                    by: decided.by,
                    by_name: called.of(decided.by).name.into_text(),
                    at: decided.at,
                    reason: self.open(&decided.reason).await?.into_text(),
                    position: decided.position,
                    findings: decided.findings.clone(),
                }),
                None => None,
            };
            let trailed = trail.decided.get(&item).and_then(|decided| decided.last_used_at);
            let outcome = showing.has_ended.then(|| match trail.settled.get(&item) {
                Some(Settlement::Refused { code }) => format!("refused: {code}"),
                Some(settled) => settled.name().to_owned(),
                None => "kept".to_owned(),
            });
            let scopes = access.held.scopes.map(|scopes| {
                scopes.into_iter().map(|scope| scope.name()).collect()
            });
            shown.push(ReviewItemView {
                item,
                name: view.name,
                through: access.held.through,
                scopes,
                environments: access.held.reach.keys().copied().collect(),
                since: view.since,
                granted_by: access.grant.by,
                granted_at_position: access.grant.position,
                last_used_at: trailed.max(known.last_used_at),
                findings: found.iter().map(|finding| finding.name().to_owned()).collect(),
                recommended: recommended(&found),
                has_changed: present.get(&item) != Some(&access.held.granted_at),
                decided,
                outcome,
            });
        }
        Ok(shown)
    }

    /// Which event gives each its access now.
    async fn present(
        &self,
        place: Place,
        moment: MomentInLog,
    ) -> Result<BTreeMap<PrincipalId, u64>, ServiceError> {
        let held = self.access_at(place, moment, AccessQuestion::default()).await?;
        let counts = held.iter().filter(|access| is_of_workspace(access.held.through));
        Ok(counts
            .map(|access| (access.held.principal, access.held.granted_at))
            .collect())
    }

    /// What is known of how access was used.
    async fn evidence(
        &self,
        place: Place,
        moment: MomentInLog,
        held: &[AccessHeld],
    ) -> Result<BTreeMap<PrincipalId, Evidence>, ServiceError> {
        let store = &**self.journal.store();
        audit_index::catch_up(store).await?;
        let ids: Vec<String> = held.iter().map(|access| access.held.principal.to_string()).collect();
        let workspace = place.workspace.to_string();
        let done = audit_index::uses(store, &workspace, &ids, moment.position).await?;
        let last = self.last_uses_at(place.workspace, moment, held).await?;
        let fold = self.access_fold(place, moment.position).await?;
        let policy = fold.workspace().policy();
        let mut known = BTreeMap::new();
        for access in held {
            let id = access.held.principal.to_string();
            let done = done.iter().filter(|done| done.actor == id);
            let since = access.grant.recorded_at;
            let mut evidence = Evidence {
                last_used_at: last.get(&access.held.principal).copied(),
                ..Evidence::default()
            };
            for done in done {
                let role = needed_for(&done.action);
                evidence.role_used = evidence.role_used.max(Some(role));
                evidence.broke_glass |= done.broke_glass_at.is_some_and(|at| at >= since);
            }
            if let Some(made) = access.held.created_at {
                let due = policy.rotation_due_at(made);
                evidence.is_past_rotation = due.is_some_and(|due| due <= moment.at);
                let is_member = |user: &UserId| fold.workspace().member_at(*user, moment.at).is_some();
                evidence.creator_is_gone = !access.responsible.iter().any(is_member);
            }
            known.insert(access.held.principal, evidence);
        }
        Ok(known)
    }
}

fn is_of_workspace(through: Through) -> bool {
    match through {
        Through::Membership(_) | Through::AuditorGrant | Through::ApiKey => true,
        Through::OrganizationRole(_) | Through::OrganizationKey => false,
    }
}

/// The least role that what was done takes, by the thing that it was done to.
fn needed_for(action: &str) -> Role {
    let thing = action.split('.').next().unwrap_or_default();
    match (thing, action) {
        (_, "member.joined" | "member.left" | "invitation.accepted") => Role::Viewer,
        ("workspace" | "plan" | "policy" | "ownership", _) => Role::Owner,
        (
            "member" | "invitation" | "api_key" | "auditor" | "access" | "access_review"
            | "phone_number" | "channel" | "integration" | "webhook_endpoint",
            _,
        )
        | (_, "crew.created" | "crew.archived" | "crew.listed" | "crew.unlisted") => Role::Admin,
        ("crew" | "agent" | "pathway" | "knowledge_base" | "promotion", _) => Role::Member,
        _ => Role::Viewer,
    }
}
