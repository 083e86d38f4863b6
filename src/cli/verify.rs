//! `crewlog verify`: whether the log is what was written.
//!
//! Reads only, and works beside a running server. Needs no key; where the root key is at hand,
//! contents are opened and hashed as well. Statements are recounted from their usage records. With `--offline` it reads an export instead, and needs
//! nothing but a key of the log.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::json;

use super::{
    Failure, Outcome, Output, Place,
    progress::{Meter, rate},
    root_key,
};
use crate::{
    journal::{SystemSource, sealing::Keyring, stores::Store},
    proofs::note::VerifierKey,
    service::{
        VerifyReport,
        offline::{self, Kept, OfflineReport},
        verify,
    },
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Verify this export, with no store and no server
    #[arg(long, value_name = "EXPORT", requires = "key")]
    offline: Option<PathBuf>,
    /// With --offline: a checkpoint that was kept
    #[arg(long, value_name = "FILE", requires = "offline")]
    checkpoint: Option<PathBuf>,
    /// With --checkpoint: what proves that one of another size is of the same log, as
    /// GET /v1/log/proof/consistency answers it
    #[arg(long, value_name = "FILE", requires = "checkpoint")]
    consistency: Option<PathBuf>,
    /// With --offline: a key of the log, as `crewlog keys` shows it; may be given several times
    #[arg(long, value_name = "VERIFIER", requires = "offline")]
    #[arg(value_parser = VerifierKey::of_log)]
    key: Vec<VerifierKey>,
}

impl Arguments {
    /// What is to be verified offline, where something is.
    pub fn offline(self) -> Option<Offline> {
        let Self {
            offline,
            checkpoint,
            consistency,
            key,
        } = self;
        offline.map(|export| Offline {
            export,
            checkpoint,
            consistency,
            keys: key,
        })
    }
}

/// An export, and what it is verified by.
#[derive(Debug)]
pub struct Offline {
    export: PathBuf,
    checkpoint: Option<PathBuf>,
    consistency: Option<PathBuf>,
    keys: Vec<VerifierKey>,
}

/// Verifies an export and prints what was found.
///
/// # Errors
/// When a file cannot be read.
pub fn run_offline(offline: Offline, output: Output) -> Result<Outcome, Failure> {
    let cannot = |file: &Path, error: std::io::Error| {
        Failure::could_not_run(format!(
            "the file {} cannot be read: {error}",
            file.display()
        ))
    };
    let text = |file: &Option<PathBuf>| match file {
        Some(file) => match std::fs::read_to_string(file) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(cannot(file, error)),
        },
        None => Ok(None),
    };
    let (checkpoint, consistency) = (text(&offline.checkpoint)?, text(&offline.consistency)?);
    let kept = checkpoint.as_deref().map(|checkpoint| Kept {
        checkpoint,
        consistency: consistency.as_deref(),
    });
    let open = || std::fs::File::open(&offline.export).map(std::io::BufReader::new);
    let report = offline::verify(open, kept, &offline.keys);
    let report = report.map_err(|error| cannot(&offline.export, error))?;
    output.result(&offline_as_json(&report), &offline_as_text(&report))?;
    Ok(match report.holds() {
        true => Outcome::Fine,
        false => Outcome::Difference,
    })
}

fn offline_as_json(report: &OfflineReport) -> serde_json::Value {
    let failures = report.failures.iter().map(|failure| {
        json!({"position": failure.position, "line": failure.line, "detail": failure.detail})
    });
    json!({
        "holds": report.holds(),
        "entries": report.entries,
        "opened": report.opened,
        "names_told": report.names_told,
        "about": report.about,
        "failing": report.failing,
        "failures": failures.collect::<Vec<_>>(),
    })
}

fn offline_as_text(report: &OfflineReport) -> String {
    let about = report.about.as_ref();
    let of_review = about.and_then(|about| about["access_review"].as_str());
    if let Some(review) = of_review {
        return with_failures(report, report_text(report, review));
    }
    let verdict = match report.holds() {
        true => "the export is what the log says",
        false => "THE EXPORT IS NOT WHAT THE LOG SAYS",
    };
    let mut text = format!("{verdict}: {} entries", report.entries);
    let about = about.map(|about| (&about["scope"], &about["tree_size"], &about["complete"]));
    // Writing to a string cannot fail.
    if let Some((scope, size, complete)) = about {
        let scope = scope.as_str().unwrap_or_default();
        let _ = write!(text, " of {scope}, as of a log of {size}");
        if *complete == json!(true) {
            let _ = write!(text, ", none left out between the first and the last");
        }
    }
    let _ = writeln!(
        text,
        "\n{} opened values are what was committed to; {} names are told, not proven here",
        report.opened, report.names_told
    );
    with_failures(report, text)
}

/// Of a report on access.
fn report_text(report: &OfflineReport, review: &str) -> String {
    let verdict = match report.holds() {
        true => "the report is what the log has signed",
        false => "THE REPORT IS NOT WHAT THE LOG HAS SIGNED",
    };
    let about = report.about.as_ref();
    let size = about
        .map_or(&json!(null), |about| &about["tree_size"])
        .clone();
    let count = report.entries;
    format!("{verdict}: {count} accesses of {review}, as of a log of {size}\n")
}

fn with_failures(report: &OfflineReport, mut text: String) -> String {
    // Writing to a string cannot fail.
    for failure in &report.failures {
        let place = match (failure.position, failure.line) {
            (Some(position), Some(line)) => format!("position {position} (line {line})"),
            (Some(position), None) => format!("position {position}"),
            (None, Some(line)) => format!("line {line}"),
            (None, None) => "the file".to_owned(),
        };
        let _ = writeln!(text, "{place}: {}", failure.detail);
    }
    let untold = report.failing - report.failures.len() as u64;
    if untold > 0 {
        let _ = writeln!(text, "and {untold} more");
    }
    text
}

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
        "statements": report.statements,
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
