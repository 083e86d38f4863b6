//! Usage: how much a workspace's crews have used of each meter, and the statement of each month.
//!
//! Records are kept beside the log, each once by its id, and never changed. Sums of them, of each
//! crew and of the workspace, are kept by triggers of the store in the statement that adds a
//! record, so that they are never anything else than what the records come to, and are read
//! without reading those. A month, in UTC, stays open for three days after its end. Then it is
//! marked as closed, under the row that every batch of its records holds: from then on it takes
//! none. Due work then adds up the records once more, compares that with the sums, and has the
//! workspace say it in one event, which it accepts once; killed between, or done by two, it is
//! done again and comes to the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{Principal, Request, Service, ServiceError, write::Made};
use crate::{
    domain::{
        Timestamp,
        authority::{OrganizationPermission, Permission},
        ids::{CrewId, OrganizationId, WorkspaceId},
        usage::{METERS_MAX, MeterTotal, Month, Statement as MonthStatement, TOTAL_MAX},
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{
        Origin, StreamRef, Unit,
        stores::{self, Statement, Value, page_rows},
    },
    projections::{Found, Statements},
};

/// The most records of one batch.
pub const USAGE_RECORDS_MAX: usize = 500;
/// How far ahead of this process's clock a record may be.
const AHEAD_MAX: chrono::TimeDelta = chrono::TimeDelta::minutes(5);
/// How many lines of crew and meter are told of a month.
const LINES_MAX: u64 = 10_000;
/// How many months are closed in one look.
const CLOSED_AT_ONCE: u64 = 50;

/// Whoever adds records of a month holds its row until they are written.
const OPEN_MONTH: &str = "
INSERT INTO usage_months (workspace, month, organization, closes_at)
VALUES ($1, $2, $3, $4)
    ON CONFLICT (workspace, month) DO UPDATE
   SET closes_at = usage_months.closes_at";

/// One more set of placeholders a record; see [`insertion`].
const INSERT: &str = "
INSERT INTO usage_records (workspace, id, month, crew, meter, quantity, at)
VALUES ";
const INSERT_COLUMNS: usize = 7;
const INSERT_ONCE: &str = "
    ON CONFLICT (workspace, id) DO NOTHING";

const CLOSED_MONTHS: &str = "
SELECT month
  FROM usage_months
 WHERE workspace = $1 AND closed_at IS NOT NULL AND month >= $2 AND month <= $3";

/// What a workspace has used of each meter in a month.
const TOTALS: &str = "
SELECT meter, quantity, records
  FROM usage_totals
 WHERE workspace = $1 AND month = $2 AND crew = ''
 ORDER BY meter";

/// The same of each crew.
const TOTALS_OF_CREWS: &str = "
SELECT crew, meter, quantity, records
  FROM usage_totals
 WHERE workspace = $1 AND month = $2 AND crew > $3
 ORDER BY crew, meter
 LIMIT $4";

/// What the records themselves come to.
const RECOMPUTE: &str = "
SELECT meter, CAST(SUM(quantity) AS BIGINT), COUNT(*)
  FROM usage_records
 WHERE workspace = $1 AND month = $2
 GROUP BY meter
 ORDER BY meter";

const DUE_MONTHS: &str = "
SELECT workspace, month, organization
  FROM usage_months
 WHERE stated_at IS NULL AND closes_at <= $1
 ORDER BY closes_at";

const CLOSE_MONTH: &str = "
UPDATE usage_months
   SET closed_at = $3
 WHERE workspace = $1 AND month = $2 AND closed_at IS NULL";

const STATE_MONTH: &str = "
UPDATE usage_months
   SET stated_at = $3
 WHERE workspace = $1 AND month = $2";

const STATE_AMOUNT: &str = "
UPDATE usage_totals
   SET currency = $4, amount_minor = $5
 WHERE workspace = $1 AND month = $2 AND crew = '' AND meter = $3";

/// What all workspaces of an organization come to.
const TOTALS_OF_ORGANIZATION: &str = "
SELECT t.meter, CAST(SUM(t.quantity) AS BIGINT), CAST(SUM(t.records) AS BIGINT)
  FROM usage_months m
  JOIN usage_totals t ON t.workspace = m.workspace AND t.month = m.month AND t.crew = ''
 WHERE m.organization = $1 AND m.month = $2
 GROUP BY t.meter
 ORDER BY t.meter";

/// What their statements come to in each currency.
const AMOUNTS_OF_ORGANIZATION: &str = "
SELECT t.currency, CAST(SUM(t.amount_minor) AS BIGINT)
  FROM usage_months m
  JOIN usage_totals t ON t.workspace = m.workspace AND t.month = m.month AND t.crew = ''
 WHERE m.organization = $1 AND m.month = $2 AND t.currency IS NOT NULL
 GROUP BY t.currency
 ORDER BY t.currency";

const WORKSPACES_OF_ORGANIZATION: &str = "
SELECT m.workspace, m.stated_at, t.meter, t.quantity, t.records
  FROM (SELECT workspace, month, stated_at
          FROM usage_months
         WHERE organization = $1 AND month = $2 AND workspace > $3
         ORDER BY workspace
         LIMIT $4) AS m
  JOIN usage_totals t ON t.workspace = m.workspace AND t.month = m.month AND t.crew = ''
 ORDER BY m.workspace, t.meter";

/// So much of a meter, used by a crew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRecord {
    /// The sender's: the first record of an id in a workspace stays.
    pub id: String,
    pub crew: CrewId,
    pub meter: String,
    pub quantity: u64,
    pub at: Timestamp,
}

