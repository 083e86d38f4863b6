//! The live tail of an audit log: every entry once and in order, as it is written, for as long as
//! its reader may read.
//!
//! Nothing is queued for a reader. A tail holds the last position that it has come to and reads
//! on from there, through the index and what trails it, when the head of the log moves: a slow
//! reader holds up itself alone, and whoever comes back with the last position that they have
//! seen goes on behind it, on whatever server. Tails that ask the same read together
//! ([`super::tail_pages`]).
//!
//! What is read is handed out only after the store has said, later than it said what there is,
//! that the reader may still read: nothing that was recorded after the right ended is ever
//! handed out. A reader who gets nothing is asked after as well, so that their tail ends.
//!
//! Never holds up an append, and never keeps more than one page of its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    AuditEntry, AuditFilter, AuditScope, Order, Principal, Request, Service, ServiceError,
    tail_pages::{Next, Page, Question, Stream, Streams, TailEntry},
};
use crate::{
    domain::{Refusal, Timestamp, ids::OrganizationId},
    journal::stores,
    projections::audit_index::{self, Searched},
};

/// Entries that are read at once.
const PAGE: u64 = 64;
/// How often a reader who gets nothing is asked after: well within the second that is promised.
const ASK_AFTER: Duration = Duration::from_millis(500);
/// How long ago a process may have known where the head is, to go by that.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// How long what is written meanwhile is gathered at least, and at most.
const GATHERS_MIN: Duration = Duration::from_millis(50);
const GATHERS_MAX: Duration = Duration::from_millis(400);
/// How many times as long as a look took the next is put off: where the store is busy, tails leave
/// most of it to others, and read more at once.
const PUT_OFF_TIMES: u32 = 5;

/// Who reads a log for a while.
#[derive(Debug, Clone)]
pub(super) enum AuditReader {
    /// Somebody who must have the right to all along.
    Caller(Box<(Request, Principal)>),
    /// Whoever has the store and its root key: there is nothing that they could be kept from.
    Operator,
}

impl AuditReader {
    pub(super) fn caller(request: &Request, principal: &Principal) -> Self {
        Self::Caller(Box::new((request.clone(), principal.clone())))
    }
}

/// How many tails there may be at once.
#[derive(Debug, Clone, Copy)]
pub struct TailsAllowed {
    /// Of one process.
    pub all: usize,
    /// Of one organization.
    pub of_one: usize,
}

impl Default for TailsAllowed {
    fn default() -> Self {
        Self {
            all: 512,
            of_one: 128,
        }
    }
}

/// How many tails there are, by organization.
#[derive(Debug, Default)]
pub(super) struct Tails {
    allowed: TailsAllowed,
    counted: Mutex<HashMap<OrganizationId, usize>>,
    streams: Streams,
}

impl Tails {
    pub(super) fn new(allowed: TailsAllowed) -> Self {
        Self {
            allowed,
            ..Self::default()
        }
    }

    fn counted(&self) -> MutexGuard<'_, HashMap<OrganizationId, usize>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among them.
    ///
    /// # Errors
    /// When there are as many as there may be, in this organization or at all.
    fn take(self: &Arc<Self>, organization: OrganizationId) -> Result<TailPlace, ServiceError> {
        let mut counted = self.counted();
        if counted.values().sum::<usize>() >= self.allowed.all {
            return Err(ServiceError::Overloaded);
        }
        let of_one = counted.entry(organization).or_default();
        let most = self.allowed.of_one;
        if *of_one >= most {
            return Err(ServiceError::TooManyTails { most });
        }
        *of_one += 1;
        metrics::gauge!("crewlog_audit_tails").increment(1.0);
        Ok(TailPlace {
            tails: self.clone(),
            organization,
        })
    }
}

/// One place among the tails, given back when it is dropped.
#[derive(Debug)]
struct TailPlace {
    tails: Arc<Tails>,
    organization: OrganizationId,
}

impl Drop for TailPlace {
    fn drop(&mut self) {
        metrics::gauge!("crewlog_audit_tails").decrement(1.0);
        let mut counted = self.tails.counted();
        if let Some(of_one) = counted.get_mut(&self.organization) {
            *of_one -= 1;
            if *of_one == 0 {
                counted.remove(&self.organization);
            }
        }
    }
}

