//! Verifying an export with no server: by the export, a key that somebody had before, and a
//! checkpoint, which the export brings or somebody kept.
//!
//! What each check finds:
//! - an entry's bytes against its leaf in the log: **changed**, **added**;
//! - the leaves that are proven against the entries that are there: **removed**, **moved**;
//! - the chain of a workspace: **removed**, where every entry should be there;
//! - what is shown against the bytes, and opened values against their commitments: **changed**;
//! - the signed statement against all of it: **cut off**, and everything else.
//!
//! Reads line by line and holds one page of entries. Trusts nothing in the file but by the key.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufRead},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value as Json, json, value::RawValue};
use sha2::{Digest, Sha256};

use super::{
    exports::{check_after, line_check},
    reviews::{is_report, verify_report},
};
use crate::{
    domain::{Timestamp, authority::Actor, ids::EventId, sealed::Sealed},
    journal::{Recorded, entry::EventRow},
    projections::audit::{Shown, describe},
    proofs::{
        note::{self, Checkpoint, STATEMENT, VerifierKey},
        tiles::{is_consistent, root_of_set},
        tree::{Hash, leaf_hash},
    },
};

/// Failures that are told; the rest are counted.
const FAILURES_TOLD: usize = 50;

/// Something that is not as it was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfflineFailure {
    /// The position in the log, where it is known.
    pub position: Option<u64>,
    /// The line of the file, where there is one.
    pub line: Option<u64>,
    pub detail: String,
}

/// What verifying an export has found.
#[derive(Debug, Clone, Default)]
pub struct OfflineReport {
    pub entries: u64,
    /// What the export says of itself, where its signature holds.
    pub about: Option<Json>,
    /// Values that were opened, and held against their commitments.
    pub opened: u64,
    /// Names that are shown and come from elsewhere in the log: nothing here proves them.
    pub names_told: u64,
    pub failing: u64,
    pub failures: Vec<OfflineFailure>,
}

impl OfflineReport {
    /// Whether everything is as it was exported.
    pub fn holds(&self) -> bool {
        self.failing == 0
    }

    pub(super) fn fail(
        &mut self,
        position: Option<u64>,
        line: Option<u64>,
        detail: impl Into<String>,
    ) {
        self.failing += 1;
        if self.failures.len() < FAILURES_TOLD {
            let detail = detail.into();
            self.failures.push(OfflineFailure {
                position,
                line,
                detail,
            });
        }
    }
}

/// What the key has signed about an export.
#[derive(Debug, Deserialize)]
struct About {
    format: String,
    complete: bool,
    tree_size: u64,
    root: String,
    entries: u64,
    last: Option<u64>,
    digest: String,
}

/// A checkpoint that somebody kept, to hold an export to.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    pub checkpoint: &'a str,
    /// Where it is of another size than the export: that the log of the smaller is the beginning
    /// of the log of the larger, as `GET /v1/log/proof/consistency` answers it.
    pub consistency: Option<&'a str>,
}

/// A proof of consistency, as it is answered.
#[derive(Debug, Deserialize)]
struct ConsistencyProof {
    from: u64,
    to: u64,
    hashes: Vec<String>,
}

/// Verifies an export, or a report on access.
///
/// Without a checkpoint that was kept, the one that the export brings must do, and `keys` alone
/// are trusted. `open` opens the file, more than once.
///
/// # Errors
/// When the file cannot be read.
pub fn verify<R: BufRead>(
    open: impl Fn() -> io::Result<R>,
    kept: Option<Kept<'_>>,
    keys: &[VerifierKey],
) -> io::Result<OfflineReport> {
    if let Some(text) = report_on_access(open()?)? {
        return Ok(verify_report(&text, kept, keys));
    }
    let mut report = OfflineReport::default();
    let (last, form) = last_line(open()?)?;
    let ends = match form {
        Form::Csv => ends_of_csv(&last),
        Form::Jsonl => ends_of_jsonl(&last),
        Form::Ocsf => ends_of_ocsf(&last),
    };
    let Some((statement, brought)) = ends else {
        report.fail(
            None,
            None,
            "the export ends without its signed statement: it was cut off, or not sent to its end",
        );
        let mut walk = Walk::new(report, None);
        walk.walk(open()?, form)?;
        return Ok(walk.report);
    };
    let about = about_of(&statement, keys, &mut report);
    let root = about
        .as_ref()
        .and_then(|about| root_of(about, &brought, kept, keys, &mut report));
    let mut walk = Walk::new(report, about);
    walk.root = root;
    walk.walk(open()?, form)?;
    Ok(walk.report)
}

