//! Reading documents: one by key, or a page of those that belong to something; as they are now, or
//! as they were.

use std::{marker::PhantomData, sync::Arc};

use super::{Columns, Engine, Past, Projection};
use crate::{
    domain::Stream,
    journal::{
        StoredEvent,
        stores::{self, Row, Store, StoreError, Value, padded, page_rows},
    },
};

/// What was read, and the position that it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<T> {
    pub position: u64,
    pub value: T,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The documents, with their keys.
    pub items: Vec<(String, T)>,
    /// Whether there are more after them.
    pub more: bool,
    pub position: u64,
}

impl<T> Page<T> {
    /// The page, with what `view` makes of each document.
    pub fn map<V>(self, mut view: impl FnMut(T) -> V) -> Page<V> {
        let items = self.items.into_iter();
        Page {
            items: items.map(|(key, item)| (key, view(item))).collect(),
            more: self.more,
            position: self.position,
        }
    }
}

/// The documents of one projection.
#[derive(Debug)]
pub struct Documents<P> {
    of: Of,
    projection: PhantomData<fn() -> P>,
}

/// Where documents are read.
#[derive(Debug)]
enum Of {
    Now {
        store: Arc<dyn Store>,
        table: String,
    },
    Past(Arc<Past>),
}

/// What documents are found by.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// What they belong to.
    Parent(&'a str),
    /// The other value that they are found by.
    Lookup(&'a str),
    /// All there are.
    Nothing,
}

impl By<'_> {
    fn finds(self, columns: &Columns) -> bool {
        match self {
            Self::Parent(parent) => columns.parent.as_deref() == Some(parent),
            Self::Lookup(lookup) => columns.lookup.as_deref() == Some(lookup),
            Self::Nothing => true,
        }
    }
}

/// Documents that are read at once where all are asked for.
const READ_AT_ONCE: u64 = 200;
/// Documents that are looked at at once where those that are asked for are rare.
const LOOKED_AT_ONCE: u64 = 1_000;

const HEAD_POSITION: &str = "(SELECT position FROM log_head WHERE singleton = 1)";

impl<P: Projection> Documents<P> {
    /// The documents that serve now.
    pub fn of(store: Arc<dyn Store>, engine: &Engine) -> Self {
        Self {
            of: Of::Now {
                store,
                table: engine.table(P::NAME),
            },
            projection: PhantomData,
        }
    }

    /// The documents that there were.
    pub fn of_past(past: Arc<Past>) -> Self {
        Self {
            of: Of::Past(past),
            projection: PhantomData,
        }
    }

