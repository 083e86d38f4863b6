//! The rules of refused attempts: given what was kept, when one is told, then this happens.

use cqrs_es::test::{AggregateTestExecutor, TestFramework};

use super::*;
use crate::domain::testing::{at, organization, user};

/// Reads as a sentence in the tests; becomes the command or the event.
#[derive(Clone)]
struct Told {
    actor: u128,
    action: &'static str,
    target: &'static str,
    code: &'static str,
    minute: i64,
    count: u64,
    repeats: bool,
}

const FIRST: Told = Told {
    actor: 1,
    action: "member.invite",
    target: "ws_1",
    code: "not_permitted",
    minute: 10,
    count: 1,
    repeats: false,
};

impl Told {
    fn command(&self) -> AttemptsCommand {
        AttemptsCommand::Record {
            organization: organization(1),
            actor: Actor::User {
                id: user(self.actor),
            },
            action: self.action.to_owned(),
            target: self.target.to_owned(),
            crew: None,
            environment: None,
            code: self.code.to_owned(),
            minute: self.minute,
            count: self.count,
            repeats: self.repeats,
        }
    }

    fn event(&self) -> AttemptsEvent {
        AttemptsEvent::AttemptRefused {
            organization: organization(1),
            actor: Actor::User {
                id: user(self.actor),
            },
            action: self.action.to_owned(),
            target: self.target.to_owned(),
            crew: None,
            environment: None,
            code: self.code.to_owned(),
            minute: self.minute,
            count: self.count,
            repeats: self.repeats,
        }
    }
}

fn minute(minute: i64) -> Told {
    Told { minute, ..FIRST }
}

fn given(told: &[Told]) -> AggregateTestExecutor<Attempts> {
    TestFramework::with(at(0)).given(told.iter().map(Told::event).collect())
}

fn fold(told: impl IntoIterator<Item = Told>) -> Attempts {
    let mut state = Attempts::default();
    for one in told {
        state.apply(one.event());
    }
    state
}

#[test]
fn an_attempt_is_kept_once() {
    given(&[])
        .when(FIRST.command())
        .then_expect_events(vec![FIRST.event()]);
    given(&[FIRST])
        .when(FIRST.command())
        .then_expect_events(vec![]);
    let counted_again = Told { count: 9, ..FIRST };
    given(&[FIRST])
        .when(counted_again.command())
        .then_expect_events(vec![]);
}

#[test]
fn what_differs_in_anything_is_another_attempt() {
    for other in [
        Told { actor: 2, ..FIRST },
        Told {
            action: "member.remove",
            ..FIRST
        },
        Told {
            target: "ws_2",
            ..FIRST
        },
        Told {
            code: "not_found",
            ..FIRST
        },
        minute(11),
        Told {
            repeats: true,
            count: 4,
            ..FIRST
        },
    ] {
        given(&[FIRST])
            .when(other.command())
            .then_expect_events(vec![other.event()]);
    }
}

#[test]
fn repeats_of_a_minute_arrive_when_the_next_has_begun_and_count_once() {
    let repeats = Told {
        repeats: true,
        count: 5,
        ..FIRST
    };
    given(&[FIRST, minute(11)])
        .when(repeats.command())
        .then_expect_events(vec![repeats.event()]);
    given(&[FIRST, minute(11), repeats.clone()])
        .when(repeats.command())
        .then_expect_events(vec![]);
}

#[test]
fn what_is_older_than_both_minutes_is_never_kept_again() {
    given(&[FIRST, minute(11), minute(12)])
        .when(FIRST.command())
        .then_expect_events(vec![]);
    // A minute in between is new, and the older of the two makes room for it.
    let between = minute(15);
    given(&[minute(10), minute(20)])
        .when(between.command())
        .then_expect_events(vec![between.event()]);
    given(&[minute(10), minute(20), between])
        .when(minute(10).command())
        .then_expect_events(vec![]);
}

#[test]
fn memory_stays_bounded() {
    let state = fold((0..100).map(minute));
    assert_eq!(state.minutes.keys().copied().collect::<Vec<_>>(), [98, 99]);
    let many = (0..ATTEMPTS_PER_MINUTE_MAX as u128 + 1).map(|actor| Told { actor, ..FIRST });
    let state = fold(many);
    assert_eq!(state.minutes[&10].len(), ATTEMPTS_PER_MINUTE_MAX);
    assert!(state.weight_bytes() > Attempts::default().weight_bytes());
}

#[test]
fn it_belongs_to_the_organization_and_survives_a_snapshot() {
    assert_eq!(Attempts::default().organization(), None);
    let mut state = fold([FIRST, minute(11)]);
    state.positioned(&FIRST.event(), 3);
    assert_eq!(state.organization(), Some(organization(1)));
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<Attempts>(&text).unwrap(), state);
}

#[test]
fn an_event_is_named_as_its_payload_is_tagged() {
    let payload = serde_json::to_value(FIRST.event()).unwrap();
    assert!(payload.get(FIRST.event().event_type()).is_some());
}
