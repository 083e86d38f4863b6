//! The audit log: entries of a workspace or an organization, as an auditor reads them.
//!
//! The index says which entries; each is read from the log itself, described, and its
//! sealed fields opened: names as they were at its position.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value as Json;

use super::{
    Opened, Principal, Request, Service, ServiceError,
    ocsf::{Activity, activity_of},
};
use crate::{
    domain::{
        Refusal, Timestamp,
        authority::{Actor, OrganizationPermission, Permission},
        contents::{Content, Difference, differences},
        crew::{CrewEvent, Item},
        environment::Environment,
        event::Event,
        ids::{CrewId, EventId, OrganizationId, UserId, WorkspaceId},
        sealed::Sealed,
    },
    journal::{
        Recorded, StoredEvent,
        entry::{CONTEXT, REASON},
        stores,
    },
    projections::{
        ACCOUNT, Found, PersonField, SealedAt,
        audit::{self, AuditOutcome, Change, Description, Shown},
        audit_index::{self, Column, Order, Search, Searched},
        person_key,
    },
};

/// The kind of a key, as actor and as target.
const KEY: &str = "api_key";
/// The kind of a key of an operator of the installation, as both too.
const OPERATOR_KEY: &str = "operator_key";

/// Words of a free-text search that are looked at.
const WORDS_MAX: usize = 8;

/// Contents of one entry that are compared at once.
const CONTENTS_AT_ONCE: usize = 32;
/// How much is read of the contents that one entry names, in bytes.
const CONTENTS_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The most places that are told of one entry.
const PLACES_MAX: usize = 10_000;

/// A content that was changed: whose, where there are many, and from what to what.
type ContentChange = (Option<EntryTarget>, Option<Content>, Option<Content>);

/// Whose log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditScope {
    Workspace(WorkspaceId),
    /// Everything in the organization, without what changed inside crews.
    Organization(OrganizationId),
}

/// Which entries; each condition that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
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
    /// `user`, `api_key`, `system`, `operator_key` or `command_line`.
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
    /// What it is to OCSF.
    pub activity: Activity,
    pub outcome: AuditOutcome,
    pub actor: EntryActor,
    pub target: EntryTarget,
    pub organization: Option<OrganizationId>,
    pub workspace: Option<String>,
    pub crew: Option<CrewId>,
    pub environment: Option<Environment>,
    /// Whether glass was broken for it: a production crew was changed against the policy.
    pub break_glass: bool,
    pub changes: Vec<EntryChange>,
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub leaf: [u8; 32],
    /// The exact bytes of the entry.
    pub canonical: String,
    /// What of it is sealed: each with the field that it was sealed for.
    pub sealed: Vec<(String, Sealed)>,
    /// Of one entry that names contents: where these differ. None where they cannot be read.
    pub contents: Option<ContentsChanged>,
}

/// Where the contents differ that an entry names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContentsChanged {
    pub places: Vec<ContentPlace>,
    /// Whether there is more than is told.
    pub is_cut: bool,
}

/// One place where a content differs from what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct ContentPlace {
    /// Whose content, where an entry names those of many.
    pub item: Option<EntryTarget>,
    pub difference: Difference,
}

/// A page of entries.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditPage {
    pub entries: Vec<AuditEntry>,
    /// The position behind which there may be more in this order. There may be although fewer were
    /// found than asked for, or none: much was looked at already.
    pub next: Option<u64>,
    /// The position that it was read at.
    pub position: u64,
}

/// What those in some entries are called.
#[derive(Default)]
struct Names {
    /// What people were called, by realm, person and position.
    people: HashMap<(String, UserId), Vec<(u64, Opened)>>,
    /// What keys were called, by their ids and position.
    keys: HashMap<String, Vec<(u64, String)>>,
}

