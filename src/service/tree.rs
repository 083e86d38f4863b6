//! The log's tree, as it is kept: full tiles in a table, the rest in the events themselves.
//!
//! Tiles are made behind the head, from the leaves in `events`: an append does nothing for them.
//! Several processes may make the same; they are the same.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;

use crate::{
    journal::stores::{Statement, Store, StoreError},
    proofs::{
        tiles::{OutOfTree, TILE_WIDTH, TileId, Tiles, root_of_tile},
        tree::Hash,
    },
};

/// Full tiles that a process keeps: 16 MiB.
const TILES_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(2_048).unwrap();
/// Tiles that are written at once.
const TILES_AT_ONCE: u64 = 64;
/// The highest level that is kept.
const LEVEL_MAX: u8 = 7;

const SELECT_LEAVES: &str = "
SELECT leaf
  FROM events
 WHERE position > $1 AND position <= $2
 ORDER BY position";

const SELECT_HASHES: &str = "
SELECT hashes
  FROM tiles
 WHERE level = $1 AND number = $2";

const SELECT_ROOTS: &str = "
SELECT root
  FROM tiles
 WHERE level = $1 AND number >= $2 AND number < $3
 ORDER BY number";

const COUNT: &str = "
SELECT COALESCE(MAX(number) + 1, 0)
  FROM tiles
 WHERE level = $1";

const INSERT: &str = "
INSERT INTO tiles (level, number, root, hashes)
VALUES ($1, $2, $3, $4)
    ON CONFLICT (level, number) DO NOTHING";

/// The tree of a store.
#[derive(Debug)]
pub(super) struct LogTree {
    store: Arc<dyn Store>,
    memory: Mutex<LruCache<TileId, Arc<Vec<u8>>>>,
}

impl LogTree {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        let memory = Mutex::new(LruCache::new(TILES_IN_MEMORY));
        Self { store, memory }
    }

    /// Answers a question on the tree of `size`, whose tiles must have been made; none where the
    /// tree has no such answer.
    pub(super) async fn ask<T>(
        &self,
        size: u64,
        question: impl Fn(&Tiles) -> Result<T, OutOfTree>,
    ) -> Result<Option<T>, StoreError> {
        let mut tiles = Tiles::default();
        loop {
            let answer = question(&tiles);
            let missing = tiles.missing();
            if missing.is_empty() {
                return Ok(answer.ok());
            }
            for tile in missing {
                let hashes = self.tile(tile, tile.width_in(size)).await?;
                tiles.insert(tile, hashes);
            }
        }
    }

    /// The root of the tree at a size.
    pub(super) async fn root(&self, size: u64) -> Result<Hash, StoreError> {
        let root = self.ask(size, |tiles| tiles.root(size)).await?;
        root.ok_or_else(|| StoreError::Row(format!("the tiles do not make a tree of {size}")))
    }

    /// The first `width` hashes of a tile.
    ///
    /// # Errors
    /// When the store cannot be read, or they are not there.
    pub(super) async fn tile(&self, tile: TileId, width: u64) -> Result<Arc<Vec<u8>>, StoreError> {
        let known = self.memory().get(&tile).cloned();
        if let Some(hashes) = known {
            return Ok(match width {
                TILE_WIDTH => hashes,
                width => Arc::new(hashes[..width as usize * 32].to_vec()),
            });
        }
        if width == TILE_WIDTH
            && let Some(hashes) = self.kept(tile).await?
        {
            let hashes = Arc::new(hashes);
            self.memory().put(tile, hashes.clone());
            return Ok(hashes);
        }
        Ok(Arc::new(self.gathered(tile, width).await?))
    }

    async fn kept(&self, tile: TileId) -> Result<Option<Vec<u8>>, StoreError> {
        let parameters = vec![i64::from(tile.level).into(), tile.number.into()];
        let rows = self.store.query(SELECT_HASHES, parameters).await?;
        rows.first()
            .map(|row| Ok(row.bytes(0)?.to_vec()))
            .transpose()
    }

    /// The hashes of a tile from what is below it: leaves, or roots of full tiles.
    async fn gathered(&self, tile: TileId, width: u64) -> Result<Vec<u8>, StoreError> {
        let first = tile.number * TILE_WIDTH;
        let (first, end) = (first.into(), (first + width).into());
        let rows = match tile.level.checked_sub(1) {
            None => self.store.query(SELECT_LEAVES, vec![first, end]).await?,
            Some(below) => {
                let parameters = vec![i64::from(below).into(), first, end];
                self.store.query(SELECT_ROOTS, parameters).await?
            }
        };
        if rows.len() as u64 != width {
            let (level, number, found) = (tile.level, tile.number, rows.len());
            let detail = format!("tile {level}/{number} has {found} hashes of {width}");
            return Err(StoreError::Row(detail));
        }
        let mut hashes = Vec::with_capacity(rows.len() * 32);
        for row in &rows {
            hashes.extend(row.hash(0)?);
        }
        Ok(hashes)
    }

    /// Makes the full tiles of a tree of `size` that are missing.
    ///
    /// # Errors
    /// When the store cannot be read or written; what was made stays.
    pub(super) async fn advance(&self, size: u64) -> Result<(), StoreError> {
        for level in 0..=LEVEL_MAX {
            let full = size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
            if full == 0 {
                break;
            }
            let rows = self
                .store
                .query(COUNT, vec![i64::from(level).into()])
                .await?;
            let mut made = rows.first().map_or(Ok(0), |row| row.count(0))?;
            while made < full {
                let until = full.min(made + TILES_AT_ONCE);
                let mut statements = Vec::new();
                for number in made..until {
                    let hashes = self.gathered(TileId { level, number }, TILE_WIDTH).await?;
                    let root = root_of_tile(&hashes);
                    let parameters = [
                        i64::from(level).into(),
                        number.into(),
                        root.as_slice().into(),
                        hashes.into(),
                    ];
                    statements.push(Statement::new(INSERT, parameters));
                }
                self.store.execute(statements).await?;
                made = until;
            }
        }
        Ok(())
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, LruCache<TileId, Arc<Vec<u8>>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
