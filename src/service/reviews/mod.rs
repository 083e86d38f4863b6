//! Access reviews: opened over who had access at a position, decided item by item or in bulk,
//! closed by a person or by time, and carried out as ordinary events that point to the campaign.
//!
//! What there is to decide about is folded from the log up to the pinned position, each time it is
//! asked for: it cannot change (`items`). Decisions are `decide`'s; carrying them out goes in
//! steps that are each done once, whoever does them (`closing`); time reminds, closes and opens
//! the next (`due`). `report` tells all of it, in a form that can be proven.

mod closing;
mod decide;
mod due;
mod items;
mod report;
mod report_csv;
mod report_html;
mod report_proof;

use std::collections::BTreeSet;

use futures::FutureExt;

use super::{
    AccessQuestion, Caller, MomentInLog, Principal, Request, Service, ServiceError, Written,
    past::Part,
    workspaces::{DecideInWorkspace, Place},
    write::{Made, Receipt, Sender},
};
use crate::{
    domain::{
        Name, Refusal, Timestamp,
        authority::Permission,
        environment::Environment,
        ids::{ReviewId, UserId, WorkspaceId},
        review::{Items, Review, ReviewCommand, ReviewTerms, Reviewed, Undecided},
        workspace::Workspace,
    },
    journal::{Desk, Rejection, StreamRef, stores},
    projections::{Found, Page, ReviewDocument, Reviews, access::AccessHeld},
};

pub use decide::{DECISIONS_MAX, ItemDecision};
pub use items::{DecidedView, ItemOutcome, ItemStatus, PresentView, ReviewItemView};
pub(super) use items::{TRAILS_KEPT, Trails};
pub use report::{ReportFormat, SentReport};
pub(super) use report_proof::{is_report, verify as verify_report};

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

const MISSING: Refusal = Refusal::NotFound {
    what: "access review",
    hidden: false,
};

/// A campaign that a command is sent to.
#[derive(Debug, Clone, Copy)]
struct ReviewAt {
    place: Place,
    id: ReviewId,
}

impl ReviewAt {
    fn stream(self) -> StreamRef {
        StreamRef::of::<Review>(self.id, self.place.workspace)
    }

    fn of(document: &ReviewDocument) -> Self {
        let (workspace, organization) = (document.workspace, document.organization);
        Self {
            place: Place {
                workspace,
                organization,
            },
            id: document.id,
        }
    }
}

