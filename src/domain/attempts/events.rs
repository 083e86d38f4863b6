//! What a known principal tried and was refused.

use serde::{Deserialize, Serialize};

use crate::domain::{
    authority::Actor,
    environment::Environment,
    ids::{CrewId, OrganizationId},
};

/// Events of the stream `attempts` of a workspace or an organization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AttemptsEvent {
    /// Something was refused: the first time in its minute with count 1, the repeats of
    /// that minute together when it has ended.
    AttemptRefused {
        organization: OrganizationId,
        actor: Actor,
        /// What was tried, named as the audit log names what succeeds: `member.invited`.
        action: String,
        /// What it aimed at: the id of a resource.
        target: String,
        /// The crew that it is, or is in, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        crew: Option<CrewId>,
        /// The environment that it was about, where it was about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment: Option<Environment>,
        /// The stable code that the caller was told.
        code: String,
        /// Minutes since 1970.
        minute: i64,
        count: u64,
        /// Whether these are the repeats of a minute rather than its first.
        repeats: bool,
    },
    /// A report was made that tells who has access. The same question of the same principal is
    /// told once a minute.
    ReportRead {
        organization: OrganizationId,
        actor: Actor,
        /// `access.reported` or `access.compared`.
        action: String,
        /// The id of the workspace.
        target: String,
        question: ReportQuestion,
        /// Minutes since 1970.
        minute: i64,
    },
}

/// What a report was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportQuestion {
    /// The position that it tells of.
    pub position: u64,
    /// The position that it compares with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The only environment that it tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The id of the only person or key that it tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}
