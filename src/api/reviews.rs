//! Access reviews over HTTP: opened, read, decided, closed, reported.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, PrincipalReader, ReadQuery, Writer},
    fields::{FieldError, Validate},
    headers::{CREWLOG_POSITION, IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    paging::{Cursor, Limit, PageQuery, ReviewCursor, ReviewItemCursor},
    problem::Problem,
    query::Path,
    respond::{Created, Page, Resource},
    values::{self, GivenTime, Time, wrong},
};
use crate::{
    domain::{
        Name, Timestamp,
        api_keys::KeyScope,
        authority::Role,
        environment::Environment,
        ids::{CrewId, PrincipalId, ReviewId, UserId, WorkspaceId},
        review::{Decision, Finding, REVIEWERS_MAX, Reviewed, Undecided},
    },
    projections::{self, ReviewDocument},
    service::{
        DECISIONS_MAX, DecidedView, ItemDecision, ItemOutcome, NewReview, Principal, ReportFormat,
        ReviewItemView, Service, Written,
    },
};

/// Room for as many decisions as there may be at once, each with its reason.
const DECISIONS_BODY_BYTES_MAX: usize = 1 << 20;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(open_review, list_reviews))
        .routes(routes!(read_review))
        .routes(routes!(decide_access))
        .routes(routes!(close_review))
        .routes(routes!(report_review))
}

/// A kind of access that is reviewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReviewedAccess)]
pub enum ReviewedName {
    Members,
    ApiKeys,
    Auditors,
}

impl From<ReviewedName> for Reviewed {
    fn from(name: ReviewedName) -> Self {
        match name {
            ReviewedName::Members => Self::Members,
            ReviewedName::ApiKeys => Self::ApiKeys,
            ReviewedName::Auditors => Self::Auditors,
        }
    }
}

impl From<Reviewed> for ReviewedName {
    fn from(kind: Reviewed) -> Self {
        match kind {
            Reviewed::Members => Self::Members,
            Reviewed::ApiKeys => Self::ApiKeys,
            Reviewed::Auditors => Self::Auditors,
        }
    }
}

/// What happens to access that nobody decides about.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Undecided)]
pub enum UndecidedName {
    Keep,
    Revoke,
}

impl From<UndecidedName> for Undecided {
    fn from(name: UndecidedName) -> Self {
        match name {
            UndecidedName::Keep => Self::Keep,
            UndecidedName::Revoke => Self::Revoke,
        }
    }
}

impl From<Undecided> for UndecidedName {
    fn from(rule: Undecided) -> Self {
        match rule {
            Undecided::Keep => Self::Keep,
            Undecided::Revoke => Self::Revoke,
        }
    }
}

/// What is decided about access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AccessDecision)]
pub enum DecisionName {
    Keep,
    Revoke,
    Change,
}

impl From<Decision> for DecisionName {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Keep => Self::Keep,
            Decision::Revoke => Self::Revoke,
            Decision::Change { .. } => Self::Change,
        }
    }
}

/// Which access a campaign is about.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReviewScope)]
pub struct ScopeBody {
    #[schema(min_items = 1, max_items = 3)]
    principals: Vec<ReviewedName>,
    /// Only what reaches it.
    #[serde(default)]
    environment: Option<Environment>,
}

/// When the next campaign opens by itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReviewRecurrence)]
pub struct RecurrenceBody {
    /// Days from one opening to the next; none opens before the one before is over.
    #[schema(minimum = 1, maximum = 366)]
    every_days: u16,
}

/// How a campaign ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReviewEnd)]
pub struct EndBody {
    at: Time,
    /// The entry that says so.
    position: u64,
    /// `null` where its time ran out.
    #[schema(required)]
    by: Option<UserId>,
    timed_out: bool,
    kept: u64,
    /// Revoked, or given another role.
    applied: u64,
    /// What could not be done, or was changed or gone by then.
    not_applied: u64,
}

