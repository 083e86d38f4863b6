//! The kinds of what joins crews to the world, and their ids.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use uuid::Uuid;

use crate::domain::ids::{ChannelId, IntegrationId, InvalidId, PhoneNumberId, WebhookEndpointId};

/// A kind of what joins a crew to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionKind {
    PhoneNumber,
    Channel,
    WebhookEndpoint,
    Integration,
}

impl ConnectionKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::PhoneNumber,
        Self::Channel,
        Self::WebhookEndpoint,
        Self::Integration,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::PhoneNumber => "phone_number",
            Self::Channel => "channel",
            Self::WebhookEndpoint => "webhook_endpoint",
            Self::Integration => "integration",
        }
    }

    /// The name in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::PhoneNumber => "phone number",
            Self::Channel => "channel",
            Self::WebhookEndpoint => "webhook endpoint",
            Self::Integration => "integration",
        }
    }

    /// The id of one of this kind.
    pub fn id(self, uuid: Uuid) -> ConnectionId {
        match self {
            Self::PhoneNumber => ConnectionId::PhoneNumber(PhoneNumberId::from_uuid(uuid)),
            Self::Channel => ConnectionId::Channel(ChannelId::from_uuid(uuid)),
            Self::WebhookEndpoint => {
                ConnectionId::WebhookEndpoint(WebhookEndpointId::from_uuid(uuid))
            }
            Self::Integration => ConnectionId::Integration(IntegrationId::from_uuid(uuid)),
        }
    }
}

/// The id of a connection; its prefix says of what kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionId {
    PhoneNumber(PhoneNumberId),
    Channel(ChannelId),
    WebhookEndpoint(WebhookEndpointId),
    Integration(IntegrationId),
}

impl ConnectionId {
    /// What it is the id of.
    pub fn kind(self) -> ConnectionKind {
        match self {
            Self::PhoneNumber(_) => ConnectionKind::PhoneNumber,
            Self::Channel(_) => ConnectionKind::Channel,
            Self::WebhookEndpoint(_) => ConnectionKind::WebhookEndpoint,
            Self::Integration(_) => ConnectionKind::Integration,
        }
    }
}

impl From<PhoneNumberId> for ConnectionId {
    fn from(id: PhoneNumberId) -> Self {
        Self::PhoneNumber(id)
    }
}

impl From<ChannelId> for ConnectionId {
    fn from(id: ChannelId) -> Self {
        Self::Channel(id)
    }
}

impl From<WebhookEndpointId> for ConnectionId {
    fn from(id: WebhookEndpointId) -> Self {
        Self::WebhookEndpoint(id)
    }
}

impl From<IntegrationId> for ConnectionId {
    fn from(id: IntegrationId) -> Self {
        Self::Integration(id)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PhoneNumber(id) => id.fmt(formatter),
            Self::Channel(id) => id.fmt(formatter),
            Self::WebhookEndpoint(id) => id.fmt(formatter),
            Self::Integration(id) => id.fmt(formatter),
        }
    }
}

impl FromStr for ConnectionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('_').map(|(prefix, _)| prefix) {
            Some(ChannelId::PREFIX) => text.parse().map(Self::Channel),
            Some(WebhookEndpointId::PREFIX) => text.parse().map(Self::WebhookEndpoint),
            Some(IntegrationId::PREFIX) => text.parse().map(Self::Integration),
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
