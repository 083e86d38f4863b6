//! Crewlog's integration tests: one binary, so that they link once and share one PostgreSQL.
//!
//! To add a test, declare it in the `trials()` of its module; see [`support::trials`]. To add a
//! module, name it below and in [`cases`].
//!
//! ```text
//! cargo test --test it                       # everything, on both stores
//! cargo test --test it sqlite::              # one store
//! cargo test --test it journal               # whatever contains the word
//! DATABASE_URL=postgres://… cargo test       # a PostgreSQL of yours, see `support::postgres`
//! ```
//!
//! `cargo test` is the runner. nextest works too, but runs every test in a process of its own, and
//! so starts a PostgreSQL for each (about a second); give it one with `DATABASE_URL`.
//!
//! Nothing is captured: what a test prints appears at once, `--nocapture` or not.

mod authority;
mod cli;
mod concurrent;
mod deploy;
mod doctor;
mod edge;
mod endurance;
mod faults;
mod flight;
mod guide;
mod harness;
mod history;
mod journal;
mod ocsf;
mod outcomes;
mod peers;
mod projections;
mod proofs;
mod readme;
mod rebuilds;
mod replicas;
mod rotation;
mod snapshots;
mod support;
mod tls;
mod traces;
mod transfer;

use std::collections::BTreeSet;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use support::trials::{self, Case};

fn cases() -> Vec<Case> {
    [
        authority::trials(),
        cli::trials(),
        concurrent::trials(),
        deploy::trials(),
        doctor::trials(),
        edge::trials(),
        endurance::trials(),
        faults::trials(),
        flight::trials(),
        guide::trials(),
        harness::trials(),
        history::trials(),
        journal::trials(),
        ocsf::trials(),
        outcomes::trials(),
        peers::trials(),
        projections::trials(),
        proofs::trials(),
        readme::trials(),
        rebuilds::trials(),
        replicas::trials(),
        rotation::trials(),
        snapshots::trials(),
        traces::trials(),
        transfer::trials(),
        tls::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    if harness::stand_in::is_wanted() {
        return harness::stand_in::serve();
    }
    let arguments = Arguments::from_args();
    let _session = support::Session::begin();

    let trials: Vec<Trial> = cases().into_iter().flat_map(Case::into_trials).collect();
    let mut names = BTreeSet::new();
    for trial in &trials {
        assert!(
            names.insert(trial.name()),
            "two tests are named {}",
            trial.name()
        );
    }

    let conclusion = libtest_mimic::run(&arguments, trials);
    trials::report_skipped();
    trials::report_slowest();
    conclusion.exit_code()
}
