//! The caller themselves.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::{Command, MomentQuery, PrincipalReader, Writer},
    fields::{FieldCode, FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    problem::Problem,
    respond::Resource,
    values::{self, Secret, Time, wrong},
};
use crate::{
    domain::{
        api_keys::KeyScope,
        authority::{OrganizationRole, Role},
        environment::Environment,
        ids::{CrewId, KeyId, OrganizationId, UserId, WorkspaceId},
    },
    service::{
        KeyCaller, Me, Membership, OrganizationMembership, Principal, ProfileChange, Service,
    },
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(read_me, change_me))
}

/// The caller, and where they belong: at most 200 of each; the lists have all.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Me)]
pub struct MeBody {
    id: UserId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    email: String,
    name: String,
    #[schema(max_items = 200)]
    memberships: Vec<MembershipBody>,
    #[schema(max_items = 200)]
    organizations: Vec<OrganizationMembershipBody>,
}

/// Whoever asks: a person, or an API key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Who)]
pub enum WhoBody {
    Person(Box<MeBody>),
    Key(Box<KeyBody>),
}

/// An API key that asks who it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MeAsApiKey)]
pub struct KeyBody {
    id: KeyId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    name: String,
    organization: OrganizationId,
    /// `null` for a key of an organization.
    #[schema(required)]
    workspace: Option<WorkspaceId>,
    /// The only environment that it works in; `null` for a key of an organization.
    #[schema(required)]
    environment: Option<Environment>,
    scopes: Vec<KeyScope>,
    #[schema(required)]
    crews: Option<Vec<CrewId>>,
    #[schema(required)]
    expires_at: Option<Time>,
}

impl KeyBody {
    fn of(key: &KeyCaller) -> Self {
        let key = &key.0;
        let crews = key.terms.crews.as_ref();
        Self {
            id: key.id,
            version: key.version,
            created_at: key.created_at.into(),
            updated_at: key.updated_at.into(),
            name: key.terms.name.clone(),
            organization: key.organization,
            workspace: key.workspace,
            environment: key.environment,
            scopes: key.terms.scopes.iter().copied().collect(),
            crews: crews.map(|crews| crews.iter().copied().collect()),
            expires_at: key.terms.expires_at.map(Into::into),
        }
    }
}

/// A workspace that somebody is in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Membership)]
pub struct MembershipBody {
    workspace: WorkspaceId,
    #[schema(required)]
    organization: Option<OrganizationId>,
    /// The workspace's.
    name: String,
    role: Role,
    since: Time,
}

/// An organization that somebody has a role in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationMembership)]
pub struct OrganizationMembershipBody {
    organization: OrganizationId,
    /// The organization's.
    name: String,
    role: OrganizationRole,
    since: Time,
}

impl From<Me> for MeBody {
    fn from(me: Me) -> Self {
        Self {
            id: me.id,
            version: me.version,
            created_at: me.created_at.into(),
            updated_at: me.updated_at.into(),
            email: me.email.into_text(),
            name: me.name.into_text(),
            memberships: me.memberships.into_iter().map(Into::into).collect(),
            organizations: me.organizations.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Membership> for MembershipBody {
    fn from(membership: Membership) -> Self {
        Self {
            workspace: membership.workspace,
            organization: membership.organization,
            name: membership.name,
            role: membership.role,
            since: membership.since.into(),
        }
    }
}

impl From<OrganizationMembership> for OrganizationMembershipBody {
    fn from(membership: OrganizationMembership) -> Self {
        Self {
            organization: membership.organization,
            name: membership.name,
            role: membership.role,
            since: membership.since.into(),
        }
    }
}

/// What is to be changed of a profile: at least one of `name` and `email`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChangeMe)]
pub struct ChangeMeBody {
    #[schema(min_length = 1, max_length = 120)]
    name: Option<String>,
    /// A new address; needs `password`.
    #[schema(format = "email", max_length = 254)]
    email: Option<String>,
    /// The present password, which proves who moves the account to another address.
    #[schema(value_type = Option<String>, format = "password", max_length = 256)]
    password: Option<Secret>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for ChangeMeBody {
    fn validate(&self) -> Vec<FieldError> {
        let nothing = self.name.is_none() && self.email.is_none();
        let unproven = self.email.is_some() && self.password.is_none();
        let name = self.name.as_ref();
        let email = self.email.as_ref();
        wrong([
            nothing.then(|| {
                let detail = "at least one of `name` and `email` is required";
                FieldError::new(FieldCode::MissingField, "", detail)
            }),
            unproven.then(|| FieldError::missing("/password")),
            name.and_then(|name| values::name("/name", name).err()),
            email.and_then(|email| values::email("/email", email).err()),
            self.password
                .as_ref()
                .and_then(|password| values::check_tried_password("/password", password)),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for ChangeMeBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl ChangeMeBody {
    fn into_change(self) -> Result<ProfileChange, FieldError> {
        let name = self.name.map(|name| values::name("/name", &name));
        let email = self
            .email
            .zip(self.password)
            .map(|(email, password)| Ok((values::email("/email", &email)?, password.into_inner())));
        Ok(ProfileChange {
            name: name.transpose()?,
            email: email.transpose()?,
        })
    }
}

/// Who the caller is.
#[utoipa::path(
    get, path = "/v1/me", tag = "getting in", params(MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The caller, and where they belong.", body = WhoBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_me(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
) -> Result<Resource<WhoBody>, Problem> {
    match &reader.principal {
        Principal::Person(caller) => {
            let found = service.me_of(&reader.request, caller).await?;
            let version = found.value.version;
            let person = WhoBody::Person(Box::new(found.value.into()));
            Ok(Resource::new(version, found.position, person))
        }
        Principal::Key(key) => {
            let found = service.me_of_key(&reader.request, key).await?;
            let version = found.value.0.version;
            let body = WhoBody::Key(Box::new(KeyBody::of(&found.value)));
            Ok(Resource::new(version, found.position, body))
        }
    }
}

/// Changes the caller's name, their address, or both. Their organizations are told.
#[utoipa::path(
    patch, path = "/v1/me", tag = "getting in",
    params(IfMatch, IdempotencyKey), request_body = ChangeMeBody,
    responses((
        status = 200, description = "The caller as they now are.", body = MeBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn change_me(
    State(service): State<Arc<Service>>,
    writer: Writer,
    body: Json<ChangeMeBody>,
) -> Result<Resource<MeBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let change = body.value.into_change()?;
    let written = service.change_profile(&request, &caller, change).await?;
    let version = written.value.version;
    let me = Resource::new(version, written.position, written.value.into());
    Ok(me.replayed(written.replayed))
}
