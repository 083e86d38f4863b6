//! Handing over, deleting, policy, roles that end by themselves, and auditor grants.

use super::*;

const END: i64 = 4_000;

fn until(actor: u128, number: u128, role: Role, moment: i64) -> WorkspaceCommand {
    WorkspaceCommand::ChangeRoleUntil {
        actor: user(actor),
        user: user(number),
        role,
        until: Timestamp(moment),
    }
}

fn limited(actor: u128, number: u128, role: Role, afterwards: Option<Role>) -> WorkspaceEvent {
    WorkspaceEvent::MembershipLimited {
        user: user(number),
        role,
        until: Timestamp(END),
        afterwards,
        previous: None,
        limited_by: user(actor),
    }
}

fn lifted(actor: u128, number: u128, role: Role, afterwards: Option<Role>) -> WorkspaceEvent {
    WorkspaceEvent::MembershipLimitLifted {
        user: user(number),
        role,
        until: Timestamp(END),
        afterwards,
        lifted_by: user(actor),
    }
}

fn reached(number: u128, role: Role, afterwards: Option<Role>) -> WorkspaceEvent {
    WorkspaceEvent::MembershipLimitReached {
        user: user(number),
        role,
        until: Timestamp(END),
        afterwards,
    }
}

fn reach(number: u128) -> WorkspaceCommand {
    WorkspaceCommand::ReachLimit { user: user(number) }
}

fn transfer(actor: u128, to: u128) -> WorkspaceCommand {
    WorkspaceCommand::TransferOwnership {
        actor: user(actor),
        to: user(to),
    }
}

fn transferred(from: u128, to: u128) -> WorkspaceEvent {
    WorkspaceEvent::OwnershipTransferred {
        from: user(from),
        to: user(to),
    }
}

fn delete(actor: u128, confirm: &str) -> WorkspaceCommand {
    WorkspaceCommand::Delete {
        actor: user(actor),
        confirm: confirm.to_owned(),
    }
}

fn deleted() -> WorkspaceEvent {
    WorkspaceEvent::WorkspaceDeleted {
        name: "Crew".to_owned(),
        organization: organization(1),
        deleted_by: user(OWNER),
        members: [OWNER, OTHER_OWNER, ADMIN, OTHER_ADMIN, MEMBER, VIEWER]
            .map(user)
            .into(),
        invitations: vec![invitation(70)],
        api_keys: vec![],
        auditors: vec![user(STRANGER)],
        crews: vec![],
    }
}

fn grant(actor: u128, number: u128, expires_at: i64) -> WorkspaceCommand {
    WorkspaceCommand::GrantAuditor {
        actor: user(actor),
        user: user(number),
        expires_at: Timestamp(expires_at),
    }
}

fn granted(actor: u128, expires_at: i64) -> WorkspaceEvent {
    WorkspaceEvent::AuditorGranted {
        user: user(STRANGER),
        expires_at: Timestamp(expires_at),
        granted_by: user(actor),
    }
}

fn grant_revoked(by: u128) -> WorkspaceEvent {
    WorkspaceEvent::AuditorRevoked {
        user: user(STRANGER),
        expires_at: Timestamp(END),
        revoked_by: user(by),
    }
}

fn grant_expired() -> WorkspaceEvent {
    WorkspaceEvent::AuditorExpired {
        user: user(STRANGER),
        expires_at: Timestamp(END),
    }
}

fn wrong(field: &'static str, detail: &'static str) -> Refusal {
    Refusal::WrongValue { field, detail }
}

#[test]
fn the_ownership_is_handed_over() {
    given_team()
        .when(transfer(OWNER, MEMBER))
        .then_expect_events(vec![
            transferred(OWNER, MEMBER),
            changed(OWNER, MEMBER, Role::Member, Role::Owner),
            changed(OWNER, OWNER, Role::Owner, Role::Admin),
        ]);
    // Who owns it already stays an owner.
    given_team()
        .when(transfer(OWNER, OTHER_OWNER))
        .then_expect_events(vec![
            transferred(OWNER, OTHER_OWNER),
            changed(OWNER, OWNER, Role::Owner, Role::Admin),
        ]);
    // Also the last owner hands it over, and somebody whose role would have ended keeps it.
    given(created())
        .and(vec![
            joined(ADMIN, Role::Owner),
            limited(OWNER, ADMIN, Role::Owner, Some(Role::Admin)),
        ])
        .when(transfer(OWNER, ADMIN))
        .then_expect_events(vec![
            transferred(OWNER, ADMIN),
            lifted(OWNER, ADMIN, Role::Owner, Some(Role::Admin)),
            changed(OWNER, OWNER, Role::Owner, Role::Admin),
        ]);
}

