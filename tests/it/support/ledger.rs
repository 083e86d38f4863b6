//! What must be true of any log, checked without the code that wrote it: entries are made of their
//! columns again, and the tree is another library's.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, prelude::BASE64_STANDARD};
use crewlog::journal::StoredEvent;
use crewlog::journal::stores::{self, Store};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The whole log, in order.
pub async fn read(store: &dyn Store) -> Vec<StoredEvent> {
    let mut events: Vec<StoredEvent> = Vec::new();
    loop {
        let position = events.last().map_or(0, |event| event.position);
        let page = stores::events_after(store, position, 700)
            .await
            .expect("the log to be read");
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// The entry of an event, from its columns.
pub fn entry(event: &StoredEvent) -> String {
    let parsed = |text: &str| -> Value { serde_json::from_str(text).expect("JSON in a column") };
    let value = json!({
        "position": event.position,
        "id": event.id.to_string(),
        "recorded_at": event.recorded_at.0,
        "batch": event.batch.to_string(),
        "aggregate_type": event.aggregate_type,
        "aggregate_id": event.aggregate_id,
        "sequence": event.sequence,
        "scope": event.scope,
        "scope_sequence": event.scope_sequence,
        "previous": event.previous.map(|leaf| BASE64_STANDARD.encode(leaf)),
        "type": event.event_type,
        "version": event.event_version,
        "payload": parsed(&event.payload),
        "metadata": parsed(&event.metadata),
        "salt": BASE64_STANDARD.encode(event.salt),
    });
    serde_json_canonicalizer::to_string(&value).expect("canonical JSON")
}

/// Checks everything that a log promises, and answers with it.
pub async fn verify(store: &dyn Store) -> Vec<StoredEvent> {
    let events = read(store).await;
    let mut tree: MemoryBackedTree<Sha256, Vec<u8>> = MemoryBackedTree::new();
    let mut streams: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut scopes: BTreeMap<String, (u64, [u8; 32])> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut batches = BTreeSet::new();
    let (mut batch, mut recorded_at) = (None, i64::MIN);
    for (event, position) in events.iter().zip(1..) {
        assert_eq!(event.position, position, "positions have no gap");
        assert!(ids.insert(event.id), "{} is there once", event.id);
        if batch == Some(event.batch) {
            assert_eq!(event.recorded_at.0, recorded_at, "one time a batch");
        } else {
            assert!(
                event.recorded_at.0 > recorded_at,
                "time goes on at {position}"
            );
            assert!(batches.insert(event.batch), "a batch is in one piece");
        }
        (batch, recorded_at) = (Some(event.batch), event.recorded_at.0);

        let stream = (event.aggregate_type.clone(), event.aggregate_id.clone());
        let sequence = streams.entry(stream).or_default();
        *sequence += 1;
        assert_eq!(event.sequence, *sequence, "sequence at {position}");
        let before = scopes.get(&event.scope);
        assert_eq!(
            event.scope_sequence,
            before.map_or(1, |(sequence, _)| sequence + 1),
            "scope sequence at {position}"
        );
        assert_eq!(
            event.previous,
            before.map(|(_, leaf)| *leaf),
            "previous leaf at {position}"
        );
        let entry = entry(event);
        assert_eq!(event.canonical(), entry, "the entry at {position}");
        let leaf: [u8; 32] = Sha256::new()
            .chain_update([0])
            .chain_update(&entry)
            .finalize()
            .into();
        assert_eq!(event.leaf, leaf, "the leaf at {position}");
        scopes.insert(event.scope.clone(), (event.scope_sequence, leaf));
        tree.push(entry.into_bytes());
    }
    let head = stores::head(store).await.expect("the head to be read");
    assert_eq!(head.position, events.len() as u64, "the head's position");
    assert_eq!(
        head.frontier.root().as_slice(),
        tree.root().as_bytes().as_slice(),
        "the root of the tree"
    );
    if !events.is_empty() {
        // A batch of statements alone moves the time, and nothing else.
        assert!(head.recorded_at.0 >= recorded_at, "the head's time");
    }
    events
}
