//! What an operator was given in a store before its server started.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What an operator works with.
#[derive(Debug)]
pub struct Operated {
    pub key: String,
    pub secret: String,
    pub organization: String,
    workspaces: Vec<(String, u64)>,
    next: AtomicUsize,
}

impl Operated {
    /// A key and its secret, an organization, and workspaces with their versions.
    pub fn new(
        (key, secret): (String, String),
        organization: String,
        workspaces: Vec<(String, u64)>,
    ) -> Self {
        Self {
            key,
            secret,
            organization,
            workspaces,
            next: AtomicUsize::new(0),
        }
    }

    /// A workspace whose owner is gone, which nobody has been given yet.
    pub fn workspace(&self) -> &str {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let (workspace, _) = self.workspaces.get(next).expect("enough workspaces");
        workspace
    }

    /// The version of a workspace.
    pub fn version_of(&self, path: &str) -> Option<u64> {
        let found = self.workspaces.iter().find(|(id, _)| path.contains(id));
        found.map(|(_, version)| *version)
    }
}
