//! The log and its read models: the clock, and what is behind.

use super::Finding;
use crate::{
    cli::Failure,
    journal::{
        Source, SystemSource,
        stores::{self, Store, StoreError},
    },
    projections::{self, ProjectionState, audit_index::STEP},
};

/// How far the clock may be behind the last entry; `readyz` says so beyond it, too.
const BEHIND_MAX_US: i64 = 5_000_000;
/// The newest entries whose times are looked at.
const LOOKED_AT: u64 = 10_000;
/// For how long a clock that ran backwards is worth telling.
const TOLD_FOR_US: i64 = 86_400_000_000;
/// Batches a microsecond apart, which no clock makes: one may be chance.
const PUSHED_MIN: u64 = 3;
/// Entries that the audit index may be behind: twice what it takes in at once.
const INDEX_BEHIND_MAX: u64 = 2 * STEP;

/// A clock that is behind the log, or was.
pub async fn clock(store: &dyn Store) -> Result<Vec<Finding>, Failure> {
    let head = match stores::head(store).await {
        Ok(head) => head,
        Err(error @ StoreError::Newer { .. }) => return Ok(vec![newer(&error.to_string())]),
        Err(error) => return Err(error.into()),
    };
    let now = SystemSource.now().0;
    let mut findings = Vec::new();
    let behind_us = head.recorded_at.0 - now;
    if behind_us > BEHIND_MAX_US {
        findings.push(Finding::new(
            "clock_behind",
            format!(
                "this machine's clock is {} s behind the last entry of the log",
                behind_us / 1_000_000
            ),
            "set the clock right, and let a time service keep it so, on every machine that serves; \
             until then the log goes on in steps of a microsecond, and deadlines come early",
        ));
    }
    let pushed = pushed(store, head.position, now - TOLD_FOR_US).await?;
    if let Some((count, last)) = pushed {
        findings.push(Finding::new(
            "clock_went_back",
            format!(
                "{count} batches of the last day, up to position {last}, were written by a clock \
                 that was behind the entry before them"
            ),
            "look for what sets the clocks back on the machines that serve; the entries are in \
             order, and their times are later than the clock was",
        ));
    }
    Ok(findings)
}

fn newer(what: &str) -> Finding {
    Finding::new(
        "log_newer",
        what,
        "use the version of crewlog that writes this log",
    )
}

const SELECT_TIMES: &str = "
SELECT position, recorded_at, batch
  FROM events
 WHERE position > $1
 ORDER BY position";

/// How many batches have a time that only follows on the batch before: the clock gave an earlier
/// one. And the position of the last of them.
async fn pushed(
    store: &dyn Store,
    head: u64,
    since: i64,
) -> Result<Option<(u64, u64)>, StoreError> {
    let after = head.saturating_sub(LOOKED_AT);
    let rows = store.query(SELECT_TIMES, vec![after.into()]).await?;
    let (mut count, mut last) = (0, 0);
    for pair in rows.windows(2) {
        let (before, this) = (pair[0].integer(1)?, pair[1].integer(1)?);
        let is_another_batch = pair[0].text(2)? != pair[1].text(2)?;
        if is_another_batch && this == before + 1 && this >= since {
            count += 1;
            last = pair[1].count(0)?;
        }
    }
    Ok((count >= PUSHED_MIN).then_some((count, last)))
}

/// Read models that are not there, not this version's, or behind.
pub async fn projections(store: &dyn Store) -> Result<Vec<Finding>, Failure> {
    let states = projections::states(store).await?;
    Ok(states.iter().filter_map(of_projection).collect())
}

fn of_projection(state: &ProjectionState) -> Option<Finding> {
    let name = state.name;
    let Some(version) = state.version else {
        return Some(Finding::new(
            "projection_missing",
            format!("the projection {name} is not there"),
            "run `crewlog migrate`, which fills it",
        ));
    };
    if version < state.known {
        return Some(Finding::new(
            "projection_older",
            format!("the projection {name} was made by an older version of crewlog"),
            "run `crewlog migrate`, or start the new version, which fills it beside the old one",
        ));
    }
    if version > state.known {
        return Some(Finding::new(
            "projection_newer",
            format!("the projection {name} was made by a newer version of crewlog"),
            "use the version of crewlog that serves this store",
        ));
    }
    (state.behind > INDEX_BEHIND_MAX).then(|| {
        Finding::new(
            "projection_behind",
            format!(
                "the projection {name} is {} entries behind the log",
                state.behind
            ),
            format!(
                "see in the servers' logs and in /readyz what keeps it; where no server runs, \
                 starting one brings it on; if it stays behind, run `crewlog replay {name}`"
            ),
        )
    })
}
