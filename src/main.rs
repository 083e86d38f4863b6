//! The program: everything is in [`crewlog::cli`].

use std::process::ExitCode;

/// A batch is made of many small strings; the system's allocator took a tenth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    crewlog::cli::main()
}
