//! Refused attempts of known principals, kept so that nobody can fill the disk with them:
//! the first in a minute at once, its repeats as one event when the minute has ended.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::{
    OperatorCaller, Principal, Request, Service, ServiceError,
    write::{Aim, Made},
};
use crate::{
    domain::{
        Refusal,
        attempts::{Attempts, AttemptsCommand},
        authority::Actor,
        environment::Environment,
        ids::{CrewId, KeyId, OrganizationId, WorkspaceId},
    },
    journal::{Origin, StreamRef, Unit},
};

/// Different attempts that are counted at once in one minute; what goes beyond it is only
/// counted in a metric.
const COUNTED_MAX: usize = 50_000;
/// Different attempts of one person in one minute that are kept apart; more of them are
/// counted in a metric alone.
const PER_ACTOR_MAX: usize = 60;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Attempt {
    actor: Actor,
    action: &'static str,
    target: String,
    crew: Option<CrewId>,
    environment: Option<Environment>,
    code: &'static str,
    organization: OrganizationId,
    workspace: Option<WorkspaceId>,
}

impl Attempt {
    fn of(actor: Actor, aim: &Aim, environment: Option<Environment>, refusal: &Refusal) -> Self {
        Self {
            actor,
            action: aim.action,
            target: aim.target.clone(),
            crew: aim.crew.map(|crew| crew.id),
            environment,
            code: refusal.code(),
            organization: aim.organization,
            workspace: aim.workspace,
        }
    }
}

/// The environment of the crew that is aimed at, where one is.
fn aim_environment(aim: &Aim) -> Option<Environment> {
    aim.crew.map(|crew| crew.environment)
}

/// What has been tried in the current minutes.
#[derive(Debug, Default)]
pub(super) struct AttemptCounter {
    minutes: Mutex<HashMap<i64, Minute>>,
}

/// What was tried in one minute, by whom.
#[derive(Debug, Default)]
struct Minute {
    kept: usize,
    by_actor: HashMap<Actor, HashMap<Attempt, u64>>,
}

impl AttemptCounter {
    /// Counts an attempt; answers whether it is the first in its minute.
    fn count(&self, minute: i64, attempt: &Attempt) -> bool {
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = minutes.entry(minute).or_default();
        let of_actor = counted.by_actor.entry(attempt.actor).or_default();
        if let Some(count) = of_actor.get_mut(attempt) {
            *count += 1;
            return false;
        }
        if counted.kept >= COUNTED_MAX || of_actor.len() >= PER_ACTOR_MAX {
            metrics::counter!("crewlog_attempts_not_kept_total").increment(1);
            return false;
        }
        of_actor.insert(attempt.clone(), 1);
        counted.kept += 1;
        true
    }

    /// Takes the repeats of the minutes before `minute`.
    fn ended_before(&self, minute: i64) -> Vec<(i64, Attempt, u64)> {
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = minutes.extract_if(|ended, _| *ended < minute);
        ended
            .flat_map(|(minute, counted)| {
                let attempts = counted.by_actor.into_values().flatten();
                let repeated = attempts.filter(|(_, count)| *count > 1);
                repeated.map(move |(attempt, count)| (minute, attempt, count - 1))
            })
            .collect()
    }
}

impl Service {
    /// Keeps a refusal. That it could not be kept is logged: the caller is refused anyway.
    pub(super) async fn keep_attempt(
        &self,
        principal: impl Into<Principal>,
        request: &Request,
        aim: &Aim,
        refusal: &Refusal,
    ) {
        if self.is_replica() {
            // It refuses nobody: whoever writes does, and keeps it.
            return;
        }
        let kept = self.try_to_keep(principal.into(), request, aim, refusal);
        if let Err(error) = kept.await {
            tracing::error!(%error, "a refused attempt was not kept");
        }
    }

    /// The same of an operator of the installation, whom those that it was done to may know.
    pub(super) async fn keep_operators_attempt(
        &self,
        operator: &OperatorCaller,
        request: &Request,
        aim: &Aim,
        refusal: &Refusal,
    ) {
        if self.is_replica() {
            return;
        }
        let attempt = Attempt::of(operator.actor(), aim, aim_environment(aim), refusal);
        let origin = self.origin_of_operator(operator, request, aim.organization, aim.workspace);
        if let Err(error) = self.keep_first(attempt, origin).await {
            tracing::error!(%error, "a refused attempt was not kept");
        }
    }

