//! Filling a new generation of projections from the start of the log.
//!
//! The old generation serves until the new one has folded the whole log; then one
//! transaction swaps them. A rebuild that was killed leaves a generation that does not
//! serve, and the next one removes it.

use std::{sync::Arc, time::Duration};

use super::{
    EngineError, Generations,
    engine::{
        Folder, create_indexes, create_table, head_position, known_versions, serving, table_name,
    },
    filling::{Filling, Room},
    names,
};
use crate::journal::stores::{Statement, Store, StoreError, Value};

/// How often a new generation may find, as it should serve, that it is behind again.
const SWAPS_MAX: usize = 100;

/// How far a rebuild or a check has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The position folded last.
    pub position: u64,
    /// The position to reach.
    pub head: u64,
    pub elapsed: Duration,
}

const SELECT_GENERATIONS: &str = "
SELECT name, generation, state
  FROM projections";

const INSERT_BUILDING: &str = "
INSERT INTO projections (name, generation, version, position, state)
VALUES ($1, $2, $3, 0, 'building')";

const DELETE_GENERATION: &str = "
DELETE FROM projections
 WHERE name = $1 AND generation = $2";

/// Takes the head's lock, so that nobody appends before the swap is done, and raises the
/// epoch, so that what was decided for the old tables loses its compare and is decided again.
/// Fails, and with it the swap, where the log has moved on: a head without a position cannot be.
const HOLD_HEAD: &str = "
UPDATE log_head
   SET epoch = epoch + 1,
       position = CASE WHEN position = $1 THEN position END
 WHERE singleton = 1";

/// What served is then like a rebuild that was not finished: it is put away with those.
const RETIRE: &str = "
UPDATE projections
   SET state = 'building'
 WHERE name = $1 AND generation = $2";

const SERVE: &str = "
UPDATE projections
   SET state = 'serving', position = $3
 WHERE name = $1 AND generation = $2";

