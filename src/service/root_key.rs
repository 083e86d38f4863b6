//! Another root key for a store, by whoever operates it: everything that the present one wraps is
//! wrapped anew under it. See [`rotation`](crate::journal::sealing::rotation) for how, and
//! `docs/decisions/0037-a-root-key-is-rotated-while-nobody-serves.md` for why.
//!
//! Wants the store for itself, and never changes anything in the log.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::signing;
use crate::{
    journal::{
        Source,
        sealing::{
            RootKey,
            rotation::{Rotation, RotationError},
        },
        stores::{Store, postgres::ServingLock},
    },
    projections::Progress,
};

/// What a rotation has done.
#[derive(Debug, Clone)]
pub struct RootKeyRotated {
    /// Keys that it looked at; none where all was done before.
    pub keys: u64,
    /// Keys that open under neither root key and were left as they are, and some of their names.
    pub unopened: (u64, Vec<String>),
    /// That the store had the new key already.
    pub was_done: bool,
    pub elapsed: Duration,
}

/// Puts `new` in the place of `old`, or goes on with where that was begun. `lock` keeps others away
/// where the store itself does not.
///
/// # Errors
/// When the keys are not those of the store or of what was begun, or it cannot be read or written.
pub async fn rotate(
    store: Arc<dyn Store>,
    lock: Option<ServingLock>,
    source: Arc<dyn Source>,
    old: &RootKey,
    new: &RootKey,
    mut told: impl FnMut(Progress) + Send,
) -> Result<RootKeyRotated, RotationError> {
    let started = Instant::now();
    let begun = Rotation::begin(store.clone(), lock, source, old, new).await?;
    let Some(mut rotation) = begun else {
        return Ok(RootKeyRotated {
            keys: 0,
            unopened: (0, Vec::new()),
            was_done: true,
            elapsed: started.elapsed(),
        });
    };
    let (mut keys, all) = (0, rotation.keys().await?);
    while let Some(more) = rotation.step().await? {
        keys += more;
        told(Progress {
            position: keys,
            head: all,
            elapsed: started.elapsed(),
        });
    }
    let signing = signing::wrapped_anew(&*store, &mut rotation).await?;
    Ok(RootKeyRotated {
        unopened: rotation.end(signing).await?,
        keys,
        was_done: false,
        elapsed: started.elapsed(),
    })
}
