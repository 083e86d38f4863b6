//! Searches of the audit index and lists of documents: what they find, and along which index.

use std::collections::BTreeSet;
use std::sync::Arc;

use crewlog::journal::stores::{
    self, AUDIT_COLUMNS, AuditRow, AuditRows, Sheet, Statement, Store, StoreKind,
};
use crewlog::projections::audit_index::{self, Column, Order, Search};
use crewlog::projections::{self, By, Crews, Engine};

use crate::support::journal::Fixture;
use crate::support::trials::StoreUnderTest;

use super::assert_documents_are_the_log;
use super::naive::Naive;
use super::workload::workload;

/// Searches of every kind: by each column with values that there are, words in any case, ranges.
fn searches(naive: &Naive, order: Order) -> Vec<Search> {
    let columns = [
        (1, Column::Organization),
        (2, Column::Workspace),
        (3, Column::Actor),
        (4, Column::Action),
        (5, Column::Target),
        (6, Column::Outcome),
    ];
    let mut searches = vec![Search::new(order)];
    for (number, column) in columns {
        let values = naive.audit.iter().filter_map(|row| row[number].clone());
        let values: BTreeSet<_> = values.collect();
        for value in values.into_iter().step_by(3) {
            let mut search = Search::new(order);
            search.is(column, value);
            searches.push(search.clone());
            search.at_least(20);
            search.at_most(naive.audit.len() as u64 - 20);
            search.is(Column::Outcome, "ok");
            searches.push(search);
        }
    }
    for words in [
        ["member", "ROLE"],
        ["first", ""],
        ["100%", "_"],
        ["invitation", "é"],
    ] {
        let mut search = Search::new(order);
        words.iter().for_each(|word| search.word(word));
        searches.push(search);
    }
    let mut by_nobody = Search::new(order);
    by_nobody.absent(Column::Actor);
    searches.push(by_nobody);
    searches
}

/// Everything that a search finds, read page by page.
async fn found(store: &dyn Store, mut search: Search, order: Order) -> Vec<u64> {
    let mut all: Vec<u64> = Vec::new();
    loop {
        let page = audit_index::positions(store, &search, 7).await;
        let page = page.expect("positions").value;
        let Some(last) = page.positions.last().copied().max(page.stopped_at) else {
            return all;
        };
        let last = page.stopped_at.unwrap_or(last);
        match order {
            Order::NewestFirst => search.at_most(last - 1),
            Order::OldestFirst => search.at_least(last + 1),
        }
        all.extend(page.positions);
    }
}

pub(super) async fn index_and_tail(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    workload(&fixture, "one").await;
    assert_eq!(
        audit_index::state(&*fixture.store)
            .await
            .expect("a state")
            .position,
        0
    );
    for round in ["two", "three"] {
        // All of it in the log alone at first, then half and half.
        let naive = Naive::of(&*fixture.store).await;
        let mut before = Vec::new();
        for order in [Order::NewestFirst, Order::OldestFirst] {
            for search in searches(&naive, order) {
                before.push(found(&*fixture.store, search, order).await);
            }
        }
        audit_index::catch_up(&*fixture.store)
            .await
            .expect("an index");
        let mut after = Vec::new();
        for order in [Order::NewestFirst, Order::OldestFirst] {
            for mut search in searches(&naive, order) {
                let all = found(&*fixture.store, search.clone(), order).await;
                // The same where little is looked at each time.
                search.look_at(2, 11);
                assert_eq!(found(&*fixture.store, search, order).await, all);
                after.push(all);
            }
        }
        assert_eq!(before, after);
        assert_eq!(before[0].len(), naive.audit.len());
        assert!(before.iter().filter(|found| found.len() > 7).count() > 20);
        workload(&fixture, round).await;
    }
}

/// A row of the index for each of this many positions, of a hundred workspaces.
const PLANNED_ROWS: u64 = 40_000;

/// A store with rows of the index that nothing was written for, of so many people: their number is
/// what plans are made by.
async fn with_rows(store: &StoreUnderTest, people: u64) -> Fixture {
    let fixture = Fixture::open(store).await;
    let rows = (1..=PLANNED_ROWS).map(|position| AuditRow {
        position,
        recorded_at: i64::try_from(position).expect("a time"),
        organization: Some(format!("org_{}", position % 50)),
        workspace: Some(format!("ws_{}", position % 100)),
        crew: Some(format!("crw_{}", position % 300)),
        environment: Some("production".to_owned()),
        actor: (position % 7 > 0).then(|| format!("usr_{}", position % people)),
        action: "agent.updated".to_owned(),
        target: Some(format!("agt_{}", position % 5_000)),
        outcome: "ok",
        words: format!("agent updated agt_{position}"),
    });
    let mut sheet = Sheet::new(AUDIT_COLUMNS.len(), 1_000, 320);
    rows.for_each(|row| row.push_to(&mut sheet));
    let audit = AuditRows {
        table: "audit_1".to_owned(),
        sheets: vec![sheet],
    };
    let put = fixture.store.put(vec![], Some(audit), None).await;
    assert!(put.expect("rows"));
    let at = format!("UPDATE projections SET position = {PLANNED_ROWS} WHERE name = 'audit'");
    let head = format!("UPDATE log_head SET position = {PLANNED_ROWS}");
    let told = [Statement::new(at, []), Statement::new(head, [])];
    fixture
        .store
        .execute(told.to_vec())
        .await
        .expect("statistics");
    fixture
}

