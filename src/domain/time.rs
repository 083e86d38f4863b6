//! Time as the log keeps it: whole microseconds since 1970, UTC.
//!
//! The domain never reads a clock; the moment of a decision is given to it as [`Moment`].

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::plans::Plans;

/// A point in time, in microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole microseconds; what is finer is cut off, so that both stores keep the same value.
    pub fn from_datetime(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_micros())
    }

    /// The same point as a calendar time; the limits of the calendar where it lies outside.
    pub fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }

    /// RFC 3339 in UTC with six digits, `2026-11-24T06:30:00.000000Z`.
    pub fn to_rfc3339(self) -> String {
        self.to_datetime()
            .to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// This point, later by `delta` (earlier, where it is negative).
    pub fn plus(self, delta: TimeDelta) -> Self {
        Self(
            self.0
                .saturating_add(delta.num_microseconds().unwrap_or(i64::MAX)),
        )
    }

    /// The minute this point lies in, counted from 1970.
    pub fn minute(self) -> i64 {
        self.0.div_euclid(60_000_000)
    }
}

/// What the outside tells a decision: the time that its events will carry, and what plans allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// `recorded_at` of the batch: every deadline is decided by it.
    pub now: Timestamp,
    /// The catalogue that this process was started with; it does not change.
    pub plans: &'static Plans,
}

impl Default for Moment {
    fn default() -> Self {
        Self {
            now: Timestamp::default(),
            plans: Plans::unlimited(),
        }
    }
}
