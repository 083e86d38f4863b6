//! The store for several processes: one PostgreSQL database, 15 or newer.
//!
//! A batch is one statement, a chain of writing CTEs that all hang on the compare of the
//! head; only what is kept beside the log (keys, claims, hashes) adds statements to its
//! transaction.

use std::{
    fmt::Write as _,
    io,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::{
    Column, Connection, Encode, Executor as _, Postgres, Row as _, Transaction, Type, TypeInfo,
    postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::sync::{Mutex, mpsc};

use super::{
    AUDIT_COLUMNS, Append, AppendError, AuditRows, Cell, ColumnKind, DocumentChanges, DocumentRow,
    Load, Row, Scan, ScanError, Sheet, Snapshot, Span, Statement, Store, StoreError, StoreKind,
    Value, queries,
    snapshot::{Filling, Question},
};
use crate::{
    domain::{Timestamp, ids::BatchId},
    journal::{
        entry::{DecodeError, EventRow, Recorded, StoredEvent},
        fail_points::FailPoint,
    },
};

/// How many connections a process holds at most, beside the one for appends.
const CONNECTIONS: u32 = 12;

/// How long a caller waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one question, or one append, may go without an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may take to show that it lives, once one did not answer.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// For how long after its last use a connection is not asked whether it lives.
const BELIEVED_ALIVE: Duration = Duration::from_millis(100);

/// What each connection asks the server for: one plan a statement; an index also where the
/// planner would read past rows that it believes to be cheap, which on a log is never the few
/// that a page is of; that a process which was stopped with the head's row locked does not
/// keep the others from it for longer; and that no commit is called done because a time-out of
/// the role ended its wait for a standby.
const SESSION: [(&str, &str); 4] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("random_page_cost", "1.1"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("statement_timeout", "0"),
];

/// How the connection of a snapshot begins. It waits for whoever takes its rows; what it sorts are
/// whole tables.
const SNAPSHOT: [&str; 4] = [
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    "SET LOCAL work_mem = '64MB'",
    "SELECT position FROM log_head",
];

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

/// The version of the last migration that this program knows.
pub(super) fn newest_migration() -> Option<i64> {
    MIGRATIONS.iter().map(|migration| migration.version).max()
}

pub(super) const RAISE_EPOCH: &str = "
UPDATE log_head
   SET epoch = epoch + 1
 WHERE singleton = 1";

const LOCK_HEAD: &str = "
SELECT position
  FROM log_head
 WHERE singleton = 1
   FOR UPDATE";

/// A batch is at the position that it expected, or nowhere. One of statements alone has no
/// event; it is known for as long as it is the last.
pub(super) const FIND_BATCH: &str = "
SELECT 1
  FROM events
 WHERE position = $1 AND batch = $2
 UNION ALL
SELECT 1
  FROM log_head
 WHERE last_batch = $2
 LIMIT 1";

/// A PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    pool: PgPool,
    /// Where connections for appends come from.
    writer: PgPool,
    /// The one connection for appends, between two of them: a server process that has its plans
    /// and its tables' rows at hand does them in less time than one of twelve that take turns, and
    /// giving a connection back to a pool is a task of its own. After an error there is none.
    kept: Mutex<Option<Kept>>,
    /// Connections that copy whole tables in and out, of which one that was stopped in the midst
    /// of it cannot be used again: they come back here only when they have done all of it.
    copiers: std::sync::Mutex<Vec<(PgConnection, Instant)>>,
    damage: Arc<OnceLock<String>>,
    /// Whether a connection has ever not answered: then each must show that it lives before it
    /// is kept.
    is_wary: Arc<AtomicBool>,
}

/// The connection for appends.
#[derive(Debug)]
enum Kept {
    Idle(PgConnection),
    /// In a transaction that holds the head, for the next append.
    Holding(PgConnection),
}

impl PostgresStore {
    /// Connects, and makes or migrates the schema.
    ///
    /// # Errors
    /// When the database cannot be reached, refuses, or its schema is newer.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let store = Self::connect(url).await?;
        if store.is_standby().await? {
            return Err(StoreError::Unwritable {
                kind: StoreKind::Postgres,
                detail:
                    "it is a standby, which only reads; write to its primary, or serve from it \
                         with --replica"
                        .to_owned(),
            });
        }
        MIGRATIONS
            .run(&store.pool)
            .await
            .map_err(|error| migration_error(StoreKind::Postgres, &error))?;
        Ok(store)
    }

    async fn is_standby(&self) -> Result<bool, StoreError> {
        let answer = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&self.pool);
        answer.await.map_err(|error| store_error(&error))
    }

    /// Connects to a database that has been set up, for reading.
    ///
    /// # Errors
    /// When the database cannot be reached, or has no schema.
    pub async fn open_for_reading(url: &str) -> Result<Self, StoreError> {
        let store = Self::connect(url).await?;
        let found = store
            .query("SELECT CAST(to_regclass('log_head') AS TEXT)", vec![])
            .await?;
        match found.first().map(|row| row.optional_text(0)) {
            Some(Ok(Some(_))) => Ok(store),
            _ => Err(StoreError::NotMigrated {
                kind: StoreKind::Postgres,
                detail: "there is no table log_head".to_owned(),
            }),
        }
    }

    async fn connect(url: &str) -> Result<Self, StoreError> {
        let options = options(url)?.options(SESSION);
        let is_wary = Arc::new(AtomicBool::new(false));
        let pool = |connections| {
            let wary = is_wary.clone();
            PgPoolOptions::new()
                .after_release(move |connection, _| {
                    let is_wary = wary.load(Ordering::SeqCst);
                    Box::pin(async move {
                        if is_wary {
                            let alive = tokio::time::timeout(PING_TIMEOUT, connection.ping());
                            alive.await.unwrap_or_else(|_| Err(not_answered()))?;
                        }
                        Ok(true)
                    })
                })
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .test_before_acquire(false)
        };
        let unavailable = |error: sqlx::Error| store_error(&error);
        Ok(Self {
            pool: pool(CONNECTIONS)
                .connect_with(options.clone())
                .await
                .map_err(unavailable)?,
            writer: pool(1).connect_lazy_with(options),
            copiers: std::sync::Mutex::default(),
            damage: Arc::default(),
            is_wary,
            kept: Mutex::new(None),
        })
    }
}

