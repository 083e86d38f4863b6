//! The audit log: entries of a workspace or an organization, as an auditor reads them.
//!
//! The index says which entries; each is read from the log itself, described, and its
//! sealed fields opened: names as they were at its position.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value as Json;

use super::{Caller, Opened, Request, Service, ServiceError};
use crate::{
    domain::{
        Refusal, Timestamp,
        authority::{Actor, OrganizationPermission, Permission},
        ids::{EventId, OrganizationId, UserId, WorkspaceId},
    },
    journal::{
        Recorded, StoredEvent,
        entry::{CONTEXT, REASON},
        stores::{self, Value},
    },
    projections::{
        ACCOUNT, Found, PersonField, SealedAt,
        audit::{self, AuditOutcome, Change, Description, Shown},
        person_key,
    },
};

/// Words of a free-text search that are looked at.
const WORDS_MAX: usize = 8;

/// Whose log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditScope {
    Workspace(WorkspaceId),
    /// Everything in the organization, without what changed inside crews.
    Organization(OrganizationId),
}

/// The order of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// Which entries; each condition that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// The id of a principal, or `system`.
    pub actor: Option<String>,
    pub action: Option<String>,
    /// The id of what was made or changed.
    pub target: Option<String>,
    pub crew: Option<String>,
    pub environment: Option<String>,
    pub outcome: Option<String>,
    /// Recorded at this time or later.
    pub from: Option<Timestamp>,
    /// Recorded before this time.
    pub to: Option<Timestamp>,
    /// Positions after this one.
    pub after: Option<u64>,
    /// Positions before this one.
    pub before: Option<u64>,
    /// Words that must all occur, in any order.
    pub words: Option<String>,
    pub order: Order,
}

/// Who acted.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryActor {
    /// `user` or `system`.
    pub kind: &'static str,
    pub id: Option<String>,
    /// As it was then; none where nobody here knows it.
    pub name: Option<String>,
}

/// What was made or changed.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryTarget {
    pub kind: &'static str,
    pub id: String,
    pub name: Option<String>,
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryChange {
    pub path: &'static str,
    pub from: Json,
    pub to: Json,
}

/// An entry as an auditor reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    pub position: u64,
    pub id: EventId,
    pub recorded_at: Timestamp,
    pub action: String,
    pub outcome: AuditOutcome,
    pub actor: EntryActor,
    pub target: EntryTarget,
    pub organization: Option<OrganizationId>,
    pub workspace: Option<String>,
    pub changes: Vec<EntryChange>,
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub leaf: [u8; 32],
    /// The exact bytes of the entry.
    pub canonical: String,
}

/// A page of entries.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditPage {
    pub entries: Vec<AuditEntry>,
    /// Whether there are more in this order.
    pub more: bool,
    /// The position that it was read at.
    pub position: u64,
}

/// What people were called, by realm, person and position.
type Names = HashMap<(String, UserId), Vec<(u64, Opened)>>;

impl Service {
    /// A page of entries, going on after the position `cursor` in the filter's order.
    ///
    /// # Errors
    /// A refusal unless the caller may read this log.
    pub async fn audit(
        &self,
        request: &Request,
        caller: &Caller,
        scope: AuditScope,
        filter: &AuditFilter,
        cursor: Option<u64>,
        limit: u64,
    ) -> Result<AuditPage, ServiceError> {
        self.may_read_audit(request, caller, scope).await?;
        let position = stores::head(&**self.journal.store()).await?.position;
        let (sql, parameters) = self.audit_query(scope, filter, cursor, limit).await?;
        let rows = self.journal.store().query(&sql, parameters).await?;
        let mut positions = rows
            .iter()
            .map(|row| row.count(0))
            .collect::<Result<Vec<_>, _>>()?;
        let more = positions.len() as u64 > limit;
        positions.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut entries = self.entries(&positions).await?;
        if filter.order == Order::NewestFirst {
            entries.reverse();
        }
        Ok(AuditPage {
            entries,
            more,
            position,
        })
    }

    /// The entry at a position.
    ///
    /// # Errors
    /// A refusal unless the caller may read this log; [`Refusal::NotFound`] when the entry
    /// is not in it.
    pub async fn audit_entry(
        &self,
        request: &Request,
        caller: &Caller,
        scope: AuditScope,
        position: u64,
    ) -> Result<Found<AuditEntry>, ServiceError> {
        self.may_read_audit(request, caller, scope).await?;
        let read_at = stores::head(&**self.journal.store()).await?.position;
        let filter = AuditFilter {
            after: position.checked_sub(1),
            before: position.checked_add(1),
            ..AuditFilter::default()
        };
        let (sql, parameters) = self.audit_query(scope, &filter, None, 1).await?;
        let found = self.journal.store().query(&sql, parameters).await?;
        let missing = Refusal::NotFound {
            what: "entry",
            hidden: false,
        };
        if found.is_empty() {
            return Err(missing.into());
        }
        let entry = self.entries(&[position]).await?.pop();
        Ok(Found {
            position: read_at,
            value: entry.ok_or(missing)?,
        })
    }

