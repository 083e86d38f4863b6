//! What a workspace may have: as much as its plan allows, and its owners do.
//!
//! Every command that adds something counted is refused where that would be too much, in the
//! append that writes it; so two that race never exceed a limit. Accepting an invitation turns
//! one that was counted into a member, and adds nothing; nor does rotating a key, as a key and
//! its successor count as one.

use super::{CREWS_MAX, Workspace, WorkspaceEvent, rules::Decision};
use crate::domain::{
    Moment, Refusal, Timestamp,
    authority::Permission,
    environment::Environment,
    ids::UserId,
    plans::{Excess, Quotas},
};

/// What there is of everything that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    pub members: u64,
    /// Invitations that can be accepted; they count as members.
    pub invitations: u64,
    pub development_crews: u64,
    pub staging_crews: u64,
    pub production_crews: u64,
    pub api_keys: u64,
}

impl Used {
    /// How many crews there are of an environment.
    pub fn crews(&self, environment: Environment) -> u64 {
        match environment {
            Environment::Development => self.development_crews,
            Environment::Staging => self.staging_crews,
            Environment::Production => self.production_crews,
        }
    }

    /// All that there is more of than `quotas` allow.
    fn beyond(&self, quotas: Quotas) -> Vec<Excess> {
        let excess = |quota, counted, present, allowed: Option<u64>| {
            let allowed = allowed.filter(|allowed| present > *allowed)?;
            Some(Excess {
                quota,
                counted,
                present,
                allowed,
            })
        };
        let people = self.members + self.invitations;
        let members = excess(
            "members",
            "members and pending invitations",
            people,
            quotas.members,
        );
        let crews = Environment::ALL.into_iter().map(|environment| {
            excess(
                "crews_per_environment",
                crews_of(environment),
                self.crews(environment),
                quotas.crews_per_environment,
            )
        });
        let keys = excess("api_keys", "API keys", self.api_keys, quotas.api_keys);
        let all = std::iter::once(members).chain(crews).chain([keys]);
        all.flatten().collect()
    }
}

fn crews_of(environment: Environment) -> &'static str {
    match environment {
        Environment::Development => "development crews",
        Environment::Staging => "staging crews",
        Environment::Production => "production crews",
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    items.fold(0, |count, _| count + 1)
}

impl Workspace {
    /// What its owners allow at most, below what the plan does.
    pub fn limits(&self) -> Quotas {
        self.limits
    }

    /// What there is at `now` of everything that is counted.
    pub fn used(&self, now: Timestamp) -> Used {
        let crews = |environment| count(self.crews.values().filter(|of| **of == environment));
        let keys = self.keys.live().map(|(_, key)| key);
        Used {
            members: count(self.members.values().filter_map(|member| member.at(now))),
            invitations: self.live_invitations(now) as u64,
            development_crews: crews(Environment::Development),
            staging_crews: crews(Environment::Staging),
            production_crews: crews(Environment::Production),
            api_keys: count(keys.filter(|key| key.successor.is_none() && key.is_live(now))),
        }
    }

