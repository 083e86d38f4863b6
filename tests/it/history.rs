//! Golden logs: every version that a release wrote must load, verify, fold and open for ever.
//!
//! `tests/history/v<release>.jsonl` is never changed once its release is out. Its first line says
//! what is needed to read it (a root key that guards nothing else, the wrapped keys, the root of the
//! tree, what each sealed field says); then comes one line for each entry, all columns.
//!
//! When a release adds an event or raises an event's version, extend [`write_history`] and write a
//! log for that release, under its own name:
//!
//! ```text
//! CREWLOG_WRITE_HISTORY=1 cargo test --test it history::is_written
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use cqrs_es::DomainEvent;
use crewlog::domain::api_keys::{KeyChange, KeyCommand, KeyScope, KeyTerms, NewSecret};
use crewlog::domain::attempts::{Attempts, AttemptsCommand, AttemptsEvent, ReportQuestion};
use crewlog::domain::authority::{
    Actor, AuthorityLink, OrganizationPermission, OrganizationRole, Permission, Role,
};
use crewlog::domain::contents::{Content, Digest};
use crewlog::domain::crew::{
    Connection, ConnectionCommand, ConnectionId, Crew, CrewCommand, CrewEvent, CrewPlace,
    CrewProfile, DescriptionChange, Item, ItemChange, ItemCommand, ItemId, KnowledgeCommand,
    ProfileChange,
};
use crewlog::domain::environment::Environment;
use crewlog::domain::event::Event;
use crewlog::domain::ids::{
    AgentId, ChannelId, CredentialId, CrewId, DocumentId, IntegrationId, KeyId, KnowledgeBaseId,
    PathwayId, PhoneNumberId, PrincipalId, PromotionId, ReviewId, SessionId, SubjectId, UserId,
    WebhookEndpointId,
};
use crewlog::domain::installation::{
    INSTALLATION, Installation, InstallationCommand, InstallationEvent,
};
use crewlog::domain::organization::{Organization, OrganizationCommand, OrganizationEvent};
use crewlog::domain::plans::Quotas;
use crewlog::domain::promotion::{
    ApprovalTerms, CheckOutcome, CheckResult, Circumstances, Promotion, PromotionCommand,
    PromotionEvent, PromotionSource, Review, ScheduleEnd,
};
use crewlog::domain::review::{
    DecideAccess, Decision, Finding, Review as AccessReview, ReviewCommand, ReviewEvent,
    ReviewTerms, Reviewed, Settlement, Undecided,
};
use crewlog::domain::sealed::{KeyOwner, Sealed};
use crewlog::domain::usage::{
    MeterTotal, Price, Recount, Statement as MonthStatement, UsedQuantity,
};
use crewlog::domain::user::{SessionEnd, User, UserCommand, UserEvent};
use crewlog::domain::workspace::{
    MembershipSource, Policy, ProductionChanges, Workspace, WorkspaceCommand, WorkspaceEvent,
};
use crewlog::journal::entry::{CONTEXT, REASON};
use crewlog::journal::sealing::{DataKey, Keyring, RootKey};
use crewlog::journal::stores::sqlite::SqliteStore;
use crewlog::journal::stores::{self, Statement, Store, StoreKind, Value};
use crewlog::journal::{JournalSettings, Recorded, Source, StoredEvent, StreamRef, Unit};
use crewlog::proofs::tree::Frontier;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::support::journal::{
    Fixture, Person, ROOT_KEY, Team, TestSource, command, commands, done, name, open_store,
    organization_stream, stand_on_role, token_hash, unit,
};
use crate::support::ledger;
use crate::support::trials::{Case, StoreUnderTest, both, once};

pub fn trials() -> Vec<Case> {
    vec![
        once("history", "is_written", is_written),
        once("history", "has_every_event", has_every_event),
        both("history", "loads_and_verifies", loads_and_verifies),
    ]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/history")
}

/// A golden log as its file has it.
struct History {
    file: String,
    about: Json,
    events: Vec<StoredEvent>,
}

fn histories() -> Vec<History> {
    let entries = fs::read_dir(folder()).expect("the folder of golden logs");
    let mut histories: Vec<_> = entries
        .map(|entry| entry.expect("a file").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a golden log");
            let mut lines = text
                .lines()
                .map(|line| -> Json { serde_json::from_str(line).expect("a line of JSON") });
            History {
                file: path.display().to_string(),
                about: lines.next().expect("a first line"),
                events: lines.map(|line| from_line(&line)).collect(),
            }
        })
        .collect();
    histories.sort_by(|left, right| left.file.cmp(&right.file));
    assert!(!histories.is_empty(), "there is a golden log");
    histories
}

