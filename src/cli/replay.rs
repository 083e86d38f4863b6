//! `crewlog replay`: folds the projections again from the whole log, or checks them against it.
//!
//! A rebuild works beside servers. On SQLite, where one process writes, the server does it: the
//! command leaves word in the store, and follows how far it is. What was left alone by a process
//! that has ended is gone on with.

use std::{
    fmt::Write,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::{
    Failure, Outcome, Output, Place,
    logging::announce,
    progress::{Meter, rate},
};
use crate::{
    journal::stores::{
        self, Store, StoreError, StoreKind,
        schema::{self, Schema},
        sqlite::SqliteStore,
    },
    projections::{
        self, CheckReport, Difference, Engine, FoldedInto, Pace, Progress, Projections, Rebuild,
        RebuildStatus, Rebuilt,
    },
};

/// Characters of a row that are shown of a difference, in text.
const SHOWN_CHARACTERS: usize = 400;
/// How often to look how far the server is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a server may show no sign of life before it is looked whether there is one.
const SILENCE_MAX: Duration = Duration::from_secs(8);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The one to rebuild; without it, all of them
    #[arg(value_parser = PossibleValuesParser::new(projections::names()))]
    name: Option<String>,
    /// Change nothing: fold into a scratch folder and compare; works beside a running server
    #[arg(long, conflicts_with_all = ["name", "into", "cancel"])]
    check: bool,
    /// Fold into this database instead, a fresh one: postgres://… or sqlite://FOLDER
    #[arg(long, value_name = "URL", conflicts_with_all = ["name", "cancel"])]
    into: Option<String>,
    /// With --into: fold up to this position of the log
    #[arg(long, value_name = "POSITION", requires = "into")]
    to: Option<u64>,
    /// Cancel the rebuild that is under way, and remove what there is of it
    #[arg(long, conflicts_with = "name")]
    cancel: bool,
    /// Fold no more entries than this in a second
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["check", "into", "cancel"])]
    events_per_second: Option<NonZeroU64>,
    /// Rest while a small commit takes longer than this, as those who write wait as long
    #[arg(long, value_name = "MS", conflicts_with_all = ["check", "into", "cancel"])]
    commit_latency_ms: Option<NonZeroU64>,
}

/// Rebuilds or checks, as the arguments say.
///
/// # Errors
/// When the store cannot be used, another rebuild is under way, or it cannot be folded.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    if arguments.check {
        check(&place, output).await
    } else if arguments.cancel {
        cancel(&place, output).await
    } else if let Some(url) = &arguments.into {
        into(&place, url, arguments.to, output).await
    } else {
        rebuild(&arguments, &place, output).await
    }
}

/// What a rebuild has done, wherever it was done.
struct Done {
    names: Vec<&'static str>,
    rebuilt: Rebuilt,
    elapsed: Duration,
}

async fn rebuild(arguments: &Arguments, place: &Place, output: Output) -> Result<Outcome, Failure> {
    must_be_rebuildable(place).await?;
    let mut names = projections::names();
    if let Some(name) = &arguments.name {
        names.retain(|known| known == name);
    }
    let pace = Pace {
        per_second_max: arguments.events_per_second,
        commit_latency_max: arguments.commit_latency_ms,
        is_alone: false,
    };
    let started = Instant::now();
    let rebuilt = loop {
        if let Some(store) = writing(place).await? {
            break here(&*store, &names, pace).await?;
        }
        // Where the server ends before it is done, it is gone on with here.
        if let Some(rebuilt) = by_the_server(place, &names, pace).await? {
            break rebuilt;
        }
    };
    let done = Done {
        names,
        rebuilt,
        elapsed: started.elapsed(),
    };
    output.result(&done.as_json(), &done.as_text())?;
    Ok(Outcome::Fine)
}

/// There must be something to replay, in a store that takes a writer, and no other version must
/// read it: that one would find nothing to read by afterwards.
async fn must_be_rebuildable(place: &Place) -> Result<(), Failure> {
    let store = place.open_for_reading().await?;
    stores::may_be_written(&*store).await?;
    let (found, known) = (
        schema::migrations(&*store).await?,
        Schema::expected(store.kind()),
    );
    let is_current = found.last().is_some_and(|last| *last >= known.version);
    let is_older = !is_current || !Engine::outdated(&*store).await?.is_empty();
    store.close().await;
    match is_older {
        false => Ok(()),
        true => Err(Failure::could_not_run(
            "an older version of crewlog has made what this store holds; run `crewlog migrate`, \
             which brings it up to this one",
        )),
    }
}

