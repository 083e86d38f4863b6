//! What time alone does, with a clock that the test moves: the service in this process, on the
//! store under test. Afterwards the program itself verifies what was written.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crewlog::domain::api_keys::KeyScope;
use crewlog::domain::authority::Role;
use crewlog::domain::crew::{Connection, ConnectionId, CrewProfile};
use crewlog::domain::environment::Environment;
use crewlog::domain::ids::{CrewId, OrganizationId, PrincipalId, WorkspaceId};
use crewlog::domain::workspace::Policy;
use crewlog::domain::{EmailAddress, Name, Refusal, Timestamp};
use crewlog::journal::Source;
use crewlog::journal::sealing::RootKey;
use crewlog::journal::stores::{Statement, Store};
use crewlog::projections::audit::AuditOutcome;
use crewlog::service::{
    Acceptance, ApiKeyView, AuditEntry, AuditFilter, AuditScope, Caller, CredentialChange,
    FirstWorkspace, KeyQuestion, KeyVerdict, NewKey, Newcomer, Principal, Request, Service,
    ServiceError, ServiceSettings, SignUp,
};
use secrecy::SecretString;

use super::team::{address, password};
use crate::support::journal::{ROOT_KEY, TestSource, open_store};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "an_invitation_runs_out", runs_out),
        both(
            "edge",
            "repeated_refusals_are_told_when_the_minute_ends",
            repeats,
        ),
        both("edge", "a_session_runs_out", session_ends),
        both("edge", "a_role_falls_back_by_itself", falls_back),
        both("edge", "an_auditor_grant_runs_out", audit_ends),
        both(
            "edge",
            "a_role_for_a_time_gives_nothing_for_good",
            gives_no_longer,
        ),
        both("edge", "a_key_becomes_due_and_runs_out", key_is_due),
        both("edge", "a_deleted_workspace_claims_nothing", claims_nothing),
        both("edge", "a_freed_number_rests_for_a_day", number_rests),
        both("edge", "claims_hold_while_the_clock_moves", clock_moves),
    ]
}

/// The service on a store, and its clock.
pub(super) struct Clocked {
    pub service: Arc<Service>,
    pub source: Arc<TestSource>,
    /// What the service keeps beside the log.
    pub rows: Arc<dyn Store>,
    pub store: StoreUnderTest,
}

/// An owner, and where.
pub(super) struct Owned {
    pub caller: Caller,
    pub organization: OrganizationId,
    pub workspace: WorkspaceId,
}

pub(super) fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

pub(super) fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).expect("an address")
}

pub(super) fn request() -> Request {
    Request {
        request_id: Some("req-in-process".to_owned()),
        ip: Some(IpAddr::from([192, 0, 2, 7])),
        ..Request::default()
    }
}

impl Clocked {
    pub async fn on(store: StoreUnderTest) -> Self {
        Self::with(store, ServiceSettings::default()).await
    }

    pub async fn with(store: StoreUnderTest, settings: ServiceSettings) -> Self {
        let source = Arc::new(TestSource::new(7));
        let root = RootKey::from_text(ROOT_KEY).expect("the tests' root key");
        let opened = open_store(&store).await;
        let service = Service::start(opened.clone(), source.clone(), &root, settings).await;
        Self {
            service: service.expect("the service to start"),
            source,
            rows: opened,
            store,
        }
    }

    pub async fn signed_up(
        &self,
        organization: Option<&str>,
    ) -> (Caller, Option<(OrganizationId, WorkspaceId)>) {
        let asked = SignUp {
            email: email(&address("clocked")),
            password: secret(&password()),
            name: name("Somebody"),
            organization: organization.map(name),
            workspace: organization.map(|text| FirstWorkspace {
                name: name(text),
                plan: "team".parse().expect("a plan"),
            }),
        };
        let made = self
            .service
            .sign_up(&request(), asked)
            .await
            .expect("a sign-up")
            .value;
        let caller = Caller {
            user: made.me.id,
            session: made.session.id,
        };
        let organization = made.organization.map(|made| made.id);
        (caller, organization.zip(made.workspace.map(|made| made.id)))
    }

