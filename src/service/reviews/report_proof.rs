//! What binds a report to the log, in each of its forms, and how that is checked with no server.
//!
//! A report is its body, then a checkpoint, then a statement that the log's key has signed: which
//! report it is, the digest of body and checkpoint, and the size and the root of the checkpoint. A
//! form has exactly one way to put the three together, and a report that is not put together so is
//! not what was sent: so a changed character is found wherever it is.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::{ReportFormat, report::Report, report_html};
use crate::{
    domain::ids::{ReviewId, WorkspaceId},
    journal::entry::to_canonical,
    proofs::note::{self, Checkpoint, STATEMENT, SigningKey, VerifierKey},
    service::{
        ServiceError,
        exports::row,
        offline::{Kept, OfflineReport, held_to, quoted_cell},
    },
};

/// How the body begins, of each form.
const JSON_BEGINS: &str = "{\"report\":";
const CSV_BEGINS: &str = "access_review,";
const HTML_BEGINS: &str = "<!DOCTYPE html>";
/// How the end begins, of each form: nothing in a body can look so.
const JSON_ENDS: &str = ",\"checkpoint\":\"";
const CSV_ENDS: &str = "\r\nstatement,\"";
const HTML_ENDS: &str = "<section id=\"proof\">";

/// What the log's key signs about a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    access_review: ReviewId,
    workspace: WorkspaceId,
    /// How the campaign stood.
    status: String,
    items: u64,
    format: String,
    origin: String,
    tree_size: u64,
    root: String,
    /// Standard base64 of SHA-256(body ‖ 0x00 ‖ checkpoint).
    digest: String,
}

impl About {
    /// What is to be signed about a report of this body and checkpoint.
    pub fn of(
        report: &Report,
        format: ReportFormat,
        checkpoint: &Checkpoint,
        (body, note): (&str, &str),
    ) -> Self {
        Self {
            access_review: report.access_review,
            workspace: report.workspace,
            status: report.status.to_owned(),
            items: report.items.len() as u64,
            format: format.name().to_owned(),
            origin: checkpoint.origin.clone(),
            tree_size: checkpoint.size,
            root: BASE64_STANDARD.encode(checkpoint.root),
            digest: digest(body, note),
        }
    }

    /// The statement.
    ///
    /// # Errors
    /// Never: it is JSON.
    pub fn signed(&self, keys: &[SigningKey]) -> Result<String, ServiceError> {
        let about = to_canonical(self);
        let about = about.map_err(|error| ServiceError::Internal(error.to_string()))?;
        Ok(note::sign(&format!("{STATEMENT}\n{about}\n"), keys))
    }
}

fn digest(body: &str, checkpoint: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(body);
    digest.update([0]);
    digest.update(checkpoint);
    BASE64_STANDARD.encode(digest.finalize())
}

/// A report in one form, whole.
pub fn joined(format: ReportFormat, body: &str, checkpoint: &str, statement: &str) -> String {
    match format {
        ReportFormat::Json => {
            let (checkpoint, statement) = (json!(checkpoint), json!(statement));
            format!("{JSON_BEGINS}{body},\"checkpoint\":{checkpoint},\"statement\":{statement}}}\n")
        }
        ReportFormat::Csv => {
            let end = ["statement", statement, checkpoint].map(str::to_owned);
            format!("{body}{}", row(end))
        }
        ReportFormat::Html => format!("{body}{}", report_html::proof(checkpoint, statement)),
    }
}

/// The body, the checkpoint and the statement of a report.
fn parted(format: ReportFormat, text: &str) -> Option<(&str, String, String)> {
    match format {
        ReportFormat::Json => {
            let at = text.rfind(JSON_ENDS)?;
            let body = text.get(..at)?.strip_prefix(JSON_BEGINS)?;
            let end: Json = serde_json::from_str(&format!("{{{}", text.get(at + 1..)?)).ok()?;
            let member = |name: &str| Some(end.get(name)?.as_str()?.to_owned());
            Some((body, member("checkpoint")?, member("statement")?))
        }
        ReportFormat::Csv => {
            let at = text.rfind(CSV_ENDS)? + 2;
            let (body, end) = text.split_at_checked(at)?;
            let (statement, rest) = quoted_cell(end.strip_prefix("statement,\"")?)?;
            let (checkpoint, _) = quoted_cell(rest.strip_prefix(",\"")?)?;
            Some((body, checkpoint, statement))
        }
        ReportFormat::Html => {
            let (body, end) = text.split_at_checked(text.rfind(HTML_ENDS)?)?;
            let part = |id: &str| {
                let (_, rest) = end.split_once(&format!("<pre id=\"{id}\">"))?;
                Some(unescaped(rest.split_once("</pre>")?.0))
            };
            Some((body, part("checkpoint")?, part("statement")?))
        }
    }
}

fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&quot;", "\"").replace("&amp;", "&")
}

fn format_of(text: &[u8]) -> Option<ReportFormat> {
    let begins = [
        (JSON_BEGINS, ReportFormat::Json),
        (CSV_BEGINS, ReportFormat::Csv),
        (HTML_BEGINS, ReportFormat::Html),
    ];
    let found = begins
        .into_iter()
        .find(|(begin, _)| text.starts_with(begin.as_bytes()));
    found.map(|(_, format)| format)
}

/// Whether a file that begins so is a report on access, or was one.
pub fn is_report(beginning: &[u8]) -> bool {
    format_of(beginning).is_some()
}

/// Verifies a report by the keys of the log, and against a checkpoint that somebody kept.
pub fn verify(text: &[u8], kept: Option<Kept<'_>>, keys: &[VerifierKey]) -> OfflineReport {
    let mut report = OfflineReport::default();
    if let Err(why) = verified(text, kept, keys, &mut report) {
        report.fail(None, None, why);
    }
    report
}

fn verified(
    text: &[u8],
    kept: Option<Kept<'_>>,
    keys: &[VerifierKey],
    report: &mut OfflineReport,
) -> Result<(), String> {
    let text = std::str::from_utf8(text)
        .map_err(|_| "the report is not UTF-8 any more: it was changed".to_owned())?;
    let cut_off = || {
        "the report does not end with its checkpoint and its signed statement: it was changed or cut off"
            .to_owned()
    };
    let format = format_of(text.as_bytes()).ok_or_else(cut_off)?;
    let (body, checkpoint, statement) = parted(format, text).ok_or_else(cut_off)?;
    let signed = note::open(&statement, keys)
        .map_err(|error| format!("the statement at the end: {error}"))?;
    let about = String::from_utf8(signed).unwrap_or_default();
    let about = about.strip_prefix(STATEMENT).map(str::trim);
    let about: Option<Json> = about.and_then(|about| serde_json::from_str(about).ok());
    let read: Option<About> = about
        .clone()
        .and_then(|about| serde_json::from_value(about).ok());
    let read = read.ok_or("the statement at the end is signed, and is of no report on access")?;
    report.entries = read.items;
    report.about = about;
    if read.format != format.name() {
        return Err(format!(
            "the statement is of a report in the form {}",
            read.format
        ));
    }
    if read.digest != digest(body, &checkpoint) {
        return Err("the report is not what was signed: it was changed".to_owned());
    }
    if joined(format, body, &checkpoint, &statement) != text {
        return Err("the report is not byte for byte what was sent: it was changed".to_owned());
    }
    held_to((read.tree_size, &read.root), &checkpoint, kept, keys)?;
    Ok(())
}
