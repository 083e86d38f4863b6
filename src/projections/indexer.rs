//! The task that brings the audit index on behind the appends.
//!
//! It waits until a step is worth its transaction, or a moment has passed; several processes on
//! one database may each have one. Never holds up an append, and never gives up: what it cannot
//! index now it tries again, and says meanwhile what is wrong.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::audit_index::{self, STEP};
use crate::journal::stores::Store;

/// How long an entry waits for others to be indexed with.
const GATHERS: Duration = Duration::from_millis(500);
/// How long to wait before trying again what failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How far each projection is.
pub const POSITION_METRIC: &str = "crewlog_projection_position";

/// Brings the audit index on for as long as it lives.
#[derive(Debug)]
pub struct Indexer {
    trouble: Arc<Mutex<Option<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Indexer {
    /// Starts behind `head`, the newest position that is known of.
    pub fn start(store: Arc<dyn Store>, head: watch::Receiver<u64>) -> Self {
        let trouble = Arc::new(Mutex::new(None));
        let task = tokio::spawn(follow(store, head, trouble.clone()));
        Self {
            trouble,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Leaves the index to others.
    pub fn idle() -> Self {
        Self {
            trouble: Arc::default(),
            _task: AbortOnDropHandle::new(tokio::spawn(async {})),
        }
    }

    /// What keeps the index from going on, where something does.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn follow(
    store: Arc<dyn Store>,
    mut head: watch::Receiver<u64>,
    trouble: Arc<Mutex<Option<String>>>,
) {
    let mut position = 0;
    loop {
        let worth_it = head.wait_for(|head| *head >= position + STEP);
        if let Ok(Err(_writer_is_gone)) = tokio::time::timeout(GATHERS, worth_it).await {
            return;
        }
        // Not before there is anything at all: an idle server leaves its store alone.
        if head.wait_for(|head| *head > position).await.is_err() {
            return;
        }
        let advanced = audit_index::advance(&*store).await;
        let told = advanced.as_ref().err().map(ToString::to_string);
        match advanced {
            Ok(state) => {
                position = state.position;
                let audit = metrics::gauge!(POSITION_METRIC, "projection" => audit_index::NAME);
                audit.set(position as f64);
            }
            Err(error) => {
                tracing::warn!(%error, "the audit index does not go on");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        *trouble.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}