impl PostgresStore {
    /// Does what is answered in time, or not at all as far as is known here.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> Result<T, sqlx::Error> {
        let mut work = pin!(work);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, &mut work).await;
        answer.unwrap_or_else(|_| {
            // Before the work, and its connection with it, is dropped.
            self.is_wary.store(true, Ordering::SeqCst);
            Err(not_answered())
        })
    }

    /// The connection for appends, and whether it is in a transaction: in one that holds the head
    /// where that is held, else where one is asked for.
    async fn begun(&self, transaction: bool) -> Result<(PgConnection, bool), sqlx::Error> {
        let mut connection = match self.kept.lock().await.take() {
            Some(Kept::Holding(connection)) => return Ok((connection, true)),
            Some(Kept::Idle(connection)) => connection,
            None => self.writer.acquire().await?.detach(),
        };
        if transaction {
            // As in `begin`.
            while let Err(error) = connection.execute("BEGIN").await {
                if !is_dead(&error) {
                    return Err(error);
                }
                connection = self.writer.acquire().await?.detach();
            }
        }
        Ok((connection, transaction))
    }

    /// A connection to copy on; to be put back once it has done all that it was asked for.
    async fn copier(&self) -> Result<PgConnection, sqlx::Error> {
        loop {
            let Some((mut kept, used_at)) = self.copiers().pop() else {
                return Ok(self.pool.acquire().await?.detach());
            };
            if used_at.elapsed() < BELIEVED_ALIVE {
                return Ok(kept);
            }
            let alive = tokio::time::timeout(PING_TIMEOUT, kept.ping()).await;
            if matches!(alive, Ok(Ok(()))) {
                return Ok(kept);
            }
        }
    }

    fn copiers(&self) -> std::sync::MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        let copiers = self.copiers.lock();
        copiers.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What an error means; damage is remembered.
    fn store_error(&self, error: &sqlx::Error) -> StoreError {
        let error = store_error(error);
        if let StoreError::Damaged { detail, .. } = &error {
            self.damage.get_or_init(|| detail.clone());
        }
        error
    }
}

/// Begins a transaction. Connections are not asked whether they live before they are used; after
/// the server was away a pool has dead ones, and nothing is lost with those.
async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tries = 1;
    loop {
        match pool.begin().await {
            Err(error) if is_dead(&error) && tries <= CONNECTIONS => tries += 1,
            begun => return begun,
        }
    }
}

fn not_answered() -> sqlx::Error {
    let seconds = ANSWER_TIMEOUT.as_secs();
    let words = format!("it did not answer within {seconds} s");
    io::Error::new(io::ErrorKind::TimedOut, words).into()
}

/// Whether a read that was not answered can be sent again at once.
fn is_worth_repeating(error: &sqlx::Error) -> bool {
    is_dead(error) || is_in_the_way(error)
}

/// Whether a standby has ended a read, because the read was in the way of what it had to take
/// over from its primary.
fn is_in_the_way(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|refused| refused.code());
    matches!(code.as_deref(), Some("40001" | "40P01"))
}

/// Whether the connection was gone before it was used.
fn is_dead(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != io::ErrorKind::TimedOut,
        // What a session that was ended has left to say: by an administrator, a crash, a
        // time-out.
        sqlx::Error::Database(refused) => matches!(
            refused.code().as_deref(),
            Some("57P01" | "57P02" | "57P05" | "25P03")
        ),
        _ => false,
    }
}

fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    url.parse().map_err(|_| StoreError::Failed {
        kind: StoreKind::Postgres,
        // The URL may hold a password, so it is not repeated.
        detail: "the database URL cannot be read; it looks like \
                 postgres://user:password@host:5432/database"
            .to_owned(),
    })
}

/// Keeps servers apart from whoever must be alone with a database: a rebuild, and what changes
/// it for a newer version. The writer needs no such lock: every append compares the head.
///
/// A session-level advisory lock on a connection of its own, so that the database lets go of it
/// when its holder dies. Servers hold it together; one process holds it alone.
#[derive(Debug)]
pub struct ServingLock {
    connection: PgConnection,
    options: PgConnectOptions,
}

/// The lock's number: "crewlog" in ASCII. Advisory locks are per database.
const SERVING_LOCK: i64 = 0x0063_7265_776c_6f67;

