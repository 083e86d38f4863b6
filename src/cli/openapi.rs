//! `crewlog openapi`: the OpenAPI document, as `GET /openapi.json` serves it.

use super::{Failure, Outcome, Output};
use crate::api;

/// Prints the document.
///
/// # Errors
/// When it cannot be written as JSON, or stdout does not take it.
pub fn run(output: Output) -> Result<Outcome, Failure> {
    let document = api::openapi_json().map_err(|error| {
        Failure::could_not_run(format!("the OpenAPI document cannot be written: {error}"))
    })?;
    output.document(&document)?;
    Ok(Outcome::Fine)
}
