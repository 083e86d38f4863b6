//! The audit log of a workspace or an organization.
//!
//! Pages go by position: they neither skip nor repeat an entry while the log grows.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        KnownFormat, RefOr, SchemaFormat,
        schema::{ObjectBuilder, Schema, Type},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{PrincipalReader, ReadQuery},
    headers::{CREWLOG_POSITION, MinimumPosition},
    paging::{Cursor, CursorKey, Limit},
    problem::Problem,
    query::Path,
    respond::{Page, Resource},
    server::LastsLong,
    values::{Position, Time},
};
use crate::{
    domain::{
        Timestamp,
        environment::Environment,
        ids::{CrewId, EventId, OrganizationId, WorkspaceId},
    },
    projections::audit::AuditOutcome,
    service::{
        AuditEntry, AuditFilter, AuditScope, ContentPlace, EntryActor, EntryChange, EntryTarget,
        ExportFormat, Order, Service, ServiceError,
    },
};

/// The longest text that a filter takes, in characters.
const FILTER_CHARACTERS_MAX: usize = 200;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(list_audit))
        .routes(routes!(export_audit))
        .routes(routes!(export_organization_audit))
        .routes(routes!(read_audit_entry))
        .routes(routes!(list_organization_audit))
        .routes(routes!(read_organization_audit_entry))
}

/// An entry of the log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditEntryBody {
    pub(super) position: u64,
    id: EventId,
    recorded_at: Time,
    /// `<thing>.<past participle>`.
    #[schema(example = "member.invited")]
    action: String,
    outcome: Outcome,
    actor: ActorBody,
    target: TargetBody,
    #[schema(required)]
    organization: Option<OrganizationId>,
    #[schema(required)]
    workspace: Option<String>,
    #[schema(required)]
    crew: Option<CrewId>,
    #[schema(required)]
    environment: Option<Environment>,
    /// Whether glass was broken for it: a production crew was changed against the policy. The
    /// words `break glass` find it.
    break_glass: bool,
    changes: Vec<ChangeBody>,
    #[schema(required)]
    reason: Option<String>,
    #[schema(required)]
    request_id: Option<String>,
    #[schema(required)]
    ip: Option<String>,
    #[schema(required)]
    user_agent: Option<String>,
    /// The entry's leaf in the log's tree: SHA-256 in standard base64.
    leaf: String,
    /// The exact bytes of the entry; in the answer of one entry only.
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical: Option<String>,
    /// Where the contents differ that the change is about, such as the configuration of an agent;
    /// in the answer of one entry only.
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<Vec<ContentChangeBody>>,
    /// There, and true, where `contents` is not all of it, as it would be too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    contents_cut: Option<bool>,
}

/// One place where a content differs from what it was.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditContentChange)]
pub struct ContentChangeBody {
    /// Whose content, in an entry that changes many: of `crew.promoted` and `crew.rolled_back`.
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<TargetBody>,
    /// `added`, `removed` or `changed`.
    change: &'static str,
    /// A JSON pointer (RFC 6901); empty for the document as a whole.
    path: String,
    /// Null where nothing was.
    from: serde_json::Value,
    /// Null where nothing is.
    to: serde_json::Value,
}

impl From<ContentPlace> for ContentChangeBody {
    fn from(place: ContentPlace) -> Self {
        let difference = place.difference;
        let change = match (&difference.from, &difference.to) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(_), Some(_)) => "changed",
        };
        Self {
            item: place.item.map(Into::into),
            change,
            path: difference.path,
            from: difference.from.unwrap_or_default(),
            to: difference.to.unwrap_or_default(),
        }
    }
}

/// Who acted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditActor)]
pub struct ActorBody {
    /// `user`, `api_key` or `system`.
    #[serde(rename = "type")]
    kind: &'static str,
    #[schema(required)]
    id: Option<String>,
    /// What they were called then; `erased` where it is gone.
    #[schema(required)]
    name: Option<String>,
}

