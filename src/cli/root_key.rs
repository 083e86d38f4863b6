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
    place::write_private,
};
use crate::journal::{
    Source,
    sealing::{Keyring, RootKey, rotation::RotationError},
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

/// The root key that is at hand for a store that has one; none is made.
///
/// # Errors
/// When there is none, others may read its file, or it is malformed.
pub async fn of_store(place: &Place, store: &dyn Store) -> Result<RootKey, Failure> {
    match present(place)? {
        Some(root) => Ok(root),
        None if Keyring::has_root_key(store).await? => Err(missing(&place.folder().join(FILE))),
        None => Err(RotationError::NoRootKey.into()),
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

/// Reads a file with a root key.
///
/// # Errors
/// When it cannot be read, others may read it, or it holds something else.
pub fn read_file(file: &Path) -> Result<RootKey, Failure> {
    refuse_open_to_others(file, "the root key")?;
    read(&secret_file(file)?, &file.display().to_string())
}

/// Makes a root key in a file that is not there yet.
///
/// # Errors
/// When it cannot be written.
pub fn make_in(file: &Path, source: &dyn Source) -> Result<(), Failure> {
    write_private(file, &RootKey::generate(source).to_text())?;
    announce!(file = %file.display(), "made a new root key");
    Ok(())
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

/// That the key can go where the store goes: a folder that a store is moved into gets the key file of
/// the folder that it leaves, unless the key comes from the environment.
///
/// # Errors
/// When another key is there.
pub fn may_come_along(from: &Place, to: &Place) -> Result<(), Failure> {
    let (old, new) = (from.folder().join(FILE), to.folder().join(FILE));
    if setting(NAME)?.is_some() || !old.exists() || !new.exists() {
        return Ok(());
    }
    let (old, present) = (read_file(&old)?, read_file(&new)?);
    match *old.to_text() == *present.to_text() {
        true => Ok(()),
        false => Err(Failure::could_not_run(format!(
            "there is another root key in {}; name a folder without one",
            new.display()
        ))),
    }
}

/// Copies the key file of a folder into the one that its store was moved into; says so.
///
/// # Errors
/// When it cannot be read or written.
pub fn bring_along(from: &Place, to: &Place) -> Result<Option<String>, Failure> {
    let (old, new) = (from.folder().join(FILE), to.folder().join(FILE));
    if setting(NAME)?.is_some() || !old.exists() || new.exists() {
        return Ok(None);
    }
    to.write_private(FILE, &read_file(&old)?.to_text())?;
    Ok(Some(format!(
        "the root key was copied to {}; remove the old one when you do not need it",
        new.display()
    )))
}
