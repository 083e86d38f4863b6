//! A workspace: its name, plan, policy, members, invitations and auditor grants.
//!
//! It is where almost every right comes from. Who may what is asked of the newest state
//! inside `handle`, so no command is decided on a role that was taken away before it. It
//! never sees an opened e-mail address or an invitation's token, only a seal and a hash.
//!
//! State and queries are here, the decisions in `rules.rs` and the files beside it.
//!
//! To add something that can happen to a workspace: an event, the command that asks for
//! it, a function in `rules.rs` or beside it that decides it, its arm in `apply`, its rule in
//! `tests.rs`, and, where it touches membership, its step in `model.rs`.

mod auditors;
mod commands;
mod crews;
mod events;
mod hold;
mod limits;
#[cfg(test)]
mod model;
mod ownership;
mod policy;
mod quotas;
mod recovery;
mod rules;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};

pub use auditors::{AuditorGrant, GRANT_AWAY_MAX};
pub use commands::WorkspaceCommand;
pub use crews::CREWS_MAX;
pub use events::{MembershipSource, WorkspaceEvent};
pub use limits::{LIMIT_AWAY_MAX, Limit};
pub use policy::{Policy, ProductionChanges};
pub use quotas::Used;

use super::{
    Moment, Refusal, Stream, Timestamp,
    api_keys::{KeyCreated, KeyRing, KeyUpdated},
    authority::{AuthorityLink, Permission, Role},
    environment::Environment,
    ids::{CrewId, InvitationId, KeyId, OrganizationId, UserId, WorkspaceId},
    plans::{PlanName, Quotas},
    sealed::KeyOwner,
    standing::Standing,
    usage::Month,
};

/// The most invitations of one workspace that can be accepted at once.
pub const PENDING_INVITATIONS_MAX: usize = 1_000;

/// How many invitations that are over are remembered, to say how they ended.
const FINISHED_INVITATIONS_MAX: usize = 1_000;

/// A workspace, folded from its events.
///
/// From its creation until it is deleted it has a plan and at least one owner whose role
/// lasts; `members` and `auditors` hold those whose time is over until the event that says
/// so, and nobody is in both at once. Once deleted, it has nobody. An invitation is in
/// `pending` or, for a while, in `finished`, never in both; `pending` holds those whose
/// deadline has passed until the event that says so.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Workspace {
    id: Option<WorkspaceId>,
    organization: Option<OrganizationId>,
    name: String,
    plan: Option<PlanName>,
    members: BTreeMap<UserId, Member>,
    pending: BTreeMap<InvitationId, Invitation>,
    /// The last [`FINISHED_INVITATIONS_MAX`], oldest first.
    finished: VecDeque<(InvitationId, InvitationStatus)>,
    keys: KeyRing,
    policy: Policy,
    auditors: BTreeMap<UserId, AuditorGrant>,
    /// The crews that are not archived: how many there are of each environment, and which a
    /// key may name, is decided here; what is in a crew is its own stream's.
    crews: BTreeMap<CrewId, Environment>,
    /// What the owners allow at most, below what the plan does.
    limits: Quotas,
    /// The months that have their statement.
    closed_months: BTreeSet<Month>,
    /// Whether an owner has placed a legal hold.
    is_held: bool,
    is_deleted: bool,
}

/// A role in a workspace, and the event that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// What they may.
    pub role: Role,
    /// Position of the event that gave the role; 0 until the log has given it one.
    pub granted_at: u64,
    /// When it ends by itself, where it does.
    pub limit: Option<Limit>,
}

/// An invitation that was not answered, revoked or ended by an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invitation {
    /// The role that it gives.
    pub role: Role,
    /// On whose authority it gives that, when it is accepted. Re-sending leaves it.
    pub invited_by: UserId,
    /// Whose key seals the invited address.
    pub subject: KeyOwner,
    /// Standard base64 of SHA-256(the only token that works).
    pub token_hash: String,
    /// First moment at which it can no longer be accepted.
    pub expires_at: Timestamp,
}

impl Invitation {
    /// Whether it can still be answered at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

/// How an invitation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvitationStatus {
    /// The invited person came in.
    Accepted,
    /// The invited person said no.
    Declined,
    /// It was taken back.
    Revoked,
    /// Its time ran out.
    Expired,
}

impl InvitationStatus {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

impl Member {
    /// What gives them rights, as long as it has not ended by itself.
    pub fn standing(self) -> Standing {
        Standing::Member {
            role: self.role,
            position: self.granted_at,
            until: self.limit.map(|limit| limit.until),
            afterwards: self.limit.and_then(|limit| limit.afterwards),
        }
    }
}

impl Workspace {
    /// Whether it was made.
    pub fn exists(&self) -> bool {
        self.id.is_some()
    }