/// What became of a batch; together they are all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReceipt {
    /// New here.
    pub accepted: u64,
    /// There already, by their ids.
    pub known: u64,
}

/// What was used of a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedQuantity {
    pub quantity: u64,
    pub records: u64,
}

/// What one crew used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrewUsage {
    pub crew: CrewId,
    pub meters: BTreeMap<String, UsedQuantity>,
}

/// What a workspace used in a month.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkspaceUsage {
    pub workspace: WorkspaceId,
    pub month: Month,
    /// What it comes to: by its statement, or by the prices of the present plan as long as
    /// there is none.
    pub statement: MonthStatement,
    /// Whether that is its statement.
    pub closed: bool,
    pub crews: Vec<CrewUsage>,
}

/// One workspace in its organization's month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageOfWorkspace {
    pub workspace: WorkspaceId,
    pub closed: bool,
    pub meters: BTreeMap<String, UsedQuantity>,
}

/// What the workspaces of an organization used in a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganizationUsage {
    pub organization: OrganizationId,
    pub month: Month,
    pub meters: BTreeMap<String, UsedQuantity>,
    /// By currency, of the statements that there are.
    pub amounts: BTreeMap<String, u64>,
    /// A page of them, in order of their ids.
    pub workspaces: Vec<UsageOfWorkspace>,
    /// Whether more follow.
    pub more: bool,
}

/// Inserts rows; the last is repeated up to a power of two, so that few different statements are
/// prepared. It is there only once.
fn insertion(mut rows: Vec<[Value; INSERT_COLUMNS]>) -> Statement {
    let size = rows.len().next_power_of_two();
    if let Some(last) = rows.last().cloned() {
        rows.resize(size, last);
    }
    let row = |at: usize| {
        let first = at * INSERT_COLUMNS + 1;
        let columns: Vec<_> = (first..first + INSERT_COLUMNS)
            .map(|number| format!("${number}"))
            .collect();
        format!("({})", columns.join(", "))
    };
    let places: Vec<_> = (0..size).map(row).collect();
    let sql = format!("{INSERT}{}{INSERT_ONCE}", places.join(", "));
    Statement::new(sql, rows.into_iter().flatten())
}

