//! What joins a crew to the world, and stays in it: phone numbers and channels. Each is claimed
//! when it is connected, in the same append ([`crate::domain::claims`]); none of them promotes.
//!
//! To add a kind: its id in [`ConnectionId`], its shape in [`Connection`] with what it claims,
//! and its routes in `api`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::domain::{
    Refusal,
    claims::Sharing,
    contents::slots::{Slot, SlotKind},
    ids::{ChannelId, InvalidId, PhoneNumberId},
};

/// The most connections of one kind in one crew.
pub const CONNECTIONS_MAX: usize = 1_000;
/// The longest address of a channel.
pub const ADDRESS_CHARACTERS_MAX: usize = 320;
/// The longest name of a kind of channel.
pub const CHANNEL_KIND_CHARACTERS_MAX: usize = 40;

/// A kind of what joins a crew to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionKind {
    PhoneNumber,
    Channel,
}

impl ConnectionKind {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::PhoneNumber => "phone_number",
            Self::Channel => "channel",
        }
    }

    /// The name in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::PhoneNumber => "phone number",
            Self::Channel => "channel",
        }
    }
}

/// The id of a connection; its prefix says of what kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionId {
    PhoneNumber(PhoneNumberId),
    Channel(ChannelId),
}

impl ConnectionId {
    /// What it is the id of.
    pub fn kind(self) -> ConnectionKind {
        match self {
            Self::PhoneNumber(_) => ConnectionKind::PhoneNumber,
            Self::Channel(_) => ConnectionKind::Channel,
        }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PhoneNumber(id) => id.fmt(formatter),
            Self::Channel(id) => id.fmt(formatter),
        }
    }
}

impl FromStr for ConnectionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('_').map(|(prefix, _)| prefix) {
            Some(ChannelId::PREFIX) => text.parse().map(Self::Channel),
            _ => text.parse().map(Self::PhoneNumber),
        }
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConnectionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// What a crew is joined to. Made by the functions that check it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Connection {
    /// In E.164.
    PhoneNumber { number: String },
    /// An address of some kind: an inbox, a chat, a widget.
    Channel { kind: String, address: String },
}

/// What is no connection of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConnection {
    #[error("a phone number that can be called, in E.164: `+`, the country, and the rest")]
    Number,
    #[error("a lower-case word of letters, digits and `_`, such as `email` or `web_chat`")]
    ChannelKind,
    #[error("1 to {ADDRESS_CHARACTERS_MAX} characters, none of them a space or unprintable")]
    Address,
}

impl Connection {
    /// A phone number that can be called, as E.164 writes it.
    ///
    /// # Errors
    /// [`InvalidConnection::Number`].
    pub fn phone_number(text: &str) -> Result<Self, InvalidConnection> {
        let known = phonenumber::parse(None, text).map_err(|_| InvalidConnection::Number)?;
        let number = known.format().mode(phonenumber::Mode::E164).to_string();
        match number == text && known.is_valid() {
            true => Ok(Self::PhoneNumber { number }),
            false => Err(InvalidConnection::Number),
        }
    }

    /// A channel.
    ///
    /// # Errors
    /// [`InvalidConnection::ChannelKind`] and [`InvalidConnection::Address`].
    pub fn channel(kind: &str, address: &str) -> Result<Self, InvalidConnection> {
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = kind.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins || !kind.chars().all(is_part) || kind.len() > CHANNEL_KIND_CHARACTERS_MAX {
            return Err(InvalidConnection::ChannelKind);
        }
        let length = address.chars().count();
        let is_printable = |c: char| !c.is_control() && !c.is_whitespace();
        if length == 0 || length > ADDRESS_CHARACTERS_MAX || !address.chars().all(is_printable) {
            return Err(InvalidConnection::Address);
        }
        let (kind, address) = (kind.to_owned(), address.to_owned());
        Ok(Self::Channel { kind, address })
    }

    /// Of what kind it is.
    pub fn kind(&self) -> ConnectionKind {
        match self {
            Self::PhoneNumber { .. } => ConnectionKind::PhoneNumber,
            Self::Channel { .. } => ConnectionKind::Channel,
        }
    }

    /// Who else may have the same.
    pub fn sharing(&self) -> Sharing {
        match self {
            Self::PhoneNumber { .. } => Sharing::OneOwner,
            Self::Channel { .. } => Sharing::ProductionApart,
        }
    }

