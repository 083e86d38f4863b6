//! Reading streams back: snapshots only save time, and older versions are brought up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use crewlog::domain::Stream;
use crewlog::domain::Timestamp;
use crewlog::domain::event::Event;
use crewlog::domain::ids::SessionId;
use crewlog::domain::user::{User, UserCommand};
use crewlog::domain::workspace::{Workspace, WorkspaceCommand, WorkspaceEvent};
use crewlog::journal::stores::{self, DocumentChanges, Statement, Store, StoreKind, Value};
use crewlog::journal::upcasters::{Upcaster, upcast_with};
use crewlog::journal::{
    Fold, FoldError, Folded, Journal, JournalSettings, Recorded, Source, StreamRef, SubmitError,
};
use crewlog::projections::Engine;
use serde_json::json;

use crate::support::journal::{
    Fixture, Person, Team, TestSource, command, commands, done, folded, name, open_store, rename,
    unit,
};
use crate::support::ledger;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both(
            "snapshots",
            "a_snapshot_and_the_tail_are_the_fold",
            are_the_fold,
        ),
        both(
            "snapshots",
            "a_snapshot_that_cannot_be_read_is_ignored",
            is_ignored,
        ),
        both("snapshots", "a_short_stream_leaves_none", short_stream),
        both("upcasting", "older_events_are_brought_up", brought_up),
        both("upcasting", "unknown_events_are_not_skipped", not_skipped),
    ]
}

#[derive(Debug, PartialEq, Clone)]
pub struct StoredSnapshot {
    pub last_sequence: u64,
    pub number: u64,
    pub payload: String,
}

