//! The aggregates in memory: bounded in bytes, always exactly at the position that the
//! writer believes to be the head.

use std::any::Any;

use cqrs_es::{DomainEvent, event_sink::EventSink};
use futures::FutureExt;
use lru::LruCache;
use tokio::task::unconstrained;

use super::{
    entry::{DecodeCause, require_version, to_canonical},
    unit::StreamRef,
    upcasters::Upcasted,
};
use crate::domain::{
    Moment, Refusal, Stream,
    environment::Environment,
    event::{Event, UnknownEvent},
    ids::OrganizationId,
};

/// An event that an aggregate decided, typed and in the form that is stored.
#[derive(Debug)]
pub struct Decided {
    pub event: Event,
    pub event_type: String,
    pub event_version: String,
    pub payload: String,
}

/// A refusal, and whether the aggregate was left half-changed by it: then it must be read
/// anew.
#[derive(Debug)]
pub struct HandleError {
    pub refusal: Refusal,
    pub changed: bool,
}

/// Any aggregate, for a map of them; [`Held`] is the only one that implements it.
pub trait AnyStream: Send + Sync {
    /// The aggregate as its type.
    fn as_any(&self) -> &dyn Any;
    /// Lets the aggregate decide on a boxed `A::Command`; the events have been applied, with
    /// positions from `first_position` on.
    fn handle(
        &mut self,
        command: Box<dyn Any + Send>,
        moment: Moment,
        first_position: u64,
    ) -> Result<Vec<Decided>, HandleError>;
    /// Applies a stored event, after the upcasters that there are for it.
    fn apply(&mut self, event: &Upcasted<'_>, position: u64) -> Result<(), DecodeCause>;
    /// See [`Stream::organization`].
    fn organization(&self) -> Option<OrganizationId>;
    /// See [`Stream::environment`].
    fn environment(&self) -> Option<Environment>;
    /// See [`Stream::weight_bytes`].
    fn weight_bytes(&self) -> usize;
    /// The state as a snapshot keeps it.
    fn snapshot(&self) -> Result<String, serde_json::Error>;
}

/// An aggregate of one type.
#[derive(Debug, Default)]
pub struct Held<A>(pub A);

impl<A: Stream> AnyStream for Held<A> {
    fn as_any(&self) -> &dyn Any {
        &self.0
    }

    fn handle(
        &mut self,
        command: Box<dyn Any + Send>,
        moment: Moment,
        first_position: u64,
    ) -> Result<Vec<Decided>, HandleError> {
        let command = *command
            .downcast::<A::Command>()
            .expect("StreamRef<A> carries the type");
        let sink = EventSink::<A>::default();
        // A decision never waits; `now_or_never` holds it to that. The sink's lock is tokio's,
        // which asks a task to wait after 128 uses even where nobody holds it: a batch of
        // many events takes it more often, so it is let off that.
        let answer = unconstrained(self.0.handle(command, &moment, &sink))
            .now_or_never()
            .expect("an aggregate decides without waiting");
        let events = unconstrained(sink.collect())
            .now_or_never()
            .expect("collecting does not wait");
        answer.map_err(|refusal| HandleError {
            refusal,
            changed: !events.is_empty(),
        })?;
        let mut decided = Vec::with_capacity(events.len());
        for (event, position) in events.into_iter().zip(first_position..) {
            self.0.positioned(&event, position);
            decided.push(Decided {
                event_type: event.event_type(),
                event_version: event.event_version(),
                payload: to_canonical(&event).expect("an event of ours is JSON"),
                event: event.into(),
            });
        }
        Ok(decided)
    }

    fn apply(&mut self, event: &Upcasted<'_>, position: u64) -> Result<(), DecodeCause> {
        let version = event.version;
        let event: A::Event =
            serde_json::from_str(&event.payload).map_err(|source| UnknownEvent::Payload {
                aggregate_type: A::TYPE.to_owned(),
                source,
            })?;
        require_version(version, event.event_version())?;
        self.0.apply(event.clone());
        self.0.positioned(&event, position);
        Ok(())
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.0.organization()
    }

