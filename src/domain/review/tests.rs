//! The rules of a campaign.

use std::collections::BTreeSet;

use cqrs_es::{Aggregate, test::TestFramework};
use uuid::Uuid;

use super::{
    DecideAccess, Decision, Item, Items, Newest, RecurrenceEnd, Review, ReviewCommand, ReviewEvent,
    ReviewTerms, Reviewed, Settlement, Task, Undecided,
};
use crate::domain::{
    Refusal, Stream, Timestamp,
    access::held,
    api_keys::{KeyCreated, KeyRotated, KeyTerms},
    authority::Role,
    environment::Environment,
    ids::{KeyId, PrincipalId, ReviewId, UserId},
    organization::Organization,
    testing::{at, organization, sealed, user, workspace},
    workspace::{MembershipSource, Workspace, WorkspaceEvent},
};

const DUE: i64 = 1_000_000;

fn review() -> ReviewId {
    ReviewId::from_uuid(Uuid::from_u128(1))
}

fn key_id(number: u128) -> KeyId {
    KeyId::from_uuid(Uuid::from_u128(number))
}

fn key() -> PrincipalId {
    PrincipalId::Key(key_id(9))
}

fn person(number: u128) -> PrincipalId {
    PrincipalId::User(user(number))
}

fn terms() -> ReviewTerms {
    ReviewTerms {
        name: "Quarterly".to_owned(),
        principals: BTreeSet::from(Reviewed::ALL),
        environment: None,
        reviewers: BTreeSet::from([user(1), user(2)]),
        due_at: Timestamp(DUE),
        undecided: Undecided::Keep,
        recurs_after_days: Some(90),
    }
}

fn opened_on(terms: ReviewTerms) -> ReviewEvent {
    ReviewEvent::ReviewOpened {
        review: review(),
        workspace: workspace(1),
        organization: organization(1),
        terms,
        opened_by: user(1),
        opened_at: Timestamp(0),
        pinned_at: 7,
        items: 3,
        previous: None,
    }
}

fn opened() -> ReviewEvent {
    opened_on(terms())
}

fn open(terms: ReviewTerms) -> ReviewCommand {
    ReviewCommand::Open {
        review: review(),
        workspace: workspace(1),
        organization: organization(1),
        terms,
        actor: user(1),
        pinned_at: 7,
        items: 3,
        previous: None,
    }
}

fn kind_of(item: PrincipalId) -> Reviewed {
    match item {
        PrincipalId::User(_) => Reviewed::Members,
        PrincipalId::Key(_) => Reviewed::ApiKeys,
    }
}

fn asked(actor: u128, item: PrincipalId, decision: Decision, subjects: &[u128]) -> DecideAccess {
    DecideAccess {
        actor: user(actor),
        item,
        kind: kind_of(item),
        decision,
        seen_at: 5,
        present: Some(5),
        subjects: subjects.iter().map(|number| user(*number)).collect(),
        reason: sealed("why"),
        findings: vec![],
        last_used_at: None,
    }
}

fn decide(actor: u128, item: PrincipalId, decision: Decision, subjects: &[u128]) -> ReviewCommand {
    ReviewCommand::Decide(asked(actor, item, decision, subjects))
}

fn decided(by: u128, item: PrincipalId, decision: Decision, again: bool) -> ReviewEvent {
    ReviewEvent::AccessDecided {
        item,
        decision,
        seen_at: 5,
        decided_by: user(by),
        reason: sealed("why"),
        findings: vec![],
        last_used_at: None,
        again,
    }
}

fn closing(by: Option<u128>) -> ReviewEvent {
    ReviewEvent::ReviewClosing {
        closed_by: by.map(user),
    }
}

fn settled(item: PrincipalId, outcome: Settlement) -> ReviewEvent {
    ReviewEvent::AccessSettled {
        item,
        decision: Decision::Revoke,
        outcome,
        applied_by: None,
    }
}

fn closed() -> ReviewEvent {
    ReviewEvent::ReviewClosed {
        timed_out: false,
        kept: 3,
        applied: 0,
        not_applied: 0,
    }
}

fn given(events: Vec<ReviewEvent>, now: i64) -> cqrs_es::test::AggregateTestExecutor<Review> {
    TestFramework::<Review>::with(at(now)).given(events)
}

