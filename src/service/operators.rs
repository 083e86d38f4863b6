//! Operators of the installation: their keys, and what they do with them.
//!
//! A key is made, listed and taken back at the command line, where the store and its root key are at
//! hand; over HTTP it suspends organizations, lets them go on, and gives a workspace to somebody
//! whose owners are gone. Each takes a reason, is decided inside the append on the newest state of
//! the key too, and is an event of the organization or workspace, sealed under its keys: its
//! auditors read who it was and why. An operator reads nothing of anybody's: answers say what was
//! done, and no more.
//!
//! To add something that an operator may: a command of what it is done to, and a function here that
//! composes it.

use std::{
    collections::BTreeSet,
    num::{NonZeroU32, NonZeroUsize},
    sync::{Mutex, PoisonError},
};

use futures::FutureExt;
use governor::{
    Quota, RateLimiter,
    clock::DefaultClock,
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};
use lru::LruCache;
use subtle::ConstantTimeEq;

use super::{
    Principal, Request, Service, ServiceError, Token, TokenKind, Written,
    organizations::organization_stream,
    workspaces::Place,
    write::{Aim, Composed, Made, Sender, unmoved},
};
use crate::{
    domain::{
        EmailAddress, Name, Refusal, Timestamp,
        api_keys::NewSecret,
        authority::Actor,
        ids::{KeyId, OrganizationId, UserId, WorkspaceId},
        installation::{INSTALLATION, Installation, InstallationCommand, OperatorAct},
        organization::{Organization, OrganizationCommand},
        sealed::KeyOwner,
        user::User,
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{Desk, Origin, Rejection, StreamRef, Unit, loading},
    projections::{OperatorKeyDocument, OperatorKeys, OrganizationDocument, WorkspaceDocument},
};

/// How many requests a minute an operator's key may send to one process.
const REQUESTS_A_MINUTE: NonZeroU32 = NonZeroU32::new(600).unwrap();
/// How many of them at once.
const REQUESTS_AT_ONCE: NonZeroU32 = REQUESTS_A_MINUTE;
/// Keys whose requests are counted.
const KEYS_COUNTED: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// An operator, by a key that counted when it was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorCaller {
    key: KeyId,
}

impl OperatorCaller {
    /// The key; not its secret.
    pub fn id(&self) -> KeyId {
        self.key
    }

    /// Who the audit log says it was.
    pub(super) fn actor(&self) -> Actor {
        Actor::OperatorKey { id: self.key }
    }

    /// That the key still counts, on the newest state; the only link of the chain.
    fn is_live(&self, desk: &mut Desk<'_>) -> Result<(), Refusal> {
        let now = desk.now();
        let link = desk
            .read::<Installation>(&installation())
            .authorise(self.key, now)?;
        desk.stand_on(link);
        Ok(())
    }
}

/// What an operator's route is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorAim {
    Organization(OrganizationId),
    Workspace(WorkspaceId),
    /// Nothing that there could be.
    Nothing,
}

/// Whom a workspace is given to.
#[derive(Debug, Clone)]
pub enum Heir {
    User(UserId),
    Email(EmailAddress),
}

/// A workspace that was recovered, and for whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    pub workspace: WorkspaceDocument,
    pub owner: UserId,
}

/// An operator's key, with when it was last used, to the minute.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorKeyView {
    pub key: OperatorKeyDocument,
    pub status: &'static str,
    pub last_used_at: Option<Timestamp>,
}

type Counted = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// What operators' keys ask of this process.
#[derive(Debug)]
pub(super) struct OperatorPaces(Mutex<LruCache<KeyId, Counted>>);

impl Default for OperatorPaces {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEYS_COUNTED)))
    }
}

impl OperatorPaces {
    fn spend(&self, key: KeyId) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let quota = Quota::per_minute(REQUESTS_A_MINUTE).allow_burst(REQUESTS_AT_ONCE);
        let limiter = counted.get_or_insert(key, || {
            RateLimiter::direct(quota).with_middleware::<StateInformationMiddleware>()
        });
        limiter.check().is_ok()
    }
}

fn installation() -> StreamRef {
    StreamRef::of::<Installation>(INSTALLATION, INSTALLATION)
}

