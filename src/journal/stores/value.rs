//! Values as both stores bind and return them: text, integer, bytes, each possibly null.
//!
//! Three kinds are all that the schema uses (ids and JSON are text, times and positions are
//! integers, hashes are bytes), which is what lets a query be written once.

use std::borrow::Cow;

use super::StoreError;

/// A parameter or a column. The kind of a null is kept, as PostgreSQL wants to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Self::Integer(Some(integer))
    }
}

impl From<Option<i64>> for Value {
    fn from(integer: Option<i64>) -> Self {
        Self::Integer(integer)
    }
}

impl From<u64> for Value {
    /// Positions, sequences and counts: far below 2^63, where BIGINT ends.
    fn from(integer: u64) -> Self {
        Self::Integer(Some(i64::try_from(integer).unwrap_or(i64::MAX)))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(Some(bytes.to_vec()))
    }
}

/// A writing statement with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub sql: Cow<'static, str>,
    pub parameters: Vec<Value>,
}

impl Statement {
    /// A statement with parameters for `$1`, `$2`, …
    pub fn new(
        sql: impl Into<Cow<'static, str>>,
        parameters: impl IntoIterator<Item = Value>,
    ) -> Self {
        Self {
            sql: sql.into(),
            parameters: parameters.into_iter().collect(),
        }
    }
}

/// One row of an answer, by column number from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// Text that must be there.
    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.optional_text(column)?
            .ok_or_else(|| self.wrong(column, "text"))
    }

    /// Text that must be there, taken out of the row.
    pub fn take_text(&mut self, column: usize) -> Result<String, StoreError> {
        match self.0.get_mut(column) {
            Some(Value::Text(text)) => text.take().ok_or_else(|| self.wrong(column, "text")),
            _ => Err(self.wrong(column, "text")),
        }
    }

    /// Text or null.
    pub fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.0.get(column) {
            Some(Value::Text(text)) => Ok(text.as_deref()),
            Some(other) if other.is_null() => Ok(None),
            _ => Err(self.wrong(column, "text")),
        }
    }

    /// An integer that must be there.
    pub fn integer(&self, column: usize) -> Result<i64, StoreError> {
        self.optional_integer(column)?
            .ok_or_else(|| self.wrong(column, "an integer"))
    }

    /// An integer or null.
    pub fn optional_integer(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(column) {
            Some(Value::Integer(integer)) => Ok(*integer),
            Some(other) if other.is_null() => Ok(None),
            _ => Err(self.wrong(column, "an integer")),
        }
    }

    /// An integer that counts something: never negative.
    pub fn count(&self, column: usize) -> Result<u64, StoreError> {
        u64::try_from(self.integer(column)?).map_err(|_| self.wrong(column, "a count"))
    }

    /// Bytes that must be there.
    pub fn bytes(&self, column: usize) -> Result<&[u8], StoreError> {
        self.optional_bytes(column)?
            .ok_or_else(|| self.wrong(column, "bytes"))
    }

    /// Bytes or null.
    pub fn optional_bytes(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        match self.0.get(column) {
            Some(Value::Bytes(bytes)) => Ok(bytes.as_deref()),
            Some(other) if other.is_null() => Ok(None),
            _ => Err(self.wrong(column, "bytes")),
        }
    }

    /// A hash: exactly 32 bytes.
    pub fn hash(&self, column: usize) -> Result<[u8; 32], StoreError> {
        self.bytes(column)?
            .try_into()
            .map_err(|_| self.wrong(column, "32 bytes"))
    }

    /// Text that parses: an id, for example.
    pub fn parsed<T: std::str::FromStr>(&self, column: usize) -> Result<T, StoreError> {
        self.text(column)?
            .parse()
            .map_err(|_| self.wrong(column, std::any::type_name::<T>()))
    }

    fn wrong(&self, column: usize, wanted: &str) -> StoreError {
        StoreError::Row(format!("column {column} is not {wanted}"))
    }
}

impl Value {
    fn is_null(&self) -> bool {
        matches!(
            self,
            Self::Text(None) | Self::Integer(None) | Self::Bytes(None)
        )
    }
}
