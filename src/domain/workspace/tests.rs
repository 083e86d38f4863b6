//! The rules of a workspace: given what happened, when it is asked, then this happens.

mod access;
mod holds;

use cqrs_es::test::{AggregateTestExecutor, TestFramework};

use super::*;
use crate::domain::testing::{at, invitation, name, organization, plan, sealed, user, workspace};

/// User 1 and 2 are owners, 3 and 4 admins, 5 a member, 6 a viewer, 9 a stranger.
const OWNER: u128 = 1;
const OTHER_OWNER: u128 = 2;
const ADMIN: u128 = 3;
const OTHER_ADMIN: u128 = 4;
const MEMBER: u128 = 5;
const VIEWER: u128 = 6;
const STRANGER: u128 = 9;

const NOW: i64 = 1_000;
const DEADLINE: i64 = 5_000;

type Executor = AggregateTestExecutor<Workspace>;

fn given_at(now: i64, events: Vec<WorkspaceEvent>) -> Executor {
    TestFramework::with(at(now)).given(events)
}

fn given(events: Vec<WorkspaceEvent>) -> Executor {
    given_at(NOW, events)
}

/// What happened in a full team, and then this.
fn given_team_and(events: &[WorkspaceEvent]) -> Executor {
    given(team()).and(events.to_vec())
}

fn given_team() -> Executor {
    given(team())
}

fn fold(events: Vec<WorkspaceEvent>) -> Workspace {
    let mut state = Workspace::default();
    for event in events {
        state.apply(event);
    }
    state
}

fn role_of(state: &Workspace, number: u128) -> Option<Role> {
    let member = state.member_at(user(number), Timestamp(NOW));
    member.map(|member| member.role)
}

fn joined(number: u128, role: Role) -> WorkspaceEvent {
    WorkspaceEvent::MemberJoined {
        user: user(number),
        role,
        source: MembershipSource::Invitation {
            invitation: invitation(number),
            invited_by: user(OWNER),
        },
    }
}

/// One owner and nobody else.
fn created() -> Vec<WorkspaceEvent> {
    vec![
        WorkspaceEvent::WorkspaceCreated {
            workspace: workspace(1),
            organization: organization(1),
            name: "Crew".to_owned(),
            created_by: user(OWNER),
        },
        WorkspaceEvent::MemberJoined {
            user: user(OWNER),
            role: Role::Owner,
            source: MembershipSource::Creation,
        },
        WorkspaceEvent::PlanSelected {
            from: None,
            to: plan("team"),
        },
    ]
}

fn team() -> Vec<WorkspaceEvent> {
    let mut events = created();
    events.push(joined(OTHER_OWNER, Role::Owner));
    events.push(joined(ADMIN, Role::Admin));
    events.push(joined(OTHER_ADMIN, Role::Admin));
    events.push(joined(MEMBER, Role::Member));
    events.push(joined(VIEWER, Role::Viewer));
    events
}

fn create() -> WorkspaceCommand {
    WorkspaceCommand::Create {
        workspace: workspace(1),
        organization: organization(1),
        name: name("Crew"),
        created_by: user(OWNER),
        plan: plan("team"),
    }
}

fn rename(actor: u128, text: &str) -> WorkspaceCommand {
    WorkspaceCommand::Rename {
        actor: user(actor),
        name: name(text),
    }
}

fn select(actor: u128, text: &str) -> WorkspaceCommand {
    WorkspaceCommand::SelectPlan {
        actor: user(actor),
        plan: plan(text),
    }
}

fn change(actor: u128, number: u128, role: Role) -> WorkspaceCommand {
    WorkspaceCommand::ChangeRole {
        actor: user(actor),
        user: user(number),
        role,
    }
}

fn changed(actor: u128, number: u128, from: Role, to: Role) -> WorkspaceEvent {
    WorkspaceEvent::MemberRoleChanged {
        user: user(number),
        from,
        to,
        changed_by: user(actor),
    }
}

fn remove(actor: u128, number: u128) -> WorkspaceCommand {
    WorkspaceCommand::Remove {
        actor: user(actor),
        user: user(number),
    }
}

