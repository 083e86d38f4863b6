//! Access under review, as a reviewer sees it: how it was at the pin, what it is now, how it was
//! used, what is recommended, and what was decided.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Arc,
};

use cqrs_es::Aggregate;
use futures::TryStreamExt;

use super::{Pinned, ReviewAt};
use crate::{
    domain::{
        Timestamp,
        event::Event,
        ids::{PrincipalId, ReviewId, UserId, WorkspaceId},
        review::{
            Decision, EVIDENCE_COUNTS_FOR, Evidence, Finding, Newest, Review, ReviewEvent,
            ReviewStatus, Reviewed, Settlement, findings, needed_for, recommended,
        },
        workspace::Workspace,
    },
    journal::{Recorded, loading, stores},
    projections::{Page, ReviewDocument, SealedAt, access::AccessHeld, audit_index},
    service::{
        AccessView, MomentInLog, Principal, Request, Service, ServiceError, remembered::Remembered,
        workspaces::Place,
    },
};

/// Campaigns whose decisions are kept in memory, each as of one version.
pub(in crate::service) const TRAILS_KEPT: NonZeroUsize = NonZeroUsize::new(2).unwrap();
/// The field of a decision's reason, as it is sealed.
pub(super) const REASON_FIELD: &str = "reason";

/// What was decided about an item, and by whom.
#[derive(Debug, Clone, PartialEq)]
pub struct DecidedView {
    pub decision: Decision,
    pub by: UserId,
    pub by_name: String,
    pub at: Timestamp,
    pub reason: String,
    /// The entry of the decision.
    pub position: u64,
}

/// How access under review stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemStatus {
    Undecided,
    Decided,
    /// It is not what it was at the pin, or when it was decided about: look at it again.
    Changed,
    /// There is no access any more.
    Gone,
    /// What was decided has been carried out, or the campaign is over.
    Settled,
}

impl ItemStatus {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Decided => "decided",
            Self::Changed => "changed",
            Self::Gone => "gone",
            Self::Settled => "settled",
        }
    }
}

/// Access as it is now, where it is not what it was at the pin.
#[derive(Debug, Clone, PartialEq)]
pub struct PresentView {
    /// Of a member.
    pub role: Option<&'static str>,
    /// Of a key: itself, and those that came in its place.
    pub keys: Vec<String>,
}

/// What became of access.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemOutcome {
    /// `kept`, `applied`, `changed`, `gone` or `refused`.
    pub name: &'static str,
    /// The code of the refusal, where it was one.
    pub code: Option<String>,
    /// Whom nobody decided about, what the campaign's rule did.
    pub decision: Decision,
    /// The entry that says so; none where the access was simply kept.
    pub position: Option<u64>,
}

/// Access that is reviewed.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewItemView {
    pub kind: Reviewed,
    /// As it was at the pin.
    pub access: AccessView,
    pub status: ItemStatus,
    /// The mark of what it is now: what a decision looks at.
    pub seen_at: Option<u64>,
    pub now: Option<PresentView>,
    pub last_used_at: Option<Timestamp>,
    pub findings: Vec<Finding>,
    pub recommended: Option<Decision>,
    pub decided: Option<DecidedView>,
    /// Once it is known.
    pub outcome: Option<ItemOutcome>,
}

/// What the stream of a campaign says of its items.
#[derive(Debug, Default)]
pub struct Trail {
    decided: BTreeMap<PrincipalId, Trailed>,
    settled: BTreeMap<PrincipalId, (Decision, Settlement, u64)>,
}

#[derive(Debug)]
struct Trailed {
    decision: Decision,
    seen_at: u64,
    by: UserId,
    at: Timestamp,
    position: u64,
    reason: SealedAt,
    findings: Vec<Finding>,
    last_used_at: Option<Timestamp>,
}

/// Trails of campaigns, each as of a version.
pub(in crate::service) type Trails = Remembered<(ReviewId, u64), Trail>;

