//! What agents and pathways have in common over HTTP: their shapes, and what may be in them.
//!
//! Their routes are in [`super::item_routes`].

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use super::{
    exchange::Command,
    fields::{FieldCode, FieldError, Validate},
    json::Object,
    problem::Problem,
    values::{self, Time, wrong},
};
use crate::{
    domain::{
        contents::{CONTENT_BYTES_MAX, Finding, secrets, slots},
        ids::{CrewId, WorkspaceId},
    },
    service::{ItemDraft, ItemVersionView, ItemView},
};

/// The largest body: a configuration that is spelled less shortly than its canonical form, and
/// what is around it.
pub const ITEM_BODY_BYTES_MAX: usize = 2 * CONTENT_BYTES_MAX;

/// An agent or a pathway. Lists leave out what it says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CrewItem)]
pub struct ItemBody {
    pub(super) id: String,
    pub(super) version: u64,
    created_at: Time,
    updated_at: Time,
    workspace: WorkspaceId,
    crew: CrewId,
    name: String,
    /// SHA-256 of the configuration's RFC 8785 form, in standard base64.
    digest: String,
    /// Of that form, in bytes.
    size: u64,
    /// What it is made of; in the answer of one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, required = false)]
    config: Option<Box<RawValue>>,
}

impl TryFrom<ItemView> for ItemBody {
    type Error = Problem;

    fn try_from(view: ItemView) -> Result<Self, Problem> {
        let item = view.item;
        Ok(Self {
            id: item.id.to_string(),
            version: item.version,
            created_at: item.created_at.into(),
            updated_at: item.updated_at.into(),
            workspace: item.workspace,
            crew: item.crew,
            name: item.item.name,
            digest: item.item.content.digest.to_string(),
            size: item.item.content.size,
            config: raw(view.config)?,
        })
    }
}

/// One version of an agent or a pathway. Lists leave out what it says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CrewItemVersion)]
pub struct ItemVersionBody {
    id: String,
    pub(super) version: u64,
    created_at: Time,
    workspace: WorkspaceId,
    crew: CrewId,
    name: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, required = false)]
    config: Option<Box<RawValue>>,
}

impl TryFrom<ItemVersionView> for ItemVersionBody {
    type Error = Problem;

    fn try_from(view: ItemVersionView) -> Result<Self, Problem> {
        let version = view.version;
        Ok(Self {
            id: version.id.to_string(),
            version: version.version,
            created_at: version.created_at.into(),
            workspace: version.workspace,
            crew: version.crew,
            name: version.item.name,
            digest: version.item.content.digest.to_string(),
            size: version.item.content.size,
            config: raw(view.config)?,
        })
    }
}

/// A content goes out byte for byte.
fn raw(config: Option<String>) -> Result<Option<Box<RawValue>>, Problem> {
    let raw = config.map(RawValue::from_string).transpose();
    raw.map_err(|error| Problem::internal(&error))
}

/// Why a production crew is changed directly, against its workspace's policy. It is the entry's
/// reason, and every later review shows it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BreakGlass)]
pub struct BreakGlassBody {
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// What an agent or a pathway is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCrewItem)]
pub struct ItemDraftBody {
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// An object of at most 256 KiB in its RFC 8785 form. What it needs of its crew is named by a
    /// slot, `{"$slot": "integration/crm"}`; it holds no credentials.
    #[schema(value_type = Object)]
    config: Value,
    #[schema(value_type = Option<BreakGlassBody>)]
    break_glass: Option<Object<BreakGlassBody>>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

fn check_glass(glass: Option<&Object<BreakGlassBody>>) -> Option<FieldError> {
    FieldError::check_why("/break_glass/reason", &glass?.0.reason)
}

fn found(code: FieldCode, findings: Vec<Finding>) -> impl Iterator<Item = FieldError> {
    findings.into_iter().map(move |finding| {
        FieldError::new(code, format!("/config{}", finding.pointer), finding.detail)
    })
}

impl Validate for ItemDraftBody {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = wrong([
            values::name("/name", &self.name).err(),
            (!self.config.is_object())
                .then(|| FieldError::new(FieldCode::WrongType, "/config", "an object")),
            check_glass(self.break_glass.as_ref()),
            FieldError::check_reason(self.reason.as_deref()),
        ]);
        errors.extend(found(FieldCode::SecretFound, secrets::find(&self.config)));
        if let Err(findings) = slots::slots(&self.config) {
            errors.extend(found(FieldCode::InvalidValue, findings));
        }
        errors
    }
}

impl Command for ItemDraftBody {
    fn reason(&self) -> Option<&str> {
        let glass = self.break_glass.as_ref();
        glass
            .map(|glass| glass.0.reason.as_str())
            .or(self.reason.as_deref())
    }
}

impl ItemDraftBody {
    pub(super) fn into_draft(self) -> Result<ItemDraft, FieldError> {
        Ok(ItemDraft {
            name: values::name("/name", &self.name)?,
            config: self.config,
            breaks_glass: self.break_glass.is_some(),
        })
    }
}

/// Why something in a crew is removed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RemoveCrewItem)]
pub struct RemoveItemBody {
    #[schema(value_type = Option<BreakGlassBody>)]
    break_glass: Option<Object<BreakGlassBody>>,
    /// Why; kept in the audit log.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl Validate for RemoveItemBody {
    fn validate(&self) -> Vec<FieldError> {
        wrong([
            check_glass(self.break_glass.as_ref()),
            FieldError::check_reason(self.reason.as_deref()),
        ])
    }
}

impl Command for RemoveItemBody {
    fn reason(&self) -> Option<&str> {
        let glass = self.break_glass.as_ref();
        glass
            .map(|glass| glass.0.reason.as_str())
            .or(self.reason.as_deref())
    }
}

impl RemoveItemBody {
    pub(super) fn breaks_glass(&self) -> bool {
        self.break_glass.is_some()
    }
}