/// Every filter, alone, two and three together, in a workspace and in an organization, on the first
/// page and on a late one: each is looked for along the index of what it names, or of where it
/// looks; on SQLite without statistics as well, which nothing gathers there.
pub(super) async fn index_plans(store: StoreUnderTest) {
    let fixture = with_rows(&store, 900).await;
    let analyze = || fixture.store.execute(vec![Statement::new("ANALYZE", [])]);
    if fixture.store.kind() == StoreKind::Sqlite {
        assert_plans(&*fixture.store).await;
    }
    analyze().await.expect("statistics");
    assert_plans(&*fixture.store).await;
    // Nothing is sorted for a page of all that there is of one thing.
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for (column, of) in [
            (Column::Workspace, "ws_7"),
            (Column::Organization, "org_7"),
            (Column::Actor, "usr_8"),
            (Column::Target, "agt_7"),
        ] {
            let mut search = Search::new(order);
            search.is(column, of);
            let plan = audit_index::plan(&*fixture.store, &search, 256).await;
            let plan = plan.expect("a plan").join("\n");
            let sorts = ["Sort", "TEMP B-TREE", "Bitmap"];
            assert!(
                !sorts.iter().any(|sort| plan.contains(sort)),
                "{search:?}: {plan}"
            );
            assert!(
                plan.contains(&format!("audit_1_by_{column:?}").to_lowercase()),
                "{plan}"
            );
        }
    }
}

/// What somebody did, and when last, is looked for along what they did, also where nearly all of the
/// log is of one other: there a planner hopes to meet them soon, whatever it goes along.
pub(super) async fn deeds_plans(store: StoreUnderTest) {
    let fixture = with_rows(&store, 1).await;
    let store = &*fixture.store;
    let analyze = store.execute(vec![Statement::new("ANALYZE", [])]);
    analyze.await.expect("statistics");
    let asked = ["usr_0", "usr_8"].map(str::to_owned);
    for statement in [audit_index::last_acted_sql, audit_index::deeds_sql] {
        let (sql, parameters) = statement(store.kind(), "ws_7", &asked, PLANNED_ROWS);
        let plan = stores::plan(store, &sql, parameters).await;
        let plan = plan.expect("a plan").join("\n");
        assert!(plan.contains("audit_1_by_actor"), "{plan}");
        let others = [
            "audit_1_pkey",
            "PRIMARY KEY",
            "Seq Scan on audit_1",
            "SCAN done",
            // All that they did is not sorted for the last of it.
            "actor_hash DESC",
        ];
        assert!(!others.iter().any(|other| plan.contains(other)), "{plan}");
    }
    let acted = audit_index::last_acted(store, "ws_7", &asked, PLANNED_ROWS).await;
    let acted = acted.expect("it is read").into_iter().map(|(who, _)| who);
    assert_eq!(acted.collect::<Vec<_>>(), ["usr_0"]);
    let deeds = audit_index::deeds(store, "ws_7", &asked, PLANNED_ROWS).await;
    let deeds = deeds.expect("they are read").into_iter();
    let deeds: Vec<_> = deeds.map(|deed| (deed.actor, deed.action)).collect();
    assert_eq!(deeds, [("usr_0".to_owned(), "agent.updated".to_owned())]);
}

async fn assert_plans(store: &dyn Store) {
    type Narrow = fn(&mut Search);
    let narrow: [Narrow; 10] = [
        |_| {},
        |search| search.is(Column::Actor, "usr_8"),
        |search| search.absent(Column::Actor),
        |search| search.is(Column::Action, "agent.updated"),
        |search| search.is(Column::Target, "agt_7"),
        |search| search.is(Column::Crew, "crw_7"),
        |search| search.is(Column::Environment, "production"),
        |search| search.is(Column::Outcome, "denied"),
        |search| search.word("updated"),
        |search| search.word_or_any("ada", ["usr_7", "usr_8"].map(str::to_owned).into()),
    ];
    // All, from the middle on, what a tail asks for, a late page, what is left before the last one,
    // and between two positions.
    let ranges: [(u64, u64); 6] = [
        (1, u64::MAX),
        (PLANNED_ROWS / 2, u64::MAX),
        (PLANNED_ROWS - 3, u64::MAX),
        (1, PLANNED_ROWS / 2),
        (1, PLANNED_ROWS / 50),
        (PLANNED_ROWS / 4, PLANNED_ROWS / 2),
    ];
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for (scope, of, along) in [
            (Column::Workspace, "ws_7", "workspace"),
            (Column::Organization, "org_7", "organization"),
        ] {
            for (nth, one) in narrow.iter().enumerate() {
                for (other_nth, other) in narrow.iter().enumerate() {
                    for (first, last) in ranges {
                        let mut search = Search::new(order);
                        search.is(scope, of);
                        search.is(Column::Environment, "production");
                        for narrow in [one, other] {
                            narrow(&mut search);
                        }
                        search.at_least(first);
                        search.at_most(last);
                        let named = [nth, other_nth];
                        let along = match (named.contains(&4), named.contains(&1)) {
                            (true, _) => "target",
                            (false, true) => "actor",
                            (false, false) => along,
                        };
                        let plan = audit_index::plan(store, &search, 51).await;
                        let plan = plan.expect("a plan").join(
                            "
",
                        );
                        let index = plan.contains(&format!("audit_1_by_{along}"));
                        // Of a few rows there is a shorter way: the positions themselves.
                        let few = first + 3 == PLANNED_ROWS
                            && ["audit_1_pkey", "PRIMARY KEY"]
                                .iter()
                                .any(|key| plan.contains(key));
                        assert!(index || few, "{search:?}: {plan}");
                    }
                }
            }
        }
    }
}

