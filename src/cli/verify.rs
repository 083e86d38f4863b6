//! `crewlog verify`: whether the log is what was written.
//!
//! Reads only, needs no key, and works beside a running server.

use std::fmt::Write;

use serde_json::json;

use super::{
    Failure, Outcome, Output, Place,
    progress::{Meter, rate},
};
use crate::service::{VerifyReport, verify};

/// Verifies the log and prints what was found.
///
/// # Errors
/// When the store cannot be read.
pub async fn run(place: Place, output: Output) -> Result<Outcome, Failure> {
    let store = place.open_for_reading().await?;
    let mut meter = Meter::start("verifying");
    let report = verify(&*store, |progress| meter.show(progress)).await;
    meter.finish();
    let report = report?;
    output.result(&as_json(&report), &as_text(&report))?;
    Ok(match report.holds() {
        true => Outcome::Fine,
        false => Outcome::Difference,
    })
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
