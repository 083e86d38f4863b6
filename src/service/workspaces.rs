//! Workspaces: made, read, renamed, put on a plan; and who may read in one.

use futures::FutureExt;

use super::{
    Caller, Condition, KeyCaller, Principal, Request, Service, ServiceError, Written,
    plans::Plan,
    write::{Aim, Composed, Made, Receipt, Sender, unmoved},
};
use crate::{
    domain::{
        Name, Refusal,
        authority::{OrganizationPermission, Permission, Role},
        ids::{OrganizationId, WorkspaceId},
        organization::Organization,
        plans::PlanName,
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{Desk, Rejection, StreamRef},
    projections::{Found, Members, Page, WorkspaceDocument, Workspaces},
};

/// A workspace that a command is sent to, with its organization.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub workspace: WorkspaceId,
    pub organization: OrganizationId,
}

impl Place {
    pub(super) fn stream(self) -> StreamRef {
        StreamRef::of::<Workspace>(self.workspace, self.workspace)
    }

    /// What a command here aims at.
    pub(super) fn aim(self, action: &'static str, target: impl ToString) -> Aim {
        Aim {
            action,
            target: target.to_string(),
            organization: self.organization,
            workspace: Some(self.workspace),
        }
    }
}

/// The decision of a command to one workspace, after the caller's session and role have
/// been put on the chain.
pub(super) type DecideInWorkspace =
    dyn Fn(&mut Desk<'_>, &StreamRef) -> Result<Made, Rejection> + Send + Sync;

impl Service {
    pub(super) async fn known_place(&self, workspace: WorkspaceId) -> Result<Place, ServiceError> {
        match self.place(workspace).await? {
            Some(organization) => Ok(Place {
                workspace,
                organization,
            }),
            None => Err(Refusal::NotFound {
                what: "workspace",
                hidden: false,
            }
            .into()),
        }
    }

    /// A unit on one workspace by a person: their session and their role for `permission`
    /// are the chain, and `decide` sends the command.
    #[expect(
        clippy::too_many_arguments,
        reason = "what every unit on a workspace needs"
    )]
    pub(super) async fn compose_in_workspace(
        &self,
        request: &Request,
        caller: &Caller,
        place: Place,
        permission: Permission,
        sequence: Option<u64>,
        status: u16,
        decide: Box<DecideInWorkspace>,
    ) -> Result<Composed, ServiceError> {
        let (organization, workspace) = (Some(place.organization), Some(place.workspace));
        let origin = self
            .origin(caller, request, organization, workspace)
            .await?;
        let (caller, stream) = (caller.clone(), place.stream());
        Ok(Composed {
            lane: place.organization.to_string(),
            streams: vec![caller.stream(), stream.clone()],
            lookups: vec![],
            origin,
            decide: Box::new(move |desk| {
                caller.is_live(desk)?;
                let link = desk
                    .read::<Workspace>(&stream)
                    .authorise(caller.user, permission)?;
                desk.stand_on(link);
                unmoved(desk, &stream, sequence)?;
                Ok(decide(desk, &stream)?.outcome(status))
            }),
        })
    }

    /// Makes a workspace in an organization; the caller becomes its owner.
    ///
    /// # Errors
    /// A refusal unless the caller owns the organization; an invalid value when the plan is
    /// not in the catalogue.
    pub async fn create_workspace(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        name: Name,
        plan: PlanName,
    ) -> Result<Written<WorkspaceDocument>, ServiceError> {
        self.plan_named("/plan", &plan)?;
        let aim = Aim {
            action: "workspace.created",
            target: organization.to_string(),
            organization,
            workspace: None,
        };
        let exists = self
            .organizations()
            .get(&organization.to_string())
            .await?
            .value
            .is_some();
        let id = WorkspaceId::from_uuid(self.source().uuid());
        let sender = Sender::Person(caller.clone());
        let receipt = self
            .submit(&sender, request, exists.then_some(&aim), || {
                async {
                    let made = self.new_workspace(
                        id,
                        organization,
                        name.clone(),
                        caller.user,
                        plan.clone(),
                    );
                    let origin = self
                        .origin(caller, request, Some(organization), None)
                        .await?;
                    let (caller, owner) = (caller.clone(), organization_stream(organization));
                    Ok(Composed {
                        lane: organization.to_string(),
                        streams: vec![caller.stream(), owner.clone(), made.stream.clone()],
                        lookups: vec![],
                        origin,
                        decide: Box::new(move |desk| {
                            caller.is_live(desk)?;
                            let permission = OrganizationPermission::CreateWorkspaces;
                            let organization = desk.read::<Organization>(&owner);
                            let link = organization.authorise(caller.user, permission)?;
                            desk.stand_on(link);
                            made.decide(desk)?;
                            Ok(Made::Workspace(id).outcome(201))
                        }),
                    })
                }
                .boxed()
            })
            .await?;
        let Made::Workspace(id) = receipt.made else {
            return Err(ServiceError::Internal(
                "the kept answer is no workspace".to_owned(),
            ));
        };
        Ok(Written::of(
            &receipt,
            self.workspace_shown(&receipt, id).await?,
        ))
    }

    pub(super) async fn workspace_shown(
        &self,
        receipt: &Receipt,
        id: WorkspaceId,
    ) -> Result<WorkspaceDocument, ServiceError> {
        let key = id.to_string();
        self.shown::<Workspaces, Workspace>(self.workspaces(), receipt, &key, &key)
            .await
    }

    /// The plan of this name.
    ///
    /// # Errors
    /// An invalid value at `pointer` that lists the plans there are.
    pub fn plan_named(
        &self,
        pointer: &'static str,
        name: &PlanName,
    ) -> Result<&Plan, ServiceError> {
        self.catalogue().plan(name.as_str()).ok_or_else(|| {
            let names: Vec<_> = self
                .catalogue()
                .plans
                .iter()
                .map(|plan| plan.name.as_str())
                .collect();
            ServiceError::InvalidValue {
                pointer,
                detail: format!(
                    "there is no plan of this name; there are: {}",
                    names.join(", ")
                ),
            }
        })
    }

    /// That the caller may do something in a workspace, to read from it; a refusal is kept
    /// among its attempts.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn may_in_workspace(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        permission: Permission,
        action: &'static str,
    ) -> Result<Place, ServiceError> {
        let principal = principal.into();
        let place = self.known_place(workspace).await?;
        match self.is_allowed(&principal, place, permission).await {
            Err(ServiceError::Refused(refusal)) => {
                let aim = place.aim(action, workspace);
                self.keep_attempt(&principal, request, &aim, &refusal).await;
                Err(refusal.into())
            }
            allowed => allowed.map(|()| place),
        }
    }

    async fn is_allowed(
        &self,
        principal: &Principal,
        place: Place,
        permission: Permission,
    ) -> Result<(), ServiceError> {
        let hidden = Refusal::NotFound {
            what: "workspace",
            hidden: true,
        };
        match principal {
            Principal::Person(caller) => {
                let role = self.role_for(caller, place.workspace, permission);
                role.await.map(drop)
            }
            Principal::Key(key) if key.0.workspace == Some(place.workspace) => {
                Ok(permission.of_keys().allows(key.0.scopes())?)
            }
            Principal::Key(key)
                if key.0.workspace.is_none()
                    && key.0.organization == place.organization
                    && permission == Permission::SeeWorkspace =>
            {
                let permission = OrganizationPermission::SeeWorkspaces;
                Ok(permission.of_keys().allows(key.0.scopes())?)
            }
            Principal::Key(_) => Err(hidden.into()),
        }
    }

    /// The caller's role in a workspace that exists, where it holds the permission.
    async fn role_for(
        &self,
        caller: &Caller,
        workspace: WorkspaceId,
        permission: Permission,
    ) -> Result<Role, ServiceError> {
        let key = Members::key(&workspace, &caller.user);
        let refusal = match self.members().get(&key).await?.value {
            Some(member) if permission.allows(member.role) => return Ok(member.role),
            Some(member) => Refusal::NotPermitted {
                permission,
                role: member.role,
            },
            None => Refusal::NotFound {
                what: "workspace",
                hidden: true,
            },
        };
        Err(refusal.into())
    }

    /// [`Service::checked_sequence`] of a workspace, for whoever may: a failed condition
    /// would tell anybody else that something exists, and its version.
    pub(super) async fn checked_sequence_in(
        &self,
        request: &Request,
        caller: &Caller,
        place: Place,
        permission: Permission,
        version: impl Future<Output = Result<Option<u64>, ServiceError>>,
    ) -> Result<Option<u64>, ServiceError> {
        if request.condition != Condition::None {
            self.role_for(caller, place.workspace, permission).await?;
        }
        self.checked_sequence(request, &place.stream(), version)
            .await
    }

    /// A workspace that the caller is in.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when it does not exist or they are not.
    pub async fn workspace(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        id: WorkspaceId,
    ) -> Result<Found<WorkspaceDocument>, ServiceError> {
        let permission = Permission::SeeWorkspace;
        self.may_in_workspace(request, principal, id, permission, "workspace.read")
            .await?;
        let found = self.workspaces().get(&id.to_string()).await?;
        let missing = Refusal::NotFound {
            what: "workspace",
            hidden: false,
        };
        Ok(Found {
            position: found.position,
            value: found.value.ok_or(missing)?,
        })
    }

    /// The workspaces that the caller is in, in order of their ids. Keys of the page are
    /// what `after` takes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn workspaces_of(
        &self,
        principal: &Principal,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<WorkspaceDocument>, ServiceError> {
        match principal {
            Principal::Person(caller) => self.workspaces_of_person(caller, after, limit).await,
            Principal::Key(key) => self.workspaces_of_key(key, after, limit).await,
        }
    }

    /// A key sees the workspace that it is of; one of an organization all of them, where its
    /// scopes say so.
    async fn workspaces_of_key(
        &self,
        key: &KeyCaller,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<WorkspaceDocument>, ServiceError> {
        let workspaces = self.workspaces();
        let Some(workspace) = key.0.workspace else {
            let permission = OrganizationPermission::SeeWorkspaces;
            permission.of_keys().allows(key.0.scopes())?;
            let organization = key.0.organization.to_string();
            return Ok(workspaces
                .page_of_parent(&organization, after, limit)
                .await?);
        };
        let id = workspace.to_string();
        let found = workspaces.get(&id).await?;
        let own = found
            .value
            .filter(|_| after.is_none_or(|after| id.as_str() > after));
        Ok(Page {
            items: own.into_iter().map(|own| (id.clone(), own)).collect(),
            more: false,
            position: found.position,
        })
    }

    async fn workspaces_of_person(
        &self,
        caller: &Caller,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<WorkspaceDocument>, ServiceError> {
        let members = self.members();
        let page = members
            .page_of_lookup(&caller.user.to_string(), after, limit)
            .await?;
        let ids: Vec<_> = page
            .items
            .iter()
            .map(|(_, member)| member.workspace.to_string())
            .collect();
        let mut documents: std::collections::HashMap<_, _> = self
            .workspaces()
            .get_many(&ids)
            .await?
            .into_iter()
            .collect();
        let items = page.items.into_iter().filter_map(|(key, member)| {
            Some((key, documents.remove(&member.workspace.to_string())?))
        });
        Ok(Page {
            items: items.collect(),
            more: page.more,
            position: page.position,
        })
    }

    /// Renames a workspace.
    ///
    /// # Errors
    /// A refusal unless the caller owns it.
    pub async fn rename_workspace(
        &self,
        request: &Request,
        caller: &Caller,
        id: WorkspaceId,
        name: Name,
    ) -> Result<Written<WorkspaceDocument>, ServiceError> {
        let command = WorkspaceCommand::Rename {
            actor: caller.user,
            name,
        };
        let permission = Permission::RenameWorkspace;
        self.change_workspace(
            request,
            caller,
            id,
            permission,
            "workspace.renamed",
            command,
        )
        .await
    }

    /// Puts a workspace on another plan.
    ///
    /// # Errors
    /// A refusal unless the caller owns it; an invalid value when the plan is not in the
    /// catalogue.
    pub async fn select_plan(
        &self,
        request: &Request,
        caller: &Caller,
        id: WorkspaceId,
        plan: PlanName,
    ) -> Result<Written<WorkspaceDocument>, ServiceError> {
        self.plan_named("/plan", &plan)?;
        let command = WorkspaceCommand::SelectPlan {
            actor: caller.user,
            plan,
        };
        let permission = Permission::SelectPlan;
        self.change_workspace(request, caller, id, permission, "plan.selected", command)
            .await
    }

    async fn change_workspace(
        &self,
        request: &Request,
        caller: &Caller,
        id: WorkspaceId,
        permission: Permission,
        action: &'static str,
        command: WorkspaceCommand,
    ) -> Result<Written<WorkspaceDocument>, ServiceError> {
        let place = self.known_place(id).await?;
        let sender = Sender::Person(caller.clone());
        let receipt = self
            .submit(&sender, request, Some(&place.aim(action, id)), || {
                async {
                    let version = async {
                        let found = self.workspaces().get(&id.to_string()).await?;
                        Ok(found.value.map(|document| document.version))
                    };
                    let sequence = self
                        .checked_sequence_in(request, caller, place, permission, version)
                        .await?;
                    let command = command.clone();
                    let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
                        desk.execute::<Workspace>(stream, command.clone(), &[])?;
                        Ok(Made::Workspace(id))
                    });
                    self.compose_in_workspace(
                        request, caller, place, permission, sequence, 200, decide,
                    )
                    .await
                }
                .boxed()
            })
            .await?;
        Ok(Written::of(
            &receipt,
            self.workspace_shown(&receipt, id).await?,
        ))
    }
}

fn organization_stream(organization: OrganizationId) -> StreamRef {
    StreamRef::of::<Organization>(organization, organization)
}
