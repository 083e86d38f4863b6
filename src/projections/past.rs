//! The past: documents as the first events of the log left them, folded when they are asked for.
//!
//! What is folded are the streams that an answer is made of, by the very folds that write the
//! read models. Nothing of it is stored.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::{
    AnyDocument, Columns, EngineError, Found, Page, Projection, Projections,
    engine::{Folder, Known},
    owned,
};
use crate::{domain::Timestamp, journal::Recorded};

/// A document with what it is found by.
type Kept = (Columns, AnyDocument);

/// Documents as they were at a position.
pub struct Past {
    position: u64,
    documents: BTreeMap<&'static str, BTreeMap<String, Kept>>,
}

impl std::fmt::Debug for Past {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Past")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Folds events into documents, in memory alone.
pub struct PastFold {
    folder: Folder,
    known: Known,
}

impl Default for PastFold {
    fn default() -> Self {
        Self::with(Folder::of_all(&Projections::default()))
    }
}

impl PastFold {
    /// A fold into the documents of these projections alone.
    pub fn of(names: &[&str]) -> Self {
        let generations = names.iter().map(|name| ((*name).to_owned(), 1));
        let projections = Projections::default();
        Self::with(Folder::new(&projections, generations.collect()))
    }

    fn with(folder: Folder) -> Self {
        let known = Known::default();
        Self { folder, known }
    }

    /// Takes the next events: of each stream all that its projections fold, from its first on, in
    /// order.
    ///
    /// # Errors
    /// When an event cannot follow on what was before it.
    pub fn take(&mut self, events: &[Recorded]) -> Result<(), EngineError> {
        self.folder.fold(events, &mut self.known)
    }

    /// What there was at a position, up to which everything was taken.
    pub fn at(self, position: u64) -> Past {
        let mut documents: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for ((number, key), slot) in self.known {
            if let Some(document) = slot.document {
                let (name, columns) = self.folder.found_by(number, &document);
                let of_name = documents.entry(name).or_default();
                of_name.insert(key, (columns, document));
            }
        }
        Past {
            position,
            documents,
        }
    }
}

impl Past {
    /// The position that everything is as of.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn of<P: Projection>(&self) -> impl DoubleEndedIterator<Item = (&String, &Kept)> {
        self.documents.get(P::NAME).into_iter().flatten()
    }

    pub(super) fn get<P: Projection>(&self, key: &str) -> Found<Option<P::Document>> {
        let documents = self.documents.get(P::NAME);
        let kept = documents.and_then(|documents| documents.get(key));
        Found {
            position: self.position,
            value: kept.map(|(_, document)| owned::<P>(Arc::clone(document))),
        }
    }

    /// All that `is_wanted` by what it is found by, in order of keys.
    pub(super) fn all<P: Projection>(
        &self,
        is_wanted: impl Fn(&Columns) -> bool,
    ) -> Vec<(String, P::Document)> {
        self.of::<P>()
            .filter(|(_, (columns, _))| is_wanted(columns))
            .map(copied::<P>)
            .collect()
    }

    /// At most `limit` of those that `is_wanted` names, in order of keys, after the key `after`.
    pub(super) fn page<P: Projection>(
        &self,
        is_wanted: impl Fn(&Columns) -> bool,
        after: Option<&str>,
        limit: u64,
    ) -> Page<P::Document> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let documents = self.documents.get(P::NAME).into_iter();
        let documents =
            documents.flat_map(|documents| documents.range::<str, _>((after, Bound::Unbounded)));
        let wanted = documents.filter(|(_, (columns, _))| is_wanted(columns));
        self.paged::<P>(wanted, limit)
    }

    /// The same in the reverse order of keys, before the key `before`.
    pub(super) fn page_reversed<P: Projection>(
        &self,
        is_wanted: impl Fn(&Columns) -> bool,
        before: Option<&str>,
        limit: u64,
    ) -> Page<P::Document> {
        let before = before.map_or(Bound::Unbounded, Bound::Excluded);
        let documents = self.documents.get(P::NAME).into_iter();
        let documents = documents
            .flat_map(|documents| documents.range::<str, _>((Bound::Unbounded, before)).rev());
        let wanted = documents.filter(|(_, (columns, _))| is_wanted(columns));
        self.paged::<P>(wanted, limit)
    }

    fn paged<'a, P: Projection>(
        &self,
        mut wanted: impl Iterator<Item = (&'a String, &'a Kept)>,
        limit: u64,
    ) -> Page<P::Document> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let items = wanted.by_ref().take(limit).map(copied::<P>).collect();
        Page {
            items,
            more: wanted.next().is_some(),
            position: self.position,
        }
    }

    /// At most `limit` whose deadline is `time` or earlier, the longest due first.
    pub(super) fn due<P: Projection>(
        &self,
        time: Timestamp,
        limit: u64,
    ) -> Vec<(String, P::Document)> {
        let deadline = |(key, (columns, _)): &(&'_ String, &'_ Kept)| {
            columns.deadline.map(|deadline| (deadline, (*key).clone()))
        };
        let is_due = |found: &(&String, &Kept)| {
            let (_, (columns, _)) = found;
            columns.deadline.is_some_and(|deadline| deadline <= time.0)
        };
        let mut due: Vec<_> = self.of::<P>().filter(is_due).collect();
        due.sort_by_key(deadline);
        due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        due.into_iter().map(copied::<P>).collect()
    }
}

fn copied<P: Projection>((key, (_, document)): (&String, &Kept)) -> (String, P::Document) {
    (key.clone(), owned::<P>(Arc::clone(document)))
}
