//! REST: what comes in over HTTP and what goes out.
//!
//! A handler extracts, asks `service`, and responds, in some 25 lines; it decides nothing.
//! What all of them share is here: strict bodies ([`json`]), addresses ([`query`]), headers
//! ([`headers`]), who asks and why ([`exchange`]), lists ([`paging`]), values ([`values`]), good
//! answers ([`respond`]), refusals ([`problem`]), and what happens around every request
//! ([`middleware`]).
//!
//! To add a resource: a file with its handlers and `routes()`, merged in [`routes`], and a row
//! for each route in [`access`], which says who may.

pub mod access;
pub mod activity;
pub mod agents;
pub mod api_keys;
mod app;
pub mod audit;
pub mod auditors;
pub mod channels;
mod client_address;
mod connections;
pub mod crews;
pub mod exchange;
pub mod fields;
pub mod headers;
pub mod health;
pub mod invitations;
pub mod items;
pub mod json;
pub mod limits;
pub mod log;
pub mod me;
pub mod members;
pub mod middleware;
pub mod openapi;
pub mod organization_members;
pub mod organizations;
pub mod ownership;
mod pace;
pub mod paging;
pub mod password;
pub mod pathways;
pub mod phone_numbers;
pub mod plans;
pub mod policies;
pub mod problem;
pub mod query;
pub mod request_id;
pub mod respond;
mod serde_words;
pub mod server;
mod service_errors;
pub mod sessions;
pub mod sign_up;
pub mod strict_json;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod usage;
pub mod values;
pub mod who_may;
pub mod workspaces;

pub use app::{Edge, PublicUrl, app, install_metrics, openapi_json};
pub use middleware::EdgeSettings;
pub use problem::{Problem, ProblemCode};

use utoipa_axum::router::OpenApiRouter;

/// Every route that the OpenAPI document describes.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .merge(sign_up::routes())
        .merge(sessions::routes())
        .merge(me::routes())
        .merge(password::routes())
        .merge(plans::routes())
        .merge(organizations::routes())
        .merge(workspaces::routes())
        .merge(members::routes())
        .merge(invitations::routes())
        .merge(api_keys::routes())
        .merge(organization_members::routes())
        .merge(ownership::routes())
        .merge(policies::routes())
        .merge(limits::routes())
        .merge(auditors::routes())
        .merge(who_may::routes())
        .merge(crews::routes())
        .merge(agents::routes())
        .merge(pathways::routes())
        .merge(activity::routes())
        .merge(phone_numbers::routes())
        .merge(channels::routes())
        .merge(usage::routes())
        .merge(audit::routes())
        .merge(log::routes())
        .merge(health::routes())
        .merge(openapi::described())
}