    pub async fn owner(&self) -> Owned {
        let (caller, made) = self.signed_up(Some("Clockwork")).await;
        let (organization, workspace) = made.expect("an organization and a workspace");
        Owned {
            caller,
            organization,
            workspace,
        }
    }

    pub async fn entries(&self, owner: &Owned, action: &str) -> Vec<AuditEntry> {
        let filter = AuditFilter {
            action: Some(action.to_owned()),
            ..AuditFilter::default()
        };
        let scope = AuditScope::Workspace(owner.workspace);
        let page = self
            .service
            .audit(&request(), &owner.caller, scope, &filter, None, 200)
            .await;
        page.expect("the audit log").entries
    }

    /// Ends the service; the program itself then finds nothing wrong.
    pub async fn holds(self) {
        assert!(
            self.service.stop(Duration::from_secs(10)).await,
            "everything is written"
        );
        drop((self.service, self.rows));
        super::held(&self.store);
    }
}

async fn runs_out(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let (service, owner) = (&clocked.service, clocked.owner().await);
    let invite = async || {
        let invited = service
            .invite(
                &request(),
                &owner.caller,
                owner.workspace,
                &email(&address("late")),
                Role::Viewer,
            )
            .await
            .expect("an invitation")
            .value;
        let token = invited.token.expect("a token").expose().to_owned();
        (invited.id, invited.expires_at, token)
    };
    let accept = async |token: &str| {
        let newcomer = Newcomer {
            name: name("Late"),
            password: secret(&password()),
        };
        let acceptance = Acceptance::Newcomer(newcomer);
        service
            .accept_invitation(&request(), &secret(token), acceptance)
            .await
            .map(drop)
    };
    let (id, expires_at, token) = invite().await;
    let (resent_id, _, _) = invite().await;
    let week = Duration::from_secs(7 * 24 * 3_600);
    clocked.source.pass(week - Duration::from_secs(60));
    let resent = service
        .resend_invitation(&request(), &owner.caller, owner.workspace, resent_id)
        .await;
    let resent = resent.expect("sent again").value;
    assert_eq!(
        service
            .do_what_is_due()
            .await
            .expect("due work")
            .invitations_expired,
        0
    );

    // Its time is over before anybody has written so.
    clocked.source.pass(Duration::from_secs(61));
    let shown = service
        .invitation(&request(), &owner.caller, owner.workspace, id)
        .await
        .expect("an invitation");
    assert_eq!(shown.value.status.name(), "expired");
    let refused = accept(&token).await;
    assert!(
        matches!(
            refused,
            Err(ServiceError::Refused(Refusal::InvitationNotPending {
                status: "expired"
            }))
        ),
        "{refused:?}"
    );
    assert!(
        clocked
            .entries(&owner, "invitation.expired")
            .await
            .is_empty()
    );

    // Written once, however often and by however many it is looked for.
    let (one, two) = tokio::join!(service.do_what_is_due(), service.do_what_is_due());
    one.expect("due work");
    two.expect("due work");
    service.do_what_is_due().await.expect("due work");
    let told = clocked.entries(&owner, "invitation.expired").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].target.id, id.to_string());
    assert_eq!(told[0].actor.kind, "system");
    assert!(told[0].recorded_at >= expires_at);

    // What was sent again lives on; what has run out can be sent again no more.
    assert!(accept(&token).await.is_err());
    let token = resent.token.expect("a token").expose().to_owned();
    accept(&token).await.expect("the one that was sent again");
    let again = service
        .resend_invitation(&request(), &owner.caller, owner.workspace, id)
        .await;
    assert!(
        matches!(
            again,
            Err(ServiceError::Refused(Refusal::InvitationNotPending { .. }))
        ),
        "{again:?}"
    );
    clocked.holds().await;
}

