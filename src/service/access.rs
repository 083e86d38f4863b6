//! Who has access to a workspace, now and at any moment that was: who could touch production on a
//! day, who gave them that, and what differs between two moments.
//!
//! A report is folded from the streams of the workspace and its organization up to the moment, on
//! from what was kept of them on the way, and is itself an entry of the log, written before it is
//! answered.

use std::{
    collections::{BTreeMap, HashMap},
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
};

use cqrs_es::Aggregate;

use super::{
    AsOf, Principal, Request, Service, ServiceError, moments::MomentInLog, remembered::Remembered,
    workspaces::Place,
};
use crate::{
    domain::{
        Timestamp,
        attempts::{Attempts, AttemptsCommand, ReportQuestion},
        authority::Permission,
        environment::Environment,
        ids::{KeyId, PrincipalId, UserId, WorkspaceId},
        organization::Organization,
        workspace::Workspace,
    },
    journal::{StreamRef, Unit, beside, stores},
    projections::{
        Found,
        access::{AccessFold, AccessHeld},
        access_snapshots, audit_index,
    },
    service::write::Made,
};

/// Events of a stream from one access snapshot to the next, where nobody says.
pub(super) const SNAPSHOT_EVENTS: NonZeroU64 = NonZeroU64::new(4_096).unwrap();
/// Folds that are kept in memory: what was, is for good.
pub(super) const FOLDS_KEPT: NonZeroUsize = NonZeroUsize::new(8).unwrap();

/// What a report on access is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessQuestion {
    /// The only environment to tell of: who reaches it at all, and what they may there.
    pub environment: Option<Environment>,
    /// The only person or key to tell of.
    pub principal: Option<PrincipalId>,
    /// Now, where nothing is said.
    pub as_of: Option<AsOf>,
}

/// Access of one person or key through one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessView {
    pub access: AccessHeld,
    /// As it was then; `erased` where it is gone.
    pub name: String,
    pub since: Timestamp,
    /// What who gave it was called then.
    pub granted_by_name: Option<String>,
    pub reason: Option<String>,
    /// When a key was last used; when a person last signed in or did something here. As of then;
    /// none where they never did, or it is not known of then any more.
    pub last_used_at: Option<Timestamp>,
}

/// Who had access at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessReport {
    pub at: Timestamp,
    pub position: u64,
    pub principals: Vec<AccessView>,
}

/// What differs between two moments.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessDifference {
    pub from: MomentInLog,
    pub to: MomentInLog,
    pub added: Vec<AccessView>,
    pub removed: Vec<AccessView>,
    /// As it was and as it is.
    pub changed: Vec<(AccessView, AccessView)>,
}

/// Folds of a workspace's access, each at a position.
pub(super) type AccessFolds = Remembered<(WorkspaceId, u64), AccessFold>;

impl Service {
    /// Who has access, or had it at a moment.
    ///
    /// # Errors
    /// A refusal unless the caller may read the audit log; an invalid parameter for a moment that
    /// has not come yet.
    pub async fn access(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        question: AccessQuestion,
    ) -> Result<Found<AccessReport>, ServiceError> {
        let principal = principal.into();
        let action = "access.reported";
        let permission = Permission::ReadAudit;
        let place = self
            .may_in_workspace(request, &principal, workspace, permission, action)
            .await?;
        let moment = self.moment("as_of", question.as_of).await?;
        let asked = ReportQuestion {
            position: moment.position,
            from: None,
            environment: question.environment,
            principal: question.principal.map(|asked| asked.to_string()),
        };
        let target = workspace.to_string();
        let position = self
            .keep_report(&principal, request, place, (action, target), asked)
            .await?;
        let held = self.access_at(place, moment, question).await?;
        Ok(Found {
            position,
            value: AccessReport {
                at: moment.at,
                position: moment.position,
                principals: self.access_views(place, moment, held).await?,
            },
        })
    }

    /// The same for whoever has the store: nobody is asked, and no entry is written.
    ///
    /// # Errors
    /// [`crate::domain::Refusal::NotFound`] where there is no such workspace; an invalid parameter
    /// for a moment that has not come yet.
    pub async fn operators_access(
        &self,
        workspace: WorkspaceId,
        question: AccessQuestion,
    ) -> Result<AccessReport, ServiceError> {
        let place = self.known_place(workspace).await?;
        let moment = self.moment("as_of", question.as_of).await?;
        let held = self.access_at(place, moment, question).await?;
        Ok(AccessReport {
            at: moment.at,
            position: moment.position,
            principals: self.access_views(place, moment, held).await?,
        })
    }

