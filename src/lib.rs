//! Crewlog: an event-sourced, audit-first control plane. The map, one line a room:
//!
//! - [`domain`]: what may happen: pure rules, one folder per aggregate
//! - [`journal`]: how it is written and read back
//! - [`projections`]: what is read: pure folds, and the engine that keeps them
//! - [`proofs`]: why it can be believed
//! - [`service`]: what a caller can ask, one file a capability
//! - [`transfer`]: a whole store carried into another: moved, kept as a backup, restored
//! - [`api`]: REST: routes, extractors, problems
//! - [`cli`]: one file a command
//! - [`traces`]: what a request spends its time on, for those who collect that

// What is printed goes through `cli::output`, and the rest to the log.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod api;
pub mod cli;
pub mod domain;
pub mod journal;
pub mod projections;
pub mod proofs;
pub mod service;
pub mod traces;
pub mod transfer;
