//! Folding a log into another database: what a version makes of real history, without touching
//! what serves.
//!
//! Read models alone are written there, and it is marked so that nobody takes it for a log. Never
//! writes to a database that has a log, or keys, of its own.

use super::{
    EngineError, Pace, Progress, Projections, Rebuild, engine::table_name, rebuild::status,
};
use crate::journal::stores::{self, READ_MODELS_ONLY, Statement, Store, StoreError};

/// What a log was folded into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedInto {
    /// The last position folded.
    pub position: u64,
    /// Rows, by projection.
    pub rows: Vec<(String, u64)>,
}

const MARK: &str = "
UPDATE log_head
   SET format = $1
 WHERE singleton = 1 AND position = 0
   AND NOT EXISTS (SELECT 1 FROM root_keys)
   AND NOT EXISTS (SELECT 1 FROM events)";

/// Folds `log` up to a position, or all of it, into a database that has its schema and nothing
/// else, or what an earlier call has left there.
///
/// # Errors
/// When the target has a log of its own, another process works on it, a store cannot be used, or
/// an event cannot be folded.
pub async fn fold_into(
    log: &dyn Store,
    target: &dyn Store,
    through: Option<u64>,
    mut progress: impl FnMut(Progress),
) -> Result<FoldedInto, EngineError> {
    let head = stores::head(log).await?.position;
    let through = through.unwrap_or(head);
    if through > head {
        return Err(EngineError::NotThatFar { head });
    }
    let touched = target
        .execute(vec![Statement::new(MARK, [READ_MODELS_ONLY.into()])])
        .await?;
    if touched != [1] {
        return Err(StoreError::Held {
            detail: "the database to fold into holds a log or keys of its own; name a fresh one"
                .to_owned(),
        }
        .into());
    }
    let projections = Projections::default();
    // What an earlier call has left may be of another log: nothing of it is gone on with.
    if status(target).await?.is_under_way() {
        Rebuild::put_away_abandoned(target).await?;
    }
    let names = projections.names();
    let pace = Pace {
        is_alone: true,
        ..Pace::default()
    };
    let rebuild = Rebuild::begin(target, &projections, &names, pace).await?;
    let generations = rebuild
        .run_elsewhere(log, target, through, &mut progress)
        .await?;
    let mut rows = Vec::new();
    for (name, generation) in generations {
        let table = table_name(&name, generation);
        let counted = target
            .query(&format!("SELECT count(*) FROM {table}"), vec![])
            .await?;
        let count = counted.first().map_or(Ok(0), |row| row.count(0))?;
        rows.push((name, count));
    }
    Ok(FoldedInto {
        position: through,
        rows,
    })
}
