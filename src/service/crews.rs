//! Crews: made, read, listed, renamed and described, archived; and who may do something in one.
//!
//! Everything that is asked of a crew or of what is in it goes through [`Service::may_in_crew`]
//! (reads) and [`Service::submit_in_crew`] (writes), for people and keys alike. What a crew is for
//! is free text: it is sealed under the workspace's key, and opened here alone.

use futures::FutureExt;

use super::{
    Condition, Principal, Request, Service, ServiceError, Written, credentials,
    past::Part,
    workspaces::Place,
    write::{Composed, Made, Receipt, Sender, unmoved},
};
use crate::{
    domain::{
        Name, Refusal, Timestamp,
        authority::{Actor, AuthorityLink, Permission},
        crew::{
            ConnectionId, Crew, CrewCommand, CrewPlace, CrewProfile, CrewStatus, DescriptionChange,
            ItemId, ProfileChange,
        },
        environment::Environment,
        ids::{CrewId, DocumentId, EventId, KnowledgeBaseId, WorkspaceId},
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{Desk, LookupKey, Rejection, Release, StreamRef, stores::Statement},
    projections::{CrewDocument, Crews, Found, Page},
};

/// The sealed field of a crew's description.
const DESCRIPTION: &str = "description";

/// A crew, as it is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct CrewView {
    pub crew: CrewDocument,
    /// What it is for; `erased` where its key is gone.
    pub description: Option<String>,
}

impl CrewView {
    /// Which crew.
    pub fn id(&self) -> CrewId {
        self.crew.id()
    }
}

/// What of a crew is to be changed; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct CrewChange {
    pub name: Option<Name>,
    pub client: Option<Option<Name>>,
    pub description: Option<Option<String>>,
}

/// Which crews; each condition that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct CrewFilter {
    pub environment: Option<Environment>,
    pub status: Option<CrewStatus>,
    pub client: Option<String>,
}

impl CrewFilter {
    fn lets_through(&self, crew: &CrewDocument) -> bool {
        let client = crew.profile.client.as_ref();
        self.environment
            .is_none_or(|environment| environment == crew.place.environment)
            && self.status.is_none_or(|status| status == crew.status)
            && self
                .client
                .as_ref()
                .is_none_or(|wanted| client == Some(wanted))
    }
}

/// No crew here by that id.
const MISSING: Refusal = Refusal::NotFound {
    what: "crew",
    hidden: false,
};

/// A crew that a command is sent to.
#[derive(Debug, Clone, Copy)]
pub(super) struct CrewAt {
    pub place: Place,
    pub crew: CrewPlace,
}

impl CrewAt {
    pub(super) fn stream(self) -> StreamRef {
        StreamRef::of::<Crew>(self.crew.id, self.place.workspace)
    }
}

/// Who may send a command to a crew: what is asked of the workspace, on its newest state.
pub(super) type AuthoriseInCrew =
    dyn Fn(&Workspace, Timestamp) -> Result<Vec<AuthorityLink>, Refusal> + Send + Sync;

/// The decision of a command to a crew, after who sends it has been put on the chain.
pub(super) type DecideInCrew =
    dyn Fn(&mut Desk<'_>, &StreamRef) -> Result<Made, Rejection> + Send + Sync;

/// Whose version a condition is about.
pub(super) enum Conditional {
    /// What is made has none yet.
    Nothing,
    /// The crew itself.
    Crew,
    /// An agent or a pathway.
    Item(ItemId),
    /// What joins it to the world.
    Connection(ConnectionId),
    KnowledgeBase(KnowledgeBaseId),
    Document(DocumentId),
}

/// A command to a crew, and what goes with it.
pub(super) struct CrewWrite<'a> {
    /// As the audit log names it.
    pub action: &'static str,
    /// The id of what it aims at: the crew, or something in it.
    pub target: String,
    /// What a key's scopes must hold, and what a refused condition must not tell to others.
    pub permission: Permission,
    pub conditional: Conditional,
    pub status: u16,
    /// What it looks up outside of the streams.
    pub lookups: Vec<LookupKey>,
    pub authorise: &'a (dyn Fn() -> Box<AuthoriseInCrew> + Send + Sync),
    pub decide: &'a (dyn Fn() -> Box<DecideInCrew> + Send + Sync),
    /// What is kept beside the log, if the command is accepted.
    pub beside: Vec<Statement>,
}

