//! What a caller can ask, one file a capability.
//!
//! A capability authorises, composes a unit of work from domain commands, submits it, and
//! reads back what it made. It knows nothing of HTTP, and decides no rule: those are the
//! domain's, inside the append.
//!
//! To add one: a file with its functions on [`Service`]; what it writes goes through
//! [`Service::submit`], which brings idempotency, conditional writes and refused attempts;
//! what it reads says who may.

mod acceptance;
mod access;
mod activity;
mod api_keys;
mod attempts;
mod audit;
mod auditors;
mod authenticate;
mod bundles;
mod connections;
mod contents;
mod credentials;
mod crews;
mod due;
mod erasure;
mod error;
mod exports;
mod holds;
mod introductions;
mod invitations;
mod items;
mod key_uses;
mod knowledge;
mod knowledge_search;
mod limits;
mod looks;
mod me;
mod members;
mod moments;
mod name_words;
pub mod ocsf;
pub mod offline;
mod operators;
mod organization_members;
mod organizations;
mod ownership;
mod pace;
mod password_change;
mod passwords;
mod past;
mod people;
pub mod plans;
mod policies;
mod promotions;
mod proving;
mod publishing;
mod rebuilding;
mod remembered;
mod reviews;
pub mod root_key;
mod secrets;
mod sessions;
mod sign_up;
pub mod signing;
mod statements;
mod suspension;
mod tail_pages;
mod tails;
mod throttle;
mod transparency;
mod tree;
mod usage;
mod verification;
mod who_may;
mod workspaces;
mod write;

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lru::LruCache;
use std::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use crate::projections::audit_index::Order;
pub use acceptance::{Acceptance, Accepted, Newcomer};
pub use access::{AccessDifference, AccessQuestion, AccessReport, AccessView};
pub use activity::{
    ActivityFilter, ActivityLevel, ActivityPage, ActivityPlace, ActivityReceipt, ActivityRecord,
    RECORDS_MAX,
};
pub use api_keys::{ApiKeyView, KeyCheck, KeyQuestion, KeyVerdict, NewKey};
pub use audit::{
    AuditEntry, AuditFilter, AuditPage, AuditScope, ContentPlace, ContentsChanged, EntryActor,
    EntryChange, EntryTarget,
};
pub use auditors::AuditorView;
pub use authenticate::{Caller, KeyAim, KeyCaller, Principal};
pub use bundles::{BundleDraft, CrewExport};
pub use connections::ConnectionView;
pub use credentials::CredentialChange;
pub use crews::{CrewChange, CrewFilter, CrewView};
pub use due::DueReport;
pub use error::ServiceError;
pub use exports::{AuditExport, ExportFormat};
pub use invitations::InvitationView;
pub use items::{InCrew, ItemDraft, ItemVersionView, ItemView};
pub use knowledge::{DocumentDraft, DocumentView, KnowledgeBaseView};
pub use knowledge_search::{KnowledgeMatch, SnippetPart};
pub use limits::LimitsView;
pub use me::{Me, Membership, OrganizationMembership, ProfileChange};
pub use members::MemberView;
pub use moments::{AsOf, MomentInLog};
pub use operators::{Heir, OperatorAim, OperatorCaller, OperatorKeyView, Recovered};
pub use organization_members::OrganizationMemberView;
pub use pace::Pace;
pub use password_change::PasswordChange;
pub use passwords::{PASSWORD_CHARACTERS_MAX, PASSWORD_CHARACTERS_MIN};
pub use past::EVENTS_FOLDED_MAX;
pub use people::Opened;
pub use promotions::{
    ChangelogView, DiffItem, DiffView, NewPromotion, OtherSide, PromotionFilter, PromotionView,
    ReportedCheck, RollOutReport, RollOutResult, SourceDraft,
};
pub use publishing::{PUBLISH_EVERY_SECONDS, PublishTo, Publishing};
pub use reviews::{
    DECISIONS_MAX, DecidedView, ItemDecision, ItemOutcome, ItemStatus, NewReview, PresentView,
    ReportFormat, ReviewItemView, SentReport,
};
pub use secrets::{Token, TokenKind};
pub use sessions::SessionView;
pub use sign_up::{FirstWorkspace, SignUp, SignedUp};
pub use statements::recount;
pub use tail_pages::TailEntry;
pub use tails::{AuditTail, TailEnd, TailStep, TailsAllowed};
pub use transparency::{
    COSIGNATURES_MAX, Consistency, Inclusion, SignedCheckpoint, WhichCheckpoint,
};
pub use usage::{
    CrewUsage, MonthSoFar, OrganizationUsage, USAGE_RECORDS_MAX, UsageOfWorkspace, UsageReceipt,
    WorkspaceUsage, usage_reads,
};
pub use verification::{VerifyFailure, VerifyReport, verify};
pub use write::{Condition, IdempotencyRequest, Request, Written};

