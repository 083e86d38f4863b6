//! What of a crew promotes: its agents and pathways. Both are documents with a name that is
//! unique among its kind in the crew; what they say is a content, known here by its digest.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::domain::{
    Name, Refusal,
    contents::Content,
    ids::{AgentId, InvalidId, PathwayId},
};

/// The most agents, and the most pathways, of one crew.
pub const ITEMS_MAX: usize = 10_000;

/// A kind of what promotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    Agent,
    Pathway,
}

impl ItemKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Agent, Self::Pathway];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Pathway => "pathway",
        }
    }
}

/// The id of an agent or a pathway; its prefix says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemId {
    Agent(AgentId),
    Pathway(PathwayId),
}

impl ItemId {
    /// What it is the id of.
    pub fn kind(self) -> ItemKind {
        match self {
            Self::Agent(_) => ItemKind::Agent,
            Self::Pathway(_) => ItemKind::Pathway,
        }
    }
}

impl From<AgentId> for ItemId {
    fn from(id: AgentId) -> Self {
        Self::Agent(id)
    }
}

impl From<PathwayId> for ItemId {
    fn from(id: PathwayId) -> Self {
        Self::Pathway(id)
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => id.fmt(formatter),
            Self::Pathway(id) => id.fmt(formatter),
        }
    }
}

impl FromStr for ItemId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('_').map(|(prefix, _)| prefix) {
            Some(PathwayId::PREFIX) => text.parse().map(Self::Pathway),
            _ => text.parse().map(Self::Agent),
        }
    }
}

impl Serialize for ItemId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ItemId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// What an agent or a pathway is at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    pub name: String,
    pub content: Content,
}

/// An agent or a pathway was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemCreated {
    pub item: ItemId,
    pub to: Item,
}

/// It is called otherwise, or says something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemUpdated {
    pub item: ItemId,
    pub from: Item,
    pub to: Item,
}

/// It is there no more; its versions can still be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemRemoved {
    pub item: ItemId,
    pub from: Item,
}

/// What an agent or a pathway was and becomes, where several change at once. None: it is not
/// there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemChange {
    pub item: ItemId,
    pub from: Option<Item>,
    pub to: Option<Item>,
}

impl ItemChange {
    /// What it is, one by one; nothing where nothing changes.
    pub fn event(&self) -> Option<ItemEvent> {
        let item = self.item;
        match (self.from.clone(), self.to.clone()) {
            (None, Some(to)) => Some(ItemEvent::Created(ItemCreated { item, to })),
            (Some(from), Some(to)) => Some(ItemEvent::Updated(ItemUpdated { item, from, to })),
            (Some(from), None) => Some(ItemEvent::Removed(ItemRemoved { item, from })),
            (None, None) => None,
        }
    }
}

/// Any of them, between a crew and its items.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemEvent {
    Created(ItemCreated),
    Updated(ItemUpdated),
    Removed(ItemRemoved),
}

impl ItemEvent {
    /// Which agent or pathway.
    pub fn item(&self) -> ItemId {
        match self {
            Self::Created(event) => event.item,
            Self::Updated(event) => event.item,
            Self::Removed(event) => event.item,
        }
    }

    /// What it is after the event; none where it is there no more.
    pub fn to(&self) -> Option<&Item> {
        match self {
            Self::Created(event) => Some(&event.to),
            Self::Updated(event) => Some(&event.to),
            Self::Removed(_) => None,
        }
    }

    /// What it was before the event; none where it was not there.
    pub fn from(&self) -> Option<&Item> {
        match self {
            Self::Created(_) => None,
            Self::Updated(event) => Some(&event.from),
            Self::Removed(event) => Some(&event.from),
        }
    }
}

/// Commands about agents and pathways.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemCommand {
    Create {
        item: ItemId,
        name: Name,
        content: Content,
    },
    /// Nothing happens where it is so already.
    Update {
        item: ItemId,
        name: Name,
        content: Content,
    },
    Remove {
        item: ItemId,
    },
}

/// The agents and pathways of a crew, folded from its events: no two of a kind have one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Items(BTreeMap<ItemId, Item>);

