//! The writer: the one task through which everything is written.
//!
//! A batch is decided in memory on the state at the head, unit after unit, and appended
//! only if the head is still there. See "Life of an entry" in `docs/ARCHITECTURE.md`.
//!
//! Never answers a caller before its batch is on the disk, and never answers a batch whose
//! outcome it does not know.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use lru::LruCache;
use tokio::sync::{oneshot, watch};

use super::{
    Committed, Fold, FoldError, Folded, JournalSettings, Status, SubmitError, Trouble,
    cache::{Cache, CacheKey, ScopeTips},
    entry::{Recorded, StoredEvent},
    fail_points::FailPoint,
    loading::{self, LoadError},
    queue::FairQueue,
    source::Source,
    stores::{self, Append, AppendError, Head, Statement, Store, StoreError, Value},
    unit::{
        Desk, Idempotency, LookupKey, Outcome, Pending, Rejection, StreamRef, UNIT_BYTES_MAX,
        UNIT_EVENTS_MAX, Unit,
    },
    upcasters::Upcasted,
};
use crate::{
    domain::{Moment, Timestamp, ids::BatchId},
    proofs::tree::{Frontier, Hash},
};

/// How many scopes' tips are kept in memory.
const SCOPES_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// How many streams are read at once.
const LOADS_AT_ONCE: usize = 8;
/// How often a process that writes nothing looks whether others have.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
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
    /// Whether the last batch could not be written: then it is not enough that the log can be
    /// read.
    is_failing: bool,
}

/// A batch that has been decided and not yet written.
#[derive(Default)]
struct Draft {
    pending: Vec<Pending>,
    statements: Vec<Statement>,
    verdicts: Vec<Verdict>,
    /// Which job each pending event belongs to.
    jobs: Vec<usize>,
    touched: HashSet<CacheKey>,
}

/// Why a batch must be decided again, or cannot be.
enum Setback {
    /// Another process has written.
    Moved,
    /// A unique key beside the log refused: look again at what is there.
    Conflict(String),
    /// The fold of one job's event failed; it is to be refused, and the rest decided anew.
    Unfoldable { job: usize, detail: String },
    /// It is not known whether it was written.
    Unknown {
        detail: String,
        batch: BatchId,
        draft: Box<Written>,
    },
    /// It cannot be done now.
    Failed(Trouble),
}

