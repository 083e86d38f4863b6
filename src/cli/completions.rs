//! `crewlog completions SHELL`: a completion script.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{CommandLine, Failure, Outcome, Output};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell that it is for
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When stdout does not take it.
pub fn run(arguments: Arguments, output: Output) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut CommandLine::command(),
        "crewlog",
        &mut script,
    );
    output.document(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Fine)
}
