//! What a client is told of the rate of its workspace: the headers `RateLimit-Policy` and
//! `RateLimit` of the IETF's draft (draft-ietf-httpapi-ratelimit-headers).

use std::sync::{Arc, OnceLock};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};

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
}

/// Puts the headers on the answer of a request that was counted.
pub async fn told(mut request: Request, next: Next) -> Response {
    let told = ToldPace::default();
    request.extensions_mut().insert(told.clone());
    let mut response = next.run(request).await;
    if let Some(pace) = told.0.get() {
        let seconds = pace.reset.as_secs() + u64::from(pace.reset.subsec_nanos() > 0);
        let policy = format!("\"workspace\";q={};w=60", pace.limit);
        let left = format!("\"workspace\";r={};t={seconds}", pace.remaining);
        for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response
}
