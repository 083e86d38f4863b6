//! What would mean something else, or nothing, in another environment: ids of ours in a content.
//!
//! What an agent needs of its crew is named by a slot instead, `{"$slot": "integration/crm"}`.

use serde_json::Value;

use crate::domain::{
    contents::{Finding, below},
    crew::ItemKind,
};

/// The prefixes of what lies in one crew or one workspace.
const PREFIXES: [&str; 12] = [
    "agt", "pth", "crw", "kb", "int", "num", "chn", "whk", "key", "ws", "pro", "inv",
];
/// How many characters an id has behind its prefix.
const ID_CHARACTERS: usize = 26;
/// At most this many are told of one content.
const FOUND_MAX: usize = 20;

/// Whether a text has an id of ours that means something in one environment alone. It may be the
/// text of a whole content: nothing in an id is ever escaped.
pub fn has_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    text.match_indices('_').any(|(at, _)| is_id(bytes, at))
}

/// Whether the `_` at a place is in an id.
fn is_id(bytes: &[u8], at: usize) -> bool {
    let behind = &bytes[at + 1..];
    let is_digit = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let length = behind.iter().take_while(|byte| is_digit(byte)).count();
    // TypeIDs are 128 bits: the first of their digits is at most 7.
    if length != ID_CHARACTERS || !matches!(behind[0], b'0'..=b'7') {
        return false;
    }
    PREFIXES.iter().any(|prefix| {
        let before = &bytes[..at];
        let begins = before.strip_suffix(prefix.as_bytes());
        begins.is_some_and(|before| {
            !before
                .last()
                .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        })
    })
}

/// Every place of a content with such an id, below the item that it is of.
pub fn find(kind: ItemKind, name: &str, content: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    let root = below(&format!("/{}s", kind.name()), name);
    search(content, &root, &mut found);
    found
}

fn search(value: &Value, pointer: &str, found: &mut Vec<Finding>) {
    if found.len() >= FOUND_MAX {
        return;
    }
    let mut report = |text: &str, pointer: &str| {
        if has_id(text) {
            found.push(Finding {
                pointer: pointer.to_owned(),
                detail: "an id means something in one environment alone; name it by a slot, \
                         {\"$slot\": \"integration/crm\"}"
                    .to_owned(),
            });
        }
    };
    match value {
        Value::String(text) => report(text, pointer),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                search(item, &format!("{pointer}/{index}"), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                if has_id(name) {
                    let finding = below(pointer, name);
                    found.push(Finding {
                        pointer: finding,
                        detail: "an id as the name of a member means something in one \
                                 environment alone"
                            .to_owned(),
                    });
                }
                search(member, &below(pointer, name), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::{AgentId, CrewId, PhoneNumberId};

    #[test]
    fn ids_are_found_wherever_they_are() {
        let uuid = Uuid::from_u128(0x0190_5f2c_1c7a_7b3e_8d4f_5a6b_7c8d_9e0f);
        for id in [
            AgentId::from_uuid(uuid).to_string(),
            CrewId::from_uuid(uuid).to_string(),
            PhoneNumberId::from_uuid(uuid).to_string(),
        ] {
            assert!(has_id(&id), "{id}");
            assert!(has_id(&format!("https://example.com/{id}/x")), "{id}");
            assert!(!has_id(&format!("x{id}")), "{id}");
            assert!(!has_id(&format!("{id}x")), "{id}");
        }
        for other in [
            "",
            "_",
            "agt_",
            "my_num_0",
            "int_value",
            "num_8zzzzzzzzzzzzzzzzzzzzzzzzz",
        ] {
            assert!(!has_id(other), "{other}");
        }
        let id = AgentId::from_uuid(uuid).to_string();
        let content = json!({"a/b": [{"call": id.clone()}], id: 1, "fine": "text"});
        let found = find(ItemKind::Agent, "G", &content);
        let places: Vec<_> = found.iter().map(|it| it.pointer.as_str()).collect();
        assert_eq!(places.len(), 2, "{places:?}");
        assert!(places.contains(&"/agents/G/a~1b/0/call"), "{places:?}");
        assert!(
            places
                .iter()
                .any(|place| place.starts_with("/agents/G/agt_"))
        );
    }
}
