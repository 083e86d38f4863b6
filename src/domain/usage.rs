//! Usage: months, meters, prices, and what a month comes to.
//!
//! Records are kept beside the log. What is here is how they are counted: a record belongs to the
//! month, in UTC, of its own time; quantities are whole numbers and are summed first; money is a
//! whole number of the currency's minor unit, and is rounded once for each meter of a month,
//! half a unit upwards. No floating point comes near either, and what would not fit is refused.
//!
//! A statement names its records by a digest. Whoever has them, by their ids, counts them with a
//! [`Recount`] and comes to the same sums and the same digest, or they are not the records.

use std::{collections::BTreeMap, fmt, str::FromStr};

use chrono::{Datelike, NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Timestamp, contents::Digest, ids::CrewId, plans::PlanName};

/// The most that one record may say.
pub const QUANTITY_MAX: u64 = 1_000_000_000;
/// The most that a meter of a workspace comes to in a month.
pub const TOTAL_MAX: u64 = 1_000_000_000_000;
/// The most meters of a workspace in a month.
pub const METERS_MAX: usize = 100;
/// How long a month stays open for records that are late.
pub const OPEN_FOR: TimeDelta = TimeDelta::days(3);
/// The largest whole number that every reader of JSON keeps exactly, 2^53 - 1.
const EXACT_MAX: u64 = (1 << 53) - 1;
/// The most minor units that one unit of a meter costs: with it, and [`TOTAL_MAX`], no amount is
/// larger than what JSON keeps exactly.
const PRICE_OF_ONE_MAX: u64 = 9_000;

/// What a meter's name is.
pub const METER: &str = "1 to 64 small letters, digits and `_`";

/// Whether a text is the name of a meter.
pub fn is_meter(text: &str) -> bool {
    let is_letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(is_letter)
}

/// A month in UTC, `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: i32,
    /// 1 to 12.
    month: u32,
}

/// A text that is no month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a month is its year and its number, `2026-11`, from 1970-01 to 9999-11")]
pub struct InvalidMonth;

impl Month {
    /// The month that a moment lies in.
    pub fn of(time: Timestamp) -> Self {
        let time = time.to_datetime();
        Self {
            year: time.year(),
            month: time.month(),
        }
    }

    /// Its first moment.
    pub fn start(self) -> Timestamp {
        let day = NaiveDate::from_ymd_opt(self.year, self.month, 1);
        let midnight = day.and_then(|day| day.and_hms_opt(0, 0, 0));
        midnight.map_or(Timestamp(i64::MAX), |time| {
            Timestamp::from_datetime(time.and_utc())
        })
    }

    /// The first moment after it.
    pub fn end(self) -> Timestamp {
        self.next().start()
    }

    /// From when on it takes no records.
    pub fn closes_at(self) -> Timestamp {
        self.end().plus(OPEN_FOR)
    }

