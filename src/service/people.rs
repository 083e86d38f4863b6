//! People: whose key seals what, and what they are called.
//!
//! A person is one subject for their account and one for each organization that knows them,
//! each with its own key. Names are opened here and nowhere else.
//!
//! A subject that an invitation has made is nobody until whoever holds its address comes in.
//! **Once a subject is somebody, it is never somebody else**: an address that they have given up
//! leads to whoever has it next, and the subject and its keys stay with the person. It is
//! linked in the append, by a look-up that only a subject which is nobody passes
//! ([`super::introductions`]).

use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;

use super::{Service, ServiceError};
use crate::{
    domain::{
        EmailAddress,
        ids::{OrganizationId, SubjectId, UserId, WorkspaceId},
        sealed::{KeyOwner, Sealed},
    },
    journal::{
        Desk, LookupKey,
        sealing::DataKey,
        stores::{Statement, Store, StoreError, Value},
    },
    projections::{ACCOUNT, PersonField, SealedAt, person_key},
};

/// What some people are called in a realm.
#[derive(Debug)]
pub(super) struct Called(HashMap<(UserId, PersonField), Opened>);

/// What somebody is called.
#[derive(Debug)]
pub(super) struct CalledOne {
    pub email: Opened,
    pub name: Opened,
}

impl Called {
    /// Whoever the realm does not know is erased there.
    pub(super) fn of(&self, user: UserId) -> CalledOne {
        let field = |field| {
            let opened = self.0.get(&(user, field));
            opened.cloned().unwrap_or(Opened::Erased)
        };
        CalledOne {
            email: field(PersonField::Email),
            name: field(PersonField::Name),
        }
    }
}

/// A value that was opened, or whose key is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    Value(String),
    /// Its subject was erased.
    Erased,
}

impl Opened {
    /// The value; `erased` where it is gone.
    pub fn into_text(self) -> String {
        match self {
            Self::Value(value) => value,
            Self::Erased => "erased".to_owned(),
        }
    }
}

const INSERT_SUBJECT: &str = "
INSERT INTO subjects (subject, realm, user_id, email_lookup, created_at)
VALUES ($1, $2, $3, $4, $5)";

const LINK_SUBJECT: &str = "
UPDATE subjects
   SET user_id = $1
 WHERE subject = $2 AND user_id IS NULL";

const MOVE_EMAIL: &str = "
UPDATE subjects
   SET email_lookup = $1
 WHERE subject = $2";

const FORGET_EMAIL: &str = "
UPDATE subjects
   SET email_lookup = NULL
 WHERE subject = $1";

const NOTE_PLACED: &str = "
UPDATE subjects
   SET placed = $1
 WHERE user_id = $2 AND realm = $3";

const SELECT_PERSON: &str = "
SELECT user_id
  FROM subjects
 WHERE subject = $1";

const SELECT_BY_USER: &str = "
SELECT subject
  FROM subjects
 WHERE user_id = $1 AND realm = $2
 ORDER BY subject
 LIMIT 1";

const SELECT_BY_EMAIL: &str = "
SELECT subject, user_id
  FROM subjects
 WHERE realm = $1 AND email_lookup = $2";

const SELECT_LOOKUP: &str = "
SELECT email_lookup
  FROM subjects
 WHERE user_id = $1 AND realm = $2
 ORDER BY subject
 LIMIT 1";

const SELECT_REALMS: &str = "
SELECT DISTINCT realm
  FROM subjects
 WHERE user_id = $1
 ORDER BY realm";

/// Which subject a person is where.
#[derive(Debug)]
pub(super) struct Subjects {
    store: Arc<dyn Store>,
    in_memory: Mutex<LruCache<(UserId, String), SubjectId>>,
}

const SUBJECTS_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(50_000).unwrap();

/// Somebody found by an e-mail address in a realm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundSubject {
    pub subject: SubjectId,
    pub user: Option<UserId>,
}

