//! The rules of an organization: given what happened, when it is asked, then this happens.

use cqrs_es::test::{AggregateTestExecutor, TestFramework};

use super::*;
use crate::domain::testing::{at, name, organization, sealed, user};

fn given(events: Vec<OrganizationEvent>) -> AggregateTestExecutor<Organization> {
    TestFramework::with(at(0)).given(events)
}

fn fold(events: Vec<OrganizationEvent>) -> Organization {
    let mut state = Organization::default();
    for event in events {
        state.apply(event);
    }
    state
}

fn added(number: u128, role: OrganizationRole) -> OrganizationEvent {
    let user = user(number);
    OrganizationEvent::OrganizationMemberAdded { user, role }
}

/// User 1 is the owner, 2 sees the bills, 3 audits.
fn acme() -> Vec<OrganizationEvent> {
    vec![
        OrganizationEvent::OrganizationCreated {
            organization: organization(1),
            name: "Acme".to_owned(),
            created_by: user(1),
        },
        added(1, OrganizationRole::Owner),
        added(2, OrganizationRole::Billing),
        added(3, OrganizationRole::Auditor),
    ]
}

fn create() -> OrganizationCommand {
    OrganizationCommand::Create {
        organization: organization(1),
        name: name("Acme"),
        created_by: user(1),
    }
}

fn rename(number: u128, text: &str) -> OrganizationCommand {
    OrganizationCommand::Rename {
        actor: Actor::User { id: user(number) },
        name: name(text),
    }
}

fn record(profile_sequence: u64) -> OrganizationCommand {
    OrganizationCommand::RecordPerson {
        user: user(5),
        profile_sequence,
        email: sealed("email"),
        name: sealed("name"),
    }
}

fn recorded(profile_sequence: u64) -> OrganizationEvent {
    OrganizationEvent::PersonRecorded {
        user: user(5),
        profile_sequence,
        email: sealed("email"),
        name: sealed("name"),
    }
}

fn not_found(hidden: bool) -> Refusal {
    let what = "organization";
    Refusal::NotFound { what, hidden }
}

#[test]
fn an_organization_is_made_once_and_its_maker_owns_it() {
    given(vec![])
        .when(create())
        .then_expect_events(acme()[..2].to_vec());
    given(acme())
        .when(create())
        .then_expect_error(Refusal::AlreadyExists {
            what: "organization",
        });
    assert!(!Organization::default().exists());
    assert_eq!(Organization::default().organization(), None);
    assert!(fold(acme()).exists());
    assert_eq!(fold(acme()).organization(), Some(organization(1)));
}

#[test]
fn its_owner_renames_it() {
    let renamed = OrganizationEvent::OrganizationRenamed {
        from: "Acme".to_owned(),
        to: "Acme Corp".to_owned(),
    };
    given(acme())
        .when(rename(1, "Acme Corp"))
        .then_expect_events(vec![renamed.clone()]);
    given(acme())
        .when(rename(1, "Acme"))
        .then_expect_events(vec![]);
    assert_eq!(fold(acme()).name(), "Acme");
    let mut events = acme();
    events.push(renamed);
    assert_eq!(fold(events).name(), "Acme Corp");
}

#[test]
fn nobody_else_renames_it() {
    for (number, role) in [
        (2, OrganizationRole::Billing),
        (3, OrganizationRole::Auditor),
    ] {
        // The name that it has already is refused as any other.
        for text in ["Acme", "Mine"] {
            given(acme()).when(rename(number, text)).then_expect_error(
                Refusal::NotPermittedInOrganization {
                    permission: OrganizationPermission::Rename,
                    role,
                },
            );
        }
    }
    given(acme())
        .when(rename(9, "Mine"))
        .then_expect_error(not_found(true));
    given(acme())
        .when(OrganizationCommand::Rename {
            actor: Actor::System,
            name: name("Mine"),
        })
        .then_expect_error(not_found(true));
    given(vec![])
        .when(rename(1, "Mine"))
        .then_expect_error(not_found(false));
}

