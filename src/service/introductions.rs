//! An organization gets to know somebody who has an account: it keeps its own copy of their
//! profile, sealed under a key of theirs in it, as it does of whoever accepts an invitation.
//!
//! Composed outside and decided in the unit that gives them something there; composed anew
//! where their profile, or who has their address in the organization, has changed meanwhile.

use std::sync::Arc;

use super::{Service, ServiceError, people::FoundSubject, write::profile_is_at};
use crate::{
    domain::{
        ids::{EventId, OrganizationId, SubjectId, UserId},
        organization::{Organization, OrganizationCommand},
        sealed::KeyOwner,
        user::User,
    },
    journal::{Desk, LookupKey, Rejection, StreamRef, sealing::DataKey, stores::Statement},
};

/// What makes somebody known in an organization.
pub(super) struct Introduction {
    /// The person's account; the unit must name it.
    pub person: StreamRef,
    /// The unit must name it.
    pub organization: StreamRef,
    /// Their address in the organization; the unit must look it up.
    pub address: LookupKey,
    profile_sequence: u64,
    /// Who had the address when this was composed.
    holder: Option<SubjectId>,
    /// Who has it from now on, where that is somebody new.
    new_holder: Option<SubjectId>,
    record: OrganizationCommand,
    recorded: EventId,
    statements: Vec<Statement>,
}

/// Whose key seals what the organization knows of somebody.
struct Known {
    key: Arc<DataKey>,
    new_holder: Option<SubjectId>,
    statements: Vec<Statement>,
}

impl Introduction {
    /// Makes the person known, if the organization does not know them as they are already.
    pub(super) fn decide(&self, desk: &mut Desk<'_>) -> Result<(), Rejection> {
        profile_is_at(desk, &self.person, self.profile_sequence)?;
        let holder = self.holder.map(|subject| subject.to_string());
        if desk.holder(&self.address) != holder.as_deref() {
            return Err(Rejection::Recompose);
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
}

impl Service {
    /// What makes a person, who has an account, known in an organization.
    pub(super) async fn introduction(
        &self,
        user: UserId,
        organization: OrganizationId,
    ) -> Result<Introduction, ServiceError> {
        let profile = self.profile(user).await?;
        let profile_sequence = profile.account.version;
        let lookup = self.email_lookup(&profile.address()?);
        let realm = organization.to_string();
        let found = self.subjects.of_email(&realm, &lookup).await?;
        let known = self.known_in(user, organization, found, &lookup).await?;
        let recorded = EventId::from_uuid(self.source().uuid());
        let seal = |field, value: &str| known.key.seal(self.source(), recorded, field, value);
        let record = OrganizationCommand::RecordPerson {
            user,
            profile_sequence,
            email: seal("email", &profile.email),
            name: seal("name", &profile.name),
        };
        Ok(Introduction {
            person: StreamRef::of::<User>(user, user),
            organization: StreamRef::of::<Organization>(organization, organization),
            address: Self::email_claim(organization, &lookup),
            profile_sequence,
            holder: found.map(|found| found.subject),
            new_holder: known.new_holder,
            record,
            recorded,
            statements: known.statements,
        })
    }

    async fn known_in(
        &self,
        user: UserId,
        organization: OrganizationId,
        found: Option<FoundSubject>,
        lookup: &str,
    ) -> Result<Known, ServiceError> {
        if let Some(subject) = self.subject_of(user, Some(organization)).await? {
            return self.known_as(subject, vec![]).await;
        }
        let (realm, address) = (organization.to_string(), found.is_none().then_some(lookup));
        if let Some(FoundSubject {
            subject,
            user: None,
        }) = found
        {
            // An invitation has made it.
            let link = Self::link_subject(user, &realm, lookup);
            return self.known_as(subject, vec![link]).await;
        }
        // Where somebody else is known here by the address, this one is found without it.
        let made = self.new_subject(&realm, Some(user), address);
        Ok(Known {
            key: made.key,
            new_holder: address.map(|_| made.subject),
            statements: made.statements.to_vec(),
        })
    }

    async fn known_as(
        &self,
        subject: SubjectId,
        statements: Vec<Statement>,
    ) -> Result<Known, ServiceError> {
        let key = self.keyring.newest(KeyOwner::Subject(subject)).await?;
        let key =
            key.ok_or_else(|| ServiceError::Internal(format!("subject {subject} has no key")))?;
        Ok(Known {
            key,
            new_holder: None,
            statements,
        })
    }
}
