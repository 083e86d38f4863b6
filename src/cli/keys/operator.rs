//! `crewlog keys operator`: the keys by which operators of the installation are known.
//!
//! Listing reads only and works beside a server. Making and revoking write to the log, like any
//! other process that does: on SQLite with the server stopped; on PostgreSQL beside servers, which
//! refuse a revoked key from then on. A secret goes to stdout once, and is kept nowhere.

use std::{fmt::Write, sync::Arc, time::Duration};

use chrono::TimeDelta;
use clap::Subcommand;
use serde_json::{Value, json};

use super::super::{Failure, Outcome, Output, Place, root_key, serve};
use crate::{
    domain::{Name, Timestamp, ids::KeyId},
    journal::{Source, SystemSource, stores::postgres::ServingLock},
    service::{OperatorKeyView, Service, ServiceSettings},
};

/// How long what was written may take to be finished.
const STOP_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key, and print its secret, which is shown this once
    Create {
        /// Whose it is, or what for: those who are suspended read it in their audit log
        #[arg(long, value_name = "NAME", value_parser = Name::parse)]
        name: Name,
        /// After how long it counts no more; it lasts, where nothing is said
        #[arg(long, value_name = "DAYS")]
        #[arg(value_parser = clap::value_parser!(u16).range(1..=3_650))]
        expires_in_days: Option<u16>,
    },
    /// List the keys, those that are over too
    List,
    /// Take a key back: from then on it is good for nothing
    Revoke {
        /// Its id, as it is listed
        #[arg(value_name = "KEY")]
        key: KeyId,
    },
}

/// Does what was asked, and prints the keys that it was about.
///
/// # Errors
/// When the store cannot be read, or not be written where it must be; when there is no such key.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    match arguments.action {
        Action::List => list(place, output).await,
        Action::Create {
            name,
            expires_in_days,
        } => {
            let source = SystemSource;
            let end = |days: u16| source.now().plus(TimeDelta::days(days.into()));
            let expires_at = expires_in_days.map(end);
            let (service, _lock) = writing(&place).await?;
            let made = service.create_operator_key(name, expires_at).await;
            finished(&service).await?;
            let (view, secret) = made?;
            let mut shown = as_json(&view);
            shown["secret"] = json!(secret.expose());
            let text = format!("{}\n{}", secret.expose(), line(&view));
            output.result(&shown, &text)?;
            Ok(Outcome::Fine)
        }
        Action::Revoke { key } => {
            let (service, _lock) = writing(&place).await?;
            let revoked = service.revoke_operator_key(key).await;
            finished(&service).await?;
            let view = revoked?;
            output.result(&as_json(&view), &line(&view))?;
            Ok(Outcome::Fine)
        }
    }
}

async fn list(place: Place, output: Output) -> Result<Outcome, Failure> {
    let store = place.open_for_reading().await?;
    let source = Arc::new(SystemSource);
    let root = root_key::of(&place, &*store, &*source).await?;
    let service = Service::for_reading(store, source, &root).await?;
    let keys = service.operator_keys().await?;
    let shown: Vec<_> = keys.iter().map(as_json).collect();
    let text: String = keys.iter().map(line).collect();
    output.result(&json!({"keys": shown}), &text)?;
    Ok(Outcome::Fine)
}

/// The service as a server has it, but for what comes in from outside.
async fn writing(place: &Place) -> Result<(Arc<Service>, Option<ServingLock>), Failure> {
    let (store, lock) = serve::open(place).await?;
    let source: Arc<dyn Source> = Arc::new(SystemSource);
    let root = root_key::of(place, &*store, &*source).await?;
    let settings = ServiceSettings::default();
    let service = Service::start(store, source, &root, settings).await?;
    Ok((service, lock))
}

async fn finished(service: &Service) -> Result<(), Failure> {
    match service.stop(STOP_WITHIN).await {
        true => Ok(()),
        false => Err(Failure::could_not_run(
            "what was asked could not be written in time; list the keys to see whether it was",
        )),
    }
}

fn as_json(view: &OperatorKeyView) -> Value {
    let key = &view.key;
    let time = |time: Option<Timestamp>| time.map(Timestamp::to_rfc3339);
    json!({
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "status": view.status,
        "created_at": key.created_at.to_rfc3339(),
        "expires_at": time(key.expires_at),
        "revoked_at": time(key.revoked_at),
        "last_used_at": time(view.last_used_at),
    })
}

/// One line, the id first: what scripts cut off.
fn line(view: &OperatorKeyView) -> String {
    let key = &view.key;
    let mut line = format!(
        "{}  {:<8}  {}…  made {}",
        key.id,
        view.status,
        key.prefix,
        key.created_at.to_rfc3339()
    );
    let moments = [
        (
            "expires",
            key.expires_at.filter(|_| key.revoked_at.is_none()),
        ),
        ("revoked", key.revoked_at),
        ("last used", view.last_used_at),
    ];
    for (what, moment) in moments {
        if let Some(moment) = moment {
            // Writing to a string cannot fail.
            let _ = write!(line, ", {what} {}", moment.to_rfc3339());
        }
    }
    let _ = writeln!(line, "  {}", key.name);
    line
}
