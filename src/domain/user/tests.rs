//! The rules of an account: given what happened, when it is asked, then this happens.

use cqrs_es::test::{AggregateTestExecutor, TestFramework};

use super::*;
use crate::domain::testing::{at, organization, sealed, session, user};

const NOW: i64 = 1_000;

fn given(events: Vec<UserEvent>) -> AggregateTestExecutor<User> {
    TestFramework::with(at(NOW)).given(events)
}

fn fold(events: Vec<UserEvent>) -> User {
    let mut account = User::default();
    for event in events {
        account.apply(event);
    }
    account
}

fn signed_up() -> UserEvent {
    UserEvent::UserSignedUp {
        user: user(1),
        email: sealed("email"),
        name: sealed("name"),
    }
}

fn renamed() -> UserEvent {
    UserEvent::UserRenamed {
        name: sealed("new name"),
        previous: sealed("name"),
    }
}

fn shared(profile_sequence: u64) -> UserEvent {
    UserEvent::UserProfileShared {
        profile_sequence,
        organizations: vec![organization(1)],
    }
}

fn share(profile_sequence: u64) -> UserCommand {
    UserCommand::ShareProfile {
        profile_sequence,
        organizations: vec![organization(1)],
    }
}

fn started(number: u128, started_at: i64, expires_at: i64) -> UserEvent {
    UserEvent::SessionStarted {
        session: session(number),
        started_at: Timestamp(started_at),
        expires_at: Timestamp(expires_at),
    }
}

fn start(number: u128) -> UserCommand {
    UserCommand::StartSession {
        session: session(number),
        expires_at: Timestamp(5_000),
    }
}

fn revoked(number: u128, cause: SessionEnd) -> UserEvent {
    let session = session(number);
    UserEvent::SessionRevoked { session, cause }
}

fn revoke(number: u128) -> UserCommand {
    let session = session(number);
    UserCommand::RevokeSession { session }
}

fn not_found(what: &'static str) -> Refusal {
    let hidden = false;
    Refusal::NotFound { what, hidden }
}

fn sign_up() -> UserCommand {
    UserCommand::SignUp {
        user: user(1),
        email: sealed("email"),
        name: sealed("name"),
    }
}

#[test]
fn somebody_signs_up_once() {
    given(vec![])
        .when(sign_up())
        .then_expect_events(vec![signed_up()]);
    given(vec![signed_up()])
        .when(sign_up())
        .then_expect_error(Refusal::AlreadyExists { what: "user" });
    assert!(!User::default().exists());
    assert!(fold(vec![signed_up()]).exists());
}

#[test]
fn nothing_happens_to_an_account_that_is_not_there() {
    for command in [
        rename(1),
        UserCommand::ChangeEmail {
            email: sealed("email"),
            previous: sealed("email"),
            profile_sequence: 1,
        },
        share(1),
        start(1),
        UserCommand::RecordSignInFailed {
            minute: 1,
            count: 1,
        },
    ] {
        given(vec![])
            .when(command)
            .then_expect_error(not_found("user"));
    }
    given(vec![])
        .when(revoke(1))
        .then_expect_error(not_found("session"));
}

fn rename(profile_sequence: u64) -> UserCommand {
    UserCommand::Rename {
        name: sealed("new name"),
        previous: sealed("name"),
        profile_sequence,
    }
}

#[test]
fn a_rename_says_what_the_name_was() {
    given(vec![signed_up()])
        .when(rename(1))
        .then_expect_events(vec![renamed()]);
}

#[test]
fn a_change_made_from_an_older_profile_is_refused() {
    given(vec![signed_up(), renamed()])
        .when(rename(1))
        .then_expect_error(Refusal::ProfileMoved);
    given(vec![signed_up(), shared(1), renamed()])
        .when(rename(3))
        .then_expect_events(vec![renamed()]);
}

#[test]
fn a_new_address_says_what_the_old_one_was() {
    let changed = UserEvent::UserEmailChanged {
        email: sealed("new email"),
        previous: sealed("email"),
    };
    given(vec![signed_up()])
        .when(UserCommand::ChangeEmail {
            email: sealed("new email"),
            previous: sealed("email"),
            profile_sequence: 1,
        })
        .then_expect_events(vec![changed]);
}

#[test]
fn a_profile_is_shared_once() {
    given(vec![signed_up()])
        .when(share(1))
        .then_expect_events(vec![shared(1)]);
    given(vec![signed_up(), shared(1)])
        .when(share(1))
        .then_expect_events(vec![]);
    given(vec![signed_up(), renamed(), shared(2)])
        .when(share(1))
        .then_expect_events(vec![]);
}

#[test]
fn a_profile_that_is_not_there_yet_is_not_shared() {
    given(vec![signed_up(), shared(1)])
        .when(share(2))
        .then_expect_error(not_found("profile"));
}

