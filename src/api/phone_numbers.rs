//! The phone numbers of crews.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    connections::{ConnectionHead, Kind, Words},
    exchange::Command,
    fields::{FieldError, Validate},
    paging::PhoneNumberCursor,
    values::wrong,
};
use crate::{
    domain::{
        crew::{Connection, ConnectionKind},
        ids::PhoneNumberId,
    },
    service::{ConnectionView, CredentialChange},
};

/// A phone number of a crew.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PhoneNumber)]
pub struct PhoneNumberBody {
    #[serde(flatten)]
    head: ConnectionHead,
    /// In E.164.
    number: String,
}

/// What a phone number is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPhoneNumber)]
pub struct NewPhoneNumberBody {
    /// One that can be called, in E.164.
    #[schema(min_length = 3, max_length = 16, example = "+12025550143")]
    number: String,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl NewPhoneNumberBody {
    fn connection(&self) -> Result<Connection, FieldError> {
        Connection::phone_number(&self.number)
            .map_err(|error| FieldError::invalid("/number", error.to_string()))
    }
}

impl Validate for NewPhoneNumberBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            self.connection().err(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewPhoneNumberBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// See the module.
pub struct PhoneNumbers;

impl Kind for PhoneNumbers {
    const KIND: ConnectionKind = ConnectionKind::PhoneNumber;
    const LIST: &'static str = "phone-numbers";
    const PARAMETER: &'static str = "number";
    const WORDS: Words = Words {
        one: "phone_number",
        many: "phone_numbers",
        add: "Gives a crew a phone number. It has one owner in the whole installation; one that was\n\
              freed rests for a day before another workspace can have it.",
        list: "The phone numbers of a crew, oldest first.",
        read: "A phone number of a crew.",
        change: "Gives a crew another phone number in place of this one, which is free then.",
        remove: "Takes a phone number from a crew; it is free then.",
        new: "The new phone number.",
        page: "A page of phone numbers.",
        found: "The phone number.",
        changed: "The phone number as it now is.",
    };

    type Id = PhoneNumberId;
    type Cursor = PhoneNumberCursor;
    type New = NewPhoneNumberBody;
    type Body = PhoneNumberBody;

    fn sent(new: NewPhoneNumberBody) -> Result<(Connection, CredentialChange), FieldError> {
        Ok((new.connection()?, CredentialChange::Keep))
    }

    fn shown(head: ConnectionHead, view: ConnectionView) -> Option<PhoneNumberBody> {
        match view.connection.connection {
            Connection::PhoneNumber { number } => Some(PhoneNumberBody { head, number }),
            Connection::Channel { .. }
            | Connection::WebhookEndpoint { .. }
            | Connection::Integration { .. } => None,
        }
    }
}