/// A campaign over who has access.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccessReview)]
pub struct ReviewBody {
    id: ReviewId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    workspace: WorkspaceId,
    name: String,
    scope: ScopeBody,
    reviewers: Vec<UserId>,
    /// First moment at which nobody decides any more.
    due_at: Time,
    undecided: UndecidedName,
    #[schema(required)]
    recurrence: Option<RecurrenceBody>,
    /// `open`, `closing` or `closed`.
    status: &'static str,
    opened_by: UserId,
    /// The last entry that it takes into account.
    pinned_at: u64,
    /// How much access it is about, and about how much somebody has decided.
    item_count: u64,
    decided_count: u64,
    /// Days before the end at which reviewers were reminded.
    reminded: Vec<u16>,
    #[schema(required)]
    closed: Option<EndBody>,
    /// The campaign that it follows on.
    #[schema(required)]
    previous: Option<ReviewId>,
    /// The campaign that followed it.
    #[schema(required)]
    next: Option<ReviewId>,
    /// A page of what it is about; where one campaign is read alone, or is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    items: Option<Page<ItemBody>>,
}

impl From<ReviewDocument> for ReviewBody {
    fn from(document: ReviewDocument) -> Self {
        let closed_by = document.closing.and_then(|closing| closing.by);
        let terms = document.terms;
        Self {
            id: document.id,
            version: document.version,
            created_at: document.created_at.into(),
            updated_at: document.updated_at.into(),
            workspace: document.workspace,
            name: terms.name,
            scope: ScopeBody {
                principals: terms.principals.into_iter().map(Into::into).collect(),
                environment: terms.environment,
            },
            reviewers: terms.reviewers.into_iter().collect(),
            due_at: terms.due_at.into(),
            undecided: terms.undecided.into(),
            recurrence: terms
                .recurs_after_days
                .map(|every_days| RecurrenceBody { every_days }),
            status: document.status.name(),
            opened_by: document.opened_by,
            pinned_at: document.pinned_at,
            item_count: document.items,
            decided_count: document.decided,
            reminded: document.reminded,
            closed: document.closed.map(|end| EndBody {
                at: end.at.into(),
                position: end.position,
                by: closed_by,
                timed_out: end.timed_out,
                kept: end.kept,
                applied: end.applied,
                not_applied: end.not_applied,
            }),
            previous: document.previous,
            next: document.next,
            items: None,
        }
    }
}

impl ReviewBody {
    /// With a page of what it is about.
    fn showing(self, page: projections::Page<ReviewItemView>) -> Self {
        Self {
            items: Some(Page::keyed::<ReviewItemCursor, _>(page, Into::into)),
            ..self
        }
    }
}

/// Why access is worth a look.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReviewFinding)]
pub struct FindingBody {
    /// `never_used`, `unused_90_days`, `broke_glass`, `past_rotation`, `creator_is_gone`,
    /// `role_above_use` or `last_owner`.
    code: &'static str,
    detail: String,
}

impl From<Finding> for FindingBody {
    fn from(finding: Finding) -> Self {
        Self {
            code: finding.name(),
            detail: finding.words(),
        }
    }
}

/// What is recommended, by what was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReviewRecommendation)]
pub struct RecommendedBody {
    decision: DecisionName,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    role: Option<Role>,
}

impl From<Decision> for RecommendedBody {
    fn from(decision: Decision) -> Self {
        Self {
            decision: decision.into(),
            role: decision.role(),
        }
    }
}

/// What somebody decided.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReviewDecision)]
pub struct DecidedBody {
    decision: DecisionName,
    #[schema(required)]
    role: Option<Role>,
    by: UserId,
    /// As they were called then; `erased` where it is gone.
    by_name: String,
    at: Time,
    reason: String,
    /// The entry of the decision.
    position: u64,
}

impl From<DecidedView> for DecidedBody {
    fn from(view: DecidedView) -> Self {
        Self {
            decision: view.decision.into(),
            role: view.decision.role(),
            by: view.by,
            by_name: view.by_name,
            at: view.at.into(),
            reason: view.reason,
            position: view.position,
        }
    }
}

