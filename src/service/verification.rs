//! Verifying a log: every leaf, every chain and the root, recomputed from the bytes.
//!
//! Needs no key and no projection: whoever can read the tables can verify them. With the keys,
//! contents are opened and hashed as well; without, they are only counted and measured. Statements
//! are compared with the usage records that they are of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use cqrs_es::Aggregate;

use super::{
    contents::{self, Named},
    proving::Proving,
    statements::{CountError, Counting},
};
use crate::{
    domain::{
        contents::Digest,
        crew::Crew,
        event::Event,
        promotion::Promotion,
        usage::{Statement as MonthStatement, UsedQuantity},
        workspace::WorkspaceEvent,
    },
    journal::{
        StoredEvent, beside,
        sealing::Keyring,
        stores::{self, Store, StoreError},
    },
    projections::Progress,
    proofs::tree::{Frontier, Hash},
};

/// Events that are read at once.
const PAGE: u64 = 2_000;
/// How many statements are read at once.
const STATEMENTS_AT_ONCE: usize = 256;
/// The event that states a month.
const STATEMENT: &str = "usage_month_closed";
/// Failures that are told; the rest are counted.
const FAILURES_TOLD: usize = 20;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyFailure {
    /// Where; none for the log as a whole.
    pub position: Option<u64>,
    pub detail: String,
}

/// What verifying has found.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// Entries that were read.
    pub entries: u64,
    /// Scopes whose chains were followed.
    pub scopes: u64,
    /// Contents that were compared with what events say of them.
    pub contents: u64,
    /// Statements that were compared with the usage records that they are of.
    pub statements: u64,
    /// Tiles of the tree that were compared with the leaves below them.
    pub tiles: u64,
    /// Signed checkpoints that were compared with the entries that they cover.
    pub checkpoints: u64,
    /// The root of the tree over all entries, in base64.
    pub root: String,
    pub failing: u64,
    /// The first of the failures.
    pub failures: Vec<VerifyFailure>,
    pub elapsed: Duration,
}

impl VerifyReport {
    /// Whether everything is as it was written.
    pub fn holds(&self) -> bool {
        self.failing == 0
    }

    pub(super) fn fail(&mut self, position: Option<u64>, detail: impl Into<String>) {
        self.failing += 1;
        if self.failures.len() < FAILURES_TOLD {
            self.failures.push(VerifyFailure {
                position,
                detail: detail.into(),
            });
        }
    }
}

/// The last sequence and leaf of a scope.
type Tip = (u64, Hash);

/// What must come next in every chain.
#[derive(Default)]
struct Chains {
    position: u64,
    recorded_at: i64,
    streams: HashMap<(String, String), u64>,
    scopes: HashMap<String, Tip>,
    frontier: Frontier,
    /// What was signed and kept of the tree.
    proving: Proving,
    /// The contents that events name.
    contents: Named,
    /// Where statements are.
    statements: Vec<u64>,
    /// Whether there were entries that cannot be read: then streams and scopes may have more
    /// than was seen of them.
    has_holes: bool,
}