use crate::{
    domain::ids::{OrganizationId, WorkspaceId},
    journal::{
        Journal, JournalSettings, Source, Tail, Trouble,
        sealing::{Keyring, KeyringError, RootKey},
        stores::{self, Store, StoreError},
    },
    projections::{
        ApiKeys, Auditors, Connections, Crews, Documents, Engine, EngineError, Found, Indexer,
        Invitations, Items, KeyNames, KnowledgeBases, KnowledgeDocuments, Limits, Members,
        OrganizationMembers, Organizations, People, Policies, Projection, Projections, Promotions,
        RebuildStatus, Reviews, Statements, Users, Workspaces, audit_index,
    },
    proofs::note::{Origin, VerifierKey},
};
use attempts::AttemptCounter;
use authenticate::Tokens;
use key_uses::KeyUses;
use knowledge_search::WordIndex;
use operators::OperatorPaces;
use pace::Paces;
use passwords::Passwords;
use people::Subjects;
use plans::Catalogue;
use signing::SigningError;
use statements::Countings;
use tails::Tails;
use throttle::SignUpLimit;
use transparency::Transparency;

/// How many workspaces' organizations are remembered; they never change. That a workspace was
/// deleted by another process is not remembered: whoever answers by this asks further.
const PLACES_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// How long the question how things stand waits for the store: who asks it does not wait long.
const READINESS_WAIT: Duration = Duration::from_secs(2);
/// How long a reader waits for a position that it asked for.
const POSITION_WAIT: Duration = Duration::from_secs(2);

/// Why Crewlog cannot start on a store.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error(transparent)]
    Signing(#[from] SigningError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    pub journal: JournalSettings,
    pub catalogue: Catalogue,
    /// How long a session lives.
    pub session_lifetime: chrono::TimeDelta,
    /// How long an invitation can be accepted.
    pub invitation_lifetime: chrono::TimeDelta,
    /// How long an organization keeps its copy of somebody who has erased their account.
    pub erasure_retention: chrono::TimeDelta,
    /// How many may sign up from one client network in an hour; none: as many as like to.
    pub sign_ups_an_hour: Option<NonZeroU32>,
    /// How long a crew's activity is kept, counted from when it happened.
    pub activity_retention: chrono::TimeDelta,
    /// The name of the log in its checkpoints, for a log that has none yet; none: one is made up.
    pub log_origin: Option<Origin>,
    /// Where the operator of the installation is to be found, for those whom a suspension stops.
    pub operator_contact: Option<String>,
    /// Whose cosignatures are taken.
    pub witnesses: Vec<VerifierKey>,
    /// Where checkpoints are published, and compared with the log at the start.
    pub publishing: Option<Publishing>,
    /// The folds.
    pub projections: Projections,
    /// How many may follow audit logs at once.
    pub tails: TailsAllowed,
    /// Events of a stream from one access snapshot to the next, which are folded at once.
    pub access_snapshot_events: NonZeroU64,
}

/// How many may sign up from one client network in an hour, where nobody says otherwise.
pub const SIGN_UPS_AN_HOUR: u32 = 60;

/// For how many days organizations keep who has erased their account, where nobody says.
pub const ERASURE_RETENTION_DAYS: i64 = 30;

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            journal: JournalSettings::default(),
            catalogue: Catalogue::built_in(),
            session_lifetime: chrono::TimeDelta::days(30),
            invitation_lifetime: chrono::TimeDelta::days(7),
            erasure_retention: chrono::TimeDelta::days(ERASURE_RETENTION_DAYS),
            sign_ups_an_hour: NonZeroU32::new(SIGN_UPS_AN_HOUR),
            activity_retention: chrono::TimeDelta::days(30),
            log_origin: None,
            operator_contact: None,
            witnesses: Vec::new(),
            publishing: None,
            projections: Projections::default(),
            tails: TailsAllowed::default(),
            access_snapshot_events: access::SNAPSHOT_EVENTS,
        }
    }
}

