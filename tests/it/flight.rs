//! Deciding on a batch that is on its way to the disk: what the next batch sees of it, and
//! what becomes of the next when it does not arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crewlog::domain::event::Event;
use crewlog::domain::ids::UserId;
use crewlog::domain::workspace::{Workspace, WorkspaceCommand, WorkspaceEvent};
use crewlog::journal::{Committed, Idempotency, Source, StoredEvent, SubmitError, Unit};
use tokio::task::JoinHandle;

use crate::support::journal::{Fixture, Person, Team, commands, done, name, rename};
use crate::support::ledger;
use crate::support::mishaps::{Mishap, with_mishaps};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("flight", "the_next_sees_one_that_arrives", |store| {
            behind_a_flight(store, Mishap::None)
        }),
        both("flight", "the_next_sees_one_that_is_found", |store| {
            behind_a_flight(store, Mishap::AnswerLost)
        }),
        both("flight", "both_are_decided_anew_if_never_sent", |store| {
            behind_a_flight(store, Mishap::NeverSent)
        }),
        both("flight", "both_are_decided_anew_if_late", |store| {
            behind_a_flight(store, Mishap::ArrivesLate)
        }),
        both(
            "flight",
            "both_are_decided_anew_behind_others",
            behind_a_lost_flight,
        ),
        both(
            "flight",
            "the_next_knows_nothing_of_one_refused",
            behind_a_refused_flight,
        ),
    ]
}

type Answer = Result<Committed, SubmitError>;

/// What was asked for while the first was on its way.
struct Behind {
    first: JoinHandle<Answer>,
    renamed: JoinHandle<Answer>,
    no_member: JoinHandle<Answer>,
    same_key: JoinHandle<Answer>,
    same_address: JoinHandle<Answer>,
}

struct Answers {
    first: Answer,
    renamed: Answer,
    no_member: Answer,
    same_key: Answer,
    same_address: Answer,
}

struct Flown {
    fixture: Arc<Fixture>,
    answers: Answers,
    /// How many batches were sent after the one that was held.
    sent_behind: usize,
}

impl Behind {
    fn is_any_answered(&self) -> bool {
        [
            &self.first,
            &self.renamed,
            &self.no_member,
            &self.same_key,
            &self.same_address,
        ]
        .iter()
        .any(|asked| asked.is_finished())
    }

    async fn answers(self) -> Answers {
        let told = async |asked: JoinHandle<Answer>| asked.await.expect("no panic");
        Answers {
            first: told(self.first).await,
            renamed: told(self.renamed).await,
            no_member: told(self.no_member).await,
            same_key: told(self.same_key).await,
            same_address: told(self.same_address).await,
        }
    }
}

/// Renames the team, takes an address and uses a key.
fn first_unit(fixture: &Fixture, team: Team, owner: &Person) -> Unit {
    let (_, mut unit) = fixture.sign_up_unit("taken");
    let (sign_up, user) = (unit.decide, owner.user);
    unit.streams.push(team.stream());
    unit.decide = Box::new(move |desk| {
        sign_up(desk)?;
        let command = WorkspaceCommand::Rename {
            actor: user,
            name: name("first"),
        };
        desk.execute::<Workspace>(&team.stream(), command, &[])?;
        Ok(done())
    });
    keyed(unit)
}

/// Counts how often it is decided.
fn counted(mut unit: Unit, decisions: &Arc<AtomicUsize>) -> Unit {
    let (decide, decisions) = (unit.decide, decisions.clone());
    unit.decide = Box::new(move |desk| {
        decisions.fetch_add(1, Ordering::SeqCst);
        decide(desk)
    });
    unit
}