impl Items {
    /// All of them, in the order of their ids, agents first.
    pub fn all(&self) -> impl Iterator<Item = (ItemId, &Item)> {
        self.0.iter().map(|(id, item)| (*id, item))
    }

    /// Whether there is one of this name.
    pub fn is_named(&self, kind: ItemKind, name: &str) -> bool {
        let is_it = |(id, item): (&ItemId, &Item)| id.kind() == kind && item.name == name;
        self.0.iter().any(is_it)
    }

    /// What they are after `changes`, each of which must be from what is there.
    ///
    /// # Errors
    /// [`Refusal::CrewMoved`] where one is not; the rules of every item.
    pub(super) fn changed(&self, changes: &[ItemChange]) -> Result<Self, Refusal> {
        let mut changed = self.0.clone();
        for change in changes {
            let present = match &change.to {
                Some(to) => changed.insert(change.item, to.clone()),
                None => changed.remove(&change.item),
            };
            if present != change.from {
                return Err(Refusal::CrewMoved);
            }
        }
        for kind in ItemKind::ALL {
            let of_kind = changed.iter().filter(|(id, _)| id.kind() == kind);
            let names: Vec<&str> = of_kind.map(|(_, item)| item.name.as_str()).collect();
            let what = kind.name();
            if names.len() > ITEMS_MAX {
                let limit = ITEMS_MAX;
                return Err(Refusal::TooManyItems { what, limit });
            }
            let different: std::collections::BTreeSet<_> = names.iter().collect();
            if different.len() < names.len() {
                return Err(Refusal::NameTaken { what });
            }
        }
        Ok(Self(changed))
    }

    pub(super) fn decide(&self, command: ItemCommand) -> Result<Vec<ItemEvent>, Refusal> {
        match command {
            ItemCommand::Create {
                item,
                name,
                content,
            } => {
                let what = item.kind().name();
                if self.0.contains_key(&item) {
                    return Err(Refusal::AlreadyExists { what });
                }
                let of_kind = self.0.keys().filter(|id| id.kind() == item.kind());
                if of_kind.count() >= ITEMS_MAX {
                    let limit = ITEMS_MAX;
                    return Err(Refusal::TooManyItems { what, limit });
                }
                self.name_is_free(item, &name)?;
                let name = name.into();
                let to = Item { name, content };
                Ok(vec![ItemEvent::Created(ItemCreated { item, to })])
            }
            ItemCommand::Update {
                item,
                name,
                content,
            } => {
                let from = self.known(item)?.clone();
                self.name_is_free(item, &name)?;
                let name = name.into();
                let to = Item { name, content };
                if from == to {
                    return Ok(vec![]);
                }
                Ok(vec![ItemEvent::Updated(ItemUpdated { item, from, to })])
            }
            ItemCommand::Remove { item } => {
                let from = self.known(item)?.clone();
                Ok(vec![ItemEvent::Removed(ItemRemoved { item, from })])
            }
        }
    }

    fn known(&self, item: ItemId) -> Result<&Item, Refusal> {
        self.0.get(&item).ok_or(Refusal::NotFound {
            what: item.kind().name(),
            hidden: false,
        })
    }

    fn name_is_free(&self, item: ItemId, name: &Name) -> Result<(), Refusal> {
        let taken = self.0.iter().any(|(id, other)| {
            *id != item && id.kind() == item.kind() && other.name == name.as_str()
        });
        match taken {
            true => Err(Refusal::NameTaken {
                what: item.kind().name(),
            }),
            false => Ok(()),
        }
    }

    pub(super) fn apply_changes(&mut self, changes: Vec<ItemChange>) {
        for change in changes {
            match change.to {
                Some(to) => drop(self.0.insert(change.item, to)),
                None => drop(self.0.remove(&change.item)),
            }
        }
    }

    pub(super) fn apply(&mut self, event: ItemEvent) {
        match event {
            ItemEvent::Created(event) => drop(self.0.insert(event.item, event.to)),
            ItemEvent::Updated(event) => drop(self.0.insert(event.item, event.to)),
            ItemEvent::Removed(event) => drop(self.0.remove(&event.item)),
        }
    }

    pub(super) fn weight_bytes(&self) -> usize {
        // An id, a digest, a name of some length, and their share of the node.
        self.0.len() * 192
    }
}
