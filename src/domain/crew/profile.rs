//! What a crew is called, for which client it is, and what it is for.

use serde::{Deserialize, Serialize};

use crate::domain::{Name, environment::Environment};

/// The longest description, in characters.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 500;

/// Words that say which environment a crew is of, or nothing at all: not whose it is.
const EMPTY_WORDS: [&str; 19] = [
    "dev",
    "development",
    "develop",
    "test",
    "testing",
    "qa",
    "stg",
    "stage",
    "staging",
    "uat",
    "prod",
    "prd",
    "production",
    "live",
    "env",
    "environment",
    "crew",
    "default",
    "main",
];

/// What people see of a crew before they look inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrewProfile {
    pub name: String,
    /// Whom it is run for, where crews are kept apart by client.
    pub client: Option<String>,
    pub description: Option<String>,
}

/// What of a profile is to be changed; what is none stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProfileChange {
    pub name: Option<Name>,
    pub client: Option<Option<Name>>,
    pub description: Option<Option<String>>,
}

impl ProfileChange {
    pub(super) fn applied_to(self, profile: CrewProfile) -> CrewProfile {
        CrewProfile {
            name: self.name.map_or(profile.name, Into::into),
            client: match self.client {
                Some(client) => client.map(Into::into),
                None => profile.client,
            },
            description: self.description.unwrap_or(profile.description),
        }
    }
}

impl CrewProfile {
    pub(super) fn weight_bytes(&self) -> usize {
        let texts = [self.client.as_ref(), self.description.as_ref()];
        let optional: usize = texts.into_iter().flatten().map(String::len).sum();
        self.name.len() + optional
    }
}

/// What to tell whoever calls a crew `prod`: that a name says whose it is, with an example.
/// None where the name says more than its environment.
pub fn naming_warning(profile: &CrewProfile, environment: Environment) -> Option<String> {
    let name = profile.name.to_lowercase();
    let words = name.split(|character: char| !character.is_alphabetic());
    let says_something = |word: &str| !word.is_empty() && !EMPTY_WORDS.contains(&word);
    if words.into_iter().any(says_something) {
        return None;
    }
    let whose = profile.client.as_deref().unwrap_or("Acme Corp");
    let environment = match environment {
        Environment::Development => "Development",
        Environment::Staging => "Staging",
        Environment::Production => "Production",
    };
    Some(format!(
        "the name does not say whose crew this is; a descriptive one looks like \
         `{whose} - {environment}`"
    ))
}