    /// Its name; empty before it was made.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The plan that it is on; none before it was made.
    pub fn plan(&self) -> Option<&PlanName> {
        self.plan.as_ref()
    }

    /// What its owners have decided about how it is worked in.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Whether it was deleted: its history stays, and nobody has access.
    pub fn is_deleted(&self) -> bool {
        self.is_deleted
    }

    /// The membership of `user` at `now`, if they are a member then.
    pub fn member_at(&self, user: UserId, now: Timestamp) -> Option<Member> {
        self.members.get(&user).and_then(|member| member.at(now))
    }

    /// What gives `user` rights here at `now`, if anything does.
    pub fn standing(&self, user: UserId, now: Timestamp) -> Option<Standing> {
        if let Some(member) = self.member_at(user, now) {
            return Some(member.standing());
        }
        let grant = self.auditor_at(user, now)?;
        Some(Standing::Auditor {
            position: grant.granted_at,
            until: grant.expires_at,
        })
    }

    /// Who is in it, in the order of their ids; also those whose membership has ended by
    /// itself and no event says so yet: ask [`Member::at`].
    pub fn members(&self) -> impl Iterator<Item = (UserId, Member)> {
        self.members.iter().map(|(user, member)| (*user, *member))
    }

    /// Who has an auditor grant, in the order of their ids; also those whose grant has run out and
    /// no event says so yet: ask [`AuditorGrant::is_live`].
    pub fn auditors(&self) -> impl Iterator<Item = (UserId, AuditorGrant)> {
        self.auditors.iter().map(|(user, grant)| (*user, *grant))
    }

    /// That `user` may do what `permission` names at `now`, and what gave them that.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when there is no workspace, and, marked as hidden, when they
    /// are neither a member nor an auditor of it; [`Refusal::NotPermitted`] or
    /// [`Refusal::NotPermittedToAuditor`] when what they have does not hold the permission.
    pub fn authorise(
        &self,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Result<AuthorityLink, Refusal> {
        self.existing()?;
        let standing = self.standing(user, now).ok_or(Refusal::NotFound {
            what: "workspace",
            hidden: true,
        })?;
        standing.permits(permission)
    }

    /// That `key` may do at `now` what `permission` names, and what gave it that.
    ///
    /// # Errors
    /// As [`KeyRing::authorise`] does.
    pub fn authorise_key(
        &self,
        key: KeyId,
        permission: Permission,
        now: Timestamp,
    ) -> Result<AuthorityLink, Refusal> {
        self.keys.authorise(key, permission.of_keys(), now)
    }

    /// Its API keys.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The invitation, unless an event has ended it. Its deadline may have passed: ask
    /// [`Invitation::is_live`].
    ///
    /// # Errors
    /// [`Refusal::InvitationNotPending`] with how it ended; [`Refusal::NotFound`] when it
    /// was never there, or ended so long ago that this is forgotten.
    pub fn invitation(&self, invitation: InvitationId) -> Result<&Invitation, Refusal> {
        self.pending
            .get(&invitation)
            .ok_or_else(|| match self.ended_as(invitation) {
                Some(status) => Refusal::InvitationNotPending {
                    status: status.name(),
                },
                None => Refusal::NotFound {
                    what: "invitation",
                    hidden: false,
                },
            })
    }

    /// How many invitations can be accepted at `now`.
    pub fn live_invitations(&self, now: Timestamp) -> usize {
        let live = |invitation: &&Invitation| invitation.is_live(now);
        self.pending.values().filter(live).count()
    }

    fn ended_as(&self, invitation: InvitationId) -> Option<InvitationStatus> {
        let found = self.finished.iter().find(|(id, _)| *id == invitation);
        found.map(|(_, status)| *status)
    }

    fn finish(&mut self, invitation: InvitationId, status: InvitationStatus) {
        self.pending.remove(&invitation);
        self.finished.push_back((invitation, status));
        while self.finished.len() > FINISHED_INVITATIONS_MAX {
            self.finished.pop_front();
        }
    }

    /// Gives `user` the role for good; the log has not said at which position yet.
    fn grant(&mut self, user: UserId, role: Role) {
        let given = Member {
            role,
            granted_at: 0,
            limit: None,
        };
        self.members.insert(user, given);
    }

    fn replace_token(&mut self, invitation: InvitationId, hash: String, expires_at: Timestamp) {
        if let Some(pending) = self.pending.get_mut(&invitation) {
            pending.token_hash = hash;
            pending.expires_at = expires_at;
        }
    }
}

impl Aggregate for Workspace {
    const TYPE: &'static str = "workspace";
    type Command = WorkspaceCommand;
    type Event = WorkspaceEvent;
    type Error = Refusal;
    type Services = Moment;