/// The snapshot of a stream, once there is one.
pub async fn snapshot_of(fixture: &Fixture, stream: &StreamRef) -> StoredSnapshot {
    for _ in 0..500 {
        if let Some(found) = snapshot_now(fixture, stream).await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no snapshot of {stream:?} was kept");
}

async fn snapshot_now(fixture: &Fixture, stream: &StreamRef) -> Option<StoredSnapshot> {
    let sql = "SELECT last_sequence, current_snapshot, CAST(payload AS TEXT)
                 FROM snapshots WHERE aggregate_id = $1";
    let rows = fixture.store.query(sql, vec![stream.id.clone().into()]);
    let rows = rows.await.expect("snapshots");
    rows.first().map(|row| StoredSnapshot {
        last_sequence: row.count(0).expect("a sequence"),
        number: row.count(1).expect("a number"),
        payload: row.text(2).expect("a payload").to_owned(),
    })
}

async fn change_snapshot(fixture: &Fixture, what: &str, value: Value, stream: &StreamRef) {
    let value_of = match (fixture.store.kind(), what) {
        (StoreKind::Postgres, "payload") => "CAST($1 AS JSON)",
        _ => "$1",
    };
    let sql = format!("UPDATE snapshots SET {what} = {value_of} WHERE aggregate_id = $2");
    let touched = fixture
        .store
        .execute(vec![Statement::new(sql, [value, stream.id.clone().into()])])
        .await
        .expect("the snapshot to be changed");
    assert_eq!(touched, [1]);
}

/// A workspace with `renames` renames in one unit.
async fn renamed(fixture: &Fixture, owner: &Person, team: Team, renames: usize) {
    let renames = (0..renames).map(|number| WorkspaceCommand::Rename {
        actor: owner.user,
        name: name(&format!("name {number}")),
    });
    fixture
        .commit(commands::<Workspace>(team.stream(), renames.collect()))
        .await;
}

async fn are_the_fold(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    renamed(&fixture, &owner, team, 300).await;
    // A stream whose state names positions, too.
    let session = SessionId::from_uuid(fixture.source.uuid());
    let mut sessions = vec![UserCommand::StartSession {
        session,
        expires_at: Timestamp(i64::MAX / 4096),
    }];
    sessions.extend((0..300).map(|minute| UserCommand::RecordSignInFailed { minute, count: 1 }));
    fixture
        .commit(commands::<User>(owner.stream(), sessions))
        .await;

    let second = fixture.another(2).await;
    second
        .assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
    second
        .assert_memory_is_the_log::<User>(&owner.stream())
        .await;
    let of_team = snapshot_of(&second, &team.stream()).await;
    assert_eq!((of_team.last_sequence, of_team.number), (303, 1));
    let ours: Workspace = folded(&*fixture.store, &team.stream()).await;
    assert_eq!(of_team.payload, serde_json::to_string(&ours).expect("JSON"));
    let of_owner = snapshot_of(&second, &owner.stream()).await;
    let ours: User = folded(&*fixture.store, &owner.stream()).await;
    assert_eq!(
        of_owner.payload,
        serde_json::to_string(&ours).expect("JSON")
    );

    // A tail of events behind the snapshot, on either.
    let last = UserCommand::RevokeSession { session };
    second.commit(command::<User>(owner.stream(), last)).await;
    second
        .commit(rename(team, &owner, "after the snapshot"))
        .await;
    let third = fixture.another(3).await;
    third
        .assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
    third
        .assert_memory_is_the_log::<User>(&owner.stream())
        .await;

    // That it is used at all shows where it says something else than the log.
    let told = of_team.payload.replace("name 299", "told by the snapshot");
    change_snapshot(&third, "payload", told.into(), &team.stream()).await;
    change_snapshot(&third, "last_sequence", 304u64.into(), &team.stream()).await;
    let fourth = fixture.another(4).await;
    let state: Workspace = fourth.in_memory(&team.stream()).await;
    assert_eq!(state.name(), "told by the snapshot");

    // Enough new events, and the next cold load leaves a newer one in its place.
    change_snapshot(&third, "payload", of_team.payload.into(), &team.stream()).await;
    change_snapshot(&third, "last_sequence", 303u64.into(), &team.stream()).await;
    renamed(&fixture, &owner, team, 300).await;
    let fifth = fixture.another(5).await;
    fifth
        .assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
    for _ in 0..500 {
        if snapshot_of(&fifth, &team.stream()).await.number == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let newer = snapshot_of(&fifth, &team.stream()).await;
    assert_eq!((newer.last_sequence, newer.number), (604, 2));
    ledger::verify(&*fixture.store).await;
}

async fn is_ignored(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    renamed(&fixture, &owner, team, 300).await;
    let second = fixture.another(2).await;
    second.in_memory::<Workspace>(&team.stream()).await;
    let good = snapshot_of(&second, &team.stream()).await;

    // What no later event changes, so that only the snapshot can have told it.
    let told = good
        .payload
        .replace("\"plan\":\"team\"", "\"plan\":\"told\"");
    assert_ne!(told, good.payload);
    let mut damages = vec![json!({"id": 17}).to_string(), "[]".to_owned()];
    if fixture.store.kind() == StoreKind::Sqlite {
        damages.push(good.payload[..good.payload.len() / 2].to_owned());
    }
    for (number, damage) in (3..).zip(damages) {
        change_snapshot(&fixture, "payload", damage.into(), &team.stream()).await;
        let cold = fixture.another(number).await;
        cold.assert_memory_is_the_log::<Workspace>(&team.stream())
            .await;
        cold.commit(rename(team, &owner, &format!("cold {number}")))
            .await;
    }
    // Of another form of the state, readable or not.
    change_snapshot(&fixture, "payload", told.into(), &team.stream()).await;
    let other_version = Workspace::STATE_VERSION + 1;
    change_snapshot(
        &fixture,
        "state_version",
        other_version.into(),
        &team.stream(),
    )
    .await;
    let cold = fixture.another(9).await;
    cold.assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
    ledger::verify(&*fixture.store).await;
}

async fn short_stream(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    renamed(&fixture, &owner, team, 253).await;
    let cold = fixture.another(2).await;
    cold.assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(snapshot_now(&cold, &team.stream()).await, None);
}

/// Puts a workspace of two events into a store that has none, the second one as given.
async fn write_by_hand(store: &dyn Store, source: &dyn Source, second: [&str; 3]) -> StreamRef {
    use crewlog::domain::ids::{BatchId, EventId, OrganizationId, UserId, WorkspaceId};
    let workspace = WorkspaceId::from_uuid(source.uuid());
    let created = json!({"workspace_created": {
        "workspace": workspace,
        "organization": OrganizationId::from_uuid(source.uuid()),
        "name": "first",
        "created_by": UserId::from_uuid(source.uuid()),
    }});
    let created = created.to_string();
    let batch = BatchId::from_uuid(source.uuid()).to_string();
    let mut statements = vec![Statement::new(
        "UPDATE log_head SET position = 2, recorded_at = 5, frontier = $1",
        [Value::from(vec![7; 32])],
    )];
    let events = [["workspace_created", "1", &created], second];
    for (number, [event_type, version, payload]) in (1u64..).zip(events) {
        let (hash, salt) = ([number as u8; 32], [9; 32]);
        let previous = (number > 1).then(|| vec![1; 32]);
        let json = match store.kind() {
            StoreKind::Sqlite => ["$6", "$7"],
            StoreKind::Postgres => ["CAST($6 AS JSON)", "CAST($7 AS JSON)"],
        };
        let parameters: [Value; 13] = [
            workspace.to_string().into(),
            number.into(),
            event_type.into(),
            version.into(),
            EventId::from_uuid(source.uuid()).to_string().into(),
            payload.into(),
            r#"{"actor":{"type":"system"}}"#.into(),
            number.into(),
            5i64.into(),
            batch.clone().into(),
            Value::Bytes(previous),
            salt.as_slice().into(),
            hash.as_slice().into(),
        ];
        let sql = format!(
            "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type,
                    event_version, id, payload, metadata, position, recorded_at, batch, scope,
                    scope_sequence, previous, salt, leaf)
             VALUES ('workspace', $1, $2, $3, $4, $5, {}, {}, $8, $9, $10, $1, $2, $11, $12, $13)",
            json[0], json[1]
        );
        statements.push(Statement::new(sql, parameters));
    }
    store.execute(statements).await.expect("rows by hand");
    StreamRef::of::<Workspace>(workspace, workspace)
}

/// As if renaming had been written as `{"renamed": {"name": …}}` once, then with a member `old`.
const STEPS: &[Upcaster] = &[
    Upcaster {
        aggregate_type: "workspace",
        event_type: "workspace_renamed",
        from: "-1",
        to: "0",
        change: |mut value| {
            value["renamed"]["old"] = json!("first");
            value
        },
    },
    Upcaster {
        aggregate_type: "workspace",
        event_type: "workspace_renamed",
        from: "0",
        to: "1",
        change: |value| {
            let renamed = &value["renamed"];
            json!({"workspace_renamed": {"from": renamed["old"], "to": renamed["name"]}})
        },
    },
];

// Production has no upcaster yet, so that what stands here is the path from the row to the
// step and from there to the type; that reading takes this path stands in the next trial.
async fn brought_up(store: StoreUnderTest) {
    let source = TestSource::new(1);
    let store = open_store(&store).await;
    // The order of members and the blanks are not ours: they come back as they were stored.
    let payload = r#"{ "renamed": {"name": "zweiter \u00fc"} }"#;
    let second = ["workspace_renamed", "-1", payload];
    let stream = write_by_hand(&*store, &source, second).await;
    let events = stores::stream_after(&*store, "workspace", &stream.id, 1, 10).await;
    let [event] = events.expect("the stream").try_into().expect("one event");
    assert_eq!(event.payload, payload, "kept byte for byte");
    assert_eq!(event.event_version, "-1");
    let current = upcast_with(
        STEPS,
        &event.aggregate_type,
        &event.event_type,
        &event.event_version,
        &event.payload,
    )
    .expect("JSON");
    let expected = WorkspaceEvent::WorkspaceRenamed {
        from: "first".to_owned(),
        to: "zweiter ü".to_owned(),
    };
    assert_eq!(
        Event::decode("workspace", &current.payload).expect("the current form"),
        Event::Workspace(expected)
    );
}

async fn not_skipped(store: StoreUnderTest) {
    let under_test = store;
    let source = TestSource::new(1);
    let store = open_store(&under_test).await;
    // Of a version that this program does not write, though it would read as one that it does.
    let payload = r#"{"workspace_renamed":{"from":"first","to":"second"}}"#;
    let second = ["workspace_renamed", "2", payload];
    let stream = write_by_hand(&*store, &source, second).await;

    let events = ledger::read(&*store).await;
    assert!(events[0].decode().is_ok(), "the first is ours");
    let error = events[1].decode().expect_err("the second is not");
    assert_eq!(error.position, 2);
    let refusal = Engine::open(&*store).await;
    let refusal = refusal.expect_err("a projection cannot leave it out");
    assert!(refusal.to_string().contains("position 2"), "{refusal}");

    // Nothing folds here, so that what is shown is the reading of the stream itself.
    let journal = Journal::start(
        store.clone(),
        Arc::new(source),
        Arc::new(NoFold),
        JournalSettings::default(),
    )
    .await
    .expect("the journal to start");
    let look = unit("look", vec![stream.clone()], move |_| Ok(done()));
    let neighbour = unit("neighbour", vec![], move |_| Ok(done()));
    let (look, neighbour) = tokio::join!(journal.submit(look), journal.submit(neighbour));
    assert!(
        neighbour.is_ok(),
        "whoever does not want it is not told: {neighbour:?}"
    );
    match look {
        Err(SubmitError::Fault(said)) => {
            assert!(said.contains("position 2"), "{said}");
            assert!(journal.status().problem().is_some(), "and readyz is red");
        }
        other => panic!("a stream that cannot be read was used: {other:?}"),
    }
}

struct NoFold;

#[async_trait]
impl Fold for NoFold {
    async fn fold(
        &self,
        _: &dyn Store,
        _: Option<&Folded>,
        _: &mut Folded,
        _: &[Recorded],
    ) -> Result<(), FoldError> {
        Ok(())
    }

    fn changes(&self, _: &Folded) -> Result<Vec<DocumentChanges>, FoldError> {
        Ok(Vec::new())
    }

    fn committed(&self, _: Folded) {}

    async fn forget(&self, _: &dyn Store) {}

    fn noticed(&self, _: &crewlog::journal::StoredEvent) {}

    fn stream_type(&self, name: &str) -> Option<&'static str> {
        ["workspace"].into_iter().find(|known| *known == name)
    }
}
