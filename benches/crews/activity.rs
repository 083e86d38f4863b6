//! How fast the activity of a crew is taken in and read back, beside bare statements that put the
//! same rows into the same table and read them.

use std::sync::Arc;

use crewlog::{
    domain::Timestamp,
    journal::{
        Source, SystemSource,
        stores::{Statement, Store, Value},
    },
    service::{ActivityFilter, ActivityLevel, ActivityRecord},
};
use serde_json::json;

use crate::{
    READS, ROUNDS, Site,
    harness::{median, owner::request, taken},
};

const BATCH: usize = 500;
/// Batches of each round.
const BATCHES: usize = 20;
const KINDS: usize = 20;

fn record(round: usize, nth: usize) -> ActivityRecord {
    ActivityRecord {
        id: format!("record-{round}-{nth}"),
        at: Timestamp(SystemSource.now().0 - nth as i64 * 1_000),
        kind: format!("call.kind_{}", nth % KINDS),
        level: Some(ActivityLevel::ALL[nth % 4]),
        message: Some(format!(
            "Call {nth} was answered. {}",
            "All is well. ".repeat(8)
        )),
        data: Some(json!({"seconds": nth, "from": "web"})),
    }
}

/// The rows of a batch, as they are kept.
fn bare_batch(crew: &str, round: usize, batch: usize) -> Statement {
    let mut places = Vec::new();
    let mut parameters: Vec<Value> = Vec::new();
    for nth in batch * BATCH..(batch + 1) * BATCH {
        let record = record(round, nth);
        let said = json!({"message": record.message, "data": record.data}).to_string();
        let mut sealed = vec![0; said.len() + 24 + 16];
        SystemSource.fill(&mut sealed);
        let first = parameters.len() + 1;
        let columns: Vec<_> = (first..first + 8).map(|at| format!("${at}")).collect();
        places.push(format!("({})", columns.join(", ")));
        let level = record.level.map(|level| level.name().to_owned());
        let row: [Value; 8] = [
            "ws_bare".into(),
            crew.into(),
            record.id.into(),
            record.at.0.into(),
            record.kind.into(),
            level.into(),
            1_i64.into(),
            sealed.into(),
        ];
        parameters.extend(row);
    }
    let sql = format!(
        "INSERT INTO activity (workspace, crew, id, at, kind, level, key_version, sealed)
         VALUES {}",
        places.join(", ")
    );
    Statement::new(sql, parameters)
}

pub async fn measure(site: &mut Site) -> Vec<(String, String)> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (time, ()) = taken(send(site, round)).await;
        ours.push((BATCHES * BATCH) as f64 / time.seconds);
        site.stop().await;
        let store = site.bare().await;
        // Made before, as a client makes what it sends.
        let batches: Vec<_> = (0..BATCHES)
            .map(|batch| bare_batch(BARE, round, batch))
            .collect();
        let (time, ()) = taken(insert(&store, batches)).await;
        bare.push((BATCHES * BATCH) as f64 / time.seconds);
        store.close().await;
        drop(store);
        site.start().await;
    }
    let mut rows = vec![(
        "records taken in, a second, 500 at a time (and of bare inserts; ratio)".to_owned(),
        beside(&ours, &bare),
    )];
    rows.extend(pages(site).await);
    rows
}

const BARE: &str = "crw_bare";

fn beside(ours: &[f64], bare: &[f64]) -> String {
    let ratio = median(ours.iter().zip(bare).map(|(ours, bare)| ours / bare));
    let of = |values: &[f64]| median(values.iter().copied());
    format!("{:.0} ({:.0}; {ratio:.2})", of(ours), of(bare))
}

async fn send(site: &Site, round: usize) {
    let at = site.crew(1);
    for batch in 0..BATCHES {
        let records = (batch * BATCH..(batch + 1) * BATCH).map(|nth| record(round, nth));
        let sent = site
            .service()
            .send_activity(&request(), &site.principal, at, records.collect())
            .await;
        assert_eq!(sent.expect("it is kept").value.accepted, BATCH as u64);
    }
}

async fn insert(store: &Arc<dyn Store>, batches: Vec<Statement>) {
    for batch in batches {
        store.execute(vec![batch]).await.expect("it is kept");
    }
}

/// Pages of 50, by each filter.
async fn pages(site: &mut Site) -> Vec<(String, String)> {
    let kind = Some("call.kind_3".to_owned());
    let asked = [
        (
            "pages of 50 records, a second",
            ActivityFilter::default(),
            "",
        ),
        (
            "the same, of one kind of 20",
            ActivityFilter {
                kind,
                ..ActivityFilter::default()
            },
            "AND kind = 'call.kind_3'",
        ),
        (
            "the same, of one level of 4",
            ActivityFilter {
                level: Some(ActivityLevel::Error),
                ..ActivityFilter::default()
            },
            "AND level = 'error'",
        ),
        (
            "the same, with words that all have",
            ActivityFilter {
                text: Some("well answered".to_owned()),
                ..ActivityFilter::default()
            },
            "",
        ),
    ];
    let mut rows = Vec::new();
    for (name, filter, condition) in asked {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (time, ()) = taken(async {
                for _ in 0..READS {
                    let (at, range, request) = (site.crew(1), (None, 50), request());
                    let service = site.service();
                    let page = service.activity_of(&request, &site.principal, at, &filter, range);
                    assert_eq!(page.await.expect("a page").records.len(), 50);
                }
            })
            .await;
            ours.push(READS as f64 / time.seconds);
        }
        site.stop().await;
        let store = site.bare().await;
        let sql = format!(
            "SELECT id, at, kind, level, key_version, sealed
               FROM activity
              WHERE crew = $1 AND workspace = 'ws_bare' {condition}
              ORDER BY at DESC, id DESC
              LIMIT 51"
        );
        for _ in 0..ROUNDS {
            let (time, ()) = taken(async {
                for _ in 0..READS {
                    let page = store.query(&sql, vec![BARE.into()]).await;
                    assert_eq!(page.expect("a page").len(), 51);
                }
            })
            .await;
            bare.push(READS as f64 / time.seconds);
        }
        store.close().await;
        drop(store);
        site.start().await;
        rows.push((
            format!("{name} (and of bare selects; ratio)"),
            beside(&ours, &bare),
        ));
    }
    rows
}