#[test]
fn the_profile_to_share_is_the_sequence_of_its_newest_change() {
    let mut events = vec![];
    assert_eq!(fold(events.clone()).profile_to_share(), None);
    events.push(signed_up());
    assert_eq!(fold(events.clone()).profile_to_share(), Some(1));
    events.push(shared(1));
    assert_eq!(fold(events.clone()).profile_to_share(), None);
    events.push(started(1, 0, 5_000));
    assert_eq!(fold(events.clone()).profile_to_share(), None);
    events.push(renamed());
    assert_eq!(fold(events.clone()).profile_to_share(), Some(4));
    events.push(UserEvent::UserEmailChanged {
        email: sealed("new email"),
        previous: sealed("email"),
    });
    assert_eq!(fold(events.clone()).profile_to_share(), Some(5));
    // An older copy was shared late: the newest is still due.
    events.push(shared(4));
    assert_eq!(fold(events).profile_to_share(), Some(5));
}

#[test]
fn a_session_starts_now() {
    given(vec![signed_up()])
        .when(start(1))
        .then_expect_events(vec![started(1, NOW, 5_000)]);
    given(vec![signed_up(), started(1, 0, 5_000)])
        .when(start(1))
        .then_expect_error(Refusal::AlreadyExists { what: "session" });
}

/// `count` live sessions; the highest number is the oldest.
fn crowded(count: usize) -> Vec<UserEvent> {
    let count = u32::try_from(count).unwrap();
    let sessions = (1..=count).map(|number| {
        let age = i64::from(count - number);
        started(number.into(), age, 5_000)
    });
    std::iter::once(signed_up()).chain(sessions).collect()
}

#[test]
fn the_oldest_session_gives_way_to_one_too_many() {
    let oldest = LIVE_SESSIONS_MAX as u128;
    given(crowded(LIVE_SESSIONS_MAX))
        .when(start(100))
        .then_expect_events(vec![
            revoked(oldest, SessionEnd::Replaced),
            started(100, NOW, 5_000),
        ]);
    given(crowded(LIVE_SESSIONS_MAX - 1))
        .when(start(100))
        .then_expect_events(vec![started(100, NOW, 5_000)]);
}

#[test]
fn expired_sessions_do_not_count_and_are_forgotten() {
    let mut events = crowded(LIVE_SESSIONS_MAX - 1);
    events.push(started(99, 0, NOW));
    given(events.clone())
        .when(start(100))
        .then_expect_events(vec![started(100, NOW, 5_000)]);
    events.push(started(100, NOW, 5_000));
    let account = fold(events);
    assert!(!account.sessions.contains_key(&session(99)));
    assert_eq!(account.sessions.len(), LIVE_SESSIONS_MAX);
}

#[test]
fn a_live_session_can_be_revoked_once() {
    let live = vec![signed_up(), started(1, 0, NOW + 1)];
    given(live.clone())
        .when(revoke(1))
        .then_expect_events(vec![revoked(1, SessionEnd::SignedOut)]);
    given(live.clone())
        .and(vec![revoked(1, SessionEnd::SignedOut)])
        .when(revoke(1))
        .then_expect_error(not_found("session"));
    given(live)
        .when(revoke(2))
        .then_expect_error(not_found("session"));
    given(vec![signed_up(), started(1, 0, NOW)])
        .when(revoke(1))
        .then_expect_error(not_found("session"));
}

#[test]
fn a_session_proves_who_it_is_until_its_deadline_and_names_its_event() {
    let mut account = fold(vec![signed_up()]);
    let event = started(1, 0, NOW);
    account.apply(event.clone());
    account.positioned(&event, 42);
    assert_eq!(
        account.session(session(1), Timestamp(NOW - 1)),
        Ok(AuthorityLink::Session {
            id: session(1),
            position: 42
        })
    );
    let ended = Err(Refusal::SessionEnded);
    assert_eq!(account.session(session(1), Timestamp(NOW)), ended);
    assert_eq!(account.session(session(2), Timestamp(0)), ended);
    account.apply(revoked(1, SessionEnd::SignedOut));
    assert_eq!(account.session(session(1), Timestamp(0)), ended);
}

#[test]
fn wrong_passwords_are_kept_as_counted() {
    given(vec![signed_up()])
        .when(UserCommand::RecordSignInFailed {
            minute: 7,
            count: 3,
        })
        .then_expect_events(vec![UserEvent::SignInFailed {
            minute: 7,
            count: 3,
        }]);
}

fn change_password(number: u128) -> UserCommand {
    let session = session(number);
    UserCommand::ChangePassword { session }
}

fn password_changed(ended: &[u128]) -> UserEvent {
    let sessions = ended.iter().map(|number| session(*number)).collect();
    UserEvent::PasswordChanged { sessions }
}

#[test]
fn a_new_password_ends_every_other_live_session() {
    let live = vec![
        signed_up(),
        started(1, 0, 5_000),
        started(2, 0, 5_000),
        started(3, 0, 5_000),
        started(4, 0, NOW),
    ];
    given(live.clone())
        .when(change_password(2))
        .then_expect_events(vec![
            password_changed(&[1, 3]),
            revoked(1, SessionEnd::PasswordChanged),
            revoked(3, SessionEnd::PasswordChanged),
        ]);
    given(vec![signed_up(), started(1, 0, 5_000)])
        .when(change_password(1))
        .then_expect_events(vec![password_changed(&[])]);
    for over in [4, 5] {
        given(live.clone())
            .when(change_password(over))
            .then_expect_error(Refusal::SessionEnded);
    }
}

