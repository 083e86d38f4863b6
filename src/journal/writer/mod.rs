//! The writer: the one task through which everything is written.
//!
//! A batch is decided in memory on the state at the head, unit after unit, and appended
//! only if the head is still there. While one batch is on its way to the disk, the next is
//! decided on what it leaves ([`Draft`]), and sent when the first has landed; where the
//! first is not written, both are decided again, one after the other. See "Life of an
//! entry" in `docs/ARCHITECTURE.md`.
//!
//! Never answers a caller before its batch is on the disk, and never answers a batch whose
//! outcome it does not know. Never has more than one batch on its way.

mod draft;
mod placing;

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use lru::LruCache;
use sync_wrapper::SyncWrapper;
use tokio::sync::{oneshot, watch};

use super::{
    Committed, Fold, FoldError, Folded, JournalSettings, Status, SubmitError, Trouble,
    cache::{Cache, CacheKey, ScopeTips},
    entry::StoredEvent,
    fail_points::FailPoint,
    loading::{self, LoadError},
    queue::{Closed, FairQueue},
    source::Source,
    stores::{self, Append, AppendError, Head, Store, StoreError},
    unit::Unit,
};
use crate::{
    domain::{Timestamp, ids::BatchId},
    proofs::tree::Hash,
};
use draft::Draft;

/// How many scopes' tips are kept in memory.
const SCOPES_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// How many units join a draft at once while a batch is on its way; between them it is looked
/// whether that has landed.
const JOIN_AT_ONCE: usize = 32;
/// How often a process that writes nothing looks whether others have. What is served from
/// memory is at most a second old, so it looks a few times in one.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// How long to wait before asking again a store that does not answer.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How often a batch is decided anew before its callers are told to come back.
const ATTEMPTS_MAX: usize = 50;

/// A unit with the caller who waits for it.
pub(super) struct Job {
    pub unit: Unit,
    pub answer: oneshot::Sender<Result<Committed, SubmitError>>,
}

type Verdict = Result<Committed, SubmitError>;

pub(super) struct Writer {
    store: Arc<dyn Store>,
    source: Arc<dyn Source>,
    fold: Arc<dyn Fold>,
    queue: Arc<FairQueue<Job>>,
    settings: JournalSettings,
    status: Arc<Status>,
    cache: Cache,
    scopes: ScopeTips,
    head: Head,
    head_seen: watch::Sender<u64>,
    /// What is being decided.
    drafting: Option<Drafting>,
    /// The batch that it is decided on.
    flight: Option<Flight>,
    /// Whether the last batch could not be written: then it is not enough that the log can be
    /// read.
    is_failing: bool,
}

/// A draft with those who wait for it.
struct Drafting {
    jobs: Vec<Job>,
    draft: Draft,
}

/// A batch that is on its way to the disk.
struct Flight {
    jobs: Vec<Job>,
    /// What was decided; its events are in `append`.
    draft: Draft,
    append: Arc<Append>,
    written: Written,
    sent_at: Instant,
    outcome: SyncWrapper<BoxFuture<'static, Result<(), AppendError>>>,
}

/// What the writer does next.
enum Next {
    /// The batch that was on its way has arrived, or not.
    Land(Result<(), AppendError>),
    Decide(Vec<Job>),
    Follow,
    Stop,
}

/// Why a batch must be decided again, or cannot be.
enum Setback {
    /// Another process has written.
    Moved,
    /// A unique key beside the log refused: look again at what is there.
    Conflict(String),
    /// It failed while another batch was on its way: that may be why.
    NotAlone,
    /// The fold of one job's event failed; it is to be refused, and the rest decided anew.
    Unfoldable { job: usize, detail: String },
    /// It is not known whether it was written.
    Unknown {
        detail: String,
        batch: BatchId,
        verdicts: Vec<Verdict>,
        written: Box<Written>,
    },
    /// It cannot be done now.
    Failed(Trouble),
}

/// What becomes true when a batch is known to be written.
struct Written {
    head: Head,
    /// The last sequence and leaf of every scope in it.
    scopes: HashMap<String, (u64, Hash)>,
    folded: Folded,
}