    async fn may_read_audit(
        &self,
        request: &Request,
        caller: &Caller,
        scope: AuditScope,
    ) -> Result<(), ServiceError> {
        match scope {
            AuditScope::Workspace(workspace) => {
                let permission = Permission::ReadAudit;
                self.may_in_workspace(request, caller, workspace, permission, "audit.read")
                    .await?;
            }
            AuditScope::Organization(organization) => {
                let permission = OrganizationPermission::ReadAudit;
                self.may_in_organization(request, caller, organization, permission, "audit.read")
                    .await?;
            }
        }
        Ok(())
    }

    async fn audit_query(
        &self,
        scope: AuditScope,
        filter: &AuditFilter,
        cursor: Option<u64>,
        limit: u64,
    ) -> Result<(String, Vec<Value>), ServiceError> {
        let mut query = Conditions::default();
        match scope {
            AuditScope::Workspace(id) => query.equals("workspace", Some(id.to_string())),
            AuditScope::Organization(id) => query.equals("organization", Some(id.to_string())),
        }
        match filter.actor.as_deref() {
            // Due work: nobody's id is in the index.
            Some("system") => query.sql.push("actor IS NULL".to_owned()),
            _ => query.equals("actor", filter.actor.clone()),
        }
        query.equals("action", filter.action.clone());
        query.equals("target", filter.target.clone());
        query.equals("crew", filter.crew.clone());
        query.equals("environment", filter.environment.clone());
        query.equals("outcome", filter.outcome.clone());
        query.compare("position", ">", filter.after);
        query.compare("position", "<", filter.before);
        let store = &**self.journal.store();
        if let Some(from) = filter.from {
            let before_it = stores::last_position_at(store, Timestamp(from.0 - 1)).await?;
            query.compare("position", ">", Some(before_it));
        }
        if let Some(to) = filter.to {
            let last = stores::last_position_at(store, Timestamp(to.0 - 1)).await?;
            query.compare("position", "<=", Some(last));
        }
        for word in filter
            .words
            .iter()
            .flat_map(|words| words.split_whitespace())
            .take(WORDS_MAX)
        {
            query.contains("words", word);
        }
        let (further, direction) = match filter.order {
            Order::NewestFirst => ("<", "DESC"),
            Order::OldestFirst => (">", "ASC"),
        };
        query.compare("position", further, cursor);
        let table = self.engine.table(audit::NAME);
        Ok(query.finish(&table, direction, limit + 1))
    }

    /// The entries at these positions, oldest first.
    async fn entries(&self, positions: &[u64]) -> Result<Vec<AuditEntry>, ServiceError> {
        let stored = stores::events_at(&**self.journal.store(), positions).await?;
        let mut described = Vec::with_capacity(stored.len());
        for event in stored {
            let recorded = event.decode()?;
            let description = audit::describe(&recorded);
            described.push((event, recorded, description));
        }
        let names = self.names_in(&described).await?;
        let mut entries = Vec::with_capacity(described.len());
        for (stored, recorded, description) in described {
            entries.push(self.entry(&stored, &recorded, description, &names).await?);
        }
        Ok(entries)
    }

