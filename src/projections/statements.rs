//! The statements of closed months. They outlive their workspace: what was used is still due.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::{OrganizationId, WorkspaceId},
        usage::{Month, Statement},
        workspace::WorkspaceEvent,
    },
    journal::Recorded,
};

/// A statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementDocument {
    pub workspace: WorkspaceId,
    pub organization: Option<OrganizationId>,
    /// Sequence of the event that it is.
    pub version: u64,
    pub created_at: Timestamp,
    pub statement: Statement,
}

/// See the module.
pub struct Statements;

impl Statements {
    /// Where the statement of a month is.
    pub fn key(workspace: &WorkspaceId, month: Month) -> String {
        format!("{workspace}/{month}")
    }
}

impl Projection for Statements {
    type Document = StatementDocument;
    const NAME: &'static str = "statements";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::Workspace(WorkspaceEvent::UsageMonthClosed { statement }) => {
                vec![format!("{}/{}", event.aggregate_id, statement.month)]
            }
            Event::Workspace(_)
            | Event::User(_)
            | Event::Organization(_)
            | Event::Crew(_)
            | Event::Promotion(_)
            | Event::Review(_)
            | Event::Attempts(_)
            | Event::Installation(_) => vec![],
        }
    }

    fn fold(
        document: Option<StatementDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<StatementDocument>, CannotFold> {
        let Event::Workspace(WorkspaceEvent::UsageMonthClosed { statement }) = &event.event else {
            return Ok(document);
        };
        if document.is_some() {
            return Err(CannotFold(format!("{key} has been closed before")));
        }
        let workspace = event.aggregate_id.parse();
        Ok(Some(StatementDocument {
            workspace: workspace.map_err(|_| CannotFold(format!("{key} is of no workspace")))?,
            organization: event.metadata.organization,
            version: event.sequence,
            created_at: event.recorded_at,
            statement: statement.clone(),
        }))
    }

    fn columns(document: &StatementDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            parent: Some(document.workspace.to_string()),
            ..Columns::default()
        }
    }
}
