//! Organizations as they are now, and who has a role in them.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        authority::OrganizationRole,
        event::Event,
        ids::{OrganizationId, UserId},
        organization::OrganizationEvent,
    },
    journal::Recorded,
};

/// An organization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrganizationDocument {
    pub id: OrganizationId,
    /// Sequence of the last event that changed the organization itself.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub name: String,
    /// Since when an operator of the installation has it suspended; none where it is not.
    pub suspended_at: Option<Timestamp>,
}

/// See the module.
pub struct Organizations;

impl Projection for Organizations {
    type Document = OrganizationDocument;
    const NAME: &'static str = "organizations";
    const VERSION: i64 = 2;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::Organization(
                OrganizationEvent::OrganizationCreated { .. }
                | OrganizationEvent::OrganizationRenamed { .. }
                | OrganizationEvent::OrganizationSuspended { .. }
                | OrganizationEvent::OrganizationResumed { .. },
            ) => vec![event.aggregate_id.clone()],
            Event::Organization(
                OrganizationEvent::OrganizationMemberAdded { .. }
                | OrganizationEvent::WorkspaceHoldBegan { .. }
                | OrganizationEvent::WorkspaceHoldEnded { .. }
                | OrganizationEvent::PersonErasureScheduled { .. }
                | OrganizationEvent::PersonErased { .. }
                | OrganizationEvent::PersonRecorded { .. }
                | OrganizationEvent::OrganizationKeyCreated(_)
                | OrganizationEvent::OrganizationKeyUpdated(_)
                | OrganizationEvent::OrganizationKeyRotated(_)
                | OrganizationEvent::OrganizationKeyRevoked(_)
                | OrganizationEvent::OrganizationKeyExpired(_)
                | OrganizationEvent::OrganizationMemberRoleChanged { .. }
                | OrganizationEvent::OrganizationMemberRemoved { .. },
            )
            | Event::User(_)
            | Event::Workspace(_)
            | Event::Crew(_)
            | Event::Promotion(_)
            | Event::Review(_)
            | Event::Attempts(_)
            | Event::Installation(_) => vec![],
        }
    }

    fn fold(
        document: Option<OrganizationDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<OrganizationDocument>, CannotFold> {
        let Event::Organization(happened) = &event.event else {
            return Ok(document);
        };
        match happened {
            OrganizationEvent::OrganizationCreated {
                organization, name, ..
            } => Ok(Some(OrganizationDocument {
                id: *organization,
                version: event.sequence,
                created_at: event.recorded_at,
                updated_at: event.recorded_at,
                name: name.clone(),
                suspended_at: None,
            })),
            OrganizationEvent::OrganizationRenamed { to, .. } => {
                let mut document = present(document, key)?;
                document.name.clone_from(to);
                document.version = event.sequence;
                document.updated_at = event.recorded_at;
                Ok(Some(document))
            }
            OrganizationEvent::OrganizationSuspended { suspended_at, .. } => {
                standing(document, key, event, Some(*suspended_at)).map(Some)
            }
            OrganizationEvent::OrganizationResumed { .. } => {
                standing(document, key, event, None).map(Some)
            }
            OrganizationEvent::OrganizationMemberAdded { .. }
            | OrganizationEvent::WorkspaceHoldBegan { .. }
            | OrganizationEvent::WorkspaceHoldEnded { .. }
            | OrganizationEvent::PersonErasureScheduled { .. }
            | OrganizationEvent::PersonErased { .. }
            | OrganizationEvent::PersonRecorded { .. }
            | OrganizationEvent::OrganizationKeyCreated(_)
            | OrganizationEvent::OrganizationKeyUpdated(_)
            | OrganizationEvent::OrganizationKeyRotated(_)
            | OrganizationEvent::OrganizationKeyRevoked(_)
            | OrganizationEvent::OrganizationKeyExpired(_)
            | OrganizationEvent::OrganizationMemberRoleChanged { .. }
            | OrganizationEvent::OrganizationMemberRemoved { .. } => Ok(document),
        }
    }

    fn columns(_: &OrganizationDocument) -> Columns {
        Columns::default()
    }
}

fn standing(
    document: Option<OrganizationDocument>,
    key: &str,
    event: &Recorded,
    suspended_at: Option<Timestamp>,
) -> Result<OrganizationDocument, CannotFold> {
    Ok(OrganizationDocument {
        suspended_at,
        version: event.sequence,
        updated_at: event.recorded_at,
        ..present(document, key)?
    })
}

