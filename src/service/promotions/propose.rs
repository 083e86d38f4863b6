//! Proposing a promotion, making it anew, and rolling one source out to many targets.

use std::{collections::BTreeSet, sync::Arc};

use futures::FutureExt;

use super::{Decide, Plan, PromotionAt, PromotionView, PromotionWrite};
use crate::{
    domain::{
        Refusal,
        authority::{Actor, Permission},
        bundle::{ItemKey, Manifest, changes},
        crew::{Crew, CrewPromoted, ItemId, ItemKind},
        ids::{AgentId, CrewId, PathwayId, PromotionId, UserId, WorkspaceId},
        promotion::{
            ApprovalTerms, CHANGES_BYTES_MAX, Promotion, PromotionCommand, PromotionSource, Review,
        },
        workspace::Workspace,
    },
    journal::{Desk, Rejection, entry::to_canonical},
    service::{
        BundleDraft, IdempotencyRequest, Principal, Request, Service, ServiceError, Written,
        bundles::{self, Contents},
        contents::Staged,
        crews::CrewAt,
    },
};

/// Where what is promoted is to come from.
#[derive(Debug, Clone)]
pub enum SourceDraft {
    /// A crew of the same workspace, as it is now.
    Crew(CrewId),
    /// A bundle that was sent.
    Bundle(Arc<BundleDraft>),
}

/// What a promotion is to be.
#[derive(Debug, Clone)]
pub struct NewPromotion {
    pub source: SourceDraft,
    pub target: CrewId,
    /// The agents and pathways alone that are meant, with what they need.
    pub include: Option<Vec<ItemKey>>,
}

/// What became of one target of many.
#[derive(Debug)]
pub struct RollOutResult {
    pub target: CrewId,
    /// Where the target lies, if the caller may know.
    pub workspace: Option<WorkspaceId>,
    pub outcome: Result<PromotionView, ServiceError>,
}

/// What became of each target, in the order that they were named.
#[derive(Debug)]
pub struct RollOutReport {
    pub results: Vec<RollOutResult>,
    /// Whether all that was proposed had been before, by the same request.
    pub replayed: bool,
}

/// The source of a promotion, looked up.
#[derive(Clone)]
enum Source {
    Crew(CrewAt),
    Bundle(Arc<BundleDraft>),
    /// A bundle whose contents the workspace keeps already.
    Kept(Manifest),
}

const NO_SOURCE: &str = "a promotion is from one crew into another";

/// A form of a promotion, made from what both sides are.
struct Form {
    source: PromotionSource,
    review: Review,
    staged: Arc<[Staged]>,
}

impl Service {
    /// Proposes that what is in a crew, or in a bundle, come into another crew.
    ///
    /// # Errors
    /// A refusal unless the caller may propose for the target and see the source;
    /// [`Refusal::NothingToPromote`], [`Refusal::TooManyChanges`], [`Refusal::NotPortable`].
    pub async fn propose(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        new: &NewPromotion,
    ) -> Result<Written<PromotionView>, ServiceError> {
        let (permission, action) = (Permission::ProposePromotions, "promotion.proposed");
        let target = (workspace, new.target);
        let (target, _) = self
            .may_in_crew(request, principal, target, permission, action)
            .await?;
        let source = match &new.source {
            SourceDraft::Bundle(bundle) => Source::Bundle(bundle.clone()),
            SourceDraft::Crew(crew) if *crew == new.target => {
                return Err(ServiceError::InvalidValue {
                    pointer: "/source",
                    detail: NO_SOURCE.to_owned(),
                });
            }
            SourceDraft::Crew(crew) => {
                let source = (workspace, *crew);
                let see = Permission::SeeCrews;
                let (source, _) = self
                    .may_in_crew(request, principal, source, see, "crew.exported")
                    .await?;
                Source::Crew(source)
            }
        };
        self.propose_to(request, principal, target, source, new.include.as_deref())
            .await
    }

