//! The contract of the journal, on both stores: order, all or nothing, uniqueness, memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use crewlog::domain::authority::Role;
use crewlog::domain::claims::{Claimant, Sharing};
use crewlog::domain::crew::CrewPlace;
use crewlog::domain::environment::Environment;
use crewlog::domain::event::Event;
use crewlog::domain::ids::{CrewId, UserId, WorkspaceId};
use crewlog::domain::user::User;
use crewlog::domain::workspace::{Workspace, WorkspaceCommand, WorkspaceEvent};
use crewlog::domain::{Refusal, Timestamp};
use crewlog::journal::stores::{self, DocumentChanges, Statement, Store};
use crewlog::journal::{
    ClaimKey, Desk, Fold, FoldError, Folded, INSTALLATION, Idempotency, JournalSettings, LookupKey,
    Recorded, Source, StoredEvent, SubmitError, Unit,
};
use crewlog::projections::Engine;

use crate::support::journal::{
    Fixture, Person, Team, command, commands, done, name, open_store, rename, unit,
};
use crate::support::ledger;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both, on};

pub fn trials() -> Vec<Case> {
    vec![
        both("journal", "concurrent_appends_have_one_order", one_order),
        both("journal", "a_tail_skips_and_repeats_nothing", a_tail),
        both("journal", "a_refused_unit_leaves_nothing", refused_unit),
        both("journal", "a_defect_in_a_unit_is_its_own", defective_unit),
        both(
            "journal",
            "a_defect_in_the_writer_is_told",
            defective_writer,
        ),
        both("journal", "units_are_all_or_nothing", all_or_nothing),
        both(
            "journal",
            "a_fold_that_fails_refuses_its_unit",
            failing_fold,
        ),
        both("journal", "a_key_is_used_once_in_a_batch", key_in_a_batch),
        both("journal", "a_key_is_used_once_for_ever", key_for_ever),
        both("journal", "one_claim_wins", one_claim_wins),
        both("journal", "one_address_wins", one_address_wins),
        both("journal", "a_full_queue_says_so", full_queue),
        both("journal", "a_unit_has_a_largest_size", largest_size),
        both("journal", "stopping_writes_what_was_accepted", stopping),
        both("journal", "a_tiny_cache_changes_nothing", tiny_cache),
        both(
            "journal",
            "time_goes_on_when_a_clock_does_not",
            clock_goes_back,
        ),
        both("journal", "events_are_never_changed", never_changed),
        on(
            &[StoreKind::Postgres],
            "journal",
            "two_writers_share_one_log",
            two_writers,
        ),
        on(
            &[StoreKind::Postgres],
            "journal",
            "authority_is_asked_of_the_whole_log",
            authority_of_the_whole_log,
        ),
    ]
}

/// An owner with a session, and a workspace of theirs.
async fn owner_and_team(fixture: &Fixture, label: &str) -> (Person, Team) {
    let owner = fixture.sign_up(label).await;
    let team = fixture.workspace(&owner, label).await;
    (owner, team)
}

fn renamed_to(event: &StoredEvent) -> Option<String> {
    match event.decode().expect("an event of ours").event {
        Event::Workspace(WorkspaceEvent::WorkspaceRenamed { to, .. }) => Some(to),
        _ => None,
    }
}

fn names(events: &[StoredEvent]) -> Vec<String> {
    events.iter().filter_map(renamed_to).collect()
}

fn refused(refusal: Refusal) -> SubmitError {
    SubmitError::Refused(refusal)
}

fn no_member() -> SubmitError {
    refused(Refusal::NotFound {
        what: "member",
        hidden: false,
    })
}

fn remove(owner: &Person, user: UserId) -> WorkspaceCommand {
    WorkspaceCommand::Remove {
        actor: owner.user,
        user,
    }
}

fn rename_command(owner: &Person, text: &str) -> WorkspaceCommand {
    WorkspaceCommand::Rename {
        actor: owner.user,
        name: name(text),
    }
}

