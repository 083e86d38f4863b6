//! How fast a workspace may be asked: so many requests a minute, of everybody in it together.
//!
//! The rate is a generic cell: a sixteenth of a minute's worth can be used at once, and then
//! requests come at the rate itself. Of an embedded store, which one process serves, the cell is
//! in memory (`governor`). On PostgreSQL, which several serve, it is one row for each workspace
//! that is asked, and a process takes a hundredth of a minute's worth out of it at a time: what
//! it has taken it spends from memory, so that most requests ask nobody. Whatever the processes,
//! they admit no more in any minute than the limit, a sixteenth, and what each has taken and not
//! spent: three of them 1.1 times the limit at most, from 60 a minute on. See decision 22. A
//! replica, which cannot write the row, counts by itself what it is asked.
//!
//! Only who is in a workspace spends of its rate: a stranger cannot use it up. What is not known,
//! such as the plan while the store cannot be read, holds nobody up.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};
use lru::LruCache;

use super::{Principal, Service, ServiceError};
use crate::{
    domain::{
        ids::{UserId, WorkspaceId},
        plans::Quotas,
    },
    journal::stores::{Statement, Store, StoreError, StoreKind},
};

const MINUTE: Duration = Duration::from_secs(60);
/// Workspaces whose cells are remembered; one that is forgotten begins anew.
const CELLS_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();
/// Members of one workspace that are remembered.
const MEMBERS_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();
/// How long it is believed which limit a workspace has, and who is in it.
const BELIEVED_FOR: Duration = Duration::from_secs(5);

/// Takes so many out of the cell of a workspace, by the clock of the database. `$3` and `$4` are
/// the microseconds that they cost, and that may be spent ahead.
const TAKE: &str = "
INSERT INTO request_rates (workspace, spent_until)
VALUES ($1, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) + $2)
    ON CONFLICT (workspace) DO UPDATE
   SET spent_until = GREATEST(request_rates.spent_until,
           CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)) + $2
 WHERE GREATEST(request_rates.spent_until,
           CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)) + $2
       <= CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) + $3";

const SPENT: &str = "
SELECT spent_until - CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)
  FROM request_rates
 WHERE workspace = $1";

/// Cells that nobody has spent of for a while are full again, and need no row.
const FORGET: &str = "
DELETE FROM request_rates
 WHERE spent_until < CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// What a request was told of the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Whether it is admitted.
    pub admitted: bool,
    /// Requests a minute.
    pub limit: u64,
    /// How many more would be admitted at once.
    pub remaining: u64,
    /// How long until as many as can be are admitted at once again; of one that is not
    /// admitted, until the next is.
    pub reset: Duration,
}

/// A limit as the cell counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    a_minute: NonZeroU32,
}

impl Rate {
    /// None where nothing is limited, or by so much that counting is no use.
    fn of(allowed: Quotas) -> Option<Self> {
        let limit = u32::try_from(allowed.requests_per_minute?).ok()?;
        let a_minute = NonZeroU32::new(limit)?;
        (limit <= 60_000_000).then_some(Self { a_minute })
    }

    /// How many are admitted at once.
    fn at_once(self) -> NonZeroU32 {
        NonZeroU32::new(self.a_minute.get() / 16).unwrap_or(NonZeroU32::MIN)
    }

    /// How many a process takes at a time.
    fn taken(self) -> NonZeroU32 {
        NonZeroU32::new(self.a_minute.get() / 100).unwrap_or(NonZeroU32::MIN)
    }

    /// What one costs, in time.
    fn interval_us(self) -> i64 {
        60_000_000_i64.div_euclid(self.a_minute.get().into()).max(1)
    }

    fn interval(self) -> Duration {
        MINUTE / self.a_minute.get()
    }

    fn quota(self) -> Quota {
        Quota::per_minute(self.a_minute).allow_burst(self.at_once())
    }

    fn pace(self, admitted: bool, remaining: u64, reset: Duration) -> Pace {
        Pace {
            admitted,
            limit: self.a_minute.get().into(),
            remaining,
            reset,
        }
    }

    /// Admitted, with so many left.
    fn admits(self, remaining: u64) -> Pace {
        let at_once = u64::from(self.at_once().get());
        let spent = at_once.saturating_sub(remaining);
        let reset = self.interval() * u32::try_from(spent).unwrap_or(u32::MAX);
        self.pace(true, remaining, reset)
    }
}

type InMemory = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// What has been taken out of a workspace's row.
#[derive(Debug, Default)]
struct Taken {
    left: u64,
    /// What the row still had when this was taken.
    in_row: u64,
    refused_until: Option<Instant>,
}

