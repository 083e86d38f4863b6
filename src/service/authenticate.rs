//! Who is asking: from a session token to a person, from an API key to the key.
//!
//! This only proves who it is. What they may is decided elsewhere: for a write inside the
//! append, where the session is looked at again on the newest state.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use secrecy::SecretString;

use super::{Request, Service, ServiceError, Token, TokenKind, api_keys::KnownKey, write::Aim};
use crate::{
    domain::{
        Refusal,
        authority::{Actor, OrganizationPermission, Permission},
        ids::{KeyId, OrganizationId, SessionId, UserId, WorkspaceId},
        user::User,
    },
    journal::{Desk, StreamRef},
    projections::{ApiKeyDocument, UserDocument},
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

/// A program with a live API key, as the key was when it was looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyCaller(pub Arc<ApiKeyDocument>);

impl KeyCaller {
    /// The key; not its secret.
    pub fn id(&self) -> KeyId {
        self.0.id
    }

    /// Itself as what is aimed at, in the workspace or organization that holds it.
    pub(super) fn own_aim(&self, action: &'static str) -> Aim {
        Aim {
            action,
            target: self.id().to_string(),
            organization: self.0.organization,
            workspace: self.0.workspace,
            crew: None,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Principal {
    Person(Caller),
    Key(KeyCaller),
}

impl Principal {
    /// Who the audit log says it was.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Person(caller) => Actor::User { id: caller.user },
            Self::Key(key) => Actor::ApiKey { id: key.id() },
        }
    }

    /// The stream of a person's account; whether a key lives is its holder's to say.
    pub(super) fn stream(&self) -> Option<StreamRef> {
        match self {
            Self::Person(caller) => Some(caller.stream()),
            Self::Key(_) => None,
        }
    }

    /// That a person's session still lives, on the newest state.
    pub(super) fn is_live(&self, desk: &mut Desk<'_>) -> Result<(), Refusal> {
        match self {
            Self::Person(caller) => caller.is_live(desk),
            Self::Key(_) => Ok(()),
        }
    }
}

impl From<&Caller> for Principal {
    fn from(caller: &Caller) -> Self {
        Self::Person(caller.clone())
    }
}

impl From<&KeyCaller> for Principal {
    fn from(key: &KeyCaller) -> Self {
        Self::Key(key.clone())
    }
}

impl From<&Principal> for Principal {
    fn from(principal: &Principal) -> Self {
        principal.clone()
    }
}

/// What a key aimed at where only people may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAim {
    Workspace(WorkspaceId, Permission),
    Organization(OrganizationId, OrganizationPermission),
    /// What people have: an account, sessions.
    People,
    /// An address that names nothing.
    Nothing,
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
        match self.principal(request).await? {
            Principal::Person(caller) => Ok(caller),
            Principal::Key(_) => Err(Refusal::NotForApiKeys.into()),
        }
    }

    /// Who is behind the request's session token or API key.
    ///
    /// # Errors
    /// [`ServiceError::Unauthenticated`] without a valid one; a refusal for a key that may not
    /// be used from the request's address, or whose organization is suspended.
    pub async fn principal(&self, request: &Request) -> Result<Principal, ServiceError> {
        let token = request
            .token
            .as_ref()
            .ok_or(ServiceError::Unauthenticated)?;
        match TokenKind::of_api_key(token) {
            Some(kind) => Ok(Principal::Key(self.key_caller(request, token, kind).await?)),
            None => Ok(Principal::Person(self.person_of(token).await?.0)),
        }
    }

    /// Refuses a key where only people may, and keeps the attempt. What it may not know of is
    /// not there.
    pub async fn refuse_key(
        &self,
        request: &Request,
        key: &KeyCaller,
        aim: KeyAim,
    ) -> ServiceError {
        let (action, refused) = match aim {
            KeyAim::Workspace(workspace, permission) => {
                let action = permission.name();
                let asked = self.may_in_workspace(request, key, workspace, permission, action);
                (action, asked.await.map(drop))
            }
            KeyAim::Organization(organization, permission) => {
                let action = permission.name();
                let asked =
                    self.may_in_organization(request, key, organization, permission, action);
                (action, asked.await)
            }
            KeyAim::People => ("account.use", Ok(())),
            KeyAim::Nothing => {
                return Refusal::NotFound {
                    what: "resource",
                    hidden: false,
                }
                .into();
            }
        };
        if let Err(refused) = refused {
            return refused;
        }
        // Where a key would have the right, the route is for people all the same.
        let refusal = Refusal::NotForApiKeys;
        let aim = key.own_aim(action);
        self.keep_attempt(key, request, &aim, &refusal).await;
        refusal.into()
    }

    async fn key_caller(
        &self,
        request: &Request,
        secret: &SecretString,
        kind: TokenKind,
    ) -> Result<KeyCaller, ServiceError> {
        let token = Token::parse(kind, secret).ok_or(ServiceError::Unauthenticated)?;
        let found = self.key_of(&token).await?;
        let now = self.source().now();
        let KnownKey { key, is_suspended } = found.ok_or(ServiceError::Unauthenticated)?;
        let caller = KeyCaller(key);
        if !caller.0.is_live(now) {
            // Whoever holds the key learns nothing, and whose it was reads that it was tried.
            let aim = caller.own_aim("api_key.used");
            self.keep_attempt(&caller, request, &aim, &Refusal::ApiKeyEnded)
                .await;
            return Err(ServiceError::Unauthenticated);
        }
        if is_suspended {
            let refusal = self.suspended();
            let aim = caller.own_aim("api_key.used");
            self.keep_attempt(&caller, request, &aim, &refusal).await;
            return Err(refusal.into());
        }
        if !caller.0.terms.allow_address(request.ip) {
            let refusal = Refusal::AddressNotAllowed;
            let aim = caller.own_aim("api_key.used");
            self.keep_attempt(&caller, request, &aim, &refusal).await;
            return Err(refusal.into());
        }
        self.key_uses.note(caller.id(), now);
        Ok(caller)
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
