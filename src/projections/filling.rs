//! Going through the whole log: reading, decoding and folding it, for rebuilds and checks.
//!
//! Positions are gapless, so the log is cut into pages before it is read. A few pages are under
//! way at once, each on a thread of its own that decodes it, makes its audit rows, folds it when
//! those before it have been folded, and forgets it. The documents wait in memory for as long as
//! there is room.
//!
//! Never skips an event, and never folds one twice.

use std::{num::NonZero, path::Path, sync::Arc, thread::available_parallelism, time::Instant};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{OnceCell, mpsc, oneshot};

use super::{
    AnyDocument, EngineError, Progress, Projections, audit_index,
    check::{all_of, one},
    engine::{DocumentKey, Folder, Known, head_position},
    rebuild::{Owner, create},
};
use crate::journal::{
    Recorded, beside,
    stores::{
        AuditRows, DocumentChanges, DocumentRow, Sheet, Statement, Store, StoreError, decoded,
        events_span, sqlite::SqliteStore,
    },
};

/// Events that are read and folded at once.
const PAGE: u64 = 1_000;
/// Documents that are kept in memory while folding; beyond it they are written, and read back.
const DOCUMENTS_IN_MEMORY: usize = 200_000;
/// Documents that are written at once.
const DOCUMENTS_AT_ONCE: usize = 5_000;
/// The same where others wait until they are.
const DOCUMENTS_AT_ONCE_BESIDE: usize = 500;
/// Pages of audit rows that are written at once.
const AUDIT_PAGES_AT_ONCE: usize = 8;

/// Where folded documents go that memory has no room for, and audit rows.
pub(super) enum Room<'a> {
    /// There is none: everything stays in memory, and audit rows are forgotten.
    None,
    /// The tables of the generations that are filled: of a rebuild, where it is one that others
    /// may cancel or take over.
    Here(&'a dyn Store, Option<Owner>),
    /// Tables in a folder, made when they are needed; audit rows are compared with those of a
    /// table instead, where there is one.
    Scratch {
        folder: &'a Path,
        store: Box<OnceCell<SqliteStore>>,
        audit: Option<String>,
    },
}

impl<'a> Room<'a> {
    /// See [`Room::Scratch`].
    pub fn scratch(folder: &'a Path, audit: Option<String>) -> Self {
        Self::Scratch {
            folder,
            store: Box::default(),
            audit,
        }
    }
}

/// A pass through the log.
pub(super) struct Filling<'a> {
    log: &'a dyn Store,
    folder: Arc<Folder>,
    room: Room<'a>,
    documents: Documents,
    /// The last position folded.
    position: u64,
    /// Whether others wait for as long as something is written.
    keeps_others_waiting: bool,
    /// Up to where documents and audit rows had been written by a rebuild that this goes on with.
    written: Written,
    /// Positions whose audit rows are not those of the table that they are compared with.
    pub differing: Vec<u64>,
    started: Instant,
}

/// Positions after one (exclusive) up to another (inclusive).
#[derive(Debug, Clone, Copy)]
struct Page {
    after: u64,
    through: u64,
}

fn pages(position: u64, head: u64) -> impl Iterator<Item = Page> {
    let starts = (position..head).step_by(PAGE as usize);
    starts.map(move |after| Page {
        after,
        through: head.min(after + PAGE),
    })
}

/// Up to where something has been written before.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    documents: u64,
    audit: u64,
}

/// What waits for a page to be folded, and whom it then lets go on.
struct Turn {
    mine: oneshot::Receiver<Documents>,
    next: oneshot::Sender<Documents>,
}

/// A page that has been folded.
struct Done {
    through: u64,
    audit: Option<Sheet>,
    differing: Vec<u64>,
}

/// What became of a page on its thread.
enum Outcome {
    Done(Done),
    /// Some of its documents are not in memory, or there is no room for them.
    Beyond {
        done: Done,
        events: Vec<Recorded>,
        documents: Documents,
        next: oneshot::Sender<Documents>,
    },
}

