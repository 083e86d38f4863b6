//! Authority under races: nothing is written on a session, a role or a key that was taken away
//! before it, whoever was first where, and over two processes. See `docs/security.md`.
//!
//! - [`races`] sends random commands from many clients at once; [`model`] then reads the log and
//!   says what nobody may ever have done. It shares no rule with the program.
//! - [`held`] keeps one command waiting at each place where it can wait, takes its authority away
//!   meanwhile, and lets it go.
//! - [`gateways`] asks whether a key is good while it is revoked.
//! - [`grants`] has auditors granted through two processes while whose address it is changes.
//!
//! A short form of each runs with all other tests. The long form takes minutes:
//!
//! ```text
//! CREWLOG_AUTHORITY_ROUNDS=20 cargo test --test it -- authority
//! ```
//!
//! To add a way to lose authority: a `Loss` in [`held`], its command in [`races`], and what it ends
//! in [`model`].

mod gateways;
mod grants;
mod held;
mod model;
mod races;

use crate::support::trials::{self, Case};

pub fn trials() -> Vec<Case> {
    [
        gateways::trials(),
        grants::trials(),
        held::trials(),
        races::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How often a test does what it does: as often as the environment says, in the short form `short`
/// times.
fn rounds(short: usize) -> usize {
    trials::rounds(trials::AUTHORITY_ROUNDS, short)
}