const TRY_ALONE: &str = "SELECT pg_try_advisory_lock($1)";
const TRY_TOGETHER: &str = "SELECT pg_try_advisory_lock_shared($1)";
const RELEASE_ALONE: &str = "SELECT pg_advisory_unlock($1)";

/// How often a server looks whether it still holds the lock.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl ServingLock {
    /// Takes the lock alone; none where others hold it.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses.
    pub async fn alone(url: &str) -> Result<Option<Self>, StoreError> {
        Self::take(options(url)?, TRY_ALONE).await
    }

    /// Takes the lock together with other servers, waiting for up to `wait` while somebody holds
    /// it alone.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses, or [`StoreError::Held`] after the wait.
    pub async fn together(url: &str, wait: Duration) -> Result<Self, StoreError> {
        let options = options(url)?;
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            if let Some(lock) = Self::take(options.clone(), TRY_TOGETHER).await? {
                return Ok(lock);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(held_alone());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// From alone to together, without a moment in which somebody else could be alone.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn share(mut self) -> Result<Self, StoreError> {
        for step in [TRY_TOGETHER, RELEASE_ALONE] {
            let done: bool = sqlx::query_scalar(step)
                .bind(SERVING_LOCK)
                .fetch_one(&mut self.connection)
                .await
                .map_err(|error| store_error(&error))?;
            if !done {
                return Err(held_alone());
            }
        }
        Ok(self)
    }

    /// Watches over a lock that is held together, and takes it again where the connection was
    /// lost. Ends when that is not possible because somebody is alone now: then serving must end.
    pub async fn lost(mut self) -> StoreError {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.connection.ping().await.is_ok() {
                continue;
            }
            match Self::take(self.options.clone(), TRY_TOGETHER).await {
                Ok(Some(lock)) => self = lock,
                Ok(None) => return held_alone(),
                // The database is away, for its clients as for us.
                Err(error) => tracing::warn!(%error, "the serving lock cannot be taken again yet"),
            }
        }
    }

    /// Runs statements in one transaction in the session that holds the lock: where they were
    /// done, the lock was held all the time.
    ///
    /// # Errors
    /// When the session was lost, or the database refuses one; then none has happened.
    pub async fn execute(&mut self, statements: &[Statement]) -> Result<(), StoreError> {
        let run = async {
            let mut transaction = self.connection.begin().await?;
            for statement in statements {
                let query = bind(sqlx::query(&statement.sql), &statement.parameters);
                query.execute(&mut *transaction).await?;
            }
            transaction.commit().await
        };
        run.await.map_err(|error| store_error(&error))
    }

    async fn take(options: PgConnectOptions, how: &str) -> Result<Option<Self>, StoreError> {
        let connect = PgConnection::connect_with(&options);
        let mut connection = tokio::time::timeout(ACQUIRE_TIMEOUT, connect)
            .await
            .map_err(|_| store_error(&sqlx::Error::PoolTimedOut))?
            .map_err(|error| store_error(&error))?;
        let taken: bool = sqlx::query_scalar(how)
            .bind(SERVING_LOCK)
            .fetch_one(&mut connection)
            .await
            .map_err(|error| store_error(&error))?;
        Ok(taken.then_some(Self {
            connection,
            options,
        }))
    }
}

fn held_alone() -> StoreError {
    StoreError::Held {
        detail: "another crewlog process is alone with this database (a replay, or a migration); \
                 start again when it has ended"
            .to_owned(),
    }
}

/// What a failed migration means to the person who started the program.
pub(super) fn migration_error(kind: StoreKind, error: &sqlx::migrate::MigrateError) -> StoreError {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            StoreError::Newer {
                kind,
                detail: format!("it has migration {version}"),
            }
        }
        MigrateError::VersionMismatch(version) => StoreError::Failed {
            kind,
            detail: format!("migration {version} was applied in another form than this one"),
        },
        other => StoreError::Failed {
            kind,
            detail: format!("migrating: {other}"),
        },
    }
}

fn store_error(error: &sqlx::Error) -> StoreError {
    let kind = StoreKind::Postgres;
    let detail = error.to_string();
    let code = match error {
        sqlx::Error::Database(refused) => refused.code(),
        _ => None,
    };
    match error {
        // disk_full, and read_only_sql_transaction: a standby, or an administrator's setting.
        sqlx::Error::Database(_) if matches!(code.as_deref(), Some("53100" | "25006")) => {
            StoreError::Unwritable { kind, detail }
        }
        // undefined_table.
        sqlx::Error::Database(_) if code.as_deref() == Some("42P01") => {
            StoreError::NotMigrated { kind, detail }
        }
        // data_corrupted, index_corrupted.
        sqlx::Error::Database(_) if matches!(code.as_deref(), Some("XX001" | "XX002")) => {
            StoreError::Damaged { kind, detail }
        }
        // Shutting down, starting up, too many connections, an I/O error, a read that was in a
        // standby's way: it will pass.
        sqlx::Error::Database(refused)
            if refused.code().is_some_and(|code| {
                ["57P", "53", "08", "58", "25P03", "40001", "40P01"]
                    .iter()
                    .any(|start| code.starts_with(start))
            }) =>
        {
            StoreError::Unavailable { kind, detail }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => StoreError::Unavailable { kind, detail },
        _ => StoreError::Failed { kind, detail },
    }
}

impl PostgresStore {
    fn append_error(&self, error: &sqlx::Error) -> AppendError {
        match error {
            sqlx::Error::Database(refused) if refused.is_unique_violation() => {
                AppendError::Conflict(refused.constraint().unwrap_or("unnamed").to_owned())
            }
            // An administrator's command, a crash or a time-out ended the session: COMMIT may have
            // passed.
            sqlx::Error::Database(refused)
                if !refused
                    .code()
                    .is_some_and(|code| code.starts_with("57P") || code == "25P03") =>
            {
                AppendError::Failed(self.store_error(error))
            }
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
                AppendError::Failed(self.store_error(error))
            }
            _ => AppendError::Unknown(error.to_string()),
        }
    }
}