impl<'a> Filling<'a> {
    /// Nothing folded yet.
    pub fn new(log: &'a dyn Store, folder: Arc<Folder>, room: Room<'a>) -> Self {
        Self {
            log,
            folder,
            room,
            documents: Documents {
                known: Known::default(),
                is_all_known: true,
                is_written: false,
            },
            position: 0,
            keeps_others_waiting: false,
            written: Written::default(),
            differing: Vec::new(),
            started: Instant::now(),
        }
    }

    /// Writes little at once, as others wait meanwhile.
    pub fn writes_little_at_once(&mut self) {
        self.keeps_others_waiting = true;
    }

    /// Goes on where everything up to these positions has been written: documents may have been
    /// further, which each of them says itself.
    pub fn goes_on(&mut self, documents: u64, audit: u64) {
        self.written = Written { documents, audit };
        self.position = match self.folder.has_audit() {
            true => documents.min(audit),
            false => documents,
        };
        self.documents.is_all_known = false;
        self.documents.is_written = true;
    }

    /// Folds at most this many events; answers whether there were any.
    ///
    /// # Errors
    /// As [`Filling::catch_up`].
    pub async fn advance(
        &mut self,
        events: u64,
        progress: &mut impl FnMut(Progress),
    ) -> Result<bool, EngineError> {
        let head = head_position(self.log).await?;
        if head <= self.position {
            return Ok(false);
        }
        self.up_to(head.min(self.position + events), head, progress)
            .await?;
        Ok(true)
    }

    /// Folds up to a position, and not beyond it.
    ///
    /// # Errors
    /// As [`Filling::catch_up`].
    pub async fn reach(
        &mut self,
        position: u64,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), EngineError> {
        match position > self.position {
            true => self.up_to(position, position, progress).await,
            false => Ok(()),
        }
    }

    /// Folds until there are no more events; answers with the last position folded.
    ///
    /// # Errors
    /// When a store cannot be used, or an event cannot be read or folded. It is then of no
    /// further use.
    pub async fn catch_up(
        &mut self,
        progress: &mut impl FnMut(Progress),
    ) -> Result<u64, EngineError> {
        loop {
            let head = head_position(self.log).await?;
            if head <= self.position {
                return Ok(self.position);
            }
            self.up_to(head, head, progress).await?;
        }
    }

    async fn up_to(
        &mut self,
        through: u64,
        head: u64,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), EngineError> {
        let (first, mut last) = oneshot::channel();
        let documents = std::mem::take(&mut self.documents);
        // Nobody else has the other end of it.
        let _ = first.send(documents);
        let turns: Vec<_> = pages(self.position, through)
            .map(|page| {
                let (next, after) = oneshot::channel();
                let mine = std::mem::replace(&mut last, after);
                (page, Turn { mine, next })
            })
            .collect();
        let this = &*self;
        let mut folded = stream::iter(turns)
            .map(|(page, turn)| this.page(page, turn))
            .buffered(pages_at_once());
        let (sender, receiver) = mpsc::channel(AUDIT_PAGES_AT_ONCE);
        let mut differing = Vec::new();
        let folding = async {
            // Dropped at its end, which ends the writing.
            let sender = sender;
            while let Some(done) = folded.try_next().await? {
                progress(Progress {
                    position: done.through,
                    head,
                    elapsed: this.started.elapsed(),
                });
                differing.extend(done.differing);
                if let Some(audit) = done.audit {
                    // Where nobody takes it, writing has failed, which says why.
                    let _ = sender.send((done.through, audit)).await;
                }
            }
            Ok::<_, EngineError>(())
        };
        tokio::try_join!(folding, this.write_audit(receiver))?;
        drop(folded);
        self.documents = last.await.map_err(|_| unfolded())?;
        self.position = through;
        self.differing.extend(differing);
        Ok(())
    }