impl Service {
    /// A page of entries, going on after the position `cursor` in the filter's order.
    ///
    /// # Errors
    /// A refusal unless the caller may read this log.
    pub async fn audit(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        scope: AuditScope,
        filter: &AuditFilter,
        cursor: Option<u64>,
        limit: u64,
    ) -> Result<AuditPage, ServiceError> {
        self.may_read_audit(request, principal, scope).await?;
        let search = self.audit_search(scope, filter, cursor).await?;
        let store = &**self.journal.store();
        let found = audit_index::positions(store, &search, limit + 1).await?;
        let Searched {
            mut positions,
            stopped_at,
        } = found.value;
        let more = positions.len() as u64 > limit;
        positions.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = match more {
            true => positions.last().copied(),
            false => stopped_at,
        };
        let mut entries = self.entries(&positions).await?;
        if filter.order == Order::NewestFirst {
            entries.reverse();
        }
        Ok(AuditPage {
            entries,
            next,
            position: found.position,
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
        principal: impl Into<Principal>,
        scope: AuditScope,
        position: u64,
    ) -> Result<Found<AuditEntry>, ServiceError> {
        self.may_read_audit(request, principal, scope).await?;
        let mut search = self
            .audit_search(scope, &AuditFilter::default(), None)
            .await?;
        search.at_least(position);
        search.at_most(position);
        let found = audit_index::positions(&**self.journal.store(), &search, 1).await?;
        let missing = Refusal::NotFound {
            what: "entry",
            hidden: false,
        };
        if found.value.positions.is_empty() {
            return Err(missing.into());
        }
        let mut entry = self.entries(&[position]).await?.pop().ok_or(missing)?;
        entry.contents = self.contents_changed(position).await?;
        Ok(Found {
            position: found.position,
            value: entry,
        })
    }

    /// Where the contents that an entry names differ; none where it names none, or where they
    /// cannot be read any more: the entry is told all the same, and `verify` tells what is wrong.
    async fn contents_changed(
        &self,
        position: u64,
    ) -> Result<Option<ContentsChanged>, ServiceError> {
        let stored = stores::events_at(&**self.journal.store(), &[position]).await?;
        let Some(recorded) = stored.first().map(StoredEvent::decode).transpose()? else {
            return Ok(None);
        };
        let (Event::Crew(happened), Ok(workspace)) = (&recorded.event, recorded.scope.parse())
        else {
            return Ok(None);
        };
        let named = contents_named(happened);
        if named.is_empty() {
            return Ok(None);
        }
        match self.compared_contents(workspace, &named).await {
            Ok(changed) => Ok(Some(changed)),
            Err(error) => {
                tracing::error!(%error, position, "the contents of an entry cannot be read");
                Ok(None)
            }
        }
    }

    /// Where contents differ, as far as so much of it is told.
    async fn compared_contents(
        &self,
        workspace: WorkspaceId,
        named: &[ContentChange],
    ) -> Result<ContentsChanged, ServiceError> {
        let (mut changed, mut bytes) = (ContentsChanged::default(), 0);
        for some in named.chunks(CONTENTS_AT_ONCE) {
            let contents = some.iter().flat_map(|(_, from, to)| [*from, *to]).flatten();
            let contents: Vec<Content> = contents.collect();
            bytes += contents.iter().map(|content| content.size).sum::<u64>();
            if named.len() > 1 && bytes > CONTENTS_BYTES_MAX {
                changed.is_cut = true;
                break;
            }
            let mut texts = self.contents_of(workspace, &contents).await?.into_iter();
            let mut said = |content: &Option<Content>| match content {
                Some(_) => texts
                    .next()
                    .map(|text| serde_json::from_str(&text))
                    .transpose(),
                None => Ok(None),
            };
            for (item, from, to) in some {
                let sides = said(from).and_then(|from| Ok((from, said(to)?)));
                let (from, to): (Option<Json>, Option<Json>) =
                    sides.map_err(|error| ServiceError::Internal(error.to_string()))?;
                let places = differences(from.as_ref(), to.as_ref()).into_iter();
                changed.places.extend(places.map(|difference| ContentPlace {
                    item: item.clone(),
                    difference,
                }));
            }
        }
        changed.is_cut |= changed.places.len() > PLACES_MAX;
        changed.places.truncate(PLACES_MAX);
        Ok(changed)
    }

    pub(super) async fn may_read_audit(
        &self,
        request: &Request,
        principal: impl Into<Principal>,
        scope: AuditScope,
    ) -> Result<(), ServiceError> {
        match scope {
            AuditScope::Workspace(workspace) => {
                let permission = Permission::ReadAudit;
                self.may_in_workspace(request, principal, workspace, permission, "audit.read")
                    .await?;
            }
            AuditScope::Organization(organization) => {
                let permission = OrganizationPermission::ReadAudit;
                self.may_in_organization(
                    request,
                    principal,
                    organization,
                    permission,
                    "audit.read",
                )
                .await?;
            }
        }
        Ok(())
    }

    /// That there is such a log: what is gone has left one.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where there is none.
    pub(super) async fn has_entries(&self, scope: AuditScope) -> Result<(), ServiceError> {
        let search = self
            .audit_search(scope, &AuditFilter::default(), None)
            .await?;
        let found = audit_index::positions(&**self.journal.store(), &search, 1).await?;
        match found.value.positions.is_empty() {
            false => Ok(()),
            true => Err(Refusal::NotFound {
                what: "audit log",
                hidden: false,
            }
            .into()),
        }
    }

    /// The same of somebody who was known a moment ago, by what the store says now; a refusal is
    /// no attempt.
    pub(super) async fn reads_audit_now(
        &self,
        principal: &Principal,
        scope: AuditScope,
    ) -> Result<(), ServiceError> {
        match scope {
            AuditScope::Workspace(id) => {
                let place = self.present_place(id).await?;
                self.is_allowed(principal, place, Permission::ReadAudit)
                    .await
            }
            AuditScope::Organization(id) => {
                let permission = OrganizationPermission::ReadAudit;
                self.is_allowed_in_organization(principal, id, permission)
                    .await
            }
        }
    }

    pub(super) async fn audit_search(
        &self,
        scope: AuditScope,
        filter: &AuditFilter,
        cursor: Option<u64>,
    ) -> Result<Search, ServiceError> {
        let mut search = Search::new(filter.order);
        match scope {
            AuditScope::Workspace(id) => search.is(Column::Workspace, id.to_string()),
            AuditScope::Organization(id) => search.is(Column::Organization, id.to_string()),
        }
        match filter.actor.as_deref() {
            // Due work: nobody's id is in the index.
            Some("system") => search.absent(Column::Actor),
            Some(actor) => search.is(Column::Actor, actor),
            None => {}
        }
        let columns = [
            (Column::Action, &filter.action),
            (Column::Target, &filter.target),
            (Column::Crew, &filter.crew),
            (Column::Environment, &filter.environment),
            (Column::Outcome, &filter.outcome),
        ];
        for (column, value) in columns {
            if let Some(value) = value {
                search.is(column, value);
            }
        }
        let words = filter
            .words
            .iter()
            .flat_map(|words| words.split_whitespace());
        for word in words.take(WORDS_MAX) {
            let realm = self.realm_of_scope(scope).await?;
            let people = self.people_called(&realm, word).await?;
            search.word_or_any(word, people.iter().map(ToString::to_string).collect());
        }
        self.limit_positions(&mut search, filter, cursor).await?;
        Ok(search)
    }

    /// Who knows the people in a log: the organization.
    async fn realm_of_scope(&self, scope: AuditScope) -> Result<String, ServiceError> {
        match scope {
            AuditScope::Workspace(id) => Ok(self.known_place(id).await?.organization.to_string()),
            AuditScope::Organization(id) => Ok(id.to_string()),
        }
    }

    async fn limit_positions(
        &self,
        search: &mut Search,
        filter: &AuditFilter,
        cursor: Option<u64>,
    ) -> Result<(), ServiceError> {
        let store = &**self.journal.store();
        if let Some(after) = filter.after {
            search.at_least(after.saturating_add(1));
        }
        if let Some(before) = filter.before {
            search.at_most(before.saturating_sub(1));
        }
        if let Some(from) = filter.from {
            let before_it = stores::last_position_at(store, Timestamp(from.0 - 1)).await?;
            search.at_least(before_it + 1);
        }
        if let Some(to) = filter.to {
            let last = stores::last_position_at(store, Timestamp(to.0 - 1)).await?;
            search.at_most(last);
        }
        match (cursor, filter.order) {
            (Some(cursor), Order::NewestFirst) => search.at_most(cursor.saturating_sub(1)),
            (Some(cursor), Order::OldestFirst) => search.at_least(cursor.saturating_add(1)),
            (None, _) => {}
        }
        Ok(())
    }

    /// The entries at these positions, oldest first.
    pub(super) async fn entries(&self, positions: &[u64]) -> Result<Vec<AuditEntry>, ServiceError> {
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
        let (mut wanted, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for (_, recorded, description) in described {
            let actor = (description.actor.kind(), description.actor.id());
            let target = (description.target.0, Some(description.target.1.clone()));
            let of_keys = [actor, target]
                .into_iter()
                .filter(|(kind, _)| [KEY, OPERATOR_KEY].contains(kind));
            keys.extend(of_keys.filter_map(|(_, id)| id));
            let realm = realm_of(recorded);
            let target = (description.target.0 == "user").then(|| description.target.1.parse());
            let target = target.and_then(Result::ok);
            for user in description.actor.user().into_iter().chain(target) {
                wanted.insert(person_key(&realm, &user, PersonField::Name));
            }
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        let mut names = Names::default();
        for (_, row) in self.people().of_parents(&wanted).await? {
            let name = self.open(&row.value).await?;
            names
                .people
                .entry((row.realm, row.user))
                .or_default()
                .push((row.since, name));
        }
        let keys: Vec<_> = keys.into_iter().collect();
        for (_, row) in self.key_names().of_parents(&keys).await? {
            let of_key = names.keys.entry(row.key.to_string()).or_default();
            of_key.push((row.since, row.name));
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
        let sealed = sealed_in(recorded, &description);
        let called = description.called;
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
        let named_key = |key: &str| at(names.keys.get(key)?, recorded.position).cloned();
        let (kind, id) = description.target;
        let target_name = match kind {
            "user" => id.parse().ok().and_then(named),
            "workspace" | "organization" | "crew" | "agent" | "pathway" | "knowledge_base"
            | "document" => called,
            KEY | OPERATOR_KEY => called.or_else(|| named_key(&id)),
            _ => None,
        };
        let actor = description.actor;
        let actor_name = match actor {
            Actor::User { id } => named(id),
            Actor::ApiKey { id } | Actor::OperatorKey { id } => named_key(&id.to_string()),
            Actor::System | Actor::CommandLine => None,
        };
        Ok(AuditEntry {
            position: recorded.position,
            id: recorded.id,
            recorded_at: recorded.recorded_at,
            action: description.action,
            activity: activity_of(&recorded.event),
            outcome: description.outcome,
            actor: EntryActor {
                kind: actor.kind(),
                id: actor.id(),
                name: actor_name,
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
            crew: description.crew,
            environment: description.environment,
            break_glass: description.breaks_glass,
            changes,
            reason,
            request_id: metadata.request_id.clone(),
            ip: of_context("ip"),
            user_agent: of_context("user_agent"),
            leaf: stored.leaf,
            canonical: stored.canonical(),
            sealed,
            contents: None,
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
        sealed: Option<&Sealed>,
    ) -> Result<Option<String>, ServiceError> {
        match sealed {
            Some(sealed) => Ok(Some(
                self.open_field(sealed, event, field).await?.into_text(),
            )),
            None => Ok(None),
        }
    }
}

/// The contents that an event of a crew changes.
fn contents_named(happened: &CrewEvent) -> Vec<ContentChange> {
    let content = |item: &Option<Item>| item.as_ref().map(|item| item.content);
    if let Some(one) = happened.of_item() {
        let (from, to) = (one.from().cloned(), one.to().cloned());
        return vec![(None, content(&from), content(&to))];
    }
    let changes = happened.promoted().map(|promoted| promoted.changes.iter());
    let named = changes.into_iter().flatten().map(|change| {
        let item = change.to.as_ref().or(change.from.as_ref());
        let target = EntryTarget {
            kind: change.item.kind().name(),
            id: change.item.to_string(),
            name: item.map(|item| item.name.clone()),
        };
        (Some(target), content(&change.from), content(&change.to))
    });
    named.collect()
}

fn sealed_in(recorded: &Recorded, description: &Description) -> Vec<(String, Sealed)> {
    let of_changes = description.changes.iter();
    let shown = of_changes.flat_map(|change| [&change.from, &change.to]);
    let shown = shown.filter_map(|shown| match shown {
        Shown::Plain(_) => None,
        Shown::Sealed { field, sealed } => Some(((*field).to_owned(), sealed.clone())),
    });
    let metadata = &recorded.metadata;
    let beside = [(REASON, &metadata.reason), (CONTEXT, &metadata.context)];
    let beside = beside
        .into_iter()
        .filter_map(|(field, sealed)| Some((field.to_owned(), sealed.clone()?)));
    shown.chain(beside).collect()
}

/// Who knows the people in an entry: its organization, else the account itself.
fn realm_of(recorded: &Recorded) -> String {
    let organization = recorded.metadata.organization;
    organization.map_or_else(|| ACCOUNT.to_owned(), |id| id.to_string())
}

fn name_then(names: &Names, realm: &str, user: UserId, position: u64) -> Option<String> {
    let known = names.people.get(&(realm.to_owned(), user))?;
    Some(at(known, position)?.clone().into_text())
}

/// The name that counted at a position, of names in the order that they were given.
fn at<T>(given: &[(u64, T)], position: u64) -> Option<&T> {
    let then = given.iter().rev().find(|(since, _)| *since <= position);
    // Who acts in the unit that makes them known is known from a later event of it.
    then.or_else(|| given.first()).map(|(_, name)| name)
}
