//! What crews hold as bundles: exported, compared, rolled out; and the change log of a crew.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    as_of::AsOf,
    exchange::{Command, PrincipalReader, PrincipalWriter, ReadQuery},
    fields::{FieldCode, FieldError, Validate, escaped},
    headers::{CREWLOG_POSITION, IdempotencyKey, MinimumPosition},
    json::{Json, Object},
    paging::{ChangelogCursor, Cursor, Limit},
    problem::Problem,
    promotions::{ActorBody, PromotionBody},
    query::Path,
    respond::{Page, Resource},
    values::{self, Position, Time, wrong},
};
use crate::{
    domain::{
        bundle::{BUNDLE_BYTES_MAX, FORMAT, ItemKey, diff, portable},
        contents::{CONTENT_BYTES_MAX, secrets, slots},
        crew::ItemKind,
        ids::{CrewId, PromotionId, WorkspaceId},
        promotion::CHOSEN_MAX,
    },
    service::{BundleDraft, ChangelogView, DiffItem, DiffView, OtherSide, RollOutResult, Service},
};

/// The largest body with a bundle: the bundle, and what is around it.
pub const BUNDLE_BODY_BYTES_MAX: usize = BUNDLE_BYTES_MAX + 64 * 1024;
/// The most targets that are proposed to at once.
const TARGETS_MAX: usize = 100;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(export_crew))
        .routes(routes!(compare_crew))
        .routes(routes!(read_changelog))
        .routes(routes!(roll_out))
}

/// The agents and pathways of a crew, by name: what they say, and nothing that means something in
/// one environment alone. Its digest is SHA-256 of its RFC 8785 form.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Bundle)]
pub struct BundleBody {
    /// `crewlog/bundle/1`
    #[schema(pattern = "^crewlog/bundle/1$", max_length = 40)]
    format: String,
    /// Configurations by the names of the agents.
    #[serde(default)]
    #[schema(value_type = Object)]
    agents: Map<String, Value>,
    /// Configurations by the names of the pathways.
    #[serde(default)]
    #[schema(value_type = Object)]
    pathways: Map<String, Value>,
}

impl BundleBody {
    fn all(&self) -> impl Iterator<Item = (ItemKind, &String, &Value)> {
        let agents = self
            .agents
            .iter()
            .map(|(name, it)| (ItemKind::Agent, name, it));
        let pathways = self.pathways.iter();
        agents.chain(pathways.map(|(name, it)| (ItemKind::Pathway, name, it)))
    }

    /// Everything that is wrong with it.
    pub(super) fn wrong(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.format != FORMAT {
            let detail = format!("`{FORMAT}`");
            errors.push(FieldError::invalid("/bundle/format", detail));
        }
        for (kind, name, config) in self.all() {
            let at = format!("/bundle/{}s/{}", kind.name(), escaped(name));
            match values::name(&at, name) {
                Ok(parsed) if parsed.as_str() == name => {}
                Ok(_) => errors.push(FieldError::invalid(&at, "a name without blanks around it")),
                Err(error) => errors.push(error),
            }
            if !config.is_object() {
                errors.push(FieldError::new(FieldCode::WrongType, &at, "an object"));
                continue;
            }
            let found = |code: FieldCode, below: &str, pointer: String, detail: String| {
                FieldError::new(code, format!("{below}{pointer}"), detail)
            };
            for finding in secrets::find(config) {
                let code = FieldCode::SecretFound;
                errors.push(found(code, &at, finding.pointer, finding.detail));
            }
            for finding in slots::slots(config).err().unwrap_or_default() {
                let code = FieldCode::InvalidValue;
                errors.push(found(code, &at, finding.pointer, finding.detail));
            }
            for finding in portable::find(kind, name, config) {
                let code = FieldCode::InvalidValue;
                errors.push(found(code, "/bundle", finding.pointer, finding.detail));
            }
        }
        errors
    }

    /// The bundle, each configuration in its canonical form.
    pub(super) fn into_draft(self) -> Result<BundleDraft, Problem> {
        let mut draft = BTreeMap::new();
        let mut errors = Vec::new();
        for (kind, name, config) in self.all() {
            let text = serde_json_canonicalizer::to_string(config)
                .map_err(|error| Problem::internal(&error))?;
            if text.len() > CONTENT_BYTES_MAX {
                let at = format!("/bundle/{}s/{}", kind.name(), escaped(name));
                let detail = format!("at most {CONTENT_BYTES_MAX} bytes in its canonical form");
                errors.push(FieldError::invalid(at, detail));
            }
            draft.insert(ItemKey::new(kind, name.clone()), text);
        }
        match errors.is_empty() {
            true => Ok(BundleDraft(draft)),
            false => Err(errors.into()),
        }
    }
}

