//! What joins a crew to the world, and stays in it: phone numbers, channels, webhook endpoints and
//! integrations. Each is claimed when it is connected, in the same append
//! ([`crate::domain::claims`]); none of them promotes. Two kinds have a credential, which is known
//! here by its id alone: it is sealed, and kept outside of the log.
//!
//! To add a kind: its id in [`ConnectionId`], its shape in [`Connection`] with what it claims,
//! and its description in `api::connections`.

mod ids;
mod shapes;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

pub use ids::{ConnectionId, ConnectionKind};
pub use shapes::{
    ADDRESS_CHARACTERS_MAX, Connection, ENDPOINT_EVENTS_MAX, EVENT_NAME_CHARACTERS_MAX,
    InvalidConnection, KIND_CHARACTERS_MAX,
};

use crate::domain::{Refusal, Timestamp, ids::CredentialId};

/// The most connections of one kind in one crew.
pub const CONNECTIONS_MAX: usize = 1_000;
/// The longest that a replaced credential lives on.
pub const GRACE_SECONDS_MAX: u64 = crate::domain::api_keys::GRACE_SECONDS_MAX;

/// A crew was joined to something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionAdded {
    pub connection: ConnectionId,
    pub to: Connection,
}

/// It is joined to something else instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionChanged {
    pub connection: ConnectionId,
    pub from: Connection,
    pub to: Connection,
}

/// It is joined to it no more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionRemoved {
    pub connection: ConnectionId,
    pub from: Connection,
}

/// It has a credential from now on, or another one. What it is, is sealed, and not here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSet {
    pub connection: ConnectionId,
    pub from: Option<CredentialId>,
    pub to: CredentialId,
    /// Until when the former one is good as well; none where it ended at once.
    pub from_until: Option<Timestamp>,
}

/// It has no credential any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialRemoved {
    pub connection: ConnectionId,
    pub from: CredentialId,
}

/// Any of them, between a crew and its connections.
#[derive(Debug, Clone, PartialEq)]
pub enum ConnectionEvent {
    Added(ConnectionAdded),
    Changed(ConnectionChanged),
    Removed(ConnectionRemoved),
    CredentialSet(CredentialSet),
    CredentialRemoved(CredentialRemoved),
}

impl ConnectionEvent {
    /// Which one.
    pub fn connection(&self) -> ConnectionId {
        match self {
            Self::Added(event) => event.connection,
            Self::Changed(event) => event.connection,
            Self::Removed(event) => event.connection,
            Self::CredentialSet(event) => event.connection,
            Self::CredentialRemoved(event) => event.connection,
        }
    }

    /// What it is joined to from now on, where the event says so.
    pub fn to(&self) -> Option<&Connection> {
        match self {
            Self::Added(event) => Some(&event.to),
            Self::Changed(event) => Some(&event.to),
            Self::Removed(_) | Self::CredentialSet(_) | Self::CredentialRemoved(_) => None,
        }
    }

    /// What it was joined to before, where the event says so.
    pub fn from(&self) -> Option<&Connection> {
        match self {
            Self::Changed(event) => Some(&event.from),
            Self::Removed(event) => Some(&event.from),
            Self::Added(_) | Self::CredentialSet(_) | Self::CredentialRemoved(_) => None,
        }
    }
}

/// Commands about connections. That nobody else has what they name is decided in the same unit.
#[derive(Debug, Clone, PartialEq)]
pub enum ConnectionCommand {
    Add {
        connection: ConnectionId,
        to: Connection,
    },
    /// Nothing happens where it is so already.
    Change {
        connection: ConnectionId,
        to: Connection,
    },
    Remove {
        connection: ConnectionId,
    },
    /// Gives it a credential, in place of the one that it may have: that one is good for so long
    /// yet, at most [`GRACE_SECONDS_MAX`].
    SetCredential {
        connection: ConnectionId,
        credential: CredentialId,
        grace_seconds: u64,
    },
    /// Nothing happens where it has none.
    RemoveCredential {
        connection: ConnectionId,
    },
}

impl ConnectionCommand {
    /// What it joins the crew to.
    pub fn to(&self) -> Option<&Connection> {
        match self {
            Self::Add { to, .. } | Self::Change { to, .. } => Some(to),
            Self::Remove { .. } | Self::SetCredential { .. } | Self::RemoveCredential { .. } => {
                None
            }
        }
    }
}

/// Until when a credential that is replaced at `now` is good as well.
pub fn end_of_grace(now: Timestamp, grace_seconds: u64) -> Option<Timestamp> {
    let grace = i64::try_from(grace_seconds.min(GRACE_SECONDS_MAX)).unwrap_or(0);
    (grace > 0).then(|| now.plus(TimeDelta::seconds(grace)))
}

/// What a crew is joined to, and the credential that goes with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Connected {
    to: Connection,
    credential: Option<CredentialId>,
}

