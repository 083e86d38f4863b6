//! Memberships against a model: whatever people try, in whatever order, nobody ever has a
//! right that nobody gave them, or has it longer, and the workspace always has an owner whose
//! role lasts.
//!
//! The model is naive on purpose and shares no rule with the code: it keeps the whole
//! history of invitations, and compares ranks that are written down here again.

use std::collections::BTreeMap;

use cqrs_es::Aggregate;
use proptest::prelude::*;

use super::*;
use crate::domain::testing::{at, invitation, name, organization, plan, sealed, user, workspace};

/// Person 0 makes the workspace; the others start as strangers.
const PEOPLE: u8 = 6;

/// Something that somebody tries. People and invitations are small numbers, taken modulo
/// what there is.
#[derive(Debug, Clone)]
enum Attempt {
    Wait {
        microseconds: i64,
    },
    ChangeRole {
        actor: u8,
        user: u8,
        role: Role,
    },
    Remove {
        actor: u8,
        user: u8,
    },
    Leave {
        user: u8,
    },
    Invite {
        actor: u8,
        role: Role,
        lifetime: i64,
        invitee: Option<u8>,
    },
    Resend {
        actor: u8,
        which: u8,
        lifetime: i64,
    },
    Revoke {
        actor: u8,
        which: u8,
    },
    /// `token_age` 0 is the newest token, 1 the one before it.
    Accept {
        which: u8,
        token_age: u8,
        user: u8,
    },
    Decline {
        which: u8,
        token_age: u8,
    },
    Expire {
        which: u8,
    },
    Rename {
        actor: u8,
    },
    SelectPlan {
        actor: u8,
    },
    /// Sometimes with a moment that is past.
    ChangeRoleUntil {
        actor: u8,
        user: u8,
        role: Role,
        lifetime: i64,
    },
    ReachLimit {
        user: u8,
    },
    Transfer {
        actor: u8,
        to: u8,
    },
    Delete {
        actor: u8,
        is_confirmed: bool,
    },
    Grant {
        actor: u8,
        user: u8,
        lifetime: i64,
    },
    RevokeGrant {
        actor: u8,
        user: u8,
    },
    ExpireGrant {
        user: u8,
    },
}

fn a_role() -> impl Strategy<Value = Role> {
    prop::sample::select(Role::ALL.to_vec())
}

/// Mostly the newest token.
fn a_token_age() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(2)]
}

fn an_attempt() -> impl Strategy<Value = Attempt> {
    // Whoever made the workspace tries most, or few would ever come in.
    let actor = || prop_oneof![2 => Just(0), 3 => 0..PEOPLE];
    let person = || 0..PEOPLE;
    // Mostly one of the newest invitations.
    let which = || prop_oneof![3 => Just(0), 2 => 1..4_u8, 1 => any::<u8>()];
    let lifetime = || 1..60_i64;
    prop_oneof![
        2 => (0..20_i64).prop_map(|microseconds| Attempt::Wait { microseconds }),
        3 => (actor(), person(), a_role())
            .prop_map(|(actor, user, role)| Attempt::ChangeRole { actor, user, role }),
        2 => (actor(), person()).prop_map(|(actor, user)| Attempt::Remove { actor, user }),
        1 => person().prop_map(|user| Attempt::Leave { user }),
        6 => (actor(), a_role(), lifetime(), prop::option::weighted(0.3, person())).prop_map(
            |(actor, role, lifetime, invitee)| Attempt::Invite { actor, role, lifetime, invitee }
        ),
        2 => (actor(), which(), lifetime())
            .prop_map(|(actor, which, lifetime)| Attempt::Resend { actor, which, lifetime }),
        1 => (actor(), which()).prop_map(|(actor, which)| Attempt::Revoke { actor, which }),
        8 => (which(), a_token_age(), person())
            .prop_map(|(which, token_age, user)| Attempt::Accept { which, token_age, user }),
        1 => (which(), a_token_age())
            .prop_map(|(which, token_age)| Attempt::Decline { which, token_age }),
        1 => which().prop_map(|which| Attempt::Expire { which }),
        1 => actor().prop_map(|actor| Attempt::Rename { actor }),
        1 => actor().prop_map(|actor| Attempt::SelectPlan { actor }),
        5 => (actor(), person(), a_role(), -3..40_i64).prop_map(|(actor, user, role, lifetime)| {
            Attempt::ChangeRoleUntil { actor, user, role, lifetime }
        }),
        2 => person().prop_map(|user| Attempt::ReachLimit { user }),
        2 => (actor(), person()).prop_map(|(actor, to)| Attempt::Transfer { actor, to }),
        1 => (actor(), prop::bool::weighted(0.2))
            .prop_map(|(actor, is_confirmed)| Attempt::Delete { actor, is_confirmed }),
        3 => (actor(), person(), -3..40_i64)
            .prop_map(|(actor, user, lifetime)| Attempt::Grant { actor, user, lifetime }),
        1 => (actor(), person()).prop_map(|(actor, user)| Attempt::RevokeGrant { actor, user }),
        1 => person().prop_map(|user| Attempt::ExpireGrant { user }),
    ]
}

