//! A batch while it is decided: unit after unit, on the state that the units before it leave.
//!
//! Units may join a draft while the batch before it is on its way to the disk. They are
//! decided on what that batch leaves, and nobody is told until both are written; if it is
//! not written, neither is what was decided on it. Never waits for that batch, and never
//! writes.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use super::{Job, Setback, Verdict, Writer};
use crate::{
    domain::{Moment, Timestamp, ids::BatchId},
    journal::{
        Committed, Folded, SubmitError,
        cache::CacheKey,
        claims::Claims,
        entry::StoredEvent,
        loading::{self, LoadError, Loaded},
        stores::{Head, Statement, Store, StoreError, Value},
        unit::{
            Desk, Idempotency, LookupKey, Outcome, Pending, Rejection, StreamRef, UNIT_BYTES_MAX,
            UNIT_EVENTS_MAX, Unit,
        },
        upcasters::Upcasted,
    },
    proofs::tree::{Frontier, Hash},
};

/// How many streams are read at once.
const LOADS_AT_ONCE: usize = 8;

/// What has been decided of a batch that has not been sent.
pub(super) struct Draft {
    /// `recorded_at` of all of it: deadlines are decided by it.
    pub now: Timestamp,
    /// One for each job that has been decided, in their order.
    pub verdicts: Vec<Verdict>,
    /// Its events in their places, after those that are on their way to the disk.
    pub events: Vec<StoredEvent>,
    /// What has been decided and has no place yet.
    pub pending: Vec<Pending>,
    /// Which job each event belongs to.
    pub owners: Vec<usize>,
    /// The tree with its events.
    pub frontier: Frontier,
    /// The last sequence and leaf of every scope in it.
    pub scopes: HashMap<String, (u64, Hash)>,
    /// What the projections make of its events.
    pub folded: Folded,
    pub batch: BatchId,
    pub statements: Vec<Statement>,
    /// Streams whose state in memory has this draft in it.
    pub touched: HashSet<CacheKey>,
    /// Who holds what its units asked about, with what they changed.
    pub held: HashMap<LookupKey, Option<String>>,
    /// The same, of claims.
    pub claims: Claims,
    /// Idempotency keys of its units: what was refused has used none.
    pub used: HashSet<(String, String)>,
}

impl Draft {
    /// A batch that follows on `tip`.
    pub fn new(tip: &Head, now: Timestamp, batch: BatchId) -> Self {
        Self {
            now,
            verdicts: Vec::new(),
            events: Vec::new(),
            pending: Vec::new(),
            owners: Vec::new(),
            frontier: tip.frontier.clone(),
            scopes: HashMap::new(),
            folded: Folded::default(),
            batch,
            statements: Vec::new(),
            touched: HashSet::new(),
            held: HashMap::new(),
            claims: Claims::default(),
            used: HashSet::new(),
        }
    }

    /// Whether all of its units were refused or change nothing.
    pub fn writes_nothing(&self) -> bool {
        self.owners.is_empty() && self.statements.is_empty()
    }

    fn has_used(&self, idempotency: &Idempotency) -> bool {
        self.used.contains(&used_key(idempotency))
    }
}

fn used_key(idempotency: &Idempotency) -> (String, String) {
    (idempotency.principal.clone(), idempotency.key.clone())
}

impl Writer {
    /// Decides the jobs that the draft has no verdict on yet; those in `refused` get what
    /// stands there.
    pub(super) async fn decide(
        &mut self,
        jobs: &[Job],
        refused: &HashMap<usize, SubmitError>,
        draft: &mut Draft,
    ) -> Result<(), Setback> {
        let undecided = &jobs[draft.verdicts.len()..];
        self.load_missing(undecided, draft).await?;
        self.look_up(undecided, draft).await?;
        for job in undecided {
            let number = draft.verdicts.len();
            let verdict = match refused.get(&number) {
                Some(error) => Err(error.clone()),
                None => self.verdict(number, &job.unit, draft).await?,
            };
            draft.verdicts.push(verdict);
        }
        self.place(draft).await
    }