    /// What everybody in these entries has been called.
    async fn names_in(
        &self,
        described: &[(StoredEvent, Recorded, Description)],
    ) -> Result<Names, ServiceError> {
        let mut wanted = BTreeSet::new();
        for (_, recorded, description) in described {
            let realm = realm_of(recorded);
            let target = (description.target.0 == "user").then(|| description.target.1.parse());
            let target = target.and_then(Result::ok);
            for user in description.actor.user().into_iter().chain(target) {
                wanted.insert(person_key(&realm, &user, PersonField::Name));
            }
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        let mut names = Names::new();
        for (_, row) in self.people().of_parents(&wanted).await? {
            let name = self.open(&row.value).await?;
            names
                .entry((row.realm, row.user))
                .or_default()
                .push((row.since, name));
        }
        Ok(names)
    }

    async fn entry(
        &self,
        stored: &StoredEvent,
        recorded: &Recorded,
        description: Description,
        names: &Names,
    ) -> Result<AuditEntry, ServiceError> {
        let called = description.new_name().map(str::to_owned);
        let mut changes = Vec::with_capacity(description.changes.len());
        for change in description.changes {
            changes.push(self.change(recorded.id, change).await?);
        }
        let metadata = &recorded.metadata;
        let reason = self
            .metadata_text(recorded.id, REASON, metadata.reason.as_ref())
            .await?;
        let context = self
            .metadata_text(recorded.id, CONTEXT, metadata.context.as_ref())
            .await?;
        let context: Json = context
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or(Json::Null);
        let of_context = |member: &str| context[member].as_str().map(str::to_owned);
        let named = |user: UserId| name_then(names, &realm_of(recorded), user, recorded.position);
        let (kind, id) = description.target;
        let target_name = match kind {
            "user" => id.parse().ok().and_then(named),
            "workspace" | "organization" => called,
            _ => None,
        };
        Ok(AuditEntry {
            position: recorded.position,
            id: recorded.id,
            recorded_at: recorded.recorded_at,
            action: description.action,
            outcome: description.outcome,
            actor: EntryActor {
                kind: match description.actor {
                    Actor::User { .. } => "user",
                    Actor::System => "system",
                },
                id: description.actor.user().map(|user| user.to_string()),
                name: description.actor.user().and_then(named),
            },
            target: EntryTarget {
                kind,
                id,
                name: target_name,
            },
            organization: metadata.organization,
            workspace: recorded
                .scope
                .parse::<WorkspaceId>()
                .ok()
                .map(|id| id.to_string()),
            changes,
            reason,
            request_id: metadata.request_id.clone(),
            ip: of_context("ip"),
            user_agent: of_context("user_agent"),
            leaf: stored.leaf,
            canonical: stored.canonical(),
        })
    }

    async fn change(&self, event: EventId, change: Change) -> Result<EntryChange, ServiceError> {
        Ok(EntryChange {
            path: change.path,
            from: self.shown_value(event, change.from).await?,
            to: self.shown_value(event, change.to).await?,
        })
    }

    async fn shown_value(&self, event: EventId, shown: Shown) -> Result<Json, ServiceError> {
        match shown {
            Shown::Plain(value) => Ok(value),
            Shown::Sealed { field, sealed } => {
                let sealed = SealedAt {
                    event,
                    field: field.to_owned(),
                    sealed,
                };
                Ok(Json::String(self.open(&sealed).await?.into_text()))
            }
        }
    }

    async fn metadata_text(
        &self,
        event: EventId,
        field: &str,
        sealed: Option<&crate::domain::sealed::Sealed>,
    ) -> Result<Option<String>, ServiceError> {
        match sealed {
            Some(sealed) => Ok(Some(
                self.open_field(sealed, event, field).await?.into_text(),
            )),
            None => Ok(None),
        }
    }
}

/// Who knows the people in an entry: its organization, else the account itself.
fn realm_of(recorded: &Recorded) -> String {
    let organization = recorded.metadata.organization;
    organization.map_or_else(|| ACCOUNT.to_owned(), |id| id.to_string())
}

fn name_then(names: &Names, realm: &str, user: UserId, position: u64) -> Option<String> {
    let known = names.get(&(realm.to_owned(), user))?;
    let then = known.iter().rev().find(|(since, _)| *since <= position);
    // Who acts in the unit that makes them known is known from a later event of it.
    let name = then.or_else(|| known.first())?;
    Some(name.1.clone().into_text())
}

/// The conditions of a query on the index, with their parameters.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    parameters: Vec<Value>,
}

impl Conditions {
    fn equals(&mut self, column: &str, value: Option<String>) {
        if let Some(value) = value {
            self.parameters.push(value.into());
            self.sql
                .push(format!("{column} = ${}", self.parameters.len()));
        }
    }

    fn compare(&mut self, column: &str, operator: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.parameters.push(value.into());
            self.sql
                .push(format!("{column} {operator} ${}", self.parameters.len()));
        }
    }

    fn contains(&mut self, column: &str, word: &str) {
        let escaped = word
            .to_lowercase()
            .replace('\\', "\\\\")
            .replace('%', "\\%")
            .replace('_', "\\_");
        self.parameters.push(format!("%{escaped}%").into());
        self.sql.push(format!(
            "{column} LIKE ${} ESCAPE '\\'",
            self.parameters.len()
        ));
    }

    /// At least `limit` rows, where there are as many.
    fn finish(self, table: &str, direction: &str, limit: u64) -> (String, Vec<Value>) {
        let sql = format!(
            "SELECT position FROM {table} WHERE {} ORDER BY position {direction} LIMIT {}",
            self.sql.join(" AND "),
            stores::page_rows(limit)
        );
        (sql, self.parameters)
    }
}
