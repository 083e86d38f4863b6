//! What a command prints on stdout: text for people, or one JSON value for scripts.

use std::io::{ErrorKind, Write};

use serde_json::Value;

use super::Failure;

/// Where results go. A reader that has stopped reading (`| head`) ends the command quietly.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a result in the form that was asked for; the text may have several lines.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn result(self, json: &Value, text: &str) -> Result<(), Failure> {
        if self.json {
            self.document(&json.to_string())
        } else {
            self.document(text)
        }
    }

    /// Prints a document that has only one form, and ends its last line.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn document(self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        write!(stdout, "{text}{end}")
            .and_then(|()| stdout.flush())
            .map_err(|error| match error.kind() {
                ErrorKind::BrokenPipe => Failure::OutputClosed,
                _ => Failure::could_not_run(format!("the output cannot be written: {error}")),
            })
    }
}
