//! The read models equal a fold of the log that shares no code with the one that made them.

mod index;
mod naive;
mod workload;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crewlog::domain::Timestamp;
use crewlog::domain::authority::Role;
use crewlog::domain::user::User;
use crewlog::journal::JournalSettings;
use crewlog::journal::stores::{Statement, Store, StoreKind};
use crewlog::projections::audit_index::{self};
use crewlog::projections::{self, Engine, check, rebuild};

use crate::support::journal::{Fixture, Person, Team, open_store, rename};
use crate::support::ledger;
use crate::support::scratch;
use crate::support::trials::{Case, StoreUnderTest, both};

use naive::{Documents, Naive};
use workload::{invitation_unit, profile_changes, workload};

pub fn trials() -> Vec<Case> {
    vec![
        both(
            "projections",
            "documents_are_the_log",
            documents_are_the_log,
        ),
        both("projections", "a_check_finds_what_was_changed", check_finds),
        both("projections", "a_rebuild_restores", rebuild_restores),
        both(
            "projections",
            "how_far_the_audit_index_is_cannot_be_told",
            index::index_and_tail,
        ),
        both(
            "projections",
            "no_search_of_the_audit_index_reads_all_of_it",
            index::index_plans,
        ),
        both(
            "projections",
            "what_somebody_did_is_found_along_what_they_did",
            index::deeds_plans,
        ),
        both(
            "projections",
            "no_list_of_documents_reads_all_of_them",
            index::list_plans,
        ),
        both(
            "projections",
            "a_search_looks_at_so_many_rows",
            index::bounded_search,
        ),
        both(
            "projections",
            "two_bring_the_audit_index_on_as_one",
            index::indexed_by_two,
        ),
        both(
            "projections",
            "a_rebuild_goes_on_beside_writers",
            rebuild_beside_writers,
        ),
        both(
            "projections",
            "a_broken_rebuild_is_put_away",
            broken_rebuild,
        ),
        both(
            "projections",
            "lists_and_deadlines_are_found",
            found_by_columns,
        ),
        both(
            "projections",
            "a_newer_projection_is_left_alone",
            newer_projection,
        ),
    ]
}

/// The table that serves a projection, and its generation.
async fn serving(store: &dyn Store, projection: &str) -> (String, i64) {
    let sql = "SELECT generation FROM projections WHERE name = $1 AND state = 'serving'";
    let rows = store.query(sql, vec![projection.into()]).await;
    let rows = rows.expect("projections");
    assert_eq!(rows.len(), 1, "one generation of {projection} serves");
    let generation = rows[0].integer(0).expect("a generation");
    let table = match projection {
        "audit" => format!("audit_{generation}"),
        _ => format!("documents_{projection}_{generation}"),
    };
    (table, generation)
}

async fn documents(store: &dyn Store, projection: &str) -> Documents {
    let (table, _) = serving(store, projection).await;
    let sql = format!("SELECT key, CAST(document AS TEXT) FROM {table}");
    let rows = store.query(&sql, vec![]).await.expect("documents");
    rows.iter()
        .map(|row| {
            let document = serde_json::from_str(row.text(1).expect("text")).expect("JSON");
            (row.text(0).expect("a key").to_owned(), document)
        })
        .collect()
}

/// That every read model is what the log says, by the naive fold and by the engine's own check.
pub async fn assert_documents_are_the_log(fixture: &Fixture) {
    // As far as it is, and then all of it.
    assert_store_is_its_log(&*fixture.store).await;
    let indexed = audit_index::catch_up(&*fixture.store).await;
    let indexed = indexed.expect("the index to go on");
    assert_eq!(indexed.position, indexed.head);
    assert_store_is_its_log(&*fixture.store).await;
}

/// The same of a store that nobody need have open for writing.
pub async fn assert_store_is_its_log(store: &dyn Store) {
    let naive = Naive::of(store).await;
    for (projection, expected) in &naive.documents {
        let stored = documents(store, projection).await;
        for (key, document) in expected {
            assert_eq!(stored.get(key), Some(document), "{key} of {projection}");
        }
        assert_eq!(stored.len(), expected.len(), "there are more {projection}");
    }
    let (table, _) = serving(store, "audit").await;
    let sql = format!(
        "SELECT CAST(position AS TEXT), organization, workspace, actor, action, target, outcome
           FROM {table} AS audit ORDER BY audit.position"
    );
    let state = audit_index::state(store).await.expect("an index");
    let rows = store.query(&sql, vec![]).await.expect("the audit index");
    assert_eq!(state.head, naive.audit.len() as u64);
    assert_eq!(rows.len() as u64, state.position, "rows of the audit index");
    for (row, expected) in rows.iter().zip(&naive.audit) {
        let stored: [Option<String>; 7] = std::array::from_fn(|column| {
            let text = row.optional_text(column).expect("text or null");
            text.map(str::to_owned)
        });
        assert_eq!(&stored, expected, "a row of the audit index");
    }
    assert_eq!(differences(store).await, [] as [(String, String); 0]);
}

