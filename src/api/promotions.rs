//! Promotions over HTTP: proposed, read, approved, applied, checked, rolled back.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    as_of::AsOf,
    bundles::{BUNDLE_BODY_BYTES_MAX, BundleBody, DiffBody, include, one_of},
    exchange::{Command, MomentQuery, PrincipalReader, PrincipalWriter, ReadQuery},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::{Json, Object},
    paging::{Cursor, Limit, PromotionCursor},
    problem::Problem,
    query::Path,
    respond::{Created, Page, Resource},
    values::{GivenTime, ReasonOnly, Time, wrong},
};
use crate::{
    domain::{
        authority::Actor,
        bundle::ItemKey,
        environment::Environment,
        ids::{CrewId, PromotionId, UserId, WorkspaceId},
        promotion::{CHECKS_MAX, CheckOutcome, PromotionSource, PromotionStatus},
    },
    projections::PromotionDocument,
    service::{
        NewPromotion, PromotionFilter, PromotionView, ReportedCheck, Service, SourceDraft, Written,
    },
};

/// The longest name of a check, in characters.
const CHECK_NAME_CHARACTERS_MAX: usize = 120;
/// The longest evidence of a check, in characters.
const EVIDENCE_CHARACTERS_MAX: usize = 2_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(propose_promotion, list_promotions))
        .routes(routes!(read_promotion))
        .routes(routes!(approve_promotion))
        .routes(routes!(reject_promotion))
        .routes(routes!(refresh_promotion))
        .routes(routes!(cancel_promotion))
        .routes(routes!(apply_promotion))
        .routes(routes!(verify_promotion))
        .routes(routes!(roll_back_promotion))
}

/// Who did something: a person, a key, or Crewlog itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PromotionActor)]
pub struct ActorBody {
    /// `user`, `api_key` or `system`.
    #[serde(rename = "type")]
    kind: &'static str,
    #[schema(required)]
    id: Option<String>,
    /// What they are called; in the change log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    name: Option<String>,
}

impl ActorBody {
    /// With what they are called.
    pub(super) fn named(actor: Actor, name: String) -> Self {
        Self {
            name: Some(name),
            ..Self::from(actor)
        }
    }

    /// What they are called.
    pub(super) fn name(&self) -> &str {
        self.name
            .as_deref()
            .or(self.id.as_deref())
            .unwrap_or(self.kind)
    }
}

impl From<Actor> for ActorBody {
    fn from(actor: Actor) -> Self {
        Self {
            kind: actor.kind(),
            id: actor.id(),
            name: None,
        }
    }
}

/// An approval of the present form.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PromotionApproval)]
pub struct ApprovalBody {
    user: UserId,
    at: Time,
}

/// The last report on a check.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PromotionCheck)]
pub struct CheckBody {
    name: String,
    #[schema(inline)]
    outcome: CheckOutcome,
    #[schema(required)]
    evidence: Option<String>,
    by: ActorBody,
    at: Time,
}

/// A schedule that came to nothing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndedSchedule)]
pub struct EndedScheduleBody {
    at: Time,
    /// `target_moved`, `rights_ended`, `approvals_missing`, `slots_missing` or `target_gone`.
    why: &'static str,
}

/// That a promotion was applied.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AppliedPromotion)]
pub struct AppliedBody {
    /// Who applied it, or scheduled it.
    by: UserId,
    at: Time,
    /// The version of the target's contents since.
    version: u64,
    scheduled: bool,
}

/// That a promotion is over.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndedPromotion)]
pub struct EndedBody {
    by: ActorBody,
    at: Time,
    #[schema(required)]
    reason: Option<String>,
    /// Whether later changes went with it, where it was rolled back.
    forced: bool,
}

/// How many agents and pathways it changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PromotionSummary)]
pub struct SummaryBody {
    added: u64,
    changed: u64,
    removed: u64,
}

