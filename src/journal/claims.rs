//! Claims: who holds what others may not have as well, read and changed inside the append.
//!
//! The table is what was written; here is what the units of a batch see of it: with what units
//! before them, and the batch that is on its way, have changed. Which claims may stand side by
//! side is the domain's ([`crate::domain::claims`]), asked by the unit before it takes one.

use std::collections::HashMap;

use super::stores::{Row, Statement, Store, StoreError, Value};
use crate::domain::{
    Timestamp,
    claims::{Claim, Claimant, RESTS_FOR},
    crew::CrewPlace,
    ids::{CrewId, WorkspaceId},
};

/// The scope of what is claimed for the whole installation; it rests when it is freed.
pub const INSTALLATION: &str = "installation";

/// What is claimed: a row of `claims` for each who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimKey {
    /// The workspace, or [`INSTALLATION`].
    pub scope: String,
    pub kind: &'static str,
    pub value: String,
}

/// Whose claims are freed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// Those of one holder.
    Holder(String),
    /// Those of all that a crew holds.
    Crew(CrewId),
    /// Those of all that a workspace holds.
    Workspace(WorkspaceId),
}

impl Release {
    fn is_of(&self, claimant: &Claimant) -> bool {
        match self {
            Self::Holder(holder) => claimant.holder == *holder,
            Self::Crew(crew) => claimant.crew.id == *crew,
            Self::Workspace(workspace) => claimant.workspace == *workspace,
        }
    }

    /// What frees them where they are kept: what had one owner rests, all else is gone.
    fn statements(&self, rests_until: Timestamp) -> [Statement; 2] {
        let (rest, free, id) = match self {
            Self::Holder(holder) => (REST_OF_HOLDER, FREE_OF_HOLDER, holder.clone()),
            Self::Crew(crew) => (REST_OF_CREW, FREE_OF_CREW, crew.to_string()),
            Self::Workspace(id) => (REST_OF_WORKSPACE, FREE_OF_WORKSPACE, id.to_string()),
        };
        [
            Statement::new(rest, [id.clone().into(), rests_until.0.into()]),
            Statement::new(free, [id.into()]),
        ]
    }

    fn apply(&self, key: &ClaimKey, present: &mut Vec<Claim>, rests_until: Timestamp) {
        let is_freed = |claim: &Claim| claim.rests_until.is_none() && self.is_of(&claim.by);
        if key.scope == INSTALLATION {
            let freed = present.iter_mut().filter(|claim| is_freed(claim));
            freed.for_each(|claim| claim.rests_until = Some(rests_until));
        } else {
            present.retain(|claim| !is_freed(claim));
        }
    }
}

/// What the units of a draft have looked up, and what they have changed.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: HashMap<ClaimKey, Vec<Claim>>,
    /// What they freed, and until when it rests: also of what is looked up later.
    freed: Vec<(Release, Timestamp)>,
    /// As it was before the unit that is being decided.
    undo: Vec<(ClaimKey, Vec<Claim>)>,
    freed_before: usize,
}

impl Claims {
    pub(super) fn get(&self, key: &ClaimKey) -> Option<&[Claim]> {
        self.held.get(key).map(Vec::as_slice)
    }

    /// Looks up who holds what, after the batch that is on its way.
    pub(super) async fn look_up(
        &mut self,
        store: &dyn Store,
        key: &ClaimKey,
        undelivered: Option<&Self>,
    ) -> Result<(), StoreError> {
        if self.held.contains_key(key) {
            return Ok(());
        }
        let known = undelivered.and_then(|undelivered| undelivered.held.get(key));
        let mut present = match (known, undelivered) {
            (Some(known), _) => known.clone(),
            (None, undelivered) => {
                let mut present = read(store, key).await?;
                for (release, until) in undelivered.into_iter().flat_map(|other| &other.freed) {
                    release.apply(key, &mut present, *until);
                }
                present
            }
        };
        for (release, until) in &self.freed {
            release.apply(key, &mut present, *until);
        }
        self.held.insert(key.clone(), present);
        Ok(())
    }

    /// A unit begins: what it changes can be undone.
    pub(super) fn begin(&mut self) {
        self.undo.clear();
        self.freed_before = self.freed.len();
    }

    /// The unit was refused.
    pub(super) fn undo(&mut self) {
        for (key, before) in self.undo.drain(..).rev() {
            self.held.insert(key, before);
        }
        self.freed.truncate(self.freed_before);
    }