/// How much a role may, written down once more.
fn rank(role: Role) -> u8 {
    match role {
        Role::Viewer => 1,
        Role::Member => 2,
        Role::Admin => 3,
        Role::Owner => 4,
    }
}

/// The least rank that holds a permission, written down once more.
fn least_rank(permission: Permission) -> u8 {
    match permission {
        // No rank holds it: it is for auditors, who have none.
        Permission::GiveUpGrant => 5,
        Permission::SeeWorkspace
        | Permission::LeaveWorkspace
        | Permission::SeeMembers
        | Permission::SeePolicy
        | Permission::AskWhoMay
        | Permission::SeeCrews
        | Permission::SeePromotions => 1,
        Permission::DescribeCrews
        | Permission::EditCrews
        | Permission::SendActivity
        | Permission::ProposePromotions => 2,
        Permission::InviteMembers
        | Permission::ChangeRoles
        | Permission::RemoveMembers
        | Permission::ReadAudit
        | Permission::SeeKeys
        | Permission::ManageKeys
        | Permission::ManageAuditors
        | Permission::ManageCrews
        | Permission::ManageConnections
        | Permission::BreakGlass
        | Permission::DecidePromotions
        | Permission::RunReviews => 3,
        Permission::RenameWorkspace
        | Permission::SelectPlan
        | Permission::SeeLimits
        | Permission::ChangeLimits
        | Permission::SeeUsage
        | Permission::SendUsage
        | Permission::ChangePolicy
        | Permission::TransferOwnership
        | Permission::HoldLegally
        | Permission::DeleteWorkspace => 4,
    }
}

/// What an auditor may, written down once more.
const AUDITS: [Permission; 3] = [
    Permission::SeeWorkspace,
    Permission::ReadAudit,
    Permission::GiveUpGrant,
];

const MANAGES_PEOPLE: u8 = 3;
const OWNS: u8 = 4;

/// What was given to whom, by accepted commands only.
#[derive(Default)]
struct Model {
    roles: BTreeMap<u8, Given>,
    invitations: Vec<Invited>,
    renames: u32,
    plans: u32,
    /// Until when, and by which event.
    grants: BTreeMap<u8, (i64, u64)>,
    is_deleted: bool,
    transfers: u32,
    ended_by_time: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Given {
    role: Role,
    position: u64,
    end: Option<End>,
}

/// When a role ends by itself, what comes then, and by which event.
#[derive(Debug, Clone, Copy, PartialEq)]
struct End {
    at: i64,
    then: Option<Role>,
    position: u64,
}

impl Given {
    fn for_good(role: Role, position: u64) -> Self {
        Self {
            role,
            position,
            end: None,
        }
    }

