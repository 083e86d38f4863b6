//! Tiles: a tree's nodes in parcels of 256, as C2SP tlog-tiles has them, and what is proven
//! from them.
//!
//! A [`Tiles`] holds the tiles that somebody has fetched. A proof is asked for until nothing is
//! missing any more, which takes two rounds: [`Tiles::missing`] says what to fetch.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tlog_tiles::{
    tile::Tile,
    tlog::{self, HashReader},
};

use super::tree::{Hash, node_hash};

/// The height of every tile.
const HEIGHT: u8 = 8;
/// How many hashes a full tile has.
pub const TILE_WIDTH: u64 = 1 << HEIGHT;
/// The highest level: there a tile covers all positions that there can be.
const LEVEL_MAX: u8 = 7;
/// The largest size of a tree: positions are kept as signed integers.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// Where a tile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// 0 for the tiles whose hashes are leaves.
    pub level: u8,
    pub number: u64,
}

impl TileId {
    /// How many hashes it has in a tree of `size` leaves.
    pub fn width_in(self, size: u64) -> u64 {
        let nodes = size >> (u32::from(HEIGHT) * u32::from(self.level));
        let before = self.number.saturating_mul(TILE_WIDTH);
        nodes.saturating_sub(before).min(TILE_WIDTH)
    }
}

/// What a path asks for: a tile, and how many of its hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TilePath {
    pub tile: TileId,
    pub width: u64,
}

impl TilePath {
    /// Reads what stands after `tile/`: `0/x001/234` or `1/007.p/12`; none for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (level, rest) = text.split_once('/')?;
        let level = match level.as_bytes() {
            [digit @ b'0'..=b'9'] if digit - b'0' <= LEVEL_MAX => digit - b'0',
            _ => return None,
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok()?),
            None => (rest, TILE_WIDTH),
        };
        let tile = TileId {
            level,
            number: number_of(number)?,
        };
        let path = Self { tile, width };
        // One path a tile, and no other text for it.
        ((1..=TILE_WIDTH).contains(&width) && path.text() == text).then_some(path)
    }

    /// What stands after `tile/`.
    pub fn text(self) -> String {
        let mut rest = self.tile.number / 1_000;
        let mut text = format!("{:03}", self.tile.number % 1_000);
        while rest > 0 {
            text = format!("x{:03}/{text}", rest % 1_000);
            rest /= 1_000;
        }
        let part = match self.width {
            TILE_WIDTH => String::new(),
            width => format!(".p/{width}"),
        };
        format!("{}/{text}{part}", self.tile.level)
    }
}

/// The number of a tile from parts of three digits, an `x` before all but the last; a number
/// beyond every position is none.
fn number_of(text: &str) -> Option<u64> {
    let digits: String = text
        .split('/')
        .map(|part| part.trim_start_matches('x'))
        .collect();
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 18;
    plain.then(|| digits.parse().ok()).flatten()
}

/// Hashes that do not make a tree of the size that they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such leaf or size in the tree")]
pub struct OutOfTree;

/// What the hashes of a full tile come to.
pub fn root_of_tile(hashes: &[u8]) -> Hash {
    Tile::subtree_hash(hashes).0
}

/// Tiles of one tree, as far as they were fetched.
#[derive(Debug, Default)]
pub struct Tiles {
    fetched: HashMap<TileId, Arc<Vec<u8>>>,
    missing: RefCell<BTreeSet<TileId>>,
}

impl Tiles {
    /// Adds a tile, with the hashes that it has in the tree.
    pub fn insert(&mut self, tile: TileId, hashes: Arc<Vec<u8>>) {
        self.fetched.insert(tile, hashes);
    }

    /// What was asked for and is not there; while it is not empty, answers mean nothing.
    pub fn missing(&self) -> Vec<TileId> {
        self.missing.take().into_iter().collect()
    }

    /// The root of the tree at a size.
    ///
    /// # Errors
    /// When a tile is shorter than the size says.
    pub fn root(&self, size: u64) -> Result<Hash, OutOfTree> {
        let root = tlog::tree_hash(size, self).map_err(|_| OutOfTree)?;
        Ok(root.0)
    }