/// The store, where this process may write it: on SQLite, where no other does.
async fn writing(place: &Place) -> Result<Option<std::sync::Arc<dyn Store>>, Failure> {
    if place.database_url().is_some() {
        return Ok(Some(place.open_for_writing().await?));
    }
    match SqliteStore::open(place.folder()).await {
        Ok(store) => Ok(Some(std::sync::Arc::new(store))),
        Err(StoreError::Held { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn here(store: &dyn Store, names: &[&str], pace: Pace) -> Result<Rebuilt, Failure> {
    let pace = Pace {
        is_alone: store.kind() == StoreKind::Sqlite,
        ..pace
    };
    let rebuild = Rebuild::begin(store, &Projections::default(), names, pace).await?;
    if rebuild.began_at() > 0 {
        announce!(
            "going on with a rebuild that was left at position {}",
            rebuild.began_at()
        );
    }
    let mut meter = Meter::start("replaying");
    let rebuilt = rebuild
        .run(store, &mut |progress| meter.show(progress))
        .await;
    meter.finish();
    let rebuilt = rebuilt?;
    store.close().await;
    Ok(rebuilt)
}

/// Asks the server that writes the store, and follows how far it is; none where the server has
/// ended before it was done.
async fn by_the_server(
    place: &Place,
    names: &[&str],
    pace: Pace,
) -> Result<Option<Rebuilt>, Failure> {
    let store = place.open_beside().await?;
    let id = projections::ask(&*store, names, pace).await?;
    announce!("the process that serves from this store does it; `crewlog replay --cancel` ends it");
    let mut meter = Meter::start("replaying");
    let ended = follow(&*store, place, &id, &mut meter).await;
    meter.finish();
    let Some(ended) = ended? else {
        return Ok(None);
    };
    // Another that was begun since has taken its place: then it was over.
    if ended.id == id && !ended.is_done() {
        return Err(Failure::could_not_run(ended.outcome));
    }
    Ok(Some(Rebuilt {
        position: stores::head(&*store).await?.position,
        began_at: 0,
        repaired: ended.repaired(),
    }))
}

/// Shows how far it is until it is over; none where nobody is there any more who works on it.
async fn follow(
    store: &dyn Store,
    place: &Place,
    id: &str,
    meter: &mut Meter,
) -> Result<Option<RebuildStatus>, Failure> {
    let started = Instant::now();
    let (mut last, mut moved_at) = (projections::status(store).await?, started);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let status = projections::status(store).await?;
        if status.id != id || !status.is_under_way() {
            return Ok(Some(status));
        }
        if !status.is_as_before(&last) {
            (last, moved_at) = (status.clone(), Instant::now());
        }
        if moved_at.elapsed() > SILENCE_MAX {
            // Whoever wrote the store has ended, or does something else.
            if writing(place).await?.is_some() {
                return Ok(None);
            }
            if projections::withdraw(store, id).await? {
                return Err(Failure::could_not_run(
                    "the process that writes this store does not take it up; is it a server of \
                     this version?",
                ));
            }
            moved_at = Instant::now();
        }
        if status.head > 0 {
            meter.show(Progress {
                position: status.position,
                head: status.head,
                elapsed: started.elapsed(),
            });
        }
    }
}

impl Done {
    fn rate(&self) -> u64 {
        let folded = self.rebuilt.position - self.rebuilt.began_at;
        rate(folded, self.elapsed)
    }

    fn as_json(&self) -> serde_json::Value {
        json!({
            "rebuilt": self.names,
            "position": self.rebuilt.position,
            "began_at": self.rebuilt.began_at,
            "repaired": self.rebuilt.repaired,
            "elapsed_ms": self.elapsed.as_millis() as u64,
            "entries_per_second": self.rate(),
        })
    }

    fn as_text(&self) -> String {
        let Rebuilt {
            position,
            began_at,
            repaired,
        } = self.rebuilt;
        let mut text = format!(
            "replayed {} entries into {} in {:.1} s, {} entries/s",
            position - began_at,
            self.names.join(", "),
            self.elapsed.as_secs_f64(),
            self.rate(),
        );
        if repaired > 0 {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n{repaired} DOCUMENTS WERE NOT WHAT THE LOG SAYS, and are now; see who else \
                 writes to the store"
            );
        }
        text
    }
}

async fn cancel(place: &Place, output: Output) -> Result<Outcome, Failure> {
    let store = match writing(place).await? {
        Some(store) => store,
        None => place.open_beside().await?,
    };
    let was_under_way = projections::cancel(&*store).await?;
    store.close().await;
    let text = match was_under_way {
        true => "the rebuild was cancelled; nothing of it is left",
        false => "no rebuild was under way; nothing of one is left",
    };
    output.result(&json!({"cancelled": was_under_way}), text)?;
    Ok(Outcome::Fine)
}

async fn into(
    place: &Place,
    url: &str,
    to: Option<u64>,
    output: Output,
) -> Result<Outcome, Failure> {
    let target = place.other(&url.to_owned().into())?;
    let log = place.open_for_reading().await?;
    let target = target.open_for_writing().await?;
    let started = Instant::now();
    let mut meter = Meter::start("folding");
    let folded = projections::fold_into(&*log, &*target, to, |progress| meter.show(progress)).await;
    meter.finish();
    let FoldedInto { position, rows } = folded?;
    let elapsed = started.elapsed();
    target.close().await;
    let rows: serde_json::Map<_, _> = rows
        .into_iter()
        .map(|(name, rows)| (name, json!(rows)))
        .collect();
    let mut text = format!(
        "folded {position} entries in {:.1} s, {} entries/s; read them by the views crewlog_…\n",
        elapsed.as_secs_f64(),
        rate(position, elapsed),
    );
    for (name, rows) in &rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}: {rows} rows");
    }
    let json = json!({
        "position": position,
        "rows": rows,
        "elapsed_ms": elapsed.as_millis() as u64,
    });
    output.result(&json, &text)?;
    Ok(Outcome::Fine)
}