#[derive(Debug)]
enum Cell {
    Own(Box<InMemory>),
    Shared(tokio::sync::Mutex<Taken>),
}

/// One workspace.
#[derive(Debug)]
struct Asked {
    rate: Option<Rate>,
    cell: Cell,
    believed_until: Mutex<Instant>,
    members: Mutex<LruCache<UserId, (bool, Instant)>>,
}

impl Asked {
    fn new(rate: Option<Rate>, is_shared: bool) -> Self {
        let quota = rate.map_or_else(|| Quota::per_minute(NonZeroU32::MAX), Rate::quota);
        let cell = match is_shared {
            false => {
                let limiter = RateLimiter::direct(quota);
                Cell::Own(Box::new(
                    limiter.with_middleware::<StateInformationMiddleware>(),
                ))
            }
            true => Cell::Shared(tokio::sync::Mutex::default()),
        };
        Self {
            rate,
            cell,
            believed_until: Mutex::new(Instant::now() + BELIEVED_FOR),
            members: Mutex::new(LruCache::new(MEMBERS_IN_MEMORY)),
        }
    }

    async fn spend(
        &self,
        store: &dyn Store,
        workspace: WorkspaceId,
    ) -> Result<Option<Pace>, StoreError> {
        let Some(rate) = self.rate else {
            return Ok(None);
        };
        let pace = match &self.cell {
            Cell::Own(limiter) => match limiter.check() {
                Ok(state) => rate.admits(state.remaining_burst_capacity().into()),
                Err(refused) => {
                    let wait = refused.wait_time_from(DefaultClock::default().now());
                    rate.pace(false, 0, wait)
                }
            },
            Cell::Shared(taken) => {
                let mut taken = taken.lock().await;
                taken.spend(store, workspace, rate).await?
            }
        };
        Ok(Some(pace))
    }
}

impl Taken {
    async fn spend(
        &mut self,
        store: &dyn Store,
        workspace: WorkspaceId,
        rate: Rate,
    ) -> Result<Pace, StoreError> {
        if self.left == 0 {
            let now = Instant::now();
            let wait = self
                .refused_until
                .map(|until| until.saturating_duration_since(now));
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                return Ok(rate.pace(false, 0, wait));
            }
            if let Some(wait) = self.take(store, workspace, rate).await? {
                self.refused_until = Some(Instant::now() + wait);
                return Ok(rate.pace(false, 0, wait));
            }
            self.refused_until = None;
        }
        self.left -= 1;
        Ok(rate.admits(self.left + self.in_row))
    }

    /// Takes some; how long to wait, where there is nothing.
    async fn take(
        &mut self,
        store: &dyn Store,
        workspace: WorkspaceId,
        rate: Rate,
    ) -> Result<Option<Duration>, StoreError> {
        let (interval, many) = (rate.interval_us(), i64::from(rate.taken().get()));
        let cost = interval * many;
        let ahead = interval * i64::from(rate.at_once().get());
        let id = workspace.to_string();
        let parameters = [id.clone().into(), cost.into(), ahead.max(cost).into()];
        let touched = store
            .execute(vec![Statement::new(TAKE, parameters)])
            .await?;
        let rows = store.query(SPENT, vec![id.into()]).await?;
        let spent = rows.first().map_or(Ok(0), |row| row.integer(0))?.max(0);
        if touched.first() == Some(&0) {
            let wait_us = (spent + cost - ahead.max(cost)).max(interval);
            return Ok(Some(Duration::from_micros(wait_us.unsigned_abs())));
        }
        self.left = many.unsigned_abs();
        self.in_row = ((ahead - spent).max(0) / interval).unsigned_abs();
        Ok(None)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every workspace that was asked lately.
#[derive(Debug)]
pub(super) struct Paces(Mutex<LruCache<WorkspaceId, Arc<Asked>>>);

impl Default for Paces {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(CELLS_IN_MEMORY)))
    }
}

impl Paces {
    fn known(&self, workspace: WorkspaceId) -> Option<Arc<Asked>> {
        locked(&self.0).get(&workspace).cloned()
    }

    fn keep(&self, workspace: WorkspaceId, asked: Arc<Asked>) {
        locked(&self.0).put(workspace, asked);
    }
}

