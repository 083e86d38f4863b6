//! The one row that says which rebuild is under way: who works on it, and how far it is.
//!
//! One process works on a rebuild. It shows signs of life; where they have stopped, another may
//! take it over, and whatever the first still sends is refused, because every statement of a
//! rebuild first asks whether the row is still its own. No clock is compared with another's.

use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

use crate::{
    journal::{
        Source, SystemSource,
        stores::{Row, Statement, Store, StoreError, Value},
    },
    projections::{EngineError, Generations},
};

/// For how long somebody who works on a rebuild may show no sign of life.
const LEASE: Duration = Duration::from_secs(5);
/// How often to look for one.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How fast a rebuild may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Entries in a second at most.
    pub per_second_max: Option<NonZeroU64>,
    /// It rests while a small commit takes longer than this, in milliseconds: then those who
    /// write wait as long.
    pub commit_latency_max: Option<NonZeroU64>,
    /// That nobody appends meanwhile: where one connection writes everything, its transactions
    /// need not be small then, and indexes are made at the end.
    pub is_alone: bool,
}

/// What is to be done about a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildState {
    /// Nothing.
    Idle,
    /// Somebody has asked for it; nobody works on it yet.
    Asked,
    Running,
    /// The new generations serve; the old ones are to be removed.
    Swapped,
    /// What there is of it is to be removed.
    Cancelled,
}

impl RebuildState {
    /// Its name, as it is stored and told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Asked => "asked",
            Self::Running => "running",
            Self::Swapped => "swapped",
            Self::Cancelled => "cancelled",
        }
    }

    fn of(name: &str) -> Result<Self, StoreError> {
        let all = [
            Self::Idle,
            Self::Asked,
            Self::Running,
            Self::Swapped,
            Self::Cancelled,
        ];
        let found = all.into_iter().find(|state| state.name() == name);
        found.ok_or_else(|| StoreError::Row(format!("a rebuild cannot be {name}")))
    }
}

/// The rebuild that is under way, or was last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildStatus {
    pub id: String,
    pub state: RebuildState,
    /// What became of it; empty while it is not idle.
    pub outcome: String,
    /// What is rebuilt.
    pub names: Vec<String>,
    /// The last position folded, and the position to reach.
    pub position: u64,
    pub head: u64,
    /// Entries in a second.
    pub per_second: u64,
    pub pace: Pace,
    pub(super) generations: Generations,
    pub(super) documents_at: u64,
    pub(super) audit_at: u64,
    owner: String,
    beats: u64,
}

/// The outcome of a rebuild whose new generations serve.
pub(super) const DONE: &str = "done";

/// The same with how many documents it has put right.
pub(super) fn done(repaired: u64) -> String {
    format!("{DONE} {repaired}")
}

impl RebuildStatus {
    /// Whether there is something to do about it.
    pub fn is_under_way(&self) -> bool {
        self.state != RebuildState::Idle
    }

    /// How long it still takes at this rate, where that can be told.
    pub fn seconds_left(&self) -> Option<u64> {
        self.head
            .saturating_sub(self.position)
            .checked_div(self.per_second)
    }

    /// Whether it is over, and the new generations serve.
    pub fn is_done(&self) -> bool {
        self.state == RebuildState::Swapped || self.outcome.starts_with(DONE)
    }

    /// Documents that were not what the log says, and are now.
    pub fn repaired(&self) -> u64 {
        let count = self.outcome.strip_prefix(DONE).map(str::trim);
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Whether the same process has it, and has shown no sign of life since.
    pub fn is_as_before(&self, before: &Self) -> bool {
        (&self.id, self.state, &self.owner, self.beats)
            == (&before.id, before.state, &before.owner, before.beats)
    }

    /// What to tell whoever wanted to begin another.
    pub(super) fn in_the_way(&self) -> EngineError {
        EngineError::Underway(format!(
            "a rebuild of {} is under way, at position {} of {}; wait for its end, or run \
             `crewlog replay --cancel`",
            self.names.join(", "),
            self.position,
            self.head
        ))
    }
}

const SELECT: &str = "
SELECT id, state, outcome, names, generations, owner, beats, documents_at, audit_at, position,
       head, per_second, per_second_max, commit_latency_max
  FROM rebuild
 WHERE singleton = 1";

/// The rebuild that is under way, or was last.
///
/// # Errors
/// When the store cannot be read.
pub async fn status(store: &dyn Store) -> Result<RebuildStatus, StoreError> {
    let rows = store.query(SELECT, vec![]).await?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::Row("rebuild has no row".to_owned()))?;
    let generations = serde_json::from_str(row.text(4)?);
    let words = |column| row.text(column).map(str::to_owned);
    let names = row.text(3)?.split_whitespace().map(str::to_owned);
    Ok(RebuildStatus {
        id: words(0)?,
        state: RebuildState::of(row.text(1)?)?,
        outcome: words(2)?,
        names: names.collect(),
        generations: generations.map_err(|error| StoreError::Row(error.to_string()))?,
        owner: words(5)?,
        beats: row.count(6)?,
        documents_at: row.count(7)?,
        audit_at: row.count(8)?,
        position: row.count(9)?,
        head: row.count(10)?,
        per_second: row.count(11)?,
        pace: Pace {
            per_second_max: limit(row, 12)?,
            commit_latency_max: limit(row, 13)?,
            is_alone: false,
        },
    })
}

