//! What was begun and not ended. Every kind of work that can be left half done is asked here.

use super::Finding;
use crate::{
    cli::Failure,
    journal::{
        sealing::rotation,
        stores::{SealState, Store, seal_of},
    },
    projections::{self, Unfinished},
};

/// Everything that was left half done.
pub async fn all(store: &dyn Store) -> Result<Vec<Finding>, Failure> {
    let mut findings = rebuilds(store).await?;
    findings.extend(transfer(store).await?);
    findings.extend(root_key(store).await?);
    Ok(findings)
}

/// A rotation of the root key that has not come to its end.
async fn root_key(store: &dyn Store) -> Result<Option<Finding>, Failure> {
    Ok(rotation::is_under_way(store).await?.then(|| {
        Finding::new(
            "unfinished_rotation",
            "a rotation of the root key has not ended; nobody can serve from the store",
            "run `crewlog keys rotate-root --new-root-key-file FILE` again, with the old root key in \
             its place and the file that it was begun with",
        )
    }))
}

/// A move or a restore that has not come to its end, and what is served from elsewhere.
async fn transfer(store: &dyn Store) -> Result<Option<Finding>, Failure> {
    let Some(seal) = seal_of(store).await? else {
        return Ok(None);
    };
    let other = &seal.other;
    Ok(match seal.state {
        SealState::Arrived => None,
        SealState::Arriving => Some(Finding::new(
            "unfinished_transfer",
            format!("the store is being filled from {other}, and is not whole"),
            "run the same `crewlog move` or `crewlog restore` again, which goes on with it; to give \
             it up, drop this store: the other is as it was",
        )),
        SealState::Moved => Some(Finding::new(
            "store_sealed",
            format!("the store was moved; its log goes on at {other}"),
            "name the new place with --data or --database-url; this one can still be read",
        )),
        SealState::Backup => Some(Finding::new(
            "store_sealed",
            "the store is a backup",
            "to serve from it, restore it into a place of its own: `crewlog restore`",
        )),
    })
}

/// Rebuilds of projections that nobody works on.
async fn rebuilds(store: &dyn Store) -> Result<Vec<Finding>, Failure> {
    let (what, what_to_do) = match projections::unfinished(store).await? {
        None => return Ok(Vec::new()),
        Some(Unfinished::LeftAlone(status)) => (
            format!(
                "a rebuild of {} was left at position {} of {}, and nobody works on it",
                status.names.join(", "),
                status.position,
                status.head
            ),
            format!(
                "run `crewlog replay{}`, which goes on with it, or `crewlog replay --cancel`, which \
                 removes what there is of it",
                match status.names.as_slice() {
                    [name] => format!(" {name}"),
                    _ => String::new(),
                }
            ),
        ),
        Some(Unfinished::Left(names)) => (
            format!("tables of {} are left that do not serve", names.join(", ")),
            "run `crewlog replay --cancel`, which removes them".to_owned(),
        ),
    };
    Ok(vec![Finding::new("unfinished_rebuild", what, what_to_do)])
}
