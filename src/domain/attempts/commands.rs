//! What can be asked of the attempts of a workspace or an organization.

use super::ReportQuestion;
use crate::domain::{
    authority::Actor,
    environment::Environment,
    ids::{CrewId, OrganizationId},
};

/// Commands to the stream `attempts`.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptsCommand {
    /// Keep what a known principal was refused. Accepted once for the same actor, action,
    /// target, code, minute and `repeats`: nothing happens the second time.
    Record {
        organization: OrganizationId,
        /// Who was refused.
        actor: Actor,
        /// What was tried, named as the audit log names what succeeds: `member.invited`.
        action: String,
        /// What it aimed at: the id of a resource.
        target: String,
        /// The crew that it is, or is in, where there is one.
        crew: Option<CrewId>,
        /// The environment that it was about, where it was about one.
        environment: Option<Environment>,
        /// The stable code that the caller was told.
        code: String,
        /// Minutes since 1970, by the log's own time, which never goes back: what is
        /// older than both minutes that are remembered is taken for written already.
        minute: i64,
        count: u64,
        /// Whether these are the repeats of a minute rather than its first.
        repeats: bool,
    },
    /// Keep that a report was made. Accepted once for the same actor, action, target, question
    /// and minute.
    RecordReport {
        organization: OrganizationId,
        actor: Actor,
        action: String,
        target: String,
        question: ReportQuestion,
        /// Minutes since 1970, by the log's own time.
        minute: i64,
    },
}