/// Somebody's role in an organization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrganizationMemberDocument {
    pub organization: OrganizationId,
    pub user: UserId,
    pub role: OrganizationRole,
    /// When they first had one.
    pub since: Timestamp,
    pub updated_at: Timestamp,
    /// Sequence of the event that gave the role.
    pub version: u64,
    /// Position of the event that gave the role.
    pub granted_at: u64,
}

/// See the module.
pub struct OrganizationMembers;

impl OrganizationMembers {
    /// The key of a person's role in an organization.
    pub fn key(organization: &OrganizationId, user: &UserId) -> String {
        format!("{organization}/{user}")
    }
}

impl Projection for OrganizationMembers {
    type Document = OrganizationMemberDocument;
    const NAME: &'static str = "organization_members";
    const VERSION: i64 = 2;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::Organization(
                OrganizationEvent::OrganizationMemberAdded { user, .. }
                | OrganizationEvent::OrganizationMemberRoleChanged { user, .. }
                | OrganizationEvent::OrganizationMemberRemoved { user, .. },
            ) => vec![format!("{}/{user}", event.aggregate_id)],
            Event::Organization(
                OrganizationEvent::OrganizationCreated { .. }
                | OrganizationEvent::OrganizationRenamed { .. }
                | OrganizationEvent::WorkspaceHoldBegan { .. }
                | OrganizationEvent::WorkspaceHoldEnded { .. }
                | OrganizationEvent::PersonErasureScheduled { .. }
                | OrganizationEvent::PersonErased { .. }
                | OrganizationEvent::OrganizationSuspended { .. }
                | OrganizationEvent::OrganizationResumed { .. }
                | OrganizationEvent::PersonRecorded { .. }
                | OrganizationEvent::OrganizationKeyCreated(_)
                | OrganizationEvent::OrganizationKeyUpdated(_)
                | OrganizationEvent::OrganizationKeyRotated(_)
                | OrganizationEvent::OrganizationKeyRevoked(_)
                | OrganizationEvent::OrganizationKeyExpired(_),
            )
            | Event::User(_)
            | Event::Workspace(_)
            | Event::Crew(_)
            | Event::Promotion(_)
            | Event::Review(_)
            | Event::Attempts(_)
            | Event::Installation(_) => vec![],
        }
    }

    fn fold(
        document: Option<OrganizationMemberDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<OrganizationMemberDocument>, CannotFold> {
        let Event::Organization(happened) = &event.event else {
            return Ok(document);
        };
        match happened {
            OrganizationEvent::OrganizationMemberAdded { user, role } => {
                given(document, key, event, *user, *role).map(Some)
            }
            OrganizationEvent::OrganizationMemberRoleChanged { user, to, .. } => {
                given(document, key, event, *user, *to).map(Some)
            }
            OrganizationEvent::OrganizationMemberRemoved { .. } => {
                present(document, key).map(|_| None)
            }
            OrganizationEvent::OrganizationCreated { .. }
            | OrganizationEvent::OrganizationRenamed { .. }
            | OrganizationEvent::WorkspaceHoldBegan { .. }
            | OrganizationEvent::WorkspaceHoldEnded { .. }
            | OrganizationEvent::PersonErasureScheduled { .. }
            | OrganizationEvent::PersonErased { .. }
            | OrganizationEvent::OrganizationSuspended { .. }
            | OrganizationEvent::OrganizationResumed { .. }
            | OrganizationEvent::PersonRecorded { .. }
            | OrganizationEvent::OrganizationKeyCreated(_)
            | OrganizationEvent::OrganizationKeyUpdated(_)
            | OrganizationEvent::OrganizationKeyRotated(_)
            | OrganizationEvent::OrganizationKeyRevoked(_)
            | OrganizationEvent::OrganizationKeyExpired(_) => Ok(document),
        }
    }

    fn columns(document: &OrganizationMemberDocument) -> Columns {
        Columns {
            parent: Some(document.organization.to_string()),
            lookup: Some(document.user.to_string()),
            ..Columns::default()
        }
    }
}

fn given(
    document: Option<OrganizationMemberDocument>,
    key: &str,
    event: &Recorded,
    user: UserId,
    role: OrganizationRole,
) -> Result<OrganizationMemberDocument, CannotFold> {
    let organization = event.aggregate_id.parse();
    Ok(OrganizationMemberDocument {
        organization: organization.map_err(|_| CannotFold(format!("{key} has no organization")))?,
        user,
        role,
        since: document.map_or(event.recorded_at, |known| known.since),
        updated_at: event.recorded_at,
        version: event.sequence,
        granted_at: event.position,
    })
}
