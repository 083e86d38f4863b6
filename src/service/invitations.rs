//! Invitations: sent, sent again, taken back, expired; [`super::acceptance`] lets people in.
//!
//! The token is shown once and kept as a hash.

use futures::FutureExt;

use super::{
    Caller, Opened, Request, Service, ServiceError, Token, TokenKind, Written,
    people::FoundSubject,
    workspaces::{DecideInWorkspace, Place},
    write::{Composed, Made, Receipt, Sender},
};
use crate::{
    domain::{
        EmailAddress, Refusal, Timestamp,
        authority::{Permission, Role},
        ids::{EventId, InvitationId, UserId, WorkspaceId},
        sealed::KeyOwner,
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{Origin, Rejection, Unit, sealing::DataKey},
    projections::{Found, InvitationDocument, InvitationStatus, Invitations, Page},
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

pub(super) const MISSING: Refusal = Refusal::NotFound {
    what: "invitation",
    hidden: false,
};

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
        let invitee = self.user_of_email(&lookup).await?;
        let (key, holder, statements) = self.invitee(&realm, &lookup, known, invitee).await?;
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
    /// new one with the statements that keep it. A subject that is somebody whose account has
    /// another address by now is not the one that is invited.
    async fn invitee(
        &self,
        realm: &str,
        lookup: &str,
        known: Option<FoundSubject>,
        invitee: Option<UserId>,
    ) -> Result<(Arc<DataKey>, String, Vec<crate::journal::stores::Statement>), ServiceError> {
        let is_invited = |known: &FoundSubject| known.user.is_none() || known.user == invitee;
        if let Some(known) = known.filter(is_invited) {
            let key = self
                .keyring
                .newest(KeyOwner::Subject(known.subject))
                .await?;
            let key = key.ok_or_else(|| {
                ServiceError::Internal(format!("subject {} has no key", known.subject))
            })?;
            return Ok((key, known.subject.to_string(), vec![]));
        }
        let address = known.is_none().then_some(lookup);
        let made = self.new_subject(realm, None, address);
        Ok((made.key, made.subject.to_string(), made.statements.to_vec()))
    }

    pub(super) async fn invitation_shown(
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
        let now = self.source().now();
        let mut view = self.opened_invitation(document, now).await?;
        view.token = token.filter(|_| !receipt.replayed);
        Ok(Written::of(receipt, view))
    }

    async fn opened_invitation(
        &self,
        document: InvitationDocument,
        now: Timestamp,
    ) -> Result<InvitationView, ServiceError> {
        Ok(InvitationView {
            id: document.id,
            version: document.version,
            created_at: document.created_at,
            updated_at: document.updated_at,
            workspace: document.workspace,
            email: self.open(&document.email).await?,
            role: document.role,
            status: document.status_at(now),
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
        let place = self
            .may_in_workspace(request, caller, workspace, permission, "invitation.read")
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let page = state
            .documents::<Invitations>()
            .page_of_parent(&workspace.to_string(), after, limit)
            .await?;
        let mut items = Vec::with_capacity(page.items.len());
        for (key, document) in page.items {
            let view = self.opened_invitation(document, state.now()).await?;
            items.push((key, view));
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
        let place = self
            .may_in_workspace(request, caller, workspace, permission, "invitation.read")
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let found = state
            .documents::<Invitations>()
            .get(&id.to_string())
            .await?;
        let document = found
            .value
            .filter(|document| document.workspace == workspace);
        Ok(Found {
            position: found.position,
            value: self
                .opened_invitation(document.ok_or(MISSING)?, state.now())
                .await?,
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