/// What the engine's own check finds: projections and keys.
async fn differences(store: &dyn Store) -> Vec<(String, String)> {
    let folder = scratch::directory("check");
    let report = check(store, folder.path(), |_| {}).await;
    let report = report.expect("the check to run");
    assert_eq!(report.differing, report.differences.len() as u64);
    let names: BTreeSet<_> = report.rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, projections::names().into_iter().collect());
    let differences = report.differences.into_iter();
    differences.map(|one| (one.projection, one.key)).collect()
}

async fn documents_are_the_log(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    let world = workload(&fixture, "first").await;
    profile_changes(&fixture, &world.people[0], world.teams[0]).await;
    let events = ledger::verify(&*fixture.store).await;
    let kinds: BTreeSet<_> = events.iter().map(|event| &event.event_type).collect();
    // Which ones is chance, as the commands race; the golden log has every one.
    assert!(kinds.len() >= 18, "the workload has seen only {kinds:?}");
    assert_documents_are_the_log(&fixture).await;

    // A second process that begins with the documents as they are goes on as the first did.
    let another = Arc::new(fixture.another(2).await);
    workload(&another, "second").await;
    assert_documents_are_the_log(&another).await;
}

async fn run(store: &dyn Store, sql: String) {
    let touched = store.execute(vec![Statement::new(sql.clone(), [])]).await;
    assert_eq!(touched.expect(&sql), [1], "{sql}");
}

async fn small_world(store: &StoreUnderTest) -> (Fixture, Person, Team) {
    let fixture = Fixture::open(store).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    let other = fixture.sign_up("other").await;
    fixture.join(team, &owner, &other, Role::Viewer).await;
    let indexed = audit_index::catch_up(&*fixture.store).await;
    assert!(indexed.expect("an index").position > 0);
    (fixture, owner, team)
}

/// Changes a member, removes a workspace, adds an organization and changes the audit index; answers
/// with what a check must find.
async fn tamper(fixture: &Fixture, owner: &Person, team: Team) -> Vec<(String, String)> {
    let store = &*fixture.store;
    let (members, _) = serving(store, "members").await;
    let (workspaces, _) = serving(store, "workspaces").await;
    let (organizations, _) = serving(store, "organizations").await;
    let (users, _) = serving(store, "users").await;
    let (audit, _) = serving(store, "audit").await;
    let member = format!("{}/{}", team.workspace, owner.user);
    let json = match store.kind() {
        StoreKind::Sqlite => "REPLACE(document, 'owner', 'viewer')",
        StoreKind::Postgres => "CAST(REPLACE(CAST(document AS TEXT), 'owner', 'viewer') AS JSON)",
    };
    run(
        store,
        format!("UPDATE {members} SET document = {json} WHERE key = '{member}'"),
    )
    .await;
    run(
        store,
        format!("DELETE FROM {workspaces} WHERE key = '{}'", team.workspace),
    )
    .await;
    run(
        store,
        format!(
            "INSERT INTO {organizations} (key, position, document)
             SELECT 'org_extra', position, document FROM {organizations}"
        ),
    )
    .await;
    // What a document is found by counts as much as the document.
    run(
        store,
        format!(
            "UPDATE {users} SET deadline = 5 WHERE key = '{}'",
            owner.user
        ),
    )
    .await;
    run(
        store,
        format!("UPDATE {audit} SET actor = NULL WHERE position = 2"),
    )
    .await;
    vec![
        ("audit".to_owned(), "2".to_owned()),
        ("members".to_owned(), member),
        ("organizations".to_owned(), "org_extra".to_owned()),
        ("users".to_owned(), owner.user.to_string()),
        ("workspaces".to_owned(), team.workspace.to_string()),
    ]
}

async fn check_finds(store: StoreUnderTest) {
    let (fixture, owner, team) = small_world(&store).await;
    assert_documents_are_the_log(&fixture).await;
    let expected = tamper(&fixture, &owner, team).await;
    let mut found = differences(&*fixture.store).await;
    found.sort();
    assert_eq!(found, expected);
}

