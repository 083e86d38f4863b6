//! Settings from the environment that may be secrets, and may come from a file instead.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::Failure;

/// Where a setting was found.
#[derive(Debug)]
pub enum Setting {
    /// In the variable itself.
    Value(SecretString),
    /// In the file that the variable `…_FILE` names.
    File(PathBuf),
}

/// The setting `name`, or the file that `name_FILE` names; an empty variable is none.
///
/// # Errors
/// When both are set, or one is not text.
pub fn setting(name: &str) -> Result<Option<Setting>, Failure> {
    let file_name = format!("{name}_FILE");
    match (variable(name)?, variable(&file_name)?) {
        (None, None) => Ok(None),
        (Some(value), None) => Ok(Some(Setting::Value(value.into()))),
        (None, Some(file)) => Ok(Some(Setting::File(file.into()))),
        (Some(_), Some(_)) => Err(Failure::used_wrongly(format!(
            "{name} and {file_name} are both set; set only one of them"
        ))),
    }
}

fn variable(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::used_wrongly(format!(
            "{name} is not valid UTF-8; set it anew"
        ))),
    }
}

/// The text of a file that holds a secret, without the blanks around it.
///
/// # Errors
/// When it cannot be read.
pub fn secret_file(path: &Path) -> Result<SecretString, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned().into()),
        Err(error) => Err(Failure::could_not_run(format!(
            "the file {} cannot be read: {error}",
            path.display()
        ))),
    }
}

/// Refuses a file with a secret that others than its owner can read or write.
///
/// # Errors
/// Where they can, or the file cannot be looked at.
pub fn refuse_open_to_others(file: &Path, what: &str) -> Result<(), Failure> {
    let shown = file.display();
    let metadata = std::fs::metadata(file).map_err(|error| {
        Failure::could_not_run(format!("the file {shown} cannot be read: {error}"))
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure::could_not_run(format!(
            "{what} {shown} can be read or written by others (mode {mode:04o}); run `chmod 600 {shown}`"
        )));
    }
    Ok(())
}