    /// The audit path of a leaf (RFC 6962, section 2.1.1).
    ///
    /// # Errors
    /// When the leaf is not in a tree of the size.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, OutOfTree> {
        let proof = tlog::prove_record(size, index, self).map_err(|_| OutOfTree)?;
        Ok(proof.into_iter().map(|hash| hash.0).collect())
    }

    /// The proof that one tree is the beginning of another (RFC 6962, section 2.1.2).
    ///
    /// # Errors
    /// When the first is empty or larger than the second.
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, OutOfTree> {
        let proof = tlog::prove_tree(to, from, self).map_err(|_| OutOfTree)?;
        Ok(proof.into_iter().map(|hash| hash.0).collect())
    }

    /// The hashes that together with the leaves at `indexes` (ascending, each once) make the root
    /// of a tree of `size` leaves: see [`root_of_set`].
    ///
    /// # Errors
    /// When an index is not in a tree of the size.
    pub fn set(&self, indexes: &[u64], size: u64) -> Result<Vec<Hash>, OutOfTree> {
        let ascending = indexes.is_sorted_by(|one, next| one < next);
        if !ascending || indexes.last().is_none_or(|last| *last >= size) {
            return Err(OutOfTree);
        }
        let mut hashes = Vec::new();
        self.set_between(0, size, indexes, &mut hashes)?;
        Ok(hashes)
    }

    fn set_between(
        &self,
        low: u64,
        high: u64,
        indexes: &[u64],
        hashes: &mut Vec<Hash>,
    ) -> Result<(), OutOfTree> {
        if indexes.is_empty() {
            hashes.push(self.subtree(low, high)?);
        } else if high - low > 1 {
            let split = low + left_of(high - low);
            let (left, right) = indexes.split_at(indexes.partition_point(|index| *index < split));
            self.set_between(low, split, left, hashes)?;
            self.set_between(split, high, right, hashes)?;
        }
        Ok(())
    }

    /// The root over the leaves of `low..high`, which are a subtree.
    fn subtree(&self, low: u64, high: u64) -> Result<Hash, OutOfTree> {
        let indexes = tlog::sub_tree_index(low, high, vec![]);
        let hashes = self.read_hashes(&indexes).map_err(|_| OutOfTree)?;
        let mut from_the_right = hashes.into_iter().rev().map(|hash| hash.0);
        let smallest = from_the_right.next().ok_or(OutOfTree)?;
        Ok(from_the_right.fold(smallest, |right, left| node_hash(left, right)))
    }
}

impl HashReader for Tiles {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        let hash = |index: &u64| {
            let wanted = Tile::from_index(HEIGHT, *index);
            let (level, number) = (wanted.level(), wanted.level_index());
            let Some(hashes) = self.fetched.get(&TileId { level, number }) else {
                self.missing.borrow_mut().insert(TileId { level, number });
                return Ok(tlog::EMPTY_HASH);
            };
            let width = (hashes.len() / 32) as u32;
            if width < wanted.width() {
                return Err(tlog::Error::InvalidTile);
            }
            Tile::new(HEIGHT, level, number, width, false).hash_at_index(hashes, *index)
        };
        indexes.iter().map(hash).collect()
    }
}

/// How many leaves are in the left of the two subtrees of a tree: the largest power of two
/// below its size.
fn left_of(size: u64) -> u64 {
    size.next_power_of_two() / 2
}

/// The root of a tree of `size` leaves, from some of them (ascending) and what
/// [`Tiles::set`] gave for these; none where they do not fit together.
pub fn root_of_set(size: u64, leaves: &[(u64, Hash)], hashes: &[Hash]) -> Option<Hash> {
    let ascending = leaves.is_sorted_by(|one, next| one.0 < next.0);
    if !ascending || size > SIZE_MAX || leaves.last().is_none_or(|last| last.0 >= size) {
        return None;
    }
    let mut hashes = hashes.iter();
    let root = root_between(0, size, leaves, &mut hashes)?;
    hashes.next().is_none().then_some(root)
}

fn root_between(
    low: u64,
    high: u64,
    leaves: &[(u64, Hash)],
    hashes: &mut std::slice::Iter<'_, Hash>,
) -> Option<Hash> {
    match leaves {
        [] => hashes.next().copied(),
        [(_, leaf)] if high - low == 1 => Some(*leaf),
        _ => {
            let split = low + left_of(high - low);
            let (left, right) = leaves.split_at(leaves.partition_point(|leaf| leaf.0 < split));
            let left = root_between(low, split, left, hashes)?;
            Some(node_hash(left, root_between(split, high, right, hashes)?))
        }
    }
}

