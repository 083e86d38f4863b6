//! Erasing: somebody destroys what opens what is personal of them.
//!
//! Three steps, each of one append that says what it has done and does it:
//! 1. **The account**, when they ask. They leave every workspace and organization, their sessions
//!    and password are gone, their address is free, and the key of their account is destroyed,
//!    under which also the addresses and user agents of this request are sealed.
//! 2. **Each organization that knows them is told** when its retention is over. Done right after,
//!    and by due work where that was cut short.
//! 3. **Each organization destroys the key** of its own copy. Due work, decided by the
//!    organization, which refuses it as long as one of its workspaces is under a legal hold.
//!
//! Whoever is killed in between has done all of a step or none of it. Nothing is given to somebody
//! behind an erasure: whatever would, depends on their account, and what was given between
//! composing the first step and deciding it has it composed anew ([`Service::note_placed`]). So
//! what the second step finds is all that there is.
//!
//! What stays is the log itself, with nothing that opens it. Other processes forget a destroyed key
//! when they next look for due work.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::FutureExt;
use secrecy::SecretString;

use super::{
    Caller, Request, Service, ServiceError, Token, TokenKind, Written,
    organizations::organization_stream,
    password_change::Proven,
    write::{Composed, Made, Receipt, Sender},
};
use crate::{
    domain::{
        Refusal, Timestamp,
        ids::{OrganizationId, SubjectId, UserId, WorkspaceId},
        organization::{Organization, OrganizationCommand},
        sealed::KeyOwner,
        standing::Standing,
        user::{User, UserCommand},
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{
        Desk, LookupKey, Origin, Rejection, StreamRef, SubmitError, Unit,
        stores::{self, Row, Statement},
    },
    projections::ACCOUNT,
};

/// How many accounts' organizations are told at once.
const TOLD_AT_ONCE: u64 = 200;
/// The most places that are left at once: each is at most two events, and a unit holds a thousand.
const PLACES_MAX: usize = 450;
/// For how long after a key was destroyed processes go on forgetting it.
const FORGOTTEN_FOR: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

const SELECT_ACCOUNT: &str = "
SELECT subject, realm, user_id, email_lookup, placed
  FROM subjects
 WHERE user_id = $1 AND realm = $2";

/// Also what invitations have made of the address, and nobody has become.
const SELECT_COPIES: &str = "
SELECT subject, realm, user_id, email_lookup
  FROM subjects s
 WHERE user_id = $1 AND realm <> $2
   AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.subject = s.subject)
UNION ALL
SELECT subject, realm, user_id, email_lookup
  FROM subjects
 WHERE user_id IS NULL AND email_lookup = $3";

const DESTROY_KEY: &str = "
DELETE FROM subject_keys
 WHERE owner = $1";

const DESTROY_KEYS_IN_REALM: &str = "
DELETE FROM subject_keys
 WHERE owner IN (SELECT subject FROM erasures WHERE realm = $1 AND user_id = $2)";

const DELETE_WORDS: &str = "
DELETE FROM name_words
 WHERE realm = $1 AND user_id = $2";

const DELETE_PASSWORD: &str = "
DELETE FROM passwords
 WHERE user_id = $1";

const DELETE_TOKENS: &str = "
DELETE FROM session_tokens
 WHERE user_id = $1";

const KEEP_ERASURE: &str = "
INSERT INTO erasures (subject, realm, user_id, due_at, erased_at)
VALUES ($1, $2, $3, $4, $5)";

const NOTE_ERASED: &str = "
UPDATE erasures
   SET erased_at = $1
 WHERE realm = $2 AND user_id = $3 AND erased_at IS NULL";

const KEEP_UNTOLD: &str = "
INSERT INTO untold_erasures (user_id, email_lookup, erased_at)
VALUES ($1, $2, $3)";

const SELECT_UNTOLD: &str = "
SELECT user_id, email_lookup, erased_at
  FROM untold_erasures
 ORDER BY user_id";

const NOTE_TOLD: &str = "
DELETE FROM untold_erasures
 WHERE user_id = $1";

/// Who has several copies comes several times; the organization erases them once.
const SELECT_DUE: &str = "
SELECT e.realm, e.user_id
  FROM erasures e
 WHERE e.erased_at IS NULL AND e.due_at <= $1
   AND NOT EXISTS (SELECT 1 FROM legal_holds h WHERE h.realm = e.realm)
 ORDER BY e.due_at";

