//! Small values for the tests of the rules: numbered ids, seals that hold nothing.

use uuid::Uuid;

use super::{
    Moment, Name, Timestamp,
    ids::{InvitationId, OrganizationId, SessionId, SubjectId, UserId, WorkspaceId},
    plans::PlanName,
    sealed::{KeyOwner, Sealed},
};

pub fn user(number: u128) -> UserId {
    UserId::from_uuid(Uuid::from_u128(number))
}

pub fn organization(number: u128) -> OrganizationId {
    OrganizationId::from_uuid(Uuid::from_u128(number))
}

pub fn workspace(number: u128) -> WorkspaceId {
    WorkspaceId::from_uuid(Uuid::from_u128(number))
}

pub fn invitation(number: u128) -> InvitationId {
    InvitationId::from_uuid(Uuid::from_u128(number))
}

pub fn session(number: u128) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(number))
}

pub fn sealed(text: &str) -> Sealed {
    Sealed {
        subject: KeyOwner::Subject(SubjectId::from_uuid(Uuid::from_u128(1))),
        key_version: 1,
        commitment: format!("commitment to {text}"),
        ciphertext: format!("ciphertext of {text}"),
    }
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn plan(text: &str) -> PlanName {
    text.parse().unwrap()
}

pub fn at(microseconds: i64) -> Moment {
    Moment {
        now: Timestamp(microseconds),
        ..Moment::default()
    }
}
