//! A workspace that nobody owns any more who is to be found, given to somebody by an operator of the
//! installation.

use std::collections::BTreeSet;

use super::{Workspace, WorkspaceEvent, rules::Decision};
use crate::domain::{
    Refusal, Timestamp,
    authority::Role,
    ids::{KeyId, UserId},
};

impl Workspace {
    /// Everybody who owns it at `now`, in the order of their ids.
    pub fn owners(&self, now: Timestamp) -> impl Iterator<Item = UserId> {
        let owns = move |(user, member): (&UserId, &super::Member)| {
            let present = member.at(now)?;
            (present.role == Role::Owner).then_some(*user)
        };
        self.members.iter().filter_map(owns)
    }

    /// Makes somebody an owner, where all who are one are among those who are `gone`. They stay
    /// owners: whoever takes over decides about that.
    pub(super) fn recover(
        &self,
        user: UserId,
        gone: &BTreeSet<UserId>,
        recovered_by: KeyId,
        now: Timestamp,
    ) -> Decision {
        self.existing()?;
        let owners: Vec<UserId> = self.owners(now).collect();
        if owners.iter().any(|owner| !gone.contains(owner)) {
            return Err(Refusal::OwnerIsThere);
        }
        if owners.contains(&user) {
            return Err(Refusal::WrongValue {
                field: "user",
                detail: "this person owns the workspace already",
            });
        }
        let before = [self.overdue(user, now), self.grant_gives_way(user, now)].concat();
        let recovered = WorkspaceEvent::WorkspaceRecovered {
            user,
            from: self.member_at(user, now).map(|member| member.role),
            gone: owners,
            recovered_by,
        };
        Ok([before, vec![recovered]].concat())
    }
}

#[cfg(test)]
mod tests {
    use cqrs_es::{Aggregate, test::TestFramework};
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        Stream,
        testing::{at, organization, user, workspace},
        workspace::{MembershipSource, WorkspaceCommand},
    };

    const NOW: i64 = 1_000;

    fn joined(number: u128, role: Role) -> WorkspaceEvent {
        WorkspaceEvent::MemberJoined {
            user: user(number),
            role,
            source: MembershipSource::Creation,
        }
    }

    /// Users 1 and 2 own it, 3 is a member.
    fn team() -> Vec<WorkspaceEvent> {
        let created = WorkspaceEvent::WorkspaceCreated {
            workspace: workspace(1),
            organization: organization(1),
            name: "Left".to_owned(),
            created_by: user(1),
        };
        vec![
            created,
            joined(1, Role::Owner),
            joined(2, Role::Owner),
            joined(3, Role::Member),
        ]
    }

    fn key() -> KeyId {
        KeyId::from_uuid(Uuid::from_u128(7))
    }

    fn recover(number: u128, gone: &[u128]) -> WorkspaceCommand {
        WorkspaceCommand::Recover {
            user: user(number),
            gone: gone.iter().map(|number| user(*number)).collect(),
            recovered_by: key(),
        }
    }

    fn recovered(number: u128, from: Option<Role>) -> WorkspaceEvent {
        WorkspaceEvent::WorkspaceRecovered {
            user: user(number),
            from,
            gone: vec![user(1), user(2)],
            recovered_by: key(),
        }
    }

    fn given(events: Vec<WorkspaceEvent>) -> cqrs_es::test::AggregateTestExecutor<Workspace> {
        TestFramework::<Workspace>::with(at(NOW)).given(events)
    }

    #[test]
    fn all_owners_must_be_gone() {
        given(team())
            .when(recover(9, &[1]))
            .then_expect_error(Refusal::OwnerIsThere);
        given(team())
            .when(recover(9, &[3]))
            .then_expect_error(Refusal::OwnerIsThere);
        given(team())
            .when(recover(9, &[1, 2]))
            .then_expect_events(vec![recovered(9, None)]);
        given(team())
            .when(recover(3, &[1, 2]))
            .then_expect_events(vec![recovered(3, Some(Role::Member))]);
        given(team())
            .when(recover(1, &[1, 2]))
            .then_expect_error(Refusal::WrongValue {
                field: "user",
                detail: "this person owns the workspace already",
            });
    }

    #[test]
    fn a_grant_gives_way_and_nothing_is_recovered_where_nothing_is() {
        let granted = WorkspaceEvent::AuditorGranted {
            user: user(9),
            expires_at: Timestamp(NOW + 1),
            granted_by: user(1),
        };
        let revoked = WorkspaceEvent::AuditorRevoked {
            user: user(9),
            expires_at: Timestamp(NOW + 1),
            revoked_by: user(9),
        };
        given([team(), vec![granted]].concat())
            .when(recover(9, &[1, 2]))
            .then_expect_events(vec![revoked, recovered(9, None)]);
        given(vec![])
            .when(recover(9, &[]))
            .then_expect_error(Refusal::NotFound {
                what: "workspace",
                hidden: false,
            });
    }

    #[test]
    fn the_new_owner_lasts_and_the_old_ones_stay() {
        let mut state = Workspace::default();
        for (event, position) in team().into_iter().chain([recovered(9, None)]).zip(1..) {
            state.apply(event.clone());
            state.positioned(&event, position);
        }
        let owners: Vec<_> = state.owners(Timestamp(NOW)).collect();
        assert_eq!(owners, [user(1), user(2), user(9)]);
        let member = state.member_at(user(9), Timestamp(NOW)).expect("a member");
        assert_eq!((member.granted_at, member.limit), (5, None));
    }
}
