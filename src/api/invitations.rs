//! Invitations into a workspace.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::{Edge, PublicUrl},
    exchange::{Asked, Command, MomentQuery, Reader, Writer},
    fields::{FieldError, Validate},
    headers::{Bearer, IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    members::MemberBody,
    paging::{InvitationCursor, PageQuery},
    problem::Problem,
    query::Path,
    respond::{Created, Page, Resource},
    sessions::SessionBody,
    values::{self, ReasonOnly, Secret, Shown, Time, wrong},
};
use crate::{
    domain::{
        authority::Role,
        ids::{InvitationId, UserId, WorkspaceId},
    },
    projections::InvitationStatus,
    service::{Acceptance, Accepted, InvitationView, Newcomer, Service, Token, Written},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(invite, list_invitations))
        .routes(routes!(read_invitation, revoke_invitation))
        .routes(routes!(resend_invitation))
        .routes(routes!(accept_invitation))
        .routes(routes!(decline_invitation))
}

/// An invitation. Its token is in the one answer that makes it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitation)]
pub struct InvitationBody {
    id: InvitationId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    workspace: WorkspaceId,
    /// `erased` where it is gone.
    email: String,
    role: Role,
    status: InvitationStatus,
    /// First moment at which it can no longer be accepted.
    expires_at: Time,
    invited_by: UserId,
    /// What it is accepted with; shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    token: Option<Shown>,
    /// Where the invited person goes; ends with the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uri-reference")]
    accept_url: Option<Shown>,
}

impl InvitationBody {
    fn of(invitation: InvitationView, public_url: &PublicUrl) -> Self {
        let token = invitation.token.as_ref();
        let link = |token: &Token| {
            let path = format!("/invitations/accept/{}", token.expose());
            Shown::link(public_url.link(&path))
        };
        Self {
            id: invitation.id,
            version: invitation.version,
            created_at: invitation.created_at.into(),
            updated_at: invitation.updated_at.into(),
            workspace: invitation.workspace,
            email: invitation.email.into_text(),
            role: invitation.role,
            status: invitation.status,
            expires_at: invitation.expires_at.into(),
            invited_by: invitation.invited_by,
            accept_url: token.map(link),
            token: token.map(Shown::token),
        }
    }

    fn changed(written: Written<InvitationView>, public_url: &PublicUrl) -> Resource<Self> {
        let version = written.value.version;
        let invitation = Self::of(written.value, public_url);
        Resource::new(version, written.position, invitation).replayed(written.replayed)
    }
}