fn removed(actor: u128, number: u128, role: Role) -> WorkspaceEvent {
    WorkspaceEvent::MemberRemoved {
        user: user(number),
        role,
        removed_by: user(actor),
    }
}

fn leave(number: u128) -> WorkspaceCommand {
    WorkspaceCommand::Leave { user: user(number) }
}

fn left(number: u128, role: Role) -> WorkspaceEvent {
    WorkspaceEvent::MemberLeft {
        user: user(number),
        role,
    }
}

fn invite(actor: u128, role: Role) -> WorkspaceCommand {
    WorkspaceCommand::Invite {
        actor: user(actor),
        invitation: invitation(70),
        email: sealed("email"),
        role,
        token_hash: "hash".to_owned(),
        expires_at: Timestamp(DEADLINE),
        invitee: None,
    }
}

fn invited_as(number: u128, actor: u128, role: Role, expires_at: i64) -> WorkspaceEvent {
    WorkspaceEvent::MemberInvited {
        invitation: invitation(number),
        email: sealed("email"),
        role,
        invited_by: user(actor),
        token_hash: "hash".to_owned(),
        expires_at: Timestamp(expires_at),
    }
}

fn invited(actor: u128, role: Role) -> WorkspaceEvent {
    invited_as(70, actor, role, DEADLINE)
}

fn resend(actor: u128) -> WorkspaceCommand {
    WorkspaceCommand::ResendInvitation {
        actor: user(actor),
        invitation: invitation(70),
        token_hash: "new hash".to_owned(),
        expires_at: Timestamp(DEADLINE + 1),
    }
}

fn resent(actor: u128) -> WorkspaceEvent {
    WorkspaceEvent::InvitationResent {
        invitation: invitation(70),
        resent_by: user(actor),
        token_hash: "new hash".to_owned(),
        expires_at: Timestamp(DEADLINE + 1),
    }
}

fn revoke(actor: u128) -> WorkspaceCommand {
    WorkspaceCommand::RevokeInvitation {
        actor: user(actor),
        invitation: invitation(70),
    }
}

fn revoked(actor: u128) -> WorkspaceEvent {
    WorkspaceEvent::InvitationRevoked {
        invitation: invitation(70),
        revoked_by: user(actor),
    }
}

fn accept_as(number: u128, token_hash: &str) -> WorkspaceCommand {
    WorkspaceCommand::AcceptInvitation {
        invitation: invitation(70),
        token_hash: token_hash.to_owned(),
        user: user(number),
    }
}

fn accept() -> WorkspaceCommand {
    accept_as(STRANGER, "hash")
}

fn accepted(inviter: u128, role: Role) -> Vec<WorkspaceEvent> {
    vec![
        WorkspaceEvent::InvitationAccepted {
            invitation: invitation(70),
            user: user(STRANGER),
        },
        WorkspaceEvent::MemberJoined {
            user: user(STRANGER),
            role,
            source: MembershipSource::Invitation {
                invitation: invitation(70),
                invited_by: user(inviter),
            },
        },
    ]
}

fn decline(token_hash: &str) -> WorkspaceCommand {
    WorkspaceCommand::DeclineInvitation {
        invitation: invitation(70),
        token_hash: token_hash.to_owned(),
    }
}

fn declined() -> WorkspaceEvent {
    WorkspaceEvent::InvitationDeclined {
        invitation: invitation(70),
    }
}

fn expire() -> WorkspaceCommand {
    WorkspaceCommand::ExpireInvitation {
        invitation: invitation(70),
    }
}

fn expired() -> WorkspaceEvent {
    WorkspaceEvent::InvitationExpired {
        invitation: invitation(70),
        expires_at: Timestamp(DEADLINE),
    }
}

fn not_found(what: &'static str, hidden: bool) -> Refusal {
    Refusal::NotFound { what, hidden }
}

fn not_permitted(permission: Permission, role: Role) -> Refusal {
    Refusal::NotPermitted { permission, role }
}

fn above(role: Role, own: Role) -> Refusal {
    Refusal::RoleAboveOwn { role, own }
}

fn ended(status: &'static str) -> Refusal {
    Refusal::InvitationNotPending { status }
}

