//! The tables of generations: laying out new ones, letting them serve, and removing what does not.

use std::collections::BTreeMap;

use super::{row::Owner, views};
use crate::{
    journal::stores::{FORMAT, Statement, Store, StoreError, StoreKind, Value},
    projections::{
        EngineError, Generations, Projections, audit_index,
        engine::{create_indexes, create_table, serving, table_name},
    },
};

/// Rows that are removed at once from what does not serve, where others write to the same file.
const ROWS_REMOVED_AT_ONCE: u64 = 1_000;

const SELECT_BUILDING: &str = "
SELECT name, generation, version
  FROM projections
 WHERE state = 'building'
 ORDER BY name, generation";

const INSERT_BUILDING: &str = "
INSERT INTO projections (name, generation, version, position, state)
VALUES ($1, $2, $3, 0, 'building')";

const DELETE_BUILDING: &str = "
DELETE FROM projections
 WHERE name = $1 AND generation = $2 AND state = 'building'";

/// Generations that do not serve, with their versions.
async fn building(store: &dyn Store) -> Result<BTreeMap<(String, i64), i64>, StoreError> {
    let rows = store.query(SELECT_BUILDING, vec![]).await?;
    let building = rows.iter().map(|row| {
        let generation = (row.text(0)?.to_owned(), row.integer(1)?);
        Ok((generation, row.integer(2)?))
    });
    building.collect()
}

/// Whether these generations are there to go on with, as this program would have begun them.
pub(super) async fn can_go_on(
    store: &dyn Store,
    projections: &Projections,
    generations: &Generations,
) -> Result<bool, StoreError> {
    let (building, versions) = (building(store).await?, projections.versions());
    let is_there = |(name, generation): (&String, &i64)| {
        let version = building.get(&(name.clone(), *generation));
        version.is_some() && version == versions.get(name.as_str())
    };
    Ok(!generations.is_empty() && generations.iter().all(is_there))
}

/// Makes new generations of these projections, in the place of what does not serve.
pub(super) async fn lay_out(
    store: &dyn Store,
    owner: &Owner,
    projections: &Projections,
    names: &[String],
    has_indexes_first: bool,
) -> Result<Generations, EngineError> {
    remove_all(store, owner).await?;
    let old = serving(store).await?;
    let next = |name: &String| old.get(name).map_or(1, |(generation, _)| generation + 1);
    let generations: Generations = names
        .iter()
        .map(|name| (name.clone(), next(name)))
        .collect();
    let mut statements = vec![owner.or_fails(), owner.fills(&generations)];
    statements.extend(create(store.kind(), projections, &generations));
    if has_indexes_first {
        statements.extend(indexes(&generations));
    }
    store.execute(statements).await?;
    Ok(generations)
}

/// Statements that make the tables of generations.
pub(in crate::projections) fn create(
    kind: StoreKind,
    projections: &Projections,
    generations: &Generations,
) -> Vec<Statement> {
    let versions = projections.versions();
    let mut statements = Vec::new();
    for (name, generation) in generations {
        statements.push(create_table(kind, name, *generation));
        let parameters: [Value; 3] = [
            name.clone().into(),
            (*generation).into(),
            versions.get(name.as_str()).copied().unwrap_or(0).into(),
        ];
        statements.push(Statement::new(INSERT_BUILDING, parameters));
    }
    statements
}

/// Statements that make the indexes of generations, where they are not there yet.
pub(super) fn indexes(generations: &Generations) -> Vec<Statement> {
    let of = |(name, generation): (&String, &i64)| create_indexes(name, *generation);
    generations.iter().flat_map(of).collect()
}

/// A reader that lasts must not keep everybody from writing for longer than this.
const PATIENCE: &str = "SET LOCAL lock_timeout = '2s'";

