//! API keys of workspaces and organizations, and what gateways ask of one.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    as_of::AsOf,
    exchange::{Command, MomentQuery, PrincipalReader, Question, ReadQuery, Reader, Writer},
    fields::{FieldCode, FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    paging::{ApiKeyCursor, Cursor, Limit, PageQuery},
    problem::Problem,
    query::Path,
    respond::{Created, Page, Resource},
    values::{self, GivenTime, ReasonOnly, RotateBody, Secret, Time, present, wrong},
};
use crate::{
    domain::{
        api_keys::{ADDRESS_RANGES_MAX, AddressRange, CREWS_MAX, KeyChange, KeyScope},
        environment::Environment,
        ids::{CrewId, KeyId, OrganizationId, UserId, WorkspaceId},
    },
    projections::KeyStatus,
    service::{ApiKeyView, KeyCheck, KeyQuestion, KeyVerdict, NewKey, Service, Written},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(create_api_key, list_api_keys))
        .routes(routes!(read_api_key, update_api_key, revoke_api_key))
        .routes(routes!(rotate_api_key))
        .routes(routes!(create_organization_key, list_organization_keys))
        .routes(routes!(read_organization_key, revoke_organization_key))
        .routes(routes!(rotate_organization_key))
        .routes(routes!(verify_api_key))
}

/// An API key. Its secret is in the one answer that makes it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct ApiKeyBody {
    id: KeyId,
    version: u64,
    created_at: Time,
    updated_at: Time,
    organization: OrganizationId,
    /// `null` for a key of the organization itself.
    #[schema(required)]
    workspace: Option<WorkspaceId>,
    name: String,
    /// The only environment that it works in; `null` for a key of an organization.
    #[schema(required)]
    environment: Option<Environment>,
    scopes: BTreeSet<KeyScope>,
    /// The crews that it reaches; all of its environment where this is `null`.
    #[schema(required)]
    crews: Option<BTreeSet<CrewId>>,
    /// Where it may be used from; anywhere where there are none.
    allowed_cidrs: Vec<AddressRange>,
    status: KeyStatus,
    /// How its secret begins.
    #[schema(example = "crew_prod_3fX2")]
    prefix: String,
    /// To the minute.
    #[schema(required)]
    last_used_at: Option<Time>,
    /// First moment at which it no longer counts.
    #[schema(required)]
    expires_at: Option<Time>,
    /// When the workspace's policy wants it rotated; `null` where it wants nothing of keys, or
    /// this one is over or has a successor.
    #[schema(required)]
    rotation_due_at: Option<Time>,
    created_by: UserId,
    /// The key in whose place it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_from: Option<KeyId>,
    /// The key that came in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    successor: Option<KeyId>,
    /// The key in whose place it came, in the answer that rotates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<PredecessorBody>,
    /// Shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A key that another has come in the place of.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Predecessor)]
pub struct PredecessorBody {
    id: KeyId,
    status: KeyStatus,
    /// The end of its grace.
    #[schema(required)]
    expires_at: Option<Time>,
}

impl From<ApiKeyView> for ApiKeyBody {
    fn from(view: ApiKeyView) -> Self {
        let key = view.key;
        let predecessor = view.predecessor.map(|(key, status)| PredecessorBody {
            id: key.id,
            status,
            expires_at: key.terms.expires_at.map(Into::into),
        });
        Self {
            id: key.id,
            version: key.version,
            created_at: key.created_at.into(),
            updated_at: key.updated_at.into(),
            organization: key.organization,
            workspace: key.workspace,
            name: key.terms.name,
            environment: key.environment,
            scopes: key.terms.scopes,
            crews: key.terms.crews,
            allowed_cidrs: key.terms.allowed_cidrs,
            status: view.status,
            prefix: key.prefix,
            last_used_at: view.last_used_at.map(Into::into),
            expires_at: key.terms.expires_at.map(Into::into),
            rotation_due_at: view.rotation_due_at.map(Into::into),
            created_by: key.created_by,
            rotated_from: key.rotated_from,
            successor: key.successor,
            predecessor,
            secret: view.secret.map(|secret| secret.expose().to_owned()),
        }
    }
}

