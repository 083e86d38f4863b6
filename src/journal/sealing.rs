//! Keys, and what is sealed under them.
//!
//! One root key wraps a data key for every person (once for their account, once for each
//! organization), workspace and organization. Destroying a wrapped key is how somebody is
//! erased: the log stays, verifies, and cannot be read there any more.
//!
//! Never logs, prints or returns a key; plain values leave only through [`DataKey::open`].
//! Another root key comes in the place of one by [`rotation`].

pub mod rotation;

use std::{
    collections::HashSet,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use lru::LruCache;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{
    source::Source,
    stores::{Statement, Store, StoreError, Value},
};
use crate::domain::{
    ids::EventId,
    sealed::{KeyOwner, Sealed},
};

const NONCE_BYTES: usize = 24;
const OPENING_BYTES: usize = 32;

/// How many unwrapped data keys a process keeps.
const KEYS_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Version of the keys derived for look-ups; part of what they make.
const LOOKUP_VERSION: i64 = 1;

/// The key that wraps all others, 32 bytes.
pub struct RootKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for RootKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RootKey(…)")
    }
}

/// A text that is not a root key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a root key is 32 bytes in standard base64 (44 characters)")]
pub struct MalformedRootKey;

impl RootKey {
    /// A new one.
    pub fn generate(source: &dyn Source) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        source.fill(key.as_mut());
        Self(key)
    }

    /// Reads the text form, with white space around it.
    ///
    /// # Errors
    /// When it is not 32 bytes in base64.
    pub fn from_text(text: &str) -> Result<Self, MalformedRootKey> {
        let mut bytes = BASE64_STANDARD
            .decode(text.trim())
            .map_err(|_| MalformedRootKey)?;
        let key = bytes
            .as_slice()
            .try_into()
            .map(Zeroizing::new)
            .map_err(|_| MalformedRootKey);
        bytes.zeroize();
        key.map(Self)
    }

    /// The text form, for the key file alone.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(self.0.as_ref()))
    }

    /// By which a store knows it, and which tells nothing of it.
    fn proof(&self) -> Zeroizing<[u8; 32]> {
        self.derive("root key proof")
    }

    /// What wraps other keys.
    fn wrapping(&self) -> Zeroizing<[u8; 32]> {
        self.derive("wrapping 1")
    }

    /// HKDF-SHA256 (RFC 5869) for one purpose.
    fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(b"crewlog"), self.0.as_ref())
            .expand(purpose.as_bytes(), key.as_mut())
            .expect("32 bytes are within what HKDF gives");
        key
    }
}

/// The key of one owner, unwrapped.
pub struct DataKey {
    owner: KeyOwner,
    version: u32,
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DataKey({} {})", self.owner, self.version)
    }
}

/// What could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed field does not open under its key: it, or the key, was changed")]
pub struct OpenError;

impl DataKey {
    /// Whose key this is.
    pub fn owner(&self) -> KeyOwner {
        self.owner
    }

    /// Seals `value` for `field` of the event `event`, and for nowhere else.
    pub fn seal(&self, source: &dyn Source, event: EventId, field: &str, value: &str) -> Sealed {
        let mut random = Zeroizing::new([0; NONCE_BYTES + OPENING_BYTES]);
        source.fill(random.as_mut());
        let (nonce, opening) = random.split_at(NONCE_BYTES);
        let plain = Zeroizing::new([opening, value.as_bytes()].concat());
        let ciphertext = encrypt(&self.key, nonce, &bound_to(event, field), &plain);
        Sealed {
            subject: self.owner,
            key_version: self.version,
            commitment: BASE64_STANDARD.encode(Sha256::digest(&plain)),
            ciphertext: BASE64_STANDARD.encode(ciphertext),
        }
    }

    /// The value that was sealed for `field` of `event`.
    ///
    /// # Errors
    /// When it was changed, or sealed for another place or under another key.
    pub fn open(&self, sealed: &Sealed, event: EventId, field: &str) -> Result<String, OpenError> {
        Ok(self.open_for_others(sealed, event, field)?.1)
    }

    /// The same, with the random bytes that the value was committed to: with both, somebody else
    /// can hold the value against the commitment in the entry.
    ///
    /// # Errors
    /// When it was changed, or sealed for another place or under another key.
    pub fn open_for_others(
        &self,
        sealed: &Sealed,
        event: EventId,
        field: &str,
    ) -> Result<([u8; OPENING_BYTES], String), OpenError> {
        let ciphertext = BASE64_STANDARD
            .decode(&sealed.ciphertext)
            .map_err(|_| OpenError)?;
        let plain = decrypt(&self.key, &bound_to(event, field), &ciphertext)?;
        let commitment = BASE64_STANDARD
            .decode(&sealed.commitment)
            .map_err(|_| OpenError)?;
        if Sha256::digest(&plain).as_slice() != commitment {
            return Err(OpenError);
        }
        let (opening, value) = plain.split_first_chunk().ok_or(OpenError)?;
        let value = String::from_utf8(value.to_vec()).map_err(|_| OpenError)?;
        Ok((*opening, value))
    }
}

