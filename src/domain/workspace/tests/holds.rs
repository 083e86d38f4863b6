//! Legal holds: whose they are, and what they forbid.

use super::*;

fn place(actor: u128) -> WorkspaceCommand {
    let actor = user(actor);
    WorkspaceCommand::PlaceLegalHold { actor }
}

fn lift(actor: u128) -> WorkspaceCommand {
    let actor = user(actor);
    WorkspaceCommand::LiftLegalHold { actor }
}

fn placed() -> WorkspaceEvent {
    let placed_by = user(OWNER);
    WorkspaceEvent::LegalHoldPlaced { placed_by }
}

fn lifted() -> WorkspaceEvent {
    let lifted_by = user(OTHER_OWNER);
    WorkspaceEvent::LegalHoldLifted { lifted_by }
}

fn delete() -> WorkspaceCommand {
    WorkspaceCommand::Delete {
        actor: user(OWNER),
        confirm: "Crew".to_owned(),
    }
}

#[test]
fn an_owner_places_a_hold_and_another_lifts_it() {
    given_team()
        .when(place(OWNER))
        .then_expect_events(vec![placed()]);
    given_team_and(&[placed()])
        .when(place(OTHER_OWNER))
        .then_expect_events(vec![]);
    given_team_and(&[placed()])
        .when(lift(OTHER_OWNER))
        .then_expect_events(vec![lifted()]);
    for not_held in [&[][..], &[placed(), lifted()]] {
        given_team_and(not_held)
            .when(lift(OWNER))
            .then_expect_events(vec![]);
    }
}

#[test]
fn nobody_else_does() {
    for (number, role) in [
        (ADMIN, Role::Admin),
        (MEMBER, Role::Member),
        (VIEWER, Role::Viewer),
    ] {
        for command in [place(number), lift(number)] {
            given_team_and(&[placed()])
                .when(command)
                .then_expect_error(not_permitted(Permission::HoldLegally, role));
        }
    }
    given_team()
        .when(place(STRANGER))
        .then_expect_error(not_found("workspace", true));
    given(vec![])
        .when(place(OWNER))
        .then_expect_error(not_found("workspace", false));
}

#[test]
fn a_held_workspace_is_not_deleted() {
    given_team_and(&[placed()])
        .when(delete())
        .then_expect_error(Refusal::UnderLegalHold);
    assert!(fold([team(), vec![placed()]].concat()).is_held());
    let state = fold([team(), vec![placed(), lifted()]].concat());
    assert!(!state.is_held());
    let deleted = given_team_and(&[placed(), lifted()])
        .when(delete())
        .inspect_result();
    assert!(deleted.is_ok(), "{deleted:?}");
    // Whoever may not delete learns nothing of the hold.
    let delete = WorkspaceCommand::Delete {
        actor: user(ADMIN),
        confirm: "Crew".to_owned(),
    };
    given_team_and(&[placed()])
        .when(delete)
        .then_expect_error(not_permitted(Permission::DeleteWorkspace, Role::Admin));
}