/// The ways an invitation ends, and what is said of it afterwards.
fn endings() -> Vec<(Vec<WorkspaceEvent>, &'static str)> {
    vec![
        (accepted(ADMIN, Role::Member), "accepted"),
        (vec![declined()], "declined"),
        (vec![revoked(ADMIN)], "revoked"),
        (vec![expired()], "expired"),
    ]
}

#[test]
fn a_workspace_is_made_once_and_its_maker_owns_it() {
    given(vec![]).when(create()).then_expect_events(created());
    given(created())
        .when(create())
        .then_expect_error(Refusal::AlreadyExists { what: "workspace" });
    let state = fold(created());
    assert!(state.exists());
    assert_eq!(state.name(), "Crew");
    assert_eq!(state.plan(), Some(&plan("team")));
    assert_eq!(role_of(&state, OWNER), Some(Role::Owner));
    assert_eq!(state.organization(), Some(organization(1)));
    assert_eq!(Workspace::default().organization(), None);
}

#[test]
fn nothing_happens_in_a_workspace_that_is_not_there() {
    for command in [
        rename(OWNER, "Mine"),
        select(OWNER, "free"),
        change(OWNER, ADMIN, Role::Member),
        remove(OWNER, ADMIN),
        remove(OWNER, OWNER),
        leave(OWNER),
        invite(OWNER, Role::Viewer),
        resend(OWNER),
        revoke(OWNER),
        accept(),
        decline("hash"),
        expire(),
    ] {
        given(vec![])
            .when(command)
            .then_expect_error(not_found("workspace", false));
    }
}

#[test]
fn who_is_no_member_does_not_learn_that_it_exists() {
    for command in [
        rename(STRANGER, "Mine"),
        select(STRANGER, "free"),
        change(STRANGER, STRANGER, Role::Owner),
        remove(STRANGER, MEMBER),
        remove(STRANGER, STRANGER),
        leave(STRANGER),
        invite(STRANGER, Role::Viewer),
        resend(STRANGER),
        revoke(STRANGER),
    ] {
        given_team()
            .when(command)
            .then_expect_error(not_found("workspace", true));
    }
}

#[test]
fn every_command_takes_the_permission_that_the_matrix_names() {
    use Permission as P;
    let people = [
        (OWNER, Role::Owner),
        (ADMIN, Role::Admin),
        (MEMBER, Role::Member),
        (VIEWER, Role::Viewer),
    ];
    for (actor, role) in people {
        for (command, permission) in [
            (rename(actor, "New"), P::RenameWorkspace),
            (select(actor, "free"), P::SelectPlan),
            (change(actor, MEMBER, Role::Viewer), P::ChangeRoles),
            (remove(actor, OTHER_ADMIN), P::RemoveMembers),
            (invite(actor, Role::Viewer), P::InviteMembers),
            (leave(actor), P::LeaveWorkspace),
        ] {
            let result = given_team().when(command).inspect_result();
            if permission.allows(role) {
                assert!(result.is_ok(), "{role:?} {permission:?} {result:?}");
            } else {
                assert_eq!(result, Err(not_permitted(permission, role)));
            }
        }
        for command in [resend(actor), revoke(actor)] {
            let result = given_team_and(&[invited(OWNER, Role::Viewer)])
                .when(command)
                .inspect_result();
            assert_eq!(result.is_ok(), P::InviteMembers.allows(role), "{result:?}");
        }
    }
}

#[test]
fn an_owner_renames_it() {
    given_team()
        .when(rename(OWNER, "New"))
        .then_expect_events(vec![WorkspaceEvent::WorkspaceRenamed {
            from: "Crew".to_owned(),
            to: "New".to_owned(),
        }]);
    given_team()
        .when(rename(OWNER, " Crew "))
        .then_expect_events(vec![]);
    let mut events = created();
    events.push(WorkspaceEvent::WorkspaceRenamed {
        from: "Crew".to_owned(),
        to: "New".to_owned(),
    });
    assert_eq!(fold(events).name(), "New");
}

