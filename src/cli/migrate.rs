//! `crewlog migrate`: makes or migrates the schema and the projections, and says what it did.

use std::fmt::Write;

use serde_json::json;

use super::{Failure, Outcome, Output, Place, serve};
use crate::{
    journal::stores::{self, schema},
    projections::Engine,
};

/// Migrates and prints what was done.
///
/// # Errors
/// When the store cannot be opened or filled.
pub async fn run(place: Place, output: Output) -> Result<Outcome, Failure> {
    let before = match place.open_for_reading().await {
        Ok(store) => {
            let versions = schema::migrations(&*store).await;
            store.close().await;
            versions?
        }
        // A store that is not there yet, or cannot be opened: opening it for writing tells.
        Err(_) => Vec::new(),
    };
    // While nobody serves, nobody shall begin to.
    let _alone = place.alone().await?;
    let store = place.open_for_writing().await?;
    let after = schema::migrations(&*store).await?;
    let filled = Engine::outdated(&*store).await?;
    serve::prepare(&*store).await?;
    let position = stores::head(&*store).await?.position;
    let applied: Vec<_> = after
        .iter()
        .filter(|version| !before.contains(version))
        .collect();
    let json = json!({
        "store": store.kind().to_string(),
        "migrations_applied": applied,
        "schema": after.last(),
        "projections_filled": filled,
        "position": position,
    });
    let mut text = match applied.len() {
        0 => format!(
            "the schema is current (migration {})",
            after.last().unwrap_or(&0)
        ),
        count => format!(
            "applied {count} migrations, up to {}",
            after.last().unwrap_or(&0)
        ),
    };
    // Writing to a string cannot fail.
    let _ = match filled.as_slice() {
        [] => write!(
            text,
            "\nthe projections are current, at position {position}"
        ),
        filled => write!(
            text,
            "\nfilled {}, up to position {position}",
            filled.join(", ")
        ),
    };
    store.close().await;
    output.result(&json, &text)?;
    Ok(Outcome::Fine)
}