#[test]
fn a_campaign_opens_once_and_on_terms_that_can_be_met() {
    given(vec![], 0)
        .when(open(terms()))
        .then_expect_events(vec![opened()]);
    given(vec![opened()], 0)
        .when(open(terms()))
        .then_expect_error(Refusal::AlreadyExists { what: "review" });
    let day: i64 = 24 * 3_600 * 1_000_000;
    let due_at = |due_at| ReviewTerms {
        due_at: Timestamp(due_at),
        ..terms()
    };
    let nobody = ReviewTerms {
        reviewers: BTreeSet::new(),
        ..terms()
    };
    let nothing = ReviewTerms {
        principals: BTreeSet::new(),
        ..terms()
    };
    let never = ReviewTerms {
        recurs_after_days: Some(0),
        ..terms()
    };
    for (terms, field, detail) in [
        (due_at(0), "due_at", "this must be in the future"),
        (due_at(366 * day + 1), "due_at", "at most 366 days away"),
        (
            due_at(90 * day + 1),
            "recurrence",
            "the next one opens when this one is over, not before",
        ),
        (never, "recurrence", "1 to 366 days"),
        (nobody, "reviewers", "1 to 50 people"),
        (
            nothing,
            "scope",
            "name at least one kind of access to review",
        ),
    ] {
        given(vec![], 0)
            .when(open(terms))
            .then_expect_error(Refusal::WrongValue { field, detail });
    }
}

#[test]
fn nobody_decides_about_themselves_by_any_door() {
    for (item, subjects) in [(person(2), vec![]), (key(), vec![4, 2])] {
        given(vec![opened()], 1)
            .when(decide(2, item, Decision::Keep, &subjects))
            .then_expect_error(Refusal::SelfReview { item });
    }
    given(vec![opened()], 1)
        .when(decide(1, key(), Decision::Revoke, &[4, 2]))
        .then_expect_events(vec![decided(1, key(), Decision::Revoke, false)]);
}

#[test]
fn reviewers_alone_decide_and_only_while_it_is_open() {
    given(vec![opened()], 1)
        .when(decide(3, person(4), Decision::Keep, &[]))
        .then_expect_error(Refusal::NotReviewer);
    for (events, now) in [(vec![opened()], DUE), (vec![opened(), closing(Some(1))], 1)] {
        given(events, now)
            .when(decide(1, person(4), Decision::Keep, &[]))
            .then_expect_error(Refusal::ReviewNotOpen { status: "closing" });
    }
    given(vec![opened(), closing(Some(1)), closed()], 1)
        .when(decide(1, person(4), Decision::Keep, &[]))
        .then_expect_error(Refusal::ReviewNotOpen { status: "closed" });
}

#[test]
fn only_what_was_seen_is_decided_about() {
    for present in [None, Some(6)] {
        let moved = DecideAccess {
            present,
            ..asked(1, person(4), Decision::Keep, &[])
        };
        given(vec![opened()], 1)
            .when(ReviewCommand::Decide(moved))
            .then_expect_error(Refusal::AccessChanged { item: person(4) });
    }
}

#[test]
fn only_a_member_is_given_another_role() {
    let change = Decision::Change { role: Role::Viewer };
    given(vec![opened()], 1)
        .when(decide(1, key(), change, &[]))
        .then_expect_error(Refusal::WrongValue {
            field: "decisions",
            detail: "only a member's role is changed; anything else is kept or revoked",
        });
}

#[test]
fn a_later_decision_replaces_an_earlier_one() {
    let change = Decision::Change { role: Role::Viewer };
    given(
        vec![opened(), decided(1, person(4), Decision::Keep, false)],
        1,
    )
    .when(decide(2, person(4), change, &[]))
    .then_expect_events(vec![decided(2, person(4), change, true)]);
}

#[test]
fn reviewers_are_reminded_once_and_never_of_more_days_than_are_left() {
    let remind = |days_left| ReviewCommand::Remind { days_left };
    let reminded = ReviewEvent::ReviewReminded {
        days_left: 3,
        undecided: 2,
        due_at: Timestamp(DUE),
    };
    let events = vec![opened(), decided(1, person(4), Decision::Keep, false)];
    given(events.clone(), 1)
        .when(remind(3))
        .then_expect_events(vec![reminded.clone()]);
    let told = [events, vec![reminded]].concat();
    for days in [3, 7] {
        given(told.clone(), 1)
            .when(remind(days))
            .then_expect_events(vec![]);
    }
    given(told, DUE).when(remind(1)).then_expect_events(vec![]);
}