    /// The role that no time takes away.
    fn lasting(self) -> Option<Role> {
        self.end.map_or(Some(self.role), |end| end.then)
    }
}

struct Invited {
    by: u8,
    role: Role,
    /// Every token that was ever sent, oldest first.
    tokens: Vec<String>,
    expires_at: i64,
    over: bool,
}

impl Model {
    /// 0 for a stranger.
    fn rank_of(&self, person: u8) -> u8 {
        self.roles.get(&person).map_or(0, |given| rank(given.role))
    }

    /// Lets time do what it does by itself.
    fn pass_to(&mut self, now: i64) {
        for (person, given) in std::mem::take(&mut self.roles) {
            let over = given.end.filter(|end| end.at <= now);
            self.ended_by_time += u32::from(over.is_some());
            let left = match over {
                None => Some(given),
                Some(end) => end.then.map(|role| Given::for_good(role, end.position)),
            };
            self.roles.extend(left.map(|given| (person, given)));
        }
        self.grants.retain(|_, (expires_at, _)| *expires_at > now);
    }

    /// The rank of the strongest role that somebody has, or will have again.
    fn strongest(&self, person: u8) -> u8 {
        let lasting = self.roles.get(&person).and_then(|given| given.lasting());
        lasting.map_or(0, rank).max(self.rank_of(person))
    }

    fn is_last_owner(&self, person: u8) -> bool {
        let owns = |person: u8| {
            let given = self.roles.get(&person);
            given.is_some_and(|given| rank(given.role) == OWNS && given.end.is_none())
        };
        owns(person) && (0..PEOPLE).filter(|other| owns(*other)).count() == 1
    }

    /// Whether what somebody gives ends when what they have does, or is left to them then.
    fn gives_no_longer(&self, giver: u8, role: Role, until: Option<i64>) -> bool {
        let end = self.roles.get(&giver).and_then(|given| given.end);
        end.is_none_or(|end| {
            until.is_some_and(|until| until <= end.at)
                || end.then.is_some_and(|then| rank(then) >= rank(role))
        })
    }

    fn may_change(&self, (actor, user): (u8, u8), role: Role, until: Option<i64>) -> bool {
        let lasting = self.roles.get(&user).and_then(|given| given.lasting());
        let has_it_for_good = lasting.is_some_and(|lasting| rank(lasting) >= rank(role));
        self.rank_of(actor) >= MANAGES_PEOPLE
            && rank(role) <= self.rank_of(actor)
            && self.roles.contains_key(&user)
            && self.strongest(user) <= self.rank_of(actor)
            && (has_it_for_good || self.gives_no_longer(actor, role, until))
            && (!self.is_last_owner(user) || (rank(role) == OWNS && until.is_none()))
    }

    /// The invitation that is meant, counted back from the newest; and its index.
    fn meant(&self, which: u8) -> Option<(usize, &Invited)> {
        let count = self.invitations.len();
        let back = usize::from(which).checked_rem(count)?;
        let index = count - 1 - back;
        Some((index, &self.invitations[index]))
    }

