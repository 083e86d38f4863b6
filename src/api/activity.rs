//! The activity of a crew: logs and figures that whoever runs it sends, and reads back.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    audit::{FilterText, QueryTime},
    exchange::{Command, PrincipalReader, PrincipalWriter, ReadQuery},
    fields::{FieldCode, FieldError, Validate},
    headers::{IdempotencyKey, MinimumPosition},
    json::Json,
    paging::{Cursor, CursorKey, Limit},
    problem::Problem,
    query::Path,
    respond::{Page, Resource},
    values::{GivenTime, Time, wrong},
};
use crate::{
    domain::{
        Timestamp,
        ids::{CrewId, WorkspaceId},
    },
    service::{
        ActivityFilter, ActivityLevel, ActivityPlace, ActivityReceipt, ActivityRecord, RECORDS_MAX,
        Service,
    },
};

/// The largest body of a batch.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// The longest id of a record, in characters.
const ID_CHARACTERS_MAX: usize = 100;
/// The longest kind, in characters.
const KIND_CHARACTERS_MAX: usize = 64;
/// The longest message, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 4_000;
/// The largest data in its RFC 8785 form, in bytes.
const DATA_BYTES_MAX: usize = 8 * 1024;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(send_activity, list_activity))
}

/// Something that a crew has done, as it is sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewActivityRecord)]
pub struct NewRecordBody {
    /// The sender's own: the first record of an id in a crew stays.
    #[schema(min_length = 1, max_length = 100, example = "call-4711-end")]
    id: String,
    /// When it happened: at most a day ahead. What is older than is kept is counted and left out.
    at: GivenTime,
    /// Words of small letters, digits and `_`, joined by dots.
    #[schema(
        max_length = 64,
        pattern = "^[a-z0-9_]+([.][a-z0-9_]+)*$",
        example = "call.ended"
    )]
    kind: String,
    #[schema(inline)]
    level: Option<ActivityLevel>,
    #[schema(max_length = 4000)]
    message: Option<String>,
    /// At most 8 KiB in its RFC 8785 form.
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
}

/// A batch of records.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ActivityBatch)]
pub struct BatchBody {
    #[schema(min_items = 1, max_items = 500)]
    records: Vec<NewRecordBody>,
}

fn is_kind(text: &str) -> bool {
    let is_letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_letter);
    text.split('.').all(is_word)
}

fn check_kind(pointer: &str, kind: &str) -> Option<FieldError> {
    match kind.chars().count() > KIND_CHARACTERS_MAX {
        true => Some(FieldError::too_long(pointer, KIND_CHARACTERS_MAX)),
        false => (!is_kind(kind)).then(|| {
            let detail = "words of small letters, digits and `_`, joined by dots";
            FieldError::invalid(pointer, detail)
        }),
    }
}

fn check_data(pointer: &str, data: &Value) -> Option<FieldError> {
    if !data.is_object() {
        return Some(FieldError::new(FieldCode::WrongType, pointer, "an object"));
    }
    let size = serde_json_canonicalizer::to_string(data).map_or(usize::MAX, |text| text.len());
    (size > DATA_BYTES_MAX).then(|| {
        let detail = format!("at most {DATA_BYTES_MAX} bytes in its canonical form");
        FieldError::invalid(pointer, detail)
    })
}

impl NewRecordBody {
    fn wrong_at(&self, place: usize) -> Vec<FieldError> {
        let at = |name: &str| format!("/records/{place}/{name}");
        let message = self.message.as_ref().map(|text| text.chars().count());
        let is_long = message.is_some_and(|count| count > MESSAGE_CHARACTERS_MAX);
        wrong([
            FieldError::check_text(&at("id"), &self.id, 1..=ID_CHARACTERS_MAX),
            check_kind(&at("kind"), &self.kind),
            is_long.then(|| FieldError::too_long(at("message"), MESSAGE_CHARACTERS_MAX)),
            self.data
                .as_ref()
                .and_then(|data| check_data(&at("data"), data)),
        ])
    }
}

impl Validate for BatchBody {
    fn validate(&self) -> Vec<FieldError> {
        let count = self.records.len();
        if count == 0 {
            return vec![FieldError::invalid("/records", "at least one")];
        }
        if count > RECORDS_MAX {
            return vec![FieldError::too_many("/records", RECORDS_MAX)];
        }
        let records = self.records.iter().enumerate();
        records
            .flat_map(|(place, record)| record.wrong_at(place))
            .collect()
    }
}

impl Command for BatchBody {
    /// It is no event, and has none.
    fn reason(&self) -> Option<&str> {
        None
    }
}

impl From<NewRecordBody> for ActivityRecord {
    fn from(record: NewRecordBody) -> Self {
        Self {
            id: record.id,
            at: record.at.0,
            kind: record.kind,
            level: record.level,
            message: record.message,
            data: record.data,
        }
    }
}

/// What became of a batch; together they are all of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActivityReceipt)]
pub struct ReceiptBody {
    /// New here.
    accepted: u64,
    /// There already, by their ids: nothing has changed.
    known: u64,
    /// Older than what is kept, and left out.
    expired: u64,
}

