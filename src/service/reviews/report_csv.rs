//! A report for spreadsheets: a row for each access, with the campaign that it is of.

use super::report::{Report, Row};
use crate::service::exports::row;

/// The columns, in order.
pub const COLUMNS: [&str; 29] = [
    "access_review",
    "review_name",
    "workspace",
    "status",
    "pinned_at",
    "item",
    "kind",
    "name",
    "role",
    "scopes",
    "crews",
    "environments",
    "since",
    "granted_by",
    "granted_by_name",
    "granted_at_position",
    "last_used_at",
    "findings",
    "recommended",
    "recommended_role",
    "decision",
    "decision_role",
    "decided_by",
    "decided_by_name",
    "decided_at",
    "decided_at_position",
    "reason",
    "outcome",
    "outcome_code",
];

/// The report as rows, the first of them with the names of the columns.
pub fn body(report: &Report) -> String {
    let names = COLUMNS.iter().map(|name| (*name).to_owned());
    let mut text = row(names.chain(["outcome_at_position".to_owned()]));
    for item in &report.items {
        text.push_str(&row(cells(report, item)));
    }
    text
}

fn cells(report: &Report, row: &Row) -> Vec<String> {
    vec![
        report.access_review.to_string(),
        report.name.clone(),
        report.workspace.to_string(),
        report.status.to_owned(),
        report.pinned_at.to_string(),
        row.item.clone(),
        row.kind.to_owned(),
        row.name.clone(),
        cell(row.role),
        listed(row.scopes.iter().map(|scope| scope.name())),
        listed(&row.crews),
        listed(
            row.environments
                .iter()
                .map(|environment| environment.name()),
        ),
        row.since.clone(),
        cell(row.granted_by),
        cell(row.granted_by_name.as_ref()),
        row.granted_at_position.to_string(),
        cell(row.last_used_at.as_ref()),
        row.findings.join("; "),
        cell(row.recommended),
        cell(row.recommended_role),
        cell(row.decision),
        cell(row.decision_role),
        cell(row.decided_by),
        cell(row.decided_by_name.as_ref()),
        cell(row.decided_at.as_ref()),
        cell(row.decided_at_position),
        cell(row.reason.as_ref()),
        cell(row.outcome),
        cell(row.outcome_code.as_ref()),
        cell(row.outcome_at_position),
    ]
}

fn cell(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn listed(values: impl IntoIterator<Item = impl ToString>) -> String {
    let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    values.join(" ")
}