const SELECT_ERASED: &str = "
SELECT subject
  FROM erasures
 WHERE erased_at > $1";

/// One of the subjects that somebody is.
#[derive(Debug, Clone)]
struct OneSubject {
    subject: SubjectId,
    realm: String,
    /// Whether it is still nobody.
    is_nobody: bool,
    email_lookup: Option<String>,
}

impl OneSubject {
    fn read(row: &Row) -> Result<Self, ServiceError> {
        Ok(Self {
            subject: row.parsed(0)?,
            realm: row.text(1)?.to_owned(),
            is_nobody: row.optional_text(2)?.is_none(),
            email_lookup: row.optional_text(3)?.map(str::to_owned),
        })
    }

    /// By what it is found, as long as it is.
    fn claim(&self) -> Option<LookupKey> {
        let lookup = self.email_lookup.as_ref()?;
        Some(Service::email_claim(&self.realm, lookup))
    }

    fn lookups(&self) -> impl Iterator<Item = LookupKey> {
        let person = Service::person_lookup(self.subject);
        self.claim().into_iter().chain([person])
    }

    /// Lets nobody find it any more, makes it theirs for good, and notes when its key goes:
    /// or that it is gone, with `erased_at`.
    fn give_up(
        &self,
        desk: &mut Desk<'_>,
        user: UserId,
        due_at: Timestamp,
        erased_at: Option<Timestamp>,
    ) -> Result<(), Rejection> {
        if let Some(claim) = self.claim() {
            if desk.holder(&claim) != Some(&*self.subject.to_string()) {
                return Err(Rejection::Recompose);
            }
            desk.hold(&claim, None);
            desk.write_beside(Service::forget_email(self.subject));
        }
        let person = Service::person_lookup(self.subject);
        let linked = Service::link_subject(user, self.subject);
        let (present, user) = (desk.holder(&person).map(str::to_owned), user.to_string());
        match (self.is_nobody, present) {
            (true, None) => {
                desk.hold(&person, Some(user.clone()));
                desk.write_beside(linked);
            }
            (false, Some(present)) if present == user => {}
            _ => return Err(Rejection::Recompose),
        }
        let parameters = [
            self.subject.to_string().into(),
            self.realm.clone().into(),
            user.into(),
            due_at.0.into(),
            stores::Value::Integer(erased_at.map(|at| at.0)),
        ];
        desk.write_beside(Statement::new(KEEP_ERASURE, parameters));
        Ok(())
    }
}

/// Everything that somebody leaves behind when they ask.
struct Traces {
    /// The subject of the account.
    account: OneSubject,
    /// When they were last given something, as it was before the rest was read.
    placed: Option<String>,
    organizations: Vec<StreamRef>,
    workspaces: Vec<StreamRef>,
}

/// An account that is erased, and not all organizations are told.
struct Untold {
    user: UserId,
    email_lookup: String,
    erased_at: Timestamp,
}

impl Service {
    /// Erases the caller's account, at once and for good; each organization erases its copy after
    /// its retention, unless there is a legal hold. A repetition is answered to the token that the
    /// first answer was to, which is nobody's any more: so there may be no caller.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`]; [`Refusal::LastOwnerOf`] where something would be left without
    /// an owner: hand it over first; [`Refusal::TooManyMemberships`].
    pub async fn erase_account(
        &self,
        request: &Request,
        caller: Option<&Caller>,
        password: SecretString,
    ) -> Result<Written<()>, ServiceError> {
        let Some(sender) = Self::leaver(request) else {
            return Err(ServiceError::Unauthenticated);
        };
        let erased = self.erase_now(request, &sender, caller, password).await;
        let receipt = match erased {
            Ok(receipt) => receipt,
            // The first request may have been answered while this one looked for what it takes.
            Err(error) => {
                let first = self.answered_before(&sender, request).await?;
                first.ok_or(error)?
            }
        };
        Ok(Written::of(&receipt, ()))
    }

