//! An organization gets to know somebody: it keeps its own copy of their profile, sealed under a
//! key of theirs in it. So it does of whoever accepts an invitation, is given a role or a grant.
//!
//! Whose key that is, is a matter of identity: the subject that they are there already; else the
//! one that has their address there, if it is nobody yet, as an invitation has left it; else a
//! new one. A subject that is somebody else is left to them, whatever address it is found by. So
//! an address which its holder has given up is as good as any other for who has it now, and
//! neither is ever taken for the other.
//!
//! Composed outside and decided in the unit that gives them something there; composed anew
//! where their profile, who has their address in the organization, or who a subject is, has
//! changed meanwhile.

use std::sync::Arc;

use super::{Service, ServiceError, organizations::organization_stream, write::profile_is_at};
use crate::{
    domain::{
        ids::{EventId, OrganizationId, SubjectId, UserId},
        organization::{Organization, OrganizationCommand},
        sealed::KeyOwner,
        user::User,
    },
    journal::{Desk, LookupKey, Rejection, StreamRef, sealing::DataKey, stores::Statement},
};

/// A profile that an organization is given a copy of.
pub(super) struct ProfileCopy<'a> {
    pub email: &'a str,
    pub name: &'a str,
    /// Its sequence in the person's own stream.
    pub sequence: u64,
    /// What the address is looked up by.
    pub lookup: &'a str,
}

/// What makes somebody known in an organization.
pub(super) struct Introduction {
    user: UserId,
    /// The person's account; the unit must name it.
    pub person: StreamRef,
    /// The unit must name it.
    pub organization: StreamRef,
    /// Their address in the organization.
    address: LookupKey,
    profile_sequence: u64,
    /// Who had the address when this was composed.
    holder: Option<SubjectId>,
    /// Who has it from now on, where that is somebody new.
    new_holder: Option<SubjectId>,
    /// Which subject they are in the organization.
    known: LookupKey,
    /// The one that they are from now on, where they were none when this was composed.
    becomes: Option<SubjectId>,
    /// Subjects that were nobody, and are this person from now on.
    links: Vec<SubjectId>,
    record: OrganizationCommand,
    recorded: EventId,
    statements: Vec<Statement>,
}

/// Whose key seals what the organization knows of somebody.
struct Known {
    key: Arc<DataKey>,
    /// The subject whose key that is, where they were none before.
    becomes: Option<SubjectId>,
    new_holder: Option<SubjectId>,
    statements: Vec<Statement>,
}

impl Introduction {
    /// What the unit must look up.
    pub(super) fn lookups(&self) -> Vec<LookupKey> {
        let links = self.links.iter().copied().map(Service::person_lookup);
        let placed = Service::placed_lookup(self.user);
        let own = [self.address.clone(), self.known.clone(), placed];
        own.into_iter().chain(links).collect()
    }

    /// Makes the person known, if the organization does not know them as they are already.
    pub(super) fn decide(&self, desk: &mut Desk<'_>) -> Result<(), Rejection> {
        profile_is_at(desk, &self.person, self.profile_sequence)?;
        Service::note_placed(desk, self.user);
        let holder = self.holder.map(|subject| subject.to_string());
        if desk.holder(&self.address) != holder.as_deref() {
            return Err(Rejection::Recompose);
        }
        if let Some(subject) = self.becomes {
            if desk.holder(&self.known).is_some() {
                // They became known meanwhile, as another subject.
                return Err(Rejection::Recompose);
            }
            desk.hold(&self.known, Some(subject.to_string()));
        }
        for subject in &self.links {
            self.link(desk, *subject)?;
        }
        if let Some(subject) = self.new_holder {
            desk.hold(&self.address, Some(subject.to_string()));
        }
        self.statements
            .iter()
            .for_each(|statement| desk.write_beside(statement.clone()));
        desk.execute::<Organization>(&self.organization, self.record.clone(), &[self.recorded])?;
        Ok(())
    }