impl Service {
    /// Keeps what crews have used. Sending a record again changes nothing; all of a batch is
    /// kept, or nothing.
    ///
    /// # Errors
    /// A refusal unless the caller may, for each crew; [`ServiceError::MonthClosed`] with the
    /// records of months that take none any more, [`ServiceError::UsageConflict`] with those
    /// whose id another one has; an invalid value when a record is of a time ahead, or would be
    /// too much.
    pub async fn send_usage(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        records: Vec<UsageRecord>,
    ) -> Result<Found<UsageReceipt>, ServiceError> {
        let permission = Permission::SendUsage;
        let place = self
            .may_in_workspace(request, principal, workspace, permission, permission.name())
            .await?;
        let mut position = 0;
        for crew in records
            .iter()
            .map(|record| record.crew)
            .collect::<BTreeSet<_>>()
        {
            let at = (workspace, crew);
            let (_, found) = self
                .may_in_crew(request, principal, at, permission, permission.name())
                .await?;
            position = found.position;
        }
        let now = self.source().now();
        if let Some(place) = records
            .iter()
            .position(|record| record.at > now.plus(AHEAD_MAX))
        {
            return Err(ServiceError::InvalidValue {
                pointer: "/records",
                detail: format!("the time of record {place} is more than five minutes ahead"),
            });
        }
        self.are_open(workspace, &records).await?;
        self.would_fit(workspace, &records).await?;
        let accepted = self
            .insert_usage(workspace, place.organization, &records)
            .await?;
        let known = records.len() as u64 - accepted;
        if known > 0 {
            self.are_the_same(workspace, &records).await?;
        }
        let value = UsageReceipt { accepted, known };
        Ok(Found { position, value })
    }

    /// That the months of all records take records.
    async fn are_open(
        &self,
        workspace: WorkspaceId,
        records: &[UsageRecord],
    ) -> Result<(), ServiceError> {
        let now = self.source().now();
        let months: BTreeSet<Month> = records.iter().map(|record| Month::of(record.at)).collect();
        let (Some(first), Some(last)) = (months.first(), months.last()) else {
            return Ok(());
        };
        let parameters = vec![
            workspace.to_string().into(),
            first.to_string().into(),
            last.to_string().into(),
        ];
        let rows = self
            .journal
            .store()
            .query(CLOSED_MONTHS, parameters)
            .await?;
        let mut closed: BTreeSet<Month> = rows
            .iter()
            .map(|row| row.parsed(0))
            .collect::<Result<_, _>>()?;
        closed.extend(months.iter().filter(|month| month.closes_at() <= now));
        let places = records.iter().enumerate();
        let places: Vec<_> = places
            .filter(|(_, record)| closed.contains(&Month::of(record.at)))
            .map(|(place, record)| (place, Month::of(record.at)))
            .collect();
        match places.is_empty() {
            true => Ok(()),
            false => Err(ServiceError::MonthClosed { records: places }),
        }
    }

    /// That no meter comes to more than can be stated, and there are not too many.
    async fn would_fit(
        &self,
        workspace: WorkspaceId,
        records: &[UsageRecord],
    ) -> Result<(), ServiceError> {
        let mut months: BTreeMap<Month, BTreeMap<&str, u64>> = BTreeMap::new();
        for record in records {
            let meters = months.entry(Month::of(record.at)).or_default();
            *meters.entry(&record.meter).or_default() += record.quantity;
        }
        for (month, more) in months {
            let mut used = self.used_of(TOTALS, workspace, month).await?;
            for (meter, quantity) in more {
                let total = used.entry(meter.to_owned()).or_insert(UsedQuantity {
                    quantity: 0,
                    records: 0,
                });
                total.quantity = total.quantity.saturating_add(quantity);
            }
            let detail = if used.len() > METERS_MAX {
                format!("at most {METERS_MAX} meters of a workspace in a month")
            } else if used.values().any(|used| used.quantity > TOTAL_MAX) {
                format!("a meter comes to at most {TOTAL_MAX} in a month; use a larger unit")
            } else {
                continue;
            };
            return Err(ServiceError::InvalidValue {
                pointer: "/records",
                detail,
            });
        }
        Ok(())
    }