    /// Whether this very request has been answered already, to the same token.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn has_erased(&self, token: SecretString, key: &str) -> Result<bool, ServiceError> {
        let request = Request {
            token: Some(token),
            ..Request::default()
        };
        match Self::leaver(&request) {
            Some(sender) => self.knows_key(&sender, key).await,
            None => Ok(false),
        }
    }

    /// Whose idempotency keys these are: of the token, as the person's end with it.
    fn leaver(request: &Request) -> Option<Sender> {
        let token = Token::parse(TokenKind::Session, request.token.as_ref()?)?;
        Some(Sender::Anonymous(format!("erasure {}", token.hash_text())))
    }

    async fn erase_now(
        &self,
        request: &Request,
        sender: &Sender,
        caller: Option<&Caller>,
        password: SecretString,
    ) -> Result<Receipt, ServiceError> {
        if let Some(receipt) = self.answered_before(sender, request).await? {
            return Ok(receipt);
        }
        let caller = caller.ok_or(ServiceError::Unauthenticated)?;
        let proven = self.prove_own_password(request, caller, password).await?;
        let proven = proven.ok_or(Refusal::WrongPassword)?;
        let receipt = self
            .submit(sender, request, None, || {
                self.compose_erasure(request, caller, &proven).boxed()
            })
            .await?;
        // What is put off here is due.
        if let Err(error) = self.forget_erased_keys().await {
            tracing::warn!(%error, "a destroyed key is forgotten a little later");
        }
        if let Err(error) = self.tell_organizations().await {
            tracing::warn!(%error, "organizations are told of an erasure a little later");
        }
        Ok(receipt)
    }

    async fn compose_erasure(
        &self,
        request: &Request,
        caller: &Caller,
        proven: &Proven,
    ) -> Result<Composed, ServiceError> {
        let traces = self.traces_of(caller.user).await?;
        let places = traces.organizations.len() + traces.workspaces.len();
        if places > PLACES_MAX {
            let most = PLACES_MAX;
            return Err(Refusal::TooManyMemberships { places, most }.into());
        }
        let mut streams = vec![caller.stream()];
        streams.extend(traces.organizations.iter().cloned());
        streams.extend(traces.workspaces.iter().cloned());
        let mut lookups: Vec<_> = traces.account.lookups().collect();
        lookups.push(Self::placed_lookup(caller.user));
        // Under the key of the account, which is destroyed in this very append.
        let origin = self.origin(caller, request, None, None).await?;
        let (caller, proven) = (caller.clone(), proven.clone());
        Ok(Composed {
            lane: caller.user.to_string(),
            streams,
            lookups,
            origin,
            decide: Box::new(move |desk| {
                let account = caller.stream();
                caller.is_live(desk)?;
                proven.holds(desk, &account)?;
                traces.leave(desk, caller.user)?;
                let session = caller.session;
                desk.execute::<User>(&account, UserCommand::Erase { session }, &[])?;
                traces.end_account(desk, caller.user)?;
                Ok(Made::Nothing.outcome(204))
            }),
        })
    }

    async fn traces_of(&self, user: UserId) -> Result<Traces, ServiceError> {
        let store = self.journal.store();
        let parameters = vec![user.to_string().into(), ACCOUNT.into()];
        let rows = store.query(SELECT_ACCOUNT, parameters).await?;
        let row = rows.first().ok_or(ServiceError::Unauthenticated)?;
        // Read first: what is given to them later than this moves it.
        let (account, placed) = (OneSubject::read(row)?, row.optional_text(4)?);
        Ok(Traces {
            account,
            placed: placed.map(str::to_owned),
            organizations: self.organizations_with(user).await?,
            workspaces: self.workspaces_with(user).await?,
        })
    }

    /// Every organization that somebody has a role in.
    async fn organizations_with(&self, user: UserId) -> Result<Vec<StreamRef>, ServiceError> {
        let roles = self.organization_members();
        let roles = roles.all_of_lookup(&user.to_string()).await?.into_iter();
        let streams = roles.map(|(_, role)| organization_stream(role.organization));
        Ok(streams.collect())
    }

    /// Every workspace that somebody is in, or audits.
    async fn workspaces_with(&self, user: UserId) -> Result<Vec<StreamRef>, ServiceError> {
        let user = user.to_string();
        let members = self.members().all_of_lookup(&user).await?.into_iter();
        let grants = self.auditors().all_of_lookup(&user).await?.into_iter();
        let found: BTreeSet<WorkspaceId> = members
            .map(|(_, member)| member.workspace)
            .chain(grants.map(|(_, grant)| grant.workspace))
            .collect();
        let stream = |id: WorkspaceId| StreamRef::of::<Workspace>(id, id);
        Ok(found.into_iter().map(stream).collect())
    }

    /// Tells the organizations that know somebody who has erased their account.
    pub(super) async fn tell_organizations(&self) -> Result<(), ServiceError> {
        let sql = format!("{SELECT_UNTOLD} LIMIT {}", stores::page_rows(TOLD_AT_ONCE));
        for row in self.journal.store().query(&sql, vec![]).await? {
            let untold = Untold {
                user: row.parsed(0)?,
                email_lookup: row.text(1)?.to_owned(),
                erased_at: Timestamp(row.integer(2)?),
            };
            // One that cannot be told keeps no other from being told; it stays due.
            if let Err(error) = self.tell_all_of(&untold).await {
                tracing::warn!(%error, user = %untold.user, "an erasure is told of later");
            }
        }
        Ok(())
    }

    async fn tell_all_of(&self, untold: &Untold) -> Result<(), ServiceError> {
        let store = self.journal.store();
        let user = untold.user.to_string();
        let parameters = vec![
            user.as_str().into(),
            ACCOUNT.into(),
            untold.email_lookup.as_str().into(),
        ];
        let mut copies: BTreeMap<String, Vec<OneSubject>> = BTreeMap::new();
        for row in store.query(SELECT_COPIES, parameters).await? {
            let copy = OneSubject::read(&row)?;
            copies.entry(copy.realm.clone()).or_default().push(copy);
        }
        for (realm, copies) in copies {
            let organization = realm.parse().map_err(|_| {
                ServiceError::Internal(format!("a subject is in {realm}, which is nowhere"))
            })?;
            match self.tell(organization, untold, copies).await {
                // Another process was first, or somebody was invited: seen at the next look.
                Err(SubmitError::Recompose) => return Ok(()),
                told => told?,
            }
        }
        let told = Statement::new(NOTE_TOLD, [user.into()]);
        store.execute(vec![told]).await?;
        Ok(())
    }

    /// Has one organization note until when it keeps its copies of somebody.
    async fn tell(
        &self,
        organization: OrganizationId,
        untold: &Untold,
        copies: Vec<OneSubject>,
    ) -> Result<(), SubmitError> {
        let stream = organization_stream(organization);
        let user = untold.user;
        let due_at = untold.erased_at.plus(self.settings.erasure_retention);
        let unit = Unit {
            lane: organization.to_string(),
            streams: vec![stream.clone()],
            lookups: copies.iter().flat_map(OneSubject::lookups).collect(),
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                for copy in &copies {
                    copy.give_up(desk, user, due_at, None)?;
                }
                let schedule = OrganizationCommand::ScheduleErasure { user, due_at };
                desk.execute::<Organization>(&stream, schedule, &[])?;
                Ok(Made::Nothing.outcome(200))
            }),
        };
        self.journal.submit(unit).await.map(drop)
    }

    /// Has the organizations whose retention is over, and which may, erase who is due. Answers how
    /// many were.
    pub(super) async fn erase_who_is_due(&self, at_once: u64) -> Result<u64, ServiceError> {
        let store = self.journal.store();
        let sql = format!("{SELECT_DUE} LIMIT {}", stores::page_rows(at_once));
        let now = self.source().now();
        let due = store.query(&sql, vec![now.0.into()]).await?;
        let mut erased = 0;
        for row in &due {
            let (organization, user) = (row.parsed(0)?, row.parsed(1)?);
            match self.erase_in(organization, user).await {
                Ok(is_new) => erased += u64::from(is_new),
                Err(error) => {
                    tracing::warn!(%error, %organization, %user, "it is erased later");
                }
            }
        }
        if erased > 0 {
            self.forget_erased_keys().await?;
        }
        Ok(erased)
    }

    async fn erase_in(
        &self,
        organization: OrganizationId,
        user: UserId,
    ) -> Result<bool, ServiceError> {
        let stream = organization_stream(organization);
        let unit = Unit {
            lane: organization.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                let now = desk.now();
                if !desk.read::<Organization>(&stream).erases(user, now) {
                    // Done by another process, or held, or due by this clock alone.
                    return Ok(Made::Nothing.outcome(0));
                }
                let erase = OrganizationCommand::ErasePerson { user };
                desk.execute::<Organization>(&stream, erase, &[])?;
                let in_realm = [organization.to_string().into(), user.to_string().into()];
                desk.write_beside(Statement::new(DESTROY_KEYS_IN_REALM, in_realm.clone()));
                desk.write_beside(Statement::new(DELETE_WORDS, in_realm));
                let parameters = [
                    now.0.into(),
                    organization.to_string().into(),
                    user.to_string().into(),
                ];
                desk.write_beside(Statement::new(NOTE_ERASED, parameters));
                Ok(Made::Nothing.outcome(200))
            }),
        };
        let committed = self.journal.submit(unit).await?;
        Ok(committed.outcome.status == 200)
    }

    /// Forgets keys that were destroyed, wherever that was done.
    pub(super) async fn forget_erased_keys(&self) -> Result<(), ServiceError> {
        let store = self.journal.store();
        let now = stores::head(&**store).await?.recorded_at;
        let since = now.plus(-FORGOTTEN_FOR);
        let rows = store.query(SELECT_ERASED, vec![since.0.into()]).await?;
        let subjects = rows.iter().map(|row| row.parsed(0).map(KeyOwner::Subject));
        let destroyed: HashSet<_> = subjects.collect::<Result<_, _>>()?;
        self.keyring.forget(&destroyed);
        Ok(())
    }
}