    async fn handle(
        &mut self,
        command: WorkspaceCommand,
        moment: &Moment,
        sink: &EventSink<Self>,
    ) -> Result<(), Refusal> {
        // All is decided before the first write, and `write` applies: a refusal changes
        // nothing, and nothing is applied twice.
        for event in self.decide(command, *moment)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: WorkspaceEvent) {
        use WorkspaceEvent as E;
        if let Some(event) = event.of_key() {
            return self.keys.apply(event);
        }
        match event {
            E::WorkspaceCreated {
                workspace,
                organization,
                name,
                created_by: _,
            } => {
                self.id = Some(workspace);
                self.organization = Some(organization);
                self.name = name;
            }
            E::WorkspaceRenamed { from: _, to } => self.name = to,
            E::PlanSelected { from: _, to } => self.plan = Some(to),
            E::MemberJoined { user, role, .. } => self.grant(user, role),
            E::MemberRoleChanged { user, to, .. } => self.grant(user, to),
            E::MemberRemoved { user, .. } | E::MemberLeft { user, .. } => {
                self.members.remove(&user);
            }
            E::MemberInvited {
                invitation,
                email,
                role,
                invited_by,
                token_hash,
                expires_at,
            } => {
                let pending = Invitation {
                    role,
                    invited_by,
                    subject: email.subject,
                    token_hash,
                    expires_at,
                };
                self.pending.insert(invitation, pending);
            }
            E::InvitationResent {
                invitation,
                token_hash,
                expires_at,
                resent_by: _,
            } => self.replace_token(invitation, token_hash, expires_at),
            E::InvitationAccepted { invitation, .. } => {
                self.finish(invitation, InvitationStatus::Accepted);
            }
            E::InvitationDeclined { invitation } => {
                self.finish(invitation, InvitationStatus::Declined);
            }
            E::InvitationRevoked { invitation, .. } => {
                self.finish(invitation, InvitationStatus::Revoked);
            }
            E::InvitationExpired { invitation, .. } => {
                self.finish(invitation, InvitationStatus::Expired);
            }
            E::ApiKeyCreated(_)
            | E::ApiKeyUpdated(_)
            | E::ApiKeyRotated(_)
            | E::ApiKeyRevoked(_)
            | E::ApiKeyExpired(_) => {}
            E::OwnershipTransferred { .. } => {}
            E::WorkspaceDeleted { .. } => self.end_every_access(),
            E::LegalHoldPlaced { .. } => self.is_held = true,
            E::LegalHoldLifted { .. } => self.is_held = false,
            E::PolicyChanged { from: _, to } => self.policy = to,
            E::MembershipLimited {
                user,
                until,
                afterwards,
                ..
            } => {
                let limit = Limit {
                    until,
                    afterwards,
                    decided_at: 0,
                };
                self.set_limit(user, Some(limit));
            }
            E::MembershipLimitLifted { user, .. } => self.set_limit(user, None),
            E::MembershipLimitReached { user, until, .. } => self.end_limit(user, until),
            E::AuditorGranted {
                user, expires_at, ..
            } => {
                let granted_at = 0;
                let grant = AuditorGrant {
                    expires_at,
                    granted_at,
                };
                self.auditors.insert(user, grant);
            }
            E::AuditorRevoked { user, .. } | E::AuditorExpired { user, .. } => {
                self.auditors.remove(&user);
            }
            E::CrewListed { crew, environment } => {
                self.crews.insert(crew, environment);
            }
            E::CrewUnlisted { crew, .. } => {
                self.crews.remove(&crew);
            }
            E::LimitsChanged { from: _, to } => self.limits = to,
            E::UsageMonthClosed { statement } => {
                self.closed_months.insert(statement.month);
            }
            E::WorkspaceRecovered { user, .. } => self.grant(user, Role::Owner),
        }
    }
}

impl Stream for Workspace {
    const STATE_VERSION: i64 = 7;

