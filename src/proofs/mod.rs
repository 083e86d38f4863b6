//! Why the log can be believed: the Merkle tree over its entries.
//!
//! Pure arithmetic over hashes; reads nothing and writes nothing. Checkpoints, proofs and
//! offline verification are built on [`tree`].

pub mod tree;
