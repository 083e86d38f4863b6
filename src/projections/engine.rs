//! Runs every fold inside the append, and knows where each projection is stored.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lru::LruCache;

use super::{
    AnyDocument, AnyProjection, ApiKeys, CannotFold, Columns, Generations, KeyIndex, Organizations,
    Pace, Progress, Projection, Projections, Rebuild, api_keys::of_key, audit_index,
    rebuild::views,
};
use crate::{
    domain::event::AGGREGATE_TYPES,
    journal::{
        Fold, FoldError, Folded, Recorded, StoredEvent,
        stores::{
            self, DocumentChanges, DocumentRow, ScanError, Statement, Store, StoreError, StoreKind,
            padded,
        },
    },
};

/// How many documents are kept in memory between batches.
/// The events that say whether an organization is suspended.
const SUSPENSION: [&str; 2] = ["organization_suspended", "organization_resumed"];

const DOCUMENTS_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(50_000).unwrap();

/// How often to look whether another process is done with what this one needs.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Why the projections cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Decode(#[from] crate::journal::entry::DecodeError),
    #[error("projection {projection} cannot fold the event at position {position}: {source}")]
    Fold {
        projection: &'static str,
        position: u64,
        #[source]
        source: CannotFold,
    },
    /// A newer version of Crewlog has made them.
    #[error(
        "projection {projection} was made by a newer version of crewlog ({found}, this one knows \
         {known}); run the newer version"
    )]
    Newer {
        projection: String,
        found: i64,
        known: i64,
    },
    /// An older version has made them, and it is not the time to rebuild them.
    #[error("projection {0} was made by an older version of crewlog; restart to rebuild it")]
    Older(String),
    /// A rebuild that never catches up.
    #[error("the log grew faster than it could be folded; rebuild when less is written")]
    Busy,
    /// Another rebuild is under way.
    #[error("{0}")]
    Underway(String),
    /// It was cancelled, or another process has taken it over.
    #[error("the rebuild was cancelled, or another process has taken it over")]
    Cancelled,
    /// A position that the log has not come to.
    #[error("the log ends at position {head}; name one up to there")]
    NotThatFar { head: u64 },
    /// A name that is no projection's.
    #[error("there is no projection {0}; there are: {1}")]
    Unknown(String, String),
}

impl From<ScanError> for EngineError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Store(error) => error.into(),
            ScanError::Decode(error) => error.into(),
        }
    }
}

/// All folds, with the documents that were last in use.
pub struct Folder {
    projections: Vec<Arc<dyn AnyProjection>>,
    audit: bool,
    generations: Generations,
}

/// A document of one projection: which, and its key.
pub(super) type DocumentKey = (usize, String);
/// What documents are while they are folded. Keys are ids of our own making.
pub(super) type Known = HashMap<DocumentKey, Slot, foldhash::fast::RandomState>;

/// The place of one document in memory.
#[derive(Default)]
pub(super) struct Slot {
    /// None: gone, or never there.
    pub document: Option<AnyDocument>,
    /// The position that changed it last; none while it is as it is stored.
    pub changed: Option<u64>,
    /// The position that had changed it when it was read from a store: it has what happened up
    /// to there. 0 where that is known without asking.
    stored_at: u64,
}

impl Slot {
    fn stored(document: Option<AnyDocument>) -> Self {
        Self {
            document,
            changed: None,
            stored_at: 0,
        }
    }

    /// Whether it was stored with what happened at a position.
    fn has(&self, position: u64) -> bool {
        position <= self.stored_at
    }
}

impl Folder {
    /// The folds of these generations; projections that are not named are left out.
    pub(super) fn new(projections: &Projections, generations: Generations) -> Self {
        let named = projections
            .iter()
            .filter(|projection| generations.contains_key(projection.name()));
        Self {
            projections: named.cloned().collect(),
            audit: generations.contains_key(audit_index::NAME),
            generations,
        }
    }