    /// That one more fits into what plan and owners allow.
    fn has_room(
        &self,
        quota: &'static str,
        present: u64,
        moment: Moment,
        of: impl Fn(Quotas) -> Option<u64>,
    ) -> Result<(), Refusal> {
        let plan = of(moment.plans.quotas(self.plan()));
        let allowed = of(moment.plans.quotas(self.plan()).and(self.limits));
        match allowed {
            Some(allowed) if present >= allowed => Err(Refusal::LimitReached {
                quota,
                allowed,
                by_plan: plan == Some(allowed),
            }),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn has_room_for_a_member(&self, moment: Moment) -> Result<(), Refusal> {
        let used = self.used(moment.now);
        let people = used.members + used.invitations;
        self.has_room("members", people, moment, |quotas| quotas.members)
    }

    pub(super) fn has_room_for_a_crew(
        &self,
        environment: Environment,
        moment: Moment,
    ) -> Result<(), Refusal> {
        if self.crews.len() >= CREWS_MAX {
            return Err(Refusal::TooManyCrews { limit: CREWS_MAX });
        }
        let present = count(self.crews.values().filter(|of| **of == environment));
        self.has_room("crews_per_environment", present, moment, |quotas| {
            quotas.crews_per_environment
        })
    }

    pub(super) fn has_room_for_a_key(&self, moment: Moment) -> Result<(), Refusal> {
        let present = self.used(moment.now).api_keys;
        self.has_room("api_keys", present, moment, |quotas| quotas.api_keys)
    }

    /// That there is no more of anything than `quotas` allow.
    pub(super) fn fits(
        &self,
        quotas: Quotas,
        by_plan: bool,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        match self.used(now).beyond(quotas) {
            excess if excess.is_empty() => Ok(()),
            excess => Err(Refusal::LimitExceeded { excess, by_plan }),
        }
    }

    pub(super) fn change_limits(&self, actor: UserId, to: Quotas, moment: Moment) -> Decision {
        self.permitted(actor, Permission::ChangeLimits, moment.now)?;
        if self.limits == to {
            return Ok(Vec::new());
        }
        let by_plan = false;
        self.fits(to, by_plan, moment.now)?;
        let from = self.limits;
        Ok(vec![WorkspaceEvent::LimitsChanged { from, to }])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cqrs_es::{Aggregate, event_sink::EventSink};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::{Member, WorkspaceCommand as C, WorkspaceEvent as E};
    use super::*;
    use crate::domain::{
        api_keys::{KeyCommand, KeyTerms, NewSecret},
        authority::{Actor, Role},
        crew::CrewPlace,
        ids::{CrewId, KeyId},
        plans::Plans,
        testing::{invitation, name, organization, plan, sealed, user, workspace},
    };

    const OWNER: u128 = 1;

    fn quotas(members: u64, crews: u64, keys: u64) -> Quotas {
        Quotas {
            members: Some(members),
            crews_per_environment: Some(crews),
            api_keys: Some(keys),
            requests_per_minute: None,
        }
    }

    /// `small`: 3 members, 1 crew of each environment, 2 keys. `large`: 5, 2, 3.
    fn plans() -> &'static Plans {
        let of = [("small", quotas(3, 1, 2)), ("large", quotas(5, 2, 3))];
        let of: BTreeMap<_, _> = of.map(|(name, of)| (plan(name), of)).into();
        Box::leak(Box::new(Plans::new(of, Quotas::UNLIMITED)))
    }

    struct Trial {
        state: Workspace,
        now: i64,
        next: u128,
        plans: &'static Plans,
    }

    impl Trial {
        fn new(plans: &'static Plans) -> Self {
            let mut trial = Self {
                state: Workspace::default(),
                now: 0,
                next: 100,
                plans,
            };
            let made = trial.ask(C::Create {
                workspace: workspace(1),
                organization: organization(1),
                name: name("Crew"),
                created_by: user(OWNER),
                plan: plan("small"),
            });
            assert_eq!(made, Ok(()));
            trial
        }

        fn ask(&mut self, command: C) -> Result<(), Refusal> {
            let moment = Moment {
                now: Timestamp(self.now),
                plans: self.plans,
            };
            let sink = EventSink::default();
            futures::executor::block_on(self.state.handle(command, &moment, &sink))
        }

        fn number(&mut self) -> u128 {
            self.next += 1;
            self.next
        }

        fn invite(&mut self) -> Result<u128, Refusal> {
            let number = self.number();
            self.ask(C::Invite {
                actor: user(OWNER),
                invitation: invitation(number),
                email: sealed("email"),
                role: Role::Member,
                token_hash: number.to_string(),
                expires_at: Timestamp(self.now + 50),
                invitee: None,
            })?;
            Ok(number)
        }

        fn accept(&mut self, number: u128) -> Result<(), Refusal> {
            self.ask(C::AcceptInvitation {
                invitation: invitation(number),
                token_hash: number.to_string(),
                user: user(number),
            })
        }

        fn crew(&mut self, environment: Environment) -> Result<CrewPlace, Refusal> {
            let id = CrewId::from_uuid(Uuid::from_u128(self.number()));
            let crew = CrewPlace { id, environment };
            let actor = Actor::User { id: user(OWNER) };
            self.ask(C::ListCrew { actor, crew }).map(|()| crew)
        }

        fn key(&mut self) -> Result<KeyId, Refusal> {
            let key = KeyId::from_uuid(Uuid::from_u128(self.number()));
            self.ask(C::ApiKey(KeyCommand::Create {
                key,
                environment: Some(Environment::Staging),
                terms: KeyTerms::default(),
                secret: secret(),
                by: user(OWNER),
            }))
            .map(|()| key)
        }

        fn rotate(&mut self, key: KeyId) -> Result<(), Refusal> {
            let successor = KeyId::from_uuid(Uuid::from_u128(self.number()));
            self.ask(C::ApiKey(KeyCommand::Rotate {
                key,
                successor,
                secret: secret(),
                grace_seconds: 1,
                by: user(OWNER),
            }))
        }

        fn choose(&mut self, name: &str) -> Result<(), Refusal> {
            self.ask(C::SelectPlan {
                actor: user(OWNER),
                plan: plan(name),
            })
        }

        fn limit(&mut self, limits: Quotas) -> Result<(), Refusal> {
            self.ask(C::ChangeLimits {
                actor: user(OWNER),
                limits,
            })
        }

        fn allowed(&self) -> Quotas {
            self.plans
                .quotas(self.state.plan())
                .and(self.state.limits())
        }
    }

    fn secret() -> NewSecret {
        NewSecret {
            hash: "hash".to_owned(),
            prefix: "crew_stg_".to_owned(),
        }
    }

    fn reached(quota: &'static str, allowed: u64, by_plan: bool) -> Refusal {
        Refusal::LimitReached {
            quota,
            allowed,
            by_plan,
        }
    }

    #[test]
    fn an_invitation_counts_until_it_is_over() {
        let mut trial = Trial::new(plans());
        let first = trial.invite().unwrap();
        let second = trial.invite().unwrap();
        assert_eq!(trial.invite(), Err(reached("members", 3, true)));
        assert_eq!(trial.accept(first), Ok(()), "it was counted already");
        assert_eq!(trial.invite(), Err(reached("members", 3, true)));
        // The other runs out, though no event says so yet.
        trial.now = 50;
        assert!(trial.invite().is_ok());
        let resend = C::ResendInvitation {
            actor: user(OWNER),
            invitation: invitation(second),
            token_hash: "new".to_owned(),
            expires_at: Timestamp(100),
        };
        assert_eq!(
            trial.ask(resend),
            Err(reached("members", 3, true)),
            "it would count again"
        );
    }

    #[test]
    fn crews_are_counted_by_environment_and_keys_with_their_successors() {
        let mut trial = Trial::new(plans());
        let staging = trial.crew(Environment::Staging).unwrap();
        let refused = Err(reached("crews_per_environment", 1, true));
        assert_eq!(trial.crew(Environment::Staging), refused);
        assert!(trial.crew(Environment::Production).is_ok());
        let actor = Actor::User { id: user(OWNER) };
        let archive = C::UnlistCrew {
            actor,
            crew: staging,
        };
        assert_eq!(trial.ask(archive), Ok(()));
        assert!(trial.crew(Environment::Staging).is_ok());

        let key = trial.key().unwrap();
        trial.key().unwrap();
        assert_eq!(trial.key(), Err(reached("api_keys", 2, true)));
        assert_eq!(trial.rotate(key), Ok(()), "one takes the place of another");
        assert_eq!(trial.key(), Err(reached("api_keys", 2, true)));
    }

    #[test]
    fn owners_limit_below_the_plan_and_nothing_above_it() {
        let mut trial = Trial::new(plans());
        let two = Quotas {
            members: Some(2),
            ..Quotas::UNLIMITED
        };
        assert_eq!(trial.limit(two), Ok(()));
        trial.invite().unwrap();
        assert_eq!(trial.invite(), Err(reached("members", 2, false)));
        let nine = Quotas {
            members: Some(9),
            ..Quotas::UNLIMITED
        };
        assert_eq!(trial.limit(nine), Ok(()));
        trial.invite().unwrap();
        assert_eq!(trial.invite(), Err(reached("members", 3, true)));
        let Err(Refusal::LimitExceeded { excess, by_plan }) = trial.limit(two) else {
            panic!("less than there is");
        };
        assert_eq!(
            (excess[0].quota, excess[0].present, by_plan),
            ("members", 3, false)
        );
    }

    #[test]
    fn a_plan_that_is_exceeded_is_refused_with_everything_that_exceeds() {
        let mut trial = Trial::new(plans());
        assert_eq!(trial.choose("large"), Ok(()));
        for _ in 0..4 {
            trial.invite().unwrap();
        }
        for environment in [Environment::Production, Environment::Staging] {
            for _ in 0..2 {
                trial.crew(environment).unwrap();
            }
        }
        for _ in 0..3 {
            trial.key().unwrap();
        }
        let Err(Refusal::LimitExceeded { excess, by_plan }) = trial.choose("small") else {
            panic!("it is exceeded");
        };
        assert!(by_plan);
        let told: Vec<_> = excess.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "there are 5 members and pending invitations, and 3 would be allowed",
                "there are 2 staging crews, and 1 would be allowed",
                "there are 2 production crews, and 1 would be allowed",
                "there are 3 API keys, and 2 would be allowed",
            ]
        );
    }