/// Why a tail has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailEnd {
    /// Its reader may not read this log any more.
    AccessEnded,
    /// Nothing more can come that was asked for.
    Reached,
    /// This server stops; another goes on from the last position.
    Stopping,
    /// The log cannot be read now; later it goes on from the last position.
    Unavailable,
}

impl TailEnd {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessEnded => "access_ended",
            Self::Reached => "reached",
            Self::Stopping => "stopping",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What comes next of a tail.
#[derive(Debug)]
pub enum TailStep {
    Entry(Arc<TailEntry>),
    End(TailEnd),
}

/// A tail that is being followed.
#[derive(Debug)]
pub struct AuditTail {
    reader: AuditReader,
    question: Question,
    /// Those who ask the same.
    stream: Arc<Stream>,
    /// How entries are shown.
    shown: fn(AuditEntry) -> String,
    /// The position that the log was at when it began.
    began_at: u64,
    /// Everything up to here was read.
    position: u64,
    /// That there may be more up to the head that it has looked at.
    is_behind: bool,
    /// What was read and is not handed out yet.
    page: VecDeque<Arc<TailEntry>>,
    /// That nothing more can come.
    is_over: bool,
    /// When the reader was last asked after.
    asked_at: Instant,
    /// When the next look is worth its while.
    look_at: Instant,
    head: watch::Receiver<u64>,
    _place: Option<TailPlace>,
}

impl AuditTail {
    /// The position that the log was at when it began.
    pub fn began_at(&self) -> u64 {
        self.began_at
    }
}

impl Service {
    /// Begins to follow a log behind the position `after`; behind its head, where none is given.
    /// `shown` says how an entry is shown: a process has one way.
    ///
    /// # Errors
    /// A refusal unless the caller may read this log; [`ServiceError::TooManyTails`] or
    /// [`ServiceError::Overloaded`] where there are as many as there may be;
    /// [`ServiceError::PositionNotReached`] for a position that this server has not come to.
    pub async fn begin_tail(
        &self,
        request: &Request,
        principal: &Principal,
        scope: AuditScope,
        (filter, shown): (AuditFilter, fn(AuditEntry) -> String),
        after: Option<u64>,
    ) -> Result<AuditTail, ServiceError> {
        self.may_read_audit(request, principal, scope).await?;
        let organization = match scope {
            AuditScope::Workspace(id) => self.known_place(id).await?.organization,
            AuditScope::Organization(id) => id,
        };
        let place = self.tails.take(organization)?;
        if let Some(after) = after {
            self.at_least(after).await?;
        }
        let reader = AuditReader::caller(request, principal);
        self.tail_of(reader, scope, (filter, shown), after, Some(place))
            .await
    }

    /// The same for whoever has the store.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where there is no such log.
    pub async fn begin_operators_tail(
        &self,
        scope: AuditScope,
        (filter, shown): (AuditFilter, fn(AuditEntry) -> String),
        after: Option<u64>,
    ) -> Result<AuditTail, ServiceError> {
        self.has_entries(scope).await?;
        let reader = AuditReader::Operator;
        self.tail_of(reader, scope, (filter, shown), after, None)
            .await
    }

    async fn tail_of(
        &self,
        reader: AuditReader,
        scope: AuditScope,
        (filter, shown): (AuditFilter, fn(AuditEntry) -> String),
        after: Option<u64>,
        place: Option<TailPlace>,
    ) -> Result<AuditTail, ServiceError> {
        let head = stores::head(&**self.journal.store()).await?.position;
        let question = Question {
            scope,
            filter: AuditFilter {
                order: Order::OldestFirst,
                ..filter
            },
        };
        Ok(AuditTail {
            reader,
            stream: self.tails.streams.of(&question),
            question,
            shown,
            began_at: head,
            position: after.unwrap_or(head),
            is_behind: true,
            page: VecDeque::new(),
            is_over: false,
            asked_at: Instant::now(),
            look_at: Instant::now(),
            head: self.journal.head(),
            _place: place,
        })
    }

