//! Who is asking: from a session token to a person.
//!
//! This only proves who it is. What they may is decided elsewhere: for a write inside the
//! append, where the session is looked at again on the newest state.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use secrecy::SecretString;

use super::{Request, Service, ServiceError, Token, TokenKind};
use crate::{
    domain::{
        Refusal,
        ids::{SessionId, UserId},
        user::User,
    },
    journal::{Desk, StreamRef},
    projections::UserDocument,
};

/// A person with a live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    pub session: SessionId,
}

impl Caller {
    /// The stream of the person's account.
    pub(super) fn stream(&self) -> StreamRef {
        StreamRef::of::<User>(self.user, self.user)
    }

    /// That the session still lives, on the newest state; the first link of the chain.
    pub(super) fn is_live(&self, desk: &mut Desk<'_>) -> Result<(), Refusal> {
        let now = desk.now();
        let link = desk
            .read::<User>(&self.stream())
            .session(self.session, now)?;
        desk.stand_on(link);
        Ok(())
    }
}

/// How many tokens' sessions are remembered.
const TOKENS_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(50_000).unwrap();

/// Which session a token is of, by its hash. That never changes; whether the session lives is
/// asked every time.
#[derive(Debug)]
pub(super) struct Tokens(Mutex<LruCache<[u8; 32], Caller>>);

impl Default for Tokens {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(TOKENS_IN_MEMORY)))
    }
}

impl Tokens {
    fn memory(&self) -> MutexGuard<'_, LruCache<[u8; 32], Caller>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SELECT_TOKEN: &str = "
SELECT session, user_id
  FROM session_tokens
 WHERE token_hash = $1";

impl Service {
    /// The person behind the request's session token.
    ///
    /// # Errors
    /// [`ServiceError::Unauthenticated`] without a valid token.
    pub async fn authenticate(&self, request: &Request) -> Result<Caller, ServiceError> {
        let token = request
            .token
            .as_ref()
            .ok_or(ServiceError::Unauthenticated)?;
        Ok(self.person_of(token).await?.0)
    }

    /// The person behind a token, with their account.
    pub(super) async fn person_of(
        &self,
        token: &SecretString,
    ) -> Result<(Caller, UserDocument), ServiceError> {
        let token = Token::parse(TokenKind::Session, token).ok_or(ServiceError::Unauthenticated)?;
        // Looked up by its hash: what a comparison would tell of the hash tells nothing of
        // the token.
        let caller = self.session_of(token.hash()).await?;
        let account = self.users().get(&caller.user.to_string()).await?.value;
        let account = account.ok_or(ServiceError::Unauthenticated)?;
        let now = self.source().now();
        match account.sessions.get(&caller.session) {
            Some(session) if session.expires_at > now => Ok((caller, account)),
            _ => Err(ServiceError::Unauthenticated),
        }
    }

    async fn session_of(&self, token_hash: [u8; 32]) -> Result<Caller, ServiceError> {
        let known = self.tokens.memory().get(&token_hash).cloned();
        if let Some(caller) = known {
            return Ok(caller);
        }
        let parameters = vec![token_hash.as_slice().into()];
        let rows = self.journal.store().query(SELECT_TOKEN, parameters).await?;
        let row = rows.first().ok_or(ServiceError::Unauthenticated)?;
        let caller = Caller {
            session: row.parsed(0)?,
            user: row.parsed(1)?,
        };
        self.tokens.memory().put(token_hash, caller.clone());
        Ok(caller)
    }
}
