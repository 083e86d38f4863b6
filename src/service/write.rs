//! What every write has in common: conditions, idempotency, composing anew when what it
//! was composed from has moved, and keeping refused attempts.

use futures::future::BoxFuture;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{AsOf, Caller, KeyCaller, OperatorCaller, Principal, Service, ServiceError};
use crate::{
    domain::{
        Refusal, Stream,
        authority::Actor,
        crew::{ConnectionId, CrewPlace, ItemId},
        ids::{
            CrewId, DocumentId, EventId, InvitationId, KeyId, KnowledgeBaseId, OrganizationId,
            PromotionId, ReviewId, SessionId, UserId, WorkspaceId,
        },
        sealed::KeyOwner,
    },
    journal::{
        Desk, Idempotency, LookupKey, Origin, Outcome, Rejection, StreamRef, SubmitError, Unit,
        sealing::DataKey,
        stores::{Statement, Value},
        unit::Decide,
    },
    projections::{Documents, Projection},
};
use std::{fmt, sync::Arc};

/// How often a command is composed before its caller is told to come back.
const COMPOSED_MAX: usize = 10;

/// What a request brings beside what it asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The session token, where one came with it.
    pub token: Option<SecretString>,
    pub request_id: Option<String>,
    pub ip: Option<std::net::IpAddr>,
    pub user_agent: Option<String>,
    /// Why, in the caller's words.
    pub reason: Option<String>,
    pub idempotency: Option<IdempotencyRequest>,
    pub condition: Condition,
    /// The moment that a read is about; now, where nothing is said.
    pub as_of: Option<AsOf>,
}

/// A key that makes a request safe to repeat.
#[derive(Clone)]
pub struct IdempotencyRequest {
    pub key: String,
    /// Method, path and body: what must be the same for a repetition. It does not print, as
    /// there may be a password in it.
    pub fingerprint: Vec<u8>,
}

impl fmt::Debug for IdempotencyRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("IdempotencyRequest")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// What the version of a resource must be for a write to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    None,
    /// Any version, as long as it is there (`If-Match: *`).
    Exists,
    /// One of these versions (`If-Match`); an empty list never holds.
    VersionIn(Vec<u64>),
}

impl Condition {
    fn check(&self, version: u64) -> Result<(), ServiceError> {
        match self {
            Self::None | Self::Exists => Ok(()),
            Self::VersionIn(versions) if versions.contains(&version) => Ok(()),
            Self::VersionIn(_) => Err(ServiceError::PreconditionFailed { version }),
        }
    }
}

/// What a write answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Written<T> {
    pub position: u64,
    /// Whether this is the first answer, told again.
    pub replayed: bool,
    pub value: T,
}

impl<T> Written<T> {
    pub(super) fn of(receipt: &Receipt, value: T) -> Self {
        Self {
            position: receipt.position,
            replayed: receipt.replayed,
            value,
        }
    }
}

/// What an answer shows, kept with an idempotency key so that it can be shown again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Made {
    Nothing,
    User(UserId),
    Session(UserId, SessionId),
    Organization(OrganizationId),
    Workspace(WorkspaceId),
    Member(WorkspaceId, UserId),
    Invitation(WorkspaceId, InvitationId),
    /// A key of a workspace, or of an organization where there is none.
    ApiKey {
        organization: OrganizationId,
        workspace: Option<WorkspaceId>,
        key: KeyId,
    },
    SignedUp {
        user: UserId,
        session: SessionId,
        organization: Option<OrganizationId>,
        workspace: Option<WorkspaceId>,
    },
    Accepted {
        workspace: WorkspaceId,
        user: UserId,
        session: Option<SessionId>,
    },
    Policy(WorkspaceId),
    Limits(WorkspaceId),
    Auditor(WorkspaceId, UserId),
    OrganizationMember(OrganizationId, UserId),
    Crew(CrewId),
    Item(CrewId, ItemId),
    Connection(CrewId, ConnectionId),
    KnowledgeBase(CrewId, KnowledgeBaseId),
    Document(CrewId, DocumentId),
    /// What became of a batch of records, which are no events.
    Activity {
        accepted: u64,
        known: u64,
        expired: u64,
    },
    Promotion(PromotionId),
    Review(ReviewId),
    /// What became of a batch of usage records, which are no events.
    Usage {
        accepted: u64,
        known: u64,
    },
}

impl Made {
    /// What the unit remembers of its answer.
    pub(super) fn outcome(&self, status: u16) -> Outcome {
        Outcome {
            status,
            resource: serde_json::to_string(self).expect("ids are JSON"),
        }
    }
}

/// A unit that is in the log, now or since the first time.
#[derive(Debug, Clone)]
pub(super) struct Receipt {
    pub position: u64,
    pub replayed: bool,
    pub made: Made,
}

