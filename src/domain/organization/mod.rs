//! An organization: its name, who has a role in it, and whose profiles it has a copy of.
//!
//! None of its roles reaches into a crew, and it knows nothing of its workspaces' members:
//! a workspace names its organization, not the other way round. It never opens a profile;
//! it only remembers which version of it the log holds a copy of.
//!
//! Who has a role in it is decided in `members.rs`, and whether it is suspended in
//! `suspension.rs`.
//!
//! To add something that can happen to an organization: an event, the command that asks
//! for it, a function that decides it, its arm in `apply`, and its rule in `tests.rs`.

mod commands;
mod erasure;
mod events;
mod members;
mod suspension;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use serde::{Deserialize, Serialize};

pub use commands::OrganizationCommand;
pub use events::OrganizationEvent;

use super::{
    Moment, Name, Refusal, Stream, Timestamp,
    api_keys::{KeyCommand, KeyCreated, KeyRing, KeyUpdated},
    authority::{Actor, AuthorityLink, OrganizationPermission, OrganizationRole},
    ids::{KeyId, OrganizationId, UserId, WorkspaceId},
    sealed::Sealed,
};

/// An organization, folded from its events.
///
/// Holds at least one owner from its creation on. `persons` has the newest
/// `profile_sequence` of each person that was ever recorded, and it only grows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Organization {
    id: Option<OrganizationId>,
    name: String,
    members: BTreeMap<UserId, OrganizationMember>,
    persons: BTreeMap<UserId, u64>,
    keys: KeyRing,
    /// The workspaces that are under a legal hold.
    held: BTreeSet<WorkspaceId>,
    /// Who has erased their account, and from when on the copy here is to be erased.
    erasures: BTreeMap<UserId, Timestamp>,
    /// Since when it is suspended, where it is.
    suspended_at: Option<Timestamp>,
}

/// A role in an organization, and the event that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OrganizationMember {
    /// What they may.
    pub role: OrganizationRole,
    /// Position of the event that gave the role; 0 until the log has given it one.
    pub granted_at: u64,
}

impl Organization {
    /// Whether it was made.
    pub fn exists(&self) -> bool {
        self.id.is_some()
    }

    /// Its name; empty before it was made.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which version of a person's profile it has a copy of, if of any.
    pub fn person_sequence(&self, user: UserId) -> Option<u64> {
        self.persons.get(&user).copied()
    }

