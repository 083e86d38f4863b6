//! Values that bodies and answers are made of: how each is written, read and described.
//!
//! Types of the domain have no schema of their own, as it knows nothing of the document;
//! they get it here. A text that the domain checks is a `String` in a body, checked by a
//! function here, once to collect everything that is wrong and once to become the value.

use std::fmt;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use subtle::ConstantTimeEq;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, RefOr, SchemaFormat,
        schema::{ObjectBuilder, Schema, Type},
    },
};

use super::{
    exchange::Command,
    fields::{FieldCode, FieldError, Validate},
};
use crate::{
    domain::{
        EmailAddress, Name, Timestamp,
        api_keys::{AddressRange, GRACE_SECONDS_MAX, KeyScope},
        authority::{OrganizationRole, Role},
        bundle::ItemKey,
        contents::secrets,
        crew::{CrewStatus, EVENT_NAME_CHARACTERS_MAX},
        environment::Environment,
        ids::{
            AgentId, ChannelId, CrewId, DocumentId, EventId, IntegrationId, InvitationId, KeyId,
            KnowledgeBaseId, OrganizationId, PathwayId, PhoneNumberId, PromotionId, ReviewId,
            SessionId, UserId, WebhookEndpointId, WorkspaceId,
        },
        name::InvalidName,
        plans::PlanName,
        promotion::{CheckOutcome, PromotionStatus},
        workspace::ProductionChanges,
    },
    projections::{InvitationStatus, KeyStatus},
    service::{ActivityLevel, PASSWORD_CHARACTERS_MAX, PASSWORD_CHARACTERS_MIN, Token},
};

/// The longest range of addresses as text: of IPv6, with its last part in decimals.
const ADDRESS_RANGE_CHARACTERS_MAX: usize = 49;

/// The longest key of an agent or a pathway: `pathway/`, and a name.
const ITEM_KEY_CHARACTERS_MAX: usize = 128;

macro_rules! id_schemas {
    ($($id:ident)+) => {$(
        impl PartialSchema for $id {
            fn schema() -> RefOr<Schema> {
                let prefix = $id::PREFIX;
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some(format!("A TypeID: `{prefix}_` and 26 characters of base32.")))
                    .pattern(Some(format!("^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$")))
                    .into()
            }
        }

        impl ToSchema for $id {}
    )+};
}

id_schemas! { ReviewId PromotionId KnowledgeBaseId DocumentId IntegrationId WebhookEndpointId PhoneNumberId ChannelId AgentId PathwayId CrewId EventId InvitationId KeyId OrganizationId SessionId UserId WorkspaceId }

macro_rules! word_schemas {
    ($($word:ident: $about:literal [$($name:expr),+];)+) => {$(
        impl PartialSchema for $word {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($about))
                    .enum_values(Some([$($name),+]))
                    .into()
            }
        }

        impl ToSchema for $word {}
    )+};
}

word_schemas! {
    ActivityLevel: "How much a record matters, least first."
        [
            ActivityLevel::Debug.name(), ActivityLevel::Info.name(), ActivityLevel::Warning.name(),
            ActivityLevel::Error.name()
        ];
    CrewStatus: "How a crew stands." [CrewStatus::Active.name(), CrewStatus::Archived.name()];
    Role: "A role in a workspace, strongest first."
        [Role::Owner.name(), Role::Admin.name(), Role::Member.name(), Role::Viewer.name()];
    OrganizationRole: "A role in an organization."
        [OrganizationRole::Owner.name(), OrganizationRole::Billing.name(), OrganizationRole::Auditor.name()];
    ProductionChanges: "How production crews are changed."
        [ProductionChanges::PromotionOnly.name(), ProductionChanges::Direct.name()];
    InvitationStatus: "How an invitation stands."
        [
            InvitationStatus::Pending.name(), InvitationStatus::Accepted.name(),
            InvitationStatus::Declined.name(), InvitationStatus::Revoked.name(),
            InvitationStatus::Expired.name()
        ];
    Environment: "An environment."
        [
            Environment::Development.name(), Environment::Staging.name(),
            Environment::Production.name()
        ];
    CheckOutcome: "How a check came out."
        [CheckOutcome::Passed.name(), CheckOutcome::Failed.name()];
    PromotionStatus: "How a promotion stands; stale, where its target has changed since the review."
        [
            PromotionStatus::Proposed.name(), PromotionStatus::Approved.name(),
            PromotionStatus::Scheduled.name(), PromotionStatus::Applied.name(),
            PromotionStatus::Verified.name(), PromotionStatus::RolledBack.name(),
            PromotionStatus::Rejected.name(), PromotionStatus::Cancelled.name(),
            PromotionStatus::Stale.name()
        ];
    KeyStatus: "How an API key stands."
        [
            KeyStatus::Active.name(), KeyStatus::Rotating.name(), KeyStatus::Expired.name(),
            KeyStatus::Revoked.name()
        ];
}

