//! What a read looks at: the state of now, or that of a moment that was.
//!
//! The past is folded when it is asked for, from the streams that the answer is made of, by the
//! folds that write the read models. **Who may ask is decided on the state of now**: every read
//! asks that first, and only then looks at the moment. What a fold may cost is bounded by
//! [`EVENTS_FOLDED_MAX`]; the last few are kept, since what was never changes.
//!
//! A page of a list is folded of what is on it alone ([`Service::page_then`]): of what there is
//! now, as nothing that was there is gone while its workspace is.
//!
//! To read something more as of a moment: take its documents from a [`State`] over the
//! [`Part`]s of the log that its document is folded of.

use std::{collections::BTreeSet, num::NonZeroUsize, sync::Arc};

use cqrs_es::Aggregate;
use futures::TryStreamExt;

use super::{
    MomentInLog, Request, Service, ServiceError, remembered::Remembered, workspaces::Place,
};
use crate::{
    domain::{
        Refusal, Timestamp,
        crew::Crew,
        ids::{CrewId, OrganizationId, PromotionId, ReviewId, UserId, WorkspaceId},
        organization::Organization,
        promotion::Promotion,
        review::Review,
        user::User,
        workspace::Workspace,
    },
    journal::{
        StoredEvent,
        stores::{self, Chosen},
    },
    projections::{
        Changelog, CrewContents, Crews, Documents, Organizations, Page, Past, PastFold, Projection,
        Promotions, Reviews, Workspaces,
    },
};

/// Events that are read for one answer at most; what would take more is refused.
pub const EVENTS_FOLDED_MAX: u64 = 200_000;
/// Streams that one answer is folded of at most.
pub(super) const PARTS_MAX: u64 = 1_000;
/// Folds that are kept.
pub(super) const FOLDS_KEPT: NonZeroUsize = NonZeroUsize::new(8).unwrap();
/// Events of folds that are kept: none of more is.
const EVENTS_KEPT_MAX: u64 = 20_000;

/// What pages of lists are folded into: these take what they need of a stream, and no more.
const OF_LISTS: [&str; 5] = [
    Crews::NAME,
    CrewContents::NAME,
    Promotions::NAME,
    Changelog::NAME,
    Reviews::NAME,
];

/// A part of the log that answers are folded of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// Somebody's account.
    Person(UserId),
    Organization(OrganizationId),
    /// The workspace itself, without its crews.
    Workspace(WorkspaceId),
    /// A crew, with all that is in it.
    Crew(CrewId),
    /// What a crew is called and how it stands, for lists.
    CrewItself(CrewId),
    /// Of which version its contents are, for lists.
    CrewVersion(CrewId),
    Promotion(PromotionId),
    Review(ReviewId),
}

/// Folds of some parts, each at a position.
pub(super) type PastFolds = Remembered<(Vec<Part>, u64), Past>;

/// See the module.
pub(super) struct State<'a> {
    service: &'a Service,
    past: Option<(MomentInLog, Arc<Past>)>,
}

impl State<'_> {
    /// The documents of a projection.
    pub(super) fn documents<P: Projection>(&self) -> Documents<P> {
        match &self.past {
            None => self.service.documents(),
            Some((_, past)) => Documents::of_past(past.clone()),
        }
    }

    /// That a crew, which is there now, was there then.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where it was not.
    pub(super) async fn must_have(&self, crew: CrewId) -> Result<(), ServiceError> {
        if self.past.is_some() {
            let crews = self.documents::<Crews>();
            let then = crews.get(&crew.to_string()).await?.value;
            then.ok_or_else(|| missing("crew"))?;
        }
        Ok(())
    }

    /// The time at which deadlines count.
    pub(super) fn now(&self) -> Timestamp {
        match &self.past {
            None => self.service.source().now(),
            Some((moment, _)) => moment.at,
        }
    }

    /// The moment, where it is not now.
    pub(super) fn moment(&self) -> Option<MomentInLog> {
        self.past.as_ref().map(|(moment, _)| *moment)
    }

    /// The position that it is as of, where it is not now.
    pub(super) fn position(&self) -> Option<u64> {
        self.moment().map(|moment| moment.position)
    }
}

fn missing(what: &'static str) -> ServiceError {
    let hidden = false;
    Refusal::NotFound { what, hidden }.into()
}