/// The agents and pathways that are meant.
///
/// # Errors
/// What is wrong with them.
pub(super) fn include(texts: Option<&Vec<String>>) -> Result<Option<Vec<ItemKey>>, FieldError> {
    let Some(texts) = texts else { return Ok(None) };
    if texts.is_empty() {
        return Err(FieldError::invalid("/include", "at least one"));
    }
    if texts.len() > CHOSEN_MAX {
        return Err(FieldError::too_many("/include", CHOSEN_MAX));
    }
    let parse = |(at, text): (usize, &String)| {
        let wrong = |_| {
            let detail = "`agent/` or `pathway/`, and its name";
            FieldError::invalid(format!("/include/{at}"), detail)
        };
        text.parse::<ItemKey>().map_err(wrong)
    };
    let keys: Result<Vec<_>, _> = texts.iter().enumerate().map(parse).collect();
    keys.map(Some)
}

/// With what a crew is compared: another crew of the workspace, or a bundle.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CompareCrew)]
pub struct CompareBody {
    crew: Option<CrewId>,
    #[schema(value_type = Option<BundleBody>)]
    bundle: Option<Object<BundleBody>>,
}

/// That one of two is there, and not both.
pub(super) fn one_of(crew: bool, bundle: bool, crew_name: &str) -> Option<FieldError> {
    match (crew, bundle) {
        (true, false) | (false, true) => None,
        (false, false) => {
            let detail = format!("`{crew_name}` or `bundle`");
            Some(FieldError::new(FieldCode::MissingField, "", detail))
        }
        (true, true) => {
            let detail = format!("`{crew_name}` or `bundle`, not both");
            Some(FieldError::invalid("/bundle", detail))
        }
    }
}

impl Validate for CompareBody {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = wrong([one_of(self.crew.is_some(), self.bundle.is_some(), "crew")]);
        errors.extend(self.bundle.iter().flat_map(|bundle| bundle.0.wrong()));
        errors
    }
}

/// What is on one side alone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DiffItem)]
pub struct DiffItemBody {
    kind: &'static str,
    name: String,
    /// SHA-256 of the configuration's RFC 8785 form, in standard base64.
    digest: String,
    /// Of that form, in bytes.
    size: u64,
}

impl From<DiffItem> for DiffItemBody {
    fn from(item: DiffItem) -> Self {
        Self {
            kind: item.kind.name(),
            name: item.name,
            digest: item.content.digest.to_string(),
            size: item.content.size,
        }
    }
}

/// A field that differs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FieldChange)]
pub struct FieldChangeBody {
    kind: &'static str,
    name: String,
    /// `added`, `changed`, `removed`, or `moved`: the same item in another place of its array.
    #[schema(value_type = String)]
    change: diff::FieldChange,
    /// Where in the configuration; an item of an array by its `id` or `name`, `/steps[greet]/text`.
    path: String,
    /// Before; shortened where it is long. Of what has moved, its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    from: Option<Value>,
    /// After; shortened where it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    to: Option<Value>,
    /// The lines that differ, of texts of several lines: a unified diff.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    lines: Option<String>,
}

impl From<diff::Changed> for FieldChangeBody {
    fn from(changed: diff::Changed) -> Self {
        Self {
            kind: changed.item.kind.name(),
            name: changed.item.name,
            change: changed.change,
            path: changed.path,
            from: changed.from,
            to: changed.to,
            lines: changed.lines,
        }
    }
}

/// What one crew would become, and what changes in it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Diff)]
pub struct DiffBody {
    /// The version of the contents that would change.
    target_version: u64,
    added: Vec<DiffItemBody>,
    removed: Vec<DiffItemBody>,
    changed: Vec<FieldChangeBody>,
    /// What the new contents need, and the crew does not have.
    #[serde(serialize_with = "as_texts")]
    #[schema(value_type = Vec<String>)]
    missing_slots: Vec<slots::Slot>,
    /// RFC 6902: applied to the crew's bundle it makes the other one. `null` where there is too
    /// much to compare it all; then `changed` is not all of it either.
    #[schema(value_type = Option<Vec<Object>>, required)]
    patch: Option<Vec<diff::Operation>>,
}

