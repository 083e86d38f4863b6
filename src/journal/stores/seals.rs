//! Stores that take no writer: one that is not whole yet, one that was moved away, a backup.
//!
//! The mark is `log_head.format`, which every version looks at before it writes, so that older ones
//! keep away too; `seals` says why, and knows the other end. A store that was moved away also
//! refuses every change by triggers: a process that was stopped meanwhile, and goes on, finds them.

use super::{
    FORMAT, Head, Statement, Store, StoreError, StoreKind, Value, queries::head_and_format,
    tables::TableSchema,
};
use crate::domain::Timestamp;

/// Why a store takes no writer, or no longer none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealState {
    /// It is being filled.
    Arriving,
    /// It was filled, and is a store like any other.
    Arrived,
    /// Its log goes on elsewhere.
    Moved,
    /// It is kept to be restored.
    Backup,
}

impl SealState {
    const ALL: [Self; 4] = [Self::Arriving, Self::Arrived, Self::Moved, Self::Backup];

    /// Formats that say that nobody may write; far above those of writers.
    pub(super) const FORMATS: [i64; 3] = [1_000_001, 1_000_002, 1_000_003];

    /// What stands in `log_head.format`.
    pub fn format(self) -> i64 {
        match self {
            Self::Arriving => Self::FORMATS[0],
            Self::Moved => Self::FORMATS[1],
            Self::Backup => Self::FORMATS[2],
            Self::Arrived => FORMAT,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Arriving => "arriving",
            Self::Arrived => "arrived",
            Self::Moved => "moved",
            Self::Backup => "backup",
        }
    }
}

/// What stands in `seals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    pub state: SealState,
    /// Which transfer it was: the same at both of its ends.
    pub transfer: String,
    /// Where the other end is, for people; without a password.
    pub other: String,
    pub at: Timestamp,
}

const SELECT: &str = "
SELECT state, transfer, other, at
  FROM seals
 WHERE singleton = 1";

const PUT: &str = "
INSERT INTO seals (singleton, state, transfer, other, at)
VALUES (1, $1, $2, $3, $4)
    ON CONFLICT (singleton) DO UPDATE
       SET state = excluded.state, transfer = excluded.transfer, other = excluded.other,
           at = excluded.at";

/// Fails, and with it the seal, where the log has moved on: a head without a position cannot be.
const SEAL_HEAD: &str = "
UPDATE log_head
   SET format = $1,
       epoch = epoch + 1,
       position = CASE WHEN position = $2 AND epoch = $3 THEN position END
 WHERE singleton = 1";

const SET_FORMAT: &str = "
UPDATE log_head
   SET format = $1
 WHERE singleton = 1";

impl Seal {
    /// Statements that put the mark on a store that nobody else writes.
    pub fn put(&self) -> Vec<Statement> {
        vec![
            Statement::new(SET_FORMAT, [self.state.format().into()]),
            self.note(),
        ]
    }

    fn note(&self) -> Statement {
        let parameters: [Value; 4] = [
            self.state.name().into(),
            self.transfer.as_str().into(),
            self.other.as_str().into(),
            self.at.0.into(),
        ];
        Statement::new(PUT, parameters)
    }

    /// Statements that seal a store for good, if its head is still this one.
    pub fn close(&self, kind: StoreKind, head: &Head, tables: &[TableSchema]) -> Vec<Statement> {
        let parameters: [Value; 3] = [
            self.state.format().into(),
            head.position.into(),
            head.epoch.into(),
        ];
        let mut statements = vec![Statement::new(SEAL_HEAD, parameters), self.note()];
        let triggers = tables.iter().flat_map(|table| refusals(kind, &table.name));
        statements.extend(triggers);
        statements
    }

    /// What to say to whoever would write.
    fn refusal(&self, kind: StoreKind) -> String {
        let (other, at) = (&self.other, self.at.to_rfc3339());
        match self.state {
            SealState::Arriving => format!(
                "the {kind} store is not whole yet: it was begun to be filled from {other} at {at}; \
                 run the same `crewlog move` or `crewlog restore` again to finish it"
            ),
            SealState::Moved => format!(
                "the {kind} store was moved to {other} at {at}, and takes nothing any more; serve \
                 from there"
            ),
            SealState::Backup => format!(
                "the {kind} store is a backup of {other}, made at {at}; `crewlog restore` makes a \
                 store of it that can be served"
            ),
            SealState::Arrived => format!("the {kind} store came from {other} at {at}"),
        }
    }
}

/// Triggers that refuse every change of a table.
fn refusals(kind: StoreKind, table: &str) -> Vec<Statement> {
    match kind {
        StoreKind::Postgres => vec![Statement::new(
            format!(
                "CREATE TRIGGER {table}_was_moved BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE \
                 ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse_what_was_moved()"
            ),
            [],
        )],
        StoreKind::Sqlite => ["INSERT", "UPDATE", "DELETE"]
            .map(|change| {
                let name = format!("{table}_was_moved_{}", change.to_lowercase());
                let sql = format!(
                    "CREATE TRIGGER {name} BEFORE {change} ON {table}
                     BEGIN SELECT RAISE(ABORT, 'the store was moved away'); END"
                );
                Statement::new(sql, [])
            })
            .into(),
    }
}

/// What `seals` says; none of a store that has always been where it is.
///
/// # Errors
/// When the store cannot be read.
pub async fn seal_of(store: &dyn Store) -> Result<Option<Seal>, StoreError> {
    let rows = store.query(SELECT, vec![]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let name = row.text(0)?;
    let state = SealState::ALL
        .into_iter()
        .find(|state| state.name() == name);
    Ok(Some(Seal {
        state: state.ok_or_else(|| StoreError::Row(format!("a seal of {name}")))?,
        transfer: row.text(1)?.to_owned(),
        other: row.text(2)?.to_owned(),
        at: Timestamp(row.integer(3)?),
    }))
}

/// The head of a log that is to be written.
///
/// # Errors
/// [`StoreError::Sealed`] where nobody may write it; and as [`super::head`].
pub async fn head_for_writing(store: &dyn Store) -> Result<Head, StoreError> {
    let (head, format) = head_and_format(store).await?;
    match SealState::FORMATS.contains(&format) {
        false => Ok(head),
        true => Err(StoreError::Sealed {
            detail: match seal_of(store).await? {
                Some(seal) => seal.refusal(store.kind()),
                None => format!("the {} store takes no writer", store.kind()),
            },
        }),
    }
}

/// That a store may be written.
///
/// # Errors
/// As [`head_for_writing`].
pub async fn may_be_written(store: &dyn Store) -> Result<(), StoreError> {
    head_for_writing(store).await.map(drop)
}