async fn repeats(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let (service, owner) = (&clocked.service, clocked.owner().await);
    let (stranger, _) = clocked.signed_up(None).await;
    let minute = Duration::from_secs(60);
    for _ in 0..30 {
        let refused = service
            .workspace(&request(), &stranger, owner.workspace)
            .await;
        assert!(
            matches!(
                refused,
                Err(ServiceError::Refused(Refusal::NotFound { .. }))
            ),
            "{refused:?}"
        );
    }
    let counts = async || {
        let entries = clocked.entries(&owner, "workspace.read").await;
        assert!(
            entries
                .iter()
                .all(|entry| entry.actor.id == Some(stranger.user.to_string()))
        );
        let counts = entries.iter().map(|entry| {
            let count = entry.changes.iter().find(|change| change.path == "count");
            count.expect("a count").to.as_u64().expect("a number")
        });
        counts.collect::<Vec<_>>()
    };
    // A look at the clock is a microsecond: all of these are of one minute.
    assert_eq!(counts().await, [1], "the first is told at once");
    assert_eq!(
        service
            .do_what_is_due()
            .await
            .expect("due work")
            .attempts_written,
        0
    );
    clocked.source.pass(minute);
    assert_eq!(
        service
            .do_what_is_due()
            .await
            .expect("due work")
            .attempts_written,
        1
    );
    assert_eq!(
        counts().await,
        [29, 1],
        "the repeats as one when the minute has ended"
    );
    service.do_what_is_due().await.expect("due work");
    assert_eq!(counts().await, [29, 1], "and once");

    // Another minute, another first.
    let refused = service
        .workspace(&request(), &stranger, owner.workspace)
        .await;
    assert!(refused.is_err());
    assert_eq!(counts().await, [1, 29, 1]);
    clocked.source.pass(minute);
    service.do_what_is_due().await.expect("due work");
    assert_eq!(counts().await, [1, 29, 1], "nothing was repeated");

    // Of an organization, among its own.
    for _ in 0..3 {
        assert!(
            service
                .organization(&request(), &stranger, owner.organization)
                .await
                .is_err()
        );
    }
    clocked.source.pass(minute);
    service.do_what_is_due().await.expect("due work");
    let filter = AuditFilter {
        action: Some("organization.read".to_owned()),
        ..AuditFilter::default()
    };
    let scope = AuditScope::Organization(owner.organization);
    let page = service
        .audit(&request(), &owner.caller, scope, &filter, None, 10)
        .await
        .expect("a page");
    assert_eq!(page.entries.len(), 2, "{:?}", page.entries);
    clocked.holds().await;
}

impl Clocked {
    /// Somebody who comes in as a member.
    pub async fn member(&self, owner: &Owned) -> Caller {
        let (service, address) = (&self.service, address("comes-in"));
        let (caller, workspace) = (&owner.caller, owner.workspace);
        let invited = service
            .invite(
                &request(),
                caller,
                workspace,
                &email(&address),
                Role::Member,
            )
            .await
            .expect("an invitation");
        let token = invited.value.token.expect("a token").expose().to_owned();
        let newcomer = Newcomer {
            name: name("Newcomer"),
            password: secret(&password()),
        };
        let accepted = service
            .accept_invitation(&request(), &secret(&token), Acceptance::Newcomer(newcomer))
            .await
            .expect("a member")
            .value;
        Caller {
            user: accepted.member.user,
            session: accepted.session.expect("a session").id,
        }
    }

    /// The moment in so many seconds.
    pub fn in_seconds(&self, seconds: i64) -> Timestamp {
        self.source.now().plus(chrono::TimeDelta::seconds(seconds))
    }
}

