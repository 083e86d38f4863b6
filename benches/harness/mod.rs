//! What the benchmarks share: a log to measure on, the processor's time, and medians.
//!
//! A machine that others use changes its speed by the second: sides are measured in turn
//! within one run, each round gives one ratio, and what is told is the median of the ratios.
#![allow(
    dead_code,
    reason = "each benchmark is a program of its own and uses a part of this"
)]

pub mod http;
pub mod log;
pub mod owner;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crewlog::journal::stores::{Store, StoreError, postgres::PostgresStore, sqlite::SqliteStore};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};
use tempfile::TempDir;

use crate::support::postgres::{Cluster, Database};

/// A store of its own for a benchmark, and what it is made in.
pub struct Place {
    pub name: &'static str,
    pub folder: TempDir,
    pub database: Option<Database>,
}

impl Place {
    /// An empty place on each store.
    pub async fn both(cluster: &Cluster) -> [Self; 2] {
        let database = cluster.database().await;
        let place = |name, database| Self {
            name,
            folder: tempfile::tempdir().expect("a folder can be made"),
            database,
        };
        [
            place("SQLite", None),
            place(
                "PostgreSQL",
                Some(database.expect("a database can be made")),
            ),
        ]
    }

    /// An embedded store has one who writes: whoever was told to stop may take a moment to let go.
    async fn open_file(&self) -> SqliteStore {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match SqliteStore::open(self.folder.path()).await {
                Err(StoreError::Held { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                opened => return opened.expect("it opens"),
            }
        }
    }

    /// Opens the store for writing.
    pub async fn open(&self) -> Arc<dyn Store> {
        match &self.database {
            None => Arc::new(self.open_file().await),
            Some(database) => {
                Arc::new(PostgresStore::open(database.url()).await.expect("it opens"))
            }
        }
    }
}

/// Calls of several callers at once for `seconds`; answers how many there were a second, and
/// the processor time of this process for one.
pub async fn calls<F>(
    callers: usize,
    seconds: f64,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> (f64, f64)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (cpu_before, started) = (cpu_time(), Instant::now());
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut calls = 0;
                while started.elapsed().as_secs_f64() < seconds {
                    call(caller + calls * callers).await;
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await.expect("no caller fails");
    }
    let calls = calls.max(1) as f64;
    let cpu_us = (cpu_time() - cpu_before).as_secs_f64() * 1e6 / calls;
    (calls / started.elapsed().as_secs_f64(), cpu_us)
}

/// What one measurement took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub seconds: f64,
    /// Processor time of this process; a PostgreSQL server's is not in it.
    pub cpu_seconds: f64,
}

/// Measures a piece of work.
pub async fn taken<T>(work: impl Future<Output = T>) -> (Taken, T) {
    let (cpu_before, started) = (cpu_time(), Instant::now());
    let answer = work.await;
    let taken = Taken {
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: (cpu_time() - cpu_before).as_secs_f64(),
    };
    (taken, answer)
}

/// The processor time that this process has taken.
pub fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process knows its own usage");
    let of = |time: TimeVal| Duration::from_micros(time.num_microseconds() as u64);
    of(usage.user_time()) + of(usage.system_time())
}

/// The middle value; 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A number that an operator may set in the environment.
pub fn setting(name: &str, default: f64) -> f64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}