impl Service {
    /// Counts a request of somebody in a workspace; none where they are not in it, or it limits
    /// nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn pace(
        &self,
        principal: &Principal,
        workspace: WorkspaceId,
    ) -> Result<Option<Pace>, ServiceError> {
        let asked = self.asked(workspace).await?;
        if asked.rate.is_none() || !self.is_in(&asked, principal, workspace).await? {
            return Ok(None);
        }
        let store = self.journal.store();
        Ok(asked.spend(&**store, workspace).await?)
    }

    /// A workspace with its present limit. What is spent stays spent as long as that is the same.
    async fn asked(&self, workspace: WorkspaceId) -> Result<Arc<Asked>, ServiceError> {
        let known = self.paces.known(workspace);
        if let Some(known) = &known
            && *locked(&known.believed_until) > Instant::now()
        {
            return Ok(known.clone());
        }
        let found = self.limit_documents().get(&workspace.to_string()).await?;
        let plans = self.settings.journal.plans;
        let allowed = found
            .value
            .map(|document| plans.quotas(document.plan.as_ref()).and(document.limits));
        let rate = allowed.and_then(Rate::of);
        if let Some(known) = known.filter(|known| known.rate == rate) {
            *locked(&known.believed_until) = Instant::now() + BELIEVED_FOR;
            return Ok(known);
        }
        let is_shared = self.journal.store().kind() == StoreKind::Postgres && !self.is_replica();
        let asked = Arc::new(Asked::new(rate, is_shared));
        self.paces.keep(workspace, asked.clone());
        Ok(asked)
    }

    /// Whether a request is of somebody in the workspace: whose it is, or an earlier one of
    /// theirs, a moment ago.
    async fn is_in(
        &self,
        asked: &Asked,
        principal: &Principal,
        workspace: WorkspaceId,
    ) -> Result<bool, ServiceError> {
        let caller = match principal {
            Principal::Key(key) => return Ok(key.0.workspace == Some(workspace)),
            Principal::Person(caller) => caller,
        };
        let now = Instant::now();
        let known = locked(&asked.members).get(&caller.user).copied();
        if let Some((is_in, until)) = known
            && until > now
        {
            return Ok(is_in);
        }
        let standing = self.standing_in(workspace, caller.user).await?.value;
        let known = (standing.is_some(), now + BELIEVED_FOR);
        locked(&asked.members).put(caller.user, known);
        Ok(standing.is_some())
    }

    /// Forgets the cells of workspaces that nobody asks any more.
    pub(super) async fn forget_paces(&self) -> Result<(), ServiceError> {
        let store = self.journal.store();
        if store.kind() == StoreKind::Postgres {
            store.execute(vec![Statement::new(FORGET, [])]).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rate(a_minute: u64) -> Rate {
        let allowed = Quotas {
            requests_per_minute: Some(a_minute),
            ..Quotas::UNLIMITED
        };
        Rate::of(allowed).expect("a rate")
    }

    #[test]
    fn no_minute_has_more_than_a_sixteenth_above_the_limit() {
        for limit in [60, 600, 6_000] {
            let clock = FakeRelativeClock::default();
            let cell = RateLimiter::direct_with_clock(rate(limit).quota(), clock.clone());
            let mut admitted = Vec::new();
            for tick in 0..2_400u64 {
                // Half a minute of nothing, so that it is full again, and then all at once.
                let asks = if (600..1_200).contains(&tick) {
                    0
                } else {
                    limit
                };
                for _ in 0..asks {
                    match cell.check() {
                        Ok(()) => admitted.push(tick),
                        Err(_) => break,
                    }
                }
                clock.advance(Duration::from_millis(50));
            }
            for first in &admitted {
                let in_minute = admitted
                    .iter()
                    .filter(|tick| (*first..*first + 1_200).contains(*tick))
                    .count() as u64;
                assert!(
                    in_minute <= limit + limit / 16 + 1,
                    "{in_minute} of {limit}"
                );
            }
        }
    }

    #[test]
    fn three_processes_together_stay_below_a_tenth_above_the_limit() {
        for limit in [60, 100, 600, 6_000, 60_000, 1_000_000] {
            let rate = rate(limit);
            let most = limit + u64::from(rate.at_once().get()) + 3 * u64::from(rate.taken().get());
            assert!(most * 10 <= limit * 11, "{most} of {limit}");
        }
    }

    #[test]
    fn what_limits_nothing_has_no_rate() {
        for allowed in [None, Some(0), Some(60_000_001), Some(u64::MAX)] {
            let allowed = Quotas {
                requests_per_minute: allowed,
                ..Quotas::UNLIMITED
            };
            assert_eq!(Rate::of(allowed), None);
        }
    }
}