/// Every event of every golden log, as this version reads it.
pub fn recorded_events() -> Vec<Recorded> {
    let events = histories().into_iter().flat_map(|history| history.events);
    let decoded = events.map(|event| event.decode().expect("an event that is known"));
    decoded.collect()
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn bytes(value: &Json) -> Vec<u8> {
    BASE64_STANDARD.decode(text(value)).expect("base64")
}

fn hash(value: &Json) -> [u8; 32] {
    bytes(value).try_into().expect("32 bytes")
}

fn text(value: &Json) -> &str {
    value.as_str().expect("text")
}

fn to_line(event: &StoredEvent) -> Json {
    json!({
        "position": event.position,
        "id": event.id,
        "recorded_at": event.recorded_at,
        "batch": event.batch,
        "aggregate_type": event.aggregate_type,
        "aggregate_id": event.aggregate_id,
        "sequence": event.sequence,
        "scope": event.scope,
        "scope_sequence": event.scope_sequence,
        "previous": event.previous.map(|leaf| base64(&leaf)),
        "event_type": event.event_type,
        "event_version": event.event_version,
        "payload": event.payload,
        "metadata": event.metadata,
        "salt": base64(&event.salt),
        "leaf": base64(&event.leaf),
    })
}

fn from_line(line: &Json) -> StoredEvent {
    let number = |name: &str| line[name].as_u64().expect(name);
    let string = |name: &str| text(&line[name]).to_owned();
    StoredEvent {
        position: number("position"),
        id: string("id").parse().expect("an id"),
        recorded_at: serde_json::from_value(line["recorded_at"].clone()).expect("a time"),
        batch: string("batch").parse().expect("an id"),
        aggregate_type: string("aggregate_type"),
        aggregate_id: string("aggregate_id"),
        sequence: number("sequence"),
        scope: string("scope"),
        scope_sequence: number("scope_sequence"),
        previous: (!line["previous"].is_null()).then(|| hash(&line["previous"])),
        event_type: string("event_type"),
        event_version: string("event_version"),
        payload: string("payload"),
        metadata: string("metadata"),
        salt: hash(&line["salt"]),
        leaf: hash(&line["leaf"]),
    }
}

/// The sealed fields of an event, with the names that they were sealed for.
fn sealed_fields(event: &StoredEvent) -> Vec<(String, Sealed)> {
    let payload: Json = serde_json::from_str(&event.payload).expect("JSON");
    let metadata: Json = serde_json::from_str(&event.metadata).expect("JSON");
    let body = payload[&event.event_type].as_object().expect("a body");
    let of_payload = body.iter().map(|(name, value)| (name.as_str(), value));
    let of_metadata = [
        (REASON, &metadata["reason"]),
        (CONTEXT, &metadata["context"]),
    ];
    of_payload
        .chain(of_metadata)
        .filter(|(_, value)| value["ciphertext"].is_string())
        .map(|(name, value)| {
            let sealed = serde_json::from_value(value.clone()).expect("a sealed field");
            (name.to_owned(), sealed)
        })
        .collect()
}

/// What every sealed field says, by event and field.
async fn opened(keys: &Keyring, events: &[StoredEvent]) -> BTreeMap<String, String> {
    let mut opened = BTreeMap::new();
    for event in events {
        for (field, sealed) in sealed_fields(event) {
            let key = keys.key(sealed.subject, sealed.key_version).await;
            let key = key.expect("keys to be read").expect("the key");
            let value = key.open(&sealed, event.id, &field).expect("to open");
            opened.insert(format!("{}/{field}", event.id), value);
        }
    }
    opened
}

fn root(events: &[StoredEvent]) -> Frontier {
    let mut frontier = Frontier::default();
    events.iter().for_each(|event| frontier.push(event.leaf));
    frontier
}

async fn is_written(directory: TempDir) {
    let fixture = scratch_fixture(&directory).await;
    write_history(&fixture).await;
    let events = ledger::verify(&*fixture.store).await;
    assert_whole(std::slice::from_ref(&events));
    // Without being asked to, it only checks that what would be written is whole.
    if std::env::var_os("CREWLOG_WRITE_HISTORY").is_some_and(|value| value == "1") {
        write_file(&fixture, &events).await;
    }
}

async fn write_file(fixture: &Fixture, events: &[StoredEvent]) {
    let sql = "SELECT owner, key_version, wrapped FROM subject_keys ORDER BY owner, key_version";
    let rows = fixture.store.query(sql, vec![]).await.expect("the keys");
    let keys = rows.iter().map(|row| {
        json!({
            "owner": row.text(0).expect("an owner"),
            "key_version": row.integer(1).expect("a version"),
            "wrapped": base64(row.bytes(2).expect("bytes")),
        })
    });
    let release = env!("CARGO_PKG_VERSION");
    let about = json!({
        "about": "A log as this release writes it. Test-only: its root key guards nothing else.",
        "release": release,
        "root_key_test_only": ROOT_KEY,
        "entries": events.len(),
        "root": base64(&root(events).root()),
        "subject_keys": keys.collect::<Vec<_>>(),
        "opened": opened(&fixture.keys, events).await,
    });
    let lines = std::iter::once(about).chain(events.iter().map(to_line));
    let written: String = lines.map(|line| format!("{line}\n")).collect();
    fs::create_dir_all(folder()).expect("the folder of golden logs");
    fs::write(folder().join(format!("v{release}.jsonl")), written).expect("the log to be written");
}

async fn scratch_fixture(directory: &TempDir) -> Fixture {
    let store = SqliteStore::open(directory.path()).await;
    let store: Arc<dyn Store> = Arc::new(store.expect("the store to open"));
    Fixture::on(store, 17, JournalSettings::default()).await
}

/// A unit with everything in its metadata that there can be.
fn told_of(mut unit: Unit, fixture: &Fixture, keys: [Arc<DataKey>; 2], person: &Person) -> Unit {
    let [reason, context] = keys;
    unit.origin.actor = person.actor();
    unit.origin.request_id = Some("req-01".to_owned());
    unit.origin.causation = Some(fixture.event_id());
    unit.origin.reason = Some((
        reason,
        "because it was asked for, \u{201e}gern\u{201c}".to_owned(),
    ));
    let said = r#"{"address":"203.0.113.7","user_agent":"a browser"}"#;
    unit.origin.context = Some((context, said.to_owned()));
    unit
}

/// A log with every event of every aggregate.
async fn write_history(fixture: &Fixture) {
    let ada = fixture.sign_up("ada").await;
    let bob = fixture.sign_up("bob").await;
    let cyd = fixture.sign_up("cyd").await;
    let team = fixture
        .workspace(&ada, "Crew \u{e9}\u{1f680} \"one\"")
        .await;
    let second = fixture
        .workspace_in(team.organization, &ada, "second")
        .await;
    write_changes_of_names(fixture, &ada, team).await;
    write_profile(fixture, &ada, team).await;
    fixture.join(team, &ada, &bob, Role::Admin).await;
    fixture.join(team, &ada, &cyd, Role::Viewer).await;
    write_members(fixture, [&ada, &bob, &cyd], team).await;
    write_invitations(fixture, &ada, team).await;
    write_sessions(fixture, &bob).await;
    let key = write_keys(fixture, &ada, team).await;
    write_crews(fixture, &ada, team).await;
    write_promotions(fixture, &ada, team).await;
    write_reviews(fixture, &ada, team).await;
    write_organization_members(fixture, &ada, &bob, team).await;
    write_operator(fixture, &ada, &bob, team).await;
    write_rules(fixture, [&ada, &bob, &cyd], second).await;
    write_holds(fixture, &bob, &cyd, second).await;
    write_audit(fixture, [&ada, &bob, &cyd], second).await;
    // It ends their sessions, which what is before it stands on.
    write_password(fixture, &cyd).await;
    write_erasure(fixture, &cyd).await;
    for (scope, count, actor) in [
        (team.workspace.to_string(), 1, cyd.actor()),
        (team.workspace.to_string(), 1, Actor::ApiKey { id: key }),
        (team.organization.to_string(), 4, cyd.actor()),
    ] {
        let attempts = StreamRef::of::<Attempts>(&scope, &scope);
        let refused = AttemptsCommand::Record {
            organization: team.organization,
            actor,
            action: "workspace.rename".to_owned(),
            target: scope,
            crew: None,
            environment: None,
            code: "not_permitted".to_owned(),
            minute: fixture.source.now().minute(),
            count,
            repeats: count > 1,
        };
        fixture.commit(command::<Attempts>(attempts, refused)).await;
    }
    let reported = AttemptsCommand::RecordReport {
        organization: team.organization,
        actor: bob.actor(),
        action: "access.compared".to_owned(),
        target: team.workspace.to_string(),
        question: ReportQuestion {
            position: 7,
            from: Some(3),
            environment: Some(Environment::Production),
            principal: Some(cyd.user.to_string()),
        },
        minute: fixture.source.now().minute(),
    };
    fixture
        .commit(command::<Attempts>(team.attempts(), reported))
        .await;
}

async fn write_changes_of_names(fixture: &Fixture, ada: &Person, team: Team) {
    let key = async |owner| {
        let key = fixture.keys.newest(owner).await.expect("keys to be read");
        key.expect("a key")
    };
    let of_workspace = key(KeyOwner::Workspace(team.workspace)).await;
    let of_organization = key(KeyOwner::Organization(team.organization)).await;
    let of_ada = key(KeyOwner::Subject(ada.account)).await;
    let (user, owner) = (ada.user, ada.clone());
    let rename = unit(
        team.organization,
        vec![ada.stream(), team.stream()],
        move |desk| {
            stand_on_role(desk, team, &owner, Permission::RenameWorkspace)?;
            let renamed = WorkspaceCommand::Rename {
                actor: user,
                name: name("Crew two"),
            };
            let plan = WorkspaceCommand::SelectPlan {
                actor: user,
                plan: "enterprise".parse().expect("a plan"),
            };
            desk.execute::<Workspace>(&team.stream(), renamed, &[])?;
            desk.execute::<Workspace>(&team.stream(), plan, &[])?;
            Ok(done())
        },
    );
    fixture
        .commit(told_of(
            rename,
            fixture,
            [of_workspace, of_ada.clone()],
            ada,
        ))
        .await;
    let of = organization_stream(team.organization);
    let rename = unit(team.organization, vec![of.clone()], move |desk| {
        let link = desk
            .read::<Organization>(&of)
            .authorise(user, OrganizationPermission::Rename)?;
        desk.stand_on(link);
        let renamed = OrganizationCommand::Rename {
            actor: Actor::User { id: user },
            name: name("Organization two"),
        };
        desk.execute::<Organization>(&of, renamed, &[])?;
        Ok(done())
    });
    fixture
        .commit(told_of(rename, fixture, [of_organization, of_ada], ada))
        .await;
}

/// A person's new name and address, and the organization told of them under its own key.
async fn write_profile(fixture: &Fixture, ada: &Person, team: Team) {
    let account = KeyOwner::Subject(ada.account);
    let [renamed, moved] = [fixture.event_id(), fixture.event_id()];
    let rename = UserCommand::Rename {
        name: fixture.seal(account, renamed, "name", "Ada King").await,
        previous: fixture.seal(account, renamed, "previous", "ada").await,
        profile_sequence: 1,
    };
    let address = "ada.king@example.com";
    let change_email = UserCommand::ChangeEmail {
        email: fixture.seal(account, moved, "email", address).await,
        previous: fixture.seal(account, moved, "previous", &ada.email).await,
        profile_sequence: 3,
    };
    let stream = ada.stream();
    let mut change = unit(ada.user, vec![stream.clone()], move |desk| {
        desk.execute::<User>(&stream, rename.clone(), &[renamed])?;
        desk.execute::<User>(&stream, change_email.clone(), &[moved])?;
        Ok(done())
    });
    change.origin.actor = ada.actor();
    fixture.commit(change).await;

    let owner = KeyOwner::Subject(SubjectId::from_uuid(fixture.source.uuid()));
    let (key, keep_key) = fixture.new_key(owner);
    let event = fixture.event_id();
    let seal = |field, value| key.seal(&*fixture.source, event, field, value);
    let record = OrganizationCommand::RecordPerson {
        user: ada.user,
        profile_sequence: 4,
        email: seal("email", address),
        name: seal("name", "Ada King"),
    };
    let of = organization_stream(team.organization);
    let told = unit(team.organization, vec![of.clone()], move |desk| {
        desk.write_beside(keep_key.clone());
        desk.execute::<Organization>(&of, record.clone(), &[event])?;
        Ok(done())
    });
    fixture.commit(told).await;
    let shared = UserCommand::ShareProfile {
        profile_sequence: 4,
        organizations: vec![team.organization],
    };
    fixture.commit(command::<User>(ada.stream(), shared)).await;
}

async fn write_members(fixture: &Fixture, [ada, bob, cyd]: [&Person; 3], team: Team) {
    let changes = vec![
        WorkspaceCommand::ChangeRole {
            actor: ada.user,
            user: bob.user,
            role: Role::Member,
        },
        WorkspaceCommand::Leave { user: bob.user },
        WorkspaceCommand::Remove {
            actor: ada.user,
            user: cyd.user,
        },
    ];
    fixture
        .commit(commands::<Workspace>(team.stream(), changes))
        .await;
}

/// An operator's key, what was done with it, and its end.
async fn write_operator(fixture: &Fixture, ada: &Person, bob: &Person, team: Team) {
    let left = fixture.workspace_in(team.organization, ada, "left").await;
    let [key, other] = [(); 2].map(|()| KeyId::from_uuid(fixture.source.uuid()));
    let installation = StreamRef::of::<Installation>(INSTALLATION, INSTALLATION);
    let create = |key, text: &str, expires_at| InstallationCommand::CreateKey {
        key,
        name: name(text),
        secret: NewSecret {
            hash: base64(&[7; 32]),
            prefix: "crew_op_a1b2".to_owned(),
        },
        expires_at,
    };
    let end = fixture.source.now().plus(chrono::TimeDelta::days(90));
    let made = vec![
        create(key, "On call", None),
        create(other, "For a while", Some(end)),
        InstallationCommand::RevokeKey { key: other },
    ];
    let mut made = commands::<Installation>(installation.clone(), made);
    made.origin.actor = Actor::CommandLine;
    fixture.commit(made).await;
    let (of, workspace) = (organization_stream(team.organization), left.stream());
    let (owner, user) = (ada.user, bob.user);
    let streams = vec![installation.clone(), of.clone(), workspace.clone()];
    let mut operated = unit(team.organization, streams, move |desk| {
        let now = desk.now();
        let link = desk
            .read::<Installation>(&installation)
            .authorise(key, now)?;
        desk.stand_on(link);
        let suspend = OrganizationCommand::Suspend { suspended_by: key };
        desk.execute::<Organization>(&of, suspend, &[])?;
        let recover = WorkspaceCommand::Recover {
            user,
            gone: [owner].into(),
            recovered_by: key,
        };
        desk.execute::<Workspace>(&workspace, recover, &[])?;
        let resume = OrganizationCommand::Resume { resumed_by: key };
        desk.execute::<Organization>(&of, resume, &[])?;
        Ok(done())
    });
    operated.origin.actor = Actor::OperatorKey { id: key };
    fixture.commit(operated).await;
}

async fn write_organization_members(fixture: &Fixture, ada: &Person, bob: &Person, team: Team) {
    let (actor, user) = (ada.user, bob.user);
    let set = |role| OrganizationCommand::SetMember { actor, user, role };
    let changes = vec![
        set(OrganizationRole::Billing),
        set(OrganizationRole::Auditor),
        OrganizationCommand::RemoveMember { actor, user },
    ];
    let stream = organization_stream(team.organization);
    fixture
        .commit(commands::<Organization>(stream, changes))
        .await;
}

/// A legal hold, and what an organization does with somebody who has erased their account.
async fn write_holds(fixture: &Fixture, owner: &Person, user: &Person, team: Team) {
    let (actor, user, workspace) = (owner.user, user.user, team.workspace);
    let holds = vec![
        WorkspaceCommand::PlaceLegalHold { actor },
        WorkspaceCommand::LiftLegalHold { actor },
    ];
    fixture
        .commit(commands::<Workspace>(team.stream(), holds))
        .await;
    let note = |held| OrganizationCommand::NoteHold { workspace, held };
    let due_at = fixture.source.now();
    let told = vec![
        note(true),
        note(false),
        OrganizationCommand::ScheduleErasure { user, due_at },
        OrganizationCommand::ErasePerson { user },
    ];
    let stream = organization_stream(team.organization);
    fixture.commit(commands::<Organization>(stream, told)).await;
}

/// An account that is erased from the one session that it has left.
async fn write_erasure(fixture: &Fixture, person: &Person) {
    let session = SessionId::from_uuid(fixture.source.uuid());
    let erased = vec![
        UserCommand::StartSession {
            session,
            expires_at: fixture.source.now().plus(chrono::TimeDelta::hours(1)),
        },
        UserCommand::Erase { session },
    ];
    fixture
        .commit(commands::<User>(person.stream(), erased))
        .await;
}

/// A policy, roles that end by themselves, and another owner.
async fn write_rules(fixture: &Fixture, [ada, bob, cyd]: [&Person; 3], team: Team) {
    fixture.join(team, ada, bob, Role::Member).await;
    fixture.join(team, ada, cyd, Role::Viewer).await;
    let actor = ada.user;
    let until = fixture.source.now().plus(chrono::TimeDelta::hours(4));
    let limit = |user, role| WorkspaceCommand::ChangeRoleUntil {
        actor,
        user,
        role,
        until,
    };
    let policy = Policy {
        production_changes: ProductionChanges::Direct,
        key_rotation_days: Some(90),
        ..Policy::default()
    };
    let price = Price {
        currency: "EUR".to_owned(),
        amount_minor: 50,
        per_quantity: 1_000,
    };
    let used = UsedQuantity {
        quantity: 12_345,
        records: 7,
    };
    let messages = MeterTotal::at(used, Some(price)).expect("it fits");
    let statement = MonthStatement {
        month: "1999-12".parse().expect("a month"),
        plan: Some("team".parse().expect("a plan")),
        meters: [("messages".to_owned(), messages)].into(),
        records_digest: Recount::default().finish().1,
    };
    let limits = Quotas {
        members: Some(20),
        requests_per_minute: Some(60),
        ..Quotas::UNLIMITED
    };
    let lasting = WorkspaceCommand::ChangeRole {
        actor,
        user: bob.user,
        role: Role::Admin,
    };
    let changes = vec![
        WorkspaceCommand::ChangePolicy { actor, policy },
        WorkspaceCommand::ChangeLimits { actor, limits },
        WorkspaceCommand::CloseMonth { statement },
        limit(bob.user, Role::Admin),
        lasting,
        limit(bob.user, Role::Member),
        limit(cyd.user, Role::Viewer),
    ];
    fixture
        .commit(commands::<Workspace>(team.stream(), changes))
        .await;
    fixture.source.pass(Duration::from_secs(5 * 3600));
    let reached = [bob, cyd].map(|person| WorkspaceCommand::ReachLimit { user: person.user });
    fixture
        .commit(commands::<Workspace>(team.stream(), reached.into()))
        .await;
    let transfer = WorkspaceCommand::TransferOwnership {
        actor,
        to: bob.user,
    };
    fixture
        .commit(command::<Workspace>(team.stream(), transfer))
        .await;
}

/// Auditors, one of whom does something on that authority, and the end of the workspace.
async fn write_audit(fixture: &Fixture, [ada, bob, cyd]: [&Person; 3], team: Team) {
    let (actor, user) = (ada.user, cyd.user);
    let grant = WorkspaceCommand::GrantAuditor {
        actor,
        user,
        expires_at: fixture.source.now().plus(chrono::TimeDelta::days(30)),
    };
    let revoke = WorkspaceCommand::RevokeAuditor { actor, user };
    let changes = vec![grant.clone(), revoke, grant];
    fixture
        .commit(commands::<Workspace>(team.stream(), changes))
        .await;
    let auditor = cyd.clone();
    let streams = vec![cyd.stream(), team.stream(), team.attempts()];
    let tried = unit(team.organization, streams, move |desk| {
        stand_on_role(desk, team, &auditor, Permission::ReadAudit)?;
        let refused = AttemptsCommand::Record {
            organization: team.organization,
            actor: auditor.actor(),
            action: "member.read".to_owned(),
            target: team.workspace.to_string(),
            crew: None,
            environment: None,
            code: "not_permitted".to_owned(),
            minute: desk.now().minute(),
            count: 1,
            repeats: false,
        };
        desk.execute::<Attempts>(&team.attempts(), refused, &[])?;
        let exported = AttemptsCommand::NoteExport {
            organization: team.organization,
            actor: auditor.actor(),
            target: team.workspace.to_string(),
            format: "jsonl".to_owned(),
            filters: vec!["from".to_owned()],
        };
        desk.execute::<Attempts>(&team.attempts(), exported, &[])?;
        Ok(done())
    });
    fixture.commit(tried).await;
    fixture.source.pass(Duration::from_secs(31 * 24 * 3600));
    let ends = vec![
        WorkspaceCommand::ExpireAuditor { user },
        WorkspaceCommand::Delete {
            actor: bob.user,
            confirm: "second".to_owned(),
        },
    ];
    fixture
        .commit(commands::<Workspace>(team.stream(), ends))
        .await;
}

/// Invitations that were sent again, declined, revoked, and that ran out.
async fn write_invitations(fixture: &Fixture, ada: &Person, team: Team) {
    let mut invitations = Vec::new();
    for email in ["dan@example.com", "eve@example.com", "fay@example.com"] {
        let invitation = fixture.invitation_id();
        let (invite, event, keep_key) = fixture.invite(ada, invitation, email, Role::Member);
        let invite = unit(team.organization, vec![team.stream()], move |desk| {
            desk.write_beside(keep_key.clone());
            desk.execute::<Workspace>(&team.stream(), invite.clone(), &[event])?;
            Ok(done())
        });
        fixture.commit(invite).await;
        invitations.push(invitation);
    }
    let answers = vec![
        WorkspaceCommand::ResendInvitation {
            actor: ada.user,
            invitation: invitations[0],
            token_hash: token_hash(invitations[0]),
            expires_at: fixture.source.now().plus(chrono::TimeDelta::days(7)),
        },
        WorkspaceCommand::DeclineInvitation {
            invitation: invitations[0],
            token_hash: token_hash(invitations[0]),
        },
        WorkspaceCommand::RevokeInvitation {
            actor: ada.user,
            invitation: invitations[1],
        },
    ];
    fixture
        .commit(commands::<Workspace>(team.stream(), answers))
        .await;
    fixture.source.pass(Duration::from_secs(8 * 24 * 3600));
    let invitation = invitations[2];
    let expire = WorkspaceCommand::ExpireInvitation { invitation };
    fixture
        .commit(command::<Workspace>(team.stream(), expire))
        .await;
}

/// Keys of the workspace and of the organization: made, changed, rotated, revoked, expired.
async fn write_keys(fixture: &Fixture, ada: &Person, team: Team) -> KeyId {
    let [first, second, third] = [(); 3].map(|()| KeyId::from_uuid(fixture.source.uuid()));
    let now = fixture.source.now();
    let secret = |key: KeyId| NewSecret {
        hash: base64(&[7; 32]),
        prefix: format!("crew_prod_{}", &key.to_string()[26..]),
    };
    let terms = KeyTerms {
        name: "deploy \u{e9}".to_owned(),
        scopes: [KeyScope::AuditRead].into(),
        allowed_cidrs: vec!["203.0.113.0/24".parse().expect("a range")],
        expires_at: Some(now.plus(chrono::TimeDelta::days(1))),
        ..KeyTerms::default()
    };
    let change = KeyChange {
        scopes: Some([KeyScope::AuditRead, KeyScope::WorkspacesRead].into()),
        ..KeyChange::default()
    };
    let by = ada.user;
    let create = |environment| KeyCommand::Create {
        key: first,
        environment,
        terms: terms.clone(),
        secret: secret(first),
        by,
    };
    let asked = |environment| {
        vec![
            create(environment),
            KeyCommand::Update {
                key: first,
                change: change.clone(),
                by,
            },
            KeyCommand::Rotate {
                key: first,
                successor: second,
                secret: secret(second),
                grace_seconds: 60,
                by,
            },
            KeyCommand::Rotate {
                key: second,
                successor: third,
                secret: secret(third),
                grace_seconds: 0,
                by,
            },
            KeyCommand::Expire { key: second },
            KeyCommand::Revoke { key: third, by },
        ]
    };
    let of_workspace = asked(Some(Environment::Production)).into_iter();
    let of_workspace = of_workspace.map(WorkspaceCommand::ApiKey).collect();
    let unit = commands::<Workspace>(team.stream(), of_workspace);
    fixture.commit(unit).await;
    let of_organization = asked(None)
        .into_iter()
        .map(OrganizationCommand::Key)
        .collect();
    let stream = organization_stream(team.organization);
    let unit = commands::<Organization>(stream, of_organization);
    fixture.commit(unit).await;
    first
}

/// Crews: one that is renamed, described and archived, and one that somebody may not touch.
async fn write_crews(fixture: &Fixture, ada: &Person, team: Team) {
    let crew = CrewPlace {
        id: CrewId::from_uuid(fixture.source.uuid()),
        environment: Environment::Production,
    };
    let stream = StreamRef::of::<Crew>(crew.id, team.workspace);
    let actor = ada.actor();
    let owner = KeyOwner::Workspace(team.workspace);
    let [created, updated, undescribed] = [(); 3].map(|()| fixture.event_id());
    let seal = async |event, field, text| Some(fixture.seal(owner, event, field, text).await);
    let description = seal(created, "description", "calls").await;
    let described = ProfileChange {
        name: Some(name("Acme Corp - Production")),
        client: Some(Some(name("Acme Corp"))),
        description: Some(DescriptionChange {
            previous: seal(updated, "previous", "calls").await,
            description: seal(updated, "description", "what clients call").await,
            profile_sequence: 1,
        }),
    };
    let taken_back = ProfileChange {
        description: Some(DescriptionChange {
            previous: seal(undescribed, "previous", "what clients call").await,
            description: None,
            profile_sequence: 2,
        }),
        ..ProfileChange::default()
    };
    let changes = [(described, updated), (taken_back, undescribed)];
    let uuid = fixture.source.uuid();
    let items = [
        ItemId::Agent(AgentId::from_uuid(uuid)),
        ItemId::Pathway(PathwayId::from_uuid(uuid)),
    ];
    let connection = ConnectionId::PhoneNumber(PhoneNumberId::from_uuid(uuid));
    let channel = ConnectionId::Channel(ChannelId::from_uuid(uuid));
    let endpoint = ConnectionId::WebhookEndpoint(WebhookEndpointId::from_uuid(uuid));
    let integration = ConnectionId::Integration(IntegrationId::from_uuid(uuid));
    let hook = |url| Connection::webhook_endpoint(url, Some(["call.ended".to_owned()].into()));
    let number = |text| Connection::phone_number(text).expect("a number");
    let inbox = Connection::channel("email", "support@example.com").expect("a channel");
    let joined = [
        ConnectionCommand::Add {
            connection,
            to: number("+12025550143"),
        },
        ConnectionCommand::Change {
            connection,
            to: number("+12025550144"),
        },
        ConnectionCommand::Remove { connection },
        ConnectionCommand::Add {
            connection: channel,
            to: inbox,
        },
        ConnectionCommand::Add {
            connection: endpoint,
            to: hook("https://hooks.example.com/a").expect("an endpoint"),
        },
        ConnectionCommand::SetCredential {
            connection: endpoint,
            credential: CredentialId::from_uuid(uuid),
            grace_seconds: 0,
        },
        ConnectionCommand::SetCredential {
            connection: endpoint,
            credential: CredentialId::from_uuid(fixture.source.uuid()),
            grace_seconds: 3_600,
        },
        ConnectionCommand::Add {
            connection: integration,
            to: Connection::integration(name("crm"), "salesforce", name("Acme"))
                .expect("an integration"),
        },
        ConnectionCommand::SetCredential {
            connection: integration,
            credential: CredentialId::from_uuid(fixture.source.uuid()),
            grace_seconds: 0,
        },
        ConnectionCommand::RemoveCredential {
            connection: integration,
        },
    ];
    let content_of = |byte| Content {
        digest: Digest([byte; 32]),
        size: 2,
    };
    let learnt = knowledge_commands(uuid, content_of(1), content_of(2));
    let streams = vec![team.stream(), stream.clone(), team.attempts()];
    let made = unit(team.organization, streams, move |desk| {
        let listed = WorkspaceCommand::ListCrew { actor, crew };
        desk.execute::<Workspace>(&team.stream(), listed, &[])?;
        let create = CrewCommand::Create {
            crew,
            workspace: team.workspace,
            organization: team.organization,
            profile: CrewProfile {
                name: "prod".to_owned(),
                ..CrewProfile::default()
            },
            description: description.clone(),
        };
        desk.execute::<Crew>(&stream, create, &[created])?;
        for (change, event) in changes.clone() {
            desk.execute::<Crew>(&stream, CrewCommand::Update { change }, &[event])?;
        }
        for item in items {
            let (name, content) = (name("Greeter"), content_of(1));
            let created = ItemCommand::Create {
                item,
                name: name.clone(),
                content,
            };
            let content = content_of(2);
            let updated = ItemCommand::Update {
                item,
                name,
                content,
            };
            for command in [created, updated, ItemCommand::Remove { item }] {
                desk.execute::<Crew>(&stream, CrewCommand::Item(command), &[])?;
            }
            desk.stand_on(AuthorityLink::BrokenGlass {});
        }
        for command in joined.clone() {
            desk.execute::<Crew>(&stream, CrewCommand::Connection(command), &[])?;
        }
        for command in learnt.clone() {
            desk.execute::<Crew>(&stream, CrewCommand::Knowledge(command), &[])?;
        }
        let refused = AttemptsCommand::Record {
            organization: team.organization,
            actor,
            action: "crew.archived".to_owned(),
            target: crew.id.to_string(),
            crew: Some(crew.id),
            environment: Some(crew.environment),
            code: "not_permitted".to_owned(),
            minute: desk.now().minute(),
            count: 1,
            repeats: false,
        };
        desk.execute::<Attempts>(&team.attempts(), refused, &[])?;
        let unlisted = WorkspaceCommand::UnlistCrew { actor, crew };
        desk.execute::<Workspace>(&team.stream(), unlisted, &[])?;
        desk.execute::<Crew>(&stream, CrewCommand::Archive, &[])?;
        Ok(done())
    });
    fixture.commit(made).await;
}

/// A knowledge base that is renamed, with one document that is changed and taken out, and one that
/// goes with it.
fn knowledge_commands(uuid: uuid::Uuid, first: Content, second: Content) -> Vec<KnowledgeCommand> {
    let base = KnowledgeBaseId::from_uuid(uuid);
    let document = DocumentId::from_uuid(uuid);
    let title = name("Refunds");
    vec![
        KnowledgeCommand::CreateBase {
            base,
            name: name("FAQ"),
        },
        KnowledgeCommand::RenameBase {
            base,
            name: name("Questions"),
        },
        KnowledgeCommand::CreateDocument {
            base,
            document,
            title: title.clone(),
            content: first,
        },
        KnowledgeCommand::UpdateDocument {
            base,
            document,
            title: title.clone(),
            content: second,
        },
        KnowledgeCommand::RemoveDocument { base, document },
        KnowledgeCommand::CreateDocument {
            base,
            document,
            title,
            content: first,
        },
        KnowledgeCommand::RemoveBase { base },
    ]
}

/// Promotions into a crew, with everything that can become of one.
async fn write_promotions(fixture: &Fixture, ada: &Person, team: Team) {
    let crew = CrewPlace {
        id: CrewId::from_uuid(fixture.source.uuid()),
        environment: Environment::Staging,
    };
    let (user, by) = (ada.user, ada.actor());
    let place = StreamRef::of::<Crew>(crew.id, team.workspace);
    let [first, second, third] = [(); 3].map(|()| PromotionId::from_uuid(fixture.source.uuid()));
    let stream = move |id| StreamRef::of::<Promotion>(id, team.workspace);
    let item = ItemId::Agent(AgentId::from_uuid(fixture.source.uuid()));
    let checked = fixture.event_id();
    let owner = KeyOwner::Workspace(team.workspace);
    let said = r#"{"A call is answered":"in 2 s"}"#;
    let evidence = fixture.seal(owner, checked, "evidence", said).await;
    let (digest, size) = (Digest([9; 32]), 2);
    let content = Content { digest, size };
    let terms = ApprovalTerms {
        approvals_needed: 1,
        self_approval: true,
    };
    let review = move |target_version| Review {
        target_version,
        bundle_digest: digest,
        include: Some(vec!["agent/Greeter".parse().expect("a key")]),
        plan: content,
        added: 1,
        changed: 0,
        removed: 0,
    };
    let now = move |target_version| Circumstances {
        target_version,
        terms,
        entitled: [user].into(),
    };
    let change = ItemChange {
        item,
        from: None,
        to: Some(Item {
            name: "Greeter".to_owned(),
            content,
        }),
    };
    let streams = vec![
        team.stream(),
        place.clone(),
        stream(first),
        stream(second),
        stream(third),
    ];
    let made = unit(team.organization, streams, move |desk| {
        let actor = by;
        let listed = WorkspaceCommand::ListCrew { actor, crew };
        desk.execute::<Workspace>(&team.stream(), listed, &[])?;
        let created = CrewCommand::Create {
            crew,
            workspace: team.workspace,
            organization: team.organization,
            profile: CrewProfile {
                name: "Acme Corp - Staging".to_owned(),
                ..CrewProfile::default()
            },
            description: None,
        };
        desk.execute::<Crew>(&place, created, &[])?;
        let from_crew = PromotionSource::Crew { crew, version: 1 };
        for (id, source) in [
            (first, PromotionSource::Bundle {}),
            (second, from_crew),
            (third, from_crew),
        ] {
            let propose = PromotionCommand::Propose {
                promotion: id,
                workspace: team.workspace,
                organization: team.organization,
                source,
                target: crew,
                review: review(0),
                terms,
                proposed_by: by,
                proposers: vec![user],
            };
            desk.execute::<Promotion>(&stream(id), propose, &[])?;
        }
        let approve = || PromotionCommand::Approve { user, now: now(0) };
        let whys = [
            ScheduleEnd::TargetMoved,
            ScheduleEnd::RightsEnded,
            ScheduleEnd::ApprovalsMissing,
            ScheduleEnd::SlotsMissing,
            ScheduleEnd::TargetGone,
            ScheduleEnd::OrganizationSuspended,
        ];
        let refresh = PromotionCommand::Refresh {
            source: from_crew,
            review: review(0),
            terms,
            refreshed_by: by,
            proposers: vec![user],
        };
        let mut asked = vec![approve(), refresh, approve()];
        for (hour, why) in whys.into_iter().enumerate() {
            let hours = chrono::TimeDelta::hours(1 + hour as i64);
            let at = desk.now().plus(hours);
            let schedule = PromotionCommand::Schedule {
                user,
                at,
                now: now(0),
            };
            asked.extend([schedule, PromotionCommand::EndSchedule { at, why }]);
        }
        asked.push(PromotionCommand::Apply {
            user,
            version: desk.sequence(&place) + 1,
            scheduled: None,
            now: now(0),
        });
        for command in asked {
            desk.execute::<Promotion>(&stream(first), command, &[])?;
        }
        let promote = CrewCommand::Promote {
            promotion: first,
            expected: 0,
            changes: vec![change.clone()],
            needs: vec![],
        };
        desk.execute::<Crew>(&place, promote, &[])?;
        let check = |outcome| {
            let name = "A call is answered".to_owned();
            vec![CheckResult { name, outcome }]
        };
        let failed = PromotionCommand::Check {
            checks: check(CheckOutcome::Failed),
            evidence: Some(evidence.clone()),
            checked_by: by,
        };
        desk.execute::<Promotion>(&stream(first), failed, &[checked])?;
        let passed = PromotionCommand::Check {
            checks: check(CheckOutcome::Passed),
            evidence: None,
            checked_by: by,
        };
        desk.execute::<Promotion>(&stream(first), passed, &[])?;
        let present = desk.read::<Crew>(&place).contents_version();
        let back = PromotionCommand::RollBack {
            user,
            present,
            version: desk.sequence(&place) + 1,
            force: false,
        };
        desk.execute::<Promotion>(&stream(first), back, &[])?;
        let back = CrewCommand::RollBack {
            promotion: first,
            expected: present,
            changes: vec![ItemChange {
                item,
                from: change.to.clone(),
                to: None,
            }],
        };
        desk.execute::<Crew>(&place, back, &[])?;
        let reject = PromotionCommand::Reject { user };
        desk.execute::<Promotion>(&stream(second), reject, &[])?;
        let cancel = PromotionCommand::Cancel {
            actor: by,
            decides: false,
        };
        desk.execute::<Promotion>(&stream(third), cancel, &[])?;
        Ok(done())
    });
    fixture.commit(made).await;
}

/// Access reviews, with everything that can become of access in one.
async fn write_reviews(fixture: &Fixture, ada: &Person, team: Team) {
    let user = ada.user;
    let [first, second, last] = [(); 3].map(|()| ReviewId::from_uuid(fixture.source.uuid()));
    let stream = move |id| StreamRef::of::<AccessReview>(id, team.workspace);
    let items = [(); 4].map(|()| PrincipalId::Key(KeyId::from_uuid(fixture.source.uuid())));
    let member = PrincipalId::User(UserId::from_uuid(fixture.source.uuid()));
    let owner = KeyOwner::Workspace(team.workspace);
    let mut reasons = Vec::new();
    for said in [
        "Still needed",
        "Gone since March",
        "Reads only",
        "Rotated",
        "Unused",
    ] {
        let event = fixture.event_id();
        let reason = fixture.seal(owner, event, "reason", said).await;
        reasons.push((event, reason));
    }
    let now = fixture.source.now();
    let open =
        move |review, due_in_days, recurs_after_days, undecided, previous| ReviewCommand::Open {
            review,
            workspace: team.workspace,
            organization: team.organization,
            terms: ReviewTerms {
                name: "Production, fourth quarter".to_owned(),
                principals: Reviewed::ALL.into(),
                environment: Some(Environment::Production),
                reviewers: [user].into(),
                due_at: now.plus(chrono::TimeDelta::days(due_in_days)),
                undecided,
                recurs_after_days,
            },
            actor: user,
            pinned_at: 1,
            items: 5,
            previous,
        };
    let streams = vec![team.stream(), stream(first), stream(last)];
    let begun = unit(team.organization, streams, move |desk| {
        let opened = open(first, 10, Some(10), Undecided::Keep, None);
        desk.execute::<AccessReview>(&stream(first), opened, &[])?;
        let opened = open(last, 10, Some(10), Undecided::Revoke, None);
        desk.execute::<AccessReview>(&stream(last), opened, &[])?;
        let remind = ReviewCommand::Remind { days_left: 7 };
        desk.execute::<AccessReview>(&stream(first), remind, &[])?;
        let change = Decision::Change { role: Role::Viewer };
        let decided = [
            (
                items[0],
                Decision::Keep,
                vec![Finding::BrokeGlass, Finding::PastRotation],
            ),
            (
                items[1],
                Decision::Revoke,
                vec![Finding::UnusedFor90Days, Finding::CreatorIsGone],
            ),
            (
                member,
                change,
                vec![Finding::RoleAboveUse(Role::Viewer), Finding::LastOwner],
            ),
            (items[2], Decision::Revoke, vec![Finding::NeverUsed]),
            (items[3], Decision::Revoke, vec![]),
        ];
        for ((item, decision, findings), (event, reason)) in decided.into_iter().zip(&reasons) {
            let decide = ReviewCommand::Decide(DecideAccess {
                actor: user,
                item,
                kind: match item {
                    PrincipalId::User(_) => Reviewed::Members,
                    PrincipalId::Key(_) => Reviewed::ApiKeys,
                },
                decision,
                seen_at: 1,
                present: Some(1),
                subjects: BTreeSet::new(),
                reason: reason.clone(),
                findings,
                last_used_at: Some(now),
            });
            desk.execute::<AccessReview>(&stream(first), decide, &[*event])?;
        }
        let begin = ReviewCommand::BeginClosing { actor: Some(user) };
        desk.execute::<AccessReview>(&stream(first), begin.clone(), &[])?;
        desk.stand_only_on([AuthorityLink::AccessReview {
            id: first,
            position: 1,
        }]);
        let code = "role_above_own".to_owned();
        for (item, outcome) in [
            (items[1], Settlement::Applied),
            (member, Settlement::Refused { code }),
            (items[2], Settlement::Gone),
            (items[3], Settlement::Changed),
        ] {
            let settle = ReviewCommand::Settle {
                item,
                decision: Decision::Revoke,
                applied_by: Some(user).filter(|_| outcome == Settlement::Applied),
                outcome,
            };
            desk.execute::<AccessReview>(&stream(first), settle, &[])?;
        }
        // What changed comes back; then it is over.
        for command in [
            ReviewCommand::FinishClosing,
            begin.clone(),
            ReviewCommand::FinishClosing,
        ] {
            desk.execute::<AccessReview>(&stream(first), command, &[])?;
        }
        for command in [
            begin,
            ReviewCommand::FinishClosing,
            ReviewCommand::StopRecurring { actor: user },
        ] {
            desk.execute::<AccessReview>(&stream(last), command, &[])?;
        }
        Ok(done())
    });
    fixture.commit(begun).await;
    fixture.source.pass(Duration::from_secs(11 * 24 * 3600));
    let recurred = unit(
        team.organization,
        vec![stream(first), stream(second)],
        move |desk| {
            let next = Ok(second);
            desk.execute::<AccessReview>(&stream(first), ReviewCommand::Recur { next }, &[])?;
            let opened = open(second, 21, None, Undecided::Keep, Some(first));
            desk.execute::<AccessReview>(&stream(second), opened, &[])?;
            Ok(done())
        },
    );
    fixture.commit(recurred).await;
}

/// More sessions than one person may have, one that is signed out of, and wrong passwords.
async fn write_sessions(fixture: &Fixture, bob: &Person) {
    let expires_at = fixture.source.now().plus(chrono::TimeDelta::days(30));
    let mut asked = Vec::new();
    let mut newest = bob.session;
    for _ in 0..crewlog::domain::user::LIVE_SESSIONS_MAX {
        newest = SessionId::from_uuid(fixture.source.uuid());
        asked.push(UserCommand::StartSession {
            session: newest,
            expires_at,
        });
    }
    asked.push(UserCommand::RevokeSession { session: newest });
    asked.push(UserCommand::RecordSignInFailed {
        minute: 29_460_300,
        count: 3,
    });
    fixture.commit(commands::<User>(bob.stream(), asked)).await;
}

/// Another password, which ends the other sessions.
async fn write_password(fixture: &Fixture, cyd: &Person) {
    let expires_at = fixture.source.now().plus(chrono::TimeDelta::days(30));
    let session = SessionId::from_uuid(fixture.source.uuid());
    let asked = vec![
        UserCommand::StartSession {
            session,
            expires_at,
        },
        UserCommand::ChangePassword { session },
    ];
    fixture.commit(commands::<User>(cyd.stream(), asked)).await;
}

/// The names of an enum's variants: what its own reader says that it knows.
fn variants_of<T: DeserializeOwned>(probe: Json) -> BTreeSet<String> {
    let error = match serde_json::from_value::<T>(probe) {
        Ok(_) => panic!("a variant has the name of the probe"),
        Err(error) => error.to_string(),
    };
    let (_, known) = error.split_once(", expected").expect("a list of variants");
    let variants: BTreeSet<_> = known
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert!(!variants.is_empty(), "{error}");
    variants
}

fn external(probe: &str) -> Json {
    json!({probe: {}})
}

/// The version in which this program writes what it has read.
fn version_of(event: &Event) -> String {
    match event {
        Event::User(event) => event.event_version(),
        Event::Organization(event) => event.event_version(),
        Event::Workspace(event) => event.event_version(),
        Event::Crew(event) => event.event_version(),
        Event::Promotion(event) => event.event_version(),
        Event::Review(event) => event.event_version(),
        Event::Attempts(event) => event.event_version(),
        Event::Installation(event) => event.event_version(),
    }
}

/// That every event that this program can write is in one of the logs, in its present version.
fn assert_whole(logs: &[Vec<StoredEvent>]) {
    let mut present = BTreeSet::new();
    for event in logs.iter().flatten() {
        let read = event.decode().expect("an event that this program reads");
        if version_of(&read.event) == event.event_version {
            present.insert(event.event_type.clone());
        }
    }
    for variants in [
        variants_of::<UserEvent>(external("?")),
        variants_of::<OrganizationEvent>(external("?")),
        variants_of::<WorkspaceEvent>(external("?")),
        variants_of::<CrewEvent>(external("?")),
        variants_of::<PromotionEvent>(external("?")),
        variants_of::<ReviewEvent>(external("?")),
        variants_of::<AttemptsEvent>(external("?")),
        variants_of::<InstallationEvent>(external("?")),
    ] {
        let missing: Vec<_> = variants.difference(&present).collect();
        assert!(missing.is_empty(), "no golden log has {missing:?}");
    }
    let words: BTreeSet<_> = logs
        .iter()
        .flatten()
        .flat_map(|event| [&event.payload, &event.metadata])
        .flat_map(|text| text.split('"'))
        .collect();
    for variants in [
        variants_of::<SessionEnd>(json!("?")),
        variants_of::<MembershipSource>(json!("?")),
        variants_of::<Actor>(json!({"type": "?"})),
        variants_of::<AuthorityLink>(json!({"type": "?"})),
        variants_of::<Role>(json!("?")),
        variants_of::<OrganizationRole>(json!("?")),
        variants_of::<ProductionChanges>(json!("?")),
        variants_of::<ScheduleEnd>(json!("?")),
        variants_of::<CheckOutcome>(json!("?")),
        variants_of::<PromotionSource>(external("?")),
        variants_of::<Decision>(json!("?")),
        variants_of::<Finding>(json!("?")),
        variants_of::<Reviewed>(json!("?")),
        variants_of::<Settlement>(json!("?")),
        variants_of::<Undecided>(json!("?")),
    ] {
        let missing = variants
            .iter()
            .find(|variant| !words.contains(variant.as_str()));
        assert_eq!(missing, None, "no golden log has it");
    }
}

async fn has_every_event(_directory: TempDir) {
    let logs: Vec<_> = histories()
        .into_iter()
        .map(|history| history.events)
        .collect();
    assert_whole(&logs);
}

/// Puts a golden log into an empty store, row by row.
async fn load(store: &dyn Store, history: &History) {
    let json = |number| match store.kind() {
        StoreKind::Sqlite => format!("${number}"),
        StoreKind::Postgres => format!("CAST(${number} AS JSON)"),
    };
    let insert = format!(
        "INSERT INTO events (position, id, recorded_at, batch, aggregate_type, aggregate_id,
                sequence, scope, scope_sequence, previous, event_type, event_version, payload,
                metadata, salt, leaf)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, {}, {}, $15, $16)",
        json(13),
        json(14)
    );
    let mut statements = Vec::new();
    for event in &history.events {
        let parameters: [Value; 16] = [
            event.position.into(),
            event.id.to_string().into(),
            event.recorded_at.0.into(),
            event.batch.to_string().into(),
            event.aggregate_type.clone().into(),
            event.aggregate_id.clone().into(),
            event.sequence.into(),
            event.scope.clone().into(),
            event.scope_sequence.into(),
            Value::Bytes(event.previous.map(Vec::from)),
            event.event_type.clone().into(),
            event.event_version.clone().into(),
            event.payload.clone().into(),
            event.metadata.clone().into(),
            event.salt.as_slice().into(),
            event.leaf.as_slice().into(),
        ];
        statements.push(Statement::new(insert.clone(), parameters));
    }
    for key in history.about["subject_keys"].as_array().expect("the keys") {
        let sql = "INSERT INTO subject_keys (owner, key_version, wrapped) VALUES ($1, $2, $3)";
        let parameters: [Value; 3] = [
            text(&key["owner"]).into(),
            key["key_version"].as_i64().expect("a version").into(),
            bytes(&key["wrapped"]).into(),
        ];
        statements.push(Statement::new(sql, parameters));
    }
    let last = history.events.last().expect("entries");
    let parameters: [Value; 3] = [
        last.position.into(),
        last.recorded_at.0.into(),
        root(&history.events).to_bytes().into(),
    ];
    let sql = "UPDATE log_head SET position = $1, recorded_at = $2, frontier = $3";
    statements.push(Statement::new(sql, parameters));
    store.execute(statements).await.expect("the rows to be put");
}