    async fn page(&self, page: Page, turn: Turn) -> Result<Done, EngineError> {
        let events = self.log.read(events_span(page.after, page.through));
        let (events, stored) = tokio::try_join!(events, self.stored_audit(page))?;
        let (folder, written) = (self.folder.clone(), self.written);
        let has_room = !matches!(self.room, Room::None);
        let work = move || {
            fold_page(
                &folder,
                page,
                written,
                &events,
                stored.as_ref(),
                turn,
                has_room,
            )
        };
        match beside(work).await? {
            Outcome::Done(done) => Ok(done),
            Outcome::Beyond {
                done,
                events,
                mut documents,
                next,
            } => {
                if let Some(target) = self.target().await? {
                    // Folded are the pages before this one.
                    let to = self.to(target, page.after);
                    documents.make_room(&to, &self.folder, &events).await?;
                }
                let folder = self.folder.clone();
                let fold = move || {
                    folder
                        .fold(&events, &mut documents.known)
                        .map(|()| documents)
                };
                // Where nobody waits for it, what went wrong is told elsewhere.
                let _ = next.send(beside(fold).await?);
                Ok(done)
            }
        }
    }

    /// The audit rows that those of a page are compared with, where they are.
    async fn stored_audit(&self, page: Page) -> Result<Option<Sheet>, StoreError> {
        match &self.room {
            Room::Scratch {
                audit: Some(table), ..
            } => {
                let span = audit_index::span(table, page.after, page.through);
                self.log.read(span).await.map(Some)
            }
            Room::Scratch { audit: None, .. } => Ok(Some(Sheet::default())),
            Room::None | Room::Here(..) => Ok(None),
        }
    }

    /// Writes audit rows as they come.
    async fn write_audit(&self, mut rows: mpsc::Receiver<(u64, Sheet)>) -> Result<(), EngineError> {
        let mut pages = Vec::new();
        while rows.recv_many(&mut pages, self.audit_pages_at_once()).await > 0 {
            let Some(through) = pages.last().map(|(through, _)| *through) else {
                continue;
            };
            let sheets = pages.drain(..).map(|(_, sheet)| sheet).collect();
            if let Room::Here(target, owner) = &self.room {
                let table = self.folder.table(audit_index::NAME);
                let audit = AuditRows { table, sheets };
                let guard = owner.as_ref().map(|owner| owner.audit_at(through));
                if !target.put(vec![], Some(audit), guard).await? {
                    return Err(EngineError::Cancelled);
                }
            }
        }
        Ok(())
    }

    fn audit_pages_at_once(&self) -> usize {
        match self.keeps_others_waiting {
            true => 1,
            false => AUDIT_PAGES_AT_ONCE,
        }
    }

    /// Documents that have been folded up to a position, on their way to where they are kept.
    fn to<'b>(&'b self, store: &'b dyn Store, position: u64) -> To<'b> {
        let owner = match &self.room {
            Room::Here(_, owner) => owner.as_ref(),
            Room::None | Room::Scratch { .. } => None,
        };
        To {
            store,
            owner,
            position,
            documents_at_once: match self.keeps_others_waiting {
                true => DOCUMENTS_AT_ONCE_BESIDE,
                false => DOCUMENTS_AT_ONCE,
            },
        }
    }

    /// Where documents are written, made if it is not there yet.
    async fn target(&self) -> Result<Option<&dyn Store>, StoreError> {
        match &self.room {
            Room::None => Ok(None),
            Room::Here(store, _) => Ok(Some(*store)),
            Room::Scratch { folder, store, .. } => {
                let make = async {
                    let store = SqliteStore::open(folder).await?;
                    let projections = Projections::default();
                    let tables = create(store.kind(), &projections, self.folder.generations());
                    store.execute(tables).await?;
                    Ok::<_, StoreError>(store)
                };
                let store = store.get_or_try_init(|| make).await?;
                Ok(Some(store))
            }
        }
    }