/// Whether an audit path leads from a leaf to the root of a tree.
pub fn is_included(proof: &[Hash], size: u64, root: Hash, index: u64, leaf: Hash) -> bool {
    let proof = proof.iter().copied().map(tlog::Hash).collect();
    size <= SIZE_MAX
        && tlog::check_record(&proof, size, tlog::Hash(root), index, tlog::Hash(leaf)).is_ok()
}

/// Whether a proof shows that the tree of `from` is the beginning of the tree of `to`, each with
/// its size and root.
pub fn is_consistent(proof: &[Hash], from: (u64, Hash), to: (u64, Hash)) -> bool {
    let hashes = proof.iter().copied().map(tlog::Hash).collect();
    to.0 <= SIZE_MAX
        && tlog::check_tree(&hashes, to.0, tlog::Hash(to.1), from.0, tlog::Hash(from.1)).is_ok()
}

#[cfg(test)]
mod tests {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use proptest::prelude::*;
    use sha2::Sha256;

    use super::*;
    use crate::proofs::tree::{Frontier, leaf_hash};

    fn entry(index: u64) -> Vec<u8> {
        index.to_be_bytes().to_vec()
    }

    fn leaves(size: u64) -> Vec<Hash> {
        (0..size).map(|index| leaf_hash(&entry(index))).collect()
    }

    fn root(size: u64) -> Hash {
        let mut frontier = Frontier::default();
        leaves(size)
            .into_iter()
            .for_each(|leaf| frontier.push(leaf));
        frontier.root()
    }

    /// Every tile of a tree.
    fn tiles(size: u64) -> Tiles {
        let mut tiles = Tiles::default();
        let mut nodes = leaves(size);
        for level in 0..=LEVEL_MAX {
            let mut above = Vec::new();
            for (number, hashes) in nodes.chunks(TILE_WIDTH as usize).enumerate() {
                let bytes = hashes.concat();
                let tile = TileId {
                    level,
                    number: number as u64,
                };
                assert_eq!(tile.width_in(size), hashes.len() as u64);
                if hashes.len() as u64 == TILE_WIDTH {
                    above.push(root_of_tile(&bytes));
                }
                tiles.insert(tile, Arc::new(bytes));
            }
            nodes = above;
        }
        tiles
    }

    const SIZES: [u64; 14] = [
        1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 513, 1_000, 65_536, 65_793,
    ];

    #[test]
    fn roots_are_those_of_the_frontier() {
        for size in SIZES {
            let tiles = tiles(size);
            assert_eq!(tiles.root(size), Ok(root(size)), "{size}");
            assert!(tiles.missing().is_empty());
        }
    }

    #[test]
    fn proofs_are_those_of_an_independent_library() {
        const SIZE: u64 = 700;
        let tiles = tiles(SIZE);
        let mut independent: MemoryBackedTree<Sha256, Vec<u8>> = MemoryBackedTree::new();
        for index in 0..SIZE {
            independent.push(entry(index));
        }
        let whole = independent.root();
        for index in [0, 1, 127, 255, 256, 511, 512, 698, 699] {
            let ours = tiles.inclusion(index, SIZE).unwrap();
            let theirs = independent.prove_inclusion(index as usize);
            assert_eq!(ours.concat(), theirs.as_bytes(), "{index}");
            let read = ct_merkle::InclusionProof::<Sha256>::from_bytes(ours.concat());
            let held = whole.verify_inclusion(&entry(index), index, &read);
            assert!(held.is_ok(), "{index}");
            assert!(is_included(
                &ours,
                SIZE,
                root(SIZE),
                index,
                leaf_hash(&entry(index))
            ));
            assert!(!is_included(
                &ours,
                SIZE,
                root(SIZE),
                index,
                leaf_hash(b"another")
            ));
        }
        for from in [1, 2, 255, 256, 257, 512, 699, 700] {
            let ours = tiles.consistency(from, SIZE).unwrap();
            let theirs = independent.prove_consistency((SIZE - from) as usize);
            assert_eq!(ours.concat(), theirs.as_bytes(), "{from}");
            let ends = ((from, root(from)), (SIZE, root(SIZE)));
            assert!(is_consistent(&ours, ends.0, ends.1), "{from}");
            assert!(!is_consistent(&ours, (from, [7; 32]), ends.1), "{from}");
        }
    }