impl Subjects {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            in_memory: Mutex::new(LruCache::new(SUBJECTS_IN_MEMORY)),
        }
    }

    async fn of_user(&self, user: UserId, realm: &str) -> Result<Option<SubjectId>, StoreError> {
        let key = (user, realm.to_owned());
        if let Some(subject) = self.memory().get(&key) {
            return Ok(Some(*subject));
        }
        let parameters = vec![user.to_string().into(), realm.into()];
        let rows = self.store.query(SELECT_BY_USER, parameters).await?;
        let subject = rows.first().map(|row| row.parsed(0)).transpose()?;
        if let Some(subject) = subject {
            self.memory().put(key, subject);
        }
        Ok(subject)
    }

    pub(super) async fn of_email(
        &self,
        realm: &str,
        lookup: &str,
    ) -> Result<Option<FoundSubject>, StoreError> {
        let rows = self
            .store
            .query(SELECT_BY_EMAIL, vec![realm.into(), lookup.into()])
            .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let user = row.optional_text(1)?.map(|_| row.parsed(1)).transpose()?;
        Ok(Some(FoundSubject {
            subject: row.parsed(0)?,
            user,
        }))
    }

    /// Whether a subject is nobody yet.
    pub(super) async fn is_nobody(&self, subject: SubjectId) -> Result<bool, StoreError> {
        let parameters = vec![subject.to_string().into()];
        let rows = self.store.query(SELECT_PERSON, parameters).await?;
        let user = rows.first().map(|row| row.optional_text(0)).transpose()?;
        Ok(user == Some(None))
    }

    /// What the address of somebody's account is looked up by.
    pub(super) async fn lookup_of_account(
        &self,
        user: UserId,
    ) -> Result<Option<String>, StoreError> {
        let parameters = vec![user.to_string().into(), ACCOUNT.into()];
        let rows = self.store.query(SELECT_LOOKUP, parameters).await?;
        let lookup = rows.first().map(|row| row.optional_text(0)).transpose()?;
        Ok(lookup.flatten().map(str::to_owned))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, LruCache<(UserId, String), SubjectId>> {
        self.in_memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subject that is being made, with everything that keeps it.
pub(super) struct NewSubject {
    pub subject: SubjectId,
    pub key: Arc<DataKey>,
    /// To be written in the append whose events are sealed under the key.
    pub statements: [Statement; 2],
}

impl Service {
    /// What an address is looked up by.
    pub(super) fn email_lookup(&self, email: &EmailAddress) -> String {
        self.keyring.lookup("email", &email.normalized())
    }

    /// The claim of an address in a realm.
    pub(super) fn email_claim(realm: impl ToString, lookup: &str) -> LookupKey {
        LookupKey::Email {
            realm: realm.to_string(),
            lookup: lookup.to_owned(),
        }
    }

    /// A new subject in a realm, with its key; found by an address where one is given.
    pub(super) fn new_subject(
        &self,
        realm: impl ToString,
        user: Option<UserId>,
        email_lookup: Option<&str>,
    ) -> NewSubject {
        let subject = SubjectId::from_uuid(self.source().uuid());
        let (key, keep_key) = self.keyring.create(KeyOwner::Subject(subject));
        let parameters: [Value; 5] = [
            subject.to_string().into(),
            realm.to_string().into(),
            Value::Text(user.map(|user| user.to_string())),
            Value::Text(email_lookup.map(str::to_owned)),
            self.source().now().0.into(),
        ];
        let keep_subject = Statement::new(INSERT_SUBJECT, parameters);
        NewSubject {
            subject,
            key,
            statements: [keep_subject, keep_key],
        }
    }

    /// Who a subject is.
    pub(super) fn person_lookup(subject: SubjectId) -> LookupKey {
        LookupKey::Person {
            subject: subject.to_string(),
        }
    }

    /// Where somebody was last given something.
    pub(super) fn placed_lookup(user: UserId) -> LookupKey {
        LookupKey::Placed {
            realm: ACCOUNT.to_owned(),
            user: user.to_string(),
        }
    }

    /// Notes that somebody is given something: to be known in an organization, a workspace, a role
    /// or a grant. Who has composed their erasure before looks again, so that nothing is left of
    /// them anywhere ([`super::erasure`]). The unit must name [`Self::placed_lookup`].
    pub(super) fn note_placed(desk: &mut Desk<'_>, user: UserId) {
        let position = desk.next_position().to_string();
        desk.hold(&Self::placed_lookup(user), Some(position.clone()));
        let parameters = [position.into(), user.to_string().into(), ACCOUNT.into()];
        desk.write_beside(Statement::new(NOTE_PLACED, parameters));
    }

    /// Says that a subject, which is nobody yet, is this person.
    pub(super) fn link_subject(user: UserId, subject: SubjectId) -> Statement {
        Statement::new(
            LINK_SUBJECT,
            [user.to_string().into(), subject.to_string().into()],
        )
    }

    /// Lets a subject be found by no address any more.
    pub(super) fn forget_email(subject: SubjectId) -> Statement {
        Statement::new(FORGET_EMAIL, [subject.to_string().into()])
    }

    /// Gives a subject another address.
    pub(super) fn move_email(subject: SubjectId, email_lookup: &str) -> Statement {
        Statement::new(
            MOVE_EMAIL,
            [email_lookup.into(), subject.to_string().into()],
        )
    }

    /// The subject of a person in an organization, or of their account.
    pub(super) async fn subject_of(
        &self,
        user: UserId,
        organization: Option<OrganizationId>,
    ) -> Result<Option<SubjectId>, ServiceError> {
        let realm = organization.map_or_else(|| ACCOUNT.to_owned(), |id| id.to_string());
        Ok(self.subjects.of_user(user, &realm).await?)
    }

    /// The key that seals what is personal of somebody in an organization: theirs there, or
    /// that of their account where the organization does not know them.
    pub(super) async fn person_key(
        &self,
        user: UserId,
        organization: Option<OrganizationId>,
    ) -> Result<Option<Arc<DataKey>>, ServiceError> {
        if organization.is_some()
            && let Some(subject) = self.subject_of(user, organization).await?
        {
            return Ok(self.keyring.newest(KeyOwner::Subject(subject)).await?);
        }
        match self.subject_of(user, None).await? {
            Some(subject) => Ok(self.keyring.newest(KeyOwner::Subject(subject)).await?),
            None => Ok(None),
        }
    }

    /// The organizations that keep a copy of a person's profile.
    pub(super) async fn organizations_knowing(
        &self,
        user: UserId,
    ) -> Result<Vec<OrganizationId>, ServiceError> {
        let store = self.journal.store();
        let rows = store
            .query(SELECT_REALMS, vec![user.to_string().into()])
            .await?;
        let realms = rows
            .iter()
            .filter(|row| row.text(0).is_ok_and(|realm| realm != ACCOUNT));
        Ok(realms.map(|row| row.parsed(0)).collect::<Result<_, _>>()?)
    }

    /// The key that seals the free text, and the contents, of a workspace.
    ///
    /// # Errors
    /// When there is none: nothing new is said in a workspace whose key was destroyed.
    pub(super) async fn workspace_key(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Arc<DataKey>, ServiceError> {
        let key = self.keyring.newest(KeyOwner::Workspace(workspace)).await?;
        key.ok_or_else(|| ServiceError::Internal(format!("{workspace} has no key")))
    }

    /// Opens what there may be none of: `erased` where its key is gone.
    pub(super) async fn opened(
        &self,
        sealed: Option<&SealedAt>,
    ) -> Result<Option<String>, ServiceError> {
        match sealed {
            Some(sealed) => Ok(Some(self.open(sealed).await?.into_text())),
            None => Ok(None),
        }
    }

    /// Opens a sealed field where it was sealed for.
    pub(super) async fn open(&self, sealed: &SealedAt) -> Result<Opened, ServiceError> {
        self.open_field(&sealed.sealed, sealed.event, &sealed.field)
            .await
    }

    pub(super) async fn open_field(
        &self,
        sealed: &Sealed,
        event: crate::domain::ids::EventId,
        field: &str,
    ) -> Result<Opened, ServiceError> {
        let Some(key) = self.keyring.key(sealed.subject, sealed.key_version).await? else {
            return Ok(Opened::Erased);
        };
        let opened = key.open(sealed, event, field);
        opened.map(Opened::Value).map_err(|error| {
            ServiceError::Internal(format!("field {field} of event {event}: {error}"))
        })
    }

    /// What one person is called in a realm, as it was at `position`, or now.
    pub(super) async fn called_one(
        &self,
        realm: &str,
        user: UserId,
        position: Option<u64>,
    ) -> Result<CalledOne, ServiceError> {
        Ok(self.called(realm, [user], position).await?.of(user))
    }

    /// What people are called in a realm, as it was at `position` (now, where none is given).
    pub(super) async fn called(
        &self,
        realm: &str,
        users: impl IntoIterator<Item = UserId>,
        position: Option<u64>,
    ) -> Result<Called, ServiceError> {
        let users: BTreeSet<UserId> = users.into_iter().collect();
        let fields = [PersonField::Email, PersonField::Name];
        let parents: Vec<String> = users
            .iter()
            .flat_map(|user| fields.map(|field| person_key(realm, user, field)))
            .collect();
        let rows = self.people().of_parents(&parents).await?;
        let mut newest: HashMap<(UserId, PersonField), SealedAt> = HashMap::new();
        for (_, row) in rows {
            if position.is_none_or(|position| row.since <= position) {
                newest.insert((row.user, row.field), row.value);
            }
        }
        let mut opened = HashMap::with_capacity(newest.len());
        for (of, sealed) in newest {
            opened.insert(of, self.open(&sealed).await?);
        }
        Ok(Called(opened))
    }
}
