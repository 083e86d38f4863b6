//! The crews of a workspace.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    as_of::AsOf,
    exchange::{Command, MomentQuery, PrincipalReader, PrincipalWriter, ReadQuery},
    fields::{FieldCode, FieldError, Validate},
    headers::{IdempotencyKey, IfMatch, MinimumPosition},
    json::Json,
    paging::{CrewCursor, Cursor, Limit},
    problem::Problem,
    query::Path,
    respond::{Created, Page, Resource},
    values::{self, ReasonOnly, Time, present, wrong},
};
use crate::{
    domain::{
        Name,
        crew::{CrewProfile, CrewStatus, DESCRIPTION_CHARACTERS_MAX, naming_warning},
        environment::Environment,
        ids::{CrewId, OrganizationId, WorkspaceId},
    },
    service::{CrewChange, CrewFilter, CrewView, Service, Written},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(create_crew, list_crews))
        .routes(routes!(read_crew, update_crew))
        .routes(routes!(archive_crew))
}

/// One environment of a workspace, and what it holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Crew)]
pub struct CrewBody {
    id: CrewId,
    /// What is in the crew does not change it.
    version: u64,
    created_at: Time,
    updated_at: Time,
    organization: OrganizationId,
    workspace: WorkspaceId,
    #[schema(example = "Acme Corp - Production")]
    name: String,
    environment: Environment,
    /// Whom it is run for.
    #[schema(required)]
    client: Option<String>,
    #[schema(required)]
    description: Option<String>,
    status: CrewStatus,
    /// What would better be otherwise; left out where nothing would.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<WarningBody>,
}

/// Something that is accepted, and would better be otherwise.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Warning)]
pub struct WarningBody {
    /// The stable name.
    #[schema(example = "undescriptive_name")]
    code: &'static str,
    /// An RFC 6901 pointer into the resource.
    pointer: &'static str,
    /// What would be better.
    detail: String,
}

impl From<CrewView> for CrewBody {
    fn from(CrewView { crew, description }: CrewView) -> Self {
        let warning = naming_warning(&crew.profile, crew.place.environment);
        let warnings = warning.map(|detail| WarningBody {
            code: "undescriptive_name",
            pointer: "/name",
            detail,
        });
        Self {
            id: crew.place.id,
            version: crew.version,
            created_at: crew.created_at.into(),
            updated_at: crew.updated_at.into(),
            organization: crew.organization,
            workspace: crew.workspace,
            name: crew.profile.name,
            environment: crew.place.environment,
            client: crew.profile.client,
            description,
            status: crew.status,
            warnings: warnings.into_iter().collect(),
        }
    }
}

impl CrewBody {
    fn changed(written: Written<CrewView>) -> Resource<Self> {
        let body = Self::from(written.value);
        Resource::new(body.version, written.position, body).replayed(written.replayed)
    }
}

