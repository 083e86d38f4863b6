//! Contents: kept once a workspace, sealed under its key, named by their digest.
//!
//! One is staged before the append that names it, and pinned by that append. What was staged and
//! never pinned, as its process died or its command was refused, is collected after a while; a
//! command that is decided too long after its staging stages again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::{Service, ServiceError};
use crate::{
    domain::{
        Timestamp,
        contents::{Content, Digest},
        ids::WorkspaceId,
        sealed::KeyOwner,
    },
    journal::{
        Desk, Rejection, beside,
        sealing::{DataKey, Keyring},
        stores::{Statement, Store, StoreError, Value, padded},
    },
};

/// How long what nothing has pinned is kept.
const STAGED_FOR: chrono::TimeDelta = chrono::TimeDelta::hours(2);
/// How long after its staging a content can be pinned: well before it may be collected.
const PINNED_WITHIN: chrono::TimeDelta = chrono::TimeDelta::hours(1);
/// How many contents are staged, and read, at once.
const CONTENTS_AT_ONCE: usize = 64;
/// How many contents one statement pins.
const PINNED_AT_ONCE: usize = 512;
/// How many contents are looked at at once when they are verified.
const VERIFIED_AT_ONCE: usize = 64;

const STAGE: &str = "
INSERT INTO blobs (workspace, digest, size, key_version, sealed, staged_at)
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (workspace, digest) DO UPDATE SET staged_at = excluded.staged_at";

const RESTAGE: &str = "
UPDATE blobs
   SET staged_at = $1
 WHERE workspace = $2 AND digest = $3";

const PIN: &str = "
UPDATE blobs
   SET pinned = 1
 WHERE workspace = $1 AND digest = $2 AND pinned = 0";

const SELECT: &str = "
SELECT key_version, sealed
  FROM blobs
 WHERE workspace = $1 AND digest = $2";

const COLLECT: &str = "
DELETE FROM blobs
 WHERE pinned = 0 AND staged_at <= $1";

/// A content that is there, to be pinned.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub content: Content,
    workspace: WorkspaceId,
    staged_at: Timestamp,
}

impl Staged {
    /// Pins it with the batch that is being decided.
    pub(super) fn pin(&self, desk: &mut Desk<'_>) -> Result<(), Rejection> {
        if desk.now() > self.staged_at.plus(PINNED_WITHIN) {
            return Err(Rejection::Recompose);
        }
        let parameters = at(self.workspace, self.content.digest);
        desk.write_beside(Statement::new(PIN, parameters));
        Ok(())
    }
}

/// Pins several of one workspace, with few statements.
pub(super) fn pin_all(staged: &[Staged], desk: &mut Desk<'_>) -> Result<(), Rejection> {
    let is_late = |staged: &Staged| desk.now() > staged.staged_at.plus(PINNED_WITHIN);
    if staged.iter().any(is_late) {
        return Err(Rejection::Recompose);
    }
    for some in staged.chunks(PINNED_AT_ONCE) {
        let digests: Vec<_> = some.iter().map(|staged| staged.content.digest).collect();
        let (wanted, values) = wanted(&digests);
        let sql = format!(
            "UPDATE blobs SET pinned = 1
              WHERE workspace = $1 AND pinned = 0 AND digest IN ({wanted})"
        );
        let mut parameters: Vec<Value> = vec![some[0].workspace.to_string().into()];
        parameters.extend(values);
        desk.write_beside(Statement::new(sql, parameters));
    }
    Ok(())
}

/// Which of these contents a workspace has.
async fn present(
    store: &dyn Store,
    workspace: &str,
    digests: &[Digest],
) -> Result<BTreeSet<Digest>, StoreError> {
    let (wanted, values) = wanted(digests);
    let sql = format!("SELECT digest FROM blobs WHERE workspace = $1 AND digest IN ({wanted})");
    let mut parameters: Vec<Value> = vec![workspace.into()];
    parameters.extend(values);
    let rows = store.query(&sql, parameters).await?;
    rows.iter().map(|row| Ok(Digest(row.hash(0)?))).collect()
}

