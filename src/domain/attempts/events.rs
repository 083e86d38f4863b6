//! What a known principal tried and was refused, and what they took with them of the log.

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
    /// The audit log was exported, as far as it went then.
    AuditExported {
        organization: OrganizationId,
        actor: Actor,
        /// The workspace or organization whose log it is.
        target: String,
        format: String,
        /// What narrowed it: names of filters, never what they were.
        filters: Vec<String>,
    },
}
