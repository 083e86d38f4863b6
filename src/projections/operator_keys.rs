//! Keys of the installation's operators, those that were taken back too.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp, event::Event, ids::KeyId, installation::INSTALLATION,
        installation::InstallationEvent,
    },
    journal::Recorded,
};

/// An operator's key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorKeyDocument {
    pub id: KeyId,
    pub name: String,
    pub created_at: Timestamp,
    /// Standard base64 of SHA-256(secret).
    pub token_hash: String,
    /// How its secret begins.
    pub prefix: String,
    /// First moment at which it counts no more; none where it lasts.
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

impl OperatorKeyDocument {
    /// Whether it counts at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    /// How it stands at `now`: `active`, `expired` or `revoked`.
    pub fn status_at(&self, now: Timestamp) -> &'static str {
        match (self.revoked_at, self.is_live(now)) {
            (Some(_), _) => "revoked",
            (None, true) => "active",
            (None, false) => "expired",
        }
    }
}

/// See the module.
pub struct OperatorKeys;

fn happened(event: &Recorded) -> Option<&InstallationEvent> {
    match &event.event {
        Event::Installation(happened) => Some(happened),
        Event::User(_)
        | Event::Organization(_)
        | Event::Workspace(_)
        | Event::Crew(_)
        | Event::Promotion(_)
        | Event::Review(_)
        | Event::Attempts(_) => None,
    }
}

impl Projection for OperatorKeys {
    type Document = OperatorKeyDocument;
    const NAME: &'static str = "operator_keys";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        let key = happened(event).map(|happened| match happened {
            InstallationEvent::OperatorKeyCreated { key, .. }
            | InstallationEvent::OperatorKeyRevoked { key, .. } => key.to_string(),
        });
        key.into_iter().collect()
    }

    fn fold(
        document: Option<OperatorKeyDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<OperatorKeyDocument>, CannotFold> {
        Ok(match happened(event) {
            None => document,
            Some(InstallationEvent::OperatorKeyCreated {
                key,
                name,
                token_hash,
                prefix,
                expires_at,
            }) => Some(OperatorKeyDocument {
                id: *key,
                name: name.clone(),
                created_at: event.recorded_at,
                token_hash: token_hash.clone(),
                prefix: prefix.clone(),
                expires_at: *expires_at,
                revoked_at: None,
            }),
            Some(InstallationEvent::OperatorKeyRevoked { .. }) => Some(OperatorKeyDocument {
                revoked_at: Some(event.recorded_at),
                ..present(document, key)?
            }),
        })
    }

    fn columns(document: &OperatorKeyDocument) -> Columns {
        Columns {
            parent: Some(INSTALLATION.to_owned()),
            lookup: Some(document.token_hash.clone()),
            ..Columns::default()
        }
    }
}
