//! Refused attempts of known principals in a workspace or an organization, and reports on access
//! that were made there.
//!
//! They are a stream of their own so that somebody who is refused never moves the version
//! of what they aimed at. The service counts; this makes sure that replicas which are
//! killed, or which both say the same, leave one event. It decides about nobody's rights.
//!
//! To add something: an event, the command that asks for it, a function that decides it,
//! its arm in `apply`, and its rule in `tests.rs`.

mod commands;
mod events;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};

pub use commands::AttemptsCommand;
pub use events::{AttemptsEvent, ReportQuestion};

use super::{
    Moment, Refusal, Stream,
    authority::Actor,
    environment::Environment,
    ids::{CrewId, OrganizationId},
};

/// How many minutes are remembered: the one that runs, and the one whose repeats are due.
const MINUTES_MAX: usize = 2;

/// How many attempts of one minute are remembered. Those beyond are written all the same,
/// only no longer told from their own doubles: an audit log rather says something twice
/// than not at all.
const ATTEMPTS_PER_MINUTE_MAX: usize = 10_000;

/// What was written of the two newest minutes that had any attempts.
///
/// Holds at most [`MINUTES_MAX`] minutes of at most [`ATTEMPTS_PER_MINUTE_MAX`] attempts
/// each. The oldest minute only ever grows, so what was forgotten is never taken for new.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempts {
    organization: Option<OrganizationId>,
    minutes: BTreeMap<i64, BTreeSet<Attempt>>,
}

/// What makes two attempts of one minute the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Attempt {
    actor: Actor,
    action: String,
    target: String,
    code: String,
    repeats: bool,
}

impl Attempts {
    /// The events that `command` leads to; nothing has changed yet.
    fn decide(&self, command: AttemptsCommand) -> Vec<AttemptsEvent> {
        match command {
            AttemptsCommand::Record {
                organization,
                actor,
                action,
                target,
                crew,
                environment,
                code,
                minute,
                count,
                repeats,
            } => {
                let attempt = Attempt {
                    actor,
                    action,
                    target,
                    code,
                    repeats,
                };
                if self.is_known(minute, &attempt) {
                    return Vec::new();
                }
                vec![attempt.refused(organization, (crew, environment), minute, count)]
            }
            AttemptsCommand::RecordReport {
                organization,
                actor,
                action,
                target,
                question,
                minute,
            } => {
                let report = Attempt::of_report(actor, &action, &target, &question);
                if self.is_known(minute, &report) {
                    return Vec::new();
                }
                vec![AttemptsEvent::ReportRead {
                    organization,
                    actor,
                    action,
                    target,
                    question,
                    minute,
                }]
            }
        }
    }

    /// Whether the attempt was written, or is too old to tell.
    fn is_known(&self, minute: i64, attempt: &Attempt) -> bool {
        match self.minutes.get(&minute) {
            Some(attempts) => attempts.contains(attempt),
            None => {
                let oldest = self.minutes.keys().next();
                self.minutes.len() == MINUTES_MAX && oldest.is_some_and(|oldest| minute < *oldest)
            }
        }
    }

    fn remember(&mut self, minute: i64, attempt: Attempt) {
        let attempts = self.minutes.entry(minute).or_default();
        if attempts.len() < ATTEMPTS_PER_MINUTE_MAX {
            attempts.insert(attempt);
        }
        while self.minutes.len() > MINUTES_MAX {
            self.minutes.pop_first();
        }
    }
}

impl Attempt {
    /// A report, remembered among what was tried: two are the same that ask the same.
    fn of_report(actor: Actor, action: &str, target: &str, question: &ReportQuestion) -> Self {
        Self {
            actor,
            action: action.to_owned(),
            target: target.to_owned(),
            code: serde_json::to_string(question).unwrap_or_default(),
            repeats: false,
        }
    }

    fn refused(
        self,
        organization: OrganizationId,
        (crew, environment): (Option<CrewId>, Option<Environment>),
        minute: i64,
        count: u64,
    ) -> AttemptsEvent {
        AttemptsEvent::AttemptRefused {
            organization,
            actor: self.actor,
            action: self.action,
            target: self.target,
            crew,
            environment,
            code: self.code,
            minute,
            count,
            repeats: self.repeats,
        }
    }
}

impl Aggregate for Attempts {
    const TYPE: &'static str = "attempts";
    type Command = AttemptsCommand;
    type Event = AttemptsEvent;
    type Error = Refusal;
    type Services = Moment;

    async fn handle(
        &mut self,
        command: AttemptsCommand,
        _moment: &Moment,
        sink: &EventSink<Self>,
    ) -> Result<(), Refusal> {
        // `write` applies: nothing is applied twice.
        for event in self.decide(command) {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: AttemptsEvent) {
        match event {
            AttemptsEvent::AttemptRefused {
                organization,
                actor,
                action,
                target,
                crew: _,
                environment: _,
                code,
                minute,
                count: _,
                repeats,
            } => {
                self.organization = Some(organization);
                let attempt = Attempt {
                    actor,
                    action,
                    target,
                    code,
                    repeats,
                };
                self.remember(minute, attempt);
            }
            AttemptsEvent::ReportRead {
                organization,
                actor,
                action,
                target,
                question,
                minute,
            } => {
                self.organization = Some(organization);
                let report = Attempt::of_report(actor, &action, &target, &question);
                self.remember(minute, report);
            }
        }
    }
}

impl Stream for Attempts {
    const STATE_VERSION: i64 = 1;

    fn positioned(&mut self, event: &AttemptsEvent, _position: u64) {
        match event {
            // Gives nobody a right, so nothing asks where it stands.
            AttemptsEvent::AttemptRefused { .. } | AttemptsEvent::ReportRead { .. } => {}
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }

    fn weight_bytes(&self) -> usize {
        // Three short texts and an actor each. At most two minutes, so this sum is short.
        let attempts: usize = self.minutes.values().map(BTreeSet::len).sum();
        size_of::<Self>() + attempts * 192
    }
}

impl DomainEvent for AttemptsEvent {
    fn event_type(&self) -> String {
        match self {
            Self::AttemptRefused { .. } => "attempt_refused",
            Self::ReportRead { .. } => "report_read",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
