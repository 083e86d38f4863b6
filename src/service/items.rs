//! Agents and pathways of a crew: made, read, listed, changed, removed, each version read back.
//!
//! What one says is a content ([`super::contents`]); a production crew's are changed by promotion,
//! unless its workspace's policy allows edits or the caller breaks glass.

use serde_json::Value as Json;

use super::{
    Principal, Request, Service, ServiceError, Written,
    contents::Staged,
    crews::{Conditional, CrewAt, CrewWrite},
    past::State,
    write::{Made, Receipt},
};
use crate::{
    domain::{
        Name, Refusal,
        authority::Permission,
        contents::CONTENT_BYTES_MAX,
        crew::{Crew, CrewCommand, ItemCommand, ItemId, ItemKind},
        ids::{AgentId, CrewId, PathwayId, WorkspaceId},
    },
    projections::{Found, ItemDocument, ItemVersionDocument, ItemVersions, Items, Page},
};

/// An agent or a pathway, with what it says where that is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemView {
    pub item: ItemDocument,
    /// RFC 8785 JSON.
    pub config: Option<String>,
}

/// One version of an agent or a pathway, with what it says where that is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemVersionView {
    pub version: ItemVersionDocument,
    /// RFC 8785 JSON.
    pub config: Option<String>,
}

/// What an agent or a pathway is to be.
#[derive(Debug, Clone)]
pub struct ItemDraft {
    pub name: Name,
    pub config: Json,
    /// Whether the caller breaks glass, should that be needed; the reason is the request's.
    pub breaks_glass: bool,
}

/// A crew of a workspace.
pub type InCrew = (WorkspaceId, CrewId);

fn missing(kind: ItemKind) -> Refusal {
    Refusal::NotFound {
        what: kind.name(),
        hidden: false,
    }
}

/// As the audit log names what is done.
fn action(kind: ItemKind, done: &str) -> &'static str {
    match (kind, done) {
        (ItemKind::Agent, "created") => "agent.created",
        (ItemKind::Agent, "updated") => "agent.updated",
        (ItemKind::Agent, "removed") => "agent.removed",
        (ItemKind::Agent, _) => "agent.read",
        (ItemKind::Pathway, "created") => "pathway.created",
        (ItemKind::Pathway, "updated") => "pathway.updated",
        (ItemKind::Pathway, "removed") => "pathway.removed",
        (ItemKind::Pathway, _) => "pathway.read",
    }
}

/// A change of an agent or a pathway.
struct ItemWrite {
    item: ItemId,
    action: &'static str,
    /// What it aims at: the crew, where it makes one.
    target: String,
    command: ItemCommand,
    /// What the command names, to be pinned.
    content: Option<Staged>,
    conditional: Conditional,
    breaks_glass: bool,
    status: u16,
}

impl Service {
    /// The canonical form of a configuration, kept as a content.
    async fn staged(&self, workspace: WorkspaceId, config: &Json) -> Result<Staged, ServiceError> {
        let canonical = serde_json_canonicalizer::to_string(config)
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        if canonical.len() > CONTENT_BYTES_MAX {
            return Err(ServiceError::InvalidValue {
                pointer: "/config",
                detail: format!("at most {CONTENT_BYTES_MAX} bytes in its canonical form"),
            });
        }
        self.stage(workspace, &canonical).await
    }

    /// Makes an agent or a pathway.
    ///
    /// # Errors
    /// A refusal unless the caller may edit the crew; an invalid value when it is too large.
    pub async fn create_item(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        kind: ItemKind,
        draft: ItemDraft,
    ) -> Result<Written<ItemView>, ServiceError> {
        let action = action(kind, "created");
        let (place, _) = self
            .may_in_crew(request, principal, at, Permission::EditCrews, action)
            .await?;
        let uuid = self.source().uuid();
        let item = match kind {
            ItemKind::Agent => ItemId::Agent(AgentId::from_uuid(uuid)),
            ItemKind::Pathway => ItemId::Pathway(PathwayId::from_uuid(uuid)),
        };
        let staged = self.staged(at.0, &draft.config).await?;
        let write = ItemWrite {
            item,
            action,
            target: at.1.to_string(),
            command: ItemCommand::Create {
                item,
                name: draft.name,
                content: staged.content,
            },
            content: Some(staged),
            conditional: Conditional::Nothing,
            breaks_glass: draft.breaks_glass,
            status: 201,
        };
        self.write_item(request, principal, place, write).await
    }

    /// Puts another name or configuration in place of those there are.
    ///
    /// # Errors
    /// A refusal unless the caller may edit the crew; an invalid value when it is too large.
    pub async fn update_item(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        item: ItemId,
        draft: ItemDraft,
    ) -> Result<Written<ItemView>, ServiceError> {
        let action = action(item.kind(), "updated");
        let (place, _) = self
            .may_in_crew(request, principal, at, Permission::EditCrews, action)
            .await?;
        let staged = self.staged(at.0, &draft.config).await?;
        let write = ItemWrite {
            item,
            action,
            target: item.to_string(),
            command: ItemCommand::Update {
                item,
                name: draft.name,
                content: staged.content,
            },
            content: Some(staged),
            conditional: Conditional::Item(item),
            breaks_glass: draft.breaks_glass,
            status: 200,
        };
        self.write_item(request, principal, place, write).await
    }

