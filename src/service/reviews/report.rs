//! The report of a campaign: who, what, what was decided, by whom, when, on what evidence.
//!
//! One shape, [`Report`], sent in three forms that say the same. Each form ends with the log's
//! newest checkpoint and with a statement that the log's key signs: the digest of everything
//! before it, and which checkpoint it is of ([`super::report_proof`]). A report of a campaign that
//! is over tells of its end, whenever it is asked for; what was erased since is shown so. That it
//! was made is an entry of the log.

use serde::Serialize;

use super::{
    ItemOutcome, ReviewAt, ReviewItemView,
    items::deciders,
    report_csv, report_html,
    report_proof::{self, About},
};
use crate::{
    domain::{
        api_keys::KeyScope,
        attempts::ReportQuestion,
        authority::Permission,
        environment::Environment,
        ids::{CrewId, OrganizationId, ReviewId, UserId, WorkspaceId},
        review::{Decision, ReviewStatus},
    },
    journal::entry::to_canonical,
    projections::ReviewDocument,
    service::{Principal, Request, Service, ServiceError},
};

/// Items whose evidence is looked up at once.
const TOLD_AT_ONCE: usize = 500;

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    Json,
    Csv,
    /// One page that needs no network and no script, for reading and for paper.
    Html,
}

impl ReportFormat {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Html => "html",
        }
    }
}

/// A report with what proves it.
#[derive(Debug, Clone)]
pub struct SentReport {
    /// The position of the log that it is bound to, or a later one.
    pub position: u64,
    pub text: String,
}

/// Somebody, as they were called.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Somebody {
    pub id: UserId,
    pub name: String,
}

/// What a report tells of its campaign.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub access_review: ReviewId,
    pub name: String,
    pub organization: OrganizationId,
    pub workspace: WorkspaceId,
    pub workspace_name: String,
    pub status: &'static str,
    /// What it is about.
    pub principals: Vec<&'static str>,
    pub environment: Option<Environment>,
    /// Access as it was when the entry at this position was the last one.
    pub pinned_at: u64,
    pub pinned_time: String,
    pub opened_by: Somebody,
    pub opened_at: String,
    pub due_at: String,
    /// What becomes of what nobody decides about.
    pub undecided: &'static str,
    pub reviewers: Vec<Somebody>,
    /// None while it is open.
    pub closed_at: Option<String>,
    pub closed_at_position: Option<u64>,
    /// None where its time ran out.
    pub closed_by: Option<Somebody>,
    pub timed_out: Option<bool>,
    pub previous: Option<ReviewId>,
    pub summary: Summary,
    pub items: Vec<Row>,
}

/// How much of each there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub items: u64,
    pub decided: u64,
    pub kept: u64,
    pub applied: u64,
    pub not_applied: u64,
}

/// One access.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub item: String,
    pub kind: &'static str,
    pub name: String,
    pub role: Option<&'static str>,
    pub scopes: Vec<KeyScope>,
    pub crews: Vec<CrewId>,
    pub environments: Vec<Environment>,
    pub since: String,
    pub granted_by: Option<UserId>,
    pub granted_by_name: Option<String>,
    pub granted_at_position: u64,
    pub last_used_at: Option<String>,
    pub findings: Vec<String>,
    pub recommended: Option<&'static str>,
    pub recommended_role: Option<&'static str>,
    /// What somebody decided, or else the campaign's rule; none where nothing was decided yet.
    pub decision: Option<&'static str>,
    pub decision_role: Option<&'static str>,
    pub decided_by: Option<UserId>,
    pub decided_by_name: Option<String>,
    pub decided_at: Option<String>,
    pub decided_at_position: Option<u64>,
    pub reason: Option<String>,
    /// `kept`, `applied`, `changed`, `gone`, `refused`; none while it is not known.
    pub outcome: Option<&'static str>,
    pub outcome_code: Option<String>,
    pub outcome_at_position: Option<u64>,
}

impl Row {
    fn of(view: ReviewItemView) -> Self {
        let (item, kind) = (view.id().to_string(), view.kind.name());
        let held = view.access.access.held;
        let (decided, outcome) = (view.decided, view.outcome);
        let by_rule = outcome
            .as_ref()
            .map(|outcome: &ItemOutcome| outcome.decision);
        let decision = decided.as_ref().map(|decided| decided.decision).or(by_rule);
        let by = decided.as_ref();
        Self {
            item,
            kind,
            role: held.through.role(),
            scopes: held.scopes.into_iter().flatten().collect(),
            crews: held.crews.into_iter().flatten().collect(),
            environments: held.reach.keys().copied().collect(),
            since: view.access.since.to_rfc3339(),
            granted_by: view.access.access.grant.by,
            granted_by_name: view.access.granted_by_name,
            granted_at_position: view.access.access.grant.position,
            last_used_at: view.last_used_at.map(|at| at.to_rfc3339()),
            findings: view
                .findings
                .iter()
                .map(|finding| finding.words())
                .collect(),
            recommended: view.recommended.map(Decision::name),
            recommended_role: role_of(view.recommended),
            decision: decision.map(Decision::name),
            decision_role: role_of(decision),
            decided_by: by.map(|decided| decided.by),
            decided_by_name: by.map(|decided| decided.by_name.clone()),
            decided_at: by.map(|decided| decided.at.to_rfc3339()),
            decided_at_position: by.map(|decided| decided.position),
            reason: by.map(|decided| decided.reason.clone()),
            outcome: outcome.as_ref().map(|outcome| outcome.name),
            outcome_at_position: outcome.as_ref().and_then(|outcome| outcome.position),
            outcome_code: outcome.and_then(|outcome| outcome.code),
            name: view.access.name,
        }
    }
}

