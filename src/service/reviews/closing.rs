//! Closing a campaign: what was decided is carried out, each in a unit that says what became of
//! it, and is done once, whoever does it.
//!
//! A step decides on the newest state and takes the first so many items that are left; the next
//! one goes on from what the log says. So it does not matter how many processes do it, or when one
//! of them dies. What was changed since somebody looked at it is not touched.

use cqrs_es::Aggregate;
use futures::FutureExt;

use super::ReviewAt;
use crate::{
    domain::{
        Refusal,
        api_keys::KeyCommand,
        authority::{AuthorityLink, Permission},
        ids::{PrincipalId, ReviewId, UserId, WorkspaceId},
        review::{
            Access, Decision, Item, Items, Newest, Review, ReviewCommand, ReviewStatus, Reviewed,
            Settlement, Task,
        },
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{Desk, Origin, Rejection, Unit, stores},
    projections::ReviewDocument,
    service::{
        Caller, Request, Service, ServiceError, Written,
        organizations::organization_stream,
        suspension::is_suspended,
        workspaces::DecideInWorkspace,
        write::{Composed, Made, Sender, unmoved},
    },
};

/// Items that are settled at once: each a few events, with room to spare in a unit.
const SETTLED_AT_ONCE: usize = 100;
/// Keys that are revoked at once, where some were rotated again and again.
const KEYS_AT_ONCE: usize = 300;

/// What a step answers: whether another must follow.
const DONE: u16 = 200;
const MORE: u16 = 202;

impl Service {
    /// Closes a campaign, and carries out what was decided; closing it twice is closing it once.
    /// Where something changed since it was decided about, and there is time left, the campaign is
    /// open again with that; whoever asked before that closes nothing more, as nobody has shown them
    /// what came back.
    ///
    /// # Errors
    /// A refusal unless the caller may run reviews.
    pub async fn close_review(
        &self,
        request: &Request,
        caller: &Caller,
        workspace: WorkspaceId,
        review: ReviewId,
        stops_recurring: bool,
    ) -> Result<Written<ReviewDocument>, ServiceError> {
        // Before anything else: what is opened again from here on, they have not seen.
        let asked_at = stores::head(&**self.journal.store()).await?.position;
        let place = self.known_place(workspace).await?;
        let at = ReviewAt { place, id: review };
        let sender = Sender::Person(caller.clone());
        let aim = place.aim("access_review.closed", review);
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                self.compose_closing(request, caller, (at, asked_at), stops_recurring)
                    .boxed()
            })
            .await?;
        let document = self.review_in(workspace, review).await?.value;
        let carried_out = self.carry_out(&document).await?;
        let value = self.review_in(workspace, review).await?.value;
        // Where it has ended, or was opened again: never less for whoever asks again.
        let ended = match value.closed {
            Some(end) => end.position,
            None => carried_out.max(self.changed_at(&value).await?),
        };
        Ok(Written {
            position: receipt.position.max(ended),
            replayed: receipt.replayed,
            value,
        })
    }

    /// The position of the event that a campaign stands at.
    async fn changed_at(&self, document: &ReviewDocument) -> Result<u64, ServiceError> {
        let (store, id) = (&**self.journal.store(), document.id.to_string());
        let before = document.version.saturating_sub(1);
        let since = stores::stream_after(store, Review::TYPE, &id, before, u64::MAX >> 1).await?;
        Ok(since.first().map_or(0, |event| event.position))
    }

    async fn compose_closing(
        &self,
        request: &Request,
        caller: &Caller,
        (at, asked_at): (ReviewAt, u64),
        stops_recurring: bool,
    ) -> Result<Composed, ServiceError> {
        let (place, permission) = (at.place, Permission::RunReviews);
        let (_, sequence) = self.review_to_change(request, caller, at).await?;
        let actor = caller.user;
        let decide: Box<DecideInWorkspace> = Box::new(move |desk, _| {
            unmoved(desk, &at.stream(), sequence)?;
            if stops_recurring {
                let stop = ReviewCommand::StopRecurring { actor };
                desk.execute::<Review>(&at.stream(), stop, &[])?;
            }
            if !desk
                .read::<Review>(&at.stream())
                .is_reopened_since(asked_at)
            {
                let begin = ReviewCommand::BeginClosing { actor: Some(actor) };
                desk.execute::<Review>(&at.stream(), begin, &[])?;
            }
            Ok(Made::Review(at.id))
        });
        let composed =
            self.compose_in_workspace(request, caller, place, permission, None, 200, decide);
        let mut composed = composed.await?;
        composed.streams.push(at.stream());
        Ok(composed)
    }

    /// Carries out what was decided in a campaign that is closing, until nothing is left; answers
    /// the position of the log with that in it.
    pub(super) async fn carry_out(&self, document: &ReviewDocument) -> Result<u64, ServiceError> {
        if document.status != ReviewStatus::Closing {
            return Ok(0);
        }
        let at = ReviewAt::of(document);
        let pinned = self
            .pinned(at.place, document.pinned_at, &document.terms)
            .await?;
        let items = std::sync::Arc::new(pinned.items);
        loop {
            let (cause, items) = (document.closing, items.clone());
            let unit = Unit {
                lane: at.place.organization.to_string(),
                streams: vec![
                    at.place.stream(),
                    at.stream(),
                    organization_stream(at.place.organization),
                ],
                lookups: vec![],
                origin: Origin {
                    causation: cause.map(|closing| closing.event),
                    ..Origin::system()
                },
                idempotency: None,
                decide: Box::new(move |desk| {
                    let status = step(desk, at, &items)?;
                    Ok(Made::Review(at.id).outcome(status))
                }),
            };
            let committed = self.journal.submit(unit).await?;
            if committed.outcome.status == DONE {
                return Ok(committed.position);
            }
        }
    }
}