async fn falls_back(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let (service, owner) = (&clocked.service, clocked.owner().await);
    let (caller, workspace) = (&owner.caller, owner.workspace);
    let (helper, guest) = (clocked.member(&owner).await, clocked.member(&owner).await);
    let limit = async |of: &Caller, role: Role, until: Timestamp| {
        service
            .change_role(&request(), caller, workspace, of.user, role, Some(until))
            .await
            .expect("a role for a time")
            .position
    };
    let until = clocked.in_seconds(3_600);
    let decided_at = limit(&helper, Role::Admin, until).await;
    limit(&guest, Role::Member, until).await;
    let remove = async || {
        let nobody = guest.user;
        service
            .change_role(&request(), &helper, workspace, nobody, Role::Viewer, None)
            .await
            .map(drop)
    };
    remove().await.expect("an admin for an hour");
    limit(&guest, Role::Viewer, until).await;
    clocked.source.pass(Duration::from_secs(3_600));

    // Their time is over before anybody has written so: for commands, reads and lists.
    let refused = remove().await;
    assert!(
        matches!(
            refused,
            Err(ServiceError::Refused(Refusal::NotPermitted {
                role: Role::Member,
                ..
            }))
        ),
        "{refused:?}"
    );
    let read = service.workspace(&request(), &guest, workspace).await;
    assert!(matches!(
        read,
        Err(ServiceError::Refused(Refusal::NotFound { .. }))
    ));
    let listed = service
        .workspaces_of(&Request::default(), &guest, None, 1)
        .await
        .expect("a list");
    assert_eq!(listed.items, []);
    let members = service
        .members_of(&request(), caller, workspace, None, 200)
        .await
        .expect("members");
    let shown: Vec<_> = members
        .items
        .iter()
        .map(|(_, member)| (member.user, member.role, member.until))
        .collect();
    let expected = [
        (caller.user, Role::Owner, None),
        (helper.user, Role::Member, None),
    ];
    assert_eq!(shown, expected);
    let verdict = service
        .can(
            &request(),
            caller,
            workspace,
            PrincipalId::User(helper.user),
            "member.read",
            None,
        )
        .await
        .expect("a verdict")
        .value;
    let words = format!("member since position {decided_at}, which");
    assert!(verdict.because.contains(&words), "{}", verdict.because);
    assert_eq!(clocked.entries(&owner, "member.limit_reached").await, []);

    // Written once, by however many.
    let (one, two) = tokio::join!(service.do_what_is_due(), service.do_what_is_due());
    one.expect("due work");
    two.expect("due work");
    let report = service.do_what_is_due().await.expect("due work");
    assert_eq!(report.limits_reached, 0);
    let told = clocked.entries(&owner, "member.limit_reached").await;
    let targets: Vec<_> = told.iter().map(|entry| entry.target.id.clone()).collect();
    assert_eq!(targets.len(), 2, "{targets:?}");
    for user in [helper.user, guest.user] {
        assert!(targets.contains(&user.to_string()), "{targets:?}");
    }
    assert!(told.iter().all(|entry| entry.actor.kind == "system"));
    assert!(remove().await.is_err());
    clocked.holds().await;
}

async fn audit_ends(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let (service, owner) = (&clocked.service, clocked.owner().await);
    let (caller, workspace) = (&owner.caller, owner.workspace);
    let address = email(&address("audits"));
    let asked = SignUp {
        email: address.clone(),
        password: secret(&password()),
        name: name("Auditor"),
        organization: None,
        workspace: None,
    };
    let made = service.sign_up(&request(), asked).await.expect("a sign-up");
    let auditor = Caller {
        user: made.value.me.id,
        session: made.value.session.id,
    };
    let grant = async |expires_at| {
        service
            .grant_auditor(&request(), caller, workspace, &address, expires_at)
            .await
            .expect("a grant");
    };
    let reads = async || {
        let scope = AuditScope::Workspace(workspace);
        let filter = AuditFilter::default();
        service
            .audit(&request(), &auditor, scope, &filter, None, 1)
            .await
            .is_ok()
    };
    grant(clocked.in_seconds(600)).await;
    assert!(reads().await);
    assert_eq!(
        service
            .do_what_is_due()
            .await
            .expect("due work")
            .auditors_expired,
        0
    );
    clocked.source.pass(Duration::from_secs(600));
    assert!(!reads().await, "its time is over before it is written");
    let listed = service
        .workspaces_of(&Request::default(), &auditor, None, 10)
        .await;
    assert_eq!(listed.expect("a list").items, []);
    let granted = service
        .auditors_of(&request(), caller, workspace, None, 10)
        .await;
    assert_eq!(granted.expect("a list").items, []);
    let (one, two) = tokio::join!(service.do_what_is_due(), service.do_what_is_due());
    one.expect("due work");
    two.expect("due work");
    let told = clocked.entries(&owner, "auditor.expired").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].target.id, auditor.user.to_string());
    // It can be granted anew.
    grant(clocked.in_seconds(600)).await;
    assert!(reads().await);
    clocked.holds().await;
}

