//! What a store promises of an append, and what the journal makes of an outcome that nobody knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crewlog::domain::Timestamp;
use crewlog::domain::event::Event;
use crewlog::domain::ids::{BatchId, EventId};
use crewlog::domain::workspace::{Workspace, WorkspaceEvent};
use crewlog::journal::stores::postgres::PostgresStore;
use crewlog::journal::stores::{
    self, Append, AppendError, Head, Statement, Store, StoreKind, Value,
};
use crewlog::journal::{JournalSettings, Source, StoredEvent, SubmitError};
use crewlog::proofs::tree::Frontier;

use crate::support::journal::{Fixture, TestSource, open_store, rename};
use crate::support::ledger;
use crate::support::mishaps::{Mishap, with_mishaps};
use crate::support::postgres::Cluster;
use crate::support::trials::{Case, StoreUnderTest, both, with_cluster};

pub fn trials() -> Vec<Case> {
    vec![
        both("stores", "parameters_are_bound_by_number", bound_by_number),
        both("stores", "values_come_back_as_they_went", values_come_back),
        both("stores", "a_lost_compare_writes_nothing", lost_compare),
        both("stores", "a_conflict_writes_nothing", conflict),
        both("stores", "resolving_settles_a_batch", resolving),
        both("stores", "statements_run_all_or_none", all_or_none),
        both("outcomes", "an_unknown_outcome_is_found_out", found_out),
        both(
            "outcomes",
            "a_store_that_fails_writes_nothing",
            store_that_fails,
        ),
        with_cluster("outcomes", "an_answer_survives_a_crash", survives_a_crash),
    ]
}

async fn bound_by_number(store: StoreUnderTest) {
    let store = open_store(&store).await;
    let sql = "SELECT CAST($2 AS TEXT), CAST($1 AS TEXT), CAST($2 AS TEXT)";
    let rows = store
        .query(sql, vec!["first".into(), "second".into()])
        .await;
    let rows = rows.expect("an answer");
    let texts = [0, 1, 2].map(|column| rows[0].text(column).expect("text").to_owned());
    assert_eq!(texts, ["second", "first", "second"]);

    let insert = Statement::new(
        "INSERT INTO root_keys (proof, name) VALUES ($2, $1)",
        ["name".into(), Value::from(vec![1, 2])],
    );
    assert_eq!(store.execute(vec![insert]).await.expect("a row"), [1]);
    let update = Statement::new(
        "UPDATE root_keys SET proof = $2 WHERE name = $1",
        ["name".into(), Value::from(vec![3])],
    );
    assert_eq!(store.execute(vec![update]).await.expect("a change"), [1]);
    let rows = store.query("SELECT proof FROM root_keys", vec![]).await;
    assert_eq!(rows.expect("an answer")[0].bytes(0).expect("bytes"), [3]);
    for wrong in [vec![], vec!["one".into()]] {
        let answer = store.query(sql, wrong.clone()).await;
        assert!(answer.is_err(), "{wrong:?}: {answer:?}");
    }
}

async fn values_come_back(store: StoreUnderTest) {
    let store = open_store(&store).await;
    let sql = "SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), $3 + 0, $4 + 0";
    let integers = match store.kind() {
        StoreKind::Sqlite => sql.to_owned(),
        StoreKind::Postgres => sql.replace("$3 + 0, $4 + 0", "$3::BIGINT, $4::BIGINT"),
    };
    let parameters = vec![
        "a 'quoted' \u{1f980} text\n".into(),
        Value::Text(None),
        Value::from(i64::MIN),
        Value::Integer(None),
    ];
    let rows = store.query(&integers, parameters).await.expect("an answer");
    assert_eq!(
        rows[0].text(0).expect("text"),
        "a 'quoted' \u{1f980} text\n"
    );
    assert_eq!(rows[0].optional_text(1).expect("text or null"), None);
    assert_eq!(rows[0].integer(2).expect("an integer"), i64::MIN);
    assert_eq!(rows[0].optional_integer(3).expect("or null"), None);
    assert!(rows[0].integer(0).is_err() && rows[0].text(9).is_err());
}

