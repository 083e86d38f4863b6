//! What crews use, and what a month of it comes to.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, PrincipalReader, PrincipalWriter, ReadQuery, Reader},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, MinimumPosition},
    json::Json,
    paging::{Cursor, CursorKey, Limit},
    plans::PriceBody,
    problem::Problem,
    query::Path,
    respond::Resource,
    values::{GivenTime, wrong},
};
use crate::{
    domain::{
        ids::{CrewId, OrganizationId, WorkspaceId},
        plans::PlanName,
        usage::{
            METER, MeterTotal, Month, QUANTITY_MAX, UsageRecord, UsedQuantity, amounts, is_meter,
        },
    },
    service::{
        CrewUsage, OrganizationUsage, Service, USAGE_RECORDS_MAX, UsageReceipt, WorkspaceUsage,
    },
};

/// The largest body of a batch.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;
/// The longest id of a record, in characters.
const ID_CHARACTERS_MAX: usize = 100;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(send_usage, read_usage))
        .routes(routes!(read_organization_usage))
}

/// So much of a meter, used by a crew.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewUsageRecord)]
pub struct NewUsageBody {
    /// The sender's own: a record counts once, however often it is sent.
    #[schema(min_length = 1, max_length = 100, example = "call-4711-minutes")]
    id: String,
    crew: CrewId,
    #[schema(pattern = "^[a-z0-9_]{1,64}$", example = "agent_minutes")]
    meter: String,
    /// Whole units.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    quantity: u64,
    /// When it was used; its month, in UTC, is charged for it. At most five minutes ahead, and
    /// no later than three days after the end of its month.
    at: GivenTime,
}

/// A batch of records: all of it is kept, or nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UsageBatch)]
pub struct UsageBatchBody {
    #[schema(min_items = 1, max_items = 500)]
    records: Vec<NewUsageBody>,
}

impl NewUsageBody {
    fn wrong_at(&self, place: usize) -> Vec<FieldError> {
        let at = |name: &str| format!("/records/{place}/{name}");
        let too_much = self.quantity > QUANTITY_MAX;
        wrong([
            FieldError::check_text(&at("id"), &self.id, 1..=ID_CHARACTERS_MAX),
            (!is_meter(&self.meter)).then(|| FieldError::invalid(at("meter"), METER)),
            too_much.then(|| FieldError::invalid(at("quantity"), format!("0 to {QUANTITY_MAX}"))),
            (self.at.0.0 < 0).then(|| FieldError::invalid(at("at"), "1970 or later")),
        ])
    }
}

impl Validate for UsageBatchBody {
    fn validate(&self) -> Vec<FieldError> {
        let count = self.records.len();
        if count == 0 {
            return vec![FieldError::invalid("/records", "at least one")];
        }
        if count > USAGE_RECORDS_MAX {
            return vec![FieldError::too_many("/records", USAGE_RECORDS_MAX)];
        }
        let mut ids = std::collections::HashSet::new();
        let records = self.records.iter().enumerate();
        let twice = records
            .clone()
            .filter(|(_, record)| !ids.insert(&record.id));
        let twice = twice.map(|(place, _)| {
            FieldError::invalid(format!("/records/{place}/id"), "another record has this id")
        });
        let twice: Vec<_> = twice.collect();
        records
            .flat_map(|(place, record)| record.wrong_at(place))
            .chain(twice)
            .collect()
    }
}

impl Command for UsageBatchBody {
    fn reason(&self) -> Option<&str> {
        None
    }
}

impl From<NewUsageBody> for UsageRecord {
    fn from(record: NewUsageBody) -> Self {
        Self {
            id: record.id,
            crew: record.crew,
            meter: record.meter,
            quantity: record.quantity,
            at: record.at.0,
        }
    }
}

/// What became of a batch; together they are all of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageReceipt)]
pub struct UsageReceiptBody {
    /// New here.
    accepted: u64,
    /// There already, by their ids: nothing has changed.
    known: u64,
}

impl From<UsageReceipt> for UsageReceiptBody {
    fn from(receipt: UsageReceipt) -> Self {
        Self {
            accepted: receipt.accepted,
            known: receipt.known,
        }
    }
}