/// Recomputes every leaf, follows every chain, and compares the root with the head's.
///
/// # Errors
/// When the store cannot be read; a row that cannot be read at all is a failure in the
/// report.
pub async fn verify(
    store: &dyn Store,
    keys: Option<&Keyring>,
    mut progress: impl FnMut(Progress),
) -> Result<VerifyReport, StoreError> {
    let started = Instant::now();
    let mut report = VerifyReport::default();
    // Before the head: what was signed by then is in the log by then.
    let proving = Proving::load(store, &mut report).await?;
    let head = stores::head(store).await?;
    let mut chains = Chains {
        proving,
        ..Chains::default()
    };
    let mut told = |position: u64| {
        progress(Progress {
            position,
            head: head.position,
            elapsed: started.elapsed(),
        });
    };
    chains
        .follow_to(store, &head, &mut report, &mut told)
        .await?;
    let named = std::mem::take(&mut chains.contents);
    report.contents = named.len() as u64;
    contents::verify(store, keys, &named, |position, detail| {
        report.fail(Some(position), detail);
    })
    .await?;
    for positions in chains.statements.chunks(STATEMENTS_AT_ONCE) {
        compare_statements(store, positions, &mut report).await?;
    }
    report.scopes = chains.scopes.len() as u64;
    report.root = BASE64_STANDARD.encode(chains.frontier.root());
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Counts the records of stated months again: each must come to what its statement says of it.
async fn compare_statements(
    store: &dyn Store,
    positions: &[u64],
    report: &mut VerifyReport,
) -> Result<(), StoreError> {
    for event in stores::events_at(store, positions).await? {
        let at = Some(event.position);
        let statement = match event.decode().map(|recorded| recorded.event) {
            Ok(Event::Workspace(WorkspaceEvent::UsageMonthClosed { statement })) => statement,
            Ok(_) => continue,
            Err(error) => {
                report.fail(at, format!("what it states cannot be read: {error}"));
                continue;
            }
        };
        let Ok(workspace) = event.aggregate_id.parse() else {
            report.fail(at, "what it states is of no workspace");
            continue;
        };
        report.statements += 1;
        let what = format!("the statement of {workspace} for {}", statement.month);
        let counted = Counting::of(workspace, statement.month).all(store).await;
        match counted {
            Ok((used, digest)) => differs(&statement, &used, digest)
                .into_iter()
                .for_each(|difference| report.fail(at, format!("{what}: {difference}"))),
            Err(CountError::Store(StoreError::Row(error))) => {
                report.fail(at, format!("{what}: a record cannot be read: {error}"));
            }
            Err(CountError::TooMuch(error)) => report.fail(at, format!("{what}: {error}")),
            Err(CountError::Store(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Everything that records say otherwise than a statement of them: meter by meter, or, where all
/// come to the same, that they are other records.
fn differs(
    statement: &MonthStatement,
    used: &BTreeMap<String, UsedQuantity>,
    digest: Digest,
) -> Vec<String> {
    let stated = statement.used();
    let meters: BTreeSet<&String> = stated.keys().chain(used.keys()).collect();
    let of = |side: &BTreeMap<String, UsedQuantity>, meter: &str| {
        side.get(meter).copied().unwrap_or_default()
    };
    let differing = meters.into_iter().filter_map(|meter| {
        let (said, found) = (of(&stated, meter), of(used, meter));
        (said != found).then(|| {
            format!(
                "of the meter {meter} it says {} in {} records, and the records say {} in {}",
                said.quantity, said.records, found.quantity, found.records
            )
        })
    });
    let differing: Vec<_> = differing.collect();
    if differing.is_empty() && digest != statement.records_digest {
        return vec!["its records come to the same, and are not those that it was made of".into()];
    }
    differing
}

/// Each entry with the leaf that its bytes hash to.
fn with_leaves(events: Vec<StoredEvent>) -> Vec<(StoredEvent, Hash)> {
    let leaf = |event: StoredEvent| {
        let leaf = event.computed_leaf();
        (event, leaf)
    };
    events.into_iter().map(leaf).collect()
}

impl Chains {
    /// Follows the entries up to a head, which must be where they lead.
    async fn follow_to(
        &mut self,
        store: &dyn Store,
        head: &stores::Head,
        report: &mut VerifyReport,
        told: &mut impl FnMut(u64),
    ) -> Result<(), StoreError> {
        let mut after = self.position;
        let mut page = stores::events_after(store, after, PAGE).await;
        while after < head.position {
            let events = match page {
                Ok(events) => events,
                Err(StoreError::Row(detail)) => {
                    report.fail(None, format!("an entry after position {after}: {detail}"));
                    break;
                }
                Err(StoreError::Damaged { .. }) => {
                    // One by one, to say which of them cannot be read.
                    let last = (after + PAGE).min(head.position);
                    self.follow_each(store, after + 1..=last, report).await?;
                    after = last;
                    page = stores::events_after(store, after, PAGE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(last) = events.last() else {
                break;
            };
            after = last.position;
            // The next page is read while this one is hashed.
            let (leaves, next) = tokio::join!(
                beside(|| with_leaves(events)),
                stores::events_after(store, after, PAGE)
            );
            page = next;
            let events = leaves.into_iter();
            for (event, leaf) in events.filter(|(event, _)| event.position <= head.position) {
                self.follow(event, leaf, report);
            }
            self.proving.compare_tiles(store, report).await?;
            told(after.min(head.position));
        }
        self.proving.compare_tiles(store, report).await?;
        self.proving.end(self.position, report);
        self.compare_head(head, report);
        Ok(())
    }

    async fn follow_each(
        &mut self,
        store: &dyn Store,
        positions: std::ops::RangeInclusive<u64>,
        report: &mut VerifyReport,
    ) -> Result<(), StoreError> {
        for position in positions {
            match stores::events_at(store, &[position]).await {
                Ok(events) => {
                    for (event, leaf) in with_leaves(events) {
                        self.follow(event, leaf, report);
                    }
                }
                Err(error @ (StoreError::Damaged { .. } | StoreError::Row(_))) => {
                    report.fail(Some(position), format!("it cannot be read: {error}"));
                    (self.position, self.has_holes) = (position, true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn follow(&mut self, event: StoredEvent, leaf: Hash, report: &mut VerifyReport) {
        let at = Some(event.position);
        report.entries += 1;
        if event.position != self.position + 1 {
            let expected = self.position + 1;
            report.fail(
                at,
                format!("position {expected} should come here: entries are missing"),
            );
        }
        self.position = event.position;
        if event.recorded_at.0 < self.recorded_at {
            report.fail(at, "it was recorded before the entry in front of it");
        }
        self.recorded_at = self.recorded_at.max(event.recorded_at.0);
        if leaf != event.leaf {
            report.fail(
                at,
                "its bytes do not hash to its leaf: the entry was changed",
            );
        }
        self.frontier.push(event.leaf);
        self.proving.follow(event.leaf, &self.frontier, report);
        self.follow_contents(&event, report);
        if event.event_type == STATEMENT {
            self.statements.push(event.position);
        }
        self.follow_scope(&event, report);
        self.follow_stream(event, report);
    }

    fn follow_contents(&mut self, event: &StoredEvent, report: &mut VerifyReport) {
        if ![Crew::TYPE, Promotion::TYPE].contains(&event.aggregate_type.as_str()) {
            return;
        }
        let named = match event.decode().map(|recorded| recorded.event) {
            Ok(Event::Crew(happened)) => happened.contents(),
            Ok(Event::Promotion(happened)) => happened.contents(),
            Ok(
                Event::User(_)
                | Event::Organization(_)
                | Event::Workspace(_)
                | Event::Review(_)
                | Event::Attempts(_)
                | Event::Installation(_),
            ) => vec![],
            Err(error) => {
                let detail = format!("which contents it names cannot be read: {error}");
                return report.fail(Some(event.position), detail);
            }
        };
        for content in named {
            let key = (event.scope.clone(), content.digest);
            let first = (content.size, event.position);
            self.contents.entry(key).or_insert(first);
        }
    }

    fn follow_stream(&mut self, event: StoredEvent, report: &mut VerifyReport) {
        let stream = (event.aggregate_type, event.aggregate_id);
        let before = self.streams.insert(stream, event.sequence).unwrap_or(0);
        if event.sequence != before + 1 && !(self.has_holes && event.sequence > before) {
            report.fail(
                Some(event.position),
                format!(
                    "sequence {} of its stream follows on {before}",
                    event.sequence
                ),
            );
        }
    }

    fn follow_scope(&mut self, event: &StoredEvent, report: &mut VerifyReport) {
        let tip = (event.scope_sequence, event.leaf);
        let before = self.scopes.insert(event.scope.clone(), tip);
        let (sequence, leaf) = match before {
            Some((sequence, leaf)) => (sequence, Some(leaf)),
            None => (0, None),
        };
        if self.has_holes && event.scope_sequence > sequence + 1 {
            return;
        }
        if event.scope_sequence != sequence + 1 {
            report.fail(
                Some(event.position),
                format!(
                    "sequence {} of its scope follows on {sequence}",
                    event.scope_sequence
                ),
            );
        }
        if event.previous != leaf {
            report.fail(
                Some(event.position),
                "it does not name the entry before it in its scope",
            );
        }
    }

    fn compare_head(&self, head: &stores::Head, report: &mut VerifyReport) {
        if self.position != head.position {
            let (last, head) = (self.position, head.position);
            report.fail(
                None,
                format!("the head is at {head}, the last entry at {last}"),
            );
        }
        if self.frontier != head.frontier {
            report.fail(None, "the root over all entries is not that of the head");
        }
    }
}
