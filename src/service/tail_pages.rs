//! Pages of an audit log that tails with the same question read together.
//!
//! Tails of one log with one filter are a [`Stream`]. Whoever of them comes to the end of what was
//! read reads the next page for all of them; the others wait for it, or find it there. So what it
//! costs to follow a log does not grow with those who follow it, but for asking who may.
//!
//! Pages are of a log that does not change, each from where the last one ended. They are kept for
//! moments: whoever is further behind than the oldest of them reads by themselves until they have
//! come to it, and what is opened is not shown for longer than that.
//!
//! Never knows who reads: whoever takes a page asks afterwards whether its reader still may.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{AuditFilter, AuditScope};

/// Pages that all streams may keep together, and the most of one.
const PAGES_MAX: usize = 1_024;
const PAGES_OF_ONE_MAX: usize = 64;
/// How long a page is kept.
const KEPT_FOR: Duration = Duration::from_secs(2);
/// How far a tail may be ahead of what was read for others to join them, in positions.
const JOINS_WITHIN: u64 = 2_000;

/// What is followed: the same for tails that read together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) scope: AuditScope,
    pub(super) filter: AuditFilter,
}

/// An entry as it is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailEntry {
    pub position: u64,
    /// As whoever began the tail shows it.
    pub shown: String,
}

/// What there is from behind one position to another.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) after: u64,
    pub(super) through: u64,
    pub(super) entries: Vec<Arc<TailEntry>>,
    /// Whether there may be more in the log already.
    pub(super) is_full: bool,
    /// Whether nothing that is written behind it can be asked for.
    pub(super) is_over: bool,
}

/// What a tail is to do.
#[derive(Debug)]
pub(super) enum Next {
    /// Take this, which was read.
    Taken(Arc<Page>),
    /// Read behind this position, for all.
    Read(u64),
    /// Read for itself, up to this position.
    Alone(u64),
}

/// What was read of a stream lately: each page begins where the one before it ends.
#[derive(Debug, Default)]
pub(super) struct Pages(VecDeque<(Instant, Arc<Page>)>);

impl Pages {
    /// What to do at a position.
    pub(super) fn behind(&mut self, position: u64, now: Instant) -> Next {
        self.forget_old(now);
        let (Some((_, oldest)), Some((_, newest))) = (self.0.front(), self.0.back()) else {
            return Next::Read(position);
        };
        if position < oldest.after {
            return Next::Alone(oldest.after);
        }
        let newest = newest.through;
        if position >= newest {
            return match position - newest <= JOINS_WITHIN {
                true => Next::Read(newest),
                false => {
                    self.0.clear();
                    Next::Read(position)
                }
            };
        }
        let at = self.0.partition_point(|(_, page)| page.through <= position);
        Next::Taken(self.0[at].1.clone())
    }

    /// Keeps a page that was read behind the newest one.
    pub(super) fn keep(&mut self, page: Arc<Page>, most: usize, now: Instant) {
        if page.through > page.after {
            self.0.push_back((now, page));
        }
        while self.0.len() > most {
            self.0.pop_front();
        }
    }

    /// Forgets what is too old to be shown.
    pub(super) fn forget_old(&mut self, now: Instant) {
        while (self.0.front()).is_some_and(|(read_at, _)| now - *read_at > KEPT_FOR) {
            self.0.pop_front();
        }
    }
}

/// Tails with the same question.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Held by whoever reads for the others.
    pub(super) pages: tokio::sync::Mutex<Pages>,
}

/// Everything that is followed.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<Question, Weak<Stream>>>);

impl Streams {
    fn all(&self) -> MutexGuard<'_, HashMap<Question, Weak<Stream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of a question.
    pub(super) fn of(&self, question: &Question) -> Arc<Stream> {
        let mut all = self.all();
        if let Some(stream) = all.get(question).and_then(Weak::upgrade) {
            return stream;
        }
        all.retain(|_, stream| stream.strong_count() > 0);
        let stream = Arc::new(Stream::default());
        all.insert(question.clone(), Arc::downgrade(&stream));
        stream
    }

    /// How many pages a stream may keep: none where nobody else would take them.
    pub(super) fn pages_of(&self, stream: &Arc<Stream>) -> usize {
        match Arc::strong_count(stream) {
            0 | 1 => 0,
            _ => (PAGES_MAX / self.all().len().max(1)).clamp(1, PAGES_OF_ONE_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(after: u64, through: u64) -> Arc<Page> {
        Arc::new(Page {
            after,
            through,
            entries: vec![],
            is_full: false,
            is_over: false,
        })
    }

    #[test]
    fn pages_follow_each_other() {
        let (mut pages, now) = (Pages::default(), Instant::now());
        assert!(matches!(pages.behind(10, now), Next::Read(10)));
        pages.keep(page(10, 20), 2, now);
        pages.keep(page(20, 20), 2, now);
        pages.keep(page(20, 30), 2, now);
        assert!(matches!(pages.behind(9, now), Next::Alone(10)));
        for (position, through) in [(10, 20), (19, 20), (20, 30), (29, 30)] {
            match pages.behind(position, now) {
                Next::Taken(page) => assert_eq!(page.through, through, "at {position}"),
                other => panic!("{other:?} at {position}"),
            }
        }
        for position in [30, 31, 30 + JOINS_WITHIN] {
            assert!(matches!(pages.behind(position, now), Next::Read(30)));
        }
        pages.keep(page(30, 40), 2, now);
        assert!(
            matches!(pages.behind(10, now), Next::Alone(20)),
            "two are kept, and the oldest goes"
        );
        let far = 40 + JOINS_WITHIN + 1;
        assert!(matches!(pages.behind(far, now), Next::Read(after) if after == far));
        assert!(
            matches!(pages.behind(10, now), Next::Read(10)),
            "begun anew"
        );
    }

    #[test]
    fn pages_are_kept_for_moments() {
        let (mut pages, now) = (Pages::default(), Instant::now());
        pages.keep(page(0, 10), 9, now);
        let now = now + KEPT_FOR / 2;
        pages.keep(page(10, 20), 9, now);
        assert!(matches!(pages.behind(0, now), Next::Taken(_)));
        let now = now + KEPT_FOR * 2 / 3;
        assert!(matches!(pages.behind(0, now), Next::Alone(10)));
        let now = now + KEPT_FOR;
        assert!(matches!(pages.behind(20, now), Next::Read(20)));
    }

    #[test]
    fn streams_go_with_their_tails() {
        let streams = Streams::default();
        let question = Question {
            scope: AuditScope::Workspace(crate::domain::ids::WorkspaceId::from_uuid(
                uuid::Uuid::from_u128(1),
            )),
            filter: AuditFilter::default(),
        };
        let one = streams.of(&question);
        assert_eq!(streams.pages_of(&one), 0, "nobody else would take them");
        let other = streams.of(&question);
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(streams.pages_of(&one), PAGES_OF_ONE_MAX);
        drop((one, other));
        let narrower = Question {
            filter: AuditFilter {
                before: Some(9),
                ..AuditFilter::default()
            },
            ..question
        };
        let _third = streams.of(&narrower);
        assert_eq!(streams.all().len(), 1);
    }
}