impl Service {
    /// The state of now.
    pub(super) fn state_of_now(&self) -> State<'_> {
        State {
            service: self,
            past: None,
        }
    }

    /// The state that a request asks about, in some parts of the log.
    ///
    /// # Errors
    /// An invalid parameter for a moment that has not come yet, or that is too much to fold.
    pub(super) async fn state(
        &self,
        request: &Request,
        parts: &[Part],
    ) -> Result<State<'_>, ServiceError> {
        if request.as_of.is_none() {
            return Ok(self.state_of_now());
        }
        let moment = self.moment("as_of", request.as_of).await?;
        self.state_at(moment, parts).await
    }

    /// The state of a moment.
    pub(super) async fn state_at(
        &self,
        moment: MomentInLog,
        parts: &[Part],
    ) -> Result<State<'_>, ServiceError> {
        let past = self.past(parts, moment.position).await?;
        Ok(State {
            service: self,
            past: Some((moment, past)),
        })
    }

    /// A page of what was there of `parent`, with the state that it was read of: of what is there
    /// now, those that are not younger, as each was then. `parts` are what one is folded of,
    /// `is_wanted` looks at what never changes of it, and `keep` at how it was. A page that more
    /// follows is not empty.
    ///
    /// # Errors
    /// An invalid parameter where too much would have to be folded.
    pub(super) async fn page_then<P: Projection>(
        &self,
        moment: MomentInLog,
        (parent, after, limit): (&str, Option<&str>, u64),
        born: impl Fn(&P::Document) -> Timestamp,
        parts: impl Fn(&P::Document) -> Vec<Part>,
        keep: impl Fn(P::Document) -> Option<P::Document>,
    ) -> Result<(State<'_>, Page<P::Document>), ServiceError> {
        let (mut after, mut folded) = (after.map(str::to_owned), 0);
        let present = self.documents::<P>();
        loop {
            let read = |after: Option<String>| {
                let present = &present;
                async move {
                    present
                        .page_of_parent(parent, after.as_deref(), limit)
                        .await
                }
            };
            let is_wanted = |document: &P::Document| born(document) <= moment.at;
            let (candidates, more) = candidates(read, after, limit, is_wanted).await?;
            let of_page = candidates.iter().flat_map(|(_, document)| parts(document));
            let of_page: BTreeSet<Part> = of_page.collect();
            folded += of_page.len() as u64;
            if folded > PARTS_MAX {
                return Err(too_much());
            }
            let of_page: Vec<_> = of_page.into_iter().collect();
            let state = self.state_at(moment, &of_page).await?;
            let keys: Vec<_> = candidates.into_iter().map(|(key, _)| key).collect();
            let then = state.documents::<P>().get_many(&keys).await?.into_iter();
            let kept = then.filter_map(|(key, document)| Some((key, keep(document)?)));
            let items: Vec<_> = kept.collect();
            if !items.is_empty() || !more {
                let position = moment.position;
                let page = Page {
                    items,
                    more,
                    position,
                };
                return Ok((state, page));
            }
            after = keys.last().cloned();
        }
    }

    /// [`Service::state`] of a workspace itself.
    ///
    /// # Errors
    /// As there; [`Refusal::NotFound`] where it was not there then.
    pub(super) async fn state_of_workspace(
        &self,
        request: &Request,
        place: Place,
    ) -> Result<State<'_>, ServiceError> {
        let state = self
            .state(request, &[Part::Workspace(place.workspace)])
            .await?;
        if state.past.is_some() {
            let workspaces = state.documents::<Workspaces>();
            let then = workspaces.get(&place.workspace.to_string()).await?.value;
            then.ok_or_else(|| missing("workspace"))?;
        }
        Ok(state)
    }

    /// [`Service::state`] of a crew and what is in it.
    ///
    /// # Errors
    /// As there; [`Refusal::NotFound`] where it was not there then.
    pub(super) async fn state_of_crew(
        &self,
        request: &Request,
        crew: CrewId,
    ) -> Result<State<'_>, ServiceError> {
        let state = self.state(request, &[Part::Crew(crew)]).await?;
        state.must_have(crew).await?;
        Ok(state)
    }

    /// [`Service::state`] of an organization.
    ///
    /// # Errors
    /// As there; [`Refusal::NotFound`] where it was not there then.
    pub(super) async fn state_of_organization(
        &self,
        request: &Request,
        organization: OrganizationId,
    ) -> Result<State<'_>, ServiceError> {
        let parts = [Part::Organization(organization)];
        let state = self.state(request, &parts).await?;
        if state.past.is_some() {
            let organizations = state.documents::<Organizations>();
            let then = organizations.get(&organization.to_string()).await?.value;
            then.ok_or_else(|| missing("organization"))?;
        }
        Ok(state)
    }

    async fn past(&self, parts: &[Part], position: u64) -> Result<Arc<Past>, ServiceError> {
        let key = (parts.to_vec(), position);
        if let Some(past) = self.past_folds.get(&key) {
            return Ok(past);
        }
        let of_lists = parts.iter().any(|part| part.is_for_lists());
        let mut fold = match of_lists {
            true => PastFold::of(&OF_LISTS),
            false => PastFold::default(),
        };
        let (store, mut looked_at) = (&**self.journal.store(), 0);
        for part in parts {
            let (kind, id, chosen) = part.place();
            let mut pages = stores::stream_pages_of(store, (kind, &id), position, chosen);
            while let Some(events) = pages.try_next().await? {
                looked_at += events.len() as u64;
                if looked_at > EVENTS_FOLDED_MAX {
                    return Err(too_much());
                }
                fold = self.folded(fold, events).await?;
            }
        }
        let past = Arc::new(fold.at(position));
        if looked_at <= EVENTS_KEPT_MAX {
            self.past_folds.put(key, past.clone());
        }
        Ok(past)
    }

    /// Decodes and folds beside what waits.
    async fn folded(
        &self,
        mut fold: PastFold,
        events: Vec<StoredEvent>,
    ) -> Result<PastFold, ServiceError> {
        let work = move || {
            let events = events.iter().map(StoredEvent::decode);
            fold.take(&events.collect::<Result<Vec<_>, _>>()?)?;
            Ok::<_, ServiceError>(fold)
        };
        crate::journal::beside(work).await
    }
}