    /// Whether it is what a slot names. A number has no name of its own: the slot's says what for,
    /// and any of the crew's will do; a channel is named by its kind.
    pub(super) fn fills(&self, slot: &Slot) -> bool {
        match self {
            Self::PhoneNumber { .. } => slot.kind == SlotKind::PhoneNumber,
            Self::Channel { kind, .. } => slot.kind == SlotKind::Channel && *kind == slot.name,
        }
    }

    /// What it consists of, by the names on the wire.
    pub fn fields(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::PhoneNumber { number } => vec![("number", number)],
            Self::Channel { kind, address } => vec![("kind", kind), ("address", address)],
        }
    }

    /// What is claimed: the same for all that reach the same.
    pub fn claimed(&self) -> String {
        match self {
            Self::PhoneNumber { number } => number.clone(),
            // Most that deliver to addresses do not tell letters by their case.
            Self::Channel { kind, address } => format!("{kind}:{}", address.to_lowercase()),
        }
    }
}

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

/// Any of them, between a crew and its connections.
#[derive(Debug, Clone, PartialEq)]
pub enum ConnectionEvent {
    Added(ConnectionAdded),
    Changed(ConnectionChanged),
    Removed(ConnectionRemoved),
}

impl ConnectionEvent {
    /// Which one.
    pub fn connection(&self) -> ConnectionId {
        match self {
            Self::Added(event) => event.connection,
            Self::Changed(event) => event.connection,
            Self::Removed(event) => event.connection,
        }
    }

    /// What it is after the event; none where it is there no more.
    pub fn to(&self) -> Option<&Connection> {
        match self {
            Self::Added(event) => Some(&event.to),
            Self::Changed(event) => Some(&event.to),
            Self::Removed(_) => None,
        }
    }

    /// What it was before the event; none where it was not there.
    pub fn from(&self) -> Option<&Connection> {
        match self {
            Self::Added(_) => None,
            Self::Changed(event) => Some(&event.from),
            Self::Removed(event) => Some(&event.from),
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
}

impl ConnectionCommand {
    /// What it joins the crew to.
    pub fn to(&self) -> Option<&Connection> {
        match self {
            Self::Add { to, .. } | Self::Change { to, .. } => Some(to),
            Self::Remove { .. } => None,
        }
    }
}

/// The connections of a crew, folded from its events: none of them twice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections(BTreeMap<ConnectionId, Connection>);

impl Connections {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Connection> {
        self.0.values()
    }

    pub(super) fn decide(&self, command: ConnectionCommand) -> Result<ConnectionEvent, Refusal> {
        match command {
            ConnectionCommand::Add { connection, to } => {
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
            ConnectionCommand::Change { connection, to } => {
                let from = self.known(connection)?.clone();
                self.is_new(connection, &to)?;
                Ok(ConnectionEvent::Changed(ConnectionChanged {
                    connection,
                    from,
                    to,
                }))
            }
            ConnectionCommand::Remove { connection } => {
                let from = self.known(connection)?.clone();
                Ok(ConnectionEvent::Removed(ConnectionRemoved {
                    connection,
                    from,
                }))
            }
        }
    }

    fn known(&self, connection: ConnectionId) -> Result<&Connection, Refusal> {
        self.0.get(&connection).ok_or(Refusal::NotFound {
            what: connection.kind().words(),
            hidden: false,
        })
    }

    /// That the crew is not joined to it already, by another connection.
    fn is_new(&self, connection: ConnectionId, to: &Connection) -> Result<(), Refusal> {
        let claimed = to.claimed();
        let is_same = |(id, other): (&ConnectionId, &Connection)| {
            *id != connection && other.kind() == to.kind() && other.claimed() == claimed
        };
        match self.0.iter().any(is_same) {
            true => Err(Refusal::AlreadyExists {
                what: to.kind().words(),
            }),
            false => Ok(()),
        }
    }

    pub(super) fn apply(&mut self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Added(event) => drop(self.0.insert(event.connection, event.to)),
            ConnectionEvent::Changed(event) => drop(self.0.insert(event.connection, event.to)),
            ConnectionEvent::Removed(event) => drop(self.0.remove(&event.connection)),
        }
    }

    pub(super) fn weight_bytes(&self) -> usize {
        // An id, an address of some length, and their share of the node.
        self.0.len() * 160
    }
}
