//! Exports of the audit log: streamed page by page, each entry with its exact bytes, and with what
//! proves it to whoever has the log's key and no server ([`super::offline`] verifies).
//!
//! An export is as of one checkpoint. After every page comes one proof for all its entries: the
//! hashes that, with their leaves, make the checkpoint's root. The last line is a statement that
//! the log's key signs: how many entries, from where to where, and the digest of all that was
//! sent. Nothing is held but one page.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::FutureExt;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::{
    AuditEntry, AuditFilter, AuditScope, Order, Principal, Request, Service, ServiceError,
    SignedCheckpoint, ocsf, signing,
    tails::AuditReader,
    write::{Composed, Made, Sender},
};
use crate::{
    domain::{
        attempts::{Attempts, AttemptsCommand},
        ids::EventId,
        sealed::Sealed,
    },
    journal::{StreamRef, entry},
    projections::audit_index,
    proofs::{
        note::{self, Checkpoint, STATEMENT},
        tree::Hash,
    },
};

/// Entries that are proven together, and held at once.
const PAGE: u64 = 256;

/// The columns of a CSV export, each with its place in the entry.
const COLUMNS: [(&str, &str); 21] = [
    ("position", "/position"),
    ("id", "/id"),
    ("recorded_at", "/recorded_at"),
    ("action", "/action"),
    ("outcome", "/outcome"),
    ("actor_type", "/actor/type"),
    ("actor_id", "/actor/id"),
    ("actor_name", "/actor/name"),
    ("target_type", "/target/type"),
    ("target_id", "/target/id"),
    ("target_name", "/target/name"),
    ("organization", "/organization"),
    ("workspace", "/workspace"),
    ("crew", "/crew"),
    ("environment", "/environment"),
    ("break_glass", "/break_glass"),
    ("changes", "/changes"),
    ("reason", "/reason"),
    ("request_id", "/request_id"),
    ("ip", "/ip"),
    ("user_agent", "/user_agent"),
];

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// JSON Lines: each entry whole, with what proves it.
    Jsonl,
    /// For spreadsheets: proven as a whole, by the statement at its end.
    Csv,
    /// For security tools, one event of OCSF a line: proven as a whole, as CSV is.
    Ocsf,
}

impl ExportFormat {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Ocsf => "ocsf",
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Beginning,
    Entries,
    Ended,
}

/// An export that is being sent.
#[derive(Debug)]
pub struct AuditExport {
    reader: AuditReader,
    scope: AuditScope,
    filter: AuditFilter,
    format: ExportFormat,
    filters: Vec<String>,
    checkpoint: SignedCheckpoint,
    root: Hash,
    origin: String,
    stage: Stage,
    /// Of the last entry that was sent.
    cursor: Option<u64>,
    /// The position up to which there is nothing else, where much was looked at for that.
    looked_at: Option<u64>,
    first: Option<u64>,
    entries: u64,
    /// Over everything that was sent.
    digest: Sha256,
    /// Of CSV: over the rows up to here.
    check: Hash,
}

impl AuditExport {
    /// The position that it goes up to.
    pub fn through(&self) -> u64 {
        self.checkpoint.size
    }

    /// The position of the last entry that was sent.
    pub fn position(&self) -> u64 {
        match self.stage {
            Stage::Beginning | Stage::Entries => self.cursor.unwrap_or(0),
            Stage::Ended => self.through(),
        }
    }

    /// Entries that were sent.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    fn scope_id(&self) -> String {
        match self.scope {
            AuditScope::Workspace(id) => id.to_string(),
            AuditScope::Organization(id) => id.to_string(),
        }
    }

    /// Whether it has every entry of a workspace between two positions: then they are a chain.
    fn is_complete(&self) -> bool {
        let ranges = ["from", "to", "after", "before"];
        let narrowed = self.filters.iter().any(|name| !ranges.contains(&&**name));
        matches!(self.scope, AuditScope::Workspace(_)) && !narrowed
    }

    fn about(&self) -> Json {
        json!({
            "scope": self.scope_id(),
            "format": self.format.name(),
            "filters": self.filters,
            "complete": self.is_complete(),
            "origin": self.origin,
            "tree_size": self.checkpoint.size,
            "root": BASE64_STANDARD.encode(self.root),
        })
    }

    fn send(&mut self, text: String) -> Vec<u8> {
        self.digest.update(&text);
        text.into_bytes()
    }
}

