//! The rules of a campaign.

use std::collections::BTreeSet;

use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::{
    Decision, Review, ReviewCommand, ReviewEvent, ReviewTerms, Reviewed, Settlement, Undecided,
};
use crate::domain::{
    Refusal, Timestamp,
    authority::Role,
    ids::{KeyId, PrincipalId, ReviewId},
    testing::{at, organization, sealed, user, workspace},
};

const DUE: i64 = 1_000_000;

fn review() -> ReviewId {
    ReviewId::from_uuid(Uuid::from_u128(1))
}

fn key() -> PrincipalId {
    PrincipalId::Key(KeyId::from_uuid(Uuid::from_u128(9)))
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

fn opened() -> ReviewEvent {
    ReviewEvent::ReviewOpened {
        review: review(),
        workspace: workspace(1),
        organization: organization(1),
        terms: terms(),
        opened_by: user(1),
        opened_at: Timestamp(0),
        pinned_at: 7,
        items: 3,
        previous: None,
    }
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

fn decide(actor: u128, item: PrincipalId, decision: Decision, subjects: &[u128]) -> ReviewCommand {
    ReviewCommand::Decide {
        actor: user(actor),
        item,
        decision,
        seen_at: 5,
        subjects: subjects.iter().map(|number| user(*number)).collect(),
        reason: sealed("why"),
        findings: vec![],
        last_used_at: None,
    }
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
    ReviewEvent::AccessSettled { item, outcome }
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
    let past = ReviewTerms {
        due_at: Timestamp(0),
        ..terms()
    };
    given(vec![], 0).when(open(past)).then_expect_error(Refusal::WrongValue {
        field: "due_at",
        detail: "this must be in the future",
    });
}

#[test]
fn nobody_decides_about_themselves_by_any_door() {
    for (item, subjects) in [(person(2), vec![]), (key(), vec![4, 2])] {
        given(vec![opened()], 1)
            .when(decide(2, item, Decision::Keep, &subjects))
            .then_expect_error(Refusal::SelfReview);
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
    given(vec![opened()], DUE)
        .when(decide(1, person(4), Decision::Keep, &[]))
        .then_expect_error(Refusal::ReviewNotOpen { status: "closing" });
    given(vec![opened(), closing(Some(1))], 1)
        .when(decide(1, person(4), Decision::Keep, &[]))
        .then_expect_error(Refusal::ReviewNotOpen { status: "closing" });
}

#[test]
fn a_later_decision_replaces_an_earlier_one() {
    let change = Decision::Change { role: Role::Viewer };
    given(vec![opened(), decided(1, person(4), Decision::Keep, false)], 1)
        .when(decide(2, person(4), change, &[]))
        .then_expect_events(vec![decided(2, person(4), change, true)]);
}

#[test]
fn closing_twice_is_closing_once() {
    given(vec![opened()], 1)
        .when(ReviewCommand::BeginClosing { actor: Some(user(2)) })
        .then_expect_events(vec![closing(Some(2))]);
    given(vec![opened(), closing(Some(2))], 1)
        .when(ReviewCommand::BeginClosing { actor: Some(user(1)) })
        .then_expect_events(vec![]);
    let settle = || ReviewCommand::Settle {
        item: person(4),
        outcome: Settlement::Applied,
    };
    given(vec![opened(), closing(Some(2))], 1)
        .when(settle())
        .then_expect_events(vec![settled(person(4), Settlement::Applied)]);
    given(
        vec![opened(), closing(Some(2)), settled(person(4), Settlement::Applied)],
        1,
    )
    .when(settle())
    .then_expect_events(vec![]);
}

#[test]
fn time_closes_it_and_only_when_it_has_come() {
    given(vec![opened()], DUE - 1)
        .when(ReviewCommand::BeginClosing { actor: None })
        .then_expect_events(vec![]);
    given(vec![opened()], DUE)
        .when(ReviewCommand::BeginClosing { actor: None })
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
    given(events(Some(1)), 1)
        .when(ReviewCommand::FinishClosing)
        .then_expect_events(vec![
            ReviewEvent::DecisionReturned { item: person(4) },
            ReviewEvent::ReviewReopened { returned: 1 },
        ]);
    given(events(None), DUE)
        .when(ReviewCommand::FinishClosing)
        .then_expect_events(vec![ReviewEvent::ReviewClosed {
            timed_out: true,
            kept: 1,
            applied: 1,
            not_applied: 1,
        }]);
}