    async fn verdict(
        &mut self,
        number: usize,
        unit: &Unit,
        draft: &mut Draft,
    ) -> Result<Verdict, Setback> {
        if unit
            .idempotency
            .as_ref()
            .is_some_and(|key| self.is_taken(key, draft))
        {
            return Ok(Err(SubmitError::Duplicate));
        }
        match self.reload(unit, draft).await {
            Ok(()) => {}
            Err(LoadError::Store(error)) => return Err(error.into()),
            Err(error @ (LoadError::Decode(_) | LoadError::Gap { .. })) => {
                self.status.defect(error.to_string());
                return Ok(Err(SubmitError::Fault(error.to_string())));
            }
        }
        let events_before = draft.pending.len();
        let mut verdict = self.decide_unit(number, unit, draft);
        if draft.pending.len() == events_before {
            verdict = self.unless_repeated(unit, verdict).await?;
        }
        if verdict.is_ok() {
            draft.used.extend(unit.idempotency.as_ref().map(used_key));
        }
        Ok(verdict)
    }

    /// Whether a unit before it, in this draft or in the batch that is on its way, has the same
    /// idempotency key.
    fn is_taken(&self, idempotency: &Idempotency, draft: &Draft) -> bool {
        let flight = self.flight.as_ref();
        draft.has_used(idempotency)
            || flight.is_some_and(|flight| flight.draft.has_used(idempotency))
    }

    /// The streams of these jobs that are not in memory, each once.
    fn missing(&self, jobs: &[Job]) -> HashMap<CacheKey, StreamRef> {
        let streams = jobs.iter().flat_map(|job| &job.unit.streams);
        let missing = streams.filter(|stream| !self.cache.contains(stream));
        missing
            .map(|stream| (stream.cache_key(), stream.clone()))
            .collect()
    }

    async fn load_missing(&mut self, jobs: &[Job], draft: &Draft) -> Result<(), StoreError> {
        let loads = self.missing(jobs).into_values().map(|stream| {
            let (store, position) = (self.store.clone(), self.head.position);
            async move {
                let loaded = loading::load(&*store, &stream, position).await;
                (stream, loaded)
            }
            .boxed()
        });
        let loads: Vec<BoxFuture<'static, (StreamRef, Result<Loaded, LoadError>)>> =
            loads.collect();
        metrics::counter!("crewlog_cache_misses_total").increment(loads.len() as u64);
        let mut loads = stream::iter(loads).buffer_unordered(LOADS_AT_ONCE);
        while let Some((stream, loaded)) = loads.next().await {
            match loaded {
                Ok(loaded) => self.take_in(&stream, loaded, draft),
                Err(LoadError::Store(error)) => return Err(error),
                // A stream that cannot be read is told to the units that want it, and to no
                // others, when they are decided.
                Err(LoadError::Decode(_) | LoadError::Gap { .. }) => {}
            }
        }
        Ok(())
    }

    /// Reads again what an earlier refusal has left half-changed.
    async fn reload(&mut self, unit: &Unit, draft: &Draft) -> Result<(), LoadError> {
        for stream in &unit.streams {
            if !self.cache.contains(stream) {
                let loaded = loading::load(&*self.store, stream, self.head.position).await?;
                self.take_in(stream, loaded, draft);
            }
        }
        Ok(())
    }