fn as_texts<S: Serializer>(slots: &[slots::Slot], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(slots.iter().map(ToString::to_string))
}

impl From<DiffView> for DiffBody {
    fn from(diff: DiffView) -> Self {
        Self {
            target_version: diff.version,
            added: diff.added.into_iter().map(Into::into).collect(),
            removed: diff.removed.into_iter().map(Into::into).collect(),
            changed: diff.changed.into_iter().map(Into::into).collect(),
            missing_slots: diff.missing_slots,
            patch: diff.patch,
        }
    }
}

/// Of which version an export is to be.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// A version that the crew's contents had: the sequence of an event of the crew. As they are
    /// now where nobody says.
    #[param(inline)]
    version: Option<Position>,
    /// The moment that is asked about: a position of the log, or a time. Now, where nobody says.
    #[param(inline)]
    as_of: Option<AsOf>,
}

impl ReadQuery for ExportQuery {
    fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }
}

/// A crew's agents and pathways at one version, as canonical JSON: `shasum -a 256` of the body is
/// the digest in its `ETag`.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/export", tag = "promotions",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ExportQuery, MinimumPosition),
    responses((
        status = 200, description = "The bundle.", body = BundleBody,
        headers(
            ("ETag" = String, description = "The bundle's digest in quotes: SHA-256 in standard base64."),
            ("Crewlog-Contents-Version" = u64, description = "The version of the crew's contents.")
        ),
    )),
)]
pub async fn export_crew(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<ExportQuery>,
    Path(at): Path<(WorkspaceId, CrewId)>,
) -> Result<Response, Problem> {
    let version = reader.query.version.map(|Position(version)| version);
    let found = service
        .export(&reader.request, &reader.principal, at, version)
        .await?;
    let export = found.value;
    let tag = format!("\"{}\"", export.digest);
    let (size, version) = (export.size, export.version);
    let mut response = Body::from_stream(export.bytes(service)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CREWLOG_POSITION, HeaderValue::from(found.position));
    headers.insert("crewlog-contents-version", HeaderValue::from(version));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

/// What would change in a crew if it became another one, or a bundle: drift between the two.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/diff", tag = "promotions",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), MinimumPosition),
    request_body = CompareBody,
    responses((status = 200, description = "What differs.", body = DiffBody)),
)]
pub async fn compare_crew(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Json<CompareBody, BUNDLE_BODY_BYTES_MAX>,
) -> Result<Resource<DiffBody>, Problem> {
    let other = match (body.value.crew, body.value.bundle) {
        (_, Some(bundle)) => OtherSide::Bundle(bundle.0.into_draft()?),
        (Some(crew), None) => OtherSide::Crew(crew),
        (None, None) => return Err(FieldError::missing("/crew").into()),
    };
    let found = service
        .compare_crew(&reader.request, &reader.principal, at, &other)
        .await?;
    Ok(Resource::unversioned(found.position, found.value.into()))
}

/// What was done to a crew by promotion.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangelogEntry)]
pub struct ChangelogBody {
    /// `promoted` or `rolled_back`.
    change: &'static str,
    at: Time,
    /// The version of the crew's contents since.
    version: u64,
    promotion: PromotionId,
    /// Who applied it, or rolled it back.
    by: Option<ActorBody>,
    proposed_by: ActorBody,
    /// The crew that it came from; `null` for a bundle.
    #[schema(required)]
    source: Option<CrewId>,
    bundle_digest: String,
    /// Why, in the proposer's words; of what was rolled back, why it was.
    #[schema(required)]
    reason: Option<String>,
    approved_by: Vec<ActorBody>,
    checks: Vec<CheckSummaryBody>,
    /// The kinds and names of what came.
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

/// How a check came out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CheckSummary)]
pub struct CheckSummaryBody {
    name: String,
    outcome: &'static str,
    #[schema(required)]
    evidence: Option<String>,
}

fn keys(items: Vec<(ItemKind, String)>) -> Vec<String> {
    let key = |(kind, name): (ItemKind, String)| ItemKey::new(kind, name).to_string();
    items.into_iter().map(key).collect()
}

impl From<ChangelogView> for ChangelogBody {
    fn from(view: ChangelogView) -> Self {
        use crate::projections::ChangeKind;
        let document = &view.promotion.document;
        let named = |actor| ActorBody::named(actor, view.name_of(actor));
        let person = |id| named(crate::domain::authority::Actor::User { id });
        let (by, reason) = match view.change.change {
            ChangeKind::Promoted => (
                document
                    .applied
                    .as_ref()
                    .map(|applied| person(applied.user)),
                view.promotion.reason.clone(),
            ),
            ChangeKind::RolledBack => (
                document.ended.as_ref().map(|ended| named(ended.by)),
                view.promotion.end_reason.clone(),
            ),
        };
        let checks = document.checks.iter().zip(&view.promotion.evidence);
        Self {
            change: view.change.change.name(),
            at: view.change.at.into(),
            version: view.change.version,
            promotion: document.id,
            by,
            proposed_by: named(document.proposed_by),
            source: super::promotions::source_of(document),
            bundle_digest: document.review.bundle_digest.to_string(),
            reason,
            approved_by: document
                .approvals
                .iter()
                .map(|it| person(it.user))
                .collect(),
            checks: checks
                .map(|(check, evidence)| CheckSummaryBody {
                    name: check.check.name.clone(),
                    outcome: check.check.outcome.name(),
                    evidence: evidence.clone(),
                })
                .collect(),
            added: keys(view.added),
            changed: keys(view.changed),
            removed: keys(view.removed),
        }
    }
}

/// How the change log is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangelogFormat {
    #[default]
    Json,
    /// Markdown, for people.
    Md,
}

