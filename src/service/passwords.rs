//! Passwords: argon2id hashes, and who may try one now.
//!
//! Hashing is bounded to a few at once, off the threads that serve; who would wait too long for
//! their turn is told so. A wrong password and an unknown address take the same work and get the
//! same answer. What slows down guessing is in [`super::throttle`].

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use super::{
    ServiceError,
    throttle::{Network, Throttle, Tried},
};
use crate::journal::Source;

/// The shortest password that is taken, in characters.
pub const PASSWORD_CHARACTERS_MIN: usize = 8;
/// The longest password that is taken, in characters.
pub const PASSWORD_CHARACTERS_MAX: usize = 256;

/// What a hash costs: argon2id as OWASP's Password Storage Cheat Sheet has it. Written down
/// here, so that another release of the crate does not change it unseen. What is stored with
/// less is hashed anew when its person signs in.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const HASH_BYTES: usize = Params::DEFAULT_OUTPUT_LEN;

/// Hashes that are computed at once; each takes 19 MiB.
const AT_ONCE: usize = 4;
/// Those that wait for their turn; one more is told to come back.
const WAITING_MAX: usize = 256;
/// How long one waits for a turn before being told to come back.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Failures that are counted until they are written down, by minute and address.
const UNWRITTEN_MAX: usize = 100_000;

/// Hashes and verifies passwords, and counts failures.
#[derive(Debug)]
pub struct Passwords {
    source: Arc<dyn Source>,
    at_once: Arc<Semaphore>,
    /// A place for each that is computed or waits.
    places: Semaphore,
    wait_max: Duration,
    /// The hash that an unknown address is verified against.
    nobody: String,
    throttle: Throttle,
    /// Failures by minute and address, until they are written down.
    unwritten: Mutex<HashMap<(i64, String), u64>>,
}

/// A password that is being tried. Dropped before it is known to be right or wrong, it counts
/// for neither.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    passwords: &'a Passwords,
    address: String,
    network: Network,
    tried: Tried,
}

