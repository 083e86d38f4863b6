//! What bundles are and need: each hashed and looked into once, and remembered.
//!
//! Both follow from what a bundle holds, which its manifest names by digests: whoever asks of the
//! same manifest again, in whatever crew or promotion, reads no content for it. What a crew
//! differs in from another is not told here.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    pin::pin,
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{
    Service, ServiceError,
    bundles::{CHUNKS_AT_ONCE, READ_AT_ONCE},
    remembered::Remembered,
};
use crate::{
    domain::{
        Refusal,
        bundle::{ItemKey, Manifest, Piece, pieces, portable},
        contents::{
            Content, Digest,
            slots::{SLOT, Slot, slots},
        },
        ids::WorkspaceId,
    },
    journal::beside,
};

/// How many places with ids are told of at most.
const PLACES_MAX: usize = 10;
/// How many bundles are remembered.
pub(super) const LOOKS_KEPT: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// A bundle that needs more than this is looked into again each time.
const NEEDS_KEPT_MAX: usize = 10_000;

/// Bundles by the digests of their manifests.
pub(super) type Looks = Remembered<Digest, Looked>;

/// A bundle that was hashed and looked into.
#[derive(Debug)]
pub(super) struct Looked {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    needs: Needs,
}

impl Looked {
    /// What chosen items of it need of their crew.
    ///
    /// # Errors
    /// [`Refusal::NotPortable`].
    pub(super) fn needs_of(
        &self,
        is_chosen: impl Fn(&ItemKey) -> bool,
    ) -> Result<BTreeSet<Slot>, Refusal> {
        self.needs.of_some(is_chosen)
    }
}

/// What items need, and where they name what means something in one environment alone; only of
/// those that do.
#[derive(Debug, Default)]
pub(super) struct Needs {
    slots: BTreeMap<ItemKey, BTreeSet<Slot>>,
    places: BTreeMap<ItemKey, Vec<String>>,
}

impl Needs {
    pub(super) fn of<'a>(items: impl Iterator<Item = (&'a ItemKey, &'a String)>) -> Self {
        let mut needs = Self::default();
        for (key, text) in items {
            needs.add(key, text);
        }
        needs
    }

    fn add(&mut self, key: &ItemKey, text: &str) {
        let slots = slots_in(text);
        if !slots.is_empty() {
            self.slots.insert(key.clone(), slots);
        }
        if portable::has_id(text)
            && let Ok(content) = serde_json::from_str::<Json>(text)
        {
            let found = portable::find(key.kind, &key.name, &content).into_iter();
            let places: Vec<_> = found.map(|it| it.pointer).take(PLACES_MAX).collect();
            if !places.is_empty() {
                self.places.insert(key.clone(), places);
            }
        }
    }

    /// What chosen items need of their crew.
    ///
    /// # Errors
    /// [`Refusal::NotPortable`].
    pub(super) fn of_some(
        &self,
        is_chosen: impl Fn(&ItemKey) -> bool,
    ) -> Result<BTreeSet<Slot>, Refusal> {
        let places = self.places.iter().filter(|(key, _)| is_chosen(key));
        let places = places.flat_map(|(_, places)| places).cloned();
        let places: Vec<String> = places.take(PLACES_MAX).collect();
        if !places.is_empty() {
            return Err(Refusal::NotPortable { places });
        }
        let slots = self.slots.iter().filter(|(key, _)| is_chosen(key));
        Ok(slots.flat_map(|(_, slots)| slots).cloned().collect())
    }

    fn count(&self) -> usize {
        let slots: usize = self.slots.values().map(BTreeSet::len).sum();
        slots + self.places.values().map(Vec::len).sum::<usize>()
    }
}

/// An item of a bundle, with the bytes between the one before it and what it says.
struct Entry {
    before: String,
    key: ItemKey,
    content: Content,
}

/// The items of a bundle in their order, and the bytes after the last.
fn entries(manifest: &Manifest) -> (Vec<Entry>, String) {
    let (mut entries, mut text) = (Vec::with_capacity(manifest.len()), String::new());
    let mut keys = manifest.keys();
    for piece in pieces(manifest) {
        match piece {
            Piece::Text(piece) => text.push_str(&piece),
            Piece::Content(content) => entries.extend(keys.next().map(|key| Entry {
                before: std::mem::take(&mut text),
                key: key.clone(),
                content,
            })),
        }
    }
    (entries, text)
}

/// What tells a manifest from every other.
fn fingerprint(manifest: &Manifest) -> Digest {
    let mut hasher = Sha256::new();
    for (key, content) in manifest {
        // No name has a line break in it.
        hasher.update(format!("{key}\n"));
        hasher.update(content.digest.0);
    }
    Digest(hasher.finalize().into())
}