/// The names of the filters that are set.
fn names_of(filter: &AuditFilter) -> Vec<String> {
    let set = [
        ("actor", filter.actor.is_some()),
        ("action", filter.action.is_some()),
        ("target", filter.target.is_some()),
        ("crew", filter.crew.is_some()),
        ("environment", filter.environment.is_some()),
        ("outcome", filter.outcome.is_some()),
        ("from", filter.from.is_some()),
        ("to", filter.to.is_some()),
        ("after", filter.after.is_some()),
        ("before", filter.before.is_some()),
        ("q", filter.words.is_some()),
    ];
    let names = set.into_iter().filter(|(_, is_set)| *is_set);
    names.map(|(name, _)| name.to_owned()).collect()
}

fn export_of(
    reader: AuditReader,
    scope: AuditScope,
    filter: AuditFilter,
    format: ExportFormat,
    checkpoint: SignedCheckpoint,
) -> Result<AuditExport, ServiceError> {
    let signed = checkpoint.checkpoint()?;
    let before = filter.before.unwrap_or(u64::MAX).min(signed.size + 1);
    Ok(AuditExport {
        reader,
        scope,
        filters: names_of(&filter),
        filter: AuditFilter {
            order: Order::OldestFirst,
            before: Some(before),
            ..filter
        },
        format,
        checkpoint,
        root: signed.root,
        origin: signed.origin,
        stage: Stage::Beginning,
        cursor: None,
        first: None,
        looked_at: None,
        entries: 0,
        digest: Sha256::new(),
        check: [0; 32],
    })
}

impl Service {
    /// Begins an export, which is an entry of the log itself from here on.
    ///
    /// # Errors
    /// A refusal unless the caller may read this log.
    pub async fn begin_export(
        &self,
        request: &Request,
        principal: &Principal,
        scope: AuditScope,
        filter: AuditFilter,
        format: ExportFormat,
    ) -> Result<AuditExport, ServiceError> {
        self.may_read_audit(request, principal, scope).await?;
        let filters = names_of(&filter);
        let noted = self.note_export(request, principal, scope, format, &filters);
        let position = noted.await?;
        let checkpoint = self.checkpoint_of(position).await?;
        let reader = AuditReader::caller(request, principal);
        export_of(reader, scope, filter, format, checkpoint)
    }

