//! Why the log can be believed: the Merkle tree over its entries, what is signed about it, and
//! how both are verified with no server.
//!
//! Pure: reads nothing and writes nothing, knows no clock and draws nothing at random. What keeps
//! tiles and keys is [`crate::service`].

pub mod note;
pub mod tiles;
pub mod tree;