impl PartialSchema for KeyScope {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("One thing that an API key may."))
            .enum_values(Some(Self::ALL.iter().map(|scope| scope.name())))
            .into()
    }
}

impl ToSchema for KeyScope {}

impl PartialSchema for AddressRange {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Addresses in CIDR notation, or a single one."))
            .max_length(Some(ADDRESS_RANGE_CHARACTERS_MAX))
            .examples(["203.0.113.0/24"])
            .into()
    }
}

impl ToSchema for AddressRange {}

impl PartialSchema for ItemKey {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("An agent or a pathway by its kind and its name."))
            .max_length(Some(ITEM_KEY_CHARACTERS_MAX))
            .examples(["agent/Greeter"])
            .into()
    }
}

impl ToSchema for ItemKey {}

/// The name of an event that a webhook endpoint is told of, as the document describes it.
pub struct EventName;

impl PartialSchema for EventName {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "Words of small letters, digits and `_`, joined by dots.",
            ))
            .min_length(Some(1))
            .max_length(Some(EVENT_NAME_CHARACTERS_MAX))
            .examples(["call.ended"])
            .into()
    }
}

impl ToSchema for EventName {}

impl Serialize for KeyStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// For a member whose `null` means something: what was sent, where something was.
pub fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

impl PartialSchema for PlanName {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("The name of a plan of the catalogue."))
            .pattern(Some("^[a-z0-9-]{1,40}$"))
            .examples(["free"])
            .into()
    }
}

impl ToSchema for PlanName {}

/// A point in time: RFC 3339 in UTC with microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339())
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339 in UTC with microseconds."))
            .examples(["2026-11-24T06:30:00.000000Z"])
            .into()
    }
}

impl ToSchema for Time {}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

/// A time in a body: RFC 3339. What is finer than a microsecond is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenTime(pub Timestamp);

/// Longer than any time that RFC 3339 has with digits that count, in characters.
const TIME_CHARACTERS_MAX: usize = 64;

impl<'de> Deserialize<'de> for GivenTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = DateTime::parse_from_rfc3339(&text)
            .ok()
            .filter(|_| text.len() <= TIME_CHARACTERS_MAX);
        let time = time
            .ok_or_else(|| D::Error::custom("a time as RFC 3339 has it, `2026-11-24T06:30:00Z`"))?;
        Ok(Self(Timestamp::from_datetime(time.with_timezone(&Utc))))
    }
}

impl PartialSchema for GivenTime {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339, with any offset from UTC."))
            .max_length(Some(TIME_CHARACTERS_MAX))
            .examples(["2026-11-24T06:30:00Z"])
            .into()
    }
}

impl ToSchema for GivenTime {}

/// A password or a token in a body. It does not print.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The secret, for the service.
    pub fn into_inner(self) -> SecretString {
        self.0
    }

    /// Whether it is the same as another, found out in constant time.
    pub fn is(&self, other: &Self) -> bool {
        let [one, other] = [self, other].map(|secret| secret.0.expose_secret().as_bytes());
        one.ct_eq(other).into()
    }

    fn characters(&self) -> usize {
        self.0.expose_secret().chars().count()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretString::from(text)))
    }
}

/// A secret in the one answer that shows it: a token, or a link that ends with one. It is
/// written into the answer, and does not print.
pub struct Shown(SecretString);

impl Shown {
    /// What an answer shows of a token.
    pub fn token(token: &Token) -> Self {
        Self(SecretString::from(token.expose()))
    }

    /// What an answer shows of another secret.
    pub fn secret(secret: SecretString) -> Self {
        Self(secret)
    }

