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

mod cache;
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
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

pub use entry::{Metadata, Recorded, StoredEvent};
pub use queue::QueueLimits;
pub use source::{Source, SystemSource};
pub use tail::Tail;
pub use unit::{Desk, Idempotency, LookupKey, Origin, Outcome, Rejection, StreamRef, Unit};

use crate::domain::Refusal;
use queue::FairQueue;
use stores::{AuditRows, DocumentChanges, Store, StoreError};
use writer::{Job, Writer};

/// What the projections make of a batch, for the append that writes it.
#[derive(Default)]
pub struct Folded {
    pub documents: Vec<DocumentChanges>,
    pub audit: Option<AuditRows>,
    /// What the fold wants back when the batch is written.
    pub keep: Option<Box<dyn std::any::Any + Send>>,
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
    /// Folds a batch that follows on what has been written.
    ///
    /// # Errors
    /// When an event cannot be folded, or the documents cannot be read.
    async fn fold(&self, store: &dyn Store, events: &[Recorded]) -> Result<Folded, FoldError>;

    /// The batch is written: what is kept in memory may be brought up to it.
    fn committed(&self, folded: Folded);

    /// Others have written: nothing that is kept in memory can be believed.
    async fn forget(&self, store: &dyn Store);

    /// The aggregate type of this name, where this version knows it.
    fn stream_type(&self, name: &str) -> Option<&'static str>;
}

/// Bounds of the journal.
#[derive(Debug, Clone, Copy)]
pub struct JournalSettings {
    /// Units that wait at most; a caller beyond it is told to come back.
    pub queue_capacity: usize,
    /// Units in one batch at most.
    pub batch_units: usize,
    /// Bytes of aggregates in memory.
    pub cache_bytes_max: usize,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            queue_capacity: 4_096,
            batch_units: 512,
            cache_bytes_max: 256 << 20,
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
    /// The store does not take it now; nothing was written.
    #[error("the store does not take anything now")]
    Unavailable(String),
    /// It met a defect of this program; nothing was written.
    #[error("the command met a defect")]
    Fault(String),
}

/// Defects that are told; further ones are in the log of the process.
const DEFECTS_TOLD: usize = 20;

/// Whether the journal works, and if not, why.
#[derive(Debug, Default)]
pub struct Status {
    /// What is wrong now and may pass: the store is away.
    problem: Mutex<Option<String>>,
    /// What was met and does not pass by itself: a stream that cannot be read, a fold that
    /// fails. Told until the process is started again.
    defects: Mutex<BTreeSet<String>>,
}

impl Status {
    /// What is wrong, where something is.
    pub fn problem(&self) -> Option<String> {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let defects = self.defects.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = problem
            .iter()
            .chain(defects.iter())
            .map(String::as_str)
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn red(&self, problem: String) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
    }

    fn green(&self) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn defect(&self, detail: String) {
        tracing::error!(detail, "met what does not pass by itself");
        let mut defects = self.defects.lock().unwrap_or_else(PoisonError::into_inner);
        if defects.len() < DEFECTS_TOLD {
            defects.insert(detail);
        }
    }
}

/// The log, open for writing.
#[derive(Debug)]
pub struct Journal {
    store: Arc<dyn Store>,
    source: Arc<dyn Source>,
    queue: Arc<FairQueue<Job>>,
    status: Arc<Status>,
    head: watch::Receiver<u64>,
    writer: Mutex<Option<JoinHandle<()>>>,
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
        let head = stores::head(&*store).await?;
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
        })
    }

    /// Submits a unit and waits until it is in the log, or refused.
    ///
    /// When this answers `Ok`, the unit's events MUST be on disk at the position told; when
    /// it answers an error, none of them is or will be. A caller that stops waiting does
    /// not know, and repeats with the same idempotency key.
    ///
    /// # Errors
    /// [`SubmitError`] says whether it is worth trying again.
    pub async fn submit(&self, unit: Unit) -> Result<Committed, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let lane = unit.lane.clone();
        self.queue
            .push(&lane, Job { unit, answer })
            .map_err(|_| SubmitError::Full)?;
        metrics::gauge!("crewlog_queue_units").set(self.queue.length() as f64);
        answered.await.unwrap_or_else(|_| {
            Err(SubmitError::Unavailable(
                "the writer has stopped".to_owned(),
            ))
        })
    }

    /// The head that this process knows of, and news of it.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    /// Follows the log after `position` (exclusive).
    pub fn tail(&self, position: u64) -> Tail {
        Tail::new(self.store.clone(), self.head.clone(), position)
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
