//! The keys that sign checkpoints: made at the first start, rotated by a command, listed for ever.
//!
//! The newest signs until it is rotated; the one before it goes on signing for a while beside it,
//! so that whoever verifies has the time to take the new verifier. Secrets are wrapped under the
//! root key, and destroyed when they do not sign any more; verifiers stay.

use zeroize::Zeroizing;

use super::ServiceError;
use crate::{
    domain::Timestamp,
    journal::{
        sealing::{Keyring, rotation::Rotation},
        stores::{Statement, Store, StoreError},
    },
    proofs::note::{Origin, SigningKey, VerifierKey},
};

/// How long a key goes on signing after it was rotated, where nobody says otherwise.
pub const OVERLAP_DAYS: u16 = 30;

const SELECT: &str = "
SELECT verifier, created_at, signs_until
  FROM signing_keys
 ORDER BY created_at DESC, verifier";

const SELECT_SIGNING: &str = "
SELECT verifier, wrapped
  FROM signing_keys
 WHERE wrapped IS NOT NULL AND (signs_until IS NULL OR signs_until > $1)
 ORDER BY created_at DESC, verifier";

/// Only one process makes the first.
const INSERT_FIRST: &str = "
INSERT INTO signing_keys (verifier, wrapped, created_at, newest)
SELECT $1, $2, $3, 1
 WHERE NOT EXISTS (SELECT 1 FROM signing_keys)
    ON CONFLICT DO NOTHING";

const INSERT: &str = "
INSERT INTO signing_keys (verifier, wrapped, created_at, newest)
VALUES ($1, $2, $3, 1)";

const RETIRE: &str = "
UPDATE signing_keys
   SET newest = NULL, signs_until = $1
 WHERE newest = 1";

const SELECT_WRAPPED: &str = "
SELECT verifier, wrapped
  FROM signing_keys
 WHERE wrapped IS NOT NULL
 ORDER BY verifier";

const PUT_WRAPPED: &str = "
UPDATE signing_keys
   SET wrapped = $1
 WHERE verifier = $2";

const DESTROY: &str = "
UPDATE signing_keys
   SET wrapped = NULL
 WHERE wrapped IS NOT NULL AND signs_until <= $1";

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The log has another name, which everybody who verifies knows.
    #[error(
        "the log's origin is `{kept}` since its first start, and cannot become `{asked}`: whoever \
         verifies it would take it for another log; start without --log-origin"
    )]
    OtherOrigin { kept: String, asked: String },
    /// A wrapped key does not open.
    #[error("the signing key {0} does not open under the root key; the row was changed")]
    Damaged(String),
    /// There is none: the store was never served by a version that makes one.
    #[error("the store has no signing key yet; `crewlog serve` makes one")]
    Missing,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SigningError> for ServiceError {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Store(error) => error.into(),
            SigningError::OtherOrigin { .. } | SigningError::Damaged(_) | SigningError::Missing => {
                Self::Internal(error.to_string())
            }
        }
    }
}

/// A key, as everybody may know it.
#[derive(Debug, Clone)]
pub struct KnownKey {
    pub verifier: VerifierKey,
    pub created_at: Timestamp,
    /// Until when it signs; none for the newest.
    pub signs_until: Option<Timestamp>,
}

/// All keys that have ever signed, newest first.
///
/// # Errors
/// When the store cannot be read.
pub async fn known(store: &dyn Store) -> Result<Vec<KnownKey>, SigningError> {
    let rows = store.query(SELECT, vec![]).await?;
    let known = |row: &crate::journal::stores::Row| {
        let verifier = row.text(0)?;
        Ok(KnownKey {
            verifier: VerifierKey::of_log(verifier)
                .map_err(|_| SigningError::Damaged(verifier.to_owned()))?,
            created_at: Timestamp(row.integer(1)?),
            signs_until: row.optional_integer(2)?.map(Timestamp),
        })
    };
    rows.iter().map(known).collect()
}

