//! A command waits while what it stands on is taken away, and is refused when it goes on.
//!
//! Two services on one store stand for two processes; the store in front of the first can be kept
//! from going on with an append.

use std::sync::Arc;
use std::time::Duration;

use crewlog::domain::api_keys::KeyScope;
use crewlog::domain::authority::{OrganizationRole, Role};
use crewlog::domain::ids::{OrganizationId, SessionId, WorkspaceId};
use crewlog::domain::{EmailAddress, Name};
use crewlog::journal::StoredEvent;
use crewlog::journal::sealing::RootKey;
use crewlog::journal::stores::Store;
use crewlog::service::{
    Caller, FirstWorkspace, KeyCaller, NewKey, OperatorCaller, Request, Service, ServiceError,
    ServiceSettings, SignUp,
};
use secrecy::SecretString;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::rounds;
use crate::edge::team::{address, number, password};
use crate::projections::assert_store_is_its_log;
use crate::support::journal::{ROOT_KEY, TestSource, open_store, reading};
use crate::support::ledger;
use crate::support::mishaps::{Mishap, Mishaps};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("authority", "lost_while_a_command_is_queued", |store| {
            held_at(store, Place::Queue)
        }),
        both("authority", "lost_ahead_of_a_queued_command", |store| {
            held_at(store, Place::BehindTheLoss)
        }),
        both("authority", "lost_after_a_command_was_decided", |store| {
            held_at(store, Place::Append)
        }),
    ]
}

/// Where a command waits.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the queue; another process takes its authority away.
    Queue,
    /// In the queue, behind what takes its authority away; when it came in, it had it.
    BehindTheLoss,
    /// Decided and not appended; another process takes its authority away.
    Append,
}

/// What is taken away.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Session,
    Membership,
    /// From admin to member.
    Role,
    OrganizationRole,
    KeyRevoked,
    /// Without grace.
    KeyRotated,
    /// The organization of a person who writes.
    Suspended,
    /// That of a key.
    KeySuspended,
    OperatorKeyRevoked,
}

impl Loss {
    const ALL: [Self; 9] = [
        Self::Session,
        Self::Membership,
        Self::Role,
        Self::OrganizationRole,
        Self::KeyRevoked,
        Self::KeyRotated,
        Self::Suspended,
        Self::KeySuspended,
        Self::OperatorKeyRevoked,
    ];

    /// How the command is refused, which the audit log keeps: who sent it is known.
    fn refusal(self) -> &'static str {
        match self {
            Self::Session => "session_ended",
            Self::Membership | Self::OrganizationRole => "not_found",
            Self::Role => "not_permitted",
            Self::KeyRevoked | Self::KeyRotated | Self::OperatorKeyRevoked => "api_key_ended",
            Self::Suspended | Self::KeySuspended => "organization_suspended",
        }
    }
}

/// Somebody, or something, that may do a thing until it may not.
#[derive(Debug, Clone)]
struct Holder {
    caller: Caller,
    /// Another session of theirs.
    elsewhere: SessionId,
    key: KeyCaller,
    /// An operator of the installation, with a key of their own.
    operator: OperatorCaller,
}

/// An organization with a workspace, and who owns both.
#[derive(Debug, Clone)]
struct Team {
    owner: Caller,
    organization: OrganizationId,
    workspace: WorkspaceId,
}

/// Two processes on one store.
struct Two {
    /// Where commands are held.
    here: Arc<Service>,
    there: Arc<Service>,
    appends: Arc<Mishaps>,
    team: Team,
    /// What somebody else writes to keep the writer busy.
    bystander: Team,
    /// What an operator suspends, who is not to be one for long.
    operated: Team,
    /// An operator who stays.
    operator: OperatorCaller,
}

type Answer = Result<u64, ServiceError>;

fn named(request_id: &str) -> Request {
    Request {
        request_id: Some(request_id.to_owned()),
        ..Request::default()
    }
}

/// What is accepted, with the authority that will be lost.
const ACCEPTED: &str = "accepted";

/// A request of an operator.
fn because(request: &Request) -> Request {
    Request {
        reason: Some("it is held".to_owned()),
        ..request.clone()
    }
}

