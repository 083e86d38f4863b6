//! What is handed to operators: alerts and a dashboard that name metrics which are served, and
//! documents for each alert.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, on, once};

pub fn trials() -> Vec<Case> {
    vec![
        on(
            &[StoreKind::Sqlite],
            "deploy",
            "what_is_watched_is_served",
            what_is_watched_is_served,
        ),
        once(
            "deploy",
            "every_alert_is_explained",
            every_alert_is_explained,
        ),
    ]
}

fn text_of(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The metrics that a text names; of a histogram its own name.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("crewlog_") || word.starts_with("http_requests_"))
        .map(|word| {
            let parts = ["_bucket", "_sum", "_count"];
            let part = parts.into_iter().find(|part| word.ends_with(part));
            word.trim_end_matches(part.unwrap_or_default()).to_owned()
        })
        .collect()
}

/// The section that explains each metric.
fn watching() -> String {
    let text = text_of("docs/operating.md");
    let (_, rest) = text.split_once("## Watching").expect("a section");
    let (section, _) = rest.split_once("## Alerts").expect("another section");
    section.to_owned()
}

async fn what_is_watched_is_served(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let person = serde_json::json!({
        "email": "ada@example.com", "password": "correct horse battery", "name": "Ada",
        "organization": {"name": "Acme"}, "workspace": {"name": "Acme", "plan": "free"},
    });
    server.post("/v1/signup").json(person).await.expect(201);
    let served = server.get("/metrics").await.expect(200).text;
    let documented = watching();
    for (file, text) in [
        ("deploy/alerts.yml", text_of("deploy/alerts.yml")),
        ("deploy/grafana.json", text_of("deploy/grafana.json")),
        ("docs/operating.md", documented.clone()),
    ] {
        let named = metrics_in(&text);
        assert!(named.len() > 5, "{file} names metrics");
        for metric in named {
            assert!(served.contains(&metric), "{file}: nobody serves {metric}");
            assert!(documented.contains(&metric), "{metric} is not explained");
        }
    }
    assert!(
        served.contains("crewlog_commit_seconds_bucket"),
        "what alerts ask of a histogram is there"
    );
    server.terminate().await;
}

async fn every_alert_is_explained(_folder: TempDir) {
    let (rules, documented) = (text_of("deploy/alerts.yml"), text_of("docs/operating.md"));
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(documented.contains(&format!("### {alert}\n")), "{alert}");
        let anchor = format!("operating.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{alert} leads to its section");
    }
}
