//! How crews came to be what they are by promotion: what was applied to each and rolled back, in
//! order. What was promoted is the promotion's own document's to tell.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::{CrewId, PromotionId},
        promotion::PromotionEvent,
    },
    journal::Recorded,
};

/// What happened to a crew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Promoted,
    RolledBack,
}

impl ChangeKind {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// A change of a crew by a promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangelogDocument {
    pub crew: CrewId,
    /// The version of the crew's contents since.
    pub version: u64,
    pub promotion: PromotionId,
    pub change: ChangeKind,
    pub at: Timestamp,
}

/// See the module.
pub struct Changelog;

/// What an event says of a crew: how it changed, and the version since.
fn of_crew(event: &Recorded) -> Option<(CrewId, ChangeKind, u64)> {
    match &event.event {
        Event::Promotion(PromotionEvent::PromotionApplied {
            target, version, ..
        }) => Some((*target, ChangeKind::Promoted, *version)),
        Event::Promotion(PromotionEvent::PromotionRolledBack {
            target, version, ..
        }) => Some((*target, ChangeKind::RolledBack, *version)),
        Event::Promotion(_)
        | Event::Review(_)
        | Event::User(_)
        | Event::Organization(_)
        | Event::Workspace(_)
        | Event::Crew(_)
        | Event::Attempts(_)
        | Event::Installation(_) => None,
    }
}

impl Projection for Changelog {
    type Document = ChangelogDocument;
    const NAME: &'static str = "changelog";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        // Zeros before it, so that keys of one crew sort as versions do.
        let key = |(crew, _, version): (CrewId, _, u64)| format!("{crew}/{version:020}");
        of_crew(event).map(key).into_iter().collect()
    }

    fn fold(
        _document: Option<ChangelogDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<ChangelogDocument>, CannotFold> {
        let wrong = || CannotFold(format!("{key} is no change of a crew"));
        let (crew, change, version) = of_crew(event).ok_or_else(wrong)?;
        Ok(Some(ChangelogDocument {
            crew,
            version,
            promotion: event.aggregate_id.parse().map_err(|_| wrong())?,
            change,
            at: event.recorded_at,
        }))
    }

    fn columns(document: &ChangelogDocument) -> Columns {
        Columns {
            parent: Some(document.crew.to_string()),
            ..Columns::default()
        }
    }
}
