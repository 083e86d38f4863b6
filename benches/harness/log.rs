//! A log of many events, written by `Store::append` as the writer does, without deciding.
//!
//! The entries are real: canonical payloads and metadata, leaves, chains, folded documents;
//! `verify` and `check` hold of it. Sealed fields are random bytes, which nobody opens.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cqrs_es::DomainEvent;
use crewlog::{
    domain::{
        Timestamp,
        authority::{Actor, AuthorityLink, OrganizationRole, Role},
        event::Event,
        ids::{
            BatchId, EventId, InvitationId, OrganizationId, SessionId, SubjectId, UserId,
            WorkspaceId,
        },
        organization::OrganizationEvent,
        sealed::{KeyOwner, Sealed},
        user::{SessionEnd, UserEvent},
        workspace::{MembershipSource, WorkspaceEvent},
    },
    journal::{
        Fold, Folded, Metadata, Recorded, Source, StoredEvent, SystemSource,
        entry::to_canonical,
        stores::{self, Append, Head, Store},
    },
    projections::{
        Engine,
        audit_index::{self, STEP},
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Serialize;
use tokio::task::JoinHandle;

/// Events in one append, unless told otherwise.
const BATCH: usize = 500;
/// Far enough away for nothing to be due, in microseconds since 1970.
const FAR: Timestamp = Timestamp(4_000_000_000_000_000);

/// What an append consists of, for those who leave a part out to see what it costs.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// Hashing of entries and of the tree.
    pub leaves: bool,
    pub documents: bool,
    /// Bringing the audit index on, a step at a time, in the place of the background.
    pub audit: bool,
}

impl Parts {
    pub const ALL: Self = Self {
        leaves: true,
        documents: true,
        audit: true,
    };
}

/// A stream that an event goes to.
#[derive(Debug, Clone)]
pub struct Target {
    pub aggregate_type: &'static str,
    pub id: String,
    pub scope: String,
    pub organization: Option<OrganizationId>,
}

impl Target {
    pub fn user(id: UserId) -> Self {
        Self::of("user", id, None)
    }

    pub fn organization(id: OrganizationId) -> Self {
        Self::of("organization", id, Some(id))
    }

    pub fn workspace(id: WorkspaceId, organization: OrganizationId) -> Self {
        Self::of("workspace", id, Some(organization))
    }

    /// A stream of a crew, a promotion or attempts, in the scope of its workspace.
    pub fn in_workspace(
        aggregate_type: &'static str,
        id: impl ToString,
        workspace: WorkspaceId,
        organization: OrganizationId,
    ) -> Self {
        Self {
            aggregate_type,
            id: id.to_string(),
            scope: workspace.to_string(),
            organization: Some(organization),
        }
    }

    fn of(
        aggregate_type: &'static str,
        id: impl ToString,
        organization: Option<OrganizationId>,
    ) -> Self {
        Self {
            aggregate_type,
            id: id.to_string(),
            scope: id.to_string(),
            organization,
        }
    }
}

/// Appends events to a log, from wherever it is.
pub struct LogWriter {
    /// Events in one append.
    pub batch_events: usize,
    /// What is written.
    pub parts: Parts,
    /// Whether the next append is made while one is on its way; only where nothing is read for it.
    pub is_ahead: bool,
    store: Arc<dyn Store>,
    engine: Engine,
    head: Head,
    /// How far the audit index is.
    indexed: u64,
    streams: HashMap<(String, String), u64>,
    scopes: HashMap<String, (u64, [u8; 32])>,
    batch: BatchId,
    /// When the events of this append are recorded.
    pub recorded_at: Timestamp,
    /// How much later those of the next one are, in microseconds.
    pub step_us: i64,
    /// The id of the event that is added next: what is sealed in it is bound to that.
    pub next_event: EventId,
    events: Vec<StoredEvent>,
    recorded: Vec<Recorded>,
    /// An append that is on its way while the next one is made.
    on_its_way: Option<JoinHandle<()>>,
}

impl LogWriter {
    pub async fn open(store: Arc<dyn Store>) -> Self {
        let engine = Engine::open(&*store).await.expect("the projections open");
        let head = stores::head(&*store).await.expect("the head");
        let mut streams = HashMap::new();
        let select = "SELECT aggregate_type, aggregate_id, MAX(sequence) FROM events
                      GROUP BY aggregate_type, aggregate_id";
        for row in store.query(select, vec![]).await.expect("streams") {
            let key = (
                row.text(0).expect("text").to_owned(),
                row.text(1).expect("text").to_owned(),
            );
            streams.insert(key, row.count(2).expect("a count"));
        }
        let mut scopes = HashMap::new();
        let select = "SELECT scope, scope_sequence, leaf FROM events
                      WHERE (scope, scope_sequence) IN
                            (SELECT scope, MAX(scope_sequence) FROM events GROUP BY scope)";
        for row in store.query(select, vec![]).await.expect("scopes") {
            let tip = (row.count(1).expect("a count"), row.hash(2).expect("a leaf"));
            scopes.insert(row.text(0).expect("text").to_owned(), tip);
        }
        let recorded_at = SystemSource.now().max(head.recorded_at);
        Self {
            batch_events: BATCH,
            parts: Parts::ALL,
            is_ahead: false,
            store,
            engine,
            indexed: 0,
            head,
            streams,
            scopes,
            batch: BatchId::from_uuid(SystemSource.uuid()),
            recorded_at: Timestamp(recorded_at.0 + 1),
            step_us: 1_000,
            next_event: EventId::from_uuid(SystemSource.uuid()),
            events: Vec::new(),
            recorded: Vec::new(),
            on_its_way: None,
        }
    }

    /// When the newest event of the log was recorded.
    pub fn head_recorded_at(&self) -> Timestamp {
        self.head.recorded_at
    }

    /// The position of the event added last.
    pub fn position(&self) -> u64 {
        self.head.position + self.events.len() as u64
    }

    /// Adds an event; writes when there are enough for an append.
    pub async fn add<E>(&mut self, target: &Target, metadata: Metadata, event: E)
    where
        E: DomainEvent + Into<Event> + Serialize,
    {
        let stream = (target.aggregate_type.to_owned(), target.id.clone());
        let sequence = self.streams.entry(stream).or_insert(0);
        *sequence += 1;
        let tip = self.scopes.get(&target.scope).copied();
        let mut salt = [0; 32];
        SystemSource.fill(&mut salt);
        let mut stored = StoredEvent {
            position: self.head.position + self.events.len() as u64 + 1,
            id: self.next_event,
            recorded_at: self.recorded_at,
            batch: self.batch,
            aggregate_type: target.aggregate_type.to_owned(),
            aggregate_id: target.id.clone(),
            sequence: *sequence,
            scope: target.scope.clone(),
            scope_sequence: tip.map_or(0, |tip| tip.0) + 1,
            previous: tip.map(|tip| tip.1),
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: to_canonical(&event).expect("JSON"),
            metadata: to_canonical(&metadata).expect("JSON"),
            salt,
            leaf: [0; 32],
        };
        if self.parts.leaves {
            stored.leaf = stored.computed_leaf();
        }
        self.next_event = EventId::from_uuid(SystemSource.uuid());
        let tip = (stored.scope_sequence, stored.leaf);
        self.scopes.insert(target.scope.clone(), tip);
        if self.parts.documents {
            self.recorded.push(Recorded {
                position: stored.position,
                id: stored.id,
                recorded_at: stored.recorded_at,
                aggregate_type: stored.aggregate_type.clone(),
                aggregate_id: stored.aggregate_id.clone(),
                sequence: stored.sequence,
                scope: stored.scope.clone(),
                metadata,
                event: event.into(),
            });
        }
        self.events.push(stored);
        if self.events.len() >= self.batch_events {
            self.send().await;
        }
    }

    /// Writes what was added.
    pub async fn flush(&mut self) {
        self.send().await;
        self.arrived().await;
    }

    /// Waits for the append that is on its way.
    async fn arrived(&mut self) {
        if let Some(append) = self.on_its_way.take() {
            append.await.expect("it is appended");
        }
    }

    /// Sends what was added.
    async fn send(&mut self) {
        self.arrived().await;
        if self.events.is_empty() {
            return;
        }
        let events = std::mem::take(&mut self.events);
        let recorded = std::mem::take(&mut self.recorded);
        let mut folded = Folded::default();
        if self.parts.documents {
            let fold = self.engine.fold(&*self.store, None, &mut folded, &recorded);
            fold.await.expect("the events fold");
        }
        let documents = self.engine.changes(&folded).expect("they are JSON");
        let mut frontier = self.head.frontier.clone();
        if self.parts.leaves {
            events.iter().for_each(|event| frontier.push(event.leaf));
        }
        let head = Head {
            position: self.head.position + events.len() as u64,
            epoch: self.head.epoch,
            recorded_at: self.recorded_at,
            frontier,
        };
        let append = Append {
            batch: self.batch,
            expected_position: self.head.position,
            expected_epoch: self.head.epoch,
            expected_frontier: self.head.frontier.clone(),
            recorded_at: self.recorded_at,
            frontier: head.frontier.clone(),
            events,
            documents,
            statements: vec![],
        };
        let (store, append) = (self.store.clone(), Arc::new(append));
        let appended = tokio::spawn(async move {
            store.append(append).await.expect("it is appended");
        });
        self.on_its_way = Some(appended);
        if !self.is_ahead || self.parts.documents || self.parts.audit {
            self.arrived().await;
        }
        self.engine.committed(folded);
        self.head = head;
        self.batch = BatchId::from_uuid(SystemSource.uuid());
        self.recorded_at = Timestamp(self.recorded_at.0 + self.step_us);
        if self.parts.audit && self.head.position >= self.indexed + STEP {
            let advanced = audit_index::advance(&*self.store).await;
            self.indexed = advanced.expect("the index goes on").position;
        }
    }
}

/// Random bytes in the place of something sealed.
pub fn sealed(subject: SubjectId, bytes: usize) -> Sealed {
    let mut random = vec![0; 24 + 32 + bytes + 16];
    SystemSource.fill(&mut random);
    Sealed {
        subject: KeyOwner::Subject(subject),
        key_version: 1,
        commitment: BASE64_STANDARD.encode(&random[..32]),
        ciphertext: BASE64_STANDARD.encode(&random),
    }
}

/// Metadata such as a request of a signed-in person leaves behind.
pub fn metadata(actor: &Person, role: Option<Role>, target: &Target, position: u64) -> Metadata {
    let session = AuthorityLink::Session {
        id: actor.session,
        position,
    };
    let role = role.map(|role| AuthorityLink::Role { role, position });
    Metadata {
        actor: Actor::User { id: actor.user },
        authority: std::iter::once(session).chain(role).collect(),
        organization: target.organization,
        environment: None,
        request_id: Some(format!("req_{}", SystemSource.uuid().simple())),
        correlation: None,
        causation: None,
        reason: None,
        context: Some(sealed(actor.subject, 60)),
    }
}

/// Somebody of the log.
#[derive(Debug, Clone, Copy)]
pub struct Person {
    pub user: UserId,
    pub subject: SubjectId,
    pub session: SessionId,
}

impl Person {
    pub fn new() -> Self {
        Self {
            user: UserId::from_uuid(SystemSource.uuid()),
            subject: SubjectId::from_uuid(SystemSource.uuid()),
            session: SessionId::from_uuid(SystemSource.uuid()),
        }
    }
}

impl Default for Person {
    fn default() -> Self {
        Self::new()
    }
}

struct Team {
    target: Target,
    owner: Person,
    members: Vec<(Person, Role)>,
    pending: Vec<InvitationId>,
    name: String,
}

/// Fills an empty log with about `events` events: up to 5,000 people, 1,000 workspaces in a
/// tenth as many organizations, then renames, invitations, joins, changes of role, sign-ins.
pub async fn fill(store: Arc<dyn Store>, events: u64) {
    let mut log = LogWriter::open(store.clone()).await;
    let mut random = StdRng::seed_from_u64(1);
    let mut people = people(&mut log, (events / 20).clamp(10, 5_000)).await;
    let mut teams = teams(&mut log, &people, (events / 100).clamp(2, 1_000)).await;
    while log.position() < events {
        let team = random.gen_range(0..teams.len());
        let person = random.gen_range(0..people.len());
        happen(&mut log, &mut random, &mut teams[team], &mut people[person]).await;
    }
    log.flush().await;
    audit_index::catch_up(&*store).await.expect("an index");
}

async fn people(log: &mut LogWriter, count: u64) -> Vec<Person> {
    let mut people = Vec::new();
    for _ in 0..count {
        let person = Person::new();
        let target = Target::user(person.user);
        let of = |log: &LogWriter| metadata(&person, None, &target, log.position());
        let signed_up = UserEvent::UserSignedUp {
            user: person.user,
            email: sealed(person.subject, 20),
            name: sealed(person.subject, 12),
        };
        log.add(&target, of(log), signed_up).await;
        let shared = UserEvent::UserProfileShared {
            profile_sequence: 1,
            organizations: vec![],
        };
        log.add(&target, of(log), shared).await;
        log.add(&target, of(log), session_started(person.session))
            .await;
        people.push(person);
    }
    people
}

fn session_started(session: SessionId) -> UserEvent {
    UserEvent::SessionStarted {
        session,
        started_at: SystemSource.now(),
        expires_at: FAR,
    }
}

async fn teams(log: &mut LogWriter, people: &[Person], count: u64) -> Vec<Team> {
    let mut teams = Vec::new();
    let mut organization = OrganizationId::from_uuid(SystemSource.uuid());
    for number in 0..count as usize {
        let owner = people[number % people.len()];
        if number.is_multiple_of(10) {
            organization = OrganizationId::from_uuid(SystemSource.uuid());
            found_organization(log, organization, owner).await;
        }
        let workspace = WorkspaceId::from_uuid(SystemSource.uuid());
        let target = Target::workspace(workspace, organization);
        let name = format!("Workspace {number}");
        let begin = [
            WorkspaceEvent::WorkspaceCreated {
                workspace,
                organization,
                name: name.clone(),
                created_by: owner.user,
            },
            WorkspaceEvent::PlanSelected {
                from: None,
                to: "free".parse().expect("a plan"),
            },
            WorkspaceEvent::MemberJoined {
                user: owner.user,
                role: Role::Owner,
                source: MembershipSource::Creation,
            },
        ];
        for event in begin {
            let metadata = metadata(&owner, None, &target, log.position());
            log.add(&target, metadata, event).await;
        }
        teams.push(Team {
            target,
            owner,
            members: vec![],
            pending: vec![],
            name,
        });
    }
    teams
}

async fn found_organization(log: &mut LogWriter, organization: OrganizationId, owner: Person) {
    let target = Target::organization(organization);
    let begin = [
        OrganizationEvent::OrganizationCreated {
            organization,
            name: "Organization".to_owned(),
            created_by: owner.user,
        },
        OrganizationEvent::OrganizationMemberAdded {
            user: owner.user,
            role: OrganizationRole::Owner,
        },
        OrganizationEvent::PersonRecorded {
            user: owner.user,
            profile_sequence: 1,
            email: sealed(owner.subject, 20),
            name: sealed(owner.subject, 12),
        },
    ];
    for event in begin {
        let metadata = metadata(&owner, None, &target, log.position());
        log.add(&target, metadata, event).await;
    }
}

/// One thing, in about the shares that an installation in use would have.
async fn happen(log: &mut LogWriter, random: &mut StdRng, team: &mut Team, person: &mut Person) {
    let role = [Role::Viewer, Role::Member, Role::Admin][random.gen_range(0..3)];
    let event = match random.gen_range(0..100) {
        0..35 => rename(random, team),
        35..50 if !team.members.is_empty() => {
            let member = random.gen_range(0..team.members.len());
            let (changed, from) = team.members[member];
            team.members[member].1 = role;
            WorkspaceEvent::MemberRoleChanged {
                user: changed.user,
                from,
                to: role,
                changed_by: team.owner.user,
            }
        }
        50..70 => invite(team, person, role),
        70..85 if !team.pending.is_empty() => {
            let invitation = team
                .pending
                .swap_remove(random.gen_range(0..team.pending.len()));
            return accept(log, team, *person, invitation, role).await;
        }
        85..90 if !team.members.is_empty() => {
            let member = random.gen_range(0..team.members.len());
            let (gone, role) = team.members.swap_remove(member);
            WorkspaceEvent::MemberRemoved {
                user: gone.user,
                role,
                removed_by: team.owner.user,
            }
        }
        90..100 => return sign_in_again(log, person).await,
        _ => rename(random, team),
    };
    let metadata = metadata(&team.owner, Some(Role::Owner), &team.target, log.position());
    log.add(&team.target, metadata, event).await;
}

fn rename(random: &mut StdRng, team: &mut Team) -> WorkspaceEvent {
    let to = format!("Workspace {}", random.r#gen::<u32>());
    let from = std::mem::replace(&mut team.name, to.clone());
    WorkspaceEvent::WorkspaceRenamed { from, to }
}

fn invite(team: &mut Team, person: &Person, role: Role) -> WorkspaceEvent {
    let invitation = InvitationId::from_uuid(SystemSource.uuid());
    team.pending.push(invitation);
    WorkspaceEvent::MemberInvited {
        invitation,
        email: sealed(person.subject, 20),
        role,
        invited_by: team.owner.user,
        token_hash: BASE64_STANDARD.encode(invitation.uuid().as_bytes().repeat(2)),
        expires_at: FAR,
    }
}

async fn accept(
    log: &mut LogWriter,
    team: &mut Team,
    person: Person,
    invitation: InvitationId,
    role: Role,
) {
    let metadata = metadata(&person, None, &team.target, log.position());
    let user = person.user;
    let is_member = team.members.iter().any(|(member, _)| member.user == user);
    if is_member || user == team.owner.user {
        let declined = WorkspaceEvent::InvitationDeclined { invitation };
        return log.add(&team.target, metadata, declined).await;
    }
    let accepted = WorkspaceEvent::InvitationAccepted { invitation, user };
    log.add(&team.target, metadata.clone(), accepted).await;
    let joined = WorkspaceEvent::MemberJoined {
        user,
        role,
        source: MembershipSource::Invitation {
            invitation,
            invited_by: team.owner.user,
        },
    };
    log.add(&team.target, metadata, joined).await;
    team.members.push((person, role));
}

async fn sign_in_again(log: &mut LogWriter, person: &mut Person) {
    let target = Target::user(person.user);
    let before = metadata(person, None, &target, log.position());
    let revoked = UserEvent::SessionRevoked {
        session: person.session,
        cause: SessionEnd::SignedOut,
    };
    log.add(&target, before, revoked).await;
    person.session = SessionId::from_uuid(SystemSource.uuid());
    let after = metadata(person, None, &target, log.position());
    log.add(&target, after, session_started(person.session))
        .await;
}