#[test]
fn a_person_is_recorded_once_for_each_version_of_their_profile() {
    given(acme())
        .when(record(3))
        .then_expect_events(vec![recorded(3)]);
    for (sequence, expected) in [(2, vec![]), (3, vec![]), (4, vec![recorded(4)])] {
        given(acme())
            .and(vec![recorded(3)])
            .when(record(sequence))
            .then_expect_events(expected);
    }
    given(vec![])
        .when(record(1))
        .then_expect_error(not_found(false));
    let mut events = acme();
    events.push(recorded(3));
    assert_eq!(fold(events.clone()).person_sequence(user(5)), Some(3));
    assert_eq!(fold(events).person_sequence(user(6)), None);
}

#[test]
fn authority_names_the_role_and_the_event_that_gave_it() {
    let mut state = fold(acme());
    state.positioned(&added(3, OrganizationRole::Auditor), 17);
    let permission = OrganizationPermission::ReadAudit;
    let role = OrganizationRole::Auditor;
    assert_eq!(
        state.authorise(user(3), permission),
        Ok(AuthorityLink::OrganizationRole { role, position: 17 })
    );
    let role = OrganizationRole::Billing;
    assert_eq!(
        state.authorise(user(2), permission),
        Err(Refusal::NotPermittedInOrganization { permission, role })
    );
    assert_eq!(state.authorise(user(9), permission), Err(not_found(true)));
    assert_eq!(
        Organization::default().authorise(user(1), permission),
        Err(not_found(false))
    );
}

#[test]
fn everybody_in_it_may_exactly_what_the_matrix_says() {
    let state = fold(acme());
    for (number, member) in [(1, 0), (2, 1), (3, 2)] {
        for permission in OrganizationPermission::ALL {
            let role = OrganizationRole::ALL[member];
            let may = state.authorise(user(number), permission).is_ok();
            assert_eq!(may, permission.allows(role), "{}", permission.name());
        }
    }
}

#[test]
fn the_state_survives_a_snapshot() {
    let mut events = acme();
    events.push(recorded(3));
    let state = fold(events);
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<Organization>(&text).unwrap(), state);
    assert_eq!(state.members().count(), 3);
    assert!(state.weight_bytes() > Organization::default().weight_bytes());
}

#[test]
fn an_event_is_named_as_its_payload_is_tagged() {
    let mut events = acme();
    events.push(recorded(1));
    events.push(OrganizationEvent::OrganizationRenamed {
        from: "a".to_owned(),
        to: "b".to_owned(),
    });
    for event in events {
        let payload = serde_json::to_value(&event).unwrap();
        assert!(payload.get(event.event_type()).is_some(), "{payload}");
    }
}

const OWNER: u128 = 1;
const BILLING: u128 = 2;
const AUDITOR: u128 = 3;
const STRANGER: u128 = 9;

fn set(actor: u128, number: u128, role: OrganizationRole) -> OrganizationCommand {
    OrganizationCommand::SetMember {
        actor: user(actor),
        user: user(number),
        role,
    }
}

fn remove(actor: u128, number: u128) -> OrganizationCommand {
    OrganizationCommand::RemoveMember {
        actor: user(actor),
        user: user(number),
    }
}

fn changed(number: u128, from: OrganizationRole, to: OrganizationRole) -> OrganizationEvent {
    OrganizationEvent::OrganizationMemberRoleChanged {
        user: user(number),
        from,
        to,
        changed_by: user(OWNER),
    }
}

fn removed(number: u128, role: OrganizationRole, by: u128) -> OrganizationEvent {
    OrganizationEvent::OrganizationMemberRemoved {
        user: user(number),
        role,
        removed_by: user(by),
    }
}