    /// Who has a role in it, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = (UserId, OrganizationMember)> {
        self.members.iter().map(|(user, member)| (*user, *member))
    }

    /// That `user` may do what `permission` names, and what gave them that.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when there is no organization, and, marked as hidden, when
    /// they have no role in it; [`Refusal::NotPermittedInOrganization`] when their role
    /// does not hold the permission.
    pub fn authorise(
        &self,
        user: UserId,
        permission: OrganizationPermission,
    ) -> Result<AuthorityLink, Refusal> {
        self.existing()?;
        let member = self.members.get(&user).ok_or(Self::hidden())?;
        let role = member.role;
        if !permission.allows(role) {
            return Err(Refusal::NotPermittedInOrganization { permission, role });
        }
        Ok(AuthorityLink::OrganizationRole {
            role,
            position: member.granted_at,
        })
    }

    /// That `key` may do at `now` what `permission` names, and what gave it that.
    ///
    /// # Errors
    /// As [`KeyRing::authorise`] does.
    pub fn authorise_key(
        &self,
        key: KeyId,
        permission: OrganizationPermission,
        now: Timestamp,
    ) -> Result<AuthorityLink, Refusal> {
        self.keys.authorise(key, permission.of_keys(), now)
    }

    /// Its API keys.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The events that `command` leads to at `now`; nothing has changed yet.
    fn decide(
        &self,
        command: OrganizationCommand,
        now: Timestamp,
    ) -> Result<Vec<OrganizationEvent>, Refusal> {
        match command {
            OrganizationCommand::Create {
                organization,
                name,
                created_by,
            } => self.create(organization, name, created_by),
            OrganizationCommand::Rename { actor, name } => self.rename(actor, name),
            OrganizationCommand::RecordPerson {
                user,
                profile_sequence,
                email,
                name,
            } => self.record_person(user, profile_sequence, email, name),
            OrganizationCommand::Key(command) => self.decide_key(command, now),
            OrganizationCommand::SetMember { actor, user, role } => {
                self.set_member(actor, user, role)
            }
            OrganizationCommand::Suspend { suspended_by } => self.suspend(suspended_by, now),
            OrganizationCommand::Resume { resumed_by } => self.resume(resumed_by),
            OrganizationCommand::RemoveMember { actor, user } => self.remove_member(actor, user),
            OrganizationCommand::NoteHold { workspace, held } => self.note_hold(workspace, held),
            OrganizationCommand::ScheduleErasure { user, due_at } => {
                self.schedule_erasure(user, due_at)
            }
            OrganizationCommand::ErasePerson { user } => self.erase_person(user, now),
        }
    }

    fn decide_key(
        &self,
        command: KeyCommand,
        now: Timestamp,
    ) -> Result<Vec<OrganizationEvent>, Refusal> {
        self.existing()?;
        if let Some(user) = command.asked_by() {
            self.authorise(user, OrganizationPermission::ManageKeys)?;
        }
        let events = self.keys.decide(command, now)?;
        Ok(events.into_iter().map(OrganizationEvent::from).collect())
    }

    fn existing(&self) -> Result<OrganizationId, Refusal> {
        self.id.ok_or(Refusal::NotFound {
            what: "organization",
            hidden: false,
        })
    }

    fn hidden() -> Refusal {
        Refusal::NotFound {
            what: "organization",
            hidden: true,
        }
    }

    fn create(
        &self,
        organization: OrganizationId,
        name: Name,
        created_by: UserId,
    ) -> Result<Vec<OrganizationEvent>, Refusal> {
        if self.exists() {
            return Err(Refusal::AlreadyExists {
                what: "organization",
            });
        }
        Ok(vec![
            OrganizationEvent::OrganizationCreated {
                organization,
                name: name.into(),
                created_by,
            },
            OrganizationEvent::OrganizationMemberAdded {
                user: created_by,
                role: OrganizationRole::Owner,
            },
        ])
    }

    fn rename(&self, actor: Actor, name: Name) -> Result<Vec<OrganizationEvent>, Refusal> {
        self.existing()?;
        // Due work renames nothing, so Crewlog itself has no more right to it than a stranger.
        let user = actor.user().ok_or(Self::hidden())?;
        self.authorise(user, OrganizationPermission::Rename)?;
        if name.as_str() == self.name {
            return Ok(Vec::new());
        }
        Ok(vec![OrganizationEvent::OrganizationRenamed {
            from: self.name.clone(),
            to: name.into(),
        }])
    }

    fn record_person(
        &self,
        user: UserId,
        profile_sequence: u64,
        email: Sealed,
        name: Sealed,
    ) -> Result<Vec<OrganizationEvent>, Refusal> {
        self.existing()?;
        if self.person_sequence(user) >= Some(profile_sequence) {
            return Ok(Vec::new());
        }
        Ok(vec![OrganizationEvent::PersonRecorded {
            user,
            profile_sequence,
            email,
            name,
        }])
    }
}

impl Aggregate for Organization {
    const TYPE: &'static str = "organization";
    type Command = OrganizationCommand;
    type Event = OrganizationEvent;
    type Error = Refusal;
    type Services = Moment;

    async fn handle(
        &mut self,
        command: OrganizationCommand,
        moment: &Moment,
        sink: &EventSink<Self>,
    ) -> Result<(), Refusal> {
        // All is decided before the first write, and `write` applies: a refusal changes
        // nothing, and nothing is applied twice.
        for event in self.decide(command, moment.now)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: OrganizationEvent) {
        if let Some(event) = event.of_key() {
            return self.keys.apply(event);
        }
        match event {
            OrganizationEvent::OrganizationCreated {
                organization,
                name,
                created_by: _,
            } => {
                self.id = Some(organization);
                self.name = name;
            }
            OrganizationEvent::OrganizationRenamed { from: _, to } => self.name = to,
            OrganizationEvent::OrganizationMemberAdded { user, role } => {
                let granted_at = 0;
                self.members
                    .insert(user, OrganizationMember { role, granted_at });
            }
            OrganizationEvent::PersonRecorded {
                user,
                profile_sequence,
                email: _,
                name: _,
            } => {
                self.persons.insert(user, profile_sequence);
            }
            OrganizationEvent::OrganizationKeyCreated(_)
            | OrganizationEvent::OrganizationKeyUpdated(_)
            | OrganizationEvent::OrganizationKeyRotated(_)
            | OrganizationEvent::OrganizationKeyRevoked(_)
            | OrganizationEvent::OrganizationKeyExpired(_) => {}
            OrganizationEvent::OrganizationMemberRoleChanged { user, to: role, .. } => {
                let granted_at = 0;
                self.members
                    .insert(user, OrganizationMember { role, granted_at });
            }
            OrganizationEvent::OrganizationMemberRemoved { user, .. } => {
                self.members.remove(&user);
            }
            OrganizationEvent::WorkspaceHoldBegan { workspace } => {
                self.held.insert(workspace);
            }
            OrganizationEvent::WorkspaceHoldEnded { workspace } => {
                self.held.remove(&workspace);
            }
            OrganizationEvent::PersonErasureScheduled { user, due_at } => {
                self.erasures.insert(user, due_at);
            }
            OrganizationEvent::PersonErased { user } => {
                self.erasures.remove(&user);
                self.persons.remove(&user);
            }
            OrganizationEvent::OrganizationSuspended { suspended_at, .. } => {
                self.suspended_at = Some(suspended_at);
            }
            OrganizationEvent::OrganizationResumed { .. } => self.suspended_at = None,
        }
    }
}

