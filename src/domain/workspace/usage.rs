//! The months of a workspace's usage: each is closed once, with what it came to.
//!
//! What was used is due also where the workspace was deleted meanwhile.

use super::{Workspace, WorkspaceEvent, rules::Decision};
use crate::domain::{
    Refusal, Timestamp,
    usage::{Month, Statement},
};

impl Workspace {
    /// Whether a month has its statement.
    pub fn has_closed(&self, month: Month) -> bool {
        self.closed_months.contains(&month)
    }

    pub(super) fn close_month(&self, statement: Statement, now: Timestamp) -> Decision {
        if !self.exists() {
            return Err(Refusal::NotFound {
                what: "workspace",
                hidden: false,
            });
        }
        if self.has_closed(statement.month) {
            return Ok(Vec::new());
        }
        if now < statement.month.closes_at() {
            return Err(Refusal::WrongValue {
                field: "month",
                detail: "this month still takes records",
            });
        }
        if !statement.adds_up() {
            return Err(Refusal::WrongValue {
                field: "meters",
                detail: "an amount is not what its quantity costs",
            });
        }
        Ok(vec![WorkspaceEvent::UsageMonthClosed { statement }])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cqrs_es::test::TestFramework;

    use super::*;
    use crate::domain::{
        testing::{at, organization, user, workspace},
        usage::{MeterTotal, Recount, UsedQuantity},
        workspace::WorkspaceCommand,
    };

    fn statement(month: &str) -> Statement {
        let used = UsedQuantity {
            quantity: 3,
            records: 2,
        };
        let total = MeterTotal::at(used, None).expect("it fits");
        Statement {
            month: month.parse().expect("a month"),
            plan: None,
            meters: BTreeMap::from([("messages".to_owned(), total)]),
            records_digest: Recount::default().finish().1,
        }
    }

    fn created() -> WorkspaceEvent {
        WorkspaceEvent::WorkspaceCreated {
            workspace: workspace(1),
            organization: organization(1),
            name: "Crew".to_owned(),
            created_by: user(1),
        }
    }

    #[test]
    fn a_month_is_closed_once_and_not_too_early() {
        let month: Month = "2026-10".parse().expect("a month");
        let closes_at = month.closes_at().0;
        let close = || WorkspaceCommand::CloseMonth {
            statement: statement("2026-10"),
        };
        let closed = || WorkspaceEvent::UsageMonthClosed {
            statement: statement("2026-10"),
        };
        let given = |now: i64, events: Vec<WorkspaceEvent>| {
            TestFramework::<Workspace>::with(at(now)).given(events)
        };
        given(closes_at, vec![created()])
            .when(close())
            .then_expect_events(vec![closed()]);
        given(closes_at, vec![created(), closed()])
            .when(close())
            .then_expect_events(vec![]);
        given(closes_at - 1, vec![created()])
            .when(close())
            .then_expect_error(Refusal::WrongValue {
                field: "month",
                detail: "this month still takes records",
            });
        let mut wrong = statement("2026-10");
        for total in wrong.meters.values_mut() {
            total.amount_minor = 1;
        }
        given(closes_at, vec![created()])
            .when(WorkspaceCommand::CloseMonth { statement: wrong })
            .then_expect_error(Refusal::WrongValue {
                field: "meters",
                detail: "an amount is not what its quantity costs",
            });
        given(closes_at, vec![])
            .when(close())
            .then_expect_error(Refusal::NotFound {
                what: "workspace",
                hidden: false,
            });
    }
}
