//! The places of a draft's events in the log, its chains and the tree; what the projections
//! make of them; and the one append that all of it becomes.
//!
//! What the draft follows on may still be on its way to the disk: chains and documents are then
//! read from there first. If that is not written, neither is the draft. Never sends anything.

use std::{collections::HashMap, time::Instant};

use super::{Draft, Setback, Writer, Written};
use crate::{
    domain::{Timestamp, ids::BatchId},
    journal::{
        FoldError, Trouble,
        entry::{Recorded, StoredEvent},
        stores::{Append, Head, StoreError},
        unit::Pending,
    },
    proofs::tree::Hash,
};

impl Writer {
    /// Gives what was decided its places, and folds it. Units join while the batch before is
    /// on its way, so that there is little left to do when that has landed.
    pub(super) async fn place(&self, draft: &mut Draft) -> Result<(), Setback> {
        if draft.pending.is_empty() {
            return Ok(());
        }
        let first = self.tip().position + 1 + draft.events.len() as u64;
        let mut recorded = Vec::with_capacity(draft.pending.len());
        for (pending, position) in std::mem::take(&mut draft.pending).into_iter().zip(first..) {
            let tip = self.scope_tip(&draft.scopes, &pending.stream.scope).await?;
            let (event, typed) = self.placed(pending, position, draft.batch, draft.now, tip);
            draft.frontier.push(event.leaf);
            let tip = (event.scope_sequence, event.leaf);
            draft.scopes.insert(event.scope.clone(), tip);
            draft.events.push(event);
            recorded.push(typed);
        }
        let before = self.flight.as_ref().map(|flight| &flight.written.folded);
        let fold = self
            .fold
            .fold(&*self.store, before, &mut draft.folded, &recorded);
        let started = Instant::now();
        let folded = fold.await;
        metrics::histogram!("crewlog_fold_seconds").record(started.elapsed().as_secs_f64());
        match folded {
            Ok(()) => Ok(()),
            Err(error) => Err(self.unfoldable(&error, &draft.owners).await),
        }
    }

    /// The append of a draft. Called only while no batch is on its way: the draft follows on
    /// the head of the log then.
    pub(super) fn complete(&self, draft: &mut Draft) -> Result<(Append, Written), Setback> {
        let documents = self.fold.changes(&draft.folded);
        let documents = documents.map_err(|error| Setback::Failed(error.into()))?;
        let append = Append {
            batch: draft.batch,
            expected_position: self.head.position,
            expected_epoch: self.head.epoch,
            expected_frontier: self.head.frontier.clone(),
            recorded_at: draft.now,
            frontier: draft.frontier.clone(),
            events: std::mem::take(&mut draft.events),
            documents,
            statements: std::mem::take(&mut draft.statements),
        };
        let written = Written {
            head: Head {
                position: draft.frontier.size(),
                epoch: self.head.epoch,
                recorded_at: draft.now,
                frontier: draft.frontier.clone(),
            },
            scopes: std::mem::take(&mut draft.scopes),
            folded: std::mem::take(&mut draft.folded),
        };
        Ok((append, written))
    }

    async fn unfoldable(&self, error: &FoldError, jobs: &[usize]) -> Setback {
        // What it was decided on may never be written: then the failure is no defect.
        if self.flight.is_some() {
            return Setback::NotAlone;
        }
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

    /// The last sequence and leaf of a scope, with what is in the draft and on its way;
    /// sequence 0 where it has none.
    async fn scope_tip(
        &self,
        draft: &HashMap<String, (u64, Hash)>,
        scope: &str,
    ) -> Result<(u64, Hash), StoreError> {
        let flying = || self.flight.as_ref()?.written.scopes.get(scope);
        let known = draft.get(scope).or_else(flying);
        if let Some(tip) = known.or_else(|| self.scopes.peek(scope)) {
            return Ok(*tip);
        }
        let rows = self.store.query(SELECT_SCOPE, vec![scope.into()]).await?;
        match rows.first() {
            Some(row) => Ok((row.count(0)?, row.hash(1)?)),
            None => Ok((0, [0; 32])),
        }
    }

    fn placed(
        &self,
        pending: Pending,
        position: u64,
        batch: BatchId,
        now: Timestamp,
        (scope_sequence, previous): (u64, Hash),
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
}

const SELECT_SCOPE: &str = "
SELECT scope_sequence, leaf
  FROM events
 WHERE scope = $1
 ORDER BY scope_sequence DESC
 LIMIT 1";