async fn claims_nothing(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let (service, owner) = (&clocked.service, clocked.owner().await);
    let claim = |scope: String| {
        let sql = "INSERT INTO claims (scope, kind, value, holder) VALUES ($1, $2, $3, $4)";
        let rest = ["channel", "support", "somebody"].map(|text| text.to_owned().into());
        let [kind, value, holder] = rest;
        Statement::new(sql, [scope.into(), kind, value, holder])
    };
    let other = "ws_of_somebody_else".to_owned();
    let claims = vec![claim(owner.workspace.to_string()), claim(other.clone())];
    clocked.rows.execute(claims).await.expect("claims");
    let deleted = service
        .delete_workspace(&request(), &owner.caller, owner.workspace, "Clockwork")
        .await;
    deleted.expect("deleted");
    let left = clocked.rows.query("SELECT scope FROM claims", vec![]).await;
    let left = left.expect("claims");
    let scopes: Vec<_> = left
        .iter()
        .map(|row| row.text(0).expect("a scope"))
        .collect();
    assert_eq!(scopes, [other.as_str()]);
    drop(left);
    clocked.holds().await;
}

/// A crew of somebody's workspace, by what the service is asked with.
#[derive(Clone)]
struct Ground {
    principal: Principal,
    workspace: WorkspaceId,
    crew: CrewId,
}

impl Ground {
    async fn new(service: &Service, owner: &Owned, environment: Environment) -> Self {
        let (principal, workspace) = (Principal::Person(owner.caller.clone()), owner.workspace);
        let profile = CrewProfile {
            name: format!("Clockwork - {environment:?}"),
            ..CrewProfile::default()
        };
        let made = service
            .create_crew(
                &request(),
                &principal,
                workspace,
                environment,
                (profile, None),
            )
            .await;
        let crew = made.expect("a crew").value.id();
        Self {
            principal,
            workspace,
            crew,
        }
    }

    async fn add(&self, service: &Service, to: Connection) -> Result<ConnectionId, ServiceError> {
        let (principal, at) = (&self.principal, (self.workspace, self.crew));
        let (request, keep) = (request(), CredentialChange::Keep);
        let added = service.add_connection(&request, principal, at, to, keep);
        Ok(added.await?.value.connection.id)
    }

    async fn remove(&self, service: &Service, id: ConnectionId) -> Result<(), ServiceError> {
        let (principal, at) = (&self.principal, (self.workspace, self.crew));
        let request = request();
        let removed = service.remove_connection(&request, principal, at, id);
        removed.await.map(drop)
    }
}

fn number(which: u32) -> Connection {
    Connection::phone_number(&format!("+1202{}", 3_000_000 + which)).expect("a number")
}

/// The rows of claims that rest.
async fn resting(clocked: &Clocked) -> usize {
    let sql = "SELECT value FROM claims WHERE rests_until IS NOT NULL";
    clocked.rows.query(sql, vec![]).await.expect("claims").len()
}