#[test]
fn an_owner_gives_roles_and_takes_them() {
    use OrganizationRole::{Auditor, Billing, Owner};
    given(acme())
        .when(set(OWNER, STRANGER, Billing))
        .then_expect_events(vec![added(STRANGER, Billing)]);
    given(acme())
        .when(set(OWNER, BILLING, Auditor))
        .then_expect_events(vec![changed(BILLING, Billing, Auditor)]);
    given(acme())
        .when(set(OWNER, BILLING, Billing))
        .then_expect_events(vec![]);
    given(acme())
        .when(remove(OWNER, BILLING))
        .then_expect_events(vec![removed(BILLING, Billing, OWNER)]);
    given(acme())
        .when(remove(OWNER, STRANGER))
        .then_expect_error(Refusal::NotFound {
            what: "member",
            hidden: false,
        });
    let mut events = acme();
    events.push(changed(BILLING, Billing, Owner));
    events.push(removed(AUDITOR, Auditor, OWNER));
    let mut state = fold(events);
    state.positioned(&changed(BILLING, Billing, Owner), 17);
    state.positioned(&removed(AUDITOR, Auditor, OWNER), 18);
    let link = AuthorityLink::OrganizationRole {
        role: Owner,
        position: 17,
    };
    let may = |number| state.authorise(user(number), OrganizationPermission::Rename);
    assert_eq!(may(BILLING), Ok(link));
    assert_eq!(may(AUDITOR), Err(not_found(true)));
}

#[test]
fn nobody_else_gives_or_takes_roles() {
    let permission = OrganizationPermission::ManageMembers;
    for (number, role) in [
        (BILLING, OrganizationRole::Billing),
        (AUDITOR, OrganizationRole::Auditor),
    ] {
        let refused = Refusal::NotPermittedInOrganization { permission, role };
        for command in [
            set(number, number, OrganizationRole::Owner),
            set(number, STRANGER, OrganizationRole::Billing),
            remove(number, OWNER),
            remove(number, STRANGER),
        ] {
            given(acme())
                .when(command)
                .then_expect_error(refused.clone());
        }
    }
    for command in [
        set(STRANGER, STRANGER, OrganizationRole::Owner),
        remove(STRANGER, OWNER),
        remove(STRANGER, STRANGER),
    ] {
        given(acme())
            .when(command.clone())
            .then_expect_error(not_found(true));
        given(vec![])
            .when(command)
            .then_expect_error(not_found(false));
    }
}

#[test]
fn everybody_leaves_but_the_last_owner() {
    given(acme())
        .when(remove(BILLING, BILLING))
        .then_expect_events(vec![removed(BILLING, OrganizationRole::Billing, BILLING)]);
    for command in [
        remove(OWNER, OWNER),
        set(OWNER, OWNER, OrganizationRole::Billing),
        set(OWNER, OWNER, OrganizationRole::Auditor),
    ] {
        given(acme())
            .when(command)
            .then_expect_error(Refusal::LastOrganizationOwner);
    }
    let second = added(STRANGER, OrganizationRole::Owner);
    given(acme())
        .and(vec![second.clone()])
        .when(remove(OWNER, OWNER))
        .then_expect_events(vec![removed(OWNER, OrganizationRole::Owner, OWNER)]);
    given(acme())
        .and(vec![second])
        .when(set(OWNER, OWNER, OrganizationRole::Auditor))
        .then_expect_events(vec![changed(
            OWNER,
            OrganizationRole::Owner,
            OrganizationRole::Auditor,
        )]);
}

fn hold(number: u128, held: bool) -> OrganizationCommand {
    let workspace = WorkspaceId::from_uuid(uuid::Uuid::from_u128(number));
    OrganizationCommand::NoteHold { workspace, held }
}

fn held(number: u128, held: bool) -> OrganizationEvent {
    let workspace = WorkspaceId::from_uuid(uuid::Uuid::from_u128(number));
    match held {
        true => OrganizationEvent::WorkspaceHoldBegan { workspace },
        false => OrganizationEvent::WorkspaceHoldEnded { workspace },
    }
}