    /// Whether the attempt must succeed, from what was given so far.
    fn expects(&self, attempt: &Attempt, now: i64) -> bool {
        let manages = |person: u8, role: Role| {
            self.rank_of(person) >= MANAGES_PEOPLE && rank(role) <= self.rank_of(person)
        };
        match *attempt {
            Attempt::Wait { .. } => true,
            Attempt::ChangeRole { actor, user, role } => self.may_change((actor, user), role, None),
            Attempt::ChangeRoleUntil {
                actor,
                user,
                role,
                lifetime,
            } => lifetime > 0 && self.may_change((actor, user), role, Some(now + lifetime)),
            Attempt::ReachLimit { .. } | Attempt::ExpireGrant { .. } => !self.is_deleted,
            Attempt::Transfer { actor, to } => {
                let owner = self.roles.get(&actor);
                actor != to
                    && self.rank_of(actor) == OWNS
                    && owner.is_some_and(|given| given.end.is_none())
                    && self.rank_of(to) > 0
            }
            Attempt::Delete {
                actor,
                is_confirmed,
            } => is_confirmed && self.rank_of(actor) == OWNS,
            Attempt::Grant {
                actor,
                user,
                lifetime,
            } => {
                self.rank_of(actor) >= MANAGES_PEOPLE
                    && self.gives_no_longer(actor, Role::Admin, Some(now + lifetime))
                    && lifetime > 0
                    && self.rank_of(user) == 0
                    && !self.grants.contains_key(&user)
            }
            Attempt::RevokeGrant { actor, user } => {
                let may = self.rank_of(actor) >= MANAGES_PEOPLE || actor == user;
                may && self.grants.contains_key(&user)
            }
            Attempt::Remove { actor, user } if actor == user => {
                self.rank_of(user) > 0 && !self.is_last_owner(user)
            }
            Attempt::Remove { actor, user } => {
                self.rank_of(actor) >= MANAGES_PEOPLE
                    && self.rank_of(user) > 0
                    && self.strongest(user) <= self.rank_of(actor)
                    && !self.is_last_owner(user)
            }
            Attempt::Leave { user } => self.rank_of(user) > 0 && !self.is_last_owner(user),
            Attempt::Invite {
                actor,
                role,
                invitee,
                ..
            } => {
                manages(actor, role)
                    && self.gives_no_longer(actor, role, None)
                    && invitee.is_none_or(|person| self.rank_of(person) == 0)
            }
            Attempt::Resend { actor, which, .. } => self
                .meant(which)
                .is_some_and(|(_, invited)| !invited.over && manages(actor, invited.role)),
            Attempt::Revoke { actor, which } => self.meant(which).is_some_and(|(_, invited)| {
                !invited.over && now < invited.expires_at && manages(actor, invited.role)
            }),
            Attempt::Accept {
                which,
                token_age,
                user,
            } => self.meant(which).is_some_and(|(_, invited)| {
                invited.answers(token_age, now)
                    && self.rank_of(user) == 0
                    && manages(invited.by, invited.role)
                    && self.gives_no_longer(invited.by, invited.role, None)
            }),
            Attempt::Decline { which, token_age } => self
                .meant(which)
                .is_some_and(|(_, invited)| invited.answers(token_age, now)),
            Attempt::Expire { which } => self
                .meant(which)
                .is_some_and(|(_, invited)| !invited.over && now >= invited.expires_at),
            Attempt::Rename { actor } | Attempt::SelectPlan { actor } => {
                self.rank_of(actor) == OWNS
            }
        }
    }