/// What was used of a meter.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsedQuantity)]
pub struct UsedQuantityBody {
    quantity: u64,
    records: u64,
}

impl From<UsedQuantity> for UsedQuantityBody {
    fn from(used: UsedQuantity) -> Self {
        Self {
            quantity: used.quantity,
            records: used.records,
        }
    }
}

fn quantities(meters: BTreeMap<String, UsedQuantity>) -> BTreeMap<String, UsedQuantityBody> {
    let meters = meters.into_iter();
    meters.map(|(meter, used)| (meter, used.into())).collect()
}

/// What a meter comes to in a month.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MeterTotal)]
pub struct MeterTotalBody {
    quantity: u64,
    records: u64,
    /// `null` where the plan has no price for it.
    #[schema(required)]
    price: Option<PriceBody>,
    /// `quantity` times `amount_minor` of the price, divided by its `per_quantity` and rounded
    /// once, half a minor unit upwards.
    amount_minor: u64,
}

impl From<&MeterTotal> for MeterTotalBody {
    fn from(total: &MeterTotal) -> Self {
        Self {
            quantity: total.quantity,
            records: total.records,
            price: total.price.as_ref().map(PriceBody::from),
            amount_minor: total.amount_minor,
        }
    }
}

/// What each meter comes to.
pub(super) fn totals(meters: &BTreeMap<String, MeterTotal>) -> BTreeMap<String, MeterTotalBody> {
    let meters = meters.iter();
    meters
        .map(|(meter, total)| (meter.clone(), total.into()))
        .collect()
}

/// What a crew used.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CrewUsage)]
pub struct CrewUsageBody {
    crew: CrewId,
    /// By meter.
    meters: BTreeMap<String, UsedQuantityBody>,
}

impl From<CrewUsage> for CrewUsageBody {
    fn from(usage: CrewUsage) -> Self {
        Self {
            crew: usage.crew,
            meters: quantities(usage.meters),
        }
    }
}

/// What a workspace used in a month.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkspaceUsage)]
pub struct WorkspaceUsageBody {
    workspace: WorkspaceId,
    #[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    month: Month,
    /// Whether the month has its statement, whose sums these then are. Before, it is what the
    /// month has come to, at the prices that it would be charged by now.
    closed: bool,
    #[schema(required)]
    plan: Option<PlanName>,
    /// By meter.
    meters: BTreeMap<String, MeterTotalBody>,
    /// In minor units, by currency.
    amounts: BTreeMap<String, u64>,
    /// Of each crew, in order of their ids; at most 10,000 lines of crew and meter.
    crews: Vec<CrewUsageBody>,
}

impl From<WorkspaceUsage> for WorkspaceUsageBody {
    fn from(usage: WorkspaceUsage) -> Self {
        Self {
            workspace: usage.workspace,
            month: usage.month,
            closed: usage.closed,
            meters: totals(&usage.sums.meters),
            amounts: amounts(usage.sums.meters.values()),
            plan: usage.sums.plan,
            crews: usage.crews.into_iter().map(Into::into).collect(),
        }
    }
}

/// One workspace in its organization's month.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageOfWorkspace)]
pub struct UsageOfWorkspaceBody {
    workspace: WorkspaceId,
    /// Whether the month has its statement.
    closed: bool,
    /// By meter.
    meters: BTreeMap<String, UsedQuantityBody>,
}

/// What the workspaces of an organization used in a month.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationUsage)]
pub struct OrganizationUsageBody {
    organization: OrganizationId,
    #[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    month: Month,
    /// Of all workspaces, by meter.
    meters: BTreeMap<String, UsedQuantityBody>,
    /// What the statements of the month come to, in minor units, by currency.
    amounts: BTreeMap<String, u64>,
    /// A page of them, in order of their ids.
    workspaces: Vec<UsageOfWorkspaceBody>,
    /// For the next page of workspaces.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl From<OrganizationUsage> for OrganizationUsageBody {
    fn from(usage: OrganizationUsage) -> Self {
        let last = usage.workspaces.last().filter(|_| usage.more);
        let next_cursor = last.map(|last| Cursor::new(UsageCursor(last.workspace)).encode());
        let workspaces = usage.workspaces.into_iter().map(|of| UsageOfWorkspaceBody {
            workspace: of.workspace,
            closed: of.closed,
            meters: quantities(of.meters),
        });
        Self {
            organization: usage.organization,
            month: usage.month,
            meters: quantities(usage.meters),
            amounts: usage.amounts,
            workspaces: workspaces.collect(),
            next_cursor,
        }
    }
}