/// A freed number is its workspace's again at once, another's after a day; and what has rested is
/// swept. A replaced credential is destroyed when its grace is over.
async fn number_rests(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let service = &clocked.service;
    let (one, other) = (clocked.owner().await, clocked.owner().await);
    let ours = Ground::new(service, &one, Environment::Production).await;
    let ours_too = Ground::new(service, &one, Environment::Staging).await;
    let theirs = Ground::new(service, &other, Environment::Staging).await;
    let id = ours.add(service, number(1)).await.expect("added");
    let in_use = theirs.add(service, number(1)).await;
    assert!(
        matches!(
            in_use,
            Err(ServiceError::Refused(Refusal::AlreadyClaimed {
                owner: None,
                ..
            }))
        ),
        "{in_use:?}"
    );
    ours.remove(service, id).await.expect("removed");
    let id = ours_too
        .add(service, number(1))
        .await
        .expect("its own again");
    assert_eq!(resting(&clocked).await, 0);
    ours_too.remove(service, id).await.expect("removed");
    let freed_at = clocked.source.now();
    let two = ours.add(service, number(2)).await.expect("added");
    ours.remove(service, two).await.expect("removed");
    let day = Duration::from_secs(24 * 3_600);
    clocked.source.pass(day - Duration::from_secs(60));
    let early = theirs.add(service, number(1)).await;
    match early {
        Err(ServiceError::Refused(Refusal::ClaimRests { until, .. })) => {
            let wanted = freed_at.plus(chrono::TimeDelta::days(1));
            assert!(
                (until.0 - wanted.0).abs() < 60_000_000,
                "{until:?} {wanted:?}"
            );
        }
        early => panic!("{early:?}"),
    }
    assert_eq!(
        service
            .do_what_is_due()
            .await
            .expect("due work")
            .rests_ended,
        0
    );
    clocked.source.pass(Duration::from_secs(120));
    theirs.add(service, number(1)).await.expect("it has rested");
    assert_eq!(resting(&clocked).await, 1, "the other one");
    let (a, b) = tokio::join!(service.do_what_is_due(), service.do_what_is_due());
    let ended = a.expect("due work").rests_ended + b.expect("due work").rests_ended;
    assert_eq!(ended, 1);
    assert_eq!(resting(&clocked).await, 0);

    let url = "https://hooks.example.com/";
    let endpoint = Connection::webhook_endpoint(url, None).expect("an endpoint");
    let ConnectionId::WebhookEndpoint(id) = ours.add(service, endpoint).await.expect("added")
    else {
        panic!("an endpoint has the id of one");
    };
    let rotated = service
        .rotate_signing_secret(
            &request(),
            &ours.principal,
            (ours.workspace, ours.crew),
            id,
            60,
        )
        .await;
    rotated.expect("rotated");
    let kept = async || {
        let sql =
            "SELECT c.credential FROM credentials c JOIN subject_keys k ON k.owner = c.credential";
        clocked
            .rows
            .query(sql, vec![])
            .await
            .expect("credentials")
            .len()
    };
    service.do_what_is_due().await.expect("due work");
    assert_eq!(kept().await, 2, "in its grace");
    clocked.source.pass(Duration::from_secs(61));
    // The log's time decides: something has to happen in it.
    ours.add(service, number(3)).await.expect("added");
    service.do_what_is_due().await.expect("due work");
    assert_eq!(kept().await, 1);
    super::claims::judge(&clocked.store).await;
    clocked.holds().await;
}

/// 64 callers at a time over a few numbers, in rounds of half a day, with due work among them.
async fn clock_moves(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let service = &clocked.service;
    let mut grounds = Vec::new();
    for _ in 0..2 {
        let owner = clocked.owner().await;
        for environment in Environment::ALL {
            grounds.push(Ground::new(service, &owner, environment).await);
        }
    }
    let (mut taken, mut told) = (Vec::new(), std::collections::BTreeMap::new());
    for round in 0..8 {
        let callers = (0..64).map(|caller: usize| {
            let ground = grounds[(caller * 7 + round) % grounds.len()].clone();
            let leaves = taken.get(caller).cloned();
            async move {
                if caller % 16 == 3 {
                    service.do_what_is_due().await.expect("due work");
                }
                if let Some((ground, id)) = leaves {
                    let ground: Ground = ground;
                    // Somebody may have been faster.
                    drop(ground.remove(service, id).await);
                }
                let added = ground.add(service, number(10 + (caller % 5) as u32)).await;
                (ground, added)
            }
        });
        let answers = futures::future::join_all(callers).await;
        for (ground, answer) in answers {
            let code = match answer {
                Ok(id) => {
                    taken.push((ground, id));
                    "taken"
                }
                Err(ServiceError::Refused(Refusal::ClaimRests { .. })) => "rests",
                Err(ServiceError::Refused(
                    Refusal::AlreadyClaimed { .. } | Refusal::AlreadyExists { .. },
                )) => "in use",
                Err(error) => panic!("{error}"),
            };
            *told.entry(code).or_insert(0) += 1;
        }
        super::claims::judge(&clocked.store).await;
        clocked.source.pass(Duration::from_secs(12 * 3_600));
    }
    assert_eq!(told.len(), 3, "{told:?}");
    clocked.holds().await;
}