    /// The last position folded.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The documents of a projection, in order of their keys.
    ///
    /// # Errors
    /// When those that memory had no room for cannot be written or read back.
    pub async fn documents(&mut self, name: &str) -> Result<Vec<Unread>, EngineError> {
        if self.documents.is_all_known {
            let documents = self.folder.documents(name, &self.documents.known);
            let unread = documents.map(|(key, document, position)| Unread::Document {
                folder: self.folder.clone(),
                key: key.clone(),
                document: document.clone(),
                position,
            });
            return Ok(unread.collect());
        }
        self.write().await?;
        let rows = match self.target().await? {
            Some(target) => all_of(target, &self.folder.table(name)).await?,
            None => Vec::new(),
        };
        Ok(rows.into_iter().map(Unread::Row).collect())
    }

    /// A document of a projection; none where there is none. Of those in memory the newest.
    ///
    /// # Errors
    /// When it cannot be read back, or encoded.
    pub async fn document(
        &self,
        name: &str,
        key: &str,
    ) -> Result<Option<DocumentRow>, EngineError> {
        let at = self.folder.key(name, key);
        match at.and_then(|at| self.documents.known.get_key_value(&at)) {
            Some((at, slot)) if slot.changed.is_some() => {
                let position = slot.changed.unwrap_or_default();
                let row = |document| self.folder.row_of(at, document, position);
                slot.document.as_ref().map(row).transpose()
            }
            // As it is stored, or not there.
            Some(_) | None => match self.target().await? {
                Some(target) if !self.documents.is_all_known => {
                    Ok(one(target, &self.folder.table(name), key).await?)
                }
                Some(_) | None => Ok(None),
            },
        }
    }

    /// Writes the documents that have changed since they were last written.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn write(&mut self) -> Result<(), EngineError> {
        let mut documents = std::mem::take(&mut self.documents);
        if let Some(target) = self.target().await? {
            let to = self.to(target, self.position);
            documents.write(&to, &self.folder).await?;
        }
        self.documents = documents;
        Ok(())
    }
}

/// A document that has not been made a row yet, which takes time, or that is one.
pub(super) enum Unread {
    Document {
        folder: Arc<Folder>,
        key: DocumentKey,
        document: AnyDocument,
        position: u64,
    },
    Row(DocumentRow),
}

impl Unread {
    pub fn key(&self) -> &str {
        match self {
            Self::Document { key, .. } => &key.1,
            Self::Row(row) => &row.key,
        }
    }

    /// # Errors
    /// When it cannot be encoded.
    pub fn row(self) -> Result<DocumentRow, EngineError> {
        match self {
            Self::Document {
                folder,
                key,
                document,
                position,
            } => folder.row_of(&key, &document, position),
            Self::Row(row) => Ok(row),
        }
    }
}

fn pages_at_once() -> usize {
    available_parallelism().map_or(2, NonZero::get).min(8) + 1
}

fn unfolded() -> EngineError {
    StoreError::Row("what came before could not be folded".to_owned()).into()
}

/// Decodes a page, makes its audit rows or compares them with `stored`, and folds it when those
/// before it have been.
fn fold_page(
    folder: &Folder,
    page: Page,
    written: Written,
    events: &Sheet,
    stored: Option<&Sheet>,
    turn: Turn,
    has_room: bool,
) -> Result<Outcome, EngineError> {
    let mut events = decoded(events)?;
    let begun = |position| events.partition_point(|event| event.position <= position);
    let mut audit = match folder.has_audit() && page.through > written.audit {
        true => Some(audit_index::sheet(&events[begun(written.audit)..])),
        false => None,
    };
    let mut differing = Vec::new();
    if let (Some(stored), Some(folded)) = (stored, audit.take_if(|_| stored.is_some())) {
        differing = audit_index::differing(stored, &folded)?;
    }
    let is_folded = begun(written.documents);
    events.drain(..is_folded);
    let done = Done {
        through: page.through,
        audit,
        differing,
    };
    let mut documents = turn.mine.blocking_recv().map_err(|_| unfolded())?;
    if has_room && documents.is_beyond() {
        return Ok(Outcome::Beyond {
            done,
            events,
            documents,
            next: turn.next,
        });
    }
    folder.fold(&events, &mut documents.known)?;
    // Where nobody waits for it, what went wrong is told elsewhere.
    let _ = turn.next.send(documents);
    Ok(Outcome::Done(done))
}