    /// The month after it.
    pub fn next(self) -> Self {
        match self.month {
            12 => Self {
                year: self.year + 1,
                month: 1,
            },
            month => Self {
                month: month + 1,
                ..self
            },
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = InvalidMonth;

    fn from_str(text: &str) -> Result<Self, InvalidMonth> {
        let (year, month) = text.split_once('-').ok_or(InvalidMonth)?;
        let digits = |text: &str, length| {
            let are = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
            are.then(|| text.parse::<u32>().ok()).flatten()
        };
        let year = digits(year, 4).ok_or(InvalidMonth)?;
        let month = digits(month, 2).ok_or(InvalidMonth)?;
        let known = (1970..=9999).contains(&year) && (1..=12).contains(&month);
        if !known || (year, month) == (9999, 12) {
            return Err(InvalidMonth);
        }
        let year = i32::try_from(year).map_err(|_| InvalidMonth)?;
        Ok(Self { year, month })
    }
}

impl TryFrom<String> for Month {
    type Error = InvalidMonth;

    fn try_from(text: String) -> Result<Self, InvalidMonth> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

/// The price of a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// ISO 4217.
    pub currency: String,
    /// In the currency's minor unit, for `per_quantity` of the meter.
    pub amount_minor: u64,
    pub per_quantity: u64,
}

impl Price {
    /// What cannot be of it, in words.
    pub fn wrong(&self) -> Option<String> {
        let is_currency =
            self.currency.len() == 3 && self.currency.bytes().all(|byte| byte.is_ascii_uppercase());
        let per = self.per_quantity;
        if !is_currency {
            return Some("`currency` is three capital letters (ISO 4217)".to_owned());
        }
        if !(1..=TOTAL_MAX).contains(&per) {
            return Some(format!("`per_quantity` is 1 to {TOTAL_MAX}"));
        }
        let dear = self.amount_minor > PRICE_OF_ONE_MAX.saturating_mul(per);
        dear.then(|| format!("`amount_minor` is at most {PRICE_OF_ONE_MAX} times `per_quantity`"))
    }

    /// What a quantity costs, half a minor unit rounded upwards.
    ///
    /// # Errors
    /// [`TooMuch`] where that is more than JSON keeps exactly: never for a price that is not
    /// [`wrong`](Self::wrong), and a quantity up to [`TOTAL_MAX`].
    pub fn amount_minor(&self, quantity: u64) -> Result<u64, TooMuch> {
        let per = u128::from(self.per_quantity.max(1));
        let exact = u128::from(quantity) * u128::from(self.amount_minor);
        // Halves are told from what is left over: doubling `exact` could not be.
        let rounded = exact / per + u128::from(exact % per >= per.div_ceil(2));
        u64::try_from(rounded)
            .ok()
            .filter(|amount| *amount <= EXACT_MAX)
            .ok_or(TooMuch)
    }
}

/// More than can be stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is more than can be stated")]
pub struct TooMuch;

/// So much of a meter, used by a crew.
///
/// Its fields stand in the order that RFC 8785 writes them in: see [`Recount`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageRecord {
    pub at: Timestamp,
    pub crew: CrewId,
    /// The sender's: the first record of an id in a workspace stays.
    pub id: String,
    pub meter: String,
    pub quantity: u64,
}

/// What was used of a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsedQuantity {
    pub quantity: u64,
    /// How many records say so.
    pub records: u64,
}

/// The records of a workspace's month, counted one after the other in order of their ids.
///
/// Their digest is the SHA-256 of each record's canonical JSON (RFC 8785), each followed by a line
/// feed: `{"at":1767225600000000,"crew":"crw_…","id":"call-1","meter":"messages","quantity":3}`,
/// the time in microseconds, the ids compared byte by byte.
#[derive(Debug, Clone, Default)]
pub struct Recount {
    meters: BTreeMap<String, UsedQuantity>,
    digest: Sha256,
    last: Option<String>,
}

impl Recount {
    /// Counts one more.
    ///
    /// # Errors
    /// [`TooMuch`] where its meter comes to more than [`TOTAL_MAX`].
    ///
    /// # Panics
    /// When the ids do not come in their order: the digest would name other records.
    pub fn count(&mut self, record: &UsageRecord) -> Result<(), TooMuch> {
        let in_order = self.last.as_deref().is_none_or(|last| last < &*record.id);
        assert!(in_order, "records are counted in order of their ids");
        let line = serde_json::to_vec(record).expect("a record is JSON");
        self.digest.update(line);
        self.digest.update(b"\n");
        if !self.meters.contains_key(&record.meter) {
            self.meters
                .insert(record.meter.clone(), UsedQuantity::default());
        }
        let used = self.meters.get_mut(&record.meter).ok_or(TooMuch)?;
        used.quantity = used
            .quantity
            .checked_add(record.quantity)
            .filter(|quantity| *quantity <= TOTAL_MAX)
            .ok_or(TooMuch)?;
        used.records += 1;
        let last = self.last.get_or_insert_default();
        last.clone_from(&record.id);
        Ok(())
    }

    /// What they come to, and their digest.
    pub fn finish(self) -> (BTreeMap<String, UsedQuantity>, Digest) {
        (self.meters, Digest(self.digest.finalize().into()))
    }
}

/// What a meter came to in a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeterTotal {
    pub quantity: u64,
    /// How many records say so.
    pub records: u64,
    /// What it was charged by; none where the plan has no price for it.
    pub price: Option<Price>,
    /// What it costs; 0 where it has no price.
    pub amount_minor: u64,
}

impl MeterTotal {
    /// A meter's month at a price.
    ///
    /// # Errors
    /// [`TooMuch`] where it would cost more than can be stated.
    pub fn at(used: UsedQuantity, price: Option<Price>) -> Result<Self, TooMuch> {
        let amount_minor = match &price {
            Some(price) => price.amount_minor(used.quantity)?,
            None => 0,
        };
        Ok(Self {
            quantity: used.quantity,
            records: used.records,
            price,
            amount_minor,
        })
    }

