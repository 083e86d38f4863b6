//! The event repositories of cqrs-es read our tables, and what they read folds to our state.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cqrs_es::persist::{EventUpcaster, PersistedEventRepository, QueryReplay, SerializedEvent};
use cqrs_es::{Aggregate, EventEnvelope, Query};
use crewlog::domain::Stream;
use crewlog::domain::attempts::{Attempts, AttemptsCommand};
use crewlog::domain::authority::Role;
use crewlog::domain::organization::Organization;
use crewlog::domain::user::User;
use crewlog::domain::workspace::{Workspace, WorkspaceCommand};
use crewlog::journal::StreamRef;
use crewlog::journal::stores;
use crewlog::journal::stores::sqlite::SqliteStore;
use postgres_es::PostgresEventRepository;
use serde_json::Value;
use sqlite_es::SqliteEventRepository;

use crate::snapshots::snapshot_of;
use crate::support::journal::{
    Fixture, Team, command, commands, folded, name, organization_stream,
};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("peers", "repositories_read_our_events", read_our_events),
        both(
            "peers",
            "repositories_read_our_snapshots",
            read_our_snapshots,
        ),
        both("peers", "replay_takes_our_metadata_flattened", replay),
    ]
}

async fn sqlite_repository(store: &StoreUnderTest) -> SqliteEventRepository {
    let file = SqliteStore::file(store.data_dir());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let pool = sqlx::SqlitePool::connect_with(options).await;
    SqliteEventRepository::new(pool.expect("a pool on the file"))
}

async fn postgres_repository(store: &StoreUnderTest) -> PostgresEventRepository {
    let url = store.database_url().expect("a database");
    let pool = sqlx::PgPool::connect(url).await;
    PostgresEventRepository::new(pool.expect("a pool on the database"))
}

/// Something of every aggregate; answers with the team and a stream of each type.
async fn everything(fixture: &Fixture) -> (Team, [StreamRef; 4]) {
    let owner = fixture.sign_up("owner").await;
    let member = fixture.sign_up("member").await;
    let team = fixture.workspace(&owner, "team").await;
    fixture.join(team, &owner, &member, Role::Admin).await;
    fixture
        .join(team, &owner, &fixture.sign_up("guest").await, Role::Viewer)
        .await;
    let refused = AttemptsCommand::Record {
        organization: team.organization,
        actor: member.actor(),
        action: "workspace.rename".to_owned(),
        target: team.workspace.to_string(),
        crew: None,
        environment: None,
        code: "not_permitted".to_owned(),
        minute: 1,
        count: 1,
        repeats: false,
    };
    fixture
        .commit(command::<Attempts>(team.attempts(), refused))
        .await;
    let role = WorkspaceCommand::ChangeRole {
        actor: owner.user,
        user: member.user,
        role: Role::Member,
    };
    fixture
        .commit(command::<Workspace>(team.stream(), role))
        .await;
    let streams = [
        owner.stream(),
        organization_stream(team.organization),
        team.stream(),
        team.attempts(),
    ];
    (team, streams)
}

async fn read_our_events(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let (_, streams) = everything(&fixture).await;
    match store.kind() {
        StoreKind::Sqlite => all_read(&fixture, &sqlite_repository(&store).await, &streams).await,
        StoreKind::Postgres => {
            all_read(&fixture, &postgres_repository(&store).await, &streams).await;
        }
    }
}

async fn all_read<R: PersistedEventRepository>(
    fixture: &Fixture,
    repository: &R,
    [user, organization, workspace, attempts]: &[StreamRef; 4],
) {
    events_read::<User, R>(fixture, repository, user).await;
    events_read::<Organization, R>(fixture, repository, organization).await;
    events_read::<Workspace, R>(fixture, repository, workspace).await;
    events_read::<Attempts, R>(fixture, repository, attempts).await;
}

async fn events_read<A, R>(fixture: &Fixture, repository: &R, stream: &StreamRef)
where
    A: Stream + Clone + PartialEq + Debug,
    R: PersistedEventRepository,
{
    let events = repository.get_events::<A>(&stream.id).await;
    let events = events.expect("their repository to read our rows");
    let ours = stores::stream_after(&*fixture.store, A::TYPE, &stream.id, 0, u64::MAX >> 1)
        .await
        .expect("the stream");
    assert!(!ours.is_empty(), "{stream:?} has events");
    assert_eq!(events.len(), ours.len(), "{stream:?}");
    let mut state = A::default();
    for (theirs, ours) in events.iter().zip(&ours) {
        assert_eq!(theirs.sequence as u64, ours.sequence);
        assert_eq!(theirs.aggregate_type, A::TYPE);
        assert_eq!(theirs.event_type, ours.event_type);
        assert_eq!(theirs.event_version, ours.event_version);
        let metadata: Value = serde_json::from_str(&ours.metadata).expect("JSON");
        assert_eq!(theirs.metadata, metadata);
        let event: A::Event = serde_json::from_value(theirs.payload.clone()).expect("ours");
        state.apply(event.clone());
        // The one thing that their rows do not tell.
        state.positioned(&event, ours.position);
    }
    assert_eq!(state, fixture.in_memory::<A>(stream).await, "{stream:?}");

    let last = repository.get_last_events::<A>(&stream.id, 1).await;
    assert_eq!(last.expect("the last events"), events[1..]);
    let snapshot = repository.get_snapshot::<A>(&stream.id).await;
    assert!(snapshot.expect("an answer").is_none(), "none was kept yet");
}

