//! An organization that an operator of the installation has suspended: since when, and that it goes
//! on. What it then changes no more is decided in [`crate::domain::suspension`].

use super::{Organization, OrganizationEvent};
use crate::domain::{Refusal, Timestamp, ids::KeyId};

type Decision = Result<Vec<OrganizationEvent>, Refusal>;

impl Organization {
    /// Since when it is suspended; none where it is not.
    pub fn suspended_since(&self) -> Option<Timestamp> {
        self.suspended_at
    }

    pub(super) fn suspend(&self, suspended_by: KeyId, now: Timestamp) -> Decision {
        self.existing()?;
        Ok(match self.suspended_at {
            Some(_) => Vec::new(),
            None => vec![OrganizationEvent::OrganizationSuspended {
                suspended_by,
                suspended_at: now,
            }],
        })
    }

    pub(super) fn resume(&self, resumed_by: KeyId) -> Decision {
        self.existing()?;
        let ended = self
            .suspended_at
            .map(|suspended_at| OrganizationEvent::OrganizationResumed {
                resumed_by,
                suspended_at,
            });
        Ok(ended.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        organization::OrganizationCommand,
        testing::{at, organization, user},
    };

    fn key() -> KeyId {
        KeyId::from_uuid(Uuid::from_u128(7))
    }

    fn created() -> OrganizationEvent {
        OrganizationEvent::OrganizationCreated {
            organization: organization(1),
            name: "Acme".to_owned(),
            created_by: user(1),
        }
    }

    fn suspended(at: i64) -> OrganizationEvent {
        OrganizationEvent::OrganizationSuspended {
            suspended_by: key(),
            suspended_at: Timestamp(at),
        }
    }

    fn resumed() -> OrganizationEvent {
        OrganizationEvent::OrganizationResumed {
            resumed_by: key(),
            suspended_at: Timestamp(5),
        }
    }

    fn given(events: Vec<OrganizationEvent>) -> AggregateTestExecutor<Organization> {
        TestFramework::with(at(9)).given(events)
    }

    #[test]
    fn it_is_suspended_once_and_goes_on_once() {
        let suspend = || OrganizationCommand::Suspend {
            suspended_by: key(),
        };
        let resume = || OrganizationCommand::Resume { resumed_by: key() };
        given(vec![created()])
            .when(suspend())
            .then_expect_events(vec![suspended(9)]);
        given(vec![created(), suspended(5)])
            .when(suspend())
            .then_expect_events(vec![]);
        given(vec![created(), suspended(5)])
            .when(resume())
            .then_expect_events(vec![resumed()]);
        given(vec![created(), suspended(5), resumed()])
            .when(resume())
            .then_expect_events(vec![]);
        given(vec![created(), suspended(5), resumed()])
            .when(suspend())
            .then_expect_events(vec![suspended(9)]);
        for command in [suspend(), resume()] {
            given(vec![])
                .when(command)
                .then_expect_error(Refusal::NotFound {
                    what: "organization",
                    hidden: false,
                });
        }
    }
}