type PgQuery<'q> = Query<'q, sqlx::Postgres, PgArguments>;

fn bind<'q>(query: PgQuery<'q>, parameters: &'q [Value]) -> PgQuery<'q> {
    parameters.iter().fold(query, |query, value| match value {
        Value::Text(text) => query.bind(text.as_deref()),
        Value::Integer(integer) => query.bind(*integer),
        Value::Bytes(bytes) => query.bind(bytes.as_deref()),
    })
}

fn read_row(row: &PgRow) -> Result<Row, sqlx::Error> {
    let values = row.columns().iter().enumerate().map(|(number, column)| {
        Ok(match column.type_info().name() {
            "INT8" => Value::Integer(row.try_get(number)?),
            "INT4" => Value::Integer(row.try_get::<Option<i32>, _>(number)?.map(i64::from)),
            "BYTEA" => Value::Bytes(row.try_get(number)?),
            _ => Value::Text(row.try_get(number)?),
        })
    });
    values.collect::<Result<_, _>>().map(Row)
}

fn read_rows(rows: &[PgRow]) -> Result<Vec<Row>, sqlx::Error> {
    rows.iter().map(read_row).collect()
}

/// Answers one question after the other on a connection that is in a transaction, and ends it.
async fn answer_all(mut connection: PgConnection, mut asked: mpsc::Receiver<Question>) {
    while let Some(question) = asked.recv().await {
        if let Err(error) = answer(&mut connection, &question).await {
            // What was asked for is in doubt from here on; nobody takes more of it.
            let _ = question.rows.send(Err(store_error(&error))).await;
            return;
        }
    }
    let _ = connection.close().await;
}

/// Sends what a question finds, until nobody takes it.
async fn answer(connection: &mut PgConnection, question: &Question) -> Result<(), sqlx::Error> {
    let mut filling = Filling::default();
    let mut rows = sqlx::query(&question.sql).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        if let Some(chunk) = filling.push(read_row(&row)?)
            && question.rows.send(Ok(chunk)).await.is_err()
        {
            return Ok(());
        }
    }
    for chunk in filling.end() {
        let _ = question.rows.send(Ok(chunk)).await;
    }
    Ok(())
}

/// An event that cannot be read is an answer of its own: the database has done its part.
async fn run_scan(
    pool: &PgPool,
    scan: &Scan,
) -> Result<Result<Vec<Recorded>, DecodeError>, sqlx::Error> {
    let (sql, parameters) = queries::scan(scan);
    let mut rows = bind(sqlx::query(sql), &parameters).fetch(pool);
    let mut events = Vec::new();
    while let Some(row) = rows.try_next().await? {
        match event_row(&row)?.decode() {
            Ok(event) => events.push(event),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(events))
}

fn event_row(row: &PgRow) -> Result<EventRow<'_>, sqlx::Error> {
    let wrong = |error| sqlx::Error::Decode(Box::new(error));
    let id: &str = row.try_get(1)?;
    // Counts are never negative: nobody writes one that is.
    let count = |column: usize| row.try_get(column).map(i64::unsigned_abs);
    Ok(EventRow {
        position: count(0)?,
        id: id.parse().map_err(wrong)?,
        recorded_at: Timestamp(row.try_get(2)?),
        aggregate_type: row.try_get(3)?,
        aggregate_id: row.try_get(4)?,
        sequence: count(5)?,
        scope: row.try_get(6)?,
        event_type: row.try_get(7)?,
        event_version: row.try_get(8)?,
        payload: row.try_get(9)?,
        metadata: row.try_get(10)?,
    })
}

#[async_trait]
impl Store for PostgresStore {
    fn kind(&self) -> StoreKind {
        StoreKind::Postgres
    }

