//! The rules of a promotion, given what happened.

use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::*;
use crate::domain::{
    ids::{CrewId, KeyId, PromotionId},
    testing::{at, organization, user, workspace},
};

type Rules = TestFramework<Promotion>;

fn rules() -> Rules {
    Rules::with(at(1_000))
}

fn target() -> CrewPlace {
    CrewPlace {
        id: CrewId::from_uuid(Uuid::from_u128(7)),
        environment: Environment::Production,
    }
}

fn review(target_version: u64, byte: u8) -> Review {
    let (digest, size) = (Digest([byte; 32]), 2);
    Review {
        target_version,
        bundle_digest: digest,
        include: None,
        plan: Content { digest, size },
        added: 1,
        changed: 0,
        removed: 0,
    }
}

fn terms(approvals_needed: u8, self_approval: bool) -> ApprovalTerms {
    ApprovalTerms {
        approvals_needed,
        self_approval,
    }
}

/// The newest state: everybody who has approved still may.
fn now(target_version: u64, terms: ApprovalTerms) -> Circumstances {
    Circumstances {
        target_version,
        terms,
        entitled: (1..10).map(user).collect(),
    }
}

fn proposed(terms: ApprovalTerms) -> PromotionEvent {
    PromotionEvent::PromotionProposed {
        promotion: PromotionId::from_uuid(Uuid::from_u128(1)),
        workspace: workspace(1),
        organization: organization(1),
        source: PromotionSource::Bundle {},
        target: target(),
        review: review(3, 1),
        terms,
        proposed_by: Actor::User { id: user(1) },
        proposers: vec![user(1)],
    }
}

fn approved(by: u128, suffices: bool) -> PromotionEvent {
    PromotionEvent::PromotionApproved {
        target: target().id,
        user: user(by),
        review: Digest([1; 32]),
        suffices,
    }
}

fn approve(by: u128, now: Circumstances) -> PromotionCommand {
    let user = user(by);
    PromotionCommand::Approve { user, now }
}

fn apply(now: Circumstances) -> PromotionCommand {
    PromotionCommand::Apply {
        user: user(2),
        version: 9,
        scheduled: None,
        now,
    }
}

fn applied() -> PromotionEvent {
    PromotionEvent::PromotionApplied {
        target: target().id,
        user: user(2),
        version: 9,
        scheduled: false,
    }
}

fn roll_back(present: u64, force: bool) -> PromotionCommand {
    PromotionCommand::RollBack {
        user: user(2),
        present,
        version: present + 1,
        force,
    }
}

const ONE: ApprovalTerms = ApprovalTerms {
    approvals_needed: 1,
    self_approval: false,
};

#[test]
fn nobody_approves_what_they_proposed_unless_both_policies_allow_it() {
    for (then, now_is, refused) in [
        (false, false, true),
        (true, false, true),
        (false, true, true),
    ] {
        let rules = rules().given(vec![proposed(terms(1, then))]);
        let decision = rules.when(approve(1, now(3, terms(1, now_is))));
        assert!(refused);
        decision.then_expect_error(Refusal::OwnProposal);
    }
    rules()
        .given(vec![proposed(terms(1, true))])
        .when(approve(1, now(3, terms(1, true))))
        .then_expect_events(vec![approved(1, true)]);
}

#[test]
fn as_many_approve_it_as_the_stricter_policy_asks_for() {
    rules()
        .given(vec![proposed(terms(2, false))])
        .when(approve(2, now(3, ONE)))
        .then_expect_events(vec![approved(2, false)]);
    rules()
        .given(vec![proposed(terms(2, false)), approved(2, false)])
        .when(approve(3, now(3, ONE)))
        .then_expect_events(vec![approved(3, true)]);
    // The same one twice is one.
    rules()
        .given(vec![proposed(terms(2, false)), approved(2, false)])
        .when(approve(2, now(3, ONE)))
        .then_expect_events(vec![]);
    let missing = |given, needed| Refusal::ApprovalsMissing { given, needed };
    rules()
        .given(vec![proposed(ONE), approved(2, true)])
        .when(apply(now(3, terms(2, false))))
        .then_expect_error(missing(1, 2));
    rules()
        .given(vec![proposed(terms(2, false)), approved(2, false)])
        .when(apply(now(3, terms(0, true))))
        .then_expect_error(missing(1, 2));
    rules()
        .given(vec![proposed(ONE), approved(2, true)])
        .when(apply(now(3, ONE)))
        .then_expect_events(vec![applied()]);
}

