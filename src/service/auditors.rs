//! Auditor grants: given to people who are no members, listed, taken back.

use futures::FutureExt;

use super::{
    Caller, Opened, Request, Service, ServiceError, Written,
    people::{Called, CalledOne},
    workspaces::{DecideInWorkspace, Place},
    write::{Composed, Made, Receipt, Sender},
};
use crate::{
    domain::{
        EmailAddress, Refusal, Timestamp,
        authority::Permission,
        ids::{UserId, WorkspaceId},
        standing::Standing,
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::Rejection,
    projections::{ACCOUNT, AuditorDocument, Auditors, Found, Page},
};

/// A grant, with what the person is called.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditorView {
    pub workspace: WorkspaceId,
    pub user: UserId,
    pub email: Opened,
    pub name: Opened,
    pub since: Timestamp,
    /// First moment at which it counts no more.
    pub expires_at: Timestamp,
    pub granted_by: UserId,
    pub version: u64,
}

impl AuditorView {
    fn of(grant: AuditorDocument, called: &Called) -> Self {
        let CalledOne { email, name } = called.of(grant.user);
        Self {
            workspace: grant.workspace,
            user: grant.user,
            email,
            name,
            since: grant.since,
            expires_at: grant.expires_at,
            granted_by: grant.granted_by,
            version: grant.version,
        }
    }
}

const MISSING: Refusal = Refusal::NotFound {
    what: "auditor grant",
    hidden: false,
};