    /// The same for whoever has the store, up to the newest checkpoint that there is: nothing is
    /// written, and so it is no entry. None where no checkpoint was ever made.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn begin_operators_export(
        &self,
        scope: AuditScope,
        filter: AuditFilter,
        format: ExportFormat,
    ) -> Result<Option<AuditExport>, ServiceError> {
        self.has_entries(scope).await?;
        let Some(checkpoint) = self.newest_checkpoint().await? else {
            return Ok(None);
        };
        let reader = AuditReader::Operator;
        export_of(reader, scope, filter, format, checkpoint).map(Some)
    }

    async fn note_export(
        &self,
        request: &Request,
        principal: &Principal,
        scope: AuditScope,
        format: ExportFormat,
        filters: &[String],
    ) -> Result<u64, ServiceError> {
        let (organization, workspace, target) = match scope {
            AuditScope::Workspace(id) => {
                let place = self.known_place(id).await?;
                (place.organization, Some(id), id.to_string())
            }
            AuditScope::Organization(id) => (id, None, id.to_string()),
        };
        let stream = match workspace {
            Some(workspace) => StreamRef::of::<Attempts>(workspace, workspace),
            None => StreamRef::of::<Attempts>(organization, organization),
        };
        let note = AttemptsCommand::NoteExport {
            organization,
            actor: principal.actor(),
            target,
            format: format.name().to_owned(),
            filters: filters.to_vec(),
        };
        let sender = Sender::of(principal);
        let receipt = self.submit(&sender, request, None, || {
            async {
                let origin = self
                    .origin_of(principal, request, Some(organization), workspace)
                    .await?;
                let (reader, stream, note) = (principal.clone(), stream.clone(), note.clone());
                let people = principal.stream();
                Ok(Composed {
                    lane: organization.to_string(),
                    streams: people.into_iter().chain([stream.clone()]).collect(),
                    lookups: vec![],
                    origin,
                    decide: Box::new(move |desk| {
                        reader.is_live(desk)?;
                        desk.execute::<Attempts>(&stream, note.clone(), &[])?;
                        Ok(Made::Nothing.outcome(200))
                    }),
                })
            }
            .boxed()
        });
        Ok(receipt.await?.position)
    }

    /// The next part of an export; none at its end. `shown` says how an entry is shown.
    ///
    /// # Errors
    /// When the store cannot be read, or the reader may not read any more: the export then ends
    /// without its statement.
    pub async fn next_of_export(
        self: &Arc<Self>,
        export: &mut AuditExport,
        shown: fn(AuditEntry) -> Json,
    ) -> Result<Option<Vec<u8>>, ServiceError> {
        match export.stage {
            Stage::Beginning => {
                export.stage = Stage::Entries;
                let head = match export.format {
                    // Every line is an event, the last as well.
                    ExportFormat::Ocsf => String::new(),
                    ExportFormat::Jsonl => line(&json!({"export": export.about()})),
                    ExportFormat::Csv => {
                        let names = COLUMNS.map(|(name, _)| name.to_owned()).into_iter();
                        row(names.chain(["leaf", "check"].map(str::to_owned)))
                    }
                };
                Ok(Some(export.send(head)))
            }
            Stage::Entries => {
                if self.stopping.is_cancelled() {
                    return Err(ServiceError::Unavailable("the server stops".to_owned()));
                }
                self.still_reads(&export.reader, export.scope).await?;
                let behind = export.cursor.max(export.looked_at);
                let search = self.audit_search(export.scope, &export.filter, behind);
                let store = &**self.journal.store();
                let found = audit_index::positions(store, &search.await?, PAGE).await?;
                export.looked_at = found.value.stopped_at;
                let entries = self.entries(&found.value.positions).await?;
                let Some(last) = entries.last() else {
                    if export.looked_at.is_some() {
                        return Ok(Some(vec![]));
                    }
                    export.stage = Stage::Ended;
                    return Ok(Some(self.statement(export).await?));
                };
                export.cursor = Some(last.position);
                export.first = export.first.or(entries.first().map(|entry| entry.position));
                export.entries += entries.len() as u64;
                let text = match export.format {
                    ExportFormat::Jsonl => self.proven_lines(export, entries, shown).await?,
                    ExportFormat::Csv => rows(export, entries, shown),
                    ExportFormat::Ocsf => events(export, &entries),
                };
                Ok(Some(export.send(text)))
            }
            Stage::Ended => Ok(None),
        }
    }

    async fn proven_lines(
        &self,
        export: &AuditExport,
        entries: Vec<AuditEntry>,
        shown: fn(AuditEntry) -> Json,
    ) -> Result<String, ServiceError> {
        let size = export.checkpoint.size;
        let indexes: Vec<_> = entries.iter().map(|entry| entry.position - 1).collect();
        let leaves: Vec<_> = entries
            .iter()
            .map(|entry| BASE64_STANDARD.encode(entry.leaf))
            .collect();
        let set = self
            .transparency
            .tree
            .ask(size, |tiles| tiles.set(&indexes, size));
        let hashes = set.await?;
        let hashes = hashes
            .ok_or_else(|| ServiceError::Internal("an entry beyond its checkpoint".to_owned()))?;
        let (mut text, mut lines) = (String::new(), Vec::new());
        for entry in entries {
            let openings = self.openings(entry.id, &entry.sealed).await?;
            let canonical = entry.canonical.clone();
            let sent = line(&json!({
                "entry": shown(entry), "canonical": canonical, "openings": openings,
            }));
            lines.push(line_check(&sent));
            text.push_str(&sent);
        }
        let positions: Vec<_> = indexes.iter().map(|index| index + 1).collect();
        let hashes: Vec<_> = hashes
            .iter()
            .map(|hash| BASE64_STANDARD.encode(hash))
            .collect();
        text.push_str(&line(&json!({
            "proof": {
                "positions": positions, "leaves": leaves, "hashes": hashes, "lines": lines,
            },
        })));
        Ok(text)
    }

    /// What is sealed in an entry, with what it was committed to; without what was erased.
    async fn openings(
        &self,
        event: EventId,
        sealed: &[(String, Sealed)],
    ) -> Result<Vec<Json>, ServiceError> {
        let mut openings = Vec::with_capacity(sealed.len());
        for (field, sealed) in sealed {
            let key = self.keyring.key(sealed.subject, sealed.key_version).await?;
            let Some(key) = key else {
                continue;
            };
            let opened = key.open_for_others(sealed, event, field);
            let (random, value) = opened.map_err(|error| {
                ServiceError::Internal(format!("field {field} of event {event}: {error}"))
            })?;
            openings.push(json!({
                "commitment": sealed.commitment,
                "random": BASE64_STANDARD.encode(random),
                "value": value,
            }));
        }
        Ok(openings)
    }

    /// The end: what was sent, signed by the log's key, and the checkpoint.
    async fn statement(&self, export: &AuditExport) -> Result<Vec<u8>, ServiceError> {
        let mut about = export.about();
        about["entries"] = json!(export.entries);
        about["first"] = json!(export.first);
        about["last"] = json!(export.cursor);
        about["digest"] = json!(BASE64_STANDARD.encode(export.digest.clone().finalize()));
        let about = entry::to_canonical(&about);
        let about = about.map_err(|error| ServiceError::Internal(error.to_string()))?;
        let keys = signing::signing(&**self.journal.store(), &self.keyring).await?;
        let statement = note::sign(&format!("{STATEMENT}\n{about}\n"), &keys);
        let end = match export.format {
            ExportFormat::Jsonl => line(&json!({
                "statement": statement, "checkpoint": export.checkpoint.note,
            })),
            ExportFormat::Ocsf => {
                let now_ms = self.source().now().0.div_euclid(1_000);
                line(&ocsf::statement(
                    &statement,
                    &export.checkpoint.note,
                    now_ms,
                ))
            }
            ExportFormat::Csv => row([
                "statement".to_owned(),
                statement,
                export.checkpoint.note.clone(),
            ]),
        };
        Ok(end.into_bytes())
    }
}

