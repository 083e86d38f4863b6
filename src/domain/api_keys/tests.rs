//! The rules of a ring of keys, and a model of what may be believed of it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::testing::user;

const SECOND: i64 = 1_000_000;

fn key(number: u128) -> KeyId {
    KeyId::from_uuid(Uuid::from_u128(number))
}

fn secret(number: u128) -> NewSecret {
    NewSecret {
        hash: format!("hash {number}"),
        prefix: "crew_prod_abcd".to_owned(),
    }
}

fn terms(expires_at: Option<i64>) -> KeyTerms {
    KeyTerms {
        name: "deploy".to_owned(),
        scopes: BTreeSet::from([KeyScope::AuditRead]),
        expires_at: expires_at.map(Timestamp),
        ..KeyTerms::default()
    }
}

fn create(number: u128, expires_at: Option<i64>) -> KeyCommand {
    KeyCommand::Create {
        key: key(number),
        environment: Some(Environment::Production),
        terms: terms(expires_at),
        secret: secret(number),
        by: user(1),
    }
}

fn rotate(number: u128, successor: u128, grace_seconds: u64) -> KeyCommand {
    KeyCommand::Rotate {
        key: key(number),
        successor: key(successor),
        secret: secret(successor),
        grace_seconds,
        by: user(2),
    }
}

fn revoke(number: u128) -> KeyCommand {
    let by = user(1);
    KeyCommand::Revoke {
        key: key(number),
        by,
    }
}

fn update(number: u128, change: KeyChange) -> KeyCommand {
    KeyCommand::Update {
        key: key(number),
        change,
        by: user(1),
    }
}

/// A ring, driven as its holder drives it.
#[derive(Default)]
struct Driven {
    ring: KeyRing,
    position: u64,
}

impl Driven {
    fn submit(&mut self, command: KeyCommand, now: i64) -> Result<Vec<KeyEvent>, Refusal> {
        let events = self.ring.decide(command, Timestamp(now))?;
        for event in &events {
            self.position += 1;
            self.ring.apply(event.clone());
            if matches!(event, KeyEvent::Created(_) | KeyEvent::Updated(_)) {
                self.ring.positioned(event.key(), self.position);
            }
        }
        Ok(events)
    }

    fn counts(&self, number: u128, now: i64) -> bool {
        let right = KeyRight::Scope(KeyScope::AuditRead);
        let authorised = self.ring.authorise(key(number), right, Timestamp(now));
        authorised.is_ok()
    }
}

#[test]
fn a_key_may_what_its_scopes_say_and_names_what_gave_it() {
    let mut driven = Driven::default();
    driven.submit(create(1, None), 0).unwrap();
    let authorise = |right| driven.ring.authorise(key(1), right, Timestamp(5));
    let link = AuthorityLink::ApiKey {
        id: key(1),
        position: 1,
    };
    assert_eq!(authorise(KeyRight::Every), Ok(link));
    assert_eq!(authorise(KeyRight::Scope(KeyScope::AuditRead)), Ok(link));
    let scope = KeyScope::MembersRead;
    assert_eq!(
        authorise(KeyRight::Scope(scope)),
        Err(Refusal::ScopeMissing { scope })
    );
    assert_eq!(authorise(KeyRight::Never), Err(Refusal::NotForApiKeys));
    assert_eq!(
        driven.ring.authorise(key(2), KeyRight::Every, Timestamp(5)),
        Err(Refusal::ApiKeyEnded)
    );
}

#[test]
fn a_deadline_ends_it_whether_or_not_the_event_is_written() {
    let mut driven = Driven::default();
    driven.submit(create(1, Some(10)), 0).unwrap();
    assert!(driven.counts(1, 9));
    assert!(!driven.counts(1, 10));
    let over = Err(Refusal::ApiKeyNotActive { status: "expired" });
    assert_eq!(driven.submit(revoke(1), 10), over);
    let expire = KeyCommand::Expire { key: key(1) };
    assert_eq!(driven.submit(expire.clone(), 9), Ok(vec![]));
    assert_eq!(
        driven.submit(expire.clone(), 10).map(|events| events.len()),
        Ok(1)
    );
    assert_eq!(driven.submit(expire, 11), over);
}