impl Traces {
    /// Takes them out of everything, unless something would be left without an owner.
    fn leave(&self, desk: &mut Desk<'_>, user: UserId) -> Result<(), Rejection> {
        if desk.holder(&Service::placed_lookup(user)) != self.placed.as_deref() {
            return Err(Rejection::Recompose);
        }
        let now = desk.now();
        let mut owned = Vec::new();
        for stream in &self.organizations {
            if desk.read::<Organization>(stream).is_last_owner(user) {
                owned.push(stream.id.clone());
            }
        }
        for stream in &self.workspaces {
            if desk.read::<Workspace>(stream).is_last_owner(user, now) {
                owned.push(stream.id.clone());
            }
        }
        if !owned.is_empty() {
            return Err(Refusal::LastOwnerOf { owned }.into());
        }
        for stream in &self.workspaces {
            leave_workspace(desk, stream, user)?;
        }
        for stream in &self.organizations {
            leave_organization(desk, stream, user)?;
        }
        Ok(())
    }

    /// Ends what is kept beside the log of the account, and destroys its key.
    fn end_account(&self, desk: &mut Desk<'_>, user: UserId) -> Result<(), Rejection> {
        let now = desk.now();
        self.account.give_up(desk, user, now, Some(now))?;
        let key = self.account.subject.to_string();
        desk.write_beside(Statement::new(DESTROY_KEY, [key.into()]));
        for row in [DELETE_PASSWORD, DELETE_TOKENS] {
            desk.write_beside(Statement::new(row, [user.to_string().into()]));
        }
        let untold = [
            user.to_string().into(),
            self.account.email_lookup.clone().unwrap_or_default().into(),
            now.0.into(),
        ];
        desk.write_beside(Statement::new(KEEP_UNTOLD, untold));
        Ok(())
    }
}

/// Takes somebody out of a workspace that they are in, or audit.
fn leave_workspace(desk: &mut Desk<'_>, stream: &StreamRef, user: UserId) -> Result<(), Rejection> {
    let now = desk.now();
    let command = match desk.read::<Workspace>(stream).standing(user, now) {
        Some(Standing::Member { .. }) => WorkspaceCommand::Leave { user },
        Some(Standing::Auditor { .. }) => WorkspaceCommand::RevokeAuditor { actor: user, user },
        None => return Ok(()),
    };
    Ok(desk.execute::<Workspace>(stream, command, &[])?)
}

/// The same of an organization that they have a role in.
fn leave_organization(
    desk: &mut Desk<'_>,
    stream: &StreamRef,
    user: UserId,
) -> Result<(), Rejection> {
    let organization = desk.read::<Organization>(stream);
    if organization.members().all(|(member, _)| member != user) {
        return Ok(());
    }
    let command = OrganizationCommand::RemoveMember { actor: user, user };
    Ok(desk.execute::<Organization>(stream, command, &[])?)
}
