//! Logs, on stderr: text for people, JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use super::Failure;
use crate::traces::{TARGET, Traces};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

/// What an operator must see whatever the level: where the server listens, and that it stops.
macro_rules! announce {
    ($($what:tt)+) => {
        tracing::info!(target: "crewlog::lifecycle", $($what)+)
    };
}
pub(super) use announce;

/// Starts logging, and has defects logged on one line instead of printed with a backtrace.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(filter: &str, format: LogFormat, traces: Option<&Traces>) -> Result<(), Failure> {
    let filter = format!("sqlx=warn,{filter},crewlog::lifecycle=info,{TARGET}=off");
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        Failure::used_wrongly(format!(
            "--log cannot be read ({error}); write a level such as info, or a filter such as crewlog=debug"
        ))
    })?;
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed()
    };
    match traces {
        // What the log does not have, nobody makes.
        None => tracing_subscriber::registry()
            .with(lines)
            .with(filter)
            .init(),
        Some(traces) => tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .with(traces.layer())
            .init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let said = panic.payload();
        let said = said.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.payload().downcast_ref::<String>().map(String::as_str));
        tracing::error!(
            place = place.as_deref().unwrap_or("unknown"),
            "a defect of crewlog: {}",
            said.unwrap_or("no message")
        );
    }));
    Ok(())
}