/// Rebuilds projections by name from the whole log, and lets the new generations serve.
/// Others may go on writing, and do so to the new generations once these serve; nobody else
/// may rebuild. Answers with the position that they are at.
///
/// # Errors
/// When a name is unknown, the store cannot be read or written, or an event cannot be
/// folded; the old generations then go on serving.
pub async fn rebuild(
    store: &dyn Store,
    which: &[&str],
    mut progress: impl FnMut(Progress),
) -> Result<u64, EngineError> {
    if let Some(unknown) = which.iter().find(|name| !names().contains(name)) {
        return Err(EngineError::Unknown(
            (*unknown).to_owned(),
            names().join(", "),
        ));
    }
    remove_unfinished(store).await?;
    let old = serving(store).await?;
    let next = |name: &str| old.get(name).map_or(1, |(generation, _)| generation + 1);
    let new: Generations = which
        .iter()
        .map(|name| ((*name).to_owned(), next(name)))
        .collect();
    begin(store, &new).await?;
    let folder = Arc::new(Folder::new(new.clone()));
    let mut filling = Filling::new(store, folder, Room::Here(store));
    filling.to_head(&mut progress).await?;
    filling.write().await?;
    for (name, generation) in &new {
        store.execute(create_indexes(name, *generation)).await?;
    }
    for _ in 0..SWAPS_MAX {
        let position = filling.to_head(&mut progress).await?;
        filling.write().await?;
        match store.execute(swap(&old, &new, position)).await {
            Ok(_) => {
                // The old tables go only now: an append that lost its compare to the swap may
                // have them locked until it has noticed.
                remove_unfinished(store).await?;
                return Ok(position);
            }
            // Somebody has written since: what they wrote is folded too.
            Err(_) if head_position(store).await? > position => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(EngineError::Busy)
}

/// Folds the whole log with every projection and keeps nothing of it: what replaying costs
/// where nothing is written. Answers with the last position folded.
///
/// # Errors
/// When the store cannot be read, or an event cannot be folded.
pub async fn fold_all(
    store: &dyn Store,
    mut progress: impl FnMut(Progress),
) -> Result<u64, EngineError> {
    let generations = names().into_iter().map(|name| (name.to_owned(), 1));
    let folder = Arc::new(Folder::new(generations.collect()));
    Filling::new(store, folder, Room::None)
        .to_head(&mut progress)
        .await
}

/// Lets the new generations serve in place of the old ones, if they are at the head.
fn swap(
    old: &std::collections::BTreeMap<String, (i64, i64)>,
    new: &Generations,
    position: u64,
) -> Vec<Statement> {
    let mut statements = vec![Statement::new(HOLD_HEAD, [position.into()])];
    for (name, generation) in new {
        if let Some((old_generation, _)) = old.get(name) {
            let parameters: [Value; 2] = [name.clone().into(), (*old_generation).into()];
            statements.push(Statement::new(RETIRE, parameters));
        }
        let parameters: [Value; 3] = [name.clone().into(), (*generation).into(), position.into()];
        statements.push(Statement::new(SERVE, parameters));
        let drop_view = format!("DROP VIEW IF EXISTS {}", view_name(name));
        statements.push(Statement::new(drop_view, []));
    }
    statements.extend(views(new));
    statements
}

/// Each in a transaction of its own: who drops two tables and waits for one of them keeps
/// an append from the other, which may itself be what is waited for.
async fn remove_unfinished(store: &dyn Store) -> Result<(), StoreError> {
    for row in store.query(SELECT_GENERATIONS, vec![]).await? {
        if row.text(2)? == "building" {
            let statements = remove(row.text(0)?, row.integer(1)?);
            store.execute(statements.into()).await?;
        }
    }
    Ok(())
}

fn remove(name: &str, generation: i64) -> [Statement; 2] {
    let parameters: [Value; 2] = [name.into(), generation.into()];
    [
        Statement::new(
            format!("DROP TABLE IF EXISTS {}", table_name(name, generation)),
            [],
        ),
        Statement::new(DELETE_GENERATION, parameters),
    ]
}

pub(super) async fn begin(store: &dyn Store, new: &Generations) -> Result<(), StoreError> {
    let versions = known_versions();
    let mut statements = Vec::new();
    for (name, generation) in new {
        statements.push(create_table(store.kind(), name, *generation));
        let parameters: [Value; 3] = [
            name.clone().into(),
            (*generation).into(),
            versions.get(name.as_str()).copied().unwrap_or(0).into(),
        ];
        statements.push(Statement::new(INSERT_BUILDING, parameters));
    }
    store.execute(statements).await.map(drop)
}

fn view_name(name: &str) -> String {
    format!("crewlog_{name}")
}

/// Stable views over whichever generation serves, for people with a SQL client: the
/// document's plain members as columns.
fn views(generations: &Generations) -> Vec<Statement> {
    let view = |(name, generation): (&String, &i64)| {
        let columns: Vec<_> = view_columns(name)
            .iter()
            .map(|column| format!("document ->> '{column}' AS \"{column}\""))
            .collect();
        let columns = match columns.as_slice() {
            [] => "*".to_owned(),
            columns => format!("key, position, {}", columns.join(", ")),
        };
        let (view, table) = (view_name(name), table_name(name, *generation));
        Statement::new(
            format!("CREATE VIEW {view} AS SELECT {columns} FROM {table}"),
            [],
        )
    };
    generations.iter().map(view).collect()
}

/// The members of a projection's documents that are not sealed and not nested.
fn view_columns(name: &str) -> &'static [&'static str] {
    match name {
        "users" => &["id", "version", "created_at", "updated_at"],
        "organizations" => &["id", "version", "created_at", "updated_at", "name"],
        "organization_members" => &["organization", "user", "role", "since"],
        "workspaces" => &[
            "id",
            "version",
            "created_at",
            "updated_at",
            "organization",
            "name",
            "plan",
        ],
        "members" => &[
            "workspace",
            "organization",
            "user",
            "role",
            "since",
            "invited_by",
            "granted_at",
        ],
        "invitations" => &[
            "id",
            "version",
            "workspace",
            "role",
            "invited_by",
            "status",
            "expires_at",
        ],
        "api_keys" => &[
            "id",
            "version",
            "organization",
            "workspace",
            "environment",
            "prefix",
            "created_by",
            "rotated_from",
            "successor",
            "ended",
        ],
        "policies" => &["workspace", "version", "created_at", "updated_at"],
        "auditors" => &[
            "workspace",
            "organization",
            "user",
            "since",
            "expires_at",
            "granted_by",
            "granted_at",
        ],
        "people" => &["realm", "user", "field", "since"],
        _ => &[],
    }
}