    async fn used_of(
        &self,
        sql: &str,
        workspace: WorkspaceId,
        month: Month,
    ) -> Result<BTreeMap<String, UsedQuantity>, ServiceError> {
        let parameters = vec![workspace.to_string().into(), month.to_string().into()];
        let rows = self.journal.store().query(sql, parameters).await?;
        let used = rows.iter().map(|row| {
            let used = UsedQuantity {
                quantity: row.count(1)?,
                records: row.count(2)?,
            };
            Ok((row.text(0)?.to_owned(), used))
        });
        used.collect()
    }

    async fn insert_usage(
        &self,
        workspace: WorkspaceId,
        organization: OrganizationId,
        records: &[UsageRecord],
    ) -> Result<u64, ServiceError> {
        let id = workspace.to_string();
        let months: BTreeSet<Month> = records.iter().map(|record| Month::of(record.at)).collect();
        // In one order for everybody, so that no two wait for each other.
        let mut statements: Vec<_> = months
            .into_iter()
            .map(|month| {
                let parameters = [
                    id.clone().into(),
                    month.to_string().into(),
                    organization.to_string().into(),
                    month.closes_at().0.into(),
                ];
                Statement::new(OPEN_MONTH, parameters)
            })
            .collect();
        let rows = records.iter().map(|record| {
            [
                id.clone().into(),
                record.id.clone().into(),
                Month::of(record.at).to_string().into(),
                record.crew.to_string().into(),
                record.meter.clone().into(),
                record.quantity.into(),
                record.at.0.into(),
            ]
        });
        statements.push(insertion(rows.collect()));
        match self.journal.store().execute(statements).await {
            Ok(touched) => Ok(touched.last().copied().unwrap_or(0)),
            Err(error) => {
                // The store refuses records of a month that was closed meanwhile.
                self.are_open(workspace, records).await?;
                Err(error.into())
            }
        }
    }

    /// That the records which were there already say the same.
    async fn are_the_same(
        &self,
        workspace: WorkspaceId,
        records: &[UsageRecord],
    ) -> Result<(), ServiceError> {
        let ids: Vec<_> = records.iter().map(|record| record.id.clone()).collect();
        let (placeholders, mut parameters) = stores::padded(&ids, 2);
        parameters.insert(0, workspace.to_string().into());
        let sql = format!(
            "SELECT id, crew, meter, quantity, at
               FROM usage_records
              WHERE workspace = $1 AND id IN ({placeholders})"
        );
        let rows = self.journal.store().query(&sql, parameters).await?;
        let mut kept = BTreeMap::new();
        for row in &rows {
            let record = UsageRecord {
                id: row.text(0)?.to_owned(),
                crew: row.parsed(1)?,
                meter: row.text(2)?.to_owned(),
                quantity: row.count(3)?,
                at: Timestamp(row.integer(4)?),
            };
            kept.insert(record.id.clone(), record);
        }
        let differs =
            |record: &UsageRecord| kept.get(&record.id).is_some_and(|kept| kept != record);
        let places = records.iter().enumerate();
        let places: Vec<_> = places
            .filter(|(_, record)| differs(record))
            .map(|(place, _)| place)
            .collect();
        match places.is_empty() {
            true => Ok(()),
            false => Err(ServiceError::UsageConflict { records: places }),
        }
    }

