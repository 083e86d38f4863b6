//! Which moment is meant by a position or a time.

use super::{Service, ServiceError};
use crate::{domain::Timestamp, journal::stores};

/// A moment of the log, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// After the entry at this position, and before the next.
    Position(u64),
    /// At this time.
    Time(Timestamp),
}

/// A moment of the log: what was written up to a position, at a time at which deadlines count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MomentInLog {
    pub position: u64,
    pub at: Timestamp,
}

impl Service {
    /// The moment that is meant; now, where nobody says.
    ///
    /// # Errors
    /// [`ServiceError::InvalidParameter`], under the name given, for what has not come yet; where a
    /// replica does not know whether it has, [`ServiceError::ReadOnly`] or
    /// [`ServiceError::PositionNotReached`].
    pub(super) async fn moment(
        &self,
        name: &'static str,
        as_of: Option<AsOf>,
    ) -> Result<MomentInLog, ServiceError> {
        let store = &**self.journal.store();
        let head = stores::head(store).await?;
        let now = self.source().now().max(head.recorded_at);
        let to_come = |detail: String| ServiceError::InvalidParameter { name, detail };
        match as_of {
            None => Ok(MomentInLog {
                position: head.position,
                at: now,
            }),
            Some(AsOf::Time(at)) if at > now => {
                Err(to_come(format!("it is {} now", now.to_rfc3339())))
            }
            // Entries of before then may be on their way here.
            Some(AsOf::Time(at)) if self.is_replica() && at > head.recorded_at => {
                Err(ServiceError::ReadOnly)
            }
            Some(AsOf::Time(at)) => Ok(MomentInLog {
                position: stores::last_position_at(store, at).await?,
                at,
            }),
            Some(AsOf::Position(wanted)) if self.is_replica() && wanted > head.position => {
                let position = head.position;
                Err(ServiceError::PositionNotReached { wanted, position })
            }
            Some(AsOf::Position(position)) if position > head.position => {
                Err(to_come(format!("the log is at {}", head.position)))
            }
            Some(AsOf::Position(position)) => {
                let event = stores::events_at(store, &[position]).await?;
                let at = event
                    .first()
                    .map_or(Timestamp(0), |event| event.recorded_at);
                Ok(MomentInLog { position, at })
            }
        }
    }
}
