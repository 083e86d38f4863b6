//! What may happen: the rules of Crewlog, pure.
//!
//! One folder an aggregate: its events, its commands, its state and the rules between
//! them. Nothing here does I/O, reads a clock, draws a random number, or knows of SQL or
//! HTTP; ids, time, hashes and sealed values come in with the command.
//!
//! To add an aggregate: a folder with `events.rs` and `commands.rs`, the
//! `cqrs_es::Aggregate` and [`Stream`] implementations in its `mod.rs`, its rules as
//! given/when/then tests beside it, and a variant in [`event::Event`].

pub mod access;
pub mod api_keys;
pub mod attempts;
pub mod authority;
pub mod bundle;
pub mod claims;
pub mod contents;
pub mod crew;
pub mod email;
pub mod environment;
pub mod event;
pub mod ids;
pub mod installation;
pub mod name;
pub mod organization;
pub mod plans;
pub mod promotion;
pub mod public_url;
mod refusal;
pub mod review;
pub mod sealed;
pub mod standing;
mod stream;
pub mod suspension;
#[cfg(test)]
mod testing;
pub mod time;
pub mod usage;
pub mod user;
pub mod workspace;

pub use email::EmailAddress;
pub use name::Name;
pub use refusal::Refusal;
pub use stream::Stream;
pub use time::{Moment, Timestamp};
