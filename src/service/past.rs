//! What a read looks at: the state of now, or that of a moment that was.
//!
//! The past is folded when it is asked for, from the streams that the answer is made of, by the
//! folds that write the read models. **Who may ask is decided on the state of now**: every read
//! asks that first, and only then looks at the moment. What a fold may cost is bounded by
//! [`EVENTS_FOLDED_MAX`]; the last few are kept, since what was never changes.
//!
//! To read something more as of a moment: take its documents from a [`State`] over the
//! [`Part`]s of the log that its document is folded of.

use std::{num::NonZeroUsize, sync::Arc};

use cqrs_es::Aggregate;
use futures::TryStreamExt;

use super::{
    MomentInLog, Request, Service, ServiceError, remembered::Remembered, workspaces::Place,
};
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
    journal::{StoredEvent, stores},
    projections::{Crews, Documents, Organizations, Past, PastFold, Projection, Workspaces},
};

/// Events that are read for one answer at most; what would take more is refused.
pub const EVENTS_FOLDED_MAX: u64 = 200_000;
/// Streams that one answer is folded of at most.
pub(super) const PARTS_MAX: u64 = 1_000;
/// Folds that are kept.
pub(super) const FOLDS_KEPT: NonZeroUsize = NonZeroUsize::new(8).unwrap();
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
        if let Some(past) = self.past_folds.get(&key) {
            return Ok(past);
        }
        let (mut fold, mut looked_at) = (PastFold::default(), 0);
        let store = &**self.journal.store();
        for part in parts {
            let (kind, id) = part.place();
            let mut pages = match kind {
                Some(kind) => stores::stream_pages(store, (kind, &id), position),
                None => stores::scope_pages(store, &id, position),
            };
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
    /// The type and the id of its stream; of a scope, the id alone.
    fn place(self) -> (Option<&'static str>, String) {
        match self {
            Self::Person(user) => (Some(User::TYPE), user.to_string()),
            Self::Organization(organization) => {
                (Some(Organization::TYPE), organization.to_string())
            }
            Self::Workspace(workspace) => (Some(Workspace::TYPE), workspace.to_string()),
            Self::Crew(crew) => (Some(Crew::TYPE), crew.to_string()),
            Self::Promotion(promotion) => (Some(Promotion::TYPE), promotion.to_string()),
            Self::Everything(workspace) => (None, workspace.to_string()),
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
