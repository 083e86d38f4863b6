//! Who has a role in an organization: listed, given, changed, taken away, given up.

use futures::FutureExt;

use super::{
    Caller, Opened, Request, Service, ServiceError, Written,
    introductions::Introduction,
    organizations::organization_stream,
    people::{Called, CalledOne},
    write::{Aim, Composed, Made, Receipt, Sender, unmoved},
};
use crate::{
    domain::{
        Refusal, Timestamp,
        authority::{OrganizationPermission, OrganizationRole},
        ids::{OrganizationId, UserId},
        organization::{Organization, OrganizationCommand},
    },
    projections::{Found, OrganizationMemberDocument, OrganizationMembers, Page},
};

/// Somebody's role in an organization, with what they are called.
#[derive(Debug, Clone, PartialEq)]
pub struct OrganizationMemberView {
    pub organization: OrganizationId,
    pub user: UserId,
    pub email: Opened,
    pub name: Opened,
    pub role: OrganizationRole,
    pub since: Timestamp,
    pub updated_at: Timestamp,
    pub version: u64,
}

impl OrganizationMemberView {
    fn of(member: OrganizationMemberDocument, called: &Called) -> Self {
        let CalledOne { email, name } = called.of(member.user);
        Self {
            organization: member.organization,
            user: member.user,
            email,
            name,
            role: member.role,
            since: member.since,
            updated_at: member.updated_at,
            version: member.version,
        }
    }
}

/// A command about somebody's role, and what goes with it.
struct Change {
    permission: OrganizationPermission,
    command: OrganizationCommand,
    user: UserId,
    made: Made,
    status: u16,
}

