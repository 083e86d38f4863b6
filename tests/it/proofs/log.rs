//! Checkpoints, tiles, proofs, cosignatures and keys, as a client has them over HTTP.

use base64::{Engine, prelude::BASE64_STANDARD};
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::edge::team::{Person, number};
use crate::support::commands::{crewlog_on, run};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};
use crate::support::witness;

pub fn trials() -> Vec<Case> {
    vec![
        both("proofs", "every_entry_is_proven_to_others", proven),
        both("proofs", "tiles_come_to_the_root", tiles),
        both("proofs", "witnesses_sign_checkpoints", witnesses),
        both("proofs", "keys_are_rotated", rotated),
        both("proofs", "an_origin_is_kept", origin),
    ]
}

/// A checkpoint, read by hand.
#[derive(Debug, Clone)]
struct Checkpoint {
    text: String,
    origin: String,
    size: u64,
    root: [u8; 32],
}

impl Checkpoint {
    fn read(text: &str) -> Self {
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[3], "", "{text}");
        let root = BASE64_STANDARD.decode(lines[2]).expect("base64");
        Self {
            text: text.to_owned(),
            origin: lines[0].to_owned(),
            size: lines[1].parse().expect("a size"),
            root: root.try_into().expect("32 bytes"),
        }
    }

    /// Whether a verifier key has signed it.
    fn is_signed_by(&self, verifier: &str) -> bool {
        let parts: Vec<_> = verifier.splitn(3, '+').collect();
        let public = BASE64_STANDARD.decode(parts[2]).expect("base64");
        let digest = Sha256::digest([parts[0].as_bytes(), b"\n", &public].concat());
        let id: String = digest[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(id, parts[1], "the id of {verifier}");
        let key = public[1..].try_into().expect("32 bytes");
        let key = VerifyingKey::from_bytes(&key).expect("a key");
        let (body, signatures) = self.text.split_once("\n\n").expect("signatures");
        signatures.lines().any(|line| {
            let line = line.strip_prefix("— ").expect("a signature line");
            let (name, signature) = line.split_once(' ').expect("name and signature");
            let signature = BASE64_STANDARD.decode(signature).expect("base64");
            let is_theirs = name == parts[0] && signature[..4] == digest[..4];
            let signature = Signature::from_slice(&signature[4..]);
            is_theirs
                && signature.is_ok_and(|signature| {
                    key.verify_strict(format!("{body}\n").as_bytes(), &signature)
                        .is_ok()
                })
        })
    }

    fn as_root(&self) -> RootHash<Sha256> {
        RootHash::new(self.root.into(), self.size)
    }
}

async fn verifiers(server: &Server) -> Vec<String> {
    let keys = server.get("/v1/log/keys").await.expect(200).body;
    let keys = keys["data"].as_array().expect("a list").iter();
    keys.map(|key| key["verifier"].as_str().expect("a key").to_owned())
        .collect()
}

/// A checkpoint of at least a size.
async fn checkpoint_of(server: &Server, size: u64) -> Checkpoint {
    crate::edge::eventually("a checkpoint", async || {
        let text = server.get("/v1/log/checkpoint").await.expect(200).text;
        Some(Checkpoint::read(&text)).filter(|found| found.size >= size)
    })
    .await
}

/// Somebody with a workspace whose log has some entries.
async fn with_entries(server: &Server, renames: usize) -> (Person, String) {
    let more = json!({"organization": {"name": "Acme"}, "workspace": {"name": "Acme"}});
    let (owner, made) = Person::sign_up_with(server, "owner", more).await;
    let path = format!(
        "/v1/workspaces/{}",
        made.body["workspace"]["id"].as_str().expect("an id")
    );
    for _ in 0..renames {
        let name = json!({"name": format!("Acme {}", number())});
        let call = server.patch(&path).bearer(&owner.token).json(name);
        call.await.expect(200);
    }
    (owner, path)
}

fn hashes(value: &Value) -> Vec<u8> {
    let hashes = value["hashes"].as_array().expect("hashes").iter();
    hashes
        .flat_map(|hash| {
            BASE64_STANDARD
                .decode(hash.as_str().expect("text"))
                .expect("base64")
        })
        .collect()
}