/// A batch of one event on a log that holds `head`, as a writer would send it.
fn a_batch(source: &TestSource, head: &Head, id: &str) -> Append {
    let batch = BatchId::from_uuid(source.uuid());
    let recorded_at = Timestamp(head.recorded_at.0 + 1);
    let mut event = StoredEvent {
        position: head.position + 1,
        id: EventId::from_uuid(source.uuid()),
        recorded_at,
        batch,
        aggregate_type: "workspace".to_owned(),
        aggregate_id: id.to_owned(),
        sequence: 1,
        scope: id.to_owned(),
        scope_sequence: 1,
        previous: None,
        event_type: "workspace_renamed".to_owned(),
        event_version: "1".to_owned(),
        payload: r#"{"workspace_renamed":{"from":"a","to":"b"}}"#.to_owned(),
        metadata: r#"{"actor":{"type":"system"}}"#.to_owned(),
        salt: [3; 32],
        leaf: [0; 32],
    };
    event.leaf = event.computed_leaf();
    let mut frontier = head.frontier.clone();
    frontier.push(event.leaf);
    Append {
        batch,
        expected_position: head.position,
        expected_epoch: head.epoch,
        expected_frontier: head.frontier.clone(),
        recorded_at,
        frontier,
        events: vec![event],
        documents: vec![],
        statements: vec![],
    }
}

fn beside(value: &str) -> Statement {
    Statement::new(
        "INSERT INTO claims (scope, kind, value, holder) VALUES ('s', 'k', $1, 'h')",
        [value.into()],
    )
}

async fn count(store: &dyn Store, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    let rows = store.query(&sql, vec![]).await.expect("a count");
    rows[0].integer(0).expect("a number")
}

async fn head(store: &dyn Store) -> Head {
    stores::head(store).await.expect("the head")
}

async fn lost_compare(store: StoreUnderTest) {
    let store = open_store(&store).await;
    let source = TestSource::new(1);
    let empty = head(&*store).await;
    let mut late = a_batch(&source, &empty, "late");
    late.statements.push(beside("late"));
    let first = Arc::new(a_batch(&source, &empty, "first"));
    store.append(first.clone()).await.expect("the first");
    let again = store.append(first).await;
    assert!(matches!(again, Err(AppendError::Lost)), "{again:?}");
    let lost = store.append(Arc::new(late)).await;
    assert!(matches!(lost, Err(AppendError::Lost)), "{lost:?}");
    let one = head(&*store).await;
    assert_eq!((one.position, one.epoch), (1, 0));
    let mut other_epoch = a_batch(&source, &one, "other");
    other_epoch.expected_epoch += 1;
    let lost = store.append(Arc::new(other_epoch)).await;
    assert!(matches!(lost, Err(AppendError::Lost)), "{lost:?}");
    // Decided on another log, which has as many entries.
    let mut other_log = a_batch(&source, &one, "other");
    other_log.expected_frontier = Frontier::default();
    other_log.expected_frontier.push([7; 32]);
    let lost = store.append(Arc::new(other_log)).await;
    assert!(matches!(lost, Err(AppendError::Lost)), "{lost:?}");
    assert_eq!(count(&*store, "claims").await, 0);
    assert_eq!(ledger::verify(&*store).await.len(), 1);
}

async fn conflict(store: StoreUnderTest) {
    let store = open_store(&store).await;
    let source = TestSource::new(1);
    let mut first = a_batch(&source, &head(&*store).await, "first");
    first.statements.push(beside("one"));
    store.append(Arc::new(first)).await.expect("the first");
    let one = head(&*store).await;

    let mut taken = a_batch(&source, &one, "second");
    taken.statements.extend([beside("two"), beside("one")]);
    let refused = store.append(Arc::new(taken)).await;
    assert!(
        matches!(refused, Err(AppendError::Conflict(_))),
        "{refused:?}"
    );

    let mut wrong = a_batch(&source, &one, "second");
    wrong.statements.extend([
        beside("two"),
        Statement::new("INSERT INTO nowhere VALUES (1)", []),
    ]);
    let refused = store.append(Arc::new(wrong)).await;
    assert!(
        matches!(refused, Err(AppendError::Failed(_))),
        "{refused:?}"
    );

    assert_eq!(head(&*store).await, one);
    assert_eq!(count(&*store, "claims").await, 1);
    assert_eq!(ledger::verify(&*store).await.len(), 1);
    store
        .append(Arc::new(a_batch(&source, &one, "second")))
        .await
        .expect("the store to go on");
    assert_eq!(ledger::verify(&*store).await.len(), 2);
}