    /// Notes that `claimant` holds it from now on; answers what has that written. What rested
    /// is over: whoever takes it may.
    pub(super) fn claim(&mut self, key: &ClaimKey, claimant: Claimant) -> Vec<Statement> {
        let held = self.held.get_mut(key).expect(NAMED);
        let is_live = |claim: &Claim| claim.rests_until.is_none();
        if held
            .iter()
            .any(|claim| is_live(claim) && claim.by == claimant)
        {
            return vec![];
        }
        self.undo.push((key.clone(), held.clone()));
        held.retain(is_live);
        let row = insert(key, &claimant);
        let (by, rests_until) = (claimant, None);
        held.push(Claim { by, rests_until });
        vec![end_rest(key), row]
    }

    /// Notes that these are freed at `now`; answers what has that written.
    pub(super) fn release(&mut self, release: Release, now: Timestamp) -> [Statement; 2] {
        let until = now.plus(RESTS_FOR);
        for (key, held) in &mut self.held {
            if held.iter().any(|claim| release.is_of(&claim.by)) {
                self.undo.push((key.clone(), held.clone()));
                release.apply(key, held, until);
            }
        }
        let statements = release.statements(until);
        self.freed.push((release, until));
        statements
    }
}

/// Forgets at most so many whose rest was over at `now`: by the log's time, which no claim is
/// decided before.
pub fn forget_rested(now: Timestamp, most: u64) -> Statement {
    Statement::new(FORGET_RESTED, [now.0.into(), most.into()])
}

/// The words of a panic: a mistake of whoever composed the unit.
pub(super) const NAMED: &str = "a unit names every look-up that it makes";

async fn read(store: &dyn Store, key: &ClaimKey) -> Result<Vec<Claim>, StoreError> {
    let rows = store.query(SELECT_CLAIMS, key_of(key).to_vec()).await?;
    rows.iter().map(claim_of).collect()
}

fn claim_of(row: &Row) -> Result<Claim, StoreError> {
    Ok(Claim {
        by: Claimant {
            holder: row.text(0)?.to_owned(),
            workspace: row.parsed(1)?,
            crew: CrewPlace {
                id: row.parsed(2)?,
                environment: row.parsed(3)?,
            },
        },
        rests_until: row.optional_integer(4)?.map(Timestamp),
    })
}

fn key_of(key: &ClaimKey) -> [Value; 3] {
    [
        key.scope.clone().into(),
        key.kind.into(),
        key.value.clone().into(),
    ]
}

fn end_rest(key: &ClaimKey) -> Statement {
    Statement::new(END_REST, key_of(key))
}

fn insert(key: &ClaimKey, claimant: &Claimant) -> Statement {
    let [scope, kind, value] = key_of(key);
    let parameters = [
        scope,
        kind,
        value,
        claimant.holder.clone().into(),
        claimant.workspace.to_string().into(),
        claimant.crew.id.to_string().into(),
        claimant.crew.environment.name().into(),
    ];
    Statement::new(INSERT_CLAIM, parameters)
}

const SELECT_CLAIMS: &str = "
SELECT holder, workspace, crew, environment, rests_until
  FROM claims
 WHERE scope = $1 AND kind = $2 AND value = $3
 ORDER BY holder";

const END_REST: &str = "
DELETE FROM claims
 WHERE scope = $1 AND kind = $2 AND value = $3 AND rests_until IS NOT NULL";

const INSERT_CLAIM: &str = "
INSERT INTO claims (scope, kind, value, holder, workspace, crew, environment)
VALUES ($1, $2, $3, $4, $5, $6, $7)";

const FORGET_RESTED: &str = "
DELETE FROM claims
 WHERE (scope, kind, value, holder) IN (SELECT scope, kind, value, holder
                                          FROM claims
                                         WHERE rests_until <= $1
                                         LIMIT $2)";

const REST_OF_HOLDER: &str = "
UPDATE claims SET rests_until = $2
 WHERE holder = $1 AND scope = 'installation' AND rests_until IS NULL";

const FREE_OF_HOLDER: &str = "
DELETE FROM claims
 WHERE holder = $1 AND scope <> 'installation'";

const REST_OF_CREW: &str = "
UPDATE claims SET rests_until = $2
 WHERE crew = $1 AND scope = 'installation' AND rests_until IS NULL";

const FREE_OF_CREW: &str = "
DELETE FROM claims
 WHERE crew = $1 AND scope <> 'installation'";

const REST_OF_WORKSPACE: &str = "
UPDATE claims SET rests_until = $2
 WHERE workspace = $1 AND scope = 'installation' AND rests_until IS NULL";

const FREE_OF_WORKSPACE: &str = "
DELETE FROM claims
 WHERE scope = $1";