    /// The next entry, or why there is none; waits for it. After an end it is at its end.
    pub async fn next_of_tail(&self, tail: &mut AuditTail) -> TailStep {
        match self.try_next_of_tail(tail).await {
            Ok(step) => step,
            Err(ServiceError::Refused(_) | ServiceError::Unauthenticated) => {
                TailStep::End(TailEnd::AccessEnded)
            }
            Err(error) => {
                tracing::warn!(%error, "a tail of the audit log ended early");
                TailStep::End(TailEnd::Unavailable)
            }
        }
    }

    async fn try_next_of_tail(&self, tail: &mut AuditTail) -> Result<TailStep, ServiceError> {
        loop {
            if self.stopping.is_cancelled() {
                return Ok(TailStep::End(TailEnd::Stopping));
            }
            let (mut is_fresh, began) = (false, Instant::now());
            let looks = tail.page.is_empty() && !tail.is_over && self.may_have_more(tail);
            if looks {
                self.look(tail).await?;
                is_fresh = !tail.page.is_empty();
            }
            // After the look: who may still read now might when all of it was recorded.
            if is_fresh || tail.asked_at.elapsed() >= ASK_AFTER {
                self.still_reads(&tail.reader, tail.question.scope).await?;
                tail.asked_at = Instant::now();
                if let Ok(mut pages) = tail.stream.pages.try_lock() {
                    pages.forget_old(tail.asked_at);
                }
            }
            if looks {
                let put_off = began.elapsed() * PUT_OFF_TIMES;
                tail.look_at = Instant::now() + put_off.clamp(GATHERS_MIN, GATHERS_MAX);
            }
            if let Some(entry) = tail.page.pop_front() {
                return Ok(TailStep::Entry(entry));
            }
            if tail.is_over {
                return Ok(TailStep::End(TailEnd::Reached));
            }
            self.wait_for_more(tail).await;
        }
    }

    /// Whether it is worth a look: an idle tail leaves the store alone.
    fn may_have_more(&self, tail: &AuditTail) -> bool {
        tail.is_behind
            || *tail.head.borrow() > tail.position
            || !self.journal.has_heard(HEARD_WITHIN)
    }

    /// Goes on, by one page at most.
    async fn look(&self, tail: &mut AuditTail) -> Result<(), ServiceError> {
        tail.head.mark_unchanged();
        let page = self.next_page(tail).await?;
        let entries = page.entries.iter();
        let new = entries.filter(|entry| entry.position > tail.position);
        tail.page = new.cloned().collect();
        tail.is_behind = page.is_full;
        tail.is_over = page.is_over;
        tail.position = tail.position.max(page.through);
        Ok(())
    }

    /// The page that a tail is at: what was read for another, or is read for all of them.
    async fn next_page(&self, tail: &AuditTail) -> Result<Arc<Page>, ServiceError> {
        let mut pages = tail.stream.pages.lock().await;
        match pages.behind(tail.position, Instant::now()) {
            Next::Taken(page) => Ok(page),
            Next::Alone(through) => {
                drop(pages);
                self.read_page(tail, tail.position, Some(through)).await
            }
            Next::Read(after) => {
                let page = self.read_page(tail, after, None).await?;
                let most = self.tails.streams.pages_of(&tail.stream);
                pages.keep(page.clone(), most, Instant::now());
                Ok(page)
            }
        }
    }

    /// Reads what is behind a position, and at or before another.
    async fn read_page(
        &self,
        tail: &AuditTail,
        after: u64,
        through: Option<u64>,
    ) -> Result<Arc<Page>, ServiceError> {
        let Question { scope, filter } = &tail.question;
        let store = &**self.journal.store();
        let mut search = self.audit_search(*scope, filter, Some(after)).await?;
        if let Some(through) = through {
            search.at_most(through);
        }
        let found = audit_index::positions(store, &search, PAGE).await?;
        let Searched {
            positions,
            stopped_at,
        } = found.value;
        let entries = self.entries(&positions).await?;
        if entries.len() != positions.len() {
            let detail = format!("entries behind position {after} are missing");
            return Err(ServiceError::Internal(detail));
        }
        let last = positions.last().filter(|_| entries.len() as u64 == PAGE);
        let asked = through.map_or(found.position, |through| through.min(found.position));
        let (through, is_over) = match last.copied().or(stopped_at) {
            Some(last) => (last, false),
            None => (asked, self.is_passed(filter, asked).await?),
        };
        let entries = entries.into_iter().map(|entry| {
            let position = entry.position;
            let shown = (tail.shown)(entry);
            Arc::new(TailEntry { position, shown })
        });
        Ok(Arc::new(Page {
            after,
            through: through.max(after),
            entries: entries.collect(),
            is_full: through < found.position,
            is_over,
        }))
    }