/// The keys that sign now, newest first.
///
/// # Errors
/// When there is none, or one does not open.
pub(super) async fn signing(
    store: &dyn Store,
    keys: &Keyring,
) -> Result<Vec<SigningKey>, SigningError> {
    let now = keys.source().now();
    let rows = store.query(SELECT_SIGNING, vec![now.0.into()]).await?;
    let mut signing = Vec::with_capacity(rows.len());
    for row in &rows {
        let verifier = row.text(0)?;
        let damaged = || SigningError::Damaged(verifier.to_owned());
        let opened = keys.unwrap_secret(&bound_to(verifier), row.bytes(1)?);
        let opened = opened.map_err(|_| damaged())?;
        let seed = opened.as_slice().try_into().map_err(|_| damaged())?;
        let origin = origin_of(verifier).ok_or_else(damaged)?;
        let key = SigningKey::new(&origin, &Zeroizing::new(seed));
        if key.verifier() != verifier {
            return Err(damaged());
        }
        signing.push(key);
    }
    match signing.is_empty() {
        true => Err(SigningError::Missing),
        false => Ok(signing),
    }
}

/// Makes the first key of a log that has none; of one that has, sees to it that it is of the
/// origin that was asked for.
///
/// # Errors
/// When it is of another, or the store does not take it.
pub(super) async fn prepare(
    store: &dyn Store,
    keys: &Keyring,
    origin: Option<&Origin>,
) -> Result<(), SigningError> {
    if store.query(SELECT, vec![]).await?.is_empty() {
        let origin = origin.cloned().unwrap_or_else(|| made_up(keys));
        let insert = new_key(keys, &origin, INSERT_FIRST);
        store.execute(vec![insert]).await?;
    }
    let Some(asked) = origin else {
        return Ok(());
    };
    let kept = origin_kept(store).await?;
    match &kept == asked {
        true => Ok(()),
        false => Err(SigningError::OtherOrigin {
            kept: kept.to_string(),
            asked: asked.to_string(),
        }),
    }
}

/// Puts a new key in place of the newest, which goes on signing for a while.
///
/// # Errors
/// When there is none yet, or the store does not take it.
pub async fn rotate(
    store: &dyn Store,
    keys: &Keyring,
    overlap: chrono::TimeDelta,
) -> Result<(), SigningError> {
    let origin = origin_kept(store).await?;
    let now = keys.source().now();
    let statements = vec![
        Statement::new(RETIRE, [now.plus(overlap).0.into()]),
        new_key(keys, &origin, INSERT),
        destroy(now),
    ];
    store.execute(statements).await?;
    Ok(())
}

/// What wraps the secrets anew, under the root key that a rotation brings.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn wrapped_anew(
    store: &dyn Store,
    rotation: &mut Rotation,
) -> Result<Vec<Statement>, StoreError> {
    let rows = store.query(SELECT_WRAPPED, vec![]).await?;
    let mut statements = Vec::with_capacity(rows.len());
    for row in &rows {
        let verifier = row.text(0)?;
        let anew = rotation.secret(&bound_to(verifier), row.bytes(1)?);
        let put = |anew: Vec<u8>| Statement::new(PUT_WRAPPED, [anew.into(), verifier.into()]);
        statements.extend(anew.map(put));
    }
    Ok(statements)
}

/// Destroys the secrets of keys that do not sign any more.
pub(super) fn destroy(now: Timestamp) -> Statement {
    Statement::new(DESTROY, [now.0.into()])
}

async fn origin_kept(store: &dyn Store) -> Result<Origin, SigningError> {
    let rows = store.query(SELECT, vec![]).await?;
    let row = rows.first().ok_or(SigningError::Missing)?;
    let verifier = row.text(0)?;
    origin_of(verifier).ok_or_else(|| SigningError::Damaged(verifier.to_owned()))
}

fn origin_of(verifier: &str) -> Option<Origin> {
    let (name, _) = verifier.split_once('+')?;
    Origin::new(name).ok()
}

/// The origin of a log that was not given one: no other has the same.
fn made_up(keys: &Keyring) -> Origin {
    let mut random = [0; 8];
    keys.source().fill(&mut random);
    let name = format!("crewlog/{:016x}", u64::from_be_bytes(random));
    Origin::new(&name).expect("letters, digits and a slash")
}

fn new_key(keys: &Keyring, origin: &Origin, insert: &'static str) -> Statement {
    let mut seed = Zeroizing::new([0; 32]);
    keys.source().fill(seed.as_mut());
    let verifier = SigningKey::new(origin, &seed).verifier();
    let wrapped = keys.wrap_secret(&bound_to(&verifier), seed.as_ref());
    let created_at = keys.source().now();
    Statement::new(
        insert,
        [verifier.into(), wrapped.into(), created_at.0.into()],
    )
}

fn bound_to(verifier: &str) -> String {
    format!("signing key {verifier}")
}
