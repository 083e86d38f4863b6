//! `docs/ocsf.md`: what each action of the audit log is to OCSF, printed from the code by the
//! events of the golden logs, which have every one.

use std::collections::BTreeMap;
use std::path::Path;

use crewlog::domain::attempts::AttemptsEvent;
use crewlog::domain::crew::CrewEvent;
use crewlog::domain::event::Event;
use crewlog::journal::Recorded;
use crewlog::projections::audit::describe;
use crewlog::service::ocsf::{Activity, VERSION, activity_of};
use tempfile::TempDir;

use crate::history::recorded_events;
use crate::support::trials::{Case, once};

pub fn trials() -> Vec<Case> {
    vec![once("documents", "ocsf_is_current", current)]
}

async fn current(_: TempDir) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ocsf.md");
    let made = page();
    if std::env::var_os("CREWLOG_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the page can be written");
    }
    let printed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        printed == made,
        "docs/ocsf.md is not current: run this test with CREWLOG_BLESS=1"
    );
}

/// What the page calls an event; connections of all kinds are told alike.
fn action(event: &Recorded) -> String {
    let action = describe(event).action;
    let done = action.split_once('.').map_or("", |(_, done)| done);
    let of = |kinds: &[&str]| {
        let actions = kinds.iter().map(|kind| format!("`{kind}.{done}`"));
        actions.collect::<Vec<_>>().join(", ")
    };
    match &event.event {
        Event::Attempts(AttemptsEvent::AttemptRefused { .. }) => {
            "a refused attempt, by what was tried".to_owned()
        }
        Event::Attempts(AttemptsEvent::ReportRead { .. }) => {
            "`access.reported`, `access.compared`, `access_review.reported`".to_owned()
        }
        Event::Crew(
            CrewEvent::ConnectionAdded(_)
            | CrewEvent::ConnectionChanged(_)
            | CrewEvent::ConnectionRemoved(_),
        ) => of(&["channel", "integration", "phone_number", "webhook_endpoint"]),
        Event::Crew(CrewEvent::CredentialSet(_) | CrewEvent::CredentialRemoved(_)) => {
            of(&["integration", "webhook_endpoint"])
        }
        _ => format!("`{action}`"),
    }
}

fn page() -> String {
    let mut activities: BTreeMap<String, Activity> = BTreeMap::new();
    for event in recorded_events() {
        let action = action(&event);
        let activity = activity_of(&event.event);
        let before = activities.insert(action.clone(), activity);
        assert!(
            before.is_none_or(|before| before == activity),
            "{action} is of two activities"
        );
    }
    assert!(activities.len() > 65, "{} actions", activities.len());
    let mut page = format!(
        "# The audit log in OCSF\n\nMade from `src/service/ocsf.rs`; do not edit by hand.\n\n\
         `format=ocsf` exports entries as events of the Open Cybersecurity Schema Framework, version {VERSION}, \
         one a line. The last line is an event of no class, with the signed statement and the \
         checkpoint in `unmapped`; `crewlog verify --offline` verifies the file as a whole, and tells which \
         line was changed.\n\n\
         | in OCSF | of the entry |\n|---|---|\n\
         | `time`; `unmapped.recorded_at` | `recorded_at`, in milliseconds; as it is |\n\
         | `metadata.uid`, `metadata.sequence`, `metadata.event_code` | `id`, `position`, `action` |\n\
         | `metadata.correlation_uid` | `request_id` |\n\
         | `actor.user` | `actor`; a key is of the type `Other`, and `unmapped.actor_type` says it |\n\
         | `user`, `entity` or `resources` | `target`, which `unmapped.target` has for every class |\n\
         | `privileges` | the role that was given, or that is gone |\n\
         | `src_endpoint.ip`, `http_request.user_agent` | `ip`, `user_agent` |\n\
         | `status_id` | 1 where `outcome` is `ok`, 2 where it is `denied` |\n\
         | `severity_id` | 3 where glass was broken, 2 where it was denied, else 1 |\n\
         | `comment` (Entity Management), `unmapped.reason` | `reason` |\n\
         | `unmapped` | everything else: `changes`, `organization`, `workspace`, `crew`, `environment`, `break_glass`, `leaf` |\n\n\
         | action | class | activity | `type_uid` |\n|---|---|---|---|\n"
    );
    for (action, activity) in activities {
        let (class, (id, name)) = (activity.class(), activity.id());
        page.push_str(&format!(
            "| {action} | {} ({}) | {name} ({id}) | {} |\n",
            class.name(),
            class.uid(),
            activity.type_uid()
        ));
    }
    page
}
