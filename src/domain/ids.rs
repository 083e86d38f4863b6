//! The one registry of id kinds: TypeIDs, whose prefix says what they name.
//!
//! An id is a UUIDv7 behind a prefix (`ws_01h…`), so it sorts by the time it was made and
//! cannot be mistaken for an id of another kind. The domain never makes one: ids come in
//! with the command, made at the edge by [`crate::journal::Source`].
//!
//! To add a kind: one line in the table below, and its row in the API's guide.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use type_safe_id::{StaticType, TypeSafeId};
use uuid::Uuid;

/// A string that is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind: expected `{expected}_` and 26 characters of base32")]
pub struct InvalidId {
    /// The prefix that was expected, without its underscore.
    pub expected: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(TypeSafeId<tags::$name>);

        impl $name {
            /// The prefix, without its underscore.
            pub const PREFIX: &'static str = $prefix;

            /// The id around a UUID that was made elsewhere.
            pub fn from_uuid(uuid: Uuid) -> Self {
                Self(TypeSafeId::from_uuid(uuid))
            }

            /// The UUID inside.
            pub fn uuid(&self) -> Uuid {
                self.0.uuid()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.parse().map(Self).map_err(|_| InvalidId { expected: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                TypeSafeId::deserialize(deserializer).map(Self)
            }
        }
    )+

    mod tags {
        use super::StaticType;
        $(
            #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name;
            impl StaticType for $name {
                const TYPE: &'static str = $prefix;
            }
        )+
    }};
}

ids! {
    /// A company or platform; owns workspaces.
    OrganizationId = "org";
    /// Billing, team, keys, limits and policy.
    WorkspaceId = "ws";
    /// A person with an account.
    UserId = "usr";
    /// An invitation into a workspace.
    InvitationId = "inv";
    /// A signed-in session of a person.
    SessionId = "ses";
    /// An API key, of a workspace or an organization; not its secret.
    KeyId = "key";
    /// A crew: what one environment of a workspace holds.
    CrewId = "crw";
    /// An agent of a crew.
    AgentId = "agt";
    /// A pathway of a crew.
    PathwayId = "pth";
    /// A phone number of a crew.
    PhoneNumberId = "num";
    /// A channel of a crew.
    ChannelId = "chn";
    /// A knowledge base of a crew.
    KnowledgeBaseId = "kb";
    /// A document of a knowledge base.
    DocumentId = "doc";
    /// A webhook endpoint of a crew.
    WebhookEndpointId = "whk";
    /// An integration of a crew.
    IntegrationId = "int";
    /// A credential that is kept sealed: of an integration, or what signs for an endpoint.
    CredentialId = "crd";
    /// A promotion of what is in one crew into another.
    PromotionId = "pro";
    /// A campaign over who has access to a workspace.
    ReviewId = "rev";
    /// One entry of the log.
    EventId = "evt";
    /// One append: what was decided and written together.
    BatchId = "bat";
    /// A person as one organization (or their own account) knows them: the owner of a key
    /// that seals what is personal.
    SubjectId = "sub";
}

/// Who can ask for something: a person, or an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalId {
    /// A person.
    User(UserId),
    /// An API key.
    Key(KeyId),
}

impl fmt::Display for PrincipalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => user.fmt(formatter),
            Self::Key(key) => key.fmt(formatter),
        }
    }
}

impl FromStr for PrincipalId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = |_| InvalidId {
            expected: "usr_` or `key",
        };
        let key = text.parse().map(Self::Key);
        key.or_else(|_| text.parse().map(Self::User)).map_err(wrong)
    }
}

impl Serialize for PrincipalId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PrincipalId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_refuses_another_kind() {
        let id = WorkspaceId::from_uuid(Uuid::from_u128(7));
        assert_eq!(id.to_string().parse::<WorkspaceId>(), Ok(id));
        assert_eq!(
            id.to_string().parse::<UserId>(),
            Err(InvalidId { expected: "usr" })
        );
        for rubbish in [
            "",
            "ws_",
            "ws",
            "ws_é",
            "ws_01h",
            "_",
            "ws_ZZZZZZZZZZZZZZZZZZZZZZZZZZ",
        ] {
            assert!(rubbish.parse::<WorkspaceId>().is_err(), "{rubbish}");
        }
    }
}