/// Settles what is left, or some of it; then finishes.
fn step(desk: &mut Desk<'_>, at: ReviewAt, items: &Items) -> Result<u16, Rejection> {
    let now = desk.now();
    let review = desk.read::<Review>(&at.stream()).clone();
    if review.status() != ReviewStatus::Closing {
        return Ok(DONE);
    }
    let newest = Newest::of(desk.read::<Workspace>(&at.place.stream()), items, now);
    let left = items.iter().filter_map(|(id, item)| {
        let task = review.task(id, item, newest.access(id, item))?;
        Some((id, *item, task))
    });
    let mut left: Vec<(PrincipalId, Item, Task)> = left.take(SETTLED_AT_ONCE + 1).collect();
    let mut keys = 0;
    let fits = left.iter().take(SETTLED_AT_ONCE).take_while(|(.., task)| {
        let within = keys < KEYS_AT_ONCE;
        keys += keys_of(task);
        within
    });
    let fits = fits.count();
    let is_last = fits == left.len();
    left.truncate(fits);
    for (id, item, task) in left {
        settle(desk, at, id, item.kind, task)?;
    }
    if is_last {
        desk.stand_only_on([]);
        desk.execute::<Review>(&at.stream(), ReviewCommand::FinishClosing, &[])?;
    }
    Ok(if is_last { DONE } else { MORE })
}

fn keys_of(task: &Task) -> usize {
    match task {
        Task::Note { .. } => 0,
        Task::Apply { access, .. } => access.keys.len(),
    }
}

fn settle(
    desk: &mut Desk<'_>,
    at: ReviewAt,
    item: PrincipalId,
    kind: Reviewed,
    task: Task,
) -> Result<(), Rejection> {
    desk.stand_only_on([]);
    let (decision, (outcome, applied_by)) = match task {
        Task::Note { decision, outcome } => (decision, (outcome, None)),
        Task::Apply {
            decision,
            by,
            access,
            position,
        } => {
            let link = AuthorityLink::AccessReview {
                id: at.id,
                position,
            };
            let applied = apply(desk, at, (item, kind, &access), decision, (&by, link))?;
            (decision, applied)
        }
    };
    let settle = ReviewCommand::Settle {
        item,
        decision,
        outcome,
        applied_by,
    };
    Ok(desk.execute::<Review>(&at.stream(), settle, &[])?)
}