    #[test]
    fn only_owners_set_limits() {
        let mut trial = Trial::new(plans());
        let number = trial.invite().unwrap();
        trial.accept(number).unwrap();
        let limits = Quotas::UNLIMITED;
        let actor = user(number);
        let refused = trial.ask(C::ChangeLimits { actor, limits });
        assert!(matches!(refused, Err(Refusal::NotPermitted { .. })));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wait(i64),
        Invite,
        Accept(u8),
        Decline(u8),
        Leave(u8),
        Crew(u8),
        Archive(u8),
        Key,
        Rotate(u8),
        Revoke(u8),
        Choose(bool),
        Limit(Option<u64>, Option<u64>, Option<u64>),
    }

    fn a_step() -> impl Strategy<Value = Step> {
        let limit = || prop::option::of(0..6u64);
        prop_oneof![
            2 => (0..40i64).prop_map(Step::Wait),
            6 => Just(Step::Invite),
            4 => any::<u8>().prop_map(Step::Accept),
            1 => any::<u8>().prop_map(Step::Decline),
            1 => any::<u8>().prop_map(Step::Leave),
            5 => (0..3u8).prop_map(Step::Crew),
            1 => any::<u8>().prop_map(Step::Archive),
            5 => Just(Step::Key),
            2 => any::<u8>().prop_map(Step::Rotate),
            1 => any::<u8>().prop_map(Step::Revoke),
            3 => any::<bool>().prop_map(Step::Choose),
            2 => (limit(), limit(), limit()).prop_map(|(one, two, three)| Step::Limit(one, two, three)),
        ]
    }

