//! Reports of access reviews: the three forms say the same, and a changed character in any of them
//! is found with nothing but a key of the log.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::exports::verify;
use super::log::verifiers;
use crate::edge::reviews::opened;
use crate::edge::team::{Person, Team, text};
use crate::support::commands::{crewlog, run};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("proofs", "reports_say_the_same_in_three_forms", agree),
        both("proofs", "a_changed_report_is_found_out", tampered),
    ]
}

const FORMS: [&str; 3] = ["json", "csv", "html"];
/// What must stay text, in every form.
const REASON: &str = "<script>alert(\"1\")</script> & =HYPERLINK(1),\r\nstatement,\"x\"";

/// A campaign that is over, and its report in each form.
async fn reports(server: &Server) -> (Team, String, BTreeMap<&'static str, String>) {
    let team = Team::make(server).await;
    let mallory = Person::sign_up_with(server, "<b>M\u{e4}llory</b>", json!({}))
        .await
        .0;
    team.join(server, &mallory, "viewer").await;
    let path = opened(server, &team, json!({"name": "Quarter <4> & \"more\""})).await;
    let decision =
        |item: &str, decision: &str| json!({"item": item, "decision": decision, "reason": REASON});
    let decisions = json!([
        decision(&team.viewer.user, "revoke"),
        decision(&mallory.user, "keep"),
        decision(&team.auditor.user, "revoke"),
    ]);
    let call = server
        .post(&format!("{path}/decisions"))
        .bearer(&team.owner.token);
    call.json(json!({"decisions": decisions})).await.expect(200);
    let call = server
        .post(&format!("{path}/close"))
        .bearer(&team.owner.token);
    call.await.expect(200);
    let mut sent = BTreeMap::new();
    for form in FORMS {
        let call = server.get(&format!("{path}/report?format={form}"));
        // An auditor files it.
        let reply = call.bearer(&team.admin.token).await.expect(200);
        sent.insert(form, reply.text);
    }
    (team, path, sent)
}

/// The rows of a CSV text, by a reader of its own.
fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    rows
}

/// A value of JSON as a cell has it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// What a page shows: its text, without its elements and its style.
fn shown(page: &str) -> String {
    let (mut text, mut rest) = (String::new(), page);
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        rest = after.split_once('>').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"");
    text.replace("&amp;", "&")
}