#[test]
fn the_ownership_is_handed_over_by_an_owner_to_another_member() {
    for (command, refused) in [
        (transfer(OWNER, OWNER), Refusal::TransferToOneself),
        (transfer(OWNER, STRANGER), Refusal::NotAMember),
        (
            transfer(ADMIN, MEMBER),
            not_permitted(Permission::TransferOwnership, Role::Admin),
        ),
        (transfer(STRANGER, MEMBER), not_found("workspace", true)),
    ] {
        given_team().when(command).then_expect_error(refused);
    }
    given_team_and(&[limited(OTHER_OWNER, OWNER, Role::Owner, None)])
        .when(transfer(OWNER, MEMBER))
        .then_expect_error(Refusal::OwnLimit {
            until: Timestamp(END),
        });
}

#[test]
fn an_owner_deletes_it_and_every_access_ends() {
    let before = [invited(ADMIN, Role::Member), granted(OWNER, END)];
    given_team_and(&before)
        .when(delete(OWNER, "Crew"))
        .then_expect_events(vec![deleted()]);
    for (command, refused) in [
        (
            delete(OWNER, "crew"),
            wrong("confirm", "this is not the name of the workspace"),
        ),
        (
            delete(ADMIN, "Crew"),
            not_permitted(Permission::DeleteWorkspace, Role::Admin),
        ),
        (delete(STRANGER, "Crew"), not_found("workspace", true)),
    ] {
        given_team().when(command).then_expect_error(refused);
    }
    for command in [
        rename(OWNER, "Mine"),
        delete(OWNER, "Crew"),
        transfer(OWNER, MEMBER),
        leave(VIEWER),
        invite(ADMIN, Role::Viewer),
        accept(),
        decline("hash"),
        expire(),
        reach(MEMBER),
        grant(OWNER, 8, END),
        WorkspaceCommand::ExpireAuditor {
            user: user(STRANGER),
        },
    ] {
        given_team_and(&before)
            .and(vec![deleted()])
            .when(command)
            .then_expect_error(not_found("workspace", false));
    }
    given(team())
        .and(vec![deleted()])
        .when(create())
        .then_expect_error(Refusal::AlreadyExists { what: "workspace" });
    let mut events = team();
    events.extend(before);
    events.push(deleted());
    let state = fold(events);
    assert!(state.is_deleted());
    assert_eq!(state.members().count(), 0);
    assert_eq!(state.organization(), Some(organization(1)));
}

#[test]
fn an_owner_changes_the_policy() {
    let from = Policy::default();
    let to = Policy {
        production_changes: ProductionChanges::Direct,
        approvals_needed: 0,
        ..from
    };
    let change = |actor, policy| WorkspaceCommand::ChangePolicy {
        actor: user(actor),
        policy,
    };
    let event = WorkspaceEvent::PolicyChanged { from, to };
    given_team()
        .when(change(OWNER, to))
        .then_expect_events(vec![event.clone()]);
    given_team()
        .when(change(OWNER, from))
        .then_expect_events(vec![]);
    given_team_and(std::slice::from_ref(&event))
        .when(change(OWNER, to))
        .then_expect_events(vec![]);
    given_team()
        .when(change(ADMIN, to))
        .then_expect_error(not_permitted(Permission::ChangePolicy, Role::Admin));
    assert_eq!(fold(team()).policy(), from);
    let mut events = team();
    events.push(event);
    assert_eq!(fold(events).policy(), to);
}

