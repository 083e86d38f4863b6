//! The same command the way a user of plain `cqrs-es` builds it, with `postgres-es` or
//! `sqlite-es`: one aggregate, one view, the framework's own event store. No authority, no
//! audit, no proof.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cqrs_es::{
    Aggregate, AggregateError, CqrsFramework, DomainEvent, EventEnvelope, View,
    event_sink::EventSink,
    persist::{GenericQuery, PersistedEventRepository, PersistedEventStore, ViewRepository},
};
use futures::{FutureExt, future::BoxFuture};
use postgres_es::{PostgresEventRepository, PostgresViewRepository};
use serde::{Deserialize, Serialize};
use sqlite_es::{SqliteEventRepository, SqliteViewRepository};
use sqlx::{
    PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{Answer, Side};

#[derive(Debug, Default, Serialize, Deserialize)]
struct PlainWorkspace {
    name: String,
}

struct Rename(String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum PlainEvent {
    WorkspaceRenamed { from: String, to: String },
}

#[derive(Debug, thiserror::Error)]
#[error("never")]
struct Never;

impl DomainEvent for PlainEvent {
    fn event_type(&self) -> String {
        "WorkspaceRenamed".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for PlainWorkspace {
    const TYPE: &'static str = "workspace";
    type Command = Rename;
    type Event = PlainEvent;
    type Error = Never;
    type Services = ();

    async fn handle(
        &mut self,
        Rename(to): Rename,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), Never> {
        let from = self.name.clone();
        sink.write(PlainEvent::WorkspaceRenamed { from, to }, self)
            .await;
        Ok(())
    }

    fn apply(&mut self, PlainEvent::WorkspaceRenamed { to, .. }: PlainEvent) {
        self.name = to;
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct PlainView {
    name: String,
    renames: u64,
}

impl View<PlainWorkspace> for PlainView {
    fn update(&mut self, event: &EventEnvelope<PlainWorkspace>) {
        let PlainEvent::WorkspaceRenamed { to, .. } = &event.payload;
        self.name.clone_from(to);
        self.renames += 1;
    }
}

const SCHEMA: [&str; 2] = [
    "CREATE TABLE events (
        aggregate_type text NOT NULL,
        aggregate_id   text NOT NULL,
        sequence       bigint CHECK (sequence >= 0) NOT NULL,
        event_type     text NOT NULL,
        event_version  text NOT NULL,
        payload        json NOT NULL,
        metadata       json NOT NULL,
        PRIMARY KEY (aggregate_type, aggregate_id, sequence)
    )",
    "CREATE TABLE plain_view (
        view_id text NOT NULL,
        version bigint CHECK (version >= 0) NOT NULL,
        payload json NOT NULL,
        PRIMARY KEY (view_id)
    )",
];

/// Hundreds of callers wait for ten connections; none should be told that it took long.
const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(120);
const CONNECTIONS: u32 = 10;

enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Pool {
    async fn execute(&self, sql: &str) {
        match self {
            Self::Postgres(pool) => sqlx::query(sql).execute(pool).await.map(|_| ()),
            Self::Sqlite(pool) => sqlx::query(sql).execute(pool).await.map(|_| ()),
        }
        .expect("the schema is made");
    }

    async fn count(&self, sql: &str) -> i64 {
        match self {
            Self::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
            Self::Sqlite(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
        }
        .expect("it counts")
    }
}

pub struct Peer<R: PersistedEventRepository> {
    name: &'static str,
    pool: Pool,
    framework: CqrsFramework<PlainWorkspace, PersistedEventStore<R, PlainWorkspace>>,
    /// What the view could not take; the framework drops it unless asked.
    view_errors: Arc<AtomicU64>,
}

impl Peer<PostgresEventRepository> {
    pub async fn on_postgres(url: &str) -> Self {
        Self::on_pool("cqrs-es + postgres-es", url, true).await
    }

    /// The same with a pool that does not ask each connection whether it lives.
    pub async fn on_postgres_tuned(url: &str) -> Self {
        Self::on_pool("the same, not pinging", url, false).await
    }

    /// As `postgres_es::default_postgress_pool` has it, except for how long a caller waits.
    async fn on_pool(name: &'static str, url: &str, pings: bool) -> Self {
        let options = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(WAIT_MAX)
            .test_before_acquire(pings);
        let pool = options.connect(url).await.expect("PostgreSQL answers");
        let view =
            PostgresViewRepository::<PlainView, PlainWorkspace>::new("plain_view", pool.clone());
        let events = PostgresEventRepository::new(pool.clone());
        Self::new(name, Pool::Postgres(pool), events, view).await
    }
}

impl Peer<SqliteEventRepository> {
    /// As `sqlite_es::default_sqlite_pool` has it, except that a commit is on the disk when it
    /// is answered.
    pub async fn on_sqlite(folder: &Path) -> Self {
        let file = SqliteConnectOptions::new()
            .filename(folder.join("peer.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(WAIT_MAX)
            .foreign_keys(true);
        let options = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(WAIT_MAX)
            .test_before_acquire(false);
        let pool = options.connect_with(file).await.expect("SQLite opens");
        let view =
            SqliteViewRepository::<PlainView, PlainWorkspace>::new("plain_view", pool.clone());
        let events = SqliteEventRepository::new(pool.clone());
        Self::new("cqrs-es + sqlite-es", Pool::Sqlite(pool), events, view).await
    }
}

impl<R: PersistedEventRepository> Peer<R> {
    async fn new(
        name: &'static str,
        pool: Pool,
        events: R,
        view: impl ViewRepository<PlainView, PlainWorkspace> + 'static,
    ) -> Self {
        for statement in SCHEMA {
            pool.execute(statement).await;
        }
        let view_errors = Arc::new(AtomicU64::new(0));
        let mut query = GenericQuery::new(Arc::new(view));
        let counted = view_errors.clone();
        query.use_error_handler(Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        let store = PersistedEventStore::new_event_store(events);
        Self {
            name,
            pool,
            framework: CqrsFramework::new(store, vec![Box::new(query)], ()),
            view_errors,
        }
    }
}

impl<R: PersistedEventRepository + Send + Sync> Side for Peer<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn rename(&self, stream: usize, count: u64) -> BoxFuture<'_, Answer> {
        async move {
            let command = Rename(format!("Workspace {count}"));
            match self
                .framework
                .execute(&format!("ws_{stream}"), command)
                .await
            {
                Ok(()) => Answer::Done,
                Err(AggregateError::AggregateConflict) => Answer::Conflict,
                // SQLite's way of saying the same.
                Err(error) if error.to_string().contains("database is locked") => Answer::Conflict,
                Err(error) => panic!("the peer failed: {error}"),
            }
        }
        .boxed()
    }

    fn remark(&self) -> BoxFuture<'_, Option<String>> {
        async move {
            let events = self.pool.count("SELECT count(*) FROM events").await;
            let seen = "SELECT CAST(sum(CAST(payload ->> 'renames' AS BIGINT)) AS BIGINT) FROM plain_view";
            let seen = self.pool.count(seen).await;
            let errors = self.view_errors.load(Ordering::Relaxed);
            Some(format!(
                "{events} events are stored, {seen} of them in the view ({errors} view updates failed)"
            ))
        }
        .boxed()
    }
}