/// 32 tasks on one journal: each renames a workspace that all share, and one that it made.
/// Answers with the name given by every unit and the position that it was told.
async fn thirty_two_writers(fixture: &Arc<Fixture>, units_each: usize) -> Vec<(String, u64)> {
    let (owner, shared) = owner_and_team(fixture, "owner").await;
    let mut tasks = Vec::new();
    for number in 0..32 {
        let (fixture, owner) = (fixture.clone(), owner.clone());
        tasks.push(tokio::spawn(async move {
            let own = fixture
                .workspace_in(shared.organization, &owner, &format!("own {number}"))
                .await;
            let mut told = Vec::new();
            for round in 0..units_each {
                for (which, team) in [("shared", shared), ("own", own)] {
                    let text = format!("{which} {number} {round}");
                    let committed = fixture.commit(rename(team, &owner, &text)).await;
                    told.push((text, committed.position));
                }
            }
            told
        }));
    }
    let mut told = Vec::new();
    for task in tasks {
        told.extend(task.await.expect("no panic"));
    }
    told
}

fn assert_told_is_true(events: &[StoredEvent], told: &[(String, u64)]) {
    for (text, position) in told {
        let index = usize::try_from(*position - 1).expect("a position");
        assert_eq!(renamed_to(&events[index]).as_ref(), Some(text));
    }
    let once: BTreeSet<_> = told.iter().map(|(_, position)| position).collect();
    assert_eq!(once.len(), told.len(), "no position is told twice");
    assert_eq!(names(events).len(), told.len(), "nothing else was written");
}

async fn one_order(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    let told = thirty_two_writers(&fixture, 6).await;
    let events = ledger::verify(&*fixture.store).await;
    assert_told_is_true(&events, &told);
    let batches: BTreeSet<_> = events.iter().map(|event| event.batch).collect();
    assert!(batches.len() < events.len() / 2, "units share batches");
}

async fn a_tail(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    let mut tail = fixture.journal.tail(0);
    let last = 2 + 2 + 32 * 3 + 32 * 4 * 2 + 3;
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while (seen.len() as u64) < last {
            seen.extend(tail.next().await.expect("the tail to go on"));
            assert_eq!(tail.position(), seen.len() as u64, "each once");
        }
        seen
    });
    thirty_two_writers(&fixture, 4).await;
    let seen = tokio::time::timeout(Duration::from_secs(20), reader);
    let seen = seen.await.expect("the tail to arrive").expect("no panic");
    assert_eq!(seen, ledger::verify(&*fixture.store).await);
}

async fn refused_unit(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    let other = fixture
        .workspace_in(team.organization, &owner, "other")
        .await;
    let stranger = UserId::from_uuid(fixture.source.uuid());
    let before = fixture.journal.head().borrow().to_owned();
    let claim = claimed_number("+49 30 1");

    // Changes both workspaces and takes a claim, and only then is refused.
    let bad = {
        let (owner, claim) = (owner.clone(), claim.clone());
        let mut bad = unit(
            team.organization,
            vec![team.stream(), other.stream()],
            move |desk| {
                claim_alone(desk, &claim, "bad")?;
                let of_team = rename_command(&owner, "bad");
                desk.execute::<Workspace>(&team.stream(), of_team.clone(), &[])?;
                desk.execute::<Workspace>(&other.stream(), of_team, &[])?;
                let refused = remove(&owner, stranger);
                desk.execute::<Workspace>(&other.stream(), refused, &[])?;
                Ok(done())
            },
        );
        bad.lookups
            .push(LookupKey::Claim(claimed_number("+49 30 1")));
        bad
    };
    let good_claim = {
        let (owner, claim) = (owner.clone(), claim.clone());
        let mut good = unit(team.organization, vec![other.stream()], move |desk| {
            claim_alone(desk, &claim, "good")?;
            let command = rename_command(&owner, "claimed");
            desk.execute::<Workspace>(&other.stream(), command, &[])?;
            Ok(done())
        });
        good.lookups
            .push(LookupKey::Claim(claimed_number("+49 30 1")));
        good
    };
    let answers = fixture
        .in_one_batch(vec![
            rename(team, &owner, "one"),
            bad,
            rename(team, &owner, "two"),
            good_claim,
            command::<Workspace>(team.stream(), remove(&owner, stranger)),
            rename(other, &owner, "three"),
        ])
        .await;

    let positions: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().map(|committed| committed.position - before))
        .collect();
    assert_eq!(
        positions,
        [
            Ok(1),
            Err(&no_member()),
            Ok(2),
            Ok(3),
            Err(&no_member()),
            Ok(4)
        ]
    );
    let events = ledger::verify(&*fixture.store).await;
    assert_eq!(names(&events), ["one", "two", "claimed", "three"]);
    let batches: BTreeSet<_> = events.iter().rev().take(4).map(|e| e.batch).collect();
    assert_eq!(batches.len(), 1, "they shared a batch");
    assert_eq!(claim_holders(&fixture).await, ["good"]);
    for team in [team, other] {
        fixture
            .assert_memory_is_the_log::<Workspace>(&team.stream())
            .await;
    }
}

