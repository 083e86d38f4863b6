//! Faults, made on purpose, in the real program under load; see `docs/reliability.md`.
//!
//! A short form of each runs with all other tests. The long form takes minutes:
//!
//! ```text
//! CREWLOG_FAULT_ROUNDS=20 cargo test --test it -- faults
//! ```

mod chaos;
mod crashes;
mod disks;
pub mod failover;
mod floods;
pub mod outages;
mod processes;
mod rolling;

use crate::projections::assert_store_is_its_log;
use crate::support::commands::{crewlog_on, run};
use crate::support::journal::reading;
use crate::support::load::{Figures, Load};
use crate::support::trials::{self, Case, StoreUnderTest};

pub fn trials() -> Vec<Case> {
    [
        chaos::trials(),
        crashes::trials(),
        disks::trials(),
        failover::trials(),
        floods::trials(),
        outages::trials(),
        processes::trials(),
        rolling::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How often a fault is made: as often as the environment says, in the short form `short` times.
fn rounds(short: usize) -> usize {
    trials::rounds(trials::FAULT_ROUNDS, short)
}

/// That the log is whole and says of every command what its client was told.
async fn check(store: &StoreUnderTest, load: &Load) -> Figures {
    let reading = reading(store).await;
    let figures = load.check(&*reading).await;
    reading.close().await;
    figures
}

/// The same, and that the documents are a fold of it, by three ways of looking: the naive fold,
/// `replay --check` and `verify`.
pub async fn check_all(store: &StoreUnderTest, load: &Load) -> Figures {
    let figures = check(store, load).await;
    let reading = reading(store).await;
    assert_store_is_its_log(&*reading).await;
    reading.close().await;
    run(crewlog_on(store, &["verify"])).expect(0);
    run(crewlog_on(store, &["replay", "--check"])).expect(0);
    figures
}

/// A row of the table in `docs/reliability.md`.
fn tell(name: &str, store: &StoreUnderTest, faults: usize, figures: &Figures) {
    let Figures {
        commands,
        attempts,
        done,
        refused,
        entries,
        found,
        slowest,
    } = figures;
    println!(
        "| {name} | {:?} | {faults} | {commands} | {attempts} | {done} | {refused} | {found} | \
         {entries} | 0 | 0 | {:.1} s |",
        store.kind(),
        slowest.as_secs_f64()
    );
}

/// A seed that is another one each time; it is printed.
fn seed() -> u64 {
    u64::from(rand::random::<u32>())
}
