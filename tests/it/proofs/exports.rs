//! Exports: what they hold, and that they are verified by their bytes and a key alone.

use std::io::BufReader;

use crewlog::proofs::note::VerifierKey;
use crewlog::service::offline::{self, Kept, OfflineReport};
use serde_json::{Value, json};

use super::log::{checkpoint_of, verifiers, with_entries};
use crate::edge::team::{Team, address, invite};
use crate::support::commands::{crewlog, run};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("proofs", "an_export_is_verified_offline", verified),
        both("proofs", "long_exports_are_proven_in_parts", long),
        both(
            "proofs",
            "an_export_is_held_to_a_checkpoint_of_another_time",
            of_another_time,
        ),
    ]
}

pub async fn exported(server: &Server, path: &str, token: &str) -> String {
    server.get(path).bearer(token).await.expect(200).text
}

pub fn verify(export: &[u8], checkpoint: Option<&str>, key: &str) -> OfflineReport {
    let kept = checkpoint.map(|checkpoint| Kept {
        checkpoint,
        consistency: None,
    });
    verify_by(export, kept, key)
}

fn verify_by(export: &[u8], kept: Option<Kept<'_>>, key: &str) -> OfflineReport {
    let key = VerifierKey::of_log(key).expect("a key");
    offline::verify(|| Ok(BufReader::new(export)), kept, &[key]).expect("bytes are read")
}

fn lines(export: &str) -> Vec<Value> {
    let line = |line| serde_json::from_str(line).expect("a line of JSON");
    export.lines().map(line).collect()
}

async fn verified(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    let team = Team::make(&server).await;
    invite(
        &server,
        &team.workspace,
        &team.owner,
        &address("guest"),
        "member",
    )
    .await;
    let [key] = &verifiers(&server).await[..] else {
        panic!("one key");
    };
    let of_workspace = team.path("/audit/export");
    let of_organization = format!("/v1/organizations/{}/audit/export", team.organization);
    for (path, reader, complete) in [
        (of_workspace.clone(), &team.auditor, true),
        (
            format!("{of_workspace}?after=5&before=100000"),
            &team.owner,
            true,
        ),
        (
            format!("{of_workspace}?action=member.invited"),
            &team.admin,
            false,
        ),
        (of_organization, &team.organization_owner, false),
    ] {
        let export = exported(&server, &path, &reader.token).await;
        let report = verify(export.as_bytes(), None, key);
        assert!(report.holds(), "{path}: {report:#?}");
        let about = report.about.expect("a statement");
        assert_eq!(about["complete"], complete, "{path}");
        assert_eq!(about["entries"], report.entries, "{path}");
        let lines = lines(&export);
        assert_eq!(lines[0]["export"]["scope"], about["scope"]);
        // What is listed is what is exported.
        let listed = path.replace("/export", "");
        let more = if listed.contains('?') { '&' } else { '?' };
        let through = about["tree_size"].as_u64().expect("a size") + 1;
        let listed = match listed.contains("before") {
            true => format!("{listed}{more}order=asc&limit=200"),
            false => format!("{listed}{more}order=asc&limit=200&before={through}"),
        };
        let listed = server
            .get(&listed)
            .bearer(&reader.token)
            .await
            .expect(200)
            .body;
        let shown: Vec<_> = lines.iter().filter_map(|line| line.get("entry")).collect();
        assert!(!shown.is_empty(), "{path}");
        let listed: Vec<_> = listed["data"].as_array().expect("a list").iter().collect();
        let listed: Vec<_> = listed.into_iter().take(shown.len()).collect();
        assert_eq!(listed, shown, "{path}");
    }
    // The export is an entry: by whom, and of what.
    let log = team.path("/audit?action=audit.exported&order=asc");
    let told = server
        .get(&log)
        .bearer(&team.owner.token)
        .await
        .expect(200)
        .body;
    let told = told["data"].as_array().expect("a list");
    assert_eq!(told.len(), 3);
    assert_eq!(told[0]["actor"]["id"], team.auditor.user.as_str());
    assert_eq!(told[0]["target"]["id"], team.workspace.as_str());
    let filters = json!({"path": "filters", "from": null, "to": ["after", "before"]});
    assert!(
        told[1]["changes"]
            .as_array()
            .expect("changes")
            .contains(&filters),
        "{}",
        told[1]
    );

    by_command(&store, &server, &team, key).await;
}