impl Service {
    /// The operator behind the request's token; none where it is no operator's key by its form.
    ///
    /// # Errors
    /// [`ServiceError::Unauthenticated`] where it is one by its form, and does not count.
    pub async fn operator(
        &self,
        request: &Request,
    ) -> Result<Option<OperatorCaller>, ServiceError> {
        let Some(secret) = &request.token else {
            return Ok(None);
        };
        if !TokenKind::OperatorKey.begins(secret) {
            return Ok(None);
        }
        let token = Token::parse(TokenKind::OperatorKey, secret);
        let token = token.ok_or(ServiceError::Unauthenticated)?;
        let hash = token.hash_text();
        let documents = self.documents::<OperatorKeys>();
        let page = documents.page_of_lookup(&hash, None, 1).await?;
        let now = self.source().now();
        let found = page.items.into_iter().map(|(_, key)| key).find(|key| {
            bool::from(key.token_hash.as_bytes().ct_eq(hash.as_bytes())) && key.is_live(now)
        });
        let key = found.ok_or(ServiceError::Unauthenticated)?.id;
        self.key_uses.note(key, now);
        Ok(Some(OperatorCaller { key }))
    }

    /// Counts a request of an operator's key; whether it is admitted.
    pub fn admits(&self, operator: &OperatorCaller) -> bool {
        self.operator_paces.spend(operator.key)
    }

    /// Refuses an operator's key where it may nothing, whatever there is, and keeps the attempt
    /// where there is what it aimed at.
    pub async fn refuse_operator(
        &self,
        request: &Request,
        operator: &OperatorCaller,
        aim: OperatorAim,
        action: &'static str,
    ) -> ServiceError {
        let refusal = Refusal::NotForOperators;
        match self.aimed_at(aim, action).await {
            Ok(Some(aim)) => {
                self.keep_operators_attempt(operator, request, &aim, &refusal)
                    .await;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a refused attempt was not kept"),
        }
        refusal.into()
    }

    /// Refuses a person or an API key where only operators may; the same.
    pub async fn refuse_to_operate(
        &self,
        request: &Request,
        principal: &Principal,
        aim: OperatorAim,
        action: &'static str,
    ) -> ServiceError {
        let refusal = Refusal::NotOperator;
        match self.aimed_at(aim, action).await {
            Ok(Some(aim)) => self.keep_attempt(principal, request, &aim, &refusal).await,
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a refused attempt was not kept"),
        }
        refusal.into()
    }

    async fn aimed_at(
        &self,
        aim: OperatorAim,
        action: &'static str,
    ) -> Result<Option<Aim>, ServiceError> {
        match aim {
            OperatorAim::Organization(id) => {
                let known = self.organizations().get(&id.to_string()).await?.value;
                Ok(known.map(|_| of_organization(id, action)))
            }
            OperatorAim::Workspace(workspace) => {
                let organization = self.place(workspace).await?;
                Ok(organization.map(|organization| {
                    let place = Place {
                        workspace,
                        organization,
                    };
                    place.aim(action, workspace)
                }))
            }
            OperatorAim::Nothing => Ok(None),
        }
    }

    /// The origin of an operator's command: what it says is under the keys of the scope that it is
    /// done to.
    pub(super) async fn origin_of_operator(
        &self,
        operator: &OperatorCaller,
        request: &Request,
        organization: OrganizationId,
        workspace: Option<WorkspaceId>,
    ) -> Result<Origin, ServiceError> {
        let owner = match workspace {
            Some(workspace) => KeyOwner::Workspace(workspace),
            None => KeyOwner::Organization(organization),
        };
        let scope = self.keyring.newest(owner).await?;
        Ok(request.origin(operator.actor(), scope.clone(), scope))
    }

    /// Suspends an organization: from the answer on nothing goes on in it but what
    /// [`crate::domain::suspension`] lists. Nothing happens where it is suspended.
    ///
    /// # Errors
    /// A refusal where the key counts no more, or there is no such organization.
    pub async fn suspend_organization(
        &self,
        request: &Request,
        operator: &OperatorCaller,
        id: OrganizationId,
    ) -> Result<Written<OrganizationDocument>, ServiceError> {
        let suspended_by = operator.key;
        let command = OrganizationCommand::Suspend { suspended_by };
        self.operate_organization(
            request,
            operator,
            of_organization(id, OperatorAct::SuspendOrganization.action()),
            command,
        )
        .await
    }

    /// Lets a suspended organization go on. Nothing happens where it is not suspended.
    ///
    /// # Errors
    /// As above.
    pub async fn resume_organization(
        &self,
        request: &Request,
        operator: &OperatorCaller,
        id: OrganizationId,
    ) -> Result<Written<OrganizationDocument>, ServiceError> {
        let resumed_by = operator.key;
        let command = OrganizationCommand::Resume { resumed_by };
        self.operate_organization(
            request,
            operator,
            of_organization(id, OperatorAct::ResumeOrganization.action()),
            command,
        )
        .await
    }

    async fn operate_organization(
        &self,
        request: &Request,
        operator: &OperatorCaller,
        aim: Aim,
        command: OrganizationCommand,
    ) -> Result<Written<OrganizationDocument>, ServiceError> {
        has_reason(request)?;
        let id = aim.organization;
        let known = self.organizations().get(&id.to_string()).await?.value;
        let known = known.map(|_| &aim);
        let sender = Sender::Operator(operator.clone());
        let receipt = self
            .submit(&sender, request, known, || {
                let command = command.clone();
                async move {
                    let stream = organization_stream(id);
                    let version = async {
                        let found = self.organizations().get(&id.to_string()).await?;
                        Ok(found.value.map(|document| document.version))
                    };
                    let sequence = self.checked_sequence(request, &stream, version).await?;
                    let origin = self.origin_of_operator(operator, request, id, None).await?;
                    let operator = operator.clone();
                    Ok(Composed {
                        lane: id.to_string(),
                        streams: vec![installation(), stream.clone()],
                        lookups: vec![],
                        origin,
                        decide: Box::new(move |desk| {
                            operator.is_live(desk)?;
                            unmoved(desk, &stream, sequence)?;
                            desk.execute::<Organization>(&stream, command.clone(), &[])?;
                            Ok(Made::Organization(id).outcome(200))
                        }),
                    })
                }
                .boxed()
            })
            .await?;
        let shown = self.organization_shown(&receipt, id).await?;
        Ok(Written::of(&receipt, shown))
    }

    /// Makes somebody an owner of a workspace whose owners are all gone: no session of theirs lives,
    /// and none has begun for a while.
    ///
    /// # Errors
    /// [`Refusal::OwnerIsThere`]; [`Refusal::NoSuchAccount`]; a refusal where the key counts no more,
    /// or there is no such workspace.
    pub async fn recover_workspace(
        &self,
        request: &Request,
        operator: &OperatorCaller,
        id: WorkspaceId,
        heir: Heir,
    ) -> Result<Written<Recovered>, ServiceError> {
        has_reason(request)?;
        let place = self.known_place(id).await?;
        let user = self.heir(heir).await?;
        let sender = Sender::Operator(operator.clone());
        let aim = place.aim(OperatorAct::RecoverWorkspace.action(), id);
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                self.compose_recovery(request, operator, place, user)
                    .boxed()
            })
            .await?;
        let Made::Member(id, user) = receipt.made else {
            let words = "the kept answer is no member".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let workspace = self.workspace_shown(&receipt, id).await?;
        let recovered = Recovered {
            workspace,
            owner: user,
        };
        Ok(Written::of(&receipt, recovered))
    }

