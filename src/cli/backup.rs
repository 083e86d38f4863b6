//! `crewlog backup`: a backup in a folder of its own, beside a running server.

use std::path::PathBuf;

use serde_json::json;

use super::{
    Failure, Outcome, Output, Place,
    moving::differs,
    progress::{Steps, rate},
};
use crate::{
    journal::SystemSource,
    transfer::{BackedUp, backup, keep_keys},
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder to make; without it, only the keys are kept
    #[arg(value_name = "DIR", required_unless_present = "keys")]
    folder: Option<PathBuf>,
    /// Write the keys here, rather than into the folder: keep them apart, and only the newest few
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

/// Makes a backup and prints what is in it.
///
/// # Errors
/// When the store cannot be read, or the folder not be made.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    let store = place.open_for_reading().await?;
    let Some(folder) = arguments.folder else {
        let file = arguments.keys.unwrap_or_default();
        let (keys, position) = keep_keys(&*store, &file, &SystemSource).await?;
        let json = json!({"keys": keys, "position": position});
        let text = format!(
            "kept {keys} keys, as of position {position}, in {}",
            file.display()
        );
        output.result(&json, &text)?;
        return Ok(Outcome::Fine);
    };
    let mut steps = Steps::default();
    let told = |step| steps.show(step);
    let keys = arguments.keys.as_deref();
    let made = backup(&*store, &place.shown(), &folder, keys, &SystemSource, told).await;
    steps.finish();
    store.close().await;
    match made {
        Ok(made) => output.result(&as_json(&made), &as_text(&made))?,
        Err(error) => return differs(&error, output)?.ok_or_else(|| error.into()),
    }
    Ok(Outcome::Fine)
}

fn as_json(made: &BackedUp) -> serde_json::Value {
    json!({
        "folder": made.folder.display().to_string(),
        "keys": made.keys.display().to_string(),
        "manifest": made.manifest,
        "elapsed_ms": made.elapsed.as_millis() as u64,
    })
}

fn as_text(made: &BackedUp) -> String {
    let manifest = &made.manifest;
    let rows = manifest.rows.values().sum();
    format!(
        "backed up {rows} rows in {:.1} s, {} rows/s, {} bytes, in {}\nits keys are in {}; without \
         them, and the root key, nothing personal in it can be read\nposition {}, root {}",
        made.elapsed.as_secs_f64(),
        rate(rows, made.elapsed),
        manifest.file.size,
        made.folder.display(),
        made.keys.display(),
        manifest.position,
        manifest.root,
    )
}
