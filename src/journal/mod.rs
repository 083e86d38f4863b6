//! The log: how it is written and read back.
//!
//! All writing goes through [`Journal::submit`]. A unit waits in a fair, bounded queue; the
//! one writer decides a batch of them on the newest state and writes everything that
//! follows from them by one append, which succeeds only if the head of the log is still
//! where the writer thought. From that follow a gapless total order, limits that never
//! race, and revocation that holds at once.
//!
//! The journal knows aggregates only as [`crate::domain::Stream`] and projections only as
//! [`Fold`]; it never reads a document, and knows nothing of HTTP.

mod beside;
mod cache;
mod canonical;
mod claims;
pub mod entry;
mod fail_points;
pub mod loading;
mod queue;
pub mod sealing;
pub mod source;
pub mod stores;
mod tail;
pub mod unit;
pub mod upcasters;
mod writer;

use std::{
    any::Any,
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tracing::Instrument;

pub use beside::beside;
pub use claims::{ClaimKey, INSTALLATION, Release, forget_rested};
pub use entry::{Metadata, Recorded, StoredEvent};
pub(crate) use fail_points::FailPoint;
pub use queue::QueueLimits;
pub use source::{Source, SystemSource};
pub use tail::Tail;
pub use unit::{Desk, Idempotency, LookupKey, Origin, Outcome, Rejection, StreamRef, Unit};

use crate::{
    domain::{Refusal, Stream, plans::Plans},
    traces,
};
use loading::LoadError;
use queue::FairQueue;
use stores::{DocumentChanges, Store, StoreError, StoreKind};
use writer::{Job, Writer};

/// What the projections have made of events that are not written yet, in their own form.
#[derive(Default)]
pub struct Folded(Option<Box<dyn Any + Send + Sync>>);

impl Folded {
    /// What a fold has put here, where it has.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.as_ref()?.downcast_ref()
    }

    /// The same, to go on from; at first the default.
    ///
    /// # Panics
    /// When another type was put here: a fold has one.
    pub fn get_mut<T: Default + Send + Sync + 'static>(&mut self) -> &mut T {
        let kept = self.0.get_or_insert_with(|| Box::new(T::default()));
        kept.downcast_mut().expect("a fold has one type")
    }

    /// The same, taken out.
    pub fn into_inner<T: 'static>(self) -> Option<T> {
        Some(*self.0?.downcast().ok()?)
    }
}

/// A fold that failed: nothing of the batch has been written.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct FoldError {
    /// The event that cannot be folded; none where the store could not be read.
    pub position: Option<u64>,
    pub detail: String,
}

/// The read models, as the writer sees them: folded inside the append.
#[async_trait]
pub trait Fold: Send + Sync + 'static {
    /// Folds events that follow on those in `folded`. These follow on what is on its way to
    /// the disk (`before`), where something is, and that on what has been written.
    ///
    /// # Errors
    /// When an event cannot be folded, or the documents cannot be read; `folded` must then not
    /// be used any more.
    async fn fold(
        &self,
        store: &dyn Store,
        before: Option<&Folded>,
        folded: &mut Folded,
        events: &[Recorded],
    ) -> Result<(), FoldError>;

    /// The documents that were changed, each once, as they are to be written.
    ///
    /// # Errors
    /// When a document cannot be written down.
    fn changes(&self, folded: &Folded) -> Result<Vec<DocumentChanges>, FoldError>;

    /// The batch is written: what is kept in memory may be brought up to it.
    fn committed(&self, folded: Folded);

    /// Others have written: nothing that is kept in memory can be believed.
    async fn forget(&self, store: &dyn Store);

    /// Another process has written this, after what was taken note of before.
    fn noticed(&self, event: &StoredEvent);

    /// The aggregate type of this name, where this version knows it.
    fn stream_type(&self, name: &str) -> Option<&'static str>;
}

