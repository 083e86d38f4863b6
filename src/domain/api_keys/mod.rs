//! API keys: what one may, for how long, and the rules that are the same for every holder.
//!
//! A workspace and an organization each have a [`KeyRing`]; it decides and remembers, and its
//! holder has put who may ask before it. A key outlives the membership of who made it. Only
//! the hash of a secret is ever here.
//!
//! To add something that can happen to a key: a command and an event here, their variants in
//! the events of both holders, and a rule in `tests.rs`.

mod commands;
mod events;
mod scope;
mod standing;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

pub use commands::{KeyChange, KeyCommand, NewSecret};
pub use events::{KeyCreated, KeyEvent, KeyExpired, KeyRevoked, KeyRotated, KeyUpdated};
pub use scope::{KeyRight, KeyScope};
pub use standing::{KeyHolder, KeyStanding, key_verdict};
pub use terms::{AddressRange, CrewMissed, InvalidAddressRange, KeyTerms};

use super::{
    Refusal, Timestamp,
    authority::AuthorityLink,
    crew::CrewPlace,
    environment::Environment,
    ids::{KeyId, UserId},
};

/// The most keys of one holder that live at once.
pub const LIVE_KEYS_MAX: usize = 2_500;
/// The longest that a key lives on after it was rotated.
pub const GRACE_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;
/// The most scopes' worth of address ranges, and of crews, that one key names.
pub const ADDRESS_RANGES_MAX: usize = 100;
/// See [`ADDRESS_RANGES_MAX`].
pub const CREWS_MAX: usize = 1_000;

/// How many keys that are over are remembered, to say how they ended.
const ENDED_KEYS_MAX: usize = 1_000;

/// The keys of one holder, folded from its events.
///
/// A key is in `live` until an event ends it, its deadline may have passed before that; then
/// it is, for a while, in `ended`. Never in both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyRing {
    live: BTreeMap<KeyId, ApiKey>,
    /// The last [`ENDED_KEYS_MAX`], oldest first.
    ended: VecDeque<(KeyId, KeyEnd)>,
}

/// A key that no event has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The only environment that it works in; none for a key of an organization.
    pub environment: Option<Environment>,
    pub terms: KeyTerms,
    /// Who made it, or the key in whose place it came: of all those before it, the first.
    pub creator: UserId,
    /// Who made it: by rotating, where it came in another's place.
    pub created_by: UserId,
    pub created_at: Timestamp,
    /// The key that takes its place; it then lives to the end of its grace.
    pub successor: Option<KeyId>,
    /// The first of those that it came in the place of, one after the other; itself where it
    /// came in nobody's.
    pub line: KeyId,
    /// Everybody who made, changed or rotated it, or a key before it in its line.
    pub responsible: BTreeSet<UserId>,
    /// Position of the event that made it, or last changed what it may; 0 until the log has
    /// given it one.
    pub position: u64,
}

impl ApiKey {
    /// Whether it counts at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.terms.expires_at.is_none_or(|end| now < end)
    }
}

/// How a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyEnd {
    /// Somebody took it back.
    Revoked,
    /// Its time, or its grace after it was rotated, ran out.
    Expired,
}

impl KeyEnd {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

impl KeyRing {
    /// The key, unless an event has ended it.
    pub fn get(&self, key: KeyId) -> Option<&ApiKey> {
        self.live.get(&key)
    }

    /// Every key that no event has ended, in the order of their ids.
    pub fn live(&self) -> impl Iterator<Item = (KeyId, &ApiKey)> {
        self.live.iter().map(|(id, key)| (*id, key))
    }

    /// The people that a key counts as wherever four eyes are asked for: who made it, and who
    /// last rotated it.
    pub fn stands_for(&self, key: KeyId) -> Vec<UserId> {
        let people = |key: &ApiKey| match key.creator == key.created_by {
            true => vec![key.creator],
            false => vec![key.creator, key.created_by],
        };
        self.live.get(&key).map(people).unwrap_or_default()
    }

    /// That `key` counts at `now` and has `right`, and what gave it that.
    ///
    /// # Errors
    /// [`Refusal::ApiKeyEnded`] when it is unknown, revoked or expired;
    /// [`Refusal::NotForApiKeys`] when no key may; [`Refusal::ScopeMissing`].
    pub fn authorise(
        &self,
        key: KeyId,
        right: KeyRight,
        now: Timestamp,
    ) -> Result<AuthorityLink, Refusal> {
        let found = self.live.get(&key).filter(|found| found.is_live(now));
        let found = found.ok_or(Refusal::ApiKeyEnded)?;
        right.allows(&found.terms.scopes)?;
        Ok(AuthorityLink::ApiKey {
            id: key,
            position: found.position,
        })
    }

