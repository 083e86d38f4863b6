//! The statements of a workspace: what each closed month came to.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    as_of::AsOf,
    exchange::{MomentQuery, ReadQuery, Reader},
    headers::MinimumPosition,
    paging::{Cursor, CursorKey, Limit},
    problem::Problem,
    query::Path,
    respond::{Page, Resource},
    usage::{MeterTotalBody, totals},
    values::Time,
};
use crate::{
    domain::{ids::WorkspaceId, plans::PlanName, usage::Month},
    projections::StatementDocument,
    service::Service,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(list_statements))
        .routes(routes!(read_statement))
}

/// What a workspace used in a month, and owes for it. It is an event, and never changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Statement)]
pub struct StatementBody {
    workspace: WorkspaceId,
    #[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    month: Month,
    version: u64,
    /// When the month was closed.
    created_at: Time,
    updated_at: Time,
    /// Whose prices it was charged by: the plan that the workspace was on when the month ended.
    #[schema(required)]
    plan: Option<PlanName>,
    /// By meter.
    meters: BTreeMap<String, MeterTotalBody>,
    /// In minor units, by currency.
    amounts: BTreeMap<String, u64>,
    /// SHA-256, in standard base64, of the month's records in order of their ids, byte by byte.
    /// Each is RFC 8785 JSON of `at` (microseconds since 1970), `crew`, `id`, `meter` and
    /// `quantity`, followed by a line feed.
    #[schema(value_type = String)]
    records_digest: String,
}

impl From<StatementDocument> for StatementBody {
    fn from(document: StatementDocument) -> Self {
        let statement = document.statement;
        Self {
            workspace: document.workspace,
            month: statement.month,
            version: document.version,
            created_at: document.created_at.into(),
            updated_at: document.created_at.into(),
            meters: totals(&statement.meters),
            amounts: statement.amounts(),
            plan: statement.plan,
            records_digest: statement.records_digest.to_string(),
        }
    }
}

/// Where a statement stands in the list of its workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatementCursor(Month);

impl CursorKey for StatementCursor {
    const LIST: &'static str = "statements";
}

type EndOfStatements = Cursor<StatementCursor>;

/// Which page of statements.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatementsQuery {
    /// How many items at most.
    #[serde(default)]
    #[param(inline, required = false)]
    limit: Limit,
    /// `next_cursor` of the page before.
    #[param(inline)]
    cursor: Option<EndOfStatements>,
    /// The moment that is asked about: a position of the log, or a time. Now, where nobody says.
    #[param(inline)]
    as_of: Option<AsOf>,
}

impl ReadQuery for StatementsQuery {
    fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }
}

/// The statements of a workspace, newest month first. A month has one if something was used in
/// it, from three days after its end.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/statements", tag = "usage",
    params(("ws" = WorkspaceId, Path), StatementsQuery, MinimumPosition),
    responses((status = 200, description = "A page of statements.", body = Page<StatementBody>)),
)]
pub async fn list_statements(
    State(service): State<Arc<Service>>,
    reader: Reader<StatementsQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Page<StatementBody>, Problem> {
    let before = reader.query.cursor.as_ref().map(|Cursor { key }| key.0);
    let place = (before, reader.query.limit.count());
    let page = service
        .statements_of(&reader.request, &reader.caller, workspace, place)
        .await?;
    let last = page.items.last().filter(|_| page.more);
    let next = last.map(|(_, last)| Cursor::new(StatementCursor(last.statement.month)).encode());
    let statements = page
        .items
        .into_iter()
        .map(|(_, statement)| statement.into());
    Ok(Page::new(statements.collect(), next, page.position))
}

/// The statement of one month.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/statements/{month}", tag = "usage",
    params(
        ("ws" = WorkspaceId, Path),
        ("month" = String, Path, description = "`2026-11`, in UTC."),
        MomentQuery, MinimumPosition
    ),
    responses((
        status = 200, description = "The statement.", body = StatementBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_statement(
    State(service): State<Arc<Service>>,
    reader: Reader<MomentQuery>,
    Path((workspace, month)): Path<(WorkspaceId, Month)>,
) -> Result<Resource<StatementBody>, Problem> {
    let found = service
        .statement_of(&reader.request, &reader.caller, workspace, month)
        .await?;
    let version = found.value.version;
    Ok(Resource::new(version, found.position, found.value.into()))
}
