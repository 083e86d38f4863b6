//! `crewlog replay`: folds the projections again from the whole log, or checks them against it.

use std::fmt::Write;

use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::{
    Failure, Outcome, Output, Place,
    progress::{Meter, rate},
};
use crate::projections::{self, CheckReport, Difference};

/// Characters of a row that are shown of a difference, in text.
const SHOWN_CHARACTERS: usize = 400;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The one to rebuild; without it, all of them
    #[arg(value_parser = PossibleValuesParser::new(projections::names()))]
    name: Option<String>,
    /// Change nothing: fold into a scratch folder and compare; works beside a running server
    #[arg(long, conflicts_with = "name")]
    check: bool,
}

/// Rebuilds or checks, as the arguments say.
///
/// # Errors
/// When the store cannot be used, is being served (for a rebuild), or cannot be folded.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    if arguments.check {
        check(&place, output).await
    } else {
        rebuild(arguments.name, &place, output).await
    }
}

async fn rebuild(name: Option<String>, place: &Place, output: Output) -> Result<Outcome, Failure> {
    // There must be something to replay: opening for writing would make a store.
    place.open_for_reading().await?.close().await;
    let alone = place.alone().await?.ok_or_else(|| {
        Failure::could_not_run(
            "a server is serving from this database; stop the servers first, then replay \
             (`crewlog replay --check` works beside them)",
        )
    })?;
    let store = place.open_for_writing().await?;
    let which = match &name {
        Some(name) => vec![name.as_str()],
        None => projections::names(),
    };
    let started = std::time::Instant::now();
    let mut meter = Meter::start("replaying");
    let position = projections::rebuild(&*store, &which, |progress| meter.show(progress)).await;
    meter.finish();
    let position = position?;
    let elapsed = started.elapsed();
    store.close().await;
    drop(alone);
    let rate = rate(position, elapsed);
    let json = json!({
        "rebuilt": which,
        "position": position,
        "elapsed_ms": elapsed.as_millis() as u64,
        "entries_per_second": rate,
    });
    let text = format!(
        "replayed {position} entries into {} in {:.1} s, {rate} entries/s",
        which.join(", "),
        elapsed.as_secs_f64()
    );
    output.result(&json, &text)?;
    Ok(Outcome::Fine)
}

async fn check(place: &Place, output: Output) -> Result<Outcome, Failure> {
    let store = place.open_for_reading().await?;
    let scratch = tempfile::tempdir().map_err(|error| {
        Failure::could_not_run(format!(
            "a scratch folder cannot be made in {} ({error}); name another with TMPDIR",
            std::env::temp_dir().display()
        ))
    })?;
    let mut meter = Meter::start("checking");
    let report = projections::check(&*store, scratch.path(), |progress| meter.show(progress)).await;
    meter.finish();
    let report = report?;
    output.result(&as_json(&report), &as_text(&report))?;
    Ok(match report.differing {
        0 => Outcome::Fine,
        _ => Outcome::Difference,
    })
}

fn as_json(report: &CheckReport) -> serde_json::Value {
    let rows: serde_json::Map<_, _> = report
        .rows
        .iter()
        .map(|(name, rows)| (name.clone(), json!(rows)))
        .collect();
    let differences: Vec<_> = report
        .differences
        .iter()
        .map(|difference| {
            json!({
                "projection": difference.projection,
                "key": difference.key,
                "stored": difference.stored,
                "folded": difference.folded,
            })
        })
        .collect();
    json!({
        "position": report.position,
        "rows": rows,
        "differing": report.differing,
        "differences": differences,
    })
}

fn as_text(report: &CheckReport) -> String {
    // Writing to a string cannot fail.
    let mut text = String::new();
    for (name, rows) in &report.rows {
        let _ = writeln!(text, "{name}: {rows} rows compared");
    }
    for Difference {
        projection,
        key,
        stored,
        folded,
    } in &report.differences
    {
        let (stored, folded) = (shown(stored.as_deref()), shown(folded.as_deref()));
        let _ = writeln!(
            text,
            "{projection} {key}\n  stored: {stored}\n  folded: {folded}"
        );
    }
    let untold = report.differing - report.differences.len() as u64;
    if untold > 0 {
        let _ = writeln!(text, "and {untold} more");
    }
    let position = report.position;
    let _ = match report.differing {
        0 => writeln!(
            text,
            "every row is what the log says, at position {position}"
        ),
        differing => writeln!(
            text,
            "{differing} ROWS ARE NOT WHAT THE LOG SAYS, at position {position}; \
             `crewlog replay` folds them again"
        ),
    };
    text
}

fn shown(row: Option<&str>) -> String {
    match row {
        None => "nothing".to_owned(),
        Some(row) if row.chars().count() > SHOWN_CHARACTERS => {
            let start: String = row.chars().take(SHOWN_CHARACTERS).collect();
            format!("{start}… (--json shows all of it)")
        }
        Some(row) => row.to_owned(),
    }
}