/// A new crew.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCrew)]
pub struct NewCrewBody {
    #[schema(min_length = 1, max_length = 120, example = "Acme Corp - Production")]
    name: String,
    /// Of which it is for ever.
    environment: Environment,
    /// Whom it is run for.
    #[schema(min_length = 1, max_length = 120)]
    client: Option<String>,
    /// Shown as it is written.
    #[schema(min_length = 1, max_length = 500)]
    description: Option<String>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

fn check_description(description: Option<&str>) -> Option<FieldError> {
    let length = 1..=DESCRIPTION_CHARACTERS_MAX;
    description.and_then(|text| FieldError::check_text("/description", text, length))
}

fn check_name(pointer: &str, name: Option<&String>) -> Option<FieldError> {
    name.and_then(|name| values::name(pointer, name).err())
}

impl Validate for NewCrewBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            check_name("/name", Some(&self.name)),
            check_name("/client", self.client.as_ref()),
            check_description(self.description.as_deref()),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for NewCrewBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl NewCrewBody {
    /// What it is called and for whom, and what it is for.
    fn into_profile(self) -> Result<(CrewProfile, Option<String>), FieldError> {
        let client = self.client.map(|client| values::name("/client", &client));
        let profile = CrewProfile {
            name: values::name("/name", &self.name)?.into(),
            client: client.transpose()?.map(Into::into),
        };
        Ok((profile, self.description))
    }
}

/// What of a crew is to be changed: at least one member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpdateCrew)]
pub struct UpdateCrewBody {
    #[schema(min_length = 1, max_length = 120)]
    name: Option<String>,
    /// `null`: nobody's in particular.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    client: Option<Option<String>>,
    /// `null`: none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    description: Option<Option<String>>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for UpdateCrewBody {
    fn validate(&self) -> Vec<FieldError> {
        let nothing = self.name.is_none() && self.client.is_none() && self.description.is_none();
        let client = self.client.as_ref().and_then(Option::as_ref);
        let description = self.description.as_ref().and_then(Option::as_deref);
        wrong([
            nothing.then(|| {
                let detail = "say what is to be changed";
                FieldError::new(FieldCode::MissingField, "", detail)
            }),
            check_name("/name", self.name.as_ref()),
            check_name("/client", client),
            check_description(description),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for UpdateCrewBody {
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl UpdateCrewBody {
    fn into_change(self) -> Result<CrewChange, FieldError> {
        let name = self.name.map(|name| values::name("/name", &name));
        let client: Option<Option<Result<Name, _>>> = self
            .client
            .map(|client| client.map(|client| values::name("/client", &client)));
        Ok(CrewChange {
            name: name.transpose()?,
            client: client.map(Option::transpose).transpose()?,
            description: self.description,
        })
    }
}

type EndOfPage = Cursor<CrewCursor>;

/// The name of a client, as crews have it.
#[derive(Debug)]
struct ClientName(Name);

impl<'de> Deserialize<'de> for ClientName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Name::parse(&String::deserialize(deserializer)?);
        name.map(Self).map_err(D::Error::custom)
    }
}

/// What a crew must be to be listed; each condition that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CrewQuery {
    #[param(inline)]
    environment: Option<Environment>,
    #[param(inline)]
    status: Option<CrewStatus>,
    /// Whom they are run for.
    #[param(value_type = Option<String>, min_length = 1, max_length = 120)]
    client: Option<ClientName>,
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

impl ReadQuery for CrewQuery {
    fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }
}

/// Makes a crew.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews", tag = "crews",
    params(("ws" = WorkspaceId, Path), IdempotencyKey), request_body = NewCrewBody,
    responses((status = 201, description = "The new crew.", body = CrewBody)),
)]
pub async fn create_crew(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(workspace): Path<WorkspaceId>,
    body: Json<NewCrewBody>,
) -> Result<Created<CrewBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let environment = body.value.environment;
    let profile = body.value.into_profile()?;
    let written = service
        .create_crew(&request, &principal, workspace, environment, profile)
        .await?;
    let crew = CrewBody::from(written.value);
    let location = format!("/v1/workspaces/{workspace}/crews/{}", crew.id);
    let made = Created::new(location, crew.version, written.position, crew);
    Ok(made.replayed(written.replayed))
}

/// The crews of a workspace, oldest first; those that an API key reaches.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews", tag = "crews",
    params(("ws" = WorkspaceId, Path), CrewQuery, MinimumPosition),
    responses((status = 200, description = "A page of crews.", body = Page<CrewBody>)),
)]
pub async fn list_crews(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<CrewQuery>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Page<CrewBody>, Problem> {
    let query = reader.query;
    let filter = CrewFilter {
        environment: query.environment,
        status: query.status,
        client: query.client.map(|ClientName(name)| name.into()),
    };
    let after = query.cursor.as_ref().map(|cursor| cursor.key.as_ref());
    let page = service
        .crews_of(
            &reader.request,
            &reader.principal,
            workspace,
            &filter,
            (after, query.limit.count()),
        )
        .await?;
    Ok(Page::keyed::<CrewCursor, _>(page, Into::into))
}

/// A crew.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}", tag = "crews",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), MomentQuery, MinimumPosition),
    responses((
        status = 200, description = "The crew.", body = CrewBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn read_crew(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<MomentQuery>,
    Path((workspace, crew)): Path<(WorkspaceId, CrewId)>,
) -> Result<Resource<CrewBody>, Problem> {
    let found = service
        .crew(&reader.request, &reader.principal, workspace, crew)
        .await?;
    let body = CrewBody::from(found.value);
    Ok(Resource::new(body.version, found.position, body))
}

/// Renames or describes a crew, or says for which client it is.
#[utoipa::path(
    patch, path = "/v1/workspaces/{ws}/crews/{crew}", tag = "crews",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), IfMatch, IdempotencyKey),
    request_body = UpdateCrewBody,
    responses((
        status = 200, description = "The crew as it now is.", body = CrewBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn update_crew(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Json<UpdateCrewBody>,
) -> Result<Resource<CrewBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let change = body.value.into_change()?;
    let written = service
        .update_crew(&request, &principal, at, change)
        .await?;
    Ok(CrewBody::changed(written))
}

/// Archives a crew: nothing in it changes any more.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/archive", tag = "crews",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), IfMatch, IdempotencyKey),
    request_body = Option<ReasonOnly>,
    responses((
        status = 200, description = "The crew as it now is.", body = CrewBody,
        headers(("ETag" = String, description = "The version in quotes.")),
    )),
)]
pub async fn archive_crew(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Option<Json<ReasonOnly>>,
) -> Result<Resource<CrewBody>, Problem> {
    let (request, principal) = writer.changing(&body)?;
    let written = service.archive_crew(&request, &principal, at).await?;
    Ok(CrewBody::changed(written))
}
