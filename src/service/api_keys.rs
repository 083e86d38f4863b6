//! API keys of workspaces and organizations: made, read, changed, rotated, revoked, expired;
//! and what a gateway asks of one.
//!
//! A secret is shown in the one answer that makes it, and kept as a hash. Whether a key is good
//! is answered from memory, for as long as this process knows that it has heard of everything.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use secrecy::SecretString;

use super::{
    Caller, Principal, Request, Service, ServiceError, Token, TokenKind, Written,
    organizations::organization_stream,
    past::State,
    workspaces::{DecideInWorkspace, Place},
    write::{Aim, Composed, Made, Receipt, Sender, unmoved},
};
use crate::{
    domain::{
        Name, Refusal, Timestamp,
        api_keys::{
            AddressRange, CrewMissed, KeyChange, KeyCommand, KeyScope, KeyTerms, NewSecret,
        },
        authority::{OrganizationPermission, Permission},
        crew::{CrewPlace, CrewStatus},
        environment::Environment,
        ids::{CrewId, KeyId, OrganizationId, WorkspaceId},
        organization::{Organization, OrganizationCommand},
        workspace::{Policy, Workspace, WorkspaceCommand},
    },
    journal::{Origin, StreamRef, Unit},
    projections::{ApiKeyDocument, ApiKeys, Found, KeyStatus, Page, Policies},
};

/// How long ago this process may have heard from the log for its memory of keys to be served.
const MEMORY_SERVES: Duration = Duration::from_secs(1);

/// No key here by that id.
const MISSING: Refusal = Refusal::NotFound {
    what: "api key",
    hidden: false,
};

/// The policy that a workspace's keys are under; that of keys of an organization is the default
/// one, which wants nothing of them.
pub(super) async fn policy_of(
    state: &State<'_>,
    workspace: Option<WorkspaceId>,
) -> Result<Policy, ServiceError> {
    let Some(workspace) = workspace else {
        return Ok(Policy::default());
    };
    let policies = state.documents::<Policies>();
    let found = policies.get(&workspace.to_string()).await?;
    Ok(found.value.map_or_else(Policy::default, |it| it.policy))
}

/// A key, with its secret in the one answer that shows it.
#[derive(Debug)]
pub struct ApiKeyView {
    pub key: ApiKeyDocument,
    pub status: KeyStatus,
    /// To the minute.
    pub last_used_at: Option<Timestamp>,
    /// When the workspace's policy wants it rotated.
    pub rotation_due_at: Option<Timestamp>,
    /// The key in whose place it came, in the answer that rotates it.
    pub predecessor: Option<(ApiKeyDocument, KeyStatus)>,
    pub secret: Option<Token>,
}

/// A key that is to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub name: Name,
    pub scopes: BTreeSet<KeyScope>,
    pub crews: Option<BTreeSet<CrewId>>,
    pub allowed_cidrs: Vec<AddressRange>,
    pub expires_at: Option<Timestamp>,
}

/// What a gateway asks of a key; what is none is not asked.
#[derive(Debug)]
pub struct KeyQuestion {
    pub key: SecretString,
    pub environment: Option<Environment>,
    pub crew: Option<CrewId>,
    pub scope: Option<KeyScope>,
    pub ip: Option<IpAddr>,
}

/// Whether a key is good for what was asked, and if not, the first thing that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyVerdict {
    Valid,
    Unknown,
    Malformed,
    Revoked,
    Expired,
    OrganizationSuspended,
    WrongEnvironment,
    CrewNotAllowed,
    ScopeMissing,
    IpNotAllowed,
}

impl KeyVerdict {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::OrganizationSuspended => "organization_suspended",
            Self::WrongEnvironment => "wrong_environment",
            Self::CrewNotAllowed => "crew_not_allowed",
            Self::ScopeMissing => "scope_missing",
            Self::IpNotAllowed => "ip_not_allowed",
        }
    }
}

/// The answer to a gateway; the key is there whenever its secret is that of one.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyCheck {
    pub verdict: KeyVerdict,
    pub key: Option<Arc<ApiKeyDocument>>,
}

