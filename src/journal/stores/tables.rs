//! What tables this version has, as its own migrations make them.
//!
//! Whoever carries a whole store from one place to another asks here, and so cannot forget a
//! table or a column that somebody adds later. The migrations of both stores make the same ones.

use sqlx::{Connection, Row as _, SqliteConnection};

use super::{StoreError, StoreKind, sqlite::MIGRATIONS};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Text,
    Integer,
    Bytes,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    pub name: String,
    pub kind: ColumnType,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    pub name: String,
    /// In their order.
    pub columns: Vec<TableColumn>,
    /// The numbers of the columns that are its primary key, in the key's order.
    pub key: Vec<usize>,
}

/// The tables that the migrations make, by name; without those that the projections' engine makes.
///
/// # Errors
/// When the migrations do not run, or a column is of a type that the stores do not share.
pub async fn tables() -> Result<Vec<TableSchema>, StoreError> {
    let failed = |error: sqlx::Error| wrong(error.to_string());
    let memory = SqliteConnection::connect("sqlite::memory:").await;
    let mut memory = memory.map_err(failed)?;
    let made = MIGRATIONS.run_direct(&mut memory).await;
    made.map_err(|error| wrong(error.to_string()))?;
    let names = sqlx::query(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
            AND name <> '_sqlx_migrations' ORDER BY name",
    );
    let mut tables = Vec::new();
    for row in names.fetch_all(&mut memory).await.map_err(failed)? {
        let name: String = row.try_get(0).map_err(failed)?;
        tables.push(table(&mut memory, name).await?);
    }
    Ok(tables)
}

async fn table(memory: &mut SqliteConnection, name: String) -> Result<TableSchema, StoreError> {
    let failed = |error: sqlx::Error| wrong(error.to_string());
    let columns = sqlx::query("SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid");
    let mut schema = TableSchema {
        name,
        columns: Vec::new(),
        key: Vec::new(),
    };
    let mut in_key = Vec::new();
    let rows = columns.bind(schema.name.clone()).fetch_all(memory).await;
    for (number, row) in rows.map_err(failed)?.iter().enumerate() {
        let kind: String = row.try_get(1).map_err(failed)?;
        let kind = match kind.as_str() {
            "TEXT" => ColumnType::Text,
            "INTEGER" => ColumnType::Integer,
            "BLOB" => ColumnType::Bytes,
            other => return Err(wrong(format!("{} has a column of {other}", schema.name))),
        };
        let name = row.try_get(0).map_err(failed)?;
        schema.columns.push(TableColumn { name, kind });
        let place: i64 = row.try_get(2).map_err(failed)?;
        if place > 0 {
            in_key.push((place, number));
        }
    }
    in_key.sort_unstable();
    schema.key = in_key.into_iter().map(|(_, number)| number).collect();
    match schema.key.is_empty() {
        true => Err(wrong(format!("{} has no primary key", schema.name))),
        false => Ok(schema),
    }
}

fn wrong(detail: String) -> StoreError {
    StoreError::Failed {
        kind: StoreKind::Sqlite,
        detail,
    }
}

impl TableSchema {
    /// The statement that reads it in order of its key, by bytes, as both stores then have it; of
    /// it only what `condition` says, where something is.
    pub fn select(&self, kind: StoreKind, condition: Option<&str>) -> String {
        let column = |column: &TableColumn| match column.kind {
            // JSON is kept as text.
            ColumnType::Text => format!("CAST({} AS TEXT)", column.name),
            ColumnType::Integer | ColumnType::Bytes => column.name.clone(),
        };
        let columns: Vec<_> = self.columns.iter().map(column).collect();
        let order = self.key.iter().map(|number| {
            let column = &self.columns[*number];
            match (column.kind, kind) {
                (ColumnType::Text, StoreKind::Postgres) => format!("{} COLLATE \"C\"", column.name),
                _ => column.name.clone(),
            }
        });
        let condition = condition.map(|condition| format!(" WHERE {condition}"));
        format!(
            "SELECT {} FROM {}{} ORDER BY {}",
            columns.join(", "),
            self.name,
            condition.unwrap_or_default(),
            order.collect::<Vec<_>>().join(", ")
        )
    }

    /// The names of its columns.
    pub fn column_names(&self) -> Vec<&str> {
        let names = self.columns.iter().map(|column| column.name.as_str());
        names.collect()
    }
}
