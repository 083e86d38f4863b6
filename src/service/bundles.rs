//! Bundles: what a crew holds, read at one version, exported, and taken from a file.
//!
//! Contents are read some at a time, hashed and handed on: what a crew holds together is never in
//! memory as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{Stream as Bytes, StreamExt, TryStreamExt, stream};

use super::{
    Principal, Request, Service, ServiceError,
    contents::{self, Staged},
    crews::CrewAt,
    items::InCrew,
    looks::slots_in,
    past::State,
};
use crate::{
    domain::{
        Refusal,
        authority::Permission,
        bundle::{ItemKey, Manifest, Piece, changes, pieces, size},
        contents::{Content, Digest},
        crew::{Crew, Item, ItemChange, ItemId},
        ids::WorkspaceId,
    },
    journal::{Desk, Rejection, loading},
    projections::Found,
};

/// How many contents are read at once.
pub(super) const READ_AT_ONCE: usize = 64;
/// How many reads are under way at once: one is opened while the next is on its way.
pub(super) const CHUNKS_AT_ONCE: usize = 2;

/// A bundle that was sent: what its agents and pathways say, each in its RFC 8785 form.
#[derive(Debug, Clone, Default)]
pub struct BundleDraft(pub BTreeMap<ItemKey, String>);

/// A bundle that is ready to be sent.
pub struct CrewExport {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// The version of the crew's contents.
    pub version: u64,
    workspace: WorkspaceId,
    pieces: Vec<Piece>,
}

/// What is in a crew at one version.
pub(super) struct Contents {
    pub version: u64,
    pub items: BTreeMap<ItemId, Item>,
}

