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
pub mod paging;
pub mod problem;
pub mod query;
pub mod request_id;
pub mod respond;
mod serde_words;
pub mod strict_json;
#[cfg(test)]
mod testing;

pub use problem::{Problem, ProblemCode};
