//! What a crew is called, for which client it is, and what it is for.
//!
//! Names stay open; the description is free text, which events carry sealed and nobody opens here.

use serde::{Deserialize, Serialize};

use crate::domain::{Name, environment::Environment, sealed::Sealed};

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
}

/// What of a profile is to be changed; what is none stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProfileChange {
    pub name: Option<Name>,
    pub client: Option<Option<Name>>,
    pub description: Option<DescriptionChange>,
}

/// Another description, or none any more, sealed for the event that it leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct DescriptionChange {
    /// What it was, where there was one.
    pub previous: Option<Sealed>,
    /// What it becomes.
    pub description: Option<Sealed>,
    /// The sequence of the profile that `previous` was read from.
    pub profile_sequence: u64,
}

impl ProfileChange {
    pub(super) fn applied_to(self, profile: CrewProfile) -> CrewProfile {
        CrewProfile {
            name: self.name.map_or(profile.name, Into::into),
            client: match self.client {
                Some(client) => client.map(Into::into),
                None => profile.client,
            },
        }
    }
}

impl CrewProfile {
    pub(super) fn weight_bytes(&self) -> usize {
        self.name.len() + self.client.as_ref().map_or(0, String::len)
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
