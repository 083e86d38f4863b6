//! A report as one page: for reading in a browser and on paper, with no script and no network.
//! Whatever comes from people is text; nothing of it is ever markup.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::report::{Report, Row, Somebody};

/// The page up to its proof, which ends it.
pub fn body(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        // The element stays open: the proof closes it.
        (PreEscaped("<html lang=\"en\">"))
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy"
                content="default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'";
            meta name="viewport" content="width=device-width, initial-scale=1";
            title { "Access review: " (report.name) }
            style { (PreEscaped(STYLE)) }
        }
        (PreEscaped("<body>"))
        header {
            p.kind { "Access review · " (report.status) }
            h1 { (report.name) }
            (terms(report))
        }
        main { (table(report)) }
    };
    page.into_string()
}

/// The end of a page: what proves everything before it.
pub fn proof(checkpoint: &str, statement: &str) -> String {
    let end = html! {
        section #proof {
            h2 { "Proof" }
            p {
                "The log's key has signed this page, up to here, and the checkpoint that it is of. "
                code { "crewlog verify --offline FILE --key VERIFIER" }
                " finds a single changed character, with no server."
            }
            h3 { "Checkpoint" }
            pre #checkpoint { (checkpoint) }
            h3 { "Statement" }
            pre #statement { (statement) }
        }
    };
    format!("{}</body></html>\n", end.into_string())
}

fn terms(report: &Report) -> Markup {
    let summary = report.summary;
    let scope = match report.environment {
        Some(environment) => format!("those that reach {}", environment.name()),
        None => "of every environment".to_owned(),
    };
    html! {
        dl {
            dt { "Workspace" } dd { (report.workspace_name) " " (id(&report.workspace)) }
            dt { "Campaign" } dd { (id(&report.access_review)) }
            dt { "Scope" } dd { (report.principals.join(", ").replace('_', " ")) ", " (scope) }
            dt { "Access as of" } dd { (time(&report.pinned_time)) ", position " (report.pinned_at) }
            dt { "Opened" } dd { (time(&report.opened_at)) " by " (somebody(&report.opened_by)) }
            dt { "Due" } dd { (time(&report.due_at)) "; undecided: " (report.undecided) }
            dt { "Reviewers" } dd {
                @for (at, reviewer) in report.reviewers.iter().enumerate() {
                    @if at > 0 { ", " }
                    (somebody(reviewer))
                }
            }
            dt { "Closed" } dd { (closed(report)) }
        }
        ul.summary {
            li { b { (summary.items) } " reviewed" }
            li { b { (summary.decided) } " decided" }
            @if report.closed_at.is_some() {
                li { b { (summary.kept) } " kept" }
                li { b { (summary.applied) } " changed or revoked" }
                li { b { (summary.not_applied) } " not carried out" }
            }
        }
    }
}

fn closed(report: &Report) -> Markup {
    html! {
        @match (&report.closed_at, &report.closed_by) {
            (None, _) => "not yet",
            (Some(at), Some(by)) => { (time(at)) " by " (somebody(by)) },
            (Some(at), None) => { (time(at)) ", as its time ran out" },
        }
    }
}

fn table(report: &Report) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "Who" } th { "Access" } th { "Given" } th { "Last used" }
                    th { "Evidence" } th { "Decision" } th { "Outcome" }
                }
            }
            tbody {
                @for row in &report.items { (line(row)) }
                @if report.items.is_empty() { tr { td colspan="7" { "Nobody had such access." } } }
            }
        }
    }
}

