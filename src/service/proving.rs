//! Verifying what is kept of the tree: each tile with the leaves below it, each checkpoint with
//! the entries that it covers.
//!
//! Tiles are a second copy of the leaves: who changes an entry and its leaf must change them too,
//! and the checkpoints above them cannot be signed anew.

use std::collections::BTreeMap;

use super::{
    VerifyReport,
    signing::{self, SigningError},
};
use crate::{
    journal::stores::{Store, StoreError},
    proofs::{
        note::Checkpoint,
        tiles::{TILE_WIDTH, root_of_tile},
        tree::{Frontier, Hash},
    },
};

const SELECT_CHECKPOINTS: &str = "
SELECT size, note
  FROM checkpoints
 ORDER BY size";

const SELECT_TILES: &str = "
SELECT number, root, hashes
  FROM tiles
 WHERE level = $1 AND number >= $2 AND number <= $3
 ORDER BY number";

/// A tile that was completed, as it must be.
struct Completed {
    level: u8,
    number: u64,
    hashes: Vec<Hash>,
}

/// What must be found.
#[derive(Default)]
pub(super) struct Proving {
    /// The roots that were signed, by size; those of sizes that were passed are taken out.
    signed: BTreeMap<u64, Hash>,
    /// The largest size that was signed: up to there no tile may be missing.
    covered: u64,
    /// The tiles that are being filled, by level.
    open: Vec<Vec<Hash>>,
    /// How many were completed, by level.
    counts: Vec<u64>,
    completed: Vec<Completed>,
}

impl Proving {
    /// Reads what was signed, and verifies the signatures.
    pub(super) async fn load(
        store: &dyn Store,
        report: &mut VerifyReport,
    ) -> Result<Self, StoreError> {
        let keys: Vec<_> = match signing::known(store).await {
            Ok(known) => known.into_iter().map(|key| key.verifier).collect(),
            Err(SigningError::Store(error)) => return Err(error),
            Err(error) => {
                report.fail(None, error.to_string());
                return Ok(Self::default());
            }
        };
        let mut proving = Self::default();
        for row in &store.query(SELECT_CHECKPOINTS, vec![]).await? {
            let size = row.count(0)?;
            report.checkpoints += 1;
            match Checkpoint::open(row.text(1)?, &keys) {
                Ok(signed) if signed.size == size => {
                    proving.covered = size;
                    proving.signed.insert(size, signed.root);
                }
                Ok(signed) => {
                    let detail = format!(
                        "the checkpoint that is kept as of size {size} was signed for size {}",
                        signed.size
                    );
                    report.fail(None, detail);
                }
                Err(error) => report.fail(None, format!("the checkpoint of size {size}: {error}")),
            }
        }
        Ok(proving)
    }

    /// Takes the next leaf, which `frontier` has already.
    pub(super) fn follow(&mut self, leaf: Hash, frontier: &Frontier, report: &mut VerifyReport) {
        self.add(0, leaf);
        if let Some(root) = self.signed.remove(&frontier.size())
            && root != frontier.root()
        {
            let size = frontier.size();
            let detail = format!(
                "the entries up to here do not come to the root of the checkpoint of size {size}"
            );
            report.fail(Some(size), detail);
        }
    }

    fn add(&mut self, level: usize, hash: Hash) {
        if self.open.len() == level {
            self.open.push(Vec::with_capacity(TILE_WIDTH as usize));
            self.counts.push(0);
        }
        self.open[level].push(hash);
        if self.open[level].len() as u64 == TILE_WIDTH {
            let hashes = std::mem::take(&mut self.open[level]);
            let root = root_of_tile(&hashes.concat());
            self.completed.push(Completed {
                level: level as u8,
                number: self.counts[level],
                hashes,
            });
            self.counts[level] += 1;
            self.add(level + 1, root);
        }
    }

    /// Compares the tiles that were completed with those that are kept.
    pub(super) async fn compare_tiles(
        &mut self,
        store: &dyn Store,
        report: &mut VerifyReport,
    ) -> Result<(), StoreError> {
        for tile in std::mem::take(&mut self.completed) {
            let (level, number) = (tile.level, tile.number);
            let range = [i64::from(level).into(), number.into(), number.into()];
            let rows = store.query(SELECT_TILES, range.to_vec()).await?;
            // It is made behind the head: only what a checkpoint covers must be there.
            let end = (number + 1) << (8 * (u32::from(level) + 1));
            match rows.first() {
                None if end <= self.covered => report.fail(
                    None,
                    format!("tile {level}/{number} is missing, and a checkpoint covers it"),
                ),
                None => {}
                Some(row) => {
                    report.tiles += 1;
                    if let Some((position, detail)) = wrong(&tile, row.hash(1)?, row.bytes(2)?) {
                        report.fail(position, format!("tile {level}/{number}: {detail}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// What was signed and is not in the log.
    pub(super) fn end(&mut self, position: u64, report: &mut VerifyReport) {
        // An empty log is signed too.
        self.signed.remove(&0);
        for size in std::mem::take(&mut self.signed).into_keys() {
            let detail = match size > position {
                true => format!(
                    "a checkpoint of {size} entries was signed, and the log has {position}: its \
                     last entries were cut off"
                ),
                false => format!("the checkpoint of size {size} could not be compared"),
            };
            report.fail(Some(size.min(position + 1)), detail);
        }
    }
}

/// What is wrong with a tile that is kept, and where.
fn wrong(expected: &Completed, root: Hash, hashes: &[u8]) -> Option<(Option<u64>, &'static str)> {
    let (kept, _) = hashes.as_chunks::<32>();
    let pairs = kept.iter().zip(&expected.hashes);
    let differs = pairs.enumerate().find(|(_, (kept, hash))| kept != hash);
    match differs {
        Some((place, _)) if expected.level == 0 => {
            let position = expected.number * TILE_WIDTH + place as u64 + 1;
            Some((Some(position), "the entry has not the leaf that it had"))
        }
        Some(_) => Some((None, "it does not follow from the tiles below it")),
        None if root != root_of_tile(hashes) => Some((None, "its root is not that of its hashes")),
        None => None,
    }
}