/// Everything that can be asked of one Crewlog.
#[derive(Debug)]
pub struct Service {
    journal: Journal,
    engine: Arc<Engine>,
    indexer: Indexer,
    keyring: Keyring,
    subjects: Subjects,
    passwords: Passwords,
    sign_up_limit: SignUpLimit,
    attempts: AttemptCounter,
    tokens: Tokens,
    access_folds: access::AccessFolds,
    trails: reviews::Trails,
    past_folds: past::PastFolds,
    looks: looks::Looks,
    /// Whether this process knows that people are found by all of their names.
    words_caught_up: AtomicBool,
    key_uses: KeyUses,
    word_index: WordIndex,
    /// Months that are being closed.
    countings: Countings,
    paces: Paces,
    operator_paces: OperatorPaces,
    transparency: Transparency,
    tails: Arc<Tails>,
    /// That it is about to stop: nobody should send it anything new.
    is_leaving: AtomicBool,
    /// Cancelled when the server stops: what lasts as long as its reader likes ends then.
    stopping: CancellationToken,
    settings: ServiceSettings,
    places: Mutex<LruCache<WorkspaceId, OrganizationId>>,
}

/// How things stand, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    pub ready: bool,
    /// What is wrong, where something is.
    pub problems: Vec<String>,
    pub store: String,
    pub head_position: u64,
    pub queue_length: usize,
    pub queue_capacity: usize,
    /// Each projection with the position that it is at: documents are folded in the append
    /// and at its head, the audit index trails it.
    pub projections: Vec<(String, u64)>,
    /// The rebuild that is under way, where one is.
    pub rebuild: Option<RebuildStatus>,
}

impl Service {
    /// Starts on a store that was opened for writing.
    ///
    /// # Errors
    /// When the root key is not the store's, the projections cannot be made ready, or the
    /// store cannot be used.
    pub async fn start(
        store: Arc<dyn Store>,
        source: Arc<dyn Source>,
        root: &RootKey,
        mut settings: ServiceSettings,
    ) -> Result<Arc<Self>, StartError> {
        // A process reads its catalogue once, and every decision of it holds on to that.
        settings.journal.plans = Box::leak(Box::new(settings.catalogue.quotas()));
        let keyring = Keyring::open(store.clone(), source.clone(), root, true).await?;
        signing::prepare(&*store, &keyring, settings.log_origin.as_ref()).await?;
        let engine = Engine::open_with(&*store, settings.projections.clone()).await?;
        let engine = Arc::new(engine);
        let journal = Journal::start(
            store.clone(),
            source.clone(),
            engine.clone(),
            settings.journal,
        )
        .await?;
        let indexer = Indexer::start(journal.store().clone(), journal.head());
        let service = Self::of(journal, engine, indexer, keyring, settings)?;
        service.extends_what_was_published().await?;
        Ok(service)
    }

    /// Starts on a store that was opened for reading and that others write: a replica. It follows
    /// the log, and answers what takes no writing; see decision 34.
    ///
    /// # Errors
    /// As [`Service::start`]; it makes nothing ready.
    pub async fn replica(
        store: Arc<dyn Store>,
        source: Arc<dyn Source>,
        root: &RootKey,
        mut settings: ServiceSettings,
    ) -> Result<Arc<Self>, StartError> {
        settings.journal.plans = Box::leak(Box::new(settings.catalogue.quotas()));
        let keyring = Keyring::open(store.clone(), source.clone(), root, false).await?;
        let engine = Arc::new(Engine::open_for_reading(&*store).await?);
        let (fold, limits) = (engine.clone(), settings.journal);
        let journal = Journal::following(store, source, fold, limits).await?;
        Self::of(journal, engine, Indexer::idle(), keyring, settings)
    }

    /// What there is to be read in a store that was opened for reading, beside whoever writes it:
    /// for the operator, whom nobody keeps from anything. It is not ready for anything else.
    ///
    /// # Errors
    /// When the root key is not the store's, or the store cannot be used.
    pub async fn for_reading(
        store: Arc<dyn Store>,
        source: Arc<dyn Source>,
        root: &RootKey,
    ) -> Result<Arc<Self>, StartError> {
        let keyring = Keyring::open(store.clone(), source.clone(), root, false).await?;
        let engine = Arc::new(Engine::open_for_reading(&*store).await?);
        let journal = Journal::for_reading(store, source);
        let settings = ServiceSettings::default();
        Self::of(journal, engine, Indexer::idle(), keyring, settings)
    }

