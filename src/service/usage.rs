//! Usage: how much a workspace's crews have used of each meter.
//!
//! Records are kept beside the log, each once by its id, and never changed. Sums of them, of each
//! crew and of the workspace, are kept by triggers of the store in the statement that adds a
//! record, so that they are never anything else than what the records come to, and are read
//! without reading those. Rules that others could break meanwhile are the store's too: a closed
//! month takes no record, an id keeps what it said first, no meter comes to more than can be
//! stated. A batch is written, all or nothing; only where it was refused, or is late, is it looked
//! at for why.
//!
//! What becomes of a month when it ends: [`super::statements`].

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Principal, Request, Service, ServiceError, Written,
    crews::reaches,
    statements,
    workspaces::Place,
    write::{Made, Sender},
};
use crate::{
    domain::{
        Timestamp,
        authority::{OrganizationPermission, Permission},
        ids::{CrewId, OrganizationId, WorkspaceId},
        plans::PlanName,
        usage::{
            METERS_MAX, MeterTotal, Month, Statement as MonthStatement, TOTAL_MAX, UsageRecord,
            UsedQuantity,
        },
    },
    journal::stores::{self, Row, Statement, Value},
    projections::{Found, Statements},
};

/// The most records of one batch.
pub const USAGE_RECORDS_MAX: usize = 500;
/// How far ahead of this process's clock a record may be.
const AHEAD_MAX: chrono::TimeDelta = chrono::TimeDelta::minutes(5);
/// How many lines of crew and meter are told of a month.
const LINES_MAX: u64 = 10_000;

/// Whoever adds records of a month holds its row until they are written.
const OPEN_MONTH: &str = "
INSERT INTO usage_months (workspace, month, organization, closes_at)
VALUES ($1, $2, $3, $4)
    ON CONFLICT (workspace, month) DO UPDATE
   SET closes_at = usage_months.closes_at";

/// How many values stand for one record; see [`insertion`].
const COLUMNS: usize = 6;
const INSERT: &str = "
INSERT INTO usage_records (workspace, id, month, crew, meter, quantity, at)
SELECT $1, column1, column2, column3, column4, column5, column6
  FROM (VALUES ";
/// A row without an id is none. An id that says something else now is an attempt to change what
/// it said, which the store refuses.
const INSERT_ONCE: &str = ") AS sent
 WHERE column1 <> ''
    ON CONFLICT (workspace, id) DO UPDATE
   SET quantity = excluded.quantity
 WHERE usage_records.crew <> excluded.crew
    OR usage_records.meter <> excluded.meter
    OR usage_records.quantity <> excluded.quantity
    OR usage_records.at <> excluded.at";

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

/// What became of a batch; together they are all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReceipt {
    /// New here.
    pub accepted: u64,
    /// There already, by their ids.
    pub known: u64,
}

/// What a month has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthSoFar {
    pub plan: Option<PlanName>,
    pub meters: BTreeMap<String, MeterTotal>,
}

impl MonthSoFar {
    fn of(statement: MonthStatement) -> Self {
        Self {
            plan: statement.plan,
            meters: statement.meters,
        }
    }
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
    /// What it comes to: by its statement, or by the prices that it would be charged by now.
    pub sums: MonthSoFar,
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

/// What is asked of the store about usage, by name, with parameters of the right kinds: for whoever
/// looks at how it is answered, and how fast.
pub fn usage_reads() -> [(&'static str, String, Vec<Value>); 6] {
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| Value::from(*text))
            .collect::<Vec<_>>()
    };
    let paged = |of: [&str; 3]| [texts(&of), vec![200_i64.into()]].concat();
    let (one, all) = (["ws_one", "2026-01"], ["org_1", "2026-01"]);
    let crews = paged([one[0], one[1], ""]);
    let workspaces = paged([all[0], all[1], ""]);
    [
        ("sums of a workspace", TOTALS.to_owned(), texts(&one)),
        ("sums of its crews", TOTALS_OF_CREWS.to_owned(), crews),
        (
            "sums of an organization",
            TOTALS_OF_ORGANIZATION.to_owned(),
            texts(&all),
        ),
        (
            "its workspaces",
            WORKSPACES_OF_ORGANIZATION.to_owned(),
            workspaces,
        ),
        (
            "records of a month",
            format!("{}\n LIMIT 8192", statements::RECORDS),
            texts(&[one[0], one[1], "r5"]),
        ),
        (
            "months that are due",
            format!("{}\n LIMIT 64", statements::DUE_MONTHS),
            vec![1_i64.into()],
        ),
    ]
}

