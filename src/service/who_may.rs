//! Whether somebody may do something in a workspace, and why.
//!
//! It answers from what the newest documents say at the time of asking; a command asks once
//! more, inside the append.

use super::{Caller, Request, Service, ServiceError};
use crate::{
    domain::{
        authority::Permission,
        ids::{CrewId, UserId, WorkspaceId},
        standing::{Verdict, verdict},
    },
    projections::Found,
};

impl Service {
    /// Whether `user` may do what `action`, the name of a permission, says; and why.
    ///
    /// # Errors
    /// A refusal unless the caller is a member; [`ServiceError::UnknownAction`]; an invalid
    /// value when the crew is not one of the workspace.
    pub async fn can(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        user: UserId,
        action: &str,
        crew: Option<CrewId>,
    ) -> Result<Found<Verdict>, ServiceError> {
        let asking = Permission::AskWhoMay;
        self.may_in_workspace(request, caller, workspace, asking, asking.name())
            .await?;
        let permission = Permission::named(action).ok_or(ServiceError::UnknownAction {
            known: Permission::ALL.map(Permission::name).to_vec(),
        })?;
        if let Some(crew) = crew {
            self.crew_named("/crew", workspace, crew).await?;
        }
        let found = self.standing_in(workspace, user).await?;
        Ok(Found {
            position: found.position,
            value: verdict(user, found.value, permission),
        })
    }
}
