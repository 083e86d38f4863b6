//! The integrations of crews. What one signs in with is taken, sealed, and never answered.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    connections::{ConnectionHead, Kind, Words},
    exchange::Command,
    fields::{FieldError, Validate},
    paging::IntegrationCursor,
    values::{self, Time, without_secrets, wrong},
};
use crate::{
    domain::{
        crew::{Connection, ConnectionKind},
        ids::IntegrationId,
    },
    service::{ConnectionView, CredentialChange},
};

/// The largest credentials in their RFC 8785 form, in bytes.
const CREDENTIALS_BYTES_MAX: usize = 16 * 1024;

/// An integration of a crew.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Integration)]
pub struct IntegrationBody {
    #[serde(flatten)]
    head: ConnectionHead,
    name: String,
    kind: String,
    account: String,
    /// When it was given its credentials; `null` where it has none.
    #[schema(required)]
    credentials_set_at: Option<Time>,
}

/// Credentials as they were sent, in their RFC 8785 form. They do not print.
#[derive(Clone)]
pub struct Credentials(SecretString);

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(…)")
    }
}

impl<'de> Deserialize<'de> for Credentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Map::<String, Value>::deserialize(deserializer)?;
        let text = serde_json_canonicalizer::to_string(&object)
            .map_err(|_| serde::de::Error::custom("an object that RFC 8785 can write"))?;
        Ok(Self(text.into()))
    }
}

/// What an integration is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewIntegration)]
pub struct NewIntegrationBody {
    /// By which slots name it: `{"$slot": "integration/crm"}` is the one called `crm`.
    #[schema(min_length = 1, max_length = 120, example = "crm")]
    name: String,
    /// A lower-case word for what it is with: `salesforce`.
    #[schema(min_length = 1, max_length = 40, pattern = "^[a-z][a-z0-9_]*$")]
    kind: String,
    /// Whose account it is there; letters of both cases are the same to the rule.
    #[schema(min_length = 1, max_length = 120, example = "acme-sandbox")]
    account: String,
    /// What it signs in with: an object of at most 16 KiB in its RFC 8785 form, sealed and never
    /// answered. Those that are there stay where this is not; `null` removes them.
    #[serde(default, deserialize_with = "values::present")]
    #[schema(value_type = Option<Object>)]
    credentials: Option<Option<Credentials>>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl NewIntegrationBody {
    fn connection(&self) -> Result<Connection, FieldError> {
        let name = values::name("/name", &self.name)?;
        let account = values::name("/account", &self.account)?;
        Connection::integration(name, &self.kind, account)
            .map_err(|error| FieldError::invalid("/kind", error.to_string()))
    }

    fn check_credentials(&self) -> Option<FieldError> {
        let Credentials(text) = self.credentials.as_ref()?.as_ref()?;
        let long = text.expose_secret().len() > CREDENTIALS_BYTES_MAX;
        long.then(|| {
            let detail = format!("at most {CREDENTIALS_BYTES_MAX} bytes in their canonical form");
            FieldError::invalid("/credentials", detail)
        })
    }
}

impl Validate for NewIntegrationBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            self.connection().err(),
            without_secrets("/name", &self.name),
            without_secrets("/account", &self.account),
            self.check_credentials(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewIntegrationBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// See the module.
pub struct Integrations;

impl Kind for Integrations {
    const KIND: ConnectionKind = ConnectionKind::Integration;
    const LIST: &'static str = "integrations";
    const PARAMETER: &'static str = "integration";
    const WORDS: Words = Words {
        one: "integration",
        many: "integrations",
        add: "Gives a crew an integration. Production never shares an account with development or\n\
              staging.",
        list: "The integrations of a crew, oldest first.",
        read: "An integration of a crew.",
        change: "Changes an integration of a crew; an account that it has no more is free then.",
        remove: "Takes an integration from a crew; its account is free then, and its credentials are\n\
                 destroyed.",
        new: "The new integration.",
        page: "A page of integrations.",
        found: "The integration.",
        changed: "The integration as it now is.",
    };

    type Id = IntegrationId;
    type Cursor = IntegrationCursor;
    type New = NewIntegrationBody;
    type Body = IntegrationBody;

    fn sent(new: NewIntegrationBody) -> Result<(Connection, CredentialChange), FieldError> {
        let connection = new.connection()?;
        let credential = match new.credentials {
            None => CredentialChange::Keep,
            Some(None) => CredentialChange::Remove,
            Some(Some(Credentials(text))) => CredentialChange::Set(text),
        };
        Ok((connection, credential))
    }

    fn shown(head: ConnectionHead, view: ConnectionView) -> Option<IntegrationBody> {
        let credential = view.connection.credential;
        match view.connection.connection {
            Connection::Integration {
                name,
                kind,
                account,
            } => Some(IntegrationBody {
                head,
                name,
                kind,
                account,
                credentials_set_at: credential.map(|credential| credential.set_at.into()),
            }),
            Connection::PhoneNumber { .. }
            | Connection::Channel { .. }
            | Connection::WebhookEndpoint { .. } => None,
        }
    }
}