/// The whole of a report on access, which is held at once; none of what is another file.
fn report_on_access<R: BufRead>(mut file: R) -> io::Result<Option<Vec<u8>>> {
    let is_report = is_report(file.fill_buf()?);
    if !is_report {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(Some(text))
}

/// The form of an export, as its first line tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Jsonl,
    Csv,
    Ocsf,
}

impl Form {
    fn of(first: &str) -> Self {
        match serde_json::from_str::<Json>(first) {
            Ok(event) if event["class_uid"].is_u64() => Self::Ocsf,
            Ok(_) => Self::Jsonl,
            Err(_) if first.starts_with('{') => Self::Jsonl,
            Err(_) => Self::Csv,
        }
    }

    /// Whether a line is the last: the statement, and the checkpoint.
    fn is_end(self, line: &str) -> bool {
        match self {
            Self::Csv => line.starts_with("statement,"),
            Self::Jsonl => {
                line.starts_with("{\"checkpoint\"") || line.starts_with("{\"statement\"")
            }
            Self::Ocsf => ends_of_ocsf(line).is_some(),
        }
    }
}

fn last_line<R: BufRead>(mut file: R) -> io::Result<(String, Form)> {
    let mut beginning = Vec::new();
    file.read_until(b'\n', &mut beginning)?;
    let beginning = String::from_utf8_lossy(&beginning).into_owned();
    let form = Form::of(&beginning);
    let is_csv = form == Form::Csv;
    // The statement of a CSV export has lines of its own, within one cell.
    let mut last = if is_csv { String::new() } else { beginning };
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let begins = !is_csv || text.starts_with("statement,");
        if begins {
            last.clear();
        }
        if begins || last.starts_with("statement,") {
            last.push_str(&text);
        }
        line.clear();
    }
    Ok((last, form))
}

fn ends_of_jsonl(line: &str) -> Option<(String, String)> {
    let line: Json = serde_json::from_str(line).ok()?;
    let text = |name: &str| Some(line.get(name)?.as_str()?.to_owned());
    Some((text("statement")?, text("checkpoint")?))
}

fn ends_of_ocsf(line: &str) -> Option<(String, String)> {
    let event: Json = serde_json::from_str(line).ok()?;
    let text = |name: &str| Some(event["unmapped"].get(name)?.as_str()?.to_owned());
    Some((text("statement")?, text("checkpoint")?))
}

fn ends_of_csv(row: &str) -> Option<(String, String)> {
    let rest = row.strip_prefix("statement,\"")?;
    let (statement, rest) = quoted_cell(rest)?;
    let (checkpoint, _) = quoted_cell(rest.strip_prefix(",\"")?)?;
    Some((statement, checkpoint))
}

/// A cell up to the quote that ends it, and what comes after.
pub(super) fn quoted_cell(text: &str) -> Option<(String, &str)> {
    let mut cell = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        cell.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                cell.push('"');
                rest = after;
            }
            None => return Some((cell, after)),
        }
    }
}

fn about_of(statement: &str, keys: &[VerifierKey], report: &mut OfflineReport) -> Option<About> {
    let text = match note::open(statement, keys) {
        Ok(text) => String::from_utf8(text).unwrap_or_default(),
        Err(error) => {
            report.fail(None, None, format!("the statement at the end: {error}"));
            return None;
        }
    };
    let about = text.strip_prefix(STATEMENT).map(str::trim);
    let about: Option<Json> = about.and_then(|about| serde_json::from_str(about).ok());
    let read = about
        .clone()
        .and_then(|about| serde_json::from_value(about).ok());
    if read.is_none() {
        report.fail(
            None,
            None,
            "the statement at the end is signed, and is of nothing known here",
        );
    }
    report.about = about;
    read
}

/// The root that everything must lead to: of the checkpoint that the export is of, to which one
/// that was kept must be as well, or be proven to belong.
fn root_of(
    about: &About,
    brought: &str,
    kept: Option<Kept<'_>>,
    keys: &[VerifierKey],
    report: &mut OfflineReport,
) -> Option<Hash> {
    let of = (about.tree_size, &*about.root);
    let root = held_to(of, brought, kept, keys);
    root.map_err(|detail| report.fail(None, None, detail)).ok()
}

