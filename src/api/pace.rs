//! What a client is told of the rate of its workspace: the headers `RateLimit-Policy` and
//! `RateLimit` of the IETF's draft (draft-ietf-httpapi-ratelimit-headers).

use std::sync::{Arc, OnceLock};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::service::Pace;

/// How many a minute, and in how many seconds.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// How many are left, and in how many seconds there are more.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Where whoever counts a request says how that went.
#[derive(Debug, Clone, Default)]
pub struct ToldPace(Arc<OnceLock<Pace>>);

impl ToldPace {
    /// Says it; the first that is said stays.
    pub fn tell(&self, pace: Pace) {
        let _ = self.0.set(pace);
    }

    /// Puts the headers on the answer of a request that was counted.
    pub fn show(&self, headers: &mut HeaderMap) {
        let Some(pace) = self.0.get() else {
            return;
        };
        let seconds = pace.reset.as_secs() + u64::from(pace.reset.subsec_nanos() > 0);
        let policy = format!("\"workspace\";q={};w=60", pace.limit);
        let left = format!("\"workspace\";r={};t={seconds}", pace.remaining);
        for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
}