async fn proven(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    let (owner, path) = with_entries(&server, 3).await;
    let early = checkpoint_of(&server, 5).await;
    for _ in 0..5 {
        let name = json!({"name": format!("Acme {}", number())});
        let call = server.patch(&path).bearer(&owner.token).json(name);
        call.await.expect(200);
    }
    let late = checkpoint_of(&server, early.size + 5).await;
    let [verifier] = &verifiers(&server).await[..] else {
        panic!("one key");
    };
    assert!(early.is_signed_by(verifier) && late.is_signed_by(verifier));
    assert!(verifier.starts_with(&format!("{}+", late.origin)));

    let list = format!("{path}/audit?limit=200");
    let page = server
        .get(&list)
        .bearer(&owner.token)
        .await
        .expect(200)
        .body;
    let entries = page["data"].as_array().expect("entries");
    assert!(entries.len() >= 8);
    for listed in entries {
        let position = listed["position"].as_u64().expect("a position");
        let one = server
            .get(&format!("{path}/audit/{position}"))
            .bearer(&owner.token);
        let one = one.await.expect(200).body;
        let canonical = one["canonical"]
            .as_str()
            .expect("bytes")
            .as_bytes()
            .to_vec();
        for checkpoint in [&early, &late] {
            let proof = format!(
                "/v1/log/proof/inclusion?position={position}&size={}",
                checkpoint.size
            );
            let reply = server.get(&proof).await;
            if position > checkpoint.size {
                assert_eq!(reply.status, 400, "{}", reply.text);
                continue;
            }
            assert_eq!(reply.body["leaf"], one["leaf"], "{}", reply.text);
            assert_eq!(reply.body["leaf_index"], json!(position - 1));
            let proof = InclusionProof::<Sha256>::from_bytes(hashes(&reply.body));
            let held = checkpoint
                .as_root()
                .verify_inclusion(&canonical, position - 1, &proof);
            assert!(held.is_ok(), "position {position} in {}", checkpoint.size);
        }
    }

    let between = format!(
        "/v1/log/proof/consistency?from={}&to={}",
        early.size, late.size
    );
    let reply = server.get(&between).await.expect(200).body;
    let proof = ConsistencyProof::<Sha256>::try_from_bytes(hashes(&reply)).expect("a proof");
    let held = late.as_root().verify_consistency(&early.as_root(), &proof);
    assert!(held.is_ok(), "{between}");

    for wrong in [
        "inclusion?position=0".to_owned(),
        format!("inclusion?position={}&size={}", late.size + 1, late.size),
        "inclusion?position=1&size=999999999".to_owned(),
        "consistency?from=0".to_owned(),
        "consistency?from=5&to=4".to_owned(),
        "inclusion".to_owned(),
        "inclusion?position=-1".to_owned(),
    ] {
        let reply = server
            .get(&format!("/v1/log/proof/{wrong}"))
            .await
            .expect(400);
        assert_eq!(
            reply.body["code"], "invalid_request",
            "{wrong}: {}",
            reply.text
        );
    }
    let ended = run(crewlog_on(&store, &["verify", "--json"]))
        .expect(0)
        .json();
    assert!(ended["checkpoints"].as_u64() >= Some(1), "{ended}");
}

/// RFC 6962's definition of a root, word for word.
fn root_of(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves {
        [leaf] => leaf.clone(),
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            Sha256::digest([&[1][..], &root_of(left), &root_of(right)].concat()).to_vec()
        }
    }
}

async fn tile(server: &Server, path: &str) -> Option<Vec<Vec<u8>>> {
    let url = format!("{}/v1/log/tile/{path}", server.base_url());
    let reply = reqwest::get(url).await.expect("an answer");
    if reply.status() == 404 {
        return None;
    }
    assert_eq!(reply.status(), 200, "{path}");
    let bytes = reply.bytes().await.expect("a body");
    Some(bytes.chunks(32).map(<[u8]>::to_vec).collect())
}

async fn tiles(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    // Two full tiles of leaves, and a part of a third.
    with_entries(&server, 530).await;
    let checkpoint = checkpoint_of(&server, 530).await;
    let rest = checkpoint.size - 512;
    let mut leaves = Vec::new();
    for path in ["0/000", "0/001", &format!("0/002.p/{rest}")] {
        leaves.extend(tile(&server, path).await.expect("a tile"));
    }
    assert_eq!(leaves.len() as u64, checkpoint.size);
    assert_eq!(root_of(&leaves), checkpoint.root, "the root of all tiles");
    let above = tile(&server, "1/000.p/2").await.expect("the tile above");
    assert_eq!(above, [root_of(&leaves[..256]), root_of(&leaves[256..512])]);
    // Parts that were whole once are there too, and nothing that no checkpoint covers.
    let part = tile(&server, "0/000.p/7").await.expect("a part");
    assert_eq!(part, leaves[..7]);
    for none in [
        "0/002",
        "0/003.p/1",
        "1/000",
        "2/000.p/1",
        "entries/000",
        "0/000.p/0",
        "0",
        "8/000",
        "../x",
    ] {
        assert_eq!(tile(&server, none).await, None, "{none}");
    }
    let ended = run(crewlog_on(&store, &["verify", "--json"]))
        .expect(0)
        .json();
    assert_eq!(ended["tiles"], 2, "{ended}");
}

