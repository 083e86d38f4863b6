//! The one place that reads a clock and draws random bytes.
//!
//! Everything else is given time, ids and salts, so that a decision can be made again and
//! tests can choose. `clippy.toml` forbids the direct calls elsewhere.

use rand::RngCore;
use uuid::Uuid;

use crate::domain::Timestamp;

/// Time and randomness.
pub trait Source: std::fmt::Debug + Send + Sync + 'static {
    /// The present moment, by this machine's clock.
    fn now(&self) -> Timestamp;

    /// Fills `bytes` from a cryptographically secure generator.
    fn fill(&self, bytes: &mut [u8]);

    /// A new UUIDv7, for an id.
    fn uuid(&self) -> Uuid {
        let mut random = [0; 10];
        self.fill(&mut random);
        let now_ms = u64::try_from(self.now().0 / 1_000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid()
    }
}

/// The operating system's clock and generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemSource;

impl Source for SystemSource {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
    fn now(&self) -> Timestamp {
        Timestamp::from_datetime(chrono::Utc::now())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
    fn fill(&self, bytes: &mut [u8]) {
        rand::thread_rng().fill_bytes(bytes);
    }
}
