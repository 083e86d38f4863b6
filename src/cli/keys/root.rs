//! `crewlog keys rotate-root`: another root key in the place of the present one.
//!
//! Wants the store for itself. The file with the new key is there, and on the disk, before anything
//! is written; killed at any moment the command is run again, with the same file.

use std::{path::PathBuf, sync::Arc};

use serde_json::json;

use super::super::{
    Failure, Outcome, Output, Place,
    progress::{Meter, rate},
    root_key,
};
use crate::{
    journal::{Source, SystemSource, sealing::Keyring},
    service::root_key::{RootKeyRotated, rotate},
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file with the new root key; where there is none, it is made
    #[arg(long, value_name = "FILE")]
    new_root_key_file: PathBuf,
}

/// Rotates, and prints what was done.
///
/// # Errors
/// When the store is served from, a key is not the right one, or something cannot be read or written.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    // There must be a store: opening an end would make one.
    place.open_for_reading().await?.close().await;
    let file = arguments.new_root_key_file;
    let source: Arc<dyn Source> = Arc::new(SystemSource);
    let end = place.open_end().await?;
    crate::journal::stores::may_be_written(&*end.store).await?;
    let old = root_key::of_store(&place, &*end.store).await?;
    if !file.exists() {
        // A wrong old key, or a rotation that was begun with another file, makes none.
        Keyring::open(end.store.clone(), source.clone(), &old, false).await?;
        root_key::make_in(&file, &*source)?;
    }
    let new = root_key::read_file(&file)?;
    let mut meter = Meter::counting("wrapping anew", "keys");
    let told = |progress| meter.show(progress);
    let rotated = rotate(end.store.clone(), end.lock, source, &old, &new, told).await;
    meter.finish();
    end.store.close().await;
    let rotated = rotated?;
    output.result(&as_json(&rotated), &as_text(&rotated, &file.display()))?;
    Ok(match rotated.unopened.0 {
        0 => Outcome::Fine,
        _ => Outcome::Difference,
    })
}

fn as_json(rotated: &RootKeyRotated) -> serde_json::Value {
    json!({
        "keys": rotated.keys,
        "unopened": rotated.unopened.0,
        "unopened_names": rotated.unopened.1,
        "was_done": rotated.was_done,
        "elapsed_ms": rotated.elapsed.as_millis() as u64,
    })
}

fn as_text(rotated: &RootKeyRotated, file: &impl std::fmt::Display) -> String {
    let what = match rotated.was_done {
        true => "the root key was rotated before".to_owned(),
        false => format!(
            "wrapped {} keys anew in {:.1} s, {} keys/s",
            rotated.keys,
            rotated.elapsed.as_secs_f64(),
            rate(rotated.keys, rotated.elapsed)
        ),
    };
    let mut text = format!(
        "{what}\nthe store opens with the root key in {file} alone: put it in the place of the old \
         one, make a new backup, and keep the old one apart for as long as there are backups from \
         before"
    );
    let (unopened, names) = &rotated.unopened;
    if *unopened > 0 {
        text.push_str(&format!(
            "\n{unopened} keys open under neither root key, and were left as they are: {}",
            names.join("; ")
        ));
    }
    text
}