/// The root of a checkpoint of this size and root, which what is brought must be, and which what
/// was kept must be or be proven to belong to.
pub(super) fn held_to(
    (tree_size, root): (u64, &str),
    brought: &str,
    kept: Option<Kept<'_>>,
    keys: &[VerifierKey],
) -> Result<Hash, String> {
    let open = |checkpoint: &str| {
        let opened = Checkpoint::open(checkpoint, keys);
        opened.map_err(|error| format!("the checkpoint: {error}"))
    };
    let first = open(kept.map_or(brought, |kept| kept.checkpoint))?;
    let own = match first.size == tree_size {
        true => first.clone(),
        false => open(brought)?,
    };
    if own.size != tree_size || BASE64_STANDARD.encode(own.root) != root {
        return Err(
            "the checkpoint is not the one that the export is of: this log has signed two histories"
                .to_owned(),
        );
    }
    if first.size != own.size {
        let (smaller, larger) = match first.size < own.size {
            true => (&first, &own),
            false => (&own, &first),
        };
        is_extended(smaller, larger, kept.and_then(|kept| kept.consistency))?;
    }
    Ok(own.root)
}

/// That the log of one checkpoint is the beginning of the log of another.
fn is_extended(
    smaller: &Checkpoint,
    larger: &Checkpoint,
    proof: Option<&str>,
) -> Result<(), String> {
    let (from, to) = (smaller.size, larger.size);
    let wanted = format!(
        "the checkpoint that was kept and the one of the export are of {from} and {to} entries: give \
         what GET /v1/log/proof/consistency?from={from}&to={to} answers (--consistency)"
    );
    let Some(proof) = proof else {
        return Err(wanted);
    };
    let read: ConsistencyProof = serde_json::from_str(proof)
        .map_err(|error| format!("the proof of consistency cannot be read ({error}); {wanted}"))?;
    if (read.from, read.to) != (from, to) {
        return Err(format!(
            "the proof of consistency is from {} to {}; {wanted}",
            read.from, read.to
        ));
    }
    let hash = |text: &String| BASE64_STANDARD.decode(text).ok()?.try_into().ok();
    let hashes: Option<Vec<Hash>> = read.hashes.iter().map(hash).collect();
    let hashes = hashes.ok_or_else(|| format!("the proof has what is no hash; {wanted}"))?;
    match is_consistent(&hashes, (from, smaller.root), (to, larger.root)) {
        true => Ok(()),
        false => Err(format!(
            "the log of {from} entries is not proven to be the beginning of the log of {to}: the \
             proof was changed, or this log has signed two histories"
        )),
    }
}

/// An entry's bytes, read back.
#[derive(Deserialize)]
struct Canonical<'a> {
    aggregate_id: String,
    aggregate_type: String,
    id: EventId,
    #[serde(borrow)]
    metadata: &'a RawValue,
    #[serde(borrow)]
    payload: &'a RawValue,
    position: u64,
    previous: Option<String>,
    recorded_at: i64,
    scope: String,
    scope_sequence: u64,
    sequence: u64,
    #[serde(rename = "type")]
    event_type: String,
    version: String,
}

/// An entry of the page that is being read.
struct Held {
    line: u64,
    leaf: Hash,
    /// Of the line's own bytes.
    check: String,
}

/// What must come next.
struct Walk {
    report: OfflineReport,
    about: Option<About>,
    root: Option<Hash>,
    digest: Sha256,
    line: u64,
    /// Entries since the last proof, in the order of the file.
    page: Vec<(u64, Held)>,
    last: Option<u64>,
    /// The last sequence and leaf of the workspace's chain.
    tip: Option<(u64, Hash)>,
    /// Of CSV.
    check: Hash,
}

impl Walk {
    fn new(report: OfflineReport, about: Option<About>) -> Self {
        Self {
            report,
            about,
            root: None,
            digest: Sha256::new(),
            line: 0,
            page: Vec::new(),
            last: None,
            tip: None,
            check: [0; 32],
        }
    }

    fn fail(&mut self, position: Option<u64>, detail: impl Into<String>) {
        self.report.fail(position, Some(self.line), detail);
    }

    fn walk<R: BufRead>(&mut self, mut file: R, form: Form) -> io::Result<()> {
        let mut line = Vec::new();
        let mut ended = false;
        while file.read_until(b'\n', &mut line)? > 0 {
            self.line += 1;
            let text = String::from_utf8_lossy(&line).into_owned();
            ended |= form.is_end(&text);
            if !ended {
                self.digest.update(&line);
                match form {
                    Form::Csv => self.follow_row(&text, &mut file)?,
                    Form::Jsonl => self.follow_line(&text),
                    Form::Ocsf => self.follow_event(&text),
                }
            }
            line.clear();
        }
        self.end();
        Ok(())
    }