#[test]
fn closing_twice_is_closing_once() {
    let begin = |user| ReviewCommand::BeginClosing { actor: Some(user) };
    given(vec![opened()], 1)
        .when(begin(user(2)))
        .then_expect_events(vec![closing(Some(2))]);
    given(vec![opened(), closing(Some(2))], 1)
        .when(begin(user(1)))
        .then_expect_events(vec![]);
    given(vec![opened(), closing(Some(2)), closed()], 1)
        .when(begin(user(1)))
        .then_expect_events(vec![]);
    let settle = || ReviewCommand::Settle {
        item: person(4),
        decision: Decision::Revoke,
        outcome: Settlement::Applied,
        applied_by: None,
    };
    let done = settled(person(4), Settlement::Applied);
    given(vec![opened(), closing(Some(2))], 1)
        .when(settle())
        .then_expect_events(vec![done.clone()]);
    given(vec![opened(), closing(Some(2)), done], 1)
        .when(settle())
        .then_expect_events(vec![]);
}

#[test]
fn time_closes_it_and_only_when_it_has_come() {
    let begin = || ReviewCommand::BeginClosing { actor: None };
    given(vec![opened()], DUE - 1)
        .when(begin())
        .then_expect_events(vec![]);
    given(vec![opened()], DUE)
        .when(begin())
        .then_expect_events(vec![closing(None)]);
}

#[test]
fn what_changed_is_shown_again_while_there_is_time() {
    let events = |by: Option<u128>| {
        vec![
            opened(),
            decided(1, person(4), Decision::Revoke, false),
            decided(1, person(5), Decision::Revoke, false),
            closing(by),
            settled(person(4), Settlement::Changed),
            settled(person(5), Settlement::Applied),
        ]
    };
    let reopened = ReviewEvent::ReviewReopened {
        returned: vec![person(4)],
    };
    given(events(Some(1)), 1)
        .when(ReviewCommand::FinishClosing)
        .then_expect_events(vec![reopened.clone()]);
    given(events(None), DUE)
        .when(ReviewCommand::FinishClosing)
        .then_expect_events(vec![ReviewEvent::ReviewClosed {
            timed_out: true,
            kept: 1,
            applied: 1,
            not_applied: 1,
        }]);
    // It is decided about anew; what was carried out is not.
    let again = [events(Some(1)), vec![reopened]].concat();
    given(again.clone(), 1)
        .when(decide(1, person(4), Decision::Keep, &[]))
        .then_expect_events(vec![decided(1, person(4), Decision::Keep, false)]);
    given(again, 1)
        .when(decide(1, person(5), Decision::Keep, &[]))
        .then_expect_error(Refusal::AccessSettled { item: person(5) });
}

#[test]
fn it_is_told_since_when_it_is_open_again() {
    let reopened = ReviewEvent::ReviewReopened {
        returned: vec![person(4)],
    };
    let events = vec![opened(), closing(Some(1)), reopened];
    assert!(!folded(events[..2].to_vec()).is_reopened_since(0));
    assert!(folded(events.clone()).is_reopened_since(101));
    assert!(!folded(events).is_reopened_since(102));
}

#[test]
fn the_next_one_opens_once_when_it_is_over_and_its_time_has_come() {
    let next = ReviewId::from_uuid(Uuid::from_u128(2));
    let recur = || ReviewCommand::Recur { next: Ok(next) };
    let after = 90 * 24 * 3_600 * 1_000_000;
    let over = vec![opened(), closing(Some(1)), closed()];
    let recurred = ReviewEvent::ReviewRecurred {
        next: Some(next),
        ended: None,
    };
    let why = RecurrenceEnd::TooMuchAccess;
    let ended = ReviewEvent::ReviewRecurred {
        next: None,
        ended: Some(why),
    };
    given(vec![opened()], after)
        .when(recur())
        .then_expect_events(vec![]);
    given(over.clone(), after - 1)
        .when(recur())
        .then_expect_events(vec![]);
    given(over.clone(), after)
        .when(recur())
        .then_expect_events(vec![recurred.clone()]);
    given(over.clone(), after)
        .when(ReviewCommand::Recur { next: Err(why) })
        .then_expect_events(vec![ended.clone()]);
    let stop = ReviewCommand::StopRecurring { actor: user(1) };
    let stopped = ReviewEvent::ReviewRecurrenceStopped {
        stopped_by: user(1),
    };
    given(over.clone(), after)
        .when(stop)
        .then_expect_events(vec![stopped.clone()]);
    for done in [recurred, ended, stopped] {
        given([over.clone(), vec![done]].concat(), after)
            .when(recur())
            .then_expect_events(vec![]);
    }
}

