//! Organizations: made, read, renamed.

use futures::FutureExt;

use super::{
    Caller, Condition, KeyCaller, Principal, Request, Service, ServiceError, Written,
    write::{Aim, Composed, Made, Receipt, Sender, profile_is_at, unmoved},
};
use crate::{
    domain::{
        Name, Refusal,
        authority::{Actor, OrganizationPermission, OrganizationRole},
        ids::OrganizationId,
        organization::{Organization, OrganizationCommand},
    },
    journal::StreamRef,
    projections::{Found, OrganizationDocument, OrganizationMembers, Organizations, Page},
};

/// The stream of an organization, which is a scope of its own.
pub(super) fn organization_stream(organization: OrganizationId) -> StreamRef {
    StreamRef::of::<Organization>(organization, organization)
}

impl Service {
    /// Makes an organization, owned by the caller.
    ///
    /// # Errors
    /// When the caller's session has ended, or the journal does not take it.
    pub async fn create_organization(
        &self,
        request: &Request,
        caller: &Caller,
        name: Name,
    ) -> Result<Written<OrganizationDocument>, ServiceError> {
        let id = OrganizationId::from_uuid(self.source().uuid());
        let sender = Sender::Person(caller.clone());
        let receipt = self
            .submit(&sender, request, None, || {
                async {
                    self.compose_organization(request, caller, id, name.clone())
                        .await
                }
                .boxed()
            })
            .await?;
        let Made::Organization(id) = receipt.made else {
            return Err(ServiceError::Internal(
                "the kept answer is no organization".to_owned(),
            ));
        };
        let shown = self.organization_shown(&receipt, id).await?;
        Ok(Written::of(&receipt, shown))
    }

    async fn compose_organization(
        &self,
        request: &Request,
        caller: &Caller,
        id: OrganizationId,
        name: Name,
    ) -> Result<Composed, ServiceError> {
        let profile = self.profile(caller.user).await?;
        let profile_sequence = profile.account.version;
        let lookup = self.email_lookup(&profile.address()?);
        let copied = (
            profile.email.as_str(),
            profile.name.as_str(),
            profile_sequence,
        );
        let made = self.new_organization(id, name, caller.user, copied, &lookup);
        let caller_stream = caller.stream();
        let caller = caller.clone();
        Ok(Composed {
            lane: id.to_string(),
            streams: vec![caller_stream, made.stream.clone()],
            lookups: vec![Self::placed_lookup(caller.user)],
            origin: self.origin(&caller, request, None, None).await?,
            decide: Box::new(move |desk| {
                caller.is_live(desk)?;
                profile_is_at(desk, &caller.stream(), profile_sequence)?;
                Self::note_placed(desk, caller.user);
                made.decide(desk)?;
                Ok(Made::Organization(id).outcome(201))
            }),
        })
    }

    pub(super) async fn organization_shown(
        &self,
        receipt: &Receipt,
        id: OrganizationId,
    ) -> Result<OrganizationDocument, ServiceError> {
        let key = id.to_string();
        self.shown::<Organizations, Organization>(self.organizations(), receipt, &key, &key)
            .await
    }