async fn resolving(store: StoreUnderTest) {
    let store = open_store(&store).await;
    let source = TestSource::new(1);
    let written = Arc::new(a_batch(&source, &head(&*store).await, "written"));
    store.append(written.clone()).await.expect("the first");
    assert!(store.resolve(written.batch, 1).await.expect("an answer"));
    let one = head(&*store).await;
    assert_eq!((one.position, one.epoch), (1, 1), "the epoch is raised");

    // In flight while it is resolved: it can no longer be written.
    let in_flight = Arc::new(a_batch(&source, &one, "in-flight"));
    assert!(!store.resolve(in_flight.batch, 2).await.expect("an answer"));
    let lost = store.append(in_flight.clone()).await;
    assert!(matches!(lost, Err(AppendError::Lost)), "{lost:?}");
    assert!(!store.resolve(in_flight.batch, 2).await.expect("an answer"));
    let three = head(&*store).await;
    assert_eq!((three.position, three.epoch), (1, 3));
    store
        .append(Arc::new(a_batch(&source, &three, "after-it")))
        .await
        .expect("a batch of the new epoch");
    assert_eq!(ledger::verify(&*store).await.len(), 2);

    // What is kept beside the log may be all that a batch has.
    let last = head(&*store).await;
    let mut beside_only = a_batch(&source, &last, "none");
    beside_only.events.clear();
    beside_only.frontier = last.frontier.clone();
    beside_only.statements.push(beside("only"));
    let (batch, recorded_at) = (beside_only.batch, beside_only.recorded_at);
    store
        .append(Arc::new(beside_only))
        .await
        .expect("statements");
    assert!(store.resolve(batch, 3).await.expect("an answer"));
    assert_eq!(count(&*store, "claims").await, 1);
    let moved = head(&*store).await;
    assert_eq!((moved.position, moved.recorded_at), (2, recorded_at));
}

async fn all_or_none(store: StoreUnderTest) {
    let store = open_store(&store).await;
    let refused = store.execute(vec![beside("one"), beside("one")]).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(count(&*store, "claims").await, 0);
    let touched = store.execute(vec![beside("one"), beside("two")]).await;
    assert_eq!(touched.expect("both"), [1, 1]);
    let guarded = |holder: &str| {
        Statement::new(
            "UPDATE claims SET holder = $1 WHERE value = 'one' AND holder = 'h'",
            [holder.into()],
        )
    };
    let put = store.put(vec![], None, Some(guarded("first"))).await;
    assert!(put.expect("it is there"));
    let put = store.put(vec![], None, Some(guarded("second"))).await;
    assert!(!put.expect("an answer"), "the guard touched nothing");
    let delete = Statement::new("DELETE FROM claims WHERE scope = $1", ["s".into()]);
    assert_eq!(store.execute(vec![delete]).await.expect("both"), [2]);
}

