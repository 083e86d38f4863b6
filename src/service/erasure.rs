//! Erasing: somebody destroys what opens what is personal of them.
//!
//! **At once**, in one commit: they leave every workspace and organization, their sessions and
//! password are gone, their addresses are free, and the key of their account is destroyed, under
//! which also the addresses and user agents of this request are sealed. **After its retention**,
//! each organization that knows them destroys the key of its own copy: due work, decided by the
//! organization, which refuses it as long as one of its workspaces is under a legal hold.
//!
//! A key and the event that says that it is gone are written by one append: whoever is killed in
//! between has done both or neither. What stays is the log itself, with nothing that opens it.
//! Other processes forget a destroyed key when they next look for due work.

use std::collections::BTreeSet;

use futures::FutureExt;
use secrecy::SecretString;

use super::{
    Caller, Request, Service, ServiceError, Written,
    password_change::Proven,
    write::{Composed, Made, Sender},
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
        Desk, LookupKey, Origin, Rejection, StreamRef, Unit,
        stores::{self, Statement},
    },
    projections::ACCOUNT,
};

/// How many memberships are read at once.
const PAGE: u64 = 200;
/// For how long after a key was destroyed processes go on forgetting it.
const FORGOTTEN_FOR: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

/// Also what invitations have made of the address, and nobody has become.
const SELECT_SUBJECTS: &str = "
SELECT subject, realm, email_lookup
  FROM subjects
 WHERE user_id = $1
    OR (user_id IS NULL AND email_lookup = $2)
 ORDER BY subject";

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

const SELECT_DUE: &str = "
SELECT DISTINCT e.realm, e.user_id
  FROM erasures e
 WHERE e.erased_at IS NULL AND e.due_at <= $1
   AND NOT EXISTS (SELECT 1 FROM legal_holds h WHERE h.realm = e.realm)
 ORDER BY e.realm, e.user_id";

const SELECT_ERASED: &str = "
SELECT subject
  FROM erasures
 WHERE erased_at > $1";

/// One of the subjects that somebody is.
#[derive(Debug, Clone)]
struct OneSubject {
    subject: SubjectId,
    realm: String,
    email_lookup: Option<String>,
}

impl OneSubject {
    fn is_account(&self) -> bool {
        self.realm == ACCOUNT
    }

    /// By what it is found, as long as it is.
    fn claim(&self) -> Option<LookupKey> {
        let lookup = self.email_lookup.as_ref()?;
        Some(Service::email_claim(&self.realm, lookup))
    }

    /// Lets nobody find it any more, and notes when its key goes.
    fn give_up(
        &self,
        desk: &mut Desk<'_>,
        user: UserId,
        due_at: Timestamp,
    ) -> Result<(), Rejection> {
        if let Some(claim) = self.claim() {
            if desk.holder(&claim) != Some(&*self.subject.to_string()) {
                return Err(Rejection::Recompose);
            }
            desk.hold(&claim, None);
        }
        let person = Service::person_lookup(self.subject);
        match desk.holder(&person).map(str::to_owned) {
            None => {
                desk.hold(&person, Some(user.to_string()));
                desk.write_beside(Service::link_subject(user, self.subject));
            }
            Some(present) if present == user.to_string() => {}
            Some(_) => return Err(Rejection::Recompose),
        }
        desk.write_beside(Service::forget_email(self.subject));
        let subject = self.subject.to_string();
        let erased_at = match self.is_account() {
            true => {
                let key = subject.clone().into();
                desk.write_beside(Statement::new(DESTROY_KEY, [key]));
                stores::Value::Integer(Some(due_at.0))
            }
            false => stores::Value::Integer(None),
        };
        let parameters = [
            subject.into(),
            self.realm.clone().into(),
            user.to_string().into(),
            due_at.0.into(),
            erased_at,
        ];
        desk.write_beside(Statement::new(KEEP_ERASURE, parameters));
        Ok(())
    }
}

/// Everything that somebody leaves behind.
struct Traces {
    subjects: Vec<OneSubject>,
    organizations: Vec<OrganizationId>,
    workspaces: Vec<(WorkspaceId, StreamRef)>,
}

impl Service {
    /// Erases the caller's account, at once and for good; each organization erases its copy after
    /// its retention, unless there is a legal hold.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`]; [`Refusal::LastOwner`] or [`Refusal::LastOrganizationOwner`]
    /// where something would be left without an owner: hand it over first.
    pub async fn erase_account(
        &self,
        request: &Request,
        caller: &Caller,
        password: SecretString,
    ) -> Result<Written<()>, ServiceError> {
        let sender = Sender::Person(caller.clone());
        let proven = self.prove_own_password(request, caller, password).await?;
        let proven = proven.ok_or(Refusal::WrongPassword)?;
        let receipt = self
            .submit(&sender, request, None, || {
                self.compose_erasure(request, caller, &proven).boxed()
            })
            .await?;
        self.forget_erased_keys().await?;
        Ok(Written::of(&receipt, ()))
    }