async fn loads_and_verifies(under_test: StoreUnderTest) {
    let mut histories = histories();
    let newest = histories.pop().expect("a golden log");
    // Older releases each get a store of their own; the newest has the one under test.
    for older in &histories {
        let folder = crate::support::scratch::directory("history");
        let store = SqliteStore::open(folder.path()).await;
        loads(Arc::new(store.expect("the store to open")), older).await;
    }
    loads(open_store(&under_test).await, &newest).await;
}

async fn loads(store: Arc<dyn Store>, history: &History) {
    load(&*store, history).await;
    let events = ledger::verify(&*store).await;
    assert_eq!(events, history.events, "{} comes back", history.file);
    let about = &history.about;
    assert_eq!(about["entries"], events.len());
    let head = stores::head(&*store).await.expect("the head");
    assert_eq!(
        head.frontier.root(),
        hash(&about["root"]),
        "{}",
        history.file
    );

    let source = Arc::new(TestSource::new(5));
    let key = RootKey::from_text(text(&about["root_key_test_only"])).expect("a root key");
    let keys = Keyring::open(store.clone(), source, &key, true).await;
    let keys = keys.expect("the keys to open");
    let expected: BTreeMap<String, String> =
        serde_json::from_value(about["opened"].clone()).expect("what the fields say");
    assert!(expected.len() > 20, "{} fields are sealed", expected.len());
    assert_eq!(opened(&keys, &events).await, expected, "{}", history.file);

    // The projections are made from nothing but this log, and a journal goes on from it.
    let fixture = Fixture::on(store, 6, JournalSettings::default()).await;
    crate::projections::assert_documents_are_the_log(&fixture).await;
    let streams: BTreeSet<_> = events
        .iter()
        .map(|event| {
            let (kind, id) = (&event.aggregate_type, &event.aggregate_id);
            (kind.as_str(), id.as_str(), event.scope.as_str())
        })
        .collect();
    for (kind, id, scope) in streams {
        match kind {
            "user" => same::<User>(&fixture, id, scope).await,
            "organization" => same::<Organization>(&fixture, id, scope).await,
            "workspace" => same::<Workspace>(&fixture, id, scope).await,
            "crew" => same::<Crew>(&fixture, id, scope).await,
            "promotion" => same::<Promotion>(&fixture, id, scope).await,
            "review" => same::<AccessReview>(&fixture, id, scope).await,
            "attempts" => same::<Attempts>(&fixture, id, scope).await,
            "installation" => same::<Installation>(&fixture, id, scope).await,
            other => panic!("an aggregate of the type {other}"),
        }
    }
    let owner = fixture.sign_up("somebody.new").await;
    fixture.workspace(&owner, "after it").await;
    assert!(ledger::verify(&*fixture.store).await.len() > events.len());
    crate::projections::assert_documents_are_the_log(&fixture).await;
}

async fn same<A>(fixture: &Fixture, id: &str, scope: &str)
where
    A: crewlog::domain::Stream + Clone + PartialEq + std::fmt::Debug,
{
    let stream = StreamRef::of::<A>(id, scope);
    fixture.assert_memory_is_the_log::<A>(&stream).await;
}
