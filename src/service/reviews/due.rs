//! What time alone does to campaigns: it reminds reviewers, closes what is over, goes on with what
//! is closing, and opens the next one.

use std::collections::BTreeSet;

use super::{Opening, ReviewAt, may_run};
use crate::{
    domain::{
        Timestamp,
        ids::{ReviewId, UserId},
        review::{ITEMS_MAX, RecurrenceEnd, Review, ReviewCommand, ReviewStatus, ReviewTerms},
    },
    journal::{Desk, Origin, Rejection, SubmitError, Unit},
    projections::ReviewDocument,
    service::{Service, ServiceError, write::Made},
};

impl Service {
    /// Does what is due about a campaign; due work, accepted once.
    pub(in crate::service) async fn review_due(
        &self,
        document: &ReviewDocument,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let at = ReviewAt::of(document);
        match document.status {
            ReviewStatus::Open if document.terms.due_at <= now => {
                self.tell_review(at, ReviewCommand::BeginClosing { actor: None })
                    .await?;
                let newest = self.review_in(document.workspace, document.id).await?;
                self.carry_out(&newest.value).await?;
            }
            ReviewStatus::Open => {
                if let Some(days_left) = document.reminder_due(now) {
                    self.tell_review(at, ReviewCommand::Remind { days_left })
                        .await?;
                }
            }
            ReviewStatus::Closing => {
                self.carry_out(document).await?;
            }
            ReviewStatus::Closed => self.recur(document).await?,
        }
        Ok(())
    }

    async fn tell_review(&self, at: ReviewAt, command: ReviewCommand) -> Result<(), ServiceError> {
        let stream = at.stream();
        let unit = Unit {
            lane: at.place.organization.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                desk.execute::<Review>(&stream, command.clone(), &[])?;
                Ok(Made::Nothing.outcome(0))
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }

    /// Opens the next campaign, on the same terms, for as long as the one before.
    async fn recur(&self, document: &ReviewDocument) -> Result<(), ServiceError> {
        let before = ReviewAt::of(document);
        let next = ReviewAt {
            id: ReviewId::from_uuid(self.source().uuid()),
            ..before
        };
        let lasted = document.terms.due_at.0 - document.created_at.0;
        let opened_by = document.opened_by;
        let terms = document.terms.clone();
        let opening = self
            .opening(next, terms, opened_by, Some(document.id))
            .await?;
        let unit = Unit {
            lane: before.place.organization.to_string(),
            streams: vec![before.place.stream(), before.stream(), next.stream()],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                let now = desk.now();
                if desk.read::<Review>(&before.stream()).recurs(now) {
                    let due_at = Timestamp(now.0 + lasted);
                    recur_in(desk, before, &opening, due_at)?;
                }
                Ok(Made::Nothing.outcome(0))
            }),
        };
        match self.journal.submit(unit).await {
            // The next look finds it again.
            Ok(_) | Err(SubmitError::Recompose) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens the next campaign with the reviewers who still may, as whoever opened the last one, or
/// else one of them; with nobody left, or with more access than one takes, none opens any more.
fn recur_in(
    desk: &mut Desk<'_>,
    before: ReviewAt,
    opening: &Opening,
    due_at: Timestamp,
) -> Result<(), Rejection> {
    let mut may = |user: &UserId| may_run(desk, before, *user);
    let reviewers: BTreeSet<UserId> = opening
        .terms
        .reviewers
        .iter()
        .copied()
        .filter(&mut may)
        .collect();
    let opener = Some(opening.actor).filter(&mut may);
    let opener = opener.or(reviewers.first().copied());
    let opener = opener_of(opener, &reviewers, opening.items);
    let next = opener.map(|_| opening.at.id);
    desk.execute::<Review>(&before.stream(), ReviewCommand::Recur { next }, &[])?;
    let Ok(actor) = opener else {
        return Ok(());
    };
    let opening = Opening {
        terms: ReviewTerms {
            reviewers,
            due_at,
            ..opening.terms.clone()
        },
        actor,
        ..opening.clone()
    };
    opening.decide(desk)
}

/// Who opens the next campaign, or why nobody does: what is refused now would be refused again.
fn opener_of(
    opener: Option<UserId>,
    reviewers: &BTreeSet<UserId>,
    items: u64,
) -> Result<UserId, RecurrenceEnd> {
    match opener {
        Some(_) if items > ITEMS_MAX => Err(RecurrenceEnd::TooMuchAccess),
        Some(opener) if !reviewers.is_empty() => Ok(opener),
        Some(_) | None => Err(RecurrenceEnd::NobodyReviews),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_cannot_open_ends_by_saying_why() {
        let user = UserId::from_uuid(Uuid::from_u128(1));
        let some = BTreeSet::from([user]);
        assert_eq!(opener_of(Some(user), &some, ITEMS_MAX), Ok(user));
        let too_much = opener_of(Some(user), &some, ITEMS_MAX + 1);
        assert_eq!(too_much, Err(RecurrenceEnd::TooMuchAccess));
        for (opener, reviewers) in [(Some(user), BTreeSet::new()), (None, some)] {
            let nobody = opener_of(opener, &reviewers, 1);
            assert_eq!(nobody, Err(RecurrenceEnd::NobodyReviews));
        }
    }
}