    /// All folds, for what is stored nowhere or in tables of its own.
    pub(super) fn of_all(projections: &Projections) -> Self {
        let generations = projections.names().into_iter();
        let generations = generations.map(|name| (name.to_owned(), 1));
        Self::new(projections, generations.collect())
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.projections
            .iter()
            .position(|projection| projection.name() == name)
    }

    pub(super) fn table(&self, name: &str) -> String {
        table_name(name, self.generations[name])
    }

    /// The documents that the events change, each once.
    pub(super) fn keys(&self, events: &[Recorded]) -> HashSet<DocumentKey> {
        let of_event = |event| {
            let numbered = self.projections.iter().enumerate();
            numbered.flat_map(move |(number, projection)| {
                projection
                    .keys(event)
                    .into_iter()
                    .map(move |key| (number, key))
            })
        };
        events.iter().flat_map(of_event).collect()
    }

    /// Reads documents into `known`.
    pub(super) async fn load(
        &self,
        store: &dyn Store,
        keys: impl IntoIterator<Item = DocumentKey>,
        known: &mut Known,
    ) -> Result<(), EngineError> {
        let mut wanted: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (number, key) in keys {
            wanted.entry(number).or_default().push(key);
        }
        for (number, keys) in wanted {
            let projection = &self.projections[number];
            for keys in keys.chunks(1_024) {
                let (placeholders, parameters) = padded(keys, 1);
                let sql = format!(
                    "SELECT key, CAST(document AS TEXT), position
                       FROM {} WHERE key IN ({placeholders})",
                    self.table(projection.name())
                );
                known.extend(
                    keys.iter()
                        .map(|key| ((number, key.clone()), Slot::default())),
                );
                for row in store.query(&sql, parameters).await? {
                    let document = projection
                        .decode(row.text(1)?)
                        .map_err(|error| StoreError::Row(error.to_string()))?;
                    let key = (number, row.text(0)?.to_owned());
                    let slot = Slot {
                        stored_at: row.count(2)?,
                        ..Slot::stored(Some(document))
                    };
                    known.insert(key, slot);
                }
            }
        }
        Ok(())
    }

    /// Folds events over what is known. After an error it is not known any more.
    pub(super) fn fold(&self, events: &[Recorded], known: &mut Known) -> Result<(), EngineError> {
        for event in events {
            for (number, projection) in self.projections.iter().enumerate() {
                for key in projection.keys(event) {
                    let at = (number, key);
                    let mut slot = known.get_mut(&at);
                    // A rebuild that goes on meets documents that it had written already.
                    if slot.as_ref().is_some_and(|slot| slot.has(event.position)) {
                        continue;
                    }
                    let document = slot.as_mut().and_then(|slot| slot.document.take());
                    let document = projection.fold(document, &at.1, event).map_err(|source| {
                        EngineError::Fold {
                            projection: projection.name(),
                            position: event.position,
                            source,
                        }
                    })?;
                    let folded = Slot {
                        document,
                        changed: Some(event.position),
                        stored_at: 0,
                    };
                    match slot {
                        Some(slot) => *slot = folded,
                        None => drop(known.insert(at, folded)),
                    }
                }
            }
        }
        Ok(())
    }

