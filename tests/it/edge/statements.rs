//! Statements as months are closed and verified: what was changed behind their back is found, and
//! a month of very many records keeps nobody waiting.

use std::time::Duration;

use crewlog::domain::authority::Role;
use crewlog::journal::stores::Statement;
use serde_json::Value;

use super::Running;
use super::routes::usage_of_then;
use super::team::{Team, address};
use super::time::{Clocked, email, request};
use crate::support::commands::{crewlog_on, run};
use crate::support::trials::{Case, StoreKind, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "a_changed_usage_record_is_found", changed),
        both("edge", "a_large_month_holds_up_nothing", large),
    ]
}

/// Whatever the store itself would refuse: changes of records.
fn unguarded(kind: StoreKind, change: &str) -> Vec<String> {
    match kind {
        StoreKind::Sqlite => [
            "DROP TRIGGER IF EXISTS usage_records_are_not_changed",
            "DROP TRIGGER IF EXISTS usage_records_are_not_removed",
            change,
        ]
        .map(str::to_owned)
        .to_vec(),
        StoreKind::Postgres => [
            "ALTER TABLE usage_records DISABLE TRIGGER USER",
            change,
            "ALTER TABLE usage_records ENABLE TRIGGER USER",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

async fn changed(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let crew = team.crew(&server, "production").await;
    usage_of_then(&server, &team, &crew, "2025-12", &[5]).await;
    usage_of_then(&server, &team, &crew, "2026-01", &[3, 4]).await;
    let path = team.path("/statements");
    super::eventually("the months to be closed", async || {
        let list = server.get(&path).bearer(&team.owner.token).await;
        let closed = list.body["data"].as_array().map(Vec::len);
        (closed == Some(2)).then_some(())
    })
    .await;
    let verified = || run(crewlog_on(&store, &["verify", "--json"]));
    assert_eq!(verified().expect(0).json()["statements"], 2);
    let one = "WHERE id = '2026-01-0'";
    let of_january = format!("the statement of {} for 2026-01", team.workspace);
    for (change, back, said) in [
        (
            format!("UPDATE usage_records SET quantity = 9 {one}"),
            format!("UPDATE usage_records SET quantity = 3 {one}"),
            "of the meter messages it says 7 in 2 records, and the records say 13 in 2",
        ),
        (
            format!("UPDATE usage_records SET meter = 'calls' {one}"),
            format!("UPDATE usage_records SET meter = 'messages' {one}"),
            "of the meter calls it says 0 in 0 records, and the records say 3 in 1",
        ),
        (
            format!("UPDATE usage_records SET at = at + 1 {one}"),
            format!("UPDATE usage_records SET at = at - 1 {one}"),
            "its records come to the same, and are not those that it was made of",
        ),
        (
            format!("UPDATE usage_records SET crew = 'rubbish' {one}"),
            format!("UPDATE usage_records SET crew = '{crew}' {one}"),
            "a record cannot be read",
        ),
        (
            format!("DELETE FROM usage_records {one}"),
            String::new(),
            "of the meter messages it says 7 in 2 records, and the records say 4 in 1",
        ),
    ] {
        server
            .behind_its_back(&unguarded(store.kind(), &change))
            .await;
        let found = verified().expect(1).json();
        let failures = found["failures"].as_array().expect("failures");
        let details: Vec<_> = failures.iter().map(|one| &one["detail"]).collect();
        let is_told = |detail: &&Value| {
            let detail = detail.as_str().unwrap_or_default();
            detail.starts_with(&of_january) && detail.contains(said)
        };
        assert!(details.iter().any(is_told), "{change}: {details:?}");
        assert!(
            failures.iter().all(|one| one["position"].is_u64()),
            "{found}"
        );
        assert!(!found.to_string().contains("2025-12"), "{found}");
        let text = run(crewlog_on(&store, &["verify"])).expect(1).stdout;
        assert!(text.contains(&of_january), "{text}");
        if !back.is_empty() {
            server
                .behind_its_back(&unguarded(store.kind(), &back))
                .await;
            verified().expect(0);
        }
    }
}

/// More records than one look counts.
const MANY: u64 = 290_000;

async fn large(store: StoreUnderTest) {
    let clocked = Clocked::on(store).await;
    let (service, owner) = (&clocked.service, clocked.owner().await);
    let small = clocked.owner().await;
    let late = email(&address("late"));
    let invited = service
        .invite(
            &request(),
            &owner.caller,
            owner.workspace,
            &late,
            Role::Viewer,
        )
        .await;
    invited.expect("an invitation");
    let numbers = match clocked.store.kind() {
        StoreKind::Sqlite => format!(
            "WITH RECURSIVE numbers (n) AS
             (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {MANY})"
        ),
        StoreKind::Postgres => {
            format!("WITH numbers (n) AS (SELECT generate_series(1, {MANY}))")
        }
    };
    let month = |workspace, organization, numbers: &str, from: &str, closes_at| {
        let records = format!(
            "{numbers} INSERT INTO usage_records (workspace, id, month, crew, meter, quantity, at)
             SELECT '{workspace}', 'r' || n, '2025-12', 'crw_01kax5y3e8f8ttrxvd0v8ypt5n', 'calls',
                    1, 1767000000000000 + n FROM {from}"
        );
        let opened = format!(
            "INSERT INTO usage_months (workspace, month, organization, closes_at)
             VALUES ('{workspace}', '2025-12', '{organization}', {closes_at})"
        );
        [records, opened].map(|sql| Statement::new(sql, []))
    };
    // The large one is due before the small one.
    let of_large = month(owner.workspace, owner.organization, &numbers, "numbers", 1);
    let of_small = month(
        small.workspace,
        small.organization,
        "",
        "(SELECT 1 AS n) one",
        2,
    );
    let rows = of_large.into_iter().chain(of_small).collect();
    clocked.rows.execute(rows).await.expect("records");
    clocked.source.pass(Duration::from_secs(8 * 24 * 3_600));
    let look = async || service.do_what_is_due().await.expect("due work");
    let first = look().await;
    assert_eq!((first.months_closed, first.invitations_expired), (1, 1));
    let statement = |of: &super::time::Owned| (of.caller.clone(), of.workspace);
    let stated = async |of: &super::time::Owned| {
        let (caller, workspace) = statement(of);
        let month = "2025-12".parse().expect("a month");
        let found = service
            .statement_of(&request(), &caller, workspace, month)
            .await;
        found.map(|found| found.value.statement.meters["calls"].quantity)
    };
    assert_eq!(stated(&small).await.expect("a statement"), 1);
    assert!(stated(&owner).await.is_err(), "it is being counted");
    let mut looks = 1;
    while look().await.months_closed == 0 {
        looks += 1;
        assert!(looks < 10, "it is never closed");
    }
    assert_eq!(stated(&owner).await.expect("a statement"), MANY);
    clocked.holds().await;
}
