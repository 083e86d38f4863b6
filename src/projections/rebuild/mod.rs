//! Filling new generations of projections from the whole log, beside those that serve.
//!
//! The old generations serve until the new ones have folded the whole log; then one transaction
//! swaps them. One rebuild is under way at a time, of as many projections as are asked for: a
//! second pass through the log would only make the first slower. How far it is stands in the row
//! of [`row`], so that whoever finds it left alone goes on with it. What it writes goes only
//! through while the row is its own ([`Owner`]).
//!
//! Never lets anything serve that has not folded all of the log, and never keeps the head for
//! longer than the last few entries take.

mod row;
mod tables;
pub(super) mod views;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub(super) use row::{Owner, is_abandoned};
pub use row::{Pace, RebuildState, RebuildStatus, ask, status, withdraw};
pub(super) use tables::create;

use super::{
    EngineError, Generations, Projections, audit_index,
    check::{compare_tables, one},
    engine::{Folder, head_position, serving, table_name},
    filling::{Filling, Room},
};
use crate::{
    domain::ids::BatchId,
    journal::{
        Source, SystemSource,
        stores::{self, Append, AppendError, Store, StoreError, StoreKind},
    },
};

/// How often a new generation may find, as it should serve, that it cannot yet.
const SWAPS_MAX: usize = 100;
/// How long to wait before the next try of a swap that was not let through.
const SWAP_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Entries that may be left for the head to be held while they are folded.
const LAST_ENTRIES_MAX: u64 = 1_000;
/// How often the documents that were folded are written down at most, so that a rebuild that is
/// killed goes on from there; and how many times as long as writing takes it folds in between.
const WRITE_EVERY: Duration = Duration::from_secs(1);
const FOLD_FOR_TIMES: u32 = 10;
/// How often a rebuild shows that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Entries folded between two looks at the pace, where there is a limit and where there is none.
const SLICE: u64 = 65_536;
const SLICE_WITH_LATENCY: u64 = 2_000;
/// How long a rebuild rests at most before it looks again whether others are quick.
const REST_MAX: Duration = Duration::from_secs(1);
/// Differences between two generations that are looked at twice, and told.
const DIFFERENCES_MAX: usize = 1_000;

/// How far a rebuild or a check has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The position folded last.
    pub position: u64,
    /// The position to reach.
    pub head: u64,
    pub elapsed: Duration,
}

/// What a rebuild has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The position that the new generations are at.
    pub position: u64,
    /// Where it began: a rebuild that was left alone is gone on with.
    pub began_at: u64,
    /// Documents that were not what the log says, and are now.
    pub repaired: u64,
}

/// A rebuild that is this process's to work on.
#[derive(Debug)]
pub struct Rebuild {
    owner: Owner,
    projections: Projections,
    names: Vec<String>,
    generations: Generations,
    documents_at: u64,
    audit_at: u64,
    pace: Pace,
}

/// Rebuilds projections by name from the whole log, and lets the new generations serve. Others
/// may go on writing, and do so to the new generations once these serve. Answers with the
/// position that they are at.
///
/// # Errors
/// When a name is unknown, another rebuild is under way, the store cannot be read or written, or
/// an event cannot be folded; the old generations then go on serving.
pub async fn rebuild(
    store: &dyn Store,
    which: &[&str],
    mut progress: impl FnMut(Progress),
) -> Result<u64, EngineError> {
    let projections = Projections::default();
    let rebuild = Rebuild::begin(store, &projections, which, Pace::default()).await?;
    Ok(rebuild.run(store, &mut progress).await?.position)
}

/// Folds the whole log with every projection and keeps nothing of it: what replaying costs
/// where nothing is written. Answers with the last position folded.
///
/// # Errors
/// When the store cannot be read, or an event cannot be folded.
pub async fn fold_all(
    store: &dyn Store,
    mut progress: impl FnMut(Progress),
) -> Result<u64, EngineError> {
    let folder = Folder::of_all(&Projections::default());
    Filling::new(store, folder.into(), Room::None)
        .catch_up(&mut progress)
        .await
}

