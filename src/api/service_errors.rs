//! What the service could not do, as a problem. The one place that joins the two.

use super::{
    fields::{FieldCode, FieldError},
    problem::{Problem, ProblemCode},
};
use crate::service::ServiceError;

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(refusal) => refusal.into(),
            ServiceError::Unauthenticated => Self::of(ProblemCode::Unauthenticated),
            ServiceError::InvalidCredentials => Self::of(ProblemCode::InvalidCredentials),
            ServiceError::TooManyAttempts { retry_after } => {
                Self::of(ProblemCode::TooManyAttempts).retry_after(retry_after)
            }
            ServiceError::PreconditionFailed { version } => Self::new(
                ProblemCode::PreconditionFailed,
                format!("its version is {version} now"),
            ),
            ServiceError::NothingToMatch => Self::new(
                ProblemCode::PreconditionFailed,
                "there is nothing here yet that `If-Match` could match",
            ),
            ServiceError::IdempotencyKeyReused => Self::of(ProblemCode::IdempotencyKeyReused),
            ServiceError::IdempotencyInProgress => Self::of(ProblemCode::IdempotencyInProgress),
            ServiceError::InvalidValue { pointer, detail } => {
                FieldError::invalid(pointer, detail).into()
            }
            ServiceError::InvalidParameter { .. } => Self::invalid_request(error.to_string()),
            ServiceError::MonthClosed { records } => {
                let errors = records.iter().map(|(place, month)| {
                    let detail = format!("{month} is closed and takes no more records");
                    FieldError::new(
                        FieldCode::MonthClosed,
                        format!("/records/{place}/at"),
                        detail,
                    )
                });
                Self::of(ProblemCode::MonthClosed).with_errors(errors.collect())
            }
            ServiceError::UsageConflict { records } => {
                let errors = records.iter().map(|place| {
                    let detail = "another record has this id, and says something else";
                    FieldError::new(
                        FieldCode::UsageConflict,
                        format!("/records/{place}/id"),
                        detail,
                    )
                });
                Self::of(ProblemCode::UsageConflict).with_errors(errors.collect())
            }
            ServiceError::UnknownAction { .. } => {
                Self::new(ProblemCode::UnknownAction, error.to_string())
            }
            ServiceError::Overloaded => Self::of(ProblemCode::Overloaded),
            ServiceError::TooManyTails { .. } => {
                Self::new(ProblemCode::TooManyTails, error.to_string())
            }
            ServiceError::PositionNotReached { position, .. } => Self::new(
                ProblemCode::PositionNotReached,
                format!(
                    "the log is at {position} here; ask again after the seconds in `Retry-After`"
                ),
            ),
            ServiceError::ReadOnly => Self::of(ProblemCode::ReadOnly),
            ServiceError::Unavailable(_) => Self::unavailable(&error),
            ServiceError::Refuses(_) | ServiceError::Internal(_) => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::IntoResponse;

    use super::*;
    use crate::api::testing::text_of;

    #[test]
    fn every_error_has_its_status() {
        let seconds = Duration::from_secs(7);
        for (error, code, status) in [
            (
                ServiceError::Refused(crate::domain::Refusal::LastOwner),
                "last_owner",
                409,
            ),
            (ServiceError::Unauthenticated, "unauthenticated", 401),
            (ServiceError::InvalidCredentials, "invalid_credentials", 401),
            (
                ServiceError::TooManyAttempts {
                    retry_after: seconds,
                },
                "too_many_attempts",
                429,
            ),
            (
                ServiceError::PreconditionFailed { version: 3 },
                "precondition_failed",
                412,
            ),
            (ServiceError::NothingToMatch, "precondition_failed", 412),
            (
                ServiceError::IdempotencyKeyReused,
                "idempotency_key_reused",
                422,
            ),
            (
                ServiceError::IdempotencyInProgress,
                "idempotency_in_progress",
                409,
            ),
            (
                ServiceError::UnknownAction {
                    known: vec!["plan.select"],
                },
                "unknown_action",
                422,
            ),
            (ServiceError::Overloaded, "overloaded", 503),
            (
                ServiceError::TooManyTails { most: 1 },
                "too_many_tails",
                429,
            ),
            (ServiceError::Unavailable(String::new()), "unavailable", 503),
            (
                ServiceError::PositionNotReached {
                    wanted: 9,
                    position: 1,
                },
                "position_not_reached",
                503,
            ),
            (ServiceError::ReadOnly, "read_only", 503),
            (ServiceError::Internal(String::new()), "internal", 500),
        ] {
            let problem = Problem::from(error);
            let kind = problem.code().kind();
            assert_eq!((kind.code, kind.status.as_u16()), (code, status));
            let response = problem.into_response();
            let retry = response.headers().get("retry-after");
            let retries = matches!(status, 429 | 503) || code == "idempotency_in_progress";
            assert_eq!(retry.is_some(), retries, "{code}");
            assert!(code != "too_many_attempts" || retry.is_some_and(|wait| wait == "7"));
        }
        let invalid = ServiceError::InvalidValue {
            pointer: "/plan",
            detail: "no".to_owned(),
        };
        assert_eq!(Problem::from(invalid).errors()[0].pointer(), "/plan");
    }

    #[tokio::test]
    async fn what_a_store_says_stays_inside() {
        for error in [
            ServiceError::Unavailable("SELECT hunter2".to_owned()),
            ServiceError::Internal("SELECT hunter2".to_owned()),
        ] {
            let text = text_of(Problem::from(error).into_response()).await;
            assert!(!text.contains("SELECT"), "{text}");
        }
    }
}