impl ApiKeyBody {
    fn created(written: Written<ApiKeyView>) -> Created<Self> {
        let (position, replayed) = (written.position, written.replayed);
        let body = Self::from(written.value);
        let holder = match body.workspace {
            Some(workspace) => format!("workspaces/{workspace}"),
            None => format!("organizations/{}", body.organization),
        };
        let location = format!("/v1/{holder}/api-keys/{}", body.id);
        Created::new(location, body.version, position, body).replayed(replayed)
    }

    fn changed(written: Written<ApiKeyView>) -> Resource<Self> {
        let body = Self::from(written.value);
        Resource::new(body.version, written.position, body).replayed(written.replayed)
    }
}

fn check_scopes(scopes: &[KeyScope], allowed: &[KeyScope]) -> Option<FieldError> {
    let position = scopes.iter().position(|scope| !allowed.contains(scope));
    let names: Vec<_> = allowed.iter().map(|scope| scope.name()).collect();
    let pointer = format!("/scopes/{}", position?);
    let detail = format!("not a scope of such a key; there are: {}", names.join(", "));
    Some(FieldError::invalid(pointer, detail))
}

fn check_count<T>(pointer: &str, items: Option<&Vec<T>>, limit: usize) -> Option<FieldError> {
    let long = items.is_some_and(|items| items.len() > limit);
    long.then(|| FieldError::too_long(pointer, limit))
}

