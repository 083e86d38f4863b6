//! Plans: their names, and the quotas that a decision is held to.
//!
//! What there is to choose is the catalogue's matter ([`crate::service::plans`]); the log says
//! which plan was chosen. The catalogue's quotas come to a decision with its
//! [`Moment`](super::Moment), so that no command can be decided without them. A quota bounds
//! what is added: where an operator makes a plan smaller, nobody loses what they have.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A plan's name: 1 to 40 lower-case letters, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanName(String);

/// A text that cannot be a plan's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a plan's name is 1 to 40 lower-case letters, digits and `-`")]
pub struct InvalidPlanName;

impl PlanName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PlanName {
    type Err = InvalidPlanName;

    fn from_str(text: &str) -> Result<Self, InvalidPlanName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=40).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPlanName)
        }
    }
}

impl TryFrom<String> for PlanName {
    type Error = InvalidPlanName;

    fn try_from(text: String) -> Result<Self, InvalidPlanName> {
        text.parse()
    }
}

impl From<PlanName> for String {
    fn from(name: PlanName) -> Self {
        name.0
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a workspace may have; `None`: as many as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Members, and invitations that can be accepted.
    pub members: Option<u64>,
    /// Crews of one environment that are not archived.
    pub crews_per_environment: Option<u64>,
    /// Keys that live; one that was rotated counts as one with its successor.
    pub api_keys: Option<u64>,
    /// Requests a minute, of everybody together.
    pub requests_per_minute: Option<u64>,
}

impl Quotas {
    /// As many of everything as one likes.
    pub const UNLIMITED: Self = Self {
        members: None,
        crews_per_environment: None,
        api_keys: None,
        requests_per_minute: None,
    };

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let both = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            members: both(self.members, other.members),
            crews_per_environment: both(self.crews_per_environment, other.crews_per_environment),
            api_keys: both(self.api_keys, other.api_keys),
            requests_per_minute: both(self.requests_per_minute, other.requests_per_minute),
        }
    }

    /// Each quota with its name on the wire.
    pub fn named(self) -> [(&'static str, Option<u64>); 4] {
        [
            ("members", self.members),
            ("crews_per_environment", self.crews_per_environment),
            ("api_keys", self.api_keys),
            ("requests_per_minute", self.requests_per_minute),
        ]
    }
}

/// The quotas of every plan that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans {
    of: BTreeMap<PlanName, Quotas>,
    /// Of a plan that was chosen once, and is in the catalogue no more.
    otherwise: Quotas,
}

impl Plans {
    /// No plan limits anything.
    pub fn unlimited() -> &'static Self {
        static UNLIMITED: Plans = Plans {
            of: BTreeMap::new(),
            otherwise: Quotas::UNLIMITED,
        };
        &UNLIMITED
    }

    /// These; `otherwise` holds for every other.
    pub fn new(of: BTreeMap<PlanName, Quotas>, otherwise: Quotas) -> Self {
        Self { of, otherwise }
    }

    /// What a plan allows.
    pub fn quotas(&self, plan: Option<&PlanName>) -> Quotas {
        let known = plan.and_then(|plan| self.of.get(plan));
        known.copied().unwrap_or(self.otherwise)
    }
}

/// Something that there is more of than would be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// The quota's name on the wire.
    pub quota: &'static str,
    /// What is counted, in words.
    pub counted: &'static str,
    pub present: u64,
    pub allowed: u64,
}

impl fmt::Display for Excess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            counted,
            present,
            allowed,
            ..
        } = self;
        write!(
            formatter,
            "there are {present} {counted}, and {allowed} would be allowed"
        )
    }
}