async fn found_out(store: StoreUnderTest) {
    let plan = [
        Mishap::None,
        Mishap::AnswerLost,
        Mishap::ArrivesLate,
        Mishap::NeverSent,
        Mishap::AnswerLost,
    ];
    let (fixture, mishaps) = with_mishaps(&store, &plan).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    let fixture = Arc::new(fixture);
    let mut tasks = Vec::new();
    for number in 0..24 {
        let (fixture, owner) = (fixture.clone(), owner.clone());
        tasks.push(tokio::spawn(async move {
            let mut told = Vec::new();
            for round in 0..3 {
                let text = format!("{number} {round}");
                let committed = fixture.commit(rename(team, &owner, &text)).await;
                told.push((text, committed.position));
            }
            told
        }));
    }
    let mut told = Vec::new();
    for task in tasks {
        told.extend(task.await.expect("no panic"));
    }
    let events = ledger::verify(&*fixture.store).await;
    for (text, position) in &told {
        let event = &events[usize::try_from(position - 1).expect("a position")];
        assert!(
            event.payload.contains(&format!("\"to\":\"{text}\"")),
            "{text}"
        );
    }
    assert_eq!(events.len(), 2 + 2 + 3 + told.len(), "each is there once");
    assert!(mishaps.late_ones_lost() > 0);
    assert_eq!(
        fixture.journal.status().problem(),
        None,
        "all is well again"
    );
    fixture
        .assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
    crate::projections::assert_documents_are_the_log(&fixture).await;
}

async fn store_that_fails(store: StoreUnderTest) {
    let plan = [Mishap::None, Mishap::None, Mishap::None, Mishap::Refused];
    let (fixture, _) = with_mishaps(&store, &plan).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    let before = ledger::verify(&*fixture.store).await;
    let answer = fixture.submit(rename(team, &owner, "refused")).await;
    assert!(
        matches!(answer, Err(SubmitError::Unavailable(_))),
        "{answer:?}"
    );
    let problem = fixture.journal.status().problem();
    assert!(problem.is_some_and(|said| said.contains("no room")));
    assert_eq!(ledger::verify(&*fixture.store).await, before);
    fixture
        .assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
    fixture.commit(rename(team, &owner, "accepted")).await;
    assert_eq!(fixture.journal.status().problem(), None);
    assert_eq!(
        ledger::verify(&*fixture.store).await.len(),
        before.len() + 1
    );
}

/// Writers go on through two crashes of the database; what each was told must be so afterwards.
async fn survives_a_crash(cluster: Cluster) {
    let database = cluster.database().await.expect("a database");
    let store = PostgresStore::open(database.url()).await;
    let store: Arc<dyn Store> = Arc::new(store.expect("the store to open"));
    let fixture = Fixture::on(store, 1, JournalSettings::default()).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    let (fixture, is_over) = (Arc::new(fixture), Arc::new(AtomicBool::new(false)));
    let mut writers = Vec::new();
    for number in 0..8 {
        let (fixture, owner, is_over) = (fixture.clone(), owner.clone(), is_over.clone());
        writers.push(tokio::spawn(async move {
            let mut told = Vec::new();
            for round in 0.. {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let text = format!("{number} {round}");
                let answer = fixture.submit(rename(team, &owner, &text)).await;
                if answer.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                told.push((text, answer));
            }
            told
        }));
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        tokio::task::block_in_place(|| cluster.crash_and_recover());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_over.store(true, Ordering::SeqCst);
    let mut told = Vec::new();
    for writer in writers {
        told.extend(writer.await.expect("no panic"));
    }

    let events = ledger::verify(&*fixture.store).await;
    let mut written = BTreeMap::new();
    for event in &events {
        if let Event::Workspace(WorkspaceEvent::WorkspaceRenamed { to, .. }) =
            event.decode().expect("ours").event
        {
            assert_eq!(written.insert(to, event.position), None, "written once");
        }
    }
    let mut refused = 0;
    for (text, answer) in &told {
        let position = answer.as_ref().ok().map(|committed| committed.position);
        assert_eq!(written.remove(text), position, "{text}: {answer:?}");
        match answer {
            Ok(_) => {}
            Err(SubmitError::Unavailable(_)) => refused += 1,
            Err(other) => panic!("{text}: {other}"),
        }
    }
    assert!(written.is_empty(), "nobody asked for {written:?}");
    assert!(
        told.len() > refused + 50,
        "{} of {} refused",
        refused,
        told.len()
    );
    fixture.commit(rename(team, &owner, "after all")).await;
    assert_eq!(fixture.journal.status().problem(), None);
    fixture
        .assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
    crate::projections::assert_documents_are_the_log(&fixture).await;
}