impl AuditExport {
    /// What its checkpoint says.
    ///
    /// # Errors
    /// Never for one that was begun.
    pub fn checkpoint(&self) -> Result<Checkpoint, ServiceError> {
        self.checkpoint.checkpoint()
    }
}

/// What tells whether a line is as it was sent; the whole of them is what is signed.
pub(super) fn line_check(line: &str) -> String {
    BASE64_STANDARD.encode(&Sha256::digest(line.trim_end())[..12])
}

fn line(json: &Json) -> String {
    format!("{json}\n")
}

/// The rows of entries, each with its leaf and a check over itself and all before it.
fn rows(
    export: &mut AuditExport,
    entries: Vec<AuditEntry>,
    shown: fn(AuditEntry) -> Json,
) -> String {
    let mut text = String::new();
    for entry in entries {
        let leaf = BASE64_STANDARD.encode(entry.leaf);
        let entry = shown(entry);
        let cells = COLUMNS.map(|(_, place)| cell_of(entry.pointer(place)));
        let cells = row(cells.into_iter().chain([leaf]));
        export.check = check_after(export.check, &cells);
        let check = BASE64_STANDARD.encode(&export.check[..12]);
        text.push_str(&format!("{},{check}\r\n", cells.trim_end()));
    }
    text
}

/// Events of OCSF, each with a check over itself and all before it.
fn events(export: &mut AuditExport, entries: &[AuditEntry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let mut event = ocsf::event(entry);
        export.check = check_after(export.check, &event.to_string());
        event["unmapped"]["check"] = json!(BASE64_STANDARD.encode(&export.check[..12]));
        text.push_str(&line(&event));
    }
    text
}

/// What a row's check is made of: the check before it, and the row without its own.
pub(super) fn check_after(before: Hash, cells: &str) -> Hash {
    let mut digest = Sha256::new();
    digest.update(before);
    digest.update(cells.trim_end());
    digest.finalize().into()
}

fn cell_of(value: Option<&Json>) -> String {
    match value {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A row as RFC 4180 has it. What a spreadsheet would take for a formula gets an apostrophe
/// before it, which shows it as text.
pub(super) fn row(cells: impl IntoIterator<Item = String>) -> String {
    let escaped = cells.into_iter().map(|cell| {
        let runs = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let cell = if runs { format!("'{cell}") } else { cell };
        match cell.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell,
        }
    });
    format!("{}\r\n", escaped.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_run() {
        let cells = [
            "=1+1", "+1", "-1", "@x", "\tx", "a,b", "a\"b", "a\nb", "plain",
        ];
        let row = row(cells.map(str::to_owned));
        assert_eq!(
            row,
            "'=1+1,'+1,'-1,'@x,'\tx,\"a,b\",\"a\"\"b\",\"a\nb\",plain\r\n"
        );
    }
}