/// What was made or changed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditTarget)]
pub struct TargetBody {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    /// What it was called then; `erased` where it is gone.
    #[schema(required)]
    name: Option<String>,
}

/// One thing that changed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditChange)]
pub struct ChangeBody {
    path: &'static str,
    from: serde_json::Value,
    to: serde_json::Value,
}

impl From<AuditEntry> for AuditEntryBody {
    fn from(entry: AuditEntry) -> Self {
        Self {
            position: entry.position,
            id: entry.id,
            recorded_at: entry.recorded_at.into(),
            action: entry.action,
            outcome: entry.outcome.into(),
            actor: entry.actor.into(),
            target: entry.target.into(),
            organization: entry.organization,
            workspace: entry.workspace,
            crew: entry.crew,
            environment: entry.environment,
            break_glass: entry.break_glass,
            changes: entry.changes.into_iter().map(Into::into).collect(),
            reason: entry.reason,
            request_id: entry.request_id,
            ip: entry.ip,
            user_agent: entry.user_agent,
            leaf: BASE64_STANDARD.encode(entry.leaf),
            canonical: None,
            contents: None,
            contents_cut: None,
        }
    }
}

impl From<EntryActor> for ActorBody {
    fn from(actor: EntryActor) -> Self {
        Self {
            kind: actor.kind,
            id: actor.id,
            name: actor.name,
        }
    }
}

impl From<EntryTarget> for TargetBody {
    fn from(target: EntryTarget) -> Self {
        Self {
            kind: target.kind,
            id: target.id,
            name: target.name,
        }
    }
}

impl From<EntryChange> for ChangeBody {
    fn from(change: EntryChange) -> Self {
        Self {
            path: change.path,
            from: change.from,
            to: change.to,
        }
    }
}

/// Whether something was done, or refused.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AuditOutcome)]
pub enum Outcome {
    Ok,
    Denied,
}

impl From<AuditOutcome> for Outcome {
    fn from(outcome: AuditOutcome) -> Self {
        match outcome {
            AuditOutcome::Ok => Self::Ok,
            AuditOutcome::Denied => Self::Denied,
        }
    }
}

impl From<Outcome> for AuditOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Ok,
            Outcome::Denied => Self::Denied,
        }
    }
}

/// The order of a page.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditOrder {
    /// Newest first.
    #[default]
    Desc,
    /// Oldest first.
    Asc,
}

impl From<AuditOrder> for Order {
    fn from(order: AuditOrder) -> Self {
        match order {
            AuditOrder::Desc => Self::NewestFirst,
            AuditOrder::Asc => Self::OldestFirst,
        }
    }
}

/// Where a page of entries ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct AuditCursor(u64);

impl CursorKey for AuditCursor {
    const LIST: &'static str = "audit";
}

pub(super) type EndOfPage = Cursor<AuditCursor>;

/// What an entry must be to be listed; each condition that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// The id of who acted.
    #[param(inline)]
    pub(super) actor: Option<FilterText>,
    /// As entries have it, `member.invited`.
    #[param(inline)]
    pub(super) action: Option<FilterText>,
    /// The id of what was made or changed.
    #[param(inline)]
    pub(super) target: Option<FilterText>,
    /// The id of a crew.
    #[param(inline)]
    pub(super) crew: Option<FilterText>,
    #[param(inline)]
    pub(super) environment: Option<Environment>,
    /// Recorded at this time or later.
    #[param(inline)]
    pub(super) from: Option<QueryTime>,
    /// Recorded before this time.
    #[param(inline)]
    pub(super) to: Option<QueryTime>,
    /// Positions after this one.
    #[param(inline)]
    pub(super) after: Option<Position>,
    /// Positions before this one.
    #[param(inline)]
    pub(super) before: Option<Position>,
    /// Words that must all occur in what was done, in open names, or, as whole words, in a name
    /// that who acted or whom it is about ever had; an address finds who has it now. The first
    /// eight count.
    #[param(inline)]
    pub(super) q: Option<FilterText>,
    #[param(inline)]
    pub(super) outcome: Option<Outcome>,
    /// Newest first (`desc`) where nobody says.
    #[serde(default)]
    #[param(inline, required = false)]
    pub(super) order: AuditOrder,
    /// How many items at most.
    #[serde(default)]
    #[param(inline, required = false)]
    pub(super) limit: Limit,
    /// `next_cursor` of the page before.
    #[param(inline)]
    pub(super) cursor: Option<EndOfPage>,
}