impl KeyQuestion {
    /// `crew` is the one that was asked about, where it is there and in the key's workspace.
    fn verdict(
        &self,
        key: &ApiKeyDocument,
        is_suspended: bool,
        crew: Option<CrewPlace>,
        now: Timestamp,
    ) -> KeyVerdict {
        match key.status_at(now) {
            KeyStatus::Revoked => return KeyVerdict::Revoked,
            KeyStatus::Expired => return KeyVerdict::Expired,
            KeyStatus::Active | KeyStatus::Rotating if is_suspended => {
                return KeyVerdict::OrganizationSuspended;
            }
            KeyStatus::Active | KeyStatus::Rotating => {}
        }
        let asks = |asked: bool, verdict| asked.then_some(verdict);
        let wrong_environment = self.environment.is_some() && self.environment != key.environment;
        let reached = crew.map(|crew| key.terms.reach(key.environment, crew));
        let elsewhere = reached == Some(Err(CrewMissed::WrongEnvironment));
        let crew = self.crew.is_some() && reached != Some(Ok(()));
        let scope = self
            .scope
            .is_some_and(|scope| !key.scopes().contains(&scope));
        let address = self.ip.is_some() && !key.terms.allow_address(self.ip);
        asks(wrong_environment || elsewhere, KeyVerdict::WrongEnvironment)
            .or(asks(crew, KeyVerdict::CrewNotAllowed))
            .or(asks(scope, KeyVerdict::ScopeMissing))
            .or(asks(address, KeyVerdict::IpNotAllowed))
            .unwrap_or(KeyVerdict::Valid)
    }
}

/// A key, and whether its organization is suspended, so that it is good for nothing.
pub(super) struct KnownKey {
    pub key: Arc<ApiKeyDocument>,
    pub is_suspended: bool,
}

/// What a command about keys is sent to.
#[derive(Debug, Clone, Copy)]
enum Holder {
    Workspace(Place),
    Organization(OrganizationId),
}

impl Holder {
    fn id(self) -> String {
        match self {
            Self::Workspace(place) => place.workspace.to_string(),
            Self::Organization(organization) => organization.to_string(),
        }
    }

    fn holds(self, key: &ApiKeyDocument) -> bool {
        match self {
            Self::Workspace(place) => key.workspace == Some(place.workspace),
            Self::Organization(organization) => {
                key.workspace.is_none() && key.organization == organization
            }
        }
    }

    fn made(self, key: KeyId) -> Made {
        let (organization, workspace) = match self {
            Self::Workspace(place) => (place.organization, Some(place.workspace)),
            Self::Organization(organization) => (organization, None),
        };
        Made::ApiKey {
            organization,
            workspace,
            key,
        }
    }

    fn aim(self, action: &'static str, target: String) -> Aim {
        match self {
            Self::Workspace(place) => place.aim(action, target),
            Self::Organization(organization) => Aim {
                action,
                target,
                organization,
                workspace: None,
                crew: None,
            },
        }
    }

    fn stream(self) -> StreamRef {
        match self {
            Self::Workspace(place) => place.stream(),
            Self::Organization(id) => organization_stream(id),
        }
    }
}

/// A command about keys, and what goes with it.
struct KeyWrite {
    action: &'static str,
    /// What it aims at.
    target: String,
    command: KeyCommand,
    /// The key that its answer shows.
    shown: KeyId,
    /// The key whose version a condition is about.
    conditional: Option<KeyId>,
    status: u16,
}

impl Service {
    /// The key that a secret is of, live or not; none where it is of none.
    pub(super) async fn key_of(&self, secret: &Token) -> Result<Option<KnownKey>, ServiceError> {
        let hash = secret.hash();
        let index = self.engine.keys();
        // Gateways ask for both with every request: one look finds both.
        let remembered = match self.journal.has_heard(MEMORY_SERVES) {
            true => index.get(&hash),
            false => None,
        };
        let (key, is_suspended) = match remembered {
            Some((key, is_suspended)) => (key, is_suspended),
            None => match self.read_key(secret).await? {
                Some(key) => (key, None),
                None => return Ok(None),
            },
        };
        let is_suspended = match is_suspended {
            Some(known) => known,
            None => self.has_keys_suspended(key.organization).await?,
        };
        Ok(Some(KnownKey { key, is_suspended }))
    }

