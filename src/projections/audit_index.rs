//! The audit index: by what an auditor finds the entries of the log.
//!
//! One narrow row for each event; the entry itself is read from `events`. The index trails the
//! log: no append waits for it, [`advance`] brings it on behind them, and [`positions`] looks
//! for what it has not come to in the log itself. So no reader can tell how far it is.
//!
//! A search goes along one index: that of the target or the actor that it names, or of the
//! workspace or the organization that it is in. What else it asks for is looked at in the rows that
//! it finds there, so many at once and no more than [`LOOKED_AT_MAX`]: then it answers what it has
//! found, and where it goes on.
//!
//! Never answers from the index alone, and never says that it is further than its rows are.

use std::{collections::BTreeSet, ops::RangeInclusive};

use super::{
    EngineError, Found,
    audit::describe,
    engine::{read_name, table_name},
};
use crate::{
    domain::{Timestamp, authority::Actor, event::Event, ids::WorkspaceId},
    journal::{
        Recorded, beside,
        stores::{
            self, AUDIT_COLUMNS, AuditRow, AuditRows, Scan, ScanError, Sheet, SheetRow, Span,
            Statement, Store, StoreError, StoreKind, Value, decoded, events_span, hash_of, padded,
            page_rows,
        },
    },
};

/// The name of this projection, as `replay` takes it.
pub const NAME: &str = "audit";
/// Raised when the rows change: then the index is rebuilt.
pub const VERSION: i64 = 3;

/// Events that the index is brought on by at once.
pub const STEP: u64 = 4_096;
/// Bytes of text that a row has, or a little more.
const ROW_BYTES: usize = 320;
/// Events of the log that are looked at at once beyond the index.
const TAIL_PAGE: u64 = 512;
/// Rows that a search looks at first; where too little is found in them, eight times as many next.
const LOOKED_AT_FIRST: u64 = 1_000;
/// Behind every position that a store can hold.
const POSITION_MAX: u64 = i64::MAX as u64;
/// Rows that one search looks at.
pub const LOOKED_AT_MAX: u64 = 200_000;

/// The row of the index for an event.
pub fn row(event: &Recorded) -> AuditRow {
    let description = describe(event);
    let workspace = event
        .scope
        .starts_with(WorkspaceId::PREFIX)
        .then(|| event.scope.clone());
    // What changed inside crews is no entry of the organization's log.
    let organization = match &event.event {
        Event::Crew(_) | Event::Promotion(_) => None,
        Event::User(_)
        | Event::Organization(_)
        | Event::Workspace(_)
        | Event::Review(_)
        | Event::Attempts(_)
        | Event::Installation(_) => event.metadata.organization,
    };
    let mut words = description.action.replace(['.', '_'], " ");
    for word in description.words.iter().chain([&description.target.1]) {
        words.push(' ');
        words.push_str(&word.to_lowercase());
    }
    if let Actor::OperatorKey { .. } = description.actor {
        words.push_str(" operator");
    }
    if description.breaks_glass {
        words.push_str(" break glass");
    }
    AuditRow {
        position: event.position,
        recorded_at: event.recorded_at.0,
        organization: organization.map(|id| id.to_string()),
        workspace,
        crew: description.crew.map(|crew| crew.to_string()),
        environment: description
            .environment
            .map(|environment| environment.name().to_owned()),
        actor: description.actor.id(),
        action: description.action,
        target: Some(description.target.1),
        outcome: description.outcome.name(),
        words,
    }
}

/// The rows of the index for events.
pub(super) fn sheet(events: &[Recorded]) -> Sheet {
    let mut sheet = Sheet::new(AUDIT_COLUMNS.len(), events.len(), ROW_BYTES);
    for event in events {
        row(event).push_to(&mut sheet);
    }
    sheet
}

