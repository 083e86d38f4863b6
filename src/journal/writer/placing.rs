//! A draft that is complete: its events get their places in the chains and the tree, the
//! projections are folded over them, and all of it becomes one append.
//!
//! Called only while no batch is on its way: documents and chains are then as the head of the
//! log has them. Never sends anything.

use std::collections::HashMap;

use super::{Draft, Setback, Writer, Written};
use crate::{
    domain::{Timestamp, ids::BatchId},
    journal::{
        FoldError, Trouble,
        entry::{Recorded, StoredEvent},
        stores::{Append, Head, StoreError},
        unit::Pending,
    },
    proofs::tree::{Frontier, Hash},
};

impl Writer {
    /// Gives every event of the draft its place, and folds.
    pub(super) async fn prepare(
        &mut self,
        draft: &mut Draft,
    ) -> Result<(Append, Written), Setback> {
        let batch = BatchId::from_uuid(self.source.uuid());
        let now = draft.now;
        let pending = std::mem::take(&mut draft.pending);
        let mut frontier = self.head.frontier.clone();
        let mut scopes = HashMap::new();
        let mut events = Vec::with_capacity(pending.len());
        let mut recorded = Vec::with_capacity(pending.len());
        for (pending, position) in pending.into_iter().zip(self.head.position + 1..) {
            let tip = self.scope_tip(&mut scopes, &pending.stream.scope).await?;
            let (event, typed) = self.place(pending, position, batch, now, tip);
            frontier.push(event.leaf);
            scopes.insert(event.scope.clone(), (event.scope_sequence, event.leaf));
            events.push(event);
            recorded.push(typed);
        }
        let mut folded = match self.fold.fold(&*self.store, &recorded).await {
            Ok(folded) => folded,
            Err(error) => return Err(self.unfoldable(&error, &draft.owners).await),
        };
        let append = Append {
            batch,
            expected_position: self.head.position,
            expected_epoch: self.head.epoch,
            recorded_at: now,
            frontier: frontier.clone(),
            events,
            documents: std::mem::take(&mut folded.documents),
            statements: std::mem::take(&mut draft.statements),
        };
        let written = Written {
            head: self.moved_head(frontier, now),
            scopes,
            folded,
        };
        Ok((append, written))
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

    fn moved_head(&self, frontier: Frontier, now: Timestamp) -> Head {
        Head {
            position: frontier.size(),
            epoch: self.head.epoch,
            recorded_at: now,
            frontier,
        }
    }

    /// The last sequence and leaf of a scope; sequence 0 where it has none.
    async fn scope_tip(
        &mut self,
        batch: &mut HashMap<String, (u64, Hash)>,
        scope: &str,
    ) -> Result<(u64, Hash), StoreError> {
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
