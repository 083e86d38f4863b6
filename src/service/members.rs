//! Members of a workspace: read, given another role, removed, leaving.

use futures::FutureExt;

use super::{
    Caller, Opened, Principal, Request, Service, ServiceError, Written,
    people::{Called, CalledOne},
    workspaces::{DecideInWorkspace, Place},
    write::{Made, Receipt, Sender},
};
use crate::{
    domain::{
        Refusal, Timestamp,
        authority::{Permission, Role},
        ids::{UserId, WorkspaceId},
        workspace::{Workspace, WorkspaceCommand},
    },
    projections::{Found, MemberDocument, Members, Page},
};

/// A member, with what they are called.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberView {
    pub workspace: WorkspaceId,
    pub user: UserId,
    pub email: Opened,
    pub name: Opened,
    pub role: Role,
    pub since: Timestamp,
    pub updated_at: Timestamp,
    pub invited_by: Option<UserId>,
    /// First moment at which the role, or the membership, is over.
    pub until: Option<Timestamp>,
    /// The role from then on; none where the membership ends.
    pub afterwards: Option<Role>,
    pub version: u64,
}

impl MemberView {
    fn of(member: MemberDocument, called: &Called) -> Self {
        let CalledOne { email, name } = called.of(member.user);
        Self {
            workspace: member.workspace,
            user: member.user,
            email,
            name,
            role: member.role,
            since: member.since,
            updated_at: member.updated_at,
            invited_by: member.invited_by,
            until: member.limit.map(|limit| limit.until),
            afterwards: member.limit.and_then(|limit| limit.afterwards),
            version: member.version,
        }
    }
}

impl Service {
    /// A page of a workspace's members, in order of their ids.
    ///
    /// # Errors
    /// A refusal unless the caller is one of them.
    pub async fn members_of(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<MemberView>, ServiceError> {
        let permission = Permission::SeeMembers;
        let place = self
            .may_in_workspace(request, principal, workspace, permission, "member.read")
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let now = state.now();
        let page = state
            .documents::<Members>()
            .page_of_parent_where(&workspace.to_string(), after, limit, |member| {
                member.settled(now)
            })
            .await?;
        let users = page.items.iter().map(|(_, member)| member.user);
        let realm = place.organization.to_string();
        let called = self.called(&realm, users, state.position()).await?;
        Ok(page.map(|member| MemberView::of(member, &called)))
    }

    /// One member.
    ///
    /// # Errors
    /// A refusal unless the caller is a member too; [`Refusal::NotFound`] when there is no
    /// such member.
    pub async fn member(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<Found<MemberView>, ServiceError> {
        let permission = Permission::SeeMembers;
        let place = self
            .may_in_workspace(request, principal, workspace, permission, "member.read")
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let members = state.documents::<Members>();
        let found = members.get(&Members::key(&workspace, &user)).await?;
        let now = state.now();
        let member = found.value.and_then(|member| member.settled(now));
        let member = member.ok_or(Refusal::NotFound {
            what: "member",
            hidden: false,
        })?;
        Ok(Found {
            position: found.position,
            value: self.named_member(place, member, state.position()).await?,
        })
    }

    /// A member with what their organization calls them, now or as of a position.
    async fn named_member(
        &self,
        place: Place,
        member: MemberDocument,
        position: Option<u64>,
    ) -> Result<MemberView, ServiceError> {
        let realm = place.organization.to_string();
        let called = self.called(&realm, [member.user], position).await?;
        Ok(MemberView::of(member, &called))
    }

    pub(super) async fn member_shown(
        &self,
        receipt: &Receipt,
        place: Place,
        user: UserId,
    ) -> Result<MemberView, ServiceError> {
        let (stream, key) = (
            place.workspace.to_string(),
            Members::key(&place.workspace, &user),
        );
        let member = self
            .shown::<Members, Workspace>(self.members(), receipt, &stream, &key)
            .await?;
        let position = receipt.replayed.then_some(receipt.position);
        self.named_member(place, member, position).await
    }

    /// Gives a member a role: for good, or until a moment. With another role than their
    /// lasting one, that one holds again from then on; with the same, the membership ends.
    ///
    /// # Errors
    /// A refusal unless the caller may, up to their own role; [`Refusal::LastOwner`] when
    /// nobody would own the workspace for good; [`Refusal::WrongValue`] for a moment that is
    /// not in the future.
    pub async fn change_role(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        user: UserId,
        role: Role,
        until: Option<Timestamp>,
    ) -> Result<Written<MemberView>, ServiceError> {
        let place = self.known_place(workspace).await?;
        let actor = caller.user;
        let command = match until {
            None => WorkspaceCommand::ChangeRole { actor, user, role },
            Some(until) => WorkspaceCommand::ChangeRoleUntil {
                actor,
                user,
                role,
                until,
            },
        };
        let made = Made::Member(workspace, user);
        let receipt = self
            .change_member(
                request,
                caller,
                place,
                user,
                Change {
                    permission: Permission::ChangeRoles,
                    action: "member.role_changed",
                    command,
                    made,
                    status: 200,
                },
            )
            .await?;
        Ok(Written::of(
            &receipt,
            self.member_shown(&receipt, place, user).await?,
        ))
    }

    /// Takes a member out; who takes themselves out, leaves.
    ///
    /// # Errors
    /// A refusal unless the caller may; [`Refusal::LastOwner`] when nobody would own the
    /// workspace.
    pub async fn remove_member(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<Written<()>, ServiceError> {
        let place = self.known_place(workspace).await?;
        let leaves = caller.user == user;
        let change = if leaves {
            Change {
                permission: Permission::LeaveWorkspace,
                action: "member.left",
                command: WorkspaceCommand::Leave { user },
                made: Made::Nothing,
                status: 204,
            }
        } else {
            Change {
                permission: Permission::RemoveMembers,
                action: "member.removed",
                command: WorkspaceCommand::Remove {
                    actor: caller.user,
                    user,
                },
                made: Made::Nothing,
                status: 204,
            }
        };
        let receipt = self
            .change_member(request, caller, place, user, change)
            .await?;
        Ok(Written::of(&receipt, ()))
    }

    async fn change_member(
        &self,
        request: &Request,
        caller: &Caller,
        place: Place,
        user: UserId,
        change: Change,
    ) -> Result<Receipt, ServiceError> {
        let sender = Sender::Person(caller.clone());
        let aim = place.aim(change.action, user);
        self.submit(&sender, request, Some(&aim), || {
            async {
                let version = async {
                    let found = self
                        .members()
                        .get(&Members::key(&place.workspace, &user))
                        .await?;
                    Ok(found.value.map(|member| member.version))
                };
                let (permission, status) = (change.permission, change.status);
                let sequence = self
                    .checked_sequence_in(request, caller, place, permission, version)
                    .await?;
                let (command, made) = (change.command.clone(), change.made.clone());
                let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
                    desk.execute::<Workspace>(stream, command.clone(), &[])?;
                    Ok(made.clone())
                });
                self.compose_in_workspace(
                    request, caller, place, permission, sequence, status, decide,
                )
                .await
            }
            .boxed()
        })
        .await
    }
}

/// A command about a member, and what goes with it.
struct Change {
    permission: Permission,
    action: &'static str,
    command: WorkspaceCommand,
    made: Made,
    status: u16,
}