fn schedule(number: u128, due_at: i64) -> OrganizationCommand {
    OrganizationCommand::ScheduleErasure {
        user: user(number),
        due_at: Timestamp(due_at),
    }
}

fn scheduled(number: u128, due_at: i64) -> OrganizationEvent {
    OrganizationEvent::PersonErasureScheduled {
        user: user(number),
        due_at: Timestamp(due_at),
    }
}

fn erase(number: u128) -> OrganizationCommand {
    OrganizationCommand::ErasePerson { user: user(number) }
}

fn erased(number: u128) -> OrganizationEvent {
    OrganizationEvent::PersonErased { user: user(number) }
}

/// At the moment 1,000.
fn given_then(events: Vec<OrganizationEvent>) -> AggregateTestExecutor<Organization> {
    TestFramework::with(at(1_000)).given([acme(), events].concat())
}

#[test]
fn a_hold_is_noted_once() {
    given_then(vec![])
        .when(hold(7, true))
        .then_expect_events(vec![held(7, true)]);
    given_then(vec![held(7, true)])
        .when(hold(7, true))
        .then_expect_events(vec![]);
    given_then(vec![held(7, true)])
        .when(hold(7, false))
        .then_expect_events(vec![held(7, false)]);
    given_then(vec![held(7, true)])
        .when(hold(8, false))
        .then_expect_events(vec![]);
    given(vec![])
        .when(hold(7, true))
        .then_expect_error(not_found(false));
}

#[test]
fn somebody_is_erased_when_it_is_due_and_once() {
    given_then(vec![])
        .when(schedule(5, 1_000))
        .then_expect_events(vec![scheduled(5, 1_000)]);
    given_then(vec![scheduled(5, 1_000)])
        .when(schedule(5, 2_000))
        .then_expect_events(vec![]);
    given_then(vec![scheduled(5, 1_000)])
        .when(erase(5))
        .then_expect_events(vec![erased(5)]);
    for early_or_never in [vec![], vec![scheduled(5, 1_001)], vec![scheduled(6, 1)]] {
        given_then(early_or_never)
            .when(erase(5))
            .then_expect_events(vec![]);
    }
    given_then(vec![scheduled(5, 1_000), erased(5)])
        .when(erase(5))
        .then_expect_events(vec![]);
    for command in [schedule(5, 1), erase(5)] {
        given(vec![])
            .when(command)
            .then_expect_error(not_found(false));
    }
}

#[test]
fn nobody_is_erased_under_a_legal_hold() {
    let due = scheduled(5, 1_000);
    for events in [
        vec![due.clone(), held(7, true)],
        vec![held(7, true), due.clone()],
        vec![held(7, true), held(8, true), due.clone(), held(8, false)],
    ] {
        given_then(events.clone())
            .when(erase(5))
            .then_expect_error(Refusal::UnderLegalHold);
        let state = fold([acme(), events.clone()].concat());
        assert!(state.is_held() && !state.erases(user(5), Timestamp(1_000)));
        // Who is not due is not evidence either.
        given_then(events.clone())
            .when(erase(6))
            .then_expect_events(vec![]);
        given_then([events, vec![held(7, false)]].concat())
            .when(erase(5))
            .then_expect_events(vec![erased(5)]);
    }
}

#[test]
fn who_is_erased_is_not_known_any_more() {
    let mut state = fold(acme());
    state.apply(OrganizationEvent::PersonRecorded {
        user: user(5),
        profile_sequence: 3,
        email: sealed("email"),
        name: sealed("name"),
    });
    state.apply(scheduled(5, 1));
    assert_eq!(state.person_sequence(user(5)), Some(3), "it keeps its copy");
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<Organization>(&text).unwrap(), state);
    state.apply(erased(5));
    assert_eq!(state.person_sequence(user(5)), None);
}
