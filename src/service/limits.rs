//! What a workspace may have, and has: its plan's quotas, the limits that its owners have set
//! below them, and what is counted.

use futures::FutureExt;

use super::{
    Caller, MomentInLog, Principal, Request, Service, ServiceError, Written,
    workspaces::DecideInWorkspace,
    write::{Made, Sender},
};
use crate::{
    domain::{
        Refusal, Timestamp,
        authority::Permission,
        ids::WorkspaceId,
        plans::{PlanName, Quotas},
        workspace::{Used, Workspace, WorkspaceCommand},
    },
    journal::{StreamRef, loading},
    projections::{Found, Limits, LimitsDocument},
};

/// The limits of a workspace, and what it has.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitsView {
    pub workspace: WorkspaceId,
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub plan: Option<PlanName>,
    /// What the plan allows.
    pub of_plan: Quotas,
    /// What its owners allow at most.
    pub limits: Quotas,
    /// What is allowed.
    pub allowed: Quotas,
    /// What there is.
    pub used: Used,
}

impl Service {
    /// What a workspace may have, and has.
    ///
    /// # Errors
    /// A refusal unless the caller owns it.
    pub async fn limits(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        id: WorkspaceId,
    ) -> Result<Found<LimitsView>, ServiceError> {
        let permission = Permission::SeeLimits;
        let place = self
            .may_in_workspace(request, principal, id, permission, permission.name())
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let found = state.documents::<Limits>().get(&id.to_string()).await?;
        let document = found.value.ok_or(Refusal::NotFound {
            what: "workspace",
            hidden: false,
        })?;
        Ok(Found {
            position: found.position,
            value: self
                .limits_view(document, found.position, state.moment())
                .await?,
        })
    }

    /// With what there was at `position`.
    async fn limits_view(
        &self,
        document: LimitsDocument,
        position: u64,
        moment: Option<MomentInLog>,
    ) -> Result<LimitsView, ServiceError> {
        let id = document.workspace;
        let stream = StreamRef::of::<Workspace>(id, id);
        let used = match moment {
            None => {
                let now = self.source().now();
                let used = |workspace: &Workspace| workspace.used(now);
                self.journal.read_at(&stream, position, used).await?
            }
            Some(then) => {
                let store = &**self.journal.store();
                let workspace = loading::read_back_at::<Workspace>(store, &stream, then.position);
                workspace.await?.0.used(then.at)
            }
        };
        let of_plan = self.settings.journal.plans.quotas(document.plan.as_ref());
        Ok(LimitsView {
            workspace: id,
            version: document.version,
            created_at: document.created_at,
            updated_at: document.updated_at,
            plan: document.plan,
            of_plan,
            limits: document.limits,
            allowed: of_plan.and(document.limits),
            used,
        })
    }

    /// Sets limits below those of the plan.
    ///
    /// # Errors
    /// A refusal unless the caller owns the workspace, or when there is more of something
    /// already.
    pub async fn change_limits(
        &self,
        request: &Request,
        caller: &Caller,
        id: WorkspaceId,
        limits: Quotas,
    ) -> Result<Written<LimitsView>, ServiceError> {
        let place = self.known_place(id).await?;
        let (key, permission) = (id.to_string(), Permission::ChangeLimits);
        let sender = Sender::Person(caller.clone());
        let aim = place.aim("limits.changed", id);
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                async {
                    let version = async {
                        let found = self.limit_documents().get(&key).await?;
                        Ok(found.value.map(|document| document.version))
                    };
                    let sequence = self
                        .checked_sequence_in(request, caller, place, permission, version)
                        .await?;
                    let actor = caller.user;
                    let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
                        let change = WorkspaceCommand::ChangeLimits { actor, limits };
                        desk.execute::<Workspace>(stream, change, &[])?;
                        Ok(Made::Limits(id))
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
            .shown::<Limits, Workspace>(self.limit_documents(), &receipt, &key, &key)
            .await?;
        let view = self.limits_view(shown, receipt.position, None).await?;
        Ok(Written::of(&receipt, view))
    }
}
