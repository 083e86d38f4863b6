//! That the checker takes histories that a workspace can have, and refuses those that it cannot.

use std::time::Duration;

use tempfile::TempDir;

use super::model::{
    Content, Operation, Outcome, Recorded, Seen, Thing, Workspace, content, first_wrong,
    is_linearizable,
};

const BEGIN: Workspace = Workspace {
    name: content(0, 1),
    policy: content(0, 1),
    agent: content(0, 2),
    position: 10,
};

fn at(asked: u64, answered: u64, operation: Operation) -> Recorded {
    Recorded {
        asked: Duration::from_millis(asked),
        answered: (answered > 0).then(|| Duration::from_millis(answered)),
        operation,
    }
}

fn write(value: u64, if_version: Option<u64>, outcome: Outcome) -> Operation {
    Operation::Write {
        thing: Thing::Name,
        value,
        if_version,
        outcome,
    }
}

fn done(value: u64, position: u64) -> Operation {
    write(value, None, Outcome::Done(position))
}

fn read(content: Content, position: u64) -> Operation {
    Operation::Read {
        thing: Thing::Name,
        content,
        seen: Seen::At(position),
    }
}

fn since(content: Content, position: u64) -> Operation {
    Operation::Read {
        thing: Thing::Name,
        content,
        seen: Seen::Since(position),
    }
}

/// Times are of questions and answers; an answer at 0 never comes.
pub async fn tells_wrong_from_right(_: TempDir) {
    let unknown = |value| write(value, None, Outcome::Unknown);
    let first = content(0, 1);
    let right = [
        vec![at(1, 2, done(7, 11)), at(3, 4, read(content(7, 2), 11))],
        // At once, and seen in the order of their positions.
        vec![
            at(1, 9, done(7, 12)),
            at(1, 9, done(8, 11)),
            at(2, 3, read(first, 10)),
            at(4, 5, read(content(8, 2), 11)),
            at(6, 7, read(content(7, 3), 12)),
        ],
        // Begun before a change was answered, and ended after.
        vec![at(1, 4, done(7, 11)), at(3, 5, read(first, 10))],
        // Read at a position of something else.
        vec![at(1, 2, read(first, 15)), at(3, 4, done(7, 16))],
        // Not answered: it happened late, or never.
        vec![
            at(1, 0, unknown(7)),
            at(2, 3, read(first, 10)),
            at(4, 5, read(content(7, 2), 11)),
        ],
        vec![
            at(1, 0, unknown(7)),
            at(2, 3, done(8, 11)),
            at(4, 5, read(content(8, 2), 11)),
        ],
        vec![
            at(1, 0, unknown(7)),
            at(2, 3, done(8, 12)),
            at(4, 5, read(content(8, 3), 12)),
        ],
        // Of two on one version, one is refused.
        vec![
            at(1, 5, write(7, Some(1), Outcome::Done(11))),
            at(1, 5, write(8, Some(1), Outcome::Refused)),
        ],
        // A condition that did not hold any more.
        vec![
            at(1, 0, write(7, Some(1), Outcome::Unknown)),
            at(2, 3, done(8, 11)),
            at(4, 5, read(content(8, 2), 11)),
        ],
        // Answered with what somebody else had made since.
        vec![
            at(1, 6, done(7, 11)),
            at(2, 5, done(8, 12)),
            at(1, 6, since(content(8, 3), 11)),
        ],
    ];
    for history in right {
        assert!(is_linearizable(&BEGIN, &history), "{history:#?}");
        assert_eq!(first_wrong(&BEGIN, &history), None);
    }
    // With the number of the answer that is wrong.
    let wrong = [
        // Stale.
        (1, vec![at(1, 2, done(7, 11)), at(3, 4, read(first, 11))]),
        // Of the future.
        (
            0,
            vec![at(1, 2, read(content(7, 2), 11)), at(3, 4, done(7, 11))],
        ),
        // Never written.
        (0, vec![at(1, 2, read(content(9, 1), 10))]),
        // Seen, and then not any more.
        (
            2,
            vec![
                at(1, 9, done(7, 11)),
                at(2, 3, read(content(7, 2), 11)),
                at(4, 5, read(first, 11)),
            ],
        ),
        (
            2,
            vec![
                at(1, 0, unknown(7)),
                at(2, 3, read(content(7, 2), 11)),
                at(4, 5, read(first, 11)),
            ],
        ),
        // Both on the same version: an update is lost.
        (
            1,
            vec![
                at(1, 5, write(7, Some(1), Outcome::Done(11))),
                at(1, 6, write(8, Some(1), Outcome::Done(12))),
            ],
        ),
        // Refused although the version was right.
        (0, vec![at(1, 2, write(7, Some(1), Outcome::Refused))]),
        // Taken although it was not.
        (0, vec![at(1, 2, write(7, Some(5), Outcome::Done(11)))]),
        // Positions that go backwards.
        (1, vec![at(1, 2, done(7, 12)), at(3, 4, done(8, 11))]),
        (1, vec![at(1, 2, read(first, 12)), at(3, 4, done(7, 11))]),
        // At a position at which something else was already to be seen.
        (
            1,
            vec![
                at(1, 5, done(7, 11)),
                at(1, 6, read(first, 12)),
                at(5, 7, done(8, 13)),
            ],
        ),
        // A change twice.
        (
            1,
            vec![at(1, 2, done(7, 11)), at(3, 4, read(content(7, 3), 12))],
        ),
        // Answered with what was before it.
        (1, vec![at(1, 5, done(7, 11)), at(1, 6, since(first, 11))]),
    ];
    for (number, history) in wrong {
        assert!(!is_linearizable(&BEGIN, &history), "{history:#?}");
        let found = first_wrong(&BEGIN, &history);
        assert_eq!(found, Some(&history[number]), "{history:#?}");
    }
}
