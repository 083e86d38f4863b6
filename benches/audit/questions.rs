//! Each filter of the audit log alone, and some together: the first page and the thousandth, of 50
//! entries, as the service answers them: decided, found, read, described, opened.

use std::time::{Duration, Instant};

use crewlog::{
    domain::Timestamp,
    journal::stores,
    service::{AuditFilter, AuditScope, Principal},
};

use crate::{
    Bench, Told,
    harness::{owner::request, setting, taken},
    world::{LARGE, MIDDLE, Space, World},
};

const PAGE: u64 = 50;
const DEEP_PAGE: u64 = 1_000;
/// Calls of one kind; they may go on for `CREWLOG_BENCH_SECONDS` (default 4).
const CALLS: usize = 60;
/// How long is looked for a deep page.
const WALK_LIMIT: Duration = Duration::from_secs(10);

/// A kind of question, with what is asked in turn.
struct Question {
    name: &'static str,
    filters: Vec<AuditFilter>,
}

pub async fn measure(bench: &Bench, world: &World, told: &mut Told) {
    for (at, name) in [(MIDDLE, "middle"), (LARGE, "large")] {
        let space = &world.spaces[at];
        let scope = AuditScope::Workspace(space.id);
        for question in questions(bench, space).await {
            ask(bench, scope, name, &question, told).await;
        }
    }
    let scope = AuditScope::Organization(bench.owner.organization);
    let space = &world.spaces[LARGE];
    for question in questions(bench, space).await {
        let of_organization = [
            "nothing",
            "action, rare",
            "outcome",
            "q, a common word",
            "actor, busy",
        ];
        if of_organization.contains(&question.name) {
            ask(bench, scope, "organization", &question, told).await;
        }
    }
}

async fn questions(bench: &Bench, space: &Space) -> Vec<Question> {
    let (windows, spans) = ranges(bench).await;
    let members = |first: usize, step: isize| -> Vec<String> {
        let ids = (0..8).filter_map(|nth: isize| {
            let at = usize::try_from(first as isize + nth * step).ok()?;
            Some(space.members.get(at)?.0.person.user.to_string())
        });
        ids.collect()
    };
    let (busy, lately) = (members(1, 1), members(space.members.len() - 1, -1));
    let keys: Vec<_> = space
        .keys
        .iter()
        .take(8)
        .map(|key| key.0.to_string())
        .collect();
    let crew = |crew: &crate::world::Crew| crew.place.id.to_string();
    let crews: Vec<_> = space.crews[1..].iter().take(8).map(crew).collect();
    let quiet = vec![crew(&space.crews[0])];
    let items = space.crews[1..]
        .iter()
        .filter_map(|crew| crew.items.first());
    let items: Vec<_> = items.take(8).cloned().collect();
    let targets: Vec<_> = items.iter().map(|(id, _)| id.to_string()).collect();
    let names: Vec<_> = items.iter().map(|(_, item)| item.name.clone()).collect();
    let of = |values: &[String], set: fn(&mut AuditFilter, String)| -> Vec<AuditFilter> {
        let filter = |value: &String| {
            let mut filter = AuditFilter::default();
            set(&mut filter, value.clone());
            filter
        };
        values.iter().map(filter).collect()
    };
    let one = |value: &str| vec![value.to_owned()];
    let actor: fn(&mut AuditFilter, String) = |filter, id| filter.actor = Some(id);
    let action: fn(&mut AuditFilter, String) = |filter, name| filter.action = Some(name);
    let words: fn(&mut AuditFilter, String) = |filter, words| filter.words = Some(words);
    let in_crew: fn(&mut AuditFilter, String) = |filter, id| filter.crew = Some(id);
    let question = |name, filters| Question { name, filters };
    vec![
        question("nothing", vec![AuditFilter::default()]),
        question("actor, busy", of(&busy, actor)),
        question("actor, lately joined", of(&lately, actor)),
        question("actor, a key", of(&keys, actor)),
        question("actor, system", of(&one("system"), actor)),
        question("action, common", of(&one("agent.updated"), action)),
        question("action, rare", of(&one("policy.changed"), action)),
        question("action, never", of(&one("workspace.deleted"), action)),
        question(
            "target",
            of(&targets, |filter, id| filter.target = Some(id)),
        ),
        question("crew, busy", of(&crews, in_crew)),
        question("crew, quiet", of(&quiet, in_crew)),
        question(
            "environment",
            of(&one("production"), |filter, name| {
                filter.environment = Some(name)
            }),
        ),
        question(
            "outcome",
            of(&one("denied"), |filter, name| filter.outcome = Some(name)),
        ),
        question("from and to", windows.clone()),
        question("after and before", spans),
        question("q, a common word", of(&one("helper"), words)),
        question("q, a rare name", of(&names, words)),
        question("q, nothing has it", of(&one("zebra"), words)),
        question("q, a person", of(&one("bench"), words)),
        question(
            "actor and action",
            of(&busy, |filter, id| {
                filter.actor = Some(id);
                filter.action = Some("crew.promoted".to_owned());
            }),
        ),
        question(
            "crew and outcome",
            of(&crews, |filter, id| {
                filter.crew = Some(id);
                filter.outcome = Some("denied".to_owned());
            }),
        ),
        question(
            "environment and action, rare",
            of(&one("production"), |filter, name| {
                filter.environment = Some(name);
                filter.action = Some("crew.created".to_owned());
            }),
        ),
        question(
            "actor, system, and outcome (never)",
            of(&one("system"), |filter, id| {
                filter.actor = Some(id);
                filter.outcome = Some("denied".to_owned());
            }),
        ),
        question(
            "crew and q",
            of(&crews, |filter, id| {
                filter.crew = Some(id);
                filter.words = Some("created".to_owned());
            }),
        ),
        question(
            "from, to and action",
            windows
                .into_iter()
                .map(|filter| AuditFilter {
                    action: Some("api_key.rotated".to_owned()),
                    ..filter
                })
                .collect(),
        ),
    ]
}