    fn nth<T: Copy>(items: &[T], which: u8) -> Option<T> {
        items
            .get(usize::from(which).checked_rem(items.len())?)
            .copied()
    }

    impl Trial {
        /// Whether it was done.
        fn take(&mut self, step: &Step, invited: &mut Vec<u128>) -> bool {
            let crews: Vec<_> = self.state.crews().collect();
            let keys: Vec<_> = self.state.keys().live().map(|(key, _)| key).collect();
            let actor = Actor::User { id: user(OWNER) };
            let done = match *step {
                Step::Wait(time) => {
                    self.now += time;
                    Ok(())
                }
                Step::Invite => self.invite().map(|number| invited.push(number)),
                Step::Accept(which) => match nth(invited, which) {
                    Some(number) => self.accept(number),
                    None => return false,
                },
                Step::Decline(which) => match nth(invited, which) {
                    Some(number) => self.ask(C::DeclineInvitation {
                        invitation: invitation(number),
                        token_hash: number.to_string(),
                    }),
                    None => return false,
                },
                Step::Leave(which) => match nth(invited, which) {
                    Some(number) => self.ask(C::Leave { user: user(number) }),
                    None => return false,
                },
                Step::Crew(which) => {
                    let environment = Environment::ALL[usize::from(which)];
                    self.crew(environment).map(drop)
                }
                Step::Archive(which) => match nth(&crews, which) {
                    Some(crew) => self.ask(C::UnlistCrew { actor, crew }),
                    None => return false,
                },
                Step::Key => self.key().map(drop),
                Step::Rotate(which) => match nth(&keys, which) {
                    Some(key) => self.rotate(key),
                    None => return false,
                },
                Step::Revoke(which) => match nth(&keys, which) {
                    Some(key) => {
                        let by = user(OWNER);
                        self.ask(C::ApiKey(KeyCommand::Revoke { key, by }))
                    }
                    None => return false,
                },
                Step::Choose(large) => self.choose(if large { "large" } else { "small" }),
                Step::Limit(members, crews, keys) => self.limit(Quotas {
                    members,
                    crews_per_environment: crews,
                    api_keys: keys,
                    requests_per_minute: None,
                }),
            };
            done.is_ok()
        }

