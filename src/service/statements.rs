//! Statements: what each month of a workspace's usage came to, once and for all.
//!
//! A month, in UTC, stays open for three days after its end. Then it is marked as closed, under
//! the row that every batch of its records holds: from then on it takes none. Due work reads the
//! records, adds them up and hashes them, compares that with the sums that the store has kept, and
//! has the workspace say it in one event, which it accepts once; killed between, or done by two,
//! it is done again and comes to the same. Of many records it reads some in each look, so that
//! whatever else is due waits for no month, and no month for a larger one. Prices are those of the
//! plan that the workspace was on when the month ended.
//!
//! A month whose records do not come to its sums is not closed: it stays due, and is told of in
//! the log of the program.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    Principal, Request, Service, ServiceError, usage::MonthSoFar, usage::record_in, write::Made,
};
use crate::{
    domain::{
        Refusal, Timestamp,
        authority::Permission,
        contents::Digest,
        ids::{OrganizationId, WorkspaceId},
        plans::PlanName,
        usage::{MeterTotal, Month, Recount, Statement as MonthStatement, TooMuch, UsedQuantity},
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{
        Origin, StreamRef, Unit,
        stores::{self, Statement, Store, StoreError, Value},
    },
    projections::{Documents, Found, Limits, Page, StatementDocument, Statements},
};

/// How many months are looked at in one look.
const CLOSED_AT_ONCE: u64 = 64;
/// How many times records are read in one look, and how many of those are of one month that was not
/// looked at before.
const READS_AT_ONCE: usize = 32;
const READS_AT_FIRST: usize = 8;
/// How many records are read at once.
const COUNTED_AT_ONCE: u64 = 8_192;

pub(super) const DUE_MONTHS: &str = "
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

/// The records of a month in order of their ids.
pub(super) const RECORDS: &str = "
SELECT id, crew, meter, quantity, at
  FROM usage_records
 WHERE workspace = $1 AND month = $2 AND id > $3
 ORDER BY id";

impl From<TooMuch> for ServiceError {
    fn from(error: TooMuch) -> Self {
        Self::Internal(format!("a month cannot be stated: {error}"))
    }
}

/// Why records could not be counted.
#[derive(Debug, thiserror::Error)]
pub(super) enum CountError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
}

impl From<CountError> for ServiceError {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Store(error) => error.into(),
            CountError::TooMuch(error) => error.into(),
        }
    }
}

/// A month of a workspace.
pub(super) type WorkspaceMonth = (WorkspaceId, Month);

/// The records of a month while they are counted, some at a time. They must be of a closed month:
/// one that comes in behind where this has got to is not counted.
#[derive(Debug)]
pub(super) struct Counting {
    of: WorkspaceMonth,
    recount: Recount,
    last: String,
}

impl Counting {
    pub(super) fn of(workspace: WorkspaceId, month: Month) -> Self {
        Self {
            of: (workspace, month),
            recount: Recount::default(),
            last: String::new(),
        }
    }