/// What was decided for the old tables loses its compare, and is decided again for the new ones.
/// What this program writes older ones may not be able to read: then they must not write either.
/// Fails where the row of the rebuild is not as it was just left.
const RAISE_EPOCH: &str = "
UPDATE log_head
   SET epoch = CASE WHEN EXISTS (SELECT 1 FROM rebuild WHERE state = 'swapped')
                    THEN epoch + 1 END,
       format = CASE WHEN format < $1 THEN $1 ELSE format END
 WHERE singleton = 1";

/// What served is then like a rebuild that was not finished: it is removed with those.
const RETIRE: &str = "
UPDATE projections
   SET state = 'building'
 WHERE name = $1 AND state = 'serving'";

const SERVE: &str = "
UPDATE projections
   SET state = 'serving', position = $3
 WHERE name = $1 AND generation = $2";

/// Lets generations that are at `position` serve in the place of the old ones.
pub(super) async fn swap(
    store: &dyn Store,
    projections: &Projections,
    generations: &Generations,
    position: u64,
) -> Result<Vec<Statement>, StoreError> {
    let (kind, old, versions) = (store.kind(), serving(store).await?, projections.versions());
    let mut statements = Vec::new();
    for (name, generation) in generations {
        statements.push(Statement::new(RETIRE, [name.as_str().into()]));
        let parameters: [Value; 3] = [name.clone().into(), (*generation).into(), position.into()];
        statements.push(Statement::new(SERVE, parameters));
        let version = versions.get(name.as_str()).copied().unwrap_or(0);
        let before = old.get(name).map(|(_, version)| *version);
        statements.extend(views::serve(kind, name, *generation, version, before));
    }
    Ok(statements)
}

/// What makes [`swap`] happen at once with the head, and only while the rebuild is this one's.
pub(super) fn with_head(kind: StoreKind, owner: &Owner) -> Vec<Statement> {
    let patience = match kind {
        StoreKind::Postgres => Some(Statement::new(PATIENCE, [])),
        StoreKind::Sqlite => None,
    };
    let raise = Statement::new(RAISE_EPOCH, [FORMAT.into()]);
    let statements = patience.into_iter();
    statements.chain([owner.swaps_or_fails(), raise]).collect()
}

/// Removes every generation that does not serve. Each in a transaction of its own: who drops two
/// tables and waits for one of them keeps an append from the other, which may itself be what is
/// waited for.
pub(super) async fn remove_all(store: &dyn Store, owner: &Owner) -> Result<(), StoreError> {
    for (name, generation) in building(store).await?.into_keys() {
        remove(store, owner, &name, generation).await?;
    }
    Ok(())
}

async fn remove(
    store: &dyn Store,
    owner: &Owner,
    name: &str,
    generation: i64,
) -> Result<(), StoreError> {
    let table = table_name(name, generation);
    if store.kind() == StoreKind::Sqlite {
        empty(store, owner, name, &table).await?;
    }
    let parameters: [Value; 2] = [name.into(), generation.into()];
    let statements = vec![
        owner.or_fails(),
        Statement::new(format!("DROP TABLE IF EXISTS {table}"), []),
        Statement::new(DELETE_BUILDING, parameters),
    ];
    store.execute(statements).await.map(drop)
}

/// Empties a table a part at a time: dropped at once, a large one would keep everybody from
/// writing for as long as that takes.
async fn empty(
    store: &dyn Store,
    owner: &Owner,
    name: &str,
    table: &str,
) -> Result<(), StoreError> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = $1";
    if store.query(sql, vec![table.into()]).await?.is_empty() {
        return Ok(());
    }
    let key = match name {
        audit_index::NAME => "position",
        _ => "key",
    };
    let sql = format!(
        "DELETE FROM {table}
          WHERE {key} IN (SELECT {key} FROM {table} ORDER BY {key} LIMIT {ROWS_REMOVED_AT_ONCE})"
    );
    loop {
        let statements = vec![owner.or_fails(), Statement::new(sql.clone(), [])];
        let touched = store.execute(statements).await?;
        if touched
            .last()
            .is_none_or(|rows| *rows < ROWS_REMOVED_AT_ONCE)
        {
            return Ok(());
        }
    }
}