impl Part {
    /// Whether it is a part of a stream that nothing but lists can be folded of.
    fn is_for_lists(self) -> bool {
        match self {
            Self::CrewItself(_) | Self::CrewVersion(_) => true,
            Self::Person(_)
            | Self::Organization(_)
            | Self::Workspace(_)
            | Self::Crew(_)
            | Self::Promotion(_)
            | Self::Review(_) => false,
        }
    }

    /// The type and the id of its stream, and which of its events are read.
    fn place(self) -> (&'static str, String, Chosen) {
        match self {
            Self::Person(user) => (User::TYPE, user.to_string(), Chosen::All),
            Self::Organization(id) => (Organization::TYPE, id.to_string(), Chosen::All),
            Self::Workspace(id) => (Workspace::TYPE, id.to_string(), Chosen::All),
            Self::Crew(crew) => (Crew::TYPE, crew.to_string(), Chosen::All),
            Self::CrewItself(crew) => {
                let chosen = Chosen::OfTypes(&Crews::EVENT_TYPES);
                (Crew::TYPE, crew.to_string(), chosen)
            }
            Self::CrewVersion(crew) => {
                let chosen = Chosen::LastOfTypes(&CrewContents::EVENT_TYPES);
                (Crew::TYPE, crew.to_string(), chosen)
            }
            Self::Promotion(id) => (Promotion::TYPE, id.to_string(), Chosen::All),
            Self::Review(id) => (Review::TYPE, id.to_string(), Chosen::All),
        }
    }
}

/// Of what there is now, as many as a page takes of those that are wanted; and whether there are
/// more of these. `read` reads the page behind a key.
pub(super) async fn candidates<D, R>(
    read: impl Fn(Option<String>) -> R,
    mut after: Option<String>,
    limit: u64,
    is_wanted: impl Fn(&D) -> bool,
) -> Result<(Vec<(String, D)>, bool), ServiceError>
where
    R: Future<Output = Result<Page<D>, stores::StoreError>>,
{
    let (mut found, limit) = (Vec::new(), usize::try_from(limit).unwrap_or(usize::MAX));
    loop {
        let page = read(after).await?;
        after = page.items.last().map(|(key, _)| key.clone());
        let wanted = page.items.into_iter();
        found.extend(wanted.filter(|(_, document)| is_wanted(document)));
        if found.len() > limit || !page.more {
            let more = found.len() > limit;
            found.truncate(limit);
            return Ok((found, more));
        }
    }
}

/// That an answer would be folded of too much.
pub(super) fn too_much() -> ServiceError {
    ServiceError::InvalidParameter {
        name: "as_of",
        detail: format!(
            "more than {EVENTS_FOLDED_MAX} events, or {PARTS_MAX} streams of them, would have to \
             be folded for this; ask about less, or an earlier moment"
        ),
    }
}