    /// Whether the amount is what the quantity costs.
    fn adds_up(&self) -> bool {
        let used = UsedQuantity {
            quantity: self.quantity,
            records: self.records,
        };
        Self::at(used, self.price.clone()).as_ref() == Ok(self)
    }
}

/// What a workspace used in a month, and what that costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub month: Month,
    /// The plan whose prices it was charged by: the one that the workspace was on when the
    /// month ended, whatever it has chosen since.
    pub plan: Option<PlanName>,
    pub meters: BTreeMap<String, MeterTotal>,
    /// Of the records; see [`Recount`].
    pub records_digest: Digest,
}

impl Statement {
    /// What it comes to in each currency.
    pub fn amounts(&self) -> BTreeMap<String, u64> {
        amounts(self.meters.values())
    }

    /// What was used of each meter.
    pub fn used(&self) -> BTreeMap<String, UsedQuantity> {
        let meters = self.meters.iter();
        let used = meters.map(|(meter, total)| {
            let used = UsedQuantity {
                quantity: total.quantity,
                records: total.records,
            };
            (meter.clone(), used)
        });
        used.collect()
    }

    /// Whether every amount is what its quantity costs.
    pub fn adds_up(&self) -> bool {
        self.meters.len() <= METERS_MAX && self.meters.values().all(MeterTotal::adds_up)
    }
}

