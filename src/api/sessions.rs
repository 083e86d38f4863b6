//! Signing in and out.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Asked, Command, Reader, Writer},
    fields::{FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    paging::{PageQuery, SessionCursor},
    problem::Problem,
    query::Path,
    respond::{Created, NoContent, Page},
    values::{self, ReasonOnly, Secret, Shown, Time, wrong},
};
use crate::{
    domain::ids::{SessionId, UserId},
    service::{Service, SessionView},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(sign_in, list_sessions))
        .routes(routes!(end_session))
}

/// Who signs in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SignIn)]
pub struct SignInBody {
    #[schema(format = "email", max_length = 254)]
    email: String,
    #[schema(value_type = String, format = "password", max_length = 256)]
    password: Secret,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for SignInBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::email("/email", &self.email).err(),
            values::check_tried_password("/password", &self.password),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for SignInBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// A session. Its token is in the one answer that makes it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionBody {
    id: SessionId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    user: UserId,
    /// First moment at which it no longer counts.
    expires_at: Time,
    /// Whether it is the one that asks.
    current: bool,
    /// What to send as `Authorization: Bearer …`; shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    token: Option<Shown>,
}

impl From<SessionView> for SessionBody {
    fn from(session: SessionView) -> Self {
        Self {
            id: session.id,
            version: session.version,
            created_at: session.created_at.into(),
            // Nothing changes a session but its end.
            updated_at: session.created_at.into(),
            user: session.user,
            expires_at: session.expires_at.into(),
            current: session.current,
            token: session.token.as_ref().map(Shown::token),
        }
    }
}

/// Signs in. An unknown address is answered as a wrong password is, in the same time.
#[utoipa::path(
    post, path = "/v1/sessions", tag = "getting in", security(()),
    params(IdempotencyKey), request_body = SignInBody,
    responses((status = 201, description = "A session, with its token.", body = SessionBody)),
)]
pub async fn sign_in(
    State(service): State<Arc<Service>>,
    asked: Asked,
    body: Json<SignInBody>,
) -> Result<Created<SessionBody>, Problem> {
    let request = asked.making(&body)?;
    let email = values::email("/email", &body.value.email)?;
    let password = body.value.password.into_inner();
    let written = service.sign_in(&request, &email, password).await?;
    let session = SessionBody::from(written.value);
    let location = format!("/v1/sessions/{}", session.id);
    let made = Created::new(location, session.version, written.position, session);
    Ok(made.replayed(written.replayed))
}

/// The caller's live sessions, in order of their ids.
#[utoipa::path(
    get, path = "/v1/sessions", tag = "getting in",
    params(PageQuery<SessionCursor>, MinimumPosition),
    responses((status = 200, description = "A page of sessions.", body = Page<SessionBody>)),
)]
pub async fn list_sessions(
    State(service): State<Arc<Service>>,
    reader: Reader<PageQuery<SessionCursor>>,
) -> Result<Page<SessionBody>, Problem> {
    let found = service.sessions(&reader.request, &reader.caller).await?;
    let after = reader.query.after().unwrap_or_default();
    let sessions = found.value.into_iter().map(SessionBody::from);
    let page = sessions
        .filter(|session| session.id.to_string().as_str() > after)
        .take(reader.query.limit.and_one());
    let key = |session: &SessionBody| SessionCursor::from(session.id.to_string());
    Ok(Page::of(
        page.collect(),
        reader.query.limit,
        found.position,
        key,
    ))
}

/// Ends a session of the caller's; ending the one that asks is signing out.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", tag = "getting in",
    params(("id" = SessionId, Path), IfMatch, IdempotencyKey), request_body = Option<ReasonOnly>,
    responses((status = 204, description = "It has ended.")),
)]
pub async fn end_session(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(id): Path<SessionId>,
    body: Option<Json<ReasonOnly>>,
) -> Result<NoContent, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service.end_session(&request, &caller, id).await?;
    Ok(NoContent::new(written.position).replayed(written.replayed))
}