    /// That the caller may do something in an organization, to read from it; a refusal is
    /// kept among its attempts.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn may_in_organization(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        organization: OrganizationId,
        permission: OrganizationPermission,
        action: &'static str,
    ) -> Result<(), ServiceError> {
        let principal = principal.into();
        let allowed = self
            .is_allowed_in_organization(&principal, organization, permission)
            .await;
        let refusal = match allowed {
            Err(ServiceError::Refused(refusal)) => refusal,
            allowed => return allowed,
        };
        if refusal.is_denial() {
            let aim = Aim {
                action,
                target: organization.to_string(),
                organization,
                workspace: None,
                crew: None,
            };
            self.keep_attempt(&principal, request, &aim, &refusal).await;
        }
        Err(refusal.into())
    }

    pub(super) async fn is_allowed_in_organization(
        &self,
        principal: &Principal,
        organization: OrganizationId,
        permission: OrganizationPermission,
    ) -> Result<(), ServiceError> {
        match principal {
            Principal::Person(caller) => {
                let role = self.organization_role_for(caller, organization, permission);
                role.await.map(drop)
            }
            Principal::Key(key) => self.is_allowed_there(key, organization, permission).await,
        }
    }

    /// [`Service::checked_sequence`] of an organization, for whoever may: a failed condition
    /// would tell anybody else that something exists, and its version.
    pub(super) async fn checked_sequence_there(
        &self,
        request: &Request,
        caller: &Caller,
        organization: OrganizationId,
        permission: OrganizationPermission,
        version: impl Future<Output = Result<Option<u64>, ServiceError>>,
    ) -> Result<Option<u64>, ServiceError> {
        if request.condition != Condition::None {
            self.organization_role_for(caller, organization, permission)
                .await?;
        }
        let stream = organization_stream(organization);
        self.checked_sequence(request, &stream, version).await
    }

    /// A key of the organization itself may what its scopes say; any other sees nothing of it.
    async fn is_allowed_there(
        &self,
        key: &KeyCaller,
        organization: OrganizationId,
        permission: OrganizationPermission,
    ) -> Result<(), ServiceError> {
        if key.0.workspace.is_none() && key.0.organization == organization {
            return Ok(permission.of_keys().allows(key.0.scopes())?);
        }
        let known = self.organizations().get(&organization.to_string()).await?;
        let refusal = Refusal::NotFound {
            what: "organization",
            hidden: known.value.is_some(),
        };
        Err(refusal.into())
    }

    /// The caller's role in an organization, where it holds the permission.
    pub(super) async fn organization_role_for(
        &self,
        caller: &Caller,
        organization: OrganizationId,
        permission: OrganizationPermission,
    ) -> Result<OrganizationRole, ServiceError> {
        let key = OrganizationMembers::key(&organization, &caller.user);
        let refusal = match self.organization_members().get(&key).await?.value {
            Some(member) if permission.allows(member.role) => return Ok(member.role),
            Some(member) => Refusal::NotPermittedInOrganization {
                permission,
                role: member.role,
            },
            None => {
                let known = self.organizations().get(&organization.to_string()).await?;
                Refusal::NotFound {
                    what: "organization",
                    hidden: known.value.is_some(),
                }
            }
        };
        Err(refusal.into())
    }

    /// An organization that the caller has a role in.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when it does not exist or they have none.
    pub async fn organization(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        id: OrganizationId,
    ) -> Result<Found<OrganizationDocument>, ServiceError> {
        let permission = OrganizationPermission::See;
        self.may_in_organization(request, principal, id, permission, "organization.read")
            .await?;
        let state = self.state_of_organization(request, id).await?;
        let organizations = state.documents::<Organizations>();
        let found = organizations.get(&id.to_string()).await?;
        let missing = Refusal::NotFound {
            what: "organization",
            hidden: false,
        };
        Ok(Found {
            position: found.position,
            value: found.value.ok_or(missing)?,
        })
    }

    /// The organizations that the caller has a role in, in order of their ids. Keys of the
    /// page are what `after` takes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn organizations_of(
        &self,
        request: &Request,
        caller: &Caller,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Page<OrganizationDocument>, ServiceError> {
        let state = self.state_of_person(request, caller.user).await?;
        let roles = state.documents::<OrganizationMembers>();
        let page = roles
            .page_of_lookup(&caller.user.to_string(), after, limit)
            .await?;
        let ids: Vec<_> = page
            .items
            .iter()
            .map(|(_, role)| role.organization.to_string())
            .collect();
        let mut documents: std::collections::HashMap<_, _> = state
            .documents::<Organizations>()
            .get_many(&ids)
            .await?
            .into_iter()
            .collect();
        let items = page.items.into_iter().filter_map(|(key, role)| {
            Some((key, documents.remove(&role.organization.to_string())?))
        });
        Ok(Page {
            items: items.collect(),
            more: page.more,
            position: page.position,
        })
    }

    /// Renames an organization.
    ///
    /// # Errors
    /// A refusal unless the caller owns it.
    pub async fn rename_organization(
        &self,
        request: &Request,
        caller: &Caller,
        id: OrganizationId,
        name: Name,
    ) -> Result<Written<OrganizationDocument>, ServiceError> {
        let aim = Aim {
            action: "organization.renamed",
            target: id.to_string(),
            organization: id,
            workspace: None,
            crew: None,
        };
        // An organization that does not exist has no attempts to be kept in.
        let exists = self
            .organizations()
            .get(&id.to_string())
            .await?
            .value
            .is_some();
        let sender = Sender::Person(caller.clone());
        let receipt = self
            .submit(&sender, request, exists.then_some(&aim), || {
                async {
                    let stream = organization_stream(id);
                    let permission = OrganizationPermission::Rename;
                    let version = async {
                        let found = self.organizations().get(&id.to_string()).await?;
                        Ok(found.value.map(|document| document.version))
                    };
                    let sequence = self
                        .checked_sequence_there(request, caller, id, permission, version)
                        .await?;
                    let origin = self.origin(caller, request, Some(id), None).await?;
                    let (caller, name) = (caller.clone(), name.clone());
                    Ok(Composed {
                        lane: id.to_string(),
                        streams: vec![caller.stream(), stream.clone()],
                        lookups: vec![],
                        origin,
                        decide: Box::new(move |desk| {
                            caller.is_live(desk)?;
                            let organization = desk.read::<Organization>(&stream);
                            let link = organization.authorise(caller.user, permission)?;
                            desk.stand_on(link);
                            unmoved(desk, &stream, sequence)?;
                            let rename = OrganizationCommand::Rename {
                                actor: Actor::User { id: caller.user },
                                name: name.clone(),
                            };
                            desk.execute::<Organization>(&stream, rename, &[])?;
                            Ok(Made::Organization(id).outcome(200))
                        }),
                    })
                }
                .boxed()
            })
            .await?;
        Ok(Written::of(
            &receipt,
            self.organization_shown(&receipt, id).await?,
        ))
    }
}