impl DataKey {
    /// Which of its owner's keys this is, counted from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Seals bytes that are kept beside the log, for the place that `bound_to` names alone.
    pub fn seal_bytes(&self, source: &dyn Source, bound_to: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        source.fill(&mut nonce);
        encrypt(&self.key, &nonce, bound_to.as_bytes(), plain)
    }

    /// What was sealed with [`DataKey::seal_bytes`] for the same place.
    ///
    /// # Errors
    /// When it was changed, or sealed for another place or under another key.
    pub fn open_bytes(
        &self,
        bound_to: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        decrypt(&self.key, bound_to.as_bytes(), sealed)
    }
}

fn bound_to(event: EventId, field: &str) -> Vec<u8> {
    format!("{event}/{field}").into_bytes()
}

/// XChaCha20-Poly1305; the nonce stands before the ciphertext.
fn encrypt(key: &[u8; 32], nonce: &[u8], bound_to: &[u8], plain: &[u8]) -> Vec<u8> {
    let payload = Payload {
        msg: plain,
        aad: bound_to,
    };
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(nonce), payload)
        .expect("what is sealed here is far below the cipher's limit of 256 GiB");
    [nonce, &sealed].concat()
}

fn decrypt(
    key: &[u8; 32],
    bound_to: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES).ok_or(OpenError)?;
    let payload = Payload {
        msg: ciphertext,
        aad: bound_to,
    };
    XChaCha20Poly1305::new(key.into())
        .decrypt(XNonce::from_slice(nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| OpenError)
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The store was made under another root key.
    #[error(
        "this is not the root key that the store was made with; start with the one that was \
         (file root.key in the data folder, CREWLOG_ROOT_KEY or CREWLOG_ROOT_KEY_FILE)"
    )]
    WrongRootKey,
    /// Some keys are wrapped under one, and some under another.
    #[error(
        "a rotation of the root key was begun and has not ended; run the same `crewlog keys \
         rotate-root` again, which goes on with it"
    )]
    RotationUnfinished,
    /// A wrapped key does not open.
    #[error("the key of {0} does not open under the root key; the row was changed")]
    Damaged(KeyOwner),
    /// The wrapped key of look-ups does not open.
    #[error("the key of look-ups does not open under the root key; the row was changed")]
    DamagedLookup,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Of the present root key, and of the one that is to come in its place.
const SELECT_PROOFS: &str = "
SELECT name, proof
  FROM root_keys
 WHERE name IN ('root', 'next')";

const INSERT_PROOF: &str = "
INSERT INTO root_keys (name, proof)
VALUES ('root', $1)
    ON CONFLICT (name) DO NOTHING";

const SELECT_LOOKUP: &str = "
SELECT wrapped
  FROM lookup_keys
 WHERE version = $1";

const SELECT_KEY: &str = "
SELECT key_version, wrapped
  FROM subject_keys
 WHERE owner = $1
 ORDER BY key_version DESC";

const INSERT_KEY: &str = "
INSERT INTO subject_keys (owner, key_version, wrapped)
VALUES ($1, $2, $3)";

/// What a store knows its root keys by.
struct Proofs {
    present: Option<Vec<u8>>,
    /// Of the one that a rotation brings, while it is under way.
    next: Option<Vec<u8>>,
}

impl Proofs {
    async fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let mut proofs = Self {
            present: None,
            next: None,
        };
        for row in store.query(SELECT_PROOFS, vec![]).await? {
            let proof = Some(row.bytes(1)?.to_vec());
            match row.text(0)? {
                "next" => proofs.next = proof,
                _ => proofs.present = proof,
            }
        }
        Ok(proofs)
    }

    /// That the store opens with a root key; one that has none yet opens with any.
    fn admit(&self, root: &RootKey) -> Result<(), KeyringError> {
        let proof = root.proof();
        let is_present = is(&proof, self.present.as_deref());
        match &self.next {
            Some(next) if is_present || is(&proof, Some(next)) => {
                Err(KeyringError::RotationUnfinished)
            }
            None if is_present || self.present.is_none() => Ok(()),
            Some(_) | None => Err(KeyringError::WrongRootKey),
        }
    }
}

fn is(proof: &[u8; 32], known: Option<&[u8]>) -> bool {
    known.is_some_and(|known| bool::from(known.ct_eq(proof.as_slice())))
}

