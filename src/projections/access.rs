//! Who had access at a position, with the event that gave it to each: a fold of the streams of a
//! workspace and its organization up to there.
//!
//! A report of the past is made when it is asked for, and one of now in the same way; what is kept
//! of it only saves time ([`super::access_snapshots`]). The rules are the domain's
//! ([`crate::domain::access`]); this remembers the events.

use std::collections::{BTreeMap, BTreeSet};

use cqrs_es::Aggregate;
use serde::{Deserialize, Serialize};

use super::{SealedAt, api_keys::of_key};
use crate::{
    domain::{
        Stream, Timestamp,
        access::{Held, Through, held},
        api_keys::{ApiKey, KeyEvent},
        event::Event,
        ids::{EventId, InvitationId, KeyId, PrincipalId, UserId},
        organization::{Organization, OrganizationEvent},
        workspace::{MembershipSource, Workspace, WorkspaceEvent},
    },
    journal::{Recorded, entry::REASON},
};

/// The event that gave access.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    pub position: u64,
    pub event: EventId,
    pub recorded_at: Timestamp,
    /// Who gave it: of a membership by invitation the inviter. None where nobody did, as time did.
    pub by: Option<UserId>,
    /// Why, as they said; of a membership by invitation what was said with that.
    pub reason: Option<SealedAt>,
}

/// Access, and the event that gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessHeld {
    pub held: Held,
    pub grant: Grant,
    /// Of a key: everybody who made it, rotated it, or changed what it may. Where four eyes are
    /// asked for, it counts as each of them.
    pub responsible: BTreeSet<UserId>,
}

/// The fold, of either stream or of both. Events of other streams leave it as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccessFold {
    workspace: Workspace,
    organization: Organization,
    grants: BTreeMap<u64, Grant>,
    invitations: BTreeMap<InvitationId, Option<SealedAt>>,
    /// Roles that came back after others had taken their place for a time.
    came_back: BTreeMap<UserId, CameBack>,
}

/// Somebody's role that came back, the last one that did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct CameBack {
    /// Position of the event that decided so.
    decided_at: u64,
    at: Timestamp,
}

impl AccessFold {
    /// Raised when the fold makes something else of the same events, or is written in another way.
    const FOLD_VERSION: i64 = 1;
    /// Of the fold and what it is made of: what was kept of another is folded anew.
    pub const VERSION: i64 = Self::FOLD_VERSION * 1_000_000
        + Workspace::STATE_VERSION * 1_000
        + Organization::STATE_VERSION;

    /// The fold of a workspace's stream, with that of its organization's.
    pub fn with_organization(mut self, of: Self) -> Self {
        self.organization = of.organization;
        self.grants.extend(of.grants);
        self
    }

    /// Forgets the events that gave what has ended. Says the same of every moment that is not
    /// before the last event taken, and goes on in the same way.
    pub fn forget_what_ended(&mut self) {
        let members = self.workspace.members();
        let of_members = members.flat_map(|(_, member)| {
            let limit = member.limit.map(|limit| limit.decided_at);
            [Some(member.granted_at), limit].into_iter().flatten()
        });
        let auditors = self.workspace.auditors();
        let organization = self.organization.members();
        let keys = (self.workspace.keys().live()).chain(self.organization.keys().live());
        let in_force: BTreeSet<u64> = of_members
            .chain(auditors.map(|(_, grant)| grant.granted_at))
            .chain(organization.map(|(_, member)| member.granted_at))
            .chain(keys.map(|(_, key)| key.position))
            .collect();
        self.grants.retain(|at, _| in_force.contains(at));
        self.came_back
            .retain(|_, back| in_force.contains(&back.decided_at));
    }

    /// Takes the next event of either stream; those of each in order.
    pub fn take(&mut self, event: &Recorded) {
        if let Some(happened) = of_key(event) {
            self.take_key(event, &happened);
        }
        match &event.event {
            Event::Workspace(happened) => {
                self.take_workspace(event, happened);
                self.workspace.apply(happened.clone());
                self.workspace.positioned(happened, event.position);
            }
            Event::Organization(happened) => {
                if let OrganizationEvent::OrganizationMemberAdded { .. }
                | OrganizationEvent::OrganizationMemberRoleChanged { .. } = happened
                {
                    self.granted(event, event.metadata.actor.user(), reason_of(event));
                }
                self.organization.apply(happened.clone());
                self.organization.positioned(happened, event.position);
            }
            Event::User(_)
            | Event::Crew(_)
            | Event::Promotion(_)
            | Event::Review(_)
            | Event::Attempts(_)
            | Event::Installation(_) => {}
        }
    }

