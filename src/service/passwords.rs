//! Passwords: argon2id hashes, and slowing down who guesses.
//!
//! Hashing is bounded to a few at once, off the threads that serve. A wrong password and an
//! unknown address take the same work and get the same answer.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use lru::LruCache;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use super::ServiceError;
use crate::{domain::Timestamp, journal::Source};

/// The shortest password that is taken, in characters.
pub const PASSWORD_CHARACTERS_MIN: usize = 8;
/// The longest password that is taken, in characters.
pub const PASSWORD_CHARACTERS_MAX: usize = 256;

/// Hashes that are computed at once; each takes 19 MiB.
const AT_ONCE: usize = 4;
/// Wrong passwords for one address before the next has to wait.
const FREE_FAILURES: u32 = 5;
/// The longest that somebody has to wait.
const WAIT_SECONDS_MAX: u64 = 60;
/// Failures are forgotten after this long without one.
const FORGET_AFTER: chrono::TimeDelta = chrono::TimeDelta::minutes(15);
/// Addresses whose failures are remembered.
const ADDRESSES_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Hashes and verifies passwords, and remembers failures.
#[derive(Debug)]
pub struct Passwords {
    source: Arc<dyn Source>,
    at_once: Arc<Semaphore>,
    /// The hash that an unknown address is verified against.
    nobody: String,
    failures: Mutex<LruCache<String, Failures>>,
    /// Failures by minute and address, until they are written down.
    unwritten: Mutex<HashMap<(i64, String), u64>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Timestamp,
}

impl Failures {
    fn wait_until(&self) -> Timestamp {
        let excess = self.count.saturating_sub(FREE_FAILURES);
        let seconds = match excess {
            0 => 0,
            _ => (1u64 << (excess - 1).min(16)).min(WAIT_SECONDS_MAX),
        };
        self.last.plus(chrono::TimeDelta::seconds(seconds as i64))
    }
}

impl Passwords {
    /// Ready to hash.
    ///
    /// # Errors
    /// When hashing itself fails.
    pub fn new(source: Arc<dyn Source>) -> Result<Self, ServiceError> {
        let nobody = hash_now(&SecretString::from("nobody has this"), &*source)?;
        Ok(Self {
            source,
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            nobody,
            failures: Mutex::new(LruCache::new(ADDRESSES_IN_MEMORY)),
            unwritten: Mutex::default(),
        })
    }

    /// The hash that is kept, in PHC form.
    ///
    /// # Errors
    /// When hashing fails.
    pub async fn hash(&self, password: SecretString) -> Result<String, ServiceError> {
        let source = self.source.clone();
        self.off_thread(move || hash_now(&password, &*source))
            .await?
    }

    /// Whether the password is the one that `hash` was made of; `None` for an address
    /// that nobody has, which takes as long.
    ///
    /// # Errors
    /// When verifying fails for another reason than a wrong password.
    pub async fn verify(
        &self,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool, ServiceError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let matches = self.off_thread(move || {
            let parsed = PasswordHash::new(&hash)
                .map_err(|_| ServiceError::Internal("a password hash is malformed".to_owned()))?;
            let password = password.expose_secret().as_bytes();
            Ok::<_, ServiceError>(Argon2::default().verify_password(password, &parsed).is_ok())
        });
        Ok(matches.await?? && known)
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let permit = self.at_once.clone().acquire_owned().await;
        let permit = permit.map_err(|error| ServiceError::Internal(error.to_string()))?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .map_err(|error| ServiceError::Internal(error.to_string()))
    }

    /// Whether an address may be tried now.
    ///
    /// # Errors
    /// [`ServiceError::TooManyAttempts`] with the time to wait.
    pub fn may_try(&self, address: &str) -> Result<(), ServiceError> {
        let now = self.source.now();
        let known = self.failures().get(address).copied();
        match known.map(|failures| failures.wait_until().0 - now.0) {
            Some(wait) if wait > 0 => Err(ServiceError::TooManyAttempts {
                retry_after: Duration::from_micros(wait.unsigned_abs()),
            }),
            _ => Ok(()),
        }
    }

    /// Remembers a wrong password.
    pub fn failed(&self, address: &str) {
        let now = self.source.now();
        let mut failures = self.failures();
        let before = failures
            .get(address)
            .filter(|known| known.last.plus(FORGET_AFTER) > now);
        let count = before.map_or(1, |known| known.count.saturating_add(1));
        failures.put(address.to_owned(), Failures { count, last: now });
        drop(failures);
        let mut unwritten = self
            .unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if unwritten.len() < ADDRESSES_IN_MEMORY.get() {
            *unwritten
                .entry((now.minute(), address.to_owned()))
                .or_default() += 1;
        }
    }

    /// Takes the failures of the minutes before `minute`: address, minute and count.
    pub fn failures_before(&self, minute: i64) -> Vec<(String, i64, u64)> {
        let mut unwritten = self
            .unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let ended = unwritten.extract_if(|(of, _), _| *of < minute);
        ended
            .map(|((of, address), count)| (address, of, count))
            .collect()
    }

    /// Forgets the failures of an address whose password was right.
    pub fn succeeded(&self, address: &str) {
        self.failures().pop(address);
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, LruCache<String, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash_now(password: &SecretString, source: &dyn Source) -> Result<String, ServiceError> {
    let mut salt = [0; 16];
    source.fill(&mut salt);
    let failed = |error: argon2::password_hash::Error| {
        ServiceError::Internal(format!("a password could not be hashed: {error}"))
    };
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::SystemSource;

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let passwords = Passwords::new(Arc::new(SystemSource)).unwrap();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(
            passwords
                .verify("correct horse".into(), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("wrong horse".into(), Some(hash))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("nobody has this".into(), None)
                .await
                .unwrap()
        );
    }

    #[test]
    fn guessing_has_to_wait_longer_and_longer() {
        let passwords = Passwords::new(Arc::new(SystemSource)).unwrap();
        for _ in 0..FREE_FAILURES {
            passwords.may_try("a").unwrap();
            passwords.failed("a");
        }
        passwords.may_try("a").unwrap();
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                passwords.failed("a");
                match passwords.may_try("a") {
                    Err(ServiceError::TooManyAttempts { retry_after }) => {
                        retry_after.as_secs_f64().ceil() as u64
                    }
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        passwords.may_try("b").unwrap();
        passwords.succeeded("a");
        passwords.may_try("a").unwrap();
    }
}