/// What becomes true when a batch is known to be written.
struct Written {
    verdicts: Vec<Verdict>,
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
            match tokio::time::timeout(FOLLOW_EVERY, self.queue.take(self.settings.batch_units))
                .await
            {
                Ok(Ok(mut jobs)) => {
                    // Nobody waits for them any more: their callers were told to repeat them.
                    jobs.retain(|job| !job.answer.is_closed());
                    if !jobs.is_empty() {
                        self.write(jobs).await;
                    }
                    self.store.release_head().await;
                }
                Ok(Err(_closed)) => return,
                Err(_idle) => self.follow().await,
            }
            self.cache.shrink();
            metrics::gauge!("crewlog_cache_bytes").set(self.cache.bytes() as f64);
        }
    }

    /// Takes note of what other processes have written, and whether writing works again.
    async fn follow(&mut self) {
        if let Some(damage) = self.store.damage() {
            return self.status.red(Trouble::damaged(damage));
        }
        if self.is_failing {
            // It writes: the epoch.
            let nothing = BatchId::from_uuid(self.source.uuid());
            match self.store.resolve(nothing).await {
                Ok(_) => self.is_failing = false,
                Err(error) => return self.status.red((&error).into()),
            }
        }
        let followed = match stores::head(&*self.store).await {
            Ok(head) if head == self.head => Ok(()),
            Ok(_) => self.catch_up().await,
            Err(error) => Err(error.into()),
        };
        match followed {
            Ok(()) => self.status.green(),
            Err(error) => self.status.red(error.into()),
        }
    }

    /// Decides and writes a batch, as often as it takes, and answers everyone in it.
    async fn write(&mut self, jobs: Vec<Job>) {
        let mut refused: HashMap<usize, SubmitError> = HashMap::new();
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(&jobs, &refused).await {
                Ok(verdicts) => {
                    // A batch that was refused as a whole says nothing about writing.
                    if !self.is_failing {
                        self.status.green();
                    }
                    return answer(jobs, verdicts);
                }
                Err(Setback::Moved) => {
                    metrics::counter!("crewlog_appends_lost_total").increment(1);
                    // Catching up takes longer than appending, so that without holding the
                    // head a process would lose to a busy one time after time.
                    if let Err(error) = self.catch_up_holding().await {
                        return self.give_up(jobs, error.into());
                    }
                }
                Err(Setback::Conflict(detail)) => {
                    if let Err(error) = self.find_duplicates(&jobs, &mut refused).await {
                        let detail = format!("{detail}; then {error}");
                        return self.give_up(jobs, Trouble::of_writing(detail));
                    }
                }
                Err(Setback::Unfoldable { job, detail }) => {
                    self.status.defect(detail.clone());
                    refused.insert(job, SubmitError::Fault(detail));
                }
                Err(Setback::Unknown {
                    detail,
                    batch,
                    draft,
                }) => {
                    let words = "it is not known yet whether the last batch was written";
                    self.status.red(Trouble::new(words, detail));
                    if let Some(verdicts) = self.resolve(batch, *draft).await {
                        self.status.green();
                        return answer(jobs, verdicts);
                    }
                }
                Err(Setback::Failed(trouble)) => return self.give_up(jobs, trouble),
            }
        }
        let detail = "other processes kept writing first";
        self.give_up(jobs, Trouble::of_writing(detail));
    }

    /// Tells everyone to come back later; nothing of theirs was written.
    fn give_up(&mut self, jobs: Vec<Job>, trouble: Trouble) {
        let detail = trouble.detail.clone();
        tracing::error!(detail, "a batch could not be written");
        self.is_failing = true;
        self.status.red(trouble);
        for job in jobs {
            let _ = job
                .answer
                .send(Err(SubmitError::Unavailable(detail.clone())));
        }
    }

    async fn attempt(
        &mut self,
        jobs: &[Job],
        refused: &HashMap<usize, SubmitError>,
    ) -> Result<Vec<Verdict>, Setback> {
        if let Some(damage) = self.store.damage() {
            return Err(Setback::Failed(Trouble::damaged(damage)));
        }
        self.load_missing(jobs).await?;
        let held = self.look_up(jobs).await?;
        let now = self
            .source
            .now()
            .max(Timestamp(self.head.recorded_at.0 + 1));
        let mut draft = Draft::default();
        match self.decide_all(jobs, refused, held, now, &mut draft).await {
            Ok(()) if draft.pending.is_empty() && draft.statements.is_empty() => {
                // Nothing is appended, so nothing else compares the head: a refusal, too, must
                // be of the newest state.
                self.still_at_head().await?;
                Ok(draft.verdicts)
            }
            Ok(()) => {
                let touched = std::mem::take(&mut draft.touched);
                let appended = self.append(draft, now).await;
                if appended.is_err() {
                    self.forget(&touched);
                }
                appended
            }
            Err(setback) => {
                self.forget(&draft.touched);
                Err(setback)
            }
        }
    }

    /// That nobody else has written since memory was brought up to the head.
    async fn still_at_head(&self) -> Result<(), Setback> {
        let head = stores::head(&*self.store).await?;
        if (head.position, head.epoch) == (self.head.position, self.head.epoch) {
            Ok(())
        } else {
            Err(Setback::Moved)
        }
    }

    fn forget(&mut self, touched: &HashSet<CacheKey>) {
        touched.iter().for_each(|key| self.cache.remove(key));
    }

    /// The streams of a batch that are not in memory, each once.
    fn missing(&self, jobs: &[Job]) -> HashMap<CacheKey, StreamRef> {
        let streams = jobs.iter().flat_map(|job| &job.unit.streams);
        let missing = streams.filter(|stream| !self.cache.contains(stream));
        missing
            .map(|stream| (stream.cache_key(), stream.clone()))
            .collect()
    }

    async fn load_missing(&mut self, jobs: &[Job]) -> Result<(), StoreError> {
        let loads = self.missing(jobs).into_iter().map(|(key, stream)| {
            let (store, position) = (self.store.clone(), self.head.position);
            async move { Ok((key, loading::load(&*store, &stream, position).await?)) }.boxed()
        });
        let loads: Vec<BoxFuture<'static, Result<_, LoadError>>> = loads.collect();
        let mut loads = stream::iter(loads).buffer_unordered(LOADS_AT_ONCE);
        while let Some(loaded) = loads.next().await {
            let (key, loaded) = match loaded {
                Ok(loaded) => loaded,
                Err(LoadError::Store(error)) => return Err(error),
                // A stream that cannot be read is told to the units that want it, and to no
                // others, when they are decided.
                Err(LoadError::Decode(_) | LoadError::Gap { .. }) => continue,
            };
            self.cache.insert(key, loaded.entry);
            if let Some(statement) = loaded.snapshot {
                self.keep_snapshot(statement);
            }
        }
        Ok(())
    }

    /// In the background: a snapshot saves time later, and nobody waits for it.
    fn keep_snapshot(&self, statement: Statement) {
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.execute(vec![statement]).await {
                tracing::warn!(%error, "a snapshot was not kept");
            }
        });
    }

    /// Who holds what the units want to know of, at the head.
    async fn look_up(
        &self,
        jobs: &[Job],
    ) -> Result<HashMap<LookupKey, Option<String>>, StoreError> {
        let mut held = HashMap::new();
        for key in jobs.iter().flat_map(|job| &job.unit.lookups) {
            if !held.contains_key(key) {
                held.insert(key.clone(), holder(&*self.store, key).await?);
            }
        }
        Ok(held)
    }

    async fn decide_all(
        &mut self,
        jobs: &[Job],
        refused: &HashMap<usize, SubmitError>,
        mut held: HashMap<LookupKey, Option<String>>,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Setback> {
        // Keys of this batch: what was refused, or changed nothing, has used none.
        let mut used = HashSet::new();
        for (number, job) in jobs.iter().enumerate() {
            let key = job.unit.idempotency.as_ref();
            let key = key.map(|idempotency| (&idempotency.principal, &idempotency.key));
            let events_before = draft.pending.len();
            let verdict = match refused.get(&number) {
                Some(error) => Err(error.clone()),
                None if key.is_some_and(|key| used.contains(&key)) => Err(SubmitError::Duplicate),
                None => match self.reload(&job.unit, draft).await {
                    Ok(()) => self.decide(number, &job.unit, &mut held, now, draft),
                    Err(LoadError::Store(error)) => return Err(error.into()),
                    Err(error @ (LoadError::Decode(_) | LoadError::Gap { .. })) => {
                        self.status.defect(error.to_string());
                        Err(SubmitError::Fault(error.to_string()))
                    }
                },
            };
            let verdict = if draft.pending.len() > events_before {
                used.extend(key);
                verdict
            } else {
                self.unless_repeated(&job.unit, verdict).await?
            };
            draft.verdicts.push(verdict);
        }
        Ok(())
    }

    /// The verdict on a unit that writes nothing, unless it repeats one that is in the log:
    /// decided again, it would be refused for what it has itself done, or change nothing.
    /// (Where it would write, the unique key finds that out.)
    async fn unless_repeated(&self, unit: &Unit, verdict: Verdict) -> Result<Verdict, StoreError> {
        match &unit.idempotency {
            Some(idempotency) if self.is_used(idempotency).await? => {
                Ok(Err(SubmitError::Duplicate))
            }
            Some(_) | None => Ok(verdict),
        }
    }

    async fn is_used(&self, idempotency: &Idempotency) -> Result<bool, StoreError> {
        let parameters = vec![
            idempotency.principal.clone().into(),
            idempotency.key.clone().into(),
        ];
        let rows = self.store.query(SELECT_IDEMPOTENCY, parameters).await?;
        Ok(!rows.is_empty())
    }

    /// Reads again what an earlier refusal has left half-changed, with what this batch has
    /// decided on it so far.
    async fn reload(&mut self, unit: &Unit, draft: &Draft) -> Result<(), LoadError> {
        for stream in &unit.streams {
            if self.cache.contains(stream) {
                continue;
            }
            let mut entry = loading::load(&*self.store, stream, self.head.position)
                .await?
                .entry;
            let key = stream.cache_key();
            let first = self.head.position + 1;
            for (pending, position) in draft.pending.iter().zip(first..) {
                if pending.stream.cache_key() == key {
                    let event = Upcasted {
                        version: &pending.event_version,
                        payload: (&pending.payload).into(),
                    };
                    let applied = entry.state.apply(&event, position);
                    applied.expect("an event that was just written reads back");
                    entry.sequence = pending.sequence;
                }
            }
            self.cache.insert(key, entry);
        }
        Ok(())
    }

    fn decide(
        &mut self,
        number: usize,
        unit: &Unit,
        held: &mut HashMap<LookupKey, Option<String>>,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Verdict {
        let first_position = self.head.position + 1 + draft.pending.len() as u64;
        let mut desk = Desk {
            cache: &mut self.cache,
            source: &*self.source,
            held,
            origin: &unit.origin,
            moment: Moment { now },
            next_position: first_position,
            authority: Vec::new(),
            pending: Vec::new(),
            statements: Vec::new(),
            changed: Vec::new(),
            undo: Vec::new(),
            bytes: 0,
        };
        // A defect in one unit must not end the writing of everyone else.
        let decided = std::panic::catch_unwind(AssertUnwindSafe(|| (unit.decide)(&mut desk)));
        if decided.is_err() {
            // It may have stopped anywhere, so none of its streams can be believed.
            desk.changed
                .extend(unit.streams.iter().map(StreamRef::cache_key));
        }
        let Desk {
            pending,
            mut statements,
            changed,
            undo,
            bytes,
            ..
        } = desk;
        let too_large = pending.len() > UNIT_EVENTS_MAX || bytes > UNIT_BYTES_MAX;
        let outcome = match decided {
            Ok(Ok(_)) if too_large => Err(SubmitError::TooLarge),
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(Rejection::Refused(refusal))) => Err(SubmitError::Refused(refusal)),
            Ok(Err(Rejection::Recompose)) => Err(SubmitError::Recompose),
            Err(_panic) => Err(SubmitError::Fault("its decision panicked".to_owned())),
        };
        match outcome {
            Ok(outcome) => {
                let position = first_position + pending.len() as u64 - 1;
                // Also of what changes nothing now: repeated later, it might.
                if let Some(idempotency) = &unit.idempotency {
                    statements.push(remember(idempotency, &outcome, position, now));
                }
                draft.touched.extend(changed);
                draft.jobs.extend(pending.iter().map(|_| number));
                draft.pending.extend(pending);
                draft.statements.extend(statements);
                Ok(Committed { position, outcome })
            }
            Err(error) => {
                changed.iter().for_each(|key| self.cache.remove(key));
                for (key, before) in undo.into_iter().rev() {
                    held.insert(key, before);
                }
                Err(error)
            }
        }
    }

    /// Gives every event its place, folds, and appends.
    async fn append(&mut self, draft: Draft, now: Timestamp) -> Result<Vec<Verdict>, Setback> {
        let batch = BatchId::from_uuid(self.source.uuid());
        let mut frontier = self.head.frontier.clone();
        let mut scopes = HashMap::new();
        let mut events = Vec::with_capacity(draft.pending.len());
        let mut recorded = Vec::with_capacity(draft.pending.len());
        for (pending, position) in draft.pending.into_iter().zip(self.head.position + 1..) {
            let tip = self.scope_tip(&mut scopes, &pending.stream.scope).await?;
            let (event, typed) = self.place(pending, position, batch, now, tip);
            frontier.push(event.leaf);
            scopes.insert(event.scope.clone(), (event.scope_sequence, event.leaf));
            events.push(event);
            recorded.push(typed);
        }
        let folded = match self.fold.fold(&*self.store, &recorded).await {
            Ok(folded) => folded,
            Err(error) => return Err(self.unfoldable(&error, &draft.jobs).await),
        };
        let append = Append {
            batch,
            expected_position: self.head.position,
            expected_epoch: self.head.epoch,
            recorded_at: now,
            frontier: frontier.clone(),
            events,
            documents: folded.documents.clone(),
            audit: folded.audit.clone(),
            statements: draft.statements,
        };
        let written = Written {
            verdicts: draft.verdicts,
            head: self.moved_head(frontier, now),
            scopes,
            folded,
        };
        self.send(append, written).await
    }

    async fn unfoldable(&self, error: &FoldError, jobs: &[usize]) -> Setback {
        // The fold reads documents as they are now: if others have written meanwhile, they
        // are newer than what was decided, and the failure is no defect.
        if let Err(moved) = self.still_at_head().await {
            return moved;
        }
        let detail = error.to_string();
        let first = self.head.position + 1;
        let index = error
            .position
            .and_then(|at| usize::try_from(at.checked_sub(first)?).ok());
        match index.and_then(|index| jobs.get(index)) {
            Some(&job) => Setback::Unfoldable { job, detail },
            None => Setback::Failed(Trouble::of_writing(detail)),
        }
    }

    async fn send(&mut self, append: Append, written: Written) -> Result<Vec<Verdict>, Setback> {
        let batch = append.batch;
        metrics::histogram!("crewlog_batch_events").record(append.events.len() as f64);
        let started = std::time::Instant::now();
        FailPoint::BeforeSend.hit();
        let answer = self.store.append(Arc::new(append)).await;
        if answer.is_ok() {
            FailPoint::AfterCommit.hit();
        }
        metrics::histogram!("crewlog_commit_seconds").record(started.elapsed().as_secs_f64());
        match answer {
            Ok(()) => Ok(self.committed(written)),
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
                draft: Box::new(written),
            }),
        }
    }

    fn moved_head(&self, frontier: Frontier, now: Timestamp) -> Head {
        Head {
            position: frontier.size(),
            epoch: self.head.epoch,
            recorded_at: now,
            frontier,
        }
    }

    fn committed(&mut self, written: Written) -> Vec<Verdict> {
        for (scope, tip) in written.scopes {
            self.scopes.put(scope, tip);
        }
        self.fold.committed(written.folded);
        self.head = written.head;
        self.is_failing = false;
        self.head_seen.send_replace(self.head.position);
        metrics::gauge!("crewlog_head_position").set(self.head.position as f64);
        written.verdicts
    }

    /// The last sequence and leaf of a scope; sequence 0 where it has none.
    async fn scope_tip(
        &mut self,
        batch: &mut HashMap<String, (u64, [u8; 32])>,
        scope: &str,
    ) -> Result<(u64, [u8; 32]), StoreError> {
        if let Some(tip) = batch.get(scope) {
            return Ok(*tip);
        }
        if let Some(tip) = self.scopes.get(scope) {
            return Ok(*tip);
        }
        let rows = self.store.query(SELECT_SCOPE, vec![scope.into()]).await?;
        match rows.first() {
            Some(row) => Ok((row.count(0)?, row.hash(1)?)),
            None => Ok((0, [0; 32])),
        }
    }

    fn place(
        &self,
        pending: Pending,
        position: u64,
        batch: BatchId,
        now: Timestamp,
        (scope_sequence, previous): (u64, [u8; 32]),
    ) -> (StoredEvent, Recorded) {
        let mut salt = [0; 32];
        self.source.fill(&mut salt);
        let mut event = StoredEvent {
            position,
            id: pending.id,
            recorded_at: now,
            batch,
            aggregate_type: pending.stream.stream_type.name.to_owned(),
            aggregate_id: pending.stream.id,
            sequence: pending.sequence,
            scope: pending.stream.scope,
            scope_sequence: scope_sequence + 1,
            previous: (scope_sequence > 0).then_some(previous),
            event_type: pending.event_type,
            event_version: pending.event_version,
            payload: pending.payload,
            metadata: pending.metadata_text,
            salt,
            leaf: [0; 32],
        };
        event.leaf = event.computed_leaf();
        let recorded = Recorded {
            position,
            id: event.id,
            recorded_at: now,
            aggregate_type: event.aggregate_type.clone(),
            aggregate_id: event.aggregate_id.clone(),
            sequence: event.sequence,
            scope: event.scope.clone(),
            metadata: pending.metadata,
            event: pending.event,
        };
        (event, recorded)
    }

    /// Brings memory to the head of the log, and keeps it there until the next append.
    async fn catch_up_holding(&mut self) -> Result<(), LoadError> {
        self.store.hold_head().await?;
        self.catch_up().await
    }

    /// Brings memory to the head of the log, after others have written.
    async fn catch_up(&mut self) -> Result<(), LoadError> {
        let head = stores::head(&*self.store).await?;
        self.fold.forget(&*self.store).await;
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
            }
        }
        self.head = head;
        self.head_seen.send_replace(self.head.position);
        Ok(())
    }

    /// Applies an event of another process to what is in memory of its stream.
    fn take_note(&mut self, event: &StoredEvent) {
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
    /// `None`: it was not, decide again.
    async fn resolve(&mut self, batch: BatchId, written: Written) -> Option<Vec<Verdict>> {
        let was_written = loop {
            match self.store.resolve(batch).await {
                Ok(was_written) => break was_written,
                Err(error) => {
                    self.status.red((&error).into());
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        };
        let verdicts = was_written.then(|| self.committed(written));
        while let Err(error) = self.catch_up().await {
            self.status.red(error.into());
            tokio::time::sleep(RETRY_AFTER).await;
        }
        verdicts
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

fn answer(jobs: Vec<Job>, verdicts: Vec<Verdict>) {
    for (job, verdict) in jobs.into_iter().zip(verdicts) {
        // A caller that has gone away is not told; what it asked for stays written.
        let _ = job.answer.send(verdict);
    }
}

fn remember(
    idempotency: &Idempotency,
    outcome: &Outcome,
    position: u64,
    now: Timestamp,
) -> Statement {
    let parameters: [Value; 7] = [
        idempotency.principal.clone().into(),
        idempotency.key.clone().into(),
        idempotency.request_hmac.as_slice().into(),
        i64::from(outcome.status).into(),
        position.into(),
        outcome.resource.clone().into(),
        now.0.into(),
    ];
    Statement::new(INSERT_IDEMPOTENCY, parameters)
}

async fn holder(store: &dyn Store, key: &LookupKey) -> Result<Option<String>, StoreError> {
    let rows = match key {
        LookupKey::Claim { scope, kind, value } => {
            let parameters = vec![scope.clone().into(), (*kind).into(), value.clone().into()];
            store.query(SELECT_CLAIM, parameters).await?
        }
        LookupKey::Email { realm, lookup } => {
            store
                .query(
                    SELECT_EMAIL,
                    vec![realm.clone().into(), lookup.clone().into()],
                )
                .await?
        }
    };
    rows.first()
        .map(|row| row.text(0).map(str::to_owned))
        .transpose()
}

const SELECT_SCOPE: &str = "
SELECT scope_sequence, leaf
  FROM events
 WHERE scope = $1
 ORDER BY scope_sequence DESC
 LIMIT 1";

const SELECT_CLAIM: &str = "
SELECT holder
  FROM claims
 WHERE scope = $1 AND kind = $2 AND value = $3";

const SELECT_EMAIL: &str = "
SELECT subject
  FROM subjects
 WHERE realm = $1 AND email_lookup = $2";

const SELECT_IDEMPOTENCY: &str = "
SELECT 1
  FROM idempotency
 WHERE principal = $1 AND key = $2";

const INSERT_IDEMPOTENCY: &str = "
INSERT INTO idempotency
       (principal, key, request_hmac, status, position, resource, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)";
