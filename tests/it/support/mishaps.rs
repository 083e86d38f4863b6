//! A store whose appends go wrong as a test plans it, in front of a real one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use crewlog::domain::ids::BatchId;
use crewlog::journal::stores::{
    Append, AppendError, AuditRows, DocumentChanges, Row, Scan, ScanError, Statement, Store,
    StoreError, StoreKind, Value,
};
use crewlog::journal::{Journal, JournalSettings, Recorded};
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

/// A store with an append in so many that goes wrong.
#[derive(Debug)]
pub struct Mishaps {
    inner: Arc<dyn Store>,
    plan: Vec<Mishap>,
    appends: AtomicUsize,
    under_way: tokio::sync::Mutex<Option<Arc<Append>>>,
    late_ones_lost: AtomicUsize,
    /// The next append waits for the gate, and has this outcome.
    to_hold: Mutex<Option<Mishap>>,
    held: Semaphore,
    gate: Semaphore,
}

impl Mishaps {
    /// Keeps the next append under way until it is let go, then it goes as `mishap` says.
    pub fn hold_next(&self, mishap: Mishap) {
        *self.to_hold.lock().expect("no panic") = Some(mishap);
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
        if let Some(mishap) = to_hold {
            self.held.add_permits(1);
            self.gate.acquire().await.expect("it is open").forget();
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
    let mishaps = Arc::new(Mishaps {
        inner: fixture.store.clone(),
        plan: plan.to_vec(),
        appends: AtomicUsize::new(0),
        under_way: tokio::sync::Mutex::new(None),
        late_ones_lost: AtomicUsize::new(0),
        to_hold: Mutex::new(None),
        held: Semaphore::new(0),
        gate: Semaphore::new(0),
    });
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