    /// Counts some more; whether those were the last.
    pub(super) async fn step(&mut self, store: &dyn Store) -> Result<bool, CountError> {
        let sql = format!("{RECORDS}\n LIMIT {COUNTED_AT_ONCE}");
        let (workspace, month) = self.of;
        let parameters = [workspace.to_string(), month.to_string(), self.last.clone()];
        let rows = store
            .query(&sql, parameters.map(Value::from).to_vec())
            .await?;
        for row in &rows {
            self.recount.count(&record_in(row)?)?;
        }
        match rows.last() {
            Some(row) if rows.len() as u64 == COUNTED_AT_ONCE => {
                row.text(0)?.clone_into(&mut self.last);
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// What they come to, and their digest.
    pub(super) fn finish(self) -> (BTreeMap<String, UsedQuantity>, Digest) {
        self.recount.finish()
    }

    /// Both, of all records at once.
    pub(super) async fn all(
        mut self,
        store: &dyn Store,
    ) -> Result<(BTreeMap<String, UsedQuantity>, Digest), CountError> {
        while !self.step(store).await? {}
        Ok(self.finish())
    }
}

/// The months of which some records have been counted, so many at most as are looked at.
#[derive(Debug, Default)]
pub(super) struct Countings(Mutex<HashMap<WorkspaceMonth, Counting>>);

impl Countings {
    fn begun(&self) -> MutexGuard<'_, HashMap<WorkspaceMonth, Counting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the records of a month come to, and their digest.
///
/// # Errors
/// When the store cannot be read, or they are more than can be stated.
pub async fn recount(
    store: &dyn Store,
    workspace: WorkspaceId,
    month: Month,
) -> Result<(BTreeMap<String, UsedQuantity>, Digest), ServiceError> {
    Ok(Counting::of(workspace, month).all(store).await?)
}

impl Service {
    /// The statements of a workspace, newest month first.
    ///
    /// # Errors
    /// A refusal unless the caller owns it.
    pub async fn statements_of(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        (before, limit): (Option<Month>, u64),
    ) -> Result<Page<StatementDocument>, ServiceError> {
        let permission = Permission::SeeUsage;
        let place = self
            .may_in_workspace(request, principal, workspace, permission, permission.name())
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let before = before.map(|month| Statements::key(&workspace, month));
        let documents = state.documents::<Statements>();
        let page = documents
            .page_of_parent_reversed(&workspace.to_string(), before.as_deref(), limit)
            .await?;
        Ok(page)
    }

    /// The statement of one month.
    ///
    /// # Errors
    /// A refusal unless the caller owns the workspace, or where the month has none.
    pub async fn statement_of(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        month: Month,
    ) -> Result<Found<StatementDocument>, ServiceError> {
        let permission = Permission::SeeUsage;
        let place = self
            .may_in_workspace(request, principal, workspace, permission, permission.name())
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let key = Statements::key(&workspace, month);
        let found = state.documents::<Statements>().get(&key).await?;
        let value = found.value.ok_or(Refusal::NotFound {
            what: "statement",
            hidden: false,
        })?;
        Ok(Found {
            position: found.position,
            value,
        })
    }

    /// What a month comes to by the sums of its records, at the prices that it would be charged
    /// by now.
    pub(super) async fn month_so_far(
        &self,
        workspace: WorkspaceId,
        month: Month,
    ) -> Result<MonthSoFar, ServiceError> {
        let used = self.used_of(workspace, month).await?;
        let plan = self.plan_of_month(workspace, month).await?;
        let meters = self.priced(plan.as_ref(), used)?;
        Ok(MonthSoFar { plan, meters })
    }

    /// What was used, at the prices of a plan.
    fn priced(
        &self,
        plan: Option<&PlanName>,
        used: BTreeMap<String, UsedQuantity>,
    ) -> Result<BTreeMap<String, MeterTotal>, TooMuch> {
        let plan = self.catalogue().plan_of(plan);
        let price = |meter: &str| plan.and_then(|plan| plan.prices.get(meter)).cloned();
        let meters = used.into_iter().map(|(meter, used)| {
            let total = MeterTotal::at(used, price(&meter))?;
            Ok((meter, total))
        });
        meters.collect()
    }

    /// The plan that a workspace was on when a month ended, or is on while it has not.
    async fn plan_of_month(
        &self,
        workspace: WorkspaceId,
        month: Month,
    ) -> Result<Option<PlanName>, ServiceError> {
        let (store, id) = (self.journal.store(), workspace.to_string());
        let limits = self.limit_documents();
        let then = if month.end() > self.source().now() {
            limits.get(&id).await?.value
        } else {
            let last = Timestamp(month.end().0 - 1);
            let position = stores::last_position_at(&**store, last).await?;
            Documents::<Limits>::as_of::<Workspace>(&**store, &id, &id, position).await?
        };
        if let Some(then) = then {
            return Ok(then.plan);
        }
        // It was deleted before the month ended, or made after: its last plan, or its first.
        let head = stores::head(&**store).await?.position;
        let stream = StreamRef::of::<Workspace>(workspace, workspace);
        let plan = |workspace: &Workspace| workspace.plan().cloned();
        Ok(self.journal.read_at(&stream, head, plan).await?)
    }

    /// Closes the months whose time has come, so many in one look. Answers how many.
    pub(super) async fn close_due_months(&self) -> Result<u64, ServiceError> {
        let now = self.source().now();
        let sql = format!("{DUE_MONTHS}\n LIMIT {CLOSED_AT_ONCE}");
        let rows = self.journal.store().query(&sql, vec![now.0.into()]).await?;
        let mut due: Vec<(WorkspaceMonth, OrganizationId)> = Vec::with_capacity(rows.len());
        for row in rows {
            due.push(((row.parsed(0)?, row.parsed(1)?), row.parsed(2)?));
        }
        self.forget_countings_but(&due);
        // What has begun is large, and waits for what has not.
        due.sort_by_key(|(month, _)| self.countings.begun().contains_key(month));
        let (mut closed, mut reads) = (0, READS_AT_ONCE);
        for (of, organization) in due {
            // One that cannot be closed keeps no other from being; it stays due.
            match self.count_some_of(of, now, &mut reads).await {
                Ok(None) => {}
                Ok(Some(counted)) => match self.close_month(of, organization, counted, now).await {
                    Ok(()) => closed += 1,
                    Err(error) => not_closed(of, &error),
                },
                Err(error) => not_closed(of, &error),
            }
        }
        Ok(closed)
    }

    /// Another process may have closed some.
    fn forget_countings_but(&self, due: &[(WorkspaceMonth, OrganizationId)]) {
        let due: HashSet<_> = due.iter().map(|(of, _)| *of).collect();
        self.countings.begun().retain(|of, _| due.contains(of));
    }

    /// Goes on with a month, for as many reads as are left; what it comes to, where that was the
    /// last of it.
    async fn count_some_of(
        &self,
        (workspace, month): WorkspaceMonth,
        now: Timestamp,
        reads: &mut usize,
    ) -> Result<Option<Counting>, ServiceError> {
        let store = self.journal.store();
        let begun = self.countings.begun().remove(&(workspace, month));
        let (mut counting, most) = match begun {
            Some(counting) => (counting, *reads),
            None => {
                let of = [workspace.to_string(), month.to_string()].map(Value::from);
                let close = of.into_iter().chain([now.0.into()]);
                let close = Statement::new(CLOSE_MONTH, close);
                store.execute(vec![close]).await?;
                // From here on it takes no records.
                (Counting::of(workspace, month), READS_AT_FIRST.min(*reads))
            }
        };
        for _ in 0..most {
            *reads -= 1;
            if counting.step(&**store).await? {
                return Ok(Some(counting));
            }
        }
        self.countings.begun().insert((workspace, month), counting);
        Ok(None)
    }

    async fn close_month(
        &self,
        (workspace, month): WorkspaceMonth,
        organization: OrganizationId,
        counted: Counting,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let (used, records_digest) = counted.finish();
        if used != self.used_of(workspace, month).await? {
            return Err(ServiceError::Internal(format!(
                "the sums of {month} of {workspace} are not what its records come to"
            )));
        }
        let plan = self.plan_of_month(workspace, month).await?;
        let statement = MonthStatement {
            month,
            meters: self.priced(plan.as_ref(), used)?,
            plan,
            records_digest,
        };
        self.state_month(workspace, organization, statement, now)
            .await
    }

    /// Has the workspace say it, and in the same transaction what is kept of it beside the log.
    async fn state_month(
        &self,
        workspace: WorkspaceId,
        organization: OrganizationId,
        statement: MonthStatement,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let beside = stated(workspace, &statement, now);
        let stream = StreamRef::of::<Workspace>(workspace, workspace);
        let unit = Unit {
            lane: organization.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                // Another process may have said it, at the prices of another catalogue.
                if !desk.read::<Workspace>(&stream).has_closed(statement.month) {
                    let statement = statement.clone();
                    let close = WorkspaceCommand::CloseMonth { statement };
                    desk.execute::<Workspace>(&stream, close, &[])?;
                    beside
                        .iter()
                        .for_each(|statement| desk.write_beside(statement.clone()));
                }
                Ok(Made::Nothing.outcome(0))
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }
}

fn not_closed((workspace, month): WorkspaceMonth, error: &ServiceError) {
    tracing::warn!(%error, %workspace, %month, "a month was not closed in time");
}

/// What is kept of a statement beside the log.
fn stated(workspace: WorkspaceId, statement: &MonthStatement, now: Timestamp) -> Vec<Statement> {
    let of = || [workspace.to_string(), statement.month.to_string()].map(Value::from);
    let amount = |(meter, total): (&String, &MeterTotal)| {
        let price = total.price.as_ref()?;
        let amount: [Value; 3] = [
            meter.as_str().into(),
            price.currency.as_str().into(),
            total.amount_minor.into(),
        ];
        Some(Statement::new(STATE_AMOUNT, of().into_iter().chain(amount)))
    };
    let month = of().into_iter().chain([now.0.into()]);
    let mut beside: Vec<_> = statement.meters.iter().filter_map(amount).collect();
    beside.push(Statement::new(STATE_MONTH, month));
    beside
}
