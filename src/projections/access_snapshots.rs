//! Access as the first events of a stream left it, kept every so many of them: a report of a moment
//! goes on from the newest that is not behind it, so that it does not matter how long the stream is.
//!
//! Only saves time, and is never believed unread: each is signed with the installation's own key
//! (HMAC-SHA256, RFC 2104), so that whoever can write to the store, and no more, changes no report.
//! One that was changed is passed over, and what it stands for is folded from the one before.
//!
//! Never goes along with a move or a backup: it is made again where it is wanted.

use subtle::ConstantTimeEq;

use super::access::AccessFold;
use crate::journal::{
    StoredEvent,
    entry::DecodeError,
    sealing::Keyring,
    stores::{Statement, Store, StoreError},
};

/// What the signatures are for, among all that the key signs.
const PURPOSE: &str = "access snapshot";

/// The fold of a stream up to one of its events, or of none of them.
#[derive(Debug, Default, PartialEq)]
pub struct AccessSnapshot {
    /// Of the last event in it; 0 where there is none.
    pub sequence: u64,
    pub position: u64,
    pub fold: AccessFold,
}

impl AccessSnapshot {
    /// With the next events of the stream, in order.
    ///
    /// # Errors
    /// When one cannot be read by this version.
    pub fn followed_by(mut self, events: &[StoredEvent]) -> Result<Self, DecodeError> {
        for event in events {
            self.fold.take(&event.decode()?);
        }
        self.fold.forget_what_ended();
        if let Some(last) = events.last() {
            (self.sequence, self.position) = (last.sequence, last.position);
        }
        Ok(self)
    }
}

const NEWEST: &str = "
SELECT position, sequence, payload, hmac
  FROM access_snapshots
 WHERE aggregate_type = $1 AND aggregate_id = $2 AND fold_version = $3 AND position <= $4
 ORDER BY position DESC
 LIMIT 1";

const KEEP: &str = "
INSERT INTO access_snapshots
       (aggregate_type, aggregate_id, fold_version, position, sequence, payload, hmac)
VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (aggregate_type, aggregate_id, fold_version, position) DO UPDATE
       SET sequence = excluded.sequence, payload = excluded.payload, hmac = excluded.hmac";

/// What older folds have left of the stream.
const FORGET: &str = "
DELETE FROM access_snapshots
 WHERE aggregate_type = $1 AND aggregate_id = $2 AND fold_version < $3";

/// The newest of a stream, by its type and id, that is not behind `position`; that of no event
/// where there is none.
///
/// # Errors
/// When the store cannot be read.
pub async fn newest(
    store: &dyn Store,
    keyring: &Keyring,
    stream: (&str, &str),
    position: u64,
) -> Result<AccessSnapshot, StoreError> {
    let mut before = position;
    loop {
        let parameters = vec![
            stream.0.into(),
            stream.1.into(),
            AccessFold::VERSION.into(),
            before.into(),
        ];
        let rows = store.query(NEWEST, parameters).await?;
        let Some(row) = rows.first() else {
            return Ok(AccessSnapshot::default());
        };
        let (position, sequence, payload) = (row.count(0)?, row.count(1)?, row.text(2)?);
        let signed = signature(keyring, stream, (position, sequence), payload);
        let fold = match bool::from(signed[..].ct_eq(row.bytes(3)?)) {
            true => serde_json::from_str(payload).map_err(|error| error.to_string()),
            false => Err("it was changed".to_owned()),
        };
        match fold {
            Ok(fold) => {
                return Ok(AccessSnapshot {
                    sequence,
                    position,
                    fold,
                });
            }
            Err(error) => {
                tracing::warn!(stream = %stream.1, position, %error, "access snapshot passed over");
                before = position - 1;
            }
        }
    }
}

/// Keeps one of a stream, in the place of what is there of the same position.
///
/// # Errors
/// When the store cannot be written.
pub async fn keep(
    store: &dyn Store,
    keyring: &Keyring,
    stream: (&str, &str),
    snapshot: &AccessSnapshot,
) -> Result<(), StoreError> {
    let payload = serde_json::to_string(&snapshot.fold)
        .map_err(|error| StoreError::Row(format!("access cannot be written down: {error}")))?;
    let place = (snapshot.position, snapshot.sequence);
    let signature = signature(keyring, stream, place, &payload);
    let (kind, id, version) = (stream.0, stream.1, AccessFold::VERSION);
    let forget = Statement::new(FORGET, [kind.into(), id.into(), version.into()]);
    let keep = Statement::new(
        KEEP,
        [
            kind.into(),
            id.into(),
            version.into(),
            snapshot.position.into(),
            snapshot.sequence.into(),
            payload.into(),
            signature.to_vec().into(),
        ],
    );
    store.execute(vec![forget, keep]).await.map(drop)
}

/// Of everything that a row says.
fn signature(
    keyring: &Keyring,
    (kind, id): (&str, &str),
    (position, sequence): (u64, u64),
    payload: &str,
) -> [u8; 32] {
    let version = AccessFold::VERSION;
    let signed = format!("{kind} {id} {version} {position} {sequence}\n{payload}");
    keyring.hmac(PURPOSE, signed.as_bytes())
}