    async fn heir(&self, heir: Heir) -> Result<UserId, ServiceError> {
        let found = match heir {
            Heir::User(user) => {
                let known = self.users().get(&user.to_string()).await?.value;
                known.map(|account| account.id)
            }
            Heir::Email(email) => self.user_of_email(&self.email_lookup(&email)).await?,
        };
        found.ok_or(Refusal::NoSuchAccount.into())
    }

    async fn compose_recovery(
        &self,
        request: &Request,
        operator: &OperatorCaller,
        place: Place,
        user: UserId,
    ) -> Result<Composed, ServiceError> {
        let (id, organization, stream) = (place.workspace, place.organization, place.stream());
        let version = async {
            let found = self.workspaces().get(&id.to_string()).await?;
            Ok(found.value.map(|document| document.version))
        };
        let sequence = self.checked_sequence(request, &stream, version).await?;
        let store = &**self.journal.store();
        let (workspace, ..) = loading::read_back::<Workspace>(store, &stream, None).await?;
        let owners: BTreeSet<UserId> = workspace.owners(self.source().now()).collect();
        let origin = self
            .origin_of_operator(operator, request, organization, Some(id))
            .await?;
        // The organization knows the people in its workspaces by name.
        let introduction = self.introduction(user, organization).await?;
        let people = owners.iter().copied().filter(|owner| *owner != user);
        let mut streams = vec![
            installation(),
            stream.clone(),
            organization_stream(organization),
            introduction.person.clone(),
        ];
        streams.extend(people.map(account));
        let (operator, recovered_by) = (operator.clone(), operator.key);
        Ok(Composed {
            lane: organization.to_string(),
            streams,
            lookups: introduction.lookups(),
            origin,
            decide: Box::new(move |desk| {
                operator.is_live(desk)?;
                unmoved(desk, &stream, sequence)?;
                let gone = gone(desk, &stream, &owners)?;
                introduction.decide(desk)?;
                let recover = WorkspaceCommand::Recover {
                    user,
                    gone,
                    recovered_by,
                };
                desk.execute::<Workspace>(&stream, recover, &[])?;
                Ok(Made::Member(id, user).outcome(200))
            }),
        })
    }

