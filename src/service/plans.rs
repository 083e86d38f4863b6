//! The catalogue of plans: what each holds, and what it costs.
//!
//! A sensible one is built in; an operator may replace it with a file of the same form.
//! Its quotas go to every decision ([`Plans`]), its prices into statements.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::domain::{
    plans::{PlanName, Plans, Quotas},
    usage::{METER, Price, is_meter},
};

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

impl Plan {
    /// What cannot be of it, in words.
    fn wrong(&self) -> Option<String> {
        if self.quotas.members == Some(0) || self.quotas.requests_per_minute == Some(0) {
            return Some("`members` and `requests_per_minute` are at least 1, or null".to_owned());
        }
        self.prices.iter().find_map(|(meter, price)| {
            if !is_meter(meter) {
                return Some(format!("`{meter}` is no name of a meter: {METER}"));
            }
            price
                .wrong()
                .map(|detail| format!("the price of `{meter}`: {detail}"))
        })
    }
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
    #[error("the plans file {path}: in the plan `{name}`, {detail}")]
    Invalid {
        path: String,
        name: PlanName,
        detail: String,
    },
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
        for plan in &catalogue.plans {
            if let Some(detail) = plan.wrong() {
                let name = plan.name.clone();
                return Err(CatalogueError::Invalid { path, name, detail });
            }
        }
        Ok(catalogue)
    }

    /// The quotas of each plan, as decisions take them. A plan that a workspace is on and that
    /// was taken out of the catalogue counts as the default one.
    pub fn quotas(&self) -> Plans {
        let of = |plan: &Plan| (plan.name.clone(), plan.quotas);
        let otherwise = self.plan(DEFAULT_PLAN).map(|plan| plan.quotas);
        let plans = self.plans.iter().map(of).collect();
        Plans::new(plans, otherwise.unwrap_or(Quotas::UNLIMITED))
    }

    /// The plan that a workspace is on, or the default one where the catalogue has it no more.
    pub fn plan_of(&self, name: Option<&PlanName>) -> Option<&Plan> {
        let known = name.and_then(|name| self.plan(name.as_str()));
        known.or_else(|| self.plan(DEFAULT_PLAN))
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
        assert!(catalogue.plans.iter().all(|plan| plan.wrong().is_none()));
    }

    fn read(text: &str) -> Result<Catalogue, CatalogueError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("it to be written");
        Catalogue::read(file.path())
    }

    #[test]
    fn a_catalogue_says_what_is_wrong_with_it() {
        let quotas =
            r#"{"members":1,"crews_per_environment":0,"api_keys":null,"requests_per_minute":60}"#;
        let plan = |name: &str, quotas: &str, prices: &str| {
            format!(r#"{{"name":"{name}","title":"A","quotas":{quotas},"prices":{prices}}}"#)
        };
        let all = |plans: &[String]| format!(r#"{{"plans":[{}]}}"#, plans.join(","));
        let free = plan("free", quotas, "{}");
        assert!(read(&all(std::slice::from_ref(&free))).is_ok());
        let price = |amount: u64, per: u64| {
            format!(r#"{{"m":{{"currency":"EUR","amount_minor":{amount},"per_quantity":{per}}}}}"#)
        };
        let none = quotas.replace("\"members\":1", "\"members\":0");
        for (plans, said) in [
            (vec![plan("team", quotas, "{}")], "no plan `free`"),
            (vec![free.clone(), free.clone()], "twice"),
            (vec![plan("free", &none, "{}")], "at least 1"),
            (vec![plan("free", quotas, &price(1, 0))], "per_quantity"),
            (vec![plan("free", quotas, &price(9_001, 1))], "amount_minor"),
            (
                vec![plan("free", quotas, &price(1, 1).replace("EUR", "eur"))],
                "ISO 4217",
            ),
            (
                vec![plan(
                    "free",
                    quotas,
                    &price(1, 1).replace("\"m\"", "\"M m\""),
                )],
                "no name of a meter",
            ),
            (vec![plan("free", r#"{"seats":1}"#, "{}")], "unknown field"),
        ] {
            let refused = read(&all(&plans)).expect_err(said).to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn a_plan_that_is_gone_counts_as_the_default_one() {
        let catalogue = Catalogue::built_in();
        let gone: PlanName = "gone".parse().expect("a name");
        let free = catalogue.plan(DEFAULT_PLAN).map(|plan| plan.quotas);
        assert_eq!(Some(catalogue.quotas().quotas(Some(&gone))), free);
        assert_eq!(catalogue.plan_of(Some(&gone)), catalogue.plan(DEFAULT_PLAN));
    }
}
