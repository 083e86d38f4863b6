//! What a crew fills slots with.
//!
//! To add a kind of things that slots name: its variant in [`SlotKind`], and its arm here.

use super::{Connections, Crew, ItemKind, Items};
use crate::domain::contents::slots::{Slot, SlotKind};

impl Crew {
    /// The slots that the crew would not fill, if its agents and pathways were `items`.
    pub fn missing(&self, needs: &[Slot], items: &Items) -> Vec<Slot> {
        let lacks = |slot: &&Slot| !self.fills(slot, items);
        needs.iter().filter(lacks).cloned().collect()
    }

    fn fills(&self, slot: &Slot, items: &Items) -> bool {
        match slot.kind {
            SlotKind::Agent => items.is_named(ItemKind::Agent, &slot.name),
            SlotKind::Pathway => items.is_named(ItemKind::Pathway, &slot.name),
            SlotKind::Integration
            | SlotKind::PhoneNumber
            | SlotKind::Channel
            | SlotKind::WebhookEndpoint => self.connections.fill(slot),
            SlotKind::KnowledgeBase => self.knowledge.is_named(&slot.name),
        }
    }
}

impl Connections {
    /// Whether one of them is what a slot names.
    fn fill(&self, slot: &Slot) -> bool {
        self.all().any(|(_, connection)| connection.fills(slot))
    }
}