impl Service {
    /// A page of who has a role in an organization, in order of their ids.
    ///
    /// # Errors
    /// A refusal unless the caller has one.
    pub async fn organization_members_of(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<OrganizationMemberView>, ServiceError> {
        self.may_see_members(request, caller, organization).await?;
        let state = self.state_of_organization(request, organization).await?;
        let page = state
            .documents::<OrganizationMembers>()
            .page_of_parent(&organization.to_string(), after, limit)
            .await?;
        let users = page.items.iter().map(|(_, member)| member.user);
        let realm = organization.to_string();
        let called = self.called(&realm, users, state.position()).await?;
        Ok(page.map(|member| OrganizationMemberView::of(member, &called)))
    }

    /// Somebody's role in an organization.
    ///
    /// # Errors
    /// A refusal unless the caller has one; [`Refusal::NotFound`] when they have none.
    pub async fn organization_member(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        user: UserId,
    ) -> Result<Found<OrganizationMemberView>, ServiceError> {
        self.may_see_members(request, caller, organization).await?;
        let key = OrganizationMembers::key(&organization, &user);
        let state = self.state_of_organization(request, organization).await?;
        let found = state.documents::<OrganizationMembers>().get(&key).await?;
        let member = found.value.ok_or(Refusal::NotFound {
            what: "member",
            hidden: false,
        })?;
        Ok(Found {
            position: found.position,
            value: self.named_in_organization(member, state.position()).await?,
        })
    }

    async fn may_see_members(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
    ) -> Result<(), ServiceError> {
        let permission = OrganizationPermission::SeeMembers;
        let action = "organization_member.read";
        self.may_in_organization(request, caller, organization, permission, action)
            .await
            .map(drop)
    }

    /// A role with what the organization calls who has it, now or as of a position.
    async fn named_in_organization(
        &self,
        member: OrganizationMemberDocument,
        position: Option<u64>,
    ) -> Result<OrganizationMemberView, ServiceError> {
        let realm = member.organization.to_string();
        let called = self.called(&realm, [member.user], position).await?;
        Ok(OrganizationMemberView::of(member, &called))
    }

    /// Gives somebody with an account a role in an organization, or another one.
    ///
    /// # Errors
    /// A refusal unless the caller owns it; [`Refusal::NotFound`] for nobody's id;
    /// [`Refusal::LastOrganizationOwner`] when nobody would own it.
    pub async fn set_organization_member(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        user: UserId,
        role: OrganizationRole,
    ) -> Result<Written<OrganizationMemberView>, ServiceError> {
        let change = Change {
            permission: OrganizationPermission::ManageMembers,
            command: OrganizationCommand::SetMember {
                actor: caller.user,
                user,
                role,
            },
            user,
            made: Made::OrganizationMember(organization, user),
            status: 200,
        };
        let action = "organization_member.role_changed";
        let receipt = self
            .change_organization_member(request, caller, organization, action, change)
            .await?;
        let key = OrganizationMembers::key(&organization, &user);
        let (documents, stream) = (self.organization_members(), organization.to_string());
        let member = self
            .shown::<OrganizationMembers, Organization>(documents, &receipt, &stream, &key)
            .await?;
        let position = receipt.replayed.then_some(receipt.position);
        let shown = self.named_in_organization(member, position).await?;
        Ok(Written::of(&receipt, shown))
    }

    /// Takes somebody's role in an organization away; who takes their own, leaves.
    ///
    /// # Errors
    /// A refusal unless the caller owns it, or leaves; [`Refusal::LastOrganizationOwner`]
    /// when nobody would own it.
    pub async fn remove_organization_member(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        user: UserId,
    ) -> Result<Written<()>, ServiceError> {
        let permission = match caller.user == user {
            true => OrganizationPermission::Leave,
            false => OrganizationPermission::ManageMembers,
        };
        let change = Change {
            permission,
            command: OrganizationCommand::RemoveMember {
                actor: caller.user,
                user,
            },
            user,
            made: Made::Nothing,
            status: 204,
        };
        let action = "organization_member.removed";
        let receipt = self
            .change_organization_member(request, caller, organization, action, change)
            .await?;
        Ok(Written::of(&receipt, ()))
    }

    async fn change_organization_member(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        action: &'static str,
        change: Change,
    ) -> Result<Receipt, ServiceError> {
        let aim = Aim {
            action,
            target: change.user.to_string(),
            organization,
            workspace: None,
            crew: None,
        };
        // An organization that does not exist has no attempts to be kept in.
        let known = self.organizations().get(&organization.to_string()).await?;
        let aim = known.value.is_some().then_some(&aim);
        let sender = Sender::Person(caller.clone());
        self.submit(&sender, request, aim, || {
            async {
                self.compose_member_change(request, caller, organization, &change)
                    .await
            }
            .boxed()
        })
        .await
    }

    async fn compose_member_change(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        change: &Change,
    ) -> Result<Composed, ServiceError> {
        let stream = organization_stream(organization);
        let (permission, status, user) = (change.permission, change.status, change.user);
        // Asked before anything is looked up: what is there is not for others to know.
        self.organization_role_for(caller, organization, permission)
            .await?;
        let version = async {
            let key = OrganizationMembers::key(&organization, &user);
            let found = self.organization_members().get(&key).await?;
            Ok(found.value.map(|member| member.version))
        };
        let sequence = match change.command {
            OrganizationCommand::SetMember { .. } => {
                self.checked_sequence_or_nothing(request, &stream, version)
                    .await?
            }
            _ => self.checked_sequence(request, &stream, version).await?,
        };
        let introduction = self.introduced_by(organization, change).await?;
        let (mut streams, mut lookups) = (vec![caller.stream(), stream.clone()], vec![]);
        if let Some(introduction) = &introduction {
            streams.push(introduction.person.clone());
            lookups.extend(introduction.lookups());
        }
        let origin = self
            .origin(caller, request, Some(organization), None)
            .await?;
        let (caller, command, made) = (caller.clone(), change.command.clone(), change.made.clone());
        Ok(Composed {
            lane: organization.to_string(),
            streams,
            lookups,
            origin,
            decide: Box::new(move |desk| {
                caller.is_live(desk)?;
                let owned = desk.read::<Organization>(&stream);
                let link = owned.authorise(caller.user, permission)?;
                desk.stand_on(link);
                unmoved(desk, &stream, sequence)?;
                desk.execute::<Organization>(&stream, command.clone(), &[])?;
                if let Some(introduction) = &introduction {
                    introduction.decide(desk)?;
                }
                Ok(made.outcome(status))
            }),
        })
    }

    /// What makes whoever is given a role known in the organization; nothing for others.
    async fn introduced_by(
        &self,
        organization: OrganizationId,
        change: &Change,
    ) -> Result<Option<Introduction>, ServiceError> {
        let OrganizationCommand::SetMember { user, .. } = change.command else {
            return Ok(None);
        };
        if self.users().get(&user.to_string()).await?.value.is_none() {
            return Err(Refusal::NotFound {
                what: "user",
                hidden: false,
            }
            .into());
        }
        self.introduction(user, organization).await.map(Some)
    }
}
