//! Invitations: sent, sent again, taken back, accepted, declined.
//!
//! The token is shown once and kept as a hash. Accepting needs the invited address: of the
//! account that is signed in, or of the one that is made with it.

use futures::FutureExt;
use secrecy::SecretString;

use super::{
    Caller, MemberView, Opened, Request, Service, ServiceError, SessionView, Token, TokenKind,
    Written,
    people::FoundSubject,
    sessions::keep_token,
    sign_up::{decide_account, share_first_profile},
    workspaces::{DecideInWorkspace, Place},
    write::{Composed, Made, Receipt, Sender, profile_is_at},
};
use crate::{
    domain::{
        EmailAddress, Name, Refusal, Timestamp,
        authority::{Actor, Permission, Role},
        ids::{EventId, InvitationId, SessionId, UserId, WorkspaceId},
        organization::{Organization, OrganizationCommand},
        sealed::KeyOwner,
        user::{User, UserCommand},
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{Desk, LookupKey, Origin, Rejection, StreamRef, Unit, sealing::DataKey},
    projections::{ACCOUNT, Found, InvitationDocument, InvitationStatus, Invitations, Page},
};
use std::sync::Arc;

/// An invitation, opened for whoever may invite.
#[derive(Debug)]
pub struct InvitationView {
    pub id: InvitationId,
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub workspace: WorkspaceId,
    pub email: Opened,
    pub role: Role,
    pub status: InvitationStatus,
    pub expires_at: Timestamp,
    pub invited_by: UserId,
    pub accepted_by: Option<UserId>,
    pub token: Option<Token>,
}

/// How somebody accepts.
#[derive(Debug)]
pub enum Acceptance {
    /// With the account that is signed in.
    SignedIn(Caller),
    /// With a new account of the invited address.
    Newcomer(Newcomer),
}

/// What a newcomer brings.
#[derive(Debug)]
pub struct Newcomer {
    pub name: Name,
    pub password: SecretString,
}

/// What accepting made.
#[derive(Debug)]
pub struct Accepted {
    pub member: MemberView,
    /// The newcomer's first session.
    pub session: Option<SessionView>,
}

const MISSING: Refusal = Refusal::NotFound {
    what: "invitation",
    hidden: false,
};

/// An invitation found by its token.
struct FoundInvitation {
    document: InvitationDocument,
    place: Place,
    token_hash: String,
}

/// Who accepts, ready to be decided.
struct Guest {
    user: UserId,
    session: SessionId,
    email: EmailAddress,
    lookup: String,
    newcomer: Option<(Name, String, Token)>,
}

impl Service {
    /// Invites somebody by e-mail.
    ///
    /// # Errors
    /// A refusal unless the caller may invite with that role; [`Refusal::AlreadyMember`].
    pub async fn invite(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        email: &EmailAddress,
        role: Role,
    ) -> Result<Written<InvitationView>, ServiceError> {
        let place = self.known_place(workspace).await?;
        let id = InvitationId::from_uuid(self.source().uuid());
        let token = Token::generate(TokenKind::Invitation, self.source());
        let sender = Sender::Person(caller.clone());
        let aim = place.aim("member.invited", workspace);
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                async {
                    self.compose_invite(request, caller, place, id, email, role, &token)
                        .await
                }
                .boxed()
            })
            .await?;
        self.invitation_shown(&receipt, Some(token)).await
    }

    #[expect(clippy::too_many_arguments, reason = "what an invitation consists of")]
    async fn compose_invite(
        &self,
        request: &Request,
        caller: &Caller,
        place: Place,
        id: InvitationId,
        email: &EmailAddress,
        role: Role,
        token: &Token,
    ) -> Result<Composed, ServiceError> {
        let realm = place.organization.to_string();
        let lookup = self.email_lookup(email);
        let known = self.subjects.of_email(&realm, &lookup).await?;
        let (key, holder, statements) = self.invitee(&realm, &lookup, known).await?;
        let invitee = self.user_of_email(&lookup).await?;
        let event = EventId::from_uuid(self.source().uuid());
        let email = key.seal(self.source(), event, "email", email.as_str());
        let claim = Self::email_claim(&realm, &lookup);
        let (lives, actor) = (self.settings.invitation_lifetime, caller.user);
        let (token_hash, claimed) = (token.hash_text(), claim.clone());
        let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
            // Somebody may have made, or erased, the subject of this address meanwhile.
            if desk.holder(&claimed) != known.map(|known| known.subject.to_string()).as_deref() {
                return Err(Rejection::Recompose);
            }
            let command = WorkspaceCommand::Invite {
                actor,
                invitation: id,
                email: email.clone(),
                role,
                token_hash: token_hash.clone(),
                expires_at: desk.now().plus(lives),
                invitee,
            };
            desk.execute::<Workspace>(stream, command, &[event])?;
            if known.is_none() {
                desk.hold(&claimed, Some(holder.clone()));
            }
            statements
                .iter()
                .for_each(|statement| desk.write_beside(statement.clone()));
            Ok(Made::Invitation(place.workspace, id))
        });
        let permission = Permission::InviteMembers;
        let mut composed = self
            .compose_in_workspace(request, caller, place, permission, None, 201, decide)
            .await?;
        composed.lookups.push(claim);
        Ok(composed)
    }

    /// The key of an invited address in an organization: of the subject that has it, or of a
    /// new one with the statements that keep it.
    async fn invitee(
        &self,
        realm: &str,
        lookup: &str,
        known: Option<FoundSubject>,
    ) -> Result<(Arc<DataKey>, String, Vec<crate::journal::stores::Statement>), ServiceError> {
        if let Some(known) = known {
            let key = self
                .keyring
                .newest(KeyOwner::Subject(known.subject))
                .await?;
            let key = key.ok_or_else(|| {
                ServiceError::Internal(format!("subject {} has no key", known.subject))
            })?;
            return Ok((key, known.subject.to_string(), vec![]));
        }
        let made = self.new_subject(realm, None, lookup);
        Ok((made.key, made.subject.to_string(), made.statements.to_vec()))
    }

    async fn invitation_shown(
        &self,
        receipt: &Receipt,
        token: Option<Token>,
    ) -> Result<Written<InvitationView>, ServiceError> {
        let Made::Invitation(workspace, id) = receipt.made else {
            return Err(ServiceError::Internal(
                "the kept answer is no invitation".to_owned(),
            ));
        };
        let (stream, key) = (workspace.to_string(), id.to_string());
        let documents = self.invitations();
        let document = self
            .shown::<Invitations, Workspace>(documents, receipt, &stream, &key)
            .await?;
        let mut view = self.opened_invitation(document).await?;
        view.token = token.filter(|_| !receipt.replayed);
        Ok(Written::of(receipt, view))
    }

    async fn opened_invitation(
        &self,
        document: InvitationDocument,
    ) -> Result<InvitationView, ServiceError> {
        Ok(InvitationView {
            id: document.id,
            version: document.version,
            created_at: document.created_at,
            updated_at: document.updated_at,
            workspace: document.workspace,
            email: self.open(&document.email).await?,
            role: document.role,
            status: document.status_at(self.source().now()),
            expires_at: document.expires_at,
            invited_by: document.invited_by,
            accepted_by: document.accepted_by,
            token: None,
        })
    }

    /// A page of a workspace's invitations, oldest first.
    ///
    /// # Errors
    /// A refusal unless the caller may invite.
    pub async fn invitations_of(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<InvitationView>, ServiceError> {
        let permission = Permission::InviteMembers;
        self.may_in_workspace(request, caller, workspace, permission, "invitation.read")
            .await?;
        let page = self
            .invitations()
            .page_of_parent(&workspace.to_string(), after, limit)
            .await?;
        let mut items = Vec::with_capacity(page.items.len());
        for (key, document) in page.items {
            items.push((key, self.opened_invitation(document).await?));
        }
        Ok(Page {
            items,
            more: page.more,
            position: page.position,
        })
    }

    /// One invitation.
    ///
    /// # Errors
    /// A refusal unless the caller may invite.
    pub async fn invitation(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        id: InvitationId,
    ) -> Result<Found<InvitationView>, ServiceError> {
        let permission = Permission::InviteMembers;
        self.may_in_workspace(request, caller, workspace, permission, "invitation.read")
            .await?;
        let found = self.invitations().get(&id.to_string()).await?;
        let document = found
            .value
            .filter(|document| document.workspace == workspace);
        Ok(Found {
            position: found.position,
            value: self.opened_invitation(document.ok_or(MISSING)?).await?,
        })
    }

    /// Sends an invitation again: a new token, and a new deadline; the old token is dead.
    ///
    /// # Errors
    /// A refusal unless the caller may invite with that role; [`Refusal::InvitationNotPending`].
    pub async fn resend_invitation(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        id: InvitationId,
    ) -> Result<Written<InvitationView>, ServiceError> {
        let token = Token::generate(TokenKind::Invitation, self.source());
        let (token_hash, actor) = (token.hash_text(), caller.user);
        let lives = self.settings.invitation_lifetime;
        let resend = move |now: Timestamp| WorkspaceCommand::ResendInvitation {
            actor,
            invitation: id,
            token_hash: token_hash.clone(),
            expires_at: now.plus(lives),
        };
        let action = "invitation.resent";
        let receipt = self
            .change_invitation(request, caller, workspace, id, action, Arc::new(resend))
            .await?;
        self.invitation_shown(&receipt, Some(token)).await
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// A refusal unless the caller may; [`Refusal::InvitationNotPending`].
    pub async fn revoke_invitation(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        id: InvitationId,
    ) -> Result<Written<InvitationView>, ServiceError> {
        let actor = caller.user;
        let revoke = move |_: Timestamp| WorkspaceCommand::RevokeInvitation {
            actor,
            invitation: id,
        };
        let action = "invitation.revoked";
        let receipt = self
            .change_invitation(request, caller, workspace, id, action, Arc::new(revoke))
            .await?;
        self.invitation_shown(&receipt, None).await
    }

    async fn change_invitation(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        id: InvitationId,
        action: &'static str,
        command: Arc<dyn Fn(Timestamp) -> WorkspaceCommand + Send + Sync>,
    ) -> Result<Receipt, ServiceError> {
        let place = self.known_place(workspace).await?;
        let sender = Sender::Person(caller.clone());
        self.submit(&sender, request, Some(&place.aim(action, id)), || {
            async {
                let version = async {
                    let found = self.invitations().get(&id.to_string()).await?.value;
                    let here = found.filter(|document| document.workspace == workspace);
                    Ok(here.map(|document| document.version))
                };
                let permission = Permission::InviteMembers;
                let sequence = self
                    .checked_sequence_in(request, caller, place, permission, version)
                    .await?;
                let command = command.clone();
                let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
                    desk.execute::<Workspace>(stream, command(desk.now()), &[])?;
                    Ok(Made::Invitation(workspace, id))
                });
                self.compose_in_workspace(request, caller, place, permission, sequence, 200, decide)
                    .await
            }
            .boxed()
        })
        .await
    }

    /// The invitation that a token is of, by its hash.
    async fn invitation_of(&self, token: &SecretString) -> Result<FoundInvitation, ServiceError> {
        let token = Token::parse(TokenKind::Invitation, token).ok_or(MISSING)?;
        let token_hash = token.hash_text();
        let page = self
            .invitations()
            .page_of_lookup(&token_hash, None, 1)
            .await?;
        let (_, document) = page.items.into_iter().next().ok_or(MISSING)?;
        let place = self.known_place(document.workspace).await?;
        Ok(FoundInvitation {
            document,
            place,
            token_hash,
        })
    }

    /// Declines an invitation; whoever holds the token may.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for an unknown or replaced token; [`Refusal::InvitationNotPending`].
    pub async fn decline_invitation(
        &self,
        request: &Request,
        token: &SecretString,
    ) -> Result<Written<InvitationView>, ServiceError> {
        let found = self.invitation_of(token).await?;
        let id = found.document.id;
        let sender = Sender::Anonymous(format!("invitation {id}"));
        let receipt = self
            .submit(&sender, request, None, || {
                async {
                    let stream = found.place.stream();
                    let owner = found.document.email.sealed.subject;
                    let person = self.keyring.newest(owner).await?;
                    let workspace = found.place.workspace;
                    let free_text = self.keyring.newest(KeyOwner::Workspace(workspace)).await?;
                    let command = WorkspaceCommand::DeclineInvitation {
                        invitation: id,
                        token_hash: found.token_hash.clone(),
                    };
                    Ok(Composed {
                        lane: found.place.organization.to_string(),
                        streams: vec![stream.clone()],
                        lookups: vec![],
                        origin: request.origin(Actor::System, person, free_text),
                        decide: Box::new(move |desk| {
                            desk.execute::<Workspace>(&stream, command.clone(), &[])?;
                            Ok(Made::Invitation(workspace, id).outcome(200))
                        }),
                    })
                }
                .boxed()
            })
            .await?;
        self.invitation_shown(&receipt, None).await
    }

    /// Accepts an invitation, with the account that is signed in or with a new one.
    ///
    /// # Errors
    /// [`Refusal::InvitationForAnother`] when the account has another address;
    /// [`Refusal::EmailTaken`] when a newcomer's address has an account: sign in with it.
    pub async fn accept_invitation(
        &self,
        request: &Request,
        token: &SecretString,
        acceptance: Acceptance,
    ) -> Result<Written<Accepted>, ServiceError> {
        let found = self.invitation_of(token).await?;
        let sender = match &acceptance {
            Acceptance::SignedIn(caller) => Sender::Person(caller.clone()),
            Acceptance::Newcomer(_) => {
                Sender::Anonymous(format!("invitation {}", found.document.id))
            }
        };
        let guest = self.guest(&found, acceptance).await?;
        let aim = found.place.aim("invitation.accepted", found.document.id);
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                async {
                    match &guest.newcomer {
                        None => self.compose_member(request, &sender, &found, &guest).await,
                        Some(_) => self.compose_newcomer(request, &found, &guest).await,
                    }
                }
                .boxed()
            })
            .await?;
        let Made::Accepted { user, session, .. } = receipt.made else {
            return Err(ServiceError::Internal(
                "the kept answer is no acceptance".to_owned(),
            ));
        };
        let session = match (session, guest.newcomer) {
            (Some(session), Some((_, _, token))) => {
                Some(self.session_shown(&receipt, user, session, token).await?)
            }
            _ => None,
        };
        let member = self.member_shown(&receipt, found.place, user).await?;
        Ok(Written::of(&receipt, Accepted { member, session }))
    }

    async fn guest(
        &self,
        found: &FoundInvitation,
        acceptance: Acceptance,
    ) -> Result<Guest, ServiceError> {
        let Opened::Value(email) = self.open(&found.document.email).await? else {
            return Err(MISSING.into());
        };
        let email = EmailAddress::parse(&email)
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        let lookup = self.email_lookup(&email);
        let (user, session, newcomer) = match acceptance {
            Acceptance::SignedIn(caller) => (caller.user, caller.session, None),
            Acceptance::Newcomer(newcomer) => {
                let hash = self.passwords.hash(newcomer.password).await?;
                let token = Token::generate(TokenKind::Session, self.source());
                let user = UserId::from_uuid(self.source().uuid());
                let session = SessionId::from_uuid(self.source().uuid());
                (user, session, Some((newcomer.name, hash, token)))
            }
        };
        Ok(Guest {
            user,
            session,
            email,
            lookup,
            newcomer,
        })
    }

    async fn compose_member(
        &self,
        request: &Request,
        sender: &Sender,
        found: &FoundInvitation,
        guest: &Guest,
    ) -> Result<Composed, ServiceError> {
        let Sender::Person(caller) = sender else {
            return Err(ServiceError::Unauthenticated);
        };
        if self.user_of_email(&guest.lookup).await? != Some(caller.user) {
            return Err(Refusal::InvitationForAnother.into());
        }
        let profile = self.profile(caller.user).await?;
        let profile_sequence = profile.account.version;
        let subject = profile.subject.to_string();
        let copied = (
            profile.email.as_str(),
            profile.name.as_str(),
            profile_sequence,
        );
        let joining = self.joining(found, guest, copied).await?;
        let (organization, workspace) = (found.place.organization, found.place.workspace);
        let origin = self
            .origin(caller, request, Some(organization), Some(workspace))
            .await?;
        let claim = Self::email_claim(ACCOUNT, &guest.lookup);
        let caller = caller.clone();
        Ok(Composed {
            lane: organization.to_string(),
            streams: vec![
                caller.stream(),
                joining.workspace.clone(),
                joining.organization.clone(),
            ],
            lookups: vec![claim.clone(), joining.claim.clone()],
            origin,
            decide: Box::new(move |desk| {
                caller.is_live(desk)?;
                if desk.holder(&claim) != Some(&subject) {
                    return Err(Rejection::Recompose);
                }
                profile_is_at(desk, &caller, profile_sequence)?;
                joining.decide(desk)?;
                let made = Made::Accepted {
                    workspace,
                    user: caller.user,
                    session: None,
                };
                Ok(made.outcome(200))
            }),
        })
    }

    async fn compose_newcomer(
        &self,
        request: &Request,
        found: &FoundInvitation,
        guest: &Guest,
    ) -> Result<Composed, ServiceError> {
        let Some((name, hash, token)) = &guest.newcomer else {
            return Err(ServiceError::Unauthenticated);
        };
        let (user, session) = (guest.user, guest.session);
        let account = self.new_account(user, &guest.email, name, &guest.lookup, hash);
        let copied = (guest.email.as_str(), name.as_str(), 1);
        let joining = self.joining(found, guest, copied).await?;
        let (organization, workspace) = (found.place.organization, found.place.workspace);
        let free_text = self.keyring.newest(KeyOwner::Workspace(workspace)).await?;
        let actor = Actor::User { id: user };
        let origin = request.origin(actor, Some(account.key.clone()), free_text);
        let claim = Self::email_claim(ACCOUNT, &guest.lookup);
        let stream = StreamRef::of::<User>(user, user);
        let (expires_in, token_hash) = (self.settings.session_lifetime, token.hash());
        Ok(Composed {
            lane: organization.to_string(),
            streams: vec![
                stream.clone(),
                joining.workspace.clone(),
                joining.organization.clone(),
            ],
            lookups: vec![claim.clone(), joining.claim.clone()],
            origin,
            decide: Box::new(move |desk| {
                decide_account(desk, &stream, &claim, &account)?;
                let expires_at = desk.now().plus(expires_in);
                let start = UserCommand::StartSession {
                    session,
                    expires_at,
                };
                desk.execute::<User>(&stream, start, &[])?;
                desk.write_beside(keep_token(&token_hash, session, user, expires_at));
                joining.decide(desk)?;
                share_first_profile(desk, &stream, Some(organization))?;
                let made = Made::Accepted {
                    workspace,
                    user,
                    session: Some(session),
                };
                Ok(made.outcome(200))
            }),
        })
    }

    /// What lets somebody in: the invitation accepted, their subject in the organization
    /// linked to their account, and their profile recorded there.
    async fn joining(
        &self,
        found: &FoundInvitation,
        guest: &Guest,
        (email, name, profile_sequence): (&str, &str, u64),
    ) -> Result<Joining, ServiceError> {
        let organization = found.place.organization;
        let owner = found.document.email.sealed.subject;
        let key = self.keyring.newest(owner).await?.ok_or(MISSING)?;
        let recorded = EventId::from_uuid(self.source().uuid());
        Ok(Joining {
            workspace: found.place.stream(),
            organization: StreamRef::of::<Organization>(organization, organization),
            claim: Self::email_claim(organization, &guest.lookup),
            subject: owner.to_string(),
            accept: WorkspaceCommand::AcceptInvitation {
                invitation: found.document.id,
                token_hash: found.token_hash.clone(),
                user: guest.user,
            },
            record: OrganizationCommand::RecordPerson {
                user: guest.user,
                profile_sequence,
                email: key.seal(self.source(), recorded, "email", email),
                name: key.seal(self.source(), recorded, "name", name),
            },
            recorded,
            link: Self::link_subject(guest.user, &organization.to_string(), &guest.lookup),
        })
    }

    /// Writes that an invitation's time has run out; accepted once, whoever asks.
    pub(super) async fn expire_invitation(
        &self,
        document: &InvitationDocument,
    ) -> Result<(), ServiceError> {
        let place = self.known_place(document.workspace).await?;
        let (stream, invitation) = (place.stream(), document.id);
        let unit = Unit {
            lane: place.organization.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                let expire = WorkspaceCommand::ExpireInvitation { invitation };
                match desk.execute::<Workspace>(&stream, expire, &[]) {
                    // Another process, or a person, was first.
                    Ok(())
                    | Err(
                        Refusal::InvitationNotPending { .. }
                        | Refusal::InvitationStillPending { .. },
                    ) => Ok(Made::Nothing.outcome(0)),
                    Err(refusal) => Err(refusal.into()),
                }
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }
}

/// See [`Service::joining`].
struct Joining {
    workspace: StreamRef,
    organization: StreamRef,
    /// The invited address in the organization.
    claim: LookupKey,
    subject: String,
    accept: WorkspaceCommand,
    record: OrganizationCommand,
    recorded: EventId,
    link: crate::journal::stores::Statement,
}

impl Joining {
    fn decide(&self, desk: &mut Desk<'_>) -> Result<(), Rejection> {
        if desk.holder(&self.claim) != Some(&self.subject) {
            return Err(Rejection::Recompose);
        }
        desk.execute::<Workspace>(&self.workspace, self.accept.clone(), &[])?;
        desk.execute::<Organization>(&self.organization, self.record.clone(), &[self.recorded])?;
        desk.write_beside(self.link.clone());
        Ok(())
    }
}