impl Trail {
    fn take(&mut self, event: &Recorded) {
        let Event::Review(happened) = &event.event else {
            return;
        };
        match happened {
            ReviewEvent::AccessDecided {
                item,
                decision,
                seen_at,
                decided_by,
                reason,
                findings,
                last_used_at,
                again: _,
            } => {
                let trailed = Trailed {
                    decision: *decision,
                    seen_at: *seen_at,
                    by: *decided_by,
                    at: event.recorded_at,
                    position: event.position,
                    reason: SealedAt::of(event, REASON_FIELD, reason),
                    findings: findings.clone(),
                    last_used_at: *last_used_at,
                };
                self.decided.insert(*item, trailed);
            }
            ReviewEvent::AccessSettled {
                item,
                decision,
                outcome,
                ..
            } => {
                let settled = (*decision, outcome.clone(), event.position);
                self.settled.insert(*item, settled);
            }
            ReviewEvent::ReviewReopened { returned } => {
                for item in returned {
                    self.decided.remove(item);
                    self.settled.remove(item);
                }
            }
            ReviewEvent::ReviewOpened { .. }
            | ReviewEvent::ReviewReminded { .. }
            | ReviewEvent::ReviewClosing { .. }
            | ReviewEvent::ReviewClosed { .. }
            | ReviewEvent::ReviewRecurred { .. }
            | ReviewEvent::ReviewRecurrenceStopped { .. } => {}
        }
    }
}

/// What items are shown with.
struct Showing<'a> {
    document: &'a ReviewDocument,
    trail: &'a Trail,
    /// The workspace at the moment of the evidence.
    workspace: &'a Workspace,
    moment: MomentInLog,
    evidence: BTreeMap<PrincipalId, Evidence>,
}

impl Service {
    /// A page of what a campaign is about, in order of ids.
    ///
    /// # Errors
    /// As [`Service::review`].
    pub async fn review_items(
        &self,
        request: &Request,
        principal: &Principal,
        workspace: WorkspaceId,
        review: ReviewId,
        (after, limit): (Option<&str>, u64),
    ) -> Result<(ReviewDocument, Page<ReviewItemView>), ServiceError> {
        let found = self.review(request, principal, workspace, review).await?;
        let document = found.value;
        let place = ReviewAt::of(&document).place;
        let pinned = self
            .pinned(place, document.pinned_at, &document.terms)
            .await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let keyed = pinned
            .held
            .iter()
            .map(|access| (access.held.principal.to_string(), access));
        let mut rest: Vec<_> = keyed
            .filter(|(key, _)| Some(key.as_str()) > after)
            .collect();
        rest.sort_by(|one, other| one.0.cmp(&other.0));
        let more = rest.len() > limit;
        rest.truncate(limit);
        let held = rest.into_iter().map(|(_, access)| access.clone()).collect();
        let views = self.item_views(&document, &pinned, held).await?;
        let items = views.into_iter().map(|view| (view.id().to_string(), view));
        let page = Page {
            items: items.collect(),
            more,
            position: found.position,
        };
        Ok((document, page))
    }

