//! The address of a request: its path and its query, as types.
//!
//! Ids in paths are TypeIDs; one that is malformed names nothing, so it answers `404` like
//! any other that does not exist. A query that is wrong answers `400` and names the
//! parameter; its types use `#[serde(deny_unknown_fields)]`, and take no `flatten`, which
//! would switch that off: a list names `limit` and `cursor` beside its filters.

use axum::{
    extract::{FromRequestParts, rejection::QueryRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use super::{problem::Problem, serde_words::Complaint};

/// The parameters in the path.
#[derive(Debug, Clone)]
pub struct Path<T>(pub T);

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            // The handler's type does not fit its route: nothing a client can do.
            Err(rejection) if rejection.status().is_server_error() => {
                Err(Problem::internal(&rejection))
            }
            Err(_) => Err(Problem::not_found()),
        }
    }
}

/// The query.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Nothing is called so, and not every store takes a text with NUL.
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            let detail = "a query parameter has a NUL character (`%00`)";
            return Err(Problem::invalid_request(detail));
        }
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::invalid_request(explained(&rejection))),
        }
    }
}

/// Names the parameter, and says what it must be, but not what was sent.
fn explained(rejection: &QueryRejection) -> String {
    let text = rejection.body_text();
    let text = text
        .split_once("query string: ")
        .map_or(&*text, |(_, text)| text);
    let (name, message) = match text.split_once(": ") {
        Some((name, message)) if !name.contains('`') => (Some(name), message),
        _ => (None, text),
    };
    let name = name.unwrap_or("the query");
    match Complaint::of(message) {
        Complaint::UnknownField { allowed } if allowed.is_empty() => {
            format!("unknown query parameter `{name}`; there are none here")
        }
        Complaint::UnknownField { allowed } => {
            format!(
                "unknown query parameter `{name}`; allowed: {}",
                allowed.join(", ")
            )
        }
        Complaint::MissingField { name } => format!("the query parameter `{name}` is required"),
        Complaint::DuplicateField { name } => {
            format!("the query parameter `{name}` is there twice")
        }
        Complaint::UnknownVariant { expected }
        | Complaint::WrongType { expected }
        | Complaint::Other { detail: expected } => {
            format!("query parameter `{name}`: {expected}")
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, http::Request, response::Response, routing::get};
    use serde::Deserialize;
    use tower::ServiceExt;

    use super::*;
    use crate::{
        api::{
            paging::{Cursor, CursorKey, Limit},
            testing::{json_of, text_of},
        },
        domain::{authority::Role, ids::WorkspaceId},
    };

    impl CursorKey for (String, u64) {
        const LIST: &'static str = "members";
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Filter {
        #[serde(default)]
        limit: Limit,
        cursor: Option<Cursor<(String, u64)>>,
        role: Option<Role>,
    }

    async fn ask(uri: &str) -> Response {
        let list = async |Path(ws): Path<WorkspaceId>, Query(filter): Query<Filter>| {
            let after = filter.cursor.map(|cursor| cursor.key);
            format!("{ws} {} {after:?} {:?}", filter.limit.get(), filter.role)
        };
        let broken = async |Path((_, _)): Path<(String, String)>| "unreachable";
        let router = Router::new()
            .route("/w/{ws}", get(list))
            .route("/b/{one}", get(broken));
        let request = Request::get(uri).body(Body::empty()).expect("a request");
        router.oneshot(request).await.expect("infallible")
    }

    #[tokio::test]
    async fn a_good_address_is_read() {
        let ws = WorkspaceId::from_uuid(uuid::Uuid::from_u128(7));
        let cursor = Cursor::new(("a".to_owned(), 3)).encode();
        let text = text_of(ask(&format!("/w/{ws}?cursor={cursor}&role=owner")).await).await;
        assert_eq!(text, format!("{ws} 50 Some((\"a\", 3)) Some(Owner)"));
        let text = text_of(ask(&format!("/w/{ws}?limit=200")).await).await;
        assert_eq!(text, format!("{ws} 200 None None"));
    }

    #[tokio::test]
    async fn a_malformed_id_is_not_found() {
        for id in ["rubbish", "usr_01h455vb4pex5vsknk084sn02q", "ws_", "%FF"] {
            let answer = json_of(ask(&format!("/w/{id}")).await).await;
            assert_eq!(answer["code"], "not_found", "{id}");
        }
        assert_eq!(json_of(ask("/b/one").await).await["code"], "internal");
    }

    #[tokio::test]
    async fn nothing_has_a_nul_character() {
        let ws = WorkspaceId::from_uuid(uuid::Uuid::from_u128(7));
        for query in ["role=%00", "role=owner&surprise%00=1", "limit=1%00"] {
            let answer = json_of(ask(&format!("/w/{ws}?{query}")).await).await;
            assert_eq!(answer["code"], "invalid_request", "{query}");
            assert!(
                answer["detail"]
                    .as_str()
                    .is_some_and(|detail| detail.contains("NUL"))
            );
        }
    }

    #[tokio::test]
    async fn a_wrong_query_names_the_parameter_and_no_value() {
        let ws = WorkspaceId::from_uuid(uuid::Uuid::from_u128(7));
        for (query, told) in [
            (
                "hunter=2",
                "unknown query parameter `hunter`; allowed: limit, cursor, role",
            ),
            (
                "limit=1&limit=2",
                "the query parameter `limit` is there twice",
            ),
            (
                "limit=0",
                "query parameter `limit`: a whole number from 1 to 200",
            ),
            (
                "limit=201",
                "query parameter `limit`: a whole number from 1 to 200",
            ),
            (
                "limit=x",
                "query parameter `limit`: a whole number from 1 to 200",
            ),
            (
                "limit=",
                "query parameter `limit`: a whole number from 1 to 200",
            ),
            (
                "limit=%2B5",
                "query parameter `limit`: a whole number from 1 to 200",
            ),
            (
                "role=hunter2",
                "query parameter `role`: expected one of `viewer`, `member`, `admin`, `owner`",
            ),
            (
                "cursor=x",
                "query parameter `cursor`: not a cursor of this list; start over without `cursor`",
            ),
        ] {
            let answer = json_of(ask(&format!("/w/{ws}?{query}")).await).await;
            assert_eq!(answer["code"], "invalid_request", "{query}");
            assert_eq!(answer["detail"], told, "{query}");
        }
    }
}