#[test]
fn who_may_decide_no_more_counts_no_more() {
    let nobody = Circumstances {
        entitled: BTreeSet::new(),
        ..now(3, ONE)
    };
    rules()
        .given(vec![proposed(ONE), approved(2, true)])
        .when(apply(nobody))
        .then_expect_error(Refusal::ApprovalsMissing {
            given: 0,
            needed: 1,
        });
    // Nor does a proposer that was allowed to approve, where the policy does not allow it now.
    rules()
        .given(vec![proposed(terms(1, true)), approved(1, true)])
        .when(apply(now(3, ONE)))
        .then_expect_error(Refusal::ApprovalsMissing {
            given: 0,
            needed: 1,
        });
}

#[test]
fn nobody_applies_a_diff_that_nobody_saw() {
    for command in [
        apply(now(4, ONE)),
        approve(3, now(4, ONE)),
        PromotionCommand::Schedule {
            user: user(2),
            at: Timestamp(5_000),
            now: now(4, ONE),
        },
    ] {
        rules()
            .given(vec![proposed(ONE), approved(2, true)])
            .when(command)
            .then_expect_error(Refusal::CrewMoved);
    }
    let mut promotion = Promotion::default();
    promotion.apply(proposed(ONE));
    assert_eq!(promotion.status_at(3), PromotionStatus::Proposed);
    assert_eq!(promotion.status_at(4), PromotionStatus::Stale);
    promotion.apply(applied());
    assert_eq!(promotion.status_at(11), PromotionStatus::Applied);
}

#[test]
fn a_new_form_is_approved_anew_and_not_by_who_made_it() {
    let refreshed = PromotionEvent::PromotionRefreshed {
        target: target().id,
        source: PromotionSource::Bundle {},
        review: review(5, 2),
        terms: terms(2, false),
        refreshed_by: Actor::User { id: user(2) },
        proposers: vec![user(2)],
    };
    let refresh = PromotionCommand::Refresh {
        source: PromotionSource::Bundle {},
        review: review(5, 2),
        terms: ONE,
        refreshed_by: Actor::User { id: user(2) },
        proposers: vec![user(2)],
    };
    // The stricter of both policies stays.
    rules()
        .given(vec![proposed(terms(2, true)), approved(3, false)])
        .when(refresh)
        .then_expect_events(vec![refreshed.clone()]);
    let there = vec![proposed(terms(2, true)), approved(3, false), refreshed];
    rules()
        .given(there.clone())
        .when(apply(now(5, ONE)))
        .then_expect_error(Refusal::ApprovalsMissing {
            given: 0,
            needed: 2,
        });
    for own in [1, 2] {
        rules()
            .given(there.clone())
            .when(approve(own, now(5, ONE)))
            .then_expect_error(Refusal::OwnProposal);
    }
    rules()
        .given(there)
        .when(approve(3, now(5, ONE)))
        .then_expect_events(vec![PromotionEvent::PromotionApproved {
            target: target().id,
            user: user(3),
            review: Digest([2; 32]),
            suffices: false,
        }]);
}

#[test]
fn what_is_over_stays_over() {
    let over = [
        PromotionEvent::PromotionRejected {
            target: target().id,
            user: user(2),
        },
        PromotionEvent::PromotionCancelled {
            target: target().id,
            cancelled_by: Actor::User { id: user(1) },
        },
        applied(),
    ];
    for (event, status) in over.into_iter().zip(["rejected", "cancelled", "applied"]) {
        let there = vec![proposed(ONE), approved(2, true), event];
        for command in [
            apply(now(3, ONE)),
            approve(3, now(3, ONE)),
            PromotionCommand::Reject { user: user(3) },
            PromotionCommand::Cancel {
                actor: Actor::User { id: user(1) },
                decides: true,
            },
        ] {
            rules()
                .given(there.clone())
                .when(command)
                .then_expect_error(Refusal::PromotionNotOpen { status });
        }
    }
    rules()
        .given(vec![proposed(ONE)])
        .when(roll_back(9, true))
        .then_expect_error(Refusal::PromotionNotApplied { status: "proposed" });
}

