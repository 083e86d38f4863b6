//! `crewlog doctor`: what is wrong with an installation, and what to do about each of it.
//!
//! Looks at the files, the key, the schema, the settings of the database, the log and what was
//! left half done. Reads only, works beside servers, and with a store that cannot be reached: that
//! is something found. It does not recompute anything: `verify` and `replay --check` do.
//!
//! To look for one more thing: a function that answers with [`Finding`]s in the file that it
//! belongs to, its call there, and a row in the table of `docs/operating.md`; a trial makes it
//! wrong and sees it found. What can be left half done is asked in `unfinished.rs`.

mod files;
mod keys;
mod log;
mod schema;
mod settings;
mod unfinished;

use std::{fmt::Write, sync::Arc};

use serde_json::json;

use super::{Failure, Outcome, Output, Place};
use crate::journal::stores::{self, Store, StoreError, StoreKind};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Find a disk with the data folder that has less than this left
    #[arg(long, value_name = "PERCENT", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    disk_free: u8,
}

/// One thing that is wrong.
#[derive(Debug)]
struct Finding {
    /// What it is, for scripts: stable.
    code: &'static str,
    /// What was found, for a person.
    what: String,
    /// What to do about it.
    what_to_do: String,
}

impl Finding {
    fn new(code: &'static str, what: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            what_to_do: what_to_do.into(),
        }
    }
}

/// Looks, and prints what was found.
///
/// # Errors
/// When a store that can be reached cannot be asked.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    let mut findings = files::modes(&place);
    findings.extend(files::disk(&place, arguments.disk_free));
    match reach(&place).await {
        Ok(store) => {
            findings.extend(of_store(&place, &store).await?);
            store.close().await;
        }
        Err(error) => findings.push(unreachable(&error)),
    }
    output.result(&as_json(&findings), &as_text(&findings))?;
    Ok(match findings.is_empty() {
        true => Outcome::Fine,
        false => Outcome::Difference,
    })
}

/// Opens the store and asks it something: a file that is no database can be opened.
async fn reach(place: &Place) -> Result<Arc<dyn Store>, StoreError> {
    let store = place.reach().await?;
    stores::schema::objects(&*store).await?;
    Ok(store)
}

async fn of_store(place: &Place, store: &Arc<dyn Store>) -> Result<Vec<Finding>, Failure> {
    let mut findings = keys::root_key(place, store).await?;
    findings.extend(settings::durability(&**store).await?);
    let of_schema = schema::version(&**store).await?;
    let is_known = of_schema.is_none();
    findings.extend(of_schema);
    // Of another schema nothing further is known.
    if is_known {
        findings.extend(schema::objects(&**store).await?);
        findings.extend(log::clock(&**store).await?);
        findings.extend(log::projections(&**store).await?);
        findings.extend(unfinished::all(&**store).await?);
    }
    Ok(findings)
}

fn unreachable(error: &StoreError) -> Finding {
    let what = error.to_string();
    match error {
        StoreError::NotMigrated { .. } => Finding::new(
            "no_store",
            what,
            "name the place of the store with --data or --database-url; where there is none yet, \
             `crewlog serve` makes it",
        ),
        StoreError::Sealed { .. } => Finding::new(
            "store_sealed",
            what,
            "serve from where its log goes on, or restore the backup into a place of its own",
        ),
        StoreError::Damaged { .. } => Finding::new(
            "store_damaged",
            what,
            "stop the servers, keep a copy of the files as they are, and restore a backup",
        ),
        StoreError::Failed {
            kind: StoreKind::Sqlite,
            ..
        }
        | StoreError::Unavailable {
            kind: StoreKind::Sqlite,
            ..
        }
        | StoreError::Unwritable { .. }
        | StoreError::Held { .. }
        | StoreError::Forked { .. }
        | StoreError::Newer { .. }
        | StoreError::Row(_) => Finding::new(
            "store_unreachable",
            what,
            "check the files in the data folder (--data), and that this user may read them",
        ),
        StoreError::Failed {
            kind: StoreKind::Postgres,
            ..
        }
        | StoreError::Unavailable {
            kind: StoreKind::Postgres,
            ..
        } => Finding::new(
            "store_unreachable",
            what,
            "check that the database runs, the address and the user in its URL, and what is \
             between here and there",
        ),
    }
}

fn as_json(findings: &[Finding]) -> serde_json::Value {
    let findings = findings.iter().map(|finding| {
        json!({
            "code": finding.code,
            "what": finding.what,
            "what_to_do": finding.what_to_do,
        })
    });
    json!({"findings": findings.collect::<Vec<_>>()})
}

fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Finding {
            code,
            what,
            what_to_do,
        } = finding;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{code}: {what}\n  what to do: {what_to_do}");
    }
    match findings.len() {
        0 => text.push_str("nothing found"),
        1 => text.push_str("1 thing found"),
        count => {
            let _ = write!(text, "{count} things found");
        }
    }
    text
}