/// Where a workspace stands in its organization's usage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UsageCursor(WorkspaceId);

impl CursorKey for UsageCursor {
    const LIST: &'static str = "usage";
}

type EndOfUsage = Cursor<UsageCursor>;

/// Which month.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MonthQuery {
    /// In UTC; the present one where nobody says.
    #[param(value_type = Option<String>, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    month: Option<Month>,
}

impl ReadQuery for MonthQuery {}

/// Which month, and which page of workspaces.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OrganizationUsageQuery {
    /// In UTC; the present one where nobody says.
    #[param(value_type = Option<String>, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    month: Option<Month>,
    /// How many workspaces at most.
    #[serde(default)]
    #[param(inline, required = false)]
    limit: Limit,
    /// `next_cursor` of the page before.
    #[param(inline)]
    cursor: Option<EndOfUsage>,
}

impl ReadQuery for OrganizationUsageQuery {}

/// Keeps what crews have used: all of the batch, or nothing. A record counts once, by its id, so
/// that a batch can be sent until it is answered, also without an `Idempotency-Key`, and after its
/// month was closed. It is no event; the statement of its month is. Refused by name are new
/// records of a month that is closed (`month_closed`), and those whose id another record has
/// (`usage_conflict`).
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/usage", tag = "usage",
    params(("ws" = WorkspaceId, Path), IdempotencyKey),
    request_body = UsageBatchBody,
    responses((status = 200, description = "What became of it.", body = UsageReceiptBody)),
)]
pub async fn send_usage(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(workspace): Path<WorkspaceId>,
    body: Json<UsageBatchBody, BATCH_BYTES_MAX>,
) -> Result<Resource<UsageReceiptBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let records = body.value.records.into_iter().map(Into::into).collect();
    let written = service
        .send_usage(&request, &principal, workspace, records)
        .await?;
    let (position, replayed) = (written.position, written.replayed);
    let receipt = Resource::unversioned(position, written.value.into());
    Ok(receipt.replayed(replayed))
}

/// What a workspace used in a month, of each meter and crew, and what it comes to.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/usage", tag = "usage",
    params(("ws" = WorkspaceId, Path), MonthQuery, MinimumPosition),
    responses((status = 200, description = "The month.", body = WorkspaceUsageBody)),
)]
pub async fn read_usage(
    State(service): State<Arc<Service>>,
    reader: Reader<MonthQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Resource<WorkspaceUsageBody>, Problem> {
    let found = service
        .usage(
            &reader.request,
            &reader.caller,
            workspace,
            reader.query.month,
        )
        .await?;
    Ok(Resource::unversioned(found.position, found.value.into()))
}

/// What the workspaces of an organization used in a month, and what their statements come to.
#[utoipa::path(
    get, path = "/v1/organizations/{org}/usage", tag = "usage",
    params(("org" = OrganizationId, Path), OrganizationUsageQuery, MinimumPosition),
    responses((status = 200, description = "The month.", body = OrganizationUsageBody)),
)]
pub async fn read_organization_usage(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<OrganizationUsageQuery>,
    Path(organization): Path<OrganizationId>,
) -> Result<Resource<OrganizationUsageBody>, Problem> {
    let PrincipalReader {
        request,
        principal,
        query,
    } = reader;
    let after = query.cursor.as_ref().map(|Cursor { key }| key.0);
    let place = (after, query.limit.count());
    let found = service
        .organization_usage(&request, &principal, organization, query.month, place)
        .await?;
    Ok(Resource::unversioned(found.position, found.value.into()))
}