/// Hundredths of the log, as times and as positions.
async fn ranges(bench: &Bench) -> (Vec<AuditFilter>, Vec<AuditFilter>) {
    let head = stores::head(&*bench.store)
        .await
        .expect("the head")
        .position;
    let (mut windows, mut spans) = (Vec::new(), Vec::new());
    for hundredth in [20, 35, 50, 65, 80, 95] {
        let (first, last) = (head / 100 * hundredth, head / 100 * (hundredth + 1));
        spans.push(AuditFilter {
            after: Some(first),
            before: Some(last),
            ..AuditFilter::default()
        });
        let found = stores::events_at(&*bench.store, &[first.max(1), last]).await;
        let times: Vec<Timestamp> = found
            .expect("events")
            .iter()
            .map(|event| event.recorded_at)
            .collect();
        windows.push(AuditFilter {
            from: times.first().copied(),
            to: times.last().copied(),
            ..AuditFilter::default()
        });
    }
    (windows, spans)
}

async fn ask(bench: &Bench, scope: AuditScope, whose: &str, question: &Question, told: &mut Told) {
    let cursors = vec![None; question.filters.len()];
    let (first, entries) = calls(bench, scope, &question.filters, &cursors).await;
    let name = format!("{whose}: {}", question.name);
    told.add(name.clone(), first);
    if entries < PAGE {
        // There is no other page.
        return;
    }
    let walked = deep(bench, scope, &question.filters[0]).await;
    let (filters, cursors) = (question.filters[..1].to_vec(), vec![walked.1]);
    let (taken, _) = calls(bench, scope, &filters, &cursors).await;
    if walked.0 >= DEEP_PAGE {
        told.add(format!("{name}, page {DEEP_PAGE}"), taken);
    }
}

/// Asks again and again; answers what each took, in ms, and how much the first found.
async fn calls(
    bench: &Bench,
    scope: AuditScope,
    filters: &[AuditFilter],
    cursors: &[Option<u64>],
) -> (Vec<f64>, u64) {
    let (started, mut figures, mut found) = (Instant::now(), Vec::new(), None);
    let limit = Duration::from_secs_f64(setting("CREWLOG_BENCH_SECONDS", 4.0));
    // What was never asked is not in memory; that is told by the larger log alone.
    for call in 0..CALLS {
        let nth = call % filters.len();
        let (taken, page) = taken(page(bench, scope, &filters[nth], cursors[nth], PAGE)).await;
        figures.push(taken.seconds * 1e3);
        found = found.or(Some(page.0));
        if started.elapsed() > limit {
            break;
        }
    }
    (figures, found.unwrap_or(0))
}

/// The place where the thousandth page begins, or the last that was come to: its number and the
/// position before it.
async fn deep(bench: &Bench, scope: AuditScope, filter: &AuditFilter) -> (u64, Option<u64>) {
    const AT_ONCE: u64 = 200;
    let (started, mut cursor, mut passed) = (Instant::now(), None, 0);
    while passed < (DEEP_PAGE - 1) * PAGE && started.elapsed() < WALK_LIMIT {
        let wanted = AT_ONCE.min((DEEP_PAGE - 1) * PAGE - passed);
        let (found, last) = page(bench, scope, filter, cursor, wanted).await;
        passed += found;
        cursor = last.or(cursor);
        if last.is_none() {
            break;
        }
    }
    (passed / PAGE + 1, cursor)
}

/// How many entries a page has, and where the next one goes on.
async fn page(
    bench: &Bench,
    scope: AuditScope,
    filter: &AuditFilter,
    cursor: Option<u64>,
    limit: u64,
) -> (u64, Option<u64>) {
    let reader = Principal::from(&bench.owner.caller);
    let page = bench
        .owner
        .service
        .audit(&request(), &reader, scope, filter, cursor, limit)
        .await;
    let page = page.expect("a page");
    (page.entries.len() as u64, page.next)
}
