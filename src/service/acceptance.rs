//! Coming in: an invitation accepted or declined by whoever holds its token.
//!
//! Accepting needs the invited address: of the account that is signed in, or of the one
//! that is made with it. Letting somebody in is one unit over account, workspace and
//! organization.
//!
//! An invitation is for an address, and so for whoever has it when they accept. The subject that
//! its address was sealed under may be somebody who had it before: that stays them, and whoever
//! comes in is another ([`super::introductions`] says who is who).

use futures::FutureExt;
use secrecy::SecretString;

use super::{
    Caller, InvitationView, MemberView, Opened, Request, Service, ServiceError, SessionView, Token,
    TokenKind, Written,
    introductions::{Introduction, ProfileCopy},
    invitations::MISSING,
    sign_up::{decide_account, share_first_profile},
    workspaces::Place,
    write::{Composed, Made, Sender},
};
use crate::{
    domain::{
        EmailAddress, Name, Refusal,
        authority::Actor,
        ids::{SessionId, UserId},
        sealed::KeyOwner,
        user::User,
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{Desk, LookupKey, Rejection, StreamRef},
    projections::{ACCOUNT, InvitationDocument},
};

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
    /// The invitation that a token is of, by its hash.
    async fn invitation_of(&self, token: &SecretString) -> Result<FoundInvitation, ServiceError> {
        let token = Token::parse(TokenKind::Invitation, token).ok_or(MISSING)?;
        let token_hash = token.hash_text();
        let page = self
            .invitations()
            .page_of_lookup(&token_hash, None, 1)
            .await?;
        let (_, document) = page.items.into_iter().next().ok_or(MISSING)?;
        let place = self.present_place(document.workspace).await?;
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
                    let workspace = found.place.workspace;
                    // Whoever holds the token is not known to be the person that was invited.
                    let scope = self.keyring.newest(KeyOwner::Workspace(workspace)).await?;
                    let command = WorkspaceCommand::DeclineInvitation {
                        invitation: id,
                        token_hash: found.token_hash.clone(),
                    };
                    Ok(Composed {
                        lane: found.place.organization.to_string(),
                        streams: vec![stream.clone()],
                        lookups: vec![],
                        origin: request.origin(Actor::System, scope.clone(), scope),
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
        let subject = profile.subject.to_string();
        let copy = ProfileCopy {
            email: &profile.email,
            name: &profile.name,
            sequence: profile.account.version,
            lookup: &guest.lookup,
        };
        let joining = self.joining(found, guest, &copy).await?;
        let (organization, workspace) = (found.place.organization, found.place.workspace);
        let origin = self
            .origin(caller, request, Some(organization), Some(workspace))
            .await?;
        let claim = Self::email_claim(ACCOUNT, &guest.lookup);
        let caller = caller.clone();
        Ok(Composed {
            lane: organization.to_string(),
            streams: joining.streams(),
            lookups: joining.lookups(&claim),
            origin,
            decide: Box::new(move |desk| {
                caller.is_live(desk)?;
                if desk.holder(&claim) != Some(&subject) {
                    return Err(Rejection::Recompose);
                }
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
        let copy = ProfileCopy {
            email: guest.email.as_str(),
            name: name.as_str(),
            sequence: 1,
            lookup: &guest.lookup,
        };
        let joining = self.joining(found, guest, &copy).await?;
        let (organization, workspace) = (found.place.organization, found.place.workspace);
        let free_text = self.keyring.newest(KeyOwner::Workspace(workspace)).await?;
        let actor = Actor::User { id: user };
        let origin = request.origin(actor, Some(account.key.clone()), free_text);
        let claim = Self::email_claim(ACCOUNT, &guest.lookup);
        let stream = StreamRef::of::<User>(user, user);
        let started = self.new_session(user, session, token);
        let invitation = found.document.id;
        Ok(Composed {
            lane: organization.to_string(),
            streams: joining.streams(),
            lookups: joining.lookups(&claim),
            origin,
            decide: Box::new(move |desk| {
                // An invitation that is over is said to be so, whoever has the address by now.
                desk.read::<Workspace>(&joining.workspace)
                    .invitation(invitation)?;
                decide_account(desk, &stream, &claim, &account)?;
                started.decide(desk, &stream)?;
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

    /// What lets somebody in: the invitation accepted, and they known in the organization.
    async fn joining(
        &self,
        found: &FoundInvitation,
        guest: &Guest,
        profile: &ProfileCopy<'_>,
    ) -> Result<Joining, ServiceError> {
        let organization = found.place.organization;
        let invited = match found.document.email.sealed.subject {
            KeyOwner::Subject(subject) => Some(subject),
            KeyOwner::Workspace(_) | KeyOwner::Organization(_) | KeyOwner::Credential(_) => None,
        };
        let introduction = self
            .introduction_as(guest.user, organization, profile, invited)
            .await?;
        Ok(Joining {
            workspace: found.place.stream(),
            accept: WorkspaceCommand::AcceptInvitation {
                invitation: found.document.id,
                token_hash: found.token_hash.clone(),
                user: guest.user,
            },
            introduction,
        })
    }
}

/// See [`Service::joining`].
struct Joining {
    workspace: StreamRef,
    accept: WorkspaceCommand,
    introduction: Introduction,
}

impl Joining {
    /// The streams of account, workspace and organization.
    fn streams(&self) -> Vec<StreamRef> {
        let introduction = &self.introduction;
        vec![
            introduction.person.clone(),
            self.workspace.clone(),
            introduction.organization.clone(),
        ]
    }

    /// The claim of the account's address, and what the introduction takes.
    fn lookups(&self, claim: &LookupKey) -> Vec<LookupKey> {
        let mut lookups = self.introduction.lookups();
        lookups.push(claim.clone());
        lookups
    }

    fn decide(&self, desk: &mut Desk<'_>) -> Result<(), Rejection> {
        desk.execute::<Workspace>(&self.workspace, self.accept.clone(), &[])?;
        self.introduction.decide(desk)
    }
}
