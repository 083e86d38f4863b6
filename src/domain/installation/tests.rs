//! The rules of the installation: given, when, then.

use cqrs_es::test::{AggregateTestExecutor, TestFramework};
use uuid::Uuid;

use super::*;
use crate::domain::testing::{at, name};

fn key(number: u128) -> KeyId {
    KeyId::from_uuid(Uuid::from_u128(number))
}

fn secret() -> NewSecret {
    NewSecret {
        hash: "hash".to_owned(),
        prefix: "crew_op_0000".to_owned(),
    }
}

fn create(number: u128, expires_at: Option<i64>) -> InstallationCommand {
    InstallationCommand::CreateKey {
        key: key(number),
        name: name("On call"),
        secret: secret(),
        expires_at: expires_at.map(Timestamp),
    }
}

fn created(number: u128, expires_at: Option<i64>) -> InstallationEvent {
    InstallationEvent::OperatorKeyCreated {
        key: key(number),
        name: "On call".to_owned(),
        token_hash: "hash".to_owned(),
        prefix: "crew_op_0000".to_owned(),
        expires_at: expires_at.map(Timestamp),
    }
}

fn revoked(number: u128) -> InstallationEvent {
    InstallationEvent::OperatorKeyRevoked {
        key: key(number),
        name: "On call".to_owned(),
    }
}

fn given(events: Vec<InstallationEvent>) -> AggregateTestExecutor<Installation> {
    TestFramework::with(at(10)).given(events)
}

#[test]
fn a_key_is_made_and_taken_back_once() {
    given(vec![])
        .when(create(1, None))
        .then_expect_events(vec![created(1, None)]);
    given(vec![created(1, None)])
        .when(InstallationCommand::RevokeKey { key: key(1) })
        .then_expect_events(vec![revoked(1)]);
    given(vec![created(1, None), revoked(1)])
        .when(InstallationCommand::RevokeKey { key: key(1) })
        .then_expect_error(Refusal::NotFound {
            what: "operator's key",
            hidden: false,
        });
}

#[test]
fn there_are_so_many_keys_that_count() {
    let last = OPERATOR_KEYS_MAX as u128;
    let live: Vec<_> = (1..=last).map(|number| created(number, None)).collect();
    let limit = OPERATOR_KEYS_MAX;
    given(live.clone())
        .when(create(0, None))
        .then_expect_error(Refusal::TooManyApiKeys { limit });
    let ended = [live, vec![revoked(1)]].concat();
    given(ended)
        .when(create(0, None))
        .then_expect_events(vec![created(0, None)]);
    let expired = (1..=last).map(|number| created(number, Some(10)));
    given(expired.collect())
        .when(create(0, None))
        .then_expect_events(vec![created(0, None)]);
}

#[test]
fn a_key_counts_until_it_ends() {
    let mut installation = Installation::default();
    for (event, position) in [(created(1, Some(10)), 3), (created(2, None), 4)] {
        installation.apply(event.clone());
        installation.positioned(&event, position);
    }
    let counts = |installation: &Installation, number, now| {
        installation.authorise(key(number), Timestamp(now))
    };
    let link = |number, position| {
        Ok(AuthorityLink::OperatorKey {
            id: key(number),
            position,
        })
    };
    assert_eq!(counts(&installation, 1, 9), link(1, 3));
    assert_eq!(counts(&installation, 1, 10), Err(Refusal::ApiKeyEnded));
    assert_eq!(counts(&installation, 2, 1_000), link(2, 4));
    assert_eq!(counts(&installation, 3, 9), Err(Refusal::ApiKeyEnded));
    installation.apply(revoked(2));
    assert_eq!(counts(&installation, 2, 9), Err(Refusal::ApiKeyEnded));
}