#[test]
fn a_role_is_held_until_its_moment_and_the_one_before_comes_back() {
    let given_for_now = [
        changed(OWNER, MEMBER, Role::Member, Role::Admin),
        limited(OWNER, MEMBER, Role::Admin, Some(Role::Member)),
    ];
    given_team()
        .when(until(OWNER, MEMBER, Role::Admin, END))
        .then_expect_events(given_for_now.to_vec());
    let at = |now| given_at(now, team()).and(given_for_now.to_vec());
    at(END - 1)
        .when(remove(MEMBER, VIEWER))
        .then_expect_events(vec![removed(MEMBER, VIEWER, Role::Viewer)]);
    // Its moment counts, whether or not anything has been written.
    at(END)
        .when(remove(MEMBER, VIEWER))
        .then_expect_error(not_permitted(Permission::RemoveMembers, Role::Member));
    at(END - 1).when(reach(MEMBER)).then_expect_events(vec![]);
    let over = reached(MEMBER, Role::Admin, Some(Role::Member));
    at(END)
        .when(reach(MEMBER))
        .then_expect_events(vec![over.clone()]);
    at(END)
        .and(vec![over.clone()])
        .when(reach(MEMBER))
        .then_expect_events(vec![]);
    // What is decided about them then begins with it.
    at(END)
        .when(leave(MEMBER))
        .then_expect_events(vec![over, left(MEMBER, Role::Member)]);
}

#[test]
fn with_the_same_role_the_membership_ends() {
    let ends = limited(ADMIN, VIEWER, Role::Viewer, None);
    given_team()
        .when(until(ADMIN, VIEWER, Role::Viewer, END))
        .then_expect_events(vec![ends.clone()]);
    given_at(END, team())
        .and(vec![ends.clone()])
        .when(leave(VIEWER))
        .then_expect_error(not_found("workspace", true));
    given_at(END, team())
        .and(vec![ends.clone()])
        .when(remove(OWNER, VIEWER))
        .then_expect_error(not_found("member", false));
    // Somebody whose membership has ended comes in anew.
    let mut accepted = accepted(ADMIN, Role::Member);
    accepted.insert(0, reached(STRANGER, Role::Viewer, None));
    given_at(END, team())
        .and(vec![
            joined(STRANGER, Role::Viewer),
            limited(ADMIN, STRANGER, Role::Viewer, None),
            invited(ADMIN, Role::Member),
        ])
        .when(accept())
        .then_expect_events(accepted);
}

#[test]
fn a_role_for_a_time_never_becomes_the_one_that_comes_back() {
    let given_for_now = [
        changed(OWNER, MEMBER, Role::Member, Role::Admin),
        limited(OWNER, MEMBER, Role::Admin, Some(Role::Member)),
    ];
    let replaced = |role, afterwards| WorkspaceEvent::MembershipLimited {
        user: user(MEMBER),
        role,
        until: Timestamp(END + 1),
        afterwards,
        previous: Some(Timestamp(END)),
        limited_by: user(OWNER),
    };
    given_team_and(&given_for_now)
        .when(until(OWNER, MEMBER, Role::Viewer, END + 1))
        .then_expect_events(vec![
            changed(OWNER, MEMBER, Role::Admin, Role::Viewer),
            replaced(Role::Viewer, Some(Role::Member)),
        ]);
    given_team_and(&given_for_now)
        .when(until(OWNER, MEMBER, Role::Admin, END + 1))
        .then_expect_events(vec![replaced(Role::Admin, Some(Role::Member))]);
    given_team_and(&given_for_now)
        .when(until(OWNER, MEMBER, Role::Admin, END))
        .then_expect_events(vec![]);
    // Given for good, it lasts; another one replaces it.
    given_team_and(&given_for_now)
        .when(change(OWNER, MEMBER, Role::Admin))
        .then_expect_events(vec![lifted(OWNER, MEMBER, Role::Admin, Some(Role::Member))]);
    given_team_and(&given_for_now)
        .when(change(OWNER, MEMBER, Role::Viewer))
        .then_expect_events(vec![changed(OWNER, MEMBER, Role::Admin, Role::Viewer)]);
}

