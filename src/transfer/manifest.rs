//! What stands beside a backup: what it is of, how far it goes, and what its files must be.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::journal::beside;

/// The form of this file that this version writes.
const FORMAT: u32 = 1;
/// Its name in a backup's folder.
pub(super) const FILE: &str = "manifest.json";
/// Bytes that are hashed at once.
const CHUNK: usize = 1 << 20;

/// Why a backup cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{path} cannot be read ({error}); is this the folder of a backup?")]
    Unreadable { path: String, error: io::Error },
    #[error("{0} is not the manifest of a backup, or was cut or changed")]
    Malformed(String),
    #[error("the backup was made in form {found} and this version reads {FORMAT}; use a newer one")]
    Newer { found: u32 },
    #[error("the backup was changed or cut: {file} {what}")]
    Changed { file: String, what: String },
}

impl ManifestError {
    /// Whether the backup is not what was written.
    pub fn is_difference(&self) -> bool {
        match self {
            Self::Malformed(_) | Self::Changed { .. } => true,
            Self::Unreadable { .. } | Self::Newer { .. } => false,
        }
    }
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    pub size: u64,
    /// In hexadecimal digits.
    pub sha256: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    /// Tells one backup from another.
    pub id: String,
    pub made_at: String,
    /// Of the program that made it.
    pub version: String,
    /// The kind of store that it was made of.
    pub store: String,
    /// The newest migration of its tables.
    pub schema: i64,
    /// The leaf of the first entry, in base64; no other log has it.
    pub log: Option<String>,
    pub position: u64,
    /// Of the tree over all entries, in base64.
    pub root: String,
    /// Rows by table.
    pub rows: BTreeMap<String, u64>,
    /// The store's file.
    pub file: FileDigest,
    /// The file of its keys, wherever that is kept.
    pub keys: FileDigest,
    /// SHA-256 over all of this, with nothing here.
    #[serde(default)]
    pub digest: String,
}

impl Manifest {
    /// With its form and digest.
    pub(super) fn finished(mut self) -> Self {
        self.format = FORMAT;
        self.digest = self.own_digest();
        self
    }

    fn own_digest(&self) -> String {
        let undigested = Self {
            digest: String::new(),
            ..self.clone()
        };
        // Strings and numbers always are JSON.
        hex(&Sha256::digest(undigested.text().as_bytes()))
    }

    /// As it is written.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads that of a backup's folder.
    ///
    /// # Errors
    /// When it is not there, or not as it was written.
    pub fn read(folder: &Path) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let path = folder.join(FILE);
        let shown = || path.display().to_string();
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| ManifestError::Unreadable {
            path: shown(),
            error,
        })?;
        let malformed = |_| ManifestError::Malformed(shown());
        let form: Form = serde_json::from_str(&text).map_err(malformed)?;
        if form.format > FORMAT {
            return Err(ManifestError::Newer { found: form.format });
        }
        let manifest: Self = serde_json::from_str(&text).map_err(malformed)?;
        match manifest.digest == manifest.own_digest() {
            true => Ok(manifest),
            false => Err(ManifestError::Malformed(shown())),
        }
    }
}

impl FileDigest {
    /// Of a file as it is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn of(path: &Path, told: impl FnMut(u64, u64) + Send) -> io::Result<Self> {
        let (path, mut told) = (path.to_owned(), told);
        let (sender, mut read) = tokio::sync::mpsc::channel(4);
        let hashing = tokio::spawn(beside(move || hash(&path, &sender)));
        while let Some((done, of)) = read.recv().await {
            told(done, of);
        }
        hashing.await.map_err(io::Error::other)?
    }

    /// That a file is what it must be.
    ///
    /// # Errors
    /// When it is not, or cannot be read.
    pub(super) async fn holds_of(
        &self,
        path: &Path,
        told: impl FnMut(u64, u64) + Send,
    ) -> Result<(), ManifestError> {
        let file = path.file_name().unwrap_or_default();
        let changed = |what: String| ManifestError::Changed {
            file: file.to_string_lossy().into_owned(),
            what,
        };
        let unreadable = |error| ManifestError::Unreadable {
            path: path.display().to_string(),
            error,
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size != self.size {
            return Err(changed(format!(
                "has {size} bytes, and had {} when it was made",
                self.size
            )));
        }
        let found = Self::of(path, told).await.map_err(unreadable)?;
        match found == *self {
            true => Ok(()),
            false => Err(changed("has not the digest that it had".to_owned())),
        }
    }
}

fn hash(path: &Path, told: &tokio::sync::mpsc::Sender<(u64, u64)>) -> io::Result<FileDigest> {
    let mut file = File::open(path)?;
    let of = file.metadata()?.len();
    let mut digest = Sha256::new();
    let (mut size, mut chunk) = (0, vec![0; CHUNK]);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        digest.update(&chunk[..read]);
        size += read as u64;
        // Who does not listen misses a number.
        let _ = told.try_send((size, of));
    }
    Ok(FileDigest {
        size,
        sha256: hex(&digest.finalize()),
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let digest = || FileDigest {
            size: 3,
            sha256: hex(&Sha256::digest(b"abc")),
        };
        Manifest {
            format: 0,
            id: "backup-1".to_owned(),
            made_at: "2026-01-05T09:00:00Z".to_owned(),
            version: "0.1.0".to_owned(),
            store: "sqlite".to_owned(),
            schema: 30,
            log: None,
            position: 7,
            root: "cm9vdA==".to_owned(),
            rows: BTreeMap::from([("events".to_owned(), 7)]),
            file: digest(),
            keys: digest(),
            digest: String::new(),
        }
    }

    #[test]
    fn a_changed_manifest_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let written = manifest().finished();
        std::fs::write(&file, written.text()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), written);
        for (from, to) in [
            ("\"position\": 7", "\"position\": 8"),
            ("\"size\": 3", "\"size\": 4"),
        ] {
            let changed = written.text().replace(from, to);
            assert_ne!(changed, written.text());
            std::fs::write(&file, changed).unwrap();
            let error = Manifest::read(folder.path()).unwrap_err();
            assert!(error.is_difference(), "{error}");
        }
        std::fs::write(&file, &written.text()[..40]).unwrap();
        assert!(Manifest::read(folder.path()).unwrap_err().is_difference());
    }

    #[tokio::test]
    async fn a_changed_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "abc").unwrap();
        let digest = manifest().file;
        assert!(digest.holds_of(&file, |_, _| {}).await.is_ok());
        for changed in ["abd", "ab", "abcd"] {
            std::fs::write(&file, changed).unwrap();
            let error = digest.holds_of(&file, |_, _| {}).await.unwrap_err();
            assert!(error.is_difference(), "{error}");
        }
    }
}
