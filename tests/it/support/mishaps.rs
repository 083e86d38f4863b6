//! A store whose appends go wrong as a test plans it, in front of a real one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use crewlog::domain::ids::BatchId;
use crewlog::journal::stores::{
    Append, AppendError, AuditRows, DocumentChanges, Load, Row, Scan, ScanError, Sheet, Snapshot,
    Span, Statement, Store, StoreError, StoreKind, Value,
};
use crewlog::journal::{Journal, JournalSettings, Recorded};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::journal::Fixture;
use super::trials::StoreUnderTest;

/// What goes wrong with an append.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mishap {
    None,
    /// It is written, and the answer is lost.
    AnswerLost,
    /// The connection breaks before it is written.
    NeverSent,
    /// As before, and it is still under way when its outcome is asked for.
    ArrivesLate,
    /// Known not to be written.
    Refused,
}

/// How an append is kept from going on.
#[derive(Debug, Clone, Copy)]
enum Hold {
    /// It is under way: its writer decides what comes next meanwhile.
    UnderWay,
    /// Its writer stands still with it: what comes next waits in the queue.
    Standing,
}

/// A store with an append in so many that goes wrong.
#[derive(Debug)]
pub struct Mishaps {
    inner: Arc<dyn Store>,
    plan: Vec<Mishap>,
    appends: AtomicUsize,
    under_way: tokio::sync::Mutex<Option<Arc<Append>>>,
    late_ones_lost: AtomicUsize,
    /// The next append waits for the gate, and has this outcome.
    to_hold: Mutex<Option<(Hold, Mishap)>>,
    held: Semaphore,
    gate: Semaphore,
}

impl Mishaps {
    /// In front of a store; its appends go as `plan` says, over and over.
    pub fn before(inner: Arc<dyn Store>, plan: &[Mishap]) -> Arc<Self> {
        Arc::new(Self {
            inner,
            plan: plan.to_vec(),
            appends: AtomicUsize::new(0),
            under_way: tokio::sync::Mutex::new(None),
            late_ones_lost: AtomicUsize::new(0),
            to_hold: Mutex::new(None),
            held: Semaphore::new(0),
            gate: Semaphore::new(0),
        })
    }

    /// Keeps the next append under way until it is let go, then it goes as `mishap` says.
    pub fn hold_next(&self, mishap: Mishap) {
        *self.to_hold.lock().expect("no panic") = Some((Hold::UnderWay, mishap));
    }

    /// Keeps the next append, and its writer with it, from going on until it is let go.
    pub fn stop_at_next(&self) {
        *self.to_hold.lock().expect("no panic") = Some((Hold::Standing, Mishap::None));
    }

    /// Waits until an append is being held.
    pub async fn is_holding(&self) {
        self.held.acquire().await.expect("it is open").forget();
    }

    pub fn let_go(&self) {
        self.gate.add_permits(1);
    }

    /// How many appends were sent that were not held.
    pub fn sent(&self) -> usize {
        self.appends.load(Ordering::SeqCst)
    }

    /// How many appends arrived after their outcome had been asked for.
    pub fn late_ones_lost(&self) -> usize {
        self.late_ones_lost.load(Ordering::SeqCst)
    }

    async fn next(&self) -> Mishap {
        let to_hold = self.to_hold.lock().expect("no panic").take();
        if let Some((hold, mishap)) = to_hold {
            self.held.add_permits(1);
            let go = async { self.gate.acquire().await.expect("it is open").forget() };
            match hold {
                Hold::UnderWay => go.await,
                Hold::Standing => tokio::task::block_in_place(|| Handle::current().block_on(go)),
            }
            return mishap;
        }
        let number = self.appends.fetch_add(1, Ordering::SeqCst);
        self.plan[number % self.plan.len()]
    }
}

#[async_trait]
impl Store for Mishaps {
    fn kind(&self) -> StoreKind {
        self.inner.kind()
    }

    async fn query(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.inner.query(sql, parameters).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Recorded>, ScanError> {
        self.inner.scan(scan).await
    }

    async fn read(&self, span: Span) -> Result<Sheet, StoreError> {
        self.inner.read(span).await
    }

    async fn execute(&self, statements: Vec<Statement>) -> Result<Vec<u64>, StoreError> {
        self.inner.execute(statements).await
    }

    async fn put(
        &self,
        documents: Vec<DocumentChanges>,
        audit: Option<AuditRows>,
        guard: Option<Statement>,
    ) -> Result<bool, StoreError> {
        self.inner.put(documents, audit, guard).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.inner.snapshot().await
    }

    async fn load(&self, load: Load) -> Result<(), StoreError> {
        self.inner.load(load).await
    }

    async fn append(&self, append: Arc<Append>) -> Result<(), AppendError> {
        let unknown = || Err(AppendError::Unknown("the connection broke".to_owned()));
        match self.next().await {
            Mishap::None => self.inner.append(append).await,
            Mishap::AnswerLost => {
                self.inner.append(append).await?;
                unknown()
            }
            Mishap::NeverSent => unknown(),
            Mishap::ArrivesLate => {
                *self.under_way.lock().await = Some(append);
                unknown()
            }
            Mishap::Refused => Err(AppendError::Failed(StoreError::Unavailable {
                kind: self.kind(),
                detail: "no room".to_owned(),
            })),
        }
    }

    async fn hold_head(&self) -> Result<(), StoreError> {
        self.inner.hold_head().await
    }

    async fn release_head(&self) {
        self.inner.release_head().await;
    }

    fn another(&self) -> Arc<dyn Store> {
        self.inner.another()
    }

    async fn resolve(&self, batch: BatchId, first_position: u64) -> Result<bool, StoreError> {
        let answer = self.inner.resolve(batch, first_position).await;
        if let Some(late) = self.under_way.lock().await.take() {
            let arrived = self.inner.append(late).await;
            assert!(matches!(arrived, Err(AppendError::Lost)), "{arrived:?}");
            self.late_ones_lost.fetch_add(1, Ordering::SeqCst);
        }
        answer
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A journal on a store whose appends go as `plan` says, over and over.
pub async fn with_mishaps(store: &StoreUnderTest, plan: &[Mishap]) -> (Fixture, Arc<Mishaps>) {
    let fixture = Fixture::open(store).await;
    let mishaps = Mishaps::before(fixture.store.clone(), plan);
    let journal = Journal::start(
        mishaps.clone(),
        fixture.source.clone(),
        fixture.engine.clone(),
        JournalSettings::default(),
    )
    .await
    .expect("the journal to start");
    let fixture = Fixture {
        journal: Arc::new(journal),
        ..fixture
    };
    (fixture, mishaps)
}