fn claimed_number(value: &str) -> ClaimKey {
    ClaimKey {
        scope: INSTALLATION.to_owned(),
        kind: "number",
        value: value.to_owned(),
    }
}

/// Takes a claim that only one may hold, for something of a crew and a workspace.
fn claim_alone(desk: &mut Desk<'_>, key: &ClaimKey, holder: &str) -> Result<(), Refusal> {
    let crew = CrewPlace {
        id: CrewId::from_uuid(uuid::Uuid::from_u128(1)),
        environment: Environment::Staging,
    };
    let claimant = Claimant {
        holder: holder.to_owned(),
        crew,
        workspace: WorkspaceId::from_uuid(uuid::Uuid::from_u128(1)),
    };
    let (present, now) = (desk.claims(key), desk.now());
    Sharing::OneOwner.allows("number", present, &claimant, now, &|_| false)?;
    desk.claim(key, claimant);
    Ok(())
}

async fn claim_holders(fixture: &Fixture) -> Vec<String> {
    let sql = "SELECT holder FROM claims ORDER BY holder";
    let rows = fixture.store.query(sql, vec![]).await.expect("claims");
    rows.iter()
        .map(|row| row.text(0).expect("a holder").to_owned())
        .collect()
}

async fn defective_unit(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    let panics = {
        let owner = owner.clone();
        unit(team.organization, vec![team.stream()], move |desk| {
            let command = rename_command(&owner, "bad");
            desk.execute::<Workspace>(&team.stream(), command, &[])?;
            panic!("a defect, which this test is about");
        })
    };
    let answers = fixture
        .in_one_batch(vec![
            rename(team, &owner, "one"),
            panics,
            rename(team, &owner, "two"),
        ])
        .await;
    assert!(answers[0].is_ok(), "{answers:?}");
    assert!(
        matches!(answers[1], Err(SubmitError::Fault(_))),
        "{answers:?}"
    );
    assert!(answers[2].is_ok(), "{answers:?}");
    fixture.commit(rename(team, &owner, "three")).await;
    let events = ledger::verify(&*fixture.store).await;
    assert_eq!(names(&events), ["one", "two", "three"]);
    fixture
        .assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
}

async fn all_or_nothing(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    let (owner, first) = owner_and_team(&fixture, "owner").await;
    let second = fixture
        .workspace_in(first.organization, &owner, "second")
        .await;
    let stranger = UserId::from_uuid(fixture.source.uuid());
    let mut tasks = Vec::new();
    for number in 0..24 {
        let owner = owner.clone();
        let pair = unit(
            first.organization,
            vec![first.stream(), second.stream()],
            move |desk| {
                let command = rename_command(&owner, &format!("pair {number}"));
                desk.execute::<Workspace>(&first.stream(), command.clone(), &[])?;
                desk.execute::<Workspace>(&second.stream(), command, &[])?;
                if number % 3 == 0 {
                    let refused = remove(&owner, stranger);
                    desk.execute::<Workspace>(&second.stream(), refused, &[])?;
                }
                Ok(done())
            },
        );
        let fixture = fixture.clone();
        tasks.push(tokio::spawn(
            async move { (number, fixture.submit(pair).await) },
        ));
    }
    for task in tasks {
        let (number, answer) = task.await.expect("no panic");
        assert_eq!(answer.is_ok(), number % 3 != 0, "{number}: {answer:?}");
    }
    let events = ledger::verify(&*fixture.store).await;
    let written = names(&events);
    assert_eq!(written.len(), 2 * 16, "two events of each accepted unit");
    for pair in written.chunks(2) {
        assert_eq!(pair[0], pair[1], "both events of a unit stand together");
    }
    let of_pairs = events.iter().filter(|event| renamed_to(event).is_some());
    for pair in of_pairs.collect::<Vec<_>>().chunks(2) {
        let [first, second] = [0, 1].map(|number| pair[number].decode().expect("ours"));
        assert_eq!(second.metadata.correlation, Some(first.id));
        assert_eq!(pair[0].batch, pair[1].batch);
    }
}

