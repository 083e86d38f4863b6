//! Whether somebody may do something in a workspace, and why. It is asked with a body and
//! writes nothing.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    exchange::Reader,
    fields::{FieldError, Validate},
    headers::MinimumPosition,
    json::Json,
    problem::Problem,
    query::Path,
    respond::Resource,
    values::wrong,
};
use crate::{
    domain::ids::{CrewId, PrincipalId, WorkspaceId},
    service::Service,
};

/// The longest name of an action that is looked at, in characters.
const ACTION_CHARACTERS_MAX: usize = 100;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(can))
}

/// Who is asked about, and what they would do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WhoMay)]
pub struct CanBody {
    /// The id of a person (`usr_…`), or of an API key (`key_…`) for those who may see keys.
    #[schema(value_type = String, max_length = 100, example = "usr_01kax5y3e8f8ttrxvd0v8ypt5n")]
    principal: PrincipalId,
    /// The name of a permission.
    #[schema(min_length = 1, max_length = 100, example = "member.invite")]
    action: String,
    /// In which crew of the workspace. A role holds in all of them, a key in those that it
    /// reaches; what is in a production crew may be protected by the policy (`crew.edit`).
    crew: Option<CrewId>,
}

impl Validate for CanBody {
    fn validate(&self) -> Vec<FieldError> {
        let length = 1..=ACTION_CHARACTERS_MAX;
        wrong([FieldError::check_text("/action", &self.action, length)])
    }
}

/// Whether they may, and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verdict)]
pub struct VerdictBody {
    allowed: bool,
    /// What allows it, since which position and until when; or what is missing.
    because: String,
}

/// Whether somebody may do something in the workspace, and why.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/can", tag = "team",
    params(("ws" = WorkspaceId, Path), MinimumPosition), request_body = CanBody,
    responses((status = 200, description = "Whether they may.", body = VerdictBody)),
)]
pub async fn can(
    State(service): State<Arc<Service>>,
    reader: Reader,
    Path(workspace): Path<WorkspaceId>,
    body: Json<CanBody>,
) -> Result<Resource<VerdictBody>, Problem> {
    let CanBody {
        principal,
        action,
        crew,
    } = body.value;
    let found = service
        .can(
            &reader.request,
            &reader.caller,
            workspace,
            principal,
            &action,
            crew,
        )
        .await?;
    let verdict = VerdictBody {
        allowed: found.value.allowed,
        because: found.value.because,
    };
    Ok(Resource::unversioned(found.position, verdict))
}
