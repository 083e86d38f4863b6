//! API keys of workspaces and organizations, those that are over included: found by the hash
//! of their secret. A live one keeps its deadline, never a status that time alone would
//! change.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        api_keys::{KeyCreated, KeyEnd, KeyEvent, KeyScope, KeyTerms},
        environment::Environment,
        event::Event,
        ids::{KeyId, OrganizationId, UserId, WorkspaceId},
        workspace::{Policy, WorkspaceEvent},
    },
    journal::Recorded,
};

/// A key; never its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKeyDocument {
    pub id: KeyId,
    /// Sequence of the last event that changed it.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub organization: OrganizationId,
    /// None for a key of the organization itself.
    pub workspace: Option<WorkspaceId>,
    pub environment: Option<Environment>,
    pub terms: KeyTerms,
    /// Standard base64 of SHA-256(secret).
    pub token_hash: String,
    /// How the secret begins.
    pub prefix: String,
    pub created_by: UserId,
    pub rotated_from: Option<KeyId>,
    /// The key that takes its place.
    pub successor: Option<KeyId>,
    /// How an event ended it; none while none has.
    pub ended: Option<KeyEnd>,
    /// Position of the event that made it, or last changed what it may.
    pub granted_at: u64,
}

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStatus {
    Active,
    /// Another took its place, and its grace runs.
    Rotating,
    Expired,
    Revoked,
}

impl KeyStatus {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rotating => "rotating",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl ApiKeyDocument {
    /// How it stands at `now`: past its deadline it is expired, whether or not the event that
    /// says so has been written.
    pub fn status_at(&self, now: Timestamp) -> KeyStatus {
        match self.ended {
            Some(KeyEnd::Revoked) => KeyStatus::Revoked,
            Some(KeyEnd::Expired) => KeyStatus::Expired,
            None if self.terms.expires_at.is_some_and(|end| end <= now) => KeyStatus::Expired,
            None if self.successor.is_some() => KeyStatus::Rotating,
            None => KeyStatus::Active,
        }
    }

    /// Whether it counts at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        matches!(self.status_at(now), KeyStatus::Active | KeyStatus::Rotating)
    }

    /// When it is due to be rotated: never where no policy says so, where another has taken its
    /// place, or where it is over.
    pub fn rotation_due_at(&self, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
        match self.status_at(now) {
            KeyStatus::Active => policy.rotation_due_at(self.created_at),
            KeyStatus::Rotating | KeyStatus::Expired | KeyStatus::Revoked => None,
        }
    }

    /// What it may.
    pub fn scopes(&self) -> &BTreeSet<KeyScope> {
        &self.terms.scopes
    }
}

/// See the module.
pub struct ApiKeys;

/// What an event says of a key, where it is about one.
pub(super) fn of_key(event: &Recorded) -> Option<KeyEvent> {
    match &event.event {
        Event::Workspace(happened) => happened.of_key(),
        Event::Organization(happened) => happened.of_key(),
        Event::User(_)
        | Event::Crew(_)
        | Event::Promotion(_)
        | Event::Review(_)
        | Event::Attempts(_)
        | Event::Installation(_) => None,
    }
}

/// The keys that ended with their workspace.
fn ended_with_workspace(event: &Recorded) -> Option<&[KeyId]> {
    match &event.event {
        Event::Workspace(WorkspaceEvent::WorkspaceDeleted { api_keys, .. }) => Some(api_keys),
        Event::Workspace(_)
        | Event::Organization(_)
        | Event::User(_)
        | Event::Crew(_)
        | Event::Promotion(_)
        | Event::Review(_)
        | Event::Attempts(_)
        | Event::Installation(_) => None,
    }
}

impl Projection for ApiKeys {
    type Document = ApiKeyDocument;
    const NAME: &'static str = "api_keys";
    const VERSION: i64 = 2;

    fn keys(event: &Recorded) -> Vec<String> {
        if let Some(ended) = ended_with_workspace(event) {
            return ended.iter().map(ToString::to_string).collect();
        }
        let happened = of_key(event).into_iter();
        happened
            .map(|happened| happened.key().to_string())
            .collect()
    }

    fn fold(
        document: Option<ApiKeyDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<ApiKeyDocument>, CannotFold> {
        if ended_with_workspace(event).is_some() {
            return Ok(Some(ApiKeyDocument {
                ended: Some(KeyEnd::Revoked),
                version: event.sequence,
                updated_at: event.recorded_at,
                ..present(document, key)?
            }));
        }
        let Some(happened) = of_key(event) else {
            return Ok(document);
        };
        let mut document = match happened {
            KeyEvent::Created(created) => return begun(key, event, created).map(Some),
            KeyEvent::Updated(updated) => ApiKeyDocument {
                terms: updated.to,
                granted_at: event.position,
                ..present(document, key)?
            },
            KeyEvent::Rotated(rotated) => {
                let mut document = present(document, key)?;
                document.successor = Some(rotated.successor);
                document.terms.expires_at = Some(rotated.expires_at);
                document
            }
            KeyEvent::Revoked(_) => ApiKeyDocument {
                ended: Some(KeyEnd::Revoked),
                ..present(document, key)?
            },
            KeyEvent::Expired(_) => ApiKeyDocument {
                ended: Some(KeyEnd::Expired),
                ..present(document, key)?
            },
        };
        document.version = event.sequence;
        document.updated_at = event.recorded_at;
        Ok(Some(document))
    }

    fn columns(document: &ApiKeyDocument) -> Columns {
        let workspace = document.workspace.map(|id| id.to_string());
        let deadline = document
            .terms
            .expires_at
            .filter(|_| document.ended.is_none());
        let parent = workspace.clone();
        Columns {
            parent: parent.or_else(|| Some(document.organization.to_string())),
            workspace,
            lookup: Some(document.token_hash.clone()),
            deadline: deadline.map(|deadline| deadline.0),
        }
    }
}

fn begun(key: &str, event: &Recorded, created: KeyCreated) -> Result<ApiKeyDocument, CannotFold> {
    let organization = event.metadata.organization;
    Ok(ApiKeyDocument {
        id: created.key,
        version: event.sequence,
        created_at: event.recorded_at,
        updated_at: event.recorded_at,
        organization: organization
            .ok_or_else(|| CannotFold(format!("{key} has no organization")))?,
        workspace: event.aggregate_id.parse().ok(),
        environment: created.environment,
        terms: created.terms,
        token_hash: created.token_hash,
        prefix: created.prefix,
        created_by: created.created_by,
        rotated_from: created.rotated_from,
        successor: None,
        ended: None,
        granted_at: event.position,
    })
}