async fn session_ends(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let (service, owner) = (&clocked.service, clocked.owner().await);
    let month = Duration::from_secs(30 * 24 * 3_600);
    clocked.source.pass(month - Duration::from_secs(10));
    service
        .rename_workspace(&request(), &owner.caller, owner.workspace, name("In time"))
        .await
        .expect("a live session");
    clocked.source.pass(Duration::from_secs(20));
    let refused = service
        .rename_workspace(&request(), &owner.caller, owner.workspace, name("Late"))
        .await;
    assert!(
        matches!(refused, Err(ServiceError::Refused(Refusal::SessionEnded))),
        "{refused:?}"
    );
    clocked.holds().await;
}

/// Who is an admin for an hour makes nobody one for longer.
async fn gives_no_longer(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let (service, owner) = (&clocked.service, clocked.owner().await);
    let workspace = owner.workspace;
    let asking = request();
    let (helper, friend) = (clocked.member(&owner).await, clocked.member(&owner).await);
    let until = clocked.in_seconds(3_600);
    let change = async |by: &Caller, of: &Caller, role: Role, until: Option<Timestamp>| {
        let changed = service.change_role(&asking, by, workspace, of.user, role, until);
        changed.await.map(|written| written.value.until)
    };
    let invite = async |by: &Caller, role: Role| {
        let address = email(&address("invited-for-good"));
        let invited = service.invite(&asking, by, workspace, &address, role);
        invited.await.map(|written| written.value)
    };
    let own_limit = Refusal::OwnLimit { until };
    let refused = |refusal: &Refusal, answer: Result<(), ServiceError>| match answer {
        Err(ServiceError::Refused(told)) => assert_eq!(told, *refusal),
        answer => panic!("{answer:?}"),
    };
    let given = change(&owner.caller, &helper, Role::Admin, Some(until)).await;
    given.expect("an admin for an hour");
    refused(&own_limit, invite(&helper, Role::Admin).await.map(drop));
    let for_good = change(&helper, &friend, Role::Admin, None).await;
    refused(&own_limit, for_good.map(drop));
    let for_longer = change(
        &helper,
        &friend,
        Role::Admin,
        Some(clocked.in_seconds(3_601)),
    );
    refused(&own_limit, for_longer.await.map(drop));
    let as_long = change(&helper, &friend, Role::Admin, Some(until)).await;
    assert_eq!(as_long.expect("as long as they are"), Some(until));
    // What they keep, they give for good.
    let kept = invite(&helper, Role::Member).await.expect("an invitation");
    // Whoever invited while their role lasted, and has it for a time by now, gives it no more.
    let lasting = clocked.member(&owner).await;
    change(&owner.caller, &lasting, Role::Admin, None)
        .await
        .expect("an admin");
    let too_much = invite(&lasting, Role::Admin).await.expect("an invitation");
    change(&owner.caller, &lasting, Role::Admin, Some(until))
        .await
        .expect("an admin for an hour");
    change(&owner.caller, &lasting, Role::Member, None)
        .await
        .expect("a member");
    change(&owner.caller, &lasting, Role::Admin, Some(until))
        .await
        .expect("an admin for an hour, who stays a member");
    let accept = async |token: &str| {
        let newcomer = Newcomer {
            name: name("Newcomer"),
            password: secret(&password()),
        };
        let newcomer = Acceptance::Newcomer(newcomer);
        let token = secret(token);
        let accepted = service.accept_invitation(&asking, &token, newcomer);
        accepted.await.map(|written| written.value.member.role)
    };
    let exceeds = Refusal::InvitationExceedsInviter { role: Role::Admin };
    let token = too_much.token.expect("a token");
    refused(&exceeds, accept(token.expose()).await.map(drop));
    let token = kept.token.expect("a token");
    let role = accept(token.expose()).await.expect("a member");
    assert_eq!(role, Role::Member);
    let denied = clocked.entries(&owner, "member.invited").await;
    assert!(
        denied
            .iter()
            .any(|entry| entry.outcome == AuditOutcome::Denied)
    );
    clocked.holds().await;
}