    fn of(
        journal: Journal,
        engine: Arc<Engine>,
        indexer: Indexer,
        keyring: Keyring,
        settings: ServiceSettings,
    ) -> Result<Arc<Self>, StartError> {
        let (store, source) = (journal.store().clone(), journal.source().clone());
        Ok(Arc::new(Self {
            transparency: Transparency::new(store.clone()),
            subjects: Subjects::new(store),
            passwords: Passwords::new(source)?,
            sign_up_limit: SignUpLimit::new(settings.sign_ups_an_hour),
            attempts: AttemptCounter::default(),
            tokens: Tokens::default(),
            access_folds: access::AccessFolds::new(access::FOLDS_KEPT),
            trails: reviews::Trails::new(reviews::TRAILS_KEPT),
            past_folds: past::PastFolds::new(past::FOLDS_KEPT),
            looks: looks::Looks::new(looks::LOOKS_KEPT),
            words_caught_up: AtomicBool::new(false),
            key_uses: KeyUses::default(),
            word_index: WordIndex::default(),
            countings: Countings::default(),
            paces: Paces::default(),
            operator_paces: OperatorPaces::default(),
            tails: Arc::new(Tails::new(settings.tails)),
            is_leaving: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            indexer,
            journal,
            engine,
            keyring,
            settings,
            places: Mutex::new(LruCache::new(PLACES_IN_MEMORY)),
        }))
    }

    fn documents<P: Projection>(&self) -> Documents<P> {
        Documents::of(self.journal.store().clone(), &self.engine)
    }

    fn users(&self) -> Documents<Users> {
        self.documents()
    }

    fn people(&self) -> Documents<People> {
        self.documents()
    }

    fn organizations(&self) -> Documents<Organizations> {
        self.documents()
    }

    fn organization_members(&self) -> Documents<OrganizationMembers> {
        self.documents()
    }

    fn workspaces(&self) -> Documents<Workspaces> {
        self.documents()
    }

    fn members(&self) -> Documents<Members> {
        self.documents()
    }

    fn invitations(&self) -> Documents<Invitations> {
        self.documents()
    }

    fn api_keys(&self) -> Documents<ApiKeys> {
        self.documents()
    }

    fn key_names(&self) -> Documents<KeyNames> {
        self.documents()
    }

    fn auditors(&self) -> Documents<Auditors> {
        self.documents()
    }

    fn crews(&self) -> Documents<Crews> {
        self.documents()
    }

    fn items(&self) -> Documents<Items> {
        self.documents()
    }

    fn connections(&self) -> Documents<Connections> {
        self.documents()
    }

    fn knowledge_bases(&self) -> Documents<KnowledgeBases> {
        self.documents()
    }

    fn knowledge_documents(&self) -> Documents<KnowledgeDocuments> {
        self.documents()
    }

    fn promotions(&self) -> Documents<Promotions> {
        self.documents()
    }

    fn reviews(&self) -> Documents<Reviews> {
        self.documents()
    }

    fn policies(&self) -> Documents<Policies> {
        self.documents()
    }

    fn statement_documents(&self) -> Documents<Statements> {
        self.documents()
    }

    fn limit_documents(&self) -> Documents<Limits> {
        self.documents()
    }

    fn source(&self) -> &dyn Source {
        &**self.journal.source()
    }

    /// The catalogue of plans.
    pub fn catalogue(&self) -> &Catalogue {
        &self.settings.catalogue
    }

    /// The newest position that this process knows of.
    pub fn position(&self) -> u64 {
        *self.journal.head().borrow()
    }

    /// Follows the log after `position` (exclusive).
    pub fn tail(&self, position: u64) -> Tail {
        self.journal.tail(position)
    }