/// The rows of some digests, from the second parameter on. Not a list: in a plan for all parameters
/// PostgreSQL would look none of a list up, but compare each of the workspace's with all of it.
fn wanted(digests: &[Digest]) -> (String, Vec<Value>) {
    let values: Vec<Value> = digests.iter().map(|it| it.0.as_slice().into()).collect();
    let (placeholders, values) = padded(&values, 2);
    let rows = placeholders.replace(", ", "), (");
    (format!("VALUES ({rows})"), values)
}

fn at(workspace: WorkspaceId, digest: Digest) -> [Value; 2] {
    [workspace.to_string().into(), digest.0.as_slice().into()]
}

/// What a sealed content is bound to: it opens nowhere else.
fn bound_to(workspace: &str, digest: Digest) -> String {
    format!("blob {workspace} {digest}")
}

/// A content as it is kept, to be opened where that may take its time.
pub(super) struct SealedContent {
    pub digest: Digest,
    bound_to: String,
    key: Arc<DataKey>,
    sealed: Vec<u8>,
}

impl SealedContent {
    /// What it says.
    pub(super) fn open(&self) -> Result<String, ServiceError> {
        let damaged = || ServiceError::Internal(format!("the content {} was changed", self.digest));
        let opened = self.key.open_bytes(&self.bound_to, &self.sealed);
        let opened = opened.map_err(|_| damaged())?;
        String::from_utf8(opened.to_vec()).map_err(|_| damaged())
    }
}

impl Service {
    /// Keeps a content until it is pinned or collected.
    pub(super) async fn stage(
        &self,
        workspace: WorkspaceId,
        text: &str,
    ) -> Result<Staged, ServiceError> {
        let content = Content::of(text);
        let staged_at = self.source().now();
        let store = self.journal.store();
        let staged = Staged {
            content,
            workspace,
            staged_at,
        };
        let [place, digest] = at(workspace, content.digest);
        // Mostly it is there already: nothing is sealed and sent again.
        let again = Statement::new(RESTAGE, [staged_at.0.into(), place.clone(), digest.clone()]);
        if store.execute(vec![again]).await?.first() == Some(&1) {
            return Ok(staged);
        }
        let key = self.workspace_key(workspace).await?;
        let bound = bound_to(&workspace.to_string(), content.digest);
        let sealed = key.seal_bytes(self.source(), &bound, text.as_bytes());
        let parameters: [Value; 6] = [
            place,
            digest,
            content.size.into(),
            i64::from(key.version()).into(),
            sealed.into(),
            staged_at.0.into(),
        ];
        store
            .execute(vec![Statement::new(STAGE, parameters)])
            .await?;
        Ok(staged)
    }

    /// Keeps several contents until they are pinned or collected.
    pub(super) async fn stage_all(
        &self,
        workspace: WorkspaceId,
        texts: &[&str],
    ) -> Result<Vec<Staged>, ServiceError> {
        let staged_at = self.source().now();
        let key = self.workspace_key(workspace).await?;
        let (store, place) = (self.journal.store(), workspace.to_string());
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(CONTENTS_AT_ONCE) {
            let contents: Vec<_> = texts.iter().map(|text| Content::of(text)).collect();
            let digests: Vec<_> = contents.iter().map(|content| content.digest).collect();
            let there = present(&**store, &place, &digests).await?;
            let mut statements = Vec::with_capacity(texts.len());
            for (content, text) in contents.iter().zip(texts) {
                let [place, digest] = at(workspace, content.digest);
                if there.contains(&content.digest) {
                    // Nothing is sealed and sent again.
                    let parameters = [staged_at.0.into(), place, digest];
                    statements.push(Statement::new(RESTAGE, parameters));
                    continue;
                }
                let bound = bound_to(&workspace.to_string(), content.digest);
                let sealed = key.seal_bytes(self.source(), &bound, text.as_bytes());
                let parameters: [Value; 6] = [
                    place,
                    digest,
                    content.size.into(),
                    i64::from(key.version()).into(),
                    sealed.into(),
                    staged_at.0.into(),
                ];
                statements.push(Statement::new(STAGE, parameters));
            }
            store.execute(statements).await?;
            all.extend(contents.into_iter().map(|content| Staged {
                content,
                workspace,
                staged_at,
            }));
        }
        Ok(all)
    }