    fn command(&self, attempt: &Attempt, now: i64) -> Option<WorkspaceCommand> {
        use WorkspaceCommand as C;
        let person = |number: u8| user(u128::from(number));
        let known = |which: u8| {
            self.meant(which)
                .map_or(invitation(u128::MAX), |(index, _)| {
                    invitation(index as u128)
                })
        };
        let token = |which: u8, age: u8| {
            self.meant(which)
                .map_or("none".to_owned(), |(_, invited)| invited.token(age))
        };
        Some(match *attempt {
            Attempt::Wait { .. } => return None,
            Attempt::ChangeRole {
                actor,
                user: whom,
                role,
            } => C::ChangeRole {
                actor: person(actor),
                user: person(whom),
                role,
            },
            Attempt::Remove { actor, user: whom } => C::Remove {
                actor: person(actor),
                user: person(whom),
            },
            Attempt::Leave { user: whom } => C::Leave { user: person(whom) },
            Attempt::Invite {
                actor,
                role,
                lifetime,
                invitee,
            } => C::Invite {
                actor: person(actor),
                invitation: invitation(self.invitations.len() as u128),
                email: sealed("email"),
                role,
                token_hash: self.next_token(),
                expires_at: Timestamp(now + lifetime),
                invitee: invitee.map(person),
            },
            Attempt::Resend {
                actor,
                which,
                lifetime,
            } => C::ResendInvitation {
                actor: person(actor),
                invitation: known(which),
                token_hash: self.next_token(),
                expires_at: Timestamp(now + lifetime),
            },
            Attempt::Revoke { actor, which } => C::RevokeInvitation {
                actor: person(actor),
                invitation: known(which),
            },
            Attempt::Accept {
                which,
                token_age,
                user: whom,
            } => C::AcceptInvitation {
                invitation: known(which),
                token_hash: token(which, token_age),
                user: person(whom),
            },
            Attempt::Decline { which, token_age } => C::DeclineInvitation {
                invitation: known(which),
                token_hash: token(which, token_age),
            },
            Attempt::Expire { which } => C::ExpireInvitation {
                invitation: known(which),
            },
            Attempt::Rename { actor } => C::Rename {
                actor: person(actor),
                name: name(&format!("Crew {}", self.renames)),
            },
            Attempt::SelectPlan { actor } => C::SelectPlan {
                actor: person(actor),
                plan: plan(&format!("plan-{}", self.plans)),
            },
            Attempt::ChangeRoleUntil {
                actor,
                user: whom,
                role,
                lifetime,
            } => C::ChangeRoleUntil {
                actor: person(actor),
                user: person(whom),
                role,
                until: Timestamp(now + lifetime),
            },
            Attempt::ReachLimit { user: whom } => C::ReachLimit { user: person(whom) },
            Attempt::Transfer { actor, to } => C::TransferOwnership {
                actor: person(actor),
                to: person(to),
            },
            Attempt::Delete {
                actor,
                is_confirmed,
            } => C::Delete {
                actor: person(actor),
                confirm: match is_confirmed {
                    true => self.name(),
                    false => "another".to_owned(),
                },
            },
            Attempt::Grant {
                actor,
                user: whom,
                lifetime,
            } => C::GrantAuditor {
                actor: person(actor),
                user: person(whom),
                expires_at: Timestamp(now + lifetime),
            },
            Attempt::RevokeGrant { actor, user: whom } => C::RevokeAuditor {
                actor: person(actor),
                user: person(whom),
            },
            Attempt::ExpireGrant { user: whom } => C::ExpireAuditor { user: person(whom) },
        })
    }

    /// What the workspace is called.
    fn name(&self) -> String {
        match self.renames.checked_sub(1) {
            None => "Crew".to_owned(),
            Some(last) => format!("Crew {last}"),
        }
    }

    fn next_token(&self) -> String {
        let sent: usize = self.invitations.iter().map(|one| one.tokens.len()).sum();
        format!("token {sent}")
    }