/// The rows of a table between two positions.
pub(super) fn span(table: &str, after: u64, through: u64) -> Span {
    Span {
        table: table.to_owned(),
        columns: &AUDIT_COLUMNS,
        after,
        through,
    }
}

/// The positions at which one sheet has another row than the other, or none.
pub(super) fn differing(left: &Sheet, right: &Sheet) -> Result<Vec<u64>, StoreError> {
    let at = |row: &Option<&SheetRow<'_>>| row.map(|row| row.count(0)).transpose();
    let (mut left, mut right) = (left.rows().peekable(), right.rows().peekable());
    let mut differing = Vec::new();
    loop {
        let (of_left, of_right) = (at(&left.peek())?, at(&right.peek())?);
        let first = of_left.into_iter().chain(of_right).min();
        let Some(position) = first else {
            return Ok(differing);
        };
        let is_first = |row: &SheetRow<'_>| row.count(0).is_ok_and(|at| at == position);
        if left.next_if(is_first) != right.next_if(is_first) {
            differing.push(position);
        }
    }
}

/// The statement that makes the table of one generation.
pub(super) fn create_table(kind: StoreKind, table: &str) -> Statement {
    let (text, integer, options) = match kind {
        StoreKind::Sqlite => ("TEXT", "INTEGER", "STRICT"),
        StoreKind::Postgres => ("TEXT COLLATE \"C\"", "BIGINT", ""),
    };
    let create = format!(
        "CREATE TABLE {table} (
    position     {integer} PRIMARY KEY,
    recorded_at  {integer} NOT NULL,
    organization {text},
    workspace    {text},
    crew         {text},
    environment  {text},
    actor        {text},
    action       {text} NOT NULL,
    target       {text},
    outcome      {text} NOT NULL,
    words        {text} NOT NULL,
    organization_hash {integer},
    workspace_hash    {integer},
    actor_hash        {integer},
    target_hash       {integer}
) {options}"
    );
    Statement::new(create, [])
}

/// Statements that make the indexes of one generation. They are on numbers in the place of the
/// ids: half as wide, and compared at once.
pub(super) fn create_indexes(table: &str) -> Vec<Statement> {
    let index = |column| {
        let sql = format!(
            "CREATE INDEX IF NOT EXISTS {table}_by_{column} ON {table} ({column}_hash, position)"
        );
        Statement::new(sql, [])
    };
    ["workspace", "organization", "actor", "target"]
        .map(index)
        .into()
}

/// A column that entries are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Organization,
    Workspace,
    Crew,
    Environment,
    Actor,
    Action,
    Target,
    Outcome,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Workspace => "workspace",
            Self::Crew => "crew",
            Self::Environment => "environment",
            Self::Actor => "actor",
            Self::Action => "action",
            Self::Target => "target",
            Self::Outcome => "outcome",
        }
    }

    fn of(self, row: &AuditRow) -> Option<&str> {
        match self {
            Self::Organization => row.organization.as_deref(),
            Self::Workspace => row.workspace.as_deref(),
            Self::Crew => row.crew.as_deref(),
            Self::Environment => row.environment.as_deref(),
            Self::Actor => row.actor.as_deref(),
            Self::Action => Some(&row.action),
            Self::Target => row.target.as_deref(),
            Self::Outcome => Some(row.outcome),
        }
    }
}

/// The order of what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

impl Order {
    fn direction(self) -> &'static str {
        match self {
            Self::NewestFirst => "DESC",
            Self::OldestFirst => "ASC",
        }
    }
}

/// A statement and its parameters; none where there is no index to go along.
type WindowSql = Option<(String, Vec<Value>)>;

#[derive(Debug, Clone)]
enum Condition {
    Is(Column, String),
    Absent(Column),
    Word(String),
    /// The word, or one of these as who acted or what it was about.
    WordOrAny(String, BTreeSet<String>),
}