fn limit(row: &Row, column: usize) -> Result<Option<NonZeroU64>, StoreError> {
    match row.optional_integer(column)? {
        Some(_) => Ok(NonZeroU64::new(row.count(column)?)),
        None => Ok(None),
    }
}

fn parameter(limit: Option<NonZeroU64>) -> Value {
    Value::Integer(limit.and_then(|limit| i64::try_from(limit.get()).ok()))
}

const ASK: &str = "
UPDATE rebuild
   SET state = $1, id = $2, outcome = '', names = $3, generations = '{}', owner = $4,
       beats = beats + 1, documents_at = 0, audit_at = 0, position = 0, head = 0, per_second = 0,
       per_second_max = $5, commit_latency_max = $6
 WHERE singleton = 1 AND state = 'idle'";

const WITHDRAW: &str = "
UPDATE rebuild
   SET state = 'idle', outcome = 'nobody took it up'
 WHERE singleton = 1 AND state = 'asked' AND id = $1";

const TAKE_OVER: &str = "
UPDATE rebuild
   SET owner = $1, beats = beats + 1
 WHERE singleton = 1 AND id = $2 AND state = $3 AND owner = $4 AND beats = $5";

const CANCEL: &str = "
UPDATE rebuild
   SET state = 'cancelled'
 WHERE singleton = 1 AND state IN ('asked', 'running')";

/// Runs one statement; answers whether it touched the row.
async fn touches(store: &dyn Store, statement: Statement) -> Result<bool, StoreError> {
    let touched = store.execute(vec![statement]).await?;
    Ok(touched.first().is_some_and(|rows| *rows > 0))
}

fn name() -> String {
    SystemSource.uuid().to_string()
}

/// Writes down what is to be done, where nothing is under way; answers its id.
async fn write_down(
    store: &dyn Store,
    state: RebuildState,
    names: &[&str],
    owner: &str,
    pace: Pace,
) -> Result<String, EngineError> {
    let id = name();
    let parameters: [Value; 6] = [
        state.name().into(),
        id.as_str().into(),
        names.join(" ").into(),
        owner.into(),
        parameter(pace.per_second_max),
        parameter(pace.commit_latency_max),
    ];
    match touches(store, Statement::new(ASK, parameters)).await? {
        true => Ok(id),
        false => Err(status(store).await?.in_the_way()),
    }
}

/// Asks the process that serves from the store for a rebuild; answers its id.
///
/// # Errors
/// [`EngineError::Underway`] where there is one already, or when the store cannot be written.
pub async fn ask(store: &dyn Store, names: &[&str], pace: Pace) -> Result<String, EngineError> {
    write_down(store, RebuildState::Asked, names, "", pace).await
}

/// Takes back what was asked for, where nobody has taken it up; answers whether it was.
///
/// # Errors
/// When the store cannot be written.
pub async fn withdraw(store: &dyn Store, id: &str) -> Result<bool, StoreError> {
    touches(store, Statement::new(WITHDRAW, [id.into()])).await
}

/// Says that what is under way is not wanted any more; whoever works on it removes it. Answers
/// whether there was something to cancel.
///
/// # Errors
/// When the store cannot be written.
pub async fn request_cancel(store: &dyn Store) -> Result<bool, StoreError> {
    touches(store, Statement::new(CANCEL, [])).await
}

