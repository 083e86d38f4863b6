//! The root key: whether there is one, and whether it is the store's.

use std::sync::Arc;

use super::Finding;
use crate::{
    cli::{Failure, Place, root_key},
    journal::{
        SystemSource,
        sealing::{Keyring, KeyringError},
        stores::{Store, StoreError},
    },
};

const PUT_BACK: &str = "put the root key of this store back as root.key in the data folder (mode \
                        0600), or name it with CREWLOG_ROOT_KEY_FILE; without it the log still \
                        verifies, and nothing personal in it can be read";

/// Whether the root key of the store is at hand.
pub async fn root_key(place: &Place, store: &Arc<dyn Store>) -> Result<Vec<Finding>, Failure> {
    let has_one = match Keyring::has_root_key(&**store).await {
        Ok(has_one) => has_one,
        // The table is not there: what is wrong with the schema is told with it.
        Err(StoreError::NotMigrated { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let root = match root_key::present(place) {
        Ok(Some(root)) => root,
        Ok(None) if has_one => {
            let what = "the store has a root key, and there is none here";
            return Ok(vec![Finding::new("root_key_missing", what, PUT_BACK)]);
        }
        Ok(None) => return Ok(Vec::new()),
        Err(failure) => {
            let what = failure.sentence().unwrap_or_default();
            return Ok(vec![Finding::new("root_key_unusable", what, PUT_BACK)]);
        }
    };
    if !has_one {
        return Ok(Vec::new());
    }
    match Keyring::open(store.clone(), Arc::new(SystemSource), &root, false).await {
        Ok(_) => Ok(Vec::new()),
        Err(
            error @ (KeyringError::WrongRootKey
            | KeyringError::Damaged(_)
            | KeyringError::DamagedLookup),
        ) => Ok(vec![Finding::new(
            "root_key_wrong",
            error.to_string(),
            PUT_BACK,
        )]),
        // It is told with what was left half done.
        Err(KeyringError::RotationUnfinished) => Ok(Vec::new()),
        Err(KeyringError::Store(error)) => Err(error.into()),
    }
}