/// Who is invited, as what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Invite)]
pub struct InviteBody {
    #[schema(format = "email", max_length = 254)]
    email: String,
    role: Role,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for InviteBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::email("/email", &self.email).err(),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for InviteBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// What an invitation is accepted with. Without a session, `name` and `password` make an
/// account of the invited address; with one they are not looked at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AcceptInvitation)]
pub struct AcceptBody {
    #[schema(value_type = String, max_length = 1024)]
    token: Secret,
    #[schema(min_length = 1, max_length = 120)]
    name: Option<String>,
    #[schema(value_type = Option<String>, format = "password", min_length = 8, max_length = 256)]
    password: Option<Secret>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for AcceptBody {
    fn validate(&self) -> Vec<FieldError> {
        let (name, password) = (self.name.as_ref(), self.password.as_ref());
        wrong([
            values::check_token("/token", &self.token),
            name.and_then(|name| values::name("/name", name).err()),
            password.and_then(|password| values::check_new_password("/password", password)),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for AcceptBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Who comes without a session must say who they are.
fn newcomer(name: Option<String>, password: Option<Secret>) -> Result<Newcomer, Problem> {
    match (name, password) {
        (Some(name), Some(password)) => Ok(Newcomer {
            name: values::name("/name", &name)?,
            password: password.into_inner(),
        }),
        (name, password) => Err(Problem::invalid_body(wrong([
            name.is_none().then(|| FieldError::missing("/name")),
            password.is_none().then(|| FieldError::missing("/password")),
        ]))),
    }
}

/// The membership that accepting made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AcceptedInvitation)]
pub struct AcceptedBody {
    #[serde(flatten)]
    member: MemberBody,
    /// A newcomer's first session, with its token, this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionBody>,
}

impl AcceptedBody {
    fn answered(written: Written<Accepted>) -> Resource<Self> {
        let body = Self {
            member: written.value.member.into(),
            session: written.value.session.map(Into::into),
        };
        let answer = Resource::new(body.member.version, written.position, body);
        answer.replayed(written.replayed)
    }
}

/// What an invitation is declined with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeclineInvitation)]
pub struct DeclineBody {
    #[schema(value_type = String, max_length = 1024)]
    token: Secret,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for DeclineBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::check_token("/token", &self.token),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for DeclineBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Invites somebody by e-mail, with a role up to the caller's own.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/invitations", tag = "team",
    params(("ws" = WorkspaceId, Path), IdempotencyKey), request_body = InviteBody,
    responses((status = 201, description = "The invitation, with its token.", body = InvitationBody)),
)]
pub async fn invite(
    State(Edge {
        service,
        public_url,
        ..
    }): State<Edge>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<InviteBody>,
) -> Result<Created<InvitationBody>, Problem> {
    let (request, caller) = writer.making(&body)?;
    let email = values::email("/email", &body.value.email)?;
    let written = service
        .invite(&request, &caller, workspace, &email, body.value.role)
        .await?;
    let invitation = InvitationBody::of(written.value, &public_url);
    let location = format!("/v1/workspaces/{workspace}/invitations/{}", invitation.id);
    let made = Created::new(location, invitation.version, written.position, invitation);
    Ok(made.replayed(written.replayed))
}

/// The invitations of a workspace, oldest first.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/invitations", tag = "team",
    params(("ws" = WorkspaceId, Path), PageQuery<InvitationCursor>, MinimumPosition),
    responses((status = 200, description = "A page of invitations.", body = Page<InvitationBody>)),
)]
pub async fn list_invitations(
    State(edge): State<Edge>,
    reader: Reader<PageQuery<InvitationCursor>>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Page<InvitationBody>, Problem> {
    let Reader {
        request,
        caller,
        query,
    } = reader;
    let page = edge
        .service
        .invitations_of(
            &request,
            &caller,
            workspace,
            query.after(),
            query.limit.count(),
        )
        .await?;
    let body = |invitation| InvitationBody::of(invitation, &edge.public_url);
    Ok(Page::keyed::<InvitationCursor, _>(page, body))
}

/// An invitation.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/invitations/{inv}", tag = "team",
    params(("ws" = WorkspaceId, Path), ("inv" = InvitationId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The invitation.", body = InvitationBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_invitation(
    State(Edge {
        service,
        public_url,
        ..
    }): State<Edge>,
    reader: Reader<MomentQuery>,
    Path((workspace, invitation)): Path<(WorkspaceId, InvitationId)>,
) -> Result<Resource<InvitationBody>, Problem> {
    let found = service
        .invitation(&reader.request, &reader.caller, workspace, invitation)
        .await?;
    let version = found.value.version;
    let invitation = InvitationBody::of(found.value, &public_url);
    Ok(Resource::new(version, found.position, invitation))
}

/// Takes an invitation back.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/invitations/{inv}", tag = "team",
    params(("ws" = WorkspaceId, Path), ("inv" = InvitationId, Path), IfMatch, IdempotencyKey),
    request_body = Option<ReasonOnly>,
    responses((
        status = 200, description = "The invitation as it now is.", body = InvitationBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn revoke_invitation(
    State(Edge {
        service,
        public_url,
        ..
    }): State<Edge>,
    writer: Writer,
    Path((workspace, invitation)): Path<(WorkspaceId, InvitationId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<Resource<InvitationBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .revoke_invitation(&request, &caller, workspace, invitation)
        .await?;
    Ok(InvitationBody::changed(written, &public_url))
}

/// Sends an invitation again: a new token and a new deadline. The old token is dead.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/invitations/{inv}/resend", tag = "team",
    params(("ws" = WorkspaceId, Path), ("inv" = InvitationId, Path), IfMatch, IdempotencyKey),
    request_body = Option<ReasonOnly>,
    responses((
        status = 200, description = "The invitation, with its new token.", body = InvitationBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn resend_invitation(
    State(Edge {
        service,
        public_url,
        ..
    }): State<Edge>,
    writer: Writer,
    Path((workspace, invitation)): Path<(WorkspaceId, InvitationId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<Resource<InvitationBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .resend_invitation(&request, &caller, workspace, invitation)
        .await?;
    Ok(InvitationBody::changed(written, &public_url))
}

/// Accepts an invitation: with the account of the session that is sent, or with a new one.
#[utoipa::path(
    post, path = "/v1/invitations/accept", tag = "team", security((), ("bearer" = [])),
    params(IdempotencyKey), request_body = AcceptBody,
    responses((
        status = 200, description = "The member that was made, and a newcomer's session.",
        body = AcceptedBody,
        headers(("ETag" = String, description = "The member's version in quotes.")),
    )),
)]
pub async fn accept_invitation(
    State(service): State<Arc<Service>>,
    Bearer(token): Bearer,
    asked: Asked,
    body: Json<AcceptBody>,
) -> Result<Resource<AcceptedBody>, Problem> {
    let mut request = asked.making(&body)?;
    request.token = token;
    let AcceptBody {
        token: invitation,
        name,
        password,
        ..
    } = body.value;
    let acceptance = match request.token {
        Some(_) => Acceptance::SignedIn(service.authenticate(&request).await?),
        None => Acceptance::Newcomer(newcomer(name, password)?),
    };
    let written = service
        .accept_invitation(&request, &invitation.into_inner(), acceptance)
        .await?;
    Ok(AcceptedBody::answered(written))
}

/// Declines an invitation; whoever holds its token may.
#[utoipa::path(
    post, path = "/v1/invitations/decline", tag = "team", security(()),
    params(IdempotencyKey), request_body = DeclineBody,
    responses((
        status = 200, description = "The invitation as it now is.", body = InvitationBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn decline_invitation(
    State(Edge {
        service,
        public_url,
        ..
    }): State<Edge>,
    asked: Asked,
    body: Json<DeclineBody>,
) -> Result<Resource<InvitationBody>, Problem> {
    let request = asked.making(&body)?;
    let token = body.value.token.into_inner();
    let written = service.decline_invitation(&request, &token).await?;
    Ok(InvitationBody::changed(written, &public_url))
}