#[test]
fn a_rotated_key_lives_to_the_end_of_its_grace_beside_its_successor() {
    let mut driven = Driven::default();
    driven.submit(create(1, Some(100 * SECOND)), 0).unwrap();
    driven.submit(rotate(1, 2, 30), 10 * SECOND).unwrap();
    assert!(driven.counts(1, 40 * SECOND - 1));
    assert!(!driven.counts(1, 40 * SECOND));
    // The successor lives as long as the key was meant to.
    assert!(driven.counts(2, 110 * SECOND - 1));
    assert!(!driven.counts(2, 110 * SECOND));
    let successor = driven.ring.get(key(2)).unwrap();
    assert_eq!(successor.terms.scopes, terms(None).scopes);
    assert_eq!(successor.environment, Some(Environment::Production));
    assert_eq!(
        driven.submit(rotate(1, 3, 30), 11 * SECOND),
        Err(Refusal::ApiKeyNotActive { status: "rotating" })
    );
}

#[test]
fn without_grace_it_ends_at_once_and_grace_never_prolongs() {
    let mut driven = Driven::default();
    driven.submit(create(1, None), 0).unwrap();
    driven.submit(rotate(1, 2, 0), 10).unwrap();
    assert!(!driven.counts(1, 10));
    driven.submit(create(3, Some(20 * SECOND)), 0).unwrap();
    driven
        .submit(rotate(3, 4, GRACE_SECONDS_MAX), SECOND)
        .unwrap();
    assert!(!driven.counts(3, 20 * SECOND));
    // What is asked for beyond a week is a week.
    driven.submit(create(5, None), 0).unwrap();
    driven.submit(rotate(5, 6, u64::MAX), 0).unwrap();
    let week = i64::try_from(GRACE_SECONDS_MAX).unwrap() * SECOND;
    assert!(driven.counts(5, week - 1));
    assert!(!driven.counts(5, week));
}

#[test]
fn a_change_that_changes_nothing_says_nothing() {
    let mut driven = Driven::default();
    driven.submit(create(1, None), 0).unwrap();
    let same = KeyChange {
        name: Some("deploy".to_owned()),
        ..KeyChange::default()
    };
    assert_eq!(driven.submit(update(1, same), 1), Ok(vec![]));
    let scopes = KeyChange {
        scopes: Some(BTreeSet::new()),
        ..KeyChange::default()
    };
    assert_eq!(driven.submit(update(1, scopes), 1).unwrap().len(), 1);
    assert!(!driven.counts(1, 2), "its scope was taken");
    driven.submit(rotate(1, 2, 60), 3).unwrap();
    let longer = KeyChange {
        expires_at: Some(None),
        ..KeyChange::default()
    };
    assert_eq!(
        driven.submit(update(1, longer), 4),
        Err(Refusal::ApiKeyNotActive { status: "rotating" })
    );
}

#[test]
fn there_are_so_many_and_no_more() {
    let mut driven = Driven::default();
    for number in 0..LIVE_KEYS_MAX as u128 {
        driven.submit(create(number, None), 0).unwrap();
    }
    let limit = LIVE_KEYS_MAX;
    let full = Err(Refusal::TooManyApiKeys { limit });
    assert_eq!(driven.submit(create(5_000, None), 0), full);
    assert_eq!(driven.submit(rotate(1, 5_000, 0), 0), full);
    driven.submit(revoke(1), 0).unwrap();
    driven.submit(create(5_000, None), 0).unwrap();
    let again = Err(Refusal::AlreadyExists { what: "api key" });
    assert_eq!(driven.submit(revoke(2), 0).map(|_| ()), Ok(()));
    assert_eq!(driven.submit(create(1, None), 0), again);
}

#[test]
fn addresses_are_inside_their_ranges() {
    let range = |text: &str| text.parse::<AddressRange>();
    for wrong in ["", "10.0.0.1/8", "10.0.0.0/33", "x", "2001:db8::1/32"] {
        assert_eq!(range(wrong), Err(InvalidAddressRange), "{wrong}");
    }
    let terms = KeyTerms {
        allowed_cidrs: vec![
            range("203.0.113.0/24").unwrap(),
            range("2001:db8::/32").unwrap(),
            range("192.0.2.7").unwrap(),
        ],
        ..KeyTerms::default()
    };
    for (address, inside) in [
        ("203.0.113.9", true),
        ("203.0.114.9", false),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("2001:db8:1::1", true),
        ("2001:db9::1", false),
        ("::ffff:203.0.113.9", true),
    ] {
        let address = address.parse().unwrap();
        assert_eq!(terms.allow_address(Some(address)), inside, "{address}");
    }
    assert!(!terms.allow_address(None));
    assert!(KeyTerms::default().allow_address(None));
}

/// What is tried of a few keys, by their numbers.
#[derive(Debug, Clone)]
enum Attempt {
    Create { lifetime: Option<u8> },
    Rotate { which: u8, grace_seconds: u8 },
    Revoke { which: u8 },
    Expire { which: u8 },
    Prolong { which: u8, by: u8 },
    Wait { seconds: u8 },
}

