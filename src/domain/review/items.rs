//! What a campaign decides about: access as it was at the pin, and what it is now.
//!
//! Access is told from access that came later by its *mark*: the position of the event that gave
//! it, or last changed how far it goes. Where the mark is another, nobody has looked at it. A key
//! that was rotated since the pin goes on in its successor, and so does its review: who rotates a
//! key does not take it out of the campaign.

use std::collections::{BTreeMap, BTreeSet};

use super::{ReviewTerms, Reviewed};
use crate::domain::{
    Timestamp,
    access::{Held, Through},
    ids::{KeyId, PrincipalId, UserId},
    workspace::Workspace,
};

/// Access that is decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub kind: Reviewed,
    /// Its mark at the pin.
    pub mark: u64,
    /// The line whose later keys belong to it: of a key that none had taken the place of.
    line: Option<KeyId>,
}

/// Everything that a campaign decides about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    /// When the entry at the pin was recorded.
    pinned_at: Timestamp,
    items: BTreeMap<PrincipalId, Item>,
}

impl Items {
    /// Of what was held in a workspace at the pin: what the terms are about.
    pub fn pinned<'a>(
        workspace: &Workspace,
        held: impl IntoIterator<Item = &'a Held>,
        terms: &ReviewTerms,
        pinned_at: Timestamp,
    ) -> Self {
        let mut items = BTreeMap::new();
        let before = Newest::of(workspace, &Self::none(pinned_at), pinned_at);
        for held in held {
            let Some(kind) = kind_of(held.through).filter(|kind| terms.principals.contains(kind))
            else {
                continue;
            };
            if terms
                .environment
                .is_some_and(|environment| !held.reaches(environment))
            {
                continue;
            }
            let line = match held.principal {
                PrincipalId::Key(key) => workspace
                    .keys()
                    .get(key)
                    .and_then(|key| key.successor.is_none().then_some(key.line)),
                PrincipalId::User(_) => None,
            };
            let item = Item {
                kind,
                mark: 0,
                line,
            };
            let mark = before
                .access(held.principal, &item)
                .map_or(0, |access| access.mark);
            items.insert(held.principal, Item { mark, ..item });
        }
        Self { pinned_at, items }
    }

    fn none(pinned_at: Timestamp) -> Self {
        Self {
            pinned_at,
            items: BTreeMap::new(),
        }
    }

    /// Access of this person or key, where the campaign is about it.
    pub fn get(&self, id: PrincipalId) -> Option<&Item> {
        self.items.get(&id)
    }

    /// All of it, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (PrincipalId, &Item)> {
        self.items.iter().map(|(id, item)| (*id, item))
    }

    /// How much it is.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is nothing to decide about.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// The kind of a workspace's own access; what comes from its organization is none of its to end.
pub fn kind_of(through: Through) -> Option<Reviewed> {
    match through {
        Through::Membership(_) => Some(Reviewed::Members),
        Through::AuditorGrant => Some(Reviewed::Auditors),
        Through::ApiKey => Some(Reviewed::ApiKeys),
        Through::OrganizationRole(_) | Through::OrganizationKey => None,
    }
}

/// Access that counts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub mark: u64,
    /// Of a key: those that it is now, itself and whichever came in its place.
    pub keys: Vec<KeyId>,
    /// Whom it is, or counts as.
    pub subjects: BTreeSet<UserId>,
}

/// A workspace, as a campaign asks it what has become of access.
#[derive(Debug)]
pub struct Newest<'a> {
    workspace: &'a Workspace,
    now: Timestamp,
    /// Keys that were made since the pin in others' places, by their line.
    later: BTreeMap<KeyId, Vec<KeyId>>,
}

impl<'a> Newest<'a> {
    /// The workspace at `now`, for a campaign over these items.
    pub fn of(workspace: &'a Workspace, items: &Items, now: Timestamp) -> Self {
        let mut later: BTreeMap<KeyId, Vec<KeyId>> = BTreeMap::new();
        for (id, key) in workspace.keys().live() {
            if key.line != id && key.created_at > items.pinned_at && key.is_live(now) {
                later.entry(key.line).or_default().push(id);
            }
        }
        Self {
            workspace,
            now,
            later,
        }
    }

    /// What access of the campaign is now; none where it is gone.
    pub fn access(&self, id: PrincipalId, item: &Item) -> Option<Access> {
        match (id, item.kind) {
            (PrincipalId::User(user), Reviewed::Members | Reviewed::Auditors) => {
                self.of_person(user)
            }
            (PrincipalId::Key(key), Reviewed::ApiKeys) => self.of_key(key, item.line),
            (PrincipalId::User(_), Reviewed::ApiKeys)
            | (PrincipalId::Key(_), Reviewed::Members | Reviewed::Auditors) => None,
        }
    }

    fn of_person(&self, user: UserId) -> Option<Access> {
        let mark = match self.workspace.member_at(user, self.now) {
            Some(member) => {
                let limited_at = member.limit.map_or(0, |limit| limit.decided_at);
                member.granted_at.max(limited_at)
            }
            None => self.workspace.auditor_at(user, self.now)?.granted_at,
        };
        Some(Access {
            mark,
            keys: vec![],
            subjects: BTreeSet::from([user]),
        })
    }

    fn of_key(&self, key: KeyId, line: Option<KeyId>) -> Option<Access> {
        let later = line.and_then(|line| self.later.get(&line));
        let ids = std::iter::once(key).chain(later.into_iter().flatten().copied());
        let mut access = Access {
            mark: 0,
            keys: vec![],
            subjects: BTreeSet::new(),
        };
        for id in ids {
            let found = self.workspace.keys().get(id);
            let Some(found) = found.filter(|found| found.is_live(self.now)) else {
                continue;
            };
            access.mark = access.mark.max(found.position);
            access.keys.push(id);
            access.subjects.extend(&found.responsible);
        }
        (!access.keys.is_empty()).then_some(access)
    }
}