    /// That `key` reaches a crew; whether it counts and has the right is asked with
    /// [`KeyRing::authorise`].
    ///
    /// # Errors
    /// [`Refusal::OutOfReach`].
    pub fn reach(&self, key: KeyId, crew: CrewPlace) -> Result<(), Refusal> {
        let found = self.live.get(&key).ok_or(Refusal::ApiKeyEnded)?;
        let reached = found.terms.reach(found.environment, crew);
        reached.map_err(|_| Refusal::OutOfReach)
    }

    /// The events that `command` leads to at `now`, for whoever may ask; nothing has changed.
    ///
    /// # Errors
    /// The rule that says no.
    pub fn decide(&self, command: KeyCommand, now: Timestamp) -> Result<Vec<KeyEvent>, Refusal> {
        match command {
            KeyCommand::Create {
                key,
                environment,
                terms,
                secret,
                by,
            } => {
                self.is_new(key)?;
                self.has_room(now)?;
                Ok(vec![KeyEvent::Created(KeyCreated {
                    key,
                    environment,
                    terms,
                    token_hash: secret.hash,
                    prefix: secret.prefix,
                    created_by: by,
                    created_at: now,
                    rotated_from: None,
                })])
            }
            KeyCommand::Update { key, change, by } => self.update(key, change, by, now),
            KeyCommand::Rotate {
                key,
                successor,
                secret,
                grace_seconds,
                by,
            } => self.rotate(key, successor, secret, grace_seconds, by, now),
            KeyCommand::Revoke { key, by } => {
                let present = self.active(key, now)?;
                Ok(vec![KeyEvent::Revoked(KeyRevoked {
                    key,
                    name: present.terms.name.clone(),
                    environment: present.environment,
                    revoked_by: by,
                })])
            }
            KeyCommand::Expire { key } => self.expire(key, now),
        }
    }

    fn update(
        &self,
        key: KeyId,
        change: KeyChange,
        updated_by: UserId,
        now: Timestamp,
    ) -> Result<Vec<KeyEvent>, Refusal> {
        let present = self.active(key, now)?;
        if change.expires_at.is_some() && present.successor.is_some() {
            // Its end is the end of its grace, which whoever rotated it has chosen.
            return Err(Refusal::ApiKeyNotActive { status: "rotating" });
        }
        let from = present.terms.clone();
        let to = change.applied_to(&from);
        if from == to {
            return Ok(vec![]);
        }
        Ok(vec![KeyEvent::Updated(KeyUpdated {
            key,
            environment: present.environment,
            from,
            to,
            updated_by,
        })])
    }

    fn rotate(
        &self,
        key: KeyId,
        successor: KeyId,
        secret: NewSecret,
        grace_seconds: u64,
        by: UserId,
        now: Timestamp,
    ) -> Result<Vec<KeyEvent>, Refusal> {
        let present = self.active(key, now)?;
        if present.successor.is_some() {
            return Err(Refusal::ApiKeyNotActive { status: "rotating" });
        }
        self.is_new(successor)?;
        self.has_room(now)?;
        let grace = i64::try_from(grace_seconds.min(GRACE_SECONDS_MAX)).unwrap_or(0);
        let end_of_grace = now.plus(TimeDelta::seconds(grace));
        let end = present.terms.expires_at;
        let expires_at = end.map_or(end_of_grace, |end| end.min(end_of_grace));
        let created = KeyCreated {
            key: successor,
            environment: present.environment,
            terms: KeyTerms {
                expires_at: lives_as_long(present, now),
                ..present.terms.clone()
            },
            token_hash: secret.hash,
            prefix: secret.prefix,
            created_by: by,
            created_at: now,
            rotated_from: Some(key),
        };
        let rotated = KeyRotated {
            key,
            name: present.terms.name.clone(),
            environment: present.environment,
            successor,
            expires_at,
            rotated_by: by,
        };
        Ok(vec![KeyEvent::Rotated(rotated), KeyEvent::Created(created)])
    }

