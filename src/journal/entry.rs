//! The entry: one event as the log keeps it for ever, its canonical bytes and its leaf.
//!
//! What stands here can never be changed, only added to under a new event version: every
//! leaf of every log hangs on these bytes.

use base64::{Engine, prelude::BASE64_STANDARD};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

pub use super::canonical::to_canonical;
use super::upcasters;
use crate::{
    domain::{
        Timestamp,
        authority::{Actor, AuthorityLink},
        environment::Environment,
        event::{Event, UnknownEvent},
        ids::{BatchId, EventId, OrganizationId},
        sealed::Sealed,
    },
    proofs::tree::{Hash, leaf_hash},
};

/// Who, on which authority, through which request, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    pub actor: Actor,
    /// The chain that the decision stood on, first proof first; empty for due work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authority: Vec<AuthorityLink>,
    /// Whose stream this is; none for a person's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<OrganizationId>,
    /// The environment that the stream is of: a crew's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The request that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The first event of the unit: what was decided together has it in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<EventId>,
    /// The event that this one follows from, where a unit carries on another's work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<EventId>,
    /// Why, in the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Sealed>,
    /// Address and user agent, as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Sealed>,
}

/// Names of sealed fields in metadata, which their ciphertexts are bound to.
pub const REASON: &str = "metadata.reason";
/// See [`REASON`].
pub const CONTEXT: &str = "metadata.context";

/// An event as its row has it, payload and metadata byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// From 1, gapless.
    pub position: u64,
    pub id: EventId,
    pub recorded_at: Timestamp,
    pub batch: BatchId,
    pub aggregate_type: String,
    pub aggregate_id: String,
    /// From 1, gapless in the stream.
    pub sequence: u64,
    /// The workspace, else the organization, else the user.
    pub scope: String,
    /// From 1, gapless in the scope.
    pub scope_sequence: u64,
    /// The leaf before it in the scope; none for the first.
    pub previous: Option<Hash>,
    pub event_type: String,
    pub event_version: String,
    /// Canonical JSON of the externally tagged event.
    pub payload: String,
    /// Canonical JSON of [`Metadata`].
    pub metadata: String,
    pub salt: [u8; 32],
    pub leaf: Hash,
}

impl StoredEvent {
    /// The entry: RFC 8785 canonical JSON, members in order of their names. Payload and
    /// metadata enter as they are stored; they were canonical when written.
    pub fn canonical(&self) -> String {
        let previous = match &self.previous {
            Some(leaf) => format!("\"{}\"", BASE64_STANDARD.encode(leaf)),
            None => "null".to_owned(),
        };
        // None of the spliced strings needs escaping: they are ids, base64 and names of
        // ours (which `debug_assert` holds to it).
        debug_assert!(self.spliced_strings_are_plain());
        format!(
            "{{\"aggregate_id\":\"{}\",\"aggregate_type\":\"{}\",\"batch\":\"{}\",\"id\":\"{}\",\
             \"metadata\":{},\"payload\":{},\"position\":{},\"previous\":{},\"recorded_at\":{},\
             \"salt\":\"{}\",\"scope\":\"{}\",\"scope_sequence\":{},\"sequence\":{},\
             \"type\":\"{}\",\"version\":\"{}\"}}",
            self.aggregate_id,
            self.aggregate_type,
            self.batch,
            self.id,
            self.metadata,
            self.payload,
            self.position,
            previous,
            self.recorded_at.0,
            BASE64_STANDARD.encode(self.salt),
            self.scope,
            self.scope_sequence,
            self.sequence,
            self.event_type,
            self.event_version,
        )
    }

    /// The leaf as the entry says it must be.
    pub fn computed_leaf(&self) -> Hash {
        leaf_hash(self.canonical().as_bytes())
    }

    fn spliced_strings_are_plain(&self) -> bool {
        [
            &self.aggregate_id,
            &self.aggregate_type,
            &self.scope,
            &self.event_type,
            &self.event_version,
        ]
        .into_iter()
        .all(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        })
    }

    /// The event with its types, brought to the current schema version.
    ///
    /// # Errors
    /// When this version of Crewlog does not know it.
    pub fn decode(&self) -> Result<Recorded, DecodeError> {
        let row = EventRow {
            position: self.position,
            id: self.id,
            recorded_at: self.recorded_at,
            aggregate_type: &self.aggregate_type,
            aggregate_id: &self.aggregate_id,
            sequence: self.sequence,
            scope: &self.scope,
            event_type: &self.event_type,
            event_version: &self.event_version,
            payload: &self.payload,
            metadata: &self.metadata,
        };
        row.decode()
    }
}

