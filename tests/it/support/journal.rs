//! The journal on the store under test, and units composed of real commands.
//!
//! Time and randomness come from [`TestSource`], so that a test decides both and a history can be
//! written again.

use std::fmt::{Debug, Display};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crewlog::domain::attempts::Attempts;
use crewlog::domain::authority::{Actor, OrganizationPermission, Permission, Role};
use crewlog::domain::ids::{
    EventId, InvitationId, OrganizationId, SessionId, SubjectId, UserId, WorkspaceId,
};
use crewlog::domain::organization::{Organization, OrganizationCommand};
use crewlog::domain::sealed::{KeyOwner, Sealed};
use crewlog::domain::user::{User, UserCommand};
use crewlog::domain::workspace::{Workspace, WorkspaceCommand};
use crewlog::domain::{Name, Refusal, Stream, Timestamp};
use crewlog::journal::sealing::{DataKey, Keyring, RootKey};
use crewlog::journal::stores::postgres::PostgresStore;
use crewlog::journal::stores::sqlite::SqliteStore;
use crewlog::journal::stores::{self, Statement, Store, Value};
use crewlog::journal::{
    Committed, Desk, Fold, Journal, JournalSettings, LookupKey, Origin, Outcome, Rejection, Source,
    StreamRef, SubmitError, Unit,
};
use crewlog::projections::{ACCOUNT, Engine, Projections};
use sha2::{Digest, Sha256};

use super::trials::{StoreKind, StoreUnderTest};

/// Nobody's root key but these tests'.
pub const ROOT_KEY: &str = "dGVzdCBvbmx5OiB0aGlzIGtleSBndWFyZHMgbm9uZSE=";

/// A first moment that no test depends on, 2026-01-05T09:00:00Z.
const BEGINNING: i64 = 1_767_603_600_000_000;

/// Time that only the test moves (and a microsecond a look), and a stream of bytes that is the same
/// for the same seed.
#[derive(Debug)]
pub struct TestSource {
    seed: u64,
    drawn: AtomicU64,
    now: AtomicI64,
}

impl TestSource {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            drawn: AtomicU64::new(0),
            now: AtomicI64::new(BEGINNING),
        }
    }

    pub fn pass(&self, time: Duration) {
        let micros = i64::try_from(time.as_micros()).expect("a span of a test");
        self.now.fetch_add(micros, Ordering::SeqCst);
    }

    pub fn turn_back(&self, time: Duration) {
        let micros = i64::try_from(time.as_micros()).expect("a span of a test");
        self.now.fetch_sub(micros, Ordering::SeqCst);
    }

    /// Sets the clock, if it is earlier, to `time`.
    pub fn not_before(&self, time: Timestamp) {
        self.now.fetch_max(time.0, Ordering::SeqCst);
    }

    /// A number below `bound`.
    pub fn below(&self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        usize::try_from(u64::from_be_bytes(bytes) % bound as u64).expect("below a usize")
    }

    /// One of `items`.
    pub fn one_of<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

impl Source for TestSource {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.fetch_add(1, Ordering::SeqCst))
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let number = self.drawn.fetch_add(1, Ordering::SeqCst);
            let block = Sha256::new()
                .chain_update(self.seed.to_be_bytes())
                .chain_update(number.to_be_bytes())
                .finalize();
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

/// Opens the store under test, its schema made.
pub async fn open_store(store: &StoreUnderTest) -> Arc<dyn Store> {
    match store.kind() {
        StoreKind::Sqlite => Arc::new(
            SqliteStore::open(store.data_dir())
                .await
                .expect("the SQLite store to open"),
        ),
        StoreKind::Postgres => Arc::new(
            PostgresStore::open(store.database_url().expect("a database"))
                .await
                .expect("the PostgreSQL store to open"),
        ),
    }
}

/// Opens the store beside whoever writes to it.
pub async fn reading(store: &StoreUnderTest) -> Arc<dyn Store> {
    match store.database_url() {
        Some(url) => {
            let opened = PostgresStore::open_for_reading(url).await;
            Arc::new(opened.expect("the store to open"))
        }
        None => {
            let opened = SqliteStore::open_for_reading(store.data_dir()).await;
            Arc::new(opened.expect("the store to open"))
        }
    }
}