/// What meters come to in each currency: far below 2^64, as [`METERS_MAX`] of them at most are
/// summed, none above 2^53.
pub fn amounts<'a>(meters: impl IntoIterator<Item = &'a MeterTotal>) -> BTreeMap<String, u64> {
    let mut amounts = BTreeMap::new();
    for meter in meters {
        if let Some(price) = &meter.price {
            let amount: &mut u64 = amounts.entry(price.currency.clone()).or_default();
            *amount += meter.amount_minor;
        }
    }
    amounts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(amount_minor: u64, per_quantity: u64) -> Price {
        Price {
            currency: "EUR".to_owned(),
            amount_minor,
            per_quantity,
        }
    }

    #[test]
    fn half_a_unit_is_rounded_upwards() {
        for (quantity, amount) in [(0, 0), (49, 2), (50, 3), (51, 3), (149, 7), (150, 8)] {
            assert_eq!(
                price(50, 1_000).amount_minor(quantity),
                Ok(amount),
                "{quantity}"
            );
        }
        assert_eq!(price(1, 3).amount_minor(1), Ok(0));
        assert_eq!(price(1, 3).amount_minor(2), Ok(1));
    }

    #[test]
    fn the_dearest_month_is_kept_exactly_by_json() {
        let dearest = price(PRICE_OF_ONE_MAX, 1);
        assert_eq!(dearest.wrong(), None);
        let amount = dearest.amount_minor(TOTAL_MAX);
        assert_eq!(amount, Ok(PRICE_OF_ONE_MAX * TOTAL_MAX));
        assert!(price(PRICE_OF_ONE_MAX + 1, 1).wrong().is_some());
    }

    #[test]
    fn months_are_of_utc_and_end_where_the_next_begins() {
        let of = |text: &str| {
            let time = chrono::DateTime::parse_from_rfc3339(text).expect("a time");
            Month::of(Timestamp::from_datetime(time.to_utc())).to_string()
        };
        for (text, month) in [
            ("2026-10-31T23:59:59.999999Z", "2026-10"),
            ("2026-11-01T00:00:00Z", "2026-11"),
            // The first of November in Berlin, still October in UTC.
            ("2026-11-01T00:30:00+01:00", "2026-10"),
            // The last of October in New York, already November in UTC.
            ("2026-10-31T20:30:00-04:00", "2026-11"),
            ("2026-12-31T23:59:59Z", "2026-12"),
            ("2028-02-29T12:00:00Z", "2028-02"),
        ] {
            assert_eq!(of(text), month, "{text}");
        }
        for wrong in [
            "2026-13", "2026-00", "26-11", "2026-1", "2026-+1", "9999-12", "", "2026",
        ] {
            assert_eq!(wrong.parse::<Month>(), Err(InvalidMonth), "{wrong}");
        }
    }

    fn crew() -> CrewId {
        CrewId::from_uuid(uuid::Uuid::from_u128(1))
    }

    fn record(id: &str, meter: &str, quantity: u64) -> UsageRecord {
        UsageRecord {
            at: Timestamp(1_767_225_600_000_000),
            crew: crew(),
            id: id.to_owned(),
            meter: meter.to_owned(),
            quantity,
        }
    }

    #[test]
    fn records_are_counted_and_named_by_their_digest() {
        let mut recount = Recount::default();
        let records = [record("a\"1", "calls", 3), record("b", "calls", 4)];
        for record in &records {
            recount.count(record).expect("it fits");
        }
        let (meters, digest) = recount.finish();
        let used = UsedQuantity {
            quantity: 7,
            records: 2,
        };
        assert_eq!(meters, BTreeMap::from([("calls".to_owned(), used)]));
        let crew = crew();
        let lines = format!(
            "{{\"at\":1767225600000000,\"crew\":\"{crew}\",\"id\":\"a\\\"1\",\
             \"meter\":\"calls\",\"quantity\":3}}\n\
             {{\"at\":1767225600000000,\"crew\":\"{crew}\",\"id\":\"b\",\
             \"meter\":\"calls\",\"quantity\":4}}\n"
        );
        assert_eq!(digest, Digest(Sha256::digest(lines).into()));
    }

    #[test]
    fn more_than_can_be_stated_is_refused() {
        let mut recount = Recount::default();
        let full = record("a", "calls", TOTAL_MAX);
        assert_eq!(recount.count(&full), Ok(()));
        assert_eq!(recount.count(&record("b", "calls", 1)), Err(TooMuch));
        for (amount, per, quantity) in [(u64::MAX, 1, 2), (1 << 53, 1, 1), (u64::MAX, 2, u64::MAX)]
        {
            assert_eq!(price(amount, per).amount_minor(quantity), Err(TooMuch));
        }
    }

    #[test]
    #[should_panic(expected = "in order of their ids")]
    fn records_out_of_order_are_not_counted() {
        let mut recount = Recount::default();
        for id in ["b", "a"] {
            let _ = recount.count(&record(id, "calls", 1));
        }
    }

    #[test]
    fn a_statement_with_another_amount_does_not_add_up() {
        let used = UsedQuantity {
            quantity: 150,
            records: 2,
        };
        let total = MeterTotal::at(used, Some(price(50, 1_000))).expect("it fits");
        let mut statement = Statement {
            month: "2026-10".parse().expect("a month"),
            plan: None,
            meters: BTreeMap::from([("calls".to_owned(), total)]),
            records_digest: Recount::default().finish().1,
        };
        assert!(statement.adds_up());
        let calls = statement.meters.get_mut("calls").expect("calls");
        calls.amount_minor += 1;
        assert!(!statement.adds_up());
    }

    proptest! {
        /// Never more than half a minor unit away from the exact price.
        #[test]
        fn rounding_is_off_by_half_a_unit_at_most(
            quantity in 0..=TOTAL_MAX,
            amount in 0..=1_000_000u64,
            per in 1..=1_000_000u64,
        ) {
            let rounded = price(amount, per).amount_minor(quantity);
            let rounded = u128::from(rounded.expect("an amount that fits"));
            let (exact, per) = (u128::from(quantity) * u128::from(amount), u128::from(per));
            prop_assert!((rounded * per).abs_diff(exact) * 2 <= per);
        }

        /// More never costs less.
        #[test]
        fn more_never_costs_less(
            quantity in 0..TOTAL_MAX,
            more in 0..1_000_000u64,
            amount in 0..=1_000_000u64,
            per in 1..=1_000_000u64,
        ) {
            let price = price(amount, per);
            let [one, other] = [quantity, quantity + more].map(|much| price.amount_minor(much));
            prop_assert!(one.expect("it fits") <= other.expect("it fits"));
        }

        /// Every moment lies in exactly one month, which is written and read back.
        #[test]
        fn every_moment_is_of_one_month(micros in 0..253_000_000_000_000_000i64) {
            let time = Timestamp(micros);
            let month = Month::of(time);
            prop_assert!(month.start() <= time && time < month.end());
            prop_assert_eq!(month.end(), month.next().start());
            prop_assert_eq!(month.to_string().parse::<Month>(), Ok(month));
        }
    }
}
