//! The program: everything is in [`crewlog::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    crewlog::cli::main()
}