/// What a campaign is about, with all that is told of it.
struct Pinned {
    moment: MomentInLog,
    items: Items,
    held: Vec<AccessHeld>,
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
        let at = ReviewAt { place, id };
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
                async move {
                    self.may_now(caller, workspace, permission).await?;
                    let opening = self.opening(at, terms, caller.user, None).await?;
                    let decide: Box<DecideInWorkspace> = Box::new(move |desk, _| {
                        opening.every_reviewer_may(desk)?;
                        opening.decide(desk)?;
                        Ok(Made::Review(id))
                    });
                    let composed = self.compose_in_workspace(
                        request, caller, place, permission, None, 201, decide,
                    );
                    let mut composed = composed.await?;
                    composed.streams.push(at.stream());
                    Ok(composed)
                }
                .boxed()
            })
            .await?;
        self.review_written(receipt).await
    }

    async fn review_written(
        &self,
        receipt: Receipt,
    ) -> Result<Written<ReviewDocument>, ServiceError> {
        let Made::Review(id) = receipt.made else {
            let words = "the kept answer is no access review".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let key = id.to_string();
        let document = self
            .shown::<Reviews, Review>(self.reviews(), &receipt, &key, &key)
            .await?;
        Ok(Written::of(&receipt, document))
    }

    /// What decides an opening over access as it is now.
    async fn opening(
        &self,
        at: ReviewAt,
        terms: ReviewTerms,
        actor: UserId,
        previous: Option<ReviewId>,
    ) -> Result<Opening, ServiceError> {
        let head = stores::head(&**self.journal.store()).await?.position;
        let pinned = self.pinned(at.place, head, &terms).await?;
        Ok(Opening {
            at,
            terms,
            actor,
            previous,
            pinned_at: head,
            items: pinned.items.len() as u64,
        })
    }

    /// The access that a campaign is about, as it was at the pin.
    async fn pinned(
        &self,
        place: Place,
        position: u64,
        terms: &ReviewTerms,
    ) -> Result<Pinned, ServiceError> {
        let moment = self.moment("position", Some(super::AsOf::Position(position)));
        let moment = moment.await?;
        let fold = self.access_fold(place, position).await?;
        let question = AccessQuestion {
            environment: terms.environment,
            ..AccessQuestion::default()
        };
        let mut held = self.access_at(place, moment, question).await?;
        let all = held.iter().map(|access| &access.held);
        let items = Items::pinned(fold.workspace(), all, terms, moment.at);
        held.retain(|access| {
            let kind = crate::domain::review::kind_of(access.held.through);
            kind.is_some() && items.get(access.held.principal).map(|item| item.kind) == kind
        });
        Ok(Pinned {
            moment,
            items,
            held,
        })
    }

    /// The campaigns of a workspace, oldest first.
    ///
    /// # Errors
    /// A refusal unless the caller may read the audit log.
    pub async fn reviews_of(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        (after, limit): (Option<&str>, u64),
    ) -> Result<Page<ReviewDocument>, ServiceError> {
        let permission = Permission::ReadAudit;
        let action = "access_review.read";
        let place = self
            .may_in_workspace(request, principal, workspace, permission, action)
            .await?;
        let parent = workspace.to_string();
        let Some(moment) = self.state_of_workspace(request, place).await?.moment() else {
            return Ok(self.reviews().page_of_parent(&parent, after, limit).await?);
        };
        let born = |review: &ReviewDocument| review.created_at;
        let parts = |review: &ReviewDocument| vec![Part::Review(review.id)];
        let of = (parent.as_str(), after, limit);
        let (_, page) = self
            .page_then::<Reviews>(moment, of, born, parts, Some)
            .await?;
        Ok(page)
    }

    /// One campaign.
    ///
    /// # Errors
    /// A refusal unless the caller may read the audit log; [`Refusal::NotFound`].
    pub async fn review(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        review: ReviewId,
    ) -> Result<Found<ReviewDocument>, ServiceError> {
        let permission = Permission::ReadAudit;
        let action = "access_review.read";
        self.may_in_workspace(request, principal, workspace, permission, action)
            .await?;
        self.review_in(workspace, review).await
    }

    /// A campaign that somebody who runs reviews is to change, with the sequence that it must still
    /// be at, where the request names a version.
    async fn review_to_change(
        &self,
        request: &Request,
        caller: &Caller,
        at: ReviewAt,
    ) -> Result<(ReviewDocument, Option<u64>), ServiceError> {
        let workspace = at.place.workspace;
        self.may_now(caller, workspace, Permission::RunReviews)
            .await?;
        // Looked at behind the sequence: what comes between is refused and not overlooked.
        let version = async { Ok(Some(self.review_in(workspace, at.id).await?.value.version)) };
        let sequence = self
            .checked_sequence(request, &at.stream(), version)
            .await?;
        let document = self.review_in(workspace, at.id).await?.value;
        Ok((document, sequence))
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
}

/// What decides the opening of a campaign.
#[derive(Debug, Clone)]
struct Opening {
    at: ReviewAt,
    terms: ReviewTerms,
    actor: UserId,
    previous: Option<ReviewId>,
    pinned_at: u64,
    items: u64,
}

impl Opening {
    /// Every reviewer must be one who may, on the newest state.
    fn every_reviewer_may(&self, desk: &mut Desk<'_>) -> Result<(), Rejection> {
        match self
            .terms
            .reviewers
            .iter()
            .all(|user| may_run(desk, self.at, *user))
        {
            true => Ok(()),
            false => Err(Refusal::WrongValue {
                field: "reviewers",
                detail: "each must be an owner or an admin of the workspace",
            }
            .into()),
        }
    }

    fn decide(&self, desk: &mut Desk<'_>) -> Result<(), Rejection> {
        let open = ReviewCommand::Open {
            review: self.at.id,
            workspace: self.at.place.workspace,
            organization: self.at.place.organization,
            terms: self.terms.clone(),
            actor: self.actor,
            pinned_at: self.pinned_at,
            items: self.items,
            previous: self.previous,
        };
        Ok(desk.execute::<Review>(&self.at.stream(), open, &[])?)
    }
}

/// Whether somebody may run reviews, on the newest state.
fn may_run(desk: &mut Desk<'_>, at: ReviewAt, user: UserId) -> bool {
    let now = desk.now();
    let workspace = desk.read::<Workspace>(&at.place.stream());
    workspace
        .authorise(user, Permission::RunReviews, now)
        .is_ok()
}