/// A workspace whose events have the positions from 1.
fn team(events: Vec<WorkspaceEvent>) -> Workspace {
    let mut team = Workspace::default();
    let created = WorkspaceEvent::WorkspaceCreated {
        workspace: workspace(1),
        organization: organization(1),
        name: "Acme".to_owned(),
        created_by: user(1),
    };
    for (event, position) in std::iter::once(created).chain(events).zip(1..) {
        team.apply(event.clone());
        team.positioned(&event, position);
    }
    team
}

fn joined(number: u128) -> WorkspaceEvent {
    WorkspaceEvent::MemberJoined {
        user: user(number),
        role: Role::Admin,
        source: MembershipSource::Creation,
    }
}

fn changed(number: u128, from: Role, to: Role) -> WorkspaceEvent {
    WorkspaceEvent::MemberRoleChanged {
        user: user(number),
        from,
        to,
        changed_by: user(1),
    }
}

fn made(key: u128, by: u128, at: i64, before: Option<u128>) -> WorkspaceEvent {
    WorkspaceEvent::ApiKeyCreated(KeyCreated {
        key: key_id(key),
        environment: Some(Environment::Production),
        terms: KeyTerms {
            name: "deploy".to_owned(),
            scopes: BTreeSet::new(),
            crews: None,
            expires_at: None,
            allowed_cidrs: vec![],
        },
        token_hash: String::new(),
        prefix: String::new(),
        created_by: user(by),
        created_at: Timestamp(at),
        rotated_from: before.map(key_id),
    })
}

fn rotated(key: u128, successor: u128, by: u128) -> WorkspaceEvent {
    WorkspaceEvent::ApiKeyRotated(KeyRotated {
        key: key_id(key),
        name: "deploy".to_owned(),
        environment: Some(Environment::Production),
        successor: key_id(successor),
        expires_at: Timestamp(1_000),
        rotated_by: user(by),
    })
}

fn pinned(team: &Workspace, at: i64) -> Items {
    let at = Timestamp(at);
    let held = held(team, &Organization::default(), at);
    Items::pinned(team, &held, &terms(), at)
}

fn access(team: &Workspace, items: &Items, id: PrincipalId, now: i64) -> Option<super::Access> {
    let item: Item = *items.get(id).expect("it is in the campaign");
    Newest::of(team, items, Timestamp(now)).access(id, &item)
}

#[test]
fn access_is_told_from_access_that_came_later() {
    let events = vec![joined(1), joined(4)];
    let items = pinned(&team(events.clone()), 10);
    assert_eq!((items.len(), items.get(key())), (2, None));
    let before = access(&team(events.clone()), &items, person(4), 11);
    assert_eq!(before.map(|access| access.mark), Some(3));
    let later = [events.clone(), vec![changed(4, Role::Admin, Role::Viewer)]].concat();
    let after = access(&team(later), &items, person(4), 11);
    assert_eq!(after.map(|access| access.mark), Some(4));
    let left = WorkspaceEvent::MemberLeft {
        user: user(4),
        role: Role::Admin,
    };
    let gone = team([events, vec![left]].concat());
    assert_eq!(access(&gone, &items, person(4), 11), None);
}

#[test]
fn who_rotates_a_key_does_not_take_it_out_of_the_campaign() {
    let events = vec![joined(1), made(9, 4, 5, None)];
    let items = pinned(&team(events.clone()), 10);
    let grown = vec![rotated(9, 10, 2), made(10, 2, 20, Some(9))];
    let after = team([events, grown].concat());
    let now = access(&after, &items, key(), 21).expect("it lives");
    assert_eq!(now.keys, [key_id(9), key_id(10)]);
    assert_eq!(now.subjects, BTreeSet::from([user(4), user(2)]));
    assert_eq!(now.mark, 5, "nobody has looked at the successor");
    // When its grace is over, the successor is what is left of it.
    let later = access(&after, &items, key(), 1_001).expect("it lives");
    assert_eq!(later.keys, [key_id(10)]);
}