/// The real projections, and one more that cannot fold a certain name.
#[derive(Debug)]
struct Poisoned(Arc<Engine>);

#[async_trait]
impl Fold for Poisoned {
    async fn fold(
        &self,
        store: &dyn Store,
        before: Option<&Folded>,
        folded: &mut Folded,
        events: &[Recorded],
    ) -> Result<(), FoldError> {
        for event in events {
            let Event::Workspace(WorkspaceEvent::WorkspaceRenamed { to, .. }) = &event.event else {
                continue;
            };
            assert_ne!(to, "defect", "a defect, which a test is about");
            if to == "poison" {
                return Err(FoldError {
                    position: Some(event.position),
                    detail: "poison cannot be folded".to_owned(),
                });
            }
        }
        self.0.fold(store, before, folded, events).await
    }

    fn changes(&self, folded: &Folded) -> Result<Vec<DocumentChanges>, FoldError> {
        self.0.changes(folded)
    }

    fn committed(&self, folded: Folded) {
        self.0.committed(folded);
    }

    async fn forget(&self, store: &dyn Store) {
        self.0.forget(store).await;
    }

    fn noticed(&self, event: &StoredEvent) {
        self.0.noticed(event);
    }

    fn stream_type(&self, name: &str) -> Option<&'static str> {
        self.0.stream_type(name)
    }
}

async fn failing_fold(store: StoreUnderTest) {
    let settings = JournalSettings::default();
    let poisoned = |engine| Arc::new(Poisoned(engine)) as Arc<dyn Fold>;
    let fixture = Fixture::folding(open_store(&store).await, 1, settings, poisoned).await;
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    let other = fixture
        .workspace_in(team.organization, &owner, "other")
        .await;
    let answers = fixture
        .in_one_batch(vec![
            rename(team, &owner, "one"),
            rename(other, &owner, "poison"),
            rename(team, &owner, "two"),
            rename(team, &owner, "poison"),
            rename(other, &owner, "three"),
        ])
        .await;
    let accepted: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, true, false, true], "{answers:?}");
    assert!(
        matches!(answers[1], Err(SubmitError::Fault(_))),
        "{answers:?}"
    );
    let events = ledger::verify(&*fixture.store).await;
    assert_eq!(names(&events), ["one", "two", "three"]);
    for team in [team, other] {
        fixture
            .assert_memory_is_the_log::<Workspace>(&team.stream())
            .await;
    }
}

async fn defective_writer(store: StoreUnderTest) {
    let settings = JournalSettings::default();
    let poisoned = |engine| Arc::new(Poisoned(engine)) as Arc<dyn Fold>;
    let fixture = Fixture::folding(open_store(&store).await, 1, settings, poisoned).await;
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    let before = ledger::verify(&*fixture.store).await;
    let units = vec![
        rename(team, &owner, "one"),
        rename(team, &owner, "defect"),
        rename(team, &owner, "two"),
    ];
    for answer in fixture.in_one_batch(units).await {
        assert!(
            matches!(answer, Err(SubmitError::Unavailable(_))),
            "nobody waits for ever: {answer:?}"
        );
    }
    while fixture.journal.status().problem().is_none() {
        tokio::task::yield_now().await;
    }
    let late = fixture.submit(rename(team, &owner, "late")).await;
    assert!(late.is_err(), "nothing is let in: {late:?}");
    assert_eq!(ledger::verify(&*fixture.store).await, before);
}

fn keyed(mut unit: Unit, key: &str) -> Unit {
    unit.idempotency = Some(Idempotency {
        principal: "principal".to_owned(),
        key: key.to_owned(),
        request_hmac: [7; 32],
    });
    unit
}