    fn expire(&self, key: KeyId, now: Timestamp) -> Result<Vec<KeyEvent>, Refusal> {
        let present = self.known(key)?;
        match present.terms.expires_at {
            Some(expires_at) if expires_at <= now => Ok(vec![KeyEvent::Expired(KeyExpired {
                key,
                name: present.terms.name.clone(),
                environment: present.environment,
                expires_at,
            })]),
            // It was given more time since somebody looked.
            Some(_) | None => Ok(vec![]),
        }
    }

    fn is_new(&self, key: KeyId) -> Result<(), Refusal> {
        if self.live.contains_key(&key) || self.ended_as(key).is_some() {
            return Err(Refusal::AlreadyExists { what: "api key" });
        }
        Ok(())
    }

    fn has_room(&self, now: Timestamp) -> Result<(), Refusal> {
        let live = self.live.values().filter(|key| key.is_live(now));
        if live.count() >= LIVE_KEYS_MAX {
            let limit = LIVE_KEYS_MAX;
            return Err(Refusal::TooManyApiKeys { limit });
        }
        Ok(())
    }

    fn known(&self, key: KeyId) -> Result<&ApiKey, Refusal> {
        self.live.get(&key).ok_or_else(|| match self.ended_as(key) {
            Some(end) => Refusal::ApiKeyNotActive { status: end.name() },
            None => Refusal::NotFound {
                what: "api key",
                hidden: false,
            },
        })
    }

    /// The key, if it counts at `now`.
    fn active(&self, key: KeyId, now: Timestamp) -> Result<&ApiKey, Refusal> {
        let known = self.known(key)?;
        if !known.is_live(now) {
            let status = KeyEnd::Expired.name();
            return Err(Refusal::ApiKeyNotActive { status });
        }
        Ok(known)
    }

    fn ended_as(&self, key: KeyId) -> Option<KeyEnd> {
        let found = self.ended.iter().find(|(id, _)| *id == key);
        found.map(|(_, end)| *end)
    }

    /// Takes an event of the holder in.
    pub fn apply(&mut self, event: KeyEvent) {
        match event {
            KeyEvent::Created(created) => {
                let predecessor = created.rotated_from.and_then(|key| self.live.get(&key));
                let creator = predecessor.map_or(created.created_by, |key| key.creator);
                let line = predecessor.map_or(created.key, |key| key.line);
                let before = predecessor.map(|key| key.responsible.clone());
                let mut responsible = before.unwrap_or_default();
                responsible.insert(created.created_by);
                let key = ApiKey {
                    environment: created.environment,
                    terms: created.terms,
                    creator,
                    created_by: created.created_by,
                    created_at: created.created_at,
                    successor: None,
                    line,
                    responsible,
                    position: 0,
                };
                self.live.insert(created.key, key);
            }
            KeyEvent::Updated(updated) => {
                if let Some(key) = self.live.get_mut(&updated.key) {
                    key.terms = updated.to;
                    key.responsible.insert(updated.updated_by);
                }
            }
            KeyEvent::Rotated(rotated) => {
                if let Some(key) = self.live.get_mut(&rotated.key) {
                    key.successor = Some(rotated.successor);
                    key.terms.expires_at = Some(rotated.expires_at);
                    key.responsible.insert(rotated.rotated_by);
                }
            }
            KeyEvent::Revoked(revoked) => self.end(revoked.key, KeyEnd::Revoked),
            KeyEvent::Expired(expired) => self.end(expired.key, KeyEnd::Expired),
        }
    }

    fn end(&mut self, key: KeyId, end: KeyEnd) {
        self.live.remove(&key);
        self.ended.push_back((key, end));
        while self.ended.len() > ENDED_KEYS_MAX {
            self.ended.pop_front();
        }
    }

    /// The event that made a key, or last changed what it may, has this position.
    pub fn positioned(&mut self, key: KeyId, position: u64) {
        if let Some(key) = self.live.get_mut(&key) {
            key.position = position;
        }
    }

    /// Roughly what it takes in memory.
    pub fn weight_bytes(&self) -> usize {
        self.live.len() * 576 + self.ended.len() * 24
    }
}

/// When a successor ends: after as long as its predecessor was meant to live.
fn lives_as_long(predecessor: &ApiKey, now: Timestamp) -> Option<Timestamp> {
    let end = predecessor.terms.expires_at?;
    let lifetime = end.0 - predecessor.created_at.0;
    Some(now.plus(TimeDelta::microseconds(lifetime)))
}