    /// Removes an agent or a pathway; its versions can still be read.
    ///
    /// # Errors
    /// A refusal unless the caller may edit the crew.
    pub async fn remove_item(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        item: ItemId,
        breaks_glass: bool,
    ) -> Result<Written<()>, ServiceError> {
        let action = action(item.kind(), "removed");
        let place = self
            .crew_to_change(request, principal, at, Permission::EditCrews, action)
            .await?;
        let write = ItemWrite {
            item,
            action,
            target: item.to_string(),
            command: ItemCommand::Remove { item },
            content: None,
            conditional: Conditional::Item(item),
            breaks_glass,
            status: 204,
        };
        let receipt = self.submit_item(request, principal, place, write).await?;
        Ok(Written::of(&receipt, ()))
    }

    async fn submit_item(
        &self,
        request: &Request,
        principal: &Principal,
        at: CrewAt,
        write: ItemWrite,
    ) -> Result<Receipt, ServiceError> {
        let (actor, item, breaks_glass) = (principal.actor(), write.item, write.breaks_glass);
        let (command, content) = (write.command, write.content);
        let in_crew = CrewWrite {
            action: write.action,
            target: write.target,
            permission: Permission::EditCrews,
            conditional: write.conditional,
            status: write.status,
            lookups: vec![],
            authorise: &|| {
                Box::new(move |workspace, now| {
                    workspace.authorise_edit(actor, at.crew, breaks_glass, now)
                })
            },
            decide: &|| {
                let (command, content) = (command.clone(), content.clone());
                Box::new(move |desk, stream| {
                    let before = desk.sequence(stream);
                    let command = CrewCommand::Item(command.clone());
                    desk.execute::<Crew>(stream, command, &[])?;
                    if let (Some(content), true) = (&content, desk.sequence(stream) != before) {
                        content.pin(desk)?;
                    }
                    Ok(Made::Item(at.crew.id, item))
                })
            },
            beside: vec![],
        };
        self.submit_in_crew(request, principal, at, in_crew).await
    }

    async fn write_item(
        &self,
        request: &Request,
        principal: &Principal,
        at: CrewAt,
        write: ItemWrite,
    ) -> Result<Written<ItemView>, ServiceError> {
        let receipt = self.submit_item(request, principal, at, write).await?;
        let Made::Item(crew, item) = &receipt.made else {
            let words = "the kept answer is no agent or pathway".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let (stream, key) = (crew.to_string(), item.to_string());
        let shown = self.shown::<Items, Crew>(self.items(), &receipt, &stream, &key);
        let item = shown.await?;
        let config = Some(self.content(item.workspace, item.item.content).await?);
        Ok(Written::of(&receipt, ItemView { item, config }))
    }

    /// A page of a crew's agents or pathways, oldest first, without what they say.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew.
    pub async fn items_of(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        kind: ItemKind,
        (after, limit): (Option<&str>, u64),
    ) -> Result<Page<ItemView>, ServiceError> {
        let state = self.seen_items(request, principal, at, kind).await?;
        let parent = Items::parent(&at.1, kind);
        let page = state
            .documents::<Items>()
            .page_of_parent(&parent, after, limit)
            .await?;
        Ok(page.map(|item| ItemView { item, config: None }))
    }

    /// An agent or a pathway.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew; [`Refusal::NotFound`].
    pub async fn item(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        item: ItemId,
    ) -> Result<Found<ItemView>, ServiceError> {
        let kind = item.kind();
        let state = self.seen_items(request, principal, at, kind).await?;
        let found = state.documents::<Items>().get(&item.to_string()).await?;
        let here = found.value.filter(|item| item.crew == at.1);
        let item = here.ok_or(missing(kind))?;
        let config = Some(self.content(item.workspace, item.item.content).await?);
        Ok(Found {
            position: found.position,
            value: ItemView { item, config },
        })
    }

    /// A page of the versions of an agent or a pathway, oldest first, without what they say; of
    /// one that was removed as well.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew; [`Refusal::NotFound`].
    pub async fn item_versions_of(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        item: ItemId,
        (after, limit): (Option<&str>, u64),
    ) -> Result<Page<ItemVersionView>, ServiceError> {
        let kind = item.kind();
        let state = self.seen_items(request, principal, at, kind).await?;
        let versions = state.documents::<ItemVersions>();
        let first = versions.page_of_parent(&item.to_string(), None, 1).await?;
        let is_here = |(_, version): &(String, ItemVersionDocument)| version.crew == at.1;
        if !first.items.first().is_some_and(is_here) {
            return Err(missing(kind).into());
        }
        let parent = item.to_string();
        let page = versions.page_of_parent(&parent, after, limit).await?;
        Ok(page.map(|version| ItemVersionView {
            version,
            config: None,
        }))
    }

    /// One version of an agent or a pathway.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew; [`Refusal::NotFound`].
    pub async fn item_version(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        item: ItemId,
        version: u64,
    ) -> Result<Found<ItemVersionView>, ServiceError> {
        let kind = item.kind();
        let state = self.seen_items(request, principal, at, kind).await?;
        let key = ItemVersions::key(&item, version);
        let found = state.documents::<ItemVersions>().get(&key).await?;
        let here = found.value.filter(|version| version.crew == at.1);
        let version = here.ok_or(missing(kind))?;
        let content = self.content(version.workspace, version.item.content);
        let config = Some(content.await?);
        Ok(Found {
            position: found.position,
            value: ItemVersionView { version, config },
        })
    }

    /// The state that somebody asks about who may see a crew's agents and pathways.
    async fn seen_items(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        kind: ItemKind,
    ) -> Result<State<'_>, ServiceError> {
        let action = action(kind, "read");
        self.may_in_crew(request, principal, at, Permission::SeeCrews, action)
            .await?;
        self.state_of_crew(request, at.1).await
    }
}