    /// Notes an attempt that was accepted; its last event has this position.
    fn accept(&mut self, attempt: &Attempt, now: i64, position: u64) {
        let token = self.next_token();
        match *attempt {
            Attempt::Wait { .. } => {}
            Attempt::ChangeRole { actor, user, role } => {
                assert!(rank(role) <= self.rank_of(actor), "more than the giver has");
                let given = self.roles.get_mut(&user).expect("a member");
                if given.role != role {
                    *given = Given::for_good(role, position);
                }
                given.end = None;
            }
            Attempt::ChangeRoleUntil {
                actor,
                user,
                role,
                lifetime,
            } => {
                assert!(rank(role) <= self.rank_of(actor), "more than the giver has");
                self.accept_until(user, role, now + lifetime, position);
            }
            Attempt::ReachLimit { .. } | Attempt::ExpireGrant { .. } => {}
            Attempt::Transfer { actor, to } => {
                let heir = self.roles.get_mut(&to).expect("a member");
                if rank(heir.role) < OWNS {
                    *heir = Given::for_good(Role::Owner, position - 1);
                }
                heir.end = None;
                self.roles
                    .insert(actor, Given::for_good(Role::Admin, position));
                self.transfers += 1;
            }
            Attempt::Delete { .. } => {
                self.is_deleted = true;
                self.roles.clear();
                self.grants.clear();
                self.invitations.iter_mut().for_each(|one| one.over = true);
            }
            Attempt::Grant { user, lifetime, .. } => {
                self.grants.insert(user, (now + lifetime, position));
            }
            Attempt::RevokeGrant { user, .. } => {
                self.grants.remove(&user);
            }
            Attempt::Remove { user, .. } | Attempt::Leave { user } => {
                self.roles.remove(&user);
            }
            Attempt::Invite {
                actor,
                role,
                lifetime,
                ..
            } => self.invitations.push(Invited {
                by: actor,
                role,
                tokens: vec![token],
                expires_at: now + lifetime,
                over: false,
            }),
            Attempt::Resend {
                which, lifetime, ..
            } => {
                let invited = self.meant_mut(which);
                invited.tokens.push(token);
                invited.expires_at = now + lifetime;
            }
            Attempt::Accept { which, user, .. } => {
                let (by, role) = {
                    let invited = self.meant_mut(which);
                    invited.over = true;
                    (invited.by, invited.role)
                };
                assert!(rank(role) <= self.rank_of(by), "more than the giver has");
                self.roles.insert(user, Given::for_good(role, position));
                // Whoever is in needs no grant.
                self.grants.remove(&user);
            }
            Attempt::Revoke { which, .. }
            | Attempt::Decline { which, .. }
            | Attempt::Expire { which } => self.meant_mut(which).over = true,
            Attempt::Rename { .. } => self.renames += 1,
            Attempt::SelectPlan { .. } => self.plans += 1,
        }
    }

    /// Notes a role until a moment; the event of the end comes after that of the role.
    fn accept_until(&mut self, user: u8, role: Role, at: i64, position: u64) {
        let given = self.roles.get_mut(&user).expect("a member");
        let then = given.lasting().filter(|lasting| *lasting != role);
        let is_new_role = given.role != role;
        if is_new_role {
            *given = Given::for_good(role, position - 1);
        }
        let same = |end: &End| (end.at, end.then) == (at, then);
        if !given.end.as_ref().is_some_and(same) {
            given.end = Some(End { at, then, position });
        }
    }

    fn meant_mut(&mut self, which: u8) -> &mut Invited {
        let (index, _) = self.meant(which).expect("an accepted command named it");
        &mut self.invitations[index]
    }
}

impl Invited {
    fn token(&self, age: u8) -> String {
        let newest = self.tokens.len() - 1;
        newest
            .checked_sub(usize::from(age))
            .map_or("never sent".to_owned(), |index| self.tokens[index].clone())
    }

    fn answers(&self, token_age: u8, now: i64) -> bool {
        !self.over && now < self.expires_at && token_age == 0
    }
}

/// The aggregate, driven as the journal drives it.
struct Log {
    state: Workspace,
    position: u64,
}

impl Log {
    fn submit(&mut self, command: WorkspaceCommand, now: i64) -> Result<(), Refusal> {
        let sink = EventSink::default();
        let before = self.state.clone();
        futures::executor::block_on(self.state.handle(command, &at(now), &sink))?;
        let mut folded = before;
        for event in futures::executor::block_on(sink.collect()) {
            self.position += 1;
            folded.apply(event.clone());
            folded.positioned(&event, self.position);
            self.state.positioned(&event, self.position);
        }
        assert_eq!(self.state, folded, "deciding and folding agree");
        Ok(())
    }