    async fn query(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let mut tries = 1;
        loop {
            let rows = bind(sqlx::query(sql), &parameters).fetch_all(&self.pool);
            match self.in_time(rows).await {
                Ok(rows) => return read_rows(&rows).map_err(|error| store_error(&error)),
                // As in `begin`: a read can be sent again.
                Err(error) if is_worth_repeating(&error) && tries <= CONNECTIONS => tries += 1,
                Err(error) => return Err(self.store_error(&error)),
            }
        }
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Recorded>, ScanError> {
        let mut tries = 1;
        loop {
            match self.in_time(run_scan(&self.pool, &scan)).await {
                Ok(events) => return Ok(events?),
                // As in `query`.
                Err(error) if is_worth_repeating(&error) && tries <= CONNECTIONS => tries += 1,
                Err(error) => return Err(self.store_error(&error).into()),
            }
        }
    }

    async fn read(&self, span: Span) -> Result<Sheet, StoreError> {
        let run = async {
            let mut connection = self.copier().await?;
            let sheet = copy_out(&mut connection, &span).await?;
            self.copiers().push((connection, Instant::now()));
            Ok(sheet)
        };
        let sheet = self.in_time(run).await;
        sheet.map_err(|error| self.store_error(&error))
    }

    async fn execute(&self, statements: Vec<Statement>) -> Result<Vec<u64>, StoreError> {
        let run = async {
            let mut transaction = begin(&self.pool).await?;
            let mut touched = Vec::with_capacity(statements.len());
            for statement in &statements {
                let query = bind(sqlx::query(&statement.sql), &statement.parameters);
                touched.push(query.execute(&mut *transaction).await?.rows_affected());
            }
            transaction.commit().await?;
            Ok(touched)
        };
        run.await
            .map_err(|error: sqlx::Error| self.store_error(&error))
    }

    async fn put(
        &self,
        documents: Vec<DocumentChanges>,
        audit: Option<AuditRows>,
        guard: Option<Statement>,
    ) -> Result<bool, StoreError> {
        let run = async {
            let mut connection = self.copier().await?;
            let mut transaction = connection.begin().await?;
            let mut passed = true;
            if let Some(guard) = &guard {
                let query = bind(sqlx::query(&guard.sql), &guard.parameters);
                passed = query.execute(&mut *transaction).await?.rows_affected() > 0;
            }
            if passed {
                for changes in &documents {
                    put_documents(&mut transaction, changes).await?;
                }
                if let Some(audit) = &audit {
                    copy_in(&mut transaction, audit_copy(audit)).await?;
                }
                transaction.commit().await?;
            } else {
                transaction.rollback().await?;
            }
            self.copiers().push((connection, Instant::now()));
            Ok(passed)
        };
        run.await
            .map_err(|error: sqlx::Error| self.store_error(&error))
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let run = async {
            let mut connection = self.pool.acquire().await?.detach();
            for statement in SNAPSHOT {
                connection.execute(statement).await?;
            }
            Ok(connection)
        };
        let begun = self.in_time(run).await;
        let connection = begun.map_err(|error| self.store_error(&error))?;
        let (snapshot, asked) = Snapshot::new();
        tokio::spawn(answer_all(connection, asked));
        Ok(snapshot)
    }

    async fn load(&self, load: Load) -> Result<(), StoreError> {
        let run = async {
            let mut connection = self.copier().await?;
            let mut transaction = connection.begin().await?;
            for statement in &load.before {
                let query = bind(sqlx::query(&statement.sql), &statement.parameters);
                query.execute(&mut *transaction).await?;
            }
            if !load.rows.is_empty() {
                copy_in(&mut transaction, rows_copy(&load)).await?;
            }
            transaction.commit().await?;
            self.copiers().push((connection, Instant::now()));
            Ok(())
        };
        run.await
            .map_err(|error: sqlx::Error| self.store_error(&error))
    }

    async fn append(&self, append: Arc<Append>) -> Result<(), AppendError> {
        let failed = |error: sqlx::Error| self.append_error(&error);
        let writer = self.begun(!append.statements.is_empty());
        let (mut connection, in_transaction) = self.in_time(writer).await.map_err(failed)?;
        let run = async {
            let sql = append_sql(&append);
            let query = bind_append(sqlx::query(&sql), &append);
            let sent = query.fetch_one(&mut connection);
            let moved = if in_transaction {
                let moved = sent.await?;
                if moved.try_get::<i64, _>(0)? == 1 {
                    for statement in &append.statements {
                        let query = bind(sqlx::query(&statement.sql), &statement.parameters);
                        query.execute(&mut connection).await?;
                    }
                }
                let committed = connection.execute("COMMIT");
                FailPoint::AfterSend.hit_during(committed).await?;
                moved
            } else {
                FailPoint::AfterSend.hit_during(sent).await?
            };
            Ok((moved, connection))
        };
        let (moved, connection) = self.in_time(run).await.map_err(failed)?;
        *self.kept.lock().await = Some(Kept::Idle(connection));
        match moved.try_get::<i64, _>(0) {
            Ok(1) => Ok(()),
            Ok(_) => Err(AppendError::Lost),
            Err(error) => Err(AppendError::Unknown(error.to_string())),
        }
    }

    async fn hold_head(&self) -> Result<(), StoreError> {
        let run = async {
            let (mut connection, _) = self.begun(true).await?;
            connection.execute(LOCK_HEAD).await?;
            Ok(connection)
        };
        let held = self.in_time(run).await;
        let held = held.map_err(|error| self.store_error(&error))?;
        *self.kept.lock().await = Some(Kept::Holding(held));
        Ok(())
    }

    async fn release_head(&self) {
        let mut kept = self.kept.lock().await;
        *kept = match kept.take() {
            Some(Kept::Holding(mut connection)) => {
                // One that is gone holds nothing.
                let rolled_back = self.in_time(connection.execute("ROLLBACK")).await;
                rolled_back.is_ok().then_some(Kept::Idle(connection))
            }
            idle => idle,
        };
    }

    fn another(&self) -> Arc<dyn Store> {
        Arc::new(Self {
            pool: self.pool.clone(),
            writer: self.writer.clone(),
            kept: Mutex::new(None),
            copiers: std::sync::Mutex::default(),
            damage: self.damage.clone(),
            is_wary: self.is_wary.clone(),
        })
    }

    async fn resolve(&self, batch: BatchId, first_position: u64) -> Result<bool, StoreError> {
        let run = async {
            let mut transaction = begin(&self.pool).await?;
            // Waits for whoever still holds the head's row; the look-up is a statement of its
            // own after it, so that it sees what that one has committed.
            sqlx::query(RAISE_EPOCH).execute(&mut *transaction).await?;
            let found = sqlx::query(FIND_BATCH)
                .bind(first_position as i64)
                .bind(batch.to_string())
                .fetch_optional(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(found.is_some())
        };
        let found = self.in_time(run).await;
        found.map_err(|error| self.store_error(&error))
    }

    fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    async fn close(&self) {
        self.writer.close().await;
        self.pool.close().await;
        let writer = self.kept.lock().await.take().map(|kept| match kept {
            Kept::Idle(connection) | Kept::Holding(connection) => connection,
        });
        let copiers = std::mem::take(&mut *self.copiers());
        let copiers = copiers.into_iter().map(|(connection, _)| connection);
        for connection in copiers.chain(writer) {
            // What is not said goodbye to ends when it is dropped.
            let _ = self.in_time(connection.close()).await;
        }
    }
}

const HEAD: &str = "
WITH head AS (
    UPDATE log_head
       SET position = $1, recorded_at = $2, frontier = $3, last_batch = $4
     WHERE singleton = 1 AND position = $5 AND epoch = $6 AND frontier = $7
    RETURNING position
)";

/// The first parameter after those of [`HEAD`].
const FIRST_FREE: usize = 8;

/// 1 where the head was moved, and with it everything was written.
const COUNT_HEAD: &str = "\nSELECT count(*) FROM head";

type Columns = [(&'static str, &'static str)];

const EVENT_COLUMNS: [(&str, &str); 14] = [
    ("position", "BIGINT"),
    ("id", "TEXT"),
    ("aggregate_type", "TEXT"),
    ("aggregate_id", "TEXT"),
    ("sequence", "BIGINT"),
    ("scope", "TEXT"),
    ("scope_sequence", "BIGINT"),
    ("previous", "BYTEA"),
    ("event_type", "TEXT"),
    ("event_version", "TEXT"),
    ("payload", "TEXT"),
    ("metadata", "TEXT"),
    ("salt", "BYTEA"),
    ("leaf", "BYTEA"),
];

const DOCUMENT_COLUMNS: [(&str, &str); 7] = [
    ("key", "TEXT"),
    ("workspace", "TEXT"),
    ("parent", "TEXT"),
    ("lookup", "TEXT"),
    ("deadline", "BIGINT"),
    ("position", "BIGINT"),
    ("document", "TEXT"),
];

/// The rows of a batch as a relation `new`, from parameter `first` on; see [`bind_column`].
/// Arrays cost their start, a store for each, which a single row does without.
fn new_rows(columns: &Columns, rows: usize, first: usize) -> String {
    let one = rows == 1;
    let parameters = columns.iter().zip(first..).map(|((_, kind), number)| {
        let brackets = if one { "" } else { "[]" };
        format!("CAST(${number} AS {kind}{brackets})")
    });
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    let names = columns.iter().map(|(name, _)| *name);
    let names = names.collect::<Vec<_>>().join(", ");
    if one {
        format!("(VALUES ({parameters})) AS new ({names})")
    } else {
        format!("UNNEST({parameters}) AS new ({names})")
    }
}

/// The statement for a batch: its text depends only on which tables it touches, and on whether
/// it has one row for each or more, so that few different ones are prepared.
fn append_sql(append: &Append) -> String {
    let rows = append.events.len();
    let mut sql = HEAD.to_owned();
    let mut first_free = FIRST_FREE;
    if rows > 0 {
        let new = new_rows(&EVENT_COLUMNS, rows, FIRST_FREE);
        first_free += EVENT_COLUMNS.len();
        let _ = write!(
            sql,
            ",
new_events AS (
    INSERT INTO events
           (position, id, recorded_at, batch, aggregate_type, aggregate_id, sequence, scope,
            scope_sequence, previous, event_type, event_version, payload, metadata, salt, leaf)
    SELECT new.position, new.id, $2, $4, new.aggregate_type, new.aggregate_id, new.sequence,
           new.scope, new.scope_sequence, new.previous, new.event_type, new.event_version,
           CAST(new.payload AS JSON), CAST(new.metadata AS JSON), new.salt, new.leaf
      FROM head, {new}
)"
        );
    }
    for changes in &append.documents {
        first_free = add_documents(&mut sql, changes, first_free);
    }
    sql.push_str(COUNT_HEAD);
    sql
}

/// Writes documents outside of an append, where nothing hangs on the head.
async fn put_documents(
    connection: &mut PgConnection,
    changes: &DocumentChanges,
) -> Result<(), sqlx::Error> {
    if changes.is_new && changes.deletes.is_empty() {
        return copy_in(connection, documents_copy(&changes.table, &changes.upserts)).await;
    }
    let mut sql = "WITH head AS (SELECT 1 AS position)".to_owned();
    add_documents(&mut sql, changes, 1);
    sql.push_str(COUNT_HEAD);
    bind_documents(sqlx::query(&sql), changes)
        .fetch_one(connection)
        .await?;
    Ok(())
}

/// A `COPY`, and its rows in binary form.
struct Copy {
    sql: String,
    data: Vec<u8>,
}

/// What rows of a binary copy begin with: a signature, and that there are no options.
const COPY_BEGIN: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

impl Copy {
    fn new(table: &str, columns: &[&str], rows: usize) -> Self {
        let columns = columns.join(", ");
        let mut data = Vec::with_capacity(rows * 512);
        data.extend_from_slice(COPY_BEGIN);
        Self {
            sql: format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)"),
            data,
        }
    }

    fn row(&mut self, columns: usize) {
        self.data.extend_from_slice(&(columns as i16).to_be_bytes());
    }

    fn cell(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Null => self.bytes(None),
            Cell::Integer(integer) => self.bytes(Some(&integer.to_be_bytes())),
            Cell::Text(text) => self.bytes(Some(text.as_bytes())),
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.bytes(text.as_deref().map(str::as_bytes)),
            Value::Integer(Some(integer)) => self.bytes(Some(&integer.to_be_bytes())),
            Value::Integer(None) => self.bytes(None),
            Value::Bytes(bytes) => self.bytes(bytes.as_deref()),
        }
    }