impl ReadQuery for AuditQuery {}

impl AuditQuery {
    pub(super) fn into_filter(self) -> AuditFilter {
        let text = |text: Option<FilterText>| text.map(|FilterText(text)| text);
        AuditFilter {
            actor: text(self.actor),
            action: text(self.action),
            target: text(self.target),
            crew: text(self.crew),
            environment: self
                .environment
                .map(|environment| environment.name().to_owned()),
            outcome: self
                .outcome
                .map(|outcome| AuditOutcome::from(outcome).name().to_owned()),
            from: self.from.map(|QueryTime(time)| time),
            to: self.to.map(|QueryTime(time)| time),
            after: self.after.map(|Position(position)| position),
            before: self.before.map(|Position(position)| position),
            words: text(self.q),
            order: self.order.into(),
        }
    }
}

/// A text that entries are looked for by.
#[derive(Debug)]
pub(super) struct FilterText(pub(super) String);

impl<'de> Deserialize<'de> for FilterText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if (1..=FILTER_CHARACTERS_MAX).contains(&text.chars().count()) {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("1 to 200 characters"))
        }
    }
}

impl PartialSchema for FilterText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(FILTER_CHARACTERS_MAX))
            .into()
    }
}

impl ToSchema for FilterText {}

/// A time in a query. Entries are recorded on whole microseconds, so the next one stands for
/// any time before it, in both bounds alike.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueryTime(pub(super) Timestamp);

impl<'de> Deserialize<'de> for QueryTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = DateTime::parse_from_rfc3339(&text)
            .map_err(|_| D::Error::custom("a time as RFC 3339 has it, `2026-11-24T06:30:00Z`"))?;
        let Timestamp(micros) = Timestamp::from_datetime(time.with_timezone(&Utc));
        let finer = time.timestamp_subsec_nanos() % 1_000 > 0;
        Ok(Self(Timestamp(micros + i64::from(finer))))
    }
}

