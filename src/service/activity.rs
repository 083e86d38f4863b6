//! What crews do, as it is sent by whoever runs them: kept beside the log, never events, never
//! promoted, and deleted after a while.
//!
//! Every statement that reads names one crew, and who may see it was asked before. What a record
//! says is sealed under the workspace's key; the time, kind and level that it is filtered by are
//! open. A text is looked for in opened records, so many a page: a page may then be short, and
//! still not be the last.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    InCrew, Principal, Request, Service, ServiceError, Written,
    write::{Made, Sender},
};
use crate::{
    domain::{
        Refusal, Timestamp,
        authority::Permission,
        crew::CrewStatus,
        ids::{CrewId, WorkspaceId},
        sealed::KeyOwner,
    },
    journal::stores::{Row, Statement, Value, page_rows},
};

/// The most records of one batch.
pub const RECORDS_MAX: usize = 500;
/// How far ahead of this process's clock a record may be.
const AHEAD_MAX: chrono::TimeDelta = chrono::TimeDelta::days(1);
/// How many records are opened for one page that a text is looked for in.
const OPENED_MAX: u64 = 2_048;
/// How many of them at once.
const OPENED_AT_ONCE: u64 = 256;
/// How many records one statement deletes, and how many such are sent in one look.
const DELETED_AT_ONCE: u64 = 1_000;
const DELETIONS_MAX: usize = 10;
/// How long a deleted workspace is looked at: longer than any batch is under way.
const ENDED_FOR: chrono::TimeDelta = chrono::TimeDelta::days(1);

/// One more set of placeholders a record; see [`insertion`].
const INSERT: &str = "
INSERT INTO activity (workspace, crew, id, at, kind, level, key_version, sealed)
VALUES ";
const INSERT_COLUMNS: usize = 8;
const INSERT_ONCE: &str = "
    ON CONFLICT (workspace, crew, id) DO NOTHING";

const PAGE: &str = "
SELECT id, at, kind, level, key_version, sealed
  FROM activity
 WHERE crew = $1 AND workspace = $2 AND at >= $3 AND at < $4
   AND (at < $5 OR (at = $5 AND id < $6))
   AND ($7 = '' OR kind = $7) AND ($8 = '' OR level = $8)
 ORDER BY at DESC, id DESC";

const DELETE_OLD: &str = "
DELETE FROM activity
 WHERE (workspace, crew, id) IN (SELECT workspace, crew, id
                                   FROM activity
                                  WHERE at < $1
                                  ORDER BY at
                                  LIMIT $2)";

const DELETE_ENDED: &str = "
DELETE FROM activity
 WHERE (workspace, crew, id) IN (SELECT a.workspace, a.crew, a.id
                                   FROM activity_ended e
                                   JOIN activity a ON a.workspace = e.workspace
                                  LIMIT $1)";

const END: &str = "
INSERT INTO activity_ended (workspace, ended_at)
VALUES ($1, $2)
    ON CONFLICT (workspace) DO NOTHING";

const FORGET_ENDED: &str = "
DELETE FROM activity_ended
 WHERE ended_at < $1
   AND NOT EXISTS (SELECT 1 FROM activity a WHERE a.workspace = activity_ended.workspace)";

/// How much a record matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityLevel {
    Debug,
    Info,
    Warning,
    Error,
}

impl ActivityLevel {
    /// All of them, from what matters least.
    pub const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warning, Self::Error];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that a crew has done.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityRecord {
    /// The sender's: the first record of an id in a crew stays.
    pub id: String,
    pub at: Timestamp,
    pub kind: String,
    pub level: Option<ActivityLevel>,
    pub message: Option<String>,
    pub data: Option<Json>,
}

/// What became of a batch; together they are all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivityReceipt {
    /// New here.
    pub accepted: u64,
    /// There already, by their ids.
    pub known: u64,
    /// Older than what is kept.
    pub expired: u64,
}

/// Which records; each condition that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct ActivityFilter {
    pub kind: Option<String>,
    pub level: Option<ActivityLevel>,
    /// Inclusive.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
    /// Words that must all occur in what a record says.
    pub text: Option<String>,
}

/// Where a record stands in its crew's list: newest first, and by its id where two are of one
/// time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityPlace {
    pub at: Timestamp,
    pub id: String,
}

/// A page of a crew's activity, newest first.
#[derive(Debug, Clone)]
pub struct ActivityPage {
    pub records: Vec<ActivityRecord>,
    /// Where the next page begins, if there may be one.
    pub next: Option<ActivityPlace>,
    pub position: u64,
}

/// What is sealed of a record.
#[derive(Serialize, Deserialize)]
struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Json>,
}

/// Has due work delete what a workspace's crews have sent; beside the workspace's end.
pub(super) fn end(workspace: WorkspaceId, now: Timestamp) -> Statement {
    Statement::new(END, [workspace.to_string().into(), now.0.into()])
}