    /// No value of ours is near to 2 GiB.
    fn bytes(&mut self, bytes: Option<&[u8]>) {
        let length = bytes.map_or(-1, |bytes| bytes.len() as i32);
        self.data.extend_from_slice(&length.to_be_bytes());
        self.data.extend_from_slice(bytes.unwrap_or_default());
    }
}

fn documents_copy(table: &str, rows: &[DocumentRow]) -> Copy {
    let columns = DOCUMENT_COLUMNS.map(|(name, _)| name);
    let mut copy = Copy::new(table, &columns, rows.len());
    for row in rows {
        let optional = [&row.workspace, &row.parent, &row.lookup];
        copy.row(columns.len());
        copy.cell(Cell::Text(&row.key));
        for text in optional {
            copy.cell(text.as_deref().map_or(Cell::Null, Cell::Text));
        }
        copy.cell(row.deadline.map_or(Cell::Null, Cell::Integer));
        copy.cell(Cell::Integer(row.position.cast_signed()));
        copy.cell(Cell::Text(&row.document));
    }
    copy
}

fn rows_copy(load: &Load) -> Copy {
    let columns: Vec<_> = load.columns.iter().map(String::as_str).collect();
    let mut copy = Copy::new(&load.table, &columns, load.rows.len());
    for row in &load.rows {
        copy.row(columns.len());
        row.0.iter().for_each(|value| copy.value(value));
    }
    copy
}