    async fn try_to_keep(
        &self,
        principal: Principal,
        request: &Request,
        aim: &Aim,
        refusal: &Refusal,
    ) -> Result<(), ServiceError> {
        let environment = self.environment_of(&principal, aim).await?;
        let attempt = Attempt::of(principal.actor(), aim, environment, refusal);
        let (organization, workspace) = (Some(aim.organization), aim.workspace);
        let origin = self.origin_of(&principal, request, organization, workspace);
        self.keep_first(attempt, origin).await
    }

    /// Writes an attempt, unless it is a repeat of one in this minute.
    async fn keep_first(
        &self,
        attempt: Attempt,
        origin: impl Future<Output = Result<Origin, ServiceError>>,
    ) -> Result<(), ServiceError> {
        let minute = self.source().now().minute();
        match self.attempts.count(minute, &attempt) {
            true => self.write_attempt(attempt, 1, None, origin.await?).await,
            false => Ok(()),
        }
    }

    /// The environment that an attempt is about: that of the crew or the key that it aims at, or
    /// else that of the key that makes it.
    async fn environment_of(
        &self,
        principal: &Principal,
        aim: &Aim,
    ) -> Result<Option<Environment>, ServiceError> {
        if let Some(environment) = aim_environment(aim) {
            return Ok(Some(environment));
        }
        let own = match principal {
            Principal::Key(key) => key.0.environment,
            Principal::Person(_) => None,
        };
        let Ok(key) = aim.target.parse::<KeyId>() else {
            return Ok(own);
        };
        let aimed_at = self.api_keys().get(&key.to_string()).await?.value;
        let aimed_at = aimed_at.filter(|key| key.workspace == aim.workspace);
        Ok(aimed_at.and_then(|key| key.environment).or(own))
    }

    /// Writes the repeats of minutes that have ended.
    pub(super) async fn write_repeated_attempts(&self) -> Result<u64, ServiceError> {
        let repeats = self.attempts.ended_before(self.source().now().minute());
        let written = repeats.len() as u64;
        for (minute, attempt, count) in repeats {
            self.write_attempt(attempt, count, Some(minute), Origin::system())
                .await?;
        }
        Ok(written)
    }

    /// `minute` is given for repeats only; a first attempt takes the log's own time.
    async fn write_attempt(
        &self,
        attempt: Attempt,
        count: u64,
        minute: Option<i64>,
        origin: Origin,
    ) -> Result<(), ServiceError> {
        let place = attempt
            .workspace
            .map_or_else(|| attempt.organization.to_string(), |id| id.to_string());
        let stream = StreamRef::of::<Attempts>(&place, &place);
        let unit = Unit {
            lane: attempt.organization.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin,
            idempotency: None,
            decide: Box::new(move |desk| {
                let command = AttemptsCommand::Record {
                    organization: attempt.organization,
                    actor: attempt.actor,
                    action: attempt.action.to_owned(),
                    target: attempt.target.clone(),
                    crew: attempt.crew,
                    environment: attempt.environment,
                    code: attempt.code.to_owned(),
                    minute: minute.unwrap_or_else(|| desk.now().minute()),
                    count,
                    repeats: minute.is_some(),
                };
                desk.execute::<Attempts>(&stream, command, &[])?;
                Ok(Made::Nothing.outcome(0))
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn attempt(target: u128) -> Attempt {
        Attempt {
            actor: Actor::System,
            action: "member.invited",
            target: target.to_string(),
            crew: None,
            environment: None,
            code: "not_permitted",
            organization: OrganizationId::from_uuid(Uuid::nil()),
            workspace: None,
        }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_repeats_when_the_minute_ends() {
        let counter = AttemptCounter::default();
        assert!(counter.count(7, &attempt(1)));
        assert!(!counter.count(7, &attempt(1)));
        assert!(!counter.count(7, &attempt(1)));
        assert!(counter.count(7, &attempt(2)));
        assert!(counter.ended_before(7).is_empty());
        assert_eq!(counter.ended_before(8), [(7, attempt(1), 2)]);
        assert!(counter.ended_before(9).is_empty());
    }

    #[test]
    fn one_person_cannot_fill_the_log() {
        let counter = AttemptCounter::default();
        let kept = (0..1_000)
            .filter(|target| counter.count(7, &attempt(*target)))
            .count();
        assert_eq!(kept, PER_ACTOR_MAX);
    }
}
