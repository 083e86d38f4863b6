//! Promotions: proposed, reviewed, approved, applied, checked, rolled back; and what crews differ
//! in.
//!
//! A promotion lies with its target: who may do something about one is asked for that crew, and a
//! key reaches those whose target it reaches. A key reads a source only where it reaches that crew
//! too: between environments a bundle crosses as a file, and no key does.
//!
//! What is to change is composed from what both sides are (`propose`), kept as one content, the
//! plan, and named by its digest in every approval; applying it writes that and nothing else
//! (`decide`). What is shown of it is computed from the plan (`differences`).

mod changelog;
mod decide;
mod differences;
mod due;
mod propose;

use std::{collections::BTreeSet, sync::Arc};

use futures::FutureExt;
use serde::{Deserialize, Serialize};

use super::{
    Condition, Principal, Request, Service, ServiceError, Written,
    crews::{CrewAt, reaches},
    past::{Part, State},
    workspaces::Place,
    write::{Composed, Made, Receipt, Sender, unmoved},
};
use crate::{
    domain::{
        Refusal,
        authority::Permission,
        bundle::ItemKey,
        contents::{Content, slots::Slot},
        crew::{Crew, CrewPlace, ItemChange},
        ids::{PromotionId, UserId, WorkspaceId},
        promotion::{ApprovalTerms, Circumstances, Promotion, PromotionStatus},
        workspace::Workspace,
    },
    journal::{Desk, Rejection, StreamRef},
    projections::{CrewContents, Found, Page, PromotionDocument, Promotions},
};

pub use changelog::ChangelogView;
pub use decide::ReportedCheck;
use decide::apply_in;
pub use differences::{DiffItem, DiffView, OtherSide};
pub use propose::{NewPromotion, RollOutReport, RollOutResult, SourceDraft};

/// A promotion, as it is answered.
#[derive(Debug, Clone)]
pub struct PromotionView {
    pub document: PromotionDocument,
    /// How it stands now: stale, where its target has changed.
    pub status: PromotionStatus,
    /// Why, in the proposer's words.
    pub reason: Option<String>,
    /// Why it ended, in the words of whoever ended it.
    pub end_reason: Option<String>,
    /// The evidence of each check, in their order.
    pub evidence: Vec<Option<String>>,
    /// What it changes; in the answer of one alone.
    pub diff: Option<DiffView>,
}

/// Which promotions; each condition that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct PromotionFilter {
    /// By the crew that they change.
    pub target: Option<crate::domain::ids::CrewId>,
}

/// What a promotion is to change, what its bundle holds, and what that needs of the target. Kept
/// as a content.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    changes: Vec<ItemChange>,
    /// All that was sent, should it be made anew.
    manifest: Vec<(ItemKey, Content)>,
    needs: Vec<Slot>,
}

/// A promotion that a command is sent to.
#[derive(Debug, Clone, Copy)]
struct PromotionAt {
    place: Place,
    id: PromotionId,
    target: CrewPlace,
}

impl PromotionAt {
    fn stream(self) -> StreamRef {
        StreamRef::of::<Promotion>(self.id, self.place.workspace)
    }

    fn crew(self) -> CrewAt {
        CrewAt {
            place: self.place,
            crew: self.target,
        }
    }
}

type Decide = dyn Fn(&mut Desk<'_>) -> Result<(), Rejection> + Send + Sync;

/// A command to a promotion, and what goes with it.
struct PromotionWrite<'a> {
    action: &'static str,
    permission: Permission,
    status: u16,
    /// Makes the decision; anew each time that it is composed.
    decide: &'a (
            dyn Fn() -> futures::future::BoxFuture<'a, Result<Box<Decide>, ServiceError>>
                + Send
                + Sync
        ),
}

const MISSING: Refusal = Refusal::NotFound {
    what: "promotion",
    hidden: false,
};

/// What a decision about a promotion stands on, on the newest state.
fn circumstances(desk: &mut Desk<'_>, at: PromotionAt) -> Circumstances {
    let now = desk.now();
    let approvers: Vec<UserId> = desk.read::<Promotion>(&at.stream()).approvers().collect();
    let workspace = desk.read::<Workspace>(&at.place.stream());
    let may = |user: &UserId| {
        let permission = Permission::DecidePromotions;
        workspace.authorise(*user, permission, now).is_ok()
    };
    let entitled: BTreeSet<UserId> = approvers.into_iter().filter(may).collect();
    let terms = ApprovalTerms::from(workspace.policy());
    let crew = desk.read::<Crew>(&at.crew().stream());
    Circumstances {
        target_version: crew.contents_version(),
        terms,
        entitled,
    }
}