impl Stream for Organization {
    const STATE_VERSION: i64 = 5;

    fn positioned(&mut self, event: &OrganizationEvent, position: u64) {
        match event {
            OrganizationEvent::OrganizationMemberAdded { user, .. }
            | OrganizationEvent::OrganizationMemberRoleChanged { user, .. } => {
                if let Some(member) = self.members.get_mut(user) {
                    member.granted_at = position;
                }
            }
            OrganizationEvent::OrganizationKeyCreated(KeyCreated { key, .. })
            | OrganizationEvent::OrganizationKeyUpdated(KeyUpdated { key, .. }) => {
                self.keys.positioned(*key, position);
            }
            OrganizationEvent::OrganizationCreated { .. }
            | OrganizationEvent::OrganizationRenamed { .. }
            | OrganizationEvent::PersonRecorded { .. }
            | OrganizationEvent::OrganizationKeyRotated(_)
            | OrganizationEvent::OrganizationKeyRevoked(_)
            | OrganizationEvent::OrganizationKeyExpired(_)
            | OrganizationEvent::WorkspaceHoldBegan { .. }
            | OrganizationEvent::WorkspaceHoldEnded { .. }
            | OrganizationEvent::PersonErasureScheduled { .. }
            | OrganizationEvent::PersonErased { .. }
            | OrganizationEvent::OrganizationSuspended { .. }
            | OrganizationEvent::OrganizationResumed { .. }
            | OrganizationEvent::OrganizationMemberRemoved { .. } => {}
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.id
    }

    fn weight_bytes(&self) -> usize {
        // 48 bytes an entry of each map, with its share of the node.
        size_of::<Self>()
            + self.name.len()
            + (self.members.len() + self.persons.len() + self.held.len() + self.erasures.len()) * 48
            + self.keys.weight_bytes()
    }
}

impl DomainEvent for OrganizationEvent {
    fn event_type(&self) -> String {
        match self {
            Self::OrganizationCreated { .. } => "organization_created",
            Self::OrganizationRenamed { .. } => "organization_renamed",
            Self::OrganizationMemberAdded { .. } => "organization_member_added",
            Self::PersonRecorded { .. } => "person_recorded",
            Self::OrganizationKeyCreated(_) => "organization_key_created",
            Self::OrganizationKeyUpdated(_) => "organization_key_updated",
            Self::OrganizationKeyRotated(_) => "organization_key_rotated",
            Self::OrganizationKeyRevoked(_) => "organization_key_revoked",
            Self::OrganizationKeyExpired(_) => "organization_key_expired",
            Self::OrganizationMemberRoleChanged { .. } => "organization_member_role_changed",
            Self::OrganizationMemberRemoved { .. } => "organization_member_removed",
            Self::WorkspaceHoldBegan { .. } => "workspace_hold_began",
            Self::WorkspaceHoldEnded { .. } => "workspace_hold_ended",
            Self::PersonErasureScheduled { .. } => "person_erasure_scheduled",
            Self::PersonErased { .. } => "person_erased",
            Self::OrganizationSuspended { .. } => "organization_suspended",
            Self::OrganizationResumed { .. } => "organization_resumed",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}