/// What became of access.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReviewOutcome)]
pub struct OutcomeBody {
    /// `kept`, `applied`, `changed`, `gone` or `refused`.
    outcome: &'static str,
    /// Why it was refused, as refusals are coded.
    #[schema(required)]
    code: Option<String>,
    /// What was decided; by the campaign's rule, where nobody did.
    decision: DecisionName,
    /// The entry that says so; `null` where it was simply kept.
    #[schema(required)]
    position: Option<u64>,
}

impl From<ItemOutcome> for OutcomeBody {
    fn from(outcome: ItemOutcome) -> Self {
        Self {
            outcome: outcome.name,
            code: outcome.code,
            decision: outcome.decision.into(),
            position: outcome.position,
        }
    }
}

/// Access as it is now, where it is not what it was at the pin.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PresentAccess)]
pub struct PresentBody {
    /// Of a person.
    #[schema(required)]
    role: Option<&'static str>,
    /// Of a key: itself, and those that came in its place.
    keys: Vec<String>,
}

/// Access that is reviewed, as it was at the pin.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReviewItem)]
pub struct ItemBody {
    /// Of the person or the key: what a decision names as its `item`.
    id: String,
    kind: ReviewedName,
    /// As it was then; `erased` where it is gone.
    name: String,
    /// Of a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Of a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<KeyScope>>,
    /// The crews that a key is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    crews: Option<Vec<CrewId>>,
    environments: Vec<Environment>,
    since: Time,
    #[schema(required)]
    granted_by: Option<UserId>,
    #[schema(required)]
    granted_by_name: Option<String>,
    /// The entry that gave it, or last changed how far it goes.
    granted_at_position: u64,
    #[schema(required)]
    last_used_at: Option<Time>,
    /// `undecided`, `decided`, `changed`, `gone` or `settled`.
    status: &'static str,
    /// What a decision looks at, as it is now; `null` where the access is gone. Send it with a
    /// decision about access that is not what it was at the pin.
    #[schema(required)]
    seen_at: Option<u64>,
    /// What it is now, where it is not what it was at the pin.
    #[schema(required)]
    now: Option<PresentBody>,
    findings: Vec<FindingBody>,
    /// `null` where somebody has to look, as nothing follows by itself.
    #[schema(required)]
    recommended: Option<RecommendedBody>,
    #[schema(required)]
    decision: Option<DecidedBody>,
    /// Once it is known.
    #[schema(required)]
    outcome: Option<OutcomeBody>,
}

impl From<ReviewItemView> for ItemBody {
    fn from(view: ReviewItemView) -> Self {
        let id = view.id().to_string();
        let grant = view.access.access.grant;
        let held = view.access.access.held;
        Self {
            id,
            kind: view.kind.into(),
            name: view.access.name,
            role: held.through.role(),
            scopes: held.scopes.map(|scopes| scopes.into_iter().collect()),
            crews: held.crews.map(|crews| crews.into_iter().collect()),
            environments: held.reach.keys().copied().collect(),
            since: view.access.since.into(),
            granted_by: grant.by,
            granted_by_name: view.access.granted_by_name,
            granted_at_position: grant.position,
            last_used_at: view.last_used_at.map(Into::into),
            status: view.status.name(),
            seen_at: view.seen_at,
            now: view.now.map(|now| PresentBody {
                role: now.role,
                keys: now.keys,
            }),
            findings: view.findings.into_iter().map(Into::into).collect(),
            recommended: view.recommended.map(Into::into),
            decision: view.decided.map(Into::into),
            outcome: view.outcome.map(Into::into),
        }
    }
}