/// An operator with a new key.
async fn operator(service: &Service) -> OperatorCaller {
    let made = service.create_operator_key(name("Held"), None).await;
    let (_, token) = made.expect("a key");
    let request = Request {
        token: Some(SecretString::from(token.expose())),
        ..Request::default()
    };
    let operator = service.operator(&request).await.expect("a key that counts");
    operator.expect("an operator")
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// Somebody with two sessions, with an organization and a workspace where that is asked for.
async fn sign_up(
    service: &Service,
    with_team: bool,
) -> (Caller, SessionId, EmailAddress, Option<Team>) {
    let email = EmailAddress::parse(&address("held")).expect("an address");
    let secret = SecretString::from(password());
    let asked = SignUp {
        email: email.clone(),
        password: secret.clone(),
        name: name("Somebody"),
        organization: with_team.then(|| name("Organization")),
        workspace: with_team.then(|| FirstWorkspace {
            name: name("Workspace"),
            plan: "enterprise".parse().expect("a plan"),
        }),
    };
    let made = service.sign_up(&Request::default(), asked).await;
    let made = made.expect("a sign-up").value;
    let other = service.sign_in(&Request::default(), &email, secret).await;
    let caller = Caller {
        user: made.me.id,
        session: made.session.id,
    };
    let both = made.organization.zip(made.workspace);
    let team = both.map(|(organization, workspace)| Team {
        owner: caller.clone(),
        organization: organization.id,
        workspace: workspace.id,
    });
    (caller, other.expect("a session").value.id, email, team)
}

impl Two {
    async fn on(store: &StoreUnderTest) -> Self {
        let source = Arc::new(TestSource::new(5));
        let root = RootKey::from_text(ROOT_KEY).expect("the tests' root key");
        let opened = open_store(store).await;
        let appends = Mishaps::before(opened.clone(), &[Mishap::None]);
        let others = match store.kind() {
            // One process alone opens a file.
            StoreKind::Sqlite => opened,
            StoreKind::Postgres => open_store(store).await,
        };
        let start = async |store: Arc<dyn Store>| {
            // The long form has more people sign up than a network may.
            let settings = ServiceSettings {
                sign_ups_an_hour: None,
                ..ServiceSettings::default()
            };
            let service = Service::start(store, source.clone(), &root, settings).await;
            service.expect("the service to start")
        };
        let (here, there) = (start(appends.clone()).await, start(others).await);
        let team = sign_up(&there, true).await.3.expect("a team");
        let bystander = sign_up(&there, true).await.3.expect("a team");
        let operated = sign_up(&there, true).await.3.expect("a team");
        let operator = operator(&there).await;
        Self {
            here,
            there,
            appends,
            team,
            bystander,
            operated,
            operator,
        }
    }

    /// An admin of the workspace who owns the organization too, and a key that makes workspaces.
    async fn holder(&self) -> Holder {
        let (there, team, request) = (&self.there, &self.team, Request::default());
        let (caller, elsewhere, email, _) = sign_up(there, false).await;
        let invited = there
            .invite(&request, &team.owner, team.workspace, &email, Role::Admin)
            .await
            .expect("an invitation");
        let token = invited.value.token.expect("its token");
        let token = SecretString::from(token.expose());
        let comes = crewlog::service::Acceptance::SignedIn(caller.clone());
        let accepted = there.accept_invitation(&request, &token, comes).await;
        accepted.expect("an admin");
        let role = OrganizationRole::Owner;
        there
            .set_organization_member(&request, &team.owner, team.organization, caller.user, role)
            .await
            .expect("an owner");
        let new = NewKey {
            name: name("Platform"),
            scopes: [KeyScope::WorkspacesCreate].into(),
            crews: None,
            allowed_cidrs: vec![],
            expires_at: None,
        };
        let made = there
            .create_organization_key(&request, &team.owner, team.organization, new)
            .await
            .expect("a key");
        Holder {
            caller,
            elsewhere,
            key: KeyCaller(Arc::new(made.value.key)),
            operator: operator(there).await,
        }
    }

    /// What stands on what will be lost.
    async fn ask(&self, service: &Service, loss: Loss, holder: &Holder, id: &str) -> Answer {
        let (request, team) = (named(id), &self.team);
        let (organization, plan) = (team.organization, "free".parse().expect("a plan"));
        match loss {
            Loss::Session | Loss::Membership | Loss::Role | Loss::Suspended => {
                let guest = EmailAddress::parse(&address("guest")).expect("an address");
                let invited = service
                    .invite(
                        &request,
                        &holder.caller,
                        team.workspace,
                        &guest,
                        Role::Viewer,
                    )
                    .await;
                invited.map(|written| written.position)
            }
            Loss::OrganizationRole => {
                let made = service
                    .create_workspace(&request, &holder.caller, organization, name("New"), plan)
                    .await;
                made.map(|written| written.position)
            }
            Loss::OperatorKeyRevoked => {
                let (request, operated) = (because(&request), self.operated.organization);
                let operator = &holder.operator;
                // What is accepted first leaves something to be done.
                let answer = match id == ACCEPTED {
                    true => {
                        service
                            .suspend_organization(&request, operator, operated)
                            .await
                    }
                    false => {
                        service
                            .resume_organization(&request, operator, operated)
                            .await
                    }
                };
                answer.map(|written| written.position)
            }
            Loss::KeyRevoked | Loss::KeyRotated | Loss::KeySuspended => {
                let (what, owner) = ((name("New"), plan), Some(team.owner.user));
                let made = service
                    .create_workspace_for(&request, &holder.key, organization, what, owner)
                    .await;
                made.map(|written| written.position)
            }
        }
    }

    async fn take_away(&self, service: &Service, loss: Loss, holder: &Holder) -> Answer {
        let (request, owner) = (Request::default(), &self.team.owner);
        let (workspace, organization) = (self.team.workspace, self.team.organization);
        let (user, key) = (holder.caller.user, holder.key.id());
        match loss {
            Loss::Session => {
                let elsewhere = Caller {
                    user,
                    session: holder.elsewhere,
                };
                let ended = service.end_session(&request, &elsewhere, holder.caller.session);
                ended.await.map(|written| written.position)
            }
            Loss::Membership => {
                let removed = service.remove_member(&request, owner, workspace, user);
                removed.await.map(|written| written.position)
            }
            Loss::Role => {
                let role = Role::Member;
                let changed = service.change_role(&request, owner, workspace, user, role, None);
                changed.await.map(|written| written.position)
            }
            Loss::OrganizationRole => {
                let removed =
                    service.remove_organization_member(&request, owner, organization, user);
                removed.await.map(|written| written.position)
            }
            Loss::Suspended | Loss::KeySuspended => {
                let request = because(&request);
                let suspended =
                    service.suspend_organization(&request, &self.operator, organization);
                suspended.await.map(|written| written.position)
            }
            Loss::OperatorKeyRevoked => {
                let revoked = service.revoke_operator_key(holder.operator.id()).await;
                revoked.map(|_| 0)
            }
            Loss::KeyRevoked => {
                let revoked = service.revoke_organization_key(&request, owner, organization, key);
                revoked.await.map(|written| written.position)
            }
            Loss::KeyRotated => {
                let rotated =
                    service.rotate_organization_key(&request, owner, organization, key, 0);
                rotated.await.map(|written| written.position)
            }
        }
    }

    /// Gives back what was taken from everybody.
    async fn give_back(&self, loss: Loss, holder: &Holder) {
        if let Loss::Suspended | Loss::KeySuspended = loss {
            let (request, organization) = (because(&Request::default()), self.team.organization);
            let resumed = self
                .there
                .resume_organization(&request, &self.operator, organization);
            resumed.await.expect("it to go on");
        }
        // There may be so many of them.
        let _ = self.there.revoke_operator_key(holder.operator.id()).await;
    }

    fn asking(self: &Arc<Self>, loss: Loss, holder: &Holder, id: &str) -> JoinHandle<Answer> {
        let (two, holder, id) = (self.clone(), holder.clone(), id.to_owned());
        tokio::spawn(async move { two.ask(&two.here, loss, &holder, &id).await })
    }

    /// Keeps the writer here busy: what comes after this waits in its queue until it is let go.
    async fn stop_the_writer(self: &Arc<Self>) -> JoinHandle<Answer> {
        self.appends.stop_at_next();
        let two = self.clone();
        let busy = tokio::spawn(async move {
            let (request, other) = (Request::default(), &two.bystander);
            let text = name(&format!("Busy {}", number()));
            let renamed =
                two.here
                    .rename_organization(&request, &other.owner, other.organization, text);
            renamed.await.map(|written| written.position)
        });
        self.appends.is_holding().await;
        busy
    }

    /// Waits until so many commands wait in the queue here.
    async fn queued(&self, count: usize) {
        for _ in 0..10_000 {
            if self.here.readiness().await.queue_length == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the queue never had {count}");
    }

    /// Holds a command, takes away what it stands on, and answers what it was answered.
    async fn hold(self: &Arc<Self>, place: Place, loss: Loss, holder: &Holder, id: &str) -> Answer {
        let asked = match place {
            Place::Queue => {
                let busy = self.stop_the_writer().await;
                let asked = self.asking(loss, holder, id);
                self.queued(1).await;
                let taken = self.take_away(&self.there, loss, holder).await;
                taken.expect("it to be taken away");
                assert!(!asked.is_finished(), "it waits");
                self.appends.let_go();
                busy.await.expect("no panic").expect("it is no matter");
                asked
            }
            Place::BehindTheLoss => {
                let busy = self.stop_the_writer().await;
                let (two, of) = (self.clone(), holder.clone());
                let taken = tokio::spawn(async move { two.take_away(&two.here, loss, &of).await });
                self.queued(1).await;
                let asked = self.asking(loss, holder, id);
                self.queued(2).await;
                self.appends.let_go();
                busy.await.expect("no panic").expect("it is no matter");
                taken.await.expect("no panic").expect("it to be taken away");
                asked
            }
            Place::Append => {
                self.appends.hold_next(Mishap::None);
                let asked = self.asking(loss, holder, id);
                self.appends.is_holding().await;
                let taken = self.take_away(&self.there, loss, holder).await;
                taken.expect("it to be taken away");
                assert!(!asked.is_finished(), "it was decided, and is not sent");
                self.appends.let_go();
                asked
            }
        };
        asked.await.expect("no panic")
    }
}

/// What the log has of a request.
fn of_request<'a>(events: &'a [StoredEvent], id: &str) -> Vec<&'a StoredEvent> {
    let is_its = |event: &&StoredEvent| {
        let metadata: Value = serde_json::from_str(&event.metadata).expect("JSON");
        metadata["request_id"] == id
    };
    events.iter().filter(is_its).collect()
}