    /// What a workspace used in a month.
    ///
    /// # Errors
    /// A refusal unless the caller owns it.
    pub async fn usage(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        month: Option<Month>,
    ) -> Result<Found<WorkspaceUsage>, ServiceError> {
        let permission = Permission::SeeUsage;
        self.may_in_workspace(request, principal, workspace, permission, permission.name())
            .await?;
        let month = month.unwrap_or_else(|| Month::of(self.source().now()));
        let found = self
            .statements()
            .get(&Statements::key(&workspace, month))
            .await?;
        let closed = found.value.is_some();
        let statement = match found.value {
            Some(document) => document.statement,
            None => self.statement_of(TOTALS, workspace, month).await?,
        };
        let parameters = vec![
            workspace.to_string().into(),
            month.to_string().into(),
            "".into(),
            LINES_MAX.into(),
        ];
        let rows = self
            .journal
            .store()
            .query(TOTALS_OF_CREWS, parameters)
            .await?;
        let mut crews: Vec<CrewUsage> = Vec::new();
        for row in &rows {
            let crew = row.parsed(0)?;
            if crews.last().is_none_or(|last| last.crew != crew) {
                let meters = BTreeMap::new();
                crews.push(CrewUsage { crew, meters });
            }
            let used = UsedQuantity {
                quantity: row.count(2)?,
                records: row.count(3)?,
            };
            if let Some(last) = crews.last_mut() {
                last.meters.insert(row.text(1)?.to_owned(), used);
            }
        }
        let value = WorkspaceUsage {
            workspace,
            month,
            statement,
            closed,
            crews,
        };
        Ok(Found {
            position: found.position,
            value,
        })
    }

    /// What a month comes to by the prices of the present plan, from the sums or the records.
    async fn statement_of(
        &self,
        sql: &str,
        workspace: WorkspaceId,
        month: Month,
    ) -> Result<MonthStatement, ServiceError> {
        let used = self.used_of(sql, workspace, month).await?;
        let found = self.limit_documents().get(&workspace.to_string()).await?;
        let name = match found.value {
            Some(document) => document.plan,
            // A workspace that was deleted is charged as it was.
            None => {
                let stream = StreamRef::of::<Workspace>(workspace, workspace);
                self.journal
                    .read_at(&stream, found.position, |workspace: &Workspace| {
                        workspace.plan().cloned()
                    })
                    .await?
            }
        };
        let plan = self.catalogue().plan_of(name.as_ref());
        let price = |meter: &str| plan.and_then(|plan| plan.prices.get(meter)).cloned();
        let meters = used.into_iter().map(|(meter, used)| {
            let total = MeterTotal::at(used.quantity, used.records, price(&meter));
            (meter, total)
        });
        Ok(MonthStatement {
            month,
            meters: meters.collect(),
            plan: name,
        })
    }

    /// What the workspaces of an organization used in a month, a page of them at a time.
    ///
    /// # Errors
    /// A refusal unless the caller may see its usage.
    pub async fn organization_usage(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        organization: OrganizationId,
        month: Option<Month>,
        (after, limit): (Option<WorkspaceId>, u64),
    ) -> Result<Found<OrganizationUsage>, ServiceError> {
        let permission = OrganizationPermission::SeeUsage;
        self.may_in_organization(
            request,
            principal,
            organization,
            permission,
            permission.name(),
        )
        .await?;
        let store = self.journal.store();
        let position = stores::head(&**store).await?.position;
        let month = month.unwrap_or_else(|| Month::of(self.source().now()));
        let of: Vec<Value> = vec![organization.to_string().into(), month.to_string().into()];
        let mut meters = BTreeMap::new();
        for row in store.query(TOTALS_OF_ORGANIZATION, of.clone()).await? {
            let used = UsedQuantity {
                quantity: row.count(1)?,
                records: row.count(2)?,
            };
            meters.insert(row.text(0)?.to_owned(), used);
        }
        let mut amounts = BTreeMap::new();
        for row in store.query(AMOUNTS_OF_ORGANIZATION, of.clone()).await? {
            amounts.insert(row.text(0)?.to_owned(), row.count(1)?);
        }
        let after = after.map_or(String::new(), |after| after.to_string());
        let parameters = [of, vec![after.into(), (limit + 1).into()]].concat();
        let rows = store.query(WORKSPACES_OF_ORGANIZATION, parameters).await?;
        let mut workspaces: Vec<UsageOfWorkspace> = Vec::new();
        for row in &rows {
            let workspace = row.parsed(0)?;
            if workspaces
                .last()
                .is_none_or(|last| last.workspace != workspace)
            {
                workspaces.push(UsageOfWorkspace {
                    workspace,
                    closed: row.optional_integer(1)?.is_some(),
                    meters: BTreeMap::new(),
                });
            }
            let used = UsedQuantity {
                quantity: row.count(3)?,
                records: row.count(4)?,
            };
            if let Some(last) = workspaces.last_mut() {
                last.meters.insert(row.text(2)?.to_owned(), used);
            }
        }
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = workspaces.len() > most;
        workspaces.truncate(most);
        let value = OrganizationUsage {
            organization,
            month,
            meters,
            amounts,
            workspaces,
            more,
        };
        Ok(Found { position, value })
    }

