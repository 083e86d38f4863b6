//! The webhook endpoints of crews, and what signs for them.

use std::{collections::BTreeSet, sync::Arc};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    connections::{self, ConnectionHead, Kind, Words},
    exchange::{Command, PrincipalWriter},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch},
    json::Json,
    paging::WebhookEndpointCursor,
    problem::Problem,
    query::Path,
    respond::Resource,
    values::{EventName, RotateBody, Shown, Time, without_secrets, wrong},
};
use crate::{
    domain::{
        crew::{Connection, ConnectionKind, InvalidConnection},
        ids::{CrewId, WebhookEndpointId, WorkspaceId},
    },
    service::{ConnectionView, CredentialChange, Service},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    connections::routes::<WebhookEndpoints>().routes(routes!(rotate_signing_secret))
}

/// A webhook endpoint of a crew.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookEndpoint)]
pub struct WebhookEndpointBody {
    #[serde(flatten)]
    head: ConnectionHead,
    url: String,
    /// What it is told of; `null` for everything.
    #[schema(required)]
    events: Option<BTreeSet<String>>,
    /// When it was given the secret that signs for it.
    #[schema(required)]
    secret_set_at: Option<Time>,
    /// Until when what is sent is signed with the secret before this one as well.
    #[schema(required)]
    former_secret_until: Option<Time>,
    /// What signs what is sent, as Standard Webhooks has it; in the answer that makes it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "whsec_…")]
    secret: Option<Shown>,
}

/// What a webhook endpoint is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWebhookEndpoint)]
pub struct NewWebhookEndpointBody {
    /// `https`, on the public internet: no private, local or metadata address, no local name, no
    /// user name, no fragment; port 443, or 1024 and above. It is kept as browsers write it. Where
    /// it leads is the same to the rule whatever its query.
    #[schema(max_length = 2000, example = "https://hooks.example.com/crew")]
    url: String,
    /// What it is told of, by words of small letters joined by dots; everything where this is not
    /// there.
    #[schema(value_type = Option<Vec<EventName>>, min_items = 1, max_items = 100)]
    events: Option<BTreeSet<String>>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl NewWebhookEndpointBody {
    fn connection(&self) -> Result<Connection, FieldError> {
        Connection::webhook_endpoint(&self.url, self.events.clone()).map_err(|error| {
            let pointer = match error {
                InvalidConnection::Events => "/events",
                InvalidConnection::Url(_)
                | InvalidConnection::Kind
                | InvalidConnection::Address
                | InvalidConnection::Number => "/url",
            };
            FieldError::invalid(pointer, error.to_string())
        })
    }
}

impl Validate for NewWebhookEndpointBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            self.connection().err(),
            without_secrets("/url", &self.url),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewWebhookEndpointBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// See the module.
pub struct WebhookEndpoints;

impl Kind for WebhookEndpoints {
    const KIND: ConnectionKind = ConnectionKind::WebhookEndpoint;
    const LIST: &'static str = "webhook-endpoints";
    const PARAMETER: &'static str = "endpoint";
    const WORDS: Words = Words {
        one: "webhook_endpoint",
        many: "webhook_endpoints",
        add: "Gives a crew a webhook endpoint. Production never shares one with development or\n\
              staging. What signs for it is in this answer, and never shown again.",
        list: "The webhook endpoints of a crew, oldest first.",
        read: "A webhook endpoint of a crew.",
        change: "Gives a crew another webhook endpoint in place of this one, which is free then. The\n\
                 secret stays.",
        remove: "Takes a webhook endpoint from a crew; it is free then, and its secret is destroyed.",
        new: "The new webhook endpoint, with its secret.",
        page: "A page of webhook endpoints.",
        found: "The webhook endpoint.",
        changed: "The webhook endpoint as it now is.",
    };

    type Id = WebhookEndpointId;
    type Cursor = WebhookEndpointCursor;
    type New = NewWebhookEndpointBody;
    type Body = WebhookEndpointBody;

    fn sent(new: NewWebhookEndpointBody) -> Result<(Connection, CredentialChange), FieldError> {
        Ok((new.connection()?, CredentialChange::Keep))
    }

    fn shown(head: ConnectionHead, view: ConnectionView) -> Option<WebhookEndpointBody> {
        let credential = view.connection.credential;
        match view.connection.connection {
            Connection::WebhookEndpoint { url, events } => Some(WebhookEndpointBody {
                head,
                url: url.as_str().to_owned(),
                events,
                secret_set_at: credential.map(|credential| credential.set_at.into()),
                former_secret_until: credential
                    .and_then(|credential| credential.former_until)
                    .map(Time::from),
                secret: view.secret.map(Shown::secret),
            }),
            Connection::PhoneNumber { .. }
            | Connection::Channel { .. }
            | Connection::Integration { .. } => None,
        }
    }
}

/// Gives a webhook endpoint another secret, in this answer alone. What is sent is signed with the
/// present one as well for the grace that is asked for; one that was in its grace ends now.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}/rotate",
    tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path),
        ("endpoint" = inline(WebhookEndpointId), Path), IfMatch, IdempotencyKey
    ),
    request_body = RotateBody,
    responses((
        status = 200, description = "The webhook endpoint, with its new secret.",
        body = WebhookEndpointBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn rotate_signing_secret(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path((workspace, crew, endpoint)): Path<(WorkspaceId, CrewId, WebhookEndpointId)>,
    body: Json<RotateBody>,
) -> Result<Resource<WebhookEndpointBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let (at, grace_seconds) = ((workspace, crew), body.value.grace_seconds);
    let rotated = service
        .rotate_signing_secret(&request, &principal, at, endpoint, grace_seconds)
        .await?;
    connections::written::<WebhookEndpoints>(rotated)
}
