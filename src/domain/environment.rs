//! The three environments that workloads are kept apart in.

use serde::{Deserialize, Serialize};

/// An environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// Building and testing, on synthetic data.
    Development,
    /// Validation before production, on data like production's.
    Staging,
    /// Live traffic, real data.
    Production,
}

impl Environment {
    /// In the order that work goes through them.
    pub const ALL: [Self; 3] = [Self::Development, Self::Staging, Self::Production];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    /// The short form that keys begin with.
    pub fn short(self) -> &'static str {
        match self {
            Self::Development => "dev",
            Self::Staging => "stg",
            Self::Production => "prod",
        }
    }
}

/// A word that names no environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no environment")]
pub struct UnknownEnvironment(String);

impl std::str::FromStr for Environment {
    type Err = UnknownEnvironment;

    fn from_str(text: &str) -> Result<Self, UnknownEnvironment> {
        let named = Self::ALL.into_iter().find(|known| known.name() == text);
        named.ok_or_else(|| UnknownEnvironment(text.to_owned()))
    }
}