/// Inserts records in order of their ids, so that no two batches wait for each other. Rows without
/// an id fill it up to a power of two, so that few different statements are prepared.
fn insertion(workspace: WorkspaceId, mut records: Vec<&UsageRecord>) -> Statement {
    records.sort_by(|one, other| one.id.cmp(&other.id));
    let size = records.len().next_power_of_two();
    let mut parameters: Vec<Value> = Vec::with_capacity(size * COLUMNS + 1);
    parameters.push(workspace.to_string().into());
    for record in &records {
        parameters.extend([
            record.id.as_str().into(),
            Month::of(record.at).to_string().into(),
            record.crew.to_string().into(),
            record.meter.as_str().into(),
            record.quantity.into(),
            record.at.0.into(),
        ]);
    }
    for _ in records.len()..size {
        let [text, number] = [Value::from(""), Value::from(0_i64)];
        let texts = std::iter::repeat_n(text, 4);
        parameters.extend(texts.chain(std::iter::repeat_n(number, 2)));
    }
    let row = |at: usize| {
        let first = at * COLUMNS + 2;
        let columns: Vec<_> = (first..first + COLUMNS)
            .map(|number| format!("${number}"))
            .collect();
        format!("({})", columns.join(", "))
    };
    let rows: Vec<_> = (0..size).map(row).collect();
    Statement::new(
        format!("{INSERT}{}{INSERT_ONCE}", rows.join(", ")),
        parameters,
    )
}

/// What was used, from a row of it that begins at a column.
fn used_in(row: &Row, column: usize) -> Result<UsedQuantity, stores::StoreError> {
    Ok(UsedQuantity {
        quantity: row.count(column)?,
        records: row.count(column + 1)?,
    })
}

/// A record, from a row with its id first.
pub(super) fn record_in(row: &Row) -> Result<UsageRecord, stores::StoreError> {
    Ok(UsageRecord {
        id: row.text(0)?.to_owned(),
        crew: row.parsed(1)?,
        meter: row.text(2)?.to_owned(),
        quantity: row.count(3)?,
        at: Timestamp(row.integer(4)?),
    })
}

/// Records with their places in the batch.
type Placed<'a> = Vec<(usize, &'a UsageRecord)>;

impl Service {
    /// Keeps what crews have used. Sending a record again changes nothing, whatever has become of
    /// its month; all of a batch is kept, or nothing.
    ///
    /// # Errors
    /// A refusal unless the caller may, for each crew; [`ServiceError::MonthClosed`] with the
    /// records of months that take none any more, [`ServiceError::UsageConflict`] with those
    /// whose id another one has; an invalid value when there is no record, or one is of a time
    /// ahead, or would be too much.
    pub async fn send_usage(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        records: Vec<UsageRecord>,
    ) -> Result<Written<UsageReceipt>, ServiceError> {
        let permission = Permission::SendUsage;
        let place = self
            .may_in_workspace(request, principal, workspace, permission, permission.name())
            .await?;
        let position = self
            .may_send_of(request, principal, workspace, &records)
            .await?;
        let aim = place.aim(permission.name(), workspace);
        self.writes_beside(request, principal, &aim).await?;
        let work = async {
            let UsageReceipt { accepted, known } =
                self.keep_usage(place, workspace, &records).await?;
            Ok((position, Made::Usage { accepted, known }))
        };
        let sender = Sender::of(principal);
        let receipt = self.once_beside(&sender, request, work).await?;
        let Made::Usage { accepted, known } = receipt.made else {
            let words = "the kept answer is no receipt".to_owned();
            return Err(ServiceError::Internal(words));
        };
        Ok(Written::of(&receipt, UsageReceipt { accepted, known }))
    }

