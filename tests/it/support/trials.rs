//! How a test is declared and run.
//!
//! A module of tests has a plain function that lists them:
//!
//! ```ignore
//! pub fn trials() -> Vec<Case> {
//!     vec![
//!         both("journal", "positions_are_gapless", positions_are_gapless),
//!         once("ids", "are_sortable", async |_directory| assert!(true)),
//!     ]
//! }
//!
//! async fn positions_are_gapless(store: StoreUnderTest) { … }
//! ```
//!
//! [`both`] makes two trials of it, `sqlite::journal::positions_are_gapless` and
//! `postgres::journal::positions_are_gapless`, each with a store of its own; trials run in
//! parallel. A test fails by panicking; say what was expected (`expect`, `assert!` with a message).
//! [`on`] is for what one store alone has, [`with_cluster`] for crashing PostgreSQL.
//!
//! Where there is no PostgreSQL its trials are reported as ignored, with the reason and once more
//! at the end; with `CI=true` they fail. There is no other way to skip a test.
//!
//! Each trial has a thread and a tokio runtime of its own, and [`LIMIT`] to end.

use std::cell::Cell;
use std::env;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Trial};
use tempfile::TempDir;

use super::postgres::{self, Cluster, Database, Durability, Unavailable};
use super::scratch;

/// How long a trial may take, the start of PostgreSQL not counted.
pub const LIMIT: Duration = Duration::from_secs(300);

/// What asks for the long form of some tests, each with a number of rounds.
pub const FAULT_ROUNDS: &str = "CREWLOG_FAULT_ROUNDS";
/// See [`FAULT_ROUNDS`].
pub const AUTHORITY_ROUNDS: &str = "CREWLOG_AUTHORITY_ROUNDS";
/// See [`FAULT_ROUNDS`]; of minutes.
pub const LOAD_MINUTES: &str = "CREWLOG_LOAD_MINUTES";

/// How often a test does what it does: as often as the environment says, in the short form
/// `short` times.
pub fn rounds(variable: &str, short: usize) -> usize {
    match env::var(variable) {
        Ok(text) => text.parse().expect("a number of rounds"),
        Err(_) => short,
    }
}

/// The limit of this run: the long form of tests takes what it takes.
fn limit() -> Duration {
    let is_long = |variable| env::var_os(variable).is_some();
    let minutes = rounds(LOAD_MINUTES, 0) as u64;
    match [FAULT_ROUNDS, AUTHORITY_ROUNDS].into_iter().any(is_long) {
        true => Duration::from_secs(3_600),
        false => LIMIT + Duration::from_secs(60 * minutes),
    }
}

/// How much longer a trial gets to react to its limit, before its thread is given up.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    Sqlite,
    Postgres,
}

/// An empty store of one trial, removed when dropped.
pub struct StoreUnderTest {
    database: Option<Database>,
    data_dir: TempDir,
}

impl StoreUnderTest {
    pub fn kind(&self) -> StoreKind {
        match self.database {
            None => StoreKind::Sqlite,
            Some(_) => StoreKind::Postgres,
        }
    }

    /// The program's data directory: the root key, and on SQLite the store.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// The PostgreSQL database; `None` on SQLite.
    pub fn database_url(&self) -> Option<&str> {
        self.database.as_ref().map(Database::url)
    }

    /// Where the store is, as one URL: `postgres://…`, or `sqlite://` and the data directory.
    pub fn url(&self) -> String {
        match self.database_url() {
            Some(url) => url.to_owned(),
            None => format!("sqlite://{}", self.data_dir().display()),
        }
    }

    /// A store in a database of a cluster of one's own.
    pub fn in_database(database: Database) -> Self {
        Self {
            database: Some(database),
            data_dir: scratch::directory("data"),
        }
    }

    /// A SQLite store in a directory of one's own.
    pub fn in_directory(directory: TempDir) -> Self {
        Self {
            database: None,
            data_dir: directory,
        }
    }

    fn sqlite() -> Self {
        Self {
            database: None,
            data_dir: scratch::directory("data"),
        }
    }

    fn postgres() -> Result<Self, Unavailable> {
        let database = postgres::shared()?.database_blocking()?;
        Ok(Self {
            database: Some(database),
            data_dir: scratch::directory("data"),
        })
    }
}

/// A declared test; becomes one trial, or one for each store.
pub struct Case {
    name: String,
    subject: Subject,
}

enum Subject {
    Stores(
        Vec<StoreKind>,
        Arc<dyn Fn(StoreUnderTest) -> Running + Send + Sync>,
    ),
    Cluster(Arc<dyn Fn(Cluster) -> Running + Send + Sync>),
    Directory(Arc<dyn Fn(TempDir) -> Running + Send + Sync>),
}

type Running = Pin<Box<dyn Future<Output = ()>>>;

/// A test of every store.
pub fn both<F, R>(module: &str, name: &str, test: F) -> Case
where
    F: Fn(StoreUnderTest) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + 'static,
{
    on(
        &[StoreKind::Sqlite, StoreKind::Postgres],
        module,
        name,
        test,
    )
}

/// A test of what only some stores have; prefer [`both`].
pub fn on<F, R>(stores: &[StoreKind], module: &str, name: &str, test: F) -> Case
where
    F: Fn(StoreUnderTest) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + 'static,
{
    let test = Arc::new(move |store| Box::pin(test(store)) as Running);
    Case {
        name: format!("{module}::{name}"),
        subject: Subject::Stores(stores.to_vec(), test),
    }
}

/// A test that crashes PostgreSQL: it gets a cluster of its own, as safe as an operator's.
pub fn with_cluster<F, R>(module: &str, name: &str, test: F) -> Case
where
    F: Fn(Cluster) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + 'static,
{
    let test = Arc::new(move |cluster| Box::pin(test(cluster)) as Running);
    Case {
        name: format!("{module}::{name}"),
        subject: Subject::Cluster(test),
    }
}

