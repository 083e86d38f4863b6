//! The settings of PostgreSQL: whether a commit that it answers survives a crash. The embedded
//! store sets its own, at every start.

use super::Finding;
use crate::{
    cli::Failure,
    journal::stores::{Store, StoreError, StoreKind},
};

const SELECT_WEAK: &str = "
SELECT CAST(name AS TEXT), CAST(setting AS TEXT)
  FROM pg_settings
 WHERE (name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off')
    OR (name = 'synchronous_commit' AND setting = 'local'
        AND current_setting('synchronous_standby_names') <> '')
 ORDER BY name";

/// Settings with which a command that was answered with success may be lost.
pub async fn durability(store: &dyn Store) -> Result<Vec<Finding>, Failure> {
    if store.kind() == StoreKind::Sqlite {
        return Ok(Vec::new());
    }
    let rows = store.query(SELECT_WEAK, vec![]).await?;
    let found = rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?)));
    let findings = found.map(|found: Result<_, StoreError>| {
        let (name, setting) = found?;
        Ok(weak(name, setting))
    });
    findings.collect()
}

fn weak(name: &str, setting: &str) -> Finding {
    let why = match name {
        "synchronous_commit" if setting == "local" => {
            "commits are answered before a standby has them, and the last ones are lost in a failover"
        }
        "synchronous_commit" => {
            "commits are answered before they are on the disk, and the last ones are lost in a crash"
        }
        "full_page_writes" => "a crash of the machine can leave torn pages that nothing mends",
        _ => "a crash of the machine can damage all of it",
    };
    Finding::new(
        "weak_durability",
        format!("PostgreSQL runs with {name} = {setting}: {why}"),
        format!(
            "set {name} = on in the server's configuration, and where the database or the user has \
             a setting of its own (ALTER DATABASE, ALTER ROLE … RESET {name})"
        ),
    )
}