/// Whether nobody works on what is under way: waits for a sign of life.
///
/// # Errors
/// When the store cannot be read.
pub(in crate::projections) async fn is_abandoned(
    store: &dyn Store,
    before: &RebuildStatus,
) -> Result<bool, StoreError> {
    let started = Instant::now();
    while started.elapsed() < LEASE {
        tokio::time::sleep(LOOK_EVERY).await;
        if !status(store).await?.is_as_before(before) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// That the rebuild is this one's to work on.
#[derive(Debug, Clone)]
pub(crate) struct Owner(String);

impl Owner {
    /// Begins a rebuild where nothing is under way; answers none where something is.
    pub async fn of_new(
        store: &dyn Store,
        names: &[&str],
        pace: Pace,
    ) -> Result<Self, EngineError> {
        let owner = name();
        write_down(store, RebuildState::Running, names, &owner, pace).await?;
        Ok(Self(owner))
    }

    /// Takes over what is as it was seen; none where somebody else was quicker.
    pub async fn of_seen(
        store: &dyn Store,
        seen: &RebuildStatus,
    ) -> Result<Option<Self>, StoreError> {
        let owner = name();
        let parameters: [Value; 5] = [
            owner.as_str().into(),
            seen.id.as_str().into(),
            seen.state.name().into(),
            seen.owner.as_str().into(),
            seen.beats.into(),
        ];
        let is_taken = touches(store, Statement::new(TAKE_OVER, parameters)).await?;
        Ok(is_taken.then_some(Self(owner)))
    }

    /// Whether the rebuild is still this one's.
    pub async fn is_mine(&self, store: &dyn Store) -> Result<bool, StoreError> {
        Ok(status(store).await?.owner == self.0)
    }

    fn while_running(&self, set: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        let sql = format!(
            "UPDATE rebuild
                SET beats = beats + 1{set}
              WHERE singleton = 1 AND state = 'running' AND owner = $1"
        );
        let owner = Value::from(self.0.as_str());
        Statement::new(sql, std::iter::once(owner).chain(values))
    }

    /// A guard: touches the row while the rebuild goes on and is this one's.
    pub fn goes_on(&self) -> Statement {
        self.while_running("", [])
    }

    /// The same, and that rows of the audit index are written up to here.
    pub fn audit_at(&self, position: u64) -> Statement {
        self.while_running(", audit_at = $2", [position.into()])
    }

    /// The same, and that documents are written up to here.
    pub fn documents_at(&self, position: u64) -> Statement {
        self.while_running(", documents_at = $2", [position.into()])
    }

    /// Takes up what was only asked for.
    pub fn starts(&self) -> Statement {
        let sql = "UPDATE rebuild
                      SET state = 'running', beats = beats + 1
                    WHERE singleton = 1 AND state = 'asked' AND owner = $1";
        Statement::new(sql, [self.0.as_str().into()])
    }

    /// A sign of life, and how far it is.
    pub fn shows(&self, position: u64, head: u64, per_second: u64) -> Statement {
        let sql = "UPDATE rebuild
                      SET beats = beats + 1, position = $2, head = $3, per_second = $4
                    WHERE singleton = 1 AND state IN ('running', 'swapped') AND owner = $1";
        let values = [position, head, per_second].map(Value::from);
        let owner = Value::from(self.0.as_str());
        Statement::new(sql, std::iter::once(owner).chain(values))
    }

    /// Fails, and with it what comes after it in a transaction, unless the rebuild is this
    /// one's, whatever is to be done about it: a null cannot be.
    pub fn or_fails(&self) -> Statement {
        let sql = "UPDATE rebuild
                      SET beats = CASE WHEN owner = $1 THEN beats + 1 END
                    WHERE singleton = 1";
        Statement::new(sql, [self.0.as_str().into()])
    }

    /// The same, for what may only happen once and while it was not cancelled: from here on the
    /// new generations serve.
    pub fn swaps_or_fails(&self) -> Statement {
        let sql = "UPDATE rebuild
                      SET beats = beats + 1,
                          state = CASE WHEN owner = $1 AND state = 'running' THEN 'swapped' END
                    WHERE singleton = 1";
        Statement::new(sql, [self.0.as_str().into()])
    }

    /// Writes down which generations are filled.
    pub fn fills(&self, generations: &Generations) -> Statement {
        let sql = "UPDATE rebuild
                      SET generations = $2, documents_at = 0, audit_at = 0
                    WHERE singleton = 1 AND owner = $1";
        let generations = serde_json::json!(generations).to_string();
        Statement::new(sql, [self.0.as_str().into(), generations.into()])
    }

    /// It is over.
    pub fn ends(&self, outcome: &str) -> Statement {
        let sql = "UPDATE rebuild
                      SET state = 'idle', outcome = $2, generations = '{}', owner = ''
                    WHERE singleton = 1 AND owner = $1";
        Statement::new(sql, [self.0.as_str().into(), outcome.into()])
    }
}