#[test]
fn what_an_older_password_proved_counts_no_more() {
    let mut account = fold(vec![signed_up(), started(1, 0, 5_000), renamed()]);
    assert_eq!(account.password_is_of(1), Ok(()));
    account.apply(password_changed(&[]));
    assert_eq!(account.password_is_of(1), Err(Refusal::WrongPassword));
    assert_eq!(account.password_is_of(4), Ok(()));
    account.apply(started(2, 0, 5_000));
    assert_eq!(account.password_is_of(4), Ok(()));
    assert_eq!(
        User::default().password_is_of(1),
        Err(Refusal::WrongPassword)
    );
}

#[test]
fn the_state_survives_a_snapshot() {
    let account = fold(vec![signed_up(), started(1, 0, 5_000), renamed()]);
    let text = serde_json::to_string(&account).unwrap();
    assert_eq!(serde_json::from_str::<User>(&text).unwrap(), account);
    assert!(account.weight_bytes() > User::default().weight_bytes());
    assert_eq!(account.organization(), None);
}

#[test]
fn an_event_is_named_as_its_payload_is_tagged() {
    for event in [
        signed_up(),
        renamed(),
        UserEvent::UserEmailChanged {
            email: sealed("new email"),
            previous: sealed("email"),
        },
        shared(1),
        started(1, 0, 1),
        revoked(1, SessionEnd::Replaced),
        UserEvent::SignInFailed {
            minute: 1,
            count: 1,
        },
        password_changed(&[1]),
    ] {
        let payload = serde_json::to_value(&event).unwrap();
        assert!(payload.get(event.event_type()).is_some(), "{payload}");
    }
}

fn erase(number: u128) -> UserCommand {
    let session = session(number);
    UserCommand::Erase { session }
}

fn erased(sessions: &[u128]) -> UserEvent {
    let sessions = sessions.iter().copied().map(session).collect();
    UserEvent::UserErased { sessions }
}

#[test]
fn who_is_signed_in_erases_the_account_and_every_session_ends() {
    // The second has run out, the third was revoked.
    let before = || {
        given(vec![
            signed_up(),
            started(1, 1, NOW + 1),
            started(2, 1, NOW),
            started(3, 1, 5_000),
            revoked(3, SessionEnd::SignedOut),
            started(4, 1, 5_000),
        ])
    };
    before()
        .when(erase(1))
        .then_expect_events(vec![erased(&[1, 4])]);
    for ended in [2, 3, 9] {
        before()
            .when(erase(ended))
            .then_expect_error(Refusal::SessionEnded);
    }
}

#[test]
fn nothing_happens_to_an_account_that_is_erased() {
    let gone = || given(vec![signed_up(), started(1, 1, 5_000), erased(&[1])]);
    for command in [
        start(2),
        UserCommand::RecordSignInFailed {
            minute: 1,
            count: 1,
        },
        share(1),
        rename(1),
    ] {
        gone().when(command).then_expect_error(not_found("user"));
    }
    gone()
        .when(erase(1))
        .then_expect_error(Refusal::SessionEnded);
    gone()
        .when(sign_up())
        .then_expect_error(Refusal::AlreadyExists { what: "user" });
}

#[test]
fn an_erasure_overtakes_what_was_composed_from_the_account() {
    let before = fold(vec![signed_up(), started(1, 1, 5_000)]);
    let after = fold(vec![signed_up(), started(1, 1, 5_000), erased(&[1])]);
    assert!(!before.is_erased() && after.is_erased());
    assert!(after.profile_sequence() > before.profile_sequence());
    assert_eq!(after.profile_to_share(), None, "there is nothing to share");
    let proven = before.password_sequence;
    assert_eq!(before.password_is_of(proven), Ok(()));
    assert_eq!(after.password_is_of(proven), Err(Refusal::WrongPassword));
    assert_eq!(after.live_sessions(Timestamp(NOW)).count(), 0);
}

#[test]
fn somebody_is_gone_when_no_session_lives_and_none_began_lately() {
    let lately = GONE_AFTER.num_microseconds().expect("a span");
    let at = |state: &User, now| state.is_gone(Timestamp(now));
    assert!(at(&User::default(), 0), "who was never there");
    let short = fold(vec![signed_up(), started(1, 100, 200)]);
    assert!(!at(&short, 199));
    assert!(!at(&short, 99 + lately));
    assert!(at(&short, 100 + lately));
    // A session that lives for longer is a sign of somebody for as long.
    let long = fold(vec![signed_up(), started(1, 100, 300 + lately)]);
    assert!(!at(&long, 299 + lately));
    assert!(at(&long, 300 + lately));
    let signed_out = UserEvent::SessionRevoked {
        session: session(1),
        cause: SessionEnd::SignedOut,
    };
    let ended = fold(vec![signed_up(), started(1, 100, 300 + lately), signed_out]);
    assert!(!at(&ended, 99 + lately));
    assert!(at(&ended, 100 + lately));
}
