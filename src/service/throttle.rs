//! Slowing down who guesses passwords: waits that grow, for each address that is tried and for
//! each network that tries. And bounding how many sign up from one network.
//!
//! One client cannot try many passwords of one account, nor a few passwords of many. What is
//! remembered is bounded: the longest unused is forgotten first. It is kept in this process
//! alone, and knows no clock: the time comes with each call.

use std::{
    net::IpAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use ipnet::IpNet;
use lru::LruCache;

use crate::domain::Timestamp;

/// The longest that somebody has to wait.
const WAIT_SECONDS_MAX: u64 = 60;
/// How long somebody waits while as many as may be are being tried.
const WAIT_BEHIND_OTHERS: Duration = Duration::from_secs(1);
/// Addresses, and networks, whose failures are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// What is forgiven, and when it is forgotten.
#[derive(Debug, Clone, Copy)]
struct Rule {
    /// Failures before the next has to wait.
    free: u32,
    /// How many may be tried at once where none has failed.
    at_once: u32,
    forgets: Forgets,
}

#[derive(Debug, Clone, Copy)]
enum Forgets {
    /// All of them, after this long without one.
    AllAfter(TimeDelta),
    /// One of them for every so long since the last.
    OneEvery(TimeDelta),
}

/// Somebody who mistypes their password, and no more.
const OF_ADDRESS: Rule = Rule {
    free: 5,
    at_once: 20,
    forgets: Forgets::AllAfter(TimeDelta::minutes(15)),
};
/// A whole office may be behind one address; ten failures a minute go on being forgiven.
const OF_NETWORK: Rule = Rule {
    free: 50,
    at_once: 100,
    forgets: Forgets::OneEvery(TimeDelta::seconds(6)),
};

/// Where somebody tries from: one address of IPv4, a /64 of IPv6, as that is what one client
/// has. Those whose address a proxy hides are one network, so that hiding gains nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(Option<IpNet>);

impl Network {
    pub(super) fn of(address: Option<IpAddr>) -> Self {
        let network = address.map(|address| match address.to_canonical() {
            IpAddr::V4(address) => IpNet::from(IpAddr::V4(address)),
            IpAddr::V6(address) => IpNet::new_assert(IpAddr::V6(address), 64).trunc(),
        });
        Self(network)
    }
}

/// How trying a password ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    Right,
    Wrong,
    /// It was not found out.
    Undecided,
}

/// Who has failed how often.
#[derive(Debug)]
pub(super) struct Throttle(Mutex<Remembered>);

#[derive(Debug)]
struct Remembered {
    addresses: LruCache<String, Failures>,
    networks: LruCache<Network, Failures>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self(Mutex::new(Remembered {
            addresses: LruCache::new(REMEMBERED),
            networks: LruCache::new(REMEMBERED),
        }))
    }
}

impl Throttle {
    /// Begins to try, where that may be now; [`Throttle::end`] says how it ended.
    ///
    /// # Errors
    /// How long to wait.
    pub(super) fn begin(
        &self,
        address: &str,
        network: Network,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let mut remembered = self.remembered();
        let Remembered {
            addresses,
            networks,
        } = &mut *remembered;
        // A network that has to wait makes nothing be remembered, and so nothing be forgotten.
        let of_network = networks.get_or_insert_mut(network, Failures::default);
        of_network.may_begin(&OF_NETWORK, now)?;
        let of_address = addresses.get_or_insert_mut_ref(address, Failures::default);
        of_address.may_begin(&OF_ADDRESS, now)?;
        of_address.running += 1;
        of_network.running += 1;
        Ok(())
    }