fn line(row: &Row) -> Markup {
    let environments: Vec<_> = row.environments.iter().map(|at| at.name()).collect();
    html! {
        tr {
            td { b { (row.name) } br; (id(&row.item)) }
            td {
                @match row.role { Some(role) => (role), None => "API key" }
                @if !row.scopes.is_empty() {
                    br; small { @for scope in &row.scopes { (scope.name()) " " } }
                }
                @if !row.crews.is_empty() {
                    br; small { @for crew in &row.crews { (crew) " " } }
                }
                br; small { (environments.join(", ")) }
            }
            td {
                (time(&row.since))
                @if let Some(name) = &row.granted_by_name { br; "by " (name) }
                @if let Some(by) = &row.granted_by { br; (id(by)) }
                br; small { "position " (row.granted_at_position) }
            }
            td { @match &row.last_used_at { Some(at) => (time(at)), None => "never" } }
            td {
                @for finding in &row.findings { (finding) br; }
                @if let Some(recommended) = row.recommended {
                    small { "recommended: " (recommended) " " (row.recommended_role.unwrap_or("")) }
                }
            }
            td { (decision(row)) }
            td {
                @if let Some(outcome) = row.outcome { b class=(outcome) { (outcome) } }
                @if let Some(code) = &row.outcome_code { br; small { (code) } }
                @if let Some(at) = row.outcome_at_position { br; small { "position " (at) } }
            }
        }
    }
}

fn decision(row: &Row) -> Markup {
    html! {
        @if let Some(decision) = row.decision {
            b { (decision) } " " (row.decision_role.unwrap_or(""))
            @match (&row.decided_by_name, &row.decided_by) {
                (Some(name), Some(by)) => {
                    " by " (name) br; (id(by)) br;
                    @if let Some(at) = &row.decided_at { (time(at)) }
                    @if let Some(at) = row.decided_at_position { br; small { "position " (at) } }
                },
                _ => { br; small { "by the campaign's rule: nobody decided" } },
            }
            @if let Some(reason) = &row.reason { br; q { (reason) } }
        } @else { "undecided" }
    }
}

fn somebody(somebody: &Somebody) -> Markup {
    html! { (somebody.name) " " (id(&somebody.id)) }
}

fn id(id: &impl std::fmt::Display) -> Markup {
    html! { code { (id) } }
}

fn time(time: &str) -> Markup {
    html! { time { (time) } }
}

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 14px/1.45 system-ui, sans-serif; color: #1c2430; background: #fff; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { margin: 0 0 .5em; font-size: 1.9em; }
h2 { font-size: 1.1rem; } h3 { font-size: .9rem; margin-bottom: .2rem; }
.kind { margin: 0; color: #5b6675; text-transform: uppercase; letter-spacing: .06em; font-size: .75rem; }
dl { display: grid; grid-template-columns: 8rem 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: #5b6675; } dd { margin: 0; }
.summary { display: flex; flex-wrap: wrap; gap: 1.6rem; list-style: none; padding: .8rem 0; margin: 1rem 0 0; border-top: 2px solid #1c2430; }
.summary b { font-size: 1.5em; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th:nth-child(1) { width: 15%; } th:nth-child(2) { width: 13%; } th:nth-child(3) { width: 16%; }
th:nth-child(4) { width: 11%; } th:nth-child(5) { width: 15%; } th:nth-child(6) { width: 20%; }
thead { display: table-header-group; }
th { text-align: left; overflow-wrap: normal; color: #5b6675; font-weight: 600; }
th, td { border-bottom: 1px solid #d4dae2; padding: .5em .6em .5em 0; vertical-align: top; }
td { overflow-wrap: anywhere; }
tr { break-inside: avoid; }
code, time, small { color: #5b6675; font-size: .85em; }
code { overflow-wrap: anywhere; }
.applied { color: #0b6b3a; } .refused, .changed { color: #a6280f; }
#proof { margin-top: 2rem; border-top: 2px solid #1c2430; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85em; background: #f4f6f9; padding: .6rem; }
@page { size: A4 landscape; margin: 12mm; }
@media print {
  body { margin: 0; max-width: none; padding: 0; font-size: 9.5px; }
  pre { background: none; border: 1px solid #d4dae2; }
}
";