async fn rebuild_restores(store: StoreUnderTest) {
    let (fixture, owner, team) = small_world(&store).await;
    tamper(&fixture, &owner, team).await;
    let store = &*fixture.store;
    let mut seen = Vec::new();
    let position = rebuild(store, &projections::names(), |progress| {
        seen.push((progress.position, progress.head));
    })
    .await
    .expect("the rebuild to end");
    let head = *fixture.journal.head().borrow();
    assert_eq!(position, head);
    assert_eq!(seen.last(), Some(&(head, head)), "progress is told");
    assert_documents_are_the_log(&fixture).await;
    for name in projections::names() {
        let (table, generation) = serving(store, name).await;
        assert_eq!(generation, 2, "{name}");
        let old = table.replace("_2", "_1");
        let gone = store.query(&format!("SELECT * FROM {old}"), vec![]).await;
        assert!(gone.is_err(), "{old} is gone");
        let view = format!("SELECT count(*) FROM crewlog_{name}");
        let rows = store.query(&view, vec![]).await.expect(&view);
        let count = rows[0].integer(0).expect("a number");
        let direct = format!("SELECT count(*) FROM {table}");
        let rows = store.query(&direct, vec![]).await.expect(&direct);
        assert_eq!(rows[0].integer(0).expect("a number"), count, "{view}");
    }
    let sql = "SELECT \"user\", role FROM crewlog_members WHERE workspace = $1 ORDER BY role";
    let rows = store.query(sql, vec![team.workspace.to_string().into()]);
    let rows = rows.await.expect("the view of members");
    let roles: Vec<_> = rows
        .iter()
        .map(|row| row.text(1).expect("a role"))
        .collect();
    assert_eq!(roles, ["owner", "viewer"]);
    assert_eq!(rows[0].text(0).expect("a user"), owner.user.to_string());

    // Only what is named, and only what there is.
    rebuild(store, &["members"], |_| {}).await.expect("members");
    assert_eq!(serving(store, "members").await.1, 3);
    assert_eq!(serving(store, "users").await.1, 2);
    let refusal = rebuild(store, &["users", "nothing"], |_| {}).await;
    let refusal = refusal.expect_err("nothing is no projection").to_string();
    assert!(
        refusal.contains("nothing") && refusal.contains("members"),
        "{refusal}"
    );
    assert_eq!(serving(store, "users").await.1, 2);

    // A journal that begins on the new generations writes to them.
    let again = Fixture::on(fixture.store.clone(), 3, Default::default()).await;
    let third = again.sign_up("third").await;
    again.join(team, &owner, &third, Role::Member).await;
    assert_documents_are_the_log(&again).await;
}

