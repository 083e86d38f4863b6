//! What crews, bundles and promotions differ in, field by field.
//!
//! What is the same on both sides is told by digests and never read. How much is read for one
//! answer is bounded: what lies beyond is told by name and size alone, and then there is no patch.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::Plan;
use crate::{
    domain::{
        authority::Permission,
        bundle::{
            ItemKey, changes,
            diff::{Changed, Differences, Operation},
        },
        contents::{Content, Digest, slots::Slot},
        crew::{Crew, Item, ItemChange, ItemId, ItemKind},
        ids::{AgentId, CrewId, PathwayId},
    },
    journal::beside,
    projections::{Found, PromotionDocument},
    service::{
        BundleDraft, Principal, Request, Service, ServiceError,
        bundles::{self, Contents},
        crews::CrewAt,
        items::InCrew,
        looks::Needs,
        past::State,
    },
};

/// How much is read for what a promotion shows, in bytes of contents.
const SHOWN_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How much is read for a comparison that somebody asks for.
const COMPARED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many changes are compared at once.
const COMPARED_AT_ONCE: usize = 32;
/// The most field changes that are told of.
const CHANGED_MAX: usize = 10_000;

/// An agent or a pathway that is on one side alone.
#[derive(Debug, Clone)]
pub struct DiffItem {
    pub kind: ItemKind,
    pub name: String,
    pub content: Content,
}

/// What two sides differ in.
#[derive(Debug, Clone, Default)]
pub struct DiffView {
    /// The version of the contents of what changes.
    pub version: u64,
    pub added: Vec<DiffItem>,
    pub removed: Vec<DiffItem>,
    pub changed: Vec<Changed>,
    pub missing_slots: Vec<Slot>,
    /// None where not everything was compared.
    pub patch: Option<Vec<Operation>>,
}

/// With what a crew is compared.
#[derive(Debug, Clone)]
pub enum OtherSide {
    Crew(CrewId),
    Bundle(BundleDraft),
}

/// Where what a content says is read.
enum Said<'a> {
    Kept,
    Sent(&'a BTreeMap<Digest, String>),
}

fn item_of(kind: ItemKind, item: &Item) -> DiffItem {
    DiffItem {
        kind,
        name: item.name.clone(),
        content: item.content,
    }
}

/// How much has to be read to compare a change.
fn weight(change: &ItemChange) -> u64 {
    let size = |item: &Option<Item>| item.as_ref().map_or(0, |item| item.content.size);
    match (&change.from, &change.to) {
        // What goes need not be read.
        (Some(_), None) => 0,
        _ => size(&change.from) + size(&change.to),
    }
}

fn key_of(change: &ItemChange) -> Option<ItemKey> {
    let item = change.to.as_ref().or(change.from.as_ref())?;
    Some(ItemKey::new(change.item.kind(), item.name.clone()))
}

/// Puts what one change differs in with the others.
fn compare(change: &ItemChange, said: &BTreeMap<Digest, Json>, told: &mut Differences) {
    let Some(key) = key_of(change) else { return };
    let text = |item: &Option<Item>| item.as_ref().and_then(|it| said.get(&it.content.digest));
    match (&change.from, &change.to) {
        (None, Some(_)) => {
            let config = text(&change.to).cloned().unwrap_or_default();
            told.added(&key, config);
        }
        (Some(_), None) => told.removed(&key),
        (Some(_), Some(_)) => {
            if let (Some(from), Some(to)) = (text(&change.from), text(&change.to)) {
                told.changed(&key, from, to);
            }
        }
        (None, None) => {}
    }
}

impl Service {
    /// What a promotion changes, and what its target lacks for it now.
    pub(super) async fn diff_of_promotion(
        &self,
        state: &State<'_>,
        document: &PromotionDocument,
    ) -> Result<DiffView, ServiceError> {
        let workspace = document.workspace;
        let plan = self.plan(workspace, document.review.plan).await?;
        let at = CrewAt {
            place: self.known_place(workspace).await?,
            crew: document.target,
        };
        let mut view = self
            .differences(at, &plan.changes, Said::Kept, SHOWN_BYTES_MAX)
            .await?;
        view.version = document.review.target_version;
        view.missing_slots = match document.status.is_open() {
            true => lacking(&self.crew_in(state, at).await?.0, &plan),
            false => vec![],
        };
        Ok(view)
    }