    fn follow_line(&mut self, text: &str) {
        let Ok(json) = serde_json::from_str::<Json>(text) else {
            return self.fail(None, "this line is no JSON: it was changed, or cut off");
        };
        if let Some(canonical) = json["canonical"].as_str() {
            self.follow_entry(&json, canonical, line_check(text));
        } else if json["proof"].is_object() {
            self.follow_proof(&json["proof"]);
        } else if !(json["export"].is_object() && self.line == 1) {
            self.fail(None, "this line is nothing that an export has");
        }
    }

    fn follow_entry(&mut self, line: &Json, canonical: &str, check: String) {
        self.report.entries += 1;
        let leaf = leaf_hash(canonical.as_bytes());
        let told = line["entry"]["position"].as_u64();
        let Ok(read) = serde_json::from_str::<Canonical<'_>>(canonical) else {
            return self.fail(told, "its bytes are no entry: it was changed");
        };
        let position = read.position;
        if told != Some(position) {
            self.fail(
                Some(position),
                format!("it is shown as position {told:?}: it was changed"),
            );
        }
        if self.last.is_some_and(|last| position <= last) {
            self.fail(
                Some(position),
                "it stands behind a later entry: it was moved",
            );
        }
        self.last = Some(self.last.unwrap_or(0).max(position));
        self.follow_chain(&read, leaf);
        self.compare_shown(line, &read, leaf);
        let held = Held {
            line: self.line,
            leaf,
            check,
        };
        self.page.push((position, held));
    }

    fn follow_chain(&mut self, read: &Canonical<'_>, leaf: Hash) {
        if !self.about.as_ref().is_some_and(|about| about.complete) {
            return;
        }
        if let Some((sequence, before)) = self.tip {
            let at = Some(read.position);
            if read.scope_sequence != sequence + 1 {
                let missing = format!(
                    "it is number {} of its workspace and comes after number {sequence}: entries \
                     were removed or moved",
                    read.scope_sequence
                );
                self.fail(at, missing);
            } else if read.previous.as_deref() != Some(&BASE64_STANDARD.encode(before)) {
                self.fail(
                    at,
                    "it does not name the entry in front of it: one of the two was changed",
                );
            }
        }
        self.tip = Some((read.scope_sequence, leaf));
    }

    fn follow_proof(&mut self, proof: &Json) {
        let page = std::mem::take(&mut self.page);
        let hashes_at = |name: &str| -> Option<Vec<Hash>> {
            let texts = proof[name].as_array()?.iter();
            let hash = |text: &Json| BASE64_STANDARD.decode(text.as_str()?).ok()?.try_into().ok();
            texts.map(hash).collect()
        };
        let positions: Option<Vec<u64>> = proof["positions"]
            .as_array()
            .and_then(|positions| positions.iter().map(Json::as_u64).collect());
        let (Some(positions), Some(leaves), Some(hashes)) =
            (positions, hashes_at("leaves"), hashes_at("hashes"))
        else {
            return self.fail(None, "this proof was changed: it cannot be read");
        };
        let size = self.about.as_ref().map_or(0, |about| about.tree_size);
        let indexes = positions.iter().map(|position| position.saturating_sub(1));
        let set: Vec<_> = indexes.zip(leaves.iter().copied()).collect();
        let fits = positions.len() == leaves.len() && !positions.contains(&0);
        let proven = fits && self.root.is_some() && root_of_set(size, &set, &hashes) == self.root;
        if !proven && self.root.is_some() {
            let (first, last) = (positions.first(), positions.last());
            let detail = format!(
                "the proof of positions {first:?} to {last:?} does not come to the root of the checkpoint: it was changed"
            );
            self.fail(positions.first().copied(), detail);
        }
        // Not proven one by one, but signed with all of it: what tells a changed name's line.
        let checks = proof["lines"].as_array().into_iter().flatten();
        let checks: HashMap<u64, &Json> = positions.iter().copied().zip(checks).collect();
        let mut expected: BTreeMap<u64, Hash> = positions.iter().copied().zip(leaves).collect();
        for (position, held) in page {
            let line = Some(held.line);
            match expected.remove(&position) {
                Some(leaf) if leaf == held.leaf => {
                    let mut told = self.report.failures.iter();
                    let is_told = told.any(|failure| failure.position == Some(position));
                    if !is_told
                        && checks
                            .get(&position)
                            .is_none_or(|check| **check != *held.check)
                    {
                        let detail = "its line is not what was sent: what it shows was changed";
                        self.report.fail(Some(position), line, detail);
                    }
                }
                Some(_) => self.report.fail(
                    Some(position),
                    line,
                    "its bytes do not hash to the leaf that the log has there: it was changed",
                ),
                None => self.report.fail(
                    Some(position),
                    line,
                    "the log does not prove it here: it was added, or moved",
                ),
            }
        }
        for position in expected.into_keys() {
            self.fail(
                Some(position),
                "the log proves it here, and it is not here: it was removed, or moved",
            );
        }
    }

    /// What a person reads must be what the bytes say.
    fn compare_shown(&mut self, line: &Json, read: &Canonical<'_>, leaf: Hash) {
        let row = EventRow {
            position: read.position,
            id: read.id,
            recorded_at: Timestamp(read.recorded_at),
            aggregate_type: &read.aggregate_type,
            aggregate_id: &read.aggregate_id,
            sequence: read.sequence,
            scope: &read.scope,
            event_type: &read.event_type,
            event_version: &read.version,
            payload: read.payload.get(),
            metadata: read.metadata.get(),
        };
        let at = Some(read.position);
        let recorded = match row.decode() {
            Ok(recorded) => recorded,
            Err(error) => {
                return self.fail(at, format!("what it shows cannot be compared: {error}"));
            }
        };
        let opened = self.opened(line, at);
        let shown = &line["entry"];
        let whole = has_members(line, &["canonical", "entry", "openings"])
            && has_members(shown, &MEMBERS)
            && ["actor", "target"]
                .iter()
                .all(|of| has_members(&shown[of], &["id", "name", "type"]));
        if !whole {
            self.fail(
                at,
                "it has not the members that an entry has: it was changed",
            );
        }
        for (place, expected) in expected(&recorded, &opened, leaf) {
            let found = shown.pointer(place).cloned().unwrap_or(Json::Null);
            if found != expected {
                self.fail(
                    at,
                    format!(
                        "{place} is shown as {found}, and its bytes say {expected}: it was changed"
                    ),
                );
            }
        }
        let name = |place: &str| shown.pointer(place).is_some_and(Json::is_string);
        let called = describe(&recorded).called;
        match (shown.pointer("/target/name"), called) {
            (Some(Json::String(found)), Some(called)) if *found != called => {
                self.fail(at, format!("its target is shown as {found:?}, and its bytes say {called:?}: it was changed"));
            }
            (_, None) if name("/target/name") => self.report.names_told += 1,
            _ => {}
        }
        self.report.names_told += u64::from(name("/actor/name"));
    }

    /// The values that were opened, by their commitments, each held against its own.
    fn opened(&mut self, line: &Json, at: Option<u64>) -> HashMap<String, String> {
        let mut opened = HashMap::new();
        for opening in line["openings"].as_array().into_iter().flatten() {
            let text = |name: &str| opening[name].as_str().unwrap_or_default();
            let random = BASE64_STANDARD.decode(text("random")).unwrap_or_default();
            let value = text("value");
            let committed = Sha256::digest([&random[..], value.as_bytes()].concat());
            if random.len() != 32 || BASE64_STANDARD.encode(committed) != text("commitment") {
                self.fail(
                    at,
                    format!(
                        "the opened value {value:?} is not what was committed to: it was changed"
                    ),
                );
                continue;
            }
            self.report.opened += 1;
            opened.insert(text("commitment").to_owned(), value.to_owned());
        }
        opened
    }

    fn follow_row<R: BufRead>(&mut self, text: &str, file: &mut R) -> io::Result<()> {
        // A cell may have line breaks: a row ends where its quotes are even.
        let mut row = text.to_owned();
        while row.matches('"').count() % 2 == 1 {
            let mut more = Vec::new();
            if file.read_until(b'\n', &mut more)? == 0 {
                break;
            }
            self.digest.update(&more);
            row.push_str(&String::from_utf8_lossy(&more));
        }
        if self.line == 1 {
            return Ok(());
        }
        self.report.entries += 1;
        let position = row.split(',').next().and_then(|cell| cell.parse().ok());
        let Some((cells, check)) = row.trim_end().rsplit_once(',') else {
            self.fail(position, "this row is nothing that an export has");
            return Ok(());
        };
        self.follow_check(position, cells, check);
        Ok(())
    }

    /// An event of OCSF, whose check is among what is not mapped.
    fn follow_event(&mut self, text: &str) {
        self.report.entries += 1;
        let read = serde_json::from_str::<Json>(text).ok();
        let Some(mut event) = read.filter(|event| event["unmapped"].is_object()) else {
            return self.fail(None, "this line is nothing that an export has");
        };
        let position = event["metadata"]["sequence"].as_u64();
        let unmapped = event["unmapped"].as_object_mut();
        let check = unmapped.and_then(|unmapped| unmapped.remove("check"));
        let check = check.as_ref().and_then(Json::as_str).unwrap_or_default();
        self.follow_check(position, &event.to_string(), check);
    }

    /// That what is told of an entry follows from what was told before.
    fn follow_check(&mut self, position: Option<u64>, told: &str, check: &str) {
        self.check = check_after(self.check, told);
        if BASE64_STANDARD.encode(&self.check[..12]) != check {
            self.fail(position, "its check does not follow from it and the rows before it: it, or one before it, was changed, added, moved or removed");
            // Go on from what is there, so that the next is judged by itself.
            self.check = [0; 32];
        }
        self.last = position.or(self.last);
    }

    fn end(&mut self) {
        if !self.page.is_empty() {
            let first = self.page.first().map(|(position, _)| *position);
            self.fail(first, "from here on entries have no proof: it was cut off");
        }
        let Some(about) = self.about.take() else {
            return;
        };
        if about.entries != self.report.entries || about.last != self.last {
            let detail = format!(
                "the export was of {} entries up to position {:?}, and here are {} up to position {:?}: \
                 entries were added, removed or cut off",
                about.entries, about.last, self.report.entries, self.last
            );
            self.report.fail(self.last, None, detail);
        }
        let digest = BASE64_STANDARD.encode(self.digest.clone().finalize());
        if digest != about.digest && self.report.holds() {
            let detail = format!("the {} is not byte for byte what was sent", about.format);
            self.report.fail(None, None, detail);
        }
    }
}

