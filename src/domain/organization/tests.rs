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