    /// A link that ends with a token.
    pub fn link(link: String) -> Self {
        Self(SecretString::from(link))
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Shown(…)")
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

/// The longest token that a body may hold, in characters.
pub const TOKEN_CHARACTERS_MAX: usize = 1_024;

/// The body of a write that says why, and nothing else.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonOnly {
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl Validate for ReasonOnly {
    fn validate(&self) -> Vec<FieldError> {
        wrong([FieldError::check_reason(self.reason.as_deref())])
    }
}

impl Command for ReasonOnly {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// How long a key or a secret lives on beside its successor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rotate)]
pub struct RotateBody {
    /// From 0, which ends it at once, to a week.
    #[schema(maximum = 604800)]
    pub grace_seconds: u64,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

impl Validate for RotateBody {
    fn validate(&self) -> Vec<FieldError> {
        let long = self.grace_seconds > GRACE_SECONDS_MAX;
        wrong([
            long.then(|| {
                let detail = format!("at most {GRACE_SECONDS_MAX}, which is a week");
                FieldError::invalid("/grace_seconds", detail)
            }),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for RotateBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// That a text which many read has none of the known formats of secrets in it.
pub fn without_secrets(pointer: &str, text: &str) -> Option<FieldError> {
    let mut found = secrets::find(&serde_json::Value::from(text)).into_iter();
    let detail = found.next()?.detail;
    Some(FieldError::new(FieldCode::SecretFound, pointer, detail))
}

/// Everything that is wrong among what was checked.
pub fn wrong(checked: impl IntoIterator<Item = Option<FieldError>>) -> Vec<FieldError> {
    checked.into_iter().flatten().collect()
}

/// A display name.
///
/// # Errors
/// What is wrong with it.
pub fn name(pointer: &str, text: &str) -> Result<Name, FieldError> {
    Name::parse(text).map_err(|error| match error {
        InvalidName::TooLong => FieldError::too_long(pointer, Name::CHARACTERS_MAX),
        InvalidName::Empty | InvalidName::ControlCharacter => {
            FieldError::invalid(pointer, error.to_string())
        }
    })
}

/// An e-mail address.
///
/// # Errors
/// That it is none.
pub fn email(pointer: &str, text: &str) -> Result<EmailAddress, FieldError> {
    EmailAddress::parse(text).map_err(|error| FieldError::invalid(pointer, error.to_string()))
}

/// Checks the length of a new password.
pub fn check_new_password(pointer: &str, password: &Secret) -> Option<FieldError> {
    match password.characters() {
        ..PASSWORD_CHARACTERS_MIN => {
            let detail = format!("at least {PASSWORD_CHARACTERS_MIN} characters");
            Some(FieldError::invalid(pointer, detail))
        }
        PASSWORD_CHARACTERS_MIN..=PASSWORD_CHARACTERS_MAX => None,
        _ => Some(FieldError::too_long(pointer, PASSWORD_CHARACTERS_MAX)),
    }
}

/// Checks that a password that is tried is not longer than any can be.
pub fn check_tried_password(pointer: &str, password: &Secret) -> Option<FieldError> {
    let long = password.characters() > PASSWORD_CHARACTERS_MAX;
    long.then(|| FieldError::too_long(pointer, PASSWORD_CHARACTERS_MAX))
}

/// Checks the length of a token.
pub fn check_token(pointer: &str, token: &Secret) -> Option<FieldError> {
    let long = token.characters() > TOKEN_CHARACTERS_MAX;
    long.then(|| FieldError::too_long(pointer, TOKEN_CHARACTERS_MAX))
}

/// A position of the log in a path or a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position(pub u64);

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let position = text
            .parse()
            .ok()
            .filter(|position| digits && i64::try_from(*position).is_ok());
        position
            .map(Self)
            .ok_or_else(|| D::Error::custom("a whole number, 0 or above"))
    }
}

impl PartialSchema for Position {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .description(Some("A position of the log."))
            .minimum(Some(0))
            .into()
    }
}

impl ToSchema for Position {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_taken_with_any_offset() {
        let time = |text: &str| serde_json::from_value::<GivenTime>(text.into()).ok();
        assert_eq!(
            time("1970-01-01T02:00:00.0000019+02:00"),
            Some(GivenTime(Timestamp(1)))
        );
        for wrong in ["", "1970-01-01", "1970-01-01T00:00:00", "tomorrow"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
        let long = format!("1970-01-01T00:00:00.{}Z", "0".repeat(TIME_CHARACTERS_MAX));
        assert_eq!(time(&long), None);
    }

    #[test]
    fn passwords_have_their_lengths_and_do_not_print() {
        let secret = |length| Secret(SecretString::from("é".repeat(length)));
        assert!(check_new_password("/password", &secret(7)).is_some());
        assert_eq!(check_new_password("/password", &secret(8)), None);
        assert_eq!(check_new_password("/password", &secret(256)), None);
        assert!(check_new_password("/password", &secret(257)).is_some());
        assert_eq!(check_tried_password("/password", &secret(1)), None);
        assert!(check_tried_password("/password", &secret(257)).is_some());
        assert_eq!(format!("{:?}", secret(8)), "Secret(…)");
        assert!(secret(8).is(&secret(8)) && !secret(8).is(&secret(9)));
    }

    #[test]
    fn what_an_answer_shows_once_is_written_and_does_not_print() {
        let shown = Shown::link("/accept/hunter2".to_owned());
        assert_eq!(format!("{shown:?}"), "Shown(…)");
        let written = serde_json::to_string(&shown).expect("a string");
        assert_eq!(written, "\"/accept/hunter2\"");
    }
}
