//! What a key may: scopes, and which of them a permission takes.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::domain::Refusal;

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
        /// One thing that a key may.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum KeyScope {
            $($(#[$doc])* $name,)+
        }

        impl KeyScope {
            /// Every scope there is.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

scopes! {
    /// Read crews and what is in them.
    CrewsRead = "crews:read";
    /// Change what is in crews.
    CrewsWrite = "crews:write";
    /// Read promotions.
    PromotionsRead = "promotions:read";
    /// Propose promotions; only people approve them.
    PromotionsPropose = "promotions:propose";
    /// Read who is in the workspace.
    MembersRead = "members:read";
    /// Read the audit log.
    AuditRead = "audit:read";
    /// Send usage records.
    UsageWrite = "usage:write";
    /// Send a crew's activity.
    ActivityWrite = "activity:write";
    /// Read which keys there are.
    KeysRead = "keys:read";
    /// Make workspaces in the organization.
    WorkspacesCreate = "workspaces:create";
    /// Read the organization's workspaces.
    WorkspacesRead = "workspaces:read";
    /// Read the organization's usage.
    UsageRead = "usage:read";
}

impl KeyScope {
    /// Those that a key of a workspace can have.
    pub const OF_WORKSPACE: [Self; 9] = [
        Self::CrewsRead,
        Self::CrewsWrite,
        Self::PromotionsRead,
        Self::PromotionsPropose,
        Self::MembersRead,
        Self::AuditRead,
        Self::UsageWrite,
        Self::ActivityWrite,
        Self::KeysRead,
    ];

    /// Those that a key of an organization can have.
    pub const OF_ORGANIZATION: [Self; 4] = [
        Self::WorkspacesCreate,
        Self::WorkspacesRead,
        Self::UsageRead,
        Self::AuditRead,
    ];
}

/// A text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no such scope")]
pub struct UnknownScope;

impl FromStr for KeyScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let found = Self::ALL.iter().find(|scope| scope.name() == text);
        found.copied().ok_or(UnknownScope)
    }
}

impl fmt::Display for KeyScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Serialize for KeyScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for KeyScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// What a permission asks of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRight {
    /// Every key of the holder has it.
    Every,
    /// A key with this scope has it.
    Scope(KeyScope),
    /// Only people have it.
    Never,
}

impl KeyRight {
    /// Whether a key with these scopes has the right.
    ///
    /// # Errors
    /// [`Refusal::ScopeMissing`], or [`Refusal::NotForApiKeys`] where none would do.
    pub fn allows(self, scopes: &BTreeSet<KeyScope>) -> Result<(), Refusal> {
        match self {
            Self::Every => Ok(()),
            Self::Scope(scope) if scopes.contains(&scope) => Ok(()),
            Self::Scope(scope) => Err(Refusal::ScopeMissing { scope }),
            Self::Never => Err(Refusal::NotForApiKeys),
        }
    }
}