#[test]
fn a_moment_lies_in_the_future_and_not_too_far() {
    let far = NOW + LIMIT_AWAY_MAX.num_microseconds().unwrap();
    for (moment, detail) in [
        (NOW - 1, "this must be in the future"),
        (NOW, "this must be in the future"),
        (far + 1, "this is too far away"),
    ] {
        given_team()
            .when(until(OWNER, MEMBER, Role::Viewer, moment))
            .then_expect_error(wrong("until", detail));
    }
    let result = given_team()
        .when(until(OWNER, MEMBER, Role::Viewer, far))
        .inspect_result();
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn nobody_makes_their_own_role_last_longer() {
    let own = [limited(OWNER, ADMIN, Role::Admin, Some(Role::Member))];
    let refused = Refusal::OwnLimit {
        until: Timestamp(END),
    };
    for command in [
        change(ADMIN, ADMIN, Role::Admin),
        until(ADMIN, ADMIN, Role::Admin, END + 1),
    ] {
        given_team_and(&own)
            .when(command)
            .then_expect_error(refused.clone());
    }
    for command in [
        change(ADMIN, ADMIN, Role::Member),
        until(ADMIN, ADMIN, Role::Admin, END - 1),
        change(OWNER, ADMIN, Role::Admin),
    ] {
        let result = given_team_and(&own).when(command).inspect_result();
        assert!(result.is_ok(), "{result:?}");
    }
    // An owner who is an admin for a while is still above admins.
    given_team_and(&[
        changed(OTHER_OWNER, OWNER, Role::Owner, Role::Admin),
        limited(OTHER_OWNER, OWNER, Role::Admin, Some(Role::Owner)),
    ])
    .when(remove(ADMIN, OWNER))
    .then_expect_error(above(Role::Owner, Role::Admin));
}

#[test]
fn nobody_gives_what_lasts_longer_than_what_they_have() {
    let refused = Refusal::OwnLimit {
        until: Timestamp(END),
    };
    let invite_as = |role| invite(ADMIN, role);
    let keeps = |role| [limited(OWNER, ADMIN, Role::Admin, Some(role))];
    let leaves = [limited(OWNER, ADMIN, Role::Admin, None)];
    for (own, command) in [
        (&keeps(Role::Member), change(ADMIN, MEMBER, Role::Admin)),
        (
            &keeps(Role::Member),
            until(ADMIN, MEMBER, Role::Admin, END + 1),
        ),
        (&keeps(Role::Member), invite_as(Role::Admin)),
        (&keeps(Role::Viewer), invite_as(Role::Member)),
        (&keeps(Role::Member), grant(ADMIN, STRANGER, END + 1)),
        (&leaves, invite_as(Role::Viewer)),
        (&leaves, change(ADMIN, VIEWER, Role::Member)),
    ] {
        given_team_and(own)
            .when(command)
            .then_expect_error(refused.clone());
    }
    for (own, command) in [
        (&keeps(Role::Member), until(ADMIN, MEMBER, Role::Admin, END)),
        (&keeps(Role::Member), invite_as(Role::Member)),
        (&keeps(Role::Member), grant(ADMIN, STRANGER, END)),
        // Taking is no giving.
        (&leaves, change(ADMIN, MEMBER, Role::Viewer)),
        (&leaves, change(ADMIN, OTHER_ADMIN, Role::Viewer)),
    ] {
        let result = given_team_and(own).when(command).inspect_result();
        assert!(result.is_ok(), "{result:?}");
    }
    // Whoever invited holds their role for a time only by now.
    let invited = invited(ADMIN, Role::Member);
    for (own, gives) in [
        (limited(OWNER, ADMIN, Role::Admin, Some(Role::Member)), true),
        (
            limited(OWNER, ADMIN, Role::Admin, Some(Role::Viewer)),
            false,
        ),
        (limited(OWNER, ADMIN, Role::Admin, None), false),
    ] {
        let result = given_team_and(&[invited.clone(), own])
            .when(accept())
            .inspect_result();
        let exceeds = Refusal::InvitationExceedsInviter { role: Role::Member };
        match gives {
            true => assert!(result.is_ok(), "{result:?}"),
            false => assert_eq!(result.err(), Some(exceeds)),
        }
    }
}

#[test]
fn an_owner_whose_role_ends_is_no_owner_for_always() {
    let other_ends = limited(OWNER, OTHER_OWNER, Role::Owner, None);
    for command in [
        leave(OWNER),
        change(OWNER, OWNER, Role::Admin),
        until(OWNER, OWNER, Role::Owner, END),
        until(OWNER, OWNER, Role::Viewer, END),
        remove(OTHER_OWNER, OWNER),
    ] {
        given_team_and(std::slice::from_ref(&other_ends))
            .when(command)
            .then_expect_error(Refusal::LastOwner);
    }
    given_team_and(&[other_ends])
        .when(leave(OTHER_OWNER))
        .then_expect_events(vec![left(OTHER_OWNER, Role::Owner)]);
}

#[test]
fn somebody_who_is_no_member_audits_until_a_date() {
    for actor in [OWNER, ADMIN] {
        given_team()
            .when(grant(actor, STRANGER, END))
            .then_expect_events(vec![granted(actor, END)]);
    }
    let year = NOW + GRANT_AWAY_MAX.num_microseconds().unwrap();
    for (command, refused) in [
        (grant(OWNER, VIEWER, END), Refusal::AlreadyMember),
        (
            grant(OWNER, STRANGER, NOW),
            wrong("expires_at", "this must be in the future"),
        ),
        (
            grant(OWNER, STRANGER, year + 1),
            wrong("expires_at", "this is too far away"),
        ),
        (
            grant(MEMBER, STRANGER, END),
            not_permitted(Permission::ManageAuditors, Role::Member),
        ),
    ] {
        given_team().when(command).then_expect_error(refused);
    }
    given_team_and(&[granted(OWNER, END)])
        .when(grant(ADMIN, STRANGER, END))
        .then_expect_error(Refusal::AlreadyExists {
            what: "auditor grant",
        });
    given_at(END, team())
        .and(vec![granted(OWNER, END)])
        .when(grant(ADMIN, STRANGER, DEADLINE))
        .then_expect_events(vec![grant_expired(), granted(ADMIN, DEADLINE)]);
}

#[test]
fn a_grant_allows_reading_and_no_command() {
    let mut state = fold(team());
    state.apply(granted(OWNER, END));
    state.positioned(&granted(OWNER, END), 21);
    let may = |permission, now| state.authorise(user(STRANGER), permission, Timestamp(now));
    let link = AuthorityLink::AuditorGrant { position: 21 };
    assert_eq!(may(Permission::ReadAudit, END - 1), Ok(link));
    let hidden = Err(not_found("workspace", true));
    assert_eq!(may(Permission::ReadAudit, END), hidden);
    for (command, permission) in [
        (rename(STRANGER, "Mine"), Permission::RenameWorkspace),
        (leave(STRANGER), Permission::LeaveWorkspace),
        (grant(STRANGER, 8, END), Permission::ManageAuditors),
        (delete(STRANGER, "Crew"), Permission::DeleteWorkspace),
    ] {
        given_team_and(&[granted(OWNER, END)])
            .when(command)
            .then_expect_error(Refusal::NotPermittedToAuditor { permission });
    }
}

#[test]
fn a_grant_ends_once() {
    let revoke = || WorkspaceCommand::RevokeAuditor {
        actor: user(ADMIN),
        user: user(STRANGER),
    };
    let expire = || WorkspaceCommand::ExpireAuditor {
        user: user(STRANGER),
    };
    let at = |now| given_at(now, team()).and(vec![granted(OWNER, END)]);
    let missing = not_found("auditor grant", false);
    at(END - 1)
        .when(revoke())
        .then_expect_events(vec![grant_revoked(ADMIN)]);
    at(END).when(revoke()).then_expect_error(missing.clone());
    at(END - 1).when(expire()).then_expect_events(vec![]);
    at(END)
        .when(expire())
        .then_expect_events(vec![grant_expired()]);
    at(END)
        .and(vec![grant_expired()])
        .when(expire())
        .then_expect_events(vec![]);
    given_team().when(revoke()).then_expect_error(missing);
    // Whoever comes in needs none.
    let mut comes_in = accepted(ADMIN, Role::Member);
    comes_in.insert(0, grant_revoked(STRANGER));
    given_team_and(&[granted(OWNER, END), invited(ADMIN, Role::Member)])
        .when(accept())
        .then_expect_events(comes_in);
}

#[test]
fn the_new_events_are_named_as_their_payloads_are_tagged() {
    for event in [
        transferred(1, 2),
        deleted(),
        WorkspaceEvent::PolicyChanged {
            from: Policy::default(),
            to: Policy::default(),
        },
        limited(1, 2, Role::Viewer, None),
        lifted(1, 2, Role::Viewer, None),
        reached(2, Role::Viewer, None),
        granted(1, END),
        grant_revoked(1),
        grant_expired(),
    ] {
        let payload = serde_json::to_value(&event).unwrap();
        assert!(payload.get(event.event_type()).is_some(), "{payload}");
    }
}