    /// The document at a key.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(&self, key: &str) -> Result<Found<Option<P::Document>>, StoreError> {
        let (store, table) = match &self.of {
            Of::Now { store, table } => (store, table),
            Of::Past(past) => return Ok(past.get::<P>(key)),
        };
        let sql = format!(
            "SELECT head.position, found.key, CAST(found.document AS TEXT)
               FROM (SELECT {HEAD_POSITION} AS position) AS head
               LEFT JOIN {table} AS found ON found.key = $1"
        );
        let rows = store.query(&sql, vec![key.into()]).await?;
        let row = rows
            .first()
            .ok_or_else(|| StoreError::Row("no head".to_owned()))?;
        let value = match row.optional_text(2)? {
            Some(text) => Some(decode::<P>(text)?),
            None => None,
        };
        Ok(Found {
            position: row.count(0)?,
            value,
        })
    }

    /// The documents at several keys, those that there are, with their keys.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get_many(
        &self,
        keys: &[String],
    ) -> Result<Vec<(String, P::Document)>, StoreError> {
        let mut found = Vec::new();
        let (store, table) = match &self.of {
            Of::Now { store, table } => (store, table),
            Of::Past(past) => {
                let there = keys.iter().filter_map(|key| {
                    let document = past.get::<P>(key).value?;
                    Some((key.clone(), document))
                });
                return Ok(there.collect());
            }
        };
        for keys in keys.chunks(1_024) {
            let (placeholders, parameters) = padded(keys, 1);
            let sql = format!(
                "SELECT key, CAST(document AS TEXT) FROM {table} WHERE key IN ({placeholders})"
            );
            for row in store.query(&sql, parameters).await? {
                found.push((row.text(0)?.to_owned(), decode::<P>(row.text(1)?)?));
            }
        }
        Ok(found)
    }

    /// All documents that belong to any of `parents`, in order of their keys; for lists
    /// that are known to be short.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn of_parents(
        &self,
        parents: &[String],
    ) -> Result<Vec<(String, P::Document)>, StoreError> {
        let mut found = Vec::new();
        let (store, table) = match &self.of {
            Of::Now { store, table } => (store, table),
            Of::Past(past) => {
                let is_wanted = |columns: &Columns| {
                    let parent = columns.parent.as_ref();
                    parent.is_some_and(|parent| parents.contains(parent))
                };
                return Ok(past.all::<P>(is_wanted));
            }
        };
        for parents in parents.chunks(1_024) {
            let (placeholders, parameters) = padded(parents, 1);
            let sql = format!(
                "SELECT key, CAST(document AS TEXT) FROM {table}
                  WHERE parent IN ({placeholders}) ORDER BY key"
            );
            for row in store.query(&sql, parameters).await? {
                found.push((row.text(0)?.to_owned(), decode::<P>(row.text(1)?)?));
            }
        }
        Ok(found)
    }

    /// A page of what belongs to `parent`, in order of keys, after the key `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn page_of_parent(
        &self,
        parent: &str,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<P::Document>, StoreError> {
        self.page(By::Parent(parent), after, limit).await
    }

    /// A page of what is found by `lookup`, in order of keys, after the key `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn page_of_lookup(
        &self,
        lookup: &str,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<P::Document>, StoreError> {
        self.page(By::Lookup(lookup), after, limit).await
    }

    /// All that is found by `lookup`, in order of keys, read so many at once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn all_of_lookup(
        &self,
        lookup: &str,
    ) -> Result<Vec<(String, P::Document)>, StoreError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.page_of_lookup(lookup, after.as_deref(), READ_AT_ONCE);
            let page = page.await?;
            after = page.items.last().map(|(key, _)| key.clone());
            all.extend(page.items);
            if !page.more {
                return Ok(all);
            }
        }
    }

    /// A page of all there are, in order of keys, after the key `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn page_of_all(
        &self,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<P::Document>, StoreError> {
        self.page(By::Nothing, after, limit).await
    }

    /// [`Documents::page_of_parent`] of those that `keep` lets through, as it leaves them: a
    /// page that more follows is not empty.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn page_of_parent_where(
        &self,
        parent: &str,
        after: Option<&str>,
        limit: u64,
        keep: impl Fn(P::Document) -> Option<P::Document>,
    ) -> Result<Page<P::Document>, StoreError> {
        self.page_where(By::Parent(parent), after, limit, keep)
            .await
    }

    /// [`Documents::page_of_lookup`] of those that `keep` lets through, as it leaves them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn page_of_lookup_where(
        &self,
        lookup: &str,
        after: Option<&str>,
        limit: u64,
        keep: impl Fn(P::Document) -> Option<P::Document>,
    ) -> Result<Page<P::Document>, StoreError> {
        self.page_where(By::Lookup(lookup), after, limit, keep)
            .await
    }

    async fn page_where(
        &self,
        by: By<'_>,
        after: Option<&str>,
        limit: u64,
        keep: impl Fn(P::Document) -> Option<P::Document>,
    ) -> Result<Page<P::Document>, StoreError> {
        let (mut after, mut looked_at) = (after.map(str::to_owned), limit);
        loop {
            let page = self.page(by, after.as_deref(), looked_at).await?;
            after = page.items.last().map(|(key, _)| key.clone());
            let kept = page
                .items
                .into_iter()
                .filter_map(|(key, document)| Some((key, keep(document)?)));
            let mut items: Vec<_> = kept.collect();
            if !items.is_empty() || !page.more {
                let too_many = items.len() as u64 > limit;
                items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                return Ok(Page {
                    items,
                    more: page.more || too_many,
                    position: page.position,
                });
            }
            // What is looked for is rare here.
            looked_at = limit.max(LOOKED_AT_ONCE);
        }
    }

    /// A page of what belongs to `parent`, in the reverse order of keys, before the key `before`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn page_of_parent_reversed(
        &self,
        parent: &str,
        before: Option<&str>,
        limit: u64,
    ) -> Result<Page<P::Document>, StoreError> {
        let (store, table) = match &self.of {
            Of::Now { store, table } => (store, table),
            Of::Past(past) => {
                let by = By::Parent(parent);
                return Ok(past.page_reversed::<P>(|columns| by.finds(columns), before, limit));
            }
        };
        let sql = format!(
            "SELECT {HEAD_POSITION}, key, CAST(document AS TEXT)
               FROM {table}
              WHERE parent = $1 AND key < $2
              ORDER BY key DESC
              LIMIT {}",
            page_rows(limit + 1)
        );
        // Above every key: they are ASCII.
        let before = before.unwrap_or("\u{7f}");
        let parameters = vec![parent.into(), before.into()];
        read_page::<P>(&**store, &sql, parameters, limit).await
    }

    async fn page(
        &self,
        by: By<'_>,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<P::Document>, StoreError> {
        let (store, table) = match &self.of {
            Of::Now { store, table } => (store, table),
            Of::Past(past) => {
                return Ok(past.page::<P>(|columns| by.finds(columns), after, limit));
            }
        };
        let (sql, parameters) = page_query(table, by, after, limit);
        read_page::<P>(&**store, &sql, parameters, limit).await
    }

    /// How the store goes about a page: the lines of its plan; none of what is no more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn plan(
        &self,
        by: By<'_>,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<String>, StoreError> {
        let Of::Now { store, table } = &self.of else {
            return Ok(vec![]);
        };
        let (sql, parameters) = page_query(table, by, after, limit);
        stores::plan(&**store, &sql, parameters).await
    }

    /// At most `limit` documents whose deadline is `time` or earlier, the longest due first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn due(
        &self,
        time: crate::domain::Timestamp,
        limit: u64,
    ) -> Result<Vec<(String, P::Document)>, StoreError> {
        let (store, table) = match &self.of {
            Of::Now { store, table } => (store, table),
            Of::Past(past) => return Ok(past.due::<P>(time, limit)),
        };
        let sql = format!(
            "SELECT key, CAST(document AS TEXT)
               FROM {table}
              WHERE deadline <= $1
              ORDER BY deadline, key
              LIMIT {}",
            page_rows(limit)
        );
        let mut rows = store.query(&sql, vec![time.0.into()]).await?;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        rows.iter().map(|row| keyed::<P>(row, 0)).collect()
    }

    /// The document as it was at `position`, folded from the stream that it is of.
    ///
    /// # Errors
    /// When the stream cannot be read or folded.
    pub async fn as_of<A: Stream>(
        store: &dyn Store,
        stream: &str,
        key: &str,
        position: u64,
    ) -> Result<Option<P::Document>, super::EngineError> {
        let events = stores::stream_after(store, A::TYPE, stream, 0, position).await?;
        let mut document = None;
        for event in events.iter().map(StoredEvent::decode) {
            let event = event?;
            if P::keys(&event).iter().any(|changed| changed == key) {
                document =
                    P::fold(document, key, &event).map_err(|source| super::EngineError::Fold {
                        projection: P::NAME,
                        position: event.position,
                        source,
                    })?;
            }
        }
        Ok(document)
    }
}