async fn witnesses(store: StoreUnderTest) {
    let server = Server::start(&store).await;
    with_entries(&server, 1).await;
    let checkpoint = checkpoint_of(&server, 3).await;
    let none = server.get("/v1/log/checkpoint?cosigned=true").await;
    assert_eq!(none.status, 404, "{}", none.text);
    let line = witness::cosign(&checkpoint.text, 1_764_000_000);
    let send = |size: u64, line: &str| {
        let body = json!({"size": size, "signatures": [line]});
        server.post("/v1/log/cosignatures").json(body)
    };
    for _ in 0..2 {
        let reply = send(checkpoint.size, &line).await.expect(200);
        assert_eq!(
            reply.body["checkpoint"],
            format!("{}{line}\n", checkpoint.text)
        );
    }
    let kept = server
        .get("/v1/log/checkpoint?cosigned=true")
        .await
        .expect(200)
        .text;
    assert_eq!(kept, format!("{}{line}\n", checkpoint.text));
    let [verifier] = &verifiers(&server).await[..] else {
        panic!("one key");
    };
    assert!(Checkpoint::read(&kept).is_signed_by(verifier));

    let other = witness::cosign(&checkpoint.text.replace(&checkpoint.origin, "other"), 1);
    let stranger = line.replace("witness.example.com/tests", "stranger.example.com");
    for (size, line, pointer) in [
        (checkpoint.size, &*other, "/signatures"),
        (checkpoint.size, &*stranger, "/signatures"),
        (checkpoint.size, "rubbish", "/signatures"),
        (checkpoint.size + 1_000, &*line, "/size"),
    ] {
        let reply = send(size, line).await.expect(422);
        assert_eq!(
            reply.body["errors"][0]["pointer"], pointer,
            "{}",
            reply.text
        );
    }
    let again = server
        .get("/v1/log/checkpoint?cosigned=true")
        .await
        .expect(200)
        .text;
    assert_eq!(again, kept);
}

async fn rotated(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    with_entries(&server, 1).await;
    let first = checkpoint_of(&server, 3).await;
    let [old] = &verifiers(&server).await[..] else {
        panic!("one key");
    };
    assert!(server.terminate().await.success(), "{}", server.logs());
    let shown = run(crewlog_on(&store, &["keys"])).expect(0).stdout;
    assert!(
        shown.starts_with(&format!("{old}  made ")) && shown.ends_with("signs\n"),
        "{shown}"
    );
    let rotated = run(crewlog_on(&store, &["keys", "rotate", "--json"]))
        .expect(0)
        .json();
    let keys = rotated["keys"].as_array().expect("keys");
    assert_eq!(keys.len(), 2, "{rotated}");
    let new = keys[0]["verifier"].as_str().expect("a key");
    assert_eq!(keys[1]["verifier"], old.as_str());
    assert!(keys[0]["signs_until"].is_null() && keys[1]["signs_until"].is_string());

    let mut server = Server::start(&store).await;
    with_entries(&server, 1).await;
    let both = checkpoint_of(&server, first.size + 1).await;
    assert_eq!(verifiers(&server).await, [new, old]);
    assert!(both.is_signed_by(old) && both.is_signed_by(new));
    assert!(server.terminate().await.success(), "{}", server.logs());

    // With no overlap the old ones do not sign any more; what they signed still verifies.
    let rotate = ["keys", "rotate", "--overlap-days", "0"];
    run(crewlog_on(&store, &rotate)).expect(0);
    let server = Server::start(&store).await;
    with_entries(&server, 1).await;
    let newest = checkpoint_of(&server, both.size + 1).await;
    let all = verifiers(&server).await;
    assert_eq!(all.len(), 3);
    assert!(newest.is_signed_by(&all[0]) && !newest.is_signed_by(new));
    run(crewlog_on(&store, &["verify"])).expect(0);
}

async fn origin(store: StoreUnderTest) {
    let mut command = Server::command(&store);
    command.args(["--log-origin", "log.example.com/acme"]);
    let mut server = Server::launch(command).await;
    with_entries(&server, 1).await;
    assert_eq!(
        checkpoint_of(&server, 3).await.origin,
        "log.example.com/acme"
    );
    assert!(server.terminate().await.success(), "{}", server.logs());
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--log-origin",
        "elsewhere.example.com",
    ];
    let ended = run(crewlog_on(&store, &serve)).expect(2);
    assert!(ended.stderr.contains("log.example.com/acme"), "{ended:#?}");
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--log-origin",
        "with a space",
    ];
    run(crewlog_on(&store, &serve)).expect(2);
}