impl From<LoadError> for Setback {
    fn from(error: LoadError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        Self::Failed((&error).into())
    }
}

impl From<FoldError> for Trouble {
    fn from(error: FoldError) -> Self {
        Self::of_writing(error.to_string())
    }
}

impl From<LoadError> for Trouble {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => (&error).into(),
            LoadError::Decode(_) | LoadError::Gap { .. } => Self::of_writing(error.to_string()),
        }
    }
}

impl Writer {
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of the one place that joins them"
    )]
    pub(super) fn new(
        store: Arc<dyn Store>,
        source: Arc<dyn Source>,
        fold: Arc<dyn Fold>,
        queue: Arc<FairQueue<Job>>,
        settings: JournalSettings,
        status: Arc<Status>,
        head: Head,
        head_seen: watch::Sender<u64>,
    ) -> Self {
        Self {
            store,
            source,
            fold,
            queue,
            settings,
            status,
            cache: Cache::new(settings.cache_bytes_max),
            scopes: LruCache::new(SCOPES_IN_MEMORY),
            head,
            head_seen,
            drafting: None,
            flight: None,
            is_failing: false,
        }
    }

    /// Works until the queue is closed and empty. If it meets a defect of its own, it says
    /// so and lets nobody wait for it.
    pub(super) async fn run(self) {
        let (queue, status) = (self.queue.clone(), self.status.clone());
        if AssertUnwindSafe(self.work()).catch_unwind().await.is_err() {
            let words = "the writer met a defect and has stopped; restart crewlog";
            status.red(Trouble::new(words, words));
            queue.close();
            // Dropping a job tells its caller that the writer has stopped.
            while queue.take(usize::MAX).await.is_ok() {}
        }
    }

    async fn work(mut self) {
        loop {
            let mut landed = None;
            match self.next().await {
                Next::Land(outcome) => landed = self.land(outcome).await,
                Next::Decide(jobs) => self.join(jobs).await,
                Next::Follow => self.follow().await,
                Next::Stop => return,
            }
            // The next batch is sent before the last one's callers are told and want the
            // processor for themselves.
            let unsent = self.launch();
            if let Some((jobs, verdicts)) = landed {
                answer(jobs, verdicts);
            }
            if let Some((drafting, setback)) = unsent {
                self.settle(drafting, setback).await;
            }
            self.shrink();
        }
    }

    async fn next(&mut self) -> Next {
        let waiting = self
            .drafting
            .as_ref()
            .map_or(0, |drafting| drafting.jobs.len());
        let room = self.settings.batch_units.saturating_sub(waiting);
        let Some(flight) = &mut self.flight else {
            return match tokio::time::timeout(FOLLOW_EVERY, self.queue.take(room)).await {
                Ok(Ok(jobs)) => Next::Decide(jobs),
                Ok(Err(Closed)) => Next::Stop,
                Err(_idle) => Next::Follow,
            };
        };
        tokio::select! {
            biased;
            outcome = flight.outcome.get_mut() => return Next::Land(outcome),
            jobs = self.queue.take(room.min(JOIN_AT_ONCE)), if room > 0 => {
                if let Ok(jobs) = jobs {
                    return Next::Decide(jobs);
                }
            }
        }
        // The queue has ended.
        Next::Land(flight.outcome.get_mut().await)
    }

    /// Forgets streams that nobody has used for long, where there is no room for them.
    fn shrink(&mut self) {
        let unwritten = |key: &CacheKey| {
            let drafting = self.drafting.iter().map(|drafting| &drafting.draft);
            let flying = self.flight.iter().map(|flight| &flight.draft);
            drafting
                .chain(flying)
                .any(|draft| draft.touched.contains(key))
        };
        self.cache.shrink(unwritten);
        metrics::gauge!("crewlog_cache_bytes").set(self.cache.bytes() as f64);
    }

    /// Where the log will end when the batch that is on its way is written.
    fn tip(&self) -> &Head {
        self.flight
            .as_ref()
            .map_or(&self.head, |flight| &flight.written.head)
    }

    fn new_draft(&self) -> Draft {
        let tip = self.tip();
        let after = Timestamp(tip.recorded_at.0 + 1);
        let batch = BatchId::from_uuid(self.source.uuid());
        Draft::new(tip, self.source.now().max(after), batch)
    }

    /// Decides jobs behind those of the draft, or in a new one.
    async fn join(&mut self, mut jobs: Vec<Job>) {
        // Nobody waits for them any more: their callers were told to repeat them.
        jobs.retain(|job| !job.answer.is_closed());
        let mut drafting = self.drafting.take().unwrap_or_else(|| Drafting {
            jobs: Vec::new(),
            draft: self.new_draft(),
        });
        drafting.jobs.append(&mut jobs);
        let decided = self
            .decide(&drafting.jobs, &HashMap::new(), &mut drafting.draft)
            .await;
        match decided {
            Ok(()) => self.drafting = Some(drafting),
            Err(setback) => {
                self.forget(&drafting.draft.touched);
                if let Some(flight) = &mut self.flight {
                    let outcome = flight.outcome.get_mut().await;
                    if let Some((jobs, verdicts)) = self.land(outcome).await {
                        answer(jobs, verdicts);
                    }
                }
                self.write(drafting.jobs, Some(setback)).await;
            }
        }
    }

    /// Sends the draft, where there is one and no batch is on its way. Answers with a draft
    /// that writes nothing, or cannot be sent.
    fn launch(&mut self) -> Option<(Drafting, Result<(), Setback>)> {
        if self.flight.is_some() {
            return None;
        }
        let mut drafting = self.drafting.take()?;
        match self.ready(&mut drafting.draft) {
            Ok(Some((append, written))) => {
                let append = Arc::new(append);
                let Drafting { jobs, draft } = drafting;
                self.flight = Some(Flight {
                    outcome: SyncWrapper::new(self.send(append.clone())),
                    sent_at: Instant::now(),
                    jobs,
                    draft,
                    append,
                    written,
                });
                None
            }
            Ok(None) => Some((drafting, Ok(()))),
            Err(setback) => Some((drafting, Err(setback))),
        }
    }

    /// Answers those whose draft writes nothing, or does with it what its setback asks for.
    async fn settle(&mut self, drafting: Drafting, ready: Result<(), Setback>) {
        let Drafting { jobs, draft } = drafting;
        let settled = match ready {
            // Nothing is appended, so nothing else compares the head: a refusal, too, must
            // be of the newest state.
            Ok(()) => self.still_at_head().await,
            Err(setback) => Err(setback),
        };
        match settled {
            Ok(()) => answer(jobs, draft.verdicts),
            Err(setback) => {
                self.forget(&draft.touched);
                self.write(jobs, Some(setback)).await;
            }
        }
    }

    /// The append of a draft; none where it writes nothing.
    fn ready(&self, draft: &mut Draft) -> Result<Option<(Append, Written)>, Setback> {
        if let Some(damage) = self.store.damage() {
            return Err(Setback::Failed(Trouble::damaged(damage)));
        }
        if draft.writes_nothing() {
            return Ok(None);
        }
        self.complete(draft).map(Some)
    }

    fn send(&self, append: Arc<Append>) -> BoxFuture<'static, Result<(), AppendError>> {
        metrics::histogram!("crewlog_batch_events").record(append.events.len() as f64);
        FailPoint::BeforeSend.hit();
        let store = self.store.clone();
        async move { store.append(append).await }.boxed()
    }

    /// Those who can be answered now, as their batch is written. Where it is not, it is decided
    /// again, and after it what was decided on it.
    async fn land(&mut self, outcome: Result<(), AppendError>) -> Option<(Vec<Job>, Vec<Verdict>)> {
        let flight = self.flight.take()?;
        let Flight {
            jobs,
            draft,
            append,
            written,
            sent_at,
            ..
        } = flight;
        let landed = self.landed(outcome, append.batch, sent_at, draft.verdicts, written);
        match landed.await {
            Ok(verdicts) => {
                self.status.green();
                Some((jobs, verdicts))
            }
            Err(setback) => {
                let after = self.drafting.take();
                let unwritten = after.iter().flat_map(|after| &after.draft.touched);
                let unwritten: Vec<_> = unwritten.chain(&draft.touched).collect();
                self.forget(unwritten);
                self.write(jobs, Some(setback)).await;
                if let Some(mut after) = after {
                    after.jobs.retain(|job| !job.answer.is_closed());
                    self.write(after.jobs, None).await;
                }
                None
            }
        }
    }

    /// What an append's outcome means for its batch.
    async fn landed(
        &mut self,
        outcome: Result<(), AppendError>,
        batch: BatchId,
        sent_at: Instant,
        verdicts: Vec<Verdict>,
        written: Written,
    ) -> Result<Vec<Verdict>, Setback> {
        metrics::histogram!("crewlog_commit_seconds").record(sent_at.elapsed().as_secs_f64());
        match outcome {
            Ok(()) => {
                FailPoint::AfterCommit.hit();
                self.committed(written);
                self.status.heard(sent_at);
                Ok(verdicts)
            }
            Err(AppendError::Lost) => Err(Setback::Moved),
            Err(AppendError::Conflict(detail)) => Err(Setback::Conflict(detail)),
            // A rebuild elsewhere takes tables away that were decided for; it moves the head.
            Err(AppendError::Failed(error)) => Err(self
                .still_at_head()
                .await
                .err()
                .unwrap_or_else(|| error.into())),
            Err(AppendError::Unknown(detail)) => Err(Setback::Unknown {
                detail,
                batch,
                verdicts,
                written: Box::new(written),
            }),
        }
    }

    fn committed(&mut self, written: Written) {
        for (scope, tip) in written.scopes {
            self.scopes.put(scope, tip);
        }
        self.fold.committed(written.folded);
        self.head = written.head;
        self.is_failing = false;
        self.head_seen.send_replace(self.head.position);
        metrics::gauge!("crewlog_head_position").set(self.head.position as f64);
    }

    /// Takes note of what other processes have written, and whether writing works again.
    async fn follow(&mut self) {
        if let Some(damage) = self.store.damage() {
            return self.status.red(Trouble::damaged(damage));
        }
        if self.is_failing {
            // It writes: the epoch.
            let nothing = BatchId::from_uuid(self.source.uuid());
            match self.store.resolve(nothing, self.head.position + 1).await {
                Ok(_) => self.is_failing = false,
                Err(error) => return self.status.red((&error).into()),
            }
        }
        let asked_at = Instant::now();
        let followed = match stores::head_for_writing(&*self.store).await {
            Ok(head) if head == self.head => Ok(()),
            Ok(_) => self.catch_up().await,
            Err(error) => Err(error.into()),
        };
        match followed {
            Ok(()) => {
                self.status.heard(asked_at);
                self.status.green();
            }
            Err(error) => self.status.red(error.into()),
        }
    }

    /// Decides and writes a batch, as often as it takes, and answers everyone in it; while
    /// nothing else is on its way. `setback` is what has become of it so far.
    async fn write(&mut self, jobs: Vec<Job>, mut setback: Option<Setback>) {
        if jobs.is_empty() {
            return;
        }
        let mut refused: HashMap<usize, SubmitError> = HashMap::new();
        for _ in 0..ATTEMPTS_MAX {
            let outcome = match setback.take() {
                Some(setback) => Err(setback),
                None => self.attempt(&jobs, &refused).await,
            };
            let told = match outcome {
                Ok(verdicts) => Some(Ok(verdicts)),
                Err(setback) => self.mend(&jobs, &mut refused, setback).await,
            };
            match told {
                Some(Ok(verdicts)) => {
                    // A batch that was refused as a whole says nothing about writing.
                    if !self.is_failing {
                        self.status.green();
                    }
                    self.store.release_head().await;
                    return answer(jobs, verdicts);
                }
                Some(Err(trouble)) => return self.give_up(jobs, trouble).await,
                None => {}
            }
        }
        let detail = "other processes kept writing first";
        self.give_up(jobs, Trouble::of_writing(detail)).await;
    }

    /// Does what a setback asks for before the batch is decided again. Answers with the
    /// verdicts where it was written after all, and with what is wrong where it cannot be.
    async fn mend(
        &mut self,
        jobs: &[Job],
        refused: &mut HashMap<usize, SubmitError>,
        setback: Setback,
    ) -> Option<Result<Vec<Verdict>, Trouble>> {
        metrics::counter!("crewlog_batches_set_back_total").increment(1);
        match setback {
            Setback::Moved => {
                metrics::counter!("crewlog_appends_lost_total").increment(1);
                // Catching up takes longer than appending, so that without holding the
                // head a process would lose to a busy one time after time.
                let caught_up = self.catch_up_holding().await;
                caught_up.err().map(|error| Err(error.into()))
            }
            Setback::NotAlone => None,
            Setback::Conflict(detail) => {
                metrics::counter!("crewlog_append_conflicts_total").increment(1);
                let found = self.find_duplicates(jobs, refused).await;
                let unexplained = found.err()?;
                let detail = format!("{detail}; then {unexplained}");
                Some(Err(Trouble::of_writing(detail)))
            }
            Setback::Unfoldable { job, detail } => {
                self.status.defect(detail.clone());
                refused.insert(job, SubmitError::Fault(detail));
                None
            }
            Setback::Unknown {
                detail,
                batch,
                verdicts,
                written,
            } => {
                let words = "it is not known yet whether the last batch was written";
                self.status.red(Trouble::new(words, detail));
                match self.resolve(batch, *written).await {
                    Ok(was_written) => was_written.then_some(Ok(verdicts)),
                    Err(trouble) => Some(Err(trouble)),
                }
            }
            Setback::Failed(trouble) => Some(Err(trouble)),
        }
    }

    async fn attempt(
        &mut self,
        jobs: &[Job],
        refused: &HashMap<usize, SubmitError>,
    ) -> Result<Vec<Verdict>, Setback> {
        let mut draft = self.new_draft();
        let attempted = self.decide_and_append(jobs, refused, &mut draft).await;
        if attempted.is_err() {
            self.forget(&draft.touched);
        }
        attempted
    }

    async fn decide_and_append(
        &mut self,
        jobs: &[Job],
        refused: &HashMap<usize, SubmitError>,
        draft: &mut Draft,
    ) -> Result<Vec<Verdict>, Setback> {
        self.decide(jobs, refused, draft).await?;
        let ready = self.ready(draft)?;
        let verdicts = std::mem::take(&mut draft.verdicts);
        let Some((append, written)) = ready else {
            self.still_at_head().await?;
            return Ok(verdicts);
        };
        let (batch, sent_at) = (append.batch, Instant::now());
        let outcome = self.send(Arc::new(append)).await;
        self.landed(outcome, batch, sent_at, verdicts, written)
            .await
    }

    /// Tells everyone to come back later; nothing of theirs was written.
    async fn give_up(&mut self, jobs: Vec<Job>, trouble: Trouble) {
        let detail = trouble.detail.clone();
        tracing::error!(detail, "a batch could not be written");
        self.is_failing = true;
        self.status.red(trouble);
        self.store.release_head().await;
        for job in jobs {
            let _ = job
                .answer
                .send(Err(SubmitError::Unavailable(detail.clone())));
        }
    }
    /// That nobody else has written since memory was brought up to the head.
    async fn still_at_head(&self) -> Result<(), Setback> {
        let asked_at = Instant::now();
        let head = stores::head_for_writing(&*self.store).await?;
        if head == self.head {
            self.status.heard(asked_at);
            Ok(())
        } else {
            Err(Setback::Moved)
        }
    }

    /// Drops what was decided and not written: it is read anew.
    fn forget<'a>(&mut self, touched: impl IntoIterator<Item = &'a CacheKey>) {
        touched.into_iter().for_each(|key| self.cache.remove(key));
    }

    /// Brings memory to the head of the log, and keeps it there until the next append.
    async fn catch_up_holding(&mut self) -> Result<(), LoadError> {
        self.store.hold_head().await?;
        self.catch_up().await
    }

    /// Brings memory to the head of the log, after others have written. What is in memory is
    /// believed because their entries follow on it: that the tree over both is the head's proves
    /// it. After a failover that lost entries, or a restore, it is not.
    async fn catch_up(&mut self) -> Result<(), LoadError> {
        let head = stores::head_for_writing(&*self.store).await?;
        self.fold.forget(&*self.store).await;
        let seen = self.head.position;
        while self.head.position < head.position {
            let events = stores::events_after(&*self.store, self.head.position, 1_000).await?;
            if events.is_empty() {
                let (found, promised) = (self.head.position, head.position);
                let detail = format!("the log ends at {found}, its head says {promised}");
                return Err(StoreError::Row(detail).into());
            }
            for event in events
                .iter()
                .filter(|event| event.position <= head.position)
            {
                self.take_note(event);
                self.head.position = event.position;
                self.head.frontier.push(event.leaf);
            }
        }
        if self.head.frontier != head.frontier {
            return Err(forked(seen, head.position).into());
        }
        self.head = head;
        self.head_seen.send_replace(self.head.position);
        Ok(())
    }

    /// Applies an event of another process to what is in memory of its stream.
    fn take_note(&mut self, event: &StoredEvent) {
        self.fold.noticed(event);
        self.scopes
            .put(event.scope.clone(), (event.scope_sequence, event.leaf));
        let name = self.fold.stream_type(&event.aggregate_type);
        let Some(key) = name.map(|name| (name, event.aggregate_id.clone())) else {
            return;
        };
        if let Some(entry) = self.cache.get_mut(&key) {
            match loading::apply(entry, event) {
                Ok(()) => self.cache.weigh(&key),
                // Read anew when it is next needed, which then says what is wrong.
                Err(_) => self.cache.remove(&key),
            }
        }
    }

    /// After an unknown outcome: asks until the store says whether the batch was written.
    /// Where it was not, it is to be decided again, or cannot be any more.
    async fn resolve(&mut self, batch: BatchId, written: Written) -> Result<bool, Trouble> {
        let was_written = loop {
            match self.store.resolve(batch, self.head.position + 1).await {
                Ok(was_written) => break was_written,
                Err(error) => {
                    self.status.red((&error).into());
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        };
        if was_written {
            self.committed(written);
        }
        while let Err(error) = self.catch_up().await {
            let trouble = Trouble::from(error);
            self.status.red(trouble.clone());
            if trouble.is_for_good() {
                return was_written.then_some(true).ok_or(trouble);
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Ok(was_written)
    }

    /// Marks the jobs whose idempotency key was written meanwhile.
    async fn find_duplicates(
        &self,
        jobs: &[Job],
        refused: &mut HashMap<usize, SubmitError>,
    ) -> Result<(), String> {
        let before = refused.len();
        for (number, job) in jobs.iter().enumerate() {
            let Some(idempotency) = &job.unit.idempotency else {
                continue;
            };
            let used = self.is_used(idempotency).await;
            if used.map_err(|error| error.to_string())? {
                refused.insert(number, SubmitError::Duplicate);
            }
        }
        if refused.len() == before {
            return Err("no request explains it".to_owned());
        }
        Ok(())
    }
}

/// What to say of a log that does not follow on what this process has seen of it.
fn forked(seen: u64, found: u64) -> StoreError {
    StoreError::Forked {
        detail: format!(
            "the log in the store is not the one that this process has read and written: it knew \
             {seen} entries, and the {found} there do not follow on them. Entries were lost that \
             may have been answered, by a failover to a standby that lacked them or by a restore, \
             or some were changed: run `crewlog verify`, and start again to serve what is there"
        ),
    }
}

fn answer(jobs: Vec<Job>, verdicts: Vec<Verdict>) {
    for (job, verdict) in jobs.into_iter().zip(verdicts) {
        // A caller that has gone away is not told; what it asked for stays written.
        let _ = job.answer.send(verdict);
    }
}