/// Cancels what is under way and waits until nothing of it is left; answers whether there was
/// anything. Whoever works on it removes it; where nobody does, it is done here.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn cancel(store: &dyn Store) -> Result<bool, EngineError> {
    let was_under_way = row::request_cancel(store).await?;
    loop {
        let seen = status(store).await?;
        match seen.state {
            RebuildState::Idle if was_under_way => return Ok(true),
            // What a crash has left of one that is not even known any more.
            RebuildState::Idle => {
                let owner = Owner::of_new(store, &[], Pace::default()).await?;
                tables::remove_all(store, &owner).await?;
                store.execute(vec![owner.ends(&seen.outcome)]).await?;
                return Ok(false);
            }
            RebuildState::Asked
            | RebuildState::Running
            | RebuildState::Swapped
            | RebuildState::Cancelled => {}
        }
        if row::is_abandoned(store, &seen).await?
            && let Some(owner) = Owner::of_seen(store, &seen).await?
        {
            clear(store, &owner, &seen).await?;
        }
    }
}

/// Whether others wait for as long as a transaction takes, as one connection writes everything: an
/// index over all of a table is then made with it, and little is written at once.
fn keeps_others_waiting(kind: StoreKind, pace: Pace) -> bool {
    match kind {
        StoreKind::Sqlite => !pace.is_alone,
        StoreKind::Postgres => false,
    }
}

/// Removes what there is of a rebuild and does not serve, and ends it.
async fn clear(store: &dyn Store, owner: &Owner, seen: &RebuildStatus) -> Result<(), StoreError> {
    let outcome = match seen.state {
        RebuildState::Swapped => row::DONE,
        _ => "it was cancelled",
    };
    tables::remove_all(store, owner).await?;
    store.execute(vec![owner.ends(outcome)]).await.map(drop)
}

impl Rebuild {
    /// Begins a rebuild of projections by name, or goes on with one of the same that was left
    /// alone; one of others that was left alone is put away.
    ///
    /// # Errors
    /// When a name is unknown, [`EngineError::Underway`] where another process works on one, or
    /// when the store cannot be read or written.
    pub async fn begin(
        store: &dyn Store,
        projections: &Projections,
        which: &[&str],
        pace: Pace,
    ) -> Result<Self, EngineError> {
        let known = projections.names();
        if let Some(unknown) = which.iter().find(|name| !known.contains(name)) {
            let (unknown, known) = ((*unknown).to_owned(), known.join(", "));
            return Err(EngineError::Unknown(unknown, known));
        }
        let seen = status(store).await?;
        if seen.is_under_way() {
            if !row::is_abandoned(store, &seen).await? {
                return Err(seen.in_the_way());
            }
            let wanted: BTreeSet<_> = which.iter().copied().collect();
            let is_the_same = seen
                .names
                .iter()
                .map(String::as_str)
                .collect::<BTreeSet<_>>()
                == wanted;
            match Self::go_on(store, projections, &seen).await? {
                Some(abandoned) if is_the_same => return Ok(Self { pace, ..abandoned }),
                Some(abandoned) => clear(store, &abandoned.owner, &seen).await?,
                None => {}
            }
        }
        let owner = Owner::of_new(store, which, pace).await?;
        let names = which.iter().map(|name| (*name).to_owned()).collect();
        Self::anew(store, owner, projections, names, pace).await
    }