async fn held_at(store: StoreUnderTest, place: Place) {
    let two = Arc::new(Two::on(&store).await);
    let mut held = Vec::new();
    for round in 0..rounds(1) {
        for loss in Loss::ALL {
            let holder = two.holder().await;
            // A moment before, the same is accepted.
            let accepted = two.ask(&two.here, loss, &holder, ACCEPTED).await;
            accepted.unwrap_or_else(|error| panic!("{loss:?}: {error:?}"));
            let id = format!("held.{round}.{loss:?}");
            let answer = two.hold(place, loss, &holder, &id).await;
            let code = match &answer {
                Err(ServiceError::Refused(refusal)) => refusal.code(),
                _ => panic!("{loss:?} at {place:?}: {answer:?}"),
            };
            assert_eq!(code, loss.refusal(), "{loss:?} at {place:?}");
            two.give_back(loss, &holder).await;
            held.push((loss, id));
        }
    }
    for service in [&two.here, &two.there] {
        assert!(service.stop(Duration::from_secs(10)).await);
    }
    drop(two);
    let reading = reading(&store).await;
    let events = ledger::verify(&*reading).await;
    for (loss, id) in held {
        let code = loss.refusal();
        let found = of_request(&events, &id);
        assert_eq!(found.len(), 1, "{id}: {found:?}");
        for event in found {
            assert_eq!(event.event_type, "attempt_refused", "{event:?}");
            assert!(event.payload.contains(code), "{event:?}");
        }
    }
    assert_store_is_its_log(&*reading).await;
    reading.close().await;
}