/// What a sealed record is bound to: it opens nowhere else.
fn bound_to(workspace: WorkspaceId, crew: CrewId, id: &str) -> String {
    format!("activity {workspace} {crew} {id}")
}

/// Inserts rows of [`INSERT_COLUMNS`] values each. The last is repeated up to a power of two, so
/// that few different statements are prepared; it is there only once.
fn insertion(mut rows: Vec<[Value; INSERT_COLUMNS]>) -> Statement {
    let size = rows.len().next_power_of_two();
    if let Some(last) = rows.last().cloned() {
        rows.resize(size, last);
    }
    let row = |at: usize| {
        let first = at * INSERT_COLUMNS + 1;
        let columns: Vec<_> = (first..first + INSERT_COLUMNS)
            .map(|number| format!("${number}"))
            .collect();
        format!("({})", columns.join(", "))
    };
    let places: Vec<_> = (0..size).map(row).collect();
    let sql = format!("{INSERT}{}{INSERT_ONCE}", places.join(", "));
    Statement::new(sql, rows.into_iter().flatten())
}

/// Whether all words occur in what a record says.
fn holds(record: &ActivityRecord, words: &[String]) -> bool {
    if words.is_empty() {
        return true;
    }
    let message = record.message.as_deref().unwrap_or_default();
    let data = record.data.as_ref().map(Json::to_string);
    let said = format!("{message}\n{}", data.unwrap_or_default()).to_lowercase();
    words.iter().all(|word| said.contains(word))
}