#[test]
fn an_owner_selects_another_plan() {
    let selected = WorkspaceEvent::PlanSelected {
        from: Some(plan("team")),
        to: plan("free"),
    };
    given_team()
        .when(select(OWNER, "free"))
        .then_expect_events(vec![selected.clone()]);
    given_team()
        .when(select(OWNER, "team"))
        .then_expect_events(vec![]);
    given_team_and(&[selected])
        .when(select(OWNER, "team"))
        .then_expect_events(vec![WorkspaceEvent::PlanSelected {
            from: Some(plan("free")),
            to: plan("team"),
        }]);
}

#[test]
fn roles_change_up_to_ones_own() {
    for (actor, number, from, to) in [
        (OWNER, MEMBER, Role::Member, Role::Owner),
        (OWNER, OTHER_OWNER, Role::Owner, Role::Viewer),
        (OWNER, OWNER, Role::Owner, Role::Admin),
        (ADMIN, MEMBER, Role::Member, Role::Admin),
        (ADMIN, OTHER_ADMIN, Role::Admin, Role::Member),
        (ADMIN, ADMIN, Role::Admin, Role::Viewer),
    ] {
        given_team()
            .when(change(actor, number, to))
            .then_expect_events(vec![changed(actor, number, from, to)]);
    }
    given_team()
        .when(change(ADMIN, MEMBER, Role::Member))
        .then_expect_events(vec![]);
}

#[test]
fn an_admin_never_makes_touches_or_unmakes_an_owner() {
    let refused = above(Role::Owner, Role::Admin);
    for command in [
        change(ADMIN, MEMBER, Role::Owner),
        change(ADMIN, ADMIN, Role::Owner),
        change(ADMIN, OWNER, Role::Viewer),
        change(ADMIN, OWNER, Role::Owner),
        remove(ADMIN, OWNER),
        invite(ADMIN, Role::Owner),
    ] {
        given_team()
            .when(command)
            .then_expect_error(refused.clone());
    }
    for command in [resend(ADMIN), revoke(ADMIN)] {
        given_team_and(&[invited(OWNER, Role::Owner)])
            .when(command)
            .then_expect_error(refused.clone());
    }
    // Even where no other owner is left, it is their authority that is said to lack.
    given(created())
        .and(vec![joined(ADMIN, Role::Admin)])
        .when(remove(ADMIN, OWNER))
        .then_expect_error(refused);
}

#[test]
fn who_is_aimed_at_must_be_a_member() {
    for command in [
        change(ADMIN, STRANGER, Role::Viewer),
        remove(ADMIN, STRANGER),
    ] {
        given_team()
            .when(command)
            .then_expect_error(not_found("member", false));
    }
}

#[test]
fn members_are_removed_up_to_ones_own_role() {
    for (actor, number, role) in [
        (OWNER, OTHER_OWNER, Role::Owner),
        (OWNER, ADMIN, Role::Admin),
        (ADMIN, OTHER_ADMIN, Role::Admin),
        (ADMIN, VIEWER, Role::Viewer),
    ] {
        given_team()
            .when(remove(actor, number))
            .then_expect_events(vec![removed(actor, number, role)]);
    }
    given_team_and(&[removed(ADMIN, VIEWER, Role::Viewer)])
        .when(remove(ADMIN, VIEWER))
        .then_expect_error(not_found("member", false));
}

#[test]
fn everybody_leaves_as_they_like_and_who_removes_themselves_leaves() {
    for (number, role) in [
        (OWNER, Role::Owner),
        (ADMIN, Role::Admin),
        (MEMBER, Role::Member),
        (VIEWER, Role::Viewer),
    ] {
        for command in [leave(number), remove(number, number)] {
            given_team()
                .when(command)
                .then_expect_events(vec![left(number, role)]);
        }
    }
}

#[test]
fn the_last_owner_stays_one() {
    for command in [
        leave(OWNER),
        remove(OWNER, OWNER),
        change(OWNER, OWNER, Role::Admin),
        change(OWNER, OWNER, Role::Viewer),
    ] {
        given_team_and(&[left(OTHER_OWNER, Role::Owner)])
            .when(command)
            .then_expect_error(Refusal::LastOwner);
    }
    given(created())
        .when(change(OWNER, OWNER, Role::Owner))
        .then_expect_events(vec![]);
}

