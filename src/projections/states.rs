//! How the projections of a store are, for whoever looks from outside.

use super::{
    EngineError, Projections, RebuildStatus, audit_index,
    engine::{create_indexes, serving},
    rebuild::{is_abandoned, status},
};
use crate::journal::stores::{Store, StoreError};

/// How a projection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionState {
    pub name: &'static str,
    /// The version of the fold that made what serves; none where nothing does.
    pub version: Option<i64>,
    /// The version of the fold in this program.
    pub known: i64,
    /// Entries that it has not come to. Documents are folded in the append, so only the audit
    /// index can be behind.
    pub behind: u64,
}

/// How each projection is.
///
/// # Errors
/// When the store cannot be read.
pub async fn states(store: &dyn Store) -> Result<Vec<ProjectionState>, EngineError> {
    let serving = serving(store).await?;
    let mut states = Vec::new();
    for (name, known) in Projections::default().versions() {
        let version = serving.get(name).map(|(_, version)| *version);
        let behind = match (name, version) {
            (audit_index::NAME, Some(_)) => {
                let state = audit_index::state(store).await?;
                state.head.saturating_sub(state.position)
            }
            _ => 0,
        };
        states.push(ProjectionState {
            name,
            version,
            known,
            behind,
        });
    }
    Ok(states)
}

/// An index of the table of a projection that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionIndex {
    pub projection: String,
    pub name: String,
}

/// The indexes that the tables which serve should have.
///
/// # Errors
/// When the store cannot be read.
pub async fn indexes(store: &dyn Store) -> Result<Vec<ProjectionIndex>, StoreError> {
    let serving = serving(store).await?.into_iter();
    let of_projection = |(projection, (generation, _)): (String, (i64, i64))| {
        let statements = create_indexes(&projection, generation).into_iter();
        statements.filter_map(move |statement| {
            // CREATE INDEX IF NOT EXISTS name …
            let name = statement.sql.split_whitespace().nth(5)?;
            Some(ProjectionIndex {
                projection: projection.clone(),
                name: name.to_owned(),
            })
        })
    };
    Ok(serving.flat_map(of_projection).collect())
}

const SELECT_BUILDING: &str = "
SELECT name
  FROM projections
 WHERE state = 'building'
 ORDER BY name";

/// What was begun of rebuilds and not ended, where nobody works on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfinished {
    /// It can be gone on with.
    LeftAlone(Box<RebuildStatus>),
    /// Generations of these projections that do not serve, and that nothing will become of.
    Left(Vec<String>),
}

/// What was begun of rebuilds and not ended, where there is something; waits a while for a sign
/// of life.
///
/// # Errors
/// When the store cannot be read.
pub async fn unfinished(store: &dyn Store) -> Result<Option<Unfinished>, StoreError> {
    let status = status(store).await?;
    if status.is_under_way() {
        let is_abandoned = is_abandoned(store, &status).await?;
        return Ok(is_abandoned.then(|| Unfinished::LeftAlone(Box::new(status))));
    }
    let rows = store.query(SELECT_BUILDING, vec![]).await?;
    let names = rows.iter().map(|row| row.text(0).map(str::to_owned));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    Ok((!names.is_empty()).then_some(Unfinished::Left(names)))
}
