//! The channels of crews.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    connections::{ConnectionHead, Kind, Words},
    exchange::Command,
    fields::{FieldError, Validate},
    paging::ChannelCursor,
    values::wrong,
};
use crate::{
    domain::{
        crew::{Connection, ConnectionKind, InvalidConnection},
        ids::ChannelId,
    },
    service::{ConnectionView, CredentialChange},
};

/// A channel of a crew.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Channel)]
pub struct ChannelBody {
    #[serde(flatten)]
    head: ConnectionHead,
    kind: String,
    address: String,
}

/// What a channel is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewChannel)]
pub struct NewChannelBody {
    /// A lower-case word for what carries it: `email`, `web_chat`.
    #[schema(min_length = 1, max_length = 40, pattern = "^[a-z][a-z0-9_]*$")]
    kind: String,
    /// Without spaces, `support@example.com`; letters of both cases are the same to the rule.
    #[schema(min_length = 1, max_length = 320)]
    address: String,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl NewChannelBody {
    fn connection(&self) -> Result<Connection, FieldError> {
        Connection::channel(&self.kind, &self.address).map_err(|error| {
            let pointer = match error {
                InvalidConnection::Kind => "/kind",
                InvalidConnection::Address
                | InvalidConnection::Number
                | InvalidConnection::Url(_)
                | InvalidConnection::Events => "/address",
            };
            FieldError::invalid(pointer, error.to_string())
        })
    }
}

impl Validate for NewChannelBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            self.connection().err(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewChannelBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// See the module.
pub struct Channels;

impl Kind for Channels {
    const KIND: ConnectionKind = ConnectionKind::Channel;
    const LIST: &'static str = "channels";
    const PARAMETER: &'static str = "channel";
    const WORDS: Words = Words {
        one: "channel",
        many: "channels",
        add: "Gives a crew a channel. Production never shares one with development or staging.",
        list: "The channels of a crew, oldest first.",
        read: "A channel of a crew.",
        change: "Gives a crew another channel in place of this one, which is free then.",
        remove: "Takes a channel from a crew; it is free then.",
        new: "The new channel.",
        page: "A page of channels.",
        found: "The channel.",
        changed: "The channel as it now is.",
    };

    type Id = ChannelId;
    type Cursor = ChannelCursor;
    type New = NewChannelBody;
    type Body = ChannelBody;

    fn sent(new: NewChannelBody) -> Result<(Connection, CredentialChange), FieldError> {
        Ok((new.connection()?, CredentialChange::Keep))
    }

    fn shown(head: ConnectionHead, view: ConnectionView) -> Option<ChannelBody> {
        match view.connection.connection {
            Connection::Channel { kind, address } => Some(ChannelBody {
                head,
                kind,
                address,
            }),
            Connection::PhoneNumber { .. }
            | Connection::WebhookEndpoint { .. }
            | Connection::Integration { .. } => None,
        }
    }
}
