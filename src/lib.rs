//! Crewlog: an event-sourced, audit-first control plane. The map, one line a room:
pub mod domain;