/// Which part of a change log, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChangelogQuery {
    /// `json` where nobody says; `md` is for people.
    #[serde(default)]
    #[param(inline, required = false)]
    format: ChangelogFormat,
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

impl ReadQuery for ChangelogQuery {
    fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }
}

type EndOfPage = Cursor<ChangelogCursor>;

/// What was promoted into a crew and rolled back, newest first: what, when, by whom, why, approved
/// by whom, verified how.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/changelog", tag = "promotions",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ChangelogQuery, MinimumPosition),
    responses((
        status = 200, description = "A page of changes; with `format=md`, as `text/markdown`.",
        body = Page<ChangelogBody>
    )),
)]
pub async fn read_changelog(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<ChangelogQuery>,
    Path(at): Path<(WorkspaceId, CrewId)>,
) -> Result<Response, Problem> {
    let query = reader.query;
    let before = query.cursor.as_ref().map(|cursor| cursor.key.as_ref());
    let page = service
        .changelog_of(
            &reader.request,
            &reader.principal,
            at,
            (before, query.limit.count()),
        )
        .await?;
    let page = Page::keyed::<ChangelogCursor, _>(page, ChangelogBody::from);
    if query.format == ChangelogFormat::Json {
        return Ok(page.into_response());
    }
    let text = markdown(&page);
    let mut response = page.into_response();
    let headers = response.headers().clone();
    *response.body_mut() = Body::from(text);
    *response.headers_mut() = headers;
    let kind = HeaderValue::from_static("text/markdown; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// Text of somebody's, on one line of Markdown: nothing in it is markup.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => plain.push(' '),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '(' | ')' | '#' | '!'
            | '|' | '~' => {
                plain.push('\\');
                plain.push(character);
            }
            other => plain.push(other),
        }
    }
    plain
}

fn listed(title: &str, names: &[String], text: &mut String) {
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(|name| plain(name)).collect();
        let _ = writeln!(text, "- {title}: {}", names.join(", "));
    }
}

fn markdown(page: &Page<ChangelogBody>) -> String {
    let mut text = "# Change log\n".to_owned();
    for entry in &page.data {
        let what = match entry.change {
            "promoted" => "Promoted",
            _ => "Rolled back",
        };
        let at = serde_json::to_value(entry.at).unwrap_or_default();
        let at = at
            .as_str()
            .unwrap_or_default()
            .get(..16)
            .unwrap_or_default();
        let at = at.replace('T', " ");
        let _ = writeln!(text, "\n## {at} UTC: {what} (version {})\n", entry.version);
        if let Some(reason) = &entry.reason {
            let _ = writeln!(text, "{}\n", plain(reason));
        }
        listed("Added", &entry.added, &mut text);
        listed("Changed", &entry.changed, &mut text);
        listed("Removed", &entry.removed, &mut text);
        let names = |actors: &[ActorBody]| -> Vec<String> {
            actors.iter().map(|actor| actor.name().to_owned()).collect()
        };
        listed(
            "Proposed by",
            &names(std::slice::from_ref(&entry.proposed_by)),
            &mut text,
        );
        listed("Approved by", &names(&entry.approved_by), &mut text);
        let done = match entry.change {
            "promoted" => "Applied by",
            _ => "Rolled back by",
        };
        let by: Vec<_> = entry.by.iter().map(|by| by.name().to_owned()).collect();
        listed(done, &by, &mut text);
        let checks: Vec<_> = entry
            .checks
            .iter()
            .map(|check| {
                let evidence = check.evidence.as_ref().map(|text| format!(": {text}"));
                format!(
                    "{} {}{}",
                    check.name,
                    check.outcome,
                    evidence.unwrap_or_default()
                )
            })
            .collect();
        listed("Checks", &checks, &mut text);
        let _ = writeln!(text, "- Promotion: `{}`", entry.promotion);
    }
    if page.data.is_empty() {
        text.push_str("\nNothing has been promoted into this crew yet.\n");
    }
    if let Some(next) = &page.next_cursor {
        let _ = writeln!(text, "\nOlder changes: `?format=md&cursor={next}`");
    }
    text
}

