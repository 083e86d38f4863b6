//! Slots: how a content names what it needs of its crew, `{"$slot": "integration/crm"}`, so that
//! it means the same in every environment.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::Value;

use super::{Finding, below};
use crate::domain::{bundle::ItemKey, crew::ItemKind};

/// The member that makes an object a slot; it has no other.
pub const SLOT: &str = "$slot";
/// The longest name in a slot, in characters.
const NAME_CHARACTERS_MAX: usize = 120;

/// What a slot is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotKind {
    Integration,
    PhoneNumber,
    Channel,
    WebhookEndpoint,
    KnowledgeBase,
    /// Another agent, which promotes itself.
    Agent,
    /// A pathway, which promotes itself.
    Pathway,
}

impl SlotKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Integration,
        Self::PhoneNumber,
        Self::Channel,
        Self::WebhookEndpoint,
        Self::KnowledgeBase,
        Self::Agent,
        Self::Pathway,
    ];

    /// The name in a slot.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integration => "integration",
            Self::PhoneNumber => "phone-number",
            Self::Channel => "channel",
            Self::WebhookEndpoint => "webhook-endpoint",
            Self::KnowledgeBase => "knowledge-base",
            Self::Agent => "agent",
            Self::Pathway => "pathway",
        }
    }
}

/// Something that a content needs of its crew: the kind and the name of it there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub kind: SlotKind,
    pub name: String,
}

impl Slot {
    /// The agent or pathway that it names, where it names one.
    pub fn item(&self) -> Option<ItemKey> {
        let kind = match self.kind {
            SlotKind::Agent => ItemKind::Agent,
            SlotKind::Pathway => ItemKind::Pathway,
            SlotKind::Integration
            | SlotKind::PhoneNumber
            | SlotKind::Channel
            | SlotKind::WebhookEndpoint
            | SlotKind::KnowledgeBase => return None,
        };
        Some(ItemKey::new(kind, self.name.clone()))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.name(), self.name)
    }
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl FromStr for Slot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = SlotKind::ALL.map(SlotKind::name).join(", ");
        let wrong = || format!("a kind, `/` and a name; the kinds are {kinds}");
        let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
        let kind = SlotKind::ALL.into_iter().find(|known| known.name() == kind);
        let length = name.chars().count();
        let fits =
            (1..=NAME_CHARACTERS_MAX).contains(&length) && !name.chars().any(char::is_control);
        Ok(Self {
            kind: kind.ok_or_else(wrong)?,
            name: fits.then(|| name.to_owned()).ok_or_else(wrong)?,
        })
    }
}

/// The slots of a content.
///
/// # Errors
/// Every place where something is meant as a slot and is none.
pub fn slots(content: &Value) -> Result<BTreeSet<Slot>, Vec<Finding>> {
    let (mut slots, mut wrong) = (BTreeSet::new(), Vec::new());
    collect(content, "", &mut slots, &mut wrong);
    match wrong.is_empty() {
        true => Ok(slots),
        false => Err(wrong),
    }
}

fn collect(value: &Value, pointer: &str, slots: &mut BTreeSet<Slot>, wrong: &mut Vec<Finding>) {
    match value {
        Value::Object(members) => match members.get(SLOT) {
            Some(named) => match slot(named, members.len()) {
                Ok(slot) => drop(slots.insert(slot)),
                Err(detail) => wrong.push(Finding {
                    pointer: below(pointer, SLOT),
                    detail,
                }),
            },
            None => {
                for (name, member) in members {
                    collect(member, &below(pointer, name), slots, wrong);
                }
            }
        },
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &format!("{pointer}/{index}"), slots, wrong);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn slot(named: &Value, members: usize) -> Result<Slot, String> {
    if members != 1 {
        return Err("a slot has no other member".to_owned());
    }
    let text = named.as_str().ok_or("a slot is named by a text")?;
    text.parse()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn slots_are_collected_wherever_they_are() {
        let content = json!({
            "tools": [{"$slot": "integration/crm"}, {"of": {"$slot": "knowledge-base/FAQ / de"}}],
            "again": {"$slot": "integration/crm"},
        });
        let found: Vec<_> = slots(&content)
            .unwrap()
            .iter()
            .map(Slot::to_string)
            .collect();
        assert_eq!(found, ["integration/crm", "knowledge-base/FAQ / de"]);
    }

    #[test]
    fn what_is_meant_as_a_slot_and_is_none_is_pointed_at() {
        for wrong in [
            json!({"a": [{"$slot": "integration/crm", "x": 1}]}),
            json!({"a": [{"$slot": 1}]}),
            json!({"a": [{"$slot": "integration"}]}),
            json!({"a": [{"$slot": "integration/"}]}),
            json!({"a": [{"$slot": "secret/crm"}]}),
        ] {
            let found = slots(&wrong).unwrap_err();
            assert_eq!(found.len(), 1, "{wrong}");
            assert_eq!(found[0].pointer, "/a/0/$slot");
        }
    }
}
