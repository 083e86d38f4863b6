//! `crewlog keys`: the keys that sign checkpoints, shown and rotated; with `operator` those of the
//! installation's operators, in [`operator`]; with `rotate-root` the root key, in [`root`].
//!
//! Showing reads only and works beside a server. Rotating writes: on SQLite with the server
//! stopped; on PostgreSQL beside servers, which sign with the new key within a second.

mod operator;
mod root;

use clap::Subcommand;
use serde_json::json;

use super::{Failure, Outcome, Output, Place, root_key};
use crate::{
    journal::{SystemSource, sealing::Keyring, stores::Store},
    service::signing::{self, KnownKey, OVERLAP_DAYS},
};
use std::{fmt::Write, sync::Arc, time::Duration};

/// How long to wait for who is alone with the store.
const LOCK_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make, list and revoke the keys by which operators of the installation are known
    Operator(operator::Arguments),
    /// Put a new root key in place of the present one, while nobody serves
    RotateRoot(root::Arguments),
    /// Put a new key in place of the newest, which goes on signing beside it for a while
    Rotate {
        /// How long the old key goes on signing
        #[arg(long, value_name = "DAYS", default_value_t = OVERLAP_DAYS)]
        #[arg(value_parser = clap::value_parser!(u16).range(0..=3_650))]
        overlap_days: u16,
    },
}

/// Prints the verifiers of this log, after rotating where that was asked for.
///
/// # Errors
/// When the store cannot be read, or not be written where it must be.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    let store = match arguments.action {
        Some(Action::Operator(arguments)) => {
            return operator::run(arguments, place, output).await;
        }
        Some(Action::RotateRoot(arguments)) => {
            return root::run(arguments, place, output).await;
        }
        None => place.open_for_reading().await?,
        Some(Action::Rotate { overlap_days }) => {
            // Whoever is alone with the store may be rotating the root key.
            let _lock = place.together(LOCK_WAIT).await?;
            let store = place.open_for_writing().await?;
            rotate(&place, &store, overlap_days).await?;
            store
        }
    };
    let known = signing::known(&*store).await?;
    if known.is_empty() {
        return Err(signing::SigningError::Missing.into());
    }
    output.result(&as_json(&known), &as_text(&known))?;
    Ok(Outcome::Fine)
}

async fn rotate(place: &Place, store: &Arc<dyn Store>, days: u16) -> Result<(), Failure> {
    let source = Arc::new(SystemSource);
    if !Keyring::has_root_key(&**store).await? {
        return Err(signing::SigningError::Missing.into());
    }
    let root = root_key::of(place, &**store, &*source).await?;
    let keys = Keyring::open(store.clone(), source, &root, false).await?;
    signing::rotate(&**store, &keys, chrono::TimeDelta::days(days.into())).await?;
    Ok(())
}

fn as_json(known: &[KnownKey]) -> serde_json::Value {
    let keys = known.iter().map(|key| {
        json!({
            "verifier": key.verifier.as_str(),
            "created_at": key.created_at.to_rfc3339(),
            "signs_until": key.signs_until.map(crate::domain::Timestamp::to_rfc3339),
        })
    });
    json!({"keys": keys.collect::<Vec<_>>()})
}

/// One line a key, the verifier first: what scripts cut off.
fn as_text(known: &[KnownKey]) -> String {
    let mut text = String::new();
    for key in known {
        let until = match key.signs_until {
            Some(until) => format!("signs until {}", until.to_rfc3339()),
            None => "signs".to_owned(),
        };
        let (verifier, since) = (key.verifier.as_str(), key.created_at.to_rfc3339());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{verifier}  made {since}, {until}");
    }
    text
}