/// Which entries, and in which order; every condition must hold.
#[derive(Debug, Clone)]
pub struct Search {
    conditions: Vec<Condition>,
    /// The first and the last position that may be found.
    range: RangeInclusive<u64>,
    order: Order,
    /// Rows that are looked at first, and at all.
    looks_at: (u64, u64),
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Searched {
    /// At most as many as were asked for, in the order of the search.
    pub positions: Vec<u64>,
    /// The last position that was looked at, where it stopped before its end: there may be more
    /// behind it, in the order of the search.
    pub stopped_at: Option<u64>,
}

impl Search {
    /// All entries.
    pub fn new(order: Order) -> Self {
        Self {
            conditions: Vec::new(),
            range: 1..=u64::MAX,
            order,
            looks_at: (LOOKED_AT_FIRST, LOOKED_AT_MAX),
        }
    }

    /// Looks at other numbers of rows, first and at all.
    pub fn look_at(&mut self, first: u64, most: u64) {
        self.looks_at = (first, most);
    }

    /// What is looked for along an index: of what it names, that of which there is least.
    fn along(&self) -> Option<(Column, &str)> {
        let columns = [
            Column::Target,
            Column::Actor,
            Column::Workspace,
            Column::Organization,
        ];
        let named = |wanted: Column| {
            let mut conditions = self.conditions.iter();
            conditions.find_map(|condition| match condition {
                Condition::Is(column, value) if *column == wanted => Some((wanted, value.as_str())),
                Condition::Is(..)
                | Condition::Absent(_)
                | Condition::Word(_)
                | Condition::WordOrAny(..) => None,
            })
        };
        columns.into_iter().find_map(named)
    }

    /// The statement that finds the row which is the last of the next so many along the index.
    fn window_sql(
        &self,
        kind: StoreKind,
        table: &str,
        range: &RangeInclusive<u64>,
        rows: u64,
    ) -> WindowSql {
        let (column, value) = self.along()?;
        let direction = self.order.direction();
        let sql = format!(
            "SELECT position FROM {table}
              WHERE {along}
              ORDER BY {column}_hash {direction}, position {direction} LIMIT 1 OFFSET {}",
            rows - 1,
            along = along_index(kind, table, column.name(), "$1", ["$2", "$3"]),
            column = column.name(),
        );
        let mut parameters = vec![hash_of(value).into()];
        parameters.extend(bounds_of(range));
        Some((sql, parameters))
    }

    /// Those whose column is this value.
    pub fn is(&mut self, column: Column, value: impl Into<String>) {
        self.conditions.push(Condition::Is(column, value.into()));
    }

    /// Those without a value in the column.
    pub fn absent(&mut self, column: Column) {
        self.conditions.push(Condition::Absent(column));
    }

    /// Those whose words have this text in them, in whatever case.
    pub fn word(&mut self, word: &str) {
        self.conditions.push(Condition::Word(word.to_lowercase()));
    }

    /// Those whose words have this text in them, or that one of these ids has done, or that are
    /// about one of them.
    pub fn word_or_any(&mut self, word: &str, ids: BTreeSet<String>) {
        match ids.is_empty() {
            true => self.word(word),
            false => self
                .conditions
                .push(Condition::WordOrAny(word.to_lowercase(), ids)),
        }
    }

    /// Those at a position or later.
    pub fn at_least(&mut self, position: u64) {
        self.range = position.max(*self.range.start())..=*self.range.end();
    }

    /// Those at a position or earlier.
    pub fn at_most(&mut self, position: u64) {
        self.range = *self.range.start()..=position.min(*self.range.end());
    }

    fn matches(&self, row: &AuditRow) -> bool {
        self.conditions.iter().all(|condition| match condition {
            Condition::Is(column, value) => column.of(row) == Some(value),
            Condition::Absent(column) => column.of(row).is_none(),
            Condition::Word(word) => row.words.contains(word),
            Condition::WordOrAny(word, ids) => {
                let is_any = |id: &Option<String>| id.as_ref().is_some_and(|id| ids.contains(id));
                row.words.contains(word) || is_any(&row.actor) || is_any(&row.target)
            }
        })
    }