#[test]
fn keys_that_were_rotated_before_the_pin_are_decided_about_one_by_one() {
    let events = vec![
        joined(1),
        made(9, 4, 5, None),
        rotated(9, 10, 2),
        made(10, 2, 6, Some(9)),
    ];
    let items = pinned(&team(events.clone()), 10);
    let grown = vec![rotated(10, 11, 2), made(11, 2, 20, Some(10))];
    let after = team([events, grown].concat());
    let old = access(&after, &items, key(), 21).expect("it lives");
    assert_eq!(old.keys, [key_id(9)]);
    let newer = access(&after, &items, PrincipalId::Key(key_id(10)), 21);
    assert_eq!(newer.expect("it lives").keys, [key_id(10), key_id(11)]);
}

/// A campaign whose events are at 100 and the positions after it.
fn folded(events: Vec<ReviewEvent>) -> Review {
    let mut review = Review::default();
    for (event, position) in events.into_iter().zip(100..) {
        review.apply(event.clone());
        review.positioned(&event, position);
    }
    review
}

fn task(events: Vec<ReviewEvent>, mark: Option<u64>) -> Option<Task> {
    let review = folded(events);
    let team = team(vec![joined(1), joined(4)]);
    let items = pinned(&team, 10);
    let item = items.get(person(4)).expect("it is in the campaign");
    let access = access(&team, &items, person(4), 11);
    let access = access.and_then(|access| {
        Some(super::Access {
            mark: mark?,
            ..access
        })
    });
    review.task(person(4), item, access)
}

fn applied(decision: Decision, by: &[u128], position: u64) -> Option<(Decision, Vec<UserId>, u64)> {
    Some((
        decision,
        by.iter().map(|number| user(*number)).collect(),
        position,
    ))
}

fn outcome(task: Option<Task>) -> Option<Settlement> {
    match task {
        Some(Task::Note { outcome, .. }) => Some(outcome),
        Some(Task::Apply { .. }) | None => None,
    }
}

fn asked_of(task: Option<Task>) -> Option<(Decision, Vec<UserId>, u64)> {
    match task {
        Some(Task::Apply {
            decision,
            by,
            position,
            ..
        }) => Some((decision, by, position)),
        Some(Task::Note { .. }) | None => None,
    }
}

#[test]
fn a_decision_is_carried_out_on_what_was_seen_and_on_nothing_else() {
    let of = |decision| {
        vec![
            opened(),
            decided(2, person(4), decision, false),
            closing(None),
        ]
    };
    // It was seen at 5.
    assert_eq!(task(of(Decision::Keep), Some(5)), None);
    assert_eq!(
        asked_of(task(of(Decision::Revoke), Some(5))),
        applied(Decision::Revoke, &[2], 101)
    );
    for decision in [Decision::Keep, Decision::Revoke] {
        assert_eq!(
            outcome(task(of(decision), Some(6))),
            Some(Settlement::Changed)
        );
        assert_eq!(outcome(task(of(decision), None)), Some(Settlement::Gone));
    }
    let done = [
        of(Decision::Revoke),
        vec![settled(person(4), Settlement::Applied)],
    ]
    .concat();
    assert_eq!(task(done, Some(5)), None);
}

#[test]
fn what_nobody_decided_goes_by_the_rule_and_by_nobody_whom_it_is_about() {
    assert_eq!(task(vec![opened(), closing(None)], Some(3)), None);
    let revokes = |reviewers: &[u128], by| {
        let terms = ReviewTerms {
            undecided: Undecided::Revoke,
            reviewers: reviewers.iter().map(|number| user(*number)).collect(),
            ..terms()
        };
        vec![opened_on(terms), closing(by)]
    };
    // It was pinned at 3.
    assert_eq!(
        asked_of(task(revokes(&[1, 2, 4], Some(4)), Some(3))),
        applied(Decision::Revoke, &[1, 2], 100)
    );
    assert_eq!(
        asked_of(task(revokes(&[2], Some(3)), Some(3))),
        applied(Decision::Revoke, &[3, 1, 2], 100)
    );
    let changed = task(revokes(&[1, 2], None), Some(5));
    assert_eq!(outcome(changed), Some(Settlement::Changed));
}
