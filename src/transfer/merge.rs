//! Two tables side by side, in the order of their key.

use std::cmp::Ordering;

use crate::journal::stores::{Row, Rows, StoreError, Value};

/// What was met next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Met {
    /// The same row on both sides.
    Same,
    /// A row that the target does not have.
    Missing(Row),
    /// A row that the source does not have.
    Extra(Row),
    /// The source's row, of which the target has another.
    Other(Row),
}

/// See the module.
pub(super) struct Merge<'a> {
    source: Side,
    target: Side,
    key: &'a [usize],
}

struct Side {
    rows: Rows,
    next: Option<Row>,
}

impl Side {
    async fn begin(mut rows: Rows) -> Result<Self, StoreError> {
        let next = rows.next().await?;
        Ok(Self { rows, next })
    }

    async fn take(&mut self) -> Result<Option<Row>, StoreError> {
        let next = self.rows.next().await?;
        Ok(std::mem::replace(&mut self.next, next))
    }
}

impl<'a> Merge<'a> {
    /// Both must come in order of the key.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn begin(source: Rows, target: Rows, key: &'a [usize]) -> Result<Self, StoreError> {
        Ok(Self {
            source: Side::begin(source).await?,
            target: Side::begin(target).await?,
            key,
        })
    }

    /// What comes next; none at the end of both.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn next(&mut self) -> Result<Option<Met>, StoreError> {
        let order = match (&self.source.next, &self.target.next) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(source), Some(target)) => by_key(source, target, self.key),
        };
        let source = match order {
            Ordering::Less | Ordering::Equal => self.source.take().await?,
            Ordering::Greater => None,
        };
        let target = match order {
            Ordering::Greater | Ordering::Equal => self.target.take().await?,
            Ordering::Less => None,
        };
        Ok(Some(match (source, target) {
            (Some(source), Some(target)) if are_same(&source, &target) => Met::Same,
            (Some(source), Some(_)) => Met::Other(source),
            (Some(source), None) => Met::Missing(source),
            (None, Some(target)) => Met::Extra(target),
            (None, None) => return Ok(None),
        }))
    }
}

fn by_key(left: &Row, right: &Row, key: &[usize]) -> Ordering {
    let mut columns = key.iter();
    let unequal = columns.find_map(|column| {
        let order = in_order(&left.0[*column], &right.0[*column]);
        (order != Ordering::Equal).then_some(order)
    });
    unequal.unwrap_or(Ordering::Equal)
}

/// As the stores sort: by number, or by bytes. Keys are of one kind, and never null.
fn in_order(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Integer(left), Value::Integer(right)) => left.cmp(right),
        (left, right) => bytes(left).cmp(&bytes(right)),
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Text(text) => text.as_deref().map(str::as_bytes),
        Value::Bytes(bytes) => bytes.as_deref(),
        Value::Integer(_) => None,
    }
}

/// Whether two rows hold the same; SQLite does not say of which kind a null is.
fn are_same(left: &Row, right: &Row) -> bool {
    let is_same =
        |(left, right): (&Value, &Value)| left == right || (is_null(left) && is_null(right));
    left.0.len() == right.0.len() && left.0.iter().zip(&right.0).all(is_same)
}

fn is_null(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.is_none(),
        Value::Bytes(bytes) => bytes.is_none(),
        Value::Integer(integer) => integer.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn rows(keys: &[(&str, Option<i64>)]) -> Rows {
        let (sender, receiver) = mpsc::channel(4);
        let row = |(key, value): &(&str, Option<i64>)| {
            let value = match value {
                Some(value) => Value::Integer(Some(*value)),
                None => Value::Text(None),
            };
            Row(vec![Value::from(*key), value])
        };
        let chunk = keys.iter().map(row).collect::<Vec<_>>();
        if !chunk.is_empty() {
            sender.try_send(Ok(chunk)).expect("there is room");
        }
        sender.try_send(Ok(vec![])).expect("there is room");
        Rows::of(receiver)
    }

    #[tokio::test]
    async fn what_differs_is_met_in_order() {
        let source = rows(&[("B", Some(1)), ("a", None), ("b", Some(2)), ("é", Some(3))]);
        let target = rows(&[("A", Some(0)), ("a", None), ("b", Some(9))]);
        let mut merge = Merge::begin(source, target, &[0]).await.unwrap();
        let mut met = Vec::new();
        while let Some(one) = merge.next().await.unwrap() {
            met.push(match one {
                Met::Same => "same".to_owned(),
                Met::Missing(row) => format!("missing {}", row.text(0).unwrap()),
                Met::Extra(row) => format!("extra {}", row.text(0).unwrap()),
                Met::Other(row) => format!("other {}", row.text(0).unwrap()),
            });
        }
        assert_eq!(
            met,
            ["extra A", "missing B", "same", "other b", "missing é"]
        );
    }

    #[tokio::test]
    async fn rows_that_end_before_their_end_are_an_error() {
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(Ok(vec![Row(vec![1_i64.into()])])).unwrap();
        drop(sender);
        let mut cut = Rows::of(receiver);
        assert!(cut.next().await.unwrap().is_some());
        assert!(cut.next().await.is_err());
    }
}