async fn read_our_snapshots(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    let renames = (0..300).map(|number| WorkspaceCommand::Rename {
        actor: owner.user,
        name: name(&format!("name {number}")),
    });
    fixture
        .commit(commands::<Workspace>(team.stream(), renames.collect()))
        .await;
    let cold = fixture.another(2).await;
    cold.in_memory::<Workspace>(&team.stream()).await;
    snapshot_of(&cold, &team.stream()).await;
    let id = team.workspace.to_string();
    let snapshot = match store.kind() {
        StoreKind::Sqlite => {
            let repository = sqlite_repository(&store).await;
            repository.get_snapshot::<Workspace>(&id).await
        }
        StoreKind::Postgres => {
            let repository = postgres_repository(&store).await;
            repository.get_snapshot::<Workspace>(&id).await
        }
    };
    let snapshot = snapshot.expect("an answer").expect("a snapshot");
    assert_eq!(snapshot.aggregate_id, id);
    assert_eq!(
        (snapshot.current_sequence, snapshot.current_snapshot),
        (303, 1)
    );
    let state: Workspace = serde_json::from_value(snapshot.aggregate).expect("our state");
    let ours: Workspace = folded(&*fixture.store, &team.stream()).await;
    assert_eq!(state, ours);
}

/// Turns our nested metadata into the flat map of strings that cqrs-es has: members by their
/// path, `actor.id`.
struct FlatMetadata;

impl EventUpcaster for FlatMetadata {
    fn can_upcast(&self, _: &str, _: &str) -> bool {
        true
    }

    fn upcast(&self, mut event: SerializedEvent) -> SerializedEvent {
        let mut flat = serde_json::Map::new();
        flatten("", &event.metadata, &mut flat);
        event.metadata = Value::Object(flat);
        event
    }
}

fn flatten(path: &str, value: &Value, flat: &mut serde_json::Map<String, Value>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                flatten(&below(name), value, flat);
            }
        }
        Value::Array(items) => {
            for (number, value) in items.iter().enumerate() {
                flatten(&below(&number.to_string()), value, flat);
            }
        }
        Value::String(text) => {
            flat.insert(path.to_owned(), Value::String(text.clone()));
        }
        other => {
            flat.insert(path.to_owned(), Value::String(other.to_string()));
        }
    }
}

/// A query of theirs that folds, and keeps the metadata that it was shown.
#[derive(Clone)]
struct Folding<A>(Arc<Mutex<Seen<A>>>);

/// A state, and the metadata of the events that made it.
type Seen<A> = (A, Vec<HashMap<String, String>>);

#[async_trait]
impl<A: Aggregate> Query<A> for Folding<A> {
    async fn dispatch(&self, _: &str, events: &[EventEnvelope<A>]) {
        let mut seen = self.0.lock().expect("no panic");
        for event in events {
            seen.0.apply(event.payload.clone());
            seen.1.push(event.metadata.clone());
        }
    }
}

async fn replayed<R>(repository: R, id: &str) -> Seen<Workspace>
where
    R: PersistedEventRepository,
{
    let query = Folding(Arc::new(Mutex::new((Workspace::default(), Vec::new()))));
    let mut replay = QueryReplay::<R, _, Workspace>::new(repository, query.clone())
        .with_upcasters(vec![Box::new(FlatMetadata)]);
    replay.use_error_handler(Box::new(|error| panic!("a replay failed: {error}")));
    replay.replay(id).await.expect("the replay to end");
    let one = std::mem::take(&mut *query.0.lock().expect("no panic"));
    // There is one workspace, so that all of them are it.
    replay.replay_all().await.expect("the replay to end");
    assert_eq!(*query.0.lock().expect("no panic"), one);
    one
}

async fn replay(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let (team, _) = everything(&fixture).await;
    let id = team.workspace.to_string();
    let (state, metadata) = match store.kind() {
        StoreKind::Sqlite => replayed(sqlite_repository(&store).await, &id).await,
        StoreKind::Postgres => replayed(postgres_repository(&store).await, &id).await,
    };
    let ours: Workspace = fixture.in_memory(&team.stream()).await;
    let roles = |state: &Workspace| -> Vec<_> {
        let members = state.members();
        members.map(|(user, member)| (user, member.role)).collect()
    };
    assert_eq!(roles(&state), roles(&ours));
    assert_eq!((state.name(), state.plan()), (ours.name(), ours.plan()));
    let organization = team.organization.to_string();
    assert_eq!(metadata.len(), 10, "every event was shown");
    for seen in &metadata {
        assert_eq!(seen.get("organization"), Some(&organization), "{seen:?}");
        assert!(seen.contains_key("actor.type"), "{seen:?}");
    }
    assert_eq!(metadata[0]["authority.0.role"], "owner");
    assert!(metadata[0]["authority.0.position"].parse::<u64>().is_ok());
}
