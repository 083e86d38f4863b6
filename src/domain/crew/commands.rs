//! What can be asked of a crew.

use super::{
    ConnectionCommand, CrewPlace, CrewProfile, ItemChange, ItemCommand, KnowledgeCommand,
    ProfileChange,
};
use crate::domain::{
    contents::slots::Slot,
    ids::{OrganizationId, PromotionId, WorkspaceId},
    sealed::Sealed,
};

/// Commands to the stream `crew`. Who may ask was decided on the workspace, in the same unit.
#[derive(Debug, Clone, PartialEq)]
pub enum CrewCommand {
    /// Begin the crew. That the workspace has room for it is decided there, in the same unit.
    Create {
        crew: CrewPlace,
        workspace: WorkspaceId,
        organization: OrganizationId,
        profile: CrewProfile,
        description: Option<Sealed>,
    },
    /// Rename or describe it, or say for which client it is. Nothing happens where that is so
    /// already.
    Update { change: ProfileChange },
    /// End it.
    Archive,
    /// Something about one of its agents or pathways.
    Item(ItemCommand),
    /// Something about what joins it to the world.
    Connection(ConnectionCommand),
    /// Something about what it knows.
    Knowledge(KnowledgeCommand),
    /// Change many of its agents and pathways at once, as a promotion says. That the promotion
    /// may be applied is decided on its own stream, in the same unit.
    Promote {
        promotion: PromotionId,
        /// What the contents' version must still be.
        expected: u64,
        changes: Vec<ItemChange>,
        /// What the new contents need of the crew.
        needs: Vec<Slot>,
    },
    /// Make its agents and pathways what they were before a promotion.
    RollBack {
        promotion: PromotionId,
        expected: u64,
        changes: Vec<ItemChange>,
    },
}