/// The connections of a crew, folded from its events: none of them twice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections(BTreeMap<ConnectionId, Connected>);

impl Connections {
    /// All of them, in the order of their kinds and ids.
    pub fn all(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.0.iter().map(|(id, connected)| (*id, &connected.to))
    }

    /// The event that `command` leads to; none where it is so already.
    pub(super) fn decide(
        &self,
        command: ConnectionCommand,
        now: Timestamp,
    ) -> Result<Option<ConnectionEvent>, Refusal> {
        match command {
            ConnectionCommand::Add { connection, to } => self.add(connection, to).map(Some),
            ConnectionCommand::Change { connection, to } => {
                let from = self.known(connection)?.to.clone();
                self.is_new(connection, &to)?;
                Ok(
                    (from != to).then_some(ConnectionEvent::Changed(ConnectionChanged {
                        connection,
                        from,
                        to,
                    })),
                )
            }
            ConnectionCommand::Remove { connection } => {
                let from = self.known(connection)?.to.clone();
                Ok(Some(ConnectionEvent::Removed(ConnectionRemoved {
                    connection,
                    from,
                })))
            }
            ConnectionCommand::SetCredential {
                connection,
                credential: to,
                grace_seconds,
            } => {
                let from = self.known(connection)?.credential;
                let from_until = from.and_then(|_| end_of_grace(now, grace_seconds));
                Ok(Some(ConnectionEvent::CredentialSet(CredentialSet {
                    connection,
                    from,
                    to,
                    from_until,
                })))
            }
            ConnectionCommand::RemoveCredential { connection } => {
                let from = self.known(connection)?.credential;
                Ok(from.map(|from| {
                    ConnectionEvent::CredentialRemoved(CredentialRemoved { connection, from })
                }))
            }
        }
    }

    fn add(&self, connection: ConnectionId, to: Connection) -> Result<ConnectionEvent, Refusal> {
        let kind = connection.kind();
        let what = kind.words();
        if self.0.contains_key(&connection) {
            return Err(Refusal::AlreadyExists { what });
        }
        let of_kind = self.0.keys().filter(|id| id.kind() == kind);
        if of_kind.count() >= CONNECTIONS_MAX {
            let limit = CONNECTIONS_MAX;
            return Err(Refusal::TooManyItems { what, limit });
        }
        self.is_new(connection, &to)?;
        Ok(ConnectionEvent::Added(ConnectionAdded { connection, to }))
    }

    fn known(&self, connection: ConnectionId) -> Result<&Connected, Refusal> {
        self.0.get(&connection).ok_or(Refusal::NotFound {
            what: connection.kind().words(),
            hidden: false,
        })
    }

    /// That the crew is not joined to it already by another connection, and none of the same kind
    /// is called the same.
    fn is_new(&self, connection: ConnectionId, to: &Connection) -> Result<(), Refusal> {
        let (claimed, what) = (to.claimed(), to.kind().words());
        let mut others = self.all().filter(|(id, _)| *id != connection);
        others.try_for_each(|(_, other)| {
            if other.kind() != to.kind() {
                return Ok(());
            }
            if other.claimed() == claimed {
                return Err(Refusal::AlreadyExists { what });
            }
            match to.name().is_some() && other.name() == to.name() {
                true => Err(Refusal::NameTaken { what }),
                false => Ok(()),
            }
        })
    }

    pub(super) fn apply(&mut self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Added(event) => {
                let (to, credential) = (event.to, None);
                self.0
                    .insert(event.connection, Connected { to, credential });
            }
            ConnectionEvent::Changed(event) => {
                if let Some(connected) = self.0.get_mut(&event.connection) {
                    connected.to = event.to;
                }
            }
            ConnectionEvent::Removed(event) => drop(self.0.remove(&event.connection)),
            ConnectionEvent::CredentialSet(event) => {
                if let Some(connected) = self.0.get_mut(&event.connection) {
                    connected.credential = Some(event.to);
                }
            }
            ConnectionEvent::CredentialRemoved(event) => {
                if let Some(connected) = self.0.get_mut(&event.connection) {
                    connected.credential = None;
                }
            }
        }
    }

    pub(super) fn weight_bytes(&self) -> usize {
        let texts = |(_, connected): (&ConnectionId, &Connected)| match &connected.to {
            Connection::PhoneNumber { number } => number.len(),
            Connection::Channel { kind, address } => kind.len() + address.len(),
            Connection::WebhookEndpoint { url, events } => {
                let names = events.iter().flatten().map(|name| name.len() + 48);
                url.as_str().len() + names.sum::<usize>()
            }
            Connection::Integration {
                name,
                kind,
                account,
            } => name.len() + kind.len() + account.len(),
        };
        // An id, a credential's, and their share of the node.
        self.0.len() * 192 + self.0.iter().map(texts).sum::<usize>()
    }
}