    /// What the stream of a campaign says of its items, as of the version of the document.
    async fn trail(&self, document: &ReviewDocument) -> Result<Arc<Trail>, ServiceError> {
        let key = (document.id, document.version);
        if let Some(trail) = self.trails.get(&key) {
            return Ok(trail);
        }
        let mut trail = Trail::default();
        let id = document.id.to_string();
        let (store, stream) = (&**self.journal.store(), (Review::TYPE, id.as_str()));
        let mut pages = stores::stream_pages(store, stream, u64::MAX >> 1);
        'pages: while let Some(page) = pages.try_next().await? {
            for event in &page {
                if event.sequence > document.version {
                    break 'pages;
                }
                trail.take(&event.decode()?);
            }
        }
        let trail = Arc::new(trail);
        self.trails.put(key, trail.clone());
        Ok(trail)
    }

    /// Access as a reviewer sees it. What is known of its use is told as of now; of a campaign
    /// that is over, as of its end.
    pub(super) async fn item_views(
        &self,
        document: &ReviewDocument,
        pinned: &Pinned,
        held: Vec<AccessHeld>,
    ) -> Result<Vec<ReviewItemView>, ServiceError> {
        let place = ReviewAt::of(document).place;
        let trail = self.trail(document).await?;
        let moment = match document.closed {
            Some(end) => MomentInLog {
                position: end.position,
                at: end.at,
            },
            None => self.moment("as_of", None).await?,
        };
        let workspace = self.workspace_at(document, moment).await?;
        let evidence = self.evidence(place, moment, &workspace, &held).await?;
        let ids: Vec<_> = held.iter().map(|access| access.held.principal).collect();
        let mut decided = self.decided_views(place, moment, &trail, &ids).await?;
        let showing = Showing {
            document,
            trail: &trail,
            workspace: &workspace,
            moment,
            evidence,
        };
        let newest = Newest::of(&workspace, &pinned.items, moment.at);
        let views = self.access_views(place, pinned.moment, held).await?;
        let views = views.into_iter().map(|view| {
            let decided = decided.remove(&view.access.held.principal);
            showing.view(pinned, &newest, view, decided)
        });
        Ok(views.collect())
    }

    /// The workspace as it is now, or was when the campaign ended.
    pub(super) async fn workspace_at(
        &self,
        document: &ReviewDocument,
        moment: MomentInLog,
    ) -> Result<Workspace, ServiceError> {
        let place = ReviewAt::of(document).place;
        if document.closed.is_some() {
            return Ok(self
                .access_fold(place, moment.position)
                .await?
                .workspace()
                .clone());
        }
        let store = self.journal.store();
        let (workspace, _) =
            loading::read_back::<Workspace>(&**store, &place.stream(), None).await?;
        Ok(workspace)
    }

    async fn decided_views(
        &self,
        place: Place,
        moment: MomentInLog,
        trail: &Trail,
        ids: &[PrincipalId],
    ) -> Result<BTreeMap<PrincipalId, DecidedView>, ServiceError> {
        let decided: Vec<_> = ids
            .iter()
            .filter_map(|id| Some((*id, trail.decided.get(id)?)))
            .collect();
        let people = decided.iter().map(|(_, decided)| decided.by);
        let realm = place.organization.to_string();
        let called = self.called(&realm, people, Some(moment.position)).await?;
        let mut views = BTreeMap::new();
        for (id, decided) in decided {
            let view = DecidedView {
                decision: decided.decision,
                by: decided.by,
                by_name: called.of(decided.by).name.into_text(),
                at: decided.at,
                reason: self.open(&decided.reason).await?.into_text(),
                position: decided.position,
            };
            views.insert(id, view);
        }
        Ok(views)
    }

    /// What is known of how access was used.
    pub(super) async fn evidence(
        &self,
        place: Place,
        moment: MomentInLog,
        workspace: &Workspace,
        held: &[AccessHeld],
    ) -> Result<BTreeMap<PrincipalId, Evidence>, ServiceError> {
        let store = &**self.journal.store();
        let last = self.last_uses_at(place.workspace, moment, held).await?;
        let ids: Vec<String> = held
            .iter()
            .map(|access| access.held.principal.to_string())
            .collect();
        let of = place.workspace.to_string();
        let mut deeds: BTreeMap<String, Vec<audit_index::Deed>> = BTreeMap::new();
        for deed in audit_index::deeds(store, &of, &ids, moment.position).await? {
            deeds.entry(deed.actor.clone()).or_default().push(deed);
        }
        let policy = workspace.policy();
        let counts_from = moment.at.plus(-EVIDENCE_COUNTS_FOR);
        let is_member = |user: &UserId| workspace.member_at(*user, moment.at).is_some();
        let known = held.iter().zip(ids).map(|(access, id)| {
            let principal = access.held.principal;
            let done = deeds.remove(&id).unwrap_or_default();
            let lately = done.iter().filter(|deed| deed.last_at >= counts_from);
            let made = access.held.created_at;
            let rotation = made.and_then(|made| policy.rotation_due_at(made));
            let evidence = Evidence {
                last_used_at: last.get(&principal).copied(),
                role_used: lately.map(|deed| needed_for(&deed.action)).max(),
                broke_glass: done.iter().any(|deed| deed.broke_glass),
                is_past_rotation: rotation.is_some_and(|due| due <= moment.at),
                creator_is_gone: made.is_some() && !access.responsible.iter().any(is_member),
                is_last_owner: match principal {
                    PrincipalId::User(user) => workspace.is_last_owner(user, moment.at),
                    PrincipalId::Key(_) => false,
                },
            };
            (principal, evidence)
        });
        Ok(known.collect())
    }
}