    /// What differs in access between two moments: from before the first entry to now, where
    /// nothing is said.
    ///
    /// # Errors
    /// As [`Service::access`].
    pub async fn access_difference(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        workspace: WorkspaceId,
        from: Option<AsOf>,
        question: AccessQuestion,
    ) -> Result<Found<AccessDifference>, ServiceError> {
        let principal = principal.into();
        let action = "access.compared";
        let permission = Permission::ReadAudit;
        let place = self
            .may_in_workspace(request, &principal, workspace, permission, action)
            .await?;
        let from = self
            .moment("from", Some(from.unwrap_or(AsOf::Position(0))))
            .await?;
        let to = self.moment("to", question.as_of).await?;
        let asked = ReportQuestion {
            position: to.position,
            from: Some(from.position),
            environment: question.environment,
            principal: question.principal.map(|asked| asked.to_string()),
        };
        let target = workspace.to_string();
        let position = self
            .keep_report(&principal, request, place, (action, target), asked)
            .await?;
        let value = self.compared(place, from, to, question).await?;
        Ok(Found { position, value })
    }

    async fn compared(
        &self,
        place: Place,
        from: MomentInLog,
        to: MomentInLog,
        question: AccessQuestion,
    ) -> Result<AccessDifference, ServiceError> {
        let keyed = |held: Vec<AccessHeld>| -> BTreeMap<_, _> {
            held.into_iter()
                .map(|access| (identity(&access), access))
                .collect()
        };
        let mut before = keyed(self.access_at(place, from, question).await?);
        let after = keyed(self.access_at(place, to, question).await?);
        let (mut added, mut changed) = (Vec::new(), Vec::new());
        for (key, now) in after {
            match before.remove(&key) {
                None => added.push(now),
                Some(then) if says_the_same(&then, &now) => {}
                Some(then) => changed.push((then, now)),
            }
        }
        let (were, are): (Vec<_>, Vec<_>) = changed.into_iter().unzip();
        let were = self.access_views(place, from, were).await?;
        let are = self.access_views(place, to, are).await?;
        Ok(AccessDifference {
            from,
            to,
            added: self.access_views(place, to, added).await?,
            removed: self
                .access_views(place, from, before.into_values().collect())
                .await?,
            changed: were.into_iter().zip(are).collect(),
        })
    }

    /// Everything that gave access at a moment, of what was asked about.
    pub(super) async fn access_at(
        &self,
        place: Place,
        moment: MomentInLog,
        question: AccessQuestion,
    ) -> Result<Vec<AccessHeld>, ServiceError> {
        let fold = self.access_fold(place, moment.position).await?;
        let mut held = fold.at(moment.at);
        held.retain(|access| {
            let is_asked = |asked| asked == access.held.principal;
            let reaches = |environment| access.held.reaches(environment);
            question.principal.is_none_or(is_asked) && question.environment.is_none_or(reaches)
        });
        if let Some(environment) = question.environment {
            for access in &mut held {
                access
                    .held
                    .reach
                    .retain(|reached, _| *reached == environment);
            }
        }
        Ok(held)
    }

    /// The streams of a workspace and its organization, folded up to a position.
    pub(super) async fn access_fold(
        &self,
        place: Place,
        position: u64,
    ) -> Result<Arc<AccessFold>, ServiceError> {
        let key = (place.workspace, position);
        if let Some(fold) = self.access_folds.get(&key) {
            return Ok(fold);
        }
        let workspace = place.workspace.to_string();
        let workspace = self.access_of((Workspace::TYPE, &workspace), position);
        let organization = place.organization.to_string();
        let organization = self.access_of((Organization::TYPE, &organization), position);
        let fold = Arc::new(workspace.await?.with_organization(organization.await?));
        self.access_folds.put(key, fold.clone());
        Ok(fold)
    }

    /// One stream, folded up to a position from what was kept of it, and some of that kept.
    async fn access_of(
        &self,
        stream: (&str, &str),
        position: u64,
    ) -> Result<AccessFold, ServiceError> {
        let (store, keyring) = (&**self.journal.store(), &self.keyring);
        let page_events = self.settings.access_snapshot_events.get();
        let mut snapshot = access_snapshots::newest(store, keyring, stream, position).await?;
        loop {
            let after = snapshot.sequence;
            let page = stores::stream_page(store, stream, after, position, page_events).await?;
            let is_last = (page.len() as u64) < page_events;
            snapshot = beside(move || snapshot.followed_by(&page)).await?;
            if is_last {
                return Ok(snapshot.fold);
            }
            if self.journal.is_for_reading() {
                continue;
            }
            let kept = access_snapshots::keep(store, keyring, stream, &snapshot).await;
            if let Err(error) = kept {
                tracing::warn!(stream = %stream.1, %error, "access is not kept");
            }
        }
    }