impl Service {
    /// That the caller may do something in a crew, to read from it; a refusal is kept among the
    /// attempts. A crew that a key does not reach is not there for it.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn may_in_crew(
        &self,
        request: &Request,
        principal: &Principal,
        (workspace, crew): (WorkspaceId, CrewId),
        permission: Permission,
        action: &'static str,
    ) -> Result<(CrewAt, Found<CrewDocument>), ServiceError> {
        let place = self.known_place(workspace).await?;
        let found = self.crews().get(&crew.to_string()).await?;
        let position = found.position;
        let document = found.value.filter(|found| found.workspace == workspace);
        let refusal = match self.is_allowed(principal, place, permission).await {
            Ok(()) => match document {
                None => return Err(MISSING.into()),
                Some(document) if reaches(principal, document.place) => {
                    let crew = document.place;
                    let value = document;
                    return Ok((CrewAt { place, crew }, Found { position, value }));
                }
                Some(_) => Refusal::NotFound {
                    what: "crew",
                    hidden: true,
                },
            },
            Err(ServiceError::Refused(refusal)) => refusal,
            Err(error) => return Err(error),
        };
        if refusal.is_denial() {
            let aim = place.aim(action, crew);
            let aim = match document {
                Some(document) => aim.in_crew(document.place),
                None => aim,
            };
            self.keep_attempt(principal, request, &aim, &refusal).await;
        }
        Err(refusal.into())
    }

    /// The crew that a command of a caller is sent to. What a person may is decided in the
    /// append alone; a key is looked at before, as it may be of another workspace.
    pub(super) async fn crew_to_change(
        &self,
        request: &Request,
        principal: &Principal,
        (workspace, crew): (WorkspaceId, CrewId),
        permission: Permission,
        action: &'static str,
    ) -> Result<CrewAt, ServiceError> {
        if let Principal::Key(_) = principal {
            let (at, _) = self
                .may_in_crew(request, principal, (workspace, crew), permission, action)
                .await?;
            return Ok(at);
        }
        let place = self.known_place(workspace).await?;
        let found = self.crews().get(&crew.to_string()).await?.value;
        let found = found.filter(|found| found.workspace == workspace);
        match found {
            Some(document) => {
                let crew = document.place;
                Ok(CrewAt { place, crew })
            }
            None => {
                // Whoever may not know of the workspace is told of that.
                self.is_allowed(principal, place, permission).await?;
                Err(MISSING.into())
            }
        }
    }

    /// Submits a command to a crew.
    pub(super) async fn submit_in_crew(
        &self,
        request: &Request,
        principal: &Principal,
        at: CrewAt,
        write: CrewWrite<'_>,
    ) -> Result<Receipt, ServiceError> {
        let aim = at.place.aim(write.action, &write.target).in_crew(at.crew);
        let sender = Sender::of(principal);
        let write = &write;
        self.submit(&sender, request, Some(&aim), || {
            self.compose_in_crew(request, principal, at, write).boxed()
        })
        .await
    }

    /// The newest version of what a condition is about: read after the stream's sequence.
    async fn version_in_crew(
        &self,
        crew: CrewId,
        conditional: &Conditional,
    ) -> Result<Option<u64>, ServiceError> {
        match conditional {
            Conditional::Nothing => Ok(None),
            Conditional::Crew => {
                let found = self.crews().get(&crew.to_string()).await?;
                Ok(found.value.map(|crew| crew.version))
            }
            Conditional::Item(item) => {
                let found = self.items().get(&item.to_string()).await?;
                let here = found.value.filter(|item| item.crew == crew);
                Ok(here.map(|item| item.version))
            }
            Conditional::Connection(connection) => {
                let found = self.connections().get(&connection.to_string()).await?;
                let here = found.value.filter(|connection| connection.crew == crew);
                Ok(here.map(|connection| connection.version))
            }
            Conditional::KnowledgeBase(base) => {
                let found = self.knowledge_bases().get(&base.to_string()).await?;
                let here = found.value.filter(|base| base.crew == crew);
                Ok(here.map(|base| base.version))
            }
            Conditional::Document(document) => {
                let found = self
                    .knowledge_documents()
                    .get(&document.to_string())
                    .await?;
                let here = found.value.filter(|document| document.crew == crew);
                Ok(here.map(|document| document.version))
            }
        }
    }

    async fn compose_in_crew(
        &self,
        request: &Request,
        principal: &Principal,
        at: CrewAt,
        write: &CrewWrite<'_>,
    ) -> Result<Composed, ServiceError> {
        let CrewAt { place, crew } = at;
        let (workspace, stream) = (place.stream(), at.stream());
        if request.condition != Condition::None {
            self.is_allowed(principal, place, write.permission).await?;
        }
        let version = self.version_in_crew(crew.id, &write.conditional);
        let sequence = self.checked_sequence(request, &stream, version).await?;
        let (organization, scope) = (Some(place.organization), Some(place.workspace));
        let origin = self
            .origin_of(principal, request, organization, scope)
            .await?;
        let (authorise, decide) = ((write.authorise)(), (write.decide)());
        let (principal, status, beside) = (principal.clone(), write.status, write.beside.clone());
        let mut streams = vec![workspace.clone(), stream.clone()];
        streams.extend(principal.stream());
        Ok(Composed {
            lane: place.organization.to_string(),
            streams,
            lookups: write.lookups.clone(),
            origin,
            decide: Box::new(move |desk| {
                principal.is_live(desk)?;
                let now = desk.now();
                let links = authorise(desk.read::<Workspace>(&workspace), now)?;
                links.into_iter().for_each(|link| desk.stand_on(link));
                let there = desk.read::<Crew>(&stream).lies_in(place.workspace);
                if there.is_ok_and(|there| there != crew) {
                    return Err(Rejection::Recompose);
                }
                unmoved(desk, &stream, sequence)?;
                let made = decide(desk, &stream)?;
                beside
                    .iter()
                    .cloned()
                    .for_each(|row| desk.write_beside(row));
                Ok(made.outcome(status))
            }),
        })
    }

    /// Makes a crew.
    ///
    /// # Errors
    /// A refusal unless the caller manages crews; a key makes them in its own environment, and
    /// none where it is bound to crews.
    pub async fn create_crew(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        environment: Environment,
        (profile, description): (CrewProfile, Option<String>),
    ) -> Result<Written<CrewView>, ServiceError> {
        let (permission, action) = (Permission::ManageCrews, "crew.created");
        let place = match principal {
            Principal::Person(_) => self.known_place(workspace).await?,
            Principal::Key(_) => {
                self.may_in_workspace(request, principal, workspace, permission, action)
                    .await?
            }
        };
        let crew = CrewPlace {
            id: CrewId::from_uuid(self.source().uuid()),
            environment,
        };
        let actor = principal.actor();
        let list = place.stream();
        let created = EventId::from_uuid(self.source().uuid());
        let description = match description {
            Some(text) => {
                let key = self.workspace_key(workspace).await?;
                Some(key.seal(self.source(), created, DESCRIPTION, &text))
            }
            None => None,
        };
        let create = CrewCommand::Create {
            crew,
            workspace: place.workspace,
            organization: place.organization,
            profile,
            description,
        };
        let write = CrewWrite {
            action,
            target: workspace.to_string(),
            permission,
            conditional: Conditional::Nothing,
            status: 201,
            lookups: vec![],
            // `ListCrew` asks, so that a key is told what it may not.
            authorise: &|| {
                Box::new(move |workspace, now| match actor {
                    Actor::ApiKey { id } => Ok(vec![workspace.authorise_key(id, permission, now)?]),
                    actor => Ok(vec![
                        workspace.authorise_in_crew(actor, permission, crew, now)?,
                    ]),
                })
            },
            decide: &|| {
                let (list, create) = (list.clone(), create.clone());
                Box::new(move |desk, stream| {
                    let listed = WorkspaceCommand::ListCrew { actor, crew };
                    desk.execute::<Workspace>(&list, listed, &[])?;
                    desk.execute::<Crew>(stream, create.clone(), &[created])?;
                    Ok(Made::Crew(crew.id))
                })
            },
            beside: vec![],
        };
        let at = CrewAt { place, crew };
        let receipt = self.submit_in_crew(request, principal, at, write).await?;
        self.crew_written(receipt).await
    }

    async fn crew_written(&self, receipt: Receipt) -> Result<Written<CrewView>, ServiceError> {
        let Made::Crew(crew) = receipt.made else {
            let words = "the kept answer is no crew".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let key = crew.to_string();
        let shown = self.shown::<Crews, Crew>(self.crews(), &receipt, &key, &key);
        let view = self.crew_view(shown.await?).await?;
        Ok(Written::of(&receipt, view))
    }

    async fn crew_view(&self, crew: CrewDocument) -> Result<CrewView, ServiceError> {
        let description = self.opened(crew.description.as_ref()).await?;
        Ok(CrewView { crew, description })
    }

    /// Renames or describes a crew, or says for which client it is.
    ///
    /// # Errors
    /// A refusal unless the caller may, or when the crew is archived.
    pub async fn update_crew(
        &self,
        request: &Request,
        principal: &Principal,
        (workspace, crew): (WorkspaceId, CrewId),
        change: CrewChange,
    ) -> Result<Written<CrewView>, ServiceError> {
        let (permission, action) = (Permission::DescribeCrews, "crew.updated");
        let at = self
            .crew_to_change(request, principal, (workspace, crew), permission, action)
            .await?;
        let actor = principal.actor();
        let aim = at.place.aim(action, crew).in_crew(at.crew);
        let (sender, change) = (Sender::of(principal), &change);
        let compose = || {
            async move {
                let updated = EventId::from_uuid(self.source().uuid());
                let change = self.sealed_change(at, change, updated).await?;
                let write = CrewWrite {
                    action,
                    target: crew.to_string(),
                    permission,
                    conditional: Conditional::Crew,
                    status: 200,
                    lookups: vec![],
                    authorise: &|| authorise_in_crew(actor, permission, at.crew),
                    decide: &|| update_in(crew, change.clone(), updated),
                    beside: vec![],
                };
                self.compose_in_crew(request, principal, at, &write).await
            }
            .boxed()
        };
        let receipt = self.submit(&sender, request, Some(&aim), compose).await?;
        self.crew_written(receipt).await
    }

    /// A change as the log has it: free text sealed for `event`, from what it is now; nothing
    /// where it says what is said already.
    async fn sealed_change(
        &self,
        at: CrewAt,
        change: &CrewChange,
        event: EventId,
    ) -> Result<ProfileChange, ServiceError> {
        let description = match &change.description {
            Some(text) => self.description_change(at, text.as_deref(), event).await?,
            None => None,
        };
        Ok(ProfileChange {
            name: change.name.clone(),
            client: change.client.clone(),
            description,
        })
    }

    async fn description_change(
        &self,
        at: CrewAt,
        text: Option<&str>,
        event: EventId,
    ) -> Result<Option<DescriptionChange>, ServiceError> {
        let found = self.crews().get(&at.crew.id.to_string()).await?.value;
        let crew = found.ok_or(MISSING)?;
        let previous = self.opened(crew.description.as_ref()).await?;
        if previous.as_deref() == text {
            return Ok(None);
        }
        let key = self.workspace_key(at.place.workspace).await?;
        let seal = |field, text: Option<&str>| {
            text.map(|text| key.seal(self.source(), event, field, text))
        };
        Ok(Some(DescriptionChange {
            previous: seal("previous", previous.as_deref()),
            description: seal(DESCRIPTION, text),
            profile_sequence: crew.version,
        }))
    }

    /// Archives a crew: nothing in it changes any more, it counts no more, what it had claimed
    /// is free, and its credentials are destroyed.
    ///
    /// # Errors
    /// A refusal unless the caller manages crews, or when it is archived already.
    pub async fn archive_crew(
        &self,
        request: &Request,
        principal: &Principal,
        (workspace, crew): (WorkspaceId, CrewId),
    ) -> Result<Written<CrewView>, ServiceError> {
        let (permission, action) = (Permission::ManageCrews, "crew.archived");
        let at = self
            .crew_to_change(request, principal, (workspace, crew), permission, action)
            .await?;
        let actor = principal.actor();
        let list = at.place.stream();
        let write = CrewWrite {
            action,
            target: crew.to_string(),
            permission,
            conditional: Conditional::Crew,
            status: 200,
            lookups: vec![],
            authorise: &|| authorise_in_crew(actor, permission, at.crew),
            decide: &|| {
                let (list, crew) = (list.clone(), at.crew);
                Box::new(move |desk, stream| {
                    let unlisted = WorkspaceCommand::UnlistCrew { actor, crew };
                    desk.execute::<Workspace>(&list, unlisted, &[])?;
                    desk.execute::<Crew>(stream, CrewCommand::Archive, &[])?;
                    let freed = Release::Crew(crew.id);
                    credentials::destroy(&freed)
                        .into_iter()
                        .for_each(|row| desk.write_beside(row));
                    desk.release(freed);
                    Ok(Made::Crew(crew.id))
                })
            },
            beside: vec![],
        };
        let receipt = self.submit_in_crew(request, principal, at, write).await?;
        self.crew_written(receipt).await
    }

    /// A crew.
    ///
    /// # Errors
    /// A refusal unless the caller may see it.
    pub async fn crew(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        crew: CrewId,
    ) -> Result<Found<CrewView>, ServiceError> {
        let permission = Permission::SeeCrews;
        let at = (workspace, crew);
        let may = self.may_in_crew(request, principal, at, permission, "crew.read");
        let (_, found) = may.await?;
        let (position, crew) = match request.as_of {
            None => (found.position, found.value),
            Some(_) => {
                let state = self.state_of_crew(request, crew).await?;
                let then = state.documents::<Crews>().get(&crew.to_string()).await?;
                (then.position, then.value.ok_or(MISSING)?)
            }
        };
        let value = self.crew_view(crew).await?;
        Ok(Found { position, value })
    }

    /// A page of a workspace's crews, oldest first: of those that a key reaches.
    ///
    /// # Errors
    /// A refusal unless the caller may see crews.
    pub async fn crews_of(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        filter: &CrewFilter,
        (after, limit): (Option<&str>, u64),
    ) -> Result<Page<CrewView>, ServiceError> {
        let permission = Permission::SeeCrews;
        let place = self
            .may_in_workspace(request, principal, workspace, permission, "crew.read")
            .await?;
        let keep = |crew: CrewDocument| {
            let shown = reaches(principal, crew.place) && filter.lets_through(&crew);
            shown.then_some(crew)
        };
        let parent = workspace.to_string();
        let page = match self.state_of_workspace(request, place).await?.moment() {
            Some(moment) => {
                let born = |crew: &CrewDocument| crew.created_at;
                let parts = |crew: &CrewDocument| vec![Part::CrewItself(crew.id())];
                let of = (parent.as_str(), after, limit);
                let then = self.page_then::<Crews>(moment, of, born, parts, keep);
                then.await?.1
            }
            None => {
                let crews = self.crews();
                match &filter.client {
                    Some(client) => {
                        let lookup = Crews::of_client(&workspace, client);
                        crews
                            .page_of_lookup_where(&lookup, after, limit, keep)
                            .await?
                    }
                    None => {
                        crews
                            .page_of_parent_where(&parent, after, limit, keep)
                            .await?
                    }
                }
            }
        };
        let mut items = Vec::with_capacity(page.items.len());
        for (key, crew) in page.items {
            items.push((key, self.crew_view(crew).await?));
        }
        Ok(Page {
            items,
            more: page.more,
            position: page.position,
        })
    }

    /// The crew of a workspace that a body names.
    ///
    /// # Errors
    /// An invalid value at `pointer` where there is none.
    pub(super) async fn crew_named(
        &self,
        pointer: &'static str,
        workspace: WorkspaceId,
        crew: CrewId,
    ) -> Result<CrewDocument, ServiceError> {
        let found = self.crews().get(&crew.to_string()).await?.value;
        let found = found.filter(|found| found.workspace == workspace);
        found.ok_or_else(|| ServiceError::InvalidValue {
            pointer,
            detail: "there is no such crew in this workspace".to_owned(),
        })
    }
}

/// The decision to change a crew's profile; anew where it is not what the change was sealed from.
fn update_in(crew: CrewId, change: ProfileChange, event: EventId) -> Box<DecideInCrew> {
    Box::new(move |desk, stream| {
        let change = change.clone();
        match desk.execute::<Crew>(stream, CrewCommand::Update { change }, &[event]) {
            Err(Refusal::ProfileMoved) => Err(Rejection::Recompose),
            Err(refusal) => Err(refusal.into()),
            Ok(()) => Ok(Made::Crew(crew)),
        }
    })
}

/// Whether a crew is one of those that a principal reaches.
pub(super) fn reaches(principal: &Principal, crew: CrewPlace) -> bool {
    match principal {
        Principal::Person(_) => true,
        Principal::Key(key) => key.0.terms.reach(key.0.environment, crew).is_ok(),
    }
}

/// What is asked of the workspace by most commands to a crew.
pub(super) fn authorise_in_crew(
    actor: Actor,
    permission: Permission,
    crew: CrewPlace,
) -> Box<AuthoriseInCrew> {
    Box::new(move |workspace, now| {
        Ok(vec![
            workspace.authorise_in_crew(actor, permission, crew, now)?,
        ])
    })
}