    /// Whether nothing that is written behind a position can be asked for.
    async fn is_passed(&self, filter: &AuditFilter, position: u64) -> Result<bool, ServiceError> {
        if filter
            .before
            .is_some_and(|before| position.saturating_add(1) >= before)
        {
            return Ok(true);
        }
        let Some(to) = filter.to else {
            return Ok(false);
        };
        let store = &**self.journal.store();
        let last = stores::last_position_at(store, Timestamp(to.0 - 1)).await?;
        Ok(last < position)
    }

    /// Waits until there may be more, the reader is to be asked after, or the server stops.
    async fn wait_for_more(&self, tail: &mut AuditTail) {
        let (look_at, ask_at) = (tail.look_at, tail.asked_at + ASK_AFTER);
        let moved = async {
            if tail.head.changed().await.is_err() {
                // Nobody writes here; others may.
                sleep(ASK_AFTER).await;
            }
            sleep_until(look_at).await;
        };
        let within = ask_at.saturating_duration_since(Instant::now());
        tokio::select! {
            // Either way there is something to do.
            _ = timeout(within, moved) => {}
            () = self.stopping.cancelled() => {}
        }
    }

    /// That whoever reads a log for a while still may, by what the store says now.
    ///
    /// # Errors
    /// When the session or the key has ended, or the right is gone; that is no attempt, and not
    /// kept as one.
    pub(super) async fn still_reads(
        &self,
        reader: &AuditReader,
        scope: AuditScope,
    ) -> Result<(), ServiceError> {
        match reader {
            AuditReader::Operator => Ok(()),
            AuditReader::Caller(caller) => {
                let (request, principal) = &**caller;
                let principal = self.as_it_is_now(request, principal).await?;
                self.reads_audit_now(&principal, scope).await
            }
        }
    }

    /// Somebody who was known, as the store knows them now.
    async fn as_it_is_now(
        &self,
        request: &Request,
        principal: &Principal,
    ) -> Result<Principal, ServiceError> {
        let now = self.source().now();
        match principal {
            Principal::Person(caller) => {
                let account = self.users().get(&caller.user.to_string()).await?.value;
                let session = account.and_then(|account| {
                    let session = account.sessions.get(&caller.session)?;
                    (session.expires_at > now).then_some(())
                });
                session.ok_or(ServiceError::Unauthenticated)?;
                Ok(principal.clone())
            }
            Principal::Key(key) => {
                let found = self.api_keys().get(&key.id().to_string()).await?.value;
                let found = found.filter(|key| key.is_live(now));
                let found = found.ok_or(ServiceError::Unauthenticated)?;
                if self.has_keys_suspended(found.organization).await? {
                    return Err(self.suspended().into());
                }
                if !found.terms.allow_address(request.ip) {
                    return Err(Refusal::AddressNotAllowed.into());
                }
                Ok(Principal::Key(super::KeyCaller(Arc::new(found))))
            }
        }
    }

    /// Tells tails and exports, which last as long as their readers like, that the server stops.
    pub fn end_long_answers(&self) {
        self.stopping.cancel();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn organization(number: u128) -> OrganizationId {
        OrganizationId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn nobody_takes_all_places() {
        let tails = Arc::new(Tails::default());
        let take = |number| tails.take(organization(number));
        let most = TailsAllowed::default().of_one;
        let mut places: Vec<_> = (0..most).map(|_| take(1)).collect();
        assert!(places.iter().all(Result::is_ok));
        assert!(matches!(take(1), Err(ServiceError::TooManyTails { .. })));
        places.pop();
        places.push(take(1));
        assert!(places.iter().all(Result::is_ok), "a place is given back");
        for number in 2..5 {
            places.extend((0..most).map(|_| take(number)));
        }
        assert!(places.iter().all(Result::is_ok));
        assert!(matches!(take(9), Err(ServiceError::Overloaded)));
        drop(places);
        assert!(tails.counted().is_empty());
        assert!(take(9).is_ok());
    }
}
