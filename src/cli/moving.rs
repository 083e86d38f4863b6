//! `crewlog move`: carries the store to another place for good, and seals the old one.
//!
//! Wants both for itself. Killed at any moment it is run again; until it has ended, at most one of
//! the two can be served from.

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::SecretString;
use serde_json::json;

use super::{
    Failure, Outcome, Output, Place,
    environment::{Setting, secret_file, setting},
    progress::{Steps, rate},
    root_key,
};
use crate::{
    journal::SystemSource,
    transfer::{Moved, TransferError, move_store},
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to: postgres://user:password@host:5432/database, or sqlite:FOLDER; without it, what
    /// CREWLOG_TO or the file CREWLOG_TO_FILE says
    #[arg(long, value_name = "URL")]
    to: Option<String>,
}

/// Moves the store and prints what was moved.
///
/// # Errors
/// When one of the places cannot be used, or the target holds something else.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    let other = place.other(&target(arguments)?)?;
    if other.shown() == place.shown() {
        return Err(Failure::used_wrongly("the store is there already"));
    }
    // There must be something to move: opening an end would make a store.
    place.open_for_reading().await?.close().await;
    let root = root_key::present(&place)?;
    root_key::may_come_along(&place, &other)?;
    let (mut from, mut to) = (place.open_end().await?, other.open_end().await?);
    let mut steps = Steps::default();
    let told = |step| steps.show(step);
    let moved = move_store(&mut from, &mut to, root.as_ref(), &SystemSource, told).await;
    steps.finish();
    from.store.close().await;
    to.store.close().await;
    let moved = match moved {
        Ok(moved) => moved,
        Err(error) => return differs(&error, output)?.ok_or_else(|| error.into()),
    };
    let key = root_key::bring_along(&place, &other)?;
    output.result(&as_json(&moved, &other), &as_text(&moved, &other, key))?;
    Ok(Outcome::Fine)
}

fn target(arguments: Arguments) -> Result<SecretString, Failure> {
    if let Some(url) = arguments.to {
        return Ok(url.into());
    }
    match setting("CREWLOG_TO")? {
        Some(Setting::Value(url)) => Ok(url),
        Some(Setting::File(file)) => secret_file(&file),
        None => Err(Failure::used_wrongly(
            "name where to with --to: postgres://user:password@host:5432/database, or sqlite:FOLDER",
        )),
    }
}

/// Prints what is not as it should be, where that is why there is no result.
///
/// # Errors
/// When stdout does not take it.
pub fn differs(error: &TransferError, output: Output) -> Result<Option<Outcome>, Failure> {
    if !error.is_difference() {
        return Ok(None);
    }
    let detail = error.to_string();
    output.result(&json!({"holds": false, "detail": detail}), &detail)?;
    Ok(Some(Outcome::Difference))
}

fn as_json(moved: &Moved, to: &Place) -> serde_json::Value {
    let rows: serde_json::Map<_, _> = moved
        .rows
        .iter()
        .map(|(table, rows)| (table.clone(), json!(rows)))
        .collect();
    json!({
        "holds": true,
        "to": to.shown(),
        "position": moved.position,
        "root": BASE64_STANDARD.encode(moved.root),
        "rows": rows,
        "was_done": moved.was_done,
        "elapsed_ms": moved.elapsed.as_millis() as u64,
    })
}

fn as_text(moved: &Moved, to: &Place, key: Option<String>) -> String {
    let (to, position) = (to.shown(), moved.position);
    let root = BASE64_STANDARD.encode(moved.root);
    let rows = moved.rows.iter().map(|(_, rows)| rows).sum();
    let what = match moved.was_done {
        true => format!("the store was moved to {to} before"),
        false => format!(
            "moved {rows} rows to {to} in {:.1} s, {} rows/s; every one was compared, and the old \
             store takes nothing any more",
            moved.elapsed.as_secs_f64(),
            rate(rows, moved.elapsed)
        ),
    };
    let key = key.map(|key| format!("\n{key}")).unwrap_or_default();
    format!("{what}\nposition {position}, root {root}{key}")
}
