//! What a key was given: name, scopes, crews, addresses, and until when.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::KeyScope;
use crate::domain::{Timestamp, crew::CrewPlace, environment::Environment, ids::CrewId};

/// The terms of a key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyTerms {
    /// What people call it.
    pub name: String,
    pub scopes: BTreeSet<KeyScope>,
    /// The crews that it reaches; all of its environment where nothing is said.
    pub crews: Option<BTreeSet<CrewId>>,
    /// Where it may be used from; anywhere where there are none.
    pub allowed_cidrs: Vec<AddressRange>,
    /// First moment at which it no longer counts.
    pub expires_at: Option<Timestamp>,
}

impl KeyTerms {
    /// Whether it may be used from `address`; one that is not known is in no range.
    pub fn allow_address(&self, address: Option<IpAddr>) -> bool {
        let is_inside = |range: &AddressRange| address.is_some_and(|it| range.contains(it));
        self.allowed_cidrs.is_empty() || self.allowed_cidrs.iter().any(is_inside)
    }

    /// That a key of this environment with these terms reaches a crew. The one place that
    /// says so: commands ask it inside the append, reads before they answer, gateways when
    /// they verify.
    ///
    /// # Errors
    /// Why it does not.
    pub fn reach(
        &self,
        environment: Option<Environment>,
        crew: CrewPlace,
    ) -> Result<(), CrewMissed> {
        if environment != Some(crew.environment) {
            return Err(CrewMissed::WrongEnvironment);
        }
        match &self.crews {
            Some(crews) if !crews.contains(&crew.id) => Err(CrewMissed::NotNamed),
            Some(_) | None => Ok(()),
        }
    }
}

/// Why a key does not reach a crew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrewMissed {
    /// It is of another environment.
    WrongEnvironment,
    /// It is bound to other crews.
    NotNamed,
}

/// Addresses that have a prefix in common, in CIDR notation (RFC 4632, RFC 4291).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange(IpNet);

/// A text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a range of addresses such as 203.0.113.0/24 or 2001:db8::/32, its host bits zero")]
pub struct InvalidAddressRange;

impl AddressRange {
    /// Whether an address is in it; an IPv4 address that is mapped into IPv6 is the former.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for AddressRange {
    type Err = InvalidAddressRange;

    /// A single address is the range of itself.
    fn from_str(text: &str) -> Result<Self, InvalidAddressRange> {
        let range = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| InvalidAddressRange)?,
        };
        match range.trunc() == range {
            true => Ok(Self(range)),
            false => Err(InvalidAddressRange),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Serialize for AddressRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AddressRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