/// How long a caller waits to be answered. Whoever waits longer than this meets a store that
/// is away or an outcome that nobody knows yet, and is better told so.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// Bounds of the journal.
#[derive(Debug, Clone, Copy)]
pub struct JournalSettings {
    /// Units that wait at most; a caller beyond it is told to come back.
    pub queue_capacity: usize,
    /// Units in one batch at most.
    pub batch_units: usize,
    /// Bytes of aggregates in memory.
    pub cache_bytes_max: usize,
    /// What plans allow, for every decision. It is read once and lives as long as the process.
    pub plans: &'static Plans,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            queue_capacity: 4_096,
            batch_units: 512,
            cache_bytes_max: 256 << 20,
            plans: Plans::unlimited(),
        }
    }
}

/// A unit that is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The last position that it wrote; of a unit that changed nothing, the position that
    /// it was decided at.
    pub position: u64,
    pub outcome: Outcome,
}

/// Why a unit is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// A rule said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What it was composed from has changed: compose it anew.
    #[error("what the command was composed from has changed")]
    Recompose,
    /// Its idempotency key is in the log already: look up the first answer.
    #[error("the idempotency key has been used")]
    Duplicate,
    /// It would write more than one unit may.
    #[error("this would write more than 1,000 events or 1 MiB at once; do it in parts")]
    TooLarge,
    /// Too much waits before it.
    #[error("too many commands are waiting; try again")]
    Full,
    /// Nothing is written from here.
    #[error("this process only reads")]
    ReadOnly,
    /// The store does not take it now; nothing was written.
    #[error("the store does not take anything now")]
    Unavailable(String),
    /// It has not been answered in time, and may be written or not: repeat it with the same
    /// idempotency key.
    #[error("it is not known yet whether the command was written")]
    Unanswered,
    /// It met a defect of this program; nothing was written.
    #[error("the command met a defect")]
    Fault(String),
}

/// What is wrong where a newer version writes the log: that does not pass.
const NEWER: &str = "a newer version of crewlog writes this log";
/// What is wrong where the log is not what this process has read and written: nor does that.
const FORKED: &str = "this is not the log that this process has read and written";

/// Defects that are told; further ones are in the log of the process.
const DEFECTS_TOLD: usize = 20;
/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For anybody.
    pub words: &'static str,
    /// For the operator alone: what a store says may tell more than strangers should know.
    pub detail: String,
}

impl Trouble {
    fn new(words: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { words, detail }
    }

    /// Whether this process must not go on.
    fn is_for_good(&self) -> bool {
        matches!(self.words, NEWER | FORKED)
    }

    fn of_writing(detail: impl Into<String>) -> Self {
        Self::new("the log cannot be written", detail)
    }

    fn damaged(detail: &str) -> Self {
        Self::new(
            "what is stored is damaged, and nothing is written any more; run `crewlog verify`",
            detail,
        )
    }
}

impl From<&StoreError> for Trouble {
    fn from(error: &StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::Unavailable { .. } => Self::new("the store cannot be reached", detail),
            StoreError::Unwritable { .. } => Self::new(
                "the store cannot be written: its disk is full, or it is read-only",
                detail,
            ),
            StoreError::Damaged { .. } => Self::damaged(&detail),
            StoreError::Newer { .. } => Self::new(NEWER, detail),
            StoreError::Forked { .. } => Self::new(FORKED, detail),
            StoreError::Failed { .. }
            | StoreError::NotMigrated { .. }
            | StoreError::Held { .. }
            | StoreError::Sealed { .. }
            | StoreError::Row(_) => Self::of_writing(detail),
        }
    }
}

/// Whether the journal works, and if not, why.
#[derive(Debug, Default)]
pub struct Status {
    /// What is wrong now and may pass: the store is away.
    trouble: Mutex<Option<Trouble>>,
    /// What was met and does not pass by itself: a stream that cannot be read, a fold that
    /// fails. Told until the process is started again.
    defects: Mutex<BTreeSet<String>>,
    /// Why this process must not go on.
    superseded: OnceLock<String>,
    /// When the store last said where the head is, and memory was there.
    heard: Mutex<Option<Instant>>,
}

