//! What was begun and not ended. Every kind of work that can be left half done is asked here.

use super::Finding;
use crate::{
    cli::Failure,
    journal::stores::Store,
    projections::{self, Unfinished},
};

/// Everything that was left half done.
pub async fn all(store: &dyn Store) -> Result<Vec<Finding>, Failure> {
    rebuilds(store).await
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