    async fn propose_to(
        &self,
        request: &Request,
        principal: &Principal,
        target: CrewAt,
        source: Source,
        include: Option<&[ItemKey]>,
    ) -> Result<Written<PromotionView>, ServiceError> {
        let at = PromotionAt {
            place: target.place,
            id: PromotionId::from_uuid(self.source().uuid()),
            target: target.crew,
        };
        let actor = principal.actor();
        let write = PromotionWrite {
            action: "promotion.proposed",
            permission: Permission::ProposePromotions,
            status: 201,
            decide: &|| {
                let source = source.clone();
                async move {
                    let form = self.form(at, source, include).await?;
                    let decide: Box<Decide> =
                        Box::new(move |desk| propose_in(desk, at, actor, &form));
                    Ok(decide)
                }
                .boxed()
            },
        };
        let receipt = self
            .submit_on_promotion(request, principal, at, write)
            .await?;
        self.promotion_written(receipt, true).await
    }

    /// Makes a promotion anew from what source and target are now; approvals are void.
    ///
    /// # Errors
    /// As [`Service::propose`].
    pub async fn refresh_promotion(
        &self,
        request: &Request,
        principal: &Principal,
        at: (WorkspaceId, PromotionId),
    ) -> Result<Written<PromotionView>, ServiceError> {
        let (permission, action) = (Permission::ProposePromotions, "promotion.refreshed");
        let (at, found) = self
            .may_on_promotion(request, principal, at, permission, action)
            .await?;
        let document = found.value;
        let source = match document.source {
            PromotionSource::Crew { crew, .. } => {
                let see = Permission::SeeCrews;
                let crew = (at.place.workspace, crew.id);
                let (crew, _) = self
                    .may_in_crew(request, principal, crew, see, "crew.exported")
                    .await?;
                Source::Crew(crew)
            }
            PromotionSource::Bundle {} => {
                let plan = self.plan(at.place.workspace, document.review.plan).await?;
                Source::Kept(plan.manifest.iter().cloned().collect())
            }
        };
        let (actor, include) = (principal.actor(), document.review.include);
        let write = PromotionWrite {
            action,
            permission,
            status: 200,
            decide: &|| {
                let (source, include) = (source.clone(), include.clone());
                async move {
                    let form = self.form(at, source, include.as_deref()).await?;
                    let decide: Box<Decide> =
                        Box::new(move |desk| refresh_in(desk, at, actor, &form));
                    Ok(decide)
                }
                .boxed()
            },
        };
        let receipt = self
            .submit_on_promotion(request, principal, at, write)
            .await?;
        self.promotion_written(receipt, true).await
    }

