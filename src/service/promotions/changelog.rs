//! The change log of a crew: what was promoted, when, by whom, why, approved by whom, verified how.

use std::collections::{BTreeSet, HashMap};

use super::PromotionView;
use crate::{
    domain::{
        authority::{Actor, Permission},
        crew::ItemKind,
        ids::{CrewId, UserId},
    },
    projections::{Changelog, ChangelogDocument, Page, PromotionDocument, Promotions},
    service::{
        MomentInLog, Principal, Request, Service, ServiceError,
        items::InCrew,
        past::{self, Part, State},
    },
};

/// A change of a crew, with the promotion that made it.
#[derive(Debug, Clone)]
pub struct ChangelogView {
    pub change: ChangelogDocument,
    pub promotion: PromotionView,
    /// Kind and name of what came, changed and went.
    pub added: Vec<(ItemKind, String)>,
    pub changed: Vec<(ItemKind, String)>,
    pub removed: Vec<(ItemKind, String)>,
    /// What the people in it are called.
    pub names: HashMap<UserId, String>,
}

impl ChangelogView {
    /// What somebody is called: a person by name, a key by its id.
    pub fn name_of(&self, actor: Actor) -> String {
        match actor {
            Actor::User { id } => self
                .names
                .get(&id)
                .cloned()
                .unwrap_or_else(|| id.to_string()),
            Actor::ApiKey { id } | Actor::OperatorKey { id } => id.to_string(),
            Actor::System | Actor::CommandLine => "Crewlog".to_owned(),
        }
    }
}

/// Every person in a promotion.
fn people(document: &PromotionDocument) -> BTreeSet<UserId> {
    let mut people: BTreeSet<UserId> = document
        .approvals
        .iter()
        .map(|approval| approval.user)
        .collect();
    people.extend(document.applied.as_ref().map(|applied| applied.user));
    let checks = document.checks.iter().map(|check| check.by);
    let ended = document.ended.as_ref().map(|ended| ended.by);
    let actors = checks.chain(ended).chain([document.proposed_by]);
    people.extend(actors.filter_map(Actor::user));
    people
}

impl Service {
    /// A page of what was promoted into a crew and rolled back, newest first.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew's promotions.
    pub async fn changelog_of(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        (before, limit): (Option<&str>, u64),
    ) -> Result<Page<ChangelogView>, ServiceError> {
        let permission = Permission::SeePromotions;
        let (at, _) = self
            .may_in_crew(request, principal, at, permission, "promotion.read")
            .await?;
        let crew = at.crew.id;
        let state = self.state(request, &[Part::CrewItself(crew)]).await?;
        state.must_have(crew).await?;
        let (state, page) = match state.moment() {
            None => {
                let (changes, parent) = (state.documents::<Changelog>(), crew.to_string());
                let page = changes.page_of_parent_reversed(&parent, before, limit);
                let page = page.await?;
                (state, page)
            }
            Some(moment) => self.changes_then(moment, crew, (before, limit)).await?,
        };
        let realm = at.place.organization.to_string();
        let mut items = Vec::with_capacity(page.items.len());
        for (key, change) in page.items {
            let promotions = state.documents::<Promotions>();
            let found = promotions.get(&change.promotion.to_string()).await?;
            let document = found.value.ok_or(super::MISSING)?;
            let plan = self.plan(document.workspace, document.review.plan).await?;
            let called = self
                .called(&realm, people(&document), state.position())
                .await?;
            let names = people(&document)
                .into_iter()
                .map(|user| (user, called.of(user).name.into_text()))
                .collect();
            let mut view = ChangelogView {
                change,
                promotion: self.promotion_view(&state, document, false).await?,
                added: vec![],
                changed: vec![],
                removed: vec![],
                names,
            };
            for change in &plan.changes {
                let kind = change.item.kind();
                match (&change.from, &change.to) {
                    (None, Some(to)) => view.added.push((kind, to.name.clone())),
                    (Some(_), Some(to)) => view.changed.push((kind, to.name.clone())),
                    (Some(from), None) => view.removed.push((kind, from.name.clone())),
                    (None, None) => {}
                }
            }
            items.push((key, view));
        }
        Ok(Page {
            items,
            more: page.more,
            position: page.position,
        })
    }

    /// A page of a crew's changes up to a moment, newest first, with the state that it is told of.
    /// What changed a crew never changes: it is looked for among all that did.
    async fn changes_then(
        &self,
        moment: MomentInLog,
        crew: CrewId,
        (before, limit): (Option<&str>, u64),
    ) -> Result<(State<'_>, Page<ChangelogDocument>), ServiceError> {
        let (changes, parent) = (self.documents::<Changelog>(), crew.to_string());
        let read = |before: Option<String>| {
            let (changes, parent) = (&changes, parent.as_str());
            async move {
                let before = before.as_deref();
                changes.page_of_parent_reversed(parent, before, limit).await
            }
        };
        let before = before.map(str::to_owned);
        let is_old = |change: &ChangelogDocument| change.at <= moment.at;
        let (old, more) = past::candidates(read, before, limit, is_old).await?;
        let of_page = old.iter().map(|(_, it)| Part::Promotion(it.promotion));
        let of_page: BTreeSet<Part> = of_page.chain([Part::CrewVersion(crew)]).collect();
        let of_page: Vec<_> = of_page.into_iter().collect();
        let state = self.state_at(moment, &of_page).await?;
        let keys: Vec<_> = old.into_iter().map(|(key, _)| key).collect();
        let items = state.documents::<Changelog>().get_many(&keys).await?;
        let position = moment.position;
        let page = Page {
            items,
            more,
            position,
        };
        Ok((state, page))
    }
}