    /// The same, from the store.
    async fn read_key(&self, secret: &Token) -> Result<Option<Arc<ApiKeyDocument>>, ServiceError> {
        let lookup = secret.hash_text();
        let page = self.api_keys().page_of_lookup(&lookup, None, 1).await?;
        let found = page.items.into_iter().next();
        Ok(found.map(|(_, key)| {
            let key = Arc::new(key);
            let index = self.engine.keys();
            index.remember(secret.hash(), key.clone(), page.position);
            key
        }))
    }

    /// Whether an organization is suspended, so that its keys are good for nothing: at once where
    /// that was done, and elsewhere as soon as the end of a key would be known.
    pub(super) async fn has_keys_suspended(
        &self,
        organization: OrganizationId,
    ) -> Result<bool, ServiceError> {
        let index = self.engine.keys();
        if self.journal.has_heard(MEMORY_SERVES)
            && let Some(known) = index.is_suspended(organization)
        {
            return Ok(known);
        }
        let found = self.organizations().get(&organization.to_string()).await?;
        let is_suspended = found
            .value
            .is_some_and(|found| found.suspended_at.is_some());
        index.remember_standing(organization, is_suspended, found.position);
        Ok(is_suspended)
    }

    /// Whether a key is good for what is asked. The caller needs no session: the key is the
    /// secret.
    ///
    /// # Errors
    /// When neither memory nor the store can be asked.
    pub async fn verify_key(&self, question: &KeyQuestion) -> Result<KeyCheck, ServiceError> {
        let kind = TokenKind::of_api_key(&question.key);
        let Some(secret) = kind.and_then(|kind| Token::parse(kind, &question.key)) else {
            return Ok(KeyCheck {
                verdict: KeyVerdict::Malformed,
                key: None,
            });
        };
        let Some(KnownKey { key, is_suspended }) = self.key_of(&secret).await? else {
            return Ok(KeyCheck {
                verdict: KeyVerdict::Unknown,
                key: None,
            });
        };
        let now = self.source().now();
        let crew = self.crew_asked_about(question.crew, key.workspace).await?;
        let verdict = question.verdict(&key, is_suspended, crew, now);
        if verdict == KeyVerdict::Valid {
            self.key_uses.note(key.id, now);
        }
        Ok(KeyCheck {
            verdict,
            key: Some(key),
        })
    }

    /// The crew that a gateway asks about, where it is a live one of the key's workspace.
    async fn crew_asked_about(
        &self,
        crew: Option<CrewId>,
        workspace: Option<WorkspaceId>,
    ) -> Result<Option<CrewPlace>, ServiceError> {
        let Some(crew) = crew else {
            return Ok(None);
        };
        let found = self.crews().get(&crew.to_string()).await?.value;
        let found = found
            .filter(|crew| Some(crew.workspace) == workspace && crew.status == CrewStatus::Active);
        Ok(found.map(|crew| crew.place))
    }

    /// Makes a key of a workspace.
    ///
    /// # Errors
    /// A refusal unless the caller manages keys there.
    pub async fn create_api_key(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        environment: Environment,
        new: NewKey,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        let holder = Holder::Workspace(self.known_place(workspace).await?);
        let kind = TokenKind::ApiKey(environment);
        self.create_key(request, caller, holder, kind, Some(environment), new)
            .await
    }

    /// Makes a key of an organization.
    ///
    /// # Errors
    /// A refusal unless the caller owns it.
    pub async fn create_organization_key(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        new: NewKey,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        let holder = self.known_organization(organization).await?;
        self.create_key(
            request,
            caller,
            holder,
            TokenKind::OrganizationKey,
            None,
            new,
        )
        .await
    }