/// Where what is in a crew is to come to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RollOut)]
pub struct RollOutBody {
    /// Crews of this workspace, and of others where the caller may propose promotions.
    #[schema(min_items = 1, max_items = 100)]
    targets: Vec<CrewId>,
    /// The agents and pathways alone that are meant, with what they need: `agent/Greeter`.
    #[schema(value_type = Option<Vec<ItemKey>>, max_items = 500)]
    include: Option<Vec<String>>,
    /// Why; kept in the audit log.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

impl Validate for RollOutBody {
    fn validate(&self) -> Vec<FieldError> {
        let count = self.targets.len();
        let different: std::collections::BTreeSet<_> = self.targets.iter().collect();
        wrong([
            (count == 0).then(|| FieldError::invalid("/targets", "at least one")),
            (count > TARGETS_MAX).then(|| FieldError::too_many("/targets", TARGETS_MAX)),
            (different.len() < count).then(|| FieldError::invalid("/targets", "each once")),
            include(self.include.as_ref()).err(),
            FieldError::check_why("/reason", &self.reason),
        ])
    }
}

impl Command for RollOutBody {
    fn reason(&self) -> Option<&str> {
        Some(&self.reason)
    }
}

/// What became of one target.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RollOutResult)]
pub struct RollOutResultBody {
    target: CrewId,
    /// Where it lies; `null` where nothing was proposed.
    #[schema(required)]
    workspace: Option<WorkspaceId>,
    /// What was proposed, without what it changes; `null` where nothing was.
    #[schema(required)]
    promotion: Option<PromotionBody>,
    /// Why nothing was: the stable code of the problem, and the same for people.
    #[schema(required)]
    problem: Option<RollOutProblemBody>,
}

/// Why nothing was proposed to a target.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RollOutProblem)]
pub struct RollOutProblemBody {
    code: &'static str,
    status: u16,
    detail: String,
}

impl From<RollOutResult> for RollOutResultBody {
    fn from(result: RollOutResult) -> Self {
        let (promotion, problem) = match result.outcome {
            Ok(mut view) => {
                view.diff = None;
                (Some(PromotionBody::from(view)), None)
            }
            Err(error) => {
                let problem = Problem::from(error);
                let kind = problem.code().kind();
                let told = RollOutProblemBody {
                    code: kind.code,
                    status: kind.status.as_u16(),
                    detail: problem.detail().to_owned(),
                };
                (None, Some(told))
            }
        };
        Self {
            target: result.target,
            workspace: result.workspace,
            promotion,
            problem,
        }
    }
}

/// What became of each target, in the order that they were named.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RollOutReport)]
pub struct RollOutReportBody {
    data: Vec<RollOutResultBody>,
}

/// Proposes what is in a crew to many others: a promotion for each target, or why there is none.
/// Each is then approved and applied on its own, as a whole or not at all.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/promotions", tag = "promotions",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), IdempotencyKey),
    request_body = RollOutBody,
    responses((status = 200, description = "A report for each target.", body = RollOutReportBody)),
)]
pub async fn roll_out(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Json<RollOutBody>,
) -> Result<Resource<RollOutReportBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let include = include(body.value.include.as_ref())?;
    let targets = &body.value.targets;
    let report = service
        .roll_out(&request, &principal, at, targets, include.as_deref())
        .await?;
    let data = report.results.into_iter().map(Into::into).collect();
    let body = RollOutReportBody { data };
    Ok(Resource::unversioned(service.position(), body).replayed(report.replayed))
}