#[test]
fn a_role_that_was_taken_away_decides_nothing_any_more() {
    let admin = Role::Admin;
    for (event, refused) in [
        (removed(OWNER, ADMIN, admin), not_found("workspace", true)),
        (left(ADMIN, admin), not_found("workspace", true)),
        (
            changed(OWNER, ADMIN, admin, Role::Member),
            not_permitted(Permission::RemoveMembers, Role::Member),
        ),
    ] {
        given_team_and(&[event])
            .when(remove(ADMIN, VIEWER))
            .then_expect_error(refused);
    }
}

#[test]
fn people_are_invited_up_to_ones_own_role() {
    for (actor, role) in [
        (OWNER, Role::Owner),
        (ADMIN, Role::Admin),
        (ADMIN, Role::Viewer),
    ] {
        given_team()
            .when(invite(actor, role))
            .then_expect_events(vec![invited(actor, role)]);
    }
}

#[test]
fn an_invitation_has_an_id_of_its_own() {
    let refused = Refusal::AlreadyExists { what: "invitation" };
    given_team_and(&[invited(ADMIN, Role::Member)])
        .when(invite(ADMIN, Role::Member))
        .then_expect_error(refused.clone());
    for (ending, _) in endings() {
        given_team_and(&[invited(ADMIN, Role::Member)])
            .and(ending)
            .when(invite(ADMIN, Role::Member))
            .then_expect_error(refused.clone());
    }
}

#[test]
fn who_is_in_already_is_not_invited() {
    let invite_known = |number: u128| WorkspaceCommand::Invite {
        actor: user(ADMIN),
        invitation: invitation(70),
        email: sealed("email"),
        role: Role::Member,
        token_hash: "hash".to_owned(),
        expires_at: Timestamp(DEADLINE),
        invitee: Some(user(number)),
    };
    given_team()
        .when(invite_known(VIEWER))
        .then_expect_error(Refusal::AlreadyMember);
    given_team()
        .when(invite_known(STRANGER))
        .then_expect_events(vec![invited(ADMIN, Role::Member)]);
}

/// A team with as many invitations as can be pending, but `missing`; each lives until
/// [`DEADLINE`].
fn full_of_invitations(missing: usize) -> Vec<WorkspaceEvent> {
    let count = PENDING_INVITATIONS_MAX - missing;
    let pending =
        (0..count as u128).map(|number| invited_as(1_000 + number, ADMIN, Role::Viewer, DEADLINE));
    team().into_iter().chain(pending).collect()
}

#[test]
fn pending_invitations_are_limited_and_expired_ones_do_not_count() {
    let refused = Refusal::TooManyInvitations {
        limit: PENDING_INVITATIONS_MAX,
    };
    given(full_of_invitations(0))
        .when(invite(ADMIN, Role::Member))
        .then_expect_error(refused.clone());
    given(full_of_invitations(1))
        .when(invite(ADMIN, Role::Member))
        .then_expect_events(vec![invited(ADMIN, Role::Member)]);
    given_at(DEADLINE, full_of_invitations(0))
        .when(invite(ADMIN, Role::Member))
        .then_expect_events(vec![invited(ADMIN, Role::Member)]);
    // Re-sending one that counts is no new one; reviving one that does not, is.
    given(full_of_invitations(1))
        .and(vec![invited(ADMIN, Role::Member)])
        .when(resend(ADMIN))
        .then_expect_events(vec![resent(ADMIN)]);
    given(full_of_invitations(0))
        .and(vec![invited_as(70, ADMIN, Role::Member, NOW)])
        .when(resend(ADMIN))
        .then_expect_error(refused);
}

#[test]
fn resending_replaces_the_token_and_the_deadline() {
    let pending = [invited(ADMIN, Role::Member)];
    given_team_and(&pending)
        .when(resend(OTHER_ADMIN))
        .then_expect_events(vec![resent(OTHER_ADMIN)]);
    let pending = [invited(ADMIN, Role::Member), resent(OTHER_ADMIN)];
    given_team_and(&pending)
        .when(accept())
        .then_expect_error(Refusal::InvitationTokenReplaced);
    given_team_and(&pending)
        .when(decline("hash"))
        .then_expect_error(Refusal::InvitationTokenReplaced);
    // It is still the first inviter's.
    given_at(DEADLINE, team())
        .and(pending.to_vec())
        .when(accept_as(STRANGER, "new hash"))
        .then_expect_events(accepted(ADMIN, Role::Member));
}

