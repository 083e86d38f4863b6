//! What a replica answers of the API: what it can read. What writes, and what it would refuse, is for
//! a server that writes, which knows the newest state and keeps the attempt.

use axum::{
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::{Problem, ProblemCode};

/// Below it is everything that asks who somebody is.
const API: &str = "/v1/";

/// Answers reads, and hands on what is not for a replica to answer.
pub(super) async fn reads_only(request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with(API) {
        return next.run(request).await;
    }
    if !request.method().is_safe() {
        return for_who_writes();
    }
    let response = next.run(request).await;
    match response.status() {
        // Who has just signed in, or was just let in, may not be known here yet.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
            for_who_writes()
        }
        _ => response,
    }
}

fn for_who_writes() -> Response {
    Problem::of(ProblemCode::ReadOnly).into_response()
}
