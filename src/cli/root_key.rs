//! Where the root key comes from, and when one is made.
//!
//! `CREWLOG_ROOT_KEY`, else the file that `CREWLOG_ROOT_KEY_FILE` names, else `root.key` in the
//! data folder. That file is made with a store that has never had a key, for its owner alone.
//! Never prints a key, and never replaces one.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::{
    Failure, Place,
    environment::{Setting, refuse_open_to_others, secret_file, setting},
    logging::announce,
};
use crate::journal::{
    Source,
    sealing::{Keyring, RootKey},
    stores::Store,
};

const NAME: &str = "CREWLOG_ROOT_KEY";
/// In the data folder.
pub const FILE: &str = "root.key";

/// The root key of a store; a new store gets a new one.
///
/// # Errors
/// When there is none for a store that has one, others may read its file, or it is malformed.
pub async fn of(place: &Place, store: &dyn Store, source: &dyn Source) -> Result<RootKey, Failure> {
    match setting(NAME)? {
        Some(Setting::Value(text)) => read(&text, NAME),
        Some(Setting::File(file)) => read_file(&file),
        None => {
            let file = place.folder().join(FILE);
            if file.exists() {
                read_file(&file)
            } else if Keyring::has_root_key(store).await? {
                Err(missing(&file))
            } else {
                make(place, source)
            }
        }
    }
}

/// The root key that is at hand, where one is; none is made.
///
/// # Errors
/// When others may read its file, or it is malformed.
pub fn present(place: &Place) -> Result<Option<RootKey>, Failure> {
    let file = place.folder().join(FILE);
    match setting(NAME)? {
        Some(Setting::Value(text)) => read(&text, NAME).map(Some),
        Some(Setting::File(file)) => read_file(&file).map(Some),
        None if file.exists() => read_file(&file).map(Some),
        None => Ok(None),
    }
}

fn missing(file: &Path) -> Failure {
    Failure::could_not_run(format!(
        "the store has a root key, but there is none here: put it back as {}, or set {NAME} or \
         {NAME}_FILE; without it, what is sealed cannot be read again",
        file.display()
    ))
}

fn read(text: &SecretString, place: &str) -> Result<RootKey, Failure> {
    RootKey::from_text(text.expose_secret())
        .map_err(|error| Failure::could_not_run(format!("{place} holds no root key: {error}")))
}

fn read_file(file: &Path) -> Result<RootKey, Failure> {
    refuse_open_to_others(file, "the root key")?;
    read(&secret_file(file)?, &file.display().to_string())
}

fn make(place: &Place, source: &dyn Source) -> Result<RootKey, Failure> {
    place.make_folder()?;
    let key = RootKey::generate(source);
    let file = place.write_private(FILE, &key.to_text())?;
    announce!(
        file = %file.display(),
        "made the root key of the new store; keep a copy of it apart from the backups of the store"
    );
    Ok(key)
}
