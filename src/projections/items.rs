//! Agents and pathways as they are now, and every version that one ever had.
//!
//! A version is the sequence of the event that made it, in its crew's stream. Versions stay when
//! what they are of is removed.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        crew::{Item, ItemEvent, ItemId, ItemKind},
        event::Event,
        ids::{CrewId, WorkspaceId},
    },
    journal::Recorded,
};

/// An agent or a pathway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemDocument {
    pub id: ItemId,
    pub crew: CrewId,
    pub workspace: WorkspaceId,
    /// Sequence of the last event that changed it.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub item: Item,
}

/// One version of an agent or a pathway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemVersionDocument {
    pub id: ItemId,
    pub crew: CrewId,
    pub workspace: WorkspaceId,
    pub version: u64,
    pub created_at: Timestamp,
    pub item: Item,
}

/// What an event says of an agent or a pathway, where it is about one.
fn of_item(event: &Recorded) -> Option<ItemEvent> {
    match &event.event {
        Event::Crew(happened) => happened.of_item(),
        Event::User(_) | Event::Organization(_) | Event::Workspace(_) | Event::Attempts(_) => None,
    }
}

/// The crew and the workspace of an event in a crew.
pub(super) fn place(event: &Recorded) -> Result<(CrewId, WorkspaceId), CannotFold> {
    let nowhere = |_| CannotFold(format!("{} is no crew of a workspace", event.aggregate_id));
    let crew = event.aggregate_id.parse().map_err(nowhere)?;
    Ok((crew, event.scope.parse().map_err(nowhere)?))
}

/// See the module.
pub struct Items;

impl Items {
    /// What lists are of: a kind in a crew.
    pub fn parent(crew: &CrewId, kind: ItemKind) -> String {
        format!("{crew}/{}", kind.name())
    }
}

impl Projection for Items {
    type Document = ItemDocument;
    const NAME: &'static str = "crew_items";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        let happened = of_item(event).into_iter();
        happened
            .map(|happened| happened.item().to_string())
            .collect()
    }

    fn fold(
        document: Option<ItemDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<ItemDocument>, CannotFold> {
        let Some(happened) = of_item(event) else {
            return Ok(document);
        };
        match happened {
            ItemEvent::Created(created) => {
                let (crew, workspace) = place(event)?;
                Ok(Some(ItemDocument {
                    id: created.item,
                    crew,
                    workspace,
                    version: event.sequence,
                    created_at: event.recorded_at,
                    updated_at: event.recorded_at,
                    item: created.to,
                }))
            }
            ItemEvent::Updated(updated) => Ok(Some(ItemDocument {
                version: event.sequence,
                updated_at: event.recorded_at,
                item: updated.to,
                ..present(document, key)?
            })),
            ItemEvent::Removed(_) => present(document, key).map(|_| None),
        }
    }

    fn columns(document: &ItemDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            parent: Some(Self::parent(&document.crew, document.id.kind())),
            ..Columns::default()
        }
    }
}

/// See the module.
pub struct ItemVersions;

impl ItemVersions {
    /// The key of one version: keys of one item sort by version.
    pub fn key(item: &ItemId, version: u64) -> String {
        format!("{item}/{version:020}")
    }
}

impl Projection for ItemVersions {
    type Document = ItemVersionDocument;
    const NAME: &'static str = "crew_item_versions";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        let happened = of_item(event).filter(|happened| happened.to().is_some());
        let key = |happened: ItemEvent| Self::key(&happened.item(), event.sequence);
        happened.map(key).into_iter().collect()
    }

    fn fold(
        _document: Option<ItemVersionDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<ItemVersionDocument>, CannotFold> {
        let happened = of_item(event);
        let made = happened.and_then(|happened| Some((happened.item(), happened.to()?.clone())));
        let (id, item) = made.ok_or_else(|| CannotFold(format!("{key} is no version")))?;
        let (crew, workspace) = place(event)?;
        Ok(Some(ItemVersionDocument {
            id,
            crew,
            workspace,
            version: event.sequence,
            created_at: event.recorded_at,
            item,
        }))
    }

    fn columns(document: &ItemVersionDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            parent: Some(document.id.to_string()),
            ..Columns::default()
        }
    }
}
