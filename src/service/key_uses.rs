//! When keys were last used, to the minute: noted in memory, written beside the log now and
//! then. Never an event, and never worth holding up a request for.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Service, ServiceError};
use crate::{
    domain::{Timestamp, ids::KeyId},
    journal::stores::{Statement, padded},
};

/// Keys whose use is noted between two writes; of further ones a use may be missed.
const UNWRITTEN_MAX: usize = 100_000;

/// Uses that were not written yet.
#[derive(Debug, Default)]
pub(super) struct KeyUses(Mutex<HashMap<KeyId, i64>>);

impl KeyUses {
    fn unwritten(&self) -> MutexGuard<'_, HashMap<KeyId, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a key was used.
    pub(super) fn note(&self, key: KeyId, now: Timestamp) {
        let mut unwritten = self.unwritten();
        if unwritten.len() < UNWRITTEN_MAX || unwritten.contains_key(&key) {
            unwritten.insert(key, now.minute());
        }
    }
}

const UPSERT: &str = "
INSERT INTO key_activity (key, last_used_minute)
VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE
       SET last_used_minute = excluded.last_used_minute
     WHERE key_activity.last_used_minute < excluded.last_used_minute";

impl Service {
    /// Writes down when keys were last used.
    pub(super) async fn write_key_uses(&self) -> Result<u64, ServiceError> {
        let uses = std::mem::take(&mut *self.key_uses.unwritten());
        if uses.is_empty() {
            return Ok(0);
        }
        let statements = uses.iter().map(|(key, minute)| {
            let parameters = [key.to_string().into(), (*minute).into()];
            Statement::new(UPSERT, parameters)
        });
        let written = self.journal.store().execute(statements.collect()).await;
        if let Err(error) = written {
            // They are noted again, unless the keys have been used since.
            let mut unwritten = self.key_uses.unwritten();
            for (key, minute) in uses {
                unwritten.entry(key).or_insert(minute);
            }
            return Err(error.into());
        }
        Ok(uses.len() as u64)
    }

    /// The minute in which each of these keys was last used, where it ever was.
    pub(super) async fn last_uses(
        &self,
        keys: &[KeyId],
    ) -> Result<HashMap<KeyId, Timestamp>, ServiceError> {
        let mut minutes: HashMap<KeyId, i64> = HashMap::new();
        let texts: Vec<_> = keys.iter().map(ToString::to_string).collect();
        for texts in texts.chunks(1_024) {
            let (placeholders, parameters) = padded(texts, 1);
            let sql = format!(
                "SELECT key, last_used_minute FROM key_activity WHERE key IN ({placeholders})"
            );
            for row in self.journal.store().query(&sql, parameters).await? {
                minutes.insert(row.parsed(0)?, row.integer(1)?);
            }
        }
        let unwritten = self.key_uses.unwritten();
        for key in keys {
            if let Some(minute) = unwritten.get(key) {
                let known = minutes.entry(*key).or_insert(*minute);
                *known = (*known).max(*minute);
            }
        }
        let moment = |minute: i64| Timestamp(minute.saturating_mul(60_000_000));
        Ok(minutes
            .into_iter()
            .map(|(key, at)| (key, moment(at)))
            .collect())
    }
}