#[test]
fn resending_revives_what_no_event_has_ended() {
    given_at(DEADLINE, team())
        .and(vec![invited(ADMIN, Role::Member)])
        .when(resend(ADMIN))
        .then_expect_events(vec![resent(ADMIN)]);
}

#[test]
fn an_invitation_is_taken_back() {
    given_team_and(&[invited(OWNER, Role::Admin)])
        .when(revoke(ADMIN))
        .then_expect_events(vec![revoked(ADMIN)]);
}

#[test]
fn accepting_makes_a_member() {
    given_team_and(&[invited(ADMIN, Role::Member)])
        .when(accept())
        .then_expect_events(accepted(ADMIN, Role::Member));
    let mut events = team();
    events.push(invited(ADMIN, Role::Member));
    events.extend(accepted(ADMIN, Role::Member));
    assert_eq!(role_of(&fold(events), STRANGER), Some(Role::Member));
}

#[test]
fn accepting_takes_the_token_and_somebody_new() {
    for wrong in ["", "has", "hash ", "Hash"] {
        given_team_and(&[invited(ADMIN, Role::Member)])
            .when(accept_as(STRANGER, wrong))
            .then_expect_error(Refusal::InvitationTokenReplaced);
    }
    given_team_and(&[invited(ADMIN, Role::Member)])
        .when(accept_as(VIEWER, "hash"))
        .then_expect_error(Refusal::AlreadyMember);
}

#[test]
fn an_invitation_gives_no_more_than_its_inviter_may_still_give() {
    for (role, event) in [
        (Role::Viewer, left(ADMIN, Role::Admin)),
        (Role::Viewer, removed(OWNER, ADMIN, Role::Admin)),
        (
            Role::Viewer,
            changed(OWNER, ADMIN, Role::Admin, Role::Member),
        ),
    ] {
        given_team_and(&[invited(ADMIN, role), event])
            .when(accept())
            .then_expect_error(Refusal::InvitationExceedsInviter { role });
    }
    let demoted = changed(OTHER_OWNER, OWNER, Role::Owner, Role::Admin);
    given_team_and(&[invited(OWNER, Role::Owner), demoted.clone()])
        .when(accept())
        .then_expect_error(Refusal::InvitationExceedsInviter { role: Role::Owner });
    given_team_and(&[invited(OWNER, Role::Admin), demoted])
        .when(accept())
        .then_expect_events(accepted(OWNER, Role::Admin));
}

#[test]
fn whoever_holds_the_token_says_no() {
    given_team_and(&[invited(ADMIN, Role::Member)])
        .when(decline("hash"))
        .then_expect_events(vec![declined()]);
    given_team_and(&[invited(ADMIN, Role::Member)])
        .when(decline("other"))
        .then_expect_error(Refusal::InvitationTokenReplaced);
}

#[test]
fn an_invitation_lives_until_its_deadline_and_not_at_it() {
    let pending = [invited(ADMIN, Role::Member)];
    let at = |now| given_at(now, team()).and(pending.to_vec());
    at(DEADLINE - 1)
        .when(accept())
        .then_expect_events(accepted(ADMIN, Role::Member));
    for command in [accept(), decline("hash"), revoke(ADMIN)] {
        at(DEADLINE)
            .when(command)
            .then_expect_error(ended("expired"));
    }
    let expires_at = Timestamp(DEADLINE);
    at(DEADLINE - 1)
        .when(expire())
        .then_expect_error(Refusal::InvitationStillPending { expires_at });
    at(DEADLINE)
        .when(expire())
        .then_expect_events(vec![expired()]);
    // Due work that was found before somebody re-sent it comes too early.
    let expires_at = Timestamp(DEADLINE + 1);
    at(DEADLINE)
        .and(vec![resent(ADMIN)])
        .when(expire())
        .then_expect_error(Refusal::InvitationStillPending { expires_at });
}

