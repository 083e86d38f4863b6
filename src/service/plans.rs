//! The catalogue of plans: what each holds, and what it costs.
//!
//! A sensible one is built in; an operator may replace it with a file of the same form.
//! Quotas are stated here; holding changes to them comes with limits.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::domain::plans::PlanName;

/// What a workspace may have on a plan; `None`: as many as it likes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    pub members: Option<u64>,
    pub crews_per_environment: Option<u64>,
    pub api_keys: Option<u64>,
    pub requests_per_minute: Option<u64>,
}

/// The price of one unit of a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// ISO 4217.
    pub currency: String,
    /// In the currency's minor unit, for `per_quantity` of the meter.
    pub amount_minor: u64,
    pub per_quantity: u64,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub name: PlanName,
    pub title: String,
    pub quotas: Quotas,
    /// By meter.
    pub prices: BTreeMap<String, Price>,
}

/// Every plan that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub plans: Vec<Plan>,
}

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("the plans file {path} cannot be read: {source}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the plans file {path} is not a catalogue: {source}")]
    Malformed {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the plans file {path} has no plan `free`, which is the one that sign-up defaults to")]
    NoFreePlan { path: String },
    #[error("the plans file {path} has the plan `{name}` twice")]
    Twice { path: String, name: PlanName },
}

/// The plan that a workspace gets when none is named.
pub const DEFAULT_PLAN: &str = "free";

impl Catalogue {
    /// The one that is built in.
    pub fn built_in() -> Self {
        serde_json::from_str(include_str!("plans.json")).expect("the built-in catalogue is valid")
    }

    /// Reads the catalogue of an operator.
    ///
    /// # Errors
    /// When the file cannot be read, is malformed, or lacks the default plan.
    pub fn read(file: &Path) -> Result<Self, CatalogueError> {
        let path = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|source| CatalogueError::Read {
            path: path.clone(),
            source,
        })?;
        let catalogue: Self =
            serde_json::from_str(&text).map_err(|source| CatalogueError::Malformed {
                path: path.clone(),
                source,
            })?;
        let mut names: Vec<_> = catalogue.plans.iter().map(|plan| &plan.name).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let name = pair[0].clone();
            return Err(CatalogueError::Twice { path, name });
        }
        if !names.iter().any(|name| name.as_str() == DEFAULT_PLAN) {
            return Err(CatalogueError::NoFreePlan { path });
        }
        Ok(catalogue)
    }

    /// The plan of this name.
    pub fn plan(&self, name: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.name.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_has_the_three_plans() {
        let catalogue = Catalogue::built_in();
        for name in ["free", "team", "enterprise"] {
            assert!(catalogue.plan(name).is_some(), "{name}");
        }
    }
}