/// Carries a decision out on the authority of the first who may; the last refusal says why, where
/// nobody may.
fn apply(
    desk: &mut Desk<'_>,
    at: ReviewAt,
    (item, kind, access): (PrincipalId, Reviewed, &Access),
    decision: Decision,
    (by, review): (&[UserId], AuthorityLink),
) -> Result<(Settlement, Option<UserId>), Rejection> {
    if raises(desk, at, item, decision)
        && is_suspended(desk, &organization_stream(at.place.organization))
    {
        desk.stand_only_on([review]);
        let contact = None;
        let code = Refusal::OrganizationSuspended { contact }.code().to_owned();
        return Ok((Settlement::Refused { code }, None));
    }
    let mut refused = Refusal::NotReviewer;
    for user in by {
        match apply_as(desk, at, (item, kind, access), decision, (*user, review)) {
            Ok(()) => return Ok((Settlement::Applied, Some(*user))),
            Err(refusal) => refused = refusal,
        }
    }
    desk.stand_only_on([review]);
    let code = refused.code().to_owned();
    Ok((Settlement::Refused { code }, None))
}

/// Whether it gives more than there is.
fn raises(desk: &mut Desk<'_>, at: ReviewAt, item: PrincipalId, decision: Decision) -> bool {
    let (PrincipalId::User(user), Decision::Change { role }) = (item, decision) else {
        return false;
    };
    let now = desk.now();
    let workspace = desk.read::<Workspace>(&at.place.stream());
    let present = workspace.member_at(user, now);
    present.is_some_and(|present| role > present.role)
}

fn apply_as(
    desk: &mut Desk<'_>,
    at: ReviewAt,
    (item, kind, access): (PrincipalId, Reviewed, &Access),
    decision: Decision,
    (actor, review): (UserId, AuthorityLink),
) -> Result<(), Refusal> {
    let (now, workspace) = (desk.now(), at.place.stream());
    let (permission, commands) = commands(item, kind, access, decision, actor);
    let link = desk
        .read::<Workspace>(&workspace)
        .authorise(actor, permission, now)?;
    desk.stand_only_on([link, review]);
    for command in commands {
        desk.execute::<Workspace>(&workspace, command, &[])?;
    }
    Ok(())
}

/// What carries a decision out: the same as a person would send.
fn commands(
    item: PrincipalId,
    kind: Reviewed,
    access: &Access,
    decision: Decision,
    actor: UserId,
) -> (Permission, Vec<WorkspaceCommand>) {
    match (item, kind, decision) {
        (_, _, Decision::Keep) => (Permission::RunReviews, vec![]),
        (PrincipalId::User(user), _, Decision::Change { role }) => {
            let change = WorkspaceCommand::ChangeRole { actor, user, role };
            (Permission::ChangeRoles, vec![change])
        }
        (PrincipalId::User(user), Reviewed::Auditors, Decision::Revoke) => {
            let revoke = WorkspaceCommand::RevokeAuditor { actor, user };
            (Permission::ManageAuditors, vec![revoke])
        }
        (PrincipalId::User(user), _, Decision::Revoke) => {
            let remove = WorkspaceCommand::Remove { actor, user };
            (Permission::RemoveMembers, vec![remove])
        }
        (PrincipalId::Key(_), _, Decision::Revoke | Decision::Change { .. }) => {
            let revoke = |key: &_| {
                WorkspaceCommand::ApiKey(KeyCommand::Revoke {
                    key: *key,
                    by: actor,
                })
            };
            let revokes = access.keys.iter().map(revoke);
            (Permission::ManageKeys, revokes.collect())
        }
    }
}
