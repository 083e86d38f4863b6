//! The policy of a workspace: read, and decided otherwise.

use futures::FutureExt;

use super::{
    Caller, Principal, Request, Service, ServiceError, Written,
    workspaces::DecideInWorkspace,
    write::{Made, Sender},
};
use crate::{
    domain::{
        Refusal,
        authority::Permission,
        ids::WorkspaceId,
        workspace::{Policy, Workspace, WorkspaceCommand},
    },
    projections::{Found, Policies, PolicyDocument},
};

impl Service {
    /// The policy of a workspace.
    ///
    /// # Errors
    /// A refusal unless the caller is a member.
    pub async fn policy(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        id: WorkspaceId,
    ) -> Result<Found<PolicyDocument>, ServiceError> {
        let place = self
            .may_in_workspace(request, principal, id, Permission::SeePolicy, "policy.read")
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let found = state.documents::<Policies>().get(&id.to_string()).await?;
        let missing = Refusal::NotFound {
            what: "workspace",
            hidden: false,
        };
        Ok(Found {
            position: found.position,
            value: found.value.ok_or(missing)?,
        })
    }

    /// Puts another policy in place of the one there is.
    ///
    /// # Errors
    /// A refusal unless the caller owns the workspace.
    pub async fn change_policy(
        &self,
        request: &Request,
        caller: &Caller,
        id: WorkspaceId,
        policy: Policy,
    ) -> Result<Written<PolicyDocument>, ServiceError> {
        let place = self.known_place(id).await?;
        let (key, permission) = (id.to_string(), Permission::ChangePolicy);
        let sender = Sender::Person(caller.clone());
        let aim = place.aim("policy.changed", id);
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                async {
                    let version = async {
                        let found = self.policies().get(&key).await?;
                        Ok(found.value.map(|document| document.version))
                    };
                    let sequence = self
                        .checked_sequence_in(request, caller, place, permission, version)
                        .await?;
                    let actor = caller.user;
                    let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
                        let change = WorkspaceCommand::ChangePolicy { actor, policy };
                        desk.execute::<Workspace>(stream, change, &[])?;
                        Ok(Made::Policy(id))
                    });
                    self.compose_in_workspace(
                        request, caller, place, permission, sequence, 200, decide,
                    )
                    .await
                }
                .boxed()
            })
            .await?;
        let shown = self
            .shown::<Policies, Workspace>(self.policies(), &receipt, &key, &key)
            .await?;
        Ok(Written::of(&receipt, shown))
    }
}