impl Status {
    /// What is wrong, where something is.
    pub fn trouble(&self) -> Option<Trouble> {
        let words = "something in the log cannot be read or folded; run `crewlog verify`";
        let defects = || {
            self.defects()
                .iter()
                .cloned()
                .collect::<Vec<_>>()
                .join("; ")
        };
        let now = self.lock().clone();
        now.or_else(|| {
            Some(defects())
                .filter(|all| !all.is_empty())
                .map(|all| Trouble::new(words, all))
        })
    }

    /// The same in the words of whoever found it.
    pub fn problem(&self) -> Option<String> {
        let now = self.lock().clone().map(|trouble| trouble.detail);
        let all: Vec<_> = now.into_iter().chain(self.defects().clone()).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Memory was at the head at this moment.
    fn heard(&self, at: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = (*heard).max(Some(at));
    }

    /// Why this process must not go on: a newer version writes the log, or it is another log.
    pub fn superseded(&self) -> Option<String> {
        self.superseded.get().cloned()
    }

    fn red(&self, trouble: Trouble) {
        if trouble.is_for_good() {
            self.superseded.get_or_init(|| trouble.detail.clone());
        }
        *self.lock() = Some(trouble);
    }

    fn green(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn defects(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.defects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn defect(&self, detail: String) {
        tracing::error!(detail, "met what does not pass by itself");
        let mut defects = self.defects();
        if defects.len() < DEFECTS_TOLD {
            defects.insert(detail);
        }
    }
}

/// What a process does with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Writes,
    /// It takes note of what others write.
    Follows,
    /// It learns of nothing by itself.
    Reads,
}

/// The log, open for writing, or to be read beside whoever writes it.
#[derive(Debug)]
pub struct Journal {
    store: Arc<dyn Store>,
    source: Arc<dyn Source>,
    queue: Arc<FairQueue<Job>>,
    status: Arc<Status>,
    head: watch::Receiver<u64>,
    writer: Mutex<Option<JoinHandle<()>>>,
    role: Role,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.unit.fmt(formatter)
    }
}

impl Journal {
    /// Starts the writer at the head of the log.
    ///
    /// # Errors
    /// When the head cannot be read, or asks for a newer writer.
    pub async fn start(
        store: Arc<dyn Store>,
        source: Arc<dyn Source>,
        fold: Arc<dyn Fold>,
        settings: JournalSettings,
    ) -> Result<Self, StoreError> {
        Self::open(store, source, fold, settings, Role::Writes).await
    }

    /// Follows the log as the writer of [`Journal::start`] does, and has nothing to write: a unit is
    /// refused before it reaches the queue.
    ///
    /// # Errors
    /// As [`Journal::start`].
    pub async fn following(
        store: Arc<dyn Store>,
        source: Arc<dyn Source>,
        fold: Arc<dyn Fold>,
        settings: JournalSettings,
    ) -> Result<Self, StoreError> {
        Self::open(store, source, fold, settings, Role::Follows).await
    }

    async fn open(
        store: Arc<dyn Store>,
        source: Arc<dyn Source>,
        fold: Arc<dyn Fold>,
        settings: JournalSettings,
        role: Role,
    ) -> Result<Self, StoreError> {
        let head = stores::head_for_writing(&*store).await?;
        let queue = Arc::new(FairQueue::new(QueueLimits {
            capacity: settings.queue_capacity,
        }));
        let status = Arc::new(Status::default());
        let (head_seen, head_watch) = watch::channel(head.position);
        let writer = Writer::new(
            store.clone(),
            source.clone(),
            fold,
            queue.clone(),
            settings,
            status.clone(),
            head,
            head_seen,
        );
        Ok(Self {
            store,
            source,
            queue,
            status,
            head: head_watch,
            writer: Mutex::new(Some(tokio::spawn(writer.run()))),
            role,
        })
    }

