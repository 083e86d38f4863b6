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
mod access_report;
pub mod activity;
pub mod api_keys;
mod app;
mod as_of;
pub mod audit;
pub mod audit_tail;
pub mod auditors;
pub mod bundles;
pub mod channels;
mod client_address;
mod connections;
pub mod crews;
mod described;
pub mod documents;
pub mod erasure;
pub mod exchange;
pub mod fields;
pub mod headers;
pub mod health;
pub mod holds;
pub mod integrations;
pub mod invitations;
mod item_routes;
pub mod items;
pub mod json;
pub mod knowledge_bases;
pub mod limits;
pub mod log;
pub mod me;
pub mod members;
pub mod middleware;
pub mod openapi;
pub mod operators;
pub mod organization_members;
pub mod organizations;
pub mod ownership;
mod pace;
pub mod paging;
pub mod password;
pub mod phone_numbers;
pub mod plans;
pub mod policies;
pub mod problem;
pub mod promotions;
pub mod query;
mod replica;
pub mod request_id;
pub mod respond;
pub mod reviews;
mod serde_words;
pub mod server;
mod service_errors;
pub mod sessions;
pub mod sign_up;
pub mod statements;
pub mod strict_json;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod usage;
pub mod values;
pub mod webhook_endpoints;
pub mod who_may;
pub mod workspaces;

pub use access_report::shown_access;
pub use app::{Edge, PublicUrl, app, install_metrics, openapi_json};
pub use audit::shown_entry;
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
        .merge(erasure::routes())
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
        .merge(holds::routes())
        .merge(auditors::routes())
        .merge(who_may::routes())
        .merge(crews::routes())
        .merge(item_routes::routes::<item_routes::Agents>())
        .merge(item_routes::routes::<item_routes::Pathways>())
        .merge(knowledge_bases::routes())
        .merge(documents::routes())
        .merge(activity::routes())
        .merge(connections::routes::<phone_numbers::PhoneNumbers>())
        .merge(connections::routes::<channels::Channels>())
        .merge(webhook_endpoints::routes())
        .merge(connections::routes::<integrations::Integrations>())
        .merge(bundles::routes())
        .merge(promotions::routes())
        .merge(reviews::routes())
        .merge(usage::routes())
        .merge(statements::routes())
        .merge(audit::routes())
        .merge(audit_tail::routes())
        .merge(access_report::routes())
        .merge(operators::routes())
        .merge(log::routes())
        .merge(health::routes())
        .merge(openapi::described())
}