async fn check(place: &Place, output: Output) -> Result<Outcome, Failure> {
    let store = place.open_for_reading().await?;
    let scratch = tempfile::tempdir().map_err(|error| {
        Failure::could_not_run(format!(
            "a scratch folder cannot be made in {} ({error}); name another with TMPDIR",
            std::env::temp_dir().display()
        ))
    })?;
    let mut meter = Meter::start("checking");
    let report = projections::check(&*store, scratch.path(), |progress| meter.show(progress)).await;
    meter.finish();
    let report = report?;
    output.result(&as_json(&report), &as_text(&report))?;
    Ok(match report.differing {
        0 => Outcome::Fine,
        _ => Outcome::Difference,
    })
}

fn as_json(report: &CheckReport) -> serde_json::Value {
    let rows: serde_json::Map<_, _> = report
        .rows
        .iter()
        .map(|(name, rows)| (name.clone(), json!(rows)))
        .collect();
    let differences: Vec<_> = report
        .differences
        .iter()
        .map(|difference| {
            json!({
                "projection": difference.projection,
                "key": difference.key,
                "stored": difference.stored,
                "folded": difference.folded,
            })
        })
        .collect();
    json!({
        "position": report.position,
        "rows": rows,
        "differing": report.differing,
        "differences": differences,
    })
}

fn as_text(report: &CheckReport) -> String {
    // Writing to a string cannot fail.
    let mut text = String::new();
    for (name, rows) in &report.rows {
        let _ = writeln!(text, "{name}: {rows} rows compared");
    }
    for Difference {
        projection,
        key,
        stored,
        folded,
    } in &report.differences
    {
        let (stored, folded) = (shown(stored.as_deref()), shown(folded.as_deref()));
        let _ = writeln!(
            text,
            "{projection} {key}\n  stored: {stored}\n  folded: {folded}"
        );
    }
    let untold = report.differing - report.differences.len() as u64;
    if untold > 0 {
        let _ = writeln!(text, "and {untold} more");
    }
    let position = report.position;
    let _ = match report.differing {
        0 => writeln!(
            text,
            "every row is what the log says, at position {position}"
        ),
        differing => writeln!(
            text,
            "{differing} ROWS ARE NOT WHAT THE LOG SAYS, at position {position}; \
             `crewlog replay` folds them again"
        ),
    };
    text
}

fn shown(row: Option<&str>) -> String {
    match row {
        None => "nothing".to_owned(),
        Some(row) if row.chars().count() > SHOWN_CHARACTERS => {
            let start: String = row.chars().take(SHOWN_CHARACTERS).collect();
            format!("{start}… (--json shows all of it)")
        }
        Some(row) => row.to_owned(),
    }
}