/// The slots of a content; most have none, and are not parsed.
pub(super) fn slots_in(text: &str) -> BTreeSet<Slot> {
    if !text.contains(SLOT) {
        return BTreeSet::new();
    }
    let content = serde_json::from_str::<Json>(text).ok();
    // What is meant as a slot and is none was refused when it was written.
    content
        .and_then(|content| slots(&content).ok())
        .unwrap_or_default()
}

impl Service {
    /// Hashes a bundle, and looks into its contents for what they need, and for what would mean
    /// something else in another crew.
    pub(super) async fn look_into(
        &self,
        workspace: WorkspaceId,
        manifest: &Manifest,
    ) -> Result<Arc<Looked>, ServiceError> {
        let fingerprint = fingerprint(manifest);
        if let Some(looked) = self.looks.get(&fingerprint) {
            return Ok(looked);
        }
        let (entries, after) = entries(manifest);
        let mut chunks: Vec<Vec<Entry>> = Vec::new();
        for entry in entries {
            match chunks.last_mut() {
                Some(chunk) if chunk.len() < READ_AT_ONCE => chunk.push(entry),
                _ => chunks.push(vec![entry]),
            }
        }
        let read = |chunk: Vec<Entry>| async move {
            let contents: Vec<_> = chunk.iter().map(|entry| entry.content).collect();
            let texts = self.contents_of(workspace, &contents).await?;
            Ok::<_, ServiceError>((chunk, texts))
        };
        let mut read = pin!(stream::iter(chunks).map(read).buffered(CHUNKS_AT_ONCE));
        let (mut hasher, mut needs) = (Sha256::new(), Needs::default());
        while let Some((chunk, texts)) = read.try_next().await? {
            (hasher, needs) = beside(move || {
                for (entry, text) in chunk.iter().zip(&texts) {
                    hasher.update(&entry.before);
                    hasher.update(text);
                    needs.add(&entry.key, text);
                }
                (hasher, needs)
            })
            .await;
        }
        hasher.update(after);
        let is_kept = needs.count() <= NEEDS_KEPT_MAX;
        let digest = Digest(hasher.finalize().into());
        let looked = Arc::new(Looked { digest, needs });
        if is_kept {
            self.looks.put(fingerprint, looked.clone());
        }
        Ok(looked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::crew::ItemKind;

    fn agent(name: &str) -> ItemKey {
        ItemKey::new(ItemKind::Agent, name)
    }

    fn manifest(of: &[(&str, &str)]) -> Manifest {
        let item = |(name, text): &(&str, &str)| (agent(name), Content::of(text));
        of.iter().map(item).collect()
    }

    #[test]
    fn needs_are_told_of_what_was_chosen_alone() {
        let crm = r#"{"uses":{"$slot":"integration/crm"}}"#.to_owned();
        let id = r#"{"agent":"agt_01h455vb4pex5vsknk084sn02q"}"#.to_owned();
        let (with_slot, with_id) = (agent("Greeter"), agent("Caller"));
        let needs = Needs::of([(&with_slot, &crm), (&with_id, &id)].into_iter());
        let of_greeter = needs.of_some(|key| *key == with_slot).unwrap();
        assert_eq!(of_greeter.len(), 1);
        assert!(
            needs
                .of_some(|key| key.name == "Nobody")
                .unwrap()
                .is_empty()
        );
        assert!(matches!(
            needs.of_some(|_| true),
            Err(Refusal::NotPortable { places }) if places.len() == 1
        ));
    }

    #[test]
    fn every_other_manifest_has_another_fingerprint() {
        let all = [
            manifest(&[]),
            manifest(&[("a", "1")]),
            manifest(&[("a", "2")]),
            manifest(&[("b", "1")]),
            manifest(&[("a", "1"), ("b", "1")]),
        ];
        let different: BTreeSet<Digest> = all.iter().map(fingerprint).collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(fingerprint(&all[1]), fingerprint(&manifest(&[("a", "1")])));
    }

    #[test]
    fn entries_and_what_comes_after_are_the_whole_bundle() {
        let manifest = manifest(&[("a", "1"), ("b", "2")]);
        let (entries, after) = entries(&manifest);
        let texts = ["1", "2"];
        let mut whole = String::new();
        for (entry, text) in entries.iter().zip(texts) {
            whole.push_str(&entry.before);
            whole.push_str(text);
        }
        whole.push_str(&after);
        assert_eq!(
            whole,
            r#"{"agents":{"a":1,"b":2},"format":"crewlog/bundle/1","pathways":{}}"#
        );
    }
}