/// What a page is read by: one row more than it has, so that it is known whether more follow.
fn page_query(table: &str, by: By<'_>, after: Option<&str>, limit: u64) -> (String, Vec<Value>) {
    let mut parameters: Vec<Value> = vec![after.unwrap_or("").into()];
    let condition = match by {
        By::Parent(parent) => {
            parameters.push(parent.into());
            "parent = $2 AND "
        }
        By::Lookup(lookup) => {
            parameters.push(lookup.into());
            "lookup = $2 AND "
        }
        By::Nothing => "",
    };
    let sql = format!(
        "SELECT {HEAD_POSITION}, key, CAST(document AS TEXT)
           FROM {table}
          WHERE {condition}key > $1
          ORDER BY key
          LIMIT {}",
        page_rows(limit + 1)
    );
    (sql, parameters)
}

/// Reads the rows of a page, of which one more was asked for than it has.
async fn read_page<P: Projection>(
    store: &dyn Store,
    sql: &str,
    parameters: Vec<Value>,
    limit: u64,
) -> Result<Page<P::Document>, StoreError> {
    let mut rows = store.query(sql, parameters).await?;
    let more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let position = match rows.first() {
        Some(row) => row.count(0)?,
        None => stores::head(store).await?.position,
    };
    let items = rows
        .iter()
        .map(|row| keyed::<P>(row, 1))
        .collect::<Result<_, _>>()?;
    Ok(Page {
        items,
        more,
        position,
    })
}

fn keyed<P: Projection>(row: &Row, column: usize) -> Result<(String, P::Document), StoreError> {
    Ok((
        row.text(column)?.to_owned(),
        decode::<P>(row.text(column + 1)?)?,
    ))
}

fn decode<P: Projection>(text: &str) -> Result<P::Document, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Row(format!("a {} document: {error}", P::NAME)))
}