    /// The entries, roots and proofs of the reference implementation of RFC 6962
    /// (certificate-transparency, `merkle_tree_test.cc`).
    #[test]
    fn vectors_of_rfc_6962() {
        let entries: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let hashes: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let tile = TileId {
            level: 0,
            number: 0,
        };
        let mut tiles = Tiles::default();
        tiles.insert(tile, Arc::new(hashes.concat()));
        let hex =
            |hash: &Hash| -> String { hash.iter().map(|byte| format!("{byte:02x}")).collect() };
        for (size, expected) in (1..).zip(roots) {
            assert_eq!(hex(&tiles.root(size).unwrap()), expected);
        }
        let path = |index, size| -> Vec<_> {
            let proof = tiles.inclusion(index, size).unwrap();
            proof.iter().map(hex).collect()
        };
        assert_eq!(
            path(5, 8),
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
        let consistency = tiles.consistency(6, 8).unwrap();
        assert_eq!(
            consistency.iter().map(hex).collect::<Vec<_>>(),
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let asked = Tiles::default();
        assert!(asked.inclusion(300, 70_000).is_ok());
        let mut missing = asked.missing();
        missing.sort();
        let levels: BTreeSet<_> = missing.iter().map(|tile| tile.level).collect();
        assert_eq!(levels, BTreeSet::from([0, 1]));
        assert!(asked.missing().is_empty(), "it is said once");
        assert_eq!(asked.inclusion(5, 5), Err(OutOfTree));
        assert_eq!(asked.consistency(0, 5), Err(OutOfTree));
        assert_eq!(asked.consistency(6, 5), Err(OutOfTree));
        assert_eq!(asked.set(&[], 5), Err(OutOfTree));
        assert_eq!(asked.set(&[3, 3], 5), Err(OutOfTree));
        assert_eq!(asked.set(&[5], 5), Err(OutOfTree));
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let read = |text| {
            TilePath::parse(text).map(|path| (path.tile.level, path.tile.number, path.width))
        };
        assert_eq!(read("0/000"), Some((0, 0, 256)));
        assert_eq!(read("1/x001/x234/067"), Some((1, 1_234_067, 256)));
        assert_eq!(read("0/x001/234.p/12"), Some((0, 1_234, 12)));
        for wrong in [
            "",
            "0",
            "0/0",
            "00/000",
            "0/000.p/300",
            "0/000.p/01",
            "0/xx001/000",
            "0/x000/001",
            "0/1000",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/257",
            "8/000",
            "data/000",
            "entries/000",
            "0/x001",
            "0/../000",
            "x/000",
            "0/000/",
            "0/000.p/",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn some_leaves_and_their_set_make_the_root(
            size in 1u64..2_000,
            picked in proptest::collection::btree_set(0u64..2_000, 1..40),
            flip in any::<prop::sample::Index>(),
        ) {
            let picked: Vec<_> = picked.into_iter().map(|index| index % size).collect::<BTreeSet<_>>().into_iter().collect();
            let tiles = tiles(size);
            let hashes = tiles.set(&picked, size).unwrap();
            let all = leaves(size);
            let mut some: Vec<_> = picked.iter().map(|index| (*index, all[*index as usize])).collect();
            prop_assert_eq!(root_of_set(size, &some, &hashes), Some(root(size)));
            let alone = tiles.inclusion(picked[0], size).unwrap();
            if picked.len() == 1 {
                prop_assert_eq!(hashes.len(), alone.len());
            }
            // Another leaf, a leaf elsewhere, a hash more: none makes the root.
            let at = flip.index(some.len());
            some[at].1[0] ^= 1;
            prop_assert_ne!(root_of_set(size, &some, &hashes), Some(root(size)));
            some[at].1[0] ^= 1;
            let more = [&hashes[..], &[[0; 32]]].concat();
            prop_assert_eq!(root_of_set(size, &some, &more), None);
        }
    }
}