/// The key that values are looked up by: what the store's first root key gave. Since that was
/// rotated, it is kept wrapped.
async fn lookup_key(
    store: &dyn Store,
    root: &RootKey,
) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    let rows = match store
        .query(SELECT_LOOKUP, vec![LOOKUP_VERSION.into()])
        .await
    {
        // An older schema, in which no root key was ever rotated.
        Err(StoreError::NotMigrated { .. }) => Vec::new(),
        rows => rows?,
    };
    let Some(row) = rows.first() else {
        return Ok(root.derive(&format!("lookup {LOOKUP_VERSION}")));
    };
    let opened = decrypt(&root.wrapping(), &lookup_bound_to(), row.bytes(0)?);
    let key = opened.ok().and_then(|key| key.as_slice().try_into().ok());
    key.map(Zeroizing::new).ok_or(KeyringError::DamagedLookup)
}

fn lookup_bound_to() -> Vec<u8> {
    format!("lookup key {LOOKUP_VERSION}").into_bytes()
}

/// All keys of a store, unwrapped as they are needed.
pub struct Keyring {
    store: Arc<dyn Store>,
    source: Arc<dyn Source>,
    wrapping: Zeroizing<[u8; 32]>,
    lookup: Zeroizing<[u8; 32]>,
    in_memory: Mutex<LruCache<(KeyOwner, u32), Arc<DataKey>>>,
    newest_version: Mutex<LruCache<KeyOwner, u32>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keyring(…)")
    }
}

impl Keyring {
    /// Opens the keys of a store; a new store takes this root key as its own.
    ///
    /// # Errors
    /// When the store was made with another root key, is between two, or cannot be read.
    pub async fn open(
        store: Arc<dyn Store>,
        source: Arc<dyn Source>,
        root: &RootKey,
        may_write: bool,
    ) -> Result<Self, KeyringError> {
        if may_write {
            let insert = Statement::new(INSERT_PROOF, [root.proof().to_vec().into()]);
            store.execute(vec![insert]).await?;
        }
        Proofs::of(&*store).await?.admit(root)?;
        let lookup = lookup_key(&*store, root).await?;
        Ok(Self {
            store,
            source,
            wrapping: root.wrapping(),
            lookup,
            in_memory: Mutex::new(LruCache::new(KEYS_IN_MEMORY)),
            newest_version: Mutex::new(LruCache::new(KEYS_IN_MEMORY)),
        })
    }

