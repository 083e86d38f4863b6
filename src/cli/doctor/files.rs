//! The data folder: who can read it, and how much room it has.

use std::{fs::Metadata, os::unix::fs::PermissionsExt, path::Path};

use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::cli::{Place, root_key};

/// Of the embedded store; beside the root key, all that there is.
const FILES: [&str; 4] = [
    "crewlog.sqlite",
    "crewlog.sqlite-wal",
    "crewlog.sqlite-shm",
    "writer.lock",
];

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o777
}

/// Files that others can read or write who should not.
pub fn modes(place: &Place) -> Vec<Finding> {
    let folder = place.folder();
    let Ok(of_folder) = std::fs::metadata(folder) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let key = folder.join(root_key::FILE);
    // Its key is refused by every command, wherever it lies.
    findings.extend(exposed(&key, 0o077));
    // What lies in a folder that nobody can enter is nobody else's to read.
    if mode(&of_folder) & 0o011 != 0 {
        findings.extend(
            FILES
                .iter()
                .filter_map(|name| exposed(&folder.join(name), 0o007)),
        );
    }
    if mode(&of_folder) & 0o002 != 0 {
        findings.push(finding(folder, mode(&of_folder), "700"));
    }
    findings
}

fn exposed(file: &Path, forbidden: u32) -> Option<Finding> {
    let found = mode(&std::fs::metadata(file).ok()?);
    (found & forbidden != 0).then(|| finding(file, found, "600"))
}

fn finding(path: &Path, found: u32, wanted: &str) -> Finding {
    let shown = path.display();
    Finding::new(
        "file_modes",
        format!("{shown} can be read or written by others (mode {found:04o})"),
        format!("run `chmod {wanted} {shown}`"),
    )
}

/// A disk with the data folder that is nearly full. Of a database elsewhere nothing can be seen
/// from here.
pub fn disk(place: &Place, percent_min: u8) -> Option<Finding> {
    let folder = place.folder();
    let disk = statvfs(folder).ok()?;
    let (free, all) = (disk.blocks_available(), disk.blocks());
    // As wide as it takes, whatever the platform counts in.
    #[allow(clippy::useless_conversion, reason = "blocks are narrower elsewhere")]
    let (free, all) = (u128::from(free), u128::from(all));
    let is_nearly_full = free * 100 < all * u128::from(percent_min);
    let megabytes = free * u128::from(disk.fragment_size()) / 1_000_000;
    is_nearly_full.then(|| {
        Finding::new(
            "disk_nearly_full",
            format!(
                "the disk with {} has {megabytes} MB left, less than {percent_min} % of it",
                folder.display()
            ),
            "make room, or move the data folder to a larger disk while the server is stopped: on \
             a full disk nothing can be written, and callers are told 503",
        )
    })
}
