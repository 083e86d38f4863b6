//! Signing up: an account, its first session and, in one go, the organization and the
//! workspace that come with it. One unit over up to three streams: all of it, or nothing.

use futures::FutureExt;
use secrecy::SecretString;

use super::{
    Caller, Me, Request, Service, ServiceError, SessionView, Token, TokenKind, Written,
    organizations::organization_stream,
    people::NewSubject,
    throttle::Network,
    write::{Composed, Made, Sender},
};
use crate::{
    domain::{
        EmailAddress, Name, Refusal,
        authority::Actor,
        ids::{EventId, OrganizationId, SessionId, UserId, WorkspaceId},
        organization::{Organization, OrganizationCommand},
        plans::PlanName,
        sealed::KeyOwner,
        user::{User, UserCommand},
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{Desk, Rejection, StreamRef, sealing::DataKey, stores::Statement},
    projections::{ACCOUNT, OrganizationDocument, WorkspaceDocument},
};

/// What somebody signs up with.
#[derive(Debug, Clone)]
pub struct SignUp {
    pub email: EmailAddress,
    pub password: SecretString,
    pub name: Name,
    pub organization: Option<Name>,
    /// Needs an organization.
    pub workspace: Option<FirstWorkspace>,
}

/// The workspace that is made with a sign-up.
#[derive(Debug, Clone)]
pub struct FirstWorkspace {
    pub name: Name,
    pub plan: PlanName,
}

/// What a sign-up made.
#[derive(Debug)]
pub struct SignedUp {
    pub me: Me,
    pub organization: Option<OrganizationDocument>,
    pub workspace: Option<WorkspaceDocument>,
    pub session: SessionView,
}

/// The ids of what a sign-up makes, the same however often it is decided.
#[derive(Clone, Copy)]
struct Ids {
    user: UserId,
    session: SessionId,
    organization: Option<OrganizationId>,
    workspace: Option<WorkspaceId>,
}

/// An account that is being made: the events' fields sealed, and what is kept beside them.
pub(super) struct NewAccount {
    pub signed_up: EventId,
    pub command: UserCommand,
    pub key: std::sync::Arc<DataKey>,
    pub statements: Vec<Statement>,
}

const INSERT_PASSWORD: &str = "
INSERT INTO passwords (user_id, hash, changed_at, sequence)
VALUES ($1, $2, $3, 1)";

impl Service {
    /// Signs somebody up.
    ///
    /// # Errors
    /// [`Refusal::EmailTaken`] when there is an account with the address; an invalid value
    /// when the plan is not in the catalogue; [`ServiceError::TooManyAttempts`] after too many
    /// from the client's network.
    pub async fn sign_up(
        &self,
        request: &Request,
        asked: SignUp,
    ) -> Result<Written<SignedUp>, ServiceError> {
        if let Some(first) = &asked.workspace {
            self.plan_named("/workspace/plan", &first.plan)?;
        }
        let network = Network::of(request.ip);
        self.sign_up_limit
            .take(network, self.source().now())
            .map_err(|retry_after| ServiceError::TooManyAttempts { retry_after })?;
        let lookup = self.email_lookup(&asked.email);
        let sender = Sender::Anonymous(format!("sign-up {lookup}"));
        let password_hash = self.passwords.hash(asked.password.clone()).await?;
        let token = Token::generate(TokenKind::Session, self.source());
        let ids = Ids {
            user: UserId::from_uuid(self.source().uuid()),
            session: SessionId::from_uuid(self.source().uuid()),
            organization: asked
                .organization
                .as_ref()
                .map(|_| OrganizationId::from_uuid(self.source().uuid())),
            workspace: asked
                .workspace
                .as_ref()
                .map(|_| WorkspaceId::from_uuid(self.source().uuid())),
        };
        let receipt = self
            .submit(&sender, request, None, || {
                async {
                    Ok(self.compose_sign_up(request, &asked, ids, &lookup, &password_hash, &token))
                }
                .boxed()
            })
            .await?;
        let Made::SignedUp {
            user,
            session,
            organization,
            workspace,
        } = receipt.made
        else {
            return Err(ServiceError::Internal(
                "the kept answer is not a sign-up".to_owned(),
            ));
        };
        let organization = match organization {
            Some(id) => Some(self.organization_shown(&receipt, id).await?),
            None => None,
        };
        let workspace = match workspace {
            Some(id) => Some(self.workspace_shown(&receipt, id).await?),
            None => None,
        };
        let shown = SignedUp {
            me: self
                .me_of(&Request::default(), &Caller { user, session })
                .await?
                .value,
            organization,
            workspace,
            session: self.session_shown(&receipt, user, session, token).await?,
        };
        Ok(Written::of(&receipt, shown))
    }

    /// The command and the rows of a new account.
    pub(super) fn new_account(
        &self,
        user: UserId,
        email: &EmailAddress,
        name: &Name,
        lookup: &str,
        password_hash: &str,
    ) -> NewAccount {
        let NewSubject {
            key, statements, ..
        } = self.new_subject(ACCOUNT, Some(user), Some(lookup));
        let signed_up = EventId::from_uuid(self.source().uuid());
        let seal = |field, value| key.seal(self.source(), signed_up, field, value);
        let command = UserCommand::SignUp {
            user,
            email: seal("email", email.as_str()),
            name: seal("name", name.as_str()),
        };
        let keep_password = Statement::new(
            INSERT_PASSWORD,
            [
                user.to_string().into(),
                password_hash.into(),
                self.source().now().0.into(),
            ],
        );
        let mut statements = statements.to_vec();
        statements.push(keep_password);
        NewAccount {
            signed_up,
            command,
            key,
            statements,
        }
    }

    fn compose_sign_up(
        &self,
        request: &Request,
        asked: &SignUp,
        ids: Ids,
        lookup: &str,
        password_hash: &str,
        token: &Token,
    ) -> Composed {
        let account = self.new_account(ids.user, &asked.email, &asked.name, lookup, password_hash);
        let claim = Self::email_claim(ACCOUNT, lookup);
        let origin = request.origin(
            Actor::User { id: ids.user },
            Some(account.key.clone()),
            Some(account.key.clone()),
        );
        let profile = (asked.email.as_str(), asked.name.as_str(), 1);
        let user = StreamRef::of::<User>(ids.user, ids.user);
        let mut streams = vec![user.clone()];
        let organization = ids
            .organization
            .zip(asked.organization.clone())
            .map(|(id, name)| {
                let made = self.new_organization(id, name, ids.user, profile, lookup);
                streams.push(made.stream.clone());
                made
            });
        let workspace = ids
            .workspace
            .zip(ids.organization)
            .zip(asked.workspace.clone())
            .map(|((id, organization), first)| {
                let made = self.new_workspace(id, organization, first.name, ids.user, first.plan);
                streams.push(made.stream.clone());
                made
            });
        let started = self.new_session(ids.user, ids.session, token);
        let lookups = vec![claim.clone()];
        Composed {
            lane: ids.user.to_string(),
            streams,
            lookups,
            origin,
            decide: Box::new(move |desk| {
                decide_account(desk, &user, &claim, &account)?;
                if let Some(organization) = &organization {
                    organization.decide(desk)?;
                }
                if let Some(workspace) = &workspace {
                    workspace.decide(desk)?;
                }
                share_first_profile(desk, &user, ids.organization)?;
                started.decide(desk, &user)?;
                let made = Made::SignedUp {
                    user: ids.user,
                    session: ids.session,
                    organization: ids.organization,
                    workspace: ids.workspace,
                };
                Ok(made.outcome(201))
            }),
        }
    }
}

/// Makes an account whose address nobody has.
pub(super) fn decide_account(
    desk: &mut Desk<'_>,
    stream: &StreamRef,
    claim: &crate::journal::LookupKey,
    account: &NewAccount,
) -> Result<(), Rejection> {
    if desk.holder(claim).is_some() {
        return Err(Refusal::EmailTaken.into());
    }
    desk.hold(claim, Some(account.key.owner().to_string()));
    account
        .statements
        .iter()
        .for_each(|statement| desk.write_beside(statement.clone()));
    desk.execute::<User>(stream, account.command.clone(), &[account.signed_up])?;
    Ok(())
}

/// The organization was told of the profile in the same unit.
pub(super) fn share_first_profile(
    desk: &mut Desk<'_>,
    stream: &StreamRef,
    organization: Option<OrganizationId>,
) -> Result<(), Refusal> {
    let share = UserCommand::ShareProfile {
        profile_sequence: 1,
        organizations: organization.into_iter().collect(),
    };
    desk.execute::<User>(stream, share, &[])
}

/// An organization that is being made, with its owner known to it.
pub(super) struct NewOrganization {
    pub stream: StreamRef,
    create: OrganizationCommand,
    record: OrganizationCommand,
    recorded: EventId,
    statements: Vec<Statement>,
}

impl NewOrganization {
    pub(super) fn decide(&self, desk: &mut Desk<'_>) -> Result<(), Refusal> {
        self.statements
            .iter()
            .for_each(|statement| desk.write_beside(statement.clone()));
        desk.execute::<Organization>(&self.stream, self.create.clone(), &[])?;
        desk.execute::<Organization>(&self.stream, self.record.clone(), &[self.recorded])
    }
}

/// A workspace that is being made.
pub(super) struct NewWorkspace {
    pub id: WorkspaceId,
    pub stream: StreamRef,
    create: WorkspaceCommand,
    keep_key: Statement,
}

impl NewWorkspace {
    pub(super) fn decide(&self, desk: &mut Desk<'_>) -> Result<(), Refusal> {
        desk.write_beside(self.keep_key.clone());
        desk.execute::<Workspace>(&self.stream, self.create.clone(), &[])
    }
}

impl Service {
    /// What makes an organization whose owner has this profile: address, name and sequence.
    pub(super) fn new_organization(
        &self,
        id: OrganizationId,
        name: Name,
        owner: UserId,
        (email, owner_name, profile_sequence): (&str, &str, u64),
        lookup: &str,
    ) -> NewOrganization {
        let (_, keep_key) = self.keyring.create(KeyOwner::Organization(id));
        let subject = self.new_subject(id, Some(owner), Some(lookup));
        let recorded = EventId::from_uuid(self.source().uuid());
        let seal = |field, value| subject.key.seal(self.source(), recorded, field, value);
        let mut statements = subject.statements.to_vec();
        statements.push(keep_key);
        statements.extend(self.keep_words(&id.to_string(), owner, owner_name));
        NewOrganization {
            stream: organization_stream(id),
            create: OrganizationCommand::Create {
                organization: id,
                name,
                created_by: owner,
            },
            record: OrganizationCommand::RecordPerson {
                user: owner,
                profile_sequence,
                email: seal("email", email),
                name: seal("name", owner_name),
            },
            recorded,
            statements,
        }
    }

    /// What makes a workspace.
    pub(super) fn new_workspace(
        &self,
        id: WorkspaceId,
        organization: OrganizationId,
        name: Name,
        owner: UserId,
        plan: PlanName,
    ) -> NewWorkspace {
        let (_, keep_key) = self.keyring.create(KeyOwner::Workspace(id));
        NewWorkspace {
            id,
            stream: StreamRef::of::<Workspace>(id, id),
            create: WorkspaceCommand::Create {
                workspace: id,
                organization,
                name,
                created_by: owner,
                plan,
            },
            keep_key,
        }
    }
}
