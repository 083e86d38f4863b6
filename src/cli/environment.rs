//! Settings from the environment that may be secrets, and may come from a file instead.

use std::path::{Path, PathBuf};

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