    /// Makes an operator's key; at the command line. The secret is shown by nobody else.
    ///
    /// # Errors
    /// A refusal where there are too many; when the store cannot be written.
    pub async fn create_operator_key(
        &self,
        name: Name,
        expires_at: Option<Timestamp>,
    ) -> Result<(OperatorKeyView, Token), ServiceError> {
        let key = KeyId::from_uuid(self.source().uuid());
        let kind = TokenKind::OperatorKey;
        let token = Token::generate(kind, self.source());
        let secret = NewSecret {
            hash: token.hash_text(),
            prefix: token.beginning(kind),
        };
        let create = InstallationCommand::CreateKey {
            key,
            name,
            secret,
            expires_at,
        };
        self.at_the_command_line(create).await?;
        Ok((self.operator_key(key).await?, token))
    }

    /// Takes an operator's key back; at the command line. From the answer on it is good for
    /// nothing, on any process.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where there is none, or it was taken back.
    pub async fn revoke_operator_key(&self, key: KeyId) -> Result<OperatorKeyView, ServiceError> {
        self.at_the_command_line(InstallationCommand::RevokeKey { key })
            .await?;
        self.operator_key(key).await
    }

    async fn at_the_command_line(&self, command: InstallationCommand) -> Result<(), ServiceError> {
        let stream = installation();
        let unit = Unit {
            lane: INSTALLATION.to_owned(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: Origin {
                actor: Actor::CommandLine,
                ..Origin::system()
            },
            idempotency: None,
            decide: Box::new(move |desk| {
                desk.execute::<Installation>(&stream, command.clone(), &[])?;
                Ok(Made::Nothing.outcome(0))
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }

    async fn operator_key(&self, key: KeyId) -> Result<OperatorKeyView, ServiceError> {
        let keys = self.operator_keys().await?;
        let found = keys.into_iter().find(|view| view.key.id == key);
        found.ok_or_else(|| ServiceError::Internal(format!("{key} is not there")))
    }

    /// Every operator's key that there ever was, oldest first; at the command line.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn operator_keys(&self) -> Result<Vec<OperatorKeyView>, ServiceError> {
        let documents = self.documents::<OperatorKeys>();
        let parent = [INSTALLATION.to_owned()];
        let found = documents.of_parents(&parent).await?.into_iter();
        let keys: Vec<_> = found.map(|(_, key)| key).collect();
        let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        let used = self.last_uses(&ids).await?;
        let now = self.source().now();
        let view = |key: OperatorKeyDocument| OperatorKeyView {
            status: key.status_at(now),
            last_used_at: used.get(&key.id).copied(),
            key,
        };
        Ok(keys.into_iter().map(view).collect())
    }
}

fn of_organization(organization: OrganizationId, action: &'static str) -> Aim {
    Aim {
        action,
        target: organization.to_string(),
        organization,
        workspace: None,
        crew: None,
    }
}

/// Every command of an operator says why.
fn has_reason(request: &Request) -> Result<(), ServiceError> {
    match &request.reason {
        Some(_) => Ok(()),
        None => Err(ServiceError::InvalidValue {
            pointer: "/reason",
            detail: "an operator says why".to_owned(),
        }),
    }
}

fn account(user: UserId) -> StreamRef {
    StreamRef::of::<User>(user, user)
}

/// The owners of a workspace who are gone, on the newest state. Owners whom the unit has not named
/// have come since it was composed.
fn gone(
    desk: &mut Desk<'_>,
    workspace: &StreamRef,
    named: &BTreeSet<UserId>,
) -> Result<BTreeSet<UserId>, Rejection> {
    let now = desk.now();
    let owners: Vec<_> = desk.read::<Workspace>(workspace).owners(now).collect();
    let mut gone = BTreeSet::new();
    for owner in owners {
        if !named.contains(&owner) {
            return Err(Rejection::Recompose);
        }
        if desk.read::<User>(&account(owner)).is_gone(now) {
            gone.insert(owner);
        }
    }
    Ok(gone)
}