async fn wait_for(decisions: &AtomicUsize, count: usize) {
    while decisions.load(Ordering::SeqCst) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn keyed(mut unit: Unit) -> Unit {
    unit.idempotency = Some(Idempotency {
        principal: "principal".to_owned(),
        key: "key".to_owned(),
        request_hmac: [7; 32],
    });
    unit
}

fn renames(events: &[StoredEvent]) -> Vec<String> {
    let renamed =
        events.iter().filter_map(
            |event| match event.decode().expect("an event of ours").event {
                Event::Workspace(WorkspaceEvent::WorkspaceRenamed { to, .. }) => Some(to),
                _ => None,
            },
        );
    renamed.collect()
}

/// Holds the first on its way, asks for the others, sees that nobody is told anything, does
/// `meanwhile`, and lets it go.
async fn fly(
    store: &StoreUnderTest,
    mishap: Mishap,
    meanwhile: impl AsyncFn(&Fixture, Team, &Person),
) -> Flown {
    let (fixture, mishaps) = with_mishaps(store, &[Mishap::None]).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    let fixture = Arc::new(fixture);
    let ask = |unit: Unit| {
        let fixture = fixture.clone();
        tokio::spawn(async move { fixture.submit(unit).await })
    };
    let stranger = UserId::from_uuid(fixture.source.uuid());
    // Refused after it has changed the stream in memory, which is then read anew.
    let half_done = vec![
        WorkspaceCommand::Rename {
            actor: owner.user,
            name: name("never"),
        },
        WorkspaceCommand::Remove {
            actor: owner.user,
            user: stranger,
        },
    ];
    mishaps.hold_next(mishap);
    let first = ask(first_unit(&fixture, team, &owner));
    mishaps.is_holding().await;
    let sent_before = mishaps.sent();
    let decisions = Arc::new(AtomicUsize::new(0));
    let ask_counted = |unit| ask(counted(unit, &decisions));
    let no_member = ask_counted(commands::<Workspace>(team.stream(), half_done));
    wait_for(&decisions, 1).await;
    let behind = Behind {
        first,
        no_member,
        renamed: ask_counted(rename(team, &owner, "second")),
        same_key: ask(keyed(rename(team, &owner, "same key"))),
        same_address: ask_counted(fixture.sign_up_unit("taken").1),
    };
    wait_for(&decisions, 3).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(
        !behind.is_any_answered(),
        "what is decided on a batch that may never arrive is told to nobody"
    );
    meanwhile(&fixture, team, &owner).await;
    mishaps.let_go();
    let answers = behind.answers().await;
    fixture
        .assert_memory_is_the_log::<Workspace>(&team.stream())
        .await;
    crate::projections::assert_documents_are_the_log(&fixture).await;
    Flown {
        sent_behind: mishaps.sent() - sent_before,
        fixture,
        answers,
    }
}

/// The first is in the log in the end, whatever happened to it at first.
fn assert_first_was_seen(answers: &Answers) {
    let position = |answer: &Answer| answer.as_ref().expect("it was accepted").position;
    assert!(position(&answers.first) < position(&answers.renamed));
    assert!(
        matches!(answers.no_member, Err(SubmitError::Refused(_))),
        "{:?}",
        answers.no_member
    );
    assert_eq!(answers.same_key, Err(SubmitError::Duplicate));
    assert!(
        matches!(answers.same_address, Err(SubmitError::Refused(_))),
        "{:?}",
        answers.same_address
    );
}

async fn behind_a_flight(store: StoreUnderTest, mishap: Mishap) {
    let flown = fly(&store, mishap, async |_, _, _| ()).await;
    assert_first_was_seen(&flown.answers);
    let events = ledger::verify(&*flown.fixture.store).await;
    assert_eq!(renames(&events), ["first", "second"]);
    assert_eq!(flown.fixture.journal.status().problem(), None);
    if mishap == Mishap::None {
        // Else the store would have had to refuse what the draft did not see.
        assert_eq!(flown.sent_behind, 1);
    }
}

async fn behind_a_lost_flight(store: StoreUnderTest) {
    let flown = fly(&store, Mishap::None, async |fixture, team, owner| {
        let other = fixture.another(2).await;
        other
            .commit(rename(team, owner, "by another process"))
            .await;
    })
    .await;
    assert_first_was_seen(&flown.answers);
    let events = ledger::verify(&*flown.fixture.store).await;
    assert_eq!(renames(&events), ["by another process", "first", "second"]);
}

async fn behind_a_refused_flight(store: StoreUnderTest) {
    let flown = fly(&store, Mishap::Refused, async |_, _, _| ()).await;
    let Flown {
        fixture, answers, ..
    } = flown;
    assert!(
        matches!(answers.first, Err(SubmitError::Unavailable(_))),
        "{:?}",
        answers.first
    );
    assert!(answers.renamed.is_ok(), "{:?}", answers.renamed);
    assert!(matches!(answers.no_member, Err(SubmitError::Refused(_))));
    assert!(answers.same_key.is_ok(), "its key is free");
    assert!(answers.same_address.is_ok(), "its address is free");
    let mut renames = renames(&ledger::verify(&*fixture.store).await);
    renames.sort();
    assert_eq!(renames, ["same key", "second"]);
    assert_eq!(
        fixture.journal.status().problem(),
        None,
        "all is well again"
    );
}