    /// The documents that have been changed, in order.
    pub(super) fn changed<'a>(&self, known: &'a Known) -> Vec<(&'a DocumentKey, &'a Slot)> {
        let mut changed: Vec<_> = known
            .iter()
            .filter(|(_, slot)| slot.changed.is_some())
            .collect();
        changed.sort_unstable_by_key(|(key, _)| *key);
        changed
    }

    /// What must be written of changed documents.
    pub(super) fn changes(
        &self,
        changed: &[(&DocumentKey, &Slot)],
    ) -> Result<Vec<DocumentChanges>, EngineError> {
        let mut changes: BTreeMap<usize, DocumentChanges> = BTreeMap::new();
        for ((number, key), slot) in changed {
            let projection = &self.projections[*number];
            let of_projection = changes.entry(*number).or_insert_with(|| DocumentChanges {
                table: self.table(projection.name()),
                ..DocumentChanges::default()
            });
            match &slot.document {
                Some(document) => {
                    let position = slot.changed.unwrap_or_default();
                    let row = row(&**projection, key, document, position)?;
                    of_projection.upserts.push(row);
                }
                None => of_projection.deletes.push(key.clone()),
            }
        }
        Ok(changes.into_values().collect())
    }

    /// The documents of a projection that are there, in order of their keys, and the positions
    /// that changed them last.
    pub(super) fn documents<'a>(
        &self,
        name: &str,
        known: &'a Known,
    ) -> impl Iterator<Item = (&'a DocumentKey, &'a AnyDocument, u64)> {
        let number = self.number(name);
        let of_projection = known.iter().filter(|(key, _)| Some(key.0) == number);
        let mut documents: Vec<_> = of_projection
            .filter_map(|(key, slot)| Some((key, slot.document.as_ref()?, slot.changed?)))
            .collect();
        documents.sort_unstable_by_key(|(key, ..)| *key);
        documents.into_iter()
    }

    pub(super) fn key(&self, name: &str, key: &str) -> Option<DocumentKey> {
        Some((self.number(name)?, key.to_owned()))
    }

    /// The row of a document as it is stored.
    pub(super) fn row_of(
        &self,
        (number, key): &DocumentKey,
        document: &AnyDocument,
        position: u64,
    ) -> Result<DocumentRow, EngineError> {
        row(&*self.projections[*number], key, document, position)
    }

    /// The name of a document's projection, and what the document is found by.
    pub(super) fn found_by(
        &self,
        number: usize,
        document: &AnyDocument,
    ) -> (&'static str, Columns) {
        let projection = &self.projections[number];
        (projection.name(), projection.columns(document))
    }

    pub(super) fn has_audit(&self) -> bool {
        self.audit
    }

    pub(super) fn generations(&self) -> &Generations {
        &self.generations
    }
}

fn row(
    projection: &dyn AnyProjection,
    key: &str,
    document: &AnyDocument,
    position: u64,
) -> Result<DocumentRow, EngineError> {
    let columns = projection.columns(document);
    let text = projection
        .encode(document)
        .map_err(|source| EngineError::Fold {
            projection: projection.name(),
            position,
            source,
        })?;
    Ok(DocumentRow {
        key: key.to_owned(),
        workspace: columns.workspace,
        parent: columns.parent,
        lookup: columns.lookup,
        deadline: columns.deadline,
        position,
        document: text,
    })
}

/// The name of the table of one generation.
pub(super) fn table_name(name: &str, generation: i64) -> String {
    if name == audit_index::NAME {
        format!("audit_{generation}")
    } else {
        format!("documents_{name}_{generation}")
    }
}

/// The statement that makes the table of one generation.
pub(super) fn create_table(kind: StoreKind, name: &str, generation: i64) -> Statement {
    let table = table_name(name, generation);
    if name == audit_index::NAME {
        return audit_index::create_table(kind, &table);
    }
    // Keys sort by their bytes on both stores; room in a page keeps updates in place.
    let (text, integer, json, options) = match kind {
        StoreKind::Sqlite => ("TEXT", "INTEGER", "TEXT", "STRICT, WITHOUT ROWID"),
        StoreKind::Postgres => (
            "TEXT COLLATE \"C\"",
            "BIGINT",
            "JSON",
            "WITH (fillfactor = 50)",
        ),
    };
    let create = format!(
        "CREATE TABLE {table} (
    key       {text} PRIMARY KEY,
    workspace {text},
    parent    {text},
    lookup    {text},
    deadline  {integer},
    position  {integer} NOT NULL,
    document  {json} NOT NULL
) {options}"
    );
    Statement::new(create, [])
}

/// Statements that make the indexes of one generation: once it is filled, which is faster.
pub(super) fn create_indexes(name: &str, generation: i64) -> Vec<Statement> {
    let table = table_name(name, generation);
    if name == audit_index::NAME {
        return audit_index::create_indexes(&table);
    }
    let index = |column: &str| {
        format!(
            "CREATE INDEX IF NOT EXISTS {table}_by_{column} ON {table} ({column}, key) WHERE {column} IS NOT NULL"
        )
    };
    ["parent", "lookup", "deadline"]
        .map(|column| Statement::new(index(column), []))
        .into()
}