    /// Closes the months whose time has come, so many in one look. Answers how many.
    pub(super) async fn close_due_months(&self) -> Result<u64, ServiceError> {
        let now = self.source().now();
        let sql = format!("{DUE_MONTHS}\n LIMIT {}", page_rows(CLOSED_AT_ONCE));
        let rows = self.journal.store().query(&sql, vec![now.0.into()]).await?;
        let mut closed = 0;
        for row in rows {
            let workspace: WorkspaceId = row.parsed(0)?;
            let (month, organization) = (row.parsed(1)?, row.parsed(2)?);
            self.close_month(workspace, organization, month, now)
                .await?;
            closed += 1;
        }
        Ok(closed)
    }

    async fn close_month(
        &self,
        workspace: WorkspaceId,
        organization: OrganizationId,
        month: Month,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let of: [Value; 2] = [workspace.to_string().into(), month.to_string().into()];
        let [id, name] = of.clone();
        let close = Statement::new(CLOSE_MONTH, [id, name, now.0.into()]);
        self.journal.store().execute(vec![close]).await?;
        // From here on it takes no records.
        let statement = self.statement_of(RECOMPUTE, workspace, month).await?;
        let sums = self.used_of(TOTALS, workspace, month).await?;
        let stated = statement.meters.iter().map(|(meter, total)| {
            let used = UsedQuantity {
                quantity: total.quantity,
                records: total.records,
            };
            (meter.clone(), used)
        });
        if stated.collect::<BTreeMap<_, _>>() != sums {
            return Err(ServiceError::Internal(format!(
                "the sums of {month} of {workspace} are not what its records come to"
            )));
        }
        self.state_month(workspace, organization, statement, now)
            .await
    }

    async fn state_month(
        &self,
        workspace: WorkspaceId,
        organization: OrganizationId,
        statement: MonthStatement,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let of = [
            Value::from(workspace.to_string()),
            Value::from(statement.month.to_string()),
        ];
        let mut beside = Vec::new();
        for (meter, total) in &statement.meters {
            if let Some(price) = &total.price {
                let [id, month] = of.clone();
                let amount = [
                    id,
                    month,
                    meter.clone().into(),
                    price.currency.clone().into(),
                    total.amount_minor.into(),
                ];
                beside.push(Statement::new(STATE_AMOUNT, amount));
            }
        }
        let [id, month] = of;
        beside.push(Statement::new(STATE_MONTH, [id, month, now.0.into()]));
        let stream = StreamRef::of::<Workspace>(workspace, workspace);
        let unit = Unit {
            lane: organization.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                let close = WorkspaceCommand::CloseMonth {
                    statement: statement.clone(),
                };
                desk.execute::<Workspace>(&stream, close, &[])?;
                beside
                    .iter()
                    .for_each(|statement| desk.write_beside(statement.clone()));
                Ok(Made::Nothing.outcome(0))
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }
}