/// What is in one crew, or in a bundle, on its way into another crew.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Promotion)]
pub struct PromotionBody {
    pub(super) id: PromotionId,
    pub(super) version: u64,
    created_at: Time,
    updated_at: Time,
    pub(super) workspace: WorkspaceId,
    /// The crew that it comes from; `null` for a bundle.
    #[schema(required)]
    source: Option<CrewId>,
    /// The version of the source's contents that it was made from; `null` for a bundle.
    #[schema(required)]
    source_version: Option<u64>,
    target: CrewId,
    /// Of the target.
    environment: Environment,
    /// The version of the target's contents that it was made for.
    target_version: u64,
    #[schema(inline)]
    status: PromotionStatus,
    /// The agents and pathways that were chosen; `null`: all there are.
    #[schema(required)]
    include: Option<Vec<String>>,
    /// SHA-256 of the bundle's RFC 8785 form, in standard base64.
    bundle_digest: String,
    /// Of exactly what is reviewed, approved and applied.
    plan_digest: String,
    summary: SummaryBody,
    proposed_by: ActorBody,
    #[schema(required)]
    reason: Option<String>,
    /// How many it takes, by the policy when it was proposed; the stricter one of then and now
    /// holds.
    approvals_needed: u8,
    /// Of the present form.
    approvals: Vec<ApprovalBody>,
    /// When it is to be applied.
    #[schema(required)]
    scheduled_for: Option<Time>,
    /// How the last schedule ended, where it came to nothing.
    #[schema(required)]
    schedule_ended: Option<EndedScheduleBody>,
    #[schema(required)]
    applied: Option<AppliedBody>,
    checks: Vec<CheckBody>,
    /// How it was rejected, cancelled or rolled back.
    #[schema(required)]
    ended: Option<EndedBody>,
    /// What it changes; where one is proposed, refreshed or read alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    diff: Option<DiffBody>,
}

/// The crew that a promotion comes from.
pub(super) fn source_of(document: &PromotionDocument) -> Option<CrewId> {
    match document.source {
        PromotionSource::Crew { crew, .. } => Some(crew.id),
        PromotionSource::Bundle {} => None,
    }
}

impl From<PromotionView> for PromotionBody {
    fn from(view: PromotionView) -> Self {
        let source = source_of(&view.document);
        let document = view.document;
        let source_version = match document.source {
            PromotionSource::Crew { version, .. } => Some(version),
            PromotionSource::Bundle {} => None,
        };
        let review = document.review;
        let checks = document.checks.into_iter().zip(view.evidence);
        let end_reason = view.end_reason;
        Self {
            id: document.id,
            version: document.version,
            created_at: document.created_at.into(),
            updated_at: document.updated_at.into(),
            workspace: document.workspace,
            source,
            source_version,
            target: document.target.id,
            environment: document.target.environment,
            target_version: review.target_version,
            status: view.status,
            include: review
                .include
                .map(|keys| keys.iter().map(ToString::to_string).collect()),
            bundle_digest: review.bundle_digest.to_string(),
            plan_digest: review.plan.digest.to_string(),
            summary: SummaryBody {
                added: review.added,
                changed: review.changed,
                removed: review.removed,
            },
            proposed_by: document.proposed_by.into(),
            reason: view.reason,
            approvals_needed: document.terms.approvals_needed,
            approvals: document
                .approvals
                .into_iter()
                .map(|approval| ApprovalBody {
                    user: approval.user,
                    at: approval.at.into(),
                })
                .collect(),
            scheduled_for: document.schedule.map(|schedule| schedule.at.into()),
            schedule_ended: document.schedule_ended.map(|ended| EndedScheduleBody {
                at: ended.at.into(),
                why: ended.why.name(),
            }),
            applied: document.applied.map(|applied| AppliedBody {
                by: applied.user,
                at: applied.at.into(),
                version: applied.version,
                scheduled: applied.scheduled,
            }),
            checks: checks
                .map(|(check, evidence)| CheckBody {
                    name: check.check.name,
                    outcome: check.check.outcome,
                    evidence,
                    by: check.by.into(),
                    at: check.at.into(),
                })
                .collect(),
            ended: document.ended.map(|ended| EndedBody {
                by: ended.by.into(),
                at: ended.at.into(),
                reason: end_reason,
                forced: ended.forced,
            }),
            diff: view.diff.map(Into::into),
        }
    }
}