    async fn compose_erasure(
        &self,
        request: &Request,
        caller: &Caller,
        proven: &Proven,
    ) -> Result<Composed, ServiceError> {
        let traces = self.traces_of(caller.user).await?;
        let (account, user, session) = (caller.stream(), caller.user, caller.session);
        let known = |id: &OrganizationId| StreamRef::of::<Organization>(*id, *id);
        let organizations: Vec<_> = traces.organizations.iter().map(known).collect();
        let mut streams = vec![account.clone()];
        streams.extend(organizations.iter().cloned());
        streams.extend(traces.workspaces.iter().map(|(_, stream)| stream.clone()));
        let claims = traces.subjects.iter().filter_map(OneSubject::claim);
        let people = traces
            .subjects
            .iter()
            .map(|one| Self::person_lookup(one.subject));
        let lookups = claims.chain(people).collect();
        // Under the key of the account, which is destroyed in this very append.
        let origin = self.origin(caller, request, None, None).await?;
        let (caller, proven) = (caller.clone(), proven.clone());
        let retention = self.settings.erasure_retention;
        Ok(Composed {
            lane: user.to_string(),
            streams,
            lookups,
            origin,
            decide: Box::new(move |desk| {
                caller.is_live(desk)?;
                proven.holds(desk, &account)?;
                for (_, stream) in &traces.workspaces {
                    leave(desk, stream, user)?;
                }
                let now = desk.now();
                let due_at = now.plus(retention);
                for stream in &organizations {
                    leave_organization(desk, stream, user)?;
                    let schedule = OrganizationCommand::ScheduleErasure { user, due_at };
                    desk.execute::<Organization>(stream, schedule, &[])?;
                }
                let erase = UserCommand::Erase {
                    session,
                    organizations: traces.organizations.clone(),
                };
                desk.execute::<User>(&account, erase, &[])?;
                for subject in &traces.subjects {
                    let due_at = if subject.is_account() { now } else { due_at };
                    subject.give_up(desk, user, due_at)?;
                }
                for row in [DELETE_PASSWORD, DELETE_TOKENS] {
                    desk.write_beside(Statement::new(row, [user.to_string().into()]));
                }
                Ok(Made::Nothing.outcome(204))
            }),
        })
    }

    async fn traces_of(&self, user: UserId) -> Result<Traces, ServiceError> {
        let lookup = self.subjects.lookup_of_account(user).await?;
        let lookup = lookup.ok_or(ServiceError::Unauthenticated)?;
        let store = self.journal.store();
        let parameters = vec![user.to_string().into(), lookup.into()];
        let rows = store.query(SELECT_SUBJECTS, parameters).await?;
        let mut subjects = Vec::with_capacity(rows.len());
        let mut organizations = BTreeSet::new();
        for row in &rows {
            let one = OneSubject {
                subject: row.parsed(0)?,
                realm: row.text(1)?.to_owned(),
                email_lookup: row.optional_text(2)?.map(str::to_owned),
            };
            if !one.is_account() {
                organizations.insert(row.parsed(1)?);
            }
            subjects.push(one);
        }
        Ok(Traces {
            subjects,
            organizations: organizations.into_iter().collect(),
            workspaces: self.workspaces_with(user).await?,
        })
    }

    /// Every workspace that somebody is in, or audits.
    async fn workspaces_with(
        &self,
        user: UserId,
    ) -> Result<Vec<(WorkspaceId, StreamRef)>, ServiceError> {
        let (user, mut found) = (user.to_string(), BTreeSet::new());
        let mut after: Option<String> = None;
        loop {
            let members = self.members();
            let page = members
                .page_of_lookup(&user, after.as_deref(), PAGE)
                .await?;
            found.extend(page.items.iter().map(|(_, member)| member.workspace));
            after = page.items.last().map(|(key, _)| key.clone());
            if !page.more {
                break;
            }
        }
        after = None;
        loop {
            let grants = self.auditors();
            let page = grants.page_of_lookup(&user, after.as_deref(), PAGE).await?;
            found.extend(page.items.iter().map(|(_, grant)| grant.workspace));
            after = page.items.last().map(|(key, _)| key.clone());
            if !page.more {
                break;
            }
        }
        let stream = |id: WorkspaceId| (id, StreamRef::of::<Workspace>(id, id));
        Ok(found.into_iter().map(stream).collect())
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
            erased += u64::from(self.erase_in(row.parsed(0)?, row.parsed(1)?).await?);
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
        let stream = StreamRef::of::<Organization>(organization, organization);
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
        for row in &rows {
            self.keyring.forget(KeyOwner::Subject(row.parsed(0)?));
        }
        Ok(())
    }
}

/// Takes somebody out of a workspace that they are in, or audit.
fn leave(desk: &mut Desk<'_>, stream: &StreamRef, user: UserId) -> Result<(), Rejection> {
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