impl Service {
    /// That the caller may do something about a promotion; a refusal is kept among the attempts.
    /// One whose target a key does not reach is not there for it.
    async fn may_on_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        (workspace, id): (WorkspaceId, PromotionId),
        permission: Permission,
        action: &'static str,
    ) -> Result<(PromotionAt, Found<PromotionDocument>), ServiceError> {
        let place = self.known_place(workspace).await?;
        let found = self.promotions().get(&id.to_string()).await?;
        let position = found.position;
        let document = found.value.filter(|found| found.workspace == workspace);
        let refusal = match self.is_allowed(principal, place, permission).await {
            Ok(()) => match document {
                None => return Err(MISSING.into()),
                Some(value) if reaches(principal, value.target) => {
                    let target = value.target;
                    let at = PromotionAt { place, id, target };
                    return Ok((at, Found { position, value }));
                }
                Some(_) => Refusal::NotFound {
                    what: "promotion",
                    hidden: true,
                },
            },
            Err(ServiceError::Refused(refusal)) => refusal,
            Err(error) => return Err(error),
        };
        if refusal.is_denial() {
            let aim = place.aim(action, id);
            let aim = match document {
                Some(document) => aim.in_crew(document.target),
                None => aim,
            };
            self.keep_attempt(principal, request, &aim, &refusal).await;
        }
        Err(refusal.into())
    }

    /// Submits a command to a promotion: on the newest state of its workspace and its target.
    async fn submit_on_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: PromotionAt,
        write: PromotionWrite<'_>,
    ) -> Result<Receipt, ServiceError> {
        let aim = at.place.aim(write.action, at.id).in_crew(at.target);
        let sender = Sender::of(principal);
        let write = &write;
        self.submit(&sender, request, Some(&aim), || {
            self.compose_on_promotion(request, principal, at, write)
                .boxed()
        })
        .await
    }

    async fn compose_on_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: PromotionAt,
        write: &PromotionWrite<'_>,
    ) -> Result<Composed, ServiceError> {
        let (place, permission, status) = (at.place, write.permission, write.status);
        let (workspace, stream) = (place.stream(), at.stream());
        if request.condition != Condition::None {
            self.is_allowed(principal, place, permission).await?;
        }
        let version = async {
            let found = self.promotions().get(&at.id.to_string()).await?.value;
            Ok(found.map(|found| found.version))
        };
        let sequence = self.checked_sequence(request, &stream, version).await?;
        let (organization, scope) = (Some(place.organization), Some(place.workspace));
        let origin = self
            .origin_of(principal, request, organization, scope)
            .await?;
        let decide = (write.decide)().await?;
        let principal = principal.clone();
        let mut streams = vec![workspace.clone(), stream.clone(), at.crew().stream()];
        streams.extend(principal.stream());
        Ok(Composed {
            lane: place.organization.to_string(),
            streams,
            lookups: vec![],
            origin,
            decide: Box::new(move |desk| {
                principal.is_live(desk)?;
                let (now, actor) = (desk.now(), principal.actor());
                let holder = desk.read::<Workspace>(&workspace);
                let link = holder.authorise_in_crew(actor, permission, at.target, now)?;
                desk.stand_on(link);
                unmoved(desk, &stream, sequence)?;
                decide(desk)?;
                Ok(Made::Promotion(at.id).outcome(status))
            }),
        })
    }

    /// A promotion as its write left it, with what it changes where that is asked for.
    async fn promotion_written(
        &self,
        receipt: Receipt,
        with_diff: bool,
    ) -> Result<Written<PromotionView>, ServiceError> {
        let Made::Promotion(id) = receipt.made else {
            let words = "the kept answer is no promotion".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let key = id.to_string();
        let documents = self.promotions();
        let shown = self.shown::<Promotions, Promotion>(documents, &receipt, &key, &key);
        let state = self.state_of_now();
        let view = self.promotion_view(&state, shown.await?, with_diff).await?;
        Ok(Written::of(&receipt, view))
    }

    /// The version of a crew's contents.
    async fn contents_version(
        &self,
        state: &State<'_>,
        crew: CrewPlace,
    ) -> Result<u64, ServiceError> {
        let contents = state.documents::<CrewContents>();
        let found = contents.get(&crew.id.to_string()).await?;
        Ok(found.value.map_or(0, |contents| contents.version))
    }

    async fn promotion_view(
        &self,
        state: &State<'_>,
        document: PromotionDocument,
        with_diff: bool,
    ) -> Result<PromotionView, ServiceError> {
        let version = self.contents_version(state, document.target).await?;
        let status = document.status.at(document.review.target_version, version);
        let diff = match with_diff {
            true => Some(self.diff_of_promotion(state, &document).await?),
            false => None,
        };
        let end = document.ended.as_ref();
        let end_reason = self.opened(end.and_then(|end| end.reason.as_ref())).await?;
        let reason = self.opened(document.reason.as_ref()).await?;
        let mut evidence = Vec::with_capacity(document.checks.len());
        for check in &document.checks {
            let opened = self.opened(check.evidence.as_ref()).await?;
            evidence.push(opened.and_then(|text| decide::evidence_of(&text, &check.check.name)));
        }
        Ok(PromotionView {
            document,
            status,
            reason,
            end_reason,
            evidence,
            diff,
        })
    }

    /// What a promotion is to change.
    async fn plan(&self, workspace: WorkspaceId, plan: Content) -> Result<Arc<Plan>, ServiceError> {
        let text = self.content(workspace, plan).await?;
        let read = crate::journal::beside(move || serde_json::from_str::<Plan>(&text));
        let plan = read.await.map_err(|error| {
            ServiceError::Internal(format!("the plan of a promotion is malformed: {error}"))
        })?;
        Ok(Arc::new(plan))
    }

    /// A promotion, with what it changes.
    ///
    /// # Errors
    /// A refusal unless the caller may see it; [`Refusal::NotFound`].
    pub async fn promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: (WorkspaceId, PromotionId),
    ) -> Result<Found<PromotionView>, ServiceError> {
        let permission = Permission::SeePromotions;
        let (there, found) = self
            .may_on_promotion(request, principal, at, permission, "promotion.read")
            .await?;
        let parts = [Part::Promotion(there.id), Part::Crew(there.target.id)];
        let state = self.state(request, &parts).await?;
        let found = match state.moment() {
            None => found,
            Some(_) => {
                let promotions = state.documents::<Promotions>();
                let then = promotions.get(&there.id.to_string()).await?;
                Found {
                    position: then.position,
                    value: then.value.ok_or(MISSING)?,
                }
            }
        };
        Ok(Found {
            position: found.position,
            value: self.promotion_view(&state, found.value, true).await?,
        })
    }

    /// A page of a workspace's promotions, oldest first, without what they change: of those whose
    /// target a key reaches.
    ///
    /// # Errors
    /// A refusal unless the caller may see promotions.
    pub async fn promotions_of(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        filter: &PromotionFilter,
        (after, limit): (Option<&str>, u64),
    ) -> Result<Page<PromotionView>, ServiceError> {
        let permission = Permission::SeePromotions;
        let place = self
            .may_in_workspace(request, principal, workspace, permission, "promotion.read")
            .await?;
        let keep = |promotion: PromotionDocument| {
            let is_wanted = filter
                .target
                .is_none_or(|target| target == promotion.target.id);
            (is_wanted && reaches(principal, promotion.target)).then_some(promotion)
        };
        let parent = workspace.to_string();
        let state = self.state_of_workspace(request, place).await?;
        let (state, page) = match state.moment() {
            Some(moment) => {
                let born = |promotion: &PromotionDocument| promotion.created_at;
                let parts = |promotion: &PromotionDocument| {
                    let crew = promotion.target.id;
                    vec![Part::Promotion(promotion.id), Part::CrewVersion(crew)]
                };
                let of = (parent.as_str(), after, limit);
                self.page_then::<Promotions>(moment, of, born, parts, keep)
                    .await?
            }
            None => {
                let promotions = self.promotions();
                let page = promotions.page_of_parent_where(&parent, after, limit, keep);
                (state, page.await?)
            }
        };
        let mut items = Vec::with_capacity(page.items.len());
        for (key, document) in page.items {
            let view = self.promotion_view(&state, document, false).await?;
            items.push((key, view));
        }
        Ok(Page {
            items,
            more: page.more,
            position: page.position,
        })
    }
}
