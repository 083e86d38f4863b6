//! Keys by the hash of their secret, in memory: what gateways ask for with every request.
//!
//! Brought up to each batch before anybody in it is answered, so a key that was revoked here
//! is refused here from the answer on. What other processes do to a key is taken note of when
//! the log is followed; how long that may be ago is for whoever asks to decide. It also remembers
//! which organizations are suspended, whose keys are good for nothing.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use super::ApiKeyDocument;
use crate::domain::ids::{KeyId, OrganizationId};

/// How many keys are remembered.
const KEYS_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Of how many organizations it is remembered whether they are suspended.
const ORGANIZATIONS_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// SHA-256 of a secret.
pub type SecretHash = [u8; 32];

/// See the module.
#[derive(Debug)]
pub struct KeyIndex(Mutex<Known>);

#[derive(Debug)]
struct Known {
    by_hash: LruCache<SecretHash, Arc<ApiKeyDocument>>,
    hashes: LruCache<KeyId, SecretHash>,
    /// The position of the last event about any key that was taken note of.
    changed_at: u64,
    suspended: LruCache<OrganizationId, bool>,
    /// The same of any organization.
    standing_changed_at: u64,
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self(Mutex::new(Known {
            by_hash: LruCache::new(KEYS_IN_MEMORY),
            hashes: LruCache::new(KEYS_IN_MEMORY),
            changed_at: 0,
            suspended: LruCache::new(ORGANIZATIONS_IN_MEMORY),
            standing_changed_at: 0,
        }))
    }
}

impl KeyIndex {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key whose secret has this hash, where it is remembered; and, where that is, whether its
    /// organization is suspended.
    pub fn get(&self, hash: &SecretHash) -> Option<(Arc<ApiKeyDocument>, Option<bool>)> {
        let mut known = self.known();
        let key = known.by_hash.get(hash)?.clone();
        let is_suspended = known.suspended.get(&key.organization).copied();
        Some((key, is_suspended))
    }

    /// Remembers a key as it was read from the store at `position`, unless a key has been
    /// changed since: then what was read may be older.
    pub fn remember(&self, hash: SecretHash, key: Arc<ApiKeyDocument>, position: u64) {
        let mut known = self.known();
        if known.changed_at <= position {
            known.hashes.put(key.id, hash);
            known.by_hash.put(hash, key);
        }
    }

    /// Takes note of an event about a key.
    pub fn changed(&self, key: KeyId, position: u64) {
        let mut known = self.known();
        known.changed_at = known.changed_at.max(position);
        if let Some(hash) = known.hashes.pop(&key) {
            known.by_hash.pop(&hash);
        }
    }

    /// Whether an operator has an organization suspended, where that is remembered.
    pub fn is_suspended(&self, organization: OrganizationId) -> Option<bool> {
        self.known().suspended.get(&organization).copied()
    }

    /// Remembers that, as it was read from the store at `position`, unless any organization has
    /// been changed since.
    pub fn remember_standing(
        &self,
        organization: OrganizationId,
        is_suspended: bool,
        position: u64,
    ) {
        let mut known = self.known();
        if known.standing_changed_at <= position {
            known.suspended.put(organization, is_suspended);
        }
    }

    /// Takes note of an event about an organization itself.
    pub fn standing_changed(&self, organization: OrganizationId, position: u64) {
        let mut known = self.known();
        known.standing_changed_at = known.standing_changed_at.max(position);
        known.suspended.pop(&organization);
    }

    /// Takes note of something that may be about any key.
    pub fn forget(&self, position: u64) {
        let mut known = self.known();
        known.changed_at = known.changed_at.max(position);
        known.by_hash.clear();
        known.hashes.clear();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        Timestamp,
        api_keys::KeyTerms,
        ids::{OrganizationId, UserId},
    };

    fn key(number: u128) -> Arc<ApiKeyDocument> {
        Arc::new(ApiKeyDocument {
            id: KeyId::from_uuid(Uuid::from_u128(number)),
            version: 1,
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
            organization: OrganizationId::from_uuid(Uuid::from_u128(1)),
            workspace: None,
            environment: None,
            terms: KeyTerms::default(),
            token_hash: String::new(),
            prefix: String::new(),
            created_by: UserId::from_uuid(Uuid::from_u128(1)),
            rotated_from: None,
            successor: None,
            ended: None,
            granted_at: 1,
        })
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let index = KeyIndex::default();
        index.remember([1; 32], key(1), 7);
        assert_eq!(index.get(&[1; 32]), Some((key(1), None)));
        index.changed(key(1).id, 8);
        assert_eq!(index.get(&[1; 32]), None);
        // Read before position 8, and late to arrive.
        index.remember([1; 32], key(1), 7);
        assert_eq!(index.get(&[1; 32]), None);
        index.remember([1; 32], key(1), 8);
        assert_eq!(index.get(&[1; 32]), Some((key(1), None)));
    }

    #[test]
    fn that_an_organization_is_suspended_is_remembered_until_it_changes() {
        let index = KeyIndex::default();
        let organization = |number| OrganizationId::from_uuid(Uuid::from_u128(number));
        assert_eq!(index.is_suspended(organization(1)), None);
        index.remember_standing(organization(1), false, 7);
        index.remember_standing(organization(2), false, 7);
        index.standing_changed(organization(1), 8);
        assert_eq!(index.is_suspended(organization(1)), None);
        assert_eq!(index.is_suspended(organization(2)), Some(false));
        index.remember([1; 32], key(1), 8);
        assert_eq!(index.get(&[1; 32]), Some((key(1), None)));
        // Read before position 8, and late to arrive.
        index.remember_standing(organization(1), false, 7);
        assert_eq!(index.is_suspended(organization(1)), None);
        index.remember_standing(organization(1), true, 8);
        assert_eq!(index.is_suspended(organization(1)), Some(true));
        assert_eq!(index.get(&[1; 32]), Some((key(1), Some(true))));
    }

    #[test]
    fn a_change_of_one_key_leaves_the_others() {
        let index = KeyIndex::default();
        index.remember([1; 32], key(1), 7);
        index.remember([2; 32], key(2), 7);
        index.changed(key(1).id, 8);
        assert_eq!(index.get(&[2; 32]), Some((key(2), None)));
        index.forget(9);
        assert_eq!(index.get(&[2; 32]), None);
    }
}