/// A row of `events` where it lies, without what only proofs need.
#[derive(Debug, Clone, Copy)]
pub struct EventRow<'a> {
    pub position: u64,
    pub id: EventId,
    pub recorded_at: Timestamp,
    pub aggregate_type: &'a str,
    pub aggregate_id: &'a str,
    pub sequence: u64,
    pub scope: &'a str,
    pub event_type: &'a str,
    pub event_version: &'a str,
    pub payload: &'a str,
    pub metadata: &'a str,
}

impl EventRow<'_> {
    /// The event with its types, brought to the current schema version.
    ///
    /// # Errors
    /// When this version of Crewlog does not know it.
    pub fn decode(&self) -> Result<Recorded, DecodeError> {
        let failed = |source| DecodeError {
            position: self.position,
            source,
        };
        let current = upcasters::upcast(
            self.aggregate_type,
            self.event_type,
            self.event_version,
            self.payload,
        )
        .map_err(|error| failed(error.into()))?;
        let event = Event::decode(self.aggregate_type, &current.payload)
            .map_err(|error| failed(error.into()))?;
        let known = match &event {
            Event::User(event) => event.event_version(),
            Event::Organization(event) => event.event_version(),
            Event::Workspace(event) => event.event_version(),
            Event::Crew(event) => event.event_version(),
            Event::Promotion(event) => event.event_version(),
            Event::Review(event) => event.event_version(),
            Event::Attempts(event) => event.event_version(),
            Event::Installation(event) => event.event_version(),
        };
        require_version(current.version, known).map_err(failed)?;
        let metadata = serde_json::from_str(self.metadata).map_err(|error| failed(error.into()))?;
        Ok(Recorded {
            position: self.position,
            id: self.id,
            recorded_at: self.recorded_at,
            aggregate_type: self.aggregate_type.to_owned(),
            aggregate_id: self.aggregate_id.to_owned(),
            sequence: self.sequence,
            scope: self.scope.to_owned(),
            metadata,
            event,
        })
    }
}

/// An event that this version of Crewlog cannot read; nothing may be skipped, so whoever
/// meets it stops.
#[derive(Debug, thiserror::Error)]
#[error("the event at position {position} cannot be read by this version of crewlog: {source}")]
pub struct DecodeError {
    pub position: u64,
    #[source]
    pub source: DecodeCause,
}

/// That an event is of the version that this program writes.
///
/// # Errors
/// [`DecodeCause::Version`] when it is not.
pub(super) fn require_version(found: &str, known: String) -> Result<(), DecodeCause> {
    if found == known {
        return Ok(());
    }
    Err(DecodeCause::Version {
        found: found.to_owned(),
        known,
    })
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum DecodeCause {
    #[error(transparent)]
    Unknown(#[from] UnknownEvent),
    #[error(transparent)]
    Upcast(#[from] upcasters::UpcastError),
    /// What this program would read it as may not be what was meant.
    #[error("it is of version {found}, and this program knows {known}")]
    Version { found: String, known: String },
    #[error("its metadata cannot be read: {0}")]
    Metadata(#[from] serde_json::Error),
}

/// An event with its types: what folds are given.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub position: u64,
    pub id: EventId,
    pub recorded_at: Timestamp,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub sequence: u64,
    pub scope: String,
    pub metadata: Metadata,
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_entry_is_canonical_json_of_all_its_fields() {
        let event = StoredEvent {
            position: 7,
            id: EventId::from_uuid(Uuid::from_u128(1)),
            recorded_at: Timestamp(1_764_000_000_000_000),
            batch: BatchId::from_uuid(Uuid::from_u128(2)),
            aggregate_type: "workspace".into(),
            aggregate_id: "ws_00000000000000000000000003".into(),
            sequence: 2,
            scope: "ws_00000000000000000000000003".into(),
            scope_sequence: 2,
            previous: Some([9; 32]),
            event_type: "workspace_renamed".into(),
            event_version: "1".into(),
            payload: r#"{"workspace_renamed":{"from":"é","to":"b"}}"#.into(),
            metadata: r#"{"actor":{"type":"system"}}"#.into(),
            salt: [1; 32],
            leaf: [0; 32],
        };
        let parsed: serde_json::Value = serde_json::from_str(&event.canonical()).unwrap();
        assert_eq!(to_canonical(&parsed).unwrap(), event.canonical());
        assert_eq!(parsed.as_object().unwrap().len(), 15);
        let mut changed = event.clone();
        changed.payload = changed.payload.replace('b', "c");
        assert_ne!(event.computed_leaf(), changed.computed_leaf());
    }
}