/// A key becomes due when the policy says so, not before, and not once it has a successor; and
/// runs out by itself.
async fn key_is_due(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let (service, owner) = (&clocked.service, clocked.owner().await);
    let (caller, workspace) = (&owner.caller, owner.workspace);
    let asking = request();
    let policy = Policy {
        key_rotation_days: Some(1),
        ..Policy::default()
    };
    let changed = service.change_policy(&asking, caller, workspace, policy);
    changed.await.expect("a policy");
    let make = async |expires_at: Option<Timestamp>| {
        let new = NewKey {
            name: name("Gateway"),
            scopes: [KeyScope::AuditRead].into(),
            crews: None,
            allowed_cidrs: vec![],
            expires_at,
        };
        let environment = Environment::Production;
        let made = service.create_api_key(&asking, caller, workspace, environment, new);
        made.await.expect("a key").value
    };
    let due = async |due: bool| {
        let page = service.api_keys_of(&asking, caller, workspace, Some(due), None, 10);
        let page = page.await.expect("a page");
        let keys = page.items.iter().map(|(_, view)| view.key.id);
        keys.collect::<Vec<_>>()
    };
    let verdict = async |key: &ApiKeyView| {
        let key = secret(key.secret.as_ref().expect("a secret").expose());
        let question = KeyQuestion {
            key,
            environment: None,
            crew: None,
            scope: None,
            ip: None,
        };
        service
            .verify_key(&question)
            .await
            .expect("a verdict")
            .verdict
    };
    let old = make(None).await;
    let ends = make(Some(clocked.in_seconds(86_400))).await;
    clocked.source.pass(Duration::from_secs(86_399));
    let young = make(None).await;
    assert_eq!(due(true).await, []);
    assert_eq!(verdict(&ends).await, KeyVerdict::Valid);
    clocked.source.pass(Duration::from_secs(1));

    // One is due, one is over; both before anybody has written so.
    assert_eq!(due(true).await, [old.key.id]);
    assert_eq!(due(false).await, [ends.key.id, young.key.id]);
    assert_eq!(verdict(&old).await, KeyVerdict::Valid);
    assert_eq!(verdict(&ends).await, KeyVerdict::Expired);
    let (one, two) = tokio::join!(service.do_what_is_due(), service.do_what_is_due());
    one.expect("due work");
    two.expect("due work");
    let told = clocked.entries(&owner, "api_key.expired").await;
    let targets: Vec<_> = told.iter().map(|entry| entry.target.id.clone()).collect();
    assert_eq!(targets, [ends.key.id.to_string()]);

    let rotated = service.rotate_api_key(&asking, caller, workspace, old.key.id, 60);
    let successor = rotated.await.expect("a successor").value;
    assert_eq!(due(true).await, []);
    clocked.source.pass(Duration::from_secs(59));
    assert_eq!(verdict(&old).await, KeyVerdict::Valid);
    clocked.source.pass(Duration::from_secs(1));
    assert_eq!(verdict(&old).await, KeyVerdict::Expired);
    assert_eq!(verdict(&successor).await, KeyVerdict::Valid);
    clocked.source.pass(Duration::from_secs(86_340));
    assert_eq!(due(true).await, [young.key.id, successor.key.id]);
    clocked.holds().await;
}