    fn serialized(&self) -> String {
        serde_json::to_string(&self.state).unwrap()
    }
}

fn created(model: &mut Model) -> Log {
    let mut log = Log {
        state: Workspace::default(),
        position: 0,
    };
    let create = WorkspaceCommand::Create {
        workspace: workspace(1),
        organization: organization(1),
        name: name("Crew"),
        created_by: user(0),
        plan: plan("team"),
    };
    log.submit(create, 0).unwrap();
    // The second of its three events is what made them the owner.
    model.roles.insert(0, Given::for_good(Role::Owner, 2));
    log
}

fn check_rights(state: &Workspace, model: &Model, now: i64) {
    let now = Timestamp(now);
    let owners = state
        .members()
        .filter_map(|(_, member)| member.at(now))
        .filter(|member| member.role == Role::Owner && member.limit.is_none());
    let is_owned = owners.count() > 0;
    assert_eq!(
        is_owned, !model.is_deleted,
        "there is always an owner whose role lasts, until it is deleted"
    );
    let given: BTreeMap<_, _> = model
        .roles
        .iter()
        .map(|(person, given)| (user(u128::from(*person)), (given.role, given.position)))
        .collect();
    let held: BTreeMap<_, _> = state
        .members()
        .filter_map(|(user, member)| Some((user, member.at(now)?)))
        .map(|(user, member)| (user, (member.role, member.granted_at)))
        .collect();
    assert_eq!(held, given, "roles are held as they were given");
    for person in 0..PEOPLE {
        for permission in Permission::ALL {
            let may = state.authorise(user(u128::from(person)), permission, now);
            let audits = model
                .grants
                .get(&person)
                .filter(|_| AUDITS.contains(&permission));
            let given = model.rank_of(person) >= least_rank(permission) || audits.is_some();
            assert_eq!(may.is_ok(), given, "person {person}: {}", permission.name());
            if let (Ok(AuthorityLink::AuditorGrant { position }), Some(grant)) = (may, audits) {
                assert_eq!(position, grant.1, "the event that granted it");
            }
        }
    }
}

fn play(attempts: &[Attempt]) -> Model {
    let mut model = Model::default();
    let mut log = created(&mut model);
    let mut now = 0;
    for attempt in attempts {
        if let Attempt::Wait { microseconds } = attempt {
            now += microseconds;
            model.pass_to(now);
            check_rights(&log.state, &model, now);
        }
        let Some(command) = model.command(attempt, now) else {
            continue;
        };
        let expected = model.expects(attempt, now);
        let before = log.serialized();
        match log.submit(command, now) {
            Ok(()) => {
                assert!(expected, "accepted what nobody may: {attempt:?}");
                model.accept(attempt, now, log.position);
            }
            Err(refusal) => {
                assert!(!expected, "refused: {attempt:?}: {refusal}");
                assert_eq!(log.serialized(), before, "a refusal changes nothing");
            }
        }
        check_rights(&log.state, &model, now);
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_ever_has_a_right_that_was_not_given(
        attempts in prop::collection::vec(an_attempt(), 1..120)
    ) {
        play(&attempts);
    }
}

/// A property that is never exercised proves nothing: such attempts must, often enough,
/// bring people in, and end invitations.
#[test]
fn the_attempts_bring_people_in() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let sequences = prop::collection::vec(an_attempt(), 120);
    let (mut teams, mut resent) = (0, 0);
    let (mut transfers, mut ended_by_time, mut deleted, mut audited) = (0, 0, 0, 0);
    for _ in 0..50 {
        let attempts = sequences.new_tree(&mut runner).unwrap().current();
        let model = play(&attempts);
        teams += usize::from(model.roles.len() >= 3);
        let again = |invited: &&Invited| invited.over && invited.tokens.len() > 1;
        resent += model.invitations.iter().filter(again).count();
        transfers += model.transfers;
        ended_by_time += model.ended_by_time;
        deleted += u32::from(model.is_deleted);
        audited += model.grants.len();
    }
    assert!(teams >= 10, "{teams} of 50 ended with a team");
    assert!(resent >= 10, "{resent} invitations were re-sent and ended");
    assert!(transfers >= 10, "{transfers} times it was handed over");
    assert!(
        ended_by_time >= 10,
        "{ended_by_time} roles ended by themselves"
    );
    assert!(deleted >= 3, "{deleted} of 50 were deleted");
    assert!(audited >= 10, "{audited} grants counted at the end");
}
