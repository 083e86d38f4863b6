//! The installation: who operates it, by which keys.
//!
//! There is one, with one stream, which no organization is in. An operator's key is made and taken
//! back at the command line alone, where the store and its root key are at hand; it suspends
//! organizations, lets them go on, and gives a workspace that nobody owns any more to somebody. It
//! reads nothing of anybody's. What it does is an event of those that it is done to, who see it.
//!
//! To add something that an operator may: a command of what it is done to, which names the key, and
//! [`Installation::authorise`] in its unit.

mod events;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};

pub use events::InstallationEvent;

use super::{
    Moment, Name, Refusal, Stream, Timestamp, api_keys::NewSecret, authority::AuthorityLink,
    ids::KeyId, ids::OrganizationId,
};

/// The id of the only one, and its scope.
pub const INSTALLATION: &str = "installation";

/// The most operators' keys that count at once.
pub const OPERATOR_KEYS_MAX: usize = 100;

/// What an operator may do to those who are in the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperatorAct {
    /// Suspend an organization.
    SuspendOrganization,
    /// Let it go on.
    ResumeOrganization,
    /// Give a workspace to somebody whose owners are gone.
    RecoverWorkspace,
}

impl OperatorAct {
    /// What the audit log calls it.
    pub fn action(self) -> &'static str {
        match self {
            Self::SuspendOrganization => "organization.suspended",
            Self::ResumeOrganization => "organization.resumed",
            Self::RecoverWorkspace => "workspace.recovered",
        }
    }
}

/// Commands to the stream `installation`: those of the command line.
#[derive(Debug, Clone, PartialEq)]
pub enum InstallationCommand {
    /// Make an operator's key.
    CreateKey {
        key: KeyId,
        name: Name,
        secret: NewSecret,
        /// First moment at which it counts no more; none where it lasts.
        expires_at: Option<Timestamp>,
    },
    /// End it now.
    RevokeKey { key: KeyId },
}

/// The installation, folded from its events: the operators' keys that were not taken back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Installation {
    keys: BTreeMap<KeyId, OperatorKey>,
}

/// An operator's key that no event has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorKey {
    /// What it is called.
    pub name: String,
    /// First moment at which it counts no more; none where it lasts.
    pub expires_at: Option<Timestamp>,
    /// Position of the event that made it; 0 until the log has given it one.
    pub position: u64,
}

impl OperatorKey {
    /// Whether it counts at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

impl Installation {
    /// That `key` counts at `now`, and what gave it that.
    ///
    /// # Errors
    /// [`Refusal::ApiKeyEnded`] when it is unknown, revoked or expired.
    pub fn authorise(&self, key: KeyId, now: Timestamp) -> Result<AuthorityLink, Refusal> {
        let found = self.keys.get(&key).filter(|found| found.is_live(now));
        let found = found.ok_or(Refusal::ApiKeyEnded)?;
        Ok(AuthorityLink::OperatorKey {
            id: key,
            position: found.position,
        })
    }

    /// The events that `command` leads to at `now`; nothing has changed yet.
    fn decide(
        &self,
        command: InstallationCommand,
        now: Timestamp,
    ) -> Result<Vec<InstallationEvent>, Refusal> {
        match command {
            InstallationCommand::CreateKey {
                key,
                name,
                secret,
                expires_at,
            } => {
                if self.keys.contains_key(&key) {
                    return Err(Refusal::AlreadyExists { what: "api key" });
                }
                let live = self.keys.values().filter(|key| key.is_live(now));
                if live.count() >= OPERATOR_KEYS_MAX {
                    let limit = OPERATOR_KEYS_MAX;
                    return Err(Refusal::TooManyApiKeys { limit });
                }
                Ok(vec![InstallationEvent::OperatorKeyCreated {
                    key,
                    name: name.into(),
                    token_hash: secret.hash,
                    prefix: secret.prefix,
                    expires_at,
                }])
            }
            InstallationCommand::RevokeKey { key } => {
                let present = self.keys.get(&key).ok_or(Refusal::NotFound {
                    what: "operator's key",
                    hidden: false,
                })?;
                let name = present.name.clone();
                Ok(vec![InstallationEvent::OperatorKeyRevoked { key, name }])
            }
        }
    }
}

impl Aggregate for Installation {
    const TYPE: &'static str = "installation";
    type Command = InstallationCommand;
    type Event = InstallationEvent;
    type Error = Refusal;
    type Services = Moment;

    async fn handle(
        &mut self,
        command: InstallationCommand,
        moment: &Moment,
        sink: &EventSink<Self>,
    ) -> Result<(), Refusal> {
        // All is decided before the first write, and `write` applies: a refusal changes
        // nothing, and nothing is applied twice.
        for event in self.decide(command, moment.now)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: InstallationEvent) {
        match event {
            InstallationEvent::OperatorKeyCreated {
                key,
                name,
                token_hash: _,
                prefix: _,
                expires_at,
            } => {
                let position = 0;
                let made = OperatorKey {
                    name,
                    expires_at,
                    position,
                };
                self.keys.insert(key, made);
            }
            InstallationEvent::OperatorKeyRevoked { key, name: _ } => {
                self.keys.remove(&key);
            }
        }
    }
}

impl Stream for Installation {
    const STATE_VERSION: i64 = 1;

    fn positioned(&mut self, event: &InstallationEvent, position: u64) {
        match event {
            InstallationEvent::OperatorKeyCreated { key, .. } => {
                if let Some(key) = self.keys.get_mut(key) {
                    key.position = position;
                }
            }
            InstallationEvent::OperatorKeyRevoked { .. } => {}
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        None
    }

    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.keys.len() * 160
    }
}

impl DomainEvent for InstallationEvent {
    fn event_type(&self) -> String {
        match self {
            Self::OperatorKeyCreated { .. } => "operator_key_created",
            Self::OperatorKeyRevoked { .. } => "operator_key_revoked",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