    /// Ends what was begun. A right password forgives the address, but not the network: it
    /// may be that of another account.
    pub(super) fn end(&self, address: &str, network: Network, tried: Tried, now: Timestamp) {
        let mut remembered = self.remembered();
        // What was forgotten meanwhile begins anew.
        let of_address = remembered
            .addresses
            .get_or_insert_mut_ref(address, Failures::default);
        of_address.ended();
        match tried {
            Tried::Right => of_address.count = 0,
            Tried::Wrong => of_address.failed(&OF_ADDRESS, now),
            Tried::Undecided => {}
        }
        let of_network = remembered
            .networks
            .get_or_insert_mut(network, Failures::default);
        of_network.ended();
        match tried {
            Tried::Wrong => of_network.failed(&OF_NETWORK, now),
            Tried::Right | Tried::Undecided => {}
        }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many sign up from one network: an hour's worth at once, and then one as often as fits into
/// an hour.
#[derive(Debug)]
pub(super) struct SignUpLimit {
    /// None: as many as like to.
    an_hour: Option<NonZeroU32>,
    /// From when on a network that has used some of it has an hour's worth again.
    whole_at: Mutex<LruCache<Network, Timestamp>>,
}

impl SignUpLimit {
    pub(super) fn new(an_hour: Option<NonZeroU32>) -> Self {
        Self {
            an_hour,
            whole_at: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    /// Lets one sign up.
    ///
    /// # Errors
    /// How long to wait.
    pub(super) fn take(&self, network: Network, now: Timestamp) -> Result<(), Duration> {
        let Some(an_hour) = self.an_hour else {
            return Ok(());
        };
        let hour_us = microseconds(TimeDelta::hours(1));
        let mut whole_at = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        let known = whole_at.get(&network).copied().unwrap_or(now).max(now);
        let next = Timestamp(known.0 + hour_us / i64::from(an_hour.get()));
        let wait_us = next.0 - now.0 - hour_us;
        if wait_us > 0 {
            return Err(Duration::from_micros(wait_us.unsigned_abs()));
        }
        whole_at.put(network, next);
        Ok(())
    }
}

/// The failures of an address or a network.
#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    last: Timestamp,
    /// How many are being tried.
    running: u32,
}

impl Failures {
    fn may_begin(&self, rule: &Rule, now: Timestamp) -> Result<(), Duration> {
        let wait_us = self.wait_until(rule).0.saturating_sub(now.0);
        if wait_us > 0 {
            return Err(Duration::from_micros(wait_us.unsigned_abs()));
        }
        // Who could try many at once would have tried them before the first has failed.
        let at_once = match self.standing(rule, now) {
            0 => rule.at_once,
            failures => (rule.free + 1).saturating_sub(failures).max(1),
        };
        if self.running < at_once {
            Ok(())
        } else {
            Err(WAIT_BEHIND_OTHERS)
        }
    }

    fn failed(&mut self, rule: &Rule, now: Timestamp) {
        self.count = self.standing(rule, now).saturating_add(1);
        self.last = now;
    }

    fn ended(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// The failures that are not forgotten yet.
    fn standing(&self, rule: &Rule, now: Timestamp) -> u32 {
        let since_us = now.0.saturating_sub(self.last.0).max(0);
        match rule.forgets {
            Forgets::AllAfter(after) if since_us >= microseconds(after) => 0,
            Forgets::AllAfter(_) => self.count,
            Forgets::OneEvery(every) => {
                let forgotten = since_us / microseconds(every);
                let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
                self.count.saturating_sub(forgotten)
            }
        }
    }

    fn wait_until(&self, rule: &Rule) -> Timestamp {
        let seconds = match self.count.saturating_sub(rule.free) {
            0 => return Timestamp(i64::MIN),
            excess => (1u64 << (excess - 1).min(16)).min(WAIT_SECONDS_MAX),
        };
        self.last.plus(TimeDelta::seconds(seconds as i64))
    }
}

fn microseconds(delta: TimeDelta) -> i64 {
    delta.num_microseconds().unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const MINUTE: i64 = 60 * SECOND;

    fn network(address: &str) -> Network {
        Network::of(Some(address.parse().unwrap()))
    }

    /// A clock that the test moves, and one who guesses.
    #[derive(Default)]
    struct Trial {
        throttle: Throttle,
        now: Timestamp,
    }

    impl Trial {
        fn begins(&self, address: &str, from: &str) -> Result<(), Duration> {
            self.throttle.begin(address, network(from), self.now)
        }

        fn ends(&self, address: &str, from: &str, tried: Tried) {
            self.throttle.end(address, network(from), tried, self.now);
        }

        /// Seconds to wait; 0 where it was tried.
        fn tries(&self, address: &str, from: &str, tried: Tried) -> u64 {
            match self.begins(address, from) {
                Ok(()) => {
                    self.ends(address, from, tried);
                    0
                }
                Err(wait) => wait.as_secs_f64().ceil() as u64,
            }
        }

        fn pass(&mut self, microseconds: i64) {
            self.now.0 += microseconds;
        }
    }

    #[test]
    fn an_hours_worth_signs_up_from_a_network_and_then_one_at_a_time() {
        let limit = SignUpLimit::new(NonZeroU32::new(4));
        let take = |from, minutes| limit.take(network(from), Timestamp(minutes * MINUTE));
        for _ in 0..4 {
            assert_eq!(take("192.0.2.1", 0), Ok(()));
        }
        let quarter = Duration::from_secs(15 * 60);
        assert_eq!(take("192.0.2.1", 0), Err(quarter));
        assert_eq!(take("192.0.2.2", 0), Ok(()), "nobody else waits");
        assert_eq!(take("192.0.2.1", 15), Ok(()));
        assert_eq!(
            take("192.0.2.1", 15),
            Err(quarter),
            "refused ones do not count"
        );
        for _ in 0..4 {
            assert_eq!(take("192.0.2.1", 200), Ok(()));
        }
        assert!(
            take("192.0.2.1", 200).is_err(),
            "what is not used does not add up"
        );
        let unbounded = SignUpLimit::new(None);
        assert!((0..1_000).all(|_| unbounded.take(network("192.0.2.1"), Timestamp(0)).is_ok()));
    }

    #[test]
    fn an_address_waits_longer_and_longer() {
        let mut trial = Trial::default();
        let mut waits = Vec::new();
        for number in 0..14 {
            // From somewhere else each time: the address is what counts.
            let from = format!("192.0.2.{number}");
            let wait = trial.tries("a", &from, Tried::Wrong);
            if wait > 0 {
                waits.push(wait);
                trial.pass(wait as i64 * SECOND - 1);
                assert_eq!(trial.tries("a", &from, Tried::Wrong), 1);
                trial.pass(1);
                assert_eq!(trial.tries("a", &from, Tried::Wrong), 0);
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(trial.tries("b", "192.0.2.1", Tried::Wrong), 0);
    }

    #[test]
    fn a_right_password_forgives_the_address_and_time_does() {
        let mut trial = Trial::default();
        let fail = |trial: &Trial, times| {
            (0..times).for_each(|_| {
                trial.tries("a", "192.0.2.1", Tried::Wrong);
            });
        };
        fail(&trial, 5);
        assert_eq!(trial.tries("a", "192.0.2.1", Tried::Right), 0);
        fail(&trial, 6);
        assert_eq!(trial.tries("a", "192.0.2.1", Tried::Wrong), 1);
        trial.pass(15 * MINUTE);
        fail(&trial, 5);
        assert_eq!(trial.tries("a", "192.0.2.1", Tried::Undecided), 0);
    }

    #[test]
    fn a_network_that_tries_many_addresses_waits_too() {
        let mut trial = Trial::default();
        for number in 0..51 {
            let wait = trial.tries(&format!("a{number}"), "192.0.2.1", Tried::Wrong);
            assert_eq!(wait, 0, "{number}");
        }
        assert_eq!(trial.tries("b", "192.0.2.1", Tried::Right), 1);
        // Nobody else does, and an own account is no way out.
        assert_eq!(trial.tries("b", "192.0.2.2", Tried::Right), 0);
        trial.pass(SECOND);
        assert_eq!(trial.tries("own", "192.0.2.1", Tried::Right), 0);
        assert_eq!(trial.tries("c", "192.0.2.1", Tried::Wrong), 0);
        assert_eq!(trial.tries("d", "192.0.2.1", Tried::Wrong), 2);
        // Ten a minute are forgotten.
        trial.pass(2 * MINUTE);
        for number in 0..19 {
            let wait = trial.tries(&format!("e{number}"), "192.0.2.1", Tried::Wrong);
            assert_eq!(wait, 0, "{number}");
        }
        assert_ne!(trial.tries("f", "192.0.2.1", Tried::Wrong), 0);
    }

    #[test]
    fn what_is_tried_at_once_is_bounded_before_anything_has_failed() {
        let trial = Trial::default();
        for _ in 0..20 {
            assert_eq!(trial.begins("a", "192.0.2.1"), Ok(()));
        }
        assert_eq!(trial.begins("a", "192.0.2.1"), Err(WAIT_BEHIND_OTHERS));
        assert_eq!(trial.begins("b", "192.0.2.1"), Ok(()));
        (0..20).for_each(|_| trial.ends("a", "192.0.2.1", Tried::Undecided));
        assert_eq!(trial.begins("a", "192.0.2.1"), Ok(()));
        // Once many have failed, one at a time, each after its wait.
        let mut trial = Trial::default();
        (0..6).for_each(|_| {
            trial.tries("a", "192.0.2.1", Tried::Wrong);
        });
        trial.pass(SECOND);
        assert_eq!(trial.begins("a", "192.0.2.1"), Ok(()));
        assert_eq!(trial.begins("a", "192.0.2.1"), Err(WAIT_BEHIND_OTHERS));
    }

    #[test]
    fn a_network_is_what_one_client_has() {
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(Network::of(None), network("0.0.0.0"));
        assert_eq!(Network::of(None), Network::of(None));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let trial = Trial::default();
        for number in 0..REMEMBERED.get() as u32 + 100 {
            let from = std::net::Ipv4Addr::from(number).to_string();
            trial.tries(&number.to_string(), &from, Tried::Wrong);
        }
        let remembered = trial.throttle.remembered();
        assert_eq!(remembered.addresses.len(), REMEMBERED.get());
        assert_eq!(remembered.networks.len(), REMEMBERED.get());
        assert!(!remembered.addresses.contains("0"), "the oldest goes first");
    }
}
