//! What was folded of the log and never changes, remembered for whoever asks again.
//!
//! Never the truth: whatever is gone from here is folded again.

use std::{
    hash::Hash,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

/// Values by what they were folded of; where there are too many, the least used one goes.
#[derive(Debug)]
pub(super) struct Remembered<K: Hash + Eq, V>(Mutex<LruCache<K, Arc<V>>>);

impl<K: Hash + Eq, V> Remembered<K, V> {
    pub(super) fn new(most: NonZeroUsize) -> Self {
        Self(Mutex::new(LruCache::new(most)))
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.values().get(key).cloned()
    }

    pub(super) fn put(&self, key: K, value: Arc<V>) {
        self.values().put(key, value);
    }

    fn values(&self) -> MutexGuard<'_, LruCache<K, Arc<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