async fn agree(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    let (team, path, sent) = reports(&server).await;
    let json: Value = serde_json::from_str(&sent["json"]).expect("one JSON text");
    let report = &json["report"];
    let items = report["items"].as_array().expect("items");
    assert_eq!(items.len(), 6);
    assert_eq!(report["summary"]["applied"], 2);
    assert_eq!(report["closed_by"]["id"], team.owner.user.as_str());
    let table = rows(&sent["csv"]);
    let (names, of_items) = table.split_first().expect("a row of names");
    assert_eq!(
        of_items.len(),
        items.len() + 1,
        "the statement is the last row"
    );
    let page = shown(&sent["html"]);
    for (row, item) in of_items.iter().zip(items) {
        let row: BTreeMap<_, _> = names.iter().map(String::as_str).zip(row).collect();
        for (name, value) in item.as_object().expect("an item") {
            let told = match name.as_str() {
                "findings" => {
                    let found = value.as_array().expect("findings").iter().map(cell);
                    found.collect::<Vec<_>>().join("; ")
                }
                _ => cell(value),
            };
            assert_eq!(*row[name.as_str()], told, "{name}");
            let parts = match value {
                Value::Array(values) => values.iter().map(cell).collect(),
                _ if ["kind", "recommended_role"].contains(&name.as_str()) => vec![],
                _ => vec![told],
            };
            for part in parts {
                assert!(page.contains(&part), "{name}: {part:?} is not on the page");
            }
        }
        assert_eq!(*row["access_review"], text(report, "/access_review"));
    }
    for name in [
        "name",
        "workspace",
        "pinned_time",
        "closed_at",
        "opened_at",
        "due_at",
    ] {
        assert!(page.contains(&text(report, &format!("/{name}"))), "{name}");
    }
    // Nothing that people wrote is markup, and nothing is fetched or run.
    let html = &sent["html"];
    assert!(
        !html.contains("<script") && !html.contains("<b>M"),
        "{html}"
    );
    for outside in ["http://", "https://", "src=", "href=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    // That it was told is told itself.
    let told = server.get(&team.path("/audit?action=access_review.reported"));
    let told = told.bearer(&team.owner.token).await.expect(200).body;
    let review = path.rsplit('/').next().expect("an id");
    assert_eq!(told["data"][0]["target"]["id"], review);
    assert_eq!(told["data"][0]["actor"]["id"], team.admin.user.as_str());
    crate::edge::held(&store);
}

async fn tampered(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    let (team, path, sent) = reports(&server).await;
    let [key] = &verifiers(&server).await[..] else {
        panic!("one key");
    };
    for form in FORMS {
        let report = sent[form].as_bytes();
        let found = verify(report, None, key);
        assert!(found.holds(), "{form}: {found:#?}");
        assert_eq!(found.entries, 6);
        let about = found.about.expect("a statement");
        assert_eq!(path.rsplit('/').next(), about["access_review"].as_str());
        let size = about["tree_size"].as_u64().expect("a size");
        let kept = server
            .get(&format!("/v1/log/checkpoint?size={size}"))
            .await
            .expect(200)
            .text;
        assert!(verify(report, Some(&kept), key).holds(), "{form}");
        // Everywhere near the end, where what proves it stands, and here and there before.
        let proof = report.len().saturating_sub(1_500);
        let places = (0..proof)
            .step_by(1 + proof / 60)
            .chain((proof..report.len()).step_by(5));
        for (turn, at) in places.enumerate() {
            let mut changed = report.to_vec();
            changed[at] ^= [0x01, 0x20][turn % 2];
            let found = verify(&changed, None, key);
            let word = String::from_utf8_lossy(&report[at.saturating_sub(20)..at]);
            assert!(!found.holds(), "{form}: byte {at}, after {word:?}");
        }
        for cut in [1, 2, 200, report.len() / 2, report.len() - 30] {
            assert!(
                !verify(&report[..report.len() - cut], None, key).holds(),
                "{form} cut by {cut}"
            );
        }
        for added in [&b"\n"[..], b" ", b"x"] {
            assert!(
                !verify(&[report, added].concat(), None, key).holds(),
                "{form}"
            );
        }
        for (from, to) in [
            ("revoke", "keep"),
            ("applied", "kept"),
            ("pinned_at", "pinned-at"),
        ] {
            let changed = sent[form].replacen(from, to, 1);
            assert!(
                changed == sent[form] || !verify(changed.as_bytes(), None, key).holds(),
                "{form}: {from}"
            );
        }
    }
    // The proof of one form is none of another, nor of another campaign.
    let other = opened(&server, &team, json!({})).await;
    let call = server
        .get(&format!("{other}/report?format=csv"))
        .bearer(&team.owner.token);
    let other = call.await.expect(200).text;
    assert!(
        verify(other.as_bytes(), None, key).holds(),
        "one that is open has a report too"
    );
    let split = |text: &str| text.rfind("\r\nstatement,").expect("a statement") + 2;
    let (body, end) = (&sent["csv"][..split(&sent["csv"])], &other[split(&other)..]);
    assert!(!verify(format!("{body}{end}").as_bytes(), None, key).holds());
    by_command(&store, &sent, key);
}

/// The same by the program.
fn by_command(store: &StoreUnderTest, sent: &BTreeMap<&str, String>, key: &str) {
    for form in FORMS {
        let file = store.data_dir().join(format!("report.{form}"));
        std::fs::write(&file, &sent[form]).expect("a file");
        let name = file.to_string_lossy().into_owned();
        let offline = || run(crewlog(&["verify", "--key", key, "--offline", &name]));
        let told = offline().expect(0).stdout;
        assert!(
            told.contains("the report is what the log has signed: 6 accesses"),
            "{told}"
        );
        let changed = sent[form].replacen("owner", "0wner", 1);
        assert_ne!(changed, sent[form]);
        std::fs::write(&file, changed).expect("a file");
        let told = offline().expect(1).stdout;
        assert!(told.contains("NOT WHAT THE LOG HAS SIGNED"), "{told}");
    }
}