impl PromotionBody {
    fn written(written: Written<PromotionView>) -> Resource<Self> {
        let body = Self::from(written.value);
        Resource::new(body.version, written.position, body).replayed(written.replayed)
    }
}

/// What is to be promoted: from a crew of the workspace, or from a bundle.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPromotion)]
pub struct NewPromotionBody {
    /// The crew that it comes from; or `bundle`.
    source: Option<CrewId>,
    /// A bundle, as `export` answers it; or `source`.
    #[schema(value_type = Option<BundleBody>)]
    bundle: Option<Object<BundleBody>>,
    /// The crew that it comes into.
    target: CrewId,
    /// The agents and pathways alone that are meant, with what they need: `agent/Greeter`. One
    /// that the target alone has is removed there.
    #[schema(value_type = Option<Vec<ItemKey>>, max_items = 500)]
    include: Option<Vec<String>>,
    /// Why; shown to those who approve it, and in the change log.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

impl Validate for NewPromotionBody {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = wrong([
            one_of(self.source.is_some(), self.bundle.is_some(), "source"),
            include(self.include.as_ref()).err(),
            FieldError::check_why("/reason", &self.reason),
        ]);
        errors.extend(self.bundle.iter().flat_map(|bundle| bundle.0.wrong()));
        errors
    }
}

impl Command for NewPromotionBody {
    fn reason(&self) -> Option<&str> {
        Some(&self.reason)
    }
}

impl NewPromotionBody {
    fn into_new(self) -> Result<NewPromotion, Problem> {
        let include = include(self.include.as_ref())?;
        let source = match (self.source, self.bundle) {
            (_, Some(bundle)) => SourceDraft::Bundle(Arc::new(bundle.0.into_draft()?)),
            (Some(source), None) => SourceDraft::Crew(source),
            (None, None) => return Err(FieldError::missing("/source").into()),
        };
        Ok(NewPromotion {
            source,
            target: self.target,
            include,
        })
    }
}

type EndOfPage = Cursor<PromotionCursor>;

/// What a promotion must be to be listed; each condition that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PromotionQuery {
    /// The crew that it changes.
    #[param(inline)]
    target: Option<CrewId>,
    /// How many items at most.
    #[serde(default)]
    #[param(inline, required = false)]
    limit: Limit,
    /// `next_cursor` of the page before.
    #[param(inline)]
    cursor: Option<EndOfPage>,
    /// The moment that is asked about: a position of the log, or a time. Now, where nobody says.
    #[param(inline)]
    as_of: Option<AsOf>,
}

impl ReadQuery for PromotionQuery {
    fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }
}

/// Proposes that what is in a crew, or in a bundle, come into another crew. What would change, and
/// the versions of both sides, are pinned.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/promotions", tag = "promotions",
    params(("ws" = WorkspaceId, Path), IdempotencyKey), request_body = NewPromotionBody,
    responses((status = 201, description = "The new promotion, with what it changes.", body = PromotionBody)),
)]
pub async fn propose_promotion(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(workspace): Path<WorkspaceId>,
    body: Json<NewPromotionBody, BUNDLE_BODY_BYTES_MAX>,
) -> Result<Created<PromotionBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let new = body.value.into_new()?;
    let written = service
        .propose(&request, &principal, workspace, &new)
        .await?;
    let (position, replayed) = (written.position, written.replayed);
    let promotion = PromotionBody::from(written.value);
    let location = format!("/v1/workspaces/{workspace}/promotions/{}", promotion.id);
    let made = Created::new(location, promotion.version, position, promotion);
    Ok(made.replayed(replayed))
}

