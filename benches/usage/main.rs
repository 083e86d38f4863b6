//! What usage costs at ten million records: sending it, rolling it up, and stating a month, beside
//! a bare SQL aggregate of the same table.
//!
//! `USAGE_RECORDS=10000000 USAGE_STORES=sqlite cargo bench --bench usage`; by default a million, on
//! both stores. The table is filled by SQL, its triggers counting as they do; what is sent through
//! the service comes on top, so that its rate is one of a table of that size. Times are multiples of
//! the aggregate, which is asked next to each.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::{sync::Arc, time::Instant};

use crewlog::{
    domain::{
        crew::CrewProfile,
        environment::Environment,
        ids::CrewId,
        usage::{Month, UsageRecord},
    },
    journal::{
        Source, SystemSource,
        sealing::RootKey,
        stores::{Statement, Store, StoreKind, Value},
    },
    service::{Principal, recount},
};
use futures::future::join_all;
use harness::{
    Place, median,
    owner::{Owner, request, serve},
    setting,
};
use support::postgres::{Cluster, Durability};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records that one statement fills in.
const FILLED_AT_ONCE: u64 = 100_000;
/// Records of a batch, batches of a sender, and senders at a time.
const BATCH: usize = 500;
const BATCHES: usize = 25;
const SENDERS: usize = 8;
const ROUNDS: usize = 9;
/// A month that is over, and due.
const MONTH: &str = "2026-01";

const AGGREGATE: &str = "
SELECT meter, CAST(SUM(quantity) AS BIGINT), COUNT(*)
  FROM usage_records
 WHERE workspace = $1 AND month = $2
 GROUP BY meter";

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

async fn run(cluster: &Cluster) {
    let wanted = std::env::var("USAGE_STORES").unwrap_or_default();
    println!(
        "| | records | sent, a second | aggregate, ms | workspace | organization | recount | statement |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for place in Place::both(cluster).await {
        if wanted.is_empty() || place.name.eq_ignore_ascii_case(&wanted) {
            measure(&place).await;
        }
    }
}

async fn measure(place: &Place) {
    let root = RootKey::generate(&SystemSource);
    let store = place.open().await;
    let owner = Owner::of(serve(store.clone(), &root).await, 1).await;
    let bench = Bench::on(store, owner).await;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number"
    )]
    let records = setting("USAGE_RECORDS", 1_000_000.0) as u64;
    bench.fill(records).await;
    let sent = bench.send().await;
    let aggregate = bench.aggregate().await;
    let workspace = bench.beside(async || bench.workspace().await).await;
    let organization = bench.beside(async || bench.organization().await).await;
    let recounted = bench.beside(async || bench.recount().await).await;
    bench.due().await;
    let began = Instant::now();
    // As often as it is looked for, without the second between: some records in each look.
    while bench.look().await == 0 {}
    let stated = began.elapsed().as_secs_f64() * 1_000.0;
    println!(
        "| {} | {records} | {sent:.0} | {aggregate:.0} | {workspace:.4} | {organization:.4} | {recounted:.2} | {:.2} |",
        place.name,
        stated / aggregate
    );
}

struct Bench {
    store: Arc<dyn Store>,
    owner: Owner,
    crew: CrewId,
}

impl Bench {
    async fn on(store: Arc<dyn Store>, owner: Owner) -> Self {
        let principal = Principal::from(&owner.caller);
        let profile = CrewProfile {
            name: "Metered - Production".to_owned(),
            ..CrewProfile::default()
        };
        let (asked, environment) = (request(), Environment::Production);
        let made = owner
            .service
            .create_crew(
                &asked,
                &principal,
                owner.workspaces[0],
                environment,
                (profile, None),
            )
            .await;
        let crew = made.expect("a crew").value.id();
        Self { store, owner, crew }
    }

    fn of(&self) -> Vec<Value> {
        let of = [self.owner.workspaces[0].to_string(), MONTH.to_owned()];
        of.map(Value::from).to_vec()
    }