    /// Whether a store has been given a root key, whichever it is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn has_root_key(store: &dyn Store) -> Result<bool, StoreError> {
        Ok(Proofs::of(store).await?.present.is_some())
    }

    /// A new key for an owner that has none, and the statement that keeps it. The statement
    /// MUST be part of the append whose events are sealed under the key.
    pub fn create(&self, owner: KeyOwner) -> (Arc<DataKey>, Statement) {
        let version = 1;
        let mut key = Zeroizing::new([0; 32]);
        self.source.fill(key.as_mut());
        let mut nonce = [0; NONCE_BYTES];
        self.source.fill(&mut nonce);
        let wrapped = encrypt(
            &self.wrapping,
            &nonce,
            &wrap_bound_to(owner, version),
            key.as_ref(),
        );
        let parameters: [Value; 3] = [
            owner.to_string().into(),
            i64::from(version).into(),
            wrapped.into(),
        ];
        let key = DataKey {
            owner,
            version,
            key,
        };
        (Arc::new(key), Statement::new(INSERT_KEY, parameters))
    }

    /// The newest key of an owner; none where there is none, or it was destroyed.
    ///
    /// # Errors
    /// When the store cannot be read, or the key was damaged.
    pub async fn newest(&self, owner: KeyOwner) -> Result<Option<Arc<DataKey>>, KeyringError> {
        let known = locked(&self.newest_version).get(&owner).copied();
        if let Some(version) = known {
            return self.key(owner, version).await;
        }
        let newest = self.load(owner).await?.into_iter().next();
        if let Some(key) = &newest {
            locked(&self.newest_version).put(owner, key.version);
        }
        Ok(newest)
    }

    /// The key of an owner and version; none where it was destroyed.
    ///
    /// # Errors
    /// When the store cannot be read, or the key was damaged.
    pub async fn key(
        &self,
        owner: KeyOwner,
        version: u32,
    ) -> Result<Option<Arc<DataKey>>, KeyringError> {
        if let Some(key) = locked(&self.in_memory).get(&(owner, version)) {
            return Ok(Some(key.clone()));
        }
        let keys = self.load(owner).await?;
        Ok(keys.into_iter().find(|key| key.version == version))
    }

    /// All keys of an owner from the store, newest first.
    async fn load(&self, owner: KeyOwner) -> Result<Vec<Arc<DataKey>>, KeyringError> {
        let rows = self
            .store
            .query(SELECT_KEY, vec![owner.to_string().into()])
            .await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            let version =
                u32::try_from(row.integer(0)?).map_err(|_| KeyringError::Damaged(owner))?;
            let key = Arc::new(self.unwrap(owner, version, row.bytes(1)?)?);
            locked(&self.in_memory).put((owner, version), key.clone());
            keys.push(key);
        }
        Ok(keys)
    }

    fn unwrap(
        &self,
        owner: KeyOwner,
        version: u32,
        wrapped: &[u8],
    ) -> Result<DataKey, KeyringError> {
        let damaged = || KeyringError::Damaged(owner);
        let plain = decrypt(&self.wrapping, &wrap_bound_to(owner, version), wrapped)
            .map_err(|_| damaged())?;
        let key: [u8; 32] = plain.as_slice().try_into().map_err(|_| damaged())?;
        Ok(DataKey {
            owner,
            version,
            key: Zeroizing::new(key),
        })
    }

    /// Forgets the keys of some owners, which were destroyed.
    pub fn forget(&self, owners: &HashSet<KeyOwner>) {
        if owners.is_empty() {
            return;
        }
        let mut newest = locked(&self.newest_version);
        for owner in owners {
            newest.pop(owner);
        }
        drop(newest);
        let mut in_memory = locked(&self.in_memory);
        let theirs = |of: &(KeyOwner, u32)| owners.contains(&of.0);
        let keys: Vec<_> = in_memory.iter().map(|(of, _)| *of).filter(theirs).collect();
        for key in keys {
            in_memory.pop(&key);
        }
    }

    /// Wraps a secret that is kept beside the log, for the place that `bound_to` names alone.
    pub fn wrap_secret(&self, bound_to: &str, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        self.source.fill(&mut nonce);
        encrypt(&self.wrapping, &nonce, &secret_bound_to(bound_to), secret)
    }

    /// What was wrapped with [`Keyring::wrap_secret`] for the same place.
    ///
    /// # Errors
    /// When it was changed, or wrapped for another place or under another root key.
    pub fn unwrap_secret(
        &self,
        bound_to: &str,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        decrypt(&self.wrapping, &secret_bound_to(bound_to), wrapped)
    }

    /// What a value is looked up by without being kept: HMAC-SHA256 (RFC 2104) under a
    /// derived key, with the key's version before it. `purpose` keeps kinds of values apart.
    pub fn lookup(&self, purpose: &str, value: &str) -> String {
        let digest = self.hmac(purpose, value.as_bytes());
        format!("{LOOKUP_VERSION}:{}", BASE64_STANDARD.encode(digest))
    }

    /// HMAC-SHA256 of bytes under the look-up key.
    pub fn hmac(&self, purpose: &str, bytes: &[u8]) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(self.lookup.as_ref())
            .expect("HMAC takes a key of any length");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// Where random bytes and the time come from.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wrap_bound_to(owner: impl fmt::Display, version: impl fmt::Display) -> Vec<u8> {
    format!("key {owner} {version}").into_bytes()
}

fn secret_bound_to(bound_to: &str) -> Vec<u8> {
    format!("secret {bound_to}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::ids::WorkspaceId, journal::source::SystemSource};
    use uuid::Uuid;

    fn data_key() -> DataKey {
        DataKey {
            owner: KeyOwner::Workspace(WorkspaceId::from_uuid(Uuid::from_u128(1))),
            version: 1,
            key: Zeroizing::new([7; 32]),
        }
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_was_sealed_for() {
        let key = data_key();
        let [here, there] = [1, 2].map(|id| EventId::from_uuid(Uuid::from_u128(id)));
        let sealed = key.seal(&SystemSource, here, "email", "ada@example.com");
        assert_eq!(
            key.open(&sealed, here, "email"),
            Ok("ada@example.com".to_owned())
        );
        assert_eq!(key.open(&sealed, there, "email"), Err(OpenError));
        assert_eq!(key.open(&sealed, here, "name"), Err(OpenError));
        let other = DataKey {
            key: Zeroizing::new([8; 32]),
            ..data_key()
        };
        assert_eq!(other.open(&sealed, here, "email"), Err(OpenError));
    }

    #[test]
    fn the_same_value_never_seals_to_the_same_bytes() {
        let key = data_key();
        let event = EventId::from_uuid(Uuid::from_u128(1));
        let [first, second] = [(); 2].map(|()| key.seal(&SystemSource, event, "name", "Ada"));
        assert_ne!(first.commitment, second.commitment);
        assert_ne!(first.ciphertext, second.ciphertext);
    }

    #[test]
    fn a_root_key_reads_back_and_does_not_print() {
        let key = RootKey::generate(&SystemSource);
        let read = RootKey::from_text(&format!(" {}\n", *key.to_text()));
        assert_eq!(read.map(|key| *key.0), Ok(*key.0));
        assert!(RootKey::from_text("c2hvcnQ=").is_err());
        assert_eq!(format!("{key:?}"), "RootKey(…)");
    }
}