    /// The same as [`Search::matches`], for the table.
    fn sql(
        &self,
        kind: StoreKind,
        table: &str,
        range: &RangeInclusive<u64>,
        limit: u64,
    ) -> (String, Vec<Value>) {
        let along = self.along();
        let mut parameters: Vec<Value> = Vec::new();
        let bounds = match along {
            Some((column, value)) => {
                parameters.push(hash_of(value).into());
                along_index(kind, table, column.name(), "$1", ["$2", "$3"])
            }
            None => "position >= $1 AND position <= $2".to_owned(),
        };
        parameters.extend(bounds_of(range));
        let mut sql = format!("SELECT position FROM {table} WHERE {bounds}");
        for condition in &self.conditions {
            let next = parameters.len() + 1;
            match condition {
                Condition::Is(column, value) => {
                    let is = format!("{} = ${next}", column.name());
                    let is_along = along.is_some_and(|(along, _)| along == *column);
                    sql.push_str(" AND ");
                    sql.push_str(&match is_along {
                        true => as_hashed(kind, &is),
                        false => is,
                    });
                    parameters.push(value.as_str().into());
                }
                Condition::Absent(column) => {
                    sql.push_str(&format!(" AND {} IS NULL", column.name()));
                }
                Condition::Word(word) => {
                    sql.push_str(&format!(" AND words LIKE ${next} ESCAPE '\\'"));
                    parameters.push(pattern(word).into());
                }
                Condition::WordOrAny(word, ids) => {
                    parameters.push(pattern(word).into());
                    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                    let (any, values) = padded(&ids, next + 1);
                    sql.push_str(&format!(
                        " AND (words LIKE ${next} ESCAPE '\\' OR actor IN ({any})
                               OR target IN ({any}))"
                    ));
                    parameters.extend(values);
                }
            }
        }
        let direction = self.order.direction();
        let first = along.map(|(column, _)| format!("{}_hash {direction}, ", column.name()));
        sql.push_str(&format!(
            " ORDER BY {}position {direction} LIMIT {}",
            first.unwrap_or_default(),
            page_rows(limit)
        ));
        (sql, parameters)
    }

    /// The scope that all of it is in, where it is in one.
    fn scope(&self) -> Option<&str> {
        self.conditions
            .iter()
            .find_map(|condition| match condition {
                Condition::Is(Column::Workspace, workspace) => Some(workspace.as_str()),
                Condition::Is(..)
                | Condition::Absent(_)
                | Condition::Word(_)
                | Condition::WordOrAny(..) => None,
            })
    }
}

/// The rows of an index with a hash (`hash`) and between two positions.
///
/// For PostgreSQL it is said of both columns together, and found in the order of both: told "this
/// hash, in the order of the positions" its planner may go along the positions in the place of the
/// index, in the hope of meeting one soon, and walks through everybody else's. SQLite goes along the
/// index, and of bounds on two columns together would use the first alone.
fn along_index(kind: StoreKind, table: &str, column: &str, hash: &str, range: [&str; 2]) -> String {
    let [from, to] = range;
    let (of_hash, position) = (
        format!("{table}.{column}_hash"),
        format!("{table}.position"),
    );
    match kind {
        // That the bounds are likely keeps it from going along the positions for them.
        StoreKind::Sqlite => format!(
            "{of_hash} = {hash} AND likely({position} >= {from}) AND likely({position} <= {to})"
        ),
        StoreKind::Postgres => format!(
            "({of_hash}, {position}) >= ({hash}, {from})
               AND ({of_hash}, {position}) <= ({hash}, {to})"
        ),
    }
}