    /// The month, of three meters and ten crews, in order of their ids.
    async fn fill(&self, records: u64) {
        let workspace = self.owner.workspaces[0];
        let mut first = 0;
        while first < records {
            let last = (first + FILLED_AT_ONCE).min(records);
            let (numbers, id) = match self.store.kind() {
                StoreKind::Sqlite => (
                    format!(
                        "WITH RECURSIVE numbers (n) AS
                         (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last} - 1)"
                    ),
                    "printf('call-%09d', n)",
                ),
                StoreKind::Postgres => (
                    format!("WITH numbers (n) AS (SELECT generate_series({first}, {last} - 1))"),
                    "'call-' || lpad(n::text, 9, '0')",
                ),
            };
            let sql = format!(
                "{numbers} INSERT INTO usage_records (workspace, id, month, crew, meter, quantity, at)
                 SELECT '{workspace}', {id}, '{MONTH}', '{}', 'meter_' || (n % 3), n % 1000,
                        1767225600000000 + n FROM numbers",
                self.crew
            );
            let filled = self.store.execute(vec![Statement::new(sql, [])]).await;
            filled.expect("the table is filled");
            first = last;
        }
        let analyze = Statement::new("ANALYZE", []);
        self.store
            .execute(vec![analyze])
            .await
            .expect("it is analyzed");
    }

    /// Records a second, sent through the service to the month that runs.
    async fn send(&self) -> f64 {
        let now = SystemSource.now();
        let began = Instant::now();
        let senders = (0..SENDERS).map(|sender| async move {
            let principal = Principal::from(&self.owner.caller);
            for batch in 0..BATCHES {
                let record = |place: usize| UsageRecord {
                    at: now,
                    crew: self.crew,
                    id: format!("sent-{sender}-{batch}-{place}"),
                    meter: format!("meter_{}", place % 3),
                    quantity: 3,
                };
                let records = (0..BATCH).map(record).collect();
                let (service, workspace) = (&self.owner.service, self.owner.workspaces[0]);
                let sent = service
                    .send_usage(&request(), &principal, workspace, records)
                    .await;
                assert_eq!(sent.expect("a receipt").value.accepted, BATCH as u64);
            }
        });
        join_all(senders).await;
        #[expect(clippy::cast_precision_loss, reason = "a count of thousands")]
        let sent = (SENDERS * BATCHES * BATCH) as f64;
        sent / began.elapsed().as_secs_f64()
    }

    /// In milliseconds.
    async fn aggregate(&self) -> f64 {
        let began = Instant::now();
        let rows = self.store.query(AGGREGATE, self.of()).await;
        assert_eq!(rows.expect("sums").len(), 3);
        began.elapsed().as_secs_f64() * 1_000.0
    }

    /// How long something takes, as a multiple of the aggregate next to it.
    async fn beside(&self, work: impl AsyncFn()) -> f64 {
        let mut ratios = Vec::new();
        let began = Instant::now();
        for _ in 0..ROUNDS {
            let aggregate = self.aggregate().await;
            let one = Instant::now();
            work().await;
            ratios.push(one.elapsed().as_secs_f64() * 1_000.0 / aggregate);
            // Of what takes long, two are enough.
            if ratios.len() >= 2 && began.elapsed().as_secs() > 20 {
                break;
            }
        }
        median(ratios)
    }

    async fn workspace(&self) {
        let (service, of) = (&self.owner.service, self.owner.workspaces[0]);
        let seen = service
            .usage(&request(), &self.owner.caller, of, Some(month()))
            .await;
        assert_eq!(seen.expect("usage").value.sums.meters.len(), 3);
    }

    async fn organization(&self) {
        let service = &self.owner.service;
        let (of, caller) = (self.owner.organization, &self.owner.caller);
        let asked = request();
        let seen = service.organization_usage(&asked, caller, of, Some(month()), (None, 50));
        seen.await.expect("usage");
    }

    async fn recount(&self) {
        let counted = recount(&*self.store, self.owner.workspaces[0], month()).await;
        assert_eq!(counted.expect("a recount").0.len(), 3);
    }

    /// How many months were closed.
    async fn look(&self) -> u64 {
        let report = self.owner.service.do_what_is_due().await;
        report.expect("due work").months_closed
    }

    /// Makes the month known, and due.
    async fn due(&self) {
        let insert = "INSERT INTO usage_months (workspace, month, organization, closes_at)
                      VALUES ($1, $2, $3, 1)";
        let organization = Value::from(self.owner.organization.to_string());
        let parameters = self.of().into_iter().chain([organization]);
        let made = self
            .store
            .execute(vec![Statement::new(insert, parameters)])
            .await;
        made.expect("the month is due");
    }
}

fn month() -> Month {
    MONTH.parse().expect("a month")
}