impl Service {
    /// Lets somebody with an account, who is no member, read the workspace's audit log.
    ///
    /// # Errors
    /// A refusal unless the caller may; [`Refusal::NoSuchAccount`];
    /// [`Refusal::AlreadyMember`]; [`Refusal::AlreadyExists`] while there is a grant;
    /// [`Refusal::WrongValue`] for an end that is past, or too far away.
    pub async fn grant_auditor(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        email: &EmailAddress,
        expires_at: Timestamp,
    ) -> Result<Written<AuditorView>, ServiceError> {
        let place = self.known_place(workspace).await?;
        let sender = Sender::Person(caller.clone());
        let aim = place.aim("auditor.granted", workspace);
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                async {
                    self.compose_grant(request, caller, place, email, expires_at)
                        .await
                }
                .boxed()
            })
            .await?;
        let Made::Auditor(_, user) = receipt.made else {
            return Err(ServiceError::Internal(
                "the kept answer is no auditor grant".to_owned(),
            ));
        };
        let shown = self.auditor_shown(&receipt, place, user).await?;
        Ok(Written::of(&receipt, shown))
    }

    async fn compose_grant(
        &self,
        request: &Request,
        caller: &Caller,
        place: Place,
        email: &EmailAddress,
        expires_at: Timestamp,
    ) -> Result<Composed, ServiceError> {
        let permission = Permission::ManageAuditors;
        // Asked before the address is looked up: whether it has an account is not for others.
        self.may_now(caller, place.workspace, permission).await?;
        let lookup = self.email_lookup(email);
        let account = self.subjects.of_email(ACCOUNT, &lookup).await?;
        let found = account.and_then(|account| Some((account.subject, account.user?)));
        let (account, user) = found.ok_or(Refusal::NoSuchAccount)?;
        let introduction = self.introduction(user, place.organization).await?;
        let claim = Self::email_claim(ACCOUNT, &lookup);
        let mut lookups = introduction.lookups();
        lookups.push(claim.clone());
        let streams = [
            introduction.person.clone(),
            introduction.organization.clone(),
        ];
        let actor = caller.user;
        let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
            // The address may be somebody else's by now.
            if desk.holder(&claim) != Some(&account.to_string()) {
                return Err(Rejection::Recompose);
            }
            let grant = WorkspaceCommand::GrantAuditor {
                actor,
                user,
                expires_at,
            };
            desk.execute::<Workspace>(stream, grant, &[])?;
            introduction.decide(desk)?;
            Ok(Made::Auditor(place.workspace, user))
        });
        let mut composed = self
            .compose_in_workspace(request, caller, place, permission, None, 201, decide)
            .await?;
        composed.streams.extend(streams);
        composed.lookups.extend(lookups);
        Ok(composed)
    }

    async fn auditor_shown(
        &self,
        receipt: &Receipt,
        place: Place,
        user: UserId,
    ) -> Result<AuditorView, ServiceError> {
        let (stream, key) = (
            place.workspace.to_string(),
            Auditors::key(&place.workspace, &user),
        );
        let grant = self
            .shown::<Auditors, Workspace>(self.auditors(), receipt, &stream, &key)
            .await?;
        let position = receipt.replayed.then_some(receipt.position);
        self.named_auditor(place, grant, position).await
    }

    /// A grant with what the organization calls the person, now or as of a position.
    async fn named_auditor(
        &self,
        place: Place,
        grant: AuditorDocument,
        position: Option<u64>,
    ) -> Result<AuditorView, ServiceError> {
        let realm = place.organization.to_string();
        let called = self.called(&realm, [grant.user], position).await?;
        Ok(AuditorView::of(grant, &called))
    }

    /// A page of the grants that count, in order of the people's ids.
    ///
    /// # Errors
    /// A refusal unless the caller may grant.
    pub async fn auditors_of(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<AuditorView>, ServiceError> {
        let permission = Permission::ManageAuditors;
        let place = self
            .may_in_workspace(request, caller, workspace, permission, "auditor.read")
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let now = state.now();
        let page = state
            .documents::<Auditors>()
            .page_of_parent_where(&workspace.to_string(), after, limit, |grant| {
                grant.is_live(now).then_some(grant)
            })
            .await?;
        let users = page.items.iter().map(|(_, grant)| grant.user);
        let realm = place.organization.to_string();
        let called = self.called(&realm, users, state.position()).await?;
        Ok(page.map(|grant| AuditorView::of(grant, &called)))
    }

    /// One grant that counts.
    ///
    /// # Errors
    /// A refusal unless the caller may grant; [`Refusal::NotFound`] when there is none.
    pub async fn auditor(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<Found<AuditorView>, ServiceError> {
        let permission = Permission::ManageAuditors;
        let place = self
            .may_in_workspace(request, caller, workspace, permission, "auditor.read")
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let grants = state.documents::<Auditors>();
        let found = grants.get(&Auditors::key(&workspace, &user)).await?;
        let now = state.now();
        let grant = found.value.filter(|grant| grant.is_live(now));
        Ok(Found {
            position: found.position,
            value: self
                .named_auditor(place, grant.ok_or(MISSING)?, state.position())
                .await?,
        })
    }

    /// Whether somebody has a grant that counts.
    async fn audits(&self, workspace: WorkspaceId, user: UserId) -> Result<bool, ServiceError> {
        let standing = self.standing_in(workspace, user).await?.value;
        Ok(matches!(standing, Some(Standing::Auditor { .. })))
    }

    /// Takes a grant back; who takes back their own gives it up.
    ///
    /// # Errors
    /// A refusal unless the caller may; [`Refusal::NotFound`] when there is none.
    pub async fn revoke_auditor(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<Written<()>, ServiceError> {
        let place = self.known_place(workspace).await?;
        let sender = Sender::Person(caller.clone());
        let aim = place.aim("auditor.revoked", user);
        let gives_up = caller.user == user && self.audits(workspace, user).await?;
        let permission = match gives_up {
            true => Permission::GiveUpGrant,
            false => Permission::ManageAuditors,
        };
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                async {
                    let version = async {
                        let key = Auditors::key(&workspace, &user);
                        let found = self.auditors().get(&key).await?;
                        Ok(found.value.map(|grant| grant.version))
                    };
                    let sequence = self
                        .checked_sequence_in(request, caller, place, permission, version)
                        .await?;
                    let actor = caller.user;
                    let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
                        let revoke = WorkspaceCommand::RevokeAuditor { actor, user };
                        desk.execute::<Workspace>(stream, revoke, &[])?;
                        Ok(Made::Nothing)
                    });
                    self.compose_in_workspace(
                        request, caller, place, permission, sequence, 204, decide,
                    )
                    .await
                }
                .boxed()
            })
            .await?;
        Ok(Written::of(&receipt, ()))
    }
}