async fn rebuild_beside_writers(store: StoreUnderTest) {
    let (fixture, owner, team) = small_world(&store).await;
    let fixture = Arc::new(fixture);
    // Another process, where there can be one.
    let second = match fixture.store.kind() {
        StoreKind::Sqlite => fixture.clone(),
        StoreKind::Postgres => {
            let settings = JournalSettings::default();
            Arc::new(Fixture::on(open_store(&store).await, 2, settings).await)
        }
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for number in 0..4 {
        let (owner, is_over) = (owner.clone(), is_over.clone());
        let fixture = [&fixture, &second][number % 2].clone();
        writers.push(tokio::spawn(async move {
            let mut written = 0;
            while !is_over.load(Ordering::SeqCst) {
                let text = format!("{number} {written}");
                fixture.commit(rename(team, &owner, &text)).await;
                written += 1;
                // The swap needs a moment in which nobody is appending.
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            written
        }));
    }
    for generation in 2..5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rebuild(&*fixture.store, &projections::names(), |_| {})
            .await
            .expect("the rebuild to end");
        assert_eq!(serving(&*fixture.store, "members").await.1, generation);
    }
    is_over.store(true, Ordering::SeqCst);
    for writer in writers {
        assert!(writer.await.expect("no panic") > 0, "everybody went on");
    }
    ledger::verify(&*fixture.store).await;
    assert_documents_are_the_log(&fixture).await;

    // Who has only read meanwhile writes to the new tables, too, and is read from there.
    rebuild(&*fixture.store, &["members"], |_| {})
        .await
        .expect("the rebuild to end");
    let gone = second
        .store
        .query("SELECT key FROM documents_members_4", vec![])
        .await;
    assert!(gone.is_err(), "the old table is gone");
    let late = second.sign_up("late").await;
    second.join(team, &owner, &late, Role::Viewer).await;
    let members = crewlog::projections::Documents::<crewlog::projections::Members>::of(
        second.store.clone(),
        &second.engine,
    );
    let key = format!("{}/{}", team.workspace, late.user);
    let found = members.get(&key).await.expect("an answer");
    assert_eq!(found.value.expect("a member").role, Role::Viewer);
    assert_documents_are_the_log(&fixture).await;
}

async fn broken_rebuild(store: StoreUnderTest) {
    let (fixture, _, _) = small_world(&store).await;
    let store = &*fixture.store;
    // What a rebuild that was killed half-way leaves: rows in tables that do not serve.
    let (members, _) = serving(store, "members").await;
    let statements = [
        "INSERT INTO projections (name, generation, version, position, state)
         VALUES ('members', 2, 1, 4, 'building')"
            .to_owned(),
        format!("CREATE TABLE documents_members_2 AS SELECT * FROM {members}"),
        "INSERT INTO projections (name, generation, version, position, state)
         VALUES ('audit', 2, 1, 0, 'building')"
            .to_owned(),
        "CREATE TABLE audit_2 (position BIGINT)".to_owned(),
    ];
    let statements = statements.map(|sql| Statement::new(sql, [])).into();
    store.execute(statements).await.expect("the leftovers");
    // They do not serve, and opening does not take them for what does.
    assert_documents_are_the_log(&fixture.another(2).await).await;
    rebuild(store, &["members"], |_| {})
        .await
        .expect("a rebuild");
    let sql = "SELECT name, generation FROM projections WHERE state = 'building'";
    let rows = store.query(sql, vec![]).await.expect("projections");
    assert!(rows.is_empty(), "{rows:?}");
    assert!(store.query("SELECT * FROM audit_2", vec![]).await.is_err());
    assert_eq!(serving(store, "members").await.1, 2);
    assert_eq!(serving(store, "audit").await.1, 1);
    assert_documents_are_the_log(&fixture).await;
}

async fn found_by_columns(store: StoreUnderTest) {
    use crewlog::projections::{Documents, Invitations, Members, Users};
    let (fixture, owner, team) = small_world(&store).await;
    let (store, engine) = (&fixture.store, &fixture.engine);
    let head = *fixture.journal.head().borrow();
    let members = Documents::<Members>::of(store.clone(), engine);
    let workspace = team.workspace.to_string();
    let first = members
        .page_of_parent(&workspace, None, 1)
        .await
        .expect("a page");
    assert_eq!(
        (first.items.len(), first.more, first.position),
        (1, true, head)
    );
    let after = Some(first.items[0].0.as_str());
    let second = members
        .page_of_parent(&workspace, after, 1)
        .await
        .expect("a page");
    assert_eq!((second.items.len(), second.more), (1, false));
    assert_ne!(first.items[0].0, second.items[0].0);
    let of_owner = members
        .page_of_lookup(&owner.user.to_string(), None, 9)
        .await;
    assert_eq!(of_owner.expect("a page").items[0].1.role, Role::Owner);
    let nobody = members.get("nobody").await.expect("an answer");
    assert_eq!((nobody.value, nobody.position), (None, head));

    // A new account has a profile that nobody was told of: due at once, and as it was then.
    let users = Documents::<Users>::of(store.clone(), engine);
    assert_eq!(
        users.due(Timestamp(i64::MAX), 9).await.expect("due").len(),
        2
    );
    assert!(users.due(Timestamp(0), 9).await.expect("due").is_empty());
    let key = owner.user.to_string();
    let then = Documents::<Users>::as_of::<User>(&**store, &key, &key, 1)
        .await
        .expect("a fold");
    assert!(then.expect("an account").sessions.is_empty());
    let now = Documents::<Users>::as_of::<User>(&**store, &key, &key, head)
        .await
        .expect("a fold");
    assert_eq!(now, users.get(&key).await.expect("an answer").value);

    // An invitation that was answered is due no more.
    let invitations = Documents::<Invitations>::of(store.clone(), engine);
    let due = invitations.due(Timestamp(i64::MAX), 9).await.expect("due");
    assert!(due.is_empty(), "{due:?}");
    let invitation = fixture.invitation_id();
    let email = "eve@example.com";
    let pending = invitation_unit(&fixture, team, &owner, invitation, email, Role::Viewer);
    fixture.commit(pending).await;
    let due = invitations.due(Timestamp(i64::MAX), 9).await.expect("due");
    assert_eq!(due[0].0, invitation.to_string());
}

async fn newer_projection(store: StoreUnderTest) {
    let (fixture, _, _) = small_world(&store).await;
    let store = &*fixture.store;
    run(
        store,
        "UPDATE projections SET version = version + 1 WHERE name = 'members'".to_owned(),
    )
    .await;
    let refusal = Engine::open(store).await.expect_err("a newer one is there");
    assert!(refusal.to_string().contains("newer version"), "{refusal}");
    assert_eq!(serving(store, "members").await.1, 1, "it is as it was");

    // What an older version made is rebuilt before anything is answered.
    run(
        store,
        "UPDATE projections SET version = 0 WHERE name = 'members'".to_owned(),
    )
    .await;
    Engine::open(store).await.expect("an older one is rebuilt");
    assert_eq!(serving(store, "members").await.1, 2);
    assert_eq!(serving(store, "users").await.1, 1);
    assert_documents_are_the_log(&fixture).await;
}