fn role_of(decision: Option<Decision>) -> Option<&'static str> {
    let role = decision.and_then(Decision::role);
    role.map(crate::domain::authority::Role::name)
}

impl Service {
    /// The report of a campaign, in one form.
    ///
    /// # Errors
    /// As [`Service::review`]; when the log cannot be proven.
    pub async fn review_report(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        review: ReviewId,
        format: ReportFormat,
    ) -> Result<SentReport, ServiceError> {
        let (permission, action) = (Permission::ReadAudit, "access_review.reported");
        let place = self
            .may_in_workspace(request, principal, workspace, permission, action)
            .await?;
        let found = self.review_in(workspace, review).await?;
        let document = found.value;
        let end = document.closed.map(|end| end.position);
        let question = ReportQuestion {
            position: end.unwrap_or(found.position),
            from: None,
            environment: document.terms.environment,
            principal: None,
        };
        let target = review.to_string();
        let position = self
            .keep_report(principal, request, place, (action, target), question)
            .await?;
        let report = self.report_of(&document).await?;
        let body = match format {
            ReportFormat::Json => {
                to_canonical(&report).map_err(|error| ServiceError::Internal(error.to_string()))?
            }
            ReportFormat::Csv => report_csv::body(&report),
            ReportFormat::Html => report_html::body(&report),
        };
        let checkpoint = self.checkpoint_of(position).await?;
        let keys = super::super::signing::signing(&**self.journal.store(), &self.keyring).await?;
        let signed = checkpoint.checkpoint()?;
        let about = About::of(&report, format, &signed, (&body, &checkpoint.note));
        Ok(SentReport {
            position: checkpoint.size.max(position),
            text: report_proof::joined(format, &body, &checkpoint.note, &about.signed(&keys)?),
        })
    }

    async fn report_of(&self, document: &ReviewDocument) -> Result<Report, ServiceError> {
        let place = ReviewAt::of(document).place;
        let pinned = self
            .pinned(place, document.pinned_at, &document.terms)
            .await?;
        let mut held = pinned.held.clone();
        held.sort_by_cached_key(|access| access.held.principal.to_string());
        let mut views = Vec::with_capacity(held.len());
        for some in held.chunks(TOLD_AT_ONCE) {
            views.extend(self.item_views(document, &pinned, some.to_vec()).await?);
        }
        let closed_by = document.closing.and_then(|closing| closing.by);
        let mut people = deciders(&views);
        people.extend(document.terms.reviewers.iter().copied());
        people.extend([document.opened_by].into_iter().chain(closed_by));
        let realm = place.organization.to_string();
        let called = self.called(&realm, people, None).await?;
        let named = |user: UserId| Somebody {
            id: user,
            name: called.of(user).name.into_text(),
        };
        let end = document.closed;
        let terms = &document.terms;
        let workspace = self.workspaces().get(&place.workspace.to_string()).await?;
        let summary = Summary {
            items: document.items,
            decided: document.decided,
            kept: end.map_or(0, |end| end.kept),
            applied: end.map_or(0, |end| end.applied),
            not_applied: end.map_or(0, |end| end.not_applied),
        };
        Ok(Report {
            access_review: document.id,
            name: terms.name.clone(),
            organization: place.organization,
            workspace: place.workspace,
            workspace_name: workspace.value.map_or_else(String::new, |found| found.name),
            status: document.status.name(),
            principals: terms.principals.iter().map(|kind| kind.name()).collect(),
            environment: terms.environment,
            pinned_at: document.pinned_at,
            pinned_time: pinned.moment.at.to_rfc3339(),
            opened_by: named(document.opened_by),
            opened_at: document.created_at.to_rfc3339(),
            due_at: terms.due_at.to_rfc3339(),
            undecided: terms.undecided.name(),
            reviewers: terms.reviewers.iter().copied().map(named).collect(),
            closed_at: end.map(|end| end.at.to_rfc3339()),
            closed_at_position: end.map(|end| end.position),
            closed_by: closed_by
                .filter(|_| document.status == ReviewStatus::Closed)
                .map(named),
            timed_out: end.map(|end| end.timed_out),
            previous: document.previous,
            summary,
            items: views.into_iter().map(Row::of).collect(),
        })
    }
}