/// A test without a store; it gets an empty directory.
pub fn once<F, R>(module: &str, name: &str, test: F) -> Case
where
    F: Fn(TempDir) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + 'static,
{
    let test = Arc::new(move |directory| Box::pin(test(directory)) as Running);
    Case {
        name: format!("{module}::{name}"),
        subject: Subject::Directory(test),
    }
}

impl Case {
    /// Its module and name, without a store.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn into_trials(self) -> Vec<Trial> {
        let name = self.name;
        match self.subject {
            Subject::Directory(test) => vec![trial(name, || Ok(scratch::directory("data")), test)],
            Subject::Cluster(test) => {
                let start = || Cluster::start(Durability::Safe);
                vec![trial(format!("postgres::{name}"), start, test)]
            }
            Subject::Stores(kinds, test) => kinds
                .into_iter()
                .map(|kind| match kind {
                    StoreKind::Sqlite => trial(
                        format!("sqlite::{name}"),
                        || Ok(StoreUnderTest::sqlite()),
                        Arc::clone(&test),
                    ),
                    StoreKind::Postgres => trial(
                        format!("postgres::{name}"),
                        StoreUnderTest::postgres,
                        Arc::clone(&test),
                    ),
                })
                .collect(),
        }
    }
}

/// A trial that first gets its subject, outside of its limit.
fn trial<S: Send + 'static>(
    name: String,
    subject: impl FnOnce() -> Result<S, Unavailable> + Send + 'static,
    test: Arc<dyn Fn(S) -> Running + Send + Sync>,
) -> Trial {
    Trial::ignorable_test(name.clone(), move || {
        let subject = match subject() {
            Ok(subject) => subject,
            Err(Unavailable::Absent(reason)) if !is_ci() => {
                skipped().push(reason.clone());
                return Ok(Completion::ignored_with(reason));
            }
            Err(unavailable) => return Err(unavailable.into()),
        };
        let started = Instant::now();
        let ended = run(&name, limit(), async move || test(subject).await);
        timed().push((started.elapsed(), name));
        ended?;
        Ok(Completion::Completed)
    })
}

/// How long each trial took that has ended.
fn timed() -> MutexGuard<'static, Vec<(Duration, String)>> {
    static TIMED: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());
    TIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says at the end which trials took the longest, and how much of the time: where a suite becomes
/// too long, that is where to look.
pub fn report_slowest() {
    const SHOWN: usize = 40;
    let mut timed = timed();
    if timed.len() <= SHOWN {
        return;
    }
    timed.sort_unstable_by(|one, other| other.cmp(one));
    let all: Duration = timed.iter().map(|(took, _)| *took).sum();
    let shown: Duration = timed.iter().take(SHOWN).map(|(took, _)| *took).sum();
    println!(
        "the slowest {SHOWN} of {} trials took {:.0} s of {:.0} s:",
        timed.len(),
        shown.as_secs_f64(),
        all.as_secs_f64()
    );
    for (took, name) in timed.iter().take(SHOWN) {
        println!("{:>6.1} s  {name}", took.as_secs_f64());
    }
}

fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

/// Why trials were skipped, one reason for each.
fn skipped() -> MutexGuard<'static, Vec<String>> {
    static SKIPPED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    SKIPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says at the end, where it is seen, what was not tested.
pub fn report_skipped() {
    let skipped = skipped();
    if let Some(reason) = skipped.last() {
        eprintln!(
            "NOT TESTED: {} trials on PostgreSQL were skipped: {reason}\n",
            skipped.len()
        );
    }
}

/// Runs a test on a thread named after it, so that panics of its tasks name it too.
///
/// # Errors
/// The panic with its file and line, or that it took longer than `limit`.
pub fn run<F>(name: &str, limit: Duration, test: F) -> Result<(), String>
where
    F: AsyncFnOnce() + Send + 'static,
{
    let (sender, outcome) = mpsc::channel();
    let thread_name = name.to_owned();
    let too_long = format!("{name} did not end within {} s", limit.as_secs_f32());
    let too_long_message = too_long.clone();
    let body = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(thread_name)
            .enable_all()
            .build()
            .expect("a runtime for the test");
        RECORDING.set(true);
        let ended = panic::catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async { tokio::time::timeout(limit, test()).await })
        }));
        runtime.shutdown_timeout(Duration::from_secs(1));
        // Nobody waits any more if the limit was far exceeded.
        let _ = sender.send(match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_elapsed)) => Err(too_long_message),
            Err(_panic) => Err(LAST_PANIC.take().unwrap_or_else(|| "panicked".to_owned())),
        });
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| format!("could not start a thread for {name}: {error}"))?;
    outcome
        .recv_timeout(limit + GRACE)
        .unwrap_or_else(|_| Err(format!("{too_long}, and blocks its thread")))
}

thread_local! {
    /// Whether this is the main thread of a trial, whose panics its report shows.
    static RECORDING: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// Keeps what a trial's main thread panicked with, file and line included, for its report. Panics
/// elsewhere are printed as ever, and so are all with `RUST_BACKTRACE`, or during another.
pub fn record_panics() {
    let print = panic::take_hook();
    let backtrace = env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    panic::set_hook(Box::new(move |info| {
        let mut is_told_later = false;
        if RECORDING.get() {
            let earlier = LAST_PANIC.replace(Some(info.to_string()));
            if let Some(earlier) = &earlier {
                eprintln!("{earlier}");
            }
            is_told_later = earlier.is_none() && !backtrace;
        }
        if !is_told_later {
            print(info);
        }
    }));
}