/// A page of the crews of a workspace, and of one client of it (`?client=`), is looked for by an
/// index from the first page and from any other, whether the workspace is a large one or one of
/// many. The rows are made, as their number is what plans are made by.
pub(super) async fn list_plans(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let numbers = match fixture.store.kind() {
        StoreKind::Sqlite => {
            "WITH RECURSIVE numbers (n) AS
                 (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000)"
        }
        StoreKind::Postgres => "WITH numbers (n) AS (SELECT generate_series(1, 20000))",
    };
    let crews = |key: &str, workspace: &str| {
        format!(
            "{numbers} INSERT INTO documents_crews_1 (key, workspace, parent, lookup, position, document)
             SELECT '{key}' || n, {workspace}, {workspace}, {workspace} || '/Client ' || (n % 2000), n, '{{}}'
               FROM numbers"
        )
    };
    let rows = [
        crews("crw_large_", "'ws_large'"),
        crews("crw_small_", "'ws_' || (n % 5000)"),
        "ANALYZE".to_owned(),
    ];
    for sql in rows {
        let put = fixture.store.execute(vec![Statement::new(sql, [])]).await;
        put.expect("rows");
    }
    let engine = Engine::open(&*fixture.store).await.expect("an engine");
    let crews = projections::Documents::<Crews>::of(fixture.store.clone(), &engine);
    for workspace in ["ws_large", "ws_7"] {
        let of_client = format!("{workspace}/Client 7");
        for (by, index) in [
            (By::Parent(workspace), "documents_crews_1_by_parent"),
            (By::Lookup(&of_client), "documents_crews_1_by_lookup"),
        ] {
            for after in [None, Some("crw_large_5")] {
                let plan = crews.plan(by, after, 50).await.expect("a plan").join("\n");
                assert!(plan.contains(index), "{by:?} after {after:?}: {plan}");
                // On SQLite a scan of the whole is `SCAN documents_crews_1`, of an index too.
                let whole = [
                    "Seq Scan on documents",
                    "SCAN documents_crews_1",
                    "Sort",
                    "TEMP B-TREE",
                ];
                let reads_all = whole.iter().any(|scan| plan.contains(scan));
                assert!(!reads_all, "{by:?} after {after:?}: {plan}");
            }
        }
    }
}

/// What is rare is looked for in so many rows at once, and found in the end, each once.
pub(super) async fn bounded_search(store: StoreUnderTest) {
    let fixture = with_rows(&store, 900).await;
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let mut search = Search::new(order);
        search.is(Column::Workspace, "ws_7");
        search.word("agt_107");
        search.look_at(10, 50);
        let (mut found, mut asked) = (Vec::new(), 0);
        loop {
            let page = audit_index::positions(&*fixture.store, &search, 3).await;
            let page = page.expect("positions").value;
            asked += 1;
            found.extend(page.positions.iter().copied());
            // Of 400 rows of the workspace 50 at once.
            let Some(at) = page.stopped_at else {
                break;
            };
            match order {
                Order::NewestFirst => search.at_most(at - 1),
                Order::OldestFirst => search.at_least(at + 1),
            }
        }
        found.sort_unstable();
        let wanted = |at: &u64| at % 100 == 7 && format!("agt_{at}").contains("agt_107");
        let expected: Vec<u64> = (1..=PLANNED_ROWS).filter(wanted).collect();
        assert_eq!(found, expected);
        assert!((8..=9).contains(&asked), "asked {asked} times");
    }
}

pub(super) async fn indexed_by_two(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    for circle in ["one", "two"] {
        workload(&fixture, circle).await;
        let both = [(); 2].map(|()| audit_index::catch_up(&*fixture.store));
        for state in futures::future::join_all(both).await {
            let state = state.expect("an index");
            assert_eq!(state.position, state.head);
        }
    }
    assert_documents_are_the_log(&fixture).await;
}
