//! The schema: whether it is this program's, and whether all of it is there.

use super::Finding;
use crate::{
    cli::Failure,
    journal::stores::{Store, StoreError, schema, schema::Schema},
};

/// A schema that is older or newer than this program.
pub async fn version(store: &dyn Store) -> Result<Option<Finding>, Failure> {
    let known = Schema::expected(store.kind()).version;
    let found = match schema::migrations(store).await {
        Ok(migrations) => migrations.last().copied().unwrap_or(0),
        Err(StoreError::NotMigrated { .. }) => 0,
        Err(error) => return Err(error.into()),
    };
    Ok(match found.cmp(&known) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Less => Some(Finding::new(
            "schema_older",
            format!("the schema is at migration {found}, this program knows {known}"),
            "run `crewlog migrate`, or start the new version; see \"Upgrading\"",
        )),
        std::cmp::Ordering::Greater => Some(Finding::new(
            "schema_newer",
            format!("the schema is at migration {found}, this program knows no newer than {known}"),
            "use the version of crewlog that serves this store",
        )),
    })
}

/// Indexes and triggers that should be there.
pub async fn objects(store: &dyn Store) -> Result<Vec<Finding>, Failure> {
    let present = schema::objects(store).await?;
    let expected = Schema::expected(store.kind()).objects.into_iter();
    let missing = expected.filter(|(name, _)| !present.contains(name));
    let mut findings: Vec<_> = missing.map(|(name, kind)| of_schema(&name, kind)).collect();
    let of_projections = crate::projections::indexes(store).await?;
    let missing = of_projections
        .iter()
        .filter(|index| !present.contains(&index.name));
    findings.extend(missing.map(|index| {
        Finding::new(
            "missing_index",
            format!("the index {} is not there, or not valid", index.name),
            format!(
                "run `crewlog replay {}`, which makes its table and indexes anew",
                index.projection
            ),
        )
    }));
    Ok(findings)
}

fn of_schema(name: &str, kind: &'static str) -> Finding {
    let code = match kind {
        "index" => "missing_index",
        _ => "missing_trigger",
    };
    let why = match kind {
        "index" => "without it some requests read far more than they need",
        _ => "without it the database does not refuse what must never be changed",
    };
    Finding::new(
        code,
        format!("the {kind} {name} is not there, or switched off; {why}"),
        format!(
            "find out who removed it, run `crewlog verify`, and make it again as the migration \
             that names {name} does"
        ),
    )
}