/// A new campaign.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAccessReview)]
pub struct NewReviewBody {
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    scope: ScopeBody,
    /// Owners and admins of the workspace. Nobody reviews their own access: name two at least,
    /// where it is about theirs.
    #[schema(min_items = 1, max_items = 50)]
    reviewers: Vec<UserId>,
    /// First moment at which nobody decides any more: in the future, and at most 366 days away.
    due_at: GivenTime,
    /// What happens to access that nobody decides about.
    undecided: UndecidedName,
    recurrence: Option<RecurrenceBody>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for NewReviewBody {
    fn validate(&self) -> Vec<FieldError> {
        let many = self.reviewers.len() > REVIEWERS_MAX;
        let days = self.recurrence.map(|recurrence| recurrence.every_days);
        wrong([
            values::name("/name", &self.name).err(),
            self.scope.principals.is_empty().then(|| {
                let detail = "name at least one kind of access to review";
                FieldError::invalid("/scope/principals", detail)
            }),
            many.then(|| FieldError::too_many("/reviewers", REVIEWERS_MAX)),
            self.reviewers
                .is_empty()
                .then(|| FieldError::invalid("/reviewers", "name at least one")),
            days.filter(|days| !(1..=366).contains(days)).map(|_| {
                FieldError::invalid("/recurrence/every_days", "a whole number from 1 to 366")
            }),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewReviewBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl NewReviewBody {
    fn into_new(self) -> Result<NewReview, Problem> {
        let name: Name = values::name("/name", &self.name)?;
        let GivenTime(due_at): GivenTime = self.due_at;
        let due_at: Timestamp = due_at;
        let principals = self.scope.principals.into_iter().map(Into::into);
        Ok(NewReview {
            name,
            principals: principals.collect(),
            environment: self.scope.environment,
            reviewers: self.reviewers.into_iter().collect(),
            due_at,
            undecided: self.undecided.into(),
            recurs_after_days: self.recurrence.map(|recurrence| recurrence.every_days),
        })
    }
}

/// A decision about one access.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAccessDecision)]
pub struct DecisionBody {
    /// The `id` of an item of the campaign.
    #[schema(value_type = String, max_length = 100)]
    item: PrincipalId,
    decision: DecisionName,
    /// The new role of a member; with `change` alone.
    role: Option<Role>,
    /// Why; it is in the report.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// The item's `seen_at`, of access that is not what it was at the pin: it says that you have
    /// looked at what it is now.
    #[schema(minimum = 1)]
    seen_at: Option<u64>,
}

/// Decisions: all of them, or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAccessDecisions)]
pub struct DecisionsBody {
    #[schema(min_items = 1, max_items = 200)]
    decisions: Vec<DecisionBody>,
}

impl Validate for DecisionsBody {
    fn validate(&self) -> Vec<FieldError> {
        let count = self.decisions.len();
        let mut errors = wrong([
            (count > DECISIONS_MAX).then(|| FieldError::too_many("/decisions", DECISIONS_MAX)),
            (count == 0).then(|| FieldError::invalid("/decisions", "name at least one")),
        ]);
        let mut named = BTreeSet::new();
        for (at, decision) in self.decisions.iter().take(DECISIONS_MAX).enumerate() {
            errors.extend(decision.wrong(at));
            if !named.insert(decision.item) {
                let detail = "it is decided about twice";
                errors.push(FieldError::invalid(format!("/decisions/{at}/item"), detail));
            }
        }
        errors
    }
}

impl DecisionBody {
    fn wrong(&self, at: usize) -> Vec<FieldError> {
        let pointer = |field: &str| format!("/decisions/{at}/{field}");
        let is_change = self.decision == DecisionName::Change;
        wrong([
            (is_change && self.role.is_none()).then(|| FieldError::missing(pointer("role"))),
            (!is_change && self.role.is_some())
                .then(|| FieldError::invalid(pointer("role"), "only a `change` gives a role")),
            FieldError::check_why(&pointer("reason"), &self.reason),
        ])
    }

    fn into_decision(self) -> ItemDecision {
        let decision = match (self.decision, self.role) {
            (DecisionName::Keep, _) => Decision::Keep,
            (DecisionName::Change, Some(role)) => Decision::Change { role },
            (DecisionName::Revoke, _) | (DecisionName::Change, None) => Decision::Revoke,
        };
        ItemDecision {
            item: self.item,
            decision,
            reason: self.reason,
            seen_at: self.seen_at,
        }
    }
}

impl Command for DecisionsBody {
    fn reason(&self) -> Option<&str> {
        None
    }
}

/// How a campaign is closed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CloseAccessReview)]
pub struct CloseBody {
    /// Whether no other opens by itself any more.
    #[serde(default)]
    stop_recurring: bool,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for CloseBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([FieldError::check_reason(self.reason.as_deref())])
    }
}

impl Command for CloseBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

fn written(written: Written<ReviewDocument>) -> Resource<ReviewBody> {
    let body = ReviewBody::from(written.value);
    Resource::new(body.version, written.position, body).replayed(written.replayed)
}

/// Opens a campaign over who has access to a workspace now: its members, API keys and auditor
/// grants, or those of them that reach an environment.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/access-reviews", tag = "audit",
    params(("ws" = WorkspaceId, Path), IdempotencyKey), request_body = NewReviewBody,
    responses((status = 201, description = "The new campaign.", body = ReviewBody)),
)]
pub async fn open_review(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<NewReviewBody>,
) -> Result<Created<ReviewBody>, Problem> {
    let (request, caller) = writer.making(&body)?;
    let new = body.value.into_new()?;
    let written = service
        .open_review(&request, &caller, workspace, new)
        .await?;
    let (position, replayed) = (written.position, written.replayed);
    let review = ReviewBody::from(written.value);
    let first = (None, Limit::default().count());
    let (_, items) = service
        .review_items(
            &request,
            &Principal::Person(caller),
            workspace,
            review.id,
            first,
        )
        .await?;
    let review = review.showing(items);
    let location = format!("/v1/workspaces/{workspace}/access-reviews/{}", review.id);
    Ok(Created::new(location, review.version, position, review).replayed(replayed))
}

/// The campaigns of a workspace, oldest first.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/access-reviews", tag = "audit",
    params(("ws" = WorkspaceId, Path), PageQuery<ReviewCursor>, MinimumPosition),
    responses((status = 200, description = "A page of campaigns.", body = Page<ReviewBody>)),
)]
pub async fn list_reviews(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<PageQuery<ReviewCursor>>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Page<ReviewBody>, Problem> {
    let PrincipalReader {
        request,
        principal,
        query,
    } = reader;
    let of = (query.after(), query.limit.count());
    let page = service
        .reviews_of(&request, &principal, workspace, of)
        .await?;
    Ok(Page::keyed::<ReviewCursor, _>(page, Into::into))
}

type EndOfItems = Cursor<ReviewItemCursor>;

/// Which page of what a campaign is about.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReviewItemsQuery {
    /// How many items at most.
    #[serde(default)]
    #[param(inline, required = false)]
    limit: Limit,
    /// `items.next_cursor` of the page before.
    #[param(inline)]
    cursor: Option<EndOfItems>,
}