fn audit_copy(audit: &AuditRows) -> Copy {
    let columns = AUDIT_COLUMNS.map(|(name, _)| name);
    let rows = || audit.sheets.iter().flat_map(Sheet::rows);
    let mut copy = Copy::new(&audit.table, &columns, rows().count());
    for row in rows() {
        copy.row(columns.len());
        row.cells().for_each(|cell| copy.cell(cell));
    }
    copy
}

async fn copy_in(connection: &mut PgConnection, mut copy: Copy) -> Result<(), sqlx::Error> {
    // In the place of a count of columns: the end.
    copy.data.extend_from_slice(&(-1_i16).to_be_bytes());
    let mut sent = connection.copy_in_raw(&copy.sql).await?;
    sent.send(copy.data).await?;
    sent.finish().await.map(drop)
}

async fn copy_out(connection: &mut PgConnection, span: &Span) -> Result<Sheet, sqlx::Error> {
    let sql = format!("COPY ({}) TO STDOUT (FORMAT binary)", span.sql());
    let mut sheet = span.sheet();
    let mut chunks = connection.copy_out_raw(&sql).await?;
    let mut is_first = true;
    // The server sends each row as a message of its own, the first with the beginning.
    while let Some(chunk) = chunks.try_next().await? {
        let mut rest = &chunk[..];
        if std::mem::take(&mut is_first) {
            rest = rest.strip_prefix(COPY_BEGIN).ok_or_else(not_a_copy)?;
        }
        while !rest.is_empty() {
            read_copied(&mut rest, span, &mut sheet)?;
        }
    }
    Ok(sheet)
}

/// Takes a row, or the end, off the front of what was copied out.
fn read_copied(rest: &mut &[u8], span: &Span, sheet: &mut Sheet) -> Result<(), sqlx::Error> {
    let columns = i16::from_be_bytes(*take(rest)?);
    if columns == -1 {
        return Ok(());
    }
    if usize::try_from(columns) != Ok(span.columns.len()) {
        return Err(not_a_copy());
    }
    for (_, kind) in span.columns {
        let length = i32::from_be_bytes(*take(rest)?);
        match (usize::try_from(length), kind) {
            // Less than nothing: null.
            (Err(_), _) => sheet.push(Cell::Null),
            (Ok(8), ColumnKind::Integer) => {
                sheet.push(Cell::Integer(i64::from_be_bytes(*take(rest)?)));
            }
            (Ok(length), ColumnKind::Text) => {
                let (text, after) = rest.split_at_checked(length).ok_or_else(not_a_copy)?;
                *rest = after;
                let text = std::str::from_utf8(text);
                let text = text.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
                sheet.push(Cell::Text(text));
            }
            (Ok(_), ColumnKind::Integer) => return Err(not_a_copy()),
        }
    }
    Ok(())
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], sqlx::Error> {
    let (taken, after) = rest.split_first_chunk().ok_or_else(not_a_copy)?;
    *rest = after;
    Ok(taken)
}