    /// Keeps a stream as read from the store, and brings it up to what has been decided on it.
    fn take_in(&mut self, stream: &StreamRef, mut loaded: Loaded, draft: &Draft) {
        if let Some(statement) = loaded.snapshot.take() {
            self.keep_snapshot(statement);
        }
        let mut entry = loaded.entry;
        let flying = self.flight.iter().flat_map(|flight| &flight.append.events);
        for event in flying.chain(&draft.events) {
            if event.aggregate_type == stream.stream_type.name && event.aggregate_id == stream.id {
                let applied = loading::apply(&mut entry, event);
                applied.expect("an event that was just written reads back");
            }
        }
        let first = self.tip().position + 1 + draft.events.len() as u64;
        for (pending, position) in draft.pending.iter().zip(first..) {
            if pending.stream.cache_key() == stream.cache_key() {
                let event = Upcasted {
                    version: &pending.event_version,
                    payload: (&pending.payload).into(),
                };
                let applied = entry.state.apply(&event, position);
                applied.expect("an event that was just written reads back");
                entry.sequence = pending.sequence;
            }
        }
        self.cache.insert(stream.cache_key(), entry);
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

    /// Who holds what the units want to know of, after the batch that is on its way.
    async fn look_up(&self, jobs: &[Job], draft: &mut Draft) -> Result<(), StoreError> {
        let flight = self.flight.as_ref().map(|flight| &flight.draft);
        for key in jobs.iter().flat_map(|job| &job.unit.lookups) {
            let (select, parameters) = match key {
                LookupKey::Claim(key) => {
                    let undelivered = flight.map(|flight| &flight.claims);
                    let claims = &mut draft.claims;
                    claims.look_up(&*self.store, key, undelivered).await?;
                    continue;
                }
                LookupKey::Email { realm, lookup } => (
                    SELECT_EMAIL,
                    vec![realm.as_str().into(), lookup.as_str().into()],
                ),
                LookupKey::Person { subject } => (SELECT_PERSON, vec![subject.as_str().into()]),
                LookupKey::Known { realm, user } => (
                    SELECT_KNOWN,
                    vec![user.as_str().into(), realm.as_str().into()],
                ),
                LookupKey::Placed { realm, user } => (
                    SELECT_PLACED,
                    vec![user.as_str().into(), realm.as_str().into()],
                ),
            };
            if draft.held.contains_key(key) {
                continue;
            }
            let undelivered = flight.and_then(|flight| flight.held.get(key));
            let holder = match undelivered {
                Some(holder) => holder.clone(),
                None => holder(&*self.store, select, parameters).await?,
            };
            draft.held.insert(key.clone(), holder);
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

    /// Whether the idempotency key is in the store.
    pub(super) async fn is_used(&self, idempotency: &Idempotency) -> Result<bool, StoreError> {
        let parameters = vec![
            idempotency.principal.clone().into(),
            idempotency.key.clone().into(),
        ];
        let rows = self.store.query(SELECT_IDEMPOTENCY, parameters).await?;
        Ok(!rows.is_empty())
    }

    fn decide_unit(&mut self, number: usize, unit: &Unit, draft: &mut Draft) -> Verdict {
        let first_position = self.tip().position + 1 + draft.owners.len() as u64;
        draft.claims.begin();
        let mut desk = Desk {
            cache: &mut self.cache,
            source: &*self.source,
            held: &mut draft.held,
            claims: &mut draft.claims,
            origin: &unit.origin,
            moment: Moment {
                now: draft.now,
                plans: self.settings.plans,
            },
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
                    statements.push(remember(idempotency, &outcome, position, draft.now));
                }
                draft.touched.extend(changed);
                draft.owners.extend(pending.iter().map(|_| number));
                draft.pending.extend(pending);
                draft.statements.extend(statements);
                Ok(Committed { position, outcome })
            }
            Err(error) => {
                changed.iter().for_each(|key| self.cache.remove(key));
                draft.claims.undo();
                for (key, before) in undo.into_iter().rev() {
                    draft.held.insert(key, before);
                }
                Err(error)
            }
        }
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

async fn holder(
    store: &dyn Store,
    select: &str,
    parameters: Vec<Value>,
) -> Result<Option<String>, StoreError> {
    let rows = store.query(select, parameters).await?;
    let held = rows.first().map(|row| row.optional_text(0)).transpose()?;
    Ok(held.flatten().map(str::to_owned))
}

const SELECT_EMAIL: &str = "
SELECT subject
  FROM subjects
 WHERE realm = $1 AND email_lookup = $2";

const SELECT_PERSON: &str = "
SELECT user_id
  FROM subjects
 WHERE subject = $1";

const SELECT_KNOWN: &str = "
SELECT subject
  FROM subjects
 WHERE user_id = $1 AND realm = $2
 LIMIT 1";

const SELECT_PLACED: &str = "
SELECT placed
  FROM subjects
 WHERE user_id = $1 AND realm = $2
 LIMIT 1";

const SELECT_IDEMPOTENCY: &str = "
SELECT 1
  FROM idempotency
 WHERE principal = $1 AND key = $2";

const INSERT_IDEMPOTENCY: &str = "
INSERT INTO idempotency
       (principal, key, request_hmac, status, position, resource, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)";