    /// What several contents say, in their order: read, opened and told apart from what it costs
    /// one by one.
    pub(super) async fn contents_of(
        &self,
        workspace: WorkspaceId,
        contents: &[Content],
    ) -> Result<Vec<String>, ServiceError> {
        let (store, place) = (self.journal.store(), workspace.to_string());
        let digests: Vec<_> = contents.iter().map(|content| content.digest).collect();
        let mut found: BTreeMap<Digest, Kept> = BTreeMap::new();
        for digests in digests.chunks(CONTENTS_AT_ONCE) {
            let rows = kept(&**store, &place, digests).await?;
            found.extend(rows.into_iter().map(|((_, digest), kept)| (digest, kept)));
        }
        let mut keys = BTreeMap::new();
        let versions: BTreeSet<u32> = found.values().map(|kept| kept.key_version).collect();
        for version in versions {
            let owner = KeyOwner::Workspace(workspace);
            keys.insert(version, self.keyring.key(owner, version).await?);
        }
        let opened = beside(move || {
            let open = |digest: &Digest| {
                let kept = found.get(digest).ok_or((*digest, "is missing"))?;
                let key = keys.get(&kept.key_version).cloned().flatten();
                let key = key.ok_or((*digest, "has no key"))?;
                let opened = key.open_bytes(&bound_to(&place, *digest), &kept.sealed);
                let opened = opened.map_err(|_| (*digest, "was changed"))?;
                String::from_utf8(opened.to_vec()).map_err(|_| (*digest, "is no text"))
            };
            digests.iter().map(open).collect::<Result<Vec<_>, _>>()
        });
        opened.await.map_err(|(digest, what)| {
            ServiceError::Internal(format!("the content {digest} of {workspace} {what}"))
        })
    }

    /// What a content says.
    pub(super) async fn content(
        &self,
        workspace: WorkspaceId,
        content: Content,
    ) -> Result<String, ServiceError> {
        let damaged = |what: &str| {
            let digest = content.digest;
            ServiceError::Internal(format!("the content {digest} of {workspace} {what}"))
        };
        let parameters = at(workspace, content.digest).to_vec();
        let rows = self.journal.store().query(SELECT, parameters).await?;
        let row = rows.first().ok_or_else(|| damaged("is missing"))?;
        let version = u32::try_from(row.integer(0)?).map_err(|_| damaged("has no key"))?;
        let owner = KeyOwner::Workspace(workspace);
        let key = self.keyring.key(owner, version).await?;
        let key = key.ok_or_else(|| damaged("has no key"))?;
        let bound = bound_to(&workspace.to_string(), content.digest);
        let opened = key.open_bytes(&bound, row.bytes(1)?);
        let opened = opened.map_err(|_| damaged("was changed"))?;
        String::from_utf8(opened.to_vec()).map_err(|_| damaged("is no text"))
    }

    /// Several contents as they are kept, each that there is.
    ///
    /// # Errors
    /// When one of them is missing, or has no key.
    pub(super) async fn sealed_contents(
        &self,
        workspace: WorkspaceId,
        digests: &[Digest],
    ) -> Result<Vec<SealedContent>, ServiceError> {
        let name = workspace.to_string();
        let rows = kept(&**self.journal.store(), &name, digests).await?;
        if rows.len() != digests.len() {
            let words = format!("a content of {workspace} is missing");
            return Err(ServiceError::Internal(words));
        }
        let mut contents = Vec::with_capacity(rows.len());
        for ((_, digest), row) in rows {
            let owner = KeyOwner::Workspace(workspace);
            let key = self.keyring.key(owner, row.key_version).await?;
            let no_key = || ServiceError::Internal(format!("the content {digest} has no key"));
            contents.push(SealedContent {
                digest,
                bound_to: bound_to(&name, digest),
                key: key.ok_or_else(no_key)?,
                sealed: row.sealed,
            });
        }
        Ok(contents)
    }

