//! What people are called, as it was at every position: a row for each time that a name or
//! an address was recorded, sealed, in each realm that keeps a copy.
//!
//! A realm is an organization, or [`ACCOUNT`]: the person's own.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, SealedAt};
use crate::{
    domain::{
        event::Event, ids::UserId, organization::OrganizationEvent, sealed::Sealed, user::UserEvent,
    },
    journal::Recorded,
};

/// The realm of a person's own account.
pub const ACCOUNT: &str = "account";

/// Which of a person's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonField {
    Name,
    Email,
}

impl PersonField {
    /// The name of the field in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Email => "email",
        }
    }
}

/// A person's field as it was from one position on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PersonFieldDocument {
    pub realm: String,
    pub user: UserId,
    pub field: PersonField,
    /// The first position at which it was so.
    pub since: u64,
    pub value: SealedAt,
}

/// What lists are of: all values that a field of a person has had in a realm.
pub fn person_key(realm: &str, user: &UserId, field: PersonField) -> String {
    format!("{realm}/{user}/{}", field.name())
}

/// See the module.
pub struct People;

/// A realm, a person, and which of their fields became what.
type RecordedFields<'a> = (String, UserId, Vec<(PersonField, &'a Sealed)>);

/// What an event records of a person.
fn recorded(event: &Recorded) -> Option<RecordedFields<'_>> {
    use PersonField::{Email, Name};
    match &event.event {
        Event::User(happened) => {
            let fields = match happened {
                UserEvent::UserSignedUp { email, name, .. } => vec![(Name, name), (Email, email)],
                UserEvent::UserRenamed { name, .. } => vec![(Name, name)],
                UserEvent::UserEmailChanged { email, .. } => vec![(Email, email)],
                UserEvent::UserProfileShared { .. }
                | UserEvent::SessionStarted { .. }
                | UserEvent::SessionRevoked { .. }
                | UserEvent::SignInFailed { .. }
                | UserEvent::UserErased { .. }
                | UserEvent::PasswordChanged { .. } => return None,
            };
            Some((ACCOUNT.to_owned(), event.aggregate_id.parse().ok()?, fields))
        }
        Event::Organization(OrganizationEvent::PersonRecorded {
            user, email, name, ..
        }) => {
            let realm = event.aggregate_id.clone();
            Some((realm, *user, vec![(Name, name), (Email, email)]))
        }
        Event::Organization(
            OrganizationEvent::OrganizationCreated { .. }
            | OrganizationEvent::OrganizationRenamed { .. }
            | OrganizationEvent::OrganizationMemberAdded { .. }
            | OrganizationEvent::OrganizationKeyCreated(_)
            | OrganizationEvent::OrganizationKeyUpdated(_)
            | OrganizationEvent::OrganizationKeyRotated(_)
            | OrganizationEvent::OrganizationKeyRevoked(_)
            | OrganizationEvent::OrganizationKeyExpired(_)
            | OrganizationEvent::WorkspaceHoldBegan { .. }
            | OrganizationEvent::WorkspaceHoldEnded { .. }
            | OrganizationEvent::PersonErasureScheduled { .. }
            | OrganizationEvent::PersonErased { .. }
            | OrganizationEvent::OrganizationMemberRoleChanged { .. }
            | OrganizationEvent::OrganizationSuspended { .. }
            | OrganizationEvent::OrganizationResumed { .. }
            | OrganizationEvent::OrganizationMemberRemoved { .. },
        )
        | Event::Workspace(_)
        | Event::Crew(_)
        | Event::Promotion(_)
        | Event::Review(_)
        | Event::Attempts(_)
        | Event::Installation(_) => None,
    }
}

impl Projection for People {
    type Document = PersonFieldDocument;
    const NAME: &'static str = "people";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        let Some((realm, user, fields)) = recorded(event) else {
            return vec![];
        };
        // Zeros before it, so that keys sort as positions do.
        let key = |field| {
            format!(
                "{}/{:020}",
                person_key(&realm, &user, field),
                event.position
            )
        };
        fields.iter().map(|(field, _)| key(*field)).collect()
    }

    fn fold(
        _: Option<PersonFieldDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<PersonFieldDocument>, CannotFold> {
        let (realm, user, fields) = recorded(event)
            .ok_or_else(|| CannotFold(format!("{key} is not of an event about a person")))?;
        let of_key = |field: PersonField| key.contains(&person_key(&realm, &user, field));
        let field = fields.iter().find(|(field, _)| of_key(*field));
        Ok(field.map(|(field, sealed)| PersonFieldDocument {
            realm: realm.clone(),
            user,
            field: *field,
            since: event.position,
            value: SealedAt::of(event, field.name(), sealed),
        }))
    }

    fn columns(document: &PersonFieldDocument) -> Columns {
        Columns {
            parent: Some(person_key(&document.realm, &document.user, document.field)),
            lookup: Some(document.user.to_string()),
            ..Columns::default()
        }
    }
}
