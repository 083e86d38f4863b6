//! Bare commits of single rows through the same kind of pool: what a statement and a flush
//! cost on this cluster.

use futures::{FutureExt, future::BoxFuture};
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{Answer, Side};

pub struct SingleRow {
    pool: PgPool,
}

impl SingleRow {
    pub async fn on_postgres(url: &str) -> Self {
        let options = PgPoolOptions::new()
            .max_connections(10)
            .test_before_acquire(false);
        let options = options.acquire_timeout(std::time::Duration::from_secs(120));
        let pool = options.connect(url).await.expect("PostgreSQL answers");
        let table = "CREATE TABLE single_rows (id BIGSERIAL PRIMARY KEY, stream BIGINT, name TEXT)";
        sqlx::query(table)
            .execute(&pool)
            .await
            .expect("the table is made");
        Self { pool }
    }
}

impl Side for SingleRow {
    fn name(&self) -> &'static str {
        "single-row commits"
    }

    fn rename(&self, stream: usize, count: u64) -> BoxFuture<'_, Answer> {
        async move {
            sqlx::query("INSERT INTO single_rows (stream, name) VALUES ($1, $2)")
                .bind(stream as i64)
                .bind(format!("Workspace {count}"))
                .execute(&self.pool)
                .await
                .expect("a row is inserted");
            Answer::Done
        }
        .boxed()
    }

    fn remark(&self) -> BoxFuture<'_, Option<String>> {
        async move { None }.boxed()
    }
}
