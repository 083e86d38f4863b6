//! Views over whichever generation serves.
//!
//! Those that this program reads by are named after a projection and its version, and have the
//! columns of the table below: who asks one is answered by one generation or the next, whole, and
//! never by what another version has made. Those for people with a SQL client have the plain
//! members of the documents as columns.

use std::collections::BTreeSet;

use crate::{
    journal::stores::{AUDIT_COLUMNS, Statement, Store, StoreError, StoreKind},
    projections::{
        Projections, audit_index,
        engine::{read_name, table_name},
    },
};

const DOCUMENT_COLUMNS: &str = "key, workspace, parent, lookup, deadline, position, document";

/// What is read of a projection from now on: of a generation, in the place of another version's.
pub(super) fn serve(
    kind: StoreKind,
    name: &str,
    generation: i64,
    version: i64,
    before: Option<i64>,
) -> Vec<Statement> {
    let (view, table) = (read_name(name, version), table_name(name, generation));
    let columns = match name {
        audit_index::NAME => AUDIT_COLUMNS.map(|(name, _)| name).join(", "),
        _ => DOCUMENT_COLUMNS.to_owned(),
    };
    let drop_view = |view: &str| Statement::new(format!("DROP VIEW IF EXISTS {view}"), []);
    let mut statements = Vec::new();
    if let Some(before) = before.filter(|before| *before != version) {
        statements.push(drop_view(&read_name(name, before)));
    }
    // Replaced where that can be, so that whoever reads it waits a moment and does not fail.
    let create = match kind {
        StoreKind::Postgres => "CREATE OR REPLACE VIEW",
        StoreKind::Sqlite => {
            statements.push(drop_view(&view));
            "CREATE VIEW"
        }
    };
    statements.push(Statement::new(
        format!("{create} {view} AS SELECT {columns} FROM {table}"),
        [],
    ));
    // Views that people have made over this one keep it from being dropped, and not from this.
    if kind == StoreKind::Sqlite || before != Some(version) {
        statements.push(drop_view(&for_people(name)));
    }
    let columns = columns_for_people_of(name);
    let view = for_people(name);
    statements.push(Statement::new(
        format!("{create} {view} AS SELECT {columns} FROM {table}"),
        [],
    ));
    statements
}

const OF_SQLITE: &str = "SELECT name FROM sqlite_master WHERE type = 'view'";

const OF_POSTGRES: &str = "
SELECT CAST(relname AS TEXT)
  FROM pg_class
 WHERE relkind = 'v' AND pg_table_is_visible(oid)";

/// The projections that this program has nothing to read by.
///
/// # Errors
/// When the store cannot be read.
pub(in crate::projections) async fn missing(
    store: &dyn Store,
    projections: &Projections,
) -> Result<Vec<&'static str>, StoreError> {
    let sql = match store.kind() {
        StoreKind::Sqlite => OF_SQLITE,
        StoreKind::Postgres => OF_POSTGRES,
    };
    let rows = store.query(sql, vec![]).await?;
    let present = rows.iter().map(|row| row.text(0));
    let present = present.collect::<Result<BTreeSet<_>, _>>()?;
    let known = projections.versions().into_iter();
    let missing = known.filter(|(name, version)| !present.contains(&*read_name(name, *version)));
    Ok(missing.map(|(name, _)| name).collect())
}

fn for_people(name: &str) -> String {
    format!("crewlog_{name}")
}

fn columns_for_people_of(name: &str) -> String {
    let columns: Vec<_> = columns_for_people(name)
        .iter()
        .map(|column| format!("document ->> '{column}' AS \"{column}\""))
        .collect();
    match columns.as_slice() {
        [] => "*".to_owned(),
        columns => format!("key, position, {}", columns.join(", ")),
    }
}

/// The members of a projection's documents that are not sealed and not nested.
fn columns_for_people(name: &str) -> &'static [&'static str] {
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