/// A new key of a workspace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewApiKey)]
pub struct NewApiKeyBody {
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    environment: Environment,
    /// What it may; nothing but say whose it is where this is empty.
    #[schema(max_items = 9)]
    scopes: Vec<KeyScope>,
    /// The crews that it reaches; all of its environment where nobody says.
    #[schema(max_items = 1000)]
    crews: Option<Vec<CrewId>>,
    /// First moment at which it no longer counts.
    expires_at: Option<GivenTime>,
    /// Where it may be used from; anywhere where nobody says.
    #[schema(max_items = 100)]
    allowed_cidrs: Option<Vec<AddressRange>>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for NewApiKeyBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::name("/name", &self.name).err(),
            check_scopes(&self.scopes, &KeyScope::OF_WORKSPACE),
            check_count("/crews", self.crews.as_ref(), CREWS_MAX),
            check_count(
                "/allowed_cidrs",
                self.allowed_cidrs.as_ref(),
                ADDRESS_RANGES_MAX,
            ),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewApiKeyBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// A new key of an organization.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOrganizationKey)]
pub struct NewOrganizationKeyBody {
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// What it may: `workspaces:create`, `workspaces:read`, `usage:read`, `audit:read`.
    #[schema(max_items = 4)]
    scopes: Vec<KeyScope>,
    /// First moment at which it no longer counts.
    expires_at: Option<GivenTime>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for NewOrganizationKeyBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            values::name("/name", &self.name).err(),
            check_scopes(&self.scopes, &KeyScope::OF_ORGANIZATION),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewOrganizationKeyBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// What of a key is to be changed: at least one member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpdateApiKey)]
pub struct UpdateApiKeyBody {
    #[schema(min_length = 1, max_length = 120)]
    name: Option<String>,
    #[schema(max_items = 9)]
    scopes: Option<Vec<KeyScope>>,
    /// `null`: all of its environment.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<CrewId>>, max_items = 1000)]
    crews: Option<Option<Vec<CrewId>>>,
    /// `null`: without an end.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<GivenTime>)]
    expires_at: Option<Option<GivenTime>>,
    #[schema(max_items = 100)]
    allowed_cidrs: Option<Vec<AddressRange>>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for UpdateApiKeyBody {
    fn validate(&self) -> Vec<FieldError> {
        let nothing = self.name.is_none()
            && self.scopes.is_none()
            && self.crews.is_none()
            && self.expires_at.is_none()
            && self.allowed_cidrs.is_none();
        let crews = self.crews.as_ref().and_then(Option::as_ref);
        let cidrs = self.allowed_cidrs.as_ref();
        let name = self.name.as_ref();
        let scopes = self.scopes.as_ref();
        wrong([
            nothing.then(|| {
                let detail = "say what is to be changed";
                FieldError::new(FieldCode::MissingField, "", detail)
            }),
            name.and_then(|name| values::name("/name", name).err()),
            scopes.and_then(|scopes| check_scopes(scopes, &KeyScope::OF_WORKSPACE)),
            check_count("/crews", crews, CREWS_MAX),
            check_count("/allowed_cidrs", cidrs, ADDRESS_RANGES_MAX),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for UpdateApiKeyBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl UpdateApiKeyBody {
    fn into_change(self) -> Result<KeyChange, FieldError> {
        let name = self.name.map(|name| values::name("/name", &name));
        let crews = self.crews;
        Ok(KeyChange {
            name: name.transpose()?.map(Into::into),
            scopes: self.scopes.map(|scopes| scopes.into_iter().collect()),
            crews: crews.map(|crews| crews.map(|crews| crews.into_iter().collect())),
            allowed_cidrs: self.allowed_cidrs,
            expires_at: self.expires_at.map(|end| end.map(|GivenTime(end)| end)),
        })
    }
}

/// Makes an API key of a workspace. Its secret is in this answer, and never shown again.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/api-keys", tag = "API keys",
    params(("ws" = WorkspaceId, Path), IdempotencyKey), request_body = NewApiKeyBody,
    responses((status = 201, description = "The key, with its secret.", body = ApiKeyBody)),
)]
pub async fn create_api_key(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(workspace): Path<WorkspaceId>,
    body: Json<NewApiKeyBody>,
) -> Result<Created<ApiKeyBody>, Problem> {
    let (request, caller) = writer.making(&body)?;
    let body = body.value;
    let new = NewKey {
        name: values::name("/name", &body.name)?,
        scopes: body.scopes.into_iter().collect(),
        crews: body.crews.map(|crews| crews.into_iter().collect()),
        allowed_cidrs: body.allowed_cidrs.unwrap_or_default(),
        expires_at: body.expires_at.map(|GivenTime(end)| end),
    };
    let written = service
        .create_api_key(&request, &caller, workspace, body.environment, new)
        .await?;
    Ok(ApiKeyBody::created(written))
}

type EndOfPage = Cursor<ApiKeyCursor>;

/// Which keys are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct KeysQuery {
    /// Those that are due to be rotated, by the workspace's policy; `false`: those that are not.
    rotation_due: Option<bool>,
    /// How many items at most.
    #[serde(default)]
    #[param(inline, required = false)]
    limit: Limit,
    /// `next_cursor` of the page before.
    #[param(inline)]
    cursor: Option<EndOfPage>,
    /// The moment that is asked about: a position of the log, or a time. Now, where nobody says.
    #[param(inline)]
    as_of: Option<AsOf>,
}

impl ReadQuery for KeysQuery {
    fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }
}

/// The API keys of a workspace, those that are over included, oldest first.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/api-keys", tag = "API keys",
    params(("ws" = WorkspaceId, Path), KeysQuery, MinimumPosition),
    responses((status = 200, description = "A page of keys.", body = Page<ApiKeyBody>)),
)]
pub async fn list_api_keys(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<KeysQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Page<ApiKeyBody>, Problem> {
    let PrincipalReader {
        request,
        principal,
        query,
    } = reader;
    let cursor = query.cursor.as_ref();
    let after = cursor.map(|cursor| cursor.key.as_ref());
    let (due, limit) = (query.rotation_due, query.limit.count());
    let page = service
        .api_keys_of(&request, &principal, workspace, due, after, limit)
        .await?;
    Ok(Page::keyed::<ApiKeyCursor, _>(page, Into::into))
}

/// An API key of a workspace.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/api-keys/{key}", tag = "API keys",
    params(("ws" = WorkspaceId, Path), ("key" = KeyId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The key.", body = ApiKeyBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_api_key(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path((workspace, key)): Path<(WorkspaceId, KeyId)>,
) -> Result<Resource<ApiKeyBody>, Problem> {
    let found = service
        .api_key(&reader.request, &reader.principal, workspace, key)
        .await?;
    let body = ApiKeyBody::from(found.value);
    Ok(Resource::new(body.version, found.position, body))
}

/// Changes what an API key may, from where, or until when. Its environment stays.
#[utoipa::path(
    patch, path = "/v1/workspaces/{ws}/api-keys/{key}", tag = "API keys",
    params(("ws" = WorkspaceId, Path), ("key" = KeyId, Path), IfMatch, IdempotencyKey),
    request_body = UpdateApiKeyBody,
    responses((
        status = 200, description = "The key as it now is.", body = ApiKeyBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn update_api_key(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((workspace, key)): Path<(WorkspaceId, KeyId)>,
    body: Json<UpdateApiKeyBody>,
) -> Result<Resource<ApiKeyBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let change = body.value.into_change()?;
    let written = service
        .update_api_key(&request, &caller, workspace, key, change)
        .await?;
    Ok(ApiKeyBody::changed(written))
}

/// Revokes an API key: from this answer on it is good for nothing.
#[utoipa::path(
    delete, path = "/v1/workspaces/{ws}/api-keys/{key}", tag = "API keys",
    params(("ws" = WorkspaceId, Path), ("key" = KeyId, Path), IfMatch, IdempotencyKey),
    request_body = Option<ReasonOnly>,
    responses((
        status = 200, description = "The key as it now is.", body = ApiKeyBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn revoke_api_key(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((workspace, key)): Path<(WorkspaceId, KeyId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<Resource<ApiKeyBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .revoke_api_key(&request, &caller, workspace, key)
        .await?;
    Ok(ApiKeyBody::changed(written))
}

/// Makes a successor of an API key, with the same terms and a secret of its own; the key lives
/// on for the grace that is asked for.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/api-keys/{key}/rotate", tag = "API keys",
    params(("ws" = WorkspaceId, Path), ("key" = KeyId, Path), IfMatch, IdempotencyKey),
    request_body = RotateBody,
    responses((status = 201, description = "The successor, with its secret.", body = ApiKeyBody)),
)]
pub async fn rotate_api_key(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((workspace, key)): Path<(WorkspaceId, KeyId)>,
    body: Json<RotateBody>,
) -> Result<Created<ApiKeyBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .rotate_api_key(&request, &caller, workspace, key, body.value.grace_seconds)
        .await?;
    Ok(ApiKeyBody::created(written))
}

/// Makes an API key of an organization. It never reaches into a crew.
#[utoipa::path(
    post, path = "/v1/organizations/{org}/api-keys", tag = "API keys",
    params(("org" = OrganizationId, Path), IdempotencyKey), request_body = NewOrganizationKeyBody,
    responses((status = 201, description = "The key, with its secret.", body = ApiKeyBody)),
)]
pub async fn create_organization_key(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path(organization): Path<OrganizationId>,
    body: Json<NewOrganizationKeyBody>,
) -> Result<Created<ApiKeyBody>, Problem> {
    let (request, caller) = writer.making(&body)?;
    let new = NewKey {
        name: values::name("/name", &body.value.name)?,
        scopes: body.value.scopes.into_iter().collect(),
        crews: None,
        allowed_cidrs: vec![],
        expires_at: body.value.expires_at.map(|GivenTime(end)| end),
    };
    let written = service
        .create_organization_key(&request, &caller, organization, new)
        .await?;
    Ok(ApiKeyBody::created(written))
}

/// The organization's own API keys, those that are over included, oldest first.
#[utoipa::path(
    get, path = "/v1/organizations/{org}/api-keys", tag = "API keys",
    params(("org" = OrganizationId, Path), PageQuery<ApiKeyCursor>, MinimumPosition),
    responses((status = 200, description = "A page of keys.", body = Page<ApiKeyBody>)),
)]
pub async fn list_organization_keys(
    State(service): State<Arc<Service>>,
    reader: Reader<PageQuery<ApiKeyCursor>>,
    Path(organization): Path<OrganizationId>,
) -> Result<Page<ApiKeyBody>, Problem> {
    let Reader {
        request,
        caller,
        query,
    } = reader;
    let (after, limit) = (query.after(), query.limit.count());
    let page = service
        .organization_keys_of(&request, &caller, organization, after, limit)
        .await?;
    Ok(Page::keyed::<ApiKeyCursor, _>(page, Into::into))
}

