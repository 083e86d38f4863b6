//! The Merkle tree of RFC 6962, section 2.1, as a log needs it while it grows: only the
//! frontier is kept, the roots of the perfect subtrees that the tree's size consists of.

use tlog_tiles::tlog;

/// A node or leaf hash, SHA-256.
pub type Hash = [u8; 32];

/// The hash of one entry: SHA-256(0x00 ‖ entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    tlog::record_hash(entry).0
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: Hash, right: Hash) -> Hash {
    tlog::node_hash(tlog::Hash(left), tlog::Hash(right)).0
}

/// Bytes that are not a frontier of the size that they claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frontier of {size} leaves has {expected} hashes of 32 bytes; there are {found} bytes")]
pub struct MalformedFrontier {
    /// The number of leaves.
    pub size: u64,
    /// How many hashes a tree of that size has on its frontier.
    pub expected: u32,
    /// How many bytes there were.
    pub found: usize,
}

/// The right edge of a tree.
///
/// Invariant: one hash for each bit that is set in `size`, of the largest subtree first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// The number of leaves in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Each trailing one of the size is a perfect subtree that the new leaf completes
        // into one of twice its size.
        for _ in 0..self.size.trailing_ones() {
            let left = self
                .hashes
                .pop()
                .expect("one hash for each bit of the size");
            node = node_hash(left, node);
        }
        self.hashes.push(node);
        self.size += 1;
    }

    /// The root of the tree; of the empty tree, SHA-256 of nothing.
    pub fn root(&self) -> Hash {
        let mut from_the_right = self.hashes.iter().rev().copied();
        match from_the_right.next() {
            Some(smallest) => from_the_right.fold(smallest, |right, left| node_hash(left, right)),
            None => tlog::EMPTY_HASH.0,
        }
    }

    /// The hashes one after the other, largest subtree first, as the head row keeps them.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.concat()
    }

    /// Reads what [`Frontier::to_bytes`] wrote for a tree of `size` leaves.
    ///
    /// # Errors
    /// When there are more or fewer hashes than a tree of that size has.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, MalformedFrontier> {
        let expected = size.count_ones();
        if bytes.len() != expected as usize * 32 {
            return Err(MalformedFrontier {
                size,
                expected,
                found: bytes.len(),
            });
        }
        let (hashes, _) = bytes.as_chunks::<32>();
        Ok(Self {
            size,
            hashes: hashes.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962's definition, word for word, which shares nothing with the frontier.
    fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => tlog::EMPTY_HASH.0,
            1 => leaves[0],
            size => {
                let split = size.next_power_of_two() / 2;
                node_hash(
                    root_by_definition(&leaves[..split]),
                    root_by_definition(&leaves[split..]),
                )
            }
        }
    }

    #[test]
    fn the_root_is_that_of_the_definition_at_every_size() {
        let mut frontier = Frontier::default();
        let mut leaves = Vec::new();
        for number in 0u32..300 {
            assert_eq!(frontier.root(), root_by_definition(&leaves));
            let read = Frontier::from_bytes(frontier.size(), &frontier.to_bytes());
            assert_eq!(read.as_ref(), Ok(&frontier));
            let leaf = leaf_hash(&number.to_be_bytes());
            leaves.push(leaf);
            frontier.push(leaf);
        }
    }

    #[test]
    fn the_root_is_that_of_an_independent_library() {
        use ct_merkle::mem_backed_tree::MemoryBackedTree;
        let mut frontier = Frontier::default();
        let mut independent: MemoryBackedTree<sha2::Sha256, Vec<u8>> = MemoryBackedTree::new();
        for number in 0u32..100 {
            let entry = number.to_be_bytes().to_vec();
            frontier.push(leaf_hash(&entry));
            independent.push(entry);
            let root = independent.root();
            assert_eq!(frontier.root().as_slice(), root.as_bytes().as_slice());
        }
    }

    #[test]
    fn a_frontier_of_the_wrong_length_is_refused() {
        assert!(Frontier::from_bytes(3, &[0; 32]).is_err());
        assert!(Frontier::from_bytes(0, &[]).is_ok());
    }
}
