//! Decisions in a campaign, one or many at once: all of them, or none.

use std::collections::BTreeMap;

use futures::FutureExt;

use super::{ReviewAt, items::REASON_FIELD};
use crate::{
    domain::{
        Refusal, Timestamp,
        authority::{Permission, Role},
        ids::{EventId, PrincipalId, ReviewId, UserId, WorkspaceId},
        review::{
            Access, DecideAccess, Decision, Finding, Items, Newest, Review, ReviewCommand,
            Reviewed, findings,
        },
        sealed::Sealed,
        workspace::Workspace,
    },
    journal::{Desk, Rejection},
    projections::ReviewDocument,
    service::{
        Caller, Request, Service, ServiceError, Written,
        workspaces::DecideInWorkspace,
        write::{Composed, Made, Sender, unmoved},
    },
};

/// Items that are decided about at once.
pub const DECISIONS_MAX: usize = 200;

/// A decision as it is sent.
#[derive(Debug, Clone)]
pub struct ItemDecision {
    pub item: PrincipalId,
    pub decision: Decision,
    pub reason: String,
    /// The mark of the access that was looked at; that at the pin, where nothing is said.
    pub seen_at: Option<u64>,
}

/// A decision with all that its event says.
#[derive(Debug, Clone)]
struct Prepared {
    event: EventId,
    asked: ItemDecision,
    kind: Reviewed,
    seen_at: u64,
    reason: Sealed,
    findings: Vec<Finding>,
    last_used_at: Option<Timestamp>,
}

impl Service {
    /// Decides about access under review: about all that is named, or nothing.
    ///
    /// # Errors
    /// A refusal unless the caller is a reviewer, may still run reviews, and decides about nobody
    /// who is, or counts as, themselves; [`Refusal::AccessChanged`] where it is not what they say
    /// they have seen; an invalid value for what is not in the campaign.
    pub async fn decide_access(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        review: ReviewId,
        decisions: Vec<ItemDecision>,
    ) -> Result<Written<ReviewDocument>, ServiceError> {
        let place = self.known_place(workspace).await?;
        let at = ReviewAt { place, id: review };
        let sender = Sender::Person(caller.clone());
        let aim = place.aim("access_review.decided", review);
        let decisions = &decisions;
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                self.compose_decisions(request, caller, at, decisions)
                    .boxed()
            })
            .await?;
        self.review_written(receipt).await
    }

    async fn compose_decisions(
        &self,
        request: &Request,
        caller: &Caller,
        at: ReviewAt,
        decisions: &[ItemDecision],
    ) -> Result<Composed, ServiceError> {
        let (place, permission) = (at.place, Permission::RunReviews);
        let (document, sequence) = self.review_to_change(request, caller, at).await?;
        let pinned = self
            .pinned(place, document.pinned_at, &document.terms)
            .await?;
        let prepared = self.prepared(&document, &pinned, decisions).await?;
        let items = pinned.items;
        let user = caller.user;
        let decide: Box<DecideInWorkspace> = Box::new(move |desk, _| {
            unmoved(desk, &at.stream(), sequence)?;
            let newest = newest(desk, at, &items, user, &prepared);
            for (prepared, (present, carried_out)) in prepared.iter().zip(newest) {
                decide_one(desk, at, user, prepared, present)?;
                carried_out?;
            }
            Ok(Made::Review(at.id))
        });
        let composed =
            self.compose_in_workspace(request, caller, place, permission, None, 200, decide);
        let mut composed = composed.await?;
        composed.streams.push(at.stream());
        Ok(composed)
    }

    async fn prepared(
        &self,
        document: &ReviewDocument,
        pinned: &super::Pinned,
        decisions: &[ItemDecision],
    ) -> Result<Vec<Prepared>, ServiceError> {
        let place = ReviewAt::of(document).place;
        let unknown = || ServiceError::InvalidValue {
            pointer: "/decisions",
            detail: "each `item` is an `id` of this campaign's items".to_owned(),
        };
        let mut held = Vec::with_capacity(decisions.len());
        let by_id: BTreeMap<_, _> = pinned
            .held
            .iter()
            .map(|access| (access.held.principal, access))
            .collect();
        for decision in decisions {
            held.push((*by_id.get(&decision.item).ok_or_else(unknown)?).clone());
        }
        let moment = self.moment("as_of", None).await?;
        let workspace = self.workspace_at(document, moment).await?;
        let evidence = self.evidence(place, moment, &workspace, &held).await?;
        let key = self.workspace_key(place.workspace).await?;
        let prepared = decisions.iter().zip(held).filter_map(|(asked, access)| {
            let item = pinned.items.get(asked.item)?;
            let known = evidence.get(&asked.item).copied().unwrap_or_default();
            let since = access.held.counts_since.unwrap_or(access.grant.recorded_at);
            let event = EventId::from_uuid(self.source().uuid());
            Some(Prepared {
                event,
                kind: item.kind,
                seen_at: asked.seen_at.unwrap_or(item.mark),
                reason: key.seal(self.source(), event, REASON_FIELD, &asked.reason),
                findings: findings(access.held.through, since, &known, moment.at),
                last_used_at: known.last_used_at,
                asked: asked.clone(),
            })
        });
        Ok(prepared.collect())
    }
}

/// What each decision is about, as it is now, and why it could not be carried out, where it could
/// not: whoever decides is told so now, and not when the campaign closes.
fn newest(
    desk: &mut Desk<'_>,
    at: ReviewAt,
    items: &Items,
    actor: UserId,
    prepared: &[Prepared],
) -> Vec<(Option<Access>, Result<(), Refusal>)> {
    let now = desk.now();
    let workspace = desk.read::<Workspace>(&at.place.stream());
    let newest = Newest::of(workspace, items, now);
    let of = |prepared: &Prepared| {
        let (id, decision) = (prepared.asked.item, prepared.asked.decision);
        let present = items.get(id).and_then(|item| newest.access(id, item));
        let carried_out = could_carry_out(workspace, actor, id, decision, now);
        (present, carried_out)
    };
    prepared.iter().map(of).collect()
}

fn decide_one(
    desk: &mut Desk<'_>,
    at: ReviewAt,
    actor: UserId,
    prepared: &Prepared,
    present: Option<Access>,
) -> Result<(), Rejection> {
    let command = ReviewCommand::Decide(DecideAccess {
        actor,
        item: prepared.asked.item,
        kind: prepared.kind,
        decision: prepared.asked.decision,
        seen_at: prepared.seen_at,
        present: present.as_ref().map(|present| present.mark),
        subjects: present.map(|present| present.subjects).unwrap_or_default(),
        reason: prepared.reason.clone(),
        findings: prepared.findings.clone(),
        last_used_at: prepared.last_used_at,
    });
    Ok(desk.execute::<Review>(&at.stream(), command, &[prepared.event])?)
}

/// Nobody decides to touch, or give, a role above their own.
fn could_carry_out(
    workspace: &Workspace,
    actor: UserId,
    item: PrincipalId,
    decision: Decision,
    now: Timestamp,
) -> Result<(), Refusal> {
    let above = |role: Role| workspace.may_touch(actor, role, now);
    let PrincipalId::User(user) = item else {
        return Ok(());
    };
    match (decision, workspace.member_at(user, now)) {
        (Decision::Keep, _) | (_, None) => Ok(()),
        (Decision::Revoke, Some(member)) => above(member.strongest_role()),
        (Decision::Change { role }, Some(member)) => above(member.strongest_role().max(role)),
    }
}