    /// Takes up what was asked for, or was left alone, where there is something of the kind:
    /// for a process that is there anyway.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn take_up(
        store: &dyn Store,
        projections: &Projections,
    ) -> Result<Option<Self>, EngineError> {
        let seen = status(store).await?;
        match seen.state {
            RebuildState::Idle => return Ok(None),
            RebuildState::Asked => {}
            RebuildState::Running | RebuildState::Swapped | RebuildState::Cancelled => {
                if !row::is_abandoned(store, &seen).await? {
                    return Ok(None);
                }
            }
        }
        Self::go_on(store, projections, &seen).await
    }

    /// Takes over what was seen; none where there is nothing left to do of it, or somebody else
    /// was quicker.
    async fn go_on(
        store: &dyn Store,
        projections: &Projections,
        seen: &RebuildStatus,
    ) -> Result<Option<Self>, EngineError> {
        let Some(owner) = Owner::of_seen(store, seen).await? else {
            return Ok(None);
        };
        match seen.state {
            RebuildState::Asked => drop(store.execute(vec![owner.starts()]).await?),
            RebuildState::Running => {}
            RebuildState::Idle | RebuildState::Swapped | RebuildState::Cancelled => {
                clear(store, &owner, seen).await?;
                return Ok(None);
            }
        }
        let RebuildStatus { names, pace, .. } = seen.clone();
        // What has not been written down once is begun anew; so is what another version began.
        let can_go_on = seen.documents_at > 0
            && tables::can_go_on(store, projections, &seen.generations).await?;
        if !can_go_on {
            let anew = Self::anew(store, owner, projections, names, pace).await?;
            return Ok(Some(anew));
        }
        Ok(Some(Self {
            owner,
            projections: projections.clone(),
            names,
            generations: seen.generations.clone(),
            documents_at: seen.documents_at,
            audit_at: seen.audit_at,
            pace,
        }))
    }

    async fn anew(
        store: &dyn Store,
        owner: Owner,
        projections: &Projections,
        names: Vec<String>,
        pace: Pace,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            generations: tables::lay_out(
                store,
                &owner,
                projections,
                &names,
                keeps_others_waiting(store.kind(), pace),
            )
            .await?,
            owner,
            projections: projections.clone(),
            names,
            documents_at: 0,
            audit_at: 0,
            pace,
        })
    }

    /// Removes what nobody works on.
    ///
    /// # Errors
    /// [`EngineError::Underway`] where somebody does, or when the store cannot be used.
    pub(super) async fn put_away_abandoned(store: &dyn Store) -> Result<(), EngineError> {
        let seen = status(store).await?;
        if !row::is_abandoned(store, &seen).await? {
            return Err(seen.in_the_way());
        }
        match Owner::of_seen(store, &seen).await? {
            Some(owner) => Ok(clear(store, &owner, &seen).await?),
            None => Err(seen.in_the_way()),
        }
    }

    /// Fills the new generations of a database from the log of another, up to a position, and
    /// lets them be read there. Answers which they are.
    ///
    /// # Errors
    /// As [`Rebuild::run`].
    pub(super) async fn run_elsewhere(
        self,
        log: &dyn Store,
        target: &dyn Store,
        through: u64,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Generations, EngineError> {
        let shown = [AtomicU64::new(0), AtomicU64::new(through)];
        let mut told = |at: Progress| {
            shown[0].store(at.position, Ordering::Relaxed);
            progress(at);
        };
        let fill = async {
            let folder = Folder::new(&self.projections, self.generations.clone());
            let room = Room::Here(target, Some(self.owner.clone()));
            let mut filling = Filling::new(log, folder.into(), room);
            filling.reach(through, &mut told).await?;
            filling.write().await?;
            let mut statements = tables::indexes(&self.generations);
            statements.push(self.owner.swaps_or_fails());
            statements
                .extend(tables::swap(target, &self.projections, &self.generations, through).await?);
            target.execute(statements).await?;
            tables::remove_all(target, &self.owner).await?;
            target.execute(vec![self.owner.ends(row::DONE)]).await?;
            Ok(self.generations.clone())
        };
        let outcome = tokio::select! {
            biased;
            done = fill => done,
            lost = self.beat(target, &shown) => Err(lost),
        };
        if let Err(error) = &outcome {
            self.put_away(target, error).await;
        }
        outcome
    }

    /// What is rebuilt.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Where it goes on; 0 for one that is new.
    pub fn began_at(&self) -> u64 {
        match self.generations.contains_key(audit_index::NAME) {
            true => self.documents_at.min(self.audit_at),
            false => self.documents_at,
        }
    }

    /// Fills the new generations and lets them serve. `store` must hold the head for itself
    /// ([`Store::another`]) where others write through the same.
    ///
    /// # Errors
    /// When it was cancelled, the store cannot be read or written, or an event cannot be folded;
    /// the old generations then go on serving. Where the store cannot be reached, and after a
    /// crash, it can be gone on with.
    pub async fn run(
        self,
        store: &dyn Store,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Rebuilt, EngineError> {
        let shown = [AtomicU64::new(self.began_at()), AtomicU64::new(0)];
        let mut told = |at: Progress| {
            shown[0].store(at.position, Ordering::Relaxed);
            shown[1].store(at.head, Ordering::Relaxed);
            progress(at);
        };
        let outcome = tokio::select! {
            biased;
            done = self.fill(store, &mut told) => done,
            lost = self.beat(store, &shown) => Err(lost),
        };
        if let Err(error) = &outcome {
            self.put_away(store, error).await;
        }
        outcome
    }

    /// Shows that it lives, until it is not this one's any more.
    async fn beat(&self, store: &dyn Store, shown: &[AtomicU64; 2]) -> EngineError {
        let (began_at, started) = (self.began_at(), Instant::now());
        loop {
            tokio::time::sleep(BEAT_EVERY).await;
            let [position, head] = [0, 1].map(|of: usize| shown[of].load(Ordering::Relaxed));
            let folded = u128::from(position.saturating_sub(began_at));
            let per_second = folded * 1_000 / started.elapsed().as_millis().max(1);
            let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
            let shows = self.owner.shows(position, head, per_second);
            match store.execute(vec![shows]).await.as_deref() {
                Ok([1]) => {}
                Ok(_) => return EngineError::Cancelled,
                // Whoever needs the store meets the same, and says so.
                Err(_) => {}
            }
        }
    }

    /// What is not going to be finished is removed, unless it can be gone on with.
    async fn put_away(&self, store: &dyn Store, error: &EngineError) {
        if let EngineError::Store(StoreError::Unavailable { .. }) = error {
            return;
        }
        let outcome = error.to_string();
        let ended = async {
            if self.owner.is_mine(store).await? {
                tables::remove_all(store, &self.owner).await?;
                store.execute(vec![self.owner.ends(&outcome)]).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = ended.await {
            tracing::warn!(%error, "what a rebuild has left cannot be removed yet");
        }
    }

    async fn fill(
        &self,
        store: &dyn Store,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Rebuilt, EngineError> {
        let folder = Folder::new(&self.projections, self.generations.clone());
        let room = Room::Here(store, Some(self.owner.clone()));
        let mut filling = Filling::new(store, folder.into(), room);
        if keeps_others_waiting(store.kind(), self.pace) {
            filling.writes_little_at_once();
        }
        if self.began_at() > 0 {
            filling.goes_on(self.documents_at, self.audit_at);
        }
        self.fill_up(store, &mut filling, progress).await?;
        store.execute(tables::indexes(&self.generations)).await?;
        let differing = self.differing(store, filling.position()).await?;
        let position = self.serve(store, &mut filling, progress).await?;
        // What differed was looked at before the last entries: those it is not.
        let repaired = differing.len() as u64;
        tables::remove_all(store, &self.owner).await?;
        let outcome = row::done(repaired);
        store.execute(vec![self.owner.ends(&outcome)]).await?;
        Ok(Rebuilt {
            position,
            began_at: self.began_at(),
            repaired,
        })
    }

    /// Folds to the head, at the pace that was asked for, and writes down now and then how far
    /// it is.
    async fn fill_up(
        &self,
        store: &dyn Store,
        filling: &mut Filling<'_>,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), EngineError> {
        let (began_at, started) = (filling.position(), Instant::now());
        let (mut written_at, mut fold_for) = (Instant::now(), WRITE_EVERY);
        let slice = match self.pace {
            Pace {
                per_second_max: Some(limit),
                ..
            } => (limit.get() / 4).clamp(1, SLICE_WITH_LATENCY),
            Pace {
                commit_latency_max: Some(_),
                ..
            } => SLICE_WITH_LATENCY,
            Pace { .. } => SLICE,
        };
        while filling.advance(slice, progress).await? {
            if written_at.elapsed() >= fold_for {
                let began_at = Instant::now();
                filling.write().await?;
                written_at = Instant::now();
                fold_for = WRITE_EVERY.max((written_at - began_at) * FOLD_FOR_TIMES);
            }
            if let Some(limit) = self.pace.per_second_max {
                let folded = filling.position() - began_at;
                let due = Duration::from_secs_f64(folded as f64 / limit.get() as f64);
                tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            }
            if let Some(limit) = self.pace.commit_latency_max {
                self.rest(store, Duration::from_millis(limit.get())).await?;
            }
        }
        filling.write().await
    }

    /// Rests for as long as a small commit takes longer than `limit`: those who write wait as
    /// long, on the same disk and, on SQLite, in the same queue.
    async fn rest(&self, store: &dyn Store, limit: Duration) -> Result<(), EngineError> {
        loop {
            let asked_at = Instant::now();
            if store.execute(vec![self.owner.goes_on()]).await? != [1] {
                return Err(EngineError::Cancelled);
            }
            let taken = asked_at.elapsed();
            if taken <= limit {
                return Ok(());
            }
            tokio::time::sleep((taken * 2).min(REST_MAX)).await;
        }
    }

    /// Documents that are in the old generation another thing than in the new one, where the same
    /// fold has made both: they must be equal but for what happens meanwhile.
    async fn differing(
        &self,
        store: &dyn Store,
        position: u64,
    ) -> Result<Vec<(String, String)>, EngineError> {
        let (old, versions) = (serving(store).await?, self.projections.versions());
        let mut differing = Vec::new();
        for (name, generation) in &self.generations {
            let version = old.get(name).map(|(_, version)| *version);
            let is_the_same = version.is_some() && version == versions.get(name.as_str()).copied();
            // A row of the audit index is of one entry: `replay --check` compares those.
            if !is_the_same || name == audit_index::NAME {
                continue;
            }
            let (old, _) = old[name];
            let (old, new) = (table_name(name, old), table_name(name, *generation));
            let room = DIFFERENCES_MAX.saturating_sub(differing.len());
            let keys = compare_tables(store, &old, &new, position, room).await?;
            for key in keys {
                // Once more: it may have gone meanwhile.
                let (before, after) =
                    (one(store, &old, &key).await?, one(store, &new, &key).await?);
                let is_newer = |row: &stores::DocumentRow| row.position > position;
                if before != after && !before.as_ref().is_some_and(is_newer) && before.is_some() {
                    tracing::warn!(
                        projection = name,
                        key,
                        "a document was not what the log says"
                    );
                    differing.push((name.clone(), key));
                }
            }
        }
        Ok(differing)
    }

    /// Lets the new generations serve: catches up until little is left, holds the head, folds
    /// that, and swaps.
    async fn serve(
        &self,
        store: &dyn Store,
        filling: &mut Filling<'_>,
        progress: &mut impl FnMut(Progress),
    ) -> Result<u64, EngineError> {
        let mut told = None;
        for _ in 0..SWAPS_MAX {
            filling.catch_up(progress).await?;
            filling.write().await?;
            // Not by how long that took: on a slow machine it would never be quick enough.
            if head_position(store).await? - filling.position() > LAST_ENTRIES_MAX {
                continue;
            }
            match self.swap(store, filling, progress).await {
                Ok(position) => return Ok(position),
                Err(error) => {
                    store.release_head().await;
                    if !self.owner.is_mine(store).await?
                        || status(store).await?.state != RebuildState::Running
                    {
                        return Err(EngineError::Cancelled);
                    }
                    tracing::debug!(%error, "the new generations cannot serve yet");
                    told = Some(error);
                    tokio::time::sleep(SWAP_AGAIN_AFTER).await;
                }
            }
        }
        Err(told.unwrap_or(EngineError::Busy))
    }

    async fn swap(
        &self,
        store: &dyn Store,
        filling: &mut Filling<'_>,
        progress: &mut impl FnMut(Progress),
    ) -> Result<u64, EngineError> {
        store.hold_head().await?;
        let left = head_position(store).await? - filling.position();
        if left > LAST_ENTRIES_MAX {
            return Err(EngineError::Busy);
        }
        filling.catch_up(progress).await?;
        filling.write().await?;
        let (position, head) = (filling.position(), stores::head(store).await?);
        let mut statements = tables::with_head(store.kind(), &self.owner);
        let swap = tables::swap(store, &self.projections, &self.generations, position);
        statements.extend(swap.await?);
        let batch = BatchId::from_uuid(SystemSource.uuid());
        let append = Append {
            batch,
            expected_position: position,
            expected_epoch: head.epoch,
            expected_frontier: head.frontier.clone(),
            recorded_at: head.recorded_at,
            frontier: head.frontier,
            events: Vec::new(),
            documents: Vec::new(),
            statements,
        };
        match store.append(Arc::new(append)).await {
            Ok(()) => Ok(position),
            Err(AppendError::Unknown(detail)) => self.resolve(store, batch, position, detail).await,
            Err(AppendError::Lost) => Err(EngineError::Busy),
            Err(AppendError::Conflict(_)) => Err(EngineError::Cancelled),
            Err(AppendError::Failed(error)) => Err(error.into()),
        }
    }

    /// Asks until it is known whether the swap was written.
    async fn resolve(
        &self,
        store: &dyn Store,
        batch: BatchId,
        position: u64,
        detail: String,
    ) -> Result<u64, EngineError> {
        for _ in 0..SWAPS_MAX {
            match store.resolve(batch, position + 1).await {
                Ok(true) => return Ok(position),
                Ok(false) => break,
                Err(_) => tokio::time::sleep(SWAP_AGAIN_AFTER).await,
            }
        }
        let kind: StoreKind = store.kind();
        Err(StoreError::Unavailable { kind, detail }.into())
    }
}
