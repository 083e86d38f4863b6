//! Proving a password, and choosing another.
//!
//! What a password proves holds only as long as it is the present one: who has proved it says so
//! again inside the append ([`Proven::holds`]), so that nothing begins on a password that was
//! changed meanwhile.

use std::sync::Arc;

use futures::FutureExt;
use secrecy::SecretString;

use super::{
    Caller, Request, Service, ServiceError, Written,
    passwords::is_weak,
    sessions::end_token,
    write::{Composed, Made, Sender},
};
use crate::{
    domain::{
        Refusal,
        ids::UserId,
        user::{User, UserCommand},
    },
    journal::{Desk, StreamRef, stores::Statement},
};

/// What is to become of a password.
#[derive(Debug, Clone)]
pub struct PasswordChange {
    /// The present one, which proves that it is them.
    pub current: SecretString,
    pub new: SecretString,
}

const SELECT_PASSWORD: &str = "
SELECT hash, sequence
  FROM passwords
 WHERE user_id = $1";

const SET_PASSWORD: &str = "
UPDATE passwords
   SET hash = $1, changed_at = $2, sequence = $3
 WHERE user_id = $4";

/// The same password, hashed at a higher cost.
const STRENGTHEN_PASSWORD: &str = "
UPDATE passwords
   SET hash = $1
 WHERE user_id = $2 AND sequence = $3";

/// That somebody has given their password.
#[derive(Debug, Clone)]
pub(super) struct Proven {
    pub user: UserId,
    /// Of the event that set the password.
    sequence: u64,
    /// A hash of more than the stored one costs, where that is weak.
    stronger: Option<Arc<str>>,
}

impl Proven {
    /// That it is still the present one; the last word on it.
    pub(super) fn holds(&self, desk: &mut Desk<'_>, account: &StreamRef) -> Result<(), Refusal> {
        desk.read::<User>(account).password_is_of(self.sequence)?;
        if let Some(hash) = &self.stronger {
            let parameters = [
                (**hash).into(),
                self.user.to_string().into(),
                self.sequence.into(),
            ];
            desk.write_beside(Statement::new(STRENGTHEN_PASSWORD, parameters));
        }
        Ok(())
    }
}

impl Service {
    /// Tries a password for an address, found by `lookup`, whose account may be nobody's. None
    /// where it is wrong, which then counts.
    ///
    /// # Errors
    /// [`ServiceError::TooManyAttempts`] after too many wrong ones;
    /// [`ServiceError::Overloaded`] when too many are being tried.
    pub(super) async fn prove_password(
        &self,
        request: &Request,
        lookup: &str,
        user: Option<UserId>,
        password: SecretString,
    ) -> Result<Option<Proven>, ServiceError> {
        let attempt = self.passwords.attempt(lookup, request.ip)?;
        let known = self.password_of(user).await?;
        let hash = known.as_ref().map(|(hash, _)| hash.clone());
        let is_right = self.passwords.verify(password.clone(), hash).await?;
        let (Some(user), Some((hash, sequence)), true) = (user, known, is_right) else {
            attempt.wrong();
            return Ok(None);
        };
        attempt.right();
        // Where there is no room for it, the next time will do.
        let stronger = match is_weak(&hash) {
            true => self.passwords.hash(password).await.ok().map(Into::into),
            false => None,
        };
        Ok(Some(Proven {
            user,
            sequence,
            stronger,
        }))
    }

    /// A stored hash, with the sequence of the event that set it. Nobody's takes as long to be
    /// looked for.
    async fn password_of(
        &self,
        user: Option<UserId>,
    ) -> Result<Option<(String, u64)>, ServiceError> {
        let user = user.unwrap_or_else(|| UserId::from_uuid(self.source().uuid()));
        let parameters = vec![user.to_string().into()];
        let rows = self
            .journal
            .store()
            .query(SELECT_PASSWORD, parameters)
            .await?;
        let kept = rows
            .first()
            .map(|row| Ok((row.text(0)?.to_owned(), row.count(1)?)));
        kept.transpose()
    }

    /// The same of somebody who is signed in: wrong ones count as failed sign-ins do.
    pub(super) async fn prove_own_password(
        &self,
        request: &Request,
        caller: &Caller,
        password: SecretString,
    ) -> Result<Option<Proven>, ServiceError> {
        let lookup = self.subjects.lookup_of_account(caller.user).await?;
        let lookup = lookup.ok_or(ServiceError::Unauthenticated)?;
        self.prove_password(request, &lookup, Some(caller.user), password)
            .await
    }

    /// Gives the caller another password, and ends every session of theirs but the one that
    /// asks.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`] when the present one is another, in the same time;
    /// [`ServiceError::TooManyAttempts`] after too many of them.
    pub async fn change_password(
        &self,
        request: &Request,
        caller: &Caller,
        change: PasswordChange,
    ) -> Result<Written<()>, ServiceError> {
        let sender = Sender::Person(caller.clone());
        // A repetition brings what was the present one the first time.
        if let Some(receipt) = self.answered_before(&sender, request).await? {
            return Ok(Written::of(&receipt, ()));
        }
        let proven = self
            .prove_own_password(request, caller, change.current)
            .await?;
        // Worked out before a wrong one is told of, so that it takes as long.
        let hash = self.passwords.hash(change.new).await?;
        let proven = proven.ok_or(Refusal::WrongPassword)?;
        let receipt = self
            .submit(&sender, request, None, || {
                self.compose_password(request, caller, &proven, &hash)
                    .boxed()
            })
            .await?;
        Ok(Written::of(&receipt, ()))
    }

    async fn compose_password(
        &self,
        request: &Request,
        caller: &Caller,
        proven: &Proven,
        hash: &str,
    ) -> Result<Composed, ServiceError> {
        let (caller, stream) = (caller.clone(), caller.stream());
        let (proven, hash) = (proven.clone(), hash.to_owned());
        Ok(Composed {
            lane: caller.user.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: self.origin(&caller, request, None, None).await?,
            decide: Box::new(move |desk| {
                caller.is_live(desk)?;
                proven.holds(desk, &stream)?;
                let now = desk.now();
                let account = desk.read::<User>(&stream);
                let ended = account.other_sessions(caller.session, now);
                let sequence = desk.sequence(&stream) + 1;
                let session = caller.session;
                desk.execute::<User>(&stream, UserCommand::ChangePassword { session }, &[])?;
                let parameters = [
                    hash.as_str().into(),
                    now.0.into(),
                    sequence.into(),
                    caller.user.to_string().into(),
                ];
                desk.write_beside(Statement::new(SET_PASSWORD, parameters));
                for session in ended {
                    desk.write_beside(end_token(session));
                }
                Ok(Made::Nothing.outcome(204))
            }),
        })
    }
}