impl Contents {
    pub(super) fn of(crew: &Crew) -> Self {
        let items = crew.items().all();
        Self {
            version: crew.contents_version(),
            items: items.map(|(id, item)| (id, item.clone())).collect(),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (ItemId, &Item)> {
        self.items.iter().map(|(id, item)| (*id, item))
    }

    pub(super) fn manifest(&self) -> Manifest {
        changes::manifest(self.all())
    }
}

/// A version that the crew has not had.
const NO_VERSION: Refusal = Refusal::NotFound {
    what: "version of the crew",
    hidden: false,
};

impl Service {
    /// A crew as it is now.
    pub(super) async fn crew_now(&self, at: CrewAt) -> Result<Crew, ServiceError> {
        let store = self.journal.store();
        let read = loading::read_back::<Crew>(&**store, &at.stream(), None).await;
        Ok(read?.0)
    }

    /// A crew as it is in a state, and how many events it has had by then.
    pub(super) async fn crew_in(
        &self,
        state: &State<'_>,
        at: CrewAt,
    ) -> Result<(Crew, u64), ServiceError> {
        let (store, stream) = (&**self.journal.store(), at.stream());
        Ok(match state.position() {
            None => loading::read_back::<Crew>(store, &stream, None).await?,
            Some(position) => loading::read_back_at::<Crew>(store, &stream, position).await?,
        })
    }

    /// A crew as the events up to a sequence left it; none where it has not had as many.
    pub(super) async fn crew_at(
        &self,
        at: CrewAt,
        sequence: u64,
    ) -> Result<Option<Crew>, ServiceError> {
        let store = self.journal.store();
        let read = loading::read_back::<Crew>(&**store, &at.stream(), Some(sequence)).await?;
        Ok((read.1 == sequence).then_some(read.0))
    }

    /// The agents and pathways of a crew as a bundle: as they are now, or as they were.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew; [`Refusal::NotFound`] where it has not had
    /// that version; [`Refusal::NotPortable`].
    pub async fn export(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        version: Option<u64>,
    ) -> Result<Found<CrewExport>, ServiceError> {
        let permission = Permission::SeeCrews;
        let (at, found) = self
            .may_in_crew(request, principal, at, permission, "crew.exported")
            .await?;
        let state = self.state_of_crew(request, at.crew.id).await?;
        let (there, newest) = self.crew_in(&state, at).await?;
        let crew = match version {
            None => there,
            Some(version) if version > newest => return Err(NO_VERSION.into()),
            Some(version) => self.crew_at(at, version).await?.ok_or(NO_VERSION)?,
        };
        let contents = Contents::of(&crew);
        let manifest = contents.manifest();
        let workspace = at.place.workspace;
        let looked = self.look_into(workspace, &manifest).await?;
        // What would mean something else in another crew is no bundle.
        looked.needs_of(|_| true)?;
        Ok(Found {
            position: state.position().unwrap_or(found.position),
            value: CrewExport {
                digest: looked.digest,
                size: size(&manifest),
                version: contents.version,
                workspace,
                pieces: pieces(&manifest).collect(),
            },
        })
    }

    /// Chosen items with those of the same bundle that they need, and those again.
    pub(super) async fn with_needed(
        &self,
        workspace: WorkspaceId,
        manifest: &Manifest,
        chosen: &[ItemKey],
    ) -> Result<BTreeSet<ItemKey>, ServiceError> {
        let mut all: BTreeSet<ItemKey> = chosen.iter().cloned().collect();
        let mut next: Vec<ItemKey> = chosen.to_vec();
        while !next.is_empty() {
            let contents: Vec<Content> = next
                .iter()
                .filter_map(|key| manifest.get(key))
                .copied()
                .collect();
            let mut needed = Vec::new();
            for some in contents.chunks(READ_AT_ONCE) {
                let texts = self.contents_of(workspace, some).await?;
                let slots = texts.iter().flat_map(|text| slots_in(text));
                needed.extend(slots.filter_map(|slot| slot.item()));
            }
            let is_new = |key: &ItemKey| manifest.contains_key(key) && all.insert(key.clone());
            next = needed.into_iter().filter(is_new).collect();
        }
        Ok(all)
    }

    /// Keeps the contents of a bundle that was sent, in a workspace.
    pub(super) async fn stage_bundle(
        &self,
        workspace: WorkspaceId,
        bundle: &BundleDraft,
    ) -> Result<(Manifest, Vec<Staged>), ServiceError> {
        let texts: Vec<&str> = bundle.0.values().map(String::as_str).collect();
        let staged = self.stage_all(workspace, &texts).await?;
        let keyed = bundle.0.keys().cloned().zip(&staged);
        let manifest = keyed.map(|(key, staged)| (key, staged.content)).collect();
        Ok((manifest, staged))
    }

    /// What a crew holds, as a bundle of its own: for another workspace.
    pub(super) async fn bundle_of(
        &self,
        workspace: WorkspaceId,
        manifest: &Manifest,
    ) -> Result<BundleDraft, ServiceError> {
        let contents: Vec<Content> = manifest.values().copied().collect();
        let mut texts = Vec::with_capacity(contents.len());
        for some in contents.chunks(READ_AT_ONCE) {
            texts.extend(self.contents_of(workspace, some).await?);
        }
        let keyed = manifest.keys().cloned().zip(texts);
        Ok(BundleDraft(keyed.collect()))
    }
}

impl CrewExport {
    /// Its bytes, some at a time.
    pub fn bytes(
        self,
        service: Arc<Service>,
    ) -> impl Bytes<Item = Result<String, ServiceError>> + Send + 'static {
        let workspace = self.workspace;
        // A text and a content for each item.
        let chunks: Vec<Vec<Piece>> = self
            .pieces
            .chunks(2 * READ_AT_ONCE)
            .map(<[Piece]>::to_vec)
            .collect();
        stream::iter(chunks)
            .map(move |chunk| {
                let service = service.clone();
                async move { service.text_of(workspace, chunk).await }
            })
            .buffered(CHUNKS_AT_ONCE)
            .map_err(|error| {
                tracing::error!(%error, "an export ended before its time");
                error
            })
    }
}

impl Service {
    async fn text_of(
        &self,
        workspace: WorkspaceId,
        pieces: Vec<Piece>,
    ) -> Result<String, ServiceError> {
        let contents: Vec<_> = pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Content(content) => Some(*content),
                Piece::Text(_) => None,
            })
            .collect();
        let mut texts = self.contents_of(workspace, &contents).await?.into_iter();
        let text = pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Content(_) => texts.next().unwrap_or_default(),
        });
        Ok(text.collect())
    }
}

/// Of changes, the keys of what is there afterwards.
pub(super) fn comes(changes: &[ItemChange]) -> BTreeSet<ItemKey> {
    let key = |change: &ItemChange| {
        let to = change.to.as_ref()?;
        Some(ItemKey::new(change.item.kind(), to.name.clone()))
    };
    changes.iter().filter_map(key).collect()
}

/// Pins what was staged with the batch that is being decided.
pub(super) fn pin(staged: &[Staged], desk: &mut Desk<'_>) -> Result<(), Rejection> {
    contents::pin_all(staged, desk)
}
