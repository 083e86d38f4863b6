//! REST: what comes in over HTTP and what goes out.
//!
//! A handler extracts, asks `service`, and responds, in some 25 lines; it decides nothing.
//! What all of them share is here: strict bodies ([`json`]), addresses ([`query`]), headers
//! ([`headers`]), lists ([`paging`]), good answers ([`respond`]), refusals ([`problem`]), and
//! what happens around every request ([`middleware`]).
//!
//! To add a resource: a file with its handlers and `routes()`, merged in [`routes`].

mod client_address;
pub mod fields;
pub mod headers;
pub mod json;
pub mod middleware;
pub mod openapi;
pub mod paging;
pub mod problem;
pub mod query;
pub mod request_id;
pub mod respond;
mod serde_words;
pub mod strict_json;
#[cfg(test)]
mod testing;

pub use middleware::EdgeSettings;
pub use problem::{Problem, ProblemCode};

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

/// Every route that the OpenAPI document describes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    OpenApiRouter::new().merge(openapi::described())
}

/// The whole server out of its routes: the document and its viewer beside them, the layers
/// around all of it.
///
/// # Errors
/// Where the OpenAPI document cannot be written as JSON.
pub fn router<S>(
    routes: OpenApiRouter<S>,
    settings: &EdgeSettings,
) -> Result<Router<S>, serde_json::Error>
where
    S: Clone + Send + Sync + 'static,
{
    let (router, described) = routes.split_for_parts();
    let router = openapi::served(router, &openapi::document(described))?;
    Ok(middleware::layers(router, settings))
}