/// Documents while they are folded.
#[derive(Default)]
struct Documents {
    known: Known,
    /// Whether nothing is stored that is not known: what is not known is then not there.
    is_all_known: bool,
    /// Whether anything has been stored.
    is_written: bool,
}

impl Documents {
    /// Whether there is something to do with a store before more can be folded.
    fn is_beyond(&self) -> bool {
        !self.is_all_known || self.known.len() > DOCUMENTS_IN_MEMORY
    }

    /// Sees to it that memory has room, and has every document that the events change.
    async fn make_room(
        &mut self,
        to: &To<'_>,
        folder: &Folder,
        events: &[Recorded],
    ) -> Result<(), EngineError> {
        if self.known.len() > DOCUMENTS_IN_MEMORY {
            self.write(to, folder).await?;
            self.known.clear();
            self.is_all_known = false;
        }
        if self.is_all_known {
            return Ok(());
        }
        let keys = folder.keys(events).into_iter();
        let missing: Vec<_> = keys.filter(|key| !self.known.contains_key(key)).collect();
        folder.load(to.store, missing, &mut self.known).await
    }

    /// Writes what has changed. Documents say of themselves up to where they are, so that a part
    /// of them may be written and the rest not; what is gone goes with the position that all of
    /// it is at, at the end.
    async fn write(&mut self, to: &To<'_>, folder: &Folder) -> Result<(), EngineError> {
        let is_new = !self.is_written;
        let encode = |changed| {
            let mut changes = folder.changes(changed)?;
            if is_new {
                changes.iter_mut().for_each(DocumentChanges::as_new);
            }
            Ok::<_, EngineError>(changes)
        };
        let (mut encoded, mut gone) = (Vec::new(), Vec::new());
        for changed in folder.changed(&self.known).chunks(to.documents_at_once) {
            // The next are encoded while these are written.
            let (written, next) = tokio::join!(to.put(encoded), async { encode(changed) });
            written?;
            encoded = next?;
            gone.extend(encoded.iter_mut().filter_map(without_deletes));
        }
        to.put(encoded).await?;
        to.finish(gone).await?;
        self.is_written = true;
        let slots = self.known.values_mut();
        slots.for_each(|slot| slot.changed = None);
        Ok(())
    }
}

/// Takes the deletes out of the changes; none where there are none.
fn without_deletes(changes: &mut DocumentChanges) -> Option<DocumentChanges> {
    let deletes = std::mem::take(&mut changes.deletes);
    (!deletes.is_empty()).then(|| DocumentChanges {
        table: changes.table.clone(),
        deletes,
        ..DocumentChanges::default()
    })
}

/// Where documents go that have been folded up to a position.
struct To<'a> {
    store: &'a dyn Store,
    owner: Option<&'a Owner>,
    position: u64,
    documents_at_once: usize,
}

impl To<'_> {
    async fn put(&self, changes: Vec<DocumentChanges>) -> Result<(), EngineError> {
        match changes.iter().all(|changes| changes.upserts.is_empty()) {
            true => Ok(()),
            false => self.guarded(changes, self.owner.map(Owner::goes_on)).await,
        }
    }

    async fn finish(&self, gone: Vec<DocumentChanges>) -> Result<(), EngineError> {
        match self.owner {
            None if gone.is_empty() => Ok(()),
            owner => {
                let guard = owner.map(|owner| owner.documents_at(self.position));
                self.guarded(gone, guard).await
            }
        }
    }

    async fn guarded(
        &self,
        changes: Vec<DocumentChanges>,
        guard: Option<Statement>,
    ) -> Result<(), EngineError> {
        match self.store.put(changes, None, guard).await? {
            true => Ok(()),
            false => Err(EngineError::Cancelled),
        }
    }
}