/// What a command aims at, for the audit log should it be refused.
#[derive(Debug, Clone)]
pub(super) struct Aim {
    /// As the audit log names it: `member.invited`.
    pub action: &'static str,
    /// The id of what it aims at.
    pub target: String,
    pub organization: OrganizationId,
    /// None where it aims at the organization itself.
    pub workspace: Option<WorkspaceId>,
    /// The crew that it is, or is in, where there is one.
    pub crew: Option<CrewPlace>,
}

impl Aim {
    /// The same, in a crew.
    pub(super) fn in_crew(self, crew: CrewPlace) -> Self {
        Self {
            crew: Some(crew),
            ..self
        }
    }
}

/// Who sends a command.
#[derive(Debug, Clone)]
pub(super) enum Sender {
    Person(Caller),
    Key(KeyCaller),
    Operator(OperatorCaller),
    /// Nobody is signed in; the name keeps their idempotency keys apart.
    Anonymous(String),
}

impl Sender {
    /// A person or a key.
    pub(super) fn of(principal: &Principal) -> Self {
        match principal {
            Principal::Person(caller) => Self::Person(caller.clone()),
            Principal::Key(key) => Self::Key(key.clone()),
        }
    }

    fn principal(&self) -> String {
        match self {
            Self::Person(caller) => caller.user.to_string(),
            Self::Key(key) => key.id().to_string(),
            Self::Operator(operator) => operator.id().to_string(),
            Self::Anonymous(name) => name.clone(),
        }
    }
}

/// A unit without what is the same for all.
pub(super) struct Composed {
    pub lane: String,
    pub streams: Vec<StreamRef>,
    pub lookups: Vec<LookupKey>,
    pub origin: Origin,
    pub decide: Box<Decide>,
}

const SELECT_IDEMPOTENCY: &str = "
SELECT request_hmac, position, resource
  FROM idempotency
 WHERE principal = $1 AND key = $2";

