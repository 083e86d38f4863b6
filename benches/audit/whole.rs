//! What is made of much of the log: who had access, an export beside a bare read of the same rows,
//! and proofs.

use std::time::{Duration, Instant};

use crewlog::{
    api,
    journal::stores::{self, sqlite::SqliteStore},
    service::{AccessQuestion, AsOf, AuditFilter, AuditScope, ExportFormat, Principal},
};
use futures::TryStreamExt;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    Bench, Told,
    harness::{Place, median, owner::request, taken},
    world::{LARGE, MIDDLE, World},
};

/// Entries that are exported and read beside it.
const EXPORTED: u64 = 20_000;
const ROUNDS: usize = 3;

pub async fn measure(bench: &Bench, world: &World, place: &Place, told: &mut Told) {
    access(bench, world, told).await;
    proofs(bench, told).await;
    exports(bench, world, place).await;
}

/// Who had access, each time as of another moment: the first report folds all of the streams, the
/// others go on from what that has kept.
async fn access(bench: &Bench, world: &World, told: &mut Told) {
    let head = stores::head(&*bench.store)
        .await
        .expect("the head")
        .position;
    let mut random = StdRng::seed_from_u64(3);
    for (at, name) in [(MIDDLE, "middle"), (LARGE, "large")] {
        let (started, mut figures) = (Instant::now(), Vec::new());
        while figures.len() < 2
            || (figures.len() < 21 && started.elapsed() < Duration::from_secs(15))
        {
            let question = AccessQuestion {
                as_of: Some(AsOf::Position(random.gen_range(head / 2..head))),
                ..AccessQuestion::default()
            };
            let reader = Principal::from(&bench.owner.caller);
            let service = &bench.owner.service;
            let about = request();
            let asked = service.access(&about, reader, world.spaces[at].id, question);
            let (taken, report) = taken(asked).await;
            report.expect("a report");
            figures.push(taken.seconds * 1e3);
        }
        let first = figures.remove(0);
        told.add(format!("{name}: access, the first report"), vec![first]);
        told.add(format!("{name}: access as of a moment"), figures);
    }
}

async fn proofs(bench: &Bench, told: &mut Told) {
    let service = &bench.owner.service;
    let made = service.make_checkpoint().await;
    let size = made.expect("a checkpoint").size;
    let mut random = StdRng::seed_from_u64(5);
    let (mut inclusion, mut consistency) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let position = random.gen_range(1..=size);
        let (time, proof) = taken(service.inclusion(position, None)).await;
        proof.expect("a proof").expect("it is in the log");
        inclusion.push(time.seconds * 1e3);
        let (time, proof) = taken(service.consistency(position, None)).await;
        proof.expect("a proof").expect("it is of the log");
        consistency.push(time.seconds * 1e3);
    }
    told.add("proof of inclusion", inclusion);
    told.add("proof of consistency", consistency);
}

/// Entries a second of an export, beside a bare read of the rows that it is made of.
async fn exports(bench: &Bench, world: &World, place: &Place) {
    let (mut figures, mut ratios, mut bare_figures) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (bare, rows) = taken(bare(world, place)).await;
        let bare = rows as f64 / bare.seconds;
        let (sent, entries) = taken(export(bench, world)).await;
        let sent = entries as f64 / sent.seconds;
        figures.push(sent);
        bare_figures.push(bare);
        ratios.push(sent / bare);
    }
    println!(
        "{}: an export (JSON Lines, proven) sends {:.0} entries/s; a bare read of the same rows {:.0}/s; \
         ratio {:.3}",
        place.name,
        median(figures),
        median(bare_figures),
        median(ratios),
    );
    println!();
}

async fn export(bench: &Bench, world: &World) -> u64 {
    let service = &bench.owner.service;
    let reader = Principal::from(&bench.owner.caller);
    let scope = AuditScope::Workspace(world.spaces[LARGE].id);
    let filter = AuditFilter::default();
    let (about, format) = (request(), ExportFormat::Jsonl);
    let begun = service.begin_export(&about, &reader, scope, filter, format);
    let mut export = begun.await.expect("an export");
    while export.entries() < EXPORTED {
        let part = service.next_of_export(&mut export, api::shown_entry).await;
        if part.expect("a part").is_none() {
            break;
        }
    }
    export.entries()
}

/// Reads the rows of the same entries, in their order, and nothing else.
async fn bare(world: &World, place: &Place) -> u64 {
    let scope = world.spaces[LARGE].id.to_string();
    let sql = format!(
        "SELECT position, id, recorded_at, aggregate_type, aggregate_id, sequence, scope,
                event_type, event_version, payload, metadata, salt, leaf
           FROM events WHERE scope = '{scope}' AND scope_sequence <= {EXPORTED}
          ORDER BY scope_sequence"
    );
    match &place.database {
        None => {
            let file = SqliteStore::file(place.folder.path());
            let read = tokio::task::spawn_blocking(move || read_sqlite(&file, &sql)).await;
            read.expect("no panic").expect("the rows")
        }
        Some(database) => {
            let pool = sqlx::PgPool::connect(database.url())
                .await
                .expect("it answers");
            let mut connection = pool.acquire().await.expect("a connection");
            let copy = format!("COPY ({sql}) TO STDOUT");
            let copied = connection.copy_out_raw(&copy).await.expect("it is copied");
            let lines = copied.try_fold(0, |lines, part| async move {
                let ends = part.iter().filter(|byte| **byte == b'\n').count();
                Ok(lines + ends as u64)
            });
            lines.await.expect("the rows")
        }
    }
}

fn read_sqlite(file: &std::path::Path, sql: &str) -> rusqlite::Result<u64> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(file, flags)?;
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let (mut rows, mut count) = (statement.query([])?, 0);
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            std::hint::black_box(row.get_ref(column)?);
        }
        count += 1;
    }
    Ok(count)
}
