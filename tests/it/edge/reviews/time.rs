//! What time does to a campaign: it reminds, closes, and opens the next one.

use std::collections::BTreeSet;
use std::time::Duration;

use crewlog::domain::authority::Role;
use crewlog::domain::ids::{PrincipalId, ReviewId, UserId};
use crewlog::domain::review::{Decision, ReviewStatus, Reviewed, Undecided};
use crewlog::journal::Source;
use crewlog::projections::ReviewDocument;
use crewlog::service::{Caller, ItemDecision, NewReview, Principal, ServiceError};

use crate::edge::team::{address, password};
use crate::edge::time::{Clocked, Owned, email, name, request, secret};
use crate::support::trials::{Case, StoreUnderTest, both};
use crewlog::service::{Acceptance, Newcomer};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "reviewers_are_reminded_and_time_closes", runs),
        both("edge", "reviews_recur_with_who_still_may", recurs),
    ]
}

pub const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Brings a newcomer in.
pub async fn joined(clocked: &Clocked, owner: &Owned, role: Role) -> Caller {
    let service = &clocked.service;
    let (who, workspace) = (email(&address("reviewed")), owner.workspace);
    let asked = &request();
    let invited = service.invite(asked, &owner.caller, workspace, &who, role);
    let token = invited
        .await
        .expect("an invitation")
        .value
        .token
        .expect("a token");
    let newcomer = Acceptance::Newcomer(Newcomer {
        name: name("Newcomer"),
        password: secret(&password()),
    });
    let token = secret(token.expose());
    let accepted = service
        .accept_invitation(&request(), &token, newcomer)
        .await;
    let accepted = accepted.expect("they come in").value;
    Caller {
        user: accepted.member.user,
        session: accepted.session.expect("a session").id,
    }
}

pub fn new_review(clocked: &Clocked, days: i64, reviewers: &[UserId]) -> NewReview {
    NewReview {
        name: name("Who has access"),
        principals: BTreeSet::from(Reviewed::ALL),
        environment: None,
        reviewers: reviewers.iter().copied().collect(),
        due_at: clocked.source.now().plus(chrono::TimeDelta::days(days)),
        undecided: Undecided::Keep,
        recurs_after_days: None,
    }
}

pub async fn open(clocked: &Clocked, owner: &Owned, new: NewReview) -> ReviewId {
    let asked = &request();
    let opened = clocked
        .service
        .open_review(asked, &owner.caller, owner.workspace, new);
    opened.await.expect("a campaign").value.id
}

pub async fn shown(clocked: &Clocked, owner: &Owned, id: ReviewId) -> ReviewDocument {
    let reader = Principal::from(&owner.caller);
    let asked = &request();
    let found = clocked.service.review(asked, &reader, owner.workspace, id);
    found.await.expect("a campaign").value
}

pub async fn decide(
    clocked: &Clocked,
    owner: &Owned,
    by: &Caller,
    id: ReviewId,
    (item, decision): (PrincipalId, Decision),
) -> Result<(), ServiceError> {
    let decision = ItemDecision {
        item,
        decision,
        reason: "As it should be".to_owned(),
        seen_at: None,
    };
    let asked = &request();
    let decided = clocked
        .service
        .decide_access(asked, by, owner.workspace, id, vec![decision]);
    decided.await.map(drop)
}

async fn due(clocked: &Clocked) {
    // However many look for it.
    let service = &clocked.service;
    let (one, two) = tokio::join!(service.do_what_is_due(), service.do_what_is_due());
    one.expect("due work");
    two.expect("due work");
}

