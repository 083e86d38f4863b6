//! What was begun and not ended. Every kind of work that can be left half done is asked here.

use super::Finding;
use crate::{cli::Failure, journal::stores::Store, projections};

/// Everything that was left half done.
pub async fn all(store: &dyn Store) -> Result<Vec<Finding>, Failure> {
    rebuilds(store).await
}

/// Generations of projections that were filled and do not serve.
async fn rebuilds(store: &dyn Store) -> Result<Vec<Finding>, Failure> {
    let unfinished = projections::unfinished(store).await?;
    if unfinished.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::new(
        "unfinished_rebuild",
        format!("a rebuild of {} was not finished", unfinished.join(", ")),
        "run `crewlog replay` to rebuild them",
    )])
}
