//! The command line: one file a command, and what they share.
//!
//! Data goes to stdout, everything else to stderr. A command answers with an [`Outcome`] or a
//! [`Failure`]; this file alone turns them into exit statuses and one line for a person.
//!
//! To add a command: a file with its arguments and `run`, a line in [`Command`], and one in
//! [`run`].

mod audit;
mod backup;
mod completions;
mod demo;
mod doctor;
mod environment;
mod failure;
mod keys;
mod logging;
mod migrate;
mod moving;
mod openapi;
mod output;
mod place;
mod progress;
mod replay;
mod restore;
mod root_key;
mod serve;
mod verify;

use std::{io::Write, panic::AssertUnwindSafe, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use failure::{Failure, Outcome};
use logging::LogFormat;
use output::Output;
use place::Place;

const AFTER_HELP: &str = "\
The store is SQLite in the data folder, unless a PostgreSQL is named with --database-url, \
CREWLOG_DATABASE_URL, CREWLOG_DATABASE_URL_FILE or DATABASE_URL (looked for in this order). \
The root key is CREWLOG_ROOT_KEY or CREWLOG_ROOT_KEY_FILE, else the file root.key in the data \
folder.

Exit status: 0 ok, 1 found a difference, 2 used wrongly, 3 could not run.";

/// An event-sourced, audit-first control plane on SQLite or PostgreSQL
#[derive(Debug, Parser)]
#[command(name = "crewlog", version, after_help = AFTER_HELP, propagate_version = true)]
#[command(arg_required_else_help = true)]
struct CommandLine {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
struct Global {
    /// The data folder: the embedded store, and the root key
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "CREWLOG_DATA",
        hide_env_values = true
    )]
    #[arg(default_value = "./crewlog-data", help_heading = "Global options")]
    data: PathBuf,
    /// A PostgreSQL (15 or newer) instead of the embedded store: postgres://…; empty: the embedded
    /// store, whatever the environment says
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    database_url: Option<String>,
    /// Print results as JSON
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// What to log: error, warn, info, debug, or a filter such as crewlog=debug
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "CREWLOG_LOG",
        hide_env_values = true
    )]
    #[arg(default_value = "info", help_heading = "Global options")]
    log: String,
    /// How to log: text for people, json for machines, auto: json unless stderr is a terminal
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "CREWLOG_LOG_FORMAT",
        hide_env_values = true
    )]
    #[arg(default_value = "auto", help_heading = "Global options")]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API
    Serve(serve::Arguments),
    /// Make or migrate the schema and the projections, and exit
    Migrate,
    /// Fold the projections again from the whole log, or check them against it
    Replay(replay::Arguments),
    /// Recompute every leaf, every chain and the root of the log; or verify an export offline
    Verify(verify::Arguments),
    /// Follow or export the audit log of a workspace or an organization, or show who has access
    Audit(audit::Arguments),
    /// Move the store for good: from SQLite to PostgreSQL, or back
    Move(moving::Arguments),
    /// Make a backup beside a running server, with the keys apart
    Backup(backup::Arguments),
    /// Make a store of a backup
    Restore(restore::Arguments),
    /// Show the keys that checkpoints of the log are verified with, or rotate them
    Keys(keys::Arguments),
    /// Look for what is wrong with an installation, and say what to do about it
    Doctor(doctor::Arguments),
    /// Print the OpenAPI document
    Openapi,
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

/// Runs the command that the arguments name, and answers with its exit status.
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return told_by_clap(&error),
    };
    // A defect ends like everything that could not run; the hook has said what it is.
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| start(line)));
    match ended {
        Ok(Ok(Outcome::Fine)) => ExitCode::SUCCESS,
        Ok(Ok(Outcome::Difference)) => ExitCode::from(1),
        Ok(Err(failure)) => {
            if let Some(sentence) = failure.sentence() {
                // Where stderr is gone too, the exit status is all there is.
                let _ = writeln!(std::io::stderr(), "crewlog: {sentence}");
            }
            failure.exit_code()
        }
        Err(_) => ExitCode::from(3),
    }
}

/// Help and versions go to stdout with status 0, what was used wrongly to stderr with 2.
fn told_by_clap(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn start(line: CommandLine) -> Result<Outcome, Failure> {
    let traces = match &line.command {
        Command::Serve(arguments) => arguments.traces()?,
        _ => None,
    };
    logging::start(&line.global.log, line.global.log_format, traces.as_ref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::could_not_run(format!("no threads could be started: {error}")))?;
    let ended = runtime.block_on(run(line));
    // What still blocks a thread (a password being hashed) is waited for by nobody.
    runtime.shutdown_background();
    if let Some(traces) = traces {
        traces.stop();
    }
    ended
}

async fn run(line: CommandLine) -> Result<Outcome, Failure> {
    let output = Output::new(line.global.json);
    let place = || Place::of(line.global.data.clone(), line.global.database_url.clone());
    match line.command {
        Command::Serve(arguments) => serve::run(arguments, place()?, output).await,
        Command::Migrate => migrate::run(place()?, output).await,
        Command::Replay(arguments) => replay::run(arguments, place()?, output).await,
        Command::Verify(arguments) => match arguments.offline() {
            Some(offline) => verify::run_offline(offline, output),
            None => verify::run(place()?, output).await,
        },
        Command::Audit(arguments) => audit::run(arguments, place()?, output).await,
        Command::Move(arguments) => moving::run(arguments, place()?, output).await,
        Command::Backup(arguments) => backup::run(arguments, place()?, output).await,
        Command::Restore(arguments) => restore::run(arguments, place()?, output).await,
        Command::Keys(arguments) => keys::run(arguments, place()?, output).await,
        Command::Doctor(arguments) => doctor::run(arguments, place()?, output).await,
        Command::Openapi => openapi::run(output),
        Command::Completions(arguments) => completions::run(arguments, output),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::CommandLine;

    #[test]
    fn the_arguments_are_consistent() {
        CommandLine::command().debug_assert();
    }
}