impl PartialSchema for QueryTime {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl ToSchema for QueryTime {}

async fn page(
    service: &Service,
    reader: PrincipalReader<AuditQuery>,
    scope: AuditScope,
) -> Result<Page<AuditEntryBody>, Problem> {
    let PrincipalReader {
        request,
        principal,
        query,
    } = reader;
    let limit = query.limit.count();
    let cursor = query.cursor.as_ref().map(|cursor| cursor.key.0);
    let filter = query.into_filter();
    let page = service
        .audit(&request, &principal, scope, &filter, cursor, limit)
        .await?;
    let next = page.next;
    let next = next.map(|position| Cursor::new(AuditCursor(position)).encode());
    let entries = page.entries.into_iter().map(Into::into);
    Ok(Page::new(entries.collect(), next, page.position))
}

async fn entry(
    service: &Service,
    reader: &PrincipalReader,
    scope: AuditScope,
    position: Position,
) -> Result<Resource<AuditEntryBody>, Problem> {
    let found = service
        .audit_entry(&reader.request, &reader.principal, scope, position.0)
        .await?;
    let canonical = Some(found.value.canonical.clone());
    let contents = found.value.contents.clone();
    let is_cut = contents.as_ref().is_some_and(|changed| changed.is_cut);
    let entry = AuditEntryBody {
        canonical,
        contents: contents.map(|changed| changed.places.into_iter().map(Into::into).collect()),
        contents_cut: is_cut.then_some(true),
        ..found.value.into()
    };
    Ok(Resource::unversioned(found.position, entry))
}

/// The audit log of a workspace. One search looks at 200,000 entries at most: where something rare
/// is looked for, a page may be short, even empty, and have a next one.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/audit", tag = "audit",
    params(("ws" = WorkspaceId, Path), AuditQuery, MinimumPosition),
    responses((status = 200, description = "A page of entries.", body = Page<AuditEntryBody>)),
)]
pub async fn list_audit(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<AuditQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Page<AuditEntryBody>, Problem> {
    page(&service, reader, AuditScope::Workspace(workspace)).await
}

/// Which entries are exported, and how; each condition that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// `jsonl`, where nobody says: entries with their exact bytes and proofs, which
    /// `crewlog verify --offline` verifies with no server; `csv`: for spreadsheets;
    /// `ocsf`: events as OCSF has them (docs/ocsf.md), for security tools.
    #[serde(default)]
    #[param(inline, required = false)]
    format: ExportFormatName,
    /// The id of who acted.
    #[param(inline)]
    actor: Option<FilterText>,
    /// As entries have it, `member.invited`.
    #[param(inline)]
    action: Option<FilterText>,
    /// The id of what was made or changed.
    #[param(inline)]
    target: Option<FilterText>,
    /// The id of a crew.
    #[param(inline)]
    crew: Option<FilterText>,
    #[param(inline)]
    environment: Option<Environment>,
    /// Recorded at this time or later.
    #[param(inline)]
    from: Option<QueryTime>,
    /// Recorded before this time.
    #[param(inline)]
    to: Option<QueryTime>,
    /// Positions after this one.
    #[param(inline)]
    after: Option<Position>,
    /// Positions before this one.
    #[param(inline)]
    before: Option<Position>,
    /// Words that must all occur in what was done and in open names; the first eight count.
    #[param(inline)]
    q: Option<FilterText>,
    #[param(inline)]
    outcome: Option<Outcome>,
}

impl ReadQuery for ExportQuery {}

/// The form of an export.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ExportFormat)]
pub enum ExportFormatName {
    #[default]
    Jsonl,
    Csv,
    Ocsf,
}

impl ExportQuery {
    fn into_filter(self) -> (ExportFormat, AuditFilter) {
        let format = match self.format {
            ExportFormatName::Jsonl => ExportFormat::Jsonl,
            ExportFormatName::Csv => ExportFormat::Csv,
            ExportFormatName::Ocsf => ExportFormat::Ocsf,
        };
        let listed = AuditQuery {
            actor: self.actor,
            action: self.action,
            target: self.target,
            crew: self.crew,
            environment: self.environment,
            from: self.from,
            to: self.to,
            after: self.after,
            before: self.before,
            q: self.q,
            outcome: self.outcome,
            order: AuditOrder::Asc,
            limit: Limit::default(),
            cursor: None,
        };
        (format, listed.into_filter())
    }
}

/// An entry as every list shows it.
pub fn shown_entry(entry: AuditEntry) -> serde_json::Value {
    let body = AuditEntryBody::from(entry);
    serde_json::to_value(body).expect("an entry has only names as members")
}

/// Streams an export; where it cannot go on, the connection breaks, and the export has no end.
async fn export(
    service: Arc<Service>,
    reader: PrincipalReader<ExportQuery>,
    scope: AuditScope,
) -> Result<Response, Problem> {
    let PrincipalReader {
        request,
        principal,
        query,
    } = reader;
    let (format, filter) = query.into_filter();
    let export = service
        .begin_export(&request, &principal, scope, filter, format)
        .await?;
    let (content_type, name) = match format {
        ExportFormat::Jsonl => ("application/jsonl", "audit.jsonl"),
        ExportFormat::Csv => ("text/csv; charset=utf-8", "audit.csv"),
        ExportFormat::Ocsf => ("application/jsonl", "audit.ocsf.jsonl"),
    };
    let through = export.through();
    let parts = futures::stream::try_unfold((service, export), async |(service, mut export)| {
        let part = service.next_of_export(&mut export, shown_entry).await;
        let part = part.inspect_err(|error| tracing::warn!(%error, "an export ended early"))?;
        Ok::<_, ServiceError>(part.map(|part| (part, (service, export))))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CREWLOG_POSITION, HeaderValue::from(through)),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_str(&format!("attachment; filename=\"{name}\""))
                .map_err(|error| Problem::internal(&error))?,
        ),
    ];
    let mut response = (headers, Body::from_stream(parts)).into_response();
    response.extensions_mut().insert(LastsLong);
    Ok(response)
}