    /// Makes a subject the person, if it is still nobody.
    fn link(&self, desk: &mut Desk<'_>, subject: SubjectId) -> Result<(), Rejection> {
        let (key, user) = (Service::person_lookup(subject), self.user.to_string());
        match desk.holder(&key) {
            None => {
                desk.hold(&key, Some(user));
                desk.write_beside(Service::link_subject(self.user, subject));
                Ok(())
            }
            Some(present) if present == user => Ok(()),
            Some(_) => Err(Rejection::Recompose),
        }
    }
}

impl Service {
    /// What makes a person, who has an account, known in an organization.
    pub(super) async fn introduction(
        &self,
        user: UserId,
        organization: OrganizationId,
    ) -> Result<Introduction, ServiceError> {
        let profile = self.profile(user).await?;
        let copy = ProfileCopy {
            email: &profile.email,
            name: &profile.name,
            sequence: profile.account.version,
            lookup: &self.email_lookup(&profile.address()?),
        };
        self.introduction_as(user, organization, &copy, None).await
    }

    /// The same with a profile that may not be written yet, for somebody who comes in by an
    /// invitation that was sent to them as `invited`.
    pub(super) async fn introduction_as(
        &self,
        user: UserId,
        organization: OrganizationId,
        profile: &ProfileCopy<'_>,
        invited: Option<SubjectId>,
    ) -> Result<Introduction, ServiceError> {
        let realm = organization.to_string();
        let found = self.subjects.of_email(&realm, profile.lookup).await?;
        let nobody = found.filter(|found| found.user.is_none());
        let mut links: Vec<_> = nobody.map(|found| found.subject).into_iter().collect();
        if let Some(invited) = invited.filter(|invited| !links.contains(invited))
            && self.subjects.is_nobody(invited).await?
        {
            links.push(invited);
        }
        let address = found.is_none().then_some(profile.lookup);
        let known = self.known_in(user, organization, &links, address).await?;
        let recorded = EventId::from_uuid(self.source().uuid());
        let mut statements = known.statements;
        statements.extend(self.keep_words(&realm, user, profile.name));
        let seal = |field, value: &str| known.key.seal(self.source(), recorded, field, value);
        let record = OrganizationCommand::RecordPerson {
            user,
            profile_sequence: profile.sequence,
            email: seal("email", profile.email),
            name: seal("name", profile.name),
        };
        Ok(Introduction {
            user,
            person: StreamRef::of::<User>(user, user),
            organization: organization_stream(organization),
            address: Self::email_claim(organization, profile.lookup),
            profile_sequence: profile.sequence,
            holder: found.map(|found| found.subject),
            new_holder: known.new_holder,
            known: LookupKey::Known {
                realm,
                user: user.to_string(),
            },
            becomes: known.becomes,
            links,
            record,
            recorded,
            statements,
        })
    }

    /// The subject that the person is in the organization, one of those that become them, or a
    /// new one; found from now on by `address`, which is there where nobody is found by it.
    async fn known_in(
        &self,
        user: UserId,
        organization: OrganizationId,
        links: &[SubjectId],
        address: Option<&str>,
    ) -> Result<Known, ServiceError> {
        let present = self.subject_of(user, Some(organization)).await?;
        if let Some(subject) = present.or(links.first().copied()) {
            let key = self.keyring.newest(KeyOwner::Subject(subject)).await?;
            let no_key = || ServiceError::Internal(format!("subject {subject} has no key"));
            let found_by = address.map(|address| Self::move_email(subject, address));
            return Ok(Known {
                key: key.ok_or_else(no_key)?,
                becomes: present.is_none().then_some(subject),
                new_holder: address.map(|_| subject),
                statements: found_by.into_iter().collect(),
            });
        }
        let made = self.new_subject(organization, Some(user), address);
        Ok(Known {
            key: made.key,
            becomes: Some(made.subject),
            new_holder: address.map(|_| made.subject),
            statements: made.statements.to_vec(),
        })
    }
}
