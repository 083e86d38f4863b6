//! Every event of every aggregate, for folds over more than one kind of stream.
//!
//! To add an aggregate: a variant here, its arm in [`Event::decode`]; the compiler then
//! names every fold that must think of it.

use cqrs_es::{Aggregate, DomainEvent};

use super::{
    attempts::{Attempts, AttemptsEvent},
    crew::{Crew, CrewEvent},
    installation::{Installation, InstallationEvent},
    organization::{Organization, OrganizationEvent},
    promotion::{Promotion, PromotionEvent},
    review::{Review, ReviewEvent},
    user::{User, UserEvent},
    workspace::{Workspace, WorkspaceEvent},
};

/// The type of every aggregate there is.
pub const AGGREGATE_TYPES: [&str; 8] = [
    User::TYPE,
    Organization::TYPE,
    Workspace::TYPE,
    Crew::TYPE,
    Promotion::TYPE,
    Review::TYPE,
    Attempts::TYPE,
    Installation::TYPE,
];

/// An event of any stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Of a person's account.
    User(UserEvent),
    /// Of an organization.
    Organization(OrganizationEvent),
    /// Of a workspace.
    Workspace(WorkspaceEvent),
    /// Of a crew.
    Crew(CrewEvent),
    /// Of a promotion.
    Promotion(PromotionEvent),
    /// Of an access review.
    Review(ReviewEvent),
    /// Refused attempts in a workspace or an organization.
    Attempts(AttemptsEvent),
    /// Of the installation.
    Installation(InstallationEvent),
}

macro_rules! from_events {
    ($($variant:ident($event:ty);)+) => {$(
        impl From<$event> for Event {
            fn from(event: $event) -> Self {
                Self::$variant(event)
            }
        }
    )+};
}

from_events! {
    User(UserEvent);
    Organization(OrganizationEvent);
    Workspace(WorkspaceEvent);
    Crew(CrewEvent);
    Promotion(PromotionEvent);
    Review(ReviewEvent);
    Attempts(AttemptsEvent);
    Installation(InstallationEvent);
}

/// An event that this program cannot read.
#[derive(Debug, thiserror::Error)]
pub enum UnknownEvent {
    /// Written by a newer program, most likely.
    #[error("there is no aggregate type `{0}` in this version of Crewlog")]
    AggregateType(String),
    /// The payload is not what its type promises.
    #[error("the payload is not an event of `{aggregate_type}`: {source}")]
    Payload {
        aggregate_type: String,
        #[source]
        source: serde_json::Error,
    },
}

impl Event {
    /// Reads the externally tagged payload of one event of the current schema versions.
    ///
    /// # Errors
    /// When the type or the payload is unknown to this version of Crewlog.
    pub fn decode(aggregate_type: &str, payload: &str) -> Result<Self, UnknownEvent> {
        let decoded = match aggregate_type {
            User::TYPE => serde_json::from_str(payload).map(Self::User),
            Organization::TYPE => serde_json::from_str(payload).map(Self::Organization),
            Workspace::TYPE => serde_json::from_str(payload).map(Self::Workspace),
            Crew::TYPE => serde_json::from_str(payload).map(Self::Crew),
            Promotion::TYPE => serde_json::from_str(payload).map(Self::Promotion),
            Review::TYPE => serde_json::from_str(payload).map(Self::Review),
            Attempts::TYPE => serde_json::from_str(payload).map(Self::Attempts),
            Installation::TYPE => serde_json::from_str(payload).map(Self::Installation),
            other => return Err(UnknownEvent::AggregateType(other.to_owned())),
        };
        decoded.map_err(|source| UnknownEvent::Payload {
            aggregate_type: aggregate_type.to_owned(),
            source,
        })
    }

    /// The name of what happened, `member_invited`.
    pub fn event_type(&self) -> String {
        match self {
            Self::User(event) => event.event_type(),
            Self::Organization(event) => event.event_type(),
            Self::Workspace(event) => event.event_type(),
            Self::Crew(event) => event.event_type(),
            Self::Promotion(event) => event.event_type(),
            Self::Review(event) => event.event_type(),
            Self::Attempts(event) => event.event_type(),
            Self::Installation(event) => event.event_type(),
        }
    }
}
