//! The id of the request that is being served, for answers and log lines.
//!
//! Taken over from `X-Request-Id` where it is harmless, made otherwise, and known to
//! everything that runs inside the request. It is no proof of anything: clients choose it.

use std::{fmt, future::Future, sync::Arc};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::journal::{Source, SystemSource};

/// The header that carries it, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LENGTH_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// 1 to 128 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A fresh id: `req_` and a UUIDv7 without hyphens.
    pub fn make() -> Self {
        Self(format!("req_{}", SystemSource.uuid().simple()).into())
    }

    /// What the client sent, where it fits; a fresh one otherwise.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let sent = headers
            .get(X_REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        sent.and_then(Self::taken_over).unwrap_or_else(Self::make)
    }

    fn taken_over(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as the header that answers carry.
    pub fn header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }

    /// Runs `work` so that [`current`] knows this id.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The id of the request that this task serves; `None` outside of one.
pub fn current() -> Option<RequestId> {
    CURRENT.try_with(Clone::clone).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_ids_are_taken_over() {
        let long = "x".repeat(LENGTH_MAX + 1);
        for (sent, kept) in [
            ("Abc.1_2-3", true),
            (&long[1..], true),
            (&long[..], false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
        ] {
            let value = HeaderValue::from_str(sent).expect("a header value");
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, value)]);
            let id = RequestId::from_headers(&headers);
            assert_eq!(id.as_str() == sent, kept, "{sent}");
            assert!(kept || id.as_str().starts_with("req_"));
        }
    }

    #[tokio::test]
    async fn the_id_is_known_inside_of_its_scope_only() {
        assert_eq!(current(), None);
        let id = RequestId::make();
        assert_eq!(id.clone().scope(async { current() }).await, Some(id));
    }
}
