//! The shapes of good answers, with the headers that every one of them carries.
//!
//! A write answers with the resource as it now is, its `ETag` and the `Crewlog-Position`
//! that the write has; a read says the position that it was read at. Nothing is cached.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{headers::CREWLOG_POSITION, problem::Problem};

/// What most answers fit into.
const ANSWER_BYTES: usize = 1_024;

/// Set on an answer that was given before, under the same `Idempotency-Key`.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An entity tag without its quotes: a version, or the digest of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// The tag of a document that is named by its digest: hexadecimal or base64.
    pub fn of_digest(digest: &str) -> Self {
        Self(digest.to_owned())
    }
}

impl From<u64> for EntityTag {
    fn from(version: u64) -> Self {
        Self(version.to_string())
    }
}

/// `201`: something new, and where it is.
#[derive(Debug, Clone)]
pub struct Created<T> {
    location: String,
    resource: Resource<T>,
}

impl<T> Created<T> {
    /// `location` is its path, `/v1/…`.
    pub fn new(
        location: impl Into<String>,
        version: impl Into<EntityTag>,
        position: u64,
        body: T,
    ) -> Self {
        let resource = Resource::new(version, position, body);
        Self {
            location: location.into(),
            resource,
        }
    }

    /// Whether this answer was given before.
    pub fn replayed(mut self, replayed: bool) -> Self {
        self.resource.replayed = replayed;
        self
    }
}

/// `200`: a resource, as it was read or as a write left it.
#[derive(Debug, Clone)]
pub struct Resource<T> {
    version: Option<EntityTag>,
    position: u64,
    body: T,
    replayed: bool,
}

impl<T> Resource<T> {
    /// A resource of one version.
    pub fn new(version: impl Into<EntityTag>, position: u64, body: T) -> Self {
        let version = Some(version.into());
        Self {
            version,
            position,
            body,
            replayed: false,
        }
    }

    /// An answer without a version of its own: a diff, a verdict, a report.
    pub fn unversioned(position: u64, body: T) -> Self {
        Self {
            version: None,
            position,
            body,
            replayed: false,
        }
    }

    /// Whether this answer was given before.
    pub fn replayed(mut self, replayed: bool) -> Self {
        self.replayed = replayed;
        self
    }
}

/// `204`: done, and nothing is left to show.
#[derive(Debug, Clone, Copy)]
pub struct NoContent {
    position: u64,
    replayed: bool,
}

impl NoContent {
    /// Done at this position.
    pub fn new(position: u64) -> Self {
        Self {
            position,
            replayed: false,
        }
    }

    /// Whether this answer was given before.
    pub fn replayed(mut self, replayed: bool) -> Self {
        self.replayed = replayed;
        self
    }
}

/// `200`: one page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T: Serialize + ToSchema> {
    /// The items, at most `limit`.
    pub data: Vec<T>,
    /// What to send as `cursor` for the next page; `null` on the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
    #[serde(skip)]
    position: u64,
}

impl<T: Serialize + ToSchema> Page<T> {
    /// A page that was read at `position`; mostly made by [`Page::of`].
    pub fn new(data: Vec<T>, next_cursor: Option<String>, position: u64) -> Self {
        Self {
            data,
            next_cursor,
            position,
        }
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = self.resource.into_response();
        if response.status() == StatusCode::OK {
            *response.status_mut() = StatusCode::CREATED;
            insert(&mut response, header::LOCATION, &self.location);
        }
        response
    }
}

impl<T: Serialize> IntoResponse for Resource<T> {
    fn into_response(self) -> Response {
        let mut response = json(&self.body);
        if let Some(EntityTag(tag)) = self.version {
            insert(&mut response, header::ETAG, &format!("\"{tag}\""));
        }
        finished(response, self.position, self.replayed)
    }
}

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        finished(
            StatusCode::NO_CONTENT.into_response(),
            self.position,
            self.replayed,
        )
    }
}

impl<T: Serialize + ToSchema> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        finished(json(&self), self.position, false)
    }
}

fn json(body: &impl Serialize) -> Response {
    let mut bytes = Vec::with_capacity(ANSWER_BYTES);
    match serde_json::to_writer(&mut bytes, body) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => Problem::internal(&error).into_response(),
    }
}

fn finished(mut response: Response, position: u64, replayed: bool) -> Response {
    let headers = response.headers_mut();
    headers.insert(CREWLOG_POSITION, HeaderValue::from(position));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if replayed {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// Headers made of ids, versions and digests always fit; one that does not is left out.
fn insert(response: &mut Response, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            response.headers_mut().insert(name, value);
        }
        Err(error) => tracing::error!(%name, %error, "an answer lacks a header"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::testing::text_of;

    fn header_of<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    }

    #[tokio::test]
    async fn something_new_says_where_it_is() {
        let response = Created::new("/v1/crews/1", 3, 42, json!({"id": 1})).into_response();
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(header_of(&response, "location"), Some("/v1/crews/1"));
        assert_eq!(header_of(&response, "etag"), Some("\"3\""));
        assert_eq!(header_of(&response, "crewlog-position"), Some("42"));
        assert_eq!(header_of(&response, "cache-control"), Some("no-store"));
        assert_eq!(header_of(&response, "idempotent-replayed"), None);
        assert_eq!(text_of(response).await, r#"{"id":1}"#);
    }

    #[test]
    fn a_replay_says_that_it_is_one() {
        for response in [
            Created::new("/v1/x", 1, 1, ())
                .replayed(true)
                .into_response(),
            Resource::new(1, 1, ()).replayed(true).into_response(),
            NoContent::new(1).replayed(true).into_response(),
        ] {
            assert_eq!(header_of(&response, "idempotent-replayed"), Some("true"));
        }
    }

    #[tokio::test]
    async fn resources_and_pages_are_bare() {
        let digest = EntityTag::of_digest("sha256:ab");
        let response = Resource::new(digest, 7, json!([])).into_response();
        assert_eq!(header_of(&response, "etag"), Some("\"sha256:ab\""));
        let response = Resource::unversioned(7, json!([])).into_response();
        assert_eq!(header_of(&response, "etag"), None);
        let response = Page::new(vec![1_u64], None, 7).into_response();
        assert_eq!(header_of(&response, "crewlog-position"), Some("7"));
        assert_eq!(
            text_of(response).await,
            r#"{"data":[1],"next_cursor":null}"#
        );
        let response = NoContent::new(9).into_response();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(header_of(&response, "content-type"), None);
    }

    #[test]
    fn a_body_that_cannot_be_written_is_our_fault() {
        let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
        let response = Created::new("/v1/x", 1, 1, unwritable).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(header_of(&response, "location"), None);
    }
}
