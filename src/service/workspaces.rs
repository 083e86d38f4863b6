//! Workspaces: made, read, listed, renamed, put on a plan; and who may read in one.

use std::collections::{BTreeMap, HashMap};

use futures::FutureExt;

use super::{
    Caller, Condition, KeyCaller, Principal, Request, Service, ServiceError, Written,
    organizations::organization_stream,
    past::{PARTS_MAX, Part, State, too_much},
    plans::Plan,
    sign_up::NewWorkspace,
    write::{Aim, Composed, Made, Receipt, Sender, unmoved},
};
use crate::{
    domain::{
        Name, Refusal,
        authority::{OrganizationPermission, Permission},
        ids::{OrganizationId, UserId, WorkspaceId},
        organization::Organization,
        plans::PlanName,
        standing::Standing,
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{Desk, Rejection, StreamRef},
    projections::{Auditors, Found, Members, Page, WorkspaceDocument, Workspaces},
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
            crew: None,
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

    /// A workspace that exists now: asked anew, for what must not be said of one that another
    /// process has deleted.
    pub(super) async fn present_place(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Place, ServiceError> {
        let found = self.workspaces().get(&workspace.to_string()).await?.value;
        let document = found.ok_or(Refusal::NotFound {
            what: "workspace",
            hidden: false,
        })?;
        Ok(Place {
            workspace,
            organization: document.organization,
        })
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
                let now = desk.now();
                let link =
                    desk.read::<Workspace>(&stream)
                        .authorise(caller.user, permission, now)?;
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
            crew: None,
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
                        lookups: vec![Self::placed_lookup(caller.user)],
                        origin,
                        decide: Box::new(move |desk| {
                            caller.is_live(desk)?;
                            let permission = OrganizationPermission::CreateWorkspaces;
                            let organization = desk.read::<Organization>(&owner);
                            let link = organization.authorise(caller.user, permission)?;
                            desk.stand_on(link);
                            Self::note_placed(desk, caller.user);
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

    /// Makes a workspace with a key of its organization, which names who becomes its owner.
    ///
    /// # Errors
    /// A refusal unless the key may; an invalid value when the plan is not in the catalogue,
    /// or nobody has the owner's account.
    pub async fn create_workspace_for(
        &self,
        request: &Request,
        key: &KeyCaller,
        organization: OrganizationId,
        (name, plan): (Name, PlanName),
        owner: Option<UserId>,
    ) -> Result<Written<WorkspaceDocument>, ServiceError> {
        let permission = OrganizationPermission::CreateWorkspaces;
        let action = "workspace.created";
        self.may_in_organization(request, key, organization, permission, action)
            .await?;
        self.plan_named("/plan", &plan)?;
        let owner = self.owner_named(owner).await?;
        let aim = Aim {
            action,
            target: organization.to_string(),
            organization,
            workspace: None,
            crew: None,
        };
        let id = WorkspaceId::from_uuid(self.source().uuid());
        let sender = Sender::Key(key.clone());
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                let made = self.new_workspace(id, organization, name.clone(), owner, plan.clone());
                self.compose_workspace_for(request, key, organization, made, owner)
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

    async fn owner_named(&self, owner: Option<UserId>) -> Result<UserId, ServiceError> {
        let wrong = |detail: &str| ServiceError::InvalidValue {
            pointer: "/owner",
            detail: detail.to_owned(),
        };
        let owner = owner.ok_or_else(|| wrong("an API key must name who becomes the owner"))?;
        match self.users().get(&owner.to_string()).await?.value {
            Some(_) => Ok(owner),
            None => Err(wrong("nobody has this account")),
        }
    }

    async fn compose_workspace_for(
        &self,
        request: &Request,
        key: &KeyCaller,
        organization: OrganizationId,
        made: NewWorkspace,
        owner: UserId,
    ) -> Result<Composed, ServiceError> {
        let origin = self
            .origin_of(&key.into(), request, Some(organization), None)
            .await?;
        // The organization knows the people in its workspaces by name.
        let introduction = self.introduction(owner, organization).await?;
        let (holder, id, key) = (organization_stream(organization), made.id, key.id());
        Ok(Composed {
            lane: organization.to_string(),
            streams: vec![
                introduction.person.clone(),
                holder.clone(),
                made.stream.clone(),
            ],
            lookups: introduction.lookups(),
            origin,
            decide: Box::new(move |desk| {
                let (permission, now) = (OrganizationPermission::CreateWorkspaces, desk.now());
                let organization = desk.read::<Organization>(&holder);
                let link = organization.authorise_key(key, permission, now)?;
                desk.stand_on(link);
                introduction.decide(desk)?;
                made.decide(desk)?;
                Ok(Made::Workspace(id).outcome(201))
            }),
        })
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
        let refusal = match self.is_allowed(&principal, place, permission).await {
            Ok(()) => return Ok(place),
            Err(ServiceError::Refused(refusal)) => refusal,
            Err(error) => return Err(error),
        };
        if refusal.is_denial() {
            let aim = place.aim(action, workspace);
            self.keep_attempt(&principal, request, &aim, &refusal).await;
        }
        Err(refusal.into())
    }

    pub(super) async fn is_allowed(
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
            Principal::Person(caller) => self.may_now(caller, place.workspace, permission).await,
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

    /// That the caller may do something in a workspace now.
    pub(super) async fn may_now(
        &self,
        caller: &Caller,
        workspace: WorkspaceId,
        permission: Permission,
    ) -> Result<(), ServiceError> {
        if let Some(standing) = self.standing_in(workspace, caller.user).await?.value {
            return Ok(standing.permits(permission).map(drop)?);
        }
        // Another process may have deleted it since this one has learned of it.
        let known = self.workspaces().get(&workspace.to_string()).await?;
        Err(Refusal::NotFound {
            what: "workspace",
            hidden: known.value.is_some(),
        }
        .into())
    }

    /// What gives somebody rights in a workspace now, if anything does.
    pub(super) async fn standing_in(
        &self,
        workspace: WorkspaceId,
        user: UserId,
    ) -> Result<Found<Option<Standing>>, ServiceError> {
        let now = self.source().now();
        let found = self.members().get(&Members::key(&workspace, &user)).await?;
        if let Some(member) = found.value.and_then(|member| member.at(now)) {
            return Ok(Found {
                position: found.position,
                value: Some(member.standing()),
            });
        }
        let found = self
            .auditors()
            .get(&Auditors::key(&workspace, &user))
            .await?;
        Ok(Found {
            position: found.position,
            value: found.value.and_then(|grant| grant.standing_at(now)),
        })
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
            self.may_now(caller, place.workspace, permission).await?;
        }
        self.checked_sequence(request, &place.stream(), version)
            .await
    }

    /// A workspace that the caller is in or audits.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when it does not exist or they do neither.
    pub async fn workspace(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        id: WorkspaceId,
    ) -> Result<Found<WorkspaceDocument>, ServiceError> {
        let permission = Permission::SeeWorkspace;
        let place = self
            .may_in_workspace(request, principal, id, permission, "workspace.read")
            .await?;
        let state = self.state_of_workspace(request, place).await?;
        let found = state.documents::<Workspaces>().get(&id.to_string()).await?;
        let missing = Refusal::NotFound {
            what: "workspace",
            hidden: false,
        };
        Ok(Found {
            position: found.position,
            value: found.value.ok_or(missing)?,
        })
    }

    /// The workspaces that the caller is in or audits, in order of their ids. Keys of the
    /// page are what `after` takes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn workspaces_of(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<WorkspaceDocument>, ServiceError> {
        match principal.into() {
            Principal::Person(caller) => {
                let state = self.state_of_person(request, caller.user).await?;
                workspaces_of_person(&state, caller.user, after, limit).await
            }
            Principal::Key(key) => self.workspaces_of_key(request, &key, after, limit).await,
        }
    }

    /// A key sees the workspace that it is of; one of an organization all of them, where its
    /// scopes say so.
    async fn workspaces_of_key(
        &self,
        request: &Request,
        key: &KeyCaller,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<WorkspaceDocument>, ServiceError> {
        let Some(workspace) = key.0.workspace else {
            let permission = OrganizationPermission::SeeWorkspaces;
            permission.of_keys().allows(key.0.scopes())?;
            let organization = key.0.organization.to_string();
            let state = self.state_of_workspaces(request, &organization).await?;
            return Ok(state
                .documents::<Workspaces>()
                .page_of_parent(&organization, after, limit)
                .await?);
        };
        let id = workspace.to_string();
        let state = self.state(request, &[Part::Workspace(workspace)]).await?;
        let found = state.documents::<Workspaces>().get(&id).await?;
        let own = found
            .value
            .filter(|_| after.is_none_or(|after| id.as_str() > after));
        Ok(Page {
            items: own.into_iter().map(|own| (id.clone(), own)).collect(),
            more: false,
            position: found.position,
        })
    }

    /// [`Service::state`] of the workspaces that an organization has now.
    async fn state_of_workspaces(
        &self,
        request: &Request,
        organization: &str,
    ) -> Result<State<'_>, ServiceError> {
        if request.as_of.is_none() {
            return Ok(self.state_of_now());
        }
        let there = self.workspaces();
        let there = there.page_of_parent(organization, None, PARTS_MAX).await?;
        if there.more {
            return Err(too_much());
        }
        let there = there.items.into_iter();
        let parts: Vec<_> = there.map(|(_, it)| Part::Workspace(it.id)).collect();
        self.state(request, &parts).await
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

    pub(super) async fn change_workspace(
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

/// The workspaces that somebody is in or audits.
async fn workspaces_of_person(
    state: &State<'_>,
    user: UserId,
    after: Option<&str>,
    limit: u64,
) -> Result<Page<WorkspaceDocument>, ServiceError> {
    let mut after = after.map(str::to_owned);
    loop {
        let (page, last) = some_workspaces_of(state, user, after.as_deref(), limit).await?;
        // All of a page may have ended by itself: then the list goes on behind it.
        match last {
            Some(last) if page.items.is_empty() && page.more => after = Some(last),
            Some(_) | None => return Ok(page),
        }
    }
}

/// A page of workspaces, without those where the time of a membership or grant is over;
/// and the last key that was looked at.
async fn some_workspaces_of(
    state: &State<'_>,
    user: UserId,
    after: Option<&str>,
    limit: u64,
) -> Result<(Page<WorkspaceDocument>, Option<String>), ServiceError> {
    let (now, user) = (state.now(), user.to_string());
    let members = state
        .documents::<Members>()
        .page_of_lookup(&user, after, limit)
        .await?;
    let grants = state
        .documents::<Auditors>()
        .page_of_lookup(&user, after, limit)
        .await?;
    // Keys of both are alike, and sort by the workspace.
    let mut found: BTreeMap<String, (WorkspaceId, bool)> = BTreeMap::new();
    for (key, member) in members.items {
        let counts = member.at(now).is_some();
        found.insert(key, (member.workspace, counts));
    }
    for (key, grant) in grants.items {
        let entry = found.entry(key).or_insert((grant.workspace, false));
        entry.1 |= grant.is_live(now);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = members.more || grants.more || found.len() > limit;
    let looked_at: Vec<_> = found.into_iter().take(limit).collect();
    let last = looked_at.last().map(|(key, _)| key.clone());
    let counting = looked_at.into_iter().filter(|(_, (_, counts))| *counts);
    let (keys, ids): (Vec<_>, Vec<_>) = counting
        .map(|(key, (workspace, _))| (key, workspace.to_string()))
        .unzip();
    let documents = state
        .documents::<Workspaces>()
        .get_many(&ids)
        .await?
        .into_iter();
    let mut documents: HashMap<_, _> = documents.collect();
    let items = keys
        .into_iter()
        .zip(ids)
        .filter_map(|(key, id)| Some((key, documents.remove(&id)?)));
    let page = Page {
        items: items.collect(),
        more,
        position: members.position.min(grants.position),
    };
    Ok((page, last))
}