fn an_attempt() -> impl Strategy<Value = Attempt> {
    prop_oneof![
        any::<Option<u8>>().prop_map(|lifetime| Attempt::Create { lifetime }),
        (any::<u8>(), any::<u8>()).prop_map(|(which, grace_seconds)| Attempt::Rotate {
            which,
            grace_seconds
        }),
        any::<u8>().prop_map(|which| Attempt::Revoke { which }),
        any::<u8>().prop_map(|which| Attempt::Expire { which }),
        (any::<u8>(), any::<u8>()).prop_map(|(which, by)| Attempt::Prolong { which, by }),
        any::<u8>().prop_map(|seconds| Attempt::Wait { seconds }),
    ]
}

/// When each key ends, as a person would write it down; `i64::MIN` for one that was revoked.
#[derive(Default)]
struct Notes(BTreeMap<u128, i64>);

fn play(attempts: &[Attempt]) -> usize {
    let (mut driven, mut notes) = (Driven::default(), Notes::default());
    let (mut now, mut rotated) = (0, BTreeSet::new());
    for attempt in attempts {
        let made = notes.0.len() as u128;
        let meant = |which: u8| u128::from(which) % made.max(1);
        let end = |notes: &Notes, number| notes.0.get(&number).copied().unwrap_or(i64::MIN);
        match *attempt {
            Attempt::Wait { seconds } => now += i64::from(seconds) * SECOND,
            Attempt::Create { lifetime } => {
                let expires_at = lifetime.map(|seconds| now + i64::from(seconds) * SECOND);
                driven.submit(create(made, expires_at), now).unwrap();
                notes.0.insert(made, expires_at.unwrap_or(i64::MAX));
            }
            Attempt::Rotate {
                which,
                grace_seconds,
            } => {
                let number = meant(which);
                let lives = now < end(&notes, number) && !rotated.contains(&number);
                let command = rotate(number, made, u64::from(grace_seconds));
                let answer = driven.submit(command, now);
                assert_eq!(answer.is_ok(), lives, "{attempt:?} at {now}");
                if let Ok(events) = answer {
                    let graced = now + i64::from(grace_seconds) * SECOND;
                    let before = end(&notes, number);
                    notes.0.insert(number, before.min(graced));
                    let KeyEvent::Created(created) = &events[1] else {
                        panic!("a successor: {events:?}");
                    };
                    let end = created.terms.expires_at.map_or(i64::MAX, |end| end.0);
                    assert_eq!(before == i64::MAX, end == i64::MAX);
                    notes.0.insert(made, end);
                    rotated.insert(number);
                }
            }
            Attempt::Revoke { which } => {
                let number = meant(which);
                let lives = now < end(&notes, number);
                assert_eq!(driven.submit(revoke(number), now).is_ok(), lives);
                if lives {
                    notes.0.insert(number, i64::MIN);
                }
            }
            Attempt::Expire { which } => {
                let command = KeyCommand::Expire {
                    key: key(meant(which)),
                };
                // Whatever it says, nobody's rights change by it.
                let _ = driven.submit(command, now);
            }
            Attempt::Prolong { which, by } => {
                let number = meant(which);
                let until = now + i64::from(by) * SECOND;
                let change = KeyChange {
                    expires_at: Some(Some(Timestamp(until))),
                    ..KeyChange::default()
                };
                let lives = now < end(&notes, number) && !rotated.contains(&number);
                let answer = driven.submit(update(number, change), now);
                assert_eq!(answer.is_ok(), lives, "{attempt:?} at {now}");
                if lives {
                    notes.0.insert(number, until);
                }
            }
        }
        for (number, end) in &notes.0 {
            assert_eq!(
                driven.counts(*number, now),
                now < *end,
                "key {number} at {now}"
            );
        }
        let text = serde_json::to_string(&driven.ring).unwrap();
        let read: KeyRing = serde_json::from_str(&text).unwrap();
        assert_eq!(read, driven.ring, "a snapshot reads back");
    }
    rotated.len()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_key_counts_as_long_as_it_was_given_and_no_longer(
        attempts in prop::collection::vec(an_attempt(), 1..60)
    ) {
        play(&attempts);
    }
}

/// A property that is never exercised proves nothing.
#[test]
fn the_attempts_rotate_keys() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let sequences = prop::collection::vec(an_attempt(), 60);
    let rotated: usize = (0..50)
        .map(|_| play(&sequences.new_tree(&mut runner).unwrap().current()))
        .sum();
    assert!(rotated >= 50, "{rotated} rotations in 50 sequences");
}
