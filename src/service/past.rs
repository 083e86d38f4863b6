//! What a read looks at: the state of now, or that of a moment that was.
//!
//! The past is folded when it is asked for, from the streams that the answer is made of, by the
//! folds that write the read models. **Who may ask is decided on the state of now**: every read
//! asks that first, and only then looks at the moment. What a fold may cost is bounded by
//! [`EVENTS_FOLDED_MAX`]; the last few are kept, since what was never changes.
//!
//! To read something more as of a moment: take its documents from a [`State`] over the
//! [`Part`]s of the log that its document is folded of.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cqrs_es::Aggregate;
use lru::LruCache;

use super::{MomentInLog, Request, Service, ServiceError, workspaces::Place};
use crate::{
    domain::{
        Refusal, Timestamp,
        attempts::Attempts,
        crew::Crew,
        ids::{CrewId, OrganizationId, PromotionId, UserId, WorkspaceId},
        organization::Organization,
        promotion::Promotion,
        user::User,
        workspace::Workspace,
    },
    journal::{
        StoredEvent,
        stores::{self, StoreError},
    },
    projections::{Crews, Documents, Organizations, Past, PastFold, Projection, Workspaces},
};

/// Events that are read for one answer at most; what would take more is refused.
pub const EVENTS_FOLDED_MAX: u64 = 200_000;
/// Streams that one answer is folded of at most.
pub(super) const PARTS_MAX: u64 = 1_000;
/// Events that are folded at once.
const FOLDED_AT_ONCE: u64 = 2_048;
/// Folds that are kept.
const FOLDS_KEPT: NonZeroUsize = NonZeroUsize::new(8).unwrap();
/// Events of folds that are kept: none of more is.
const EVENTS_KEPT_MAX: u64 = 20_000;

/// A part of the log that answers are folded of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// Somebody's account.
    Person(UserId),
    Organization(OrganizationId),
    /// The workspace itself, without its crews.
    Workspace(WorkspaceId),
    Crew(CrewId),
    Promotion(PromotionId),
    /// Everything in a workspace.
    Everything(WorkspaceId),
}

/// Folds of some parts at some positions.
type Folds = LruCache<(Vec<Part>, u64), Arc<Past>>;

/// Folds of moments that have been, which never change.
#[derive(Debug)]
pub(super) struct PastFolds(Mutex<Folds>);

impl Default for PastFolds {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(FOLDS_KEPT)))
    }
}

impl PastFolds {
    fn kept(&self) -> MutexGuard<'_, Folds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
        let past = self.past(parts, moment.position).await?;
        Ok(State {
            service: self,
            past: Some((moment, past)),
        })
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
        let part = Part::Workspace(place.workspace);
        self.state_in_workspace(request, place, part).await
    }

    /// [`Service::state`] of everything in a workspace.
    ///
    /// # Errors
    /// As there; [`Refusal::NotFound`] where it was not there then.
    pub(super) async fn state_of_everything(
        &self,
        request: &Request,
        place: Place,
    ) -> Result<State<'_>, ServiceError> {
        let part = Part::Everything(place.workspace);
        self.state_in_workspace(request, place, part).await
    }

    async fn state_in_workspace(
        &self,
        request: &Request,
        place: Place,
        part: Part,
    ) -> Result<State<'_>, ServiceError> {
        let state = self.state(request, &[part]).await?;
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
        if let Some(kept) = self.past_folds.kept().get(&key) {
            return Ok(kept.clone());
        }
        let (mut fold, mut looked_at) = (PastFold::default(), 0);
        for part in parts {
            let mut sequence = 0;
            loop {
                let events = self.events_of(*part, sequence, position).await?;
                looked_at += events.len() as u64;
                if looked_at > EVENTS_FOLDED_MAX {
                    return Err(too_much());
                }
                let count = events.len() as u64;
                let last = events.last().map(|event| part.sequence(event));
                fold = self.folded(fold, events).await?;
                match last {
                    Some(last) if count == FOLDED_AT_ONCE => sequence = last,
                    Some(_) | None => break,
                }
            }
        }
        let past = Arc::new(fold.at(position));
        if looked_at <= EVENTS_KEPT_MAX {
            self.past_folds.kept().put(key, past.clone());
        }
        Ok(past)
    }

    /// The next events of a part after a sequence (exclusive), up to a position (inclusive).
    async fn events_of(
        &self,
        part: Part,
        sequence: u64,
        position: u64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let store = &**self.journal.store();
        let (kind, id) = match part {
            Part::Person(user) => (User::TYPE, user.to_string()),
            Part::Organization(organization) => (Organization::TYPE, organization.to_string()),
            Part::Workspace(workspace) => (Workspace::TYPE, workspace.to_string()),
            Part::Crew(crew) => (Crew::TYPE, crew.to_string()),
            Part::Promotion(promotion) => (Promotion::TYPE, promotion.to_string()),
            Part::Everything(workspace) => {
                let scope = workspace.to_string();
                return stores::scope_page(store, &scope, sequence, position, FOLDED_AT_ONCE).await;
            }
        };
        stores::stream_page(store, (kind, &id), sequence, position, FOLDED_AT_ONCE).await
    }

    /// Decodes and folds beside what waits. Attempts make no state.
    async fn folded(
        &self,
        mut fold: PastFold,
        events: Vec<StoredEvent>,
    ) -> Result<PastFold, ServiceError> {
        let work = move || {
            let events = events
                .iter()
                .filter(|event| event.aggregate_type != Attempts::TYPE)
                .map(StoredEvent::decode)
                .collect::<Result<Vec<_>, _>>()?;
            fold.take(&events)?;
            Ok::<_, ServiceError>(fold)
        };
        crate::journal::beside(work).await
    }
}

impl Part {
    /// Where an event of it stands in it.
    fn sequence(self, event: &StoredEvent) -> u64 {
        match self {
            Self::Everything(_) => event.scope_sequence,
            Self::Person(_)
            | Self::Organization(_)
            | Self::Workspace(_)
            | Self::Crew(_)
            | Self::Promotion(_) => event.sequence,
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