    /// Access with everything that an answer shows of it.
    pub(super) async fn access_views(
        &self,
        place: Place,
        moment: MomentInLog,
        held: Vec<AccessHeld>,
    ) -> Result<Vec<AccessView>, ServiceError> {
        let realm = place.organization.to_string();
        let mut people: Vec<UserId> = Vec::new();
        for access in &held {
            people.extend(user_of(access.held.principal));
            people.extend(access.grant.by);
        }
        let called = self.called(&realm, people, Some(moment.position)).await?;
        let uses = self.last_uses_at(place.workspace, moment, &held).await?;
        let mut views = Vec::with_capacity(held.len());
        for access in held {
            let reason = match &access.grant.reason {
                Some(reason) => Some(self.open(reason).await?.into_text()),
                None => None,
            };
            let name = match (access.held.principal, &access.held.name) {
                (PrincipalId::User(user), _) => called.of(user).name.into_text(),
                (PrincipalId::Key(_), name) => name.clone().unwrap_or_default(),
            };
            views.push(AccessView {
                name,
                since: access.held.counts_since.unwrap_or(access.grant.recorded_at),
                granted_by_name: access.grant.by.map(|by| called.of(by).name.into_text()),
                reason,
                last_used_at: uses.get(&access.held.principal).copied(),
                access,
            });
        }
        Ok(views)
    }

    /// When each was last used, as of a moment. What is kept beside the log of a key is its last
    /// use only: where that is later, its last entry before the moment is told.
    pub(super) async fn last_uses_at(
        &self,
        workspace: WorkspaceId,
        moment: MomentInLog,
        held: &[AccessHeld],
    ) -> Result<HashMap<PrincipalId, Timestamp>, ServiceError> {
        let store = &**self.journal.store();
        let indexed = match self.journal.is_for_reading() {
            false => audit_index::catch_up(store).await?,
            true => audit_index::state(store).await?,
        };
        let mut by_id = HashMap::new();
        for access in held {
            by_id.insert(access.held.principal.to_string(), access.held.principal);
        }
        let ids: Vec<String> = by_id.keys().cloned().collect();
        let workspace = workspace.to_string();
        let mut acted = audit_index::last_acted(store, &workspace, &ids, moment.position).await?;
        let ids = ids.into_iter().collect();
        let behind = indexed.position;
        // Later than what the index has, and in order.
        acted.extend(
            audit_index::acted_behind(store, &workspace, &ids, behind, moment.position).await?,
        );
        let mut uses: HashMap<PrincipalId, Timestamp> = HashMap::new();
        for (id, at) in acted {
            uses.extend(by_id.get(&id).map(|principal| (*principal, at)));
        }
        let keys: Vec<KeyId> = by_id.values().filter_map(|id| key_of(*id)).collect();
        for (key, at) in self.last_uses(&keys).await? {
            if at <= moment.at {
                let known = uses.entry(PrincipalId::Key(key)).or_insert(at);
                *known = (*known).max(at);
            }
        }
        Ok(uses)
    }

    /// Keeps that a report was made of a workspace, or of a campaign in it; answers the position
    /// of the log with that in it.
    pub(super) async fn keep_report(
        &self,
        principal: &Principal,
        request: &Request,
        place: Place,
        (action, target): (&'static str, String),
        question: ReportQuestion,
    ) -> Result<u64, ServiceError> {
        let (organization, workspace) = (place.organization, place.workspace);
        let origin = self
            .origin_of(principal, request, Some(organization), Some(workspace))
            .await?;
        let (stream, actor) = (
            StreamRef::of::<Attempts>(workspace, workspace),
            principal.actor(),
        );
        let unit = Unit {
            lane: organization.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin,
            idempotency: None,
            decide: Box::new(move |desk| {
                let command = AttemptsCommand::RecordReport {
                    organization,
                    actor,
                    action: action.to_owned(),
                    target: target.clone(),
                    question: question.clone(),
                    minute: desk.now().minute(),
                };
                desk.execute::<Attempts>(&stream, command, &[])?;
                Ok(Made::Nothing.outcome(0))
            }),
        };
        Ok(self.journal.submit(unit).await?.position)
    }
}

/// What makes access of two moments the same access: whose, and through what kind of thing.
fn identity(access: &AccessHeld) -> (&'static str, PrincipalId) {
    (access.held.through.name(), access.held.principal)
}

/// Whether it goes as far, and as long: who gave it anew without a change is no difference.
fn says_the_same(then: &AccessHeld, now: &AccessHeld) -> bool {
    let said = |access: &AccessHeld| {
        let held = access.held.clone();
        (
            held.through,
            held.name,
            held.scopes,
            held.crews,
            held.reach,
            held.until,
            held.afterwards,
        )
    };
    said(then) == said(now)
}

pub(super) fn user_of(principal: PrincipalId) -> Option<UserId> {
    match principal {
        PrincipalId::User(user) => Some(user),
        PrincipalId::Key(_) => None,
    }
}

fn key_of(principal: PrincipalId) -> Option<KeyId> {
    match principal {
        PrincipalId::Key(key) => Some(key),
        PrincipalId::User(_) => None,
    }
}
