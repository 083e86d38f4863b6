//! Whether somebody may do something in a workspace, and why.
//!
//! It answers from what the newest documents say at the time of asking; a command asks once
//! more, inside the append.

use super::{Caller, Request, Service, ServiceError, api_keys::policy_of, workspaces::Place};
use crate::{
    domain::{
        Timestamp,
        api_keys::{KeyEnd, KeyHolder, KeyStanding, key_verdict},
        authority::Permission,
        crew::CrewPlace,
        ids::{CrewId, KeyId, PrincipalId, WorkspaceId},
        standing::{Verdict, verdict},
        suspension,
    },
    projections::{ApiKeyDocument, Found, KeyStatus},
};

impl Service {
    /// Whether `principal` may do what `action`, the name of a permission, says; and why.
    ///
    /// # Errors
    /// A refusal unless the caller is a member, and of a key unless they may see keys;
    /// [`ServiceError::UnknownAction`]; an invalid value when the crew is not one of the
    /// workspace.
    pub async fn can(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        principal: PrincipalId,
        action: &str,
        crew: Option<CrewId>,
    ) -> Result<Found<Verdict>, ServiceError> {
        let asking = match principal {
            PrincipalId::User(_) => Permission::AskWhoMay,
            PrincipalId::Key(_) => Permission::SeeKeys,
        };
        let place = self
            .may_in_workspace(request, caller, workspace, asking, asking.name())
            .await?;
        let permission = Permission::named(action).ok_or(ServiceError::UnknownAction {
            known: Permission::ALL.map(Permission::name).to_vec(),
        })?;
        let crew = match crew {
            Some(crew) => Some(self.crew_named("/crew", workspace, crew).await?.place),
            None => None,
        };
        let (found, may_break_glass) = match principal {
            PrincipalId::User(user) => {
                let found = self.standing_in(workspace, user).await?;
                let glass = verdict(user, found.value, Permission::BreakGlass).allowed;
                let value = verdict(user, found.value, permission);
                let position = found.position;
                (Found { position, value }, glass)
            }
            PrincipalId::Key(key) => (self.can_key(place, key, permission, crew).await?, false),
        };
        let goes_on = match principal {
            PrincipalId::User(_) => suspension::holds(permission),
            PrincipalId::Key(_) => false,
        };
        if !goes_on && self.is_suspended_now(place.organization).await? {
            let value = found.value.under_suspension();
            return Ok(Found { value, ..found });
        }
        let edits = crew.filter(|_| permission == Permission::EditCrews);
        let Some(crew) = edits else {
            return Ok(found);
        };
        let policy = policy_of(&self.state_of_now(), Some(workspace)).await?;
        let value = match policy.protects(crew.environment) {
            true => found.value.by_promotion(may_break_glass),
            false => found.value,
        };
        Ok(Found { value, ..found })
    }

    async fn can_key(
        &self,
        place: Place,
        key: KeyId,
        permission: Permission,
        crew: Option<CrewPlace>,
    ) -> Result<Found<Verdict>, ServiceError> {
        let found = self.api_keys().get(&key.to_string()).await?;
        let document = found.value.as_ref();
        let standing = document.and_then(|key| standing_of(key, place, crew, self.source().now()));
        Ok(Found {
            position: found.position,
            value: key_verdict(key, standing, permission),
        })
    }
}

/// What a key is in a workspace; none where it is neither its own nor its organization's.
fn standing_of(
    key: &ApiKeyDocument,
    place: Place,
    crew: Option<CrewPlace>,
    now: Timestamp,
) -> Option<KeyStanding<'_>> {
    let holder = match (key.workspace, key.environment) {
        (Some(workspace), Some(environment)) if workspace == place.workspace => {
            KeyHolder::Workspace(environment)
        }
        (None, _) if key.organization == place.organization => KeyHolder::Organization,
        _ => return None,
    };
    let ended = match key.status_at(now) {
        KeyStatus::Active | KeyStatus::Rotating => None,
        KeyStatus::Expired => Some(KeyEnd::Expired),
        KeyStatus::Revoked => Some(KeyEnd::Revoked),
    };
    Some(KeyStanding {
        holder,
        scopes: key.scopes(),
        position: key.granted_at,
        until: key.terms.expires_at,
        ended,
        missed: crew.and_then(|crew| key.terms.reach(key.environment, crew).err()),
    })
}
