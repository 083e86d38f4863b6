//! A workspace handed over to somebody else, and deleted.

use futures::FutureExt;

use super::{
    Caller, Request, Service, ServiceError, Written, activity, credentials,
    workspaces::{DecideInWorkspace, Place},
    write::{Composed, Made, Sender},
};
use crate::{
    domain::{
        authority::Permission,
        ids::{UserId, WorkspaceId},
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::Release,
    projections::WorkspaceDocument,
};

impl Service {
    /// Makes a member the owner of a workspace, and the caller an admin.
    ///
    /// # Errors
    /// A refusal unless the caller owns it; [`crate::domain::Refusal::NotAMember`].
    pub async fn transfer_ownership(
        &self,
        request: &Request,
        caller: &Caller,
        id: WorkspaceId,
        to: UserId,
    ) -> Result<Written<WorkspaceDocument>, ServiceError> {
        let command = WorkspaceCommand::TransferOwnership {
            actor: caller.user,
            to,
        };
        let permission = Permission::TransferOwnership;
        let action = "ownership.transferred";
        self.change_workspace(request, caller, id, permission, action, command)
            .await
    }

    /// Deletes a workspace: every access to it ends in this commit, its claims are freed, the
    /// activity of its crews is deleted soon after, and its history stays.
    ///
    /// # Errors
    /// A refusal unless the caller owns it; [`crate::domain::Refusal::WrongValue`] when
    /// `confirm` is not its name.
    pub async fn delete_workspace(
        &self,
        request: &Request,
        caller: &Caller,
        id: WorkspaceId,
        confirm: &str,
    ) -> Result<Written<()>, ServiceError> {
        let sender = Sender::Person(caller.clone());
        // Told again, it is not to be found any more.
        if let Some(receipt) = self.answered_before(&sender, request).await? {
            return Ok(Written::of(&receipt, ()));
        }
        let place = self.known_place(id).await?;
        let aim = place.aim("workspace.deleted", id);
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                async { self.compose_deletion(request, caller, place, confirm).await }.boxed()
            })
            .await?;
        self.forget_place(id);
        Ok(Written::of(&receipt, ()))
    }

    async fn compose_deletion(
        &self,
        request: &Request,
        caller: &Caller,
        place: Place,
        confirm: &str,
    ) -> Result<Composed, ServiceError> {
        let (id, permission) = (place.workspace, Permission::DeleteWorkspace);
        let version = async {
            let found = self.workspaces().get(&id.to_string()).await?;
            Ok(found.value.map(|document| document.version))
        };
        let sequence = self
            .checked_sequence_in(request, caller, place, permission, version)
            .await?;
        let command = WorkspaceCommand::Delete {
            actor: caller.user,
            confirm: confirm.to_owned(),
        };
        let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
            desk.execute::<Workspace>(stream, command.clone(), &[])?;
            let freed = Release::Workspace(id);
            credentials::destroy(&freed)
                .into_iter()
                .for_each(|row| desk.write_beside(row));
            desk.release(freed);
            let now = desk.now();
            desk.write_beside(activity::end(place.workspace, now));
            Ok(Made::Nothing)
        });
        self.compose_in_workspace(request, caller, place, permission, sequence, 204, decide)
            .await
    }
}