    /// The log as it can be read beside whoever writes it. It has no writer: it learns of nothing by
    /// itself, knows of no head, and a unit is refused.
    pub fn for_reading(store: Arc<dyn Store>, source: Arc<dyn Source>) -> Self {
        let queue = FairQueue::new(QueueLimits { capacity: 0 });
        queue.close();
        Self {
            store,
            source,
            queue: Arc::new(queue),
            status: Arc::default(),
            head: watch::channel(0).1,
            writer: Mutex::default(),
            role: Role::Reads,
        }
    }

    /// Submits a unit and waits until it is in the log, or refused.
    ///
    /// When this answers `Ok`, the unit's events MUST be on disk at the position told; when
    /// it answers an error, none of them is or will be, but for
    /// [`SubmitError::Unanswered`]: like a caller that stops waiting, one who is told that
    /// does not know, and repeats with the same idempotency key. A unit that still waits in
    /// the queue by then is not written any more.
    ///
    /// # Errors
    /// [`SubmitError`] says whether it is worth trying again.
    pub async fn submit(&self, unit: Unit) -> Result<Committed, SubmitError> {
        if self.is_for_reading() {
            return Err(SubmitError::ReadOnly);
        }
        let span = traces::submit();
        let answer = self.wait_for(unit).instrument(span.clone()).await;
        if let Ok(committed) = &answer {
            span.record("crewlog.position", committed.position);
        }
        answer
    }

    async fn wait_for(&self, unit: Unit) -> Result<Committed, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let lane = unit.lane.clone();
        self.queue
            .push(&lane, Job { unit, answer })
            .map_err(|_| SubmitError::Full)?;
        metrics::gauge!("crewlog_queue_units").set(self.queue.length() as f64);
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(SubmitError::Unavailable(
                "the writer has stopped".to_owned(),
            )),
            Err(_elapsed) => {
                metrics::counter!("crewlog_unanswered_total").increment(1);
                Err(SubmitError::Unanswered)
            }
        }
    }

    /// The head that this process knows of, and news of it.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    /// Follows the log after `position` (exclusive).
    pub fn tail(&self, position: u64) -> Tail {
        Tail::new(self.store.clone(), self.head.clone(), position)
    }

    /// What `view` sees of a stream at `position`, or newer where it was kept newer.
    ///
    /// # Errors
    /// When the stream cannot be read or folded.
    pub async fn read_at<A: Stream, T>(
        &self,
        stream: &StreamRef,
        position: u64,
        view: impl FnOnce(&A) -> T,
    ) -> Result<T, LoadError> {
        let loaded = loading::load(&*self.store, stream, position).await?;
        let state = loaded.entry.state.as_any();
        Ok(view(state.downcast_ref().expect("a stream has one type")))
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Where time and random bytes come from.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// Whether the writer works, and if not, why.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What keeps the log from being written or read, where something does.
    pub fn trouble(&self) -> Option<Trouble> {
        let damage = self.store.damage().map(Trouble::damaged);
        damage.or_else(|| self.status.trouble())
    }

    /// Whether this process knew all that was in the log at some moment of the last `within`.
    /// Of a store that only this process writes, it always does.
    pub fn has_heard(&self, within: Duration) -> bool {
        let heard = || {
            let heard = self.status.heard.lock();
            *heard.unwrap_or_else(PoisonError::into_inner)
        };
        match self.store.kind() {
            StoreKind::Sqlite => self.role == Role::Writes,
            StoreKind::Postgres => heard().is_some_and(|at| at.elapsed() <= within),
        }
    }

    /// Whether nothing is written from here.
    pub fn is_for_reading(&self) -> bool {
        self.role != Role::Writes
    }

    /// Whether nothing is written from here, and what others write is followed.
    pub fn is_following(&self) -> bool {
        self.role == Role::Follows
    }

    /// How many units wait.
    pub fn queue_length(&self) -> usize {
        self.queue.length()
    }

    /// Lets nothing in any more, writes what was accepted, and stops; after `within` it
    /// stops waiting. Answers whether everything was written.
    pub async fn stop(&self, within: Duration) -> bool {
        self.queue.close();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match writer {
            Some(writer) => tokio::time::timeout(within, writer).await.is_ok(),
            None => true,
        }
    }
}