/// Exports the audit log of a workspace, oldest first, up to a signed checkpoint. The export is
/// an entry itself. One that was sent to its end ends with a signed statement.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/audit/export", tag = "audit",
    params(("ws" = WorkspaceId, Path), ExportQuery, MinimumPosition),
    responses((
        status = 200, description = "JSON Lines, or CSV.",
        content((String = "application/jsonl"), (String = "text/csv")),
    )),
)]
pub async fn export_audit(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<ExportQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Response, Problem> {
    export(service, reader, AuditScope::Workspace(workspace)).await
}

/// Exports the audit log of an organization, oldest first, up to a signed checkpoint.
#[utoipa::path(
    get, path = "/v1/organizations/{org}/audit/export", tag = "audit",
    params(("org" = OrganizationId, Path), ExportQuery, MinimumPosition),
    responses((
        status = 200, description = "JSON Lines, or CSV.",
        content((String = "application/jsonl"), (String = "text/csv")),
    )),
)]
pub async fn export_organization_audit(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<ExportQuery>,
    Path(organization): Path<OrganizationId>,
) -> Result<Response, Problem> {
    export(service, reader, AuditScope::Organization(organization)).await
}

/// An entry of a workspace's audit log, with its exact bytes.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/audit/{position}", tag = "audit",
    params(("ws" = WorkspaceId, Path), ("position" = Position, Path), MinimumPosition),
    responses((status = 200, description = "The entry.", body = AuditEntryBody)),
)]
pub async fn read_audit_entry(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader,
    Path((workspace, position)): Path<(WorkspaceId, Position)>,
) -> Result<Resource<AuditEntryBody>, Problem> {
    let scope = AuditScope::Workspace(workspace);
    entry(&service, &reader, scope, position).await
}

/// The audit log of an organization, without what changed inside crews.
#[utoipa::path(
    get, path = "/v1/organizations/{org}/audit", tag = "audit",
    params(("org" = OrganizationId, Path), AuditQuery, MinimumPosition),
    responses((status = 200, description = "A page of entries.", body = Page<AuditEntryBody>)),
)]
pub async fn list_organization_audit(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<AuditQuery>,
    Path(organization): Path<OrganizationId>,
) -> Result<Page<AuditEntryBody>, Problem> {
    page(&service, reader, AuditScope::Organization(organization)).await
}

/// An entry of an organization's audit log, with its exact bytes.
#[utoipa::path(
    get, path = "/v1/organizations/{org}/audit/{position}", tag = "audit",
    params(("org" = OrganizationId, Path), ("position" = Position, Path), MinimumPosition),
    responses((status = 200, description = "The entry.", body = AuditEntryBody)),
)]
pub async fn read_organization_audit_entry(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader,
    Path((organization, position)): Path<(OrganizationId, Position)>,
) -> Result<Resource<AuditEntryBody>, Problem> {
    let scope = AuditScope::Organization(organization);
    entry(&service, &reader, scope, position).await
}

#[cfg(test)]
mod tests {
    use serde::de::{IntoDeserializer, value};

    use super::*;

    fn time(text: &str) -> Result<QueryTime, value::Error> {
        QueryTime::deserialize(text.into_deserializer())
    }

    #[test]
    fn a_time_between_two_microseconds_stands_for_the_later() {
        assert_eq!(time("1970-01-01T00:00:00Z"), Ok(QueryTime(Timestamp(0))));
        let between = time("1970-01-01T02:00:00.0000015+02:00");
        assert_eq!(between, Ok(QueryTime(Timestamp(2))));
        assert!(time("1970-01-01").is_err());
    }
}