        /// Counted from the state once more, without [`Workspace::used`].
        fn counts(&self) -> (usize, [usize; 3], usize) {
            let now = Timestamp(self.now);
            let present = |member: &Member| member.at(now).is_some();
            let members = self.state.members().filter(|(_, member)| present(member));
            let people = members.count() + self.state.live_invitations(now);
            let crews = Environment::ALL.map(|environment| {
                let of = self
                    .state
                    .crews()
                    .filter(|crew| crew.environment == environment);
                of.count()
            });
            let keys = self.state.keys().live();
            let keys = keys.filter(|(_, key)| key.is_live(now) && key.successor.is_none());
            (people, crews, keys.count())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is done in whatever order, there is never more of anything than allowed.
        #[test]
        fn limits_are_never_exceeded(steps in prop::collection::vec(a_step(), 1..150)) {
            let mut trial = Trial::new(plans());
            let mut invited = Vec::new();
            for step in &steps {
                let before = trial.state.clone();
                let done = trial.take(step, &mut invited);
                prop_assert!(done || trial.state == before, "a refusal changes nothing");
                let allowed = trial.allowed();
                let fits = |count: usize, allowed: Option<u64>| {
                    allowed.is_none_or(|allowed| count as u64 <= allowed)
                };
                let (people, crews, keys) = trial.counts();
                prop_assert!(fits(people, allowed.members), "{step:?}: {people} people");
                for count in crews {
                    prop_assert!(fits(count, allowed.crews_per_environment), "{step:?}: {count}");
                }
                prop_assert!(fits(keys, allowed.api_keys), "{step:?}: {keys} keys");
            }
        }
    }

    #[test]
    fn limits_are_folded_from_their_events() {
        let mut state = Workspace::default();
        let to = quotas(1, 1, 1);
        let from = Quotas::UNLIMITED;
        state.apply(E::LimitsChanged { from, to });
        assert_eq!(state.limits(), to);
    }
}
