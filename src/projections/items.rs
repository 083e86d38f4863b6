//! Agents and pathways as they are now, and every version that one ever had.
//!
//! A version is the sequence of the event that made it, in its crew's stream. Versions stay when
//! what they are of is removed.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, present};
use crate::{
    domain::{
        Timestamp,
        crew::{CrewEvent, Item, ItemEvent, ItemId, ItemKind},
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

/// What happened to a crew, where something did.
fn of_crew(event: &Recorded) -> Option<&CrewEvent> {
    match &event.event {
        Event::Crew(happened) => Some(happened),
        Event::User(_)
        | Event::Organization(_)
        | Event::Workspace(_)
        | Event::Promotion(_)
        | Event::Review(_)
        | Event::Attempts(_)
        | Event::Installation(_) => None,
    }
}

/// The agents and pathways that an event changes.
fn changed(event: &Recorded) -> Vec<ItemId> {
    of_crew(event).map(CrewEvent::items).unwrap_or_default()
}

/// What an event says of one of them.
fn of_item(event: &Recorded, item: ItemId) -> Option<ItemEvent> {
    of_crew(event).and_then(|happened| happened.of(item))
}

/// The item that a key begins with.
fn item_of(key: &str) -> Result<ItemId, CannotFold> {
    let id = key.split_once('/').map_or(key, |(id, _)| id);
    let wrong = |_| CannotFold(format!("{key} is no agent and no pathway"));
    id.parse().map_err(wrong)
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
        changed(event).iter().map(ItemId::to_string).collect()
    }

    fn fold(
        document: Option<ItemDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<ItemDocument>, CannotFold> {
        let Some(happened) = of_item(event, item_of(key)?) else {
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
        let is_there = |item: &ItemId| of_item(event, *item).is_some_and(|it| it.to().is_some());
        let items = changed(event).into_iter().filter(is_there);
        items.map(|item| Self::key(&item, event.sequence)).collect()
    }

    fn fold(
        _document: Option<ItemVersionDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<ItemVersionDocument>, CannotFold> {
        let happened = of_item(event, item_of(key)?);
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