    async fn known_organization(
        &self,
        organization: OrganizationId,
    ) -> Result<Holder, ServiceError> {
        let known = self.organizations().get(&organization.to_string()).await?;
        match known.value {
            Some(_) => Ok(Holder::Organization(organization)),
            None => Err(Refusal::NotFound {
                what: "organization",
                hidden: false,
            }
            .into()),
        }
    }

    async fn create_key(
        &self,
        request: &Request,
        caller: &Caller,
        holder: Holder,
        kind: TokenKind,
        environment: Option<Environment>,
        new: NewKey,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        self.is_to_come(new.expires_at)?;
        let key = KeyId::from_uuid(self.source().uuid());
        let (secret, kept) = self.new_secret(kind);
        let write = KeyWrite {
            action: "api_key.created",
            target: holder.id(),
            command: KeyCommand::Create {
                key,
                environment,
                terms: new.into(),
                secret: kept,
                by: caller.user,
            },
            shown: key,
            conditional: None,
            status: 201,
        };
        let receipt = self.write_key(request, caller, holder, write).await?;
        self.key_written(receipt, Some(secret)).await
    }

    /// That an end that is asked for has not passed.
    fn is_to_come(&self, expires_at: Option<Timestamp>) -> Result<(), ServiceError> {
        match expires_at {
            Some(end) if end <= self.source().now() => Err(ServiceError::InvalidValue {
                pointer: "/expires_at",
                detail: "this has passed already".to_owned(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn new_secret(&self, kind: TokenKind) -> (Token, NewSecret) {
        let secret = Token::generate(kind, self.source());
        let kept = NewSecret {
            hash: secret.hash_text(),
            prefix: secret.beginning(kind),
        };
        (secret, kept)
    }

    /// Changes what a key of a workspace may, or until when.
    ///
    /// # Errors
    /// A refusal unless the caller manages keys there and the key is live.
    pub async fn update_api_key(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        key: KeyId,
        change: KeyChange,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        self.is_to_come(change.expires_at.flatten())?;
        let holder = Holder::Workspace(self.known_place(workspace).await?);
        let write = KeyWrite {
            action: "api_key.updated",
            target: key.to_string(),
            command: KeyCommand::Update {
                key,
                change,
                by: caller.user,
            },
            shown: key,
            conditional: Some(key),
            status: 200,
        };
        let receipt = self.write_key(request, caller, holder, write).await?;
        self.key_written(receipt, None).await
    }

    /// Makes a successor of a workspace's key; the key lives on for `grace_seconds`.
    ///
    /// # Errors
    /// A refusal unless the caller manages keys there and the key is live.
    pub async fn rotate_api_key(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        key: KeyId,
        grace_seconds: u64,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        let holder = Holder::Workspace(self.known_place(workspace).await?);
        self.rotate_key(request, caller, holder, key, grace_seconds)
            .await
    }

    /// The same of an organization's key.
    ///
    /// # Errors
    /// A refusal unless the caller owns the organization and the key is live.
    pub async fn rotate_organization_key(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        key: KeyId,
        grace_seconds: u64,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        let holder = self.known_organization(organization).await?;
        self.rotate_key(request, caller, holder, key, grace_seconds)
            .await
    }

    async fn rotate_key(
        &self,
        request: &Request,
        caller: &Caller,
        holder: Holder,
        key: KeyId,
        grace_seconds: u64,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        // Which environment its secret names; whether it can be rotated is decided later.
        let present = self.api_keys().get(&key.to_string()).await?.value;
        let environment = present.and_then(|key| key.environment);
        let kind = environment.map_or(TokenKind::OrganizationKey, TokenKind::ApiKey);
        let successor = KeyId::from_uuid(self.source().uuid());
        let (secret, kept) = self.new_secret(kind);
        let write = KeyWrite {
            action: "api_key.rotated",
            target: key.to_string(),
            command: KeyCommand::Rotate {
                key,
                successor,
                secret: kept,
                grace_seconds,
                by: caller.user,
            },
            shown: successor,
            conditional: Some(key),
            status: 201,
        };
        let receipt = self.write_key(request, caller, holder, write).await?;
        self.key_written(receipt, Some(secret)).await
    }

    /// Ends a workspace's key now. From the answer on it is good for nothing.
    ///
    /// # Errors
    /// A refusal unless the caller manages keys there and the key is live.
    pub async fn revoke_api_key(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        key: KeyId,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        let holder = Holder::Workspace(self.known_place(workspace).await?);
        self.revoke_key(request, caller, holder, key).await
    }

    /// The same of an organization's key.
    ///
    /// # Errors
    /// A refusal unless the caller owns the organization and the key is live.
    pub async fn revoke_organization_key(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        key: KeyId,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        let holder = self.known_organization(organization).await?;
        self.revoke_key(request, caller, holder, key).await
    }

    async fn revoke_key(
        &self,
        request: &Request,
        caller: &Caller,
        holder: Holder,
        key: KeyId,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        let by = caller.user;
        let write = KeyWrite {
            action: "api_key.revoked",
            target: key.to_string(),
            command: KeyCommand::Revoke { key, by },
            shown: key,
            conditional: Some(key),
            status: 200,
        };
        let receipt = self.write_key(request, caller, holder, write).await?;
        self.key_written(receipt, None).await
    }

    async fn write_key(
        &self,
        request: &Request,
        caller: &Caller,
        holder: Holder,
        write: KeyWrite,
    ) -> Result<Receipt, ServiceError> {
        let sender = Sender::Person(caller.clone());
        let aim = holder.aim(write.action, write.target.clone());
        let write = &write;
        self.submit(&sender, request, Some(&aim), || match holder {
            Holder::Workspace(place) => self
                .compose_workspace_key(request, caller, place, write)
                .boxed(),
            Holder::Organization(organization) => self
                .compose_organization_key(request, caller, organization, write)
                .boxed(),
        })
        .await
    }

    /// The version of a key, where the holder has it.
    async fn version_of_key(
        &self,
        holder: Holder,
        key: Option<KeyId>,
    ) -> Result<Option<u64>, ServiceError> {
        let Some(key) = key else {
            return Ok(None);
        };
        let found = self.api_keys().get(&key.to_string()).await?.value;
        let held = found.filter(|key| holder.holds(key));
        Ok(held.map(|key| key.version))
    }

    async fn compose_workspace_key(
        &self,
        request: &Request,
        caller: &Caller,
        place: Place,
        write: &KeyWrite,
    ) -> Result<Composed, ServiceError> {
        let permission = Permission::ManageKeys;
        let version = self.version_of_key(Holder::Workspace(place), write.conditional);
        let sequence = self
            .checked_sequence_in(request, caller, place, permission, version)
            .await?;
        let made = Holder::Workspace(place).made(write.shown);
        let command = write.command.clone();
        let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
            let command = WorkspaceCommand::ApiKey(command.clone());
            desk.execute::<Workspace>(stream, command, &[])?;
            Ok(made.clone())
        });
        self.compose_in_workspace(
            request,
            caller,
            place,
            permission,
            sequence,
            write.status,
            decide,
        )
        .await
    }

    async fn compose_organization_key(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        write: &KeyWrite,
    ) -> Result<Composed, ServiceError> {
        let permission = OrganizationPermission::ManageKeys;
        let holder = Holder::Organization(organization);
        let stream = holder.stream();
        let version = self.version_of_key(holder, write.conditional);
        let sequence = self
            .checked_sequence_there(request, caller, organization, permission, version)
            .await?;
        let origin = self
            .origin(caller, request, Some(organization), None)
            .await?;
        let made = holder.made(write.shown);
        let (caller, command, status) = (caller.clone(), write.command.clone(), write.status);
        Ok(Composed {
            lane: organization.to_string(),
            streams: vec![caller.stream(), stream.clone()],
            lookups: vec![],
            origin,
            decide: Box::new(move |desk| {
                caller.is_live(desk)?;
                let holder = desk.read::<Organization>(&stream);
                let link = holder.authorise(caller.user, permission)?;
                desk.stand_on(link);
                unmoved(desk, &stream, sequence)?;
                let command = OrganizationCommand::Key(command.clone());
                desk.execute::<Organization>(&stream, command, &[])?;
                Ok(made.outcome(status))
            }),
        })
    }

    /// The key that a write made or changed; with its secret, unless it is told again.
    async fn key_written(
        &self,
        receipt: Receipt,
        secret: Option<Token>,
    ) -> Result<Written<ApiKeyView>, ServiceError> {
        let Made::ApiKey {
            organization,
            workspace,
            key,
        } = receipt.made
        else {
            let words = "the kept answer is no API key".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let (documents, key) = (self.api_keys(), key.to_string());
        let shown = match workspace {
            Some(id) => {
                let stream = id.to_string();
                self.shown::<ApiKeys, Workspace>(documents, &receipt, &stream, &key)
                    .await?
            }
            None => {
                let stream = organization.to_string();
                self.shown::<ApiKeys, Organization>(documents, &receipt, &stream, &key)
                    .await?
            }
        };
        let predecessor = match shown.rotated_from {
            Some(id) => self.api_keys().get(&id.to_string()).await?.value,
            None => None,
        };
        let now = self.source().now();
        let state = self.state_of_now();
        let policy = policy_of(&state, workspace).await?;
        let mut views = self.key_views(&state, vec![shown], &policy).await?;
        let view = views.pop();
        let mut view = view.ok_or_else(|| ServiceError::Internal("no view".to_owned()))?;
        view.secret = secret.filter(|_| !receipt.replayed);
        view.predecessor = predecessor.map(|key| {
            let status = key.status_at(now);
            (key, status)
        });
        Ok(Written::of(&receipt, view))
    }

    /// Of last uses, only the last is kept beside the log: as of a moment before it, none is
    /// told.
    async fn key_views(
        &self,
        state: &State<'_>,
        keys: Vec<ApiKeyDocument>,
        policy: &Policy,
    ) -> Result<Vec<ApiKeyView>, ServiceError> {
        let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        let now = state.now();
        let mut last_uses: HashMap<_, _> = self.last_uses(&ids).await?;
        if state.moment().is_some() {
            last_uses.retain(|_, used_at| *used_at <= now);
        }
        let views = keys.into_iter().map(|key| ApiKeyView {
            status: key.status_at(now),
            last_used_at: last_uses.get(&key.id).copied(),
            rotation_due_at: key.rotation_due_at(policy, now),
            predecessor: None,
            secret: None,
            key,
        });
        Ok(views.collect())
    }

    /// A page of a workspace's keys, oldest first: all of them, or those alone that are due to
    /// be rotated, or are not.
    ///
    /// # Errors
    /// A refusal unless whoever asks may see them.
    pub async fn api_keys_of(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        rotation_due: Option<bool>,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<ApiKeyView>, ServiceError> {
        let permission = Permission::SeeKeys;
        let place = self
            .may_in_workspace(request, principal, workspace, permission, "api_key.read")
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let policy = policy_of(&state, Some(workspace)).await?;
        let now = state.now();
        let is_due = |key: &ApiKeyDocument| {
            let due_at = key.rotation_due_at(&policy, now);
            due_at.is_some_and(|due_at| due_at <= now)
        };
        let page = state
            .documents::<ApiKeys>()
            .page_of_parent_where(&workspace.to_string(), after, limit, |key| {
                rotation_due
                    .is_none_or(|due| due == is_due(&key))
                    .then_some(key)
            })
            .await?;
        self.viewed(&state, page, &policy).await
    }

    /// A page of an organization's own keys, oldest first.
    ///
    /// # Errors
    /// A refusal unless the caller owns it.
    pub async fn organization_keys_of(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<ApiKeyView>, ServiceError> {
        let permission = OrganizationPermission::SeeKeys;
        self.may_in_organization(request, caller, organization, permission, "api_key.read")
            .await?;
        let state = self.state_of_organization(request, organization).await?;
        let holder = organization.to_string();
        let page = state
            .documents::<ApiKeys>()
            .page_of_parent(&holder, after, limit)
            .await?;
        self.viewed(&state, page, &Policy::default()).await
    }

    async fn viewed(
        &self,
        state: &State<'_>,
        page: Page<ApiKeyDocument>,
        policy: &Policy,
    ) -> Result<Page<ApiKeyView>, ServiceError> {
        let (keys, documents): (Vec<_>, Vec<_>) = page.items.into_iter().unzip();
        let views = self.key_views(state, documents, policy).await?;
        Ok(Page {
            items: keys.into_iter().zip(views).collect(),
            more: page.more,
            position: page.position,
        })
    }

    /// A key of an organization.
    ///
    /// # Errors
    /// A refusal unless the caller owns it; [`Refusal::NotFound`] where it is not there.
    pub async fn organization_key(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        key: KeyId,
    ) -> Result<Found<ApiKeyView>, ServiceError> {
        let permission = OrganizationPermission::SeeKeys;
        self.may_in_organization(request, caller, organization, permission, "api_key.read")
            .await?;
        let state = self.state_of_organization(request, organization).await?;
        let holder = Holder::Organization(organization);
        self.held_key(&state, holder, key).await
    }

    async fn held_key(
        &self,
        state: &State<'_>,
        holder: Holder,
        key: KeyId,
    ) -> Result<Found<ApiKeyView>, ServiceError> {
        let found = state.documents::<ApiKeys>().get(&key.to_string()).await?;
        let document = found.value.filter(|key| holder.holds(key));
        let document = document.ok_or(MISSING)?;
        let policy = policy_of(state, document.workspace).await?;
        let mut views = self.key_views(state, vec![document], &policy).await?;
        Ok(Found {
            position: found.position,
            value: views.pop().ok_or(MISSING)?,
        })
    }

    /// A key of a workspace.
    ///
    /// # Errors
    /// A refusal unless whoever asks may see it; [`Refusal::NotFound`] where it is not there.
    pub async fn api_key(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        key: KeyId,
    ) -> Result<Found<ApiKeyView>, ServiceError> {
        let permission = Permission::SeeKeys;
        let place = self
            .may_in_workspace(request, principal, workspace, permission, "api_key.read")
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        self.held_key(&state, Holder::Workspace(place), key).await
    }

    /// Writes that a key's time ran out; due work.
    pub(super) async fn expire_key(&self, document: &ApiKeyDocument) -> Result<(), ServiceError> {
        let holder = match document.workspace {
            Some(workspace) => Holder::Workspace(self.known_place(workspace).await?),
            None => Holder::Organization(document.organization),
        };
        let (stream, command) = (holder.stream(), KeyCommand::Expire { key: document.id });
        let unit = Unit {
            lane: document.organization.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                let command = command.clone();
                let decided = match holder {
                    Holder::Workspace(_) => {
                        let command = WorkspaceCommand::ApiKey(command);
                        desk.execute::<Workspace>(&stream, command, &[])
                    }
                    Holder::Organization(_) => {
                        let command = OrganizationCommand::Key(command);
                        desk.execute::<Organization>(&stream, command, &[])
                    }
                };
                match decided {
                    // Another process was quicker, or somebody has revoked it.
                    Ok(()) | Err(Refusal::ApiKeyNotActive { .. } | Refusal::NotFound { .. }) => {
                        Ok(Made::Nothing.outcome(0))
                    }
                    Err(refusal) => Err(refusal.into()),
                }
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }
}

impl From<NewKey> for KeyTerms {
    fn from(new: NewKey) -> Self {
        Self {
            name: new.name.into(),
            scopes: new.scopes,
            crews: new.crews,
            allowed_cidrs: new.allowed_cidrs,
            expires_at: new.expires_at,
        }
    }
}