/// That what was found by its hash is it, which the hash has said nearly always.
///
/// Told plainly, the planner of PostgreSQL takes it for another condition that few rows meet, and
/// sorts all that the index finds in the place of going along it until there is enough.
fn as_hashed(kind: StoreKind, is: &str) -> String {
    match kind {
        StoreKind::Sqlite => is.to_owned(),
        StoreKind::Postgres => format!("CASE WHEN {is} THEN TRUE ELSE FALSE END"),
    }
}

/// The first and the last position of a range, as a store can hold them.
fn bounds_of(range: &RangeInclusive<u64>) -> [Value; 2] {
    [*range.start(), *range.end()].map(|bound| bound.min(POSITION_MAX).into())
}

/// The pattern that a text with `word` in it matches.
fn pattern(word: &str) -> String {
    let mut pattern = String::from("%");
    for character in word.chars() {
        if matches!(character, '\\' | '%' | '_') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// How far the log is, and how far the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexState {
    /// The head of the log.
    pub head: u64,
    /// The last position that has its row.
    pub position: u64,
    generation: i64,
    version: i64,
}

const SELECT_STATE: &str = "
SELECT head.position, audit.position, audit.generation, audit.version
  FROM log_head AS head, projections AS audit
 WHERE head.singleton = 1 AND audit.name = $1 AND audit.state = 'serving'";

/// How far the log is, and how far its index.
///
/// # Errors
/// When the store cannot be read, or has no index.
pub async fn state(store: &dyn Store) -> Result<IndexState, StoreError> {
    let rows = store.query(SELECT_STATE, vec![NAME.into()]).await?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::Row("there is no audit index".to_owned()))?;
    Ok(IndexState {
        head: row.count(0)?,
        position: row.count(1)?,
        generation: row.integer(2)?,
        version: row.integer(3)?,
    })
}

/// At most `limit` positions of entries, in the order that is asked for, as of the head that
/// is answered with them; fewer where much was looked at for them already.
///
/// # Errors
/// When the store cannot be read, or holds an event that this version cannot.
pub async fn positions(
    store: &dyn Store,
    search: &Search,
    limit: u64,
) -> Result<Found<Searched>, EngineError> {
    let state = state(store).await?;
    Ok(Found {
        value: search_at(store, &state, search, limit).await?,
        position: state.head,
    })
}

/// How the store goes about a search of the index up to where it is: the lines of its plan.
///
/// # Errors
/// When the store cannot be read.
pub async fn plan(
    store: &dyn Store,
    search: &Search,
    limit: u64,
) -> Result<Vec<String>, StoreError> {
    let state = state(store).await?;
    let range = *search.range.start()..=(*search.range.end()).min(state.position);
    let (sql, parameters) = search.sql(store.kind(), &read_name(NAME, VERSION), &range, limit);
    stores::plan(store, &sql, parameters).await
}