/// The members of an entry that is shown, in order.
const MEMBERS: [&str; 18] = [
    "action",
    "actor",
    "break_glass",
    "changes",
    "crew",
    "environment",
    "id",
    "ip",
    "leaf",
    "organization",
    "outcome",
    "position",
    "reason",
    "recorded_at",
    "request_id",
    "target",
    "user_agent",
    "workspace",
];

fn has_members(json: &Json, names: &[&str]) -> bool {
    let mut found: Vec<_> = json
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| &**name)
        .collect();
    found.sort_unstable();
    found == names
}

/// What must be shown of an entry, each with its place.
fn expected(
    recorded: &Recorded,
    opened: &HashMap<String, String>,
    leaf: Hash,
) -> Vec<(&'static str, Json)> {
    let description = describe(recorded);
    let open = |sealed: &Sealed| {
        let value = opened.get(&sealed.commitment).cloned();
        value.unwrap_or_else(|| "erased".to_owned())
    };
    let shown = |shown: &Shown| match shown {
        Shown::Plain(value) => value.clone(),
        Shown::Sealed { sealed, .. } => json!(open(sealed)),
    };
    let changes = description.changes.iter().map(
        |change| json!({"path": change.path, "from": shown(&change.from), "to": shown(&change.to)}),
    );
    let metadata = &recorded.metadata;
    let context = metadata.context.as_ref().map(open);
    let context: Json = context
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or(Json::Null);
    let actor: &Actor = &description.actor;
    let workspace = recorded
        .scope
        .starts_with("ws_")
        .then(|| recorded.scope.clone());
    vec![
        ("/id", json!(recorded.id)),
        ("/recorded_at", json!(recorded.recorded_at.to_rfc3339())),
        ("/action", json!(description.action)),
        ("/outcome", json!(description.outcome.name())),
        ("/actor/type", json!(actor.kind())),
        ("/actor/id", json!(actor.id())),
        ("/target/type", json!(description.target.0)),
        ("/target/id", json!(description.target.1)),
        ("/organization", json!(metadata.organization)),
        ("/workspace", json!(workspace)),
        ("/crew", json!(description.crew)),
        ("/environment", json!(description.environment)),
        ("/break_glass", json!(description.breaks_glass)),
        ("/changes", Json::Array(changes.collect())),
        ("/reason", json!(metadata.reason.as_ref().map(open))),
        ("/request_id", json!(metadata.request_id)),
        ("/ip", context["ip"].clone()),
        ("/user_agent", context["user_agent"].clone()),
        ("/leaf", json!(BASE64_STANDARD.encode(leaf))),
    ]
}