async fn remembered_keys(fixture: &Fixture) -> Vec<(String, u64)> {
    let sql = "SELECT key, position FROM idempotency ORDER BY key";
    let rows = fixture.store.query(sql, vec![]).await.expect("keys");
    rows.iter()
        .map(|row| {
            let key = row.text(0).expect("a key").to_owned();
            (key, row.count(1).expect("a position"))
        })
        .collect()
}

async fn key_in_a_batch(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    let stranger = UserId::from_uuid(fixture.source.uuid());
    let refused = || command::<Workspace>(team.stream(), remove(&owner, stranger));
    let same_lane = |mut unit: Unit| {
        unit.lane = "lane".to_owned();
        unit
    };
    let units = vec![
        keyed(rename(team, &owner, "one"), "a"),
        keyed(rename(team, &owner, "again"), "a"),
        rename(team, &owner, "bystander"),
        // What was refused has used no key: the next with it is decided.
        keyed(refused(), "b"),
        keyed(rename(team, &owner, "two"), "b"),
    ];
    let answers = fixture
        .in_one_batch(units.into_iter().map(same_lane).collect())
        .await;
    assert!(answers[0].is_ok(), "{answers:?}");
    assert_eq!(answers[1], Err(SubmitError::Duplicate));
    assert!(answers[2].is_ok(), "{answers:?}");
    assert_eq!(answers[3], Err(no_member()));
    assert!(answers[4].is_ok(), "{answers:?}");
    let events = ledger::verify(&*fixture.store).await;
    assert_eq!(names(&events), ["one", "bystander", "two"]);
    let position = |answer: &Result<_, _>| match answer {
        Ok(crewlog::journal::Committed { position, .. }) => *position,
        Err(_) => 0,
    };
    assert_eq!(
        remembered_keys(&fixture).await,
        [
            ("a".to_owned(), position(&answers[0])),
            ("b".to_owned(), position(&answers[4]))
        ]
    );
}

async fn key_for_ever(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    fixture
        .commit(keyed(rename(team, &owner, "one"), "a"))
        .await;
    let answers = fixture
        .in_one_batch(vec![
            rename(team, &owner, "bystander"),
            keyed(rename(team, &owner, "again"), "a"),
            rename(team, &owner, "another bystander"),
        ])
        .await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert_eq!(answers[1], Err(SubmitError::Duplicate));

    // Also where the repeated request, decided anew, would change nothing or be refused.
    let unchanged = keyed(rename(team, &owner, "another bystander"), "a");
    assert_eq!(fixture.submit(unchanged).await, Err(SubmitError::Duplicate));
    let stranger = UserId::from_uuid(fixture.source.uuid());
    let refused = command::<Workspace>(team.stream(), remove(&owner, stranger));
    assert_eq!(
        fixture.submit(keyed(refused, "a")).await,
        Err(SubmitError::Duplicate)
    );

    let events = ledger::verify(&*fixture.store).await;
    assert_eq!(names(&events), ["one", "bystander", "another bystander"]);
    fixture
        .assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
}