    /// What a crew differs in from another crew, or from a bundle: what would change in it, if it
    /// became that.
    ///
    /// # Errors
    /// A refusal unless the caller may see both sides.
    pub async fn compare_crew(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        with: &OtherSide,
    ) -> Result<Found<DiffView>, ServiceError> {
        let (see, action) = (Permission::SeeCrews, "crew.compared");
        let (target, found) = self
            .may_in_crew(request, principal, at, see, action)
            .await?;
        let crew = self.crew_now(target).await?;
        let there = Contents::of(&crew);
        let sent = match with {
            OtherSide::Crew(_) => BTreeMap::new(),
            OtherSide::Bundle(bundle) => {
                let texts = bundle.0.values();
                texts
                    .map(|text| (Content::of(text).digest, text.clone()))
                    .collect()
            }
        };
        let manifest = match with {
            OtherSide::Crew(other) => {
                let other = (at.0, *other);
                let (source, _) = self
                    .may_in_crew(request, principal, other, see, action)
                    .await?;
                Contents::of(&self.crew_now(source).await?).manifest()
            }
            OtherSide::Bundle(bundle) => {
                let keyed = bundle.0.iter();
                keyed
                    .map(|(key, text)| (key.clone(), Content::of(text)))
                    .collect()
            }
        };
        let by_key = changes::by_key(there.all());
        let plan = changes::towards(&manifest, &by_key, None, |kind| {
            // Nothing keeps it: what is compared is not written.
            let uuid = self.source().uuid();
            match kind {
                ItemKind::Agent => ItemId::Agent(AgentId::from_uuid(uuid)),
                ItemKind::Pathway => ItemId::Pathway(PathwayId::from_uuid(uuid)),
            }
        });
        let said = match with {
            OtherSide::Crew(_) => Said::Kept,
            OtherSide::Bundle(_) => Said::Sent(&sent),
        };
        let mut view = self
            .differences(target, &plan, said, COMPARED_BYTES_MAX)
            .await?;
        view.version = there.version;
        let comes = bundles::comes(&plan);
        let needs = match with {
            OtherSide::Crew(_) => self
                .look_into(target.place.workspace, &manifest)
                .await?
                .needs_of(|key| comes.contains(key))?,
            OtherSide::Bundle(bundle) => {
                Needs::of(bundle.0.iter()).of_some(|key| comes.contains(key))?
            }
        };
        let plan = Plan {
            changes: plan,
            manifest: vec![],
            needs: needs.into_iter().collect(),
        };
        view.missing_slots = lacking(&crew, &plan);
        Ok(Found {
            position: found.position,
            value: view,
        })
    }

    async fn differences(
        &self,
        at: CrewAt,
        plan: &[ItemChange],
        said: Said<'_>,
        bytes_max: u64,
    ) -> Result<DiffView, ServiceError> {
        let mut view = DiffView::default();
        for change in plan {
            let kind = change.item.kind();
            match (&change.from, &change.to) {
                (None, Some(to)) => view.added.push(item_of(kind, to)),
                (Some(from), None) => view.removed.push(item_of(kind, from)),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        let (mut read, mut whole, mut told) = (0, true, Differences::default());
        for some in plan.chunks(COMPARED_AT_ONCE) {
            read += some.iter().map(weight).sum::<u64>();
            if read > bytes_max || told.changed.len() > CHANGED_MAX {
                whole = false;
                break;
            }
            let said = self.said(at, some, &said).await?;
            let some = some.to_vec();
            told = beside(move || {
                for change in &some {
                    compare(change, &said, &mut told);
                }
                told
            })
            .await;
        }
        told.changed.truncate(CHANGED_MAX);
        view.changed = told.changed;
        view.patch = whole.then_some(told.patch);
        Ok(view)
    }

    /// What the contents of some changes say.
    async fn said(
        &self,
        at: CrewAt,
        some: &[ItemChange],
        said: &Said<'_>,
    ) -> Result<BTreeMap<Digest, Json>, ServiceError> {
        let mut wanted: BTreeMap<Digest, Content> = BTreeMap::new();
        for change in some.iter().filter(|change| change.to.is_some()) {
            for item in [&change.from, &change.to].into_iter().flatten() {
                wanted.insert(item.content.digest, item.content);
            }
        }
        let mut texts: BTreeMap<Digest, String> = BTreeMap::new();
        if let Said::Sent(sent) = said {
            for digest in wanted.keys() {
                if let Some(text) = sent.get(digest) {
                    texts.insert(*digest, text.clone());
                }
            }
        }
        let rest: Vec<Content> = wanted
            .values()
            .filter(|content| !texts.contains_key(&content.digest))
            .copied()
            .collect();
        let kept = self.contents_of(at.place.workspace, &rest).await?;
        texts.extend(rest.iter().map(|content| content.digest).zip(kept));
        let parsed = beside(move || {
            let parse = |(digest, text): (Digest, String)| {
                serde_json::from_str(&text).map(|value: Json| (digest, value))
            };
            texts.into_iter().map(parse).collect::<Result<_, _>>()
        });
        parsed.await.map_err(|error: serde_json::Error| {
            ServiceError::Internal(format!("a content is no JSON: {error}"))
        })
    }
}

/// What a crew lacks for what is planned, by what it holds now.
fn lacking(crew: &Crew, plan: &Plan) -> Vec<Slot> {
    let version = crew.contents_version();
    match crew.would_lack(version, &plan.changes, &plan.needs) {
        Ok(slots) => slots,
        // It has changed since: what it lacks is told of the form that is made anew.
        Err(_) => crew.missing(&plan.needs, crew.items()),
    }
}