async fn search_at(
    store: &dyn Store,
    state: &IndexState,
    search: &Search,
    limit: u64,
) -> Result<Searched, EngineError> {
    let (first, last) = (*search.range.start(), (*search.range.end()).min(state.head));
    let indexed = first..=last.min(state.position);
    let tail = first.max(state.position + 1)..=last;
    let mut found = Searched::default();
    match search.order {
        Order::NewestFirst => {
            search_tail(store, search, tail, limit, &mut found.positions).await?;
            search_index(store, search, indexed, limit, &mut found).await?;
        }
        Order::OldestFirst => {
            search_index(store, search, indexed, limit, &mut found).await?;
            if found.stopped_at.is_none() {
                search_tail(store, search, tail, limit, &mut found.positions).await?;
            }
        }
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    found.positions.truncate(limit);
    Ok(found)
}

/// Looks through the index, in parts that grow, until there are enough or much was looked at.
async fn search_index(
    store: &dyn Store,
    search: &Search,
    range: RangeInclusive<u64>,
    limit: u64,
    found: &mut Searched,
) -> Result<(), StoreError> {
    let table = read_name(NAME, VERSION);
    let (mut rest, (mut rows, most), mut looked_at) = (range, search.looks_at, 0);
    while (found.positions.len() as u64) < limit && !rest.is_empty() {
        if looked_at >= most {
            found.stopped_at = Some(match search.order {
                Order::NewestFirst => rest.end() + 1,
                Order::OldestFirst => rest.start() - 1,
            });
            return Ok(());
        }
        let (part, behind) = match window(store, &table, search, &rest, rows).await? {
            Some(at) if search.order == Order::NewestFirst => {
                (at..=*rest.end(), *rest.start()..=at - 1)
            }
            Some(at) => (*rest.start()..=at, at + 1..=*rest.end()),
            None => (rest, RangeInclusive::new(1, 0)),
        };
        let wanted = limit - found.positions.len() as u64;
        let positions = search_part(store, search, part, wanted).await?;
        found.positions.extend(positions);
        (rest, looked_at) = (behind, looked_at + rows);
        rows = (rows * 8).min(most.saturating_sub(looked_at)).max(1);
    }
    Ok(())
}

/// The position at which the next so many rows of a range end; none where it ends before them, or
/// where every row that the index finds is wanted.
async fn window(
    store: &dyn Store,
    table: &str,
    search: &Search,
    range: &RangeInclusive<u64>,
    rows: u64,
) -> Result<Option<u64>, StoreError> {
    if search.conditions.len() <= 1 {
        return Ok(None);
    }
    let Some((sql, parameters)) = search.window_sql(store.kind(), table, range, rows) else {
        return Ok(None);
    };
    let found = store.query(&sql, parameters).await?;
    let at = found.first().map(|row| row.count(0)).transpose()?;
    Ok(at.filter(|at| range.contains(at)))
}

/// What is in the index of a range.
async fn search_part(
    store: &dyn Store,
    search: &Search,
    range: RangeInclusive<u64>,
    wanted: u64,
) -> Result<Vec<u64>, StoreError> {
    let (sql, parameters) = search.sql(store.kind(), &read_name(NAME, VERSION), &range, wanted);
    let rows = store.query(&sql, parameters).await?;
    rows.iter().map(|row| row.count(0)).collect()
}

/// Looks through the events of `range` themselves, a page at a time from the end that comes
/// first, until there are enough.
async fn search_tail(
    store: &dyn Store,
    search: &Search,
    range: RangeInclusive<u64>,
    limit: u64,
    found: &mut Vec<u64>,
) -> Result<(), EngineError> {
    let (mut first, mut last) = range.into_inner();
    while first <= last && (found.len() as u64) < limit {
        let page = match search.order {
            Order::NewestFirst => first.max(last.saturating_sub(TAIL_PAGE - 1))..=last,
            Order::OldestFirst => first..=last.min(first + TAIL_PAGE - 1),
        };
        let mut matching = matching(store, search, &page).await?;
        match search.order {
            Order::NewestFirst => {
                matching.reverse();
                last = page.start() - 1;
            }
            Order::OldestFirst => first = page.end() + 1,
        }
        found.append(&mut matching);
    }
    Ok(())
}

async fn matching(
    store: &dyn Store,
    search: &Search,
    page: &RangeInclusive<u64>,
) -> Result<Vec<u64>, EngineError> {
    let scan = Scan::Between {
        after: page.start() - 1,
        through: *page.end(),
        scope: search.scope().map(str::to_owned),
    };
    let mut matching = store.scan(scan).await?;
    matching.retain(|event| search.matches(&row(event)));
    Ok(matching.iter().map(|event| event.position).collect())
}

/// When each of `actors` last did something in a workspace, or signed in, up to a position that
/// the index has come to; refusals do not count. Each is one look into an index.
///
/// # Errors
/// When the store cannot be read.
pub async fn last_acted(
    store: &dyn Store,
    workspace: &str,
    actors: &[String],
    through: u64,
) -> Result<Vec<(String, Timestamp)>, StoreError> {
    let mut acted = Vec::new();
    for actors in actors.chunks(512) {
        let (sql, parameters) = last_acted_sql(store.kind(), workspace, actors, through);
        for row in store.query(&sql, parameters).await? {
            if let Some(at) = row.optional_integer(1)? {
                acted.push((row.text(0)?.to_owned(), Timestamp(at)));
            }
        }
    }
    Ok(acted)
}

/// The statement of [`last_acted`], for so many people at once, with its parameters.
pub fn last_acted_sql(
    kind: StoreKind,
    workspace: &str,
    actors: &[String],
    through: u64,
) -> (String, Vec<Value>) {
    let table = read_name(NAME, VERSION);
    let (rows, parameters) = asked(workspace, actors, through);
    let sql = format!(
        "WITH asked (actor, hash) AS (VALUES {rows})
         SELECT actor,
                (SELECT recorded_at FROM {table} AS done
                  WHERE {along}
                    AND {is_actor} AND done.outcome = 'ok'
                    AND (done.workspace = $1 OR done.action = 'session.started')
                  ORDER BY done.actor_hash DESC, done.position DESC LIMIT 1)
           FROM (SELECT DISTINCT actor, hash FROM asked) AS asked",
        along = along_index(kind, "done", "actor", "asked.hash", ["0", "$2"]),
        is_actor = as_hashed(kind, "done.actor = asked.actor"),
    );
    (sql, parameters)
}

/// What somebody did, of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    pub actor: String,
    pub action: String,
    /// When it was last done.
    pub last_at: Timestamp,
    /// Whether glass was ever broken for it.
    pub broke_glass: bool,
}