    fn environment(&self) -> Option<Environment> {
        self.0.environment()
    }

    fn weight_bytes(&self) -> usize {
        self.0.weight_bytes()
    }

    fn snapshot(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.0)
    }
}

/// What the journal must know of a type of aggregate, without knowing the type.
#[derive(Clone, Copy)]
pub struct StreamType {
    pub name: &'static str,
    pub state_version: i64,
    empty: fn() -> Box<dyn AnyStream>,
    from_snapshot: fn(&str) -> Result<Box<dyn AnyStream>, serde_json::Error>,
}

impl std::fmt::Debug for StreamType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

impl StreamType {
    /// The description of `A`.
    pub fn of<A: Stream>() -> Self {
        Self {
            name: A::TYPE,
            state_version: A::STATE_VERSION,
            empty: || Box::new(Held(A::default())),
            from_snapshot: |text| {
                serde_json::from_str::<A>(text)
                    .map(|state| Box::new(Held(state)) as Box<dyn AnyStream>)
            },
        }
    }

    /// A stream without events.
    pub fn empty(&self) -> Box<dyn AnyStream> {
        (self.empty)()
    }

    /// The state that [`AnyStream::snapshot`] wrote.
    ///
    /// # Errors
    /// When it was written in another form.
    pub fn read_snapshot(&self, text: &str) -> Result<Box<dyn AnyStream>, serde_json::Error> {
        (self.from_snapshot)(text)
    }
}

/// A stream as the writer holds it.
pub struct Entry {
    pub state: Box<dyn AnyStream>,
    /// The sequence of the last event applied; 0 before the first.
    pub sequence: u64,
    weight_bytes: usize,
}

impl Entry {
    /// A stream whose state has `sequence` events in it.
    pub fn new(state: Box<dyn AnyStream>, sequence: u64) -> Self {
        Self {
            state,
            sequence,
            weight_bytes: 0,
        }
    }
}

/// Key of a stream in memory.
pub type CacheKey = (&'static str, String);

/// The streams in memory, least recently used first to go.
pub struct Cache {
    entries: LruCache<CacheKey, Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// A cache of about `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            entries: LruCache::unbounded(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Whether the stream is in memory.
    pub fn contains(&self, stream: &StreamRef) -> bool {
        self.entries.contains(&stream.cache_key())
    }

    /// The stream, as read.
    pub fn get(&mut self, stream: &StreamRef) -> Option<&Entry> {
        self.entries.get(&stream.cache_key())
    }

    /// The stream, to be changed; call [`Cache::weigh`] afterwards.
    pub fn get_mut(&mut self, key: &CacheKey) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    /// Takes a stream in.
    pub fn insert(&mut self, key: CacheKey, entry: Entry) {
        self.remove(&key);
        self.entries.put(key.clone(), entry);
        self.weigh(&key);
    }

    /// Forgets a stream: what is stored, or decided again, is read anew.
    pub fn remove(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.pop(key) {
            self.bytes -= entry.weight_bytes;
        }
    }

    /// Takes note of how large a stream has become.
    pub fn weigh(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.peek_mut(key) {
            let weight_bytes = entry.state.weight_bytes() + key.1.len() + size_of::<Entry>();
            self.bytes = self.bytes - entry.weight_bytes + weight_bytes;
            entry.weight_bytes = weight_bytes;
        }
    }

    /// Drops what was least recently used until the rest fits, or until it comes to a stream
    /// that has in it what is not written: that is nowhere else.
    pub fn shrink(&mut self, unwritten: impl Fn(&CacheKey) -> bool) {
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            match self.entries.peek_lru() {
                Some((key, _)) if !unwritten(key) => {}
                Some(_) | None => return,
            }
            if let Some((_, entry)) = self.entries.pop_lru() {
                self.bytes -= entry.weight_bytes;
            }
        }
    }

    /// Bytes in use, by the streams' own reckoning.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The tips of scopes in memory: bounded by number, they are small.
pub type ScopeTips = LruCache<String, (u64, [u8; 32])>;