impl ReadQuery for ReviewItemsQuery {}

/// A campaign, with a page of what it is about: how each access was at the pin, what it is now,
/// how it was used, what is recommended and why, and what was decided.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/access-reviews/{review}", tag = "audit",
    params(
        ("ws" = WorkspaceId, Path), ("review" = ReviewId, Path), ReviewItemsQuery, MinimumPosition,
    ),
    responses((
        status = 200, description = "The campaign.", body = ReviewBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_review(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<ReviewItemsQuery>,
    Path((workspace, review)): Path<(WorkspaceId, ReviewId)>,
) -> Result<Resource<ReviewBody>, Problem> {
    let PrincipalReader {
        request,
        principal,
        query,
    } = reader;
    let after = query.cursor.as_ref().map(|cursor| cursor.key.as_ref());
    let of = (after, query.limit.count());
    let (document, page) = service
        .review_items(&request, &principal, workspace, review, of)
        .await?;
    let (version, position) = (document.version, page.position);
    let body = ReviewBody::from(document).showing(page);
    Ok(Resource::new(version, position, body))
}

/// Decides about access under review: about all that is named, or nothing. A later decision takes
/// the place of an earlier one; what is decided is carried out when the campaign closes.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/access-reviews/{review}/decisions", tag = "audit",
    params(
        ("ws" = WorkspaceId, Path), ("review" = ReviewId, Path), IfMatch, IdempotencyKey,
    ),
    request_body = DecisionsBody,
    responses((status = 200, description = "The campaign.", body = ReviewBody)),
)]
pub async fn decide_access(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((workspace, review)): Path<(WorkspaceId, ReviewId)>,
    body: Json<DecisionsBody, DECISIONS_BODY_BYTES_MAX>,
) -> Result<Resource<ReviewBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let decisions = body.value.decisions.into_iter();
    let decisions = decisions.map(DecisionBody::into_decision).collect();
    let decided = service
        .decide_access(&request, &caller, workspace, review, decisions)
        .await?;
    Ok(written(decided))
}

