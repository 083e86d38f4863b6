//! Directories of the tests, all under one directory of this process, which is removed at the end.
//!
//! A process that is killed leaves its directory behind. Each holds a lock file, locked while its
//! process lives, so the next run knows which are abandoned and removes them. (A lock and not a
//! process id: ids are reused, and differ between containers that share a temporary directory.)

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::unistd::Uid;
use tempfile::TempDir;

use super::postgres;

const PREFIX: &str = "crewlog-it-";
const LOCK: &str = "in_use";

struct Root {
    path: PathBuf,
    /// Locked while the process lives; the kernel unlocks it when it dies.
    _lock: File,
}

static ROOT: OnceLock<Root> = OnceLock::new();

/// A new empty directory, readable by us alone, removed when dropped.
pub fn directory(label: &str) -> TempDir {
    let root = ROOT.get_or_init(|| {
        sweep(&std::env::temp_dir());
        Root::create().expect("a directory for the tests, under the temporary directory")
    });
    tempfile::Builder::new()
        .prefix(&format!("{label}-"))
        .tempdir_in(&root.path)
        .expect("a directory for a test")
}

/// Removes everything; for the end of the process.
pub fn remove() {
    if let Some(root) = ROOT.get()
        && let Err(error) = fs::remove_dir_all(&root.path)
    {
        eprintln!("could not remove {}: {error}", root.path.display());
    }
}

impl Root {
    fn create() -> io::Result<Self> {
        // Under another name until it is locked, so that no other run takes it for abandoned.
        let unlocked = tempfile::Builder::new()
            .prefix("new-crewlog-it-")
            .tempdir()?;
        let lock = File::create_new(unlocked.path().join(LOCK))?;
        lock.lock()?;
        // PostgreSQL passes through under another user, but sees nothing on its way.
        fs::set_permissions(unlocked.path(), Permissions::from_mode(0o711))?;
        let name = format!("{PREFIX}{:08x}", rand::random::<u32>());
        let path = unlocked.path().with_file_name(name);
        fs::rename(unlocked.keep(), &path)?;
        Ok(Self { path, _lock: lock })
    }
}

/// Removes what processes of this user left behind. What cannot be removed stays: it is in
/// nobody's way.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry
                .metadata()
                .is_ok_and(|found| found.is_dir() && found.uid() == Uid::effective().as_raw());
        if ours {
            let _ = remove_if_abandoned(&entry.path());
        }
    }
}

fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    let lock = File::open(path.join(LOCK))?;
    if lock.try_lock().is_err() {
        return Ok(()); // its process lives
    }
    for entry in fs::read_dir(path)?.flatten() {
        postgres::stop_abandoned(&entry.path());
    }
    fs::remove_dir_all(path)
}