async fn runs(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let owner = clocked.owner().await;
    let admin = joined(&clocked, &owner, Role::Admin).await;
    let viewer = joined(&clocked, &owner, Role::Viewer).await;
    let other = joined(&clocked, &owner, Role::Member).await;
    let reviewers = [owner.caller.user, admin.user];
    let new = NewReview {
        undecided: Undecided::Revoke,
        ..new_review(&clocked, 10, &reviewers)
    };
    let id = open(&clocked, &owner, new).await;
    let reminded = async || {
        let entries = clocked.entries(&owner, "access_review.reminded").await;
        entries.len()
    };
    due(&clocked).await;
    assert_eq!(reminded().await, 0);
    clocked.source.pass(3 * DAY);
    due(&clocked).await;
    assert_eq!(reminded().await, 1, "seven days are left");
    for (who, decision) in [(&viewer, Decision::Keep), (&admin, Decision::Keep)] {
        let item = (PrincipalId::User(who.user), decision);
        decide(&clocked, &owner, &owner.caller, id, item)
            .await
            .expect("a decision");
    }
    // Nobody looked for a while: the reminder that is too late is left out.
    clocked.source.pass(6 * DAY);
    due(&clocked).await;
    assert_eq!(shown(&clocked, &owner, id).await.reminded, [7, 1]);
    clocked.source.pass(DAY);
    let late = decide(
        &clocked,
        &owner,
        &admin,
        id,
        (PrincipalId::User(viewer.user), Decision::Revoke),
    );
    assert!(
        late.await.is_err(),
        "its time is over before anything says so"
    );
    due(&clocked).await;
    due(&clocked).await;
    let closed = shown(&clocked, &owner, id).await;
    assert_eq!(closed.status, ReviewStatus::Closed);
    let end = closed.closed.expect("an end");
    // The owner's own access was theirs to review by nobody: it goes by the rule, and stays as
    // the last one's.
    assert_eq!(
        (end.timed_out, end.kept, end.applied, end.not_applied),
        (true, 2, 1, 1)
    );
    let removed = clocked.entries(&owner, "member.removed").await;
    let targets: Vec<_> = removed
        .iter()
        .map(|entry| entry.target.id.clone())
        .collect();
    assert_eq!(targets, [other.user.to_string()]);
    assert_eq!(
        clocked.entries(&owner, "access_review.closed").await.len(),
        1
    );
    clocked.holds().await;
}

async fn recurs(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let owner = clocked.owner().await;
    let admin = joined(&clocked, &owner, Role::Admin).await;
    let new = NewReview {
        recurs_after_days: Some(20),
        ..new_review(&clocked, 10, &[owner.caller.user, admin.user])
    };
    let first = open(&clocked, &owner, new).await;
    clocked.source.pass(10 * DAY);
    due(&clocked).await;
    assert_eq!(
        shown(&clocked, &owner, first).await.status,
        ReviewStatus::Closed
    );
    // The other reviewer is one no more.
    let asked = &request();
    let demoted = clocked.service.change_role(
        asked,
        &owner.caller,
        owner.workspace,
        admin.user,
        Role::Member,
        None,
    );
    demoted.await.expect("another role");
    clocked.source.pass(9 * DAY);
    due(&clocked).await;
    assert_eq!(shown(&clocked, &owner, first).await.next, None);
    clocked.source.pass(DAY + Duration::from_secs(60));
    due(&clocked).await;
    due(&clocked).await;
    let opened = clocked.entries(&owner, "access_review.opened").await;
    assert_eq!(opened.len(), 2, "by however many it is looked for");
    let next = shown(&clocked, &owner, first)
        .await
        .next
        .expect("the next one");
    let second = shown(&clocked, &owner, next).await;
    assert_eq!(second.previous, Some(first));
    assert_eq!(second.terms.reviewers, BTreeSet::from([owner.caller.user]));
    let lasts = second.terms.due_at.0 - second.created_at.0;
    let before = shown(&clocked, &owner, first).await;
    assert_eq!(lasts, before.terms.due_at.0 - before.created_at.0);
    assert!(second.pinned_at > shown(&clocked, &owner, first).await.pinned_at);
    // Closed early, and nothing follows it any more.
    let asked = &request();
    let closed = clocked
        .service
        .close_review(asked, &owner.caller, owner.workspace, next, true);
    closed.await.expect("closed");
    clocked.source.pass(60 * DAY);
    due(&clocked).await;
    assert_eq!(
        clocked.entries(&owner, "access_review.opened").await.len(),
        2
    );
    clocked.holds().await;
}