#[test]
fn an_invitation_ends_once() {
    for (ending, status) in endings() {
        for command in [
            accept(),
            decline("hash"),
            revoke(ADMIN),
            resend(ADMIN),
            expire(),
        ] {
            given_team_and(&[invited(ADMIN, Role::Member)])
                .and(ending.clone())
                .when(command)
                .then_expect_error(ended(status));
        }
    }
}

#[test]
fn an_invitation_that_never_was_is_not_found() {
    for command in [
        accept(),
        decline("hash"),
        revoke(ADMIN),
        resend(ADMIN),
        expire(),
    ] {
        given_team()
            .when(command)
            .then_expect_error(not_found("invitation", false));
    }
}

#[test]
fn only_the_last_invitations_that_ended_are_remembered() {
    let mut state = fold(team());
    for number in 0..=FINISHED_INVITATIONS_MAX as u128 {
        state.apply(invited_as(number, ADMIN, Role::Viewer, DEADLINE));
        state.apply(WorkspaceEvent::InvitationDeclined {
            invitation: invitation(number),
        });
    }
    assert_eq!(state.finished.len(), FINISHED_INVITATIONS_MAX);
    assert!(state.pending.is_empty());
    let status = |number| state.invitation(invitation(number)).unwrap_err();
    assert_eq!(status(0), not_found("invitation", false));
    assert_eq!(status(1), ended("declined"));
}

#[test]
fn authority_names_the_role_and_the_event_that_gave_it() {
    let mut state = fold(team());
    state.positioned(&joined(VIEWER, Role::Viewer), 17);
    let position_of = |state: &Workspace| match state
        .authorise(user(VIEWER), Permission::SeeWorkspace, Timestamp(NOW))
        .unwrap()
    {
        AuthorityLink::Role { role, position } => (role, position),
        other => panic!("not a role: {other:?}"),
    };
    assert_eq!(position_of(&state), (Role::Viewer, 17));
    let promoted = changed(OWNER, VIEWER, Role::Viewer, Role::Admin);
    state.apply(promoted.clone());
    state.positioned(&promoted, 18);
    state.positioned(&left(VIEWER, Role::Admin), 19);
    assert_eq!(position_of(&state), (Role::Admin, 18));

    let see = Permission::SeeWorkspace;
    let hidden = Err(not_found("workspace", true));
    let now = Timestamp(NOW);
    assert_eq!(state.authorise(user(STRANGER), see, now), hidden);
    let missing = Err(not_found("workspace", false));
    let nothing = Workspace::default();
    assert_eq!(nothing.authorise(user(OWNER), see, now), missing);
    let plan = Permission::SelectPlan;
    let refused = Err(not_permitted(plan, Role::Admin));
    assert_eq!(state.authorise(user(ADMIN), plan, now), refused);
}

#[test]
fn the_state_survives_a_snapshot() {
    let mut state = fold(team());
    state.apply(invited(ADMIN, Role::Member));
    state.apply(invited_as(71, ADMIN, Role::Viewer, DEADLINE));
    state.apply(declined());
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<Workspace>(&text).unwrap(), state);
    assert_eq!(state.members().count(), 6);
    assert!(state.weight_bytes() > Workspace::default().weight_bytes());
}

#[test]
fn an_event_is_named_as_its_payload_is_tagged() {
    let mut events = created();
    events.push(WorkspaceEvent::WorkspaceRenamed {
        from: "a".to_owned(),
        to: "b".to_owned(),
    });
    events.push(changed(1, 2, Role::Viewer, Role::Member));
    events.push(removed(1, 2, Role::Viewer));
    events.push(left(1, Role::Viewer));
    events.push(invited(1, Role::Viewer));
    events.push(resent(1));
    events.extend(accepted(1, Role::Viewer));
    events.extend([declined(), revoked(1), expired()]);
    for event in events {
        let payload = serde_json::to_value(&event).unwrap();
        assert!(payload.get(event.event_type()).is_some(), "{payload}");
    }
}