/// The projections of a store, ready to be folded in its appends.
pub struct Engine {
    projections: Projections,
    versions: BTreeMap<&'static str, i64>,
    folder: RwLock<Arc<Folder>>,
    /// Why this process must not serve any more.
    superseded: OnceLock<String>,
    /// Whether others may have let new generations serve.
    is_stale: AtomicBool,
    in_memory: Mutex<LruCache<DocumentKey, Option<AnyDocument>>>,
    keys: KeyIndex,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Engine")
            .field("generations", &self.folder().generations)
            .finish()
    }
}

const SELECT_SERVING: &str = "
SELECT name, generation, version
  FROM projections
 WHERE state = 'serving'";

/// The generations that serve, with their versions.
pub(super) async fn serving(store: &dyn Store) -> Result<BTreeMap<String, (i64, i64)>, StoreError> {
    let rows = store.query(SELECT_SERVING, vec![]).await?;
    rows.iter()
        .map(|row| Ok((row.text(0)?.to_owned(), (row.integer(1)?, row.integer(2)?))))
        .collect()
}

/// What a projection that serves is read by: a view, so that it is one table or the next in
/// whatever moment it is asked, and none that another version of the fold has made.
pub(super) fn read_name(name: &str, version: i64) -> String {
    format!("{name}_v{version}")
}

/// A table that serves a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingTable {
    pub projection: String,
    pub table: String,
    /// How far it is: the audit index trails the log; of the others, the position that they began
    /// to serve at.
    pub position: u64,
    /// Whether this version folds it so.
    pub is_current: bool,
}

const SELECT_SERVING_TABLES: &str = "
SELECT name, generation, version, position
  FROM projections
 WHERE state = 'serving'
 ORDER BY name";

/// The tables that serve, by projection.
///
/// # Errors
/// When the store cannot be read.
pub async fn serving_tables(store: &dyn Store) -> Result<Vec<ServingTable>, StoreError> {
    let versions = Projections::default().versions();
    let table = |row: &stores::Row| {
        let name = row.text(0)?;
        Ok(ServingTable {
            projection: name.to_owned(),
            table: table_name(name, row.integer(1)?),
            position: row.count(3)?,
            is_current: versions.get(name) == Some(&row.integer(2)?),
        })
    };
    let rows = store.query(SELECT_SERVING_TABLES, vec![]).await?;
    rows.iter().map(table).collect()
}

/// The projections that an older version has made, or that are not there.
///
/// # Errors
/// When a newer version has made one.
pub(super) fn outdated(
    projections: &Projections,
    serving: &BTreeMap<String, (i64, i64)>,
) -> Result<Vec<&'static str>, EngineError> {
    let mut outdated = Vec::new();
    for (name, known) in projections.versions() {
        match serving.get(name) {
            Some((_, found)) if *found == known => {}
            Some((_, found)) if *found > known => {
                return Err(EngineError::Newer {
                    projection: name.to_owned(),
                    found: *found,
                    known,
                });
            }
            Some(_) | None => outdated.push(name),
        }
    }
    Ok(outdated)
}

impl Engine {
    /// Opens the projections of a store for writing: makes what is missing, and rebuilds
    /// what an older version made, before it answers.
    ///
    /// # Errors
    /// When the store cannot be read or written, or a newer version made them.
    pub async fn open(store: &dyn Store) -> Result<Self, EngineError> {
        Self::open_with(store, Projections::default()).await
    }

