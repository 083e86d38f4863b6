//! Reading documents: one by key, or a page of those that belong to something.

use std::{marker::PhantomData, sync::Arc};

use super::{Engine, Projection};
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
    store: Arc<dyn Store>,
    table: String,
    projection: PhantomData<fn() -> P>,
}

const HEAD_POSITION: &str = "(SELECT position FROM log_head WHERE singleton = 1)";

impl<P: Projection> Documents<P> {
    /// The documents that serve now.
    pub fn of(store: Arc<dyn Store>, engine: &Engine) -> Self {
        Self {
            store,
            table: engine.table(P::NAME),
            projection: PhantomData,
        }
    }

    /// The document at a key.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(&self, key: &str) -> Result<Found<Option<P::Document>>, StoreError> {
        let sql = format!(
            "SELECT head.position, found.key, CAST(found.document AS TEXT)
               FROM (SELECT {HEAD_POSITION} AS position) AS head
               LEFT JOIN {} AS found ON found.key = $1",
            self.table
        );
        let rows = self.store.query(&sql, vec![key.into()]).await?;
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
        for keys in keys.chunks(1_024) {
            let (placeholders, parameters) = padded(keys, 1);
            let sql = format!(
                "SELECT key, CAST(document AS TEXT) FROM {} WHERE key IN ({placeholders})",
                self.table
            );
            for row in self.store.query(&sql, parameters).await? {
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
        for parents in parents.chunks(1_024) {
            let (placeholders, parameters) = padded(parents, 1);
            let sql = format!(
                "SELECT key, CAST(document AS TEXT) FROM {}
                  WHERE parent IN ({placeholders}) ORDER BY key",
                self.table
            );
            for row in self.store.query(&sql, parameters).await? {
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
        self.page(Some(("parent", parent)), after, limit).await
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
        self.page(Some(("lookup", lookup)), after, limit).await
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
        self.page(None, after, limit).await
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
        let mut after = after.map(str::to_owned);
        loop {
            let page = self
                .page(Some(("parent", parent)), after.as_deref(), limit)
                .await?;
            after = page.items.last().map(|(key, _)| key.clone());
            let kept = page
                .items
                .into_iter()
                .filter_map(|(key, document)| Some((key, keep(document)?)));
            let items: Vec<_> = kept.collect();
            if !items.is_empty() || !page.more {
                return Ok(Page {
                    items,
                    more: page.more,
                    position: page.position,
                });
            }
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
        let sql = format!(
            "SELECT {HEAD_POSITION}, key, CAST(document AS TEXT)
               FROM {}
              WHERE parent = $1 AND key < $2
              ORDER BY key DESC
              LIMIT {}",
            self.table,
            page_rows(limit + 1)
        );
        // Above every key: they are ASCII.
        let before = before.unwrap_or("\u{7f}");
        self.read_page(&sql, vec![parent.into(), before.into()], limit)
            .await
    }

    async fn page(
        &self,
        of: Option<(&str, &str)>,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<P::Document>, StoreError> {
        let condition = of.map(|(column, _)| format!("{column} = $2 AND "));
        let sql = format!(
            "SELECT {HEAD_POSITION}, key, CAST(document AS TEXT)
               FROM {}
              WHERE {}key > $1
              ORDER BY key
              LIMIT {}",
            self.table,
            condition.unwrap_or_default(),
            page_rows(limit + 1)
        );
        let mut parameters: Vec<Value> = vec![after.unwrap_or("").into()];
        parameters.extend(of.map(|(_, value)| Value::from(value)));
        self.read_page(&sql, parameters, limit).await
    }

    /// Reads the rows of a page, of which one more was asked for than it has.
    async fn read_page(
        &self,
        sql: &str,
        parameters: Vec<Value>,
        limit: u64,
    ) -> Result<Page<P::Document>, StoreError> {
        let mut rows = self.store.query(sql, parameters).await?;
        let more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let position = match rows.first() {
            Some(row) => row.count(0)?,
            None => stores::head(&*self.store).await?.position,
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

    /// At most `limit` documents whose deadline is `time` or earlier, the longest due first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn due(
        &self,
        time: crate::domain::Timestamp,
        limit: u64,
    ) -> Result<Vec<(String, P::Document)>, StoreError> {
        let sql = format!(
            "SELECT key, CAST(document AS TEXT)
               FROM {}
              WHERE deadline <= $1
              ORDER BY deadline, key
              LIMIT {}",
            self.table,
            page_rows(limit)
        );
        let mut rows = self.store.query(&sql, vec![time.0.into()]).await?;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        rows.iter().map(|row| keyed::<P>(row, 0)).collect()
    }

    /// The document as it was at `position`, folded from the stream that it is of.
    ///
    /// # Errors
    /// When the stream cannot be read or folded.
    pub async fn as_of<A: Stream>(
        &self,
        stream: &str,
        key: &str,
        position: u64,
    ) -> Result<Option<P::Document>, super::EngineError> {
        let events = stores::stream_after(&*self.store, A::TYPE, stream, 0, position).await?;
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