async fn one_claim_wins(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    let mut tasks = Vec::new();
    for number in 0..32 {
        let (owner, fixture) = (owner.clone(), fixture.clone());
        let holder = format!("holder {number:02}");
        let mut claiming = {
            let holder = holder.clone();
            unit(format!("lane {number}"), vec![team.stream()], move |desk| {
                claim_alone(desk, &claimed_number("+49 30 2"), &holder)?;
                let command = rename_command(&owner, &holder);
                desk.execute::<Workspace>(&team.stream(), command, &[])?;
                Ok(done())
            })
        };
        claiming
            .lookups
            .push(LookupKey::Claim(claimed_number("+49 30 2")));
        tasks.push(tokio::spawn(async move {
            (holder, fixture.submit(claiming).await)
        }));
    }
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.expect("no panic") {
            (holder, Ok(_)) => winners.push(holder),
            (_, Err(error)) => {
                let taken = Refusal::AlreadyClaimed {
                    what: "number",
                    owner: None,
                };
                assert_eq!(error, refused(taken));
            }
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(claim_holders(&fixture).await, winners);
    let events = ledger::verify(&*fixture.store).await;
    assert_eq!(names(&events), winners);
}

async fn one_address_wins(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    let mut tasks = Vec::new();
    for _ in 0..32 {
        let (person, unit) = fixture.sign_up_unit("ada");
        let fixture = fixture.clone();
        tasks.push(tokio::spawn(
            async move { (person, fixture.submit(unit).await) },
        ));
    }
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.expect("no panic") {
            (person, Ok(_)) => winners.push(person),
            (_, Err(error)) => assert_eq!(error, refused(Refusal::EmailTaken)),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(ledger::verify(&*fixture.store).await.len(), 2);
    for table in ["subjects", "subject_keys"] {
        let sql = format!("SELECT count(*) FROM {table}");
        let rows = fixture.store.query(&sql, vec![]).await.expect("a count");
        assert_eq!(rows[0].integer(0).expect("a number"), 1, "{table}");
    }
    fixture
        .assert_memory_is_the_log::<User>(&winners[0].stream())
        .await;
}

async fn full_queue(store: StoreUnderTest) {
    let settings = JournalSettings {
        queue_capacity: 8,
        ..JournalSettings::default()
    };
    let fixture = Fixture::on(open_store(&store).await, 1, settings).await;
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    let release = fixture.hold().await;
    let in_lane = |lane: usize| {
        let mut unit = rename(team, &owner, &format!("in {lane}"));
        unit.lane = format!("lane {lane}");
        unit
    };
    let mut waiting = Vec::new();
    for lane in [0, 0, 1, 1, 2, 2, 3] {
        let (journal, unit) = (fixture.journal.clone(), in_lane(lane));
        waiting.push(tokio::spawn(async move { journal.submit(unit).await }));
        while fixture.journal.queue_length() < waiting.len() {
            tokio::task::yield_now().await;
        }
    }
    // A lane has a quarter of the room; the others still come in.
    assert_eq!(fixture.submit(in_lane(0)).await, Err(SubmitError::Full));
    let (journal, unit) = (fixture.journal.clone(), in_lane(4));
    waiting.push(tokio::spawn(async move { journal.submit(unit).await }));
    while fixture.journal.queue_length() < waiting.len() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.submit(in_lane(5)).await, Err(SubmitError::Full));
    drop(release);
    for waited in waiting {
        let answer = waited.await.expect("no panic");
        assert!(answer.is_ok(), "what was let in is written: {answer:?}");
    }
    ledger::verify(&*fixture.store).await;
}

async fn largest_size(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    let before = fixture.journal.head().borrow().to_owned();
    let many = |count: usize| {
        let renames = (0..count).map(|number| rename_command(&owner, &format!("{number}")));
        commands::<Workspace>(team.stream(), renames.collect())
    };
    assert_eq!(
        fixture.submit(many(1_001)).await,
        Err(SubmitError::TooLarge)
    );
    let mut wordy = many(20);
    let (key, _) = fixture.new_key(crewlog::domain::sealed::KeyOwner::Workspace(team.workspace));
    wordy.origin.reason = Some((key, "why ".repeat(20_000)));
    assert_eq!(fixture.submit(wordy).await, Err(SubmitError::TooLarge));
    let head = fixture.journal.head().borrow().to_owned();
    assert_eq!(head, before, "nothing was written");
    fixture
        .assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;

    let committed = fixture.commit(many(1_000)).await;
    assert_eq!(committed.position, before + 1_000, "the last position");
    ledger::verify(&*fixture.store).await;
}

async fn stopping(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    let release = fixture.hold().await;
    let mut waiting = Vec::new();
    for number in 0..5 {
        let unit = rename(team, &owner, &format!("late {number}"));
        let journal = fixture.journal.clone();
        waiting.push(tokio::spawn(async move { journal.submit(unit).await }));
        while fixture.journal.queue_length() < waiting.len() {
            tokio::task::yield_now().await;
        }
    }
    let late = async {
        // The other future has closed the queue by now, and waits for what is in it.
        let late = fixture.submit(rename(team, &owner, "too late")).await;
        drop(release);
        late
    };
    let (all, late) = futures::join!(fixture.journal.stop(Duration::from_secs(10)), late);
    assert!(all, "all was written");
    assert_eq!(late, Err(SubmitError::Full));
    for waited in waiting {
        let answer = waited.await.expect("no panic");
        assert!(answer.is_ok(), "what was accepted is written: {answer:?}");
    }
    let events = ledger::verify(&*fixture.store).await;
    let expected: Vec<_> = (0..5).map(|number| format!("late {number}")).collect();
    assert_eq!(names(&events), expected);
}

async fn tiny_cache(store: StoreUnderTest) {
    let settings = JournalSettings {
        cache_bytes_max: 1,
        ..JournalSettings::default()
    };
    let fixture = Fixture::on(open_store(&store).await, 1, settings).await;
    let fixture = Arc::new(fixture);
    let told = thirty_two_writers(&fixture, 3).await;
    let events = ledger::verify(&*fixture.store).await;
    assert_told_is_true(&events, &told);
    let workspaces: BTreeSet<_> = events
        .iter()
        .filter(|event| event.aggregate_type == "workspace")
        .map(|event| event.aggregate_id.clone())
        .collect();
    for workspace in workspaces {
        let stream = crewlog::journal::StreamRef::of::<Workspace>(&workspace, &workspace);
        fixture.assert_memory_is_the_log::<Workspace>(&stream).await;
    }
}

async fn clock_goes_back(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let (owner, team) = owner_and_team(&fixture, "owner").await;
    let before = ledger::verify(&*fixture.store).await;
    let last = before.last().expect("an event").recorded_at;
    fixture.source.turn_back(Duration::from_secs(3600));
    for number in 0..3 {
        fixture
            .commit(rename(team, &owner, &format!("back {number}")))
            .await;
    }
    let events = ledger::verify(&*fixture.store).await;
    let times = events[before.len()..]
        .iter()
        .map(|event| event.recorded_at.0);
    assert_eq!(
        times.collect::<Vec<_>>(),
        [last.0 + 1, last.0 + 2, last.0 + 3],
        "a microsecond a batch until the clock has caught up"
    );
    for event in &events {
        let position = stores::last_position_at(&*fixture.store, event.recorded_at).await;
        let mut batch = events.iter().filter(|other| other.batch == event.batch);
        let last = batch.next_back().expect("itself").position;
        assert_eq!(position.expect("a position"), last, "as of its own time");
    }
    let earlier = stores::last_position_at(&*fixture.store, Timestamp(0)).await;
    assert_eq!(earlier.expect("a position"), 0);
}

async fn never_changed(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    owner_and_team(&fixture, "owner").await;
    let before = ledger::verify(&*fixture.store).await;
    let columns = "aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                   metadata, position, id, recorded_at, batch, scope, scope_sequence, previous,
                   salt, leaf";
    let mut attacks = vec![
        "UPDATE events SET event_type = 'nothing_happened' WHERE position = 2".to_owned(),
        "UPDATE events SET position = 100 WHERE position = 2".to_owned(),
        "DELETE FROM events WHERE position = 2".to_owned(),
        "DELETE FROM events".to_owned(),
    ];
    match store.kind() {
        StoreKind::Sqlite => attacks.extend([
            format!(
                "INSERT OR REPLACE INTO events ({columns})
                 SELECT aggregate_type, aggregate_id, sequence, 'nothing_happened', event_version,
                        payload, metadata, position, id, recorded_at, batch, scope,
                        scope_sequence, previous, salt, leaf
                   FROM events WHERE position = 2"
            ),
            // The other unique keys make REPLACE remove rows too.
            format!(
                "INSERT OR REPLACE INTO events ({columns})
                 SELECT aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                        metadata, 1000, id, recorded_at, batch, scope, 1000, salt, salt, leaf
                   FROM events WHERE position = 2"
            ),
            format!(
                "REPLACE INTO events ({columns})
                 SELECT aggregate_type, aggregate_id, 1000, event_type, event_version, payload,
                        metadata, 1000, id, recorded_at, batch, scope, scope_sequence, previous,
                        salt, leaf
                   FROM events WHERE position = 2"
            ),
            "UPDATE OR REPLACE events SET position = 3 WHERE position = 2".to_owned(),
        ]),
        StoreKind::Postgres => attacks.extend([
            "TRUNCATE events".to_owned(),
            format!(
                "INSERT INTO events ({columns})
                 SELECT {columns} FROM events WHERE position = 2
                     ON CONFLICT (position) DO UPDATE SET event_type = 'nothing_happened'"
            ),
        ]),
    }
    for attack in attacks {
        let refusal = fixture
            .store
            .execute(vec![Statement::new(attack.clone(), [])])
            .await
            .expect_err(&attack);
        let said = refusal.to_string();
        assert!(said.contains("events are immutable"), "{attack}: {said}");
    }
    assert_eq!(ledger::verify(&*fixture.store).await, before);
}

async fn two_writers(store: StoreUnderTest) {
    let settings = JournalSettings::default;
    let first = Arc::new(Fixture::on(open_store(&store).await, 1, settings()).await);
    let second = Arc::new(Fixture::on(open_store(&store).await, 2, settings()).await);
    let (owner, shared) = owner_and_team(&first, "owner").await;
    let other = first
        .workspace_in(shared.organization, &owner, "other")
        .await;
    let mut tasks = Vec::new();
    for number in 0..16 {
        let owner = owner.clone();
        let fixture = [&first, &second][number % 2].clone();
        tasks.push(tokio::spawn(async move {
            let mut told = Vec::new();
            for round in 0..8 {
                let team = [shared, other][round % 2];
                let text = format!("{number} {round}");
                let committed = fixture.commit(rename(team, &owner, &text)).await;
                told.push((text, committed.position));
            }
            told
        }));
    }
    let mut told = Vec::new();
    for task in tasks {
        told.extend(task.await.expect("no panic"));
    }
    let events = ledger::verify(&*first.store).await;
    assert_told_is_true(&events, &told);
    for fixture in [&first, &second] {
        for team in [shared, other] {
            fixture
                .assert_memory_is_the_log::<Workspace>(&team.stream())
                .await;
        }
    }
    // Each changes what the other has in memory of the same document.
    for (round, fixture) in [&first, &second, &first, &second].into_iter().enumerate() {
        let plan = WorkspaceCommand::SelectPlan {
            actor: owner.user,
            plan: format!("plan-{round}").parse().expect("a plan"),
        };
        fixture
            .commit(command::<Workspace>(shared.stream(), plan))
            .await;
        let other = [&second, &first][round % 2];
        other
            .commit(rename(shared, &owner, &format!("after plan {round}")))
            .await;
        crate::projections::assert_documents_are_the_log(fixture).await;
    }
    crate::projections::assert_documents_are_the_log(&first).await;
}

async fn authority_of_the_whole_log(store: StoreUnderTest) {
    let settings = JournalSettings::default;
    let first = Fixture::on(open_store(&store).await, 1, settings()).await;
    let second = Fixture::on(open_store(&store).await, 2, settings()).await;
    let (owner, team) = owner_and_team(&first, "owner").await;
    let other = first.sign_up("other").await;
    let hidden = refused(Refusal::NotFound {
        what: "workspace",
        hidden: true,
    });
    // Both have the workspace in memory, so what follows is decided on that.
    assert_eq!(
        second.submit(rename(team, &other, "early")).await,
        Err(hidden.clone())
    );

    for round in 0..3 {
        first.join(team, &owner, &other, Role::Owner).await;
        let text = format!("granted {round}");
        second.commit(rename(team, &other, &text)).await;
        let removed = remove(&owner, other.user);
        first
            .commit(command::<Workspace>(team.stream(), removed))
            .await;
        // One that would write and one that would change nothing, each alone in its batch.
        for text in ["revoked", text.as_str()] {
            assert_eq!(
                second.submit(rename(team, &other, text)).await,
                Err(hidden.clone())
            );
        }
    }
    // A session that was ended elsewhere does not count either, whatever the role.
    first.join(team, &owner, &other, Role::Owner).await;
    second.commit(rename(team, &other, "again")).await;
    let session = other.session;
    first
        .commit(command::<User>(
            other.stream(),
            crewlog::domain::user::UserCommand::RevokeSession { session },
        ))
        .await;
    assert_eq!(
        second.submit(rename(team, &other, "again")).await,
        Err(refused(Refusal::SessionEnded))
    );
    let events = ledger::verify(&*first.store).await;
    let expected = ["granted 0", "granted 1", "granted 2", "again"];
    assert_eq!(names(&events), expected);
}