    /// What a promotion is made of, from what both sides are now; its contents are staged.
    async fn form(
        &self,
        at: PromotionAt,
        source: Source,
        include: Option<&[ItemKey]>,
    ) -> Result<Form, ServiceError> {
        let workspace = at.place.workspace;
        let (source, manifest, mut staged) = match source {
            Source::Crew(crew) => {
                let contents = Contents::of(&self.crew_now(crew).await?);
                let (crew, version) = (crew.crew, contents.version);
                let source = PromotionSource::Crew { crew, version };
                (source, contents.manifest(), vec![])
            }
            Source::Bundle(bundle) => {
                let (manifest, staged) = self.stage_bundle(workspace, &bundle).await?;
                (PromotionSource::Bundle {}, manifest, staged)
            }
            Source::Kept(manifest) => (PromotionSource::Bundle {}, manifest, vec![]),
        };
        let target = Contents::of(&self.crew_now(at.crew()).await?);
        let chosen = match include {
            Some(include) => {
                let there = changes::by_key(target.all());
                let is_known =
                    |key: &&ItemKey| manifest.contains_key(*key) || there.contains_key(*key);
                if let Some(unknown) = include.iter().find(|key| !is_known(key)) {
                    return Err(ServiceError::InvalidValue {
                        pointer: "/include",
                        detail: format!("neither side has {unknown}"),
                    });
                }
                Some(self.with_needed(workspace, &manifest, include).await?)
            }
            None => None,
        };
        let bundle: Manifest = match &chosen {
            Some(chosen) => {
                let is_chosen = |(key, _): &(ItemKey, _)| chosen.contains(key);
                manifest.clone().into_iter().filter(is_chosen).collect()
            }
            None => manifest.clone(),
        };
        let plan = self.changes(&bundle, &target, chosen.as_ref());
        if plan.is_empty() {
            return Err(Refusal::NothingToPromote.into());
        }
        let comes = bundles::comes(&plan);
        let looked = self.look_into(workspace, &bundle).await?;
        let needs = looked.needs_of(|key| comes.contains(key))?;
        let event = CrewPromoted {
            promotion: at.id,
            changes: plan,
        };
        let bytes = to_canonical(&event).map_err(|error| ServiceError::Internal(error.to_string()));
        if bytes?.len() > CHANGES_BYTES_MAX {
            return Err(Refusal::TooManyChanges.into());
        }
        let count = |is: fn(bool, bool) -> bool| {
            let changes = event.changes.iter();
            changes
                .filter(|it| is(it.from.is_some(), it.to.is_some()))
                .count() as u64
        };
        let (added, changed, removed) = (
            count(|from, to| !from && to),
            count(|from, to| from && to),
            count(|from, to| from && !to),
        );
        let plan = Plan {
            changes: event.changes,
            manifest: manifest.into_iter().collect(),
            needs: needs.into_iter().collect(),
        };
        let text =
            to_canonical(&plan).map_err(|error| ServiceError::Internal(error.to_string()))?;
        let kept = self.stage(workspace, &text).await?;
        let plan = kept.content;
        staged.push(kept);
        Ok(Form {
            source,
            review: Review {
                target_version: target.version,
                bundle_digest: looked.digest,
                include: include.map(<[ItemKey]>::to_vec),
                plan,
                added,
                changed,
                removed,
            },
            staged: staged.into(),
        })
    }

    fn changes(
        &self,
        bundle: &Manifest,
        target: &Contents,
        chosen: Option<&BTreeSet<ItemKey>>,
    ) -> Vec<crate::domain::crew::ItemChange> {
        let there = changes::by_key(target.all());
        changes::towards(bundle, &there, chosen, |kind| {
            let uuid = self.source().uuid();
            match kind {
                ItemKind::Agent => ItemId::Agent(AgentId::from_uuid(uuid)),
                ItemKind::Pathway => ItemId::Pathway(PathwayId::from_uuid(uuid)),
            }
        })
    }

    /// Proposes what is in one crew to many others, in this workspace and in others: each target is
    /// a promotion of its own, or told why it is none.
    ///
    /// # Errors
    /// A refusal unless the caller may propose promotions here and see the source.
    pub async fn roll_out(
        &self,
        request: &Request,
        principal: &Principal,
        (workspace, crew): (WorkspaceId, CrewId),
        targets: &[CrewId],
        include: Option<&[ItemKey]>,
    ) -> Result<RollOutReport, ServiceError> {
        let (permission, action) = (Permission::ProposePromotions, "crew.rolled_out");
        let (source, _) = self
            .may_in_crew(request, principal, (workspace, crew), permission, action)
            .await?;
        // What goes into other workspaces goes as a bundle, read once.
        let mut bundle: Option<Arc<BundleDraft>> = None;
        let mut results = Vec::with_capacity(targets.len());
        let mut replays = Vec::with_capacity(targets.len());
        for target in targets {
            let found = self.crews().get(&target.to_string()).await?.value;
            let place = found.as_ref().map(|found| found.workspace);
            let outcome = match place {
                None => Err(NO_CREW.into()),
                Some(place) => {
                    let from = match place == workspace {
                        true => SourceDraft::Crew(crew),
                        false => {
                            let bundle = match &bundle {
                                Some(bundle) => bundle.clone(),
                                None => {
                                    let contents = Contents::of(&self.crew_now(source).await?);
                                    let manifest = contents.manifest();
                                    let read = self.bundle_of(workspace, &manifest).await?;
                                    bundle.insert(Arc::new(read)).clone()
                                }
                            };
                            SourceDraft::Bundle(bundle)
                        }
                    };
                    let new = NewPromotion {
                        source: from,
                        target: *target,
                        include: include.map(<[ItemKey]>::to_vec),
                    };
                    let request = for_target(request, *target);
                    let proposed = self.propose(&request, principal, place, &new).await;
                    if let Err(ServiceError::IdempotencyKeyReused) = &proposed {
                        return Err(ServiceError::IdempotencyKeyReused);
                    }
                    replays.extend(proposed.as_ref().map(|written| written.replayed).ok());
                    proposed
                        .map(|written| written.value)
                        .map_err(not_told_apart)
                }
            };
            // Whoever may not know of a target is not told where it lies.
            let workspace = place.filter(|_| outcome.is_ok());
            results.push(RollOutResult {
                target: *target,
                workspace,
                outcome,
            });
        }
        Ok(RollOutReport {
            replayed: !replays.is_empty() && replays.iter().all(|replayed| *replayed),
            results,
        })
    }
}