/// Closes a campaign: what was decided is carried out, and what nobody decided by the campaign's
/// rule. What was changed since somebody looked at it is not touched; where there is time left, the
/// campaign is open again with that. Closing twice is closing once.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/access-reviews/{review}/close", tag = "audit",
    params(
        ("ws" = WorkspaceId, Path), ("review" = ReviewId, Path), IfMatch, IdempotencyKey,
    ),
    request_body = Option<CloseBody>,
    responses((status = 200, description = "The campaign.", body = ReviewBody)),
)]
pub async fn close_review(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((workspace, review)): Path<(WorkspaceId, ReviewId)>,
    body: Option<Json<CloseBody>>,
) -> Result<Resource<ReviewBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let stops = body.is_some_and(|body| body.value.stop_recurring);
    let closed = service
        .close_review(&request, &caller, workspace, review, stops)
        .await?;
    Ok(written(closed))
}

/// The form of a report.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AccessReportFormat)]
pub enum ReportFormatName {
    #[default]
    Json,
    Csv,
    Html,
}

/// In which form a report is sent.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReportQuery {
    /// `json`, where nobody says; `csv`: for spreadsheets; `html`: one page that needs no network.
    #[serde(default)]
    #[param(inline, required = false)]
    format: ReportFormatName,
}

impl ReadQuery for ReportQuery {}

/// The report of a campaign, bound to a signed checkpoint: `crewlog verify --offline` finds a
/// changed character in it with no server. That it was made is an entry of the audit log.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/access-reviews/{review}/report", tag = "audit",
    params(("ws" = WorkspaceId, Path), ("review" = ReviewId, Path), ReportQuery, MinimumPosition),
    responses((
        status = 200, description = "The report, with its checkpoint and its signed statement.",
        content(
            (serde_json::Value = "application/json"), (String = "text/csv"), (String = "text/html"),
        ),
    )),
)]
pub async fn report_review(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<ReportQuery>,
    Path((workspace, review)): Path<(WorkspaceId, ReviewId)>,
) -> Result<Response, Problem> {
    let (format, content_type) = match reader.query.format {
        ReportFormatName::Json => (ReportFormat::Json, "application/json"),
        ReportFormatName::Csv => (ReportFormat::Csv, "text/csv; charset=utf-8"),
        ReportFormatName::Html => (ReportFormat::Html, "text/html; charset=utf-8"),
    };
    let sent = service
        .review_report(
            &reader.request,
            &reader.principal,
            workspace,
            review,
            format,
        )
        .await?;
    let name = format!("attachment; filename=\"{review}.{}\"", format.name());
    let name = HeaderValue::from_str(&name).map_err(|error| Problem::internal(&error))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_DISPOSITION, name),
        (CREWLOG_POSITION, HeaderValue::from(sent.position)),
    ];
    Ok((headers, sent.text).into_response())
}