/// What each of `actors` did in a workspace, by action, up to a position that the index has come
/// to; refusals do not count.
///
/// # Errors
/// When the store cannot be read.
pub async fn deeds(
    store: &dyn Store,
    workspace: &str,
    actors: &[String],
    through: u64,
) -> Result<Vec<Deed>, StoreError> {
    let mut deeds = Vec::new();
    for actors in actors.chunks(256) {
        let (sql, parameters) = deeds_sql(store.kind(), workspace, actors, through);
        for row in store.query(&sql, parameters).await? {
            deeds.push(Deed {
                actor: row.text(0)?.to_owned(),
                action: row.text(1)?.to_owned(),
                last_at: Timestamp(row.integer(2)?),
                broke_glass: row.integer(3)? == 1,
            });
        }
    }
    Ok(deeds)
}

/// The statement of [`deeds`], for so many people at once, with its parameters.
pub fn deeds_sql(
    kind: StoreKind,
    workspace: &str,
    actors: &[String],
    through: u64,
) -> (String, Vec<Value>) {
    let table = read_name(NAME, VERSION);
    let (rows, parameters) = asked(workspace, actors, through);
    let along = along_index(kind, "done", "actor", "asked.hash", ["0", "$2"]);
    // The words of an entry end so where glass was broken for it, and never else.
    let deed = "done.action,
                MAX(done.recorded_at) AS last_at,
                MAX(CASE WHEN done.words LIKE '% break glass' THEN 1 ELSE 0 END) AS broke_glass";
    let theirs = format!(
        "{along} AND done.actor = asked.actor AND done.workspace = $1 AND done.outcome = 'ok'"
    );
    let select = match kind {
        StoreKind::Sqlite => format!(
            "SELECT done.actor, {deed}
               FROM (SELECT DISTINCT actor, hash FROM asked) AS asked
               JOIN {table} AS done ON {theirs}
              GROUP BY done.actor, done.action"
        ),
        // Of a join it may read the whole log, in the hope that it is all theirs.
        StoreKind::Postgres => format!(
            "SELECT asked.actor, deed.action, deed.last_at, deed.broke_glass
               FROM (SELECT DISTINCT actor, hash FROM asked) AS asked
              CROSS JOIN LATERAL
                    (SELECT {deed} FROM {table} AS done WHERE {theirs} GROUP BY done.action) AS deed"
        ),
    };
    let sql = format!("WITH asked (actor, hash) AS (VALUES {rows}) {select}");
    (sql, parameters)
}