/// A journal at work on a store.
pub struct Fixture {
    pub store: Arc<dyn Store>,
    pub source: Arc<TestSource>,
    pub keys: Arc<Keyring>,
    pub engine: Arc<Engine>,
    pub journal: Arc<Journal>,
}

/// Somebody with an account and a session.
#[derive(Debug, Clone)]
pub struct Person {
    pub user: UserId,
    pub session: SessionId,
    pub account: SubjectId,
    pub email: String,
}

/// A workspace, and the organization that it is of.
#[derive(Debug, Clone, Copy)]
pub struct Team {
    pub workspace: WorkspaceId,
    pub organization: OrganizationId,
}

impl Person {
    pub fn stream(&self) -> StreamRef {
        StreamRef::of::<User>(self.user, self.user)
    }

    pub fn actor(&self) -> Actor {
        Actor::User { id: self.user }
    }
}

impl Team {
    pub fn stream(&self) -> StreamRef {
        StreamRef::of::<Workspace>(self.workspace, self.workspace)
    }

    pub fn attempts(&self) -> StreamRef {
        StreamRef::of::<Attempts>(self.workspace, self.workspace)
    }
}

pub fn organization_stream(organization: OrganizationId) -> StreamRef {
    StreamRef::of::<Organization>(organization, organization)
}

pub fn done() -> Outcome {
    Outcome {
        status: 200,
        resource: "{}".to_owned(),
    }
}

pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// A unit by Crewlog itself; change its `origin` or `lookups` where it matters.
pub fn unit(
    lane: impl Display,
    streams: Vec<StreamRef>,
    decide: impl Fn(&mut Desk<'_>) -> Result<Outcome, Rejection> + Send + Sync + 'static,
) -> Unit {
    Unit {
        lane: lane.to_string(),
        streams,
        lookups: vec![],
        origin: Origin::system(),
        idempotency: None,
        decide: Box::new(decide),
    }
}

/// A unit of one command.
pub fn command<A: Stream>(stream: StreamRef, command: A::Command) -> Unit
where
    A::Command: Clone + Sync,
{
    commands::<A>(stream, vec![command])
}

/// A unit of several commands to one stream.
pub fn commands<A: Stream>(stream: StreamRef, commands: Vec<A::Command>) -> Unit
where
    A::Command: Clone + Sync,
{
    let target = stream.clone();
    unit(stream.scope.clone(), vec![stream], move |desk| {
        for command in &commands {
            desk.execute::<A>(&target, command.clone(), &[])?;
        }
        Ok(done())
    })
}

/// `person` renames the workspace, on the authority of their session and role.
pub fn rename(team: Team, person: &Person, text: &str) -> Unit {
    let (person, text) = (person.clone(), text.to_owned());
    let mut unit = unit(team.organization, vec![person.stream(), team.stream()], {
        let person = person.clone();
        move |desk| {
            stand_on_role(desk, team, &person, Permission::RenameWorkspace)?;
            let command = WorkspaceCommand::Rename {
                actor: person.user,
                name: name(&text),
            };
            desk.execute::<Workspace>(&team.stream(), command, &[])?;
            Ok(done())
        }
    });
    unit.origin.actor = person.actor();
    unit
}

/// The chain of authority of a person in a workspace, decided on newest state.
pub fn stand_on_role(
    desk: &mut Desk<'_>,
    team: Team,
    person: &Person,
    permission: Permission,
) -> Result<(), Rejection> {
    let now = desk.now();
    let session = desk
        .read::<User>(&person.stream())
        .session(person.session, now)?;
    desk.stand_on(session);
    let role = desk
        .read::<Workspace>(&team.stream())
        .authorise(person.user, permission, now)?;
    desk.stand_on(role);
    Ok(())
}

impl Fixture {
    pub async fn open(store: &StoreUnderTest) -> Self {
        Self::on(open_store(store).await, 1, JournalSettings::default()).await
    }

    /// A journal of its own, with nothing in memory, on a store that is open.
    pub async fn on(store: Arc<dyn Store>, seed: u64, settings: JournalSettings) -> Self {
        Self::folding(store, seed, settings, |engine| engine).await
    }

    /// A journal whose folds are wrapped.
    pub async fn folding(
        store: Arc<dyn Store>,
        seed: u64,
        settings: JournalSettings,
        wrap: impl FnOnce(Arc<Engine>) -> Arc<dyn Fold>,
    ) -> Self {
        let source = Arc::new(TestSource::new(seed));
        let head = stores::head(&*store).await.expect("the head to be read");
        source.not_before(head.recorded_at);
        let root = RootKey::from_text(ROOT_KEY).expect("the tests' root key");
        let keys = Keyring::open(store.clone(), source.clone(), &root, true)
            .await
            .expect("the keys to open");
        let engine = Engine::open(&*store)
            .await
            .expect("the projections to open");
        Self::with_engine(store, source, keys, engine, settings, wrap).await
    }

    /// A journal that folds in another way than this program: as another version of it.
    pub async fn of_version(store: Arc<dyn Store>, seed: u64, projections: Projections) -> Self {
        let source = Arc::new(TestSource::new(seed));
        let head = stores::head(&*store).await.expect("the head to be read");
        source.not_before(head.recorded_at);
        let root = RootKey::from_text(ROOT_KEY).expect("the tests' root key");
        let keys = Keyring::open(store.clone(), source.clone(), &root, true)
            .await
            .expect("the keys to open");
        let engine = Engine::open_with(&*store, projections)
            .await
            .expect("the projections to open");
        let settings = JournalSettings::default();
        Self::with_engine(store, source, keys, engine, settings, |engine| engine).await
    }

    async fn with_engine(
        store: Arc<dyn Store>,
        source: Arc<TestSource>,
        keys: Keyring,
        engine: Engine,
        settings: JournalSettings,
        wrap: impl FnOnce(Arc<Engine>) -> Arc<dyn Fold>,
    ) -> Self {
        let engine = Arc::new(engine);
        let journal = Journal::start(
            store.clone(),
            source.clone(),
            wrap(engine.clone()),
            settings,
        )
        .await
        .expect("the journal to start");
        Self {
            store,
            source,
            keys: Arc::new(keys),
            engine,
            journal: Arc::new(journal),
        }
    }

    /// Another journal on the same store, with nothing in memory.
    pub async fn another(&self, seed: u64) -> Self {
        Self::on(self.store.clone(), seed, JournalSettings::default()).await
    }

    pub async fn submit(&self, unit: Unit) -> Result<Committed, SubmitError> {
        self.journal.submit(unit).await
    }

    pub async fn commit(&self, unit: Unit) -> Committed {
        self.submit(unit).await.expect("the unit to be accepted")
    }

    pub fn event_id(&self) -> EventId {
        EventId::from_uuid(self.source.uuid())
    }

    pub fn invitation_id(&self) -> InvitationId {
        InvitationId::from_uuid(self.source.uuid())
    }

    /// Seals under the newest key of somebody who has one.
    pub async fn seal(&self, owner: KeyOwner, event: EventId, field: &str, value: &str) -> Sealed {
        let key = self.keys.newest(owner).await.expect("keys to be read");
        key.expect("the owner has a key")
            .seal(&*self.source, event, field, value)
    }

    /// A new key, and the statement that keeps it.
    pub fn new_key(&self, owner: KeyOwner) -> (Arc<DataKey>, Statement) {
        self.keys.create(owner)
    }

    /// The unit that makes an account with a session, and claims its address.
    pub fn sign_up_unit(&self, label: &str) -> (Person, Unit) {
        let person = Person {
            user: UserId::from_uuid(self.source.uuid()),
            session: SessionId::from_uuid(self.source.uuid()),
            account: SubjectId::from_uuid(self.source.uuid()),
            email: format!("{label}@example.com"),
        };
        let (key, keep_key) = self.new_key(KeyOwner::Subject(person.account));
        let event = self.event_id();
        let seal = |field, value: &str| key.seal(&*self.source, event, field, value);
        let sign_up = UserCommand::SignUp {
            user: person.user,
            email: seal("email", &person.email),
            name: seal("name", label),
        };
        let claim = LookupKey::Email {
            realm: ACCOUNT.to_owned(),
            lookup: self.keys.lookup("email", &person.email),
        };
        let (lookup, subject) = (claim.clone(), person.clone());
        let start = UserCommand::StartSession {
            session: person.session,
            expires_at: Timestamp(i64::MAX / 4096),
        };
        let mut unit = unit(person.user, vec![person.stream()], move |desk| {
            let stream = subject.stream();
            if desk.holder(&lookup).is_some() {
                return Err(Refusal::EmailTaken.into());
            }
            desk.hold(&lookup, Some(subject.account.to_string()));
            desk.write_beside(insert_subject(&subject, &lookup));
            desk.write_beside(keep_key.clone());
            desk.execute::<User>(&stream, sign_up.clone(), &[event])?;
            desk.execute::<User>(&stream, start.clone(), &[])?;
            Ok(done())
        });
        unit.lookups.push(claim);
        unit.origin.actor = person.actor();
        (person, unit)
    }

    pub async fn sign_up(&self, label: &str) -> Person {
        let (person, unit) = self.sign_up_unit(label);
        self.commit(unit).await;
        person
    }

    pub async fn organization(&self, owner: &Person, label: &str) -> OrganizationId {
        let organization = OrganizationId::from_uuid(self.source.uuid());
        let (_, keep_key) = self.new_key(KeyOwner::Organization(organization));
        let create = OrganizationCommand::Create {
            organization,
            name: name(label),
            created_by: owner.user,
        };
        let stream = organization_stream(organization);
        let mut unit = unit(organization, vec![stream.clone()], move |desk| {
            desk.write_beside(keep_key.clone());
            desk.execute::<Organization>(&stream, create.clone(), &[])?;
            Ok(done())
        });
        unit.origin.actor = owner.actor();
        self.commit(unit).await;
        organization
    }

    /// A workspace in an organization that `owner` owns.
    pub async fn workspace_in(
        &self,
        organization: OrganizationId,
        owner: &Person,
        label: &str,
    ) -> Team {
        let team = Team {
            workspace: WorkspaceId::from_uuid(self.source.uuid()),
            organization,
        };
        let (_, keep_key) = self.new_key(KeyOwner::Workspace(team.workspace));
        let create = WorkspaceCommand::Create {
            workspace: team.workspace,
            organization,
            name: name(label),
            created_by: owner.user,
            plan: "team".parse().expect("a plan"),
        };
        let user = owner.user;
        let of = organization_stream(organization);
        let mut unit = unit(organization, vec![of.clone(), team.stream()], move |desk| {
            let link = desk
                .read::<Organization>(&of)
                .authorise(user, OrganizationPermission::CreateWorkspaces)?;
            desk.stand_on(link);
            desk.write_beside(keep_key.clone());
            desk.execute::<Workspace>(&team.stream(), create.clone(), &[])?;
            Ok(done())
        });
        unit.origin.actor = owner.actor();
        self.commit(unit).await;
        team
    }

    /// A workspace in an organization of its own.
    pub async fn workspace(&self, owner: &Person, label: &str) -> Team {
        let organization = self.organization(owner, label).await;
        self.workspace_in(organization, owner, label).await
    }

    /// A command that invites `email`, with its sealed address and the statement of its key.
    pub fn invite(
        &self,
        inviter: &Person,
        invitation: InvitationId,
        email: &str,
        role: Role,
    ) -> (WorkspaceCommand, EventId, Statement) {
        let owner = KeyOwner::Subject(SubjectId::from_uuid(self.source.uuid()));
        let (key, keep_key) = self.new_key(owner);
        let event = self.event_id();
        let week = chrono::TimeDelta::days(7);
        let command = WorkspaceCommand::Invite {
            actor: inviter.user,
            invitation,
            email: key.seal(&*self.source, event, "email", email),
            role,
            token_hash: token_hash(invitation),
            expires_at: self.source.now().plus(week),
            invitee: None,
        };
        (command, event, keep_key)
    }

    /// `inviter` invites `person`, who comes in, as one unit.
    pub async fn join(&self, team: Team, inviter: &Person, person: &Person, role: Role) {
        let invitation = self.invitation_id();
        let (invite, event, keep_key) = self.invite(inviter, invitation, &person.email, role);
        let accept = WorkspaceCommand::AcceptInvitation {
            invitation,
            token_hash: token_hash(invitation),
            user: person.user,
        };
        let mut unit = unit(team.organization, vec![team.stream()], move |desk| {
            desk.write_beside(keep_key.clone());
            desk.execute::<Workspace>(&team.stream(), invite.clone(), &[event])?;
            desk.execute::<Workspace>(&team.stream(), accept.clone(), &[])?;
            Ok(done())
        });
        unit.origin.actor = person.actor();
        self.commit(unit).await;
    }

    /// What the writer has of a stream in memory.
    pub async fn in_memory<A: Stream + Clone>(&self, stream: &StreamRef) -> A {
        let (found, target) = (Arc::new(Mutex::new(None)), stream.clone());
        let look = found.clone();
        self.commit(unit("look", vec![stream.clone()], move |desk| {
            *look.lock().expect("no panic") = Some(desk.read::<A>(&target).clone());
            Ok(done())
        }))
        .await;
        let state = found.lock().expect("no panic").take();
        state.expect("the unit was decided")
    }

    /// That the writer's memory is what the log says.
    pub async fn assert_memory_is_the_log<A>(&self, stream: &StreamRef)
    where
        A: Stream + Clone + PartialEq + Debug,
    {
        let remembered: A = self.in_memory(stream).await;
        let folded: A = folded(&*self.store, stream).await;
        assert_eq!(remembered, folded, "memory and log of {stream:?}");
    }

    /// Holds the writer inside of a batch until the answer is dropped.
    pub async fn hold(&self) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel();
        let (entered, has_entered) = mpsc::channel();
        let released = Mutex::new(released);
        let holding = unit("hold", vec![], move |_| {
            let _ = entered.send(());
            // Ends when the sender is dropped; the limit is for a test that has failed.
            let _ = released
                .lock()
                .expect("no panic")
                .recv_timeout(Duration::from_secs(20));
            Ok(done())
        });
        let journal = self.journal.clone();
        tokio::spawn(async move { journal.submit(holding).await });
        tokio::task::spawn_blocking(move || has_entered.recv().expect("the writer to take it"))
            .await
            .expect("no panic");
        release
    }

    /// Submits so that one batch takes all of them, in this order if they are of one lane.
    pub async fn in_one_batch(&self, units: Vec<Unit>) -> Vec<Result<Committed, SubmitError>> {
        let release = self.hold().await;
        let mut waiting = Vec::new();
        for (number, unit) in units.into_iter().enumerate() {
            let journal = self.journal.clone();
            waiting.push(tokio::spawn(async move { journal.submit(unit).await }));
            while self.journal.queue_length() <= number {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        drop(release);
        let mut answers = Vec::new();
        for answer in waiting {
            answers.push(answer.await.expect("no panic"));
        }
        answers
    }
}

/// The only token of an invitation in these tests, as its hash.
pub fn token_hash(invitation: InvitationId) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(Sha256::digest(invitation.to_string()))
}

fn insert_subject(person: &Person, lookup: &LookupKey) -> Statement {
    let LookupKey::Email { realm, lookup } = lookup else {
        panic!("an address is claimed as one");
    };
    let parameters: [Value; 4] = [
        person.account.to_string().into(),
        realm.clone().into(),
        person.user.to_string().into(),
        lookup.clone().into(),
    ];
    Statement::new(
        "INSERT INTO subjects (subject, realm, user_id, email_lookup, created_at)
         VALUES ($1, $2, $3, $4, 0)",
        parameters,
    )
}

/// A stream folded from its first event, without the journal.
pub async fn folded<A: Stream>(store: &dyn Store, stream: &StreamRef) -> A {
    let events = stores::stream_after(store, A::TYPE, &stream.id, 0, u64::MAX >> 1)
        .await
        .expect("the stream to be read");
    let mut state = A::default();
    for stored in events {
        let event: A::Event = serde_json::from_str(&stored.payload).expect("an event of ours");
        state.apply(event.clone());
        state.positioned(&event, stored.position);
    }
    state
}
