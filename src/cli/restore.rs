//! `crewlog restore`: makes a store of a backup, in the place that --data or --database-url names.
//!
//! Without a backup it only erases again, in a store that was restored by other means, whoever was
//! erased since.

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;

use super::{
    Failure, Outcome, Output, Place,
    moving::differs,
    progress::{Steps, rate},
    root_key,
};
use crate::{
    journal::SystemSource,
    proofs::note::VerifierKey,
    transfer::{Backup, NotExtended, Restored, TransferError, repeat_erasures, restore},
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of the backup; without it, the store that is there is only freed of the keys that
    /// the file of --keys has no more
    #[arg(value_name = "DIR", required_unless_present = "keys")]
    folder: Option<PathBuf>,
    /// The file of keys: the newest there is, so that who was erased since the backup stays erased
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// A checkpoint of the log that was kept elsewhere: refuse a backup that does not go as far, or
    /// has another history
    #[arg(long, value_name = "FILE", requires = "folder")]
    checkpoint: Option<PathBuf>,
    /// With --checkpoint: a key of the log, as `crewlog keys` shows it, where the log has got one
    /// since the backup; may be given several times
    #[arg(long, value_name = "VERIFIER", requires = "checkpoint")]
    #[arg(value_parser = VerifierKey::of_log)]
    key: Vec<VerifierKey>,
    /// With --checkpoint: restore also where entries are lost that it covers
    #[arg(long, requires = "checkpoint")]
    rolled_back: bool,
}

/// Restores and prints what was restored.
///
/// # Errors
/// When the backup cannot be read, or the place not be used or is not empty.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    let Some(folder) = &arguments.folder else {
        return erase_again(&arguments.keys.unwrap_or_default(), &place, output).await;
    };
    let mut steps = Steps::default();
    let backup = Backup::open(folder, |step| steps.show(step)).await;
    let backup = match backup {
        Ok(backup) => backup,
        Err(error) => return ended(&error, steps, output)?.ok_or_else(|| error.into()),
    };
    let lost = match compare(&arguments, &backup).await? {
        Ok(()) => None,
        Err(NotExtended::RolledBack { position, size }) if arguments.rolled_back => {
            Some(size - position)
        }
        Err(why) => {
            steps.finish();
            output.result(&not_extended(&why), &why.to_string())?;
            return Ok(Outcome::Difference);
        }
    };
    let root = root_key::present(&place)?;
    let mut target = place.open_end().await?;
    let told = |step| steps.show(step);
    let keys = arguments.keys.as_deref();
    let restored = restore(
        &backup,
        keys,
        &mut target,
        root.as_ref(),
        &SystemSource,
        told,
    )
    .await;
    target.store.close().await;
    let restored = match restored {
        Ok(restored) => restored,
        Err(error) => return ended(&error, steps, output)?.ok_or_else(|| error.into()),
    };
    steps.finish();
    let is_told = root.is_some();
    output.result(
        &as_json(&restored, &place, lost),
        &as_text(&restored, &backup, &place, is_told),
    )?;
    Ok(Outcome::Fine)
}

fn ended(
    error: &TransferError,
    mut steps: Steps,
    output: Output,
) -> Result<Option<Outcome>, Failure> {
    steps.finish();
    differs(error, output)
}

async fn compare(
    arguments: &Arguments,
    backup: &Backup,
) -> Result<Result<(), NotExtended>, Failure> {
    let Some(file) = &arguments.checkpoint else {
        return Ok(Ok(()));
    };
    let checkpoint = std::fs::read_to_string(file).map_err(|error| {
        Failure::could_not_run(format!(
            "the file {} cannot be read: {error}",
            file.display()
        ))
    })?;
    Ok(backup.extends(&checkpoint, &arguments.key).await?)
}

fn not_extended(why: &NotExtended) -> serde_json::Value {
    let (kind, size, position) = match why {
        NotExtended::RolledBack { position, size } => ("rolled_back", Some(size), Some(position)),
        NotExtended::Forked { size } => ("another_history", Some(size), None),
        NotExtended::Unbelieved(_) => ("unbelieved", None, None),
    };
    json!({
        "holds": false,
        "why": kind,
        "checkpoint_size": size,
        "position": position,
        "detail": why.to_string(),
    })
}

async fn erase_again(keys: &Path, place: &Place, output: Output) -> Result<Outcome, Failure> {
    // There must be a store: opening an end would make one.
    place.open_for_reading().await?.close().await;
    let mut store = place.open_end().await?;
    let erased = repeat_erasures(&mut store, keys).await;
    store.store.close().await;
    let erased = match erased {
        Ok(erased) => erased,
        Err(error) => return differs(&error, output)?.ok_or_else(|| error.into()),
    };
    let text = match erased {
        Some(erased) => format!("destroyed {erased} keys of people who were erased since"),
        None => "the file of keys is older than the store, which knows who was erased".to_owned(),
    };
    output.result(&json!({"erased": erased}), &text)?;
    Ok(Outcome::Fine)
}

fn as_json(restored: &Restored, place: &Place, lost: Option<u64>) -> serde_json::Value {
    let rows: serde_json::Map<_, _> = restored
        .rows
        .iter()
        .map(|(table, rows)| (table.clone(), json!(rows)))
        .collect();
    json!({
        "holds": true,
        "to": place.shown(),
        "position": restored.position,
        "root": BASE64_STANDARD.encode(restored.root),
        "rows": rows,
        "keys": restored.keys,
        "erased": restored.erased,
        "erased_as_of": restored.erased_as_of,
        "entries_lost": lost,
        "elapsed_ms": restored.elapsed.as_millis() as u64,
    })
}

fn as_text(restored: &Restored, backup: &Backup, place: &Place, has_root_key: bool) -> String {
    let rows = restored.rows.iter().map(|(_, rows)| rows).sum();
    let mut text = format!(
        "restored {rows} rows to {} in {:.1} s, {} rows/s; every one was compared\nposition {}, root \
         {}\n{} people who were erased since are erased again",
        place.shown(),
        restored.elapsed.as_secs_f64(),
        rate(rows, restored.elapsed),
        restored.position,
        BASE64_STANDARD.encode(restored.root),
        restored.erased,
    );
    if restored.erased_as_of == backup.manifest.position {
        text.push_str(
            "; the keys are as old as the backup, which does not know who was erased after it",
        );
    }
    if !has_root_key {
        text.push_str("\nput the root key there before you serve from it");
    }
    text
}