/// An API key of an organization.
#[utoipa::path(
    get, path = "/v1/organizations/{org}/api-keys/{key}", tag = "API keys",
    params(("org" = OrganizationId, Path), ("key" = KeyId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The key.", body = ApiKeyBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_organization_key(
    State(service): State<Arc<Service>>,
    reader: Reader<MomentQuery>,
    Path((organization, key)): Path<(OrganizationId, KeyId)>,
) -> Result<Resource<ApiKeyBody>, Problem> {
    let found = service
        .organization_key(&reader.request, &reader.caller, organization, key)
        .await?;
    let body = ApiKeyBody::from(found.value);
    Ok(Resource::new(body.version, found.position, body))
}

/// Revokes an API key of an organization: from this answer on it is good for nothing.
#[utoipa::path(
    delete, path = "/v1/organizations/{org}/api-keys/{key}", tag = "API keys",
    params(("org" = OrganizationId, Path), ("key" = KeyId, Path), IfMatch, IdempotencyKey),
    request_body = Option<ReasonOnly>,
    responses((
        status = 200, description = "The key as it now is.", body = ApiKeyBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn revoke_organization_key(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((organization, key)): Path<(OrganizationId, KeyId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<Resource<ApiKeyBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let written = service
        .revoke_organization_key(&request, &caller, organization, key)
        .await?;
    Ok(ApiKeyBody::changed(written))
}

/// Makes a successor of an organization's API key.
#[utoipa::path(
    post, path = "/v1/organizations/{org}/api-keys/{key}/rotate", tag = "API keys",
    params(("org" = OrganizationId, Path), ("key" = KeyId, Path), IfMatch, IdempotencyKey),
    request_body = RotateBody,
    responses((status = 201, description = "The successor, with its secret.", body = ApiKeyBody)),
)]
pub async fn rotate_organization_key(
    State(service): State<Arc<Service>>,
    writer: Writer,
    Path((organization, key)): Path<(OrganizationId, KeyId)>,
    body: Json<RotateBody>,
) -> Result<Created<ApiKeyBody>, Problem> {
    let (request, caller) = writer.changing(&body)?;
    let grace_seconds = body.value.grace_seconds;
    let written = service
        .rotate_organization_key(&request, &caller, organization, key, grace_seconds)
        .await?;
    Ok(ApiKeyBody::created(written))
}

/// A key, and what it is to be good for; what is left out is not asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VerifyApiKey)]
pub struct VerifyBody {
    /// The secret.
    #[schema(value_type = String, max_length = 1024)]
    key: Secret,
    environment: Option<Environment>,
    crew: Option<CrewId>,
    scope: Option<KeyScope>,
    /// Where the caller of the gateway is.
    #[schema(value_type = Option<String>, max_length = 45)]
    ip: Option<IpAddr>,
}

impl Validate for VerifyBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([values::check_token("/key", &self.key)])
    }
}