/// The same by the program, with a checkpoint that was kept, and of CSV.
async fn by_command(store: &StoreUnderTest, server: &Server, team: &Team, key: &str) {
    let export = exported(server, &team.path("/audit/export"), &team.owner.token).await;
    let size = lines(&export)[0]["export"]["tree_size"]
        .as_u64()
        .expect("a size");
    let kept = server
        .get(&format!("/v1/log/checkpoint?size={size}"))
        .await
        .expect(200)
        .text;
    let folder = store.data_dir();
    let [jsonl, csv, checkpoint, other] =
        ["a.jsonl", "a.csv", "checkpoint.txt", "other.txt"].map(|name| folder.join(name));
    std::fs::write(&jsonl, &export).expect("a file");
    std::fs::write(&checkpoint, &kept).expect("a file");
    let path = team.path("/audit/export?format=csv");
    let text = exported(server, &path, &team.owner.token).await;
    assert!(
        text.starts_with("position,id,recorded_at,action,"),
        "{text}"
    );
    std::fs::write(&csv, &text).expect("a file");
    let file = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let (jsonl, csv, checkpoint) = (file(&jsonl), file(&csv), file(&checkpoint));
    let offline = |more: &[&str]| {
        run(crewlog(
            &[&["verify", "--key", key, "--offline"], more].concat(),
        ))
    };
    let told = offline(&[&jsonl, "--checkpoint", &checkpoint])
        .expect(0)
        .stdout;
    assert!(told.contains("the export is what the log says"), "{told}");
    assert!(told.contains("none left out"), "{told}");
    offline(&[&csv]).expect(0);

    // A checkpoint of another size, another key, no key, no file.
    let later = checkpoint_of(server, size + 1).await.text;
    std::fs::write(&other, later).expect("a file");
    let told = offline(&[&jsonl, "--checkpoint", &file(&other)])
        .expect(1)
        .stdout;
    assert!(told.contains("consistency"), "{told}");
    let stranger = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let told = run(crewlog(&["verify", "--offline", &jsonl, "--key", stranger]))
        .expect(1)
        .stdout;
    assert!(told.contains("none of the given keys"), "{told}");
    run(crewlog(&["verify", "--offline", &jsonl])).expect(2);
    run(crewlog(&["verify", "--offline", "/nowhere", "--key", key])).refused_with(&["/nowhere"]);

    // In CSV a change is found too, and in which row.
    let changed = text.replacen("member.joined", "member.jailed", 1);
    assert_ne!(changed, text);
    std::fs::write(&csv, &changed).expect("a file");
    let told = offline(&[&csv, "--json"]).expect(1).json();
    let row = changed
        .lines()
        .find(|row| row.contains("member.jailed"))
        .expect("the row");
    let position: u64 = row
        .split(',')
        .next()
        .expect("a cell")
        .parse()
        .expect("a position");
    assert_eq!(told["failures"][0]["position"], position, "{told}");
}

async fn long(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    // Another tenant's entries lie between.
    with_entries(&server, 40).await;
    let (owner, path) = with_entries(&server, 300).await;
    with_entries(&server, 3).await;
    let [key] = &verifiers(&server).await[..] else {
        panic!("one key");
    };
    let export = exported(&server, &format!("{path}/audit/export"), &owner.token).await;
    let report = verify(export.as_bytes(), None, key);
    assert!(report.holds(), "{report:#?}");
    assert!(report.entries > 300, "{}", report.entries);
    let proofs = lines(&export)
        .into_iter()
        .filter(|line| line.get("proof").is_some());
    assert_eq!(proofs.count(), 2);
    // Nobody's but its own.
    let workspace = path.rsplit('/').next().expect("an id");
    let foreign = lines(&export);
    let mut entries = foreign.iter().filter_map(|line| line.get("entry"));
    assert!(entries.all(|entry| entry["workspace"] == workspace));
}

async fn of_another_time(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    let (owner, path) = with_entries(&server, 20).await;
    let [key] = &verifiers(&server).await[..] else {
        panic!("one key");
    };
    let earlier = checkpoint_of(&server, 10).await;
    with_entries(&server, 5).await;
    let export = exported(&server, &format!("{path}/audit/export"), &owner.token).await;
    let size = lines(&export)[0]["export"]["tree_size"].as_u64();
    let size = size.expect("a size");
    with_entries(&server, 7).await;
    let later = checkpoint_of(&server, size + 7).await;
    let proof = async |from: u64, to: u64| {
        let path = format!("/v1/log/proof/consistency?from={from}&to={to}");
        server.get(&path).await.expect(200).text
    };
    assert!(earlier.size < size && size < later.size);
    let of_earlier = proof(earlier.size, size).await;
    let of_later = proof(size, later.size).await;
    let verified = |checkpoint: &str, consistency: Option<&str>| {
        let kept = Kept {
            checkpoint,
            consistency,
        };
        verify_by(export.as_bytes(), Some(kept), key)
    };
    for (kept, proof) in [(&earlier, &of_earlier), (&later, &of_later)] {
        let report = verified(&kept.text, Some(proof));
        assert!(report.holds(), "{report:#?}");
        assert!(report.entries >= 20);
        // What is missing is told, with the sizes.
        let report = verified(&kept.text, None);
        let told = &report.failures[0].detail;
        let (from, to) = (kept.size.min(size), kept.size.max(size));
        assert!(told.contains(&format!("from={from}&to={to}")), "{told}");
        // A proof that was changed proves nothing.
        let mut changed: Value = serde_json::from_str(proof).expect("JSON");
        let hashes = changed["hashes"].as_array_mut().expect("hashes");
        let last = hashes.pop().expect("a hash");
        let report = verified(&kept.text, Some(&changed.to_string()));
        assert!(!report.holds(), "without {last}");
    }
    // Neither is one of other sizes any use, nor what is no proof.
    for (proof, words) in [(&of_later[..], "is from"), ("{}", "cannot be read")] {
        let report = verified(&earlier.text, Some(proof));
        let told = &report.failures[0].detail;
        assert!(told.contains(words), "{told}");
    }

    // By the program.
    let folder = store.data_dir();
    let [file, kept, beside] = ["e.jsonl", "kept.txt", "proof.json"].map(|name| folder.join(name));
    for (path, text) in [(&file, &export), (&kept, &later.text), (&beside, &of_later)] {
        std::fs::write(path, text).expect("a file");
    }
    let [file, kept, beside] = [file, kept, beside].map(|path| path.to_string_lossy().into_owned());
    let offline = [
        "verify",
        "--key",
        key,
        "--offline",
        &file,
        "--checkpoint",
        &kept,
    ];
    run(crewlog(
        &[&offline[..], &["--consistency", &beside]].concat(),
    ))
    .expect(0);
    let told = run(crewlog(&offline)).expect(1).stdout;
    assert!(told.contains("--consistency"), "{told}");
}
