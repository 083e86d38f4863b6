//! What crews may not share: the rules, given who holds what now.
//!
//! The rules are asked inside the append that takes a claim ([`crate::journal::Desk::claims`]),
//! on the newest state; keeping who holds what is the journal's.

use chrono::TimeDelta;

use super::{Refusal, Timestamp, crew::CrewPlace, environment::Environment, ids::WorkspaceId};

/// How long what had one owner in the installation rests before another workspace can have it.
pub const RESTS_FOR: TimeDelta = TimeDelta::days(1);

/// Who takes a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// The id of what of the crew it is claimed by.
    pub holder: String,
    pub crew: CrewPlace,
    pub workspace: WorkspaceId,
}

/// A claim that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub by: Claimant,
    /// Freed, but not for other workspaces until then.
    pub rests_until: Option<Timestamp>,
}

/// Who may hold the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One in the whole installation.
    OneOwner,
    /// Crews of one workspace, where all of them are production's, or none.
    ProductionApart,
}

impl Sharing {
    /// That `claimant` may hold what is held by `present` at `now`. `sees` says whether whoever
    /// asks may know of a crew of the claimant's workspace.
    ///
    /// # Errors
    /// [`Refusal::AlreadyClaimed`], [`Refusal::ClaimRests`] and [`Refusal::ProductionApart`].
    pub fn allows(
        self,
        what: &'static str,
        present: &[Claim],
        claimant: &Claimant,
        now: Timestamp,
        sees: &dyn Fn(CrewPlace) -> bool,
    ) -> Result<(), Refusal> {
        let of_others = present
            .iter()
            .filter(|claim| claim.by.holder != claimant.holder);
        for claim in of_others {
            let is_ours = claim.by.workspace == claimant.workspace;
            let owner = Some(claim.by.crew)
                .filter(|crew| is_ours && sees(*crew))
                .map(|crew| crew.id);
            match (self, claim.rests_until) {
                (Self::OneOwner, None) => return Err(Refusal::AlreadyClaimed { what, owner }),
                (Self::OneOwner, Some(until)) if until > now && !is_ours => {
                    return Err(Refusal::ClaimRests { what, until });
                }
                (Self::ProductionApart, None) if is_apart(claim.by.crew, claimant.crew) => {
                    return Err(Refusal::ProductionApart { what, owner });
                }
                (Self::OneOwner | Self::ProductionApart, _) => {}
            }
        }
        Ok(())
    }
}

/// Whether one of them is production's, and the other is not.
fn is_apart(one: CrewPlace, other: CrewPlace) -> bool {
    let is_production = |crew: CrewPlace| crew.environment == Environment::Production;
    is_production(one) != is_production(other)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{ids::CrewId, testing::workspace};

    fn claimant(number: u128, environment: Environment) -> Claimant {
        Claimant {
            holder: format!("holder {number}"),
            crew: CrewPlace {
                id: CrewId::from_uuid(Uuid::from_u128(number)),
                environment,
            },
            workspace: workspace(1 + number / 10),
        }
    }

    fn held(by: Claimant) -> Claim {
        let rests_until = None;
        Claim { by, rests_until }
    }

    #[test]
    fn what_has_one_owner_is_shared_by_nobody_and_the_owner_told_to_whom_may_see_it() {
        let one = held(claimant(1, Environment::Staging));
        let ask = |by, sees: bool| {
            let present = std::slice::from_ref(&one);
            Sharing::OneOwner.allows("number", present, &by, Timestamp(5), &|_| sees)
        };
        let refused = |owner| {
            Err(Refusal::AlreadyClaimed {
                what: "number",
                owner,
            })
        };
        let second = claimant(2, Environment::Staging);
        assert_eq!(ask(second.clone(), true), refused(Some(one.by.crew.id)));
        assert_eq!(ask(second, false), refused(None));
        // Of another workspace, whatever they may see in theirs.
        let elsewhere = claimant(11, Environment::Staging);
        assert_eq!(ask(elsewhere, true), refused(None));
        assert_eq!(ask(one.by.clone(), true), Ok(()));
    }

    #[test]
    fn what_was_freed_rests_for_others() {
        let freed = Claim {
            rests_until: Some(Timestamp(10)),
            ..held(claimant(1, Environment::Staging))
        };
        let ask = |by, now: i64| {
            let present = std::slice::from_ref(&freed);
            Sharing::OneOwner.allows("number", present, &by, Timestamp(now), &|_| true)
        };
        assert_eq!(ask(claimant(2, Environment::Production), 9), Ok(()));
        let rests = Refusal::ClaimRests {
            what: "number",
            until: Timestamp(10),
        };
        assert_eq!(ask(claimant(11, Environment::Staging), 9), Err(rests));
        assert_eq!(ask(claimant(11, Environment::Staging), 10), Ok(()));
    }

    #[test]
    fn all_are_productions_or_none() {
        use Environment::{Development, Production, Staging};
        for (present, asking, is_allowed) in [
            (Production, Production, true),
            (Production, Staging, false),
            (Production, Development, false),
            (Staging, Production, false),
            (Staging, Development, true),
            (Development, Staging, true),
        ] {
            let present = [held(claimant(1, present))];
            let by = claimant(2, asking);
            let asked =
                Sharing::ProductionApart.allows("channel", &present, &by, Timestamp(1), &|_| true);
            assert_eq!(asked.is_ok(), is_allowed, "{present:?} {asking:?}");
        }
    }
}
