//! What the integration tests stand on. Tests of the program know it only from outside: its command
//! line, its address and its answers. Tests of the journal know the library.
//!
//! - [`trials`]: how a test is declared and run, once for each store.
//! - [`journal`]: the journal on a store, and units made of real commands.
//! - [`load`]: clients that send random commands, and know what they were answered.
//! - [`ledger`]: what must be true of any log, checked without the code that wrote it.
//! - [`postgres`]: a PostgreSQL to test on, and a database of its own for each test.
//! - [`proxy`]: a proxy in front of PostgreSQL that cuts connections.
//! - [`balancer`]: a balancer in front of servers.
//! - [`server`]: the real program as a child process, and a client for it.
//! - [`operated`]: what an operator was given in a store before its server started.
//! - [`commands`]: the program's other commands, run to their end.
//! - [`pages`]: pages that people follow, run and compared with what they show.
//! - [`process`]: child processes that never outlive the tests.
//! - [`scratch`]: directories that never outlive the tests.
//! - [`witness`]: a witness of the log.

pub mod balancer;
pub mod commands;
pub mod journal;
pub mod ledger;
pub mod load;
pub mod mishaps;
pub mod newcomer;
pub mod operated;
pub mod pages;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod scratch;
pub mod server;
pub mod trials;
pub mod witness;

/// The time between the start of the tests and their end; dropping it puts everything away, after
/// a panic too. What a killed process leaves behind, the next one sweeps (see [`scratch`]).
pub struct Session(());

impl Session {
    pub fn begin() -> Self {
        trials::record_panics();
        Self(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        postgres::stop_shared();
        scratch::remove();
    }
}