    /// The same with folds of one's own.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn open_with(
        store: &dyn Store,
        projections: Projections,
    ) -> Result<Self, EngineError> {
        Self::prepare(store, &projections, |_| {}).await?;
        Self::with_what_serves(store, projections).await
    }

    /// Makes what is missing, and rebuilds what an older version made, beside whoever serves what
    /// it made; waits where another process does that already.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn prepare(
        store: &dyn Store,
        projections: &Projections,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), EngineError> {
        loop {
            let mut outdated = outdated(projections, &serving(store).await?)?;
            // Nor can be read what an early version has made, before there was a view of it.
            outdated.extend(views::missing(store, projections).await?);
            outdated.sort_unstable();
            outdated.dedup();
            if outdated.is_empty() {
                return Ok(());
            }
            // Where one process writes, it does not yet.
            let pace = Pace {
                is_alone: true,
                ..Pace::default()
            };
            match Rebuild::begin(store, projections, &outdated, pace).await {
                Ok(rebuild) => {
                    rebuild.run(store, &mut progress).await?;
                }
                Err(EngineError::Underway(_)) => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// The projections that [`Engine::open`] would fill, because they are missing or an older
    /// version made them.
    ///
    /// # Errors
    /// When the store cannot be read, or a newer version made them.
    pub async fn outdated(store: &dyn Store) -> Result<Vec<&'static str>, EngineError> {
        outdated(&Projections::default(), &serving(store).await?)
    }

    /// Takes the projections as they are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_for_reading(store: &dyn Store) -> Result<Self, EngineError> {
        Self::with_what_serves(store, Projections::default()).await
    }

    async fn with_what_serves(
        store: &dyn Store,
        projections: Projections,
    ) -> Result<Self, EngineError> {
        let generations = serving(store)
            .await?
            .into_iter()
            .map(|(name, (generation, _))| (name, generation));
        let folder = Folder::new(&projections, generations.collect());
        Ok(Self {
            folder: RwLock::new(Arc::new(folder)),
            versions: projections.versions(),
            projections,
            is_stale: AtomicBool::new(false),
            superseded: OnceLock::new(),
            in_memory: Mutex::new(LruCache::new(DOCUMENTS_IN_MEMORY)),
            keys: KeyIndex::default(),
        })
    }

    /// What a projection is read by.
    pub fn table(&self, name: &str) -> String {
        read_name(name, self.versions.get(name).copied().unwrap_or(0))
    }

    /// Why this process must not serve any more, where a newer version has taken over.
    pub fn superseded(&self) -> Option<&str> {
        self.superseded.get().map(String::as_str)
    }

    fn folder(&self) -> Arc<Folder> {
        let folder = self.folder.read().unwrap_or_else(PoisonError::into_inner);
        folder.clone()
    }

    /// The folds of the generations that serve: after others have written, these are read
    /// again, as a rebuild may have been among it.
    async fn serving_folder(&self, store: &dyn Store) -> Result<Arc<Folder>, EngineError> {
        if !self.is_stale.load(Ordering::Acquire) {
            return Ok(self.folder());
        }
        let serving = serving(store).await?;
        // What another version lets serve is not this one's to write.
        let outdated = outdated(&self.projections, &serving);
        if let Err(newer @ EngineError::Newer { .. }) = &outdated {
            self.superseded.get_or_init(|| newer.to_string());
        }
        if let Some(name) = outdated?.first() {
            return Err(EngineError::Older((*name).to_owned()));
        }
        let generations = serving
            .into_iter()
            .map(|(name, (generation, _))| (name, generation));
        let folder = Arc::new(Folder::new(&self.projections, generations.collect()));
        let mut present = self.folder.write().unwrap_or_else(PoisonError::into_inner);
        *present = folder.clone();
        self.is_stale.store(false, Ordering::Release);
        Ok(folder)
    }

    fn memory(&self) -> MutexGuard<'_, LruCache<DocumentKey, Option<AnyDocument>>> {
        self.in_memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The API keys that are in memory.
    pub fn keys(&self) -> &KeyIndex {
        &self.keys
    }

    /// A document as the last batch of this process left it, where it is in memory: never
    /// older than what this process has answered.
    pub fn latest<P: Projection>(&self, key: &str) -> Option<P::Document> {
        let number = self.folder().number(P::NAME)?;
        let document = self.memory().get(&(number, key.to_owned()))?.clone()?;
        document.downcast_ref::<P::Document>().cloned()
    }

    /// Adds to `known` what is in memory of the keys, in what is on its way to the disk first;
    /// answers which are in neither.
    fn remember(
        &self,
        keys: HashSet<DocumentKey>,
        before: Option<&Known>,
        known: &mut Known,
    ) -> Vec<DocumentKey> {
        let mut memory = self.memory();
        let mut missing = Vec::new();
        for key in keys {
            if known.contains_key(&key) {
                continue;
            }
            let undelivered = before.and_then(|before| before.get(&key));
            let document = match undelivered {
                Some(slot) => Some(slot.document.clone()),
                None => memory.get(&key).cloned(),
            };
            match document {
                Some(document) => drop(known.insert(key, Slot::stored(document))),
                None => missing.push(key),
            }
        }
        missing
    }
}

