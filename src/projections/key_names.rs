//! What API keys, and keys of operators, are called, as it was at every position: a row for each time that one was given
//! a name. Open, since names of keys are not personal.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, api_keys::of_key};
use crate::{
    domain::{api_keys::KeyEvent, event::Event, ids::KeyId, installation::InstallationEvent},
    journal::Recorded,
};

/// A key's name as it was from one position on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyNameDocument {
    pub key: KeyId,
    /// The first position at which it was so.
    pub since: u64,
    pub name: String,
}

/// See the module.
pub struct KeyNames;

/// The name that an event gives a key.
fn given(event: &Recorded) -> Option<(KeyId, String)> {
    if let Event::Installation(InstallationEvent::OperatorKeyCreated { key, name, .. }) =
        &event.event
    {
        return Some((*key, name.clone()));
    }
    match of_key(event)? {
        KeyEvent::Created(created) => Some((created.key, created.terms.name)),
        KeyEvent::Updated(updated) if updated.from.name != updated.to.name => {
            Some((updated.key, updated.to.name))
        }
        KeyEvent::Updated(_)
        | KeyEvent::Rotated(_)
        | KeyEvent::Revoked(_)
        | KeyEvent::Expired(_) => None,
    }
}

impl Projection for KeyNames {
    type Document = KeyNameDocument;
    const NAME: &'static str = "key_names";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        // Zeros before it, so that keys sort as positions do.
        let key = |(key, _)| format!("{key}/{:020}", event.position);
        given(event).map(key).into_iter().collect()
    }

    fn fold(
        _: Option<KeyNameDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<KeyNameDocument>, CannotFold> {
        let given = given(event);
        let (id, name) = given
            .ok_or_else(|| CannotFold(format!("{key} is not of an event that names a key")))?;
        Ok(Some(KeyNameDocument {
            key: id,
            since: event.position,
            name,
        }))
    }

    fn columns(document: &KeyNameDocument) -> Columns {
        Columns {
            parent: Some(document.key.to_string()),
            ..Columns::default()
        }
    }
}
