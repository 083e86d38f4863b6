//! Credentials of connections: what an integration signs in with, and what signs for a webhook
//! endpoint. Kept outside of the log, never answered again, never exported.
//!
//! Each is sealed under a key of its own, which is destroyed with it: what somebody has kept of
//! the table opens nothing any more. Rows are written and deleted by the append that says so; one
//! that lives on for a grace is deleted by due work.

use secrecy::{ExposeSecret, SecretString};

use super::{Service, crews::CrewAt};
use crate::{
    domain::{
        Timestamp,
        crew::{ConnectionId, end_of_grace},
        ids::{CredentialId, CrewId},
        sealed::KeyOwner,
    },
    journal::{
        Desk, Release,
        stores::{Statement, Value},
    },
};

const INSERT: &str = "
INSERT INTO credentials (credential, workspace, crew, connection, key_version, sealed, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)";

const LET_EXPIRE: &str = "
UPDATE credentials
   SET expires_at = $2
 WHERE connection = $1 AND expires_at IS NULL";

/// Deletes rows with the keys that they are sealed under: the keys first, by the rows.
macro_rules! destroy {
    ($rows:literal) => {
        (
            concat!(
                "
DELETE FROM subject_keys
 WHERE owner IN (SELECT credential
                   FROM credentials
                  WHERE ",
                $rows,
                ")"
            ),
            concat!(
                "
DELETE FROM credentials
 WHERE ",
                $rows
            ),
        )
    };
}

const DESTROY_OF_HOLDER: (&str, &str) = destroy!("connection = $1");
const DESTROY_OF_CREW: (&str, &str) = destroy!("crew = $1");
const DESTROY_OF_WORKSPACE: (&str, &str) = destroy!("workspace = $1");
const DESTROY_REPLACED: (&str, &str) = destroy!("connection = $1 AND expires_at IS NOT NULL");
const DESTROY_EXPIRED: (&str, &str) = destroy!("expires_at <= $1");

fn both((keys, rows): (&'static str, &'static str), of: impl Into<Value>) -> [Statement; 2] {
    let of = of.into();
    [keys, rows].map(|sql| Statement::new(sql, [of.clone()]))
}

/// What of a connection's credential a command changes.
#[derive(Debug)]
pub enum CredentialChange {
    /// It stays as it is.
    Keep,
    /// It is this one from now on.
    Set(SecretString),
    /// It has none any more.
    Remove,
}

/// A credential that is sealed, to be written by the append that says so.
#[derive(Debug, Clone)]
pub(super) struct SealedCredential {
    pub id: CredentialId,
    pub grace_seconds: u64,
    key: Statement,
    key_version: u32,
    sealed: Vec<u8>,
}

impl SealedCredential {
    /// Writes it, and ends those that the connection had before.
    pub(super) fn write(&self, desk: &mut Desk<'_>, at: CrewAt, connection: ConnectionId) {
        let (now, holder) = (desk.now(), connection.to_string());
        match end_of_grace(now, self.grace_seconds) {
            // One at most lives on: the one that this replaces.
            Some(until) => {
                both(DESTROY_REPLACED, holder.clone())
                    .into_iter()
                    .for_each(|row| desk.write_beside(row));
                let ended = [holder.into(), until.0.into()];
                desk.write_beside(Statement::new(LET_EXPIRE, ended));
            }
            None => {
                destroy(&Release::Holder(holder))
                    .into_iter()
                    .for_each(|row| desk.write_beside(row));
            }
        }
        desk.write_beside(self.key.clone());
        desk.write_beside(self.row(at, connection, now));
    }

    fn row(&self, at: CrewAt, connection: ConnectionId, now: Timestamp) -> Statement {
        let parameters: [Value; 7] = [
            self.id.to_string().into(),
            at.place.workspace.to_string().into(),
            at.crew.id.to_string().into(),
            connection.to_string().into(),
            i64::from(self.key_version).into(),
            self.sealed.clone().into(),
            now.0.into(),
        ];
        Statement::new(INSERT, parameters)
    }
}

/// What a sealed credential is bound to: it opens nowhere else.
fn bound_to(crew: CrewId, connection: ConnectionId, id: CredentialId) -> String {
    format!("credential {crew} {connection} {id}")
}

/// What destroys the credentials of whom claims are freed.
pub(super) fn destroy(of: &Release) -> [Statement; 2] {
    match of {
        Release::Holder(holder) => both(DESTROY_OF_HOLDER, holder.clone()),
        Release::Crew(crew) => both(DESTROY_OF_CREW, crew.to_string()),
        Release::Workspace(workspace) => both(DESTROY_OF_WORKSPACE, workspace.to_string()),
    }
}

/// What destroys those whose grace is over; due work.
pub(super) fn destroy_expired(now: Timestamp) -> [Statement; 2] {
    both(DESTROY_EXPIRED, now.0)
}

impl Service {
    /// Seals a credential under a key of its own.
    pub(super) fn sealed_credential(
        &self,
        crew: CrewId,
        connection: ConnectionId,
        secret: &SecretString,
        grace_seconds: u64,
    ) -> SealedCredential {
        let id = CredentialId::from_uuid(self.source().uuid());
        let (key, statement) = self.keyring.create(KeyOwner::Credential(id));
        let bound = bound_to(crew, connection, id);
        let sealed = key.seal_bytes(self.source(), &bound, secret.expose_secret().as_bytes());
        SealedCredential {
            id,
            grace_seconds,
            key: statement,
            key_version: key.version(),
            sealed,
        }
    }
}
