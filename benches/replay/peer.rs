//! The same log through the peer's own replay: `stream_all_events` of its repository, and a
//! query that applies each event. It has no use for our nested metadata, so that is taken
//! away before it is decoded, which favours it; one aggregate type after the other, as it
//! cannot read them together.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use cqrs_es::{
    EventEnvelope, Query,
    persist::{EventUpcaster, PersistedEventRepository, QueryReplay, SerializedEvent},
};
use crewlog::{
    domain::{Stream, organization::Organization, user::User, workspace::Workspace},
    journal::stores::sqlite::SqliteStore,
};
use postgres_es::PostgresEventRepository;
use sqlite_es::SqliteEventRepository;

use crate::Side;

struct NoMetadata;

impl EventUpcaster for NoMetadata {
    fn can_upcast(&self, _: &str, _: &str) -> bool {
        true
    }

    fn upcast(&self, mut event: SerializedEvent) -> SerializedEvent {
        event.metadata = serde_json::Value::Object(serde_json::Map::new());
        event
    }
}

struct Counting(Arc<AtomicU64>);

#[async_trait]
impl<A: Stream> Query<A> for Counting {
    async fn dispatch(&self, _: &str, events: &[EventEnvelope<A>]) {
        self.0.fetch_add(events.len() as u64, Ordering::Relaxed);
    }
}

async fn replay<A: Stream, R: PersistedEventRepository>(repository: R) -> u64 {
    let count = Arc::new(AtomicU64::new(0));
    let mut replay = QueryReplay::<R, _, A>::new(repository, Counting(count.clone()))
        .with_upcasters(vec![Box::new(NoMetadata)]);
    replay.use_error_handler(Box::new(|error| panic!("a replay failed: {error}")));
    replay.replay_all().await.expect("the replay ends");
    count.load(Ordering::Relaxed)
}

pub async fn sqlite(folder: &Path) -> Side {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(SqliteStore::file(folder));
    let pool = sqlx::SqlitePool::connect_with(options).await;
    let pool = pool.expect("a pool on the file");
    Box::new(move || {
        let repository = {
            let pool = pool.clone();
            move || SqliteEventRepository::new(pool.clone())
        };
        Box::pin(async move {
            replay::<User, _>(repository()).await
                + replay::<Organization, _>(repository()).await
                + replay::<Workspace, _>(repository()).await
        })
    })
}

pub async fn postgres(url: &str) -> Side {
    let pool = sqlx::PgPool::connect(url)
        .await
        .expect("PostgreSQL answers");
    Box::new(move || {
        let repository = {
            let pool = pool.clone();
            move || PostgresEventRepository::new(pool.clone())
        };
        Box::pin(async move {
            replay::<User, _>(repository()).await
                + replay::<Organization, _>(repository()).await
                + replay::<Workspace, _>(repository()).await
        })
    })
}