    /// Waits until `position` can be read here.
    ///
    /// # Errors
    /// [`ServiceError::PositionNotReached`] when that takes too long.
    pub async fn at_least(&self, position: u64) -> Result<(), ServiceError> {
        let mut head = self.journal.head();
        let deadline = tokio::time::Instant::now() + POSITION_WAIT;
        loop {
            let reached = stores::head(&**self.journal.store()).await?.position;
            if reached >= position {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(ServiceError::PositionNotReached {
                    wanted: position,
                    position: reached,
                });
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), head.changed()).await;
        }
    }

    /// Says from here on that it is not ready, and goes on answering: before it stops.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether it was started by [`Service::replica`].
    pub fn is_replica(&self) -> bool {
        self.journal.is_following()
    }

    /// How things stand.
    pub async fn readiness(&self) -> Readiness {
        // What a store says goes to the log: anybody may ask how things stand.
        let mut problems: Vec<String> = Vec::new();
        if let Some(trouble) = self.journal.trouble() {
            tracing::warn!(problem = trouble.detail, "{}", trouble.words);
            problems.push(format!(
                "{}; this process's own log says why",
                trouble.words
            ));
        }
        let mut head_position = self.position();
        let head = stores::head(&**self.journal.store());
        let head = tokio::time::timeout(READINESS_WAIT, head).await;
        match head.unwrap_or_else(|_| Err(self.not_answered())) {
            Ok(head) => {
                head_position = head.position;
                let behind_us = head.recorded_at.0 - self.source().now().0;
                if behind_us > CLOCK_BEHIND_MAX_US {
                    problems.push(format!(
                        "this machine's clock is {} s behind the last entry; set it right",
                        behind_us / 1_000_000
                    ));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the store cannot be read");
                let words = Trouble::from(&error).words;
                let problem = format!("{words}; this process's own log says why");
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
        if let Some(trouble) = self.indexer.trouble() {
            tracing::warn!(trouble, "the audit index does not go on");
            let words = "the audit index does not go on; this process's own log says why";
            problems.push(words.to_owned());
        }
        if let Some(trouble) = self.transparency.trouble() {
            tracing::warn!(trouble, "no checkpoint can be made");
            let words = "no checkpoint can be made; this process's own log says why";
            problems.push(words.to_owned());
        }
        let store = &**self.journal.store();
        let (index, rebuild) = tokio::join!(
            tokio::time::timeout(READINESS_WAIT, audit_index::state(store)),
            tokio::time::timeout(READINESS_WAIT, crate::projections::status(store)),
        );
        let indexed = match index {
            Ok(Ok(state)) => state.position,
            // That the store cannot be read is told above.
            Ok(Err(_)) | Err(_) => 0,
        };
        if self.is_leaving.load(Ordering::Relaxed) {
            problems.push("this process is about to stop".to_owned());
        }
        if let Some(why) = self.superseded() {
            problems.push(format!("{why}; this process stops"));
        }
        let rebuild = rebuild.ok().and_then(Result::ok);
        let names = crate::projections::names();
        let position_of = |name| match name {
            audit_index::NAME => indexed,
            _ => head_position,
        };
        Readiness {
            ready: problems.is_empty(),
            problems,
            store: self.journal.store().kind().to_string(),
            head_position,
            queue_length: self.journal.queue_length(),
            queue_capacity: self.settings.journal.queue_capacity,
            projections: names
                .iter()
                .map(|name| ((*name).to_owned(), position_of(name)))
                .collect(),
            rebuild: rebuild.filter(RebuildStatus::is_under_way),
        }
    }

    /// The projections that are folded in the append, and so are at the head: all but the audit
    /// index.
    pub fn projections_at_head(&self) -> impl Iterator<Item = &'static str> {
        let names = crate::projections::names().into_iter();
        names.filter(|name| *name != audit_index::NAME)
    }

    fn not_answered(&self) -> StoreError {
        StoreError::Unavailable {
            kind: self.journal.store().kind(),
            detail: format!("it did not answer within {READINESS_WAIT:?}"),
        }
    }

    /// Lets nothing in any more, writes what was accepted, and stops. Answers whether
    /// everything was written within `within`.
    pub async fn stop(&self, within: Duration) -> bool {
        let drained = self.journal.stop(within).await;
        self.journal.store().close().await;
        drained
    }

    /// The organization of a workspace; none where there is no such workspace.
    async fn place(&self, workspace: WorkspaceId) -> Result<Option<OrganizationId>, ServiceError> {
        let known = self.places().get(&workspace).copied();
        if known.is_some() {
            return Ok(known);
        }
        let found: Found<_> = self.workspaces().get(&workspace.to_string()).await?;
        let organization = found.value.map(|document| document.organization);
        if let Some(organization) = organization {
            self.places().put(workspace, organization);
        }
        Ok(organization)
    }

    /// Forgets a workspace that was deleted.
    fn forget_place(&self, workspace: WorkspaceId) {
        self.places().pop(&workspace);
    }

    fn places(&self) -> std::sync::MutexGuard<'_, LruCache<WorkspaceId, OrganizationId>> {
        self.places
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How far a clock may be behind the head before the process says that it is not ready.
const CLOCK_BEHIND_MAX_US: i64 = 5_000_000;