impl From<ActivityReceipt> for ReceiptBody {
    fn from(receipt: ActivityReceipt) -> Self {
        Self {
            accepted: receipt.accepted,
            known: receipt.known,
            expired: receipt.expired,
        }
    }
}

/// Something that a crew has done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActivityRecord)]
pub struct RecordBody {
    id: String,
    at: Time,
    kind: String,
    #[schema(required, inline)]
    level: Option<ActivityLevel>,
    #[schema(required)]
    message: Option<String>,
    #[schema(value_type = Option<Object>, required)]
    data: Option<Value>,
}

impl From<ActivityRecord> for RecordBody {
    fn from(record: ActivityRecord) -> Self {
        Self {
            id: record.id,
            at: record.at.into(),
            kind: record.kind,
            level: record.level,
            message: record.message,
            data: record.data,
        }
    }
}

/// Where a record stands in the list of its crew. What a client has made up may hold anything,
/// and finds only what the list has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActivityCursor(
    i64,
    #[serde(deserialize_with = "super::paging::printable")] String,
);

impl CursorKey for ActivityCursor {
    const LIST: &'static str = "activity";
}

type EndOfPage = Cursor<ActivityCursor>;

/// What a record must be to be listed; each condition that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ActivityQuery {
    #[param(inline)]
    kind: Option<FilterText>,
    #[param(inline)]
    level: Option<ActivityLevel>,
    /// Happened at this time or later.
    #[param(inline)]
    from: Option<QueryTime>,
    /// Happened before this time.
    #[param(inline)]
    to: Option<QueryTime>,
    /// Words that must all occur in the message or the data. So many records are looked at for
    /// one page: it may be short, or empty, and have a `next_cursor`.
    #[param(inline)]
    q: Option<FilterText>,
    /// How many items at most.
    #[serde(default)]
    #[param(inline, required = false)]
    limit: Limit,
    /// `next_cursor` of the page before.
    #[param(inline)]
    cursor: Option<EndOfPage>,
}

impl ReadQuery for ActivityQuery {}

impl ActivityQuery {
    fn into_filter(self) -> ActivityFilter {
        ActivityFilter {
            kind: self.kind.map(|FilterText(text)| text),
            level: self.level,
            from: self.from.map(|QueryTime(time)| time),
            to: self.to.map(|QueryTime(time)| time),
            text: self.q.map(|FilterText(text)| text),
        }
    }
}

/// Keeps what a crew has done. A record that is sent again, by its id, changes nothing; so a
/// batch can be sent until it is answered, also without an `Idempotency-Key`. It is no event: the
/// audit log does not tell of it.
#[utoipa::path(
    post, path = "/v1/workspaces/{ws}/crews/{crew}/activity", tag = "crews",
    params(("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), IdempotencyKey),
    request_body = BatchBody,
    responses((status = 200, description = "What became of it.", body = ReceiptBody)),
)]
pub async fn send_activity(
    State(service): State<Arc<Service>>,
    writer: PrincipalWriter,
    Path(at): Path<(WorkspaceId, CrewId)>,
    body: Json<BatchBody, BATCH_BYTES_MAX>,
) -> Result<Resource<ReceiptBody>, Problem> {
    let (request, principal) = writer.making(&body)?;
    let records = body.value.records.into_iter().map(Into::into).collect();
    let written = service
        .send_activity(&request, &principal, at, records)
        .await?;
    let (position, replayed) = (written.position, written.replayed);
    let receipt = Resource::unversioned(position, written.value.into());
    Ok(receipt.replayed(replayed))
}

/// What a crew has done, newest first, for as long as it is kept.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/crews/{crew}/activity", tag = "crews",
    params(
        ("ws" = WorkspaceId, Path), ("crew" = CrewId, Path), ActivityQuery, MinimumPosition
    ),
    responses((status = 200, description = "A page of records.", body = Page<RecordBody>)),
)]
pub async fn list_activity(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<ActivityQuery>,
    Path(at): Path<(WorkspaceId, CrewId)>,
) -> Result<Page<RecordBody>, Problem> {
    let PrincipalReader {
        request,
        principal,
        query,
    } = reader;
    let limit = query.limit.count();
    let after = query.cursor.as_ref().map(|Cursor { key }| ActivityPlace {
        at: Timestamp(key.0),
        id: key.1.clone(),
    });
    let filter = query.into_filter();
    let page = service
        .activity_of(&request, &principal, at, &filter, (after, limit))
        .await?;
    let next = page.next.map(|place| {
        let key = ActivityCursor(place.at.0, place.id);
        Cursor::new(key).encode()
    });
    let records = page.records.into_iter().map(Into::into);
    Ok(Page::new(records.collect(), next, page.position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_words_joined_by_dots() {
        for kind in ["call", "call.ended", "a_1.b"] {
            assert_eq!(check_kind("/kind", kind), None, "{kind}");
        }
        for wrong in [
            "",
            ".",
            "call.",
            ".call",
            "call..ended",
            "Call",
            "a b",
            "a-b",
        ] {
            assert!(check_kind("/kind", wrong).is_some(), "{wrong}");
        }
        assert!(check_kind("/kind", &"k".repeat(KIND_CHARACTERS_MAX + 1)).is_some());
    }
}
