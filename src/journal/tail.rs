//! Following the log: every event once, in order, as it is written.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    entry::StoredEvent,
    stores::{self, Store, StoreError},
};

/// How long a reader waits for news of this process before it asks the store itself, for
/// what other processes have written.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// How many events are read at once.
const PAGE: u64 = 500;

/// A reader that never skips and never repeats: positions are gapless and commit in order.
#[derive(Debug)]
pub struct Tail {
    store: Arc<dyn Store>,
    head: watch::Receiver<u64>,
    position: u64,
}

impl Tail {
    pub(super) fn new(store: Arc<dyn Store>, head: watch::Receiver<u64>, position: u64) -> Self {
        Self {
            store,
            head,
            position,
        }
    }

    /// The last position that was handed out.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next events, at least one; waits for them.
    ///
    /// # Errors
    /// When the store cannot be read; calling again goes on where it was.
    pub async fn next(&mut self) -> Result<Vec<StoredEvent>, StoreError> {
        loop {
            self.head.mark_unchanged();
            let events = stores::events_after(&*self.store, self.position, PAGE).await?;
            if let Some(last) = events.last() {
                self.position = last.position;
                return Ok(events);
            }
            match tokio::time::timeout(POLL_EVERY, self.head.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                // The writer has stopped; others may still write.
                Ok(Err(_)) => tokio::time::sleep(POLL_EVERY).await,
            }
        }
    }
}
