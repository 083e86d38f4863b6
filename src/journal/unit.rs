//! A unit of work: what is decided together and written together, or not at all.
//!
//! A unit says beforehand which streams and which look-ups it decides on, so that the
//! writer can have them in memory; then its `decide` runs inside the writer, on the newest
//! state, without waiting for anything. It may run more than once (when the head had
//! moved), so it must not have effects of its own.

use std::{collections::HashMap, fmt, sync::Arc};

use super::{
    cache::{Cache, CacheKey, StreamType},
    claims::{ClaimKey, Claims, NAMED, Release},
    entry::{CONTEXT, Metadata, REASON, to_canonical},
    sealing::DataKey,
    source::Source,
    stores::Statement,
};
use crate::domain::{
    Moment, Refusal, Stream, Timestamp,
    authority::{Actor, AuthorityLink},
    claims::{Claim, Claimant},
    environment::Environment,
    event::Event,
    ids::{EventId, OrganizationId},
};

/// The most events that one unit may write.
pub const UNIT_EVENTS_MAX: usize = 1_000;
/// The most bytes of payload and metadata that one unit may write.
pub const UNIT_BYTES_MAX: usize = 1 << 20;

/// A stream that a unit reads or writes.
#[derive(Debug, Clone)]
pub struct StreamRef {
    pub stream_type: StreamType,
    pub id: String,
    /// The workspace, else the organization, else the user.
    pub scope: String,
}

impl StreamRef {
    /// The stream of `A` with this id, whose entries are chained in `scope`.
    pub fn of<A: Stream>(id: impl fmt::Display, scope: impl fmt::Display) -> Self {
        Self {
            stream_type: StreamType::of::<A>(),
            id: id.to_string(),
            scope: scope.to_string(),
        }
    }

    pub(super) fn cache_key(&self) -> CacheKey {
        (self.stream_type.name, self.id.clone())
    }
}

/// Something outside the streams that not everybody may hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LookupKey {
    /// Rows of `claims`: who holds it.
    Claim(ClaimKey),
    /// A row of `subjects`: the subject that an e-mail's HMAC is in a realm.
    Email { realm: String, lookup: String },
    /// A row of `subjects`: the person that a subject is; none as long as it is nobody yet.
    Person { subject: String },
    /// A row of `subjects`: the subject that a person is in a realm; none where they are not
    /// known.
    Known { realm: String, user: String },
    /// A column of `subjects`: at which position a person was last given something somewhere, as
    /// the subject that they are in a realm; none where they never were.
    Placed { realm: String, user: String },
}

/// Who asks, and what of the request goes into every entry of the unit.
#[derive(Debug, Clone)]
pub struct Origin {
    pub actor: Actor,
    pub request_id: Option<String>,
    pub causation: Option<EventId>,
    /// Why, with the key that seals it.
    pub reason: Option<(Arc<DataKey>, String)>,
    /// Address and user agent, with the key that seals them.
    pub context: Option<(Arc<DataKey>, String)>,
}

impl Origin {
    /// Crewlog itself, doing what is due.
    pub fn system() -> Self {
        Self {
            actor: Actor::System,
            request_id: None,
            causation: None,
            reason: None,
            context: None,
        }
    }
}

/// What makes repeating a request safe.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// Whose key it is; keys of others are other keys.
    pub principal: String,
    pub key: String,
    /// HMAC of method, path and body.
    pub request_hmac: [u8; 32],
}

/// What a unit answers when it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The HTTP status, kept for a repeated request.
    pub status: u16,
    /// What the answer shows, enough to show it again as of that position.
    pub resource: String,
}

/// Why a unit was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// A rule said no.
    Refused(Refusal),
    /// What the unit was composed from has changed meanwhile: compose it anew.
    Recompose,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The decision of a unit.
pub type Decide = dyn Fn(&mut Desk<'_>) -> Result<Outcome, Rejection> + Send + Sync;

/// A unit of work.
pub struct Unit {
    /// Whose turn in the queue it takes: the organization, else the user.
    pub lane: String,
    /// Every stream that `decide` reads or writes.
    pub streams: Vec<StreamRef>,
    /// Every look-up that `decide` makes.
    pub lookups: Vec<LookupKey>,
    pub origin: Origin,
    pub idempotency: Option<Idempotency>,
    pub decide: Box<Decide>,
}

impl fmt::Debug for Unit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Unit")
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

/// An event that a unit decided, before it has its place in the chains.
#[derive(Debug)]
pub(super) struct Pending {
    pub id: EventId,
    pub stream: StreamRef,
    pub sequence: u64,
    pub event_type: String,
    pub event_version: String,
    pub payload: String,
    pub event: Event,
    pub metadata: Metadata,
    /// Canonical JSON of `metadata`.
    pub metadata_text: String,
}

/// What a unit decides on: the newest state, and where it puts what it decided.
pub struct Desk<'a> {
    pub(super) cache: &'a mut Cache,
    pub(super) source: &'a dyn Source,
    /// What look-ups hold, with what this batch has changed.
    pub(super) held: &'a mut HashMap<LookupKey, Option<String>>,
    /// The same, of claims.
    pub(super) claims: &'a mut Claims,
    pub(super) origin: &'a Origin,
    pub(super) moment: Moment,
    /// The position that the next event of this unit will have.
    pub(super) next_position: u64,
    pub(super) authority: Vec<AuthorityLink>,
    pub(super) pending: Vec<Pending>,
    pub(super) statements: Vec<Statement>,
    /// Streams whose state in memory this unit has changed.
    pub(super) changed: Vec<CacheKey>,
    /// Look-ups as they were before this unit changed them.
    pub(super) undo: Vec<(LookupKey, Option<String>)>,
    pub(super) bytes: usize,
}