/// Rows of those who are asked about, each with its hash, and the parameters of a statement about
/// them: the workspace, the last position, and the rows. They are filled up to a power of two, so
/// that few different statements are prepared.
fn asked(workspace: &str, actors: &[String], through: u64) -> (String, Vec<Value>) {
    let size = actors.len().next_power_of_two();
    let row = |at: usize| format!("(${}, CAST(${} AS BIGINT))", 2 * at + 3, 2 * at + 4);
    let rows: Vec<_> = (0..size).map(row).collect();
    let mut parameters: Vec<Value> = vec![workspace.into(), through.into()];
    let last = actors.last().into_iter().cycle();
    for actor in actors.iter().chain(last).take(size) {
        parameters.push(actor.as_str().into());
        parameters.push(hash_of(actor).into());
    }
    (rows.join(", "), parameters)
}

/// The same of what the index had not come to at `behind`: looked for in the log itself, for who
/// cannot bring the index on.
///
/// # Errors
/// When the store cannot be read, or holds an event that this version cannot.
pub async fn acted_behind(
    store: &dyn Store,
    workspace: &str,
    actors: &BTreeSet<String>,
    behind: u64,
    through: u64,
) -> Result<Vec<(String, Timestamp)>, EngineError> {
    let (mut acted, mut after) = (Vec::new(), behind);
    while after < through {
        let page = through.min(after + TAIL_PAGE);
        let scan = Scan::Between {
            after,
            through: page,
            scope: None,
        };
        for event in &store.scan(scan).await? {
            let row = row(event);
            let counts =
                row.workspace.as_deref() == Some(workspace) || row.action == "session.started";
            let actor = row.actor.filter(|actor| actors.contains(actor));
            if let (Some(actor), true) = (actor, counts && row.outcome == "ok") {
                acted.push((actor, event.recorded_at));
            }
        }
        after = page;
    }
    Ok(acted)
}

/// Takes the row for this transaction, so that of several processes one brings it on, and
/// none while a rebuild replaces it.
const ADVANCE: &str = "
UPDATE projections
   SET position = $1
 WHERE name = $2 AND generation = $3 AND position = $4 AND state = 'serving'";

/// Brings the index on by at most [`STEP`] events, and answers how far everything is then.
/// One that another version of the program keeps is left to it.
///
/// # Errors
/// When the store cannot be read or written, or holds an event that this version cannot.
pub async fn advance(store: &dyn Store) -> Result<IndexState, EngineError> {
    let state = state(store).await?;
    if state.position >= state.head || state.version != VERSION {
        return Ok(state);
    }
    let through = state.head.min(state.position + STEP);
    let sheet = store.read(events_span(state.position, through)).await?;
    let rows = beside(move || Ok::<_, ScanError>(self::sheet(&decoded(&sheet)?)));
    let sheets = vec![rows.await?];
    let table = table_name(NAME, state.generation);
    let parameters: [Value; 4] = [
        through.into(),
        NAME.into(),
        state.generation.into(),
        state.position.into(),
    ];
    let guard = Statement::new(ADVANCE, parameters);
    let audit = AuditRows { table, sheets };
    match store.put(vec![], Some(audit), Some(guard)).await? {
        true => Ok(IndexState {
            position: through,
            ..state
        }),
        false => Ok(self::state(store).await?),
    }
}

/// Brings the index on to the head of the log.
///
/// # Errors
/// As [`advance`] does.
pub async fn catch_up(store: &dyn Store) -> Result<IndexState, EngineError> {
    loop {
        let state = advance(store).await?;
        if state.position >= state.head || state.version != VERSION {
            return Ok(state);
        }
    }
}
