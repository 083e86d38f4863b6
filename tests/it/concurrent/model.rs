//! What a workspace is to those who change and read it at once, and whether a history of what they
//! were told is one that a workspace could have had, had it done one thing after the other, each
//! at a moment between its question and its answer: whether it is linearizable.
//!
//! The search is `todc-utils`'; what is ours is what a workspace does. That is stricter than a
//! register: every change moves a version by one, so that a change of which nobody knows is
//! counted, and each has a position behind those of all changes and reads before it.
//!
//! Who was not answered does not know whether it has happened. Such a change may have its moment
//! at any time after its question: its answer comes at the end of the history, where it makes no
//! difference any more, and none of its answers is wrong. Where somebody has read its value, it
//! comes when they were answered: values are given once. A read that was not answered is no part of
//! a history.

use std::time::Duration;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// What is changed and read, each with a version of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Thing {
    /// What the workspace is called.
    Name,
    /// After how many days its keys want to be rotated.
    Policy,
    /// What an agent in one of its crews is made of.
    Agent,
}

pub const THINGS: [Thing; 3] = [Thing::Name, Thing::Policy, Thing::Agent];

/// A value and its version, which is the number of the event that made it in its stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Content {
    pub value: u64,
    pub version: u64,
}

/// A workspace at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Workspace {
    pub name: Content,
    pub policy: Content,
    pub agent: Content,
    /// The highest that anybody was told of a change, or has read at.
    pub position: u64,
}

impl Workspace {
    pub fn content(&self, thing: Thing) -> Content {
        match thing {
            Thing::Name => self.name,
            Thing::Policy => self.policy,
            Thing::Agent => self.agent,
        }
    }

    /// Itself with another value; names and policies are in one stream, and agents in that of
    /// their crew.
    fn with(&self, thing: Thing, value: u64) -> Self {
        let of_workspace = self.name.version.max(self.policy.version) + 1;
        let mut next = self.clone();
        match thing {
            Thing::Name => next.name = content(value, of_workspace),
            Thing::Policy => next.policy = content(value, of_workspace),
            Thing::Agent => next.agent = content(value, self.agent.version + 1),
        }
        next
    }
}

pub const fn content(value: u64, version: u64) -> Content {
    Content { value, version }
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is written, at this position.
    Done(u64),
    /// It is not, as its condition did not hold.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// When something was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// At this position.
    At(u64),
    /// At this one or later: what a change is answered with is what there is then.
    Since(u64),
}

/// What somebody did, and what they were told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// The first of a history: how the workspace was.
    Begin(Workspace),
    Write {
        thing: Thing,
        value: u64,
        /// The version that it must have, where that was asked for.
        if_version: Option<u64>,
        outcome: Outcome,
    },
    Read {
        thing: Thing,
        content: Content,
        seen: Seen,
    },
}

/// An operation between its question and its answer, by the time since the history began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub asked: Duration,
    /// None where there was no answer.
    pub answered: Option<Duration>,
    pub operation: Operation,
}

struct Rules;

impl Specification for Rules {
    type State = Workspace;
    type Operation = Operation;

    fn init() -> Workspace {
        Workspace::default()
    }

    /// Whether the operation could have been answered so, and what is after it.
    fn apply(operation: &Operation, state: &Workspace) -> (bool, Workspace) {
        match operation {
            Operation::Begin(workspace) => (*state == Workspace::default(), workspace.clone()),
            Operation::Write {
                thing,
                value,
                if_version,
                outcome,
            } => {
                let version = state.content(*thing).version;
                let holds = if_version.is_none_or(|wanted| wanted == version);
                let mut next = state.with(*thing, *value);
                match outcome {
                    Outcome::Done(position) => {
                        next.position = *position;
                        (holds && *position > state.position, next)
                    }
                    Outcome::Refused => (!holds, state.clone()),
                    Outcome::Unknown if holds => (true, next),
                    Outcome::Unknown => (true, state.clone()),
                }
            }
            Operation::Read {
                thing,
                content,
                seen,
            } => {
                let is_so = state.content(*thing) == *content;
                let mut next = state.clone();
                match seen {
                    Seen::At(position) => {
                        next.position = *position;
                        (is_so && *position >= state.position, next)
                    }
                    Seen::Since(position) => (is_so && state.position >= *position, next),
                }
            }
        }
    }
}

/// Whether the operations could have happened one after the other.
pub fn is_linearizable(begin: &Workspace, operations: &[Recorded]) -> bool {
    let mut actions = vec![(0, Action::Call(Operation::Begin(begin.clone())))];
    actions.push((0, Action::Response(Operation::Begin(begin.clone()))));
    // Where a question and an answer are at the same time, both could have come first: then they
    // are taken to overlap, which allows more.
    let mut moments: Vec<_> = operations
        .iter()
        .enumerate()
        .flat_map(|(number, recorded)| {
            let answered = recorded
                .answered
                .or_else(|| first_read(recorded, operations));
            let answered = answered.unwrap_or(Duration::MAX);
            [(recorded.asked, false, number), (answered, true, number)]
        })
        .collect();
    moments.sort_unstable();
    actions.extend(moments.into_iter().map(|(_, is_answer, number)| {
        let operation = operations[number].operation.clone();
        let action = match is_answer {
            true => Action::Response(operation),
            false => Action::Call(operation),
        };
        // Each by somebody of its own: the times alone say what came first.
        (number + 1, action)
    }));
    WGLChecker::<Rules>::is_linearizable(History::from_actions(actions))
}

/// When the value of a change was read first: by then it had happened. The search would find out by
/// itself, and take long where there are many.
fn first_read(change: &Recorded, operations: &[Recorded]) -> Option<Duration> {
    let Operation::Write { thing, value, .. } = change.operation else {
        return None;
    };
    let reads = operations
        .iter()
        .filter(|recorded| match recorded.operation {
            Operation::Read {
                thing: of, content, ..
            } => of == thing && content.value == value,
            Operation::Begin(_) | Operation::Write { .. } => false,
        });
    reads.filter_map(|read| read.answered).min()
}

/// The first answer that no order explains, with what had been answered before: cut off there, a
/// history that is linearizable stays so.
pub fn first_wrong<'a>(begin: &Workspace, operations: &'a [Recorded]) -> Option<&'a Recorded> {
    if is_linearizable(begin, operations) {
        return None;
    }
    let mut by_answer: Vec<_> = operations.iter().collect();
    by_answer.sort_by_key(|recorded| recorded.answered.unwrap_or(Duration::MAX));
    let (mut good, mut bad) = (0, by_answer.len());
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        let cut = by_answer[middle - 1].answered.unwrap_or(Duration::MAX);
        match is_linearizable(begin, &until(operations, cut)) {
            true => good = middle,
            false => bad = middle,
        }
    }
    Some(by_answer[bad - 1])
}

/// A history as it was known at a moment: changes that were under way may have happened.
fn until(operations: &[Recorded], cut: Duration) -> Vec<Recorded> {
    let known = operations.iter().filter(|recorded| recorded.asked <= cut);
    let known = known.filter_map(|recorded| {
        if recorded.answered.is_some_and(|answered| answered <= cut) {
            return Some(recorded.clone());
        }
        let mut open = recorded.clone();
        open.answered = None;
        match &mut open.operation {
            Operation::Write { outcome, .. } => *outcome = Outcome::Unknown,
            Operation::Begin(_) | Operation::Read { .. } => return None,
        }
        Some(open)
    });
    known.collect()
}