impl From<EngineError> for FoldError {
    fn from(error: EngineError) -> Self {
        let position = match &error {
            EngineError::Fold { position, .. } => Some(*position),
            _ => None,
        };
        let detail = error.to_string();
        Self { position, detail }
    }
}

#[async_trait]
impl Fold for Engine {
    async fn fold(
        &self,
        store: &dyn Store,
        before: Option<&Folded>,
        folded: &mut Folded,
        events: &[Recorded],
    ) -> Result<(), FoldError> {
        let folder = self.serving_folder(store).await?;
        let known = folded.get_mut::<Known>();
        let before = before.and_then(Folded::get::<Known>);
        let missing = self.remember(folder.keys(events), before, known);
        folder.load(store, missing, known).await?;
        Ok(folder.fold(events, known)?)
    }

    fn changes(&self, folded: &Folded) -> Result<Vec<DocumentChanges>, FoldError> {
        let folder = self.folder();
        let Some(known) = folded.get::<Known>() else {
            return Ok(Vec::new());
        };
        Ok(folder.changes(&folder.changed(known))?)
    }

    fn committed(&self, folded: Folded) {
        let known = folded.into_inner::<Known>();
        let of_keys = self.folder().number(ApiKeys::NAME);
        let of_organizations = self.folder().number(Organizations::NAME);
        let mut memory = self.memory();
        for (key, slot) in known.into_iter().flatten() {
            if let (true, Some(position)) = (Some(key.0) == of_keys, slot.changed) {
                match key.1.parse() {
                    Ok(key) => self.keys.changed(key, position),
                    Err(_) => self.keys.forget(position),
                }
            }
            if let (true, Some(position), Ok(organization)) =
                (Some(key.0) == of_organizations, slot.changed, key.1.parse())
            {
                self.keys.standing_changed(organization, position);
            }
            memory.put(key, slot.document);
        }
    }

    async fn forget(&self, store: &dyn Store) {
        self.is_stale.store(true, Ordering::Release);
        self.memory().clear();
        // For those who read and do not write. What fails here stays stale, and the next fold
        // says why.
        let _ = self.serving_folder(store).await;
    }

    fn noticed(&self, event: &StoredEvent) {
        // What is about keys says so in its name, so that nothing else need be decoded.
        if SUSPENSION.contains(&event.event_type.as_str()) {
            if let Ok(organization) = event.aggregate_id.parse() {
                self.keys.standing_changed(organization, event.position);
            }
        } else if event.event_type == "workspace_deleted" {
            self.keys.forget(event.position);
        } else if event.event_type.contains("_key_") {
            let key = event.decode().ok().and_then(|event| of_key(&event));
            match key {
                Some(happened) => self.keys.changed(happened.key(), event.position),
                None => self.keys.forget(event.position),
            }
        }
    }

    fn stream_type(&self, name: &str) -> Option<&'static str> {
        AGGREGATE_TYPES.into_iter().find(|known| *known == name)
    }
}

/// The position of the log's head.
pub(super) async fn head_position(store: &dyn Store) -> Result<u64, StoreError> {
    Ok(stores::head(store).await?.position)
}