impl ReviewItemView {
    /// Whose access it is.
    pub fn id(&self) -> PrincipalId {
        self.access.access.held.principal
    }
}

impl Showing<'_> {
    fn view(
        &self,
        pinned: &Pinned,
        newest: &Newest<'_>,
        access: AccessView,
        decided: Option<DecidedView>,
    ) -> ReviewItemView {
        let held = &access.access.held;
        let id = held.principal;
        let item = pinned.items.get(id).expect("what is shown was pinned");
        let present = newest.access(id, item);
        let known = self.evidence.get(&id).copied().unwrap_or_default();
        let trailed = self.trail.decided.get(&id);
        let found = match trailed {
            Some(decided) => decided.findings.clone(),
            None => findings(held.through, access.since, &known, self.moment.at),
        };
        let looked_at = trailed.map_or(item.mark, |decided| decided.seen_at);
        let mark = present.as_ref().map(|present| present.mark);
        let outcome = self.outcome(id, decided.as_ref());
        let status = match (&outcome, mark) {
            (Some(_), _) => ItemStatus::Settled,
            (None, None) => ItemStatus::Gone,
            (None, Some(mark)) if mark != looked_at => ItemStatus::Changed,
            (None, Some(_)) if decided.is_some() => ItemStatus::Decided,
            (None, Some(_)) => ItemStatus::Undecided,
        };
        let is_other = mark.is_some_and(|mark| mark != item.mark);
        let now = present.filter(|_| is_other).map(|present| PresentView {
            role: self.role_now(id),
            keys: present.keys.iter().map(ToString::to_string).collect(),
        });
        ReviewItemView {
            kind: item.kind,
            status,
            seen_at: mark,
            now,
            last_used_at: trailed
                .and_then(|decided| decided.last_used_at)
                .max(known.last_used_at),
            recommended: recommended(&found),
            findings: found,
            decided,
            outcome,
            access,
        }
    }

    fn role_now(&self, id: PrincipalId) -> Option<&'static str> {
        let PrincipalId::User(user) = id else {
            return None;
        };
        let member = self.workspace.member_at(user, self.moment.at);
        Some(member.map_or("auditor", |member| member.role.name()))
    }

    fn outcome(&self, id: PrincipalId, decided: Option<&DecidedView>) -> Option<ItemOutcome> {
        if let Some((decision, outcome, position)) = self.trail.settled.get(&id) {
            return Some(ItemOutcome {
                name: outcome.name(),
                code: match outcome {
                    Settlement::Refused { code } => Some(code.clone()),
                    Settlement::Applied | Settlement::Changed | Settlement::Gone => None,
                },
                decision: *decision,
                position: Some(*position),
            });
        }
        let is_over = self.document.status == ReviewStatus::Closed;
        is_over.then(|| ItemOutcome {
            name: "kept",
            code: None,
            decision: decided.map_or(Decision::Keep, |decided| decided.decision),
            position: None,
        })
    }
}

/// Everybody who decided, for whoever tells of all of it.
pub(super) fn deciders(items: &[ReviewItemView]) -> BTreeSet<UserId> {
    let decided = items.iter().filter_map(|item| item.decided.as_ref());
    decided.map(|decided| decided.by).collect()
}
