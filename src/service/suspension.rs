//! Organizations that an operator of the installation has suspended: what is refused in them, here.
//!
//! What a unit writes is held against the table of [`crate::domain::suspension`] inside the append,
//! on the newest state, whichever command it was: [`Service::submit`] sends nothing that is not
//! [`guarded`]. Who may not is told that first, as before. Due work goes round it, and what of it
//! must not go on asks for itself. Keys of a suspended organization are good for nothing; what is
//! written beside the log is refused by what the newest documents say.

use super::{
    Principal, Request, Service, ServiceError,
    organizations::organization_stream,
    write::{Aim, Composed},
};
use crate::{
    domain::{Refusal, ids::OrganizationId, organization::Organization, suspension},
    journal::{Desk, Rejection, StreamRef},
};

/// Whether an organization is suspended, on the newest state; the unit has named its stream.
pub(super) fn is_suspended(desk: &mut Desk<'_>, organization: &StreamRef) -> bool {
    let organization = desk.read::<Organization>(organization);
    organization.suspended_since().is_some()
}

/// Whether who is refused for this has no business to know more.
fn goes_before(refusal: &Refusal) -> bool {
    refusal.is_denial() || matches!(refusal, Refusal::NotFound { .. })
}

impl Service {
    /// Why a suspended organization refuses.
    pub(super) fn suspended(&self) -> Refusal {
        Refusal::OrganizationSuspended {
            contact: self.settings.operator_contact.clone(),
        }
    }

    /// The same unit, refused where it would write what its organization, which its lane names, does
    /// not while it is suspended.
    pub(super) fn guarded(&self, composed: Composed) -> Composed {
        let Ok(organization) = composed.lane.parse() else {
            return composed;
        };
        let (stream, refusal) = (organization_stream(organization), self.suspended());
        let Composed {
            mut streams,
            decide,
            ..
        } = composed;
        let is_it = |known: &StreamRef| {
            known.stream_type.name == stream.stream_type.name && known.id == stream.id
        };
        if !streams.iter().any(is_it) {
            streams.push(stream.clone());
        }
        Composed {
            streams,
            decide: Box::new(move |desk| {
                let decided = decide(desk);
                if !is_suspended(desk, &stream) {
                    return decided;
                }
                match decided {
                    Ok(outcome) if desk.decided().all(suspension::goes_on) => Ok(outcome),
                    Err(Rejection::Recompose) => Err(Rejection::Recompose),
                    Err(Rejection::Refused(before)) if goes_before(&before) => Err(before.into()),
                    Ok(_) | Err(Rejection::Refused(_)) => Err(refusal.clone().into()),
                }
            }),
            ..composed
        }
    }

    /// That what somebody aims at is written beside the log: not where its organization is
    /// suspended, by what its newest document says. A refusal is kept among the attempts there.
    ///
    /// # Errors
    /// [`Refusal::OrganizationSuspended`].
    pub(super) async fn writes_beside(
        &self,
        request: &Request,
        principal: &Principal,
        aim: &Aim,
    ) -> Result<(), ServiceError> {
        if !self.is_suspended_now(aim.organization).await? {
            return Ok(());
        }
        let refusal = self.suspended();
        self.keep_attempt(principal, request, aim, &refusal).await;
        Err(refusal.into())
    }

    /// Whether an organization is suspended, by what its newest document says.
    pub(super) async fn is_suspended_now(
        &self,
        organization: OrganizationId,
    ) -> Result<bool, ServiceError> {
        let found = self.organizations().get(&organization.to_string()).await?;
        Ok(found.value.is_some_and(|it| it.suspended_at.is_some()))
    }
}
