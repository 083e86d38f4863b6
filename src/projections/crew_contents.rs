//! Of which version the contents of each crew are: what promotions are made for. There from the
//! first agent or pathway on.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, items::place};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::{CrewId, WorkspaceId},
    },
    journal::Recorded,
};

/// The version of a crew's contents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrewContentsDocument {
    pub crew: CrewId,
    pub workspace: WorkspaceId,
    /// Sequence of the last event that changed an agent or a pathway.
    pub version: u64,
    pub updated_at: Timestamp,
}

/// See the module.
pub struct CrewContents;

impl CrewContents {
    /// The events of a crew's stream that change it; the last of them says all of it.
    pub const EVENT_TYPES: [&str; 8] = [
        "agent_created",
        "agent_updated",
        "agent_removed",
        "pathway_created",
        "pathway_updated",
        "pathway_removed",
        "crew_promoted",
        "crew_rolled_back",
    ];
}

impl Projection for CrewContents {
    type Document = CrewContentsDocument;
    const NAME: &'static str = "crew_contents";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        match &event.event {
            Event::Crew(happened)
                if happened.of_item().is_some() || happened.promoted().is_some() =>
            {
                vec![event.aggregate_id.clone()]
            }
            Event::Crew(_)
            | Event::User(_)
            | Event::Organization(_)
            | Event::Workspace(_)
            | Event::Promotion(_)
            | Event::Review(_)
            | Event::Attempts(_)
            | Event::Installation(_) => vec![],
        }
    }

    fn fold(
        _document: Option<CrewContentsDocument>,
        _key: &str,
        event: &Recorded,
    ) -> Result<Option<CrewContentsDocument>, CannotFold> {
        let (crew, workspace) = place(event)?;
        Ok(Some(CrewContentsDocument {
            crew,
            workspace,
            version: event.sequence,
            updated_at: event.recorded_at,
        }))
    }

    fn columns(document: &CrewContentsDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            ..Columns::default()
        }
    }
}