/// Whether a key is good for what was asked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyVerdict)]
pub struct VerdictBody {
    valid: bool,
    /// `valid`, or the first thing that is wrong: `unknown`, `malformed`, `revoked`, `expired`,
    /// `organization_suspended`, `wrong_environment`, `crew_not_allowed`, `scope_missing`, `ip_not_allowed`.
    #[schema(example = "valid")]
    code: &'static str,
    /// `null` where the secret is of no key, and so below.
    #[schema(required)]
    key_id: Option<KeyId>,
    #[schema(required)]
    organization: Option<OrganizationId>,
    #[schema(required)]
    workspace: Option<WorkspaceId>,
    #[schema(required)]
    environment: Option<Environment>,
    scopes: Vec<KeyScope>,
    #[schema(required)]
    crews: Option<BTreeSet<CrewId>>,
    #[schema(required)]
    expires_at: Option<Time>,
}

impl From<KeyCheck> for VerdictBody {
    fn from(check: KeyCheck) -> Self {
        let key = check.key.as_deref();
        Self {
            valid: check.verdict == KeyVerdict::Valid,
            code: check.verdict.name(),
            key_id: key.map(|key| key.id),
            organization: key.map(|key| key.organization),
            workspace: key.and_then(|key| key.workspace),
            environment: key.and_then(|key| key.environment),
            scopes: key.map_or_else(Vec::new, |key| key.terms.scopes.iter().copied().collect()),
            crews: key.and_then(|key| key.terms.crews.clone()),
            expires_at: key.and_then(|key| key.terms.expires_at).map(Into::into),
        }
    }
}

/// Tells a gateway whether a key is good, and for what. Needs no session: the key is the
/// secret. The answer is `200` whatever the verdict.
#[utoipa::path(
    post, path = "/v1/api-keys/verify", tag = "API keys", security(()),
    request_body = VerifyBody,
    responses((status = 200, description = "The verdict.", body = VerdictBody)),
)]
pub async fn verify_api_key(
    State(service): State<Arc<Service>>,
    _question: Question,
    body: Json<VerifyBody>,
) -> Result<Resource<VerdictBody>, Problem> {
    let body = body.value;
    let question = KeyQuestion {
        key: body.key.into_inner(),
        environment: body.environment,
        crew: body.crew,
        scope: body.scope,
        ip: body.ip,
    };
    let check = service.verify_key(&question).await?;
    Ok(Resource::unversioned(service.position(), check.into()))
}