    fn positioned(&mut self, event: &WorkspaceEvent, position: u64) {
        match event {
            WorkspaceEvent::MemberJoined { user, .. }
            | WorkspaceEvent::MemberRoleChanged { user, .. }
            | WorkspaceEvent::WorkspaceRecovered { user, .. } => {
                if let Some(member) = self.members.get_mut(user) {
                    member.granted_at = position;
                }
            }
            WorkspaceEvent::ApiKeyCreated(KeyCreated { key, .. })
            | WorkspaceEvent::ApiKeyUpdated(KeyUpdated { key, .. }) => {
                self.keys.positioned(*key, position);
            }
            // What a key may stays as it was given.
            WorkspaceEvent::ApiKeyRotated(_)
            | WorkspaceEvent::ApiKeyRevoked(_)
            | WorkspaceEvent::ApiKeyExpired(_) => {}
            WorkspaceEvent::MembershipLimited { user, .. } => {
                let member = self.members.get_mut(user);
                if let Some(limit) = member.and_then(|member| member.limit.as_mut()) {
                    limit.decided_at = position;
                }
            }
            WorkspaceEvent::AuditorGranted { user, .. } => {
                if let Some(grant) = self.auditors.get_mut(user) {
                    grant.granted_at = position;
                }
            }
            WorkspaceEvent::WorkspaceCreated { .. }
            | WorkspaceEvent::WorkspaceRenamed { .. }
            | WorkspaceEvent::PlanSelected { .. }
            | WorkspaceEvent::MemberRemoved { .. }
            | WorkspaceEvent::MemberLeft { .. }
            | WorkspaceEvent::MemberInvited { .. }
            | WorkspaceEvent::InvitationResent { .. }
            | WorkspaceEvent::InvitationAccepted { .. }
            | WorkspaceEvent::InvitationDeclined { .. }
            | WorkspaceEvent::InvitationRevoked { .. }
            | WorkspaceEvent::InvitationExpired { .. }
            | WorkspaceEvent::OwnershipTransferred { .. }
            | WorkspaceEvent::WorkspaceDeleted { .. }
            | WorkspaceEvent::PolicyChanged { .. }
            | WorkspaceEvent::LegalHoldPlaced { .. }
            | WorkspaceEvent::LegalHoldLifted { .. }
            | WorkspaceEvent::MembershipLimitLifted { .. }
            | WorkspaceEvent::MembershipLimitReached { .. }
            | WorkspaceEvent::AuditorRevoked { .. }
            | WorkspaceEvent::AuditorExpired { .. }
            | WorkspaceEvent::CrewListed { .. }
            | WorkspaceEvent::CrewUnlisted { .. }
            | WorkspaceEvent::LimitsChanged { .. }
            | WorkspaceEvent::UsageMonthClosed { .. } => {}
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }

    fn weight_bytes(&self) -> usize {
        // An entry with its share of the node; a pending invitation has its hash besides.
        size_of::<Self>()
            + self.name.len()
            + (self.members.len() + self.auditors.len()) * 72
            + self.pending.len() * 192
            + self.finished.len() * 24
            + self.crews.len() * 32
            + self.closed_months.len() * 16
            + self.keys.weight_bytes()
    }
}

impl DomainEvent for WorkspaceEvent {
    fn event_type(&self) -> String {
        match self {
            Self::WorkspaceCreated { .. } => "workspace_created",
            Self::WorkspaceRenamed { .. } => "workspace_renamed",
            Self::PlanSelected { .. } => "plan_selected",
            Self::MemberJoined { .. } => "member_joined",
            Self::MemberRoleChanged { .. } => "member_role_changed",
            Self::MemberRemoved { .. } => "member_removed",
            Self::MemberLeft { .. } => "member_left",
            Self::MemberInvited { .. } => "member_invited",
            Self::InvitationResent { .. } => "invitation_resent",
            Self::InvitationAccepted { .. } => "invitation_accepted",
            Self::InvitationDeclined { .. } => "invitation_declined",
            Self::InvitationRevoked { .. } => "invitation_revoked",
            Self::InvitationExpired { .. } => "invitation_expired",
            Self::ApiKeyCreated(_) => "api_key_created",
            Self::ApiKeyUpdated(_) => "api_key_updated",
            Self::ApiKeyRotated(_) => "api_key_rotated",
            Self::ApiKeyRevoked(_) => "api_key_revoked",
            Self::ApiKeyExpired(_) => "api_key_expired",
            Self::OwnershipTransferred { .. } => "ownership_transferred",
            Self::WorkspaceDeleted { .. } => "workspace_deleted",
            Self::PolicyChanged { .. } => "policy_changed",
            Self::LegalHoldPlaced { .. } => "legal_hold_placed",
            Self::LegalHoldLifted { .. } => "legal_hold_lifted",
            Self::MembershipLimited { .. } => "membership_limited",
            Self::MembershipLimitLifted { .. } => "membership_limit_lifted",
            Self::MembershipLimitReached { .. } => "membership_limit_reached",
            Self::AuditorGranted { .. } => "auditor_granted",
            Self::AuditorRevoked { .. } => "auditor_revoked",
            Self::AuditorExpired { .. } => "auditor_expired",
            Self::CrewListed { .. } => "crew_listed",
            Self::CrewUnlisted { .. } => "crew_unlisted",
            Self::LimitsChanged { .. } => "limits_changed",
            Self::UsageMonthClosed { .. } => "usage_month_closed",
            Self::WorkspaceRecovered { .. } => "workspace_recovered",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