    /// That the caller may send what these crews have used. Answers where the log was then.
    async fn may_send_of(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        records: &[UsageRecord],
    ) -> Result<u64, ServiceError> {
        let permission = Permission::SendUsage;
        let mut crews: BTreeSet<CrewId> = records.iter().map(|record| record.crew).collect();
        let first = crews
            .pop_first()
            .ok_or_else(|| ServiceError::InvalidValue {
                pointer: "/records",
                detail: "at least one".to_owned(),
            })?;
        let may = async |crew: CrewId| {
            let at = (workspace, crew);
            self.may_in_crew(request, principal, at, permission, permission.name())
                .await
        };
        let (_, found) = may(first).await?;
        let keys: Vec<_> = crews.iter().map(CrewId::to_string).collect();
        for (_, document) in self.crews().get_many(&keys).await? {
            if document.workspace == workspace && reaches(principal, document.place) {
                crews.remove(&document.place.id);
            }
        }
        // What is left of them is refused, as any crew is.
        for crew in crews {
            may(crew).await?;
        }
        Ok(found.position)
    }

    async fn keep_usage(
        &self,
        place: Place,
        workspace: WorkspaceId,
        records: &[UsageRecord],
    ) -> Result<UsageReceipt, ServiceError> {
        let now = self.source().now();
        let ahead = now.plus(AHEAD_MAX);
        if let Some(place) = records.iter().position(|record| record.at > ahead) {
            return Err(ServiceError::InvalidValue {
                pointer: "/records",
                detail: format!("the time of record {place} is more than five minutes ahead"),
            });
        }
        let sent = records.len() as u64;
        let is_late = |record: &UsageRecord| Month::of(record.at).closes_at() <= now;
        let mut new: Placed<'_> = records.iter().enumerate().collect();
        let mut refused = None;
        // What the store has refused is looked at for why; where nothing is found, what others
        // wrote meanwhile was in the way, and it is sent once more.
        for _ in 0..2 {
            if refused.is_some() || records.iter().any(is_late) {
                new = self.unknown(workspace, new).await?;
                self.are_open(workspace, &new).await?;
                self.would_fit(workspace, &new).await?;
            }
            if new.is_empty() {
                break;
            }
            match self.insert_usage(place, workspace, &new).await {
                Ok(accepted) => {
                    return Ok(UsageReceipt {
                        accepted,
                        known: sent - accepted,
                    });
                }
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if !new.is_empty() => Err(error.into()),
            _ => Ok(UsageReceipt {
                accepted: 0,
                known: sent,
            }),
        }
    }

    /// Those that are not there yet; the others must say what they said first.
    async fn unknown<'a>(
        &self,
        workspace: WorkspaceId,
        records: Placed<'a>,
    ) -> Result<Placed<'a>, ServiceError> {
        if records.is_empty() {
            return Ok(records);
        }
        let ids: Vec<_> = records
            .iter()
            .map(|(_, record)| record.id.clone())
            .collect();
        let (placeholders, mut parameters) = stores::padded(&ids, 2);
        parameters.insert(0, workspace.to_string().into());
        let sql = format!(
            "SELECT id, crew, meter, quantity, at
               FROM usage_records
              WHERE workspace = $1 AND id IN ({placeholders})"
        );
        let mut kept = BTreeMap::new();
        for row in &self.journal.store().query(&sql, parameters).await? {
            let record = record_in(row)?;
            kept.insert(record.id.clone(), record);
        }
        let differs =
            |record: &UsageRecord| kept.get(&record.id).is_some_and(|kept| kept != record);
        let other = records.iter().filter(|(_, record)| differs(record));
        let other: Vec<_> = other.map(|(place, _)| *place).collect();
        if !other.is_empty() {
            return Err(ServiceError::UsageConflict { records: other });
        }
        let new = records.into_iter();
        Ok(new
            .filter(|(_, record)| !kept.contains_key(&record.id))
            .collect())
    }

    /// That the months of all records take records.
    async fn are_open(
        &self,
        workspace: WorkspaceId,
        records: &[(usize, &UsageRecord)],
    ) -> Result<(), ServiceError> {
        let now = self.source().now();
        let months: BTreeSet<Month> = records
            .iter()
            .map(|(_, record)| Month::of(record.at))
            .collect();
        let (Some(first), Some(last)) = (months.first(), months.last()) else {
            return Ok(());
        };
        let parameters = [workspace.to_string(), first.to_string(), last.to_string()];
        let parameters = parameters.map(Value::from).to_vec();
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
        let late = records
            .iter()
            .map(|(place, record)| (*place, Month::of(record.at)));
        let late: Vec<_> = late.filter(|(_, month)| closed.contains(month)).collect();
        match late.is_empty() {
            true => Ok(()),
            false => Err(ServiceError::MonthClosed { records: late }),
        }
    }

    /// That no meter comes to more than can be stated, and there are not too many.
    async fn would_fit(
        &self,
        workspace: WorkspaceId,
        records: &[(usize, &UsageRecord)],
    ) -> Result<(), ServiceError> {
        let mut months: BTreeMap<Month, BTreeMap<&str, u64>> = BTreeMap::new();
        for (_, record) in records {
            let meters = months.entry(Month::of(record.at)).or_default();
            *meters.entry(&record.meter).or_default() += record.quantity;
        }
        for (month, more) in months {
            let mut used = self.used_of(workspace, month).await?;
            for (meter, quantity) in more {
                used.entry(meter.to_owned()).or_default().quantity += quantity;
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

    async fn insert_usage(
        &self,
        place: Place,
        workspace: WorkspaceId,
        records: &[(usize, &UsageRecord)],
    ) -> Result<u64, stores::StoreError> {
        let months: BTreeSet<Month> = records
            .iter()
            .map(|(_, record)| Month::of(record.at))
            .collect();
        // In one order for everybody, so that no two wait for each other.
        let open = |month: Month| {
            let parameters: [Value; 4] = [
                workspace.to_string().into(),
                month.to_string().into(),
                place.organization.to_string().into(),
                month.closes_at().0.into(),
            ];
            Statement::new(OPEN_MONTH, parameters)
        };
        let mut statements: Vec<_> = months.into_iter().map(open).collect();
        let records = records.iter().map(|(_, record)| *record);
        statements.push(insertion(workspace, records.collect()));
        let touched = self.journal.store().execute(statements).await?;
        Ok(touched.last().copied().unwrap_or(0))
    }

    /// What a workspace has used of each meter in a month.
    pub(super) async fn used_of(
        &self,
        workspace: WorkspaceId,
        month: Month,
    ) -> Result<BTreeMap<String, UsedQuantity>, ServiceError> {
        let parameters = vec![workspace.to_string().into(), month.to_string().into()];
        let rows = self.journal.store().query(TOTALS, parameters).await?;
        let used = rows
            .iter()
            .map(|row| Ok((row.text(0)?.to_owned(), used_in(row, 1)?)));
        used.collect()
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
        let key = Statements::key(&workspace, month);
        let found = self.statement_documents().get(&key).await?;
        let closed = found.value.is_some();
        let sums = match found.value {
            Some(document) => MonthSoFar::of(document.statement),
            None => self.month_so_far(workspace, month).await?,
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
            let used = used_in(row, 2)?;
            if let Some(last) = crews.last_mut() {
                last.meters.insert(row.text(1)?.to_owned(), used);
            }
        }
        let value = WorkspaceUsage {
            workspace,
            month,
            sums,
            closed,
            crews,
        };
        Ok(Found {
            position: found.position,
            value,
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
            meters.insert(row.text(0)?.to_owned(), used_in(&row, 1)?);
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
            let used = used_in(row, 3)?;
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
}