fn not_a_copy() -> sqlx::Error {
    sqlx::Error::Decode("what was copied out is not as it was asked for".into())
}

/// Adds what happens to one projection's documents; answers the next free parameter. What a
/// batch does not do is left out: an empty statement costs its start all the same.
fn add_documents(sql: &mut String, changes: &DocumentChanges, first: usize) -> usize {
    let mut next = first;
    if !changes.upserts.is_empty() {
        next = add_upserts(sql, changes, next);
    }
    if !changes.deletes.is_empty() {
        let table = &changes.table;
        let _ = write!(
            sql,
            ",
deleted_{table} AS (
    DELETE FROM {table}
     USING head
     WHERE key = ANY(CAST(${next} AS TEXT[]))
)"
        );
        next += 1;
    }
    next
}

fn add_upserts(sql: &mut String, changes: &DocumentChanges, first: usize) -> usize {
    let table = &changes.table;
    let new = new_rows(&DOCUMENT_COLUMNS, changes.upserts.len(), first);
    let _ = write!(
        sql,
        ",
changed_{table} AS (
    INSERT INTO {table} (key, workspace, parent, lookup, deadline, position, document)
    SELECT new.key, new.workspace, new.parent, new.lookup, new.deadline, new.position,
           CAST(new.document AS JSON)
      FROM head, {new}
        ON CONFLICT (key) DO UPDATE
           SET workspace = excluded.workspace, parent = excluded.parent,
               lookup = excluded.lookup, deadline = excluded.deadline,
               position = excluded.position, document = excluded.document
)"
    );
    first + DOCUMENT_COLUMNS.len()
}

/// Adds one column of a batch: a value where there is one row, else an array.
fn bind_column<'q, T, U>(
    query: PgQuery<'q>,
    rows: &'q [T],
    value: impl Fn(&'q T) -> U,
) -> PgQuery<'q>
where
    U: Encode<'q, Postgres> + Type<Postgres> + 'q,
    Vec<U>: Encode<'q, Postgres> + Type<Postgres>,
{
    match rows {
        [row] => query.bind(value(row)),
        rows => query.bind(rows.iter().map(value).collect::<Vec<_>>()),
    }
}

fn bind_append<'q>(query: PgQuery<'q>, append: &'q Append) -> PgQuery<'q> {
    let query = query
        .bind((append.expected_position + append.events.len() as u64) as i64)
        .bind(append.recorded_at.0)
        .bind(append.frontier.to_bytes())
        .bind(append.batch.to_string())
        .bind(append.expected_position as i64)
        .bind(append.expected_epoch as i64)
        .bind(append.expected_frontier.to_bytes());
    let query = bind_events(query, &append.events);
    append.documents.iter().fold(query, bind_documents)
}

fn bind_events<'q>(query: PgQuery<'q>, rows: &'q [StoredEvent]) -> PgQuery<'q> {
    if rows.is_empty() {
        return query;
    }
    let query = bind_column(query, rows, |row| row.position as i64);
    let query = bind_column(query, rows, |row| row.id.to_string());
    let query = bind_column(query, rows, |row| row.aggregate_type.as_str());
    let query = bind_column(query, rows, |row| row.aggregate_id.as_str());
    let query = bind_column(query, rows, |row| row.sequence as i64);
    let query = bind_column(query, rows, |row| row.scope.as_str());
    let query = bind_column(query, rows, |row| row.scope_sequence as i64);
    let previous = |row: &'q StoredEvent| row.previous.as_ref().map(<[u8; 32]>::as_slice);
    let query = bind_column(query, rows, previous);
    let query = bind_column(query, rows, |row| row.event_type.as_str());
    let query = bind_column(query, rows, |row| row.event_version.as_str());
    let query = bind_column(query, rows, |row| row.payload.as_str());
    let query = bind_column(query, rows, |row| row.metadata.as_str());
    let query = bind_column(query, rows, |row| row.salt.as_slice());
    bind_column(query, rows, |row| row.leaf.as_slice())
}

fn bind_documents<'q>(mut query: PgQuery<'q>, changes: &'q DocumentChanges) -> PgQuery<'q> {
    let rows = &changes.upserts;
    if !rows.is_empty() {
        query = bind_column(query, rows, |row| row.key.as_str());
        query = bind_column(query, rows, |row| row.workspace.as_deref());
        query = bind_column(query, rows, |row| row.parent.as_deref());
        query = bind_column(query, rows, |row| row.lookup.as_deref());
        query = bind_column(query, rows, |row| row.deadline);
        query = bind_column(query, rows, |row| row.position as i64);
        query = bind_column(query, rows, |row| row.document.as_str());
    }
    if !changes.deletes.is_empty() {
        let keys: Vec<_> = changes.deletes.iter().map(String::as_str).collect();
        query = query.bind(keys);
    }
    query
}
