//! Many rows in one piece of memory: what replaying reads.
//!
//! A store copies the columns of its rows here and does nothing else with them; they are decoded
//! where they are needed, by as many threads as there are, and without an allocation a value.

use super::StoreError;

/// Rows that memory is taken for at once.
const ROWS_EXPECTED_MAX: usize = 4_096;
/// Bytes of text that an event has, or a little more.
const ROW_BYTES: usize = 1_280;

/// What a column holds, where it is not null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    Integer,
}

/// The rows of a table between two positions, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// A table with a column `position` that is its key.
    pub table: String,
    /// As they stand in the statement.
    pub columns: &'static [(&'static str, ColumnKind)],
    /// Exclusive.
    pub after: u64,
    /// Inclusive.
    pub through: u64,
}

impl Span {
    /// Without a row, and with room for all of it.
    pub(super) fn sheet(&self) -> Sheet {
        let rows = usize::try_from(self.through.saturating_sub(self.after)).unwrap_or(0);
        Sheet::new(self.columns.len(), rows.min(ROWS_EXPECTED_MAX), ROW_BYTES)
    }

    /// The statement that reads it.
    pub(super) fn sql(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        format!(
            "SELECT {} FROM {} WHERE position > {} AND position <= {} ORDER BY position",
            columns.join(", "),
            self.table,
            self.after,
            self.through
        )
    }
}

/// Rows of the same columns.
#[derive(Debug, Default)]
pub struct Sheet {
    columns: usize,
    text: String,
    places: Vec<Place>,
}

/// Where a value is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Null,
    Integer(i64),
    Text { start: usize, end: usize },
}

/// A value in a sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
}

impl Sheet {
    /// Without a row; how many are expected, and how many bytes of text in each, is only there to
    /// take memory at once.
    pub fn new(columns: usize, rows: usize, row_bytes: usize) -> Self {
        Self {
            columns,
            text: String::with_capacity(rows * row_bytes),
            places: Vec::with_capacity(rows * columns),
        }
    }

    /// The next value of a row: rows are filled from their first column to their last.
    pub fn push(&mut self, cell: Cell<'_>) {
        self.places.push(match cell {
            Cell::Null => Place::Null,
            Cell::Integer(integer) => Place::Integer(integer),
            Cell::Text(text) => {
                let start = self.text.len();
                self.text.push_str(text);
                let end = self.text.len();
                Place::Text { start, end }
            }
        });
    }

    /// The rows, in the order that they were put in.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = SheetRow<'_>> {
        let places = self.places.chunks_exact(self.columns.max(1));
        places.map(|places| SheetRow {
            text: &self.text,
            places,
        })
    }
}

/// One row of a sheet, by column number from 0.
#[derive(Debug, Clone, Copy)]
pub struct SheetRow<'a> {
    text: &'a str,
    places: &'a [Place],
}

impl PartialEq for SheetRow<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cells().eq(other.cells())
    }
}

impl<'a> SheetRow<'a> {
    /// All of its values.
    pub fn cells(self) -> impl Iterator<Item = Cell<'a>> {
        self.places.iter().map(move |place| self.at(*place))
    }

    fn at(self, place: Place) -> Cell<'a> {
        match place {
            Place::Null => Cell::Null,
            Place::Integer(integer) => Cell::Integer(integer),
            Place::Text { start, end } => Cell::Text(&self.text[start..end]),
        }
    }

    fn cell(&self, column: usize) -> Option<Cell<'a>> {
        self.places.get(column).map(|place| self.at(*place))
    }

    /// Text or null.
    ///
    /// # Errors
    /// When the column holds something else.
    pub fn optional_text(&self, column: usize) -> Result<Option<&'a str>, StoreError> {
        match self.cell(column) {
            Some(Cell::Text(text)) => Ok(Some(text)),
            Some(Cell::Null) => Ok(None),
            Some(Cell::Integer(_)) | None => Err(wrong(column, "text")),
        }
    }

    /// Text that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn text(&self, column: usize) -> Result<&'a str, StoreError> {
        let text = self.optional_text(column)?;
        text.ok_or_else(|| wrong(column, "text"))
    }

    /// An integer that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn integer(&self, column: usize) -> Result<i64, StoreError> {
        match self.cell(column) {
            Some(Cell::Integer(integer)) => Ok(integer),
            Some(Cell::Null | Cell::Text(_)) | None => Err(wrong(column, "an integer")),
        }
    }

    /// An integer that counts something: never negative.
    ///
    /// # Errors
    /// When it is not there, or negative.
    pub fn count(&self, column: usize) -> Result<u64, StoreError> {
        u64::try_from(self.integer(column)?).map_err(|_| wrong(column, "a count"))
    }
}

fn wrong(column: usize, wanted: &str) -> StoreError {
    StoreError::Row(format!("column {column} is not {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_put_in() {
        let mut sheet = Sheet::new(3, 2, 4);
        let first = [Cell::Integer(7), Cell::Text("é"), Cell::Null];
        let second = [Cell::Integer(-1), Cell::Text(""), Cell::Text("b")];
        first
            .into_iter()
            .chain(second)
            .for_each(|cell| sheet.push(cell));
        let rows: Vec<_> = sheet.rows().collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].count(0).unwrap(), 7);
        assert_eq!(rows[0].text(1).unwrap(), "é");
        assert_eq!(rows[0].optional_text(2).unwrap(), None);
        assert!(rows[0].text(2).is_err());
        assert!(rows[1].count(0).is_err());
        assert_eq!(rows[1].text(1).unwrap(), "");
        assert_eq!(rows[1].text(2).unwrap(), "b");
        assert!(rows[1].integer(1).is_err());
        assert!(rows[1].text(3).is_err());
        assert!(rows[0].cells().eq(first));
        assert!(rows[0] == rows[0] && rows[0] != rows[1]);
    }
}
