//! What the journal needs to know of an aggregate, and no more.

use cqrs_es::Aggregate;

use super::{Moment, Refusal, environment::Environment, event::Event, ids::OrganizationId};

/// An aggregate that the journal keeps: a `cqrs_es::Aggregate` that also remembers at which
/// position its rights were given, says whose it is, and how much memory it takes.
pub trait Stream:
    Aggregate<Services = Moment, Error = Refusal, Event: Into<Event>, Command: Send + 'static> + 'static
{
    /// Raised when the serialized form of the state changes: older snapshots are then
    /// ignored, and the stream is folded again.
    const STATE_VERSION: i64;

    /// Told right after `apply`: the event has this position in the log. For state that
    /// names the event which gave a right.
    fn positioned(&mut self, event: &Self::Event, position: u64);

    /// The organization that this stream belongs to; `None` for a person's account, and
    /// before the first event.
    fn organization(&self) -> Option<OrganizationId>;

    /// The environment that it is of, where it is of one: every entry of it says so.
    fn environment(&self) -> Option<Environment> {
        None
    }

    /// Roughly what the state takes in memory, in bytes; the cache is bounded by the sum.
    fn weight_bytes(&self) -> usize;
}