    /// Collects what was staged and never pinned; due work. Answers how many.
    pub(super) async fn collect_contents(&self) -> Result<u64, ServiceError> {
        let before = self.source().now().plus(-STAGED_FOR);
        let collect = Statement::new(COLLECT, [before.0.into()]);
        let touched = self.journal.store().execute(vec![collect]).await?;
        Ok(touched.first().copied().unwrap_or(0))
    }
}

/// Every content that events name, by workspace and digest, with its size and the position of
/// the first that does.
pub(super) type Named = BTreeMap<(String, Digest), (u64, u64)>;

/// Compares the contents that a log names with those that are kept, and tells `fail` of each that
/// is not as it was; without keys, of those that are missing or of another size.
pub(super) async fn verify(
    store: &dyn Store,
    keys: Option<&Keyring>,
    named: &Named,
    mut fail: impl FnMut(u64, String),
) -> Result<(), StoreError> {
    let named: Vec<_> = named.iter().collect();
    for some in named.chunks(VERIFIED_AT_ONCE) {
        let mut by_workspace: BTreeMap<&str, Vec<Digest>> = BTreeMap::new();
        for ((workspace, digest), _) in some {
            by_workspace.entry(workspace).or_default().push(*digest);
        }
        let mut found = BTreeMap::new();
        for (workspace, digests) in by_workspace {
            found.extend(kept(store, workspace, &digests).await?);
        }
        for ((workspace, digest), (size, position)) in some {
            let row = found.remove(&(workspace.clone(), *digest));
            let wrong = match row {
                None => Some("is missing"),
                Some(row) if row.size != *size => Some("is of another size"),
                Some(row) => match keys {
                    Some(keys) => is_as_named(keys, workspace, *digest, row).await?,
                    None => None,
                },
            };
            if let Some(wrong) = wrong {
                fail(*position, format!("the content {digest} {wrong}"));
            }
        }
    }
    Ok(())
}

struct Kept {
    size: u64,
    key_version: u32,
    sealed: Vec<u8>,
}

async fn kept(
    store: &dyn Store,
    workspace: &str,
    digests: &[Digest],
) -> Result<Vec<((String, Digest), Kept)>, StoreError> {
    let (wanted, values) = wanted(digests);
    let sql = format!(
        "SELECT digest, size, key_version, sealed FROM blobs
          WHERE workspace = $1 AND digest IN ({wanted})"
    );
    let mut parameters: Vec<Value> = vec![workspace.into()];
    parameters.extend(values);
    let rows = store.query(&sql, parameters).await?;
    let row = |row: &crate::journal::stores::Row| {
        let kept = Kept {
            size: row.count(1)?,
            key_version: u32::try_from(row.integer(2)?).unwrap_or(0),
            sealed: row.bytes(3)?.to_vec(),
        };
        Ok(((workspace.to_owned(), Digest(row.hash(0)?)), kept))
    };
    rows.iter().map(row).collect()
}

/// What is wrong with a content, opened and hashed; nothing where its key was destroyed.
async fn is_as_named(
    keys: &Keyring,
    workspace: &str,
    digest: Digest,
    kept: Kept,
) -> Result<Option<&'static str>, StoreError> {
    let Ok(owner) = workspace.parse() else {
        return Ok(Some("is of no workspace"));
    };
    let Ok(key) = keys.key(owner, kept.key_version).await else {
        return Ok(Some("has a damaged key"));
    };
    let Some(key) = key else {
        return Ok(None);
    };
    let bound = bound_to(workspace, digest);
    let hashed = beside(move || {
        let opened = key.open_bytes(&bound, &kept.sealed).ok()?;
        Some(Digest(Sha256::digest(&*opened).into()))
    });
    Ok((hashed.await != Some(digest)).then_some("was changed"))
}
