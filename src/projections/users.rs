//! Accounts as they are now: live sessions, and whether a change of profile is still to be
//! shared. Never the name or the address, which are in [`super::People`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::{SessionId, UserId},
        user::UserEvent,
    },
    journal::Recorded,
};

/// An account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserDocument {
    pub id: UserId,
    /// Sequence of the last event that changed the profile: what `ETag` shows.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Sequence of the profile that every organization has been told of.
    pub profile_shared: u64,
    /// Sessions that were started and neither revoked nor, when the last one was started,
    /// expired.
    pub sessions: BTreeMap<SessionId, SessionDocument>,
}

/// A session of an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionDocument {
    pub started_at: Timestamp,
    /// First moment at which it no longer counts.
    pub expires_at: Timestamp,
    /// Sequence of the event that started it.
    pub version: u64,
}

/// See the module.
pub struct Users;

impl Projection for Users {
    type Document = UserDocument;
    const NAME: &'static str = "users";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::User(UserEvent::SignInFailed { .. } | UserEvent::PasswordChanged { .. }) => {
                vec![]
            }
            Event::User(_) => vec![event.aggregate_id.clone()],
            Event::Organization(_)
            | Event::Workspace(_)
            | Event::Crew(_)
            | Event::Promotion(_)
            | Event::Review(_)
            | Event::Attempts(_)
            | Event::Installation(_) => {
                vec![]
            }
        }
    }

    fn fold(
        document: Option<UserDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<UserDocument>, CannotFold> {
        let Event::User(happened) = &event.event else {
            return Ok(document);
        };
        if let UserEvent::UserSignedUp { user, .. } = happened {
            return Ok(Some(UserDocument {
                id: *user,
                version: event.sequence,
                created_at: event.recorded_at,
                updated_at: event.recorded_at,
                profile_shared: 0,
                sessions: BTreeMap::new(),
            }));
        }
        let mut document = present(document, key)?;
        match happened {
            UserEvent::UserSignedUp { .. }
            | UserEvent::SignInFailed { .. }
            | UserEvent::PasswordChanged { .. } => {}
            UserEvent::UserRenamed { .. } | UserEvent::UserEmailChanged { .. } => {
                document.version = event.sequence;
                document.updated_at = event.recorded_at;
            }
            UserEvent::UserProfileShared {
                profile_sequence, ..
            } => document.profile_shared = *profile_sequence,
            UserEvent::SessionStarted {
                session,
                started_at,
                expires_at,
            } => {
                document
                    .sessions
                    .retain(|_, known| known.expires_at > *started_at);
                let started = SessionDocument {
                    started_at: *started_at,
                    expires_at: *expires_at,
                    version: event.sequence,
                };
                document.sessions.insert(*session, started);
            }
            UserEvent::UserErased { .. } => {
                document.version = event.sequence;
                document.updated_at = event.recorded_at;
                document.profile_shared = event.sequence;
                document.sessions.clear();
            }
            UserEvent::SessionRevoked { session, .. } => {
                document.sessions.remove(session);
            }
        }
        Ok(Some(document))
    }

    fn columns(document: &UserDocument) -> Columns {
        // A profile that is still to be shared is due at once.
        let to_share = document.profile_shared < document.version;
        Columns {
            deadline: to_share.then_some(document.updated_at.0),
            ..Columns::default()
        }
    }
}
