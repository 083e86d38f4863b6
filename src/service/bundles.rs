//! Bundles: what a crew holds, read at one version, exported, and taken from a file.
//!
//! Contents are read some at a time, hashed and handed on: what a crew holds together is never in
//! memory as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{Stream as Bytes, StreamExt, TryStreamExt, stream};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{
    Principal, Request, Service, ServiceError,
    contents::{self, Staged},
    crews::CrewAt,
    items::InCrew,
    past::State,
};
use crate::{
    domain::{
        Refusal,
        authority::Permission,
        bundle::{ItemKey, Manifest, Piece, changes, pieces, portable, size},
        contents::{
            Content, Digest,
            slots::{SLOT, Slot, slots},
        },
        crew::{Crew, Item, ItemChange, ItemId},
        ids::WorkspaceId,
    },
    journal::{Desk, Rejection, beside, loading},
    projections::Found,
};

/// How many contents are read at once.
const READ_AT_ONCE: usize = 64;
/// How many places with ids are told of at most.
const PLACES_MAX: usize = 10;

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

/// What was found in contents while they were hashed.
#[derive(Debug, Clone)]
pub(super) struct Looked {
    pub digest: Digest,
    /// What those that were looked into need of their crew.
    pub needs: BTreeSet<Slot>,
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
        let everything = |_: &ItemKey| true;
        let workspace = at.place.workspace;
        let looked = self.look_into(workspace, &manifest, everything).await?;
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

    /// Hashes a bundle, and looks into some of its contents for what they need, and for what
    /// would mean something else in another crew.
    pub(super) async fn look_into(
        &self,
        workspace: WorkspaceId,
        manifest: &Manifest,
        is_looked_into: impl Fn(&ItemKey) -> bool,
    ) -> Result<Looked, ServiceError> {
        let keys: Vec<(&ItemKey, &Content)> = manifest.iter().collect();
        let mut hasher = Sha256::new();
        let mut found = (BTreeSet::new(), Vec::new());
        let mut rest = pieces(manifest);
        for some in keys.chunks(READ_AT_ONCE) {
            let contents: Vec<_> = some.iter().map(|(_, content)| **content).collect();
            let texts = self.contents_of(workspace, &contents).await?;
            let entries: Vec<_> = some
                .iter()
                .zip(texts)
                .map(|((key, _), text)| ((*key).clone(), is_looked_into(key), text))
                .collect();
            let mut before: Vec<String> = Vec::with_capacity(entries.len());
            let mut text = String::new();
            while before.len() < entries.len() {
                match rest.next() {
                    Some(Piece::Text(piece)) => text.push_str(&piece),
                    Some(Piece::Content(_)) => before.push(std::mem::take(&mut text)),
                    None => break,
                }
            }
            (hasher, found) = beside(move || {
                let mut hasher = hasher;
                let (mut needs, mut places) = found;
                for ((key, looked_into, content), text) in entries.iter().zip(&before) {
                    hasher.update(text);
                    hasher.update(content);
                    if *looked_into {
                        look(key, content, &mut needs, &mut places);
                    }
                }
                (hasher, (needs, places))
            })
            .await;
        }
        for piece in rest {
            if let Piece::Text(text) = piece {
                hasher.update(text);
            }
        }
        let (needs, places) = found;
        if !places.is_empty() {
            return Err(Refusal::NotPortable { places }.into());
        }
        Ok(Looked {
            digest: Digest(hasher.finalize().into()),
            needs,
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
            .then(move |chunk| {
                let service = service.clone();
                async move { service.text_of(workspace, chunk).await }
            })
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

/// What a content needs, and where it names what means something in one environment alone.
fn look(key: &ItemKey, text: &str, needs: &mut BTreeSet<Slot>, places: &mut Vec<String>) {
    needs.extend(slots_in(text));
    if portable::has_id(text)
        && let Ok(content) = serde_json::from_str::<Json>(text)
    {
        let found = portable::find(key.kind, &key.name, &content);
        let told = found.into_iter().map(|finding| finding.pointer);
        places.extend(told.take(PLACES_MAX.saturating_sub(places.len())));
    }
}

/// The slots of a content; most have none, and are not parsed.
fn slots_in(text: &str) -> BTreeSet<Slot> {
    if !text.contains(SLOT) {
        return BTreeSet::new();
    }
    let content = serde_json::from_str::<Json>(text).ok();
    // What is meant as a slot and is none was refused when it was written.
    content
        .and_then(|content| slots(&content).ok())
        .unwrap_or_default()
}

/// What some items of a bundle that was sent need of a crew.
///
/// # Errors
/// [`Refusal::NotPortable`].
pub(super) fn needs_of(
    bundle: &BundleDraft,
    some: &BTreeSet<ItemKey>,
) -> Result<BTreeSet<Slot>, Refusal> {
    let (mut needs, mut places) = (BTreeSet::new(), Vec::new());
    for (key, text) in bundle.0.iter().filter(|(key, _)| some.contains(key)) {
        look(key, text, &mut needs, &mut places);
    }
    match places.is_empty() {
        true => Ok(needs),
        false => Err(Refusal::NotPortable { places }),
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