/// The promotions of a workspace, oldest first, without what they change; those whose target an
/// API key reaches.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/promotions", tag = "promotions",
    params(("ws" = WorkspaceId, Path), PromotionQuery, MinimumPosition),
    responses((status = 200, description = "A page of promotions.", body = Page<PromotionBody>)),
)]
pub async fn list_promotions(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PromotionQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Page<PromotionBody>, Problem> {
    let query = reader.query;
    let filter = PromotionFilter {
        target: query.target,
    };
    let after = query.cursor.as_ref().map(|cursor| cursor.key.as_ref());
    let range = (after, query.limit.count());
    let page = service
        .promotions_of(
            &reader.request,
            &reader.principal,
            workspace,
            &filter,
            range,
        )
        .await?;
    Ok(Page::keyed::<PromotionCursor, _>(page, Into::into))
}

/// A promotion, with what it changes.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/promotions/{promotion}", tag = "promotions",
    params(("ws" = WorkspaceId, Path), ("promotion" = inline(PromotionId), Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The promotion.", body = PromotionBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_promotion(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path(at): Path<(WorkspaceId, PromotionId)>,
) -> Result<Resource<PromotionBody>, Problem> {
    let found = service
        .promotion(&reader.request, &reader.principal, at)
        .await?;
    let body = PromotionBody::from(found.value);
    Ok(Resource::new(body.version, found.position, body))
}

/// Approves a promotion in its present form. Send the `ETag` of what was reviewed in `If-Match`.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/promotions/{promotion}/approve", tag = "promotions",
    params(
        ("ws" = WorkspaceId, Path), ("promotion" = inline(PromotionId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = Option<ReasonOnly>,
    responses((
        status = 200, description = "The promotion as it now is.", body = PromotionBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn approve_promotion(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, PromotionId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<Resource<PromotionBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let written = service.approve_promotion(&request, &principal, at).await?;
    Ok(PromotionBody::written(written))
}

/// Rejects a promotion: it is over.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/promotions/{promotion}/reject", tag = "promotions",
    params(
        ("ws" = WorkspaceId, Path), ("promotion" = inline(PromotionId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = Option<ReasonOnly>,
    responses((
        status = 200, description = "The promotion as it now is.", body = PromotionBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn reject_promotion(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, PromotionId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<Resource<PromotionBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let written = service.reject_promotion(&request, &principal, at).await?;
    Ok(PromotionBody::written(written))
}

/// Makes a promotion anew from what source and target are now. Approvals are void.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/promotions/{promotion}/refresh", tag = "promotions",
    params(
        ("ws" = WorkspaceId, Path), ("promotion" = inline(PromotionId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = Option<ReasonOnly>,
    responses((
        status = 200, description = "The promotion, with what it changes now.", body = PromotionBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn refresh_promotion(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, PromotionId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<Resource<PromotionBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let written = service.refresh_promotion(&request, &principal, at).await?;
    Ok(PromotionBody::written(written))
}

/// Takes a promotion back: who proposed it may, and whoever decides about promotions.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/promotions/{promotion}/cancel", tag = "promotions",
    params(
        ("ws" = WorkspaceId, Path), ("promotion" = inline(PromotionId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = Option<ReasonOnly>,
    responses((
        status = 200, description = "The promotion as it now is.", body = PromotionBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn cancel_promotion(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, PromotionId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<Resource<PromotionBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let written = service.cancel_promotion(&request, &principal, at).await?;
    Ok(PromotionBody::written(written))
}

/// When a promotion is to be applied.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApplyPromotion)]
pub struct ApplyBody {
    /// Then, at most 90 days ahead; now where nobody says.
    at: Option<GivenTime>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for ApplyBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([FieldError::check_reason(self.reason.as_deref())])
    }
}

impl Command for ApplyBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Makes the target what was reviewed, all of it or nothing; or has that done at a time.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/promotions/{promotion}/apply", tag = "promotions",
    params(
        ("ws" = WorkspaceId, Path), ("promotion" = inline(PromotionId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = Option<ApplyBody>,
    responses((
        status = 200, description = "The promotion as it now is.", body = PromotionBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn apply_promotion(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, PromotionId)>,
    body: Option<Json<ApplyBody>>,
) -> Result<Resource<PromotionBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let time = body.and_then(|body| body.value.at);
    let written = match time {
        Some(GivenTime(time)) => {
            service
                .schedule_promotion(&request, &principal, at, time)
                .await?
        }
        None => service.apply_promotion(&request, &principal, at).await?,
    };
    Ok(PromotionBody::written(written))
}

/// A check, and how it came out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPromotionCheck)]
pub struct NewCheckBody {
    #[schema(min_length = 1, max_length = 120, example = "A call is answered")]
    name: String,
    #[schema(inline)]
    outcome: CheckOutcome,
    /// What shows it: a link, a figure.
    #[schema(min_length = 1, max_length = 2000)]
    evidence: Option<String>,
}

/// Whether an applied promotion does what it should: verified, where all checks passed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VerifyPromotion)]
pub struct VerifyBody {
    #[schema(min_items = 1, max_items = 50)]
    checks: Vec<NewCheckBody>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for VerifyBody {
    fn validate(&self) -> Vec<FieldError> {
        let count = self.checks.len();
        let mut errors = wrong([
            (count == 0).then(|| FieldError::invalid("/checks", "at least one")),
            (count > CHECKS_MAX).then(|| FieldError::too_many("/checks", CHECKS_MAX)),
            FieldError::check_reason(self.reason.as_deref()),
        ]);
        let mut names = std::collections::BTreeSet::new();
        for (place, check) in self.checks.iter().take(CHECKS_MAX).enumerate() {
            let at = |name: &str| format!("/checks/{place}/{name}");
            let length = 1..=CHECK_NAME_CHARACTERS_MAX;
            errors.extend(FieldError::check_text(&at("name"), &check.name, length));
            if !names.insert(&check.name) {
                errors.push(FieldError::invalid(at("name"), "each check once"));
            }
            if let Some(evidence) = &check.evidence {
                let count = evidence.chars().count();
                if count > EVIDENCE_CHARACTERS_MAX {
                    errors.push(FieldError::too_long(
                        at("evidence"),
                        EVIDENCE_CHARACTERS_MAX,
                    ));
                }
            }
        }
        errors
    }
}

impl Command for VerifyBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Reports how checks of an applied promotion came out.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/promotions/{promotion}/verify", tag = "promotions",
    params(
        ("ws" = WorkspaceId, Path), ("promotion" = inline(PromotionId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = VerifyBody,
    responses((
        status = 200, description = "The promotion as it now is.", body = PromotionBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn verify_promotion(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, PromotionId)>,
    body: Json<VerifyBody, { 512 * 1024 }>,
) -> Result<Resource<PromotionBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let checks = body.value.checks.into_iter().map(|check| ReportedCheck {
        name: check.name,
        outcome: check.outcome,
        evidence: check.evidence,
    });
    let checks: Vec<_> = checks.collect();
    let written = service
        .check_promotion(&request, &principal, at, &checks)
        .await?;
    Ok(PromotionBody::written(written))
}

/// How a promotion is rolled back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RollBackPromotion)]
pub struct RollBackBody {
    /// Also where the target has changed since: then that is undone too, and a reason is needed.
    #[serde(default)]
    force: bool,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for RollBackBody {
    fn validate(&self) -> Vec<FieldError> {
        let reason = self.reason.as_deref();
        wrong([match self.force {
            true => FieldError::check_why("/reason", reason.unwrap_or_default()),
            false => FieldError::check_reason(reason),
        }])
    }
}

impl Command for RollBackBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Makes the target exactly what it was before the promotion, as new entries.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/promotions/{promotion}/rollback", tag = "promotions",
    params(
        ("ws" = WorkspaceId, Path), ("promotion" = inline(PromotionId), Path), IfMatch,
        IdempotencyKey
    ),
    request_body = Option<RollBackBody>,
    responses((
        status = 200, description = "The promotion as it now is.", body = PromotionBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn roll_back_promotion(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, PromotionId)>,
    body: Option<Json<RollBackBody>>,
) -> Result<Resource<PromotionBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let force = body.is_some_and(|body| body.value.force);
    let written = service
        .roll_back_promotion(&request, &principal, at, force)
        .await?;
    Ok(PromotionBody::written(written))
}