/// The first to be kept is what is told again.
const KEEP_ANSWER: &str = "
INSERT INTO idempotency (principal, key, request_hmac, status, position, resource, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (principal, key) DO NOTHING";

impl Service {
    /// The same for what is written beside the log, and is safe to do again: what was answered
    /// to an idempotency key, or what `work` answers now, which is kept. Keys are kept apart from
    /// those of units, which the append alone writes.
    pub(super) async fn once_beside(
        &self,
        sender: &Sender,
        request: &Request,
        work: impl Future<Output = Result<(u64, Made), ServiceError>>,
    ) -> Result<Receipt, ServiceError> {
        let idempotency = self.idempotency(sender, request).map(|asked| Idempotency {
            principal: format!("{} beside", asked.principal),
            ..asked
        });
        if let Some(receipt) = self.first_answer(idempotency.as_ref()).await? {
            return Ok(receipt);
        }
        let (position, made) = work.await?;
        if let Some(asked) = idempotency {
            let outcome = made.outcome(200);
            let parameters: [Value; 7] = [
                asked.principal.into(),
                asked.key.into(),
                asked.request_hmac.as_slice().into(),
                i64::from(outcome.status).into(),
                position.into(),
                outcome.resource.into(),
                self.source().now().0.into(),
            ];
            let keep = Statement::new(KEEP_ANSWER, parameters);
            self.journal.store().execute(vec![keep]).await?;
        }
        let replayed = false;
        Ok(Receipt {
            position,
            replayed,
            made,
        })
    }

    /// Composes and submits a unit until it is decided, or tells the first answer again.
    /// A refusal for want of authority is kept among the attempts of what it aimed at. What a
    /// suspended organization does not do any more is refused, whatever it is.
    pub(super) async fn submit<'a>(
        &self,
        sender: &Sender,
        request: &Request,
        aim: Option<&Aim>,
        compose: impl Fn() -> BoxFuture<'a, Result<Composed, ServiceError>>,
    ) -> Result<Receipt, ServiceError> {
        let idempotency = self.idempotency(sender, request);
        if let Some(receipt) = self.first_answer(idempotency.as_ref()).await? {
            return Ok(receipt);
        }
        for _ in 0..COMPOSED_MAX {
            let composed = match compose().await {
                Err(ServiceError::Refused(refusal)) => {
                    return Err(self.refuse(sender, request, aim, refusal).await);
                }
                composed => self.guarded(composed?),
            };
            let unit = Unit {
                lane: composed.lane,
                streams: composed.streams,
                lookups: composed.lookups,
                origin: composed.origin,
                idempotency: idempotency.clone(),
                decide: composed.decide,
            };
            match self.journal.submit(unit).await {
                Ok(committed) => {
                    return Ok(Receipt {
                        position: committed.position,
                        replayed: false,
                        made: read_made(&committed.outcome.resource)?,
                    });
                }
                Err(SubmitError::Recompose) => {}
                Err(SubmitError::Duplicate) => {
                    let first = self.first_answer(idempotency.as_ref()).await?;
                    return first.ok_or(ServiceError::IdempotencyInProgress);
                }
                Err(SubmitError::Refused(refusal)) => {
                    return Err(self.refuse(sender, request, aim, refusal).await);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(ServiceError::Overloaded)
    }

    async fn refuse(
        &self,
        sender: &Sender,
        request: &Request,
        aim: Option<&Aim>,
        refusal: Refusal,
    ) -> ServiceError {
        let principal = match sender {
            Sender::Person(caller) => Some(Principal::from(caller)),
            Sender::Key(key) => Some(Principal::from(key)),
            Sender::Operator(_) | Sender::Anonymous(_) => None,
        };
        if let (Sender::Operator(operator), Some(aim), true) = (sender, aim, refusal.is_denial()) {
            self.keep_operators_attempt(operator, request, aim, &refusal)
                .await;
        }
        if let (Some(principal), Some(aim), true) = (principal, aim, refusal.is_denial()) {
            self.keep_attempt(&principal, request, aim, &refusal).await;
        }
        ServiceError::Refused(refusal)
    }

    fn idempotency(&self, sender: &Sender, request: &Request) -> Option<Idempotency> {
        request.idempotency.as_ref().map(|asked| Idempotency {
            principal: sender.principal(),
            key: asked.key.clone(),
            request_hmac: self.keyring.hmac("idempotency", &asked.fingerprint),
        })
    }

    /// The first answer to a repeated request, for what must be proven or looked for before it
    /// is submitted: the proof of the first time may be none any more, and what was done may
    /// have taken away what is looked for.
    pub(super) async fn answered_before(
        &self,
        sender: &Sender,
        request: &Request,
    ) -> Result<Option<Receipt>, ServiceError> {
        self.first_answer(self.idempotency(sender, request).as_ref())
            .await
    }

    /// Whether a sender has used an idempotency key.
    pub(super) async fn knows_key(&self, sender: &Sender, key: &str) -> Result<bool, ServiceError> {
        let parameters = vec![sender.principal().into(), key.into()];
        let store = self.journal.store();
        Ok(!store
            .query(SELECT_IDEMPOTENCY, parameters)
            .await?
            .is_empty())
    }

    async fn first_answer(
        &self,
        idempotency: Option<&Idempotency>,
    ) -> Result<Option<Receipt>, ServiceError> {
        let Some(idempotency) = idempotency else {
            return Ok(None);
        };
        let parameters = vec![
            idempotency.principal.clone().into(),
            idempotency.key.clone().into(),
        ];
        let rows = self
            .journal
            .store()
            .query(SELECT_IDEMPOTENCY, parameters)
            .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let same = row.hash(0)?.ct_eq(&idempotency.request_hmac);
        if !bool::from(same) {
            return Err(ServiceError::IdempotencyKeyReused);
        }
        Ok(Some(Receipt {
            position: row.count(1)?,
            replayed: true,
            made: read_made(row.text(2)?)?,
        }))
    }

    /// The origin of a person's command in a scope: what is personal under their key there,
    /// what is free text under the scope's.
    pub(super) async fn origin(
        &self,
        caller: &Caller,
        request: &Request,
        organization: Option<OrganizationId>,
        workspace: Option<WorkspaceId>,
    ) -> Result<Origin, ServiceError> {
        let person = self.person_key(caller.user, organization).await?;
        let free_text = match (workspace, organization) {
            (Some(workspace), _) => self.keyring.newest(KeyOwner::Workspace(workspace)).await?,
            (None, Some(organization)) => {
                self.keyring
                    .newest(KeyOwner::Organization(organization))
                    .await?
            }
            (None, None) => person.clone(),
        };
        Ok(request.origin(Actor::User { id: caller.user }, person, free_text))
    }

    /// The origin of anybody's command. What is personal in a request with a key is nobody's in
    /// particular, and under the key of the scope.
    pub(super) async fn origin_of(
        &self,
        principal: &Principal,
        request: &Request,
        organization: Option<OrganizationId>,
        workspace: Option<WorkspaceId>,
    ) -> Result<Origin, ServiceError> {
        let key = match principal {
            Principal::Person(caller) => {
                return self.origin(caller, request, organization, workspace).await;
            }
            Principal::Key(key) => key,
        };
        let owner = match workspace {
            Some(workspace) => KeyOwner::Workspace(workspace),
            None => KeyOwner::Organization(organization.unwrap_or(key.0.organization)),
        };
        let scope = self.keyring.newest(owner).await?;
        Ok(request.origin(principal.actor(), scope.clone(), scope))
    }

    /// A resource as its write left it: now, or as of then where it is told again.
    pub(super) async fn shown<P: Projection, A: Stream>(
        &self,
        documents: Documents<P>,
        receipt: &Receipt,
        stream: &str,
        key: &str,
    ) -> Result<P::Document, ServiceError> {
        if !receipt.replayed {
            // The writer has just had it in hands.
            if let Some(document) = self.engine.latest::<P>(key) {
                return Ok(document);
            }
            if let Some(document) = documents.get(key).await?.value {
                return Ok(document);
            }
        }
        let store = &**self.journal.store();
        let document = Documents::<P>::as_of::<A>(store, stream, key, receipt.position).await?;
        document.ok_or_else(|| {
            ServiceError::Internal(format!("{key} is not there as of {}", receipt.position))
        })
    }

    /// The sequence of the last event of a stream; 0 before the first.
    pub(super) async fn sequence_of(&self, stream: &StreamRef) -> Result<u64, ServiceError> {
        let parameters = vec![stream.stream_type.name.into(), stream.id.clone().into()];
        let store = self.journal.store();
        let rows = store.query(SELECT_SEQUENCE, parameters).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.count(0))?)
    }

    /// For a conditional write: checks the version of a document, and answers the sequence
    /// of its stream, which must still be the same when the unit is decided.
    pub(super) async fn checked_sequence(
        &self,
        request: &Request,
        stream: &StreamRef,
        version: impl Future<Output = Result<Option<u64>, ServiceError>>,
    ) -> Result<Option<u64>, ServiceError> {
        match request.condition {
            // What is not there is said to be so by whoever looks for it.
            Condition::None | Condition::Exists => return Ok(None),
            Condition::VersionIn(_) => {}
        }
        let sequence = self.sequence_of(stream).await?;
        if let Some(version) = version.await? {
            request.condition.check(version)?;
        }
        Ok(Some(sequence))
    }

    /// The same for a write that makes what is not there: as long as it is not, no condition
    /// holds.
    pub(super) async fn checked_sequence_or_nothing(
        &self,
        request: &Request,
        stream: &StreamRef,
        version: impl Future<Output = Result<Option<u64>, ServiceError>>,
    ) -> Result<Option<u64>, ServiceError> {
        if request.condition == Condition::None {
            return Ok(None);
        }
        let sequence = self.sequence_of(stream).await?;
        let version = version.await?.ok_or(ServiceError::NothingToMatch)?;
        request.condition.check(version)?;
        Ok(Some(sequence))
    }
}

const SELECT_SEQUENCE: &str = "
SELECT COALESCE(MAX(sequence), 0)
  FROM events
 WHERE aggregate_type = $1 AND aggregate_id = $2";

/// That nothing has happened to a stream since a conditional write was composed.
pub(super) fn unmoved(
    desk: &mut Desk<'_>,
    stream: &StreamRef,
    sequence: Option<u64>,
) -> Result<(), Rejection> {
    match sequence {
        Some(sequence) if desk.sequence(stream) != sequence => Err(Rejection::Recompose),
        _ => Ok(()),
    }
}

/// That a person's profile is still the one that a copy was made from. Of who has erased their
/// account nothing is copied, even where this process has not forgotten the key yet.
pub(super) fn profile_is_at(
    desk: &mut Desk<'_>,
    person: &StreamRef,
    profile_sequence: u64,
) -> Result<(), Rejection> {
    let account = desk.read::<crate::domain::user::User>(person);
    if account.is_erased() {
        return Err(Refusal::NoSuchAccount.into());
    }
    if account.profile_sequence() == profile_sequence {
        Ok(())
    } else {
        Err(Rejection::Recompose)
    }
}

fn read_made(text: &str) -> Result<Made, ServiceError> {
    serde_json::from_str(text)
        .map_err(|error| ServiceError::Internal(format!("a kept answer is malformed: {error}")))
}

impl Request {
    /// What of the request goes into every entry, under the keys that seal it.
    pub(super) fn origin(
        &self,
        actor: Actor,
        person: Option<Arc<DataKey>>,
        free_text: Option<Arc<DataKey>>,
    ) -> Origin {
        Origin {
            actor,
            request_id: self.request_id.clone(),
            causation: None::<EventId>,
            reason: free_text.zip(self.reason.clone()),
            context: person.zip(self.context()),
        }
    }

    /// Address and user agent, as one.
    fn context(&self) -> Option<String> {
        (self.ip.is_some() || self.user_agent.is_some()).then(|| {
            serde_json::json!({ "ip": self.ip, "user_agent": self.user_agent }).to_string()
        })
    }
}