impl Desk<'_> {
    /// `recorded_at` of what is being decided.
    pub fn now(&self) -> Timestamp {
        self.moment.now
    }

    /// The position that the next event of this unit will have.
    pub fn next_position(&self) -> u64 {
        self.next_position
    }

    /// The aggregate as it is now.
    ///
    /// # Panics
    /// When the unit did not name the stream: a mistake of whoever composed it.
    pub fn read<A: Stream>(&mut self, stream: &StreamRef) -> &A {
        let entry = self
            .cache
            .get(stream)
            .expect("a unit names every stream that it reads");
        entry
            .state
            .as_any()
            .downcast_ref()
            .expect("a stream has one type")
    }

    /// The sequence of the last event of a stream; 0 before the first.
    ///
    /// # Panics
    /// When the unit did not name the stream.
    pub fn sequence(&mut self, stream: &StreamRef) -> u64 {
        self.cache
            .get(stream)
            .expect("a unit names every stream that it reads")
            .sequence
    }

    /// Adds a link to the chain of authority that the events after it stand on.
    pub fn stand_on(&mut self, link: AuthorityLink) {
        self.authority.push(link);
    }

    /// Begins the chain of authority anew: what is decided from here on stands on these links.
    pub fn stand_only_on(&mut self, links: impl IntoIterator<Item = AuthorityLink>) {
        self.authority = links.into_iter().collect();
    }

    /// Lets an aggregate decide. The events get the ids given, in order; further ones get
    /// new ids. A field that was sealed for an event must have been sealed for its id.
    ///
    /// # Errors
    /// The aggregate's refusal; the unit must then return it.
    pub fn execute<A: Stream>(
        &mut self,
        stream: &StreamRef,
        command: A::Command,
        ids: &[EventId],
    ) -> Result<(), Refusal> {
        let key = stream.cache_key();
        let entry = self
            .cache
            .get_mut(&key)
            .expect("a unit names every stream that it writes");
        let answer = entry
            .state
            .handle(Box::new(command), self.moment, self.next_position);
        if answer
            .as_ref()
            .map_or_else(|error| error.changed, |events| !events.is_empty())
        {
            self.changed.push(key.clone());
        }
        let decided = answer.map_err(|error| error.refusal)?;
        let organization = entry.state.organization();
        let environment = entry.state.environment();
        let first_sequence = entry.sequence + 1;
        entry.sequence += decided.len() as u64;
        self.cache.weigh(&key);
        let mut ids = ids.iter().copied();
        for (event, sequence) in decided.into_iter().zip(first_sequence..) {
            let id = ids
                .next()
                .unwrap_or_else(|| EventId::from_uuid(self.source.uuid()));
            let metadata = self.metadata(id, organization, environment);
            let metadata_text = to_canonical(&metadata).expect("metadata of ours is JSON");
            self.bytes += event.payload.len() + metadata_text.len();
            self.next_position += 1;
            self.pending.push(Pending {
                id,
                stream: stream.clone(),
                sequence,
                event_type: event.event_type,
                event_version: event.event_version,
                payload: event.payload,
                event: event.event,
                metadata,
                metadata_text,
            });
        }
        Ok(())
    }

    fn metadata(
        &self,
        id: EventId,
        organization: Option<OrganizationId>,
        environment: Option<Environment>,
    ) -> Metadata {
        let seal = |field: &str, value: &Option<(Arc<DataKey>, String)>| {
            value
                .as_ref()
                .map(|(key, text)| key.seal(self.source, id, field, text))
        };
        Metadata {
            actor: self.origin.actor,
            authority: self.authority.clone(),
            organization,
            environment,
            request_id: self.origin.request_id.clone(),
            correlation: self.pending.first().map(|first| first.id),
            causation: self.origin.causation,
            reason: seal(REASON, &self.origin.reason),
            context: seal(CONTEXT, &self.origin.context),
        }
    }

    /// What this unit has decided so far, in its order.
    pub fn decided(&self) -> impl Iterator<Item = &Event> {
        self.pending.iter().map(|pending| &pending.event)
    }

    /// Which subject has an address that the unit has named among its look-ups.
    ///
    /// # Panics
    /// When the unit did not name it.
    pub fn holder(&self, key: &LookupKey) -> Option<&str> {
        self.held.get(key).expect(NAMED).as_deref()
    }

    /// Who holds a claim that the unit has named among its look-ups, or lets it rest.
    ///
    /// # Panics
    /// When the unit did not name it.
    pub fn claims(&self, key: &ClaimKey) -> &[Claim] {
        self.claims.get(key).expect(NAMED)
    }

    /// Takes a claim. That it may be taken has been asked of what [`Desk::claims`] says.
    ///
    /// # Panics
    /// When the unit did not name it among its look-ups.
    pub fn claim(&mut self, key: &ClaimKey, claimant: Claimant) {
        let statements = self.claims.claim(key, claimant);
        self.statements.extend(statements);
    }

    /// Frees claims; what had one owner in the installation rests. The unit need not name them.
    pub fn release(&mut self, release: Release) {
        let statements = self.claims.release(release, self.moment.now);
        self.statements.extend(statements);
    }

    /// Notes who has an address from now on; the row itself is the caller's statement.
    pub fn hold(&mut self, key: &LookupKey, holder: Option<String>) {
        let before = self.held.insert(key.clone(), holder).flatten();
        self.undo.push((key.clone(), before));
    }

    /// Adds a statement for what is kept beside the log, written with the batch or not at all.
    pub fn write_beside(&mut self, statement: Statement) {
        self.statements.push(statement);
    }
}