    fn take_workspace(&mut self, event: &Recorded, happened: &WorkspaceEvent) {
        match happened {
            WorkspaceEvent::MemberInvited { invitation, .. } => {
                self.invitations.insert(*invitation, reason_of(event));
            }
            WorkspaceEvent::MemberJoined { user, source, .. } => match source {
                MembershipSource::Creation => {
                    self.granted(event, Some(*user), reason_of(event));
                }
                MembershipSource::Invitation {
                    invitation,
                    invited_by,
                } => {
                    let reason = self.invitations.remove(invitation).flatten();
                    self.granted(event, Some(*invited_by), reason);
                }
            },
            WorkspaceEvent::MemberRoleChanged { changed_by: by, .. }
            | WorkspaceEvent::MembershipLimited { limited_by: by, .. }
            | WorkspaceEvent::AuditorGranted { granted_by: by, .. } => {
                self.granted(event, Some(*by), reason_of(event));
            }
            // An operator's key gave it, which the entry names.
            WorkspaceEvent::WorkspaceRecovered { .. } => {
                self.granted(event, None, reason_of(event));
            }
            WorkspaceEvent::MembershipLimitReached { user, until, .. } => {
                let reached = self.workspace.members().find(|(member, _)| member == user);
                let limit = reached.and_then(|(_, member)| member.limit);
                if let Some(limit) = limit {
                    let decided_at = limit.decided_at;
                    let back = CameBack {
                        decided_at,
                        at: *until,
                    };
                    self.came_back.insert(*user, back);
                }
            }
            WorkspaceEvent::InvitationDeclined { invitation }
            | WorkspaceEvent::InvitationRevoked { invitation, .. }
            | WorkspaceEvent::InvitationExpired { invitation, .. } => {
                self.invitations.remove(invitation);
            }
            WorkspaceEvent::WorkspaceCreated { .. }
            | WorkspaceEvent::WorkspaceRenamed { .. }
            | WorkspaceEvent::PlanSelected { .. }
            | WorkspaceEvent::MemberRemoved { .. }
            | WorkspaceEvent::MemberLeft { .. }
            | WorkspaceEvent::InvitationResent { .. }
            | WorkspaceEvent::InvitationAccepted { .. }
            | WorkspaceEvent::ApiKeyCreated(_)
            | WorkspaceEvent::ApiKeyUpdated(_)
            | WorkspaceEvent::ApiKeyRotated(_)
            | WorkspaceEvent::ApiKeyRevoked(_)
            | WorkspaceEvent::ApiKeyExpired(_)
            | WorkspaceEvent::OwnershipTransferred { .. }
            | WorkspaceEvent::WorkspaceDeleted { .. }
            | WorkspaceEvent::LegalHoldPlaced { .. }
            | WorkspaceEvent::LegalHoldLifted { .. }
            | WorkspaceEvent::PolicyChanged { .. }
            | WorkspaceEvent::MembershipLimitLifted { .. }
            | WorkspaceEvent::AuditorRevoked { .. }
            | WorkspaceEvent::AuditorExpired { .. }
            | WorkspaceEvent::CrewListed { .. }
            | WorkspaceEvent::CrewUnlisted { .. }
            | WorkspaceEvent::LimitsChanged { .. }
            | WorkspaceEvent::UsageMonthClosed { .. } => {}
        }
    }

    fn take_key(&mut self, event: &Recorded, happened: &KeyEvent) {
        match happened {
            KeyEvent::Created(created) => {
                self.granted(event, Some(created.created_by), reason_of(event));
            }
            KeyEvent::Updated(updated) => {
                self.granted(event, Some(updated.updated_by), reason_of(event));
            }
            KeyEvent::Rotated(_) | KeyEvent::Revoked(_) | KeyEvent::Expired(_) => {}
        }
    }

    fn granted(&mut self, event: &Recorded, by: Option<UserId>, reason: Option<SealedAt>) {
        let grant = Grant {
            position: event.position,
            event: event.id,
            recorded_at: event.recorded_at,
            by,
            reason,
        };
        self.grants.insert(event.position, grant);
    }

    fn key(&self, key: KeyId) -> Option<&ApiKey> {
        let of_workspace = self.workspace.keys().get(key);
        of_workspace.or_else(|| self.organization.keys().get(key))
    }

    /// The workspace as it was.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Everything that gave anybody access at `now`, which is not before the last event taken.
    pub fn at(&self, now: Timestamp) -> Vec<AccessHeld> {
        let held = held(&self.workspace, &self.organization, now);
        let with_grant = |mut held: Held| {
            if let (PrincipalId::User(user), Through::Membership(_)) =
                (held.principal, held.through)
            {
                let noted = self.came_back.get(&user);
                let noted = noted.filter(|back| back.decided_at == held.granted_at);
                held.counts_since = held.counts_since.or(noted.map(|back| back.at));
            }
            let responsible = match held.principal {
                PrincipalId::Key(key) => self.key(key).map(|key| key.responsible.clone()),
                PrincipalId::User(_) => None,
            };
            let grant = self.grants.get(&held.granted_at);
            AccessHeld {
                grant: grant.expect("an event gave it, and was taken").clone(),
                responsible: responsible.unwrap_or_default(),
                held,
            }
        };
        held.into_iter().map(with_grant).collect()
    }
}

fn reason_of(event: &Recorded) -> Option<SealedAt> {
    let reason = event.metadata.reason.as_ref();
    reason.map(|sealed| SealedAt::of(event, REASON, sealed))
}
