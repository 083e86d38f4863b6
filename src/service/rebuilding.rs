//! Rebuilds of projections, as a serving process sees them: it shows how far one is, and on SQLite,
//! where it alone writes, it does what a command has asked for.

use std::{sync::Arc, time::Duration};

use super::Service;
use crate::{
    journal::stores::StoreKind,
    projections::{self, EngineError, Rebuild, Rebuilt},
};

/// How often to look whether there is a rebuild to show, or to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Service {
    /// Why this process must not serve any more, where a newer version has taken over, or the log
    /// is not the one any more that it knows.
    pub fn superseded(&self) -> Option<String> {
        let of_engine = self.engine.superseded().map(str::to_owned);
        of_engine.or_else(|| self.journal.status().superseded())
    }

    /// Shows rebuilds that are under way, and does those that are this process's to do, for as
    /// long as it is polled.
    pub async fn keep_rebuilding(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(error) = self.look_for_a_rebuild().await {
                tracing::warn!(%error, "a rebuild does not go on");
            }
        }
    }

    async fn look_for_a_rebuild(&self) -> Result<(), EngineError> {
        let store = self.journal.store();
        let status = projections::status(&**store).await?;
        let (left, per_second) = match status.is_under_way() {
            true => (
                status.head.saturating_sub(status.position),
                status.per_second,
            ),
            false => (0, 0),
        };
        metrics::gauge!("crewlog_rebuild_entries_left").set(left as f64);
        metrics::gauge!("crewlog_rebuild_entries_per_second").set(per_second as f64);
        // Elsewhere whoever asks does it.
        if store.kind() == StoreKind::Sqlite && status.is_under_way() {
            self.do_what_was_asked().await?;
        }
        Ok(())
    }

    async fn do_what_was_asked(&self) -> Result<(), EngineError> {
        // The journal appends meanwhile, by a handle of its own.
        let store = self.journal.store().another();
        let taken = Rebuild::take_up(&*store, &self.settings.projections).await?;
        let Some(rebuild) = taken else {
            return Ok(());
        };
        let names = rebuild.names().join(", ");
        match rebuild.began_at() {
            0 => tracing::info!(names, "rebuilding"),
            position => tracing::info!(names, position, "going on with a rebuild"),
        }
        let show = |at: projections::Progress| {
            let left = at.head.saturating_sub(at.position);
            metrics::gauge!("crewlog_rebuild_entries_left").set(left as f64);
            let per_second = at.position as f64 / at.elapsed.as_secs_f64().max(0.001);
            metrics::gauge!("crewlog_rebuild_entries_per_second").set(per_second);
        };
        let Rebuilt {
            position, repaired, ..
        } = rebuild.run(&*store, &mut { show }).await?;
        tracing::info!(names, position, repaired, "rebuilt");
        Ok(())
    }
}
