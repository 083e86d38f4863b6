//! Bundles: the agents and pathways of a crew at one version, in a form that means the same in
//! every environment and every workspace.
//!
//! A bundle is canonical JSON (RFC 8785): `{"agents":{NAME:CONFIG…},"format":…,"pathways":{…}}`.
//! Its digest is SHA-256 of these bytes, so that anybody can compute it from a file. It names
//! things by kind and name, never by id; what an agent needs of its crew is a slot.
//!
//! What two bundles differ in is [`diff`]; what makes one crew's contents another's is
//! [`changes`]; what may not be in one is [`portable`]. Reading and storing is not done here.

pub mod changes;
pub mod diff;
pub mod portable;

use std::{cmp::Ordering, collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{Name, contents::Content, crew::ItemKind};

/// What the `format` of a bundle is.
pub const FORMAT: &str = "crewlog/bundle/1";
/// The largest bundle that is taken from a file, in bytes of its canonical form.
pub const BUNDLE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// An agent or a pathway by its name, which is the same in every crew: `agent/Greeter`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ItemKey {
    pub kind: ItemKind,
    pub name: String,
}

/// A text that names no agent and no pathway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`agent/` or `pathway/`, and its name")]
pub struct InvalidItemKey;

impl ItemKey {
    /// The key of an item.
    pub fn new(kind: ItemKind, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { kind, name }
    }
}

/// Agents first, and names as RFC 8785 orders members: by their UTF-16.
impl Ord for ItemKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let names = || self.name.encode_utf16().cmp(other.name.encode_utf16());
        self.kind.cmp(&other.kind).then_with(names)
    }
}

impl PartialOrd for ItemKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ItemKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.name(), self.name)
    }
}

impl FromStr for ItemKey {
    type Err = InvalidItemKey;

    fn from_str(text: &str) -> Result<Self, InvalidItemKey> {
        let (kind, name) = text.split_once('/').ok_or(InvalidItemKey)?;
        let kind = ItemKind::ALL.into_iter().find(|known| known.name() == kind);
        let kind = kind.ok_or(InvalidItemKey)?;
        let name = Name::parse(name).map_err(|_| InvalidItemKey)?;
        Ok(Self::new(kind, name))
    }
}

impl Serialize for ItemKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ItemKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// What a bundle holds, each by the digest of what it says, in the order of the bundle.
pub type Manifest = BTreeMap<ItemKey, Content>;

/// A part of a bundle's canonical bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Text(String),
    /// What this content says, which is canonical.
    Content(Content),
}

/// The canonical bytes of a bundle, piece by piece: nobody has to hold all of it.
pub fn pieces(manifest: &Manifest) -> impl Iterator<Item = Piece> {
    let of_kind = |kind: ItemKind, before: String| {
        let items = manifest.iter().filter(move |(key, _)| key.kind == kind);
        let items = items.enumerate().flat_map(move |(at, (key, content))| {
            let name = serde_json::to_string(&key.name).expect("a text is JSON");
            let comma = if at == 0 { "" } else { "," };
            let text = Piece::Text(format!("{comma}{name}:"));
            [text, Piece::Content(*content)]
        });
        std::iter::once(Piece::Text(before)).chain(items)
    };
    // `FORMAT` has nothing that JSON would escape.
    let between = format!("}},\"format\":\"{FORMAT}\",\"pathways\":{{");
    of_kind(ItemKind::Agent, "{\"agents\":{".to_owned())
        .chain(of_kind(ItemKind::Pathway, between))
        .chain(std::iter::once(Piece::Text("}}".to_owned())))
}

/// How many bytes a bundle has.
pub fn size(manifest: &Manifest) -> u64 {
    let of = |piece| match piece {
        Piece::Text(text) => text.len() as u64,
        Piece::Content(content) => content.size,
    };
    pieces(manifest).map(of).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::contents::Digest;

    fn text_of(manifest: &Manifest, said: &BTreeMap<Digest, String>) -> String {
        let of = |piece| match piece {
            Piece::Text(text) => text,
            Piece::Content(content) => said[&content.digest].clone(),
        };
        pieces(manifest).map(of).collect()
    }

    #[test]
    fn a_bundle_is_canonical_whatever_its_names_are() {
        let names = [
            "\u{fb33}",
            "\u{1f600}",
            "b",
            "a\"quoted\"",
            "é",
            "A \\ B",
            "format",
        ];
        let mut said = BTreeMap::new();
        let mut manifest = Manifest::new();
        let mut whole = json!({"format": FORMAT, "agents": {}, "pathways": {}});
        for (number, name) in names.iter().enumerate() {
            for (kind, member) in [(ItemKind::Agent, "agents"), (ItemKind::Pathway, "pathways")] {
                let config = json!({"n": number, "kind": member});
                let text = serde_json_canonicalizer::to_string(&config).unwrap();
                let content = Content {
                    digest: Digest([number as u8 * 2 + u8::from(member == "agents"); 32]),
                    size: text.len() as u64,
                };
                said.insert(content.digest, text);
                manifest.insert(ItemKey::new(kind, *name), content);
                whole[member][*name] = config;
            }
        }
        let text = text_of(&manifest, &said);
        assert_eq!(text, serde_json_canonicalizer::to_string(&whole).unwrap());
        assert_eq!(size(&manifest), text.len() as u64);
        let empty = text_of(&Manifest::new(), &said);
        let nothing = json!({"format": FORMAT, "agents": {}, "pathways": {}});
        assert_eq!(empty, nothing.to_string());
    }

    #[test]
    fn a_key_reads_back() {
        for key in ["agent/Greeter", "pathway/a / b", "agent/é"] {
            assert_eq!(key.parse::<ItemKey>().unwrap().to_string(), key);
        }
        for wrong in ["", "agent", "agent/", "crew/x", "agent/\n", "Agent/x"] {
            assert_eq!(wrong.parse::<ItemKey>(), Err(InvalidItemKey), "{wrong}");
        }
    }
}