impl Attempt<'_> {
    pub(super) fn right(mut self) {
        self.tried = Tried::Right;
    }

    pub(super) fn wrong(mut self) {
        self.tried = Tried::Wrong;
        self.passwords.count_failure(&self.address);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Self {
            passwords,
            address,
            network,
            tried,
        } = self;
        let now = passwords.source.now();
        passwords.throttle.end(address, *network, *tried, now);
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
            places: Semaphore::new(AT_ONCE + WAITING_MAX),
            wait_max: WAIT_MAX,
            nobody,
            throttle: Throttle::default(),
            unwritten: Mutex::default(),
        })
    }

    /// The hash that is kept, in PHC form.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] when too many are waiting; otherwise when hashing fails.
    pub async fn hash(&self, password: SecretString) -> Result<String, ServiceError> {
        let source = self.source.clone();
        self.off_thread(move || hash_now(&password, &*source))
            .await?
    }

    /// Whether the password is the one that `hash` was made of; `None` for an address
    /// that nobody has, which takes as long.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] when too many are waiting; otherwise when verifying fails
    /// for another reason than a wrong password.
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
            // Costs what the hash was made with, and compares in constant time.
            Ok::<_, ServiceError>(argon2id()?.verify_password(password, &parsed).is_ok())
        });
        Ok(matches.await?? && known)
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let _place = self
            .places
            .try_acquire()
            .map_err(|_| ServiceError::Overloaded)?;
        let turn = self.at_once.clone().acquire_owned();
        let turn = tokio::time::timeout(self.wait_max, turn).await;
        let turn = turn
            .map_err(|_| ServiceError::Overloaded)?
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        tokio::task::spawn_blocking(move || {
            // Kept to the end of the work, also where nobody waits for it any more.
            let _turn = turn;
            work()
        })
        .await
        .map_err(|error| ServiceError::Internal(error.to_string()))
    }

    /// Begins to try a password for an address, from where the client is.
    ///
    /// # Errors
    /// [`ServiceError::TooManyAttempts`] with the time to wait.
    pub(super) fn attempt(
        &self,
        address: &str,
        client: Option<IpAddr>,
    ) -> Result<Attempt<'_>, ServiceError> {
        let network = Network::of(client);
        self.throttle
            .begin(address, network, self.source.now())
            .map_err(|retry_after| ServiceError::TooManyAttempts { retry_after })?;
        Ok(Attempt {
            passwords: self,
            address: address.to_owned(),
            network,
            tried: Tried::Undecided,
        })
    }

    fn count_failure(&self, address: &str) {
        let minute = self.source.now().minute();
        let mut unwritten = self
            .unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if unwritten.len() < UNWRITTEN_MAX {
            *unwritten.entry((minute, address.to_owned())).or_default() += 1;
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
}

/// Whether a stored hash costs a guesser less than one that is made now. What cannot be read is
/// not: [`Passwords::verify`] tells of it.
pub(super) fn is_weak(hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else {
        return false;
    };
    let argon2id = hash.algorithm == Algorithm::Argon2id.ident();
    let newest = hash.version == Some(Version::V0x13.into());
    let costs = Params::try_from(&hash).is_ok_and(|params| {
        params.m_cost() >= MEMORY_KIB && params.t_cost() >= PASSES && params.p_cost() >= LANES
    });
    let long = hash.hash.is_some_and(|output| output.len() >= HASH_BYTES);
    !(argon2id && newest && costs && long)
}

fn argon2id() -> Result<Argon2<'static>, ServiceError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES));
    let params = params.map_err(|error| ServiceError::Internal(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &SecretString, source: &dyn Source) -> Result<String, ServiceError> {
    let mut salt = [0; 16];
    source.fill(&mut salt);
    let failed = |error: argon2::password_hash::Error| {
        ServiceError::Internal(format!("a password could not be hashed: {error}"))
    };
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    let hash = argon2id()?.hash_password(password.expose_secret().as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::SystemSource;

    fn passwords() -> Passwords {
        Passwords::new(Arc::new(SystemSource)).unwrap()
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let passwords = passwords();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        let verify =
            async |password: &str, hash| passwords.verify(password.into(), hash).await.unwrap();
        assert!(verify("correct horse", Some(hash.clone())).await);
        assert!(!verify("wrong horse", Some(hash)).await);
        assert!(!verify("nobody has this", None).await);
    }

    #[tokio::test]
    async fn what_was_hashed_with_less_is_good_and_weak() {
        let passwords = passwords();
        let made = |algorithm, version, memory_kib, passes, bytes| {
            let params = Params::new(memory_kib, passes, 1, Some(bytes)).unwrap();
            let salt = SaltString::encode_b64(&[7; 16]).unwrap();
            let argon2 = Argon2::new(algorithm, version, params);
            argon2
                .hash_password(b"hunter22", &salt)
                .unwrap()
                .to_string()
        };
        use Algorithm::{Argon2i, Argon2id};
        for (hash, weak) in [
            (
                made(Argon2id, Version::V0x13, MEMORY_KIB, PASSES, 32),
                false,
            ),
            (made(Argon2id, Version::V0x13, MEMORY_KIB * 2, 3, 32), false),
            (
                made(Argon2id, Version::V0x13, MEMORY_KIB - 1, PASSES, 32),
                true,
            ),
            (made(Argon2id, Version::V0x13, MEMORY_KIB, 1, 32), true),
            (made(Argon2id, Version::V0x13, MEMORY_KIB, PASSES, 16), true),
            (made(Argon2id, Version::V0x10, MEMORY_KIB, PASSES, 32), true),
            (made(Argon2i, Version::V0x13, MEMORY_KIB, PASSES, 32), true),
        ] {
            assert_eq!(is_weak(&hash), weak, "{hash}");
            let verified = passwords.verify("hunter22".into(), Some(hash.clone()));
            assert!(verified.await.unwrap(), "{hash}");
            assert!(
                !passwords
                    .verify("hunter23".into(), Some(hash))
                    .await
                    .unwrap()
            );
        }
        assert!(!is_weak("no hash"));
        let malformed = passwords.verify("x".into(), Some("no hash".to_owned()));
        assert!(matches!(malformed.await, Err(ServiceError::Internal(_))));
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_told_so() {
        let mut passwords = passwords();
        passwords.wait_max = Duration::from_millis(20);
        let turns = passwords.at_once.clone();
        let held = turns.acquire_many(AT_ONCE as u32).await.unwrap();
        let late = passwords.hash("correct horse".into()).await;
        assert!(matches!(late, Err(ServiceError::Overloaded)), "{late:?}");
        // Too many that wait: one more does not even begin to.
        passwords.wait_max = Duration::from_secs(3_600);
        let places = passwords
            .places
            .try_acquire_many((AT_ONCE + WAITING_MAX) as u32);
        let full = passwords.verify("correct horse".into(), None).await;
        assert!(matches!(full, Err(ServiceError::Overloaded)), "{full:?}");
        drop(places);
        drop(held);
        passwords.hash("correct horse".into()).await.unwrap();
    }

    #[test]
    fn an_attempt_that_was_not_decided_counts_for_nothing() {
        let passwords = passwords();
        let client = Some(IpAddr::from([192, 0, 2, 7]));
        for _ in 0..30 {
            drop(passwords.attempt("a", client).unwrap());
        }
        for _ in 0..6 {
            passwords.attempt("a", client).unwrap().wrong();
        }
        let refused = passwords.attempt("a", client).map(drop);
        assert!(matches!(refused, Err(ServiceError::TooManyAttempts { .. })));
        passwords.attempt("b", client).unwrap().right();
        let minute = passwords.source.now().minute() + 1;
        let failures = passwords.failures_before(minute);
        let counted: u64 = failures.iter().map(|(_, _, count)| count).sum();
        assert_eq!(counted, 6, "{failures:?}");
        assert!(passwords.failures_before(minute).is_empty());
    }
}