/// No target by that id, as far as the caller may know.
const NO_CREW: Refusal = Refusal::NotFound {
    what: "crew",
    hidden: false,
};

/// Whether a target is hidden, or there is none, is not told; nor whether its workspace is.
fn not_told_apart(error: ServiceError) -> ServiceError {
    match error {
        ServiceError::Refused(Refusal::NotFound { .. }) => NO_CREW.into(),
        other => other,
    }
}

/// The same request for one target of many: repeating it repeats each.
fn for_target(request: &Request, target: CrewId) -> Request {
    let idempotency = request
        .idempotency
        .as_ref()
        .map(|asked| IdempotencyRequest {
            key: format!("{}/{target}", asked.key),
            fingerprint: asked.fingerprint.clone(),
        });
    Request {
        idempotency,
        ..request.clone()
    }
}

/// The people that count as having proposed: of a key, who made and last rotated it.
fn proposers(workspace: &Workspace, actor: Actor) -> Vec<UserId> {
    match actor {
        Actor::User { id } => vec![id],
        Actor::ApiKey { id } => workspace.keys().stands_for(id),
        Actor::System | Actor::OperatorKey { .. } | Actor::CommandLine => vec![],
    }
}

/// That a form is still made of what its target is, and what its approval takes; what it names is
/// pinned.
fn made_of(
    desk: &mut Desk<'_>,
    at: PromotionAt,
    actor: Actor,
    form: &Form,
) -> Result<(ApprovalTerms, Vec<UserId>), Rejection> {
    let crew = desk.read::<Crew>(&at.crew().stream());
    crew.changeable_in(at.place.workspace)?;
    if crew.contents_version() != form.review.target_version {
        return Err(Rejection::Recompose);
    }
    let workspace = desk.read::<Workspace>(&at.place.stream());
    let terms = ApprovalTerms::from(workspace.policy());
    let proposers = proposers(workspace, actor);
    bundles::pin(&form.staged, desk)?;
    Ok((terms, proposers))
}

fn propose_in(
    desk: &mut Desk<'_>,
    at: PromotionAt,
    actor: Actor,
    form: &Form,
) -> Result<(), Rejection> {
    let (terms, proposers) = made_of(desk, at, actor, form)?;
    let propose = PromotionCommand::Propose {
        promotion: at.id,
        workspace: at.place.workspace,
        organization: at.place.organization,
        source: form.source,
        target: at.target,
        review: form.review.clone(),
        terms,
        proposed_by: actor,
        proposers,
    };
    Ok(desk.execute::<Promotion>(&at.stream(), propose, &[])?)
}

fn refresh_in(
    desk: &mut Desk<'_>,
    at: PromotionAt,
    actor: Actor,
    form: &Form,
) -> Result<(), Rejection> {
    let (terms, proposers) = made_of(desk, at, actor, form)?;
    let refresh = PromotionCommand::Refresh {
        source: form.source,
        review: form.review.clone(),
        terms,
        refreshed_by: actor,
        proposers,
    };
    Ok(desk.execute::<Promotion>(&at.stream(), refresh, &[])?)
}
