//! `crewlog verify`: whether the log is what was written.
//!
//! Reads only, and works beside a running server. Needs no key; where the root key is at hand,
//! contents are opened and hashed as well.

use std::{fmt::Write, sync::Arc};

use serde_json::json;

use super::{
    Failure, Outcome, Output, Place,
    progress::{Meter, rate},
    root_key,
};
use crate::{
    journal::{SystemSource, sealing::Keyring, stores::Store},
    service::{VerifyReport, verify},
};

/// Verifies the log and prints what was found.
///
/// # Errors
/// When the store cannot be read.
pub async fn run(place: Place, output: Output) -> Result<Outcome, Failure> {
    let store = place.open_for_reading().await?;
    let mut meter = Meter::start("verifying");
    let keys = keys(&place, &store).await?;
    let report = verify(&*store, keys.as_ref(), |progress| meter.show(progress)).await;
    meter.finish();
    let report = report?;
    output.result(&as_json(&report), &as_text(&report))?;
    Ok(match report.holds() {
        true => Outcome::Fine,
        false => Outcome::Difference,
    })
}

/// The keys of the store, where the root key is at hand.
async fn keys(place: &Place, store: &Arc<dyn Store>) -> Result<Option<Keyring>, Failure> {
    let source = Arc::new(SystemSource);
    let Some(root) = root_key::present(place)? else {
        return Ok(None);
    };
    let keys = Keyring::open(store.clone(), source, &root, false).await;
    Ok(Some(keys?))
}

fn as_json(report: &VerifyReport) -> serde_json::Value {
    let failures: Vec<_> = report
        .failures
        .iter()
        .map(|failure| json!({"position": failure.position, "detail": failure.detail}))
        .collect();
    json!({
        "holds": report.holds(),
        "entries": report.entries,
        "scopes": report.scopes,
        "contents": report.contents,
        "tiles": report.tiles,
        "checkpoints": report.checkpoints,
        "root": report.root,
        "failing": report.failing,
        "failures": failures,
        "elapsed_ms": report.elapsed.as_millis() as u64,
        "entries_per_second": rate(report.entries, report.elapsed),
    })
}

fn as_text(report: &VerifyReport) -> String {
    let verdict = if report.holds() {
        "the log is as it was written"
    } else {
        "THE LOG IS NOT AS IT WAS WRITTEN"
    };
    let rate = rate(report.entries, report.elapsed);
    let mut text = format!(
        "{verdict}: {} entries in {} scopes, {rate} entries/s\nroot {}\n",
        report.entries, report.scopes, report.root
    );
    for failure in &report.failures {
        let place = failure.position.map_or_else(
            || "the log".to_owned(),
            |position| format!("position {position}"),
        );
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{place}: {}", failure.detail);
    }
    let untold = report.failing - report.failures.len() as u64;
    if untold > 0 {
        let _ = writeln!(text, "and {untold} more");
    }
    text
}