#[test]
fn it_is_taken_back_by_who_proposed_it_or_decides() {
    let cancel = |actor, decides| PromotionCommand::Cancel { actor, decides };
    let key = Actor::ApiKey {
        id: KeyId::from_uuid(Uuid::from_u128(5)),
    };
    for actor in [key, Actor::User { id: user(4) }] {
        rules()
            .given(vec![proposed(ONE)])
            .when(cancel(actor, false))
            .then_expect_error(Refusal::PromotionOfAnother);
        rules()
            .given(vec![proposed(ONE)])
            .when(cancel(actor, true))
            .then_expect_events(vec![PromotionEvent::PromotionCancelled {
                target: target().id,
                cancelled_by: actor,
            }]);
    }
}

#[test]
fn a_schedule_is_met_or_ended_once() {
    let scheduled = |at| PromotionEvent::PromotionScheduled {
        target: target().id,
        at: Timestamp(at),
        user: user(2),
    };
    let schedule = |at| PromotionCommand::Schedule {
        user: user(2),
        at: Timestamp(at),
        now: now(3, ONE),
    };
    let there = vec![proposed(ONE), approved(2, true)];
    rules()
        .given(there.clone())
        .when(schedule(5_000))
        .then_expect_events(vec![scheduled(5_000)]);
    let days = 91 * 86_400 * 1_000_000;
    for wrong in [999, 1_000, days] {
        rules()
            .given(there.clone())
            .when(schedule(wrong))
            .then_expect_error(Refusal::WrongValue {
                field: "at",
                detail: "a time from now on, at most 90 days ahead",
            });
    }
    let there = [there, vec![scheduled(5_000)]].concat();
    let due = |at| PromotionCommand::Apply {
        user: user(2),
        version: 9,
        scheduled: Some(Timestamp(at)),
        now: now(3, ONE),
    };
    // One that was meant for another time does nothing.
    rules()
        .given(there.clone())
        .when(due(4_000))
        .then_expect_events(vec![]);
    let met = PromotionEvent::PromotionApplied {
        target: target().id,
        user: user(2),
        version: 9,
        scheduled: true,
    };
    rules()
        .given(there.clone())
        .when(due(5_000))
        .then_expect_events(vec![met.clone()]);
    rules()
        .given([there.clone(), vec![met]].concat())
        .when(due(5_000))
        .then_expect_events(vec![]);
    let (at, why) = (Timestamp(5_000), ScheduleEnd::RightsEnded);
    let end = PromotionCommand::EndSchedule { at, why };
    let ended = PromotionEvent::PromotionScheduleEnded {
        target: target().id,
        at,
        why,
    };
    rules()
        .given(there.clone())
        .when(end.clone())
        .then_expect_events(vec![ended.clone()]);
    rules()
        .given([there, vec![ended]].concat())
        .when(end)
        .then_expect_events(vec![]);
}

#[test]
fn later_changes_go_only_by_force() {
    let there = vec![proposed(ONE), approved(2, true), applied()];
    let rolled_back = |version, forced| PromotionEvent::PromotionRolledBack {
        target: target().id,
        user: user(2),
        version,
        forced,
    };
    rules()
        .given(there.clone())
        .when(roll_back(9, false))
        .then_expect_events(vec![rolled_back(10, false)]);
    rules()
        .given(there.clone())
        .when(roll_back(12, false))
        .then_expect_error(Refusal::ChangedSince { changes: vec![] });
    rules()
        .given(there.clone())
        .when(roll_back(12, true))
        .then_expect_events(vec![rolled_back(13, true)]);
    rules()
        .given([there, vec![rolled_back(10, false)]].concat())
        .when(roll_back(10, true))
        .then_expect_error(Refusal::PromotionNotApplied {
            status: "rolled_back",
        });
}

#[test]
fn it_is_verified_where_every_check_passed() {
    let check = |outcome| CheckResult {
        name: "A call is answered".to_owned(),
        outcome,
    };
    let by = Actor::User { id: user(3) };
    for (outcomes, verified) in [
        (vec![CheckOutcome::Passed, CheckOutcome::Failed], false),
        (vec![CheckOutcome::Passed], true),
    ] {
        let checks: Vec<_> = outcomes.into_iter().map(check).collect();
        rules()
            .given(vec![proposed(ONE), approved(2, true), applied()])
            .when(PromotionCommand::Check {
                checks: checks.clone(),
                evidence: None,
                checked_by: by,
            })
            .then_expect_events(vec![PromotionEvent::PromotionChecked {
                target: target().id,
                checks,
                evidence: None,
                verified,
                checked_by: by,
            }]);
    }
}
