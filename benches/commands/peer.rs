//! The same command the way a user of plain `cqrs-es` and `postgres-es` builds it: one
//! aggregate, one view, the framework's own event store. No authority, no audit, no proof.

use std::sync::{Arc, Mutex, PoisonError};

use cqrs_es::{
    Aggregate, AggregateError, DomainEvent, EventEnvelope, View, event_sink::EventSink,
    persist::GenericQuery,
};
use futures::{FutureExt, future::BoxFuture};
use postgres_es::{PostgresCqrs, PostgresViewRepository, postgres_cqrs};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};

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

pub struct Peer {
    pool: PgPool,
    framework: PostgresCqrs<PlainWorkspace>,
    /// What the view could not take; the framework drops it unless asked.
    view_errors: Arc<Mutex<u64>>,
}

impl Peer {
    pub async fn on_postgres(url: &str) -> Self {
        let options = PgPoolOptions::new()
            .max_connections(10)
            .test_before_acquire(false);
        // Hundreds of callers wait for ten connections; none should be told that it took long.
        let options = options.acquire_timeout(std::time::Duration::from_secs(120));
        let pool = options.connect(url).await.expect("PostgreSQL answers");
        for statement in SCHEMA {
            sqlx::query(statement)
                .execute(&pool)
                .await
                .expect("the schema is made");
        }
        let view = Arc::new(PostgresViewRepository::<PlainView, PlainWorkspace>::new(
            "plain_view",
            pool.clone(),
        ));
        let view_errors = Arc::new(Mutex::new(0));
        let mut query = GenericQuery::new(view);
        let counted = view_errors.clone();
        query.use_error_handler(Box::new(move |_| {
            *counted.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }));
        Self {
            framework: postgres_cqrs(pool.clone(), vec![Box::new(query)], ()),
            pool,
            view_errors,
        }
    }
}

impl Side for Peer {
    fn name(&self) -> &'static str {
        "cqrs-es + postgres-es"
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
                Err(error) => panic!("the peer failed: {error}"),
            }
        }
        .boxed()
    }

    fn remark(&self) -> BoxFuture<'_, Option<String>> {
        async move {
            let events: i64 = sqlx::query_scalar("SELECT count(*) FROM events")
                .fetch_one(&self.pool)
                .await
                .expect("it counts");
            let seen = "SELECT CAST(sum(CAST(payload ->> 'renames' AS BIGINT)) AS BIGINT) FROM plain_view";
            let seen: i64 = sqlx::query_scalar(seen).fetch_one(&self.pool).await.expect("it counts");
            let errors = *self.view_errors.lock().unwrap_or_else(PoisonError::into_inner);
            Some(format!(
                "{events} events are stored, {seen} of them in the view ({errors} view updates failed)"
            ))
        }
        .boxed()
    }
}