impl Service {
    /// Keeps what a crew has done. Sending a record again changes nothing.
    ///
    /// # Errors
    /// A refusal unless the caller may, or when the crew is archived; an invalid value when a
    /// record is of a time too far ahead.
    pub async fn send_activity(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        records: Vec<ActivityRecord>,
    ) -> Result<Written<ActivityReceipt>, ServiceError> {
        let permission = Permission::SendActivity;
        let (place, crew) = self
            .may_in_crew(request, principal, at, permission, permission.name())
            .await?;
        let aim = place.place.aim(permission.name(), place.crew.id);
        let aim = aim.in_crew(place.crew);
        self.writes_beside(request, principal, &aim).await?;
        let work = async {
            let is_archived = crew.value.status == CrewStatus::Archived;
            let kept = match is_archived {
                true => return Err(Refusal::CrewArchived.into()),
                false => self.keep_activity(at, records).await?,
            };
            Ok((crew.position, kept))
        };
        let sender = Sender::of(principal);
        let receipt = self.once_beside(&sender, request, work).await?;
        let Made::Activity {
            accepted,
            known,
            expired,
        } = receipt.made
        else {
            let words = "the kept answer is no receipt".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let value = ActivityReceipt {
            accepted,
            known,
            expired,
        };
        Ok(Written::of(&receipt, value))
    }

    /// Keeps what of a batch is not too old.
    async fn keep_activity(
        &self,
        at: InCrew,
        records: Vec<ActivityRecord>,
    ) -> Result<Made, ServiceError> {
        let ahead = self.source().now().plus(AHEAD_MAX);
        if let Some(place) = records.iter().position(|record| record.at > ahead) {
            return Err(ServiceError::InvalidValue {
                pointer: "/records",
                detail: format!("the time of record {place} is more than a day ahead"),
            });
        }
        let (sent, oldest) = (records.len() as u64, self.oldest_activity());
        let kept: Vec<_> = records
            .into_iter()
            .filter(|record| record.at >= oldest)
            .collect();
        let in_time = kept.len() as u64;
        let accepted = self.insert_activity(at, kept).await?;
        Ok(Made::Activity {
            accepted,
            known: in_time - accepted,
            expired: sent - in_time,
        })
    }

    /// The first moment whose activity is kept.
    fn oldest_activity(&self) -> Timestamp {
        let now = self.source().now();
        now.plus(-self.settings.activity_retention)
    }

    async fn insert_activity(
        &self,
        (workspace, crew): InCrew,
        records: Vec<ActivityRecord>,
    ) -> Result<u64, ServiceError> {
        if records.is_empty() {
            return Ok(0);
        }
        let key = self.workspace_key(workspace).await?;
        let row = |record: ActivityRecord| -> Result<[Value; INSERT_COLUMNS], ServiceError> {
            let said = Said {
                message: record.message,
                data: record.data,
            };
            let said = serde_json::to_vec(&said)
                .map_err(|error| ServiceError::Internal(error.to_string()))?;
            let bound = bound_to(workspace, crew, &record.id);
            let sealed = key.seal_bytes(self.source(), &bound, &said);
            Ok([
                workspace.to_string().into(),
                crew.to_string().into(),
                record.id.into(),
                record.at.0.into(),
                record.kind.into(),
                record.level.map(|level| level.name().to_owned()).into(),
                i64::from(key.version()).into(),
                sealed.into(),
            ])
        };
        let rows = records.into_iter().map(row).collect::<Result<_, _>>()?;
        let store = self.journal.store();
        let touched = store.execute(vec![insertion(rows)]).await?;
        Ok(touched.first().copied().unwrap_or(0))
    }

    /// A page of a crew's activity after a place, newest first. Pages neither skip nor repeat a
    /// record, whatever is sent meanwhile.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew.
    pub async fn activity_of(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        filter: &ActivityFilter,
        (after, limit): (Option<ActivityPlace>, u64),
    ) -> Result<ActivityPage, ServiceError> {
        let (permission, action) = (Permission::SeeCrews, "activity.read");
        let (_, crew) = self
            .may_in_crew(request, principal, at, permission, action)
            .await?;
        let text = filter.text.as_deref().unwrap_or_default().to_lowercase();
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        let at_once = match words.is_empty() {
            true => limit,
            false => OPENED_AT_ONCE,
        };
        let mut page = ActivityPage {
            records: Vec::new(),
            next: after,
            position: crew.position,
        };
        let mut opened = 0;
        while opened < OPENED_MAX {
            // One more tells whether another follows.
            let rows = self
                .activity_rows(at, filter, page.next.as_ref(), at_once + 1)
                .await?;
            let there = rows.len() as u64;
            for (row, number) in rows.iter().take(to_usize(at_once)).zip(1..) {
                let record = self.opened_activity(at, row).await?;
                page.next = Some(ActivityPlace {
                    at: record.at,
                    id: record.id.clone(),
                });
                if holds(&record, &words) {
                    page.records.push(record);
                }
                if page.records.len() as u64 == limit {
                    page.next = page.next.filter(|_| number < there);
                    return Ok(page);
                }
            }
            if there <= at_once {
                page.next = None;
                return Ok(page);
            }
            opened += at_once;
        }
        Ok(page)
    }

    async fn activity_rows(
        &self,
        (workspace, crew): InCrew,
        filter: &ActivityFilter,
        after: Option<&ActivityPlace>,
        limit: u64,
    ) -> Result<Vec<Row>, ServiceError> {
        let oldest = self.oldest_activity();
        let from = filter.from.map_or(oldest, |from| from.max(oldest));
        let to = filter.to.unwrap_or(Timestamp(i64::MAX));
        let (last, last_id) = after.map_or((i64::MAX, ""), |place| (place.at.0, &*place.id));
        let parameters = vec![
            crew.to_string().into(),
            workspace.to_string().into(),
            from.0.into(),
            to.0.into(),
            last.into(),
            last_id.into(),
            filter.kind.as_deref().unwrap_or_default().into(),
            filter.level.map_or("", ActivityLevel::name).into(),
        ];
        let sql = format!("{PAGE}\n LIMIT {}", page_rows(limit));
        let mut rows = self.journal.store().query(&sql, parameters).await?;
        rows.truncate(to_usize(limit));
        Ok(rows)
    }

    async fn opened_activity(
        &self,
        (workspace, crew): InCrew,
        row: &Row,
    ) -> Result<ActivityRecord, ServiceError> {
        let id = row.text(0)?.to_owned();
        let damaged = |what: &str| {
            ServiceError::Internal(format!("the activity {id} of {crew} in {workspace} {what}"))
        };
        let version = u32::try_from(row.integer(4)?).map_err(|_| damaged("has no key"))?;
        let owner = KeyOwner::Workspace(workspace);
        let key = self.keyring.key(owner, version).await?;
        let key = key.ok_or_else(|| damaged("has no key"))?;
        let opened = key.open_bytes(&bound_to(workspace, crew, &id), row.bytes(5)?);
        let opened = opened.map_err(|_| damaged("was changed"))?;
        let said: Said = serde_json::from_slice(&opened).map_err(|_| damaged("is no record"))?;
        let level = row.optional_text(3)?;
        Ok(ActivityRecord {
            at: Timestamp(row.integer(1)?),
            kind: row.text(2)?.to_owned(),
            level: ActivityLevel::ALL
                .into_iter()
                .find(|known| Some(known.name()) == level),
            message: said.message,
            data: said.data,
            id,
        })
    }

    /// Deletes what was kept long enough, and what is of deleted workspaces; due work, so many in
    /// one look. Answers how many.
    pub(super) async fn delete_old_activity(&self) -> Result<u64, ServiceError> {
        let (store, oldest) = (self.journal.store(), self.oldest_activity());
        let mut deleted = 0;
        for _ in 0..DELETIONS_MAX {
            let statements = vec![
                Statement::new(DELETE_OLD, [oldest.0.into(), DELETED_AT_ONCE.into()]),
                Statement::new(DELETE_ENDED, [DELETED_AT_ONCE.into()]),
            ];
            let touched = store.execute(statements).await?;
            deleted += touched.iter().sum::<u64>();
            if touched.iter().all(|count| *count < DELETED_AT_ONCE) {
                break;
            }
        }
        Ok(deleted)
    }
}

/// Forgets workspaces that ended long ago, and of whose activity nothing is left.
pub(super) fn forget_ended(now: Timestamp) -> Statement {
    Statement::new(FORGET_ENDED, [now.plus(-ENDED_FOR).0.into()])
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
